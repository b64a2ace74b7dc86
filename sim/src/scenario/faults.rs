//! What steps do to the network and to cables in a scenario file: partitions, links, interfaces.
//!
//! Each value is read for itself here; the steps around it are the business of `timeline`.

use std::collections::BTreeMap;

use hailer::daemon::reader::{Refused, Table, Value, one_of};

use super::link::link;
use super::names::name;
use super::nodes::Nodes;
use super::{Action, Link, NodeIndex, Partition};

/// `{ from = "a", to = ["b", "c"], one_way = true, name = "split" }`.
pub(super) fn partition(value: Value<'_>, nodes: &Nodes) -> Result<Partition, Refused> {
    value.table(|table| partition_table(table, nodes))
}

fn partition_table(table: &mut Table<'_>, nodes: &Nodes) -> Result<Partition, Refused> {
    let from = table.required("from", "from = \"n01\"", |value| nodes.select(value));
    let to = table.required("to", "to = [\"n02\", \"n03\"]", |value| nodes.select(value));
    let one_way = table.optional("one_way", |value| {
        value.as_bool().ok_or_else(|| value.refuse_kind("true or false", "write it without quotes"))
    });
    let name = table.optional("name", name);
    let (from, to, one_way, name) = (from?, to?, one_way?, name?);
    if let Some(both) = to.value.iter().find(|node| from.value.contains(node)) {
        let message = format!("`{}` is on both sides of this partition", nodes.list[both.0 as usize].name);
        let related = (from.span, "one side");
        return Err(table.refuse_with(to.span, message, "let each node be on one side at most", related));
    }
    Ok(Partition {
        name: name.map(|name| name.value),
        from: from.value,
        to: to.value,
        is_one_way: one_way.is_some_and(|one_way| one_way.value),
    })
}

/// `true` for all partitions, or the name of one.
pub(super) fn heal(value: Value<'_>) -> Result<Option<String>, Refused> {
    match value.as_bool() {
        Some(true) => Ok(None),
        Some(false) => Err(value.refuse("`heal` can't be false", "write `true`, or the name of a partition")),
        None => name(value).map(Some),
    }
}

/// The new links of these nodes: each interface's own of the file, with what the value changes.
pub(super) fn links(
    value: &Value<'_>,
    nodes: &Nodes,
    whom: &[NodeIndex],
) -> Result<BTreeMap<NodeIndex, Vec<Link>>, Refused> {
    // The value is read once for each different link, and its first mistake ends the reading: nobody hears of it twice.
    let mut read: Vec<(Link, Link)> = Vec::new();
    let mut changed = BTreeMap::new();
    for node in whom {
        let mut links = Vec::new();
        for interface in &nodes.list[node.0 as usize].interfaces {
            let known = read.iter().find(|(base, _)| *base == interface.link).map(|(_, new)| new.clone());
            links.push(match known {
                Some(new) => new,
                None => {
                    let new = link(&interface.link)(value.clone())?;
                    read.push((interface.link.clone(), new.clone()));
                    new
                }
            });
        }
        changed.insert(*node, links);
    }
    Ok(changed)
}

/// `"down"` or `"up"`.
pub(super) fn interface(value: Value<'_>) -> Result<Action, Refused> {
    one_of(&[("down", Action::Unplug), ("up", Action::Plug)])(value)
}
