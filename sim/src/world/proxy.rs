//! Ports that a container publishes, for as long as it runs: the rules of its host, and Docker's userland proxy.
//!
//! The proxy is a program of the host: it listens on the published port at all of the host's addresses and opens a
//! connection of its own to the container for each that comes, so the container sees the host. What it gets to carry is
//! decided in `fabric::published`. As the real one: a connection is accepted whether or not the container takes it, and a
//! sender of datagrams is forgotten after 90 s.
//!
//! Not here: the proxy's buffers and the time that it takes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hailer::net::{Alarm, Net, TcpListener, UdpOptions, UdpSocket};

use crate::executor::Executor;
use crate::fabric::HostId;
use crate::fabric::random::Stream;
use crate::net::{SharedFabric, SimNet};
use crate::scenario::{Forward, Kind, NodeIndex, Protocol, Scenario};
use crate::tasks::Tasks;

/// After how long without a datagram to or from it the proxy forgets a sender.
const UDP_IDLE: Duration = Duration::from_secs(90);
/// Senders of datagrams that one port remembers.
const UDP_SENDERS_MAX: usize = 4096;
const DATAGRAM_MAX: usize = 65_507;

/// The published ports of a running container.
#[derive(Debug)]
pub struct Publication {
    fabric: SharedFabric,
    host: HostId,
    ports: Vec<Forward>,
    listening: Tasks,
    relaying: Tasks,
}

impl Publication {
    /// Publishes the ports of a container, which lies with its Docker host among `hosts`. `None` when it has none.
    pub fn new(
        scenario: &Scenario,
        seed: u64,
        container: NodeIndex,
        hosts: &[HostId],
        fabric: &SharedFabric,
        executor: &Executor,
    ) -> Option<Self> {
        let node = &scenario.nodes[container.0 as usize];
        let Kind::Container(docker_host) = node.kind else { return None };
        let nat = scenario.nodes[docker_host.0 as usize].nat.as_ref()?;
        let now = fabric.lock().addresses(hosts[container.0 as usize]);
        // To the address that it has by now, whatever it had at first.
        let own = |forward: &Forward| {
            let place = node.interfaces.iter().position(|own| forward.to.ip() == own.address)?;
            Some(Forward { to: SocketAddr::new(IpAddr::V4(*now.get(place)?), forward.to.port()), ..*forward })
        };
        let ports: Vec<Forward> = nat.forwards.iter().filter_map(own).collect();
        if ports.is_empty() {
            return None;
        }
        let host = hosts[docker_host.0 as usize];
        let tasks = || Tasks::new(executor, None);
        let publication = Self { fabric: fabric.clone(), host, ports, listening: tasks(), relaying: tasks() };
        let net = |tasks: &Tasks| {
            let random = Stream::new(seed, &format!("{}/proxy", node.name));
            SimNet::new(fabric.clone(), host, tasks.clone(), random)
        };
        let (listening, relaying) = (net(&publication.listening), net(&publication.relaying));
        for forward in &publication.ports {
            let Forward { protocol, port, to } = *forward;
            fabric.lock().forward_port(host, protocol, port, to);
            if nat.userland_proxy == Some(true) {
                let (listening, relaying) = (listening.clone(), relaying.clone());
                // A port that another program of the host has is not the proxy's; who comes from outside gets through.
                publication
                    .listening
                    .spawn(async move {
                        let _ = match protocol {
                            Protocol::Tcp => carry_tcp(listening, relaying, port, to).await,
                            Protocol::Udp => carry_udp(listening, relaying, port, to).await,
                        };
                    })
                    .detach();
            }
        }
        Some(publication)
    }

    /// The ports are published no more; what has come by them goes on.
    pub fn withdraw(&self) {
        let mut fabric = self.fabric.lock();
        for forward in &self.ports {
            fabric.withdraw_port(self.host, forward.protocol, forward.port);
        }
        drop(fabric);
        self.listening.end();
    }

    /// The host has lost its power, and its programs with it.
    pub fn cut(&self) {
        self.withdraw();
        self.relaying.end();
    }
}

fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

async fn carry_tcp(listening: SimNet, relaying: SimNet, port: u16, to: SocketAddr) -> io::Result<()> {
    let listener = listening.listen(anywhere(port))?;
    loop {
        let (mut client, _) = listener.accept().await?;
        let net = relaying.clone();
        let relay = async move {
            if let Ok(mut container) = net.connect(to, None).await {
                // How it ended, the two ends have been told.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut container).await;
            }
        };
        relaying.spawn("proxy", relay).detach();
    }
}

/// By which sockets the senders of datagrams are known to the container.
type Senders<U> = Arc<Mutex<BTreeMap<SocketAddr, Arc<U>>>>;

async fn carry_udp(listening: SimNet, relaying: SimNet, port: u16, to: SocketAddr) -> io::Result<()> {
    let outer = Arc::new(listening.bind_udp(&UdpOptions::at(anywhere(port)))?);
    let senders: Senders<<SimNet as Net>::Udp> = Arc::default();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let (length, sender) = outer.recv_from(&mut buffer).await?;
        let known = senders.lock().unwrap_or_else(PoisonError::into_inner).get(&sender).cloned();
        let inner = match known {
            Some(inner) => inner,
            None => {
                let mut senders_now = senders.lock().unwrap_or_else(PoisonError::into_inner);
                if senders_now.len() >= UDP_SENDERS_MAX {
                    continue;
                }
                let Ok(inner) = relaying.bind_udp(&UdpOptions::at(anywhere(0))).map(Arc::new) else {
                    continue;
                };
                senders_now.insert(sender, inner.clone());
                let (net, back, outer, senders) =
                    (relaying.clone(), inner.clone(), outer.clone(), senders.clone());
                let answers = async move {
                    carry_back(&net, &back, &outer, to, sender).await;
                    senders.lock().unwrap_or_else(PoisonError::into_inner).remove(&sender);
                };
                relaying.spawn("proxy", answers).detach();
                inner
            }
        };
        let _ = inner.send_to(&buffer[..length], to).await;
    }
}

/// Carries what the container answers, until it has nothing more to say.
async fn carry_back<N: Net>(net: &N, inner: &N::Udp, outer: &N::Udp, from: SocketAddr, to: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut idle = net.alarm();
    loop {
        idle.set(Some(net.now().after(UDP_IDLE)));
        tokio::select! {
            biased;
            got = inner.recv_from(&mut buffer) => match got {
                Ok((length, sender)) if sender == from => {
                    let _ = outer.send_to(&buffer[..length], to).await;
                }
                Ok(_) => {}
                Err(_) => return,
            },
            () = idle.ring() => return,
        }
    }
}
