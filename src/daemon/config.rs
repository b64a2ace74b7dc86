//! The daemon's configuration: from a file to values that are complete and checked.
//!
//! The tables are read by [`Config::read`], for `hailer run --config FILE` and for the nodes of a scenario alike, so that
//! the two can't drift. It opens nothing and starts nothing.

use std::path::Path;
use std::time::Duration;

use super::diagnostic::{Diagnostics, LoadError, Span};
use super::reader::{self, Given, Refused, Table, Value, duration, integer, text, text_up_to, written};
use crate::zre::{self, Headers, PeerId, Text};

mod relay;

/// Which roles run, each with complete settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// A ZRE node: the table `[zre]`.
    pub zre: Option<zre::Config>,
    /// A reverse relay: the table `[relay]`.
    pub relay: Option<crate::relay::Config>,
    /// A host of a reverse relay: the table `[host]`.
    pub host: Option<crate::relay::HostConfig>,
}

/// Names, groups and header keys are strings of the protocol, which carry their length in one byte (RFC 36).
const NAME_BYTES_MAX: usize = 255;

/// The shortest interval between beacons: a hundred a second from every node is more than any network wants, and
/// something shorter is a mistyped unit.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

impl Config {
    /// Reads a configuration file's text; `source_name` is what messages call the file.
    ///
    /// # Errors
    /// All its mistakes. A file without a role is one.
    pub fn parse(source_name: &str, text: &str) -> Result<Self, Diagnostics> {
        reader::read(source_name, text, |file| {
            let config = Self::read(file)?;
            if config == Self::default() {
                let help = "add the table `[zre]`, which may be empty, or `[relay]` or `[host]`";
                return Err(file.refuse_missing(&["zre", "relay", "host"], "this file starts no role", help));
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
        let zre = table.optional("zre", |value| value.table(read_zre));
        let relay = table.optional("relay", |value| value.table(relay::relay));
        let host = table.optional("host", |value| value.table(relay::host));
        Ok(Self {
            zre: zre?.map(|zre| zre.value),
            relay: relay?.map(|relay| relay.value),
            host: host?.map(|host| host.value),
        })
    }
}

fn read_zre(table: &mut Table<'_>) -> Result<zre::Config, Refused> {
    let default = zre::Config::default();
    let name = table.optional("name", text_up_to(NAME_BYTES_MAX));
    let identity = table.optional("identity", identity);
    let headers = table.optional("headers", headers);
    let groups = table.optional("groups", |value| {
        value.list("a list of groups", "`groups = [\"CHAT\"]`", text_up_to(NAME_BYTES_MAX))
    });
    let interface = table.optional("interface", text_up_to(NAME_BYTES_MAX));
    let port = table.optional("port", integer(1..=u64::from(u16::MAX), 5670));
    let tcp_port = table.optional("tcp_port", integer(0..=u64::from(u16::MAX), 49200));
    let interval = table.optional("interval", duration);
    let evasive = table.optional("evasive", duration);
    let silent = table.optional("silent", duration);
    let expired = table.optional("expired", duration);

    let groups =
        groups.and_then(|groups| distinct(table, groups.map_or_else(Vec::new, |groups| groups.value)));
    let timers = read_timers(
        table,
        [
            ("interval", interval, default.interval),
            ("evasive", evasive, default.evasive),
            ("silent", silent, default.silent),
            ("expired", expired, default.expired),
        ],
    );
    let [interval, evasive, silent, expired] = timers?;
    let port_of = |given: Option<Given<u64>>, default| {
        given.map_or(default, |port| u16::try_from(port.value).expect("the range was checked"))
    };
    Ok(zre::Config {
        name: name?.map(|name| Text::from(name.value)),
        identity: identity?.map(|identity| identity.value),
        headers: headers?.map(|headers| headers.value).unwrap_or_default(),
        groups: groups?,
        interface: interface?.map(|interface| interface.value),
        port: port_of(port?, default.port),
        tcp_port: port_of(tcp_port?, default.tcp_port),
        interval,
        evasive,
        silent,
        expired,
    })
}

/// A key of a timer, what was given for it, and its default.
type Timer = (&'static str, Result<Option<Given<Duration>>, Refused>, Duration);

/// Fills in defaults and checks what must be shorter than what.
fn read_timers(table: &Table<'_>, timers: [Timer; 4]) -> Result<[Duration; 4], Refused> {
    let mut values = [Duration::ZERO; 4];
    let mut spans: [Option<Span>; 4] = [const { None }; 4];
    let names = timers.each_ref().map(|(name, ..)| *name);
    for (i, (_, given, default)) in timers.into_iter().enumerate() {
        let given = given?;
        values[i] = given.as_ref().map_or(default, |given| given.value);
        spans[i] = given.map(|given| given.span);
    }
    let [interval, ..] = values;
    let mut outcome = Ok(());
    if let (true, Some(span)) = (interval < INTERVAL_MIN, &spans[0]) {
        let message = format!("an `interval` of {} would flood the network", written(interval));
        let help = format!("write at least \"{}\"; \"1 s\" is usual", written(INTERVAL_MIN));
        outcome = Err(table.refuse(span.clone(), message, help));
    }
    // A default is never shorter than another, so one of the two was given.
    for (short, long) in [(0, 3), (1, 2), (2, 3)] {
        let told = |i: usize| {
            let default = if spans[i].is_none() { ", the default" } else { "" };
            format!("`{}` ({}{default})", names[i], written(values[i]))
        };
        if values[short] < values[long] {
            continue;
        }
        let span = spans[short].clone().or_else(|| spans[long].clone()).unwrap_or_else(|| table.span());
        let message = format!("{} must be shorter than {}", told(short), told(long));
        let help = match short {
            0 => "a peer that beacons on time must not expire between two beacons",
            _ => "a quiet peer becomes evasive first, then silent, then expired",
        };
        outcome = Err(table.refuse(span, message, help));
    }
    outcome.map(|()| values)
}

fn identity(value: Value<'_>) -> Result<PeerId, Refused> {
    let help = "write 32 hexadecimal digits in quotes, or leave the key out for a new one at each start";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("an identity", help))?;
    // The UUID parser also takes braces and URNs, which no other ZRE program does.
    let identity = text.parse().ok().filter(|_| matches!(text.len(), 32 | 36));
    identity.ok_or_else(|| value.refuse_kind("an identity", help))
}

fn headers(value: Value<'_>) -> Result<Headers, Refused> {
    let headers = value.entries(|key, value| {
        let length = key.value.len();
        if !(1..=NAME_BYTES_MAX).contains(&length) {
            let help = format!("the key of a header has 1 to {NAME_BYTES_MAX} bytes");
            return Err(value.refuse_at(
                key.span,
                format!("the key of this header has {length} bytes"),
                help,
            ));
        }
        Ok((Text::from(key.value), Text::from(text(value)?)))
    })?;
    Ok(headers.into_iter().collect())
}

fn distinct(table: &Table<'_>, groups: Vec<Given<String>>) -> Result<Vec<Text>, Refused> {
    let mut outcome = Ok(());
    for (i, group) in groups.iter().enumerate() {
        if let Some(first) = groups[..i].iter().find(|first| first.value == group.value) {
            let message = format!("the group `{}` is given twice", group.value.escape_debug());
            let related = (first.span.clone(), "here first");
            outcome = Err(table.refuse_with(group.span.clone(), message, "keep one of the two", related));
        }
    }
    outcome.map(|()| groups.into_iter().map(|group| Text::from(group.value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of lines: with `+` those of a configuration file, below them what must be said about it.
    const MISTAKES: &str = include_str!("config_mistakes.txt");

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
    fn names_have_up_to_255_bytes() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        let file = |name: &str| {
            format!("[zre]\nname = \"{name}\"\ngroups = [\"{name}\"]\nheaders = {{ {name} = \"{name}y\" }}\n")
        };
        let config = Config::parse("f", &file(&longest)).unwrap().zre.unwrap();
        assert_eq!((config.name.unwrap().len(), config.groups[0].len()), (NAME_BYTES_MAX, NAME_BYTES_MAX));
        assert_eq!(config.headers.into_values().next().unwrap().len(), NAME_BYTES_MAX + 1);
        let told = Config::parse("f", &file(&format!("{longest}x"))).unwrap_err();
        let told: Vec<_> = told.problems().iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            told,
            [
                "`name` is 256 bytes long",
                "an item of `groups` is 256 bytes long",
                "the key of this header has 256 bytes",
            ]
        );
    }

    #[test]
    fn an_empty_table_starts_a_node_with_every_default() {
        let config = Config::parse("f", "[zre]").unwrap();
        assert_eq!(config, Config { zre: Some(zre::Config::default()), ..Config::default() });
    }

    #[test]
    fn every_key_reaches_the_node() {
        let text = r#"
            [zre]
            name = "robot-3"
            identity = "67e5504410b1426f9247bb680e5fe0c8"
            groups = ["CHAT", "status"]
            interface = "eth0"
            port = 5671
            tcp_port = 49200
            interval = "250 ms"
            evasive = "1.5 s"
            silent = "2s"
            expired = "1 min"
            [zre.headers]
            X-ROLE = "camera"
        "#;
        let expected = zre::Config {
            name: Some("robot-3".into()),
            identity: Some("67E5504410B1426F9247BB680E5FE0C8".parse().unwrap()),
            headers: Headers::from([("X-ROLE".into(), "camera".into())]),
            groups: vec!["CHAT".into(), "status".into()],
            interface: Some("eth0".to_owned()),
            port: 5671,
            tcp_port: 49200,
            interval: Duration::from_millis(250),
            evasive: Duration::from_millis(1500),
            silent: Duration::from_secs(2),
            expired: Duration::from_secs(60),
        };
        assert_eq!(Config::parse("f", text).unwrap().zre.unwrap(), expected);
        assert_eq!(
            Config::parse(
                "f",
                &text.replace("67e5504410b1426f", "67e55044-10b1-426f-").replace("-9247", "-9247-")
            )
            .unwrap()
            .zre
            .unwrap(),
            expected
        );
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
