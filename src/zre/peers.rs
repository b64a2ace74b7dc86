//! The peers of a node by identity.
//!
//! Nearly all that happens to a node is a beacon or a message of a known peer, which is looked up first, and in a world of a
//! thousand nodes no cache holds what that touches. So the identities lie side by side, and each peer in a place of its
//! own. Peers come and go seldom: that moves the identities behind them.

use std::ops::Index;

use super::PeerId;
use super::peer::Peer;

/// Peers, in the order of their identities.
#[derive(Debug, Default)]
pub(super) struct Peers {
    ids: Vec<PeerId>,
    /// Each at the place of its identity.
    #[expect(clippy::vec_box, reason = "peers are large, and whoever comes moves those behind")]
    peers: Vec<Box<Peer>>,
}

impl Peers {
    pub(super) const fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn contains_key(&self, id: &PeerId) -> bool {
        self.place(id).is_ok()
    }

    pub(super) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.place(id).ok().map(|place| &*self.peers[place])
    }

    pub(super) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.place(id).ok().map(|place| &mut *self.peers[place])
    }

    /// Adds a peer, or puts it in the place of the one with its identity.
    pub(super) fn insert(&mut self, id: PeerId, peer: Peer) {
        match self.place(&id) {
            Ok(place) => *self.peers[place] = peer,
            Err(place) => {
                self.ids.insert(place, id);
                self.peers.insert(place, Box::new(peer));
            }
        }
    }

    pub(super) fn remove(&mut self, id: &PeerId) -> Option<Box<Peer>> {
        let place = self.place(id).ok()?;
        self.ids.remove(place);
        Some(self.peers.remove(place))
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.peers.clear();
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PeerId> {
        self.ids.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().map(|peer| &**peer)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.iter_mut().map(|peer| &mut **peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.ids.iter().zip(self.values())
    }

    fn place(&self, id: &PeerId) -> Result<usize, usize> {
        self.ids.binary_search(id)
    }
}

impl Index<&PeerId> for Peers {
    type Output = Peer;

    /// # Panics
    /// When there is no such peer.
    fn index(&self, id: &PeerId) -> &Peer {
        self.get(id).expect("the peer is known")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Timestamp;
    use crate::zre::machine::OutboundLink;

    fn id(number: u8) -> PeerId {
        PeerId::from_bytes([number; 16])
    }

    /// A peer that can be told from others by its link.
    fn peer(link: u64) -> Peer {
        Peer::new(Timestamp::ZERO, Vec::new(), OutboundLink::from_number(link))
    }

    proptest! {
        #[test]
        fn they_are_a_map_in_the_order_of_identities(steps in prop::collection::vec((0_u8..12, any::<bool>()), 0..60)) {
            let mut peers = Peers::default();
            let mut expected = std::collections::BTreeMap::new();
            for (link, (number, is_added)) in (0..).zip(steps) {
                if is_added {
                    peers.insert(id(number), peer(link));
                    expected.insert(id(number), link);
                } else {
                    let removed = peers.remove(&id(number)).map(|peer| peer.outbound.link.number());
                    prop_assert_eq!(removed, expected.remove(&id(number)));
                }
                let number_of = |peer: &Peer| peer.outbound.link.number();
                let all: Vec<_> = peers.iter().map(|(id, peer)| (*id, number_of(peer))).collect();
                prop_assert_eq!(all, expected.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(peers.len(), expected.len());
                for number in 0..12 {
                    let link = expected.get(&id(number)).copied();
                    prop_assert_eq!(peers.get(&id(number)).map(number_of), link);
                    prop_assert_eq!(peers.get_mut(&id(number)).map(|peer| number_of(peer)), link);
                    prop_assert_eq!(peers.contains_key(&id(number)), link.is_some());
                }
            }
        }
    }
}
