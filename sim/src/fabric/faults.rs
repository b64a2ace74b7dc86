//! What is done to the network while it runs: partitions, cables pulled and put back, links that change.
//!
//! A fault draws nothing: a packet that meets one is dropped before the link it would have taken draws for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use hailer::Timestamp;

use super::link::Pipe;
use super::packet::{Body, Packet};
use super::{Fabric, HostId};
use crate::scenario::{Link, Medium};

/// A cut between two sets of machines.
#[derive(Debug)]
pub(super) struct Partition {
    /// What the driver calls it.
    token: usize,
    /// By machine.
    is_from: Vec<bool>,
    is_to: Vec<bool>,
    is_one_way: bool,
    since: Timestamp,
}

impl Partition {
    fn cuts(&self, sender: HostId, receiver: HostId) -> bool {
        let is = |side: &[bool], host: HostId| side.get(host.index()).copied().unwrap_or(false);
        (is(&self.is_from, sender) && is(&self.is_to, receiver))
            || (!self.is_one_way && is(&self.is_to, sender) && is(&self.is_from, receiver))
    }
}

impl Fabric {
    /// From now on no packet of the machines in `from` reaches those in `to`, nor, unless `is_one_way`, the other way
    /// round. What has passed the segment already arrives. `token` is for [`Fabric::heal`].
    pub fn partition(&mut self, token: usize, from: &[HostId], to: &[HostId], is_one_way: bool) {
        let side = |members: &[HostId]| {
            let mut side = vec![false; self.hosts.len()];
            members.iter().for_each(|host| side[host.index()] = true);
            side
        };
        let (is_from, is_to) = (side(from), side(to));
        self.partitions.push(Partition { token, is_from, is_to, is_one_way, since: self.now });
    }

    /// Ends a partition.
    pub fn heal(&mut self, token: usize) {
        self.partitions.retain(|partition| partition.token != token);
    }

    /// Pulls a machine's cables out of these of its interfaces, or puts them back. Nothing gets in or out there meanwhile, and what
    /// is on a cable is lost. The interfaces keep their addresses and the programs their sockets, and sending fails
    /// silently: the kernel has taken the packet and has nobody to give it to.
    pub fn set_plugged(&mut self, host: HostId, interfaces: impl Fn(usize) -> bool, is_plugged: bool) {
        for (number, id) in self.hosts[host.index()].interfaces.iter().enumerate() {
            if interfaces(number) {
                self.interfaces[id.0 as usize].is_plugged = is_plugged;
            }
        }
        self.note_answering(host);
    }

    /// Gives each of a machine's interfaces, in the order of their making, another link.
    ///
    /// A link that is `None` stays as it is. A new one begins empty: what is under way on the old one comes out when it would
    /// have, and may be overtaken.
    pub fn set_links(&mut self, host: HostId, links: &[Option<Link>]) {
        let machine = &mut self.hosts[host.index()];
        machine.link_changes += 1;
        for ((number, id), link) in machine.interfaces.iter().enumerate().zip(links) {
            let Some(link) = link else { continue };
            let name = |direction| {
                format!("{}/eth{number}/{direction}/change {}", machine.name, machine.link_changes)
            };
            let interface = &mut self.interfaces[id.0 as usize];
            interface.mtu = link.mtu;
            interface.up = Pipe::new(self.makes.of(&link.up), self.seed, &name("up"));
            interface.down = Pipe::new(self.makes.of(&link.down), self.seed, &name("down"));
        }
    }

    /// Gives a machine's interface another address on its segment, and takes the old one away, as a DHCP client does
    /// with a new lease. The address is free.
    ///
    /// Sockets stay as they are, as on Linux. Those that are bound to the old address hear nothing more, sending from
    /// them fails, and their connections wait for answers that never come. All others send from the new address.
    pub fn set_address(&mut self, host: HostId, number: usize, address: Ipv4Addr) {
        let id = self.hosts[host.index()].interfaces[number];
        let interface = &mut self.interfaces[id.0 as usize];
        let by_address = &mut self.segments[interface.segment.0 as usize].by_address;
        let old = std::mem::replace(&mut interface.address, address);
        by_address.remove(&old);
        by_address.insert(address, id);
        let segment = &mut self.segments[interface.segment.0 as usize];
        // Docker's DNS knows its containers, whatever they are called; a LAN's has what somebody has written into it.
        if segment.medium != Medium::Lan {
            let named = segment.names.values_mut().flatten().filter(|named| **named == IpAddr::V4(old));
            named.for_each(|named| *named = IpAddr::V4(address));
        }
    }

    /// The machine's addresses, one for each of its interfaces in their order.
    pub fn addresses(&self, host: HostId) -> Vec<Ipv4Addr> {
        let own = &self.hosts[host.index()].interfaces;
        own.iter().map(|id| self.interfaces[id.index()].address).collect()
    }

    /// Something on a machine, no socket of its programs, broadcasts a datagram on each of its interfaces. Without power
    /// nothing happens.
    pub fn broadcast(&mut self, host: HostId, from_port: u16, to_port: u16, payload: &Bytes) {
        let machine = &self.hosts[host.index()];
        if !machine.is_powered {
            return;
        }
        for id in machine.interfaces.clone() {
            let interface = &self.interfaces[id.0 as usize];
            let broadcast = self.segments[interface.segment.0 as usize].prefix.broadcast();
            let from = IpAddr::V4(interface.address);
            let packet = Packet::new(
                SocketAddr::new(from, from_port),
                SocketAddr::new(IpAddr::V4(broadcast), to_port),
                Body::Udp(payload.clone()),
            );
            // There is always a way out by an interface's own address.
            let _ = self.transmit(host, packet, Some(from));
        }
    }

    /// Since when a partition keeps the packets of one machine from another.
    pub(super) fn cut_since(&self, sender: HostId, receiver: HostId) -> Option<Timestamp> {
        let cuts = self.partitions.iter().filter(|partition| partition.cuts(sender, receiver));
        cuts.map(|partition| partition.since).min()
    }

    /// Whether a partition keeps the packets of one machine from another.
    pub(super) fn is_cut(partitions: &[Partition], sender: HostId, receiver: HostId) -> bool {
        partitions.iter().any(|partition| partition.cuts(sender, receiver))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use hailer::net::UdpOptions;

    use super::*;
    use crate::fabric::udp::UdpKey;
    use crate::scenario::{Delay, Direction};
    use crate::trace::Drop;

    struct Lan {
        fabric: Fabric,
        hosts: Vec<HostId>,
        sockets: Vec<UdpKey>,
    }

    fn link(millis: u64) -> Link {
        let direction =
            Direction { delay: Delay::Fixed(Duration::from_millis(millis)), ..Direction::default() };
        Link { up: direction.clone(), down: direction, ..Link::default() }
    }

    fn lan() -> Lan {
        let mut fabric = Fabric::new(1, 5670);
        let segment = fabric.add_segment("10.0.0.0/24".parse().unwrap());
        let (mut hosts, mut sockets) = (Vec::new(), Vec::new());
        for number in 1..=3 {
            let host = fabric.add_host(&format!("n{number}"));
            fabric.attach(host, segment, Ipv4Addr::new(10, 0, 0, number), &link(1));
            fabric.power_on(host);
            let mut options = UdpOptions::at("0.0.0.0:5670".parse().unwrap());
            options.broadcast = true;
            sockets.push(fabric.udp_bind(host, &options).unwrap());
            hosts.push(host);
        }
        Lan { fabric, hosts, sockets }
    }

    impl Lan {
        /// Who else hears a broadcast of this machine.
        fn heard(&mut self, sender: usize) -> Vec<usize> {
            self.send(sender);
            while self.fabric.next_at().is_some() {
                self.fabric.step();
            }
            self.received(sender)
        }

        fn send(&mut self, sender: usize) {
            let to = "10.0.0.255:5670".parse().unwrap();
            self.fabric.udp_send(self.sockets[sender], b"hello", to).unwrap();
        }

        fn received(&mut self, sender: usize) -> Vec<usize> {
            let mut context = Context::from_waker(Waker::noop());
            let mut heard = Vec::new();
            for (index, socket) in self.sockets.iter().enumerate() {
                let mut buffer = [0; 16];
                let received = self.fabric.udp_poll_recv(*socket, &mut context, &mut buffer);
                if matches!(received, Poll::Ready(Ok(_))) && index != sender {
                    heard.push(index);
                }
            }
            heard
        }

        fn dropped(&self, host: usize, cause: Drop) -> u64 {
            self.fabric.traffic()[host].dropped.get(&cause).map_or(0, |count| count.packets)
        }
    }

    #[test]
    fn a_partition_cuts_both_ways_or_one_and_only_its_own_pairs() {
        let mut lan = lan();
        let hosts = lan.hosts.clone();
        lan.fabric.partition(7, &hosts[..1], &hosts[1..2], false);
        assert_eq!([0, 1, 2].map(|sender| lan.heard(sender)), [vec![2], vec![2], vec![0, 1]]);
        assert_eq!((lan.dropped(1, Drop::Partition), lan.dropped(0, Drop::Partition)), (1, 1));
        lan.fabric.partition(8, &hosts[2..], &hosts[..2], true);
        assert_eq!([0, 1, 2].map(|sender| lan.heard(sender)), [vec![2], vec![2], vec![]]);
        lan.fabric.heal(7);
        assert_eq!([0, 1, 2].map(|sender| lan.heard(sender)), [vec![1, 2], vec![0, 2], vec![]]);
        lan.fabric.heal(8);
        assert_eq!([0, 1, 2].map(|sender| lan.heard(sender)), [vec![1, 2], vec![0, 2], vec![0, 1]]);
    }

    #[test]
    fn a_pulled_cable_lets_nothing_in_or_out_until_it_is_put_back() {
        let mut lan = lan();
        lan.fabric.set_plugged(lan.hosts[0], |_| true, false);
        assert_eq!([0, 1, 2].map(|sender| lan.heard(sender)), [vec![], vec![2], vec![1]]);
        assert_eq!(lan.dropped(0, Drop::Unplugged), 3);
        lan.fabric.set_plugged(lan.hosts[0], |_| true, true);
        assert_eq!([0, 1, 2].map(|sender| lan.heard(sender)), [vec![1, 2], vec![0, 2], vec![0, 1]]);
    }

    #[test]
    fn a_machine_without_power_broadcasts_nothing() {
        let mut lan = lan();
        lan.fabric.power_cut(lan.hosts[0]);
        for (host, heard) in [(0, vec![]), (1, vec![2])] {
            lan.fabric.broadcast(lan.hosts[host], 9, 5670, &Bytes::from_static(b"noise"));
            while lan.fabric.next_at().is_some() {
                lan.fabric.step();
            }
            assert_eq!(lan.received(host), heard);
        }
    }

    #[test]
    fn what_is_on_a_cable_when_it_is_pulled_is_lost() {
        for pulled in [0, 1] {
            let mut lan = lan();
            lan.send(0);
            lan.fabric.set_plugged(lan.hosts[pulled], |_| true, false);
            while lan.fabric.next_at().is_some() {
                lan.fabric.step();
            }
            assert!(!lan.received(0).contains(&1));
            assert_eq!(lan.dropped(pulled, Drop::Unplugged), 1);
        }
    }

    #[test]
    fn a_changed_link_is_the_new_one_for_what_is_sent_from_then_on() {
        let mut lan = lan();
        lan.fabric.set_links(lan.hosts[0], &[Some(link(100))]);
        lan.send(0);
        let mut times = Vec::new();
        while lan.fabric.next_at().is_some() {
            lan.fabric.step();
            let at = lan.fabric.now().as_millis();
            times.extend(lan.received(0).into_iter().map(|receiver| (at, receiver)));
        }
        assert_eq!(times, [(101, 1), (101, 2)]);
    }

    #[test]
    fn a_machine_with_another_address_is_there_and_no_longer_where_it_was() {
        let mut lan = lan();
        let (old, new) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 77));
        let bound = UdpOptions::at(SocketAddr::from((old, 9)));
        let bound = lan.fabric.udp_bind(lan.hosts[0], &bound).unwrap();
        lan.fabric.set_address(lan.hosts[0], 0, new);
        assert_eq!(lan.fabric.interfaces_of(lan.hosts[0])[1].address, IpAddr::V4(new));
        // Broadcasts come from the new address, and what is bound to the old one can't send.
        assert_eq!(lan.heard(0), [1, 2]);
        let sent = lan.fabric.udp_send(bound, b"hello", "10.0.0.2:5670".parse().unwrap());
        assert_eq!(sent.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        for (to, arrives) in [(old, false), (new, true)] {
            lan.fabric.udp_send(lan.sockets[1], b"hello", SocketAddr::from((to, 5670))).unwrap();
            while lan.fabric.next_at().is_some() {
                lan.fabric.step();
            }
            assert_eq!(lan.received(1).contains(&0), arrives);
        }
        assert_eq!(lan.dropped(1, Drop::NoHost), 1);
    }

    #[test]
    fn what_is_on_its_way_to_an_address_when_it_is_taken_away_is_lost() {
        let mut lan = lan();
        lan.fabric.udp_send(lan.sockets[1], b"hello", "10.0.0.1:5670".parse().unwrap()).unwrap();
        lan.fabric.step();
        lan.fabric.set_address(lan.hosts[0], 0, Ipv4Addr::new(10, 0, 0, 77));
        lan.fabric.step();
        assert_eq!((lan.received(1), lan.dropped(0, Drop::NoRoute)), (vec![], 1));
    }

    #[test]
    fn a_connection_of_an_address_that_is_taken_away_is_stuck() {
        let mut lan = lan();
        let at: SocketAddr = "10.0.0.2:80".parse().unwrap();
        lan.fabric.tcp_listen(lan.hosts[1], at).unwrap();
        let key = lan.fabric.tcp_connect(lan.hosts[0], at, None).unwrap();
        let run = |fabric: &mut Fabric, seconds| {
            let end = fabric.now().after(Duration::from_secs(seconds));
            while fabric.next_at().is_some_and(|at| at <= end) {
                fabric.step();
            }
        };
        run(&mut lan.fabric, 1);
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(lan.fabric.tcp_poll_connected(key, &mut context), Poll::Ready(Ok(()))));
        lan.fabric.set_address(lan.hosts[0], 0, Ipv4Addr::new(10, 0, 0, 77));
        let sent = |lan: &Lan| lan.fabric.traffic()[0].sent.values().map(|count| count.packets).sum::<u64>();
        let before = sent(&lan);
        assert!(matches!(lan.fabric.tcp_poll_write(key, &mut context, b"hello"), Poll::Ready(Ok(5))));
        run(&mut lan.fabric, 60);
        assert_eq!(sent(&lan), before, "nothing leaves with an address that is not the machine's");
        // As on Linux, it tries for some minutes; and then it has waited long enough.
        assert!(lan.fabric.tcp_addresses(key).is_ok());
        let again = lan.fabric.tcp_connect(lan.hosts[0], at, None).unwrap();
        run(&mut lan.fabric, 1);
        assert!(matches!(lan.fabric.tcp_poll_connected(again, &mut context), Poll::Ready(Ok(()))));
        run(&mut lan.fabric, 3600);
        let end = lan.fabric.tcp_poll_write(key, &mut context, b"hello");
        assert!(matches!(end, Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut));
    }
}
