//! `repeaters-know-each-other`: at a time, every running repeater listens to every other one that runs, and to nobody else.
//!
//! Repeaters are known by their places: what they advertise, or the addresses of their machines, and the port. Whom an
//! original repeater listens to can't be seen; whether the others listen to it can.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hailer::Timestamp;
use hailer::repeater::Config;

use super::{Judgement, Run, Violations, counted, seconds};
use crate::scenario::{Action, NodeIndex, Scenario};
use crate::trace::{RepeaterWhat, What};

pub(super) fn know_each_other(run: &Run<'_>, by: Option<Duration>) -> Judgement {
    let by = by.map_or(run.end(), |by| Timestamp::ZERO.after(by));
    let mut running: BTreeMap<NodeIndex, BTreeSet<SocketAddr>> = BTreeMap::new();
    for record in run.trace.records.iter().take_while(|record| record.at <= by) {
        match &record.what {
            What::Repeater(RepeaterWhat::Up) => drop(running.insert(record.node, BTreeSet::new())),
            What::Repeater(RepeaterWhat::Found(place)) => {
                running.entry(record.node).or_default().insert(*place);
            }
            What::Repeater(RepeaterWhat::Gone(place)) => {
                running.entry(record.node).or_default().remove(place);
            }
            What::Down(_) => drop(running.remove(&record.node)),
            _ => {}
        }
    }
    let places: BTreeMap<NodeIndex, BTreeSet<SocketAddr>> =
        running.keys().map(|node| (*node, places_of(run.scenario, *node, by))).collect();
    let mut violations = Violations::default();
    let ours = |node: NodeIndex| run.scenario.nodes[node.0 as usize].config.repeater.is_some();
    for (&node, known) in running.iter().filter(|(node, _)| ours(**node)) {
        for (other, places) in places.iter().filter(|(other, _)| **other != node) {
            if known.is_disjoint(places) {
                violations
                    .push(by, node, || format!("{} does not listen to {}", run.name(node), run.name(*other)));
            }
        }
        for place in known.iter().filter(|place| !places.values().any(|places| places.contains(place))) {
            violations
                .push(by, node, || format!("{} listens to {place}, where no repeater runs", run.name(node)));
        }
    }
    if running.len() < 2 {
        violations.push(by, NodeIndex(0), || "no two repeaters run, so nothing was shown".to_owned());
    }
    let detail = match violations.count() {
        0 => format!("{} at {}", counted(running.len(), "repeater"), seconds(by)),
        wrong => format!("{} at {}", counted(wrong, "contradiction"), seconds(by)),
    };
    violations.into_judgement(detail)
}

/// Where others find the repeater of a node at this moment.
fn places_of(scenario: &Scenario, index: NodeIndex, by: Timestamp) -> BTreeSet<SocketAddr> {
    let node = &scenario.nodes[index.0 as usize];
    let repeater = node.config.repeater.as_ref();
    let port = repeater.map_or(Config::PUBLISH_PORT, |repeater| repeater.publish_port);
    if let Some(advertised) = repeater.and_then(|repeater| repeater.advertise) {
        return BTreeSet::from([SocketAddr::new(advertised, port)]);
    }
    let mut addresses: Vec<_> = node.interfaces.iter().map(|interface| interface.address).collect();
    for step in scenario.steps.iter().take_while(|step| Timestamp::ZERO.after(step.at) <= by) {
        if let Action::Address(new) = &step.action
            && step.nodes.contains(&index)
        {
            addresses[new.interface] = new.address;
        }
    }
    addresses.into_iter().map(|address| SocketAddr::new(IpAddr::V4(address), port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::Script;
    use crate::scenario::{Crash, Move, Property};

    fn place(node: u32) -> SocketAddr {
        // The addresses that the sample gives.
        SocketAddr::from(([10, 77, 0, 1 + node as u8], 2340))
    }

    fn told(what: RepeaterWhat) -> What {
        What::Repeater(what)
    }

    /// Two repeaters, the second of which finds the first at 2 s.
    fn two() -> Script {
        Script::new(3)
            .with_repeaters(&[0, 1])
            .then(0.0, 0, told(RepeaterWhat::Up))
            .then(0.0, 1, told(RepeaterWhat::Up))
            .then(1.0, 0, told(RepeaterWhat::Found(place(1))))
            .then(2.0, 1, told(RepeaterWhat::Found(place(0))))
    }

    fn judged(script: Script, by: f64) -> Vec<String> {
        script.run(60.0).judge(Property::RepeatersKnowEachOther, Some(by)).violations()
    }

    #[test]
    fn each_listens_to_each_other_one_that_runs_and_to_nobody_else() {
        assert_eq!(judged(two(), 1.5), ["1.500 s n01: n01 does not listen to n00"]);
        assert_eq!(judged(two(), 2.0), [""; 0]);
        let dead = || two().down(3.0, 0, Crash::PowerCut);
        let restarted = || dead().then(5.0, 0, told(RepeaterWhat::Up));
        let still = "n01 listens to 10.77.0.1:2340, where no repeater runs";
        // One alone shows nothing.
        assert_eq!(judged(dead(), 4.0)[0], format!("4.000 s n01: {still}"));
        assert_eq!(judged(restarted(), 6.0), ["6.000 s n00: n00 does not listen to n01"]);
        let stranger = two().then(3.0, 0, told(RepeaterWhat::Found("10.9.9.9:2340".parse().unwrap())));
        assert_eq!(judged(stranger, 4.0).len(), 1);
    }

    #[test]
    fn a_repeater_is_where_its_machine_is_now() {
        let new = Move { interface: 0, address: [10, 77, 0, 99].into() };
        let moved = || two().cut(3.0, (vec![NodeIndex(0)], Action::Address(new)));
        assert_eq!(judged(moved(), 2.5), [""; 0]);
        assert_eq!(judged(moved(), 4.0).len(), 2);
        let found = told(RepeaterWhat::Found("10.77.0.99:2340".parse().unwrap()));
        let settled = moved().then(4.0, 1, found).then(4.5, 1, told(RepeaterWhat::Gone(place(0))));
        assert_eq!(judged(settled, 5.0), [""; 0]);
    }

    #[test]
    fn a_run_without_two_repeaters_shows_nothing() {
        assert_eq!(judged(Script::new(2), 1.0).len(), 1);
    }
}
