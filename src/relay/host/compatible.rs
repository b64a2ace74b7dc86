//! A host process of the original protocol: one command channel, and data connections that wait for a session each.
//!
//! A data connection carries one session. Its local end is opened when the relay announces the session or its first byte comes,
//! whichever is first: the two travel on different connections. As many connections as configured are always free, so a
//! busy host has more of them.
//!
//! It writes nothing on the command channel: the original relay would take part of a message for a fault.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::Status;
use super::driver::within;
use super::service::Serve;
use crate::Timestamp;
use crate::net::{Alarm, Net, Task};
use crate::relay::backoff::Backoff;
use crate::relay::compatible::{Announcement, DecodeError, Framer, Hello, Response, VERSION};
use crate::relay::config::{CompatibleHost, Place};
use crate::relay::pump;
use crate::relay::throttle::Unpaced;

/// How long opening a connection and the relay's answer may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the local service may take to accept a connection.
const LOCAL_TIME: Duration = Duration::from_secs(5);
/// How long bytes of a client that has gone may still come. The original relay announces its end on another connection, which may
/// be faster, and closes the data connection only 5 s later.
const LATE_TIME: Duration = Duration::from_millis(500);

/// Announcements of sessions that are kept for data connections whose answer has not come yet. More can't be on their way.
const EARLY_MAX: usize = 256;

/// Where announcements and data connections meet.
type Announced = Arc<Mutex<Board>>;

#[derive(Debug, Default)]
struct Board {
    /// Data connections by the numbers of their sessions.
    slots: BTreeMap<i32, mpsc::UnboundedSender<Announcement>>,
    /// Sessions that were announced before their data connection knew its number, or that are another host process's.
    early: VecDeque<i32>,
}

impl Board {
    fn announce(&mut self, announcement: Announcement) {
        match self.slots.get(&announcement.session()) {
            Some(slot) => drop(slot.send(announcement)),
            None if matches!(announcement, Announcement::Open(_)) => {
                if self.early.len() == EARLY_MAX {
                    self.early.pop_front();
                }
                self.early.push_back(announcement.session());
            }
            None => self.early.retain(|session| *session != announcement.session()),
        }
    }

    fn register(&mut self, session: i32, slot: mpsc::UnboundedSender<Announcement>) {
        if let Some(place) = self.early.iter().position(|early| *early == session) {
            self.early.remove(place);
            let _ = slot.send(Announcement::Open(session));
        }
        self.slots.insert(session, slot);
    }
}

#[derive(Debug)]
enum Note {
    /// The relay has answered on this data connection.
    Ready,
    Busy,
    Ended {
        id: u64,
        was_ready: bool,
        was_busy: bool,
    },
    Commands {
        is_up: bool,
    },
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

pub(super) struct HostProcess<N: Net, S> {
    net: N,
    relay: Place,
    settings: CompatibleHost,
    serve: S,
    status: watch::Sender<Status>,
    leaving: watch::Receiver<bool>,
    /// How long sessions may go on when it is told to stop.
    drain: Duration,
    announced: Announced,
    backoff: Backoff,
    /// No connection is tried before.
    not_before: Timestamp,
    data: BTreeMap<u64, Task>,
    /// Those that have no session.
    free: usize,
    last_id: u64,
}

impl<N: Net, S: Serve<N>> HostProcess<N, S> {
    pub(super) fn new(
        net: N,
        relay: Place,
        settings: CompatibleHost,
        serve: S,
        status: watch::Sender<Status>,
        (leaving, drain): (watch::Receiver<bool>, Duration),
    ) -> Self {
        let mut seed = [0; 8];
        net.random(&mut seed);
        let (backoff, not_before) = (Backoff::new(u64::from_be_bytes(seed)), net.now());
        Self {
            net,
            relay,
            settings,
            serve,
            status,
            leaving,
            drain,
            announced: Announced::default(),
            backoff,
            not_before,
            data: BTreeMap::new(),
            free: 0,
            last_id: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let (notes_tx, mut notes) = mpsc::unbounded_channel();
        let commands = self.commands(notes_tx.clone());
        let _commands = self.net.spawn("command channel", commands);
        let mut alarm = self.net.alarm();
        let mut leave_by = None;
        loop {
            let now = self.net.now();
            let has_room = self.data.len() < self.settings.connections_max;
            let is_wanted = leave_by.is_none() && self.free < self.settings.connections && has_room;
            if is_wanted && now >= self.not_before {
                self.open(&notes_tx);
                continue;
            }
            alarm.set(leave_by.or(is_wanted.then_some(self.not_before)));
            tokio::select! {
                biased;
                changed = self.leaving.changed(), if leave_by.is_none() => {
                    if changed.is_err() {
                        return;
                    }
                    leave_by = Some(self.net.now().after(self.drain));
                }
                note = notes.recv() => if let Some(note) = note { self.on_note(&note) },
                () = alarm.ring() => {}
            }
            if leave_by.is_some_and(|by| by <= self.net.now() || self.status.borrow().sessions == 0) {
                return;
            }
        }
    }

    fn on_note(&mut self, note: &Note) {
        match *note {
            Note::Ready => self.backoff.reset(),
            Note::Busy => {
                self.free -= 1;
                self.status.send_modify(|status| status.sessions += 1);
            }
            Note::Ended { id, was_ready, was_busy } => {
                self.data.remove(&id);
                if was_busy {
                    self.status.send_modify(|status| status.sessions = status.sessions.saturating_sub(1));
                } else {
                    self.free -= 1;
                }
                // A session's end is nothing that waiting would help. Others are, also of a relay that answers and closes.
                if !was_busy || !was_ready {
                    let wait = self.backoff.next();
                    self.not_before = self.not_before.max(self.net.now().after(wait));
                }
            }
            Note::Commands { is_up } => self.status.send_modify(|status| {
                status.is_connected = is_up;
                status.connects += u64::from(is_up);
            }),
        }
    }

    fn open(&mut self, notes: &mpsc::UnboundedSender<Note>) {
        self.last_id += 1;
        self.free += 1;
        let id = self.last_id;
        let mut slot = Slot {
            net: self.net.clone(),
            relay: self.relay.clone(),
            serve: self.serve.clone(),
            announced: self.announced.clone(),
            notes: notes.clone(),
            session: None,
            was_ready: false,
            was_busy: false,
        };
        let task = self.net.spawn("data connection", async move {
            if let Err(fault) = slot.run().await {
                debug!(relay = %slot.relay, %fault, "data connection ended");
            }
            if let Some(session) = slot.session {
                lock(&slot.announced).slots.remove(&session);
            }
            let (was_ready, was_busy) = (slot.was_ready, slot.was_busy);
            let _ = slot.notes.send(Note::Ended { id, was_ready, was_busy });
        });
        self.data.insert(id, task);
    }

    /// Keeps the command channel open and hands out what is announced.
    fn commands(&self, notes: mpsc::UnboundedSender<Note>) -> impl Future<Output = ()> + Send + 'static {
        let (net, announced) = (self.net.clone(), self.announced.clone());
        let relay = Place { host: self.relay.host.clone(), port: self.settings.commands_port };
        let mut seed = [0; 8];
        net.random(&mut seed);
        let mut backoff = Backoff::new(u64::from_be_bytes(seed));
        async move {
            loop {
                let outcome = async {
                    let mut stream = within(&net, CONNECT_TIME, connect(&net, &relay)).await?;
                    backoff.reset();
                    info!(%relay, "command channel open");
                    let _ = notes.send(Note::Commands { is_up: true });
                    let mut framer = Framer::default();
                    let mut buffer = [0; 512];
                    loop {
                        let count = stream.read(&mut buffer).await?;
                        if count == 0 {
                            return Ok::<_, Fault>(());
                        }
                        framer.push(&buffer[..count]);
                        while let Some(body) = framer.take()? {
                            let announcement = Announcement::decode(&body)?;
                            lock(&announced).announce(announcement);
                        }
                    }
                }
                .await;
                // A relay that has restarted counts from 0 again.
                lock(&announced).early.clear();
                let _ = notes.send(Note::Commands { is_up: false });
                if let Err(fault) = outcome {
                    debug!(%relay, %fault, "no command channel");
                }
                let mut alarm = net.alarm();
                alarm.set(Some(net.now().after(backoff.next())));
                alarm.ring().await;
            }
        }
    }
}

/// One data connection.
struct Slot<N, S> {
    net: N,
    relay: Place,
    serve: S,
    announced: Announced,
    notes: mpsc::UnboundedSender<Note>,
    session: Option<i32>,
    was_ready: bool,
    was_busy: bool,
}

impl<N: Net, S: Serve<N>> Slot<N, S> {
    async fn run(&mut self) -> Result<(), Fault> {
        let (announced_tx, mut announced) = mpsc::unbounded_channel();
        let (net, relay) = (self.net.clone(), self.relay.clone());
        let (mut stream, session, first) = within(&net, CONNECT_TIME, async {
            let mut stream = connect(&net, &relay).await?;
            stream.write_all(&Hello { version: VERSION }.encode()).await?;
            let mut framer = Framer::default();
            let mut buffer = [0; 512];
            let body = loop {
                if let Some(body) = framer.take().map_err(io::Error::other)? {
                    break body;
                }
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                framer.push(&buffer[..count]);
            };
            let response = Response::decode(&body).map_err(io::Error::other)?;
            Ok((stream, response.session, framer.rest()))
        })
        .await?;
        self.session = Some(session);
        self.was_ready = true;
        lock(&self.announced).register(session, announced_tx);
        let _ = self.notes.send(Note::Ready);
        let mut first = first.to_vec();
        if first.is_empty() {
            let mut buffer = [0; 2048];
            tokio::select! {
                biased;
                // Without a command channel there is nobody to announce anything, and the first byte has to do.
                _ = announced.recv() => {}
                count = stream.read(&mut buffer) => match count? {
                    0 => return Ok(()),
                    count => first.extend_from_slice(&buffer[..count]),
                },
            }
        }
        self.was_busy = true;
        let _ = self.notes.send(Note::Busy);
        let local = within(&net, LOCAL_TIME, self.serve.open(&net, None)).await;
        let mut local = local.inspect_err(|error| warn!(%error, "the local service takes no session"))?;
        local.write_all(&first).await?;
        let mut alarm = net.alarm();
        let mut pumping = std::pin::pin!(pump::bytes(&mut stream, &mut local, Unpaced));
        loop {
            tokio::select! {
                biased;
                moved = &mut pumping => return Ok(moved.map(drop)?),
                announcement = announced.recv() => {
                    if matches!(announcement, Some(Announcement::Drop(_)) | None) {
                        alarm.set(Some(net.now().after(LATE_TIME)));
                    }
                }
                () = alarm.ring() => return Ok(()),
            }
        }
    }
}

fn lock(announced: &Announced) -> std::sync::MutexGuard<'_, Board> {
    announced.lock().expect("nothing panics while it holds this lock")
}

async fn connect<N: Net>(net: &N, place: &Place) -> io::Result<N::Stream> {
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    let places: Vec<SocketAddr> = net.resolve(&place.host, place.port).await?;
    for place in places {
        outcome = net.connect(place, None).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
