//! What strangers may cost a node.
//!
//! Identities are not proven in ZRE: whoever reaches the ports can claim to be thousands of peers. Each limit keeps what
//! it can't prevent affordable. A full table is a counter, never a fault: the peers that are there stay.

use std::time::Duration;

use super::message;
use crate::Timestamp;

/// Bounds on what peers can make a node hold or do. [`Limits::default`] suits networks of a few thousand nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Peers in all. Each costs two connections and a few kilobytes; 4096 is far beyond what one broadcast domain carries.
    pub peers: usize,
    /// Peers that were heard of by beacon and did not introduce themselves yet. Each costs a connection attempt, so this
    /// bounds what a storm of invented identities can make us dial at the same time.
    pub peers_not_ready: usize,
    /// New peers by beacon per second, after a burst of [`Limits::peers_not_ready`]: bounds the rate of dialling.
    pub new_peers_per_second: u32,
    /// Groups of one peer. Real nodes are in a handful. What one HELLO may hold is limited by [`message`](super::message).
    pub groups_per_peer: usize,
    /// Inbound links whose ZMTP handshake is not complete. One more, and the oldest is closed.
    pub handshakes: usize,
    /// Inbound links that completed the handshake and sent no HELLO yet. One more, and the oldest is closed.
    pub links_without_hello: usize,
    /// How long an inbound link may live without HELLO. A peer sends it at once, and messages right after it, which are
    /// lost when the link is closed too early; so it is long enough for packets that were lost many times over.
    pub hello_timeout: Duration,
    /// Messages waiting for one peer. One more, and the peer is too slow.
    pub queue_messages: usize,
    /// Bytes waiting for one peer. One more, and the peer is too slow (one message may be larger, when it waits alone).
    pub queue_bytes: usize,
    /// Events waiting for the application. When it is full, messages stay in the connections.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers: 4096,
            peers_not_ready: 512,
            new_peers_per_second: 200,
            groups_per_peer: message::GROUPS_MAX,
            handshakes: 1024,
            links_without_hello: 1024,
            hello_timeout: Duration::from_secs(60),
            queue_messages: 65_536,
            queue_bytes: 64 * 1024 * 1024,
            events: 1024,
        }
    }
}

/// A rate with a burst: a bucket that holds `burst` and gains `per_second`.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: u32,
    burst: u64,
    /// In billionths of a token, so that no gain is lost to rounding.
    level: u64,
    refilled: Timestamp,
}

const TOKEN: u64 = 1_000_000_000;

impl Budget {
    pub(crate) fn new(per_second: u32, burst: usize, now: Timestamp) -> Self {
        let burst = (burst as u64).saturating_mul(TOKEN);
        Self { per_second, burst, level: burst, refilled: now }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        let nanos = now.as_nanos().saturating_sub(self.refilled.as_nanos());
        let gain = nanos.saturating_mul(u64::from(self.per_second));
        self.level = self.level.saturating_add(gain).min(self.burst);
        self.refilled = now;
        if self.level < TOKEN {
            return false;
        }
        self.level -= TOKEN;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_gives_its_burst_and_then_its_rate() {
        let mut budget = Budget::new(10, 3, Timestamp::ZERO);
        let mut takes = |ms| budget.take(Timestamp::from_millis(ms));
        assert_eq!([takes(0), takes(0), takes(0), takes(0)], [true, true, true, false]);
        assert_eq!([takes(99), takes(100), takes(150), takes(200)], [false, true, false, true]);
        assert!(takes(1_000_000) && takes(1_000_000) && takes(1_000_000) && !takes(1_000_000));
    }
}
