//! Leaders: among Hailers, with zyres that count, and beside peers that must not hear of it.

use proptest::prelude::*;

use super::wire::{Wire, id};
use super::*;

fn standing(groups: &[&str]) -> Rig {
    let groups: Vec<Text> = groups.iter().map(|group| text(group)).collect();
    Rig::with(Config { contest: groups.clone(), groups, ..Config::default() }, Limits::default())
}

/// The HELLO of another Hailer.
fn kin(endpoint: &str, groups: &[&str]) -> Body {
    let Body::Hello(mut hello) = hello(endpoint, groups) else { unreachable!() };
    hello.headers.insert(KIND_HEADER.into(), KIND.into());
    Body::Hello(hello)
}

fn elect(challenger: PeerId) -> Body {
    Body::Elect { group: "G".into(), challenger: challenger.to_string().into() }
}

/// Who leads ALL, as each host that is alive was told last.
fn leaders(wire: &Wire, hosts: &[usize]) -> Vec<Option<PeerId>> {
    let last = |host: &usize| {
        wire.events(*host).iter().rev().find_map(|event| match event {
            Event::Leader { peer, group, .. } if *group == "ALL" => Some(*peer),
            _ => None,
        })
    };
    hosts.iter().map(last).collect()
}

#[test]
fn a_node_that_stands_alone_leads_after_a_moment_and_one_that_does_not_stand_never_does() {
    let mut rig = standing(&["G"]);
    assert_eq!(story(&rig.until(999)), "");
    assert_eq!(story(&rig.until(1000)), "leader(G,AA)");
    assert_eq!(rig.machine.leader(&"G".into()), Some(OWN));
    assert_eq!(story(&Rig::new().until(60_000)), "");
}

#[test]
fn nothing_of_elections_is_said_to_a_peer_that_may_not_understand_it() {
    let mut rig = standing(&["G"]);
    let (link, outbound) = rig.meet(ALICE, "10.0.0.2:49152", &["G"]);
    let is_election = |message: &Message| matches!(message.body, Body::Elect { .. } | Body::Leader { .. });
    let mut outputs = rig.until(1500);
    outputs.extend(rig.command(Command::Leave("G".into())).1);
    outputs.extend(rig.command(Command::Join("G".into())).1);
    outputs.extend(rig.until(3000));
    assert!(!sent(&outputs, outbound).iter().any(is_election));
    assert_eq!(rig.machine.leader(&"G".into()), Some(OWN));
    let outputs = rig.receive(link, 2, elect(BOB));
    assert_eq!(sent(&outputs, outbound)[0].body, elect(OWN), "until it speaks of them itself");
}

#[test]
fn the_header_by_which_we_know_each_other_is_not_shown_to_applications() {
    let mut rig = standing(&[]);
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    let outputs = rig.receive(link, 1, kin("tcp://10.0.0.2:49152", &[]));
    let Event::Enter { headers, .. } = events(&outputs)[0].clone() else { panic!() };
    assert_eq!(headers, Headers::new());
    assert!(!rig.machine.is_of_another_kind(ALICE));
    let Body::Hello(own) = sent(&outputs, dialled(&outputs)[0].0)[0].body.clone() else { panic!() };
    assert_eq!(own.headers, Headers::from([(KIND_HEADER.into(), KIND.into())]));
}

#[test]
fn of_two_that_stand_the_smaller_leads_and_when_it_goes_the_other_does() {
    let mut rig = standing(&["G"]);
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    let outputs = rig.receive(link, 1, kin("tcp://10.0.0.2:49152", &["G"]));
    let outbound = dialled(&outputs)[0].0;
    assert_eq!(sent(&outputs, outbound)[1].body, elect(OWN), "it hears where we stand");
    assert_eq!(story(&rig.receive(link, 2, elect(ALICE))), "");
    assert_eq!(story(&rig.until(1000)), "leader(G,01)");
    rig.receive(link, 3, Body::Leave { group: "G".into(), status: 2 });
    assert_eq!(story(&rig.until(2000)), "leader(G,AA)");
    rig.receive(link, 4, Body::Join { group: "G".into(), status: 3 });
    rig.receive(link, 5, elect(ALICE));
    assert_eq!(story(&rig.until(3000)), "leader(G,01)");
    rig.receive(link, 6, Body::Goodbye);
    assert_eq!(story(&rig.until(4000)), "leader(G,AA)");
}

#[test]
fn a_stranger_to_a_group_can_not_lead_it_and_nonsense_is_no_candidate() {
    let mut rig = standing(&["G"]);
    let link = rig.accept(ALICE, "10.0.0.2:33333");
    rig.receive(link, 1, kin("tcp://10.0.0.2:49152", &[]));
    rig.receive(link, 2, elect(ALICE));
    rig.receive(link, 3, Body::Elect { group: "G".into(), challenger: "nobody".into() });
    rig.receive(link, 4, Body::Leader { group: "G".into(), leader: ALICE.to_string().into() });
    assert_eq!(story(&rig.until(1000)), "leader(G,AA)");
}

#[test]
fn hailers_agree_on_the_smallest_that_stands() {
    let mut wire = Wire::electing(4, 0, &[1, 3]);
    wire.run(Duration::from_secs(5));
    assert_eq!(leaders(&wire, &[0, 1, 2, 3]), [Some(id(1)); 4]);
    wire.crash(1);
    wire.run(Duration::from_secs(40));
    assert_eq!(leaders(&wire, &[0, 2, 3]), [Some(id(3)); 3]);
}

#[test]
fn zyres_and_hailers_agree_when_a_hailer_is_the_smallest_that_stands() {
    for candidates in [&[0, 1, 2, 3][..], &[1, 2], &[0, 3]] {
        let mut wire = Wire::electing(2, 2, candidates);
        wire.run(Duration::from_secs(10));
        let smallest = Some(id(candidates[0]));
        assert_eq!(leaders(&wire, &[0, 1, 2, 3]), [smallest; 4], "of {candidates:?}");
        wire.check_stories();
    }
}

/// zyre's own count goes wrong when nodes join while it runs: of these, four zyres without us agree on the second.
#[test]
fn hailers_agree_on_a_zyre_whatever_zyres_make_of_it_among_themselves() {
    for candidates in [&[2, 3][..], &[3]] {
        let mut wire = Wire::electing(2, 2, candidates);
        wire.run(Duration::from_secs(10));
        assert_eq!(leaders(&wire, &[0, 1]), [Some(id(candidates[0])); 2], "of {candidates:?}");
        assert!(!leaders(&wire, &[2, 3]).contains(&None), "and the count of no zyre waits for us");
    }
}

#[test]
fn a_group_of_one_zyre_and_one_hailer_agrees_when_either_leads() {
    for candidates in [&[0, 1][..], &[1]] {
        let mut wire = Wire::electing(1, 1, candidates);
        wire.run(Duration::from_secs(10));
        assert_eq!(leaders(&wire, &[0, 1]), [Some(id(candidates[0])); 2], "of {candidates:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order of deliveries, and whoever comes and goes, Hailers agree in the end.
    #[test]
    fn hailers_agree_whatever_the_network_did(
        steps in proptest::collection::vec((any::<usize>(), 0..400_u64, any::<bool>()), 0..200),
        candidates in proptest::collection::btree_set(0..4_usize, 1..4),
    ) {
        let candidates: Vec<usize> = candidates.into_iter().collect();
        let mut wire = Wire::electing(4, 0, &candidates);
        for (step, pause, is_cut) in steps {
            match wire.steps() {
                0 => wire.pass(Duration::from_millis(100)),
                _ if is_cut && step.is_multiple_of(16) => wire.cut(step),
                all => drop(wire.step(step % all)),
            }
            if step.is_multiple_of(8) {
                wire.pass(Duration::from_millis(pause));
            }
        }
        wire.run(Duration::from_secs(200));
        prop_assert_eq!(leaders(&wire, &[0, 1, 2, 3]), vec![Some(id(candidates[0])); 4]);
    }
}
