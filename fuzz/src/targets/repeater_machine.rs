//! A repeater between two LANs and other repeaters: what is carried is right and comes from where it may, and tables end.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::feed;
use bytes::Bytes;
use hailer::Timestamp;
use hailer::fuzzing::Source;
use hailer::machine::Machine;
use hailer::repeater::machine::{Input, Lan, Output, RepeaterMachine, Subscriber};
use hailer::repeater::packet::{Packet, RawBeacon};
use hailer::repeater::{Announce, Config, Registry};
use hailer::zre::PeerId;
use hailer::zre::beacon::Beacon;

const EVENTS_MAX: usize = 300;
const STAND_IN_PORTS: std::ops::RangeInclusive<u16> = 23400..=23403;

struct Rig {
    machine: RepeaterMachine,
    now: Timestamp,
    announce: Announce,
    links: BTreeSet<SocketAddr>,
    stand_ins: BTreeSet<PeerId>,
}

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let announce = source.pick(&[Announce::Origin, Announce::StandIn]);
    let config = Config {
        announce,
        stand_in_ports: STAND_IN_PORTS,
        relay: source.below(2) == 0,
        registries: vec![Registry::Static(Vec::new()), Registry::Static(Vec::new())],
        ..Config::default()
    };
    let lans = [10, 11].map(|net| Lan { address: Ipv4Addr::new(10, net, 0, 1), prefix: 24 });
    let mut rig = Rig {
        machine: RepeaterMachine::new(config, lans.to_vec(), Timestamp::ZERO),
        now: Timestamp::ZERO,
        announce,
        links: BTreeSet::new(),
        stand_ins: BTreeSet::new(),
    };
    for _ in 0..EVENTS_MAX {
        if source.is_empty() {
            break;
        }
        rig.step(&mut source);
        assert!(rig.stand_ins.len() <= STAND_IN_PORTS.count());
        assert!(rig.machine.counters().nodes_here <= 16 && rig.machine.counters().nodes_elsewhere <= 16);
    }
}

impl Rig {
    fn feed(&mut self, input: Input) {
        for output in feed(&mut self.machine, self.now, input) {
            match output {
                Output::Publish { packet, .. } => {
                    Packet::decode(&packet).expect("what is published can be read");
                }
                Output::Tell { datagram, lan, .. } => {
                    assert!(lan < 2);
                    let is_plain = RawBeacon::decode(&datagram).is_ok();
                    let has_origin = Packet::decode(&datagram).is_ok();
                    assert!(is_plain || (has_origin && self.announce == Announce::Origin));
                }
                Output::Link(repeater) => assert!(self.links.insert(repeater), "it is linked once"),
                Output::Unlink(repeater) => assert!(self.links.remove(&repeater), "it was linked"),
                Output::StandIn { peer, port, .. } => {
                    assert!(STAND_IN_PORTS.contains(&port));
                    self.stand_ins.insert(peer);
                }
                Output::EndStandIn(peer) => assert!(self.stand_ins.remove(&peer), "there was one"),
                Output::Event(_) => {}
            }
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.below(16) {
            0..5 => {
                let datagram = datagram(source);
                self.feed(Input::Heard { from: on_a_lan(source), datagram });
            }
            5 => {
                let datagram = Bytes::copy_from_slice(source.bytes());
                self.feed(Input::Heard { from: on_a_lan(source), datagram });
            }
            6..10 => {
                let mut packet = beacon(source).to_vec();
                packet.extend_from_slice(origin(source).as_bytes());
                self.feed(Input::Published { by: repeater(source), message: vec![packet.into()] });
            }
            10 => {
                let message = (0..source.below(3)).map(|_| Bytes::copy_from_slice(source.bytes())).collect();
                self.feed(Input::Published { by: repeater(source), message });
            }
            11 => self.feed(Input::Subscribed(Subscriber(source.byte().into()))),
            12 => {
                let repeaters = (0..source.below(5)).map(|_| repeater(source)).collect();
                self.feed(Input::Found { registry: source.below(2), repeaters });
            }
            13 => {
                let (peer, is_there) = (peer(source), source.below(2) == 0);
                let port = STAND_IN_PORTS.start() + u16::from(source.byte() % 4);
                self.feed(Input::StandsIn { peer, port, is_there });
            }
            14 => self.pass(Duration::from_millis(u64::from(source.byte()) * 10)),
            _ => self.pass(Duration::from_secs(u64::from(source.byte() % 64))),
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        for turn in 0.. {
            let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= end) else { break };
            assert!(turn < 10_000, "a deadline that does not go away");
            self.now = self.now.max(deadline);
            self.feed(Input::Timeout);
        }
        self.now = end;
    }
}

fn peer(source: &mut Source<'_>) -> PeerId {
    PeerId::from_bytes([source.byte() % 8; 16])
}

fn on_a_lan(source: &mut Source<'_>) -> SocketAddr {
    let choice = source.byte();
    SocketAddr::from(([10, 10 + choice % 3, 0, choice >> 5], 5670))
}

fn repeater(source: &mut Source<'_>) -> SocketAddr {
    SocketAddr::from(([10, 10 + source.byte() % 4, 0, 1 + source.byte() % 2], Config::PUBLISH_PORT))
}

fn beacon(source: &mut Source<'_>) -> [u8; Beacon::LEN] {
    let port = source.pick(&[49152, 49152, 49153, 0, *STAND_IN_PORTS.start()]);
    Beacon { peer: peer(source), port }.encode()
}

fn origin(source: &mut Source<'_>) -> String {
    match source.below(8) {
        0 => "fe80::1".to_owned(),
        1 => "172.17.0.510.0.0.2".to_owned(),
        2 => "10.10.0.1".to_owned(),
        host => format!("10.{}.0.{host}", 10 + source.byte() % 4),
    }
}

fn datagram(source: &mut Source<'_>) -> Bytes {
    let mut datagram = beacon(source).to_vec();
    match source.below(6) {
        0 => datagram.extend_from_slice(origin(source).as_bytes()),
        1 => {
            datagram[3] = 3;
            datagram.resize(54, 7);
        }
        _ => {}
    }
    datagram.into()
}
