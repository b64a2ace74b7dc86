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
/// the kernel after a second at the earliest, what follows after 200 ms, and on a network that loses a third of its packets
/// two of three attempts lose one.
///
/// Later a quarter of the time that has passed is waited, because a network that is slow would only be slower. Once a
/// connection stands, three round trips, and twice and four times the step: what it waits for may be a program that is
/// busy.
pub(crate) const RACE_STEP: Duration = Duration::from_millis(50);
/// Connections that are tried, at most. With [`RACE_STEP`] the last goes out after 14 s.
const RACERS_MAX: usize = 24;

/// What has to happen before a connection counts.
pub(crate) type Racer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Connects. The first that the other side takes counts, and has no history: TCP takes the time of a handshake that had to
/// be repeated for the network's, or else for unknown, and waits for seconds when it loses something next.
///
/// # Errors
/// That of the network, when one attempt failed: the others would.
pub(crate) async fn connect<N: Net>(net: &N, to: SocketAddr, step: Duration) -> io::Result<N::Stream> {
    race(net, to, step, &|stream| Box::pin(async { Ok(stream) })).await
}

/// Connects and greets, trying anew beside attempts that got no answer yet. The first whose greeting came to something
/// counts, be that a refusal; the others are given up.
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
    let mut listeners: Vec<Racer<T, E>> = Vec::new();
    let start = net.now();
    let mut started = 0;
    let mut alarm = net.alarm();
    alarm.set(Some(start));
    poll_fn(|context| {
        while started < RACERS_MAX && alarm.poll_ring(context).is_ready() {
            let now = net.now();
            alarm.set(Some(now.after(step.max(now.since(start) / 4))));
            started += 1;
            let net = net.clone();
            callers.push((now, Box::pin(async move { net.connect(to, None).await })));
        }
        let mut index = 0;
        while let Some((since, caller)) = callers.get_mut(index) {
            let Poll::Ready(outcome) = caller.as_mut().poll(context) else {
                index += 1;
                continue;
            };
            let (now, round_trip) = (net.now(), net.now().since(*since));
            drop(callers.remove(index));
            listeners.push(match outcome {
                Ok(stream) => greet(stream),
                Err(error) => return Poll::Ready(Err(error.into())),
            });
            // Those that were sent out after it were only on their way.
            callers.clear();
            let busy = step * 2_u32.pow(listeners.len().min(2) as u32);
            alarm.set(Some(now.after(busy.max(round_trip * 3))));
        }
        for listener in &mut listeners {
            if let Poll::Ready(outcome) = listener.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}
