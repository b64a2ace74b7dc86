//! What the network carried and what it dropped, a running hash over all of it, and who looks on.

use hailer::Timestamp;

use super::packet::{Body, Packet};
use super::tap::Tap;
use super::{HostId, InterfaceId};
use crate::trace::{Count, Drop, Kind, Traffic};

/// Counters of all machines.
#[derive(Debug)]
pub(super) struct Counters {
    beacon_port: u16,
    hosts: Vec<HostCounters>,
    hash: u64,
    /// The time of the event that is happening.
    pub(super) now: Timestamp,
    pub(super) taps: Vec<Box<dyn Tap>>,
}

#[derive(Clone, Debug, Default)]
struct HostCounters {
    sent: [Count; Kind::ALL.len()],
    received: [Count; Kind::ALL.len()],
    dropped: [Count; Drop::ALL.len()],
}

impl Counters {
    pub(super) fn new(beacon_port: u16) -> Self {
        Self { beacon_port, hosts: Vec::new(), hash: 0, now: Timestamp::ZERO, taps: Vec::new() }
    }

    pub(super) fn add_host(&mut self) {
        self.hosts.push(HostCounters::default());
    }

    pub(super) fn sent(&mut self, host: HostId, interface: InterfaceId, packet: &Packet) {
        let kind = packet.kind(self.beacon_port) as usize;
        add(&mut self.hosts[host.0 as usize].sent[kind], packet.wire_len());
        self.taps.iter_mut().for_each(|tap| tap.sent(self.now, interface, packet));
    }

    pub(super) fn received(&mut self, host: HostId, interface: InterfaceId, packet: &Packet) {
        let (kind, len) = (packet.kind(self.beacon_port) as usize, packet.wire_len());
        add(&mut self.hosts[host.0 as usize].received[kind], len);
        let detail = match &packet.body {
            Body::Udp(_) | Body::Vxlan(_) => u64::from(packet.from.port()),
            Body::Tcp(segment) => u64::from(segment.seq) << 32 | u64::from(segment.ack.unwrap_or(0)),
            Body::Icmp(icmp) => u64::from(icmp.about.from.port()) << 16 | u64::from(icmp.about.to.port()),
        };
        let place = u64::from(interface.0) << 32 | (kind as u64) << 24 | len as u64;
        for word in [self.now.as_nanos(), place, detail] {
            self.hash = (self.hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
        self.taps.iter_mut().for_each(|tap| tap.received(self.now, interface, packet));
    }

    pub(super) fn dropped(&mut self, host: HostId, cause: Drop, packet: &Packet) {
        add(&mut self.hosts[host.0 as usize].dropped[cause as usize], packet.wire_len());
        self.taps.iter_mut().for_each(|tap| tap.dropped(self.now, host, cause, packet));
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.hash
    }

    pub(super) fn by_host(&self) -> Vec<Traffic> {
        fn seen<K: Ord + Copy>(keys: &[K], counts: &[Count]) -> std::collections::BTreeMap<K, Count> {
            let pairs = keys.iter().copied().zip(counts.iter().copied());
            pairs.filter(|(_, count)| count.packets > 0).collect()
        }
        let traffic = |host: &HostCounters| Traffic {
            sent: seen(&Kind::ALL, &host.sent),
            received: seen(&Kind::ALL, &host.received),
            dropped: seen(&Drop::ALL, &host.dropped),
        };
        self.hosts.iter().map(traffic).collect()
    }
}

fn add(count: &mut Count, bytes: usize) {
    count.packets += 1;
    count.bytes += bytes as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_causes_stand_at_their_own_index() {
        assert!(Kind::ALL.iter().enumerate().all(|(i, kind)| *kind as usize == i));
        assert!(Drop::ALL.iter().enumerate().all(|(i, cause)| *cause as usize == i));
    }
}
