//! TCP sockets: listeners, connections, and who gets which segment. What TCP itself does is in [`super::tcp`].

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::task::{Context, Poll};

use hailer::Timestamp;
use tokio::io::ReadBuf;

use super::packet::{Body, Packet};
use super::random::Stream;
use super::six::{scope_of, scoped};
use super::tcp::{Config, Connection, Segment, State, TcpError};
use super::waiting::Waiting;
use super::{Event, Fabric, HostId};

slotmap::new_key_type! {
    /// A TCP connection's end.
    pub struct TcpKey;
    /// A listening TCP socket.
    pub struct ListenerKey;
}

/// Ports that Linux gives to sockets that ask for none.
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;
/// Connections that wait to be accepted, at most; what tokio asks for. A further SYN is dropped, as Linux does.
const BACKLOG_MAX: usize = 1024;

/// What every socket is set to: Linux's defaults, and the options that the product sets on the real network. (Linux delays no
/// acknowledgement for longer than the least time-out of the same socket.)
pub(super) const SOCKET: Config =
    Config { thin_linear_timeouts: true, rto_min_ms: 100, delayed_ack_max_ms: 99, ..Config::LINUX };

/// What the product sets in addition where it expects few and short messages: the longest retransmission time-out, and for
/// how long a connection may go unanswered.
const REPEAT_PAUSE_MAX_MS: u32 = 3000;
const UNANSWERED_MAX_MS: u32 = 120_000;

/// Bytes of the headers of IP and TCP, which a segment's size does not count.
const HEADER_BYTES: u16 = 40;
const HEADER6_BYTES: u16 = 60;

#[derive(Debug)]
pub(super) struct Listener {
    host: HostId,
    local: SocketAddr,
    /// Connections being made or waiting to be accepted.
    pending: usize,
    accepted: VecDeque<TcpKey>,
    acceptor: Waiting,
}

#[derive(Debug)]
pub(super) struct TcpSocket {
    host: HostId,
    local: SocketAddr,
    remote: SocketAddr,
    pub(super) connection: Connection,
    owner: Owner,
    reader: Waiting,
    writer: Waiting,
    /// When the earliest event comes that will look at this connection's timers.
    armed: Option<Timestamp>,
}

/// The addresses of both ends, as machines look their connections up: ordered by remote, then local. Each packet is
/// compared with a dozen of these, so they are numbers where they can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ends {
    V4 { remote: u64, local: u64 },
    Other(Box<(SocketAddr, SocketAddr)>),
}

impl Ends {
    pub(super) fn new(remote: SocketAddr, local: SocketAddr) -> Self {
        match (remote, local) {
            (SocketAddr::V4(remote), SocketAddr::V4(local)) => {
                let number = |end: SocketAddrV4| u64::from(end.ip().to_bits()) << 16 | u64::from(end.port());
                Self::V4 { remote: number(remote), local: number(local) }
            }
            _ => Self::Other(Box::new((remote, local))),
        }
    }
}

/// Who holds a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A listener, until the connection is established and accepted.
    Listener(ListenerKey),
    /// A program.
    Program,
    /// Nobody but the kernel: it was closed, and its last words are on their way.
    Kernel,
}

/// The first ephemeral port of a machine: random, so that a restarted machine does not repeat itself.
pub(super) fn ephemeral_start(stream: &mut Stream) -> u16 {
    let (low, high) = (u64::from(*EPHEMERAL_PORTS.start()), u64::from(*EPHEMERAL_PORTS.end()));
    stream.between(low, high) as u16
}

impl Fabric {
    /// The next ephemeral port that `is_free` accepts.
    pub(super) fn free_port(
        &mut self,
        host: HostId,
        is_free: impl Fn(&Self, u16) -> bool,
    ) -> io::Result<u16> {
        for _ in EPHEMERAL_PORTS {
            let machine = &mut self.hosts[host.0 as usize];
            let port = machine.next_ephemeral;
            machine.next_ephemeral =
                if port == *EPHEMERAL_PORTS.end() { *EPHEMERAL_PORTS.start() } else { port + 1 };
            if is_free(self, port) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Listens.
    ///
    /// # Errors
    /// As [`hailer::net::Net::listen`].
    pub fn tcp_listen(&mut self, host: HostId, at: SocketAddr) -> io::Result<ListenerKey> {
        if !self.is_own_address(host, at.ip()) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let mut local = at;
        let clashes = |fabric: &Self, port: u16| {
            fabric.hosts[host.0 as usize].listeners.get(&port).is_some_and(|listeners| {
                listeners
                    .iter()
                    .map(|key| fabric.listeners[*key].local.ip())
                    .filter(|other| other.is_ipv4() == at.is_ipv4())
                    .any(|other| other == at.ip() || other.is_unspecified() || at.ip().is_unspecified())
            })
        };
        if at.port() == 0 {
            local.set_port(self.free_port(host, |fabric, port| !clashes(fabric, port))?);
        } else if clashes(self, at.port()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (accepted, acceptor) = (VecDeque::new(), Waiting::default());
        let listener = Listener { host, local, pending: 0, accepted, acceptor };
        let key = self.listeners.insert(listener);
        self.hosts[host.0 as usize].listeners.entry(local.port()).or_default().push(key);
        Ok(key)
    }

    /// Where a listener listens.
    ///
    /// # Errors
    /// `NotConnected` when it is gone.
    pub fn listener_local(&self, key: ListenerKey) -> io::Result<SocketAddr> {
        Ok(self.listeners.get(key).ok_or(io::ErrorKind::NotConnected)?.local)
    }

    /// Closes a listener; connections that nobody accepted are reset.
    pub fn listener_close(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.remove(key) else { return };
        let machine = &mut self.hosts[listener.host.0 as usize];
        if let Some(listeners) = machine.listeners.get_mut(&listener.local.port()) {
            listeners.retain(|other| *other != key);
        }
        let orphans: Vec<TcpKey> = machine
            .connections
            .values()
            .copied()
            .filter(|connection| self.tcp[*connection].owner == Owner::Listener(key))
            .collect();
        for orphan in orphans {
            self.tcp[orphan].owner = Owner::Kernel;
            self.tcp[orphan].connection.abort(self.now);
            self.tcp_turn(orphan);
        }
    }

    /// Takes an established connection.
    pub fn listener_poll_accept(
        &mut self,
        key: ListenerKey,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpKey, SocketAddr)>> {
        let Some(listener) = self.listeners.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some(accepted) = listener.accepted.pop_front() else {
            listener.acceptor.wait(context);
            return Poll::Pending;
        };
        listener.pending -= 1;
        let socket = &mut self.tcp[accepted];
        socket.owner = Owner::Program;
        Poll::Ready(Ok((accepted, socket.remote)))
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// `NetworkUnreachable` without a way there, `AddrNotAvailable` for a source address that is not the machine's.
    pub fn tcp_connect(
        &mut self,
        host: HostId,
        remote: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<TcpKey> {
        let address = match from {
            Some(address) if address.is_ipv4() != remote.is_ipv4() => {
                let message = "both ends of a connection are IPv4 or both are IPv6";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            Some(address) if !self.is_own_address(host, address) => {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            Some(address) if !address.is_unspecified() => address,
            _ => self.source_for(host, remote, None)?,
        };
        if !self.is_own_address(host, remote.ip()) {
            self.way_out(host, remote, from).ok_or(io::ErrorKind::NetworkUnreachable)?;
        }
        let port = self.free_port(host, |fabric, port| {
            let machine = &fabric.hosts[host.0 as usize];
            let is_taken =
                machine.connections.contains_key(&Ends::new(remote, scoped(address, port, scope_of(remote))));
            !is_taken && machine.listeners.get(&port).is_none_or(Vec::is_empty)
        })?;
        let local = scoped(address, port, scope_of(remote));
        let sequence = self.hosts[host.0 as usize].stream.draw() as u32;
        let mut connection = Connection::connect(&self.socket_config(host, address), sequence, self.now);
        self.tell_path_mtu(host, remote.ip(), &mut connection);
        let key = self.insert_connection(host, local, remote, connection, Owner::Program);
        self.tcp_turn(key);
        Ok(key)
    }

    /// Ready when the connection stands, or will not.
    pub fn tcp_poll_connected(&mut self, key: TcpKey, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = self.tcp.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(error) = socket.connection.error() {
            return Poll::Ready(Err(io_error(error)));
        }
        if socket.connection.is_established() {
            return Poll::Ready(Ok(()));
        }
        socket.writer.wait(context);
        Poll::Pending
    }

    /// Sets the options that the product asks for where few and short messages are expected.
    pub fn tcp_expect_messages(&mut self, key: TcpKey) {
        if let Some(socket) = self.tcp.get_mut(key) {
            socket.connection.limit_silence(REPEAT_PAUSE_MAX_MS, UNANSWERED_MAX_MS);
        }
    }

    /// Both ends' addresses, own first.
    ///
    /// # Errors
    /// `NotConnected` when the connection is gone.
    pub fn tcp_addresses(&self, key: TcpKey) -> io::Result<(SocketAddr, SocketAddr)> {
        let socket = self.tcp.get(key).ok_or(io::ErrorKind::NotConnected)?;
        Ok((socket.local, socket.remote))
    }

    /// Reads what has come; nothing at the end of the stream.
    pub fn tcp_poll_read(
        &mut self,
        key: TcpKey,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(socket) = self.tcp.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        // Not all of the room: clearing it would cost more than all the rest when little has come.
        let some = into.remaining().min(socket.connection.unread_bytes());
        if some > 0 {
            let read = socket.connection.read(self.now, into.initialize_unfilled_to(some));
            into.advance(read);
            self.tcp_turn(key);
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = socket.connection.error() {
            return Poll::Ready(Err(io_error(error)));
        }
        if socket.connection.is_read_closed() || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        socket.reader.wait(context);
        Poll::Pending
    }

    /// Writes as much as the send buffer takes.
    pub fn tcp_poll_write(
        &mut self,
        key: TcpKey,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(socket) = self.tcp.get_mut(key) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if let Some(error) = socket.connection.error() {
            return Poll::Ready(Err(io_error(error)));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if socket.connection.state() > State::Established && socket.connection.state() != State::CloseWait {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = socket.connection.write(self.now, data);
        if written == 0 {
            socket.writer.wait(context);
            return Poll::Pending;
        }
        self.tcp_turn(key);
        Poll::Ready(Ok(written))
    }

    /// Ends the own direction.
    pub fn tcp_shutdown(&mut self, key: TcpKey) {
        if let Some(socket) = self.tcp.get_mut(key) {
            socket.connection.shutdown(self.now);
            self.tcp_turn(key);
        }
    }

    /// The program lets go of the connection.
    pub fn tcp_close(&mut self, key: TcpKey) {
        if let Some(socket) = self.tcp.get_mut(key)
            && socket.owner != Owner::Kernel
        {
            socket.owner = Owner::Kernel;
            socket.reader = Waiting::default();
            socket.writer = Waiting::default();
            socket.connection.close(self.now);
            self.tcp_turn(key);
        }
    }

    /// A segment has come to a machine.
    pub(super) fn deliver_tcp(&mut self, host: HostId, from: SocketAddr, to: SocketAddr, segment: Segment) {
        let machine = &self.hosts[host.0 as usize];
        if let Some(key) = machine.connections.get(&Ends::new(from, to)).copied() {
            let socket = &mut self.tcp[key];
            if !socket.connection.makes_way_for(&segment) {
                socket.connection.on_segment(self.now, segment);
                return self.tcp_turn(key);
            }
            self.remove_connection(key);
        }
        let machine = &self.hosts[host.0 as usize];
        let listener = machine.listeners.get(&to.port()).and_then(|listeners| {
            let exact = listeners.iter().find(|key| self.listeners[**key].local.ip() == to.ip());
            exact
                .or_else(|| {
                    listeners.iter().find(|key| {
                        let local = self.listeners[**key].local;
                        local.ip().is_unspecified() && local.is_ipv4() == to.is_ipv4()
                    })
                })
                .copied()
        });
        match listener {
            Some(listener) if segment.syn && segment.ack.is_none() && !segment.rst => {
                if self.listeners[listener].pending >= BACKLOG_MAX {
                    return;
                }
                self.listeners[listener].pending += 1;
                let sequence = self.hosts[host.0 as usize].stream.draw() as u32;
                let config = self.socket_config(host, to.ip());
                let mut connection = Connection::accept(&config, sequence, &segment, self.now);
                self.tell_path_mtu(host, from.ip(), &mut connection);
                let key = self.insert_connection(host, to, from, connection, Owner::Listener(listener));
                self.tcp_turn(key);
            }
            _ => {
                if let Some(reset) = segment.reset_answering() {
                    let reset = Packet::new(to, from, Body::Tcp(Box::new(reset)));
                    // Without a way back nobody hears of it, as on a real machine.
                    let _ = self.transmit(host, reset, Some(to.ip()));
                }
            }
        }
    }

    pub(super) fn tcp_timer_due(&mut self, key: TcpKey) {
        let Some(socket) = self.tcp.get_mut(key) else { return };
        if socket.armed != Some(self.now) {
            return;
        }
        socket.armed = None;
        if socket.connection.deadline().is_some_and(|deadline| deadline <= self.now) {
            socket.connection.on_timer(self.now);
        }
        self.tcp_turn(key);
    }

    /// What a socket with this address is set to: the largest segment follows the MTU of the interface.
    fn socket_config(&self, host: HostId, local: IpAddr) -> Config {
        let own = self.hosts[host.0 as usize].interfaces.iter().map(|id| &self.interfaces[id.0 as usize]);
        let mtu = own.into_iter().find(|own| own.has(local)).map(|own| own.mtu);
        Config { mss: mtu.map_or(SOCKET.mss, |mtu| mtu.saturating_sub(header_bytes(local))), ..SOCKET }
    }

    fn insert_connection(
        &mut self,
        host: HostId,
        local: SocketAddr,
        remote: SocketAddr,
        connection: Connection,
        owner: Owner,
    ) -> TcpKey {
        let (reader, writer) = (Waiting::default(), Waiting::default());
        let socket = TcpSocket { host, local, remote, connection, owner, reader, writer, armed: None };
        let key = self.tcp.insert(Box::new(socket));
        self.hosts[host.0 as usize].connections.insert(Ends::new(remote, local), key);
        key
    }

    fn remove_connection(&mut self, key: TcpKey) {
        if let Some(socket) = self.tcp.remove(key) {
            let ends = Ends::new(socket.remote, socket.local);
            self.hosts[socket.host.0 as usize].connections.remove(&ends);
            if let Owner::Listener(listener) = socket.owner
                && let Some(listener) = self.listeners.get_mut(listener)
            {
                listener.pending -= 1;
                listener.accepted.retain(|accepted| *accepted != key);
            }
        }
    }

    /// After anything that may have moved a connection: sends what it wants sent, wakes who waits for it, and sees to
    /// its timers.
    pub(super) fn tcp_turn(&mut self, key: TcpKey) {
        let now = self.now;
        while let Some(segment) = self.tcp[key].connection.poll_transmit(now) {
            let socket = &self.tcp[key];
            let (host, from, to) = (socket.host, socket.local, socket.remote);
            let packet = Packet::new(from, to, Body::Tcp(Box::new(segment)));
            if !self.is_own_address(host, from.ip()) || self.transmit(host, packet, Some(from.ip())).is_err()
            {
                // The interface or its address is gone: to TCP that is one more lost packet.
                break;
            }
        }
        let socket = &mut self.tcp[key];
        let connection = &socket.connection;
        let is_broken = connection.error().is_some();
        if socket.reader.is_there() && (is_broken || connection.is_readable()) {
            socket.reader.wake();
        }
        if socket.writer.is_there() && (is_broken || connection.is_writable()) {
            socket.writer.wake();
        }
        let is_finished = connection.is_finished();
        if let Some(deadline) = connection.deadline().filter(|deadline| *deadline < Timestamp::NEVER) {
            let at = deadline.max(now);
            if socket.armed.is_none_or(|armed| at < armed) {
                socket.armed = Some(at);
                self.queue.push(at, Event::TcpTimer(key));
            }
        }
        if let Owner::Listener(listener) = socket.owner {
            self.offer(key, listener, is_finished || is_broken);
        } else if is_finished && socket.owner == Owner::Kernel {
            self.remove_connection(key);
        }
    }

    /// Puts a connection that has become established before its listener's program.
    fn offer(&mut self, key: TcpKey, listener: ListenerKey, is_over: bool) {
        if is_over {
            return self.remove_connection(key);
        }
        if !self.tcp[key].connection.is_established() {
            return;
        }
        let Some(listener) = self.listeners.get_mut(listener) else { return };
        if !listener.accepted.contains(&key) {
            listener.accepted.push_back(key);
            listener.acceptor.wake();
        }
    }
}

/// Bytes of the headers of IP and TCP.
pub(super) fn header_bytes(address: IpAddr) -> u16 {
    if address.is_ipv4() { HEADER_BYTES } else { HEADER6_BYTES }
}

fn io_error(error: TcpError) -> io::Error {
    match error {
        TcpError::Refused => io::ErrorKind::ConnectionRefused,
        TcpError::Reset => io::ErrorKind::ConnectionReset,
        TcpError::TimedOut => io::ErrorKind::TimedOut,
        TcpError::HostUnreachable => io::ErrorKind::HostUnreachable,
        TcpError::NetworkUnreachable => io::ErrorKind::NetworkUnreachable,
    }
    .into()
}
