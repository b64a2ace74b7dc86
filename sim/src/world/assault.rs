//! A machine that means harm: it opens connections to a node without end, and says on each what no node should.
//!
//! This is no protocol behaviour: the bytes are put together here as an attacker would, who has no node. They are the odd and
//! hostile input that aborts or stops other implementations, and connections that say nothing or stop half-way.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hailer::net::{Alarm, Net, UdpOptions, UdpSocket};
use tokio::io::AsyncWriteExt;

/// Time between two connections.
const PACE: Duration = Duration::from_millis(50);
/// How long a connection is held when nobody closes it.
const HOLD: Duration = Duration::from_secs(20);

/// Attacks the node whose inbox is at `to`, for as long as the machine runs.
pub(super) async fn run<N: Net>(net: N, to: SocketAddr) {
    let mut pace = net.alarm();
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mouth = net.bind_udp(&UdpOptions { broadcast: true, ..UdpOptions::at(at) }).ok();
    for round in 0.. {
        pace.set(Some(net.now().after(PACE)));
        pace.ring().await;
        let mut identity = [0; 16];
        net.random(&mut identity);
        let words = words(round, &identity, to);
        let (own, mut hold) = (net.clone(), net.alarm());
        let connection = async move {
            if let Ok(mut stream) = own.connect(to, None).await {
                // What it makes of this is its own affair.
                let _ = stream.write_all(&words).await;
                hold.set(Some(own.now().after(HOLD)));
                hold.ring().await;
            }
        };
        net.spawn("assault", connection).detach();
        if let Some(mouth) = &mouth {
            let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, 5670));
            // Of others than those who connect: a node that was heard of may say HELLO without a place.
            let others = identity.map(|byte| !byte);
            let _ = mouth.send_to(&beacon(round, &others), everybody).await;
        }
    }
}

/// What is said on a connection: one kind of input after the other.
fn words(round: usize, identity: &[u8; 16], victim: SocketAddr) -> Vec<u8> {
    let own = |messages: &[&[u8]]| {
        let framed = messages.iter().flat_map(|message| [&[0, message.len() as u8][..], message].concat());
        [greeting(b"NULL"), ready(identity), framed.collect()].concat()
    };
    let hello = hello("tcp://10.255.255.254:9", &[0, 0, 0, 0, 0, 1, b'm', 0, 0, 0, 0]);
    let with = |at: usize, byte: u8| {
        let mut hello = hello.clone();
        hello[at] = byte;
        hello
    };
    match round % 16 {
        0 => Vec::new(),
        1 => identity.repeat(20),
        2 => greeting(b"NULL"),
        3 => greeting(b"CURVE"),
        4 => [greeting(b"NULL"), b"\x04\x06\x05READY".to_vec()].concat(),
        // A frame that would be as long as all memory.
        5 => [greeting(b"NULL"), ready(identity), b"\x02\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()].concat(),
        6 => own(&[&with(5, 5)]),
        7 => own(&[&with(3, 1)]),
        8 => own(&[&hello[..20]]),
        9 => own(&[&self::hello("tcp://10.255.255.254:9", &[0xff; 4])]),
        10 => own(&[&self::hello("garbage", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]),
        11 => own(&[&self::hello(&format!("tcp://{victim}"), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]),
        12 => own(&[b"\xaa\xa1\x02\x02\x00\x01", b"x"]),
        13 => own(&[&hello, b"\xaa\xa1\x06\x02\x00\x09"]),
        14 => own(&[
            &hello,
            b"\xaa\xa1\x04\x02\x00\x02\x02\xff\xfe\x63",
            b"\xaa\xa1\x05\x02\x00\x03\x04ROOM\x07",
            b"\xaa\xa1\x63\x02\x00\x04",
            b"\xaa\xa1\x02\x02\x00\x05",
            b"\xaa\xa1\x08\x02\x00\x06\x03ALL\x06nobody",
            b"\xaa\xa1\x0a\x02\x00\x07",
        ]),
        _ => own(&[b"", b"\xaa", b"\xaa\xa2\x01\x02\x00\x01", b"GET / HTTP/1.1"]),
    }
}

/// A beacon that is none: too short, too long, of other versions; and two that are well made, one of them by a repeater, of
/// somebody who is not there.
fn beacon(round: usize, identity: &[u8; 16]) -> Vec<u8> {
    let beacon = [b"ZRE\x01", &identity[..], &[0, 9]].concat();
    let version = |version: u8, rest: &[u8]| [&b"ZRE"[..], &[version], &beacon[4..], rest].concat();
    match round % 6 {
        0 => beacon[..21].to_vec(),
        1 => version(1, &[7; 32]),
        2 => version(3, &[7; 32]),
        3 => version(2, &[]),
        4 => version(1, b"10.81.0.12"),
        _ => beacon,
    }
}

/// ZMTP's greeting, of which only the mechanism varies.
fn greeting(mechanism: &[u8]) -> Vec<u8> {
    let mut greeting = vec![0; 64];
    (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xff, 0x7f, 3, 1);
    greeting[12..12 + mechanism.len()].copy_from_slice(mechanism);
    greeting
}

/// A DEALER's READY.
fn ready(identity: &[u8; 16]) -> Vec<u8> {
    let start = b"\x04\x3a\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x11\x01";
    [&start[..], identity].concat()
}

/// The start of a HELLO and what is to follow its endpoint.
fn hello(endpoint: &str, rest: &[u8]) -> Vec<u8> {
    let start = [0xaa, 0xa1, 1, 2, 0, 1, endpoint.len() as u8];
    [&start, endpoint.as_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use hailer::zre::message::{Body, Message};

    use super::*;

    /// Or else nothing of what follows it would be looked at.
    #[test]
    fn the_hello_of_an_attacker_is_well_made_where_it_is_meant_to_be() {
        let words = words(14, &[7; 16], "10.0.0.1:49152".parse().unwrap());
        let (len, rest) = words[64 + 60..].split_at(2);
        let hello = rest[..usize::from(len[1])].to_vec();
        let message = Message::decode(vec![hello.into()]).unwrap();
        assert!(matches!(message.body, Body::Hello(_)));
    }
}
