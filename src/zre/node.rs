//! The handle that a program holds on its node, and the stream of events that comes back.
//!
//! Neither is generic over the network, so that programs can store them without a type parameter.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument, info_span};

use super::driver::{self, Driver, Request, Shared};
use super::machine::{Command, Input, NodeMachine};
use super::roster::Roster;
use super::rumour::Rumour;
use super::{
    Broadcast, CommandError, Config, Content, Counters, Endpoint, Event, Limits, Multicast, PeerId, PeerInfo,
    StartError, Text,
};
use crate::machine::Machine;
use crate::net::Net;

/// Requests that wait for the node. One that does not fit waits in its caller.
const REQUESTS: usize = 64;

/// A handle on a running ZRE node. Clones are handles on the same node.
///
/// When the last one is dropped, the node says goodbye and ends; [`Node::stop`] does that at once and waits for it.
///
/// ```no_run
/// use hailer::net::OsNet;
/// use hailer::{Event, Node};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let (node, mut events) = Node::builder().name("alice").group("CHAT").start(&OsNet::new()).await?;
/// while let Some(event) = events.next().await {
///     match event {
///         Event::Join { group, name, .. } if group == "CHAT" => {
///             println!("{name} joined");
///             node.shout("CHAT", "hello").await?;
///         }
///         Event::Whisper { peer, content, .. } => node.whisper(peer, content).await?,
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node(Arc<Handle>);

struct Handle {
    id: PeerId,
    name: Text,
    endpoint: watch::Receiver<Endpoint>,
    inbox: watch::Receiver<SocketAddr>,
    requests: mpsc::Sender<Request>,
    roster: Arc<Roster>,
}

impl Node {
    /// A node to be described and started.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Starts a node on a network. It is announced and listens when this returns.
    ///
    /// # Errors
    /// When the settings can't be carried out or the sockets can't be bound. Nothing was sent then.
    pub async fn start<N: Net>(net: &N, config: Config) -> Result<(Self, Events), StartError> {
        Self::start_with(net, config, Limits::default()).await
    }

    /// Starts a node with limits of its own.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with<N: Net>(
        net: &N,
        config: Config,
        limits: Limits,
    ) -> Result<(Self, Events), StartError> {
        let sockets = driver::bind(net, &config)?;
        let mut random = [0; 16];
        net.random(&mut random);
        let id = config.identity.unwrap_or_else(|| PeerId::from_random(random));
        let mut seed = [0; 8];
        net.random(&mut seed);
        // The number of our interface means nothing to others.
        let inbox = sockets.inbox();
        let inbox = Endpoint { host: inbox.ip().to_string(), port: inbox.port() };
        let (hubs, multicast) = (config.gossip.clone(), config.multicast);
        let mut machine =
            NodeMachine::new(config, limits.clone(), id, inbox, u64::from_le_bytes(seed), net.now())?;
        machine.handle(net.now(), Input::Homes(sockets.homes()));
        let name = machine.name().clone();
        let endpoint = machine.endpoint().clone();
        let (requests, requests_rx) = mpsc::channel(REQUESTS);
        let (events_tx, events) = mpsc::channel(limits.events);
        let rumour = Rumour::start(net, hubs, &machine, requests.downgrade()).await;
        let (place, endpoint) = watch::channel(endpoint);
        let (inbox, inbox_rx) = watch::channel(sockets.inbox());
        let roster = Arc::new(Roster::new(&limits, REQUESTS));
        let shared = Shared { place, inbox, roster: Arc::clone(&roster) };
        let driver =
            Driver::new(net.clone(), machine, limits, multicast, requests_rx, events_tx, (shared, rumour));
        let span = info_span!("node", %name);
        // It ends by itself when the last handle is gone, after its goodbye.
        net.spawn("zre node", driver.run(sockets).instrument(span)).detach();
        let handle = Handle { id, name, endpoint, inbox: inbox_rx, requests, roster };
        Ok((Self(Arc::new(handle)), Events::new(events)))
    }

    /// Who this node is.
    pub fn id(&self) -> PeerId {
        self.0.id
    }

    /// The name that peers see.
    pub fn name(&self) -> &Text {
        &self.0.name
    }

    /// Where peers are told to reach this node: at the first of its addresses, when it has several.
    pub fn endpoint(&self) -> Endpoint {
        self.0.endpoint.borrow().clone()
    }

    /// Where this node listens, whatever peers are told: at the first of its addresses, when it has several.
    pub fn inbox(&self) -> watch::Receiver<SocketAddr> {
        self.0.inbox.clone()
    }

    /// Enters a group and tells all peers. Nothing happens when the node is in it already.
    ///
    /// # Errors
    /// When the name is longer than 255 bytes, a HELLO with one more group is too long, or the node has stopped.
    pub async fn join(&self, group: impl Into<Text>) -> Result<(), CommandError> {
        self.command(Command::Join(group.into())).await.map(drop)
    }

    /// Leaves a group and tells all peers. Nothing happens when the node is not in it.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn leave(&self, group: impl Into<Text>) -> Result<(), CommandError> {
        self.command(Command::Leave(group.into())).await.map(drop)
    }

    /// Sends to all peers in a group, in which this node need not be itself. Returns how many they are.
    ///
    /// It waits while more than half of what may be queued for one of them is queued. A peer that then takes nothing for
    /// three seconds exits as too slow. Who exits in the moment of the call may have been counted.
    ///
    /// # Errors
    /// When the message is over a limit of [`message`](super::message), or the node has stopped.
    pub async fn shout(
        &self,
        group: impl Into<Text>,
        content: impl Into<Content>,
    ) -> Result<usize, CommandError> {
        let (group, content) = (group.into(), content.into());
        let audience = self.0.roster.audience(&group, &content);
        let command = Command::Shout { group, content };
        match audience {
            Some(count) => self.request(Request::Send(command)).await.map(|()| count),
            None => self.command(command).await,
        }
    }

    /// Sends to one peer. It waits as [`Node::shout`] does. That it is sent does not say that it arrives: the peer may be about
    /// to exit.
    ///
    /// # Errors
    /// When there is no such peer, the message is over a limit of [`message`](super::message), or the node has stopped.
    pub async fn whisper(&self, peer: PeerId, content: impl Into<Content>) -> Result<(), CommandError> {
        let content = content.into();
        let is_open = self.0.roster.is_open_to(peer, &content);
        let command = Command::Whisper { peer, content };
        match is_open {
            true => self.request(Request::Send(command)).await,
            false => self.command(command).await.map(drop),
        }
    }

    /// Sends PING to a peer, which every ZRE node answers, and returns how long the answer took. It waits for as long as the
    /// peer is there.
    ///
    /// # Errors
    /// When there is no such peer, it exited or its connection was made anew before it answered, or the node has stopped.
    pub async fn ping(&self, peer: PeerId) -> Result<Duration, CommandError> {
        let (asker, answer) = oneshot::channel();
        self.request(Request::Ping(peer, asker)).await?;
        answer.await.unwrap_or(Err(CommandError::UnknownPeer(peer)))
    }

    /// The peers that entered.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, CommandError> {
        self.look(|machine| machine.peers().collect()).await
    }

    /// The peers in a group.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn peers_in(&self, group: impl Into<Text>) -> Result<Vec<PeerId>, CommandError> {
        let group = group.into();
        self.look(move |machine| machine.members(&group).collect()).await
    }

    /// One peer, if it entered.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn peer(&self, id: PeerId) -> Result<Option<PeerInfo>, CommandError> {
        self.look(move |machine| machine.peer(id)).await
    }

    /// The groups that this node is in.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn own_groups(&self) -> Result<Vec<Text>, CommandError> {
        self.look(|machine| machine.own_groups().cloned().collect()).await
    }

    /// The groups that somebody is in, this node or a peer.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn groups(&self) -> Result<Vec<Text>, CommandError> {
        self.look(NodeMachine::groups).await
    }

    /// Who leads a group: this node, a peer, or nobody yet. See [`Event::Leader`].
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn leader(&self, group: impl Into<Text>) -> Result<Option<PeerId>, CommandError> {
        let group = group.into();
        self.look(move |machine| machine.leader(&group)).await
    }

    /// What the node counted since its start.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn counters(&self) -> Result<Counters, CommandError> {
        self.look(NodeMachine::counters).await
    }

    /// Stops the node: what was sent is written, peers are told, everything is closed. Returns when that is done, at the
    /// latest after about a second, or four while peers go on taking what was sent, and another one when a gossip hub does not
    /// take our farewell. Stopping a node that has stopped is no error.
    pub async fn stop(&self) {
        // The only possible error is that it has stopped.
        let _ = self.command(Command::Stop).await;
    }

    async fn command(&self, command: Command) -> Result<usize, CommandError> {
        let (asker, answer) = oneshot::channel();
        self.request(Request::Command(command, asker)).await?;
        answer.await.unwrap_or(Err(CommandError::Stopped))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&NodeMachine) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let (asker, answer) = oneshot::channel();
        self.request(Request::Look(Box::new(|machine| drop(asker.send(look(machine)))))).await?;
        answer.await.map_err(|_| CommandError::Stopped)
    }

    async fn request(&self, request: Request) -> Result<(), CommandError> {
        self.0.requests.send(request).await.map_err(|_| CommandError::Stopped)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handle { id, name, endpoint, .. } = &*self.0;
        f.debug_struct("Node")
            .field("id", id)
            .field("name", name)
            .field("endpoint", &*endpoint.borrow())
            .finish_non_exhaustive()
    }
}

/// The events of a node, in order, the last being [`Event::Stop`].
///
/// An application that does not take them holds its peers back, and zyre peers that get no answer to their PING give a
/// node up. One that does not want any drops this.
pub type Events = crate::events::Events<Event>;

/// A node that is being described. See [`Config`] for what each setting means.
#[derive(Clone, Debug, Default)]
pub struct NodeBuilder {
    config: Config,
    limits: Limits,
}

impl NodeBuilder {
    /// Starts from these settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The name that peers see.
    pub fn name(mut self, name: impl Into<Text>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// The identity, instead of a new random one.
    pub fn identity(mut self, identity: PeerId) -> Self {
        self.config.identity = Some(identity);
        self
    }

    /// Adds a fact that is told to every peer.
    pub fn header(mut self, key: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.config.headers.insert(key.into(), value.into());
        self
    }

    /// Adds a group that is joined from the start.
    pub fn group(mut self, group: impl Into<Text>) -> Self {
        self.config.groups.push(group.into());
        self
    }

    /// Stands for leader in a group, while the node is in it.
    pub fn contest(mut self, group: impl Into<Text>) -> Self {
        self.config.contest.push(group.into());
        self
    }

    /// Adds an interface to use, by name, index or address; `*` for all.
    pub fn interface(mut self, interface: impl Into<String>) -> Self {
        self.config.interfaces.push(interface.into());
        self
    }

    /// Uses IPv6 beside IPv4.
    pub fn ipv6(mut self, ipv6: bool) -> Self {
        self.config.ipv6 = ipv6;
        self
    }

    /// What is done about the multicast groups of hzre, gyre and go-zyre.
    pub fn multicast(mut self, multicast: Multicast) -> Self {
        self.config.multicast = multicast;
        self
    }

    /// Which broadcast beacons go to.
    pub fn broadcast(mut self, broadcast: Broadcast) -> Self {
        self.config.broadcast = broadcast;
        self
    }

    /// The UDP port of beacons.
    pub fn port(mut self, port: u16) -> Self {
        self.config.port = port;
        self
    }

    /// The TCP port to listen on.
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.config.tcp_port = port;
        self
    }

    /// Time between two beacons.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.config.interval = interval;
        self
    }

    /// Neither sends nor hears beacons.
    pub fn without_beacons(mut self) -> Self {
        self.config.beacon = false;
        self
    }

    /// Adds a gossip hub through which nodes find each other.
    pub fn gossip(mut self, hub: Endpoint) -> Self {
        self.config.gossip.push(hub);
        self
    }

    /// Adds a place where a node is, whoever it is.
    pub fn peer(mut self, place: Endpoint) -> Self {
        self.config.peers.push(place);
        self
    }

    /// Where peers are told to reach the node, instead of where it listens.
    pub fn advertise(mut self, endpoint: Endpoint) -> Self {
        self.config.advertise = Some(endpoint);
        self
    }

    /// What peers may cost.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts the node.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start<N: Net>(self, net: &N) -> Result<(Node, Events), StartError> {
        Node::start_with(net, self.config, self.limits).await
    }
}

#[cfg(test)]
mod tests;
