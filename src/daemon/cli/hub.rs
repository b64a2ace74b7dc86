//! The options of `hailer gossip`.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use crate::daemon::Config;
use crate::daemon::reader::parse_duration;
use crate::gossip;
use crate::zre::Endpoint;

/// What `hailer gossip --help` ends with.
pub(super) const HELP: &str = "\
Nodes of Hailer come with --gossip tcp://HOST:PORT, zyre with zyre_gossip_connect, the Haskell tools with -g HOST:PORT;
all of them find each other here.

Two hubs that hear of each other with --peer tell each other everything; it is enough when one names the other.";

#[derive(Debug, Args)]
pub(super) struct HubOptions {
    /// Address to listen on; :: means IPv6 alone
    #[arg(long, short, value_name = "ADDRESS", default_value = "0.0.0.0")]
    address: IpAddr,
    /// TCP port to listen on, 0 for any
    #[arg(long, short, value_name = "PORT", default_value_t = gossip::Config::PORT)]
    port: u16,
    /// Another hub to share everything with, as tcp://HOST:PORT; may be given several times
    #[arg(long, short = 'P', value_name = "ENDPOINT")]
    peer: Vec<Endpoint>,
    /// How long a node is told of after its connection has gone, with its unit
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_ttl)]
    ttl: Duration,
    /// Print one JSON object an event
    #[arg(long)]
    pub(super) json: bool,
}

impl HubOptions {
    pub(super) fn config(&self) -> Config {
        let Self { address, port, peer, ttl, .. } = self;
        let gossip = gossip::Config { address: *address, port: *port, peers: peer.clone(), ttl: *ttl };
        Config { gossip: Some(gossip), ..Config::default() }
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).map_err(|problem| problem.to_string())?;
    let range = gossip::Config::TTL_MIN..=gossip::Config::TTL_MAX;
    if range.contains(&ttl) { Ok(ttl) } else { Err("from 1 s to 1 h".to_owned()) }
}
