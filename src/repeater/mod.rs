//! A beacon repeater: carries ZRE's beacons between networks that broadcasts do not cross.
//!
//! It hears the beacons on its LANs, publishes them to the other repeaters (ZMTP PUB/SUB on port 2340, in the format of the
//! Alidron repeater), and tells on its LANs what they publish.
//!
//! * [`packet`]: the codec.
//! * [`machine`]: decides: what is carried, to whom, and what is not because it would loop.
//! * `driver`: moves datagrams, messages and connections between a network and the machine.
//! * `registry`: where other repeaters are found.
//! * [`Repeater`]: the handle a program holds.

mod config;
mod driver;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzed;
pub mod machine;
pub mod packet;
mod registry;

use std::io;
use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot};

pub use config::{Announce, Config, Consul, Filter, Place, Registry, Tls};
pub use machine::{Counters, Event};

use crate::net::Net;
pub use crate::tls::TlsError;

/// Events that wait for the program. Those for which there is no room are lost: they are for people, and the next ones say
/// how it is.
const EVENTS: usize = 1024;
const REQUESTS: usize = 16;

/// A running repeater. When the last handle is dropped, it ends.
#[derive(Clone, Debug)]
pub struct Repeater {
    requests: mpsc::Sender<Request>,
    lans: Vec<String>,
}

/// What a repeater tells its program. Those that nobody takes in time are lost.
pub type Events = crate::events::Events<Event>;

/// What a handle asks.
#[derive(Debug)]
pub(crate) enum Request {
    Counters(oneshot::Sender<Statistics>),
    Stop(oneshot::Sender<()>),
}

/// What a repeater has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// About beacons.
    pub beacons: Counters,
    /// Packets that a subscriber was too slow for, each subscriber counting.
    pub packets_dropped: u64,
    /// Connections between nodes here and nodes elsewhere that were carried, those that are open included.
    pub connections: u64,
    /// Those that are carried now, or about to be.
    pub connections_open: u64,
    /// Those that were refused because `connections_max` were open.
    pub connections_over_limit: u64,
    /// Those that were refused because who asked is no neighbour, or asked for a node that is not here.
    pub connections_refused: u64,
    /// Those that came to nothing because the node, or its repeater, was not reached.
    pub connections_failed: u64,
    /// Bytes that were carried in them to nodes here.
    pub connection_bytes_in: u64,
    /// Bytes that were carried in them to nodes elsewhere.
    pub connection_bytes_out: u64,
}

impl Statistics {
    /// Every number with its name, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let Self {
            beacons,
            packets_dropped,
            connections,
            connections_open,
            connections_over_limit,
            connections_refused,
            connections_failed,
            connection_bytes_in,
            connection_bytes_out,
        } = *self;
        let own = [
            ("packets_dropped", packets_dropped),
            ("connections", connections),
            ("connections_open", connections_open),
            ("connections_over_limit", connections_over_limit),
            ("connections_refused", connections_refused),
            ("connections_failed", connections_failed),
            ("connection_bytes_in", connection_bytes_in),
            ("connection_bytes_out", connection_bytes_out),
        ];
        beacons.iter().chain(own)
    }
}

/// Why a repeater did not start. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system does not list its interfaces.
    #[error("the network interfaces can't be listed")]
    Interfaces(#[source] io::Error),
    /// No interface is as wanted.
    #[error("{}; there are: {}", wanted.as_deref().map_or_else(
        || "no interface with an IPv4 address is up, except loopbacks and tunnels (name one to use it)".to_owned(),
        |wanted| format!("no IPv4 interface is up that has the name, index or address {wanted:?}"),
    ), if found.is_empty() { "none".to_owned() } else { found.join(", ") })]
    NoInterface {
        /// What the configuration names, if it names one.
        wanted: Option<String>,
        /// The interfaces that exist.
        found: Vec<String>,
    },
    /// The UDP port of beacons, or that of multicast between repeaters, can't be used.
    #[error("the repeater can't use UDP at {at}; another program may hold the port without sharing it")]
    Udp {
        /// Where.
        at: SocketAddr,
        /// What the network said.
        source: io::Error,
    },
    /// Consul can't be asked by TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Repeaters can't be listened for.
    #[error(
        "the repeater can't listen at TCP {at}; is another one running? `publish_port` chooses another port"
    )]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the network said.
        source: io::Error,
    },
}

impl Repeater {
    /// Starts a repeater on a network.
    ///
    /// # Errors
    /// When an interface is missing or a port can't be used.
    #[expect(clippy::unused_async, reason = "roles start alike")]
    pub async fn start<N: Net>(net: &N, config: Config) -> Result<(Self, Events), StartError> {
        let sockets = driver::bind(net, &config)?;
        let lans = sockets.describe();
        let (requests_tx, requests) = mpsc::channel(REQUESTS);
        let (events_tx, events) = mpsc::channel(EVENTS);
        let driver = driver::Driver::new(net.clone(), config, &sockets, requests, events_tx);
        net.spawn("repeater", driver.run(sockets)).detach();
        Ok((Self { requests: requests_tx, lans }, Events::new(events)))
    }

    /// The LANs that it serves, each with its interface and our address on it.
    pub fn lans(&self) -> &[String] {
        &self.lans
    }

    /// What it has done; all zero when it has ended.
    pub async fn statistics(&self) -> Statistics {
        let (answer, asked) = oneshot::channel();
        let _ = self.requests.send(Request::Counters(answer)).await;
        asked.await.unwrap_or_default()
    }

    /// Leaves the registries, and ends. Takes three seconds at most, when a registry does not answer.
    pub async fn stop(&self) {
        let (answer, asked) = oneshot::channel();
        let _ = self.requests.send(Request::Stop(answer)).await;
        let _ = asked.await;
    }
}
