//! The port of a UDP service: receives what clients send, and sends what is answered.
//!
//! One task receives for all clients and keeps what each session takes; nothing is answered to anybody but by the service itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tracing::debug;

use super::{Accepted, Entrance, Line};
use crate::net::{Net, UdpSocket};
use crate::relay::buffer::Buffer;
use crate::relay::callers::{Arrival, Callers, Next};
use crate::relay::counters::Counters;
use crate::relay::datagrams::Datagrams;

type Shared = Arc<Mutex<Callers>>;

fn lock(callers: &Shared) -> MutexGuard<'_, Callers> {
    callers.lock().expect("nothing panics while it holds this lock")
}

/// One client of a UDP service. Dropping it ends its session.
pub(super) struct Caller<N: Net> {
    socket: Arc<N::Udp>,
    callers: Shared,
    from: SocketAddr,
    number: u64,
    news: Arc<Notify>,
    counters: Arc<Counters>,
}

impl<N: Net> Datagrams for Caller<N> {
    type Datagram = Bytes;

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let next = lock(&self.callers).next(self.from, self.number);
            match next {
                Next::Datagram(datagram) => return Some(datagram),
                Next::Over => return None,
                Next::Wait => self.news.notified().await,
            }
        }
    }

    async fn send(&self, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, self.from).await {
            debug!(to = %self.from, %error, "answer not sent");
        }
    }
}

impl<N: Net> Drop for Caller<N> {
    fn drop(&mut self) {
        let lost = lock(&self.callers).end(self.from, self.number);
        self.counters.datagrams_dropped.add(lost as u64);
    }
}

/// Ends all sessions with the port: the relay that takes it over shall have it for itself.
struct Closing(Shared);

impl Drop for Closing {
    fn drop(&mut self) {
        lock(&self.0).close();
    }
}

/// Receives on a service's port until the task ends.
pub(super) async fn receive<N: Net>(
    socket: N::Udp,
    at: SocketAddr,
    entrance: Entrance,
    accepted: mpsc::Sender<Accepted<N>>,
    counters: Arc<Counters>,
) {
    let (socket, callers) = (Arc::new(socket), Shared::default());
    let _closing = Closing(callers.clone());
    let mut buffer = Buffer::take();
    loop {
        let (len, from) = match socket.recv_from(buffer.room()).await {
            Ok(received) => received,
            Err(error) => {
                debug!(%error, "no datagram received");
                continue;
            }
        };
        let arrival = lock(&callers).arrive(from, &buffer.room()[..len]);
        match arrival {
            Arrival::Kept => {}
            Arrival::Dropped => counters.datagrams_dropped.add(1),
            Arrival::New(number, news) => {
                let (socket, callers, counters) = (socket.clone(), callers.clone(), counters.clone());
                let caller = Caller { socket, callers, from, number, news, counters };
                let accepted_now =
                    Accepted { entrance: entrance.clone(), line: Line::Datagrams(caller), from, at };
                // Who is not taken at once is dropped: waiting here would cost those whose sessions go on.
                match accepted.try_send(accepted_now) {
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                    Err(mpsc::error::TrySendError::Closed(_)) => return,
                }
            }
        }
    }
}
