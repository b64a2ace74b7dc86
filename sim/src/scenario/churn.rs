//! Random churn: nodes that go down and come up again, as often as a file says, at moments drawn from a run's seed.
//!
//! The moments are drawn before the run, from a stream of each node's own, and become steps like those of the file
//! ([`Scenario::unrolled`]): the world, the checkers and the report all see the same script.

use std::time::Duration;

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Refused, Table, Value, duration, one_of, written};

use super::nodes::Nodes;
use super::script::{WrittenStep, refuse_late};
use super::{Action, Churn, Crash, NodeIndex, Scenario, Step};
use crate::fabric::random::Stream;

/// The shortest mean span: a program that lives for less does nothing.
const SPAN_MIN: Duration = Duration::from_millis(100);

/// A churn and its place in the file.
pub(super) struct WrittenChurn {
    pub(super) churn: Churn,
    pub(super) span: Span,
}

/// Takes `[[churn]]`.
pub(super) fn churn(
    file: &mut Table<'_>,
    nodes: &Nodes,
    end: Option<Duration>,
    line_of: impl Fn(Span) -> usize,
) -> Result<Vec<WrittenChurn>, Refused> {
    let read = |table: &mut Table<'_>| one_churn(table, nodes, end, line_of(table.span()));
    let tables = file.optional("churn", |value| value.tables(read))?;
    tables.map_or_else(Vec::new, |tables| tables.value).into_iter().collect()
}

fn one_churn(
    table: &mut Table<'_>,
    nodes: &Nodes,
    end: Option<Duration>,
    line: usize,
) -> Result<WrittenChurn, Refused> {
    let selected = table.required("node", "node = \"n\"", |value| nodes.select(value));
    let up = table.required("up", "up = \"30 s\"", mean);
    let down = table.required("down", "down = \"10 s\"", mean);
    let crash = table.required("crash", "crash = [\"power-cut\", \"stop\"]", crashes);
    let start = table.optional("start", duration);
    let stop = table.optional("stop", duration);
    let (selected, up, down, crash) = (selected?, up?.value, down?.value, crash?.value);
    let (start, stop) = (start?, stop?);
    let is_router = |node: &&NodeIndex| nodes.list[node.0 as usize].kind.is_router();
    if let Some(router) = selected.value.iter().find(is_router)
        && crash != [Crash::PowerCut]
    {
        let message = format!("`{}` is a router, and runs no program", nodes.list[router.0 as usize].name);
        return Err(table.refuse(selected.span, message, "write `crash = \"power-cut\"`"));
    }
    if let (Some(stop), Some(end)) = (&stop, end)
        && stop.value > end
    {
        return Err(refuse_late(table, stop.span.clone(), end));
    }
    let span = stop.as_ref().or(start.as_ref()).map_or_else(|| table.span(), |given| given.span.clone());
    let start = start.map_or(Duration::ZERO, |start| start.value);
    // Without a known end the scenario is refused in any case.
    let stop = stop.map(|stop| stop.value).or(end).unwrap_or(Duration::MAX);
    if stop <= start {
        let message = format!("this churn starts at {} and stops at {}", written(start), written(stop));
        return Err(table.refuse(span, message, "let it stop later than it starts"));
    }
    let churn = Churn { nodes: selected.value, up, down, crash, start, stop, line };
    Ok(WrittenChurn { churn, span: selected.span })
}

fn mean(value: Value<'_>) -> Result<Duration, Refused> {
    let mean = duration(value.clone())?;
    if mean < SPAN_MIN {
        let message = format!("{} can't be {} on average", value.name(), written(mean));
        return Err(value.refuse(message, format!("write at least \"{}\"", written(SPAN_MIN))));
    }
    Ok(mean)
}

fn crashes(value: Value<'_>) -> Result<Vec<Crash>, Refused> {
    const CRASHES: [(&str, Crash); 3] =
        [("power-cut", Crash::PowerCut), ("process-exit", Crash::ProcessExit), ("stop", Crash::Stop)];
    if !value.is_list() {
        return one_of(&CRASHES)(value).map(|crash| vec![crash]);
    }
    let list = value.clone().list("a list of ways to end", "[\"power-cut\", \"stop\"]", one_of(&CRASHES))?;
    if list.is_empty() {
        return Err(value.refuse("no way to end is in this list", "write one, for example \"power-cut\""));
    }
    Ok(list.into_iter().map(|crash| crash.value).collect())
}

/// Refuses nodes of which two churns, or a churn and steps, would say when they run.
pub(super) fn refuse_other_steps(
    file: &Table<'_>,
    nodes: &Nodes,
    churns: &[WrittenChurn],
    steps: &[WrittenStep],
) -> Result<(), Refused> {
    let mut outcome = Ok(());
    for (index, written) in churns.iter().enumerate() {
        let has = |node: &&NodeIndex| written.churn.nodes.contains(node);
        for other in &churns[..index] {
            if let Some(both) = other.churn.nodes.iter().find(has) {
                let message = format!("`{}` has a churn already", nodes.list[both.0 as usize].name);
                let related = (other.span.clone(), "this one");
                let help = "let each node be in one of them at most";
                outcome = Err(file.refuse_with(written.span.clone(), message, help, related));
            }
        }
        let late = |node: &&NodeIndex| nodes.list[node.0 as usize].start > written.churn.start;
        if let Some(node) = written.churn.nodes.iter().find(late) {
            let node = &nodes.list[node.0 as usize];
            let message = format!("`{}` starts at {}, after its churn", node.name, self::written(node.start));
            let help = "write a later `start` of the churn, or an earlier one of the node";
            outcome = Err(file.refuse(written.span.clone(), message, help));
        }
        for step in steps.iter().filter(|step| is_about_programs(&step.step.action)) {
            if let Some(node) = step.step.nodes.iter().find(has) {
                let name = &nodes.list[node.0 as usize].name;
                let message = format!("`{name}` has a churn, so nobody knows whether it runs by then");
                let related = (written.span.clone(), "the churn");
                let help = "choose another node, or use [[traffic]], which leaves out nodes that are down";
                outcome = Err(file.refuse_with(step.action_span.clone(), message, help, related));
            }
        }
    }
    outcome
}

fn is_about_programs(action: &Action) -> bool {
    !matches!(
        action,
        Action::Partition(_)
            | Action::Heal(_)
            | Action::Link(_)
            | Action::Unplug(_)
            | Action::Plug(_)
            | Action::NatReboot
            | Action::Clock(_)
            | Action::Slow(_)
            | Action::Address(_)
    )
}

impl Scenario {
    /// The scenario as it is for a seed: with its churn drawn, as steps. Without churn it is the same for every seed.
    pub fn unrolled(&self, seed: u64) -> Self {
        let mut scenario = self.clone();
        for churn in std::mem::take(&mut scenario.churn) {
            for node in &churn.nodes {
                let name = &self.nodes[node.0 as usize].name;
                scenario.steps.extend(churn.draw(*node, &mut Stream::new(seed, &format!("{name}/churn"))));
            }
        }
        scenario.steps.sort_by_key(|step| step.at);
        scenario
    }
}

impl Churn {
    /// What happens to a node that is up at the start. Its first time up is cut anywhere, so that nodes do not go down
    /// together; at the end it is up.
    fn draw(&self, node: NodeIndex, stream: &mut Stream) -> Vec<Step> {
        let step = |at, action| Step { at, nodes: vec![node], action, line: self.line };
        let mut steps = Vec::new();
        let mut at = self.start + Duration::from_nanos(stream.between(0, nanos(self.up)));
        while at < self.stop {
            let kind = stream.between(0, self.crash.len() as u64 - 1) as usize;
            steps.push(step(at, Action::Crash(self.crash[kind])));
            let back = (at + around(self.down, stream)).min(self.stop);
            steps.push(step(back, Action::Restart));
            at = back + around(self.up, stream);
        }
        steps
    }
}

/// A span from half the mean to one and a half, each as likely as any other.
fn around(mean: Duration, stream: &mut Stream) -> Duration {
    let mean = nanos(mean);
    Duration::from_nanos(stream.between(mean / 2, mean / 2 + mean))
}

/// Durations in a file are a year at most.
fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    const S: Duration = Duration::from_secs(1);

    fn scenario() -> Scenario {
        let mut scenario = sample::steps(3, Vec::new());
        let crash = vec![Crash::PowerCut, Crash::Stop];
        let nodes = vec![NodeIndex(0), NodeIndex(2)];
        scenario.churn =
            vec![Churn { nodes, up: S * 4, down: S * 2, crash, start: S * 5, stop: S * 50, line: 1 }];
        scenario
    }

    #[test]
    fn a_churn_is_drawn_from_the_seed_and_from_nothing_else() {
        let script = |seed| {
            let steps = scenario().unrolled(seed).steps;
            steps.into_iter().map(|step| (step.at, step.nodes, step.action)).collect::<Vec<_>>()
        };
        assert_eq!(script(1), script(1));
        assert_ne!(script(1), script(2));
        let mut more = scenario();
        more.churn[0].nodes.push(NodeIndex(1));
        let of_first = |steps: Vec<Step>| -> Vec<Duration> {
            steps.iter().filter(|step| step.nodes == [NodeIndex(0)]).map(|step| step.at).collect()
        };
        assert_eq!(of_first(more.unrolled(1).steps), of_first(scenario().unrolled(1).steps));
    }

    #[test]
    fn each_node_goes_down_and_up_in_turn_within_its_bounds_and_ends_up() {
        for seed in 0..50 {
            let steps = scenario().unrolled(seed).steps;
            assert!(steps.is_sorted_by_key(|step| step.at));
            for node in [NodeIndex(0), NodeIndex(2)] {
                let own: Vec<&Step> = steps.iter().filter(|step| step.nodes == [node]).collect();
                assert!(own.len() >= 10 && own.len().is_multiple_of(2));
                for pair in own.chunks(2) {
                    assert!(matches!(pair[0].action, Action::Crash(Crash::PowerCut | Crash::Stop)));
                    assert_eq!(pair[1].action, Action::Restart);
                    assert!(pair[0].at >= S * 5 && pair[1].at <= S * 50);
                    let down = pair[1].at - pair[0].at;
                    assert!(down <= S * 3 && (down >= S || pair[1].at == S * 50));
                }
            }
            assert!(scenario().unrolled(seed).unrolled(seed + 1).steps.len() == steps.len());
        }
    }
}
