//! Starts what a configuration asks for. The program does it on the real network, the simulator on its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_core::Stream;

use super::Config;
use crate::net::Net;
use crate::relay::{Host, HostError, Relay, RelayError};
use crate::{gossip, group, repeater, zre};

/// Running roles. Dropping one ends it without a farewell.
#[derive(Debug, Default)]
pub struct Roles {
    /// The ZRE node and what it tells, when the configuration has one.
    pub zre: Option<(zre::Node, zre::Events)>,
    /// The gossip hub and what it tells, when the configuration has one.
    pub gossip: Option<(gossip::Hub, gossip::Events)>,
    /// The repeater and what it tells, when the configuration has one.
    pub repeater: Option<(repeater::Repeater, repeater::Events)>,
    /// Memberships in LAN groups and what they tell, in the order of the configuration.
    pub groups: Vec<(group::Group, group::Events)>,
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
    /// Of the gossip hub.
    Gossip(gossip::Event),
    /// Of the repeater.
    Repeater(repeater::Event),
    /// Of the membership in this group.
    Group(group::GroupName, group::Event),
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
    /// The repeater.
    #[error(transparent)]
    Repeater(#[from] repeater::StartError),
    /// A membership in a group.
    #[error(transparent)]
    Group(#[from] group::JoinError),
    /// The reverse relay.
    #[error("the relay: {0}")]
    Relay(#[from] RelayError),
    /// The host of a reverse relay.
    #[error("the host: {0}")]
    Host(#[from] HostError),
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
    if let Some(repeater) = config.repeater {
        roles.repeater = Some(repeater::Repeater::start(net, repeater).await?);
    }
    roles.relay = config.relay.map(|relay| Relay::start(net, relay)).transpose()?;
    if let Some(zre) = config.zre {
        roles.zre = Some(zre::Node::start(net, zre).await?);
    }
    roles.host = match (config.host, &roles.zre) {
        (Some(host), Some((node, _))) => Some(Host::start_beside(net, host, node.inbox())?),
        (Some(host), None) => Some(Host::start(net, host)?),
        (None, _) => None,
    };
    for group in config.groups {
        roles.groups.push(group::Group::join(net, group).await?);
    }
    Ok(roles)
}

impl Roles {
    /// Whether every role has ended.
    pub fn is_empty(&self) -> bool {
        self.zre.is_none()
            && self.gossip.is_none()
            && self.repeater.is_none()
            && self.groups.is_empty()
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
                event = next_of(&mut self.gossip) => match event {
                    Some(event) => return Some(RoleEvent::Gossip(event)),
                    None => self.gossip = None,
                },
                event = next_of(&mut self.repeater) => match event {
                    Some(event) => return Some(RoleEvent::Repeater(event)),
                    None => self.repeater = None,
                },
                (place, event) = next_of_groups(&mut self.groups) => match event {
                    Some(event) => return Some(RoleEvent::Group(self.groups[place].0.name().clone(), event)),
                    None => drop(self.groups.remove(place)),
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
        if let Some((repeater, _)) = &self.repeater {
            repeater.stop().await;
        }
        for (group, _) in &self.groups {
            group.leave().await;
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
async fn next_of<R, E: Stream + Unpin>(role: &mut Option<(R, E)>) -> Option<E::Item> {
    match role {
        Some((_, events)) => poll_fn(|context| Pin::new(&mut *events).poll_next(context)).await,
        None => std::future::pending().await,
    }
}

/// The next event of any group, with the place of that; `None` at its end. Without groups it waits for ever.
async fn next_of_groups(groups: &mut [(group::Group, group::Events)]) -> (usize, Option<group::Event>) {
    poll_fn(|context| {
        for (place, (_, events)) in groups.iter_mut().enumerate() {
            if let Poll::Ready(event) = Pin::new(events).poll_next(context) {
                return Poll::Ready((place, event));
            }
        }
        Poll::Pending
    })
    .await
}
