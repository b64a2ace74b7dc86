//! `traffic-stays-below` and `memory-stays-below`: no node ever sends more in a second, or holds more, than it may.
//!
//! The trace has the most of it for each node, and when that was.

use hailer::Timestamp;

use crate::scenario::{MemoryLimit, NodeIndex, TrafficLimit};
use crate::trace::{Load, Peak};

use super::{Judgement, Run, Violations, count, counted, seconds};

/// What a node did, what is measured of it, how that is called, and its limit.
type Measure = (&'static str, &'static str, fn(&Load) -> Peak, Option<u64>);

pub(super) fn traffic_stays_below(run: &Run<'_>, limit: &TrafficLimit) -> Judgement {
    let measures: [Measure; 3] = [
        ("sent", "packet", |load| load.packets, limit.packets_per_s),
        ("sent", "byte", |load| load.bytes, limit.bytes_per_s),
        ("accepted", "connection", |load| load.connections, limit.connections_per_s),
    ];
    let mut violations = Violations::default();
    let mut details = Vec::new();
    for (did, noun, measure, most) in measures {
        let Some(most) = most else { continue };
        let peaks = limit.nodes.iter().map(|node| {
            let load = run.trace.loads.get(node.0 as usize);
            (*node, load.map_or_else(Peak::default, measure))
        });
        let mut worst: Option<(NodeIndex, Peak)> = None;
        let mut above = 0;
        for (node, peak) in peaks {
            if worst.is_none_or(|(_, other)| peak.most > other.most) {
                worst = Some((node, peak));
            }
            if peak.most > most {
                above += 1;
                violations.push(peak.at, node, || {
                    let sent = counted(peak.most as usize, noun);
                    format!("{} {did} {sent} in the second until {}", run.name(node), seconds(peak.at))
                });
            }
        }
        let Some((node, peak)) = worst else { continue };
        let sent = counted(peak.most as usize, noun);
        let so = format!("at most {sent} in a second, by {} until {}", run.name(node), seconds(peak.at));
        details.push(match above {
            0 => format!("{so}; {} allowed", count(most)),
            above => format!("{} above {}: {so}", counted(above, "node"), count(most)),
        });
    }
    refuse_uncounted(run, "traffic", &mut violations);
    violations.into_judgement(details.join("; "))
}

pub(super) fn memory_stays_below(run: &Run<'_>, limit: &MemoryLimit) -> Judgement {
    let peak =
        |node: NodeIndex| run.trace.loads.get(node.0 as usize).map_or_else(Peak::default, |load| load.memory);
    let mut violations = Violations::default();
    for (node, peak) in
        limit.nodes.iter().map(|node| (*node, peak(*node))).filter(|(_, peak)| peak.most > limit.bytes)
    {
        violations.push(peak.at, node, || {
            format!("{} held {} at {}", run.name(node), counted(peak.most as usize, "byte"), seconds(peak.at))
        });
    }
    let above = violations.count();
    // The first of those that held the most.
    let worst = limit.nodes.iter().copied().min_by_key(|node| std::cmp::Reverse(peak(*node).most));
    let detail = worst.map_or_else(String::new, |node| {
        let peak = peak(node);
        let held = counted(peak.most as usize, "byte");
        let so = format!("at most {held}, by {} at {}", run.name(node), seconds(peak.at));
        match above {
            0 => format!("{so}; {} allowed", count(limit.bytes)),
            above => format!("{} above {}: {so}", counted(above, "node"), count(limit.bytes)),
        }
    });
    refuse_uncounted(run, "memory", &mut violations);
    violations.into_judgement(detail)
}

/// A trace of a world that counts nothing shows nothing, and so nothing holds.
fn refuse_uncounted(run: &Run<'_>, what: &str, violations: &mut Violations) {
    if run.trace.loads.is_empty() {
        violations.push(Timestamp::ZERO, NodeIndex(0), || format!("the {what} was not counted"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{Script, secs};
    use crate::scenario::Property;

    const NONE: TrafficLimit =
        TrafficLimit { nodes: Vec::new(), packets_per_s: None, connections_per_s: None, bytes_per_s: None };

    fn limit(nodes: &[u32], packets: Option<u64>, bytes: Option<u64>) -> Property {
        let nodes = nodes.iter().copied().map(NodeIndex).collect();
        Property::TrafficStaysBelow(TrafficLimit {
            nodes,
            packets_per_s: packets,
            connections_per_s: None,
            bytes_per_s: bytes,
        })
    }

    fn run() -> crate::check::sample::Run {
        let load = |packets, bytes| Load {
            packets: Peak { most: packets, at: secs(3.0) },
            bytes: Peak { most: bytes, at: secs(4.5) },
            connections: Peak { most: packets / 10, at: secs(5.0) },
            memory: Peak { most: bytes * 10, at: secs(6.0) },
        };
        let mut run = Script::new(2).up(0.0, 0).up(0.0, 1).run(10.0);
        run.trace.loads = vec![load(100, 9_000), load(40, 12_000)];
        run
    }

    #[test]
    fn who_sends_as_much_as_is_allowed_passes() {
        let finding = run().judge(limit(&[0, 1], Some(100), Some(12_000)), None);
        assert!(finding.passed());
        assert_eq!(
            finding.detail,
            "at most 100 packets in a second, by n00 until 3.000 s; 100 allowed; \
             at most 12,000 bytes in a second, by n01 until 4.500 s; 12,000 allowed"
        );
    }

    #[test]
    fn who_sends_one_packet_more_or_one_byte_more_does_not() {
        let finding = run().judge(limit(&[0, 1], Some(99), None), None);
        assert_eq!(finding.violations(), ["3.000 s n00: n00 sent 100 packets in the second until 3.000 s"]);
        assert_eq!(finding.detail, "1 node above 99: at most 100 packets in a second, by n00 until 3.000 s");
        let finding = run().judge(limit(&[0, 1], None, Some(8_999)), None);
        assert_eq!(
            finding.violations(),
            [
                "4.500 s n00: n00 sent 9,000 bytes in the second until 4.500 s",
                "4.500 s n01: n01 sent 12,000 bytes in the second until 4.500 s",
            ]
        );
    }

    #[test]
    fn who_accepts_one_connection_more_does_not() {
        let nodes = vec![NodeIndex(0), NodeIndex(1)];
        let limit = |most| TrafficLimit { connections_per_s: Some(most), nodes: nodes.clone(), ..NONE };
        assert!(run().judge(Property::TrafficStaysBelow(limit(10)), None).passed());
        let finding = run().judge(Property::TrafficStaysBelow(limit(9)), None);
        let told = "5.000 s n00: n00 accepted 10 connections in the second until 5.000 s";
        assert_eq!(finding.violations(), [told]);
    }

    #[test]
    fn only_the_nodes_that_are_named_are_judged() {
        assert!(run().judge(limit(&[1], Some(40), None), None).passed());
        assert!(!run().judge(limit(&[0], Some(40), None), None).passed());
    }

    #[test]
    fn who_holds_a_byte_more_than_is_allowed_does_not_pass() {
        let limit = |bytes| {
            let nodes = vec![NodeIndex(0), NodeIndex(1)];
            Property::MemoryStaysBelow(MemoryLimit { nodes, bytes })
        };
        let finding = run().judge(limit(120_000), None);
        assert!(finding.passed());
        assert_eq!(finding.detail, "at most 120,000 bytes, by n01 at 6.000 s; 120,000 allowed");
        let finding = run().judge(limit(119_999), None);
        assert_eq!(finding.violations(), ["6.000 s n01: n01 held 120,000 bytes at 6.000 s"]);
        assert_eq!(finding.detail, "1 node above 119,999: at most 120,000 bytes, by n01 at 6.000 s");
    }

    #[test]
    fn a_trace_without_measurements_passes_nothing() {
        let mut run = run();
        run.trace.loads.clear();
        assert!(!run.judge(limit(&[0], Some(1_000_000), None), None).passed());
    }
}
