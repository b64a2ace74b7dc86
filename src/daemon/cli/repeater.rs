//! The verb `repeater`: a repeater from the command line, started as the original is.

use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::run::Shown;
use crate::daemon::Config;
use crate::repeater::{self, Announce, Consul, Place, Registry, Tls};

pub(super) const HELP: &str = "\
Examples:
  hailer repeater --repeater 10.2.0.9          and the other way round there
  hailer repeater --dns tasks.repeater         the tasks of a Docker service
  hailer repeater --consul 10.0.0.5            register with Consul, and find the others there
  hailer repeater --consul https://consul.example --consul-ca ca.pem
  hailer repeater 10.0.0.5                     as the original: Consul's keys below docker/nodes
  hailer repeater --repeater 10.2.0.9 --announce stand-in
                                               among zyre, pyre and other stock nodes

Environment: DONT_IP has addresses of repeaters that are never connected to, with spaces between them.
A configuration file can say more: [repeater] in `hailer run --config FILE`.";

/// The options of the verb.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Host of a Consul whose keys below docker/nodes are the addresses of the repeaters, as for the original; written as
    /// for --consul
    #[arg(value_name = "CONSUL", value_parser = parse_server)]
    keys_of: Option<Server>,
    /// A Consul to register with and to find the others by: HOST, HOST:PORT, http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "CONSUL", value_parser = parse_server)]
    consul: Option<Server>,
    /// The authority that signed the certificate of a Consul with https://, in PEM
    #[arg(long, value_name = "FILE")]
    consul_ca: Option<PathBuf>,
    /// A file with the token of Consul's access control
    #[arg(long, value_name = "FILE")]
    consul_token_file: Option<PathBuf>,
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
    json: bool,
    /// At the end, tell what was counted: beacons, and the connections that were carried
    #[arg(long)]
    counters: bool,
    /// Tell that so often while running, with its unit
    #[arg(long, value_name = "TIME", value_parser = super::parse_interval)]
    counters_every: Option<Duration>,
}

fn parse_place(text: &str, port: u16) -> Result<Place, String> {
    Place::parse(text, port).ok_or_else(|| "write HOST or HOST:PORT".to_owned())
}

/// Where a Consul is asked, and whether by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    place: Place,
    is_tls: bool,
}

fn parse_server(text: &str) -> Result<Server, String> {
    let (is_tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, rest) => (false, rest.unwrap_or(text)),
    };
    let port = if is_tls { Consul::TLS_PORT } else { Consul::PORT };
    let place = Place::parse(rest.strip_suffix('/').unwrap_or(rest), port);
    let place = place.ok_or("write HOST, HOST:PORT, http://HOST:PORT or https://HOST:PORT")?;
    Ok(Server { place, is_tls })
}

impl Options {
    /// What is printed.
    pub(super) fn shown(&self) -> Shown {
        Shown { is_json: self.json, with_counters: self.counters, counters_every: self.counters_every }
    }

    /// The same configuration that a file would give.
    ///
    /// # Errors
    /// When `DONT_IP` has something else than addresses, or what is said of Consul does not fit together.
    pub(super) fn config(&self) -> Result<Config, String> {
        self.config_with(&env::var("DONT_IP").unwrap_or_default())
    }

    fn config_with(&self, dont_ip: &str) -> Result<Config, String> {
        let dont_ip = dont_ip.split_whitespace().map(|word| {
            word.parse()
                .map_err(|_| format!("DONT_IP has {word:?}: write addresses with spaces between them"))
        });
        let listed = Some(Registry::Static(self.repeater.clone())).filter(|_| !self.repeater.is_empty());
        let dns = self.dns.clone().map(|name| Registry::Dns { name, interval: Duration::from_secs(5) });
        let consul = self.consul.as_ref().map(|server| self.ask(server, true)).transpose()?;
        let keys = self.keys_of.as_ref().map(|server| self.ask(server, false)).transpose()?;
        if [&self.consul, &self.keys_of].iter().all(|server| server.is_none()) {
            let alone = [("--consul-ca", &self.consul_ca), ("--consul-token-file", &self.consul_token_file)];
            if let Some((option, _)) = alone.iter().find(|(_, given)| given.is_some()) {
                return Err(format!("{option} is of no use without a Consul: add --consul HOST"));
            }
        }
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
            registries: [listed, dns, consul, keys].into_iter().flatten().collect(),
            ..repeater::Config::default()
        };
        Ok(Config { repeater: Some(repeater), ..Config::default() })
    }

    /// How a Consul is asked: for the services that are registered, or for the original's keys.
    fn ask(&self, server: &Server, is_catalogue: bool) -> Result<Registry, String> {
        let tls = match (server.is_tls, &self.consul_ca) {
            (true, Some(authority)) => {
                Some(Box::new(Tls { authority: authority.clone(), name: None, certificate: None }))
            }
            (false, None) => None,
            (true, None) => {
                return Err("https:// needs --consul-ca FILE: whom to believe is not guessed".to_owned());
            }
            (false, Some(_)) => {
                return Err(format!("--consul-ca is for https://: write https://{}", server.place.host));
            }
        };
        Ok(Registry::Consul(Consul {
            server: server.place.clone(),
            tls,
            token: self.consul_token_file.as_deref().map(token).transpose()?,
            datacenter: None,
            service: is_catalogue.then(|| Consul::SERVICE.to_owned()),
            address: None,
            ttl: Consul::TTL,
            keys: (!is_catalogue).then(|| Consul::KEYS.to_owned()),
        }))
    }
}

/// What a file has, without the line's end behind it.
fn token(file: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let token = text.trim();
    let is_token = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
    is_token.then(|| token.to_owned()).ok_or_else(|| format!("{} has no token in one word", file.display()))
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
        let given = options(&["--consul", "https://consul.example/", "--consul-ca", "ca.pem"]);
        let file = "[repeater.consul]\nserver = \"consul.example\"\ntls = { authority = \"ca.pem\" }\n";
        assert_eq!(given.config_with(""), Ok(Config::parse("f", file).unwrap()));
        for written in ["consul.example", "http://consul.example:8500"] {
            let file = "[repeater]\nconsul = { server = \"consul.example\" }\n";
            assert_eq!(
                options(&["--consul", written]).config_with(""),
                Ok(Config::parse("f", file).unwrap())
            );
        }
        assert_eq!(options(&[]).config_with(""), Ok(Config::parse("f", "[repeater]").unwrap()));
        assert!(options(&[]).config_with("localhost").unwrap_err().contains("DONT_IP"));
    }

    #[test]
    fn the_token_of_consul_comes_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let token_of = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let given = options(&["--consul", "c", "--consul-token-file", file.to_str().unwrap()]);
            given.config_with("").map(|config| match config.repeater.unwrap().registries.remove(0) {
                Registry::Consul(consul) => consul.token,
                _ => None,
            })
        };
        assert_eq!(token_of("6f8a-1\n"), Ok(Some("6f8a-1".to_owned())));
        for wrong in ["", "\n", "two words", "a\nb"] {
            assert!(token_of(wrong).unwrap_err().contains("token"), "{wrong:?}");
        }
        assert!(token(Path::new("nowhere")).unwrap_err().contains("cannot read"));
    }

    #[test]
    fn what_is_said_of_consul_has_to_fit_together() {
        for (line, told) in [
            (&["--consul", "https://c"][..], "--consul-ca FILE"),
            (&["--consul", "c", "--consul-ca", "ca.pem"], "https://c"),
            (&["--consul-ca", "ca.pem"], "--consul HOST"),
            (&["--consul-token-file", "t"], "--consul HOST"),
        ] {
            assert!(options(line).config_with("").unwrap_err().contains(told), "{line:?}");
        }
        assert!(parse_server("ftp://c").is_err() && parse_server("https://").is_err());
    }
}
