//! `leaders-are-agreed`: at a time, the members of each group that can talk with each other know one leader, who is one of
//! them.
//!
//! Groups in whose elections no node stands (`contest`) are not judged. Who was told of no leader yet disagrees with who
//! was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hailer::Timestamp;

use super::{Judgement, Run, Violations, counted, seconds};
use crate::scenario::NodeIndex;
use crate::trace::{Subject, What};

pub(super) fn leaders_are_agreed(run: &Run<'_>, by: Option<Duration>) -> Judgement {
    let by = by.map_or(run.end(), |by| Timestamp::ZERO.after(by));
    let contested: BTreeSet<String> = run
        .scenario
        .nodes
        .iter()
        .filter_map(|node| node.config.zre.as_ref())
        .flat_map(|zre| zre.contest.iter().map(ToString::to_string))
        .collect();
    // What each node's program was told last, of each group; a new life was told nothing.
    let mut told: BTreeMap<(NodeIndex, &str), &Subject> = BTreeMap::new();
    for record in run.trace.records.iter().take_while(|record| record.at <= by) {
        match &record.what {
            What::Leader(leader, group) => drop(told.insert((record.node, group), leader)),
            What::Up { .. } => told.retain(|(node, _), _| *node != record.node),
            What::Left(group) => drop(told.remove(&(record.node, group.as_str()))),
            _ => {}
        }
    }
    let mut violations = Violations::default();
    let mut members_in_all = 0;
    for group in &contested {
        let members: Vec<NodeIndex> = run
            .lives
            .iter()
            .filter(|(_, life)| life.is_running(by) && life.is_member_throughout(group, by, by))
            .map(|(_, life)| life.node)
            .collect();
        members_in_all += members.len();
        let leader_of = |node: NodeIndex| told.get(&(node, group.as_str())).copied();
        for &node in &members {
            let can_talk = |other: &&NodeIndex| **other == node || run.lives.reach.is_open(node, **other, by);
            let leader = leader_of(node);
            let is_member = |leader: &Subject| {
                let life = run.lives.named(leader).map(|life| run.lives.get(life));
                let is_there =
                    |life: &&super::lives::Life| life.is_running(by) && members.contains(&life.node);
                life.filter(is_there).is_some_and(|life| can_talk(&&life.node))
            };
            if !leader.is_some_and(is_member) {
                violations.push(by, node, || {
                    format!("{} knows no leader of {group} that is there", run.name(node))
                });
            }
            for &other in members.iter().filter(can_talk).filter(|other| **other > node) {
                if leader_of(other) != leader {
                    violations.push(by, node, || {
                        format!(
                            "{} and {} know different leaders of {group}",
                            run.name(node),
                            run.name(other)
                        )
                    });
                }
            }
        }
    }
    let detail = match violations.count() {
        0 => format!(
            "{} of {} agreed at {}",
            counted(members_in_all, "member"),
            counted(contested.len(), "group"),
            seconds(by)
        ),
        wrong => format!("{} at {}", counted(wrong, "disagreement"), seconds(by)),
    };
    violations.into_judgement(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{Script, partition};
    use crate::scenario::Property;

    /// Three nodes in G, in which somebody stands, that met.
    fn members() -> Script {
        let script = (0..3).fold(Script::new(3).zre().contest("G"), |script, node| {
            script.up(0.0, node).then(0.0, node, What::Joined("G".to_owned()))
        });
        script.meet(1.0, &[0, 1, 2])
    }

    fn leader(script: Script, at: f64, node: u32, leader: (u32, u32)) -> Script {
        let leader = Subject::Life(NodeIndex(leader.0), leader.1);
        script.then(at, node, What::Leader(leader, "G".to_owned()))
    }

    fn judged(script: Script) -> crate::check::Finding {
        script.run(30.0).judge(Property::LeadersAreAgreed, Some(20.0))
    }

    #[test]
    fn all_that_can_talk_must_have_been_told_the_same_member_last() {
        let told = (0..3).fold(members(), |script, node| leader(script, 2.0, node, (1, 0)));
        let finding = judged(told.clone());
        assert!(finding.passed());
        assert_eq!(finding.detail, "3 members of 1 group agreed at 20.000 s");
        assert!(!judged(leader(told.clone(), 3.0, 2, (0, 0))).passed(), "one was told otherwise later");
        assert!(!judged(leader(members(), 2.0, 0, (0, 0))).passed(), "two were told nothing");
        assert!(judged(leader(told, 21.0, 2, (0, 0))).passed(), "that was after the time");
    }

    #[test]
    fn each_side_of_a_partition_has_a_leader_of_its_own() {
        let cut = members().cut(5.0, partition(&[0], &[1, 2], false));
        let told = leader(leader(leader(cut, 9.0, 0, (0, 0)), 9.0, 1, (1, 0)), 9.0, 2, (1, 0));
        assert!(judged(told.clone()).passed());
        assert!(!judged(leader(told, 10.0, 2, (0, 0))).passed(), "it can't talk to that one");
    }

    #[test]
    fn a_leader_that_is_down_is_none() {
        let told = (0..3).fold(members(), |script, node| leader(script, 2.0, node, (1, 0)));
        let down = told.down(5.0, 1, crate::scenario::Crash::PowerCut);
        assert!(!judged(down.clone()).passed());
        assert!(judged(leader(leader(down, 9.0, 0, (2, 0)), 9.0, 2, (2, 0))).passed());
    }
}
