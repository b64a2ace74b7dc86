//! Verdicts on a run: was what the scenario expects true?
//!
//! Reads the [`Trace`] and the [`Scenario`] and nothing else: neither the network nor the nodes. What the script did is
//! the truth ([`lives`]); what the applications saw are claims ([`knowledge`]). Each property has its judge.
//!
//! * [`lives`]: who was up, paused and member of which group, and when.
//! * [`knowledge`]: whom each node has entered, as of any moment.
//! * `leaders`: `leaders-are-agreed`.
//! * `membership`: `everyone-knows-everyone`, `the-dead-are-gone` and `membership-is-symmetric`.
//! * `group`: `group-membership-converges`, `no-false-removal`, `no-stranger-is-added` and `the-dead-leave-the-group`.
//! * `load`: `traffic-stays-below` and `memory-stays-below`.
//! * [`reach`]: whom the script cut off from whom, and when.
//! * `exits`: `no-live-peer-exits`.
//! * `strangers`: `nobody-unknown-appears`. `meetings`: `never-meet`.
//! * `sessions`: `sessions-complete`. `repeaters`: `repeaters-know-each-other`.
//! * `messages`: `shouts-arrive-once-and-in-order` and `whispers-arrive-once-and-in-order`.

use hailer::Timestamp;

use crate::scenario::{Crash, Expect, NodeIndex, Property, Scenario};
use crate::trace::Trace;

mod exits;
pub(crate) mod group;
pub mod knowledge;
mod leaders;
pub mod lives;
mod load;
mod meetings;
mod membership;
mod messages;
pub mod reach;
mod repeaters;
#[cfg(test)]
pub(crate) mod sample;
mod sessions;
mod strangers;

pub use messages::GRACE;

/// How many violations a finding lists; the rest are counted. A broken run can have millions.
pub const VIOLATIONS_MAX: usize = 10;

/// What a run showed, expectation by expectation, in the order of the scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One for each expectation.
    pub findings: Vec<Finding>,
}

/// What a run showed about one expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was asked.
    pub expect: Expect,
    /// The property in words, with its time.
    pub text: String,
    /// Whether it was true.
    pub outcome: Outcome,
    /// How true, with numbers: `complete at 3.412 s, 11.588 s before its time`.
    pub detail: String,
}

/// Whether an expectation was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was.
    Passed,
    /// It was not.
    Failed {
        /// The first [`VIOLATIONS_MAX`] violations.
        violations: Vec<Violation>,
        /// How many there are beyond those listed.
        more: usize,
    },
}

/// One way in which an expectation was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When it happened, or should have.
    pub at: Timestamp,
    /// On which node it was seen, or should have been.
    pub node: NodeIndex,
    /// What, in words.
    pub text: String,
}

/// What kind of property did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something that must never happen did (`always`).
    Safety,
    /// Something that must happen in time did not (`by`).
    Liveness,
}

impl Verdict {
    /// Whether every expectation was met.
    pub fn passed(&self) -> bool {
        self.failure().is_none()
    }

    /// How many expectations were met.
    pub fn passed_count(&self) -> usize {
        self.findings.iter().filter(|finding| finding.passed()).count()
    }

    /// The gravest failure: safety before liveness. `None` when every expectation was met.
    pub fn failure(&self) -> Option<Failure> {
        let failed = || self.findings.iter().filter(|finding| !finding.passed());
        if failed().any(|finding| finding.failure_kind() == Failure::Safety) {
            return Some(Failure::Safety);
        }
        failed().next().map(|_| Failure::Liveness)
    }

    /// The exit code of a program that reports this verdict: 0, or 128 for liveness and 129 for safety.
    pub fn exit_code(&self) -> u8 {
        match self.failure() {
            None => 0,
            Some(Failure::Liveness) => 128,
            Some(Failure::Safety) => 129,
        }
    }
}

impl Finding {
    /// Whether the expectation was met.
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    /// What it would be (or is) a failure of.
    pub fn failure_kind(&self) -> Failure {
        match self.expect.that {
            Property::EveryoneKnowsEveryone
            | Property::SessionsComplete
            | Property::TheDeadAreGone
            | Property::MembershipIsSymmetric
            | Property::LeadersAreAgreed
            | Property::RepeatersKnowEachOther
            | Property::GroupMembershipConverges
            | Property::TheDeadLeaveTheGroup(_) => Failure::Liveness,
            Property::TrafficStaysBelow(_)
            | Property::MemoryStaysBelow(_)
            | Property::NoLivePeerExits
            | Property::NobodyUnknownAppears
            | Property::NoFalseRemoval
            | Property::NoStrangerIsAdded
            | Property::NeverMeet(_)
            | Property::ShoutsArriveOnceAndInOrder
            | Property::WhispersArriveOnceAndInOrder => Failure::Safety,
        }
    }
}

/// Judges a run by what its scenario expects.
///
/// The cost is linear in the records, times a logarithm, for each expectation.
pub fn judge(scenario: &Scenario, trace: &Trace) -> Verdict {
    let scenario = &scenario.unrolled(trace.seed);
    let run = Run { scenario, trace, lives: lives::Lives::of(scenario, trace) };
    let judge_one = |expect: &Expect| {
        let Judgement { outcome, detail } = match &expect.that {
            Property::EveryoneKnowsEveryone => {
                membership::everyone_knows_everyone(&run, expect.by, expect.among.as_deref())
            }
            Property::TheDeadAreGone => membership::the_dead_are_gone(&run, expect.by),
            Property::MembershipIsSymmetric => membership::membership_is_symmetric(&run, expect.by),
            Property::LeadersAreAgreed => leaders::leaders_are_agreed(&run, expect.by),
            Property::RepeatersKnowEachOther => repeaters::know_each_other(&run, expect.by),
            Property::TrafficStaysBelow(limit) => load::traffic_stays_below(&run, limit),
            Property::MemoryStaysBelow(limit) => load::memory_stays_below(&run, limit),
            Property::GroupMembershipConverges => group::membership_converges(&run, expect.by),
            Property::NoFalseRemoval => group::no_false_removal(&run),
            Property::NoStrangerIsAdded => group::no_stranger_is_added(&run),
            Property::TheDeadLeaveTheGroup(within) => group::the_dead_leave(&run, *within),
            Property::NoLivePeerExits => exits::no_live_peer_exits(&run),
            Property::NobodyUnknownAppears => strangers::nobody_unknown_appears(&run),
            Property::SessionsComplete => sessions::complete(&run, expect.by),
            Property::NeverMeet(groups) => meetings::never_meet(&run, groups),
            Property::ShoutsArriveOnceAndInOrder => messages::arrive(&run, messages::Kind::Shout),
            Property::WhispersArriveOnceAndInOrder => messages::arrive(&run, messages::Kind::Whisper),
        };
        Finding { expect: expect.clone(), text: in_words(scenario, expect), outcome, detail }
    };
    Verdict { findings: scenario.expects.iter().map(judge_one).collect() }
}

/// The name of a property in a scenario file.
pub fn property_name(property: &Property) -> &'static str {
    match property {
        Property::EveryoneKnowsEveryone => "everyone-knows-everyone",
        Property::TheDeadAreGone => "the-dead-are-gone",
        Property::MembershipIsSymmetric => "membership-is-symmetric",
        Property::LeadersAreAgreed => "leaders-are-agreed",
        Property::RepeatersKnowEachOther => "repeaters-know-each-other",
        Property::TrafficStaysBelow(_) => "traffic-stays-below",
        Property::MemoryStaysBelow(_) => "memory-stays-below",
        Property::GroupMembershipConverges => "group-membership-converges",
        Property::NoFalseRemoval => "no-false-removal",
        Property::NoStrangerIsAdded => "no-stranger-is-added",
        Property::TheDeadLeaveTheGroup(_) => "the-dead-leave-the-group",
        Property::NoLivePeerExits => "no-live-peer-exits",
        Property::NobodyUnknownAppears => "nobody-unknown-appears",
        Property::SessionsComplete => "sessions-complete",
        Property::NeverMeet(_) => "never-meet",
        Property::ShoutsArriveOnceAndInOrder => "shouts-arrive-once-and-in-order",
        Property::WhispersArriveOnceAndInOrder => "whispers-arrive-once-and-in-order",
    }
}

fn in_words(scenario: &Scenario, expect: &Expect) -> String {
    let among = expect.among.as_ref().map(|among| format!(" among {}", names(scenario, among)));
    let property = match &expect.that {
        Property::EveryoneKnowsEveryone => {
            let property = "every running node has entered every other running node, and nobody else";
            format!("{property}{}", among.unwrap_or_default())
        }
        Property::NeverMeet(groups) => {
            let groups: Vec<_> = groups.iter().map(|group| names(scenario, group)).collect();
            format!("no node of one of these groups enters a node of another: {}", groups.join("; "))
        }
        Property::SessionsComplete => {
            let from = expect.by.unwrap_or_default();
            let from = brief(Timestamp::ZERO.after(from));
            return format!("In every session that begins from {from} on, what is said comes back whole");
        }
        Property::TheDeadAreGone => {
            "no running node still knows a node, or a life of a node, that is down".to_owned()
        }
        Property::MembershipIsSymmetric => {
            "who runs and is known by another running node knows that node, too".to_owned()
        }
        Property::LeadersAreAgreed => {
            "the members of a group that can talk with each other know one leader, who is one of them"
                .to_owned()
        }
        Property::RepeatersKnowEachOther => {
            "every running repeater listens to every other one that runs, and to nobody else".to_owned()
        }
        Property::TrafficStaysBelow(limit) => {
            let limits = [
                ("sends", limit.packets_per_s, "packets"),
                ("sends", limit.bytes_per_s, "bytes"),
                ("accepts", limit.connections_per_s, "connections"),
            ];
            let told = |(does, most, what): &(_, Option<u64>, _)| {
                Some(format!("{does} more than {} {what}", count((*most)?)))
            };
            let limits = limits.iter().filter_map(told).collect::<Vec<_>>().join(" or ");
            format!("none of {} {limits} in a second", names(scenario, &limit.nodes))
        }
        Property::MemoryStaysBelow(limit) => {
            let nodes = names(scenario, &limit.nodes);
            format!("none of {nodes} holds more than {} bytes of memory", count(limit.bytes))
        }
        Property::GroupMembershipConverges => {
            "every running member of a group knows every other, and nobody who is down".to_owned()
        }
        Property::NoFalseRemoval => {
            "nobody removes a member that is up, and that he or whom he reaches can reach".to_owned()
        }
        Property::NoStrangerIsAdded => "every member that is added is a node of the scenario".to_owned(),
        Property::TheDeadLeaveTheGroup(within) => {
            let within = brief(Timestamp::ZERO.after(*within));
            format!("everybody who knows a member that goes down removes it within {within}")
        }
        Property::NoLivePeerExits => "no node sees an EXIT of a peer that is up".to_owned(),
        Property::NobodyUnknownAppears => {
            "every ENTER names an identity that a node of the scenario has".to_owned()
        }
        Property::ShoutsArriveOnceAndInOrder => {
            "every shout reaches every member its sender knew, whole, once, in the order of sending"
                .to_owned()
        }
        Property::WhispersArriveOnceAndInOrder => {
            "every whisper reaches the peer it was sent to, whole, once, in the order of sending".to_owned()
        }
    };
    let is_by_a_time = matches!(
        expect.that,
        Property::EveryoneKnowsEveryone
            | Property::TheDeadAreGone
            | Property::MembershipIsSymmetric
            | Property::GroupMembershipConverges
            | Property::LeadersAreAgreed
            | Property::RepeatersKnowEachOther
    );
    match expect.by {
        Some(by) if is_by_a_time => format!("By {}, {property}", brief(Timestamp::ZERO.after(by))),
        None if is_by_a_time => format!("By the end, {property}"),
        _ => format!("Always, {property}"),
    }
}

/// Nodes for people: the name of a `[[node]]` stands for all of its nodes.
fn names(scenario: &Scenario, nodes: &[NodeIndex]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (index, node) in (0..).map(NodeIndex).zip(&scenario.nodes).filter(|(index, _)| nodes.contains(index))
    {
        let siblings =
            (0..).map(NodeIndex).zip(&scenario.nodes).filter(|(_, other)| other.group == node.group);
        let is_whole = siblings.into_iter().all(|(other, _)| nodes.contains(&other));
        let name = if is_whole { &node.group } else { &scenario.nodes[index.0 as usize].name };
        if names.last() != Some(&name.as_str()) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// What a judge looks at.
struct Run<'a> {
    scenario: &'a Scenario,
    trace: &'a Trace,
    lives: lives::Lives,
}

impl Run<'_> {
    /// The end of the run.
    fn end(&self) -> Timestamp {
        Timestamp::ZERO.after(self.trace.duration)
    }

    /// A node's own name.
    fn name(&self, node: NodeIndex) -> &str {
        &self.scenario.nodes[node.0 as usize].name
    }

    /// A life for people: the node's name, and which restart when it is not the first life.
    fn life(&self, life: lives::LifeId) -> String {
        self.lives.label(self.scenario, life)
    }
}

/// What a judge says.
struct Judgement {
    outcome: Outcome,
    detail: String,
}

/// Violations as they are found: the first few are kept, all are counted.
#[derive(Default)]
struct Violations {
    kept: Vec<Violation>,
    more: usize,
}

impl Violations {
    /// Adds one. The text is made only when it will be kept.
    fn push(&mut self, at: Timestamp, node: NodeIndex, text: impl FnOnce() -> String) {
        if self.kept.len() < VIOLATIONS_MAX {
            self.kept.push(Violation { at, node, text: text() });
        } else {
            self.more += 1;
        }
    }

    fn count(&self) -> usize {
        self.kept.len() + self.more
    }

    /// Passed when there are none.
    fn into_judgement(self, detail: String) -> Judgement {
        let outcome = if self.kept.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Failed { violations: self.kept, more: self.more }
        };
        Judgement { outcome, detail }
    }
}

/// A moment for people, to the millisecond: `3.412 s`.
fn seconds(at: Timestamp) -> String {
    let millis = (at.as_nanos() + 500_000) / 1_000_000;
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

/// A moment that somebody chose, without zeros at its end: `11 s`, `0.5 s`.
pub(crate) fn brief(at: Timestamp) -> String {
    let text = seconds(at);
    let digits = text.trim_end_matches(" s").trim_end_matches('0').trim_end_matches('.');
    format!("{digits} s")
}

/// A span for people, to the millisecond.
fn span(later: Timestamp, earlier: Timestamp) -> String {
    seconds(Timestamp::ZERO.after(later.since(earlier)))
}

/// `1 shout`, `2 shouts`.
fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", self::count(count), if count == 1 { "" } else { "s" })
}

/// A whole number with its thousands apart: `52,318`.
pub(crate) fn count(value: impl TryInto<u64>) -> String {
    let digits = value.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How a node ended, in words.
pub(crate) fn crash_words(crash: Crash) -> &'static str {
    match crash {
        Crash::PowerCut => "power cut",
        Crash::ProcessExit => "process exit",
        Crash::Stop => "stop",
    }
}
