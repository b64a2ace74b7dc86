//! Connections: how they open, carry bytes, press back, and end.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Site, at, within};
use crate::net::{Net, TcpListener};

const MEBIBYTE: usize = 1 << 20;

/// More than the buffers of any system between two programs (Linux: up to 32 MiB on the receiving side and 4 MiB on the
/// sending one).
const PRESSURE_MAX: usize = 64 * MEBIBYTE;

/// The byte at `place` of a stream: no short piece repeats, so a lost, doubled or swapped piece shows.
fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// `len` bytes of the stream from `start`.
fn piece(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(byte_at).collect()
}

/// Reads the stream to its end and returns how long it was.
async fn read_stream(stream: &mut (impl AsyncRead + Unpin)) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut place = 0;
    loop {
        let len = stream.read(&mut buffer).await.expect("bytes or the end");
        if len == 0 {
            return place;
        }
        let is_right =
            buffer[..len].iter().enumerate().all(|(offset, byte)| *byte == byte_at(place + offset));
        assert!(is_right, "wrong bytes between {place} and {}", place + len);
        place += len;
    }
}

pub(super) async fn a_megabyte_is_echoed_while_it_is_sent<N: Net>(site: &Site<N>) {
    let (ours, theirs) = site.connection().await;
    let (mut our_reader, mut our_writer) = tokio::io::split(ours);
    let (mut their_reader, mut their_writer) = tokio::io::split(theirs);
    let send = async {
        our_writer.write_all(&piece(0, MEBIBYTE)).await.expect("the connection stays");
        our_writer.shutdown().await.expect("an end");
    };
    let echo = async {
        tokio::io::copy(&mut their_reader, &mut their_writer).await.expect("the connection stays");
        their_writer.shutdown().await.expect("an end");
    };
    let ((), (), echoed) = tokio::join!(send, echo, read_stream(&mut our_reader));
    assert_eq!(echoed, MEBIBYTE);
}

pub(super) async fn both_sides_know_their_addresses<N: Net>(site: &Site<N>) {
    let listener = site.b.listen(at(site.unspecified())).expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    assert_ne!(port, 0);
    let to = SocketAddr::new(site.b_address, port);
    let mut seen = Vec::new();
    let mut streams = Vec::new();
    for from in [None, Some(site.a_address)] {
        let (ours, theirs) = tokio::join!(site.a.connect(to, from), listener.accept());
        let (theirs, from) = theirs.expect("a connection");
        assert_eq!(from.ip(), site.a_address);
        seen.push(from);
        streams.push((ours.expect("a connection"), theirs));
    }
    assert_ne!(seen[0], seen[1], "two connections have two ports");
}

pub(super) async fn a_connection_opens_before_it_is_accepted<N: Net>(site: &Site<N>) {
    let listener = site.b.listen(at(site.b_address)).expect("a free port");
    let mut ours =
        site.a.connect(listener.local_addr().expect("an address"), None).await.expect("a connection");
    ours.write_all(b"early").await.expect("the connection stays");
    let (mut theirs, _) = listener.accept().await.expect("a connection");
    let mut buffer = [0; 5];
    theirs.read_exact(&mut buffer).await.expect("five bytes");
    assert_eq!(&buffer, b"early");
}

pub(super) async fn one_direction_can_end_while_the_other_goes_on<N: Net>(site: &Site<N>) {
    let (mut ours, mut theirs) = site.connection().await;
    ours.write_all(b"last words").await.expect("the connection stays");
    ours.shutdown().await.expect("an end");
    let mut words = Vec::new();
    theirs.read_to_end(&mut words).await.expect("bytes and the end");
    assert_eq!(words, b"last words");
    let send = async {
        theirs.write_all(&piece(0, MEBIBYTE)).await.expect("this direction is open");
        drop(theirs);
    };
    let ((), got) = tokio::join!(send, read_stream(&mut ours));
    assert_eq!(got, MEBIBYTE, "what was written before a close arrives");
    ours.write_all(b"?").await.expect_err("one's own end is the end");
}

pub(super) async fn a_closed_connection_ends_the_others_reading<N: Net>(site: &Site<N>) {
    let (mut ours, theirs) = site.connection().await;
    drop(theirs);
    let mut buffer = [0; 1];
    assert_eq!(ours.read(&mut buffer).await.expect("the end is no error"), 0);
}

pub(super) async fn closing_with_unread_bytes_resets_the_other_side<N: Net>(site: &Site<N>) {
    let (mut ours, mut theirs) = site.connection().await;
    ours.write_all(b"two").await.expect("the connection stays");
    let mut buffer = [0; 1];
    theirs.read_exact(&mut buffer).await.expect("a byte; the others came with it");
    drop(theirs);
    let error = ours.read(&mut buffer).await.expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

pub(super) async fn writing_to_one_who_has_gone_fails_in_the_end<N: Net>(site: &Site<N>) {
    let (mut ours, theirs) = site.connection().await;
    drop(theirs);
    let error = loop {
        // The first writes succeed: they are what makes the other side answer with a reset.
        if let Err(error) = ours.write_all(&[0; 1024]).await {
            break error;
        }
    };
    let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    assert!(kinds.contains(&error.kind()), "{error}");
}

pub(super) async fn a_port_nobody_listens_on_refuses<N: Net>(site: &Site<N>) {
    let listener = site.b.listen(at(site.b_address)).expect("a free port");
    let to = listener.local_addr().expect("an address");
    let (ours, theirs) = tokio::join!(site.a.connect(to, None), listener.accept());
    let (mut ours, (mut theirs, _)) = (ours.expect("a connection"), theirs.expect("a connection"));
    drop(listener);
    let error = site.a.connect(to, None).await.err().expect("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    echo_word(&mut ours, &mut theirs).await;
}

pub(super) async fn a_port_has_one_listener_and_is_free_again_after_it<N: Net>(site: &Site<N>) {
    let listener = site.b.listen(at(site.b_address)).expect("a free port");
    let to = listener.local_addr().expect("an address");
    let error = site.b.listen(to).err().expect("the port is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
    let (ours, theirs) = tokio::join!(site.a.connect(to, None), listener.accept());
    let (mut ours, (theirs, _)) = (ours.expect("a connection"), theirs.expect("a connection"));
    drop(theirs);
    let mut buffer = [0; 1];
    assert_eq!(ours.read(&mut buffer).await.expect("the end"), 0);
    drop((ours, listener));
    let again = site.b.listen(to).expect("the port is free although an old connection to it lingers");
    let (ours, theirs) = tokio::join!(site.a.connect(to, None), again.accept());
    echo_word(&mut ours.expect("a connection"), &mut theirs.expect("a connection").0).await;
}

pub(super) async fn free_tcp_ports_are_distinct<N: Net>(site: &Site<N>) {
    let mut listeners = Vec::new();
    for _ in 0..64 {
        let listener = site.b.listen(at(site.b_address)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        assert!(listeners.iter().all(|(_, other)| *other != address), "{address} twice");
        listeners.push((listener, address));
    }
}

pub(super) async fn a_dropped_attempt_to_connect_leaves_the_listener_working<N: Net>(site: &Site<N>) {
    let listener = site.b.listen(at(site.b_address)).expect("a free port");
    let to = listener.local_addr().expect("an address");
    {
        let mut attempt = pin!(site.a.connect(to, None));
        poll_fn(|context| Poll::Ready(attempt.as_mut().poll(context).is_ready())).await;
    }
    let mut second = site.a.connect(to, None).await.expect("a connection");
    second.write_all(b"second").await.expect("the connection stays");
    second.shutdown().await.expect("an end");
    loop {
        // The first may come too, and end at once.
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let mut words = Vec::new();
        let end = stream.read_to_end(&mut words).await;
        if !words.is_empty() {
            end.expect("the end");
            assert_eq!(words, b"second");
            return;
        }
    }
}

pub(super) async fn a_writer_is_stopped_by_one_who_does_not_read<N: Net>(site: &Site<N>) {
    let (mut ours, mut theirs) = site.connection().await;
    let mut sent = 0;
    loop {
        let next = piece(sent, 64 * 1024);
        match within(&site.a, Duration::from_millis(500), ours.write(&next)).await {
            Some(len) => sent += len.expect("the connection stays"),
            None => break,
        }
        assert!(sent <= PRESSURE_MAX, "{sent} bytes were taken, and nobody reads");
    }
    assert!(sent > 0, "nothing was taken");
    let rest = async {
        ours.write_all(&piece(sent, MEBIBYTE)).await.expect("reading lets the writer go on");
        ours.shutdown().await.expect("an end");
    };
    let ((), got) = tokio::join!(rest, read_stream(&mut theirs));
    assert_eq!(got, sent + MEBIBYTE);
}

/// A word there and back.
async fn echo_word<S: AsyncRead + AsyncWrite + Unpin>(ours: &mut S, theirs: &mut S) {
    let mut word = [0; 4];
    ours.write_all(b"word").await.expect("the connection stays");
    theirs.read_exact(&mut word).await.expect("the connection stays");
    theirs.write_all(&word).await.expect("the connection stays");
    ours.read_exact(&mut word).await.expect("the connection stays");
    assert_eq!(&word, b"word");
}
