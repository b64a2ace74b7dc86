//! Moves bytes between a network and the machines of a hub and of a client.
//!
//! * `link`: one connection.
//! * `hub`, `client`: the tasks that own the machines, and the handles on them.

use std::io;
use std::net::SocketAddr;

mod client;
mod hub;
mod link;

pub use client::{Client, ClientConfig, HeardEvents};
pub use hub::{Events, Hub};

/// Why a hub did not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "gossip can't listen at TCP {at}; another program may have the port: choose another one, or 0 for any"
)]
pub struct StartError {
    /// Where.
    pub at: SocketAddr,
    /// What the network said.
    pub source: io::Error,
}
