//! The daemon's configuration: from a file to values that are complete and checked.
//!
//! The tables are read by [`Config::read`], for `hailer run --config FILE` and for the nodes of a scenario alike, so that
//! the two can't drift. It opens nothing and starts nothing. Each role's table has a file of its own beside this one.

use std::path::Path;

use super::diagnostic::{Diagnostics, LoadError};
use super::reader::{self, Refused, Table};
use crate::{gossip, group, relay, repeater, zre};

mod gossip_table;
mod group_table;
mod relay_table;
mod repeater_table;
mod zre_table;

/// Which roles run, each with complete settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// A ZRE node: the table `[zre]`.
    pub zre: Option<zre::Config>,
    /// A gossip hub: the table `[gossip]`.
    pub gossip: Option<gossip::Config>,
    /// A beacon repeater: the table `[repeater]`.
    pub repeater: Option<repeater::Config>,
    /// Memberships in LAN groups: the tables `[[group]]`, or one `[group]`.
    pub groups: Vec<group::Config>,
    /// A reverse relay: the table `[relay]`.
    pub relay: Option<relay::Config>,
    /// A host of a reverse relay: the table `[host]`.
    pub host: Option<relay::HostConfig>,
}

/// The tables, one for each role.
const ROLES: &[&str] = &["zre", "gossip", "repeater", "group", "relay", "host"];

impl Config {
    /// Reads a configuration file's text; `source_name` is what messages call the file.
    ///
    /// # Errors
    /// All its mistakes. A file without a role is one.
    pub fn parse(source_name: &str, text: &str) -> Result<Self, Diagnostics> {
        reader::read(source_name, text, |file| {
            let config = Self::read(file)?;
            if config == Self::default() {
                let help = "add a table such as `[zre]`; it may be empty";
                return Err(file.refuse_missing(ROLES, "this file starts no role", help));
            }
            Ok(config)
        })
    }

    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// When it can't be read, or has mistakes.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        LoadError::load(path.as_ref(), Self::parse)
    }

    /// Takes the tables of all roles from the table that holds them: the top of a configuration file, or a node of a
    /// scenario. There may be none.
    ///
    /// # Errors
    /// When something in them is wrong.
    pub fn read(table: &mut Table<'_>) -> Result<Self, Refused> {
        let zre = table.optional("zre", |value| value.table(zre_table::read));
        let gossip = table.optional("gossip", |value| value.table(gossip_table::read));
        let repeater = table.optional("repeater", |value| value.table(repeater_table::read));
        let groups = table.optional("group", group_table::read);
        let relay = table.optional("relay", |value| value.table(relay_table::relay));
        // A scenario's container has another `host`: the Docker host that it is on.
        let host_key = if table.title() == "[[container]]" { "relay_host" } else { "host" };
        let host = table.optional(host_key, |value| value.table(relay_table::host));
        let (zre, host) = (zre?, host?);
        if let Some(host) = &host
            && host.value.services.values().any(|service| service.to == relay::config::Local::Node)
        {
            let has_way = zre.as_ref().map(|zre| zre.value.advertise.is_some());
            relay_table::refuse_hidden_node(table, has_way, table.span_of(&[host_key, "service"]))?;
        }
        Ok(Self {
            zre: zre.map(|zre| zre.value),
            gossip: gossip?.map(|gossip| gossip.value),
            repeater: repeater?.map(|repeater| repeater.value),
            groups: groups?.map(|groups| groups.value).unwrap_or_default(),
            relay: relay?.map(|relay| relay.value),
            host: host.map(|host| host.value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of lines: with `+` those of a configuration file, below them what must be said about it.
    const MISTAKES: &str = include_str!("mistakes.txt");

    #[test]
    fn every_mistake_is_reported_at_its_place_with_what_would_be_right() {
        let blocks = MISTAKES.split("\n\n").filter(|block| block.starts_with('+'));
        for block in blocks.clone() {
            let (file, expected): (Vec<_>, Vec<_>) =
                block.trim_end().lines().partition(|line| line.starts_with('+'));
            let file: String = file.iter().map(|line| format!("{}\n", line[1..].trim_start())).collect();
            let found = Config::parse("hailer.toml", &file).expect_err(&file);
            let told = found.problems().iter().flat_map(|problem| {
                let (line, column) = found.position(problem);
                [format!("{line}:{column} {}", problem.message), format!("    {}", problem.help)]
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "of this file:\n{file}");
        }
        assert!(blocks.count() > 30);
    }

    #[test]
    fn the_file_on_disk_is_named_in_what_is_said_about_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hailer.toml");
        std::fs::write(&path, "[zre]\nport = 0\n").unwrap();
        let told = Config::load(&path).unwrap_err().to_string();
        assert!(told.contains(&format!("--> {}:2:8", path.display())), "{told}");
    }
}
