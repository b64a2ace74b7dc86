//! Whose pool is filled next, and when: hosts that come to a relay all at once, because it has restarted, take turns.
//!
//! It knows how many connections come that nobody waits for. Those that a client waits for are no business of this.

use std::collections::VecDeque;
use std::time::Duration;

use super::ConnectionId;
use crate::Timestamp;

/// How many connections of hosts come in a second, if the relay can help it. Hosts come when they come, so pools wait
/// until they have.
const PER_SECOND: u32 = 1000;

/// Hosts whose pools are to be filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    waiting: VecDeque<ConnectionId>,
    /// When as many connections have come as may.
    until: Timestamp,
}

impl Filling {
    /// So many connections come now.
    pub(super) fn count(&mut self, now: Timestamp, connections: usize) {
        let each = Duration::from_secs(1) / PER_SECOND;
        let count = u32::try_from(connections).unwrap_or(u32::MAX);
        self.until = self.until.max(now).after(each.saturating_mul(count));
    }

    /// This host's pool is to be filled when it is its turn.
    pub(super) fn add(&mut self, control: ConnectionId) {
        self.waiting.push_back(control);
    }

    /// The host whose turn it is; its connections are to be counted.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<ConnectionId> {
        if self.until <= now { self.waiting.pop_front() } else { None }
    }

    /// When it is somebody's turn.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        (!self.waiting.is_empty()).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_when_what_has_come_is_paid_for() {
        let mut filling = Filling::default();
        let at = Timestamp::from_millis;
        assert_eq!(filling.deadline(), None);
        for host in 1..=10 {
            filling.count(at(5000), 2);
            filling.add(ConnectionId(host));
        }
        assert_eq!((filling.deadline(), filling.next(at(5019))), (Some(at(5020)), None));
        assert_eq!(filling.next(at(5020)), Some(ConnectionId(1)));
        filling.count(at(5020), 3);
        assert_eq!((filling.next(at(5022)), filling.next(at(5023))), (None, Some(ConnectionId(2))));
        // Quiet times are not saved up.
        filling.count(at(9000), 3);
        assert_eq!(filling.next(at(9002)), None);
    }
}
