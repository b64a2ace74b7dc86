//! The table `[gossip]`, and what other tables have of it: endpoints.

use std::net::IpAddr;

use crate::daemon::reader::{Given, Refused, Table, Value, duration, integer, written};
use crate::gossip;
use crate::zre::Endpoint;

/// Reads the settings of a hub.
///
/// # Errors
/// When one is wrong.
pub(super) fn read(table: &mut Table<'_>) -> Result<gossip::Config, Refused> {
    let default = gossip::Config::default();
    let address = table.optional("address", address);
    let port = table.optional("port", integer(0..=u64::from(u16::MAX), u64::from(gossip::Config::PORT)));
    let peers = table.optional("peers", endpoints);
    let ttl = table.optional("ttl", duration);

    let (least, most) = (gossip::Config::TTL_MIN, gossip::Config::TTL_MAX);
    let ttl = match ttl? {
        Some(Given { value, span }) if !(least..=most).contains(&value) => {
            let message = format!("`ttl` can't be {}", written(value));
            let help = format!("write \"{}\" to \"{}\"; \"30 s\" is usual", written(least), written(most));
            return Err(table.refuse(span, message, help));
        }
        ttl => ttl.map_or(default.ttl, |ttl| ttl.value),
    };
    Ok(gossip::Config {
        address: address?.map_or(default.address, |address| address.value),
        port: port?.map_or(default.port, |port| u16::try_from(port.value).expect("the range was checked")),
        peers: peers?.map_or(default.peers, |peers| peers.value),
        ttl,
    })
}

fn address(value: Value<'_>) -> Result<IpAddr, Refused> {
    let help = "write an address of this machine in quotes; \"0.0.0.0\" and \"::\" mean all of them";
    let address = value.as_str().and_then(|text| text.parse().ok());
    address.ok_or_else(|| value.refuse_kind("an IP address", help))
}

/// An endpoint: `tcp://`, a host and a port.
pub(super) fn endpoint(value: Value<'_>) -> Result<Endpoint, Refused> {
    let example = "\"tcp://hub.example:31337\"";
    let Some(text) = value.as_str() else {
        return Err(value.refuse_kind("an endpoint", format!("write it in quotes, for example {example}")));
    };
    text.parse().map_err(|error| {
        let message = format!("`{}` is no endpoint: {error}", text.escape_debug());
        value.refuse(message, format!("write for example {example}"))
    })
}

/// A list of endpoints, none of them twice.
pub(super) fn endpoints(value: Value<'_>) -> Result<Vec<Endpoint>, Refused> {
    let mut seen = Vec::new();
    let read = |value: Value<'_>| {
        let endpoint = endpoint(value.clone())?;
        if seen.contains(&endpoint) {
            return Err(value.refuse(format!("{endpoint} is given twice"), "keep one of the two"));
        }
        seen.push(endpoint.clone());
        Ok(endpoint)
    };
    let items = value.list("a list of endpoints", "[\"tcp://hub.example:31337\"]", read)?;
    Ok(items.into_iter().map(|item| item.value).collect())
}

/// `true` or `false`.
pub(super) fn yes_or_no(value: Value<'_>) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| value.refuse_kind("true or false", "write it without quotes"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::daemon::Config;
    use crate::gossip;

    #[test]
    fn an_empty_table_starts_a_hub_with_every_default() {
        let config = Config::parse("f", "[gossip]").unwrap();
        assert_eq!(config, Config { gossip: Some(gossip::Config::default()), ..Config::default() });
    }

    #[test]
    fn every_key_reaches_the_hub() {
        let text = r#"
            [gossip]
            address = "10.0.0.7"
            port = 5671
            peers = ["tcp://hub-2:31337", "tcp://10.0.0.9:5671"]
            ttl = "10 s"
        "#;
        let expected = gossip::Config {
            address: "10.0.0.7".parse().unwrap(),
            port: 5671,
            peers: vec!["tcp://hub-2:31337".parse().unwrap(), "tcp://10.0.0.9:5671".parse().unwrap()],
            ttl: Duration::from_secs(10),
        };
        assert_eq!(Config::parse("f", text).unwrap().gossip.unwrap(), expected);
    }
}
