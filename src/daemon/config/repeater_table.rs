//! The table `[repeater]`.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::gossip_table::endpoints;
use super::relay_table::path;
use crate::daemon::reader::{Given, Refused, Table, Value, duration, integer, one_of, text_up_to, written};
use crate::repeater::{Announce, Config, Consul, Filter, Place, Registry, Tls};
use crate::tls::TlsFiles;

/// The longest name of a host or an interface.
const NAME_BYTES_MAX: usize = 255;
/// More repeaters than this are a matter for a registry.
const LIST_MAX: usize = 256;
/// Between two questions to the DNS.
const DNS_INTERVAL: Duration = Duration::from_secs(5);
const DNS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The shortest time that a registration may hold: it is renewed three times in it.
const TTL_MIN: Duration = Duration::from_secs(1);
/// The group and port by which repeaters find each other: of the range that organisations use as they like (RFC 2365).
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 23, 40);

/// Reads the settings of a repeater.
///
/// # Errors
/// When one is wrong, or contradicts another.
pub(super) fn read(table: &mut Table<'_>) -> Result<Config, Refused> {
    let default = Config::default();
    let port = || integer(1..=u64::from(u16::MAX), u64::from(Config::PUBLISH_PORT));
    let interfaces = table.optional("interfaces", |value| {
        value.list("a list of interfaces", "`[\"eth0\"]`", text_up_to(NAME_BYTES_MAX))
    });
    let beacon_port = table.optional("port", integer(1..=u64::from(u16::MAX), 5670));
    let publish_port = table.optional("publish_port", port());
    let advertise = table.optional("advertise", parsed::<IpAddr>("an IP address", "\"192.0.2.7\""));
    let multicast = table.optional("multicast", groups);
    let announce =
        table.optional("announce", one_of(&[("origin", Announce::Origin), ("stand-in", Announce::StandIn)]));
    let stand_in_ports = table.optional("stand_in_ports", ports);
    let relay = table.optional("relay", truth);
    let connections_max = table.optional("connections_max", integer(1..=65536, 256));
    let publish = table.optional("publish", filter);
    let accept = table.optional("accept", filter);
    let dont_ip = table.optional("dont_ip", |value| {
        value.list("a list of addresses", "`[\"10.0.0.5\"]`", parsed("an IP address", "\"10.0.0.5\""))
    });
    let repeaters = table.optional("repeaters", places);
    let dns = table.optional("dns", |value| value.table(read_dns));
    let consul = table.optional("consul", |value| value.table(read_consul));
    let finder = table.optional("multicast_registry", |value| value.table(read_multicast));
    let gossip = table.optional("gossip", endpoints);

    let relay = relay?.is_some_and(|relay| relay.value);
    // Without a route to them, nobody could do anything with the addresses of nodes elsewhere.
    let announce_default = if relay { Announce::StandIn } else { default.announce };
    let repeaters = repeaters?.map(|repeaters| Registry::Static(repeaters.value));
    let gossip = gossip?.map(|hubs| Registry::Gossip(hubs.value));
    let registries = [repeaters, value(dns)?, value(consul)?, value(finder)?, gossip];
    Ok(Config {
        interfaces: value(interfaces)?.unwrap_or_default().into_iter().map(|name| name.value).collect(),
        port: port_of(beacon_port?, default.port),
        publish_port: port_of(publish_port?, default.publish_port),
        advertise: value(advertise)?,
        multicast: value(multicast)?.unwrap_or_default(),
        announce: value(announce)?.unwrap_or(announce_default),
        stand_in_ports: value(stand_in_ports)?.unwrap_or(default.stand_in_ports),
        relay,
        connections_max: value(connections_max)?.map_or(default.connections_max, |most| most as usize),
        publish: value(publish)?.unwrap_or_default(),
        accept: value(accept)?.unwrap_or_default(),
        dont_ip: value(dont_ip)?.unwrap_or_default().into_iter().map(|address| address.value).collect(),
        registries: registries.into_iter().flatten().collect(),
    })
}

fn value<T>(given: Result<Option<Given<T>>, Refused>) -> Result<Option<T>, Refused> {
    Ok(given?.map(|given| given.value))
}

fn port_of(given: Option<Given<u64>>, default: u16) -> u16 {
    given.map_or(default, |port| u16::try_from(port.value).expect("the range was checked"))
}

fn truth(value: Value<'_>) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| value.refuse_kind("true or false", "write it without quotes"))
}

/// Text that means something.
fn parsed<T: FromStr>(what: &'static str, example: &'static str) -> impl Fn(Value<'_>) -> Result<T, Refused> {
    move |value| {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| value.refuse_kind(what, format!("write it like {example}")))
    }
}

fn groups(value: Value<'_>) -> Result<Vec<Ipv4Addr>, Refused> {
    let group = |value: Value<'_>| group(&value);
    let groups = value.list("a list of multicast groups", "`[\"225.25.25.25\"]`", group)?;
    Ok(groups.into_iter().map(|group| group.value).collect())
}

fn group(value: &Value<'_>) -> Result<Ipv4Addr, Refused> {
    let group = value.as_str().and_then(|text| text.parse().ok()).filter(Ipv4Addr::is_multicast);
    group.ok_or_else(|| value.refuse_kind("an IPv4 multicast group", "write it like \"225.25.25.25\""))
}

/// `"23400-24423"`.
fn ports(value: Value<'_>) -> Result<RangeInclusive<u16>, Refused> {
    let range = value.as_str().and_then(|text| {
        let (first, last) = text.split_once('-')?;
        Some(first.trim().parse().ok().filter(|first| *first != 0)?..=last.trim().parse().ok()?)
    });
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| value.refuse_kind("a range of ports", "write it like \"23400-24423\""))
}

fn filter(value: Value<'_>) -> Result<Filter, Refused> {
    value.table(|table| {
        let mut networks = |key| {
            let networks = table.optional(key, |value| {
                let network = parsed("an IP network", "\"10.0.0.0/8\"");
                value.list("a list of networks", "`[\"10.0.0.0/8\"]`", network)
            });
            Ok(networks?.map_or_else(Vec::new, |networks| {
                networks.value.into_iter().map(|network| network.value).collect()
            }))
        };
        let (allow, deny) = (networks("allow"), networks("deny"));
        Ok(Filter { allow: allow?, deny: deny? })
    })
}

fn places(value: Value<'_>) -> Result<Vec<Place>, Refused> {
    let places =
        value.clone().list("a list of repeaters", "`[\"10.1.0.2\", \"site-b.example:2340\"]`", |value| {
            place(&value, Config::PUBLISH_PORT)
        })?;
    if places.len() > LIST_MAX {
        let message = format!("{} has {} repeaters", value.name(), places.len());
        return Err(value.refuse(message, format!("write {LIST_MAX} at most, or use a registry")));
    }
    Ok(places.into_iter().map(|place| place.value).collect())
}

fn place(value: &Value<'_>, port: u16) -> Result<Place, Refused> {
    let place = value.as_str().and_then(|text| Place::parse(text, port));
    place.ok_or_else(|| {
        value.refuse_kind("a host", format!("write a name or an address, and a port if it is not {port}"))
    })
}

fn read_dns(table: &mut Table<'_>) -> Result<Registry, Refused> {
    let name = table.optional("name", |value| place(&value, Config::PUBLISH_PORT));
    let service = table.optional("service", service_name);
    let interval = table.optional("interval", duration);
    let (name, service, interval) = (name?, service?, interval?);
    if let Some(interval) = interval.as_ref().filter(|interval| interval.value < DNS_INTERVAL_MIN) {
        let message = format!("an `interval` of {} is hard on the name server", written(interval.value));
        let help = format!("write at least \"{}\"", written(DNS_INTERVAL_MIN));
        return Err(table.refuse(interval.span.clone(), message, help));
    }
    let interval = interval.map_or(DNS_INTERVAL, |interval| interval.value);
    match (name, service) {
        (Some(name), None) => Ok(Registry::Dns { name: name.value, interval }),
        (None, Some(service)) => Ok(Registry::Services { name: service.value, interval }),
        (Some(_), Some(service)) => {
            let help = "keep one of the two: a name has addresses, a service has hosts and ports";
            Err(table.refuse(service.span, "`name` and `service` do not go together", help))
        }
        (None, None) => Err(table.refuse_missing(
            &["name", "service"],
            "nothing says what to ask the name server for",
            "add `name = \"tasks.repeater\"`, or `service = \"_hailer-repeater._tcp.example\"`",
        )),
    }
}

/// The name of a service in the DNS: labels of letters, digits, `-` and `_`.
fn service_name(value: Value<'_>) -> Result<String, Refused> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(is_plain);
    let name = value.as_str().filter(|name| name.len() <= 253 && name.split('.').all(is_label));
    name.map(str::to_owned).ok_or_else(|| {
        value.refuse_kind("the name of a service", "write it like \"_hailer-repeater._tcp.example\"")
    })
}

fn read_consul(table: &mut Table<'_>) -> Result<Registry, Refused> {
    let tls = table.optional("tls", |value| value.table(read_tls));
    let port = if matches!(tls, Ok(None)) { Consul::PORT } else { Consul::TLS_PORT };
    let server = table.required("server", "server = \"127.0.0.1:8500\"", |value| place(&value, port));
    let token = table.optional("token", word);
    let datacenter = table.optional("datacenter", word);
    let service = table.optional("service", word);
    let is_registered = table.optional("catalogue", truth);
    let address = table.optional("address", parsed("an IP address", "\"192.0.2.7\""));
    let ttl = table.optional("ttl", duration);
    let keys = table.optional("keys", word);
    let (ttl, service, keys) = (ttl?, value(service)?, value(keys)?);
    if let Some(ttl) = ttl.as_ref().filter(|ttl| ttl.value < TTL_MIN) {
        let message = format!("a `ttl` of {} is over before it is renewed", written(ttl.value));
        return Err(table.refuse(ttl.span.clone(), message, "write at least \"1 s\""));
    }
    let is_registered = value(is_registered)?.unwrap_or(true);
    if !is_registered && keys.is_none() {
        let help = "add `keys = \"docker/nodes\"`, or leave `catalogue` out";
        return Err(table.refuse(table.span(), "nothing is left to ask this Consul", help));
    }
    Ok(Registry::Consul(Consul {
        server: server?.value,
        tls: value(tls)?.map(Box::new),
        token: value(token)?,
        datacenter: value(datacenter)?,
        service: is_registered.then(|| service.unwrap_or_else(|| Consul::SERVICE.to_owned())),
        address: value(address)?,
        ttl: ttl.map_or(Consul::TTL, |ttl| ttl.value),
        keys,
    }))
}

fn read_tls(table: &mut Table<'_>) -> Result<Tls, Refused> {
    let authority = table.required("authority", "authority = \"ca.pem\"", path);
    let name = table.optional("name", text_up_to(NAME_BYTES_MAX));
    let (certificate, key) = (table.optional("certificate", path), table.optional("key", path));
    let certificate = match (certificate?, key?) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate: certificate.value, key: key.value }),
        (Some(alone), None) | (None, Some(alone)) => {
            let message = "`certificate` and `key` go together";
            return Err(table.refuse(alone.span, message, "add the other one, or leave this one out"));
        }
    };
    Ok(Tls { authority: authority?.value, name: value(name)?, certificate })
}

/// What can stand in a path and a header as it is.
fn word(value: Value<'_>) -> Result<String, Refused> {
    let text = text_up_to(NAME_BYTES_MAX)(value.clone())?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if text.chars().all(is_plain) {
        Ok(text)
    } else {
        Err(value.refuse_kind("letters, digits, `-`, `_`, `.` and `/`", "Consul takes these as they are"))
    }
}

fn read_multicast(table: &mut Table<'_>) -> Result<Registry, Refused> {
    let group = table.optional("group", |value| group(&value));
    let port = table.optional("port", integer(1..=u64::from(u16::MAX), u64::from(Config::PUBLISH_PORT)));
    let ttl = table.optional("ttl", integer(1..=255, 8));
    Ok(Registry::Multicast {
        group: value(group)?.unwrap_or(GROUP),
        port: port_of(port?, Config::PUBLISH_PORT),
        ttl: value(ttl)?.map_or(8, |ttl| ttl as u8),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon;

    fn read(text: &str) -> Config {
        daemon::Config::parse("f", text).unwrap().repeater.unwrap()
    }

    #[test]
    fn an_empty_table_is_a_repeater_that_waits_for_others() {
        assert_eq!(read("[repeater]"), Config::default());
    }

    #[test]
    fn every_key_reaches_the_repeater() {
        let config = read(
            r#"
            [repeater]
            interfaces = ["eth0", "eth1"]
            port = 5671
            publish_port = 2341
            advertise = "192.0.2.7"
            multicast = ["225.25.25.25"]
            announce = "stand-in"
            stand_in_ports = "30000-30009"
            relay = true
            connections_max = 7
            publish = { allow = ["10.0.0.0/8"] }
            accept = { deny = ["10.9.0.0/16"] }
            dont_ip = ["10.0.0.5"]
            repeaters = ["10.1.0.2", "site-b.example:7"]
            dns = { name = "tasks.repeater", interval = "1 s" }
            multicast_registry = { group = "239.1.1.1", port = 7, ttl = 2 }
            gossip = ["tcp://hub.example:31337"]
            [repeater.consul]
            server = "consul"
            tls = { authority = "ca.pem", name = "server.dc1.consul", certificate = "own.pem", key = "own.key" }
            token = "t"
            datacenter = "dc2"
            service = "s"
            address = "192.0.2.8"
            ttl = "9 s"
            keys = "docker/nodes"
            "#,
        );
        let place = |text: &str| Place::parse(text, 2340).unwrap();
        let expected = Config {
            interfaces: vec!["eth0".into(), "eth1".into()],
            port: 5671,
            publish_port: 2341,
            advertise: Some("192.0.2.7".parse().unwrap()),
            multicast: vec![Ipv4Addr::new(225, 25, 25, 25)],
            announce: Announce::StandIn,
            stand_in_ports: 30000..=30009,
            relay: true,
            connections_max: 7,
            publish: Filter { allow: vec!["10.0.0.0/8".parse().unwrap()], deny: vec![] },
            accept: Filter { allow: vec![], deny: vec!["10.9.0.0/16".parse().unwrap()] },
            dont_ip: vec!["10.0.0.5".parse().unwrap()],
            registries: vec![
                Registry::Static(vec![place("10.1.0.2"), place("site-b.example:7")]),
                Registry::Dns { name: place("tasks.repeater"), interval: Duration::from_secs(1) },
                Registry::Consul(Consul {
                    server: place("consul:8501"),
                    tls: Some(Box::new(Tls {
                        authority: "ca.pem".into(),
                        name: Some("server.dc1.consul".into()),
                        certificate: Some(TlsFiles { certificate: "own.pem".into(), key: "own.key".into() }),
                    })),
                    token: Some("t".into()),
                    datacenter: Some("dc2".into()),
                    service: Some("s".into()),
                    address: Some("192.0.2.8".parse().unwrap()),
                    ttl: Duration::from_secs(9),
                    keys: Some("docker/nodes".into()),
                }),
                Registry::Multicast { group: Ipv4Addr::new(239, 1, 1, 1), port: 7, ttl: 2 },
                Registry::Gossip(vec!["tcp://hub.example:31337".parse().unwrap()]),
            ],
        };
        assert_eq!(config, expected);
        let service = "[repeater]\ndns = { service = \"_hailer-repeater._tcp.example\", interval = \"1 s\" }";
        let expected = Registry::Services {
            name: "_hailer-repeater._tcp.example".into(),
            interval: Duration::from_secs(1),
        };
        assert_eq!(read(service).registries, [expected]);
        assert_eq!(read("[repeater]\nrelay = true").announce, Announce::StandIn);
    }
}
