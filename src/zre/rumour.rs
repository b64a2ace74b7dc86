//! What a node has to do with gossip: it publishes where it is, and hears where others are.
//!
//! Gossip is told and believed by [`gossip::Client`](crate::gossip::Client); this file is between that and a node.

use tokio::sync::mpsc;
use tracing::debug;

use super::driver::Request;
use super::{Endpoint, PeerId};
use crate::gossip::dialect::Value;
use crate::gossip::{Client, ClientConfig, Heard, Key, Limits};
use crate::net::{Net, Task};

/// A node's part in gossip. Dropping it ends that without a farewell.
#[derive(Debug)]
pub(super) struct Rumour {
    client: Client,
    own: Key,
    _hearing: Task,
}

impl Rumour {
    /// Publishes that node `id` is at `endpoint`, and tells the node of others.
    pub(super) async fn start<N: Net>(
        net: &N,
        hubs: Vec<Endpoint>,
        (id, endpoint): (PeerId, &Endpoint),
        node: mpsc::WeakSender<Request>,
    ) -> Self {
        let (client, mut heard) = Client::start(net, ClientConfig { hubs, limits: Limits::default() });
        let own = Key::Peer(id);
        client.publish(own.clone(), endpoint.to_string()).await;
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
        Self { client, own, _hearing: hearing }
    }

    /// Publishes that the node is elsewhere now.
    pub(super) fn move_to<N: Net>(&self, net: &N, endpoint: &Endpoint) {
        let (client, own, endpoint) = (self.client.clone(), self.own.clone(), endpoint.to_string());
        net.spawn("gossip moved", async move { client.publish(own, endpoint).await }).detach();
    }

    /// Withdraws what was published, and ends.
    pub(super) async fn end(self) {
        self.client.withdraw(self.own).await;
        self.client.stop().await;
    }
}
