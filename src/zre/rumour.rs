//! What a node has to do with gossip: it publishes where it is, and hears where others are.
//!
//! Gossip is told and believed by [`gossip::Client`](crate::gossip::Client); this file is between that and a node.

use tokio::sync::mpsc;
use tracing::debug;

use super::Endpoint;
use super::driver::Request;
use super::machine::NodeMachine;
use crate::gossip::dialect::Value;
use crate::gossip::{Client, ClientConfig, Heard, Key, Limits};
use crate::net::{Net, Task};

/// A node's part in gossip. Dropping it ends that without a farewell.
#[derive(Debug)]
pub(super) struct Rumour {
    client: Client,
    own: Key,
    /// Where the others are told to reach the node.
    told: Endpoint,
    /// The first of the hubs. Whoever hears of the node there is asked to come the way that leads to it.
    hub: Endpoint,
    _hearing: Task,
}

impl Rumour {
    /// Publishes where a node is, and tells it of others. `None` without hubs.
    pub(super) async fn start<N: Net>(
        net: &N,
        hubs: Vec<Endpoint>,
        machine: &NodeMachine,
        node: mpsc::WeakSender<Request>,
    ) -> Option<Self> {
        let hub = hubs.first()?.clone();
        let (client, mut heard) = Client::start(net, ClientConfig { hubs, limits: Limits::default() });
        let (own, told) = (Key::Peer(machine.id()), machine.place_for(&hub));
        client.publish(own.clone(), told.to_string()).await;
        let hearing = net.spawn("gossip heard", async move {
            while let Some(heard) = heard.next().await {
                let Heard::Found { key: Key::Peer(peer), value } = heard else { continue };
                match Value::read(&value) {
                    Some(Value { endpoint, is_secure: false }) => {
                        let Some(node) = node.upgrade() else { return };
                        if node.send(Request::Found { peer, endpoint }).await.is_err() {
                            return;
                        }
                    }
                    Some(_) => debug!(%peer, "ignored: it wants CURVE"),
                    None => debug!(%peer, %value, "ignored: that is no endpoint"),
                }
            }
        });
        Some(Self { client, own, told, hub, _hearing: hearing })
    }

    /// Publishes where the node is if it is elsewhere now.
    pub(super) fn follow<N: Net>(&mut self, net: &N, machine: &NodeMachine) {
        let place = machine.place_for(&self.hub);
        if self.told != place {
            let (client, own, endpoint) = (self.client.clone(), self.own.clone(), place.to_string());
            net.spawn("gossip moved", async move { client.publish(own, endpoint).await }).detach();
            self.told = place;
        }
    }

    /// Withdraws what was published, and ends.
    pub(super) async fn end(self) {
        self.client.withdraw(self.own).await;
        self.client.stop().await;
    }
}
