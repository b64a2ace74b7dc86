//! turmoil's own network as the product sees it: another [`hailer::net::Net`].
//!
//! turmoil knows one flat network. A machine has one address there, sockets are bound to no address, and the only broadcast
//! is 255.255.255.255: so an address of the machine's own is taken for none, and its broadcast address for that one. Clock
//! and alarms are those of the product's own network, on the clock that turmoil gives each of its hosts.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use hailer::Timestamp;
use hailer::net::{Interface, Net, OsAlarm, OsNet, Task, TcpListener, UdpOptions, UdpSocket};
use ipnet::Ipv4Net;

use crate::fabric::random::Stream;

/// Whether any task of a world panicked: the executor swallows that, and a run must not.
#[derive(Clone, Debug, Default)]
pub struct Panics(Arc<AtomicBool>);

impl Panics {
    /// Whether one did.
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.0.fetch_or(std::thread::panicking(), Ordering::Relaxed);
    }
}

/// The network and environment of one life of one node, which is a turmoil host. Made and used inside that host.
#[derive(Clone, Debug)]
pub struct TurmoilNet {
    address: Ipv4Addr,
    prefix: Ipv4Net,
    /// Who else there is, by name.
    names: Arc<Vec<(String, Ipv4Addr)>>,
    environment: OsNet,
    panics: Panics,
    random: Arc<Mutex<Stream>>,
}

impl TurmoilNet {
    /// The network of the turmoil host with this address. Must be made inside it: its clock starts now.
    pub fn new(
        address: Ipv4Addr,
        prefix: Ipv4Net,
        names: Arc<Vec<(String, Ipv4Addr)>>,
        panics: Panics,
        random: Stream,
    ) -> Self {
        let random = Arc::new(Mutex::new(random));
        Self { address, prefix, names, environment: OsNet::new(), panics, random }
    }

    /// Where turmoil has to be told to bind.
    fn bound(&self, at: SocketAddr) -> io::Result<SocketAddr> {
        let is_own = at.ip() == IpAddr::V4(self.address)
            || at.ip() == IpAddr::V4(self.prefix.broadcast())
            || at.ip() == IpAddr::V4(Ipv4Addr::BROADCAST)
            || at.ip().is_unspecified();
        if is_own {
            return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), at.port()));
        }
        if at.ip().is_loopback() { Ok(at) } else { Err(io::ErrorKind::AddrNotAvailable.into()) }
    }
}

impl Net for TurmoilNet {
    type Udp = TurmoilUdp;
    type Listener = TurmoilListener;
    type Stream = turmoil::net::TcpStream;
    type Alarm = OsAlarm;

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let interface = |name: &str, index, address, prefix, broadcast| Interface {
            name: name.to_owned(),
            index,
            address: IpAddr::V4(address),
            prefix,
            broadcast,
            is_loopback: index == 1,
            is_point_to_point: false,
            is_up: true,
        };
        let broadcast = Some(IpAddr::V4(self.prefix.broadcast()));
        Ok(vec![
            interface("lo", 1, Ipv4Addr::LOCALHOST, 8, None),
            interface("eth0", 2, self.address, self.prefix.prefix_len(), broadcast),
        ])
    }

    /// turmoil has one socket for a port: sharing one is refused.
    fn bind_udp(&self, options: &UdpOptions) -> io::Result<TurmoilUdp> {
        let socket = at_once(turmoil::net::UdpSocket::bind(self.bound(options.at)?))?;
        socket.set_broadcast(options.broadcast)?;
        let local = SocketAddr::new(options.at.ip(), socket.local_addr()?.port());
        let (socket, readable) = (Arc::new(socket), Mutex::default());
        Ok(TurmoilUdp { socket, readable, local, broadcast: self.prefix.broadcast() })
    }

    fn listen(&self, at: SocketAddr) -> io::Result<TurmoilListener> {
        let listener = at_once(turmoil::net::TcpListener::bind(self.bound(at)?))?;
        let local = SocketAddr::new(at.ip(), listener.local_addr()?.port());
        Ok(TurmoilListener { listener, local })
    }

    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<turmoil::net::TcpStream> {
        if let Some(from) = from {
            self.bound(SocketAddr::new(from, 0))?;
        }
        turmoil::net::TcpStream::connect(to).await
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let named = self.names.iter().find(|(name, _)| name == host).map(|(_, address)| IpAddr::V4(*address));
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no address is known for {host}"));
        let address = host.parse().ok().or(named).ok_or_else(unknown)?;
        Ok(vec![SocketAddr::new(address, port)])
    }

    fn now(&self) -> Timestamp {
        self.environment.now()
    }

    fn alarm(&self) -> OsAlarm {
        self.environment.alarm()
    }

    fn spawn<F>(&self, name: &'static str, task: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let panics = self.panics.clone();
        self.environment.spawn(name, async move {
            let _watched = panics;
            task.await;
        })
    }

    fn random(&self, bytes: &mut [u8]) {
        self.random.lock().expect("drawing does not panic").fill(bytes);
    }
}

/// turmoil's `bind` is a future that waits for nothing.
fn at_once<T>(bind: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match pin!(bind).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A UDP socket on turmoil's network.
pub struct TurmoilUdp {
    socket: Arc<turmoil::net::UdpSocket>,
    /// Waits until something can be received, once somebody has waited for that.
    readable: Mutex<Option<Readable>>,
    local: SocketAddr,
    broadcast: Ipv4Addr,
}

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl TurmoilUdp {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut readable = self.readable.lock().expect("waiting does not panic");
        let waiting = readable.get_or_insert_with(|| {
            let socket = Arc::clone(&self.socket);
            Box::pin(async move { socket.readable().await })
        });
        let outcome = ready!(waiting.as_mut().poll(context));
        *readable = None;
        Poll::Ready(outcome)
    }
}

impl UdpSocket for TurmoilUdp {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            // Who waits keeps the socket to himself.
            if self.readable.lock().expect("waiting does not panic").is_some() {
                ready!(self.poll_readable(context))?;
            }
            match self.socket.try_recv_from(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_readable(context))?;
                }
                received => return Poll::Ready(received),
            }
        }
    }

    async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        let is_broadcast = to.ip() == IpAddr::V4(self.broadcast);
        let ip = if is_broadcast { IpAddr::V4(Ipv4Addr::BROADCAST) } else { to.ip() };
        match self.socket.send_to(datagram, SocketAddr::new(ip, to.port())).await {
            // turmoil says so of an address that nobody has; on a network nobody would.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(datagram.len()),
            sent => sent,
        }
    }

    fn join_multicast(&self, group: IpAddr, _on: &Interface) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => self.socket.join_multicast_v4(group, Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// A listener on turmoil's network.
pub struct TurmoilListener {
    listener: turmoil::net::TcpListener,
    local: SocketAddr,
}

impl TcpListener for TurmoilListener {
    type Stream = turmoil::net::TcpStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    async fn accept(&self) -> io::Result<(turmoil::net::TcpStream, SocketAddr)> {
        self.listener.accept().await
    }
}
