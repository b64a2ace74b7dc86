//! `nobody-unknown-appears`: every ENTER is of somebody.

use crate::trace::{Subject, What};

use super::{Judgement, Run, Violations, count, counted};

pub(super) fn nobody_unknown_appears(run: &Run<'_>) -> Judgement {
    let mut violations = Violations::default();
    let mut enters = 0;
    for record in &run.trace.records {
        let What::Enter(subject) = &record.what else { continue };
        enters += 1;
        if run.lives.named(subject).is_none() {
            violations.push(record.at, record.node, || {
                format!("{} saw ENTER of {}", run.name(record.node), describe(run, subject))
            });
        }
    }
    let detail = match violations.count() {
        0 => format!("{}, all of nodes of the scenario", counted(enters, "ENTER")),
        wrong => format!("{} of {} of strangers", count(wrong), counted(enters, "ENTER")),
    };
    violations.into_judgement(detail)
}

/// Somebody who never was, for people.
pub(super) fn describe(run: &Run<'_>, subject: &Subject) -> String {
    match subject {
        Subject::Stranger(peer) => format!("the stranger {peer}"),
        Subject::Life(node, life) => format!("life {life} of {}, which never was", run.name(*node)),
    }
}

#[cfg(test)]
mod tests {
    use crate::check::sample::{STRANGER, Script};
    use crate::scenario::Property;
    use crate::trace::{Subject, What};

    #[test]
    fn nodes_of_the_scenario_may_appear() {
        let run = Script::new(2).up(0.0, 0).up(0.0, 1).meet(1.0, &[0, 1]).run(5.0);
        let finding = run.judge(Property::NobodyUnknownAppears, None);
        assert!(finding.passed());
        assert_eq!(finding.detail, "2 ENTERs, all of nodes of the scenario");
    }

    #[test]
    fn a_stranger_and_a_life_that_never_was_may_not() {
        let run = Script::new(2)
            .up(0.0, 0)
            .up(0.0, 1)
            .then(1.0, 0, What::Enter(Subject::Stranger(STRANGER)))
            .enter(2.0, 0, (1, 7))
            .run(5.0);
        assert_eq!(
            run.judge(Property::NobodyUnknownAppears, None).violations(),
            [
                "1.000 s n00: n00 saw ENTER of the stranger EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE",
                "2.000 s n00: n00 saw ENTER of life 7 of n01, which never was",
            ]
        );
    }
}
