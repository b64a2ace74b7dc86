use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::zmtp::{Command, Frame, FrameError, Greeting, Properties, SessionConfig, SocketType};

/// A stopped clock.
fn now() -> Timestamp {
    Timestamp::ZERO
}

/// An alarm that never rings, or rings at once.
#[derive(Default)]
struct TestAlarm {
    deadline: Option<Timestamp>,
    rings: bool,
}

impl Alarm for TestAlarm {
    fn set(&mut self, deadline: Option<Timestamp>) {
        self.deadline = deadline;
    }

    fn poll_ring(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.rings && self.deadline.take().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Counts the writes that reach the stream.
struct Counted<S> {
    stream: S,
    writes: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Resets where the stream in it ends.
struct Resetting(DuplexStream);

impl AsyncRead for Resetting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        let is_end = buffer.filled().len() == before;
        Poll::Ready(if is_end { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

impl AsyncWrite for Resetting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn connection<S: AsyncRead + AsyncWrite + Unpin + Send>(stream: S, kind: SocketType) -> Connection<S> {
    Connection::new(stream, Session::new(SessionConfig::new(kind, Bytes::from_static(b"me")), now()))
}

/// A DEALER and a ROUTER that have shaken hands over a pipe of `size` bytes.
async fn pair(size: usize) -> (Connection<DuplexStream>, Connection<DuplexStream>) {
    let (one, other) = duplex(size);
    let (mut dealer, mut router) =
        (connection(one, SocketType::Dealer), connection(other, SocketType::Router));
    let (mut alarm, mut other_alarm) = (TestAlarm::default(), TestAlarm::default());
    let (to_router, to_dealer) =
        tokio::join!(dealer.handshake(now, &mut alarm), router.handshake(now, &mut other_alarm));
    assert_eq!(to_router.unwrap().socket_type, Some(SocketType::Router));
    assert_eq!(to_dealer.unwrap().identity, "me");
    assert_eq!(alarm.deadline, None);
    (dealer, router)
}

/// Greeting and READY of a ROUTER.
fn receivers_part() -> Vec<u8> {
    let mut ready = Properties::new();
    ready.push(Properties::SOCKET_TYPE, "ROUTER".into());
    [&Greeting::null(0).encode()[..], &framed(Frame::Command(Command::Ready(ready).encode()))].concat()
}

/// A DEALER and the raw stream of its peer, which has sent greeting, READY and `rest`.
async fn with_raw_peer(rest: &[u8]) -> (Connection<DuplexStream>, DuplexStream) {
    let (one, mut peer) = duplex(4096);
    peer.write_all(&receivers_part()).await.unwrap();
    peer.write_all(rest).await.unwrap();
    (connection(one, SocketType::Dealer), peer)
}

fn framed(frame: Frame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame.put_header(&mut bytes);
    bytes.extend_from_slice(frame.body());
    bytes.to_vec()
}

fn message(number: usize) -> Multipart {
    vec![Bytes::from(number.to_string()), Bytes::from(vec![number as u8; number % 700])]
}

#[tokio::test]
async fn messages_arrive_whole_and_in_order_through_the_smallest_of_pipes() {
    for size in [1, 7, 4096] {
        let (mut dealer, mut router) = pair(size).await;
        (0..40).for_each(|number| dealer.queue(message(number)));
        let (sent, ()) = tokio::join!(dealer.flush(), async {
            for number in 0..40 {
                assert_eq!(router.recv(now).await.unwrap(), Some(message(number)));
            }
        });
        sent.unwrap();
        assert_eq!(dealer.pending_bytes(), 0);
        dealer.close().await.unwrap();
        assert_eq!(router.recv(now).await.unwrap(), None);
        assert_eq!(router.recv(now).await.unwrap(), None);
    }
}

#[tokio::test]
async fn receiving_sends_what_is_queued_meanwhile() {
    // Neither pipe holds a message, so both sides have to read and write at once.
    let (mut dealer, mut router) = pair(16).await;
    dealer.queue(message(600));
    router.queue(message(650));
    let talk = async |side: &mut Connection<DuplexStream>| {
        let received = side.recv(now).await.unwrap();
        side.flush().await.unwrap();
        received
    };
    let (from_router, from_dealer) = tokio::join!(talk(&mut dealer), talk(&mut router));
    assert_eq!((from_router, from_dealer), (Some(message(650)), Some(message(600))));
}

#[tokio::test]
async fn a_cancelled_recv_loses_nothing() {
    let (mut dealer, mut router) = pair(5).await;
    (0..20).for_each(|number| dealer.queue(message(number)));
    let receive = async {
        let mut received = 0;
        while received < 20 {
            // One poll, then the future is dropped.
            let once = {
                let mut recv = pin!(router.recv(now));
                poll_fn(|context| Poll::Ready(recv.as_mut().poll(context))).await
            };
            match once {
                Poll::Ready(next) => {
                    assert_eq!(next.unwrap(), Some(message(received)));
                    received += 1;
                }
                Poll::Pending => tokio::task::yield_now().await,
            }
        }
    };
    let (sent, ()) = tokio::join!(dealer.flush(), receive);
    sent.unwrap();
}

#[tokio::test]
async fn greeting_and_ready_leave_in_one_write_and_so_do_many_messages() {
    let (one, other) = duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let mut dealer = connection(Counted { stream: one, writes: Arc::clone(&writes) }, SocketType::Dealer);
    let mut router = connection(other, SocketType::Router);
    let (mut alarm, mut other_alarm) = (TestAlarm::default(), TestAlarm::default());
    let _ = tokio::join!(dealer.handshake(now, &mut alarm), router.handshake(now, &mut other_alarm));
    assert_eq!(writes.swap(0, Ordering::Relaxed), 1);
    (0..600).for_each(|number| dealer.queue(message(number)));
    dealer.flush().await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), 1);
    for number in 0..600 {
        assert_eq!(router.recv(now).await.unwrap(), Some(message(number)));
    }
}

#[tokio::test]
async fn what_is_queued_before_the_handshake_is_sent_after_it() {
    let (one, other) = duplex(4096);
    let (mut dealer, mut router) =
        (connection(one, SocketType::Dealer), connection(other, SocketType::Router));
    dealer.queue(message(3));
    dealer.flush().await.unwrap();
    assert_eq!(dealer.pending_bytes(), 2 + 1 + 2 + 3);
    let (mut alarm, mut other_alarm) = (TestAlarm::default(), TestAlarm::default());
    let _ = tokio::join!(dealer.handshake(now, &mut alarm), router.handshake(now, &mut other_alarm));
    let (_, received) = tokio::join!(dealer.flush(), router.recv(now));
    assert_eq!(received.unwrap(), Some(message(3)));
}

#[tokio::test]
async fn a_large_message_arrives_whole_and_its_sender_does_not_copy_it() {
    let (mut dealer, mut router) = pair(1 << 16).await;
    let body = Bytes::from((0..5_000_000_u32).map(|index| (index >> 3) as u8).collect::<Vec<u8>>());
    dealer.queue(vec![body.clone()]);
    assert_eq!(dealer.pending_bytes(), body.len() + 9);
    dealer.take_queued();
    assert_eq!(dealer.output.back().unwrap().as_ptr(), body.as_ptr());
    let (sent, received) = tokio::join!(dealer.flush(), router.recv(now));
    sent.unwrap();
    assert!(received.unwrap().unwrap() == [body]);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_fails() {
    let (one, _peer) = duplex(4096);
    let mut dealer = connection(one, SocketType::Dealer);
    let mut alarm = TestAlarm { rings: true, ..TestAlarm::default() };
    for _ in 0..2 {
        let error = dealer.handshake(now, &mut alarm).await.unwrap_err();
        assert!(matches!(error, ConnectionError::Session(SessionError::Timeout)), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_during_the_handshake_has_rejected_us() {
    let (one, mut peer) = duplex(4096);
    peer.write_all(&Greeting::null(0).encode()).await.unwrap();
    drop(peer);
    let error =
        connection(one, SocketType::Dealer).handshake(now, &mut TestAlarm::default()).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Rejected), "{error}");
}

#[tokio::test]
async fn a_reset_is_a_rejection_during_the_handshake_and_a_broken_connection_later() {
    let (one, mut peer) = duplex(4096);
    let mut dealer = connection(Resetting(one), SocketType::Dealer);
    peer.write_all(&Greeting::null(0).encode()).await.unwrap();
    peer.shutdown().await.unwrap();
    let error = dealer.handshake(now, &mut TestAlarm::default()).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Rejected), "{error}");

    let (one, mut peer) = duplex(4096);
    let mut dealer = connection(Resetting(one), SocketType::Dealer);
    peer.write_all(&receivers_part()).await.unwrap();
    peer.shutdown().await.unwrap();
    dealer.handshake(now, &mut TestAlarm::default()).await.unwrap();
    for _ in 0..2 {
        let error = dealer.recv(now).await.unwrap_err();
        let ConnectionError::Io(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_reported_after_what_it_said_before() {
    let (mut dealer, _peer) = with_raw_peer(b"\x00\x02hi\x05\x00").await;
    assert_eq!(dealer.recv(now).await.unwrap(), Some(vec!["hi".into()]));
    for _ in 0..2 {
        let error = dealer.recv(now).await.unwrap_err();
        let expected = SessionError::Frame(FrameError::CommandWithMore);
        assert!(matches!(&error, ConnectionError::Session(error) if *error == expected), "{error}");
    }
    dealer.queue(message(1));
    assert_eq!(dealer.pending_bytes(), 0);
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_is_cut() {
    for rest in [&b"\x00"[..], b"\x00\x02h", b"\x01\x02hi", b"\x01\x00\x04\x05\x04PONG"] {
        let (mut dealer, peer) = with_raw_peer(rest).await;
        drop(peer);
        let error = dealer.recv(now).await.unwrap_err();
        assert!(matches!(error, ConnectionError::Cut), "{error}");
    }
}

#[tokio::test]
async fn what_came_before_the_peer_vanished_is_received_although_nothing_can_be_sent() {
    let (mut dealer, peer) = with_raw_peer(b"\x00\x02hi\x00\x05there").await;
    drop(peer);
    dealer.queue(message(9));
    assert_eq!(dealer.recv(now).await.unwrap(), Some(vec!["hi".into()]));
    dealer.queue(message(9));
    assert_eq!(dealer.recv(now).await.unwrap(), Some(vec!["there".into()]));
    assert!(matches!(dealer.flush().await, Err(ConnectionError::Io(_))));
}

#[tokio::test]
async fn a_peer_that_pings_and_does_not_listen_fills_no_memory() {
    let ping = framed(Frame::Command(Command::Ping { ttl: 0, context: Bytes::new() }.encode()));
    let (one, peer) = duplex(64);
    let mut dealer = connection(one, SocketType::Dealer);
    let (mut unread, mut peer) = tokio::io::split(peer);
    let flood = async {
        peer.write_all(&receivers_part()).await.unwrap();
        let mut sent = 0_usize;
        while sent < 100_000 {
            // A write that has to wait for long means that the connection has stopped reading.
            let mut write = pin!(peer.write_all(&ping));
            let mut patience = 1000;
            let done = poll_fn(|context| match write.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if patience == 0 => Poll::Ready(None),
                Poll::Pending => {
                    patience -= 1;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            });
            match done.await {
                Some(done) => done.unwrap(),
                None => break,
            }
            sent += 1;
        }
        sent
    };
    let sent = tokio::select! {
        biased;
        _ = dealer.recv(now) => unreachable!("no message was sent"),
        sent = flood => sent,
    };
    let most = ANSWERS_MAX + READ_MAX;
    assert!(
        dealer.pending_bytes() > ANSWERS_MAX && dealer.pending_bytes() < most,
        "{}",
        dealer.pending_bytes()
    );
    assert!(sent < 100_000);

    // It goes on as soon as the peer listens.
    let mut answers = 0;
    let mut buffer = [0; 1024];
    while dealer.pending_bytes() > 0 {
        tokio::select! {
            biased;
            flushed = dealer.flush() => flushed.unwrap(),
            count = unread.read(&mut buffer) => answers += count.unwrap(),
        }
    }
    assert!(answers > ANSWERS_MAX);
}
