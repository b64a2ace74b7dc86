//! A service as clients see it: who is let in, and who waits.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{ClientId, ConnectionId};
use crate::Timestamp;
use crate::relay::config::Limits;

/// Why a client's connection is closed before it was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Denial {
    /// The service is no more.
    #[error("there is no such service")]
    NoService,
    /// It comes from a network that is not on the list.
    #[error("its network is not on the list")]
    NotAllowed,
    /// More clients came in a second than may.
    #[error("too many clients in a second")]
    TooFast,
    /// There are as many sessions as may be.
    #[error("as many sessions as may be")]
    Full,
    /// No host had a connection for it in time.
    #[error("no host was ready in time")]
    NoHost,
    /// The relay is about to end.
    #[error("the relay is about to end")]
    Draining,
}

/// A service.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) limits: Limits,
    pub(super) waiting: VecDeque<Waiting>,
    /// Sessions that go on.
    pub(super) active: usize,
    /// Free data connections of the original protocol, the oldest first.
    pub(super) free: VecDeque<ConnectionId>,
    /// When as many clients have come as may, as if each took its share of a second (a leaky bucket).
    busy_until: Timestamp,
}

/// A client that waits for a data connection.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) client: ClientId,
    pub(super) until: Timestamp,
}

impl Door {
    pub(super) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            active: 0,
            free: VecDeque::new(),
            busy_until: Timestamp::ZERO,
        }
    }

    /// Whether a client may come in, which then counts.
    pub(super) fn admit(&mut self, now: Timestamp, from: IpAddr) -> Result<(), Denial> {
        let from = from.to_canonical();
        let allow = &self.limits.allow;
        if !allow.is_empty() && !allow.iter().any(|network| network.contains(&from)) {
            return Err(Denial::NotAllowed);
        }
        if self.active + self.waiting.len() >= self.limits.connections
            || self.waiting.len() >= self.limits.waiting
        {
            return Err(Denial::Full);
        }
        if let Some(rate) = self.limits.rate {
            let second = std::time::Duration::from_secs(1);
            let until = self.busy_until.max(now).after(second / rate.max(1));
            if until.since(now) > second {
                return Err(Denial::TooFast);
            }
            self.busy_until = until;
        }
        Ok(())
    }
}
