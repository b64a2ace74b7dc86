//! NAT in scenario files: what a router with `nat` does, and where the ports that it forwards lead to.
//!
//! A router's `nat` is the name of a preset or a table that starts from one. Forwarded ports name machines, so they are
//! resolved when all of these have their addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{
    Given, Refused, Table, Value, duration, integer, one_of, suggestion, text, written,
};

use super::nodes::{RawAttachment, RawKind, RawNode, attachment};
use super::segments::Segments;
use super::{Attachment, Forward, Kind, Medium, Nat, Node, NodeIndex, Protocol};
use crate::fabric::nat::{Dependence, Hairpin, Policy, PortPolicy, Preset, Unsolicited};

/// What to write for interfaces.
pub(super) const INTERFACES_EXAMPLE: &str = "interfaces = [{ segment = \"left\" }, { segment = \"right\" }]";
/// Shorter time-outs than this would end answers that are on their way.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// More sessions than any table of Linux has by itself.
const SESSIONS_MAX: u64 = 1 << 20;

/// A router's `nat` as it is written.
pub(super) struct RawNat {
    policy: Policy,
    /// Which interface is the outside.
    outside: usize,
    forwards: Vec<RawForward>,
}

struct RawForward {
    protocols: &'static [Protocol],
    port: Given<u16>,
    to: Given<String>,
    to_port: Option<u16>,
}

/// Takes `interfaces` and `nat` of a router.
pub(super) fn interfaces(
    table: &mut Table<'_>,
    segments: &Segments,
) -> Result<(Given<Vec<RawAttachment>>, Option<RawNat>), Refused> {
    let read = |table: &mut Table<'_>| {
        let outside = table.optional("outside", flag);
        let span = table.span_of(&["outside"]);
        let attachment = attachment(table, segments, false);
        let is_outside = outside?.is_some_and(|outside| outside.value);
        Ok((attachment?, is_outside.then_some(span)))
    };
    let written = table.required("interfaces", INTERFACES_EXAMPLE, |value| value.tables(read));
    let nat = table.optional("nat", nat);
    let (written, nat) = (written?, nat?);
    let interfaces = written.value.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (attachments, outsides): (Vec<_>, Vec<_>) = interfaces.into_iter().unzip();
    let marked: Vec<(usize, Span)> =
        outsides.into_iter().enumerate().filter_map(|(place, span)| Some((place, span?))).collect();
    let attachments = Given { value: attachments, span: written.span };
    match (nat, marked.as_slice()) {
        (None, []) => Ok((attachments, None)),
        (None, [(_, span), ..]) => {
            let message = "a router without `nat` has no outside";
            Err(table.refuse(span.clone(), message, "add for example `nat = \"linux\"`, or leave it out"))
        }
        (Some(nat), []) => {
            let help = "write `outside = true` at the interface that leads to the Internet";
            Err(table.refuse(nat.span, "nobody knows which side of this NAT is the outside", help))
        }
        (Some(_), [(_, first), (_, second), ..]) => {
            let (message, help) = ("a NAT has one outside", "leave `outside` out at all others");
            Err(table.refuse_with(second.clone(), message, help, (first.clone(), "the first")))
        }
        (Some(nat), [(outside, _)]) => {
            let (policy, forwards) = nat.value;
            Ok((attachments, Some(RawNat { policy, outside: *outside, forwards })))
        }
    }
}

fn flag(value: Value<'_>) -> Result<bool, Refused> {
    value.as_bool().ok_or_else(|| value.refuse_kind("true or false", "write `true` or `false`"))
}

/// The name of a preset, or a table.
fn nat(value: Value<'_>) -> Result<(Policy, Vec<RawForward>), Refused> {
    if value.as_str().is_some() {
        return Ok((preset(value)?.policy(), Vec::new()));
    }
    if !value.is_table() {
        let help = "write for example \"linux\", or { preset = \"linux\", udp_timeout = \"60 s\" }";
        return Err(value.refuse_kind("the name of a preset, or a table", help));
    }
    value.table(policy)
}

fn preset(value: Value<'_>) -> Result<Preset, Refused> {
    let name = value.text()?;
    Preset::named(name).ok_or_else(|| {
        let message = format!("there is no NAT preset `{}`", name.escape_debug());
        value.refuse(
            message,
            suggestion(name, "the presets are", Preset::ALL.iter().map(|preset| preset.name())),
        )
    })
}

const DEPENDENCES: [(&str, Dependence); 3] = [
    ("endpoint-independent", Dependence::EndpointIndependent),
    ("address-dependent", Dependence::AddressDependent),
    ("address-and-port-dependent", Dependence::AddressAndPortDependent),
];
const PORTS: [(&str, PortPolicy); 4] = [
    ("linux", PortPolicy::Linux),
    ("preserve", PortPolicy::Preserve),
    ("random", PortPolicy::Random),
    ("sequential", PortPolicy::Sequential),
];
const UNSOLICITED: [(&str, Unsolicited); 2] = [("accept", Unsolicited::Accept), ("drop", Unsolicited::Drop)];

fn policy(table: &mut Table<'_>) -> Result<(Policy, Vec<RawForward>), Refused> {
    let preset = table.required("preset", "preset = \"linux\"", preset);
    let mapping = table.optional("mapping", one_of(&DEPENDENCES));
    let filtering = table.optional("filtering", one_of(&DEPENDENCES));
    let ports = table.optional("ports", one_of(&PORTS));
    let hairpin = table.optional("hairpin", flag);
    let unsolicited = table.optional("unsolicited", one_of(&UNSOLICITED));
    let udp_timeout = table.optional("udp_timeout", timeout);
    let tcp_timeout = table.optional("tcp_timeout", timeout);
    let sessions = table.optional("sessions", integer(1..=SESSIONS_MAX, 65_536));
    let forwards = table.optional("forward", |value| value.tables(forward));
    let mut policy = preset?.value.policy();
    let (mapping, filtering, ports, hairpin) = (mapping?, filtering?, ports?, hairpin?);
    if let Some(mapping) = mapping {
        policy.mapping = mapping.value;
    }
    if let Some(filtering) = filtering {
        policy = policy.with_filtering(filtering.value);
    }
    if let Some(ports) = ports {
        if ports.value == PortPolicy::Linux && policy.filtering != Dependence::AddressAndPortDependent {
            let message = "Linux shares ports and tells their owners apart by both ends";
            let help = "write \"preserve\", or leave out `filtering`";
            return Err(table.refuse(ports.span, message, help));
        }
        policy.ports = ports.value;
    }
    if let Some(hairpin) = hairpin {
        policy.hairpin = if hairpin.value { Hairpin::Always } else { Hairpin::Never };
    }
    if let Some(unsolicited) = unsolicited? {
        policy.unsolicited = unsolicited.value;
    }
    if let Some(timeout) = udp_timeout? {
        policy = policy.with_udp_timeout(timeout.value);
    }
    if let Some(timeout) = tcp_timeout? {
        policy.timeouts.tcp.established = timeout.value;
    }
    if let Some(sessions) = sessions? {
        policy.sessions_max = sessions.value as usize;
    }
    let forwards = forwards?.map(|forwards| forwards.value.into_iter().collect::<Result<Vec<_>, _>>());
    let forwards = forwards.transpose()?.unwrap_or_default();
    refuse_twice(table, &forwards)?;
    Ok((policy, forwards))
}

fn timeout(value: Value<'_>) -> Result<Duration, Refused> {
    let timeout = duration(value.clone())?;
    if timeout < TIMEOUT_MIN {
        let message = format!("no answer comes back within {}", written(timeout));
        return Err(value.refuse(message, format!("write at least \"{}\"", written(TIMEOUT_MIN))));
    }
    Ok(timeout)
}

/// `{ port, to, to_port, protocol }`.
fn forward(table: &mut Table<'_>) -> Result<RawForward, Refused> {
    const PROTOCOLS: [(&str, &[Protocol]); 2] = [("udp", &[Protocol::Udp]), ("tcp", &[Protocol::Tcp])];
    let port = |value| integer(1..=u64::from(u16::MAX), 5670)(value).map(|port| port as u16);
    let outside = table.required("port", "port = 5670", port);
    let to = table.required("to", "to = \"n1\"", text);
    let to_port = table.optional("to_port", port);
    let protocol = table.optional("protocol", one_of(&PROTOCOLS));
    Ok(RawForward {
        port: outside?,
        to: to?,
        to_port: to_port?.map(|port| port.value),
        protocols: protocol?.map_or(&[Protocol::Udp, Protocol::Tcp], |protocol| protocol.value),
    })
}

/// A port leads to one machine.
fn refuse_twice(table: &Table<'_>, forwards: &[RawForward]) -> Result<(), Refused> {
    for (place, forward) in forwards.iter().enumerate() {
        let overlaps = |other: &&RawForward| {
            other.port.value == forward.port.value
                && other.protocols.iter().any(|protocol| forward.protocols.contains(protocol))
        };
        if let Some(first) = forwards[..place].iter().find(overlaps) {
            let message = format!("port {} is forwarded already", forward.port.value);
            let related = (first.port.span.clone(), "here");
            let help = "write another port, or another protocol";
            return Err(table.refuse_with(forward.port.span.clone(), message, help, related));
        }
    }
    Ok(())
}

/// Gives every router its NAT. All machines have their addresses.
pub(super) fn give_nats<'r>(
    file: &Table<'_>,
    segments: &Segments,
    raws: &'r [RawNode],
    nodes: &mut [Node],
) -> Result<(), Refused> {
    let mut outcome = Ok(());
    let expanded =
        |raws: &'r [RawNode]| raws.iter().flat_map(|raw| std::iter::repeat_n(raw, raw.count.unwrap_or(1)));
    for (place, raw) in expanded(raws).enumerate() {
        let Some(nat) = &raw.nat else { continue };
        let mut forwards = Vec::new();
        for forward in &nat.forwards {
            match target(file, segments, nodes, place, nat.outside, &forward.to) {
                Ok(address) => {
                    let to = SocketAddr::from((address, forward.to_port.unwrap_or(forward.port.value)));
                    let port = forward.port.value;
                    forwards.extend(forward.protocols.iter().map(|protocol| Forward {
                        protocol: *protocol,
                        port,
                        to,
                    }));
                }
                Err(refused) => outcome = Err(refused),
            }
        }
        nodes[place].nat =
            Some(Nat { policy: nat.policy.clone(), outside: nat.outside, forwards, userland_proxy: None });
    }
    for (place, raw) in expanded(raws).enumerate() {
        if let RawKind::DockerHost { userland_proxy } = raw.kind {
            nodes[place].nat = docker_nat(segments, nodes, place, userland_proxy);
        }
    }
    outcome
}

/// What a Docker host does with what its containers send, and with what comes to their published ports: Linux, with the
/// first interface that is no bridge as the outside.
fn docker_nat(segments: &Segments, nodes: &[Node], place: usize, userland_proxy: bool) -> Option<Nat> {
    let host = &nodes[place];
    let is_outer = |own: &Attachment| segments.list[own.segment.0 as usize].medium == Medium::Lan;
    let outside = host.interfaces.iter().position(is_outer)?;
    let mut forwards = Vec::new();
    for container in nodes.iter().filter(|node| node.kind == Kind::Container(NodeIndex(place as u32))) {
        let is_shared = |own: &&Attachment| host.interfaces.iter().any(|its| its.segment == own.segment);
        let Some(own) = container.interfaces.iter().find(is_shared) else { continue };
        forwards.extend(container.published.iter().map(|published| Forward {
            protocol: published.protocol,
            port: published.port,
            to: SocketAddr::from((own.address, published.to)),
        }));
    }
    Some(Nat { policy: Preset::Linux.policy(), outside, forwards, userland_proxy: Some(userland_proxy) })
}

/// The inside address of whom a forwarded port leads to: of a machine that is named, or as it is written.
fn target(
    file: &Table<'_>,
    segments: &Segments,
    nodes: &[Node],
    router: usize,
    outside: usize,
    to: &Given<String>,
) -> Result<Ipv4Addr, Refused> {
    if let Ok(address) = to.value.parse() {
        return Ok(address);
    }
    let Some(node) = nodes.iter().find(|node| node.name == to.value) else {
        let message = format!("there is no node `{}`", to.value.escape_debug());
        let help = suggestion(&to.value, "the nodes are", nodes.iter().map(|node| node.name.as_str()));
        return Err(file.refuse(to.span.clone(), message, help));
    };
    let inside = nodes[router].interfaces.iter().enumerate().filter(|(place, _)| *place != outside);
    let inside: Vec<_> = inside.map(|(_, own)| own.segment).collect();
    let found = node.interfaces.iter().find(|own| inside.contains(&own.segment));
    found.map(|own| own.address).ok_or_else(|| {
        let names = inside.iter().map(|segment| format!("`{}`", segments.list[segment.0 as usize].name));
        let names = names.collect::<Vec<_>>().join(" or ");
        let message = format!("`{}` is not inside of `{}`", node.name, nodes[router].name);
        let help = format!("name a node on {names}, or write the address by which it is reached");
        file.refuse(to.span.clone(), message, help)
    })
}
