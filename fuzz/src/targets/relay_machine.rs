//! A relay, its hosts of both protocols and its clients, as its driver tells it of them: every client is joined or denied once,
//! a data connection carries one session at a time, and no more sessions go on than may.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::feed;
use hailer::Timestamp;
use hailer::fuzzing::Source;
use hailer::machine::Machine;
use hailer::relay::config::Limits;
use hailer::relay::machine::{ClientId, ConnectionId, Input, Name, Output, RelayMachine};

const EVENTS_MAX: usize = 300;

struct Rig {
    machine: RelayMachine,
    now: Timestamp,
    last: u64,
    hosts: Vec<ConnectionId>,
    data: Vec<ConnectionId>,
    /// Those that carry a session.
    busy: BTreeSet<ConnectionId>,
    tickets: Vec<(ConnectionId, u64)>,
    waiting: BTreeMap<ClientId, Name>,
    limits: Limits,
}

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let limits = Limits {
        connections: 6,
        waiting: 3,
        wait: Duration::from_secs(2),
        rate: (source.below(4) == 0).then_some(5),
        allow: Vec::new(),
        hosts: 3,
        pool: source.below(3),
        pool_max: 8,
        ..Limits::default()
    };
    let mut rig = Rig {
        machine: RelayMachine::new(Duration::from_secs(1)),
        now: Timestamp::ZERO,
        last: 0,
        hosts: Vec::new(),
        data: Vec::new(),
        busy: BTreeSet::new(),
        tickets: Vec::new(),
        waiting: BTreeMap::new(),
        limits,
    };
    rig.services(0);
    for _ in 0..EVENTS_MAX {
        if source.is_empty() {
            break;
        }
        rig.step(&mut source);
        assert!(rig.machine.sessions() <= rig.limits.connections * 2, "there are two services");
        assert!(rig.machine.hosts_of("ssh") <= rig.limits.hosts);
        assert!(rig.waiting.len() <= rig.limits.waiting * 2);
    }
    rig.feed(Input::Drain);
    assert!(rig.waiting.is_empty(), "nobody is left waiting");
}

impl Rig {
    fn services(&mut self, without: usize) {
        let names = ["", "ssh"].iter().enumerate().filter(|(index, _)| index + 1 != without);
        let services = names.map(|(_, name)| (Name::from(*name), self.limits.clone())).collect();
        self.feed(Input::Services(services));
    }

    fn feed(&mut self, input: Input) {
        for output in feed(&mut self.machine, self.now, input) {
            match output {
                Output::Join(client, data) => {
                    assert!(self.waiting.remove(&client).is_some(), "a client is joined once");
                    assert!(self.data.contains(&data), "to a connection that is there");
                    assert!(self.busy.insert(data), "that is free");
                }
                Output::Deny(client, _) => {
                    assert!(self.waiting.remove(&client).is_some(), "a client is denied once");
                }
                Output::Want { control, first, count } => {
                    assert!(count > 0 && self.hosts.contains(&control));
                    self.tickets.extend((first..first + u64::from(count)).map(|ticket| (control, ticket)));
                    let from = self.tickets.len().saturating_sub(64);
                    self.tickets.drain(..from);
                }
                Output::Close(id) | Output::Refuse(id, _) => {
                    assert!(!self.busy.contains(&id), "a session is not cut");
                    self.hosts.retain(|host| *host != id);
                    self.data.retain(|data| *data != id);
                }
                _ => {}
            }
        }
    }

    fn new_id(&mut self) -> ConnectionId {
        self.last += 1;
        ConnectionId(self.last)
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let host = |rig: &Self, source: &mut Source<'_>| {
            (!rig.hosts.is_empty()).then(|| rig.hosts[source.below(rig.hosts.len())])
        };
        match source.below(20) {
            0 | 1 => {
                let control = self.new_id();
                self.hosts.push(control);
                let service = source.pick(&["ssh", "ssh", "ssh", "none"]).into();
                self.feed(Input::Host { control, service });
            }
            2 => {
                let control = self.new_id();
                self.feed(Input::Commands(control));
                self.hosts.push(control);
            }
            3 => host(self, source).into_iter().for_each(|host| self.feed(Input::Heard(host))),
            4 => {
                let is_well = source.below(2) == 0;
                host(self, source).into_iter().for_each(|host| self.feed(Input::Health(host, is_well)));
            }
            5 => host(self, source).into_iter().for_each(|host| self.feed(Input::Leaving(host))),
            6..9 => {
                if let Some((control, ticket)) = self.tickets.pop() {
                    let data = self.new_id();
                    self.data.push(data);
                    self.feed(Input::Data { data, control, ticket });
                }
            }
            9 => {
                if let Some(control) = host(self, source) {
                    let data = self.new_id();
                    self.data.push(data);
                    self.feed(Input::Data { data, control, ticket: source.number() });
                }
            }
            10 | 11 => {
                let data = self.new_id();
                self.data.push(data);
                self.feed(Input::CompatibleData { data, session: i32::from(source.byte()) });
            }
            12 => {
                if let Some(data) = self.busy.pop_first() {
                    self.feed(Input::Free(data));
                }
            }
            13 => {
                let all: Vec<ConnectionId> = self.hosts.iter().chain(&self.data).copied().collect();
                if !all.is_empty() {
                    let id = all[source.below(all.len())];
                    self.hosts.retain(|host| *host != id);
                    self.data.retain(|data| *data != id);
                    self.busy.remove(&id);
                    self.feed(Input::Gone(id));
                }
            }
            14..17 => {
                self.last += 1;
                let client = ClientId(self.last);
                let service: Name = source.pick(&["", "ssh", "ssh", "none"]).into();
                self.waiting.insert(client, service.clone());
                self.feed(Input::Client { client, service, from: IpAddr::from([10, 0, 0, 1]) });
            }
            17 => self.services(source.below(3)),
            18 => self.pass(Duration::from_millis(u64::from(source.byte()) * 40)),
            _ => self.feed(Input::Timeout),
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        for turn in 0.. {
            let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= end) else { break };
            assert!(turn < 10_000, "a deadline that does not go away");
            self.now = self.now.max(deadline);
            self.feed(Input::Timeout);
        }
        self.now = end;
    }
}
