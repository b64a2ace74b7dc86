//! The table `[group]`, or `[[group]]` once for each group.

use std::str::FromStr;

use crate::daemon::reader::{Given, Refused, Table, Value, integer, one_of, text_up_to};
use crate::group::{Config, GROUP_BYTES_MAX, HealthUri, MemberId, Rule, URI_BYTES_MAX, Uri};

/// Takes one table or several.
pub(super) fn read(value: Value<'_>) -> Result<Vec<Config>, Refused> {
    if !value.is_list() {
        return Ok(vec![value.table(table)?]);
    }
    let whole = value.clone();
    let configs: Vec<Config> = value.tables(table)?.into_iter().collect::<Result<_, _>>()?;
    for (place, config) in configs.iter().enumerate() {
        if configs[..place].iter().any(|other| (&other.name, other.port) == (&config.name, config.port)) {
            let message = format!("the group `{}` is there twice", config.name.as_str().escape_debug());
            return Err(whole.refuse(message, "keep one of the two, or give one another `port`"));
        }
    }
    Ok(configs)
}

fn table(table: &mut Table<'_>) -> Result<Config, Refused> {
    let name = table.required("name", "name = \"cameras\"", parsed(GROUP_BYTES_MAX, "the name of a group"));
    let service = table.optional("service", |value| {
        let text = text_up_to(URI_BYTES_MAX)(value.clone())?;
        Uri::parse(&text).map_err(|error| {
            value.refuse(format!("`service` is no URI: {error}"), "write for example \"tcp://*:8080\"")
        })
    });
    let check = table.optional("check", |value| {
        let text = text_up_to(URI_BYTES_MAX)(value.clone())?;
        HealthUri::parse(&text).map_err(|error| {
            let help = "write for example \"http://0.0.0.0:8080/health\" or \"open://0.0.0.0:8080\"";
            value.refuse(format!("`check` is no health URI: {error}"), help)
        })
    });
    let identity = table.optional("identity", identity);
    let port = table.optional("port", integer(1..=u64::from(u16::MAX), u64::from(Config::PORT)));
    let health_port = table.optional("health_port", integer(0..=u64::from(u16::MAX), 40000));
    let interfaces = table.optional("interfaces", |value| {
        value.list("a list of interfaces", "`interfaces = [\"eth0\"]`", text_up_to(255))
    });
    let allow = table.optional("allow", |value| {
        value.list("a list of networks", "`allow = [\"10.0.0.0/8 1024-65535\"]`", parsed(255, "a network"))
    });
    let rule = table.optional("rule", one_of(&[("evidence", Rule::Evidence), ("pir", Rule::Pir)]));

    let port_of = |given: Option<Given<u64>>, default| {
        given.map_or(default, |port| u16::try_from(port.value).expect("the range was checked"))
    };
    let (check, rule) = (check?, rule?.map(|rule| rule.value).unwrap_or_default());
    let service = service?.map(|service| service.value);
    if let Some(check) = &check {
        let reason = match (&service, rule) {
            (None, _) => Some("without a `service` there is nothing that others could check"),
            (_, Rule::Pir) => Some("members of pir's kind don't understand `check`"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(table.refuse(check.span.clone(), reason, "leave `check` out"));
        }
    }
    let values = |list: Vec<Given<String>>| list.into_iter().map(|item| item.value).collect();
    Ok(Config {
        service,
        check: check.map(|check| check.value),
        identity: identity?.map(|identity| identity.value),
        port: port_of(port?, Config::PORT),
        health_port: port_of(health_port?, 0),
        interfaces: interfaces?.map(|list| values(list.value)).unwrap_or_default(),
        allow: allow?.map(|list| list.value.into_iter().map(|item| item.value).collect()).unwrap_or_default(),
        rule,
        ..Config::new(name?.value)
    })
}

/// A text that says itself what is wrong with it.
fn parsed<T: FromStr<Err: std::fmt::Display>>(
    bytes_max: usize,
    what: &'static str,
) -> impl Fn(Value<'_>) -> Result<T, Refused> {
    move |value| {
        let text = text_up_to(bytes_max)(value.clone())?;
        text.parse().map_err(|error: T::Err| {
            value.refuse(format!("{} is not {what}", value.name()), error.to_string())
        })
    }
}

fn identity(value: Value<'_>) -> Result<MemberId, Refused> {
    let help = "write a UUID in quotes, or leave the key out for a new one at each start";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("an identity", help))?;
    text.parse().ok().filter(|_| text.len() == 36).ok_or_else(|| value.refuse_kind("an identity", help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Config> {
        crate::daemon::Config::parse("f", text).unwrap().groups
    }

    #[test]
    fn every_key_reaches_the_membership() {
        let text = r#"
            [[group]]
            name = "cameras"
            service = "tcp://*:8554"
            check = "http://0.0.0.0:8080/health"
            identity = "91b36669-6225-4398-bc26-c153a1e10e61"
            port = 9998
            health_port = 40000
            interfaces = ["eth0", "wlan0"]
            allow = ["10.0.0.0/8", "fd77::/16 8000-8999"]
            [[group]]
            name = "watched"
            rule = "pir"
        "#;
        let full = Config {
            service: Some(Uri::parse("tcp://*:8554").unwrap()),
            check: Some(HealthUri::parse("http://0.0.0.0:8080/health").unwrap()),
            identity: Some("91b36669-6225-4398-bc26-c153a1e10e61".parse().unwrap()),
            port: 9998,
            health_port: 40000,
            interfaces: vec!["eth0".to_owned(), "wlan0".to_owned()],
            allow: vec!["10.0.0.0/8".parse().unwrap(), "fd77::/16 8000-8999".parse().unwrap()],
            ..Config::new("cameras".parse().unwrap())
        };
        let watched = Config { rule: Rule::Pir, ..Config::new("watched".parse().unwrap()) };
        assert_eq!(read(text), [full, watched]);
    }

    #[test]
    fn one_group_needs_no_double_brackets() {
        assert_eq!(read("[group]\nname = \"x\""), [Config::new("x".parse().unwrap())]);
    }
}
