//! The second world: a scenario on turmoil's own network, one of its hosts for each node.
//!
//! It shares the product's code, the applications and the verdicts with the first world, and nothing of the network: an
//! independent check of the fabric. It is slow (its cost for a millisecond grows with the cube of the nodes) and can do
//! little; [`limits`] says what, and refuses the rest. The traffic is not counted, and nobody can look on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hailer::Timestamp;
use hailer::daemon::Config;
use hailer::net::Net;
use tokio::sync::mpsc;

use super::application::{self, Command};
use super::log::{Author, Log};
use super::{Appointment, Options, appointments, identify};
use crate::engine::RunError;
use crate::fabric::random::Stream;
use crate::scenario::{Action, Crash, NodeIndex, Scenario, TrafficKind};
use crate::trace::{Trace, Traffic, What};
use net::{Panics, TurmoilNet};

pub mod limits;
pub mod net;

/// Longer steps let messages arrive before they were sent, and shorter ones let hosts' clocks run fast.
const TICK: Duration = Duration::from_millis(1);

/// Datagrams that wait at a socket: as many small ones as fit Linux's receive buffer.
const UDP_CAPACITY: usize = 256;

/// Segments that wait at a socket, and connections that wait to be accepted; one more of those is a panic.
const TCP_CAPACITY: usize = 4096;

/// Runs a scenario to its end on turmoil's own network. Its outer step is a millisecond whatever the options say.
///
/// # Errors
/// See [`RunError`].
pub fn run(scenario: &Scenario, options: Options<'_>) -> Result<Trace, RunError> {
    let seed = options.seed.unwrap_or(scenario.seed);
    let mut world = World::new(scenario.unrolled(seed), seed);
    while world.simulation.elapsed() < scenario.duration {
        world.keep_appointments();
        world.simulation.step().map_err(|error| RunError::Engine(error.to_string()))?;
        let elapsed = world.simulation.elapsed();
        world.elapsed.store(elapsed.as_nanos() as u64, Ordering::Relaxed);
        if world.panics.is_any() {
            return Err(RunError::Panicked { at: Timestamp::ZERO.after(elapsed) });
        }
        if let Some(progress) = options.progress {
            progress(elapsed.min(scenario.duration));
        }
    }
    let traffic = vec![Traffic::default(); scenario.nodes.len()];
    Ok(world.log.into_trace(seed, scenario.duration, traffic, 0))
}

struct World {
    simulation: turmoil::Sim<'static>,
    scenario: Arc<Scenario>,
    seed: u64,
    /// Nanoseconds since the start, between two steps.
    elapsed: Arc<AtomicU64>,
    panics: Panics,
    log: Log,
    nodes: Vec<Node>,
    names: Arc<Vec<(String, Ipv4Addr)>>,
    /// Those to come; at one moment in the order in which they were made.
    appointments: BTreeMap<(Duration, u64), Appointment>,
    appointments_made: u64,
    /// Machines without power.
    dark: BTreeSet<NodeIndex>,
}

#[derive(Default)]
struct Node {
    /// What its host runs when it starts next; `None` until turmoil knows the host.
    next: Option<Rc<RefCell<Option<Launch>>>>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    lives: u32,
}

/// What a host needs to start a program.
struct Launch {
    config: Config,
    author: Author,
    inbox: mpsc::UnboundedReceiver<Command>,
    random: Stream,
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let delay = limits::delay(&scenario);
        let simulation = turmoil::Builder::new()
            .simulation_duration(scenario.duration + TICK * 2)
            .tick_duration(TICK)
            .epoch(std::time::UNIX_EPOCH)
            .rng_seed(seed)
            .min_message_latency(delay)
            .max_message_latency(delay)
            .udp_capacity(UDP_CAPACITY)
            .tcp_capacity(TCP_CAPACITY)
            .build();
        let elapsed = Arc::new(AtomicU64::new(0));
        let between_steps = elapsed.clone();
        let now = move || {
            let inside = || Duration::from_nanos(between_steps.load(Ordering::Relaxed));
            Timestamp::ZERO.after(turmoil::sim_elapsed().unwrap_or_else(inside))
        };
        let planned = appointments(&scenario);
        let appointments_made = planned.len() as u64;
        let appointments = (0..).zip(planned).map(|(number, (at, what))| ((at, number), what)).collect();
        let address =
            |node: &crate::scenario::Node| Some((node.name.clone(), node.interfaces.first()?.address));
        Self {
            simulation,
            seed,
            elapsed,
            panics: Panics::default(),
            log: Log::new(Arc::new(now)),
            nodes: scenario.nodes.iter().map(|_| Node::default()).collect(),
            names: Arc::new(scenario.nodes.iter().filter_map(address).collect()),
            scenario: Arc::new(scenario),
            appointments,
            appointments_made,
            dark: BTreeSet::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO.after(self.simulation.elapsed())
    }

    /// Does what is due before the next step. Appointments between two steps are kept at the later one.
    fn keep_appointments(&mut self) {
        while let Some(entry) = self.appointments.first_entry()
            && entry.key().0 <= self.simulation.elapsed()
        {
            let ((at, _), what) = entry.remove_entry();
            match what {
                Appointment::Start(node) => self.start(node),
                Appointment::Step(step) => {
                    let scenario = self.scenario.clone();
                    let step = &scenario.steps[step];
                    step.nodes.iter().for_each(|node| self.act(*node, &step.action));
                }
                Appointment::Traffic { traffic, sender, sent } => {
                    self.send_traffic(at, traffic, sender, sent);
                }
                // Steps that need these are refused.
                Appointment::Storm { .. } | Appointment::Turn(_) | Appointment::Noticed(_) => {}
            }
        }
    }

    fn start(&mut self, index: NodeIndex) {
        let node = &self.scenario.nodes[index.0 as usize];
        let (name, address) = (node.name.clone(), node.interfaces[0].address);
        let prefix = self.scenario.segments[node.interfaces[0].segment.0 as usize].prefix;
        let mut config = node.config.clone();
        let number = self.nodes[index.0 as usize].lives;
        let mut random = Stream::new(self.seed, &format!("{name}/life {number}"));
        let peer = identify(&mut config, &mut random);
        let author = self.log.born(self.now(), index, number, peer);
        let (commands, inbox) = mpsc::unbounded_channel();
        let launch = Launch { config, author, inbox, random };
        self.dark.remove(&index);
        let state = &mut self.nodes[index.0 as usize];
        state.lives += 1;
        state.commands = Some(commands);
        if let Some(next) = &state.next {
            *next.borrow_mut() = Some(launch);
            self.simulation.bounce(address.to_string());
        } else {
            let next = Rc::new(RefCell::new(Some(launch)));
            state.next = Some(next.clone());
            let (panics, names) = (self.panics.clone(), self.names.clone());
            self.simulation.host(address.to_string(), move || {
                let (launch, panics, names) = (next.borrow_mut().take(), panics.clone(), names.clone());
                async move {
                    if let Some(Launch { config, author, inbox, random }) = launch {
                        let net = TurmoilNet::new(address, prefix, names, panics, random);
                        net.spawn("program", application::run(net.clone(), config, None, author, inbox))
                            .detach();
                    }
                    // turmoil lets a host run only for as long as its first task does.
                    std::future::pending().await
                }
            });
        }
        self.settle_links(index);
    }

    fn act(&mut self, index: NodeIndex, action: &Action) {
        match action {
            Action::Restart => self.start(index),
            Action::Crash(how) => self.end(index, *how),
            Action::Join(group) => self.command(index, Command::Join(group.clone())),
            Action::Leave(group) => self.command(index, Command::Leave(group.clone())),
            Action::Shout { group, bytes } => {
                self.command(index, Command::Shout { group: group.clone(), bytes: *bytes });
            }
            Action::Whisper { to, bytes } => self.whisper(index, *to, *bytes),
            // Scenarios with other steps are refused.
            _ => {}
        }
    }

    fn end(&mut self, index: NodeIndex, how: Crash) {
        let Some(commands) = self.nodes[index.0 as usize].commands.take() else { return };
        self.log.record(self.now(), index, What::Down(how));
        let address = self.address(index).to_string();
        match how {
            // turmoil's crash says goodbye for the machine's kernel, unless nobody can hear it.
            Crash::PowerCut => {
                self.dark.insert(index);
                self.settle_links(index);
                self.simulation.crash(address);
            }
            // A host that runs nothing answers nothing, in turmoil; a kernel without the program refuses. So the host
            // starts again, with nothing to run.
            Crash::ProcessExit => {
                self.simulation.crash(address.clone());
                self.simulation.bounce(address);
            }
            // The program ends by itself when it has said goodbye.
            Crash::Stop => drop(commands.send(Command::Stop)),
        }
    }

    /// Cuts a machine off from all others when either has no power, and connects them when both have.
    fn settle_links(&self, index: NodeIndex) {
        let known = |other: &NodeIndex| *other != index && self.nodes[other.0 as usize].next.is_some();
        for other in (0..self.nodes.len() as u32).map(NodeIndex).filter(known) {
            let (one, two) = (self.address(index).to_string(), self.address(other).to_string());
            if self.dark.contains(&index) || self.dark.contains(&other) {
                self.simulation.partition(one, two);
            } else {
                self.simulation.repair(one, two);
            }
        }
    }

    fn address(&self, index: NodeIndex) -> Ipv4Addr {
        self.scenario.nodes[index.0 as usize].interfaces[0].address
    }

    fn send_traffic(&mut self, at: Duration, traffic: usize, sender: NodeIndex, sent: u64) {
        let scenario = self.scenario.clone();
        let traffic_spec = &scenario.traffic[traffic];
        match &traffic_spec.kind {
            TrafficKind::Shout(group) => {
                self.command(sender, Command::Shout { group: group.clone(), bytes: traffic_spec.bytes });
            }
            TrafficKind::Connect(to, manner) => {
                let (to, manner, bytes) = (*to, *manner, traffic_spec.bytes);
                self.command(sender, Command::Connect { to, manner, bytes });
            }
            kind @ TrafficKind::Whisper(_) => {
                if let Some(to) = kind.receiver(sender, sent) {
                    self.whisper(sender, to, traffic_spec.bytes);
                }
            }
        }
        let next = at + traffic_spec.every;
        if next < traffic_spec.stop {
            let number = self.appointments_made;
            self.appointments_made += 1;
            let appointment = Appointment::Traffic { traffic, sender, sent: sent + 1 };
            self.appointments.insert((next, number), appointment);
        }
    }

    fn whisper(&self, from: NodeIndex, to: NodeIndex, bytes: usize) {
        if self.nodes[to.0 as usize].commands.is_some()
            && let Some(peer) = self.log.peer_of(to)
        {
            self.command(from, Command::Whisper { to: peer, bytes });
        }
    }

    fn command(&self, index: NodeIndex, command: Command) {
        if let Some(commands) = &self.nodes[index.0 as usize].commands {
            // A program that ended early has said so in the trace.
            let _ = commands.send(command);
        }
    }
}
