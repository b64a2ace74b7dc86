//! Runs for tests: short ones written by hand, step by step ([`Script`]), and a plausible one of any size ([`lan`]).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use hailer::Timestamp;
use hailer::daemon::Config;
use hailer::zre::PeerId;

use crate::check::{Finding, Outcome, judge, knowledge::Knowledge, lives::Lives, seconds};
use crate::scenario::{
    Action, Attachment, Clock, Crash, Expect, Kind, Link, Medium, Node, NodeIndex, Partition, Property,
    Scenario, Segment, SegmentIndex, Step,
};
use crate::trace::{Record, Subject, Trace, Traffic, What};

mod lan;

pub(crate) use lan::lan;

/// An identity that no node of any sample has.
pub(crate) const STRANGER: PeerId = PeerId::from_bytes([0xEE; 16]);

/// This many seconds after the start.
pub(crate) fn secs(at: f64) -> Timestamp {
    Timestamp::from_nanos((at * 1e9).round() as u64)
}

/// A run with its scenario.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) trace: Trace,
}

impl Run {
    pub(crate) fn lives(&self) -> Lives {
        Lives::of(&self.scenario, &self.trace)
    }

    /// From then on the application of this node sees nothing, and does only what the script says.
    pub(crate) fn deafen(mut self, node: u32, from: Timestamp) -> Self {
        self.trace.records.retain(|record| {
            let is_script = Knowledge::is_upheaval(&record.what)
                || matches!(record.what, What::Joined(_) | What::SentShout { .. } | What::SentWhisper { .. });
            record.node.0 != node || record.at < from || is_script
        });
        self
    }

    /// Judges the run by this one expectation.
    pub(crate) fn judge(&self, that: Property, by: Option<f64>) -> Finding {
        let by = by.map(Duration::from_secs_f64);
        let scenario =
            Scenario { expects: vec![Expect { that, among: None, by, line: 1 }], ..self.scenario.clone() };
        judge(&scenario, &self.trace).findings.remove(0)
    }
}

impl Finding {
    /// The violations as text.
    pub(crate) fn violations(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Passed => Vec::new(),
            Outcome::Failed { violations, .. } => {
                let line = |violation: &crate::check::Violation| {
                    format!("{} n{:02}: {}", seconds(violation.at), violation.node.0, violation.text)
                };
                violations.iter().map(line).collect()
            }
        }
    }
}

/// A scenario of `nodes` nodes on one segment.
pub(crate) fn scenario(nodes: u32, duration: Duration) -> Scenario {
    let node = |index: u32| Node {
        name: format!("n{index:02}"),
        group: "n".to_owned(),
        interfaces: vec![Attachment {
            segment: SegmentIndex(0),
            address: Ipv4Addr::from(0x0A4D_0001 + index),
            address6: None,
            link: Link::default(),
        }],
        start: Duration::ZERO,
        clock: Clock::default(),
        config: Config::default(),
        assault: None,
        echo: None,
        kind: Kind::Computer,
        published: Vec::new(),
        routes: Vec::new(),
        nat: None,
    };
    Scenario {
        name: "sample".to_owned(),
        about: "A sample.".to_owned(),
        seed: 1,
        duration,
        tick: Duration::from_millis(1),
        segments: vec![Segment {
            name: "lan".to_owned(),
            prefix: "10.77.0.0/16".parse().unwrap(),
            prefix6: None,
            link: Link::default(),
            has_names: true,
            names: BTreeMap::new(),
            services: BTreeMap::new(),
            medium: Medium::Lan,
        }],
        nodes: (0..nodes).map(node).collect(),
        steps: Vec::new(),
        churn: Vec::new(),
        traffic: Vec::new(),
        expects: Vec::new(),
        consuls: Vec::new(),
        originals: Vec::new(),
    }
}

/// What a step does and to whom: a partition of these nodes from those.
pub(crate) fn partition(from: &[u32], to: &[u32], is_one_way: bool) -> (Vec<NodeIndex>, Action) {
    let nodes = |side: &[u32]| side.iter().copied().map(NodeIndex).collect();
    let partition = Partition { name: None, from: nodes(from), to: nodes(to), is_one_way };
    (Vec::new(), Action::Partition(partition))
}

/// A scenario of `nodes` nodes with these steps, at seconds.
pub(crate) fn steps(nodes: u32, script: Vec<(f64, (Vec<NodeIndex>, Action))>) -> Scenario {
    let mut scenario = scenario(nodes, Duration::from_secs(60));
    let step = |(at, (nodes, action))| Step { at: Duration::from_secs_f64(at), nodes, action, line: 1 };
    scenario.steps = script.into_iter().map(step).collect();
    scenario
}

/// The identity of the life of a node.
pub(crate) fn peer(node: u32, life: u32) -> PeerId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&node.to_be_bytes());
    bytes[12..].copy_from_slice(&life.to_be_bytes());
    PeerId::from_bytes(bytes)
}

/// A run written by hand, record by record. Times are seconds; peers are (node, life).
#[derive(Clone, Debug)]
pub(crate) struct Script {
    lives: Vec<u32>,
    records: Vec<Record>,
    steps: Vec<Step>,
    is_zre: bool,
    contest: Vec<hailer::zre::Text>,
    repeaters: Vec<u32>,
}

impl Script {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            lives: vec![0; nodes],
            records: Vec::new(),
            steps: Vec::new(),
            is_zre: false,
            contest: Vec::new(),
            repeaters: Vec::new(),
        }
    }

    pub(crate) fn then(mut self, at: f64, node: u32, what: What) -> Self {
        self.records.push(Record { at: secs(at), node: NodeIndex(node), what });
        self
    }

    pub(crate) fn up(self, at: f64, node: u32) -> Self {
        let life = self.lives[node as usize];
        self.up_as(at, node, life)
    }

    /// The next life of the node, with the identity that its life `identity` had.
    pub(crate) fn up_as(mut self, at: f64, node: u32, identity: u32) -> Self {
        let life = self.lives[node as usize];
        self.lives[node as usize] += 1;
        self.then(at, node, What::Up { life, peer: peer(node, identity) })
    }

    /// The next life of the node, with the identity of another node's life.
    pub(crate) fn twin(mut self, at: f64, node: u32, of: (u32, u32)) -> Self {
        let life = self.lives[node as usize];
        self.lives[node as usize] += 1;
        self.then(at, node, What::Up { life, peer: peer(of.0, of.1) })
    }

    pub(crate) fn down(self, at: f64, node: u32, crash: Crash) -> Self {
        self.then(at, node, What::Down(crash))
    }

    pub(crate) fn stop_step(mut self, at: f64, node: u32) -> Self {
        let at = Duration::from_secs_f64(at);
        let action = Action::Crash(Crash::Stop);
        self.steps.push(Step { at, nodes: vec![NodeIndex(node)], action, line: 1 });
        self
    }

    /// Every node has the default configuration of ZRE.
    pub(crate) fn zre(mut self) -> Self {
        self.is_zre = true;
        self
    }

    /// Every node stands for leader of this group.
    pub(crate) fn contest(mut self, group: &str) -> Self {
        self.contest.push(group.into());
        self
    }

    /// These nodes have repeaters.
    pub(crate) fn with_repeaters(mut self, nodes: &[u32]) -> Self {
        self.repeaters.extend(nodes);
        self
    }

    /// A step that cuts nodes off, and its record.
    pub(crate) fn cut(self, at: f64, step: (Vec<NodeIndex>, Action)) -> Self {
        self.network_step(at, step, What::Cut(String::new()))
    }

    /// A step that ends what cut nodes off, and its record.
    pub(crate) fn mend(self, at: f64, step: (Vec<NodeIndex>, Action)) -> Self {
        self.network_step(at, step, What::Mended(String::new()))
    }

    fn network_step(mut self, at: f64, (nodes, action): (Vec<NodeIndex>, Action), what: What) -> Self {
        self.steps.push(Step { at: Duration::from_secs_f64(at), nodes, action, line: 1 });
        self.then(at, 0, what)
    }

    pub(crate) fn pause(self, at: f64, node: u32) -> Self {
        self.then(at, node, What::Paused)
    }

    pub(crate) fn resume(self, at: f64, node: u32) -> Self {
        self.then(at, node, What::Resumed)
    }

    pub(crate) fn joined(self, at: f64, node: u32, group: &str) -> Self {
        self.then(at, node, What::Joined(group.to_owned()))
    }

    pub(crate) fn left(self, at: f64, node: u32, group: &str) -> Self {
        self.then(at, node, What::Left(group.to_owned()))
    }

    pub(crate) fn enter(self, at: f64, node: u32, peer: (u32, u32)) -> Self {
        self.then(at, node, What::Enter(Subject::Life(NodeIndex(peer.0), peer.1)))
    }

    pub(crate) fn exit(self, at: f64, node: u32, peer: (u32, u32)) -> Self {
        self.exit_because(at, node, peer, "expired")
    }

    pub(crate) fn exit_because(self, at: f64, node: u32, peer: (u32, u32), reason: &str) -> Self {
        self.then(at, node, What::Exit(Subject::Life(NodeIndex(peer.0), peer.1), reason.to_owned()))
    }

    pub(crate) fn join(self, at: f64, node: u32, peer: (u32, u32), group: &str) -> Self {
        self.then(at, node, What::Join(Subject::Life(NodeIndex(peer.0), peer.1), group.to_owned()))
    }

    pub(crate) fn leave(self, at: f64, node: u32, peer: (u32, u32), group: &str) -> Self {
        self.then(at, node, What::Leave(Subject::Life(NodeIndex(peer.0), peer.1), group.to_owned()))
    }

    pub(crate) fn shout(self, at: f64, node: u32, number: u64) -> Self {
        self.then(at, node, What::SentShout { group: "g".to_owned(), number, bytes: 100 })
    }

    pub(crate) fn whisper(self, at: f64, node: u32, to: (u32, u32), number: u64) -> Self {
        let to = Subject::Life(NodeIndex(to.0), to.1);
        self.then(at, node, What::SentWhisper { to, number, bytes: 100 })
    }

    pub(crate) fn got_shout(self, at: f64, node: u32, from: (u32, u32), number: u64) -> Self {
        let from = Subject::Life(NodeIndex(from.0), from.1);
        let what = What::GotShout { from, group: "g".to_owned(), number: Some(number), is_intact: true };
        self.then(at, node, what)
    }

    pub(crate) fn got_whisper(self, at: f64, node: u32, from: (u32, u32), number: u64) -> Self {
        let from = Subject::Life(NodeIndex(from.0), from.1);
        self.then(at, node, What::GotWhisper { from, number: Some(number), is_intact: true })
    }

    /// First lives of all these nodes enter each other.
    pub(crate) fn meet(mut self, at: f64, nodes: &[u32]) -> Self {
        for node in nodes {
            for other in nodes.iter().filter(|other| *other != node) {
                self = self.enter(at, *node, (*other, 0));
            }
        }
        self
    }

    /// The run; records that were written out of order are sorted, those at one moment stay as they were written.
    pub(crate) fn run(mut self, duration: f64) -> Run {
        self.records.sort_by_key(|record| record.at);
        let duration = Duration::from_secs_f64(duration);
        let mut scenario = scenario(u32::try_from(self.lives.len()).unwrap(), duration);
        scenario.steps = self.steps;
        if self.is_zre {
            let zre = hailer::zre::Config { contest: self.contest, ..Default::default() };
            scenario.nodes.iter_mut().for_each(|node| node.config.zre = Some(zre.clone()));
        }
        for node in self.repeaters {
            scenario.nodes[node as usize].config.repeater = Some(hailer::repeater::Config::default());
        }
        let traffic = vec![Traffic::default(); self.lives.len()];
        let digest = "00".repeat(32);
        Run {
            scenario,
            trace: Trace { seed: 1, duration, records: self.records, traffic, loads: Vec::new(), digest },
        }
    }
}

/// A run in which anything may happen to who is up and who knows whom, one step a second.
pub(crate) fn arbitrary_membership(nodes: u32, steps: &[(u32, u32, u32)]) -> Run {
    let mut script = Script::new(nodes as usize);
    let mut is_up = vec![false; nodes as usize];
    for (index, (node, other, kind)) in steps.iter().enumerate() {
        let at = index as f64;
        let other_life = script.lives[*other as usize].saturating_sub(1);
        let up = &mut is_up[*node as usize];
        script = match kind {
            0 if *up => {
                *up = false;
                script.down(at, *node, Crash::PowerCut)
            }
            0 | 1 if !*up => {
                *up = true;
                script.up(at, *node)
            }
            2 => script.pause(at, *node),
            3 => script.resume(at, *node),
            4 => script.exit(at, *node, (*other, other_life)),
            5 => script.then(at, *node, What::Enter(Subject::Stranger(STRANGER))),
            _ => script.enter(at, *node, (*other, other_life)),
        };
    }
    script.run(steps.len() as f64 + 1.0)
}
