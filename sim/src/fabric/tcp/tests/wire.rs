//! Two endpoints and the wire between them: a queue of segments ordered by time, and a rule that decides their fate.

use std::collections::BTreeMap;

use hailer::Timestamp;

use crate::fabric::tcp::{Config, Connection, Segment, TcpError};

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Client,
    Server,
}

/// When the copies of a segment arrive, in microseconds after it left; none is a loss.
pub(super) type Fate = Vec<u64>;

type Rule = Box<dyn FnMut(End, &Segment) -> Fate>;

/// A segment that was sent, for tests that ask what was.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) at: Timestamp,
    pub(super) from: End,
    pub(super) segment: Segment,
}

pub(super) struct Wire {
    pub(super) now: Timestamp,
    pub(super) config: Config,
    pub(super) client: Connection,
    pub(super) server: Option<Connection>,
    pub(super) is_listening: bool,
    pub(super) log: Vec<Logged>,
    pub(super) received: [Vec<u8>; 2],
    /// Whether what arrives is read at once.
    pub(super) reads: [bool; 2],
    server_isn: u32,
    sent: u64,
    queue: BTreeMap<(Timestamp, u64), (End, Segment)>,
    rule: Rule,
}

/// A rule: everything arrives `delay_us` later but what `is_lost` names by its end and its number (from 1) among the
/// segments that this end has sent.
pub(super) fn losing(
    delay_us: u64,
    mut is_lost: impl FnMut(End, usize) -> bool + 'static,
) -> impl FnMut(End, &Segment) -> Fate {
    let mut counts = [0; 2];
    move |from, _| {
        counts[from as usize] += 1;
        if is_lost(from, counts[from as usize]) { Vec::new() } else { vec![delay_us] }
    }
}

impl Wire {
    pub(super) fn new(rule: impl FnMut(End, &Segment) -> Fate + 'static) -> Self {
        Self::with(Config::default(), 1000, 5000, rule)
    }

    pub(super) fn with(
        config: Config,
        client_isn: u32,
        server_isn: u32,
        rule: impl FnMut(End, &Segment) -> Fate + 'static,
    ) -> Self {
        let now = Timestamp::ZERO;
        let mut wire = Self {
            now,
            config,
            client: Connection::connect(&config, client_isn, now),
            server: None,
            is_listening: true,
            log: Vec::new(),
            received: [Vec::new(), Vec::new()],
            reads: [true; 2],
            server_isn,
            sent: 0,
            queue: BTreeMap::new(),
            rule: Box::new(rule),
        };
        wire.pump();
        wire
    }

    pub(super) fn end(&mut self, end: End) -> &mut Connection {
        match end {
            End::Client => &mut self.client,
            End::Server => self.server.as_mut().expect("the server has seen a SYN"),
        }
    }

    /// Sends what both ends have to send, and reads what they may read.
    pub(super) fn pump(&mut self) {
        for end in [End::Client, End::Server] {
            if end == End::Server && self.server.is_none() {
                continue;
            }
            self.transmit(end);
            if self.reads[end as usize] {
                let mut into = [0; 4096];
                loop {
                    let now = self.now;
                    let length = self.end(end).read(now, &mut into);
                    self.received[end as usize].extend_from_slice(&into[..length]);
                    self.transmit(end);
                    if length == 0 {
                        break;
                    }
                }
            }
        }
    }

    fn transmit(&mut self, end: End) {
        let now = self.now;
        while let Some(segment) = self.end(end).poll_transmit(now) {
            assert!(self.end(end).send.is_consistent(), "the scoreboard has miscounted");
            self.emit(end, segment);
        }
    }

    fn emit(&mut self, from: End, segment: Segment) {
        self.log.push(Logged { at: self.now, from, segment: segment.clone() });
        for delay_us in (self.rule)(from, &segment) {
            self.sent += 1;
            let at = Timestamp::from_nanos(self.now.as_nanos() + delay_us * 1000);
            self.queue.insert((at, self.sent), (from, segment.clone()));
        }
    }

    /// When the next thing happens.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let arrival = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let timer = [self.client.deadline(), self.server.as_ref().and_then(Connection::deadline)];
        arrival.into_iter().chain(timer.into_iter().flatten()).min()
    }

    /// Moves to the next thing and lets it happen; `false` when nothing ever will.
    pub(super) fn step(&mut self) -> bool {
        let Some(at) = self.next() else { return false };
        self.now = self.now.max(at);
        if let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= at) {
            let (from, segment) = entry.remove();
            self.arrive(from, segment);
        } else {
            let now = self.now;
            self.client.on_timer(now);
            if let Some(server) = &mut self.server {
                server.on_timer(now);
            }
        }
        self.pump();
        true
    }

    fn arrive(&mut self, from: End, segment: Segment) {
        let now = self.now;
        match (from, &mut self.server) {
            (End::Server, _) if !self.client.is_finished() => self.client.on_segment(now, segment),
            (End::Server, _) => {
                if let Some(reset) = segment.reset_answering() {
                    self.emit(End::Client, reset);
                }
            }
            (End::Client, Some(server)) if !server.is_finished() => server.on_segment(now, segment),
            (End::Client, _) if self.is_listening && segment.syn => {
                self.server = Some(Connection::accept(&self.config, self.server_isn, &segment, now));
            }
            (End::Client, _) => {
                if let Some(reset) = segment.reset_answering() {
                    self.emit(End::Server, reset);
                }
            }
        }
    }

    /// Runs until `is_done`, and says when that was in microseconds; fails when nothing happens any more.
    pub(super) fn run_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) -> u64 {
        for _ in 0..1_000_000 {
            if is_done(self) {
                return self.now.as_nanos() / 1000;
            }
            assert!(self.step(), "nothing will happen any more");
        }
        panic!("no end in sight at {}", self.now);
    }

    /// Runs until `at_us`, in microseconds.
    pub(super) fn run_to(&mut self, at_us: u64) {
        let at = Timestamp::from_nanos(at_us * 1000);
        while self.next().is_some_and(|next| next <= at) {
            self.step();
        }
        self.now = at;
    }

    /// Runs until the client's handshake is done or has failed; says when that was, in microseconds.
    pub(super) fn connect(&mut self) -> (u64, Option<TcpError>) {
        let at = self.run_until(|wire| wire.client.is_established() || wire.client.error().is_some());
        (at, self.client.error())
    }

    /// Writes, and sends what may leave.
    pub(super) fn write(&mut self, end: End, bytes: &[u8]) -> usize {
        let now = self.now;
        let length = self.end(end).write(now, bytes);
        self.pump();
        length
    }

    /// Runs until `end` has received `count` bytes in all; says when that was, in microseconds.
    pub(super) fn receive(&mut self, end: End, count: usize) -> u64 {
        self.run_until(|wire| wire.received[end as usize].len() >= count)
    }

    /// When `end` sent segments for which `which` holds, in microseconds.
    pub(super) fn times(&self, end: End, which: impl Fn(&Segment) -> bool) -> Vec<u64> {
        let sent = self.log.iter().filter(|logged| logged.from == end && which(&logged.segment));
        sent.map(|logged| logged.at.as_nanos() / 1000).collect()
    }
}
