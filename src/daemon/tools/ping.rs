//! `hailer ping`: how long peers take to answer, with ZRE's own PING, which every implementation answers.
//!
//! It is the time through both nodes and both connections; what waits in them is part of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use serde_json::json;

use super::super::output::Output;
use super::{Ticks, in_ms, quantile};
use crate::net::{Alarm, Net};
use crate::zre::{CommandError, Events, Node, PeerId};

/// An answer that takes longer than this is counted as none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to ask and how often.
#[derive(Debug)]
pub(in crate::daemon) struct Ping {
    /// Names or starts of identities; without any, everybody.
    pub(in crate::daemon) peers: Vec<String>,
    /// How many rounds; without it, until stopped.
    pub(in crate::daemon) count: Option<u32>,
    /// Time between two rounds.
    pub(in crate::daemon) interval: Duration,
}

/// What one peer answered.
#[derive(Debug, Default)]
struct Tally {
    name: String,
    asked: u32,
    times: Vec<Duration>,
}

type Answer = (PeerId, Option<Duration>);

/// Asks in rounds until all are done or `stop` is ready, and sums up.
pub(in crate::daemon) async fn run<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    ping: Ping,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut tallies: BTreeMap<PeerId, Tally> = BTreeMap::new();
    let mut pending: Vec<Pin<Box<dyn Future<Output = Answer> + Send>>> = Vec::new();
    let mut rounds = Ticks::new(net, ping.interval);
    let mut done = 0;
    tokio::pin!(stop);
    loop {
        // The last answers are waited for.
        let is_over = ping.count.is_some_and(|count| done >= count);
        if is_over && pending.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            () = &mut stop => break,
            event = events.next() => match event {
                Some(event) if output.is_json() => output.event(&event)?,
                Some(_) => {}
                None => break,
            },
            (peer, time) = first_of(&mut pending), if !pending.is_empty() => {
                let tally = tallies.entry(peer).or_default();
                tally.times.extend(time);
                output.told(
                    || json!({ "event": "PONG", "peer": peer.to_string(), "name": tally.name, "ms": time.map(in_ms) }),
                    || match time {
                        Some(time) => format!("{}: {} ms", tally.name, in_ms(time)),
                        None => format!("{}: no answer", tally.name),
                    },
                )?;
            }
            () = rounds.next(), if !is_over => {
                let peers = node.peers().await.map_err(io::Error::other)?;
                let is_meant = |name: &str, id: &str| {
                    ping.peers.is_empty()
                        || ping.peers.iter().any(|it| it == name || id.starts_with(&it.to_ascii_uppercase()))
                };
                let mut asked = 0;
                for info in peers {
                    let (id, name) = (info.peer, info.name.to_string());
                    if !is_meant(&name, &id.to_string()) {
                        continue;
                    }
                    asked += 1;
                    let tally = tallies.entry(id).or_default();
                    tally.name = name;
                    tally.asked += 1;
                    pending.push(Box::pin(ask(net.clone(), node.clone(), id)));
                }
                // Rounds count from when there is somebody.
                done += u32::from(asked > 0);
            }
        }
    }
    sum_up(output, tallies)
}

async fn ask<N: Net>(net: N, node: Node, peer: PeerId) -> Answer {
    let mut patience = net.alarm();
    patience.set(Some(net.now().after(PATIENCE)));
    let answer: Result<Duration, CommandError> = tokio::select! {
        biased;
        answer = node.ping(peer) => answer,
        () = patience.ring() => return (peer, None),
    };
    (peer, answer.ok())
}

/// Waits for the first of these to be done, and takes it out.
async fn first_of<T>(pending: &mut Vec<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    std::future::poll_fn(|context| {
        for index in 0..pending.len() {
            if let std::task::Poll::Ready(value) = pending[index].as_mut().poll(context) {
                drop(pending.swap_remove(index));
                return std::task::Poll::Ready(value);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn sum_up(output: &Output, tallies: BTreeMap<PeerId, Tally>) -> io::Result<()> {
    for (peer, Tally { name, asked, mut times }) in tallies {
        times.sort_unstable();
        let answered = times.len();
        let of = |fraction| in_ms(quantile(&times, fraction));
        let (min, median, max) = (times.first().copied().map_or(0.0, in_ms), of(0.5), of(1.0));
        output.told(
            || {
                json!({ "event": "SUMMARY", "peer": peer.to_string(), "name": name, "asked": asked,
                        "answered": answered, "min_ms": min, "median_ms": median, "max_ms": max })
            },
            || match answered {
                0 => format!("{name}: {asked} asked, none answered"),
                _ => format!(
                    "{name}: {asked} asked, {answered} answered, min {min} ms, median {median} ms, max {max} ms"
                ),
            },
        )?;
    }
    Ok(())
}
