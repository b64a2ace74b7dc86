//! Leaders of groups: of those that stand in a group, the one with the smallest identity, as in zyre.
//!
//! Who stands says so to every member, itself: ELECT with its own identity. All know all, so all come to the same result
//! without counting answers; and when members come, go or are cut off, each side goes on by itself at once. A result is
//! told when nothing has changed for one beacon interval, so that a node that starts does not first lead alone.
//!
//! zyre counts: in one wave each node says ELECT once to each other one, and LEADER likewise when the one who stands has
//! heard all of them. We do that for its sake, so that its count is complete: a wave of ours or of others is passed on
//! once to each zyre. Nothing is said to nodes that may not understand it (pyre would take it for a lost message, gyre
//! would panic): that is all but Hailers, and those that spoke of elections themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::NodeMachine;
use crate::Timestamp;
use crate::zre::message::Body;
use crate::zre::{Event, PeerId, Text};

/// The elections of all groups that somebody stands in.
#[derive(Debug, Default)]
pub(super) struct Elections {
    /// The groups that we stand in, when we are in them.
    contested: BTreeSet<Text>,
    groups: BTreeMap<Text, Election>,
}

/// The election of one group.
#[derive(Debug, Default)]
struct Election {
    /// Members that said that they stand.
    candidates: BTreeSet<PeerId>,
    /// Who was told to the application last.
    leader: Option<PeerId>,
    /// When the result is told, if nothing changes before.
    due: Option<Timestamp>,
    wave: Option<Wave>,
}

/// One wave among nodes that count.
#[derive(Debug)]
struct Wave {
    /// For whom.
    id: PeerId,
    /// To whom of those that count ELECT was said.
    told: BTreeSet<PeerId>,
    /// Who of those that count has said ELECT.
    echoes: BTreeSet<PeerId>,
    /// Whether LEADER was said, by us.
    is_leader_told: bool,
    /// Who of those that count has said LEADER. When all have, the wave is over.
    leaders: BTreeSet<PeerId>,
}

impl Wave {
    fn new(id: PeerId) -> Self {
        Self {
            id,
            told: BTreeSet::new(),
            echoes: BTreeSet::new(),
            is_leader_told: false,
            leaders: BTreeSet::new(),
        }
    }
}

impl Elections {
    pub(super) fn new(contested: &[Text]) -> Self {
        Self { contested: contested.iter().cloned().collect(), groups: BTreeMap::new() }
    }

    pub(super) fn due(&self) -> Timestamp {
        self.groups.values().filter_map(|election| election.due).min().unwrap_or(Timestamp::NEVER)
    }
}

impl NodeMachine {
    /// Who leads a group, as far as it was told.
    pub fn leader(&self, group: &Text) -> Option<PeerId> {
        self.elections.groups.get(group)?.leader
    }

    /// We stand in a group and are in it.
    fn is_standing(&self, group: &Text) -> bool {
        self.elections.contested.contains(group) && self.own.contains(group)
    }

    /// Whether a peer knows ELECT, LEADER and GOODBYE, which are zyre's own: pyre and gyre do not bear them.
    pub(super) fn understands_zyres_own(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.knows_elections || peer.is_hailer())
    }

    /// The members that understand, without those who are Hailers if only those that count are meant.
    fn electors(&self, group: &Text, only_counting: bool) -> Vec<PeerId> {
        let members = self.members.of(group).filter(|id| self.understands_zyres_own(*id));
        members.filter(|id| !only_counting || !self.peers[id].is_hailer()).collect()
    }

    pub(super) fn on_own_groups_changed(&mut self, now: Timestamp, group: &Text) {
        if self.is_standing(group) {
            self.stand(group, None);
        } else if !self.own.contains(group)
            && let Some(election) = self.elections.groups.get_mut(group)
        {
            election.leader = None;
        }
        self.reconsider(now, group);
    }

    pub(super) fn on_member_joined(&mut self, now: Timestamp, id: PeerId, group: &Text) {
        if self.is_standing(group) && self.understands_zyres_own(id) {
            self.stand(group, Some(id));
            self.reconsider(now, group);
        }
    }

    /// A fresh link is an EXIT and an ENTER to the peer, so it has forgotten where we stand.
    pub(super) fn stand_again(&mut self, id: PeerId) {
        if !self.understands_zyres_own(id) {
            return;
        }
        let groups: Vec<Text> = self.elections.contested.iter().cloned().collect();
        for group in groups.iter().filter(|group| self.is_standing(group)).collect::<Vec<_>>() {
            if self.members.of(group).any(|member| member == id) {
                self.stand(group, Some(id));
            }
        }
    }

    pub(super) fn on_member_left(&mut self, now: Timestamp, id: PeerId, group: &Text) {
        let Some(election) = self.elections.groups.get_mut(group) else { return };
        let was_candidate = election.candidates.remove(&id);
        // zyre begins anew, too.
        let was_counted = election.wave.take().is_some();
        if was_counted && self.is_standing(group) {
            self.stand(group, None);
        }
        if was_candidate {
            self.reconsider(now, group);
        }
    }

    pub(super) fn on_elect(&mut self, now: Timestamp, from: PeerId, group: &Text, challenger: &Text) {
        let Some(challenger) = challenger.as_str().and_then(|text| text.parse().ok()) else { return };
        self.note_elector(from);
        let is_member = self.members.of(group).any(|id| id == from);
        if !is_member || self.elections_are_full(group) {
            return;
        }
        let election = self.elections.groups.entry(group.clone()).or_default();
        if challenger == from && election.candidates.insert(from) {
            self.reconsider(now, group);
        }
        if self.own.contains(group) && !self.electors(group, true).is_empty() {
            self.pass_on(group, challenger, from);
        }
    }

    pub(super) fn on_leader(&mut self, from: PeerId, group: &Text, leader: &Text) {
        let Some(leader) = leader.as_str().and_then(|text| text.parse().ok()) else { return };
        self.note_elector(from);
        let counting = self.electors(group, true);
        let Some(election) = self.elections.groups.get_mut(group) else { return };
        let Some(wave) = election.wave.as_mut().filter(|wave| wave.id == leader) else { return };
        wave.leaders.insert(from);
        let is_first = !std::mem::replace(&mut wave.is_leader_told, true);
        if counting.iter().all(|id| wave.leaders.contains(id)) {
            election.wave = None;
        }
        if is_first {
            self.say_leader(group, leader);
        }
    }

    /// A peer that speaks of elections understands them: it learns where we stand.
    fn note_elector(&mut self, id: PeerId) {
        if self.understands_zyres_own(id) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.knows_elections = true;
        let common: Vec<Text> = peer.groups.iter().cloned().collect();
        for group in common.iter().filter(|group| self.is_standing(group)).collect::<Vec<_>>() {
            self.stand(group, Some(id));
        }
    }

    /// Says that we stand: to one newcomer, or to all; and, when there are nodes that count, in a new wave.
    fn stand(&mut self, group: &Text, newcomer: Option<PeerId>) {
        let counting = self.electors(group, true);
        let election = self.elections.groups.entry(group.clone()).or_default();
        let electors = match newcomer {
            Some(newcomer) if counting.is_empty() => vec![newcomer],
            _ => {
                let is_ours_smallest = election.candidates.first().is_none_or(|first| *first > self.id);
                election.wave = (!counting.is_empty() && is_ours_smallest).then(|| Wave::new(self.id));
                self.electors(group, false)
            }
        };
        for id in electors {
            self.say(id, Body::Elect { group: group.clone(), challenger: self.id.to_string().into() });
        }
    }

    /// Takes part in a wave: passes it on once to each that counts, and ends our own when all have answered.
    fn pass_on(&mut self, group: &Text, challenger: PeerId, from: PeerId) {
        let counting = self.electors(group, true);
        let is_beaten = self.is_standing(group) && self.id < challenger;
        let Some(election) = self.elections.groups.get_mut(group) else { return };
        if is_beaten {
            // Ours goes on, or begins: whoever stands hears of it and gives up.
            if election.wave.is_none() {
                self.stand(group, None);
            }
            return;
        }
        let is_new = election.wave.as_ref().is_none_or(|wave| {
            // Who stands says so once in a wave: a second time, it has begun anew.
            challenger < wave.id || wave.id == challenger && from == challenger && wave.echoes.contains(&from)
        });
        if is_new {
            election.wave = Some(Wave::new(challenger));
        }
        let Some(wave) = election.wave.as_mut().filter(|wave| wave.id == challenger) else { return };
        wave.echoes.insert(from);
        let is_complete = counting.iter().all(|id| wave.echoes.contains(id));
        let is_ours = challenger == self.id;
        let is_won = is_ours && is_complete && !std::mem::replace(&mut wave.is_leader_told, true);
        // Some are known to count only since they spoke of it.
        let untold: Vec<PeerId> =
            counting.into_iter().filter(|id| !is_ours && wave.told.insert(*id)).collect();
        for id in untold {
            self.say(id, Body::Elect { group: group.clone(), challenger: challenger.to_string().into() });
        }
        if is_won {
            self.say_leader(group, self.id);
        }
    }

    fn say_leader(&mut self, group: &Text, leader: PeerId) {
        for id in self.electors(group, false) {
            self.say(id, Body::Leader { group: group.clone(), leader: leader.to_string().into() });
        }
    }

    /// ELECT and LEADER of a group that nobody can name are never sent: JOIN would not have fitted either.
    fn say(&mut self, id: PeerId, body: Body) {
        if let Body::Elect { group, .. } | Body::Leader { group, .. } = &body
            && group.len() <= crate::zre::message::TEXT_MAX
        {
            self.send(id, body);
        }
    }

    /// Whether strangers have made us hold an election for as many groups as one peer may be in.
    fn elections_are_full(&self, group: &Text) -> bool {
        self.elections.groups.len() >= self.limits.groups_per_peer
            && !self.elections.groups.contains_key(group)
    }

    /// Something changed: the result is told a little later, if it is another one then.
    fn reconsider(&mut self, now: Timestamp, group: &Text) {
        let due = now.after(self.interval);
        let is_standing = self.is_standing(group);
        let own = self.own.contains(group);
        let Some(election) = self.elections.groups.get_mut(group) else { return };
        if election.candidates.is_empty() && !is_standing {
            self.elections.groups.remove(group);
            return;
        }
        election.due = own.then_some(due);
        self.check_by(due);
    }

    /// Tells what elections have come to.
    pub(super) fn check_elections(&mut self, now: Timestamp) {
        let is_due = |(_, election): &(&Text, &Election)| election.due.is_some_and(|due| due <= now);
        let due: Vec<Text> =
            self.elections.groups.iter().filter(is_due).map(|(group, _)| group.clone()).collect();
        for group in due {
            let own = self.is_standing(&group).then_some(self.id);
            let Some(election) = self.elections.groups.get_mut(&group) else { continue };
            election.due = None;
            let leader = election.candidates.first().copied().into_iter().chain(own).min();
            let is_news = leader != election.leader;
            election.leader = leader;
            if let (true, Some(peer)) = (is_news, leader) {
                let name =
                    self.peers.get(&peer).map_or_else(|| self.name.clone(), crate::zre::peer::Peer::name);
                self.event(Event::Leader { peer, name, group });
            }
        }
    }
}
