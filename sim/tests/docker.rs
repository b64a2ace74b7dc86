//! Docker's networks as a scenario describes them: how long packets on an overlay may be, and which names lead where.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use hailer::Timestamp;
use hailer::net::UdpOptions;
use hailer_sim::fabric::packet::{Body, Packet};
use hailer_sim::fabric::tap::Tap;
use hailer_sim::fabric::{HostId, InterfaceId};
use hailer_sim::scenario::Scenario;
use hailer_sim::world::layout::Layout;
use tokio::io::ReadBuf;

/// A swarm of two hosts, with tasks of one service on both, and one of another.
const SWARM: &str = r#"
[scenario]
about = "a swarm of two hosts"
duration = "10 s"

[[segment]]
name = "lan"
prefix = "192.168.1.0/24"
link = "lan"

[[docker_host]]
name = "alpha"
segment = "lan"

[[docker_host]]
name = "beta"
segment = "lan"

[[docker_network]]
name = "mesh"
driver = "overlay"

[[container]]
name = "a"
count = 2
host = "alpha"
network = "mesh"
service = "web"

[[container]]
name = "b"
host = "beta"
network = "mesh"
service = "web"

[[container]]
name = "c"
host = "beta"
network = "mesh"
service = "db"

[[expect]]
always = "nobody-unknown-appears"
"#;

/// The longest packet of an overlay, and of the network between its hosts.
const INNER_MTU: u16 = 1450;
const OUTER_MTU: u16 = 1500;

/// Every packet that leaves an interface.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<Packet>>>);

impl Tap for Seen {
    fn sent(&mut self, _at: Timestamp, _from: InterfaceId, packet: &Packet) {
        self.0.lock().unwrap().push(packet.clone());
    }

    fn finish(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Swarm {
    layout: Layout,
    scenario: Scenario,
    seen: Seen,
}

impl Swarm {
    fn new() -> Self {
        let scenario = Scenario::parse("swarm.toml", SWARM).unwrap_or_else(|problems| panic!("{problems}"));
        let (mut layout, seen) = (Layout::new(&scenario, 1), Seen::default());
        layout.hosts.iter().for_each(|host| layout.fabric.power_on(*host));
        layout.fabric.add_tap(Box::new(seen.clone()));
        Self { layout, scenario, seen }
    }

    fn machine(&self, name: &str) -> (HostId, Ipv4Addr) {
        let index = self.scenario.nodes.iter().position(|node| node.name == name).unwrap();
        (self.layout.hosts[index], self.scenario.nodes[index].interfaces[0].address)
    }

    /// The packets so far, those inside of tunnels and those around them.
    fn packets(&self) -> (Vec<Packet>, Vec<Packet>) {
        self.seen.0.lock().unwrap().drain(..).partition(|packet| !matches!(packet.body, Body::Vxlan(_)))
    }
}

#[test]
fn tcp_on_an_overlay_makes_segments_that_fit_with_their_tunnel_around_them() {
    let mut swarm = Swarm::new();
    let ((from, _), (to, address)) = (swarm.machine("a1"), swarm.machine("b"));
    let fabric = &mut swarm.layout.fabric;
    let listener = fabric.tcp_listen(to, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80))).unwrap();
    let stream = fabric.tcp_connect(from, SocketAddr::from((address, 80)), None).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let (data, mut buffer) = (vec![7; 100_000], vec![0; 100_000]);
    let (mut sent, mut received, mut accepted) = (0, 0, None);
    while received < data.len() {
        assert!(fabric.next_at().is_some_and(|next| next < Timestamp::from_millis(10_000)), "{received}");
        fabric.step();
        if let Poll::Ready(written) = fabric.tcp_poll_write(stream, &mut context, &data[sent..]) {
            sent += written.unwrap();
        }
        if let Poll::Ready(incoming) = fabric.listener_poll_accept(listener, &mut context) {
            accepted = Some(incoming.unwrap().0);
        }
        let Some(accepted) = accepted else { continue };
        let mut into = ReadBuf::new(&mut buffer);
        if let Poll::Ready(read) = fabric.tcp_poll_read(accepted, &mut context, &mut into) {
            read.unwrap();
            received += into.filled().len();
        }
    }
    let (inner, outer) = swarm.packets();
    let longest = |packets: &[Packet]| packets.iter().map(Packet::wire_len).max();
    assert_eq!(longest(&inner), Some(usize::from(INNER_MTU)), "segments are as long as the overlay takes");
    assert_eq!(
        longest(&outer),
        Some(usize::from(OUTER_MTU)),
        "with IP, UDP, VXLAN and Ethernet: 50 bytes more"
    );
    assert!(outer.iter().all(|packet| packet.pieces(OUTER_MTU).count == 1), "no tunnel cuts anything");
    let mss = inner.iter().find_map(|packet| match &packet.body {
        Body::Tcp(segment) if segment.syn => segment.mss,
        _ => None,
    });
    assert_eq!(mss, Some(INNER_MTU - 40));
}

#[test]
fn a_datagram_that_is_too_long_for_an_overlay_travels_in_fragments_with_a_tunnel_around_each() {
    let mut swarm = Swarm::new();
    let ((from, _), (to, address)) = (swarm.machine("a1"), swarm.machine("b"));
    let fabric = &mut swarm.layout.fabric;
    let at = |port| UdpOptions::at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let (sender, receiver) = (fabric.udp_bind(from, &at(1)).unwrap(), fabric.udp_bind(to, &at(7)).unwrap());
    fabric.udp_send(sender, &[5; 1500], SocketAddr::from((address, 7))).unwrap();
    while fabric.next_at().is_some() {
        fabric.step();
    }
    let (mut context, mut buffer) = (Context::from_waker(Waker::noop()), [0; 2000]);
    let Poll::Ready(heard) = fabric.udp_poll_recv(receiver, &mut context, &mut buffer) else {
        panic!("nothing came");
    };
    assert_eq!(heard.unwrap().0, 1500, "it is put together again");
    let (inner, outer) = swarm.packets();
    let pieces = |packets: &[Packet], mtu| {
        assert_eq!(packets.len(), 1);
        let pieces = packets[0].pieces(mtu);
        (pieces.count, pieces.each, pieces.last)
    };
    // 1508 bytes with UDP's header. Of a packet with 1450 bytes 1430 are behind the IP header, and offsets count in eights.
    let (first, last) = (20 + 1424, 20 + 84);
    assert_eq!(pieces(&inner, INNER_MTU), (2, first, last));
    assert_eq!(pieces(&outer, OUTER_MTU), (2, first + 50, last + 50));
}

#[test]
fn the_tasks_of_a_service_have_an_address_each_under_one_name() {
    let swarm = Swarm::new();
    let addresses = |names: &[&str]| {
        let mut addresses: Vec<IpAddr> = names.iter().map(|name| swarm.machine(name).1.into()).collect();
        addresses.sort();
        addresses
    };
    for asker in ["a1", "b", "c"] {
        let found = |name| {
            let mut found = swarm.layout.fabric.addresses_of(swarm.machine(asker).0, name);
            found.sort();
            found
        };
        assert_eq!(found("tasks.web"), addresses(&["a1", "a2", "b"]), "as {asker} sees it");
        assert_eq!(found("tasks.db"), addresses(&["c"]));
        assert!(found("tasks.nothing").is_empty());
    }
    let (host, _) = swarm.machine("alpha");
    let asked = swarm.layout.fabric.addresses_of(host, "tasks.web");
    assert!(asked.is_empty(), "the host itself does not ask the engine");
}
