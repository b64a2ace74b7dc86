//! Decides for a relay: which client gets which data connection, who waits, who is refused, and which host is asked for more.
//!
//! A service is a [`door`]: clients come in, and wait for a free data connection of one of its hosts. The original protocol
//! is one more service, without a name: its data connections belong to no host in particular, and nobody can be asked for
//! more of them. Sockets, bytes and proofs are the driver's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::door::{Door, Waiting};
use self::filling::Filling;
use self::host::Host;
use super::compatible::Announcement;
use super::config::Limits;
use super::message::Refusal;
use crate::Timestamp;
use crate::machine::Machine;

mod door;
mod filling;
mod host;
#[cfg(test)]
mod tests;

pub use door::Denial;

/// The name of a service; the original protocol's has none.
pub type Name = Arc<str>;

/// How long a host may take to answer a ticket with a data connection.
const TICKET_TIME: Duration = Duration::from_secs(5);

/// A connection of a host: control, command channel or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// What can happen.
#[derive(Clone, Debug)]
pub enum Input {
    /// The services that there are from now on, with their limits.
    Services(BTreeMap<Name, Limits>),
    /// A host has proved that it may serve.
    Host {
        /// Its control connection.
        control: ConnectionId,
        /// What it serves.
        service: Name,
    },
    /// A host process of the original protocol has opened a command channel.
    Commands(ConnectionId),
    /// A host has said something.
    Heard(ConnectionId),
    /// A host's local service is well, or not.
    Health(ConnectionId, bool),
    /// A host takes no more sessions.
    Leaving(ConnectionId),
    /// A host has opened a data connection, and proved that it is its own.
    Data {
        /// The new connection.
        data: ConnectionId,
        /// The host's.
        control: ConnectionId,
        /// What the host was asked with.
        ticket: u64,
    },
    /// A host process of the original protocol has introduced a data connection.
    CompatibleData {
        /// The new connection.
        data: ConnectionId,
        /// Its number.
        session: i32,
    },
    /// The session on this data connection is over, and it can carry another one.
    Free(ConnectionId),
    /// This connection is gone, whatever it was.
    Gone(ConnectionId),
    /// A client has come.
    Client {
        /// The client.
        client: ClientId,
        /// What it wants.
        service: Name,
        /// Where it comes from.
        from: IpAddr,
    },
    /// A client could not be given to the data connection that it was joined to: it is as if it still waited.
    Returned {
        /// The client.
        client: ClientId,
        /// What it wants.
        service: Name,
    },
    /// No more clients.
    Drain,
    /// The deadline has come.
    Timeout,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give this data connection to this client.
    Join(ClientId, ConnectionId),
    /// Close the client's connection.
    Deny(ClientId, Denial),
    /// Ask a host for data connections with these tickets.
    Want {
        /// Whom.
        control: ConnectionId,
        /// The first ticket.
        first: u64,
        /// How many.
        count: u16,
    },
    /// Ask a host whether it is there.
    Ping(ConnectionId),
    /// Tell a host how many hosts there are.
    Crowd(ConnectionId, u32),
    /// Tell it on a command channel.
    Announce(ConnectionId, Announcement),
    /// Tell a host that the relay is about to end.
    Draining(ConnectionId),
    /// Close this connection.
    Close(ConnectionId),
    /// Refuse this host.
    Refuse(ConnectionId, Refusal),
}

/// The decisions of one relay.
#[derive(Debug)]
pub struct RelayMachine {
    heartbeat: Duration,
    doors: BTreeMap<Name, Door>,
    hosts: BTreeMap<ConnectionId, Host>,
    /// Command channels of the original protocol.
    commands: BTreeSet<ConnectionId>,
    data: BTreeMap<ConnectionId, Data>,
    timers: BTreeSet<(Timestamp, Timer)>,
    filling: Filling,
    is_draining: bool,
    outputs: VecDeque<Output>,
}

/// A data connection.
#[derive(Debug)]
struct Data {
    service: Name,
    owner: Owner,
    is_busy: bool,
}

#[derive(Clone, Copy, Debug)]
enum Owner {
    Host(ConnectionId),
    /// The original protocol's, with its number.
    Compatible(i32),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A host is asked whether it is there, and its pool looked after.
    Beat(ConnectionId),
    /// A host's oldest ticket is too old.
    Ticket(ConnectionId),
    /// A client has waited long enough.
    Wait(Name),
}

impl RelayMachine {
    /// A relay without services.
    pub fn new(heartbeat: Duration) -> Self {
        Self {
            heartbeat,
            doors: BTreeMap::new(),
            hosts: BTreeMap::new(),
            commands: BTreeSet::new(),
            data: BTreeMap::new(),
            timers: BTreeSet::new(),
            filling: Filling::default(),
            is_draining: false,
            outputs: VecDeque::new(),
        }
    }

    /// Sessions that go on.
    pub fn sessions(&self) -> usize {
        self.doors.values().map(|door| door.active).sum()
    }

    /// Hosts of a service that are connected; of the original protocol its command channels.
    pub fn hosts_of(&self, service: &str) -> usize {
        if service.is_empty() {
            return self.commands.len();
        }
        self.hosts.values().filter(|host| &*host.service == service).count()
    }

    fn set_services(&mut self, services: BTreeMap<Name, Limits>) {
        let names: Vec<Name> = self.doors.keys().cloned().collect();
        for name in names.into_iter().filter(|name| !services.contains_key(name)) {
            let Some(door) = self.doors.remove(&name) else { continue };
            for waiting in door.waiting {
                self.outputs.push_back(Output::Deny(waiting.client, Denial::NoService));
            }
            let controls: Vec<_> =
                self.hosts.iter().filter(|(_, host)| host.service == name).map(|(id, _)| *id).collect();
            controls.into_iter().for_each(|control| self.dismiss(control));
        }
        for (name, limits) in services {
            match self.doors.get_mut(&name) {
                Some(door) => door.limits = limits,
                None => drop(self.doors.insert(name, Door::new(limits))),
            }
        }
    }

    fn on_host(&mut self, now: Timestamp, control: ConnectionId, service: Name) {
        let Some(door) = self.doors.get(&service) else {
            return self.outputs.push_back(Output::Refuse(control, Refusal::Unknown));
        };
        if self.hosts_of(&service) >= door.limits.hosts {
            return self.outputs.push_back(Output::Refuse(control, Refusal::Full));
        }
        self.hosts.insert(control, Host::new(now, service.clone(), door.limits.pool));
        self.timers.insert((now.after(self.heartbeat), Timer::Beat(control)));
        // Whoever waited for a host to come waits for its first connections. The first one that nobody waits for comes at
        // once too, so that the next client need not wait; a pool is filled later, lest all hosts of a relay that
        // has restarted do it at the same time.
        self.want_more(now, &service);
        let Some(host) = self.hosts.get_mut(&control) else { return };
        let missing = host.missing();
        host.is_unfilled = missing > 1;
        if host.is_unfilled {
            self.filling.add(control);
        }
        // It has come itself, too.
        self.filling.count(now, 1 + missing.min(1));
        self.want(now, control, missing.min(1));
    }

    /// Fills the pools whose turn it is.
    fn fill(&mut self, now: Timestamp) {
        while let Some(control) = self.filling.next(now) {
            let Some(host) = self.hosts.get_mut(&control).filter(|host| host.is_unfilled) else { continue };
            host.is_unfilled = false;
            let missing = host.missing();
            self.filling.count(now, missing);
            self.top_up(now, control);
        }
    }

    fn on_data(&mut self, now: Timestamp, data: ConnectionId, control: ConnectionId, ticket: u64) {
        let is_due = self.hosts.get_mut(&control).is_some_and(|host| host.tickets.remove(&ticket).is_some());
        let Some(host) = self.hosts.get_mut(&control).filter(|_| is_due) else {
            return self.outputs.push_back(Output::Close(data));
        };
        let (service, owner) = (host.service.clone(), Owner::Host(control));
        if host.is_leaving {
            return self.outputs.push_back(Output::Close(data));
        }
        host.free.push_back(data);
        self.data.insert(data, Data { service: service.clone(), owner, is_busy: false });
        self.serve(now, &service);
    }

    fn on_free(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(data) = self.data.get_mut(&id).filter(|data| data.is_busy) else { return };
        data.is_busy = false;
        let service = data.service.clone();
        if let Some(door) = self.doors.get_mut(&service) {
            door.active = door.active.saturating_sub(1);
        }
        match data.owner {
            Owner::Host(control) => match self.hosts.get_mut(&control) {
                Some(host) => {
                    host.active -= 1;
                    if host.is_leaving {
                        self.drop_data(id);
                    } else {
                        host.free.push_back(id);
                    }
                }
                None => self.drop_data(id),
            },
            Owner::Compatible(_) => self.drop_data(id),
        }
        self.serve(now, &service);
    }

    fn drop_data(&mut self, id: ConnectionId) {
        self.data.remove(&id);
        self.outputs.push_back(Output::Close(id));
    }

    fn on_gone(&mut self, now: Timestamp, id: ConnectionId) {
        self.commands.remove(&id);
        if self.hosts.contains_key(&id) {
            self.dismiss(id);
        }
        let Some(data) = self.data.remove(&id) else { return };
        if let Some(door) = self.doors.get_mut(&data.service) {
            door.active = door.active.saturating_sub(usize::from(data.is_busy));
            door.free.retain(|free| *free != id);
        }
        match data.owner {
            Owner::Host(control) => {
                if let Some(host) = self.hosts.get_mut(&control) {
                    host.active -= usize::from(data.is_busy);
                    host.free.retain(|free| *free != id);
                    host.low = host.low.min(host.free.len());
                    self.top_up(now, control);
                }
            }
            Owner::Compatible(session) if data.is_busy => self.announce(Announcement::Drop(session)),
            Owner::Compatible(_) => {}
        }
        self.serve(now, &data.service);
    }

    /// Forgets a host, whose sessions may go on.
    fn dismiss(&mut self, control: ConnectionId) {
        let Some(host) = self.hosts.remove(&control) else { return };
        for data in host.free {
            self.drop_data(data);
        }
        self.outputs.push_back(Output::Close(control));
    }

    fn announce(&mut self, announcement: Announcement) {
        let all = self.commands.iter().map(|control| Output::Announce(*control, announcement));
        self.outputs.extend(all);
    }

    fn on_client(&mut self, now: Timestamp, client: ClientId, service: Name, from: IpAddr) {
        let is_draining = self.is_draining;
        let denial = match self.doors.get_mut(&service) {
            None => Some(Denial::NoService),
            Some(_) if is_draining => Some(Denial::Draining),
            Some(door) => door.admit(now, from).err(),
        };
        if let Some(denial) = denial {
            return self.outputs.push_back(Output::Deny(client, denial));
        }
        if let Some(door) = self.doors.get_mut(&service) {
            let until = now.after(door.limits.wait);
            door.waiting.push_back(Waiting { client, until });
            self.serve_or_want(now, &service, until);
        }
    }

    /// It was let in before, so no limit is asked again; and it is the next in turn.
    fn on_returned(&mut self, now: Timestamp, client: ClientId, service: &Name) {
        let is_draining = self.is_draining;
        match self.doors.get_mut(service) {
            None => self.outputs.push_back(Output::Deny(client, Denial::NoService)),
            Some(_) if is_draining => self.outputs.push_back(Output::Deny(client, Denial::Draining)),
            Some(door) => {
                let latest = now.after(door.limits.wait);
                let until = door.waiting.front().map_or(latest, |next| next.until);
                door.waiting.push_front(Waiting { client, until });
                self.serve_or_want(now, service, until);
            }
        }
    }

    /// Serves whoever waits; when that leaves somebody waiting, until then at the longest, the pools grow.
    fn serve_or_want(&mut self, now: Timestamp, service: &Name, until: Timestamp) {
        self.serve(now, service);
        if self.doors.get(service).is_some_and(|door| !door.waiting.is_empty()) {
            self.timers.insert((until, Timer::Wait(service.clone())));
            self.want_more(now, service);
        }
    }

    /// Gives free data connections to waiting clients, the oldest first.
    fn serve(&mut self, now: Timestamp, service: &Name) {
        loop {
            let Some(door) = self.doors.get(service).filter(|door| !door.waiting.is_empty()) else { return };
            let found = if service.is_empty() {
                door.free.front().copied().filter(|_| !self.commands.is_empty())
            } else {
                self.least_loaded(service, true).and_then(|control| self.hosts[&control].free.back().copied())
            };
            let Some(id) = found else { return };
            let data = self.data.get_mut(&id).expect("a free connection is known");
            data.is_busy = true;
            let owner = data.owner;
            let door = self.doors.get_mut(service).expect("it was found before");
            let waiting = door.waiting.pop_front().expect("somebody waits");
            door.active += 1;
            self.outputs.push_back(Output::Join(waiting.client, id));
            match owner {
                Owner::Host(control) => {
                    let host = self.hosts.get_mut(&control).expect("a host with a free connection is known");
                    host.free.pop_back();
                    host.active += 1;
                    host.low = host.low.min(host.free.len());
                    // A client has come: now there should be more for the next ones.
                    host.is_unfilled = false;
                    self.top_up(now, control);
                }
                Owner::Compatible(session) => {
                    door.free.pop_front();
                    self.announce(Announcement::Open(session));
                }
            }
        }
    }

    /// The host of a service that has the fewest sessions, of those that take any.
    fn least_loaded(&self, service: &Name, has_free: bool) -> Option<ConnectionId> {
        let hosts = self.hosts.iter().filter(|(_, host)| host.service == *service && host.is_open());
        let hosts = hosts.filter(|(_, host)| !has_free || !host.free.is_empty());
        hosts.min_by_key(|(_, host)| host.active + host.tickets.len()).map(|(id, _)| *id)
    }

    /// Somebody waits whom no connection is on its way for: the pools grow.
    fn want_more(&mut self, now: Timestamp, service: &Name) {
        let Some(door) = self.doors.get(service).filter(|door| !door.waiting.is_empty()) else { return };
        let (waiting, pool_max) = (door.waiting.len(), door.limits.pool_max);
        let asked: usize =
            self.hosts.values().filter(|host| host.service == *service).map(|host| host.tickets.len()).sum();
        let missing = waiting.saturating_sub(asked);
        let Some(control) = self.least_loaded(service, false).filter(|_| missing > 0) else { return };
        let host = self.hosts.get_mut(&control).expect("it was found before");
        host.target = (host.target * 2).min(pool_max).max(host.target);
        let wanted = missing.max(host.missing());
        self.want(now, control, wanted);
    }

    /// Keeps so many connections of a host free as its pool should have, once it has been filled.
    fn top_up(&mut self, now: Timestamp, control: ConnectionId) {
        let Some(host) = self.hosts.get(&control).filter(|host| host.is_open()) else { return };
        if !host.is_unfilled {
            let missing = host.missing();
            self.want(now, control, missing);
        }
    }

    fn want(&mut self, now: Timestamp, control: ConnectionId, wanted: usize) {
        let Some(host) = self.hosts.get_mut(&control) else { return };
        let Some(count) =
            u16::try_from(wanted.min(host::TICKETS_MAX.saturating_sub(host.tickets.len()))).ok()
        else {
            return;
        };
        if count == 0 || self.is_draining {
            return;
        }
        let first = host.next_ticket;
        let until = now.after(TICKET_TIME);
        host.next_ticket += u64::from(count);
        host.tickets.extend((first..host.next_ticket).map(|ticket| (ticket, until)));
        self.timers.insert((until, Timer::Ticket(control)));
        self.outputs.push_back(Output::Want { control, first, count });
    }

    fn on_timer(&mut self, now: Timestamp, timer: Timer) {
        match timer {
            Timer::Beat(control) => {
                let crowd = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
                let Some(host) = self.hosts.get_mut(&control) else { return };
                if now.since(host.heard) > self.heartbeat.mul_f64(8.0 / 3.0) {
                    return self.dismiss(control);
                }
                let pool = self.doors.get(&host.service).map_or(0, |door| door.limits.pool);
                let surplus = host.shrink(pool);
                self.outputs.push_back(Output::Ping(control));
                if std::mem::replace(&mut host.crowd, crowd) != crowd {
                    self.outputs.push_back(Output::Crowd(control, crowd));
                }
                surplus.into_iter().for_each(|data| self.drop_data(data));
                self.timers.insert((now.after(self.heartbeat), Timer::Beat(control)));
                self.top_up(now, control);
            }
            Timer::Ticket(control) => {
                let Some(host) = self.hosts.get_mut(&control) else { return };
                let before = host.tickets.len();
                host.tickets.retain(|_, until| *until > now);
                if host.tickets.len() < before {
                    let service = host.service.clone();
                    self.want_more(now, &service);
                    self.top_up(now, control);
                }
            }
            Timer::Wait(service) => {
                let Some(door) = self.doors.get_mut(&service) else { return };
                while door.waiting.front().is_some_and(|waiting| waiting.until <= now) {
                    let denied = door.waiting.pop_front().map(|w| Output::Deny(w.client, Denial::NoHost));
                    self.outputs.extend(denied);
                }
            }
        }
    }
}

impl Machine for RelayMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Services(services) => self.set_services(services),
            Input::Host { control, service } => self.on_host(now, control, service),
            Input::Commands(control) => {
                self.commands.insert(control);
                self.serve(now, &Name::from(""));
            }
            Input::Heard(control) => {
                if let Some(host) = self.hosts.get_mut(&control) {
                    host.heard = now;
                }
            }
            Input::Health(control, is_well) => {
                if let Some(host) = self.hosts.get_mut(&control) {
                    host.heard = now;
                    host.is_well = is_well;
                    let service = host.service.clone();
                    self.serve(now, &service);
                    self.want_more(now, &service);
                    self.top_up(now, control);
                }
            }
            Input::Leaving(control) => {
                let Some(host) = self.hosts.get_mut(&control) else { return };
                host.is_leaving = true;
                let free = std::mem::take(&mut host.free);
                let service = host.service.clone();
                free.into_iter().for_each(|data| self.drop_data(data));
                self.want_more(now, &service);
            }
            Input::Data { data, control, ticket } => self.on_data(now, data, control, ticket),
            Input::CompatibleData { data, session } => {
                let service = Name::from("");
                let Some(door) = self.doors.get_mut(&service) else {
                    return self.outputs.push_back(Output::Close(data));
                };
                // The oldest is used first, also when a younger one was ready before it.
                let place = door.free.partition_point(|free| *free < data);
                door.free.insert(place, data);
                let owner = Owner::Compatible(session);
                self.data.insert(data, Data { service: service.clone(), owner, is_busy: false });
                self.serve(now, &service);
            }
            Input::Free(data) => self.on_free(now, data),
            Input::Gone(id) => self.on_gone(now, id),
            Input::Client { client, service, from } => self.on_client(now, client, service, from),
            Input::Returned { client, service } => self.on_returned(now, client, &service),
            Input::Drain => {
                self.is_draining = true;
                self.outputs.extend(self.hosts.keys().map(|control| Output::Draining(*control)));
                for door in self.doors.values_mut() {
                    let waiting = std::mem::take(&mut door.waiting);
                    self.outputs
                        .extend(waiting.into_iter().map(|w| Output::Deny(w.client, Denial::Draining)));
                }
            }
            Input::Timeout => {
                while self.timers.first().is_some_and(|(at, _)| *at <= now) {
                    let (_, timer) = self.timers.pop_first().expect("there is a first one");
                    self.on_timer(now, timer);
                }
                self.fill(now);
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.filling.deadline()].into_iter().flatten().min()
    }
}
