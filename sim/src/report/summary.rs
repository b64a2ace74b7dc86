//! A run on a terminal: the verdict with its reasons, and the numbers that matter, in about twenty lines.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::check::{Finding, Outcome, Verdict, brief, property_name};
use crate::scenario::Scenario;
use crate::trace::Trace;

use super::figures::Figures;
use super::group::GroupFigures;
use super::html::{spans, verdict_words};
use super::samples::Samples;
use super::text;

/// No line is longer, in characters.
const WIDTH: usize = 100;
/// How many violations of each expectation are shown; the page has more.
const VIOLATIONS_SHOWN: usize = 3;

pub(super) fn text(scenario: &Scenario, trace: &Trace, verdict: &Verdict, styled: bool) -> String {
    let figures = Figures::of(scenario, trace);
    let paint = Paint { styled };
    let mut out = String::new();
    let name = text::printable(&scenario.name);
    let title = format!(
        "{name}, seed {}, {} nodes, {} simulated",
        trace.seed,
        scenario.nodes.len(),
        brief(hailer::Timestamp::ZERO.after(trace.duration))
    );
    line(&mut out, &paint.bold(&cut(&title, WIDTH)));
    for finding in &verdict.findings {
        expectation(&mut out, paint, finding);
    }
    let groups = GroupFigures::of(scenario, trace);
    let table = table(&figures, groups.as_ref());
    if !table.is_empty() {
        line(&mut out, "");
        line(&mut out, &table);
    }
    for row in groups.iter().flat_map(|groups| wrapped(&groups.line(), WIDTH - 1)) {
        line(&mut out, &format!(" {row}"));
    }
    line(&mut out, "");
    line(&mut out, &format!("digest {}", cut(&trace.digest, WIDTH - 7)));
    let words = verdict_words(verdict);
    line(&mut out, &if verdict.passed() { paint.good(&words) } else { paint.bad(&words) });
    out
}

fn expectation(out: &mut String, paint: Paint, finding: &Finding) {
    let mark = if finding.passed() { paint.good("passed") } else { paint.bad("FAILED") };
    let by = finding.expect.by.map(|by| format!(" by {}", brief(hailer::Timestamp::ZERO.after(by))));
    let name = format!("{}{}", property_name(&finding.expect.that), by.unwrap_or_default());
    line(out, &format!("  {mark}  {}", paint.bold(&cut(&name, WIDTH - 10))));
    for row in wrapped(&text::printable(&finding.detail), WIDTH - 10) {
        line(out, &format!("          {}", paint.dim(&row)));
    }
    if let Outcome::Failed { violations, more } = &finding.outcome {
        for violation in violations.iter().take(VIOLATIONS_SHOWN) {
            let at = text::moment(violation.at);
            line(out, &cut(&format!("          {at:>9} s  {}", text::printable(&violation.text)), WIDTH));
        }
        let rest = violations.len().saturating_sub(VIOLATIONS_SHOWN) + more;
        if rest > 0 {
            line(out, &format!("                       and {} more", text::count(rest)));
        }
    }
}

/// The distributions that have samples.
fn table(figures: &Figures, groups: Option<&GroupFigures>) -> String {
    let mut rows: Vec<(String, &Samples)> = vec![
        ("discovery".to_owned(), &figures.discovery),
        ("discovery after a restart".to_owned(), &figures.discovery_restart),
        ("shout latency".to_owned(), &figures.shout_latency),
        ("whisper latency".to_owned(), &figures.whisper_latency),
    ];
    for deaths in &figures.deaths {
        rows.push((format!("EXIT after {}", text::crash(deaths.crash)), &deaths.noticed));
    }
    rows.extend(groups.map(GroupFigures::rows).unwrap_or_default());
    rows.retain(|(_, samples)| !samples.is_empty());
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "n", "min", "p50", "p90", "p95", "p99", "max"]);
    for (name, samples) in rows {
        let Some(numbers) = samples.percentiles() else { continue };
        let mut row = vec![name, text::count(numbers.n)];
        row.extend(spans(&numbers).map(text::duration));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Adds a line without the spaces at its end.
fn line(out: &mut String, text: &str) {
    for row in text.split('\n') {
        writeln!(out, "{}", row.trim_end()).expect("a string takes whatever is written");
    }
}

/// The text in lines of at most `width` characters, broken at spaces where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            *last = cut(word, width);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(cut(word, width));
        }
    }
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// Colours of the terminal, or none.
#[derive(Clone, Copy)]
struct Paint {
    styled: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.styled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{judge, sample};

    fn summary(run: &sample::Run, styled: bool) -> String {
        text(&run.scenario, &run.trace, &judge(&run.scenario, &run.trace), styled)
    }

    #[test]
    fn a_summary_fits_a_terminal() {
        let good = summary(&sample::lan(30, 7), false);
        let mut run = sample::lan(30, 7).deafen(9, sample::secs(0.0));
        run.scenario.nodes[8].name = "x".repeat(200);
        let bad = summary(&run, false);
        if std::env::var_os("HAILER_SHOW").is_some() {
            println!("{}\n{bad}", summary(&sample::lan(30, 7), true));
        }
        for text in [&good, &bad] {
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
        assert!(good.lines().count() <= 30 && bad.lines().count() <= 50, "{good}{bad}");
        assert!(good.ends_with("Passed: all 7 expectations were met\n"), "{good}");
        assert!(bad.contains("FAILED  everyone-knows-everyone by 11 s"), "{bad}");
    }

    #[test]
    fn style_changes_nothing_but_colours() {
        let run = sample::lan(8, 1);
        let styled = summary(&run, true);
        let mut plain = styled;
        for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[1;32m", "\u{1b}[1;31m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, summary(&run, false));
    }

    #[test]
    fn names_from_a_file_do_not_drive_the_terminal() {
        let mut run = sample::lan(8, 1);
        run.scenario.name = "\u{1b}]0;owned\u{7}".to_owned();
        run.scenario.nodes[5].name = "\u{1b}[2J".to_owned();
        let run = run.deafen(6, sample::secs(0.0));
        assert!(!summary(&run, false).contains(['\u{1b}', '\u{7}']));
    }
}
