//! Runs a client: moves connections and messages between a network and its machine.
//!
//! What it hears waits for whoever takes it, and while that is much, nothing more is taken from the hubs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, debug, info, info_span};

use super::link::{Link, Note};
use crate::Timestamp;
use crate::gossip::client::{ClientMachine, Input, Output};
use crate::gossip::uplink::identity;
use crate::gossip::{Heard, Key, Limits, LinkId};
use crate::machine::Machine;
use crate::net::{Alarm, Net};
use crate::zre::{Endpoint, PeerId, Text};

/// Notes of connections that wait for the client.
const NOTES: usize = 64;
/// What was heard and waits to be taken.
const HEARD: usize = 256;
/// Requests that wait for the client.
const REQUESTS: usize = 16;
/// How much of one source a round takes.
const BATCH: usize = 64;
/// How long a client that stops goes on writing what it said, withdrawals above all.
const LINGER: Duration = Duration::from_secs(1);

/// Settings of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The hubs, all of which are told and believed alike.
    pub hubs: Vec<Endpoint>,
    /// What strangers may cost.
    pub limits: Limits,
}

/// A handle on a running client. Clones are handles on the same client; it ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    requests: mpsc::Sender<Request>,
}

/// What a client hears, in order.
pub type HeardEvents = crate::events::Events<Heard>;

#[derive(Debug)]
enum Request {
    Input(Box<Input>),
    Stop(oneshot::Sender<()>),
}

impl Client {
    /// Starts a client. It connects to its hubs from now on.
    pub fn start<N: Net>(net: &N, config: ClientConfig) -> (Self, HeardEvents) {
        let (mut id, mut seed) = ([0; 16], [0; 8]);
        net.random(&mut id);
        net.random(&mut seed);
        let limits = config.limits;
        let machine = ClientMachine::new(config.hubs, limits.clone(), u64::from_le_bytes(seed), net.now());
        let (requests, requests_rx) = mpsc::channel(REQUESTS);
        let (events_tx, events) = mpsc::channel(HEARD);
        let (notes_tx, notes) = mpsc::channel(NOTES);
        let driver = Driver {
            alarm: net.alarm(),
            net: net.clone(),
            id: PeerId::from_random(id),
            machine,
            limits,
            armed: None,
            links: BTreeMap::new(),
            open: BTreeSet::new(),
            notes,
            notes_tx,
            requests: requests_rx,
            events: events_tx,
            backlog: VecDeque::new(),
            room: None,
            stop: None,
        };
        net.spawn("gossip client", driver.run().instrument(info_span!("gossip"))).detach();
        (Self { requests }, HeardEvents::new(events))
    }

    /// Publishes a tuple to all hubs, now and whenever one is found again, or gives it another value. One that is over a
    /// limit of [`message`](crate::gossip::message) is told to nobody.
    pub async fn publish(&self, key: Key, value: impl Into<Text>) {
        let input = Box::new(Input::Publish { key, value: value.into() });
        // A client that has stopped publishes nothing.
        let _ = self.requests.send(Request::Input(input)).await;
    }

    /// Withdraws a tuple. czmq's hub does not know that and keeps it.
    pub async fn withdraw(&self, key: Key) {
        let _ = self.requests.send(Request::Input(Box::new(Input::Withdraw { key }))).await;
    }

    /// Writes what was said, withdraws nothing, and ends: at the latest after about a second. Stopping a client that has
    /// stopped is no error.
    pub async fn stop(&self) {
        let (asker, answer) = oneshot::channel();
        if self.requests.send(Request::Stop(asker)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

type Room =
    Pin<Box<dyn Future<Output = Result<mpsc::OwnedPermit<Heard>, mpsc::error::SendError<()>>> + Send>>;

struct Driver<N: Net> {
    net: N,
    id: PeerId,
    machine: ClientMachine,
    limits: Limits,
    alarm: N::Alarm,
    armed: Option<Timestamp>,
    links: BTreeMap<LinkId, Link>,
    /// Those of them that are through their handshake.
    open: BTreeSet<LinkId>,
    notes: mpsc::Receiver<Note>,
    notes_tx: mpsc::Sender<Note>,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<Heard>,
    /// What nobody had room for yet.
    backlog: VecDeque<Heard>,
    room: Option<Room>,
    stop: Option<Stop>,
}

/// A client that was asked to stop and writes what it said before.
struct Stop {
    asker: Option<oneshot::Sender<()>>,
    until: Timestamp,
}

impl<N: Net> Driver<N> {
    async fn run(mut self) {
        info!("client started");
        poll_fn(|context| {
            loop {
                let mut is_served = self.serve_time(context);
                is_served &= self.serve_backlog(context);
                is_served &= self.serve_notes(context);
                is_served &= self.serve_requests(context);
                let is_over = |stop: &Stop| self.links.is_empty() || stop.until <= self.net.now();
                if self.stop.as_ref().is_some_and(is_over) {
                    return Poll::Ready(());
                }
                let has_news =
                    self.armed != self.deadline() || (self.room.is_none() && !self.backlog.is_empty());
                if is_served && !has_news {
                    return Poll::Pending;
                }
            }
        })
        .await;
        self.links.clear();
        info!("client stopped");
        if let Some(Stop { asker: Some(asker), .. }) = self.stop {
            let _ = asker.send(());
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match &self.stop {
            Some(stop) => Some(stop.until),
            // Reminders wait until what was heard before is taken.
            None if !self.backlog.is_empty() => None,
            None => self.machine.deadline(),
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(self.net.now(), input);
        let mut full = Vec::new();
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Dial { link, endpoint, timeout } => {
                    let name = identity(false, self.id, link);
                    let notes = self.notes_tx.clone();
                    let dialled =
                        Link::dialled(&self.net, link, (endpoint, timeout), name, &self.limits, notes);
                    self.links.insert(link, dialled);
                }
                Output::Send { link, frames } => {
                    if self.links.get(&link).is_some_and(|queue| !queue.send(frames)) {
                        full.push(link);
                    }
                }
                Output::Event(heard) => {
                    debug!(?heard, "heard");
                    self.tell(heard);
                }
            }
        }
        for link in full {
            // A hub that takes nothing is as good as gone.
            if self.links.remove(&link).is_some() {
                self.feed(Input::Closed { link });
            }
        }
    }

    fn tell(&mut self, heard: Heard) {
        if self.backlog.is_empty() {
            match self.events.try_send(heard) {
                Err(mpsc::error::TrySendError::Full(heard)) => self.backlog.push_back(heard),
                // Whoever dropped the events does not want them.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        } else {
            self.backlog.push_back(heard);
        }
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
        if self.stop.is_none() {
            self.feed(Input::Timeout);
        }
        false
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
                (Ok(permit), Some(heard)) => drop(permit.send(heard)),
                (Ok(_), None) => return false,
                (Err(_), _) => {
                    self.backlog.clear();
                    return false;
                }
            }
        }
        false
    }

    fn serve_notes(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            if !self.backlog.is_empty() {
                return true;
            }
            let Poll::Ready(Some(note)) = self.notes.poll_recv(context) else { return true };
            match note {
                Note::Opened { link, .. } | Note::Received { link, .. } | Note::Closed { link }
                    if !self.links.contains_key(&link) => {}
                Note::Closed { link } => {
                    self.links.remove(&link);
                    self.open.remove(&link);
                    if self.stop.is_none() {
                        self.feed(Input::Closed { link });
                    }
                }
                // A client that stops only writes.
                _ if self.stop.is_some() => {}
                Note::Opened { link, identity } => {
                    self.open.insert(link);
                    self.feed(Input::Opened { link, identity });
                }
                Note::Received { link, messages } => {
                    for frames in messages {
                        self.feed(Input::Received { link, frames });
                    }
                }
            }
        }
        false
    }

    fn serve_requests(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            match self.requests.poll_recv(context) {
                Poll::Pending => return true,
                Poll::Ready(Some(Request::Input(input))) => {
                    if self.stop.is_none() {
                        self.feed(*input);
                    }
                }
                Poll::Ready(Some(Request::Stop(asker))) => self.begin_stop(Some(asker)),
                Poll::Ready(None) if self.stop.is_some() => return true,
                Poll::Ready(None) => self.begin_stop(None),
            }
        }
        false
    }

    fn begin_stop(&mut self, asker: Option<oneshot::Sender<()>>) {
        if self.stop.is_none() {
            // Nothing was said on one that is not open yet.
            self.links.retain(|link, _| self.open.contains(link));
            self.links.values_mut().for_each(Link::drain);
            self.backlog.clear();
            self.stop = Some(Stop { asker, until: self.net.now().after(LINGER) });
        }
    }
}
