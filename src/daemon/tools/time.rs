//! `hailer time`: says each second what time it is, to the group `time`, as zretime.

use std::future::Future;
use std::io;
use std::time::Duration;

use super::super::output::Output;
use super::Ticks;
use crate::net::Net;
use crate::zre::{Events, Node};

/// Where the time is told.
pub(in crate::daemon) const GROUP: &str = "time";

/// Tells the time until `stop` is ready. The node is in [`GROUP`].
pub(in crate::daemon) async fn run<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut seconds = Ticks::new(net, Duration::from_secs(1));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            event = events.next() => match event {
                Some(event) => output.event(&event)?,
                None => return Ok(()),
            },
            () = seconds.next() => {
                node.shout(GROUP, written(jiff::Timestamp::now())).await.map_err(io::Error::other)?;
            }
        }
    }
}

/// As Haskell shows a time.
fn written(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_zretime_does() {
        let time = "2024-01-01T12:00:00.1234Z".parse().unwrap();
        assert_eq!(written(time), "2024-01-01 12:00:00.123 UTC");
    }
}
