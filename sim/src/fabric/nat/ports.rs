//! Which outside port a mapping gets.
//!
//! Searches are bounded: in a NAT whose ports are almost all taken a packet may find none although some are left, as on
//! Linux, but it never costs more than the named number of tries.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use hailer::Timestamp;

use super::policy::PortPolicy;
use super::random::Stream;
use super::table::Table;
use super::{Protocol, Refusal};

/// How many neighbours are tried after each random start: Linux halves its window from 128 to 16.
const WINDOWS: [u16; 4] = [128, 64, 32, 16];
/// How many ports in a row are tried by a NAT that counts them up. The next packet goes on where this one gave up.
const IN_A_ROW: u16 = 1024;
/// Ports that anybody may get.
const UNPRIVILEGED: RangeInclusive<u16> = 1024..=u16::MAX;

/// The ports among which Linux searches when a source port is taken.
fn linux_class(protocol: Protocol, port: u16) -> RangeInclusive<u16> {
    match (protocol, port) {
        (Protocol::Icmp, _) => 0..=u16::MAX,
        (_, 0..512) => 1..=511,
        (_, 512..1024) => 600..=1023,
        _ => UNPRIVILEGED,
    }
}

/// Gives outside ports.
#[derive(Debug)]
pub(super) struct Ports {
    policy: PortPolicy,
    outside: Vec<IpAddr>,
    stream: Stream,
    /// The last one that was given in a row.
    last: u16,
    /// Which block each inside address has.
    blocks: BTreeMap<IpAddr, usize>,
    /// Ports that were given back, and until when they rest.
    resting: BTreeMap<(Protocol, SocketAddr), Timestamp>,
}

/// What a port is wanted for.
pub(super) struct Want<'a> {
    pub(super) now: Timestamp,
    pub(super) protocol: Protocol,
    pub(super) inside: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) table: &'a Table,
    /// Ports that are forwarded are nobody else's, except on Linux.
    pub(super) is_forwarded: &'a dyn Fn(SocketAddr) -> bool,
}

impl Want<'_> {
    /// Whether nobody uses the outside end for anything.
    fn is_free(&self, outside: SocketAddr) -> bool {
        !self.table.is_used(self.protocol, outside) && !(self.is_forwarded)(outside)
    }

    /// Whether nobody uses the outside end for this remote end.
    fn is_unique(&self, outside: SocketAddr) -> bool {
        self.table.find_outside((self.protocol, outside, self.remote)).is_none()
    }
}

impl Ports {
    /// Ports of these outside addresses. Draws from `stream`.
    pub(super) fn new(policy: PortPolicy, outside: Vec<IpAddr>, mut stream: Stream) -> Self {
        let last = stream.between(u64::from(*UNPRIVILEGED.start()), u64::from(*UNPRIVILEGED.end())) as u16;
        Self { policy, outside, stream, last, blocks: BTreeMap::new(), resting: BTreeMap::new() }
    }

    /// Forgets blocks and rests.
    pub(super) fn reboot(&mut self) {
        self.blocks.clear();
        self.resting.clear();
    }

    /// Nobody uses an outside end any more since `at`.
    pub(super) fn give_back(&mut self, protocol: Protocol, outside: SocketAddr, at: Timestamp) {
        if let PortPolicy::Block { rest, .. } = self.policy {
            self.resting.insert((protocol, outside), at.after(rest));
        }
    }

    /// An outside end for a new mapping.
    pub(super) fn choose(&mut self, want: &Want<'_>) -> Result<SocketAddr, Refusal> {
        let address = *self.outside.first().ok_or(Refusal::NoPort)?;
        let at = |port| SocketAddr::new(address, port);
        let own = at(want.inside.port());
        let found = match self.policy {
            PortPolicy::Linux if want.is_unique(own) => Some(own),
            PortPolicy::Linux => {
                let class = linux_class(want.protocol, want.inside.port());
                self.search(class, |port| want.is_unique(at(port))).map(at)
            }
            PortPolicy::Preserve if want.is_free(own) => Some(own),
            PortPolicy::Preserve => {
                let is_of_parity = |port: u16| port % 2 == own.port() % 2;
                self.search(UNPRIVILEGED, |port| is_of_parity(port) && want.is_free(at(port))).map(at)
            }
            PortPolicy::Random => self.search(UNPRIVILEGED, |port| want.is_free(at(port))).map(at),
            PortPolicy::Sequential => self.next_in_a_row(|port| want.is_free(at(port))).map(at),
            PortPolicy::Block { size, rest } => return self.in_block(want, size, rest),
        };
        found.ok_or(Refusal::NoPort)
    }

    fn search(&mut self, range: RangeInclusive<u16>, is_good: impl Fn(u16) -> bool) -> Option<u16> {
        let (low, count) = (u32::from(*range.start()), range.len() as u32);
        for window in WINDOWS {
            let start = self.stream.between(0, u64::from(count) - 1) as u32;
            let mut tries = (0..u32::from(window).min(count)).map(|i| (low + (start + i) % count) as u16);
            if let Some(port) = tries.find(|port| is_good(*port)) {
                return Some(port);
            }
        }
        None
    }

    fn next_in_a_row(&mut self, is_good: impl Fn(u16) -> bool) -> Option<u16> {
        for _ in 0..IN_A_ROW {
            self.last = self.last.checked_add(1).unwrap_or(*UNPRIVILEGED.start());
            if is_good(self.last) {
                return Some(self.last);
            }
        }
        None
    }

    /// A port of the inside address's block, which it gets if it has none yet.
    fn in_block(&mut self, want: &Want<'_>, size: u16, rest: Duration) -> Result<SocketAddr, Refusal> {
        let subscriber = want.inside.ip();
        let block = match self.blocks.get(&subscriber) {
            Some(block) => *block,
            None => {
                let block = self.free_block(want, size).ok_or(Refusal::NoPort)?;
                self.blocks.insert(subscriber, block);
                block
            }
        };
        let start = self.stream.between(0, u64::from(size) - 1) as usize;
        let ends = |block| ends_of_block(&self.outside, size, block);
        let is_rested = |end| {
            rest.is_zero() || self.resting.get(&(want.protocol, end)).is_none_or(|until| *until <= want.now)
        };
        let good = ends(block).cycle().skip(start).take(usize::from(size));
        let found = good.into_iter().find(|end| want.is_free(*end) && is_rested(*end));
        if let Some(end) = found {
            self.resting.remove(&(want.protocol, end));
        }
        found.ok_or(Refusal::Quota)
    }

    /// A random block that nobody has. When all are taken, those whose ports are all unused and rested are free again.
    fn free_block(&mut self, want: &Want<'_>, size: u16) -> Option<usize> {
        let count = UNPRIVILEGED.len() / usize::from(size) * self.outside.len();
        if self.blocks.len() >= count {
            self.resting.retain(|_, until| *until > want.now);
            let (resting, outside) = (&self.resting, &self.outside);
            let is_idle = |end| {
                [Protocol::Udp, Protocol::Tcp, Protocol::Icmp].into_iter().all(|protocol| {
                    !want.table.is_used(protocol, end) && !resting.contains_key(&(protocol, end))
                })
            };
            self.blocks.retain(|_, block| !ends_of_block(outside, size, *block).all(is_idle));
        }
        let taken: std::collections::BTreeSet<usize> = self.blocks.values().copied().collect();
        let left: Vec<usize> = (0..count).filter(|block| !taken.contains(block)).collect();
        let last = left.len().checked_sub(1)?;
        Some(left[self.stream.between(0, last as u64) as usize])
    }
}

/// The outside ends of a block: blocks are counted through the first address, then the second.
fn ends_of_block(
    outside: &[IpAddr],
    size: u16,
    block: usize,
) -> impl Iterator<Item = SocketAddr> + Clone + use<> {
    let each = UNPRIVILEGED.len() / usize::from(size);
    let address = outside[block / each];
    let low = *UNPRIVILEGED.start() + (block % each) as u16 * size;
    (low..=low + (size - 1)).map(move |port| SocketAddr::new(address, port))
}
