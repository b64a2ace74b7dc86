//! Routers and routes in scenario files: who passes packets on, and by which neighbours others reach further networks.
//!
//! Routes lead over addresses, so they are checked when every machine of the file has its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hailer::daemon::Config;
use hailer::daemon::reader::{Given, Refused, Table, Value};
use ipnet::Ipv4Net;

use super::nodes::{RawKind, RawNode, Segments, address, attachment};
use super::{Kind, Medium, Node, Route, SegmentIndex};

/// A way to other networks as it is written.
pub(super) struct RawRoute {
    to: Given<Ipv4Net>,
    via: Given<Ipv4Addr>,
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
    let example = "interfaces = [{ segment = \"left\" }, { segment = \"right\" }]";
    let interfaces = table
        .required("interfaces", example, |value| value.tables(|table| attachment(table, segments, false)));
    let routes = routes(table);
    let (name, interfaces, routes) = (name?, interfaces?, routes?);
    let attachments = interfaces.value.into_iter().collect::<Result<Vec<_>, _>>()?;
    if attachments.len() < 2 {
        let message = format!("`{}` joins nothing: a router has two interfaces or more", name.value);
        return Err(table.refuse(interfaces.span, message, format!("write for example `{example}`")));
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
        config: Config::default(),
        identity_span,
        kind: RawKind::Router,
        routes,
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
    let via = table.required("via", "via = \"10.0.0.2\"", address);
    Ok(RawRoute { to: to?, via: via? })
}

fn network(value: Value<'_>) -> Result<Ipv4Net, Refused> {
    let help = "write a network and its length, for example \"10.2.0.0/16\"";
    let Ok(network) = value.text()?.parse::<Ipv4Net>() else {
        return Err(value.refuse_kind("an IPv4 prefix", help));
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
type Owners = BTreeMap<(SegmentIndex, Ipv4Addr), usize>;

/// Gives every machine its routes. All of them have their addresses.
pub(super) fn give_routes(
    file: &Table<'_>,
    segments: &Segments,
    raws: &[RawNode],
    nodes: &mut [Node],
) -> Result<(), Refused> {
    let mut owners = Owners::new();
    for (place, node) in nodes.iter().enumerate() {
        owners.extend(node.interfaces.iter().map(|own| ((own.segment, own.address), place)));
    }
    let mut outcome = Ok(());
    let gateways = segments.list.iter().zip(&segments.gateways).enumerate();
    for (index, (segment, gateway)) in gateways {
        let Some(gateway) = gateway else { continue };
        let index = SegmentIndex(index as u32);
        let owner = owners.get(&(index, gateway.value));
        if let Some((message, help)) = refusal(nodes, owner, gateway.value, &segment.name) {
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
            node.routes.extend(found.map(|(interface, via)| Route {
                to: Ipv4Net::default(),
                interface,
                via,
            }));
        }
    }
    outcome
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
    let gateway = raw.routes.gateway.iter().map(|gateway| (Ipv4Net::default(), gateway, None));
    let list = raw.routes.list.iter().map(|route| (route.to.value, &route.via, Some(&route.to)));
    for (to, via, to_given) in list.chain(gateway) {
        let on = node.interfaces.iter().enumerate();
        let on = on.filter(|(_, own)| segments.list[own.segment.0 as usize].prefix.contains(&via.value));
        let mut on = on.map(|(interface, own)| (interface, own.segment));
        let problem = match on.next() {
            None => {
                let networks = node.interfaces.iter().map(|own| segments.list[own.segment.0 as usize].prefix);
                let networks: Vec<_> = networks.map(|prefix| prefix.to_string()).collect();
                let message = format!("`{}` has no interface on the network of {}", node.name, via.value);
                Some((message, format!("write the address of a router in {}", networks.join(" or "))))
            }
            Some((interface, segment)) => {
                routes.push(Route { to, interface, via: via.value });
                let owner = owners.get(&(segment, via.value));
                if owner == Some(&place) {
                    let message = format!("{} is `{}` itself", via.value, node.name);
                    Some((message, "write the address of another router".to_owned()))
                } else {
                    refusal(nodes, owner, via.value, &segments.list[segment.0 as usize].name)
                }
            }
        };
        if let Some((message, help)) = problem.filter(|_| is_first) {
            outcome = Err(file.refuse(via.span.clone(), message, help));
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
fn refusal(nodes: &[Node], owner: Option<&usize>, via: Ipv4Addr, segment: &str) -> Option<(String, String)> {
    let help = "write the address of a `[[router]]`".to_owned();
    match owner.map(|place| &nodes[*place]) {
        None => Some((format!("nobody has the address {via} on `{segment}`"), help)),
        Some(node) if !node.kind.is_router() => {
            Some((format!("`{}` at {via} passes nothing on", node.name), help))
        }
        Some(_) => None,
    }
}
