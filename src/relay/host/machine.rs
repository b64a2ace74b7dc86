//! Decides for one service of a host: when to connect to the relay, when the relay is dead, how many data connections to
//! open, and what to say of the local service's health.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Timestamp;
use crate::machine::Machine;
use crate::relay::backoff::Backoff;
use crate::relay::message::Refusal;

/// How long connecting to the relay and proving oneself may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Checks in a row that the local service must fail before the relay is told.
const FAILURES: u32 = 2;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The relay has let us in, and says something at least this often.
    Welcomed {
        /// How often.
        heartbeat: Duration,
    },
    /// The relay does not want us.
    Refused(Refusal),
    /// There is no control connection any more, or it could not be opened.
    Lost,
    /// The relay has said something.
    Heard,
    /// The relay wants data connections with these tickets.
    Want {
        /// The first ticket.
        first: u64,
        /// How many.
        count: u16,
    },
    /// The relay has so many hosts.
    Crowd(u32),
    /// The relay is about to end.
    RelayLeaves,
    /// A data connection has ended, or could not be opened.
    DataEnded,
    /// The local service was looked at.
    Checked(bool),
    /// Take no more sessions.
    Leave,
    /// The deadline has come.
    Timeout,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a control connection; one that there is is given up.
    Connect,
    /// Give the control connection up.
    Disconnect,
    /// Open a data connection with this ticket.
    OpenData(u64),
    /// Look at the local service.
    Check,
    /// Tell the relay whether the local service is well.
    TellHealth(bool),
    /// Tell the relay that no more sessions are taken.
    TellLeaving,
}

/// The decisions about one service.
#[derive(Debug)]
pub struct HostMachine {
    backoff: Backoff,
    phase: Phase,
    connections: usize,
    connections_max: usize,
    check: Option<Duration>,
    next_check: Option<Timestamp>,
    failures: u32,
    is_leaving: bool,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Timestamp },
    Connecting { until: Timestamp },
    Up { patience: Duration, until: Timestamp },
}

impl HostMachine {
    /// A host that connects at once. `seed` decides how long it waits between attempts; `check` is how often the local service
    /// is looked at.
    pub fn new(now: Timestamp, seed: u64, connections_max: usize, check: Option<Duration>) -> Self {
        Self {
            backoff: Backoff::new(seed),
            phase: Phase::Waiting { until: now },
            connections: 0,
            connections_max,
            check,
            next_check: check.map(|_| now),
            failures: 0,
            is_leaving: false,
            outputs: VecDeque::new(),
        }
    }

    /// Whether the relay has let us in.
    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    const fn is_well(&self) -> bool {
        self.failures < FAILURES
    }

    fn wait(&mut self, now: Timestamp, wait: Duration) {
        self.phase = Phase::Waiting { until: now.after(wait) };
        self.outputs.push_back(Output::Disconnect);
    }

    fn on_time(&mut self, now: Timestamp) {
        match self.phase {
            Phase::Waiting { until } if until <= now && !self.is_leaving => {
                self.phase = Phase::Connecting { until: now.after(CONNECT_TIME) };
                self.outputs.push_back(Output::Connect);
            }
            Phase::Connecting { until } | Phase::Up { until, .. } if until <= now => {
                let wait = self.backoff.next();
                self.wait(now, wait);
            }
            _ => {}
        }
        // The next one is set when this one's answer is there.
        if self.next_check.take_if(|at| *at <= now).is_some() {
            self.outputs.push_back(Output::Check);
        }
    }

    fn on_checked(&mut self, now: Timestamp, is_well: bool) {
        let was_well = self.is_well();
        self.failures = if is_well { 0 } else { self.failures.saturating_add(1) };
        self.next_check = self.check.map(|check| now.after(check));
        if self.is_up() && self.is_well() != was_well {
            self.outputs.push_back(Output::TellHealth(self.is_well()));
        }
    }
}

impl Machine for HostMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        // Only what the relay says shows that it is alive.
        let is_heard = matches!(input, Input::Heard | Input::Want { .. } | Input::Crowd(_));
        if let (Phase::Up { patience, until }, true) = (&mut self.phase, is_heard) {
            *until = now.after(*patience);
        }
        match input {
            Input::Welcomed { heartbeat } => {
                self.backoff.reset();
                let patience = heartbeat.max(Duration::from_millis(100)).mul_f64(8.0 / 3.0);
                self.phase = Phase::Up { patience, until: now.after(patience) };
                if !self.is_well() {
                    self.outputs.push_back(Output::TellHealth(false));
                }
                if self.is_leaving {
                    self.outputs.push_back(Output::TellLeaving);
                }
            }
            // Somebody has to change something first.
            Input::Refused(_) => {
                let wait = self.backoff.jittered(Duration::from_secs(10));
                self.wait(now, wait);
            }
            Input::Lost => {
                if !matches!(self.phase, Phase::Waiting { .. }) {
                    let wait = self.backoff.next();
                    self.wait(now, wait);
                }
            }
            Input::Heard => {}
            Input::Crowd(hosts) => self.backoff.spread(hosts),
            Input::Want { first, count } => {
                let max = if self.is_leaving { 0 } else { self.connections_max };
                let room = max.saturating_sub(self.connections);
                let count = usize::from(count).min(room);
                self.connections += count;
                let tickets = (0..count as u64).filter_map(|i| first.checked_add(i));
                self.outputs.extend(tickets.map(Output::OpenData));
            }
            Input::RelayLeaves => {
                let wait = self.backoff.next();
                self.wait(now, wait);
            }
            Input::DataEnded => self.connections = self.connections.saturating_sub(1),
            Input::Checked(is_well) => self.on_checked(now, is_well),
            Input::Leave => {
                self.is_leaving = true;
                if self.is_up() {
                    self.outputs.push_back(Output::TellLeaving);
                }
            }
            Input::Timeout => self.on_time(now),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let phase = match self.phase {
            Phase::Waiting { .. } if self.is_leaving => None,
            Phase::Waiting { until } | Phase::Connecting { until } | Phase::Up { until, .. } => Some(until),
        };
        [phase, self.next_check].into_iter().flatten().min()
    }
}
