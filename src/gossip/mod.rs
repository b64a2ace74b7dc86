//! Gossip discovery: nodes tell a hub where they are, and the hub tells the others. For networks that carry no beacons.
//!
//! The messages are those of czmq's `zgossip`, which zyre uses, and of the Haskell tools, which can't talk to each other:
//! they differ in keys, lifetimes and frames. A hub of Hailer serves both and joins them.
//!
//! * [`message`], [`dialect`]: the codecs.
//! * [`hub`]: decides for a hub; `store` has its tuples, `uplink` its connections to other hubs.
//! * [`client`]: decides for a client of several hubs.
//! * `driver`: moves bytes between a network and the two machines.
//! * [`Hub`], [`Client`]: the handles a program holds.

use std::fmt;
use std::net::SocketAddr;

use crate::zre::{Endpoint, Text};

pub mod client;
mod config;
pub mod dialect;
mod driver;
pub mod hub;
mod limits;
pub mod message;
mod store;
mod uplink;

pub use client::Heard;
pub use config::Config;
pub use dialect::{Dialect, Key};
pub use driver::{Client, ClientConfig, Events, HeardEvents, Hub, StartError};
pub use limits::{Counters, Limits};

/// A connection of a hub or a client. Its number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

impl LinkId {
    /// The connection with this number.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a hub tells whoever runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// There is a new tuple, or one with a new value.
    Published {
        /// Its name.
        key: Key,
        /// What it says.
        value: Text,
        /// Which client said so, if it was one: where it is, and how it speaks.
        from: Option<(SocketAddr, Dialect)>,
    },
    /// A tuple has gone.
    Gone {
        /// Its name.
        key: Key,
        /// What it said.
        value: Text,
        /// Why.
        why: Why,
    },
    /// A client, or another hub, connected.
    Connected {
        /// Where it is.
        from: SocketAddr,
        /// How it speaks.
        dialect: Dialect,
    },
    /// Its connection closed.
    Disconnected {
        /// Where it was.
        from: SocketAddr,
        /// How it spoke.
        dialect: Dialect,
    },
    /// Another hub that this one was told of is connected.
    HubFound {
        /// Where it is.
        endpoint: Endpoint,
        /// How it speaks.
        dialect: Dialect,
    },
    /// The connection to it broke. It is tried again.
    HubLost {
        /// Where it is.
        endpoint: Endpoint,
    },
}

/// Why a tuple has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody who could know said it any more.
    Expired,
    /// Who published it withdrew it.
    Withdrawn,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        })
    }
}
