//! Times TCP under loss on this machine's kernel and on the simulated network, and writes both into one report.
//!
//!     cargo run --release -p hailer-sim --example tcp_fidelity -- reports/tcp-fidelity
//!
//! Needs root, `ip`, `tc` and `nft`. It takes some minutes, because lost packets do.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[path = "../../../tests/namespaces/lab.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod lab;
mod linux;
mod report;
mod simulated;
mod workload;

const PORT: u16 = 7000;
/// Loss in percent, and sessions at once on the kernel: few where they take the processor, many where they wait.
const PLAN: [(u8, usize); 4] = [(0, 1), (5, 10), (10, 20), (30, 200)];
/// Bits in a second that each host can send. Without such a limit two namespaces exchange segments in the time that it takes
/// the processor to make the next, so that hardly any is ever under way, however large the window is: what is timed then
/// is the processor, and losses cost more time-outs than on any cable.
const BANDWIDTH: u64 = 100_000_000;
/// Bytes that may wait for that: so many that only the loss loses anything.
const QUEUE: u64 = 4 << 20;
/// Sessions at each loss on the kernel.
const LINUX: usize = 2000;
/// And in the simulator, where they cost less.
const SIMULATED: usize = 5000;

#[derive(Parser)]
#[command(
    about = "Times TCP under loss on this kernel and in the simulator, and writes both into one report"
)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// Where the report goes.
    #[arg(required = true)]
    folder: Option<PathBuf>,
    /// Only these losses, in percent; a report of some is for looking into something.
    #[arg(long, value_delimiter = ',', value_name = "PERCENT")]
    loss: Vec<u8>,
    /// Leaves all times in `sessions.csv`, too.
    #[arg(long)]
    csv: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program does inside the namespaces.
#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Serve { at: SocketAddr },
    #[command(hide = true)]
    Sessions { to: SocketAddr, count: usize, at_once: usize },
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Serve { at }) => return linux::serve(at),
        Some(Part::Sessions { to, count, at_once }) => return linux::sessions(to, count, at_once),
        None => {}
    }
    lab::available()?;
    let folder = arguments.folder.unwrap_or_default();
    let mut rows = Vec::new();
    let is_wanted = |loss: u8| arguments.loss.is_empty() || arguments.loss.contains(&loss);
    for (loss_percent, at_once) in PLAN.into_iter().filter(|(loss, _)| is_wanted(*loss)) {
        eprintln!("{loss_percent} % loss: {LINUX} sessions on Linux, {SIMULATED} simulated");
        let linux = linux::measure(loss_percent, LINUX, at_once)?;
        let simulated = simulated::measure(loss_percent.into(), SIMULATED, at_once)?;
        rows.push(report::Row { loss_percent, linux, simulated });
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let command = format!("cargo run --release -p hailer-sim --example tcp_fidelity -- {}", folder.display());
    report::write(&folder, kernel.trim(), &command, &rows)?;
    if arguments.csv { report::write_csv(&folder, &rows) } else { Ok(()) }
}
