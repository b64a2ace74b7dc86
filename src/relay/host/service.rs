//! What a host serves: a local port, or a program's own code.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use crate::net::{Net, UdpOptions, UdpSocket};
use crate::relay::buffer::Buffer;
use crate::relay::config::Place;
use crate::relay::datagrams::{Datagrams, at_once};
use crate::relay::frame::DATAGRAM_BYTES_MAX;
use crate::relay::proxy::ProxyVersion;

/// Bytes that wait between a session and the program that serves it, in each direction.
const PROGRAM_BYTES: usize = 64 << 10;

/// Whom a session is for, as far as the relay tells; the original protocol tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// The client.
    pub client: SocketAddr,
    /// Where on the relay it came in.
    pub relay: SocketAddr,
}

/// Opens the local end of a session.
pub trait Serve<N: Net>: Clone + Send + Sync + 'static {
    /// The local end.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens it.
    ///
    /// # Errors
    /// When the session can't be served; its client is told by a closed connection.
    fn open(
        &self,
        net: &N,
        visitor: Option<Visitor>,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Opens the local end of a session of a UDP service.
    ///
    /// # Errors
    /// As [`Serve::open`]; `Unsupported` when the service is none.
    fn open_udp(&self, net: &N) -> impl Future<Output = io::Result<LocalUdp<N::Udp>>> + Send {
        let _ = net;
        std::future::ready(Err(unsupported("it takes connections, and the relay's service is UDP")))
    }
}

fn unsupported(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, problem)
}

/// The local end of a session of a UDP service: a socket of its own, so that answers find their way.
#[derive(Debug)]
pub struct LocalUdp<U> {
    socket: U,
    to: SocketAddr,
}

/// A datagram of the local service.
pub(in crate::relay) struct Received(Buffer);

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        self.0.filled()
    }
}

impl<U: UdpSocket> Datagrams for LocalUdp<U> {
    type Datagram = Received;

    async fn next(&mut self) -> Option<Received> {
        loop {
            // No buffer is held while nothing comes.
            self.socket.readable().await.ok()?;
            let mut buffer = Buffer::take();
            match at_once(self.socket.recv_from(buffer.room())) {
                Some(Ok((len, from))) if from == self.to && len <= DATAGRAM_BYTES_MAX => {
                    buffer.advance(len);
                    return Some(Received(buffer));
                }
                // Somebody else's, or told of what was sent before.
                Some(_) | None => {}
            }
        }
    }

    async fn send(&self, datagram: &[u8]) {
        // A service that is not there is one that does not answer.
        let _ = self.socket.send_to(datagram, self.to).await;
    }
}

/// Passes sessions on to a local port.
#[derive(Clone, Debug)]
pub struct Forward {
    to: To,
    proxy: Option<ProxyVersion>,
}

/// Where a local port is.
#[derive(Clone, Debug)]
enum To {
    Place(Place),
    /// A UDP port.
    Udp(Place),
    /// It may be another one at each session.
    Inbox(watch::Receiver<SocketAddr>),
}

impl Forward {
    /// To this place, with a PROXY header if wanted.
    pub const fn new(to: Place, proxy: Option<ProxyVersion>) -> Self {
        Self { to: To::Place(to), proxy }
    }

    /// To this UDP port.
    pub const fn to_udp(to: Place) -> Self {
        Self { to: To::Udp(to), proxy: None }
    }

    /// To the inbox of a node, wherever it is by then.
    pub(super) const fn to_inbox(inbox: watch::Receiver<SocketAddr>, proxy: Option<ProxyVersion>) -> Self {
        Self { to: To::Inbox(inbox), proxy }
    }

    /// Connects, without a header.
    ///
    /// # Errors
    /// When the place has no address, or takes no connection.
    pub(super) async fn connect<N: Net>(&self, net: &N) -> io::Result<N::Stream> {
        let to = match &self.to {
            To::Inbox(inbox) => {
                let at = *inbox.borrow();
                return net.connect(at, None).await;
            }
            To::Place(to) => to,
            To::Udp(_) => return Err(unsupported("it takes datagrams, and the relay's service is TCP")),
        };
        if let Ok(ip) = to.host.parse() {
            return net.connect(SocketAddr::new(ip, to.port), None).await;
        }
        let mut outcome = Err(io::ErrorKind::NotFound.into());
        for address in net.resolve(&to.host, to.port).await? {
            outcome = net.connect(address, None).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

impl<N: Net> Serve<N> for Forward {
    type Stream = N::Stream;

    async fn open(&self, net: &N, visitor: Option<Visitor>) -> io::Result<N::Stream> {
        let mut stream = self.connect(net).await?;
        if let (Some(version), Some(visitor)) = (self.proxy, visitor) {
            stream.write_all(&version.header(visitor.client, visitor.relay)).await?;
        }
        Ok(stream)
    }

    async fn open_udp(&self, net: &N) -> io::Result<LocalUdp<N::Udp>> {
        let To::Udp(place) = &self.to else {
            return Err(unsupported("it takes connections, and the relay's service is UDP"));
        };
        let found = net.resolve(&place.host, place.port).await?;
        let to = *found.first().ok_or(io::ErrorKind::NotFound)?;
        // A service of this machine is asked from within: nobody outside can send to that address.
        let from = match to.ip() {
            ip if ip.is_loopback() => ip,
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = net.bind_udp(&UdpOptions::at(SocketAddr::new(from, 0)))?;
        Ok(LocalUdp { socket, to })
    }
}

/// The end of a session that a program reads and writes. Dropping it ends the session.
pub type LocalStream = DuplexStream;

/// A program's own service. It is called once for each session; the session is over when the stream is dropped.
///
/// An asynchronous function does:
///
/// ```
/// # use hailer::relay::{Handler, LocalStream, Visitor};
/// async fn echo(mut stream: LocalStream, _: Option<Visitor>) {
///     let (mut read, mut write) = tokio::io::split(stream);
///     let _ = tokio::io::copy(&mut read, &mut write).await;
/// }
/// fn is_handler(_: impl Handler) {}
/// is_handler(echo);
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Serves one session.
    fn handle(
        &self,
        stream: LocalStream,
        visitor: Option<Visitor>,
    ) -> impl Future<Output = ()> + Send + 'static;
}

impl<F, R> Handler for F
where
    F: Fn(LocalStream, Option<Visitor>) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    fn handle(
        &self,
        stream: LocalStream,
        visitor: Option<Visitor>,
    ) -> impl Future<Output = ()> + Send + 'static {
        self(stream, visitor)
    }
}

/// Serves sessions by a [`Handler`].
#[derive(Debug)]
pub struct Program<H>(Arc<H>);

impl<H> Program<H> {
    /// By this one.
    pub const fn new(handler: Arc<H>) -> Self {
        Self(handler)
    }
}

impl<H> Clone for Program<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<N: Net, H: Handler> Serve<N> for Program<H> {
    type Stream = DuplexStream;

    async fn open(&self, net: &N, visitor: Option<Visitor>) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(PROGRAM_BYTES);
        net.spawn("session", self.0.handle(theirs, visitor)).detach();
        Ok(ours)
    }
}
