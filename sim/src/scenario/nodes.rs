//! Nodes in scenario files: counts are expanded here and addresses are given out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hailer::daemon::Config;
use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Given, Refused, Table, Value, integer, written};
use hailer::zre::{PeerId, Text};
use ipnet::Ipv6Net;

use super::docker::Docker;
use super::link::{link, moments};
use super::machine::clock;
use super::names::{Names, name};
use super::nat::{RawNat, give_nats};
use super::routes::{RawRoutes, give_routes, router, routes};
use super::segments::{NARROW_HELP, Segments, narrow};
use super::{
    Attachment, Clock, Kind, Link, MTU6_MIN, Medium, Node, NodeIndex, Published, Segment, SegmentIndex,
};

/// The most nodes a scenario can have. Each runs a whole program; a larger count is a mistyped one.
pub(super) const NODES_MAX: usize = 10_000;

/// The nodes of a file.
pub(super) struct Nodes {
    pub(super) list: Vec<Node>,
    names: Names<Vec<NodeIndex>>,
}

/// What kind of machine a table is about. Docker hosts are named by their places among each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawKind {
    Computer,
    Router,
    DockerHost {
        /// Whether its engine runs its userland proxy.
        userland_proxy: bool,
    },
    Container(usize),
    HostNetwork(usize),
}

/// A `[[node]]`, `[[container]]`, `[[router]]` or `[[docker_host]]` as it is written.
pub(super) struct RawNode {
    pub(super) name: Given<String>,
    pub(super) count: Option<usize>,
    pub(super) attachments: Vec<RawAttachment>,
    pub(super) start: (Duration, Duration),
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) assault: Option<SocketAddr>,
    pub(super) echo: Option<u16>,
    pub(super) identity_span: Span,
    /// Its identity may be that of a node before it.
    pub(super) is_clone: bool,
    pub(super) kind: RawKind,
    pub(super) routes: RawRoutes,
    pub(super) nat: Option<RawNat>,
    pub(super) published: Vec<Given<Published>>,
    /// The service that a container is a task of.
    pub(super) service: Option<String>,
}

/// An interface as it is written.
pub(super) struct RawAttachment {
    pub(super) segment: SegmentIndex,
    pub(super) address: Option<Given<Ipv4Addr>>,
    pub(super) link: Link,
}

/// Takes `[[node]]` and `[[router]]`, and what was read of Docker. Nodes start before `end`, when that is known.
pub(super) fn nodes(
    file: &mut Table<'_>,
    segments: &mut Segments,
    docker: Docker,
    end: Option<Duration>,
) -> Nodes {
    let mut nodes = Nodes { list: Vec::new(), names: Names::new("node") };
    let Docker { hosts: docker_hosts, containers, refused } = docker;
    if let Some(refused) = refused {
        nodes.names.refuse(refused);
    }
    let docker_host_count = docker_hosts.len();
    let read = |value: Value<'_>| value.tables(|table| node(table, segments, end));
    let tables = if containers.is_empty() {
        file.required("node", "[[node]]", read)
    } else {
        file.optional("node", read)
            .map(|tables| tables.unwrap_or_else(|| Given { value: Vec::new(), span: 0..0 }))
    };
    let routers = file.optional("router", |value| value.tables(|table| router(table, segments)));
    let routers = routers.map(|routers| routers.map_or_else(Vec::new, |routers| routers.value));
    let mut raws = Vec::new();
    let tables = tables.map_or_else(|refused| vec![Err(refused)], |tables| tables.value);
    let routers = routers.unwrap_or_else(|refused| vec![Err(refused)]);
    let docker_hosts = docker_hosts.into_iter().map(Ok);
    for table in tables.into_iter().chain(containers).chain(routers).chain(docker_hosts) {
        match table {
            Ok(raw) => raws.push(raw),
            Err(refused) => nodes.names.refuse(refused),
        }
    }
    if raws.iter().map(|raw| raw.count.unwrap_or(1)).sum::<usize>() > NODES_MAX {
        let span = raws.last().map_or_else(|| file.span(), |raw| raw.name.span.clone());
        let message = format!("these are more than {NODES_MAX} nodes");
        nodes.names.refuse(file.refuse(span, message, "write smaller counts"));
        return nodes;
    }
    let total = raws.iter().map(|raw| raw.count.unwrap_or(1)).sum::<usize>();
    for raw in &raws {
        let first = nodes.list.len() as u32;
        let count = raw.count.unwrap_or(1);
        let all: Vec<_> = (first..first + count as u32).map(NodeIndex).collect();
        nodes.names.add(file, &raw.name.value, raw.name.span.clone(), all);
        for i in 0..count {
            let docker_host = |place: usize| NodeIndex((total - docker_host_count + place) as u32);
            let node = expanded(raw, i, docker_host);
            if raw.count.is_some() {
                let index = NodeIndex(nodes.list.len() as u32);
                nodes.names.add(file, &node.name, raw.name.span.clone(), vec![index]);
            }
            nodes.list.push(node);
        }
    }
    if let Err(refused) = refuse_shared_identities(file, &raws) {
        nodes.names.refuse(refused);
    }
    // Addresses that follow from a part of the file only would be refused for the wrong reasons.
    if nodes.names.complete().and(segments.names.complete()).is_ok()
        && let Err(refused) = give_addresses(file, segments, &raws, &mut nodes.list)
            .and_then(|()| give_routes(file, segments, &raws, &mut nodes.list))
            .and_then(|()| give_nats(file, segments, &raws, &mut nodes.list))
    {
        nodes.names.refuse(refused);
    }
    name_services(segments, &raws, &nodes.list);
    nodes
}

/// Lets the tasks of each service be found by its name: the engine's own DNS has `tasks.NAME` for them on an overlay, and
/// Compose gives a bridge the name of the service as another name of its containers.
fn name_services(segments: &mut Segments, raws: &[RawNode], nodes: &[Node]) {
    let written = raws.iter().flat_map(|raw| std::iter::repeat_n(raw, raw.count.unwrap_or(1)));
    for (node, raw) in nodes.iter().zip(written) {
        let (Some(service), Some(own)) = (&raw.service, node.interfaces.first()) else { continue };
        let segment = &mut segments.list[own.segment.0 as usize];
        let name = match segment.medium {
            Medium::Overlay => format!("tasks.{service}"),
            Medium::Lan | Medium::Bridge { .. } => service.clone(),
        };
        segment.names.entry(name).or_default().push(IpAddr::V4(own.address));
    }
}

fn node(table: &mut Table<'_>, segments: &Segments, end: Option<Duration>) -> Result<RawNode, Refused> {
    let name = table.required("name", "name = \"n\"", name);
    let count = table.optional("count", integer(1..=NODES_MAX as u64, 30));
    let is_many = matches!(&count, Ok(Some(count)) if count.value > 1);
    let attachments = attachments(table, segments, is_many);
    let routes = routes(table);
    let start = table.optional("start", moments);
    let clock = table.optional("clock", clock);
    let echo = table.optional("echo", integer(1..=u64::from(u16::MAX), 7000));
    let config = Config::read(table);
    let assault = table.optional("assault", place);
    let is_clone = table.optional("clone", flag);
    let start = start?;
    refuse_late_start(table, start.as_ref(), end)?;
    Ok(RawNode {
        name: name?,
        count: count?.map(|count| count.value as usize),
        attachments: attachments?,
        start: start.map(|start| start.value).unwrap_or_default(),
        clock: clock?.map(|clock| clock.value).unwrap_or_default(),
        config: config?,
        assault: assault?.map(|assault| assault.value),
        echo: echo?.map(|echo| echo.value as u16),
        identity_span: table.span_of(&["zre", "identity"]),
        is_clone: is_clone?.is_some_and(|is_clone| is_clone.value),
        kind: RawKind::Computer,
        routes: routes?,
        nat: None,
        published: Vec::new(),
        service: None,
    })
}

pub(super) fn flag(value: Value<'_>) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| value.refuse_kind("true or false", "write `true` or `false`"))
}

/// The inbox of a node.
fn place(value: Value<'_>) -> Result<SocketAddr, Refused> {
    let help = "write an address and a port in quotes, for example \"10.0.0.1:49152\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("an address and a port", help))?;
    text.parse().map_err(|_| value.refuse_kind("an address and a port", help))
}

/// Nothing starts when the run is over.
pub(super) fn refuse_late_start(
    table: &Table<'_>,
    start: Option<&Given<(Duration, Duration)>>,
    end: Option<Duration>,
) -> Result<(), Refused> {
    let (Some(start), Some(end)) = (start, end) else { return Ok(()) };
    if start.value.1 < end {
        return Ok(());
    }
    let message = format!("this node starts when the run is over, at {}", written(end));
    Err(table.refuse(start.span.clone(), message, "write an earlier moment, or a longer `duration`"))
}

/// Either `segment` with `address` and `link`, or `interfaces`, each with the same.
pub(super) fn attachments(
    table: &mut Table<'_>,
    segments: &Segments,
    is_many: bool,
) -> Result<Vec<RawAttachment>, Refused> {
    let single = table.present(&["segment", "address", "link"]);
    let interfaces =
        table.optional("interfaces", |value| value.tables(|table| attachment(table, segments, is_many)));
    let Some(interfaces) = interfaces? else { return Ok(vec![attachment(table, segments, is_many)?]) };
    if let Some(key) = single.first() {
        let message = format!("`{}` and `interfaces` do not go together", key.value);
        return Err(table.refuse(key.span.clone(), message, "write it in each of the interfaces"));
    }
    if interfaces.value.is_empty() {
        let help = "add one, for example `interfaces = [{ segment = \"lan\" }]`";
        return Err(table.refuse(interfaces.span, "this node has no interface", help));
    }
    interfaces.value.into_iter().collect()
}

pub(super) fn attachment(
    table: &mut Table<'_>,
    segments: &Segments,
    is_many: bool,
) -> Result<RawAttachment, Refused> {
    let segment = table.required("segment", "segment = \"lan\"", |value| {
        segments.names.find(&value, value.text()?).copied()
    });
    let address = table.optional("address", address);
    let base = segment.as_ref().ok().map(|index| &segments.list[index.value.0 as usize]);
    let link = table.optional("link", link(&base.map(|segment| segment.link.clone()).unwrap_or_default()));
    let (segment, address, link) = (segment?, address?, link?);
    if let (Some(link), Some(base)) = (&link, base)
        && base.prefix6.is_some()
        && link.value.mtu < MTU6_MIN
    {
        return Err(table.refuse(link.span.clone(), narrow(link.value.mtu), NARROW_HELP));
    }
    if let (Some(address), Some(base)) = (&address, base) {
        let is_host = base.prefix.contains(&address.value)
            && address.value != base.prefix.network()
            && address.value != base.prefix.broadcast();
        if !is_host {
            let message = format!("{} is no address of a node in `{}`", address.value, base.name);
            let help =
                format!("its network is {}; without `address` the next free one is taken", base.prefix);
            return Err(table.refuse(address.span.clone(), message, help));
        }
        if is_many {
            let help = "leave `address` out, so that each gets its own, or write a `[[node]]` for each";
            return Err(table.refuse(address.span.clone(), "several nodes can't share an address", help));
        }
    }
    let link = link.map_or_else(|| base.map(|base| base.link.clone()).unwrap_or_default(), |link| link.value);
    Ok(RawAttachment { segment: segment.value, address, link })
}

pub(super) fn address(value: Value<'_>) -> Result<Ipv4Addr, Refused> {
    value.text()?.parse().map_err(|_| value.refuse_kind("an IPv4 address", "write it like \"10.77.0.9\""))
}

/// The `i`th node of a table, with no addresses yet.
fn expanded(raw: &RawNode, i: usize, docker_host: impl Fn(usize) -> NodeIndex) -> Node {
    let name = match raw.count {
        Some(count) => format!("{}{:0width$}", raw.name.value, i + 1, width = count.to_string().len()),
        None => raw.name.value.clone(),
    };
    let (from, to) = raw.start;
    let gaps = raw.count.map_or(0, |count| count as u32 - 1);
    let start = if gaps == 0 { from } else { from + (to - from) * i as u32 / gaps };
    let mut config = raw.config.clone();
    if let Some(zre) = &mut config.zre {
        zre.name.get_or_insert_with(|| Text::from(name.as_str()));
    }
    let attach = |raw: &RawAttachment| Attachment {
        segment: raw.segment,
        address: Ipv4Addr::UNSPECIFIED,
        address6: None,
        link: raw.link.clone(),
    };
    let interfaces = raw.attachments.iter().map(attach).collect();
    Node {
        name,
        group: raw.name.value.clone(),
        interfaces,
        start,
        clock: raw.clock.clone(),
        config,
        assault: raw.assault,
        echo: raw.echo,
        kind: match raw.kind {
            RawKind::Computer => Kind::Computer,
            RawKind::Router => Kind::Router,
            RawKind::DockerHost { .. } => Kind::DockerHost,
            RawKind::Container(host) => Kind::Container(docker_host(host)),
            RawKind::HostNetwork(host) => Kind::HostNetwork(docker_host(host)),
        },
        published: raw.published.iter().map(|published| published.value).collect(),
        routes: Vec::new(),
        nat: None,
    }
}

/// An identity is one node's.
fn refuse_shared_identities(file: &Table<'_>, raws: &[RawNode]) -> Result<(), Refused> {
    let mut owners: BTreeMap<PeerId, Span> = BTreeMap::new();
    let mut outcome = Ok(());
    for raw in raws {
        let is_many = raw.count.is_some_and(|count| count > 1);
        if is_many && raw.config.groups.iter().any(|group| group.identity.is_some()) {
            let help = "leave the `identity` of its group out for one that is drawn from the seed";
            let message = "several nodes can't share an identity in a group";
            outcome = Err(file.refuse(raw.name.span.clone(), message, help));
        }
        let Some(identity) = raw.config.zre.as_ref().and_then(|zre| zre.identity) else { continue };
        let (span, help) = (raw.identity_span.clone(), "leave it out for one that is drawn from the seed");
        if raw.count.is_some_and(|count| count > 1) {
            outcome = Err(file.refuse(span.clone(), "several nodes can't share an identity", help));
        } else if raw.is_clone && owners.contains_key(&identity) {
            continue;
        } else if raw.is_clone {
            let help = "put the node that it is a copy of before it, with the same `identity`";
            outcome = Err(file.refuse(span.clone(), "no node before this clone has its identity", help));
        } else if let Some(first) = owners.get(&identity) {
            let related = (first.clone(), "the other one");
            outcome = Err(file.refuse_with(span.clone(), "two nodes can't share an identity", help, related));
        }
        owners.entry(identity).or_insert(span);
    }
    outcome
}

/// Gives the addresses that the file names, and then, in its order, the lowest free ones to everybody else: to routers
/// first.
fn give_addresses(
    file: &Table<'_>,
    segments: &Segments,
    raws: &[RawNode],
    nodes: &mut [Node],
) -> Result<(), Refused> {
    let mut outcome = Ok(());
    let mut needed = vec![0; segments.list.len()];
    let mut taken: BTreeMap<(SegmentIndex, Ipv4Addr), Span> = BTreeMap::new();
    for raw in raws {
        for attachment in &raw.attachments {
            needed[attachment.segment.0 as usize] += raw.count.unwrap_or(1);
            let Some(address) = &attachment.address else { continue };
            if let Some(first) = taken.get(&(attachment.segment, address.value)) {
                let message = format!("the address {} is taken", address.value);
                let help = "write another one; without `address` the next free one is taken";
                let related = (first.clone(), "by this one");
                outcome = Err(file.refuse_with(address.span.clone(), message, help, related));
            } else {
                taken.insert((attachment.segment, address.value), address.span.clone());
            }
        }
    }
    for ((segment, span), needed) in segments.list.iter().zip(&segments.prefix_spans).zip(needed) {
        let room = |prefix_len: u8| (1_usize << (32 - prefix_len)) - 2;
        let prefix = segment.prefix;
        let wanted = needed + reserved(segment.medium);
        if wanted > room(prefix.prefix_len()) {
            let fitting = (1..=30).rev().find(|len| room(*len) >= wanted).unwrap_or(1);
            let has = room(prefix.prefix_len());
            let message =
                format!("{prefix} has {has} addresses, and {needed} interfaces are on `{}`", segment.name);
            outcome = Err(file.refuse(span.clone(), message, format!("a /{fitting} has room for them")));
        }
    }
    outcome?;
    let unreserved = |segment: &Segment| segment.prefix.hosts().skip(reserved(segment.medium));
    let mut free: Vec<_> = segments.list.iter().map(unreserved).collect();
    let written = raws.iter().flat_map(|raw| std::iter::repeat_n(raw, raw.count.unwrap_or(1)));
    let (routers, others): (Vec<_>, Vec<_>) =
        nodes.iter_mut().zip(written).partition(|(node, _)| node.kind.is_router());
    for (node, raw) in routers.into_iter().chain(others) {
        for (interface, written) in node.interfaces.iter_mut().zip(&raw.attachments) {
            let is_free = |address: &Ipv4Addr| !taken.contains_key(&(written.segment, *address));
            let mut next = || free[written.segment.0 as usize].find(is_free).expect("there is room for all");
            interface.address = written.address.as_ref().map_or_else(&mut next, |address| address.value);
            let segment = &segments.list[written.segment.0 as usize];
            let number = interface.address.to_bits() - segment.prefix.network().to_bits();
            let number6 =
                |prefix: Ipv6Net| Ipv6Addr::from_bits(prefix.network().to_bits() | u128::from(number));
            interface.address6 = segment.prefix6.map(number6);
        }
    }
    Ok(())
}

/// How many of the first addresses of a segment nobody gets: an overlay keeps one for itself.
fn reserved(medium: Medium) -> usize {
    usize::from(medium == Medium::Overlay)
}

impl Nodes {
    /// Whether every node of the file is here.
    pub(super) fn complete(&self) -> Result<(), Refused> {
        self.names.complete()
    }

    /// The nodes that a value names: a node, a router, all of a `[[node]]`, a list of those, or `"*"` for all but the
    /// routers. In the order of the file.
    pub(super) fn select(&self, value: Value<'_>) -> Result<Vec<NodeIndex>, Refused> {
        let mut selected = if value.is_list() {
            let items = value.list("a list of nodes", "[\"n01\", \"n02\"]", |item| self.select_one(&item))?;
            items.into_iter().flat_map(|item| item.value).collect()
        } else {
            self.select_one(&value)?
        };
        selected.sort_unstable();
        selected.dedup();
        Ok(selected)
    }

    fn select_one(&self, value: &Value<'_>) -> Result<Vec<NodeIndex>, Refused> {
        match value.as_str() {
            Some("*") => self.complete().map(|()| {
                let nodes = self.list.iter().take_while(|node| !node.kind.is_router()).count() as u32;
                (0..nodes).map(NodeIndex).collect()
            }),
            Some(name) => self.names.find(value, name).cloned(),
            None => Err(value.refuse_kind("the name of a node", "write it in quotes; \"*\" is all of them")),
        }
    }
}
