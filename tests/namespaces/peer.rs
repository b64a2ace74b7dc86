//! A program on a host of the laboratory that says what it sees as JSON lines: `hailer`, or pyre in a Python script.
//!
//! Expectations name the fields that matter and a time; what else the program says is kept for the message when one
//! fails. Real programs run on real time, so this file waits with the real clock.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "real programs run on real time")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::lab::{self, Lab};

/// Long enough for what needs no luck: a start, an ENTER without loss, a message.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A running program. Dropping it kills it.
pub(crate) struct Peer {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    started: Instant,
    /// Events that no expectation has taken yet.
    waiting: Vec<Value>,
    /// All it ever said, for messages.
    log: String,
}

enum Line {
    Event(String),
    Complaint(String),
}

impl Peer {
    /// `hailer peers` as a member of `group`. It reads no commands.
    pub(crate) fn hailer_peers(lab: &Lab, host: u8, name: &str, group: &str) -> Self {
        let mut command = lab.command(host, env!("CARGO_BIN_EXE_hailer"));
        command.args(["peers", "--json", "--interface", "eth0", "--name", name, "--group", group]);
        Self::start(name, command)
    }

    /// `hailer chat` in `group`.
    pub(crate) fn hailer_chat(lab: &Lab, host: u8, name: &str, group: &str) -> Self {
        let mut command = lab.command(host, env!("CARGO_BIN_EXE_hailer"));
        command.args(["chat", group, "--json", "--interface", "eth0", "--name", name]);
        Self::start(name, command)
    }

    /// `hailer group` with these words.
    pub(crate) fn hailer_group(lab: &Lab, host: u8, words: &[&str]) -> Self {
        let mut command = lab.command(host, env!("CARGO_BIN_EXE_hailer"));
        command.arg("group").args(words);
        Self::start(&format!("host {host} ({})", words[0]), command)
    }

    /// A member as pir is one: the original, or what does the same. Returns it with its identity.
    pub(crate) fn pir(lab: &Lab, host: u8, group: &str, service: &str) -> (Self, String) {
        let mut command = match std::env::var("HAILER_PIR_GO") {
            Ok(original) => lab.command(host, &original),
            Err(_) => {
                let mut command = lab.command(host, "python3");
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/pir_peer.py"));
                command
            }
        };
        command.args([group, service]);
        let mut peer = Self::start("pir", command);
        let started = peer.expect(SOON, json!({"event": "STARTED"}));
        let id = started["member"].as_str().expect("an identity").to_owned();
        (peer, id)
    }

    /// `hailer run` with a configuration file of this text.
    pub(crate) fn hailer_run(lab: &Lab, host: u8, name: &str, file: &str) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("hailer.toml");
        std::fs::write(&path, file).expect("the folder is ours");
        let mut command = lab.command(host, env!("CARGO_BIN_EXE_hailer"));
        command.args(["run", "--json", "--config"]).arg(&path);
        let mut peer = Self::start(name, command);
        // It has read the file.
        peer.expect_remark(SOON, "looking for peers");
        peer
    }

    /// Any verb of `hailer` that tells events as JSON lines.
    pub(crate) fn hailer(lab: &Lab, host: u8, name: &str, words: &[&str]) -> Self {
        let mut command = lab.command(host, env!("CARGO_BIN_EXE_hailer"));
        command.args(words).arg("--json");
        Self::start(name, command)
    }

    /// czmq's zgossip; `words` as its script has them.
    pub(crate) fn czmq(lab: &Lab, host: u8, name: &str, words: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/czmq_gossip.py");
        let mut command = lab.command(host, "python3");
        command.args([script, name]).args(words);
        let mut peer = Self::start(name, command);
        peer.expect(SOON, json!({"event": "STARTED", "name": name}));
        peer
    }

    /// A pyre node, and what it said at its start.
    pub(crate) fn pyre_started(lab: &Lab, host: u8, name: &str, words: &[&str]) -> (Self, Value) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/namespaces/pyre_peer.py");
        let mut command = lab.command(host, python().to_str().expect("the path is text"));
        command.args([script, name]).args(words);
        let mut peer = Self::start(name, command);
        let started = peer.expect(SOON, json!({"event": "STARTED", "name": name}));
        (peer, started)
    }

    /// A pyre node; `words` are groups to join and headers as `KEY=VALUE`. Returns it with its identity.
    pub(crate) fn pyre(lab: &Lab, host: u8, name: &str, words: &[&str]) -> (Self, String) {
        let (peer, started) = Self::pyre_started(lab, host, name, words);
        let id = started["peer"].as_str().expect("an identity").to_owned();
        (peer, id)
    }

    /// Any program that says JSON lines.
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let complaints = sender.clone();
        read_lines(stdout, move |line| sender.send(Line::Event(line)).is_ok());
        read_lines(stderr, move |line| complaints.send(Line::Complaint(line)).is_ok());
        let stdin = child.stdin.take();
        let log = format!("{command:?}\n");
        Self { name: name.to_owned(), child, stdin, lines, started: Instant::now(), waiting: Vec::new(), log }
    }

    /// Waits for an event that has all the fields of `pattern` with equal values, takes it and returns it whole.
    ///
    /// # Panics
    /// When none came within `patience`; the message has everything the program said.
    pub(crate) fn expect(&mut self, patience: Duration, pattern: Value) -> Value {
        self.expect_one_of(patience, &[pattern])
    }

    /// Waits as [`Self::expect`] does, for an event like any of the patterns.
    ///
    /// # Panics
    /// When none came within `patience`.
    pub(crate) fn expect_one_of(&mut self, patience: Duration, patterns: &[Value]) -> Value {
        let is_wanted = |event: &Value| patterns.iter().any(|pattern| has_fields(event, pattern));
        let wanted = || patterns.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
        let deadline = Instant::now() + patience;
        loop {
            if let Some(place) = self.waiting.iter().position(is_wanted) {
                return self.waiting.remove(place);
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.note(line),
                Err(reason) => {
                    let reason = match reason {
                        RecvTimeoutError::Timeout => format!("not within {patience:?}"),
                        RecvTimeoutError::Disconnected => "it has ended".to_owned(),
                    };
                    panic!("{} did not say {}: {reason}. All it said:\n{}", self.name, wanted(), self.log);
                }
            }
        }
    }

    /// Waits until it has said something on standard error that has this in it.
    ///
    /// # Panics
    /// When it has not within `patience`.
    pub(crate) fn expect_remark(&mut self, patience: Duration, text: &str) {
        let deadline = Instant::now() + patience;
        while !self.log.contains(text) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.note(line),
                Err(_) => panic!("{} did not say {text:?}. All it said:\n{}", self.name, self.log),
            }
        }
    }

    /// Asserts that no event like `pattern` has come that no expectation took.
    pub(crate) fn has_not_said(&mut self, pattern: Value) {
        while let Ok(line) = self.lines.try_recv() {
            self.note(line);
        }
        let found = self.waiting.iter().find(|event| has_fields(event, &pattern));
        if let Some(event) = found {
            panic!("{} said {event}. All it said:\n{}", self.name, self.log);
        }
    }

    /// Asserts that for so long no event like `pattern` comes.
    pub(crate) fn stays_quiet(&mut self, time: Duration, pattern: Value) {
        let end = Instant::now() + time;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.note(line);
        }
        self.has_not_said(pattern);
    }

    fn note(&mut self, line: Line) {
        let at = self.started.elapsed().as_secs_f64();
        match line {
            Line::Complaint(line) => writeln!(self.log, "{at:8.3} stderr: {line}"),
            Line::Event(line) => {
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("{} said what is no JSON ({error}): {line}", self.name));
                self.waiting.push(event);
                writeln!(self.log, "{at:8.3} {line}")
            }
        }
        .expect("a string takes all");
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).unwrap_or_else(|error| {
            panic!("{} does not listen ({error}). All it said:\n{}", self.name, self.log);
        });
    }

    /// Gives the pyre script a command.
    pub(crate) fn tell(&mut self, command: Value) {
        self.say(&command.to_string());
    }

    /// Ends its input, as Ctrl-D does.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        kill_process(self.pid(), Signal::INT).expect("it is ours");
    }

    /// SIGKILL: it can't say goodbye.
    pub(crate) fn kill(&self) {
        kill_process(self.pid(), Signal::KILL).expect("it is ours");
    }

    /// `ip netns exec` becomes the program, so the child's process is the program's.
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.note(line),
                // Both outputs are closed: the end is a moment away.
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().expect("it is our child"),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} still runs after {patience:?}. All it said:\n{}", self.name, self.log);
                }
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            while let Ok(line) = self.lines.try_recv() {
                self.log.push_str(match &line {
                    Line::Event(line) | Line::Complaint(line) => line,
                });
                self.log.push('\n');
            }
            eprintln!("All that {} said:\n{}", self.name, self.log);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `event` has every field of `pattern`, and equal.
fn has_fields(event: &Value, pattern: &Value) -> bool {
    pattern
        .as_object()
        .expect("a pattern is an object")
        .iter()
        .all(|(key, value)| event.get(key) == Some(value))
}

/// Hands over each line until the stream ends or nobody wants them.
fn read_lines(stream: impl Read + Send + 'static, give: impl Fn(String) -> bool + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            if !give(String::from_utf8_lossy(&line).into_owned()) {
                return;
            }
        }
    });
}

/// The Python that has pyre: `$HAILER_PYRE/bin/python`, or the one that `.ci/pyre.sh` makes.
pub(crate) fn python() -> PathBuf {
    let made = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("pyre");
    std::env::var_os("HAILER_PYRE").map_or_else(made, PathBuf::from).join("bin/python")
}

/// Whether libczmq is there; if not, says so, and in CI fails.
pub(crate) fn is_czmq_available_or_say_so() -> bool {
    let probe = ["-c", "import ctypes; ctypes.CDLL('libczmq.so.4')"];
    let probe = Command::new("python3").args(probe).stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return true;
    }
    lab::say_not_run("there is no libczmq.so.4: install libczmq4");
    false
}

/// Waits, because nothing can be expected: something must not happen.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Whether pyre is there; if not, says so, and in CI fails.
pub(crate) fn is_pyre_available_or_say_so() -> bool {
    let python = python();
    let probe = Command::new(&python).args(["-c", "import pyre"]).stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        return true;
    }
    lab::say_not_run(&format!("{} has no pyre: run .ci/pyre.sh first", python.display()));
    false
}
