//! A gossip hub, its clients of every kind and other hubs: no limit passed, no news of what everybody knows, and what an honest
//! zyre published stays as long as it is connected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::feed;
use super::gossip_words::{identity, publish};
use bytes::Bytes;
use hailer::Timestamp;
use hailer::fuzzing::Source;
use hailer::gossip::hub::{HubMachine, Input, Output};
use hailer::gossip::message::{Message, Publish};
use hailer::gossip::{Config, Event, Key, Limits, LinkId};
use hailer::machine::Machine;
use hailer::zre::{PeerId, Text};

const HONEST: PeerId = PeerId::from_bytes([0xa1; 16]);
const HONEST_VALUE: &str = "tcp://10.0.0.200:49152";
const EVENTS_MAX: usize = 300;

struct Rig {
    hub: HubMachine,
    now: Timestamp,
    honest: LinkId,
    /// Connections of strangers, and ours to other hubs.
    links: Vec<LinkId>,
    /// What the hub told its owner.
    told: BTreeMap<Key, Text>,
}

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let peers = vec!["tcp://other:1".parse().expect("a place"), "tcp://another:2".parse().expect("a place")];
    let limits =
        Limits { clients: 6, tuples: 12, tuples_per_client: 4, tuple_bytes: 2048, ..Limits::default() };
    let mut hub = HubMachine::new(
        Config { peers, ..Config::default() },
        limits,
        PeerId::from_bytes([7; 16]),
        7,
        Timestamp::ZERO,
    );
    let honest = hub.new_link();
    let mut rig = Rig { hub, now: Timestamp::ZERO, honest, links: Vec::new(), told: BTreeMap::new() };
    let remote = SocketAddr::from(([10, 0, 0, 200], 5000));
    rig.feed(Input::ClientOpened { link: honest, identity: Bytes::new(), remote });
    rig.say(honest, Message::Hello);
    let key = Bytes::from(HONEST.to_string());
    rig.say(honest, Message::Publish(Publish { key, value: HONEST_VALUE.into(), ttl: 0 }));
    for _ in 0..EVENTS_MAX {
        if source.is_empty() {
            break;
        }
        rig.step(&mut source);
        rig.check();
    }
}

impl Rig {
    fn say(&mut self, link: LinkId, message: Message) {
        if let Ok(frame) = message.encode() {
            self.feed(Input::Received { link, frames: vec![frame] });
        }
    }

    fn feed(&mut self, input: Input) {
        for output in feed(&mut self.hub, self.now, input) {
            match output {
                Output::Send { mut frames, .. } => {
                    let last = frames.pop().expect("there is a frame");
                    Message::decode(last).expect("what is sent can be read");
                }
                Output::Dial { link, .. } => self.links.push(link),
                Output::Close(link) => {
                    assert_ne!(link, self.honest, "who behaves is not hung up on");
                    self.links.retain(|open| *open != link);
                }
                Output::Event(Event::Published { key, value, .. }) => {
                    assert_ne!(self.told.insert(key, value.clone()), Some(value), "it is news");
                }
                Output::Event(Event::Gone { key, value, .. }) => {
                    assert_eq!(self.told.remove(&key), Some(value))
                }
                Output::Event(_) => {}
            }
        }
    }

    fn check(&self) {
        self.hub.assert_sound();
        let there: BTreeMap<Key, Text> =
            self.hub.tuples().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(there, self.told);
        assert_eq!(there.get(&Key::Peer(HONEST)), Some(&HONEST_VALUE.into()), "the honest node is known");
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        for turn in 0.. {
            let Some(deadline) = self.hub.deadline().filter(|deadline| *deadline <= end) else { break };
            assert!(turn < 10_000, "a deadline that does not go away");
            self.now = self.now.max(deadline);
            self.feed(Input::Timeout);
        }
        self.now = end;
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.below(16) {
            0..2 => {
                let link = self.hub.new_link();
                self.links.push(link);
                let identity = identity(source);
                let remote = SocketAddr::from(([10, 0, 0, source.byte() % 4], 5000));
                self.feed(Input::ClientOpened { link, identity, remote });
            }
            2 => {
                let link = self.link(source);
                self.feed(Input::HubOpened { link, identity: identity(source) });
            }
            3 => {
                let link = self.link(source);
                let frames = (0..source.below(4)).map(|_| Bytes::copy_from_slice(source.bytes())).collect();
                self.feed(Input::Received { link, frames });
            }
            4 => {
                let link = self.link(source);
                self.links.retain(|open| *open != link);
                self.feed(Input::Closed { link });
            }
            5 => {
                let link = self.link(source);
                self.feed(Input::QueueFull { link });
            }
            6..8 => self.pass(Duration::from_millis(u64::from(source.byte()) * 20)),
            8 => self.pass(Duration::from_secs(u64::from(source.byte() % 128))),
            9 => {
                let link = self.link(source);
                self.say(link, source.pick(&[Message::Ping, Message::Pong, Message::Invalid]));
            }
            10 => {
                let link = self.link(source);
                self.say(link, Message::Hello);
            }
            _ => {
                let link = self.link(source);
                let message = publish(source);
                if source.below(8) == 0
                    && let Ok(frame) = message.encode()
                {
                    // As the Haskell hub has it.
                    self.feed(Input::Received { link, frames: vec![Bytes::from_static(&[7; 16]), frame] });
                } else {
                    self.say(link, message);
                }
            }
        }
    }

    /// A connection, or one that was never there.
    fn link(&self, source: &mut Source<'_>) -> LinkId {
        let index = source.below(self.links.len() + 1);
        self.links.get(index).copied().unwrap_or(LinkId::from_number(999))
    }
}
