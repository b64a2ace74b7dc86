//! The command line: runs scenarios, shows how far they are, and says what came of them in words, JSON and exit codes.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hailer::daemon::Diagnostics;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::json;

use crate::check;
use crate::engine::RunError;
use crate::report::{self, SweepRun};
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::world::{self, Options, flat};

// The codes of a verdict, 128 and 129, are the verdict's own: see `Verdict::exit_code`.

/// Every run passed.
const EXIT_PASSED: u8 = 0;
/// A run could not be carried out, or a file could not be read or written.
const EXIT_NOT_RUN: u8 = 1;
/// The command line or a scenario file makes no sense (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;
/// Node code panicked.
const EXIT_PANIC: u8 = 127;

const EXIT_CODES: &str = "\
Exit codes (of several runs, the highest):
    0  every expectation of every run held
    1  a run could not be carried out, or a file not read or written
   64  the command line or a scenario file makes no sense
  127  a node panicked: a bug in Hailer
  128  liveness: something that had to become true did not, or not in time
  129  safety: something that must never happen did

Examples:
  hailer-sim run scenarios/lan-loss.toml                 one run, with a report
  hailer-sim run scenarios/lan-loss.toml --seeds 1..100  a hundred seeds, on all cores
  hailer-sim run scenarios/*.toml --json --no-report     one line of JSON a run
  hailer-sim run scenarios/two-nodes.toml --pcap two.pcapng   every packet, for Wireshark
  hailer-sim run scenarios/two-nodes.toml --world turmoil     the same on turmoil's network
  hailer-sim check scenarios/*.toml                      are the files right?";

/// A deterministic network simulator that runs Hailer's own node code from scenario files and judges it.
///
/// The same file, seed and build give the same run, to the last packet: a failing seed is a bug report.
#[derive(Debug, Parser)]
#[command(name = "hailer-sim", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run scenarios, judge them, and write a report of each
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Read scenario files and say what is wrong with them, without running anything
    Check {
        /// Scenario files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Scenario files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The seed, instead of the file's own
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run every seed from A to B, both included, on all cores
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Seeds>,
    /// Where the reports go: one folder a scenario, and in it one a seed when there are several
    #[arg(long, value_name = "DIR", default_value = "reports/out")]
    report: PathBuf,
    /// Write no report
    #[arg(long, conflicts_with = "report")]
    no_report: bool,
    /// Print one JSON object a run on standard output, and nothing else there
    #[arg(long)]
    json: bool,
    /// Write every packet at every interface to this file, for Wireshark (pcapng); of one run only
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    pcap: Option<PathBuf>,
    /// Write everything that happens to this file, dropped packets with their causes too, as lines of JSON; of one run only
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    trace: Option<PathBuf>,
    /// Step of the outer engine in milliseconds, instead of the file's own; it changes nothing but speed
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    tick_ms: Option<u64>,
    /// Whose network the nodes are on
    #[arg(long, value_enum, default_value_t = Network::Fabric, value_name = "NETWORK")]
    world: Network,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Whose network the nodes of a scenario are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Network {
    /// Ours, which can do everything
    Fabric,
    /// turmoil's own, one flat LAN, as a check of ours; slow, and without a report
    Turmoil,
}

impl Network {
    fn run(self, scenario: &Scenario, options: Options<'_>) -> Result<Trace, RunError> {
        match self {
            Self::Fabric => world::run(scenario, options),
            Self::Turmoil => flat::run(scenario, options),
        }
    }
}

/// Seeds to run, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seeds {
    first: u64,
    last: u64,
}

fn parse_seeds(text: &str) -> Result<Seeds, String> {
    let wrong =
        || format!("`{text}` is not a range of seeds; write the first and the last, for example 1..100");
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let last = last.strip_prefix('=').unwrap_or(last);
    let seeds =
        Seeds { first: first.parse().map_err(|_| wrong())?, last: last.parse().map_err(|_| wrong())? };
    if seeds.first > seeds.last { Err(format!("the range {text} is empty")) } else { Ok(seeds) }
}

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { EXIT_PASSED };
            // Nothing is left to tell when even this can't be written.
            let _ = error.print();
            return code.into();
        }
    };
    let outcome = match &cli.command {
        Verb::Run(run) => run_all(run),
        Verb::Check { files } => check_all(files),
    };
    match outcome {
        Ok(code) => code.into(),
        // Whoever read our output has gone, as `head` does: nothing is wrong with that.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => EXIT_PASSED.into(),
        Err(error) => {
            say(format_args!("hailer-sim: {error}"));
            EXIT_NOT_RUN.into()
        }
    }
}

/// Says what is no result, on standard error.
fn say(what: impl Display) {
    // Nobody is left to tell when even this can't be written.
    let _ = writeln!(io::stderr().lock(), "{what}");
}

/// Prints the lines of a run that ended with this code. `Break` when whoever read them has gone: then no further run is
/// wanted, and the code of those that there were is still the truth.
fn print(lines: impl IntoIterator<Item = String>, code: u8) -> io::Result<ControlFlow<u8, u8>> {
    let mut out = io::stdout().lock();
    match lines.into_iter().try_for_each(|line| writeln!(out, "{line}")) {
        Ok(()) => Ok(ControlFlow::Continue(code)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(code)),
        Err(error) => Err(error),
    }
}

/// A scenario with the file it came from.
struct Loaded {
    path: PathBuf,
    text: String,
    scenario: Scenario,
}

/// Reads every file; prints what is wrong with each that can't be used, and returns the code for that instead.
fn load_all(files: &[PathBuf]) -> Result<Vec<Loaded>, u8> {
    let mut loaded = Vec::new();
    let mut code = EXIT_PASSED;
    for path in files {
        match std::fs::read_to_string(path) {
            Err(error) => {
                say(format_args!("hailer-sim: can't read {}: {error}", path.display()));
                code = code.max(EXIT_NOT_RUN);
            }
            Ok(text) => match Scenario::parse(&path.display().to_string(), &text) {
                Ok(scenario) => loaded.push(Loaded { path: path.clone(), text, scenario }),
                Err(diagnostics) => {
                    print_diagnostics(&diagnostics);
                    code = code.max(EXIT_USAGE);
                }
            },
        }
    }
    if code == EXIT_PASSED { Ok(loaded) } else { Err(code) }
}

fn print_diagnostics(diagnostics: &Diagnostics) {
    say(diagnostics.render(io::stderr().is_terminal()));
}

fn check_all(files: &[PathBuf]) -> io::Result<u8> {
    let loaded = match load_all(files) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let mut out = io::stdout().lock();
    for Loaded { path, scenario, .. } in loaded {
        let (nodes, steps, expects) = (scenario.nodes.len(), scenario.steps.len(), scenario.expects.len());
        let seconds = scenario.duration.as_secs_f64();
        writeln!(
            out,
            "{}: ok: {nodes} nodes, {seconds} s, {steps} steps, {expects} expectations",
            path.display()
        )?;
    }
    Ok(EXIT_PASSED)
}

fn run_all(run: &Run) -> io::Result<u8> {
    let loaded = match load_all(&run.files) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    if let (true, Some(_)) = (loaded.len() > 1, run.pcap.as_ref().or(run.trace.as_ref())) {
        say("hailer-sim: --pcap and --trace are of one run; name one scenario file with them");
        return Ok(EXIT_USAGE);
    }
    if run.world == Network::Turmoil
        && let Err(code) = refuse_what_is_not_flat(run, &loaded)
    {
        return Ok(code);
    }
    let mut code = EXIT_PASSED;
    for one in &loaded {
        // What turmoil's network carries is not counted, and half of a report is about that.
        let folder =
            (!run.no_report && run.world == Network::Fabric).then(|| run.report.join(&one.scenario.name));
        let outcome = match run.seeds {
            None => run_once(run, one, folder.as_deref())?,
            Some(seeds) => run_sweep(run, one, seeds, folder.as_deref())?,
        };
        let (ControlFlow::Continue(one_code) | ControlFlow::Break(one_code)) = outcome;
        code = code.max(one_code);
        if outcome.is_break() {
            break;
        }
    }
    Ok(code)
}

/// Tells what of the scenarios and of the command line turmoil's network can't do.
fn refuse_what_is_not_flat(run: &Run, loaded: &[Loaded]) -> Result<(), u8> {
    let given = [
        ("--pcap", run.pcap.is_some()),
        ("--trace", run.trace.is_some()),
        ("--tick-ms", run.tick_ms.is_some()),
    ];
    let mut outcome = Ok(());
    for (option, _) in given.iter().filter(|(_, is_given)| *is_given) {
        say(format_args!("hailer-sim: {option} does not go with --world turmoil; leave one of them out"));
        outcome = Err(EXIT_USAGE);
    }
    for Loaded { path, text, scenario } in loaded {
        if let Err(diagnostics) = flat::limits::refuse(&path.display().to_string(), text, scenario) {
            print_diagnostics(&diagnostics);
            outcome = Err(EXIT_USAGE);
        }
    }
    outcome
}

/// The command that repeats a run.
fn replay_command(run: &Run, path: &Path, seed: u64) -> String {
    let world = if run.world == Network::Turmoil { " --world turmoil" } else { "" };
    format!("hailer-sim run {} --seed {seed}{world}", path.display())
}

fn tick(run: &Run) -> Option<Duration> {
    run.tick_ms.map(Duration::from_millis)
}

fn run_once(run: &Run, loaded: &Loaded, folder: Option<&Path>) -> io::Result<ControlFlow<u8, u8>> {
    let seed = run.seed.unwrap_or(loaded.scenario.seed);
    // Reports show what was drawn, too.
    let scenario = &loaded.scenario.unrolled(seed);
    let bar =
        progress_bar(run, scenario.duration.as_millis() as u64, "{prefix} {bar:40} {percent} % of {msg}");
    bar.set_prefix(scenario.name.clone());
    bar.set_message(format!("{} s simulated", scenario.duration.as_secs_f64()));
    let show = |passed: Duration| bar.set_position(passed.as_millis() as u64);
    let options = Options {
        seed: Some(seed),
        tick: tick(run),
        progress: Some(&show),
        pcap: run.pcap.as_deref(),
        trace: run.trace.as_deref(),
    };
    let outcome = run.world.run(scenario, options);
    bar.finish_and_clear();
    let command = replay_command(run, &loaded.path, seed);
    let trace = match outcome {
        Ok(trace) => trace,
        Err(error) => {
            let (line, code) = failed_to_run(run, loaded, seed, &error);
            return print(line, code);
        }
    };
    let verdict = check::judge(scenario, &trace);
    if let Some(folder) = folder {
        report::write(folder, scenario, &loaded.text, &trace, &verdict, &command)
            .map_err(|error| io::Error::new(error.kind(), format!("can't write the report: {error}")))?;
    }
    let mut lines = Vec::new();
    if run.json {
        lines.push(report::result_line(scenario, &trace, &verdict, &command));
    } else {
        lines.push(report::summary(scenario, &trace, &verdict, io::stdout().is_terminal()));
        lines.extend(folder.map(report_line));
        lines.push(format!("replay  {command}"));
    }
    print(lines, verdict.exit_code())
}

fn report_line(folder: &Path) -> String {
    format!("report  {}", folder.join("index.html").display())
}

/// What one seed of many leaves: its figures and its line of JSON, unless it could not be run, and its exit code.
type OneOfMany = (Option<SweepRun>, Option<String>, u8);

fn run_sweep(
    run: &Run,
    loaded: &Loaded,
    seeds: Seeds,
    folder: Option<&Path>,
) -> io::Result<ControlFlow<u8, u8>> {
    let scenario = &loaded.scenario;
    let bar = progress_bar(run, seeds.last - seeds.first + 1, "{prefix} {bar:40} {pos} of {len} seeds");
    bar.set_prefix(scenario.name.clone());
    let outcomes: Vec<io::Result<OneOfMany>> = (seeds.first..=seeds.last)
        .into_par_iter()
        .map(|seed| {
            let options = Options { seed: Some(seed), tick: tick(run), ..Options::default() };
            let scenario = &scenario.unrolled(seed);
            let outcome = run.world.run(scenario, options);
            bar.inc(1);
            let trace = match outcome {
                Ok(trace) => trace,
                Err(error) => {
                    let (line, code) = failed_to_run(run, loaded, seed, &error);
                    return Ok((None, line, code));
                }
            };
            let verdict = check::judge(scenario, &trace);
            let command = replay_command(run, &loaded.path, seed);
            if let Some(folder) = folder {
                let folder = folder.join(format!("seed-{seed}"));
                report::write(&folder, scenario, &loaded.text, &trace, &verdict, &command)?;
            }
            let line = run.json.then(|| report::result_line(scenario, &trace, &verdict, &command));
            Ok((Some(SweepRun::of(scenario, &trace, &verdict, command)), line, verdict.exit_code()))
        })
        .collect();
    bar.finish_and_clear();
    let (mut runs, mut lines) = (Vec::new(), Vec::new());
    let mut code = EXIT_PASSED;
    for outcome in outcomes {
        let (sweep_run, line, one_code) = outcome?;
        code = code.max(one_code);
        runs.extend(sweep_run);
        lines.extend(line);
    }
    if let Some(folder) = folder {
        let Seeds { first, last } = seeds;
        let command = format!("hailer-sim run {} --seeds {first}..{last}", loaded.path.display());
        report::sweep(folder, scenario, &runs, &command)?;
    }
    if !run.json {
        lines.push(report::sweep_summary(scenario, &runs));
        lines.extend(folder.map(report_line));
        if let Some(bad) = runs.iter().find(|sweep_run| !sweep_run.passed) {
            lines.push(format!("replay  {}", replay_command(run, &loaded.path, bad.seed)));
        }
    }
    print(lines, code)
}

/// Says why a run could not be carried out: its line of JSON, if that is wanted, and its exit code.
fn failed_to_run(run: &Run, loaded: &Loaded, seed: u64, error: &RunError) -> (Option<String>, u8) {
    say(format_args!("hailer-sim: {} with seed {seed}: {error}", loaded.path.display()));
    let line = json!({ "scenario": loaded.scenario.name, "seed": seed, "error": error.to_string() });
    let code = match error {
        RunError::Panicked { .. } => EXIT_PANIC,
        _ => EXIT_NOT_RUN,
    };
    (run.json.then(|| line.to_string()), code)
}

/// A bar on standard error when that is a terminal and nobody asked for quiet.
fn progress_bar(run: &Run, length: u64, template: &str) -> ProgressBar {
    if run.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is a constant of this file");
    ProgressBar::new(length).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_seeds_has_both_its_ends() {
        assert_eq!(parse_seeds("1..100"), Ok(Seeds { first: 1, last: 100 }));
        assert_eq!(parse_seeds("7..=7"), Ok(Seeds { first: 7, last: 7 }));
        for wrong in ["", "1", "1..", "..5", "a..b", "5..1"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
