//! The plots of one run.

use crate::scenario::{Action, Scenario};
use crate::trace::Trace;

use super::figures::{Figures, Moments};
use super::plot::{Axis, Mark, Plot, Series, Strip, Tone, chart, exponent, round_step, strips};
use super::samples::Samples;
use super::text;
use super::topology::topology;

const TONES: [Tone; 3] = [Tone::Accent, Tone::Ink, Tone::Quiet];

/// The plots of one run; those without anything to show are absent.
pub(super) struct Plots {
    pub(super) discovery: Option<Plot>,
    pub(super) mesh: Option<Plot>,
    pub(super) latency: Option<Plot>,
    pub(super) deaths: Option<Plot>,
    pub(super) timeline: Plot,
    pub(super) topology: Plot,
}

impl Plots {
    pub(super) fn of(scenario: &Scenario, trace: &Trace, figures: &Figures) -> Self {
        Self {
            discovery: discovery(figures),
            mesh: mesh(trace, figures),
            latency: latency(figures),
            deaths: deaths(figures),
            timeline: timeline(scenario, trace, &figures.moments),
            topology: topology(scenario),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Plot> {
        let some = [&self.discovery, &self.mesh, &self.latency, &self.deaths];
        some.into_iter().flatten().chain([&self.timeline, &self.topology])
    }
}

fn discovery(figures: &Figures) -> Option<Plot> {
    let parts = [("first lives", &figures.discovery), ("after a restart", &figures.discovery_restart)];
    let max = parts.iter().filter_map(|(_, samples)| samples.max()).max()?;
    let x = Axis::linear("from both up to ENTER", max as f64 / 1e9, " s");
    let caption = "Time to discover a peer, over ordered pairs".to_owned();
    Some(distribution("discovery", caption, &x, "pairs", &parts, |nanos| nanos as f64 / 1e9))
}

fn latency(figures: &Figures) -> Option<Plot> {
    let parts = [("shouts", &figures.shout_latency), ("whispers", &figures.whisper_latency)];
    let caption = "Time from sending a message to its arrival, over arrivals".to_owned();
    over_log("latency", caption, "from sending to arrival, logarithmic", "arrivals", &parts)
}

fn deaths(figures: &Figures) -> Option<Plot> {
    let parts: Vec<(&str, &Samples)> =
        figures.deaths.iter().map(|deaths| (text::crash(deaths.crash), &deaths.noticed)).collect();
    let caption = "Time to notice that a peer is gone, over its observers".to_owned();
    over_log("deaths", caption, "from the end of a life to its EXIT, logarithmic", "observers", &parts)
}

fn over_log(
    name: &'static str,
    caption: String,
    label: &str,
    noun: &str,
    parts: &[(&str, &Samples)],
) -> Option<Plot> {
    let min = parts.iter().filter_map(|(_, samples)| samples.min()).min()?;
    let max = parts.iter().filter_map(|(_, samples)| samples.max()).max()?;
    let x = Axis::log_time(label, min.max(1), max.max(1));
    Some(distribution(name, caption, &x, noun, parts, exponent))
}

/// The share of samples that are not longer, one line for each part.
pub(super) fn distribution(
    name: &'static str,
    caption: String,
    x: &Axis,
    noun: &str,
    parts: &[(&str, &Samples)],
    place: impl Fn(u64) -> f64,
) -> Plot {
    let y = Axis::until(&format!("share of {noun} that took no longer"), 100.0, " %");
    let series: Vec<Series> = parts
        .iter()
        .zip(TONES)
        .filter(|((_, samples), _)| !samples.is_empty())
        .map(|((name, samples), tone)| {
            let stairs = samples.staircase();
            let from = (x.range.0, 0.0);
            let to = (x.range.1, 100.0);
            let points = stairs.into_iter().map(|(span, share)| (place(span), share * 100.0));
            Series {
                name: format!("{name}, n = {}", text::count(samples.len())),
                tone,
                points: [from].into_iter().chain(points).chain([to]).collect(),
            }
        })
        .collect();
    chart(name, caption, x, &y, &series)
}

fn mesh(trace: &Trace, figures: &Figures) -> Option<Plot> {
    let most = figures.mesh.iter().map(|point| point.wanted).max().filter(|most| *most > 0)?;
    let end = trace.duration.as_secs_f64();
    let stairs = |level: fn(&super::figures::MeshPoint) -> usize| {
        let mut points = Vec::new();
        let mut before = 0.0;
        for point in &figures.mesh {
            let (at, now) = (point.at.as_secs_f64(), level(point) as f64);
            points.extend([(at, before), (at, now)]);
            before = now;
        }
        points.push((end, before));
        points
    };
    let series = [
        Series { name: "known".to_owned(), tone: Tone::Accent, points: stairs(|point| point.known) },
        Series {
            name: format!("to know, at most {}", text::count(most)),
            tone: Tone::Quiet,
            points: stairs(|point| point.wanted),
        },
    ];
    let x = Axis::until("simulated time", end, " s");
    let y = Axis::linear("ordered pairs of running nodes: the first knows the second", most as f64, "");
    let caption = "How the mesh filled".to_owned();
    Some(chart("mesh", caption, &x, &y, &series))
}

fn timeline(scenario: &Scenario, trace: &Trace, moments: &Moments) -> Plot {
    let end = trace.duration.as_secs_f64().max(1e-3);
    // About 200 bars.
    let bin = round_step(end / 200.0);
    let bins = ((end / bin).ceil() as usize).max(1);
    let strip = |name: &str, tone: Tone, moments: &[hailer::Timestamp]| {
        let mut counts = vec![0u64; bins];
        for at in moments {
            counts[((at.as_secs_f64() / bin) as usize).min(bins - 1)] += 1;
        }
        Strip { name: name.to_owned(), tone, counts }
    };
    let all = [
        strip("ENTER", Tone::Accent, &moments.enter),
        strip("EVASIVE", Tone::Quiet, &moments.evasive),
        strip("SILENT", Tone::Quiet, &moments.silent),
        strip("EXIT", Tone::Ink, &moments.exit),
    ];
    let mut marks: Vec<Mark> = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        // Messages are no landmarks.
        if matches!(step.action, Action::Shout { .. } | Action::Whisper { .. }) {
            continue;
        }
        let at = step.at.as_secs_f64();
        let number = index + 1;
        let action = text::action(scenario, &step.action);
        let whom = if step.nodes.len() <= 1 {
            text::whom(scenario, step, 1)
        } else {
            format!("{} nodes", step.nodes.len())
        };
        let labels =
            vec![format!("{number} {action} {whom}"), format!("{number} {action}"), number.to_string()];
        marks.push(Mark { at, labels });
    }
    let x = Axis::until(
        &format!(
            "simulated time; events of all nodes in each {}",
            text::duration((bin * 1e9).round() as u64)
        ),
        end,
        " s",
    );
    strips("timeline", "What the script did and what the nodes saw".to_owned(), &x, bin, &all, &marks)
}
