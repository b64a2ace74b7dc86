//! What steps do to the network and to cables in a scenario file: partitions, links, interfaces.
//!
//! Each value is read for itself here; the steps around it are the business of `timeline`.

use std::collections::BTreeMap;
use std::time::Duration;

use hailer::daemon::reader::{Refused, Table, Value, duration, integer, one_of, quantity};

use super::link::link;
use super::names::name;
use super::nodes::Nodes;
use super::segments::{NARROW_HELP, narrow};
use super::{Action, Link, MTU6_MIN, NodeIndex, Partition, Storm};

/// Broadcasts a second of one machine: more than a gigabit link carries of the smallest packets helps nobody.
const RATE_MAX: u64 = 1_000_000;
/// Garbage fits one packet, as broadcasts have to.
const STORM_BYTES_MAX: u64 = 1472;
/// The size of a beacon.
const STORM_BYTES_DEFAULT: u64 = 22;

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
                    if interface.address6.is_some() && new.mtu < MTU6_MIN {
                        return Err(value.refuse(narrow(new.mtu), NARROW_HELP));
                    }
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

/// `{ rate = "1000/s", for = "2 s", bytes = 22 }`.
pub(super) fn storm(value: Value<'_>) -> Result<Storm, Refused> {
    value.table(|table| {
        let every = table.required("rate", "rate = \"1000/s\"", rate);
        let lasting = table.required("for", "for = \"2 s\"", |value| {
            let lasting = duration(value.clone())?;
            if lasting.is_zero() {
                return Err(value.refuse("a storm of no length shows nothing", "write for example \"2 s\""));
            }
            Ok(lasting)
        });
        let bytes = table.optional("bytes", integer(0..=STORM_BYTES_MAX, STORM_BYTES_DEFAULT));
        let to = table.optional("to", one_of(&[("beacons", false), ("groups", true)]));
        let (every, lasting, bytes) = (every?.value, lasting?.value, bytes?);
        let is_for_groups = to?.is_some_and(|to| to.value);
        let bytes = bytes.map_or(STORM_BYTES_DEFAULT, |bytes| bytes.value) as usize;
        Ok(Storm { every, lasting, bytes, is_for_groups })
    })
}

/// The time between two things that happen at a rate: `"1000/s"`.
fn rate(value: Value<'_>) -> Result<Duration, Refused> {
    const WHAT: &str = "a rate";
    let help = "write whole numbers a second in quotes, for example \"1000/s\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind(WHAT, help))?;
    let Some((number, 0, "/s")) = quantity(text) else { return Err(value.refuse_kind(WHAT, help)) };
    if !(1..=RATE_MAX).contains(&number) {
        let message = format!("{} can't be {number} a second", value.name());
        return Err(value.refuse(message, format!("write \"1/s\" to \"{RATE_MAX}/s\"")));
    }
    Ok(Duration::from_nanos(1_000_000_000 / number))
}
