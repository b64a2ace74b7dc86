//! Moves connections between the network and a relay's machine.
//!
//! One task owns the machine; each listener and each host's connection has a task of its own. Clients' connections wait with
//! the machine until it joins them to a data connection, whose task then moves their bytes.
//!
//! Whoever may connect can't grow memory: connections that have not introduced themselves are limited in number and time,
//! clients by their service's limits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::compatible::Announcement;
use super::config::{Config, Limits, Protocol};
use super::counters::Counters;
use super::machine::{ClientId, ConnectionId, Input, Name, Output, RelayMachine};
use super::message::Message;
use super::proof::{SessionKey, Token};
use super::throttle::Throttle;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task};
use datagrams::Caller;
use handle::Request;

mod connection;
mod datagrams;
mod doors;
mod handle;

pub use handle::{Relay, RelayError};

/// Connections that have not introduced themselves yet. The oldest makes room for one more.
const STRANGERS_MAX: usize = 1024;
/// Accepted connections between the listeners and the machine.
const ACCEPTED: usize = 64;

/// Where a connection came in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entrance {
    Hosts,
    Commands,
    Clients(Name),
}

struct Accepted<N: Net> {
    entrance: Entrance,
    line: Line<N>,
    from: SocketAddr,
    /// Our own address as the other side has it.
    at: SocketAddr,
}

/// What a client and the relay have between them.
enum Line<N: Net> {
    Stream(N::Stream),
    Datagrams(Caller<N>),
}

/// A client on its way to a data connection.
struct Client<N: Net> {
    service: Name,
    line: Line<N>,
    from: SocketAddr,
    at: SocketAddr,
}

/// What the task of a host's connection tells.
enum Note<N: Net> {
    Host {
        id: ConnectionId,
        service: Name,
        key: SessionKey,
        outbox: mpsc::UnboundedSender<Message>,
    },
    Commands {
        id: ConnectionId,
        outbox: mpsc::UnboundedSender<Announcement>,
    },
    Said {
        id: ConnectionId,
        message: Message,
    },
    Data {
        id: ConnectionId,
        control: ConnectionId,
        ticket: u64,
        seat: oneshot::Sender<Client<N>>,
    },
    CompatibleData {
        id: ConnectionId,
        session: i32,
        seat: oneshot::Sender<Client<N>>,
    },
    Free {
        id: ConnectionId,
        seat: oneshot::Sender<Client<N>>,
    },
    /// The data connection was of no use any more when this client came to it.
    Returned {
        client: Client<N>,
    },
    Ended {
        id: ConnectionId,
    },
}

/// What tasks of connections look up.
struct Shared {
    /// Keys of the hosts that are connected.
    keys: Mutex<BTreeMap<ConnectionId, SessionKey>>,
    tokens: Mutex<BTreeMap<Name, Token>>,
    throttles: Mutex<BTreeMap<Name, Arc<Throttle>>>,
    /// How long sessions of UDP services may be silent.
    idle: Mutex<BTreeMap<Name, Duration>>,
    /// Nobody has it: proofs for services that don't exist are checked against it.
    nobody: Token,
    /// For connections that come from now on.
    tls: Mutex<Option<TlsAcceptor>>,
    /// The port for clients of the original protocol, when that is spoken.
    compatible_port: Option<Arc<AtomicU16>>,
    heartbeat: Duration,
    counters: Arc<Counters>,
}

impl Shared {
    fn token(&self, service: &str) -> Option<Token> {
        self.tokens.lock().expect("nothing panics while it holds this lock").get(service).cloned()
    }

    /// That of a service which is no more has no limit: only its last sessions ask.
    fn throttle(&self, service: &str) -> Arc<Throttle> {
        let throttles = self.throttles.lock().expect("nothing panics while it holds this lock");
        throttles.get(service).cloned().unwrap_or_default()
    }

    fn limit(&self, services: &BTreeMap<Name, Limits>) {
        let mut throttles = self.throttles.lock().expect("nothing panics while it holds this lock");
        throttles.retain(|name, _| services.contains_key(name));
        for (name, limits) in services {
            throttles.entry(name.clone()).or_default().set(limits.bandwidth);
        }
        let idle = services.iter().map(|(name, limits)| (name.clone(), limits.idle)).collect();
        *self.idle.lock().expect("nothing panics while it holds this lock") = idle;
    }

    /// One that is no more lets nobody wait.
    fn idle(&self, service: &str) -> Duration {
        let idle = self.idle.lock().expect("nothing panics while it holds this lock");
        idle.get(service).copied().unwrap_or_default()
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.lock().expect("nothing panics while it holds this lock").clone()
    }

    fn key(&self, control: ConnectionId) -> Option<SessionKey> {
        self.keys.lock().expect("nothing panics while it holds this lock").get(&control).cloned()
    }
}

/// A port that is listened on.
struct Listener {
    asked: (Protocol, SocketAddr),
    local: SocketAddr,
    _task: Task,
}

struct Driver<N: Net> {
    net: N,
    machine: RelayMachine,
    config: Config,
    shared: Arc<Shared>,
    alarm: N::Alarm,
    listeners: BTreeMap<Entrance, Listener>,
    accepted_tx: mpsc::Sender<Accepted<N>>,
    accepted: mpsc::Receiver<Accepted<N>>,
    notes_tx: mpsc::UnboundedSender<Note<N>>,
    notes: mpsc::UnboundedReceiver<Note<N>>,
    requests: mpsc::Receiver<Request>,
    tasks: BTreeMap<ConnectionId, Task>,
    strangers: BTreeSet<ConnectionId>,
    outboxes: BTreeMap<ConnectionId, mpsc::UnboundedSender<Message>>,
    command_channels: BTreeMap<ConnectionId, mpsc::UnboundedSender<Announcement>>,
    seats: BTreeMap<ConnectionId, oneshot::Sender<Client<N>>>,
    clients: BTreeMap<ClientId, Client<N>>,
    last_id: u64,
    next_session: i32,
    stopping: Vec<oneshot::Sender<()>>,
    stop_at: Option<crate::Timestamp>,
}

impl<N: Net> Driver<N> {
    async fn run(mut self) {
        loop {
            let deadline = [self.machine.deadline(), self.stop_at].into_iter().flatten().min();
            self.alarm.set(deadline);
            tokio::select! {
                biased;
                () = self.alarm.ring() => {
                    self.machine.handle(self.net.now(), Input::Timeout);
                }
                note = self.notes.recv() => if let Some(note) = note { self.on_note(note) },
                accepted = self.accepted.recv() => if let Some(accepted) = accepted { self.on_accepted(accepted) },
                request = self.requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => break,
                },
            }
            self.act();
            let is_over = self.stop_at.is_some_and(|at| self.machine.sessions() == 0 || self.net.now() >= at);
            if is_over {
                break;
            }
        }
        let counts: Vec<_> = self.shared.counters.all().collect();
        info!(?counts, "relay stopped");
        let stopping = std::mem::take(&mut self.stopping);
        drop(self);
        for answer in stopping {
            let _ = answer.send(());
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Stop(answer) => {
                self.stopping.push(answer);
                if self.stop_at.is_none() {
                    self.listeners.clear();
                    self.stop_at = Some(self.net.now().after(self.config.drain));
                    self.machine.handle(self.net.now(), Input::Drain);
                    info!(sessions = self.machine.sessions(), "relay drains");
                }
            }
            Request::Reload(config, answer) => {
                let outcome = self.apply(*config);
                info!(
                    is_done = outcome.is_ok(),
                    services = self.config.services.len(),
                    "settings read again"
                );
                let _ = answer.send(outcome);
            }
            Request::Services(answer) => {
                let at = |(entrance, listener): (&Entrance, &Listener)| match entrance {
                    Entrance::Clients(name) => Some((name.to_string(), listener.local)),
                    Entrance::Hosts | Entrance::Commands => None,
                };
                let _ = answer.send(self.listeners.iter().filter_map(at).collect());
            }
        }
    }

    fn on_accepted(&mut self, accepted: Accepted<N>) {
        let Accepted { entrance, line, from, at } = accepted;
        self.last_id += 1;
        if let Entrance::Clients(service) = entrance {
            self.shared.counters.clients.add(1);
            let client = ClientId(self.last_id);
            self.clients.insert(client, Client { service: service.clone(), line, from, at });
            return self.machine.handle(self.net.now(), Input::Client { client, service, from: from.ip() });
        }
        // Hosts have no other.
        let Line::Stream(stream) = line else { return };
        self.shared.counters.host_connections.add(1);
        if self.strangers.len() >= STRANGERS_MAX
            && let Some(oldest) = self.strangers.pop_first()
        {
            self.shared.counters.host_timeouts.add(1);
            warn!(
                connections = STRANGERS_MAX,
                "a connection that had not introduced itself made room for another"
            );
            self.tasks.remove(&oldest);
        }
        let id = ConnectionId(self.last_id);
        let connection = connection::Connection {
            id,
            net: self.net.clone(),
            shared: self.shared.clone(),
            notes: self.notes_tx.clone(),
            from,
            at,
        };
        let task = if entrance == Entrance::Hosts {
            let session = self.next_session;
            self.next_session = session.checked_add(1).unwrap_or(0);
            self.net.spawn("host connection", connection.serve(stream, session))
        } else {
            self.net.spawn("command channel", connection.serve_commands(stream))
        };
        self.strangers.insert(id);
        self.tasks.insert(id, task);
    }

    fn on_note(&mut self, note: Note<N>) {
        let now = self.net.now();
        match note {
            Note::Host { id, service, key, outbox } if self.strangers.remove(&id) => {
                self.shared.counters.hosts.add(1);
                self.shared.keys.lock().expect("nothing panics while it holds this lock").insert(id, key);
                self.outboxes.insert(id, outbox);
                info!(host = id.0, %service, "host connected");
                self.machine.handle(now, Input::Host { control: id, service });
            }
            Note::Commands { id, outbox } if self.strangers.remove(&id) => {
                self.command_channels.insert(id, outbox);
                self.machine.handle(now, Input::Commands(id));
            }
            Note::Said { id, message } => {
                let input = match message {
                    Message::Health(is_well) => Input::Health(id, is_well),
                    Message::Draining => Input::Leaving(id),
                    _ => Input::Heard(id),
                };
                self.machine.handle(now, input);
            }
            Note::Data { id, control, ticket, seat } if self.strangers.remove(&id) => {
                self.seats.insert(id, seat);
                self.machine.handle(now, Input::Data { data: id, control, ticket });
            }
            Note::CompatibleData { id, session, seat } if self.strangers.remove(&id) => {
                self.seats.insert(id, seat);
                self.machine.handle(now, Input::CompatibleData { data: id, session });
            }
            Note::Free { id, seat } => {
                self.seats.insert(id, seat);
                self.machine.handle(now, Input::Free(id));
            }
            Note::Returned { client } => self.take_back(client),
            Note::Ended { id } => self.forget(id),
            // It made room for another one in the meantime.
            Note::Host { id, .. }
            | Note::Commands { id, .. }
            | Note::Data { id, .. }
            | Note::CompatibleData { id, .. } => {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        self.drop_connection(id);
        self.machine.handle(self.net.now(), Input::Gone(id));
    }

    fn drop_connection(&mut self, id: ConnectionId) {
        self.tasks.remove(&id);
        self.strangers.remove(&id);
        self.seats.remove(&id);
        self.command_channels.remove(&id);
        if self.outboxes.remove(&id).is_some() {
            info!(host = id.0, "host gone");
            self.shared.keys.lock().expect("nothing panics while it holds this lock").remove(&id);
        }
    }

    fn act(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Join(client, data) => self.join(client, data),
                Output::Deny(client, denial) => {
                    if let Some(client) = self.clients.remove(&client) {
                        self.shared.counters.clients_denied.add(1);
                        debug!(from = %client.from, reason = %denial, "client not served");
                    }
                }
                Output::Want { control, first, count } => self.tell(control, Message::Want { first, count }),
                Output::Ping(control) => self.tell(control, Message::Ping(0)),
                Output::Crowd(control, hosts) => self.tell(control, Message::Crowd(hosts)),
                Output::Draining(control) => self.tell(control, Message::Draining),
                Output::Announce(control, announcement) => {
                    if let Some(outbox) = self.command_channels.get(&control) {
                        let _ = outbox.send(announcement);
                    }
                }
                Output::Close(id) => self.drop_connection(id),
                Output::Refuse(control, refusal) => {
                    self.shared.counters.hosts_refused.add(1);
                    self.tell(control, Message::Refused(refusal));
                    // Its task ends when it has written what is in the outbox.
                    self.outboxes.remove(&control);
                }
            }
        }
    }

    fn join(&mut self, client: ClientId, data: ConnectionId) {
        let Some(client) = self.clients.remove(&client) else { return };
        let seat = self.seats.remove(&data);
        self.shared.counters.sessions.add(1);
        let returned = match seat {
            Some(seat) => seat.send(client).err(),
            None => Some(client),
        };
        // The data connection has just ended.
        if let Some(returned) = returned {
            self.forget(data);
            self.take_back(returned);
        }
    }

    /// A client that nobody has served: another data connection may.
    fn take_back(&mut self, returned: Client<N>) {
        self.last_id += 1;
        let (client, service) = (ClientId(self.last_id), returned.service.clone());
        self.clients.insert(client, returned);
        self.machine.handle(self.net.now(), Input::Returned { client, service });
    }

    fn tell(&self, control: ConnectionId, message: Message) {
        if let Some(outbox) = self.outboxes.get(&control) {
            let _ = outbox.send(message);
        }
    }
}
