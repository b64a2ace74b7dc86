//! Hubs of gossip: each repeater publishes where it is, and hears of the others.
//!
//! ```text
//! key "hailer-repeater ADDRESS:PORT", value "ADDRESS:PORT"
//! ```
//!
//! The keys are no nodes', so nodes that use the same hub leave them alone. A hub of Hailer forgets a repeater that is silent
//! for half a minute; czmq's keeps what it was told until it ends. While no hub answers, what they said stays.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::watch;
use tracing::{debug, info};

use super::{ANSWERS_MAX, Finder};
use crate::gossip::{Client, ClientConfig, Heard, Key, Limits};
use crate::net::Net;
use crate::zre::Endpoint;

const KEY: &str = "hailer-repeater ";

/// Tells the hubs where we are, and listens to them.
pub(super) async fn run<N: Net>(
    net: N,
    hubs: Vec<Endpoint>,
    own: Option<(IpAddr, u16)>,
    mut leave: watch::Receiver<bool>,
    finder: Finder,
) {
    let (client, mut heard) = Client::start(&net, ClientConfig { hubs, limits: Limits::default() });
    let own = own.map(|(address, port)| SocketAddr::new(address, port));
    if let Some(own) = own {
        client.publish(key(own), own.to_string()).await;
    }
    let mut known: BTreeMap<Key, SocketAddr> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            biased;
            _ = leave.wait_for(|leave| *leave) => break,
            event = heard.next() => event,
        };
        let is_changed = match event {
            Some(Heard::Found { key, value }) => match place(&key, &value.to_string()) {
                Some(place) if known.len() < ANSWERS_MAX || known.contains_key(&key) => {
                    known.insert(key, place) != Some(place)
                }
                _ => false,
            },
            Some(Heard::Lost { key }) => known.remove(&key).is_some(),
            Some(Heard::Hub { endpoint, .. }) => {
                info!(%endpoint, "registered with the hub");
                false
            }
            Some(Heard::HubLost { endpoint }) => {
                debug!(%endpoint, "no use of the hub; what is known stays");
                false
            }
            None => return,
        };
        if is_changed {
            finder.found(known.values().copied()).await;
        }
    }
    if let Some(own) = own {
        client.withdraw(key(own)).await;
    }
    client.stop().await;
}

fn key(place: SocketAddr) -> Key {
    Key::Other(format!("{KEY}{place}").into())
}

/// Where the repeater is that a tuple tells of.
fn place(of: &Key, value: &str) -> Option<SocketAddr> {
    let place = value.parse().ok()?;
    (*of == key(place)).then_some(place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::zre::PeerId;

    #[test]
    fn a_tuple_tells_of_a_repeater_when_key_and_value_agree() {
        let place_of = |key: &str, value: &str| place(&Key::Other(key.to_owned().into()), value);
        for text in ["10.2.0.9:2340", "[fd00::9]:2341"] {
            assert_eq!(place_of(&format!("hailer-repeater {text}"), text), text.parse().ok());
        }
        for (key, value) in [
            ("hailer-repeater 10.2.0.9:2340", "10.2.0.8:2340"),
            ("hailer-repeater 10.2.0.9", "10.2.0.9"),
            ("10.2.0.9:2340", "10.2.0.9:2340"),
            ("hailer-repeater host:2340", "host:2340"),
            ("", ""),
        ] {
            assert_eq!(place_of(key, value), None, "{key} {value}");
        }
        assert_eq!(place(&Key::Peer(PeerId::from_bytes([1; 16])), "tcp://10.2.0.9:49152"), None);
    }

    proptest! {
        #[test]
        fn no_tuple_is_a_panic(key in proptest::collection::vec(any::<u8>(), 0..60), value in ".{0,60}") {
            let _ = place(&Key::Other(key.into()), &value);
        }
    }
}
