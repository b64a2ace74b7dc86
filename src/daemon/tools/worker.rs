//! `hailer worker`: works for the group that somebody whispers to it, as zreworker of the Haskell examples.

use std::future::Future;
use std::io;
use std::time::Duration;

use super::super::output::Output;
use super::Ticks;
use crate::net::Net;
use crate::zre::{Event, Events, Node, Text};

/// Where work is shown.
const GROUP: &str = "work";
/// What is said there, each second.
const WORK: &str = "woooorkwoooorkwoooorkwoooorkwoooorkwoooorkwoooorkwoooorkwoooorkwoooork";

/// Shows events and does what it is told until `stop` is ready.
pub(in crate::daemon) async fn run<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut seconds = Ticks::new(net, Duration::from_secs(1));
    let mut has_work = false;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            event = events.next() => {
                let Some(event) = event else { return Ok(()) };
                output.event(&event)?;
                if let Event::Whisper { content, .. } = event
                    && let Some(group) = content.into_iter().next()
                {
                    // A name that no group can have is no order.
                    if node.join(Text::from(group)).await.is_ok() {
                        has_work = true;
                    } else {
                        output.remark("the whisper names no group");
                    }
                }
            }
            () = seconds.next() => {
                if has_work {
                    node.shout(GROUP, WORK).await.map_err(io::Error::other)?;
                }
            }
        }
    }
}
