//! Beacons as datagrams: heard by the node's ears, said by its mouths.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::{debug, trace};

use super::Driver;
use super::sockets::Way;
use crate::net::{Net, UdpSocket};
use crate::zre::Multicast;
use crate::zre::beacon::{Beacon, BeaconError, unrepeated};
use crate::zre::interface::Site;
use crate::zre::machine::Input;

/// Beacons that wait for the socket. When it takes none, older ones are of no use.
const BEACONS: usize = 16;
/// How long beacons go to a group after the last one of a peer that may hear nothing else.
const GROUP_SPOKEN: Duration = Duration::from_secs(60);
/// Longer than any beacon, so that a datagram that was cut to it is seen to be none.
const DATAGRAM: usize = 128;

/// What a datagram said. It is read where it came in: to move it would cost more than to read it.
pub(super) struct Heard {
    /// Who sent the datagram.
    by: IpAddr,
    /// Who sent the beacon first, when a repeater carried it over.
    from: SocketAddr,
    beacon: Result<Beacon, BeaconError>,
}

impl Heard {
    fn read(datagram: &[u8], from: SocketAddr) -> Self {
        let by = from.ip();
        // A repeater's neighbours take what it carried over for what its first sender said.
        let repeated = unrepeated(datagram).filter(|(_, origin)| !origin.is_loopback() || by.is_loopback());
        let (beacon, origin) = repeated.unwrap_or((datagram, by));
        let from = if repeated.is_some() { SocketAddr::new(origin, from.port()) } else { from };
        Self { by, from, beacon: Beacon::decode(beacon) }
    }
}

/// Hears the next datagram. Not a future: a node hears much, and each would be one.
pub(super) fn hear<U: UdpSocket>(ear: &U, context: &mut Context<'_>) -> Poll<io::Result<Heard>> {
    let mut datagram = [0; DATAGRAM];
    let heard = ear.poll_recv_from(context, &mut datagram);
    heard.map_ok(|(len, from)| Heard::read(&datagram[..len], from))
}

/// A beacon that waits for the socket.
pub(super) struct Said {
    pub(super) beacon: [u8; Beacon::LEN],
    /// For one node, instead of all.
    pub(super) to: Option<SocketAddr>,
}

impl<N: Net> Driver<N> {
    pub(super) fn on_heard(&mut self, site: &Site, way: Way, heard: io::Result<Heard>) {
        match heard {
            Ok(Heard { by, .. }) if site.is_elsewhere(by) => {
                trace!(from = %by, "beacon ignored: it comes from another network of this machine");
            }
            Ok(Heard { from, beacon, .. }) => {
                if let (Way::Group(group), Ok(beacon)) = (way, &beacon)
                    && self.machine.is_of_another_kind(beacon.peer)
                {
                    self.spoken[group] = self.net.now().after(GROUP_SPOKEN);
                }
                self.feed(Input::Beacon { from, beacon });
            }
            Err(error) => debug!(%error, "no datagram"),
        }
    }

    pub(super) fn say(&mut self, said: Said) {
        if self.beacons.len() == BEACONS {
            self.beacons.pop_front();
        }
        self.beacons.push_back(said);
    }

    /// Whether beacons go there, too.
    pub(super) fn is_spoken(&self, way: Way) -> bool {
        match (way, self.multicast) {
            (Way::Common, _) | (_, Multicast::Always) => true,
            (_, Multicast::Never) => false,
            (Way::Group(group), Multicast::Auto) => {
                self.spoken.get(group).is_some_and(|until| self.net.now() < *until)
            }
        }
    }
}

pub(super) async fn say<U: UdpSocket>(targets: Vec<(Arc<U>, SocketAddr)>, beacon: [u8; Beacon::LEN]) {
    for (mouth, to) in targets {
        if let Err(error) = mouth.send_to(&beacon, to).await {
            debug!(%to, %error, "beacon not sent");
        }
    }
}
