//! The same file, seed and build give the same run: in another process, with another outer step, to the last byte of the
//! report. Another seed gives another run, and one more idle node changes nothing for the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use hailer_sim::scenario::Scenario;
use hailer_sim::trace::{Drop, Trace, What};
use hailer_sim::world::{self, Options};

/// Short enough for a debug build, and with everything in it that draws or waits: loss, bad times, damage, duplicates,
/// reordering, new plans, a queue, a crash of each kind, a restart, a pause, drift, a busy machine, a new address, traffic.
const SCENARIO: &str = r#"
[scenario]
about = "a bit of everything, for determinism"
seed = 7
duration = "12 s"

[[segment]]
name = "lan"
prefix = "10.0.0.0/24"
link = { delay = "1 ms..4 ms", loss = "5 %", duplicate = "2 %", reorder = "2 %", reorder_by = "3 ms" }

[[segment]]
name = "air"
prefix = "10.0.1.0/24"
link = { profile = "leo", corruption = "1 %", mtu = 1400, bandwidth = "2 Mbit/s", burst = { loss = "90 %", good = "900 ms", bad = "100 ms" }, replan = { every = "1 s", spread = "20 ms" } }

[[router]]
name = "gate"
interfaces = [{ segment = "lan" }, { segment = "air" }]

[[node]]
name = "n"
count = 6
segment = "lan"
clock = { drift = "-1 %..1 %" }
start = "0 s..1 s"
[node.zre]
groups = ["ALL"]
evasive = "1 s"
silent = "2 s"
expired = "3 s"

[[node]]
name = "far"
count = 3
segment = "air"
[node.zre]
groups = ["ALL"]

[[traffic]]
from = ["n", "far"]
shout = "ALL"
every = "250 ms"
start = "2 s"
stop = "10 s"
bytes = 3000

[[step]]
at = "4 s"
node = "n1"
crash = "power-cut"

[[step]]
at = "5 s"
node = "n2"
crash = "process-exit"

[[step]]
at = "5 s"
node = "n3"
pause = true

[[step]]
at = "6 s"
node = "n3"
resume = true

[[step]]
at = "7 s"
node = "n1"
restart = true

[[step]]
at = "3 s"
node = "far1"
slow = "5 ms..50 ms"

[[step]]
at = "6 s"
node = "far2"
clock = { drift = "-20 %..20 %" }

[[step]]
at = "8 s"
node = "n4"
address = "10.0.0.77"

[[expect]]
always = "nobody-unknown-appears"
"#;

fn write_scenario(folder: &Path) -> PathBuf {
    let path = folder.join("everything.toml");
    std::fs::write(&path, SCENARIO).unwrap();
    path
}

fn simulate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hailer-sim"));
    let output =
        command.current_dir(folder).args(["run", "everything.toml"]).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn two_processes_and_two_outer_steps_write_the_same_report_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    write_scenario(folder.path());
    let runs = ["--tick-ms=1", "--tick-ms=10", "--tick-ms=1000"].map(|tick| {
        let report = format!("report{}", tick.len() + tick.bytes().map(usize::from).sum::<usize>());
        simulate(folder.path(), &[tick, "--report", &report]);
        files(&folder.path().join(report).join("everything"))
    });
    assert!(
        runs[0].contains_key("index.html") && runs[0].contains_key("result.json"),
        "{:?}",
        runs[0].keys()
    );
    for other in &runs[1..] {
        for (name, content) in &runs[0] {
            assert!(other[name] == *content, "{name} differs");
        }
        assert_eq!(other.len(), runs[0].len());
    }
}

fn run(text: &str, seed: u64) -> Trace {
    let scenario = Scenario::parse("everything.toml", text).unwrap_or_else(|problems| panic!("{problems}"));
    world::run(&scenario, Options { seed: Some(seed), ..Options::default() }).unwrap()
}

#[test]
fn another_seed_is_another_run() {
    assert_eq!(run(SCENARIO, 7).digest, run(SCENARIO, 7).digest);
    assert_ne!(run(SCENARIO, 7).digest, run(SCENARIO, 8).digest);
}

#[test]
fn the_outer_step_changes_nothing() {
    let scenario = Scenario::parse("everything.toml", SCENARIO).unwrap();
    let with = |tick| {
        let options = Options { tick: Some(Duration::from_millis(tick)), ..Options::default() };
        world::run(&scenario, options).unwrap()
    };
    let (fine, coarse) = (with(1), with(250));
    assert_eq!(fine.records, coarse.records);
    assert_eq!(fine.digest, coarse.digest);
}

/// An idle node on a segment of its own draws nothing that others would have drawn.
#[test]
fn one_more_idle_node_changes_nothing_for_the_others() {
    let more = SCENARIO.replace(
        "[[traffic]]",
        "[[segment]]\nname = \"else\"\nprefix = \"10.9.0.0/24\"\n[[node]]\nname = \"idle\"\nsegment = \"else\"\n\
         start = \"0 s\"\n[node.zre]\n\n[[traffic]]",
    );
    let others = |trace: Trace| -> Vec<_> {
        let is_idle = |what: &What| matches!(what, What::Up { .. });
        let records = trace.records.into_iter();
        records.filter(|record| record.node.0 < 9 || !is_idle(&record.what)).collect()
    };
    assert_eq!(others(run(SCENARIO, 7)), others(run(&more, 7)));
}

/// A machine without a role on the segment where the others are, which loses, duplicates and reorders: every broadcast
/// comes to it as well, over a link that draws for each.
#[test]
fn one_more_machine_on_the_same_segment_changes_nothing_for_the_others() {
    let idle = "[[node]]\nname = \"idle\"\nsegment = \"lan\"\n\n[[traffic]]";
    let (before, mut after) = (run(SCENARIO, 7), run(&SCENARIO.replace("[[traffic]]", idle), 7));
    // The machine is the tenth, before the router.
    after.records.retain(|record| record.node.0 != 9);
    for record in after.records.iter_mut().filter(|record| record.node.0 > 9) {
        record.node.0 -= 1;
    }
    assert_eq!(before.records, after.records);
    let idle = after.traffic.remove(9);
    assert!(!idle.received.is_empty() && idle.dropped.contains_key(&Drop::Loss), "{idle:?}");
    assert_eq!(before.traffic, after.traffic);
}
