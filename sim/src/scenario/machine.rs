//! What a machine is like in a scenario file: its clock, how busy it is, its address.
//!
//! Values are read one by one here; addresses need the steps around them, too, and are settled when all are known.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Refused, Table, Value, quantity, written};

use super::link::moments;
use super::nodes::address as host_address;
use super::script::WrittenStep;
use super::segments::Segments;
use super::{Action, Clock, Drift, Move, Node, NodeIndex, PARTS, SegmentIndex};

/// Clocks that are further off than this are broken, and that is another scenario.
const DRIFT_MAX: i64 = PARTS / 2;

/// Units of drift, in [`PARTS`].
const UNITS: [(&str, i64); 2] = [("ppm", PARTS / 1_000_000), ("%", PARTS / 100)];

/// Of a machine: `{ drift = "200 ppm", skew = "3 s" }`.
pub(super) fn clock(value: Value<'_>) -> Result<Clock, Refused> {
    value.table(|table| {
        let drift = table.optional("drift", drift);
        let skew = table.optional("skew", moments);
        let (drift, skew) = (drift?, skew?);
        if drift.is_none() && skew.is_none() {
            let help = "add one, for example `drift = \"200 ppm\"` or `skew = \"3 s\"`";
            return Err(table.refuse_missing(&["drift", "skew"], "this clock is right", help));
        }
        Ok(Clock {
            drift: drift.map(|drift| drift.value).unwrap_or_default(),
            skew: skew.map(|skew| skew.value).unwrap_or_default(),
        })
    })
}

/// Of a step: `{ drift = "200 ppm" }`.
pub(super) fn clock_step(value: Value<'_>) -> Result<Drift, Refused> {
    value.table(|table| {
        refuse_skew(table)?;
        table.required("drift", "drift = \"200 ppm\"", drift).map(|drift| drift.value)
    })
}

/// Programs are given the monotonic clock, and nothing else.
fn refuse_skew(table: &mut Table<'_>) -> Result<(), Refused> {
    let Some(skew) = table.present(&["skew"]).pop() else { return Ok(()) };
    let taken = table.optional("skew", |_| Ok(()));
    taken?;
    let message = "a clock that runs never jumps: no program here reads the time of day, which does";
    Err(table.refuse(skew.span, message, "write the `skew` of a [[node]], or a `drift` here"))
}

/// `"200 ppm"`, `"-1.5 %"`, or a range of which each node draws its own: `"-100 ppm..100 ppm"`.
fn drift(value: Value<'_>) -> Result<Drift, Refused> {
    let text = value.as_str().ok_or_else(|| refuse_no_drift(&value))?;
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let (from, to) = (parts(&value, from)?, parts(&value, to)?);
    if to < from {
        let message = format!("{} ends before it starts", value.name());
        return Err(value.refuse(message, "write the slower end first, for example \"-100 ppm..100 ppm\""));
    }
    Ok(Drift { from, to })
}

fn parts(value: &Value<'_>, text: &str) -> Result<i64, Refused> {
    let refuse = || refuse_no_drift(value);
    let text = text.trim();
    let (sign, amount) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (number, decimals, unit) = quantity(amount).ok_or_else(refuse)?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
    let (parts, scale) = (i128::from(number) * i128::from(*factor), 10_i128.pow(decimals));
    if parts % scale != 0 {
        let message = format!("`{}` is finer than a thousandth of a ppm", text.escape_debug());
        return Err(value.refuse(message, "leave digits out"));
    }
    let parts = parts / scale;
    if parts > i128::from(DRIFT_MAX) {
        let message = format!("{} can't be {}", value.name(), text.escape_debug());
        return Err(value.refuse(message, "write \"-50 %\" to \"50 %\""));
    }
    Ok(sign * parts as i64)
}

fn refuse_no_drift(value: &Value<'_>) -> Refused {
    let help = "write parts in a million or a percentage in quotes, for example \"200 ppm\" or \"-1.5 %\"";
    value.refuse_kind("a drift", help)
}

/// `"10.0.0.77"`. Which interface it is for is settled when all steps are known.
pub(super) fn address(value: Value<'_>, whom: &[NodeIndex]) -> Result<Move, Refused> {
    if whom.len() > 1 {
        let message = format!("{} nodes can't have the same address", whom.len());
        return Err(value.refuse(message, "write a `[[step]]` for each"));
    }
    host_address(value).map(|address| Move { interface: 0, address })
}

/// Containers have their host's clock, and on the networks that every host has the address that their engine gave them: only
/// on others can one be asked for (`docker network connect --ip`).
fn refuse_containers(
    file: &Table<'_>,
    segments: &Segments,
    nodes: &[Node],
    steps: &[WrittenStep],
) -> Result<(), Refused> {
    let has_names = |node: &Node| {
        let own = node.interfaces.first();
        own.is_some_and(|own| segments.list[own.segment.0 as usize].has_names)
    };
    let mut outcome = Ok(());
    for step in steps {
        let (what, help) = match step.step.action {
            Action::Clock(_) => ("has the clock of its host", "do it to the host"),
            Action::Address(_) => (
                "has the address that its host gave it",
                "put it on a `[[docker_network]]`, where it can ask for one",
            ),
            _ => continue,
        };
        let is_clock = matches!(step.step.action, Action::Clock(_));
        let mut own = step.step.nodes.iter().map(|node| &nodes[node.0 as usize]);
        if let Some(container) =
            own.find(|node| node.kind.docker_host().is_some() && (is_clock || !has_names(node)))
        {
            let message = format!("`{}` is a container, and {what}", container.name);
            outcome = Err(file.refuse(step.action_span.clone(), message, help));
        }
    }
    outcome
}

/// Finds the interface of each new address, and refuses addresses that can't be. The steps are sorted by time.
pub(super) fn settle_addresses(
    file: &Table<'_>,
    segments: &Segments,
    nodes: &[Node],
    steps: &mut [WrittenStep],
) -> Result<(), Refused> {
    // Who has which address, and since which step.
    let mut taken: BTreeMap<(SegmentIndex, Ipv4Addr), (NodeIndex, Option<Span>)> = BTreeMap::new();
    let mut current: Vec<Vec<Ipv4Addr>> = Vec::new();
    for (index, node) in (0..).map(NodeIndex).zip(nodes) {
        current.push(node.interfaces.iter().map(|own| own.address).collect());
        taken.extend(node.interfaces.iter().map(|own| ((own.segment, own.address), (index, None))));
    }
    let mut outcome = refuse_containers(file, segments, nodes, steps);
    for written_step in steps {
        let (at, here) = (written(written_step.step.at), written_step.action_span.clone());
        let (Action::Address(new), [index]) =
            (&mut written_step.step.action, written_step.step.nodes.as_slice())
        else {
            continue;
        };
        let node = &nodes[index.0 as usize];
        let prefix = |number: usize| segments.list[node.interfaces[number].segment.0 as usize].prefix;
        let fits = |number: &usize| {
            let prefix = prefix(*number);
            let inner = RangeInclusive::new(prefix.network(), prefix.broadcast());
            inner.contains(&new.address) && new.address != *inner.start() && new.address != *inner.end()
        };
        let fitting: Vec<usize> = (0..node.interfaces.len()).filter(fits).collect();
        let [number] = fitting.as_slice() else {
            let message = if fitting.is_empty() {
                format!("{} is no address of a node in a network of `{}`", new.address, node.name)
            } else {
                format!("{} could be for several interfaces of `{}`", new.address, node.name)
            };
            let networks = (0..node.interfaces.len()).map(|number| prefix(number).to_string());
            let networks = networks.collect::<Vec<_>>().join(", ");
            outcome = Err(file.refuse(here, message, format!("its networks are {networks}")));
            continue;
        };
        let segment = node.interfaces[*number].segment;
        if let Some((other, since)) = taken.get(&(segment, new.address)) {
            let owner = &nodes[other.0 as usize].name;
            let message = format!("at {at} `{owner}` has the address {}", new.address);
            let help = "write another one";
            outcome = Err(match since {
                Some(since) => file.refuse_with(here, message, help, (since.clone(), "by this step")),
                None => file.refuse(here, message, help),
            });
            continue;
        }
        new.interface = *number;
        let old = std::mem::replace(&mut current[index.0 as usize][*number], new.address);
        taken.remove(&(segment, old));
        taken.insert((segment, new.address), (*index, Some(here)));
    }
    outcome
}
