//! Stands in for a node elsewhere: listens on our LANs, and lets whoever connects talk to the node.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::debug;

use super::tunnel::{self, Talk};
use super::{Carried, Notes, Question, within};
use crate::net::{Net, Task, TcpListener};
use crate::repeater::machine::{Lan, RemotePlace};
use crate::zre::PeerId;

/// How long it may take until the node is reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What stand-ins have in common.
#[derive(Clone)]
pub(super) struct Terms {
    /// Through the node's repeater, or straight to the node.
    pub(super) relay: bool,
    pub(super) connections_max: u64,
    pub(super) carried: Arc<Carried>,
    pub(super) notes: Notes,
}

/// A stand-in. Dropping it ends it and all that it carries.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) port: u16,
    place: Arc<Mutex<RemotePlace>>,
    _tasks: Vec<Task>,
}

impl StandIn {
    /// Listens at this port on each of the LANs.
    pub(super) fn start<N: Net>(
        net: &N,
        lans: impl Iterator<Item = Lan>,
        peer: PeerId,
        port: u16,
        place: RemotePlace,
        terms: &Terms,
    ) -> io::Result<Self> {
        let place = Arc::new(Mutex::new(place));
        let listen = |lan: Lan| {
            let listener = net.listen(SocketAddr::from((lan.address, port)))?;
            let door = Door { net: net.clone(), lan, peer, place: Arc::clone(&place), terms: terms.clone() };
            Ok(net.spawn("repeater stand-in", door.open(listener)))
        };
        let tasks = lans.map(listen).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { port, place, _tasks: tasks })
    }

    /// From now on new connections lead there.
    pub(super) fn lead_to(&self, place: RemotePlace) {
        *self.place.lock().expect("nothing panics while it holds a place") = place;
    }
}

/// Where those who connect come in.
struct Door<N: Net> {
    net: N,
    lan: Lan,
    peer: PeerId,
    place: Arc<Mutex<RemotePlace>>,
    terms: Terms,
}

impl<N: Net> Door<N> {
    async fn open(self, listener: N::Listener) {
        let mut talks: Vec<Task> = Vec::new();
        loop {
            let (stream, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "connection not accepted");
                    continue;
                }
            };
            talks.retain(|talk| !talk.is_finished());
            // It is for the neighbours.
            if !self.lan.contains(remote.ip()) {
                self.terms.carried.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let Some(talk) = Talk::begin(&self.terms.carried, self.terms.connections_max) else { continue };
            let place = *self.place.lock().expect("nothing panics while it holds a place");
            let (net, peer, terms) = (self.net.clone(), self.peer, self.terms.clone());
            talks.push(self.net.spawn("repeater carried connection", async move {
                if let Err(error) = carry(&net, stream, remote, peer, place, &terms, &talk).await {
                    debug!(%error, %peer, %remote, "carried connection ended");
                }
            }));
        }
    }
}

async fn carry<N: Net>(
    net: &N,
    stream: N::Stream,
    remote: SocketAddr,
    peer: PeerId,
    place: RemotePlace,
    terms: &Terms,
    talk: &Talk,
) -> io::Result<()> {
    let connecting = async {
        if terms.relay {
            tunnel::open(net, place.repeater, peer).await
        } else {
            net.connect(place.inbox, None).await
        }
    };
    let other = within(net, CONNECT_TIMEOUT, connecting).await.inspect_err(|_| {
        terms.carried.failed.fetch_add(1, Ordering::Relaxed);
    })?;
    talk.succeed();
    // When the node is gone, the stand-in ends, and this with it.
    tunnel::carry(net, stream, other, talk, &terms.notes, Question::Neighbour(remote.ip())).await
}
