//! Many runs of one scenario, with different seeds: what holds for all of them, and how the numbers spread.

use std::io;
use std::path::Path;

use maud::{Markup, html};
use serde::Serialize;

use crate::check::{Verdict, property_name};
use crate::scenario::Scenario;
use crate::trace::Trace;

use super::figures::Figures;
use super::group::{self, GroupFigures, GroupResult};
use super::html::{figure, page, percentile_table, tile};
use super::json;
use super::plot::{Axis, Plot, exponent};
use super::plots::distribution;
use super::samples::{Percentiles, Samples, millis};
use super::text;

/// How many failed runs the page describes; all are in `runs.csv`.
const FAILURES_MAX: usize = 50;
/// How many runs the page's table lists.
const RUNS_MAX: usize = 500;

/// One run of a sweep, reduced to what is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRun {
    /// The seed it ran with.
    pub seed: u64,
    /// Whether every expectation was met.
    pub passed: bool,
    /// The digest of the run.
    pub digest: String,
    /// Discovery of first lives; `None` when nobody met.
    pub discovery: Option<Percentiles>,
    /// Latency of shouts; of whispers when there were no shouts. `None` when no message arrived.
    pub latency: Option<Percentiles>,
    /// What happened in LAN groups, when there are any.
    pub(super) groups: Option<GroupResult>,
    /// The expectations that were not met, each with its detail.
    pub failures: Vec<String>,
    /// The command that runs this seed alone.
    pub command: String,
}

impl SweepRun {
    /// Reduces a run that was judged.
    pub fn of(scenario: &Scenario, trace: &Trace, verdict: &Verdict, command: String) -> Self {
        let figures = Figures::of(scenario, trace);
        let failed = verdict.findings.iter().filter(|finding| !finding.passed());
        let in_words = |finding: &crate::check::Finding| {
            format!(
                "{} (line {}): {}",
                property_name(&finding.expect.that),
                finding.expect.line,
                finding.detail
            )
        };
        let shouts = figures.shout_latency.percentiles();
        Self {
            seed: trace.seed,
            passed: verdict.passed(),
            digest: trace.digest.clone(),
            discovery: figures.discovery.percentiles(),
            latency: shouts.or_else(|| figures.whisper_latency.percentiles()),
            groups: GroupFigures::of(scenario, trace).map(|groups| groups.result()),
            failures: failed.map(in_words).collect(),
            command,
        }
    }
}

/// Writes `index.html`, `result.json`, `runs.csv` and the plots of a sweep into a folder, which is made when it is not there.
///
/// `command` is what ran the sweep. The same runs give the same bytes.
///
/// # Errors
/// The folder can't be made, or a file in it can't be written.
pub fn sweep(dir: &Path, scenario: &Scenario, runs: &[SweepRun], command: &str) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let plots: Vec<Plot> = [discovery_plot(runs), latency_plot(runs)].into_iter().flatten().collect();
    for plot in &plots {
        super::put(&dir.join(format!("{}.svg", plot.name)), plot.file().as_bytes())?;
    }
    super::put(&dir.join("index.html"), sweep_page(scenario, runs, &plots, command).as_bytes())?;
    super::put(&dir.join("result.json"), result(scenario, runs, command).as_bytes())?;
    let mut csv = Vec::new();
    write_runs(&mut csv, runs)?;
    super::put(&dir.join("runs.csv"), &csv)
}

/// A sweep for a terminal: how many seeds passed, the spread of the figures, and the first failures.
pub fn sweep_summary(scenario: &Scenario, runs: &[SweepRun]) -> String {
    const FAILURES_SHOWN: usize = 5;
    let passed = runs.iter().filter(|run| run.passed).count();
    let mut lines =
        vec![format!("{}: {passed} of {} seeds passed", text::printable(&scenario.name), runs.len())];
    for (what, of) in [
        ("discovery", (|run| run.discovery) as fn(&SweepRun) -> Option<Percentiles>),
        ("latency", |run| run.latency),
    ] {
        let p95 = over_runs(runs, of, |one| one.p95);
        if let (Some(min), Some(median), Some(max)) = (p95.min(), p95.quantile(500), p95.max()) {
            let [min, median, max] = [min, median, max].map(text::duration);
            lines.push(format!("  {what}: p95 of each run: least {min}, median {median}, most {max}"));
        }
    }
    let groups: Vec<&GroupResult> = runs.iter().filter_map(|run| run.groups.as_ref()).collect();
    if !groups.is_empty() {
        lines.push(GroupResult::over(&groups));
    }
    let failed: Vec<&SweepRun> = runs.iter().filter(|run| !run.passed).collect();
    for run in failed.iter().take(FAILURES_SHOWN) {
        lines.push(format!("  seed {} FAILED: {}", run.seed, run.failures.join("; ")));
    }
    if failed.len() > FAILURES_SHOWN {
        lines.push(format!("  and {} more", failed.len() - FAILURES_SHOWN));
    }
    lines.join("\n")
}

/// One percentile of a distribution, over runs.
type Pick = (&'static str, fn(&Percentiles) -> u64);
const PICKS: [Pick; 3] = [
    ("p50 of each run", |one| one.p50),
    ("p95 of each run", |one| one.p95),
    ("max of each run", |one| one.max),
];

fn over_runs(
    runs: &[SweepRun],
    of: fn(&SweepRun) -> Option<Percentiles>,
    pick: fn(&Percentiles) -> u64,
) -> Samples {
    runs.iter().filter_map(of).map(|percentiles| pick(&percentiles)).collect()
}

fn discovery_plot(runs: &[SweepRun]) -> Option<Plot> {
    let parts = PICKS.map(|(name, pick)| (name, over_runs(runs, |run| run.discovery, pick)));
    let max = parts.iter().filter_map(|(_, samples)| samples.max()).max()?;
    let x = Axis::linear("from both up to ENTER", max as f64 / 1e9, " s");
    let caption = "Time to discover a peer, over seeds".to_owned();
    let parts = parts.each_ref().map(|(name, samples)| (*name, samples));
    Some(distribution("discovery", caption, &x, "runs", &parts, |nanos| nanos as f64 / 1e9))
}

fn latency_plot(runs: &[SweepRun]) -> Option<Plot> {
    let parts = PICKS.map(|(name, pick)| (name, over_runs(runs, |run| run.latency, pick)));
    let min = parts.iter().filter_map(|(_, samples)| samples.min()).min()?;
    let max = parts.iter().filter_map(|(_, samples)| samples.max()).max()?;
    let x = Axis::log_time("from sending to arrival, logarithmic", min.max(1), max.max(1));
    let caption = "Time from sending a message to its arrival, over seeds".to_owned();
    let parts = parts.each_ref().map(|(name, samples)| (*name, samples));
    Some(distribution("latency", caption, &x, "runs", &parts, exponent))
}

fn sweep_page(scenario: &Scenario, runs: &[SweepRun], plots: &[Plot], command: &str) -> String {
    let passed = runs.iter().filter(|run| run.passed).count();
    let all_passed = passed == runs.len();
    let failed: Vec<&SweepRun> = runs.iter().filter(|run| !run.passed).collect();
    let name = text::printable(&scenario.name);
    let body = html! {
        header {
            p.eyebrow { "hailer-sim · sweep over " (text::count(runs.len())) " seeds" }
            h1 { (name) }
            p style="margin-top:8px" { (text::printable(scenario.about.trim())) }
        }
        section.card.verdict.bad[!all_passed] {
            p.word {
                @if runs.is_empty() {
                    "Nothing ran"
                } @else if all_passed {
                    "Passed: every expectation was met with all " (text::count(runs.len())) " seeds"
                } @else {
                    "Failed with " (text::count(failed.len())) " of " (text::count(runs.len())) " seeds"
                }
            }
            @if !failed.is_empty() {
                ul.findings {
                    @for run in failed.iter().take(FAILURES_MAX) {
                        li {
                            div.mark.bad { "✗ failed" }
                            div {
                                p { "Seed " (run.seed) }
                                @for failure in &run.failures { p.muted { (text::printable(failure)) } }
                                pre style="margin-top:8px" { code { (text::printable(&run.command)) } }
                            }
                        }
                    }
                }
                @if failed.len() > FAILURES_MAX {
                    p.muted { "and " (text::count(failed.len() - FAILURES_MAX)) " more, in runs.csv" }
                }
            }
        }
        (tiles(runs, passed))
        h2 { "Over seeds" }
        div.pair { @for plot in plots { (figure(plot)) } }
        div.stack {
            div.card { (spread("Discovery", runs, |run| run.discovery)) }
            div.card { (spread("Message latency", runs, |run| run.latency)) }
        }
        h2 { "Runs" }
        div.card { (run_table(runs)) }
        h2 { "The sweep" }
        div.card { dl.facts {
            dt { "Run it again" } dd { pre { code { (text::printable(command)) } } }
            dt { "Files" } dd {
                a href="result.json" { "result.json" } ", " a href="runs.csv" { "runs.csv" }
                @for plot in plots { ", " a href={ (plot.name) ".svg" } { (plot.name) ".svg" } }
            }
        } }
        footer { "Percentiles are nearest-rank: each is a value that was measured." }
    };
    page(&format!("{name}, {} seeds", runs.len()), &body)
}

fn tiles(runs: &[SweepRun], passed: usize) -> Markup {
    let worst = |of: fn(&SweepRun) -> Option<Percentiles>| {
        let worst = runs.iter().filter_map(|run| Some((of(run)?.max, run.seed))).max_by_key(|(max, _)| *max);
        match worst {
            Some((max, seed)) => (text::duration(max), format!("the longest of all runs, seed {seed}")),
            None => ("–".to_owned(), "no samples".to_owned()),
        }
    };
    let (discovery, discovery_note) = worst(|run| run.discovery);
    let (latency, latency_note) = worst(|run| run.latency);
    html! {
        div.tiles {
            (tile("Passed", &format!("{} %", text::percent(passed, runs.len())),
                &format!("{} of {} seeds", text::count(passed), text::count(runs.len()))))
            (tile("Slowest discovery", &discovery, &discovery_note))
            (tile("Slowest message", &latency, &latency_note))
        }
    }
}

/// How each percentile spreads over the runs.
fn spread(heading: &str, runs: &[SweepRun], of: fn(&SweepRun) -> Option<Percentiles>) -> Markup {
    let rows: Vec<(&str, Option<Percentiles>)> =
        PICKS.iter().map(|(name, pick)| (*name, over_runs(runs, of, *pick).percentiles())).collect();
    percentile_table(&format!("{heading}; n counts runs"), &rows)
}

fn run_table(runs: &[SweepRun]) -> Markup {
    let cell = |nanos: Option<u64>| nanos.map_or("–".to_owned(), text::duration);
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "seed" }
                th scope="col" { "verdict" }
                @for column in ["discovery p50", "p95", "max", "latency p50", "p95", "max"] { th.n scope="col" { (column) } }
                th scope="col" style="padding-left:20px" { "digest" }
            } }
            tbody { @for run in runs.iter().take(RUNS_MAX) {
                tr.bad[!run.passed] {
                    th scope="row" { (run.seed) }
                    td { @if run.passed { "✓ passed" } @else { "✗ failed" } }
                    @for percentiles in [run.discovery, run.latency] {
                        td.n { (cell(percentiles.map(|one| one.p50))) }
                        td.n { (cell(percentiles.map(|one| one.p95))) }
                        td.n { (cell(percentiles.map(|one| one.max))) }
                    }
                    td style="padding-left:20px" { code { (text::printable(&run.digest).chars().take(16).collect::<String>()) } }
                }
            } }
        } }
        @if runs.len() > RUNS_MAX {
            p.muted.small style="margin:12px 0 0" { "and " (text::count(runs.len() - RUNS_MAX)) " more runs, in runs.csv" }
        }
    }
}

#[derive(Serialize)]
struct SweepFile<'a> {
    scenario: &'a str,
    about: &'a str,
    command: &'a str,
    passed: bool,
    runs_passed: usize,
    runs: Vec<RunEntry<'a>>,
}

#[derive(Serialize)]
struct RunEntry<'a> {
    seed: u64,
    passed: bool,
    digest: &'a str,
    discovery: Option<Percentiles>,
    latency: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a GroupResult>,
    failures: &'a [String],
    command: &'a str,
}

fn result(scenario: &Scenario, runs: &[SweepRun], command: &str) -> String {
    json::pretty(&SweepFile {
        scenario: &scenario.name,
        about: &scenario.about,
        command,
        passed: runs.iter().all(|run| run.passed),
        runs_passed: runs.iter().filter(|run| run.passed).count(),
        runs: runs
            .iter()
            .map(|run| RunEntry {
                seed: run.seed,
                passed: run.passed,
                digest: &run.digest,
                discovery: run.discovery,
                latency: run.latency,
                groups: run.groups.as_ref(),
                failures: &run.failures,
                command: &run.command,
            })
            .collect(),
    })
}

fn write_runs(out: impl io::Write, runs: &[SweepRun]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let mut header = vec!["seed".to_owned(), "passed".to_owned(), "digest".to_owned()];
    for what in ["discovery", "latency"] {
        header.push(format!("{what}_n"));
        header.extend(["min", "p50", "p90", "p95", "p99", "max"].map(|column| format!("{what}_{column}_ms")));
    }
    let has_groups = runs.iter().any(|run| run.groups.is_some());
    if has_groups {
        header.extend(group::COLUMNS.map(str::to_owned));
    }
    header.push("failures".to_owned());
    csv.write_record(&header)?;
    for run in runs {
        let passed = if run.passed { "yes" } else { "no" };
        let mut row = vec![run.seed.to_string(), passed.to_owned(), run.digest.clone()];
        for percentiles in [run.discovery, run.latency] {
            match percentiles {
                Some(one) => {
                    row.push(one.n.to_string());
                    row.extend(super::html::spans(&one).map(|nanos| format!("{:.3}", millis(nanos))));
                }
                None => row.extend(vec![String::new(); 7]),
            }
        }
        if has_groups {
            let empty = || vec![String::new(); group::COLUMNS.len()];
            row.extend(run.groups.as_ref().map_or_else(empty, GroupResult::cells));
        }
        row.push(run.failures.join("; "));
        csv.write_record(&row)?;
    }
    csv.flush()
}
