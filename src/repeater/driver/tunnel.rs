//! Carries connections, from repeater to repeater where the nodes' networks have no route to each other.
//!
//! ```text
//! to the publisher's port   "HRL1" uuid of the node
//! back                      0x01, or 0x00 when there is no such node
//! then                      the bytes of both, as they are
//! ```
//!
//! As they are, but for one: a HELLO tells an address of its sender that leads nowhere from here, or to somebody else.
//! The repeater of its receiver writes its own stand-in instead, so that stock nodes find the way back. Secured
//! connections can't be read, and are left as they are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::debug;

use super::{Carried, Notes, Pause, Question, within};
use crate::net::Net;
use crate::zmtp::{Command, Frame, Framer, Greeting, Limits, Mechanism, Properties};
use crate::zre::message::{Body, Message};
use crate::zre::{Endpoint, PeerId};

/// What a request starts with; no ZMTP greeting does.
pub(super) const FIRST_BYTE: u8 = b'H';
const MAGIC: &[u8; 4] = b"HRL1";
const THERE: u8 = 1;
const NOT_THERE: u8 = 0;
/// How long a request may take to be written, and the node to be reached.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is asked whether a silent connection is still of use.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes that are on their way in one direction.
const BUFFER: usize = 16 << 10;
/// What comes up to the HELLO. A HELLO of zyre has about 100 bytes, and 64 KiB is room for a thousand headers.
const LIMITS: Limits =
    Limits { command_bytes: 8 << 10, frame_bytes: 64 << 10, message_bytes: 64 << 10, frames: 16 };
/// How often, and how long apart, the stand-in of a HELLO's sender is asked for: its beacon may be on its way.
const LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Which way bytes go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// To a node here.
    In,
    /// To a node elsewhere.
    Out,
}

/// A carried connection, as it is counted.
#[derive(Debug)]
pub(super) struct Talk {
    carried: Arc<Carried>,
    /// Its own bytes, both ways.
    bytes: AtomicU64,
}

impl Talk {
    /// Takes a place for one more, if that is not too many.
    pub(super) fn begin(carried: &Arc<Carried>, most: u64) -> Option<Self> {
        if carried.open.load(Ordering::Relaxed) >= most {
            carried.over_limit.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        carried.open.fetch_add(1, Ordering::Relaxed);
        Some(Self { carried: Arc::clone(carried), bytes: AtomicU64::new(0) })
    }

    /// Both ends are there.
    pub(super) fn succeed(&self) {
        self.carried.connections.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, way: Way, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let total = match way {
            Way::In => &self.carried.bytes_in,
            Way::Out => &self.carried.bytes_out,
        };
        total.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.carried.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asks a repeater for a connection to a node of its.
pub(super) async fn open<N: Net>(net: &N, repeater: SocketAddr, peer: PeerId) -> io::Result<N::Stream> {
    let mut stream = net.connect(repeater, None).await?;
    stream.write_all(&[&MAGIC[..], peer.as_bytes()].concat()).await?;
    match stream.read_u8().await? {
        THERE => Ok(stream),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "its repeater does not know the node")),
    }
}

/// Serves the request of a repeater, whose first byte was read.
pub(super) async fn serve<N: Net>(
    net: &N,
    mut stream: N::Stream,
    notes: &Notes,
    talk: Option<&Talk>,
) -> io::Result<()> {
    let mut request = [0; MAGIC.len() - 1 + 16];
    within(net, REQUEST_TIMEOUT, stream.read_exact(&mut request)).await?;
    let (magic, peer) = request.split_at(MAGIC.len() - 1);
    if magic != &MAGIC[1..] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no request of a repeater"));
    }
    let peer = PeerId::from_bytes(peer.try_into().expect("16 bytes are left"));
    let inbox = notes.ask(Question::InboxOf(peer)).await;
    let Some(talk) = talk else { return stream.write_all(&[NOT_THERE]).await };
    let Some(inbox) = inbox else {
        talk.carried.refused.fetch_add(1, Ordering::Relaxed);
        return stream.write_all(&[NOT_THERE]).await;
    };
    let node = match within(net, REQUEST_TIMEOUT, net.connect(inbox, None)).await {
        Ok(node) => node,
        Err(error) => {
            debug!(%error, %peer, "node not reached");
            talk.carried.failed.fetch_add(1, Ordering::Relaxed);
            return stream.write_all(&[NOT_THERE]).await;
        }
    };
    stream.write_all(&[THERE]).await?;
    talk.succeed();
    let (mut from_sender, mut to_sender) = tokio::io::split(stream);
    let (mut from_node, mut to_node) = tokio::io::split(node);
    let inward = async {
        pass_hello(net, &mut from_sender, &mut to_node, notes, peer, talk).await?;
        copy(&mut from_sender, &mut to_node, talk, Way::In).await
    };
    let outward = copy(&mut from_node, &mut to_sender, talk, Way::Out);
    both(net, inward, outward, talk, notes, Question::InboxOf(peer)).await
}

/// Carries a connection of a neighbour (`one`) with a node elsewhere until both ends have ended it, one breaks, or it is
/// silent and the question whether it is needed has no answer any more.
pub(super) async fn carry<N: Net, S: AsyncRead + AsyncWrite>(
    net: &N,
    one: S,
    other: S,
    talk: &Talk,
    notes: &Notes,
    needed_if: Question,
) -> io::Result<()> {
    let (mut from_one, mut to_one) = tokio::io::split(one);
    let (mut from_other, mut to_other) = tokio::io::split(other);
    let there = copy(&mut from_one, &mut to_other, talk, Way::Out);
    let back = copy(&mut from_other, &mut to_one, talk, Way::In);
    both(net, there, back, talk, notes, needed_if).await
}

async fn both<N: Net>(
    net: &N,
    there: impl Future<Output = io::Result<()>>,
    back: impl Future<Output = io::Result<()>>,
    talk: &Talk,
    notes: &Notes,
    needed_if: Question,
) -> io::Result<()> {
    let watched = async {
        let mut pause = Pause::new(net);
        loop {
            let before = talk.bytes.load(Ordering::Relaxed);
            pause.sleep(IDLE).await;
            if talk.bytes.load(Ordering::Relaxed) == before && notes.ask(needed_if).await.is_none() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it is silent, and its node is gone"));
            }
        }
    };
    let carried = async { tokio::try_join!(biased; there, back).map(drop) };
    tokio::select! {
        biased;
        outcome = carried => outcome,
        outcome = watched => outcome,
    }
}

async fn copy<R, W>(from: &mut R, to: &mut W, talk: &Talk, way: Way) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.shutdown().await,
            len => {
                to.write_all(&buffer[..len]).await?;
                to.flush().await?;
                talk.count(way, len);
            }
        }
    }
}

/// Passes what a sender says up to its first message, in which the endpoint becomes that of its stand-in here.
async fn pass_hello<N, R, W>(
    net: &N,
    from: &mut R,
    to: &mut W,
    notes: &Notes,
    receiver: PeerId,
    talk: &Talk,
) -> io::Result<()>
where
    N: Net,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut framer = Framer::new(LIMITS);
    let (mut unread, mut buffer, mut greeting) = (Bytes::new(), BytesMut::new(), BytesMut::new());
    let (mut sender, mut is_ready) = (None, false);
    loop {
        buffer.reserve(BUFFER);
        let len = from.read_buf(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        talk.count(Way::In, len);
        unread = if unread.is_empty() {
            buffer.split().freeze()
        } else {
            [&unread[..], &buffer.split()].concat().into()
        };
        if greeting.len() < Greeting::LEN {
            let piece = unread.split_to(unread.len().min(Greeting::LEN - greeting.len()));
            to.write_all(&piece).await?;
            greeting.extend_from_slice(&piece);
            match Greeting::decode(&greeting) {
                Ok(Some(Greeting { mechanism: Mechanism::Null, .. })) => {}
                Ok(None) => continue,
                // What can't be read is passed as it is.
                Ok(Some(_)) | Err(_) => return to.write_all(&unread).await,
            }
        }
        while let Some(frame) =
            framer.read(&mut unread).map_err(|error| io::Error::other(error.to_string()))?
        {
            let is_message = matches!(frame, Frame::Part { .. });
            if let Frame::Command(body) = &frame
                && let Ok(Command::Ready(properties)) = Command::decode(body.clone())
            {
                sender =
                    properties.find(Properties::IDENTITY).and_then(|identity| PeerId::from_zmtp(identity));
                is_ready = true;
                framer.take_messages();
            }
            let frame = match (frame, sender) {
                (Frame::Part { body, more: false }, Some(sender)) => {
                    let place = stand_in(net, notes, sender, receiver).await;
                    Frame::Part { body: with_endpoint(body, place), more: false }
                }
                (frame, _) => frame,
            };
            let mut bytes = BytesMut::new();
            frame.put_header(&mut bytes);
            bytes.extend_from_slice(frame.body());
            to.write_all(&bytes).await?;
            if is_message && is_ready {
                return to.write_all(&unread).await;
            }
        }
        to.flush().await?;
    }
}

/// Where the sender is reached from the receiver's LAN, when it is a node elsewhere.
async fn stand_in<N: Net>(net: &N, notes: &Notes, sender: PeerId, receiver: PeerId) -> Option<SocketAddr> {
    let mut pause = Pause::new(net);
    for _ in 0..LOOKS {
        let place = notes.ask(Question::StandInOf { peer: sender, for_whom: receiver }).await;
        if place.is_some() {
            return place;
        }
        pause.sleep(LOOK_AGAIN).await;
    }
    None
}

/// The message with another endpoint, when it is a HELLO and there is one.
fn with_endpoint(message: Bytes, place: Option<SocketAddr>) -> Bytes {
    let Some(place) = place else { return message };
    let Ok(mut hello) = Message::decode(vec![message.clone()]) else { return message };
    let Body::Hello(body) = &mut hello.body else { return message };
    body.endpoint = Endpoint::from(place).to_string().as_str().into();
    match hello.encode() {
        Ok(frames) => frames.into_iter().next().unwrap_or(message),
        Err(_) => message,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::sync::mpsc;

    use super::*;
    use crate::net::{Alarm, OsNet};
    use crate::repeater::driver::Note;

    fn read(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    #[test]
    fn places_are_taken_given_back_and_refused_when_there_is_none() {
        let carried = Arc::new(Carried::default());
        let first = Talk::begin(&carried, 1).unwrap();
        assert!(Talk::begin(&carried, 1).is_none());
        assert_eq!((read(&carried.open), read(&carried.over_limit)), (1, 1));
        // Nobody was there.
        drop(first);
        let second = Talk::begin(&carried, 1).unwrap();
        second.succeed();
        assert_eq!((read(&carried.open), read(&carried.connections)), (1, 1));
        drop(second);
        assert_eq!((read(&carried.open), read(&carried.connections), read(&carried.over_limit)), (0, 1, 1));
    }

    #[tokio::test]
    async fn bytes_are_counted_each_way() {
        let net = OsNet::new();
        let carried = Arc::new(Carried::default());
        let talk = Talk::begin(&carried, 1).unwrap();
        let (notes, _kept) = mpsc::channel(1);
        let notes = Notes(notes);
        let (mut neighbour, one) = duplex(64);
        let (mut node, other) = duplex(64);
        let spoken = async {
            neighbour.write_all(b"hello").await?;
            neighbour.shutdown().await?;
            let mut heard = Vec::new();
            node.read_to_end(&mut heard).await?;
            node.write_all(b"hi!").await?;
            node.shutdown().await?;
            neighbour.read_to_end(&mut heard).await?;
            io::Result::Ok(heard)
        };
        let question = Question::Neighbour([10, 1, 0, 7].into());
        let (heard, ended) = tokio::join!(spoken, carry(&net, one, other, &talk, &notes, question));
        ended.unwrap();
        assert_eq!(heard.unwrap(), b"hellohi!");
        assert_eq!((read(&carried.bytes_out), read(&carried.bytes_in)), (5, 3));
    }

    /// Each is asked for by itself: that others talk does not keep a dead one.
    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_that_nobody_needs_ends_while_others_talk() {
        let net = OsNet::new();
        let carried = Arc::new(Carried::default());
        let [silent, talking] = [(); 2].map(|()| Talk::begin(&carried, 2).unwrap());
        let (notes, mut asked) = mpsc::channel(1);
        let notes = Notes(notes);
        let (_neighbour, one) = duplex(64);
        let (_node, other) = duplex(64);
        let question = Question::Neighbour([10, 1, 0, 7].into());
        let babbling = async {
            let mut pause = Pause::new(&net);
            loop {
                talking.count(Way::Out, 1);
                pause.sleep(Duration::from_secs(1)).await;
            }
        };
        let answering = async {
            while let Some(Note::Ask(_, answer)) = asked.recv().await {
                let _ = answer.send(None);
            }
        };
        let mut limit = net.alarm();
        limit.set(Some(net.now().after(IDLE * 3)));
        tokio::select! {
            biased;
            ended = carry(&net, one, other, &silent, &notes, question) => {
                assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
            () = babbling => {}
            () = answering => {}
            () = limit.ring() => panic!("it is still there"),
        }
    }
}
