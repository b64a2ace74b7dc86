//! The table `[zre]`.

use std::time::Duration;

use crate::daemon::diagnostic::Span;
use crate::daemon::reader::{Given, Refused, Table, Value, duration, integer, text, text_up_to, written};
use crate::zre::{self, Headers, PeerId, Text};

/// Names, groups and header keys are strings of the protocol, which carry their length in one byte (RFC 36).
const NAME_BYTES_MAX: usize = 255;

/// The shortest interval between beacons: a hundred a second from every node is more than any network wants, and
/// something shorter is a mistyped unit.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Reads the settings of a node.
///
/// # Errors
/// When one is wrong, or contradicts another.
pub(super) fn read(table: &mut Table<'_>) -> Result<zre::Config, Refused> {
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
    use crate::daemon::Config;

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
}
