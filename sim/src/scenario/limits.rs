//! Limits in an `[[expect]]`: keys beside the name of a property that says that something stays below them.

use std::time::Duration;

use hailer::daemon::reader::{Given, Refused, Table, duration, integer};

use super::amounts::size;
use super::nodes::Nodes;
use super::{MemoryLimit, NodeIndex, Property, TrafficLimit};

/// What [`Property::TrafficStaysBelow`] has before its limits are known.
pub(super) const NO_TRAFFIC_LIMIT: TrafficLimit =
    TrafficLimit { nodes: Vec::new(), packets_per_s: None, connections_per_s: None, bytes_per_s: None };

/// What [`Property::MemoryStaysBelow`] has before its limit is known.
pub(super) const NO_MEMORY_LIMIT: MemoryLimit = MemoryLimit { nodes: Vec::new(), bytes: 0 };

/// More packets than any machine sends in a second.
const PACKETS_MAX: u64 = 1_000_000_000;

/// The limits of one table.
pub(super) struct Limits {
    all: Vec<NodeIndex>,
    nodes: Option<Given<Vec<NodeIndex>>>,
    packets_per_s: Option<Given<u64>>,
    connections_per_s: Option<Given<u64>>,
    bytes_per_s: Option<Given<u64>>,
    bytes: Option<Given<u64>>,
    within: Option<Given<Duration>>,
}

/// Takes the keys of limits, whether or not the property has any.
pub(super) fn limits(table: &mut Table<'_>, nodes: &Nodes) -> Result<Limits, Refused> {
    let selected = table.optional("node", |value| nodes.select(value));
    let packets_per_s = table.optional("packets_per_s", integer(1..=PACKETS_MAX, 200));
    let connections_per_s = table.optional("connections_per_s", integer(1..=PACKETS_MAX, 500));
    let bytes_per_s = table.optional("bytes_per_s", size);
    let bytes = table.optional("bytes", size);
    let within = table.optional("within", duration);
    Ok(Limits {
        all: (0..nodes.list.len() as u32).map(NodeIndex).collect(),
        nodes: selected?,
        packets_per_s: packets_per_s?,
        connections_per_s: connections_per_s?,
        bytes_per_s: bytes_per_s?,
        bytes: bytes?,
        within: within?,
    })
}

impl Limits {
    /// The property with its limits. Those that it does not have are refused.
    pub(super) fn of(self, table: &mut Table<'_>, property: Property) -> Result<Property, Refused> {
        let Self { all, nodes, packets_per_s, connections_per_s, bytes_per_s, bytes, within } = self;
        let place = |given: &Option<Given<u64>>| given.as_ref().map(|given| given.span.clone());
        const TRAFFIC: &str = "traffic-stays-below";
        const MEMORY: &str = "memory-stays-below";
        const DEAD: &str = "the-dead-leave-the-group";
        let given = [
            ("node", nodes.as_ref().map(|given| given.span.clone()), &[TRAFFIC, MEMORY] as &[&str]),
            ("packets_per_s", place(&packets_per_s), &[TRAFFIC]),
            ("connections_per_s", place(&connections_per_s), &[TRAFFIC]),
            ("bytes_per_s", place(&bytes_per_s), &[TRAFFIC]),
            ("bytes", place(&bytes), &[MEMORY]),
            ("within", within.as_ref().map(|given| given.span.clone()), &[DEAD]),
        ];
        let name = match property {
            Property::TrafficStaysBelow(_) => TRAFFIC,
            Property::MemoryStaysBelow(_) => MEMORY,
            Property::TheDeadLeaveTheGroup(_) => DEAD,
            _ => "",
        };
        let mut outcome = Ok(());
        for (key, span, owners) in given {
            if let (Some(span), false) = (span, owners.contains(&name)) {
                let owners =
                    owners.iter().map(|owner| format!("`{owner}`")).collect::<Vec<_>>().join(" and ");
                outcome = Err(table.refuse(span, format!("`{key}` belongs to {owners}"), "leave it out"));
            }
        }
        outcome?;
        let nodes = nodes.map_or(all, |nodes| nodes.value);
        let value = |given: Option<Given<u64>>| given.map(|given| given.value);
        match property {
            Property::TrafficStaysBelow(_)
                if packets_per_s.is_none() && connections_per_s.is_none() && bytes_per_s.is_none() =>
            {
                let message = "this expects traffic to stay below nothing in particular";
                let help =
                    "add `packets_per_s = 200`, `connections_per_s = 100` or `bytes_per_s = \"20 kB\"`";
                let keys = ["packets_per_s", "connections_per_s", "bytes_per_s"];
                Err(table.refuse_missing(&keys, message, help))
            }
            Property::TrafficStaysBelow(_) => Ok(Property::TrafficStaysBelow(TrafficLimit {
                nodes,
                packets_per_s: value(packets_per_s),
                connections_per_s: value(connections_per_s),
                bytes_per_s: value(bytes_per_s),
            })),
            Property::MemoryStaysBelow(_) => match value(bytes) {
                Some(bytes) => Ok(Property::MemoryStaysBelow(MemoryLimit { nodes, bytes })),
                None => {
                    let message = "this expects memory to stay below nothing in particular";
                    Err(table.refuse_missing(&["bytes"], message, "add for example `bytes = \"4 MiB\"`"))
                }
            },
            Property::TheDeadLeaveTheGroup(_) => match within {
                Some(within) => Ok(Property::TheDeadLeaveTheGroup(within.value)),
                None => {
                    let message = "this does not say in which time the dead have to leave";
                    Err(table.refuse_missing(&["within"], message, "add for example `within = \"6 s\"`"))
                }
            },
            other => Ok(other),
        }
    }
}
