//! The simulated network: machines, their interfaces, and the segments that join them.
//!
//! A plain library: no async, no clock, no tasks. Whoever drives it asks when the next event happens
//! ([`Fabric::next_at`]) and lets it happen ([`Fabric::step`]). Sockets are polled with a [`Context`](std::task::Context),
//! so that any executor can wait on them; a socket that becomes ready wakes its waker.
//!
//! An address means something only on a segment: two segments may use the same private range.
//!
//! * `wire`: the way of a packet: out of an interface, over the segment, into the machines.
//! * `six`: what is different in IPv6.
//! * `route`: routing tables and routers. `neighbour`: who answers on a segment. [`icmp`], `path`:
//!   errors, and what machines learn from them.
//! * `udp`, `stream`, `alarm`: sockets and timers as the product's traits ask for them. `waiting`: who waits for them.
//! * [`docker`]: bridges and overlays. `published`: the ports of a Docker host, from within.
//! * `faults`: partitions, pulled cables, links and addresses that change. `clock`: what machines take for the time.
//! * [`tcp`]: one endpoint of one connection, as Linux would behave.
//! * [`nat`]: network address translation, as a machine that knows nothing of the fabric. `translate`: where it is asked.
//! * [`link`], [`queue`], [`random`], [`packet`]: the parts.
//! * [`tap`], [`capture`]: onlookers, one of which writes capture files.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hailer::Timestamp;
use hailer::net as product;
use ipnet::{IpNet, Ipv4Net};
use slotmap::SlotMap;

use crate::scenario::{Link, Medium};
use crate::trace::Traffic;
use alarm::{Alarm, AlarmKey};
use clock::Clock;
use counters::Counters;
use faults::Partition;
use icmp::Budget;
use link::{Makes, Pipe};
use neighbour::Search;
use packet::Packet;
use queue::Queue;
use random::Stream;
use route::Route;
use six::Six;
use stream::{Ends, Listener, ListenerKey, TcpKey, TcpSocket};
use tap::Tap;
use translate::Translation;
use udp::{Bound, UdpKey, UdpSocket};

pub mod alarm;
pub mod capture;
mod clock;
mod counters;
pub mod docker;
mod faults;
pub mod icmp;
pub mod link;
pub mod nat;
mod neighbour;
pub mod packet;
mod path;
mod published;
pub mod queue;
pub mod random;
mod route;
mod six;
pub mod stream;
pub mod tap;
pub mod tcp;
mod translate;
pub mod udp;
mod waiting;
mod wire;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(u32);

impl HostId {
    /// Its place among all machines, in the order of their making.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A broadcast domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId(u32);

/// A machine's attachment to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceId(u32);

impl InterfaceId {
    /// Its place among all interfaces, in the order of their making.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A neighbour that routes lead over, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GatewayId(u32);

/// The network, with everything that is on its way.
#[derive(Debug)]
pub struct Fabric {
    seed: u64,
    now: Timestamp,
    queue: Queue<Event>,
    segments: Vec<Segment>,
    interfaces: Vec<Interface>,
    /// Of the cables at all interfaces.
    makes: Makes,
    hosts: Vec<Host>,
    udp: SlotMap<UdpKey, UdpSocket>,
    listeners: SlotMap<ListenerKey, Listener>,
    /// Boxed: they are large and many, and a table that grows copies all that it has.
    tcp: SlotMap<TcpKey, Box<TcpSocket>>,
    alarms: SlotMap<AlarmKey, Alarm>,
    counters: Counters,
    partitions: Vec<Partition>,
    /// The addresses of all neighbours that routes lead over.
    gateways: Vec<IpAddr>,
    /// Neighbours that packets wait for.
    searches: BTreeMap<(InterfaceId, IpAddr), Search>,
}

#[derive(Debug)]
struct Segment {
    prefix: Ipv4Net,
    /// Who has which address.
    by_address: BTreeMap<Ipv4Addr, InterfaceId>,
    by_address6: BTreeMap<Ipv6Addr, InterfaceId>,
    medium: Medium,
    /// Whether its machines resolve each other's names.
    has_names: bool,
    /// Further names that its machines resolve.
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Names of services that its machines resolve, each with hosts and ports.
    services: BTreeMap<String, Vec<(String, u16)>>,
    /// In the order of attachment.
    members: Vec<InterfaceId>,
}

#[derive(Debug)]
// In this order in memory: what each packet looks at comes first, in as few cache lines as it needs.
#[repr(C)]
struct Interface {
    host: HostId,
    segment: SegmentId,
    address: Ipv4Addr,
    /// How its operating system counts it.
    number: u32,
    /// The longest packet that leaves or comes here whole.
    mtu: u16,
    /// Whether its cable is in.
    is_plugged: bool,
    /// Whether it answers its neighbours: its cable is in, and its machine has power.
    answers: bool,
    down: Pipe,
    up: Pipe,
    /// IPv6, when it has it.
    six: Option<Six>,
    /// Until when it answered, when it does no more.
    answered_until: Option<Timestamp>,
}

#[derive(Debug)]
// In this order in memory: what each packet looks at comes first, in as few cache lines as it needs.
#[repr(C)]
struct Host {
    is_powered: bool,
    /// Whether it passes on what is not for it.
    is_router: bool,
    next_ephemeral: u16,
    /// How often its links were changed: each change has random streams of its own.
    link_changes: u32,
    clock: Clock,
    /// UDP sockets, oldest first. They are few: one piece of memory is found faster than a map.
    udp: Vec<Bound>,
    /// What makes it a NAT.
    translation: Option<Box<Translation>>,
    connections: BTreeMap<Ends, TcpKey>,
    interfaces: Vec<InterfaceId>,
    /// The longest prefix first.
    routes: Vec<Route>,
    name: String,
    powered_at: Timestamp,
    /// The Docker host that it is a container on.
    docker_host: Option<HostId>,
    /// How many errors it may send, by the address that they go to.
    icmp_budgets: BTreeMap<IpAddr, Budget>,
    /// The longest packets that arrive at others, where a router has said so, and until when that is believed.
    path_mtus: BTreeMap<IpAddr, (u16, Timestamp)>,
    listeners: BTreeMap<u16, Vec<ListenerKey>>,
    /// Initial sequence numbers and ephemeral ports.
    stream: Stream,
}

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// A packet reaches the segment behind an interface.
    AtSegment(InterfaceId, Packet),
    /// A packet reaches the segment behind an interface, on its way to a neighbour that will pass it on.
    ToGateway(InterfaceId, GatewayId, Packet),
    /// A packet reaches an interface from its segment.
    AtInterface(InterfaceId, Packet),
    /// Copies of a packet reach several interfaces at the same moment.
    AtInterfaces(Vec<InterfaceId>, Box<Packet>),
    /// A packet that a machine sent to itself arrives.
    AtSelf(HostId, Packet),
    /// A neighbour should have answered by now.
    Question(InterfaceId, IpAddr),
    Alarm(AlarmKey),
    TcpTimer(TcpKey),
    /// The driver's own appointment.
    Appointment(u64),
}

impl Fabric {
    /// An empty network. `beacon_port` is the UDP port whose datagrams are counted as beacons.
    pub fn new(seed: u64, beacon_port: u16) -> Self {
        Self {
            seed,
            now: Timestamp::ZERO,
            queue: Queue::default(),
            segments: Vec::new(),
            interfaces: Vec::new(),
            makes: Makes::default(),
            hosts: Vec::new(),
            udp: SlotMap::with_key(),
            listeners: SlotMap::with_key(),
            tcp: SlotMap::with_key(),
            alarms: SlotMap::with_key(),
            counters: Counters::new(beacon_port),
            partitions: Vec::new(),
            gateways: Vec::new(),
            searches: BTreeMap::new(),
        }
    }

    /// Adds a broadcast domain.
    pub fn add_segment(&mut self, prefix: Ipv4Net) -> SegmentId {
        self.segments.push(Segment {
            prefix,
            by_address: BTreeMap::new(),
            by_address6: BTreeMap::new(),
            medium: Medium::Lan,
            has_names: true,
            names: BTreeMap::new(),
            services: BTreeMap::new(),
            members: Vec::new(),
        });
        SegmentId(index(self.segments.len() - 1))
    }

    /// Adds a machine, switched off. Its random streams are named after it.
    pub fn add_host(&mut self, name: &str) -> HostId {
        let mut stream = Stream::new(self.seed, &format!("{name}/kernel"));
        let next_ephemeral = stream::ephemeral_start(&mut stream);
        self.hosts.push(Host {
            name: name.to_owned(),
            is_powered: false,
            powered_at: Timestamp::ZERO,
            interfaces: Vec::new(),
            routes: Vec::new(),
            is_router: false,
            translation: None,
            docker_host: None,
            icmp_budgets: BTreeMap::new(),
            path_mtus: BTreeMap::new(),
            udp: Vec::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            stream,
            next_ephemeral,
            link_changes: 0,
            clock: Clock::default(),
        });
        self.counters.add_host();
        HostId(index(self.hosts.len() - 1))
    }

    /// Plugs a machine into a segment.
    pub fn attach(
        &mut self,
        host: HostId,
        segment: SegmentId,
        address: Ipv4Addr,
        link: &Link,
    ) -> InterfaceId {
        let id = InterfaceId(index(self.interfaces.len()));
        let owner = &mut self.hosts[host.0 as usize];
        let name = format!("{}/eth{}", owner.name, owner.interfaces.len());
        owner.interfaces.push(id);
        let up = Pipe::new(self.makes.of(&link.up), self.seed, &format!("{name}/up"));
        let down = Pipe::new(self.makes.of(&link.down), self.seed, &format!("{name}/down"));
        self.interfaces.push(Interface {
            host,
            segment,
            address,
            six: None,
            number: interface_number(owner.interfaces.len() - 1),
            mtu: link.mtu,
            up,
            down,
            is_plugged: true,
            answers: owner.is_powered,
            answered_until: None,
        });
        let segment = &mut self.segments[segment.0 as usize];
        segment.by_address.insert(address, id);
        segment.members.push(id);
        let prefix = IpNet::V4(segment.prefix);
        self.add_connected_route(prefix, id);
        id
    }

    /// Lets the machines on a segment resolve a further name, or another address of one.
    pub fn add_name(&mut self, segment: SegmentId, name: &str, address: IpAddr) {
        self.segments[segment.0 as usize].names.entry(name.to_owned()).or_default().push(address);
    }

    /// Lets the machines on a segment resolve the name of a service.
    pub fn add_service(&mut self, segment: SegmentId, name: &str, places: Vec<(String, u16)>) {
        self.segments[segment.0 as usize].services.insert(name.to_owned(), places);
    }

    /// The hosts and ports that the segments of `asker` give this service. For a container that finds none, its Docker host
    /// is asked.
    pub fn services_of(&self, asker: HostId, name: &str) -> Vec<(String, u16)> {
        let machine = &self.hosts[asker.index()];
        let segments = machine.interfaces.iter().map(|id| self.interfaces[id.index()].segment);
        let found: Vec<_> = segments
            .filter_map(|segment| self.segments[segment.0 as usize].services.get(name))
            .flatten()
            .cloned()
            .collect();
        match machine.docker_host {
            Some(docker_host) if found.is_empty() => self.services_of(docker_host, name),
            _ => found,
        }
    }

    /// The time of the last event.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When the next event happens, if one is to come.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.queue.next_at()
    }

    /// Asks for [`Fabric::step`] to return `token` at `at`.
    pub fn appoint(&mut self, at: Timestamp, token: u64) {
        self.queue.push(at.max(self.now), Event::Appointment(token));
    }

    /// Lets the next event happen. Returns the token when it was an appointment of the driver's.
    pub fn step(&mut self) -> Option<u64> {
        let (at, event) = self.queue.pop()?;
        self.now = at;
        self.counters.now = at;
        match event {
            Event::AtSegment(from, packet) => self.cross_segment(from, packet),
            Event::AtInterface(interface, packet) => self.arrive(interface, packet),
            Event::AtInterfaces(interfaces, packet) => self.arrive_at_all(&interfaces, &packet),
            Event::AtSelf(host, packet) => self.deliver(host, None, packet),
            Event::ToGateway(from, gateway, packet) => {
                self.hand_over(from, self.gateways[gateway.0 as usize], packet);
            }
            Event::Question(from, neighbour) => self.question_due(from, neighbour),
            Event::Alarm(key) => self.alarm_due(key),
            Event::TcpTimer(key) => self.tcp_timer_due(key),
            Event::Appointment(token) => return Some(token),
        }
        None
    }

    /// Switches a machine on.
    pub fn power_on(&mut self, host: HostId) {
        let machine = &mut self.hosts[host.0 as usize];
        machine.is_powered = true;
        machine.powered_at = self.now;
        self.note_answering(host);
    }

    /// Cuts a machine's power: its sockets are gone, and nobody is told.
    pub fn power_cut(&mut self, host: HostId) {
        let machine = &mut self.hosts[host.0 as usize];
        machine.is_powered = false;
        machine.icmp_budgets.clear();
        machine.path_mtus.clear();
        machine.translation.iter_mut().for_each(|translation| translation.reboot());
        let udp = std::mem::take(&mut machine.udp);
        let listeners = std::mem::take(&mut machine.listeners);
        let connections = std::mem::take(&mut machine.connections);
        for Bound { key, .. } in udp {
            self.udp.remove(key);
        }
        for key in listeners.into_values().flatten() {
            self.listeners.remove(key);
        }
        for key in connections.into_values() {
            self.tcp.remove(key);
        }
        self.end_searches(host);
        self.note_answering(host);
    }

    /// The machine's addresses, as its operating system would list them.
    pub fn interfaces_of(&self, host: HostId) -> Vec<product::Interface> {
        let own = &self.hosts[host.0 as usize].interfaces;
        let attached = own.iter().enumerate().flat_map(|(number, id)| {
            let interface = &self.interfaces[id.0 as usize];
            let prefix = self.segments[interface.segment.0 as usize].prefix;
            let four = product::Interface {
                name: format!("eth{number}"),
                index: interface.number,
                address: IpAddr::V4(interface.address),
                prefix: prefix.prefix_len(),
                broadcast: Some(IpAddr::V4(prefix.broadcast())),
                is_loopback: false,
                is_point_to_point: false,
                is_up: true,
            };
            let six = interface.six.into_iter().flat_map(|six| {
                [(six.global, six.prefix.prefix_len()), (six.local, six::LINK_LOCAL_PREFIX_LEN)]
            });
            let six = six.map(|(address, prefix)| product::Interface {
                address: IpAddr::V6(address),
                prefix,
                broadcast: None,
                ..four.clone()
            });
            std::iter::once(four.clone()).chain(six.collect::<Vec<_>>())
        });
        let loopback = product::Interface {
            name: "lo".to_owned(),
            index: 1,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            prefix: 8,
            broadcast: None,
            is_loopback: true,
            is_point_to_point: false,
            is_up: true,
        };
        let has_six = own.iter().any(|id| self.interfaces[id.index()].six.is_some());
        let loopback6 =
            product::Interface { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128, ..loopback.clone() };
        let loopback6 = Some(loopback6).filter(|_| has_six);
        std::iter::once(loopback).chain(loopback6).chain(attached).collect()
    }

    /// The addresses of the machine called `name` that `asker` shares a segment with, and those that its segments give
    /// the name. For a container that finds none, its Docker host is asked.
    pub fn addresses_of(&self, asker: HostId, name: &str) -> Vec<IpAddr> {
        let segment_of = |id: &InterfaceId| self.interfaces[id.index()].segment;
        let machine = &self.hosts[asker.index()];
        let shared = machine.interfaces.iter().map(segment_of);
        // The engine's DNS has the names of containers, for containers.
        let has_names = |segment: &SegmentId, whose: &Host| {
            let segment = &self.segments[segment.0 as usize];
            segment.has_names && (segment.medium == Medium::Lan || whose.docker_host.is_some())
        };
        let shared: Vec<SegmentId> = shared.filter(|segment| has_names(segment, machine)).collect();
        let named = self.hosts.iter().find(|host| host.name == name);
        let near = named
            .into_iter()
            .flat_map(|named| named.interfaces.iter().filter(|id| has_names(&segment_of(id), named)));
        let near = near.filter(|id| shared.contains(&segment_of(id)));
        let written = shared.iter().filter_map(|segment| self.segments[segment.0 as usize].names.get(name));
        let addresses = |id: &InterfaceId| {
            let interface = &self.interfaces[id.index()];
            let six = interface.six.map(|six| IpAddr::V6(six.global));
            std::iter::once(IpAddr::V4(interface.address)).chain(six)
        };
        let mut found: Vec<IpAddr> = near.flat_map(addresses).chain(written.flatten().copied()).collect();
        // RFC 6724, section 2.1: IPv6 first, but for unique local addresses, which come last.
        found.sort_by_key(|address| match address {
            IpAddr::V4(_) => 1,
            IpAddr::V6(address) if address.is_unique_local() => 2,
            IpAddr::V6(_) => 0,
        });
        match machine.docker_host {
            Some(docker_host) if found.is_empty() => self.addresses_of(docker_host, name),
            _ => found,
        }
    }

    /// The names of all interfaces, in the order of their making: `node/eth0`.
    pub fn interface_names(&self) -> Vec<String> {
        let name = |interface: &Interface, id| {
            let host = &self.hosts[interface.host.0 as usize];
            let number = host.interfaces.iter().position(|own| *own == id).unwrap_or_default();
            format!("{}/eth{number}", host.name)
        };
        let ids = (0..).map(InterfaceId);
        self.interfaces.iter().zip(ids).map(|(interface, id)| name(interface, id)).collect()
    }

    /// The machines of all interfaces, in the order of their making.
    pub fn interface_hosts(&self) -> Vec<HostId> {
        self.interfaces.iter().map(|interface| interface.host).collect()
    }

    /// Lets somebody look on from now on.
    pub fn add_tap(&mut self, tap: Box<dyn Tap>) {
        self.counters.taps.push(tap);
    }

    /// Sends the onlookers away, in the order in which they came.
    pub fn take_taps(&mut self) -> Vec<Box<dyn Tap>> {
        std::mem::take(&mut self.counters.taps)
    }

    /// What the network carried so far, one entry for each machine in the order of their making.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.counters.by_host()
    }

    /// A hash over every packet that arrived so far: when, where, what.
    pub fn fingerprint(&self) -> u64 {
        self.counters.fingerprint()
    }

    /// Whether `address` is one that the machine may bind to.
    fn is_own_address(&self, host: HostId, address: IpAddr) -> bool {
        address.is_unspecified()
            || address.is_loopback()
            || self.hosts[host.0 as usize]
                .interfaces
                .iter()
                .any(|id| self.interfaces[id.0 as usize].has(address))
    }
}

/// How Linux counts interfaces: the loopback is the first.
fn interface_number(place: usize) -> u32 {
    index(place) + 2
}

fn index(number: usize) -> u32 {
    u32::try_from(number).expect("a simulated network has fewer than four thousand million parts")
}
