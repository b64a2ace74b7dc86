//! What a relay listens on, and how that changes while it runs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use tracing::debug;

use super::{Accepted, Driver, Entrance, Line, Listener, RelayError, datagrams};
use crate::machine::Machine;
use crate::net::{Net, Task, TcpListener, UdpOptions, UdpSocket};
use crate::relay::config::{Config, Limits, Protocol};
use crate::relay::machine::{Input, Name};
use crate::relay::tls;

impl<N: Net> Driver<N> {
    pub(super) fn listen(
        &mut self,
        entrance: Entrance,
        protocol: Protocol,
        at: SocketAddr,
    ) -> Result<SocketAddr, RelayError> {
        let whom = match &entrance {
            Entrance::Hosts => "hosts".to_owned(),
            Entrance::Commands => "command channels".to_owned(),
            Entrance::Clients(name) if name.is_empty() => "clients".to_owned(),
            Entrance::Clients(name) => format!("clients of `{name}`"),
        };
        let failed = |source| RelayError::Listen { whom, at, source };
        let (local, task) = match protocol {
            Protocol::Tcp => self.accept(&entrance, at),
            Protocol::Udp => self.receive(&entrance, at),
        }
        .map_err(failed)?;
        self.listeners.insert(entrance, Listener { asked: (protocol, at), local, _task: task });
        Ok(local)
    }

    fn receive(&self, entrance: &Entrance, at: SocketAddr) -> io::Result<(SocketAddr, Task)> {
        let socket = self.net.bind_udp(&UdpOptions::at(at))?;
        let local = socket.local_addr()?;
        let (accepted, counters) = (self.accepted_tx.clone(), self.shared.counters.clone());
        let receiving = datagrams::receive(socket, local, entrance.clone(), accepted, counters);
        Ok((local, self.net.spawn("receive", receiving)))
    }

    fn accept(&self, entrance: &Entrance, at: SocketAddr) -> io::Result<(SocketAddr, Task)> {
        let listener = self.net.listen(at)?;
        let local = listener.local_addr()?;
        let (net, accepted, door) = (self.net.clone(), self.accepted_tx.clone(), entrance.clone());
        let task = self.net.spawn("accept", async move {
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        // One of several addresses, if it listens on all of them.
                        let is_any = local.ip().is_unspecified();
                        let own = is_any.then(|| net.local_addr(&stream).ok()).flatten();
                        let at = own.unwrap_or(local);
                        let (entrance, line) = (door.clone(), Line::Stream(stream));
                        if accepted.send(Accepted { entrance, line, from, at }).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => debug!(%error, "connection not accepted"),
                }
            }
        });
        Ok((local, task))
    }

    /// Makes the services and limits of `config` those of this relay.
    pub(super) fn apply(&mut self, config: Config) -> Result<(), RelayError> {
        let old = &self.config;
        let ports = |config: &Config| config.compatible.as_ref().map(|c| (c.commands, c.clients));
        for (name, is_same) in [
            ("hosts", old.hosts == config.hosts),
            ("heartbeat", old.heartbeat == config.heartbeat),
            ("compatible", ports(old) == ports(&config)),
        ] {
            if !is_same {
                return Err(RelayError::Fixed(name));
            }
        }
        // Certificates are renewed from time to time.
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let mut services: BTreeMap<Name, Limits> = BTreeMap::new();
        let mut doors: BTreeMap<Name, (Protocol, SocketAddr)> = BTreeMap::new();
        if let Some(compatible) = &config.compatible {
            doors.insert(Name::from(""), (Protocol::Tcp, compatible.clients));
            services.insert(Name::from(""), compatible.limits.clone());
        }
        for (name, service) in &config.services {
            doors.insert(Name::from(name.as_str()), (service.protocol, service.clients));
            services.insert(Name::from(name.as_str()), service.limits.clone());
        }
        // New doors open before old ones close, so that a failure leaves all as it was.
        let mut opened = Vec::new();
        for (name, asked) in &doors {
            let entrance = Entrance::Clients(name.clone());
            if self.listeners.get(&entrance).is_some_and(|listener| listener.asked == *asked) {
                continue;
            }
            let before = self.listeners.remove(&entrance);
            let outcome = self.listen(entrance.clone(), asked.0, asked.1);
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
        *self.shared.tls.lock().expect("nothing panics while it holds this lock") = acceptor;
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
