//! What happened in LAN groups, replayed: who was there, who knew whom, who was noticed gone, who was removed wrongly.
//!
//! The four properties of groups are judged here: `group-membership-converges`, `no-false-removal`, `no-stranger-is-added`
//! and `the-dead-leave-the-group`; reports take their distributions from the same [`History`]. Watchers have to know as
//! members do, and nobody has to know them. A paused member may be known or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hailer::Timestamp;

use crate::scenario::{Crash, NodeIndex, Scenario};
use crate::trace::{GroupSubject, GroupWhat, Trace, What};

use super::reach::Reach;
use super::{Judgement, Outcome, Run, Violations, counted, seconds, span};

/// After a cut, a pause or the like so much may be its consequence still.
const AFTERMATH: Duration = Duration::from_secs(10);

/// One life of one node in one group.
#[derive(Clone, Debug)]
struct Life {
    node: NodeIndex,
    number: u32,
    group: String,
    is_member: bool,
    up: Timestamp,
    down: Option<(Timestamp, Crash)>,
    pauses: Vec<(Timestamp, Option<Timestamp>)>,
}

impl Life {
    fn is_running(&self) -> bool {
        self.down.is_none() && self.pauses.last().is_none_or(|(_, end)| end.is_some())
    }

    /// Whether it was paused at any moment from the first to the second.
    fn is_paused_during(&self, from: Timestamp, to: Timestamp) -> bool {
        self.pauses.iter().any(|(start, end)| *start <= to && end.is_none_or(|end| end >= from))
    }
}

type LifeIndex = usize;

/// A removal of somebody who was there.
#[derive(Clone, Debug)]
pub(crate) struct FalseRemoval {
    pub(crate) at: Timestamp,
    pub(crate) node: NodeIndex,
    who: LifeIndex,
    reason: &'static str,
}

/// What happened in all groups of a run.
pub(crate) struct History {
    lives: Vec<Life>,
    /// From both being up to ADDED, in nanoseconds.
    pub(crate) discovery: Vec<u64>,
    /// From the end of a life to its REMOVED, for each that knew it.
    pub(crate) noticed: BTreeMap<CrashKey, Vec<u64>>,
    /// Those who knew a life that ended and did not notice before the end of the run, or of their own lives.
    unnoticed: Vec<(LifeIndex, LifeIndex)>,
    deaths: BTreeMap<(LifeIndex, LifeIndex), Option<Timestamp>>,
    pub(crate) false_removals: Vec<FalseRemoval>,
    strangers: Vec<(Timestamp, NodeIndex)>,
    pub(crate) suspicions: usize,
    added: usize,
    /// For how long anybody knew anybody who was there, all pairs together.
    pub(crate) pair_time: Duration,
    /// For how long anybody was a member.
    pub(crate) member_time: Duration,
    moments: Vec<Moment>,
}

/// How a life ended, as a key that has an order.
pub(crate) type CrashKey = &'static str;

pub(crate) const fn crash_key(crash: Crash) -> CrashKey {
    match crash {
        Crash::PowerCut => "power_cut",
        Crash::ProcessExit => "process_exit",
        Crash::Stop => "stop",
    }
}

/// How it was after everything that happened at one time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Timestamp,
    /// Pairs in which somebody does not know whom he should.
    missing: usize,
    /// Pairs in which somebody knows whom he should not.
    wrong: usize,
    /// The script changed who is there, or who can talk with whom.
    is_upheaval: bool,
}

/// The replay.
struct Replay<'a> {
    reach: Reach,
    scenario: &'a Scenario,
    history: History,
    current: BTreeMap<(NodeIndex, String), LifeIndex>,
    names: BTreeMap<(NodeIndex, u32, String), LifeIndex>,
    known: Vec<BTreeSet<LifeIndex>>,
    now: Timestamp,
    missing: usize,
    wrong: usize,
}

impl History {
    pub(crate) fn of(scenario: &Scenario, trace: &Trace) -> Self {
        let history = Self {
            lives: Vec::new(),
            discovery: Vec::new(),
            noticed: BTreeMap::new(),
            unnoticed: Vec::new(),
            deaths: BTreeMap::new(),
            false_removals: Vec::new(),
            strangers: Vec::new(),
            suspicions: 0,
            added: 0,
            pair_time: Duration::ZERO,
            member_time: Duration::ZERO,
            moments: Vec::new(),
        };
        let mut replay = Replay {
            reach: Reach::of(scenario),
            scenario,
            history,
            current: BTreeMap::new(),
            names: BTreeMap::new(),
            known: Vec::new(),
            now: Timestamp::ZERO,
            missing: 0,
            wrong: 0,
        };
        for record in &trace.records {
            replay.apply(record.at, record.node, &record.what);
        }
        replay.finish(Timestamp::ZERO.after(trace.duration))
    }

    /// Whether anybody was in a group at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }

    /// How many of those who knew a life that ended have not noticed.
    pub(crate) fn unnoticed(&self) -> usize {
        self.unnoticed.len()
    }

    fn label(&self, scenario: &Scenario, life: LifeIndex) -> String {
        let Life { node, number, .. } = &self.lives[life];
        let name = &scenario.nodes[node.0 as usize].name;
        if *number == 0 { name.clone() } else { format!("{name} (restart {number})") }
    }
}

impl Replay<'_> {
    fn apply(&mut self, at: Timestamp, node: NodeIndex, what: &What) {
        self.pass(at);
        let is_upheaval = match what {
            What::Group(group, GroupWhat::Up { life, is_member, .. }) => {
                self.begin(at, node, *life, group, *is_member);
                true
            }
            What::Group(group, what) => {
                self.claim(at, node, group, what);
                false
            }
            What::Down(crash) => self.change(node, |life| life.down = Some((at, *crash))),
            What::Paused => self.change(node, |life| life.pauses.push((at, None))),
            What::Resumed => self.change(node, |life| {
                if let Some((_, end)) = life.pauses.last_mut() {
                    *end = Some(at);
                }
            }),
            What::Cut(_) | What::Mended(_) => {
                self.count_anew();
                true
            }
            _ => false,
        };
        let (missing, wrong) = (self.missing, self.wrong);
        match self.history.moments.last_mut() {
            Some(last) if last.at == at => {
                *last = Moment { at, missing, wrong, is_upheaval: last.is_upheaval || is_upheaval };
            }
            _ => self.history.moments.push(Moment { at, missing, wrong, is_upheaval }),
        }
    }

    /// Time passes: pairs know each other for so much longer.
    fn pass(&mut self, at: Timestamp) {
        let passed = at.since(self.now);
        if passed.is_zero() {
            return;
        }
        let members =
            self.current.values().filter(|life| self.history.lives[**life].is_member).count() as u32;
        let pairs: usize = self.current.values().map(|life| self.known[*life].len()).sum();
        self.history.member_time += passed * members;
        self.history.pair_time +=
            passed * u32::try_from(pairs.saturating_sub(self.wrong)).unwrap_or(u32::MAX);
        self.now = at;
    }

    fn begin(&mut self, at: Timestamp, node: NodeIndex, number: u32, group: &str, is_member: bool) {
        let index = self.history.lives.len();
        let group = group.to_owned();
        self.names.insert((node, number, group.clone()), index);
        self.current.insert((node, group.clone()), index);
        let life = Life { node, number, group, is_member, up: at, down: None, pauses: Vec::new() };
        self.history.lives.push(life);
        self.known.push(BTreeSet::new());
        self.count(index, true);
    }

    /// Something happens to all memberships of a node. Whether it has any.
    fn change(&mut self, node: NodeIndex, change: impl Fn(&mut Life)) -> bool {
        let own: Vec<_> =
            self.current.iter().filter(|((other, _), _)| *other == node).map(|(_, life)| *life).collect();
        for life in &own {
            self.count(*life, false);
            change(&mut self.history.lives[*life]);
            if let Some((_, crash)) = self.history.lives[*life].down {
                self.current.retain(|_, other| other != life);
                let mourners = self.current.values().filter(|other| self.known[**other].contains(life));
                let mourners: Vec<_> = mourners.map(|other| ((*life, *other), None)).collect();
                self.history.deaths.extend(mourners);
                self.history.noticed.entry(crash_key(crash)).or_default();
            }
            self.count(*life, true);
        }
        !own.is_empty()
    }

    fn claim(&mut self, at: Timestamp, node: NodeIndex, group: &str, what: &GroupWhat) {
        let Some(own) = self.current.get(&(node, group.to_owned())).copied() else { return };
        let find = |subject: &GroupSubject| match subject {
            GroupSubject::Life(node, life) => self.names.get(&(*node, *life, group.to_owned())).copied(),
            GroupSubject::Stranger(_) => None,
        };
        match what {
            GroupWhat::Added(subject) => {
                let Some(other) = find(subject) else {
                    return self.history.strangers.push((at, node));
                };
                self.history.added += 1;
                self.pair(own, other, false);
                if self.known[own].insert(other) {
                    let since = self.history.lives[own].up.max(self.history.lives[other].up);
                    self.history.discovery.push(at.since(since).as_nanos() as u64);
                }
                self.pair(own, other, true);
            }
            GroupWhat::Removed(subject, reason) => {
                let Some(other) = find(subject) else { return };
                self.pair(own, other, false);
                self.known[own].remove(&other);
                self.pair(own, other, true);
                match self.history.lives[other].down {
                    Some((down, crash)) => {
                        if let Some(noticed @ None) = self.history.deaths.get_mut(&(other, own)) {
                            *noticed = Some(at);
                            let took = at.since(down).as_nanos() as u64;
                            self.history.noticed.entry(crash_key(crash)).or_default().push(took);
                        }
                    }
                    None if self.is_false(at, own, other) => {
                        self.history.false_removals.push(FalseRemoval { at, node, who: other, reason });
                    }
                    None => {}
                }
            }
            GroupWhat::Suspect(_) => self.history.suspicions += 1,
            GroupWhat::Changed(..) | GroupWhat::Left | GroupWhat::Up { .. } => {}
        }
    }

    /// Whether somebody had a way to know that this one was there: he reached it himself, or whom he reaches did.
    fn is_false(&self, at: Timestamp, own: LifeIndex, other: LifeIndex) -> bool {
        let lives = &self.history.lives;
        let from = Timestamp::from_nanos(at.as_nanos().saturating_sub(AFTERMATH.as_nanos() as u64));
        let is_well = |life: LifeIndex| !lives[life].is_paused_during(from, at);
        if !is_well(own) || !is_well(other) {
            return false;
        }
        if self.reach.is_whole() {
            return true;
        }
        let open = |one: LifeIndex, two: LifeIndex| {
            self.reach.is_open_throughout(lives[one].node, lives[two].node, from, at)
        };
        let others = self.current.values().filter(|third| {
            lives[**third].group == lives[own].group && lives[**third].is_member && is_well(**third)
        });
        open(own, other)
            || others
                .copied()
                .any(|third| third != own && third != other && open(own, third) && open(third, other))
    }

    /// Counts all pairs that a life is part of in, or out.
    fn count(&mut self, life: LifeIndex, comes_in: bool) {
        let others: BTreeSet<_> =
            self.current.values().copied().chain(self.known[life].iter().copied()).collect();
        for other in others.into_iter().filter(|other| *other != life) {
            self.pair(life, other, comes_in);
            self.pair(other, life, comes_in);
        }
    }

    /// Counts what is wrong with how one knows another in, or out.
    fn pair(&mut self, own: LifeIndex, other: LifeIndex, comes_in: bool) {
        let lives = &self.history.lives;
        let (one, two) = (&lives[own], &lives[other]);
        if one.group != two.group || !one.is_running() || own == other {
            return;
        }
        let knows = self.known[own].contains(&other);
        let is_open = || self.reach.is_whole() || self.reach.is_open(one.node, two.node, self.now);
        let count = if knows && two.down.is_some() {
            &mut self.wrong
        } else if !knows && two.is_member && two.is_running() && is_open() {
            &mut self.missing
        } else {
            return;
        };
        if comes_in { *count += 1 } else { *count -= 1 }
    }

    /// Who can talk with whom has changed.
    fn count_anew(&mut self) {
        (self.missing, self.wrong) = (0, 0);
        let lives: Vec<_> = (0..self.history.lives.len()).collect();
        for own in self.current.values().copied().collect::<Vec<_>>() {
            for other in &lives {
                self.pair(own, *other, true);
            }
        }
    }

    fn finish(mut self, end: Timestamp) -> History {
        self.pass(end);
        let deaths = &self.history.deaths;
        let open = deaths.iter().filter(|(_, noticed)| noticed.is_none()).map(|(pair, _)| *pair);
        let watchers_live = |(_, own): &(LifeIndex, LifeIndex)| self.history.lives[*own].down.is_none();
        self.history.unnoticed = open.filter(watchers_live).collect();
        debug_assert!(self.scenario.nodes.len() >= self.current.len() || !self.history.lives.is_empty());
        self.history
    }
}

pub(super) fn membership_converges(run: &Run<'_>, by: Option<Duration>) -> Judgement {
    let history = History::of(run.scenario, run.trace);
    let by = by.map_or_else(|| run.end(), |by| Timestamp::ZERO.after(by));
    let holds = |moment: &Moment| moment.missing == 0 && moment.wrong == 0;
    let mut since = None;
    let mut at_by = None;
    let mut broken = None;
    let mut over = None;
    let mut healed = None;
    for moment in &history.moments {
        if moment.at > by {
            if moment.is_upheaval {
                over = Some(moment.at);
                break;
            }
            if at_by.is_none_or(|(before, _)| before) && !holds(moment) {
                broken.get_or_insert(*moment);
            } else if holds(moment) && healed.is_none() {
                healed = Some(moment.at);
            }
            continue;
        }
        since = if holds(moment) { since.or(Some(moment.at)) } else { None };
        at_by = Some((holds(moment), *moment));
    }
    let mut violations = Violations::default();
    let faults = |moment: &Moment| {
        format!(
            "{} missing, {} of the dead",
            counted(moment.missing, "member"),
            counted(moment.wrong, "sight")
        )
    };
    let detail = match (at_by, broken) {
        (None, _) => {
            violations.push(by, NodeIndex(0), || "nobody is in a group".to_owned());
            "nobody is in a group".to_owned()
        }
        (Some((false, moment)), _) => {
            violations.push(by, NodeIndex(0), || faults(&moment));
            let later = healed.map_or("not before the end or the next step".to_owned(), |at| {
                format!("only at {}", seconds(at))
            });
            format!("{}; complete {later}", faults(&moment))
        }
        (Some(_), Some(moment)) => {
            violations.push(moment.at, NodeIndex(0), || faults(&moment));
            format!("complete at first, and no longer at {}", seconds(moment.at))
        }
        (Some(_), None) => {
            let since = since.unwrap_or(by);
            let until =
                over.map(|over| format!(", held until the step at {}", seconds(over))).unwrap_or_default();
            format!("complete at {}, {} before its time{until}", seconds(since), span(by, since))
        }
    };
    violations.into_judgement(detail)
}

pub(super) fn no_false_removal(run: &Run<'_>) -> Judgement {
    let history = History::of(run.scenario, run.trace);
    let mut violations = Violations::default();
    for removal in &history.false_removals {
        violations.push(removal.at, removal.node, || {
            let who = history.label(run.scenario, removal.who);
            format!("{} removed {who}, which was there ({})", run.name(removal.node), removal.reason)
        });
    }
    let hours = history.pair_time.as_secs_f64() / 3600.0;
    let removals = counted(history.false_removals.len(), "false removal");
    violations.into_judgement(format!("{removals} in {hours:.1} hours of one watching another"))
}

pub(super) fn no_stranger_is_added(run: &Run<'_>) -> Judgement {
    let history = History::of(run.scenario, run.trace);
    let mut violations = Violations::default();
    for (at, node) in &history.strangers {
        violations.push(*at, *node, || format!("{} added somebody whom nobody is", run.name(*node)));
    }
    let added = counted(history.added, "ADDED");
    violations
        .into_judgement(format!("{added} of nodes of the scenario, {} of strangers", history.strangers.len()))
}

pub(super) fn the_dead_leave(run: &Run<'_>, within: Duration) -> Judgement {
    let history = History::of(run.scenario, run.trace);
    let mut violations = Violations::default();
    let mut slowest: Option<Duration> = None;
    let mut count = 0;
    for ((dead, own), noticed) in &history.deaths {
        let (Some((down, _)), watcher) = (history.lives[*dead].down, &history.lives[*own]) else { continue };
        let end = noticed.unwrap_or_else(|| watcher.down.map_or(run.end(), |(end, _)| end));
        let took = end.since(down);
        // Who is not running, or runs too short, is not asked.
        if (noticed.is_none() && took <= within) || watcher.is_paused_during(down, down.after(within)) {
            continue;
        }
        count += 1;
        slowest = slowest.max(noticed.map(|_| took));
        if took > within {
            violations.push(down.after(within), watcher.node, || {
                let (name, who) = (run.name(watcher.node), history.label(run.scenario, *dead));
                match noticed {
                    Some(at) => format!("{name} removed {who} only at {}", seconds(*at)),
                    None => format!("{name} never removed {who}"),
                }
            });
        }
    }
    let slowest = slowest.map_or("no time".to_owned(), |took| seconds(Timestamp::ZERO.after(took)));
    let late = violations.count();
    let judgement = violations.into_judgement(format!(
        "{} of the dead, the last after {slowest}, {late} late",
        counted(count, "removal")
    ));
    match judgement {
        Judgement { outcome: Outcome::Passed, .. } if count == 0 => {
            let mut none = Violations::default();
            none.push(run.end(), NodeIndex(0), || "nobody who was known has died".to_owned());
            none.into_judgement("nobody who was known has died, so this shows nothing".to_owned())
        }
        judgement => judgement,
    }
}

#[cfg(test)]
mod tests {
    use hailer::group::{Config, MemberId};

    use super::*;
    use crate::check::sample::{self, partition, secs};
    use crate::scenario::{Action, Property, Step};
    use crate::trace::Record;

    const STRANGER: GroupSubject = GroupSubject::Stranger(MemberId::from_bytes([9; 16]));

    /// A run of members that are all up at 0 s.
    fn run(
        nodes: u32,
        steps: Vec<(f64, (Vec<NodeIndex>, Action))>,
        script: &[(f64, u32, What)],
    ) -> sample::Run {
        let mut scenario = sample::scenario(nodes, Duration::from_secs(60));
        for node in &mut scenario.nodes {
            node.config.groups.push(Config::new("g".parse().unwrap()));
        }
        let step = |(at, (nodes, action))| Step { at: Duration::from_secs_f64(at), nodes, action, line: 1 };
        scenario.steps = steps.into_iter().map(step).collect();
        let up = |node| {
            let member = MemberId::from_bytes([node as u8; 16]);
            (0.0, node, What::Group("g".to_owned(), GroupWhat::Up { life: 0, member, is_member: true }))
        };
        let records = (0..nodes).map(up).chain(script.iter().cloned());
        let records = records.map(|(at, node, what)| Record { at: secs(at), node: NodeIndex(node), what });
        let trace = Trace {
            seed: 1,
            duration: scenario.duration,
            records: records.collect(),
            traffic: Vec::new(),
            loads: Vec::new(),
            digest: String::new(),
        };
        sample::Run { scenario, trace }
    }

    fn life(node: u32) -> GroupSubject {
        GroupSubject::Life(NodeIndex(node), 0)
    }

    fn added(at: f64, node: u32, who: u32) -> (f64, u32, What) {
        (at, node, What::Group("g".to_owned(), GroupWhat::Added(life(who))))
    }

    fn removed(at: f64, node: u32, who: u32) -> (f64, u32, What) {
        (at, node, What::Group("g".to_owned(), GroupWhat::Removed(life(who), "silent")))
    }

    /// All of these find each other at one moment.
    fn meet(at: f64, nodes: u32) -> Vec<(f64, u32, What)> {
        let pairs = (0..nodes).flat_map(|one| (0..nodes).map(move |two| (one, two)));
        pairs.filter(|(one, two)| one != two).map(|(one, two)| added(at, one, two)).collect()
    }

    #[test]
    fn all_know_all_or_it_has_not_converged() {
        let whole = run(3, Vec::new(), &meet(2.0, 3));
        assert!(whole.judge(Property::GroupMembershipConverges, Some(2.0)).passed());
        assert!(!whole.judge(Property::GroupMembershipConverges, Some(1.9)).passed());
        let mut script = meet(2.0, 3);
        script.pop();
        let finding = run(3, Vec::new(), &script).judge(Property::GroupMembershipConverges, Some(5.0));
        assert_eq!(finding.violations(), ["5.000 s n00: 1 member missing, 0 sights of the dead"]);
        let broken = [meet(2.0, 3), vec![removed(8.0, 0, 1)]].concat();
        assert!(!run(3, Vec::new(), &broken).judge(Property::GroupMembershipConverges, Some(5.0)).passed());
    }

    #[test]
    fn who_is_removed_and_was_there_is_counted() {
        let script = [meet(2.0, 2), vec![removed(30.0, 0, 1)]].concat();
        let finding = run(2, Vec::new(), &script).judge(Property::NoFalseRemoval, None);
        assert_eq!(finding.violations(), ["30.000 s n00: n00 removed n01, which was there (silent)"]);
    }

    #[test]
    fn who_could_be_reached_by_nobody_may_be_removed_and_who_could_by_another_may_not() {
        let script = [meet(2.0, 3), vec![removed(30.0, 0, 1)]].concat();
        let cut = |to: &[u32]| vec![(10.0, partition(&[1], to, true))];
        assert!(run(3, cut(&[0, 2]), &script).judge(Property::NoFalseRemoval, None).passed());
        assert!(!run(3, cut(&[0]), &script).judge(Property::NoFalseRemoval, None).passed());
    }

    #[test]
    fn the_dead_are_removed_in_time_by_all_who_knew_them() {
        let down = (10.0, 2, What::Down(Crash::PowerCut));
        let script = [meet(2.0, 3), vec![down, removed(14.0, 0, 2), removed(17.0, 1, 2)]].concat();
        let run = run(3, Vec::new(), &script);
        let judge = |within| run.judge(Property::TheDeadLeaveTheGroup(Duration::from_secs(within)), None);
        assert!(judge(7).passed());
        assert_eq!(judge(6).violations(), ["16.000 s n01: n01 removed n02 only at 17.000 s"]);
        assert_eq!(judge(3).violations().len(), 2);
        let history = History::of(&run.scenario, &run.trace);
        assert_eq!(history.noticed["power_cut"], [4_000_000_000, 7_000_000_000]);
        assert!(run.judge(Property::NoFalseRemoval, None).passed());
    }

    #[test]
    fn where_nobody_dies_nobody_is_shown_to_be_noticed() {
        let finding = run(2, Vec::new(), &meet(2.0, 2))
            .judge(Property::TheDeadLeaveTheGroup(Duration::from_secs(6)), None);
        assert!(!finding.passed());
    }

    #[test]
    fn ghosts_are_strangers() {
        let ghost = (3.0, 1, What::Group("g".to_owned(), GroupWhat::Added(STRANGER)));
        let finding = run(2, Vec::new(), &[ghost]).judge(Property::NoStrangerIsAdded, None);
        assert_eq!(finding.violations(), ["3.000 s n01: n01 added somebody whom nobody is"]);
    }
}
