//! Carries one session of a UDP service over a data connection, until somebody ends it.
//!
//! What [`super::pump`] is to streams. A datagram is dropped rather than kept: while the connection is busy writing, none is taken
//! from where they come from, and that place has a limit. A session has no half-close. The relay ends it when it
//! was silent for too long; a host only does so when its side is of no use.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{Control, FrameError, Framed, Piece};
use super::pump::Moved;
use super::throttle::{Direction, Pace};
use crate::Timestamp;
use crate::net::{Alarm, Net};

/// How long a session that nothing was answered to may be silent: as Linux's connection tracking has it.
const UNANSWERED_TIME: Duration = Duration::from_secs(30);
/// How long the other side may take to say that it has ended the session too.
const END_TIME: Duration = Duration::from_secs(10);

/// The side of a session that is no data connection.
pub(super) trait Datagrams: Send {
    /// What comes from there.
    type Datagram: AsRef<[u8]> + Send;

    /// The next datagram; `None` when the session is over. It can be called off, and no datagram is lost.
    fn next(&mut self) -> impl Future<Output = Option<Self::Datagram>> + Send;

    /// Sends one there, or drops it.
    fn send(&self, datagram: &[u8]) -> impl Future<Output = ()> + Send;
}

/// How long a session may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    longest: Duration,
    last: Timestamp,
    is_answered: bool,
}

impl Idle {
    /// A session that begins now.
    pub(super) const fn new(now: Timestamp, longest: Duration) -> Self {
        Self { longest, last: now, is_answered: false }
    }

    const fn heard(&mut self, now: Timestamp, direction: Direction) {
        self.last = now;
        self.is_answered |= matches!(direction, Direction::Down);
    }

    /// When it is over, if nothing comes until then.
    fn until(&self) -> Timestamp {
        self.last.after(if self.is_answered { self.longest } else { self.longest.min(UNANSWERED_TIME) })
    }
}

/// What is next.
enum Step<D> {
    Piece(Piece),
    Written,
    Up(Option<D>),
    Time,
}

/// Carries the datagrams of `session` between `plain` and the data connection, which is free for the next session when this
/// returns without an error. Without `plain` the session is refused; without `idle` it has no end of its own. `paces` are
/// the ways from `plain` and to it.
///
/// # Errors
/// When the data connection broke, or the other side does not keep to the protocol. It is of no use any more then.
pub(super) async fn carry<N: Net, S, D: Datagrams, P: Pace>(
    net: &N,
    framed: &mut Framed<S>,
    plain: Option<D>,
    session: u32,
    paces: [P; 2],
    idle: Option<Idle>,
) -> Result<Moved, FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut carried = Carried { plain, session, idle, is_down_ended: false, moved: Moved::default() };
    let [mut up_pace, mut down_pace] = paces;
    let mut alarm = net.alarm();
    if carried.plain.is_none() {
        put(framed, Control::Reset(session))?;
    }
    alarm.set(idle.map(|idle| idle.until()));
    let mut is_ending = false;
    loop {
        if !is_ending && carried.plain.is_none() {
            is_ending = true;
            alarm.set(Some(net.now().after(END_TIME)));
        }
        let is_over = carried.is_down_ended && carried.plain.is_none();
        if is_over && !framed.is_writing() {
            return Ok(carried.moved);
        }
        let takes_more = carried.plain.is_some() && !framed.is_writing();
        let step = tokio::select! {
            biased;
            step = poll_fn(|context| poll_frames(context, framed, &mut down_pace, is_over)) => step?,
            datagram = next(&mut carried.plain, &mut up_pace), if takes_more => Step::Up(datagram),
            () = alarm.ring() => Step::Time,
        };
        match step {
            Step::Written => {}
            Step::Up(datagram) => carried.on_up(net, framed, datagram, &mut up_pace)?,
            Step::Piece(piece) => {
                carried.on_piece(net, framed, piece, &mut down_pace).await?;
                // However much comes, the other direction has its turn.
                let is_free = carried.plain.is_some() && !framed.is_writing();
                if is_free && let Some(datagram) = at_once(next(&mut carried.plain, &mut up_pace)) {
                    carried.on_up(net, framed, datagram, &mut up_pace)?;
                }
            }
            Step::Time if is_ending => return Err(FrameError::Cut),
            Step::Time => match carried.idle.map(|idle| idle.until()) {
                Some(until) if until <= net.now() => carried.end(framed)?,
                until => alarm.set(until),
            },
        }
    }
}

/// The outcome of a future that need not wait.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn put<S: AsyncRead + AsyncWrite + Unpin>(
    framed: &mut Framed<S>,
    control: Control,
) -> Result<(), FrameError> {
    if framed.put(control) { Ok(()) } else { Err(FrameError::OutOfTurn("many frames")) }
}

fn poll_frames<S: AsyncRead + AsyncWrite + Unpin, D>(
    context: &mut Context<'_>,
    framed: &mut Framed<S>,
    pace: &mut impl Pace,
    is_over: bool,
) -> Poll<Result<Step<D>, FrameError>> {
    if framed.is_writing() && framed.poll_write(context)?.is_ready() {
        return Poll::Ready(Ok(Step::Written));
    }
    // What comes after the end of both directions is not this session's.
    if is_over {
        return Poll::Pending;
    }
    ready!(pace.poll_turn(context, Direction::Down));
    framed.poll_piece(context).map_ok(Step::Piece)
}

async fn next<D: Datagrams>(plain: &mut Option<D>, pace: &mut impl Pace) -> Option<D::Datagram> {
    poll_fn(|context| pace.poll_turn(context, Direction::Up)).await;
    plain.as_mut()?.next().await
}

/// A session, as far as it has come.
struct Carried<D> {
    /// None when this side has said that the session is over.
    plain: Option<D>,
    session: u32,
    idle: Option<Idle>,
    /// The other side has said so.
    is_down_ended: bool,
    moved: Moved,
}

impl<D: Datagrams> Carried<D> {
    fn heard<N: Net>(&mut self, net: &N, direction: Direction) {
        if let Some(idle) = &mut self.idle {
            idle.heard(net.now(), direction);
        }
    }

    fn end<S: AsyncRead + AsyncWrite + Unpin>(&mut self, framed: &mut Framed<S>) -> Result<(), FrameError> {
        match self.plain.take() {
            Some(_) => put(framed, Control::End(self.session)),
            None => Ok(()),
        }
    }

    fn on_up<N: Net, S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        net: &N,
        framed: &mut Framed<S>,
        datagram: Option<D::Datagram>,
        pace: &mut impl Pace,
    ) -> Result<(), FrameError> {
        let Some(datagram) = datagram else { return self.end(framed) };
        let datagram = datagram.as_ref();
        if framed.put_datagram(datagram) {
            self.moved.up += datagram.len() as u64;
            pace.moved(Direction::Up, datagram.len());
            self.heard(net, Direction::Up);
        }
        Ok(())
    }

    async fn on_piece<N: Net, S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        net: &N,
        framed: &mut Framed<S>,
        piece: Piece,
        pace: &mut impl Pace,
    ) -> Result<(), FrameError> {
        match piece {
            Piece::Datagram if self.is_down_ended => return Err(FrameError::OutOfTurn("DATAGRAM")),
            Piece::Datagram => {
                let len = framed.data().len();
                if let Some(plain) = &self.plain {
                    plain.send(framed.data()).await;
                    self.moved.down += len as u64;
                    pace.moved(Direction::Down, len);
                    self.heard(net, Direction::Down);
                }
                framed.consume(len);
            }
            Piece::Control(Control::End(session) | Control::Reset(session)) if session == self.session => {
                self.is_down_ended = true;
                self.end(framed)?;
            }
            // Of a session before this one.
            Piece::Control(Control::End(_) | Control::Reset(_) | Control::Pong) => {}
            Piece::Control(Control::Ping) => put(framed, Control::Pong)?,
            Piece::Control(Control::Open(_)) => return Err(FrameError::OutOfTurn("OPEN")),
            Piece::Data => return Err(FrameError::OutOfTurn("DATA")),
            Piece::Closed => return Err(FrameError::Cut),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use hex_literal::hex;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::net::OsNet;
    use crate::relay::throttle::Unpaced;

    /// A side that says some things, and then nothing more.
    #[derive(Default)]
    struct Side {
        says: VecDeque<Vec<u8>>,
        ends: bool,
        heard: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl Datagrams for Side {
        type Datagram = Vec<u8>;

        async fn next(&mut self) -> Option<Vec<u8>> {
            match self.says.pop_front() {
                None if !self.ends => std::future::pending().await,
                next => next,
            }
        }

        async fn send(&self, datagram: &[u8]) {
            self.heard.lock().unwrap().push(datagram.to_vec());
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_session_that_was_answered_may_be_silent_for_longer() {
        let mut idle = Idle::new(at(0), Duration::from_secs(120));
        assert_eq!(idle.until(), at(30));
        idle.heard(at(7), Direction::Up);
        assert_eq!(idle.until(), at(37));
        idle.heard(at(8), Direction::Down);
        assert_eq!(idle.until(), at(128));
        idle.heard(at(9), Direction::Up);
        assert_eq!(idle.until(), at(129));
        assert_eq!(Idle::new(at(0), Duration::from_secs(5)).until(), at(5));
    }

    async fn ends(here: Side, there: Option<Side>, idle: Option<Duration>) -> [Moved; 2] {
        let net = OsNet::new();
        let (a, b) = duplex(1000);
        let (mut relay, mut host) = (Framed::new(a, b""), Framed::new(b, b""));
        let idle = idle.map(|idle| Idle::new(net.now(), idle));
        let (here, there) = tokio::join!(
            biased;
            carry(&net, &mut relay, Some(here), 3, [Unpaced, Unpaced], idle),
            carry(&net, &mut host, there, 3, [Unpaced, Unpaced], None),
        );
        assert!(relay.is_empty_handed() && host.is_empty_handed());
        [here.unwrap(), there.unwrap()]
    }

    #[test]
    fn silence_ends_a_session_for_both_and_the_connection_is_free() {
        run(async {
            let (heard_here, heard_there) = (Arc::default(), Arc::default());
            let question = Side {
                says: [vec![1; 3000], vec![], vec![2; 10]].into(),
                heard: Arc::clone(&heard_here),
                ends: false,
            };
            let answer = Side { says: [vec![9; 2000]].into(), heard: Arc::clone(&heard_there), ends: false };
            let [here, there] = ends(question, Some(answer), Some(Duration::from_secs(5))).await;
            assert_eq!((here, there), (Moved { up: 3010, down: 2000 }, Moved { up: 2000, down: 3010 }));
            assert_eq!(*heard_here.lock().unwrap(), [vec![9; 2000]]);
            assert_eq!(*heard_there.lock().unwrap(), [vec![1; 3000], vec![], vec![2; 10]]);
        });
    }

    #[test]
    fn a_refused_session_and_one_whose_port_is_gone_end_at_once() {
        run(async {
            let says = || VecDeque::from([b"hello?".to_vec()]);
            let side = Side { says: says(), ..Side::default() };
            let [_, there] = ends(side, None, None).await;
            assert_eq!(there, Moved::default());
            let gone = Side { says: says(), ends: true, ..Side::default() };
            let [here, there] = ends(gone, Some(Side::default()), None).await;
            assert_eq!((here.up, there.down), (6, 6));
        });
    }

    /// What a side says to this, and how it ends.
    async fn told(bytes: &[u8], side: Option<Side>) -> (Vec<u8>, Result<Moved, FrameError>) {
        let net = OsNet::new();
        let (mut other, own): (DuplexStream, _) = duplex(1 << 20);
        other.write_all(bytes).await.unwrap();
        let mut framed = Framed::new(own, b"");
        let idle = Some(Idle::new(net.now(), Duration::from_secs(1)));
        let outcome = carry(&net, &mut framed, side, 3, [Unpaced, Unpaced], idle).await;
        drop(framed);
        let mut said = Vec::new();
        other.read_to_end(&mut said).await.unwrap();
        (said, outcome)
    }

    #[test]
    fn what_belongs_to_no_session_of_datagrams_ends_the_connection() {
        run(async {
            let said = |bytes: &'static [u8]| told(bytes, Some(Side::default()));
            let (answer, outcome) = said(&hex!("05 000000 04 000004 00000002 03 000004 00000003")).await;
            assert_eq!(answer, hex!("06 000000 03 000004 00000003"), "a PONG and an END; 2 was another one");
            assert_eq!(outcome.unwrap(), Moved::default());
            for wrong in
                [&hex!("02 000001 00")[..], &hex!("07 00000e 00000000 04000000000000 04000000000000")]
            {
                let (_, outcome) = told(wrong, Some(Side::default())).await;
                assert!(outcome.is_err(), "{wrong:?}");
            }
            // Nobody waits for ever for the other side's END.
            let (answer, outcome) = said(b"").await;
            assert_eq!(answer, hex!("03 000004 00000003"));
            assert!(matches!(outcome, Err(FrameError::Cut)));
            let (answer, outcome) = told(b"", None).await;
            assert_eq!(answer, hex!("04 000004 00000003"));
            assert!(matches!(outcome, Err(FrameError::Cut)));
        });
    }

    proptest! {
        #[test]
        fn no_bytes_of_the_other_side_panic_or_last(
            kinds in proptest::collection::vec((0..10_u8, proptest::collection::vec(any::<u8>(), 0..60)), 0..20),
            has_side in any::<bool>(),
        ) {
            let mut bytes = Vec::new();
            for (kind, body) in kinds {
                bytes.extend([kind, 0, 0, body.len() as u8]);
                bytes.extend(body);
            }
            run(async {
                let _ = told(&bytes, has_side.then(Side::default)).await;
            });
        }
    }
}
