//! Opening connections where packets get lost: several are tried side by side.
//!
//! It knows nothing of queues and links. A connection that was opened is through its handshake, and nothing but that was
//! said on it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tracing::debug;

use crate::Timestamp;
use crate::net::{Alarm, Net};
use crate::zmtp::{Connection, ConnectionError, Session, SessionConfig};
use crate::zre::machine::DialFailure;
use crate::zre::{Endpoint, PeerId};

/// While nobody has answered, another connection is tried each time this has passed, at first: a lost SYN is sent again by
/// the kernel after a second at the earliest, what follows after 200 ms, and on a network that loses a third of its packets
/// two of three attempts lose one.
///
/// Later a quarter of the time that has passed is waited, because a network that is slow would only be slower. Once a
/// connection stands, three round trips, and twice and four times the step: what it waits for may be a program that is
/// busy.
const RACE_STEP: Duration = Duration::from_millis(50);
/// Connections that are tried, at most. The last goes out after 14 s.
const RACERS_MAX: usize = 24;
/// As [`RACE_STEP`], but to find out who is there at all: that is in no hurry, and perhaps many have fallen silent at once.
const REACH_STEP: Duration = Duration::from_millis(200);

/// A connection on its way to be a link's. Boxed, because it moves: from future to future it would leave room for itself in
/// each.
type Opened<S> = Box<Connection<S>>;

/// A connection, and who answered at which address.
pub(super) type Answered<S> = (Opened<S>, Option<PeerId>, SocketAddr);

type Racer<T> = Pin<Box<dyn Future<Output = Result<T, DialFailure>> + Send>>;

/// Opens a connection: resolves, connects, shakes hands, and looks who answered. A restarted node is another peer at the
/// same place, and must not take a HELLO to its earlier life for one to itself.
pub(super) async fn open<N: Net>(
    net: &N,
    peer: Option<PeerId>,
    endpoint: &Endpoint,
    timeout: Duration,
    session: SessionConfig,
) -> Result<Answered<N::Stream>, DialFailure> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(timeout)));
    let (mut connection, at) = tokio::select! {
        biased;
        connected = connect_with(net, endpoint, RACE_STEP, |stream| greet(net, stream, &session)) => connected?,
        () = alarm.ring() => return Err(DialFailure::TimedOut),
    };
    match connection.handshake(|| net.now(), &mut alarm).await {
        Ok(properties) => match (PeerId::from_zmtp(&properties.identity), peer) {
            (Some(other), Some(peer)) if other != peer => Err(DialFailure::AnotherPeer),
            (answered, _) => Ok((connection, answered, at)),
        },
        Err(error) => Err(broken(&error)),
    }
}

/// Connects to an endpoint. The first that takes the connection counts. Returns the address that answered, too.
pub(crate) async fn connect<N: Net>(
    net: &N,
    endpoint: &Endpoint,
) -> Result<(N::Stream, SocketAddr), DialFailure> {
    connect_with(net, endpoint, RACE_STEP, |stream| Box::pin(async { Ok(stream) })).await
}

/// Finds out whether anybody is there who takes connections. What is opened is closed again, before anything was said.
pub(super) async fn reach<N: Net>(
    net: &N,
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<(), DialFailure> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(timeout)));
    tokio::select! {
        biased;
        outcome = connect_with(net, endpoint, REACH_STEP, |_| Box::pin(async { Ok(()) })) => outcome.map(drop),
        () = alarm.ring() => Err(DialFailure::TimedOut),
    }
}

/// Resolves an endpoint and races connections to its addresses, one address after the other.
async fn connect_with<N: Net, T>(
    net: &N,
    endpoint: &Endpoint,
    step: Duration,
    greet: impl Fn(N::Stream) -> Racer<T>,
) -> Result<(T, SocketAddr), DialFailure> {
    let addresses = match endpoint.socket_addr() {
        Some(address) => vec![address],
        None => net.resolve(&endpoint.host, endpoint.port).await.map_err(|error| failure(&error))?,
    };
    let mut outcome = Err(DialFailure::Unreachable);
    for address in addresses {
        outcome = race(net, address, step, &greet).await.map(|opened| (opened, address));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Connects and greets, trying anew beside attempts that got no answer yet. The first whose other side answers the greeting
/// counts, or refuses; the others are given up, before they said whose they are.
async fn race<N: Net, T>(
    net: &N,
    address: SocketAddr,
    step: Duration,
    greet: &impl Fn(N::Stream) -> Racer<T>,
) -> Result<T, DialFailure> {
    let mut callers: Vec<(Timestamp, Racer<N::Stream>)> = Vec::new();
    let mut listeners: Vec<Racer<T>> = Vec::new();
    let start = net.now();
    let mut started = 0;
    let mut alarm = net.alarm();
    alarm.set(Some(start));
    poll_fn(|context| {
        while started < RACERS_MAX && alarm.poll_ring(context).is_ready() {
            let now = net.now();
            alarm.set(Some(now.after(step.max(now.since(start) / 4))));
            started += 1;
            let net = net.clone();
            let call = async move { net.connect(address, None).await.map_err(|error| failure(&error)) };
            callers.push((now, Box::pin(call)));
        }
        let mut index = 0;
        while let Some((since, caller)) = callers.get_mut(index) {
            let Poll::Ready(outcome) = caller.as_mut().poll(context) else {
                index += 1;
                continue;
            };
            let (now, round_trip) = (net.now(), net.now().since(*since));
            drop(callers.remove(index));
            listeners.push(match outcome {
                Ok(stream) => greet(stream),
                Err(failure) => return Poll::Ready(Err(failure)),
            });
            // Those that were sent out after it were only on their way.
            callers.clear();
            let busy = step * 2_u32.pow(listeners.len().min(2) as u32);
            alarm.set(Some(now.after(busy.max(round_trip * 3))));
        }
        for listener in &mut listeners {
            if let Poll::Ready(outcome) = listener.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}

/// Greets on a fresh connection and waits for the answer.
fn greet<N: Net>(net: &N, stream: N::Stream, session: &SessionConfig) -> Racer<Opened<N::Stream>> {
    let net = net.clone();
    net.expect_messages(&stream);
    let mut connection = Box::new(Connection::new(stream, Session::new(session.clone(), net.now())));
    Box::pin(async move {
        match connection.greeting(|| net.now(), &mut net.alarm()).await {
            Ok(()) => Ok(connection),
            Err(error) => Err(broken(&error)),
        }
    })
}

fn broken(error: &ConnectionError) -> DialFailure {
    debug!(%error, "no handshake");
    DialFailure::Unreachable
}

fn failure(error: &std::io::Error) -> DialFailure {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => DialFailure::Refused,
        std::io::ErrorKind::TimedOut => DialFailure::TimedOut,
        _ => DialFailure::Unreachable,
    }
}
