//! The same scenario on the fabric and on turmoil's own network: two networks that share no line, and the same comes of it.
//! What turmoil's network can't do is refused, at its place.

use std::collections::BTreeSet;
use std::path::Path;

use hailer_sim::check;
use hailer_sim::scenario::Scenario;
use hailer_sim::trace::{Trace, What};
use hailer_sim::world::{self, Options, flat};

/// A scenario of the repository, and its text.
fn load(name: &str) -> (Scenario, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (Scenario::parse(name, &text).unwrap_or_else(|problems| panic!("{problems}")), text)
}

/// What applications were told, without when and in which order: who came, who went, what arrived.
fn told(scenario: &Scenario, trace: &Trace) -> BTreeSet<String> {
    let name = |record: &hailer_sim::trace::Record| scenario.nodes[record.node.0 as usize].name.clone();
    let lines = trace.records.iter().filter_map(|record| {
        let what = match &record.what {
            What::Enter(subject) => format!("ENTER {subject:?}"),
            What::Exit(subject, _) => format!("EXIT {subject:?}"),
            What::Join(subject, group) => format!("JOIN {subject:?} {group}"),
            What::Leave(subject, group) => format!("LEAVE {subject:?} {group}"),
            What::GotShout { from, group, number, is_intact } => {
                format!("SHOUT {from:?} {group} {number:?} {is_intact}")
            }
            What::GotWhisper { from, number, is_intact } => {
                format!("WHISPER {from:?} {number:?} {is_intact}")
            }
            What::Refused(why) => format!("refused: {why}"),
            What::Stopped => "STOP".to_owned(),
            _ => return None,
        };
        Some(format!("{}: {what}", name(record)))
    });
    lines.collect()
}

fn both(name: &str, seeds: &[u64]) {
    let (scenario, text) = load(name);
    flat::limits::refuse(name, &text, &scenario).unwrap_or_else(|problems| panic!("{problems}"));
    for seed in seeds {
        let options = Options { seed: Some(*seed), ..Options::default() };
        let ours = world::run(&scenario, options).unwrap();
        let theirs = flat::run(&scenario, options).unwrap();
        for (world, trace) in [("fabric", &ours), ("turmoil", &theirs)] {
            let verdict = check::judge(&scenario, trace);
            assert!(verdict.passed(), "{name}, seed {seed}, {world}: {verdict:#?}");
        }
        let (ours, theirs) = (told(&scenario, &ours), told(&scenario, &theirs));
        let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
            one.difference(other).take(20).cloned().collect()
        };
        assert!(!ours.is_empty());
        assert_eq!(
            (only(&ours, &theirs), only(&theirs, &ours)),
            (Vec::new(), Vec::new()),
            "{name}, seed {seed}: what only the fabric's applications were told, and what only turmoil's"
        );
    }
}

#[test]
fn two_nodes_are_told_the_same_on_both_networks() {
    both("two-nodes.toml", &[1, 2, 3]);
}

#[test]
fn members_of_groups_are_told_the_same_on_both_networks() {
    both("groups.toml", &[1, 2]);
}

#[test]
fn ten_nodes_that_die_and_return_are_told_the_same_on_both_networks() {
    both("lan-plain.toml", &[1]);
}

#[test]
fn a_run_on_turmoils_network_is_the_same_each_time() {
    let (scenario, _) = load("groups.toml");
    let digest = || flat::run(&scenario, Options::default()).unwrap().digest;
    assert_eq!(digest(), digest());
}

/// What a scenario is told that turmoil's network can't run, as line, column and message.
fn refusals(text: &str) -> Vec<String> {
    let scenario = Scenario::parse("x.toml", text).unwrap_or_else(|problems| panic!("{problems}"));
    let Err(found) = flat::limits::refuse("x.toml", text, &scenario) else { return Vec::new() };
    let told = found.problems().iter().map(|problem| {
        let (line, column) = found.position(problem);
        format!("{line}:{column} {}", problem.message)
    });
    told.collect()
}

#[test]
fn what_turmoils_network_cannot_do_is_refused_at_its_place() {
    let text = r#"[scenario]
about = "too much"
duration = "60 s"

[[segment]]
name = "lan"
prefix = "10.77.0.0/24"
link = { delay = "1 ms", loss = "10 %" }

[[segment]]
name = "air"
prefix = "10.78.0.0/24"

[[node]]
name = "n"
count = 60
segment = "lan"
[node.zre]

[[node]]
name = "own"
segment = "lan"
link = { loss = "1 %" }
clock = { drift = "3 %" }

[[node]]
name = "both"
interfaces = [{ segment = "lan" }, { segment = "air" }]

[[step]]
at = "3 s"
node = "n"
pause = true

[[step]]
at = "5 s"
partition = { from = "n", to = "own" }

[[expect]]
always = "no-live-peer-exits"
"#;
    assert_eq!(
        refusals(text),
        [
            "8:1 links of turmoil's network have one fixed delay, whole milliseconds from node to node, and nothing else",
            "10:1 turmoil's network is one flat LAN, and this is a second segment",
            "14:3 these are more than 50 nodes, and turmoil's network takes too long for them",
            "23:1 all links of turmoil's network are alike",
            "24:1 a node on turmoil's network has no `clock`",
            "26:1 all links of turmoil's network are alike",
            "28:36 a node on turmoil's network has one interface",
            "33:1 turmoil's network can't do `pause`: its hosts can't stand still",
            "37:1 turmoil's network can't do `partition`: its TCP never sends again what was lost meanwhile",
        ]
    );
    let uneven = text[..text.find("[[segment]]\nname = \"air\"").unwrap()]
        .replace("delay = \"1 ms\", loss = \"10 %\"", "delay = \"1 ms..2 ms\"")
        + "[[node]]\nname = \"n\"\nsegment = \"lan\"\n[node.zre]\n[[expect]]\nalways = \"no-live-peer-exits\"\n";
    assert_eq!(refusals(&uneven).len(), 1);
    assert!(refusals(&uneven.replace("1 ms..2 ms", "1500 us")).is_empty());
}
