//! Groups: the ones we are in, with the status number that goes with them, and who is in which.
//!
//! Sending is the machine's.

use std::collections::{BTreeMap, BTreeSet};

use super::{PeerId, Text};

/// The groups that this node is in.
///
/// zyre and pyre abort when a status is not what they counted, so it is exact: one step for each change that peers are
/// told, modulo 256. HELLO carries the number that belongs to the groups it lists.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnGroups {
    groups: BTreeSet<Text>,
    status: u8,
}

impl OwnGroups {
    /// Enters a group; `false` when we are in it already, and then nothing is to be told.
    pub(super) fn join(&mut self, group: Text) -> bool {
        let is_new = self.groups.insert(group);
        self.step(is_new)
    }

    /// Leaves a group; `false` when we are not in it, and then nothing is to be told.
    pub(super) fn leave(&mut self, group: &Text) -> bool {
        let was_in = self.groups.remove(group);
        self.step(was_in)
    }

    fn step(&mut self, is_change: bool) -> bool {
        self.status = self.status.wrapping_add(u8::from(is_change));
        is_change
    }

    /// Whether we are in a group.
    pub(super) fn contains(&self, group: &Text) -> bool {
        self.groups.contains(group)
    }

    /// The status that belongs to the groups as they are.
    pub(super) fn status(&self) -> u8 {
        self.status
    }

    /// The groups, in the order of their bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Text> {
        self.groups.iter()
    }
}

/// Which peers are in which group. A group without members is not held.
#[derive(Debug, Default)]
pub(super) struct Members(BTreeMap<Text, BTreeSet<PeerId>>);

impl Members {
    pub(super) fn add(&mut self, group: &Text, peer: PeerId) {
        self.0.entry(group.clone()).or_default().insert(peer);
    }

    pub(super) fn remove(&mut self, group: &Text, peer: PeerId) {
        if let Some(members) = self.0.get_mut(group) {
            members.remove(&peer);
            if members.is_empty() {
                self.0.remove(group);
            }
        }
    }

    /// The members of a group, in the order of their identities.
    pub(super) fn of(&self, group: &Text) -> impl Iterator<Item = PeerId> {
        self.0.get(group).into_iter().flatten().copied()
    }

    /// The groups that have a member.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Text> {
        self.0.keys()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_counts_changes_and_nothing_else() {
        let mut own = OwnGroups::default();
        assert!(own.join("A".into()) && !own.join("A".into()) && own.join("B".into()));
        assert_eq!(own.status(), 2);
        assert!(own.leave(&"A".into()) && !own.leave(&"A".into()));
        assert_eq!((own.status(), own.iter().count()), (3, 1));
    }

    #[test]
    fn the_status_wraps_at_256() {
        let mut own = OwnGroups::default();
        for _ in 0..128 {
            assert!(own.join("A".into()) && own.leave(&"A".into()));
        }
        assert_eq!(own.status(), 0);
    }

    #[test]
    fn a_group_without_members_is_forgotten() {
        let (peer, group) = (PeerId::from_bytes([1; 16]), Text::from("A"));
        let mut members = Members::default();
        members.add(&group, peer);
        members.add(&group, peer);
        assert_eq!(members.of(&group).collect::<Vec<_>>(), [peer]);
        members.remove(&group, peer);
        members.remove(&group, peer);
        assert_eq!((members.len(), members.of(&group).count()), (0, 0));
    }
}
