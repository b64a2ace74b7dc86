//! The connection of one host to the relay, from its first byte: finds out what it is, and serves it as that.
//!
//! It may be the control connection or a data connection of the modern protocol, perhaps inside TLS, or a data connection of the
//! original protocol. What it may be is settled within [`HANDSHAKE_TIME`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::{Client, Line, Note, Shared};
use crate::net::{Alarm, Net};
use crate::relay::compatible::{self, Framer};
use crate::relay::config::Protocol;
use crate::relay::datagrams::{self, Idle};
use crate::relay::frame::{Control, FrameError, Framed, Opened, Piece};
use crate::relay::leg::{Leg, Prefixed, TalkError, receive};
use crate::relay::machine::{ConnectionId, Name};
use crate::relay::message::{Message, PREAMBLE, Refusal};
use crate::relay::proof::Context;
use crate::relay::pump;
use crate::relay::throttle::Paced;

/// How long a connection may take until it is known what it is and that it may be it.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// How long after its answer a data connection of the original protocol rests. The original host process reads once after its
/// hello; what it reads beyond the answer waits there until more comes.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// The first byte of TLS: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// What all of its parts need.
pub(super) struct Connection<N: Net> {
    pub(super) id: ConnectionId,
    pub(super) net: N,
    pub(super) shared: Arc<Shared>,
    pub(super) notes: mpsc::UnboundedSender<Note<N>>,
    pub(super) from: SocketAddr,
    pub(super) at: SocketAddr,
}

/// What a connection turned out to be.
enum Kind<S> {
    Control { leg: Leg<S>, input: BytesMut, service: Name, key: crate::relay::proof::SessionKey },
    Data { leg: Leg<S>, input: BytesMut, control: ConnectionId, ticket: u64 },
    Compatible { stream: S, framer: Framer },
}

/// Why it is none.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error(transparent)]
    Compatible(#[from] compatible::DecodeError),
    #[error("its first bytes belong to no protocol that is spoken here")]
    UnknownProtocol,
    #[error("it was refused: {0}")]
    Refused(Refusal),
    #[error("its ticket is not one that was given")]
    BadTicket,
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Talk(error.into())
    }
}

impl<N: Net> Connection<N> {
    /// Serves a connection to the port for hosts until it ends.
    pub(super) async fn serve(self, stream: N::Stream, session: i32) {
        let mut alarm = self.net.alarm();
        alarm.set(Some(self.net.now().after(HANDSHAKE_TIME)));
        let outcome = tokio::select! {
            biased;
            outcome = self.introduce(stream) => Some(outcome),
            () = alarm.ring() => None,
        };
        drop(alarm);
        match outcome {
            Some(Ok(Kind::Control { leg, input, service, key })) => {
                let outcome = self.serve_control(leg, input, service, key).await;
                self.report(outcome);
            }
            Some(Ok(Kind::Data { leg, input, control, ticket })) => {
                let outcome = self.serve_data(leg, input, control, ticket).await;
                if let Err(error) = outcome {
                    self.shared
                        .counters
                        .host_faults
                        .add(u64::from(!matches!(error, FrameError::Io(_) | FrameError::Cut)));
                    debug!(from = %self.from, %error, "data connection ended");
                }
            }
            Some(Ok(Kind::Compatible { stream, framer })) => {
                let outcome = self.serve_compatible(stream, framer, session).await;
                self.report(outcome);
            }
            Some(Err(fault)) => self.report(Err(fault)),
            None => {
                self.shared.counters.host_timeouts.add(1);
                debug!(from = %self.from, "a connection to the port for hosts said too little in time");
            }
        }
        let _ = self.notes.send(Note::Ended { id: self.id });
    }

    fn report(&self, outcome: Result<(), Fault>) {
        let Err(fault) = outcome else { return };
        let from = self.from;
        match fault {
            Fault::Talk(TalkError::Closed | TalkError::Io(_)) => {
                debug!(%from, %fault, "connection of a host ended");
            }
            Fault::Refused(refusal) => {
                self.shared.counters.hosts_refused.add(1);
                warn!(%from, %refusal, "host refused");
            }
            fault => {
                self.shared.counters.host_faults.add(1);
                warn!(%from, %fault, "connection closed: no host talks like this");
            }
        }
    }

    async fn introduce(&self, mut stream: N::Stream) -> Result<Kind<N::Stream>, Fault> {
        let mut input = BytesMut::with_capacity(128);
        read_some(&mut stream, &mut input).await?;
        if input[0] == TLS_HANDSHAKE
            && let Some(acceptor) = self.shared.acceptor()
        {
            let prefixed = Prefixed::new(std::mem::take(&mut input).freeze(), stream);
            let leg = Leg::Tls(Box::new(acceptor.accept(prefixed).await?.into()));
            return self.introduce_modern(leg, input).await;
        }
        // The length of a message of the original protocol begins with a zero, for it has less than 16 MiB.
        if input[0] == 0 && self.shared.compatible_port.is_some() {
            let mut framer = Framer::default();
            framer.push(&input);
            return Ok(Kind::Compatible { stream, framer });
        }
        if input[0] != PREAMBLE[0] {
            return Err(Fault::UnknownProtocol);
        }
        self.introduce_modern(Leg::Plain(stream), input).await
    }

    async fn introduce_modern(
        &self,
        mut leg: Leg<N::Stream>,
        mut input: BytesMut,
    ) -> Result<Kind<N::Stream>, Fault> {
        while input.len() < PREAMBLE.len() {
            read_some(&mut leg, &mut input).await?;
        }
        if input.split_to(PREAMBLE.len())[..] != PREAMBLE {
            return Err(Fault::UnknownProtocol);
        }
        if matches!(leg, Leg::Plain(_)) && self.shared.acceptor().is_some() {
            return self.refuse(leg, Refusal::TlsRequired).await;
        }
        let (service, host_nonce) = match receive(&mut leg, &mut input).await? {
            Message::Hello { service, nonce } => (service, nonce),
            Message::Join { session, ticket, mac } => {
                let control = ConnectionId(session);
                let key = self.shared.key(control).filter(|key| key.is_ticket_proof(ticket, &mac));
                return match key {
                    Some(_) => Ok(Kind::Data { leg, input, control, ticket }),
                    None => Err(Fault::BadTicket),
                };
            }
            _ => return Err(TalkError::OutOfTurn("a message that is no hello").into()),
        };
        let mut relay_nonce = [0; 32];
        self.net.random(&mut relay_nonce);
        send(&mut leg, &Message::Challenge { nonce: relay_nonce }).await?;
        let Message::Proof { mac } = receive(&mut leg, &mut input).await? else {
            return Err(TalkError::OutOfTurn("a message that is no proof").into());
        };
        let context = Context { service: &service, host_nonce: &host_nonce, relay_nonce: &relay_nonce };
        let token = self.shared.token(&service);
        let is_known = token.is_some();
        let token = token.unwrap_or_else(|| self.shared.nobody.clone());
        if !token.is_host_proof(&context, &mac) || !is_known {
            return self.refuse(leg, Refusal::Unknown).await;
        }
        let welcome = Message::Welcome {
            session: self.id.0,
            heartbeat_ms: u32::try_from(self.shared.heartbeat.as_millis()).unwrap_or(u32::MAX),
            mac: token.relay_proof(&context, self.id.0),
        };
        let key = token.session_key(&context, self.id.0);
        send(&mut leg, &welcome).await?;
        Ok(Kind::Control { leg, input, service: Name::from(service.as_str()), key })
    }

    async fn refuse<T>(&self, mut leg: Leg<N::Stream>, refusal: Refusal) -> Result<T, Fault> {
        send(&mut leg, &Message::Refused(refusal)).await?;
        leg.shutdown().await?;
        Err(Fault::Refused(refusal))
    }

    async fn serve_control(
        &self,
        mut leg: Leg<N::Stream>,
        mut input: BytesMut,
        service: Name,
        key: crate::relay::proof::SessionKey,
    ) -> Result<(), Fault> {
        let (outbox, mut outgoing) = mpsc::unbounded_channel();
        let _ = self.notes.send(Note::Host { id: self.id, service, key, outbox });
        loop {
            tokio::select! {
                biased;
                message = outgoing.recv() => match message {
                    Some(message) => send(&mut leg, &message).await?,
                    None => return Ok(leg.shutdown().await?),
                },
                message = receive(&mut leg, &mut input) => match message? {
                    message @ (Message::Pong(_) | Message::Health(_) | Message::Draining) => {
                        let _ = self.notes.send(Note::Said { id: self.id, message });
                    }
                    _ => return Err(TalkError::OutOfTurn("a message that no host sends").into()),
                },
            }
        }
    }

    async fn serve_data(
        &self,
        leg: Leg<N::Stream>,
        input: BytesMut,
        control: ConnectionId,
        ticket: u64,
    ) -> Result<(), FrameError> {
        let mut framed = Framed::new(leg, &input);
        drop(input);
        let (seat, mut client) = oneshot::channel();
        let _ = self.notes.send(Note::Data { id: self.id, control, ticket, seat });
        let mut alarm = self.net.alarm();
        for session in 0.. {
            let waited = self.wait_for_client(&mut framed, &mut client, &mut alarm).await;
            let Ok(Some(Client { service, line, from, at })) = waited else {
                // A client may have come to it at the same time.
                client.close();
                if let Ok(client) = client.try_recv() {
                    let _ = self.notes.send(Note::Returned { client });
                }
                return waited.map(drop);
            };
            let opened = |protocol| Control::Open(Opened { session, protocol, client: from, relay: at });
            let moved = match line {
                Line::Stream(stream) => {
                    framed.put(opened(Protocol::Tcp));
                    pump::frames(&mut framed, Some(stream), session, self.pace(&service)).await
                }
                Line::Datagrams(caller) => {
                    framed.put(opened(Protocol::Udp));
                    let paces = [self.pace(&service), self.pace(&service)];
                    let idle = Idle::new(self.net.now(), self.shared.idle(&service));
                    datagrams::carry(&self.net, &mut framed, Some(caller), session, paces, Some(idle)).await
                }
            };
            let moved = moved.inspect_err(|_| self.shared.counters.sessions_broken.add(1))?;
            self.count(moved);
            let (seat, next) = oneshot::channel();
            client = next;
            let _ = self.notes.send(Note::Free { id: self.id, seat });
        }
        Ok(())
    }

    /// Waits with a free data connection for its next client, and now and then looks whether the host is there. `None`
    /// when the relay has no more use for it.
    async fn wait_for_client(
        &self,
        framed: &mut Framed<Leg<N::Stream>>,
        client: &mut oneshot::Receiver<Client<N>>,
        alarm: &mut N::Alarm,
    ) -> Result<Option<Client<N>>, FrameError> {
        let mut unanswered = 0;
        alarm.set(Some(self.net.now().after(self.shared.heartbeat)));
        loop {
            tokio::select! {
                biased;
                client = &mut *client => return Ok(client.ok()),
                piece = std::future::poll_fn(|context| {
                    if let std::task::Poll::Ready(Err(error)) = framed.poll_write(context) {
                        return std::task::Poll::Ready(Err(error.into()));
                    }
                    framed.poll_piece(context)
                }) => match piece? {
                    Piece::Control(Control::Pong) => unanswered = 0,
                    // Of the session before.
                    Piece::Control(Control::Reset(_)) => {}
                    Piece::Closed => return Ok(None),
                    Piece::Data | Piece::Datagram => return Err(FrameError::OutOfTurn("DATA")),
                    Piece::Control(_) => return Err(FrameError::OutOfTurn("a frame")),
                },
                () = alarm.ring() => {
                    if unanswered == 2 {
                        return Err(FrameError::Cut);
                    }
                    unanswered += 1;
                    framed.put(Control::Ping);
                    alarm.set(Some(self.net.now().after(self.shared.heartbeat)));
                }
            }
        }
    }

    async fn serve_compatible(
        &self,
        mut stream: N::Stream,
        mut framer: Framer,
        session: i32,
    ) -> Result<(), Fault> {
        let port = self.shared.compatible_port.as_ref().map_or(0, |port| port.load(Ordering::Relaxed));
        let response = compatible::Response {
            session,
            relay_host: self.at.ip().to_canonical().to_string(),
            relay_port: port.to_string(),
        }
        .encode();
        let mut alarm = self.net.alarm();
        let mut seat = None;
        let (mut chair, mut client) = (None, None);
        let mut buffer = [0; 256];
        alarm.set(Some(self.net.now().after(HANDSHAKE_TIME)));
        loop {
            // A hello that comes again is answered again; what else comes before a session is swallowed, as the
            // original does.
            while let Some(body) = framer.take()? {
                if compatible::Hello::decode(&body).is_err() {
                    if seat.is_none() && client.is_none() {
                        return Err(Fault::Compatible(compatible::DecodeError::Missing("version")));
                    }
                    continue;
                }
                stream.write_all(&response).await?;
                if chair.is_none() && client.is_none() && seat.is_none() {
                    let (sender, receiver) = oneshot::channel();
                    seat = Some(sender);
                    chair = Some(receiver);
                    alarm.set(Some(self.net.now().after(SETTLE_TIME)));
                }
            }
            tokio::select! {
                biased;
                taken = async { client.as_mut().expect("it is there").await }, if client.is_some() => {
                    let Ok(Client { service, line: Line::Stream(mut caller), .. }) = taken else { return Ok(()) };
                    let moved = pump::bytes(&mut caller, &mut stream, self.pace(&service)).await;
                    let moved = moved.inspect_err(|_| self.shared.counters.sessions_broken.add(1))?;
                    self.count(moved);
                    return Ok(());
                }
                count = stream.read(&mut buffer) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(());
                    }
                    framer.push(&buffer[..count]);
                }
                () = alarm.ring() => match seat.take() {
                    Some(seat) => {
                        client = chair.take();
                        let _ = self.notes.send(Note::CompatibleData { id: self.id, session, seat });
                    }
                    None => {
                        self.shared.counters.host_timeouts.add(1);
                        return Ok(());
                    }
                },
            }
        }
    }

    /// Serves a command channel: announces, and expects nothing.
    pub(super) async fn serve_commands(self, mut stream: N::Stream) {
        let (outbox, mut outgoing) = mpsc::unbounded_channel();
        let _ = self.notes.send(Note::Commands { id: self.id, outbox });
        let mut byte = [0; 1];
        loop {
            tokio::select! {
                biased;
                // The original host process takes one announcement from each piece that it reads, so each is sent for itself.
                announcement = outgoing.recv() => match announcement {
                    Some(announcement) => if stream.write_all(&announcement.encode()).await.is_err() { break },
                    None => break,
                },
                count = stream.read(&mut byte) => {
                    if matches!(count, Ok(1)) {
                        self.shared.counters.host_faults.add(1);
                        warn!(from = %self.from, "command channel closed: a host process says nothing there");
                    }
                    break;
                }
            }
        }
        let _ = self.notes.send(Note::Ended { id: self.id });
    }

    /// How fast a session of this service may be.
    fn pace(&self, service: &str) -> Paced<N> {
        Paced::new(self.net.clone(), self.shared.throttle(service))
    }

    fn count(&self, moved: pump::Moved) {
        self.shared.counters.bytes_up.add(moved.up);
        self.shared.counters.bytes_down.add(moved.down);
    }
}

async fn read_some<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> Result<(), TalkError> {
    if stream.read_buf(input).await? == 0 { Err(TalkError::Closed) } else { Ok(()) }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &Message) -> Result<(), TalkError> {
    stream.write_all(&message.encode()).await?;
    Ok(stream.flush().await?)
}
