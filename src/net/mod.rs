//! The network as the product sees it.
//!
//! Roles are written once against [`Net`]; [`OsNet`] is the operating system's network, and the simulator brings another.
//! A `Net` is also a node's environment: clock, timers, tasks and randomness come from it, so that a simulated node has
//! no other way out, and a crash ends everything that the node started.
//!
//! What it does not do: protocols. It moves datagrams and bytes.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::Timestamp;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod os;
pub(crate) mod race;

pub use os::{OsAlarm, OsListener, OsNet, OsUdp};

/// A network and the environment of one node on it. Cloning gives another handle on the same thing.
pub trait Net: Clone + Send + Sync + 'static {
    /// A bound UDP socket.
    type Udp: UdpSocket;
    /// A listening TCP socket.
    type Listener: TcpListener<Stream = Self::Stream>;
    /// A TCP connection. Dropping it closes it, with a reset when unread bytes remain, as Linux does.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A resettable timer.
    type Alarm: Alarm;

    /// The addresses of this node, one entry for each; an interface with two addresses has two entries.
    ///
    /// # Errors
    /// When the operating system can't list them.
    fn interfaces(&self) -> io::Result<Vec<Interface>>;

    /// Binds a UDP socket.
    ///
    /// # Errors
    /// `AddrInUse` when another socket has the port and not both allow sharing, `AddrNotAvailable` when the address is
    /// not this node's.
    fn bind_udp(&self, options: &UdpOptions) -> io::Result<Self::Udp>;

    /// Listens for TCP connections. Port 0 chooses a free one.
    ///
    /// # Errors
    /// `AddrInUse` and `AddrNotAvailable`, as for UDP.
    fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener>;

    /// Opens a TCP connection, from the given local address if there is one. Waits as long as the network does
    /// (two minutes on Linux); dropping the future ends the attempt.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut`, `HostUnreachable`, `NetworkUnreachable`, `AddrNotAvailable`.
    fn connect(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Says that a connection carries few and short messages, each of which matters, rather than much data. A network that
    /// can may repeat them sooner when they get lost.
    fn expect_messages(&self, _: &Self::Stream) {}

    /// The own address of a connection; for one that was accepted, where the other side thinks it is.
    ///
    /// # Errors
    /// When the connection is gone, or the network can't tell (`Unsupported`).
    fn local_addr(&self, stream: &Self::Stream) -> io::Result<SocketAddr> {
        let _ = stream;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The addresses behind a host name, or the address itself when `host` is one.
    ///
    /// # Errors
    /// `NotFound` (or the resolver's own error) when the name has no address.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// The hosts and ports behind the name of a service (SRV records of the DNS, RFC 2782), those that are to be tried
    /// first first; none when there is no such record.
    ///
    /// # Errors
    /// `NotFound` when there is no such name, the error of the network when no server answers, and `Unsupported` where
    /// names have no services.
    fn resolve_service(&self, service: &str) -> impl Future<Output = io::Result<Vec<(String, u16)>>> + Send {
        let _ = service;
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// The time now. Never runs backwards.
    fn now(&self) -> Timestamp;

    /// A timer, not set.
    fn alarm(&self) -> Self::Alarm;

    /// Starts a task of this node. `name` is for logs and task dumps.
    fn spawn<F>(&self, name: &'static str, task: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static;

    /// Fills `bytes` with randomness: the operating system's, or the node's own seeded stream.
    fn random(&self, bytes: &mut [u8]);
}

/// A bound UDP socket.
pub trait UdpSocket: Send + Sync + 'static {
    /// Where it is bound.
    ///
    /// # Errors
    /// When the socket is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for a datagram, writes it to `buffer` and returns its length and sender. A longer datagram is cut.
    ///
    /// # Errors
    /// Errors that the network reported for an earlier send (`ConnectionRefused`, `HostUnreachable`): Windows does that,
    /// Linux does not. Each is reported once and the socket stays usable, so a caller logs it and receives again.
    fn recv_from(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send {
        poll_fn(|context| self.poll_recv_from(context, buffer))
    }

    /// The same for a task that waits for much else. Whoever asked last is woken, and nobody else.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;

    /// Waits until there may be a datagram. Who has many sockets then needs no buffer for each that waits.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Sends a datagram.
    ///
    /// # Errors
    /// `PermissionDenied` for a broadcast without [`UdpOptions::broadcast`], `NetworkUnreachable` without a route, and
    /// whatever else the network refuses at once.
    fn send_to(&self, datagram: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<usize>> + Send;

    /// Joins a multicast group on an interface. Without it a socket hears no multicast, whatever other sockets joined.
    ///
    /// # Errors
    /// When the group is not a multicast address or the interface has no such address family.
    fn join_multicast(&self, group: IpAddr, on: &Interface) -> io::Result<()>;
}

/// A listening TCP socket.
pub trait TcpListener: Send + Sync + 'static {
    /// What it accepts.
    type Stream;

    /// Where it listens; the port is the real one also when 0 was asked for.
    ///
    /// # Errors
    /// When the socket is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for a connection and returns it with the address of the other side.
    ///
    /// # Errors
    /// Errors of one connection, or a shortage of descriptors or memory; the listener stays usable, so a caller logs the
    /// error and accepts again. An implementation pauses before it returns an error that would come again at once.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

/// A timer that can be set again without being made anew.
pub trait Alarm: Send + Unpin + 'static {
    /// Rings at `deadline`, or never. Replaces what was set before. A moment that has passed rings at once.
    fn set(&mut self, deadline: Option<Timestamp>);

    /// Ready once when the deadline has come; the alarm is then not set any more.
    fn poll_ring(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Waits for the deadline.
    fn ring(&mut self) -> impl Future<Output = ()> + Send {
        std::future::poll_fn(|context| self.poll_ring(context))
    }
}

/// What to bind a UDP socket to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Address and port; port 0 chooses a free one. Only a socket at the unspecified address (or at the broadcast or
    /// multicast address itself) hears broadcasts and multicasts.
    pub at: SocketAddr,
    /// Share the port with others that share it too (`SO_REUSEADDR`): all of them hear broadcasts and multicasts. Who of
    /// them gets a unicast datagram is undefined.
    pub reuse: bool,
    /// Allow sending to broadcast addresses (`SO_BROADCAST`).
    pub broadcast: bool,
    /// How many routers a multicast may cross, 1 keeps it on the link.
    pub multicast_ttl: u8,
    /// Send multicasts out of the interface with this address.
    pub multicast_from: Option<IpAddr>,
}

impl UdpOptions {
    /// A socket at `at` that shares nothing and sends no broadcasts.
    pub fn at(at: SocketAddr) -> Self {
        Self { at, reuse: false, broadcast: false, multicast_ttl: 1, multicast_from: None }
    }
}

/// One address of one network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name, `eth0`.
    pub name: String,
    /// The operating system's number for it; IPv6 scopes are this.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the network prefix in bits.
    pub prefix: u8,
    /// The directed broadcast address, where the network has one.
    pub broadcast: Option<IpAddr>,
    /// `lo` and the like.
    pub is_loopback: bool,
    /// A tunnel or the like: no broadcast, one neighbour.
    pub is_point_to_point: bool,
    /// The interface is up.
    pub is_up: bool,
}

/// What [`Net::spawn`] has started, as its network knows it.
pub trait TaskHandle: fmt::Debug + Send + Sync {
    /// Ends the task: its future is dropped soon, and not run again before that.
    fn abort(self: Arc<Self>);

    /// Whether the task has ended.
    fn is_finished(&self) -> bool;
}

/// A running task. Dropping it ends the task.
#[derive(Debug)]
pub struct Task(Option<Arc<dyn TaskHandle>>);

impl Task {
    /// For implementors of [`Net::spawn`].
    pub fn new(handle: Arc<dyn TaskHandle>) -> Self {
        Self(Some(handle))
    }

    /// Lets the task run on for as long as its node lives.
    pub fn detach(mut self) {
        self.0 = None;
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_some_and(|handle| handle.is_finished())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.abort();
        }
    }
}
