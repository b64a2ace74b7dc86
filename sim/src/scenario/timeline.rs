//! Whether the steps of a file make sense one after the other: nothing is restarted that runs, nothing that is off acts.
//!
//! This walks through the steps as the world will, but it knows only what the file says: a node that crashes by itself
//! is a finding of the run.

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Refused, Table, written};

use super::script::WrittenStep;
use super::{Action, Crash, Node};

/// What a node does, as far as the steps so far say, and which step brought it there.
#[derive(Clone)]
enum State {
    Up,
    Paused(Span),
    Down(Span),
}

/// Why a step can't be: what is wrong, what would be right, and the earlier step that has to do with it.
struct Contradiction {
    span: Span,
    message: String,
    help: &'static str,
    earlier: Option<Span>,
}

/// Refuses steps that contradict earlier ones. The steps are sorted by time.
pub(super) fn refuse_contradictions(
    file: &Table<'_>,
    nodes: &[Node],
    steps: &[WrittenStep],
) -> Result<(), Refused> {
    let mut states = vec![State::Up; nodes.len()];
    let mut outcome = Ok(());
    for step in steps {
        let mut first = None;
        for index in &step.step.nodes {
            let (node, state) = (&nodes[index.0 as usize], &mut states[index.0 as usize]);
            match next(node, state, step) {
                Ok(next) => *state = next,
                // One node tells enough about a step; thirty would tell no more.
                Err(contradiction) => drop(first.get_or_insert(contradiction)),
            }
        }
        if let Some(Contradiction { span, message, help, earlier }) = first {
            outcome = Err(match earlier {
                Some(earlier) => file.refuse_with(span, message, help, (earlier, "by this step")),
                None => file.refuse(span, message, help),
            });
        }
    }
    outcome
}

/// What a node does after a step.
fn next(node: &Node, state: &State, step: &WrittenStep) -> Result<State, Contradiction> {
    let (at, here) = (written(step.step.at), step.action_span.clone());
    let refuse = |what: &str, help, earlier: Option<&Span>| {
        let message = format!("at {at} `{}` {what}", node.name);
        Err(Contradiction { span: here.clone(), message, help, earlier: earlier.cloned() })
    };
    if step.step.at < node.start {
        let message = format!("`{}` starts at {}, after this step", node.name, written(node.start));
        let help = "write a later moment, or an earlier `start` of the node";
        return Err(Contradiction { span: step.at_span.clone(), message, help, earlier: None });
    }
    match (&step.step.action, state) {
        (Action::Crash(Crash::Stop), State::Paused(earlier)) => {
            let help = "resume it before, or write `crash = \"process-exit\"`";
            refuse("is paused, and can't say goodbye", help, Some(earlier))
        }
        (Action::Crash(_), State::Up | State::Paused(_)) => Ok(State::Down(here.clone())),
        (Action::Crash(_), State::Down(earlier)) => {
            refuse("is down already", "let it restart before, or drop this step", Some(earlier))
        }
        (Action::Restart, State::Down(_)) => Ok(State::Up),
        (Action::Restart, State::Up | State::Paused(_)) => {
            refuse("is not down, so it can't restart", "let it crash before, or drop this step", None)
        }
        (Action::Resume, State::Paused(_)) => Ok(State::Up),
        (Action::Resume, State::Up | State::Down(_)) => {
            refuse("is not paused, so it can't resume", "pause it before, or drop this step", None)
        }
        (Action::Pause, State::Up) => Ok(State::Paused(here.clone())),
        (Action::Join(_) | Action::Leave(_) | Action::Shout { .. } | Action::Whisper { .. }, State::Up) => {
            Ok(State::Up)
        }
        (_, State::Paused(earlier)) => {
            refuse("is paused", "resume it before, or choose another node", Some(earlier))
        }
        (_, State::Down(earlier)) => {
            refuse("is down", "let it restart before, or choose another node", Some(earlier))
        }
    }
}
