//! Peer discovery and messaging for the networks where discovery is hard.
//!
//! A map, in reading order; start with [`Node`].
//!
//! * [`zre`]: the ZRE node (RFC 36): beacons, peers, groups, whisper and shout. zyre and pyre can talk to it.
//! * [`gossip`]: hubs and their clients, for discovery where beacons do not reach. czmq's and the Haskell tools' meet here.
//! * [`repeater`]: carries beacons between networks that drop broadcasts.
//! * [`relay`]: reaches services behind NAT; both sides dial in.
//! * [`zmtp`]: the ZeroMQ transport that ZRE speaks on TCP.
//! * [`group`]: LAN groups with health checks. pir can take part.
//! * [`net`]: the network as the node sees it. [`net::OsNet`] is the real one; the simulator brings its own.
//! * [`tls`]: the files and errors of TLS, where [`relay`] and [`repeater`] use it.
//! * [`daemon`]: the configuration that starts roles, shared by the program and by the simulator's scenarios.
//! * [`machine`]: the contract that every decision-making part keeps: no IO, no clock, no randomness of its own.
//!
//! Each protocol folder holds the same three kinds of file. A *codec* turns bytes into values and back. A *machine*
//! decides; it is driven by hand in tests. A *driver* is async and moves bytes between a [`net::Net`] and a machine.
//!
//! ```no_run
//! use hailer::Node;
//! use hailer::net::OsNet;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (node, mut events) = Node::builder().name("alice").header("X-ROLE", "demo").start(&OsNet::new()).await?;
//! node.join("CHAT").await?;
//! let members = node.shout("CHAT", "hello, whoever is there").await?;
//! println!("{} said hello to {members} peers", node.id());
//! while let Some(event) = events.next().await {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod codec;
mod counters;
pub mod daemon;
pub mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gossip;
pub mod group;
pub mod machine;
pub mod net;
mod outlet;
pub mod relay;
pub mod repeater;
pub mod tls;
pub mod zmtp;
pub mod zre;

pub use machine::Timestamp;
pub use zre::{Config, Content, Event, Events, ExitReason, Node, PeerId, PeerInfo};
