//! `everyone-knows-everyone`, `the-dead-are-gone` and `membership-is-symmetric`: what must be so by a time, and stay so until the world changes.
//!
//! The state must hold at its time T, and from there until the next step that starts, ends, pauses or resumes a node,
//! cuts nodes off or ends that, or until the end. Nodes that are cut off from each other need not know each other. So it began at some moment up to T. Having held for a while and then been disturbed by a step *before*
//! T is not enough: an expectation about recovery would be met by what went before the fault. A moment is judged when
//! everything that happens at it has happened; a step at T itself ends the time before it is judged.

use std::time::Duration;

use hailer::Timestamp;

use super::knowledge::{Fault, FaultKind, Knowledge};
use crate::scenario::NodeIndex;

use super::{Judgement, Run, Violations, counted, crash_words, seconds, span};

/// Of the nodes in `among` alone, when that is given.
pub(super) fn everyone_knows_everyone(
    run: &Run<'_>,
    by: Option<Duration>,
    among: Option<&[NodeIndex]>,
) -> Judgement {
    let ask = Ask { holds: |knowledge| knowledge.fault_count() == 0, counts: |_, _| true, words: in_words };
    let course = follow(run, by, among, &ask);
    let (nodes, pairs) = (course.running, course.pairs);
    match course.end {
        End::Held if nodes < 2 => {
            let detail = format!("{} running: nobody to know", counted(nodes, "node"));
            course.faults.into_judgement(detail)
        }
        End::Held => {
            let until = course.over.map(|over| format!(", held until the step at {}", seconds(over)));
            let detail = format!(
                "{} complete at {}, {} before its time{}",
                counted(pairs, "pair"),
                seconds(course.since),
                span(course.by, course.since),
                until.unwrap_or_default()
            );
            course.faults.into_judgement(detail)
        }
        End::NotYet { late } => {
            let faults = course.faults.count();
            let detail = format!(
                "{} at {}; {}",
                counted(faults, "fault"),
                seconds(course.by),
                course.lateness(late, "complete")
            );
            course.faults.into_judgement(detail)
        }
        End::Broken { at } => {
            let detail = format!("complete at {}, broken again at {}", seconds(course.since), seconds(at));
            course.faults.into_judgement(detail)
        }
    }
}

pub(super) fn the_dead_are_gone(run: &Run<'_>, by: Option<Duration>) -> Judgement {
    let ask = Ask {
        holds: |knowledge| knowledge.dead() == 0,
        counts: |_, fault| matches!(fault.kind, FaultKind::Dead(_)),
        words: in_words,
    };
    let course = follow(run, by, None, &ask);
    match course.end {
        End::Held => {
            let ends = run.lives.iter().filter_map(|(_, life)| life.down).map(|(at, _)| at);
            let ends: Vec<Timestamp> = ends.filter(|at| *at <= course.by).collect();
            let detail = match ends.iter().max() {
                None => "no node had gone down".to_owned(),
                Some(last) => format!(
                    "gone at {}, {} before their time; {} ended, the last at {}",
                    seconds(course.since),
                    span(course.by, course.since),
                    if ends.len() == 1 { "1 life".to_owned() } else { format!("{} lives", ends.len()) },
                    seconds(*last)
                ),
            };
            course.faults.into_judgement(detail)
        }
        End::NotYet { late } => {
            let faults = course.faults.count();
            let detail = format!(
                "the dead were still known {} at {}; {}",
                counted(faults, "time"),
                seconds(course.by),
                course.lateness(late, "gone")
            );
            course.faults.into_judgement(detail)
        }
        End::Broken { at } => {
            let detail = format!("gone at {}, known again at {}", seconds(course.since), seconds(at));
            course.faults.into_judgement(detail)
        }
    }
}

pub(super) fn membership_is_symmetric(run: &Run<'_>, by: Option<Duration>) -> Judgement {
    let ask = Ask {
        holds: |knowledge| knowledge.one_sided() == 0,
        counts: |knowledge, fault| knowledge.is_one_sided(fault),
        words: |run, fault| format!("{}, which knows it", in_words(run, fault)),
    };
    let course = follow(run, by, None, &ask);
    let detail = match course.end {
        End::Held => {
            let since = span(course.by, course.since);
            format!("symmetric at {}, {since} before its time", seconds(course.since))
        }
        End::NotYet { late } => {
            let pairs = counted(course.faults.count(), "one-sided pair");
            format!("{pairs} at {}; {}", seconds(course.by), course.lateness(late, "symmetric"))
        }
        End::Broken { at } => {
            format!("symmetric at {}, and no longer at {}", seconds(course.since), seconds(at))
        }
    };
    course.faults.into_judgement(detail)
}

/// What is asked of a run.
struct Ask {
    /// Whether the state is as it must be.
    holds: fn(&Knowledge<'_>) -> bool,
    /// Which faults keep it from being so.
    counts: fn(&Knowledge<'_>, &Fault) -> bool,
    /// What is said of one of them.
    words: fn(&Run<'_>, &Fault) -> String,
}

/// How the state came and went.
struct Course {
    /// The time it was asked for; the end of the run when none was.
    by: Timestamp,
    /// Since when it held, without a break, when it held at its time.
    since: Timestamp,
    end: End,
    /// The next step that changes who is there, or who can talk with whom, from its time on.
    over: Option<Timestamp>,
    /// What was wrong when it did not hold.
    faults: Violations,
    /// How many nodes ran at its time.
    running: usize,
    /// How many ordered pairs of them could talk.
    pairs: usize,
}

enum End {
    /// It held at its time and until the next step or the end.
    Held,
    /// It did not hold at its time. `late`: when it did, before the next step.
    NotYet { late: Option<Timestamp> },
    /// It held at its time, and no longer at this moment, though no step had come.
    Broken { at: Timestamp },
}

impl Course {
    fn lateness(&self, late: Option<Timestamp>, word: &str) -> String {
        match (late, self.over) {
            (Some(at), _) => format!("{word} at {}, {} too late", seconds(at), span(at, self.by)),
            (None, Some(over)) if over > self.by => {
                format!("not {word} by the next step at {}", seconds(over))
            }
            (None, Some(_)) => "a step came at that very moment".to_owned(),
            (None, None) => format!("not {word} by the end"),
        }
    }
}

fn follow(run: &Run<'_>, by: Option<Duration>, among: Option<&[NodeIndex]>, ask: &Ask) -> Course {
    let holds = ask.holds;
    let by = by.map_or(run.end(), |by| Timestamp::ZERO.after(by));
    let mut knowledge = Knowledge::new(&run.lives, run.scenario.nodes.len());
    if let Some(among) = among {
        knowledge.ask_only(among);
    }
    let mut since = Some(Timestamp::ZERO);
    let mut course: Option<Course> = None;
    let judge = |knowledge: &Knowledge<'_>, since: Option<Timestamp>| Course {
        by,
        since: since.unwrap_or(by),
        end: if since.is_some() { End::Held } else { End::NotYet { late: None } },
        over: None,
        faults: if since.is_some() { Violations::default() } else { listed(run, knowledge, by, ask) },
        running: knowledge.running(),
        pairs: knowledge.pairs(),
    };
    for moment in run.trace.records.chunk_by(|one, next| one.at == next.at) {
        let at = moment[0].at;
        let upheaval = moment.iter().position(|record| Knowledge::is_upheaval(&record.what));
        if at > by && course.is_none() {
            course = Some(judge(&knowledge, since));
        }
        if let (Some(first), true) = (upheaval, at >= by) {
            moment[..first].iter().for_each(|record| knowledge.apply(record));
            let since = if holds(&knowledge) { since.or(Some(at)) } else { None };
            let mut course = course.unwrap_or_else(|| judge(&knowledge, since));
            course.over = Some(at);
            return course;
        }
        moment.iter().for_each(|record| knowledge.apply(record));
        since = if holds(&knowledge) { since.or(Some(at)) } else { None };
        if let Some(course) = &mut course {
            match (&course.end, since) {
                (End::Held, None) => {
                    course.end = End::Broken { at };
                    course.faults = listed(run, &knowledge, at, ask);
                }
                (End::NotYet { late: None }, Some(at)) => course.end = End::NotYet { late: Some(at) },
                _ => {}
            }
        }
    }
    course.unwrap_or_else(|| judge(&knowledge, since))
}

fn listed(run: &Run<'_>, knowledge: &Knowledge<'_>, at: Timestamp, ask: &Ask) -> Violations {
    let mut violations = Violations::default();
    for fault in knowledge.faults().filter(|fault| (ask.counts)(knowledge, fault)) {
        violations.push(at, fault.node, || (ask.words)(run, &fault));
    }
    violations
}

fn in_words(run: &Run<'_>, fault: &Fault) -> String {
    let node = run.name(fault.node);
    match &fault.kind {
        FaultKind::Missing(life) => format!("{node} does not know {}", run.life(*life)),
        FaultKind::Dead(life) => {
            let peer = run.life(*life);
            match run.lives.get(*life).down {
                Some((at, how)) => {
                    format!("{node} still knows {peer}, down since {} ({})", seconds(at), crash_words(how))
                }
                None => format!("{node} knows {peer}, which is not up"),
            }
        }
        FaultKind::Itself => format!("{node} has entered itself"),
        FaultKind::Stranger(subject) => format!("{node} knows {}", super::strangers::describe(run, subject)),
    }
}

#[cfg(test)]
mod tests {
    use crate::check::sample::{self, STRANGER, Script};
    use crate::check::{Outcome, VIOLATIONS_MAX};
    use crate::scenario::{Action, Crash, Property};
    use crate::trace::{Subject, What};
    use proptest::prelude::*;

    const ALL: Property = Property::EveryoneKnowsEveryone;
    const DEAD: Property = Property::TheDeadAreGone;
    const SYMMETRIC: Property = Property::MembershipIsSymmetric;

    fn met(at: f64) -> Script {
        Script::new(3).up(0.0, 0).up(0.0, 1).up(0.0, 2).meet(at, &[0, 1, 2])
    }

    #[test]
    fn two_nodes_that_know_each_other_or_neither_of_which_knows_the_other_are_symmetric() {
        let two = Script::new(3).up(0.0, 0).up(0.0, 1).up(0.0, 2);
        let one_way = two.clone().enter(3.0, 0, (1, 0));
        let finding = one_way.clone().enter(3.5, 1, (0, 0)).run(30.0).judge(SYMMETRIC, Some(15.0));
        assert!(finding.passed());
        assert_eq!(finding.detail, "symmetric at 3.500 s, 11.500 s before its time");
        assert!(two.run(30.0).judge(SYMMETRIC, Some(15.0)).passed());

        let finding = one_way.clone().enter(16.0, 1, (0, 0)).run(30.0).judge(SYMMETRIC, Some(15.0));
        assert_eq!(finding.violations(), ["15.000 s n01: n01 does not know n00, which knows it"]);
        assert_eq!(finding.detail, "1 one-sided pair at 15.000 s; symmetric at 16.000 s, 1.000 s too late");
        // Who is down need know nobody, and a life of a peer that is over is not the peer.
        assert!(one_way.down(4.0, 1, Crash::PowerCut).run(30.0).judge(SYMMETRIC, Some(15.0)).passed());
    }

    #[test]
    fn a_membership_that_becomes_one_sided_later_is_broken() {
        let run = met(3.0).exit(20.0, 2, (0, 0)).run(30.0);
        let finding = run.judge(SYMMETRIC, Some(15.0));
        assert_eq!(finding.violations(), ["20.000 s n02: n02 does not know n00, which knows it"]);
        assert_eq!(finding.detail, "symmetric at 0.000 s, and no longer at 20.000 s");
    }

    #[test]
    fn nodes_that_are_cut_off_from_each_other_need_not_be_symmetric() {
        let cut = met(3.0).cut(5.0, sample::partition(&[0], &[1, 2], true)).exit(8.0, 0, (1, 0));
        assert!(cut.clone().run(30.0).judge(SYMMETRIC, Some(15.0)).passed());
        let healed = cut.mend(10.0, (Vec::new(), Action::Heal(None))).run(30.0);
        assert!(!healed.judge(SYMMETRIC, Some(15.0)).passed());
    }

    #[test]
    fn a_mesh_that_is_complete_in_time_passes() {
        let finding = met(3.412).run(30.0).judge(ALL, Some(15.0));
        assert!(finding.passed());
        assert_eq!(finding.detail, "6 pairs complete at 3.412 s, 11.588 s before its time");
    }

    #[test]
    fn a_mesh_that_is_complete_at_the_very_moment_passes() {
        assert!(met(15.0).run(30.0).judge(ALL, Some(15.0)).passed());
    }

    #[test]
    fn a_mesh_that_is_complete_too_late_fails_and_says_when_it_was() {
        let run = met(3.0).exit(4.0, 0, (2, 0)).enter(17.2, 0, (2, 0)).run(30.0);
        let finding = run.judge(ALL, Some(15.0));
        assert_eq!(finding.violations(), ["15.000 s n00: n00 does not know n02"]);
        assert_eq!(finding.detail, "1 fault at 15.000 s; complete at 17.200 s, 2.200 s too late");
    }

    #[test]
    fn a_mesh_that_breaks_before_the_next_step_fails() {
        let run = met(3.0).exit(17.0, 0, (2, 0)).run(30.0);
        let finding = run.judge(ALL, Some(15.0));
        assert_eq!(finding.violations(), ["17.000 s n00: n00 does not know n02"]);
        assert_eq!(finding.detail, "complete at 3.000 s, broken again at 17.000 s");
    }

    #[test]
    fn what_happens_from_the_next_step_on_is_not_asked() {
        let run = met(3.0).down(20.0, 2, Crash::PowerCut).exit(21.0, 0, (1, 0)).run(30.0);
        let finding = run.judge(ALL, Some(15.0));
        assert!(finding.passed());
        assert!(finding.detail.ends_with("held until the step at 20.000 s"), "{}", finding.detail);
    }

    #[test]
    fn having_been_complete_before_an_earlier_step_is_not_enough() {
        let run = met(3.0).down(5.0, 2, Crash::PowerCut).run(30.0);
        let finding = run.judge(ALL, Some(15.0));
        assert_eq!(
            finding.violations(),
            [
                "15.000 s n00: n00 still knows n02, down since 5.000 s (power cut)",
                "15.000 s n01: n01 still knows n02, down since 5.000 s (power cut)",
            ]
        );
        assert_eq!(finding.detail, "2 faults at 15.000 s; not complete by the end");
    }

    #[test]
    fn nodes_that_start_later_are_not_asked_for() {
        let script = Script::new(3).up(0.0, 0).up(0.0, 1).meet(1.0, &[0, 1]).up(20.0, 2);
        assert!(script.run(30.0).judge(ALL, Some(15.0)).passed());
    }

    #[test]
    fn a_step_at_the_very_moment_does_not_hide_a_fault() {
        let run = Script::new(2).up(0.0, 0).up(0.0, 1).enter(1.0, 0, (1, 0)).down(15.0, 1, Crash::PowerCut);
        assert_eq!(
            run.run(30.0).judge(ALL, Some(15.0)).violations(),
            ["15.000 s n01: n01 does not know n00"]
        );
    }

    #[test]
    fn an_exit_and_enter_at_one_moment_break_nothing() {
        let run = met(3.0).exit(17.0, 0, (2, 0)).enter(17.0, 0, (2, 0)).run(30.0);
        assert!(run.judge(ALL, Some(15.0)).passed());
    }

    #[test]
    fn strangers_and_itself_are_nobody_to_know() {
        let run = met(3.0).then(4.0, 1, What::Enter(Subject::Stranger(STRANGER))).enter(5.0, 2, (2, 0));
        assert_eq!(
            run.run(30.0).judge(ALL, Some(15.0)).violations(),
            [
                "15.000 s n01: n01 knows the stranger EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE",
                "15.000 s n02: n02 has entered itself",
            ]
        );
    }

    #[test]
    fn a_partition_is_a_step_and_its_two_sides_need_not_know_each_other() {
        let cut = met(3.0).cut(10.0, sample::partition(&[0, 1], &[2], false));
        let gone = cut.exit(41.0, 0, (2, 0)).exit(41.0, 2, (1, 0));
        let finding = gone.clone().run(60.0).judge(ALL, Some(50.0));
        assert!(finding.passed());
        assert_eq!(finding.detail, "2 pairs complete at 3.000 s, 47.000 s before its time");
        assert!(gone.clone().run(60.0).judge(ALL, Some(5.0)).detail.ends_with("until the step at 10.000 s"));
        let healed = gone.mend(52.0, (Vec::new(), Action::Heal(None)));
        assert_eq!(healed.clone().run(60.0).judge(ALL, Some(55.0)).violations().len(), 2);
        let found = healed.enter(53.0, 0, (2, 0)).enter(53.0, 2, (1, 0));
        assert!(found.run(60.0).judge(ALL, Some(55.0)).passed());
    }

    #[test]
    fn one_side_of_a_partition_must_know_itself() {
        let cut = met(3.0).cut(10.0, sample::partition(&[0, 1], &[2], true)).exit(41.0, 0, (1, 0));
        let finding = cut.run(60.0).judge(ALL, Some(50.0));
        assert_eq!(finding.violations(), ["50.000 s n00: n00 does not know n01"]);
    }

    #[test]
    fn without_a_time_the_end_is_asked() {
        assert!(!met(3.0).exit(17.0, 0, (2, 0)).run(30.0).judge(ALL, None).passed());
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let run = (0..6).fold(Script::new(6), |script, node| script.up(0.0, node)).run(30.0);
        let Outcome::Failed { violations, more } = run.judge(ALL, Some(15.0)).outcome else {
            panic!("30 missing")
        };
        assert_eq!((violations.len(), more), (VIOLATIONS_MAX, 20));
    }

    #[test]
    fn the_dead_may_be_known_until_their_time_and_no_longer() {
        let run =
            met(1.0).down(5.0, 2, Crash::PowerCut).exit(35.0, 0, (2, 0)).exit(36.0, 1, (2, 0)).run(60.0);
        let finding = run.judge(DEAD, Some(40.0));
        assert!(finding.passed());
        assert_eq!(
            finding.detail,
            "gone at 36.000 s, 4.000 s before their time; 1 life ended, the last at 5.000 s"
        );
        let finding = run.judge(DEAD, Some(35.5));
        assert_eq!(
            finding.violations(),
            ["35.500 s n01: n01 still knows n02, down since 5.000 s (power cut)"]
        );
        assert_eq!(
            finding.detail,
            "the dead were still known 1 time at 35.500 s; gone at 36.000 s, 0.500 s too late"
        );
    }

    #[test]
    fn the_earlier_life_of_a_restarted_node_is_dead() {
        let run = met(1.0).down(5.0, 2, Crash::ProcessExit).up(6.0, 2).exit(5.1, 0, (2, 0)).run(60.0);
        assert_eq!(run.judge(DEAD, Some(40.0)).violations().len(), 1);
    }

    #[test]
    fn a_drawn_run_of_thirty_nodes_is_in_order() {
        let run = sample::lan(30, 7);
        for (property, by) in [(ALL, 11.0), (DEAD, 45.0), (ALL, 58.0)] {
            assert_eq!(run.judge(property, Some(by)).violations(), Vec::<String>::new());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// One ENTER of a lasting pair left out of a good run: exactly that pair is missed.
        #[test]
        fn a_missing_enter_is_missed(seed in 0u64..8, pick in any::<prop::sample::Index>()) {
            let mut run = sample::lan(8, seed);
            let lasts = |node: u32| node == 0 || node > 4;
            let is_lasting = |(_, record): &(usize, &crate::trace::Record)| {
                matches!(record.what, What::Enter(Subject::Life(peer, _)) if lasts(peer.0)) && lasts(record.node.0)
            };
            let enters: Vec<usize> =
                run.trace.records.iter().enumerate().filter(is_lasting).map(|(index, _)| index).collect();
            let removed = run.trace.records.remove(enters[pick.index(enters.len())]);
            let What::Enter(Subject::Life(peer, _)) = removed.what else { unreachable!("an ENTER was picked") };
            let text = format!("11.000 s n{:02}: n{:02} does not know n{:02}", removed.node.0, removed.node.0, peer.0);
            prop_assert_eq!(run.judge(ALL, Some(11.0)).violations(), [text]);
        }
    }
}
