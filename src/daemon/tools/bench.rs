//! `hailer bench`: messages a second and round trips between nodes.
//!
//! One node serves: it counts what it is told, sends back what asks for an echo, and tells its count when asked. The
//! other whispers as fast as it may (it is held back when the queue to the peer is half full), asks for the count, which
//! comes after everything before it, and divides by the time that took. Then it lets one message at a time go to and fro.
//! Shouts are measured likewise, with several that serve.

use std::future::Future;
use std::io;

use bytes::Bytes;
use serde_json::json;

use super::super::output::Output;
use super::{in_ms, quantile};
use crate::Timestamp;
use crate::net::Net;
use crate::zre::{Event, Events, Node, PeerId};

/// Where servers are found.
pub(in crate::daemon) const GROUP: &str = "hailer-bench";

const COUNT_ME: u8 = b'C';
const ECHO: u8 = b'E';
const TELL: u8 = b'T';

/// What is measured.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Bench {
    /// Sizes of messages in bytes.
    pub(in crate::daemon) bytes: Vec<usize>,
    /// How many messages of each size are sent as fast as possible.
    pub(in crate::daemon) messages: u32,
    /// How many go to and fro.
    pub(in crate::daemon) round_trips: u32,
    /// Who serves.
    pub(in crate::daemon) servers: Servers,
}

/// Who serves, and so whether it is whispered or shouted.
#[derive(Clone, Debug)]
pub(in crate::daemon) enum Servers {
    /// The node of this name, or the first that is found.
    One(Option<String>),
    /// So many.
    Many(usize),
}

/// Serves until `stop` is ready. The node is in [`GROUP`].
pub(in crate::daemon) async fn serve(
    (node, events): (&Node, &mut Events),
    output: &Output,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut counted: u64 = 0;
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            event = events.next() => event,
        };
        match event {
            None => return Ok(()),
            Some(Event::Whisper { peer, content, .. } | Event::Shout { peer, content, .. }) => {
                let answer: Option<Bytes> = match content.first().and_then(|frame| frame.first()) {
                    Some(&COUNT_ME) => {
                        counted += 1;
                        None
                    }
                    Some(&ECHO) => content.into_iter().next(),
                    Some(&TELL) => Some(std::mem::take(&mut counted).to_string().into()),
                    _ => None,
                };
                if let Some(answer) = answer {
                    // Who has gone in the meantime wants no answer.
                    let _ = node.whisper(peer, answer).await;
                }
            }
            Some(event) => output.event(&event)?,
        }
    }
}

/// Waits for servers, measures with them, and tells.
pub(in crate::daemon) async fn run<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    bench: Bench,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let wanted = match &bench.servers {
        Servers::One(Some(name)) => Some(format!("{name}: hailer bench --serve --name {name}")),
        Servers::Many(count) => Some(format!("{count} that serve: hailer bench --serve")),
        Servers::One(None) => None,
    };
    // Others, zyre and pyre among them, do not serve, and would be waited for in vain.
    if let Some(wanted) = wanted {
        output.remark(&format!("waiting for {wanted}; Ctrl-C ends"));
    }
    let measuring = async {
        match &bench.servers {
            Servers::One(name) => whispers(net, (node, events), output, &bench, name.as_deref()).await,
            Servers::Many(count) => shouts(net, (node, events), output, &bench, *count).await,
        }
    };
    tokio::pin!(stop);
    tokio::select! {
        biased;
        () = &mut stop => Ok(()),
        outcome = measuring => outcome,
    }
}

async fn whispers<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    bench: &Bench,
    name: Option<&str>,
) -> io::Result<()> {
    let server = find(events, name, 1).await?[0];
    for &bytes in &bench.bytes {
        let (count, load) = (bench.messages, load(bytes));
        let since = net.now();
        for _ in 0..count {
            node.whisper(server, load.clone()).await.map_err(io::Error::other)?;
        }
        let arrived = ask_counts(node, events, &[server]).await?[0];
        let rate = arrived as f64 / net.now().since(since).as_secs_f64();
        let times = echo(net, (node, events), server, bytes, bench.round_trips).await?;
        let of = |fraction| in_ms(quantile(&times, fraction));
        let (median, p99) = (of(0.5), of(0.99));
        let megabytes = rate * bytes as f64 / 1e6;
        output.told(
            || {
                json!({ "event": "BENCH", "bytes": bytes, "sent": count, "arrived": arrived,
                        "messages_per_s": rate.round(), "megabytes_per_s": (megabytes * 10.0).round() / 10.0,
                        "round_trip_ms": { "median": median, "p99": p99, "count": times.len() } })
            },
            || {
                format!(
                    "{bytes:>8} bytes  {rate:>9.0} messages/s  {megabytes:>8.1} MB/s  round trip median {median} ms, \
                     p99 {p99} ms  ({arrived} of {count} arrived)",
                )
            },
        )?;
    }
    Ok(())
}

/// Rates are of shouts, each of which arrives at every member, until the last member has all.
async fn shouts<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    bench: &Bench,
    members: usize,
) -> io::Result<()> {
    let servers = find(events, None, members).await?;
    for &bytes in &bench.bytes {
        let (count, load) = (bench.messages, load(bytes));
        let since = net.now();
        for _ in 0..count {
            node.shout(GROUP, load.clone()).await.map_err(io::Error::other)?;
        }
        let counts = ask_counts(node, events, &servers).await?;
        let arrived = counts.iter().min().copied().unwrap_or_default();
        let rate = arrived as f64 / net.now().since(since).as_secs_f64();
        let megabytes = rate * bytes as f64 / 1e6;
        output.told(
            || {
                json!({ "event": "BENCH", "bytes": bytes, "members": members, "sent": count, "arrived": arrived,
                        "messages_per_s": rate.round(), "megabytes_per_s": (megabytes * 10.0).round() / 10.0 })
            },
            || {
                format!(
                    "{bytes:>8} bytes  {rate:>9.0} messages/s  {megabytes:>8.1} MB/s to each of {members} members  \
                     ({arrived} of {count} arrived at every one)",
                )
            },
        )?;
    }
    Ok(())
}

/// What is counted, with so many bytes.
fn load(bytes: usize) -> Bytes {
    Bytes::from([&[COUNT_ME][..], &vec![0; bytes.saturating_sub(1)]].concat())
}

/// How many messages each server has counted since it was asked last.
async fn ask_counts(node: &Node, events: &mut Events, servers: &[PeerId]) -> io::Result<Vec<u64>> {
    for &server in servers {
        node.whisper(server, Bytes::from_static(&[TELL])).await.map_err(io::Error::other)?;
    }
    let mut counts = vec![None; servers.len()];
    while counts.iter().any(Option::is_none) {
        let (from, told) = answer(events, servers).await?;
        let told = std::str::from_utf8(&told).ok().and_then(|told| told.parse().ok()).unwrap_or(0);
        if let Some(place) = servers.iter().position(|server| *server == from) {
            counts[place] = Some(told);
        }
    }
    Ok(counts.into_iter().flatten().collect())
}

/// Waits until so many servers are there; with a name it is one.
async fn find(events: &mut Events, wanted: Option<&str>, count: usize) -> io::Result<Vec<PeerId>> {
    let mut found = Vec::new();
    while found.len() < count {
        match events.next().await {
            Some(Event::Join { peer, name, group })
                if group == GROUP && wanted.is_none_or(|wanted| name == *wanted) =>
            {
                found.push(peer);
            }
            Some(Event::Exit { peer, .. }) => found.retain(|other| *other != peer),
            Some(_) => {}
            None => return Err(io::Error::other("the node has stopped")),
        }
    }
    Ok(found)
}

/// The next thing that one of the servers whispers, and which.
async fn answer(events: &mut Events, servers: &[PeerId]) -> io::Result<(PeerId, Bytes)> {
    loop {
        match events.next().await {
            Some(Event::Whisper { peer, content, .. }) if servers.contains(&peer) => {
                return Ok((peer, content.into_iter().next().unwrap_or_default()));
            }
            Some(Event::Exit { peer, reason, .. }) if servers.contains(&peer) => {
                return Err(io::Error::other(format!("the other node is gone ({reason})")));
            }
            Some(_) => {}
            None => return Err(io::Error::other("the node has stopped")),
        }
    }
}

/// Times of messages that go to and fro one by one, sorted.
async fn echo<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    server: PeerId,
    bytes: usize,
    count: u32,
) -> io::Result<Vec<std::time::Duration>> {
    let load = Bytes::from([&[ECHO][..], &vec![0; bytes.saturating_sub(1)]].concat());
    let mut times = Vec::new();
    for _ in 0..count {
        let since: Timestamp = net.now();
        node.whisper(server, load.clone()).await.map_err(io::Error::other)?;
        answer(events, &[server]).await?;
        times.push(net.now().since(since));
    }
    times.sort_unstable();
    Ok(times)
}
