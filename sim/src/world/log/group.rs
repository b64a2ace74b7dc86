//! Who is who in LAN groups, and what members are told.

use hailer::daemon::{Config, RoleEvent};
use hailer::group::{Event, Member, MemberId};

use super::{Author, Log};
use crate::fabric::random::Stream;
use crate::trace::{GroupSubject, GroupWhat, What};

/// Gives a life its identities in groups: those of the file, or drawn from the life's stream.
pub(in crate::world) fn identify(config: &mut Config, random: &mut Stream) {
    for group in &mut config.groups {
        group.identity.get_or_insert_with(|| {
            let mut bytes = [0; 16];
            random.fill(&mut bytes);
            MemberId::from_random(bytes)
        });
    }
}

impl Log {
    /// Every identity that anybody has had in a group.
    pub(in crate::world) fn members(&self) -> Vec<MemberId> {
        self.lock().members.keys().copied().collect()
    }
}

impl Author {
    /// The node begins a life in these groups.
    pub(in crate::world) fn begins_in_groups(&self, config: &Config) {
        for group in &config.groups {
            let Some(member) = group.identity else { continue };
            self.log.lock().members.insert(member, (self.node, self.life));
            let up = GroupWhat::Up { life: self.life, member, is_member: group.service.is_some() };
            self.record(What::Group(group.name.to_string(), up));
        }
    }

    /// Writes down what a role told that has no user of its own.
    pub(in crate::world) fn role_event(&self, event: &RoleEvent) {
        let (group, event) = match event {
            RoleEvent::Group(group, event) => (group, event),
            RoleEvent::Repeater(event) => return self.repeater_event(event),
            _ => return,
        };
        let subject = |member: &Member| {
            let found = self.log.lock().members.get(&member.id).copied();
            found.map_or(GroupSubject::Stranger(member.id), |(node, life)| GroupSubject::Life(node, life))
        };
        let what = match event {
            Event::Added(member) => GroupWhat::Added(subject(member)),
            Event::Removed(member, reason) => GroupWhat::Removed(subject(member), reason.as_str()),
            Event::Changed(member) => GroupWhat::Changed(subject(member), member.health.as_str()),
            Event::Suspect(member) => GroupWhat::Suspect(subject(member)),
            Event::Left => GroupWhat::Left,
            _ => return,
        };
        self.record(What::Group(group.to_string(), what));
    }
}
