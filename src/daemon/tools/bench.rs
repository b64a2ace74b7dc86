//! `hailer bench`: messages a second and round trips between two nodes.
//!
//! One node serves: it counts what it is whispered, sends back what asks for an echo, and tells its count when asked. The
//! other whispers as fast as it may (it is held back when the queue to the peer is half full), asks for the count, which
//! comes after everything before it, and divides by the time that took. Then it lets one message at a time go to and fro.

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
            Some(Event::Whisper { peer, content, .. }) => {
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

/// Waits for a server, measures with it, and tells. `peer` is its name; without one it is the first in the group.
pub(in crate::daemon) async fn run<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    (bench, peer): (Bench, Option<String>),
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let measuring = async {
        let server = find(events, peer.as_deref()).await?;
        for bytes in bench.bytes {
            let count = u64::from(bench.messages);
            let load = Bytes::from([&[COUNT_ME][..], &vec![0; bytes.saturating_sub(1)]].concat());
            let since = net.now();
            for _ in 0..count {
                node.whisper(server, load.clone()).await.map_err(io::Error::other)?;
            }
            node.whisper(server, Bytes::from_static(&[TELL])).await.map_err(io::Error::other)?;
            let told = answer(events, server).await?;
            let seconds = net.now().since(since).as_secs_f64();
            let arrived: u64 =
                std::str::from_utf8(&told).ok().and_then(|told| told.parse().ok()).unwrap_or(0);
            let rate = arrived as f64 / seconds;
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
                        "{bytes:>8} bytes  {:>9.0} messages/s  {megabytes:>8.1} MB/s  round trip median {median} ms, \
                         p99 {p99} ms  ({arrived} of {count} arrived)",
                        rate
                    )
                },
            )?;
        }
        Ok(())
    };
    tokio::pin!(stop);
    tokio::select! {
        biased;
        () = &mut stop => Ok(()),
        outcome = measuring => outcome,
    }
}

/// Waits until a server is there.
async fn find(events: &mut Events, wanted: Option<&str>) -> io::Result<PeerId> {
    loop {
        match events.next().await {
            Some(Event::Join { peer, name, group })
                if group == GROUP && wanted.is_none_or(|wanted| name == *wanted) =>
            {
                return Ok(peer);
            }
            Some(_) => {}
            None => return Err(io::Error::other("the node has stopped")),
        }
    }
}

/// The next thing that the server whispers.
async fn answer(events: &mut Events, server: PeerId) -> io::Result<Bytes> {
    loop {
        match events.next().await {
            Some(Event::Whisper { peer, content, .. }) if peer == server => {
                return Ok(content.into_iter().next().unwrap_or_default());
            }
            Some(Event::Exit { peer, reason, .. }) if peer == server => {
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
        answer(events, server).await?;
        times.push(net.now().since(since));
    }
    times.sort_unstable();
    Ok(times)
}
