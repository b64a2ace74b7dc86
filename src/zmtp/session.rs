//! One side of one ZMTP connection with the NULL mechanism, as a machine: bytes in, bytes and messages out.
//!
//! It sends greeting and READY in one piece before it has heard anything. NULL lets each side do so, libzmq buffers what
//! follows the greeting, and it saves a round trip on a network that loses packets. Messages have to wait for the
//! peer's READY: libzmq ends a connection on which one comes earlier.
//!
//! It does not read or write (that is [`Connection`](super::Connection)), bound what is queued for sending, reconnect,
//! or keep subscriptions.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::outbox::Outbox;
use super::{Command, CommandError, Frame, FrameError, Framer, Greeting, GreetingError, Limits, Mechanism};
use super::{Multipart, Properties, SocketType};
use crate::Timestamp;
use crate::machine::Machine;

/// What a session is told when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Our kind of socket.
    pub socket_type: SocketType,
    /// Our identity, at most [`SessionConfig::IDENTITY_MAX`] bytes; empty for none.
    pub identity: Bytes,
    /// How much the peer may make us hold.
    pub limits: Limits,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
}

impl SessionConfig {
    /// The longest identity (RFC 37).
    pub const IDENTITY_MAX: usize = 255;
    /// What libzmq gives a handshake by default.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

    /// A session with default limits.
    pub const fn new(socket_type: SocketType, identity: Bytes) -> Self {
        Self { socket_type, identity, limits: Limits::DEFAULT, handshake_timeout: Self::HANDSHAKE_TIMEOUT }
    }
}

/// What can happen to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// These bytes came from the peer.
    Received(Bytes),
    /// This message is to be sent; one without frames is sent as one empty frame. It leaves when the handshake is complete.
    Send(Multipart),
    /// The deadline may have come.
    Timeout,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes to the peer.
    Transmit(Bytes),
    /// The handshake is complete. Comes once, before all messages.
    Ready(PeerProperties),
    /// The peer sent a message.
    Message(Multipart),
    /// The connection is of no use any more: close it. Nothing follows.
    Failed(SessionError),
}

/// What the peer said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProperties {
    /// Its kind of socket; libzmq lets peers keep it to themselves, and so do we.
    pub socket_type: Option<SocketType>,
    /// Its identity; empty for none.
    pub identity: Bytes,
    /// The minor version of its ZMTP 3.
    pub minor: u8,
}

/// Why a session came to its end. The peer is at fault in all of them, or differs from us in what it wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer does not speak ZMTP 3.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// The peer wants another mechanism.
    #[error("the peer wants mechanism {theirs}, ours is NULL: secure both sides, or none")]
    Mechanism {
        /// What it wants.
        theirs: Mechanism,
    },
    /// The peer breaks the framing or a limit.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer sent a command that makes no sense.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The peer sent another command than READY.
    #[error("the peer sent the command {} where READY was due", name.escape_ascii())]
    Unexpected {
        /// The command's name.
        name: Bytes,
    },
    /// The peer is a socket of a kind that nobody knows.
    #[error("the peer is a socket of the unknown type {}", name.escape_ascii())]
    SocketType {
        /// What it calls itself.
        name: Bytes,
    },
    /// Sockets of these kinds do not talk to each other.
    #[error("the peer is a {theirs} socket, which can't talk to our {ours}")]
    Incompatible {
        /// Our kind.
        ours: SocketType,
        /// The peer's kind.
        theirs: SocketType,
    },
    /// The peer's identity is longer than [`SessionConfig::IDENTITY_MAX`].
    #[error("the peer has an identity of {len} bytes, at most {} are allowed", SessionConfig::IDENTITY_MAX)]
    Identity {
        /// Its length.
        len: usize,
    },
    /// The peer refused us.
    #[error("the peer refused the connection: {}", reason.escape_ascii())]
    Refused {
        /// What it says.
        reason: Bytes,
    },
    /// The peer did not complete the handshake in time.
    #[error("the peer did not complete the handshake in time")]
    Timeout,
}

/// One side of one connection. See [`Machine`] for how it is driven.
///
/// Received bytes are looked at only as outputs are taken, so one session never holds more than one received piece and one
/// message, whatever the piece contains. The outputs are the same however the stream is cut into pieces.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    unread: Bytes,
    framer: Framer,
    /// The frames of a message that is not complete yet.
    parts: Multipart,
    outbox: Outbox,
    /// Messages that wait for the end of the handshake.
    held: Outbox,
    /// The minor version of ZMTP 3 that the peer speaks, once it has said so.
    minor: u8,
    deadline: Timestamp,
    is_late: bool,
}

#[derive(Debug)]
enum Phase {
    /// The peer's greeting is not complete.
    Greeting(BytesMut),
    /// The peer's READY is due.
    Handshake {
        minor: u8,
    },
    Traffic,
    Failed,
}

/// What became of looking at the next received bytes.
enum Step {
    /// They are used up.
    Idle,
    /// Something moved on; look again.
    Moved,
    Emit(Output),
}

impl Session {
    /// A session on a connection that was opened or accepted at `now`.
    pub fn new(config: SessionConfig, now: Timestamp) -> Self {
        let mut ready = Properties::new();
        ready.push(Properties::SOCKET_TYPE, Bytes::from_static(config.socket_type.name().as_bytes()));
        if config.socket_type.has_identity() {
            ready.push(Properties::IDENTITY, config.identity.clone());
        }
        let mut outbox = Outbox::default();
        outbox.put(&Greeting::null(config.identity.len()).encode());
        outbox.put_frame(&Frame::Command(Command::Ready(ready).encode()));
        Self {
            phase: Phase::Greeting(BytesMut::new()),
            unread: Bytes::new(),
            framer: Framer::new(config.limits),
            parts: Multipart::new(),
            outbox,
            held: Outbox::default(),
            minor: 0,
            deadline: now.after(config.handshake_timeout),
            is_late: false,
            config,
        }
    }

    /// Queues a message, as [`Input::Send`] does. The time makes no difference to it.
    pub fn send(&mut self, message: Multipart) {
        let outbox = match self.phase {
            Phase::Greeting(_) | Phase::Handshake { .. } => &mut self.held,
            Phase::Traffic => &mut self.outbox,
            Phase::Failed => return,
        };
        if message.is_empty() {
            outbox.put_frame(&Frame::Part { body: Bytes::new(), more: false });
        }
        let last = message.len().wrapping_sub(1);
        for (index, body) in message.into_iter().enumerate() {
            outbox.put_frame(&Frame::Part { body, more: index < last });
        }
    }

    /// Asks the peer for a sign of life, when it is one that knows the question (ZMTP 3.1); libzmq answers at once.
    pub fn ping(&mut self) {
        if self.is_ready() && self.minor > 0 {
            let ping = Command::Ping { ttl: 0, context: Bytes::new() };
            self.outbox.put_frame(&Frame::Command(ping.encode()));
        }
    }

    /// The next bytes to transmit, as [`Machine::poll`] would answer, but without a look at what was received.
    pub fn transmit(&mut self) -> Option<Bytes> {
        self.outbox.take()
    }

    /// How many bytes wait to be transmitted, those included that wait for the end of the handshake.
    pub const fn pending_bytes(&self) -> usize {
        self.outbox.len() + self.held.len()
    }

    /// Whether the handshake is complete and nothing has failed.
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Traffic)
    }

    /// Whether the peer may close the connection here: after the handshake, with no message cut.
    pub const fn is_between_messages(&self) -> bool {
        self.is_ready() && self.unread.is_empty() && self.framer.is_between_messages()
    }

    fn step(&mut self) -> Result<Step, SessionError> {
        if let Phase::Greeting(greeting) = &mut self.phase {
            let piece = self.unread.split_to(self.unread.len().min(Greeting::LEN - greeting.len()));
            greeting.extend_from_slice(&piece);
            let Some(Greeting { minor, mechanism, .. }) = Greeting::decode(greeting)? else {
                return self.idle();
            };
            if mechanism != Mechanism::Null {
                return Err(SessionError::Mechanism { theirs: mechanism });
            }
            self.phase = Phase::Handshake { minor };
            return Ok(Step::Moved);
        }
        if matches!(self.phase, Phase::Failed) {
            return Ok(Step::Idle);
        }
        match self.framer.read(&mut self.unread)? {
            None => self.idle(),
            Some(Frame::Command(body)) => self.take_command(Command::decode(body)?),
            Some(Frame::Part { body, more }) => {
                self.parts.push(body);
                if more {
                    return Ok(Step::Moved);
                }
                Ok(Step::Emit(Output::Message(std::mem::take(&mut self.parts))))
            }
        }
    }

    /// What has come is used up. Bytes that came before the deadline still counted.
    const fn idle(&self) -> Result<Step, SessionError> {
        if self.is_late && !self.is_ready() { Err(SessionError::Timeout) } else { Ok(Step::Idle) }
    }

    fn take_command(&mut self, command: Command) -> Result<Step, SessionError> {
        match (command, &self.phase) {
            (Command::Error { reason }, _) => Err(SessionError::Refused { reason }),
            (Command::Ready(properties), Phase::Handshake { minor }) => {
                let peer = self.accept(&properties, *minor)?;
                self.minor = *minor;
                self.phase = Phase::Traffic;
                self.framer.take_messages();
                // The outbox is empty: outputs are taken from it before anything received is looked at.
                std::mem::swap(&mut self.outbox, &mut self.held);
                Ok(Step::Emit(Output::Ready(peer)))
            }
            (command, Phase::Handshake { .. }) => {
                Err(SessionError::Unexpected { name: Bytes::copy_from_slice(command.name()) })
            }
            // Whatever version the peer speaks: libzmq answers too.
            (Command::Ping { mut context, .. }, _) => {
                context.truncate(Command::CONTEXT_MAX);
                self.outbox.put_frame(&Frame::Command(Command::Pong { context }.encode()));
                Ok(Step::Moved)
            }
            // Any command is a sign of life, and we know of no other.
            (Command::Pong { .. } | Command::Ready(_) | Command::Other { .. }, _) => Ok(Step::Moved),
        }
    }

    fn accept(&self, properties: &Properties, minor: u8) -> Result<PeerProperties, SessionError> {
        let ours = self.config.socket_type;
        let mut socket_type = None;
        if let Some(name) = properties.find(Properties::SOCKET_TYPE) {
            let theirs = SocketType::from_name(name)
                .ok_or_else(|| SessionError::SocketType { name: Bytes::copy_from_slice(name) })?;
            if !ours.is_compatible(theirs) {
                return Err(SessionError::Incompatible { ours, theirs });
            }
            socket_type = Some(theirs);
        }
        let identity = properties.find(Properties::IDENTITY).map_or(&[][..], |identity| &identity[..]);
        if identity.len() > SessionConfig::IDENTITY_MAX {
            return Err(SessionError::Identity { len: identity.len() });
        }
        // Kept as long as the connection, so it should not keep what was received with it.
        Ok(PeerProperties { socket_type, identity: Bytes::copy_from_slice(identity), minor })
    }

    fn fail(&mut self, error: SessionError) -> Output {
        self.phase = Phase::Failed;
        self.unread.clear();
        self.parts.clear();
        (self.outbox, self.held) = Default::default();
        Output::Failed(error)
    }
}

impl Machine for Session {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        if matches!(self.phase, Phase::Failed) {
            return;
        }
        match input {
            Input::Received(bytes) if self.unread.is_empty() => self.unread = bytes,
            Input::Received(bytes) => self.unread = [&self.unread[..], &bytes].concat().into(),
            Input::Send(message) => self.send(message),
            Input::Timeout => self.is_late |= now >= self.deadline,
        }
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(bytes) = self.outbox.take() {
                return Some(Output::Transmit(bytes));
            }
            match self.step() {
                Ok(Step::Idle) => return None,
                Ok(Step::Moved) => {}
                Ok(Step::Emit(output)) => return Some(output),
                Err(error) => return Some(self.fail(error)),
            }
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Greeting(_) | Phase::Handshake { .. } => Some(self.deadline),
            Phase::Traffic | Phase::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests;
