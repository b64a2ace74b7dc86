//! Original-format repeaters in scenario files: what else than the daemon's roles runs on a machine.

use std::net::{Ipv4Addr, SocketAddr};

use hailer::daemon::reader::{Refused, Table, Value};
use hailer::repeater::{Config, Consul as Settings, Place};

use super::NodeIndex;
use super::nodes::Nodes;

/// The Alidron repeater, or what stands in for it.
#[derive(Clone, Debug)]
pub struct OriginalRepeater {
    /// The machine that it runs on.
    pub node: NodeIndex,
    /// Where it finds others.
    pub registry: OriginalRegistry,
    /// What its `DONT_IP` has: addresses that it never connects to.
    pub dont_ip: Vec<Ipv4Addr>,
}

/// Where an original repeater finds others.
#[derive(Clone, Debug)]
pub enum OriginalRegistry {
    /// Keys of this Consul below `docker/nodes`: its only argument.
    Consul(Place),
    /// Written down, which takes an edited copy of it.
    Static(Vec<SocketAddr>),
}

/// More are a mistyped list.
const REPEATERS_MAX: usize = 256;

/// Takes `[[original_repeater]]`.
pub(super) fn originals(file: &mut Table<'_>, nodes: &Nodes) -> Result<Vec<OriginalRepeater>, Refused> {
    let originals =
        file.optional("original_repeater", |value| value.tables(|table| original(table, nodes)))?;
    originals.map_or_else(|| Ok(Vec::new()), |originals| originals.value.into_iter().collect())
}

fn original(table: &mut Table<'_>, nodes: &Nodes) -> Result<OriginalRepeater, Refused> {
    let node = table.required("node", "node = \"repeater\"", |value| machine(&value, nodes));
    let keys = table.present(&["consul", "repeaters"]);
    let consul = table.optional("consul", |value| {
        let place = value.as_str().and_then(|text| Place::parse(text, Settings::PORT));
        place.ok_or_else(|| value.refuse_kind("the host of a Consul", "write a name or an address"))
    });
    let listed = table.optional("repeaters", repeaters);
    let dont_ip = table.optional("dont_ip", |value| {
        value.list("a list of addresses", "`[\"10.0.0.5\"]`", super::nodes::address)
    });
    let (node, consul, listed, dont_ip) = (node?.value, consul?, listed?, dont_ip?);
    let registry = match (consul, listed) {
        (Some(consul), None) => OriginalRegistry::Consul(consul.value),
        (None, Some(listed)) => OriginalRegistry::Static(listed.value),
        (None, None) => {
            let help = "add `consul = \"registry\"`, or `repeaters = [\"10.2.0.250\"]`";
            let message = "this repeater finds nobody";
            return Err(table.refuse_missing(&["consul", "repeaters"], message, help));
        }
        (Some(_), Some(_)) => {
            let [first, second] = [&keys[0], &keys[1]];
            let related = (first.span.clone(), "the other one");
            let message = format!("`{}` and `{}` do not go together", second.value, first.value);
            let help = "the original has one registry: leave one of them out";
            return Err(table.refuse_with(second.span.clone(), message, help, related));
        }
    };
    let dont_ip = dont_ip.map_or_else(Vec::new, |list| list.value.into_iter().map(|it| it.value).collect());
    Ok(OriginalRepeater { node, registry, dont_ip })
}

/// Its port is always the same.
fn repeaters(value: Value<'_>) -> Result<Vec<SocketAddr>, Refused> {
    let list = value.clone().list("a list of addresses", "`[\"10.2.0.250\"]`", super::nodes::address)?;
    if list.len() > REPEATERS_MAX {
        let message = format!("`repeaters` has {} addresses", list.len());
        return Err(value.refuse(message, format!("write {REPEATERS_MAX} at most")));
    }
    let place = |address| SocketAddr::from((address, Config::PUBLISH_PORT));
    Ok(list.into_iter().map(|address| place(address.value)).collect())
}

/// A machine whose ports for repeaters are free.
fn machine(value: &Value<'_>, nodes: &Nodes) -> Result<NodeIndex, Refused> {
    let [node] = nodes.select(value.clone())?[..] else {
        return Err(value.refuse("an original repeater runs on one machine", "write the name of one node"));
    };
    let machine = &nodes.list[node.0 as usize];
    if machine.kind.is_router() {
        return Err(value.refuse("nothing runs on a router", "write the name of a node"));
    }
    if machine.config.repeater.is_some() {
        let message = format!("`{}` has a repeater, which has the ports", machine.name);
        return Err(value.refuse(message, "write the name of another node, or leave `[node.repeater]` out"));
    }
    Ok(node)
}
