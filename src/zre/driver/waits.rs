//! Holds an answer to the application back until the peers that its message goes to have room again.
//!
//! So an application is as fast as the slowest peer that takes anything; one that takes nothing at all is dropped.

use std::time::Duration;

use super::link::Outbound;
use super::{Asker, Driver};
use crate::Timestamp;
use crate::net::Net;
use crate::zre::CommandError;
use crate::zre::machine::OutboundLink;

/// How long a peer whose queue is half full may take nothing, when the application waits for it. Long enough for some
/// packets that are lost in a row.
const HOLD: Duration = Duration::from_secs(3);

/// An answer that waits until its message's links are half full no more.
pub(super) struct Held {
    asker: Asker,
    answer: Result<usize, CommandError>,
    pub(super) until: Timestamp,
    /// Each with the number of messages that it had taken.
    links: Vec<(OutboundLink, usize)>,
}

impl<N: Net> Driver<N> {
    /// Answers the application, now or when there is room again in the queues that its message went to.
    pub(super) fn answer(&mut self, asker: Asker, answer: Result<usize, CommandError>) {
        let links = std::mem::take(&mut self.busy).into_iter().filter_map(|link| {
            let outbound = self.outbound.get(&link)?;
            outbound.await_room().then(|| (link, outbound.taken()))
        });
        let links: Vec<_> = links.collect();
        if links.is_empty() {
            let _ = asker.send(answer);
        } else {
            self.held.push(Held { asker, answer, until: self.net.now().after(HOLD), links });
        }
    }

    /// A link is half full, and nobody waits to hear so: who sends next is to wait.
    pub(super) fn crowd(&mut self, link: OutboundLink) {
        if self.outbound.get(&link).is_some_and(Outbound::await_room) && self.crowded.insert(link) {
            self.shared.roster.set_crowded(true);
        }
    }

    /// Nobody has to wait for this link any more.
    pub(super) fn release(&mut self, link: OutboundLink) {
        if self.crowded.remove(&link) {
            self.shared.roster.set_crowded(!self.crowded.is_empty());
        }
        for held in &mut self.held {
            held.links.retain(|(other, _)| *other != link);
        }
        for held in self.held.extract_if(.., |held| held.links.is_empty()) {
            let _ = held.asker.send(held.answer);
        }
    }

    /// Ends the wait of those who waited for long. A link that took nothing in that time is too slow.
    pub(super) fn end_waits(&mut self, now: Timestamp) {
        for held in self.held.extract_if(.., |held| held.until <= now) {
            for (link, taken) in held.links {
                let is_stuck = self.outbound.get(&link).is_some_and(|outbound| outbound.taken() == taken);
                if is_stuck && !self.full.contains(&link) {
                    self.full.push(link);
                }
            }
            let _ = held.asker.send(held.answer);
        }
        self.drop_full();
    }
}
