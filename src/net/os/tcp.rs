//! TCP listeners and connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[cfg(target_os = "linux")]
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::net::TcpListener;

/// Congestion controls that know a threshold, best first. Reno is always allowed.
#[cfg(target_os = "linux")]
const WITH_THRESHOLD: [&[u8]; 2] = [b"cubic", b"reno"];

/// The least time that an acknowledgement is waited for beyond the round trip, in microseconds; Linux waits 200 ms unless told.
/// More than the 40 ms by which Linux delays acknowledgements of requests and answers.
#[cfg(target_os = "linux")]
const REPEAT_PAUSE_MIN_US: u32 = 100_000;

/// The longest pause before a message that got lost once more is repeated, in milliseconds. Longer than any round trip, or all
/// that is slow would be repeated.
#[cfg(target_os = "linux")]
const REPEAT_PAUSE_MAX_MS: u32 = 3000;

/// How long a connection lives on which nothing is acknowledged. Unasked, Linux counts repetitions, and would end it after 39 s
/// with pauses as short as these.
#[cfg(target_os = "linux")]
const UNANSWERED_MAX: Duration = Duration::from_secs(120);

/// Of Linux 6.15 and later; `libc` does not have them yet.
#[cfg(target_os = "linux")]
const TCP_RTO_MAX_MS: libc::c_int = 44;
#[cfg(target_os = "linux")]
const TCP_RTO_MIN_US: libc::c_int = 45;

#[cfg(target_os = "linux")]
sockopt_impl!(
    /// The floor of the variance in a connection's retransmission time-out.
    RtoMinUs,
    Both,
    libc::IPPROTO_TCP,
    TCP_RTO_MIN_US,
    u32
);

#[cfg(target_os = "linux")]
sockopt_impl!(
    /// The ceiling of a connection's retransmission time-out.
    RtoMaxMs,
    Both,
    libc::IPPROTO_TCP,
    TCP_RTO_MAX_MS,
    u32
);

/// Connections that may wait to be accepted; the kernel cuts it to its own limit (4096 on Linux).
const BACKLOG: i32 = 1024;

/// How long [`OsListener::accept`] holds back an error that would come again at once.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// A listening TCP socket of the operating system. One for IPv6 accepts no IPv4.
#[derive(Debug)]
pub struct OsListener(tokio::net::TcpListener);

impl OsListener {
    pub(super) fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Lets a program that restarts have its port back while old connections linger. On Windows it would let
        // another program take the port.
        #[cfg(not(windows))]
        socket.set_reuse_address(true)?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Linux gives each accepted connection what its listener has, which saves two system calls for each.
        #[cfg(target_os = "linux")]
        prepare(&socket)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        tokio::net::TcpListener::from_std(socket.into()).map(Self)
    }
}

impl TcpListener for OsListener {
    type Stream = TcpStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// When descriptors or memory run out, the connection stays in the queue and the next call would fail at once: such
    /// an error is returned only after a pause of 100 ms, so that a caller who logs it and goes on does not spin.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.0.accept().await {
            Ok((stream, from)) => {
                // Fails when the other side has gone already; reading will say so better.
                #[cfg(not(target_os = "linux"))]
                let _ = prepare(&SockRef::from(&stream));
                Ok((stream, from))
            }
            Err(error) => {
                if !is_of_one_connection(&error) {
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
                Err(error)
            }
        }
    }
}

/// Whether the error took a connection out of the queue with it.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

pub(super) async fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        let mut local = SocketAddr::new(from, 0);
        // A link-local address means nothing without its link, and that is the one the other side is on.
        if let (SocketAddr::V6(local), SocketAddr::V6(to)) = (&mut local, &to) {
            local.set_scope_id(to.scope_id());
        }
        socket.bind(local)?;
    }
    prepare(&SockRef::from(&socket))?;
    let stream = socket.connect(to).await?;
    // A port of this machine's own that nobody listens on can be drawn as our local port: then TCP connects the socket
    // to itself. Whoever dials a dead neighbour on the same host again and again will meet that.
    if stream.local_addr()? == to {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Sets what messages want of a connection: small ones leave at once, and one that gets lost is repeated soon and at an even
/// pace. Before it connects or listens: the handshake's round trip is the first that the time-out is made of.
///
/// Linux doubles the time-out with each repetition. A busy sender's other segments tell it of a loss much sooner, but a
/// peer that says little has nothing else in flight: at 10 % loss one message in 20,000 waits for 6 s and all others behind
/// it. With this option the first six repetitions come at the first time-out's pace while fewer than four segments are in
/// flight.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_thin_linear_timeouts(true)?;
        // An older kernel does not have it, and repeats later.
        let _ = nix::sys::socket::setsockopt(socket, RtoMinUs, &REPEAT_PAUSE_MIN_US);
    }
    Ok(())
}

/// Lets nothing that was lost wait for long to be repeated.
///
/// BBR makes no use of the slow start threshold, and so leaves it where it was at the start. Linux takes such a connection
/// for one that is still starting, whose time-outs always double: a message that is lost four times in a row waits for 3 s,
/// five times for 6 s. So where BBR is the machine's default, messages go with another one.
///
/// After six repetitions at an even pace time-outs double all the same, up to two minutes. Where a third of all packets is
/// lost, one message in ten thousand waits longer than that, acknowledgements getting lost too, and all others behind it.
#[cfg(target_os = "linux")]
pub(super) fn expect_messages(stream: &TcpStream) {
    use nix::sys::socket::setsockopt;
    let socket = SockRef::from(stream);
    let is_bbr = socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr"));
    // Where these can't be had, messages are only slower.
    let _ = is_bbr && WITH_THRESHOLD.iter().any(|name| socket.set_tcp_congestion(name).is_ok());
    if setsockopt(stream, RtoMaxMs, &REPEAT_PAUSE_MAX_MS).is_ok() {
        let _ = socket.set_tcp_user_timeout(Some(UNANSWERED_MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn neither_side_delays_small_writes() {
        let listener = OsListener::bind((LOOPBACK, 0).into()).unwrap();
        let ours = connect(listener.local_addr().unwrap(), None).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        assert!(ours.nodelay().unwrap() && theirs.nodelay().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn both_sides_repeat_lost_messages_soon_and_at_an_even_pace() {
        let listener = OsListener::bind((LOOPBACK, 0).into()).unwrap();
        let ours = connect(listener.local_addr().unwrap(), None).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        for stream in [&ours, &theirs] {
            assert!(socket2::SockRef::from(stream).tcp_thin_linear_timeouts().unwrap());
            let least = nix::sys::socket::getsockopt(stream, RtoMinUs);
            assert!(least.is_err() || least == Ok(REPEAT_PAUSE_MIN_US), "{least:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_for_messages_have_a_congestion_control_with_a_threshold() {
        let listener = OsListener::bind((LOOPBACK, 0).into()).unwrap();
        let stream = connect(listener.local_addr().unwrap(), None).await.unwrap();
        // Where BBR is not to be had, the default stays.
        let _ = socket2::SockRef::from(&stream).set_tcp_congestion(b"bbr");
        expect_messages(&stream);
        let name = socket2::SockRef::from(&stream).tcp_congestion().unwrap();
        assert!(!name.starts_with(b"bbr"), "{}", name.escape_ascii());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn messages_are_repeated_every_three_seconds_at_the_latest_where_the_kernel_can() {
        use nix::sys::socket::getsockopt;
        let listener = OsListener::bind((LOOPBACK, 0).into()).unwrap();
        let stream = connect(listener.local_addr().unwrap(), None).await.unwrap();
        let Ok(before) = getsockopt(&stream, RtoMaxMs) else { return };
        assert!(before > REPEAT_PAUSE_MAX_MS);
        expect_messages(&stream);
        assert_eq!(getsockopt(&stream, RtoMaxMs), Ok(REPEAT_PAUSE_MAX_MS));
        let user_timeout = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(user_timeout, Some(UNANSWERED_MAX), "else it ends after 39 s");
    }

    #[test]
    fn only_a_shortage_is_held_back() {
        let os = |code| io::Error::from_raw_os_error(code);
        #[cfg(target_os = "linux")]
        for (code, is_of_one) in
            [(103, true), (104, true), (111, true), (24, false), (23, false), (105, false)]
        {
            assert_eq!(is_of_one_connection(&os(code)), is_of_one, "{}", os(code));
        }
    }
}
