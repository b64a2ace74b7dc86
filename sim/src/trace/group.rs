//! What happens in LAN groups.

use hailer::group::MemberId;

use crate::scenario::NodeIndex;

/// Something that happened in a group, on or to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupWhat {
    /// The script switched the node on, which is in the group with this identity.
    Up {
        /// 0 for the node's first life.
        life: u32,
        /// The identity of this life.
        member: MemberId,
        /// It announces itself; otherwise it only watches.
        is_member: bool,
    },
    /// Event ADDED.
    Added(GroupSubject),
    /// Event REMOVED, with the member's own reason for it in words.
    Removed(GroupSubject, &'static str),
    /// Event CHANGED, with its health in a word.
    Changed(GroupSubject, &'static str),
    /// Event SUSPECT.
    Suspect(GroupSubject),
    /// Event LEFT.
    Left,
}

/// Whom an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupSubject {
    /// A node of the scenario, and which of its lives.
    Life(NodeIndex, u32),
    /// An identity that no node of the scenario has had.
    Stranger(MemberId),
}
