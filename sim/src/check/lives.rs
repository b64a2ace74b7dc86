//! The truth of a run: what the script did to each life of each node.
//!
//! Made from the records of the script alone; what applications claim to have seen is the business of
//! [`super::knowledge`].

use std::collections::BTreeMap;
use std::time::Duration;

use hailer::Timestamp;
use hailer::zre::PeerId;

use crate::scenario::{Action, Crash, NodeIndex, Scenario};
use crate::trace::{Subject, Trace, What};

use super::reach::Reach;

/// One life of one node, numbered over the whole run in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LifeId(u32);

impl LifeId {
    /// Its place in [`Lives::iter`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// From a moment until another; `None`: until the end of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub to: Option<Timestamp>,
}

impl Span {
    pub(super) fn touches(&self, from: Timestamp, to: Timestamp) -> bool {
        self.from <= to && self.to.is_none_or(|end| end > from)
    }

    fn covers(&self, from: Timestamp, to: Timestamp) -> bool {
        self.from <= from && self.to.is_none_or(|end| end >= to)
    }
}

/// What the script did to one life.
#[derive(Clone, Debug)]
pub struct Life {
    /// Whose life.
    pub node: NodeIndex,
    /// 0 for the first.
    pub number: u32,
    /// Its identity.
    pub peer: PeerId,
    /// When it began.
    pub up: Timestamp,
    /// When and how it ended, when it did.
    pub down: Option<(Timestamp, Crash)>,
    /// When it was asked to stop, when it was; not later than its end.
    pub asked_to_stop: Option<Timestamp>,
    /// The first life with the same identity: itself, unless the node's configuration fixes its identity.
    pub identity: LifeId,
    pauses: Vec<Span>,
    groups: BTreeMap<String, Vec<Span>>,
}

impl Life {
    /// Whether the life has begun and not ended at this moment; a paused node is up.
    pub fn is_up(&self, at: Timestamp) -> bool {
        self.up <= at && self.down.is_none_or(|(end, _)| at < end)
    }

    /// Whether the node is up and not paused at this moment.
    pub fn is_running(&self, at: Timestamp) -> bool {
        self.is_up(at) && !self.pauses.iter().any(|pause| pause.touches(at, at))
    }

    /// Whether the node is up and not paused from the first moment to the second.
    pub fn runs_throughout(&self, from: Timestamp, to: Timestamp) -> bool {
        self.is_up(from) && self.is_up(to) && !self.pauses.iter().any(|pause| pause.touches(from, to))
    }

    /// Whether it is in the group, by the script, from the first moment to the second.
    pub fn is_member_throughout(&self, group: &str, from: Timestamp, to: Timestamp) -> bool {
        self.groups.get(group).is_some_and(|spans| spans.iter().any(|span| span.covers(from, to)))
    }

    /// Whether it is in the group, by the script, at any moment from the first to the second.
    pub fn is_member_during(&self, group: &str, from: Timestamp, to: Timestamp) -> bool {
        self.groups.get(group).is_some_and(|spans| spans.iter().any(|span| span.touches(from, to)))
    }
}

/// Every life of a run.
#[derive(Clone, Debug)]
pub struct Lives {
    lives: Vec<Life>,
    of_node: Vec<Vec<LifeId>>,
    /// Whom the script cut off from whom.
    pub reach: Reach,
}

impl Lives {
    /// Reads the script's part of the trace.
    pub fn of(scenario: &Scenario, trace: &Trace) -> Self {
        let mut lives = Self {
            lives: Vec::new(),
            of_node: vec![Vec::new(); scenario.nodes.len()],
            reach: Reach::of(scenario),
        };
        for record in &trace.records {
            lives.apply(record.node, record.at, &record.what);
        }
        for step in &scenario.steps {
            if step.action == Action::Crash(Crash::Stop) {
                let at = Timestamp::ZERO.after(step.at);
                for node in &step.nodes {
                    lives.note_asked_to_stop(*node, at);
                }
            }
        }
        lives
    }

    fn apply(&mut self, node: NodeIndex, at: Timestamp, what: &What) {
        if let What::Up { life, peer } = what {
            let id = LifeId(u32::try_from(self.lives.len()).expect("a run has fewer than 2^32 lives"));
            let of_node = &mut self.of_node[node.0 as usize];
            let same = of_node.iter().find(|id| self.lives[id.index()].peer == *peer);
            let identity = same.copied().unwrap_or(id);
            of_node.push(id);
            self.lives.push(Life {
                node,
                number: *life,
                peer: *peer,
                up: at,
                down: None,
                asked_to_stop: None,
                identity,
                pauses: Vec::new(),
                groups: BTreeMap::new(),
            });
            return;
        }
        let Some(id) = self.latest(node) else { return };
        let life = &mut self.lives[id.index()];
        match what {
            What::Down(crash) => {
                life.down = Some((at, *crash));
                if *crash == Crash::Stop {
                    life.asked_to_stop = Some(at);
                }
                end_last(&mut life.pauses, at);
                life.groups.values_mut().for_each(|spans| end_last(spans, at));
            }
            What::Paused => life.pauses.push(Span { from: at, to: None }),
            What::Resumed => end_last(&mut life.pauses, at),
            What::Joined(group) => {
                life.groups.entry(group.clone()).or_default().push(Span { from: at, to: None });
            }
            What::Left(group) => {
                if let Some(spans) = life.groups.get_mut(group) {
                    end_last(spans, at);
                }
            }
            _ => {}
        }
    }

    /// The script asks at the step's time; the node may take a moment to be down.
    fn note_asked_to_stop(&mut self, node: NodeIndex, at: Timestamp) {
        let asked = self.of_node[node.0 as usize].iter().rev().find(|id| self.lives[id.index()].is_up(at));
        if let Some(id) = asked {
            self.lives[id.index()].asked_to_stop = Some(at);
        }
    }

    /// Every life, in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = (LifeId, &Life)> {
        (0..).map(LifeId).zip(&self.lives)
    }

    /// How many lives there are.
    pub fn len(&self) -> usize {
        self.lives.len()
    }

    /// Whether no node was ever switched on.
    pub fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }

    /// What the script did to this life.
    pub fn get(&self, id: LifeId) -> &Life {
        &self.lives[id.index()]
    }

    /// Whether another node had this identity at the moment, or up to `grace` before it.
    pub fn has_twin(&self, id: LifeId, at: Timestamp, grace: Duration) -> bool {
        let life = self.get(id);
        let lately = Timestamp::from_nanos(at.as_nanos().saturating_sub(grace.as_nanos() as u64));
        let is_twin = |other: &Life| other.peer == life.peer && other.node != life.node;
        let is_there = |other: &Life| other.up <= at && other.down.is_none_or(|(end, _)| end >= lately);
        self.lives.iter().any(|other| is_twin(other) && is_there(other))
    }

    /// The lives of a node, in order.
    pub fn of_node(&self, node: NodeIndex) -> &[LifeId] {
        &self.of_node[node.0 as usize]
    }

    /// The last life of a node, over the whole run.
    pub fn latest(&self, node: NodeIndex) -> Option<LifeId> {
        self.of_node[node.0 as usize].last().copied()
    }

    /// The life that an application's event names. `None` for strangers and for lives that never were.
    pub fn named(&self, subject: &Subject) -> Option<LifeId> {
        let Subject::Life(node, number) = subject else { return None };
        let of_node = self.of_node.get(node.0 as usize)?;
        of_node.iter().copied().find(|id| self.lives[id.index()].number == *number)
    }

    /// A life for people: the node's name, and which restart when it is not the first life.
    pub fn label(&self, scenario: &Scenario, id: LifeId) -> String {
        let life = self.get(id);
        let name = &scenario.nodes[life.node.0 as usize].name;
        if life.number == 0 { name.clone() } else { format!("{name} (restart {})", life.number) }
    }
}

fn end_last(spans: &mut [Span], at: Timestamp) {
    if let Some(last) = spans.last_mut() {
        last.to.get_or_insert(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{Script, secs};

    #[test]
    fn a_life_is_up_from_its_first_moment_to_just_before_its_end() {
        let run = Script::new(1).up(1.0, 0).down(5.0, 0, Crash::PowerCut).up(7.0, 0).run(10.0);
        let lives = run.lives();
        let [first, second] = lives.of_node(NodeIndex(0)) else { panic!("two lives") };
        let up_at = |id: LifeId, at: f64| lives.get(id).is_up(secs(at));
        assert_eq!([0.9, 1.0, 4.9, 5.0].map(|at| up_at(*first, at)), [false, true, true, false]);
        assert_eq!([6.9, 7.0, 10.0].map(|at| up_at(*second, at)), [false, true, true]);
        assert_eq!(lives.label(&run.scenario, *second), "n00 (restart 1)");
    }

    #[test]
    fn a_paused_node_is_up_and_does_not_run() {
        let run = Script::new(1).up(0.0, 0).pause(2.0, 0).resume(4.0, 0).run(10.0);
        let lives = run.lives();
        let life = lives.get(lives.latest(NodeIndex(0)).unwrap());
        assert!(life.is_up(secs(3.0)) && !life.is_running(secs(3.0)));
        assert!(life.runs_throughout(secs(0.0), secs(1.9)));
        assert!(!life.runs_throughout(secs(1.0), secs(5.0)));
    }

    #[test]
    fn membership_ends_with_leaving_and_with_the_life() {
        let run = Script::new(1)
            .up(0.0, 0)
            .joined(1.0, 0, "a")
            .joined(1.0, 0, "b")
            .left(3.0, 0, "a")
            .down(5.0, 0, Crash::ProcessExit)
            .run(10.0);
        let lives = run.lives();
        let life = lives.get(lives.latest(NodeIndex(0)).unwrap());
        assert!(life.is_member_throughout("a", secs(1.0), secs(3.0)));
        assert!(!life.is_member_throughout("a", secs(1.0), secs(3.1)));
        assert!(life.is_member_during("a", secs(2.0), secs(9.0)));
        assert!(!life.is_member_during("a", secs(3.1), secs(9.0)));
        assert!(!life.is_member_during("b", secs(5.1), secs(9.0)));
    }

    #[test]
    fn lives_with_one_identity_are_one_peer() {
        let run = Script::new(1).up(0.0, 0).down(1.0, 0, Crash::Stop).up_as(2.0, 0, 0).up(3.0, 0).run(9.0);
        let lives = run.lives();
        let identities: Vec<usize> = lives.iter().map(|(_, life)| life.identity.index()).collect();
        assert_eq!(identities, [0, 0, 2]);
    }
}
