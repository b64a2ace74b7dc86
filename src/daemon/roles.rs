//! Starts what a configuration asks for. The program does it on the real network, the simulator on its own.

use super::Config;
use crate::net::Net;
use crate::relay::{Host, Relay, RelayError, TlsError};
use crate::zre::{Events, Node, StartError};

/// Running roles.
#[derive(Debug)]
pub struct Roles {
    /// The ZRE node and what it tells, when the configuration has one.
    pub zre: Option<(Node, Events)>,
    /// The reverse relay, when the configuration has one.
    pub relay: Option<Relay>,
    /// The host of a reverse relay, when the configuration has one.
    pub host: Option<Host>,
}

/// Why a role can't start.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The ZRE node.
    #[error(transparent)]
    Zre(#[from] StartError),
    /// The reverse relay.
    #[error("the relay: {0}")]
    Relay(#[from] RelayError),
    /// The host of a reverse relay.
    #[error("the host: {0}")]
    Host(#[from] TlsError),
}

/// Starts every role of the configuration.
///
/// # Errors
/// When one can't start; those that had started are stopped again.
pub async fn start<N: Net>(net: &N, config: Config) -> Result<Roles, RoleError> {
    let relay = config.relay.map(|relay| Relay::start(net, relay)).transpose()?;
    let host = config.host.map(|host| Host::start(net, host)).transpose()?;
    let zre = match config.zre {
        Some(zre) => Some(Node::start(net, zre).await?),
        None => None,
    };
    Ok(Roles { zre, relay, host })
}
