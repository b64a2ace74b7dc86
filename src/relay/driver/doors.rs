//! What a relay listens on, and how that changes while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tracing::debug;

use super::{Accepted, Driver, Entrance, RelayError};
use crate::machine::Machine;
use crate::net::{Net, TcpListener};
use crate::relay::config::{Config, Limits};
use crate::relay::machine::{Input, Name};

impl<N: Net> Driver<N> {
    pub(super) fn listen(&mut self, entrance: Entrance, at: SocketAddr) -> Result<SocketAddr, RelayError> {
        let whom = match &entrance {
            Entrance::Hosts => "hosts".to_owned(),
            Entrance::Commands => "command channels".to_owned(),
            Entrance::Clients(name) if name.is_empty() => "clients".to_owned(),
            Entrance::Clients(name) => format!("clients of `{name}`"),
        };
        let failed = |source| RelayError::Listen { whom, at, source };
        let listener = self.net.listen(at).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local, listener) = listener.map_err(failed)?;
        let (net, accepted, door) = (self.net.clone(), self.accepted_tx.clone(), entrance.clone());
        let task = self.net.spawn("accept", async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        let at = net.local_addr(&stream).unwrap_or(local);
                        let entrance = door.clone();
                        if accepted.send(Accepted { entrance, stream, from, at }).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => debug!(%error, "connection not accepted"),
                }
            }
        });
        self.listeners.insert(entrance, (at, local, task));
        Ok(local)
    }

    /// Makes the services and limits of `config` those of this relay.
    pub(super) fn apply(&mut self, config: Config) -> Result<(), RelayError> {
        let old = &self.config;
        let ports = |config: &Config| config.compatible.as_ref().map(|c| (c.commands, c.clients));
        for (name, is_same) in [
            ("hosts", old.hosts == config.hosts),
            ("tls", old.tls == config.tls),
            ("heartbeat", old.heartbeat == config.heartbeat),
            ("compatible", ports(old) == ports(&config)),
        ] {
            if !is_same {
                return Err(RelayError::Fixed(name));
            }
        }
        let mut services: BTreeMap<Name, Limits> = BTreeMap::new();
        let mut doors: BTreeMap<Name, SocketAddr> = BTreeMap::new();
        if let Some(compatible) = &config.compatible {
            doors.insert(Name::from(""), compatible.clients);
            services.insert(Name::from(""), compatible.limits.clone());
        }
        for (name, service) in &config.services {
            doors.insert(Name::from(name.as_str()), service.clients);
            services.insert(Name::from(name.as_str()), service.limits.clone());
        }
        // New doors open before old ones close, so that a failure leaves all as it was.
        let mut opened = Vec::new();
        for (name, at) in &doors {
            let entrance = Entrance::Clients(name.clone());
            if self.listeners.get(&entrance).is_some_and(|(asked, ..)| asked == at) {
                continue;
            }
            let before = self.listeners.remove(&entrance);
            let outcome = self.listen(entrance.clone(), *at);
            opened.push((entrance, before));
            if let Err(error) = outcome {
                for (entrance, before) in opened {
                    self.listeners.remove(&entrance);
                    self.listeners.extend(before.map(|before| (entrance, before)));
                }
                return Err(error);
            }
        }
        self.listeners.retain(|entrance, _| match entrance {
            Entrance::Clients(name) => doors.contains_key(name),
            Entrance::Hosts | Entrance::Commands => true,
        });
        let tokens =
            config.services.iter().map(|(name, service)| (Name::from(name.as_str()), service.token.clone()));
        *self.shared.tokens.lock().expect("nothing panics while it holds this lock") = tokens.collect();
        self.shared.limit(&services);
        // Hosts that know another token than the new one have to come again.
        let changed = config.services.iter().filter(|(name, service)| {
            self.config.services.get(*name).is_some_and(|old| old.token != service.token)
        });
        let mut kept = services.clone();
        changed.for_each(|(name, _)| drop(kept.remove(name.as_str())));
        let now = self.net.now();
        self.machine.handle(now, Input::Services(kept));
        self.machine.handle(now, Input::Services(services));
        self.config = config;
        self.act();
        Ok(())
    }
}
