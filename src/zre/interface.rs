//! Which interfaces a node uses, and whose beacons it hears.
//!
//! One by default, as zyre; or those that are named; or all. A node hears no beacons of the machine's other networks:
//! whoever is there could not reach the addresses that it tells, would enter a node that never beacons to it, and lose it
//! when its time is up.
//!
//! It only chooses. Sockets are the driver's.

use std::net::{IpAddr, Ipv4Addr};

use super::StartError;
use crate::net::Interface;

/// Where a node is on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Site {
    /// The addresses that peers reach it at, in the order of [`Kind`]; the first is told to peers of no network of ours.
    pub(super) homes: Vec<Interface>,
    /// The machine's other networks.
    others: Vec<Network>,
}

/// What kind of address it is. IPv4 is what all the family speaks; a link-local address is known on its link alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    V4,
    /// IPv6 that routers know.
    Routed,
    LinkLocal,
}

impl Kind {
    /// `None` for what no peer can be told.
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => Some(Self::V4),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Self::LinkLocal),
            IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() => None,
            IpAddr::V6(_) => Some(Self::Routed),
        }
    }
}

/// The network that an address of the machine is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

impl Network {
    pub(super) fn of(interface: &Interface) -> Option<Self> {
        let IpAddr::V4(address) = interface.address else { return None };
        Some(Self { address, prefix: interface.prefix })
    }

    pub(super) fn contains(&self, other: Ipv4Addr) -> bool {
        let host_bits = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        (self.address.to_bits() ^ other.to_bits()) & !host_bits == 0
    }
}

impl Site {
    /// Whether whoever sends from this address is a neighbour on another of the machine's networks. The machine itself
    /// is none, whatever address it sends from.
    pub(super) fn is_elsewhere(&self, from: IpAddr) -> bool {
        let IpAddr::V4(from) = from else { return false };
        // The others first: as a rule there are none.
        self.others.iter().any(|other| other.contains(from))
            && !self.homes.iter().filter_map(Network::of).any(|own| own.contains(from))
            && self.others.iter().all(|other| other.address != from)
    }
}

/// What a configuration says about interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// By name, index or address, or `*` for all; none for the one that suits best.
    pub(super) interfaces: Vec<String>,
    /// Whether IPv6 is used beside IPv4.
    pub(super) ipv6: bool,
}

/// What stands for every interface but loopbacks and tunnels.
pub(super) const ALL: &str = "*";

/// Chooses what is wanted of the interfaces that there are.
///
/// Without a wish it is the first that is up and is neither a loopback nor a tunnel; one that can broadcast goes before one
/// that can't, and the one that was chosen `before` goes before all others, whatever its address is now. A name or an
/// index means the interface's first address of each [`Kind`], an address itself alone, and `*` every address of every
/// interface that would be taken without a wish. Of several routed ones on one network that was chosen before stays:
/// machines give themselves others in the course of time, for the sake of privacy.
///
/// # Errors
/// When nothing that is wanted is there.
pub(super) fn choose(
    interfaces: &[Interface],
    wanted: &Wanted,
    before: Option<&Site>,
) -> Result<Site, StartError> {
    let is_usable = |it: &&Interface| {
        it.is_up && Kind::of(it.address).is_some_and(|kind| kind == Kind::V4 || wanted.ipv6)
    };
    let mut usable: Vec<&Interface> = interfaces.iter().filter(is_usable).collect();
    let was_home =
        |it: &Interface| before.is_some_and(|site| site.homes.iter().any(|home| is_same(home, it)));
    usable.sort_by_key(|it| Kind::of(it.address) == Some(Kind::Routed) && !was_home(it));
    let is_ordinary = |it: &Interface| !it.is_loopback && !it.is_point_to_point;
    let mut homes: Vec<&Interface> = if wanted.interfaces.is_empty() {
        let earlier = before.and_then(|site| site.homes.first()).map(|home| home.name.as_str());
        let rank = |it: &&&Interface| {
            let is_earlier = Some(it.name.as_str()) == earlier;
            // An address that a machine gave itself means that nobody gave it one.
            let is_makeshift = matches!(it.address, IpAddr::V4(v4) if v4.is_link_local());
            (!is_earlier, it.address.is_ipv6(), is_makeshift, it.broadcast.is_none())
        };
        let best = usable.iter().filter(|it| is_ordinary(it)).min_by_key(rank);
        best.map_or_else(Vec::new, |best| first_of_each_kind(&usable, &best.name))
    } else {
        let chosen = wanted.interfaces.iter().flat_map(|wish| {
            if wish == ALL {
                return usable.iter().copied().filter(|it| is_ordinary(it)).collect();
            }
            let by_address = usable.iter().find(|it| it.address.to_string() == *wish);
            if let Some(by_address) = by_address {
                return vec![*by_address];
            }
            let named = usable.iter().find(|it| it.name == *wish || it.index.to_string() == *wish);
            named.map_or_else(Vec::new, |named| first_of_each_kind(&usable, &named.name))
        });
        chosen.collect()
    };
    homes.sort_by_key(|it| Kind::of(it.address));
    let mut distinct: Vec<Interface> = Vec::new();
    for home in homes {
        // Two addresses of one interface on one network are one place.
        let is_known = |other: &Interface| {
            other.index == home.index
                && Kind::of(other.address) == Kind::of(home.address)
                && share_network(other, home)
        };
        if !distinct.iter().any(is_known) {
            distinct.push(home.clone());
        }
    }
    if distinct.is_empty() {
        return Err(StartError::NoInterface {
            wanted: wanted.interfaces.first().cloned(),
            found: interfaces.iter().map(describe).collect(),
        });
    }
    let is_own = |it: &&&Interface| distinct.iter().any(|home| home.address == it.address);
    let others = usable.iter().filter(|it| !is_own(it)).filter_map(|it| Network::of(it)).collect();
    Ok(Site { homes: distinct, others })
}

fn first_of_each_kind<'a>(usable: &[&'a Interface], name: &str) -> Vec<&'a Interface> {
    let first =
        |kind| usable.iter().copied().find(|it| it.name == name && Kind::of(it.address) == Some(kind));
    [Kind::V4, Kind::Routed, Kind::LinkLocal].into_iter().filter_map(first).collect()
}

/// Whether two descriptions are of one address, whatever else has changed.
pub(super) fn is_same(a: &Interface, b: &Interface) -> bool {
    (a.address, a.index) == (b.address, b.index)
}

/// The number of the interface, where an address means nothing without it.
pub(super) fn scope(interface: &Interface) -> u32 {
    if Kind::of(interface.address) == Some(Kind::LinkLocal) { interface.index } else { 0 }
}

/// Whether the second address is on the network of the first one.
fn share_network(a: &Interface, b: &Interface) -> bool {
    let common_bits = match (a.address, b.address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    common_bits >= a.prefix.into()
}

/// Whether beacons leave from this one of a node's homes. From one address of IPv6 on each link they do: the link-local one, if
/// it is used, as zyre's.
pub(super) fn is_beaconing(home: &Interface, homes: &[Interface]) -> bool {
    let is_local = |it: &Interface| it.index == home.index && Kind::of(it.address) == Some(Kind::LinkLocal);
    Kind::of(home.address) != Some(Kind::Routed) || !homes.iter().any(is_local)
}

/// Where datagrams for everybody go: loopbacks have no broadcast address of their own, but Linux delivers to the last
/// address of their network; for the rest there is the one that never leaves the link.
pub(super) fn broadcast(interface: &Interface, address: Ipv4Addr) -> Ipv4Addr {
    match interface.broadcast {
        Some(IpAddr::V4(broadcast)) => broadcast,
        _ if interface.is_loopback => {
            let host_bits = u32::MAX.checked_shr(interface.prefix.into()).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() | host_bits)
        }
        _ => Ipv4Addr::BROADCAST,
    }
}

fn describe(interface: &Interface) -> String {
    let against = [
        (!interface.is_up, "down"),
        (interface.is_loopback, "loopback"),
        (interface.is_point_to_point, "tunnel"),
        (interface.address.is_ipv6(), "IPv6"),
    ];
    let against: Vec<_> = against.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word).collect();
    let Interface { name, address, .. } = interface;
    if against.is_empty() {
        format!("{name} {address}")
    } else {
        format!("{name} {address} ({})", against.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, index: u32, address: &str, broadcast: Option<&str>) -> Interface {
        Interface {
            name: name.into(),
            index,
            address: address.parse().unwrap(),
            prefix: if name == "lo" { 8 } else { 24 },
            broadcast: broadcast.map(|broadcast| broadcast.parse().unwrap()),
            is_loopback: name == "lo",
            is_point_to_point: name.starts_with("tun"),
            is_up: name != "off0",
        }
    }

    fn machine() -> Vec<Interface> {
        vec![
            interface("lo", 1, "127.0.0.1", None),
            interface("off0", 2, "10.9.0.1", Some("10.9.0.255")),
            interface("tun0", 3, "10.8.0.1", None),
            interface("eth0", 4, "fe80::1", None),
            interface("odd0", 5, "10.5.0.1", None),
            interface("eth0", 4, "10.0.0.1", Some("10.0.0.255")),
            interface("eth0", 4, "10.0.0.2", Some("10.0.0.255")),
            interface("eth1", 6, "10.1.0.1", Some("10.1.0.255")),
            interface("eth1", 6, "10.2.0.1", Some("10.2.0.255")),
        ]
    }

    fn wish(wanted: &[&str], ipv6: bool) -> Wanted {
        Wanted { interfaces: wanted.iter().map(ToString::to_string).collect(), ipv6 }
    }

    fn site(wanted: &[&str]) -> Site {
        choose(&machine(), &wish(wanted, false), None).unwrap()
    }

    fn addresses(site: &Site) -> Vec<String> {
        site.homes.iter().map(|home| home.address.to_string()).collect()
    }

    fn broadcast_of(site: &Site) -> String {
        let IpAddr::V4(address) = site.homes[0].address else { panic!() };
        broadcast(&site.homes[0], address).to_string()
    }

    #[test]
    fn the_first_interface_that_can_broadcast_is_chosen() {
        let site = site(&[]);
        assert_eq!((addresses(&site), broadcast_of(&site)), (vec!["10.0.0.1".into()], "10.0.0.255".into()));
    }

    #[test]
    fn an_interface_is_named_by_name_index_or_address() {
        for wanted in ["eth1", "6", "10.1.0.1"] {
            assert_eq!(addresses(&site(&[wanted])), ["10.1.0.1"], "{wanted}");
        }
        assert_eq!(addresses(&site(&["10.2.0.1"])), ["10.2.0.1"], "its second address");
    }

    #[test]
    fn several_are_chosen_together_and_all_are_all_but_loopbacks_and_tunnels() {
        assert_eq!(addresses(&site(&["eth1", "eth0", "eth1", "nothing"])), ["10.1.0.1", "10.0.0.1"]);
        assert_eq!(addresses(&site(&["*"])), ["10.5.0.1", "10.0.0.1", "10.1.0.1", "10.2.0.1"]);
        assert_eq!(addresses(&site(&["*", "tun0"])).len(), 5, "a tunnel that is named as well");
    }

    #[test]
    fn ipv6_is_used_beside_ipv4_and_alone_where_there_is_no_other() {
        let of = |wanted: &[&str], interfaces: &[Interface]| {
            addresses(&choose(interfaces, &wish(wanted, true), None).unwrap())
        };
        assert_eq!(of(&[], &machine()), ["10.0.0.1", "fe80::1"]);
        assert_eq!(of(&["eth0"], &machine()), ["10.0.0.1", "fe80::1"]);
        assert_eq!(of(&["fe80::1"], &machine()), ["fe80::1"]);
        assert_eq!(of(&[], &machine()[..4]), ["fe80::1"]);
    }

    #[test]
    fn an_address_that_routers_know_is_used_before_the_link_local_one() {
        let mut machine = machine();
        let v6 = |address: &str| Interface { prefix: 64, ..interface("eth0", 4, address, None) };
        machine.push(Interface { prefix: 128, ..interface("lo", 1, "::1", None) });
        machine.insert(0, v6("2001:db8::2"));
        let of = |wanted: &[&str], interfaces: &[Interface], before: Option<&Site>| {
            choose(interfaces, &wish(wanted, true), before).unwrap()
        };
        let all = of(&["eth0"], &machine, None);
        assert_eq!(addresses(&all), ["10.0.0.1", "2001:db8::2", "fe80::1"]);
        assert_eq!(all.homes.iter().map(scope).collect::<Vec<_>>(), [0, 0, 4]);
        let is_beaconing = |site: &Site, home: usize| is_beaconing(&site.homes[home], &site.homes);
        assert!(is_beaconing(&all, 0) && !is_beaconing(&all, 1) && is_beaconing(&all, 2));
        let alone = of(&["2001:db8::2"], &machine, None);
        assert!(addresses(&alone) == ["2001:db8::2"] && is_beaconing(&alone, 0));
        assert_eq!(addresses(&of(&["lo"], &machine, None)), ["127.0.0.1"]);
        // A temporary address, and one of another network.
        machine.insert(0, v6("2001:db8::beef"));
        machine.insert(0, v6("fd00:7::2"));
        assert_eq!(addresses(&of(&["eth0"], &machine, Some(&all))), ["10.0.0.1", "2001:db8::2", "fe80::1"]);
        let star = of(&["*"], &machine, Some(&all));
        assert_eq!(addresses(&star)[4..], ["2001:db8::2", "fd00:7::2", "fe80::1"]);
        assert_eq!(addresses(&site(&["eth0"])), ["10.0.0.1"], "nobody asked for IPv6");
    }

    #[test]
    fn the_interface_that_was_chosen_before_is_kept_with_whatever_address_it_has() {
        let before = site(&["eth1"]);
        let mut now = machine();
        now.retain(|it| it.name != "eth1");
        now.push(interface("eth1", 6, "10.1.0.99", Some("10.1.0.255")));
        let kept = choose(&now, &Wanted::default(), Some(&before)).unwrap();
        assert_eq!(addresses(&kept), ["10.1.0.99"]);
        now.pop();
        let other = choose(&now, &Wanted::default(), Some(&before)).unwrap();
        assert_eq!(addresses(&other), ["10.0.0.1"], "it is gone");
    }

    #[test]
    fn an_address_that_a_machine_gave_itself_is_used_when_there_is_no_other() {
        let makeshift = interface("eth9", 9, "169.254.7.7", Some("169.254.255.255"));
        let both = [makeshift.clone(), interface("eth0", 4, "10.0.0.1", None)];
        let chosen =
            |interfaces: &[Interface]| addresses(&choose(interfaces, &Wanted::default(), None).unwrap());
        assert_eq!(
            (chosen(&both), chosen(&both[..1])),
            (vec!["10.0.0.1".into()], vec!["169.254.7.7".into()])
        );
    }

    #[test]
    fn loopbacks_and_tunnels_are_used_when_they_are_asked_for() {
        let lo = site(&["lo"]);
        assert_eq!((addresses(&lo), broadcast_of(&lo)), (vec!["127.0.0.1".into()], "127.255.255.255".into()));
        assert_eq!(broadcast_of(&site(&["tun0"])), "255.255.255.255");
    }

    #[test]
    fn without_a_broadcast_address_the_limited_broadcast_is_used() {
        let only = [interface("odd0", 5, "10.5.0.1", None)];
        assert_eq!(broadcast_of(&choose(&only, &Wanted::default(), None).unwrap()), "255.255.255.255");
    }

    #[test]
    fn who_is_on_another_network_of_the_machine_is_elsewhere() {
        let site = site(&["10.1.0.1"]);
        let is_elsewhere = |from: &str| site.is_elsewhere(from.parse().unwrap());
        assert!(is_elsewhere("10.0.0.9") && is_elsewhere("10.5.0.9") && is_elsewhere("127.0.0.9"));
        for from in ["10.1.0.9", "10.1.0.1", "10.0.0.1", "127.0.0.1", "192.168.7.7", "10.9.0.9", "fe80::9"] {
            assert!(!is_elsewhere(from), "{from}");
        }
        let all = super::tests::site(&["*"]);
        assert!(!all.is_elsewhere("10.0.0.9".parse().unwrap()));
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_interfaces_that_there_are() {
        for wanted in ["eth7", "off0", "fe80::1"] {
            let error = choose(&machine(), &wish(&[wanted], false), None).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("eth0 10.0.0.1"), "{error}");
            assert!(
                error.contains("off0 10.9.0.1 (down)") && error.contains("eth0 fe80::1 (IPv6)"),
                "{error}"
            );
        }
        let error = choose(&machine()[..3], &Wanted::default(), None).unwrap_err().to_string();
        assert!(
            error.contains("lo 127.0.0.1 (loopback)") && error.contains("tun0 10.8.0.1 (tunnel)"),
            "{error}"
        );
    }
}
