//! What turmoil's own network can't do, and refusing scenarios that need it.
//!
//! The file is looked through once more for this, key by key: whatever is not known to work is refused at its place.

use std::time::Duration;

use hailer::daemon::Diagnostics;
use hailer::daemon::diagnostic::{Problem, Span};
use toml::de::{DeTable, DeValue};

use crate::scenario::{Delay, Direction, Link, Scenario};

/// More nodes take longer than anybody waits: the cost of a simulated second grows with their cube.
const NODES_MAX: usize = 50;

/// Top tables that this world knows.
const TABLES: [&str; 7] = ["scenario", "segment", "node", "traffic", "step", "churn", "expect"];
const SEGMENT_KEYS: [&str; 3] = ["name", "prefix", "link"];
const NODE_KEYS: [&str; 8] = ["name", "count", "segment", "address", "link", "interfaces", "start", "zre"];
const INTERFACE_KEYS: [&str; 3] = ["segment", "address", "link"];
const TRAFFIC_KEYS: [&str; 7] = ["from", "shout", "whisper", "every", "start", "stop", "bytes"];
const CHURN_KEYS: [&str; 6] = ["node", "up", "down", "crash", "start", "stop"];
/// Keys of `[node.zre]` that mean the same here, whatever their value is.
const ZRE_KEYS: [&str; 16] = [
    "name",
    "identity",
    "headers",
    "groups",
    "contest",
    "interface",
    "broadcast",
    "port",
    "tcp_port",
    "beacon",
    "peers",
    "advertise",
    "interval",
    "evasive",
    "silent",
    "expired",
];
/// Values of others that do.
const ZRE_VALUES: [(&str, &str); 3] = [("ipv6", "false"), ("multicast", "auto"), ("multicast", "never")];
const STEP_KEYS: [&str; 9] = ["at", "node", "crash", "restart", "join", "leave", "shout", "whisper", "bytes"];
/// Properties of what applications see.
const PROPERTIES: [&str; 9] = [
    "leaders-are-agreed",
    "everyone-knows-everyone",
    "the-dead-are-gone",
    "membership-is-symmetric",
    "no-live-peer-exits",
    "nobody-unknown-appears",
    "never-meet",
    "shouts-arrive-once-and-in-order",
    "whispers-arrive-once-and-in-order",
];

/// How long a packet takes from node to node, in whole milliseconds. Zero of a scenario that would be refused.
pub(super) fn delay(scenario: &Scenario) -> Duration {
    scenario.segments.first().and_then(|segment| crossing(&segment.link)).unwrap_or_default()
}

/// How long a packet takes over two links like this, when that is all that happens to it and turmoil can do it.
fn crossing(link: &Link) -> Option<Duration> {
    let plain = |direction: &Direction| match direction.delay {
        Delay::Fixed(delay) => {
            let only = Direction { delay: Delay::Fixed(delay), ..Direction::default() };
            (*direction == only).then_some(delay)
        }
        _ => None,
    };
    let whole = plain(&link.up)? + plain(&link.down)?;
    let is_plain = link.mtu == Link::default().mtu && whole.subsec_nanos() % 1_000_000 == 0;
    is_plain.then_some(whole)
}

/// Refuses a scenario that turmoil's network can't run. `text` is the file that it was read from.
///
/// # Errors
/// Everything in the file that can't be, and why.
pub fn refuse(source_name: &str, text: &str, scenario: &Scenario) -> Result<(), Diagnostics> {
    let mut problems = Problems(Vec::new());
    // The scenario was read from this text, so it has no mistake in its grammar.
    if let Ok(document) = DeTable::parse(text) {
        look_through(document.get_ref(), scenario, &mut problems);
    }
    Diagnostics::new(source_name, text, problems.0).map_or(Ok(()), Err)
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, span: Span, message: impl Into<String>) {
        let help = "run this scenario without `--world turmoil`".to_owned();
        self.0.push(Problem { span, message: message.into(), help, related: None });
    }

    fn add_others(&mut self, table: &DeTable<'_>, known: &[&str], why: impl Fn(&str) -> String) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            self.add(key.span(), why(key.get_ref()));
        }
    }
}

fn look_through(file: &DeTable<'_>, scenario: &Scenario, problems: &mut Problems) {
    problems.add_others(file, &TABLES, |key| match key {
        "router" => "turmoil's network is one flat LAN, without routers".to_owned(),
        key => format!("turmoil's network has no `{key}`"),
    });
    let segments = items(file, "segment");
    if let Some((_, span)) = segments.get(1) {
        problems.add(span.clone(), "turmoil's network is one flat LAN, and this is a second segment");
    }
    for (segment, _) in &segments {
        problems.add_others(segment, &SEGMENT_KEYS, |key| {
            format!("a segment of turmoil's network has no `{key}`")
        });
    }
    if let (Some(segment), Some((table, span))) = (scenario.segments.first(), segments.first())
        && crossing(&segment.link).is_none()
    {
        let span = table.get_key_value("link").map_or_else(|| span.clone(), |(key, _)| key.span());
        problems.add(
            span,
            "links of turmoil's network have one fixed delay, whole milliseconds from node to node, and nothing else",
        );
    }
    let links = scenario.segments.first().map(|segment| &segment.link);
    let mut nodes = scenario.nodes.as_slice();
    for (table, span) in items(file, "node") {
        problems.add_others(table, &NODE_KEYS, |key| format!("a node on turmoil's network has no `{key}`"));
        let interfaces = items(table, "interfaces");
        if let Some((_, span)) = interfaces.get(1) {
            problems.add(span.clone(), "a node on turmoil's network has one interface");
        }
        for (interface, _) in &interfaces {
            problems.add_others(interface, &INTERFACE_KEYS, |key| {
                format!("an interface on turmoil's network has no `{key}`")
            });
        }
        if let Some(zre) = table.get("zre").and_then(|zre| zre.get_ref().as_table()) {
            look_at_zre(zre, problems);
        }
        let count = table.get("count").and_then(|count| count.get_ref().as_integer()?.as_str().parse().ok());
        let (own, rest) = nodes.split_at(count.unwrap_or(1).min(nodes.len()));
        nodes = rest;
        if own.iter().flat_map(|node| &node.interfaces).any(|interface| Some(&interface.link) != links) {
            let place = table.get_key_value("link").map_or(span, |(key, _)| key.span());
            problems.add(place, "all links of turmoil's network are alike");
        }
    }
    if scenario.nodes.len() > NODES_MAX {
        let span = file.get_key_value("node").map_or(0..0, |(key, _)| key.span());
        problems.add(
            span,
            format!("these are more than {NODES_MAX} nodes, and turmoil's network takes too long for them"),
        );
    }
    for (traffic, _) in items(file, "traffic") {
        problems.add_others(traffic, &TRAFFIC_KEYS, |key| {
            format!("turmoil's network has no traffic with `{key}`: nothing on its hosts serves sessions")
        });
    }
    for (churn, _) in items(file, "churn") {
        problems.add_others(churn, &CHURN_KEYS, |key| format!("a churn on turmoil's network has no `{key}`"));
    }
    for (step, _) in items(file, "step") {
        problems.add_others(step, &STEP_KEYS, |key| {
            format!("turmoil's network can't do `{key}`: {}", why_not(key))
        });
    }
    for (expect, _) in items(file, "expect") {
        for (key, value) in ["always", "that"].iter().filter_map(|key| expect.get_key_value(*key)) {
            let property = value.get_ref().as_str().unwrap_or_default();
            if !PROPERTIES.contains(&property) {
                problems.add(
                    key.span(),
                    format!("nothing is counted on turmoil's network, so `{property}` can't be judged"),
                );
            }
        }
    }
}

fn look_at_zre(zre: &DeTable<'_>, problems: &mut Problems) {
    for (key, value) in zre {
        let (name, value) = (key.get_ref().as_ref(), value.get_ref());
        let written = match value {
            DeValue::Boolean(value) => value.to_string(),
            value => value.as_str().unwrap_or_default().to_owned(),
        };
        if ZRE_KEYS.contains(&name) || ZRE_VALUES.contains(&(name, written.as_str())) {
            continue;
        }
        let message = match name {
            "ipv6" => "the hosts of turmoil's network have one address each, of IPv4".to_owned(),
            "multicast" => "turmoil has one socket for a port, so nobody hears a multicast group".to_owned(),
            "gossip" => "no gossip hub runs on turmoil's network".to_owned(),
            name => format!("a ZRE node on turmoil's network has no `{name}`"),
        };
        problems.add(key.span(), message);
    }
}

/// Why a step is no step of this world.
fn why_not(key: &str) -> &'static str {
    match key {
        "pause" | "resume" => "its hosts can't stand still",
        "partition" | "heal" | "interface" => "its TCP never sends again what was lost meanwhile",
        "link" => "its links have one fixed delay",
        "clock" => "all its clocks are right",
        "slow" => "node code takes no time on it",
        "address" => "a host has one address for ever",
        _ => "it has no such thing",
    }
}

/// The tables in a list of tables, with their places.
fn items<'t>(table: &'t DeTable<'_>, key: &str) -> Vec<(&'t DeTable<'t>, Span)> {
    let list = table.get(key).and_then(|value| match value.get_ref() {
        DeValue::Array(list) => Some(list),
        _ => None,
    });
    let tables = list.into_iter().flat_map(|list| list.iter());
    tables.filter_map(|item| Some((item.get_ref().as_table()?, item.span()))).collect()
}
