//! What real programs said to each other, read and written again by our codecs.
//!
//! `tests/vectors/*.hex` hold captures of zyre, pyre, the Haskell `zre`, the czmq gossip hub and the Alidron repeater. Each
//! stream goes through a session of ours as if we were the receiver. What was said is compared with what the programs
//! themselves reported, and everything that was read is written again and has to come out byte for byte.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use hailer::Timestamp;
use hailer::machine::Machine;
use hailer::zmtp::{
    Command, Frame, Framer, Greeting, Input, Limits, Mechanism, Multipart, Output, PeerProperties, Session,
    SessionConfig, SessionError, SocketType,
};
use hailer::zre::beacon::{Beacon, BeaconError};
use hailer::zre::message::{Body, DecodeError, Message};

/// Datagrams and streams of one file, in its order.
#[derive(Default)]
struct Capture {
    datagrams: Vec<Datagram>,
    streams: Vec<Stream>,
}

struct Datagram {
    from: SocketAddr,
    count: usize,
    bytes: Vec<u8>,
}

struct Stream {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Bytes,
}

macro_rules! capture {
    ($name:literal) => {
        Capture::parse(include_str!(concat!("vectors/", $name, ".hex")))
    };
}

impl Capture {
    fn parse(text: &str) -> Self {
        let mut capture = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["udp", from, "->", _, count, hex] => capture.datagrams.push(Datagram {
                    from: from.parse().unwrap(),
                    count: count.strip_suffix('x').unwrap().parse().unwrap(),
                    bytes: unhex(hex),
                }),
                ["tcp", from, "->", to, hex] => capture.streams.push(Stream {
                    from: from.parse().unwrap(),
                    to: to.parse().unwrap(),
                    bytes: unhex(hex).into(),
                }),
                _ => panic!("neither a datagram nor a stream: {line}"),
            }
        }
        capture
    }

    /// Reads every datagram, checks that it is written alike, and says how many of it came from whom, and what it says.
    fn beacons(&self) -> Vec<String> {
        let read = |Datagram { from, count, bytes }: &Datagram| {
            let says = match Beacon::decode(bytes) {
                Ok(beacon) => {
                    assert_eq!(&beacon.encode()[..], bytes);
                    match beacon.is_leaving() {
                        true => format!("{} leaves", beacon.peer),
                        false => format!("{} at {}", beacon.peer, beacon.port),
                    }
                }
                Err(error) => format!("{error:?}"),
            };
            format!("{count}x {}: {says}", from.ip())
        };
        self.datagrams.iter().map(read).collect()
    }

    /// Takes out the streams to and from a port where something else than ZRE is spoken.
    fn take_port(&mut self, port: u16) -> Vec<Stream> {
        self.streams.extract_if(.., |stream| stream.from.port() == port || stream.to.port() == port).collect()
    }

    /// What was said on each connection, from its DEALER to its ROUTER: who to whom, and the messages in words.
    fn conversations(&self) -> Vec<Vec<String>> {
        let mut conversations = Vec::new();
        for stream in &self.streams {
            let Dialogue { peer, messages } = stream.listen();
            match peer.socket_type.unwrap() {
                SocketType::Dealer => {
                    let identity = hex(&peer.identity);
                    let mut lines = vec![format!("{identity} to {}", stream.to)];
                    lines.extend(messages.into_iter().map(in_words));
                    conversations.push(lines);
                }
                SocketType::Router => assert_eq!(messages, [] as [Multipart; 0], "a ROUTER only listens"),
                other => panic!("ZRE has no {other}"),
            }
        }
        conversations
    }
}

/// What a session of ours made of a stream.
struct Dialogue {
    peer: PeerProperties,
    messages: Vec<Multipart>,
}

impl Stream {
    /// Listens to a stream as its receiver, whole and in pieces, and checks that all of it is written alike.
    fn listen(&self) -> Dialogue {
        let outputs = self.outputs(usize::MAX);
        for size in [1, 2, 10, 11, 53, 64] {
            assert_eq!(self.outputs(size), outputs, "in pieces of {size}");
        }
        let mut outputs = outputs.into_iter();
        let Some(Output::Ready(peer)) = outputs.next() else { panic!("no handshake with {}", self.from) };
        let messages: Vec<Multipart> = outputs
            .map(|output| match output {
                Output::Message(message) => message,
                other => panic!("{other:?} from {}", self.from),
            })
            .collect();
        self.write_again(&peer, &messages);
        Dialogue { peer, messages }
    }

    fn outputs(&self, piece: usize) -> Vec<Output> {
        // The stream itself says who can listen to it.
        let is_dealer = self.bytes.windows(6).any(|bytes| bytes == b"DEALER");
        let ours = if is_dealer { SocketType::Router } else { SocketType::Dealer };
        let mut session = Session::new(SessionConfig::new(ours, Bytes::new()), Timestamp::ZERO);
        assert!(matches!(session.poll(), Some(Output::Transmit(_))));
        let mut outputs = Vec::new();
        let mut rest = self.bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(piece));
            session.handle(Timestamp::ZERO, Input::Received(piece));
            outputs.extend(std::iter::from_fn(|| session.poll()));
        }
        outputs
    }

    /// A session like the sender's sends the same bytes when it is given the same messages.
    fn write_again(&self, peer: &PeerProperties, messages: &[Multipart]) {
        let (frames, greeting) = frames_of(&self.bytes);
        assert_eq!(greeting.encode()[..], self.bytes[..Greeting::LEN]);
        assert_eq!(encode(&frames), self.bytes[Greeting::LEN..]);
        let Frame::Command(ready) = &frames[0] else { panic!("no READY from {}", self.from) };
        assert_eq!(Command::decode(ready.clone()).unwrap().encode(), ready);

        let config = SessionConfig::new(peer.socket_type.unwrap(), peer.identity.clone());
        let mut session = Session::new(config, Timestamp::ZERO);
        messages.iter().for_each(|message| session.send(message.clone()));
        let mut sent = BytesMut::new();
        let mut receiver = Some(Input::Received(receivers_part()));
        while let Some(output) = session.poll().or_else(|| {
            session.handle(Timestamp::ZERO, receiver.take()?);
            session.poll()
        }) {
            if let Output::Transmit(bytes) = output {
                sent.extend_from_slice(&bytes);
            }
        }
        assert_eq!(sent, self.bytes);
    }
}

/// Greeting and READY of a socket that anybody may talk to.
fn receivers_part() -> Bytes {
    let ready = Frame::Command(Command::Ready(Default::default()).encode());
    [&Greeting::null(0).encode()[..], &encode(&[ready])].concat().into()
}

/// Greeting and frames of a whole stream.
fn frames_of(stream: &Bytes) -> (Vec<Frame>, Greeting) {
    let greeting = Greeting::decode(stream).unwrap().unwrap();
    (frames_after(stream.slice(Greeting::LEN..)), greeting)
}

fn frames_after(mut stream: Bytes) -> Vec<Frame> {
    let mut framer = Framer::new(Limits::DEFAULT);
    framer.take_messages();
    let frames = std::iter::from_fn(|| framer.read(&mut stream).unwrap()).collect();
    assert!(framer.is_between_messages());
    frames
}

fn encode(frames: &[Frame]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for frame in frames {
        frame.put_header(&mut bytes);
        bytes.extend_from_slice(frame.body());
    }
    bytes
}

/// Reads a ZRE message, checks that it is written alike, and says what it says.
fn in_words(frames: Multipart) -> String {
    let message = Message::decode(frames.clone()).unwrap();
    assert_eq!(message.encode().unwrap(), frames);
    let text = |content: &[Bytes]| {
        let parts: Vec<String> = content.iter().map(|part| part.escape_ascii().to_string()).collect();
        parts.join("|")
    };
    let words = match &message.body {
        Body::Hello(hello) => {
            let groups: Vec<String> = hello.groups.iter().map(ToString::to_string).collect();
            let headers: Vec<String> = hello.headers.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let (endpoint, name, status) = (&hello.endpoint, &hello.name, hello.status);
            format!(
                "HELLO {endpoint} {name} in [{}] ({status}) with [{}]",
                groups.join(" "),
                headers.join(" ")
            )
        }
        Body::Whisper { content } => format!("WHISPER {}", text(content)),
        Body::Shout { group, content } => format!("SHOUT {group} {}", text(content)),
        Body::Join { group, status } => format!("JOIN {group} ({status})"),
        Body::Leave { group, status } => format!("LEAVE {group} ({status})"),
        Body::Ping => "PING".into(),
        Body::PingOk => "PING-OK".into(),
        Body::Goodbye => "GOODBYE".into(),
        other @ (Body::Elect { .. } | Body::Leader { .. }) => format!("{other:?}"),
    };
    format!("{} {words}", message.sequence)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn zyre_and_zyre() {
    let capture = capture!("zyre-zyre");
    assert_eq!(
        capture.beacons(),
        [
            "14x 10.77.0.1: C7446D35E1384F10BB67F58F903D0B85 at 49152",
            "15x 10.77.0.2: 82107CFA7DC24291B447FF1D0C32DFCA at 49152",
            "1x 10.77.0.1: C7446D35E1384F10BB67F58F903D0B85 leaves",
            "1x 10.77.0.2: 82107CFA7DC24291B447FF1D0C32DFCA leaves",
        ]
    );
    assert_eq!(
        capture.conversations(),
        [
            vec![
                "01c7446d35e1384f10bb67f58f903d0b85 to 10.77.0.2:49152",
                "1 HELLO tcp://10.77.0.1:49152 alice in [CHAT] (1) with [X-ROLE=demo]",
                "2 SHOUT CHAT hello group",
                "3 WHISPER hello bob",
                "4 WHISPER part1||part3",
                "5 PING-OK",
            ],
            vec![
                "0182107cfa7dc24291b447ff1d0c32dfca to 10.77.0.1:49152",
                "1 HELLO tcp://10.77.0.2:49152 bob in [CHAT] (1) with []",
                "2 JOIN ROOM (2)",
                "3 LEAVE ROOM (3)",
                "4 WHISPER hello alice",
                "5 PING",
            ],
        ]
    );
}

#[test]
fn zyre_and_pyre() {
    let capture = capture!("zyre-pyre");
    assert_eq!(
        capture.beacons(),
        [
            "17x 10.77.0.1: 256C23F3F1E44940A03B67DFFA4B258E at 49152",
            "17x 10.77.0.2: 9A762FEF11F341BD90E9E5C4B862671C at 35237",
            "1x 10.77.0.1: 256C23F3F1E44940A03B67DFFA4B258E leaves",
            "1x 10.77.0.2: 9A762FEF11F341BD90E9E5C4B862671C leaves",
        ]
    );
    assert_eq!(
        capture.conversations(),
        [
            vec![
                "01256c23f3f1e44940a03b67dffa4b258e to 10.77.0.2:35237",
                "1 HELLO tcp://10.77.0.1:49152 alice in [CHAT] (1) with [X-ROLE=demo]",
                "2 SHOUT CHAT hello group",
                "3 WHISPER hello bob",
                "4 PING",
                "5 PING",
            ],
            vec![
                "019a762fef11f341bd90e9e5c4b862671c to 10.77.0.1:49152",
                "1 HELLO tcp://10.77.0.2:35237 bob in [CHAT] (1) with []",
                "2 JOIN ROOM (2)",
                "3 LEAVE ROOM (3)",
                "4 WHISPER hello alice",
                "5 PING-OK",
                "6 PING-OK",
            ],
        ]
    );
}

#[test]
fn haskell_and_zyre() {
    let capture = capture!("hs-zyre");
    assert_eq!(
        capture.beacons(),
        [
            "15x 10.77.0.1: 7B6015F65E7043D182E8C7B24EAE7EFD at 49152",
            "15x 10.77.0.2: F310AC9DE57F11F18001323F20E00774 at 41094",
        ]
    );
    assert_eq!(
        capture.conversations(),
        [
            vec![
                "017b6015f65e7043d182e8c7b24eae7efd to 10.77.0.2:41094",
                "1 HELLO tcp://10.77.0.1:49152 alice in [CHAT] (1) with [X-ROLE=demo]",
                "2 PING-OK",
                "3 SHOUT CHAT hello group",
                "4 WHISPER hello hs",
                "5 PING-OK",
                "6 PING-OK",
            ],
            vec![
                "31f310ac9de57f11f18001323f20e00774 to 10.77.0.1:49152",
                "1 HELLO tcp://10.77.0.2:41094 hs1 in [] (0) with []",
                "2 PING",
                "3 JOIN CHAT (1)",
                "4 SHOUT CHAT fromhaskell",
                "5 PING",
                "6 LEAVE CHAT (2)",
                "7 PING",
            ],
        ]
    );
}

#[test]
fn zyre_and_a_gossip_hub() {
    let mut capture = capture!("zyre-gossip");
    let gossip = capture.take_port(5671);
    assert_eq!(gossip.len(), 4);
    let counts: Vec<usize> = gossip.iter().map(gossip_messages).collect();
    assert_eq!(counts, [3, 2, 4, 3]);
    assert_eq!(capture.beacons(), [""; 0]);
    assert_eq!(
        capture.conversations(),
        [
            vec![
                "01f234e644945046a3b234ffb243ede281 to 10.77.0.2:49152",
                "1 HELLO tcp://10.77.0.1:49152 alice in [CHAT] (1) with []",
                "2 SHOUT CHAT hello group",
            ],
            vec![
                "011c5e4e0ef96146a78269e3fdf83ccc14 to 10.77.0.1:49152",
                "1 HELLO tcp://10.77.0.2:49152 bob in [CHAT] (1) with []",
                "2 WHISPER hello alice",
                "3 GOODBYE",
            ],
            vec![
                "01611a3311ebac497fb6187797e49940b0 to 10.77.0.1:49152",
                "1 HELLO tcp://10.77.0.3:49152 carol in [CHAT] (1) with []",
                "2 PING-OK",
            ],
            vec![
                "01611a3311ebac497fb6187797e49940b0 to 10.77.0.2:49152",
                "1 HELLO tcp://10.77.0.3:49152 carol in [CHAT] (1) with []",
            ],
            vec![
                "01f234e644945046a3b234ffb243ede281 to 10.77.0.3:49152",
                "1 HELLO tcp://10.77.0.1:49152 alice in [CHAT] (1) with []",
                "2 SHOUT CHAT hello group",
                "3 PING",
            ],
            vec![
                "011c5e4e0ef96146a78269e3fdf83ccc14 to 10.77.0.3:49152",
                "1 HELLO tcp://10.77.0.2:49152 bob in [CHAT] (1) with []",
                "2 GOODBYE",
            ],
        ]
    );
}

#[test]
fn zyre_and_the_haskell_gossip_server() {
    let mut capture = capture!("hs-gossip");
    let gossip = capture.take_port(31337);
    let counts: Vec<usize> = gossip.iter().map(gossip_messages).collect();
    assert_eq!(counts, [2, 0, 2, 0]);
    assert_eq!(gossip[0].listen().peer.identity, "");
    assert_eq!(hex(&gossip[2].listen().peer.identity), "fd0dd4d4e57f11f18001323f20e00774");
    assert_eq!(capture.beacons(), ["9x 10.77.0.2: FD0DD4D4E57F11F18001323F20E00774 at 41030"]);
    assert_eq!(capture.conversations(), [] as [Vec<&str>; 0]);
}

/// How many messages there are in a stream of gossip. They are not ZRE's, and are known as such.
fn gossip_messages(stream: &Stream) -> usize {
    let messages = stream.listen().messages;
    for message in &messages {
        assert_eq!(Message::decode(message.clone()), Err(DecodeError::Signature { signature: 0xaaa0 }));
    }
    messages.len()
}

#[test]
fn pyre_across_a_repeater() {
    let mut capture = capture!("alidron-repeater");
    assert_eq!(
        capture.beacons(),
        [
            "13x 10.82.0.13: DCC5DFD3DF43438EA5B2880F53502220 at 49152",
            "12x 10.82.0.12: 9280535E246449DC8285178E11180706 at 42009",
            "14x 10.82.0.11: Repeated { origin: 10.81.0.12 }",
            "1x 10.82.0.12: 9280535E246449DC8285178E11180706 leaves",
            "1x 10.82.0.13: DCC5DFD3DF43438EA5B2880F53502220 leaves",
            "1x 10.82.0.11: Repeated { origin: 10.81.0.12 }",
        ]
    );
    // Between the repeaters: a beacon and its origin in each frame. The capture started after the handshake.
    let repeated = capture.take_port(2340);
    assert_eq!(repeated.len(), 2);
    for (stream, count) in repeated.iter().zip([27, 15]) {
        let frames = frames_after(stream.bytes.clone());
        assert_eq!(encode(&frames), stream.bytes);
        assert_eq!(frames.len(), count);
        for frame in &frames {
            assert!(matches!(frame, Frame::Part { more: false, .. }));
            let refused = Beacon::decode(frame.body());
            assert!(matches!(refused, Err(BeaconError::Repeated { .. })), "{refused:?}");
            assert!(Beacon::decode(&frame.body()[..Beacon::LEN]).is_ok());
        }
    }
    assert_eq!(
        capture.conversations(),
        [
            vec![
                "01dcc5dfd3df43438ea5b2880f53502220 to 10.82.0.12:42009",
                "1 HELLO tcp://10.82.0.13:49152 zC in [CHAT] (1) with []",
                "2 PING",
            ],
            vec![
                "019280535e246449dc8285178e11180706 to 10.82.0.13:49152",
                "1 HELLO tcp://10.82.0.12:42009 pyB in [CHAT] (1) with []",
                "2 SHOUT CHAT cross subnet",
                "3 PING-OK",
            ],
            vec![
                "019280535e246449dc8285178e11180706 to 10.81.0.12:43773",
                "1 HELLO tcp://10.82.0.12:42009 pyB in [CHAT] (1) with []",
                "2 SHOUT CHAT cross subnet",
            ],
            vec![
                "01eb5e3b02bde44b84bf51d3620e40ce1e to 10.82.0.12:42009",
                "1 HELLO tcp://10.81.0.12:43773 pyA in [CHAT] (1) with []",
            ],
            vec![
                "01eb5e3b02bde44b84bf51d3620e40ce1e to 10.82.0.13:49152",
                "1 HELLO tcp://10.81.0.12:43773 pyA in [CHAT] (1) with []",
                "2 PING-OK",
                "3 PING-OK",
            ],
            vec![
                "01dcc5dfd3df43438ea5b2880f53502220 to 10.81.0.12:43773",
                "1 HELLO tcp://10.82.0.13:49152 zC in [CHAT] (1) with []",
                "2 PING",
                "3 PING",
            ],
        ]
    );
}

#[test]
fn zyre_with_curve_is_refused_and_its_frames_are_read() {
    let capture = capture!("zyre-curve");
    assert_eq!(
        capture.beacons(),
        [
            "5x 10.77.0.1: Secure",
            "6x 10.77.0.2: Secure",
            "5x 10.77.0.3: F47823CB98A146108B6CBED18A5A8E76 at 49152",
            "1x 10.77.0.1: Secure",
            "1x 10.77.0.3: F47823CB98A146108B6CBED18A5A8E76 leaves",
            "1x 10.77.0.2: Secure",
        ]
    );
    let mut said = Vec::new();
    for stream in &capture.streams {
        let theirs = Mechanism::Curve;
        assert_eq!(stream.outputs(10), [Output::Failed(SessionError::Mechanism { theirs })]);
        let (frames, greeting) = frames_of(&stream.bytes);
        assert_eq!(greeting.encode()[..], stream.bytes[..Greeting::LEN]);
        assert_eq!(encode(&frames), stream.bytes[Greeting::LEN..]);
        let names: Vec<String> = frames
            .iter()
            .map(|frame| {
                // Messages are commands that do not say so.
                let (name, data) = Command::split(frame.body().clone()).unwrap();
                assert_eq!(matches!(frame, Frame::Command(_)), name != "MESSAGE");
                format!("{} {}", name.escape_ascii(), data.len())
            })
            .collect();
        said.push(names);
    }
    assert_eq!(
        said,
        [
            vec!["HELLO 194", "INITIATE 300", "MESSAGE 132", "MESSAGE 36", "MESSAGE 36"],
            vec!["WELCOME 160", "READY 59"],
            vec!["HELLO 194", "INITIATE 300", "MESSAGE 130", "MESSAGE 31", "MESSAGE 36"],
            vec!["WELCOME 160", "READY 59"],
        ]
    );
}
