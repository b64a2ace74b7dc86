//! What can go wrong when a group is joined. What members do wrong is no error: it is ignored, or it is their health.

use std::io;
use std::net::SocketAddr;

/// A group could not be joined. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The system would not tell its interfaces.
    #[error("can't list the network interfaces")]
    Interfaces(#[source] io::Error),
    /// There is no interface to use.
    #[error("no network interface to use for the group; there are {found:?}")]
    NoInterface {
        /// The names of those that there are.
        found: Vec<String>,
    },
    /// A UDP socket could not be bound.
    #[error("can't use UDP at {at} for the group; another program may have it for itself")]
    Bind {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address that answers health checks could not be bound.
    #[error("can't answer health checks at TCP {at}; choose another `health_port`")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The membership has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the membership in the group has ended")]
pub struct Ended;
