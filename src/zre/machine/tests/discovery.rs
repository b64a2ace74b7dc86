//! Beacons and HELLOs: how peers come to be and how they end.

use super::*;

#[test]
fn beacons_go_out_in_a_burst_at_first_and_then_one_each_interval() {
    let mut rig = Rig::new();
    let mut times = Vec::new();
    while times.len() < 9 {
        rig.now = rig.machine.deadline().unwrap();
        let outputs = rig.feed(Input::Timeout);
        assert_eq!(outputs, [Output::Beacon(Beacon { peer: OWN, port: 49152 }.encode())]);
        times.push(rig.now.as_millis());
    }
    assert_eq!(times, [0, 20, 60, 140, 300, 620, 1260, 2260, 3260]);
}

#[test]
fn a_newcomer_gets_a_beacon_of_its_own_once() {
    let mut rig = Rig::new();
    let from = at("10.0.0.2:49153");
    let input = || Input::Beacon { from, beacon: Ok(Beacon { peer: ALICE, port: 49153 }) };
    let beacon = Beacon { peer: OWN, port: 49152 }.encode();
    let outputs = rig.feed(input());
    assert!(outputs.contains(&Output::Reply { beacon, to: from }), "{outputs:?}");
    assert_eq!(rig.feed(input()), []);
}

#[test]
fn a_beacon_of_a_stranger_is_answered_with_a_link_that_starts_with_hello() {
    let mut rig = Rig::new();
    let outputs = rig.beacon(ALICE, "10.0.0.2:49153");
    let (link, endpoint) = dialled(&outputs)[0].clone();
    assert_eq!(endpoint, "tcp://10.0.0.2:49153");
    assert_eq!(outputs[0], Output::Open { link, peer: ALICE });
    let messages = sent(&outputs, link);
    assert!(messages.len() == 1 && is_hello(&messages[0]), "{messages:?}");
    assert_eq!(events(&outputs), []);
    assert_eq!(rig.beacon(ALICE, "10.0.0.2:49153"), [], "the next one changes nothing");
}

#[test]
fn joins_that_happen_while_we_dial_follow_the_hello_that_does_not_list_them() {
    let mut rig = Rig::new();
    let outputs = rig.beacon(ALICE, "10.0.0.2:49153");
    let link = dialled(&outputs)[0].0;
    let Body::Hello(first) = sent(&outputs, link)[0].body.clone() else { panic!() };
    assert_eq!((first.groups.len(), first.status), (0, 0));
    let (_, outputs) = rig.command(Command::Join("CHAT".into()));
    let join = Body::Join { group: "CHAT".into(), status: 1 };
    assert_eq!(sent(&outputs, link), [Message { sequence: 2, body: join }]);
}

#[test]
fn our_own_beacon_and_a_beacon_from_our_own_place_are_ignored() {
    let mut rig = Rig::new();
    assert_eq!(rig.beacon(OWN, "10.0.0.1:49152"), []);
    assert_eq!(rig.beacon(ALICE, "10.0.0.1:49152"), []);
}

#[test]
fn port_zero_is_an_exit_of_a_known_peer_and_nothing_else() {
    let mut rig = Rig::new();
    assert_eq!(rig.beacon(ALICE, "10.0.0.2:0"), []);
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &["CHAT"]);
    rig.feed(Input::InboundClosed { link: inbound });
    let outputs = rig.beacon(ALICE, "10.0.0.2:0");
    assert_eq!(story(&outputs), "-left", "no LEAVE comes before EXIT");
    assert!(outputs.contains(&Output::Close(outbound)));
    assert_eq!(rig.machine.members(&"CHAT".into()).count(), 0);
    rig.beacon(BOB, "10.0.0.3:49152");
    assert_eq!(story(&rig.beacon(BOB, "10.0.0.3:0")), "", "one that did not enter does not exit");
}

#[test]
fn what_was_said_before_a_farewell_is_heard_though_the_beacon_was_faster() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    assert_eq!(rig.beacon(ALICE, "10.0.0.2:0"), []);
    assert_eq!(rig.beacon(ALICE, "10.0.0.2:49152"), [], "an older one that came late");
    let outputs = rig.feed(Input::Closed { link: outbound });
    assert_eq!(dialled(&outputs), [], "there is nobody to dial");
    assert_eq!(story(&rig.receive(inbound, 2, whisper("wait"))), "whisper(wait)");
    assert_eq!(story(&rig.feed(Input::InboundClosed { link: inbound })), "-left");
}

#[test]
fn who_says_farewell_and_keeps_its_connection_is_gone_after_a_second() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.beacon(ALICE, "10.0.0.2:0");
    assert_eq!(story(&rig.until(900)), "");
    rig.beacon(ALICE, "10.0.0.2:0");
    let outputs = rig.until(1000);
    assert_eq!(story(&outputs), "-left");
    assert!(outputs.contains(&Output::Close(outbound)) && outputs.contains(&Output::CloseInbound(inbound)));
}

#[test]
fn who_comes_back_right_after_its_farewell_stays() {
    let mut rig = Rig::new();
    let (old, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.beacon(ALICE, "10.0.0.2:0");
    let new = rig.accept(ALICE, "10.0.0.2:33334");
    assert_eq!(story(&rig.receive(new, 1, hello("tcp://10.0.0.2:49153", &[]))), "-replaced +");
    assert_eq!(story(&rig.feed(Input::InboundClosed { link: old })), "");
    rig.beacon(ALICE, "10.0.0.2:49153");
    assert_eq!(story(&rig.until(3000)), "");
    assert!(rig.machine.peer(ALICE).is_some());
}

#[test]
fn what_is_no_beacon_is_counted() {
    let mut rig = Rig::new();
    let beacon = Beacon::decode(b"hello");
    assert_eq!(rig.feed(Input::Beacon { from: at("10.0.0.9:1"), beacon }), []);
    assert_eq!(rig.machine.counters().beacons_malformed, 1);
}

#[test]
fn a_hello_of_a_stranger_is_answered_and_told_with_its_groups() {
    let mut rig = Rig::new();
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    let outputs = rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &["A", "B", "A"]));
    assert_eq!(story(&outputs), "+ join(A) join(B)");
    let (outbound, endpoint) = dialled(&outputs)[0].clone();
    assert_eq!(endpoint, "tcp://10.0.0.2:49152");
    assert!(is_hello(&sent(&outputs, outbound)[0]));
    let info = rig.machine.peer(ALICE).unwrap();
    assert_eq!((info.name, info.groups), (text("peer"), vec![text("A"), text("B")]));
}

#[test]
fn the_hello_of_a_peer_that_we_wait_for_is_not_answered_again() {
    let mut rig = Rig::new();
    rig.beacon(ALICE, "10.0.0.2:49152");
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    let outputs = rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]));
    assert_eq!(story(&outputs), "+");
    assert_eq!((outputs.len(), dialled(&outputs).len()), (1, 0));
}

#[test]
fn hellos_that_can_not_be_believed_are_refused_and_their_links_closed() {
    let own = "tcp://10.0.0.1:49152";
    for (sequence, body, why) in [
        (2, hello("tcp://10.0.0.2:49152", &[]), "hellos_out_of_sequence"),
        (1, hello(own, &[]), "hellos_of_our_place"),
        (1, hello("garbage", &[]), "hellos_without_place"),
        (1, hello("", &[]), "hellos_without_place"),
        (1, hello("tcp://10.0.0.2:0", &[]), "hellos_without_place"),
    ] {
        let mut rig = Rig::new();
        let link = rig.accept(ALICE, "10.0.0.2:33333");
        assert_eq!(rig.receive(link, sequence, body), [Output::CloseInbound(link)], "{why}");
        let counted: Vec<_> = rig.machine.counters().iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(why, 1)]);
        assert_eq!(rig.machine.peers().count(), 0, "{why}");
    }
}

#[test]
fn an_endpoint_that_can_not_be_used_gives_way_to_the_address_that_the_peer_connects_from() {
    for said in ["tcp://*:5000", "tcp://0.0.0.0:5000", "tcp://127.0.0.1:5000", "tcp://10.0.0.2:5000"] {
        let mut rig = Rig::new();
        let link = rig.accept(ALICE, "10.0.0.2:33333");
        let outputs = rig.receive(link, 1, hello(said, &[]));
        assert_eq!(dialled(&outputs)[0].1, "tcp://10.0.0.2:5000", "{said}");
        let Event::Enter { endpoint, .. } = events(&outputs)[0].clone() else { panic!() };
        assert_eq!(endpoint, said, "the application sees what the peer says");
    }
    let mut rig = Rig::new();
    rig.beacon(ALICE, "10.0.0.2:5000");
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    assert_eq!(story(&rig.receive(link, 1, hello("garbage", &[]))), "+", "the beacon told the port");
}

#[test]
fn endpoints_take_turns_when_the_first_can_not_be_reached() {
    let mut rig = Rig::new();
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    let outputs = rig.receive(link, 1, hello("tcp://robot.lab:5000", &[]));
    let (link, endpoint) = dialled(&outputs)[0].clone();
    assert_eq!(endpoint, "tcp://robot.lab:5000");
    let failed = Input::DialFailed { link, attempt: 1, failure: DialFailure::Unreachable };
    assert_eq!(dialled(&rig.feed(failed)), [(link, "tcp://10.0.0.2:5000".to_owned())]);
}

#[test]
fn a_new_identity_at_a_known_place_replaces_the_old_one_at_once() {
    let mut rig = Rig::new();
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    assert_eq!(story(&rig.beacon(BOB, "10.0.0.2:49152")), "-replaced");
    let mut rig = Rig::new();
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let link = rig.accept(BOB, "10.0.0.2:33333");
    let outputs = rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]));
    assert_eq!(story(&outputs), "-replaced +");
}

#[test]
fn a_peer_that_lost_us_long_after_we_met_gets_a_fresh_link_at_once() {
    let mut rig = Rig::new();
    let (old_inbound, old_outbound) = rig.meet(ALICE, "10.0.0.2:49152", &["A"]);
    rig.until(4000);
    rig.beacon(ALICE, "10.0.0.2:49152");
    rig.until(8000);
    rig.beacon(ALICE, "10.0.0.2:49152");
    rig.until(11_000);
    let link = rig.accept(ALICE, "10.0.0.2:33334");
    let outputs = rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &["B"]));
    assert_eq!(story(&outputs), "-replaced + join(B)");
    let fresh = dialled(&outputs)[0].0;
    assert!(fresh != old_outbound && is_hello(&sent(&outputs, fresh)[0]));
    assert!(outputs.contains(&Output::Close(old_outbound)));
    assert!(outputs.contains(&Output::CloseInbound(old_inbound)));
}

#[test]
fn the_answer_to_our_own_hello_is_not_answered_but_probed() {
    let mut rig = Rig::new();
    let (_, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let link = rig.accept(ALICE, "10.0.0.2:33334");
    let outputs = rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]));
    assert_eq!((story(&outputs), dialled(&outputs)), ("-replaced +".to_owned(), vec![]));
    assert_eq!(sent(&outputs, outbound), [Message { sequence: 2, body: Body::Ping }]);
    assert_eq!(rig.receive(link, 2, Body::PingOk), []);
    assert_eq!(rig.until(4000), [], "it knows us: nothing more to do");
}

#[test]
fn a_probe_without_answer_brings_the_hello_that_the_peer_lacks() {
    let mut rig = Rig::new();
    let (_, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let link = rig.accept(ALICE, "10.0.0.2:33334");
    rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]));
    rig.receive(link, 2, whisper("not an answer"));
    assert_eq!(rig.until(2999), []);
    let outputs = rig.until(3000);
    assert!(outputs.contains(&Output::Close(outbound)));
    let fresh = dialled(&outputs)[0].0;
    assert!(is_hello(&sent(&outputs, fresh)[0]));
    assert_eq!(story(&outputs), "");
}

#[test]
fn a_second_hello_on_the_same_link_starts_the_peer_anew() {
    let mut rig = Rig::new();
    let (inbound, _) = rig.meet(ALICE, "10.0.0.2:49152", &["A"]);
    let outputs = rig.receive(inbound, 1, hello("tcp://10.0.0.2:49152", &["B"]));
    assert_eq!(story(&outputs), "-replaced + join(B)");
    assert_eq!(story(&rig.receive(inbound, 2, whisper("x"))), "whisper(x)");
    let outputs = rig.receive(inbound, 3, hello("tcp://10.0.0.2:49152", &[]));
    assert_eq!(story(&outputs), "-out-of-sequence", "HELLO is number 1 and nothing else");
}

#[test]
fn a_peer_that_moves_is_dialled_where_it_is_when_its_link_is_dead() {
    let mut rig = Rig::new();
    rig.beacon(ALICE, "10.0.0.2:49152");
    let (inbound, outbound) = {
        let link = rig.accept(ALICE, "10.0.0.2:33333");
        rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]));
        (link, OutboundLink::from_number(1))
    };
    rig.feed(Input::Opened { link: outbound });
    let outputs = rig.beacon(ALICE, "10.0.0.77:49152");
    assert_eq!(sent(&outputs, outbound), [Message { sequence: 2, body: Body::Ping }]);
    assert_eq!(rig.receive(inbound, 2, Body::PingOk), [], "heard on two networks: all is well");
    for second in 1..=3 {
        rig.until(second * 1000);
        assert_eq!(rig.beacon(ALICE, "10.0.0.2:49152"), [], "and no reason to ask each second");
        assert_eq!(rig.beacon(ALICE, "10.0.0.77:49152"), []);
    }
    for second in 4..=7 {
        rig.until(second * 1000);
        assert_eq!(rig.beacon(ALICE, "10.0.0.77:49152"), []);
    }
    rig.until(8000);
    let outputs = rig.beacon(ALICE, "10.0.0.77:49152");
    assert_eq!(sent(&outputs, outbound).len(), 1, "it is silent at the place that our link goes to");
    let outputs = rig.until(11_000);
    assert_eq!(dialled(&outputs)[0].1, "tcp://10.0.0.77:49152");
    assert_eq!(story(&outputs), "");
}

#[test]
fn a_peer_that_has_moved_is_not_sought_where_it_was() {
    let mut rig = Rig::new();
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    for second in 1..=12 {
        rig.until(second * 1000);
        rig.beacon(ALICE, "10.0.0.2:49152");
    }
    let inbound = rig.accept(ALICE, "10.0.0.77:33334");
    let outputs = rig.receive(inbound, 1, hello("tcp://10.0.0.77:49152", &[]));
    let (outbound, place) = dialled(&outputs)[0].clone();
    assert_eq!((story(&outputs), place.as_str()), ("-replaced +".to_owned(), "tcp://10.0.0.77:49152"));
    rig.feed(Input::Opened { link: outbound });
    rig.beacon(ALICE, "10.0.0.77:49152");
    rig.receive(inbound, 2, Body::PingOk);
    for second in 13..=18 {
        rig.until(second * 1000);
        rig.beacon(ALICE, "10.0.0.77:49152");
        rig.receive(inbound, second as u16 - 10, Body::PingOk);
    }
    // Its program ends, and the news that it has closed its own connection is late.
    let link = dialled(&rig.feed(Input::Closed { link: outbound }))[0].0;
    for attempt in 1..=3 {
        let failure = DialFailure::Refused;
        assert_eq!(rig.feed(Input::DialFailed { link, attempt, failure }), []);
        let outputs = rig.until(rig.now.as_millis() + 500);
        assert_eq!(dialled(&outputs), [(link, "tcp://10.0.0.77:49152".to_owned())]);
    }
    rig.feed(Input::DialFailed { link, attempt: 4, failure: DialFailure::Refused });
    assert_eq!(story(&rig.feed(Input::InboundClosed { link: inbound })), "-refused");
    // Who gets its old address is nobody's successor.
    rig.beacon(ALICE, "10.0.0.77:49152");
    assert_eq!(story(&rig.beacon(BOB, "10.0.0.2:49152")), "");
}

#[test]
fn a_peer_that_never_says_hello_is_made_anew_whatever_its_beacons_say() {
    let mut rig = Rig::new();
    let first = dialled(&rig.beacon(ALICE, "10.0.0.2:49152"))[0].0;
    rig.feed(Input::Opened { link: first });
    for second in 1..60 {
        assert_eq!(rig.until(second * 1000), []);
        assert_eq!(rig.beacon(ALICE, "10.0.0.2:49152"), []);
    }
    assert_eq!(rig.until(60_000), [Output::Close(first)], "no event: it had not entered");
    let outputs = rig.beacon(ALICE, "10.0.0.2:49152");
    assert!(is_hello(&sent(&outputs, dialled(&outputs)[0].0)[0]));
}
