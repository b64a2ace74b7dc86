//! `hailer cat`: standard input goes to groups, and what groups say goes to standard output, byte for byte.
//!
//! As zrecat: a block of input as it was read is a message of one frame, and content is printed without anything added.
//! Neither keeps lines together; who needs that ends them with a newline and puts no more than 128 KiB into one.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use super::super::output::Output;
use crate::net::{Alarm, Net};
use crate::zre::{Event, Events, Node};

/// The most bytes of input in one message, as zrecat.
const BLOCK: usize = 128 << 10;

/// What is copied where.
#[derive(Debug)]
pub(in crate::daemon) struct Cat {
    /// The node is in these.
    pub(in crate::daemon) groups: Vec<String>,
    /// How long peers are given to be found before anything is said.
    pub(in crate::daemon) wait: Duration,
    /// Whether to go on listening when the input has ended.
    pub(in crate::daemon) stay: bool,
}

/// Copies until the input ends or `stop` is ready.
pub(in crate::daemon) async fn run<N: Net>(
    net: &N,
    (node, events): (&Node, &mut Events),
    output: &Output,
    cat: Cat,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut input = tokio::io::stdin();
    let mut block = vec![0; BLOCK];
    let mut patience = net.alarm();
    patience.set(Some(net.now().after(cat.wait)));
    let (mut has_waited, mut has_ended) = (false, false);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            event = events.next() => match event {
                Some(event) => show(output, &cat.groups, event)?,
                None => return Ok(()),
            },
            () = patience.ring(), if !has_waited => has_waited = true,
            read = input.read(&mut block), if has_waited && !has_ended => match read? {
                0 if cat.stay => has_ended = true,
                0 => return Ok(()),
                len => {
                    let content = Bytes::copy_from_slice(&block[..len]);
                    for group in &cat.groups {
                        node.shout(group.as_str(), content.clone()).await.map_err(io::Error::other)?;
                    }
                }
            },
        }
    }
}

fn show(output: &Output, groups: &[String], event: Event) -> io::Result<()> {
    match &event {
        Event::Shout { group, content, .. } if groups.iter().any(|ours| *group == ours.as_str()) => {
            output.content(&event, content)
        }
        Event::Whisper { content, .. } => output.content(&event, content),
        _ => output.event(&event),
    }
}
