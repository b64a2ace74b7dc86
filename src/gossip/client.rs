//! What a client of hubs decides: what it tells them, and what it believes them.
//!
//! [`ClientMachine`] is pure, as all machines. It keeps up connections to several hubs, publishes its tuples to each, and puts
//! together what they say: a tuple is there as long as one hub has it. The conversation with each hub is
//! [`uplink`](super::uplink)'s.
//!
//! A hub says a tuple once, and whoever was told may forget it: a node that could not be reached then is given up. So
//! tuples are told again, as beacons would be, soon at first and then ever more slowly.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::dialect::{Dialect, Key};
use super::message::{Message, Publish};
use super::uplink::{Act, DIAL_TIMEOUT, HubKind, Uplink};
use super::{Limits, LinkId};
use crate::Timestamp;
use crate::machine::Machine;
use crate::zmtp::Multipart;
use crate::zre::{Endpoint, Text};

/// How long a hub of Hailer keeps our tuple if it does not hear it again.
const TTL: Duration = Duration::from_secs(30);
/// The life of a tuple that is only there to see whether the Haskell hub answers with it.
const PROBE_TTL_S: u32 = 2;
/// A tuple that the Haskell hub does not mention for so long, asked every 5 s, has gone.
const HASKELL_SILENCE: Duration = Duration::from_secs(16);
/// When a tuple is told again for the first time.
const REMIND_MIN: Duration = Duration::from_secs(1);
/// How often it is told again after a while.
const REMIND_MAX: Duration = Duration::from_secs(10);

/// What can happen to a client.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timeout,
    /// A connection to a hub is through its handshake.
    Opened {
        /// Which.
        link: LinkId,
        /// The ZMTP identity of the hub's socket.
        identity: Bytes,
    },
    /// An attempt to connect failed, or a connection closed or broke.
    Closed {
        /// Which.
        link: LinkId,
    },
    /// A message came.
    Received {
        /// On which connection.
        link: LinkId,
        /// Its frames.
        frames: Multipart,
    },
    /// Publish a tuple, or give it another value.
    Publish {
        /// Its name.
        key: Key,
        /// What it says.
        value: Text,
    },
    /// Withdraw a tuple.
    Withdraw {
        /// Its name.
        key: Key,
    },
}

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to a hub.
    Dial {
        /// The connection's name from now on.
        link: LinkId,
        /// Where to.
        endpoint: Endpoint,
        /// How long to try, handshake included.
        timeout: Duration,
    },
    /// Queue a message.
    Send {
        /// On which connection.
        link: LinkId,
        /// Its frames.
        frames: Multipart,
    },
    /// Tell whoever runs the client.
    Event(Heard),
}

/// What a client tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// There is a tuple. It is told again now and then while it is there.
    Found {
        /// Its name.
        key: Key,
        /// What it says.
        value: Text,
    },
    /// No hub has the tuple any more.
    Lost {
        /// Its name.
        key: Key,
    },
    /// A hub is connected and known.
    Hub {
        /// Where it is.
        endpoint: Endpoint,
        /// How it speaks.
        dialect: Dialect,
    },
    /// The connection to a hub broke. What it said counts until it is back and says otherwise.
    HubLost {
        /// Where it is.
        endpoint: Endpoint,
    },
}

#[derive(Debug)]
struct Hub {
    uplink: Uplink,
    /// What it said, and when it said so last.
    heard: BTreeMap<Key, (Text, Timestamp)>,
    /// What it has not said since it was asked for everything.
    unsaid: BTreeSet<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Reminder {
    at: Timestamp,
    pause: Duration,
}

/// A client of gossip hubs without its network. See [`Machine`] for how it is driven.
#[derive(Debug)]
pub struct ClientMachine {
    limits: Limits,
    own: BTreeMap<Key, Text>,
    hubs: Vec<Hub>,
    /// When each tuple of the hubs is told again.
    reminders: BTreeMap<Key, Reminder>,
    next_check: Timestamp,
    last_link: u64,
    random: u64,
    outputs: VecDeque<Output>,
}

impl ClientMachine {
    /// A client of these hubs, connected to none yet. `seed` feeds the jitter of repeated attempts.
    pub fn new(hubs: Vec<Endpoint>, limits: Limits, seed: u64, now: Timestamp) -> Self {
        let hub = |endpoint| Hub {
            uplink: Uplink::new(endpoint, TTL / 3, now),
            heard: BTreeMap::new(),
            unsaid: BTreeSet::new(),
        };
        Self {
            limits,
            own: BTreeMap::new(),
            hubs: hubs.into_iter().map(hub).collect(),
            reminders: BTreeMap::new(),
            next_check: Timestamp::NEVER,
            last_link: 0,
            random: seed,
            outputs: VecDeque::new(),
        }
    }

    /// The tuples of all hubs, without our own; those of a hub that comes first in the list of hubs count.
    pub fn tuples(&self) -> impl Iterator<Item = (&Key, &Text)> {
        self.reminders.keys().filter_map(|key| Some((key, self.value(key)?)))
    }

    fn value(&self, key: &Key) -> Option<&Text> {
        self.hubs.iter().find_map(|hub| Some(&hub.heard.get(key)?.0))
    }

    /// The next of our own random numbers (splitmix64).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn hub_of(&self, link: LinkId) -> Option<usize> {
        self.hubs.iter().position(|hub| hub.uplink.link() == Some(link))
    }

    fn send(&mut self, link: LinkId, message: &Message) {
        if let Ok(frame) = message.encode() {
            self.outputs.push_back(Output::Send { link, frames: vec![frame] });
        }
    }

    fn act(&mut self, index: usize, acts: Vec<Act>) {
        for act in acts {
            let endpoint = self.hubs[index].uplink.endpoint().clone();
            let Some(link) = self.hubs[index].uplink.link() else { return };
            match act {
                Act::Dial { link } => {
                    self.outputs.push_back(Output::Dial { link, endpoint, timeout: DIAL_TIMEOUT });
                }
                Act::Send(message) => {
                    if message == Message::Hello {
                        let hub = &mut self.hubs[index];
                        hub.unsaid = hub.heard.keys().cloned().collect();
                    }
                    self.send(link, &message);
                }
                Act::Probe => {
                    let tuple = self.own.iter().find(|(key, _)| matches!(key, Key::Peer(_)));
                    let message = tuple.and_then(|(key, value)| Dialect::Czmq.publish(key, value, u32::MAX));
                    if let Some(Message::Publish(publish)) = message {
                        self.send(link, &Message::Publish(Publish { ttl: PROBE_TTL_S, ..publish }));
                    }
                }
                Act::Known(kind) => {
                    let dialect = kind.dialect();
                    self.outputs.push_back(Output::Event(Heard::Hub { endpoint, dialect }));
                }
                Act::Publish => {
                    for (key, value) in self.own.clone() {
                        self.publish(index, &key, &value, false);
                    }
                }
                // The Haskell hub does not answer PING, so there it never comes.
                Act::Complete => {
                    for key in std::mem::take(&mut self.hubs[index].unsaid) {
                        self.forget(index, &key);
                    }
                }
            }
        }
    }

    /// Tells a hub of a tuple of ours, or that it has gone.
    fn publish(&mut self, index: usize, key: &Key, value: &Text, is_withdrawn: bool) {
        let uplink = &self.hubs[index].uplink;
        let (Some(link), Some(kind)) = (uplink.link(), uplink.kind()) else { return };
        let left_ms = if is_withdrawn { 0 } else { TTL.as_millis() as u32 };
        if let Some(message) = kind.dialect().publish(key, value, left_ms) {
            self.send(link, &message);
        }
    }

    fn on_closed(&mut self, now: Timestamp, link: LinkId) {
        let Some(index) = self.hub_of(link) else { return };
        let jitter = self.random();
        if self.hubs[index].uplink.kind().is_some() {
            let endpoint = self.hubs[index].uplink.endpoint().clone();
            self.outputs.push_back(Output::Event(Heard::HubLost { endpoint }));
        }
        self.hubs[index].uplink.on_closed(now, jitter);
    }

    fn on_received(&mut self, now: Timestamp, link: LinkId, frames: Multipart) {
        let Some(index) = self.hub_of(link) else { return };
        let (message, acts) = self.hubs[index].uplink.on_received(now, frames);
        self.act(index, acts);
        if let (Ok(Some(Message::Publish(publish))), Some(kind)) = (message, self.hubs[index].uplink.kind()) {
            self.on_published(now, index, kind, publish);
        }
    }

    fn on_published(&mut self, now: Timestamp, index: usize, kind: HubKind, publish: Publish) {
        let Publish { key, value, ttl } = publish;
        let Some(key) = Key::read(&key, kind.dialect()) else { return };
        if self.own.contains_key(&key) {
            return;
        }
        if ttl == 0 && kind != HubKind::Czmq {
            return self.forget(index, &key);
        }
        let hub = &mut self.hubs[index];
        hub.unsaid.remove(&key);
        if !hub.heard.contains_key(&key) && hub.heard.len() >= self.limits.tuples {
            return;
        }
        // A copy, which does not keep what it was received with.
        let value = Text::from(Bytes::copy_from_slice(value.as_bytes()));
        let was = hub.heard.insert(key.clone(), (value.clone(), now));
        if kind == HubKind::Haskell {
            self.check_by(now, now.after(HASKELL_SILENCE));
        }
        if was.is_none_or(|(was, _)| was != value) {
            let pause = REMIND_MIN;
            self.reminders.insert(key.clone(), Reminder { at: now.after(pause), pause });
            self.check_by(now, now.after(pause));
            self.outputs.push_back(Output::Event(Heard::Found { key, value }));
        }
    }

    /// A hub does not have a tuple any more.
    fn forget(&mut self, index: usize, key: &Key) {
        self.hubs[index].heard.remove(key);
        if self.value(key).is_none() && self.reminders.remove(key).is_some() {
            self.outputs.push_back(Output::Event(Heard::Lost { key: key.clone() }));
        }
    }

    fn check_by(&mut self, now: Timestamp, due: Timestamp) {
        self.next_check = self.next_check.min(due.max(now));
    }

    fn on_timeout(&mut self, now: Timestamp) {
        for index in 0..self.hubs.len() {
            let next = LinkId::from_number(self.last_link + 1);
            let acts = self.hubs[index].uplink.on_timeout(now, next);
            if acts.iter().any(|act| matches!(act, Act::Dial { .. })) {
                self.last_link += 1;
            }
            self.act(index, acts);
        }
        if self.next_check <= now {
            self.check(now);
        }
    }

    fn check(&mut self, now: Timestamp) {
        for index in 0..self.hubs.len() {
            if self.hubs[index].uplink.kind() == Some(HubKind::Haskell) {
                let heard = self.hubs[index].heard.iter();
                let old = heard.filter(|(_, (_, at))| at.after(HASKELL_SILENCE) <= now);
                let old: Vec<Key> = old.map(|(key, _)| key.clone()).collect();
                old.iter().for_each(|key| self.forget(index, key));
            }
        }
        let due = self.reminders.iter_mut().filter(|(_, reminder)| reminder.at <= now);
        let mut keys = Vec::new();
        for (key, reminder) in due {
            reminder.pause = (reminder.pause * 2).min(REMIND_MAX);
            reminder.at = now.after(reminder.pause);
            keys.push(key.clone());
        }
        for key in keys {
            if let Some(value) = self.value(&key).cloned() {
                self.outputs.push_back(Output::Event(Heard::Found { key, value }));
            }
        }
        let hubs = self.hubs.iter().filter(|hub| hub.uplink.kind() == Some(HubKind::Haskell));
        let silences = hubs.flat_map(|hub| hub.heard.values().map(|(_, at)| at.after(HASKELL_SILENCE)));
        let next = self.reminders.values().map(|reminder| reminder.at).chain(silences).min();
        // A walk through the table is enough every so often.
        self.next_check = next.map_or(Timestamp::NEVER, |next| next.max(now.after(REMIND_MIN / 10)));
    }

    fn on_publish(&mut self, key: &Key, value: &Text, is_withdrawn: bool) {
        if is_withdrawn {
            self.own.remove(key);
        } else {
            self.own.insert(key.clone(), value.clone());
        }
        for index in 0..self.hubs.len() {
            self.forget(index, key);
            self.publish(index, key, value, is_withdrawn);
        }
    }
}

impl Machine for ClientMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Timeout => self.on_timeout(now),
            Input::Opened { link, identity } => {
                if let Some(index) = self.hub_of(link) {
                    let acts = self.hubs[index].uplink.on_opened(now, &identity);
                    self.act(index, acts);
                }
            }
            Input::Closed { link } => self.on_closed(now, link),
            Input::Received { link, frames } => self.on_received(now, link, frames),
            Input::Publish { key, value } => self.on_publish(&key, &value, false),
            Input::Withdraw { key } => {
                if let Some(value) = self.own.get(&key).cloned() {
                    self.on_publish(&key, &value, true);
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let hubs = self.hubs.iter().map(|hub| hub.uplink.deadline());
        let due = hubs.chain([self.next_check]).min()?;
        (due < Timestamp::NEVER).then_some(due)
    }
}

#[cfg(test)]
mod tests;
