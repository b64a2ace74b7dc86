//! A running relay as the rest of the program has it: starts it, asks it, ends it.
//!
//! What happens in between is the driver's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};
use tracing::info;

use super::{ACCEPTED, Driver, Entrance, Shared};
use crate::net::Net;
use crate::relay::config::{Config, Protocol};
use crate::relay::counters::Counters;
use crate::relay::machine::{Name, RelayMachine};
use crate::relay::proof::Token;
use crate::tls::TlsError;

/// A running relay. Dropping the last handle ends it.
#[derive(Clone, Debug)]
pub struct Relay {
    requests: mpsc::Sender<Request>,
    hosts: SocketAddr,
    counters: Arc<Counters>,
}

/// Why a relay does not start, or does not take new settings.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// An address can't be listened on.
    #[error("can't listen for {whom} on {at}: {source}")]
    Listen {
        /// Whom the address is for.
        whom: String,
        /// The address.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or its key is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What can only be changed by a restart was changed.
    #[error("`{0}` can't be changed while the relay runs")]
    Fixed(&'static str),
    /// The relay has ended.
    #[error("the relay has ended")]
    Ended,
}

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Request {
    Stop(oneshot::Sender<()>),
    Reload(Box<Config>, oneshot::Sender<Result<(), RelayError>>),
    Services(oneshot::Sender<BTreeMap<String, SocketAddr>>),
}

impl Relay {
    /// Starts a relay.
    ///
    /// # Errors
    /// When an address can't be listened on, or the certificate is of no use.
    pub fn start<N: Net>(net: &N, config: Config) -> Result<Self, RelayError> {
        let mut nobody = [0; 32];
        net.random(&mut nobody);
        let counters = Arc::new(Counters::default());
        let shared = Shared {
            keys: Mutex::default(),
            tokens: Mutex::default(),
            throttles: Mutex::default(),
            idle: Mutex::default(),
            nobody: Token::random(nobody),
            tls: Mutex::default(),
            compatible_port: config.compatible.as_ref().map(|_| Arc::default()),
            heartbeat: config.heartbeat,
            counters: counters.clone(),
        };
        let (requests_tx, requests) = mpsc::channel(4);
        let (accepted_tx, accepted) = mpsc::channel(ACCEPTED);
        let (notes_tx, notes) = mpsc::unbounded_channel();
        let mut driver = Driver {
            net: net.clone(),
            machine: RelayMachine::new(config.heartbeat),
            config: Config { services: BTreeMap::new(), ..config.clone() },
            shared: Arc::new(shared),
            alarm: net.alarm(),
            listeners: BTreeMap::new(),
            accepted_tx,
            accepted,
            notes_tx,
            notes,
            requests,
            tasks: BTreeMap::new(),
            strangers: BTreeSet::new(),
            outboxes: BTreeMap::new(),
            command_channels: BTreeMap::new(),
            seats: BTreeMap::new(),
            clients: BTreeMap::new(),
            last_id: 0,
            next_session: 0,
            stopping: Vec::new(),
            stop_at: None,
        };
        let hosts = driver.listen(Entrance::Hosts, Protocol::Tcp, config.hosts)?;
        if let Some(compatible) = &config.compatible {
            driver.listen(Entrance::Commands, Protocol::Tcp, compatible.commands)?;
        }
        driver.apply(config)?;
        let clients =
            driver.listeners.get(&Entrance::Clients(Name::from(""))).map(|listener| listener.local.port());
        if let (Some(port), Some(clients)) = (&driver.shared.compatible_port, clients) {
            port.store(clients, Ordering::Relaxed);
        }
        info!(%hosts, "relay started");
        net.spawn("relay", driver.run()).detach();
        Ok(Self { requests: requests_tx, hosts, counters })
    }

    /// Where hosts connect to.
    pub const fn hosts_at(&self) -> SocketAddr {
        self.hosts
    }

    /// The services, and where their clients connect or send to; the original protocol's has no name.
    pub async fn services(&self) -> BTreeMap<String, SocketAddr> {
        let (answer, services) = oneshot::channel();
        if self.requests.send(Request::Services(answer)).await.is_err() {
            return BTreeMap::new();
        }
        services.await.unwrap_or_default()
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes other services and limits, and reads the files for TLS again. Sessions go on; hosts of services that are gone or have
    /// another token connect anew.
    ///
    /// # Errors
    /// When an address can't be listened on, a file is of no use, or something else was changed. All is as before then.
    pub async fn reload(&self, config: Config) -> Result<(), RelayError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request::Reload(Box::new(config), answer);
        self.requests.send(request).await.map_err(|_| RelayError::Ended)?;
        outcome.await.map_err(|_| RelayError::Ended)?
    }

    /// Whether it has stopped.
    pub fn is_ended(&self) -> bool {
        self.requests.is_closed()
    }

    /// Stops listening at once, so that another relay can take over, tells the hosts, and waits until the last session has ended, or
    /// for as long as the configuration says. Sessions of UDP services end at once: they have no port any more.
    pub async fn stop(&self) {
        let (answer, done) = oneshot::channel();
        if self.requests.send(Request::Stop(answer)).await.is_ok() {
            let _ = done.await;
        }
    }
}
