//! Mistakes in scenario files, and what their authors are told: every message, at its line and column.

use hailer_sim::scenario::Scenario;
use proptest::prelude::*;

/// A file without mistakes; the blocks in [`MISTAKES`] put them in.
const GOOD: &str = r#"[scenario]
about = "three nodes on one LAN"
seed = 7
duration = "60 s"

[[segment]]
name = "lan"
prefix = "10.77.0.0/24"
link = { delay = "1 ms", loss = "10 %" }

[[node]]
name = "n"
count = 3
segment = "lan"
start = "0s..1s"
[node.zre]
groups = ["CHAT"]

[[node]]
name = "printer"
interfaces = [{ segment = "lan", address = "10.77.0.9" }]

[[traffic]]
from = "n"
shout = "CHAT"
every = "1 s"

[[step]]
at = "20 s"
node = "n2"
crash = "power-cut"

[[step]]
at = "30 s"
node = "n2"
restart = true

[[expect]]
always = "no-live-peer-exits"

[[expect]]
by = "10 s"
that = "everyone-knows-everyone"
"#;

const MISTAKES: &str = include_str!("scenario_mistakes.txt");

#[test]
fn the_file_that_mistakes_are_put_into_has_none() {
    Scenario::parse("good.toml", GOOD).unwrap();
}

#[test]
fn every_mistake_is_reported_at_its_place_with_what_would_be_right() {
    let blocks = MISTAKES.split("\n\n").filter(|block| block.starts_with(['-', '+']));
    for block in blocks.clone() {
        let file = changed(block);
        let found = Scenario::parse("bad.toml", &file).expect_err(block);
        let told = found.problems().iter().flat_map(|problem| {
            let (line, column) = found.position(problem);
            [format!("{line}:{column} {}", problem.message), format!("    {}", problem.help)]
        });
        let expected = block.trim_end().lines().filter(|line| !line.starts_with(['-', '+']));
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "of the change\n{block}");
    }
    assert!(blocks.count() > 100);
}

/// The good file with the lines of a block taken out and put in.
fn changed(block: &str) -> String {
    let lines = |mark: char| {
        let marked = block.lines().filter_map(|line| line.strip_prefix(mark));
        marked.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect::<String>()
    };
    let (out, put) = (lines('-'), lines('+'));
    if out.is_empty() {
        return format!("{GOOD}{put}");
    }
    assert!(GOOD.contains(&out), "the good file has no such lines:\n{out}");
    GOOD.replacen(&out, &put, 1)
}

#[test]
fn problems_are_drawn_with_the_lines_they_are_about() {
    let file = GOOD.replace("10.77.0.9\" }", "10.77.0.9\" }, { segment = \"lan\", address = \"10.77.0.9\" }");
    let file = file.replace("seed = 7", "sed = 7");
    let drawn = Scenario::parse("scenarios/lan.toml", &file).unwrap_err().to_string();
    assert_eq!(drawn, DRAWN);
}

const DRAWN: &str = r#"error: unknown key `sed` in [scenario]
 --> scenarios/lan.toml:3:1
  |
3 | sed = 7
  | ^^^
  |
  = help: did you mean `seed`? the keys here are `about`, `seed`, `duration`, `tick`

error: the address 10.77.0.9 is taken
  --> scenarios/lan.toml:21:88
   |
21 | interfaces = [{ segment = "lan", address = "10.77.0.9" }, { segment = "lan", address = "10.77.0.9" }]
   |                                            ----------- by this one                     ^^^^^^^^^^^
   |
   = help: write another one; without `address` the next free one is taken"#;

/// What a hand that slips puts into a file.
const SLIPS: [&str; 24] = [
    "",
    "\n",
    "\"",
    "'",
    "=",
    "[",
    "]]",
    "{",
    "}",
    ",",
    "..",
    "%",
    "é",
    "\u{0}",
    "\t",
    "#",
    "0",
    "-",
    "1e9",
    "true",
    "\"\"\"",
    "99999999999999999999",
    "[[node]]\n",
    "*",
];

proptest! {
    #[test]
    fn a_file_that_was_cut_and_patched_anywhere_is_read_or_refused_but_never_panics(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, prop::sample::select(&SLIPS[..])), 1..4),
    ) {
        let mut text = GOOD.to_owned();
        for (at, length, slip) in cuts {
            let boundaries: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = at.index(boundaries.len());
            let end = (start + length).min(boundaries.len() - 1);
            text.replace_range(boundaries[start]..boundaries[end], slip);
        }
        if let Err(found) = Scenario::parse("bad.toml", &text) {
            prop_assert!(!found.problems().is_empty());
            prop_assert!(found.render(true).len() > found.render(false).len());
        }
    }
}
