//! Who can reach whom, by the script: partitions, pulled cables, and addresses that were taken from running programs.
//!
//! Two nodes *can talk* at a moment when nothing of the script cuts either of them off from the other, in either
//! direction: discovery needs both. A program that runs when its machine gets another address is cut off from everybody
//! until it has noticed, which it does each [`NOTICED`], and has said so. Loss is no cut, however much of it there is, and neither is a topology in which two
//! nodes share no segment: those are the network that the scenario is about.

use std::collections::BTreeSet;

use std::time::Duration;

use hailer::Timestamp;
use hailer::zre::Config;

use crate::scenario::{Action, NodeIndex, Partition, Scenario};

use super::lives::Span;

/// How long a running program may take to notice that its machine has another address, and to say so.
pub const NOTICED: Duration = Config::INTERFACES_CHECK_INTERVAL.saturating_add(Duration::from_secs(1));

/// Everything that cuts nodes off over a run.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    cuts: Vec<Cut>,
}

/// One thing that cuts nodes off, for a time.
#[derive(Clone, Debug)]
struct Cut {
    span: Span,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Partition(Partition),
    Unplugged(NodeIndex),
    Moved(NodeIndex),
}

impl Cut {
    fn parts(&self, one: NodeIndex, other: NodeIndex) -> bool {
        match &self.what {
            What::Unplugged(node) | What::Moved(node) => *node == one || *node == other,
            What::Partition(Partition { from, to, .. }) => {
                let lies = |one: &NodeIndex, other: &NodeIndex| from.contains(one) && to.contains(other);
                lies(&one, &other) || lies(&other, &one)
            }
        }
    }
}

impl Reach {
    /// Reads the script.
    pub fn of(scenario: &Scenario) -> Self {
        let mut cuts: Vec<Cut> = Vec::new();
        let mut down = BTreeSet::new();
        for step in &scenario.steps {
            let at = Timestamp::ZERO.after(step.at);
            let mut end = |is_meant: &dyn Fn(&What) -> bool| {
                let open = cuts.iter_mut().filter(|cut| cut.span.to.is_none() && is_meant(&cut.what));
                open.for_each(|cut| cut.span.to = Some(at));
            };
            match &step.action {
                Action::Heal(name) => {
                    end(&|what| matches!(what, What::Partition(cut) if name.is_none() || cut.name == *name));
                }
                Action::Plug => {
                    end(&|what| matches!(what, What::Unplugged(node) if step.nodes.contains(node)));
                }
                Action::Partition(partition) => {
                    let what = What::Partition(partition.clone());
                    cuts.push(Cut { span: Span { from: at, to: None }, what });
                }
                Action::Unplug => cuts.extend(
                    step.nodes
                        .iter()
                        .map(|node| Cut { span: Span { from: at, to: None }, what: What::Unplugged(*node) }),
                ),
                Action::Crash(_) => down.extend(&step.nodes),
                Action::Restart => {
                    down.retain(|node| !step.nodes.contains(node));
                    // It binds to the address that there is.
                    let is_meant =
                        |what: &What| matches!(what, What::Moved(node) if step.nodes.contains(node));
                    let moves = cuts.iter_mut().filter(|cut| is_meant(&cut.what));
                    moves.for_each(|cut| cut.span.to = cut.span.to.map(|to| to.min(at)));
                }
                Action::Address(_) => {
                    let runs = |node: &&NodeIndex| {
                        !down.contains(*node) && scenario.nodes[node.0 as usize].start <= step.at
                    };
                    let span = Span { from: at, to: Some(at.after(NOTICED)) };
                    let moved = step.nodes.iter().filter(runs);
                    cuts.extend(moved.map(|node| Cut { span, what: What::Moved(*node) }));
                }
                _ => {}
            }
        }
        Self { cuts }
    }

    /// Whether the script cuts nobody off, ever.
    pub fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }

    /// Whether two nodes can talk at this moment.
    pub fn is_open(&self, one: NodeIndex, other: NodeIndex, at: Timestamp) -> bool {
        self.is_open_throughout(one, other, at, at)
    }

    /// Whether two nodes can talk at every moment from the first to the second.
    pub fn is_open_throughout(
        &self,
        one: NodeIndex,
        other: NodeIndex,
        from: Timestamp,
        to: Timestamp,
    ) -> bool {
        !self.cuts.iter().any(|cut| cut.span.touches(from, to) && cut.parts(one, other))
    }

    /// Whether one of two nodes got another address not longer than this before: their conversation starts anew then.
    pub fn moved_lately(&self, one: NodeIndex, other: NodeIndex, at: Timestamp, lately: Duration) -> bool {
        let moves =
            self.cuts.iter().filter(|cut| matches!(cut.what, What::Moved(_)) && cut.parts(one, other));
        moves
            .into_iter()
            .any(|cut| cut.span.from <= at && cut.span.to.is_some_and(|noticed| at <= noticed.after(lately)))
    }

    /// When two nodes could not talk, in order, with cuts that touch each other made one.
    pub fn silences(&self, one: NodeIndex, other: NodeIndex) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        // The cuts are in the order in which they began.
        for cut in self.cuts.iter().filter(|cut| cut.parts(one, other)) {
            match spans.last_mut() {
                Some(last) if last.to.is_none_or(|end| end >= cut.span.from) => {
                    last.to = match (last.to, cut.span.to) {
                        (Some(one), Some(other)) => Some(one.max(other)),
                        _ => None,
                    };
                }
                _ => spans.push(cut.span),
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{partition, secs, steps};
    use crate::scenario::{Crash, Move};

    const N: [NodeIndex; 4] = [NodeIndex(0), NodeIndex(1), NodeIndex(2), NodeIndex(3)];

    #[test]
    fn a_program_that_gets_another_address_is_cut_off_until_it_has_noticed_or_is_restarted() {
        let address = Action::Address(Move { interface: 0, address: std::net::Ipv4Addr::new(10, 77, 0, 99) });
        let of = |nodes: &[NodeIndex], action: &Action| (nodes.to_vec(), action.clone());
        let scenario = steps(
            3,
            vec![
                (5.0, of(&N[1..2], &address)),
                (30.0, of(&N[1..2], &address)),
                (31.0, of(&N[1..2], &Action::Crash(Crash::PowerCut))),
                (32.0, of(&N[1..2], &address)),
                (32.5, of(&N[1..2], &Action::Restart)),
            ],
        );
        let reach = Reach::of(&scenario);
        let open = |at| reach.is_open(N[0], N[1], secs(at));
        assert_eq!([4.9, 5.0, 7.9, 8.1].map(open), [true, false, false, true]);
        assert_eq!([30.0, 32.4, 32.6, 50.0].map(open), [false, false, true, true]);
        let lately = |at| reach.moved_lately(N[0], N[1], secs(at), Duration::from_secs(10));
        assert_eq!([4.9, 5.0, 18.0, 18.1].map(lately), [false, true, true, false]);
        assert!(reach.is_open(N[0], N[2], secs(6.0)));
    }

    #[test]
    fn a_partition_parts_its_two_sides_from_its_step_to_just_before_it_heals() {
        for is_one_way in [false, true] {
            let cut = partition(&[0], &[1, 2], is_one_way);
            let heal = (Vec::new(), Action::Heal(None));
            let reach = Reach::of(&steps(4, vec![(5.0, cut), (9.0, heal)]));
            for (one, other) in [(0, 1), (1, 0), (2, 0)] {
                let open = [4.9, 5.0, 8.9, 9.0].map(|at| reach.is_open(N[one], N[other], secs(at)));
                assert_eq!(open, [true, false, false, true]);
            }
            assert!(reach.is_open(N[1], N[2], secs(6.0)) && reach.is_open(N[0], N[3], secs(6.0)));
            assert!(!reach.is_open_throughout(N[0], N[1], secs(1.0), secs(5.0)));
            assert!(reach.is_open_throughout(N[0], N[1], secs(9.0), secs(50.0)));
        }
    }

    #[test]
    fn an_unplugged_node_is_parted_from_everybody() {
        let script = vec![(5.0, (vec![N[1]], Action::Unplug)), (9.0, (vec![N[1]], Action::Plug))];
        let reach = Reach::of(&steps(4, script));
        assert!(!reach.is_open(N[0], N[1], secs(6.0)) && !reach.is_open(N[1], N[3], secs(6.0)));
        assert!(reach.is_open(N[0], N[2], secs(6.0)) && reach.is_open(N[0], N[1], secs(9.0)));
    }

    #[test]
    fn cuts_that_touch_are_one_silence() {
        let unplug = |action| (vec![N[0]], action);
        let script = vec![
            (2.0, unplug(Action::Unplug)),
            (4.0, partition(&[0], &[1], false)),
            (5.0, unplug(Action::Plug)),
            (7.0, (Vec::new(), Action::Heal(None))),
            (8.0, partition(&[1], &[0], true)),
        ];
        let reach = Reach::of(&steps(2, script));
        let silences = reach.silences(N[1], N[0]);
        let silence = |from, to: Option<f64>| Span { from: secs(from), to: to.map(secs) };
        assert_eq!(silences, [silence(2.0, Some(7.0)), silence(8.0, None)]);
    }
}
