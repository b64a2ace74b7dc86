//! Opening connections where packets get lost: several are tried side by side.
//!
//! It knows nothing of protocols. Those who call say what has to happen on a connection before it counts.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::{Alarm, Net};
use crate::Timestamp;

/// While nobody has answered, another connection is tried each time this has passed, at first: a lost SYN is sent again by
/// the kernel after a second at the earliest, what follows after 100 ms, and on a network that loses a third of its packets
/// two of three attempts lose one.
///
/// Later a quarter of the time that has passed is waited, because a network that is slow would only be slower. Once a
/// connection stands, three round trips, and twice and four times the step: what it waits for may be a program that is
/// busy.
pub(crate) const RACE_STEP: Duration = Duration::from_millis(50);
/// Connections that are tried, at most. With [`RACE_STEP`] the last goes out after 14 s.
const RACERS_MAX: usize = 24;

/// A connection that took longer has a history, or the network is slow: after a second the kernel repeats a SYN, and takes
/// the time since the first one for a round trip. What is lost next waits for three of those.
const FRESH: Duration = Duration::from_millis(950);

/// What has to happen before a connection counts.
pub(crate) type Racer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// A connection that took long.
struct Held<N: Net> {
    /// It counts from then on, if no other does.
    until: Timestamp,
    round_trip: Duration,
    stream: N::Stream,
}

/// Connects. The first that the other side takes counts.
///
/// # Errors
/// That of the network, when one attempt failed: the others would.
pub(crate) async fn connect<N: Net>(net: &N, to: SocketAddr, step: Duration) -> io::Result<N::Stream> {
    race(net, to, step, &|stream| Box::pin(async { Ok(stream) })).await
}

/// Connects and greets, trying anew beside attempts that got no answer yet. The first whose greeting came to something
/// counts, be that a refusal; the others are given up.
///
/// A connection that took long is held for a moment, while others are tried: now something comes through, and if the network
/// is not slow, one of them is there at once.
///
/// # Errors
/// What the first said that failed.
pub(crate) async fn race<N: Net, T, E: From<io::Error>>(
    net: &N,
    to: SocketAddr,
    step: Duration,
    greet: &impl Fn(N::Stream) -> Racer<T, E>,
) -> Result<T, E> {
    let mut callers: Vec<(Timestamp, Racer<N::Stream, io::Error>)> = Vec::new();
    let mut held: Option<Held<N>> = None;
    let mut listeners: Vec<Racer<T, E>> = Vec::new();
    let patience = |round_trip: Duration, listeners: usize| {
        let busy = step * 2_u32.pow(listeners.min(2) as u32);
        busy.max(round_trip * 3)
    };
    let start = net.now();
    let mut next = start;
    let mut started = 0;
    let mut alarm = net.alarm();
    poll_fn(|context| {
        loop {
            let now = net.now();
            if let Some(slow) = held.take_if(|held| held.until <= now) {
                callers.clear();
                listeners.push(greet(slow.stream));
                next = now.after(patience(slow.round_trip, listeners.len()));
            }
            if started < RACERS_MAX && next <= now {
                started += 1;
                let hurry = if held.is_some() { Duration::ZERO } else { now.since(start) / 4 };
                next = now.after(step.max(hurry));
                let net = net.clone();
                callers.push((now, Box::pin(async move { net.connect(to, None).await })));
            }
            let mut index = 0;
            while let Some((since, caller)) = callers.get_mut(index) {
                let Poll::Ready(outcome) = caller.as_mut().poll(context) else {
                    index += 1;
                    continue;
                };
                let round_trip = now.since(*since);
                drop(callers.remove(index));
                let stream = match outcome {
                    Ok(stream) => stream,
                    Err(error) => return Poll::Ready(Err(error.into())),
                };
                if round_trip >= FRESH && held.is_none() && started < RACERS_MAX {
                    // What was lost of the others would be repeated as late, and what was not has no need to come.
                    callers.clear();
                    let until = now.after((step * 4).min(round_trip / 4));
                    held = Some(Held { until, round_trip, stream });
                    next = now;
                    continue;
                }
                // Those that were sent out after it were only on their way.
                callers.clear();
                held = None;
                listeners.push(greet(stream));
                next = now.after(patience(round_trip, listeners.len()));
            }
            for listener in &mut listeners {
                if let Poll::Ready(outcome) = listener.as_mut().poll(context) {
                    return Poll::Ready(outcome);
                }
            }
            let another = (started < RACERS_MAX).then_some(next);
            let release = held.as_ref().map(|held| held.until);
            alarm.set([another, release].into_iter().flatten().min());
            if alarm.poll_ring(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}
