//! Consul agents in scenario files: what else than the daemon's roles runs on a machine.

use std::collections::BTreeMap;

use hailer::daemon::reader::{Refused, Table, Value, integer};

use super::NodeIndex;
use super::nodes::{Nodes, flag};

/// A Consul agent in development mode: what it was told is gone when it ends.
#[derive(Clone, Debug)]
pub struct Consul {
    /// The machine that it runs on.
    pub node: NodeIndex,
    /// TCP port of its HTTP API.
    pub port: u16,
    /// It is out of its mind: no answer of it is one.
    pub is_nonsense: bool,
    /// Keys that it has from the start, and their values.
    pub keys: BTreeMap<String, String>,
}

/// The port of Consul's HTTP API.
const PORT: u64 = 8500;

/// Takes `[[consul]]`.
pub(super) fn consul(file: &mut Table<'_>, nodes: &Nodes) -> Result<Vec<Consul>, Refused> {
    let consuls = file.optional("consul", |value| {
        value.tables(|table| {
            let node = table.required("node", "node = \"registry\"", |value| one(&value, nodes));
            let port = table.optional("port", integer(1..=u64::from(u16::MAX), PORT));
            let nonsense = table.optional("nonsense", flag);
            let keys = table.optional("keys", |value| {
                value.entries(|key, value| Ok((key.value.to_owned(), value.text()?.to_owned())))
            });
            Ok(Consul {
                node: node?.value,
                port: port?.map_or(PORT, |port| port.value) as u16,
                is_nonsense: nonsense?.is_some_and(|nonsense| nonsense.value),
                keys: keys?.map_or_else(BTreeMap::new, |keys| keys.value.into_iter().collect()),
            })
        })
    })?;
    consuls.map_or_else(|| Ok(Vec::new()), |consuls| consuls.value.into_iter().collect())
}

fn one(value: &Value<'_>, nodes: &Nodes) -> Result<NodeIndex, Refused> {
    let selected = nodes.select(value.clone())?;
    match selected[..] {
        [node] if !nodes.list[node.0 as usize].kind.is_router() => Ok(node),
        [_] => Err(value.refuse("nothing runs on a router", "write the name of a node")),
        _ => Err(value.refuse("a Consul runs on one machine", "write the name of one node")),
    }
}
