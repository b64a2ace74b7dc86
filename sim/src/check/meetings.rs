//! `never-meet`: nodes that have no way to each other do not find each other.

use std::collections::BTreeMap;

use crate::scenario::NodeIndex;
use crate::trace::What;

use super::{Judgement, Run, Violations, count, counted};

pub(super) fn never_meet(run: &Run<'_>, groups: &[Vec<NodeIndex>]) -> Judgement {
    let members = groups.iter().enumerate();
    let group_of: BTreeMap<NodeIndex, usize> =
        members.flat_map(|(group, members)| members.iter().map(move |node| (*node, group))).collect();
    let mut violations = Violations::default();
    let mut enters = 0;
    for record in &run.trace.records {
        let (What::Enter(subject), Some(group)) = (&record.what, group_of.get(&record.node)) else {
            continue;
        };
        enters += 1;
        let Some(life) = run.lives.named(subject) else { continue };
        let other = group_of.get(&run.lives.get(life).node);
        if other.is_some_and(|other| other != group) {
            violations.push(record.at, record.node, || {
                format!("{} saw ENTER of {}", run.name(record.node), run.life(life))
            });
        }
    }
    let enters = counted(enters, "ENTER");
    let detail = match violations.count() {
        0 => format!("{enters}, none across the {} groups", groups.len()),
        wrong => format!("{} of {enters} across the {} groups", count(wrong), groups.len()),
    };
    violations.into_judgement(detail)
}

#[cfg(test)]
mod tests {
    use crate::check::sample::Script;
    use crate::scenario::{NodeIndex, Property};

    fn property() -> Property {
        Property::NeverMeet(vec![vec![NodeIndex(0)], vec![NodeIndex(1), NodeIndex(2)]])
    }

    fn up() -> Script {
        (0..4).fold(Script::new(4), |script, node| script.up(0.0, node))
    }

    #[test]
    fn a_group_may_meet_itself_and_others_may_meet_all() {
        let finding = up().meet(1.0, &[1, 2]).meet(2.0, &[0, 3]).meet(3.0, &[1, 3]).run(9.0);
        let finding = finding.judge(property(), None);
        assert!(finding.passed());
        assert_eq!(finding.detail, "4 ENTERs, none across the 2 groups");
    }

    #[test]
    fn nobody_may_enter_anybody_of_another_group() {
        let finding = up().enter(1.0, 2, (0, 0)).enter(2.0, 2, (1, 0)).run(9.0).judge(property(), None);
        assert_eq!(finding.violations(), ["1.000 s n02: n02 saw ENTER of n00"]);
        assert_eq!(finding.detail, "1 of 2 ENTERs across the 2 groups");
    }
}
