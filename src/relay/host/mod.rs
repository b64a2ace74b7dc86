//! A host: makes local services reachable through a relay, from a machine that nobody outside can connect to.
//!
//! * [`machine`]: decides when to connect, and whether the local service is well.
//! * [`service`]: what is served: a local port, or a program's own code.
//! * `driver`: connections of the modern protocol. `compatible`: those of the original one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex};

use tokio::sync::{Mutex, mpsc, watch};

use super::config::{CompatibleHost, HostConfig, HostService, Local, Trust};
use crate::net::{Net, Task};
use crate::tls::TlsError;

mod compatible;
mod connection;
mod driver;
pub mod machine;
mod service;

pub use service::{Forward, Handler, LocalStream, LocalUdp, Program, Serve, Visitor};

/// A running host. Dropping it ends it at once.
pub struct Host {
    config: HostConfig,
    launch: Launch,
    /// By their names; what serves the original protocol has none.
    running: BTreeMap<String, Running>,
    /// What newer settings have ended, with sessions that go on.
    leaving: Vec<Running>,
    /// Nothing is ever sent: it ends when all have ended that were launched, and this is gone.
    alive: StdMutex<Option<mpsc::Sender<()>>>,
    ended: Mutex<mpsc::Receiver<()>>,
    is_ended: AtomicBool,
}

/// What serves one service.
struct Running {
    leave: watch::Sender<bool>,
    status: watch::Receiver<Status>,
    _task: Task,
}

/// One service of a configuration.
#[derive(Clone, Copy)]
enum Part<'a> {
    Named(&'a str, &'a HostService),
    Compatible(&'a CompatibleHost),
}

/// Starts what serves a service.
type Launch = Box<
    dyn Fn(&HostConfig, Option<connection::Tls>, Part, mpsc::Sender<()>) -> Result<Running, HostError>
        + Send
        + Sync,
>;

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file for TLS is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no ZRE node for this service to be.
    #[error("the service `{0}` is the ZRE node of this program, which has none")]
    NoNode(String),
}

/// How a service of a host stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the relay has it, now.
    pub is_connected: bool,
    /// How often it had to connect, the first time included.
    pub connects: u64,
    /// Sessions that go on.
    pub sessions: usize,
}

impl Host {
    /// Starts a host that passes sessions on to local ports, as its configuration says.
    ///
    /// # Errors
    /// When a file for TLS is of no use, or a service is a ZRE node. A relay that can't be reached is no error: it is
    /// tried again.
    pub fn start<N: Net>(net: &N, config: HostConfig) -> Result<Self, HostError> {
        Self::start_with(net, config, None)
    }

    /// Starts a host beside a ZRE node, whose [`inbox`](crate::zre::Node::inbox) is the local port of those services that
    /// are [`Local::Node`].
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn start_beside<N: Net>(
        net: &N,
        config: HostConfig,
        inbox: watch::Receiver<SocketAddr>,
    ) -> Result<Self, HostError> {
        Self::start_with(net, config, Some(inbox))
    }

    fn start_with<N: Net>(
        net: &N,
        config: HostConfig,
        inbox: Option<watch::Receiver<SocketAddr>>,
    ) -> Result<Self, HostError> {
        let net = net.clone();
        let launch: Launch = Box::new(move |config, tls, part, alive| {
            let forward = forward(part, inbox.as_ref())?;
            Ok(launch(&net, config, tls, part, forward.clone(), Some(forward), alive))
        });
        Self::launched(launch, config)
    }

    /// Starts a host whose sessions a program serves itself, all services alike. `to`, `proxy` and `check` of the configuration do
    /// not matter then.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn serve<N: Net, H: Handler>(net: &N, config: HostConfig, handler: H) -> Result<Self, HostError> {
        let (net, program) = (net.clone(), Program::new(Arc::new(handler)));
        let launch: Launch = Box::new(move |config, tls, part, alive| {
            Ok(launch(&net, config, tls, part, program.clone(), None, alive))
        });
        Self::launched(launch, config)
    }

    fn launched(launch: Launch, config: HostConfig) -> Result<Self, HostError> {
        let (alive, ended) = mpsc::channel(1);
        let mut host = Self {
            config: HostConfig { compatible: None, services: BTreeMap::new(), ..config.clone() },
            launch,
            running: BTreeMap::new(),
            leaving: Vec::new(),
            alive: StdMutex::new(Some(alive)),
            ended: Mutex::new(ended),
            is_ended: AtomicBool::new(false),
        };
        host.reload(config)?;
        Ok(host)
    }

    /// Takes other settings. What serves a service that is as it was goes on; a changed one is served anew, and what served it before
    /// takes no more sessions and ends with the last that it has. An authority's file is read again, and for that all of
    /// them connect anew.
    ///
    /// # Errors
    /// As [`Host::start`]. All is as before then.
    pub fn reload(&mut self, config: HostConfig) -> Result<(), HostError> {
        // It stops.
        let Some(alive) = self.alive.lock().expect("nothing panics while it holds this lock").clone() else {
            return Ok(());
        };
        let tls = connection::Tls::new(&config)?;
        let is_same_way = (&config.relay, &config.tls) == (&self.config.relay, &self.config.tls)
            && !matches!(config.tls, Some(Trust::Authority { .. }));
        let is_kept = |part: Part| is_same_way && part.is_in(&self.config);
        let mut launched = BTreeMap::new();
        for part in parts(&config).filter(|part| !is_kept(*part)) {
            let running = (self.launch)(&config, tls.clone(), part, alive.clone())?;
            launched.insert(part.name().to_owned(), running);
        }
        self.leaving.retain(|running| !running.leave.is_closed());
        let kept: BTreeSet<&str> = parts(&config).filter(|part| is_kept(*part)).map(Part::name).collect();
        let before = std::mem::take(&mut self.running);
        let (running, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.into_iter().partition(|(name, _)| kept.contains(name.as_str()));
        self.running = running;
        self.leaving.extend(gone.into_values());
        for running in &self.leaving {
            running.leave.send_replace(true);
        }
        self.running.extend(launched);
        self.config = config;
        Ok(())
    }

    /// How a service stands, and changes; the original protocol's has no name.
    pub fn status(&self, service: &str) -> Option<watch::Receiver<Status>> {
        self.running.get(service).map(|running| running.status.clone())
    }

    /// Whether it has stopped.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }

    /// Takes no more sessions, and waits until the last one has ended, or for as long as the configuration says.
    pub async fn stop(&self) {
        for running in self.running.values() {
            running.leave.send_replace(true);
        }
        drop(self.alive.lock().expect("nothing panics while it holds this lock").take());
        let _ = self.ended.lock().await.recv().await;
        self.is_ended.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("relay", &self.config.relay).finish_non_exhaustive()
    }
}

impl<'a> Part<'a> {
    const fn name(self) -> &'a str {
        match self {
            Self::Named(name, _) => name,
            Self::Compatible(_) => "",
        }
    }

    /// Whether it is the same there.
    fn is_in(self, config: &HostConfig) -> bool {
        match self {
            Self::Named(name, service) => config.services.get(name) == Some(service),
            Self::Compatible(settings) => config.compatible.as_ref() == Some(settings),
        }
    }
}

fn parts(config: &HostConfig) -> impl Iterator<Item = Part<'_>> {
    let named = config.services.iter().map(|(name, service)| Part::Named(name, service));
    named.chain(config.compatible.as_ref().map(Part::Compatible))
}

/// Where the sessions of a service go.
fn forward(part: Part, inbox: Option<&watch::Receiver<SocketAddr>>) -> Result<Forward, HostError> {
    let (name, service) = match part {
        Part::Named(name, service) => (name, service),
        Part::Compatible(settings) => return Ok(Forward::new(settings.to.clone(), None)),
    };
    Ok(match (&service.to, inbox) {
        (Local::Port(to), _) => Forward::new(to.clone(), service.proxy),
        (Local::Udp(to), _) => Forward::to_udp(to.clone()),
        (Local::Node, Some(inbox)) => Forward::to_inbox(inbox.clone(), service.proxy),
        (Local::Node, None) => return Err(HostError::NoNode(name.to_owned())),
    })
}

/// Serves a part until it is told to leave.
fn launch<N: Net, S: Serve<N>>(
    net: &N,
    config: &HostConfig,
    tls: Option<connection::Tls>,
    part: Part,
    serve: S,
    check: Option<Forward>,
    alive: mpsc::Sender<()>,
) -> Running {
    let (leave, leaving) = watch::channel(false);
    let (status_tx, status) = watch::channel(Status::default());
    let (relay, leaving) = (config.relay.clone(), (leaving, config.drain));
    let task = match part {
        Part::Named(name, settings) => {
            // Nobody can tell whether a UDP service is well.
            let check = check.filter(|_| !matches!(settings.to, Local::Udp(_)));
            let service = driver::Named { name: name.to_owned(), settings: settings.clone(), check };
            let driver = driver::Driver::new(net.clone(), relay, tls, service, serve, status_tx, leaving);
            net.spawn("host", async move {
                driver.run().await;
                drop(alive);
            })
        }
        Part::Compatible(settings) => {
            let process =
                compatible::HostProcess::new(net.clone(), relay, settings.clone(), serve, status_tx, leaving);
            net.spawn("host process", async move {
                process.run().await;
                drop(alive);
            })
        }
    };
    Running { leave, status, _task: task }
}
