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
//! An application that sends faster than a peer takes is answered late, when the peer's queue is half full no more. So it
//! is as fast as the slowest peer that takes anything; a peer that takes nothing at all in that time is dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, trace, warn};

use self::link::{Intake, Note, Outbound};
use self::queue::Dial;
use self::sockets::{GROUPS, Sockets, Way};
use self::sources::{Source, Sources};
use super::beacon::{Beacon, unrepeated};
use super::interface::Site;
use super::machine::{Command, InboundLink, Input, NodeMachine, OutboundLink, Output};
use super::rumour::Rumour;
use super::{CommandError, Config, Endpoint, Event, ExitReason, Limits, Multicast, PeerId};
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task, TcpListener, UdpSocket};

mod dial;
mod link;
mod queue;
mod sockets;
mod sources;

pub(crate) use dial::connect;
pub(super) use sockets::bind;

/// How much of one source a round takes.
const BATCH: usize = 64;
/// Batches of messages that wait between inbound links and the node.
const INTAKE: usize = 16;
/// Beacons that wait for the socket. When it takes none, older ones are of no use.
const BEACONS: usize = 16;
/// How long a node that stops goes on writing what was sent before. Peers that are alive take it in milliseconds.
const LINGER: Duration = Duration::from_secs(1);
/// How long a peer whose queue is half full may take nothing, when the application waits for it. Long enough for some
/// packets that are lost in a row.
const HOLD: Duration = Duration::from_secs(3);
/// How long beacons go to a group after the last one of a peer that may hear nothing else.
const GROUP_SPOKEN: Duration = Duration::from_secs(60);
/// Longer than any beacon, so that a datagram that was cut to it is seen to be none.
const DATAGRAM: usize = 128;

/// What a handle asks of its node.
pub(super) enum Request {
    /// Something to do.
    Command(Command, oneshot::Sender<Result<usize, CommandError>>),
    /// How long a peer takes to answer; nothing when it exits before.
    Ping(PeerId, oneshot::Sender<Result<Duration, CommandError>>),
    /// Somebody else says where a node is.
    Found { peer: PeerId, endpoint: Endpoint },
    /// Something to look up.
    Look(Box<dyn FnOnce(&NodeMachine) + Send>),
}

/// The node's task, without its sockets.
pub(super) struct Driver<N: Net> {
    net: N,
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
    events: mpsc::Sender<Event>,
    /// Events that the application had no room for.
    backlog: VecDeque<Event>,
    /// Waits for room, while there is a backlog.
    room: Option<Room>,
    beacons: VecDeque<Said>,
    multicast: Multicast,
    /// Until when beacons go to each group.
    spoken: [Timestamp; GROUPS.len()],
    /// When to look for changed addresses.
    next_listing: Timestamp,
    /// Tells the handles where the node is.
    /// Where peers are told that we are, and where we listen.
    places: (watch::Sender<Endpoint>, watch::Sender<SocketAddr>),
    outbound: BTreeMap<OutboundLink, Outbound>,
    full: Vec<OutboundLink>,
    notes: mpsc::UnboundedReceiver<Note>,
    notes_tx: mpsc::UnboundedSender<Note>,
    inbound: BTreeMap<InboundLink, Task>,
    /// Those of them that are not through their handshake.
    handshakes: BTreeSet<InboundLink>,
    last_inbound: u64,
    intake: mpsc::Receiver<Intake>,
    intake_tx: mpsc::Sender<Intake>,
    stop: Option<Stop>,
    is_stopped: bool,
}

type Asker = oneshot::Sender<Result<usize, CommandError>>;

/// An answer that waits until its message's links are half full no more.
struct Held {
    asker: Asker,
    answer: Result<usize, CommandError>,
    until: Timestamp,
    /// Each with the number of messages that it had taken.
    links: Vec<(OutboundLink, usize)>,
}

type Room =
    Pin<Box<dyn Future<Output = Result<mpsc::OwnedPermit<Event>, mpsc::error::SendError<()>>> + Send>>;

/// A node that was asked to stop and writes what was sent before.
struct Stop {
    askers: Vec<Asker>,
    until: Timestamp,
}

impl<N: Net> Driver<N> {
    pub(super) fn new(
        net: N,
        machine: NodeMachine,
        limits: Limits,
        multicast: Multicast,
        requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<Event>,
        (places, rumour): ((watch::Sender<Endpoint>, watch::Sender<SocketAddr>), Option<Rumour>),
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
            events,
            backlog: VecDeque::new(),
            room: None,
            beacons: VecDeque::new(),
            multicast,
            spoken: [Timestamp::ZERO; GROUPS.len()],
            next_listing: Timestamp::ZERO,
            places,
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
        self.feed(Input::Homes(sockets.homes()));
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
        for event in std::mem::take(&mut self.backlog) {
            if self.events.send(event).await.is_err() {
                break;
            }
        }
    }

    async fn rounds(&mut self, sockets: &mut Sockets<N>) {
        let sources = Sources::new();
        // These live across rounds, because a future that is dropped is not woken.
        let ears = sockets.ears.iter().map(|ear| (ear.way, Arc::clone(&ear.socket)));
        let mut hearing: Vec<_> =
            ears.map(|(way, ear)| (way, Box::pin(hear(Arc::clone(&ear))), ear)).collect();
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
                if self.look_around(sockets) {
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
                ask(Source::Datagrams, &mut |context| {
                    hearing.iter_mut().fold(true, |is_served, (way, heard, ear)| {
                        is_served
                            & is_exhausted(|| {
                                let datagram = ready!(heard.as_mut().poll(context));
                                heard.set(hear(Arc::clone(ear)));
                                self.on_heard(&sockets.site, *way, datagram);
                                Poll::Ready(())
                            })
                    })
                });
                ask(Source::Requests, &mut |context| self.serve_requests(context));
                ask(Source::Room, &mut |context| self.serve_backlog(context));
                ask(Source::Intake, &mut |context| self.serve_intake(context));
                self.finish_stop();
                let context = &mut sources.context(Source::Said);
                loop {
                    if saying.is_none() {
                        let Some(Said { beacon, to }) = self.beacons.pop_front() else { break };
                        let targets = match to {
                            Some(ip) => sockets.target(ip).into_iter().collect(),
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
                if self.room.is_none() && !self.backlog.is_empty() {
                    sources.note(Source::Room);
                }
                if news.is_of(Source::Room) && self.backlog.is_empty() {
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
        let before = self.places.0.send_replace(place.clone());
        self.places.1.send_replace(sockets.inbox());
        if let Some(rumour) = &self.rumour
            && before != place
        {
            rumour.move_to(&self.net, &place);
        }
        true
    }

    /// Whether beacons go there, too.
    fn is_spoken(&self, way: Way) -> bool {
        match (way, self.multicast) {
            (Way::Common, _) | (_, Multicast::Always) => true,
            (_, Multicast::Never) => false,
            (Way::Group(group), Multicast::Auto) => {
                self.spoken.get(group).is_some_and(|until| self.net.now() < *until)
            }
        }
    }

    /// Hands the machine one input and does what it wants.
    fn feed(&mut self, input: Input) {
        let now = self.net.now();
        self.machine.handle(now, input);
        self.act();
        self.drop_full();
    }

    fn drop_full(&mut self) {
        while let Some(link) = self.full.pop() {
            self.machine.handle(self.net.now(), Input::QueueFull { link });
            self.act();
        }
    }

    fn act(&mut self) {
        while let Some(output) = self.machine.poll() {
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
                    if !outbound.send(frames) {
                        if !self.full.contains(&link) {
                            self.full.push(link);
                        }
                    } else if self.asker.is_some() && outbound.is_half_full() {
                        self.busy.push(link);
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

    fn say(&mut self, said: Said) {
        if self.beacons.len() == BEACONS {
            self.beacons.pop_front();
        }
        self.beacons.push_back(said);
    }

    /// Answers the application, now or when there is room again in the queues that its message went to.
    fn answer(&mut self, asker: Asker, answer: Result<usize, CommandError>) {
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

    /// Nobody has to wait for this link any more.
    fn release(&mut self, link: OutboundLink) {
        for held in &mut self.held {
            held.links.retain(|(other, _)| *other != link);
        }
        for held in self.held.extract_if(.., |held| held.links.is_empty()) {
            let _ = held.asker.send(held.answer);
        }
    }

    /// Ends the wait of those who waited for long. A link that took nothing in that time is too slow.
    fn end_waits(&mut self, now: Timestamp) {
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
        if self.backlog.is_empty() {
            match self.events.try_send(event) {
                Err(mpsc::error::TrySendError::Full(event)) => self.backlog.push_back(event),
                // An application that dropped its events does not want them.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        } else {
            self.backlog.push_back(event);
        }
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

    fn serve_notes(&mut self, context: &mut Context<'_>) -> bool {
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

    fn on_accepted(&mut self, accepted: io::Result<(N::Stream, SocketAddr)>) {
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

    fn on_heard(&mut self, site: &Site, way: Way, heard: io::Result<Heard>) {
        match heard {
            Ok(Heard { from, .. }) if site.is_elsewhere(from.ip()) => {
                trace!(%from, "beacon ignored: it comes from another network of this machine");
            }
            Ok(Heard { from, datagram, len }) => {
                let datagram = &datagram[..len];
                // A repeater's neighbours take what it carried over for what its first sender said.
                let repeated = unrepeated(datagram);
                let repeated =
                    repeated.filter(|(_, origin)| !origin.is_loopback() || from.ip().is_loopback());
                let (beacon, origin) = repeated.unwrap_or((datagram, from.ip()));
                let from = if repeated.is_some() { SocketAddr::new(origin, from.port()) } else { from };
                let beacon = Beacon::decode(beacon);
                if let (Way::Group(group), Ok(beacon)) = (way, &beacon)
                    && self.machine.is_of_another_kind(beacon.peer)
                {
                    self.spoken[group] = self.net.now().after(GROUP_SPOKEN);
                }
                self.feed(Input::Beacon { from, beacon });
            }
            Err(error) => debug!(%error, "no datagram"),
        }
    }

    fn serve_requests(&mut self, context: &mut Context<'_>) -> bool {
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
        let stop = self.stop.get_or_insert_with(|| {
            self.outbound.values().for_each(Outbound::drain);
            Stop { askers: Vec::new(), until: self.net.now().after(LINGER) }
        });
        stop.askers.extend(asker);
    }

    /// Stops the machine once links have written what was sent, or have had their time.
    fn finish_stop(&mut self) {
        let Some(stop) = &self.stop else { return };
        let is_drained = !self.outbound.values().any(|outbound| outbound.is_open);
        if !self.is_stopped && (is_drained || stop.until <= self.net.now()) {
            self.feed(Input::Command(Command::Stop));
        }
    }

    fn serve_backlog(&mut self, context: &mut Context<'_>) -> bool {
        if self.backlog.is_empty() {
            return true;
        }
        for _ in 0..BATCH {
            let events = &self.events;
            let room = self.room.get_or_insert_with(|| Box::pin(events.clone().reserve_owned()));
            let Poll::Ready(permit) = room.as_mut().poll(context) else { return true };
            self.room = None;
            match (permit, self.backlog.pop_front()) {
                (Ok(permit), Some(event)) => drop(permit.send(event)),
                (Ok(_), None) => return false,
                (Err(_), _) => {
                    self.backlog.clear();
                    return false;
                }
            }
        }
        false
    }

    fn serve_intake(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            if !self.backlog.is_empty() || self.is_stopped {
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

    fn forget_inbound(&mut self, link: InboundLink) {
        self.inbound.remove(&link);
        self.handshakes.remove(&link);
    }
}

/// Serves a source until it has no more, or for a bounded while.
fn is_exhausted(mut serve: impl FnMut() -> Poll<()>) -> bool {
    (0..BATCH).any(|_| serve().is_pending())
}

struct Heard {
    from: SocketAddr,
    datagram: [u8; DATAGRAM],
    len: usize,
}

async fn hear<U: UdpSocket>(ear: Arc<U>) -> io::Result<Heard> {
    let mut datagram = [0; DATAGRAM];
    let (len, from) = ear.recv_from(&mut datagram).await?;
    Ok(Heard { from, datagram, len })
}

/// A beacon that waits for the socket.
struct Said {
    beacon: [u8; Beacon::LEN],
    /// For one node, instead of all.
    to: Option<IpAddr>,
}

async fn accept<L: TcpListener>(listener: Arc<L>) -> io::Result<(L::Stream, SocketAddr)> {
    listener.accept().await
}

async fn say<U: UdpSocket>(targets: Vec<(Arc<U>, SocketAddr)>, beacon: [u8; Beacon::LEN]) {
    for (mouth, to) in targets {
        if let Err(error) = mouth.send_to(&beacon, to).await {
            debug!(%to, %error, "beacon not sent");
        }
    }
}
