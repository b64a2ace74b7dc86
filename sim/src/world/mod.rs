//! One run: the nodes of a scenario on a fabric, the script that happens to them, and the trace they leave.
//!
//! * `application`: what stands where a user's program would stand on each node.
//! * `sessions`: an echo service and clients that know nothing of Hailer.
//! * `consul` and `original_repeater`: other people's programs, as far as ours talk to them.
//! * `storm` and `group_storm`: what broadcast storms are made of. `assault`: a machine that means harm.
//! * `processor`: how a busy machine lets its program run.
//! * `machine`: clocks, slowness, addresses. `measures`: what nodes send and hold, where somebody asks.
//! * [`flat`]: the same on turmoil's own network, as far as that goes.
//! * `log`: who is who, and the records. `journal`: the same as lines in a file, with every drop.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hailer::Timestamp;
use hailer::daemon::Config;
use hailer::zre::PeerId;
use tokio::sync::mpsc;

use crate::check::reach::NOTICED;
use crate::engine::{self, RunError, Script};
use crate::executor::Executor;
use crate::fabric::capture::Capture;
use crate::fabric::random::Stream;
use crate::fabric::{Fabric, HostId};
use crate::memory::Account;
use crate::net::{SharedFabric, SimNet};
use crate::scenario::{Action, Crash, Kind, NodeIndex, Partition, Scenario, SegmentIndex, TrafficKind};
use crate::tasks::Tasks;
use crate::trace::{Trace, What};
use application::Command;
use journal::Journal;
use layout::Layout;
use log::Log;
use measures::Measures;
use processor::Processor;
use proxy::Publication;

mod application;
mod assault;
mod consul;
pub mod flat;
mod group_storm;
mod journal;
pub mod layout;
mod log;
mod machine;
mod measures;
pub mod message;
mod original_repeater;
mod processor;
pub mod proxy;
mod queries;
mod sessions;
mod storm;

/// What a run may be told besides its scenario.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The seed, instead of the scenario's own.
    pub seed: Option<u64>,
    /// The outer engine's step, instead of the scenario's own. It changes nothing but speed.
    pub tick: Option<Duration>,
    /// Called now and then with the simulated time that has passed.
    pub progress: Option<&'a dyn Fn(Duration)>,
    /// Where to write every packet at every interface, as a capture file (pcapng).
    pub pcap: Option<&'a Path>,
    /// Where to write every record and every dropped packet, as lines of JSON.
    pub trace: Option<&'a Path>,
}

/// Runs a scenario to its end.
///
/// # Errors
/// See [`RunError`].
pub fn run(scenario: &Scenario, options: Options<'_>) -> Result<Trace, RunError> {
    let seed = options.seed.unwrap_or(scenario.seed);
    let mut world = World::new(scenario.unrolled(seed), seed);
    let (fabric, log) = (world.fabric.clone(), world.log.clone());
    let onlookers = world.invite_onlookers(&options)?;
    let measures = Measures::begin(&mut world)?;
    let (duration, tick) = (scenario.duration, options.tick.unwrap_or(scenario.tick));
    let outcome = engine::run(world, engine::Run { seed, duration, tick, progress: options.progress });
    // What was seen of a world that panicked is worth the most.
    let written = finish(&mut fabric.lock(), onlookers);
    outcome.and(written)?;
    let fabric = fabric.lock();
    let mut trace = log.into_trace(seed, scenario.duration, fabric.traffic(), fabric.fingerprint());
    trace.loads = measures.loads();
    Ok(trace)
}

/// Sends the onlookers away, each of which wrote one of the files.
fn finish(fabric: &mut Fabric, files: Vec<PathBuf>) -> Result<(), RunError> {
    for (mut tap, path) in fabric.take_taps().into_iter().zip(files) {
        tap.finish().map_err(|source| RunError::NotWritten { path, source })?;
    }
    Ok(())
}

/// The nodes and the script.
struct World {
    scenario: Arc<Scenario>,
    seed: u64,
    fabric: SharedFabric,
    executor: Executor,
    log: Log,
    nodes: Vec<NodeState>,
    appointments: Vec<Appointment>,
    /// Those that there are, with the fabric's tokens for them.
    partitions: Vec<(usize, Partition)>,
    partitions_made: usize,
}

struct NodeState {
    host: HostId,
    life: Option<Life>,
    lives: u32,
    /// Draws what a storm from its machine is made of.
    storm: Option<Stream>,
    /// Draws how fast its clock runs.
    clock: Stream,
    /// Its processor, once it has been busy.
    processor: Option<Processor>,
    /// Whether an address of its life was taken away.
    is_moved: bool,
    /// Its program's memory, when somebody asks.
    account: Option<Arc<Account>>,
    /// The ports that it publishes while it runs.
    publication: Option<Publication>,
}

/// A running program on a node.
struct Life {
    tasks: Tasks,
    commands: mpsc::UnboundedSender<Command>,
    is_paused: bool,
}

/// What the script does at some moment. Its index is the token given to the fabric.
#[derive(Clone, Copy, Debug)]
enum Appointment {
    Start(NodeIndex),
    Step(usize),
    /// A program that got another address has had its time to notice.
    Noticed(NodeIndex),
    /// The next broadcast of a storm.
    Storm {
        step: usize,
        node: NodeIndex,
    },
    Traffic {
        traffic: usize,
        sender: NodeIndex,
        /// How many messages it has sent.
        sent: u64,
    },
    /// The program of a busy machine gets the processor.
    Turn(NodeIndex),
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let Layout { mut fabric, hosts, clocks } = Layout::new(&scenario, seed);
        let state = |(host, clock): (HostId, Stream)| NodeState {
            host,
            life: None,
            lives: 0,
            storm: None,
            clock,
            processor: None,
            is_moved: false,
            account: None,
            publication: None,
        };
        let nodes = hosts.iter().copied().zip(clocks).map(state).collect();
        let appointments = appointments(&scenario);
        for (token, (at, _)) in appointments.iter().enumerate() {
            fabric.appoint(Timestamp::ZERO.after(*at), token as u64);
        }
        let fabric = SharedFabric::new(fabric);
        let truth = fabric.clone();
        Self {
            scenario: Arc::new(scenario),
            seed,
            fabric,
            executor: Executor::default(),
            log: Log::new(Arc::new(move || truth.lock().now())),
            nodes,
            appointments: appointments.into_iter().map(|(_, what)| what).collect(),
            partitions: Vec::new(),
            partitions_made: 0,
        }
    }

    /// Lets those look on that the options ask for; returns the file of each.
    fn invite_onlookers(&self, options: &Options<'_>) -> Result<Vec<PathBuf>, RunError> {
        let mut fabric = self.fabric.lock();
        let mut files = Vec::new();
        let mut open = |path: &Path| {
            files.push(path.to_owned());
            File::create(path).map(BufWriter::new).map_err(not_written(path))
        };
        if let Some(path) = options.pcap {
            let capture = Capture::new(open(path)?, &fabric.interface_names());
            fabric.add_tap(Box::new(capture.map_err(not_written(path))?));
        }
        if let Some(path) = options.trace {
            let beacon_port = beacon_port(&self.scenario);
            let journal = Journal::new(open(path)?, self.scenario.clone(), beacon_port);
            self.log.write_to(journal.clone());
            fabric.add_tap(Box::new(journal));
        }
        Ok(files)
    }

    fn keep_appointment(&mut self, token: u64) {
        match self.appointments[token as usize] {
            Appointment::Start(node) => self.start(node),
            Appointment::Step(step) => {
                let scenario = self.scenario.clone();
                let step = &scenario.steps[step];
                self.cut(step.action.clone());
                for node in &step.nodes {
                    self.act(*node, &step.action);
                }
            }
            Appointment::Noticed(node) => self.notice(node),
            Appointment::Storm { step, node } => self.storm(token, step, node),
            Appointment::Turn(node) => {
                if let Some(life) = &self.nodes[node.0 as usize].life {
                    life.tasks.turn();
                }
            }
            Appointment::Traffic { traffic, sender, sent } => self.send_traffic(token, traffic, sender, sent),
        }
    }

    fn start(&mut self, index: NodeIndex) {
        let node = &self.scenario.nodes[index.0 as usize];
        let state = &mut self.nodes[index.0 as usize];
        if state.life.is_some() {
            return;
        }
        let number = state.lives;
        state.lives += 1;
        let mut random = Stream::new(self.seed, &format!("{}/life {number}", node.name));
        let mut config = node.config.clone();
        let peer = identify(&mut config, &mut random);
        log::group::identify(&mut config, &mut random);
        let tasks = Tasks::new(&self.executor, state.account.clone());
        if let Some(processor) = &state.processor {
            tasks.take_turns(Arc::new(processor.clone()));
        }
        let (commands, inbox) = mpsc::unbounded_channel();
        // The machine of a container without a network of its own is on already.
        if !matches!(node.kind, Kind::HostNetwork(_)) {
            self.fabric.lock().power_on(state.host);
        }
        let net = SimNet::new(self.fabric.clone(), state.host, tasks.clone(), random);
        let now = self.fabric.lock().now();
        if std::mem::take(&mut state.is_moved) {
            self.log.record(now, index, What::Mended("address".to_owned()));
        }
        let author = self.log.born(now, index, number, peer);
        author.begins_in_groups(&config);
        if config.repeater.is_some() {
            author.begins_as_repeater();
        }
        if peer.is_none() && number > 0 {
            // Of a machine without a role nobody enters anything, but who can be reached changes with a router.
            self.log.record(now, index, What::Mended("power".to_owned()));
        }
        for consul in self.scenario.consuls.iter().filter(|consul| consul.node == index) {
            tasks.spawn(consul::serve(net.clone(), consul.clone())).detach();
        }
        for original in self.scenario.originals.iter().filter(|original| original.node == index) {
            author.begins_as_repeater();
            let (running, author) = (original_repeater::run(net.clone(), original.clone()), author.clone());
            let watched = async move {
                if let Err(ended) = running.await {
                    author.record(What::Refused(format!("original repeater: {ended}")));
                }
            };
            tasks.spawn(watched).detach();
        }
        let (assault, echo) = (node.assault, node.echo);
        let program = || match assault {
            Some(victim) => tasks.spawn(assault::run(net, victim)).detach(),
            None => tasks.spawn(application::run(net, config, echo, author, inbox)).detach(),
        };
        match &state.account {
            Some(account) => account.during(program),
            None => program(),
        }
        state.life = Some(Life { tasks, commands, is_paused: false });
        if matches!(node.kind, Kind::Container(_)) {
            self.publish(index);
        }
    }

    /// Publishes the ports of a container that runs.
    fn publish(&mut self, index: NodeIndex) {
        let hosts: Vec<HostId> = self.nodes.iter().map(|state| state.host).collect();
        let publication =
            Publication::new(&self.scenario, self.seed, index, &hosts, &self.fabric, &self.executor);
        self.nodes[index.0 as usize].publication = publication;
    }

    fn act(&mut self, index: NodeIndex, action: &Action) {
        match action {
            Action::Restart => self.start(index),
            Action::Crash(how) => self.end(index, *how),
            Action::Pause => self.set_paused(index, true),
            Action::Resume => self.set_paused(index, false),
            Action::Join(group) => self.command(index, Command::Join(group.clone())),
            Action::Leave(group) => self.command(index, Command::Leave(group.clone())),
            Action::Shout { group, bytes } => {
                self.command(index, Command::Shout { group: group.clone(), bytes: *bytes });
            }
            Action::Whisper { to, bytes } => self.whisper(index, *to, *bytes),
            Action::Link(links) => {
                let host = self.nodes[index.0 as usize].host;
                self.fabric.lock().set_links(host, &links[&index]);
            }
            Action::Unplug(segment) => self.set_plugged(index, *segment, false),
            Action::Plug(segment) => self.set_plugged(index, *segment, true),
            Action::NatReboot => self.fabric.lock().reboot_nat(self.nodes[index.0 as usize].host),
            Action::Clock(drift) => self.set_clock(index, *drift),
            Action::Slow(delay) => self.slow_down(index, delay),
            Action::Address(new) => self.move_to(index, *new),
            // The first two are done to the network; a storm has appointments of its own.
            Action::Partition(_) | Action::Heal(_) | Action::BroadcastStorm(_) => {}
        }
    }

    /// Cuts nodes off from others, or ends that. Each is noted once, with the first node of its first side.
    fn cut(&mut self, action: Action) {
        match action {
            Action::Partition(partition) => {
                let hosts =
                    |side: &[NodeIndex]| side.iter().map(|node| self.nodes[node.0 as usize].host).collect();
                let (from, to): (Vec<HostId>, Vec<HostId>) = (hosts(&partition.from), hosts(&partition.to));
                let token = self.partitions_made;
                self.partitions_made += 1;
                let mut fabric = self.fabric.lock();
                fabric.partition(token, &from, &to, partition.is_one_way);
                self.log.record(fabric.now(), partition.from[0], What::Cut(describe(&partition)));
                drop(fabric);
                self.partitions.push((token, partition));
            }
            Action::Heal(name) => {
                let mut fabric = self.fabric.lock();
                self.partitions.retain(|(token, partition)| {
                    let is_meant = name.is_none() || partition.name == name;
                    if is_meant {
                        fabric.heal(*token);
                        self.log.record(fabric.now(), partition.from[0], What::Mended(describe(partition)));
                    }
                    !is_meant
                });
            }
            _ => {}
        }
    }

    fn storm(&mut self, token: u64, step: usize, node: NodeIndex) {
        let step = &self.scenario.steps[step];
        let Action::BroadcastStorm(storm) = &step.action else { return };
        let state = &mut self.nodes[node.0 as usize];
        let name = &self.scenario.nodes[node.0 as usize].name;
        let stream = state.storm.get_or_insert_with(|| Stream::new(self.seed, &format!("{name}/storm")));
        let (payload, port) = match group_storm::target(&self.scenario) {
            Some((group, port)) if storm.is_for_groups => {
                (group_storm::payload(stream, group, &self.log.members(), storm.bytes), port)
            }
            _ => (storm::payload(stream, storm.bytes), beacon_port(&self.scenario)),
        };
        let mut fabric = self.fabric.lock();
        fabric.broadcast(state.host, storm::FROM_PORT, port, &payload);
        let next = fabric.now().after(storm.every);
        if next < Timestamp::ZERO.after(step.at + storm.lasting) {
            fabric.appoint(next, token);
        }
    }

    fn set_plugged(&mut self, index: NodeIndex, segment: Option<SegmentIndex>, is_plugged: bool) {
        let mut fabric = self.fabric.lock();
        let interfaces = &self.scenario.nodes[index.0 as usize].interfaces;
        let is_meant = |number: usize| segment.is_none_or(|segment| interfaces[number].segment == segment);
        fabric.set_plugged(self.nodes[index.0 as usize].host, is_meant, is_plugged);
        let how = segment.map_or_else(
            || "cable".to_owned(),
            |segment| format!("cable on {}", self.scenario.segments[segment.0 as usize].name),
        );
        let what = if is_plugged { What::Mended(how) } else { What::Cut(how) };
        self.log.record(fabric.now(), index, what);
    }

    fn end(&mut self, index: NodeIndex, how: Crash) {
        if how == Crash::PowerCut && self.scenario.nodes[index.0 as usize].kind == Kind::DockerHost {
            let scenario = self.scenario.clone();
            let containers = (0..).map(NodeIndex).zip(&scenario.nodes);
            for (container, _) in containers.filter(|(_, node)| node.kind.docker_host() == Some(index)) {
                self.end(container, how);
            }
        }
        let state = &mut self.nodes[index.0 as usize];
        let Some(life) = state.life.take() else { return };
        if let Some(publication) = state.publication.take() {
            if how == Crash::PowerCut { publication.cut() } else { publication.withdraw() }
        }
        let mut fabric = self.fabric.lock();
        self.log.record(fabric.now(), index, What::Down(how));
        match how {
            Crash::PowerCut => {
                fabric.power_cut(state.host);
                life.tasks.end();
            }
            // Its kernel closes the sockets as their owners go.
            Crash::ProcessExit => life.tasks.end(),
            // The program ends by itself when it has said goodbye.
            Crash::Stop => drop(life.commands.send(Command::Stop)),
        }
    }

    fn set_paused(&mut self, index: NodeIndex, is_paused: bool) {
        let Some(life) = &mut self.nodes[index.0 as usize].life else { return };
        if life.is_paused == is_paused {
            return;
        }
        life.is_paused = is_paused;
        let what = if is_paused { What::Paused } else { What::Resumed };
        self.log.record(self.fabric.lock().now(), index, what);
        if is_paused { life.tasks.pause() } else { life.tasks.resume() }
    }

    fn send_traffic(&mut self, token: u64, traffic: usize, sender: NodeIndex, sent: u64) {
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
        let mut fabric = self.fabric.lock();
        let next = fabric.now().after(traffic_spec.every);
        if next < Timestamp::ZERO.after(traffic_spec.stop) {
            self.appointments[token as usize] = Appointment::Traffic { traffic, sender, sent: sent + 1 };
            fabric.appoint(next, token);
        }
    }

    /// A whisper goes to the life that the receiver has now; to one that is down, none goes.
    fn whisper(&self, from: NodeIndex, to: NodeIndex, bytes: usize) {
        if self.nodes[to.0 as usize].life.is_some()
            && let Some(peer) = self.log.peer_of(to)
        {
            self.command(from, Command::Whisper { to: peer, bytes });
        }
    }

    /// A node that is down or paused does nothing; a paused one would do all of it at once when it goes on.
    fn command(&self, index: NodeIndex, command: Command) {
        if let Some(life) = &self.nodes[index.0 as usize].life
            && !life.is_paused
        {
            // A program that ended early has said so in the trace.
            let _ = life.commands.send(command);
        }
    }
}

impl Script for World {
    fn fabric(&self) -> &SharedFabric {
        &self.fabric
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    fn keep(&mut self, token: u64) {
        self.keep_appointment(token);
    }

    fn finish(&mut self) {
        for state in &mut self.nodes {
            if let Some(life) = state.life.take() {
                life.tasks.end();
            }
            if let Some(publication) = state.publication.take() {
                publication.cut();
            }
        }
    }
}

/// Gives a life its identity, when a role of it has one: the one of the file, or one drawn from the life's stream.
fn identify(config: &mut Config, random: &mut Stream) -> Option<PeerId> {
    let zre = config.zre.as_mut()?;
    let drawn = || {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        PeerId::from_random(bytes)
    };
    Some(*zre.identity.get_or_insert_with(drawn))
}

fn describe(partition: &Partition) -> String {
    let kind = if partition.is_one_way { "one-way partition" } else { "partition" };
    let name = partition.name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
    format!("{kind}{name} of {} from {}", partition.from.len(), partition.to.len())
}

/// The UDP port whose datagrams count as beacons: that of the first ZRE node.
fn beacon_port(scenario: &Scenario) -> u16 {
    scenario.nodes.iter().find_map(|node| node.config.zre.as_ref()).map_or(5670, |zre| zre.port)
}

fn not_written(path: &Path) -> impl FnOnce(io::Error) -> RunError + use<> {
    let path = path.to_owned();
    |source| RunError::NotWritten { path, source }
}

/// The script, in the order of time; at the same moment nodes start first.
fn appointments(scenario: &Scenario) -> Vec<(Duration, Appointment)> {
    let starts = scenario
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.start, Appointment::Start(NodeIndex(index as u32))));
    let steps = scenario.steps.iter().enumerate().map(|(index, step)| (step.at, Appointment::Step(index)));
    let traffic = scenario.traffic.iter().enumerate().flat_map(|(index, traffic)| {
        let count = traffic.from.len() as u32;
        traffic.from.iter().enumerate().filter_map(move |(place, sender)| {
            let first = traffic.start + traffic.every * (place as u32) / count;
            let appointment = Appointment::Traffic { traffic: index, sender: *sender, sent: 0 };
            (first < traffic.stop).then_some((first, appointment))
        })
    });
    let storms = scenario.steps.iter().enumerate().flat_map(|(index, step)| {
        let is_storm = matches!(step.action, Action::BroadcastStorm(_));
        let nodes = step.nodes.iter().filter(move |_| is_storm);
        nodes.map(move |node| (step.at, Appointment::Storm { step: index, node: *node }))
    });
    let moves = scenario.steps.iter().filter(|step| matches!(step.action, Action::Address(_)));
    let noticed =
        moves.flat_map(|step| step.nodes.iter().map(|node| (step.at + NOTICED, Appointment::Noticed(*node))));
    starts.chain(steps).chain(traffic).chain(storms).chain(noticed).collect()
}
