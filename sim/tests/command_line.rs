//! The program `hailer-sim` as a shell sees it: what it says when nobody reads that.

use std::process::{Command, ExitStatus};

const SCENARIO: &str = r#"
[scenario]
about = "two nodes"
duration = "3 s"

[[segment]]
name = "lan"
prefix = "10.0.0.0/24"

[[node]]
name = "n"
count = 2
segment = "lan"
[node.zre]

[[expect]]
by = "2 s"
that = "everyone-knows-everyone"
"#;

/// Runs the program with these arguments in a folder with a good scenario, one that fails and one with a mistake. Whoever
/// reads its standard output and its standard error has gone before it says anything.
fn unread(arguments: &[&str]) -> ExitStatus {
    let folder = tempfile::tempdir().unwrap();
    let failing = SCENARIO.replace("[[node]]", "link = { loss = \"100 %\" }\n[[node]]");
    let wrong = SCENARIO.replace("\"2 s\"", "\"2 parsecs\"");
    for (name, text) in [("good.toml", SCENARIO), ("failing.toml", &failing), ("wrong.toml", &wrong)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hailer-sim"));
    command.current_dir(folder.path()).args(arguments);
    command.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap()
}

#[test]
fn a_reader_that_has_gone_changes_no_exit_code() {
    for (arguments, code) in [
        (&["check", "good.toml"][..], 0),
        (&["check", "wrong.toml", "missing.toml"], 64),
        (&["check", "missing.toml"], 1),
        (&["run", "good.toml"], 0),
        (&["run", "good.toml", "--json", "--no-report"], 0),
        (&["run", "good.toml", "--no-report", "--seeds", "1..2"], 0),
        (&["run", "failing.toml", "--no-report"], 128),
        (&["run", "failing.toml", "--no-report", "--json", "--seeds", "1..2"], 128),
        (&["run", "good.toml", "--no-report", "--json", "--pcap", "nowhere/x"], 1),
        (&["run", "good.toml", "failing.toml", "--trace", "x"], 64),
        (&["run", "good.toml", "--world", "turmoil", "--tick-ms", "5"], 64),
        (&["run"], 64),
        (&["--help"], 0),
    ] {
        assert_eq!(unread(arguments).code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn runs_that_nobody_would_read_of_are_left_out() {
    // The second one would end with 128.
    assert_eq!(unread(&["run", "good.toml", "failing.toml", "--no-report"]).code(), Some(0));
}
