//! The claims of a run: whom each node has entered and not exited, as of any moment, and how that compares with the truth.
//!
//! Replays a trace record by record and keeps its counts up to date, so that asking after each record is cheap. It
//! judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use hailer::Timestamp;

use crate::scenario::NodeIndex;
use crate::trace::{Record, Subject, What};

use super::lives::{LifeId, Lives};

/// What every node knows, as of the last record applied.
///
/// Two nodes that the script cuts off from each other need not know each other; whether they do is nobody's fault.
///
/// Lives that share an identity (which a node's configuration can fix) are one peer: who knew the first knows the second.
#[derive(Clone, Debug)]
pub struct Knowledge<'a> {
    lives: &'a Lives,
    nodes: Vec<NodeState>,
    /// The last time at which the script cut nodes off or ended that: who can talk is as of then.
    cut_at: Timestamp,
    running: usize,
    missing: usize,
    dead: usize,
    unknown: usize,
    one_sided: usize,
}

#[derive(Clone, Debug, Default)]
struct NodeState {
    /// How many of its lives have begun.
    begun: usize,
    is_up: bool,
    is_paused: bool,
    /// Nothing is asked of it or about it.
    is_left_out: bool,
    /// By identity: the life that had it when it was entered.
    known: BTreeMap<LifeId, LifeId>,
    /// Identities that no life has.
    strangers: BTreeSet<Subject>,
}

/// Something that a node knows and should not, or should know and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Who.
    pub node: NodeIndex,
    /// What.
    pub kind: FaultKind,
}

/// Kinds of [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It has not entered this running life, with which it can talk.
    Missing(LifeId),
    /// It has not exited this life, which is down.
    Dead(LifeId),
    /// It has entered itself.
    Itself,
    /// It has entered an identity that no node has had.
    Stranger(Subject),
}

impl<'a> Knowledge<'a> {
    /// Nothing is up and nobody knows anyone.
    pub fn new(lives: &'a Lives, nodes: usize) -> Self {
        let nodes = vec![NodeState::default(); nodes];
        Self {
            lives,
            nodes,
            cut_at: Timestamp::ZERO,
            running: 0,
            missing: 0,
            dead: 0,
            unknown: 0,
            one_sided: 0,
        }
    }

    /// Asks nothing of other nodes than these, nor whether anybody knows them. To be said before the first record.
    pub fn ask_only(&mut self, nodes: &[NodeIndex]) {
        for (index, state) in (0..).map(NodeIndex).zip(&mut self.nodes) {
            state.is_left_out = !nodes.contains(&index);
        }
    }

    /// Takes the next record of the trace.
    pub fn apply(&mut self, record: &Record) {
        match &record.what {
            What::Cut(_) | What::Mended(_) => self.recount_missing(record.at),
            What::Up { .. } => self.change(record.node, |state| {
                state.begun += 1;
                state.is_up = true;
                state.is_paused = false;
                state.known.clear();
                state.strangers.clear();
            }),
            What::Down(_) => self.change(record.node, |state| {
                state.is_up = false;
                state.is_paused = false;
                state.known.clear();
                state.strangers.clear();
            }),
            What::Paused => self.change(record.node, |state| state.is_paused = true),
            What::Resumed => self.change(record.node, |state| state.is_paused = false),
            What::Enter(subject) => self.enter(record.node, subject),
            What::Exit(subject, _) => self.exit(record.node, subject),
            _ => {}
        }
    }

    /// Whether the record starts, ends, pauses or resumes a node, or cuts nodes off or ends that.
    pub fn is_upheaval(what: &What) -> bool {
        matches!(
            what,
            What::Up { .. } | What::Down(_) | What::Paused | What::Resumed | What::Cut(_) | What::Mended(_)
        )
    }

    /// Nodes that are up and not paused.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Ordered pairs of running nodes that can talk: how many there are to know.
    pub fn pairs(&self) -> usize {
        if self.lives.reach.is_whole() {
            return self.running * self.running.saturating_sub(1);
        }
        let running = || self.indices().filter(|node| self.is_running(*node));
        let others = |node| running().filter(move |peer| node != *peer && self.can_talk(node, *peer)).count();
        running().map(others).sum()
    }

    /// Ordered pairs of running nodes that can talk, of which the first does not know the second.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// How many of the missing are one-sided: the second of the pair knows the first.
    pub fn one_sided(&self) -> usize {
        self.one_sided
    }

    /// Whether the fault is that the node does not know somebody who knows it.
    pub fn is_one_sided(&self, fault: &Fault) -> bool {
        matches!(fault.kind, FaultKind::Missing(life) if self.is_unrequited(fault.node, self.lives.get(life).node))
    }

    /// How many times a running node knows a life that is down.
    pub fn dead(&self) -> usize {
        self.dead
    }

    /// How much keeps every running node from knowing every other running node and nobody else: the number of
    /// [`Knowledge::faults`]. About a paused node nothing is asked.
    pub fn fault_count(&self) -> usize {
        self.missing + self.dead + self.unknown
    }

    /// Whether the node knows this life, or another with the same identity.
    pub fn knows(&self, node: NodeIndex, life: LifeId) -> bool {
        self.state(node).known.contains_key(&self.lives.get(life).identity)
    }

    /// How many peers the node knows.
    pub fn known_count(&self, node: NodeIndex) -> usize {
        self.state(node).known.len() + self.state(node).strangers.len()
    }

    /// The life that the subject of an EXIT was when the node entered it; as the event names it when it never entered.
    pub fn entered_as(&self, node: NodeIndex, subject: &Subject) -> Option<LifeId> {
        let named = self.lives.named(subject)?;
        Some(self.state(node).known.get(&self.lives.get(named).identity).copied().unwrap_or(named))
    }

    /// The life of a node that is up now, paused or not.
    pub fn current(&self, node: NodeIndex) -> Option<LifeId> {
        if self.state(node).is_up { self.latest(node) } else { None }
    }

    /// The life of a node that is up now, or was the last to be.
    pub fn latest(&self, node: NodeIndex) -> Option<LifeId> {
        let begun = self.state(node).begun;
        begun.checked_sub(1).map(|last| self.lives.of_node(node)[last])
    }

    /// Whether the node is up and not paused, and anything is asked of it.
    pub fn is_running(&self, node: NodeIndex) -> bool {
        let state = self.state(node);
        state.is_up && !state.is_paused && !state.is_left_out
    }

    /// What running nodes know and should not, or should know and do not, node by node.
    pub fn faults(&self) -> impl Iterator<Item = Fault> + '_ {
        self.indices().filter(|node| self.is_running(*node)).flat_map(move |node| {
            let missing = self
                .indices()
                .filter(move |peer| self.is_missing(node, *peer))
                .filter_map(|peer| self.current(peer));
            let state = self.state(node);
            let known = state.known.iter().filter(move |(identity, _)| !self.is_left_out(**identity));
            let known = known.filter_map(move |(identity, entered)| {
                if self.is_dead(*identity) {
                    Some(FaultKind::Dead(*entered))
                } else if self.is_self(node, *identity) {
                    Some(FaultKind::Itself)
                } else {
                    None
                }
            });
            let strangers = state.strangers.iter().copied().map(FaultKind::Stranger);
            let kinds = missing.map(FaultKind::Missing).chain(known).chain(strangers);
            kinds.map(move |kind| Fault { node, kind })
        })
    }

    fn enter(&mut self, node: NodeIndex, subject: &Subject) {
        let Some(named) = self.lives.named(subject) else {
            let is_new = self.state_mut(node).strangers.insert(*subject);
            self.unknown += usize::from(is_new && self.is_running(node));
            return;
        };
        let identity = self.lives.get(named).identity;
        let entered = self.bearer(identity).unwrap_or(named);
        self.amend(node, identity, |known| {
            known.insert(identity, entered);
        });
    }

    fn exit(&mut self, node: NodeIndex, subject: &Subject) {
        let Some(named) = self.lives.named(subject) else {
            let was_known = self.state_mut(node).strangers.remove(subject);
            self.unknown -= usize::from(was_known && self.is_running(node));
            return;
        };
        let identity = self.lives.get(named).identity;
        self.amend(node, identity, |known| {
            known.remove(&identity);
        });
    }

    /// Changes what a node knows about one identity, and the counts with it.
    fn amend(
        &mut self,
        node: NodeIndex,
        identity: LifeId,
        change: impl FnOnce(&mut BTreeMap<LifeId, LifeId>),
    ) {
        let peer = self.lives.get(identity).node;
        let before = self.faults_between(node, peer);
        change(&mut self.state_mut(node).known);
        let after = self.faults_between(node, peer);
        self.subtract(before);
        self.add(after);
    }

    /// Changes a node's own state, and the counts with it.
    fn change(&mut self, node: NodeIndex, change: impl FnOnce(&mut NodeState)) {
        let before = self.faults_around(node);
        self.running -= usize::from(self.is_running(node));
        change(self.state_mut(node));
        self.running += usize::from(self.is_running(node));
        let after = self.faults_around(node);
        self.subtract(before);
        self.add(after);
    }

    /// Faults of the node about everyone, and of everyone about the node.
    fn faults_around(&self, node: NodeIndex) -> Faults {
        let mut faults = Faults::default();
        if self.state(node).is_left_out {
            return faults;
        }
        for peer in self.indices() {
            faults += self.faults_between(node, peer);
        }
        if self.is_running(node) {
            faults.unknown += self.state(node).strangers.len();
        }
        faults
    }

    /// Faults of each of two nodes about the other.
    fn faults_between(&self, node: NodeIndex, peer: NodeIndex) -> Faults {
        let mut faults = self.faults_about(node, peer);
        if peer != node {
            faults += self.faults_about(peer, node);
        }
        faults
    }

    /// Faults of one node about the lives of another, or of its own.
    fn faults_about(&self, node: NodeIndex, peer: NodeIndex) -> Faults {
        if !self.is_running(node) || self.state(peer).is_left_out {
            return Faults::default();
        }
        let known = &self.state(node).known;
        let mut faults = Faults::default();
        if self.is_missing(node, peer) {
            faults.missing = 1;
            faults.one_sided = usize::from(self.is_unrequited(node, peer));
        }
        for life in self.lives.of_node(peer).iter().filter(|_| !known.is_empty()) {
            if known.contains_key(life) {
                faults.dead += usize::from(self.is_dead(*life));
                faults.unknown += usize::from(!self.is_dead(*life) && self.is_self(node, *life));
            }
        }
        faults
    }

    fn is_missing(&self, node: NodeIndex, peer: NodeIndex) -> bool {
        let Some(life) = self.current(peer) else { return false };
        node != peer
            && self.is_running(node)
            && self.is_running(peer)
            && !self.knows(node, life)
            && self.can_talk(node, peer)
    }

    /// Of a pair of which the first does not know the second: whether the second knows the first.
    fn is_unrequited(&self, node: NodeIndex, peer: NodeIndex) -> bool {
        self.current(node).is_some_and(|life| self.knows(peer, life))
    }

    fn can_talk(&self, node: NodeIndex, peer: NodeIndex) -> bool {
        self.lives.reach.is_open(node, peer, self.cut_at)
    }

    /// After a change of who can talk with whom.
    fn recount_missing(&mut self, at: Timestamp) {
        self.cut_at = at;
        let this = &*self;
        let missing = |node| this.indices().filter(move |peer| this.is_missing(node, *peer)).count();
        let unrequited = |node| {
            let missing = this.indices().filter(move |peer| this.is_missing(node, *peer));
            missing.filter(move |peer| this.is_unrequited(node, *peer)).count()
        };
        let one_sided = this.indices().map(unrequited).sum();
        self.missing = this.indices().map(missing).sum();
        self.one_sided = one_sided;
    }

    /// Whether nothing is asked about the node with this identity.
    fn is_left_out(&self, identity: LifeId) -> bool {
        self.state(self.lives.get(identity).node).is_left_out
    }

    /// Whether no life with this identity is up.
    fn is_dead(&self, identity: LifeId) -> bool {
        self.bearer(identity).is_none()
    }

    fn is_self(&self, node: NodeIndex, identity: LifeId) -> bool {
        self.lives.get(identity).node == node
    }

    /// The life that is up and has this identity.
    fn bearer(&self, identity: LifeId) -> Option<LifeId> {
        self.current(self.lives.get(identity).node).filter(|life| self.lives.get(*life).identity == identity)
    }

    fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..u32::try_from(self.nodes.len()).expect("node indices are 32 bits")).map(NodeIndex)
    }

    fn state(&self, node: NodeIndex) -> &NodeState {
        &self.nodes[node.0 as usize]
    }

    fn state_mut(&mut self, node: NodeIndex) -> &mut NodeState {
        &mut self.nodes[node.0 as usize]
    }

    fn add(&mut self, faults: Faults) {
        self.missing += faults.missing;
        self.dead += faults.dead;
        self.unknown += faults.unknown;
        self.one_sided += faults.one_sided;
    }

    fn subtract(&mut self, faults: Faults) {
        self.missing -= faults.missing;
        self.dead -= faults.dead;
        self.unknown -= faults.unknown;
        self.one_sided -= faults.one_sided;
    }
}

/// Numbers of faults, by kind.
#[derive(Clone, Copy, Default)]
struct Faults {
    missing: usize,
    dead: usize,
    unknown: usize,
    one_sided: usize,
}

impl std::ops::AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.dead += other.dead;
        self.unknown += other.unknown;
        self.one_sided += other.one_sided;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{self, Script};
    use crate::scenario::{Action, Crash};
    use proptest::prelude::*;

    fn after(run: &sample::Run) -> (usize, usize, usize, Vec<Fault>) {
        let lives = run.lives();
        let mut knowledge = Knowledge::new(&lives, run.scenario.nodes.len());
        run.trace.records.iter().for_each(|record| knowledge.apply(record));
        (knowledge.pairs(), knowledge.missing(), knowledge.dead(), knowledge.faults().collect())
    }

    #[test]
    fn a_restarted_node_must_be_entered_anew() {
        let script = Script::new(2).up(0.0, 0).up(0.0, 1).meet(1.0, &[0, 1]);
        let script = script.down(2.0, 1, Crash::ProcessExit).up(3.0, 1).enter(3.5, 1, (0, 0));
        let (pairs, missing, dead, faults) = after(&script.clone().run(5.0));
        assert_eq!((pairs, missing, dead, faults.len()), (2, 1, 1, 2));
        let (_, _, _, faults) = after(&script.exit(3.6, 0, (1, 0)).enter(3.6, 0, (1, 1)).run(5.0));
        assert_eq!(faults, []);
    }

    #[test]
    fn a_restarted_node_with_a_fixed_identity_is_still_known() {
        let script = Script::new(2).up(0.0, 0).up(0.0, 1).meet(1.0, &[0, 1]);
        let script = script.down(2.0, 1, Crash::ProcessExit).up_as(3.0, 1, 0).enter(3.5, 1, (0, 0));
        assert_eq!(after(&script.run(5.0)), (2, 0, 0, Vec::new()));
    }

    #[test]
    fn a_paused_node_is_asked_for_nothing() {
        let script = Script::new(2).up(0.0, 0).up(0.0, 1).pause(0.5, 1);
        assert_eq!(after(&script.clone().run(5.0)), (0, 0, 0, Vec::new()));
        assert_eq!(after(&script.resume(1.0, 1).run(5.0)).1, 2);
    }

    #[test]
    fn who_is_cut_off_need_not_be_known_and_may_be() {
        let script = Script::new(3).up(0.0, 0).up(0.0, 1).up(0.0, 2).meet(1.0, &[0, 1]);
        let cut = script.cut(2.0, sample::partition(&[0, 1], &[2], false));
        assert_eq!(after(&cut.clone().run(5.0)), (2, 0, 0, Vec::new()));
        let known = cut.clone().enter(2.5, 2, (0, 0));
        assert_eq!(after(&known.run(5.0)), (2, 0, 0, Vec::new()));
        let (pairs, missing, dead, faults) = after(&cut.mend(3.0, (Vec::new(), Action::Heal(None))).run(5.0));
        assert_eq!((pairs, missing, dead, faults.len()), (6, 4, 0, 4));
    }

    proptest! {
        /// The running counts are what a count of every fault gives, whatever happens.
        #[test]
        fn counts_agree_with_the_faults(steps in proptest::collection::vec((0u32..4, 0u32..4, 0u32..8), 0..60)) {
            let run = sample::arbitrary_membership(4, &steps);
            let lives = run.lives();
            let mut knowledge = Knowledge::new(&lives, run.scenario.nodes.len());
            for record in &run.trace.records {
                knowledge.apply(record);
                let faults: Vec<Fault> = knowledge.faults().collect();
                let count = |is: fn(&FaultKind) -> bool| faults.iter().filter(|fault| is(&fault.kind)).count();
                prop_assert_eq!(knowledge.missing(), count(|kind| matches!(kind, FaultKind::Missing(_))));
                let one_sided = faults.iter().filter(|fault| knowledge.is_one_sided(fault)).count();
                prop_assert_eq!(knowledge.one_sided(), one_sided);
                prop_assert_eq!(knowledge.dead(), count(|kind| matches!(kind, FaultKind::Dead(_))));
                prop_assert_eq!(knowledge.fault_count(), faults.len());
            }
        }
    }
}
