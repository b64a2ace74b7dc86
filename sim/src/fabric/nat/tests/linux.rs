//! What was measured on Linux 6.18 with a `masquerade` rule, rule by rule.

use super::*;

#[test]
fn a_port_is_kept_and_the_same_for_all_destinations() {
    let mut bench = Bench::new(Preset::Linux);
    for remote in 1..=20 {
        assert_eq!(bench.out(inside(2, 5000), stranger(remote, 9000)), wan(5000));
    }
    assert_eq!(bench.back(stranger(7, 9000), wan(5000)), Inbound::Forward(inside(2, 5000)));
}

#[test]
fn two_machines_keep_the_same_port_as_long_as_they_talk_to_different_ends() {
    let mut bench = Bench::new(Preset::Linux);
    assert_eq!(bench.out(inside(2, 5000), stranger(1, 9000)), wan(5000));
    assert_eq!(bench.out(inside(3, 5000), stranger(1, 9001)), wan(5000));
    assert_eq!(bench.out(inside(4, 5000), stranger(2, 9000)), wan(5000));
    assert_eq!(bench.back(stranger(1, 9000), wan(5000)), Inbound::Forward(inside(2, 5000)));
    assert_eq!(bench.back(stranger(1, 9001), wan(5000)), Inbound::Forward(inside(3, 5000)));
    assert_eq!(bench.back(stranger(2, 9000), wan(5000)), Inbound::Forward(inside(4, 5000)));
}

#[test]
fn the_second_machine_at_the_same_end_gets_another_port_and_goes_on_with_it() {
    let mut bench = Bench::new(Preset::Linux);
    assert_eq!(bench.out(inside(2, 5000), stranger(1, 9000)), wan(5000));
    let other = bench.out(inside(3, 5000), stranger(1, 9000));
    assert_ne!(other, wan(5000));
    assert!(other.port() >= 1024, "{other}");
    assert_eq!(bench.out(inside(3, 5000), stranger(2, 9000)), other);
    assert_eq!(bench.back(stranger(1, 9000), other), Inbound::Forward(inside(3, 5000)));
}

#[test]
fn one_socket_may_own_two_outside_ports() {
    let mut bench = Bench::new(Preset::Linux);
    assert_eq!(bench.out(inside(3, 5000), stranger(2, 9000)), wan(5000));
    assert_eq!(bench.out(inside(2, 5000), stranger(1, 9000)), wan(5000));
    let second = bench.out(inside(3, 5000), stranger(1, 9000));
    assert_ne!(second, wan(5000));
    assert_eq!(bench.out(inside(3, 5000), stranger(2, 9000)), wan(5000));
    assert_eq!(bench.out(inside(3, 5000), stranger(3, 9000)), second, "the youngest mapping counts");
}

#[test]
fn a_port_that_is_taken_is_replaced_by_one_of_its_class() {
    for (port, class) in [
        (1, 1..=511),
        (53, 1..=511),
        (511, 1..=511),
        (512, 600..=1023),
        (1023, 600..=1023),
        (1024, 1024..=u16::MAX),
        (50_000, 1024..=u16::MAX),
    ] {
        let mut bench = Bench::new(Preset::Linux);
        let mut seen = std::collections::BTreeSet::new();
        for machine in 2..=60 {
            let outside = bench.out(inside(machine, port), stranger(1, 9000));
            assert!(outside.port() == port || class.contains(&outside.port()), "{port} became {outside}");
            assert!(seen.insert(outside), "{outside} was given twice");
        }
    }
}

#[test]
fn even_ports_may_become_odd() {
    let mut bench = Bench::new(Preset::Linux);
    let odd = (2..=60).filter(|machine| bench.out(inside(*machine, 5000), stranger(1, 9000)).port() % 2 == 1);
    assert!(odd.count() > 10);
}

#[test]
fn there_is_no_hairpin() {
    let mut bench = Bench::new(Preset::Linux);
    bench.out(inside(2, 5000), stranger(1, 9000));
    let flow = Flow { protocol: Protocol::Udp, from: inside(3, 5000), to: wan(5000) };
    assert_eq!(bench.nat.hairpin(bench.now, &flow, &Signal::Datagram), Err(Refusal::NoHairpin));
}

#[test]
fn an_unsolicited_packet_that_the_router_takes_spoils_the_punch() {
    let mut bench = Bench::new(Preset::Linux);
    bench.out(inside(2, 5000), stranger(1, 9000));
    assert_eq!(bench.back(stranger(2, 9000), wan(5000)), Inbound::Local);
    let punch = bench.out(inside(2, 5000), stranger(2, 9000));
    assert_ne!(punch, wan(5000));
    assert_eq!(bench.back(stranger(2, 9000), wan(5000)), Inbound::Local);
    bench.wait(29);
    assert_eq!(bench.back(stranger(2, 9000), wan(5000)), Inbound::Local);
    bench.wait(30);
    assert_eq!(bench.out(inside(4, 5000), stranger(2, 9000)), wan(5000), "30 s later it is forgotten");
}

#[test]
fn an_unsolicited_packet_that_is_dropped_spoils_nothing() {
    let mut bench = Bench::new(Preset::LinuxDrop);
    bench.out(inside(2, 5000), stranger(1, 9000));
    assert_eq!(bench.back(stranger(2, 9000), wan(5000)), Inbound::Drop(Refusal::Filtered));
    assert_eq!(bench.back(stranger(2, 9000), wan(5001)), Inbound::Drop(Refusal::Unmapped));
    assert_eq!(bench.out(inside(2, 5000), stranger(2, 9000)), wan(5000));
    assert_eq!(bench.back(stranger(2, 9000), wan(5000)), Inbound::Forward(inside(2, 5000)));
}

#[test]
fn an_unsolicited_syn_is_answered_by_a_reset_that_leaves_nothing_behind_or_is_dropped() {
    let mut bench = Bench::new(Preset::Linux);
    assert_eq!(bench.tcp_back(stranger(1, 9000), wan(5000), SYN), Inbound::Local);
    assert_eq!(bench.len(), 1);
    assert_eq!(bench.tcp_out(wan(5000), stranger(1, 9000), RST), Ok(wan(5000)));
    assert_eq!(bench.len(), 0);
    let mut bench = Bench::new(Preset::LinuxDrop);
    let refused = bench.tcp_back(stranger(1, 9000), wan(5000), SYN);
    assert_eq!(refused, Inbound::Drop(Refusal::Unmapped));
}

#[test]
fn the_router_answers_what_it_does_not_keep_in_mind_and_takes_what_it_does_not_believe() {
    let mut bench = Bench::new(Preset::Linux);
    let fin = TcpSignal { fin: true, ..ACK };
    assert_eq!(bench.tcp_back(stranger(1, 9000), wan(5000), fin), Inbound::Local);
    assert_eq!(bench.len(), 0);
    assert_eq!(bench.tcp_out(wan(5000), stranger(1, 9000), RST), Ok(wan(5000)));
    assert_eq!(bench.tcp_back(stranger(1, 9000), wan(5000), SYN), Inbound::Local);
    assert_eq!(bench.tcp_back(stranger(1, 9000), wan(5000), SYN_ACK), Inbound::Local);
}

#[test]
fn udp_that_was_never_answered_is_forgotten_after_30_s() {
    let mut bench = Bench::new(Preset::Linux);
    for _ in 0..5 {
        bench.out(inside(2, 5000), stranger(1, 9000));
        bench.wait(29);
    }
    assert_eq!(bench.len(), 1, "sending refreshes");
    bench.wait(1);
    assert_eq!(bench.len(), 0);
}

#[test]
fn udp_both_ways_lives_120_s_once_it_is_older_than_two() {
    let mut bench = Bench::new(Preset::Linux);
    let (own, other) = (inside(2, 5000), stranger(1, 9000));
    bench.out(own, other);
    bench.back(other, wan(5000));
    bench.wait_ms(2000);
    bench.out(own, other);
    bench.wait(30);
    assert_eq!(bench.len(), 0, "at two seconds it is not older than two seconds");

    bench.out(own, other);
    bench.back(other, wan(5000));
    bench.wait_ms(2001);
    bench.out(own, other);
    bench.wait_ms(119_999);
    assert_eq!(bench.back(other, wan(5000)), Inbound::Forward(own), "what comes in refreshes, too");
    bench.wait_ms(119_999);
    assert_eq!(bench.len(), 1);
    bench.wait_ms(1);
    assert_eq!(bench.back(other, wan(5000)), Inbound::Local);
}

#[test]
fn the_first_answer_does_not_make_a_stream_however_late_it_comes() {
    let mut bench = Bench::new(Preset::Linux);
    let (own, other) = (inside(2, 5000), stranger(1, 9000));
    bench.out(own, other);
    bench.wait(3);
    bench.back(other, wan(5000));
    bench.wait(29);
    bench.back(other, wan(5000));
    bench.wait(119);
    assert_eq!(bench.len(), 1, "the second packet after it does");
    bench.wait(1);
    assert_eq!(bench.len(), 0);
}

#[test]
fn icmp_queries_are_told_apart_by_their_identifier_and_live_30_s() {
    let mut bench = Bench::new(Preset::Linux);
    let remote = stranger(1, 0);
    let query = |from| Flow { protocol: Protocol::Icmp, from, to: remote };
    let ids = [2, 3].map(|machine| {
        bench.nat.outbound(bench.now, &query(inside(machine, 77)), &Signal::Datagram).unwrap()
    });
    assert_eq!(ids[0], wan(77));
    assert_ne!(ids[1], wan(77));
    for (machine, to) in [2, 3].into_iter().zip(ids) {
        let reply = Flow { protocol: Protocol::Icmp, from: remote, to };
        let back = bench.nat.inbound(bench.now, &reply, &Signal::Datagram);
        assert_eq!(back, Inbound::Forward(inside(machine, 77)));
    }
    bench.wait(30);
    assert_eq!(bench.len(), 0);
}

#[test]
fn a_connection_survives_a_reboot_when_the_inside_speaks_first() {
    for preset in [Preset::Linux, Preset::LinuxDrop] {
        let mut bench = Bench::new(preset);
        let (own, other) = (inside(2, 5000), stranger(1, 80));
        assert_eq!(bench.connect(own, other), wan(5000));
        bench.nat.reboot();
        assert_eq!(bench.len(), 0);
        assert_eq!(bench.tcp_out(own, other, ACK), Ok(wan(5000)));
        assert_eq!(bench.tcp_back(other, wan(5000), ACK), Inbound::Forward(own));
    }
}

#[test]
fn after_a_reboot_the_outside_meets_the_router_or_silence() {
    let mut bench = Bench::new(Preset::Linux);
    let (own, other) = (inside(2, 5000), stranger(1, 80));
    bench.connect(own, other);
    bench.nat.reboot();
    assert_eq!(bench.tcp_back(other, wan(5000), ACK), Inbound::Local);
    assert_eq!(bench.tcp_out(wan(5000), other, RST), Ok(wan(5000)));
    assert_eq!(bench.len(), 0, "a reset that is the only answer leaves nothing behind");
    let mut bench = Bench::new(Preset::LinuxDrop);
    bench.connect(own, other);
    bench.nat.reboot();
    assert_eq!(bench.tcp_back(other, wan(5000), ACK), Inbound::Drop(Refusal::Unmapped));
}

#[test]
fn an_end_whose_session_was_forgotten_is_told_to_nobody() {
    let mut bench = Bench::new(Preset::Linux);
    let (own, other) = (inside(2, 5000), stranger(1, 80));
    bench.connect(own, other);
    bench.nat.reboot();
    let fin = TcpSignal { fin: true, ..ACK };
    assert_eq!(bench.tcp_out(own, other, fin), Err(Refusal::Invalid));
    assert_eq!(bench.tcp_out(own, other, RST), Err(Refusal::Invalid));
}

#[test]
fn a_full_table_forgets_what_was_never_answered_and_then_refuses() {
    let mut bench = Bench::with(Policy { sessions_max: 3, ..Preset::Linux.policy() });
    bench.connect(inside(2, 1), stranger(1, 80));
    for port in 2..10 {
        bench.out(inside(2, port), stranger(1, 9000));
        assert!(bench.len() <= 3);
    }
    assert_eq!(bench.back(stranger(1, 9000), wan(9)), Inbound::Forward(inside(2, 9)));
    for port in 2..4 {
        bench.connect(inside(2, port), stranger(1, 80));
    }
    assert_eq!(bench.try_out(inside(2, 2), stranger(1, 9000)), Err(Refusal::TableFull));
}
