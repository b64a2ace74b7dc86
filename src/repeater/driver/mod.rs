//! Moves datagrams, packets and connections between a network and a repeater's machine.
//!
//! One task owns the machine and the sockets for beacons. Whatever takes time has a task of its own: each subscriber
//! (`publish`), each repeater that is listened to (`subscribe`), each stand-in and each connection that it carries
//! (`stand_in`, `tunnel`), each registry. They tell the owner what they learn over one bounded channel, and wait when it
//! is full, so that nobody outside can make it grow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{debug, info, trace};

use self::stand_in::{StandIn, Terms};
use super::machine::{Event, Input, Output, RepeaterMachine, Subscriber};
use super::packet::Packet;
use super::{Config, Request, Statistics, registry};
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task, TcpListener, UdpSocket};
use crate::zre::PeerId;

mod publish;
mod sockets;
mod stand_in;
mod subscribe;
mod tunnel;

pub(super) use sockets::{Sockets, bind};

/// What waits between the tasks and the owner.
const NOTES: usize = 256;
/// Packets that wait for one subscriber. What does not fit is lost to it, as with any ZeroMQ publisher.
const SUBSCRIBER_PACKETS: usize = 4096;
/// Connections to the publisher, subscribers and carried ones in their first moments together.
const SUBSCRIBERS_MAX: usize = 512;
/// How long leaving the registries may take: a lost SYN costs a second, and a registry may be busy.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the tasks tell the owner.
#[derive(Debug)]
pub(super) enum Note {
    /// Something for the machine.
    Input(Input),
    /// A subscriber is gone, or a tunnel.
    Gone(Subscriber),
    /// Who connected is no subscriber, but carries a connection.
    Tunnel(Subscriber),
    /// A question to the machine.
    Ask(Question, oneshot::Sender<Option<SocketAddr>>),
}

/// What a task that carries a connection wants to know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// The inbox of a node here.
    InboxOf(PeerId),
    /// Where a node elsewhere is reached from the LAN of a node here.
    StandInOf { peer: PeerId, for_whom: PeerId },
    /// Whether a node is heard from this address; the answer is the address.
    Neighbour(IpAddr),
}

/// The way of the tasks to the owner.
#[derive(Clone, Debug)]
pub(super) struct Notes(mpsc::Sender<Note>);

impl Notes {
    /// Tells the owner; without an owner the task is about to be ended.
    pub(super) async fn tell(&self, note: Note) {
        let _ = self.0.send(note).await;
    }

    async fn ask(&self, question: Question) -> Option<SocketAddr> {
        let (answer, asked) = oneshot::channel();
        self.tell(Note::Ask(question, answer)).await;
        asked.await.ok().flatten()
    }
}

/// What carried connections count.
#[derive(Debug, Default)]
pub(super) struct Carried {
    connections: AtomicU64,
    open: AtomicU64,
    over_limit: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// The repeater's task, without its sockets.
pub(super) struct Driver<N: Net> {
    net: N,
    config: Config,
    machine: RepeaterMachine,
    alarm: N::Alarm,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<Event>,
    notes: mpsc::Receiver<Note>,
    notes_tx: Notes,
    subscribers: BTreeMap<Subscriber, (mpsc::Sender<publish::Issue>, Task)>,
    last_subscriber: u64,
    tunnels: BTreeMap<Subscriber, Task>,
    links: BTreeMap<SocketAddr, (Arc<Notify>, Task)>,
    stand_ins: BTreeMap<PeerId, StandIn>,
    terms: Terms,
    packets_dropped: u64,
    /// What to tell on the LANs, in order.
    told: Vec<(usize, Option<SocketAddr>, Bytes)>,
}

impl<N: Net> Driver<N> {
    pub(super) fn new(
        net: N,
        config: Config,
        sockets: &Sockets<N>,
        requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (notes_tx, notes) = mpsc::channel(NOTES);
        let notes_tx = Notes(notes_tx);
        let lans = sockets.mouths.iter().map(|mouth| mouth.lan).collect();
        Self {
            machine: RepeaterMachine::new(config.clone(), lans, net.now()),
            alarm: net.alarm(),
            net,
            requests,
            events,
            notes,
            terms: Terms {
                relay: config.relay,
                connections_max: config.connections_max as u64,
                carried: Arc::default(),
                notes: notes_tx.clone(),
            },
            notes_tx,
            config,
            subscribers: BTreeMap::new(),
            last_subscriber: 0,
            tunnels: BTreeMap::new(),
            links: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            packets_dropped: 0,
            told: Vec::new(),
        }
    }

    /// Runs the repeater until it is told to stop, or nobody holds it any more.
    pub(super) async fn run(mut self, mut sockets: Sockets<N>) {
        info!(lans = ?sockets.describe(), publish_port = self.config.publish_port, "repeater started");
        let registries = sockets.registries.take();
        let lans: Vec<_> = sockets.mouths.iter().map(|mouth| mouth.lan).collect();
        let registries = registry::start(&self.net, &self.config, &lans, registries, &self.notes_tx);
        let asker = self.serve(&sockets).await;
        registries.leave(&self.net, FAREWELL).await;
        info!("repeater stopped");
        if let Some(asker) = asker {
            let _ = asker.send(());
        }
    }

    async fn serve(&mut self, sockets: &Sockets<N>) -> Option<oneshot::Sender<()>> {
        let mut datagram = [0; Packet::LEN_MAX + 1];
        loop {
            self.alarm.set(self.machine.deadline());
            tokio::select! {
                biased;
                () = self.alarm.ring() => self.feed(Input::Timeout),
                request = self.requests.recv() => match request {
                    Some(Request::Counters(answer)) => drop(answer.send(self.statistics())),
                    Some(Request::Stop(asker)) => return Some(asker),
                    None => return None,
                },
                accepted = sockets.publisher.accept() => match accepted {
                    Ok((stream, remote)) => self.welcome(stream, remote),
                    Err(error) => debug!(%error, "connection not accepted"),
                },
                heard = sockets.ear.recv_from(&mut datagram) => match heard {
                    Ok((len, from)) => {
                        trace!(%from, len, "heard");
                        self.feed(Input::Heard { from, datagram: Bytes::copy_from_slice(&datagram[..len]) });
                    }
                    Err(error) => debug!(%error, "no datagram"),
                },
                note = self.notes.recv() => match note {
                    Some(Note::Input(input)) => self.feed(input),
                    Some(Note::Gone(guest)) => {
                        self.subscribers.remove(&guest);
                        self.tunnels.remove(&guest);
                    }
                    Some(Note::Tunnel(guest)) => {
                        let tunnel = self.subscribers.remove(&guest);
                        self.tunnels.extend(tunnel.map(|(_, task)| (guest, task)));
                    }
                    Some(Note::Ask(question, answer)) => drop(answer.send(self.answer(question))),
                    None => unreachable!("the owner holds a sender itself"),
                },
            }
            for (lan, to, datagram) in std::mem::take(&mut self.told) {
                sockets.mouths[lan].say(to, &datagram).await;
            }
        }
    }

    fn answer(&self, question: Question) -> Option<SocketAddr> {
        match question {
            Question::InboxOf(peer) => self.machine.inbox_of(peer),
            Question::StandInOf { peer, for_whom } => self.machine.stand_in_of(peer, for_whom),
            Question::Neighbour(address) => {
                self.machine.is_neighbour(address).then(|| SocketAddr::new(address, 0))
            }
        }
    }

    fn statistics(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            beacons: self.machine.counters(),
            packets_dropped: self.packets_dropped,
            connections: read(&self.terms.carried.connections),
            connections_open: read(&self.terms.carried.open),
            connections_over_limit: read(&self.terms.carried.over_limit),
            connections_refused: read(&self.terms.carried.refused),
            connections_failed: read(&self.terms.carried.failed),
            connection_bytes_in: read(&self.terms.carried.bytes_in),
            connection_bytes_out: read(&self.terms.carried.bytes_out),
        }
    }

    /// Somebody has connected to the publisher: a subscriber, or a repeater that carries a connection.
    fn welcome(&mut self, stream: N::Stream, remote: SocketAddr) {
        // A repeater that connects here is there: we need not wait to connect to it.
        for (place, (is_there, _)) in &self.links {
            if place.ip() == remote.ip() {
                is_there.notify_waiters();
            }
        }
        if self.subscribers.len() >= SUBSCRIBERS_MAX {
            debug!(%remote, "connection closed: too many subscribers");
            return;
        }
        self.last_subscriber += 1;
        let subscriber = Subscriber(self.last_subscriber);
        let (issues_tx, issues) = mpsc::channel(SUBSCRIBER_PACKETS);
        let guest =
            publish::Guest { net: self.net.clone(), remote, subscriber, issues, terms: self.terms.clone() };
        let task = self.net.spawn("repeater subscriber", guest.run(stream));
        self.subscribers.insert(subscriber, (issues_tx, task));
    }

    /// Hands the machine one input and does what it wants.
    fn feed(&mut self, input: Input) {
        self.machine.handle(self.net.now(), input);
        while let Some(output) = self.machine.poll() {
            self.act(output);
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Publish { to: Some(to), packet, is_news } => {
                self.publish(to, publish::Issue { packet, is_news });
            }
            Output::Publish { to: None, packet, is_news } => {
                let issue = publish::Issue { packet, is_news };
                let everybody: Vec<_> = self.subscribers.keys().copied().collect();
                everybody.into_iter().for_each(|subscriber| self.publish(subscriber, issue.clone()));
            }
            Output::Tell { lan, to, datagram } => self.told.push((lan, to, datagram)),
            Output::Link(place) => {
                let is_there = Arc::new(Notify::new());
                let task =
                    subscribe::follow(self.net.clone(), place, self.notes_tx.clone(), Arc::clone(&is_there));
                self.links.insert(place, (is_there, self.net.spawn("repeater link", task)));
            }
            Output::Unlink(place) => drop(self.links.remove(&place)),
            Output::StandIn { peer, port, place } => {
                if let Some(known) = self.stand_ins.get(&peer).filter(|known| known.port == port) {
                    return known.lead_to(place);
                }
                let lans = self.machine.lans();
                let started = StandIn::start(&self.net, lans, peer, port, place, &self.terms);
                let is_there = started.is_ok();
                match started {
                    Ok(stand_in) => drop(self.stand_ins.insert(peer, stand_in)),
                    Err(error) => debug!(%error, port, "no stand-in at this port"),
                }
                self.machine.handle(self.net.now(), Input::StandsIn { peer, port, is_there });
            }
            Output::EndStandIn(peer) => drop(self.stand_ins.remove(&peer)),
            Output::Event(event) => {
                debug!(?event);
                let _ = self.events.try_send(event);
            }
        }
    }

    fn publish(&mut self, to: Subscriber, issue: publish::Issue) {
        if let Some((issues, _)) = self.subscribers.get(&to)
            && issues.try_send(issue).is_err()
        {
            self.packets_dropped += 1;
        }
    }
}

/// Pauses between attempts that fail: from 0.1 s, each twice as long, up to 5 s, and unevenly, so that many do not try at
/// the same moments.
pub(super) struct Pause<N: Net> {
    net: N,
    alarm: N::Alarm,
    failures: u32,
}

impl<N: Net> Pause<N> {
    const FIRST_MS: u64 = 100;
    const DOUBLED_MAX: u32 = 5;

    pub(super) fn new(net: &N) -> Self {
        Self { net: net.clone(), alarm: net.alarm(), failures: 0 }
    }

    /// An attempt came through.
    pub(super) const fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Waits after an attempt that failed.
    pub(super) async fn wait(&mut self) {
        let most = Self::FIRST_MS << self.failures.min(Self::DOUBLED_MAX);
        self.failures = self.failures.saturating_add(1);
        let mut random = [0; 2];
        self.net.random(&mut random);
        let uneven = most / 2 * u64::from(u16::from_le_bytes(random)) / u64::from(u16::MAX);
        self.sleep(Duration::from_millis(most / 2 + uneven)).await;
    }

    /// Waits.
    pub(super) async fn sleep(&mut self, span: Duration) {
        self.alarm.set(Some(self.net.now().after(span)));
        self.alarm.ring().await;
    }
}

/// Does something within a time.
///
/// # Errors
/// `TimedOut` when it took longer.
pub(super) async fn within<N: Net, T, E: From<std::io::Error>>(
    net: &N,
    span: Duration,
    action: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(span)));
    tokio::select! {
        biased;
        outcome = action => outcome,
        () = alarm.ring() => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Asks the other end of a connection for signs of life, and finds when there were none for long: on a connection that is
/// only listened to, nothing else would ever tell.
pub(super) struct Pulse {
    next: Timestamp,
    received_bytes: u64,
    /// How many times nothing had come since the question.
    misses: u32,
}

impl Pulse {
    const INTERVAL: Duration = Duration::from_secs(2);
    const MISSES_MAX: u32 = 5;

    pub(super) fn new(now: Timestamp) -> Self {
        Self { next: now.after(Self::INTERVAL), received_bytes: 0, misses: 0 }
    }

    pub(super) const fn next(&self) -> Timestamp {
        self.next
    }

    /// Takes note of how many bytes ever came; `false` when the other end is dead. A peer that is not `asked`, because it
    /// does not know the question, is never dead.
    pub(super) fn beat(&mut self, now: Timestamp, received_bytes: u64, asked: bool) -> bool {
        self.next = now.after(Self::INTERVAL);
        let is_quiet = received_bytes == self.received_bytes;
        self.misses = if is_quiet && asked { self.misses + 1 } else { 0 };
        self.received_bytes = received_bytes;
        self.misses <= Self::MISSES_MAX
    }
}
