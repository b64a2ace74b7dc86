//! The Alidron repeater, as far as others see it: the Python program's behaviour on the wire, with its faults.
//!
//! It is another program's behaviour and belongs to nobody's product: that is why it stands here. ZMTP, the format of beacons
//! on LANs and the ports are the product's. What it does, after its source and a capture of it:
//!
//! * What it hears on UDP 5670 that begins with "ZRE" and is not from its own address is published with its sender's address
//!   as text behind it: whatever it is, also what other repeaters told on this LAN, and as often as it is heard.
//! * What other repeaters publish is broadcast as it is: the first frame, whatever is in it.
//! * Every second it reads Consul's keys below `docker/nodes` and connects to the address of each, once and for ever. While
//!   it waits for Consul it repeats nothing. Without such a key, or without an answer, it ends.
//! * libzmq is without heartbeats: a subscription to a machine that lost its power stays, and never hears anything again.
//! * It tells newcomers nothing, says no farewell and knows no nodes.
//!
//! What is left out: Consul is asked on a new connection each time, and names in its keys are not resolved.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hailer::Timestamp;
use hailer::net::{Alarm, Interface, Net, Task, TcpListener, UdpOptions, UdpSocket};
use hailer::repeater::{Config, Place};
use hailer::zmtp::{
    Connection, ConnectionError, Limits, Session, SessionConfig, SocketType, Subscription, Subscriptions,
};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::scenario::{OriginalRegistry, OriginalRepeater};

const BEACONS: u16 = 5670;
/// Time between two looks into the registry.
const SYNC: Duration = Duration::from_secs(1);
/// libzmq's high-water mark: messages that wait for one subscriber, or from one publisher.
const HIGH_WATER: usize = 1000;
/// While a subscriber has not taken so many bytes, the rest waits in its queue.
const UNWRITTEN_MAX: usize = 8 << 10;
/// What pyre's beacon reads of a datagram.
const DATAGRAM: usize = 255;
/// What libzmq waits before it connects again, and as much again at random.
const RECONNECT_MS: u64 = 100;
/// What libzmq takes of anybody is without limit; nobody in a scenario says as much.
const LIMITS: Limits =
    Limits { command_bytes: 64 << 10, frame_bytes: 64 << 10, message_bytes: 64 << 10, frames: 64 };

/// Why it ended: a socket that it can't have, or an exception that nobody catches.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("it has no LAN, or not its ports: {0}")]
    Sockets(#[from] std::io::Error),
    #[error("Consul does not answer: {0}")]
    NoConsul(String),
    #[error("Consul has no keys below docker/nodes")]
    NoKeys,
    #[error("a key below docker/nodes has no value")]
    BadKey,
}

/// Runs until its tasks are ended, or it ends by one of its faults.
pub(super) async fn run<N: Net>(net: N, original: OriginalRepeater) -> Result<(), Ended> {
    let (own, broadcast) = lan(&net.interfaces()?)?;
    let everybody = SocketAddr::new(broadcast, BEACONS);
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, BEACONS));
    let beacon = net.bind_udp(&UdpOptions { reuse: true, broadcast: true, ..UdpOptions::at(at) })?;
    let publisher = net.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, Config::PUBLISH_PORT)))?;
    let (joining, mut joined) = mpsc::channel(HIGH_WATER);
    let _publisher = net.spawn("original publisher", accept(net.clone(), publisher, joining));
    let (hearing, mut heard) = mpsc::channel(HIGH_WATER);
    let mut others = Others { net: net.clone(), known: BTreeSet::new(), links: Vec::new(), hearing };
    let mut subscribers: Vec<mpsc::Sender<Bytes>> = Vec::new();
    let mut datagram = [0; DATAGRAM];
    let mut sync = net.alarm();
    sync.set(Some(net.now().after(SYNC)));
    loop {
        tokio::select! {
            biased;
            () = sync.ring() => {
                others.connect(&original).await?;
                sync.set(Some(net.now().after(SYNC)));
            }
            Some(subscriber) = joined.recv() => subscribers.push(subscriber),
            Some(message) = heard.recv() => {
                let _ = beacon.send_to(&message, everybody).await;
            }
            received = beacon.recv_from(&mut datagram) => {
                let Ok((len, from)) = received else { continue };
                if from.ip() != own && datagram[..len].starts_with(b"ZRE") {
                    let packet: Bytes = [&datagram[..len], from.ip().to_string().as_bytes()].concat().into();
                    subscribers.retain(|subscriber| {
                        !matches!(subscriber.try_send(packet.clone()), Err(mpsc::error::TrySendError::Closed(_)))
                    });
                }
            }
        }
    }
}

/// The first LAN: our address on it, and where everybody is.
fn lan(interfaces: &[Interface]) -> std::io::Result<(IpAddr, IpAddr)> {
    let lans = interfaces.iter().filter(|interface| interface.is_up && !interface.is_loopback);
    lans.filter_map(|interface| Some((interface.address, interface.broadcast?)))
        .next()
        .ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
}

/// The repeaters that it has connected to.
struct Others<N: Net> {
    net: N,
    known: BTreeSet<SocketAddr>,
    links: Vec<Task>,
    hearing: mpsc::Sender<Bytes>,
}

impl<N: Net> Others<N> {
    async fn connect(&mut self, original: &OriginalRepeater) -> Result<(), Ended> {
        let places: Vec<SocketAddr> = match &original.registry {
            OriginalRegistry::Static(places) => places.clone(),
            OriginalRegistry::Consul(server) => {
                let addresses = keys(&self.net, server).await?;
                addresses
                    .into_iter()
                    .map(|address| SocketAddr::from((address, Config::PUBLISH_PORT)))
                    .collect()
            }
        };
        let is_wanted = |place: &SocketAddr| !original.dont_ip.iter().any(|no| IpAddr::V4(*no) == place.ip());
        for place in places.into_iter().filter(is_wanted) {
            if self.known.insert(place) {
                let link = follow(self.net.clone(), place, self.hearing.clone());
                self.links.push(self.net.spawn("original link", link));
            }
        }
        Ok(())
    }
}

/// What stands before the colon in each of the values.
async fn keys<N: Net>(net: &N, server: &Place) -> Result<Vec<Ipv4Addr>, Ended> {
    let (status, body) = get(net, server, "/v1/kv/docker/nodes?recurse=1")
        .await
        .map_err(|it| Ended::NoConsul(it.to_string()))?;
    match status {
        StatusCode::OK => addresses(&body),
        StatusCode::NOT_FOUND => Err(Ended::NoKeys),
        status => Err(Ended::NoConsul(status.to_string())),
    }
}

fn addresses(body: &[u8]) -> Result<Vec<Ipv4Addr>, Ended> {
    use base64::Engine;
    let value: Value = serde_json::from_slice(body).map_err(|error| Ended::NoConsul(error.to_string()))?;
    let mut addresses = Vec::new();
    for key in value.as_array().ok_or(Ended::NoKeys)? {
        // A folder, which has no value.
        let text = key["Value"].as_str().ok_or(Ended::BadKey)?;
        let text = base64::prelude::BASE64_STANDARD.decode(text).map_err(|_| Ended::BadKey)?;
        let host = text.split(|byte| *byte == b':').next().and_then(|host| std::str::from_utf8(host).ok());
        addresses.extend(host.and_then(|host| host.parse::<Ipv4Addr>().ok()));
    }
    Ok(addresses)
}

async fn get<N: Net>(
    net: &N,
    server: &Place,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let address = net.resolve(&server.host, server.port).await?.into_iter().next().ok_or("no such name")?;
    let stream = net.connect(address, None).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = net.spawn("original HTTP", async move { drop(connection.await) });
    let request = Request::get(path).header("host", server.to_string()).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

/// A publisher as libzmq's: whoever has subscribed joins, and gets what is published from then on.
async fn accept<N: Net>(net: N, listener: N::Listener, joining: mpsc::Sender<mpsc::Sender<Bytes>>) {
    let mut connections = Vec::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.retain(|connection: &Task| !connection.is_finished());
        let (own, joining) = (net.clone(), joining.clone());
        connections.push(net.spawn("original subscriber", async move {
            let _ = publish(&own, stream, &joining).await;
        }));
    }
}

async fn publish<N: Net>(
    net: &N,
    stream: N::Stream,
    joining: &mpsc::Sender<mpsc::Sender<Bytes>>,
) -> Result<(), ConnectionError> {
    let mut connection = shake_hands(net, stream, SocketType::Pub, None).await?;
    let mut wanted = Subscriptions::default();
    let (own, mut packets) = mpsc::channel(HIGH_WATER);
    let mut own = Some(own);
    loop {
        let has_room = connection.pending_bytes() < UNWRITTEN_MAX;
        tokio::select! {
            biased;
            said = connection.recv(|| net.now()) => {
                let Some(said) = said? else { return Ok(()) };
                if Subscription::decode(&said).is_some_and(|subscription| wanted.apply(&subscription))
                    && let Some(own) = own.take()
                {
                    let _ = joining.send(own).await;
                }
            }
            Some(packet) = packets.recv(), if has_room => {
                if wanted.want(&packet) {
                    connection.queue(vec![packet]);
                }
            }
        }
    }
}

/// A subscription as libzmq's: it is there for ever, and so is a connection that says nothing any more.
async fn follow<N: Net>(net: N, place: SocketAddr, hearing: mpsc::Sender<Bytes>) {
    let mut alarm = net.alarm();
    loop {
        let _ = listen(&net, place, &hearing).await;
        let mut random = [0; 2];
        net.random(&mut random);
        let uneven = u64::from(u16::from_le_bytes(random)) % RECONNECT_MS;
        alarm.set(Some(net.now().after(Duration::from_millis(RECONNECT_MS + uneven))));
        alarm.ring().await;
    }
}

async fn listen<N: Net>(
    net: &N,
    place: SocketAddr,
    hearing: &mpsc::Sender<Bytes>,
) -> Result<(), ConnectionError> {
    let stream = net.connect(place, None).await?;
    let everything = Subscription::Subscribe(Bytes::new());
    let mut connection = shake_hands(net, stream, SocketType::Sub, Some(everything)).await?;
    while let Some(message) = connection.recv(|| net.now()).await? {
        if let Some(frame) = message.into_iter().next() {
            let _ = hearing.send(frame).await;
        }
    }
    Ok(())
}

async fn shake_hands<N: Net>(
    net: &N,
    stream: N::Stream,
    kind: SocketType,
    subscription: Option<Subscription>,
) -> Result<Connection<N::Stream>, ConnectionError> {
    /// libzmq's `ZMQ_HANDSHAKE_IVL`.
    const HANDSHAKE: Duration = Duration::from_secs(30);
    let config = SessionConfig {
        limits: LIMITS,
        handshake_timeout: HANDSHAKE,
        ..SessionConfig::new(kind, Bytes::new())
    };
    let now = || -> Timestamp { net.now() };
    let mut connection = Connection::new(stream, Session::new(config, now()));
    if let Some(subscription) = subscription {
        connection.subscribe(subscription);
    }
    connection.handshake(now, &mut net.alarm()).await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(value: &str) -> Value {
        use base64::Engine;
        json!({"Key": "docker/nodes/x", "Value": base64::prelude::BASE64_STANDARD.encode(value)})
    }

    #[test]
    fn what_stands_before_the_colon_is_the_address_and_a_folder_without_a_value_ends_it() {
        let read = |keys: Value| addresses(keys.to_string().as_bytes());
        let found = read(json!([key("10.0.0.7:2376"), key("host:2376"), key("10.0.0.8")])).unwrap();
        assert_eq!(found, [Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 0, 0, 8)]);
        assert!(matches!(
            read(json!([key("10.0.0.7:1"), {"Key": "docker/nodes/", "Value": null}])),
            Err(Ended::BadKey)
        ));
        assert!(matches!(read(json!(null)), Err(Ended::NoKeys)));
        assert!(matches!(addresses(b"<html>"), Err(Ended::NoConsul(_))));
    }
}
