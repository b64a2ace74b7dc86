//! Gossip with czmq's zgossip, which is what zyre discovers by: its clients at our hub, our nodes at its hub.
//!
//! There is no zyre in Debian. What zyre adds to its gossip actor is a ZRE node whose endpoint it publishes; here pyre is that
//! node. Hailers send and hear no beacons in these tests, so nobody is found but by gossip.

use std::time::Duration;

use hailer::gossip::{Client, ClientConfig, Dialect, Heard, HeardEvents, Key, Limits};
use hailer::zre::PeerId;
use serde_json::json;

use super::inside::Inside;
use super::lab::{self, Lab};
use super::peer::{self, Peer, SOON};

const HUB: &str = "tcp://10.77.0.1:31337";
const CAROL: &str = "0123456789ABCDEF0123456789ABCDEF";

fn is_possible() -> bool {
    lab::is_available_or_say_so() && peer::is_czmq_available_or_say_so()
}

fn our_hub(lab: &Lab) -> Peer {
    Peer::hailer(lab, 0, "hub", &["gossip", "--ttl", "3s"])
}

fn czmq_hub(lab: &Lab) -> Peer {
    Peer::czmq(lab, 0, "hub", &["bind=tcp://10.77.0.1:31337"])
}

/// A node that is found by gossip or not at all.
fn node(lab: &Lab, host: u8, name: &str) -> Peer {
    let words = ["chat", "CHAT", "--interface", "eth0", "--name", name, "--no-beacon", "--gossip", HUB];
    Peer::hailer(lab, host, name, &words)
}

fn publish(key: &str, value: &str) -> String {
    format!("publish={key}={value}")
}

#[test]
#[ignore = "needs root, network namespaces and libczmq: .ci/run runs them"]
fn czmqs_clients_and_hailers_meet_at_our_hub_and_talk() {
    if !is_possible() || !peer::is_pyre_available_or_say_so() {
        return;
    }
    let lab = Lab::new(4);
    let mut hub = our_hub(&lab);
    let mut alice = node(&lab, 1, "alice");
    let of_alice = hub.expect(SOON, json!({"event": "PUBLISHED", "kind": "hailer"}));
    let alice_id = of_alice["key"].clone();

    // A zyre, so to speak: pyre talks, zgossip discovers.
    let mut snake = Peer::pyre_started(&lab, 2, "snake", &["CHAT"]);
    let (snake_id, port) = (snake.1["peer"].clone(), snake.1["endpoint"].as_str().expect("text"));
    let port = port.rsplit_once(':').expect("an endpoint").1;
    let endpoint = format!("tcp://10.77.0.3:{port}");
    let key = snake_id.as_str().expect("text");
    let mut zgossip = Peer::czmq(&lab, 2, "zgossip", &[&format!("connect={HUB}"), &publish(key, &endpoint)]);
    hub.expect(SOON, json!({"event": "PUBLISHED", "key": snake_id, "value": endpoint, "kind": "czmq"}));
    zgossip.expect(SOON, json!({"event": "DELIVER", "key": alice_id, "value": of_alice["value"]}));
    alice.expect(SOON, json!({"event": "ENTER", "peer": snake_id, "name": "snake"}));
    alice.expect(SOON, json!({"event": "JOIN", "peer": snake_id, "group": "CHAT"}));
    snake.0.expect(SOON, json!({"event": "ENTER", "peer": alice_id, "name": "alice"}));
    alice.say("hello snake");
    snake.0.expect(SOON, json!({"event": "SHOUT", "peer": alice_id, "content": ["hello snake"]}));

    // Clients of czmq never say anything again: its own hub forgets them after a second. Ours asks libzmq now and then.
    peer::pause(Duration::from_secs(17));
    hub.has_not_said(json!({"event": "DISCONNECTED"}));
    let mut bob = node(&lab, 3, "bob");
    let bob_id = hub.expect(SOON, json!({"event": "PUBLISHED", "kind": "hailer"}))["key"].clone();
    zgossip.expect(SOON, json!({"event": "DELIVER", "key": bob_id}));
    for peer in [&mut alice, &mut snake.0] {
        peer.expect(SOON, json!({"event": "ENTER", "peer": bob_id, "name": "bob"}));
    }
    bob.expect(SOON, json!({"event": "ENTER", "peer": snake_id}));
    bob.expect(SOON, json!({"event": "ENTER", "peer": alice_id}));

    // Who ends withdraws; who is killed is told of for a while.
    bob.end_input();
    assert!(bob.ended(SOON).success());
    hub.expect(SOON, json!({"event": "WITHDRAWN", "key": bob_id}));
    zgossip.kill();
    hub.expect(SOON, json!({"event": "DISCONNECTED", "kind": "czmq"}));
    hub.has_not_said(json!({"event": "EXPIRED"}));
    hub.expect(SOON, json!({"event": "EXPIRED", "key": snake_id, "value": endpoint}));
    alice.has_not_said(json!({"event": "EXIT", "peer": snake_id}));
    hub.interrupt();
    assert!(hub.ended(SOON).success());
}

#[test]
#[ignore = "needs root, network namespaces and libczmq: .ci/run runs them"]
fn czmqs_clients_find_our_hub_again_after_it_was_killed() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(3);
    let hub = our_hub(&lab);
    let connect = format!("connect={HUB}");
    let mut carol = Peer::czmq(&lab, 1, "carol", &[&connect, &publish(CAROL, "tcp://10.77.0.2:49152")]);
    let mut other = Peer::czmq(&lab, 2, "other", &[&connect, &publish("printer", "ready")]);
    carol.expect(SOON, json!({"event": "DELIVER", "key": "printer"}));
    other.expect(SOON, json!({"event": "DELIVER", "key": CAROL}));
    hub.kill();
    drop(hub);
    let mut hub = our_hub(&lab);
    hub.expect(SOON, json!({"event": "PUBLISHED", "key": CAROL, "value": "tcp://10.77.0.2:49152"}));
    hub.expect(SOON, json!({"event": "PUBLISHED", "key": "printer", "value": "ready"}));
    carol.tell(json!({"do": "publish", "key": "late", "value": "news"}));
    other.expect(SOON, json!({"event": "DELIVER", "key": "late", "value": "news"}));
    // One of them goes for good: what both said of it does not keep it.
    carol.kill();
    hub.expect(SOON, json!({"event": "EXPIRED", "key": CAROL}));
    hub.has_not_said(json!({"event": "EXPIRED", "key": "printer"}));
}

#[test]
#[ignore = "needs root, network namespaces and libczmq: .ci/run runs them"]
fn hailers_meet_at_czmqs_hub() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(3);
    let mut hub = czmq_hub(&lab);
    let mut alice = node(&lab, 1, "alice");
    let of_alice = hub.expect(SOON, json!({"event": "DELIVER"}));
    peer::pause(Duration::from_secs(3));
    let mut bob = node(&lab, 2, "bob");
    let entered = bob.expect(SOON, json!({"event": "ENTER", "name": "alice"}));
    assert_eq!((&entered["peer"], &entered["endpoint"]), (&of_alice["key"], &of_alice["value"]));
    alice.expect(SOON, json!({"event": "ENTER", "name": "bob"}));
    bob.end_input();
    assert!(bob.ended(SOON).success());
    alice.expect(SOON, json!({"event": "EXIT", "name": "bob"}));
    alice.has_not_said(json!({"event": "ENTER"}));
    hub.tell(json!({"do": "status"}));
    hub.expect(SOON, json!({"event": "STATUS", "count": 2}));
}

async fn next(heard: &mut HeardEvents) -> Heard {
    // The whole test fails by its harness when nothing comes: real time, and a client that must hear.
    heard.next().await.expect("the client runs")
}

/// Our client alone, so that it shows who hears what from whom.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, network namespaces and libczmq: .ci/run runs them"]
async fn our_client_is_not_forgotten_by_czmqs_hub_and_finds_it_again() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(2);
    let mut hub = czmq_hub(&lab);
    let net = Inside::new(lab.namespace(1));
    let hubs = vec![HUB.parse().expect("an endpoint")];
    let (client, mut heard) = Client::start(&net, ClientConfig { hubs, limits: Limits::default() });
    let own = Key::Peer(PeerId::from_bytes([0xaa; 16]));
    client.publish(own, "tcp://10.77.0.2:49152").await;
    let found = next(&mut heard).await;
    assert!(matches!(found, Heard::Hub { dialect: Dialect::Czmq, .. }), "{found:?}");
    hub.expect(SOON, json!({"event": "DELIVER", "key": "AA".repeat(16), "value": "tcp://10.77.0.2:49152"}));

    // Silent for longer than czmq's hub remembers.
    peer::pause(Duration::from_secs(3));
    hub.tell(json!({"do": "publish", "key": CAROL, "value": "tcp://10.77.0.9:49152"}));
    let carol = Key::Peer(CAROL.parse().expect("an identity"));
    let expected = Heard::Found { key: carol.clone(), value: "tcp://10.77.0.9:49152".into() };
    assert_eq!(next(&mut heard).await, expected);

    hub.kill();
    drop(hub);
    while !matches!(next(&mut heard).await, Heard::HubLost { .. }) {}
    let mut hub = czmq_hub(&lab);
    hub.expect(SOON, json!({"event": "DELIVER", "key": "AA".repeat(16)}));
    loop {
        match next(&mut heard).await {
            // It is another hub, and knows nothing of carol.
            Heard::Lost { key } if key == carol => break,
            _ => {}
        }
    }
    client.stop().await;
    hub.tell(json!({"do": "status"}));
    hub.expect(SOON, json!({"event": "STATUS", "count": 1}));
}

#[test]
#[ignore = "needs root, network namespaces and libczmq: .ci/run runs them"]
fn our_hub_and_czmqs_share_what_their_clients_say() {
    if !is_possible() {
        return;
    }
    let lab = Lab::new(4);
    let mut theirs = czmq_hub(&lab);
    let mut ours = Peer::hailer(&lab, 1, "ours", &["gossip", "--peer", HUB, "--ttl", "3s"]);
    ours.expect(SOON, json!({"event": "HUB", "kind": "czmq"}));
    let here = "connect=tcp://10.77.0.2:31337";
    let mut carol = Peer::czmq(&lab, 2, "carol", &[here, &publish(CAROL, "tcp://10.77.0.3:49152")]);
    theirs.expect(SOON, json!({"event": "DELIVER", "key": CAROL, "value": "tcp://10.77.0.3:49152"}));
    let mut other = Peer::czmq(&lab, 3, "other", &[&format!("connect={HUB}"), &publish("printer", "ready")]);
    other.expect(SOON, json!({"event": "DELIVER", "key": CAROL}));
    carol.expect(SOON, json!({"event": "DELIVER", "key": "printer", "value": "ready"}));
    ours.expect(SOON, json!({"event": "PUBLISHED", "key": "printer"}));
}
