//! Our own addresses: several at once, and such that change.

use super::homes::Home;
use super::*;

fn home(address: &str, prefix: u8, scope: u32) -> Home {
    Home { address: address.parse().unwrap(), prefix, scope }
}

fn two_homes() -> Rig {
    let mut rig = Rig::new();
    let homes = vec![home("10.0.0.1", 24, 0), home("10.1.0.1", 24, 0)];
    assert_eq!(rig.feed(Input::Homes(homes)), []);
    rig
}

/// A hub tells of this peer.
fn find(rig: &mut Rig, peer: PeerId, at: &str) -> Vec<Output> {
    rig.feed(Input::Found { peer, endpoint: at.parse().unwrap() })
}

/// The endpoint that we tell in the HELLO among these.
fn told(outputs: &[Output]) -> String {
    let (link, _) = dialled(outputs)[0].clone();
    let Body::Hello(hello) = sent(outputs, link)[0].body.clone() else { panic!("HELLO comes first") };
    hello.endpoint.to_string()
}

#[test]
fn each_peer_is_told_the_address_that_is_on_its_own_network() {
    let mut rig = two_homes();
    assert_eq!(told(&rig.beacon(ALICE, "10.0.0.2:49152")), "tcp://10.0.0.1:49152");
    assert_eq!(told(&rig.beacon(BOB, "10.1.0.2:49152")), "tcp://10.1.0.1:49152");
    let far = PeerId::from_bytes([3; 16]);
    assert_eq!(told(&rig.beacon(far, "192.168.7.2:49152")), "tcp://10.0.0.1:49152", "the first");
}

#[test]
fn who_is_on_none_of_our_networks_is_told_an_address_of_its_family() {
    let mut rig = Rig::new();
    let homes = vec![home("10.0.0.1", 24, 0), home("2001:db8:1::1", 64, 0), home("fe80::1", 64, 3)];
    rig.feed(Input::Homes(homes));
    let place_for = |hub: &str| rig.machine.place_for(&hub.parse().unwrap()).to_string();
    assert_eq!(place_for("tcp://[2001:db8:3::3]:31337"), "tcp://[2001:db8:1::1]:49152");
    assert_eq!(place_for("tcp://hub.example:31337"), "tcp://10.0.0.1:49152");
    assert_eq!(told(&find(&mut rig, ALICE, "tcp://[2001:db8:2::2]:49152")), "tcp://[2001:db8:1::1]:49152");
    assert_eq!(told(&find(&mut rig, BOB, "tcp://192.168.7.2:49152")), "tcp://10.0.0.1:49152");
}

#[test]
fn a_peer_that_comes_over_ipv6_is_not_waited_for_at_the_ipv4_address_that_gossip_told() {
    let mut rig = Rig::new();
    rig.feed(Input::Homes(vec![home("2001:db8:1::1", 64, 0)]));
    find(&mut rig, ALICE, "tcp://10.0.0.2:49152");
    let link = rig.accept(ALICE, "[2001:db8:2::2]:33333");
    let outputs = rig.receive(link, 1, hello("tcp://[2001:db8:2::2]:49152", &[]));
    assert_eq!(dialled(&outputs)[0].1, "tcp://[2001:db8:2::2]:49152");
    // Who beacons to us from there is there.
    rig.beacon(BOB, "10.0.0.3:49152");
    let link = rig.accept(BOB, "[2001:db8:2::3]:33333");
    let outputs = rig.receive(link, 1, hello("tcp://[2001:db8:2::3]:49152", &[]));
    assert_eq!(dialled(&outputs), []);
}

#[test]
fn none_of_our_addresses_is_taken_for_a_peer() {
    let mut rig = two_homes();
    assert_eq!(rig.beacon(ALICE, "10.1.0.1:49152"), []);
    let link = rig.accept(ALICE, "10.1.0.1:33333");
    assert_eq!(story(&rig.receive(link, 1, hello("tcp://10.1.0.1:49152", &[]))), "");
    assert_eq!(rig.machine.counters().hellos_of_our_place, 1);
    assert_eq!(
        dialled(&rig.beacon(ALICE, "10.1.0.1:49153")).len(),
        1,
        "a second node on this machine is one"
    );
}

#[test]
fn a_new_address_is_told_at_once_to_those_who_knew_the_old_one_and_to_nobody_else() {
    let mut rig = two_homes();
    let (_, alice) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.meet(BOB, "10.1.0.2:49152", &[]);
    let homes = vec![home("10.0.0.77", 24, 0), home("10.1.0.1", 24, 0)];
    let outputs = rig.feed(Input::Homes(homes.clone()));
    assert_eq!((told(&outputs).as_str(), dialled(&outputs).len()), ("tcp://10.0.0.77:49152", 1));
    assert!(outputs.contains(&Output::Close(alice)));
    assert_eq!(story(&outputs), "", "we lost nobody");
    assert_eq!(rig.machine.endpoint().to_string(), "tcp://10.0.0.77:49152");
    assert_eq!(rig.feed(Input::Homes(homes)), []);
    assert_eq!(dialled(&rig.beacon(BOB, "10.0.0.1:49152")), [], "BOB is known");
}

#[test]
fn a_node_without_any_address_waits_and_goes_on_with_the_same_one() {
    let mut rig = Rig::new();
    rig.feed(Input::Homes(vec![home("10.0.0.1", 24, 0)]));
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    assert_eq!(rig.feed(Input::Homes(vec![])), []);
    assert_eq!(rig.feed(Input::Homes(vec![home("10.0.0.1", 24, 0)])), []);
    let outputs = rig.feed(Input::Homes(vec![home("10.0.0.5", 24, 0)]));
    assert_eq!(told(&outputs), "tcp://10.0.0.5:49152");
}

#[test]
fn an_interface_that_appears_costs_the_peers_of_the_others_nothing() {
    let mut rig = Rig::new();
    rig.feed(Input::Homes(vec![home("10.0.0.1", 24, 0)]));
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let homes = vec![home("10.0.0.1", 24, 0), home("10.1.0.1", 24, 0)];
    assert_eq!(rig.feed(Input::Homes(homes)), []);
    assert_eq!(told(&rig.beacon(BOB, "10.1.0.2:49152")), "tcp://10.1.0.1:49152");
}

#[test]
fn link_local_addresses_are_told_without_their_scope_and_dialled_with_it() {
    let mut rig = Rig::new();
    rig.feed(Input::Homes(vec![home("10.0.0.1", 24, 0), home("fe80::1", 64, 3), home("fe80::1", 64, 4)]));
    let from = std::net::SocketAddrV6::new("fe80::9".parse().unwrap(), 5670, 0, 4).into();
    let outputs = rig.feed(Input::Beacon { from, beacon: Ok(Beacon { peer: ALICE, port: 49152 }) });
    assert_eq!(dialled(&outputs)[0].1, "tcp://[fe80::9%4]:49152");
    assert_eq!(told(&outputs), "tcp://[fe80::1]:49152");
    rig.last_inbound += 1;
    let link = InboundLink::from_number(rig.last_inbound);
    let remote = std::net::SocketAddrV6::new("fe80::8".parse().unwrap(), 33333, 0, 3).into();
    let identity = Bytes::from([&[1], &BOB.as_bytes()[..]].concat());
    rig.feed(Input::InboundOpened { link, identity, remote });
    let outputs = rig.receive(link, 1, hello("tcp://[fe80::8]:49152", &[]));
    assert_eq!(dialled(&outputs)[0].1, "tcp://[fe80::8%3]:49152");
}
