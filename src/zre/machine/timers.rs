//! Time: beacons to send, quiet peers, attempts to repeat.
//!
//! The next check is a lower bound: a sign of life only moves what is due away, and does not touch it. So a beacon of a
//! known peer costs a look-up and a store, and the table is walked once every few seconds.

use std::time::Duration;

use super::{NodeMachine, Output};
use crate::Timestamp;
use crate::machine::Machine;
use crate::zre::beacon::Beacon;
use crate::zre::liveness::Sign;
use crate::zre::peer::State;
use crate::zre::{Event, ExitReason, PeerId};

/// A deadline that is kept later than this means that we did not run (a stopped process, a suspended machine). That time
/// is not the peers' silence.
const LATE: Duration = Duration::from_secs(1);

/// The time from the first beacon to the second. Each next one is twice as long, up to the interval: of the six beacons of
/// the first second one at least arrives, where a third of all packets get lost, but once in 1,400 times.
pub(super) const BURST_GAP: Duration = Duration::from_millis(20);

impl NodeMachine {
    pub(super) fn on_timeout(&mut self, now: Timestamp) {
        let late = self.deadline().map_or(Duration::ZERO, |deadline| now.since(deadline));
        if late > LATE {
            self.forgive(late);
        }
        if self.next_beacon <= now {
            let beacon = self.beacon();
            self.output(Output::Beacon(beacon));
            let gap = self.beacon_gap.min(self.interval);
            self.beacon_gap = gap * 2;
            let next = self.next_beacon.after(gap);
            self.next_beacon = if next > now { next } else { now.after(gap) };
        }
        self.check_seeds(now);
        if self.next_check <= now {
            self.check_peers(now);
            self.check_inbound(now);
            self.check_elections(now);
            self.next_check = self.next_due();
        }
    }

    pub(super) fn beacon(&self) -> [u8; Beacon::LEN] {
        Beacon { peer: self.id, port: self.inbox.port }.encode()
    }

    fn forgive(&mut self, span: Duration) {
        for peer in self.peers.values_mut() {
            peer.since = peer.since.after(span);
            peer.liveness.forgive(span);
        }
        for inbound in self.inbound.values_mut() {
            inbound.hello_by = inbound.hello_by.map(|by| by.after(span));
        }
    }

    /// Makes sure that the next check is not later than this.
    pub(super) fn check_by(&mut self, due: Timestamp) {
        self.next_check = self.next_check.min(due);
    }

    fn next_due(&self) -> Timestamp {
        let peers = self.peers.values().map(|peer| peer.due(&self.patience));
        let links = self.inbound.values().filter_map(|inbound| inbound.hello_by);
        peers.chain(links).min().unwrap_or(Timestamp::NEVER).min(self.elections.due())
    }

    fn check_peers(&mut self, now: Timestamp) {
        let is_due = |id: &PeerId| self.peers[id].due(&self.patience) <= now;
        let due: Vec<PeerId> = self.peers.keys().copied().filter(is_due).collect();
        for id in due {
            self.check_peer(now, id);
        }
    }

    fn check_peer(&mut self, now: Timestamp, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.leaves_by.is_some_and(|by| by <= now) {
            return self.exit(now, id, ExitReason::Left);
        }
        if matches!(peer.outbound.state, State::Waiting { until } | State::Listening { until } if until <= now)
        {
            self.dial(id);
        }
        let Some(peer) = self.peers.get(&id) else { return };
        if !peer.is_ready() {
            // Beacons do not keep it: perhaps only our HELLO got lost, and a fresh link heals that.
            if peer.since.after(self.patience.not_ready()) <= now {
                self.exit(now, id, ExitReason::Expired);
            }
            return;
        }
        while let Some(peer) = self.peers.get_mut(&id)
            && let Some(sign) = peer.liveness.check(now, &self.patience)
        {
            let name = peer.name();
            match sign {
                Sign::Ping => self.ping(id, None),
                Sign::Evasive => {
                    self.event(Event::Evasive { peer: id, name });
                    self.reach(id);
                }
                Sign::Silent => self.event(Event::Silent { peer: id, name }),
                Sign::Expired => self.exit(now, id, ExitReason::Expired),
                Sign::Probe => self.ping(id, None),
                Sign::LinkDead => self.renew_link(now, id),
            }
        }
    }

    fn check_inbound(&mut self, now: Timestamp) {
        let late = self.inbound.iter().filter(|(_, inbound)| inbound.hello_by.is_some_and(|by| by <= now));
        let late: Vec<_> = late.map(|(link, _)| *link).collect();
        for link in late {
            self.counters.links_without_hello += 1;
            self.close_inbound(link);
        }
    }
}
