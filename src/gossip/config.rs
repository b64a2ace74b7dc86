//! Settings of a hub.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::zre::Endpoint;

/// How a hub behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on; the unspecified one for all interfaces, but for one family: two hubs that name each other serve both.
    pub address: IpAddr,
    /// TCP port to listen on; 0 takes any that is free.
    pub port: u16,
    /// Other hubs to tell everything to and to hear everything from. It is enough when one of two hubs names the other.
    /// They may be czmq's or the Haskell one, too.
    pub peers: Vec<Endpoint>,
    /// How long a tuple outlives the connection of whoever published it.
    pub ttl: Duration,
}

impl Config {
    /// The port of the Haskell gossip server; zyre has none of its own.
    pub const PORT: u16 = 31337;
    /// The shortest lifetime. A connection that breaks must have the time to come back.
    pub const TTL_MIN: Duration = Duration::from_secs(1);
    /// The longest lifetime. A tuple that is kept longer tells of nobody who is there.
    pub const TTL_MAX: Duration = Duration::from_secs(3600);
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: Self::PORT,
            peers: Vec::new(),
            ttl: Duration::from_secs(30),
        }
    }
}
