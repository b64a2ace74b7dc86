//! The connections of a host to its relay: the control connection of a service, and its data connections. Each is a task.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::warn;

use super::driver::{LOCAL_TIME, Note, Shared, within};
use super::service::{Serve, Visitor};
use crate::net::Net;
use crate::net::race::{self, RACE_STEP};
use crate::relay::config::{HostConfig, Protocol};
use crate::relay::datagrams;
use crate::relay::frame::{Control, FrameError, Framed, Piece};
use crate::relay::leg::{Leg, Prefixed, TalkError, receive};
use crate::relay::message::{Message, PREAMBLE, Refusal};
use crate::relay::proof::Context;
use crate::relay::pump;
use crate::relay::throttle::Unpaced;
use crate::relay::tls;
use crate::tls::TlsError;

/// How long a data connection may take to be opened; its ticket is no good any more then.
const DATA_TIME: Duration = Duration::from_secs(10);
/// Between attempts beside one another to reach a relay whose distance is not known yet (RFC 8305, section 8).
const CONTROL_STEP: Duration = Duration::from_millis(250);
/// The same for its data connections, at most. At least it is [`RACE_STEP`], and two round trips.
const DATA_STEP_MAX: Duration = Duration::from_secs(1);

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

/// Where a relay was found.
#[derive(Clone, Copy)]
pub(super) struct Found {
    at: SocketAddr,
    /// For how long a connection to it is waited before another is tried, too.
    step: Duration,
}

/// A connection to the relay: where it was found before, or wherever it is.
async fn connect<N: Net, S>(
    shared: &Shared<N, S>,
    known: Option<Found>,
) -> io::Result<(Leg<N::Stream>, Found)> {
    let net = &shared.net;
    let places = match known {
        Some(found) => vec![found],
        None => {
            let places = net.resolve(&shared.relay.host, shared.relay.port).await?;
            places.into_iter().map(|at| Found { at, step: CONTROL_STEP }).collect()
        }
    };
    let mut outcome = Err(io::Error::from(io::ErrorKind::NotFound));
    for Found { at, step } in places {
        let asked = net.now();
        outcome = race::connect(net, at, step).await.map(|stream| {
            let round_trip = net.now().since(asked);
            (stream, Found { at, step: (round_trip * 2).clamp(RACE_STEP, DATA_STEP_MAX) })
        });
        if outcome.is_ok() {
            break;
        }
    }
    let (stream, found) = outcome?;
    let leg = match &shared.tls {
        None => Leg::Plain(stream),
        Some(tls) => {
            let stream = Prefixed::new(bytes::Bytes::new(), stream);
            Leg::Tls(Box::new(tls.connector.connect(tls.name.clone(), stream).await?.into()))
        }
    };
    Ok((leg, found))
}

/// The control connection, from its opening to its end.
pub(super) async fn control<N: Net, S>(
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
pub(super) async fn serve_data<N: Net, S: Serve<N>>(
    shared: &Shared<N, S>,
    relay: Found,
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
