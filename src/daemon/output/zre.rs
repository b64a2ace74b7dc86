//! Events of a ZRE node.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Told;
use crate::zre::Event;

impl Told for Event {
    /// With the names that zyre gives to events and their parts.
    fn as_json(&self) -> Value {
        let texts = |content: &[Bytes]| -> Vec<String> {
            content.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect()
        };
        match self {
            Self::Enter { peer, name, headers, endpoint } => {
                let pairs = headers.iter().map(|(key, value)| (key.to_string(), json!(value.to_string())));
                let headers: Map<String, Value> = pairs.collect();
                json!({ "event": "ENTER", "peer": peer.to_string(), "name": name.to_string(), "headers": headers,
                    "endpoint": endpoint.to_string() })
            }
            Self::Exit { peer, name, reason } => {
                json!({ "event": "EXIT", "peer": peer.to_string(), "name": name.to_string(), "reason": reason.as_str() })
            }
            Self::Join { peer, name, group } => {
                json!({ "event": "JOIN", "peer": peer.to_string(), "name": name.to_string(), "group": group.to_string() })
            }
            Self::Leave { peer, name, group } => {
                json!({ "event": "LEAVE", "peer": peer.to_string(), "name": name.to_string(), "group": group.to_string() })
            }
            Self::Evasive { peer, name } => {
                json!({ "event": "EVASIVE", "peer": peer.to_string(), "name": name.to_string() })
            }
            Self::Silent { peer, name } => {
                json!({ "event": "SILENT", "peer": peer.to_string(), "name": name.to_string() })
            }
            Self::Whisper { peer, name, content } => {
                json!({ "event": "WHISPER", "peer": peer.to_string(), "name": name.to_string(),
                    "content": texts(content) })
            }
            Self::Shout { peer, name, group, content } => {
                json!({ "event": "SHOUT", "peer": peer.to_string(), "name": name.to_string(),
                    "group": group.to_string(), "content": texts(content) })
            }
            Self::Stop => json!({ "event": "STOP" }),
        }
    }

    fn in_words(&self) -> Option<String> {
        let joined = |content: &[Bytes]| {
            let frames: Vec<_> =
                content.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
            frames.join(" | ")
        };
        let line = match self {
            Self::Enter { name, endpoint, headers, .. } => {
                let headers: String = headers.iter().map(|(key, value)| format!("  {key}={value}")).collect();
                format!("+ {name} entered from {endpoint}{headers}")
            }
            Self::Exit { name, reason, .. } => format!("- {name} is gone ({reason})"),
            Self::Join { name, group, .. } => format!("  {name} joined {group}"),
            Self::Leave { name, group, .. } => format!("  {name} left {group}"),
            Self::Evasive { name, .. } => format!("? {name} does not answer"),
            Self::Silent { name, .. } => format!("? {name} has been silent for long"),
            Self::Whisper { name, content, .. } => format!("{name} whispers: {}", joined(content)),
            Self::Shout { name, group, content, .. } => format!("{name} in {group}: {}", joined(content)),
            Self::Stop => return None,
        };
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zre::{PeerId, Text};

    #[test]
    fn a_line_of_json_names_the_event_and_all_its_parts() {
        let event = Event::Shout {
            peer: PeerId::from_bytes([0xAB; 16]),
            name: Text::from("alice"),
            group: Text::from("CHAT"),
            content: vec![Bytes::from_static(b"hello"), Bytes::from_static(b"\"there\"")],
        };
        assert_eq!(
            event.as_json(),
            json!({ "event": "SHOUT", "peer": "ABABABABABABABABABABABABABABABAB", "name": "alice", "group": "CHAT",
                    "content": ["hello", "\"there\""] })
        );
    }
}
