//! Where we are: our own addresses, which may be several and may change while we run.
//!
//! All of them have one TCP port. Each peer is told the address that is on its own network, so that it can reach what it is
//! told, wherever it is; one that is on none of them is told the first of its family.
//!
//! When an address goes, every connection over it is dead, and neither side would notice for long. So the peers that were
//! told it get a fresh link and HELLO at once, with what there is now; for them that is an EXIT and an ENTER. When nothing
//! is left, we wait: the same address may come back.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::NodeMachine;
use crate::Timestamp;
use crate::zre::message::EncodeError;
use crate::zre::{Endpoint, PeerId};

/// One of our own addresses, and the network that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The address that peers of this network reach us at.
    pub address: IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// The interface's number if the address is a link-local one of IPv6, which means nothing without it; 0 otherwise.
    pub scope: u32,
}

impl Home {
    /// Whether somebody at this address is on the same network.
    pub fn is_near(&self, other: SocketAddr) -> bool {
        let differing = match (self.address, other.ip()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let is_other_link = matches!(other, SocketAddr::V6(v6) if v6.scope_id() != self.scope);
                if self.scope != 0 && is_other_link {
                    return false;
                }
                (own.to_bits() ^ ip.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        differing >= u32::from(self.prefix)
    }

    fn endpoint(&self, port: u16) -> Endpoint {
        Endpoint { host: self.address.to_string(), port }
    }
}

impl NodeMachine {
    pub(super) fn on_homes(&mut self, now: Timestamp, homes: Vec<Home>) {
        if homes.is_empty() || homes == self.homes {
            return;
        }
        let is_gone =
            |home: &Home| !homes.iter().any(|now| now.address == home.address && now.scope == home.scope);
        let moved: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| self.homes.get(self.home_of(peer.endpoint())).is_some_and(is_gone))
            .map(|(id, _)| *id)
            .collect();
        // Before the first there was an endpoint and no more.
        let is_first = self.homes.is_empty();
        if !is_first || homes.len() > 1 {
            self.inbox = homes[0].endpoint(self.inbox.port);
            if !self.is_advertised {
                self.endpoint = self.inbox.clone();
            }
        }
        self.homes = homes;
        match self.introductions() {
            Ok(hellos) => self.hellos = hellos,
            // Every address fits as well as the first one did, but for some bytes.
            Err(_) => self.homes.clear(),
        }
        for id in moved {
            self.renew_link(now, id);
        }
    }

    /// Which of our homes is near this place; when none is, the first of its family, or else the first.
    pub(super) fn home_of(&self, place: &Endpoint) -> usize {
        let Some(place) = place.socket_addr() else { return 0 };
        let is_of_family = |home: &Home| home.address.is_ipv4() == place.is_ipv4() && home.scope == 0;
        let near = self.homes.iter().position(|home| home.is_near(place));
        near.or_else(|| self.homes.iter().position(is_of_family)).unwrap_or(0)
    }

    /// Our HELLO for whoever is at this place.
    pub(super) fn hello_for(&self, place: &Endpoint) -> Vec<Bytes> {
        self.hellos.get(self.home_of(place)).unwrap_or(&self.hellos[0]).clone()
    }

    /// Where whoever is at this place is told to reach us.
    pub fn place_for(&self, other: &Endpoint) -> Endpoint {
        match self.homes.as_slice() {
            homes @ [_, _, ..] if !self.is_advertised => homes[self.home_of(other)].endpoint(self.inbox.port),
            _ => self.endpoint.clone(),
        }
    }

    /// Whether whoever dials this endpoint reaches us.
    pub(super) fn is_own(&self, place: &Endpoint) -> bool {
        *place == self.endpoint
            || *place == self.inbox
            || place.port == self.inbox.port
                && place
                    .socket_addr()
                    .is_some_and(|place| self.homes.iter().any(|home| home.address == place.ip()))
    }

    /// Our HELLO for the peers of each home.
    pub(super) fn introductions(&self) -> Result<Vec<Vec<Bytes>>, EncodeError> {
        let endpoints: Vec<Endpoint> = match self.homes.as_slice() {
            [] | [_] => vec![self.endpoint.clone()],
            _ if self.is_advertised => vec![self.endpoint.clone()],
            homes => homes.iter().map(|home| home.endpoint(self.inbox.port)).collect(),
        };
        endpoints.iter().map(|endpoint| self.introduction(endpoint).encode()).collect()
    }
}
