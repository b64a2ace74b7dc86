//! The real network as seen from inside a network namespace, so that one test can hold both ends of a cable.
//!
//! A socket belongs to the namespace its thread is in when it is made; later calls may come from anywhere. So the thread
//! is moved in for each call, and for each poll of a future that makes sockets, and back out again.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;

use hailer::Timestamp;
use hailer::net::{Interface, Net, OsNet, Task, UdpOptions};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A real network in a namespace.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    net: OsNet,
    inside: Arc<File>,
    outside: Arc<File>,
}

impl Inside {
    /// The namespace with this name; "outside" is where the calling thread is now.
    pub(crate) fn new(namespace: &str) -> Self {
        let inside = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
        let outside = File::open("/proc/thread-self/ns/net").expect("every thread has a namespace");
        Self { net: OsNet::new(), inside: Arc::new(inside), outside: Arc::new(outside) }
    }

    fn enter<T>(&self, call: impl FnOnce() -> T) -> T {
        let move_to = |namespace: &File| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may change namespaces");
        };
        move_to(&self.inside);
        let result = call();
        move_to(&self.outside);
        result
    }
}

impl Net for Inside {
    type Udp = <OsNet as Net>::Udp;
    type Listener = <OsNet as Net>::Listener;
    type Stream = <OsNet as Net>::Stream;
    type Alarm = <OsNet as Net>::Alarm;

    fn interfaces(&self) -> io::Result<Vec<Interface>> {
        self.enter(|| self.net.interfaces())
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<Self::Udp> {
        self.enter(|| self.net.bind_udp(options))
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener> {
        self.enter(|| self.net.listen(at))
    }

    async fn connect(&self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<Self::Stream> {
        let mut connect = pin!(self.net.connect(to, from));
        std::future::poll_fn(|context| self.enter(|| connect.as_mut().poll(context))).await
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.net.resolve(host, port).await
    }

    fn now(&self) -> Timestamp {
        self.net.now()
    }

    fn alarm(&self) -> Self::Alarm {
        self.net.alarm()
    }

    fn spawn<F>(&self, name: &'static str, task: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.net.spawn(name, task)
    }

    fn random(&self, bytes: &mut [u8]) {
        self.net.random(bytes);
    }
}
