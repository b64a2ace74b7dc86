//! The reverse relay: makes a service reachable that runs where nobody can connect to, behind a NAT say.
//!
//! A *host* beside the service opens connections to a *relay* that everybody can reach; *clients* connect to the relay, and
//! their bytes travel to the service on the host's connections.
//!
//! * [`compatible`]: codec of the original RelayServer's messages. [`message`], `frame`: codecs of the modern protocol,
//!   which has named services, proofs of a token ([`proof`]), TLS, and data connections that are used again and again.
//! * [`machine`]: decides for a relay. [`host::machine`]: decides for a host.
//! * `driver`: runs a [`Relay`]. [`host`]: runs a [`Host`], for a local port or for a program's own [`Handler`].
//! * `pump`: moves the bytes of one session, `datagrams` those of a UDP service's, whose clients are `callers`. `buffer`: where they
//!   wait. `throttle`: how fast.
//!
//! Both protocols share the port for hosts: the first byte tells them apart.

mod backoff;
mod buffer;
mod callers;
pub mod compatible;
pub mod config;
mod counters;
mod datagrams;
mod driver;
mod frame;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzed;
pub mod host;
mod leg;
pub mod machine;
pub mod message;
pub mod proof;
mod proxy;
mod pump;
#[cfg(test)]
mod tests;
mod throttle;
mod tls;

pub use crate::tls::TlsError;
pub use config::{Config, HostConfig, Protocol};
pub use counters::{Counter, Counters};
pub use driver::{Relay, RelayError};
pub use host::{Handler, Host, HostError, LocalStream, Serve, Status, Visitor};
pub use proxy::ProxyVersion;
