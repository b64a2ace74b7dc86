//! The handle that a program holds on its membership, and the stream of events that comes back.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, info_span};

use super::announcement::{GroupName, MemberId};
use super::config::{Config, Rule};
use super::driver::{Driver, Request};
use super::error::{Ended, JoinError};
use super::event::{Event, Member};
use super::limits;
use super::machine::{Evidence, GroupMachine, Pir};
use super::server;
use super::site::{self, HEARD, Sites};
use crate::net::{Net, TcpListener};

/// Requests that wait for the membership.
const REQUESTS: usize = 16;

/// A handle on a membership in a group. Clones are handles on the same one.
///
/// When the last one is dropped, the membership says goodbye and ends; [`Group::leave`] does that at once and waits for it.
///
/// ```no_run
/// use hailer::group::{Config, Event, Group, Uri};
/// use hailer::net::OsNet;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::new("cameras".parse()?);
/// config.service = Some(Uri::parse("tcp://*:8554")?);
/// let (group, mut events) = Group::join(&OsNet::new(), config).await?;
/// while let Some(event) = events.next().await {
///     match event {
///         Event::Added(member) => println!("{} is at {}", member.id, member.service),
///         Event::Removed(member, reason) => println!("{} is gone: {reason}", member.id),
///         _ => {}
///     }
/// }
/// # drop(group);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Group(Arc<Handle>);

struct Handle {
    id: MemberId,
    name: GroupName,
    health: SocketAddr,
    requests: mpsc::Sender<Request>,
}

impl Group {
    /// Joins a group on a network; without a service in the configuration, watches it. It is announced and answers health
    /// checks soon after this returns.
    ///
    /// # Errors
    /// When there is no interface to use, or a socket can't be bound. Nothing was sent then.
    pub async fn join<N: Net>(net: &N, config: Config) -> Result<(Self, Events), JoinError> {
        let all = net.interfaces().map_err(JoinError::Interfaces)?;
        let interfaces = site::choose(&all, &config.interfaces);
        if interfaces.is_empty() {
            let mut found: Vec<_> = all.into_iter().map(|interface| interface.name).collect();
            found.dedup();
            return Err(JoinError::NoInterface { found });
        }
        let (heard_tx, heard_rx) = mpsc::channel(HEARD);
        let (listeners, health) = listen(net, &config)?;
        let sites = Sites::open(net, &config, interfaces, &heard_tx)?;
        let mut random = [0; 16];
        net.random(&mut random);
        let id = config.identity.unwrap_or_else(|| MemberId::from_random(random));
        let mut seed = [0; 8];
        net.random(&mut seed);
        let now = net.now();
        let machine = match config.rule {
            Rule::Evidence => {
                GroupMachine::Evidence(Box::new(Evidence::new(&config, id, u64::from_le_bytes(seed), now)))
            }
            Rule::Pir => GroupMachine::Pir(Box::new(Pir::new(&config, id, now))),
        };
        let (lists_tx, lists) = mpsc::channel(REQUESTS);
        let servers = listeners.into_iter().map(|listener| {
            net.spawn(
                "group answers",
                server::serve(net.clone(), listener, config.name.clone(), lists_tx.clone()),
            )
        });
        let servers = servers.collect();
        let (requests_tx, requests) = mpsc::channel(REQUESTS);
        let (events_tx, events) = mpsc::channel(limits::EVENTS);
        let name = config.name.clone();
        let span = info_span!("group", %name);
        let driver = Driver {
            net: net.clone(),
            config,
            own: id,
            machine,
            health_port: health.port(),
            sites,
            heard: (heard_tx, heard_rx),
            requests,
            lists,
            events: events_tx,
            servers,
        };
        // It ends by itself when the last handle is gone, after its goodbye.
        net.spawn("group", driver.run().instrument(span)).detach();
        Ok((Self(Arc::new(Handle { id, name, health, requests: requests_tx })), Events::new(events)))
    }

    /// Who this member is.
    pub fn id(&self) -> MemberId {
        self.0.id
    }

    /// The group's name.
    pub fn name(&self) -> &GroupName {
        &self.0.name
    }

    /// Where health checks are answered: on every address of the machine, at this port.
    pub fn health_port(&self) -> u16 {
        self.0.health.port()
    }

    /// The members that were added and not removed, this one left out.
    ///
    /// # Errors
    /// When the membership has ended.
    pub async fn members(&self) -> Result<Vec<Member>, Ended> {
        let (asker, answer) = oneshot::channel();
        self.0.requests.send(Request::Members(asker)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Says goodbye and ends the membership. Returns when that is done, after a third of a second. Leaving twice is no error.
    pub async fn leave(&self) {
        let (asker, answer) = oneshot::channel();
        if self.0.requests.send(Request::Leave(asker)).await.is_ok() {
            // The only possible error is that it has ended.
            let _ = answer.await;
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handle { id, name, .. } = &*self.0;
        f.debug_struct("Group").field("id", id).field("name", name).finish_non_exhaustive()
    }
}

/// The events of a membership, in order, the last being [`Event::Left`].
pub type Events = crate::events::Events<Event>;

/// Listens for health checks at one port in each family that there is.
fn listen<N: Net>(net: &N, config: &Config) -> Result<(Vec<N::Listener>, SocketAddr), JoinError> {
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.health_port));
    let four = net.listen(at).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, four) = four.map_err(|source| JoinError::Listen { at, source })?;
    // A machine without IPv6 has no such address; one where another program has the port is reached by IPv4.
    let six = net.listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()))).ok();
    Ok((std::iter::once(four).chain(six).collect(), address))
}
