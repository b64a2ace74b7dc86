//! The numbers of a run: everything a report shows, worked out once from the trace.

use std::collections::BTreeMap;

use hailer::Timestamp;

use crate::check::knowledge::Knowledge;
use crate::check::lives::{LifeId, Lives};
use crate::scenario::{Crash, NodeIndex, Scenario};
use crate::trace::{Count, Drop, Kind, Subject, Trace, What};

use super::samples::Samples;

/// The numbers of a run.
pub(super) struct Figures {
    /// ENTER after the later of two first lives began, for each ordered pair that met.
    pub(super) discovery: Samples,
    /// The same for pairs of which one is a restart.
    pub(super) discovery_restart: Samples,
    /// ENTERs of a life by one that had entered it before.
    pub(super) entered_again: usize,
    /// How many pairs were known, whenever that changed.
    pub(super) mesh: Vec<MeshPoint>,
    /// From sending to arrival, for each arrival of a shout that was sent.
    pub(super) shout_latency: Samples,
    /// The same for whispers.
    pub(super) whisper_latency: Samples,
    /// In the order of [`Crash`].
    pub(super) deaths: Vec<Deaths>,
    pub(super) nodes: Vec<NodeFigures>,
    pub(super) counts: EventCounts,
    /// When each counted event happened, by kind, in order.
    pub(super) moments: Moments,
    /// What the script wanted and nodes refused.
    pub(super) refused: Vec<(Timestamp, NodeIndex, String)>,
    pub(super) traffic: Totals,
    /// Seconds that nodes were up, summed over nodes.
    pub(super) node_seconds: f64,
}

/// How full the mesh was from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MeshPoint {
    pub(super) at: Timestamp,
    /// Ordered pairs of running nodes of which the first knows the second.
    pub(super) known: usize,
    /// Ordered pairs of running nodes.
    pub(super) wanted: usize,
}

/// How one kind of death was noticed.
pub(super) struct Deaths {
    pub(super) crash: Crash,
    /// Lives that ended so.
    pub(super) lives: usize,
    /// From the end of a life to the EXIT, for each node that knew it.
    pub(super) noticed: Samples,
    /// Nodes that knew it and saw no EXIT before their own end or that of the run.
    pub(super) unnoticed: usize,
}

/// Events, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EventCounts {
    pub(super) enter: usize,
    pub(super) exit: usize,
    pub(super) evasive: usize,
    pub(super) silent: usize,
    pub(super) shouts_sent: usize,
    pub(super) shouts_got: usize,
    pub(super) whispers_sent: usize,
    pub(super) whispers_got: usize,
}

/// One node over the whole run.
#[derive(Clone, Default)]
pub(super) struct NodeFigures {
    pub(super) lives: usize,
    /// `None` when it is down at the end.
    pub(super) known_at_end: Option<usize>,
    pub(super) counts: EventCounts,
}

/// When events happened.
#[derive(Default)]
pub(super) struct Moments {
    pub(super) enter: Vec<Timestamp>,
    pub(super) exit: Vec<Timestamp>,
    pub(super) evasive: Vec<Timestamp>,
    pub(super) silent: Vec<Timestamp>,
}

/// What the network carried for all nodes together.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) sent: BTreeMap<Kind, Count>,
    pub(super) received: BTreeMap<Kind, Count>,
    pub(super) dropped: BTreeMap<Drop, Count>,
}

pub(super) const CRASHES: [Crash; 3] = [Crash::PowerCut, Crash::ProcessExit, Crash::Stop];

impl Figures {
    pub(super) fn of(scenario: &Scenario, trace: &Trace) -> Self {
        let lives = Lives::of(scenario, trace);
        let end = Timestamp::ZERO.after(trace.duration);
        let walk = Walk::along(&lives, scenario.nodes.len(), trace);
        let (mut discovery, mut discovery_restart) = (Vec::new(), Vec::new());
        for ((watcher, watched), at) in &walk.first_enter {
            let (one, other) = (lives.get(*watcher), lives.get(*watched));
            let span = at.since(one.up.max(other.up)).as_nanos() as u64;
            let is_first = one.number == 0 && other.number == 0;
            if is_first { discovery.push(span) } else { discovery_restart.push(span) }
        }
        let deaths = CRASHES.map(|crash| walk.deaths(&lives, crash)).into();
        let node_seconds =
            lives.iter().map(|(_, life)| life.down.map_or(end, |(at, _)| at).since(life.up).as_secs_f64());
        let node_seconds = node_seconds.sum();
        let mut traffic = Totals::default();
        for node in &trace.traffic {
            add(&mut traffic.sent, &node.sent);
            add(&mut traffic.received, &node.received);
            add(&mut traffic.dropped, &node.dropped);
        }
        Self {
            discovery: discovery.into_iter().collect(),
            discovery_restart: discovery_restart.into_iter().collect(),
            entered_again: walk.entered_again,
            mesh: walk.mesh,
            shout_latency: walk.shouts.into_iter().collect(),
            whisper_latency: walk.whispers.into_iter().collect(),
            deaths,
            nodes: walk.nodes,
            counts: walk.counts,
            moments: walk.moments,
            refused: walk.refused,
            traffic,
            node_seconds,
        }
    }

    /// How full the mesh was at last.
    pub(super) fn mesh_at_end(&self) -> Option<MeshPoint> {
        self.mesh.last().copied()
    }

    /// Beacons that a node sent in each second that it was up.
    pub(super) fn beacons_per_node_second(&self) -> f64 {
        self.per_node_second(self.traffic.sent.get(&Kind::Beacon).map_or(0, |count| count.packets))
    }

    /// This many of something, for each node and second that it was up.
    pub(super) fn per_node_second(&self, count: u64) -> f64 {
        if self.node_seconds > 0.0 { count as f64 / self.node_seconds } else { 0.0 }
    }
}

/// One pass over the records.
struct Walk {
    first_enter: BTreeMap<(LifeId, LifeId), Timestamp>,
    entered_again: usize,
    mesh: Vec<MeshPoint>,
    sent: BTreeMap<(LifeId, u64), Timestamp>,
    shouts: Vec<u64>,
    whispers: Vec<u64>,
    /// Who knew a life when it ended, and when each saw its EXIT.
    mourners: BTreeMap<(LifeId, LifeId), Option<Timestamp>>,
    nodes: Vec<NodeFigures>,
    counts: EventCounts,
    moments: Moments,
    refused: Vec<(Timestamp, NodeIndex, String)>,
}

impl Walk {
    fn along(lives: &Lives, nodes: usize, trace: &Trace) -> Self {
        let mut walk = Self {
            first_enter: BTreeMap::new(),
            entered_again: 0,
            mesh: vec![MeshPoint { at: Timestamp::ZERO, known: 0, wanted: 0 }],
            sent: BTreeMap::new(),
            shouts: Vec::new(),
            whispers: Vec::new(),
            mourners: BTreeMap::new(),
            nodes: vec![NodeFigures::default(); nodes],
            counts: EventCounts::default(),
            moments: Moments::default(),
            refused: Vec::new(),
        };
        let mut knowledge = Knowledge::new(lives, nodes);
        for record in &trace.records {
            walk.take(lives, &knowledge, record.at, record.node, &record.what);
            knowledge.apply(record);
            let (known, wanted) = (knowledge.pairs() - knowledge.missing(), knowledge.pairs());
            let last = walk.mesh.last_mut().expect("the mesh starts with a point");
            if (known, wanted) != (last.known, last.wanted) {
                let point = MeshPoint { at: record.at, known, wanted };
                if last.at == record.at { *last = point } else { walk.mesh.push(point) }
            }
        }
        for (index, figures) in (0..).zip(&mut walk.nodes) {
            let node = NodeIndex(index);
            figures.lives = lives.of_node(node).len();
            figures.known_at_end = knowledge.current(node).map(|_| knowledge.known_count(node));
        }
        walk
    }

    fn take(
        &mut self,
        lives: &Lives,
        knowledge: &Knowledge<'_>,
        at: Timestamp,
        node: NodeIndex,
        what: &What,
    ) {
        let current = knowledge.latest(node);
        match what {
            What::Down(_) => {
                let Some(dead) = current else { return };
                for index in (0..self.nodes.len() as u32).map(NodeIndex).filter(|index| *index != node) {
                    let watcher = knowledge.current(index).filter(|_| knowledge.knows(index, dead));
                    if let Some(watcher) = watcher {
                        self.mourners.insert((dead, watcher), None);
                    }
                }
            }
            What::SentShout { number, .. } | What::SentWhisper { number, .. } => {
                if let Some(life) = current {
                    self.sent.insert((life, *number), at);
                }
                let is_shout = matches!(what, What::SentShout { .. });
                self.count(node, |counts| {
                    *(if is_shout { &mut counts.shouts_sent } else { &mut counts.whispers_sent }) += 1;
                });
            }
            What::GotShout { from, number, .. } => {
                self.count(node, |counts| counts.shouts_got += 1);
                self.shouts.extend(self.latency(lives, at, from, *number));
            }
            What::GotWhisper { from, number, .. } => {
                self.count(node, |counts| counts.whispers_got += 1);
                self.whispers.extend(self.latency(lives, at, from, *number));
            }
            What::Enter(subject) => {
                self.count(node, |counts| counts.enter += 1);
                self.moments.enter.push(at);
                if let (Some(watcher), Some(watched)) = (current, lives.named(subject)) {
                    let first = *self.first_enter.entry((watcher, watched)).or_insert(at);
                    self.entered_again += usize::from(first != at);
                }
            }
            What::Exit(subject, _) => {
                self.count(node, |counts| counts.exit += 1);
                self.moments.exit.push(at);
                if let (Some(watcher), Some(watched)) = (current, knowledge.entered_as(node, subject))
                    && let Some(noticed) = self.mourners.get_mut(&(watched, watcher))
                {
                    noticed.get_or_insert(at);
                }
            }
            What::Evasive(_) => {
                self.count(node, |counts| counts.evasive += 1);
                self.moments.evasive.push(at);
            }
            What::Silent(_) => {
                self.count(node, |counts| counts.silent += 1);
                self.moments.silent.push(at);
            }
            What::Refused(text) => self.refused.push((at, node, text.clone())),
            _ => {}
        }
    }

    fn count(&mut self, node: NodeIndex, change: impl Fn(&mut EventCounts)) {
        change(&mut self.nodes[node.0 as usize].counts);
        change(&mut self.counts);
    }

    fn latency(&self, lives: &Lives, at: Timestamp, from: &Subject, number: Option<u64>) -> Option<u64> {
        let sent = self.sent.get(&(lives.named(from)?, number?))?;
        Some(at.since(*sent).as_nanos() as u64)
    }

    fn deaths(&self, lives: &Lives, crash: Crash) -> Deaths {
        let ended = |life: &LifeId| lives.get(*life).down.filter(|(_, how)| *how == crash).map(|(at, _)| at);
        let mut noticed = Vec::new();
        let mut unnoticed = 0;
        for ((dead, _), exit) in &self.mourners {
            match (ended(dead), exit) {
                (Some(end), Some(exit)) => noticed.push(exit.since(end).as_nanos() as u64),
                (Some(_), None) => unnoticed += 1,
                (None, _) => {}
            }
        }
        let count = lives.iter().filter(|(id, _)| ended(id).is_some()).count();
        Deaths { crash, lives: count, noticed: noticed.into_iter().collect(), unnoticed }
    }
}

fn add<K: Ord + Copy>(total: &mut BTreeMap<K, Count>, part: &BTreeMap<K, Count>) {
    for (key, count) in part {
        let sum = total.entry(*key).or_default();
        sum.packets += count.packets;
        sum.bytes += count.bytes;
    }
}

/// Packets and bytes of all kinds together.
pub(super) fn sum<K>(counts: &BTreeMap<K, Count>) -> Count {
    counts.values().fold(Count::default(), |sum, count| Count {
        packets: sum.packets + count.packets,
        bytes: sum.bytes + count.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{self, Script};
    use proptest::prelude::*;

    fn figures(run: &sample::Run) -> Figures {
        Figures::of(&run.scenario, &run.trace)
    }

    #[test]
    fn discovery_counts_from_the_later_of_two_lives_and_restarts_apart() {
        let script = Script::new(2).up(1.0, 0).up(3.0, 1).enter(3.5, 0, (1, 0)).enter(3.7, 1, (0, 0));
        let script = script.exit(4.0, 0, (1, 0)).enter(5.0, 0, (1, 0)).down(8.0, 1, Crash::ProcessExit);
        let run = script.exit(8.2, 0, (1, 0)).up(9.0, 1).enter(9.3, 0, (1, 1)).run(20.0);
        let figures = figures(&run);
        assert_eq!(figures.discovery, [500_000_000, 700_000_000].into_iter().collect());
        assert_eq!(figures.discovery_restart, [300_000_000].into_iter().collect());
        assert_eq!(figures.entered_again, 1);
        assert_eq!(figures.deaths[1].noticed, [200_000_000].into_iter().collect());
        assert_eq!((figures.deaths[1].lives, figures.deaths[1].unnoticed), (1, 0));
        assert!((figures.node_seconds - 35.0).abs() < 1e-9);
    }

    #[test]
    fn a_death_that_nobody_notices_is_counted() {
        let run =
            Script::new(2).up(0.0, 0).up(0.0, 1).meet(1.0, &[0, 1]).down(5.0, 1, Crash::PowerCut).run(9.0);
        let figures = figures(&run);
        assert_eq!((figures.deaths[0].noticed.len(), figures.deaths[0].unnoticed), (0, 1));
    }

    #[test]
    fn latency_is_from_sending_to_arrival() {
        let run = Script::new(3).up(0.0, 0).up(0.0, 1).up(0.0, 2).shout(1.0, 0, 0).whisper(2.0, 0, (1, 0), 1);
        let run =
            run.got_shout(1.25, 1, (0, 0), 0).got_shout(1.5, 2, (0, 0), 0).got_whisper(2.125, 1, (0, 0), 1);
        let figures = figures(&run.got_shout(3.0, 1, (0, 0), 77).run(9.0));
        assert_eq!(figures.shout_latency, [250_000_000, 500_000_000].into_iter().collect());
        assert_eq!(figures.whisper_latency, [125_000_000].into_iter().collect());
        assert_eq!((figures.counts.shouts_sent, figures.counts.shouts_got), (1, 3));
    }

    proptest! {
        #[test]
        fn the_mesh_never_holds_more_than_there_is(steps in proptest::collection::vec((0u32..4, 0u32..4, 0u32..8), 0..60)) {
            let figures = figures(&sample::arbitrary_membership(4, &steps));
            prop_assert!(figures.mesh.iter().all(|point| point.known <= point.wanted));
            prop_assert!(figures.mesh.windows(2).all(|pair| pair[0].at < pair[1].at));
        }
    }
}
