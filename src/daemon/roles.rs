//! Starts what a configuration asks for. The program does it on the real network, the simulator on its own.

use super::Config;
use crate::net::Net;
use crate::zre::{Events, Node, StartError};

/// Running roles.
#[derive(Debug)]
pub struct Roles {
    /// The ZRE node and what it tells, when the configuration has one.
    pub zre: Option<(Node, Events)>,
}

/// Starts every role of the configuration.
///
/// # Errors
/// When one can't start; those that had started are stopped again.
pub async fn start<N: Net>(net: &N, config: Config) -> Result<Roles, StartError> {
    let zre = match config.zre {
        Some(zre) => Some(Node::start(net, zre).await?),
        None => None,
    };
    Ok(Roles { zre })
}
