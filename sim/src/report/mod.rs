//! A run for people: a page, its plots as files, and the numbers for other programs.
//!
//! Everything is worked out from the trace, the scenario and the verdict, and written the same way each time: the same
//! trace gives the same bytes. No clock, no dates, nothing from the machine it runs on.
//!
//! * [`write()`]: the folder of one run. [`summary()`]: one run on a terminal. [`sweep()`]: the folder of many runs.
//! * `figures`: every number, worked out once. `samples`: distributions.
//! * `plot`: how plots are drawn; `plots`: which. `topology`: the network.
//!   `html`, `page`: the page. `json`, `events`: the files for programs.
//! * `lines`: what `--trace` writes while a world lives.

use std::io;
use std::path::Path;

use crate::check::Verdict;
use crate::scenario::Scenario;
use crate::trace::Trace;

mod events;
mod figures;
mod group;
mod html;
mod json;
pub(crate) mod lines;
mod page;
mod plot;
mod plots;
mod samples;
mod summary;
mod sweep;
mod text;
mod topology;

pub use samples::{Percentiles, Samples};
pub use sweep::{SweepRun, sweep, sweep_summary};

/// Writes the report of one run into a folder, which is made when it is not there.
///
/// `index.html` is one page that needs nothing else; beside it are the plots as `.svg` files, `result.json` and
/// `events.csv`. `scenario_text` is the scenario as its file has it; `command` runs this run again.
///
/// # Errors
/// The folder can't be made, or a file in it can't be written.
pub fn write(
    dir: &Path,
    scenario: &Scenario,
    scenario_text: &str,
    trace: &Trace,
    verdict: &Verdict,
    command: &str,
) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let figures = figures::Figures::of(scenario, trace);
    let plots = plots::Plots::of(scenario, trace, &figures);
    let run =
        page::Run { scenario, scenario_text, trace, verdict, figures: &figures, plots: &plots, command };
    put(&dir.join("index.html"), run.html().as_bytes())?;
    for plot in plots.all() {
        put(&dir.join(format!("{}.svg", plot.name)), plot.file().as_bytes())?;
    }
    let result = json::pretty(&json::result(scenario, trace, verdict, &figures, command));
    put(&dir.join("result.json"), result.as_bytes())?;
    let path = dir.join("events.csv");
    let file = std::fs::File::create(&path).map_err(|error| naming(&path, &error))?;
    events::write(io::BufWriter::new(file), scenario, trace).map_err(|error| naming(&path, &error))
}

/// One run for a terminal: about twenty lines of at most 100 columns, in colour when `styled`.
pub fn summary(scenario: &Scenario, trace: &Trace, verdict: &Verdict, styled: bool) -> String {
    summary::text(scenario, trace, verdict, styled)
}

/// What `result.json` says, in one line.
pub fn result_line(scenario: &Scenario, trace: &Trace, verdict: &Verdict, command: &str) -> String {
    let figures = figures::Figures::of(scenario, trace);
    let result = json::result(scenario, trace, verdict, &figures, command);
    serde_json::to_string(&result).expect("text and numbers can be written as JSON")
}

fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    std::fs::write(path, content).map_err(|error| naming(path, &error))
}

/// The same error, with the file it is about.
fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("can't write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{judge, sample};
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::PathBuf;

    const COMMAND: &str = "hailer-sim run scenarios/lan-30.toml --seed 7 --report reports/lan-30";
    const TOML: &str = "[scenario]\nabout = \"30 nodes <on> one LAN\"\n";

    fn report(dir: &Path, run: &sample::Run) -> BTreeMap<String, Vec<u8>> {
        let verdict = judge(&run.scenario, &run.trace);
        write(dir, &run.scenario, TOML, &run.trace, &verdict, COMMAND).unwrap();
        files(dir)
    }

    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        let read = |entry: std::fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        };
        entries.map(read).collect()
    }

    fn broken() -> sample::Run {
        let mut run = sample::lan(30, 7).deafen(9, sample::secs(70.0));
        let what = crate::trace::What::Exit(
            crate::trace::Subject::Life(crate::scenario::NodeIndex(11), 0),
            "expired".to_owned(),
        );
        let place = run.trace.records.partition_point(|record| record.at < sample::secs(30.0));
        let record =
            crate::trace::Record { at: sample::secs(30.0), node: crate::scenario::NodeIndex(5), what };
        run.trace.records.insert(place, record);
        run
    }

    fn sweep_runs() -> Vec<SweepRun> {
        let run = |seed: u64| {
            let mut run = sample::lan(8, seed);
            if seed == 5 {
                run = run.deafen(6, sample::secs(6.0));
            }
            let verdict = judge(&run.scenario, &run.trace);
            SweepRun::of(
                &run.scenario,
                &run.trace,
                &verdict,
                format!("hailer-sim run lan-8.toml --seed {seed}"),
            )
        };
        (0..12).map(run).collect()
    }

    /// With `HAILER_KEEP_REPORTS=DIR`, leaves reports there for people to look at.
    #[test]
    fn reports_are_the_same_bytes_each_time() {
        let kept = std::env::var_os("HAILER_KEEP_REPORTS").map(PathBuf::from);
        let dir = tempfile::tempdir().unwrap();
        let base = kept.as_deref().unwrap_or(dir.path());
        for (name, run) in [("good", sample::lan(30, 7)), ("bad", broken())] {
            let files = report(&base.join(name), &run);
            assert_eq!(files, report(&dir.path().join("again").join(name), &run));
            let names: Vec<&str> = files.keys().map(String::as_str).collect();
            assert_eq!(
                names,
                [
                    "deaths.svg",
                    "discovery.svg",
                    "events.csv",
                    "index.html",
                    "latency.svg",
                    "mesh.svg",
                    "result.json",
                    "timeline.svg",
                    "topology.svg",
                ]
            );
        }
        let scenario = sample::lan(8, 0).scenario;
        for place in [base.join("sweep"), dir.path().join("again/sweep")] {
            sweep(&place, &scenario, &sweep_runs(), "hailer-sim sweep lan-8.toml --seeds 0..12").unwrap();
        }
        assert_eq!(files(&base.join("sweep")), files(&dir.path().join("again/sweep")));
    }

    #[test]
    fn a_page_needs_nothing_but_itself() {
        let dir = tempfile::tempdir().unwrap();
        let files = report(dir.path(), &sample::lan(8, 1));
        let page = String::from_utf8(files["index.html"].clone()).unwrap();
        for outside in ["<script", "<link", "<img", "@import", "url(", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        // The only addresses are names of namespaces.
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http"));
    }

    #[test]
    fn hostile_names_are_text_and_nothing_else() {
        let mut run = sample::lan(8, 1);
        let evil = "\"><script>alert(1)</script>\u{0}\u{1b}[31m'&";
        run.scenario.name = evil.to_owned();
        run.scenario.about = evil.to_owned();
        run.scenario.nodes[1].name = evil.to_owned();
        run.scenario.nodes[5].name = evil.to_owned();
        run.trace.digest = evil.to_owned();
        let mut run = run.deafen(5, sample::secs(6.0));
        for record in &mut run.trace.records {
            if let crate::trace::What::Joined(group) | crate::trace::What::SentShout { group, .. } =
                &mut record.what
            {
                *group = evil.to_owned();
            }
        }
        let verdict = judge(&run.scenario, &run.trace);
        assert!(!verdict.passed());
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &run.scenario, evil, &run.trace, &verdict, evil).unwrap();
        let run = SweepRun::of(&run.scenario, &run.trace, &verdict, evil.to_owned());
        sweep(&dir.path().join("sweep"), &sample::lan(8, 1).scenario, &[run], evil).unwrap();
        for (name, content) in files_below(dir.path()) {
            let is_markup = name.ends_with(".html") || name.ends_with(".svg");
            if is_markup {
                let text = String::from_utf8(content).unwrap();
                assert!(!text.contains("<script"), "{name}");
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{name}");
            }
        }
    }

    fn files_below(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                found.extend(files_below(&entry.path()));
            } else {
                let name = entry.path().display().to_string();
                found.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
        found
    }

    #[test]
    fn a_run_in_which_nothing_happens_has_a_report() {
        let dir = tempfile::tempdir().unwrap();
        let mut run = sample::Script::new(1).run(0.0);
        run.scenario.nodes.clear();
        run.trace.traffic.clear();
        let files = report(dir.path(), &run);
        assert_eq!(
            files.keys().map(String::as_str).collect::<Vec<_>>(),
            ["events.csv", "index.html", "result.json", "timeline.svg", "topology.svg"]
        );
        sweep(&dir.path().join("sweep"), &run.scenario, &[], "x").unwrap();
    }

    #[test]
    fn a_report_says_which_file_it_could_not_write() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("index.html")).unwrap();
        let run = sample::lan(6, 1);
        let verdict = judge(&run.scenario, &run.trace);
        let error = write(dir.path(), &run.scenario, TOML, &run.trace, &verdict, COMMAND).unwrap_err();
        assert!(error.to_string().contains("index.html"), "{error}");
    }

    /// Programs read these names; whoever changes one changes them all.
    #[test]
    fn the_names_in_result_json_are_as_promised() {
        fn names(value: &serde_json::Value, at: &str, into: &mut BTreeSet<String>) {
            match value {
                serde_json::Value::Object(entries) => {
                    for (key, value) in entries {
                        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                        names(value, &path, into);
                        into.insert(path);
                    }
                }
                serde_json::Value::Array(values) => {
                    values.iter().for_each(|value| names(value, &format!("{at}[]"), into));
                }
                _ => {}
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let files = report(dir.path(), &broken());
        let result: serde_json::Value = serde_json::from_slice(&files["result.json"]).unwrap();
        let mut found = BTreeSet::new();
        names(&result, "", &mut found);
        let found: String = found.iter().map(|name| format!("{name}\n")).collect();
        assert_eq!(found, include_str!("result_names.txt"));
        assert_eq!(result["failure"], "safety");
    }
}
