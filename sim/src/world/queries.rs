//! Sessions over UDP of programs that know nothing of Hailer, as the DNS has them: a client asks by a datagram, asks again when
//! no answer comes, and the echo service answers each datagram with itself. They stand behind a relay and before it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hailer::net::{Alarm, Net, UdpOptions, UdpSocket};

use super::log::Author;
use super::sessions::byte;
use crate::trace::What;

/// How long a client waits for an answer before it asks again.
const RETRY: Duration = Duration::from_secs(1);
/// How often it asks. Where each way loses one datagram in ten, one question in four thousand has no answer then.
const ATTEMPTS: u32 = 5;

/// Answers each datagram that comes to the port with itself, until its node ends.
pub(super) async fn echo<N: Net>(net: N, port: u16, author: Author) {
    let socket = match net.bind_udp(&UdpOptions::at((Ipv4Addr::UNSPECIFIED, port).into())) {
        Ok(socket) => socket,
        Err(error) => return author.record(What::Refused(format!("echo on UDP port {port}: {error}"))),
    };
    let mut buffer = vec![0; 65_536];
    loop {
        if let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..len], from).await;
        }
    }
}

/// One question of a client and its answer, from a port of its own, written down as a session.
pub(super) async fn query<N: Net>(net: N, to: SocketAddr, number: u64, bytes: usize, author: Author) {
    author.record(What::SessionOpened { number, bytes });
    let problem = ask(&net, to, number, bytes).await.err();
    author.record(What::SessionEnded { number, problem });
}

async fn ask<N: Net>(net: &N, to: SocketAddr, number: u64, bytes: usize) -> Result<(), String> {
    let own: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let options = UdpOptions::at((own, 0).into());
    let socket = net.bind_udp(&options).map_err(|error| format!("no socket: {error}"))?;
    let question: Vec<u8> = (0..bytes).map(|place| byte(number, place)).collect();
    let mut buffer = vec![0; 65_536];
    let mut alarm = net.alarm();
    for _ in 0..ATTEMPTS {
        // One that can't be sent is as good as one that got lost.
        let _ = socket.send_to(&question, to).await;
        alarm.set(Some(net.now().after(RETRY)));
        loop {
            tokio::select! {
                biased;
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((len, from)) if from == to && buffer[..len] == question => return Ok(()),
                    Ok((len, from)) if from == to => {
                        return Err(format!("an answer of {len} bytes is not what was asked"));
                    }
                    Ok(_) | Err(_) => {}
                },
                () = alarm.ring() => break,
            }
        }
    }
    Err(format!("no answer to {ATTEMPTS} datagrams"))
}
