//! Whether the steps of a file make sense one after the other: nothing is restarted that runs, nothing that is off acts.
//!
//! This walks through the steps as the world will, but it knows only what the file says: a node that crashes by itself
//! is a finding of the run.

use std::collections::BTreeMap;

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Refused, Table, written};

use super::script::WrittenStep;
use super::{Action, Crash, Kind, Node, Partition, SegmentIndex};

/// What a node does, as far as the steps so far say, and which step brought it there.
#[derive(Clone)]
enum State {
    Up,
    Paused(Span),
    Down(Span),
}

/// What is known of a node while the steps go by.
#[derive(Clone)]
struct Course {
    state: State,
    /// The steps that pulled its cables, of the interfaces whose cables are out.
    unplugged: BTreeMap<usize, Span>,
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
    let mut courses = vec![Course { state: State::Up, unplugged: BTreeMap::new() }; nodes.len()];
    let mut partitions = Vec::new();
    let mut outcome = Ok(());
    for step in steps {
        let mut first = cut(&mut partitions, step).err();
        for index in &step.step.nodes {
            let (node, course) = (&nodes[index.0 as usize], &courses[index.0 as usize]);
            let next = next(node, course, step).and_then(|next| {
                refuse_without_host(node, &courses, step)?;
                Ok(next)
            });
            match next {
                Ok(next) => courses[index.0 as usize] = next,
                // One node tells enough about a step; thirty would tell no more.
                Err(contradiction) => drop(first.get_or_insert(contradiction)),
            }
            if step.step.action == Action::Crash(Crash::PowerCut) && node.kind == Kind::DockerHost {
                let on_it = nodes.iter().zip(&mut courses);
                for (_, course) in on_it.filter(|(other, _)| other.kind.docker_host() == Some(*index)) {
                    course.state = State::Down(step.action_span.clone());
                }
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

/// Refuses to start a container whose Docker host is down.
fn refuse_without_host(node: &Node, courses: &[Course], step: &WrittenStep) -> Result<(), Contradiction> {
    let Some(host) = node.kind.docker_host() else { return Ok(()) };
    match (&step.step.action, &courses[host.0 as usize].state) {
        (Action::Restart, State::Down(earlier)) => Err(Contradiction {
            span: step.action_span.clone(),
            message: format!("at {} the Docker host of `{}` is down", written(step.step.at), node.name),
            help: "let the host restart before its containers",
            earlier: Some(earlier.clone()),
        }),
        _ => Ok(()),
    }
}

/// Which partitions there are after a step.
fn cut<'s>(partitions: &mut Vec<(&'s Partition, Span)>, step: &'s WrittenStep) -> Result<(), Contradiction> {
    let (at, here) = (written(step.step.at), step.action_span.clone());
    let named = |partitions: &[(&Partition, Span)], name: &str| {
        partitions.iter().position(|(partition, _)| partition.name.as_deref() == Some(name))
    };
    match &step.step.action {
        Action::Partition(partition) => {
            let other = partition.name.as_deref().and_then(|name| named(partitions, name));
            if let (Some(name), Some(other)) = (&partition.name, other) {
                let message = format!("at {at} there is a partition called `{name}` already");
                let help = "heal it before, or give one of them another name";
                let earlier = Some(partitions[other].1.clone());
                return Err(Contradiction { span: here, message, help, earlier });
            }
            partitions.push((partition, here));
        }
        Action::Heal(None) if partitions.is_empty() => {
            let message = format!("at {at} there is no partition to heal");
            return Err(Contradiction { span: here, message, help: "drop this step", earlier: None });
        }
        Action::Heal(None) => partitions.clear(),
        Action::Heal(Some(name)) => match named(partitions, name) {
            Some(index) => drop(partitions.remove(index)),
            None => {
                let message = format!("at {at} there is no partition called `{name}`");
                let help = "give an earlier partition this `name`, or write `heal = true`";
                return Err(Contradiction { span: here, message, help, earlier: None });
            }
        },
        _ => {}
    }
    Ok(())
}

/// What is so of a node after a step.
fn next(node: &Node, course: &Course, step: &WrittenStep) -> Result<Course, Contradiction> {
    let refuse = |what: &str, help, earlier: Option<&Span>| {
        let message = format!("at {} `{}` {what}", written(step.step.at), node.name);
        Err(Contradiction { span: step.action_span.clone(), message, help, earlier: earlier.cloned() })
    };
    // Of the interfaces that a step is about: those with their cables out, and those with them in.
    let sides = |segment: &Option<SegmentIndex>| -> (Vec<usize>, Vec<usize>) {
        let is_meant = |number: &usize| segment.is_none_or(|one| node.interfaces[*number].segment == one);
        let meant = (0..node.interfaces.len()).filter(is_meant);
        meant.partition(|number| course.unplugged.contains_key(number))
    };
    match &step.step.action {
        // Cables and links are there before a node is switched on, and while it is down.
        Action::Unplug(segment) => {
            let (out, plugged) = sides(segment);
            if let (Some(out), []) = (out.first(), &plugged[..]) {
                let earlier = course.unplugged.get(out);
                return refuse("is unplugged already", "plug it in before, or drop this step", earlier);
            }
            let mut next = course.clone();
            next.unplugged.extend(plugged.into_iter().map(|number| (number, step.action_span.clone())));
            Ok(next)
        }
        Action::Plug(segment) => {
            let (out, _) = sides(segment);
            if out.is_empty() {
                let help = "write `interface = \"down\"` before, or drop this step";
                return refuse("is not unplugged", help, None);
            }
            let mut next = course.clone();
            next.unplugged.retain(|number, _| !out.contains(number));
            Ok(next)
        }
        Action::Link(_) | Action::NatReboot | Action::Clock(_) | Action::Slow(_) | Action::Address(_) => {
            Ok(course.clone())
        }
        _ => Ok(Course { state: next_state(node, &course.state, step)?, ..course.clone() }),
    }
}

/// What a node does after a step that is about its program.
fn next_state(node: &Node, state: &State, step: &WrittenStep) -> Result<State, Contradiction> {
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
        // It comes from the machine, whatever the program does.
        (Action::BroadcastStorm(_), State::Up | State::Paused(_)) => Ok(state.clone()),
        (Action::Restart, State::Down(_)) => Ok(State::Up),
        (Action::Restart, State::Up | State::Paused(_)) => {
            refuse("is not down, so it can't restart", "let it crash before, or drop this step", None)
        }
        (Action::Resume, State::Paused(_)) => Ok(State::Up),
        (Action::Resume, State::Up | State::Down(_)) => {
            refuse("is not paused, so it can't resume", "pause it before, or drop this step", None)
        }
        (Action::Pause, State::Up) => Ok(State::Paused(here.clone())),
        (_, State::Up) => Ok(State::Up),
        (_, State::Paused(earlier)) => {
            refuse("is paused", "resume it before, or choose another node", Some(earlier))
        }
        (_, State::Down(earlier)) => {
            refuse("is down", "let it restart before, or choose another node", Some(earlier))
        }
    }
}
