//! What reaches the machine from links, connections and the application: each source of them is served for a bounded while.
//!
//! Every `serve_..` returns whether its source has no more and wakes the task when it has.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::debug;

use super::link::{self, Intake, Note, Outbound};
use super::{Asker, BATCH, Driver, Request, Stop};
use crate::net::Net;
use crate::zre::machine::{Command, InboundLink, Input};
use crate::zre::{CommandError, PeerId};

/// How long a node that stops goes on writing what was sent before while no peer takes any of it, and in all. Peers that are
/// alive take it in milliseconds, unless it is much.
const LINGER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

impl<N: Net> Driver<N> {
    pub(super) fn serve_notes(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            let Poll::Ready(Some(note)) = self.notes.poll_recv(context) else { return true };
            match note {
                Note::Opened { link, peer, at } => {
                    let Some(outbound) = self.outbound.get_mut(&link) else { continue };
                    outbound.is_open = true;
                    if std::mem::take(&mut outbound.is_knock) {
                        self.feed(Input::Answered { link, peer, at });
                    } else {
                        self.feed(Input::Opened { link });
                    }
                }
                Note::DialFailed { link, attempt, failure } => {
                    self.feed(Input::DialFailed { link, attempt, failure });
                }
                Note::Reached { link, outcome } => self.feed(Input::Reached { link, outcome }),
                Note::Room { link } => self.release(link),
                Note::Closed { link } => {
                    self.outbound.remove(&link);
                    self.release(link);
                    // A node that stops closes its links itself, one by one.
                    if self.stop.is_none() {
                        self.feed(Input::Closed { link });
                    }
                }
            }
        }
        false
    }

    pub(super) fn on_accepted(&mut self, accepted: io::Result<(N::Stream, SocketAddr)>) {
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return debug!(%error, "connection not accepted"),
        };
        // Whoever means it is through its handshake before a thousand others come.
        if self.handshakes.len() >= self.limits.handshakes
            && let Some(oldest) = self.handshakes.pop_first()
        {
            debug!(link = oldest.number(), "connection closed: too many handshakes");
            self.machine.counters_mut().handshakes_over_limit += 1;
            self.inbound.remove(&oldest);
        }
        self.last_inbound += 1;
        let link = InboundLink::from_number(self.last_inbound);
        let (own, intake) = (self.machine.id(), self.intake_tx.clone());
        let task = link::start_inbound(&self.net, link, own, stream, remote, intake);
        self.inbound.insert(link, task);
        self.handshakes.insert(link);
    }

    pub(super) fn serve_intake(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            if !self.events.is_empty() || self.is_stopped {
                return true;
            }
            let Poll::Ready(Some(intake)) = self.intake.poll_recv(context) else { return true };
            match intake {
                Intake::Opened { link, identity, remote } => {
                    // What a link that was closed had still to say is of no use.
                    if !self.handshakes.remove(&link) {
                        continue;
                    }
                    self.feed(Input::InboundOpened { link, identity, remote });
                }
                Intake::Messages { link, messages } => {
                    for frames in messages {
                        self.feed(Input::Received { link, frames });
                    }
                }
                Intake::Closed { link } => {
                    if self.handshakes.contains(&link) {
                        self.machine.counters_mut().handshakes_failed += 1;
                    }
                    self.forget_inbound(link);
                    self.feed(Input::InboundClosed { link });
                }
            }
        }
        false
    }

    pub(super) fn forget_inbound(&mut self, link: InboundLink) {
        self.inbound.remove(&link);
        self.handshakes.remove(&link);
    }

    pub(super) fn serve_requests(&mut self, context: &mut Context<'_>) -> bool {
        if self.is_stopped {
            return true;
        }
        for _ in 0..BATCH {
            match self.requests.poll_recv(context) {
                Poll::Pending => return true,
                Poll::Ready(Some(Request::Look(look))) => look(&self.machine),
                Poll::Ready(Some(Request::Ping(peer, asker))) => self.ping(peer, asker),
                Poll::Ready(Some(Request::Found { .. })) if self.stop.is_some() => {}
                Poll::Ready(Some(Request::Found { peer, endpoint })) => {
                    self.feed(Input::Found { peer, endpoint });
                }
                Poll::Ready(Some(Request::Send(_))) if self.stop.is_some() => {}
                Poll::Ready(Some(Request::Send(command))) => self.feed(Input::Command(command)),
                Poll::Ready(Some(Request::Command(Command::Stop, asker))) => self.begin_stop(Some(asker)),
                Poll::Ready(Some(Request::Command(command, asker))) => {
                    if self.stop.is_some() {
                        let _ = asker.send(Err(CommandError::Stopped));
                    } else {
                        self.asker = Some(asker);
                        self.feed(Input::Command(command));
                    }
                }
                // The last handle is gone: nobody can ask for anything any more.
                Poll::Ready(None) if self.stop.is_some() => return true,
                Poll::Ready(None) => self.begin_stop(None),
            }
        }
        false
    }

    fn ping(&mut self, peer: PeerId, asker: oneshot::Sender<Result<Duration, CommandError>>) {
        if self.machine.peer(peer).is_none() {
            let _ = asker.send(Err(CommandError::UnknownPeer(peer)));
            return;
        }
        self.last_ping += 1;
        let token = self.last_ping;
        self.pings.insert(token, (self.net.now(), asker));
        self.feed(Input::Command(Command::Ping { peer, token }));
    }

    fn begin_stop(&mut self, asker: Option<Asker>) {
        if self.stop.is_none() {
            self.feed(Input::Ending);
        }
        let now = self.net.now();
        let stop = self.stop.get_or_insert_with(|| {
            self.outbound.values().for_each(Outbound::drain);
            Stop { askers: Vec::new(), until: now.after(LINGER.0), latest: now.after(LINGER.1), taken: 0 }
        });
        stop.askers.extend(asker);
    }

    /// Stops the machine once links have written what was sent, or have had their time.
    pub(super) fn finish_stop(&mut self) {
        let Some(stop) = self.stop.as_mut().filter(|_| !self.is_stopped) else { return };
        let open = || self.outbound.values().filter(|outbound| outbound.is_open);
        if open().next().is_some() {
            let now = self.net.now();
            if stop.until > now {
                return;
            }
            let taken = open().map(Outbound::taken).sum();
            if std::mem::replace(&mut stop.taken, taken) != taken && now < stop.latest {
                stop.until = now.after(LINGER.0).min(stop.latest);
                return;
            }
        }
        self.feed(Input::Command(Command::Stop));
    }
}
