//! The sessions of a NAT: who inside talks to whom outside, by which outside address, and until when.
//!
//! Found from both sides. A session that is due is gone before anything is looked up, so nobody else needs to ask; nothing
//! happens in between, so a NAT without traffic costs nothing. What a session means is decided in the parent module.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hailer::Timestamp;
use slotmap::SlotMap;

use super::Protocol;
use super::tcp_state::TcpTrack;

slotmap::new_key_type! {
    /// A session.
    pub(super) struct SessionKey;
}

/// Why a session exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A machine inside, or the router itself, sent the first packet.
    Inside,
    /// Somebody outside did, and filtering let it in.
    Outside,
    /// Somebody outside did, and the port is forwarded.
    Forwarded,
    /// Somebody outside did, and the router took it as its own.
    Router,
}

/// Between whom a session is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) protocol: Protocol,
    pub(super) inside: SocketAddr,
    /// What `remote` sees instead of `inside`.
    pub(super) outside: SocketAddr,
    pub(super) remote: SocketAddr,
    /// What `inside` sees instead of `remote`; the same, unless the remote end is translated, too.
    pub(super) shown: SocketAddr,
}

/// One inside end and one remote end that know each other.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) ends: Ends,
    pub(super) origin: Origin,
    pub(super) created: Timestamp,
    pub(super) is_answered: bool,
    pub(super) tcp: Option<Box<TcpTrack>>,
    /// How many were made before.
    number: u64,
    is_assured: bool,
    expires: Timestamp,
    /// When the entry of `Table::due` comes up that will look at it.
    looked_at: Timestamp,
}

/// What is to be put into a table.
#[derive(Debug)]
pub(super) struct NewSession {
    pub(super) ends: Ends,
    pub(super) origin: Origin,
    pub(super) tcp: Option<Box<TcpTrack>>,
    pub(super) life: Duration,
}

/// By what a session is found from one side.
type Key = (Protocol, SocketAddr, SocketAddr);

/// All sessions of a NAT.
#[derive(Debug, Default)]
pub(super) struct Table {
    sessions: SlotMap<SessionKey, Session>,
    by_inside: BTreeMap<Key, SessionKey>,
    by_outside: BTreeMap<Key, SessionKey>,
    /// Those that were opened from inside, by inside end and age.
    by_age: BTreeMap<(Protocol, SocketAddr, u64), SessionKey>,
    /// Those that make way in a full table, by age.
    unassured: BTreeMap<u64, SessionKey>,
    due: BTreeSet<(Timestamp, SessionKey)>,
    made: u64,
}

/// The least and the greatest address with this IP address, or of all.
fn span(ip: Option<IpAddr>) -> (SocketAddr, SocketAddr) {
    let low = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let high = ip.unwrap_or(IpAddr::V6(Ipv6Addr::from(u128::MAX)));
    (SocketAddr::new(low, 0), SocketAddr::new(high, u16::MAX))
}

impl Table {
    /// Forgets what is due; returns it, with the moment at which it was.
    pub(super) fn expire(&mut self, now: Timestamp) -> Vec<(Session, Timestamp)> {
        let mut forgotten = Vec::new();
        while let Some(&(at, key)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if session.expires > at {
                session.looked_at = session.expires;
                self.due.insert((session.expires, key));
            } else if let Some(session) = self.remove(key) {
                forgotten.push((session, at));
            }
        }
        forgotten
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn get(&self, key: SessionKey) -> &Session {
        &self.sessions[key]
    }

    pub(super) fn get_mut(&mut self, key: SessionKey) -> &mut Session {
        &mut self.sessions[key]
    }

    /// The session between these ends, as machines inside see it: the inside end and what is shown of the remote one.
    pub(super) fn find_inside(&self, key: Key) -> Option<SessionKey> {
        self.by_inside.get(&key).copied()
    }

    /// The session between these ends, as those outside see it: the outside end and the remote one.
    pub(super) fn find_outside(&self, key: Key) -> Option<SessionKey> {
        self.by_outside.get(&key).copied()
    }

    /// The youngest session that this inside end has opened.
    pub(super) fn youngest(&self, protocol: Protocol, inside: SocketAddr) -> Option<&Session> {
        let mine = self.by_age.range((protocol, inside, 0)..=(protocol, inside, u64::MAX));
        mine.last().map(|(_, key)| self.get(*key))
    }

    /// The sessions of an inside end, with all remote ends or those at one address.
    pub(super) fn of_inside(
        &self,
        protocol: Protocol,
        inside: SocketAddr,
        remote: Option<IpAddr>,
    ) -> impl Iterator<Item = &Session> {
        let (low, high) = span(remote);
        self.by_inside
            .range((protocol, inside, low)..=(protocol, inside, high))
            .map(|(_, key)| self.get(*key))
    }

    /// The sessions of an outside end, with all remote ends or those at one address.
    pub(super) fn of_outside(
        &self,
        protocol: Protocol,
        outside: SocketAddr,
        remote: Option<IpAddr>,
    ) -> impl Iterator<Item = &Session> {
        let (low, high) = span(remote);
        self.by_outside
            .range((protocol, outside, low)..=(protocol, outside, high))
            .map(|(_, key)| self.get(*key))
    }

    /// Whether anybody uses an outside end.
    pub(super) fn is_used(&self, protocol: Protocol, outside: SocketAddr) -> bool {
        self.of_outside(protocol, outside, None).next().is_some()
    }

    /// Puts a session in. Neither of its two pairs of ends is in another one.
    pub(super) fn insert(&mut self, now: Timestamp, new: NewSession) -> SessionKey {
        let NewSession { ends, origin, tcp, life } = new;
        let Ends { protocol, inside, outside, remote, shown } = ends;
        let (number, expires) = (self.made, now.after(life));
        self.made += 1;
        let key = self.sessions.insert(Session {
            ends,
            origin,
            created: now,
            is_answered: false,
            tcp,
            number,
            is_assured: false,
            expires,
            looked_at: expires,
        });
        self.by_inside.insert((protocol, inside, shown), key);
        self.by_outside.insert((protocol, outside, remote), key);
        if origin == Origin::Inside {
            self.by_age.insert((protocol, inside, number), key);
        }
        self.unassured.insert(number, key);
        self.due.insert((expires, key));
        key
    }

    /// Lets a session live until `at`.
    pub(super) fn expire_at(&mut self, key: SessionKey, at: Timestamp) {
        let session = &mut self.sessions[key];
        session.expires = at;
        // A later end is noticed when the earlier one comes.
        if at < session.looked_at {
            self.due.remove(&(session.looked_at, key));
            session.looked_at = at;
            self.due.insert((at, key));
        }
    }

    /// A session no longer makes way for others, or does again.
    pub(super) fn set_assured(&mut self, key: SessionKey, is_assured: bool) {
        let session = &mut self.sessions[key];
        if session.is_assured != is_assured {
            session.is_assured = is_assured;
            if is_assured {
                self.unassured.remove(&session.number);
            } else {
                self.unassured.insert(session.number, key);
            }
        }
    }

    /// The oldest session that makes way.
    pub(super) fn oldest_unassured(&self) -> Option<SessionKey> {
        self.unassured.values().next().copied()
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        let Ends { protocol, inside, outside, remote, shown } = session.ends;
        self.by_inside.remove(&(protocol, inside, shown));
        self.by_outside.remove(&(protocol, outside, remote));
        self.by_age.remove(&(protocol, inside, session.number));
        self.unassured.remove(&session.number);
        self.due.remove(&(session.looked_at, key));
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn session(port: u16, secs: u64) -> NewSession {
        let inside = SocketAddr::from(([10, 0, 0, 1], port));
        let (remote, outside) = (([1, 1, 1, 1], 1).into(), ([2, 2, 2, 2], port).into());
        let ends = Ends { protocol: Protocol::Udp, inside, outside, remote, shown: remote };
        NewSession { ends, origin: Origin::Inside, tcp: None, life: SECOND * secs as u32 }
    }

    fn forgotten(table: &mut Table, now: Timestamp) -> Vec<(u16, Timestamp)> {
        table.expire(now).into_iter().map(|(session, at)| (session.ends.inside.port(), at)).collect()
    }

    #[test]
    fn sessions_are_forgotten_when_they_are_due_and_not_before() {
        let mut table = Table::default();
        let [early, late, kept] = [(1, 10), (2, 20), (3, 10)].map(|(port, secs)| {
            let new = session(port, secs);
            table.insert(at(0), new)
        });
        table.expire_at(kept, at(30));
        table.expire_at(late, at(5));
        assert_eq!(forgotten(&mut table, at(4)), []);
        assert_eq!(forgotten(&mut table, at(10)), [(2, at(5)), (1, at(10))]);
        assert!(table.sessions.get(early).is_none());
        assert_eq!(forgotten(&mut table, at(60)), [(3, at(30))]);
        assert_eq!(table.len(), 0);
        let indexes = [table.by_inside.len(), table.by_outside.len(), table.by_age.len()];
        assert_eq!((indexes, table.unassured.len(), table.due.len()), ([0; 3], 0, 0));
    }

    #[test]
    fn the_youngest_session_of_an_inside_end_is_its_own() {
        let mut table = Table::default();
        for (port, remote) in [(1, 1), (1, 2), (2, 3)] {
            let remote = ([1, 1, 1, 1], remote).into();
            let new = session(port, 10);
            table.insert(at(0), NewSession { ends: Ends { remote, shown: remote, ..new.ends }, ..new });
        }
        let inside = SocketAddr::from(([10, 0, 0, 1], 1));
        assert_eq!(table.youngest(Protocol::Udp, inside).map(|session| session.ends.remote.port()), Some(2));
        assert!(table.youngest(Protocol::Tcp, inside).is_none());
        assert_eq!(table.of_inside(Protocol::Udp, inside, None).count(), 2);
    }
}
