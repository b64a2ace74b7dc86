//! How events are shown: a line of words for people, or one JSON object a line for programs.
//!
//! Standard output has events and nothing else. What else there is to say goes to standard error, where a person at a
//! terminal sees it all the same.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::editor::Editor;
use crate::daemon::RoleEvent;

mod gossip;
mod group;
mod repeater;
mod standard;
mod zre;

pub(super) use group::{member_as_json, member_in_words};

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
            Self::Gossip(event) => event.as_json(),
            Self::Repeater(event) => event.as_json(),
            Self::Group(name, event) => group::as_json(name, event),
        }
    }

    fn in_words(&self) -> Option<String> {
        match self {
            Self::Zre(event) => event.in_words(),
            Self::Gossip(event) => event.in_words(),
            Self::Repeater(event) => event.in_words(),
            Self::Group(name, event) => group::in_words(name, event),
        }
    }
}

/// Where events go.
#[derive(Debug)]
pub(super) struct Output {
    is_json: bool,
    /// Whether people want to read events.
    is_quiet: bool,
    /// Where lines go while somebody types at the terminal.
    terminal: Option<Arc<Editor>>,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, is_quiet: false, terminal: None }
    }

    /// Without events in words: standard output has something else.
    pub(super) fn quiet(self) -> Self {
        Self { is_quiet: true, ..self }
    }

    /// Through a line editor, so that what is being typed stays in one piece.
    pub(super) fn at(self, terminal: Arc<Editor>) -> Self {
        Self { terminal: Some(terminal), ..self }
    }

    /// Whether it prints JSON.
    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints an event on standard output.
    ///
    /// # Errors
    /// When standard output can't be written, `BrokenPipe` when its reader has gone.
    pub(super) fn event(&self, event: &impl Told) -> io::Result<()> {
        let line = match (self.is_json, self.is_quiet) {
            (true, _) => Some(event.as_json().to_string()),
            (false, true) => None,
            (false, false) => event.in_words().map(|line| harmless(&line)),
        };
        line.map_or(Ok(()), |line| self.print(&line))
    }

    /// Prints what a tool has found out, which is no event of a role.
    ///
    /// # Errors
    /// As [`Output::event`].
    pub(super) fn told(
        &self,
        as_json: impl FnOnce() -> Value,
        in_words: impl FnOnce() -> String,
    ) -> io::Result<()> {
        self.print(&if self.is_json { as_json().to_string() } else { harmless(&in_words()) })
    }

    /// Prints the frames of a message as they are, one after the other, or the event as JSON.
    ///
    /// # Errors
    /// As [`Output::event`].
    pub(super) fn content(&self, event: &impl Told, content: &[Bytes]) -> io::Result<()> {
        if self.is_json {
            return self.event(event);
        }
        match content {
            [frame] => standard::write(frame),
            frames => standard::write(&frames.concat()),
        }
    }

    fn print(&self, line: &str) -> io::Result<()> {
        match &self.terminal {
            // It may be held (Ctrl-S), and the thread's other tasks are not to wait for that.
            Some(terminal) => tokio::task::block_in_place(|| terminal.print(line)),
            None => print(line),
        }
    }

    /// Prints a line on standard output.
    ///
    /// # Errors
    /// As [`Output::event`].
    pub(super) fn line(&self, line: &str) -> io::Result<()> {
        print(&harmless(line))
    }

    /// Says what is no event, on standard error. Each line of `text` is one; other control characters are made harmless.
    pub(super) fn remark(&self, text: &str) {
        if let Some(terminal) = &self.terminal {
            for line in text.lines() {
                let _ = terminal.print(&harmless(line));
            }
            return;
        }
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
    standard::write(format!("{line}\n").as_bytes())
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
