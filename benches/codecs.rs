//! What encoding and decoding cost: beacons, ZMTP frames, ZRE messages.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hailer::Timestamp;
use hailer::machine::Machine;
use hailer::zmtp::{Input, Output, Session, SessionConfig, SocketType};
use hailer::zre::beacon::Beacon;
use hailer::zre::message::{Body, Hello, Message};
use hailer::zre::{PeerId, Text};

fn beacon(c: &mut Criterion) {
    let beacon = Beacon { peer: PeerId::from_bytes([7; 16]), port: 49152 };
    let bytes = beacon.encode();
    let mut group = c.benchmark_group("beacon");
    group.bench_function("encode", |b| b.iter(|| black_box(&beacon).encode()));
    group.bench_function("decode", |b| b.iter(|| Beacon::decode(black_box(&bytes))));
    group.finish();
}

fn hello() -> Message {
    let headers =
        [("X-ROLE", "demo"), ("X-SITE", "lab 3")].map(|(key, value)| (Text::from(key), Text::from(value)));
    Message {
        sequence: 1,
        body: Body::Hello(Hello {
            endpoint: Text::from("tcp://192.168.1.10:49152"),
            groups: ["CHAT", "GLOBAL", "ROBOTS"].map(Text::from).to_vec(),
            status: 3,
            name: Text::from("node1"),
            headers: headers.into_iter().collect(),
        }),
    }
}

fn shout(bytes: usize) -> Message {
    let content = vec![Bytes::from(vec![b'x'; bytes])];
    Message { sequence: 9, body: Body::Shout { group: Text::from("CHAT"), content } }
}

fn message(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    for (name, message) in [("hello", hello()), ("shout 10 B", shout(10)), ("shout 64 KiB", shout(65_536))] {
        let frames = message.encode().expect("the message is within its limits");
        group.bench_function(format!("encode {name}"), |b| b.iter(|| black_box(&message).encode()));
        group.bench_function(format!("decode {name}"), |b| {
            b.iter_batched(
                || frames.clone(),
                |frames| Message::decode(black_box(frames)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A ROUTER session whose handshake is done, and the bytes of `count` messages from its DEALER.
fn established(count: usize, bytes: usize) -> (Session, Bytes) {
    let session = |socket_type, identity: &'static [u8]| {
        let identity = Bytes::from_static(identity);
        Session::new(SessionConfig::new(socket_type, identity), Timestamp::ZERO)
    };
    let mut dealer = session(SocketType::Dealer, b"\x010123456789abcdef");
    let mut router = session(SocketType::Router, b"");
    let mut moved = true;
    while moved {
        moved = false;
        for (from, to) in [(true, false), (false, true)] {
            let (sender, receiver) =
                if from && !to { (&mut dealer, &mut router) } else { (&mut router, &mut dealer) };
            while let Some(output) = sender.poll() {
                if let Output::Transmit(sent) = output {
                    receiver.handle(Timestamp::ZERO, Input::Received(sent));
                    moved = true;
                }
            }
        }
    }
    for _ in 0..count {
        dealer.handle(Timestamp::ZERO, Input::Send(shout(bytes).encode().expect("within its limits")));
    }
    let mut stream = Vec::new();
    while let Some(output) = dealer.poll() {
        if let Output::Transmit(sent) = output {
            stream.extend_from_slice(&sent);
        }
    }
    (router, Bytes::from(stream))
}

fn session(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    for (name, bytes) in [("10 B", 10), ("1 KiB", 1024), ("64 KiB", 65_536)] {
        const COUNT: usize = 100;
        group.throughput(Throughput::Elements(COUNT as u64));
        group.bench_function(format!("receive {name}"), |b| {
            b.iter_batched(
                || established(COUNT, bytes),
                |(mut router, stream)| {
                    let mut received = 0;
                    for start in (0..stream.len()).step_by(65_536) {
                        let chunk = stream.slice(start..stream.len().min(start + 65_536));
                        router.handle(Timestamp::ZERO, Input::Received(chunk));
                        while let Some(output) = router.poll() {
                            received += usize::from(matches!(output, Output::Message(_)));
                        }
                    }
                    assert_eq!(received, COUNT);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, beacon, message, session);
criterion_main!(benches);
