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
    both_of(name, &scenario, &text, seeds);
}

fn both_of(name: &str, scenario: &Scenario, text: &str, seeds: &[u64]) {
    flat::limits::refuse(name, text, scenario).unwrap_or_else(|problems| panic!("{problems}"));
    for seed in seeds {
        let options = Options { seed: Some(*seed), ..Options::default() };
        let ours = world::run(scenario, options).unwrap();
        let theirs = flat::run(scenario, options).unwrap();
        for (world, trace) in [("fabric", &ours), ("turmoil", &theirs)] {
            let verdict = check::judge(scenario, trace);
            assert!(verdict.passed(), "{name}, seed {seed}, {world}: {verdict:#?}");
        }
        let (ours, theirs) = (told(scenario, &ours), told(scenario, &theirs));
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

/// Four nodes with these keys that meet, talk, lose one of them and get it back; and what else is expected of them.
fn four_nodes(zre: &str, rest: &str) -> String {
    format!(
        r#"
[scenario]
about = "four nodes on both networks"
duration = "25 s"
[[segment]]
name = "lan"
prefix = "10.77.0.0/24"
link = {{ delay = "1 ms" }}
[[node]]
name = "n"
count = 4
segment = "lan"
[node.zre]
groups = ["ALL"]
evasive = "1 s"
silent = "2 s"
expired = "4 s"
{zre}
[[traffic]]
from = "*"
shout = "ALL"
every = "1 s"
start = "3 s"
stop = "6 s"
[[step]]
at = "8 s"
node = "n3"
crash = "process-exit"
[[step]]
at = "15 s"
node = "n3"
restart = true
[[expect]]
by = "3 s"
that = "everyone-knows-everyone"
[[expect]]
by = "14 s"
that = "the-dead-are-gone"
[[expect]]
by = "22 s"
that = "everyone-knows-everyone"
[[expect]]
always = "shouts-arrive-once-and-in-order"
{rest}
"#
    )
}

#[test]
fn settings_of_zre_mean_the_same_on_both_networks() {
    const PEERS: &str = r#"peers = ["tcp://n1:6000", "tcp://n2:6000", "tcp://n3:6000", "tcp://n4:6000"]"#;
    const ADVERTISED: &str = r#"
[[node]]
name = "x"
segment = "lan"
[node.zre]
name = "excellent"
identity = "67e5504410b1426f9247bb680e5fe0c8"
advertise = "tcp://x:6000"
tcp_port = 6000
groups = ["ALL"]
evasive = "1 s"
silent = "2 s"
expired = "4 s""#;
    for (zre, rest) in [
        ("ipv6 = false\nmulticast = \"auto\"\ninterface = \"eth0\"", ""),
        ("broadcast = \"limited\"\nmulticast = \"never\"\nheaders = { X-A = \"b\" }", ""),
        ("broadcast = \"both\"\nport = 6001\ninterval = \"300 ms\"", ""),
        (&format!("broadcast = \"never\"\ntcp_port = 6000\n{PEERS}"), ""),
        (&format!("beacon = false\ntcp_port = 6000\n{PEERS}"), ""),
        ("", ADVERTISED),
        (
            "contest = [\"ALL\"]",
            "[[expect]]\nby = \"7 s\"\nthat = \"leaders-are-agreed\"\n[[expect]]\nby = \"24 s\"\nthat = \"leaders-are-agreed\"",
        ),
    ] {
        let text = four_nodes(zre, rest);
        let scenario = Scenario::parse(zre, &text).unwrap_or_else(|problems| panic!("{problems}"));
        both_of(zre, &scenario, &text, &[1]);
    }
}

#[test]
fn churn_is_the_same_on_both_networks() {
    let churn = "[[churn]]\nnode = \"n4\"\nup = \"5 s\"\ndown = \"6 s\"\ncrash = [\"power-cut\", \"stop\"]\nstart = \"9 s\"\nstop = \"18 s\"";
    let text = four_nodes("", churn);
    let scenario = Scenario::parse("churn", &text).unwrap_or_else(|problems| panic!("{problems}"));
    both_of("churn", &scenario, &text, &[1, 2]);
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

[[node]]
name = "z"
segment = "lan"
[node.zre]
ipv6 = true
multicast = "always"
broadcast = "never"
gossip = ["tcp://n01:31337"]

[[traffic]]
from = "z"
connect = "10.77.0.1:80"
manner = "slow"
every = "1 s"

[[churn]]
node = "own"
up = "5 s"
down = "5 s"
crash = "power-cut"

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
            "34:1 the hosts of turmoil's network have one address each, of IPv4",
            "35:1 turmoil has one socket for a port, so nobody hears a multicast group",
            "37:1 no gossip hub runs on turmoil's network",
            "41:1 turmoil's network has no traffic with `connect`: nothing on its hosts serves sessions",
            "42:1 turmoil's network has no traffic with `manner`: nothing on its hosts serves sessions",
            "54:1 turmoil's network can't do `pause`: its hosts can't stand still",
            "58:1 turmoil's network can't do `partition`: its TCP never sends again what was lost meanwhile",
        ]
    );
    let uneven = text[..text.find("[[segment]]\nname = \"air\"").unwrap()]
        .replace("delay = \"1 ms\", loss = \"10 %\"", "delay = \"1 ms..2 ms\"")
        + "[[node]]\nname = \"n\"\nsegment = \"lan\"\n[node.zre]\n[[expect]]\nalways = \"no-live-peer-exits\"\n";
    assert_eq!(refusals(&uneven).len(), 1);
    assert!(refusals(&uneven.replace("1 ms..2 ms", "1500 us")).is_empty());
}
