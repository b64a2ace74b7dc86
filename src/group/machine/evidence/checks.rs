//! Checks: who is checked when, and what follows from how it comes out.

use super::*;

impl Evidence {
    /// Orders a check, unless one is under way or there is no budget for it.
    pub(super) fn check(&mut self, now: Timestamp, id: MemberId) {
        let pause = self.dice.between(millis(300), millis(700));
        let has_room = self.checks.len() < limits::CHECKS_MAX;
        let is_duty = self.known.get(&id).is_some_and(|known| known.is_duty);
        let is_under_way = self.known.get(&id).is_none_or(|known| known.in_flight.is_some());
        let may = is_under_way || (has_room && (is_duty || self.spend(now)));
        let Some(known) = self.known.get_mut(&id) else { return };
        if !may {
            known.next_check = now.after(pause);
            return self.rearm(id);
        }
        known.next_check = Timestamp::NEVER;
        if !is_under_way {
            self.last_check += 1;
            let check = CheckId(self.last_check);
            known.in_flight = Some(check);
            self.checks.insert(check, id);
            let targets = known.targets();
            self.outputs.push_back(Output::Check { check, targets, style: CHECK });
        }
        self.rearm(id);
    }

    /// Takes a check out of the budget of those that are not our duty.
    fn spend(&mut self, now: Timestamp) -> bool {
        let (left, since) = self.budget;
        let gained = now.since(since).as_millis() as u64 * limits::OWN_CHECKS_PER_S;
        let left = left.saturating_add(gained).min(limits::OWN_CHECKS_BURST * 1000);
        let may = left >= 1000;
        self.budget = (if may { left - 1000 } else { left }, now);
        may
    }

    pub(super) fn on_checked(&mut self, now: Timestamp, check: CheckId, outcome: Outcome) {
        let Some(id) = self.checks.remove(&check) else { return };
        let Some(known) = self.known.get_mut(&id).filter(|known| known.in_flight == Some(check)) else {
            return;
        };
        known.in_flight = None;
        match outcome {
            Outcome::Answered(place) => self.on_answer(now, id, place),
            Outcome::Failed => self.on_failure(now, id, true),
            Outcome::Silent => self.on_failure(now, id, false),
        }
        self.rearm(id);
    }

    fn on_answer(&mut self, now: Timestamp, id: MemberId, place: usize) {
        self.failing.clear();
        self.last_success = now;
        let next = now.after(self.dice.jitter(PERIOD));
        let Some(known) = self.known.get_mut(&id) else { return };
        known.answered = Some(now);
        known.failures = 0;
        let mut has_changed = std::mem::take(&mut known.is_unreachable);
        let before = known.is_member().then(|| super::super::known::digest(&known.entry));
        if let Some(other) = place.checked_sub(1).and_then(|place| known.others.get(place)).cloned() {
            // The address that it was checked at is silent, and this one is not.
            has_changed |= (&other.service, other.target()) != (&known.entry.service, known.entry.target());
            let is_news = other.version > known.entry.version;
            known.move_to(other);
            if let Some(before) = before {
                self.digest ^= before ^ super::super::known::digest(&known.entry);
            }
            if is_news {
                self.vouch(now, id, false);
            }
        }
        let Some(known) = self.known.get_mut(&id) else { return };
        let askers = std::mem::take(&mut known.askers);
        let entry = known.entry.clone();
        let state = known.state;
        known.next_check = if known.is_duty { next } else { Timestamp::NEVER };
        match state {
            State::Absent { .. } => {
                let is_ours = self.ring.is_ours(id);
                self.promote(now, id);
                if is_ours {
                    self.vouch(now, id, false);
                }
            }
            State::Healthy | State::Doubted { .. } => {
                known.state = State::Healthy;
                known.until = Timestamp::NEVER;
                if has_changed {
                    let member = known.describe();
                    self.tell(Event::Changed(member));
                }
            }
            State::Suspect { .. } => {
                known.state = State::Healthy;
                known.until = Timestamp::NEVER;
                let member = known.describe();
                self.tell(Event::Changed(member));
                self.vouch(now, id, true);
            }
        }
        for asker in askers {
            self.say(Message::Alive(vec![entry.clone()]), To::One(asker));
        }
    }

    fn on_failure(&mut self, now: Timestamp, id: MemberId, has_failed: bool) {
        if self.failing.len() < 8 && self.known.get(&id).is_some_and(Known::is_member) {
            self.failing.insert(id);
        }
        let Some(known) = self.known.get_mut(&id) else { return };
        known.askers.clear();
        known.has_failed = has_failed;
        match known.state {
            State::Absent { .. } => {
                known.failures = known.failures.saturating_add(1);
                known.next_check = Timestamp::NEVER;
            }
            State::Healthy if known.is_duty => {
                known.state = State::Doubted { since: now, ask_at: now.after(ASK_AGAIN) };
                known.until = now.after(if has_failed { DOUBT_REFUSED } else { DOUBT });
                known.next_check = now.after(millis(50));
                self.ask(id);
            }
            State::Healthy => known.next_check = Timestamp::NEVER,
            State::Doubted { since, .. } => {
                known.next_check = now.after(millis(100));
                if has_failed {
                    known.until = known.until.min(since.after(DOUBT_REFUSED).max(now));
                }
            }
            State::Suspect { .. } => {
                known.next_check = if known.is_duty { now.after(millis(100)) } else { Timestamp::NEVER };
            }
        }
    }

    /// Asks random members of our kind to check somebody.
    pub(super) fn ask(&mut self, id: MemberId) {
        for _ in 0..HELPERS {
            let Some((_, address)) = self.random_speaker(id) else { return };
            self.say(Message::Ask(vec![id]), To::One(address));
        }
    }

    /// A random member of our kind other than one, with the address at which it hears what is for it alone.
    pub(super) fn random_speaker(&mut self, but: MemberId) -> Option<(MemberId, SocketAddr)> {
        let drawn = self.dice.next() as usize;
        let speakers = || {
            let members =
                self.known.iter().filter(|(id, known)| **id != but && known.is_member() && known.speaks());
            members.map(|(id, known)| (*id, SocketAddr::new(known.entry.health.at.ip(), known.entry.port)))
        };
        let count = speakers().count();
        if count == 0 {
            return None;
        }
        speakers().nth(drawn % count)
    }

    /// Whether nobody has answered us for longer than whoever is well takes, and for less than a doubt lasts: then it is us.
    pub(super) fn nobody_answers(&self, now: Timestamp) -> bool {
        self.failing.len() >= 2 && now.since(self.last_success) > PERIOD * 23 / 20
    }
}
