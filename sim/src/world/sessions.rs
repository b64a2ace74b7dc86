//! Programs that know nothing of Hailer: an echo service, and clients that open a session, say something numbered and check
//! what comes back. They stand behind a relay and before it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hailer::net::{Alarm, Net, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::log::Author;
use crate::trace::What;

/// How long a session may take from the first SYN to the last FIN. Longer than any back-off of a host that has lost its relay
/// for a while, and than TCP's sending again on a link that loses one packet in five.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How much a client says before it looks for the answer.
const PIECE: usize = 1024;

/// How long a slow reader rests after each kilobyte that it has read.
pub(super) const SLOW_PAUSE: Duration = Duration::from_millis(100);
/// How much it reads at once.
const SLOW_PIECE: usize = 1024;
/// How long a client that has little to say rests after each byte.
const TRICKLE_PAUSE: Duration = Duration::from_secs(60);

/// Sends back what it gets, to everybody who connects to the port, until its node ends.
pub(super) async fn echo<N: Net>(net: N, port: u16, author: Author) {
    let listener = match net.listen((Ipv4Addr::UNSPECIFIED, port).into()) {
        Ok(listener) => listener,
        Err(error) => return author.record(What::Refused(format!("echo on port {port}: {error}"))),
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answer = async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                if write.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        };
        net.spawn("echo", answer).detach();
    }
}

/// One session of a client, from its beginning to its end, written down.
/// With a pause the client reads slowly.
pub(super) async fn session<N: Net>(
    net: N,
    to: SocketAddr,
    number: u64,
    (bytes, pause): (usize, Option<Duration>),
    author: Author,
) {
    author.record(What::SessionOpened { number, bytes });
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(PATIENCE)));
    let problem = tokio::select! {
        biased;
        outcome = talk(&net, to, number, (bytes, pause)) => outcome.err(),
        () = alarm.ring() => Some(format!("it is not over after {} s", PATIENCE.as_secs())),
    };
    author.record(What::SessionEnded { number, problem });
}

/// A session of a client that says nothing, or a byte now and then, for as long as it may.
pub(super) async fn stay<N: Net>(net: N, to: SocketAddr, is_trickling: bool) {
    let Ok(stream) = net.connect(to, None).await else { return };
    let (mut read, mut write) = tokio::io::split(stream);
    let mut alarm = net.alarm();
    let mut buffer = [0; 64];
    loop {
        alarm.set(is_trickling.then(|| net.now().after(TRICKLE_PAUSE)));
        tokio::select! {
            biased;
            count = read.read(&mut buffer) => if !matches!(count, Ok(1..)) { return },
            () = alarm.ring() => if write.write_all(b"?").await.is_err() { return },
        }
    }
}

async fn talk<N: Net>(
    net: &N,
    to: SocketAddr,
    number: u64,
    (bytes, pause): (usize, Option<Duration>),
) -> Result<(), String> {
    let stream = net.connect(to, None).await.map_err(|error| format!("no connection: {error}"))?;
    let (mut read, mut write) = tokio::io::split(stream);
    let (said, heard) = tokio::join!(
        biased;
        say(&mut write, number, bytes),
        hear(net, &mut read, number, (bytes, pause)),
    );
    heard?;
    said.map_err(|error| format!("it can't be written to: {error}"))
}

async fn say<S: tokio::io::AsyncWrite>(
    write: &mut WriteHalf<S>,
    number: u64,
    bytes: usize,
) -> std::io::Result<()> {
    let content: Vec<u8> = (0..bytes).map(|place| byte(number, place)).collect();
    for piece in content.chunks(PIECE) {
        write.write_all(piece).await?;
    }
    write.shutdown().await
}

async fn hear<N: Net>(
    net: &N,
    read: &mut ReadHalf<N::Stream>,
    number: u64,
    (bytes, pause): (usize, Option<Duration>),
) -> Result<(), String> {
    let mut buffer = vec![0; if pause.is_some() { SLOW_PIECE } else { 4096 }];
    let mut alarm = net.alarm();
    let mut place = 0;
    loop {
        if let Some(pause) = pause {
            alarm.set(Some(net.now().after(pause)));
            alarm.ring().await;
        }
        let count =
            read.read(&mut buffer).await.map_err(|error| format!("broken at byte {place}: {error}"))?;
        if count == 0 {
            break;
        }
        for got in &buffer[..count] {
            if place >= bytes || *got != byte(number, place) {
                return Err(format!("byte {place} is not the one that was sent"));
            }
            place += 1;
        }
    }
    if place == bytes { Ok(()) } else { Err(format!("it ended at byte {place} of {bytes}")) }
}

/// What stands at a place of a session: different from session to session, and from place to place.
pub(super) fn byte(number: u64, place: usize) -> u8 {
    (number.wrapping_mul(31).wrapping_add(place as u64) % 251) as u8
}
