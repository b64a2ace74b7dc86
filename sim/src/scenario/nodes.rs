//! Segments and nodes in scenario files: counts are expanded here and addresses are given out.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use hailer::daemon::Config;
use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Given, Refused, Table, Value, integer, written};
use hailer::zre::{PeerId, Text};
use ipnet::Ipv4Net;

use super::link::{link, moments};
use super::machine::clock;
use super::names::{Names, name};
use super::{Attachment, Drift, Link, Node, NodeIndex, Segment, SegmentIndex};

/// The most nodes a scenario can have. Each runs a whole program; a larger count is a mistyped one.
const NODES_MAX: usize = 10_000;

/// The segments of a file.
pub(super) struct Segments {
    pub(super) list: Vec<Segment>,
    prefix_spans: Vec<Span>,
    names: Names<SegmentIndex>,
}

/// The nodes of a file.
pub(super) struct Nodes {
    pub(super) list: Vec<Node>,
    names: Names<Vec<NodeIndex>>,
}

/// Takes `[[segment]]`.
pub(super) fn segments(file: &mut Table<'_>) -> Segments {
    let mut segments = Segments { list: Vec::new(), prefix_spans: Vec::new(), names: Names::new("segment") };
    let tables = file.required("segment", "[[segment]]", |value| value.tables(segment));
    for table in tables.map_or_else(|refused| vec![Err(refused)], |tables| tables.value) {
        match table {
            Ok((name, prefix_span, segment)) => {
                let index = SegmentIndex(segments.list.len() as u32);
                segments.names.add(file, &segment.name, name, index);
                segments.prefix_spans.push(prefix_span);
                segments.list.push(segment);
            }
            Err(refused) => segments.names.refuse(refused),
        }
    }
    segments
}

fn segment(table: &mut Table<'_>) -> Result<(Span, Span, Segment), Refused> {
    let name = table.required("name", "name = \"lan\"", name);
    let prefix = table.required("prefix", "prefix = \"10.77.0.0/16\"", prefix);
    let link = table.optional("link", link(&Link::default()));
    let (name, prefix) = (name?, prefix?);
    let link = link?.map(|link| link.value).unwrap_or_default();
    Ok((name.span, prefix.span, Segment { name: name.value, prefix: prefix.value, link }))
}

fn prefix(value: Value<'_>) -> Result<Ipv4Net, Refused> {
    let help = "write a network and its length, for example \"10.77.0.0/16\"";
    let Ok(prefix) = value.text()?.parse::<Ipv4Net>() else {
        return Err(value.refuse_kind("an IPv4 prefix", help));
    };
    if prefix.trunc() != prefix {
        let message = format!("`{prefix}` is an address in a network, not a network");
        return Err(value.refuse(message, format!("write \"{}\"", prefix.trunc())));
    }
    if prefix.prefix_len() > 30 {
        return Err(value.refuse(format!("`{prefix}` has no room for two nodes"), "write \"/30\" or less"));
    }
    let (first, last) = (prefix.network(), prefix.broadcast());
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    // 0.0.0.0/8 is "this host", 224.0.0.0 and above are multicast and reserved (RFC 1122, RFC 1112).
    let is_usable = first.octets()[0] != 0 && last.octets()[0] < 224;
    if !is_usable || prefix.contains(&loopback) || loopback.contains(&prefix) {
        let message = format!("`{prefix}` has addresses that no node can have");
        return Err(value.refuse(message, "networks are in 1.0.0.0 to 223.255.255.255, without 127.0.0.0/8"));
    }
    Ok(prefix)
}

/// A `[[node]]` as it is written.
struct RawNode {
    name: Given<String>,
    count: Option<usize>,
    attachments: Vec<RawAttachment>,
    start: (Duration, Duration),
    clock: Drift,
    config: Config,
    identity_span: Span,
}

/// An interface as it is written.
struct RawAttachment {
    segment: SegmentIndex,
    address: Option<Given<Ipv4Addr>>,
    link: Link,
}

/// Takes `[[node]]`. Nodes start before `end`, when that is known.
pub(super) fn nodes(file: &mut Table<'_>, segments: &Segments, end: Option<Duration>) -> Nodes {
    let mut nodes = Nodes { list: Vec::new(), names: Names::new("node") };
    let tables = file.required("node", "[[node]]", |value| value.tables(|table| node(table, segments, end)));
    let mut raws = Vec::new();
    for table in tables.map_or_else(|refused| vec![Err(refused)], |tables| tables.value) {
        match table {
            Ok(raw) => raws.push(raw),
            Err(refused) => nodes.names.refuse(refused),
        }
    }
    if raws.iter().map(|raw| raw.count.unwrap_or(1)).sum::<usize>() > NODES_MAX {
        let span = raws.last().map_or_else(|| file.span(), |raw| raw.name.span.clone());
        let message = format!("these are more than {NODES_MAX} nodes");
        nodes.names.refuse(file.refuse(span, message, "write smaller counts"));
        return nodes;
    }
    for raw in &raws {
        let first = nodes.list.len() as u32;
        let count = raw.count.unwrap_or(1);
        let all: Vec<_> = (first..first + count as u32).map(NodeIndex).collect();
        nodes.names.add(file, &raw.name.value, raw.name.span.clone(), all);
        for i in 0..count {
            let node = expanded(raw, i);
            if raw.count.is_some() {
                let index = NodeIndex(nodes.list.len() as u32);
                nodes.names.add(file, &node.name, raw.name.span.clone(), vec![index]);
            }
            nodes.list.push(node);
        }
    }
    if let Err(refused) = refuse_shared_identities(file, &raws) {
        nodes.names.refuse(refused);
    }
    // Addresses that follow from a part of the file only would be refused for the wrong reasons.
    if nodes.names.complete().and(segments.names.complete()).is_ok()
        && let Err(refused) = give_addresses(file, segments, &raws, &mut nodes.list)
    {
        nodes.names.refuse(refused);
    }
    nodes
}

fn node(table: &mut Table<'_>, segments: &Segments, end: Option<Duration>) -> Result<RawNode, Refused> {
    let name = table.required("name", "name = \"n\"", name);
    let count = table.optional("count", integer(1..=NODES_MAX as u64, 30));
    let is_many = matches!(&count, Ok(Some(count)) if count.value > 1);
    let attachments = attachments(table, segments, is_many);
    let start = table.optional("start", moments);
    let clock = table.optional("clock", clock);
    let config = Config::read(table);
    if let (Ok(Some(start)), Some(end)) = (&start, end)
        && start.value.1 >= end
    {
        let message = format!("this node starts when the run is over, at {}", written(end));
        return Err(table.refuse(
            start.span.clone(),
            message,
            "write an earlier moment, or a longer `duration`",
        ));
    }
    Ok(RawNode {
        name: name?,
        count: count?.map(|count| count.value as usize),
        attachments: attachments?,
        start: start?.map(|start| start.value).unwrap_or_default(),
        clock: clock?.map(|clock| clock.value).unwrap_or_default(),
        config: config?,
        identity_span: table.span_of(&["zre", "identity"]),
    })
}

/// Either `segment` with `address` and `link`, or `interfaces`, each with the same.
fn attachments(
    table: &mut Table<'_>,
    segments: &Segments,
    is_many: bool,
) -> Result<Vec<RawAttachment>, Refused> {
    let single = table.present(&["segment", "address", "link"]);
    let interfaces =
        table.optional("interfaces", |value| value.tables(|table| attachment(table, segments, is_many)));
    let Some(interfaces) = interfaces? else { return Ok(vec![attachment(table, segments, is_many)?]) };
    if let Some(key) = single.first() {
        let message = format!("`{}` and `interfaces` do not go together", key.value);
        return Err(table.refuse(key.span.clone(), message, "write it in each of the interfaces"));
    }
    if interfaces.value.is_empty() {
        let help = "add one, for example `interfaces = [{ segment = \"lan\" }]`";
        return Err(table.refuse(interfaces.span, "this node has no interface", help));
    }
    interfaces.value.into_iter().collect()
}

fn attachment(table: &mut Table<'_>, segments: &Segments, is_many: bool) -> Result<RawAttachment, Refused> {
    let segment = table.required("segment", "segment = \"lan\"", |value| {
        segments.names.find(&value, value.text()?).copied()
    });
    let address = table.optional("address", address);
    let base = segment.as_ref().ok().map(|index| &segments.list[index.value.0 as usize]);
    let link = table.optional("link", link(&base.map(|segment| segment.link.clone()).unwrap_or_default()));
    let (segment, address) = (segment?, address?);
    if let (Some(address), Some(base)) = (&address, base) {
        let is_host = base.prefix.contains(&address.value)
            && address.value != base.prefix.network()
            && address.value != base.prefix.broadcast();
        if !is_host {
            let message = format!("{} is no address of a node in `{}`", address.value, base.name);
            let help =
                format!("its network is {}; without `address` the next free one is taken", base.prefix);
            return Err(table.refuse(address.span.clone(), message, help));
        }
        if is_many {
            let help = "leave `address` out, so that each gets its own, or write a `[[node]]` for each";
            return Err(table.refuse(address.span.clone(), "several nodes can't share an address", help));
        }
    }
    let link =
        link?.map_or_else(|| base.map(|base| base.link.clone()).unwrap_or_default(), |link| link.value);
    Ok(RawAttachment { segment: segment.value, address, link })
}

pub(super) fn address(value: Value<'_>) -> Result<Ipv4Addr, Refused> {
    value.text()?.parse().map_err(|_| value.refuse_kind("an IPv4 address", "write it like \"10.77.0.9\""))
}

/// The `i`th node of a table, with no addresses yet.
fn expanded(raw: &RawNode, i: usize) -> Node {
    let name = match raw.count {
        Some(count) => format!("{}{:0width$}", raw.name.value, i + 1, width = count.to_string().len()),
        None => raw.name.value.clone(),
    };
    let (from, to) = raw.start;
    let gaps = raw.count.map_or(0, |count| count as u32 - 1);
    let start = if gaps == 0 { from } else { from + (to - from) * i as u32 / gaps };
    let mut config = raw.config.clone();
    if let Some(zre) = &mut config.zre {
        zre.name.get_or_insert_with(|| Text::from(name.as_str()));
    }
    let attach = |raw: &RawAttachment| Attachment {
        segment: raw.segment,
        address: Ipv4Addr::UNSPECIFIED,
        link: raw.link.clone(),
    };
    let interfaces = raw.attachments.iter().map(attach).collect();
    Node { name, group: raw.name.value.clone(), interfaces, start, clock: raw.clock, config }
}

/// An identity is one node's.
fn refuse_shared_identities(file: &Table<'_>, raws: &[RawNode]) -> Result<(), Refused> {
    let mut owners: BTreeMap<PeerId, Span> = BTreeMap::new();
    let mut outcome = Ok(());
    for raw in raws {
        let Some(identity) = raw.config.zre.as_ref().and_then(|zre| zre.identity) else { continue };
        let (span, help) = (raw.identity_span.clone(), "leave it out for one that is drawn from the seed");
        if raw.count.is_some_and(|count| count > 1) {
            outcome = Err(file.refuse(span.clone(), "several nodes can't share an identity", help));
        } else if let Some(first) = owners.get(&identity) {
            let related = (first.clone(), "the other one");
            outcome = Err(file.refuse_with(span.clone(), "two nodes can't share an identity", help, related));
        }
        owners.entry(identity).or_insert(span);
    }
    outcome
}

/// Gives the addresses that the file names, and then, in its order, the lowest free ones to everybody else.
fn give_addresses(
    file: &Table<'_>,
    segments: &Segments,
    raws: &[RawNode],
    nodes: &mut [Node],
) -> Result<(), Refused> {
    let mut outcome = Ok(());
    let mut needed = vec![0; segments.list.len()];
    let mut taken: BTreeMap<(SegmentIndex, Ipv4Addr), Span> = BTreeMap::new();
    for raw in raws {
        for attachment in &raw.attachments {
            needed[attachment.segment.0 as usize] += raw.count.unwrap_or(1);
            let Some(address) = &attachment.address else { continue };
            if let Some(first) = taken.get(&(attachment.segment, address.value)) {
                let message = format!("the address {} is taken", address.value);
                let help = "write another one; without `address` the next free one is taken";
                let related = (first.clone(), "by this one");
                outcome = Err(file.refuse_with(address.span.clone(), message, help, related));
            } else {
                taken.insert((attachment.segment, address.value), address.span.clone());
            }
        }
    }
    for ((segment, span), needed) in segments.list.iter().zip(&segments.prefix_spans).zip(needed) {
        let room = |prefix_len: u8| (1_usize << (32 - prefix_len)) - 2;
        let prefix = segment.prefix;
        if needed > room(prefix.prefix_len()) {
            let fitting = (1..=30).rev().find(|len| room(*len) >= needed).unwrap_or(1);
            let has = room(prefix.prefix_len());
            let message =
                format!("{prefix} has {has} addresses, and {needed} interfaces are on `{}`", segment.name);
            outcome = Err(file.refuse(span.clone(), message, format!("a /{fitting} has room for them")));
        }
    }
    outcome?;
    let mut free: Vec<_> = segments.list.iter().map(|segment| segment.prefix.hosts()).collect();
    let written = raws.iter().flat_map(|raw| std::iter::repeat_n(raw, raw.count.unwrap_or(1)));
    for (node, raw) in nodes.iter_mut().zip(written) {
        for (interface, written) in node.interfaces.iter_mut().zip(&raw.attachments) {
            let is_free = |address: &Ipv4Addr| !taken.contains_key(&(written.segment, *address));
            let mut next = || free[written.segment.0 as usize].find(is_free).expect("there is room for all");
            interface.address = written.address.as_ref().map_or_else(&mut next, |address| address.value);
        }
    }
    Ok(())
}

impl Nodes {
    /// Whether every node of the file is here.
    pub(super) fn complete(&self) -> Result<(), Refused> {
        self.names.complete()
    }

    /// The nodes that a value names: a node, all of a `[[node]]`, a list of those, or `"*"`. In the order of the file.
    pub(super) fn select(&self, value: Value<'_>) -> Result<Vec<NodeIndex>, Refused> {
        let mut selected = if value.is_list() {
            let items = value.list("a list of nodes", "[\"n01\", \"n02\"]", |item| self.select_one(&item))?;
            items.into_iter().flat_map(|item| item.value).collect()
        } else {
            self.select_one(&value)?
        };
        selected.sort_unstable();
        selected.dedup();
        Ok(selected)
    }

    fn select_one(&self, value: &Value<'_>) -> Result<Vec<NodeIndex>, Refused> {
        match value.as_str() {
            Some("*") => self.complete().map(|()| (0..self.list.len() as u32).map(NodeIndex).collect()),
            Some(name) => self.names.find(value, name).cloned(),
            None => Err(value.refuse_kind("the name of a node", "write it in quotes; \"*\" is all of them")),
        }
    }
}
