//! One task per connection: it moves messages both ways between a channel and a ZMTP connection, and sees to it that the
//! connection lives.
//!
//! Nobody in gossip says anything for minutes when nothing changes, so a dead connection would not show: a machine without
//! power sends no farewell. So after some silence the peer is asked, by ZMTP's own PING, which libzmq answers for every
//! program.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{Instrument, debug, debug_span};

use crate::gossip::{Limits, LinkId};
use crate::net::{Alarm, Net, Task};
use crate::zmtp::{Connection, ConnectionError, Multipart, Session, SessionConfig, SocketType};
use crate::zre::{self, Endpoint};

/// How long a handshake may take on a connection to us.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// After so much silence the peer is asked for a sign of life,
const SILENCE: Duration = Duration::from_secs(5);
/// and has so long for it: at 30 % loss it would take longer once in some thousand times.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Messages that are handed on in one go.
const BATCH: usize = 64;
/// While a connection has more to write, the rest waits in the channel, where it is counted.
const UNWRITTEN_MAX: usize = 64 << 10;

/// What a connection tells its owner, in order.
#[derive(Debug)]
pub(super) enum Note {
    Opened { link: LinkId, identity: Bytes },
    Received { link: LinkId, messages: Vec<Multipart> },
    Closed { link: LinkId },
}

/// The owner's end of a connection. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct Link {
    out: Option<mpsc::Sender<Multipart>>,
    _task: Task,
}

impl Link {
    /// A connection that was accepted.
    pub(super) fn accepted<N: Net>(
        net: &N,
        link: LinkId,
        (stream, remote): (N::Stream, SocketAddr),
        identity: Bytes,
        limits: &Limits,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let (out, outgoing) = mpsc::channel(limits.queue_messages);
        let session = SessionConfig {
            handshake_timeout: HANDSHAKE_TIMEOUT,
            ..SessionConfig::new(SocketType::Router, identity)
        };
        let task = LinkTask { net: net.clone(), link, outgoing, notes };
        let span = debug_span!("gossip from", %remote, link = link.number());
        let run = async move {
            let connection = Box::new(Connection::new(stream, Session::new(session, task.net.now())));
            task.run(connection).await;
        };
        Self { out: Some(out), _task: net.spawn("gossip client's link", run.instrument(span)) }
    }

    /// A connection that is to be opened, handshake included, within `timeout`.
    pub(super) fn dialled<N: Net>(
        net: &N,
        link: LinkId,
        (endpoint, timeout): (Endpoint, Duration),
        identity: Bytes,
        limits: &Limits,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let (out, outgoing) = mpsc::channel(limits.queue_messages);
        let session =
            SessionConfig { handshake_timeout: timeout, ..SessionConfig::new(SocketType::Dealer, identity) };
        let task = LinkTask { net: net.clone(), link, outgoing, notes };
        let span = debug_span!("gossip to", %endpoint, link = link.number());
        let run = async move {
            let started = task.net.now();
            let mut alarm = task.net.alarm();
            alarm.set(Some(started.after(timeout)));
            let stream = tokio::select! {
                biased;
                connected = zre::connect(&task.net, &endpoint) => connected.ok().map(|(stream, _)| stream),
                () = alarm.ring() => None,
            };
            match stream {
                Some(stream) => {
                    let session = Session::new(session, started);
                    task.run(Box::new(Connection::new(stream, session))).await;
                }
                None => {
                    debug!("not connected");
                    task.note(Note::Closed { link }).await;
                }
            }
        };
        Self { out: Some(out), _task: net.spawn("gossip hub's link", run.instrument(span)) }
    }

    /// Queues a message; `false` when it does not fit any more.
    pub(super) fn send(&self, message: Multipart) -> bool {
        // A connection that just ended says so in its notes.
        !matches!(
            self.out.as_ref().map(|out| out.try_send(message)),
            Some(Err(mpsc::error::TrySendError::Full(_)))
        )
    }

    /// Lets the connection end when everything that is queued is written.
    pub(super) fn drain(&mut self) {
        self.out = None;
    }
}

struct LinkTask<N: Net> {
    net: N,
    link: LinkId,
    outgoing: mpsc::Receiver<Multipart>,
    notes: mpsc::Sender<Note>,
}

enum Step {
    /// Messages came, or the connection ended, or both.
    Received { messages: Vec<Multipart>, end: Option<Result<(), ConnectionError>> },
    /// Nothing more will be sent.
    Drained,
    /// The alarm rang.
    Alarm,
}

impl<N: Net> LinkTask<N> {
    async fn note(&self, note: Note) {
        // Without an owner there is nobody to tell.
        let _ = self.notes.send(note).await;
    }

    async fn run(mut self, mut connection: Box<Connection<N::Stream>>) {
        let net = self.net.clone();
        match connection.handshake(|| net.now(), &mut net.alarm()).await {
            Ok(peer) => {
                self.note(Note::Opened { link: self.link, identity: peer.identity }).await;
                match self.carry(&mut connection).await {
                    Ok(()) => debug!("closed"),
                    Err(error) => debug!(%error, "broken"),
                }
            }
            Err(error) => debug!(%error, "no handshake"),
        }
        self.note(Note::Closed { link: self.link }).await;
    }

    async fn carry(&mut self, connection: &mut Connection<N::Stream>) -> Result<(), ConnectionError> {
        let mut alarm = self.net.alarm();
        // An old libzmq would not know the question.
        let can_answer = connection.peer().is_some_and(|peer| peer.minor > 0);
        alarm.set(can_answer.then(|| self.net.now().after(SILENCE)));
        let (mut heard, mut is_asked) = (connection.received_bytes(), false);
        loop {
            match self.step(connection, &mut alarm).await {
                Step::Received { messages, end } => {
                    if !messages.is_empty() {
                        self.note(Note::Received { link: self.link, messages }).await;
                    }
                    if let Some(end) = end {
                        return end;
                    }
                }
                Step::Drained => return connection.close().await,
                Step::Alarm => {
                    let received = connection.received_bytes();
                    let was_silent = received == heard;
                    heard = received;
                    if was_silent && is_asked {
                        debug!("no sign of life");
                        return Ok(());
                    }
                    if was_silent {
                        connection.ping();
                    }
                    is_asked = was_silent;
                    let wait = if is_asked { ANSWER_WAIT } else { SILENCE };
                    alarm.set(Some(self.net.now().after(wait)));
                }
            }
        }
    }

    async fn step(&mut self, connection: &mut Connection<N::Stream>, alarm: &mut N::Alarm) -> Step {
        let now = || self.net.now();
        poll_fn(|context| {
            loop {
                let mut is_full = true;
                while connection.pending_bytes() < UNWRITTEN_MAX {
                    match self.outgoing.poll_recv(context) {
                        Poll::Ready(Some(message)) => connection.queue(message),
                        Poll::Ready(None) => return Poll::Ready(Step::Drained),
                        Poll::Pending => {
                            is_full = false;
                            break;
                        }
                    }
                }
                let (mut messages, mut end) = (Vec::new(), None);
                // This writes, too.
                while messages.len() < BATCH
                    && end.is_none()
                    && let Poll::Ready(received) = pin!(connection.recv(now)).poll(context)
                {
                    match received {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => end = Some(Ok(())),
                        Err(error) => end = Some(Err(error)),
                    }
                }
                if !messages.is_empty() || end.is_some() {
                    return Poll::Ready(Step::Received { messages, end });
                }
                if alarm.poll_ring(context).is_ready() {
                    return Poll::Ready(Step::Alarm);
                }
                if !is_full || connection.pending_bytes() >= UNWRITTEN_MAX {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}
