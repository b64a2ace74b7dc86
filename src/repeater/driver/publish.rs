//! Serves those who connect to the publisher: subscribers, and repeaters that carry a connection here.
//!
//! The first byte tells them apart: a ZMTP greeting starts with 0xff, and a request for a connection with a letter.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tracing::debug;

use super::stand_in::Terms;
use super::subscribe::LIMITS;
use super::tunnel::{self, Talk};
use super::{Note, Pulse, within};
use crate::Timestamp;
use crate::net::{Alarm, Net};
use crate::repeater::machine::{Input, Subscriber};
use crate::zmtp::{
    Chase, Connection, ConnectionError, Session, SessionConfig, SocketType, Subscription, Subscriptions,
};

/// How long somebody may be connected and say nothing.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// While a subscriber has not taken so many bytes, the rest waits in its channel, where it is counted.
const UNWRITTEN_MAX: usize = 64 << 10;
const GREETING: u8 = 0xff;

/// What is published.
#[derive(Clone, Debug)]
pub(super) struct Issue {
    pub(super) packet: Bytes,
    /// Its loss should be noticed soon.
    pub(super) is_news: bool,
}

/// Somebody who has connected.
pub(super) struct Guest<N: Net> {
    pub(super) net: N,
    pub(super) remote: SocketAddr,
    pub(super) subscriber: Subscriber,
    /// What is published.
    pub(super) issues: mpsc::Receiver<Issue>,
    pub(super) terms: Terms,
}

impl<N: Net> Guest<N> {
    pub(super) async fn run(mut self, mut stream: N::Stream) {
        let outcome = match within(&self.net, FIRST_BYTE_TIMEOUT, stream.read_u8()).await {
            Ok(GREETING) => self.publish(Peeked { first: Some(GREETING), stream }).await,
            Ok(tunnel::FIRST_BYTE) if self.terms.relay => {
                // It is no subscriber, and has a limit of its own.
                self.terms.notes.tell(Note::Tunnel(self.subscriber)).await;
                let talk = Talk::begin(&self.terms.carried, self.terms.connections_max);
                let served = tunnel::serve(&self.net, stream, &self.terms.notes, talk.as_ref()).await;
                served.map_err(ConnectionError::from)
            }
            Ok(_) => return self.leave().await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            debug!(remote = %self.remote, %error, "connection ended");
        }
        self.leave().await;
    }

    async fn leave(&self) {
        self.terms.notes.tell(Note::Gone(self.subscriber)).await;
    }

    async fn publish(&mut self, stream: Peeked<N::Stream>) -> Result<(), ConnectionError> {
        let net = &self.net;
        let session = SessionConfig { limits: LIMITS, ..SessionConfig::new(SocketType::Pub, Bytes::new()) };
        let mut alarm = net.alarm();
        let mut connection = Connection::new(stream, Session::new(session, net.now()));
        let is_asked = connection.handshake(|| net.now(), &mut alarm).await?.minor > 0;
        let mut wanted = Subscriptions::default();
        let mut pulse = Pulse::new(net.now());
        let mut chase = Chase::default();
        loop {
            alarm.set(Some(chase.due().unwrap_or(Timestamp::NEVER).min(pulse.next())));
            let has_room = connection.pending_bytes() < UNWRITTEN_MAX;
            tokio::select! {
                biased;
                said = connection.recv(|| net.now()) => {
                    let Some(said) = said? else { return Ok(()) };
                    if Subscription::decode(&said).is_some_and(|subscription| wanted.apply(&subscription)) {
                        self.terms.notes.tell(Note::Input(Input::Subscribed(self.subscriber))).await;
                    }
                }
                () = alarm.ring() => {
                    let (now, received_bytes) = (net.now(), connection.received_bytes());
                    let is_chased = chase.ask(now, received_bytes);
                    let is_due = now >= pulse.next();
                    if is_due && !pulse.beat(now, received_bytes, is_asked) {
                        return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                    }
                    if is_chased || is_due {
                        connection.ping();
                    }
                }
                issue = self.issues.recv(), if has_room => {
                    let Some(Issue { packet, is_news }) = issue else { return Ok(()) };
                    if wanted.want(&packet) {
                        connection.queue(vec![packet]);
                        if is_news {
                            chase.begin(net.now(), connection.received_bytes());
                        }
                    }
                }
            }
        }
    }
}

/// A stream whose first byte was read.
#[derive(Debug)]
struct Peeked<S> {
    first: Option<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Peeked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Peeked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
