//! What a report says of LAN groups: how fast members are found and missed, how often wrongly, and what it costs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::group::History;
use crate::scenario::Scenario;
use crate::trace::{Count, Trace};

use super::samples::{Percentiles, Samples};
use super::text;

/// The figures of all groups of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupFigures {
    discovery: Samples,
    noticed: BTreeMap<&'static str, Samples>,
    not_noticed: usize,
    suspicions: usize,
    false_removals: usize,
    /// In milliseconds.
    pair_time_ms: u64,
    member_time_ms: u64,
    sent: Count,
    received: Count,
}

/// Those of one run of many: what is compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct GroupResult {
    discovery: Option<Percentiles>,
    noticed: BTreeMap<&'static str, Option<Percentiles>>,
    not_noticed: usize,
    suspicions: usize,
    false_removals: usize,
    /// Hours that one watched another, all pairs together.
    pair_hours: f64,
    member_seconds: f64,
    packets_sent_per_member_second: f64,
    packets_received_per_member_second: f64,
    bytes_sent_per_member_second: f64,
    bytes_received_per_member_second: f64,
}

impl GroupFigures {
    /// `None` when nobody was in a group.
    pub(super) fn of(scenario: &Scenario, trace: &Trace) -> Option<Self> {
        if scenario.nodes.iter().all(|node| node.config.groups.is_empty()) {
            return None;
        }
        let history = History::of(scenario, trace);
        if history.is_empty() {
            return None;
        }
        let mut sent = Count::default();
        let mut received = Count::default();
        for (node, traffic) in scenario.nodes.iter().zip(&trace.traffic) {
            if !node.config.groups.is_empty() {
                let own = [(&traffic.sent, &mut sent), (&traffic.received, &mut received)];
                for (counts, total) in own {
                    let count = super::figures::sum(counts);
                    total.packets += count.packets;
                    total.bytes += count.bytes;
                }
            }
        }
        Some(Self {
            not_noticed: history.unnoticed(),
            discovery: history.discovery.into_iter().collect(),
            noticed: history
                .noticed
                .into_iter()
                .map(|(how, spans)| (how, spans.into_iter().collect()))
                .collect(),
            suspicions: history.suspicions,
            false_removals: history.false_removals.len(),
            pair_time_ms: history.pair_time.as_millis() as u64,
            member_time_ms: history.member_time.as_millis() as u64,
            sent,
            received,
        })
    }

    pub(super) fn result(&self) -> GroupResult {
        let seconds = self.member_time_ms as f64 / 1e3;
        let per_second = |count: u64| if seconds > 0.0 { rounded(count as f64 / seconds) } else { 0.0 };
        GroupResult {
            discovery: self.discovery.percentiles(),
            noticed: self.noticed.iter().map(|(how, spans)| (*how, spans.percentiles())).collect(),
            not_noticed: self.not_noticed,
            suspicions: self.suspicions,
            false_removals: self.false_removals,
            pair_hours: rounded(self.pair_time_ms as f64 / 3.6e6),
            member_seconds: rounded(seconds),
            packets_sent_per_member_second: per_second(self.sent.packets),
            packets_received_per_member_second: per_second(self.received.packets),
            bytes_sent_per_member_second: per_second(self.sent.bytes),
            bytes_received_per_member_second: per_second(self.received.bytes),
        }
    }

    /// The distributions, with what they are of.
    pub(super) fn rows(&self) -> Vec<(String, &Samples)> {
        let mut rows = vec![("member found".to_owned(), &self.discovery)];
        let noticed = self.noticed.iter();
        rows.extend(noticed.map(|(how, spans)| (format!("REMOVED after {}", how.replace('_', " ")), spans)));
        rows
    }

    /// What is no distribution, in a line.
    pub(super) fn line(&self) -> String {
        let GroupResult {
            false_removals,
            pair_hours,
            suspicions,
            packets_sent_per_member_second,
            packets_received_per_member_second,
            ..
        } = self.result();
        format!(
            "{} false removals in {pair_hours:.1} hours of one watching another, {} suspicions; {packets_sent_per_member_second:.1} \
             packets sent and {packets_received_per_member_second:.1} received a second and member",
            text::count(false_removals),
            text::count(suspicions),
        )
    }
}

/// Columns of `runs.csv`; those of [`GroupResult::cells`].
pub(super) const COLUMNS: [&str; 15] = [
    "found_p50_ms",
    "found_max_ms",
    "power_cut_n",
    "power_cut_p50_ms",
    "power_cut_p99_ms",
    "power_cut_max_ms",
    "process_exit_n",
    "process_exit_p50_ms",
    "process_exit_max_ms",
    "not_noticed",
    "suspicions",
    "false_removals",
    "pair_hours",
    "packets_sent_per_member_second",
    "packets_received_per_member_second",
];

impl GroupResult {
    pub(super) fn cells(&self) -> Vec<String> {
        let of = |how: &str| self.noticed.get(how).copied().flatten();
        let millis = |nanos: Option<u64>| {
            nanos.map(|nanos| format!("{:.3}", super::samples::millis(nanos))).unwrap_or_default()
        };
        let n = |one: Option<Percentiles>| one.map_or(0, |one| one.n).to_string();
        let (cut, exit) = (of("power_cut"), of("process_exit"));
        vec![
            millis(self.discovery.map(|one| one.p50)),
            millis(self.discovery.map(|one| one.max)),
            n(cut),
            millis(cut.map(|one| one.p50)),
            millis(cut.map(|one| one.p99)),
            millis(cut.map(|one| one.max)),
            n(exit),
            millis(exit.map(|one| one.p50)),
            millis(exit.map(|one| one.max)),
            self.not_noticed.to_string(),
            self.suspicions.to_string(),
            self.false_removals.to_string(),
            self.pair_hours.to_string(),
            self.packets_sent_per_member_second.to_string(),
            self.packets_received_per_member_second.to_string(),
        ]
    }

    /// Over many runs, for a terminal.
    pub(super) fn over(runs: &[&Self]) -> String {
        let removals: usize = runs.iter().map(|run| run.false_removals).sum();
        let hours: f64 = runs.iter().map(|run| run.pair_hours).sum();
        let mut lines = vec![format!(
            "  groups: {} false removals in {hours:.1} hours of one watching another{}",
            text::count(removals),
            if removals > 0 {
                format!(", one in {:.3} hours", hours / removals as f64)
            } else {
                String::new()
            }
        )];
        for how in ["power_cut", "process_exit", "stop"] {
            let of = || runs.iter().filter_map(|run| run.noticed.get(how).copied().flatten());
            let (Some(p50), Some(max)) = (of().map(|one| one.p50).max(), of().map(|one| one.max).max())
            else {
                continue;
            };
            let n: usize = of().map(|one| one.n).sum();
            lines.push(format!(
                "  groups: REMOVED after {}: {} samples, p50 of each run at most {}, most {}",
                how.replace('_', " "),
                text::count(n),
                text::duration(p50),
                text::duration(max)
            ));
        }
        lines.join("\n")
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
