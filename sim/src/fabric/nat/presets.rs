//! NATs with a name: those that people are behind.
//!
//! `linux` is a plain `masquerade` rule, measured on Linux 6.18. The others keep to the minima of RFC 4787, RFC 5382 and
//! RFC 6888 where these name one, and to what cloud providers document.

use std::time::Duration;

use super::policy::{
    Dependence, Hairpin, MidConnection, Policy, PortPolicy, Refresh, TcpTimeouts, Timeouts, Unsolicited,
};

/// A NAT with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// Linux with `masquerade` and no filter: the router answers what is not for anybody inside.
    Linux,
    /// Linux with unsolicited packets from outside dropped, as home routers have it (OpenWrt).
    LinuxDrop,
    /// Anybody may send to a mapping.
    FullCone,
    /// Any port of an address that the inside has sent to may send to a mapping.
    AddrRestricted,
    /// Only whom the inside has sent to may send to a mapping.
    PortRestricted,
    /// Each destination sees another, random port.
    Symmetric,
    /// The NAT gateway of a cloud: symmetric, patient, and it resets connections that it has forgotten.
    Cloud,
    /// A provider's: many subscribers behind one address, a block of ports for each.
    Cgn,
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The time-outs of Linux.
const LINUX_TCP: TcpTimeouts = TcpTimeouts {
    syn_sent: secs(120),
    syn_recv: secs(60),
    established: secs(432_000),
    fin_wait: secs(120),
    close_wait: secs(60),
    last_ack: secs(30),
    time_wait: secs(120),
    close: secs(10),
    unacknowledged: secs(300),
};
/// RFC 5382, REQ-5: two hours and four minutes for what is established, four minutes for what is not.
const RFC_TCP: TcpTimeouts = TcpTimeouts {
    syn_sent: secs(240),
    syn_recv: secs(240),
    established: secs(7440),
    fin_wait: secs(240),
    close_wait: secs(240),
    last_ack: secs(240),
    time_wait: secs(240),
    close: secs(10),
    unacknowledged: secs(7440),
};
const LINUX_TIMEOUTS: Timeouts = Timeouts {
    udp_unreplied: secs(30),
    udp_replied: secs(120),
    udp_stream_after: secs(2),
    icmp: secs(30),
    tcp: LINUX_TCP,
};
/// RFC 4787, REQ-5: five minutes recommended. RFC 5508, REQ-2: 60 s for ICMP queries.
const RFC_TIMEOUTS: Timeouts = Timeouts {
    udp_unreplied: secs(300),
    udp_replied: secs(300),
    udp_stream_after: Duration::ZERO,
    icmp: secs(60),
    tcp: RFC_TCP,
};
/// `nf_conntrack_max` of a Linux machine with a gigabyte or more.
const SESSIONS_MAX: usize = 65_536;
/// Ports of one subscriber behind a provider's NAT: 126 subscribers share an address.
const SUBSCRIBER_PORTS: u16 = 512;
/// RFC 6888, REQ-8.
const PORT_REST: Duration = secs(120);

impl Preset {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Linux,
        Self::LinuxDrop,
        Self::FullCone,
        Self::AddrRestricted,
        Self::PortRestricted,
        Self::Symmetric,
        Self::Cloud,
        Self::Cgn,
    ];

    /// Its name in scenario files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::LinuxDrop => "linux+drop",
            Self::FullCone => "full-cone",
            Self::AddrRestricted => "addr-restricted",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
            Self::Cloud => "cloud",
            Self::Cgn => "cgn",
        }
    }

    /// The preset of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// What it does.
    pub fn policy(self) -> Policy {
        use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        let linux = Policy {
            preset: self,
            mapping: EndpointIndependent,
            filtering: AddressAndPortDependent,
            ports: PortPolicy::Linux,
            hairpin: Hairpin::Never,
            unsolicited: Unsolicited::Drop,
            mid_connection: MidConnection::PickUp,
            refresh: Refresh::Both,
            timeouts: LINUX_TIMEOUTS,
            sessions_max: SESSIONS_MAX,
        };
        let cone = |filtering| Policy {
            filtering,
            ports: PortPolicy::Preserve,
            hairpin: Hairpin::Always,
            mid_connection: MidConnection::Drop,
            refresh: Refresh::Outbound,
            timeouts: RFC_TIMEOUTS,
            ..linux.clone()
        };
        let per_destination = |timeouts| Policy {
            mapping: AddressAndPortDependent,
            ports: PortPolicy::Random,
            mid_connection: MidConnection::Drop,
            timeouts,
            ..linux.clone()
        };
        let tcp = TcpTimeouts { established: secs(3600), ..LINUX_TCP };
        match self {
            Self::Linux => Policy { unsolicited: Unsolicited::Accept, ..linux },
            Self::LinuxDrop => {
                let tcp = TcpTimeouts { established: secs(7440), ..LINUX_TCP };
                Policy { timeouts: Timeouts { tcp, ..LINUX_TIMEOUTS }, ..linux }
            }
            Self::FullCone => cone(EndpointIndependent),
            Self::AddrRestricted => cone(AddressDependent),
            Self::PortRestricted => cone(AddressAndPortDependent),
            Self::Symmetric => per_destination(Timeouts { tcp, ..LINUX_TIMEOUTS }),
            Self::Cloud => Policy {
                mid_connection: MidConnection::Reset,
                ..per_destination(Timeouts { udp_replied: secs(350), tcp, ..LINUX_TIMEOUTS })
            },
            Self::Cgn => Policy {
                ports: PortPolicy::Block { size: SUBSCRIBER_PORTS, rest: PORT_REST },
                ..cone(EndpointIndependent)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_found_by_its_name() {
        for preset in Preset::ALL {
            assert_eq!(Preset::named(preset.name()), Some(preset));
            assert_eq!(preset.policy().preset, preset);
        }
        assert_eq!(Preset::named("linux-drop"), None);
    }

    #[test]
    fn filtering_that_looks_less_closely_gives_each_port_one_owner() {
        let policy = Preset::Linux.policy();
        assert_eq!(policy.clone().with_filtering(Dependence::AddressAndPortDependent), policy);
        assert_eq!(policy.with_filtering(Dependence::AddressDependent).ports, PortPolicy::Preserve);
    }

    fn in_words(span: Duration) -> String {
        match span.as_secs() {
            secs if secs % 86_400 == 0 => format!("{} days", secs / 86_400),
            3600 => "1 h".to_owned(),
            secs if secs > 3600 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
            secs if secs % 60 == 0 && secs > 240 => format!("{} min", secs / 60),
            secs => format!("{secs} s"),
        }
    }

    /// The row of a preset in `scenarios/README.md`.
    fn row(preset: Preset) -> String {
        let policy = preset.policy();
        let dependence = |dependence| match dependence {
            Dependence::EndpointIndependent => "none",
            Dependence::AddressDependent => "address",
            Dependence::AddressAndPortDependent => "address and port",
        };
        let mapping = match (policy.mapping, policy.ports) {
            (Dependence::EndpointIndependent, PortPolicy::Linux) => "endpoint-independent, as below",
            (Dependence::EndpointIndependent, _) => "endpoint-independent",
            (other, _) => dependence(other),
        };
        let ports = match policy.ports {
            PortPolicy::Linux | PortPolicy::Preserve => "kept".to_owned(),
            PortPolicy::Random => "random".to_owned(),
            PortPolicy::Sequential => "the next".to_owned(),
            PortPolicy::Block { size, rest } => {
                let rest = in_words(rest);
                format!("random in a block of {size} for each inside address, and each rests {rest}")
            }
        };
        let Timeouts { udp_unreplied, udp_replied, tcp, .. } = policy.timeouts;
        let udp = if udp_unreplied == udp_replied {
            in_words(udp_replied)
        } else {
            format!("{}, a stream {}", in_words(udp_unreplied), in_words(udp_replied))
        };
        let hairpin = match policy.hairpin {
            Hairpin::Never => "no",
            Hairpin::Always => "yes",
        };
        let unsolicited = match policy.unsolicited {
            Unsolicited::Accept => "the router answers",
            Unsolicited::Drop => "dropped",
        };
        let cells = [
            &format!("`{}`", preset.name()),
            mapping,
            dependence(policy.filtering),
            &ports,
            &udp,
            &in_words(tcp.established),
            hairpin,
            unsolicited,
        ];
        format!("| {} |", cells.join(" | "))
    }

    #[test]
    fn the_documentation_has_every_preset_as_it_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/README.md");
        let document = std::fs::read_to_string(path).unwrap();
        let table = Preset::ALL.map(row).join("\n");
        assert!(document.contains(&table), "scenarios/README.md must have this table:\n{table}");
        // And what it says of them below the table.
        for policy in Preset::ALL.map(Preset::policy) {
            let is_patient = policy.timeouts.udp_unreplied == secs(300);
            assert_eq!(policy.refresh == Refresh::Outbound, is_patient, "only what goes out keeps UDP open");
            assert!(is_patient || policy.timeouts.udp_stream_after == secs(2));
            let after_forgetting = match policy.preset {
                Preset::Linux | Preset::LinuxDrop => MidConnection::PickUp,
                Preset::Cloud => MidConnection::Reset,
                _ => MidConnection::Drop,
            };
            assert_eq!(policy.mid_connection, after_forgetting);
        }
    }
}
