//! Links: ours to each peer, and theirs to us.
//!
//! A pair of nodes has two TCP connections; each carries messages one way only, from the DEALER that opened it to the
//! ROUTER that accepted it.

use std::net::SocketAddr;
use std::time::Duration;

use super::{DialFailure, Inbound, InboundLink, NodeMachine, OutboundLink, Output};
use crate::Timestamp;
use crate::zre::peer::{AfterFailure, State};
use crate::zre::{ExitReason, PeerId};

/// How long the first attempt to connect may take. Each that takes too long gives the next twice the time, up to eight times:
/// a network so slow would be slower still if we began anew all the time.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a machine that is there may take to say so. At 30 % loss each way, twenty SYNs fail together once in a million
/// times.
const REACH_TIMEOUT: Duration = Duration::from_secs(3);

impl NodeMachine {
    /// A number for a new link.
    pub(super) fn new_link(&mut self) -> OutboundLink {
        self.last_link += 1;
        OutboundLink(self.last_link)
    }

    /// Makes the link that a peer was just given: HELLO is the first thing in its queue.
    pub(super) fn open_link(&mut self, id: PeerId) {
        let link = self.peers[&id].outbound.link;
        self.outbound.insert(link, id);
        self.output(Output::Open { link, peer: id });
        self.send_hello(id);
        self.stand_again(id);
    }

    /// Starts the next attempt to connect the link to a peer.
    pub(super) fn dial(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.outbound.state = State::Dialling;
        peer.outbound.attempt += 1;
        let dial = Output::Dial {
            link: peer.outbound.link,
            attempt: peer.outbound.attempt,
            endpoint: peer.endpoint().clone(),
            timeout: DIAL_TIMEOUT * 2_u32.pow(peer.outbound.timeouts.min(3)),
        };
        self.counters.dialled += 1;
        self.output(dial);
    }

    /// Gives a peer a fresh link, queue and HELLO, not dialled yet.
    pub(super) fn replace_link(&mut self, now: Timestamp, id: PeerId) {
        let link = self.new_link();
        self.forget_pings(id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let old = peer.outbound.link;
        peer.outbound.replace(link);
        peer.liveness.end_probe(now);
        if self.outbound.remove(&old).is_some() {
            self.output(Output::Close(old));
        }
        self.open_link(id);
    }

    /// The link to a peer is of no use any more, though nobody closed it.
    pub(super) fn renew_link(&mut self, now: Timestamp, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && let Some((address, _)) = peer.heard_at
        {
            peer.prefer_endpoint(address.into());
        }
        self.replace_link(now, id);
        self.dial(id);
    }

    pub(super) fn on_opened(&mut self, now: Timestamp, link: OutboundLink) {
        let Some(id) = self.outbound.get(&link) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.outbound.opened(now);
    }

    pub(super) fn on_dial_failed(
        &mut self,
        now: Timestamp,
        link: OutboundLink,
        attempt: u32,
        failure: DialFailure,
    ) {
        let jitter = self.random();
        let Some(&id) = self.outbound.get(&link) else { return self.on_seed_closed(now, link) };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.outbound.attempt != attempt || peer.outbound.state != State::Dialling {
            return;
        }
        peer.outbound.timeouts += u32::from(failure == DialFailure::TimedOut);
        let reason = match failure {
            DialFailure::Refused => Some(ExitReason::Refused),
            DialFailure::AnotherPeer => Some(ExitReason::Replaced),
            DialFailure::TimedOut | DialFailure::Unreachable => None,
        };
        match (peer.outbound.failed(reason.is_some(), peer.endpoints.len()), reason) {
            // Without HELLO there is nothing but a beacon to believe in, and the next one brings the peer back.
            (AfterFailure::AllRefused, Some(reason)) if !peer.is_ready() || peer.inbound.is_none() => {
                self.exit(now, id, reason);
            }
            (AfterFailure::TryNext, _) => self.dial(id),
            (AfterFailure::AllFailed, _) if failure == DialFailure::TimedOut => self.dial(id),
            (AfterFailure::AllRefused | AfterFailure::AllFailed, _) => {
                let until = peer.outbound.wait(now, jitter);
                self.check_by(until);
            }
        }
    }

    /// A peer does not answer. If its machine is there, the program may be busy or stopped, and gets the time that the
    /// configuration gives it. Otherwise there is nothing to wait for.
    pub(super) fn reach(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        let (link, endpoint) = (peer.outbound.link, peer.endpoint().clone());
        self.output(Output::Reach { link, endpoint, timeout: REACH_TIMEOUT });
    }

    pub(super) fn on_reached(
        &mut self,
        now: Timestamp,
        link: OutboundLink,
        outcome: Result<(), DialFailure>,
    ) {
        let Some(&id) = self.outbound.get(&link) else { return };
        if !self.peers.get(&id).is_some_and(|peer| peer.is_ready() && peer.liveness.is_evasive()) {
            return;
        }
        match outcome {
            Ok(()) => {}
            Err(DialFailure::Refused) => self.exit(now, id, ExitReason::Refused),
            Err(_) => self.exit(now, id, ExitReason::Unreachable),
        }
    }

    pub(super) fn on_closed(&mut self, now: Timestamp, link: OutboundLink) {
        let jitter = self.random();
        // The driver has closed it already.
        let Some(id) = self.outbound.remove(&link) else { return self.on_seed_closed(now, link) };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let may_dial = peer.outbound.closed(now, peer.endpoints.len()) && peer.leaves_by.is_none();
        self.replace_link(now, id);
        if may_dial {
            self.dial(id);
        } else if let Some(peer) = self.peers.get_mut(&id) {
            let until = peer.outbound.wait(now, jitter);
            self.check_by(until);
        }
    }

    pub(super) fn on_queue_full(&mut self, now: Timestamp, link: OutboundLink) {
        if let Some(&id) = self.outbound.get(&link) {
            self.exit(now, id, ExitReason::TooSlow);
        }
    }

    pub(super) fn on_inbound_opened(
        &mut self,
        now: Timestamp,
        link: InboundLink,
        identity: &[u8],
        remote: SocketAddr,
    ) {
        let peer = match PeerId::from_zmtp(identity) {
            Some(peer) if peer != self.id => peer,
            _ => {
                self.counters.links_refused += 1;
                return self.output(Output::CloseInbound(link));
            }
        };
        if self.without_hello.len() >= self.limits.links_without_hello
            && let Some(&oldest) = self.without_hello.first()
        {
            self.counters.links_without_hello += 1;
            self.close_inbound(oldest);
        }
        let hello_by = now.after(self.limits.hello_timeout);
        self.without_hello.insert(link);
        self.inbound.insert(link, Inbound { peer, remote, hello_by: Some(hello_by) });
        self.check_by(hello_by);
    }

    pub(super) fn on_inbound_closed(&mut self, now: Timestamp, link: InboundLink) {
        let Some(id) = self.forget_inbound(link) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.inbound == Some(link) {
            peer.inbound = None;
            if peer.leaves_by.is_some() {
                self.exit(now, id, ExitReason::Left);
            } else if peer.is_ready() && peer.outbound.was_refused() {
                self.exit(now, id, ExitReason::Refused);
            }
        }
    }

    /// From now on this link is the one that its peer's messages come on.
    pub(super) fn adopt(&mut self, link: InboundLink) {
        let Some(inbound) = self.inbound.get_mut(&link) else { return };
        inbound.hello_by = None;
        self.without_hello.remove(&link);
        let Some(peer) = self.peers.get_mut(&inbound.peer) else { return };
        if let Some(old) = peer.inbound.replace(link)
            && old != link
        {
            self.close_inbound(old);
        }
    }

    pub(super) fn close_inbound(&mut self, link: InboundLink) {
        if self.forget_inbound(link).is_some() {
            self.output(Output::CloseInbound(link));
        }
    }

    fn forget_inbound(&mut self, link: InboundLink) -> Option<PeerId> {
        let inbound = self.inbound.remove(&link)?;
        self.without_hello.remove(&link);
        Some(inbound.peer)
    }
}
