//! `connect` and `manner` of a `[[traffic]]`: sessions with services that know nothing of Hailer.

use std::net::SocketAddr;

use hailer::daemon::reader::{Given, Refused, Table, Value};

use super::nodes::Nodes;
use super::{Manner, NodeIndex};

/// The address and port that sessions are opened to.
pub(super) fn connect(value: &Value<'_>) -> Result<SocketAddr, Refused> {
    let help = "write the address and the port, like \"203.0.113.10:2222\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind("an address and a port", help))?;
    text.parse().map_err(|_| value.refuse_kind("an address and a port", help))
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
