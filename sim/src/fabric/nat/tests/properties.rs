//! What holds whatever is sent, against an oracle that knows only what went by: who sent to whom, when, and as whom.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Out(SocketAddr, SocketAddr),
    /// From a stranger to an outside end: one that was seen before, or any port.
    In(SocketAddr, Result<Index, u16>),
    Wait(u64),
    Reboot,
}

fn an_inside() -> impl Strategy<Value = SocketAddr> {
    (2..6_u8, select(vec![53, 700, 5000, 5001])).prop_map(|(machine, port)| inside(machine, port))
}

fn a_stranger() -> impl Strategy<Value = SocketAddr> {
    (1..4_u8, 9000..9002_u16).prop_map(|(machine, port)| stranger(machine, port))
}

fn an_outside() -> impl Strategy<Value = Result<Index, u16>> {
    prop_oneof![4 => any::<Index>().prop_map(Ok), 1 => (4999..5002_u16).prop_map(Err)]
}

fn an_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (an_inside(), a_stranger()).prop_map(|(from, to)| Event::Out(from, to)),
        10 => (a_stranger(), an_outside()).prop_map(|(from, to)| Event::In(from, to)),
        4 => (0..40_000_u64).prop_map(Event::Wait),
        1 => (100_000..400_000_u64).prop_map(Event::Wait),
        1 => Just(Event::Reboot),
    ]
}

fn a_preset() -> impl Strategy<Value = Preset> {
    select(Preset::ALL.to_vec())
}

/// A packet that went through, in either direction.
#[derive(Clone, Copy, Debug)]
struct Passed {
    at: Timestamp,
    inside: SocketAddr,
    remote: SocketAddr,
    outside: SocketAddr,
    is_outbound: bool,
    /// It went to a stranger who had come first, so it left by where that one had come in.
    is_answer: bool,
}

/// Everything that an onlooker on both sides has seen since the last reboot.
struct Oracle {
    policy: Policy,
    log: Vec<Passed>,
    seen: Vec<SocketAddr>,
}

impl Oracle {
    /// What passed less than `age` ago.
    fn younger(&self, now: Timestamp, age: Duration) -> impl Iterator<Item = &Passed> {
        self.log.iter().filter(move |passed| now.since(passed.at) < age)
    }

    fn is_answer(&self, own: SocketAddr, to: SocketAddr, seen: SocketAddr) -> bool {
        let came = |passed: &&Passed| !passed.is_outbound && passed.remote == to;
        self.log.iter().filter(came).any(|passed| passed.inside == own && passed.outside == seen)
    }

    fn check_out(
        &self,
        now: Timestamp,
        own: SocketAddr,
        to: SocketAddr,
        seen: SocketAddr,
    ) -> Result<(), TestCaseError> {
        let is_shared = self.policy.ports == PortPolicy::Linux;
        // What went out so recently is remembered in any case.
        for passed in
            self.younger(now, self.policy.timeouts.udp_unreplied).filter(|passed| passed.is_outbound)
        {
            let is_same = passed.outside == seen;
            if passed.inside != own {
                prop_assert!(
                    !is_same || (is_shared && passed.remote != to),
                    "{own} and {passed:?} are {seen}"
                );
            } else if is_shared {
                prop_assert!(is_same || passed.remote != to, "{own} changed from {passed:?} to {seen}");
            } else if self.policy.mapping == Dependence::EndpointIndependent
                || !(passed.is_answer || self.is_answer(own, to, seen))
            {
                let has_to_be_same = match self.policy.mapping {
                    Dependence::EndpointIndependent => true,
                    Dependence::AddressDependent => passed.remote.ip() == to.ip(),
                    Dependence::AddressAndPortDependent => passed.remote == to,
                };
                prop_assert_eq!(has_to_be_same, is_same, "{} was {:?} and is {}", own, passed, seen);
            }
        }
        Ok(())
    }

    fn check_in(
        &self,
        now: Timestamp,
        from: SocketAddr,
        to: SocketAddr,
        got: Inbound,
    ) -> Result<(), TestCaseError> {
        let expected = self
            .younger(now, self.policy.timeouts.udp_unreplied)
            .find(|passed| passed.is_outbound && passed.remote == from && passed.outside == to);
        if let Some(passed) = expected {
            prop_assert_eq!(got, Inbound::Forward(passed.inside), "an answer to {:?}", passed);
        }
        if let Inbound::Forward(own) = got {
            let is_allowed = |passed: &Passed| {
                let by_filter = match self.policy.filtering {
                    Dependence::EndpointIndependent => true,
                    Dependence::AddressDependent => passed.remote.ip() == from.ip(),
                    Dependence::AddressAndPortDependent => passed.remote == from,
                };
                let refreshes = passed.is_outbound || self.policy.refresh == Refresh::Both;
                by_filter && refreshes && passed.inside == own && passed.outside == to
            };
            let longest = self.policy.timeouts.udp_replied.max(self.policy.timeouts.udp_unreplied);
            let is_earned = self.younger(now, longest).any(is_allowed);
            prop_assert!(is_earned, "{from} reached {own} by {to}, and nothing had allowed it");
        }
        Ok(())
    }
}

fn run(policy: Policy, seed: u64, events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut bench = Bench::with(policy.clone());
    bench.nat = Nat::new(policy.clone(), vec![WAN.into()], Stream::new(seed, "nat"));
    let mut oracle = Oracle { policy, log: Vec::new(), seen: Vec::new() };
    for event in events {
        let now = bench.now;
        match event {
            Event::Out(own, to) => {
                let outside = bench.out(own, to);
                prop_assert_eq!(outside.ip(), IpAddr::from(WAN));
                oracle.check_out(now, own, to, outside)?;
                let is_answer = oracle.is_answer(own, to, outside);
                oracle.log.push(Passed {
                    at: now,
                    inside: own,
                    remote: to,
                    outside,
                    is_outbound: true,
                    is_answer,
                });
                oracle.seen.push(outside);
            }
            Event::In(from, to) => {
                let to = match to {
                    Ok(index) if !oracle.seen.is_empty() => *index.get(&oracle.seen),
                    Ok(_) => wan(5000),
                    Err(port) => wan(port),
                };
                let got = bench.back(from, to);
                oracle.check_in(now, from, to, got)?;
                if let Inbound::Forward(inside) = got {
                    oracle.log.push(Passed {
                        at: now,
                        inside,
                        remote: from,
                        outside: to,
                        is_outbound: false,
                        is_answer: false,
                    });
                }
            }
            Event::Wait(ms) => bench.wait_ms(ms),
            Event::Reboot => {
                bench.nat.reboot();
                oracle.log.clear();
                prop_assert_eq!(bench.len(), 0);
            }
        }
    }
    bench.wait(400);
    prop_assert_eq!(bench.len(), 0, "silence ends everything");
    for to in oracle.seen {
        prop_assert!(!matches!(bench.back(stranger(1, 9000), to), Inbound::Forward(_)));
    }
    Ok(())
}

proptest! {
    #[test]
    fn presets_keep_inside_ends_apart_filter_and_let_answers_back(
        preset in a_preset(),
        seed in any::<u64>(),
        events in vec(an_event(), 1..120),
    ) {
        run(preset.policy(), seed, events)?;
    }

    #[test]
    fn so_do_all_other_combinations(
        mapping in select(vec![
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ]),
        filtering in select(vec![
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
            Dependence::AddressAndPortDependent,
        ]),
        ports in select(vec![
            PortPolicy::Preserve,
            PortPolicy::Random,
            PortPolicy::Sequential,
            PortPolicy::Block { size: 64, rest: Duration::from_secs(120) },
        ]),
        refresh in select(vec![Refresh::Outbound, Refresh::Both]),
        seed in any::<u64>(),
        events in vec(an_event(), 1..120),
    ) {
        run(Policy { mapping, filtering, ports, refresh, ..Preset::PortRestricted.policy() }, seed, events)?;
    }

    #[test]
    fn tables_are_never_larger_than_their_limit_and_filters_hold_in_full_ones(
        preset in a_preset(),
        sessions_max in 1..8_usize,
        steps in vec((an_inside(), a_stranger(), a_segment(), any::<bool>(), an_outside(), 0..100_000_u64), 1..150),
    ) {
        let mut bench = Bench::with(Policy { sessions_max, ..preset.policy() });
        let policy = bench.nat.policy().clone();
        let (mut sent, mut seen) = (Vec::new(), vec![wan(5000)]);
        for (own, other, tcp, is_outbound, to, ms) in steps {
            bench.wait_ms(ms);
            if is_outbound {
                if let Ok(outside) = bench.tcp_out(own, other, tcp) {
                    sent.push((own, other, outside));
                    seen.push(outside);
                }
            } else {
                let to = to.map_or_else(wan, |index| *index.get(&seen));
                if let Inbound::Forward(inside) = bench.tcp_back(other, to, tcp) {
                    let is_earned = sent.iter().any(|(own, remote, outside)| {
                        *own == inside && *outside == to && match policy.filtering {
                            Dependence::EndpointIndependent => true,
                            Dependence::AddressDependent => remote.ip() == other.ip(),
                            Dependence::AddressAndPortDependent => *remote == other,
                        }
                    });
                    prop_assert!(is_earned, "{other} reached {inside} by {to}");
                }
            }
            prop_assert!(bench.len() <= sessions_max);
        }
        bench.wait(432_000);
        prop_assert_eq!(bench.len(), 0);
    }

    #[test]
    fn a_subscriber_never_has_more_ports_than_its_block(
        events in vec((2..5_u8, 1..200_u16, a_stranger(), 0..20_000_u64), 1..200),
    ) {
        let ports = PortPolicy::Block { size: 8, rest: Duration::from_secs(120) };
        let mut bench = Bench::with(Policy { ports, ..Preset::Cgn.policy() });
        let mut blocks: std::collections::BTreeMap<u8, BTreeSet<u16>> = Default::default();
        for (machine, port, to, ms) in events {
            bench.wait_ms(ms);
            match bench.try_out(inside(machine, port), to) {
                Ok(outside) => {
                    blocks.entry(machine).or_default().insert(outside.port());
                }
                Err(refusal) => prop_assert_eq!(refusal, Refusal::Quota),
            }
        }
        // Three subscribers never run out of blocks, so each keeps the one it got first.
        let mut owners = BTreeSet::new();
        for ports in blocks.into_values() {
            prop_assert!(ports.len() <= 8);
            let block: BTreeSet<u16> = ports.iter().map(|port| (port - 1024) / 8).collect();
            prop_assert_eq!(block.len(), 1);
            prop_assert!(owners.insert(block), "two subscribers have the same block");
        }
    }

    #[test]
    fn the_same_packets_and_the_same_stream_give_the_same_ports(
        preset in a_preset(),
        flows in vec((an_inside(), a_stranger()), 1..40),
    ) {
        let ports = || {
            let mut bench = Bench::new(preset);
            flows.iter().map(|(own, to)| bench.out(*own, *to)).collect::<Vec<_>>()
        };
        prop_assert_eq!(ports(), ports());
    }
}

fn a_segment() -> impl Strategy<Value = TcpSignal> {
    prop_oneof![
        4 => Just(SYN),
        2 => Just(SYN_ACK),
        4 => Just(ACK),
        1 => Just(RST),
        1 => any::<(bool, bool, bool, Option<u32>, u32)>()
            .prop_map(|(syn, fin, rst, ack, end)| TcpSignal { syn, fin, rst, ack, end }),
    ]
}
