//! What time brings: checks, announcements, lists, and the ends of doubts and suspicions.

use super::*;

impl Evidence {
    pub(super) fn on_time(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) {
            self.on_due(now, id);
        }
        if self.announce_at <= now {
            let every = self.announce_every();
            self.announced = self.announced.saturating_add(1);
            self.announce_at = now.after(self.dice.jitter(every));
            self.outputs.push_back(Output::Announce { version: self.version });
        }
        if self.list_at <= now {
            self.fetch_list(now);
        }
        if self.retry_at <= now {
            self.retry_at = now.after(self.dice.jitter(RETRY));
            if !self.gone.is_empty() {
                let place = self.dice.below(self.gone.len());
                let id = self.gone.iter().nth(place).copied();
                id.into_iter().for_each(|id| self.check(now, id));
            }
        }
        if self.vouch_at <= now {
            self.say_vouches();
        }
        while let Some((at, id)) = self.repeats.first().copied().filter(|(at, _)| *at <= now) {
            self.repeats.remove(&(at, id));
            if let Some(State::Suspect { since, .. }) = self.known.get(&id).map(|known| known.state) {
                let age_ms = u16::try_from(now.since(since).as_millis()).unwrap_or(u16::MAX);
                self.say(Message::Suspect(vec![(id, age_ms)]), To::All);
            }
        }
        if self.refute_again <= now {
            self.refute_again = Timestamp::NEVER;
            self.outputs.push_back(Output::Refute { version: self.version });
        }
        if let Some((left, _)) = self.goodbyes.filter(|(_, at)| *at <= now) {
            self.goodbyes = left.checked_sub(1).map(|left| (left, now.after(millis(100))));
            match left {
                0 => self.outputs.push_back(Output::Left),
                _ => self.say(Message::Leave, To::All),
            }
        }
    }

    /// Something is due about somebody.
    fn on_due(&mut self, now: Timestamp, id: MemberId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        if known.until <= now {
            self.on_end_of_state(now, id);
        } else if let State::Doubted { since, ask_at } = known.state
            && ask_at <= now
        {
            known.state = State::Doubted { since, ask_at: Timestamp::NEVER };
            self.ask(id);
        } else {
            self.check(now, id);
        }
        self.rearm(id);
    }

    fn on_end_of_state(&mut self, now: Timestamp, id: MemberId) {
        let is_us = self.nobody_answers(now);
        let window = ANNOUNCE.mul_f64(2.0).max(self.announce_every().mul_f64(1.5));
        let Some(known) = self.known.get_mut(&id) else { return };
        known.until = Timestamp::NEVER;
        let is_heard = now.since(known.heard) <= window;
        match known.state {
            State::Absent { was_member, .. } => {
                let counted_at = known.counted_at.take();
                if let Some(check) = known.in_flight {
                    self.checks.remove(&check);
                }
                self.agenda.remove(&(known.armed, id));
                self.known.remove(&id);
                self.count_out(counted_at);
                if was_member {
                    self.gone.remove(&id);
                }
            }
            State::Doubted { .. } | State::Suspect { is_confirmed: false, .. } if is_us && is_heard => {
                self.reach_not(now, id);
            }
            State::Doubted { .. } => {
                self.accuse(now, id, Duration::ZERO, false);
                self.say(Message::Suspect(vec![(id, 0)]), To::All);
                self.repeats.extend(REPEATS.map(|later| (now.after(later), id)));
            }
            State::Suspect { .. } => {
                let reason = if known.has_failed { Reason::Failed } else { Reason::Silent };
                self.remove(now, id, reason);
            }
            State::Healthy => {}
        }
    }

    /// A member is well, but not for us: it is checked less often, and after some rounds said to be unreachable.
    pub(super) fn reach_not(&mut self, now: Timestamp, id: MemberId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let was_suspect = matches!(known.state, State::Suspect { .. });
        known.state = State::Healthy;
        known.until = Timestamp::NEVER;
        known.failures = known.failures.saturating_add(1);
        let back_off = known.back_off(PERIOD, UNREACHABLE_MOST);
        known.next_check = if known.is_duty { now.after(back_off) } else { Timestamp::NEVER };
        let was_unreachable = known.is_unreachable;
        known.is_unreachable |= known.failures >= 3;
        if was_suspect || known.is_unreachable != was_unreachable {
            let member = known.describe();
            self.tell(Event::Changed(member));
        }
        self.rearm(id);
    }

    /// A member answers nobody, as we or another found so long ago.
    pub(super) fn accuse(&mut self, now: Timestamp, id: MemberId, age: Duration, by_another: bool) {
        let left = SUSPICION.saturating_sub(age).max(LOOK);
        let look = now.after(self.dice.between(Duration::ZERO, left / 4));
        let echo = now.after(self.dice.between(Duration::ZERO, millis(500)));
        let Some(known) = self.known.get_mut(&id) else { return };
        if let State::Suspect { is_confirmed, .. } = &mut known.state {
            *is_confirmed |= by_another;
        }
        if !matches!(known.state, State::Healthy | State::Doubted { .. }) {
            return;
        }
        if known.state == State::Healthy {
            known.has_failed = false;
        }
        let is_shared = known.is_duty && known.state != State::Healthy;
        let since = Timestamp::from_nanos(now.as_nanos().saturating_sub(age.as_nanos() as u64));
        known.state = State::Suspect { since, is_extended: false, is_confirmed: by_another };
        known.until = now.after(left);
        known.next_check = known.next_check.min(look);
        let member = known.describe();
        self.tell(Event::Suspect(member));
        // Who found the same says it, too.
        if is_shared {
            self.repeats.insert((echo, id));
        }
        self.rearm(id);
    }
}
