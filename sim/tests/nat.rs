//! NAT on the fabric: sockets inside and outside, routers between them, and a clock that stands still when nobody talks.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hailer::Timestamp;
use hailer::net::UdpOptions;
use hailer_sim::fabric::nat::classify::{IDLE, Observations, WARM_UP};
use hailer_sim::fabric::nat::{Policy, Preset};
use hailer_sim::fabric::stream::{ListenerKey, TcpKey};
use hailer_sim::fabric::udp::UdpKey;
use hailer_sim::fabric::{Fabric, HostId, InterfaceId, SegmentId};
use hailer_sim::scenario::{Delay, Direction, Link, Medium, Protocol};
use hailer_sim::trace::{Drop, Kind};
use tokio::io::ReadBuf;

/// Long enough for anything that is on its way, and its answer.
const SETTLED: Duration = Duration::from_millis(100);

struct Net {
    fabric: Fabric,
    context: Context<'static>,
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Net {
    fn new(seed: u64) -> Self {
        Self { fabric: Fabric::new(seed, 5670), context: Context::from_waker(Waker::noop()) }
    }

    fn segment(&mut self, prefix: &str) -> SegmentId {
        self.fabric.add_segment(prefix.parse().unwrap())
    }

    fn host(&mut self, name: &str, at: &[(SegmentId, &str)]) -> (HostId, Vec<InterfaceId>) {
        let direction = Direction { delay: Delay::Fixed(Duration::from_millis(1)), ..Direction::default() };
        let link = Link { up: direction.clone(), down: direction, mtu: 1500 };
        let host = self.fabric.add_host(name);
        let attach =
            |(segment, address): &(SegmentId, &str)| self.fabric.attach(host, *segment, ip(address), &link);
        let interfaces = at.iter().map(attach).collect();
        self.fabric.power_on(host);
        (host, interfaces)
    }

    /// A machine with a way to everywhere.
    fn client(&mut self, name: &str, at: (SegmentId, &str), gateway: &str) -> HostId {
        let (host, interfaces) = self.host(name, &[at]);
        self.fabric.add_route("0.0.0.0/0".parse().unwrap(), interfaces[0], ip(gateway).into());
        host
    }

    /// A router whose second interface is the outside.
    fn nat(
        &mut self,
        name: &str,
        inside: (SegmentId, &str),
        outside: (SegmentId, &str),
        policy: Policy,
    ) -> HostId {
        let (host, interfaces) = self.host(name, &[inside, outside]);
        self.fabric.make_router(host);
        self.fabric.translate(interfaces[1], policy);
        host
    }

    fn wait(&mut self, span: Duration) {
        let end = self.fabric.now().after(span);
        self.fabric.appoint(end, 0);
        while self.fabric.next_at().is_some_and(|next| next <= end) {
            self.fabric.step();
        }
    }

    fn secs(&mut self, secs: u64) {
        self.wait(Duration::from_secs(secs));
    }

    fn udp(&mut self, host: HostId, port: u16) -> UdpKey {
        let options = UdpOptions::at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        self.fabric.udp_bind(host, &options).unwrap()
    }

    /// Sends, and waits until it is there; from whom it comes to `at`, when it does.
    fn send(&mut self, from: UdpKey, to: SocketAddr, at: UdpKey) -> Option<SocketAddr> {
        self.fabric.udp_send(from, b"hello", to).unwrap();
        self.wait(SETTLED);
        self.heard(at).pop()
    }

    fn heard(&mut self, socket: UdpKey) -> Vec<SocketAddr> {
        let mut buffer = [0; 100];
        let mut heard = Vec::new();
        while let Poll::Ready(got) = self.fabric.udp_poll_recv(socket, &mut self.context, &mut buffer) {
            heard.push(got.unwrap().1);
        }
        heard
    }

    fn listen(&mut self, host: HostId, port: u16) -> ListenerKey {
        self.fabric.tcp_listen(host, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).unwrap()
    }

    fn connect(&mut self, host: HostId, to: &str) -> TcpKey {
        let key = self.fabric.tcp_connect(host, end(to), None).unwrap();
        self.wait(SETTLED);
        key
    }

    fn outcome(&mut self, attempt: TcpKey) -> Option<Result<(), ErrorKind>> {
        match self.fabric.tcp_poll_connected(attempt, &mut self.context) {
            Poll::Ready(outcome) => Some(outcome.map_err(|error| error.kind())),
            Poll::Pending => None,
        }
    }

    fn accept(&mut self, listener: ListenerKey) -> (TcpKey, SocketAddr) {
        match self.fabric.listener_poll_accept(listener, &mut self.context) {
            Poll::Ready(accepted) => accepted.unwrap(),
            Poll::Pending => panic!("nobody has connected"),
        }
    }

    fn write(&mut self, connection: TcpKey) {
        let written = self.fabric.tcp_poll_write(connection, &mut self.context, b"hello");
        assert!(matches!(written, Poll::Ready(Ok(5))), "{written:?}");
        self.wait(SETTLED);
    }

    /// What is there to read: how many bytes, an error, or nothing yet.
    fn read(&mut self, connection: TcpKey) -> Option<Result<usize, ErrorKind>> {
        let mut buffer = [0; 100];
        let mut buffer = ReadBuf::new(&mut buffer);
        match self.fabric.tcp_poll_read(connection, &mut self.context, &mut buffer) {
            Poll::Ready(Ok(())) => Some(Ok(buffer.filled().len())),
            Poll::Ready(Err(error)) => Some(Err(error.kind())),
            Poll::Pending => None,
        }
    }

    fn dropped(&self, host: HostId, cause: Drop) -> u64 {
        self.fabric.traffic()[host.index()].dropped.get(&cause).map_or(0, |count| count.packets)
    }

    fn received(&self, host: HostId, kind: Kind) -> u64 {
        self.fabric.traffic()[host.index()].received.get(&kind).map_or(0, |count| count.packets)
    }
}

/// Two machines at home, a NAT, and a server outside.
struct Home {
    net: Net,
    client: HostId,
    nat: HostId,
    server: HostId,
    public: SegmentId,
}

const WAN: &str = "203.0.113.1";

fn home(policy: Policy) -> Home {
    home_with(policy, 1)
}

fn home_with(policy: Policy, seed: u64) -> Home {
    let mut net = Net::new(seed);
    let (lan, public) = (net.segment("192.168.1.0/24"), net.segment("203.0.113.0/24"));
    let client = net.client("client", (lan, "192.168.1.2"), "192.168.1.1");
    let nat = net.nat("nat", (lan, "192.168.1.1"), (public, WAN), policy);
    let (server, _) = net.host("server", &[(public, "203.0.113.9")]);
    Home { net, client, nat, server, public }
}

fn observe(preset: Preset, seed: u64) -> Observations {
    let Home { mut net, client, server, public, .. } = home_with(preset.policy(), seed);
    let (other, _) = net.host("other", &[(public, "203.0.113.10")]);
    let ends = [["203.0.113.9:3478", "203.0.113.9:3479"], ["203.0.113.10:3478", "203.0.113.10:3479"]]
        .map(|ends| ends.map(end));
    let servers = [server, other].map(|host| [3478, 3479].map(|port| net.udp(host, port)));
    let ports = [40_000, 40_001];
    let own = ports.map(|port| net.udp(client, port));
    let ask = |net: &mut Net, socket: usize, address: usize, port: usize| {
        let (to, at) = (ends[address][port], servers[address][port]);
        let seen = net.send(own[socket], to, at).expect("a question arrives");
        assert_eq!(net.send(at, seen, own[socket]), Some(to), "an answer comes back");
        seen
    };
    let seen = [(0, 0), (1, 0), (1, 1)].map(|(address, port)| ask(&mut net, 0, address, port));
    let first = ask(&mut net, 1, 0, 0);
    let hears_other_address = net.send(servers[1][1], first, own[1]).is_some();
    let hears_other_port = net.send(servers[0][1], first, own[1]).is_some();
    let knocked = [first, ask(&mut net, 1, 1, 1)];
    net.send(own[0], first, own[1]);
    let is_hairpinned = net.send(own[1], seen[0], own[0]).is_some();
    net.wait(WARM_UP);
    ask(&mut net, 0, 0, 0);
    net.wait(IDLE);
    let is_kept = net.send(servers[0][0], seen[0], own[0]).is_some();
    Observations { ports, seen, hears_other_address, hears_other_port, knocked, is_hairpinned, is_kept }
}

#[test]
fn a_machine_inside_finds_out_which_preset_it_is_behind() {
    for preset in Preset::ALL {
        for seed in 1..4 {
            let seen = observe(preset, seed);
            assert_eq!(seen.preset(), Some(preset), "seed {seed}: {seen:?}");
        }
    }
}

#[test]
fn tcp_gets_through_both_ways_and_the_server_sees_the_outside_address() {
    for preset in Preset::ALL {
        let Home { mut net, client, nat, server, .. } = home(preset.policy());
        let listener = net.listen(server, 80);
        let connection = net.connect(client, "203.0.113.9:80");
        assert_eq!(net.outcome(connection), Some(Ok(())), "{}", preset.name());
        let (accepted, from) = net.accept(listener);
        assert_eq!(from.ip(), ip(WAN));
        net.write(connection);
        assert_eq!(net.read(accepted), Some(Ok(5)));
        net.write(accepted);
        assert_eq!(net.read(connection), Some(Ok(5)));
        assert_eq!(net.fabric.nat_sessions(nat), 1);
        net.fabric.tcp_close(connection);
        net.fabric.tcp_close(accepted);
        net.secs(300);
        assert_eq!(net.fabric.nat_sessions(nat), 0, "{} forgets what has ended", preset.name());
    }
}

#[test]
fn two_homes_with_the_same_addresses_behind_two_nats_each_have_their_way() {
    let mut net = Net::new(1);
    let public = net.segment("203.0.113.0/24");
    let provider = net.segment("100.64.0.0/24");
    let cgn = net.nat("cgn", (provider, "100.64.0.1"), (public, WAN), Preset::Cgn.policy());
    let (server, _) = net.host("server", &[(public, "203.0.113.9")]);
    let (echo, listener) = (net.udp(server, 7), net.listen(server, 80));
    let mut seen = Vec::new();
    for (home, outside) in [("left", "100.64.0.2"), ("right", "100.64.0.3")] {
        let lan = net.segment("192.168.1.0/24");
        let client = net.client(home, (lan, "192.168.1.2"), "192.168.1.1");
        let sides = [(lan, "192.168.1.1"), (provider, outside)];
        let (router, interfaces) = net.host(&format!("{home}-router"), &sides);
        net.fabric.make_router(router);
        net.fabric.translate(interfaces[1], Preset::LinuxDrop.policy());
        net.fabric.add_route("0.0.0.0/0".parse().unwrap(), interfaces[1], ip("100.64.0.1").into());
        let socket = net.udp(client, 5000);
        let from = net.send(socket, end("203.0.113.9:7"), echo).expect("it arrives");
        assert_eq!(from.ip(), ip(WAN));
        seen.push((from, socket));
        let connection = net.connect(client, "203.0.113.9:80");
        assert_eq!(net.outcome(connection), Some(Ok(())));
        let (accepted, _) = net.accept(listener);
        net.write(accepted);
        assert_eq!(net.read(connection), Some(Ok(5)));
    }
    assert_ne!(seen[0].0, seen[1].0);
    for (from, socket) in seen {
        assert_eq!(net.send(echo, from, socket), Some(end("203.0.113.9:7")));
    }
    assert_eq!(net.fabric.nat_sessions(cgn), 4);
}

#[test]
fn udp_that_is_silent_for_too_long_loses_its_way_back() {
    for (preset, secs, cause) in [
        (Preset::LinuxDrop, 30, Drop::NatUnmapped),
        (Preset::PortRestricted, 300, Drop::NatUnmapped),
        (Preset::Cloud, 30, Drop::NatUnmapped),
    ] {
        let Home { mut net, client, nat, server, .. } = home(preset.policy());
        let (own, other) = (net.udp(client, 5000), net.udp(server, 7));
        let seen = net.send(own, end("203.0.113.9:7"), other).unwrap();
        net.secs(secs - 1);
        assert!(net.send(other, seen, own).is_some(), "{}", preset.name());
        net.secs(secs + 1);
        assert_eq!(net.send(other, seen, own), None, "{}", preset.name());
        assert_eq!(net.dropped(nat, cause), 1);
    }
}

#[test]
fn an_idle_connection_is_forgotten_and_linux_picks_it_up_again_when_the_inside_speaks() {
    for (preset, is_picked_up) in [(Preset::LinuxDrop, true), (Preset::PortRestricted, false)] {
        let Home { mut net, client, nat, server, .. } = home(preset.policy());
        let listener = net.listen(server, 80);
        let connection = net.connect(client, "203.0.113.9:80");
        let (accepted, _) = net.accept(listener);
        net.secs(7441);
        assert_eq!(net.fabric.nat_sessions(nat), 0);
        net.write(connection);
        assert_eq!(net.read(accepted), is_picked_up.then_some(Ok(5)), "{}", preset.name());
        assert_eq!(net.dropped(nat, Drop::NatForgotten) > 0, !is_picked_up);
    }
}

/// An open connection through a NAT that has just lost its mappings: the client's end and the server's.
fn rebooted(preset: Preset) -> (Home, TcpKey, TcpKey) {
    let mut home = home(preset.policy());
    let listener = home.net.listen(home.server, 80);
    let connection = home.net.connect(home.client, "203.0.113.9:80");
    let (accepted, _) = home.net.accept(listener);
    home.net.write(connection);
    assert_eq!(home.net.read(accepted), Some(Ok(5)));
    home.net.fabric.reboot_nat(home.nat);
    (home, connection, accepted)
}

#[test]
fn after_a_reboot_a_server_that_speaks_first_is_reset_by_linux_and_meets_silence_elsewhere() {
    let (Home { mut net, .. }, _, accepted) = rebooted(Preset::Linux);
    net.write(accepted);
    assert_eq!(net.read(accepted), Some(Err(ErrorKind::ConnectionReset)));
    for preset in [Preset::LinuxDrop, Preset::FullCone, Preset::Cloud] {
        let (Home { mut net, nat, .. }, connection, accepted) = rebooted(preset);
        net.write(accepted);
        assert_eq!(net.read(accepted), None, "{}", preset.name());
        assert_eq!(net.read(connection), None);
        assert!(net.dropped(nat, Drop::NatUnmapped) > 0);
    }
}

#[test]
fn after_a_reboot_a_client_that_speaks_first_goes_on_is_reset_or_waits() {
    for preset in [Preset::Linux, Preset::LinuxDrop] {
        let (Home { mut net, .. }, connection, accepted) = rebooted(preset);
        net.write(connection);
        assert_eq!(net.read(accepted), Some(Ok(5)), "{}", preset.name());
        net.write(accepted);
        assert_eq!(net.read(connection), Some(Ok(5)));
    }
    let (Home { mut net, .. }, connection, accepted) = rebooted(Preset::Cloud);
    net.write(connection);
    assert_eq!(net.read(connection), Some(Err(ErrorKind::ConnectionReset)));
    assert_eq!(net.read(accepted), None);
    for preset in [Preset::FullCone, Preset::Symmetric, Preset::Cgn] {
        let (Home { mut net, .. }, connection, accepted) = rebooted(preset);
        net.write(connection);
        assert_eq!((net.read(connection), net.read(accepted)), (None, None), "{}", preset.name());
    }
}

#[test]
fn a_router_that_loses_power_loses_its_mappings() {
    let Home { mut net, client, nat, server, .. } = home(Preset::LinuxDrop.policy());
    let (own, other) = (net.udp(client, 5000), net.udp(server, 7));
    let seen = net.send(own, end("203.0.113.9:7"), other).unwrap();
    net.fabric.power_cut(nat);
    net.fabric.power_on(nat);
    assert_eq!(net.fabric.nat_sessions(nat), 0);
    assert_eq!(net.send(other, seen, own), None);
}

#[test]
fn errors_come_back_through_the_nat_to_whom_they_are_for() {
    for preset in Preset::ALL {
        let Home { mut net, client, nat, server, .. } = home(preset.policy());
        let own = net.udp(client, 5000);
        net.fabric.udp_send(own, b"hello", end("203.0.113.9:9")).unwrap();
        net.wait(SETTLED);
        assert_eq!(net.dropped(server, Drop::NoSocket), 1);
        assert_eq!(net.received(client, Kind::Icmp), 1, "port unreachable, through {}", preset.name());
        let refused = net.connect(client, "203.0.113.9:80");
        assert_eq!(net.outcome(refused), Some(Err(ErrorKind::ConnectionRefused)));
        // The router itself knows that nobody is there, and tells whom the packet came from.
        let lost = net.connect(client, "203.0.113.77:80");
        net.secs(4);
        assert_eq!(net.outcome(lost), Some(Err(ErrorKind::HostUnreachable)), "{}", preset.name());
        assert!(net.fabric.nat_sessions(nat) > 0);
    }
}

#[test]
fn errors_from_inside_go_out_with_the_outside_address() {
    let Home { mut net, nat, server, .. } = home(Preset::LinuxDrop.policy());
    net.fabric.forward_port(nat, Protocol::Udp, 53, end("192.168.1.2:53"));
    net.fabric.forward_port(nat, Protocol::Tcp, 80, end("192.168.1.77:80"));
    let own = net.udp(server, 5000);
    net.fabric.udp_send(own, b"hello", end("203.0.113.1:53")).unwrap();
    net.wait(SETTLED);
    assert_eq!(net.received(server, Kind::Icmp), 1, "no socket inside");
    let attempt = net.connect(server, "203.0.113.1:80");
    net.secs(4);
    assert_eq!(net.outcome(attempt), Some(Err(ErrorKind::HostUnreachable)), "no host inside");
}

#[test]
fn a_forwarded_port_reaches_a_machine_inside() {
    for preset in Preset::ALL {
        let Home { mut net, client, nat, server, .. } = home(preset.policy());
        net.fabric.forward_port(nat, Protocol::Tcp, 8080, end("192.168.1.2:80"));
        net.fabric.forward_port(nat, Protocol::Udp, 5670, end("192.168.1.2:5671"));
        let listener = net.listen(client, 80);
        let connection = net.connect(server, "203.0.113.1:8080");
        assert_eq!(net.outcome(connection), Some(Ok(())), "{}", preset.name());
        let (accepted, from) = net.accept(listener);
        assert_eq!(from.ip(), ip("203.0.113.9"));
        net.write(accepted);
        assert_eq!(net.read(connection), Some(Ok(5)));
        let (own, other) = (net.udp(client, 5671), net.udp(server, 9000));
        assert_eq!(net.send(other, end("203.0.113.1:5670"), own), Some(end("203.0.113.9:9000")));
        assert_eq!(net.send(own, end("203.0.113.9:9000"), other), Some(end("203.0.113.1:5670")));
    }
}

#[test]
fn strangers_meet_a_refusal_from_linux_and_silence_elsewhere() {
    let Home { mut net, server, .. } = home(Preset::Linux.policy());
    let attempt = net.connect(server, "203.0.113.1:80");
    assert_eq!(net.outcome(attempt), Some(Err(ErrorKind::ConnectionRefused)));
    for preset in [Preset::LinuxDrop, Preset::FullCone, Preset::Cloud, Preset::Cgn] {
        let Home { mut net, nat, server, .. } = home(preset.policy());
        let attempt = net.connect(server, "203.0.113.1:80");
        assert_eq!(net.outcome(attempt), None, "{}", preset.name());
        assert_eq!(net.dropped(nat, Drop::NatUnmapped), 1);
    }
}

#[test]
fn nobody_outside_reaches_an_inside_address() {
    for preset in [Preset::Linux, Preset::FullCone] {
        let Home { mut net, client, nat, public, .. } = home(preset.policy());
        let burglar = net.client("burglar", (public, "203.0.113.66"), WAN);
        let (own, other) = (net.udp(client, 5000), net.udp(burglar, 5000));
        assert_eq!(net.send(other, end("192.168.1.2:5000"), own), None);
        assert_eq!(net.dropped(nat, Drop::NatUnmapped), 1);
    }
}

#[test]
fn a_mapping_is_closed_to_those_who_were_not_sent_to() {
    for (preset, lets_in) in
        [(Preset::FullCone, true), (Preset::AddrRestricted, true), (Preset::LinuxDrop, false)]
    {
        let Home { mut net, client, nat, server, .. } = home(preset.policy());
        let (own, asked, other) = (net.udp(client, 5000), net.udp(server, 7), net.udp(server, 8));
        let seen = net.send(own, end("203.0.113.9:7"), asked).unwrap();
        assert_eq!(net.send(other, seen, own).is_some(), lets_in, "{}", preset.name());
        assert_eq!(net.dropped(nat, Drop::NatFiltered), u64::from(!lets_in));
    }
}

#[test]
fn no_multicast_passes_a_nat_and_all_pass_between_its_insides() {
    let mut net = Net::new(1);
    let prefixes = ["192.168.1.0/24", "192.168.2.0/24", "203.0.113.0/24"];
    let [one, two, public] = prefixes.map(|prefix| net.segment(prefix));
    let sides = [(one, "192.168.1.1"), (two, "192.168.2.1"), (public, WAN)];
    let (router, interfaces) = net.host("router", &sides);
    net.fabric.make_router(router);
    net.fabric.translate(interfaces[2], Preset::Linux.policy());
    let group: std::net::IpAddr = "239.1.2.3".parse().unwrap();
    let sides = [(one, "192.168.1.2"), (two, "192.168.2.2"), (public, "203.0.113.9")];
    let sockets: Vec<UdpKey> = sides
        .iter()
        .map(|side| {
            let (host, _) = net.host(side.1, &[*side]);
            let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5000));
            let options = UdpOptions { multicast_ttl: 4, ..UdpOptions::at(at) };
            let socket = net.fabric.udp_bind(host, &options).unwrap();
            net.fabric.udp_join(socket, group, ip(side.1).into()).unwrap();
            socket
        })
        .collect();
    for (from, hear) in [(0, [true, true, false]), (1, [true, true, false]), (2, [false, false, true])] {
        net.fabric.udp_send(sockets[from], b"hello", SocketAddr::new(group, 5000)).unwrap();
        net.wait(SETTLED);
        let heard: Vec<bool> = sockets.iter().map(|socket| !net.heard(*socket).is_empty()).collect();
        assert_eq!(heard, hear, "from {}", sides[from].1);
    }
}

#[test]
fn an_error_about_a_hairpinned_packet_comes_back_to_its_sender() {
    let Home { mut net, client, nat, server, .. } = home(Preset::FullCone.policy());
    let (own, other) = (net.udp(client, 5000), net.udp(server, 7));
    let seen = net.send(own, end("203.0.113.9:7"), other).unwrap();
    let closed = net.udp(client, 5001);
    let gone = net.send(closed, end("203.0.113.9:7"), other).unwrap();
    net.fabric.udp_close(closed);
    net.fabric.udp_send(own, b"hello", gone).unwrap();
    net.wait(SETTLED);
    assert_eq!(net.dropped(client, Drop::NoSocket), 1, "it came there from {seen}");
    assert_eq!(net.received(client, Kind::Icmp), 1);
    assert_eq!(net.received(nat, Kind::Icmp), 1);
}

#[test]
fn a_machine_inside_asks_the_router_itself_at_the_outside_address_of_linux() {
    let Home { mut net, client, .. } = home(Preset::Linux.policy());
    let attempt = net.connect(client, "203.0.113.1:80");
    assert_eq!(net.outcome(attempt), Some(Err(ErrorKind::ConnectionRefused)));
}

#[test]
fn a_docker_host_lets_its_containers_out_and_others_in_by_published_ports_only() {
    docker(true);
}

#[test]
fn without_the_proxy_a_docker_host_translates_what_comes_from_its_own_bridge() {
    docker(false);
}

fn docker(has_proxy: bool) {
    let mut net = Net::new(1);
    let (bridge, lan) = (net.segment("172.17.0.0/16"), net.segment("192.168.1.0/24"));
    net.fabric.set_medium(bridge, Medium::Bridge { is_open: true }, true);
    let docker = net.nat("alpha", (bridge, "172.17.0.1"), (lan, "192.168.1.2"), Preset::Linux.policy());
    net.fabric.publish_ports(docker, has_proxy);
    let container = net.client("container", (bridge, "172.17.0.2"), "172.17.0.1");
    let neighbour = net.client("neighbour", (bridge, "172.17.0.3"), "172.17.0.1");
    net.fabric.put_on_docker_host(container, docker);
    net.fabric.put_on_docker_host(neighbour, docker);
    net.fabric.forward_port(docker, Protocol::Tcp, 8080, end("172.17.0.2:80"));
    let other = net.client("other", (lan, "192.168.1.9"), "192.168.1.2");
    let (echo, listener) = (net.udp(other, 7), net.listen(other, 443));
    let own = net.udp(container, 5000);
    let seen = net.send(own, end("192.168.1.9:7"), echo).unwrap();
    assert_eq!(seen, end("192.168.1.2:5000"));
    assert_eq!(net.send(echo, seen, own), Some(end("192.168.1.9:7")));
    let connection = net.connect(container, "192.168.1.9:443");
    assert_eq!(net.outcome(connection), Some(Ok(())));
    assert_eq!(net.accept(listener).1.ip(), ip("192.168.1.2"));
    let published = net.listen(container, 80);
    let connection = net.connect(other, "192.168.1.2:8080");
    assert_eq!(net.outcome(connection), Some(Ok(())));
    assert_eq!(net.accept(published).1.ip(), ip("192.168.1.9"));
    let connection = net.connect(other, "192.168.1.2:80");
    assert_eq!(net.outcome(connection), Some(Err(ErrorKind::ConnectionRefused)));
    for own in ["192.168.1.2:8080", "172.17.0.1:8080"] {
        let connection = net.connect(neighbour, own);
        if has_proxy {
            assert_eq!(net.outcome(connection), Some(Err(ErrorKind::ConnectionRefused)), "no proxy is there");
        } else {
            assert_eq!(net.outcome(connection), Some(Ok(())), "also from the bridge itself, at {own}");
            let (accepted, from) = net.accept(published);
            assert_eq!(from.ip(), ip("172.17.0.3"), "as itself");
            net.write(accepted);
            assert_eq!(net.read(connection), Some(Ok(5)), "answers cross the bridge");
            let connection = net.connect(container, own);
            assert_eq!(net.outcome(connection), Some(Ok(())), "also from itself");
            assert_eq!(net.accept(published).1.ip(), ip("172.17.0.1"), "as the gateway");
        }
    }
    let connection = net.connect(docker, "192.168.1.2:8080");
    assert_eq!(net.outcome(connection), Some(Ok(())), "also from the host");
    let seen = if has_proxy { "192.168.1.2" } else { "172.17.0.1" };
    assert_eq!(net.accept(published).1.ip(), ip(seen));
    let connection = net.connect(neighbour, "192.168.1.2:81");
    assert_eq!(net.outcome(connection), Some(Err(ErrorKind::ConnectionRefused)));
    assert_eq!(net.send(echo, end("172.17.0.2:5000"), own), None);
    assert_eq!(net.dropped(docker, Drop::NatUnmapped), 1);
}

#[test]
fn a_nat_at_rest_makes_no_events() {
    let Home { mut net, client, nat, server, .. } = home(Preset::Linux.policy());
    let (own, other) = (net.udp(client, 5000), net.udp(server, 7));
    net.send(own, end("203.0.113.9:7"), other);
    assert_eq!(net.fabric.nat_sessions(nat), 1);
    assert_eq!(net.fabric.next_at().filter(|at| *at > Timestamp::ZERO), None);
}
