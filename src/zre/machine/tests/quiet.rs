//! Quiet peers, and time that passes without us. The times themselves are tested in `liveness`.

use super::*;

#[test]
fn a_quiet_peer_is_asked_suspected_and_given_up() {
    let mut rig = Rig::new();
    let (_, link) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let outputs = rig.until(5000);
    assert_eq!(sent(&outputs, link), [Message { sequence: 2, body: Body::Ping }]);
    assert_eq!(story(&rig.until(5999)), "");
    assert_eq!(story(&rig.until(6000)), "evasive");
    assert_eq!(story(&rig.until(9999)), "");
    assert_eq!(story(&rig.until(10_000)), "silent");
    assert_eq!(story(&rig.until(29_999)), "");
    assert_eq!(story(&rig.until(30_000)), "-expired");
    assert_eq!(rig.until(100_000), []);
}

/// What a node wants to know at 6 s of a peer that it met at 0 s.
fn evasive() -> (Rig, OutboundLink) {
    let mut rig = Rig::new();
    let (_, link) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let outputs = rig.until(6000);
    let endpoint = "tcp://10.0.0.2:49152".parse().unwrap();
    let reach = Output::Reach { link, endpoint, timeout: Duration::from_secs(3) };
    assert!(outputs.contains(&reach), "{outputs:?}");
    (rig, link)
}

#[test]
fn a_peer_that_does_not_answer_is_gone_when_its_machine_does_not_either() {
    for (failure, reason) in [
        (DialFailure::TimedOut, "-unreachable"),
        (DialFailure::Unreachable, "-unreachable"),
        (DialFailure::Refused, "-refused"),
    ] {
        let (mut rig, link) = evasive();
        assert_eq!(story(&rig.feed(Input::Reached { link, outcome: Err(failure) })), reason);
    }
}

#[test]
fn a_peer_whose_machine_answers_has_the_time_until_it_expires() {
    let (mut rig, link) = evasive();
    assert_eq!(story(&rig.feed(Input::Reached { link, outcome: Ok(()) })), "");
    assert_eq!(story(&rig.until(29_999)), "silent");
    assert_eq!(story(&rig.until(30_000)), "-expired");
}

#[test]
fn a_peer_that_was_heard_meanwhile_may_have_a_machine_that_can_not_be_reached() {
    let (mut rig, link) = evasive();
    rig.beacon(ALICE, "10.0.0.2:49152");
    let outcome = Err(DialFailure::TimedOut);
    assert_eq!(story(&rig.feed(Input::Reached { link, outcome })), "");
}

#[test]
fn beacons_alone_keep_a_ready_peer_and_its_link_is_probed() {
    let mut rig = Rig::new();
    let (inbound, link) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    for second in 1..120 {
        assert_eq!(rig.until(second * 1000), []);
        rig.beacon(ALICE, "10.0.0.2:49152");
    }
    assert_eq!(sent(&rig.until(120_000), link), [Message { sequence: 2, body: Body::Ping }]);
    rig.receive(inbound, 2, Body::PingOk);
    for second in 121..240 {
        assert_eq!(rig.until(second * 1000), []);
        rig.beacon(ALICE, "10.0.0.2:49152");
    }
}

#[test]
fn messages_alone_keep_a_ready_peer() {
    let mut rig = Rig::new();
    let (inbound, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    for second in 1..100 {
        assert_eq!(story(&rig.until(second * 1000)), "");
        rig.receive(inbound, second as u16 + 1, Body::PingOk);
    }
}

#[test]
fn a_known_peer_s_beacon_moves_no_deadline() {
    let mut rig = Rig::new();
    rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.until(500);
    rig.beacon(ALICE, "10.0.0.2:49152");
    let deadline = rig.machine.deadline();
    rig.now = Timestamp::from_millis(600);
    rig.beacon(ALICE, "10.0.0.2:49152");
    assert_eq!(rig.machine.deadline(), deadline);
}

#[test]
fn a_node_that_was_stopped_for_long_does_not_blame_its_peers() {
    let mut rig = Rig::new();
    let (_, link) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.until(2000);
    rig.now = Timestamp::from_millis(100_000);
    let outputs = rig.feed(Input::Timeout);
    assert_eq!(story(&outputs), "");
    let outputs = rig.until(102_800);
    assert_eq!((story(&outputs), sent(&outputs, link).len()), (String::new(), 1));
}

#[test]
fn beacons_missed_while_we_were_stopped_are_not_made_up_for() {
    let mut rig = Rig::new();
    rig.until(3000);
    rig.now = Timestamp::from_millis(50_500);
    assert_eq!(rig.feed(Input::Timeout).len(), 1);
    assert_eq!(rig.machine.deadline(), Some(Timestamp::from_millis(51_500)));
}
