//! `sessions-complete`: what a client says in a session comes back whole, and the session ends.
//!
//! Sessions that begin before the expectation's time are not judged, nor those of a client that ends or is paused meanwhile, nor those
//! that begin less than [`GRACE`] before the run's end.

use std::collections::BTreeMap;
use std::time::Duration;

use hailer::Timestamp;

use crate::scenario::NodeIndex;
use crate::trace::What;

use super::{GRACE, Judgement, Run, Violations, count, counted};

pub(super) fn complete(run: &Run<'_>, by: Option<Duration>) -> Judgement {
    let from = Timestamp::ZERO.after(by.unwrap_or_default());
    let mut violations = Violations::default();
    let mut open: BTreeMap<(NodeIndex, u64), Timestamp> = BTreeMap::new();
    let (mut judged, mut longest) = (0, Duration::ZERO);
    for record in &run.trace.records {
        match &record.what {
            What::SessionOpened { number, .. } if record.at >= from => {
                open.insert((record.node, *number), record.at);
            }
            What::SessionEnded { number, problem } => {
                let Some(began) = open.remove(&(record.node, *number)) else { continue };
                judged += 1;
                longest = longest.max(record.at.since(began));
                if let Some(problem) = problem {
                    violations.push(record.at, record.node, || {
                        let at = began.as_secs_f64();
                        format!(
                            "session {number} of {}, begun at {at:.3} s: {problem}",
                            run.name(record.node)
                        )
                    });
                }
            }
            What::Down(_) | What::Paused => open.retain(|(node, _), _| *node != record.node),
            _ => {}
        }
    }
    for ((node, number), began) in open {
        if began.after(GRACE) <= Timestamp::ZERO.after(run.trace.duration) {
            judged += 1;
            violations.push(began, node, || {
                format!("session {number} of {} was not over at the end", run.name(node))
            });
        }
    }
    if judged == 0 {
        violations.push(from, NodeIndex(0), || "no session was begun, so nothing was shown".to_owned());
    }
    let detail = match violations.count() {
        0 => format!("{}, the longest took {:.3} s", counted(judged, "session"), longest.as_secs_f64()),
        wrong => format!("{} of {} came to nothing", count(wrong), counted(judged, "session")),
    };
    violations.into_judgement(detail)
}

#[cfg(test)]
mod tests {
    use crate::check::sample::Script;
    use crate::scenario::{Crash, Property};
    use crate::trace::What;

    fn opened(number: u64) -> What {
        What::SessionOpened { number, bytes: 100 }
    }

    fn ended(number: u64, problem: Option<&str>) -> What {
        What::SessionEnded { number, problem: problem.map(str::to_owned) }
    }

    #[test]
    fn a_session_that_breaks_or_never_ends_is_a_violation_and_one_of_a_dead_client_is_none() {
        let run = Script::new(2)
            .up(0.0, 0)
            .up(0.0, 1)
            .then(1.0, 0, opened(0))
            .then(1.5, 0, ended(0, None))
            .then(2.0, 0, opened(1))
            .then(2.5, 0, ended(1, Some("broken")))
            .then(3.0, 0, opened(2))
            .then(3.0, 1, opened(0))
            .down(4.0, 1, Crash::PowerCut)
            .run(60.0);
        let finding = run.judge(Property::SessionsComplete, None);
        assert_eq!(
            finding.violations(),
            [
                "2.500 s n00: session 1 of n00, begun at 2.000 s: broken",
                "3.000 s n00: session 2 of n00 was not over at the end",
            ]
        );
        let by = run.judge(Property::SessionsComplete, Some(2.8));
        assert_eq!(by.violations().len(), 1);
    }

    #[test]
    fn a_run_without_sessions_shows_nothing() {
        let run = Script::new(1).up(0.0, 0).run(9.0);
        assert!(!run.judge(Property::SessionsComplete, None).passed());
    }
}
