//! `traffic-stays-below`: no node ever sends more in a second than it may.
//!
//! The trace has the most that each node sent in any second, and when that was.

use hailer::Timestamp;

use crate::scenario::TrafficLimit;
use crate::trace::{Load, Peak};

use super::{Judgement, Run, Violations, count, counted, seconds};

/// What is measured of a load, how it is called, and its limit.
type Measure = (&'static str, fn(&Load) -> Peak, Option<u64>);

pub(super) fn traffic_stays_below(run: &Run<'_>, limit: &TrafficLimit) -> Judgement {
    let measures: [Measure; 2] = [
        ("packet", |load| load.packets, limit.packets_per_s),
        ("byte", |load| load.bytes, limit.bytes_per_s),
    ];
    let mut violations = Violations::default();
    let mut details = Vec::new();
    for (noun, measure, most) in measures {
        let Some(most) = most else { continue };
        let peaks = limit.nodes.iter().map(|node| {
            let load = run.trace.loads.get(node.0 as usize);
            (*node, load.map_or_else(Peak::default, measure))
        });
        let mut worst: Option<(crate::scenario::NodeIndex, Peak)> = None;
        let mut above = 0;
        for (node, peak) in peaks {
            if worst.is_none_or(|(_, other)| peak.most > other.most) {
                worst = Some((node, peak));
            }
            if peak.most > most {
                above += 1;
                violations.push(peak.at, node, || {
                    let sent = counted(peak.most as usize, noun);
                    format!("{} sent {sent} in the second until {}", run.name(node), seconds(peak.at))
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
    if run.trace.loads.is_empty() {
        // A trace of a world that counts nothing shows nothing, and so nothing holds.
        let node = limit.nodes.first().copied().unwrap_or(crate::scenario::NodeIndex(0));
        violations.push(Timestamp::ZERO, node, || "the traffic was not counted".to_owned());
    }
    violations.into_judgement(details.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{Script, secs};
    use crate::scenario::{NodeIndex, Property};

    fn limit(nodes: &[u32], packets: Option<u64>, bytes: Option<u64>) -> Property {
        let nodes = nodes.iter().copied().map(NodeIndex).collect();
        Property::TrafficStaysBelow(TrafficLimit { nodes, packets_per_s: packets, bytes_per_s: bytes })
    }

    fn run() -> crate::check::sample::Run {
        let load = |packets, bytes| Load {
            packets: Peak { most: packets, at: secs(3.0) },
            bytes: Peak { most: bytes, at: secs(4.5) },
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
    fn only_the_nodes_that_are_named_are_judged() {
        assert!(run().judge(limit(&[1], Some(40), None), None).passed());
        assert!(!run().judge(limit(&[0], Some(40), None), None).passed());
    }

    #[test]
    fn a_trace_without_measurements_passes_nothing() {
        let mut run = run();
        run.trace.loads.clear();
        assert!(!run.judge(limit(&[0], Some(1_000_000), None), None).passed());
    }
}
