//! What `--trace` writes: a JSON object a line for everything that happens, and for every packet that does not arrive.
//!
//! The keys are the columns of `events.csv`; what a record does not have is left out.

use hailer::Timestamp;
use serde_json::{Map, Value, json};

use crate::fabric::packet::Packet;
use crate::scenario::Scenario;
use crate::trace::{Drop, Record};

use super::{events, text};

/// The line of a record.
pub(crate) fn record(scenario: &Scenario, record: &Record) -> String {
    let node = &scenario.nodes[record.node.0 as usize].name;
    let row = events::row(scenario, &record.what);
    let mut line = begin(record.at, node, row.what);
    for (key, value) in [("peer", row.peer), ("group", row.group), ("text", row.text)] {
        if !value.is_empty() {
            line.insert(key.to_owned(), value.into());
        }
    }
    for (key, value) in [("peer_life", row.peer_life), ("number", row.number), ("bytes", row.bytes)] {
        if let Ok(number) = value.parse::<u64>() {
            line.insert(key.to_owned(), number.into());
        }
    }
    if !row.intact.is_empty() {
        line.insert("intact".to_owned(), (row.intact == "yes").into());
    }
    Value::Object(line).to_string()
}

/// The line of a packet that goes no further, counted for the node called `node`.
pub(crate) fn drop(at: Timestamp, node: &str, cause: Drop, packet: &Packet, beacon_port: u16) -> String {
    let mut line = begin(at, node, "drop");
    let facts = json!({
        "cause": text::drop_key(cause),
        "kind": text::kind_key(packet.kind(beacon_port)),
        "from": packet.from.to_string(),
        "to": packet.to.to_string(),
        "bytes": packet.wire_len(),
    });
    if let Value::Object(facts) = facts {
        line.extend(facts);
    }
    Value::Object(line).to_string()
}

fn begin(at: Timestamp, node: &str, what: &str) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("at_ns".to_owned(), at.as_nanos().into());
    line.insert("node".to_owned(), node.into());
    line.insert("what".to_owned(), what.into());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::Script;
    use crate::fabric::packet::Body;

    #[test]
    fn a_line_has_what_the_record_has_and_no_more() {
        let run = Script::new(2).up(0.0, 0).got_shout(2.0, 0, (1, 0), 7).run(9.0);
        let lines: Vec<Value> = run
            .trace
            .records
            .iter()
            .map(|one| serde_json::from_str(&record(&run.scenario, one)).unwrap())
            .collect();
        let up = json!({ "at_ns": 0, "node": "n00", "what": "up", "peer_life": 0, "text": "0".repeat(32) });
        let shout = json!({
            "at_ns": 2_000_000_000_u64, "node": "n00", "what": "SHOUT", "peer": "n01", "peer_life": 0,
            "group": "g", "number": 7, "intact": true,
        });
        assert_eq!(lines, [up, shout]);
    }

    #[test]
    fn a_drop_says_what_was_dropped_and_why() {
        let packet = Packet::new(
            "10.0.0.1:5670".parse().unwrap(),
            "10.0.0.255:5670".parse().unwrap(),
            Body::Udp(bytes::Bytes::from_static(&[0; 22])),
        );
        let line: Value =
            serde_json::from_str(&drop(Timestamp::from_nanos(5), "n1", Drop::Loss, &packet, 5670)).unwrap();
        let facts = json!({
            "at_ns": 5, "node": "n1", "what": "drop", "cause": "loss", "kind": "beacon",
            "from": "10.0.0.1:5670", "to": "10.0.0.255:5670", "bytes": 50,
        });
        assert_eq!(line, facts);
    }
}
