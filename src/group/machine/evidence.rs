//! The rule of this kind of members: nobody is added without an answer, and nobody removed against the evidence of others.
//!
//! * **Who checks whom**: each member a few ([`Ring`]), once a second. What it finds it tells all, in one multicast.
//! * **Adding**: somebody who announces himself is checked first; then he is a member. In a large group those whose part it
//!   is do that and vouch for him, and everybody else has budget for some checks of his own.
//! * **Removing**: who does not answer is *doubted*: checked again, while random others are asked to check him. If none
//!   of them has an answer, all are told that he is *suspect*, and check him as far as they have budget. Any answer to
//!   anybody clears him. Only who answers nobody is removed, and he comes back when he answers, not when he announces.
//! * **Sick observers**: one whom nobody answers while he hears them all is sick himself, and removes nobody that he
//!   hears. One whose link to a single member is bad learns from others that it is well, and checks it less often. One who
//!   was stopped for a while gives everybody that time again.
//! * **Lists**: now and then each compares with a random other whom they know, over TCP, so that lost datagrams heal.
//!
//! What members tell is believed when it comes from the address of a member; there are no keys.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::allow::{AllowList, Source};
use super::super::announcement::{GroupName, MemberId};
use super::super::config::Config;
use super::super::event::{Event, Member, Reason};
use super::super::limits;
use super::super::message::{Entry, List, Message};
use super::known::{Known, State};
use super::ring::Ring;
use super::{CheckId, Dice, Input, Outcome, Output, Style, To};
use crate::Timestamp;
use crate::machine::Machine;

mod checks;
mod gossip;
mod rounds;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Between two checks of the same member by the same observer.
pub(super) const PERIOD: Duration = millis(1000);
/// How long a check may take, and after how long a further attempt joins those under way: lost packets then cost little.
const CHECK: Style = Style { patience: millis(1200), retry: Some(millis(150)) };
/// How long others have to say that somebody answers them, before all are told that he does not.
const DOUBT: Duration = millis(1200);
/// The same when he refuses: then only the others' answers are waited for.
const DOUBT_REFUSED: Duration = millis(500);
/// How long everybody has to say that he answers them.
const SUSPICION: Duration = millis(1600);
/// When others than the first are asked.
const ASK_AGAIN: Duration = millis(400);
/// Who are asked at a time.
const HELPERS: usize = 3;
/// An answer this old need not be asked for again.
const FRESH: Duration = millis(500);
/// When what all must hear is said again: a suspicion several times, so that many lost packets don't make one miss it.
const REPEATS: [Duration; 3] = [millis(250), millis(500), millis(800)];
/// How long somebody who hears late of a suspicion has at least to look himself.
const LOOK: Duration = millis(400);
/// When a refutation is said for the second time.
const REPEAT: Duration = millis(250);
/// The least time between two announcements: pir's.
const ANNOUNCE: Duration = millis(1000);
/// What each member adds to that, so that all together send no more than twenty a second.
const ANNOUNCE_EACH: Duration = millis(50);
/// What each adds to the time in which everybody announces once for somebody who hears announcements only.
const WELCOME_EACH: Duration = millis(10);
/// The longest time between two checks of a member that others reach and we don't.
const UNREACHABLE_MOST: Duration = millis(16_000);
/// How long a newcomer may wait to be vouched for with others in one datagram, and what each that is known adds.
const VOUCH: (Duration, Duration) = (millis(120), millis(1));
/// The first and the longest time between two checks of somebody absent.
const ABSENT: (Duration, Duration) = (millis(1000), millis(30_000));
/// How long somebody absent is remembered after he was heard last.
const FORGET: Duration = millis(120_000);
/// Groups up to this size check every newcomer themselves and at once.
const SMALL: usize = 32;
/// Between two lists; and while they bring news, or this member is new here itself and could miss that another dies young.
const LIST: (Duration, Duration) = (millis(5000), millis(1000));
/// Between two checks of random members that are gone, so that parts of a group find together again.
const RETRY: Duration = millis(5000);
/// Our own timers never come so late unless we were stopped.
const LATE: Duration = millis(300);

/// Our rule.
#[derive(Debug)]
pub(in crate::group) struct Evidence {
    group: GroupName,
    own: MemberId,
    version: u32,
    /// Whether this is a member, and not somebody who only watches.
    announces: bool,
    dice: Dice,
    allow: AllowList,
    known: BTreeMap<MemberId, Known>,
    ring: Ring,
    duties: BTreeSet<MemberId>,
    /// How many are members, this one left out.
    members: usize,
    digest: u64,
    /// Those absent who were members and did not say goodbye.
    gone: BTreeSet<MemberId>,
    absent_from: BTreeMap<IpAddr, usize>,
    checks: BTreeMap<CheckId, MemberId>,
    last_check: u64,
    /// Thousandths of checks that may be made beside our duties, as of a moment.
    budget: (u64, Timestamp),
    agenda: BTreeSet<(Timestamp, MemberId)>,
    announced: u32,
    announce_at: Timestamp,
    joined: Timestamp,
    list_at: Timestamp,
    is_listing: bool,
    retry_at: Timestamp,
    /// Whom to vouch for, since when, and when to say so.
    vouches: BTreeMap<MemberId, Timestamp>,
    vouch_at: Timestamp,
    /// Of which suspects all are told again, and when.
    repeats: BTreeSet<(Timestamp, MemberId)>,
    refuted: Timestamp,
    refute_again: Timestamp,
    /// Distinct members whose checks failed since anybody answered us, up to a few.
    failing: BTreeSet<MemberId>,
    /// When anybody answered us last.
    last_success: Timestamp,
    /// Goodbyes that are still to be said, and when.
    goodbyes: Option<(u8, Timestamp)>,
    outputs: VecDeque<Output>,
}

impl Evidence {
    /// A membership that announces at once.
    pub(in crate::group) fn new(config: &Config, own: MemberId, seed: u64, now: Timestamp) -> Self {
        let announces = config.service.is_some();
        let mut dice = Dice(seed);
        let retry_at = now.after(dice.between(Duration::ZERO, RETRY));
        Self {
            group: config.name.clone(),
            own,
            version: 1,
            announces,
            dice,
            allow: AllowList::new(config.allow.clone()),
            known: BTreeMap::new(),
            ring: Ring::new(own, announces),
            duties: BTreeSet::new(),
            members: 0,
            digest: 0,
            gone: BTreeSet::new(),
            absent_from: BTreeMap::new(),
            checks: BTreeMap::new(),
            last_check: 0,
            budget: (limits::OWN_CHECKS_BURST * 1000, now),
            agenda: BTreeSet::new(),
            announced: 0,
            announce_at: if announces { now } else { Timestamp::NEVER },
            joined: now,
            list_at: Timestamp::NEVER,
            is_listing: false,
            retry_at,
            vouches: BTreeMap::new(),
            vouch_at: Timestamp::NEVER,
            repeats: BTreeSet::new(),
            refuted: Timestamp::ZERO,
            refute_again: Timestamp::NEVER,
            failing: BTreeSet::new(),
            last_success: now,
            goodbyes: None,
            outputs: VecDeque::new(),
        }
    }

    pub(in crate::group) fn members(&self) -> Vec<Member> {
        self.known.values().filter(|known| known.is_member()).map(Known::describe).collect()
    }

    /// How long until the next announcement, as large as the group is now, with those who have not answered yet: in a large
    /// group that starts at once nobody has.
    fn announce_every(&self) -> Duration {
        ANNOUNCE.max(ANNOUNCE_EACH * (self.known.len() as u32 + 1))
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn say(&mut self, message: Message, to: To) {
        self.outputs.push_back(Output::Tell { message, to });
    }

    /// Puts the next thing to do about somebody on the agenda.
    fn rearm(&mut self, id: MemberId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let due = known.due();
        if due == known.armed {
            return;
        }
        self.agenda.remove(&(known.armed, id));
        known.armed = due;
        if due != Timestamp::NEVER {
            self.agenda.insert((due, id));
        }
    }

    /// Somebody answered, us or a member.
    fn promote(&mut self, now: Timestamp, id: MemberId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        known.state = State::Healthy;
        known.failures = 0;
        known.is_unreachable = false;
        known.until = Timestamp::NEVER;
        known.next_check = Timestamp::NEVER;
        let (counted_at, speaks) = (known.counted_at.take(), known.speaks());
        self.digest ^= super::known::digest(&known.entry);
        let member = known.describe();
        self.count_out(counted_at);
        self.gone.remove(&id);
        self.members += 1;
        self.ring.put(id, speaks);
        self.share_out(now);
        self.rearm(id);
        self.tell(Event::Added(member));
        if speaks && self.list_at == Timestamp::NEVER {
            self.list_at = now.after(self.dice.between(Duration::ZERO, millis(200)));
        }
        if !speaks && self.announces {
            let most = WELCOME_EACH * (self.members as u32 + 1);
            let soon = now.after(self.dice.between(Duration::ZERO, most));
            self.announce_at = self.announce_at.min(soon);
        }
    }

    /// A member is one no more.
    fn remove(&mut self, now: Timestamp, id: MemberId, reason: Reason) {
        let Some(known) = self.known.get_mut(&id).filter(|known| known.is_member()) else { return };
        let has_left = reason == Reason::Left;
        let member = known.describe();
        known.state = State::Absent { was_member: true, has_left };
        known.failures = 1;
        known.is_duty = false;
        known.answered = None;
        known.vouched = None;
        known.until = now.after(FORGET);
        known.next_check = Timestamp::NEVER;
        known.askers.clear();
        let address = known.entry.health.at.ip();
        known.counted_at = Some(address);
        self.digest ^= super::known::digest(&known.entry);
        *self.absent_from.entry(address).or_default() += 1;
        if !has_left {
            self.gone.insert(id);
        }
        self.failing.remove(&id);
        self.members -= 1;
        self.ring.remove(id);
        self.duties.remove(&id);
        self.share_out(now);
        self.rearm(id);
        self.tell(Event::Removed(member, reason));
    }

    /// Finds out anew whose checks are ours.
    fn share_out(&mut self, now: Timestamp) {
        let duties = self.ring.targets();
        if duties == self.duties {
            return;
        }
        let old = std::mem::replace(&mut self.duties, duties.clone());
        for id in old.difference(&duties) {
            if let Some(known) = self.known.get_mut(id) {
                known.is_duty = false;
                if known.state == State::Healthy {
                    known.next_check = Timestamp::NEVER;
                }
            }
            self.rearm(*id);
        }
        for id in duties.difference(&old) {
            let first = now.after(self.dice.between(Duration::ZERO, PERIOD));
            if let Some(known) = self.known.get_mut(id) {
                known.is_duty = true;
                known.next_check = known.next_check.min(first);
            }
            self.rearm(*id);
        }
    }

    /// One absent less at this address.
    fn count_out(&mut self, counted_at: Option<IpAddr>) {
        if let Some(address) = counted_at
            && let Some(count) = self.absent_from.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.absent_from.remove(&address);
            }
        }
    }

    /// We did not run for a while: what was due then proves nothing, and everybody gets that time again.
    fn make_up_for(&mut self, now: Timestamp, lost: Duration) {
        self.checks.clear();
        let again: Vec<MemberId> = self.known.keys().copied().collect();
        for id in again {
            let jitter = self.dice.between(Duration::ZERO, millis(200));
            let Some(known) = self.known.get_mut(&id) else { continue };
            let was_checked = known.in_flight.take().is_some();
            known.askers.clear();
            match &mut known.state {
                State::Doubted { .. } => {
                    known.state = State::Healthy;
                    known.until = Timestamp::NEVER;
                    known.next_check = now.after(jitter);
                }
                State::Suspect { .. } => {
                    known.until = known.until.after(lost).max(now.after(SUSPICION));
                    known.next_check = now.after(jitter);
                }
                _ if was_checked || known.next_check <= now => known.next_check = now.after(jitter),
                _ => {}
            }
            self.rearm(id);
        }
        self.failing.clear();
    }
}

impl Machine for Evidence {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        if let Some(lost) = self.deadline().map(|deadline| now.since(deadline)).filter(|lost| *lost > LATE) {
            self.make_up_for(now, lost);
        }
        match input {
            Input::Announced { announcement, from } if announcement.group == self.group => {
                let entry = Entry {
                    member: announcement.member,
                    version: 0,
                    port: 0,
                    health: announcement.health,
                    service: announcement.service,
                    check: None,
                };
                self.on_introduced(now, entry, from);
            }
            Input::Told { told, from } if told.group == self.group => self.on_told(now, told, from),
            Input::Announced { .. } | Input::Told { .. } => {}
            Input::Checked { check, outcome } => self.on_checked(now, check, outcome),
            Input::Listed { from, list } => self.on_listed(now, from, list),
            Input::Interfaces(interfaces) => {
                let is_first = self.announced == 0;
                self.allow.note_interfaces(&interfaces);
                if !is_first && self.announces {
                    self.version += 1;
                    self.announce_at = now;
                }
            }
            Input::Leave if self.announces => self.goodbyes = Some((3, now)),
            Input::Leave => self.outputs.push_back(Output::Left),
            Input::Timeout => self.on_time(now),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let agenda = self.agenda.first().map(|(at, _)| *at);
        let repeat = self.repeats.first().map(|(at, _)| *at);
        let goodbye = self.goodbyes.map(|(_, at)| at);
        let others = [self.announce_at, self.list_at, self.retry_at, self.vouch_at, self.refute_again];
        agenda
            .into_iter()
            .chain(repeat)
            .chain(goodbye)
            .chain(others)
            .min()
            .filter(|at| *at != Timestamp::NEVER)
    }
}
