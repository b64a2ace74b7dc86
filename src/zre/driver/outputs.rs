//! What the machine wants done: each of its outputs, acted upon at once.
//!
//! Nothing here waits. What a link has no room for comes back to the machine as the end of that link.

use std::time::Duration;

use tracing::{debug, warn};

use super::beacons::Said;
use super::link::{Note, Outbound};
use super::queue::{Dial, Room};
use super::{Driver, dial};
use crate::machine::Machine;
use crate::net::Net;
use crate::zre::machine::{Input, OutboundLink, Output};
use crate::zre::{Endpoint, Event, ExitReason};

impl<N: Net> Driver<N> {
    /// Hands the machine one input and does what it wants.
    pub(super) fn feed(&mut self, input: Input) {
        let now = self.net.now();
        self.machine.handle(now, input);
        self.act();
        self.drop_full();
    }

    pub(super) fn drop_full(&mut self) {
        while let Some(link) = self.full.pop() {
            self.machine.handle(self.net.now(), Input::QueueFull { link });
            self.act();
        }
    }

    fn act(&mut self) {
        while let Some(output) = self.machine.poll() {
            self.has_acted = true;
            match output {
                Output::Answer(answer) => {
                    if let Some(asker) = self.asker.take() {
                        self.answer(asker, answer);
                    }
                }
                Output::Beacon(beacon) => self.say(Said { beacon, to: None }),
                Output::Reply { beacon, to } => self.say(Said { beacon, to: Some(to) }),
                Output::Open { link, peer } => {
                    let (own, notes) = (self.machine.id(), self.notes_tx.clone());
                    let outbound = Outbound::start(&self.net, link, Some(peer), own, &self.limits, notes);
                    self.outbound.insert(link, outbound);
                }
                Output::Knock { link, endpoint, timeout } => {
                    let (own, notes) = (self.machine.id(), self.notes_tx.clone());
                    let outbound = Outbound::start(&self.net, link, None, own, &self.limits, notes);
                    outbound.dial(Dial { attempt: 1, endpoint, timeout });
                    self.outbound.insert(link, outbound);
                }
                Output::Dial { link, attempt, endpoint, timeout } => {
                    if let Some(outbound) = self.outbound.get(&link) {
                        outbound.dial(Dial { attempt, endpoint, timeout });
                    }
                }
                Output::Reach { link, endpoint, timeout } => self.reach(link, endpoint, timeout),
                Output::Send { link, frames } => {
                    let Some(outbound) = self.outbound.get(&link) else { continue };
                    match outbound.send(frames) {
                        Room::Plenty => {}
                        Room::Little if self.asker.is_some() => self.busy.push(link),
                        Room::Little => self.crowd(link),
                        Room::None if self.full.contains(&link) => {}
                        Room::None => self.full.push(link),
                    }
                }
                Output::Pong { token, is_answered } => {
                    // Without an answer the asker hears that there will be none.
                    if let Some((since, asker)) = self.pings.remove(&token)
                        && is_answered
                    {
                        let _ = asker.send(Ok(self.net.now().since(since)));
                    }
                }
                Output::Close(link) => {
                    self.outbound.remove(&link);
                    self.release(link);
                }
                Output::CloseInbound(link) => self.forget_inbound(link),
                Output::Event(event) => self.tell(event),
                Output::Stopped => self.is_stopped = true,
            }
        }
    }

    fn reach(&self, link: OutboundLink, endpoint: Endpoint, timeout: Duration) {
        let (net, notes) = (self.net.clone(), self.notes_tx.clone());
        let reaching = async move {
            let outcome = dial::reach(&net, &endpoint, timeout).await;
            debug!(%endpoint, ?outcome, "reached");
            drop(notes.send(Note::Reached { link, outcome }));
        };
        self.net.spawn("zre reach", reaching).detach();
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::Enter { peer, name, endpoint, .. } => debug!(%peer, %name, %endpoint, "peer entered"),
            Event::Exit {
                peer,
                name,
                reason: reason @ (ExitReason::TooSlow | ExitReason::OutOfSequence),
            } => {
                warn!(%peer, %name, %reason, "peer dropped");
            }
            Event::Exit { peer, name, reason } => debug!(%peer, %name, %reason, "peer exited"),
            _ => {}
        }
        self.shared.roster.note(&event);
        self.events.tell(event);
    }
}
