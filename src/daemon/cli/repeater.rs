//! The verb `repeater`: a repeater from the command line, started as the original is.

use std::env;
use std::net::IpAddr;

use clap::Args;

use crate::daemon::Config;
use crate::repeater::{self, Announce, Consul, Place, Registry};

pub(super) const HELP: &str = "\
Examples:
  hailer repeater --repeater 10.2.0.9          and the other way round there
  hailer repeater --dns tasks.repeater         the tasks of a Docker service
  hailer repeater 10.0.0.5                     as the original: Consul's keys below docker/nodes
  hailer repeater --repeater 10.2.0.9 --announce stand-in
                                               among zyre, pyre and other stock nodes

Environment: DONT_IP has addresses of repeaters that are never connected to, with spaces between them.
A configuration file can say more: [repeater] in `hailer run --config FILE`.";

/// The options of the verb.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Host of a Consul whose keys below docker/nodes are the addresses of the repeaters, as for the original
    #[arg(value_name = "CONSUL", value_parser = |text: &str| parse_place(text, Consul::PORT))]
    consul: Option<Place>,
    /// Another repeater, HOST or HOST:PORT; may be given several times
    #[arg(long, short, value_name = "HOST",
          value_parser = |text: &str| parse_place(text, repeater::Config::PUBLISH_PORT))]
    repeater: Vec<Place>,
    /// A name that has an address for each repeater
    #[arg(long, value_name = "NAME",
          value_parser = |text: &str| parse_place(text, repeater::Config::PUBLISH_PORT))]
    dns: Option<Place>,
    /// Interface whose LAN is served: name, index or address; may be given several times [default: the first that can
    /// broadcast]
    #[arg(long, short, value_name = "INTERFACE")]
    interface: Vec<String>,
    /// UDP port of the beacons
    #[arg(long, short, value_name = "PORT", default_value_t = crate::zre::Config::PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// TCP port at which other repeaters listen to this one
    #[arg(long, value_name = "PORT", default_value_t = repeater::Config::PUBLISH_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    publish_port: u16,
    /// Tell this as the address of the nodes here, where they are behind a NAT
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<IpAddr>,
    /// What to tell of nodes elsewhere: their address, as the original does (stock pyre ends of it!), or a port of this
    /// machine that leads to them
    #[arg(long, value_name = "HOW", value_parser = ["origin", "stand-in"])]
    announce: Option<String>,
    /// Carry the connections too, through the other repeaters, where the networks have no route to each other
    #[arg(long)]
    relay: bool,
    /// Print one JSON object an event
    #[arg(long)]
    pub(super) json: bool,
}

fn parse_place(text: &str, port: u16) -> Result<Place, String> {
    Place::parse(text, port).ok_or_else(|| "write HOST or HOST:PORT".to_owned())
}

impl Options {
    /// The same configuration that a file would give.
    ///
    /// # Errors
    /// When `DONT_IP` has something else than addresses.
    pub(super) fn config(&self) -> Result<Config, String> {
        self.config_with(&env::var("DONT_IP").unwrap_or_default())
    }

    fn config_with(&self, dont_ip: &str) -> Result<Config, String> {
        let dont_ip = dont_ip.split_whitespace().map(|word| {
            word.parse()
                .map_err(|_| format!("DONT_IP has {word:?}: write addresses with spaces between them"))
        });
        let listed = Some(Registry::Static(self.repeater.clone())).filter(|_| !self.repeater.is_empty());
        let dns =
            self.dns.clone().map(|name| Registry::Dns { name, interval: std::time::Duration::from_secs(5) });
        let consul = self.consul.clone().map(|server| {
            Registry::Consul(Consul {
                server,
                tls: None,
                token: None,
                datacenter: None,
                service: None,
                address: None,
                ttl: Consul::TTL,
                keys: Some(Consul::KEYS.to_owned()),
            })
        });
        let announce = match self.announce.as_deref() {
            Some("stand-in") => Announce::StandIn,
            None if self.relay => Announce::StandIn,
            _ => Announce::Origin,
        };
        let repeater = repeater::Config {
            interfaces: self.interface.clone(),
            port: self.port,
            publish_port: self.publish_port,
            advertise: self.advertise,
            announce,
            relay: self.relay,
            dont_ip: dont_ip.collect::<Result<_, _>>()?,
            registries: [listed, dns, consul].into_iter().flatten().collect(),
            ..repeater::Config::default()
        };
        Ok(Config { repeater: Some(repeater), ..Config::default() })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        Line::try_parse_from(std::iter::once(&"repeater").chain(line))
            .unwrap_or_else(|e| panic!("{e}"))
            .options
    }

    #[test]
    fn options_become_the_same_configuration_as_a_file() {
        let given = options(&[
            "10.0.0.5", "-r", "10.2.0.9", "-r", "b:7", "--dns", "tasks.r", "-i", "eth1", "--relay",
        ]);
        let file = "[repeater]\ninterfaces = [\"eth1\"]\nrelay = true\nrepeaters = [\"10.2.0.9\", \"b:7\"]\n\
            dont_ip = [\"10.0.0.1\", \"10.0.0.2\"]\ndns = { name = \"tasks.r\" }\n\
            consul = { server = \"10.0.0.5\", catalogue = false, keys = \"docker/nodes\" }\n";
        assert_eq!(given.config_with(" 10.0.0.1 10.0.0.2\n"), Ok(Config::parse("f", file).unwrap()));
        assert_eq!(options(&[]).config_with(""), Ok(Config::parse("f", "[repeater]").unwrap()));
        assert!(options(&[]).config_with("localhost").unwrap_err().contains("DONT_IP"));
    }
}
