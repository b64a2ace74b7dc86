//! Links: handover, death, attempts.

use super::*;

fn failed(link: OutboundLink, attempt: u32, failure: DialFailure) -> Input {
    Input::DialFailed { link, attempt, failure }
}

#[test]
fn identities_of_16_bytes_and_of_17_with_any_first_one_are_peers() {
    let uuid = *ALICE.as_bytes();
    for identity in [[&[1], &uuid[..]].concat(), [b"1", &uuid[..]].concat(), uuid.to_vec()] {
        let mut rig = Rig::new();
        let link = InboundLink::from_number(1);
        let remote = at("10.0.0.2:33333");
        assert_eq!(rig.feed(Input::InboundOpened { link, identity: identity.into(), remote }), []);
        let outputs = rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]));
        assert!(matches!(&events(&outputs)[0], Event::Enter { peer: ALICE, .. }));
    }
}

#[test]
fn other_identities_and_our_own_are_refused() {
    let own = [&[1], &OWN.as_bytes()[..]].concat();
    for identity in [vec![], vec![1; 15], vec![1; 18], own] {
        let mut rig = Rig::new();
        let link = InboundLink::from_number(1);
        let remote = at("10.0.0.2:33333");
        let outputs = rig.feed(Input::InboundOpened { link, identity: identity.into(), remote });
        assert_eq!(outputs, [Output::CloseInbound(link)]);
        assert_eq!(rig.machine.counters().links_refused, 1);
    }
}

#[test]
fn a_hello_on_a_link_that_is_older_than_the_one_that_counts_is_late_and_ignored() {
    let mut rig = Rig::new();
    let old = rig.accept(ALICE, "10.0.0.2:33333");
    let new = rig.accept(ALICE, "10.0.0.2:33334");
    assert_eq!(story(&rig.receive(new, 1, hello("tcp://10.0.0.2:49152", &[]))), "+");
    assert_eq!(rig.receive(old, 1, hello("tcp://10.0.0.2:49152", &[])), [Output::CloseInbound(old)]);
    assert_eq!(story(&rig.receive(new, 2, whisper("x"))), "whisper(x)");
}

#[test]
fn messages_before_hello_are_dropped_and_not_counted() {
    let mut rig = Rig::new();
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    assert_eq!(rig.receive(link, 2, whisper("early")), []);
    assert_eq!(rig.machine.counters().messages_ignored, 1);
    assert_eq!(story(&rig.receive(link, 1, hello("tcp://10.0.0.2:49152", &[]))), "+");
    assert_eq!(story(&rig.receive(link, 2, whisper("x"))), "whisper(x)");
}

#[test]
fn a_link_that_reconnects_below_its_peer_goes_on_counting() {
    let mut rig = Rig::new();
    let (old, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.receive(old, 2, whisper("a"));
    let new = rig.accept(ALICE, "10.0.0.2:33334");
    let outputs = rig.receive(new, 3, whisper("b"));
    assert_eq!((story(&outputs), outputs.contains(&Output::CloseInbound(old))), ("whisper(b)".into(), true));
    assert_eq!(rig.receive(old, 3, whisper("late")), [], "the old link is closed");
    rig.feed(Input::InboundClosed { link: new });
    let newest = rig.accept(ALICE, "10.0.0.2:33335");
    assert_eq!(story(&rig.receive(newest, 5, whisper("d"))), "-out-of-sequence", "c was lost");
}

#[test]
fn a_link_that_closes_is_made_anew_at_once_with_hello() {
    let mut rig = Rig::new();
    let (_, old) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.until(1000);
    rig.command(Command::Whisper { peer: ALICE, content: "x".into() }).0.unwrap();
    let outputs = rig.feed(Input::Closed { link: old });
    let (fresh, endpoint) = dialled(&outputs)[0].clone();
    assert_eq!(endpoint, "tcp://10.0.0.2:49152");
    assert!(is_hello(&sent(&outputs, fresh)[0]));
    assert_eq!((story(&outputs), outputs.contains(&Output::Close(old))), (String::new(), false));
    let (_, outputs) = rig.command(Command::Whisper { peer: ALICE, content: "y".into() });
    assert_eq!(sent(&outputs, fresh)[0].sequence, 2);
}

#[test]
fn a_peer_that_accepts_and_closes_does_not_make_us_spin() {
    let mut rig = Rig::new();
    let (_, mut link) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let mut dials = 0;
    for ms in 0..10_000 {
        let mut outputs = rig.until(ms);
        if dials == 0 || !dialled(&outputs).is_empty() {
            dials += 1;
            rig.feed(Input::Opened { link });
            outputs.extend(rig.feed(Input::Closed { link }));
        }
        for output in outputs {
            if let Output::Open { link: fresh, .. } = output {
                link = fresh;
            }
        }
        rig.beacon(ALICE, "10.0.0.2:49152");
    }
    assert!((10..30).contains(&dials), "{dials} in ten seconds");
}

#[test]
fn a_ready_peer_whose_links_are_closed_and_whose_port_refuses_is_gone() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.until(2000);
    rig.feed(Input::InboundClosed { link: inbound });
    let fresh = dialled(&rig.feed(Input::Closed { link: outbound }))[0].0;
    assert_eq!(story(&rig.feed(failed(fresh, 1, DialFailure::Refused))), "-refused");
}

#[test]
fn a_ready_peer_whose_place_another_node_has_is_replaced() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.until(2000);
    rig.feed(Input::InboundClosed { link: inbound });
    let fresh = dialled(&rig.feed(Input::Closed { link: outbound }))[0].0;
    assert_eq!(story(&rig.feed(failed(fresh, 1, DialFailure::AnotherPeer))), "-replaced");
}

#[test]
fn a_ready_peer_that_refuses_while_its_own_link_is_open_is_tried_again_with_back_off() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    rig.until(2000);
    let link = dialled(&rig.feed(Input::Closed { link: outbound }))[0].0;
    let mut pauses = Vec::new();
    for attempt in 1..=6 {
        assert_eq!(rig.feed(failed(link, attempt, DialFailure::Refused)), []);
        let failed_at = rig.now;
        let outputs = loop {
            let outputs = rig.until(rig.now.as_millis() + 1);
            if !outputs.is_empty() {
                break outputs;
            }
        };
        assert_eq!(dialled(&outputs), [(link, "tcp://10.0.0.2:49152".to_owned())]);
        pauses.push(rig.now.since(failed_at).as_millis());
    }
    for (pause, full) in pauses.iter().zip([100, 200, 400, 800, 1000, 1000]) {
        assert!((full / 2..=full + 1).contains(pause), "{pauses:?}");
    }
    rig.feed(failed(link, 7, DialFailure::Refused));
    assert_eq!(story(&rig.feed(Input::InboundClosed { link: inbound })), "-refused", "now it is plain");
}

#[test]
fn an_attempt_that_takes_too_long_is_repeated_on_the_same_link_so_that_nothing_queued_is_lost() {
    let mut rig = Rig::new();
    let link = dialled(&rig.beacon(ALICE, "10.0.0.2:49152"))[0].0;
    let outputs = rig.feed(failed(link, 1, DialFailure::TimedOut));
    assert_eq!((dialled(&outputs)[0].0, outputs.len()), (link, 1));
    assert_eq!(rig.feed(failed(link, 1, DialFailure::TimedOut)), [], "that attempt is over already");
    assert_eq!(rig.feed(Input::Opened { link }), []);
}

#[test]
fn a_peer_that_is_not_ready_and_refuses_is_forgotten_until_its_next_beacon() {
    let mut rig = Rig::new();
    let link = dialled(&rig.beacon(ALICE, "10.0.0.2:49152"))[0].0;
    assert_eq!(rig.feed(failed(link, 1, DialFailure::Refused)), [Output::Close(link)]);
    assert_eq!(dialled(&rig.beacon(ALICE, "10.0.0.2:49152")).len(), 1);
}

#[test]
fn a_peer_whose_own_link_closes_while_ours_stays_is_not_dead() {
    let mut rig = Rig::new();
    let (inbound, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    assert_eq!(rig.feed(Input::InboundClosed { link: inbound }), []);
    assert!(rig.machine.peer(ALICE).is_some());
}

#[test]
fn a_peer_whose_queue_is_full_is_too_slow() {
    let mut rig = Rig::new();
    let (inbound, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    let outputs = rig.feed(Input::QueueFull { link: outbound });
    assert_eq!(story(&outputs), "-too-slow");
    assert!(outputs.contains(&Output::Close(outbound)) && outputs.contains(&Output::CloseInbound(inbound)));
}

#[test]
fn a_link_without_hello_is_closed_in_time() {
    let mut rig = Rig::new();
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    assert_eq!(rig.until(59_999), []);
    assert_eq!(rig.until(60_000), [Output::CloseInbound(link)]);
    assert_eq!(rig.machine.counters().links_without_hello, 1);
    let (_, _) = rig.meet(ALICE, "10.0.0.2:49152", &[]);
    assert!(!rig.until(130_000).contains(&Output::CloseInbound(link)));
}
