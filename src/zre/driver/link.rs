//! One task per link: it moves messages between a channel and a ZMTP connection.
//!
//! Inbound links wait when the node takes nothing more, so that the peer is held back by TCP. Outbound links never make
//! the node wait: it is told whether a queue is half full, and what does not fit is its to decide.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{Instrument, debug, debug_span};

use super::dial::{Answered, open};
use super::queue::{Dial, Queue, Room, bytes_in};
use crate::net::{Net, Task};
use crate::zmtp::{Connection, ConnectionError, Multipart, Session, SessionConfig, SocketType};
use crate::zre::machine::{DialFailure, InboundLink, OutboundLink};
use crate::zre::{Limits, PeerId};

/// How long a handshake may take on a connection that we opened. On a good network it takes milliseconds; the rest is for
/// packets that were lost several times over. After that a fresh connection is better, and nothing was sent on this one.
const DIAL_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a handshake may take on a connection to us. Longer by far: the peer may be through its own part and have sent
/// messages, which are lost when we close.
const INBOUND_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages that move between a link and the node in one go.
const BATCH_MESSAGES: usize = 64;
/// A batch is not made longer when it holds this many bytes.
const BATCH_BYTES: usize = 256 << 10;
/// While a connection has more to write, the rest waits in the queue, where it is counted.
const UNWRITTEN_MAX: usize = 256 << 10;

/// What an inbound link tells the node, in order.
#[derive(Debug)]
pub(super) enum Intake {
    Opened { link: InboundLink, identity: Bytes, remote: SocketAddr },
    Messages { link: InboundLink, messages: Vec<Multipart> },
    Closed { link: InboundLink },
}

/// What an outbound link tells the node.
#[derive(Debug)]
pub(super) enum Note {
    Opened {
        link: OutboundLink,
        /// Who answered, if it says so.
        peer: Option<PeerId>,
        at: SocketAddr,
    },
    DialFailed {
        link: OutboundLink,
        attempt: u32,
        failure: DialFailure,
    },
    /// The queue is less than half full again, and somebody waits for that.
    Room {
        link: OutboundLink,
    },
    Closed {
        link: OutboundLink,
    },
    /// Whether anybody takes connections where a link goes.
    Reached {
        link: OutboundLink,
        outcome: Result<(), DialFailure>,
    },
}

/// The node's end of an outbound link. Dropping it ends the link.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: Arc<Queue>,
    pub(super) is_open: bool,
    /// It was made for whoever answers, and nobody has yet.
    pub(super) is_knock: bool,
    _task: Task,
}

impl Outbound {
    pub(super) fn start<N: Net>(
        net: &N,
        link: OutboundLink,
        peer: Option<PeerId>,
        own: PeerId,
        limits: &Limits,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Self {
        let queue = Arc::new(Queue::new(limits));
        let task = OutboundTask {
            net: net.clone(),
            link,
            peer,
            session: SessionConfig {
                handshake_timeout: DIAL_HANDSHAKE_TIMEOUT,
                is_reserved: true,
                ..SessionConfig::new(SocketType::Dealer, own.to_zmtp())
            },
            queue: Arc::clone(&queue),
            notes,
        };
        let span = debug_span!("to", ?peer, link = link.number());
        let is_knock = peer.is_none();
        Self {
            queue,
            is_open: false,
            is_knock,
            _task: net.spawn("zre outbound link", task.run().instrument(span)),
        }
    }

    pub(super) fn dial(&self, dial: Dial) {
        self.queue.dial(dial);
    }

    /// Queues a message, and says how much room there is for more; without any it was not queued.
    pub(super) fn send(&self, message: Multipart) -> Room {
        // A link that just ended says so in its notes.
        self.queue.put(message)
    }

    /// Asks for [`Note::Room`]; `false` when there is room already.
    pub(super) fn await_room(&self) -> bool {
        self.queue.await_room()
    }

    /// How many messages were ever taken out of the queue.
    pub(super) fn taken(&self) -> usize {
        self.queue.taken()
    }

    /// Lets the link end when everything that is queued is written.
    pub(super) fn drain(&self) {
        self.queue.end();
    }
}

struct OutboundTask<N: Net> {
    net: N,
    link: OutboundLink,
    /// Who has to answer, when that is known.
    peer: Option<PeerId>,
    session: SessionConfig,
    queue: Arc<Queue>,
    notes: mpsc::UnboundedSender<Note>,
}

type Attempt<S> = Pin<Box<dyn Future<Output = (u32, Result<Answered<S>, DialFailure>)> + Send>>;

impl<N: Net> OutboundTask<N> {
    async fn run(self) {
        let (mut connection, peer, at) = self.connect().await;
        debug!("connected");
        self.note(Note::Opened { link: self.link, peer, at });
        self.carry(&mut connection).await;
        self.note(Note::Closed { link: self.link });
    }

    fn note(&self, note: Note) {
        // Without a node there is nobody to tell.
        drop(self.notes.send(note));
    }

    /// Makes the attempts that the node asks for, side by side, until one succeeds.
    async fn connect(&self) -> Answered<N::Stream> {
        let mut attempts: Vec<Attempt<N::Stream>> = Vec::new();
        poll_fn(|context| {
            while let Poll::Ready(dials) = self.queue.poll_dials(context) {
                attempts.extend(dials.into_iter().map(|dial| self.attempt(dial)));
            }
            let mut index = 0;
            while let Some(attempt) = attempts.get_mut(index) {
                match attempt.as_mut().poll(context) {
                    Poll::Pending => index += 1,
                    Poll::Ready((_, Ok(answered))) => return Poll::Ready(answered),
                    Poll::Ready((attempt, Err(failure))) => {
                        drop(attempts.remove(index));
                        self.note(Note::DialFailed { link: self.link, attempt, failure });
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    fn attempt(&self, Dial { attempt, endpoint, timeout }: Dial) -> Attempt<N::Stream> {
        debug!(attempt, %endpoint, "dialling");
        let (net, peer) = (self.net.clone(), self.peer);
        let session = self.session.clone();
        Box::pin(async move {
            let outcome = open(&net, peer, &endpoint, timeout, session).await;
            if let Err(failure) = &outcome {
                debug!(attempt, %endpoint, ?failure, "not connected");
            }
            (attempt, outcome)
        })
    }

    /// Writes what is queued until the connection ends, or nothing more will be queued.
    async fn carry(&self, connection: &mut Connection<N::Stream>) {
        let now = || self.net.now();
        let is_drained = poll_fn(|context| {
            loop {
                let taken = self.take_batch(context, connection);
                // This writes, too. A ROUTER has nothing to say to us.
                while let Poll::Ready(received) = pin!(connection.recv(now)).poll(context) {
                    match received {
                        Ok(Some(_)) => {}
                        Ok(None) => return Poll::Ready(false),
                        Err(error) => {
                            debug!(%error, "broken");
                            return Poll::Ready(false);
                        }
                    }
                }
                match taken {
                    Taken::Batch if connection.pending_bytes() < UNWRITTEN_MAX => {}
                    Taken::Batch | Taken::All => return Poll::Pending,
                    Taken::Last => return Poll::Ready(true),
                }
            }
        })
        .await;
        if is_drained && let Err(error) = connection.close().await {
            debug!(%error, "broken while closing");
        }
    }

    /// Moves messages from the queue to the connection, up to a batch, and none while much is not written yet.
    fn take_batch(&self, context: &Context<'_>, connection: &mut Connection<N::Stream>) -> Taken {
        if connection.pending_bytes() >= UNWRITTEN_MAX {
            return Taken::Batch;
        }
        let mut count = 0;
        let taken = loop {
            match self.queue.poll_take(context) {
                Poll::Ready(Some(message)) => connection.queue(message),
                Poll::Ready(None) => break Taken::Last,
                Poll::Pending => break Taken::All,
            }
            count += 1;
            if count == BATCH_MESSAGES {
                break Taken::Batch;
            }
        };
        if count > 0 && self.queue.has_awaited_room() {
            self.note(Note::Room { link: self.link });
        }
        taken
    }
}

/// How much was taken from the queue.
#[derive(Clone, Copy, Debug)]
enum Taken {
    /// There may be more.
    Batch,
    /// All that there is, and more wakes the task.
    All,
    /// All that there is, and no more will come.
    Last,
}

/// Starts the task of a connection that was accepted.
pub(super) fn start_inbound<N: Net>(
    net: &N,
    link: InboundLink,
    own: PeerId,
    stream: N::Stream,
    remote: SocketAddr,
    intake: mpsc::Sender<Intake>,
) -> Task {
    let task = InboundTask { net: net.clone(), link, own, remote, intake };
    let span = debug_span!("from", %remote, link = link.number());
    net.spawn("zre inbound link", task.run(stream).instrument(span))
}

struct InboundTask<N: Net> {
    net: N,
    link: InboundLink,
    own: PeerId,
    remote: SocketAddr,
    intake: mpsc::Sender<Intake>,
}

impl<N: Net> InboundTask<N> {
    async fn run(self, stream: N::Stream) {
        if let Err(error) = self.carry(stream).await {
            debug!(%error, "broken");
        }
        self.tell(Intake::Closed { link: self.link }).await;
    }

    /// Waits until the node takes it, and says whether it did so at once. Without a node there is nobody to tell, and the
    /// task is about to be ended.
    async fn tell(&self, intake: Intake) -> bool {
        match self.intake.try_send(intake) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(intake)) => {
                // Boxed: it is seldom needed, and a task would have room for it all the time.
                drop(Box::pin(self.intake.send(intake)).await);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    async fn carry(&self, stream: N::Stream) -> Result<(), ConnectionError> {
        let session = SessionConfig {
            handshake_timeout: INBOUND_HANDSHAKE_TIMEOUT,
            ..SessionConfig::new(SocketType::Router, self.own.to_zmtp())
        };
        let now = || self.net.now();
        self.net.expect_messages(&stream);
        let mut connection = Box::new(Connection::new(stream, Session::new(session, now())));
        let peer = connection.handshake(now, &mut self.net.alarm()).await?;
        self.tell(Intake::Opened { link: self.link, identity: peer.identity, remote: self.remote }).await;
        let mut is_waited_for = false;
        loop {
            let received = receive(&mut connection, now, is_waited_for).await;
            is_waited_for = received.is_waited_for;
            if !received.messages.is_empty() {
                let messages = Intake::Messages { link: self.link, messages: received.messages };
                is_waited_for &= self.tell(messages).await;
            }
            if let Some(end) = received.end {
                return end;
            }
        }
    }
}

/// What came over a connection in one go.
struct Received {
    messages: Vec<Multipart>,
    /// Set when the connection ended after them.
    end: Option<Result<(), ConnectionError>>,
    /// The connection said that there is no more, and wakes the task when there is.
    is_waited_for: bool,
}

/// Waits for messages and takes all that are there, up to a batch. A connection that is waited for already is not asked
/// before it has woken the task.
async fn receive<S>(
    connection: &mut Connection<S>,
    now: impl Fn() -> crate::Timestamp + Send + Copy,
    mut is_waited_for: bool,
) -> Received
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
{
    let mut received = Received { messages: Vec::new(), end: None, is_waited_for: false };
    let mut len = 0;
    poll_fn(|context| {
        if std::mem::take(&mut is_waited_for) {
            return Poll::Pending;
        }
        while received.messages.len() < BATCH_MESSAGES && len < BATCH_BYTES {
            match pin!(connection.recv(now)).poll(context) {
                Poll::Ready(Ok(Some(message))) => {
                    len += bytes_in(&message);
                    received.messages.push(message);
                }
                Poll::Ready(Ok(None)) => {
                    received.end = Some(Ok(()));
                    break;
                }
                Poll::Ready(Err(error)) => {
                    received.end = Some(Err(error));
                    break;
                }
                Poll::Pending if received.messages.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    received.is_waited_for = true;
                    break;
                }
            }
        }
        Poll::Ready(())
    })
    .await;
    received
}
