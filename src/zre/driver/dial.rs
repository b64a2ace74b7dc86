//! Opening connections to peers, by a race.
//!
//! It knows nothing of queues and links. A connection that was opened is through its handshake, and nothing but that was
//! said on it. The losers are given up before they said whose they are.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::debug;

use crate::net::race::{RACE_STEP, Racer, race};
use crate::net::{Alarm, Net};
use crate::zmtp::{Connection, ConnectionError, Session, SessionConfig};
use crate::zre::machine::DialFailure;
use crate::zre::{Endpoint, PeerId};

/// As [`RACE_STEP`], but to find out who is there at all: that is in no hurry, and perhaps many have fallen silent at once.
const REACH_STEP: Duration = Duration::from_millis(200);

/// A connection on its way to be a link's. Boxed, because it moves: from future to future it would leave room for itself in
/// each.
type Opened<S> = Box<Connection<S>>;

/// A connection, and who answered at which address.
pub(super) type Answered<S> = (Opened<S>, Option<PeerId>, SocketAddr);

type Greeting<T> = Racer<T, DialFailure>;

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
    greet: impl Fn(N::Stream) -> Greeting<T>,
) -> Result<(T, SocketAddr), DialFailure> {
    let addresses = match endpoint.socket_addr() {
        Some(address) => vec![address],
        None => net.resolve(&endpoint.host, endpoint.port).await.map_err(DialFailure::from)?,
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

/// Greets on a fresh connection and waits for the answer.
fn greet<N: Net>(net: &N, stream: N::Stream, session: &SessionConfig) -> Greeting<Opened<N::Stream>> {
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

impl From<std::io::Error> for DialFailure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Self::Refused,
            std::io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Unreachable,
        }
    }
}
