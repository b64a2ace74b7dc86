//! Moves connections between the network and the machine of one service of a host.
//!
//! The control connection and each data connection are tasks. When the control connection is lost, data connections with a
//! session go on until it ends; the relay closes those that are free.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::{debug, info, warn};

use super::Status;
use super::machine::{HostMachine, Input, Output};
use super::service::{Forward, Serve, Visitor};
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task};
use crate::relay::config::{HostConfig, HostService, Place, Protocol};
use crate::relay::datagrams;
use crate::relay::frame::{Control, FrameError, Framed, Piece};
use crate::relay::leg::{Leg, Prefixed, TalkError, receive};
use crate::relay::message::{Message, PREAMBLE, Refusal};
use crate::relay::proof::{Context, SessionKey};
use crate::relay::pump;
use crate::relay::throttle::Unpaced;
use crate::relay::tls;
use crate::tls::TlsError;

/// How long the local service may take to accept a connection.
const LOCAL_TIME: Duration = Duration::from_secs(5);
/// How long a data connection may take to be opened; its ticket is no good any more then.
const DATA_TIME: Duration = Duration::from_secs(10);
/// How long a relay may take to close the data connections of a host that leaves, when no session goes on.
const FAREWELL_TIME: Duration = Duration::from_secs(3);

/// How TLS is opened.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// What the configuration asks for.
    pub(super) fn new(config: &HostConfig) -> Result<Option<Self>, TlsError> {
        let Some(trust) = &config.tls else { return Ok(None) };
        let (connector, name) = tls::connector(trust, &config.relay)?;
        Ok(Some(Self { connector, name }))
    }
}

/// One service.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) settings: HostService,
    /// What is looked at to see whether the local service is well.
    pub(super) check: Option<Forward>,
}

/// What tasks tell.
enum Note {
    Welcomed { life: u64, session: u64, key: SessionKey, heartbeat: Duration, relay: SocketAddr },
    Said { life: u64, message: Message },
    Lost { life: u64 },
    DataEnded { data: u64 },
    SessionBegan,
    SessionEnded,
    Checked(bool),
}

/// What the tasks of one service share.
struct Shared<N, S> {
    net: N,
    relay: Place,
    tls: Option<Tls>,
    name: String,
    settings: HostService,
    serve: S,
    notes: mpsc::UnboundedSender<Note>,
}

impl<N: Clone, S: Clone> Clone for Shared<N, S> {
    fn clone(&self) -> Self {
        Self {
            net: self.net.clone(),
            relay: self.relay.clone(),
            tls: self.tls.clone(),
            name: self.name.clone(),
            settings: self.settings.clone(),
            serve: self.serve.clone(),
            notes: self.notes.clone(),
        }
    }
}

pub(super) struct Driver<N: Net, S> {
    shared: std::sync::Arc<Shared<N, S>>,
    machine: HostMachine,
    check: Option<Forward>,
    notes: mpsc::UnboundedReceiver<Note>,
    status: watch::Sender<Status>,
    leaving: watch::Receiver<bool>,
    /// How long sessions may go on when it is told to stop.
    drain: Duration,
    /// Which control connection it is; notes of earlier ones do not matter.
    life: u64,
    control: Option<(Task, mpsc::UnboundedSender<Message>)>,
    /// What data connections prove themselves with, and where the relay is.
    session: Option<(u64, SessionKey, SocketAddr)>,
    data: BTreeMap<u64, Task>,
    last_data: u64,
    checking: Option<Task>,
}

impl<N: Net, S: Serve<N>> Driver<N, S> {
    pub(super) fn new(
        net: N,
        relay: Place,
        tls: Option<Tls>,
        service: Named,
        serve: S,
        status: watch::Sender<Status>,
        (leaving, drain): (watch::Receiver<bool>, Duration),
    ) -> Self {
        let mut seed = [0; 8];
        net.random(&mut seed);
        let Named { name, settings, check } = service;
        let check = check.filter(|_| settings.check.is_some());
        let interval = settings.check.filter(|_| check.is_some());
        let machine =
            HostMachine::new(net.now(), u64::from_be_bytes(seed), settings.connections_max, interval);
        let (notes_tx, notes) = mpsc::unbounded_channel();
        Self {
            shared: std::sync::Arc::new(Shared { net, relay, tls, name, settings, serve, notes: notes_tx }),
            machine,
            check,
            notes,
            status,
            leaving,
            drain,
            life: 0,
            control: None,
            session: None,
            data: BTreeMap::new(),
            last_data: 0,
            checking: None,
        }
    }

    pub(super) async fn run(mut self) {
        let net = self.shared.net.clone();
        let mut alarm = net.alarm();
        let mut leaving_since = None;
        loop {
            let now = net.now();
            let leave_at = leaving_since.map(|since| self.leave_at(since));
            if leave_at.is_some_and(|at| at <= now) {
                return;
            }
            alarm.set([self.machine.deadline(), leave_at].into_iter().flatten().min());
            tokio::select! {
                biased;
                () = alarm.ring() => self.machine.handle(net.now(), Input::Timeout),
                changed = self.leaving.changed(), if leaving_since.is_none() => {
                    // Whoever could say more is gone.
                    if changed.is_err() {
                        return;
                    }
                    leaving_since = Some(now);
                    self.machine.handle(net.now(), Input::Leave);
                }
                note = self.notes.recv() => if let Some(note) = note { self.on_note(note) },
            }
            self.act();
        }
    }

    /// When a host that has said that it leaves is gone at the latest. The relay may have given it a client before it heard
    /// that; it has when it has closed the last data connection.
    fn leave_at(&self, since: Timestamp) -> Timestamp {
        match self.status.borrow().sessions {
            0 if self.data.is_empty() => since,
            0 => since.after(FAREWELL_TIME.min(self.drain)),
            _ => since.after(self.drain),
        }
    }

    fn on_note(&mut self, note: Note) {
        let now = self.shared.net.now();
        let input = match note {
            Note::Welcomed { life, session, key, heartbeat, relay } if life == self.life => {
                self.session = Some((session, key, relay));
                self.status.send_modify(|status| {
                    status.is_connected = true;
                    status.connects += 1;
                });
                info!(service = %self.shared.name, relay = %self.shared.relay, "the relay has this service");
                Input::Welcomed { heartbeat }
            }
            Note::Said { life, message } if life == self.life => match message {
                Message::Want { first, count } => Input::Want { first, count },
                Message::Refused(refusal) => {
                    warn!(service = %self.shared.name, relay = %self.shared.relay, "the relay refuses this service: {refusal}");
                    Input::Refused(refusal)
                }
                Message::Crowd(hosts) => Input::Crowd(hosts),
                Message::Draining => Input::RelayLeaves,
                _ => Input::Heard,
            },
            Note::Lost { life } if life == self.life => Input::Lost,
            Note::Welcomed { .. } | Note::Said { .. } | Note::Lost { .. } => return,
            Note::DataEnded { data } => {
                self.data.remove(&data);
                Input::DataEnded
            }
            Note::SessionBegan => return self.status.send_modify(|status| status.sessions += 1),
            Note::SessionEnded => {
                self.status.send_modify(|status| status.sessions = status.sessions.saturating_sub(1));
                return;
            }
            Note::Checked(is_well) => Input::Checked(is_well),
        };
        self.machine.handle(now, input);
    }

    fn act(&mut self) {
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Connect => {
                    self.life += 1;
                    let (outbox, outgoing) = mpsc::unbounded_channel();
                    let (shared, life) = (self.shared.clone(), self.life);
                    let task = self.shared.net.spawn("control", async move {
                        if let Err(error) = control(&shared, life, outgoing).await {
                            debug!(relay = %shared.relay, %error, "no control connection");
                        }
                        let _ = shared.notes.send(Note::Lost { life });
                    });
                    self.control = Some((task, outbox));
                }
                Output::Disconnect => {
                    self.control = None;
                    self.session = None;
                    self.status.send_modify(|status| status.is_connected = false);
                }
                Output::OpenData(ticket) => self.open_data(ticket),
                Output::Check => {
                    let Some(check) = self.check.clone() else { continue };
                    let shared = self.shared.clone();
                    self.checking = Some(self.shared.net.spawn("check", async move {
                        let outcome = within(&shared.net, LOCAL_TIME, check.connect(&shared.net)).await;
                        let _ = shared.notes.send(Note::Checked(outcome.is_ok()));
                    }));
                }
                Output::TellHealth(is_well) => {
                    warn!(service = %self.shared.name, is_well, "the local service's health has changed");
                    self.tell(Message::Health(is_well));
                }
                Output::TellLeaving => self.tell(Message::Draining),
            }
        }
    }

    fn tell(&self, message: Message) {
        if let Some((_, outbox)) = &self.control {
            let _ = outbox.send(message);
        }
    }

    fn open_data(&mut self, ticket: u64) {
        let Some((session, key, relay)) = self.session.clone() else {
            return self.machine.handle(self.shared.net.now(), Input::DataEnded);
        };
        self.last_data += 1;
        let (data, shared) = (self.last_data, self.shared.clone());
        let join = Message::Join { session, ticket, mac: key.ticket_proof(ticket) };
        let task = self.shared.net.spawn("data connection", async move {
            if let Err(error) = serve_data(&shared, relay, join).await {
                debug!(relay = %shared.relay, %error, "data connection ended");
            }
            let _ = shared.notes.send(Note::DataEnded { data });
        });
        self.data.insert(data, task);
    }
}

/// The outcome of `future`, or an error when it takes too long.
pub(super) async fn within<N: Net, T>(
    net: &N,
    time: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(time)));
    tokio::select! {
        biased;
        outcome = future => outcome,
        () = alarm.ring() => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A connection to the relay, and the address that it has.
async fn connect<N: Net, S>(
    shared: &Shared<N, S>,
    at: Option<SocketAddr>,
) -> io::Result<(Leg<N::Stream>, SocketAddr)> {
    let places = match at {
        Some(at) => vec![at],
        None => shared.net.resolve(&shared.relay.host, shared.relay.port).await?,
    };
    let mut outcome = Err(io::Error::from(io::ErrorKind::NotFound));
    for place in places {
        outcome = shared.net.connect(place, None).await.map(|stream| (stream, place));
        if outcome.is_ok() {
            break;
        }
    }
    let (stream, place) = outcome?;
    let leg = match &shared.tls {
        None => Leg::Plain(stream),
        Some(tls) => {
            let stream = Prefixed::new(bytes::Bytes::new(), stream);
            Leg::Tls(Box::new(tls.connector.connect(tls.name.clone(), stream).await?.into()))
        }
    };
    Ok((leg, place))
}

/// The control connection, from its opening to its end.
async fn control<N: Net, S>(
    shared: &Shared<N, S>,
    life: u64,
    mut outgoing: mpsc::UnboundedReceiver<Message>,
) -> Result<(), TalkError> {
    let (mut leg, relay) = connect(shared, None).await?;
    let mut host_nonce = [0; 32];
    shared.net.random(&mut host_nonce);
    let hello = Message::Hello { service: shared.name.clone(), nonce: host_nonce };
    leg.write_all(&[&PREAMBLE[..], &hello.encode()].concat()).await?;
    leg.flush().await?;
    let mut input = BytesMut::with_capacity(256);
    let relay_nonce = match receive(&mut leg, &mut input).await? {
        Message::Challenge { nonce } => nonce,
        message @ Message::Refused(_) => {
            let _ = shared.notes.send(Note::Said { life, message });
            return Err(TalkError::Closed);
        }
        _ => return Err(TalkError::OutOfTurn("a message that is no challenge")),
    };
    let context = Context { service: &shared.name, host_nonce: &host_nonce, relay_nonce: &relay_nonce };
    let token = &shared.settings.token;
    leg.write_all(&Message::Proof { mac: token.host_proof(&context) }.encode()).await?;
    leg.flush().await?;
    let (session, heartbeat_ms) = match receive(&mut leg, &mut input).await? {
        Message::Welcome { session, heartbeat_ms, mac } if token.is_relay_proof(&context, session, &mac) => {
            (session, heartbeat_ms)
        }
        Message::Welcome { .. } => {
            warn!(relay = %shared.relay, "this is not the relay: it does not know the token");
            let message = Message::Refused(Refusal::Unknown);
            let _ = shared.notes.send(Note::Said { life, message });
            return Err(TalkError::Closed);
        }
        message @ Message::Refused(_) => {
            let _ = shared.notes.send(Note::Said { life, message });
            return Err(TalkError::Closed);
        }
        _ => return Err(TalkError::OutOfTurn("a message that is no welcome")),
    };
    let (key, heartbeat) = (token.session_key(&context, session), Duration::from_millis(heartbeat_ms.into()));
    let _ = shared.notes.send(Note::Welcomed { life, session, key, heartbeat, relay });
    loop {
        tokio::select! {
            biased;
            message = outgoing.recv() => {
                let Some(message) = message else { return Ok(()) };
                leg.write_all(&message.encode()).await?;
                leg.flush().await?;
            }
            message = receive(&mut leg, &mut input) => match message? {
                Message::Ping(number) => {
                    leg.write_all(&Message::Pong(number).encode()).await?;
                    leg.flush().await?;
                    let _ = shared.notes.send(Note::Said { life, message: Message::Ping(number) });
                }
                message @ (Message::Want { .. }
                | Message::Crowd(_)
                | Message::Draining
                | Message::Refused(_)) => {
                    let _ = shared.notes.send(Note::Said { life, message });
                }
                _ => return Err(TalkError::OutOfTurn("a message that no relay sends")),
            },
        }
    }
}

/// A data connection, from its opening to its end: one session after the other.
async fn serve_data<N: Net, S: Serve<N>>(
    shared: &Shared<N, S>,
    relay: SocketAddr,
    join: Message,
) -> Result<(), FrameError> {
    let (mut leg, _) = within(&shared.net, DATA_TIME, connect(shared, Some(relay))).await?;
    leg.write_all(&[&PREAMBLE[..], &join.encode()].concat()).await?;
    leg.flush().await?;
    let mut framed = Framed::new(leg, b"");
    loop {
        let piece = std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(Err(error)) = framed.poll_write(context) {
                return std::task::Poll::Ready(Err(error.into()));
            }
            framed.poll_piece(context)
        });
        let opened = match piece.await? {
            Piece::Control(Control::Open(opened)) => opened,
            Piece::Control(Control::Ping) => {
                if !framed.put(Control::Pong) {
                    return Err(FrameError::OutOfTurn("many PINGs"));
                }
                continue;
            }
            // Of the session before.
            Piece::Control(Control::Reset(_)) => continue,
            Piece::Closed => return Ok(()),
            Piece::Data | Piece::Datagram => return Err(FrameError::OutOfTurn("DATA")),
            Piece::Control(_) => return Err(FrameError::OutOfTurn("a frame")),
        };
        let _ = shared.notes.send(Note::SessionBegan);
        let visitor = Visitor { client: opened.client, relay: opened.relay };
        let refused = |error: &io::Error| {
            warn!(service = %shared.name, to = %shared.settings.to, %error, "the local service takes no session");
        };
        let (net, session) = (&shared.net, opened.session);
        let outcome = match opened.protocol {
            Protocol::Tcp => {
                let local = within(net, LOCAL_TIME, shared.serve.open(net, Some(visitor))).await;
                pump::frames(&mut framed, local.inspect_err(refused).ok(), session, Unpaced).await
            }
            Protocol::Udp => {
                let local = within(net, LOCAL_TIME, shared.serve.open_udp(net)).await;
                let local = local.inspect_err(refused).ok();
                datagrams::carry(net, &mut framed, local, session, [Unpaced, Unpaced], None).await
            }
        };
        let _ = shared.notes.send(Note::SessionEnded);
        outcome?;
    }
}
