//! What is timed: the same lines of code over the operating system's network and over the simulated one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hailer::Timestamp;
use hailer::net::{Alarm, Net, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes that a session moves: some 45 segments, more than the initial window.
const TRANSFER: usize = 64 << 10;
/// A session that takes longer is given up, and counts as slower than all others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long the parts of a session took; `None` for what was not there in time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Session {
    /// Until the connection stood.
    pub(crate) connect: Option<Duration>,
    /// From then on until the server had said that it has all bytes.
    pub(crate) transfer: Option<Duration>,
    /// The longest time in which the server got nothing.
    pub(crate) stall: Option<Duration>,
}

impl Session {
    /// The parts, in the order of the reports.
    pub(crate) fn parts(&self) -> [Option<Duration>; 3] {
        [self.connect, self.transfer, self.stall]
    }
}

/// Takes transfers for ever.
///
/// # Errors
/// When it can't listen.
pub(crate) async fn serve<N: Net>(net: N, at: SocketAddr) -> io::Result<()> {
    let listener = net.listen(at)?;
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let task = take(net.clone(), stream);
            net.spawn("transfer", async move { drop(task.await) }).detach();
        }
    }
}

/// Reads a transfer and answers with the longest stall in nanoseconds.
async fn take<N: Net>(net: N, mut stream: N::Stream) -> io::Result<()> {
    let (mut buffer, mut read, mut stall) = (vec![0; TRANSFER], 0, Duration::ZERO);
    let mut last: Option<Timestamp> = None;
    while read < TRANSFER {
        let got = stream.read(&mut buffer).await?;
        if got == 0 {
            return Ok(());
        }
        let now = net.now();
        stall = stall.max(last.map_or(Duration::ZERO, |last| now.since(last)));
        last = Some(now);
        read += got;
    }
    stream.write_all(&(stall.as_nanos() as u64).to_be_bytes()).await?;
    // The client closes when it has that.
    stream.read(&mut buffer).await.map(drop)
}

/// Connects, sends, waits for the answer.
pub(crate) async fn session<N: Net>(net: &N, to: SocketAddr) -> Session {
    let mut session = Session::default();
    let mut alarm = net.alarm();
    alarm.set(Some(net.now().after(PATIENCE)));
    tokio::select! {
        biased;
        // What a connection that broke did not reach stays `None`.
        _ = attempt(net, to, &mut session) => {}
        () = alarm.ring() => {}
    }
    session
}

async fn attempt<N: Net>(net: &N, to: SocketAddr, session: &mut Session) -> io::Result<()> {
    let start = net.now();
    let mut stream = net.connect(to, None).await?;
    let connected = net.now();
    session.connect = Some(connected.since(start));
    stream.write_all(&[7; TRANSFER]).await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    session.transfer = Some(net.now().since(connected));
    session.stall = Some(Duration::from_nanos(u64::from_be_bytes(answer)));
    Ok(())
}
