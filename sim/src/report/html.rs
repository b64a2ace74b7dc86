//! Pieces that the pages of runs and of sweeps share. Templates escape whatever they are given; only SVG, which its
//! maker has escaped, goes in as it is.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::check::{Failure, Finding, Outcome, Verdict};
use crate::scenario::Scenario;

use super::plot::{Plot, theme_css};
use super::samples::{Percentiles, Samples};
use super::text;

/// A whole page.
pub(super) fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (text::printable(title)) }
                style { (PreEscaped(include_str!("style.css"))) (PreEscaped(theme_css())) }
            }
            body { main { (body) } }
        }
    }
    .into_string()
}

/// A plot in a card.
pub(super) fn figure(plot: &Plot) -> Markup {
    html! {
        figure.card {
            figcaption { (plot.caption) }
            div role="img" aria-label=(plot.caption) { (PreEscaped(plot.inline())) }
        }
    }
}

/// A wide plot in a card; narrow screens scroll it.
pub(super) fn wide_figure(plot: &Plot) -> Markup {
    html! {
        figure.card {
            figcaption { (plot.caption) }
            div.scroll.wide role="img" aria-label=(plot.caption) { (PreEscaped(plot.inline())) }
        }
    }
}

/// A table of distributions, one row for each name.
pub(super) fn percentile_table(heading: &str, rows: &[(&str, Option<Percentiles>)]) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { (heading) }
                        @for column in ["n", "min", "p50", "p90", "p95", "p99", "max"] {
                            th.n scope="col" { (column) }
                        }
                    }
                }
                tbody {
                    @for (name, percentiles) in rows {
                        tr {
                            th scope="row" { (name) }
                            @if let Some(numbers) = percentiles {
                                td.n { (text::count(numbers.n)) }
                                @for nanos in spans(numbers) { td.n { (text::duration(nanos)) } }
                            } @else {
                                td.n { "0" }
                                @for _ in 0..6 { td.n.muted { "–" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The spans of a distribution, in the order of a table's columns.
pub(super) fn spans(numbers: &Percentiles) -> [u64; 6] {
    [numbers.min, numbers.p50, numbers.p90, numbers.p95, numbers.p99, numbers.max]
}

/// A number that stands for much.
pub(super) fn tile(label: &str, value: &str, note: &str) -> Markup {
    html! {
        div.card.tile {
            p.eyebrow { (label) }
            b { (value) }
            span.muted.small { (note) }
        }
    }
}

/// A tile for the middle and the tail of a distribution.
pub(super) fn samples_tile(label: &str, samples: &Samples, noun: &str) -> Markup {
    match samples.percentiles() {
        Some(numbers) => {
            let note =
                format!("median; p99 {}, n = {} {noun}", text::duration(numbers.p99), text::count(numbers.n));
            tile(label, &text::duration(numbers.p50), &note)
        }
        None => tile(label, "–", &format!("no {noun}")),
    }
}

/// The verdict in a sentence.
pub(super) fn verdict_words(verdict: &Verdict) -> String {
    let (met, all) = (verdict.passed_count(), verdict.findings.len());
    match verdict.failure() {
        None if all == 0 => "Nothing was expected".to_owned(),
        None if all == 1 => "Passed: the one expectation was met".to_owned(),
        None => format!("Passed: all {all} expectations were met"),
        Some(failure) => {
            let kind = match failure {
                Failure::Safety => "something happened that must not",
                Failure::Liveness => "something did not happen in time",
            };
            format!("Failed: {} of {all} expectations not met; {kind}", all - met)
        }
    }
}

/// One expectation and what came of it.
pub(super) fn finding(scenario: &Scenario, finding: &Finding) -> Markup {
    html! {
        li {
            @if finding.passed() { div.mark { "✓ passed" } } @else { div.mark.bad { "✗ failed" } }
            div {
                p { (finding.text) }
                p.muted { (text::printable(&finding.detail)) }
                p.muted.small {
                    code { (crate::check::property_name(&finding.expect.that)) }
                    ", line " (finding.expect.line)
                }
                @if let Outcome::Failed { violations, more } = &finding.outcome {
                    ul.violations {
                        @for violation in violations {
                            li {
                                span { (text::moment(violation.at)) " s" }
                                span {
                                    (text::printable(&violation.text))
                                    @if !violation.text.contains(&scenario.nodes[violation.node.0 as usize].name) {
                                        " (at " (text::name(scenario, violation.node)) ")"
                                    }
                                }
                            }
                        }
                        @if *more > 0 { li { span { "…" } span { "and " (text::count(*more)) " more" } } }
                    }
                }
            }
        }
    }
}
