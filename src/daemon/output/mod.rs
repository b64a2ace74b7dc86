//! How events are shown: a line of words for people, or one JSON object a line for programs.
//!
//! Standard output has events and nothing else. What else there is to say goes to standard error, where a person at a
//! terminal sees it all the same.

use std::io::{self, Write};

use serde_json::Value;

use crate::daemon::RoleEvent;

mod zre;

/// How an event of a role is told.
pub(super) trait Told {
    /// As an object for programs: `event` is its name in capitals.
    fn as_json(&self) -> Value;

    /// As a line for people, if they want to know of it. What strangers chose may steer a terminal: it is made harmless
    /// where it is printed.
    fn in_words(&self) -> Option<String>;
}

impl Told for RoleEvent {
    fn as_json(&self) -> Value {
        match self {
            Self::Zre(event) => event.as_json(),
        }
    }

    fn in_words(&self) -> Option<String> {
        match self {
            Self::Zre(event) => event.in_words(),
        }
    }
}

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
    pub(super) fn event(&self, event: &impl Told) -> io::Result<()> {
        let line = if self.is_json {
            Some(event.as_json().to_string())
        } else {
            event.in_words().map(|line| harmless(&line))
        };
        line.map_or(Ok(()), |line| print(&line))
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::zre::{Event, PeerId, Text};

    #[test]
    fn a_peer_can_not_send_escape_sequences_to_the_terminal() {
        let event = Event::Whisper {
            peer: PeerId::from_bytes([1; 16]),
            name: Text::from("mallory\u{1b}[2J"),
            content: vec![Bytes::from_static(b"\x1b]0;owned\x07\r\nhi")],
        };
        let line = harmless(&event.in_words().unwrap());
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}
