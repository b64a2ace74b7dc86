//! Clients of a UDP service: which datagram belongs to which session, and what waits to be carried.
//!
//! Decides only, and has no clock: the relay's driver receives, carries, and says when a session is over. Whoever sends
//! datagrams, under however many names, makes nothing grow beyond the limits here and those of the service's sessions.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame::DATAGRAM_BYTES_MAX;

/// Bytes of one client that may wait: two of the longest datagrams, or eighty of the usual ones.
const CLIENT_BYTES_MAX: usize = 2 * (DATAGRAM_BYTES_MAX + DATAGRAM_OVERHEAD);
/// Bytes of all clients of a service that may wait: half a second's of a hundred Mbit/s.
const SERVICE_BYTES_MAX: usize = 8 << 20;
/// What a datagram costs besides its bytes.
const DATAGRAM_OVERHEAD: usize = 64;

/// What becomes of a datagram.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    /// It is the first of a new session, with this number. The session is told of what comes by this.
    New(u64, Arc<Notify>),
    /// It waits for its session to take it.
    Kept,
    /// There is no room for it.
    Dropped,
}

/// What a session is told when it asks for its next datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This one.
    Datagram(Bytes),
    /// There is none yet.
    Wait,
    /// The session is over.
    Over,
}

/// The clients of one service.
#[derive(Debug, Default)]
pub(super) struct Callers {
    sessions: BTreeMap<SocketAddr, Session>,
    /// What waits, overhead included.
    bytes: usize,
    last_session: u64,
}

#[derive(Debug)]
struct Session {
    number: u64,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    news: Arc<Notify>,
}

impl Callers {
    /// A datagram has come.
    pub(super) fn arrive(&mut self, from: SocketAddr, datagram: &[u8]) -> Arrival {
        let cost = datagram.len() + DATAGRAM_OVERHEAD;
        if datagram.len() > DATAGRAM_BYTES_MAX || self.bytes + cost > SERVICE_BYTES_MAX {
            return Arrival::Dropped;
        }
        let is_new = !self.sessions.contains_key(&from);
        if is_new {
            self.last_session += 1;
            let (number, news) = (self.last_session, Arc::default());
            self.sessions.insert(from, Session { number, waiting: VecDeque::new(), bytes: 0, news });
        }
        let session = self.sessions.get_mut(&from).expect("it was there or is now");
        if session.bytes + cost > CLIENT_BYTES_MAX {
            return Arrival::Dropped;
        }
        session.waiting.push_back(Bytes::copy_from_slice(datagram));
        session.bytes += cost;
        self.bytes += cost;
        session.news.notify_one();
        if is_new { Arrival::New(session.number, session.news.clone()) } else { Arrival::Kept }
    }

    /// What comes next in a session.
    pub(super) fn next(&mut self, from: SocketAddr, number: u64) -> Next {
        let Some(session) = self.sessions.get_mut(&from).filter(|session| session.number == number) else {
            return Next::Over;
        };
        let Some(datagram) = session.waiting.pop_front() else { return Next::Wait };
        let cost = datagram.len() + DATAGRAM_OVERHEAD;
        session.bytes -= cost;
        self.bytes -= cost;
        Next::Datagram(datagram)
    }

    /// A session is over: what its client sends from now on is a new one's. Returns how many datagrams are lost.
    pub(super) fn end(&mut self, from: SocketAddr, number: u64) -> usize {
        if self.sessions.get(&from).is_none_or(|session| session.number != number) {
            return 0;
        }
        let session = self.sessions.remove(&from).expect("it was looked at");
        self.bytes -= session.bytes;
        session.news.notify_one();
        session.waiting.len()
    }

    /// All sessions are over: nobody listens any more.
    pub(super) fn close(&mut self) {
        for (_, session) in std::mem::take(&mut self.sessions) {
            session.news.notify_one();
        }
        self.bytes = 0;
    }

    /// Sessions that there are.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn new(arrival: Arrival) -> u64 {
        let Arrival::New(number, _) = arrival else { panic!("{arrival:?} is no new session") };
        number
    }

    #[test]
    fn an_address_is_a_session_until_it_ends() {
        let mut callers = Callers::default();
        let one = new(callers.arrive(client(1), b"a"));
        let two = new(callers.arrive(client(2), b"b"));
        assert!(matches!(callers.arrive(client(1), b""), Arrival::Kept));
        assert_eq!(callers.next(client(1), one), Next::Datagram(Bytes::from_static(b"a")));
        assert_eq!(callers.next(client(1), one), Next::Datagram(Bytes::new()));
        assert_eq!(callers.next(client(1), one), Next::Wait);
        assert_eq!(callers.end(client(2), two), 1, "one was not taken");
        let again = new(callers.arrive(client(2), b"c"));
        assert_eq!(callers.next(client(2), two), Next::Over, "a session that has ended is not the next one");
        assert_eq!(callers.end(client(2), two), 0);
        assert_eq!(callers.next(client(2), again), Next::Datagram(Bytes::from_static(b"c")));
        callers.close();
        assert_eq!((callers.next(client(1), one), callers.len(), callers.bytes), (Next::Over, 0, 0));
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_not_kept() {
        let mut callers = Callers::default();
        new(callers.arrive(client(1), &[1; DATAGRAM_BYTES_MAX]));
        assert!(matches!(callers.arrive(client(1), &[1; DATAGRAM_BYTES_MAX]), Arrival::Kept));
        assert!(matches!(callers.arrive(client(1), b""), Arrival::Dropped));
        assert!(matches!(callers.arrive(client(2), &[1; DATAGRAM_BYTES_MAX + 1]), Arrival::Dropped));
        assert_eq!(callers.len(), 1, "what can't be carried begins no session");
        // Empty ones are not free.
        new(callers.arrive(client(2), b""));
        let kept = (0..10_000).filter(|_| matches!(callers.arrive(client(2), b""), Arrival::Kept)).count();
        assert_eq!(kept, CLIENT_BYTES_MAX / DATAGRAM_OVERHEAD - 1);
        // Nor are many clients with a little each.
        for port in 3..1000 {
            callers.arrive(client(port), &[0; 30_000]);
        }
        assert!(callers.bytes <= SERVICE_BYTES_MAX && callers.bytes + 30_000 + 64 > SERVICE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn bytes_that_wait_are_those_that_came_and_were_not_taken(
            steps in proptest::collection::vec((0..4_u8, 0..6_u16, 0..70_000_usize), 0..200),
        ) {
            let mut callers = Callers::default();
            let mut numbers = BTreeMap::new();
            for (what, port, len) in steps {
                let at = client(port);
                match what {
                    0 | 1 => if let Arrival::New(number, _) = callers.arrive(at, &vec![0; len]) {
                        prop_assert!(numbers.insert(at, number).is_none(), "it had ended");
                    },
                    2 => if let Some(number) = numbers.get(&at) {
                        prop_assert_ne!(callers.next(at, *number), Next::Over);
                    },
                    _ => if let Some(number) = numbers.remove(&at) {
                        callers.end(at, number);
                        prop_assert_eq!(callers.next(at, number), Next::Over);
                    },
                }
                let waiting = callers.sessions.values().flat_map(|session| &session.waiting);
                let bytes: usize = waiting.map(|datagram| datagram.len() + DATAGRAM_OVERHEAD).sum();
                prop_assert_eq!(callers.bytes, bytes);
                prop_assert!(callers.sessions.values().all(|session| session.bytes <= CLIENT_BYTES_MAX));
                prop_assert_eq!(callers.len(), numbers.len());
            }
        }
    }
}
