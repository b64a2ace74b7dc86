//! `result.json`: the verdict and the numbers of a run, for programs. Names carry their units.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::{Failure, Finding, Outcome, Verdict, property_name};
use crate::scenario::Scenario;
use crate::trace::{Count, Trace};

use super::figures::{self, EventCounts, Figures};
use super::group::{GroupFigures, GroupResult};
use super::samples::Percentiles;
use super::text;

#[derive(Serialize)]
struct ResultFile<'a> {
    scenario: &'a str,
    about: &'a str,
    seed: u64,
    digest: &'a str,
    command: &'a str,
    duration_s: f64,
    passed: bool,
    failure: Option<&'static str>,
    expectations: Vec<Expectation<'a>>,
    discovery: BTreeMap<&'static str, Option<Percentiles>>,
    entered_again: usize,
    mesh_at_end: MeshAtEnd,
    latency: BTreeMap<&'static str, Option<Percentiles>>,
    deaths: BTreeMap<&'static str, Death>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<GroupResult>,
    events: Events,
    refused: usize,
    traffic: Traffic,
    nodes: Vec<Node<'a>>,
}

#[derive(Serialize)]
struct Expectation<'a> {
    that: &'static str,
    by_s: Option<f64>,
    line: usize,
    text: &'a str,
    passed: bool,
    detail: &'a str,
    violations: Vec<Violation<'a>>,
    more_violations: usize,
}

#[derive(Serialize)]
struct Violation<'a> {
    at_s: f64,
    node: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct MeshAtEnd {
    known_pairs: usize,
    wanted_pairs: usize,
}

#[derive(Serialize)]
struct Death {
    lives: usize,
    not_noticed: usize,
    noticed: Option<Percentiles>,
}

#[derive(Serialize)]
struct Events {
    enter: usize,
    exit: usize,
    evasive: usize,
    silent: usize,
    shouts_sent: usize,
    shouts_got: usize,
    whispers_sent: usize,
    whispers_got: usize,
}

#[derive(Serialize)]
struct Traffic {
    sent: BTreeMap<&'static str, Volume>,
    received: BTreeMap<&'static str, Volume>,
    dropped: BTreeMap<&'static str, Volume>,
    node_seconds: f64,
    beacons_per_node_second: f64,
}

#[derive(Serialize)]
struct Volume {
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    addresses: Vec<String>,
    lives: usize,
    known_at_end: Option<usize>,
    events: Events,
    sent: Volume,
    received: Volume,
    dropped: Volume,
    dropped_by_cause: BTreeMap<&'static str, Volume>,
}

/// The result for programs.
pub(super) fn result<'a>(
    scenario: &'a Scenario,
    trace: &'a Trace,
    verdict: &'a Verdict,
    figures: &Figures,
    command: &'a str,
) -> impl Serialize + use<'a> {
    let mesh = figures.mesh_at_end();
    let parts = scenario.nodes.iter().zip(&figures.nodes).zip(&trace.traffic);
    let nodes = parts.map(|((node, numbers), traffic)| Node {
        name: &node.name,
        addresses: node.interfaces.iter().map(|one| one.address.to_string()).collect(),
        lives: numbers.lives,
        known_at_end: numbers.known_at_end,
        events: events(&numbers.counts),
        sent: volume(figures::sum(&traffic.sent)),
        received: volume(figures::sum(&traffic.received)),
        dropped: volume(figures::sum(&traffic.dropped)),
        dropped_by_cause: volumes(&traffic.dropped, text::drop_key),
    });
    ResultFile {
        scenario: &scenario.name,
        about: &scenario.about,
        seed: trace.seed,
        digest: &trace.digest,
        command,
        duration_s: rounded(trace.duration.as_secs_f64()),
        passed: verdict.passed(),
        failure: verdict.failure().map(failure),
        expectations: verdict.findings.iter().map(|finding| expectation(scenario, finding)).collect(),
        discovery: [
            ("first_lives", figures.discovery.percentiles()),
            ("after_restart", figures.discovery_restart.percentiles()),
        ]
        .into(),
        entered_again: figures.entered_again,
        mesh_at_end: MeshAtEnd {
            known_pairs: mesh.map_or(0, |point| point.known),
            wanted_pairs: mesh.map_or(0, |point| point.wanted),
        },
        latency: [
            ("shouts", figures.shout_latency.percentiles()),
            ("whispers", figures.whisper_latency.percentiles()),
        ]
        .into(),
        deaths: figures
            .deaths
            .iter()
            .map(|deaths| {
                let death = Death {
                    lives: deaths.lives,
                    not_noticed: deaths.unnoticed,
                    noticed: deaths.noticed.percentiles(),
                };
                (text::crash_key(deaths.crash), death)
            })
            .collect(),
        groups: GroupFigures::of(scenario, trace).map(|groups| groups.result()),
        events: events(&figures.counts),
        refused: figures.refused.len(),
        traffic: Traffic {
            sent: volumes(&figures.traffic.sent, text::kind_key),
            received: volumes(&figures.traffic.received, text::kind_key),
            dropped: volumes(&figures.traffic.dropped, text::drop_key),
            node_seconds: rounded(figures.node_seconds),
            beacons_per_node_second: rounded(figures.beacons_per_node_second()),
        },
        nodes: nodes.collect(),
    }
}

/// JSON as every file of a report is written.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("text and numbers can be written as JSON");
    text.push('\n');
    text
}

/// The kind of failure in a word.
pub(super) fn failure(failure: Failure) -> &'static str {
    match failure {
        Failure::Safety => "safety",
        Failure::Liveness => "liveness",
    }
}

fn expectation<'a>(scenario: &'a Scenario, finding: &'a Finding) -> Expectation<'a> {
    let (violations, more): (&[_], _) = match &finding.outcome {
        Outcome::Passed => (&[], 0),
        Outcome::Failed { violations, more } => (violations, *more),
    };
    let violation = |one: &'a crate::check::Violation| Violation {
        at_s: rounded(one.at.as_secs_f64()),
        node: &scenario.nodes[one.node.0 as usize].name,
        text: &one.text,
    };
    Expectation {
        that: property_name(&finding.expect.that),
        by_s: finding.expect.by.map(|by| rounded(by.as_secs_f64())),
        line: finding.expect.line,
        text: &finding.text,
        passed: finding.passed(),
        detail: &finding.detail,
        violations: violations.iter().map(violation).collect(),
        more_violations: more,
    }
}

fn events(counts: &EventCounts) -> Events {
    Events {
        enter: counts.enter,
        exit: counts.exit,
        evasive: counts.evasive,
        silent: counts.silent,
        shouts_sent: counts.shouts_sent,
        shouts_got: counts.shouts_got,
        whispers_sent: counts.whispers_sent,
        whispers_got: counts.whispers_got,
    }
}

fn volume(count: Count) -> Volume {
    Volume { packets: count.packets, bytes: count.bytes }
}

fn volumes<K: Copy>(
    counts: &BTreeMap<K, Count>,
    name: fn(K) -> &'static str,
) -> BTreeMap<&'static str, Volume> {
    counts.iter().map(|(key, count)| (name(*key), volume(*count))).collect()
}

/// To six digits after the point, so that no noise of the arithmetic shows.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
