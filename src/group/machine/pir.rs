//! pir's rule: everybody checks everybody, a failed check counts one up, a good one counts one down, and three are the end.
//!
//! Who is removed and still announces is added again by its next announcement: where one member can't reach another, that
//! goes on for ever. It is here to be compared with, and for who wants just that. Unlike pir it bounds how many it
//! knows, dials only what may be dialled, and shares its checks out over time by when it first heard of each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::allow::{AllowList, Source};
use super::super::announcement::{GroupName, MemberId};
use super::super::config::Config;
use super::super::event::{Event, Health, Member, Reason};
use super::super::limits;
use super::{CheckId, Input, Outcome, Output, Style};
use crate::Timestamp;
use crate::machine::Machine;

/// Between two announcements.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// After a check, until the next of the same member.
const REST: Duration = Duration::from_secs(2);
/// How long a check may take: pir's.
const CHECK: Style = Style { patience: Duration::from_secs(2), retry: None };
/// So many failures are the end.
const STRIKES: u32 = 3;

/// pir's rule.
#[derive(Debug)]
pub(in crate::group) struct Pir {
    group: GroupName,
    own: MemberId,
    announces: bool,
    allow: AllowList,
    members: BTreeMap<MemberId, Tracked>,
    checks: BTreeMap<CheckId, MemberId>,
    last_check: u64,
    agenda: BTreeSet<(Timestamp, MemberId)>,
    announce_at: Timestamp,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Tracked {
    member: Member,
    strikes: u32,
}

impl Pir {
    /// A membership that announces at once.
    pub(in crate::group) fn new(config: &Config, own: MemberId, now: Timestamp) -> Self {
        Self {
            group: config.name.clone(),
            own,
            announces: config.service.is_some(),
            allow: AllowList::new(config.allow.clone()),
            members: BTreeMap::new(),
            checks: BTreeMap::new(),
            last_check: 0,
            agenda: BTreeSet::new(),
            announce_at: now,
            outputs: VecDeque::new(),
        }
    }

    pub(in crate::group) fn members(&self) -> Vec<Member> {
        self.members.values().map(|tracked| tracked.member.clone()).collect()
    }

    fn check(&mut self, id: MemberId) {
        let Some(tracked) = self.members.get(&id) else { return };
        self.last_check += 1;
        let check = CheckId(self.last_check);
        self.checks.insert(check, id);
        let targets = vec![tracked.member.health_uri.clone()];
        self.outputs.push_back(Output::Check { check, targets, style: CHECK });
    }

    fn on_checked(&mut self, now: Timestamp, check: CheckId, outcome: Outcome) {
        let Some(id) = self.checks.remove(&check) else { return };
        let Some(tracked) = self.members.get_mut(&id) else { return };
        match outcome {
            Outcome::Answered(_) => tracked.strikes = tracked.strikes.saturating_sub(1),
            Outcome::Failed | Outcome::Silent => tracked.strikes += 1,
        }
        if tracked.strikes < STRIKES {
            self.agenda.insert((now.after(REST), id));
        } else if let Some(tracked) = self.members.remove(&id) {
            self.outputs.push_back(Output::Event(Event::Removed(tracked.member, Reason::ThreeStrikes)));
        }
    }
}

impl Machine for Pir {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Announced { announcement, from } => {
                let id = announcement.member;
                let at = announcement.health.at;
                if announcement.group != self.group
                    || id == self.own
                    || self.members.contains_key(&id)
                    || self.members.len() >= limits::KNOWN_MAX
                    || !self.allow.permits(at.ip(), at.port(), Source::Itself(from.ip()))
                {
                    return;
                }
                let (service, health_uri) = (announcement.service, announcement.health);
                let member = Member { id, service, health_uri, health: Health::Healthy };
                self.members.insert(id, Tracked { member: member.clone(), strikes: 0 });
                self.outputs.push_back(Output::Event(Event::Added(member)));
                self.check(id);
            }
            Input::Checked { check, outcome } => self.on_checked(now, check, outcome),
            Input::Interfaces(interfaces) => self.allow.note_interfaces(&interfaces),
            // pir has no message for it.
            Input::Leave => self.outputs.push_back(Output::Left),
            Input::Told { .. } | Input::Listed { .. } => {}
            Input::Timeout => {
                while let Some((at, id)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
                    self.agenda.remove(&(at, id));
                    self.check(id);
                }
                if self.announces && self.announce_at <= now {
                    self.announce_at = now.after(ANNOUNCE);
                    self.outputs.push_back(Output::Announce { version: 0 });
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let check = self.agenda.first().map(|(at, _)| *at);
        check.into_iter().chain(self.announces.then_some(self.announce_at)).min()
    }
}
