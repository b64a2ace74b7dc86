//! The node's machine, driven by hand.
//!
//! [`Rig`] holds one machine and plays its peers word by word; `wire` connects several machines. Test modules are sorted
//! by subject.

use std::net::SocketAddr;

use bytes::Bytes;

use super::*;
use crate::zre::message::Hello;
use crate::zre::{ExitReason, Limits};

mod discovery;
mod election;
mod homes;
mod hostile;
mod links;
mod messages;
mod odd;
mod pairs;
mod quiet;
mod seeds;
mod wire;
mod zyre;

const OWN: PeerId = PeerId::from_bytes([0xaa; 16]);
const ALICE: PeerId = PeerId::from_bytes([1; 16]);
const BOB: PeerId = PeerId::from_bytes([2; 16]);

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn text(text: &str) -> Text {
    Text::from(text)
}

/// What a peer that listens at `endpoint` says first.
fn hello(endpoint: &str, groups: &[&str]) -> Body {
    Body::Hello(Hello {
        endpoint: endpoint.into(),
        groups: groups.iter().map(|group| text(group)).collect(),
        status: groups.len() as u8,
        name: "peer".into(),
        headers: Headers::new(),
    })
}

fn whisper(content: &'static str) -> Body {
    Body::Whisper { content: vec![Bytes::from_static(content.as_bytes())] }
}

/// One machine at 10.0.0.1:49152, and the clock.
struct Rig {
    machine: NodeMachine,
    now: Timestamp,
    last_inbound: u64,
}

impl Rig {
    fn new() -> Self {
        Self::with(Config::default(), Limits::default())
    }

    fn with(config: Config, limits: Limits) -> Self {
        let endpoint = "tcp://10.0.0.1:49152".parse().unwrap();
        let machine = NodeMachine::new(config, limits, OWN, endpoint, 7, Timestamp::ZERO).unwrap();
        Self { machine, now: Timestamp::ZERO, last_inbound: 0 }
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(self.now, input);
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    /// Lets time pass until `ms` after the start; returns what the machine wanted meanwhile, own beacons left out.
    fn until(&mut self, ms: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(deadline) = self.machine.deadline().filter(|at| at.as_millis() <= ms) {
            self.now = self.now.max(deadline);
            outputs.extend(self.feed(Input::Timeout));
        }
        self.now = Timestamp::from_millis(ms);
        outputs.retain(|output| !matches!(output, Output::Beacon(_)));
        outputs
    }

    /// A beacon from a peer; the reply to a newcomer's is left out.
    fn beacon(&mut self, peer: PeerId, from: &str) -> Vec<Output> {
        let from = at(from);
        let mut outputs = self.feed(Input::Beacon { from, beacon: Ok(Beacon { peer, port: from.port() }) });
        outputs.retain(|output| !matches!(output, Output::Reply { .. }));
        outputs
    }

    /// A connection from a peer, through its handshake.
    fn accept(&mut self, peer: PeerId, from: &str) -> InboundLink {
        self.last_inbound += 1;
        let link = InboundLink::from_number(self.last_inbound);
        let identity = [&[1], &peer.as_bytes()[..]].concat().into();
        let outputs = self.feed(Input::InboundOpened { link, identity, remote: at(from) });
        assert_eq!(outputs, []);
        link
    }

    fn receive(&mut self, link: InboundLink, sequence: u16, body: Body) -> Vec<Output> {
        let frames = Message { sequence, body }.encode().unwrap();
        self.feed(Input::Received { link, frames })
    }

    /// Makes a peer at this address (where it also listens) ready: it was found by its HELLO, and our link to it is open.
    fn meet(&mut self, peer: PeerId, address: &str, groups: &[&str]) -> (InboundLink, OutboundLink) {
        let inbound = self.accept(peer, address);
        let outputs = self.receive(inbound, 1, hello(&format!("tcp://{address}"), groups));
        let (outbound, _) = dialled(&outputs)[0].clone();
        assert_eq!(self.feed(Input::Opened { link: outbound }), []);
        (inbound, outbound)
    }

    fn command(&mut self, command: Command) -> (Result<usize, CommandError>, Vec<Output>) {
        let mut outputs = self.feed(Input::Command(command));
        let answer = outputs.iter().position(|output| matches!(output, Output::Answer(_))).unwrap();
        let Output::Answer(answer) = outputs.remove(answer) else { unreachable!() };
        assert!(!outputs.iter().any(|output| matches!(output, Output::Answer(_))), "one answer");
        (answer, outputs)
    }
}

fn events(outputs: &[Output]) -> Vec<Event> {
    let event = |output: &Output| if let Output::Event(event) = output { Some(event.clone()) } else { None };
    outputs.iter().filter_map(event).collect()
}

/// The events in short: `+` ENTER, `-reason` EXIT, and so on.
fn story(outputs: &[Output]) -> String {
    let word = |event: Event| match event {
        Event::Enter { .. } => "+".to_owned(),
        Event::Exit { reason, .. } => format!("-{reason}"),
        Event::Join { group, .. } => format!("join({group})"),
        Event::Leave { group, .. } => format!("leave({group})"),
        Event::Leader { peer, group, .. } => format!("leader({group},{})", &peer.to_string()[..2]),
        Event::Evasive { .. } => "evasive".to_owned(),
        Event::Silent { .. } => "silent".to_owned(),
        Event::Whisper { content, .. } => format!("whisper({})", content[0].escape_ascii()),
        Event::Shout { group, content, .. } => format!("shout({group},{})", content[0].escape_ascii()),
        Event::Stop => "stop".to_owned(),
    };
    events(outputs).into_iter().map(word).collect::<Vec<_>>().join(" ")
}

fn dialled(outputs: &[Output]) -> Vec<(OutboundLink, String)> {
    let dial = |output: &Output| match output {
        Output::Dial { link, endpoint, .. } => Some((*link, endpoint.to_string())),
        _ => None,
    };
    outputs.iter().filter_map(dial).collect()
}

/// The messages sent on a link.
fn sent(outputs: &[Output], on: OutboundLink) -> Vec<Message> {
    let message = |output: &Output| match output {
        Output::Send { link, frames } if *link == on => Some(Message::decode(frames.clone()).unwrap()),
        _ => None,
    };
    outputs.iter().filter_map(message).collect()
}

fn is_hello(message: &Message) -> bool {
    message.sequence == 1 && matches!(message.body, Body::Hello(_))
}
