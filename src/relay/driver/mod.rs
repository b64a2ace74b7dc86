//! Moves connections between the network and a relay's machine.
//!
//! One task owns the machine; each listener and each host's connection has a task of its own. Clients' connections wait with
//! the machine until it joins them to a data connection, whose task then moves their bytes.
//!
//! Whoever may connect can't grow memory: connections that have not introduced themselves are limited in number and time,
//! clients by their service's limits.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::compatible::Announcement;
use super::config::{Config, Limits};
use super::counters::Counters;
use super::machine::{ClientId, ConnectionId, Input, Name, Output, RelayMachine};
use super::message::Message;
use super::proof::{SessionKey, Token};
use super::throttle::Throttle;
use super::tls;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task, TcpListener};
use crate::tls::TlsError;

mod connection;

/// Connections that have not introduced themselves yet. The oldest makes room for one more.
const STRANGERS_MAX: usize = 1024;
/// Accepted connections between the listeners and the machine.
const ACCEPTED: usize = 64;

/// A running relay. Dropping the last handle ends it.
#[derive(Clone, Debug)]
pub struct Relay {
    requests: mpsc::Sender<Request>,
    hosts: SocketAddr,
    counters: Arc<Counters>,
}

/// Why a relay does not start, or does not take new settings.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// An address can't be listened on.
    #[error("can't listen for {whom} on {at}: {source}")]
    Listen {
        /// Whom the address is for.
        whom: String,
        /// The address.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or its key is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What can only be changed by a restart was changed.
    #[error("`{0}` can't be changed while the relay runs")]
    Fixed(&'static str),
    /// The relay has ended.
    #[error("the relay has ended")]
    Ended,
}

/// What a handle asks for.
#[derive(Debug)]
enum Request {
    Stop(oneshot::Sender<()>),
    Reload(Box<Config>, oneshot::Sender<Result<(), RelayError>>),
    Services(oneshot::Sender<BTreeMap<String, SocketAddr>>),
}

/// Where a connection came in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entrance {
    Hosts,
    Commands,
    Clients(Name),
}

struct Accepted<S> {
    entrance: Entrance,
    stream: S,
    from: SocketAddr,
    /// Our own address as the other side has it.
    at: SocketAddr,
}

/// A client on its way to a data connection.
struct Client<S> {
    service: Name,
    stream: S,
    from: SocketAddr,
    at: SocketAddr,
}

/// What the task of a host's connection tells.
enum Note<S> {
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
        seat: oneshot::Sender<Client<S>>,
    },
    CompatibleData {
        id: ConnectionId,
        session: i32,
        seat: oneshot::Sender<Client<S>>,
    },
    Free {
        id: ConnectionId,
        seat: oneshot::Sender<Client<S>>,
    },
    /// The data connection was of no use any more when this client came to it.
    Returned {
        client: Client<S>,
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
    /// Nobody has it: proofs for services that don't exist are checked against it.
    nobody: Token,
    tls: Option<TlsAcceptor>,
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
    }

    fn key(&self, control: ConnectionId) -> Option<SessionKey> {
        self.keys.lock().expect("nothing panics while it holds this lock").get(&control).cloned()
    }
}

struct Driver<N: Net> {
    net: N,
    machine: RelayMachine,
    config: Config,
    shared: Arc<Shared>,
    alarm: N::Alarm,
    listeners: BTreeMap<Entrance, (SocketAddr, SocketAddr, Task)>,
    accepted_tx: mpsc::Sender<Accepted<N::Stream>>,
    accepted: mpsc::Receiver<Accepted<N::Stream>>,
    notes_tx: mpsc::UnboundedSender<Note<N::Stream>>,
    notes: mpsc::UnboundedReceiver<Note<N::Stream>>,
    requests: mpsc::Receiver<Request>,
    tasks: BTreeMap<ConnectionId, Task>,
    strangers: BTreeSet<ConnectionId>,
    outboxes: BTreeMap<ConnectionId, mpsc::UnboundedSender<Message>>,
    command_channels: BTreeMap<ConnectionId, mpsc::UnboundedSender<Announcement>>,
    seats: BTreeMap<ConnectionId, oneshot::Sender<Client<N::Stream>>>,
    clients: BTreeMap<ClientId, Client<N::Stream>>,
    last_id: u64,
    next_session: i32,
    stopping: Vec<oneshot::Sender<()>>,
    stop_at: Option<crate::Timestamp>,
}

impl Relay {
    /// Starts a relay.
    ///
    /// # Errors
    /// When an address can't be listened on, or the certificate is of no use.
    pub fn start<N: Net>(net: &N, config: Config) -> Result<Self, RelayError> {
        let mut nobody = [0; 32];
        net.random(&mut nobody);
        let counters = Arc::new(Counters::default());
        let shared = Shared {
            keys: Mutex::default(),
            tokens: Mutex::default(),
            throttles: Mutex::default(),
            nobody: Token::random(nobody),
            tls: config.tls.as_ref().map(tls::acceptor).transpose()?,
            compatible_port: config.compatible.as_ref().map(|_| Arc::default()),
            heartbeat: config.heartbeat,
            counters: counters.clone(),
        };
        let (requests_tx, requests) = mpsc::channel(4);
        let (accepted_tx, accepted) = mpsc::channel(ACCEPTED);
        let (notes_tx, notes) = mpsc::unbounded_channel();
        let mut driver = Driver {
            net: net.clone(),
            machine: RelayMachine::new(config.heartbeat),
            config: Config { services: BTreeMap::new(), ..config.clone() },
            shared: Arc::new(shared),
            alarm: net.alarm(),
            listeners: BTreeMap::new(),
            accepted_tx,
            accepted,
            notes_tx,
            notes,
            requests,
            tasks: BTreeMap::new(),
            strangers: BTreeSet::new(),
            outboxes: BTreeMap::new(),
            command_channels: BTreeMap::new(),
            seats: BTreeMap::new(),
            clients: BTreeMap::new(),
            last_id: 0,
            next_session: 0,
            stopping: Vec::new(),
            stop_at: None,
        };
        let hosts = driver.listen(Entrance::Hosts, config.hosts)?;
        if let Some(compatible) = &config.compatible {
            driver.listen(Entrance::Commands, compatible.commands)?;
        }
        driver.apply(config)?;
        let clients =
            driver.listeners.get(&Entrance::Clients(Name::from(""))).map(|(_, local, _)| local.port());
        if let (Some(port), Some(clients)) = (&driver.shared.compatible_port, clients) {
            port.store(clients, Ordering::Relaxed);
        }
        info!(%hosts, "relay started");
        net.spawn("relay", driver.run()).detach();
        Ok(Self { requests: requests_tx, hosts, counters })
    }

    /// Where hosts connect to.
    pub const fn hosts_at(&self) -> SocketAddr {
        self.hosts
    }

    /// The services, and where their clients connect to; the original protocol's has no name.
    pub async fn services(&self) -> BTreeMap<String, SocketAddr> {
        let (answer, services) = oneshot::channel();
        if self.requests.send(Request::Services(answer)).await.is_err() {
            return BTreeMap::new();
        }
        services.await.unwrap_or_default()
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes other services and limits. Sessions go on; hosts of services that are gone or have another token connect anew.
    ///
    /// # Errors
    /// When an address can't be listened on, or something else was changed. All is as before then.
    pub async fn reload(&self, config: Config) -> Result<(), RelayError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request::Reload(Box::new(config), answer);
        self.requests.send(request).await.map_err(|_| RelayError::Ended)?;
        outcome.await.map_err(|_| RelayError::Ended)?
    }

    /// Whether it has stopped.
    pub fn is_ended(&self) -> bool {
        self.requests.is_closed()
    }

    /// Stops listening at once, so that another relay can take over, tells the hosts, and waits until the last session has ended, or
    /// for as long as the configuration says.
    pub async fn stop(&self) {
        let (answer, done) = oneshot::channel();
        if self.requests.send(Request::Stop(answer)).await.is_ok() {
            let _ = done.await;
        }
    }
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

    fn listen(&mut self, entrance: Entrance, at: SocketAddr) -> Result<SocketAddr, RelayError> {
        let whom = match &entrance {
            Entrance::Hosts => "hosts".to_owned(),
            Entrance::Commands => "command channels".to_owned(),
            Entrance::Clients(name) if name.is_empty() => "clients".to_owned(),
            Entrance::Clients(name) => format!("clients of `{name}`"),
        };
        let failed = |source| RelayError::Listen { whom, at, source };
        let listener = self.net.listen(at).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local, listener) = listener.map_err(failed)?;
        let (net, accepted, door) = (self.net.clone(), self.accepted_tx.clone(), entrance.clone());
        let task = self.net.spawn("accept", async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        let at = net.local_addr(&stream).unwrap_or(local);
                        let entrance = door.clone();
                        if accepted.send(Accepted { entrance, stream, from, at }).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => debug!(%error, "connection not accepted"),
                }
            }
        });
        self.listeners.insert(entrance, (at, local, task));
        Ok(local)
    }

    /// Makes the services and limits of `config` those of this relay.
    fn apply(&mut self, config: Config) -> Result<(), RelayError> {
        let old = &self.config;
        let ports = |config: &Config| config.compatible.as_ref().map(|c| (c.commands, c.clients));
        for (name, is_same) in [
            ("hosts", old.hosts == config.hosts),
            ("tls", old.tls == config.tls),
            ("heartbeat", old.heartbeat == config.heartbeat),
            ("compatible", ports(old) == ports(&config)),
        ] {
            if !is_same {
                return Err(RelayError::Fixed(name));
            }
        }
        let mut services: BTreeMap<Name, Limits> = BTreeMap::new();
        let mut doors: BTreeMap<Name, SocketAddr> = BTreeMap::new();
        if let Some(compatible) = &config.compatible {
            doors.insert(Name::from(""), compatible.clients);
            services.insert(Name::from(""), compatible.limits.clone());
        }
        for (name, service) in &config.services {
            doors.insert(Name::from(name.as_str()), service.clients);
            services.insert(Name::from(name.as_str()), service.limits.clone());
        }
        // New doors open before old ones close, so that a failure leaves all as it was.
        let mut opened = Vec::new();
        for (name, at) in &doors {
            let entrance = Entrance::Clients(name.clone());
            if self.listeners.get(&entrance).is_some_and(|(asked, ..)| asked == at) {
                continue;
            }
            let before = self.listeners.remove(&entrance);
            let outcome = self.listen(entrance.clone(), *at);
            opened.push((entrance, before));
            if let Err(error) = outcome {
                for (entrance, before) in opened {
                    self.listeners.remove(&entrance);
                    self.listeners.extend(before.map(|before| (entrance, before)));
                }
                return Err(error);
            }
        }
        self.listeners.retain(|entrance, _| match entrance {
            Entrance::Clients(name) => doors.contains_key(name),
            Entrance::Hosts | Entrance::Commands => true,
        });
        let tokens =
            config.services.iter().map(|(name, service)| (Name::from(name.as_str()), service.token.clone()));
        *self.shared.tokens.lock().expect("nothing panics while it holds this lock") = tokens.collect();
        self.shared.limit(&services);
        // Hosts that know another token than the new one have to come again.
        let changed = config.services.iter().filter(|(name, service)| {
            self.config.services.get(*name).is_some_and(|old| old.token != service.token)
        });
        let mut kept = services.clone();
        changed.for_each(|(name, _)| drop(kept.remove(name.as_str())));
        let now = self.net.now();
        self.machine.handle(now, Input::Services(kept));
        self.machine.handle(now, Input::Services(services));
        self.config = config;
        self.act();
        Ok(())
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
                let at = |(entrance, (_, local, _)): (&Entrance, &(_, SocketAddr, _))| match entrance {
                    Entrance::Clients(name) => Some((name.to_string(), *local)),
                    Entrance::Hosts | Entrance::Commands => None,
                };
                let _ = answer.send(self.listeners.iter().filter_map(at).collect());
            }
        }
    }

    fn on_accepted(&mut self, accepted: Accepted<N::Stream>) {
        let Accepted { entrance, stream, from, at } = accepted;
        self.last_id += 1;
        if let Entrance::Clients(service) = entrance {
            self.shared.counters.clients.add(1);
            let client = ClientId(self.last_id);
            self.clients.insert(client, Client { service: service.clone(), stream, from, at });
            return self.machine.handle(self.net.now(), Input::Client { client, service, from: from.ip() });
        }
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

    fn on_note(&mut self, note: Note<N::Stream>) {
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
        let Some(stream) = self.clients.remove(&client) else { return };
        let seat = self.seats.remove(&data);
        self.shared.counters.sessions.add(1);
        let returned = match seat {
            Some(seat) => seat.send(stream).err(),
            None => Some(stream),
        };
        // The data connection has just ended.
        if let Some(returned) = returned {
            self.forget(data);
            self.take_back(returned);
        }
    }

    /// A client that nobody has served: another data connection may.
    fn take_back(&mut self, returned: Client<N::Stream>) {
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
