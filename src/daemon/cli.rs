//! The command line of the `hailer` program.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::Output;
use super::reader::parse_duration;
use super::{Config, LoadError};
use super::{chat, tools};
use crate::net::OsNet;
use crate::zre::{self, Endpoint, Text};

mod counted;
mod group;
mod hub;
mod relay;
mod repeater;
mod run;

use run::{Shown, bench, serve_bench, talk, watch, with_node};
use tools::bench::{Bench, Servers};

/// The command line or a configuration makes no sense (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;

const EXAMPLES: &str = "\
Examples:
  hailer peers                            who is on this network?
  hailer peers --json | jq .name          the same for a program, one event a line
  hailer chat ROBOTS --name alice         shout what you type to the group ROBOTS
  hailer gossip                           be the hub through which nodes find each other
  hailer repeater --repeater 10.2.0.9     carry beacons to and from another network
  hailer run --config hailer.toml         run the roles that a file describes
  hailer relay --service ssh=0.0.0.0:2222 let hosts behind NATs serve ssh on port 2222 here
  hailer host --to 127.0.0.1:22 --relay example:8000 --service ssh

Peers may be zyre, pyre or other ZRE programs on the same network.
A firewall must let in UDP to port 5670 (beacons) and TCP from port 49152 on (messages).

Environment: RUST_LOG chooses what is logged, for example RUST_LOG=hailer=debug
Exit codes:  0 done, 1 could not run, 64 wrong command line or configuration";

/// Held right by a test.
const EXAMPLE_FILE: &str = "\
Example of a file, in which only the first line is needed:
  [zre]
  name = \"alice\"
  groups = [\"ROBOTS\"]
  headers = { X-ROLE = \"camera\" }
  interface = \"eth0\"                     # its name, index or address
  interval = \"1 s\"                       # between two beacons

A mistake is answered with its line and with what would be right; --check only looks for mistakes.";

/// Peer discovery and messaging for the networks where discovery is hard.
#[derive(Debug, Parser)]
#[command(name = "hailer", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
    /// Log more on standard error: -v what the node does, -vv every decision, -vvv every message
    #[arg(long, short, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch peers come and go
    Peers {
        #[command(flatten)]
        node: NodeOptions,
        /// Join this group too; may be given several times
        #[arg(long, short, value_name = "GROUP")]
        group: Vec<String>,
    },
    /// Shout what is typed to a group, and show what the group says
    #[command(after_help = chat::HELP)]
    Chat {
        /// The group to join and to shout to
        group: String,
        #[command(flatten)]
        node: NodeOptions,
    },
    /// Copy standard input to groups, and what they say to standard output (as zrecat)
    Cat {
        /// The groups
        #[arg(required = true)]
        group: Vec<String>,
        /// Let peers be found for this long before anything is said
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
        wait: Duration,
        /// Go on listening when the input has ended
        #[arg(long, short)]
        stay: bool,
        #[command(flatten)]
        node: NodeOptions,
    },
    /// Tell the group `time` each second what time it is (as zretime)
    Time {
        #[command(flatten)]
        node: NodeOptions,
    },
    /// Join the group that is whispered, and work: an example (as zreworker)
    Worker {
        #[command(flatten)]
        node: NodeOptions,
    },
    /// Measure how long peers take to answer
    Ping {
        /// Names or first digits of identities [default: everybody]
        #[arg(value_name = "PEER")]
        whom: Vec<String>,
        /// End after so many rounds [default: go on until Ctrl-C]
        #[arg(long, short, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..))]
        count: Option<u32>,
        /// Time between two rounds
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
        every: Duration,
        #[command(flatten)]
        node: NodeOptions,
    },
    /// Measure messages a second and round trips between nodes: two of this program, or with others that run `bench --serve`
    Bench {
        /// Be the other node, until Ctrl-C
        #[arg(long, conflicts_with = "with")]
        serve: bool,
        /// Measure with the server of this name, here or on another machine
        #[arg(long, value_name = "NAME")]
        with: Option<String>,
        /// Shout to so many servers, instead of whispering to one
        #[arg(long, value_name = "SERVERS", conflicts_with_all = ["serve", "with"],
              value_parser = clap::value_parser!(u16).range(1..))]
        shout: Option<u16>,
        /// Size of messages in bytes; several are measured one after the other
        #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "10,1024,65536",
              value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
        bytes: Vec<u32>,
        /// Messages of each size that are sent as fast as possible
        #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
        messages: u32,
        /// Messages of each size that go to and fro one by one
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        round_trips: u32,
        #[command(flatten)]
        node: NodeOptions,
    },
    /// Run a gossip hub, through which nodes find each other where beacons do not reach
    #[command(after_help = hub::HELP)]
    Gossip {
        #[command(flatten)]
        hub: hub::HubOptions,
    },
    /// Carry beacons between networks that broadcasts do not cross
    #[command(after_help = repeater::HELP)]
    Repeater {
        #[command(flatten)]
        options: repeater::Options,
    },
    /// Join, watch and list LAN groups with health checks
    Group(group::GroupArgs),
    /// Let services be reached that run where nobody can connect to
    #[command(after_help = relay::RELAY_HELP)]
    Relay(relay::RelayOptions),
    /// Make a service of this machine reachable through a relay
    #[command(after_help = relay::HOST_HELP)]
    Host(relay::HostOptions),
    /// Run the roles that a configuration file describes, until told to stop
    #[command(after_help = EXAMPLE_FILE)]
    Run {
        /// The file, in TOML
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        /// Only say whether the file is right; start nothing
        #[arg(long)]
        check: bool,
        /// Print one JSON object an event
        #[arg(long)]
        json: bool,
        /// At the end, tell what was counted: peers, what a repeater carried, and odd or hostile input by its cause
        #[arg(long)]
        counters: bool,
        /// Tell that so often while running, with its unit
        #[arg(long, value_name = "TIME", value_parser = parse_interval)]
        counters_every: Option<Duration>,
    },
}

#[derive(Debug, Args)]
struct NodeOptions {
    /// Interface to use: its name, index or address, or * for all; may be given several times [default: the first that
    /// can broadcast]
    #[arg(long, short, value_name = "INTERFACE")]
    interface: Vec<String>,
    /// Use IPv6 too, on the same interfaces
    #[arg(long, short = '6')]
    ipv6: bool,
    /// UDP port of the beacons; another port is another, isolated network
    #[arg(long, short, value_name = "PORT", default_value_t = zre::Config::PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// TCP port to listen on [default: the first free one from 49152 on]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    tcp_port: Option<u16>,
    /// Name shown to peers [default: the first digits of the identity]
    #[arg(long, short, value_name = "NAME", value_parser = parse_text)]
    name: Option<String>,
    /// Neither send nor hear beacons
    #[arg(long)]
    no_beacon: bool,
    /// Gossip hub to be found through, as tcp://HOST:PORT; may be given several times
    #[arg(long, short = 'G', value_name = "ENDPOINT")]
    gossip: Vec<Endpoint>,
    /// Place where a node is, whoever it is, as tcp://HOST:PORT; may be given several times
    #[arg(long, short = 'P', value_name = "ENDPOINT")]
    peer: Vec<Endpoint>,
    /// Where peers are told to reach this node, as tcp://HOST:PORT [default: where it listens]
    #[arg(long, value_name = "ENDPOINT")]
    advertise: Option<Endpoint>,
    /// Time between two beacons, with its unit
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// A fact to tell every peer; may be given several times
    #[arg(long, short = 'H', value_name = "KEY=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// Print one JSON object an event
    #[arg(long)]
    json: bool,
    /// At the end, tell what was counted: peers, and odd or hostile input by its cause
    #[arg(long)]
    counters: bool,
}

fn parse_text(text: &str) -> Result<String, String> {
    if text.len() > 255 { Err("at most 255 bytes".to_owned()) } else { Ok(text.to_owned()) }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example X-ROLE=camera")?;
    if key.is_empty() || key.len() > 255 {
        return Err("a key has 1 to 255 bytes".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|problem| problem.to_string())
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|problem| problem.to_string())?;
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
    if (least..=most).contains(&interval) { Ok(interval) } else { Err("from 10 ms to 1 h".to_owned()) }
}

impl NodeOptions {
    fn shown(&self) -> Shown {
        Shown { is_json: self.json, with_counters: self.counters, ..Shown::default() }
    }

    fn config(&self, groups: &[String]) -> Config {
        let headers =
            self.header.iter().map(|(key, value)| (Text::from(key.as_str()), Text::from(value.as_str())));
        let defaults = zre::Config::default();
        // The timers keep their proportion to slow beacons: nobody is gone before four beacons were due.
        let stretched = |default: Duration, beacons: u32| default.max(self.interval * beacons);
        Config {
            zre: Some(zre::Config {
                name: self.name.as_deref().map(Text::from),
                headers: headers.collect(),
                groups: groups.iter().map(|group| Text::from(group.as_str())).collect(),
                interfaces: self.interface.clone(),
                ipv6: self.ipv6,
                port: self.port,
                tcp_port: self.tcp_port.unwrap_or(0),
                beacon: !self.no_beacon,
                gossip: self.gossip.clone(),
                peers: self.peer.clone(),
                advertise: self.advertise.clone(),
                interval: self.interval,
                evasive: stretched(defaults.evasive, 2),
                silent: stretched(defaults.silent, 3),
                expired: stretched(defaults.expired, 4),
                ..defaults
            }),
            ..Config::default()
        }
    }
}

/// The program.
pub async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
            // Nothing is left to tell when even this can't be written.
            let _ = error.print();
            return code;
        }
    };
    start_logs(cli.verbose);
    let net = OsNet::new();
    let outcome = match cli.command {
        Verb::Peers { node, group } => watch(&net, node.config(&group), node.shown(), None).await,
        Verb::Chat { group, node } => {
            talk(&net, node.config(std::slice::from_ref(&group)), node.shown(), group).await
        }
        Verb::Relay(options) => match options.config() {
            Ok(config) => watch(&net, config, Shown::default(), None).await,
            Err(problem) => return usage(&problem),
        },
        Verb::Host(options) => match options.config() {
            Ok(config) => watch(&net, config, Shown::default(), None).await,
            Err(problem) => return usage(&problem),
        },
        Verb::Cat { group, wait, stay, node } => {
            let output = Output::new(node.json).quiet();
            let (config, shown) = (node.config(&group), node.shown());
            let cat = tools::cat::Cat { groups: group, wait, stay };
            with_node(&net, config, output, shown, async |node, output, stop| {
                tools::cat::run(&net, node, output, cat, stop).await
            })
            .await
        }
        Verb::Time { node } => {
            let output = Output::new(node.json);
            let config = node.config(&[tools::time::GROUP.to_owned()]);
            with_node(&net, config, output, node.shown(), async |node, output, stop| {
                tools::time::run(&net, node, output, stop).await
            })
            .await
        }
        Verb::Worker { node } => {
            let output = Output::new(node.json);
            with_node(&net, node.config(&[]), output, node.shown(), async |node, output, stop| {
                tools::worker::run(&net, node, output, stop).await
            })
            .await
        }
        Verb::Ping { whom, count, every, node } => {
            let ping = tools::ping::Ping { peers: whom, count, interval: every };
            let output = Output::new(node.json).quiet();
            with_node(&net, node.config(&[]), output, node.shown(), async |node, output, stop| {
                tools::ping::run(&net, node, output, ping, stop).await
            })
            .await
        }
        Verb::Bench { serve: true, node, .. } => serve_bench(&net, &node).await,
        Verb::Bench { serve: _, with, shout, bytes, messages, round_trips, node } => {
            let bytes = bytes.into_iter().map(|bytes| bytes as usize).collect();
            let servers = shout.map_or(Servers::One(with), |count| Servers::Many(count.into()));
            bench(&net, &node, Bench { bytes, messages, round_trips, servers }).await
        }
        Verb::Gossip { hub } => {
            let shown = Shown { is_json: hub.json, ..Shown::default() };
            watch(&net, hub.config(), shown, None).await
        }
        Verb::Repeater { options } => match options.config() {
            Ok(config) => {
                let shown = options.shown();
                watch(&net, config, shown, None).await
            }
            Err(problem) => return usage(&problem),
        },
        Verb::Group(args) => group::run(&net, args).await,
        Verb::Run { config: path, check, json, counters, counters_every } => {
            let config = match Config::load(&path) {
                Ok(config) => config,
                Err(LoadError::Invalid(diagnostics)) => {
                    complain(diagnostics.render(io::stderr().is_terminal()));
                    return ExitCode::from(EXIT_USAGE);
                }
                Err(LoadError::Read { path, source }) => {
                    complain(format_args!("hailer: cannot read {}: {source}", path.display()));
                    return ExitCode::FAILURE;
                }
            };
            if check {
                // Whoever asked may look at the exit code alone.
                let _ = writeln!(io::stdout(), "{}: ok", path.display());
                return ExitCode::SUCCESS;
            }
            let shown = Shown { is_json: json, with_counters: counters, counters_every };
            watch(&net, config, shown, Some(&path)).await
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has gone, as `head` does: nothing is wrong with that.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("hailer: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says something on standard error, if anybody reads that.
fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn usage(problem: &str) -> ExitCode {
    complain(format_args!("hailer: {problem}"));
    ExitCode::from(EXIT_USAGE)
}

fn start_logs(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty()).map(|asked| asked.parse());
    let chosen = asked.and_then(|chosen: Result<Targets, _>| {
        chosen.inspect_err(|error| complain(format_args!("hailer: RUST_LOG is not used: {error}"))).ok()
    });
    let targets = chosen.unwrap_or_else(|| Targets::new().with_target("hailer", level));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(lines).with(targets).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn options_become_the_same_configuration_as_a_file() {
        let cli = Cli::try_parse_from(["hailer", "peers", "-n", "alice", "-H", "X-ROLE=demo", "-g", "CHAT"])
            .unwrap();
        let Verb::Peers { node, group } = cli.command else { panic!("parsed as another command") };
        let text = "[zre]\nname = \"alice\"\nheaders = { X-ROLE = \"demo\" }\ngroups = [\"CHAT\"]\n";
        assert_eq!(node.config(&group), Config::parse("test.toml", text).unwrap());
    }

    #[test]
    fn the_example_of_a_file_is_right() {
        let lines = EXAMPLE_FILE.lines().filter_map(|line| line.strip_prefix("  "));
        let config = Config::parse("help", &lines.collect::<Vec<_>>().join("\n")).unwrap().zre.unwrap();
        assert_eq!(
            (config.name.unwrap(), config.groups.len(), config.headers.len()),
            (Text::from("alice"), 1, 1)
        );
    }

    #[test]
    fn wrong_options_are_refused() {
        for wrong in [
            vec!["--port", "0"],
            vec!["--interval", "5"],
            vec!["--interval", "1ms"],
            vec!["--header", "novalue"],
            vec!["--header", "=x"],
        ] {
            let line = ["hailer", "peers"].into_iter().chain(wrong.iter().copied());
            assert!(Cli::try_parse_from(line).is_err(), "{wrong:?}");
        }
    }
}
