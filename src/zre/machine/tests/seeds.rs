//! Nodes that others tell of, and static peers.

use super::*;

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

fn rig(place: &str) -> Rig {
    Rig::with(Config { peers: vec![endpoint(place)], ..Config::default() }, Limits::default())
}

fn knocks(outputs: &[Output]) -> Vec<OutboundLink> {
    let knock = |output: &Output| if let Output::Knock { link, .. } = output { Some(*link) } else { None };
    outputs.iter().filter_map(knock).collect()
}

fn is_closed(outputs: &[Output], link: OutboundLink) -> bool {
    outputs.contains(&Output::Close(link))
}

#[test]
fn a_node_that_gossip_tells_of_is_dialled_and_greeted() {
    let mut rig = Rig::new();
    let found = Input::Found { peer: ALICE, endpoint: endpoint("tcp://alice.example:5000") };
    let outputs = rig.feed(found.clone());
    let (link, place) = dialled(&outputs)[0].clone();
    assert_eq!(place, "tcp://alice.example:5000");
    assert!(is_hello(&sent(&outputs, link)[0]));
    assert_eq!(rig.feed(found), [], "told again");
    assert_eq!(rig.feed(Input::Found { peer: OWN, endpoint: endpoint("tcp://10.0.0.7:5000") }), []);
    assert_eq!(
        rig.feed(Input::Found { peer: BOB, endpoint: endpoint("tcp://10.0.0.1:49152") }),
        [],
        "that is us"
    );
}

#[test]
fn gossip_about_a_place_where_somebody_is_does_not_drive_him_away() {
    let mut rig = Rig::new();
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let outputs = rig.feed(Input::Found { peer: BOB, endpoint: endpoint("tcp://10.0.0.2:49152") });
    assert_eq!(outputs, []);
}

#[test]
fn without_beacons_none_is_sent_heard_or_said_at_the_end() {
    let mut rig = Rig::with(Config { beacon: false, ..Config::default() }, Limits::default());
    assert_eq!(rig.machine.deadline(), None);
    assert_eq!(rig.beacon(ALICE, "10.0.0.2:49152"), []);
    let (_, outputs) = rig.command(Command::Stop);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Beacon(_))));
}

#[test]
fn where_a_way_round_is_told_a_beacon_has_time_to_tell_the_straight_one() {
    let advertise = Some(endpoint("tcp://203.0.113.7:5000"));
    let mut rig = Rig::with(Config { advertise, ..Config::default() }, Limits::default());
    let found =
        |peer, port| Input::Found { peer, endpoint: Endpoint { port, ..endpoint("tcp://203.0.113.7:1") } };
    let place_of = |outputs: &[Output]| dialled(outputs)[0].1.clone();
    // Gossip tells the way through the relay, and then a beacon comes.
    assert!(dialled(&rig.feed(found(ALICE, 5001))).is_empty());
    assert_eq!(place_of(&rig.beacon(ALICE, "10.0.0.2:49152")), "tcp://10.0.0.2:49152");
    // None comes.
    assert!(dialled(&rig.feed(found(BOB, 5002))).is_empty());
    assert!(dialled(&rig.until(1499)).is_empty());
    assert_eq!(place_of(&rig.until(1500)), "tcp://203.0.113.7:5002");
    // A stranger's HELLO comes by the relay, which hands it on from our own machine: that is not where he is.
    let carol = PeerId::from_bytes([3; 16]);
    let link = rig.accept(carol, "127.0.0.1:40000");
    assert!(dialled(&rig.receive(link, 1, hello("tcp://203.0.113.7:5003", &[]))).is_empty());
    assert_eq!(place_of(&rig.until(3000)), "tcp://203.0.113.7:5003");
}

#[test]
fn an_advertised_endpoint_is_what_hello_says_and_nobody_else_is_there() {
    let advertise = Some(endpoint("tcp://203.0.113.7:5000"));
    let mut rig = Rig::with(Config { advertise, ..Config::default() }, Limits::default());
    let outputs = rig.beacon(ALICE, "10.0.0.2:49152");
    let (link, _) = dialled(&outputs)[0].clone();
    let Body::Hello(hello) = sent(&outputs, link)[0].body.clone() else { panic!("HELLO is first") };
    assert_eq!(hello.endpoint, "tcp://203.0.113.7:5000");
    for own in ["tcp://203.0.113.7:5000", "tcp://10.0.0.1:49152"] {
        assert_eq!(rig.feed(Input::Found { peer: BOB, endpoint: endpoint(own) }), []);
    }
    // Beacons carry the port that we listen on: they come with our address.
    rig.now = Timestamp::from_millis(1000);
    let outputs = rig.feed(Input::Timeout);
    let beacon = outputs
        .iter()
        .find_map(|output| if let Output::Beacon(beacon) = output { Some(*beacon) } else { None });
    assert_eq!(Beacon::decode(&beacon.unwrap()).unwrap().port, 49152);
}

#[test]
fn a_static_peer_that_says_who_it_is_becomes_that_peer() {
    let mut rig = rig("tcp://alice.example:5000");
    let link = knocks(&rig.until(1))[0];
    let outputs = rig.feed(Input::Answered { link, peer: Some(ALICE), at: at("10.0.0.2:5000") });
    assert!(is_hello(&sent(&outputs, link)[0]) && outputs.len() == 1, "{outputs:?}");
    let inbound = rig.accept(ALICE, "10.0.0.2:40000");
    let outputs = rig.receive(inbound, 1, hello("tcp://10.0.0.2:5000", &["CHAT"]));
    assert_eq!((story(&outputs).as_str(), dialled(&outputs).len()), ("+ join(CHAT)", 0));
    assert_eq!(knocks(&rig.until(5_000)), [], "it is known");
    let (_, outputs) = rig.command(Command::Whisper { peer: ALICE, content: "hi".into() });
    assert_eq!(sent(&outputs, link)[0].sequence, 2);
}

#[test]
fn a_static_zyre_is_known_by_its_hello_and_gets_no_second_one() {
    let mut rig = rig("tcp://alice.example:5000");
    let link = knocks(&rig.until(1))[0];
    let outputs = rig.feed(Input::Answered { link, peer: None, at: at("10.0.0.2:5000") });
    assert!(is_hello(&sent(&outputs, link)[0]));
    let inbound = rig.accept(ALICE, "10.0.0.2:40000");
    let outputs = rig.receive(inbound, 1, hello("tcp://10.0.0.2:5000", &[]));
    assert_eq!(story(&outputs), "+");
    assert_eq!((dialled(&outputs).len(), sent(&outputs, link).len()), (0, 0));
    let (_, outputs) = rig.command(Command::Whisper { peer: ALICE, content: "hi".into() });
    assert_eq!(sent(&outputs, link)[0].sequence, 2, "HELLO was the first");
}

#[test]
fn who_was_greeted_before_a_join_is_greeted_anew_because_zyre_counts() {
    let mut rig = rig("tcp://alice.example:5000");
    let link = knocks(&rig.until(1))[0];
    rig.feed(Input::Answered { link, peer: None, at: at("10.0.0.2:5000") });
    let (_, outputs) = rig.command(Command::Join(text("CHAT")));
    assert!(is_closed(&outputs, link));
    let link = knocks(&rig.until(100))[0];
    let outputs = rig.feed(Input::Answered { link, peer: None, at: at("10.0.0.2:5000") });
    let Body::Hello(hello) = sent(&outputs, link)[0].body.clone() else { panic!("HELLO is first") };
    assert_eq!((hello.groups, hello.status), (vec![text("CHAT")], 1));
}

#[test]
fn a_static_peer_that_is_known_otherwise_is_left_alone() {
    let mut rig = rig("tcp://alice.example:5000");
    let link = knocks(&rig.until(1))[0];
    rig.meet(ALICE, "10.0.0.2:5000", &[]);
    let outputs = rig.feed(Input::Answered { link, peer: Some(ALICE), at: at("10.0.0.2:5000") });
    assert_eq!(outputs, [Output::Close(link)]);
    assert_eq!(knocks(&rig.until(4_000)), []);
}

#[test]
fn a_static_peer_is_sought_again_until_it_is_there_and_when_it_has_gone() {
    let mut rig = rig("tcp://alice.example:5000");
    let mut count = 0;
    for second in 1..=60 {
        for link in knocks(&rig.until(second * 1000)) {
            count += 1;
            rig.feed(Input::DialFailed { link, attempt: 1, failure: DialFailure::Refused });
        }
    }
    assert!((8..12).contains(&count), "{count} attempts in a minute");
    let link = knocks(&rig.until(70_000))[0];
    rig.feed(Input::Answered { link, peer: Some(ALICE), at: at("10.0.0.2:5000") });
    let outputs = rig.beacon(ALICE, "10.0.0.2:5000");
    assert_eq!(outputs, []);
    // It leaves, and somebody else comes in its place.
    let from = at("10.0.0.2:5000");
    let outputs = rig.feed(Input::Beacon { from, beacon: Ok(Beacon::leaving(ALICE)) });
    assert!(is_closed(&outputs, link));
    let link = knocks(&rig.until(72_000))[0];
    let outputs = rig.feed(Input::Answered { link, peer: Some(BOB), at: at("10.0.0.2:5000") });
    assert!(is_hello(&sent(&outputs, link)[0]));
}

#[test]
fn a_static_peer_that_is_ourselves_is_not_asked_again() {
    let mut rig = rig("tcp://me.example:49152");
    let link = knocks(&rig.until(1))[0];
    let outputs = rig.feed(Input::Answered { link, peer: Some(OWN), at: at("10.0.0.1:49152") });
    assert_eq!(outputs, [Output::Close(link)]);
    assert_eq!(knocks(&rig.until(60_000)), []);
}
