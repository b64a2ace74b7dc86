//! How the events of a repeater are told.

use serde_json::{Value, json};

use super::Told;
use crate::repeater::Event;

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
