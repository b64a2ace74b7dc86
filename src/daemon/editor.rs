//! The line that is typed in `hailer chat` on a terminal: it can be edited, completed and taken from history, and what
//! others say appears above it. On a pipe there is none of this.
//!
//! A thread waits for keys, because terminals can only be waited for that way. It ends with the program.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, ExternalPrinter, Helper};
use tokio::sync::mpsc;

use crate::zre::{Event, PeerId};

/// What stands before the line.
const PROMPT: &str = "> ";

/// What can be completed: names that are around.
#[derive(Debug, Default)]
pub(super) struct Words {
    commands: &'static [&'static str],
    peers: BTreeMap<PeerId, String>,
    groups: BTreeSet<String>,
}

impl Words {
    /// Takes in the names of an event.
    fn learn(&mut self, event: &Event) {
        match event {
            Event::Enter { peer, name, .. } => drop(self.peers.insert(*peer, name.to_string())),
            Event::Exit { peer, .. } => drop(self.peers.remove(peer)),
            Event::Join { group, .. } => drop(self.groups.insert(group.to_string())),
            _ => {}
        }
    }

    /// Where the word that is being typed starts, and what it can become.
    fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(' ').map_or(0, |space| space + 1);
        let (before, word) = line.split_at(start);
        let mut candidates: Vec<String> = match before.trim_end() {
            "" => self.commands.iter().map(|command| (*command).to_owned()).collect(),
            "/whisper" | "/headers" | "/ping" => self.peers.values().cloned().collect(),
            "/join" | "/leave" => self.groups.iter().cloned().collect(),
            _ => Vec::new(),
        };
        candidates.retain(|candidate| {
            !word.is_empty() && candidate.starts_with(word) || start > 0 && word.is_empty()
        });
        candidates.dedup();
        // One that is certain is followed by what comes after it.
        if let [only] = candidates.as_mut_slice() {
            only.push(' ');
        }
        (start, candidates)
    }
}

/// The terminal while a line is typed.
pub(super) struct Editor {
    printer: Mutex<Box<dyn ExternalPrinter + Send>>,
    words: Arc<Mutex<Words>>,
    /// How the terminal was before.
    #[cfg(unix)]
    mode: Option<rustix::termios::Termios>,
}

impl std::fmt::Debug for Editor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Editor").field("words", &self.words).finish_non_exhaustive()
    }
}

/// Starts to read lines from the terminal. They come over the channel, which closes at the end of the input or with Ctrl-C.
///
/// # Errors
/// When the terminal can't be used.
pub(super) fn start(
    commands: &'static [&'static str],
) -> io::Result<(Arc<Editor>, mpsc::UnboundedReceiver<String>)> {
    let words = Arc::new(Mutex::new(Words { commands, ..Words::default() }));
    #[cfg(unix)]
    let mode = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
    let config = rustyline::Config::builder().auto_add_history(true).build();
    let history = rustyline::history::MemHistory::with_config(&config);
    let mut reader: rustyline::Editor<Completion, _> =
        rustyline::Editor::with_history(config, history).map_err(io::Error::other)?;
    reader.set_helper(Some(Completion(Arc::clone(&words))));
    let printer = Mutex::new(Box::new(reader.create_external_printer().map_err(io::Error::other)?) as Box<_>);
    let (lines_tx, lines) = mpsc::unbounded_channel();
    let read = move || {
        while let Ok(line) = reader.readline(PROMPT) {
            if lines_tx.send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("line editor".to_owned()).spawn(read)?;
    Ok((
        Arc::new(Editor {
            printer,
            words,
            #[cfg(unix)]
            mode,
        }),
        lines,
    ))
}

impl Editor {
    /// Prints a line above the one that is typed.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn print(&self, line: &str) -> io::Result<()> {
        let mut printer = self.printer.lock().unwrap_or_else(PoisonError::into_inner);
        printer.print(format!("{line}\n")).map_err(io::Error::other)
    }

    /// Takes in the names of an event, for completion.
    pub(super) fn learn(&self, event: &Event) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).learn(event);
    }
}

impl Drop for Editor {
    /// The thread may still wait for a key, with the terminal in the mode for that.
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(mode) = &self.mode {
            let stdin = rustix::stdio::stdin();
            let _ = rustix::termios::tcsetattr(stdin, rustix::termios::OptionalActions::Now, mode);
        }
    }
}

struct Completion(Arc<Mutex<Words>>);

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(words.complete(line.get(..at).unwrap_or_default()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_peers_and_groups_are_completed_where_they_belong() {
        let mut words = Words { commands: &["/join", "/leave", "/whisper"], ..Words::default() };
        let (peer, name) = (PeerId::from_bytes([1; 16]), "alice".into());
        words.learn(&Event::Enter { peer, name, headers: [].into(), endpoint: "".into() });
        words.learn(&Event::Join { peer, name: "alice".into(), group: "ROOM".into() });
        words.learn(&Event::Join { peer, name: "alice".into(), group: "ROOF".into() });
        assert_eq!(words.complete("/l"), (0, vec!["/leave ".to_owned()]));
        assert_eq!(words.complete("/whisper al"), (9, vec!["alice ".to_owned()]));
        assert_eq!(words.complete("/join RO"), (6, vec!["ROOF".to_owned(), "ROOM".to_owned()]));
        assert_eq!(words.complete("/join "), (6, vec!["ROOF".to_owned(), "ROOM".to_owned()]));
        assert_eq!(words.complete("hello al"), (6, vec![]));
        assert_eq!(words.complete(""), (0, vec![]));
        words.learn(&Event::Exit { peer, name: "alice".into(), reason: crate::zre::ExitReason::Left });
        assert_eq!(words.complete("/whisper al"), (9, vec![]));
    }
}
