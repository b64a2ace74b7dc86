//! The door of the fuzz targets to the frames of data connections, to sessions of UDP services, and to who their clients are:
//! all of it is private (feature `fuzzing`).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::callers::{Arrival, Callers, Next};
use super::datagrams::{Datagrams, Idle, at_once, carry};
use super::frame::{DATAGRAM_BYTES_MAX, Framed, Piece};
use super::throttle::Unpaced;
use crate::fuzzing::Source;
use crate::net::{Net, OsNet};

/// Reads frames from bytes that come in pieces, takes what they carry bit by bit, and sends every other frame back.
pub fn relay_frames(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let (piece, take) = (source.below(64) + 1, source.below(64) + 1);
    let received = source.bytes();
    let mut framed = Framed::new(Trickle { left: source.rest(), piece }, received);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match framed.poll_piece(&mut context) {
            Poll::Pending => unreachable!("a trickle does not wait"),
            Poll::Ready(Ok(Piece::Data)) => {
                let count = framed.data().len().min(take);
                assert!(count > 0, "data is there");
                framed.consume(count);
            }
            Poll::Ready(Ok(Piece::Datagram)) => {
                let datagram = framed.data().to_vec();
                framed.consume(datagram.len());
                if !framed.put_datagram(&datagram) {
                    assert!(framed.poll_write(&mut context).is_ready());
                    assert!(framed.put_datagram(&datagram), "an empty buffer has room for any datagram");
                }
            }
            Poll::Ready(Ok(Piece::Control(control))) => {
                if !framed.put(control) {
                    assert!(framed.poll_write(&mut context).is_ready());
                    assert!(framed.put(control), "an empty buffer has room for a frame");
                }
            }
            Poll::Ready(Ok(Piece::Closed) | Err(_)) => break,
        }
    }
    assert!(framed.poll_write(&mut context).is_ready() && !framed.is_writing());
}

/// Alarms need one, though nothing here waits.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without IO")
});

/// Carries a session of a UDP service whose other end says anything: it comes to an end when the connection does, and what
/// is delivered are datagrams.
pub fn relay_datagrams(bytes: &[u8]) {
    let _entered = RUNTIME.enter();
    let mut source = Source::new(bytes);
    let piece = source.below(64) + 1;
    let plain = (source.below(8) > 0).then(|| {
        let says = (0..source.below(4)).map(|_| source.bytes().to_vec()).collect();
        Side { says, ends: source.below(2) == 0 }
    });
    let said = plain.as_ref().map_or(0, |side| side.says.iter().map(Vec::len).sum());
    let net = OsNet::new();
    let idle = (source.below(2) == 0).then(|| Idle::new(net.now(), Duration::from_secs(3600)));
    let session = u32::from(source.byte()) % 4;
    let rest = source.rest();
    let mut framed = Framed::new(Trickle { left: rest, piece }, b"");
    let carried = at_once(carry(&net, &mut framed, plain, session, [Unpaced, Unpaced], idle));
    if let Ok(moved) = carried.expect("a connection that has ended waits for nothing") {
        assert!(moved.up <= said as u64 && moved.down <= rest.len() as u64);
        assert!(!framed.is_writing(), "the connection is free");
    }
}

/// A side that says something, and then nothing more, or that it has ended.
struct Side {
    says: VecDeque<Vec<u8>>,
    ends: bool,
}

impl Datagrams for Side {
    type Datagram = Vec<u8>;

    async fn next(&mut self) -> Option<Vec<u8>> {
        match self.says.pop_front() {
            None if !self.ends => std::future::pending().await,
            next => next,
        }
    }

    async fn send(&self, datagram: &[u8]) {
        assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
    }
}

/// Clients of a UDP service that send anything: what each session takes is what its client sent, in that order, and nothing else.
pub fn relay_callers(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut callers = Callers::default();
    let mut sessions: BTreeMap<SocketAddr, (u64, VecDeque<Vec<u8>>)> = BTreeMap::new();
    while !source.is_empty() {
        let from = SocketAddr::from(([10, 0, 0, 1], u16::from(source.byte() % 8)));
        match source.below(8) {
            0..4 => {
                let datagram = vec![source.byte(); usize::from(source.u16()) + source.below(200)];
                match callers.arrive(from, &datagram) {
                    Arrival::New(number, _) => {
                        let earlier = sessions.insert(from, (number, VecDeque::from([datagram])));
                        assert!(earlier.is_none(), "the one before has ended");
                    }
                    Arrival::Kept => sessions.get_mut(&from).expect("it is known").1.push_back(datagram),
                    Arrival::Dropped => {}
                }
            }
            4..6 => {
                let Some((number, waiting)) = sessions.get_mut(&from) else { continue };
                let expected =
                    waiting.pop_front().map_or(Next::Wait, |datagram| Next::Datagram(datagram.into()));
                assert_eq!(callers.next(from, *number), expected);
            }
            6 => {
                let Some((number, waiting)) = sessions.remove(&from) else { continue };
                assert_eq!(callers.end(from, number), waiting.len());
                assert_eq!(callers.next(from, number), Next::Over);
            }
            _ if source.below(16) == 0 => {
                callers.close();
                sessions.clear();
            }
            _ => assert_eq!(callers.end(from, u64::MAX), 0, "there is no such session"),
        }
        assert_eq!(callers.len(), sessions.len());
    }
}

/// A stream that gives a few bytes at a time.
struct Trickle<'a> {
    left: &'a [u8],
    piece: usize,
}

impl AsyncRead for Trickle<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.left.split_at(self.left.len().min(self.piece).min(to.remaining()));
        to.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Trickle<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(from.len().min(self.piece)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
