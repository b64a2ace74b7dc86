//! The NATs of the RFCs, forwarded ports, and errors on their way.

use super::*;

const CONES: [Preset; 3] = [Preset::FullCone, Preset::AddrRestricted, Preset::PortRestricted];

#[test]
fn a_cone_gives_each_inside_end_one_port_of_its_own() {
    for preset in CONES {
        let mut bench = Bench::new(preset);
        assert_eq!(bench.out(inside(2, 5000), stranger(1, 9000)), wan(5000));
        let other = bench.out(inside(3, 5000), stranger(2, 9000));
        assert_ne!(other, wan(5000), "ports are not shared, whoever they talk to");
        assert_eq!(other.port() % 2, 0, "an even port stays even");
        assert_eq!(bench.out(inside(3, 5000), stranger(3, 1)), other);
        assert_eq!(bench.out(inside(2, 5000), stranger(3, 1)), wan(5000));
    }
}

#[test]
fn cones_differ_in_whom_they_let_in() {
    for (preset, lets_in) in CONES.into_iter().zip([[true; 3], [false, true, true], [false, false, true]]) {
        let mut bench = Bench::new(preset);
        bench.out(inside(2, 5000), stranger(1, 9000));
        for (from, is_let_in) in
            [stranger(2, 9000), stranger(1, 1), stranger(1, 9000)].into_iter().zip(lets_in)
        {
            let expected =
                if is_let_in { Inbound::Forward(inside(2, 5000)) } else { Inbound::Drop(Refusal::Filtered) };
            assert_eq!(bench.back(from, wan(5000)), expected, "{from} through {}", preset.name());
        }
    }
}

#[test]
fn nobody_outside_keeps_a_cone_open() {
    for preset in CONES {
        let mut bench = Bench::new(preset);
        bench.out(inside(2, 5000), stranger(1, 9000));
        for _ in 0..3 {
            bench.wait(100);
            bench.back(stranger(1, 9000), wan(5000));
        }
        assert_eq!(bench.len(), 0);
        assert_eq!(bench.back(stranger(1, 9000), wan(5000)), Inbound::Drop(Refusal::Unmapped));
    }
}

#[test]
fn a_full_cone_lets_strangers_connect() {
    let mut bench = Bench::new(Preset::FullCone);
    let own = inside(2, 5000);
    bench.connect(own, stranger(1, 80));
    assert_eq!(bench.tcp_back(stranger(2, 1), wan(5000), SYN), Inbound::Forward(own));
    assert_eq!(bench.tcp_out(own, stranger(2, 1), SYN_ACK), Ok(wan(5000)));
    assert_eq!(bench.tcp_back(stranger(2, 1), wan(5000), ACK), Inbound::Forward(own));
    assert_eq!(bench.tcp_back(stranger(3, 1), wan(5000), ACK), Inbound::Drop(Refusal::Filtered));
}

#[test]
fn both_ends_may_connect_at_once_through_a_strict_nat() {
    let mut bench = Bench::new(Preset::PortRestricted);
    let (own, other) = (inside(2, 5000), stranger(1, 80));
    assert_eq!(bench.tcp_back(other, wan(5000), SYN), Inbound::Drop(Refusal::Unmapped));
    assert_eq!(bench.tcp_out(own, other, SYN), Ok(wan(5000)));
    assert_eq!(bench.tcp_back(other, wan(5000), SYN), Inbound::Forward(own));
    assert_eq!(bench.tcp_out(own, other, SYN_ACK), Ok(wan(5000)));
}

#[test]
fn a_symmetric_nat_shows_each_destination_another_port() {
    for preset in [Preset::Symmetric, Preset::Cloud] {
        let mut bench = Bench::new(preset);
        let seen: std::collections::BTreeSet<SocketAddr> =
            (1..=50).map(|port| bench.out(inside(2, 5000), stranger(1, port))).collect();
        assert_eq!(seen.len(), 50);
        let mapped = bench.out(inside(2, 5000), stranger(1, 7));
        assert_eq!(bench.back(stranger(1, 7), mapped), Inbound::Forward(inside(2, 5000)));
        assert_eq!(bench.back(stranger(1, 8), mapped), Inbound::Drop(Refusal::Filtered));
    }
}

#[test]
fn ports_in_a_row_wrap_around_above_the_privileged_ones() {
    let mut bench = Bench::with(Policy { ports: PortPolicy::Sequential, ..Preset::Symmetric.policy() });
    let first = bench.out(inside(2, 5000), stranger(1, 1)).port();
    let second = bench.out(inside(2, 5000), stranger(1, 2)).port();
    assert_eq!(second, if first == u16::MAX { 1024 } else { first + 1 });
}

#[test]
fn address_dependent_mapping_is_one_port_for_each_address() {
    let mapping = Dependence::AddressDependent;
    let mut bench = Bench::with(Policy { mapping, ..Preset::Symmetric.policy() });
    let first = bench.out(inside(2, 5000), stranger(1, 1));
    assert_eq!(bench.out(inside(2, 5000), stranger(1, 2)), first);
    assert_ne!(bench.out(inside(2, 5000), stranger(2, 1)), first);
}

#[test]
fn a_clouds_nat_resets_what_it_has_forgotten_and_others_are_silent() {
    for preset in [Preset::Cloud, Preset::Symmetric, Preset::FullCone] {
        let mut bench = Bench::new(preset);
        let (own, other) = (inside(2, 5000), stranger(1, 80));
        bench.connect(own, other);
        bench.nat.reboot();
        assert_eq!(bench.tcp_out(own, other, ACK), Err(Refusal::Forgotten));
        assert_eq!(bench.tcp_out(own, other, RST), Err(Refusal::Invalid));
        let resets = bench.nat.policy().mid_connection == MidConnection::Reset;
        assert_eq!(resets, preset == Preset::Cloud);
    }
}

#[test]
fn idle_connections_are_forgotten_when_the_preset_says() {
    for (preset, secs) in [
        (Preset::Linux, 432_000),
        (Preset::LinuxDrop, 7440),
        (Preset::FullCone, 7440),
        (Preset::Symmetric, 3600),
        (Preset::Cloud, 3600),
        (Preset::Cgn, 7440),
    ] {
        let mut bench = Bench::new(preset);
        bench.connect(inside(2, 5000), stranger(1, 80));
        bench.wait(secs - 1);
        assert_eq!(bench.len(), 1, "{}", preset.name());
        bench.wait(1);
        assert_eq!(bench.len(), 0, "{}", preset.name());
    }
}

#[test]
fn a_subscriber_has_a_block_of_ports_and_no_more() {
    let mut bench = Bench::new(Preset::Cgn);
    let mut blocks = [1, 2].map(|machine| {
        let mapped = |port| bench.out(inside(machine, port), stranger(1, 9000)).port();
        let ports: std::collections::BTreeSet<u16> = (1..=512).map(mapped).collect();
        assert_eq!(ports.len(), 512);
        assert_eq!(ports.last().unwrap() - ports.first().unwrap(), 511);
        *ports.first().unwrap()
    });
    blocks.sort_unstable();
    assert!(blocks[1] - blocks[0] >= 512);
    assert_eq!(bench.try_out(inside(1, 1000), stranger(1, 9000)), Err(Refusal::Quota));
    let tcp = bench.tcp_out(inside(1, 1000), stranger(1, 80), SYN);
    assert!(tcp.is_ok(), "each protocol has ports of its own");
}

#[test]
fn a_port_of_a_block_rests_before_it_is_given_again() {
    let ports = PortPolicy::Block { size: 1, rest: Duration::from_secs(120) };
    let mut bench = Bench::with(Policy { ports, ..Preset::Cgn.policy() });
    let first = bench.out(inside(2, 5000), stranger(1, 9000));
    bench.wait(300);
    assert_eq!(bench.try_out(inside(2, 5001), stranger(1, 9000)), Err(Refusal::Quota));
    bench.wait(119);
    assert_eq!(bench.try_out(inside(2, 5001), stranger(1, 9000)), Err(Refusal::Quota));
    bench.wait(1);
    assert_eq!(bench.out(inside(2, 5001), stranger(1, 9000)), first);
}

#[test]
fn blocks_lie_on_all_outside_addresses_and_are_used_again() {
    let ports = PortPolicy::Block { size: 20_000, rest: Duration::from_secs(120) };
    let mut bench = Bench::with(Policy { ports, ..Preset::Cgn.policy() });
    let outside = [[203, 0, 113, 1], [203, 0, 113, 2]];
    bench.nat = Nat::new(bench.nat.policy.clone(), outside.map(IpAddr::from).into(), Stream::new(1, "nat"));
    let seen: std::collections::BTreeSet<IpAddr> =
        (1..=6).map(|machine| bench.out(inside(machine, 1), stranger(1, 9000)).ip()).collect();
    assert_eq!(seen.len(), 2, "three blocks on each of two addresses");
    assert_eq!(bench.try_out(inside(7, 1), stranger(1, 9000)), Err(Refusal::NoPort));
    bench.wait(300 + 120);
    bench.out(inside(7, 1), stranger(1, 9000));
}

#[test]
fn hairpinned_packets_carry_outside_addresses_both_ways() {
    for preset in [Preset::FullCone, Preset::Cgn] {
        let mut bench = Bench::new(preset);
        let (first, second) = (inside(2, 5000), inside(3, 6000));
        let [first_seen, second_seen] = [first, second].map(|own| bench.out(own, stranger(1, 9000)));
        let flow = Flow { protocol: Protocol::Udp, from: first, to: second_seen };
        let there = bench.nat.hairpin(bench.now, &flow, &Signal::Datagram).unwrap();
        assert_eq!((there.from, there.to), (first_seen, second));
        let answer = Flow { protocol: Protocol::Udp, from: second, to: there.from };
        let back = bench.nat.hairpin(bench.now, &answer, &Signal::Datagram).unwrap();
        assert_eq!((back.from, back.to), (second_seen, first));
    }
}

#[test]
fn a_forwarded_port_leads_inside_and_answers_come_from_it() {
    for preset in Preset::ALL {
        let mut bench = Bench::new(preset);
        let (server, other) = (inside(2, 80), stranger(1, 9000));
        bench.nat.forward_port(Protocol::Tcp, end([0; 4], 8080), server);
        assert_eq!(bench.tcp_back(other, wan(8080), SYN), Inbound::Forward(server), "{}", preset.name());
        assert_eq!(bench.tcp_out(server, other, SYN_ACK), Ok(wan(8080)));
        assert_eq!(bench.tcp_back(other, wan(8080), ACK), Inbound::Forward(server));
        assert_ne!(bench.back(other, wan(8080)), Inbound::Forward(server), "only TCP is forwarded");
        bench.nat.reboot();
        assert_eq!(bench.tcp_back(stranger(1, 9001), wan(8080), SYN), Inbound::Forward(server));
    }
}

#[test]
fn a_port_is_forwarded_on_the_address_that_is_named() {
    let outside = [[203, 0, 113, 1], [203, 0, 113, 2]].map(IpAddr::from);
    let mut nat = Nat::new(Preset::Linux.policy(), outside.into(), Stream::new(1, "nat"));
    nat.forward_port(Protocol::Udp, end([203, 0, 113, 2], 53), inside(2, 53));
    let mut ask = |to| {
        let flow = Flow { protocol: Protocol::Udp, from: stranger(1, 9000), to };
        nat.inbound(Timestamp::ZERO, &flow, &Signal::Datagram)
    };
    assert_eq!(ask(end([203, 0, 113, 2], 53)), Inbound::Forward(inside(2, 53)));
    assert_eq!(ask(end([203, 0, 113, 1], 53)), Inbound::Local);
}

#[test]
fn a_forwarded_port_is_its_inside_ends_port_on_the_way_out() {
    let mut bench = Bench::new(Preset::PortRestricted);
    bench.nat.forward_port(Protocol::Udp, end([0; 4], 53), inside(2, 5353));
    assert_eq!(bench.out(inside(2, 5353), stranger(1, 9000)), wan(53));
    assert_ne!(bench.out(inside(3, 53), stranger(1, 9000)), wan(53));
}

#[test]
fn errors_find_who_sent_what_they_quote() {
    for preset in Preset::ALL {
        let mut bench = Bench::new(preset);
        let (own, other) = (inside(2, 5000), stranger(1, 9000));
        let seen = bench.out(own, other);
        let quoted = |from, to| Flow { protocol: Protocol::Udp, from, to };
        let sent = quoted(seen, other);
        assert_eq!(bench.nat.inbound_error(bench.now, &sent), Some(quoted(own, other)));
        let received = quoted(other, own);
        assert_eq!(bench.nat.outbound_error(bench.now, &received), Some(quoted(other, seen)));
        assert_eq!(bench.nat.inbound_error(bench.now, &quoted(wan(1), other)), None);
        assert_eq!(bench.nat.outbound_error(bench.now, &quoted(stranger(9, 9), inside(9, 9))), None);
    }
}

#[test]
fn errors_neither_end_nor_prolong_a_session() {
    let mut bench = Bench::new(Preset::Linux);
    let (own, other) = (inside(2, 5000), stranger(1, 9000));
    let quoted = Flow { protocol: Protocol::Udp, from: bench.out(own, other), to: other };
    bench.wait(29);
    assert!(bench.nat.inbound_error(bench.now, &quoted).is_some());
    assert_eq!(bench.len(), 1);
    bench.wait(1);
    assert_eq!(bench.nat.inbound_error(bench.now, &quoted), None);
}

#[test]
fn an_error_about_a_stranger_finds_its_way_out() {
    let mut bench = Bench::new(Preset::FullCone);
    bench.out(inside(2, 5000), stranger(1, 9000));
    assert_eq!(bench.back(stranger(2, 1), wan(5000)), Inbound::Forward(inside(2, 5000)));
    let quoted = Flow { protocol: Protocol::Udp, from: stranger(2, 1), to: inside(2, 5000) };
    let outside = bench.nat.outbound_error(bench.now, &quoted).map(|quoted| quoted.to);
    assert_eq!(outside, Some(wan(5000)));
}
