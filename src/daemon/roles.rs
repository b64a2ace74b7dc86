//! Starts what a configuration asks for. The program does it on the real network, the simulator on its own.

use super::Config;
use crate::net::Net;
use crate::{gossip, zre};

/// Running roles. Dropping one ends it without a farewell.
#[derive(Debug, Default)]
pub struct Roles {
    /// The ZRE node and what it tells, when the configuration has one.
    pub zre: Option<(zre::Node, zre::Events)>,
    /// The gossip hub and what it tells, when the configuration has one.
    pub gossip: Option<(gossip::Hub, gossip::Events)>,
}

/// What a role tells.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RoleEvent {
    /// Of the ZRE node.
    Zre(zre::Event),
    /// Of the gossip hub.
    Gossip(gossip::Event),
}

/// Why a role did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The ZRE node.
    #[error(transparent)]
    Zre(#[from] zre::StartError),
    /// The gossip hub.
    #[error(transparent)]
    Gossip(#[from] gossip::StartError),
}

/// Starts every role of the configuration.
///
/// # Errors
/// When one can't start; those that had started are stopped again.
pub async fn start<N: Net>(net: &N, config: Config) -> Result<Roles, StartError> {
    let mut roles = Roles::default();
    if let Some(gossip) = config.gossip {
        roles.gossip = Some(gossip::Hub::start(net, gossip)?);
    }
    if let Some(zre) = config.zre {
        roles.zre = Some(zre::Node::start(net, zre).await?);
    }
    Ok(roles)
}

impl Roles {
    /// Whether every role has ended.
    pub fn is_empty(&self) -> bool {
        self.zre.is_none() && self.gossip.is_none()
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
                event = next_of_hub(&mut self.gossip) => match event {
                    Some(event) => return Some(RoleEvent::Gossip(event)),
                    None => self.gossip = None,
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
        if let Some((hub, _)) = &self.gossip {
            hub.stop().await;
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

/// The next event of a hub, likewise.
async fn next_of_hub(role: &mut Option<(gossip::Hub, gossip::Events)>) -> Option<gossip::Event> {
    match role {
        Some((_, events)) => events.next().await,
        None => std::future::pending().await,
    }
}
