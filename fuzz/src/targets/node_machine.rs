//! A node's machine, everything that can happen to it, and what must hold.
//!
//! * No panic, no limit passed, no tables that contradict each other ([`NodeMachine::assert_sound`]).
//! * What it sends can be read, HELLO comes first, and nothing is said to a peer that it may not know.
//! * Alice is a stock node and well. Whatever strangers do who don't speak in her name or from her address: she stays, she is
//!   never called evasive, and what is sent to her keeps count, as zyre and pyre insist on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hailer::Timestamp;
use hailer::fuzzing::Source;
use hailer::machine::Machine;
use hailer::zre::beacon::{Beacon, BeaconError};
use hailer::zre::machine::{Command, DialFailure, InboundLink, Input, NodeMachine, OutboundLink, Output};
use hailer::zre::message::{Body, Hello, Message};
use hailer::zre::{Config, Content, Endpoint, Event, Headers, Limits, PeerId, Text};

use super::feed;

const LIMITS: Limits = Limits {
    peers: 8,
    peers_not_ready: 4,
    new_peers_per_second: 10,
    groups_per_peer: 3,
    handshakes: 4,
    links_without_hello: 5,
    hello_timeout: Duration::from_secs(15),
    queue_messages: 4,
    queue_bytes: 4096,
    events: 4,
};
const OWN: PeerId = PeerId::from_bytes([0xaa; 16]);
const ALICE: PeerId = PeerId::from_bytes([0xa1; 16]);
const ALICE_LINK: InboundLink = InboundLink::from_number(1);
/// She says something each time, so that she is never quiet.
const STEP: Duration = Duration::from_secs(2);
const EVENTS_MAX: usize = 400;

/// What Alice has been told, as a stock node counts it.
struct Alice {
    link: OutboundLink,
    /// The number of the last message to her.
    heard: u16,
    status: u8,
    /// The number of her last message.
    said: u16,
}

struct Rig {
    machine: NodeMachine,
    now: Timestamp,
    alice: Option<Alice>,
    has_beacons: bool,
    /// Connections of strangers, each with the number that its next message should have.
    inbound: Vec<(InboundLink, u16)>,
    last_inbound: u64,
    outbound: Vec<(OutboundLink, u32)>,
    /// Those to static peers that nobody has answered yet.
    knocks: BTreeSet<OutboundLink>,
    /// What was sent on each link: the number of the last message.
    sent: BTreeMap<OutboundLink, u16>,
    is_stopped: bool,
}

fn stranger(number: usize) -> PeerId {
    PeerId::from_bytes([number as u8; 16])
}

fn alices_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 200], 49152))
}

fn hello(endpoint: String, groups: Vec<Text>, headers: Headers) -> Body {
    let status = groups.len() as u8;
    Body::Hello(Hello { endpoint: endpoint.into(), groups, status, name: "peer".into(), headers })
}

/// Gives a node's machine what the bytes say.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut rig = Rig::new(&mut source);
    for _ in 0..EVENTS_MAX {
        if source.is_empty() || rig.is_stopped {
            break;
        }
        rig.step(&mut source);
        if !rig.is_stopped {
            rig.machine.assert_sound();
        }
    }
}

impl Rig {
    fn new(source: &mut Source<'_>) -> Self {
        let choices = source.byte();
        let config = Config {
            beacon: choices & 1 == 0,
            contest: if choices & 2 == 0 { Vec::new() } else { vec!["a".into()] },
            groups: if choices & 4 == 0 { Vec::new() } else { vec!["a".into(), "b".into()] },
            peers: if choices & 8 == 0 { Vec::new() } else { vec![endpoint(3), endpoint(4)] },
            ..Config::default()
        };
        let has_beacons = config.beacon;
        let inbox = SocketAddr::from(([10, 0, 0, 1], 49152)).into();
        let machine =
            NodeMachine::new(config, LIMITS, OWN, inbox, 7, Timestamp::ZERO).expect("it can be carried out");
        let mut rig = Self {
            machine,
            now: Timestamp::ZERO,
            alice: None,
            has_beacons,
            inbound: Vec::new(),
            last_inbound: 1,
            outbound: Vec::new(),
            knocks: BTreeSet::new(),
            sent: BTreeMap::new(),
            is_stopped: false,
        };
        rig.meet_alice();
        rig
    }

    fn meet_alice(&mut self) {
        let identity = [&[1], ALICE.as_bytes().as_slice()].concat().into();
        self.feed(Input::InboundOpened { link: ALICE_LINK, identity, remote: alices_address() });
        let introduction = hello(format!("tcp://{}", alices_address()), vec!["a".into()], Headers::new());
        let frames = Message { sequence: 1, body: introduction }.encode().expect("it is within its limits");
        self.machine.handle(self.now, Input::Received { link: ALICE_LINK, frames });
        let outputs: Vec<Output> = std::iter::from_fn(|| self.machine.poll()).collect();
        let opened = outputs.iter().find_map(|output| match output {
            Output::Open { link, peer: ALICE } => Some(*link),
            _ => None,
        });
        let link = opened.expect("she is answered");
        self.alice = Some(Alice { link, heard: 0, status: 0, said: 1 });
        self.note(outputs);
        self.feed(Input::Opened { link });
    }

    fn feed(&mut self, input: Input) {
        let outputs = feed(&mut self.machine, self.now, input);
        self.note(outputs);
    }

    fn note(&mut self, outputs: Vec<Output>) {
        if outputs.contains(&Output::Stopped) {
            self.is_stopped = true;
            return;
        }
        let mut has_pinged = false;
        let alice = self.alice.as_ref().map(|alice| alice.link);
        for output in outputs {
            match output {
                Output::Open { link, .. } if Some(link) != alice => self.outbound.push((link, 1)),
                Output::Knock { link, .. } => {
                    self.outbound.push((link, 1));
                    self.knocks.insert(link);
                }
                Output::Dial { link, attempt, .. } if Some(link) != alice => {
                    self.outbound.push((link, attempt))
                }
                Output::Close(link) => assert_ne!(Some(link), alice, "Alice is hung up on"),
                Output::CloseInbound(link) => {
                    assert_ne!(link, ALICE_LINK, "Alice's connection is closed");
                    self.inbound.retain(|(open, _)| *open != link);
                }
                Output::Send { link, frames } => has_pinged |= self.sent(link, frames),
                Output::Event(
                    Event::Exit { peer, .. } | Event::Evasive { peer, .. } | Event::Silent { peer, .. },
                ) => {
                    assert_ne!(peer, ALICE, "Alice is well");
                }
                _ => {}
            }
        }
        if has_pinged {
            self.alice_says(Body::PingOk);
        }
    }

    /// A message goes out. Whether Alice has to answer it.
    fn sent(&mut self, link: OutboundLink, frames: Vec<Bytes>) -> bool {
        let message = Message::decode(frames).expect("what is sent can be read");
        match self.sent.insert(link, message.sequence) {
            None => {
                assert!(message.sequence == 1 && matches!(message.body, Body::Hello(_)), "HELLO is first")
            }
            Some(_) => assert!(!matches!(message.body, Body::Hello(_)), "and it is said once"),
        }
        let Some(alice) = self.alice.as_mut().filter(|alice| alice.link == link) else { return false };
        alice.heard += 1;
        assert_eq!(message.sequence, alice.heard, "a stock node would drop us");
        match message.body {
            Body::Hello(hello) => alice.status = hello.status,
            Body::Join { status, .. } | Body::Leave { status, .. } => {
                alice.status = alice.status.wrapping_add(1);
                assert_eq!(status, alice.status, "zyre would abort");
            }
            Body::Ping => return true,
            Body::Elect { .. } | Body::Leader { .. } | Body::Goodbye => panic!("pyre would drop us"),
            Body::Whisper { .. } | Body::Shout { .. } | Body::PingOk => {}
        }
        false
    }

    fn alice_says(&mut self, body: Body) {
        let Some(alice) = self.alice.as_mut() else { return };
        alice.said += 1;
        let frames = Message { sequence: alice.said, body }.encode().expect("it is within its limits");
        self.feed(Input::Received { link: ALICE_LINK, frames });
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        while self.now < end && !self.is_stopped {
            let pause = self.now.after(STEP).min(end);
            // As many turns as could be needed; a machine that wants more is one that spins.
            for turn in 0.. {
                let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= pause) else {
                    break;
                };
                assert!(turn < 1000, "a deadline that does not go away");
                self.now = self.now.max(deadline);
                self.feed(Input::Timeout);
            }
            self.now = pause;
            if self.has_beacons {
                let beacon = Ok(Beacon { peer: ALICE, port: alices_address().port() });
                self.feed(Input::Beacon { from: alices_address(), beacon });
            }
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.below(32) {
            0..4 => self.pass(Duration::from_millis(u64::from(source.byte()) * 10)),
            4 => self.pass(Duration::from_secs(u64::from(source.byte() % 32))),
            5 => self.feed(Input::Timeout),
            6..9 => {
                let (from, peer) = (address(source), identity(source));
                self.feed(Input::Beacon {
                    from,
                    beacon: Ok(Beacon { peer, port: source.pick(&[49152, 0, 1]) }),
                });
            }
            9 => {
                let beacon = Beacon::decode(source.bytes());
                if beacon.is_ok_and(|beacon| beacon.peer == ALICE) {
                    return;
                }
                self.feed(Input::Beacon { from: address(source), beacon });
            }
            10 => self.feed(Input::Beacon { from: address(source), beacon: Err(BeaconError::Header) }),
            11 => {
                let (peer, endpoint) = (identity(source), endpoint(source.below(8)));
                self.feed(Input::Found { peer, endpoint });
            }
            12..15 => self.connect(source),
            15 => {
                if !self.inbound.is_empty() {
                    let (link, _) = self.inbound.swap_remove(source.below(self.inbound.len()));
                    self.feed(Input::InboundClosed { link });
                }
            }
            16..24 => self.receive(source),
            24..27 => self.network(source),
            27 => self.alice_lives(source),
            _ => self.command(source),
        }
    }

    fn connect(&mut self, source: &mut Source<'_>) {
        self.last_inbound += 1;
        let link = InboundLink::from_number(self.last_inbound);
        let identity: Bytes = match source.below(8) {
            0 => Bytes::copy_from_slice(source.bytes()),
            first => {
                [&[if first == 1 { 0x31 } else { 1 }], identity(source).as_bytes().as_slice()].concat().into()
            }
        };
        if identity.ends_with(ALICE.as_bytes()) {
            return;
        }
        self.inbound.push((link, 1));
        self.feed(Input::InboundOpened { link, identity, remote: address(source) });
    }

    fn receive(&mut self, source: &mut Source<'_>) {
        if self.inbound.is_empty() {
            return self.connect(source);
        }
        let index = source.below(self.inbound.len());
        let (link, next) = &mut self.inbound[index];
        let frames = match source.below(16) {
            0 => (0..source.below(4)).map(|_| Bytes::copy_from_slice(source.bytes())).collect(),
            kind => {
                let body = body(source);
                let sequence = match kind {
                    _ if matches!(body, Body::Hello(_)) && kind > 2 => 1,
                    1 => source.u16(),
                    _ => *next,
                };
                *next = if sequence == u16::MAX { 0 } else { sequence + 1 };
                let Ok(frames) = (Message { sequence, body }).encode() else { return };
                frames
            }
        };
        let link = *link;
        self.feed(Input::Received { link, frames });
    }

    /// What happens to our connections to strangers.
    fn network(&mut self, source: &mut Source<'_>) {
        if self.outbound.is_empty() {
            return;
        }
        // The latest are the likeliest to be alive.
        let back = source.below(self.outbound.len().min(12));
        let (link, attempt) = self.outbound[self.outbound.len() - 1 - back];
        let failures =
            [DialFailure::Refused, DialFailure::AnotherPeer, DialFailure::TimedOut, DialFailure::Unreachable];
        let failure = source.pick(&failures);
        // A knock is answered once, and then it is a link like the others.
        let is_knock = self.knocks.remove(&link);
        self.feed(match source.below(8) {
            0..4 if is_knock => {
                let peer = (source.below(2) == 0).then(|| identity(source));
                Input::Answered { link, peer, at: address(source) }
            }
            0..4 => Input::Opened { link },
            4 => Input::DialFailed { link, attempt, failure },
            5 => Input::Closed { link },
            6 => Input::QueueFull { link },
            _ => Input::Reached { link, outcome: if source.below(2) == 0 { Ok(()) } else { Err(failure) } },
        });
    }

    fn alice_lives(&mut self, source: &mut Source<'_>) {
        let body = match source.below(4) {
            0 => Body::Ping,
            1 => Body::Join { group: group(source), status: source.byte() },
            2 => Body::Leave { group: group(source), status: source.byte() },
            _ => Body::Whisper { content: vec![Bytes::copy_from_slice(source.bytes())] },
        };
        if self.alice.as_ref().is_some_and(|alice| alice.said < u16::MAX - 1) {
            self.alice_says(body);
        }
    }

    fn command(&mut self, source: &mut Source<'_>) {
        let peer = if source.below(2) == 0 { ALICE } else { identity(source) };
        let content = || Content::from(Bytes::from_static(b"content"));
        let command = match source.below(32) {
            31 => Command::Stop,
            30 => return self.feed(Input::Ending),
            0..8 => Command::Join(group(source)),
            8..16 => Command::Leave(group(source)),
            16..22 => Command::Shout { group: group(source), content: content() },
            22..28 => Command::Whisper { peer, content: content() },
            _ => Command::Ping { peer, token: source.byte().into() },
        };
        let outputs = feed(&mut self.machine, self.now, Input::Command(command));
        let answers = outputs.iter().filter(|output| matches!(output, Output::Answer(_))).count();
        assert_eq!(answers, 1, "a command has one answer");
        self.note(outputs);
    }
}

/// A stranger's place, or ours.
fn address(source: &mut Source<'_>) -> SocketAddr {
    let choice = source.byte();
    SocketAddr::from(([10, 0, 0, choice % 8], [49152, 1][usize::from(choice >> 7)]))
}

fn endpoint(number: usize) -> Endpoint {
    SocketAddr::from(([10, 0, 0, number as u8], 49152)).into()
}

/// A stranger, or ourselves.
fn identity(source: &mut Source<'_>) -> PeerId {
    match source.below(12) {
        0 => OWN,
        number => stranger(number),
    }
}

fn group(source: &mut Source<'_>) -> Text {
    source.pick(&["a", "b", "c", "d", "\u{e9}", ""]).into()
}

fn body(source: &mut Source<'_>) -> Body {
    let text = |peer: PeerId| Text::from(peer.to_string());
    match source.below(16) {
        0..4 => {
            let place = match source.below(8) {
                0 => "garbage".to_owned(),
                1 => "tcp://name:49152".to_owned(),
                2 => "tcp://0.0.0.0:49152".to_owned(),
                _ => format!("tcp://{}", address(source)),
            };
            let groups = (0..source.below(5)).map(|_| group(source)).collect();
            let headers = if source.below(2) == 0 { vec![] } else { vec![("X-HAILER".into(), "1".into())] };
            hello(place, groups, headers.into_iter().collect())
        }
        4 => Body::Ping,
        5 => Body::PingOk,
        6 => Body::Goodbye,
        7..9 => Body::Join { group: group(source), status: source.byte() },
        9..11 => Body::Leave { group: group(source), status: source.byte() },
        11 => Body::Elect { group: group(source), challenger: text(identity(source)) },
        12 => Body::Leader { group: group(source), leader: text(identity(source)) },
        13 => Body::Elect { group: group(source), challenger: Bytes::copy_from_slice(source.bytes()).into() },
        14 => Body::Shout { group: group(source), content: vec![Bytes::copy_from_slice(source.bytes())] },
        _ => Body::Whisper { content: Vec::new() },
    }
}
