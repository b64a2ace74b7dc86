//! Starts what a configuration asks for. The program does it on the real network, the simulator on its own.

use super::Config;
use crate::net::Net;
use crate::relay::{Host, Relay, RelayError, TlsError};
use crate::zre;

/// Running roles. Dropping one ends it without a farewell.
#[derive(Debug, Default)]
pub struct Roles {
    /// The ZRE node and what it tells, when the configuration has one.
    pub zre: Option<(zre::Node, zre::Events)>,
    /// The reverse relay, when the configuration has one.
    pub relay: Option<Relay>,
    /// The host of a reverse relay, when the configuration has one.
    pub host: Option<Host>,
}

/// What a role tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RoleEvent {
    /// Of the ZRE node.
    Zre(zre::Event),
}

/// Why a role did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The ZRE node.
    #[error(transparent)]
    Zre(#[from] zre::StartError),
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
pub async fn start<N: Net>(net: &N, config: Config) -> Result<Roles, StartError> {
    let mut roles = Roles {
        zre: None,
        relay: config.relay.map(|relay| Relay::start(net, relay)).transpose()?,
        host: config.host.map(|host| Host::start(net, host)).transpose()?,
    };
    if let Some(zre) = config.zre {
        roles.zre = Some(zre::Node::start(net, zre).await?);
    }
    Ok(roles)
}

impl Roles {
    /// Whether every role has ended.
    pub fn is_empty(&self) -> bool {
        self.zre.is_none()
            && self.relay.as_ref().is_none_or(Relay::is_ended)
            && self.host.as_ref().is_none_or(Host::is_ended)
    }

    /// The next event of any role; `None` when all have ended.
    pub async fn next(&mut self) -> Option<RoleEvent> {
        while !self.is_empty() {
            tokio::select! {
                biased;
                event = next_of(&mut self.zre) => match event {
                    Some(event) => return Some(RoleEvent::Zre(event)),
                    None => self.zre = None,
                },
            }
        }
        None
    }

    /// Asks every role to end. Their last events are still to be taken.
    pub async fn stop(&self) {
        if let Some((node, _)) = &self.zre {
            node.stop().await;
        }
        if let Some(relay) = &self.relay {
            relay.stop().await;
        }
        if let Some(host) = &self.host {
            host.stop().await;
        }
    }
}

/// The next event of a role, `None` at its end. A role that is not there never tells anything.
async fn next_of(role: &mut Option<(zre::Node, zre::Events)>) -> Option<zre::Event> {
    match role {
        Some((_, events)) => events.next().await,
        None => std::future::pending().await,
    }
}
