//! Good runs pass; a good run with one thing changed fails for that reason and no other.

use super::*;
use crate::check::sample::{self, STRANGER, Script};
use crate::scenario::{Crash, Property};
use proptest::prelude::*;

const SHOUTS: Property = Property::ShoutsArriveOnceAndInOrder;
const WHISPERS: Property = Property::WhispersArriveOnceAndInOrder;

/// Three nodes that know each other, all in the group.
fn fleet() -> Script {
    let mut script = Script::new(3);
    for node in 0..3 {
        script = script.up(0.0, node).joined(0.0, node, "g");
    }
    script = script.meet(1.0, &[0, 1, 2]);
    for (node, peer) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        script = script.join(1.0, node, (peer, 0), "g");
    }
    script
}

#[test]
fn shouts_that_reach_every_member_pass() {
    let run = fleet().shout(5.0, 0, 0).got_shout(5.1, 1, (0, 0), 0).got_shout(5.2, 2, (0, 0), 0).run(60.0);
    let finding = run.judge(SHOUTS, None);
    assert_eq!(finding.violations(), Vec::<String>::new());
    assert_eq!(finding.detail, "1 shout sent, 2 of 2 expected deliveries arrived");
}

#[test]
fn a_member_that_gets_nothing_is_a_violation() {
    let run = fleet().shout(5.0, 0, 0).got_shout(5.1, 1, (0, 0), 0).run(60.0);
    let finding = run.judge(SHOUTS, None);
    assert_eq!(finding.violations(), ["5.000 s n02: n02 never got shout 0 of n00 to g, sent at 5.000 s"]);
    assert_eq!(finding.detail, "1 shout sent, 1 of 2 expected deliveries arrived");
}

#[test]
fn what_was_sent_just_before_the_end_is_exempt() {
    let run = fleet().shout(50.1, 0, 0).run(60.0);
    let finding = run.judge(SHOUTS, None);
    assert!(finding.passed());
    assert_eq!(
        finding.detail,
        "1 shout sent, 0 of 0 expected deliveries arrived; 1 within 10 s of the end exempt"
    );
    assert!(!fleet().shout(50.0, 0, 0).run(60.0).judge(SHOUTS, None).passed());
}

#[test]
fn peers_that_the_sender_does_not_know_as_members_are_not_expected() {
    let left = fleet().left(3.0, 1, "g").leave(3.1, 0, (1, 0), "g").exit(3.0, 0, (2, 0));
    let finding = left.shout(5.0, 0, 0).run(60.0).judge(SHOUTS, None);
    assert_eq!(finding.detail, "1 shout sent, 0 of 0 expected deliveries arrived");
    assert!(finding.passed());
}

#[test]
fn a_new_entry_without_its_groups_is_no_member() {
    let run = fleet().exit(3.0, 0, (1, 0)).enter(3.1, 0, (1, 0)).shout(5.0, 0, 0);
    let finding = run.got_shout(5.1, 2, (0, 0), 0).run(60.0).judge(SHOUTS, None);
    assert_eq!(finding.detail, "1 shout sent, 1 of 1 expected deliveries arrived");
}

#[test]
fn receivers_that_end_pause_or_leave_within_the_grace_are_not_expected() {
    for change in [
        |script: Script| script.down(14.9, 1, Crash::PowerCut),
        |script: Script| script.pause(14.9, 1).resume(14.95, 1),
        |script: Script| script.left(14.9, 1, "g"),
        |script: Script| script.down(14.9, 0, Crash::PowerCut).got_shout(5.2, 1, (0, 0), 0),
    ] {
        let run = change(fleet().shout(5.0, 0, 0).got_shout(5.1, 2, (0, 0), 0)).run(60.0);
        assert_eq!(run.judge(SHOUTS, None).violations(), Vec::<String>::new());
    }
    let late = fleet().shout(5.0, 0, 0).got_shout(5.1, 2, (0, 0), 0).down(15.1, 1, Crash::PowerCut).run(60.0);
    assert!(!late.judge(SHOUTS, None).passed());
}

#[test]
fn a_message_that_comes_twice_is_a_violation() {
    let good = fleet().shout(5.0, 0, 0).got_shout(5.1, 1, (0, 0), 0).got_shout(5.2, 2, (0, 0), 0);
    let finding = good.got_shout(5.3, 2, (0, 0), 0).run(60.0).judge(SHOUTS, None);
    assert_eq!(finding.violations(), ["5.300 s n02: n02 got shout 0 of n00 to g: it has come before"]);
    assert_eq!(finding.detail, "1 shout sent, 2 of 2 expected deliveries arrived (and 1 that need not have)");
}

#[test]
fn messages_that_change_places_are_a_violation() {
    let run = fleet().shout(5.0, 0, 0).shout(5.0, 0, 1).got_shout(5.1, 1, (0, 0), 0);
    let run = run.got_shout(5.1, 1, (0, 0), 1).got_shout(5.1, 2, (0, 0), 1).got_shout(5.2, 2, (0, 0), 0);
    assert_eq!(
        run.run(60.0).judge(SHOUTS, None).violations(),
        ["5.200 s n02: n02 got shout 0 of n00 to g: it comes after the shout 1 of the same sender"]
    );
}

#[test]
fn order_holds_over_shouts_and_whispers_together() {
    let sent = fleet().shout(5.0, 0, 0).whisper(5.0, 0, (1, 0), 1).got_shout(5.1, 2, (0, 0), 0);
    let swapped = sent.clone().got_whisper(5.1, 1, (0, 0), 1).got_shout(5.2, 1, (0, 0), 0).run(60.0);
    let text = "5.200 s n01: n01 got shout 0 of n00 to g: it comes after the whisper 1 of the same sender";
    assert_eq!(swapped.judge(SHOUTS, None).violations(), [text]);
    assert_eq!(swapped.judge(WHISPERS, None).violations(), [text]);
    let right = sent.got_shout(5.1, 1, (0, 0), 0).got_whisper(5.2, 1, (0, 0), 1).run(60.0);
    assert!(right.judge(SHOUTS, None).passed() && right.judge(WHISPERS, None).passed());
}

#[test]
fn each_flaw_of_an_arrival_is_named() {
    let sent = fleet().shout(5.0, 0, 0).got_shout(5.1, 1, (0, 0), 0).got_shout(5.1, 2, (0, 0), 0);
    let sent = sent.whisper(6.0, 0, (1, 0), 1).got_whisper(6.1, 1, (0, 0), 1);
    let shout = |group: &str, from: Subject, number: Option<u64>, is_intact: bool| What::GotShout {
        from,
        group: group.to_owned(),
        number,
        is_intact,
    };
    let n00 = Subject::Life(NodeIndex(0), 0);
    for (node, what, text) in [
        (1, shout("g", n00, Some(9), true), "n01 got shout 9 of n00 to g: it was never sent"),
        (1, shout("g", n00, None, true), "n01 got shout of n00 to g: it is not as it was sent"),
        (
            1,
            shout("g", Subject::Stranger(STRANGER), Some(0), true),
            "n01 got shout 0 of the stranger EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE to g: it comes from a stranger",
        ),
    ] {
        let finding = sent.clone().then(7.0, node, what).run(60.0).judge(SHOUTS, None);
        assert_eq!(finding.violations(), [format!("7.000 s n{node:02}: {text}")]);
    }
    let base = fleet().shout(5.0, 0, 0).got_shout(5.1, 1, (0, 0), 0);
    for (node, what, text) in [
        (2, shout("g", n00, Some(0), false), "n02 got shout 0 of n00 to g: it is not as it was sent"),
        (2, shout("h", n00, Some(0), true), "n02 got shout 0 of n00 to h: it was sent to another group"),
    ] {
        let finding = base.clone().then(7.0, node, what).run(60.0).judge(SHOUTS, None);
        assert_eq!(finding.violations(), [format!("7.000 s n{node:02}: {text}")]);
    }
    let own = sent.clone().got_shout(7.0, 0, (0, 0), 0).run(60.0).judge(SHOUTS, None);
    assert_eq!(own.violations(), ["7.000 s n00: n00 got shout 0 of n00 to g: it is its own"]);
    let astray = sent.got_whisper(7.0, 2, (0, 0), 1).run(60.0).judge(WHISPERS, None);
    assert_eq!(astray.violations(), ["7.000 s n02: n02 got whisper 1 of n00: it was sent to somebody else"]);
}

#[test]
fn news_of_leaving_may_take_the_grace_and_no_longer() {
    let soon = fleet().left(3.0, 1, "g").shout(12.9, 0, 0).got_shout(13.0, 2, (0, 0), 0);
    let soon = soon.got_shout(13.0, 1, (0, 0), 0).run(60.0);
    assert!(soon.judge(SHOUTS, None).passed());
    let late = fleet().left(3.0, 1, "g").shout(13.1, 0, 0).got_shout(13.2, 2, (0, 0), 0);
    let late = late.got_shout(13.2, 1, (0, 0), 0).run(60.0);
    assert_eq!(
        late.judge(SHOUTS, None).violations(),
        ["13.200 s n01: n01 got shout 0 of n00 to g: it reached a node that is no member"]
    );
}

#[test]
fn a_new_life_counts_its_messages_from_zero() {
    let run = fleet().shout(5.0, 0, 0).got_shout(5.1, 1, (0, 0), 0).got_shout(5.1, 2, (0, 0), 0);
    let run = run.down(20.0, 0, Crash::ProcessExit).up(21.0, 0).joined(21.0, 0, "g");
    let run = run.enter(22.0, 0, (1, 0)).join(22.0, 0, (1, 0), "g").shout(23.0, 0, 0);
    let finding = run.got_shout(23.1, 1, (0, 1), 0).run(60.0).judge(SHOUTS, None);
    assert!(finding.passed(), "{:?}", finding.violations());
    assert_eq!(finding.detail, "2 shouts sent, 3 of 3 expected deliveries arrived");
}

#[test]
fn a_whisper_to_an_unknown_peer_is_not_expected() {
    let run = fleet().exit(3.0, 0, (1, 0)).whisper(5.0, 0, (1, 0), 0).run(60.0);
    assert_eq!(run.judge(WHISPERS, None).detail, "1 whisper sent, 0 of 0 expected deliveries arrived");
    let lost = fleet().whisper(5.0, 0, (1, 0), 0).run(60.0).judge(WHISPERS, None);
    assert_eq!(lost.violations(), ["5.000 s n01: n01 never got whisper 0 of n00, sent at 5.000 s"]);
}

#[test]
fn a_run_without_messages_says_so() {
    assert_eq!(fleet().run(60.0).judge(SHOUTS, None).detail, "no shout was sent");
}

/// Records of shouts that somebody must get: neither sender nor receiver is touched by the script, and it is early.
fn owed(run: &sample::Run) -> Vec<usize> {
    let is_calm = |node: NodeIndex| node.0 == 0 || node.0 > 4;
    let is_owed = |(_, record): &(usize, &Record)| match &record.what {
        What::GotShout { from: Subject::Life(from, 0), .. } => {
            is_calm(*from) && is_calm(record.node) && record.at < sample::secs(45.0)
        }
        _ => false,
    };
    run.trace.records.iter().enumerate().filter(is_owed).map(|(index, _)| index).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// One delivery dropped, doubled, corrupted or swapped in a good run of any seed: one violation, and that one.
    #[test]
    fn one_change_to_a_good_run_is_one_violation(seed in 0u64..8, pick in any::<prop::sample::Index>(), change in 0..4) {
        let mut run = sample::lan(8, seed);
        prop_assert_eq!(run.judge(SHOUTS, None).violations(), Vec::<String>::new());
        prop_assert_eq!(run.judge(WHISPERS, None).violations(), Vec::<String>::new());
        let owed = owed(&run);
        let index = owed[pick.index(owed.len())];
        let records = &mut run.trace.records;
        let (node, What::GotShout { from, number: Some(number), .. }) = (records[index].node, records[index].what.clone())
        else { unreachable!("an owed record is a shout") };
        let reason = match change {
            0 => {
                records.remove(index);
                "never got"
            }
            1 => {
                records.insert(index, records[index].clone());
                "has come before"
            }
            2 => {
                if let What::GotShout { is_intact, .. } = &mut records[index].what {
                    *is_intact = false;
                }
                "not as it was sent"
            }
            _ => {
                let is_next = |record: &Record| record.node == node && match &record.what {
                    What::GotShout { from: other, number: Some(next), .. } => *other == from && *next > number,
                    _ => false,
                };
                let next = records[index..].iter().position(is_next);
                // The last one of its sender can't change places with a later one.
                prop_assume!(next.is_some());
                let next = index + next.unwrap_or_default();
                let (early, late) = (records[index].what.clone(), records[next].what.clone());
                records[index].what = late;
                records[next].what = early;
                "never sent"
            }
        };
        let violations = run.judge(SHOUTS, None).violations();
        prop_assert!(violations.iter().any(|text| text.contains(reason)), "{reason}: {violations:?}");
        if change < 3 {
            prop_assert_eq!(violations.len(), 1, "{:?}", violations);
        }
    }
}
