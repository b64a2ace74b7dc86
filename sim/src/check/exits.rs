//! `no-live-peer-exits`: nobody is declared gone who is there.
//!
//! A peer is there when its life is up and not paused at the moment of the EXIT and it was not asked to stop. Events of
//! a node that is itself down or stopping are no claims of a running node, and are not judged.
//!
//! Nor is a peer there that the script cut off from the observer for long enough that one of the two could give the
//! other up: for the shorter of their `expired` when the EXIT is of that reason, and otherwise of the time after which a peer
//! is given up whose machine does not answer either (`zre::Config::gone_after`), less [`UNHEARD`] of the peers' beacons that
//! may have been lost before the cut. What follows from such a cut may follow until [`GRACE`] after its end: a peer that
//! gave up has closed its connections, and the other side hears of that when they can talk again. A shorter cut is no
//! excuse. A node that got another address greets everybody anew, which is an EXIT and an ENTER on both sides.
//! So does one whose identity another node has as well: two nodes that call themselves the same are one that restarts for ever.

use hailer::Timestamp;
use hailer::zre::{Config, ExitReason};

use crate::scenario::NodeIndex;
use crate::trace::What;

use super::knowledge::Knowledge;
use super::{GRACE, Judgement, Run, Violations, count, counted, seconds};

/// Beacons in a row that may have been lost when a cut begins.
const UNHEARD: u32 = 3;

pub(super) fn no_live_peer_exits(run: &Run<'_>) -> Judgement {
    let mut knowledge = Knowledge::new(&run.lives, run.scenario.nodes.len());
    // Who has entered whom is wanted here, not how that compares with the truth.
    knowledge.ask_only(&[]);
    let mut violations = Violations::default();
    let mut exits = 0;
    for record in &run.trace.records {
        if let (What::Exit(subject, reason), Some(observer)) = (&record.what, knowledge.current(record.node))
        {
            let is_stopping = |asked| record.at >= asked;
            if run.lives.get(observer).asked_to_stop.is_some_and(is_stopping) {
                continue;
            }
            exits += 1;
            if let Some(id) = knowledge.entered_as(record.node, subject) {
                let life = run.lives.get(id);
                if life.is_running(record.at)
                    && !life.asked_to_stop.is_some_and(is_stopping)
                    && !is_cut_off(run, record.node, life.node, record.at, reason)
                    && !run.lives.reach.moved_lately(record.node, life.node, record.at, GRACE)
                    && ![observer, id].iter().any(|life| run.lives.has_twin(*life, record.at, GRACE))
                {
                    violations.push(record.at, record.node, || {
                        format!(
                            "{} saw EXIT of {} ({reason}), which has been up since {}",
                            run.name(record.node),
                            run.life(id),
                            seconds(life.up)
                        )
                    });
                }
            }
        }
        knowledge.apply(record);
    }
    let wrong = violations.count();
    let detail = match (exits, wrong) {
        (0, _) => "nobody saw an EXIT".to_owned(),
        (_, 0) => format!("{}, all of peers that were gone", counted(exits, "EXIT")),
        _ => format!("{} of {} of peers that were up", count(wrong), counted(exits, "EXIT")),
    };
    violations.into_judgement(detail)
}

/// Whether a cut between the two was long enough for one to give the other up, and is not long over.
fn is_cut_off(run: &Run<'_>, observer: NodeIndex, peer: NodeIndex, at: Timestamp, reason: &str) -> bool {
    let patience = |zre: &Config| match reason == ExitReason::Expired.as_str() {
        true => zre.expired,
        false => zre.gone_after(),
    };
    let zre = |node: NodeIndex| run.scenario.nodes[node.0 as usize].config.zre.as_ref();
    let (Some(one), Some(other)) = (zre(observer), zre(peer)) else { return false };
    let unheard = one.interval.max(other.interval) * UNHEARD;
    let enough = patience(one).min(patience(other)).saturating_sub(unheard);
    run.lives.reach.silences(observer, peer).iter().any(|silence| {
        let end = silence.to.unwrap_or(at);
        silence.from <= at && end.min(at).since(silence.from) >= enough && at <= end.after(GRACE)
    })
}

#[cfg(test)]
mod tests {
    use crate::check::sample::{Script, partition};
    use crate::scenario::{Action, Crash, NodeIndex, Property};

    fn met() -> Script {
        Script::new(3).up(0.0, 0).up(0.0, 1).up(0.0, 2).meet(1.0, &[0, 1, 2])
    }

    #[test]
    fn an_exit_of_a_node_that_is_down_is_right() {
        let run = met().down(2.0, 1, Crash::PowerCut).exit(32.0, 0, (1, 0)).run(40.0);
        let finding = run.judge(Property::NoLivePeerExits, None);
        assert!(finding.passed());
        assert_eq!(finding.detail, "1 EXIT, all of peers that were gone");
    }

    #[test]
    fn an_exit_of_a_node_that_is_up_is_a_violation() {
        let run = met().exit(5.0, 0, (1, 0)).run(40.0);
        let finding = run.judge(Property::NoLivePeerExits, None);
        assert_eq!(
            finding.violations(),
            ["5.000 s n00: n00 saw EXIT of n01 (expired), which has been up since 0.000 s"]
        );
        assert_eq!(finding.detail, "1 of 1 EXIT of peers that were up");
    }

    #[test]
    fn an_exit_an_instant_before_the_crash_is_a_violation() {
        let run = met().exit(1.999_999, 0, (1, 0)).down(2.0, 1, Crash::PowerCut).run(40.0);
        assert!(!run.judge(Property::NoLivePeerExits, None).passed());
    }

    #[test]
    fn an_exit_of_a_node_whose_identity_another_has_is_right_until_it_alone_has_it() {
        let judge = |script: Script| script.run(60.0).judge(Property::NoLivePeerExits, None).passed();
        let twins = || Script::new(3).up(0.0, 0).up(0.0, 1).meet(1.0, &[0, 1]).twin(5.0, 2, (1, 0));
        assert!(judge(twins().exit(6.0, 0, (1, 0))));
        let over = || twins().down(7.0, 2, Crash::PowerCut);
        assert!(judge(over().exit(16.0, 0, (1, 0))), "what comes of it takes a while");
        assert!(!judge(over().exit(18.0, 0, (1, 0))));
        assert!(!judge(Script::new(2).up(0.0, 0).up(0.0, 1).meet(1.0, &[0, 1]).exit(6.0, 0, (1, 0))));
    }

    #[test]
    fn an_exit_of_the_new_life_is_a_violation_and_of_the_old_life_is_not() {
        let run = met().down(2.0, 1, Crash::ProcessExit).up(3.0, 1).enter(3.5, 0, (1, 1));
        assert!(run.clone().exit(3.5, 0, (1, 0)).run(9.0).judge(Property::NoLivePeerExits, None).passed());
        assert!(!run.exit(3.5, 0, (1, 1)).run(9.0).judge(Property::NoLivePeerExits, None).passed());
    }

    #[test]
    fn with_a_fixed_identity_the_life_that_was_entered_counts() {
        let run = met().down(2.0, 1, Crash::ProcessExit).up_as(3.0, 1, 0);
        let replaced = run.exit(3.5, 0, (1, 1)).enter(3.5, 0, (1, 1));
        assert!(replaced.clone().run(9.0).judge(Property::NoLivePeerExits, None).passed());
        assert!(!replaced.exit(4.0, 0, (1, 0)).run(9.0).judge(Property::NoLivePeerExits, None).passed());
    }

    #[test]
    fn a_peer_that_was_cut_off_for_long_enough_may_be_declared_gone() {
        let passes = |from: &[u32], to: &[u32], until: f64, exit: f64| {
            let cut = met().zre().cut(2.0, partition(from, to, true));
            let run = cut.mend(until, (Vec::new(), Action::Heal(None))).exit(exit, 0, (1, 0));
            run.run(90.0).judge(Property::NoLivePeerExits, None).passed()
        };
        // `expired` is 30 s, and three beacons may have been lost before.
        assert!(passes(&[0], &[1], 60.0, 29.0) && passes(&[1], &[0], 60.0, 32.0));
        assert!(!passes(&[0], &[1], 60.0, 28.9), "too early");
        assert!(passes(&[0], &[1], 40.0, 50.0), "after the cut");
        assert!(!passes(&[0], &[1], 40.0, 50.1), "too long after the cut");
        assert!(!passes(&[0], &[1], 20.0, 21.0), "the cut was short");
        assert!(!passes(&[0], &[2], 60.0, 40.0), "another pair was cut");
    }

    #[test]
    fn a_peer_whose_machine_does_not_answer_may_be_declared_gone_sooner() {
        let passes = |until: f64, exit: f64| {
            let cut = met().zre().cut(2.0, partition(&[0], &[1], true));
            let run = cut.mend(until, (Vec::new(), Action::Heal(None)));
            let run = run.exit_because(exit, 0, (1, 0), "unreachable").run(90.0);
            run.judge(Property::NoLivePeerExits, None).passed()
        };
        // `evasive` is 5 s, an answer has 1 s, and three beacons may have been lost before.
        assert!(passes(60.0, 5.0));
        assert!(!passes(60.0, 4.9), "too early");
        assert!(!passes(4.5, 5.0), "the cut was short");
    }

    #[test]
    fn an_unplugged_peer_may_be_declared_gone() {
        let run =
            met().zre().cut(2.0, (vec![NodeIndex(1)], Action::Unplug(None))).exit(32.0, 0, (1, 0)).run(40.0);
        assert!(run.judge(Property::NoLivePeerExits, None).passed());
        let run =
            met().zre().cut(2.0, (vec![NodeIndex(1)], Action::Unplug(None))).exit(32.0, 0, (2, 0)).run(40.0);
        assert!(!run.judge(Property::NoLivePeerExits, None).passed());
    }

    #[test]
    fn a_paused_peer_may_be_declared_gone_and_a_resumed_one_may_not() {
        let run = met().pause(2.0, 1).resume(40.0, 1);
        assert!(run.clone().exit(32.0, 0, (1, 0)).run(50.0).judge(Property::NoLivePeerExits, None).passed());
        assert!(!run.exit(40.0, 0, (1, 0)).run(50.0).judge(Property::NoLivePeerExits, None).passed());
    }

    #[test]
    fn a_node_that_was_asked_to_stop_may_say_goodbye_before_it_is_down() {
        let run = met().stop_step(2.0, 1).exit(2.01, 0, (1, 0)).down(2.1, 1, Crash::Stop).run(9.0);
        assert!(run.judge(Property::NoLivePeerExits, None).passed());
    }
}
