//! The fabric as the product sees it: [`hailer::net::Net`] over simulated sockets, timers and tasks.
//!
//! A node's code holds a [`SimNet`] and has no other way out. Everything it starts is one of its [`Tasks`], so that a
//! crash ends all of it and a pause stops all of it.

use std::cell::{RefCell, RefMut};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use fragile::Fragile;
use hailer::Timestamp;
use hailer::net::{Alarm, Interface, Net, Task, TcpListener, UdpOptions, UdpSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fabric::alarm::AlarmKey;
use crate::fabric::random::Stream;
use crate::fabric::stream::{ListenerKey, TcpKey};
use crate::fabric::udp::UdpKey;
use crate::fabric::{Fabric, HostId};
use crate::memory;
use crate::tasks::Tasks;

/// The fabric, shared by all nodes of a world. Only the thread that made it may use it, which is looked at each time: that is
/// what lets futures be `Send`, and costs less than a lock that nobody else ever holds.
#[derive(Clone, Debug)]
pub struct SharedFabric(Arc<Fragile<RefCell<Fabric>>>);

impl SharedFabric {
    /// Shares a fabric.
    pub fn new(fabric: Fabric) -> Self {
        Self(Arc::new(Fragile::new(RefCell::new(fabric))))
    }

    /// Does something with the fabric that is not to be counted as the calling program's memory.
    fn with<R>(&self, act: impl FnOnce(&mut Fabric) -> R) -> R {
        memory::outside(|| act(&mut self.lock()))
    }

    /// The fabric, for as long as the guard lives.
    ///
    /// # Panics
    /// On another thread than the one that made it, and while another guard lives.
    pub fn lock(&self) -> RefMut<'_, Fabric> {
        self.0.get().borrow_mut()
    }
}

/// The network and environment of one life of one node.
#[derive(Clone, Debug)]
pub struct SimNet {
    fabric: SharedFabric,
    host: HostId,
    tasks: Tasks,
    random: Arc<Mutex<Stream>>,
}

impl SimNet {
    /// The network of a node whose machine is `host`. `random` is the stream of this life.
    pub fn new(fabric: SharedFabric, host: HostId, tasks: Tasks, random: Stream) -> Self {
        Self { fabric, host, tasks, random: Arc::new(Mutex::new(random)) }
    }
}

impl Net for SimNet {
    type Udp = SimUdp;
    type Listener = SimListener;
    type Stream = SimStream;
    type Alarm = SimAlarm;

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        Ok(self.fabric.lock().interfaces_of(self.host))
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<SimUdp> {
        let key = self.fabric.with(|fabric| fabric.udp_bind(self.host, options))?;
        Ok(SimUdp { fabric: self.fabric.clone(), key })
    }

    fn listen(&self, at: SocketAddr) -> io::Result<SimListener> {
        let key = self.fabric.with(|fabric| fabric.tcp_listen(self.host, at))?;
        Ok(SimListener { fabric: self.fabric.clone(), key })
    }

    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<SimStream> {
        let key = self.fabric.with(|fabric| fabric.tcp_connect(self.host, to, from))?;
        // Made before the wait, so that dropping the future closes the socket.
        let stream = SimStream { fabric: self.fabric.clone(), key };
        std::future::poll_fn(|context| self.fabric.with(|fabric| fabric.tcp_poll_connected(key, context)))
            .await?;
        Ok(stream)
    }

    fn local_addr(&self, stream: &SimStream) -> io::Result<SocketAddr> {
        stream.addresses().map(|(own, _)| own)
    }

    fn expect_messages(&self, stream: &SimStream) {
        self.fabric.with(|fabric| fabric.tcp_expect_messages(stream.key));
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = self.fabric.lock().addresses_of(self.host, host);
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no address is known for {host}")));
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn resolve_service(&self, service: &str) -> io::Result<Vec<(String, u16)>> {
        let found = self.fabric.lock().services_of(self.host, service);
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no service {service} is known")));
        }
        Ok(found)
    }

    fn now(&self) -> Timestamp {
        self.fabric.lock().clock(self.host)
    }

    fn alarm(&self) -> SimAlarm {
        let key = self.fabric.with(|fabric| fabric.alarm(self.host));
        SimAlarm { fabric: self.fabric.clone(), key }
    }

    fn spawn<F>(&self, _name: &'static str, task: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    fn random(&self, bytes: &mut [u8]) {
        self.random.lock().expect("drawing does not panic").fill(bytes);
    }
}

/// A simulated UDP socket.
#[derive(Debug)]
pub struct SimUdp {
    fabric: SharedFabric,
    key: UdpKey,
}

impl UdpSocket for SimUdp {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fabric.with(|fabric| fabric.udp_local(self.key))
    }

    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.fabric.with(|fabric| fabric.udp_poll_recv(self.key, context, buffer))
    }

    async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.fabric.with(|fabric| fabric.udp_poll_readable(self.key, context)))
            .await
    }

    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.fabric.with(|fabric| fabric.udp_send(self.key, datagram, to))
    }

    fn join_multicast(&self, group: IpAddr, on: &Interface) -> io::Result<()> {
        self.fabric.with(|fabric| fabric.udp_join(self.key, group, on.address))
    }
}

impl Drop for SimUdp {
    fn drop(&mut self) {
        self.fabric.with(|fabric| fabric.udp_close(self.key));
    }
}

/// A simulated listener.
#[derive(Debug)]
pub struct SimListener {
    fabric: SharedFabric,
    key: ListenerKey,
}

impl TcpListener for SimListener {
    type Stream = SimStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fabric.with(|fabric| fabric.listener_local(self.key))
    }

    async fn accept(&self) -> io::Result<(SimStream, SocketAddr)> {
        let accept = |context: &mut Context<'_>| {
            self.fabric.with(|fabric| fabric.listener_poll_accept(self.key, context))
        };
        let (key, remote) = std::future::poll_fn(accept).await?;
        Ok((SimStream { fabric: self.fabric.clone(), key }, remote))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.fabric.with(|fabric| fabric.listener_close(self.key));
    }
}

/// A simulated TCP connection.
#[derive(Debug)]
pub struct SimStream {
    fabric: SharedFabric,
    key: TcpKey,
}

impl SimStream {
    /// Both ends' addresses, own first.
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        self.fabric.with(|fabric| fabric.tcp_addresses(self.key))
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fabric.with(|fabric| fabric.tcp_poll_read(self.key, context, buffer))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.fabric.with(|fabric| fabric.tcp_poll_write(self.key, context, data))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fabric.with(|fabric| fabric.tcp_shutdown(self.key));
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.fabric.with(|fabric| fabric.tcp_close(self.key));
    }
}

/// A simulated timer, exact to the nanosecond of its machine's clock.
#[derive(Debug)]
pub struct SimAlarm {
    fabric: SharedFabric,
    key: AlarmKey,
}

impl Alarm for SimAlarm {
    fn set(&mut self, deadline: Option<Timestamp>) {
        self.fabric.with(|fabric| fabric.alarm_set(self.key, deadline));
    }

    fn poll_ring(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.fabric.with(|fabric| fabric.alarm_poll(self.key, context))
    }
}

impl Drop for SimAlarm {
    fn drop(&mut self) {
        self.fabric.with(|fabric| fabric.alarm_remove(self.key));
    }
}
