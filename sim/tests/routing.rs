//! Machines on several segments: which way packets take, where they stop, and what their senders are told.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hailer::Timestamp;
use hailer::net::UdpOptions;
use hailer_sim::fabric::stream::{ListenerKey, TcpKey};
use hailer_sim::fabric::udp::UdpKey;
use hailer_sim::fabric::{Fabric, HostId, InterfaceId, SegmentId};
use hailer_sim::scenario::{Delay, Direction, Link};
use hailer_sim::trace::{Drop, Kind};
use proptest::prelude::*;
use tokio::io::ReadBuf;

const PORT: u16 = 7000;

fn link(mtu: u16) -> Link {
    let direction = Direction { delay: Delay::Fixed(Duration::from_millis(1)), ..Direction::default() };
    Link { up: direction.clone(), down: direction, mtu }
}

struct Net(Fabric);

impl Net {
    fn new() -> Self {
        Self(Fabric::new(1, 5670))
    }

    fn segment(&mut self, prefix: &str) -> SegmentId {
        self.0.add_segment(prefix.parse().unwrap())
    }

    /// A machine with these addresses.
    fn host(&mut self, name: &str, addresses: &[(SegmentId, &str)]) -> (HostId, Vec<InterfaceId>) {
        self.host_with(name, addresses, 1500)
    }

    fn host_with(
        &mut self,
        name: &str,
        addresses: &[(SegmentId, &str)],
        mtu: u16,
    ) -> (HostId, Vec<InterfaceId>) {
        let host = self.0.add_host(name);
        let attach = |(segment, address): &(SegmentId, &str)| {
            self.0.attach(host, *segment, address.parse().unwrap(), &link(mtu))
        };
        let interfaces = addresses.iter().map(attach).collect();
        self.0.power_on(host);
        (host, interfaces)
    }

    fn router(&mut self, name: &str, addresses: &[(SegmentId, &str)]) -> (HostId, Vec<InterfaceId>) {
        let (host, interfaces) = self.host(name, addresses);
        self.0.make_router(host);
        (host, interfaces)
    }

    fn route(&mut self, interface: InterfaceId, to: &str, via: &str) {
        self.0.add_route(to.parse().unwrap(), interface, via.parse().unwrap());
    }

    fn udp(&mut self, host: HostId) -> UdpKey {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let options = UdpOptions { broadcast: true, multicast_ttl: 4, ..UdpOptions::at(at) };
        self.0.udp_bind(host, &options).unwrap()
    }

    fn send(&mut self, from: UdpKey, to: &str) {
        self.0.udp_send(from, b"hello", to.parse().unwrap()).unwrap();
    }

    /// Lets everything happen that comes of what was done.
    fn settle(&mut self) {
        while self.0.next_at().is_some() {
            self.0.step();
        }
    }

    fn run_until(&mut self, millis: u64) {
        let end = Timestamp::from_millis(millis);
        self.0.appoint(end, 0);
        while self.0.next_at().is_some_and(|next| next <= end) {
            self.0.step();
        }
    }

    /// Who sent what has come to a socket.
    fn heard(&mut self, socket: UdpKey) -> Vec<IpAddr> {
        let mut context = Context::from_waker(Waker::noop());
        let mut buffer = [0; 4000];
        let mut heard = Vec::new();
        while let Poll::Ready(received) = self.0.udp_poll_recv(socket, &mut context, &mut buffer) {
            heard.push(received.unwrap().1.ip());
        }
        heard
    }

    fn dropped(&self, host: HostId, cause: Drop) -> u64 {
        self.0.traffic()[host.index()].dropped.get(&cause).map_or(0, |count| count.packets)
    }

    fn sent(&self, host: HostId, kind: Kind) -> u64 {
        self.0.traffic()[host.index()].sent.get(&kind).map_or(0, |count| count.packets)
    }

    fn connect(&mut self, host: HostId, to: &str) -> TcpKey {
        self.0.tcp_connect(host, to.parse().unwrap(), None).unwrap()
    }

    /// How an attempt to connect ends, and when.
    fn outcome(&mut self, attempt: TcpKey) -> (Result<(), ErrorKind>, u64) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(outcome) = self.0.tcp_poll_connected(attempt, &mut context) {
                return (outcome.map_err(|error| error.kind()), self.0.now().as_millis());
            }
            assert!(self.0.next_at().is_some(), "the attempt waits for nothing");
            self.0.step();
        }
    }

    fn listen(&mut self, host: HostId) -> ListenerKey {
        self.0.tcp_listen(host, SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))).unwrap()
    }

    /// How many bytes of `len` come through a connection in a simulated minute.
    fn transfer(&mut self, from: TcpKey, listener: ListenerKey, len: usize) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let (mut sent, mut received, mut to) = (0, 0, None);
        let data = vec![7; len];
        let mut buffer = vec![0; 64 << 10];
        let end = self.0.now().after(Duration::from_secs(60));
        while received < len && self.0.next_at().is_some_and(|next| next < end) {
            self.0.step();
            if let Poll::Ready(written) = self.0.tcp_poll_write(from, &mut context, &data[sent..]) {
                sent += written.unwrap();
            }
            if let Poll::Ready(accepted) = self.0.listener_poll_accept(listener, &mut context) {
                to = Some(accepted.unwrap().0);
            }
            let Some(to) = to else { continue };
            let mut into = ReadBuf::new(&mut buffer);
            if let Poll::Ready(read) = self.0.tcp_poll_read(to, &mut context, &mut into) {
                read.unwrap();
                received += into.filled().len();
            }
        }
        received
    }
}

/// `a` on 10.1.0.0/24, a router, `b` on 10.2.0.0/24.
struct Two {
    net: Net,
    a: HostId,
    router: HostId,
    b: HostId,
}

fn two_subnets() -> Two {
    let mut net = Net::new();
    let (left, right) = (net.segment("10.1.0.0/24"), net.segment("10.2.0.0/24"));
    let (a, a_interfaces) = net.host("a", &[(left, "10.1.0.9")]);
    let (router, _) = net.router("r", &[(left, "10.1.0.1"), (right, "10.2.0.1")]);
    let (b, b_interfaces) = net.host("b", &[(right, "10.2.0.9")]);
    net.route(a_interfaces[0], "0.0.0.0/0", "10.1.0.1");
    net.route(b_interfaces[0], "0.0.0.0/0", "10.2.0.1");
    Two { net, a, router, b }
}

#[test]
fn a_router_passes_datagrams_and_connections_on_and_back() {
    let Two { mut net, a, b, .. } = two_subnets();
    let (from, to) = (net.udp(a), net.udp(b));
    net.send(from, "10.2.0.9:7000");
    net.send(to, "10.1.0.9:7000");
    net.settle();
    assert_eq!(net.heard(to), ["10.1.0.9".parse::<IpAddr>().unwrap()]);
    assert_eq!(net.heard(from), ["10.2.0.9".parse::<IpAddr>().unwrap()]);
    net.listen(b);
    let attempt = net.connect(a, "10.2.0.9:7000");
    let began = net.0.now().as_millis();
    // Two segments each way, each a cable up and a cable down of 1 ms.
    assert_eq!(net.outcome(attempt), (Ok(()), began + 8));
}

#[test]
fn no_broadcast_crosses_a_router() {
    let Two { mut net, a, router, b } = two_subnets();
    let (from, at_router, to) = (net.udp(a), net.udp(router), net.udp(b));
    for target in ["255.255.255.255:7000", "10.1.0.255:7000", "10.2.0.255:7000"] {
        net.send(from, target);
        net.settle();
        assert_eq!(net.heard(to), [] as [IpAddr; 0], "{target}");
        // Linux takes a broadcast to another segment of its own for itself, too.
        assert_eq!(net.heard(at_router).len(), 1, "{target}");
    }
}

#[test]
fn a_multicast_crosses_as_many_routers_as_its_time_to_live_says() {
    let mut net = Net::new();
    let segments: Vec<SegmentId> = (0..4).map(|number| net.segment(&format!("10.{number}.0.0/24"))).collect();
    let group: IpAddr = "239.1.2.3".parse().unwrap();
    let mut sockets = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let address = format!("10.{number}.0.9");
        let (host, interfaces) = net.host(&format!("n{number}"), &[(*segment, &address)]);
        net.route(interfaces[0], "0.0.0.0/0", &format!("10.{number}.0.1"));
        let socket = net.udp(host);
        net.0.udp_join(socket, group, address.parse().unwrap()).unwrap();
        sockets.push((host, socket));
    }
    for number in 0..3 {
        let next = number + 1;
        let (here, there) = (format!("10.{number}.0.2"), format!("10.{next}.0.1"));
        let addresses = [(segments[number], here.as_str()), (segments[next], there.as_str())];
        let (_, interfaces) = net.router(&format!("r{number}"), &addresses);
        // The way back to where multicasts come from.
        net.route(interfaces[0], "10.0.0.0/8", &format!("10.{number}.0.1"));
    }
    for (ttl, reached) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3)] {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT + 1));
        let options = UdpOptions { multicast_ttl: ttl, ..UdpOptions::at(at) };
        let from = net.0.udp_bind(sockets[0].0, &options).unwrap();
        net.send(from, "239.1.2.3:7000");
        net.settle();
        let heard: Vec<usize> = sockets[1..].iter().map(|(_, socket)| net.heard(*socket).len()).collect();
        assert_eq!(heard, (1..=3).map(|place| usize::from(place <= reached)).collect::<Vec<_>>(), "{ttl}");
        assert_eq!(net.heard(sockets[0].1).len(), 1, "the sender's own machine hears it");
        net.0.udp_close(from);
    }
    // All hosts on this segment, and nobody else.
    net.send(sockets[0].1, "224.0.0.1:7000");
    net.settle();
    assert_eq!(net.dropped(sockets[1].0, Drop::NoSocket), 0);
    assert_eq!(net.0.traffic()[sockets[1].0.index()].received.values().map(|c| c.packets).sum::<u64>(), 3);
}

#[test]
fn multicasts_go_round_in_no_circle() {
    let mut net = Net::new();
    let (left, right) = (net.segment("10.1.0.0/24"), net.segment("10.2.0.0/24"));
    let (a, _) = net.host("a", &[(left, "10.1.0.9")]);
    let (b, _) = net.host("b", &[(right, "10.2.0.9")]);
    for number in 1..=3 {
        let addresses = [format!("10.1.0.{number}"), format!("10.2.0.{number}")];
        net.router(&format!("r{number}"), &[(left, &addresses[0]), (right, &addresses[1])]);
    }
    let to = net.udp(b);
    net.0.udp_join(to, "239.1.2.3".parse().unwrap(), "10.2.0.9".parse().unwrap()).unwrap();
    let from = net.udp(a);
    net.send(from, "239.1.2.3:7000");
    net.settle();
    assert_eq!(net.heard(to).len(), 3, "once for each router");
}

#[test]
fn the_longest_prefix_wins() {
    let mut net = Net::new();
    let lan = net.segment("10.0.0.0/24");
    let (a, interfaces) = net.host("a", &[(lan, "10.0.0.9")]);
    let mut routers = Vec::new();
    for number in 1..=4 {
        routers.push(net.host(&format!("r{number}"), &[(lan, &format!("10.0.0.{number}"))]).0);
    }
    for (to, via) in
        [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("10.9.9.0/24", 4), ("10.9.0.0/16", 3), ("10.8.0.0/16", 1)]
    {
        net.route(interfaces[0], to, &format!("10.0.0.{via}"));
    }
    let from = net.udp(a);
    for (to, router) in [("8.8.8.8", 1), ("10.1.1.1", 2), ("10.9.1.1", 3), ("10.9.9.1", 4), ("10.8.0.1", 1)] {
        // None of these passes anything on, and so a drop shows who got it.
        let before: Vec<u64> = routers.iter().map(|host| net.dropped(*host, Drop::NoRoute)).collect();
        net.send(from, &format!("{to}:7000"));
        net.settle();
        let got: Vec<usize> = (0..routers.len())
            .filter(|place| net.dropped(routers[*place], Drop::NoRoute) > before[*place])
            .map(|place| place + 1)
            .collect();
        assert_eq!(got, [router], "{to}");
    }
}

#[test]
fn sending_without_a_route_fails_at_once() {
    let mut net = Net::new();
    let lan = net.segment("10.0.0.0/24");
    let (a, _) = net.host("a", &[(lan, "10.0.0.9")]);
    let socket = net.udp(a);
    let to = "10.1.0.1:7000".parse().unwrap();
    assert_eq!(net.0.udp_send(socket, b"hello", to).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    assert_eq!(net.0.tcp_connect(a, to, None).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
}

#[test]
fn a_connection_fails_as_the_error_says() {
    let Two { mut net, a, router, b } = two_subnets();
    let refused = net.connect(a, "10.2.0.9:7000");
    assert_eq!(net.outcome(refused).0, Err(ErrorKind::ConnectionRefused));
    // Nobody has the address: the router asks for three seconds.
    let began = net.0.now().as_millis();
    let lonely = net.connect(a, "10.2.0.77:7000");
    let (outcome, at) = net.outcome(lonely);
    assert_eq!((outcome, at - began), (Err(ErrorKind::HostUnreachable), 3000 + 5));
    // As Linux on its own segment: measured, 3.08 s.
    let began = net.0.now().as_millis();
    let near = net.connect(a, "10.1.0.77:7000");
    let (outcome, at) = net.outcome(near);
    assert_eq!((outcome, at - began), (Err(ErrorKind::HostUnreachable), 3001));
    // The router knows no way there.
    let far = net.connect(a, "10.99.0.1:7000");
    assert_eq!(net.outcome(far).0, Err(ErrorKind::NetworkUnreachable));
    assert_eq!(net.dropped(router, Drop::NoRoute), 1);
    let _ = b;
}

#[test]
fn an_open_connection_survives_errors_and_goes_on_when_the_way_is_back() {
    let Two { mut net, a, router, b } = two_subnets();
    let listener = net.listen(b);
    let connection = net.connect(a, "10.2.0.9:7000");
    assert_eq!(net.outcome(connection).0, Ok(()));
    net.run_until(1000);
    net.0.set_plugged(b, |_| true, false);
    let mut context = Context::from_waker(Waker::noop());
    assert!(net.0.tcp_poll_write(connection, &mut context, b"hello").is_ready());
    net.run_until(60_000);
    assert!(net.sent(router, Kind::Icmp) > 0, "the router has complained");
    net.0.set_plugged(b, |_| true, true);
    assert_eq!(net.transfer(connection, listener, 1000), 5 + 1000);
}

#[test]
fn datagrams_are_answered_by_errors_that_no_socket_sees_and_not_too_many() {
    let Two { mut net, a, b, router } = two_subnets();
    let from = net.udp(a);
    for _ in 0..20 {
        net.send(from, "10.2.0.9:9");
    }
    net.run_until(100);
    assert_eq!((net.dropped(b, Drop::NoSocket), net.sent(b, Kind::Icmp)), (20, 6));
    net.run_until(1100);
    net.send(from, "10.2.0.9:9");
    net.settle();
    assert_eq!(net.sent(b, Kind::Icmp), 7, "one more each second");
    assert_eq!(net.heard(from), [] as [IpAddr; 0]);
    assert_eq!(net.sent(router, Kind::Icmp), 7, "passed on");
    // Nobody complains of a broadcast.
    net.send(from, "10.1.0.255:9");
    net.settle();
    assert_eq!(net.sent(router, Kind::Icmp), 7);
}

#[test]
fn a_neighbour_that_lost_power_is_believed_in_for_a_while_and_then_unreachable() {
    let mut net = Net::new();
    let lan = net.segment("10.0.0.0/24");
    let (a, _) = net.host("a", &[(lan, "10.0.0.1")]);
    let (b, _) = net.host("b", &[(lan, "10.0.0.2")]);
    net.listen(b);
    net.0.power_cut(b);
    let early = net.connect(a, "10.0.0.2:7000");
    let (outcome, at) = net.outcome(early);
    assert_eq!(outcome, Err(ErrorKind::HostUnreachable));
    // The first SYN after 38 s of belief is that of 67 s, and then there are three questions.
    assert_eq!(at, 70_001);
    // One that comes back while it is sought gets what waits for it.
    let late = net.connect(a, "10.0.0.2:7000");
    let began = net.0.now().as_millis();
    net.run_until(began + 500);
    net.0.power_on(b);
    net.listen(b);
    let (outcome, at) = net.outcome(late);
    assert_eq!(outcome, Ok(()));
    assert!((1000..1010).contains(&(at - began)), "{}", at - began);
}

#[test]
fn tcp_finds_the_narrowest_link_on_its_path() {
    let mut net = Net::new();
    let [left, middle, right] = ["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"].map(|it| net.segment(it));
    let (a, a_interfaces) = net.host("a", &[(left, "10.1.0.9")]);
    let (b, b_interfaces) = net.host("b", &[(right, "10.3.0.9")]);
    let (r1, r1_interfaces) = net.host_with("r1", &[(left, "10.1.0.1"), (middle, "10.2.0.1")], 1500);
    let (r2, r2_interfaces) = net.host_with("r2", &[(middle, "10.2.0.2"), (right, "10.3.0.1")], 1500);
    net.0.make_router(r1);
    net.0.make_router(r2);
    net.0.set_links(r1, &[Some(link(1500)), Some(link(900))]);
    net.0.set_links(r2, &[Some(link(900)), Some(link(1500))]);
    net.route(a_interfaces[0], "0.0.0.0/0", "10.1.0.1");
    net.route(r1_interfaces[1], "10.3.0.0/24", "10.2.0.2");
    net.route(r2_interfaces[0], "10.1.0.0/24", "10.2.0.1");
    net.route(b_interfaces[0], "0.0.0.0/0", "10.3.0.1");
    let listener = net.listen(b);
    let connection = net.connect(a, "10.3.0.9:7000");
    assert_eq!(net.outcome(connection).0, Ok(()));
    assert_eq!(net.transfer(connection, listener, 200_000), 200_000);
    let too_long = net.dropped(r1, Drop::TooLong);
    assert!((1..=10).contains(&too_long), "the first window at most: {too_long}");
    // What was learnt holds for the next connection to the same host.
    let next = net.connect(a, "10.3.0.9:7000");
    assert_eq!(net.outcome(next).0, Ok(()));
    assert_eq!(net.transfer(next, listener, 50_000), 50_000);
    assert_eq!(net.dropped(r1, Drop::TooLong), too_long);
    // Datagrams are cut instead.
    let (from, to) = (net.udp(a), net.udp(b));
    net.0.udp_send(from, &[1; 1400], "10.3.0.9:7000".parse().unwrap()).unwrap();
    net.settle();
    assert_eq!(net.heard(to).len(), 1);
}

#[test]
fn one_address_on_two_segments_is_two_machines() {
    let mut net = Net::new();
    let (one, other) = (net.segment("192.168.1.0/24"), net.segment("192.168.1.0/24"));
    let (a, _) = net.host("a", &[(one, "192.168.1.2")]);
    let (b, _) = net.host("b", &[(other, "192.168.1.2")]);
    let (c, _) = net.host("c", &[(one, "192.168.1.3")]);
    let (from, at_a, at_b) = (net.udp(c), net.udp(a), net.udp(b));
    net.send(from, "192.168.1.2:7000");
    net.settle();
    assert_eq!((net.heard(at_a).len(), net.heard(at_b).len()), (1, 0));
}

#[test]
fn names_are_those_of_a_segment() {
    let mut net = Net::new();
    let (left, right) = (net.segment("10.1.0.0/24"), net.segment("10.2.0.0/24"));
    let (a, _) = net.host("a", &[(left, "10.1.0.9")]);
    let (b, _) = net.host("b", &[(right, "10.2.0.9")]);
    net.host("both", &[(left, "10.1.0.8"), (right, "10.2.0.8")]);
    net.0.add_name(right, "server", "10.1.0.9".parse().unwrap());
    let found =
        |host, name| net.0.addresses_of(host, name).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(found(a, "both"), ["10.1.0.8"]);
    assert_eq!(found(b, "both"), ["10.2.0.8"]);
    assert_eq!((found(a, "server"), found(b, "server")), (vec![], vec!["10.1.0.9".to_owned()]));
    assert_eq!(found(a, "b"), [] as [String; 0]);
}

/// The same three machines with IPv6: `a` on fd00:1::/64, a router, `b` on fd00:2::/64.
fn two_subnets6() -> Two {
    let mut net = Net::new();
    let (left, right) = (net.segment("10.1.0.0/24"), net.segment("10.2.0.0/24"));
    let (a, a_interfaces) = net.host("a", &[(left, "10.1.0.9")]);
    let (router, r_interfaces) = net.router("r", &[(left, "10.1.0.1"), (right, "10.2.0.1")]);
    let (b, b_interfaces) = net.host("b", &[(right, "10.2.0.9")]);
    for (interface, address, prefix) in [
        (a_interfaces[0], "fd00:1::9", "fd00:1::/64"),
        (r_interfaces[0], "fd00:1::1", "fd00:1::/64"),
        (r_interfaces[1], "fd00:2::1", "fd00:2::/64"),
        (b_interfaces[0], "fd00:2::9", "fd00:2::/64"),
    ] {
        net.0.add_address6(interface, address.parse().unwrap(), prefix.parse().unwrap());
    }
    net.route(a_interfaces[0], "::/0", "fd00:1::1");
    net.route(b_interfaces[0], "::/0", "fd00:2::1");
    Two { net, a, router, b }
}

impl Net {
    fn udp6(&mut self, host: HostId, ttl: u8) -> UdpKey {
        let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
        self.0.udp_bind(host, &UdpOptions { multicast_ttl: ttl, ..UdpOptions::at(at) }).unwrap()
    }

    /// The link-local address of a machine's only interface.
    fn link_local(&self, host: HostId) -> IpAddr {
        let mut own = self.0.interfaces_of(host).into_iter().map(|interface| interface.address);
        own.find(|address| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local())).unwrap()
    }
}

#[test]
fn ipv6_passes_routers_too() {
    let Two { mut net, a, b, .. } = two_subnets6();
    let (from, to) = (net.udp6(a, 1), net.udp6(b, 1));
    net.send(from, "[fd00:2::9]:7000");
    net.send(to, "[fd00:1::9]:7000");
    net.settle();
    assert_eq!(net.heard(to), ["fd00:1::9".parse::<IpAddr>().unwrap()]);
    assert_eq!(net.heard(from), ["fd00:2::9".parse::<IpAddr>().unwrap()]);
    let listener = net.0.tcp_listen(b, SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))).unwrap();
    let connection = net.connect(a, "[fd00:2::9]:7000");
    assert_eq!(net.outcome(connection).0, Ok(()));
    assert_eq!(net.transfer(connection, listener, 100_000), 100_000);
    // The two families have ports of their own.
    net.listen(b);
    let refused = net.connect(a, "[fd00:2::9]:7001");
    assert_eq!(net.outcome(refused).0, Err(ErrorKind::ConnectionRefused));
    let began = net.0.now().as_millis();
    let lonely = net.connect(a, "[fd00:1::77]:7000");
    let (outcome, at) = net.outcome(lonely);
    assert_eq!((outcome, at - began), (Err(ErrorKind::HostUnreachable), 3001));
    let far = net.connect(a, "[fd00:99::1]:7000");
    assert_eq!(net.outcome(far).0, Err(ErrorKind::NetworkUnreachable));
}

#[test]
fn link_local_addresses_need_a_scope_and_stay_on_their_segment() {
    let Two { mut net, a, router, b } = two_subnets6();
    let sockets = [a, router, b].map(|host| net.udp6(host, 4));
    let there = net.0.interfaces_of(router).into_iter().rfind(|it| it.name == "eth0").unwrap();
    assert_eq!((there.prefix, there.index), (64, 2));
    let IpAddr::V6(address) = there.address else { panic!("link-local, it comes last") };
    let scoped = |scope| SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, scope));
    let refused = net.0.udp_send(sockets[0], b"hello", scoped(0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    net.0.udp_send(sockets[0], b"hello", scoped(2)).unwrap();
    net.settle();
    let own = net.link_local(a);
    assert_eq!(net.heard(sockets[1]), [own]);
    // All nodes on the link, whatever the time to live; wider groups pass.
    for (host, socket) in [a, router, b].into_iter().zip(sockets) {
        let on = net.0.interfaces_of(host).into_iter().find(|it| it.name == "eth0" && it.address.is_ipv6());
        for group in ["ff02::1", "ff05::5"] {
            net.0.udp_join(socket, group.parse().unwrap(), on.clone().unwrap().address).unwrap();
        }
    }
    for (to, reached) in [("[ff02::1]:7000", [1, 1, 0]), ("[ff05::5]:7000", [1, 1, 1])] {
        net.send(sockets[0], to);
        net.settle();
        assert_eq!(sockets.map(|socket| net.heard(socket).len()), reached, "{to}");
    }
    // A connection between link-local addresses.
    let listener = net.0.tcp_listen(router, SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))).unwrap();
    let connection = net.0.tcp_connect(a, scoped(2), None).unwrap();
    assert_eq!(net.outcome(connection).0, Ok(()));
    assert_eq!(net.0.tcp_addresses(connection).unwrap().1, scoped(2));
    assert_eq!(net.transfer(connection, listener, 50_000), 50_000);
}

#[test]
fn ipv6_is_cut_by_its_sender_alone() {
    let Two { mut net, a, router, b } = two_subnets6();
    net.0.set_links(router, &[Some(link(1500)), Some(link(1300))]);
    let (from, to) = (net.udp6(a, 1), net.udp6(b, 1));
    // The first is too long, and the router says so; the second comes in pieces.
    for heard in [0, 1] {
        net.0.udp_send(from, &[1; 1400], "[fd00:2::9]:7000".parse().unwrap()).unwrap();
        net.settle();
        assert_eq!(net.heard(to).len(), heard);
    }
    assert_eq!(net.dropped(router, Drop::TooLong), 1);
    let listener = net.0.tcp_listen(a, SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))).unwrap();
    let connection = net.connect(b, "[fd00:1::9]:7000");
    assert_eq!(net.outcome(connection).0, Ok(()));
    assert_eq!(net.transfer(connection, listener, 100_000), 100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever nonsense the routers of a ring have for routes, every packet comes to an end.
    #[test]
    fn a_packet_that_goes_round_in_a_circle_ends(
        routes in prop::collection::vec((0..6_usize, 0..6_usize, 0..3_u8), 0..24),
        ttl in 0..=255_u8,
    ) {
        const ROUTERS: usize = 6;
        let mut net = Net::new();
        let lan = net.segment("10.0.0.0/24");
        let routers: Vec<_> = (0..ROUTERS)
            .map(|number| net.router(&format!("r{number}"), &[(lan, &format!("10.0.0.{}", number + 1))]))
            .collect();
        for (at, to, what) in routes {
            let prefix = ["0.0.0.0/0", "10.0.0.0/8", "10.9.0.0/16"][usize::from(what)];
            net.route(routers[at].1[0], prefix, &format!("10.0.0.{}", to + 1));
        }
        net.route(routers[0].1[0], "0.0.0.0/0", "10.0.0.2");
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let options = UdpOptions { multicast_ttl: ttl, ..UdpOptions::at(at) };
        let from = net.0.udp_bind(routers[0].0, &options).unwrap();
        net.send(from, "10.9.0.1:7000");
        net.send(from, "239.1.1.1:7000");
        let mut steps = 0;
        while net.0.next_at().is_some() {
            net.0.step();
            steps += 1;
            prop_assert!(steps < 10_000, "no end");
        }
    }
}
