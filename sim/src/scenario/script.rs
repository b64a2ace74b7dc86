//! What happens in a scenario file: steps and traffic.
//!
//! Each table is read for itself here. Whether the steps make sense one after the other is the business of `timeline`.

use std::collections::BTreeSet;
use std::time::Duration;

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{
    Given, Refused, Table, Value, duration, integer, one_of, suggestion, text_up_to, written,
};

use super::faults::{heal, interface, links, partition, storm};
use super::link::delay;
use super::machine::{address, clock_step};
use super::nodes::Nodes;
use super::segments::Segments;
use super::{
    Action, Crash, Kind, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN, Manner, Node, NodeIndex, Step, Traffic,
    TrafficKind,
};

/// A step and its places in the file.
pub(super) struct WrittenStep {
    pub(super) step: Step,
    pub(super) at_span: Span,
    pub(super) action_span: Span,
}

/// The size of a message when the file names none.
const BYTES_DEFAULT: usize = 64;

/// The shortest time between two messages of one sender; what is meant to be a flood is many senders.
const EVERY_MIN: Duration = Duration::from_millis(1);

/// The longest name of a group (RFC 36: a string with its length in one byte).
const GROUP_BYTES_MAX: usize = 255;

/// Takes `[[step]]`, in the order of the file.
pub(super) fn steps(
    file: &mut Table<'_>,
    nodes: &Nodes,
    segments: &Segments,
    end: Option<Duration>,
    line_of: impl Fn(Span) -> usize,
) -> Result<Vec<WrittenStep>, Refused> {
    let read = |table: &mut Table<'_>| step(table, nodes, segments, end, line_of(table.span()));
    let tables = file.optional("step", |value| value.tables(read))?;
    tables.map_or_else(Vec::new, |tables| tables.value).into_iter().collect()
}

/// Keys that say what a step does.
const ACTIONS: [&str; 17] = [
    "crash",
    "restart",
    "pause",
    "resume",
    "join",
    "leave",
    "shout",
    "whisper",
    "partition",
    "heal",
    "link",
    "interface",
    "broadcast_storm",
    "nat_reboot",
    "clock",
    "slow",
    "address",
];

fn step(
    table: &mut Table<'_>,
    nodes: &Nodes,
    segments: &Segments,
    end: Option<Duration>,
    line: usize,
) -> Result<WrittenStep, Refused> {
    let at = table.required("at", "at = \"30 s\"", duration);
    let node = table.present(&["node"]).pop();
    let key = only_one(table, &ACTIONS, "step");
    let selected = match &key {
        Ok(key) if matches!(key.value, "partition" | "heal") => {
            refuse_node(table, key, node).map(|()| Vec::new())
        }
        _ => table.required("node", "node = \"n07\"", |value| nodes.select(value)).map(|given| given.value),
    };
    let action = match &key {
        Ok(key) => {
            let whom = selected.as_deref().unwrap_or_default();
            table.required(key.value, key.value, |value| action(key.value, value, nodes, segments, whom))
        }
        Err(refused) => Err(*refused),
    };
    let bytes = table.optional("bytes", message_bytes);
    let (at, selected, key, mut action, bytes) = (at?, selected?, key?, action?.value, bytes?);
    if let Some(end) = end.filter(|end| at.value >= *end) {
        return Err(refuse_late(table, at.span, end));
    }
    match (&mut action, bytes) {
        (_, None) => {}
        (Action::Shout { bytes, .. } | Action::Whisper { bytes, .. }, Some(given)) => *bytes = given.value,
        (_, Some(given)) => {
            let message = "`bytes` is the size of a message, and this step sends none";
            return Err(table.refuse(given.span, message, "leave it out"));
        }
    }
    refuse_for_kind(table, nodes, &selected, &action, &key)?;
    if action == Action::NatReboot {
        refuse_without_nat(table, nodes, &selected, &key)?;
    }
    let is_zre = matches!(key.value, "join" | "leave" | "shout" | "whisper");
    if is_zre {
        refuse_deaf(table, nodes, &selected, &key)?;
    }
    if let Action::Whisper { to, .. } = &action {
        refuse_deaf(table, nodes, &[*to], &key)?;
        refuse_self(table, nodes, selected.iter().find(|from| *from == to), &key)?;
    }
    if let (Action::BroadcastStorm(storm), Some(end)) = (&action, end)
        && at.value + storm.lasting > end
    {
        return Err(refuse_late(table, key.span, end));
    }
    let step = Step { at: at.value, nodes: selected, action, line };
    Ok(WrittenStep { step, at_span: at.span, action_span: key.span })
}

/// Refuses a `node` beside what is done to the network.
fn refuse_node(table: &Table<'_>, key: &Given<&str>, node: Option<Given<&str>>) -> Result<(), Refused> {
    let Some(node) = node else { return Ok(()) };
    let message = format!("a `{}` is done to the network, not to a node", key.value);
    let help =
        if key.value == "heal" { "leave it out" } else { "leave it out; `from` and `to` are the nodes" };
    Err(table.refuse(node.span, message, help))
}

/// Refuses what needs a program, on a router, and what needs a machine, for a container on its host's network.
fn refuse_for_kind(
    table: &Table<'_>,
    nodes: &Nodes,
    selected: &[NodeIndex],
    action: &Action,
    key: &Given<&str>,
) -> Result<(), Refused> {
    let mut selected = selected.iter().map(|index| &nodes.list[index.0 as usize]);
    let is_about_machine = matches!(
        action,
        Action::Crash(Crash::PowerCut)
            | Action::Link(_)
            | Action::Unplug(_)
            | Action::Plug(_)
            | Action::BroadcastStorm(_)
    );
    let shares = |node: &&Node| matches!(node.kind, Kind::HostNetwork(_));
    if let Some(container) = selected.clone().find(shares).filter(|_| is_about_machine)
        && let Some(host) = container.kind.docker_host()
    {
        let host = &nodes.list[host.0 as usize].name;
        let message = format!("`{}` has no network of its own: it is a program on `{host}`", container.name);
        return Err(table.refuse(key.span.clone(), message, format!("do it to `{host}`")));
    }
    let Some(router) = selected.find(|node| node.kind.is_router()) else { return Ok(()) };
    let help = match action {
        Action::Crash(Crash::PowerCut)
        | Action::Restart
        | Action::Link(_)
        | Action::Unplug(_)
        | Action::Plug(_)
        | Action::NatReboot
        | Action::BroadcastStorm(_) => return Ok(()),
        Action::Crash(_) => "write `crash = \"power-cut\"`",
        _ => "name a node, or write `crash`, `restart`, `interface` or `link`",
    };
    let message = format!("`{}` is a router, and runs no program", router.name);
    Err(table.refuse(key.span.clone(), message, help))
}

/// Refuses what only a NAT can do, of another machine.
fn refuse_without_nat(
    table: &Table<'_>,
    nodes: &Nodes,
    selected: &[NodeIndex],
    key: &Given<&str>,
) -> Result<(), Refused> {
    let mut selected = selected.iter().map(|index| &nodes.list[index.0 as usize]);
    let Some(node) = selected.find(|node| node.nat.is_none()) else { return Ok(()) };
    let message = format!("`{}` is no NAT, and has no mappings to lose", node.name);
    Err(table.refuse(key.span.clone(), message, "name a [[router]] with `nat`, or a [[docker_host]]"))
}

fn action(
    key: &str,
    value: Value<'_>,
    nodes: &Nodes,
    segments: &Segments,
    whom: &[NodeIndex],
) -> Result<Action, Refused> {
    const CRASHES: [(&str, Crash); 3] =
        [("power-cut", Crash::PowerCut), ("process-exit", Crash::ProcessExit), ("stop", Crash::Stop)];
    let bytes = BYTES_DEFAULT;
    match key {
        "crash" => one_of(&CRASHES)(value).map(Action::Crash),
        "restart" => only_true(&value).map(|()| Action::Restart),
        "pause" => only_true(&value).map(|()| Action::Pause),
        "resume" => only_true(&value).map(|()| Action::Resume),
        "join" => group(value).map(Action::Join),
        "leave" => group(value).map(Action::Leave),
        "shout" => group(value).map(|group| Action::Shout { group, bytes }),
        "whisper" => one_node(value, nodes).map(|to| Action::Whisper { to, bytes }),
        "partition" => partition(value, nodes).map(Action::Partition),
        "heal" => heal(value).map(Action::Heal),
        "link" => links(&value, nodes, segments, whom).map(Action::Link),
        "interface" => interface(value, nodes, segments, whom),
        "nat_reboot" => only_true(&value).map(|()| Action::NatReboot),
        "broadcast_storm" => storm(value).map(Action::BroadcastStorm),
        "clock" => clock_step(value).map(Action::Clock),
        "slow" => delay(value).map(Action::Slow),
        "address" => address(value, whom).map(Action::Address),
        other => unreachable!("`{other}` is none of ACTIONS"),
    }
}

/// Traffic and the place of what it sends.
pub(super) struct WrittenTraffic {
    pub(super) traffic: Traffic,
    pub(super) kind_span: Span,
}

/// Takes `[[traffic]]`.
pub(super) fn traffic(
    file: &mut Table<'_>,
    nodes: &Nodes,
    end: Option<Duration>,
) -> Result<Vec<WrittenTraffic>, Refused> {
    let read = |table: &mut Table<'_>| one_traffic(table, nodes, end);
    let tables = file.optional("traffic", |value| value.tables(read))?;
    tables.map_or_else(Vec::new, |tables| tables.value).into_iter().collect()
}

fn one_traffic(
    table: &mut Table<'_>,
    nodes: &Nodes,
    end: Option<Duration>,
) -> Result<WrittenTraffic, Refused> {
    let from = table.required("from", "from = \"*\"", |value| nodes.select(value));
    let key = only_one(table, &["shout", "whisper", "connect"], "traffic");
    let kind = key.clone().and_then(|key| {
        table.required(key.value, key.value, |value| match key.value {
            "shout" => group(value).map(TrafficKind::Shout),
            "connect" => {
                super::sessions::connect(&value).map(|(to, manner)| TrafficKind::Connect(to, manner))
            }
            _ => nodes.select(value).map(TrafficKind::Whisper),
        })
    });
    let every = table.required("every", "every = \"1 s\"", every);
    let start = table.optional("start", duration);
    let stop = table.optional("stop", duration);
    let bytes = table.optional("bytes", message_bytes);
    let manner = table.optional("manner", one_of(super::sessions::MANNERS));
    let (from, key, mut kind, every, bytes) = (from?, key?, kind?, every?, bytes?);
    let manner = manner?;
    if let TrafficKind::Connect(_, Manner::Query) = kind.value {
        super::sessions::refuse_for_datagrams(table, manner.as_ref(), bytes.as_ref())?;
    }
    if let Some(manner) = manner {
        let TrafficKind::Connect(_, of) = &mut kind.value else {
            let message = format!("`manner` is about sessions, not about `{}`", key.value);
            return Err(table.refuse(manner.span, message, "leave it out"));
        };
        *of = manner.value;
    }
    let (start, stop) = (start?, stop?);
    for given in [&start, &stop].into_iter().flatten() {
        if let Some(end) = end.filter(|end| given.value > *end) {
            return Err(refuse_late(table, given.span.clone(), end));
        }
    }
    let start_value = start.as_ref().map_or(Duration::ZERO, |start| start.value);
    // Without a known end the scenario is refused in any case.
    let stop_value = stop.as_ref().map(|stop| stop.value).or(end).unwrap_or(Duration::MAX);
    if stop_value <= start_value {
        let span = stop.or(start).map_or_else(|| table.span(), |given| given.span);
        let message =
            format!("this traffic starts at {} and stops at {}", written(start_value), written(stop_value));
        return Err(table.refuse(span, message, "let it stop later than it starts"));
    }
    if let TrafficKind::Connect(..) = &kind.value {
        super::sessions::refuse_router(table, nodes, &from)?;
    } else {
        refuse_deaf(table, nodes, &from.value, &key)?;
    }
    if let TrafficKind::Whisper(to) = &kind.value {
        refuse_deaf(table, nodes, to, &key)?;
        // A sender among several receivers skips itself; alone it has nobody.
        refuse_self(table, nodes, from.value.iter().find(|from| to.as_slice() == [**from]), &key)?;
    }
    let bytes = bytes.map_or(BYTES_DEFAULT, |bytes| bytes.value);
    let (every, start, stop) = (every.value, start_value, stop_value);
    let traffic = Traffic { from: from.value, kind: kind.value, every, start, stop, bytes };
    Ok(WrittenTraffic { traffic, kind_span: key.span })
}

/// The one key out of `keys` that is there; its span covers the value too.
fn only_one(
    table: &mut Table<'_>,
    keys: &[&'static str],
    what: &str,
) -> Result<Given<&'static str>, Refused> {
    match table.present(keys).as_slice() {
        [key] => {
            let span = key.span.start..table.span_of(&[key.value]).end;
            Ok(Given { value: key.value, span })
        }
        [] => {
            let names = keys.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let message = format!("this [[{what}]] does nothing");
            Err(table.refuse_missing(keys, message, format!("add one of {names}")))
        }
        [first, second, ..] => {
            let message = format!("one [[{what}]] can't be `{}` and `{}`", first.value, second.value);
            let help = format!("write a `[[{what}]]` for each");
            Err(table.refuse_with(second.span.clone(), message, help, (first.span.clone(), "the first")))
        }
    }
}

/// Refuses a moment that never comes.
pub(super) fn refuse_late(table: &Table<'_>, span: Span, end: Duration) -> Refused {
    let message = format!("the run is over by then: it ends at {}", written(end));
    table.refuse(span, message, "write an earlier moment, or a longer `duration` in [scenario]")
}

/// `restart = true`: the key says it all.
fn only_true(value: &Value<'_>) -> Result<(), Refused> {
    if value.as_bool() == Some(true) {
        return Ok(());
    }
    Err(value.refuse(format!("{} can only be true", value.name()), "write `true`, or drop the step"))
}

fn group(value: Value<'_>) -> Result<String, Refused> {
    text_up_to(GROUP_BYTES_MAX)(value)
}

fn every(value: Value<'_>) -> Result<Duration, Refused> {
    let every = duration(value.clone())?;
    if every < EVERY_MIN {
        let message = format!("a message every {} is too much for one sender", written(every));
        return Err(value.refuse(message, format!("write at least \"{}\"", written(EVERY_MIN))));
    }
    Ok(every)
}

fn message_bytes(value: Value<'_>) -> Result<usize, Refused> {
    let range = MESSAGE_BYTES_MIN as u64..=MESSAGE_BYTES_MAX as u64;
    integer(range, BYTES_DEFAULT as u64)(value).map(|bytes| bytes as usize)
}

fn one_node(value: Value<'_>, nodes: &Nodes) -> Result<NodeIndex, Refused> {
    let selected = nodes.select(value.clone())?;
    let [node] = selected.as_slice() else {
        let message = format!("a step whispers to one node, and these are {}", selected.len());
        return Err(value.refuse(message, "name one, or use `[[traffic]]`, which whispers to each in turn"));
    };
    Ok(*node)
}

/// Refuses nodes that are asked for something that only a ZRE node can do, and are none.
fn refuse_deaf(
    table: &Table<'_>,
    nodes: &Nodes,
    selected: &[NodeIndex],
    key: &Given<&str>,
) -> Result<(), Refused> {
    let mut selected = selected.iter().map(|index| &nodes.list[index.0 as usize]);
    let Some(node) = selected.find(|node| node.config.zre.is_none()) else { return Ok(()) };
    let message = format!("`{}` is not a ZRE node, and has no part in a `{}`", node.name, key.value);
    let help = format!("add `[node.zre]` to the [[node]] `{}`", node.group);
    Err(table.refuse(key.span.clone(), message, help))
}

fn refuse_self(
    table: &Table<'_>,
    nodes: &Nodes,
    sender: Option<&NodeIndex>,
    key: &Given<&str>,
) -> Result<(), Refused> {
    let Some(sender) = sender else { return Ok(()) };
    let message = format!("`{}` would whisper to itself", nodes.list[sender.0 as usize].name);
    Err(table.refuse(key.span.clone(), message, "let it whisper to another node"))
}

/// Refuses groups that no node is ever in: a mistyped name would be silent otherwise.
pub(super) fn refuse_empty_groups(
    file: &Table<'_>,
    nodes: &Nodes,
    steps: &[WrittenStep],
    traffic: &[WrittenTraffic],
) -> Result<(), Refused> {
    let from_start =
        nodes.list.iter().filter_map(|node| node.config.zre.as_ref()).flat_map(|zre| &zre.groups);
    let mut known: BTreeSet<_> = from_start.map(ToString::to_string).collect();
    let mut used = Vec::new();
    for written in steps {
        match &written.step.action {
            Action::Join(group) => drop(known.insert(group.clone())),
            Action::Leave(group) | Action::Shout { group, .. } => used.push((group, &written.action_span)),
            _ => {}
        }
    }
    used.extend(traffic.iter().filter_map(|written| match &written.traffic.kind {
        TrafficKind::Shout(group) => Some((group, &written.kind_span)),
        TrafficKind::Whisper(_) | TrafficKind::Connect(..) => None,
    }));
    let mut outcome = Ok(());
    for (group, span) in used.into_iter().filter(|(group, _)| !known.contains(*group)) {
        let message = format!("no node is ever in the group `{}`", group.escape_debug());
        let help = if known.is_empty() {
            "add it to the `groups` of a [node.zre], or let a step join it".to_owned()
        } else {
            suggestion(group, "the groups are", known.iter().map(String::as_str))
        };
        outcome = Err(file.refuse(span.clone(), message, help));
    }
    outcome
}
