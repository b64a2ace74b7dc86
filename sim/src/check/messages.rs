//! `shouts-arrive-once-and-in-order` and `whispers-arrive-once-and-in-order`.
//!
//! A message is *expected* at the peers that its sender had in its own events when it sent: for a whisper, the one it
//! was addressed to, entered and not exited; for a shout, those that had joined the group and neither left it nor
//! exited. Of these, only peers that run (up and not paused) from the sending until [`GRACE`] later and, for a shout,
//! stay in the group by the script; and only if the sender runs as long, and the script did not cut the two off from each
//! other in that time, nor in as long as it takes them to give each other up, and [`GRACE`], before: what was in between
//! when a cut ends may be lost with its connection, and what is not waits for TCP to try again. What is sent less than [`GRACE`] before the end
//! of the run need not arrive.
//!
//! Whatever arrives, expected or not, must have been sent to whom it reached, must be whole, and must come once and in
//! the order of sending: over shouts and whispers together, from one life of the sender to one of the receiver. A shout
//! may reach a node that was a member at some moment from [`GRACE`] before the sending to the arrival: the news of its
//! leaving takes time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hailer::Timestamp;

use crate::scenario::NodeIndex;
use crate::trace::{Record, Subject, What};

use super::lives::LifeId;
use super::{Judgement, Run, Violations, count, counted, seconds};

/// How long a message may take to be asked for, and the news of leaving a group to spread.
///
/// On a network that loses packets, TCP sends again after 0.2, 0.4, 0.8, 1.6 and 3.2 s (RFC 6298 with Linux's minimum):
/// five losses in a row fit. A sender or receiver that ends earlier may take the message with it.
pub const GRACE: Duration = Duration::from_secs(10);

/// Which messages are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Shout,
    Whisper,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Shout => "shout",
            Self::Whisper => "whisper",
        }
    }
}

pub(super) fn arrive(run: &Run<'_>, kind: Kind) -> Judgement {
    let mut mail = Mail::new(run, kind);
    for record in &run.trace.records {
        mail.take(record);
    }
    mail.finish()
}

/// A message that was sent.
struct Message {
    kind: Kind,
    at: Timestamp,
    sender: LifeId,
    number: u64,
    /// The group; empty for a whisper.
    group: String,
    /// The identity that a whisper was addressed to.
    to: Option<LifeId>,
    /// Lives that must get it.
    expected: Vec<LifeId>,
    /// Lives that got it.
    arrived: BTreeSet<LifeId>,
}

/// An arrival, as the receiver's event tells it.
struct Arrival<'a> {
    kind: Kind,
    from: Subject,
    /// The group; empty for a whisper.
    group: &'a str,
    number: Option<u64>,
    is_intact: bool,
}

struct Mail<'a> {
    run: &'a Run<'a>,
    kind: Kind,
    /// By node: the life that is up or was the last to be.
    latest: Vec<Option<LifeId>>,
    /// By node: how many lives have begun.
    begun: Vec<usize>,
    /// By node: identities it has entered, and for each the groups it has seen it join.
    views: Vec<BTreeMap<LifeId, BTreeSet<String>>>,
    /// By the sender's life and number.
    sent: BTreeMap<(LifeId, u64), Message>,
    /// By receiver and sender: the highest number that arrived, and its kind.
    highest: BTreeMap<(LifeId, LifeId), (u64, Kind)>,
    violations: Violations,
    arrivals: usize,
    exempt: usize,
}

impl<'a> Mail<'a> {
    fn new(run: &'a Run<'a>, kind: Kind) -> Self {
        let nodes = run.scenario.nodes.len();
        Self {
            run,
            kind,
            latest: vec![None; nodes],
            begun: vec![0; nodes],
            views: vec![BTreeMap::new(); nodes],
            sent: BTreeMap::new(),
            highest: BTreeMap::new(),
            violations: Violations::default(),
            arrivals: 0,
            exempt: 0,
        }
    }

    fn take(&mut self, record: &Record) {
        let node = record.node.0 as usize;
        match &record.what {
            What::Up { .. } => {
                self.latest[node] = Some(self.run.lives.of_node(record.node)[self.begun[node]]);
                self.begun[node] += 1;
                self.views[node].clear();
            }
            What::Down(_) => self.views[node].clear(),
            What::Enter(peer) => {
                if let Some(peer) = self.identity(peer) {
                    self.views[node].insert(peer, BTreeSet::new());
                }
            }
            What::Exit(peer, _) => {
                if let Some(peer) = self.identity(peer) {
                    self.views[node].remove(&peer);
                }
            }
            What::Join(peer, group) => {
                let peer = self.identity(peer);
                if let Some(groups) = peer.and_then(|peer| self.views[node].get_mut(&peer)) {
                    groups.insert(group.clone());
                }
            }
            What::Leave(peer, group) => {
                let peer = self.identity(peer);
                if let Some(groups) = peer.and_then(|peer| self.views[node].get_mut(&peer)) {
                    groups.remove(group);
                }
            }
            What::SentShout { group, number, .. } => {
                let knows = |(_, groups): &(&LifeId, &BTreeSet<String>)| groups.contains(group);
                let known = self.views[node].iter().filter(knows).map(|(peer, _)| *peer).collect();
                self.send(record, Kind::Shout, group, None, *number, known);
            }
            What::SentWhisper { to, number, .. } => {
                let to = self.identity(to);
                let known = to.filter(|to| self.views[node].contains_key(to)).into_iter().collect();
                self.send(record, Kind::Whisper, "", to, *number, known);
            }
            What::GotShout { from, group, number, is_intact } => {
                let (from, number, is_intact) = (*from, *number, *is_intact);
                self.arrive(record, &Arrival { kind: Kind::Shout, from, group, number, is_intact });
            }
            What::GotWhisper { from, number, is_intact } => {
                let (from, number, is_intact) = (*from, *number, *is_intact);
                self.arrive(record, &Arrival { kind: Kind::Whisper, from, group: "", number, is_intact });
            }
            _ => {}
        }
    }

    fn send(
        &mut self,
        record: &Record,
        kind: Kind,
        group: &str,
        to: Option<LifeId>,
        number: u64,
        known: Vec<LifeId>,
    ) {
        let Some(sender) = self.latest[record.node.0 as usize] else { return };
        let until = record.at.after(GRACE);
        let mut expected = Vec::new();
        if kind == self.kind {
            if until > self.run.end() {
                self.exempt += 1;
            } else if self.run.lives.get(sender).runs_throughout(record.at, until) {
                let must_get = |life: &LifeId| {
                    self.must_get(*life, kind, group, record.at)
                        && self.could_talk(record.node, self.run.lives.get(*life).node, record.at)
                };
                expected = known.into_iter().filter_map(|peer| self.bearer(peer)).filter(must_get).collect();
            }
        }
        let group = group.to_owned();
        let arrived = BTreeSet::new();
        let message = Message { kind, at: record.at, sender, number, group, to, expected, arrived };
        self.sent.insert((sender, number), message);
    }

    fn must_get(&self, life: LifeId, kind: Kind, group: &str, at: Timestamp) -> bool {
        let life = self.run.lives.get(life);
        let until = at.after(GRACE);
        life.runs_throughout(at, until)
            && (kind == Kind::Whisper || life.is_member_throughout(group, at, until))
    }

    /// Whether nothing cut the two off around this moment.
    fn could_talk(&self, sender: NodeIndex, receiver: NodeIndex, at: Timestamp) -> bool {
        let reach = &self.run.lives.reach;
        if reach.is_whole() {
            return true;
        }
        let expired = |node: NodeIndex| {
            let zre = self.run.scenario.nodes[node.0 as usize].config.zre.as_ref();
            zre.map_or(Duration::ZERO, |zre| zre.expired)
        };
        let before = expired(sender).max(expired(receiver)) + GRACE;
        let since = Timestamp::from_nanos(at.since(Timestamp::ZERO.after(before)).as_nanos() as u64);
        reach.is_open_throughout(sender, receiver, since, at.after(GRACE))
    }

    fn arrive(&mut self, record: &Record, arrival: &Arrival<'_>) {
        let Some(receiver) = self.latest[record.node.0 as usize] else { return };
        let is_judged = arrival.kind == self.kind;
        self.arrivals += usize::from(is_judged);
        let Some(sender) = self.run.lives.named(&arrival.from) else {
            if is_judged {
                self.complain(record, receiver, arrival, "comes from a stranger");
            }
            return;
        };
        if is_judged && (!arrival.is_intact || arrival.number.is_none()) {
            self.complain(record, receiver, arrival, "is not as it was sent");
        }
        let Some(number) = arrival.number else { return };
        let order = self.highest.get(&(receiver, sender)).copied();
        let flaws = match self.sent.get_mut(&(sender, number)) {
            Some(message) if message.kind == arrival.kind => {
                let is_new = message.arrived.insert(receiver);
                flaws(self.run, message, receiver, record.at, arrival, is_new)
            }
            _ => vec!["was never sent"],
        };
        // A message out of order counts against its own kind and against the kind of what overtook it: whoever asks about
        // only one of the two must hear of it.
        let overtaken = order.filter(|(highest, _)| number < *highest);
        let is_repeated = flaws.contains(&REPEATED);
        if is_judged {
            for flaw in &flaws {
                self.complain(record, receiver, arrival, flaw);
            }
        }
        match overtaken {
            Some((highest, kind)) if (is_judged || kind == self.kind) && !is_repeated => {
                let flaw = format!("comes after the {} {highest} of the same sender", kind.noun());
                self.complain(record, receiver, arrival, &flaw);
            }
            Some(_) => {}
            None => {
                self.highest.insert((receiver, sender), (number, arrival.kind));
            }
        }
    }

    fn complain(&mut self, record: &Record, receiver: LifeId, arrival: &Arrival<'_>, flaw: &str) {
        let run = self.run;
        self.violations.push(record.at, record.node, || {
            let number = arrival.number.map(|number| format!(" {number}")).unwrap_or_default();
            let group =
                if arrival.kind == Kind::Shout { format!(" to {}", arrival.group) } else { String::new() };
            let sender = match run.lives.named(&arrival.from) {
                Some(sender) => run.life(sender),
                None => super::strangers::describe(run, &arrival.from),
            };
            format!(
                "{} got {}{number} of {sender}{group}: it {flaw}",
                run.life(receiver),
                arrival.kind.noun()
            )
        });
    }

    fn finish(mut self) -> Judgement {
        let (mut sent, mut expected, mut came) = (0, 0, 0);
        let mut missing: Vec<(&Message, LifeId)> = Vec::new();
        for message in self.sent.values().filter(|message| message.kind == self.kind) {
            sent += 1;
            expected += message.expected.len();
            let absent = message.expected.iter().filter(|life| !message.arrived.contains(life));
            missing.extend(absent.map(|life| (message, *life)));
            came += message.expected.iter().filter(|life| message.arrived.contains(life)).count();
        }
        missing.sort_by_key(|(message, receiver)| (message.at, message.sender, message.number, *receiver));
        let run = self.run;
        for (message, receiver) in missing {
            let node: NodeIndex = run.lives.get(receiver).node;
            self.violations.push(message.at, node, || {
                let group = if message.kind == Kind::Shout {
                    format!(" to {}", message.group)
                } else {
                    String::new()
                };
                let (receiver, sender) = (run.life(receiver), run.life(message.sender));
                let (noun, number, at) = (message.kind.noun(), message.number, seconds(message.at));
                format!("{receiver} never got {noun} {number} of {sender}{group}, sent at {at}")
            });
        }
        let noun = self.kind.noun();
        let exempt = match self.exempt {
            0 => String::new(),
            exempt => format!("; {} within {} s of the end exempt", count(exempt), GRACE.as_secs()),
        };
        let detail = if sent == 0 {
            format!("no {noun} was sent")
        } else {
            let surplus = match self.arrivals - came {
                0 => String::new(),
                surplus => format!(" (and {} that need not have)", count(surplus)),
            };
            let (came, expected) = (count(came), count(expected));
            format!(
                "{} sent, {came} of {expected} expected deliveries arrived{surplus}{exempt}",
                counted(sent, noun)
            )
        };
        self.violations.into_judgement(detail)
    }

    fn identity(&self, subject: &Subject) -> Option<LifeId> {
        self.run.lives.named(subject).map(|life| self.run.lives.get(life).identity)
    }

    /// The life with this identity that began last, up to now.
    fn bearer(&self, identity: LifeId) -> Option<LifeId> {
        let node = self.run.lives.get(identity).node;
        self.latest[node.0 as usize].filter(|life| self.run.lives.get(*life).identity == identity)
    }
}

const REPEATED: &str = "has come before";

/// What is wrong with an arrival of this message, apart from its order and its bytes.
fn flaws(
    run: &Run<'_>,
    message: &Message,
    receiver: LifeId,
    at: Timestamp,
    arrival: &Arrival<'_>,
    is_new: bool,
) -> Vec<&'static str> {
    let life = run.lives.get(receiver);
    let mut flaws = Vec::new();
    if !is_new {
        flaws.push(REPEATED);
    }
    match message.kind {
        Kind::Whisper if message.to != Some(life.identity) => flaws.push("was sent to somebody else"),
        Kind::Shout if message.group != arrival.group => flaws.push("was sent to another group"),
        Kind::Shout if receiver == message.sender => flaws.push("is its own"),
        Kind::Shout => {
            let since =
                Timestamp::from_nanos(message.at.since(Timestamp::ZERO.after(GRACE)).as_nanos() as u64);
            if !life.is_member_during(&message.group, since, at) {
                flaws.push("reached a node that is no member");
            }
        }
        Kind::Whisper => {}
    }
    flaws
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
