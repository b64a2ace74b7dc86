//! What peers say, what the application wants said, and the numbers on it.
//!
//! The status byte of JOIN and LEAVE is written exactly, because zyre and pyre abort when it is not, and what is read of it is
//! counted and nothing more.

use bytes::Bytes;

use super::{Command, InboundLink, NodeMachine, Output};
use crate::Timestamp;
use crate::zre::beacon::Beacon;
use crate::zre::message::{Body, DecodeError, EncodeError, Message};
use crate::zre::peer::Peer;
use crate::zre::sequence::Sequence;
use crate::zre::{CommandError, Event, ExitReason, PeerId, Text};

/// PINGs to one peer that may be unanswered at a time.
const PINGS_MAX: usize = 64;

impl NodeMachine {
    pub(super) fn on_received(&mut self, now: Timestamp, link: InboundLink, frames: Vec<Bytes>) {
        // A link that we closed may still have delivered.
        let Some(inbound) = self.inbound.get(&link) else { return };
        let id = inbound.peer;
        match Message::decode(frames) {
            Ok(Message { sequence, body: Body::Hello(hello) }) => self.on_hello(now, link, sequence, hello),
            Ok(Message { sequence, body }) => {
                if self.is_next(now, id, link, sequence) {
                    self.on_message(now, id, body);
                }
            }
            Err(DecodeError::UnknownId { sequence, .. }) => {
                self.counters.messages_unknown += 1;
                self.is_next(now, id, link, sequence);
            }
            // It took a number, and what it said is lost: the next message would show the gap.
            Err(DecodeError::Malformed { sequence, .. }) => {
                self.counters.messages_malformed += 1;
                if self.is_next(now, id, link, sequence) {
                    self.exit(now, id, ExitReason::OutOfSequence);
                } else if self.peers.get(&id).is_none_or(|peer| peer.inbound != Some(link)) {
                    self.close_inbound(link);
                }
            }
            // It is no message of ZRE. The number of the next one tells whether it took one.
            Err(_) => self.counters.messages_malformed += 1,
        }
    }

    /// Whether a message on this link is the next one of its peer; if so, it is counted and a sign of life. If it is not,
    /// the peer exits: some were lost.
    fn is_next(&mut self, now: Timestamp, id: PeerId, link: InboundLink, sequence: u16) -> bool {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_ready()) else {
            self.counters.messages_ignored += 1;
            return false;
        };
        let peer = match peer.inbound {
            Some(current) if current == link => peer,
            Some(current) if current > link => {
                self.counters.messages_ignored += 1;
                return false;
            }
            // libzmq reconnects by itself below zyre and goes on counting, without HELLO. As a ROUTER hands an identity
            // over to its newer connection, so do we; if anything was lost, the number shows it.
            _ => {
                self.adopt(link);
                let Some(peer) = self.peers.get_mut(&id) else { return false };
                peer
            }
        };
        if !peer.received.accept(sequence) {
            self.exit(now, id, ExitReason::OutOfSequence);
            return false;
        }
        if peer.received.wraps_early() {
            peer.sent.wrap_early();
        }
        peer.liveness.hear_link(now);
        true
    }

    fn on_message(&mut self, now: Timestamp, id: PeerId, body: Body) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let name = peer.name();
        match body {
            Body::Whisper { content } => self.event(Event::Whisper { peer: id, name, content }),
            Body::Shout { group, content } => self.event(Event::Shout { peer: id, name, group, content }),
            Body::Join { group, status } => {
                self.check_status(id, status);
                self.enter_group(now, id, group);
            }
            Body::Leave { group, status } => {
                self.check_status(id, status);
                self.leave_group(now, id, group);
            }
            Body::Ping => self.send(id, Body::PingOk),
            Body::PingOk => {
                peer.liveness.end_probe(now);
                if let Some(Some(token)) = peer.pings.pop_front() {
                    self.output(Output::Pong { token, is_answered: true });
                }
            }
            Body::Goodbye => self.exit(now, id, ExitReason::Left),
            Body::Elect { group, challenger } => self.on_elect(now, id, &group, &challenger),
            Body::Leader { group, leader } => self.on_leader(id, &group, &leader),
            Body::Hello(_) => unreachable!("HELLO goes its own way"),
        }
    }

    /// The status of a peer counts its JOINs and LEAVEs. Where it does not, the group is what counts all the same.
    fn check_status(&mut self, id: PeerId, status: u8) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        self.counters.statuses_wrong += u64::from(status != peer.status.wrapping_add(1));
        peer.status = status;
    }

    pub(super) fn on_command(&mut self, now: Timestamp, command: Command) {
        let answer = match command {
            Command::Join(group) => self.join(now, group),
            Command::Leave(group) => self.leave(now, &group),
            Command::Whisper { peer, content } => {
                if self.peers.get(&peer).is_some_and(Peer::is_ready) {
                    self.send_to([peer], Body::Whisper { content: content.into_frames() })
                } else {
                    Err(CommandError::UnknownPeer(peer))
                }
            }
            Command::Shout { group, content } => {
                let members: Vec<PeerId> = self.members.of(&group).collect();
                self.send_to(members, Body::Shout { group, content: content.into_frames() })
            }
            Command::Ping { peer, token } => {
                if self.peers.get(&peer).is_some_and(Peer::is_ready) {
                    self.ping(peer, Some(token));
                    Ok(1)
                } else {
                    Err(CommandError::UnknownPeer(peer))
                }
            }
            Command::Stop => return self.stop(),
        };
        self.output(Output::Answer(answer));
    }

    fn join(&mut self, now: Timestamp, group: Text) -> Result<usize, CommandError> {
        let before = self.own.clone();
        if !self.own.join(group.clone()) {
            return Ok(0);
        }
        match self.introductions() {
            Ok(hellos) => self.hellos = hellos,
            Err(error) => {
                self.own = before;
                return Err(error.into());
            }
        }
        let status = self.own.status();
        self.send_to_all(Body::Join { group: group.clone(), status })?;
        self.on_own_groups_changed(now, &group);
        Ok(0)
    }

    fn leave(&mut self, now: Timestamp, group: &Text) -> Result<usize, CommandError> {
        if !self.own.leave(group) {
            return Ok(0);
        }
        self.hellos = self.introductions()?;
        let status = self.own.status();
        self.send_to_all(Body::Leave { group: group.clone(), status })?;
        self.on_own_groups_changed(now, group);
        Ok(0)
    }

    /// Tells every peer, ready or not: what they hear before our HELLO is not counted, and it comes after it.
    fn send_to_all(&mut self, body: Body) -> Result<usize, CommandError> {
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        self.send_to(all, body)?;
        Ok(0)
    }

    fn send_to(
        &mut self,
        peers: impl IntoIterator<Item = PeerId>,
        body: Body,
    ) -> Result<usize, CommandError> {
        let mut message = Message { sequence: 0, body };
        let mut count = 0;
        for id in peers {
            self.send_message(id, &mut message)?;
            count += 1;
        }
        Ok(count)
    }

    fn send_message(&mut self, id: PeerId, message: &mut Message) -> Result<(), EncodeError> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        message.sequence = peer.sent.next();
        let frames = message.encode()?;
        peer.sent.advance();
        let link = peer.outbound.link;
        self.output(Output::Send { link, frames });
        Ok(())
    }

    /// Sends one of our own messages, which always fits.
    pub(super) fn send(&mut self, id: PeerId, body: Body) {
        if let Err(error) = self.send_message(id, &mut Message { sequence: 0, body }) {
            debug_assert!(false, "our own messages are short: {error}");
        }
    }

    /// Asks a peer for a sign of life, and remembers whom its answer is for.
    pub(super) fn ping(&mut self, id: PeerId, token: Option<u64>) {
        self.send(id, Body::Ping);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.pings.len() < PINGS_MAX {
            peer.pings.push_back(token);
        } else if let Some(token) = token {
            // It answers none, or far too late to say anything of use.
            self.output(Output::Pong { token, is_answered: false });
        }
    }

    /// The link is another one: what the peer did not answer before it never will.
    pub(super) fn forget_pings(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        for token in std::mem::take(&mut peer.pings).into_iter().flatten() {
            self.output(Output::Pong { token, is_answered: false });
        }
    }

    /// Starts the count on a fresh link.
    pub(super) fn send_hello(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.sent = Sequence::new(peer.sent.wraps_early());
        peer.sent.advance();
        let (link, place) = (peer.outbound.link, peer.endpoint().clone());
        let frames = self.hello_for(&place);
        self.output(Output::Send { link, frames });
    }

    /// Tells those who understand it that we leave, on the connection, where it can't get lost and needs no broadcast. Others
    /// hear it by beacon. From now on nobody is told that we are here.
    pub(super) fn say_goodbye(&mut self) {
        if std::mem::replace(&mut self.is_ending, true) {
            return;
        }
        self.next_beacon = Timestamp::NEVER;
        let ready = self.peers.iter().filter(|(_, peer)| peer.is_ready()).map(|(id, _)| *id);
        let told: Vec<PeerId> = ready.filter(|id| self.understands_zyres_own(*id)).collect();
        for id in told {
            self.send(id, Body::Goodbye);
        }
    }

    fn stop(&mut self) {
        // Twice, because zyre and pyre believe nothing else, and a datagram gets lost easily.
        let beacon = Beacon::leaving(self.id).encode();
        for _ in 0..2 * usize::from(self.sends_beacons) {
            self.output(Output::Beacon(beacon));
        }
        for link in std::mem::take(&mut self.outbound).into_keys() {
            self.output(Output::Close(link));
        }
        for link in std::mem::take(&mut self.inbound).into_keys() {
            self.output(Output::CloseInbound(link));
        }
        self.peers.clear();
        self.members = super::Members::default();
        self.is_stopped = true;
        self.event(Event::Stop);
        self.output(Output::Answer(Ok(0)));
        self.output(Output::Stopped);
    }
}
