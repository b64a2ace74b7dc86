//! Moves datagrams, checks and lists between a network and the machine of a membership.
//!
//! One task owns the machine; a task each hears a socket, makes a check, answers a connection. It waits for an application
//! that takes no events only in that it takes no more datagrams; time and checks go on.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, trace, warn};

use super::announcement::{Announcement, MemberId};
use super::config::Config;
use super::event::{Event, Member};
use super::limits;
use super::machine::{CheckId, GroupMachine, Input, Outcome, Output, To};
use super::message::{List, Told};
use super::server::{self, ListRequest};
use super::site::{self, Heard, Sites};
use super::{check, error};
use crate::Timestamp;
use crate::machine::Machine;
use crate::net::{Alarm, Net, Task};

/// How often the machine's addresses are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What a handle asks of its membership.
pub(super) enum Request {
    Members(oneshot::Sender<Vec<Member>>),
    Leave(oneshot::Sender<()>),
}

/// How something that was ordered came out.
enum Note {
    Checked(CheckId, Outcome),
    Listed(MemberId, Option<List>),
}

/// What the task was woken for.
enum Turn {
    Request(Option<Request>),
    Time,
    Look,
    Note(Note),
    List(ListRequest),
    Heard(Vec<u8>, SocketAddr),
}

/// The membership's task.
pub(super) struct Driver<N: Net> {
    pub(super) net: N,
    pub(super) config: Config,
    pub(super) own: MemberId,
    pub(super) machine: GroupMachine,
    pub(super) health_port: u16,
    pub(super) sites: Sites<N>,
    pub(super) heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) lists: mpsc::Receiver<ListRequest>,
    pub(super) events: mpsc::Sender<Event>,
    /// Answer health checks.
    pub(super) servers: Vec<Task>,
}

/// What the task has besides.
struct State {
    notes: mpsc::UnboundedSender<Note>,
    checks: BTreeMap<CheckId, Task>,
    listing: Option<Task>,
    backlog: VecDeque<Event>,
    leavers: Vec<oneshot::Sender<()>>,
    version: u32,
    /// The last handle is gone.
    is_orphan: bool,
    has_left: bool,
}

impl<N: Net> Driver<N> {
    /// Runs until the membership has ended, and then until the application has its last event.
    pub(super) async fn run(mut self) {
        let (notes, mut noted) = mpsc::unbounded_channel();
        let mut state = State {
            notes,
            checks: BTreeMap::new(),
            listing: None,
            backlog: VecDeque::new(),
            leavers: Vec::new(),
            version: 0,
            is_orphan: false,
            has_left: false,
        };
        let mut alarm = self.net.alarm();
        let mut armed: Option<Timestamp> = None;
        let mut look = self.net.alarm();
        look.set(Some(self.net.now().after(LOOK)));
        self.feed(&mut state, Input::Interfaces(self.sites.interfaces.clone())).await;
        info!(member = %self.own, group = %self.config.name, "joined");
        while !state.has_left {
            let deadline = self.machine.deadline();
            if armed != deadline {
                alarm.set(deadline);
                armed = deadline;
            }
            let turn = tokio::select! {
                biased;
                request = self.requests.recv(), if !state.is_orphan => Turn::Request(request),
                () = alarm.ring() => Turn::Time,
                () = look.ring() => Turn::Look,
                Some(note) = noted.recv() => Turn::Note(note),
                Some(request) = self.lists.recv() => Turn::List(request),
                room = self.events.reserve(), if !state.backlog.is_empty() => {
                    match (room, state.backlog.pop_front()) {
                        (Ok(room), Some(event)) => room.send(event),
                        // Nobody wants them.
                        _ => state.backlog.clear(),
                    }
                    continue;
                }
                Some((datagram, from)) = self.heard.1.recv(), if state.backlog.len() < limits::EVENTS => {
                    Turn::Heard(datagram, from)
                }
            };
            match turn {
                Turn::Time => {
                    armed = None;
                    self.feed(&mut state, Input::Timeout).await;
                }
                Turn::Look => {
                    look.set(Some(self.net.now().after(LOOK)));
                    self.look_around(&mut state).await;
                }
                turn => self.serve(&mut state, turn).await,
            }
        }
        info!(member = %self.own, group = %self.config.name, "left");
        self.servers.clear();
        for asker in state.leavers {
            let _ = asker.send(());
        }
        for event in state.backlog {
            if self.events.send(event).await.is_err() {
                break;
            }
        }
    }

    async fn serve(&mut self, state: &mut State, turn: Turn) {
        match turn {
            Turn::Request(Some(Request::Members(asker))) => drop(asker.send(self.machine.members())),
            Turn::Request(Some(Request::Leave(asker))) => {
                let is_first = state.leavers.is_empty();
                state.leavers.push(asker);
                if is_first {
                    self.feed(state, Input::Leave).await;
                }
            }
            // The last handle is gone.
            Turn::Request(None) => {
                state.is_orphan = true;
                if state.leavers.is_empty() {
                    self.feed(state, Input::Leave).await;
                }
            }
            Turn::Note(Note::Checked(check, outcome)) => {
                state.checks.remove(&check);
                trace!(?check, ?outcome, "checked");
                self.feed(state, Input::Checked { check, outcome }).await;
            }
            Turn::Note(Note::Listed(from, list)) => {
                state.listing = None;
                self.feed(state, Input::Listed { from, list }).await;
            }
            Turn::List(ListRequest { digest, answer }) => {
                let mut list = self.machine.list(digest);
                if list != List::default() {
                    let own = self.sites.entry(&self.config, self.own, self.health_port, state.version);
                    list.entries.extend(own);
                }
                drop(answer.send(list));
            }
            Turn::Heard(datagram, from) => {
                if let Some(input) = understand(&datagram, from) {
                    self.feed(state, input).await;
                }
            }
            Turn::Time | Turn::Look => {}
        }
    }

    /// Hands the machine one input and does what it wants.
    async fn feed(&mut self, state: &mut State, input: Input) {
        self.machine.handle(self.net.now(), input);
        while let Some(output) = self.machine.poll() {
            self.act(state, output).await;
        }
    }

    async fn act(&mut self, state: &mut State, output: Output) {
        let (config, own, port) = (&self.config, self.own, self.health_port);
        match output {
            Output::Announce { version } => {
                state.version = version;
                self.sites.announce(config, own, port, version).await;
            }
            Output::Refute { version } => self.sites.refute(config, own, port, version).await,
            Output::Tell { message, to: To::All } => self.sites.tell_all(config, own, &message).await,
            Output::Tell { message, to: To::One(to) } => {
                let told = Told { group: config.name.clone(), sender: own, message };
                self.sites.tell_one(&told, to).await;
            }
            Output::Check { check, targets, style } => {
                let (net, notes) = (self.net.clone(), state.notes.clone());
                let checking = async move {
                    let outcome = check::check(&net, &targets, style).await;
                    let _ = notes.send(Note::Checked(check, outcome));
                };
                state.checks.insert(check, self.net.spawn("group check", checking));
            }
            Output::FetchList { from, at, digest } => {
                let (net, notes, group) = (self.net.clone(), state.notes.clone(), config.name.clone());
                let listing = async move {
                    let list = server::fetch(&net, at, &group, own, digest).await;
                    let _ = notes.send(Note::Listed(from, list));
                };
                state.listing = Some(self.net.spawn("group list", listing));
            }
            Output::Event(event) => {
                match &event {
                    Event::Suspect(member) => info!(member = %member.id, "suspect"),
                    Event::Removed(member, reason) => info!(member = %member.id, %reason, "removed"),
                    event => debug!(?event, "event"),
                }
                state.backlog.push_back(event);
            }
            Output::Left => {
                state.has_left = true;
                state.backlog.push_back(Event::Left);
            }
        }
    }

    /// Looks whether the machine has other addresses now, and begins anew on those.
    async fn look_around(&mut self, state: &mut State) {
        let Ok(all) = self.net.interfaces() else { return };
        let interfaces = site::choose(&all, &self.config.interfaces);
        if interfaces == self.sites.interfaces || interfaces.is_empty() {
            return;
        }
        info!(addresses = ?interfaces.iter().map(|it| it.address).collect::<Vec<_>>(), "this machine has other addresses");
        match Sites::open(&self.net, &self.config, interfaces.clone(), &self.heard.0) {
            Ok(sites) => {
                self.sites = sites;
                self.feed(state, Input::Interfaces(interfaces)).await;
            }
            Err(error @ error::JoinError::Bind { .. }) => {
                warn!(%error, "the new addresses can't be used yet");
            }
            Err(error) => debug!(%error, "no addresses"),
        }
    }
}

/// What a datagram says, if it says anything.
fn understand(datagram: &[u8], from: SocketAddr) -> Option<Input> {
    let understood = if Told::is_ours(datagram) {
        Told::decode(datagram).map(|told| Input::Told { told, from }).map_err(|error| error.to_string())
    } else {
        let announcement = Announcement::decode(datagram);
        announcement
            .map(|announcement| Input::Announced { announcement, from })
            .map_err(|error| error.to_string())
    };
    understood.inspect_err(|error| debug!(%from, error, "datagram ignored")).ok()
}
