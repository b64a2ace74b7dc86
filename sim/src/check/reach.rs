//! Who can reach whom, by the script: partitions, pulled cables, and addresses that were taken from running programs.
//!
//! Two nodes *can talk* at a moment when nothing of the script cuts either of them off from the other, in either
//! direction: discovery needs both. With some of their cables out they are judged by the networks that they share: on one of
//! those both have to be plugged in. Two that share none reach each other through routers, for which each needs the cables
//! that its routes lead over. A program that runs when its machine gets another address is cut off from everybody
//! until it has noticed, which it does each [`NOTICED`], and has said so. Loss is no cut, however much of it there is, and neither is a topology in which two
//! nodes share no segment: those are the network that the scenario is about.

use std::collections::BTreeSet;

use std::time::Duration;

use hailer::Timestamp;
use hailer::zre::Config;

use crate::scenario::{Action, Node, NodeIndex, Partition, Scenario, SegmentIndex};

use super::lives::Span;

/// How long a running program may take to notice that its machine has another address, and to say so.
pub const NOTICED: Duration = Config::INTERFACES_CHECK_INTERVAL.saturating_add(Duration::from_secs(1));

/// Everything that cuts nodes off over a run.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// In the order in which they began.
    cuts: Vec<Cut>,
    /// The segments of each node.
    segments: Vec<BTreeSet<SegmentIndex>>,
    /// Those of them that its routes lead over.
    ways: Vec<BTreeSet<SegmentIndex>>,
    /// Whether single cables are ever out.
    has_single_cables: bool,
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
    /// The cables of all its interfaces, or of those on one segment.
    Unplugged(NodeIndex, Option<SegmentIndex>),
    Moved(NodeIndex),
}

impl Cut {
    /// Whether it parts these two by itself, whichever networks they share.
    fn parts(&self, one: NodeIndex, other: NodeIndex) -> bool {
        match &self.what {
            What::Unplugged(_, Some(_)) => false,
            What::Unplugged(node, None) | What::Moved(node) => *node == one || *node == other,
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
        let on = |node: &Node| node.interfaces.iter().map(|interface| interface.segment).collect();
        let segments: Vec<BTreeSet<SegmentIndex>> = scenario.nodes.iter().map(on).collect();
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
                Action::Plug(None) => {
                    end(&|what| matches!(what, What::Unplugged(node, _) if step.nodes.contains(node)));
                }
                Action::Plug(Some(plugged)) => {
                    // Where all cables were out, the others still are.
                    let mut others = Vec::new();
                    for cut in cuts.iter_mut().filter(|cut| cut.span.to.is_none()) {
                        let What::Unplugged(node, out) = cut.what else { continue };
                        if !step.nodes.contains(&node) || out.is_some_and(|out| out != *plugged) {
                            continue;
                        }
                        cut.span.to = Some(at);
                        let rest = segments[node.0 as usize].iter().filter(|one| *one != plugged);
                        let rest = rest.filter(|_| out.is_none());
                        others.extend(rest.map(|segment| What::Unplugged(node, Some(*segment))));
                    }
                    let span = Span { from: at, to: None };
                    cuts.extend(others.into_iter().map(|what| Cut { span, what }));
                }
                Action::Partition(partition) => {
                    let what = What::Partition(partition.clone());
                    cuts.push(Cut { span: Span { from: at, to: None }, what });
                }
                Action::Unplug(segment) => cuts.extend(step.nodes.iter().map(|node| Cut {
                    span: Span { from: at, to: None },
                    what: What::Unplugged(*node, *segment),
                })),
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
        let over = |node: &Node| {
            node.routes.iter().map(|route| node.interfaces[route.interface].segment).collect::<BTreeSet<_>>()
        };
        let ways = scenario.nodes.iter().map(over).collect();
        let has_single_cables = cuts.iter().any(|cut| matches!(cut.what, What::Unplugged(_, Some(_))));
        Self { cuts, segments, ways, has_single_cables }
    }

    /// When two nodes have no network in common on which both are plugged in, because of single cables.
    fn cables(&self, one: NodeIndex, other: NodeIndex) -> Vec<Span> {
        // When either has no cable on one of these segments of its own.
        let out = |ours: &dyn Fn(NodeIndex, SegmentIndex) -> bool| {
            let is_meant = |cut: &&Cut| match cut.what {
                What::Unplugged(node, out) => {
                    (node == one || node == other) && out.is_none_or(|out| ours(node, out))
                }
                _ => false,
            };
            joined(self.cuts.iter().filter(is_meant).map(|cut| cut.span))
        };
        let [ours, theirs] = [one, other].map(|node| &self.segments[node.0 as usize]);
        let on = |shared: SegmentIndex| out(&|_, segment| segment == shared);
        let mut shared = ours.intersection(theirs);
        match shared.next() {
            None => out(&|node, segment| self.ways[node.0 as usize].contains(&segment)),
            Some(first) => shared.fold(on(*first), |spans, segment| overlap(&spans, &on(*segment))),
        }
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
        let is_cut = self.cuts.iter().any(|cut| cut.span.touches(from, to) && cut.parts(one, other));
        let is_out = || self.cables(one, other).iter().any(|span| span.touches(from, to));
        !(is_cut || self.has_single_cables && is_out())
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
        let cut = self.cuts.iter().filter(|cut| cut.parts(one, other)).map(|cut| cut.span);
        if !self.has_single_cables {
            return joined(cut);
        }
        let mut spans: Vec<Span> = cut.chain(self.cables(one, other)).collect();
        spans.sort_by_key(|span| span.from);
        joined(spans)
    }
}

/// Spans in the order of their beginnings, with those that touch each other made one.
fn joined(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.to.is_none_or(|end| end >= span.from) => {
                last.to = match (last.to, span.to) {
                    (Some(one), Some(other)) => Some(one.max(other)),
                    _ => None,
                };
            }
            _ => joined.push(span),
        }
    }
    joined
}

/// What two lists of spans have in common, each with its spans apart and in order.
fn overlap(ones: &[Span], others: &[Span]) -> Vec<Span> {
    let pairs = ones.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
    let common = pairs.map(|(one, other)| Span {
        from: one.from.max(other.from),
        to: one.to.into_iter().chain(other.to).min(),
    });
    common.filter(|span| span.to.is_none_or(|to| span.from < to)).collect()
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
        let script = vec![(5.0, (vec![N[1]], Action::Unplug(None))), (9.0, (vec![N[1]], Action::Plug(None)))];
        let reach = Reach::of(&steps(4, script));
        assert!(!reach.is_open(N[0], N[1], secs(6.0)) && !reach.is_open(N[1], N[3], secs(6.0)));
        assert!(reach.is_open(N[0], N[2], secs(6.0)) && reach.is_open(N[0], N[1], secs(9.0)));
    }

    #[test]
    fn cuts_that_touch_are_one_silence() {
        let unplug = |action| (vec![N[0]], action);
        let script = vec![
            (2.0, unplug(Action::Unplug(None))),
            (4.0, partition(&[0], &[1], false)),
            (5.0, unplug(Action::Plug(None))),
            (7.0, (Vec::new(), Action::Heal(None))),
            (8.0, partition(&[1], &[0], true)),
        ];
        let reach = Reach::of(&steps(2, script));
        let silences = reach.silences(N[1], N[0]);
        let silence = |from, to: Option<f64>| Span { from: secs(from), to: to.map(secs) };
        assert_eq!(silences, [silence(2.0, Some(7.0)), silence(8.0, None)]);
    }

    /// Nodes `a` and `b` on both networks, `c` on the second, `d` on a third behind a router.
    fn two_homed(steps: &str) -> Reach {
        let text = format!(
            r#"
            [scenario]
            about = "two networks"
            duration = "60 s"
            [[segment]]
            name = "wired"
            prefix = "10.1.0.0/24"
            [[segment]]
            name = "air"
            prefix = "10.2.0.0/24"
            [[segment]]
            name = "far"
            prefix = "10.3.0.0/24"
            [[router]]
            name = "r"
            interfaces = [{{ segment = "wired" }}, {{ segment = "far" }}]
            [[node]]
            name = "a"
            interfaces = [{{ segment = "wired" }}, {{ segment = "air" }}]
            [[node]]
            name = "b"
            interfaces = [{{ segment = "wired" }}, {{ segment = "air" }}]
            [[node]]
            name = "c"
            segment = "air"
            [[node]]
            name = "d"
            segment = "far"
            {steps}
            [[expect]]
            always = "nobody-unknown-appears"
            "#
        );
        Reach::of(&Scenario::parse("x.toml", &text).unwrap_or_else(|problems| panic!("{problems}")))
    }

    fn step(at: u64, node: &str, interface: &str) -> String {
        format!("[[step]]\nat = \"{at} s\"\nnode = \"{node}\"\ninterface = {interface}\n")
    }

    #[test]
    fn with_one_of_two_cables_out_a_node_talks_to_those_on_its_other_network() {
        let out = step(5, "a", "{ down = \"wired\" }") + &step(9, "a", "{ up = \"wired\" }");
        let reach = two_homed(&out);
        let open = |one: usize, other: usize| {
            [4.9, 5.0, 8.9, 9.0].map(|at| reach.is_open(N[one], N[other], secs(at)))
        };
        assert_eq!((open(0, 1), open(2, 0), open(1, 2)), ([true; 4], [true; 4], [true; 4]));
        assert_eq!((open(0, 3), open(1, 3)), ([true, false, false, true], [true; 4]));
        assert!(!reach.is_whole() && reach.silences(N[0], N[1]).is_empty());
        let air = two_homed(&step(5, "a", "{ down = \"air\" }"));
        assert!(air.is_open(N[0], N[3], secs(6.0)) && !air.is_open(N[0], N[2], secs(6.0)));
        assert_eq!(reach.silences(N[3], N[0]), [Span { from: secs(5.0), to: Some(secs(9.0)) }]);
    }

    #[test]
    fn two_nodes_that_each_lose_another_cable_can_not_talk_while_both_are_out() {
        let script = [
            step(5, "a", "{ down = \"wired\" }"),
            step(7, "b", "{ down = \"air\" }"),
            step(9, "a", "{ up = \"wired\" }"),
            step(20, "b", "\"down\""),
            step(24, "b", "{ up = \"wired\" }"),
            step(30, "a", "{ down = \"wired\" }"),
        ];
        let reach = two_homed(&script.concat());
        let silence = |from, to: Option<f64>| Span { from: secs(from), to: to.map(secs) };
        let silences = [silence(7.0, Some(9.0)), silence(20.0, Some(24.0)), silence(30.0, None)];
        assert_eq!(reach.silences(N[0], N[1]), silences);
        // It has not been on the air since 7 s, wherever its other cable was.
        assert_eq!(reach.silences(N[1], N[2]), [silence(7.0, None)]);
        assert!(reach.is_open_throughout(N[0], N[1], secs(9.0), secs(19.9)));
        assert!(!reach.is_open_throughout(N[0], N[1], secs(1.0), secs(7.0)));
    }
}
