//! Repeaters tell each other by multicast where they are: for networks that carry it where they carry no broadcast.
//!
//! ```text
//! "HAILER-REPEATER 1 PORT" or "HAILER-REPEATER 1 PORT ADDRESS", every 2 s
//! ```
//!
//! The address is that of the datagram unless one is told. Who was silent for 10 s is forgotten.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tracing::debug;

use super::{ANSWERS_MAX, Finder};
use crate::Timestamp;
use crate::net::{Alarm, Interface, Net, UdpOptions, UdpSocket};
use crate::repeater::StartError;

const INTERVAL: Duration = Duration::from_secs(2);
const EXPIRED: Duration = Duration::from_secs(10);
const GREETING: &str = "HAILER-REPEATER 1";
/// Longer than any datagram of ours.
const DATAGRAM: usize = 128;

/// The sockets of a group.
#[derive(Debug)]
pub(in crate::repeater) struct Sockets<N: Net> {
    ear: N::Udp,
    mouths: Vec<N::Udp>,
}

/// Joins the group on the interfaces that are served.
pub(super) fn bind<N: Net>(
    net: &N,
    group: Ipv4Addr,
    port: u16,
    ttl: u8,
    interfaces: &[(Interface, Ipv4Addr)],
) -> Result<Sockets<N>, StartError> {
    let bind = |options: &UdpOptions| {
        net.bind_udp(options).map_err(|source| StartError::Udp { at: options.at, source })
    };
    let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let ear = bind(&UdpOptions { reuse: true, ..UdpOptions::at(at) })?;
    let mut mouths = Vec::new();
    for (interface, address) in interfaces {
        ear.join_multicast(IpAddr::V4(group), interface).map_err(|source| StartError::Udp { at, source })?;
        let at = SocketAddr::from((*address, 0));
        let multicast_from = Some(IpAddr::V4(*address));
        mouths.push(bind(&UdpOptions { multicast_ttl: ttl, multicast_from, ..UdpOptions::at(at) })?);
    }
    Ok(Sockets { ear, mouths })
}

/// Tells where we are, and listens to the others.
pub(super) async fn run<N: Net>(
    net: N,
    sockets: Sockets<N>,
    to: SocketAddr,
    (advertise, port): (Option<IpAddr>, u16),
    finder: Finder,
) {
    let greeting = match advertise {
        Some(address) => format!("{GREETING} {port} {address}"),
        None => format!("{GREETING} {port}"),
    };
    let mut known: BTreeMap<SocketAddr, Timestamp> = BTreeMap::new();
    let mut alarm = net.alarm();
    let mut next = net.now();
    let mut datagram = [0; DATAGRAM];
    loop {
        alarm.set(Some(next));
        tokio::select! {
            biased;
            () = alarm.ring() => {
                next = net.now().after(INTERVAL);
                for mouth in &sockets.mouths {
                    if let Err(error) = mouth.send_to(greeting.as_bytes(), to).await {
                        debug!(%error, "repeaters not greeted");
                    }
                }
                let before = known.len();
                known.retain(|_, heard| net.now().since(*heard) < EXPIRED);
                if known.len() < before {
                    finder.found(known.keys().copied()).await;
                }
            }
            heard = sockets.ear.recv_from(&mut datagram) => {
                let place = heard.ok().and_then(|(len, from)| place(&datagram[..len], from.ip()));
                if let Some(place) = place.filter(|place| known.len() < ANSWERS_MAX || known.contains_key(place))
                    && known.insert(place, net.now()).is_none()
                {
                    finder.found(known.keys().copied()).await;
                }
            }
        }
    }
}

/// Where the repeater is that sent this.
fn place(datagram: &[u8], from: IpAddr) -> Option<SocketAddr> {
    let mut words = std::str::from_utf8(datagram).ok()?.strip_prefix(GREETING)?.strip_prefix(' ')?.split(' ');
    let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
    let address = words.next().map_or(Ok(from), str::parse).ok()?;
    words.next().is_none().then(|| SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_says_where_its_sender_is() {
        let from: IpAddr = "10.0.0.1".parse().unwrap();
        let said = |text: &str| place(text.as_bytes(), from).map(|place| place.to_string());
        assert_eq!(said("HAILER-REPEATER 1 2340").unwrap(), "10.0.0.1:2340");
        assert_eq!(said("HAILER-REPEATER 1 2341 192.0.2.7").unwrap(), "192.0.2.7:2341");
        for text in
            ["", "HAILER-REPEATER 1", "HAILER-REPEATER 1 0", "HAILER-REPEATER 1 x", "HAILER-REPEATER 12 7"]
        {
            assert_eq!(said(text), None, "{text}");
        }
        assert_eq!(said("HAILER-REPEATER 1 7 host"), None);
        assert_eq!(said("HAILER-REPEATER 1 7 10.0.0.2 x"), None);
    }

    proptest! {
        #[test]
        fn no_datagram_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = place(&bytes, IpAddr::from([10, 0, 0, 1]));
        }
    }
}
