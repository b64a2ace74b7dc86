//! `connect` and `manner` of a `[[traffic]]`: sessions with services that know nothing of Hailer, over TCP or UDP.

use std::net::SocketAddr;

use hailer::daemon::reader::{Given, Refused, Table, Value};
use hailer::relay::Protocol;

use super::nodes::Nodes;
use super::{Manner, NodeIndex};

/// A datagram of more bytes is none that a relay carries.
const QUERY_BYTES_MAX: usize = 65_000;

/// The address and port that sessions are opened to, and how clients behave if nothing is said.
pub(super) fn connect(value: &Value<'_>) -> Result<(SocketAddr, Manner), Refused> {
    let help = "write the address and the port, like \"203.0.113.10:2222\", or \"udp:203.0.113.10:53\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("an address and a port", help))?;
    let (protocol, at) = Protocol::split(text);
    let manner = match protocol {
        Protocol::Tcp => Manner::default(),
        Protocol::Udp => Manner::Query,
    };
    at.parse().map(|at| (at, manner)).map_err(|_| value.refuse_kind("an address and a port", help))
}

/// Refuses what only connections can do, when there is none.
pub(super) fn refuse_for_datagrams(
    table: &Table<'_>,
    manner: Option<&Given<Manner>>,
    bytes: Option<&Given<usize>>,
) -> Result<(), Refused> {
    if let Some(manner) = manner {
        let message = "`manner` is about connections, and this traffic has none";
        return Err(table.refuse(manner.span.clone(), message, "leave it out"));
    }
    match bytes {
        Some(bytes) if bytes.value > QUERY_BYTES_MAX => {
            let message = format!("no datagram has {} bytes", bytes.value);
            Err(table.refuse(bytes.span.clone(), message, "write at most 65000; 64 is usual"))
        }
        _ => Ok(()),
    }
}

/// How the clients behave.
pub(super) const MANNERS: &[(&str, Manner)] =
    &[("echo", Manner::Echo), ("slow", Manner::Slow), ("idle", Manner::Idle), ("trickle", Manner::Trickle)];

/// Refuses routers, which run no program that could open a session.
pub(super) fn refuse_router(
    table: &Table<'_>,
    nodes: &Nodes,
    from: &Given<Vec<NodeIndex>>,
) -> Result<(), Refused> {
    let mut selected = from.value.iter().map(|index| &nodes.list[index.0 as usize]);
    let Some(router) = selected.find(|node| node.kind.is_router()) else { return Ok(()) };
    let message = format!("`{}` is a router, and runs no program", router.name);
    Err(table.refuse(from.span.clone(), message, "name a [[node]]"))
}
