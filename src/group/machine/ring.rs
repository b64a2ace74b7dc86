//! Who checks whom: each member a few others, chosen by their identities.
//!
//! Three circles, on each of which every member has a place that follows from its identity. A member is checked by the next
//! one on each circle that can tell others what it found. So everybody who knows the same members agrees on who checks whom,
//! each checks three and is checked by three, however many there are, and one that comes or goes changes three
//! neighbourhoods. It draws nothing and knows no time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::group::MemberId;

/// How many check each. One may be sick and one may be dead.
pub(super) const CIRCLES: usize = 3;

/// Where everybody is.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    own: MemberId,
    /// Whether this member tells others what it finds. One that only watches does not, and leaves the work to those who do.
    tells: bool,
    /// By place; with whether it can tell others what it found.
    circles: [BTreeMap<u64, (MemberId, bool)>; CIRCLES],
}

impl Ring {
    /// A ring with nobody on it but this member, if it is one that tells.
    pub(super) fn new(own: MemberId, tells: bool) -> Self {
        let mut ring = Self { own, tells, circles: Default::default() };
        if tells {
            ring.put(own, true);
        }
        ring
    }

    /// Puts a member on the ring, or notes whether it can tell.
    pub(super) fn put(&mut self, member: MemberId, can_tell: bool) {
        for (index, circle) in self.circles.iter_mut().enumerate() {
            circle.insert(place(member, index), (member, can_tell));
        }
    }

    /// Takes a member off.
    pub(super) fn remove(&mut self, member: MemberId) {
        for (index, circle) in self.circles.iter_mut().enumerate() {
            circle.remove(&place(member, index));
        }
    }

    /// Whether it is up to this member to check that one, which need not be on the ring.
    pub(super) fn is_ours(&self, member: MemberId) -> bool {
        (0..CIRCLES).any(|index| self.checker(member, index).is_none_or(|checker| checker == self.own))
    }

    /// Whom this member has to check.
    pub(super) fn targets(&self) -> BTreeSet<MemberId> {
        let mut targets = BTreeSet::new();
        if !self.tells && self.circles[0].values().any(|(_, can_tell)| *can_tell) {
            return targets;
        }
        for (index, circle) in self.circles.iter().enumerate() {
            let own = place(self.own, index);
            let before = circle.range(..own).rev();
            let beyond = circle.range((Bound::Excluded(own), Bound::Unbounded)).rev();
            for (_, (member, can_tell)) in before.chain(beyond) {
                targets.insert(*member);
                if *can_tell {
                    break;
                }
            }
        }
        targets
    }

    /// The next one after a member on a circle that can tell; `None` when nobody can.
    fn checker(&self, member: MemberId, index: usize) -> Option<MemberId> {
        let circle = &self.circles[index];
        let at = place(member, index);
        let after = circle.range((Bound::Excluded(at), Bound::Unbounded));
        let found = after.chain(circle.range(..at)).find(|(_, (_, can_tell))| *can_tell);
        found.map(|(_, (found, _))| *found)
    }
}

/// Where a member is on a circle.
fn place(member: MemberId, circle: usize) -> u64 {
    let bits = member.bits();
    let salt = (circle as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix(mix(bits as u64 ^ salt) ^ (bits >> 64) as u64)
}

/// splitmix64's last step.
pub(super) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(number: u64) -> MemberId {
        MemberId::from_bytes((u128::from(mix(number)) << 64 | u128::from(number)).to_be_bytes())
    }

    fn rings(members: &[(u64, bool)]) -> Vec<Ring> {
        let tellers = members.iter().filter(|(_, can_tell)| *can_tell);
        tellers
            .map(|(own, _)| {
                let mut ring = Ring::new(member(*own), true);
                members
                    .iter()
                    .filter(|(other, _)| other != own)
                    .for_each(|(other, can_tell)| ring.put(member(*other), *can_tell));
                ring
            })
            .collect()
    }

    #[test]
    fn each_of_a_thousand_checks_three_and_is_checked_by_three() {
        let members: Vec<_> = (0..1000).map(|number| (number, true)).collect();
        let mut checked: BTreeMap<MemberId, usize> = BTreeMap::new();
        for ring in rings(&members) {
            let targets = ring.targets();
            assert!((1..=CIRCLES).contains(&targets.len()));
            targets.into_iter().for_each(|target| *checked.entry(target).or_default() += 1);
        }
        assert_eq!(checked.len(), 1000);
        assert!(checked.values().all(|count| (1..=CIRCLES).contains(count)));
        assert!(checked.values().filter(|count| **count == CIRCLES).count() > 980);
    }

    #[test]
    fn members_that_can_not_tell_are_checked_and_check_nobody() {
        let rings = rings(&[(1, true), (2, false), (3, false)]);
        assert_eq!(rings.len(), 1);
        assert_eq!(rings[0].targets(), [member(2), member(3)].into());
    }

    #[test]
    fn who_only_watches_checks_everybody_when_nobody_else_does_and_nobody_otherwise() {
        let mut ring = Ring::new(member(0), false);
        ring.put(member(1), false);
        ring.put(member(2), false);
        assert_eq!(ring.targets(), [member(1), member(2)].into());
        assert!(ring.is_ours(member(3)));
        ring.put(member(2), true);
        assert_eq!(ring.targets(), BTreeSet::new());
        assert!(!ring.is_ours(member(1)));
    }

    proptest! {
        #[test]
        fn who_checks_whom_is_the_same_from_both_sides(kinds in proptest::collection::vec(any::<bool>(), 2..40)) {
            let members: Vec<_> = kinds.iter().enumerate().map(|(number, can_tell)| (number as u64, *can_tell)).collect();
            for ring in rings(&members) {
                let targets = ring.targets();
                for (other, _) in &members {
                    let other = member(*other);
                    prop_assert_eq!(targets.contains(&other), other != ring.own && ring.is_ours(other));
                }
            }
        }
    }
}
