//! Runs a hub: moves connections and messages between a network and its machine.
//!
//! One task owns the machine and waits for nobody: a client whose queue is full is closed, and events that nobody takes are
//! lost (the counters are not).

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, debug, info, info_span};

use super::StartError;
use super::link::{Link, Note};
use crate::Timestamp;
use crate::gossip::hub::{HubMachine, Input, Output};
use crate::gossip::uplink::identity;
use crate::gossip::{Config, Counters, Event, Key, Limits, LinkId};
use crate::machine::Machine;
use crate::net::{Alarm, Net, TcpListener};
use crate::zre::{PeerId, Text};

/// Notes of connections that wait for the hub. A connection whose note does not fit reads no more.
const NOTES: usize = 256;
/// Events that wait for whoever runs the hub.
const EVENTS: usize = 4096;
/// Requests that wait for the hub.
const REQUESTS: usize = 16;
/// How much of one source a round takes.
const BATCH: usize = 64;

/// A handle on a running gossip hub. Clones are handles on the same hub; it ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Hub {
    address: SocketAddr,
    requests: mpsc::Sender<Request>,
}

/// The events of a hub, in order. Those that nobody takes in time are lost.
pub type Events = crate::events::Events<Event>;

enum Request {
    Look(Box<dyn FnOnce(&HubMachine) + Send>),
    Stop(oneshot::Sender<()>),
}

impl Hub {
    /// Starts a hub on a network. It listens when this returns.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn start<N: Net>(net: &N, config: Config) -> Result<(Self, Events), StartError> {
        Self::start_with(net, config, Limits::default())
    }

    /// Starts a hub with limits of its own.
    ///
    /// # Errors
    /// As [`Hub::start`].
    pub fn start_with<N: Net>(net: &N, config: Config, limits: Limits) -> Result<(Self, Events), StartError> {
        let at = SocketAddr::new(config.address, config.port);
        let listen = || {
            let listener = net.listen(at)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen().map_err(|source| StartError { at, source })?;
        let (mut id, mut seed) = ([0; 16], [0; 8]);
        net.random(&mut id);
        net.random(&mut seed);
        let (id, seed) = (PeerId::from_random(id), u64::from_le_bytes(seed));
        let machine = HubMachine::new(config, limits.clone(), id, seed, net.now());
        let (requests, requests_rx) = mpsc::channel(REQUESTS);
        let (events_tx, events) = mpsc::channel(EVENTS);
        let (notes_tx, notes) = mpsc::channel(NOTES);
        let driver = Driver {
            alarm: net.alarm(),
            net: net.clone(),
            machine,
            limits,
            armed: None,
            links: BTreeMap::new(),
            handshakes: BTreeMap::new(),
            dialled: BTreeSet::new(),
            notes,
            notes_tx,
            requests: requests_rx,
            events: events_tx,
            stopped: None,
        };
        net.spawn("gossip hub", driver.run(listener, address).instrument(info_span!("gossip"))).detach();
        Ok((Self { address, requests }, Events::new(events)))
    }

    /// Where it listens; the address is the unspecified one when it listens everywhere.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The tuples that there are; `None` when the hub has stopped.
    pub async fn tuples(&self) -> Option<Vec<(Key, Text)>> {
        self.look(|machine| machine.tuples().map(|(key, value)| (key.clone(), value.clone())).collect()).await
    }

    /// What the hub counted since its start; `None` when it has stopped.
    pub async fn counters(&self) -> Option<Counters> {
        self.look(HubMachine::counters).await
    }

    /// Closes all connections and ends. Stopping a hub that has stopped is no error.
    pub async fn stop(&self) {
        let (asker, answer) = oneshot::channel();
        if self.requests.send(Request::Stop(asker)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&HubMachine) -> T + Send + 'static,
    ) -> Option<T> {
        let (asker, answer) = oneshot::channel();
        let request = Request::Look(Box::new(|machine| drop(asker.send(look(machine)))));
        self.requests.send(request).await.ok()?;
        answer.await.ok()
    }
}

struct Driver<N: Net> {
    net: N,
    machine: HubMachine,
    limits: Limits,
    alarm: N::Alarm,
    armed: Option<Timestamp>,
    links: BTreeMap<LinkId, Link>,
    /// Connections to us that are not through their handshake, and where they come from.
    handshakes: BTreeMap<LinkId, SocketAddr>,
    /// Connections to other hubs.
    dialled: BTreeSet<LinkId>,
    notes: mpsc::Receiver<Note>,
    notes_tx: mpsc::Sender<Note>,
    requests: mpsc::Receiver<Request>,
    events: mpsc::Sender<Event>,
    stopped: Option<Option<oneshot::Sender<()>>>,
}

impl<N: Net> Driver<N> {
    async fn run(mut self, listener: N::Listener, address: SocketAddr) {
        info!(%address, "hub started");
        {
            // It lives across rounds, because a future that is dropped is not woken.
            let mut accepting = pin!(listener.accept());
            poll_fn(|context| {
                while self.stopped.is_none() {
                    let mut is_served = self.serve_time(context);
                    is_served &= self.serve_notes(context);
                    is_served &= (0..BATCH).any(|_| {
                        let Poll::Ready(accepted) = accepting.as_mut().poll(context) else { return true };
                        accepting.set(listener.accept());
                        self.on_accepted(accepted);
                        false
                    });
                    is_served &= self.serve_requests(context);
                    if is_served && self.armed == self.machine.deadline() {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(())
            })
            .await;
        }
        drop(listener);
        self.links.clear();
        info!("hub stopped");
        if let Some(Some(asker)) = self.stopped {
            let _ = asker.send(());
        }
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.machine.handle(self.net.now(), input);
            while let Some(output) = self.machine.poll() {
                self.act(output, &mut inputs);
            }
        }
    }

    fn act(&mut self, output: Output, inputs: &mut Vec<Input>) {
        match output {
            Output::Dial { link, endpoint, timeout } => {
                let name = identity(true, self.machine.id(), link);
                let notes = self.notes_tx.clone();
                let dialled = Link::dialled(&self.net, link, (endpoint, timeout), name, &self.limits, notes);
                self.links.insert(link, dialled);
                self.dialled.insert(link);
            }
            Output::Send { link, frames } => {
                let Some(queue) = self.links.get(&link) else { return };
                if !queue.send(frames) {
                    self.forget(link);
                    inputs.push(Input::QueueFull { link });
                }
            }
            Output::Close(link) => self.forget(link),
            Output::Event(event) => {
                debug!(?event, "event");
                let _ = self.events.try_send(event);
            }
        }
    }

    fn forget(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.handshakes.remove(&link);
        self.dialled.remove(&link);
    }

    // Each of these serves one source, and returns whether that has no more and wakes the task when it has.

    fn serve_time(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.machine.deadline();
        if self.armed != deadline {
            self.alarm.set(deadline);
            self.armed = deadline;
        }
        if self.alarm.poll_ring(context).is_pending() {
            return true;
        }
        self.armed = None;
        self.feed(Input::Timeout);
        false
    }

    fn serve_notes(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            let Poll::Ready(Some(note)) = self.notes.poll_recv(context) else { return true };
            match note {
                // What a connection that was closed had still to say is of no use.
                Note::Opened { link, .. } | Note::Received { link, .. } | Note::Closed { link }
                    if !self.links.contains_key(&link) => {}
                Note::Opened { link, identity } => match self.handshakes.remove(&link) {
                    Some(remote) => self.feed(Input::ClientOpened { link, identity, remote }),
                    None => self.feed(Input::HubOpened { link, identity }),
                },
                Note::Received { link, messages } => {
                    for frames in messages {
                        self.feed(Input::Received { link, frames });
                    }
                }
                Note::Closed { link } => {
                    self.forget(link);
                    self.feed(Input::Closed { link });
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
        // Whoever means it is through its handshake before so many others come.
        if self.handshakes.len() >= self.limits.handshakes
            && let Some((oldest, remote)) = self.handshakes.pop_first()
        {
            debug!(%remote, "connection closed: too many handshakes");
            self.links.remove(&oldest);
        }
        let link = self.machine.new_link();
        let name = identity(true, self.machine.id(), LinkId::from_number(0));
        let notes = self.notes_tx.clone();
        let accepted = Link::accepted(&self.net, link, (stream, remote), name, &self.limits, notes);
        self.links.insert(link, accepted);
        self.handshakes.insert(link, remote);
    }

    fn serve_requests(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            match self.requests.poll_recv(context) {
                Poll::Pending => return true,
                Poll::Ready(Some(Request::Look(look))) => look(&self.machine),
                Poll::Ready(Some(Request::Stop(asker))) => {
                    self.stopped = Some(Some(asker));
                    return false;
                }
                // The last handle is gone.
                Poll::Ready(None) => {
                    self.stopped = Some(None);
                    return false;
                }
            }
        }
        false
    }
}
