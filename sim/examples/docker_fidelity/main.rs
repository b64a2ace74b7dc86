//! Holds the simulated Docker to a real engine: who reaches whom by which address, and what source does the target see?
//!
//!     cargo run -p hailer-sim --example docker_fidelity -- reports/docker-fidelity
//!
//! One scenario is built twice, of network namespaces with real engines and in the simulator, and in both every machine asks
//! the same questions. The report has all answers; where two differ, the program says which and fails. Needs root, and
//! Debian's packages `docker.io` and `busybox-static`; without them it says so and does nothing, in CI (`CI=true`) it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hailer::net::{Net, OsNet};
use hailer_sim::scenario::Scenario;

#[path = "../../../tests/namespaces/lab.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod lab;
mod plan;
mod probe;
mod real;
mod report;
mod simulated;

const TOPOLOGY: &str = include_str!("topology.toml");

#[derive(Parser)]
#[command(about = "Holds the simulated Docker to a real engine")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// Where the report goes.
    #[arg(required = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program does inside the namespaces.
#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Serve { name: String, port: u16 },
    #[command(hide = true)]
    Ask { asker: usize, questions: Vec<String> },
}

/// Who heard which broadcast, and from whom: by the number of the question.
pub(crate) type Heard = BTreeMap<String, BTreeSet<String>>;

fn main() -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Serve { name, port }) => return serve(&name, port),
        Some(Part::Ask { asker, questions }) => return ask(asker, &questions),
        None => {}
    }
    if let Err(reason) = real::available() {
        eprintln!("NOT RUN: {reason}");
        let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        return Ok(if is_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let folder = arguments.folder.unwrap_or_default();
    let scenario = Scenario::parse("topology.toml", TOPOLOGY).map_err(|mistakes| mistakes.to_string())?;
    let simulated = simulated::measure(&scenario)?;
    let (version, real) = real::measure(&scenario)?;
    let command = format!("cargo run -p hailer-sim --example docker_fidelity -- {}", folder.display());
    let differences = report::write(&folder, &scenario, &version, &command, &real, &simulated)?;
    eprintln!("{} answers of Docker {version}, {differences} differ", real.len());
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A machine's server: says when it is there, and then what it hears, for ever.
fn serve(name: &str, port: u16) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    runtime()?.block_on(async {
        let heard = |number: &str, from: IpAddr| println!("{number} {from}");
        probe::serve(&OsNet::new(), name, port, heard).await?;
        println!("ready");
        std::future::pending::<()>().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// A machine's questions: prints an answer a line.
fn ask(asker: usize, questions: &[String]) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    runtime()?.block_on(async {
        let net = OsNet::new();
        let (done, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for (place, question) in questions.iter().enumerate() {
            let (client, done, question) = (net.clone(), done.clone(), question.clone());
            let task = async move {
                let answer = probe::ask(&client, number(asker, place), &question).await;
                let _ = done.send((place, answer));
            };
            net.spawn("question", task).detach();
        }
        drop(done);
        let mut said = BTreeMap::new();
        while let Some((place, answer)) = answers.recv().await {
            said.insert(place, answer);
        }
        said.values().for_each(|answer| println!("{answer}"));
        Ok(ExitCode::SUCCESS)
    })
}

/// The number of an asker's question among all.
pub(crate) fn number(asker: usize, place: usize) -> usize {
    asker * 1000 + place
}

/// What a name stands for, as it is shown.
pub(crate) fn show_names(mut found: Vec<IpAddr>) -> String {
    found.sort();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    if found.is_empty() { "unknown".to_owned() } else { found.join(", ") }
}

/// Answers the questions that were broadcasts with who heard them.
pub(crate) fn add_heard(askers: &[plan::Asker], heard: Heard, answers: &mut plan::Matrix) {
    for (number, asker) in askers.iter().enumerate() {
        for (place, (topic, question)) in asker.questions.iter().enumerate() {
            if !question.contains("cast") {
                continue;
            }
            let by = heard.get(&self::number(number, place).to_string());
            let by = by.map_or_else(Vec::new, |by| by.iter().map(String::as_str).collect());
            let answer = answers.entry((asker.node, topic.clone())).or_default();
            if answer.is_empty() {
                *answer = if by.is_empty() { "-".to_owned() } else { by.join(", ") };
            }
        }
    }
}
