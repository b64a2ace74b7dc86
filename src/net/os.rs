//! The operating system's network: tokio, socket2, if-addrs, getrandom.
//!
//! This file and its parts are the only ones that may touch real sockets, the real clock, bare tasks and the system's
//! randomness; everything else goes through [`Net`](super::Net). What it does not do: choose interfaces, retry, or keep
//! anything alive. Its methods must be called inside a tokio runtime with IO and time enabled.
//!
//! The clock is tokio's, so that alarms and [`now`](super::Net::now) can't disagree.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the implementation of what the bans point at"
)]

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};
use tracing::Instrument;

use super::{Alarm, Interface, Net, Task, TaskHandle, UdpOptions};
use crate::Timestamp;

mod interfaces;
mod services;
mod tcp;
mod udp;

pub use tcp::OsListener;
pub use udp::OsUdp;

/// Where Unix has its name servers. Read each time, because networks change.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The operating system's network.
#[derive(Clone, Debug)]
pub struct OsNet {
    origin: Instant,
}

impl OsNet {
    /// A handle on this machine's network. Its clock starts at zero now and runs on in its clones.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for OsNet {
    fn default() -> Self {
        Self::new()
    }
}

impl Net for OsNet {
    type Udp = OsUdp;
    type Listener = OsListener;
    type Stream = tokio::net::TcpStream;
    type Alarm = OsAlarm;

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        interfaces::list()
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<OsUdp> {
        OsUdp::bind(options)
    }

    fn listen(&self, at: SocketAddr) -> io::Result<OsListener> {
        OsListener::bind(at)
    }

    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<tokio::net::TcpStream> {
        tcp::connect(to, from).await
    }

    #[cfg(target_os = "linux")]
    fn expect_messages(&self, stream: &tokio::net::TcpStream) {
        tcp::expect_messages(stream);
    }

    fn local_addr(&self, stream: &tokio::net::TcpStream) -> io::Result<SocketAddr> {
        stream.local_addr()
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // A numeric host is answered without asking the resolver, and without leaving this thread.
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let found: Vec<_> = found.collect();
                if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
            }
            // The resolver's own codes are no `errno`; std gives them a text and no kind.
            Err(error) if error.raw_os_error().is_none() => {
                Err(io::Error::new(io::ErrorKind::NotFound, error))
            }
            Err(error) => Err(error),
        }
    }

    async fn resolve_service(&self, service: &str) -> io::Result<Vec<(String, u16)>> {
        let servers = services::name_servers(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
        services::ask(self, &servers, service).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::ZERO.after(self.origin.elapsed())
    }

    fn alarm(&self) -> OsAlarm {
        OsAlarm { origin: self.origin, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)), deadline: None }
    }

    fn spawn<F>(&self, name: &'static str, task: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::debug_span!("task", name);
        Task::new(Arc::new(tokio::spawn(task.instrument(span)).abort_handle()))
    }

    fn random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness once it has started");
    }
}

impl TaskHandle for AbortHandle {
    fn abort(self: Arc<Self>) {
        Self::abort(&self);
    }

    fn is_finished(&self) -> bool {
        self.is_finished()
    }
}

/// A timer of the operating system. It rings up to a millisecond late, never early, and at once when the moment has passed.
#[derive(Debug)]
pub struct OsAlarm {
    origin: Instant,
    /// Reused for every deadline: making one anew for each packet would cost an allocation.
    sleep: Pin<Box<Sleep>>,
    deadline: Option<Instant>,
}

impl Alarm for OsAlarm {
    fn set(&mut self, deadline: Option<Timestamp>) {
        self.deadline = deadline
            .filter(|deadline| *deadline != Timestamp::NEVER)
            .and_then(|deadline| self.origin.checked_add(Duration::from_nanos(deadline.as_nanos())));
        if let Some(deadline) = self.deadline
            && deadline > Instant::now()
        {
            self.sleep.as_mut().reset(deadline);
        }
    }

    fn poll_ring(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        // tokio's timers wait for the next full millisecond, whatever the time is.
        if deadline > Instant::now() {
            ready!(self.sleep.as_mut().poll(context));
        }
        self.deadline = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_number_is_its_own_address_and_a_name_that_cannot_exist_is_not_found() {
        let net = OsNet::new();
        assert_eq!(net.resolve("10.0.0.7", 5670).await.unwrap(), ["10.0.0.7:5670".parse().unwrap()]);
        assert_eq!(net.resolve("fe80::1", 1).await.unwrap(), ["[fe80::1]:1".parse().unwrap()]);
        // A label may have 63 characters, so no resolver can know this one.
        let error = net.resolve(&"x".repeat(70), 1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_beyond_all_time_is_no_deadline() {
        let net = OsNet::new();
        let mut never = net.alarm();
        never.set(Some(Timestamp::NEVER));
        let mut century = net.alarm();
        century.set(Some(net.now().after(Duration::from_secs(100 * 365 * 86_400))));
        let mut hour = net.alarm();
        hour.set(Some(net.now().after(Duration::from_secs(3600))));
        tokio::select! {
            biased;
            () = never.ring() => panic!("never has come"),
            () = century.ring() => panic!("a century in an hour"),
            () = hour.ring() => {}
        }
    }
}
