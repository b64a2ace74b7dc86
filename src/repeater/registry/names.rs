//! Repeaters that are written down, and those behind a name of the DNS: addresses, or SRV records with hosts and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tracing::debug;

use super::Finder;
use crate::net::Net;
use crate::repeater::Place;
use crate::repeater::driver::Pause;

/// How often the names in a list are looked up again. Addresses are told at once, whatever the names do.
const AGAIN: Duration = Duration::from_secs(30);

/// A list of places.
pub(super) async fn list<N: Net>(net: N, places: Vec<Place>, finder: Finder) {
    let mut pause = Pause::new(&net);
    let mut known: Vec<BTreeSet<SocketAddr>> = places.iter().map(|place| numeric(place).collect()).collect();
    finder.found(known.iter().flatten().copied()).await;
    if places.iter().all(|place| numeric(place).next().is_some()) {
        return;
    }
    loop {
        let mut is_complete = true;
        for (place, known) in
            places.iter().zip(&mut known).filter(|(place, _)| numeric(place).next().is_none())
        {
            match net.resolve(&place.host, place.port).await {
                Ok(found) => *known = found.into_iter().collect(),
                Err(error) => {
                    debug!(%place, %error, "repeater's name not resolved");
                    is_complete = false;
                }
            }
        }
        finder.found(known.iter().flatten().copied()).await;
        if is_complete {
            pause.succeed();
            pause.sleep(AGAIN).await;
        } else {
            pause.wait().await;
        }
    }
}

fn numeric(place: &Place) -> impl Iterator<Item = SocketAddr> + use<> {
    place.host.parse().ok().map(|address| SocketAddr::new(address, place.port)).into_iter()
}

/// A name with an address for each repeater.
pub(super) async fn dns<N: Net>(net: N, name: Place, interval: Duration, finder: Finder) {
    let mut pause = Pause::new(&net);
    let mut known = BTreeSet::new();
    loop {
        // A resolver does not tell "no such name" from "no answer" on every system, and whoever asks is mostly one of
        // those who have the name.
        match net.resolve(&name.host, name.port).await {
            Ok(found) => {
                let found: BTreeSet<_> = found.into_iter().collect();
                if found != known {
                    known.clone_from(&found);
                    finder.found(found).await;
                }
            }
            Err(error) => debug!(%name, %error, "name of the repeaters not resolved"),
        }
        pause.sleep(interval).await;
    }
}

/// The most hosts that are looked up of one answer.
const HOSTS_MAX: usize = 256;

/// A service's name with a host and a port for each repeater. A host that can't be resolved keeps the addresses that it
/// had.
pub(super) async fn services<N: Net>(net: N, name: String, interval: Duration, finder: Finder) {
    let mut pause = Pause::new(&net);
    let mut known: BTreeMap<(String, u16), BTreeSet<SocketAddr>> = BTreeMap::new();
    let mut told = BTreeSet::new();
    loop {
        match net.resolve_service(&name).await {
            Ok(hosts) => {
                let mut before = std::mem::take(&mut known);
                for (host, port) in hosts.into_iter().take(HOSTS_MAX) {
                    let found = match net.resolve(&host, port).await {
                        Ok(found) => found.into_iter().collect(),
                        Err(error) => {
                            debug!(%host, %error, "host of a repeater not resolved");
                            before.remove(&(host.clone(), port)).unwrap_or_default()
                        }
                    };
                    known.insert((host, port), found);
                }
                let found: BTreeSet<_> = known.values().flatten().copied().collect();
                if found != told {
                    told.clone_from(&found);
                    finder.found(found).await;
                }
            }
            Err(error) => debug!(%name, %error, "service of the repeaters not resolved"),
        }
        pause.sleep(interval).await;
    }
}
