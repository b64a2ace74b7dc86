//! The repeater between sites, with stock pyre, and in a ring with the original's data path on libzmq.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::peer::{Peer, SOON};
use super::sites::Sites;
use super::with_pyre::is_possible;
use super::{lab, peer};

/// `hailer repeater` on the gateway of a site, for its LAN.
fn repeater(lab: &Sites, site: u8, others: &[u8], options: &[&str]) -> Peer {
    let mut command = lab.command(site, 1, env!("CARGO_BIN_EXE_hailer"));
    command.args(["repeater", "-v", "--json", "--interface", "eth0"]).args(options);
    for other in others {
        command.args(["--repeater", &format!("10.80.0.{other}")]);
    }
    Peer::start(&format!("repeater {site}"), command)
}

/// `hailer run` on the gateway of a site, with this table for its repeater.
fn configured(lab: &Sites, site: u8, folder: &Path, table: &str) -> Peer {
    let file = folder.join(format!("{site}.toml"));
    std::fs::write(&file, format!("[repeater]\n{table}\n")).expect("the folder is ours");
    let mut command = lab.command(site, 1, env!("CARGO_BIN_EXE_hailer"));
    command.args(["run", "-v", "--json", "--config", file.to_str().expect("the path is text")]);
    Peer::start(&format!("repeater {site}"), command)
}

fn original(lab: &Sites, site: u8, others: &[u8]) -> Peer {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/original_repeater.py");
    let mut command = lab.command(site, 1, peer::python().to_str().expect("the path is text"));
    command.args([script, &format!("10.{}.0.1", 80 + site), &format!("10.{}.0.255", 80 + site)]);
    command.args(others.iter().map(|other| format!("10.80.0.{other}")));
    let mut repeater = Peer::start(&format!("original {site}"), command);
    repeater.expect(SOON, json!({"event": "STARTED"}));
    repeater
}

fn hailer(lab: &Sites, site: u8, host: u8, name: &str) -> Peer {
    let mut command = lab.command(site, host, env!("CARGO_BIN_EXE_hailer"));
    command.args(["chat", "CHAT", "--json", "--interface", "eth0", "--name", name]);
    Peer::start(name, command)
}

fn pyre(lab: &Sites, site: u8, host: u8, name: &str) -> (Peer, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/pyre_peer.py");
    let mut command = lab.command(site, host, peer::python().to_str().expect("the path is text"));
    command.args([script, name, "CHAT"]);
    let mut peer = Peer::start(name, command);
    let started = peer.expect(SOON, json!({"event": "STARTED", "name": name}));
    let id = started["peer"].as_str().expect("an identity").to_owned();
    (peer, id)
}

fn joined(name: &str) -> Value {
    json!({"event": "JOIN", "name": name, "group": "CHAT"})
}

fn said(name: &str, text: &str) -> Value {
    json!({"event": "SHOUT", "name": name, "content": [text]})
}

#[test]
#[ignore = "needs root and network namespaces: .ci/run runs them"]
fn nodes_of_two_sites_meet_talk_and_part() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Sites::new(2, 2, true);
    let mut repeaters = [repeater(&lab, 1, &[2], &[]), repeater(&lab, 2, &[1], &[])];
    let mut alice = hailer(&lab, 1, 2, "alice");
    let mut bob = hailer(&lab, 2, 2, "bob");
    alice.expect(SOON, joined("bob"));
    bob.expect(SOON, joined("alice"));
    alice.say("hello across");
    bob.expect(SOON, said("alice", "hello across"));
    // They meet when one of them hears of the other: the second repeater may not listen to the first by then.
    let [alice_id, bob_id] = [1, 2].map(|site: u8| {
        let (here, there) = (usize::from(site) - 1, usize::from(2 - site));
        let peer = repeaters[here].expect(SOON, json!({"event": "NODE-HERE"}))["peer"].clone();
        let elsewhere = json!({
            "event": "NODE-ELSEWHERE", "peer": peer, "repeater": format!("10.80.0.{site}:2340"),
        });
        repeaters[there].expect(SOON, elsewhere);
        peer
    });
    alice.end_input();
    bob.expect(SOON, json!({"event": "EXIT", "name": "alice"}));
    repeaters[1].expect(SOON, json!({"event": "NODE-GONE", "peer": alice_id}));
    bob.end_input();
    repeaters[0].expect(SOON, json!({"event": "NODE-GONE", "peer": bob_id}));
}

/// libzmq's PUB takes our SUB's subscription, and its SUB hears our PUB.
#[test]
#[ignore = "needs root, network namespaces and pyzmq: .ci/run runs them"]
fn the_original_repeats_in_the_same_ring() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(3, 2, true);
    let _original = original(&lab, 1, &[2, 3]);
    let _ours = [repeater(&lab, 2, &[1, 3], &[]), repeater(&lab, 3, &[1, 2], &[])];
    let mut nodes: Vec<_> = (1..=3).map(|site| hailer(&lab, site, 2, &format!("n{site}"))).collect();
    for site in 1..=3 {
        for other in (1..=3).filter(|other| *other != site) {
            nodes[site - 1].expect(SOON, joined(&format!("n{other}")));
        }
    }
    nodes[0].say("hello ring");
    nodes[1].expect(SOON, said("n1", "hello ring"));
    nodes[2].expect(SOON, said("n1", "hello ring"));
    nodes[1].end_input();
    nodes[0].expect(SOON, json!({"event": "EXIT", "name": "n2"}));
    nodes[2].expect(SOON, json!({"event": "EXIT", "name": "n2"}));
}

/// Stock pyre dies of the original's format. With stand-ins it meets stock pyre and hailer elsewhere and talks to them.
#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn stock_pyre_meets_stock_pyre_by_stand_ins() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(2, 3, true);
    let _repeaters = [1, 2].map(|site| repeater(&lab, site, &[3 - site], &["--announce", "stand-in"]));
    let (mut snake, _) = pyre(&lab, 1, 2, "snake");
    let (mut adder, adder_id) = pyre(&lab, 2, 2, "adder");
    let mut ours = hailer(&lab, 1, 3, "ours");
    snake.expect(SOON, joined("adder"));
    adder.expect(SOON, joined("snake"));
    adder.expect(SOON, joined("ours"));
    ours.expect(SOON, joined("adder"));
    // Who shouts has to know who is to hear it.
    snake.expect(SOON, joined("ours"));
    snake.tell(json!({"do": "shout", "group": "CHAT", "content": ["hiss"]}));
    adder.expect(SOON, said("snake", "hiss"));
    ours.expect(SOON, said("snake", "hiss"));
    adder.tell(json!({"do": "shout", "group": "CHAT", "content": ["hiss back"]}));
    snake.expect(SOON, said("adder", "hiss back"));
    ours.expect(SOON, said("adder", "hiss back"));
    adder.tell(json!({"do": "stop"}));
    snake.expect(SOON, json!({"event": "EXIT", "peer": adder_id}));
    ours.expect(SOON, json!({"event": "EXIT", "peer": adder_id}));
}

/// Nobody reaches anybody at the other site but the gateways each other, and all talk all the same.
#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn without_a_route_the_repeaters_carry_the_connections() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(2, 3, false);
    let mut repeaters = [1, 2].map(|site| repeater(&lab, site, &[3 - site], &["--relay", "--counters"]));
    let (mut snake, snake_id) = pyre(&lab, 1, 2, "snake");
    let (mut adder, _) = pyre(&lab, 2, 2, "adder");
    let mut alice = hailer(&lab, 1, 3, "alice");
    let mut bob = hailer(&lab, 2, 3, "bob");
    for (here, there) in [(&mut snake, ["adder", "bob"]), (&mut alice, ["adder", "bob"])] {
        there.iter().for_each(|name| drop(here.expect(SOON, joined(name))));
    }
    for (here, there) in [(&mut adder, ["snake", "alice"]), (&mut bob, ["snake", "alice"])] {
        there.iter().for_each(|name| drop(here.expect(SOON, joined(name))));
    }
    alice.say("through two tunnels");
    for there in [&mut adder, &mut bob] {
        there.expect(SOON, said("alice", "through two tunnels"));
    }
    adder.tell(json!({"do": "shout", "group": "CHAT", "content": ["and back"]}));
    for there in [&mut snake, &mut alice] {
        there.expect(SOON, said("adder", "and back"));
    }
    snake.tell(json!({"do": "stop"}));
    for there in [&mut adder, &mut bob] {
        there.expect(SOON, json!({"event": "EXIT", "peer": snake_id}));
    }
    // Four pairs at different sites, each with a connection each way; those of snake are over. When the first repeater ends, so
    // do the rest.
    for (repeater, open_min) in repeaters.iter_mut().zip([4, 0]) {
        repeater.interrupt();
        let told = repeater.expect(SOON, json!({"event": "COUNTERS", "role": "repeater"}));
        let count = |name: &str| told["counters"][name].as_u64().expect("a number");
        assert!(count("connections") >= 8 && count("connections_open") >= open_min, "{told}");
        assert!(count("connection_bytes_in") > 1000 && count("connection_bytes_out") > 1000, "{told}");
        assert_eq!((count("connections_over_limit"), count("connections_refused")), (0, 0), "{told}");
    }
}

/// Multicast that the backbone carries, gossip, and a list: each repeater is found in all ways that there are, and lost when
/// none of them knows it any more.
#[test]
#[ignore = "needs root and network namespaces: .ci/run runs them"]
fn repeaters_find_each_other_by_multicast_and_forget_who_died() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Sites::new(3, 1, true);
    let folder = tempfile::tempdir().expect("there is room for files");
    // Multicast leaves by an interface that is served.
    let table = "interfaces = [\"eth0\", \"eth1\"]\nmulticast_registry = { ttl = 1 }";
    let [mut one, mut two, three] = [1, 2, 3].map(|site| configured(&lab, site, folder.path(), table));
    let found = |address: &str| json!({"event": "REPEATER-FOUND", "repeater": format!("{address}:2340")});
    for (peer, others) in [(&mut one, [2, 3]), (&mut two, [1, 3])] {
        others.iter().for_each(|other| drop(peer.expect(SOON, found(&format!("10.80.0.{other}")))));
    }
    three.kill();
    let gone = json!({"event": "REPEATER-GONE", "repeater": "10.80.0.3:2340"});
    one.expect(SOON * 2, gone.clone());
    two.expect(SOON * 2, gone);
    let mut three = configured(&lab, 3, folder.path(), table);
    one.expect(SOON, found("10.80.0.3"));
    three.expect(SOON, found("10.80.0.1"));
}

#[test]
#[ignore = "needs root and network namespaces: .ci/run runs them"]
fn repeaters_find_each_other_by_a_hub_of_gossip_while_another_registry_is_down() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let lab = Sites::new(3, 2, true);
    let folder = tempfile::tempdir().expect("there is room for files");
    let hub = || {
        let mut command = lab.command(3, 1, env!("CARGO_BIN_EXE_hailer"));
        command.args(["gossip", "--json"]);
        let mut hub = Peer::start("hub", command);
        hub.expect_remark(SOON, "gossip hub at");
        hub
    };
    let running = hub();
    let table = |site: u8| {
        format!(
            "interfaces = [\"eth0\"]\nadvertise = \"10.80.0.{site}\"\ngossip = [\"tcp://10.80.0.3:31337\"]\n\
             consul = {{ server = \"10.80.0.77\" }}\ndns = {{ name = \"nowhere.invalid\" }}"
        )
    };
    let [mut one, mut two] = [1, 2].map(|site| configured(&lab, site, folder.path(), &table(site)));
    let told = |event: &str, site: u8| json!({"event": event, "repeater": format!("10.80.0.{site}:2340")});
    one.expect(SOON, told("REPEATER-FOUND", 2));
    two.expect(SOON, told("REPEATER-FOUND", 1));
    // Without the hub, what is known stays, and nodes meet. What it advertises is where nobody listens for nodes, so that only
    // hearing of each other shows.
    running.kill();
    drop(running);
    let mut alice = hailer(&lab, 1, 2, "alice");
    two.expect(SOON, json!({"event": "NODE-ELSEWHERE", "repeater": "10.80.0.1:2340"}));
    one.has_not_said(told("REPEATER-GONE", 2));
    // It comes back without a memory, and is told by those who are there; who leaves is forgotten.
    let _running = hub();
    two.interrupt();
    one.expect(SOON * 4, told("REPEATER-GONE", 2));
    alice.end_input();
}

/// What the documentation says of the original's format and stock pyre.
#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn stock_pyre_is_deaf_after_a_beacon_in_the_originals_format() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(2, 3, true);
    let mut repeater_1 = repeater(&lab, 1, &[2], &[]);
    let _repeater_2 = repeater(&lab, 2, &[1], &[]);
    let (mut snake, snake_id) = pyre(&lab, 1, 2, "snake");
    repeater_1.expect(SOON, json!({"event": "NODE-HERE", "peer": snake_id}));
    let mut bob = hailer(&lab, 2, 2, "bob");
    repeater_1.expect(SOON, json!({"event": "NODE-ELSEWHERE"}));
    let mut late = hailer(&lab, 1, 3, "late");
    late.expect(SOON, joined("bob"));
    bob.expect(SOON, joined("late"));
    snake.has_not_said(json!({"event": "ENTER", "name": "late"}));
}

/// Another repeater, a registry, subscribers and neighbours that talk nonsense for as long as it lasts.
#[test]
#[ignore = "needs root, network namespaces and pyre: .ci/run runs them"]
fn nonsense_from_all_sides_does_not_stop_a_repeater() {
    if !is_possible() {
        return;
    }
    let lab = Sites::new(3, 3, true);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/hostile.py");
    let mut command = lab.command(3, 1, peer::python().to_str().expect("the path is text"));
    command.args([script, "10.80.0.3", "10.80.0.1", "10.80.0.255"]);
    let mut hostile = Peer::start("hostile", command);
    let mut command = lab.command(1, 3, peer::python().to_str().expect("the path is text"));
    command.args([script, "10.81.0.3", "10.81.0.1", "10.81.0.255"]);
    let mut neighbour = Peer::start("hostile neighbour", command);
    let _repeaters = [repeater(&lab, 1, &[2, 3], &["10.80.0.3"]), repeater(&lab, 2, &[1, 3], &[])];
    let mut alice = hailer(&lab, 1, 2, "alice");
    hostile.expect(SOON, json!({"event": "ROUND", "number": 30}));
    neighbour.expect(SOON, json!({"event": "ROUND", "number": 30}));
    let mut bob = hailer(&lab, 2, 2, "bob");
    alice.expect(SOON, joined("bob"));
    bob.expect(SOON, joined("alice"));
    alice.say("still here");
    bob.expect(SOON, said("alice", "still here"));
}

/// dnsmasq answers with a host and a port for each. The second is asked for at its own port.
#[test]
#[ignore = "needs root, network namespaces and dnsmasq: .ci/run runs them"]
fn repeaters_find_each_other_by_srv_records() {
    if !lab::is_available_or_say_so() {
        return;
    }
    let probe = Command::new("dnsmasq").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return lab::say_not_run("there is no dnsmasq: install dnsmasq-base");
    }
    let lab = Sites::new(3, 1, true);
    let mut server = lab.command(3, 1, "dnsmasq");
    server.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file"]);
    server.args(["--listen-address=10.80.0.3", "--bind-interfaces", "--user=root"]);
    server.args(["--srv-host=_hailer-repeater._tcp.test,one.test,2340"]);
    server.args(["--srv-host=_hailer-repeater._tcp.test,two.test,2341"]);
    server.args(["--address=/one.test/10.80.0.1", "--address=/two.test/10.80.0.2"]);
    let _server = Peer::start("dnsmasq", server);
    let folder = tempfile::tempdir().expect("there is room for files");
    let service = "dns = { service = \"_hailer-repeater._tcp.test\", interval = \"1 s\" }";
    let [mut one, mut two] = [1, 2].map(|site: u8| {
        lab.set_name_server(site, 1, "10.80.0.3");
        let port = 2339 + u16::from(site);
        let table = format!("interfaces = [\"eth0\"]\npublish_port = {port}\n{service}");
        configured(&lab, site, folder.path(), &table)
    });
    one.expect(SOON, json!({"event": "REPEATER-FOUND", "repeater": "10.80.0.2:2341"}));
    two.expect(SOON, json!({"event": "REPEATER-FOUND", "repeater": "10.80.0.1:2340"}));
}
