//! The door of the fuzz targets to the frames of data connections, which are private (feature `fuzzing`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Framed, Piece};
use crate::fuzzing::Source;

/// Reads frames from bytes that come in pieces, takes what they carry bit by bit, and sends every other frame back.
pub fn relay_frames(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let (piece, take) = (source.below(64) + 1, source.below(64) + 1);
    let received = source.bytes();
    let mut framed = Framed::new(Trickle { left: source.rest(), piece, written: 0 }, received);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match framed.poll_piece(&mut context) {
            Poll::Pending => unreachable!("a trickle does not wait"),
            Poll::Ready(Ok(Piece::Data)) => {
                let count = framed.data().len().min(take);
                assert!(count > 0, "data is there");
                framed.consume(count);
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

/// A stream that gives a few bytes at a time.
struct Trickle<'a> {
    left: &'a [u8],
    piece: usize,
    written: usize,
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
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let count = from.len().min(self.piece);
        self.written += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
