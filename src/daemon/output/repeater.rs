//! How the events of a repeater are told.

use serde_json::{Map, Value, json};

use super::Told;
use crate::repeater::{Event, Statistics};

impl Told for Event {
    fn as_json(&self) -> Value {
        match self {
            Self::RepeaterFound(place) => json!({"event": "REPEATER-FOUND", "repeater": place.to_string()}),
            Self::RepeaterGone(place) => json!({"event": "REPEATER-GONE", "repeater": place.to_string()}),
            Self::NodeHere { peer, inbox } => {
                json!({"event": "NODE-HERE", "peer": peer.to_string(), "inbox": inbox.to_string()})
            }
            Self::NodeElsewhere { peer, inbox, repeater } => json!({
                "event": "NODE-ELSEWHERE",
                "peer": peer.to_string(),
                "inbox": inbox.to_string(),
                "repeater": repeater.to_string(),
            }),
            Self::NodeGone { peer } => json!({"event": "NODE-GONE", "peer": peer.to_string()}),
        }
    }

    fn in_words(&self) -> Option<String> {
        Some(match self {
            Self::RepeaterFound(place) => format!("found repeater   {place}"),
            Self::RepeaterGone(place) => format!("lost repeater    {place}"),
            Self::NodeHere { peer, inbox } => format!("node here        {peer} at {inbox}"),
            Self::NodeElsewhere { peer, inbox, repeater } => {
                format!("node elsewhere   {peer} at {inbox}, says {repeater}")
            }
            Self::NodeGone { peer } => format!("node gone        {peer}"),
        })
    }
}

/// What a repeater counted: everything for programs, what is not zero for people.
impl Told for Statistics {
    fn as_json(&self) -> Value {
        let counters: Map<String, Value> =
            self.iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
        json!({"event": "COUNTERS", "role": "repeater", "counters": counters})
    }

    fn in_words(&self) -> Option<String> {
        let counted = self.iter().filter(|(_, count)| *count > 0);
        let words: Vec<_> = counted.map(|(name, count)| format!("{name} {count}")).collect();
        (!words.is_empty()).then(|| format!("# repeater  {}", words.join("  ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_by_name_and_carried_connections_with_them() {
        let mut counted = Statistics { connections: 2, connection_bytes_out: 7, ..Statistics::default() };
        counted.beacons.heard = 3;
        let told = counted.as_json();
        assert_eq!((&told["event"], &told["role"]), (&json!("COUNTERS"), &json!("repeater")));
        let counters = &told["counters"];
        assert_eq!((&counters["heard"], &counters["connections"]), (&json!(3), &json!(2)));
        for name in ["open", "over_limit", "refused", "failed"] {
            assert_eq!(counters[format!("connections_{name}")], 0, "{name}");
        }
        assert_eq!(
            (&counters["connection_bytes_in"], &counters["connection_bytes_out"]),
            (&json!(0), &json!(7))
        );
        let words = counted.in_words().unwrap();
        assert_eq!(words, "# repeater  heard 3  connections 2  connection_bytes_out 7");
        assert_eq!(Statistics::default().in_words(), None);
    }
}
