//! A connection of ours to a hub: kept up, and spoken to as that hub likes.
//!
//! A hub of Hailer says who it is in the handshake. The hubs of the two originals can't be told apart before they answer, and
//! each suffers from the other's way: czmq's would tell zyre nodes of keys that are no text, the Haskell one has no use for
//! keys that are. So an unknown hub gets HELLO, our tuple in czmq's words with a short life, and PING. czmq's hub answers PING.
//! The Haskell one does not know PING, but answers a later HELLO with the tuple that it just got, in two frames. Either
//! is certain, and neither hub is harmed by the other's question.
//!
//! | hub | what keeps it happy |
//! |---|---|
//! | czmq | forgets who is silent for a second, so it is pinged; INVALID means that it forgot, and hears everything again |
//! | Haskell | sends news to those only whose keys are their identities, so it is asked for everything now and then |
//! | Hailer | hears each tuple again before its time is up |
//!
//! This file has the conversation. What is published is its owner's business: a client's, or a hub's.

use std::time::Duration;

use bytes::Bytes;

use super::LinkId;
use super::dialect::{Dialect, Identity};
use super::message::{DecodeError, Message};
use crate::Timestamp;
use crate::zmtp::Multipart;
use crate::zre::{Endpoint, PeerId};

/// How long one attempt to connect may take, its handshake included.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
/// A hub that comes back is found within this.
const BACK_OFF_MAX: Duration = Duration::from_secs(3);
/// czmq's hub forgets a client after a second of silence; two of these may be late.
const CZMQ_PING: Duration = Duration::from_millis(400);
/// How often an unknown hub is asked who it is.
const PROBE: Duration = Duration::from_secs(1);
/// How often the Haskell hub is asked for everything.
const HASKELL_POLL: Duration = Duration::from_secs(5);
/// The Haskell tools publish again each 50 s, of the 600 s that a tuple lives there.
const HASKELL_REPUBLISH: Duration = Duration::from_secs(50);

/// What kind of hub it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HubKind {
    Czmq,
    Haskell,
    Hailer(PeerId),
}

impl HubKind {
    /// How to speak to it, for a client.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Self::Czmq => Dialect::Czmq,
            Self::Haskell => Dialect::Haskell,
            Self::Hailer(_) => Dialect::Client,
        }
    }
}

/// What a connection to a hub asks of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Open a connection.
    Dial { link: LinkId },
    /// Send a message.
    Send(Message),
    /// Send our tuple in czmq's words, with a short life: the hub is not known.
    Probe,
    /// The hub is known and listens.
    Known(HubKind),
    /// Publish everything.
    Publish,
    /// Everything that the hub had is here: what it did not say any more has gone.
    Complete,
}

#[derive(Debug)]
pub(super) struct Uplink {
    endpoint: Endpoint,
    state: State,
    /// What it was last time: a hub that speaks as it did need not be asked.
    was: Option<HubKind>,
    back_off: Duration,
    /// How often a Hailer hub hears our tuples again.
    refresh: Duration,
}

#[derive(Debug)]
enum State {
    Waiting { until: Timestamp },
    Dialling { link: LinkId },
    Open { link: LinkId, kind: Option<HubKind>, ask_at: Timestamp, publish_at: Timestamp, is_complete: bool },
}

impl Uplink {
    /// A connection that is to be opened at once.
    pub(super) fn new(endpoint: Endpoint, refresh: Duration, now: Timestamp) -> Self {
        Self { endpoint, state: State::Waiting { until: now }, was: None, back_off: BACK_OFF_MIN, refresh }
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The connection, open or not.
    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Waiting { .. } => None,
            State::Dialling { link } | State::Open { link, .. } => Some(link),
        }
    }

    /// The hub at the other end, when it is known and listens.
    pub(super) const fn kind(&self) -> Option<HubKind> {
        match self.state {
            State::Open { kind, .. } => kind,
            State::Waiting { .. } | State::Dialling { .. } => None,
        }
    }

    pub(super) fn deadline(&self) -> Timestamp {
        match self.state {
            State::Waiting { until } => until,
            State::Dialling { .. } => Timestamp::NEVER,
            State::Open { ask_at, publish_at, .. } => ask_at.min(publish_at),
        }
    }

    /// `next_link` is the number of a connection that it may open.
    pub(super) fn on_timeout(&mut self, now: Timestamp, next_link: LinkId) -> Vec<Act> {
        if self.deadline() > now {
            return Vec::new();
        }
        match &mut self.state {
            State::Waiting { .. } => {
                self.state = State::Dialling { link: next_link };
                vec![Act::Dial { link: next_link }]
            }
            State::Dialling { .. } => Vec::new(),
            State::Open { kind, ask_at, publish_at, .. } => {
                let mut acts = Vec::new();
                if *ask_at <= now {
                    *ask_at = now.after(ask_every(*kind));
                    acts = match kind {
                        None => vec![Act::Probe, Act::Send(Message::Hello)],
                        Some(HubKind::Haskell) => vec![Act::Send(Message::Hello)],
                        Some(HubKind::Czmq | HubKind::Hailer(_)) => vec![Act::Send(Message::Ping)],
                    };
                }
                if *publish_at <= now {
                    *publish_at = publish_again(*kind, self.refresh, now);
                    acts.push(Act::Publish);
                }
                acts
            }
        }
    }

    /// The connection is through its handshake with a ROUTER of this identity.
    pub(super) fn on_opened(&mut self, now: Timestamp, identity: &[u8]) -> Vec<Act> {
        let Some(link) = self.link() else { return Vec::new() };
        self.back_off = BACK_OFF_MIN;
        let kind = match Identity::read(identity) {
            Some(Identity { id, .. }) => Some(HubKind::Hailer(id)),
            None => self.was.filter(|was| *was == HubKind::Haskell),
        };
        let (ask_at, publish_at) = (now.after(ask_every(kind)), publish_again(kind, self.refresh, now));
        self.state = State::Open { link, kind, ask_at, publish_at, is_complete: false };
        let question = if kind.is_some() { Act::Publish } else { Act::Probe };
        // The answer to PING also says that all answers to HELLO have come before it.
        let acts = [Act::Send(Message::Hello), question, Act::Send(Message::Ping)];
        kind.map(Act::Known).into_iter().chain(acts).collect()
    }

    /// An attempt failed, or the connection closed.
    pub(super) fn on_closed(&mut self, now: Timestamp, jitter: u64) {
        let nanos = self.back_off.as_nanos() as u64;
        let until = now.after(Duration::from_nanos(nanos - jitter % (nanos / 2)));
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        self.state = State::Waiting { until };
    }

    /// The hub is ourselves: it is left alone from now on.
    pub(super) const fn give_up(&mut self) {
        self.state = State::Waiting { until: Timestamp::NEVER };
    }

    /// A message came: what it says, but for what is this file's own business, and what to do.
    pub(super) fn on_received(
        &mut self,
        now: Timestamp,
        frames: Multipart,
    ) -> (Result<Option<Message>, DecodeError>, Vec<Act>) {
        let State::Open { kind, ask_at, publish_at, is_complete, .. } = &mut self.state else {
            return (Ok(None), Vec::new());
        };
        // The Haskell hub sends its client's identity before each message.
        let is_haskell = frames.len() == 2;
        let message = match Message::decode(frames.into_iter().next_back().unwrap_or_default()) {
            Ok(message) => message,
            Err(error) => return (Err(error), Vec::new()),
        };
        let mut acts = Vec::new();
        let seen = if is_haskell { HubKind::Haskell } else { HubKind::Czmq };
        // Only the Haskell hub can be taken for another: at one endpoint there may be another program after a while.
        if kind.is_none() || (*kind == Some(HubKind::Haskell) && !is_haskell) {
            (*kind, self.was) = (Some(seen), Some(seen));
            *ask_at = now.after(ask_every(*kind));
            *publish_at = publish_again(*kind, self.refresh, now);
            acts.extend([Act::Known(seen), Act::Publish]);
        }
        match message {
            Message::Publish(_) => (Ok(Some(message)), acts),
            Message::Pong => {
                if !std::mem::replace(is_complete, true) {
                    acts.push(Act::Complete);
                }
                (Ok(None), acts)
            }
            Message::Invalid => {
                *is_complete = false;
                (Ok(None), vec![Act::Send(Message::Hello), Act::Publish, Act::Send(Message::Ping)])
            }
            Message::Ping => (Ok(None), vec![Act::Send(Message::Pong)]),
            Message::Hello => (Ok(None), acts),
        }
    }
}

const fn ask_every(kind: Option<HubKind>) -> Duration {
    match kind {
        None => PROBE,
        Some(HubKind::Czmq) => CZMQ_PING,
        Some(HubKind::Haskell) => HASKELL_POLL,
        // Its connection is watched below (see `driver`), and it forgets nobody who is connected.
        Some(HubKind::Hailer(_)) => Duration::MAX,
    }
}

const fn publish_again(kind: Option<HubKind>, refresh: Duration, now: Timestamp) -> Timestamp {
    match kind {
        None | Some(HubKind::Czmq) => Timestamp::NEVER,
        Some(HubKind::Haskell) => now.after(HASKELL_REPUBLISH),
        Some(HubKind::Hailer(_)) => now.after(refresh),
    }
}

/// What a hub's ROUTER and DEALER of Hailer have for identities.
pub(super) fn identity(is_hub: bool, id: PeerId, link: LinkId) -> Bytes {
    Identity { is_hub, id }.to_bytes(link.number())
}
