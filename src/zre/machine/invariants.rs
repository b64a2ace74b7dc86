//! What holds inside a node's machine whatever it was given, for its tests and the fuzz targets.

use super::NodeMachine;

impl NodeMachine {
    /// Panics when a table is over its limit, or two tables contradict each other.
    pub fn assert_sound(&self) {
        let not_ready = self.peers.values().filter(|peer| !peer.is_ready()).count();
        assert_eq!(self.not_ready, not_ready);
        assert!(self.peers.len() <= self.limits.peers && not_ready <= self.limits.peers_not_ready);
        assert!(self.without_hello.len() <= self.limits.links_without_hello);
        assert!(self.inbound.len() <= self.limits.links_without_hello + self.limits.peers);
        assert_eq!(self.inbound.values().filter(|i| i.hello_by.is_some()).count(), self.without_hello.len());
        assert_eq!(self.outbound.len(), self.peers.len(), "one link each");
        assert!(self.places.len() <= self.peers.len());
        for (id, peer) in self.peers.iter() {
            assert_eq!(self.outbound.get(&peer.outbound.link), Some(id));
            assert!(peer.groups.len() <= self.limits.groups_per_peer && peer.endpoints.len() <= 4);
            assert!(peer.groups.iter().all(|group| self.members.of(group).any(|member| member == *id)));
            if let Some(link) = peer.inbound {
                assert!(self.inbound.get(&link).is_some_and(|i| i.peer == *id && i.hello_by.is_none()));
            }
            assert!(*id != self.id);
            assert!(self.next_check <= peer.due(&self.patience), "a deadline is missed");
        }
        let memberships: usize = self.peers.values().map(|peer| peer.groups.len()).sum();
        assert!(self.members.len() <= memberships);
        for (link, inbound) in &self.inbound {
            let is_current = self.peers.get(&inbound.peer).is_some_and(|peer| peer.inbound == Some(*link));
            assert_eq!(is_current, inbound.hello_by.is_none(), "a link counts, or owes its HELLO");
        }
    }
}
