//! A client of gossip hubs that say what they like: no more is held than the limits allow, what is told comes in order, and our
//! own tuples are nobody else's business.

use std::collections::BTreeMap;
use std::time::Duration;

use super::feed;
use super::gossip_words::{identity, publish};
use bytes::Bytes;
use hailer::Timestamp;
use hailer::fuzzing::Source;
use hailer::gossip::client::{ClientMachine, Input, Output};
use hailer::gossip::message::Message;
use hailer::gossip::{Heard, Key, Limits, LinkId};
use hailer::machine::Machine;
use hailer::zre::{PeerId, Text};

const OWN: PeerId = PeerId::from_bytes([1; 16]);
const TUPLES_MAX: usize = 6;
const HUBS: usize = 2;
const EVENTS_MAX: usize = 300;

struct Rig {
    client: ClientMachine,
    now: Timestamp,
    links: Vec<LinkId>,
    told: BTreeMap<Key, Text>,
}

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let hubs = ["tcp://one:1", "tcp://two:2"].map(|place| place.parse().expect("a place"));
    let limits = Limits { tuples: TUPLES_MAX, ..Limits::default() };
    let client = ClientMachine::new(hubs.to_vec(), limits, 7, Timestamp::ZERO);
    let mut rig = Rig { client, now: Timestamp::ZERO, links: Vec::new(), told: BTreeMap::new() };
    rig.feed(Input::Publish { key: Key::Peer(OWN), value: "tcp://10.0.0.1:49152".into() });
    rig.feed(Input::Timeout);
    for _ in 0..EVENTS_MAX {
        if source.is_empty() {
            break;
        }
        rig.step(&mut source);
        let tuples: BTreeMap<&Key, &Text> = rig.client.tuples().collect();
        assert!(tuples.len() <= TUPLES_MAX * HUBS && !tuples.contains_key(&Key::Peer(OWN)));
        assert!(tuples.keys().copied().eq(rig.told.keys()), "what there is was told, and nothing else");
    }
}

impl Rig {
    fn feed(&mut self, input: Input) {
        for output in feed(&mut self.client, self.now, input) {
            match output {
                Output::Dial { link, .. } => {
                    self.links.push(link);
                    assert!(self.links.len() <= HUBS, "a hub has one connection");
                }
                Output::Send { link, mut frames } => {
                    assert!(self.links.contains(&link));
                    Message::decode(frames.pop().expect("there is a frame"))
                        .expect("what is sent can be read");
                }
                Output::Event(Heard::Found { key, value }) => {
                    assert_ne!(key, Key::Peer(OWN), "we know ourselves");
                    self.told.insert(key, value);
                }
                Output::Event(Heard::Lost { key }) => {
                    assert!(self.told.remove(&key).is_some(), "it was there");
                }
                Output::Event(_) => {}
            }
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let link = |rig: &Self, source: &mut Source<'_>| {
            let index = source.below(rig.links.len() + 1);
            rig.links.get(index).copied().unwrap_or(LinkId::from_number(999))
        };
        match source.below(16) {
            0 | 1 => {
                let link = link(self, source);
                self.feed(Input::Opened { link, identity: identity(source) });
            }
            2 => {
                let link = link(self, source);
                self.links.retain(|open| *open != link);
                self.feed(Input::Closed { link });
            }
            3 => {
                let link = link(self, source);
                let frames = (0..source.below(4)).map(|_| Bytes::copy_from_slice(source.bytes())).collect();
                self.feed(Input::Received { link, frames });
            }
            4..6 => self.pass(Duration::from_millis(u64::from(source.byte()) * 20)),
            6 => self.pass(Duration::from_secs(u64::from(source.byte() % 64))),
            7 => {
                let key = Key::Peer(PeerId::from_bytes([source.byte() % 6; 16]));
                if key == Key::Peer(OWN) {
                    return;
                }
                if source.below(2) == 0 {
                    self.feed(Input::Publish { key: key.clone(), value: "tcp://10.0.0.1:1".into() });
                    assert!(!self.told.contains_key(&key), "what is ours is not told");
                } else {
                    self.feed(Input::Withdraw { key });
                }
            }
            kind => {
                let link = link(self, source);
                let message = match kind {
                    8 => source.pick(&[Message::Hello, Message::Ping, Message::Invalid]),
                    9 | 10 => Message::Pong,
                    _ => publish(source),
                };
                let Ok(frame) = message.encode() else { return };
                let frames = if source.below(4) == 0 {
                    vec![Bytes::from_static(&[1; 16]), frame]
                } else {
                    vec![frame]
                };
                self.feed(Input::Received { link, frames });
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        for turn in 0.. {
            let Some(deadline) = self.client.deadline().filter(|deadline| *deadline <= end) else { break };
            assert!(turn < 10_000, "a deadline that does not go away");
            self.now = self.now.max(deadline);
            self.feed(Input::Timeout);
        }
        self.now = end;
    }
}
