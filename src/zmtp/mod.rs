//! ZMTP 3.0 and 3.1 (RFC 23 and 37): the ZeroMQ transport as far as ZRE needs it.
//!
//! * [`Greeting`], [`Frame`] and [`Framer`], [`Command`]: the codecs.
//! * [`Session`]: decides: one side of one connection, from the greeting to the last message.
//! * [`Chase`]: decides: when to ask behind a message whose loss has to be noticed soon.
//! * [`Connection`]: moves bytes between a stream and a session.
//! * [`Subscription`] and [`Subscriptions`]: what PUB and SUB sockets say to each other and keep of it.
//!
//! The mechanism is NULL. CURVE would be another kind of session behind the same greeting and frames. What sockets do
//! with messages (routing, queues, reconnecting) is the business of whoever uses a connection.

use bytes::Bytes;

mod chase;
mod command;
mod driver;
mod frame;
mod greeting;
mod outbox;
mod session;
mod subscription;

pub use chase::Chase;
pub use command::{Command, CommandError, Properties};
pub use driver::{Connection, ConnectionError};
pub use frame::{Frame, FrameError, Framer, Limits};
pub use greeting::{Greeting, GreetingError, Mechanism};
pub use session::{Input, Output, PeerProperties, Session, SessionConfig, SessionError};
pub use subscription::{Subscription, Subscriptions};

/// A message: its frames, at least one.
pub type Multipart = Vec<Bytes>;

/// The kind of a ZeroMQ socket, which decides whom it may talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are names, and RFC 28, 29 and 30 say what they mean")]
pub enum SocketType {
    Req,
    Rep,
    Dealer,
    Router,
    Pub,
    XPub,
    Sub,
    XSub,
    Push,
    Pull,
    Pair,
}

impl SocketType {
    const ALL: [Self; 11] = [
        Self::Req,
        Self::Rep,
        Self::Dealer,
        Self::Router,
        Self::Pub,
        Self::XPub,
        Self::Sub,
        Self::XSub,
        Self::Push,
        Self::Pull,
        Self::Pair,
    ];

    /// The name in the READY command.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Req => "REQ",
            Self::Rep => "REP",
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
            Self::Pub => "PUB",
            Self::XPub => "XPUB",
            Self::Sub => "SUB",
            Self::XSub => "XSUB",
            Self::Push => "PUSH",
            Self::Pull => "PULL",
            Self::Pair => "PAIR",
        }
    }

    /// The type with this name, in capitals as libzmq wants it.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// Whether the two may talk to each other (RFC 37, "Socket Type Property").
    pub const fn is_compatible(self, other: Self) -> bool {
        use SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub, XSub};
        matches!(
            (self, other),
            (Req, Rep | Router)
                | (Rep, Req | Dealer)
                | (Dealer, Rep | Dealer | Router)
                | (Router, Req | Dealer | Router)
                | (Pub | XPub, Sub | XSub)
                | (Sub | XSub, Pub | XPub)
                | (Push, Pull)
                | (Pull, Push)
                | (Pair, Pair)
        )
    }

    /// Whether sockets of this type tell their identity, as libzmq has it.
    pub const fn has_identity(self) -> bool {
        matches!(self, Self::Req | Self::Dealer | Self::Router)
    }
}

impl std::fmt::Display for SocketType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_socket_types_are_read_and_written_alike() {
        for kind in SocketType::ALL {
            assert_eq!(SocketType::from_name(kind.name().as_bytes()), Some(kind));
        }
        for unknown in [&b"dealer"[..], b"", b"STREAM", b"DEALER\0"] {
            assert_eq!(SocketType::from_name(unknown), None);
        }
    }

    #[test]
    fn sockets_talk_to_the_types_that_the_rfc_allows_and_to_no_others() {
        use SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub, XSub};
        let legal = [
            (Req, Rep),
            (Req, Router),
            (Dealer, Rep),
            (Dealer, Dealer),
            (Dealer, Router),
            (Router, Router),
            (Pub, Sub),
            (Pub, XSub),
            (XPub, Sub),
            (XPub, XSub),
            (Push, Pull),
            (Pair, Pair),
        ];
        for one in SocketType::ALL {
            for other in SocketType::ALL {
                let is_legal = legal.contains(&(one, other)) || legal.contains(&(other, one));
                assert_eq!(one.is_compatible(other), is_legal, "{one} and {other}");
            }
        }
    }
}
