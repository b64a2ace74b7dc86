//! How the events of a gossip hub are told.

use serde_json::{Value, json};

use super::Told;
use crate::gossip::{Event, Why};

impl Told for Event {
    fn as_json(&self) -> Value {
        match self {
            Self::Published { key, value, from } => {
                let address = from.map(|(address, _)| address.to_string());
                let kind = from.map(|(_, dialect)| dialect.as_str());
                json!({ "event": "PUBLISHED", "key": key.to_string(), "value": value.to_string(),
                        "from": address, "kind": kind })
            }
            Self::Gone { key, value, why } => {
                let event = match why {
                    Why::Expired => "EXPIRED",
                    Why::Withdrawn => "WITHDRAWN",
                };
                json!({ "event": event, "key": key.to_string(), "value": value.to_string() })
            }
            Self::Connected { from, dialect } => {
                json!({ "event": "CONNECTED", "from": from.to_string(), "kind": dialect.as_str() })
            }
            Self::Disconnected { from, dialect } => {
                json!({ "event": "DISCONNECTED", "from": from.to_string(), "kind": dialect.as_str() })
            }
            Self::HubFound { endpoint, dialect } => {
                json!({ "event": "HUB", "endpoint": endpoint.to_string(), "kind": dialect.as_str() })
            }
            Self::HubLost { endpoint } => json!({ "event": "HUB LOST", "endpoint": endpoint.to_string() }),
        }
    }

    fn in_words(&self) -> Option<String> {
        Some(match self {
            Self::Published { key, value, from: Some((from, dialect)) } => {
                format!("+ {key} is at {value}  ({} from {from})", dialect.as_str())
            }
            Self::Published { key, value, from: None } => format!("+ {key} is at {value}"),
            Self::Gone { key, value, why } => format!("- {key} at {value} is gone ({why})"),
            Self::Connected { from, dialect } => format!("  {from} connected ({})", dialect.as_str()),
            Self::Disconnected { from, .. } => format!("  {from} disconnected"),
            Self::HubFound { endpoint, dialect } => format!("  hub {endpoint} found ({})", dialect.as_str()),
            Self::HubLost { endpoint } => format!("? hub {endpoint} is lost"),
        })
    }
}
