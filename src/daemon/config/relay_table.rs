//! The tables `[relay]` and `[host]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::diagnostic::Span;
use crate::daemon::reader::{
    Given, Refused, Table, Value, bandwidth, duration, integer, one_of, text_up_to, written,
};
use crate::relay::ProxyVersion;
use crate::relay::config::{
    COMMANDS_PORT, Compatible, CompatibleHost, Config, HostConfig, HostService, Limits, Local, Place,
    Protocol, Service, TlsFiles, Trust,
};
use crate::relay::message::SERVICE_BYTES_MAX;
use crate::relay::proof::Token;

/// A shorter heartbeat would be a mistyped unit.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// The protocol tells it in milliseconds in four bytes, and nobody waits so long for a host that is gone.
const HEARTBEAT_MAX: Duration = Duration::from_secs(3600);
/// Many a service takes longer than less to answer.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// No NAT keeps the client's way open for longer.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Longer paths are none.
const PATH_BYTES_MAX: usize = 4096;

/// Reads `[relay]`.
pub(super) fn relay(table: &mut Table<'_>) -> Result<Config, Refused> {
    let default = Config::default();
    let hosts = table.optional("hosts", address);
    let heartbeat = table.optional("heartbeat", heartbeat);
    let drain = table.optional("drain", duration);
    let tls = table.optional("tls", |value| value.table(tls_files));
    let compatible = table.optional("compatible", |value| value.table(compatible));
    let services = table.optional("service", |value| value.tables(service));
    let (compatible, services) = (compatible?, services?);
    if compatible.is_none() && services.is_none() {
        let help = "add `[[relay.service]]`, or `[relay.compatible]` for the original protocol";
        return Err(table.refuse_missing(&["service", "compatible"], "this relay has no service", help));
    }
    let services = distinct(table, services.map_or_else(Vec::new, |services| services.value))?;
    Ok(Config {
        hosts: value_or(hosts?, default.hosts),
        compatible: compatible.map(|compatible| compatible.value),
        services,
        tls: tls?.map(|tls| tls.value),
        heartbeat: value_or(heartbeat?, default.heartbeat),
        drain: value_or(drain?, default.drain),
    })
}

/// Reads `[host]`.
pub(super) fn host(table: &mut Table<'_>) -> Result<HostConfig, Refused> {
    let relay = table.required("relay", "relay = \"relay.example:8000\"", place);
    let drain = table.optional("drain", duration);
    let tls = table.optional("tls", |value| value.table(trust));
    let compatible = table.optional("compatible", |value| value.table(compatible_host));
    let services = table.optional("service", |value| value.tables(host_service));
    let (compatible, services) = (compatible?, services?);
    if compatible.is_none() && services.is_none() {
        let help = "add `[[host.service]]`, or `[host.compatible]` for the original protocol";
        return Err(table.refuse_missing(&["service", "compatible"], "this host serves nothing", help));
    }
    let services = distinct(table, services.map_or_else(Vec::new, |services| services.value))?;
    Ok(HostConfig {
        relay: relay?.value,
        tls: tls?.map(|tls| tls.value),
        compatible: compatible.map(|compatible| compatible.value),
        services,
        drain: value_or(drain?, Duration::from_secs(30)),
    })
}

/// A service's name, its place in the file, and the rest of it.
type Named<T> = (Given<String>, T);

/// Services by their names, which are given once each.
fn distinct<T>(
    table: &Table<'_>,
    services: Vec<Result<Named<T>, Refused>>,
) -> Result<BTreeMap<String, T>, Refused> {
    let services = services.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut outcome = Ok(());
    for (i, (name, _)) in services.iter().enumerate() {
        if let Some((first, _)) = services[..i].iter().find(|(first, _)| first.value == name.value) {
            let message = format!("the service `{}` is given twice", name.value.escape_debug());
            let related = (first.span.clone(), "here first");
            outcome = Err(table.refuse_with(name.span.clone(), message, "give each its own name", related));
        }
    }
    outcome.map(|()| services.into_iter().map(|(name, rest)| (name.value, rest)).collect())
}

fn value_or<T>(given: Option<Given<T>>, default: T) -> T {
    given.map_or(default, |given| given.value)
}

fn service(table: &mut Table<'_>) -> Result<Named<Service>, Refused> {
    let name = table.required("name", "name = \"ssh\"", text_up_to(SERVICE_BYTES_MAX));
    let clients = table.required("clients", "clients = \"0.0.0.0:2222\"", entrance);
    let protocol = clients.as_ref().map_or(Protocol::Tcp, |clients| clients.value.0);
    let token = token(table);
    let idle = table.optional("idle", idle);
    let limits = limits(table, protocol);
    let (clients, idle, mut limits) = (clients?, idle?, limits?);
    match (protocol, idle) {
        (Protocol::Udp, Some(idle)) => limits.idle = idle.value,
        (Protocol::Tcp, Some(idle)) => {
            let message = "sessions over TCP have an end of their own, and no `idle`";
            let help = "leave it out, or write `clients = \"udp:...\"` for a UDP service";
            return Err(table.refuse(idle.span, message, help));
        }
        (_, None) => {}
    }
    Ok((name?, Service { clients: clients.value.1, protocol, token: token?, limits }))
}

fn compatible(table: &mut Table<'_>) -> Result<Compatible, Refused> {
    let default = Compatible::default();
    let commands = table.optional("commands", address);
    let clients = table.optional("clients", address);
    let limits = limits(table, Protocol::Tcp);
    Ok(Compatible {
        commands: value_or(commands?, default.commands),
        clients: value_or(clients?, default.clients),
        limits: limits?,
    })
}

fn limits(table: &mut Table<'_>, protocol: Protocol) -> Result<Limits, Refused> {
    let default = Limits::of(protocol);
    let connections = table.optional("connections", integer(1..=1_000_000, 100));
    let waiting = table.optional("waiting", integer(0..=1_000_000, 100));
    let wait = table.optional("wait", duration);
    let rate = table.optional("rate", integer(1..=1_000_000, 50));
    let bandwidth = table.optional("bandwidth", bandwidth);
    let allow = table
        .optional("allow", |value| value.list("a list of networks", "`allow = [\"10.0.0.0/8\"]`", network));
    let hosts = table.optional("hosts", integer(1..=100_000, 2));
    let pool = table.optional("pool", integer(0..=1000, 4));
    let pool_max = table.optional("pool_max", integer(1..=10_000, 64));
    let number = |given: Option<Given<u64>>, default| given.map_or(default, |given| given.value as usize);
    let (pool, pool_max) = (pool?, pool_max?);
    let limits = Limits {
        connections: number(connections?, default.connections),
        waiting: number(waiting?, default.waiting),
        wait: value_or(wait?, default.wait),
        rate: rate?.map(|rate| rate.value as u32),
        bandwidth: bandwidth?.map(|bandwidth| bandwidth.value),
        allow: allow?.map_or_else(Vec::new, |allow| allow.value.into_iter().map(|net| net.value).collect()),
        hosts: number(hosts?, default.hosts),
        pool: number(pool.clone(), default.pool),
        pool_max: number(pool_max.clone(), default.pool_max),
        idle: default.idle,
    };
    if limits.pool > limits.pool_max {
        let span = pool_max.or(pool).map_or_else(|| table.span(), |given| given.span);
        let message = format!("`pool` ({}) is more than `pool_max` ({})", limits.pool, limits.pool_max);
        return Err(table.refuse(span, message, "a pool grows from `pool` to `pool_max`"));
    }
    Ok(limits)
}

/// `token`, or `token_file` with the token on its first line. Neither is no token.
fn token(table: &mut Table<'_>) -> Result<Token, Refused> {
    let token = table.optional("token", |value| {
        let text = value.text()?;
        Token::new(text).ok_or_else(|| refuse_token(&value, text.len()))
    });
    let file = table.optional("token_file", |value| {
        let path = value.text()?;
        let content = std::fs::read_to_string(path).map_err(|error| {
            value.refuse(
                format!("`{}` can't be read: {error}", path.escape_debug()),
                "write the path of a file",
            )
        })?;
        let line = content.lines().next().unwrap_or_default();
        Token::new(line).ok_or_else(|| refuse_token(&value, line.len()))
    });
    match (token?, file?) {
        (Some(_), Some(file)) => {
            Err(table.refuse(file.span, "`token` and `token_file` do not go together", "keep one of the two"))
        }
        (token, file) => Ok(token.or(file).map(|token| token.value).unwrap_or_default()),
    }
}

fn refuse_token(value: &Value<'_>, length: usize) -> Refused {
    let message = format!("the token of {} has {length} bytes", value.name());
    let (least, most) = (Token::BYTES_MIN, Token::BYTES_MAX);
    value.refuse(
        message,
        format!("take one of {least} to {most} bytes, for example from `openssl rand -hex 32`"),
    )
}

fn tls_files(table: &mut Table<'_>) -> Result<TlsFiles, Refused> {
    let certificate = table.required("certificate", "certificate = \"relay.pem\"", path);
    let key = table.required("key", "key = \"relay.key\"", path);
    Ok(TlsFiles { certificate: certificate?.value, key: key?.value })
}

fn trust(table: &mut Table<'_>) -> Result<Trust, Refused> {
    let authority = table.optional("authority", path);
    let name = table.optional("name", text_up_to(255));
    let pin = table.optional("pin", |value| {
        let help = "write 64 hexadecimal digits: the SHA-256 of the certificate in DER";
        let text = value.as_str().ok_or_else(|| value.refuse_kind("a hash", help))?;
        Trust::pin(text).ok_or_else(|| value.refuse_kind("a hash", help))
    });
    match (authority?, pin?, name?) {
        (Some(authority), None, name) => {
            Ok(Trust::Authority { file: authority.value, name: name.map(|name| name.value) })
        }
        (None, Some(pin), None) => Ok(pin.value),
        (None, Some(_), Some(name)) => {
            Err(table.refuse(name.span, "a pinned certificate needs no `name`", "leave it out"))
        }
        (Some(_), Some(pin), _) => {
            Err(table.refuse(pin.span, "`authority` and `pin` do not go together", "keep one of the two"))
        }
        (None, None, _) => Err(table.refuse_missing(
            &["authority", "pin"],
            "nothing says how to know the relay",
            "add `authority = \"ca.pem\"` or `pin`",
        )),
    }
}

fn compatible_host(table: &mut Table<'_>) -> Result<CompatibleHost, Refused> {
    let to = table.required("to", "to = \"127.0.0.1:22\"", place);
    let commands_port = table.optional("commands_port", integer(1..=65535, COMMANDS_PORT.into()));
    let connections = table.optional("connections", integer(1..=1000, 10));
    let connections_max = table.optional("connections_max", integer(1..=100_000, 1000));
    let default = CompatibleHost::new(to?.value);
    let connections = connections?.map_or(default.connections, |given| given.value as usize);
    Ok(CompatibleHost {
        commands_port: commands_port?.map_or(default.commands_port, |given| given.value as u16),
        connections,
        connections_max: connections_max?
            .map_or(default.connections_max, |given| given.value as usize)
            .max(connections),
        ..default
    })
}

fn host_service(table: &mut Table<'_>) -> Result<Named<HostService>, Refused> {
    const VERSIONS: [(&str, ProxyVersion); 2] = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
    let name = table.required("name", "name = \"ssh\"", text_up_to(SERVICE_BYTES_MAX));
    let to = table.required("to", "to = \"127.0.0.1:22\"", local);
    let token = token(table);
    let proxy = table.optional("proxy", one_of(&VERSIONS));
    let check = table.optional("check", |value| {
        let check = duration(value.clone())?;
        if check < HEARTBEAT_MIN {
            let message = format!("a check every {} keeps the service busy", written(check));
            return Err(value.refuse(message, "write at least \"100 ms\"; \"5 s\" is usual"));
        }
        Ok(check)
    });
    let connections_max = table.optional("connections_max", integer(1..=1_000_000, 1000));
    let (to, proxy, check) = (to?.value, proxy?, check?);
    let no_proxy = match to {
        Local::Port(_) => None,
        Local::Udp(_) => Some("a UDP service has no connection that a PROXY header could begin"),
        Local::Node => Some("a ZRE node takes no PROXY header"),
    };
    if let (Some(message), Some(proxy)) = (no_proxy, &proxy) {
        return Err(table.refuse(proxy.span.clone(), message, "leave `proxy` out"));
    }
    if let (Local::Udp(_), Some(check)) = (&to, &check) {
        let message = "a UDP service can't be checked: nobody knows what it answers to";
        return Err(table.refuse(check.span.clone(), message, "leave `check` out"));
    }
    let service = HostService {
        to,
        token: token?,
        proxy: proxy.map(|proxy| proxy.value),
        check: check.map(|check| check.value),
        connections_max: connections_max?.map_or(HostService::CONNECTIONS_MAX, |given| given.value as usize),
    };
    Ok((name?, service))
}

/// A place, `udp:` and a place, or `zre` for this program's own node.
fn local(value: Value<'_>) -> Result<Local, Refused> {
    if value.as_str() == Some("zre") { Ok(Local::Node) } else { parsed_place(value) }
}

/// A node that is served through a relay must be there, and tell others where the relay is: `has_way` says whether.
pub(super) fn refuse_hidden_node(
    table: &Table<'_>,
    has_way: Option<bool>,
    service: Span,
) -> Result<(), Refused> {
    match has_way {
        Some(true) => Ok(()),
        Some(false) => Err(table.refuse(
            service,
            "nobody learns that the node is reached through the relay",
            "add `advertise` to `[zre]`: the relay's name and the port that it has for this service",
        )),
        None => Err(table.refuse(
            service,
            "`to = \"zre\"` is this program's own node, and there is none",
            "add `[zre]`, or write a place like \"127.0.0.1:22\"",
        )),
    }
}

fn heartbeat(value: Value<'_>) -> Result<Duration, Refused> {
    let heartbeat = duration(value.clone())?;
    if !(HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&heartbeat) {
        let message = format!("a `heartbeat` of {} is of no use", written(heartbeat));
        return Err(value.refuse(message, "write \"100 ms\" to \"1 h\"; \"15 s\" is usual"));
    }
    Ok(heartbeat)
}

fn address(value: Value<'_>) -> Result<SocketAddr, Refused> {
    let help = "write it like \"0.0.0.0:8000\" or \"[::]:8000\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("an address and a port", help))?;
    text.parse().map_err(|_| value.refuse_kind("an address and a port", help))
}

/// An address, or `udp:` and an address.
fn entrance(value: Value<'_>) -> Result<(Protocol, SocketAddr), Refused> {
    let help = "write it like \"0.0.0.0:2222\", or \"udp:0.0.0.0:53\" for a UDP service";
    let (protocol, text) = value
        .as_str()
        .map(Protocol::split)
        .ok_or_else(|| value.refuse_kind("an address and a port", help))?;
    let at = text.parse().map_err(|_| value.refuse_kind("an address and a port", help))?;
    Ok((protocol, at))
}

fn idle(value: Value<'_>) -> Result<Duration, Refused> {
    let idle = duration(value.clone())?;
    if !(IDLE_MIN..=IDLE_MAX).contains(&idle) {
        let message = format!("sessions that end after {} of silence are of no use", written(idle));
        return Err(value.refuse(message, "write \"1 s\" to \"1 h\"; \"2 min\" is usual"));
    }
    Ok(idle)
}

fn place(value: Value<'_>) -> Result<Place, Refused> {
    parsed_place(value)
}

fn parsed_place<T: std::str::FromStr<Err = &'static str>>(value: Value<'_>) -> Result<T, Refused> {
    let help = "write a name or an address and a port, like \"relay.example:8000\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("a place", help))?;
    text.parse()
        .map_err(|problem| value.refuse(format!("`{}` is no place: {problem}", text.escape_debug()), help))
}

fn network(value: Value<'_>) -> Result<ipnet::IpNet, Refused> {
    let help = "write it like \"10.0.0.0/8\" or \"2001:db8::1\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("a network", help))?;
    let address = || text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| value.refuse_kind("a network", help))
}

pub(super) fn path(value: Value<'_>) -> Result<PathBuf, Refused> {
    text_up_to(PATH_BYTES_MAX)(value).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use crate::daemon::Config as Daemon;
    use crate::relay::config::{HostConfig, HostService, Limits, Local, Protocol};
    use crate::relay::proof::Token;

    #[test]
    fn every_key_reaches_relay_and_host() {
        let file = r#"
            [relay]
            hosts = "[::]:9000"
            heartbeat = "5 s"
            drain = "1 s"
            tls = { certificate = "c.pem", key = "k.pem" }
            compatible = { commands = "127.0.0.1:9001", clients = "127.0.0.1:9002", connections = 7 }
            [[relay.service]]
            name = "ssh"
            clients = "0.0.0.0:2222"
            token = "0123456789abcdef"
            connections = 10
            waiting = 3
            wait = "2 s"
            rate = 50
            bandwidth = "20 Mbit/s"
            allow = ["10.0.0.0/8", "2001:db8::1"]
            hosts = 2
            pool = 1
            pool_max = 9
            [[relay.service]]
            name = "dns"
            clients = "udp:0.0.0.0:53"
            idle = "5 s"
            [host]
            relay = "relay.example:9000"
            drain = "2 s"
            tls = { authority = "ca.pem", name = "relay" }
            compatible = { to = "127.0.0.1:80", commands_port = 9001, connections = 3, connections_max = 5 }
            [[host.service]]
            name = "ssh"
            to = "localhost:22"
            token = "0123456789abcdef"
            proxy = "v2"
            check = "5 s"
            connections_max = 100
            [[host.service]]
            name = "dns"
            to = "udp:127.0.0.1:53"
        "#;
        let Daemon { relay, host, .. } = Daemon::parse("f", file).unwrap();
        let (relay, host) = (relay.unwrap(), host.unwrap());
        let udp = relay.clone();
        let ssh = &relay.services["ssh"];
        let limits = Limits {
            connections: 10,
            waiting: 3,
            wait: std::time::Duration::from_secs(2),
            rate: Some(50),
            bandwidth: Some(20_000_000),
            allow: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
            hosts: 2,
            pool: 1,
            pool_max: 9,
            ..Limits::default()
        };
        assert_eq!((ssh.clients.port(), &ssh.limits), (2222, &limits));
        assert_eq!(ssh.token, Token::new("0123456789abcdef").unwrap());
        assert_eq!((relay.hosts.port(), relay.heartbeat.as_secs(), relay.drain.as_secs()), (9000, 5, 1));
        assert_eq!(relay.compatible.unwrap().limits.connections, 7);
        let HostConfig { relay, tls, compatible, services, drain } = host;
        assert_eq!((relay.to_string(), drain.as_secs()), ("relay.example:9000".to_owned(), 2));
        assert!(tls.is_some() && compatible.unwrap().connections_max == 5);
        let expected = HostService {
            to: Local::Port("localhost:22".parse().unwrap()),
            token: Token::new("0123456789abcdef").unwrap(),
            proxy: Some(crate::relay::ProxyVersion::V2),
            check: Some(std::time::Duration::from_secs(5)),
            connections_max: 100,
        };
        assert_eq!(services["ssh"], expected);
        let dns = &udp.services["dns"];
        assert_eq!((dns.protocol, dns.clients.port()), (Protocol::Udp, 53));
        assert_eq!((dns.limits.idle.as_secs(), dns.limits.connections), (5, Limits::UDP_CONNECTIONS));
        assert_eq!(services["dns"].to, Local::Udp("127.0.0.1:53".parse().unwrap()));
    }
}
