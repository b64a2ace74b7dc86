//! Docker in scenario files, as its users think of it: hosts, networks, containers.
//!
//! Here they become what the rest knows: a host is a machine that passes on what its containers send, a network is a
//! segment whose members are containers, a container is a node. Prefixes that the file leaves out are those that an
//! engine with its default pools would take, without those that something else in the file uses.

use std::net::Ipv4Addr;
use std::time::Duration;

use hailer::daemon::Config;
use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Given, Refused, Table, Value, integer, one_of};
use ipnet::Ipv4Net;

use super::link::{link, moments};
use super::machine::clock;
use super::names::{Names, name};
use super::nodes::{NODES_MAX, RawAttachment, RawKind, RawNode, attachments, refuse_late_start};
use super::routes::{RawRoutes, routes};
use super::segments::{Segments, prefix};
use super::{Clock, Delay, Direction, Link, Medium, Protocol, Published, Segment, SegmentIndex};

/// What a packet takes from one container to another through a bridge: two virtual cables.
const CABLE_DELAY: Duration = Duration::from_micros(10);
/// The MTU of an overlay: what VXLAN leaves of Ethernet's.
const OVERLAY_MTU: u16 = 1450;
/// A network that every host has. Its containers are found by their addresses only.
const DEFAULT_BRIDGE: &str = "bridge";
/// The network of the machine itself.
const HOST: &str = "host";

/// Docker's machines and containers, as they are written.
#[derive(Default)]
pub(super) struct Docker {
    pub(super) hosts: Vec<RawNode>,
    pub(super) containers: Vec<Result<RawNode, Refused>>,
    /// Something is missing, and the user knows.
    pub(super) refused: Option<Refused>,
}

/// A network that containers are plugged into.
#[derive(Clone)]
struct Network {
    segment: SegmentIndex,
    /// The places of the hosts that it is on.
    hosts: Vec<usize>,
}

/// What has been read of Docker, for the tables that come after.
struct Engine<'s> {
    segments: &'s mut Segments,
    hosts: Vec<RawNode>,
    host_names: Names<usize>,
    networks: Names<Network>,
}

/// Takes `[[docker_host]]`, `[[docker_network]]` and `[[container]]`.
pub(super) fn docker(file: &mut Table<'_>, segments: &mut Segments, end: Option<Duration>) -> Docker {
    let (host_names, networks) = (Names::new("Docker host"), Names::new("Docker network"));
    let mut engine = Engine { segments, hosts: Vec::new(), host_names, networks };
    let hosts =
        file.optional("docker_host", |value| value.tables(|table| docker_host(table, engine.segments)));
    for host in all(hosts) {
        match host {
            Ok(host) => {
                let place = engine.hosts.len();
                engine.host_names.add(file, &host.name.value, host.name.span.clone(), place);
                engine.hosts.push(host);
            }
            Err(refused) => engine.host_names.refuse(refused),
        }
    }
    let networks =
        file.optional("docker_network", |value| value.tables(|table| docker_network(table, &engine)));
    for network in all(networks) {
        match network {
            Ok(raw) => engine.add_network(file, raw),
            Err(refused) => engine.networks.refuse(refused),
        }
    }
    let containers =
        file.optional("container", |value| value.tables(|table| container(table, &mut engine, end)));
    let containers = all(containers);
    let published = refuse_shared_ports(file, &containers);
    let complete = engine.host_names.complete().and(engine.networks.complete()).and(published);
    Docker { hosts: engine.hosts, containers, refused: complete.err() }
}

type Tables<T> = Result<Option<Given<Vec<Result<T, Refused>>>>, Refused>;

fn all<T>(tables: Tables<T>) -> Vec<Result<T, Refused>> {
    match tables {
        Ok(tables) => tables.map_or_else(Vec::new, |tables| tables.value),
        Err(refused) => vec![Err(refused)],
    }
}

fn docker_host(table: &mut Table<'_>, segments: &Segments) -> Result<RawNode, Refused> {
    let name = table.required("name", "name = \"alpha\"", name);
    let attachments = attachments(table, segments, false);
    let routes = routes(table);
    let clock = table.optional("clock", clock);
    let userland_proxy = table.optional("userland_proxy", truth)?.is_none_or(|proxy| proxy.value);
    Ok(RawNode {
        name: name?,
        count: None,
        attachments: attachments?,
        start: Default::default(),
        clock: clock?.map(|clock| clock.value).unwrap_or_default(),
        config: Config::default(),
        assault: None,
        echo: None,
        identity_span: table.span(),
        is_clone: false,
        kind: RawKind::DockerHost { userland_proxy },
        routes: routes?,
        nat: None,
        published: Vec::new(),
        service: None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    Bridge,
    Overlay,
}

/// A `[[docker_network]]` as it is written.
struct RawNetwork {
    name: Given<String>,
    hosts: Vec<usize>,
    prefix: Option<Given<Ipv4Net>>,
    link: Link,
    medium: Medium,
    span: Span,
}

fn docker_network(table: &mut Table<'_>, engine: &Engine<'_>) -> Result<RawNetwork, Refused> {
    let name = table.required("name", "name = \"app\"", network_name);
    let drivers = [("bridge", Driver::Bridge), ("overlay", Driver::Overlay)];
    let driver = table.optional("driver", one_of(&drivers))?.map_or(Driver::Bridge, |driver| driver.value);
    let find = |value: &Value<'_>| engine.host_names.find(value, value.text()?).copied();
    let mut is_open = true;
    let hosts = match driver {
        Driver::Bridge => {
            let host = table.required("host", "host = \"alpha\"", |value| find(&value));
            is_open = table.optional("icc", truth)?.is_none_or(|icc| icc.value);
            vec![host?.value]
        }
        Driver::Overlay => {
            let example = "[\"alpha\", \"beta\"]";
            let hosts = table.optional("hosts", |value| {
                let hosts = value.list("a list of Docker hosts", example, |item| find(&item))?;
                Ok(hosts.into_iter().map(|host| host.value).collect())
            });
            hosts?.map_or_else(|| (0..engine.hosts.len()).collect(), |hosts| hosts.value)
        }
    };
    let medium = if driver == Driver::Bridge { Medium::Bridge { is_open } } else { Medium::Overlay };
    let prefix = table.optional("prefix", prefix);
    let link = table.optional("link", link(&cable(medium)));
    let (name, prefix, link) = (name?, prefix?, link?);
    let link = link.map_or_else(|| cable(medium), |link| link.value);
    Ok(RawNetwork { name, hosts, prefix, link, medium, span: table.span() })
}

/// The cable of a container, where the file names none.
fn cable(medium: Medium) -> Link {
    let direction = Direction { delay: Delay::Fixed(CABLE_DELAY), ..Direction::default() };
    let mtu = if medium == Medium::Overlay { OVERLAY_MTU } else { Link::default().mtu };
    Link { up: direction.clone(), down: direction, mtu }
}

fn network_name(value: Value<'_>) -> Result<String, Refused> {
    if let Some(text @ (DEFAULT_BRIDGE | HOST | "none")) = value.as_str() {
        let message = format!("every Docker host has a network `{text}` of its own");
        return Err(value.refuse(message, "write another name"));
    }
    name(value)
}

fn truth(value: Value<'_>) -> Result<bool, Refused> {
    value
        .as_bool()
        .ok_or_else(|| value.refuse_kind("true or false", "write `true` or `false`, without quotes"))
}

impl Engine<'_> {
    fn add_network(&mut self, file: &Table<'_>, raw: RawNetwork) {
        let RawNetwork { name, hosts, prefix, link, medium, span } = raw;
        let (prefix, prefix_span) = match prefix {
            Some(prefix) => (Some(prefix.value), prefix.span),
            None => (self.free_prefix(medium, &hosts), span),
        };
        let Some(prefix) = prefix else {
            let message = "all networks that Docker takes by default are in use";
            return self.networks.refuse(file.refuse(prefix_span, message, "write a `prefix`"));
        };
        let segment = Segment {
            name: name.value.clone(),
            prefix,
            prefix6: None,
            link,
            names: Default::default(),
            services: Default::default(),
            medium,
            has_names: true,
        };
        let index = self.segments.add(file, segment, name.span.clone(), prefix_span);
        self.plug_hosts(index, medium, &hosts);
        self.networks.add(file, &name.value, name.span, Network { segment: index, hosts });
    }

    /// A bridge of a host's own, made when it is first needed.
    fn own_bridge(&mut self, file: &Table<'_>, host: usize, network: &str, is_open: bool) -> SegmentIndex {
        let owner = &self.hosts[host].name;
        // No name in a file has a slash.
        let (name, span) = (format!("{}/{network}", owner.value), owner.span.clone());
        if let Some(index) = self.segments.list.iter().position(|segment| segment.name == name) {
            return SegmentIndex(index as u32);
        }
        let medium = Medium::Bridge { is_open };
        // The first of the pool is that of the default bridge, and nothing else takes it.
        let first = POOL_OF_THE_DEFAULT_BRIDGE;
        let free = self.free_prefix(medium, &[host]);
        let prefix = if network == DEFAULT_BRIDGE { first } else { free.unwrap_or(first) };
        let link = cable(medium);
        let segment = Segment {
            name,
            prefix,
            prefix6: None,
            link,
            names: Default::default(),
            services: Default::default(),
            medium,
            has_names: false,
        };
        let index = self.segments.add(file, segment, span.clone(), span);
        self.plug_hosts(index, medium, &[host]);
        index
    }

    /// A host is plugged into its bridges; of an overlay it is no member.
    fn plug_hosts(&mut self, segment: SegmentIndex, medium: Medium, hosts: &[usize]) {
        if medium != Medium::Overlay {
            let link = self.segments.list[segment.0 as usize].link.clone();
            for host in hosts {
                self.hosts[*host].attachments.push(RawAttachment {
                    segment,
                    address: None,
                    link: link.clone(),
                });
            }
        }
    }

    /// The first prefix of the engine's default pools that nothing on these hosts uses.
    fn free_prefix(&self, medium: Medium, hosts: &[usize]) -> Option<Ipv4Net> {
        let used = |segment: SegmentIndex| self.segments.list[segment.0 as usize].prefix;
        let near: Vec<Ipv4Net> = match medium {
            Medium::Overlay => self.segments.list.iter().map(|segment| segment.prefix).collect(),
            Medium::Lan | Medium::Bridge { .. } => {
                let attachments = hosts.iter().flat_map(|host| &self.hosts[*host].attachments);
                attachments.map(|attachment| used(attachment.segment)).collect()
            }
        };
        let is_free = |pool: &Ipv4Net| {
            !near.iter().any(|other| other.contains(pool) || pool.contains(other))
                && *pool != POOL_OF_THE_DEFAULT_BRIDGE
        };
        if medium == Medium::Overlay { overlay_pools().find(is_free) } else { bridge_pools().find(is_free) }
    }
}

const POOL_OF_THE_DEFAULT_BRIDGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 17, 0, 0), 16);

/// What an engine takes for bridges, in order.
fn bridge_pools() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..32).map(|second| Ipv4Net::new_assert(Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..16).map(|part| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, part * 16, 0), 20));
    large.chain(small)
}

/// What a swarm takes for overlays, in order; the first is that of its own ingress network.
fn overlay_pools() -> impl Iterator<Item = Ipv4Net> {
    (1..=u16::MAX).map(|part| {
        let [second, third] = part.to_be_bytes();
        Ipv4Net::new_assert(Ipv4Addr::new(10, second, third, 0), 24)
    })
}

fn container(
    table: &mut Table<'_>,
    engine: &mut Engine<'_>,
    end: Option<Duration>,
) -> Result<RawNode, Refused> {
    let name = table.required("name", "name = \"worker\"", name);
    let count = table.optional("count", integer(1..=NODES_MAX as u64, 3));
    let host = table
        .required("host", "host = \"alpha\"", |value| engine.host_names.find(&value, value.text()?).copied());
    let network =
        table.optional("network", |value| value.text().map(str::to_owned).map(|text| (text, value.span())));
    let published = table.optional("publish", |value| {
        value.list("a list of published ports", "[\"8000:80\", \"5670:5670/udp\"]", published)
    });
    let service = table.optional("service", super::names::name);
    let start = table.optional("start", moments);
    let echo = table.optional("echo", integer(1..=u64::from(u16::MAX), 7000));
    let config = Config::read(table);
    let identity_span = table.span_of(&["zre", "identity"]);
    let (name, count, host, network) = (name?, count?, host?.value, network?);
    let (published, service, start) = (published?, service?, start?);
    refuse_late_start(table, start.as_ref(), end)?;
    let (text, span) = network.map_or_else(|| (DEFAULT_BRIDGE.to_owned(), table.span()), |given| given.value);
    let mut kind = RawKind::Container(host);
    let attach = |engine: &Engine<'_>, segment: SegmentIndex| {
        let link = engine.segments.list[segment.0 as usize].link.clone();
        RawAttachment { segment, address: None, link }
    };
    let attachments = match text.as_str() {
        HOST => {
            kind = RawKind::HostNetwork(host);
            Vec::new()
        }
        DEFAULT_BRIDGE => {
            let own = engine.own_bridge(table, host, DEFAULT_BRIDGE, true);
            vec![attach(engine, own)]
        }
        other => {
            let network = engine.networks.find_at(table, &span, other)?.clone();
            if !network.hosts.contains(&host) {
                let host = &engine.hosts[host].name.value;
                let message = format!("the network `{other}` is not on `{host}`");
                let help = "write a network of this host, or an overlay that it is part of";
                return Err(table.refuse(span, message, help));
            }
            let mut attachments = vec![attach(engine, network.segment)];
            if engine.segments.list[network.segment.0 as usize].medium == Medium::Overlay {
                // The way out of an overlay is a bridge of the host's own.
                let way_out = engine.own_bridge(table, host, "docker_gwbridge", false);
                attachments.push(attach(engine, way_out));
            }
            attachments
        }
    };
    if let Some(given) = &published
        && let RawKind::HostNetwork(_) = kind
    {
        let message = "a container on the network of its host publishes nothing: its ports are the host's";
        return Err(table.refuse(given.span.clone(), message, "drop `publish`"));
    }
    if let (Some(given), Some(many)) = (&published, &count)
        && many.value > 1
    {
        let help = "write a `[[container]]` for each, with ports of its own";
        return Err(table.refuse(given.span.clone(), "several containers can't publish the same port", help));
    }
    if let (Some(given), true) = (&service, attachments.is_empty() || text == DEFAULT_BRIDGE) {
        let message = format!("nobody on the network `{text}` resolves the names of services");
        return Err(table.refuse(given.span.clone(), message, "choose a `[[docker_network]]`"));
    }
    Ok(RawNode {
        name,
        count: count.map(|count| count.value as usize),
        attachments,
        start: start.map(|start| start.value).unwrap_or_default(),
        clock: Clock::default(),
        config: config?,
        assault: None,
        echo: echo?.map(|echo| echo.value as u16),
        identity_span,
        is_clone: false,
        kind,
        routes: RawRoutes::default(),
        published: published.map_or_else(Vec::new, |published| published.value),
        service: service.map(|service| service.value),
        nat: None,
    })
}

/// A published port as `docker run -p` takes it: `"8000:80"`, `"5670:5670/udp"`.
fn published(value: Value<'_>) -> Result<Published, Refused> {
    let help = "write the host's port and the container's, for example \"8000:80\" or \"5670:5670/udp\"";
    let refuse = || value.refuse_kind("a published port", help);
    let text = value.text()?;
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(refuse()),
    };
    let (outer, inner) = ports.split_once(':').ok_or_else(refuse)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(refuse);
    Ok(Published { protocol, port: port(outer)?, to: port(inner)? })
}

/// A port of a host is published for one container.
fn refuse_shared_ports(file: &Table<'_>, containers: &[Result<RawNode, Refused>]) -> Result<(), Refused> {
    let mut outcome = Ok(());
    let mut taken: Vec<(usize, Protocol, u16, Span)> = Vec::new();
    for raw in containers.iter().flatten() {
        let RawKind::Container(host) = raw.kind else { continue };
        for given in &raw.published {
            let Published { protocol, port, .. } = given.value;
            let same =
                |other: &&(usize, Protocol, u16, Span)| (other.0, other.1, other.2) == (host, protocol, port);
            if let Some((.., first)) = taken.iter().find(same) {
                let message = format!("port {port} of this host is published already");
                let related = (first.clone(), "here");
                outcome = Err(file.refuse_with(given.span.clone(), message, "write another port", related));
            }
            taken.push((host, protocol, port, given.span.clone()));
        }
    }
    outcome
}
