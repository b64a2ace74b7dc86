//! Moves datagrams, connections and messages between a network and a node's machine.
//!
//! One task owns the machine. In each round it serves every source that has news for a bounded while: time, links,
//! connections, datagrams, the application. So no source can starve another, and the order is the same in every run. It
//! sleeps when each source has said that it has no more.
//!
//! # Who may wait for whom
//!
//! The application may wait for the node, and inbound links may. The node waits for nobody: a message that a link has no
//! room for is the end of its peer, and an event that the application has no room for is kept, while nothing more is
//! taken from inbound links. Time, beacons and commands go on, so an application may shout while its events pile up.
//! Such events are few: at most some for each peer, because nothing new comes in.
//!
//! An application that sends does not wait for the node while no queue is half full ([`Roster`]). When one is, it asks, and is
//! answered late, when the queue is half full no more. So it is as fast as the slowest peer that takes anything; a peer that
//! takes nothing at all in that time is dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use self::beacons::{Said, hear, say};
use self::link::{Intake, Note, Outbound};
use self::sockets::{GROUPS, Sockets, Way};
use self::sources::{Source, Sources};
use self::waits::Held;
use super::machine::{Command, InboundLink, Input, NodeMachine, OutboundLink};
use super::roster::Roster;
use super::rumour::Rumour;
use super::{CommandError, Config, Endpoint, Event, Limits, Multicast, PeerId};
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task, TcpListener};
use crate::outlet::Outlet;

mod beacons;
mod dial;
mod inputs;
mod link;
mod outputs;
mod queue;
mod sockets;
mod sources;
mod waits;

pub(crate) use dial::connect;
pub(super) use sockets::bind;

/// How much of one source a round takes.
const BATCH: usize = 64;
/// Batches of messages that wait between inbound links and the node.
const INTAKE: usize = 16;

/// What a handle asks of its node.
pub(super) enum Request {
    /// Something to send, of which nobody waits to hear.
    Send(Command),
    /// Something to do.
    Command(Command, oneshot::Sender<Result<usize, CommandError>>),
    /// How long a peer takes to answer; nothing when it exits before.
    Ping(PeerId, oneshot::Sender<Result<Duration, CommandError>>),
    /// Somebody else says where a node is.
    Found { peer: PeerId, endpoint: Endpoint },
    /// Something to look up.
    Look(Box<dyn FnOnce(&NodeMachine) + Send>),
}

/// What the node tells its handles all the time.
pub(super) struct Shared {
    /// Where peers are told that it is.
    pub(super) place: watch::Sender<Endpoint>,
    /// Where it listens.
    pub(super) inbox: watch::Sender<SocketAddr>,
    pub(super) roster: Arc<Roster>,
}

/// The node's task, without its sockets.
// In this order in memory: what each beacon looks at comes first, in as few cache lines as it needs.
#[repr(C)]
pub(super) struct Driver<N: Net> {
    net: N,
    /// Whether the machine wanted anything since that was asked last.
    has_acted: bool,
    is_stopped: bool,
    full: Vec<OutboundLink>,
    machine: NodeMachine,
    limits: Limits,
    alarm: N::Alarm,
    armed: Option<Timestamp>,
    requests: mpsc::Receiver<Request>,
    /// Whom the answer to the command in the machine goes to.
    asker: Option<Asker>,
    /// PINGs under way, by their token: when they were sent, and who asked.
    pings: BTreeMap<u64, (Timestamp, oneshot::Sender<Result<Duration, CommandError>>)>,
    last_ping: u64,
    /// Half full links that the command in the machine sends on.
    busy: Vec<OutboundLink>,
    /// Answers that wait for room in a queue, oldest first.
    held: Vec<Held>,
    rumour: Option<Rumour>,
    events: Outlet<Event>,
    beacons: VecDeque<Said>,
    multicast: Multicast,
    /// Until when beacons go to each group.
    spoken: [Timestamp; GROUPS.len()],
    /// When to look for changed addresses.
    next_listing: Timestamp,
    shared: Shared,
    /// Links that turned out to be half full while nobody waited.
    crowded: BTreeSet<OutboundLink>,
    outbound: BTreeMap<OutboundLink, Outbound>,
    notes: mpsc::UnboundedReceiver<Note>,
    notes_tx: mpsc::UnboundedSender<Note>,
    inbound: BTreeMap<InboundLink, Task>,
    /// Those of them that are not through their handshake.
    handshakes: BTreeSet<InboundLink>,
    last_inbound: u64,
    intake: mpsc::Receiver<Intake>,
    intake_tx: mpsc::Sender<Intake>,
    stop: Option<Stop>,
}

type Asker = oneshot::Sender<Result<usize, CommandError>>;

/// A node that was asked to stop and writes what was sent before.
struct Stop {
    askers: Vec<Asker>,
    /// When it ends unless peers go on taking what was sent, and when it ends all the same.
    until: Timestamp,
    latest: Timestamp,
    /// How many messages the links had taken when that was looked at last.
    taken: usize,
}

impl<N: Net> Driver<N> {
    pub(super) fn new(
        net: N,
        machine: NodeMachine,
        limits: Limits,
        multicast: Multicast,
        requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<Event>,
        (shared, rumour): (Shared, Option<Rumour>),
    ) -> Self {
        let (notes_tx, notes) = mpsc::unbounded_channel();
        let (intake_tx, intake) = mpsc::channel(INTAKE);
        Self {
            alarm: net.alarm(),
            net,
            machine,
            limits,
            armed: None,
            requests,
            asker: None,
            pings: BTreeMap::new(),
            last_ping: 0,
            busy: Vec::new(),
            held: Vec::new(),
            rumour,
            events: Outlet::new(events),
            beacons: VecDeque::new(),
            has_acted: false,
            multicast,
            spoken: [Timestamp::ZERO; GROUPS.len()],
            next_listing: Timestamp::ZERO,
            shared,
            crowded: BTreeSet::new(),
            outbound: BTreeMap::new(),
            full: Vec::new(),
            notes,
            notes_tx,
            inbound: BTreeMap::new(),
            handshakes: BTreeSet::new(),
            last_inbound: 0,
            intake,
            intake_tx,
            stop: None,
            is_stopped: false,
        }
    }

    /// Runs the node until it stops, and then until the application has its last event.
    pub(super) async fn run(mut self, mut sockets: Sockets<N>) {
        info!(peer = %self.machine.id(), name = %self.machine.name(), endpoint = %self.machine.endpoint(),
            "node started");
        self.next_listing = self.net.now().after(Config::INTERFACES_CHECK_INTERVAL);
        self.rounds(&mut sockets).await;
        drop(sockets);
        self.outbound.clear();
        self.inbound.clear();
        self.requests.close();
        if let Some(rumour) = self.rumour.take() {
            rumour.end().await;
        }
        for asker in self.stop.take().into_iter().flat_map(|stop| stop.askers) {
            let _ = asker.send(Ok(0));
        }
        info!("node stopped");
        self.events.end().await;
    }

    async fn rounds(&mut self, sockets: &mut Sockets<N>) {
        let mut sources = Sources::new();
        // These live across rounds, because a future that is dropped is not woken.
        let listeners = |sockets: &Sockets<N>| -> Vec<_> {
            let listeners = sockets.doors.iter().map(|door| Arc::clone(&door.listener));
            listeners.map(|listener| (Box::pin(accept(Arc::clone(&listener))), listener)).collect()
        };
        let mut accepting = listeners(sockets);
        let mut saying = pin!(None);
        poll_fn(|context| {
            sources.wake_for(context);
            while let Some(news) = sources.take() {
                let ask = |source, is_exhausted: &mut dyn FnMut(&mut Context<'_>) -> bool| {
                    if news.is_of(source) && !is_exhausted(&mut sources.context(source)) {
                        sources.note(source);
                    }
                };
                ask(Source::Time, &mut |context| self.serve_time(context));
                if news.is_of(Source::Time) && self.look_around(sockets) {
                    accepting = listeners(sockets);
                    sources.note(Source::Connections);
                }
                ask(Source::Notes, &mut |context| self.serve_notes(context));
                ask(Source::Connections, &mut |context| {
                    accepting.iter_mut().fold(true, |is_served, (accepted, listener)| {
                        is_served
                            & is_exhausted(|| {
                                let connection = ready!(accepted.as_mut().poll(context));
                                accepted.set(accept(Arc::clone(listener)));
                                self.on_accepted(connection);
                                Poll::Ready(())
                            })
                    })
                });
                for (source, is_common) in [(Source::Datagrams, true), (Source::Groups, false)] {
                    ask(source, &mut |context| {
                        let ears = sockets.ears.iter().filter(|ear| (ear.way == Way::Common) == is_common);
                        ears.fold(true, |is_served, ear| {
                            is_served
                                & is_exhausted(|| {
                                    let heard = ready!(hear(&ear.socket, context));
                                    self.on_heard(&sockets.site, ear.way, heard);
                                    Poll::Ready(())
                                })
                        })
                    });
                }
                ask(Source::Requests, &mut |context| self.serve_requests(context));
                ask(Source::Room, &mut |context| self.events.poll_drain(context));
                ask(Source::Intake, &mut |context| self.serve_intake(context));
                // As nearly always: beacons of known peers, after which there is nothing to do.
                if news == Source::Datagrams.into() && !std::mem::take(&mut self.has_acted) {
                    debug_assert_eq!(self.armed, self.deadline());
                    continue;
                }
                self.has_acted = false;
                self.finish_stop();
                let context = &mut sources.context(Source::Said);
                loop {
                    if saying.is_none() {
                        let Some(Said { beacon, to }) = self.beacons.pop_front() else { break };
                        let targets = match to {
                            Some(to) => sockets.target(to).into_iter().collect(),
                            None => sockets.targets(|way| self.is_spoken(way)),
                        };
                        saying.set(Some(say(targets, beacon)));
                    }
                    if saying.as_mut().as_pin_mut().is_some_and(|said| said.poll(context).is_pending()) {
                        break;
                    }
                    saying.set(None);
                }
                if self.is_stopped && saying.is_none() {
                    return Poll::Ready(());
                }
                // What serving one source means for others.
                if self.armed != self.deadline() {
                    sources.note(Source::Time);
                }
                if self.events.is_to_be_polled() {
                    sources.note(Source::Room);
                }
                if news.is_of(Source::Room) && self.events.is_empty() {
                    sources.note(Source::Intake);
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Looks, now and then, whether the addresses are what they were; whether there are other listeners now.
    fn look_around(&mut self, sockets: &mut Sockets<N>) -> bool {
        let now = self.net.now();
        if now < self.next_listing || self.is_stopped {
            return false;
        }
        self.next_listing = now.after(Config::INTERFACES_CHECK_INTERVAL);
        if !sockets.renew(&self.net) {
            return false;
        }
        self.feed(Input::Homes(sockets.homes()));
        let place = self.machine.endpoint().clone();
        info!(endpoint = %place, addresses = sockets.doors.len(), "addresses changed");
        self.shared.place.send_replace(place);
        self.shared.inbox.send_replace(sockets.inbox());
        if let Some(rumour) = &mut self.rumour {
            rumour.follow(&self.net, &self.machine);
        }
        true
    }

    fn deadline(&self) -> Option<Timestamp> {
        let stop = self.stop.as_ref().map(|stop| stop.until);
        let held = self.held.first().map(|held| held.until);
        let listing = (!self.is_stopped).then_some(self.next_listing);
        self.machine.deadline().into_iter().chain(stop).chain(held).chain(listing).min()
    }

    // Each of these serves one source, and returns whether that has no more and wakes the task when it has.

    fn serve_time(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.deadline();
        if self.armed != deadline {
            self.alarm.set(deadline);
            self.armed = deadline;
        }
        if self.alarm.poll_ring(context).is_pending() {
            return true;
        }
        self.armed = None;
        self.end_waits(self.net.now());
        if self.machine.deadline().is_some_and(|deadline| deadline <= self.net.now()) {
            self.feed(Input::Timeout);
        }
        false
    }
}

/// Serves a source until it has no more, or for a bounded while.
fn is_exhausted(mut serve: impl FnMut() -> Poll<()>) -> bool {
    (0..BATCH).any(|_| serve().is_pending())
}

async fn accept<L: TcpListener>(listener: Arc<L>) -> io::Result<(L::Stream, SocketAddr)> {
    listener.accept().await
}
