//! Gossip over real sockets: what was captured of zyre and of the Haskell tools is played to our hub byte for byte, and a hub
//! that does what the Haskell one does is played to our client.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hailer::gossip::message::{Message, Publish};
use hailer::gossip::{Client, ClientConfig, Config, Dialect, Event, Events, Heard, Hub, Key, Limits};
use hailer::net::{Alarm, Net, OsNet, TcpListener};
use hailer::zmtp::{Connection, Frame, Framer, Session, SessionConfig, SocketType};
use hailer::zre::PeerId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What was sent on one direction of a connection of a capture; the first that goes this way.
fn captured(capture: &str, from: &str, to: &str) -> Vec<u8> {
    let line = capture.lines().find(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        matches!(words[..], ["tcp", source, "->", target, _] if source.starts_with(from) && target == to)
    });
    let hex = line.expect("the capture has it").rsplit(' ').next().expect("a line has words");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

async fn within<T>(net: &OsNet, future: impl Future<Output = T>) -> T {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(Duration::from_secs(10))));
    tokio::select! {
        biased;
        value = future => value,
        () = alarm.ring() => panic!("it takes too long"),
    }
}

fn hub(net: &OsNet) -> (Hub, Events) {
    let config = Config { address: Ipv4Addr::LOCALHOST.into(), port: 0, ..Config::default() };
    Hub::start(net, config).expect("the hub listens")
}

/// Plays a capture and listens.
struct Player {
    stream: Pin<Box<<OsNet as Net>::Stream>>,
    framer: Framer,
    unread: Bytes,
}

impl Player {
    async fn play(net: &OsNet, hub: &Hub, bytes: &[u8]) -> Self {
        let mut stream = Box::pin(net.connect(hub.address(), None).await.expect("the hub accepts"));
        stream.write_all(bytes).await.expect("the hub reads");
        let mut greeting = [0; 64];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        let mut framer = Framer::new(hailer::zmtp::Limits::DEFAULT);
        framer.take_messages();
        let mut player = Self { stream, framer, unread: Bytes::new() };
        assert!(matches!(player.frame().await, Frame::Command(_)), "READY");
        player
    }

    async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.framer.read(&mut self.unread).expect("frames") {
                return frame;
            }
            let mut bytes = bytes::BytesMut::with_capacity(4096);
            assert_ne!(self.stream.read_buf(&mut bytes).await.expect("the hub writes"), 0, "the hub closed");
            self.unread = bytes.freeze();
        }
    }

    /// The frames of the next message.
    async fn message(&mut self) -> Vec<Bytes> {
        let mut frames = Vec::new();
        loop {
            match self.frame().await {
                Frame::Part { body, more } => {
                    frames.push(body);
                    if !more {
                        return frames;
                    }
                }
                Frame::Command(_) => {}
            }
        }
    }
}

fn publish(key: &[u8], value: &str, ttl: u32) -> Bytes {
    let publish = Publish { key: Bytes::copy_from_slice(key), value: value.into(), ttl };
    Message::Publish(publish).encode().expect("it is short")
}

#[tokio::test]
async fn zyre_and_the_haskell_tools_as_captured_find_each_other_at_our_hub() {
    let net = OsNet::new();
    let (hub, mut events) = hub(&net);
    let capture = include_str!("vectors/hs-gossip.hex");
    let mut hs = Player::play(&net, &hub, &captured(capture, "10.77.0.2", "10.77.0.3:31337")).await;
    // What came is looked at before the other one comes.
    while !matches!(within(&net, events.next()).await, Some(Event::Published { .. })) {}
    let mut alice = Player::play(&net, &hub, &captured(capture, "10.77.0.1", "10.77.0.3:31337")).await;
    let hs_id: PeerId = "FD0DD4D4E57F11F18001323F20E00774".parse().expect("an identity");
    let alice_id: PeerId = "758706D2A7CE4F20977067AF3EC972C5".parse().expect("an identity");
    assert_eq!(
        within(&net, alice.message()).await,
        [publish(hs_id.to_string().as_bytes(), "tcp://10.77.0.2:41030", 0)],
        "one frame, digits, no ttl"
    );
    assert_eq!(
        within(&net, hs.message()).await,
        [
            Bytes::copy_from_slice(hs_id.as_bytes()),
            publish(alice_id.as_bytes(), "tcp://10.77.0.1:49152", 600)
        ],
        "its identity, bytes, a ttl"
    );
    hub.stop().await;
}

#[tokio::test]
async fn three_zyres_as_captured_find_each_other_at_our_hub() {
    let net = OsNet::new();
    let (hub, _events) = hub(&net);
    let capture = include_str!("vectors/zyre-gossip.hex");
    let mut bob = Player::play(&net, &hub, &captured(capture, "10.77.0.2", "10.77.0.1:5671")).await;
    let mut carol = Player::play(&net, &hub, &captured(capture, "10.77.0.3", "10.77.0.1:5671")).await;
    // Both said what they had heard of alice and bob, who is not heard of twice.
    let carols = publish(b"611A3311EBAC497FB6187797E49940B0", "tcp://10.77.0.3:49152", 0);
    assert_eq!(within(&net, bob.message()).await, [carols]);
    let keys: Vec<String> =
        hub.tuples().await.expect("it runs").iter().map(|(key, _)| key.to_string()[..4].to_owned()).collect();
    assert_eq!(keys, ["1C5E", "611A", "F234"]);
    carol.stream.write_all(b"\x00\x04\xaa\xa0\x03\x01").await.expect("PING");
    loop {
        let frames = within(&net, carol.message()).await;
        if frames == [Message::Pong.encode().expect("it is short")] {
            break;
        }
    }
}

/// Garbage in every place where a client can put some; the others do not notice.
#[tokio::test]
async fn garbage_costs_its_sender_the_connection_at_most() {
    let net = OsNet::new();
    let (hub, _events) = hub(&net);
    let capture = captured(include_str!("vectors/zyre-gossip.hex"), "10.77.0.2", "10.77.0.1:5671");
    let mut good = Player::play(&net, &hub, &capture).await;
    for cut in [0, 1, 64, 100, 109, 112, capture.len() - 1] {
        let mut stream = Box::pin(net.connect(hub.address(), None).await.expect("the hub accepts"));
        stream.write_all(&capture[..cut]).await.expect("the hub reads");
        // The hub may have closed already.
        let _ = stream.write_all(&[0xff; 300]).await;
    }
    good.stream
        .write_all(b"\x00\x03\xaa\xa0\x02\x00\x00\x00\x04\xaa\xa0\x03\x01")
        .await
        .expect("it is there");
    loop {
        let frames = within(&net, good.message()).await;
        if frames == [Message::Pong.encode().expect("it is short")] {
            break;
        }
    }
    assert!(hub.counters().await.expect("it runs").messages_malformed >= 2);
}

/// What the Haskell server does, as its source has it: HELLO is answered with all pairs, PUBLISH is stored and sent to who has
/// another key for an identity, PING is ignored; its clients get their identity before each message.
async fn haskell_hub(net: OsNet, listener: <OsNet as Net>::Listener) {
    let mut pairs = std::collections::BTreeMap::from([(
        Bytes::from_static(&[0xb0; 16]),
        "tcp://10.9.9.9:41000".to_owned(),
    )]);
    let (stream, _) = listener.accept().await.expect("a client");
    let session = Session::new(SessionConfig::new(SocketType::Router, Bytes::new()), net.now());
    let mut connection = Connection::new(stream, session);
    let peer = connection.handshake(|| net.now(), &mut net.alarm()).await.expect("a handshake");
    while let Ok(Some(frames)) = connection.recv(|| net.now()).await {
        match Message::decode(frames[0].clone()).expect("a message") {
            Message::Hello => {
                for (key, value) in &pairs {
                    connection.queue(vec![peer.identity.clone(), publish(key, value, 599)]);
                }
            }
            Message::Publish(Publish { key, value, ttl: 1.. }) => {
                pairs.insert(key, value.to_string());
            }
            Message::Publish(Publish { key, ttl: 0, .. }) => {
                pairs.remove(&key);
                if key.len() == 16 {
                    return;
                }
            }
            Message::Ping => {}
            other => panic!("{other:?} to the Haskell hub"),
        }
    }
}

#[tokio::test]
async fn our_client_gets_on_with_a_hub_like_the_haskell_one() {
    let net = OsNet::new();
    let listener = net.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    let at = listener.local_addr().expect("an address");
    let (ended, end) = tokio::sync::oneshot::channel();
    let of_hub = net.clone();
    let _hub = net.spawn("haskell hub", async move {
        haskell_hub(of_hub, listener).await;
        let _ = ended.send(());
    });
    let config = ClientConfig { hubs: vec![at.into()], limits: Limits::default() };
    let (client, mut heard) = Client::start(&net, config);
    let own = Key::Peer(PeerId::from_bytes([0xaa; 16]));
    client.publish(own.clone(), "tcp://10.0.0.1:49152").await;
    let hub = within(&net, heard.next()).await.expect("it runs");
    assert!(matches!(hub, Heard::Hub { dialect: Dialect::Haskell, .. }), "{hub:?}");
    let bob =
        Heard::Found { key: Key::Peer(PeerId::from_bytes([0xb0; 16])), value: "tcp://10.9.9.9:41000".into() };
    assert_eq!(within(&net, heard.next()).await, Some(bob));
    client.withdraw(own).await;
    client.stop().await;
    within(&net, end).await.expect("the hub heard that our key, as bytes, is withdrawn");
}
