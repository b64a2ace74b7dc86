//! `hailer group`: join a LAN group, watch it, list who is there.

use std::io;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::super::output::{Output, member_as_json, member_in_words};
use super::super::reader::parse_duration;
use super::super::{Config, start};
use super::counted::Meter;
use super::run::{drain, force_end, show, stop_requested};
use crate::group::{self, Allowed, GroupName, HealthUri, Rule, Uri, survey};
use crate::net::OsNet;

/// Held right by a test of the command line.
const EXAMPLES: &str = "\
Examples:
  hailer group join cameras --service tcp://*:8554      announce a service, and watch the others
  hailer group watch cameras --json                     only watch, one JSON object an event
  hailer group list                                     which groups are there, and who is in them?

Members may be pir's, too. A firewall must let in UDP to the group's port, and TCP to the health port.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GroupArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Announce a service in a group, answer health checks, and watch the other members
    Join {
        /// The group
        name: GroupName,
        /// Where the service is; a host of `*` is announced as each interface's address
        #[arg(long, short, value_name = "URI", value_parser = Uri::parse)]
        service: Uri,
        /// What others check instead of this program, for example http://0.0.0.0:8080/health or open://0.0.0.0:8554
        #[arg(long, value_name = "URI", value_parser = HealthUri::parse)]
        check: Option<HealthUri>,
        /// TCP port that answers health checks [default: any free one]
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        health_port: Option<u16>,
        /// How members are given up: with the evidence of others, or as pir does
        #[arg(long, value_name = "RULE", default_value = "evidence", value_parser = ["evidence", "pir"])]
        rule: String,
        #[command(flatten)]
        common: Common,
    },
    /// Watch the members of a group without being one
    Watch {
        /// The group
        name: GroupName,
        #[command(flatten)]
        common: Common,
    },
    /// List the members of a group, or of all groups
    List {
        /// The group [default: all that are heard]
        name: Option<GroupName>,
        /// How long to look
        #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = parse_time)]
        time: Duration,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// Interface to use: its name, index or address; may be given several times [default: all]
    #[arg(long, short, value_name = "INTERFACE")]
    interface: Vec<String>,
    /// UDP port of the group
    #[arg(long, short, value_name = "PORT", default_value_t = group::Config::PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Addresses and ports that may be dialled, such as "10.0.0.0/8 1024-65535"; may be given several times
    /// [default: what announcements say of their senders, and members of this machine's networks]
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<Allowed>,
    /// Print one JSON object an event, or a member
    #[arg(long)]
    json: bool,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map_err(|problem| problem.to_string())?;
    let most = Duration::from_secs(3600);
    if (Duration::from_millis(100)..=most).contains(&time) {
        Ok(time)
    } else {
        Err("from 100 ms to 1 h".to_owned())
    }
}

impl Common {
    fn config(&self, name: GroupName) -> group::Config {
        group::Config {
            port: self.port,
            interfaces: self.interface.clone(),
            allow: self.allow.clone(),
            ..group::Config::new(name)
        }
    }
}

/// Runs the verb.
pub(super) async fn run(net: &OsNet, args: GroupArgs) -> io::Result<()> {
    match args.verb {
        Verb::Join { name, service, check, health_port, rule, common } => {
            let rule = if rule == "pir" { Rule::Pir } else { Rule::Evidence };
            let config = group::Config {
                service: Some(service),
                check,
                health_port: health_port.unwrap_or(0),
                rule,
                ..common.config(name)
            };
            watch(net, config, common.json).await
        }
        Verb::Watch { name, common } => watch(net, common.config(name), common.json).await,
        Verb::List { name, time, common } => list(net, name, time, &common).await,
    }
}

async fn watch(net: &OsNet, config: group::Config, is_json: bool) -> io::Result<()> {
    let output = Output::new(is_json);
    let is_member = config.service.is_some();
    let config = Config { groups: vec![config], ..Config::default() };
    let _force = force_end(net, &config);
    let mut roles = start(net, config).await.map_err(io::Error::other)?;
    for (group, _) in &roles.groups {
        output.remark(&match is_member {
            true => format!(
                "{} is in {}, health checks at port {}; Ctrl-C ends",
                group.id(),
                group.name(),
                group.health_port()
            ),
            false => format!("watching {}; Ctrl-C ends", group.name()),
        });
    }
    let outcome = show(&mut roles, &output, None, Meter::new(net, None)).await;
    roles.stop().await;
    outcome.and(drain(&mut roles, &output).await)
}

async fn list(net: &OsNet, name: Option<GroupName>, time: Duration, common: &Common) -> io::Result<()> {
    let output = Output::new(common.json);
    let _force = force_end(net, &Config::default());
    // Any name will do where all are looked for.
    let any = name.clone().unwrap_or_else(|| "any".parse().expect("it is a name"));
    let config = common.config(any);
    let found = tokio::select! {
        biased;
        () = stop_requested(&output) => return Ok(()),
        found = survey(net, &config, name.as_ref(), time) => found.map_err(io::Error::other)?,
    };
    for (group, members) in &found {
        for member in members {
            match common.json {
                true => output.line(&member_as_json(group, member).to_string())?,
                false => output.line(&member_in_words(group, member))?,
            }
        }
    }
    if found.values().all(Vec::is_empty) {
        output.remark(&format!("nobody answered in {} s", time.as_secs_f64()));
    }
    Ok(())
}
