//! A host: makes local services reachable through a relay, from a machine that nobody outside can connect to.
//!
//! * [`machine`]: decides when to connect, and whether the local service is well.
//! * [`service`]: what is served: a local port, or a program's own code.
//! * `driver`: connections of the modern protocol. `compatible`: those of the original one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, mpsc, watch};

use super::config::{CompatibleHost, HostConfig, Local};
use crate::net::{Net, Task};
use crate::tls::TlsError;

mod compatible;
mod connection;
mod driver;
pub mod machine;
mod service;

pub use service::{Forward, Handler, LocalStream, LocalUdp, Program, Serve, Visitor};

/// A running host. Dropping it ends it at once.
#[derive(Debug)]
pub struct Host {
    /// Each with what tells it to leave.
    running: Vec<(watch::Sender<bool>, Task)>,
    statuses: BTreeMap<String, watch::Receiver<Status>>,
    ended: Mutex<mpsc::Receiver<()>>,
    is_ended: AtomicBool,
}

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
    fn empty(ended: mpsc::Receiver<()>) -> Self {
        let (running, statuses) = (Vec::new(), BTreeMap::new());
        Self { running, statuses, ended: Mutex::new(ended), is_ended: AtomicBool::new(false) }
    }

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
        let tls = connection::Tls::new(&config)?;
        let (alive, ended) = mpsc::channel(1);
        let mut host = Self::empty(ended);
        for (name, service) in &config.services {
            let forward = match (&service.to, &inbox) {
                (Local::Port(to), _) => Forward::new(to.clone(), service.proxy),
                (Local::Udp(to), _) => Forward::to_udp(to.clone()),
                (Local::Node, Some(inbox)) => Forward::to_inbox(inbox.clone(), service.proxy),
                (Local::Node, None) => return Err(HostError::NoNode(name.clone())),
            };
            // Nobody can tell whether a UDP service is well.
            let check = (!matches!(service.to, Local::Udp(_))).then(|| forward.clone());
            let service = driver::Named { name: name.clone(), settings: service.clone(), check };
            host.add(net, &config, tls.clone(), service, forward, &alive);
        }
        if let Some(settings) = &config.compatible {
            let forward = Forward::new(settings.to.clone(), None);
            host.add_compatible(net, &config, settings, forward, &alive);
        }
        Ok(host)
    }

    /// Starts a host whose sessions a program serves itself, all services alike. `to`, `proxy` and `check` of the configuration do
    /// not matter then.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn serve<N: Net, H: Handler>(net: &N, config: HostConfig, handler: H) -> Result<Self, HostError> {
        let tls = connection::Tls::new(&config)?;
        let (alive, ended) = mpsc::channel(1);
        let mut host = Self::empty(ended);
        let program = Program::new(Arc::new(handler));
        for (name, service) in &config.services {
            let service = driver::Named { name: name.clone(), settings: service.clone(), check: None };
            host.add(net, &config, tls.clone(), service, program.clone(), &alive);
        }
        if let Some(settings) = &config.compatible {
            host.add_compatible(net, &config, settings, program, &alive);
        }
        Ok(host)
    }

    fn add<N: Net, S: Serve<N>>(
        &mut self,
        net: &N,
        config: &HostConfig,
        tls: Option<connection::Tls>,
        service: driver::Named,
        serve: S,
        alive: &mpsc::Sender<()>,
    ) {
        let name = service.name.clone();
        self.launch(net, name, "host", alive, |status, leaving| {
            let relay = config.relay.clone();
            driver::Driver::new(net.clone(), relay, tls, service, serve, status, (leaving, config.drain))
                .run()
        });
    }

    fn add_compatible<N: Net, S: Serve<N>>(
        &mut self,
        net: &N,
        config: &HostConfig,
        settings: &CompatibleHost,
        serve: S,
        alive: &mpsc::Sender<()>,
    ) {
        self.launch(net, String::new(), "host process", alive, |status, leaving| {
            let (relay, settings) = (config.relay.clone(), settings.clone());
            let leaving = (leaving, config.drain);
            compatible::HostProcess::new(net.clone(), relay, settings, serve, status, leaving).run()
        });
    }

    /// Runs what serves one service, until it is told to leave.
    fn launch<N: Net, F: Future<Output = ()> + Send + 'static>(
        &mut self,
        net: &N,
        name: String,
        task: &'static str,
        alive: &mpsc::Sender<()>,
        serve: impl FnOnce(watch::Sender<Status>, watch::Receiver<bool>) -> F,
    ) {
        let (leave, leaving) = watch::channel(false);
        let (status_tx, status) = watch::channel(Status::default());
        let (serving, alive) = (serve(status_tx, leaving), alive.clone());
        let task = net.spawn(task, async move {
            serving.await;
            drop(alive);
        });
        self.running.push((leave, task));
        self.statuses.insert(name, status);
    }

    /// How a service stands, and changes; the original protocol's has no name.
    pub fn status(&self, service: &str) -> Option<watch::Receiver<Status>> {
        self.statuses.get(service).cloned()
    }

    /// Whether it has stopped.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }

    /// Takes no more sessions, and waits until the last one has ended, or for as long as the configuration says.
    pub async fn stop(&self) {
        for (leave, _) in &self.running {
            leave.send_replace(true);
        }
        // Nothing is ever sent: this ends when all have ended.
        let _ = self.ended.lock().await.recv().await;
        self.is_ended.store(true, Ordering::Relaxed);
    }
}
