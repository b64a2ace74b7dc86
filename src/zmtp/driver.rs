//! A session on a real stream: moves bytes between the two, many messages to a write.
//!
//! It starts no task and sets no timer but the handshake's; who holds a [`Connection`] decides how long to wait for the
//! rest, and how much may be queued ([`Connection::pending_bytes`]).

use std::collections::VecDeque;
use std::future::Future;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Input, Multipart, Output, PeerProperties, Session, SessionError};
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::Alarm;

/// Received bytes land in buffers of this size at first. A short message that is kept keeps its whole buffer, so a
/// connection that carries little should use little ones.
const READ_MIN: usize = 512;
/// Buffers double up to this size while reads fill them.
const READ_MAX: usize = 64 << 10;
/// While more unsent answers to the peer's PINGs than this wait, nothing is read: a peer that asks and does not listen
/// must not fill our memory.
const ANSWERS_MAX: usize = 16 << 10;
/// Pieces handed to one vectored write.
const SLICES_MAX: usize = 16;

/// One side of one ZMTP connection.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    session: Session,
    peer: Option<PeerProperties>,
    input: BytesMut,
    read_size: usize,
    output: VecDeque<Bytes>,
    output_bytes: usize,
    /// Bytes in `output` that nobody queued: answers to PINGs.
    answer_bytes: usize,
    needs_flush: bool,
    received_bytes: u64,
    end: Option<Result<(), ConnectionError>>,
}

/// Why a connection is of no use any more. Cloning gives the same error again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The network broke it.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// The peer is not one to talk to.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The peer closed or reset it during the handshake. libzmq does so, without a word, when mechanism or socket type do
    /// not suit it.
    #[error("the peer closed the connection during the handshake: mechanism or socket type may not suit it")]
    Rejected,
    /// The peer closed it inside a message.
    #[error("the peer closed the connection inside a message")]
    Cut,
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// What receiving led to.
enum Received {
    Ready,
    Message(Multipart),
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// A connection over a stream on which nothing has been said yet.
    pub fn new(stream: S, session: Session) -> Self {
        Self {
            stream,
            session,
            peer: None,
            input: BytesMut::new(),
            read_size: READ_MIN,
            output: VecDeque::new(),
            output_bytes: 0,
            answer_bytes: 0,
            needs_flush: false,
            received_bytes: 0,
            end: None,
        }
    }

    /// Shakes hands, within the time that the session allows. Cancel safe: it goes on where it stopped when called again.
    ///
    /// # Errors
    /// When the peer can't be talked to, takes too long, or closes the connection.
    pub async fn handshake<A: Alarm>(
        &mut self,
        now: impl Fn() -> Timestamp + Send,
        alarm: &mut A,
    ) -> Result<PeerProperties, ConnectionError> {
        let outcome = poll_fn(|context| {
            loop {
                if let Some(peer) = &self.peer {
                    return Poll::Ready(Ok(peer.clone()));
                }
                // The alarm first: a peer that always has another byte to send must not put it off.
                let deadline = self.session.deadline();
                alarm.set(deadline);
                if alarm.poll_ring(context).is_ready() {
                    self.session.handle(now().max(deadline.unwrap_or_default()), Input::Timeout);
                }
                match ready!(self.poll_received(context, &now))? {
                    Received::Ready => {}
                    Received::Message(_) => unreachable!("a session is ready before its first message"),
                    Received::End => return Poll::Ready(Err(ConnectionError::Rejected)),
                }
            }
        })
        .await;
        alarm.set(None);
        outcome
    }

    /// Queues a message. It leaves with the next [`Connection::recv`] or [`Connection::flush`], after the handshake.
    pub fn queue(&mut self, message: Multipart) {
        if self.end.is_none() {
            self.session.send(message);
        }
    }

    /// Asks the peer for a sign of life, when it is one that knows the question. It leaves as messages do; the answer shows
    /// in [`Connection::received_bytes`] alone.
    pub fn ping(&mut self) {
        if self.end.is_none() {
            self.session.ping();
        }
    }

    /// How many bytes ever came from the peer: a connection whose peer was asked and where this stands still is dead.
    pub const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// How many bytes are queued and not yet written to the stream.
    pub fn pending_bytes(&self) -> usize {
        self.output_bytes + self.session.pending_bytes()
    }

    /// What the peer said of itself, after the handshake.
    pub const fn peer(&self) -> Option<&PeerProperties> {
        self.peer.as_ref()
    }

    /// Waits for a message; `None` when the peer has closed the connection between two messages. Meanwhile it writes what
    /// is queued. Cancel safe: nothing is lost, and the next call goes on.
    ///
    /// # Errors
    /// When the connection or the peer fails; the same again from then on. What came before the failure is received
    /// first.
    pub async fn recv(
        &mut self,
        now: impl Fn() -> Timestamp + Send,
    ) -> Result<Option<Multipart>, ConnectionError> {
        poll_fn(|context| {
            loop {
                match ready!(self.poll_received(context, &now))? {
                    Received::Ready => {}
                    Received::Message(message) => return Poll::Ready(Ok(Some(message))),
                    Received::End => return Poll::Ready(Ok(None)),
                }
            }
        })
        .await
    }

    /// Writes everything that may be written: before the handshake is complete, messages may not. Cancel safe. It does
    /// not read, so two sides that both only flush may wait for each other.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        poll_fn(|context| self.poll_write(context)).await?;
        Ok(())
    }

    /// Writes everything that may be written, and tells the peer that nothing follows.
    ///
    /// # Errors
    /// When the connection fails before that.
    pub async fn close(&mut self) -> Result<(), ConnectionError> {
        self.flush().await?;
        Ok(self.stream.shutdown().await?)
    }

    fn poll_received(
        &mut self,
        context: &mut Context<'_>,
        now: &impl Fn() -> Timestamp,
    ) -> Poll<Result<Received, ConnectionError>> {
        if let Some(end) = &self.end {
            return Poll::Ready(end.clone().map(|()| Received::End));
        }
        let received = ready!(self.poll_open(context, now));
        match &received {
            Ok(Received::End) => self.end = Some(Ok(())),
            Err(error) => self.end = Some(Err(error.clone())),
            Ok(Received::Ready | Received::Message(_)) => {}
        }
        Poll::Ready(received)
    }

    fn poll_open(
        &mut self,
        context: &mut Context<'_>,
        now: &impl Fn() -> Timestamp,
    ) -> Poll<Result<Received, ConnectionError>> {
        loop {
            self.take_queued();
            if self.answer_bytes > ANSWERS_MAX {
                ready!(self.poll_write(context))?;
            }
            match self.session.poll() {
                Some(Output::Transmit(bytes)) => {
                    self.answer_bytes += bytes.len();
                    self.push(bytes);
                    continue;
                }
                Some(Output::Ready(peer)) => {
                    self.peer = Some(peer);
                    return Poll::Ready(Ok(Received::Ready));
                }
                Some(Output::Message(message)) => return Poll::Ready(Ok(Received::Message(message))),
                Some(Output::Failed(error)) => return Poll::Ready(Err(error.into())),
                None => {}
            }
            // What the peer sent before it closed is worth reading even when it takes nothing any more.
            let write_error = match self.poll_write(context) {
                Poll::Ready(Err(error)) => Some(error),
                Poll::Ready(Ok(())) | Poll::Pending => None,
            };
            match (self.poll_read(context), write_error) {
                (Poll::Pending, None) => return Poll::Pending,
                (Poll::Pending, Some(error)) | (Poll::Ready(Err(error)), _) => {
                    return Poll::Ready(Err(self.broken(error)));
                }
                (Poll::Ready(Ok(bytes)), _) if bytes.is_empty() => return Poll::Ready(self.ended()),
                (Poll::Ready(Ok(bytes)), _) => self.session.handle(now(), Input::Received(bytes)),
            }
        }
    }

    fn ended(&self) -> Result<Received, ConnectionError> {
        if !self.session.is_ready() {
            Err(ConnectionError::Rejected)
        } else if self.session.is_between_messages() {
            Ok(Received::End)
        } else {
            Err(ConnectionError::Cut)
        }
    }

    fn broken(&self, error: io::Error) -> ConnectionError {
        let is_reset = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        // Whoever closes with bytes unread resets: libzmq, of a READY that it did not want.
        if is_reset && !self.session.is_ready() { ConnectionError::Rejected } else { error.into() }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.input.capacity() - self.input.len() < self.read_size / 2 {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context))?;
        if count == room {
            self.read_size = (self.read_size * 2).min(READ_MAX);
        }
        self.received_bytes += count as u64;
        Poll::Ready(Ok(self.input.split().freeze()))
    }

    /// Writes what is queued; ready when all of it is written and flushed.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.take_queued();
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, piece) in slices.iter_mut().zip(&self.output) {
                *slice = IoSlice::new(piece);
            }
            let slices = &slices[..self.output.len().min(SLICES_MAX)];
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.written(written);
        }
        self.answer_bytes = 0;
        if self.needs_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    fn written(&mut self, mut count: usize) {
        self.output_bytes -= count;
        while let Some(piece) = self.output.front_mut().filter(|_| count > 0) {
            let len = piece.len().min(count);
            piece.advance(len);
            count -= len;
            if piece.is_empty() {
                self.output.pop_front();
            }
        }
    }

    fn take_queued(&mut self) {
        while let Some(bytes) = self.session.transmit() {
            self.push(bytes);
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.output_bytes += bytes.len();
        self.output.push_back(bytes);
    }
}

#[cfg(test)]
mod tests;
