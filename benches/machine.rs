//! What a node's decisions cost: a beacon of a known peer (the commonest input by far), a message, a shout.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hailer::Timestamp;
use hailer::machine::Machine;
use hailer::zre::beacon::Beacon;
use hailer::zre::machine::{Command, InboundLink, Input, NodeMachine};
use hailer::zre::message::{Body, Hello, Message};
use hailer::zre::{Config, Content, Endpoint, Headers, Limits, PeerId, Text};

const NOW: Timestamp = Timestamp::from_millis(1);

fn peer(number: usize) -> PeerId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    PeerId::from_bytes(bytes)
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0A00_0000 + number as u32)), 49152)
}

fn handle(machine: &mut NodeMachine, now: Timestamp, input: Input) -> usize {
    machine.handle(now, input);
    std::iter::from_fn(|| machine.poll()).count()
}

/// A node that `peers` peers have introduced themselves to, each in group ALL.
fn node(peers: usize) -> NodeMachine {
    let limits = Limits { new_peers_per_second: 1_000_000, peers_not_ready: 1_000_000, ..Limits::default() };
    let mut machine =
        NodeMachine::new(Config::default(), limits, peer(0), address(0).into(), 1, Timestamp::ZERO)
            .expect("the default configuration is right");
    for number in 1..=peers {
        let identity = [&[1], peer(number).as_bytes().as_slice()].concat();
        let link = InboundLink::from_number(number as u64);
        handle(
            &mut machine,
            NOW,
            Input::InboundOpened { link, identity: identity.into(), remote: address(number) },
        );
        let hello = Hello {
            endpoint: Text::from(Endpoint::from(address(number)).to_string()),
            groups: vec![Text::from("ALL")],
            status: 1,
            name: Text::from("peer"),
            headers: Headers::new(),
        };
        let frames =
            Message { sequence: 1, body: Body::Hello(hello) }.encode().expect("it is within its limits");
        handle(&mut machine, NOW, Input::Received { link, frames });
    }
    assert_eq!(machine.peers().count(), peers);
    machine
}

fn beacon_of_a_known_peer(c: &mut Criterion) {
    let mut group = c.benchmark_group("beacon of a known peer");
    for peers in [30, 1000] {
        let mut machine = node(peers);
        let beacon = Beacon { peer: peer(peers / 2), port: 49152 };
        let from = address(peers / 2);
        group.bench_function(BenchmarkId::from_parameter(peers), |b| {
            b.iter(|| {
                let heard = Beacon::decode(black_box(&beacon.encode()));
                handle(&mut machine, NOW, Input::Beacon { from, beacon: heard })
            });
        });
    }
    group.finish();
}

fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    let mut machine = node(30);
    let mut sequence = 1_u16;
    group.bench_function("receive a whisper", |b| {
        b.iter_batched(
            || {
                sequence = sequence.wrapping_add(1);
                let body = Body::Whisper { content: vec![Bytes::from_static(b"0123456789")] };
                Message { sequence, body }.encode().expect("it is within its limits")
            },
            |frames| handle(&mut machine, NOW, Input::Received { link: InboundLink::from_number(5), frames }),
            BatchSize::SmallInput,
        );
    });
    for peers in [4, 30, 100] {
        let mut machine = node(peers);
        let content = Content::from(Bytes::from(vec![b'x'; 1024]));
        group.throughput(Throughput::Elements(peers as u64));
        group.bench_function(BenchmarkId::new("shout 1 KiB to", peers), |b| {
            b.iter(|| {
                let command = Command::Shout { group: Text::from("ALL"), content: content.clone() };
                handle(&mut machine, NOW, Input::Command(command))
            });
        });
    }
    group.finish();
}

fn second_of_an_idle_node(c: &mut Criterion) {
    let mut group = c.benchmark_group("idle second");
    for peers in [30, 1000] {
        let mut machine = node(peers);
        let mut now = NOW;
        group.bench_function(BenchmarkId::from_parameter(peers), |b| {
            b.iter(|| {
                now = now.after(Duration::from_secs(1));
                for number in 1..=peers {
                    let beacon = Ok(Beacon { peer: peer(number), port: 49152 });
                    handle(&mut machine, now, Input::Beacon { from: address(number), beacon });
                }
                handle(&mut machine, now, Input::Timeout)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, beacon_of_a_known_peer, messages, second_of_an_idle_node);
criterion_main!(benches);
