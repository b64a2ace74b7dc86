//! Moves the bytes of one session, both ways, until it is over.
//!
//! [`frames`] has a data connection of the modern protocol on one side, which is free for the next session when it returns
//! without an error; [`bytes`] has plain streams on both, as the original protocol wants it. A half-close is passed on in both.
//! Neither has a limit on time: a session may be quiet for days.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffer;
use super::frame::{Control, FrameError, Framed, Piece};
use super::throttle::{Direction, Pace};

/// How often one session may move bytes before others have their turn.
const TURN: usize = 16;

/// What a session has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Bytes from the plain side, or from the first of two.
    pub(super) up: u64,
    /// Bytes to it.
    pub(super) down: u64,
}

/// One direction of a framed session that ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Down {
    Open,
    /// All bytes are delivered, the half-close is not.
    Ending,
    /// Nobody wants them any more.
    Discarding,
    Ended,
}

/// Moves the bytes of `session` between `plain` and the data connection. Without `plain` the session is refused.
///
/// # Errors
/// When the data connection broke, or the other side does not keep to the protocol. It is of no use any more then.
pub(super) async fn frames<S, P>(
    framed: &mut Framed<S>,
    plain: Option<P>,
    session: u32,
    pace: impl Pace,
) -> Result<Moved, FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let mut state =
        FramedSession { plain, session, pace, is_up_ended: false, down: Down::Open, moved: Moved::default() };
    if state.plain.is_none() {
        state.reset(framed);
    }
    poll_fn(|context| state.poll(context, framed)).await?;
    Ok(state.moved)
}

struct FramedSession<P, L> {
    plain: Option<P>,
    session: u32,
    pace: L,
    is_up_ended: bool,
    down: Down,
    moved: Moved,
}

impl<P: AsyncRead + AsyncWrite + Unpin, L: Pace> FramedSession<P, L> {
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        framed: &mut Framed<S>,
    ) -> Poll<Result<(), FrameError>> {
        for _ in 0..TURN {
            let is_up_waiting = self.poll_up(context, framed)?.is_pending();
            let is_down_waiting = self.poll_down(context, framed)?.is_pending();
            let is_over = self.is_up_ended && self.down == Down::Ended;
            if is_over && !framed.is_writing() {
                return Poll::Ready(Ok(()));
            }
            // What one direction did may be for the other to go on with.
            if is_up_waiting && is_down_waiting {
                let is_written = framed.poll_write(context)?.is_ready();
                if is_written && is_over {
                    return Poll::Ready(Ok(()));
                }
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One step from the plain side. Pending also when there is nothing left to do.
    fn poll_up<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        framed: &mut Framed<S>,
    ) -> Poll<Result<(), FrameError>> {
        // The first bytes travel with the frame that opens the session.
        if self.moved.up > 0 {
            ready!(framed.poll_write(context))?;
        }
        let filled = self.poll_fill(context, framed);
        match &filled {
            Poll::Pending => {}
            Poll::Ready(Ok(0)) => {
                framed.put(Control::End(self.session));
                self.is_up_ended = true;
            }
            Poll::Ready(Ok(count)) => {
                self.moved.up += *count as u64;
                self.pace.moved(Direction::Up, *count);
            }
            Poll::Ready(Err(_)) => self.reset(framed),
        }
        // Most of the time it can be written at once.
        match framed.poll_write(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            _ => filled.map(|_| Ok(())),
        }
    }

    fn poll_fill<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        framed: &mut Framed<S>,
    ) -> Poll<io::Result<usize>> {
        let Some(plain) = self.plain.as_mut().filter(|_| !self.is_up_ended) else { return Poll::Pending };
        ready!(self.pace.poll_turn(context, Direction::Up));
        framed.poll_fill(context, plain)
    }

    /// One step to the plain side. Pending also when there is nothing left to do.
    fn poll_down<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        framed: &mut Framed<S>,
    ) -> Poll<Result<(), FrameError>> {
        match self.down {
            Down::Ended if self.is_up_ended => return Poll::Pending,
            Down::Ending => {
                match &mut self.plain {
                    // Closing it says the same.
                    plain if self.is_up_ended => *plain = None,
                    // It has gone already when this fails.
                    Some(plain) => drop(ready!(Pin::new(plain).poll_shutdown(context))),
                    None => {}
                }
                self.down = Down::Ended;
                return Poll::Ready(Ok(()));
            }
            // After its end the other side can still say that it wants no more of ours.
            Down::Open => ready!(self.pace.poll_turn(context, Direction::Down)),
            Down::Discarding | Down::Ended => {}
        }
        match ready!(framed.poll_piece(context))? {
            Piece::Datagram => return Poll::Ready(Err(FrameError::OutOfTurn("DATAGRAM"))),
            Piece::Data if self.down == Down::Ended => {
                return Poll::Ready(Err(FrameError::OutOfTurn("DATA")));
            }
            Piece::Data => match self.plain.as_mut().filter(|_| self.down == Down::Open) {
                None => framed.consume(framed.data().len()),
                Some(plain) => match ready!(Pin::new(plain).poll_write(context, framed.data())) {
                    Ok(count @ 1..) => {
                        framed.consume(count);
                        self.moved.down += count as u64;
                        self.pace.moved(Direction::Down, count);
                    }
                    Ok(0) | Err(_) => self.reset(framed),
                },
            },
            Piece::Control(Control::End(session)) if session == self.session => {
                self.down = if self.down == Down::Open { Down::Ending } else { Down::Ended };
            }
            Piece::Control(Control::Reset(session)) if session == self.session => {
                self.plain = None;
                self.down = Down::Ended;
                if !self.is_up_ended {
                    framed.put(Control::End(session));
                    self.is_up_ended = true;
                }
            }
            // Of a session before this one.
            Piece::Control(Control::End(_) | Control::Reset(_) | Control::Pong) => {}
            Piece::Control(Control::Ping) => {
                framed.put(Control::Pong);
            }
            Piece::Control(Control::Open(_)) => return Poll::Ready(Err(FrameError::OutOfTurn("OPEN"))),
            Piece::Closed => return Poll::Ready(Err(FrameError::Cut)),
        }
        Poll::Ready(Ok(()))
    }

    /// The plain side is of no use any more.
    fn reset<S: AsyncRead + AsyncWrite + Unpin>(&mut self, framed: &mut Framed<S>) {
        self.plain = None;
        framed.put(Control::Reset(self.session));
        self.is_up_ended = true;
        if self.down != Down::Ended {
            self.down = Down::Discarding;
        }
    }
}

/// Moves bytes between two streams until both directions have ended.
///
/// # Errors
/// When one of them breaks.
pub(super) async fn bytes<A, B>(a: &mut A, b: &mut B, mut pace: impl Pace) -> io::Result<Moved>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Way::new(Direction::Up), Way::new(Direction::Down));
    poll_fn(|context| {
        for _ in 0..TURN {
            let up_step = up.poll(context, a, b, &mut pace)?;
            let down_step = down.poll(context, b, a, &mut pace)?;
            if up.is_ended && down.is_ended {
                return Poll::Ready(Ok(Moved { up: up.moved, down: down.moved }));
            }
            if up_step.is_pending() && down_step.is_pending() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// One direction between two plain streams.
#[derive(Debug)]
struct Way {
    direction: Direction,
    buffer: Option<Buffer>,
    is_ending: bool,
    is_ended: bool,
    moved: u64,
}

impl Way {
    const fn new(direction: Direction) -> Self {
        Self { direction, buffer: None, is_ending: false, is_ended: false, moved: 0 }
    }

    /// One step. Pending also when there is nothing left to do.
    fn poll<A: AsyncRead + Unpin, B: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut A,
        to: &mut B,
        pace: &mut impl Pace,
    ) -> Poll<io::Result<()>> {
        if self.is_ended {
            return Poll::Pending;
        }
        if self.is_ending {
            // It has gone already when this fails.
            let _ = ready!(Pin::new(to).poll_shutdown(context));
            self.is_ended = true;
            return Poll::Ready(Ok(()));
        }
        if self.buffer.is_none() {
            ready!(pace.poll_turn(context, self.direction));
            let mut buffer = Buffer::take();
            let mut room = ReadBuf::new(buffer.room());
            ready!(Pin::new(from).poll_read(context, &mut room))?;
            let count = room.filled().len();
            if count == 0 {
                self.is_ending = true;
                return Poll::Ready(Ok(()));
            }
            buffer.advance(count);
            self.buffer = Some(buffer);
        }
        while let Some(buffer) = &mut self.buffer {
            let count = ready!(Pin::new(&mut *to).poll_write(context, buffer.filled()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved += count as u64;
            pace.moved(self.direction, count);
            buffer.consume(count);
            if buffer.is_empty() {
                self.buffer = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::relay::throttle::Unpaced;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// Two ends of a data connection, with room for `room` bytes.
    fn connection(room: usize) -> (Framed<DuplexStream>, Framed<DuplexStream>) {
        let (a, b) = duplex(room);
        (Framed::new(a, b""), Framed::new(b, b""))
    }

    async fn write_and_end(stream: &mut (impl AsyncWrite + Unpin), content: &[u8], piece: usize) {
        for piece in content.chunks(piece) {
            stream.write_all(piece).await.unwrap();
        }
        stream.shutdown().await.unwrap();
    }

    async fn talk(stream: DuplexStream, content: &[u8], piece: usize) -> Vec<u8> {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut received = Vec::new();
        let (_, read) =
            tokio::join!(biased; write_and_end(&mut write, content, piece), read.read_to_end(&mut received));
        read.unwrap();
        received
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sessions_one_after_the_other_arrive_whole(
            sessions in proptest::collection::vec((0..200_000_usize, 0..200_000_usize), 1..4),
            room in 1..5000_usize, piece in 1..70_000_usize,
        ) {
            block_on(async {
                let (mut relay, mut host) = connection(room);
                for (number, (up, down)) in sessions.into_iter().enumerate() {
                    let (client, relay_side) = duplex(piece);
                    let (service, host_side) = duplex(room);
                    let up: Vec<u8> = (0..up).map(|i| (i * 7 + number) as u8).collect();
                    let down: Vec<u8> = (0..down).map(|i| (i * 5 + number) as u8).collect();
                    let number = number as u32;
                    let (sent, came, at_relay, at_host) = tokio::join!(biased;
                        talk(client, &up, piece),
                        talk(service, &down, piece),
                        frames(&mut relay, Some(relay_side), number, Unpaced),
                        frames(&mut host, Some(host_side), number, Unpaced),
                    );
                    assert!(sent == down && came == up, "bytes differ");
                    let moved = Moved { up: up.len() as u64, down: down.len() as u64 };
                    assert_eq!(at_relay.unwrap(), moved);
                    assert_eq!(at_host.unwrap(), Moved { up: moved.down, down: moved.up });
                    assert!(relay.is_empty_handed() && host.is_empty_handed());
                }
            });
        }

        #[test]
        fn no_bytes_of_a_host_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            block_on(async {
                let (mut host, relay) = duplex(64 << 10);
                let mut relay = Framed::new(relay, b"");
                let (client, relay_side) = duplex(64 << 10);
                host.write_all(&bytes).await.unwrap();
                drop((host, client));
                let _ = frames(&mut relay, Some(relay_side), 1, Unpaced).await;
            });
        }
    }

    #[test]
    fn a_client_that_goes_away_ends_the_session_and_not_the_connection() {
        block_on(async {
            let (mut relay, mut host) = connection(1000);
            let (client, relay_side) = duplex(1000);
            let (mut service, host_side) = duplex(1000);
            drop(client);
            let flood = async {
                // It never stops by itself.
                while service.write_all(&[0; 512]).await.is_ok() {}
            };
            let (at_relay, at_host, ()) = tokio::join!(biased;
                frames(&mut relay, Some(relay_side), 1, Unpaced), frames(&mut host, Some(host_side), 1, Unpaced), flood);
            at_relay.unwrap();
            at_host.unwrap();
            let (client, relay_side) = duplex(1000);
            let (service, host_side) = duplex(1000);
            let (sent, came, at_relay, at_host) = tokio::join!(biased;
                talk(client, b"ping", 4), talk(service, b"pong", 4),
                frames(&mut relay, Some(relay_side), 2, Unpaced), frames(&mut host, Some(host_side), 2, Unpaced));
            assert_eq!((&sent[..], &came[..]), (&b"pong"[..], &b"ping"[..]));
            at_relay.unwrap();
            at_host.unwrap();
        });
    }

    #[test]
    fn a_refused_session_is_over_for_both() {
        block_on(async {
            let (mut relay, mut host) = connection(1000);
            let (mut client, relay_side) = duplex(1000);
            client.write_all(b"hello?").await.unwrap();
            let (at_relay, at_host) = tokio::join!(biased;
                frames(&mut relay, Some(relay_side), 1, Unpaced), frames(&mut host, None::<DuplexStream>, 1, Unpaced));
            at_relay.unwrap();
            at_host.unwrap();
            assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 0);
        });
    }

    #[test]
    fn plain_streams_pass_a_half_close_on() {
        block_on(async {
            let (client, mut a) = duplex(100);
            let (mut b, mut service) = duplex(100);
            let answer = async {
                let mut question = Vec::new();
                service.read_to_end(&mut question).await.unwrap();
                service.write_all(&question).await.unwrap();
                drop(service);
            };
            let content = [7; 1000];
            let (received, moved, ()) =
                tokio::join!(biased; talk(client, &content, 10), bytes(&mut a, &mut b, Unpaced), answer);
            assert_eq!(received, content);
            assert_eq!(moved.unwrap(), Moved { up: 1000, down: 1000 });
        });
    }
}
