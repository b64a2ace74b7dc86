//! The page of one run.

use maud::{Markup, html};

use crate::check::{Verdict, property_name};
use crate::scenario::Scenario;
use crate::trace::{Drop, Kind, Trace};

use super::figures::{self, Figures};
use super::html::{figure, finding, page, percentile_table, samples_tile, tile, verdict_words, wide_figure};
use super::plots::Plots;
use super::text;

/// How many steps the table lists. A run can have thousands of scripted messages; all are in `events.csv`.
const STEPS_MAX: usize = 200;
/// How many refusals the page lists.
const REFUSALS_MAX: usize = 20;

/// Everything that the page shows.
pub(super) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) scenario_text: &'a str,
    pub(super) trace: &'a Trace,
    pub(super) verdict: &'a Verdict,
    pub(super) figures: &'a Figures,
    pub(super) plots: &'a Plots,
    pub(super) command: &'a str,
}

impl Run<'_> {
    pub(super) fn html(&self) -> String {
        let body = html! {
            (self.head())
            (self.tiles())
            (self.network())
            (self.discovery())
            (self.messages())
            (self.deaths())
            (self.timeline())
            (self.nodes())
            (self.traffic())
            (self.about_the_run())
        };
        page(&format!("{}, seed {}", self.scenario.name, self.trace.seed), &body)
    }

    fn head(&self) -> Markup {
        let (scenario, verdict) = (self.scenario, self.verdict);
        let about = text::printable(scenario.about.trim());
        html! {
            header {
                p.eyebrow { "hailer-sim · one run, seed " (self.trace.seed) }
                h1 { (text::printable(&scenario.name)) }
                @if !about.is_empty() { p style="margin-top:8px" { (about) } }
            }
            section.card.verdict.bad[!verdict.passed()] {
                p.word { (verdict_words(verdict)) }
                @if !verdict.findings.is_empty() {
                    ul.findings { @for one in &verdict.findings { (finding(scenario, one)) } }
                }
            }
        }
    }

    fn tiles(&self) -> Markup {
        let figures = self.figures;
        let mesh = figures.mesh_at_end();
        let known = mesh.map_or(0, |point| point.known);
        let wanted = mesh.map_or(0, |point| point.wanted);
        html! {
            div.tiles {
                (samples_tile("Discovery", &figures.discovery, "pairs"))
                (samples_tile("Shout latency", &figures.shout_latency, "arrivals"))
                (tile(
                    "Mesh at the end",
                    &format!("{} %", text::percent(known, wanted)),
                    &format!("{} of {} pairs known", text::count(known), text::count(wanted)),
                ))
                (tile(
                    "Network load",
                    &format!("{}/s", text::bytes(figures.per_node_second(figures::sum(&figures.traffic.sent).bytes).round() as u64)),
                    &format!("sent by a node; {} beacons/s", text::three_digits(figures.beacons_per_node_second())),
                ))
            }
        }
    }

    fn network(&self) -> Markup {
        html! {
            h2 { "Network" }
            (wide_figure(&self.plots.topology))
        }
    }

    fn discovery(&self) -> Markup {
        let figures = self.figures;
        html! {
            h2 { "Discovery" }
            div.pair {
                @if let Some(plot) = &self.plots.discovery { (figure(plot)) }
                @if let Some(plot) = &self.plots.mesh { (figure(plot)) }
            }
            div.card {
                (percentile_table("From both up to ENTER", &[
                    ("first lives", figures.discovery.percentiles()),
                    ("after a restart", figures.discovery_restart.percentiles()),
                ]))
                p.muted.small style="margin:12px 0 0" {
                    "One sample for each ordered pair of lives that met: the time from when the later of the two was switched on \
                     until the first saw ENTER of the second. "
                    @match figures.entered_again {
                        0 => "Nobody was entered twice.",
                        1 => "One peer was entered again after an EXIT; that is not a sample.",
                        again => { (text::count(again)) " ENTERs were of peers entered before; those are no samples." }
                    }
                }
            }
        }
    }

    fn messages(&self) -> Markup {
        let figures = self.figures;
        html! {
            h2 { "Messages" }
            @if figures.counts.shouts_sent + figures.counts.whispers_sent == 0 {
                p.muted { "No message was sent." }
            } @else {
                div.stack {
                    @if let Some(plot) = &self.plots.latency {
                        div.pair style="margin:0" { (figure(plot)) (self.message_counts()) }
                    } @else {
                        (self.message_counts())
                    }
                    div.card {
                        (percentile_table("From sending to arrival", &[
                            ("shouts", figures.shout_latency.percentiles()),
                            ("whispers", figures.whisper_latency.percentiles()),
                        ]))
                    }
                }
            }
        }
    }

    fn message_counts(&self) -> Markup {
        let (counts, figures) = (&self.figures.counts, self.figures);
        let rows = [
            ("shouts", counts.shouts_sent, counts.shouts_got),
            ("whispers", counts.whispers_sent, counts.whispers_got),
        ];
        html! {
            div.card {
                h3 { "Messages of all nodes" }
                div.scroll {
                    table {
                        thead { tr {
                            th scope="col" { "kind" }
                            th.n scope="col" { "sent" }
                            th.n scope="col" { "arrivals" }
                            th.n scope="col" { "arrivals for each" }
                        } }
                        tbody {
                            @for (name, sent, got) in rows {
                                tr {
                                    th scope="row" { (name) }
                                    td.n { (text::count(sent)) }
                                    td.n { (text::count(got)) }
                                    td.n {
                                        @if sent == 0 { "–" } @else { (format!("{:.2}", got as f64 / sent as f64)) }
                                    }
                                }
                            }
                        }
                    }
                }
                p.muted.small style="margin:12px 0 0" {
                    "A shout goes to every member of its group, so that it has as many arrivals as members. "
                    "Whether each came where it must, whole, once and in order is for the verdict to say."
                }
                @if !figures.refused.is_empty() {
                    h3 style="margin-top:16px" { (text::count(figures.refused.len())) " wishes refused" }
                    ul.violations {
                        @for (at, node, why) in figures.refused.iter().take(REFUSALS_MAX) {
                            li {
                                span { (text::moment(*at)) " s" }
                                span { (text::name(self.scenario, *node)) ": " (text::printable(why)) }
                            }
                        }
                        @if figures.refused.len() > REFUSALS_MAX {
                            li { span { "…" } span { "and " (figures.refused.len() - REFUSALS_MAX) " more, in events.csv" } }
                        }
                    }
                }
            }
        }
    }

    fn deaths(&self) -> Markup {
        let deaths = &self.figures.deaths;
        let rows: Vec<(&str, _)> =
            deaths.iter().map(|one| (text::crash(one.crash), one.noticed.percentiles())).collect();
        html! {
            h2 { "Noticing that a peer is gone" }
            @if deaths.iter().all(|one| one.lives == 0) {
                p.muted { "No life ended in this run." }
            } @else {
                div.pair {
                    @if let Some(plot) = &self.plots.deaths { (figure(plot)) }
                    div.card {
                        h3 { "How lives ended" }
                        div.scroll { table {
                            thead { tr {
                                th scope="col" { "end" }
                                th.n scope="col" { "lives" }
                                th.n scope="col" { "noticed" }
                                th.n scope="col" { "not noticed" }
                            } }
                            tbody { @for one in deaths { tr {
                                th scope="row" { (text::crash(one.crash)) }
                                td.n { (text::count(one.lives)) }
                                td.n { (text::count(one.noticed.len())) }
                                td.n { (text::count(one.unnoticed)) }
                            } } }
                        } }
                        p.muted.small style="margin:12px 0 0" {
                            "Observers are the nodes that knew the peer when its life ended. Not noticed: no EXIT before the \
                             observer's own end or that of the run."
                        }
                    }
                }
                div.card { (percentile_table("From the end of a life to its EXIT", &rows)) }
            }
        }
    }

    fn timeline(&self) -> Markup {
        let steps = &self.scenario.steps;
        let counts = &self.figures.counts;
        html! {
            h2 { "Timeline" }
            div.stack {
                (wide_figure(&self.plots.timeline))
                div.card {
                    p.muted {
                        "Over the whole run: " (text::count(counts.enter)) " ENTER, " (text::count(counts.evasive)) " EVASIVE, "
                        (text::count(counts.silent)) " SILENT, " (text::count(counts.exit)) " EXIT."
                    }
                    @if steps.is_empty() {
                        p.muted style="margin:0" { "The scenario has no steps: nodes start and run." }
                    } @else {
                        div.scroll { table {
                            thead { tr {
                                th scope="col" { "step" }
                                th.n scope="col" { "at" }
                                th scope="col" style="padding-left:20px" { "what" }
                                th scope="col" { "to whom" }
                                th.n scope="col" { "line" }
                            } }
                            tbody { @for (index, step) in steps.iter().take(STEPS_MAX).enumerate() { tr {
                                td { (index + 1) }
                                td.n { (text::moment(hailer::Timestamp::ZERO.after(step.at))) " s" }
                                td style="padding-left:20px" { (text::action(self.scenario, &step.action)) }
                                td.wrap { (text::whom(self.scenario, step, 12)) }
                                td.n { (step.line) }
                            } } }
                        } }
                        @if steps.len() > STEPS_MAX {
                            p.muted.small style="margin:12px 0 0" {
                                "and " (text::count(steps.len() - STEPS_MAX)) " more steps, in the scenario"
                            }
                        }
                    }
                }
            }
        }
    }

    fn nodes(&self) -> Markup {
        const COLUMNS: [&str; 15] = [
            "lives",
            "peers at end",
            "ENTER",
            "EXIT",
            "EVASIVE",
            "SILENT",
            "shouts sent",
            "shouts got",
            "whispers sent",
            "whispers got",
            "packets sent",
            "bytes sent",
            "packets got",
            "bytes got",
            "dropped",
        ];
        html! {
            h2 { "Nodes" }
            div.card { div.scroll { table.dense {
                thead { tr {
                    th scope="col" { "node" }
                    th scope="col" { "address" }
                    @for column in COLUMNS { th.n scope="col" { (column) } }
                } }
                tbody {
                    @for ((node, figures), traffic) in self.scenario.nodes.iter().zip(&self.figures.nodes).zip(&self.trace.traffic) {
                        tr {
                            th scope="row" { (text::printable(&node.name)) }
                            td {
                                @for (index, attachment) in node.interfaces.iter().enumerate() {
                                    @if index > 0 { br; }
                                    (attachment.address)
                                }
                            }
                            td.n { (figures.lives) }
                            td.n { @match figures.known_at_end { Some(known) => (known), None => span.muted { "down" } } }
                            @let counts = &figures.counts;
                            @for count in [
                                counts.enter, counts.exit, counts.evasive, counts.silent, counts.shouts_sent,
                                counts.shouts_got, counts.whispers_sent, counts.whispers_got,
                            ] { td.n { (text::count(count)) } }
                            @for count in [figures::sum(&traffic.sent), figures::sum(&traffic.received)] {
                                td.n { (text::count(count.packets)) }
                                td.n { (text::bytes(count.bytes)) }
                            }
                            td.n { (text::count(figures::sum(&traffic.dropped).packets)) }
                        }
                    }
                }
            } } }
        }
    }

    fn traffic(&self) -> Markup {
        let figures = self.figures;
        let totals = &figures.traffic;
        let (sent, received) = (figures::sum(&totals.sent), figures::sum(&totals.received));
        let dropped = figures::sum(&totals.dropped);
        let rate = |packets: u64| text::three_digits(figures.per_node_second(packets));
        let bytes = |bytes: u64| text::bytes(figures.per_node_second(bytes).round() as u64);
        let used = |kind: &Kind| totals.sent.contains_key(kind) || totals.received.contains_key(kind);
        html! {
            h2 { "Traffic" }
            div.stack {
                div.card {
                    div.scroll { table {
                        thead { tr {
                            th scope="col" { "kind" }
                            @for column in [
                                "packets sent", "bytes sent", "packets got", "bytes got", "packets sent per node and s",
                                "bytes sent per node and s",
                            ] { th.n scope="col" { (column) } }
                        } }
                        tbody {
                            @for kind in Kind::ALL.iter().filter(|kind| used(kind)) {
                                @let sent = totals.sent.get(kind).copied().unwrap_or_default();
                                @let got = totals.received.get(kind).copied().unwrap_or_default();
                                tr {
                                    th scope="row" { (text::kind(*kind)) }
                                    td.n { (text::count(sent.packets)) } td.n { (text::bytes(sent.bytes)) }
                                    td.n { (text::count(got.packets)) } td.n { (text::bytes(got.bytes)) }
                                    td.n { (rate(sent.packets)) } td.n { (bytes(sent.bytes)) }
                                }
                            }
                            tr.sum {
                                th scope="row" { "all" }
                                td.n { (text::count(sent.packets)) } td.n { (text::bytes(sent.bytes)) }
                                td.n { (text::count(received.packets)) } td.n { (text::bytes(received.bytes)) }
                                td.n { (rate(sent.packets)) } td.n { (bytes(sent.bytes)) }
                            }
                        }
                    } }
                    p.muted.small style="margin:12px 0 0" {
                        "Bytes include IP and transport headers. Rates are over the time that nodes were up: "
                        (format!("{:.0}", figures.node_seconds)) " s, summed over nodes. A broadcast is sent once and got by each \
                         node on the segment."
                    }
                }
                div.card {
                    h3 { "Packets that did not arrive" }
                    @if dropped.packets == 0 {
                        p.muted style="margin:0" { "None." }
                    } @else {
                        div.scroll { table {
                            thead { tr { th scope="col" { "cause" } th.n scope="col" { "packets" } th.n scope="col" { "bytes" } } }
                            tbody {
                                @for (cause, count) in Drop::ALL.iter().filter_map(|cause| Some((cause, totals.dropped.get(cause)?))) {
                                    tr {
                                        th scope="row" { (text::drop_cause(*cause)) }
                                        td.n { (text::count(count.packets)) } td.n { (text::bytes(count.bytes)) }
                                    }
                                }
                            }
                        } }
                    }
                }
            }
        }
    }

    fn about_the_run(&self) -> Markup {
        let (scenario, trace) = (self.scenario, self.trace);
        html! {
            h2 { "The run" }
            div.card.stack {
                dl.facts {
                    dt { "Run it again" } dd { pre { code { (text::printable(self.command)) } } }
                    dt { "Seed" } dd { (trace.seed) }
                    dt { "Digest" } dd { code { (text::printable(&trace.digest)) } }
                    dt { "Simulated time" } dd { (text::moment(hailer::Timestamp::ZERO.after(trace.duration))) " s" }
                    dt { "World" } dd {
                        (scenario.nodes.len()) " nodes on " (scenario.segments.len())
                        @if scenario.segments.len() == 1 { " segment" } @else { " segments" }
                        ", " (scenario.steps.len()) " steps"
                    }
                    dt { "Records" } dd { (text::count(trace.records.len())) }
                    dt { "Expected" } dd {
                        @for (index, expect) in scenario.expects.iter().enumerate() {
                            @if index > 0 { ", " }
                            (property_name(&expect.that))
                        }
                        @if scenario.expects.is_empty() { "nothing" }
                    }
                    dt { "Files" } dd {
                        a href="result.json" { "result.json" } ", " a href="events.csv" { "events.csv" }
                        @for plot in self.plots.all() {
                            ", " a href={ (plot.name) ".svg" } { (plot.name) ".svg" }
                        }
                    }
                }
                details {
                    summary { "The scenario" }
                    pre { code { (text::printable_lines(self.scenario_text)) } }
                }
            }
            footer { "Equal seeds and builds give equal digests. Percentiles are nearest-rank: each is a value that was measured." }
        }
    }
}
