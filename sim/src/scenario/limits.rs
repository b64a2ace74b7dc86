//! Limits in an `[[expect]]`: keys beside the name of a property that says that something stays below them.

use hailer::daemon::reader::{Given, Refused, Table, integer};

use super::amounts::size;
use super::nodes::Nodes;
use super::{NodeIndex, Property, TrafficLimit};

/// What [`Property::TrafficStaysBelow`] has before its limits are known.
pub(super) const NO_LIMIT: TrafficLimit =
    TrafficLimit { nodes: Vec::new(), packets_per_s: None, bytes_per_s: None };

/// More packets than any machine sends in a second.
const PACKETS_MAX: u64 = 1_000_000_000;

/// The limits of one table.
pub(super) struct Limits {
    all: Vec<NodeIndex>,
    nodes: Option<Given<Vec<NodeIndex>>>,
    packets_per_s: Option<Given<u64>>,
    bytes_per_s: Option<Given<u64>>,
}

/// Takes the keys of limits, whether or not the property has any.
pub(super) fn limits(table: &mut Table<'_>, nodes: &Nodes) -> Result<Limits, Refused> {
    let selected = table.optional("node", |value| nodes.select(value));
    let packets_per_s = table.optional("packets_per_s", integer(1..=PACKETS_MAX, 200));
    let bytes_per_s = table.optional("bytes_per_s", size);
    Ok(Limits {
        all: (0..nodes.list.len() as u32).map(NodeIndex).collect(),
        nodes: selected?,
        packets_per_s: packets_per_s?,
        bytes_per_s: bytes_per_s?,
    })
}

impl Limits {
    /// The property with its limits. Those that it does not have are refused.
    pub(super) fn of(self, table: &mut Table<'_>, property: Property) -> Result<Property, Refused> {
        let Self { all, nodes, packets_per_s, bytes_per_s } = self;
        if let Property::TrafficStaysBelow(_) = property {
            if packets_per_s.is_none() && bytes_per_s.is_none() {
                let message = "this expects traffic to stay below nothing in particular";
                let help = "add `packets_per_s = 200`, `bytes_per_s = \"20 kB\"`, or both";
                return Err(table.refuse_missing(&["packets_per_s", "bytes_per_s"], message, help));
            }
            return Ok(Property::TrafficStaysBelow(TrafficLimit {
                nodes: nodes.map_or(all, |nodes| nodes.value),
                packets_per_s: packets_per_s.map(|given| given.value),
                bytes_per_s: bytes_per_s.map(|given| given.value),
            }));
        }
        let given = [
            ("node", nodes.map(|given| given.span)),
            ("packets_per_s", packets_per_s.map(|given| given.span)),
            ("bytes_per_s", bytes_per_s.map(|given| given.span)),
        ];
        let mut outcome = Ok(property);
        for (key, span) in given.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let message = format!("`{key}` belongs to `traffic-stays-below`");
            outcome = Err(table.refuse(span, message, "leave it out"));
        }
        outcome
    }
}
