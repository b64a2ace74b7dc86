//! Numbers and names as people read them. Every function gives the same text for the same value, everywhere.

use std::time::Duration;

use hailer::Timestamp;

use crate::scenario::{Action, Crash, Delay, NodeIndex, Scenario, SegmentIndex, Step};
use crate::trace::{Drop, Kind};

pub(super) use crate::check::{count, crash_words as crash};

/// A span with its unit, to three digits: `83.2 µs`, `412 ms`, `1.03 s`.
pub(super) fn duration(nanos: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    // A value that three digits would round up to 1000 belongs to the next unit.
    let fits = |(unit, _): &&(u64, &str)| u128::from(nanos) * 10_000 >= u128::from(*unit) * 9_995;
    let Some((unit, name)) = UNITS.iter().find(fits) else { return format!("{nanos} ns") };
    format!("{} {name}", three_digits(nanos as f64 / *unit as f64))
}

/// A number to three digits, at least as many as stand before the point: `0.00`, `1.03`, `30.1`, `1234`.
pub(super) fn three_digits(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// A moment in seconds, to the millisecond, without its unit.
pub(super) fn moment(at: Timestamp) -> String {
    let millis = (at.as_nanos() + 500_000) / 1_000_000;
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// Bytes in decimal units, to three digits: `1.23 MB`.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let fits = |(unit, _): &&(u64, &str)| u128::from(value) * 10_000 >= u128::from(*unit) * 9_995;
    let Some((unit, name)) = UNITS.iter().find(fits) else { return format!("{value} B") };
    format!("{} {name}", three_digits(value as f64 / *unit as f64))
}

/// A share of a whole in percent, without its sign; 0 of nothing.
pub(super) fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { "0.0".to_owned() } else { format!("{:.1}", part as f64 * 100.0 / whole as f64) }
}

/// Text from a scenario file without control characters, which neither a terminal nor an SVG file may get.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { '\u{FFFD}' } else { c }).collect()
}

/// The same for a text of several lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(&line.replace('\t', "    ")) + "\n").collect()
}

fn is_unprintable(c: char) -> bool {
    // Beside control characters: what turns the direction of text, and what XML can't hold.
    c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FFFE}' | '\u{FFFF}')
}

/// Kinds of packets.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Beacon => "beacon",
        Kind::Udp => "other UDP",
        Kind::TcpHandshake => "TCP handshake",
        Kind::TcpData => "TCP data",
        Kind::TcpRetransmit => "TCP data, sent again",
        Kind::TcpControl => "TCP control",
        Kind::TcpReset => "TCP reset",
        Kind::Icmp => "ICMP error",
    }
}

/// Why packets did not arrive.
pub(super) fn drop_cause(cause: Drop) -> &'static str {
    match cause {
        Drop::Loss => "lost on a link",
        Drop::NoHost => "nobody at the address",
        Drop::NoSocket => "no socket at the port",
        Drop::QueueFull => "receive queue full",
        Drop::LinkQueueFull => "link queue full",
        Drop::Corrupt => "damaged on a link",
        Drop::Partition => "cut by a partition",
        Drop::Unplugged => "cable unplugged",
        Drop::NoRoute => "no route",
        Drop::Expired => "too many routers",
        Drop::TooLong => "too long for a link",
        Drop::NatUnmapped => "no mapping of the NAT",
        Drop::NatFiltered => "filtered by the NAT",
        Drop::NatInvalid => "not believed by the NAT",
        Drop::NatForgotten => "forgotten by the NAT",
        Drop::NatNoPort => "no port left at the NAT",
        Drop::NatQuota => "quota of ports used up",
        Drop::NatTableFull => "table of the NAT full",
        Drop::NatTaken => "ends taken at the NAT",
        Drop::Isolated => "kept apart by Docker",
    }
}

/// A kind of packets as a name in JSON.
pub(super) fn kind_key(kind: Kind) -> &'static str {
    match kind {
        Kind::Beacon => "beacon",
        Kind::Udp => "udp",
        Kind::TcpHandshake => "tcp_handshake",
        Kind::TcpData => "tcp_data",
        Kind::TcpRetransmit => "tcp_retransmit",
        Kind::TcpControl => "tcp_control",
        Kind::TcpReset => "tcp_reset",
        Kind::Icmp => "icmp",
    }
}

/// A cause as a name in JSON.
pub(super) fn drop_key(cause: Drop) -> &'static str {
    match cause {
        Drop::Loss => "loss",
        Drop::NoHost => "no_host",
        Drop::NoSocket => "no_socket",
        Drop::QueueFull => "queue_full",
        Drop::LinkQueueFull => "link_queue_full",
        Drop::Corrupt => "corrupt",
        Drop::Partition => "partition",
        Drop::Unplugged => "unplugged",
        Drop::NoRoute => "no_route",
        Drop::Expired => "expired",
        Drop::TooLong => "too_long",
        Drop::NatUnmapped => "nat_unmapped",
        Drop::NatFiltered => "nat_filtered",
        Drop::NatInvalid => "nat_invalid",
        Drop::NatForgotten => "nat_forgotten",
        Drop::NatNoPort => "nat_no_port",
        Drop::NatQuota => "nat_quota",
        Drop::NatTableFull => "nat_table_full",
        Drop::NatTaken => "nat_taken",
        Drop::Isolated => "isolated",
    }
}

/// A way to end as a name in JSON.
pub(super) fn crash_key(crash: Crash) -> &'static str {
    match crash {
        Crash::PowerCut => "power_cut",
        Crash::ProcessExit => "process_exit",
        Crash::Stop => "stop",
    }
}

/// What a step does, without to whom.
pub(super) fn action(scenario: &Scenario, action: &Action) -> String {
    match action {
        Action::Crash(how) => crash(*how).to_owned(),
        Action::Restart => "restart".to_owned(),
        Action::Pause => "pause".to_owned(),
        Action::Resume => "resume".to_owned(),
        Action::Join(group) => format!("join {}", printable(group)),
        Action::Leave(group) => format!("leave {}", printable(group)),
        Action::Shout { group, bytes } => format!("shout {bytes} B to {}", printable(group)),
        Action::Whisper { to, bytes } => format!("whisper {bytes} B to {}", name(scenario, *to)),
        Action::Partition(cut) if cut.is_one_way => "one-way partition".to_owned(),
        Action::Partition(_) => "partition".to_owned(),
        Action::Heal(_) => "heal".to_owned(),
        Action::Link(_) => "link changed".to_owned(),
        Action::Unplug(None) => "unplugged".to_owned(),
        Action::Plug(None) => "plugged in".to_owned(),
        Action::Unplug(Some(segment)) => format!("unplugged from {}", segment_name(scenario, *segment)),
        Action::Plug(Some(segment)) => format!("plugged into {}", segment_name(scenario, *segment)),
        Action::NatReboot => "NAT reboot".to_owned(),
        Action::BroadcastStorm(_) => "broadcast storm".to_owned(),
        Action::Clock(_) => "clock drifts".to_owned(),
        Action::Slow(Delay::Fixed(Duration::ZERO)) => "fast again".to_owned(),
        Action::Slow(_) => "slow".to_owned(),
        Action::Address(new) => format!("address {}", new.address),
    }
}

fn segment_name(scenario: &Scenario, segment: SegmentIndex) -> &str {
    &scenario.segments[segment.0 as usize].name
}

/// To whom a step is done: up to `most` names, the rest counted.
pub(super) fn whom(scenario: &Scenario, step: &Step, most: usize) -> String {
    let some = |nodes: &[NodeIndex]| {
        let names: Vec<String> = nodes.iter().take(most).map(|node| name(scenario, *node)).collect();
        match nodes.len().saturating_sub(most) {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    };
    match &step.action {
        Action::Partition(cut) => format!("{} | {}", some(&cut.from), some(&cut.to)),
        Action::Heal(name) => name.as_deref().map(printable).unwrap_or_default(),
        _ => some(&step.nodes),
    }
}

/// A node's name.
pub(super) fn name(scenario: &Scenario, node: NodeIndex) -> String {
    printable(&scenario.nodes[node.0 as usize].name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_three_digits_and_their_unit() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (83_249, "83.2 µs"),
            (999_499, "999 µs"),
            (999_600, "1.00 ms"),
            (412_000_000, "412 ms"),
            (999_600_000, "1.00 s"),
            (30_149_000_000, "30.1 s"),
            (1_234_000_000_000, "1234 s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn counts_and_bytes_are_readable() {
        let counts = [0, 999, 1_000, 52_318, 1_000_000].map(|value: u64| count(value));
        assert_eq!(counts, ["0", "999", "1,000", "52,318", "1,000,000"]);
        let sizes = [0, 999, 1_000, 1_234_567, 999_999].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.00 kB", "1.23 MB", "1.00 MB"]);
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}[31mb\u{0}\u{202e}c"), "a\u{FFFD}[31mb\u{FFFD}\u{FFFD}c");
    }
}
