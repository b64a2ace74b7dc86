//! Hailers that are found by other ways than the broadcast of one interface: multicast groups, IPv6, a new address, several
//! interfaces; and the tools beside them.

use std::net::{Ipv4Addr, SocketAddr};

use hailer::net::{Net, TcpListener, UdpOptions, UdpSocket};
use serde_json::json;

use super::inside::Inside;
use super::lab::{self, Lab};
use super::peer::{Peer, SOON};
use super::sites::Sites;
use super::with_pyre;

/// A beacon as the Haskell tools, gyre and go-zyre send them: to a group, from an address whose port does not matter.
#[tokio::test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
async fn a_beacon_to_any_group_of_the_family_is_answered_with_a_connection() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(2);
    let mut ours = Peer::hailer_chat(&lab, 0, "ours", "CHAT");
    ours.expect_remark(SOON, "in CHAT");
    let island = Inside::new(lab.namespace(1));
    let address = lab.address(1);
    let options =
        UdpOptions { multicast_from: Some(address.into()), ..UdpOptions::at(SocketAddr::from((address, 0))) };
    let mouth = island.bind_udp(&options).expect("a socket");
    for group in [[225, 25, 25, 25], [224, 0, 0, 250], [224, 0, 0, 1]].map(Ipv4Addr::from) {
        let inbox = island.listen(SocketAddr::from((address, 0))).expect("a listener");
        let port = inbox.local_addr().expect("it is bound").port();
        let beacon = [&b"ZRE\x01"[..], &group.octets().repeat(4), &port.to_be_bytes()].concat();
        mouth.send_to(&beacon, SocketAddr::from((group, 5670))).await.expect("sent");
        let (_, from) = inbox.accept().await.expect("somebody connects");
        assert_eq!(from.ip(), lab.address(0), "{group}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn hailers_that_say_nothing_over_ipv4_meet_over_ipv6() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Lab::new(2);
    let start = |host, name: &str| {
        let file = format!(
            "[zre]\nname = \"{name}\"\ngroups = [\"CHAT\"]\ninterface = \"eth0\"\nipv6 = true\nbroadcast = \"never\"\n"
        );
        Peer::hailer_run(&lab, host, name, &file)
    };
    let (mut alice, mut bob) = (start(0, "alice"), start(1, "bob"));
    let entered = alice.expect(SOON, json!({"event": "ENTER", "name": "bob"}));
    assert!(entered["endpoint"].as_str().is_some_and(|at| at.starts_with("tcp://[fe80::")), "{entered}");
    bob.expect(SOON, json!({"event": "JOIN", "name": "alice", "group": "CHAT"}));
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn nodes_of_two_ipv6_networks_meet_through_a_hub_where_no_ipv4_leads_across() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let sites = Sites::new(2, 2, false);
    sites.add_ipv6();
    let mut command = sites.command(1, 1, env!("CARGO_BIN_EXE_hailer"));
    command.args(["gossip", "--address", "::", "--json"]);
    let _hub = Peer::start("hub", command);
    let start = |site, name: &str| {
        let mut command = sites.command(site, 2, env!("CARGO_BIN_EXE_hailer"));
        command.args(["chat", "CHAT", "--json", "--interface", "eth0", "--ipv6", "--name", name]);
        command.args(["--gossip", "tcp://[fd00:81::1]:31337"]);
        Peer::start(name, command)
    };
    let (mut alice, mut bob) = (start(1, "alice"), start(2, "bob"));
    let entered = alice.expect(SOON, json!({"event": "ENTER", "name": "bob"}));
    assert!(
        entered["endpoint"].as_str().is_some_and(|at| at.starts_with("tcp://[fd00:82::2]:")),
        "{entered}"
    );
    bob.expect(SOON, json!({"event": "JOIN", "name": "alice", "group": "CHAT"}));
    alice.expect(SOON, json!({"event": "JOIN", "name": "bob", "group": "CHAT"}));
    alice.say("hello over there");
    bob.expect(SOON, json!({"event": "SHOUT", "name": "alice", "content": ["hello over there"]}));
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn a_hailer_that_gets_another_address_is_back_in_seconds_for_hailer_and_for_pyre() {
    if !with_pyre::is_possible() {
        return;
    }
    let lab = Lab::new(3);
    let mut mover = Peer::hailer_chat(&lab, 0, "mover", "CHAT");
    let mut stayer = Peer::hailer_chat(&lab, 1, "stayer", "CHAT");
    let (mut snake, _) = Peer::pyre(&lab, 2, "snake", &["CHAT"]);
    for peer in [&mut stayer, &mut snake] {
        peer.expect(SOON, json!({"event": "ENTER", "name": "mover"}));
        peer.expect(SOON, json!({"event": "JOIN", "name": "mover"}));
    }
    mover.expect(SOON, json!({"event": "JOIN", "name": "stayer"}));
    mover.expect(SOON, json!({"event": "JOIN", "name": "snake"}));
    lab.readdress(0, Ipv4Addr::new(10, 77, 0, 99));
    for peer in [&mut stayer, &mut snake] {
        peer.expect(SOON, json!({"event": "EXIT", "name": "mover"}));
        let entered = peer.expect(SOON, json!({"event": "ENTER", "name": "mover"}));
        assert!(entered["endpoint"].as_str().is_some_and(|at| at.starts_with("tcp://10.77.0.99:")));
        peer.expect(SOON, json!({"event": "JOIN", "name": "mover"}));
    }
    mover.expect(SOON, json!({"event": "EXIT", "name": "snake"}));
    mover.expect(SOON, json!({"event": "JOIN", "name": "snake"}));
    mover.say("here I am");
    for peer in [&mut stayer, &mut snake] {
        peer.expect(SOON, json!({"event": "SHOUT", "name": "mover", "content": ["here I am"]}));
    }
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn ping_measures_a_pyre_and_ends_by_itself() {
    if !with_pyre::is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let (_snake, id) = Peer::pyre(&lab, 0, "snake", &[]);
    let mut ping =
        Peer::hailer(&lab, 1, "ping", &["ping", "snake", "--count", "2", "--every", "100ms", "-i", "eth0"]);
    for _ in 0..2 {
        let pong = ping.expect(SOON, json!({"event": "PONG", "peer": id}));
        assert!(pong["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{pong}");
    }
    let summary = ping.expect(SOON, json!({"event": "SUMMARY", "name": "snake"}));
    assert_eq!((&summary["asked"], &summary["answered"]), (&json!(2), &json!(2)));
    assert!(ping.ended(SOON).success());
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn cat_says_its_input_to_pyre_and_ends_with_it() {
    if !with_pyre::is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let (mut snake, _) = Peer::pyre(&lab, 0, "snake", &["CHAT"]);
    let mut cat = Peer::hailer(&lab, 1, "cat", &["cat", "CHAT", "--name", "cat", "-i", "eth0"]);
    cat.say("first line");
    snake
        .expect(SOON, json!({"event": "SHOUT", "name": "cat", "group": "CHAT", "content": ["first line\n"]}));
    snake.tell(json!({"do": "shout", "group": "CHAT", "content": ["heard"]}));
    cat.expect(SOON, json!({"event": "SHOUT", "name": "snake", "content": ["heard"]}));
    cat.end_input();
    snake.expect(SOON, json!({"event": "EXIT", "name": "cat"}));
    assert!(cat.ended(SOON).success());
}

#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn hailers_elect_a_leader_beside_a_pyre_that_must_not_hear_of_it() {
    if !with_pyre::is_possible() {
        return;
    }
    let lab = Lab::new(3);
    let (mut snake, _) = Peer::pyre(&lab, 2, "snake", &["CHAT"]);
    let start = |host, name: &str, first: char| {
        let identity = first.to_string().repeat(32);
        let file = format!(
            "[zre]\nname = \"{name}\"\nidentity = \"{identity}\"\ngroups = [\"CHAT\"]\ncontest = [\"CHAT\"]\ninterface = \"eth0\"\n"
        );
        Peer::hailer_run(&lab, host, name, &file)
    };
    let mut alice = start(0, "alice", 'b');
    alice.expect(SOON, json!({"event": "LEADER", "name": "alice", "group": "CHAT"}));
    let mut bob = start(1, "bob", 'a');
    for peer in [&mut alice, &mut bob] {
        peer.expect(SOON, json!({"event": "LEADER", "name": "bob", "group": "CHAT"}));
    }
    bob.interrupt();
    alice.expect(SOON, json!({"event": "LEADER", "name": "alice", "group": "CHAT"}));
    snake.expect(SOON, json!({"event": "EXIT", "name": "bob"}));
    snake.tell(json!({"do": "shout", "group": "CHAT", "content": ["still here"]}));
    alice.expect(SOON, json!({"event": "SHOUT", "name": "snake"}));
    snake.has_not_said(json!({"event": "EXIT", "name": "alice"}));
}
