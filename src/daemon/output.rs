//! How events are shown: a line of words for people, or one JSON object a line for programs.
//!
//! Standard output has events and nothing else. What else there is to say goes to standard error, where a person at a
//! terminal sees it all the same.

use std::io::{self, Write};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::zre::{Counters, Event};

/// Where events go.
#[derive(Debug)]
pub(super) struct Output {
    is_json: bool,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// Prints an event on standard output.
    ///
    /// # Errors
    /// When standard output can't be written, `BrokenPipe` when its reader has gone.
    pub(super) fn event(&self, event: &Event) -> io::Result<()> {
        let line = if self.is_json { Some(as_json(event).to_string()) } else { in_words(event) };
        line.map_or(Ok(()), |line| print(&line))
    }

    /// Prints what a node counted: everything as JSON, and in words, on standard error, what is not zero.
    ///
    /// # Errors
    /// As [`Output::event`].
    pub(super) fn counters(&self, counters: &Counters) -> io::Result<()> {
        if self.is_json {
            let all: Map<String, Value> =
                counters.iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
            return print(&json!({ "event": "COUNTERS", "counters": all }).to_string());
        }
        for (name, count) in counters.iter().filter(|(_, count)| *count > 0) {
            self.remark(&format!("{count:8}  {}", name.replace('_', " ")));
        }
        Ok(())
    }

    /// Says what is no event, on standard error. Each line of `text` is one; other control characters are made harmless.
    pub(super) fn remark(&self, text: &str) {
        let mut err = io::stderr().lock();
        for line in text.lines() {
            // Nobody is left to tell when even this can't be written.
            let _ = writeln!(err, "{}", harmless(line));
        }
    }

    /// Waits until whoever reads standard output has gone, as `head` does. Where that can't be noticed (a file, a
    /// terminal) it waits for ever.
    pub(super) async fn is_unread(&self) {
        #[cfg(unix)]
        {
            use std::os::fd::AsFd;
            use tokio::{io::Interest, net::unix::pipe::Sender};
            // Only watched, never written to, so that it need not be non-blocking as tokio would have it.
            if let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned()
                && let Ok(pipe) = Sender::from_owned_fd_unchecked(stdout)
                && pipe.ready(Interest::ERROR).await.is_ok()
            {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// The line without what a peer could steer a terminal with.
fn harmless(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The event with the names that zyre gives to events and their parts.
fn as_json(event: &Event) -> Value {
    let texts = |content: &[Bytes]| -> Vec<String> {
        content.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect()
    };
    match event {
        Event::Enter { peer, name, headers, endpoint } => {
            let pairs = headers.iter().map(|(key, value)| (key.to_string(), json!(value.to_string())));
            let headers: Map<String, Value> = pairs.collect();
            json!({ "event": "ENTER", "peer": peer.to_string(), "name": name.to_string(), "headers": headers,
                    "endpoint": endpoint.to_string() })
        }
        Event::Exit { peer, name, reason } => {
            json!({ "event": "EXIT", "peer": peer.to_string(), "name": name.to_string(), "reason": reason.as_str() })
        }
        Event::Join { peer, name, group } => {
            json!({ "event": "JOIN", "peer": peer.to_string(), "name": name.to_string(), "group": group.to_string() })
        }
        Event::Leave { peer, name, group } => {
            json!({ "event": "LEAVE", "peer": peer.to_string(), "name": name.to_string(), "group": group.to_string() })
        }
        Event::Evasive { peer, name } => {
            json!({ "event": "EVASIVE", "peer": peer.to_string(), "name": name.to_string() })
        }
        Event::Silent { peer, name } => {
            json!({ "event": "SILENT", "peer": peer.to_string(), "name": name.to_string() })
        }
        Event::Whisper { peer, name, content } => {
            json!({ "event": "WHISPER", "peer": peer.to_string(), "name": name.to_string(),
                    "content": texts(content) })
        }
        Event::Shout { peer, name, group, content } => {
            json!({ "event": "SHOUT", "peer": peer.to_string(), "name": name.to_string(),
                    "group": group.to_string(), "content": texts(content) })
        }
        Event::Stop => json!({ "event": "STOP" }),
    }
}

/// The event as a line; control characters of a peer's do not reach the terminal.
fn in_words(event: &Event) -> Option<String> {
    let joined = |content: &[Bytes]| {
        let frames: Vec<_> =
            content.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
        frames.join(" | ")
    };
    let line = match event {
        Event::Enter { name, endpoint, headers, .. } => {
            let headers: String = headers.iter().map(|(key, value)| format!("  {key}={value}")).collect();
            format!("+ {name} entered from {endpoint}{headers}")
        }
        Event::Exit { name, reason, .. } => format!("- {name} is gone ({reason})"),
        Event::Join { name, group, .. } => format!("  {name} joined {group}"),
        Event::Leave { name, group, .. } => format!("  {name} left {group}"),
        Event::Evasive { name, .. } => format!("? {name} does not answer"),
        Event::Silent { name, .. } => format!("? {name} has been silent for long"),
        Event::Whisper { name, content, .. } => format!("{name} whispers: {}", joined(content)),
        Event::Shout { name, group, content, .. } => format!("{name} in {group}: {}", joined(content)),
        Event::Stop => return None,
    };
    Some(harmless(&line))
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
            as_json(&event),
            json!({ "event": "SHOUT", "peer": "ABABABABABABABABABABABABABABABAB", "name": "alice", "group": "CHAT",
                    "content": ["hello", "\"there\""] })
        );
    }

    #[test]
    fn a_peer_can_not_send_escape_sequences_to_the_terminal() {
        let event = Event::Whisper {
            peer: PeerId::from_bytes([1; 16]),
            name: Text::from("mallory\u{1b}[2J"),
            content: vec![Bytes::from_static(b"\x1b]0;owned\x07\r\nhi")],
        };
        let line = in_words(&event).unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
