//! What others say: of themselves, and of each other.

use super::super::super::message::Told;
use super::*;

impl Evidence {
    pub(super) fn on_told(&mut self, now: Timestamp, told: Told, from: SocketAddr) {
        let Told { sender, message, .. } = told;
        if sender == self.own {
            return;
        }
        if let Message::Here(entry) = message {
            return self.on_introduced(now, entry, from);
        }
        let Some(known) =
            self.known.get_mut(&sender).filter(|known| known.speaks() && known.is_at(from.ip()))
        else {
            return;
        };
        known.heard = now;
        if message == Message::Leave {
            return self.on_goodbye(now, sender);
        }
        // Whoever has not answered a check yet is not believed about others.
        if !known.is_member() {
            return;
        }
        match message {
            Message::Here(_) | Message::Leave => {}
            Message::Alive(entries) => {
                for entry in entries {
                    if entry.member == sender {
                        self.on_refuted(sender);
                    } else if entry.member != self.own {
                        self.on_vouched(now, entry);
                    }
                }
            }
            Message::Suspect(members) => {
                for (id, age_ms) in members {
                    if id == self.own {
                        self.refute(now);
                    } else {
                        self.accuse(now, id, millis(age_ms.into()), true);
                    }
                }
            }
            Message::Ask(members) => {
                for id in members.into_iter().take(limits::ASKED_MAX) {
                    self.on_asked(now, id, from);
                }
            }
        }
    }

    /// Somebody says that he is here.
    pub(super) fn on_introduced(&mut self, now: Timestamp, mut entry: Entry, from: SocketAddr) {
        let id = entry.member;
        let source = Source::Itself(from.ip());
        let permits = |uri: &super::super::super::uri::HealthUri| {
            self.allow.permits(uri.at.ip(), uri.at.port(), source)
        };
        if id == self.own || !permits(&entry.health) || !permits(entry.target()) {
            return;
        }
        if let (SocketAddr::V6(at), SocketAddr::V6(from)) = (&mut entry.health.at, from)
            && at.ip() == from.ip()
        {
            // A link-local address means something together with the interface it was heard on.
            at.set_scope_id(from.scope_id());
        }
        if !self.known.contains_key(&id) {
            if !self.has_room_for(entry.health.at.ip()) {
                return;
            }
            self.insert(now, entry.clone());
        }
        let is_soon = self.known.len() <= SMALL || self.ring.is_ours(id);
        let delay = match is_soon {
            true => millis(20),
            false => self.dice.between(millis(1500), millis(4000)),
        };
        let Some(known) = self.known.get_mut(&id) else { return };
        let is_plain = entry.port == 0;
        if is_plain && known.speaks() && !known.is_at(from.ip()) {
            return;
        }
        known.heard = now;
        match known.state {
            State::Absent { has_left: true, .. } => return,
            State::Absent { .. } => {
                known.until = now.after(FORGET);
                let wait = match known.failures {
                    0 => delay,
                    _ => delay.max(known.back_off(ABSENT.0, ABSENT.1)),
                };
                if known.in_flight.is_none() && known.next_check == Timestamp::NEVER {
                    known.next_check = now.after(wait);
                }
            }
            _ => {}
        }
        // What pir would hear too says nothing new of somebody of our kind.
        if !(is_plain && known.speaks()) {
            self.on_described(now, entry);
        }
        self.rearm(id);
    }

    /// Takes in what somebody says of himself.
    fn on_described(&mut self, now: Timestamp, entry: Entry) {
        let id = entry.member;
        let look = now.after(self.dice.between(Duration::ZERO, PERIOD));
        let Some(known) = self.known.get_mut(&id) else { return };
        if entry.health.at != known.entry.health.at {
            let is_news = entry.version > known.entry.version || (entry.port == 0 && known.entry.port == 0);
            let is_new = known.others.iter().all(|other| other.health.at != entry.health.at);
            // As pir sees it, when there is a choice and nothing is known yet.
            let is_better =
                !known.is_member() && entry.health.at.is_ipv4() && known.entry.health.at.is_ipv6();
            if is_better {
                return known.move_to(entry);
            }
            known.note_other(entry);
            // Where it was before it may be no more.
            if is_news && is_new && known.is_member() {
                known.next_check = known.next_check.min(look);
            }
            return;
        }
        if entry == known.entry || entry.version < known.entry.version {
            return;
        }
        let begins_to_speak = !known.speaks() && entry.port != 0;
        let is_other = (&entry.service, entry.target()) != (&known.entry.service, known.entry.target());
        let before = super::super::known::digest(&known.entry);
        known.entry = entry;
        if known.is_member() {
            self.digest ^= before ^ super::super::known::digest(&known.entry);
            let member = known.describe();
            if begins_to_speak {
                self.ring.put(id, true);
                self.share_out(now);
            }
            if is_other {
                self.tell(Event::Changed(member));
            }
        }
    }

    fn has_room_for(&self, address: IpAddr) -> bool {
        self.known.len() < limits::KNOWN_MAX
            && self.absent_from.get(&address).is_none_or(|count| *count < limits::ABSENT_PER_ADDRESS_MAX)
    }

    fn insert(&mut self, now: Timestamp, entry: Entry) {
        let address = entry.health.at.ip();
        *self.absent_from.entry(address).or_default() += 1;
        let mut known = Known::new(entry, now);
        known.counted_at = Some(address);
        known.until = now.after(FORGET);
        self.known.insert(known.entry.member, known);
    }

    fn on_goodbye(&mut self, now: Timestamp, id: MemberId) {
        self.remove(now, id, Reason::Left);
        if let Some(known) = self.known.get_mut(&id) {
            known.state = State::Absent { was_member: true, has_left: true };
            known.next_check = Timestamp::NEVER;
        }
        self.rearm(id);
    }

    /// Somebody suspect says that he lives. Others still have to reach him, and get the time for it.
    fn on_refuted(&mut self, id: MemberId) {
        if let Some(known) = self.known.get_mut(&id)
            // That the program lives says nothing of a service that is checked by itself.
            && known.entry.check.is_none()
            && let State::Suspect { since, is_extended: false, is_confirmed } = known.state
        {
            known.state = State::Suspect { since, is_extended: true, is_confirmed };
            known.until = known.until.after(SUSPICION);
            self.rearm(id);
        }
    }

    /// A member says that somebody answered him.
    fn on_vouched(&mut self, now: Timestamp, entry: Entry) {
        let id = entry.member;
        let is_permitted = self.allow.permits(entry.health.at.ip(), entry.health.at.port(), Source::Another)
            && self.allow.permits(entry.target().at.ip(), entry.target().at.port(), Source::Another);
        if !self.known.contains_key(&id) {
            if !is_permitted || !self.has_room_for(entry.health.at.ip()) {
                return;
            }
            self.insert(now, entry.clone());
        }
        let Some(known) = self.known.get_mut(&id) else { return };
        known.vouched = Some(now);
        let is_news = is_permitted && entry.version > known.entry.version;
        if is_news && known.is_member() {
            let before = super::super::known::digest(&known.entry);
            let speaks = entry.port != 0;
            match entry.health.at == known.entry.health.at {
                true => known.entry = entry,
                false => known.move_to(entry),
            }
            self.digest ^= before ^ super::super::known::digest(&known.entry);
            let member = known.describe();
            self.ring.put(id, speaks);
            self.share_out(now);
            self.tell(Event::Changed(member));
        } else if is_news {
            known.entry = entry;
        }
        let Some(known) = self.known.get_mut(&id) else { return };
        match known.state {
            State::Absent { has_left: true, .. } | State::Healthy => {}
            State::Absent { .. } => self.promote(now, id),
            State::Doubted { .. } => self.reach_not(now, id),
            State::Suspect { .. } if self.failing.contains(&id) => self.reach_not(now, id),
            State::Suspect { .. } => {
                known.state = State::Healthy;
                known.until = Timestamp::NEVER;
                known.next_check = if known.is_duty { now.after(PERIOD) } else { Timestamp::NEVER };
                let member = known.describe();
                self.tell(Event::Changed(member));
            }
        }
        self.rearm(id);
    }

    /// A member wants to know whether somebody answers us.
    fn on_asked(&mut self, now: Timestamp, id: MemberId, from: SocketAddr) {
        let Some(known) = self.known.get_mut(&id).filter(|known| known.is_member()) else { return };
        if known.answered.is_some_and(|answered| now.since(answered) <= FRESH) {
            let entry = known.entry.clone();
            return self.say(Message::Alive(vec![entry]), To::One(from));
        }
        if known.askers.len() < limits::ASKERS_MAX && !known.askers.contains(&from) {
            known.askers.push(from);
        }
        self.check(now, id);
    }

    /// All are to hear that somebody answered us, unless another says so first. For a suspect that has to be soon.
    pub(super) fn vouch(&mut self, now: Timestamp, id: MemberId, is_urgent: bool) {
        if !self.announces {
            return;
        }
        let most = if is_urgent { VOUCH.0 } else { VOUCH.0 + VOUCH.1 * self.known.len() as u32 };
        self.vouch_at = self.vouch_at.min(now.after(self.dice.between(millis(10), most)));
        self.vouches.insert(id, now);
    }

    pub(super) fn say_vouches(&mut self) {
        self.vouch_at = Timestamp::NEVER;
        let vouches = std::mem::take(&mut self.vouches);
        let entries = vouches.iter().filter_map(|(id, since)| {
            let known = self.known.get(id).filter(|known| known.is_member())?;
            let is_said = known.vouched.is_some_and(|vouched| vouched >= *since);
            (!is_said).then(|| known.entry.clone())
        });
        let entries: Vec<_> = entries.collect();
        if !entries.is_empty() {
            self.say(Message::Alive(entries), To::All);
        }
    }

    /// Somebody told all that we are suspect.
    fn refute(&mut self, now: Timestamp) {
        if self.announces && now.since(self.refuted) >= REPEAT {
            self.refuted = now;
            self.refute_again = now.after(REPEAT);
            self.outputs.push_back(Output::Refute { version: self.version });
        }
    }

    /// What a member that knows this digest is to be told: nothing when it knows the same.
    pub(in crate::group) fn list(&self, digest: u64) -> List {
        if digest == self.own_digest() {
            return List::default();
        }
        let members = self.known.values().filter(|known| known.is_member());
        List {
            entries: members.map(|known| known.entry.clone()).collect(),
            gone: self.gone.iter().copied().collect(),
        }
    }

    /// The digest of everybody we know, ourselves included.
    fn own_digest(&self) -> u64 {
        let own = super::super::known::digest_of(self.own, self.version);
        if self.announces { self.digest ^ own } else { self.digest }
    }

    pub(super) fn fetch_list(&mut self, now: Timestamp) {
        let is_new_here = now.since(self.joined) < LIST.0;
        self.list_at = now.after(self.dice.jitter(if is_new_here { LIST.1 } else { LIST.0 }));
        if self.is_listing {
            return;
        }
        let Some((from, _)) = self.random_speaker(self.own) else { return };
        let Some(known) = self.known.get(&from) else { return };
        self.is_listing = true;
        let (at, digest) = (known.entry.health.at, self.own_digest());
        self.outputs.push_back(Output::FetchList { from, at, digest });
    }

    pub(super) fn on_listed(&mut self, now: Timestamp, from: MemberId, list: Option<List>) {
        self.is_listing = false;
        let Some(list) = list.filter(|_| self.known.get(&from).is_some_and(Known::is_member)) else { return };
        let mut has_news = false;
        for entry in list.entries {
            let id = entry.member;
            if id == self.own {
                continue;
            }
            let Some(known) = self.known.get_mut(&id) else {
                let before = self.members;
                self.on_vouched(now, entry);
                has_news |= self.members > before;
                continue;
            };
            match known.state {
                State::Absent { was_member: false, has_left: false } => {
                    self.on_vouched(now, entry);
                    has_news = true;
                }
                // The other may not know yet that it is gone, or that it is back.
                State::Absent { has_left: false, .. } => {
                    let look = now.after(self.dice.between(millis(20), millis(1000)));
                    known.next_check = known.next_check.min(look);
                    self.rearm(id);
                }
                State::Healthy if entry.version > known.entry.version => self.on_vouched(now, entry),
                _ => {}
            }
        }
        for id in list.gone {
            let is_old = |known: &&mut Known| {
                known.state == State::Healthy
                    && known.last_answer().is_none_or(|answer| now.since(answer) > LIST.0)
            };
            if self.known.get_mut(&id).filter(is_old).is_some() {
                self.accuse(now, id, Duration::ZERO, true);
            }
        }
        if has_news {
            self.list_at = self.list_at.min(now.after(self.dice.jitter(LIST.1)));
        }
    }
}
