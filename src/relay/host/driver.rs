//! Moves connections between the network and the machine of one service of a host.
//!
//! The control connection and each data connection are tasks. When the control connection is lost, data connections with a
//! session go on until it ends; the relay closes those that are free.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::Status;
use super::connection::{Found, Tls, control, serve_data};
use super::machine::{HostMachine, Input, Output};
use super::service::{Forward, Serve};
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task};
use crate::relay::config::{HostService, Place};
use crate::relay::message::Message;
use crate::relay::proof::SessionKey;

/// How long the local service may take to accept a connection.
pub(super) const LOCAL_TIME: Duration = Duration::from_secs(5);
/// How long a relay may take to close the data connections of a host that leaves, when no session goes on.
const FAREWELL_TIME: Duration = Duration::from_secs(3);

/// One service.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) settings: HostService,
    /// What is looked at to see whether the local service is well.
    pub(super) check: Option<Forward>,
}

/// What tasks tell.
pub(super) enum Note {
    Welcomed { life: u64, session: u64, key: SessionKey, heartbeat: Duration, relay: Found },
    Said { life: u64, message: Message },
    Lost { life: u64 },
    DataEnded { data: u64 },
    SessionBegan,
    SessionEnded,
    Checked(bool),
}

/// What the tasks of one service share.
pub(super) struct Shared<N, S> {
    pub(super) net: N,
    pub(super) relay: Place,
    pub(super) tls: Option<Tls>,
    pub(super) name: String,
    pub(super) settings: HostService,
    pub(super) serve: S,
    pub(super) notes: mpsc::UnboundedSender<Note>,
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
    session: Option<(u64, SessionKey, Found)>,
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
