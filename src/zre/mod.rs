//! A ZRE node (RFC 36): peers find each other by beacon and talk over ZMTP.
//!
//! * [`beacon`], [`message`]: the codecs.
//! * `machine`: decides: who is a peer, what to send, what to tell the application. `peer` and `group` are its parts.
//! * `driver`: moves datagrams and bytes between a network and the machine.
//! * [`Node`]: the handle a program holds.

pub mod beacon;
mod config;
mod endpoint;
mod event;
pub mod message;
mod text;

pub use config::Config;
pub use endpoint::{Endpoint, EndpointError};
pub use event::{Event, ExitReason, Headers, PeerId};
pub use text::Text;
