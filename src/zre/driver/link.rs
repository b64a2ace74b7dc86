//! One task per link: it moves messages between a channel and a ZMTP connection.
//!
//! Inbound links wait when the node takes nothing more, so that the peer is held back by TCP. Outbound links never make
//! the node wait: it is told whether a queue is half full, and what does not fit is its to decide.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{Instrument, debug, debug_span};

use crate::net::{Alarm, Net, Task};
use crate::zmtp::{Connection, Multipart, Session, SessionConfig, SocketType};
use crate::zre::machine::{DialFailure, InboundLink, OutboundLink};
use crate::zre::{Endpoint, Limits, PeerId};

/// How long a handshake may take on a connection that we opened. On a good network it takes milliseconds; the rest is for
/// packets that were lost several times over. After that a fresh connection is better, and nothing was sent on this one.
const DIAL_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a handshake may take on a connection to us. Longer by far: the peer may be through its own part and have sent
/// messages, which are lost when we close.
const INBOUND_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// While no connection stands, another is tried each time this has passed: a lost SYN is sent again by the kernel after a
/// second at the earliest, and on a network that loses a third of its packets half of all attempts lose one.
const RACE_STEP: Duration = Duration::from_millis(50);
/// Connections that are tried side by side, at most. At 30 % loss each way eight attempts fail together once in 200 times.
const RACERS_MAX: usize = 8;
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
}

/// An attempt to connect that a link is told to make.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) attempt: u32,
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Duration,
}

/// What both ends of an outbound link's queue know of it.
#[derive(Debug)]
struct Queue {
    bytes: AtomicUsize,
    messages: AtomicUsize,
    /// How many messages were ever taken out.
    taken: AtomicUsize,
    /// Whether the node wants to be told of [`Note::Room`].
    is_awaited: AtomicBool,
    bytes_max: usize,
    messages_max: usize,
}

impl Queue {
    // The orderings let the end that waits and the end that takes not miss each other: each writes its part before it
    // reads the other's.

    fn put(&self, len: usize) -> bool {
        let bytes = self.bytes.fetch_add(len, Ordering::SeqCst);
        let messages = self.messages.fetch_add(1, Ordering::SeqCst);
        messages < self.messages_max && (bytes == 0 || bytes + len <= self.bytes_max)
    }

    fn take(&self, len: usize) {
        self.bytes.fetch_sub(len, Ordering::SeqCst);
        self.messages.fetch_sub(1, Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    fn is_half_full(&self) -> bool {
        self.bytes.load(Ordering::SeqCst) > self.bytes_max / 2
            || self.messages.load(Ordering::SeqCst) > self.messages_max / 2
    }

    fn await_room(&self) -> bool {
        self.is_awaited.store(true, Ordering::SeqCst);
        self.is_half_full()
    }

    fn has_awaited_room(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst)
            && !self.is_half_full()
            && self.is_awaited.swap(false, Ordering::SeqCst)
    }
}

/// The node's end of an outbound link. Dropping it ends the link.
#[derive(Debug)]
pub(super) struct Outbound {
    /// As many attempts as the machine asks for; it asks for one at a time.
    dials: mpsc::UnboundedSender<Dial>,
    /// Bounded by [`Queue`]. `None` when nothing more is to be sent.
    messages: Option<mpsc::UnboundedSender<Multipart>>,
    queue: Arc<Queue>,
    pub(super) is_open: bool,
    _task: Task,
}

impl Outbound {
    pub(super) fn start<N: Net>(
        net: &N,
        link: OutboundLink,
        peer: PeerId,
        own: PeerId,
        limits: &Limits,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Self {
        let (dials, dials_rx) = mpsc::unbounded_channel();
        let (messages, messages_rx) = mpsc::unbounded_channel();
        let queue = Arc::new(Queue {
            bytes: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            bytes_max: limits.queue_bytes,
            messages_max: limits.queue_messages,
        });
        let task = OutboundTask {
            net: net.clone(),
            link,
            peer,
            session: SessionConfig {
                handshake_timeout: DIAL_HANDSHAKE_TIMEOUT,
                ..SessionConfig::new(SocketType::Dealer, own.to_zmtp())
            },
            dials: dials_rx,
            messages: messages_rx,
            queue: Arc::clone(&queue),
            notes,
        };
        let span = debug_span!("to", %peer, link = link.number());
        Self {
            dials,
            messages: Some(messages),
            queue,
            is_open: false,
            _task: net.spawn("zre outbound link", task.run().instrument(span)),
        }
    }

    pub(super) fn dial(&self, dial: Dial) {
        // The task is there for as long as the link is not closed, and then dialling is over.
        drop(self.dials.send(dial));
    }

    /// Queues a message; `false` when it does not fit any more.
    pub(super) fn send(&self, message: Multipart) -> bool {
        let Some(messages) = &self.messages else { return true };
        let fits = self.queue.put(bytes_in(&message));
        if fits {
            // A link that just ended says so in its notes.
            let _ = messages.send(message);
        }
        fits
    }

    /// Whether the queue is half full, and so the application better waits.
    pub(super) fn is_half_full(&self) -> bool {
        self.queue.is_half_full()
    }

    /// Asks for [`Note::Room`]; `false` when there is room already.
    pub(super) fn await_room(&self) -> bool {
        self.queue.await_room()
    }

    /// How many messages were ever taken out of the queue.
    pub(super) fn taken(&self) -> usize {
        self.queue.taken.load(Ordering::SeqCst)
    }

    /// Lets the link end when everything that is queued is written.
    pub(super) fn drain(&mut self) {
        self.messages = None;
    }
}

fn bytes_in(message: &Multipart) -> usize {
    message.iter().map(Bytes::len).sum()
}

struct OutboundTask<N: Net> {
    net: N,
    link: OutboundLink,
    peer: PeerId,
    session: SessionConfig,
    dials: mpsc::UnboundedReceiver<Dial>,
    messages: mpsc::UnboundedReceiver<Multipart>,
    queue: Arc<Queue>,
    notes: mpsc::UnboundedSender<Note>,
}

type Attempt<S> = Pin<Box<dyn Future<Output = (u32, Result<Connection<S>, DialFailure>)> + Send>>;

impl<N: Net> OutboundTask<N> {
    async fn run(mut self) {
        let Some(connection) = self.connect().await else { return };
        debug!("connected");
        self.note(Note::Opened { link: self.link });
        self.carry(connection).await;
        self.note(Note::Closed { link: self.link });
    }

    fn note(&self, note: Note) {
        // Without a node there is nobody to tell.
        drop(self.notes.send(note));
    }

    /// Makes the attempts that the node asks for, side by side, until one succeeds.
    async fn connect(&mut self) -> Option<Connection<N::Stream>> {
        let mut attempts: Vec<Attempt<N::Stream>> = Vec::new();
        poll_fn(|context| {
            loop {
                match self.dials.poll_recv(context) {
                    Poll::Ready(Some(dial)) => attempts.push(self.attempt(dial)),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => break,
                }
            }
            let mut index = 0;
            while let Some(attempt) = attempts.get_mut(index) {
                match attempt.as_mut().poll(context) {
                    Poll::Pending => index += 1,
                    Poll::Ready((_, Ok(connection))) => return Poll::Ready(Some(connection)),
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
    async fn carry(&mut self, mut connection: Connection<N::Stream>) {
        let Self { net, link, messages, queue, notes, .. } = self;
        let mut batch = Vec::with_capacity(BATCH_MESSAGES);
        let now = || net.now();
        let is_drained = poll_fn(|context| {
            loop {
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
                if connection.pending_bytes() >= UNWRITTEN_MAX {
                    return Poll::Pending;
                }
                match messages.poll_recv_many(context, &mut batch, BATCH_MESSAGES) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(0) => return Poll::Ready(true),
                    Poll::Ready(_) => {}
                }
                for message in batch.drain(..) {
                    queue.take(bytes_in(&message));
                    connection.queue(message);
                }
                if queue.has_awaited_room() {
                    let _ = notes.send(Note::Room { link: *link });
                }
            }
        })
        .await;
        if is_drained && let Err(error) = connection.close().await {
            debug!(%error, "broken while closing");
        }
    }
}

/// Opens a connection: resolves, connects, shakes hands, and looks who answered. A restarted node is another peer at the
/// same place, and must not take a HELLO to its earlier life for one to itself.
async fn open<N: Net>(
    net: &N,
    peer: PeerId,
    endpoint: &Endpoint,
    timeout: Duration,
    session: SessionConfig,
) -> Result<Connection<N::Stream>, DialFailure> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(timeout)));
    let stream = tokio::select! {
        biased;
        stream = connect(net, endpoint) => stream?,
        () = alarm.ring() => return Err(DialFailure::TimedOut),
    };
    let mut connection = Connection::new(stream, Session::new(session, net.now()));
    match connection.handshake(|| net.now(), &mut alarm).await {
        Ok(properties) if PeerId::from_zmtp(&properties.identity).is_some_and(|other| other != peer) => {
            Err(DialFailure::AnotherPeer)
        }
        Ok(_) => Ok(connection),
        Err(error) => {
            debug!(%error, "no handshake");
            Err(DialFailure::Unreachable)
        }
    }
}

async fn connect<N: Net>(net: &N, endpoint: &Endpoint) -> Result<N::Stream, DialFailure> {
    let addresses = match endpoint.socket_addr() {
        Some(address) => vec![address],
        None => net.resolve(&endpoint.host, endpoint.port).await.map_err(|error| failure(&error))?,
    };
    let mut outcome = Err(DialFailure::Unreachable);
    for address in addresses {
        outcome = race(net, address).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Connects, trying anew beside attempts that got no answer yet. The first answer counts, be it a connection or a refusal;
/// the others are given up, before anything was said on them.
async fn race<N: Net>(net: &N, address: SocketAddr) -> Result<N::Stream, DialFailure> {
    let mut racers = Vec::new();
    let mut alarm = net.alarm();
    alarm.set(Some(net.now()));
    poll_fn(|context| {
        while racers.len() < RACERS_MAX && alarm.poll_ring(context).is_ready() {
            alarm.set(Some(net.now().after(RACE_STEP)));
            let net = net.clone();
            racers.push(Box::pin(async move { net.connect(address, None).await }));
        }
        for racer in &mut racers {
            if let Poll::Ready(outcome) = racer.as_mut().poll(context) {
                return Poll::Ready(outcome.map_err(|error| failure(&error)));
            }
        }
        Poll::Pending
    })
    .await
}

fn failure(error: &std::io::Error) -> DialFailure {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => DialFailure::Refused,
        std::io::ErrorKind::TimedOut => DialFailure::TimedOut,
        _ => DialFailure::Unreachable,
    }
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

    /// Waits until the node takes it. Without a node there is nobody to tell, and the task is about to be ended.
    async fn tell(&self, intake: Intake) {
        drop(self.intake.send(intake).await);
    }

    async fn carry(&self, stream: N::Stream) -> Result<(), crate::zmtp::ConnectionError> {
        let session = SessionConfig {
            handshake_timeout: INBOUND_HANDSHAKE_TIMEOUT,
            ..SessionConfig::new(SocketType::Router, self.own.to_zmtp())
        };
        let now = || self.net.now();
        let mut connection = Connection::new(stream, Session::new(session, now()));
        let peer = connection.handshake(now, &mut self.net.alarm()).await?;
        self.tell(Intake::Opened { link: self.link, identity: peer.identity, remote: self.remote }).await;
        loop {
            let (messages, end) = receive(&mut connection, now).await;
            if !messages.is_empty() {
                self.tell(Intake::Messages { link: self.link, messages }).await;
            }
            if let Some(end) = end {
                return end;
            }
        }
    }
}

/// Waits for messages and takes all that are there, up to a batch, and tells whether the connection ended after them.
async fn receive<S>(
    connection: &mut Connection<S>,
    now: impl Fn() -> crate::Timestamp + Send + Copy,
) -> (Vec<Multipart>, Option<Result<(), crate::zmtp::ConnectionError>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
{
    let mut messages = Vec::new();
    let mut len = 0;
    let end = poll_fn(|context| {
        while messages.len() < BATCH_MESSAGES && len < BATCH_BYTES {
            match pin!(connection.recv(now)).poll(context) {
                Poll::Ready(Ok(Some(message))) => {
                    len += bytes_in(&message);
                    messages.push(message);
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(Some(Ok(()))),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending if messages.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(None)
    })
    .await;
    (messages, end)
}
