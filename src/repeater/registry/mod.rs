//! Where other repeaters are found. Each registry has a task of its own, which tells the owner all that it knows, whenever
//! that changes; the machine takes them together.
//!
//! A registry that does not answer has said nothing: what it knew stays. So an outage delays nothing that is known, and a
//! repeater is forgotten when a registry answers and does not name it any more.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::driver::{Note, Notes};
use super::machine::{Input, Lan};
use super::{Config, Consul, Registry, StartError};
use crate::net::{Alarm, Interface, Net, Task};

mod consul;
mod gossip;
mod http;
mod multicast;
mod names;
mod tls;

#[cfg(feature = "fuzzing")]
pub(super) use consul::read as read_consul;

/// The most repeaters that are taken from one answer of a registry.
const ANSWERS_MAX: usize = 1024;

/// What a registry needs before it starts.
pub(super) enum Ready<N: Net> {
    Nothing,
    Multicast(multicast::Sockets<N>),
    Tls(tls::Connector),
}

impl<N: Net> std::fmt::Debug for Ready<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Multicast(_) => "Multicast",
            Self::Tls(_) => "Tls",
        })
    }
}

/// What registries have bound and read.
pub(super) type RegistrySockets<N> = Vec<Ready<N>>;

/// Binds what the registries need.
pub(super) fn bind<N: Net>(
    net: &N,
    config: &Config,
    interfaces: &[(Interface, Ipv4Addr)],
) -> Result<RegistrySockets<N>, StartError> {
    let bind = |registry: &Registry| match registry {
        Registry::Multicast { group, port, ttl } => {
            multicast::bind(net, *group, *port, *ttl, interfaces).map(Ready::Multicast)
        }
        Registry::Consul(Consul { tls: Some(tls), server, .. }) => {
            Ok(Ready::Tls(tls::connector(tls, &server.host)?))
        }
        _ => Ok(Ready::Nothing),
    };
    config.registries.iter().map(bind).collect()
}

/// Running registries. Dropping them ends them.
pub(super) struct Registries {
    _tasks: Vec<Task>,
    /// One for each: receivers of one sender are woken in an order that tokio draws.
    leaving: Vec<watch::Sender<bool>>,
    /// Ends when every registry has left.
    left: mpsc::Receiver<()>,
}

/// The way of a registry's task to the owner.
#[derive(Clone, Debug)]
struct Finder {
    registry: usize,
    notes: Notes,
}

impl Finder {
    /// Tells all repeaters that the registry knows.
    async fn found(&self, repeaters: impl IntoIterator<Item = std::net::SocketAddr>) {
        let repeaters = repeaters.into_iter().take(ANSWERS_MAX).collect();
        self.notes.tell(Note::Input(Input::Found { registry: self.registry, repeaters })).await;
    }
}

/// Starts the task of each registry.
pub(super) fn start<N: Net>(
    net: &N,
    config: &Config,
    lans: &[Lan],
    sockets: Option<RegistrySockets<N>>,
    notes: &Notes,
) -> Registries {
    let mut leaving = Vec::new();
    let (staying, left) = mpsc::channel::<()>(1);
    let mut tasks = Vec::new();
    let own = config.advertise.or_else(|| lans.first().map(|lan| IpAddr::V4(lan.address)));
    for ((registry, of), ready) in config.registries.iter().enumerate().zip(sockets.into_iter().flatten()) {
        let finder = Finder { registry, notes: notes.clone() };
        let task = match (of, ready) {
            (Registry::Static(places), _) => {
                net.spawn("registry: list", names::list(net.clone(), places.clone(), finder))
            }
            (Registry::Dns { name, interval }, _) => {
                net.spawn("registry: DNS", names::dns(net.clone(), name.clone(), *interval, finder))
            }
            (Registry::Services { name, interval }, _) => {
                net.spawn("registry: SRV", names::services(net.clone(), name.clone(), *interval, finder))
            }
            (Registry::Gossip(hubs), _) => {
                let own = own.map(|own| (own, config.publish_port));
                let (told, leave) = watch::channel(false);
                leaving.push(told);
                let (staying, net, hubs) = (staying.clone(), net.clone(), hubs.clone());
                net.clone().spawn("registry: gossip", async move {
                    gossip::run(net, hubs, own, leave, finder).await;
                    drop(staying);
                })
            }
            (Registry::Consul(consul), ready) => {
                let tls = match ready {
                    Ready::Tls(tls) => Some(tls),
                    _ => None,
                };
                let place = |address| std::net::SocketAddr::new(address, config.publish_port);
                let own = consul.address.or(own).map(place);
                let client = consul::Client::new(net.clone(), consul.clone(), tls, finder, own);
                let (told, leave) = watch::channel(false);
                leaving.push(told);
                let staying = staying.clone();
                let registering = client.clone();
                if own.is_some() && consul.service.is_some() {
                    tasks.push(net.spawn("registry: Consul, registration", async move {
                        registering.stay_registered(leave).await;
                        drop(staying);
                    }));
                }
                net.spawn("registry: Consul", client.watch())
            }
            (Registry::Multicast { group, port, .. }, Ready::Multicast(sockets)) => {
                let here = (config.advertise, config.publish_port);
                let to = std::net::SocketAddr::from((*group, *port));
                net.spawn("registry: multicast", multicast::run(net.clone(), sockets, to, here, finder))
            }
            (Registry::Multicast { .. }, _) => unreachable!("its sockets were bound"),
        };
        tasks.push(task);
    }
    Registries { _tasks: tasks, leaving, left }
}

impl Registries {
    /// Lets each registry say goodbye, within this time.
    pub(super) async fn leave<N: Net>(mut self, net: &N, within: Duration) {
        for leaving in &self.leaving {
            let _ = leaving.send(true);
        }
        let mut alarm = net.alarm();
        alarm.set(Some(net.now().after(within)));
        tokio::select! {
            biased;
            _ = self.left.recv() => {}
            () = alarm.ring() => {}
        }
    }
}
