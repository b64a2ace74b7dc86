//! Routers and routes in scenario files: who passes packets on, and by which neighbours others reach further networks.
//!
//! Routes lead over addresses, so they are checked when every machine of the file has its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hailer::daemon::Config;
use hailer::daemon::reader::{Given, Refused, Table, Value};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::nodes::{RawKind, RawNode, address};
use super::segments::Segments;
use super::{Attachment, Clock, Kind, Medium, Node, Route, SegmentIndex, nat};

/// A way to other networks as it is written.
pub(super) struct RawRoute {
    to: Given<IpNet>,
    via: Given<IpAddr>,
}

/// What a machine's table says of other networks than its own.
#[derive(Default)]
pub(super) struct RawRoutes {
    list: Vec<RawRoute>,
    gateway: Option<Given<Ipv4Addr>>,
}

/// A `[[router]]`.
pub(super) fn router(table: &mut Table<'_>, segments: &Segments) -> Result<RawNode, Refused> {
    let name = table.required("name", "name = \"r\"", super::names::name);
    let interfaces = nat::interfaces(table, segments);
    let routes = routes(table);
    let (name, (interfaces, nat), routes) = (name?, interfaces?, routes?);
    let attachments = interfaces.value;
    if attachments.len() < 2 {
        let message = format!("`{}` joins nothing: a router has two interfaces or more", name.value);
        return Err(table.refuse(
            interfaces.span,
            message,
            format!("write for example `{}`", nat::INTERFACES_EXAMPLE),
        ));
    }
    let prefix = |index: SegmentIndex| segments.list[index.0 as usize].prefix;
    for (place, attachment) in attachments.iter().enumerate() {
        let same = |other: &&super::nodes::RawAttachment| prefix(other.segment) == prefix(attachment.segment);
        if attachments[..place].iter().any(|other| same(&other)) {
            let message =
                format!("`{}` can't tell two networks {} apart", name.value, prefix(attachment.segment));
            return Err(table.refuse(interfaces.span, message, "join networks with different prefixes"));
        }
    }
    let identity_span = table.span();
    Ok(RawNode {
        name,
        count: None,
        attachments,
        start: Default::default(),
        clock: Clock::default(),
        config: Config::default(),
        assault: None,
        echo: None,
        identity_span,
        is_clone: false,
        kind: RawKind::Router,
        routes,
        nat,
        published: Vec::new(),
        service: None,
    })
}

/// Takes `routes` and `gateway` of a node or a router.
pub(super) fn routes(table: &mut Table<'_>) -> Result<RawRoutes, Refused> {
    let list = table.optional("routes", |value| value.tables(route));
    let gateway = table.optional("gateway", address);
    let list = list?.map(|list| list.value.into_iter().collect::<Result<Vec<_>, _>>());
    Ok(RawRoutes { list: list.transpose()?.unwrap_or_default(), gateway: gateway? })
}

fn route(table: &mut Table<'_>) -> Result<RawRoute, Refused> {
    let to = table.required("to", "to = \"10.2.0.0/16\"", network);
    let via = table.required("via", "via = \"10.0.0.2\"", |value| {
        let help = "write it like \"10.77.0.9\" or \"fd00::9\"";
        value.text()?.parse::<IpAddr>().map_err(|_| value.refuse_kind("an address", help))
    });
    let (to, via) = (to?, via?);
    if matches!(to.value, IpNet::V4(_)) != via.value.is_ipv4() {
        let message = "the network and the way to it must both be IPv4 or both be IPv6";
        return Err(table.refuse(via.span, message, "write an address of the same kind"));
    }
    Ok(RawRoute { to, via })
}

fn network(value: Value<'_>) -> Result<IpNet, Refused> {
    let help = "write a network and its length, for example \"10.2.0.0/16\"";
    let Ok(network) = value.text()?.parse::<IpNet>() else {
        return Err(value.refuse_kind("a prefix", help));
    };
    if network.trunc() != network {
        let message = format!("`{network}` is an address in a network, not a network");
        return Err(value.refuse(message, format!("write \"{}\"", network.trunc())));
    }
    if network.prefix_len() == 0 {
        let help = "write `gateway = \"10.0.0.1\"` instead of this route";
        return Err(value.refuse("the way to everywhere else is the gateway", help));
    }
    Ok(network)
}

/// Who has an address on a segment: the place of the machine in the list, with its interface's.
type Owners = BTreeMap<(SegmentIndex, IpAddr), usize>;

/// Gives every machine its routes. All of them have their addresses.
pub(super) fn give_routes(
    file: &Table<'_>,
    segments: &Segments,
    raws: &[RawNode],
    nodes: &mut [Node],
) -> Result<(), Refused> {
    let mut owners = Owners::new();
    for (place, node) in nodes.iter().enumerate() {
        for own in &node.interfaces {
            owners.insert((own.segment, IpAddr::V4(own.address)), place);
            owners.extend(own.address6.map(|address| ((own.segment, IpAddr::V6(address)), place)));
        }
    }
    let mut outcome = Ok(());
    let gateways = segments.list.iter().zip(&segments.gateways).enumerate();
    for (index, (segment, gateway)) in gateways {
        let Some(gateway) = gateway else { continue };
        let index = SegmentIndex(index as u32);
        let address = IpAddr::V4(gateway.value);
        let owner = owners.get(&(index, address));
        if let Some((message, help)) = refusal(nodes, owner, address, &segment.name) {
            outcome = Err(file.refuse(gateway.span.clone(), message, help));
        }
    }
    outcome?;
    let routers: Vec<Option<Ipv4Addr>> = (0..segments.list.len() as u32)
        .map(|index| {
            // A Docker host is a way out for its own containers only.
            let is_lan = segments.list[index as usize].medium == Medium::Lan;
            let kind = if is_lan { Kind::Router } else { Kind::DockerHost };
            let here = nodes.iter().filter(|node| node.kind == kind).flat_map(|node| &node.interfaces);
            let mut here = here.filter(|own| own.segment == SegmentIndex(index)).map(|own| own.address);
            here.next().filter(|_| here.next().is_none())
        })
        .collect();
    let written = raws.iter().flat_map(|raw| std::iter::repeat_n(raw, raw.count.unwrap_or(1)));
    for (place, raw) in written.enumerate() {
        // One of many tells enough about all of them.
        let is_first = place == 0 || nodes[place - 1].group != nodes[place].group;
        match own_routes(file, segments, raw, place, nodes, &owners, is_first) {
            Ok(routes) => nodes[place].routes = routes,
            Err(refused) => outcome = Err(refused),
        }
        let default = |segment: SegmentIndex| {
            let written = segments.gateways[segment.0 as usize].as_ref().map(|gateway| gateway.value);
            written.or(routers[segment.0 as usize])
        };
        let node = &mut nodes[place];
        if node.kind != Kind::Router && raw.routes.gateway.is_none() {
            let found = node.interfaces.iter().enumerate();
            let mut found = found.filter_map(|(interface, own)| {
                let via = default(own.segment)?;
                (via != own.address).then_some((interface, via))
            });
            let found = found.next();
            node.routes.extend(found.map(|(interface, via)| default_route(interface, via)));
        }
        let six = default_route6(&nodes[place], nodes, &owners);
        nodes[place].routes.extend(six);
    }
    outcome
}

fn default_route(interface: usize, via: Ipv4Addr) -> Route {
    Route { to: IpNet::V4(Ipv4Net::default()), interface, via: IpAddr::V4(via) }
}

/// IPv6 leads over the same gateway as IPv4, when that one has it: it would say so itself (router advertisements).
fn default_route6(node: &Node, nodes: &[Node], owners: &Owners) -> Option<Route> {
    let four = node.routes.iter().find(|route| route.to == IpNet::V4(Ipv4Net::default()))?;
    let segment = node.interfaces[four.interface].segment;
    let gateway = &nodes[*owners.get(&(segment, four.via))?];
    let on = gateway.interfaces.iter().filter(|own| own.segment == segment);
    let there = on.into_iter().find(|own| IpAddr::V4(own.address) == four.via)?;
    let via = IpAddr::V6(there.address6?);
    Some(Route { to: IpNet::V6(Ipv6Net::default()), interface: four.interface, via })
}

/// The routes that a machine's own table in the file names.
fn own_routes(
    file: &Table<'_>,
    segments: &Segments,
    raw: &RawNode,
    place: usize,
    nodes: &[Node],
    owners: &Owners,
    is_first: bool,
) -> Result<Vec<Route>, Refused> {
    let node = &nodes[place];
    let mut routes: Vec<Route> = Vec::new();
    let mut outcome = Ok(());
    let gateway = raw.routes.gateway.iter().map(|gateway| {
        (IpNet::V4(Ipv4Net::default()), IpAddr::V4(gateway.value), gateway.span.clone(), None)
    });
    let list = raw.routes.list.iter();
    let list = list.map(|route| (route.to.value, route.via.value, route.via.span.clone(), Some(&route.to)));
    for (to, via, span, to_given) in list.chain(gateway) {
        let prefixes = |own: &Attachment| {
            let segment = &segments.list[own.segment.0 as usize];
            [Some(IpNet::V4(segment.prefix)), segment.prefix6.map(IpNet::V6)].into_iter().flatten()
        };
        let on = node.interfaces.iter().enumerate();
        let on = on.filter(|(_, own)| prefixes(own).any(|prefix| prefix.contains(&via)));
        let mut on = on.map(|(interface, own)| (interface, own.segment));
        let problem = match on.next() {
            None => {
                let networks: Vec<_> =
                    node.interfaces.iter().flat_map(prefixes).map(|prefix| prefix.to_string()).collect();
                let message = format!("`{}` has no interface on the network of {via}", node.name);
                Some((message, format!("write the address of a router in {}", networks.join(" or "))))
            }
            Some((interface, segment)) => {
                routes.push(Route { to, interface, via });
                let owner = owners.get(&(segment, via));
                if owner == Some(&place) {
                    let message = format!("{via} is `{}` itself", node.name);
                    Some((message, "write the address of another router".to_owned()))
                } else {
                    refusal(nodes, owner, via, &segments.list[segment.0 as usize].name)
                }
            }
        };
        if let Some((message, help)) = problem.filter(|_| is_first) {
            outcome = Err(file.refuse(span, message, help));
        }
        let same = raw.routes.list.iter().find(|other| Some(&other.to) != to_given && other.to.value == to);
        if let (Some(first), Some(given), true) = (same, to_given, is_first)
            && first.to.span.start < given.span.start
        {
            let message = format!("there are two routes to {to}");
            let related = (first.to.span.clone(), "the other one");
            outcome = Err(file.refuse_with(given.span.clone(), message, "drop one of them", related));
        }
    }
    outcome.map(|()| routes)
}

/// Why a route can't lead over this address of a segment.
fn refusal(nodes: &[Node], owner: Option<&usize>, via: IpAddr, segment: &str) -> Option<(String, String)> {
    let help = "write the address of a `[[router]]`".to_owned();
    match owner.map(|place| &nodes[*place]) {
        None => Some((format!("nobody has the address {via} on `{segment}`"), help)),
        Some(node) if !node.kind.is_router() => {
            Some((format!("`{}` at {via} passes nothing on", node.name), help))
        }
        Some(_) => None,
    }
}
