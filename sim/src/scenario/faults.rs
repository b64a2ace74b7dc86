//! What steps do to the network and to cables in a scenario file: partitions, links, interfaces.
//!
//! Each value is read for itself here; the steps around it are the business of `timeline`.

use std::collections::BTreeMap;
use std::time::Duration;

use hailer::daemon::reader::{Refused, Table, Value, duration, integer, one_of, quantity};

use super::link::link_beside;
use super::names::name;
use super::nodes::Nodes;
use super::segments::{NARROW_HELP, Segments, narrow};
use super::{Action, Link, MTU6_MIN, Node, NodeIndex, Partition, SegmentIndex, Storm};

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

/// The new links of these nodes: each interface's own of the file, with what the value changes. With `segment` in it only those
/// of the interfaces there.
pub(super) fn links(
    value: &Value<'_>,
    nodes: &Nodes,
    segments: &Segments,
    whom: &[NodeIndex],
) -> Result<BTreeMap<NodeIndex, Vec<Option<Link>>>, Refused> {
    // The value is read once for each different link, and its first mistake ends the reading: nobody hears of it twice.
    let mut read: Vec<(Link, (Link, Option<SegmentIndex>))> = Vec::new();
    let mut changed = BTreeMap::new();
    for node in whom {
        let mut links = Vec::new();
        for interface in &nodes.list[node.0 as usize].interfaces {
            let known = read.iter().find(|(base, _)| *base == interface.link).map(|(_, new)| new.clone());
            let (new, segment) = match known {
                Some(new) => new,
                None => {
                    let new = link_beside(value.clone(), &interface.link, |table| {
                        let segment =
                            table.optional("segment", |value| segment(&value, nodes, segments, whom))?;
                        Ok(segment.map(|segment| segment.value))
                    })?;
                    read.push((interface.link.clone(), new.clone()));
                    new
                }
            };
            let is_meant = segment.is_none_or(|segment| segment == interface.segment);
            if is_meant && interface.address6.is_some() && new.mtu < MTU6_MIN {
                return Err(value.refuse(narrow(new.mtu), NARROW_HELP));
            }
            links.push(is_meant.then_some(new));
        }
        changed.insert(*node, links);
    }
    Ok(changed)
}

/// `"down"` or `"up"`, or `{ down = "air" }` of the interface on one segment.
pub(super) fn interface(
    value: Value<'_>,
    nodes: &Nodes,
    segments: &Segments,
    whom: &[NodeIndex],
) -> Result<Action, Refused> {
    if !value.is_table() {
        return one_of(&[("down", Action::Unplug(None)), ("up", Action::Plug(None))])(value);
    }
    value.table(|table| {
        let down = table.optional("down", |value| segment(&value, nodes, segments, whom));
        let up = table.optional("up", |value| segment(&value, nodes, segments, whom));
        match (down?, up?) {
            (Some(down), None) => Ok(Action::Unplug(Some(down.value))),
            (None, Some(up)) => Ok(Action::Plug(Some(up.value))),
            (Some(_), Some(up)) => Err(table.refuse(
                up.span,
                "one step can't pull a cable and plug it in",
                "write a step for each",
            )),
            (None, None) => {
                let help = "write for example `interface = { down = \"lan\" }`";
                Err(table.refuse_missing(
                    &["down", "up"],
                    "this `interface` has neither `down` nor `up`",
                    help,
                ))
            }
        }
    })
}

/// A segment that each of these nodes has an interface on.
fn segment(
    value: &Value<'_>,
    nodes: &Nodes,
    segments: &Segments,
    whom: &[NodeIndex],
) -> Result<SegmentIndex, Refused> {
    let wanted = *segments.names.find(value, &name(value.clone())?)?;
    let mut whom = whom.iter().map(|node| &nodes.list[node.0 as usize]);
    let is_there = |node: &&Node| node.interfaces.iter().any(|interface| interface.segment == wanted);
    let Some(node) = whom.find(|node| !is_there(node)) else { return Ok(wanted) };
    let names = node.interfaces.iter().map(|own| segments.list[own.segment.0 as usize].name.as_str());
    let message = format!("`{}` has no interface on `{}`", node.name, segments.list[wanted.0 as usize].name);
    Err(value.refuse(message, format!("it is on {}", names.collect::<Vec<_>>().join(", "))))
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
