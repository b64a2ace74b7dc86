//! The doors of the fuzz targets to the LAN group: its codecs and its machine, which are private (feature `fuzzing`).

use std::net::SocketAddr;
use std::time::Duration;

use super::announcement::{Announcement, MemberId};
use super::event::{Event, Reason};
use super::limits;
use super::machine::{CheckId, Evidence, GroupMachine, Input, Outcome, Output, Pir};
use super::message::{self, DATAGRAM_BYTES_MAX, Entry, LINES_MAX, List, Message, Told};
use super::uri::{HealthUri, Uri};
use super::{Config, GroupName};
use crate::Timestamp;
use crate::fuzzing::Source;
use crate::machine::Machine;
use crate::net::Interface;

/// Reads a datagram of members of our kind; what is right is told as what it was.
pub fn group_message(bytes: &[u8]) {
    let Ok(told) = Told::decode(bytes) else { return };
    assert!(Told::is_ours(bytes));
    let items = |told: &Told| match &told.message {
        Message::Here(_) | Message::Leave => 0,
        Message::Alive(entries) => entries.len(),
        Message::Suspect(suspects) => suspects.len(),
        Message::Ask(members) => members.len(),
    };
    let again: Vec<Told> = told
        .encode()
        .iter()
        .map(|datagram| Told::decode(datagram.as_bytes()).expect("what is told is understood"))
        .collect();
    assert_eq!(again.iter().map(items).sum::<usize>(), items(&told));
    if let [one] = &again[..] {
        assert_eq!(*one, told);
    }
}

/// Reads the lines of a list, and a request for one.
pub fn group_list(bytes: &[u8]) {
    let _ = message::read_request(bytes);
    let mut list = List::default();
    let is_whole = bytes.split(|byte| *byte == b'\n').find_map(|line| list.take(line));
    assert!(list.entries.len() + list.gone.len() <= LINES_MAX);
    if is_whole == Some(true) {
        let mut again = List::default();
        let text = list.encode();
        assert_eq!(text.lines().find_map(|line| again.take(line.as_bytes())), Some(true));
        assert_eq!(again, list);
    }
}

const OWN: MemberId = MemberId::from_bytes([1; 16]);
/// Answers every check; nobody speaks in its name.
const HONEST: u8 = 2;

/// A membership, its network, and a member that is well.
struct Rig {
    machine: GroupMachine,
    now: Timestamp,
    is_evidence: bool,
    is_member: bool,
    checks: Vec<CheckId>,
    lists: Vec<MemberId>,
    has_left: bool,
}

fn id(number: u8) -> MemberId {
    MemberId::from_bytes([number; 16])
}

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], port))
}

fn name() -> GroupName {
    "g".parse().expect("it is a name")
}

fn entry(number: u8, version: u32, port: u16) -> Entry {
    Entry {
        member: id(number),
        version,
        port,
        health: HealthUri::answer(at(number, 40_000)),
        service: Uri::parse("tcp://x:1").expect("it is a URI"),
        check: None,
    }
}

impl Rig {
    fn new(source: &mut Source<'_>) -> Self {
        let mut config = Config::new(name());
        if source.below(8) > 0 {
            config.service = Some(Uri::parse("tcp://*:1").expect("it is a URI"));
        }
        let is_evidence = source.below(4) > 0;
        let machine = if is_evidence {
            GroupMachine::Evidence(Box::new(Evidence::new(&config, OWN, 7, Timestamp::ZERO)))
        } else {
            GroupMachine::Pir(Box::new(Pir::new(&config, OWN, Timestamp::ZERO)))
        };
        let (checks, lists) = (Vec::new(), Vec::new());
        let now = Timestamp::ZERO;
        let mut rig = Self { machine, now, is_evidence, is_member: false, checks, lists, has_left: false };
        rig.feed(Input::Interfaces(vec![interface()]));
        rig.honest();
        rig.pass(Duration::from_secs(2));
        rig
    }

    /// The member that is well announces itself.
    fn honest(&mut self) {
        let from = at(HONEST, 5000);
        if self.is_evidence {
            let message = Message::Here(entry(HONEST, 1, 5000));
            self.feed(Input::Told { told: Told { group: name(), sender: id(HONEST), message }, from });
        } else {
            let entry = entry(HONEST, 1, 5000);
            let announcement = Announcement {
                group: name(),
                member: entry.member,
                health: entry.health,
                service: entry.service,
            };
            self.feed(Input::Announced { announcement, from });
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        let mut answers = Vec::new();
        let mut outputs = 0;
        while let Some(output) = self.machine.poll() {
            outputs += 1;
            assert!(outputs < 10_000, "one input, and no end of outputs");
            match output {
                Output::Check { check, targets, .. } => {
                    assert!(!targets.is_empty() && targets.len() <= 1 + limits::PLACES_MAX);
                    if let Some(place) =
                        targets.iter().position(|target| target.at.ip() == at(HONEST, 0).ip())
                    {
                        answers.push((check, place));
                    } else {
                        self.checks.push(check);
                    }
                }
                Output::FetchList { from, .. } => self.lists.push(from),
                Output::Tell { message, .. } => {
                    for datagram in (Told { group: name(), sender: OWN, message }).encode() {
                        assert!(datagram.len() <= DATAGRAM_BYTES_MAX.max(message_bytes_max()));
                        Told::decode(datagram.as_bytes()).expect("what is told is understood");
                    }
                }
                Output::Event(Event::Added(member)) if member.id == id(HONEST) => self.is_member = true,
                Output::Event(Event::Removed(member, reason)) if member.id == id(HONEST) => {
                    assert!(reason == Reason::Left, "a member that answers was removed: {reason}");
                    self.is_member = false;
                }
                Output::Event(_) | Output::Announce { .. } | Output::Refute { .. } => {}
                Output::Left => self.has_left = true,
            }
        }
        assert!(self.checks.len() + answers.len() <= limits::CHECKS_MAX || !self.is_evidence);
        assert!(self.machine.members().len() <= limits::KNOWN_MAX);
        for (check, place) in answers {
            self.feed(Input::Checked { check, outcome: Outcome::Answered(place) });
        }
    }

    /// Lets time pass. Late checks come to nothing, as the driver has it.
    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        for _ in 0..200 {
            let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= end) else { break };
            self.now = self.now.max(deadline);
            self.feed(Input::Timeout);
        }
        self.now = self.now.max(end);
        for check in std::mem::take(&mut self.checks) {
            self.feed(Input::Checked { check, outcome: Outcome::Silent });
        }
        self.honest();
    }
}

/// One entry may be longer than a datagram should be.
const fn message_bytes_max() -> usize {
    8192
}

fn interface() -> Interface {
    Interface {
        name: "eth0".to_owned(),
        index: 2,
        address: at(1, 0).ip(),
        prefix: 24,
        broadcast: None,
        is_loopback: false,
        is_point_to_point: false,
        is_up: true,
    }
}

/// Somebody, who may be us, and is never the member that is well.
fn somebody(source: &mut Source<'_>) -> u8 {
    [1, 3, 4, 5, 6, 7, 8, 9][source.below(8)]
}

fn told(source: &mut Source<'_>) -> Told {
    let sender = somebody(source);
    let version = |source: &mut Source<'_>| u32::try_from(source.number()).unwrap_or(u32::MAX);
    let anybody = |source: &mut Source<'_>| u8::try_from(source.below(10)).unwrap_or(0);
    let several = |source: &mut Source<'_>| 0..source.below(4);
    let message = match source.below(6) {
        0 | 1 => Message::Here(entry(sender, version(source), 5000)),
        2 => Message::Leave,
        3 => Message::Alive(several(source).map(|_| entry(anybody(source), version(source), 5000)).collect()),
        4 => Message::Suspect(several(source).map(|_| (id(anybody(source)), source.u16())).collect()),
        _ => Message::Ask(several(source).map(|_| id(anybody(source))).collect()),
    };
    Told { group: name(), sender: id(sender), message }
}

/// A membership among liars: nobody removes a member that answers, and no limit is passed.
pub fn group_machine(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut rig = Rig::new(&mut source);
    while !source.is_empty() && !rig.has_left {
        let from = at(somebody(&mut source), 5000);
        match source.below(12) {
            0..4 => rig.feed(Input::Told { told: told(&mut source), from }),
            4 => {
                if let Ok(told) = Told::decode(source.bytes())
                    && told.sender != id(HONEST)
                {
                    rig.feed(Input::Told { told, from });
                }
            }
            5 => {
                let number = somebody(&mut source);
                let entry = entry(number, 0, 0);
                let health = source.pick(&[
                    entry.health,
                    HealthUri::answer(at(HONEST, 40_000)),
                    HealthUri::answer(at(number, 80)),
                ]);
                let announcement =
                    Announcement { group: name(), member: id(number), health, service: entry.service };
                rig.feed(Input::Announced { announcement, from });
            }
            6 | 7 => {
                let outcome = source.pick(&[Outcome::Answered(0), Outcome::Failed, Outcome::Silent]);
                if !rig.checks.is_empty() {
                    let check = rig.checks.swap_remove(source.below(rig.checks.len()));
                    rig.feed(Input::Checked { check, outcome });
                }
            }
            8 => {
                if let Some(from) = rig.lists.pop() {
                    let list = (source.below(4) > 0).then(|| List {
                        entries: (0..source.below(4))
                            .map(|_| {
                                entry(
                                    [1, 2, 3, 4, 5, 6, 7, 8][source.below(8)],
                                    u32::try_from(source.number()).unwrap_or(u32::MAX),
                                    5000,
                                )
                            })
                            .collect(),
                        gone: (0..source.below(4)).map(|_| id(somebody(&mut source))).collect(),
                    });
                    rig.feed(Input::Listed { from, list });
                }
            }
            9 | 10 => rig.pass(Duration::from_millis(u64::from(source.byte()) * 8)),
            _ => match source.below(16) {
                0 => rig.feed(Input::Leave),
                1 => rig.feed(Input::Interfaces(vec![interface()])),
                _ => rig.feed(Input::Timeout),
            },
        }
    }
}
