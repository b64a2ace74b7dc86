//! Answers health checks, byte for byte as pir does, and hands out lists to members of our kind.
//!
//! A zero byte is answered with a zero byte. Another first byte ends the connection, unless it begins a request for a list.
//! pir holds an idle connection for ever; here each has a few seconds, and there are never more than a few hundred.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use super::announcement::{GroupName, MemberId};
use super::check::HEALTHY;
use super::limits;
use super::message::{self, LINE_BYTES_MAX, LINES_MAX, List};
use crate::net::{Alarm, Net, TcpListener};

/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest request: a group's name and an identity.
const REQUEST_BYTES_MAX: usize = 512;
/// How many bytes a list may have. It is one of an ordinary network.
const LIST_BYTES_MAX: usize = LINES_MAX * 200;

/// Somebody asks for the list.
#[derive(Debug)]
pub(super) struct ListRequest {
    pub(super) digest: u64,
    pub(super) answer: oneshot::Sender<List>,
}

/// Answers connections until its task ends.
pub(super) async fn serve<N: Net>(
    net: N,
    listener: N::Listener,
    group: GroupName,
    lists: mpsc::Sender<ListRequest>,
) {
    let places = Arc::new(Semaphore::new(limits::ANSWERS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "no connection");
                continue;
            }
        };
        let (group, lists, clock) = (group.clone(), lists.clone(), net.clone());
        let answering = async move {
            // Whatever ends it, the other side sees that the connection has ended.
            let _ = within(&clock, answer::<N>(stream, &group, &lists)).await;
            drop(place);
        };
        net.spawn("group answer", answering).detach();
    }
}

async fn answer<N: Net>(
    mut stream: N::Stream,
    group: &GroupName,
    lists: &mpsc::Sender<ListRequest>,
) -> io::Result<()> {
    let first = stream.read_u8().await?;
    if first == HEALTHY {
        stream.write_all(&[HEALTHY]).await?;
        return stream.shutdown().await;
    }
    let mut line = vec![first];
    while !line.ends_with(b"\n") {
        if line.len() == REQUEST_BYTES_MAX || !could_be_ours(&line) {
            return Ok(());
        }
        line.push(stream.read_u8().await?);
    }
    line.pop();
    let Some((_, digest)) = message::read_request(&line).filter(|(asked, _)| asked == group) else {
        return Ok(());
    };
    let (answer, list) = oneshot::channel();
    if lists.send(ListRequest { digest, answer }).await.is_err() {
        return Ok(());
    }
    if let Ok(list) = list.await {
        stream.write_all(list.encode().as_bytes()).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

/// Whether a request may go on like this.
fn could_be_ours(line: &[u8]) -> bool {
    let ours = super::announcement::OURS.as_bytes();
    let len = line.len().min(ours.len());
    line[..len] == ours[..len]
}

/// Fetches a list. `None` when there is none, or it is not whole.
pub(super) async fn fetch<N: Net>(
    net: &N,
    at: std::net::SocketAddr,
    group: &GroupName,
    own: MemberId,
    digest: u64,
) -> Option<List> {
    let fetching = async {
        let mut stream = net.connect(at, None).await?;
        stream.write_all(message::request(group, own, digest).as_bytes()).await?;
        let mut list = List::default();
        let mut bytes = Vec::new();
        let mut total = 0;
        loop {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).await?;
            total += read;
            bytes.extend_from_slice(&chunk[..read]);
            let mut rest = 0;
            while let Some(end) = bytes[rest..].iter().position(|byte| *byte == b'\n') {
                if let Some(is_whole) = list.take(&bytes[rest..rest + end]) {
                    return Ok(is_whole.then_some(list));
                }
                rest += end + 1;
            }
            bytes.drain(..rest);
            if read == 0 || bytes.len() > LINE_BYTES_MAX || total > LIST_BYTES_MAX {
                return Ok(None);
            }
        }
    };
    within(net, fetching).await.ok().flatten()
}

/// Gives something [`PATIENCE`].
async fn within<N: Net, T>(net: &N, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(PATIENCE)));
    tokio::select! {
        biased;
        done = doing => done,
        () = alarm.ring() => Err(io::ErrorKind::TimedOut.into()),
    }
}
