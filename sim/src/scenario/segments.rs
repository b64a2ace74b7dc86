//! Segments in scenario files: their prefixes, their links, and what their machines find there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hailer::daemon::diagnostic::Span;
use hailer::daemon::reader::{Given, Refused, Table, Value};
use hailer::repeater::Place;
use ipnet::{Ipv4Net, Ipv6Net};

use super::link::link;
use super::names::{Names, name};
use super::nodes::address;
use super::{Link, MTU6_MIN, Medium, Segment, SegmentIndex};

/// The longest name that DNS resolves.
const HOST_NAME_BYTES_MAX: usize = 253;

/// The segments of a file.
pub(super) struct Segments {
    pub(super) list: Vec<Segment>,
    pub(super) prefix_spans: Vec<Span>,
    /// The default gateway of the nodes on each, where the file names one.
    pub(super) gateways: Vec<Option<Given<Ipv4Addr>>>,
    pub(super) names: Names<SegmentIndex>,
}

/// Takes `[[segment]]`.
pub(super) fn segments(file: &mut Table<'_>) -> Segments {
    let (list, prefix_spans, gateways) = (Vec::new(), Vec::new(), Vec::new());
    let mut segments = Segments { list, prefix_spans, gateways, names: Names::new("segment") };
    let tables = file.required("segment", "[[segment]]", |value| value.tables(segment));
    for table in tables.map_or_else(|refused| vec![Err(refused)], |tables| tables.value) {
        match table {
            Ok(RawSegment { segment, name, prefix, gateway }) => {
                let index = segments.add(file, segment, name, prefix);
                segments.gateways[index.0 as usize] = gateway;
            }
            Err(refused) => segments.names.refuse(refused),
        }
    }
    segments
}

impl Segments {
    /// Adds a segment; the spans are those of its name and of its prefix.
    pub(super) fn add(
        &mut self,
        file: &Table<'_>,
        segment: Segment,
        name: Span,
        prefix: Span,
    ) -> SegmentIndex {
        let index = SegmentIndex(self.list.len() as u32);
        self.names.add(file, &segment.name, name, index);
        self.prefix_spans.push(prefix);
        self.gateways.push(None);
        self.list.push(segment);
        index
    }
}

/// A `[[segment]]`, and what of it is written where.
struct RawSegment {
    segment: Segment,
    name: Span,
    prefix: Span,
    gateway: Option<Given<Ipv4Addr>>,
}

fn segment(table: &mut Table<'_>) -> Result<RawSegment, Refused> {
    let name = table.required("name", "name = \"lan\"", name);
    let prefix = table.required("prefix", "prefix = \"10.77.0.0/16\"", prefix);
    let prefix6 = table.optional("prefix6", prefix6);
    let link = table.optional("link", link(&Link::default()));
    let gateway = table.optional("gateway", address);
    let names = table.optional("names", resolved_names);
    let services = table.optional("services", resolved_services);
    let (name, prefix, gateway) = (name?, prefix?, gateway?);
    let link = link?.map(|link| link.value).unwrap_or_default();
    let names = names?.map(|names| names.value).unwrap_or_default();
    let services = services?.map(|services| services.value).unwrap_or_default();
    let prefix6 = prefix6?;
    if let Some(prefix6) = &prefix6
        && link.mtu < MTU6_MIN
    {
        return Err(table.refuse(prefix6.span.clone(), narrow(link.mtu), NARROW_HELP));
    }
    let prefix6 = prefix6.map(|prefix6| prefix6.value);
    let (name_text, prefix_value, medium) = (name.value, prefix.value, Medium::Lan);
    let segment = Segment {
        name: name_text,
        prefix: prefix_value,
        prefix6,
        link,
        has_names: true,
        names,
        services,
        medium,
    };
    Ok(RawSegment { segment, name: name.span, prefix: prefix.span, gateway })
}

/// What is wrong with IPv6 over a link with this MTU.
pub(super) fn narrow(mtu: u16) -> String {
    format!("IPv6 needs a longer `mtu` than {mtu}")
}

/// What would be right.
pub(super) const NARROW_HELP: &str = "write an `mtu` of 1280 or more, or leave `prefix6` out";

fn prefix6(value: Value<'_>) -> Result<Ipv6Net, Refused> {
    let help = "write a network and its length, for example \"fd00:1::/64\"";
    let Ok(prefix) = value.text()?.parse::<Ipv6Net>() else {
        return Err(value.refuse_kind("an IPv6 prefix", help));
    };
    if prefix.trunc() != prefix {
        let message = format!("`{prefix}` is an address in a network, not a network");
        return Err(value.refuse(message, format!("write \"{}\"", prefix.trunc())));
    }
    if prefix.prefix_len() > 64 {
        let help = "write a \"/64\"; the rest numbers the machines";
        return Err(value.refuse(format!("`{prefix}` is too long for a segment"), help));
    }
    // What machines are given: 2000::/3 and fc00::/7 (RFC 4291, RFC 4193).
    let is_usable = ["2000::/3", "fc00::/7"].map(|usable| usable.parse::<Ipv6Net>().expect("a prefix"));
    if !is_usable.iter().any(|usable| usable.contains(&prefix)) {
        let message = format!("`{prefix}` has addresses that no node can have");
        return Err(value.refuse(message, "networks are in 2000::/3 and fc00::/7"));
    }
    Ok(prefix)
}

/// `{ "server" = "10.0.0.5" }`.
fn resolved_names(value: Value<'_>) -> Result<BTreeMap<String, Vec<IpAddr>>, Refused> {
    let entries = value.entries(|key, value| {
        let key = host_name(key, &value)?;
        let help = "write it like \"10.77.0.9\" or \"fd00::9\"";
        let address = value.text()?.parse().map_err(|_| value.refuse_kind("an address", help))?;
        Ok((key, vec![address]))
    });
    entries.map(|entries| entries.into_iter().collect())
}

/// `{ "_repeater._tcp" = ["10.0.0.5:2340", "server:2340"] }`.
fn resolved_services(value: Value<'_>) -> Result<BTreeMap<String, Vec<Place>>, Refused> {
    let entries = value.entries(|key, value| {
        let key = host_name(key, &value)?;
        let places = value.list("a list of hosts and ports", "[\"10.0.0.5:2340\"]", |value| {
            let place = value.as_str().and_then(|text| Place::parse(text, 0)).filter(|place| place.port != 0);
            place.ok_or_else(|| value.refuse_kind("a host and a port", "write it like \"10.0.0.5:2340\""))
        })?;
        Ok((key, places.into_iter().map(|place| place.value).collect()))
    });
    entries.map(|entries| entries.into_iter().collect())
}

/// A name that is resolved, the key of an entry.
fn host_name(key: Given<&str>, value: &Value<'_>) -> Result<String, Refused> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.value.is_empty() || key.value.len() > HOST_NAME_BYTES_MAX || !key.value.chars().all(is_plain) {
        let message = format!("`{}` can't be a host's name", key.value.escape_debug());
        let help = format!("it has 1 to {HOST_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`");
        return Err(value.refuse_at(key.span, message, help));
    }
    Ok(key.value.to_owned())
}

pub(super) fn prefix(value: Value<'_>) -> Result<Ipv4Net, Refused> {
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
