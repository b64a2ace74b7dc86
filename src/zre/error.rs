//! What can be wrong with what a program asked of a node. Faults of peers are not here: they are events and counters.

use std::io;
use std::net::SocketAddr;

use super::PeerId;
use super::message::EncodeError;

/// Why a node did not start. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting can't be carried out.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system does not list its interfaces.
    #[error("the network interfaces can't be listed")]
    Interfaces(#[source] io::Error),
    /// No interface is as wanted.
    #[error("{}; there are: {}", no_interface(wanted.as_deref()), list(found))]
    NoInterface {
        /// What the configuration names, if it names one.
        wanted: Option<String>,
        /// The interfaces that exist, each with its address and what speaks against it.
        found: Vec<String>,
    },
    /// The UDP port of beacons can't be used.
    #[error("beacons can't use UDP at {at}; another program may hold the port without sharing it")]
    Beacon {
        /// Where.
        at: SocketAddr,
        /// What the network said.
        source: io::Error,
    },
    /// No TCP port can be listened on.
    #[error("no inbox at TCP {at}; choose another port, or 0 for any that is free")]
    Listen {
        /// The last place that was tried.
        at: SocketAddr,
        /// What the network said.
        source: io::Error,
    },
}

fn no_interface(wanted: Option<&str>) -> String {
    match wanted {
        Some(name) => format!("no interface is up that has the name, index or address {name:?}"),
        None => "no interface with a usable address is up, except loopbacks and tunnels (name one to use it)"
            .into(),
    }
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".into() } else { found.join(", ") }
}

/// Which setting can't be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Name, headers and groups do not fit into a HELLO.
    #[error("the node can't introduce itself: {0}")]
    Introduction(EncodeError),
    /// The beacon interval is zero.
    #[error("the beacon interval is zero; give at least a millisecond")]
    Interval,
    /// The times of silence are not in order.
    #[error(
        "the times for quiet peers are not in order: evasive must be above zero, silent at least evasive, expired at least silent"
    )]
    Patience,
}

/// Why a node did not do what it was asked. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
    /// There is no such peer, or it did not enter yet, or it exited.
    #[error("there is no peer {0}")]
    UnknownPeer(PeerId),
    /// It does not fit into a message, or the group does not fit into a HELLO any more.
    #[error(transparent)]
    Message(#[from] EncodeError),
}
