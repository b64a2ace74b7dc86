//! What a hub decides: what its clients and other hubs publish, who is told, and when it is over.
//!
//! [`HubMachine`] is pure: it does no IO, reads no clock and draws no randomness but from its seed. The tuples and their
//! lives are the [`store`](super::store)'s, the ways of speaking are [`dialect`](super::dialect)'s; here is who said what on
//! which link.
//!
//! # The first moment of a czmq client
//!
//! It sends HELLO and, right behind, all that it has. From the moment that it hears us it sends back what it hears. So the
//! answer to its HELLO waits for [`HOLD`]: what comes before is its own, or what it remembers, and what comes after and is
//! known is an echo. The first tuple also shows whether the node wants CURVE. A secured zyre aborts when it hears of a node
//! without a public key, so it is not told of any.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::dialect::{Dialect, Key, Stamped, Value};
use super::message::{Message, Publish};
use super::store::{Change, News, Source, Store};
use super::uplink::{Act, DIAL_TIMEOUT, HubKind, Uplink};
use super::{Config, Counters, Event, Limits, LinkId, Why};
use crate::Timestamp;
use crate::machine::Machine;
use crate::zmtp::Multipart;
use crate::zre::{Budget, Endpoint, PeerId, Text};

/// How long the answer to a czmq client's HELLO waits for what the client has. On a good network that is in the same packet.
const HOLD: Duration = Duration::from_millis(20);

/// What can happen to a hub.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timeout,
    /// A client is through its handshake.
    ClientOpened {
        /// Its connection.
        link: LinkId,
        /// The ZMTP identity of its socket.
        identity: Bytes,
        /// Where it comes from.
        remote: SocketAddr,
    },
    /// A connection of ours to another hub is through its handshake.
    HubOpened {
        /// Which.
        link: LinkId,
        /// The ZMTP identity of that hub's socket.
        identity: Bytes,
    },
    /// An attempt to connect failed, or a connection closed or broke.
    Closed {
        /// Which.
        link: LinkId,
    },
    /// The queue of a connection is full; the message that did not fit is lost.
    QueueFull {
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
}

/// What a hub wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to another hub.
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
    /// Close a connection and forget what is queued.
    Close(LinkId),
    /// Tell whoever runs the hub.
    Event(Event),
}

/// A client, which may be another hub.
#[derive(Debug)]
struct Client {
    identity: Bytes,
    dialect: Dialect,
    remote: SocketAddr,
    greeting: Greeting,
    /// Whether its node wants CURVE, once it has published.
    is_secure: Option<bool>,
    budget: Budget,
}

/// How far a client's HELLO has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    /// It has not said anything.
    Silent,
    /// It is answered at this moment.
    Due(Timestamp),
    /// It was answered, and hears all news.
    Done,
}

/// A gossip hub without its network. See [`Machine`] for how it is driven.
#[derive(Debug)]
pub struct HubMachine {
    id: PeerId,
    limits: Limits,
    store: Store,
    clients: BTreeMap<LinkId, Client>,
    hubs: Vec<Uplink>,
    /// Answers to HELLO that are due, soonest first: they all wait equally long.
    greetings: VecDeque<(Timestamp, LinkId)>,
    last_link: u64,
    random: u64,
    outputs: VecDeque<Output>,
}

impl HubMachine {
    /// A hub with this identity. `seed` feeds the jitter of repeated attempts to reach other hubs.
    pub fn new(config: Config, limits: Limits, id: PeerId, seed: u64, now: Timestamp) -> Self {
        // The store says when other hubs hear of a tuple again.
        let uplink = |endpoint| Uplink::new(endpoint, Duration::MAX, now);
        let hubs = config.peers.into_iter().map(uplink).collect();
        Self {
            id,
            store: Store::new(id, config.ttl, limits.clone(), now),
            limits,
            clients: BTreeMap::new(),
            hubs,
            greetings: VecDeque::new(),
            last_link: 0,
            random: seed,
            outputs: VecDeque::new(),
        }
    }

    /// Who this hub is, for other hubs.
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// The tuples, in the order of their keys.
    pub fn tuples(&self) -> impl Iterator<Item = (&Key, &Text)> {
        self.store.tuples()
    }

    /// What was counted so far.
    pub const fn counters(&self) -> Counters {
        self.store.counters
    }

    /// A number for a new connection.
    pub fn new_link(&mut self) -> LinkId {
        self.last_link += 1;
        LinkId::from_number(self.last_link)
    }

    /// The next of our own random numbers (splitmix64).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn hub_of(&self, link: LinkId) -> Option<usize> {
        self.hubs.iter().position(|hub| hub.link() == Some(link))
    }

    fn on_client_opened(&mut self, now: Timestamp, link: LinkId, identity: Bytes, remote: SocketAddr) {
        self.last_link = self.last_link.max(link.number());
        if self.clients.len() >= self.limits.clients {
            self.store.counters.clients_over_limit += 1;
            return self.outputs.push_back(Output::Close(link));
        }
        self.store.counters.clients_connected += 1;
        let dialect = Dialect::of_client(&identity);
        let budget = Budget::new(self.limits.news_per_second, self.limits.tuples_per_client, now);
        let greeting = Greeting::Silent;
        self.clients.insert(link, Client { identity, dialect, remote, greeting, is_secure: None, budget });
        self.outputs.push_back(Output::Event(Event::Connected { from: remote, dialect }));
    }

    fn on_closed(&mut self, now: Timestamp, link: LinkId) {
        if let Some(client) = self.clients.remove(&link) {
            let Client { remote, dialect, .. } = client;
            self.outputs.push_back(Output::Event(Event::Disconnected { from: remote, dialect }));
        } else if let Some(index) = self.hub_of(link) {
            let jitter = self.random();
            if self.hubs[index].kind().is_some() {
                let endpoint = self.hubs[index].endpoint().clone();
                self.outputs.push_back(Output::Event(Event::HubLost { endpoint }));
            }
            self.hubs[index].on_closed(now, jitter);
        }
        self.store.close(now, link);
    }

    fn on_queue_full(&mut self, now: Timestamp, link: LinkId) {
        self.store.counters.clients_too_slow += u64::from(self.clients.contains_key(&link));
        self.outputs.push_back(Output::Close(link));
        self.on_closed(now, link);
    }

    fn on_received(&mut self, now: Timestamp, link: LinkId, frames: Multipart) {
        if self.clients.contains_key(&link) {
            return match Message::decode(frames.into_iter().next().unwrap_or_default()) {
                Ok(message) => self.on_client_says(now, link, message),
                Err(_) => self.store.counters.messages_malformed += 1,
            };
        }
        // A connection that we closed may still have delivered.
        let Some(index) = self.hub_of(link) else { return };
        let (message, acts) = self.hubs[index].on_received(now, frames);
        self.act(now, index, acts);
        match message {
            Ok(Some(Message::Publish(publish))) => self.on_hub_publishes(now, link, index, publish),
            Ok(_) => {}
            Err(_) => self.store.counters.messages_malformed += 1,
        }
    }

    fn on_client_says(&mut self, now: Timestamp, link: LinkId, message: Message) {
        let Some(client) = self.clients.get_mut(&link) else { return };
        match message {
            Message::Ping => {
                if let Some(frames) = client.dialect.frames(&client.identity, &Message::Pong) {
                    self.outputs.push_back(Output::Send { link, frames });
                }
            }
            Message::Pong | Message::Invalid => {}
            Message::Hello => match (client.greeting, client.dialect) {
                (Greeting::Silent, Dialect::Czmq) => self.hold(now, link),
                (Greeting::Due(_), _) => {}
                _ => self.greet(now, link),
            },
            Message::Publish(publish) => {
                // libzmq reconnects by itself below older clients, which do not say HELLO again.
                match (client.greeting, client.dialect) {
                    (Greeting::Silent, Dialect::Czmq) => self.hold(now, link),
                    (Greeting::Silent, _) => self.greet(now, link),
                    (Greeting::Due(_) | Greeting::Done, _) => {}
                }
                self.on_client_publishes(now, link, publish);
            }
        }
    }

    fn hold(&mut self, now: Timestamp, link: LinkId) {
        if let Some(client) = self.clients.get_mut(&link) {
            let due = now.after(HOLD);
            client.greeting = Greeting::Due(due);
            self.greetings.push_back((due, link));
        }
    }

    /// Tells a client everything.
    fn greet(&mut self, now: Timestamp, link: LinkId) {
        let Some(client) = self.clients.get_mut(&link) else { return };
        client.greeting = Greeting::Done;
        if client.dialect == Dialect::Hub {
            for news in self.store.all_news(now) {
                self.tell_hub(link, &news);
            }
            return;
        }
        let left_ms = u32::MAX;
        for (key, value) in self.store.tuples() {
            if !self.store.is_of(link, key)
                && let Some(frames) = client.hears(key, value, left_ms)
            {
                self.outputs.push_back(Output::Send { link, frames });
            }
        }
    }

    fn on_client_publishes(&mut self, now: Timestamp, link: LinkId, publish: Publish) {
        let Some(client) = self.clients.get_mut(&link) else { return };
        let Publish { key, value, ttl } = publish;
        if client.dialect == Dialect::Hub {
            let Some(stamped) = Stamped::read(&key) else {
                self.store.counters.messages_malformed += 1;
                return;
            };
            let changes = self.store.hear(now, News { stamped, value: kept(&value), left_ms: ttl });
            return self.tell(link, changes);
        }
        let Some(key) = Key::read(&key, client.dialect) else {
            self.store.counters.messages_malformed += 1;
            return;
        };
        let said = Value::read(&value);
        if let (Key::Peer(_), Some(said)) = (&key, &said) {
            client.is_secure.get_or_insert(said.is_secure);
        }
        let is_withdrawn = ttl == 0 && client.dialect != Dialect::Czmq;
        let is_at_home = || {
            said.and_then(|said| said.endpoint.socket_addr()).map(|at| at.ip())
                == Some(client.remote.ip().to_canonical())
        };
        let source = match client.dialect {
            Dialect::Czmq => {
                let may_echo = client.greeting == Greeting::Done;
                // Only nodes are repeated by others than themselves and can be told from them.
                Source { link, is_own: is_at_home(), may_echo, lives: None }
            }
            Dialect::Haskell => {
                Source { link, is_own: true, may_echo: false, lives: Some(Duration::from_secs(ttl.into())) }
            }
            Dialect::Client | Dialect::Hub => {
                Source { link, is_own: true, may_echo: false, lives: Some(Duration::from_millis(ttl.into())) }
            }
        };
        let is_news = self.store.value(&key) != Some(&value);
        if is_news && !client.budget.take(now) {
            self.store.counters.tuples_over_limit += 1;
            return;
        }
        let changes = if is_withdrawn {
            self.store.withdraw(now, link, &key)
        } else {
            self.store.publish(now, source, &key, &kept(&value))
        };
        self.tell(link, changes);
    }

    fn on_hub_publishes(&mut self, now: Timestamp, link: LinkId, index: usize, publish: Publish) {
        let Some(kind) = self.hubs[index].kind() else { return };
        let Publish { key, value, ttl } = publish;
        let changes = if matches!(kind, HubKind::Hailer(_)) {
            Stamped::read(&key)
                .map(|stamped| self.store.hear(now, News { stamped, value: kept(&value), left_ms: ttl }))
        } else {
            // What it says may be what it once heard from us.
            Key::read(&key, kind.dialect()).map(|key| {
                let source = Source { link, is_own: false, may_echo: true, lives: None };
                self.store.publish(now, source, &key, &kept(&value))
            })
        };
        match changes {
            Some(changes) => self.tell(link, changes),
            None => self.store.counters.messages_malformed += 1,
        }
    }

    /// Tells everybody but who said it.
    fn tell(&mut self, from: LinkId, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Set { key, value } => {
                    self.tell_clients(from, &key, &value, u32::MAX);
                    let who = self.clients.get(&from).map(|client| (client.remote, client.dialect));
                    self.outputs.push_back(Output::Event(Event::Published { key, value, from: who }));
                }
                Change::Gone { key, value, is_withdrawn } => {
                    self.tell_clients(from, &key, &value, 0);
                    let why = if is_withdrawn { Why::Withdrawn } else { Why::Expired };
                    self.outputs.push_back(Output::Event(Event::Gone { key, value, why }));
                }
                Change::News(news) => {
                    let clients = self.clients.iter().filter(|(link, client)| {
                        **link != from && client.dialect == Dialect::Hub && client.greeting == Greeting::Done
                    });
                    let hubs = self.hubs.iter().filter(|hub| matches!(hub.kind(), Some(HubKind::Hailer(_))));
                    let links = clients.map(|(link, _)| *link).chain(hubs.filter_map(Uplink::link));
                    let links: Vec<LinkId> = links.filter(|link| *link != from).collect();
                    for link in links {
                        self.tell_hub(link, &news);
                    }
                }
            }
        }
    }

    fn tell_clients(&mut self, from: LinkId, key: &Key, value: &Text, left_ms: u32) {
        for (link, client) in &self.clients {
            if *link != from
                && client.greeting == Greeting::Done
                && client.dialect != Dialect::Hub
                && let Some(frames) = client.hears(key, value, left_ms)
            {
                self.outputs.push_back(Output::Send { link: *link, frames });
            }
        }
        for hub in &self.hubs {
            if let (Some(link), Some(kind @ (HubKind::Czmq | HubKind::Haskell))) = (hub.link(), hub.kind())
                && link != from
                && let Some(message) = kind.dialect().publish(key, value, left_ms)
                && let Ok(frame) = message.encode()
            {
                self.outputs.push_back(Output::Send { link, frames: vec![frame] });
            }
        }
    }

    fn tell_hub(&mut self, link: LinkId, news: &News) {
        let publish = Publish { key: news.stamped.to_bytes(), value: news.value.clone(), ttl: news.left_ms };
        if let Ok(frame) = Message::Publish(publish).encode() {
            self.outputs.push_back(Output::Send { link, frames: vec![frame] });
        }
    }

    fn on_timeout(&mut self, now: Timestamp) {
        while let Some((_, link)) = self.greetings.front().copied().filter(|(due, _)| *due <= now) {
            self.greetings.pop_front();
            if self.clients.get(&link).is_some_and(|client| client.greeting != Greeting::Done) {
                self.greet(now, link);
            }
        }
        let changes = self.store.on_timeout(now);
        // Nobody has this number.
        self.tell(LinkId::from_number(0), changes);
        for index in 0..self.hubs.len() {
            let next = LinkId::from_number(self.last_link + 1);
            let acts = self.hubs[index].on_timeout(now, next);
            if acts.iter().any(|act| matches!(act, Act::Dial { .. })) {
                self.last_link += 1;
            }
            self.act(now, index, acts);
        }
    }

    fn on_hub_opened(&mut self, now: Timestamp, link: LinkId, identity: &[u8]) {
        let Some(index) = self.hub_of(link) else { return };
        let acts = self.hubs[index].on_opened(now, identity);
        if self.hubs[index].kind() == Some(HubKind::Hailer(self.id)) {
            self.hubs[index].give_up();
            return self.outputs.push_back(Output::Close(link));
        }
        self.act(now, index, acts);
    }

    fn act(&mut self, now: Timestamp, index: usize, acts: Vec<Act>) {
        for act in acts {
            let endpoint = self.hubs[index].endpoint().clone();
            let Some(link) = self.hubs[index].link() else { return };
            match act {
                Act::Dial { link } => {
                    self.outputs.push_back(Output::Dial { link, endpoint, timeout: DIAL_TIMEOUT });
                }
                Act::Send(message) => {
                    if let Ok(frame) = message.encode() {
                        self.outputs.push_back(Output::Send { link, frames: vec![frame] });
                    }
                }
                Act::Probe => {
                    let tuple = self.store.tuples().find(|(key, _)| matches!(key, Key::Peer(_)));
                    let message = tuple.and_then(|(key, value)| Dialect::Czmq.publish(key, value, u32::MAX));
                    if let Some(frame) = message.and_then(|message| message.encode().ok()) {
                        self.outputs.push_back(Output::Send { link, frames: vec![frame] });
                    }
                }
                Act::Known(kind) => {
                    let dialect = kind.dialect();
                    self.outputs.push_back(Output::Event(Event::HubFound { endpoint, dialect }));
                }
                Act::Publish => self.publish_all(now, link, index),
                Act::Complete => {}
            }
        }
    }

    fn publish_all(&mut self, now: Timestamp, link: LinkId, index: usize) {
        let Some(kind) = self.hubs[index].kind() else { return };
        if matches!(kind, HubKind::Hailer(_)) {
            for news in self.store.all_news(now) {
                self.tell_hub(link, &news);
            }
            return;
        }
        for (key, value) in self.store.tuples() {
            if !self.store.is_of(link, key)
                && let Some(message) = kind.dialect().publish(key, value, u32::MAX)
                && let Ok(frame) = message.encode()
            {
                self.outputs.push_back(Output::Send { link, frames: vec![frame] });
            }
        }
    }
}

impl Client {
    /// How this client hears of a tuple; `None` when it better does not.
    fn hears(&self, key: &Key, value: &Text, left_ms: u32) -> Option<Multipart> {
        let is_keyless = || Value::read(value).is_some_and(|value| !value.is_secure);
        if self.dialect == Dialect::Czmq
            && self.is_secure == Some(true)
            && matches!(key, Key::Peer(_))
            && is_keyless()
        {
            return None;
        }
        let message = self.dialect.publish(key, value, left_ms)?;
        self.dialect.frames(&self.identity, &message)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl HubMachine {
    /// Panics when a table is over its limit, or a count is not what it counts.
    pub fn assert_sound(&self) {
        self.store.assert_sound();
        assert!(self.clients.len() <= self.limits.clients);
    }
}

/// A copy that does not keep what it was received with.
fn kept(value: &Text) -> Text {
    Bytes::copy_from_slice(value.as_bytes()).into()
}

impl Machine for HubMachine {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Timeout => self.on_timeout(now),
            Input::ClientOpened { link, identity, remote } => {
                self.on_client_opened(now, link, identity, remote);
            }
            Input::HubOpened { link, identity } => self.on_hub_opened(now, link, &identity),
            Input::Closed { link } => self.on_closed(now, link),
            Input::QueueFull { link } => self.on_queue_full(now, link),
            Input::Received { link, frames } => self.on_received(now, link, frames),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let greeting = self.greetings.front().map(|(due, _)| *due);
        let hubs = self.hubs.iter().map(Uplink::deadline);
        let due = hubs.chain(greeting).chain([self.store.deadline()]).min()?;
        (due < Timestamp::NEVER).then_some(due)
    }
}

#[cfg(test)]
mod tests;
