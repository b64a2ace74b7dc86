//! A ZRE node (RFC 36): peers find each other by beacon and talk over ZMTP.
//!
//! * [`beacon`], [`message`]: the codecs.
//! * [`machine`]: decides: who is a peer, what to send, what to tell the application. `peer`, `group`, `liveness`,
//!   `sequence` and `limits` are its parts.
//! * `rumour`: what a node has to do with gossip.
//! * `driver`: moves datagrams and bytes between a network and the machine.
//! * [`Node`]: the handle a program holds.

pub mod beacon;
mod config;
mod content;
mod counters;
mod driver;
mod endpoint;
mod error;
mod event;
mod group;
mod interface;
mod limits;
mod liveness;
pub mod machine;
pub mod message;
mod node;
mod peer;
mod peers;
mod roster;
mod rumour;
mod sequence;
mod text;

pub use config::{Broadcast, Config, Multicast};
pub use content::Content;
pub use counters::Counters;
pub(crate) use driver::connect;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{CommandError, ConfigError, StartError};
pub use event::{Event, ExitReason, Headers, PeerId};
pub(crate) use limits::Budget;
pub use limits::Limits;
pub use node::{Events, Node, NodeBuilder};
pub use peer::PeerInfo;
pub use text::Text;
