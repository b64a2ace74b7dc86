//! Each preset is told from the others by what a machine behind it sees.

use super::*;
use crate::fabric::nat::classify::{IDLE, Observations, WARM_UP};

/// The four ends of the server: (main or other address, main or other port).
fn server(address: usize, port: usize) -> SocketAddr {
    stranger([1, 2][address], [3478, 3479][port])
}

/// Sends to an end of the server and says as whom.
fn ask(bench: &mut Bench, own: SocketAddr, whom: SocketAddr) -> SocketAddr {
    let seen = bench.out(own, whom);
    assert_eq!(bench.back(whom, seen), Inbound::Forward(own), "an answer comes back");
    seen
}

fn observe(bench: &mut Bench, own: [SocketAddr; 2]) -> Observations {
    let seen = [(0, 0), (1, 0), (1, 1)].map(|(address, port)| ask(bench, own[0], server(address, port)));
    let first = ask(bench, own[1], server(0, 0));
    let hears_other_address = bench.back(server(1, 1), first) == Inbound::Forward(own[1]);
    let hears_other_port = bench.back(server(0, 1), first) == Inbound::Forward(own[1]);
    let knocked = [first, ask(bench, own[1], server(1, 1))];
    let mut reaches = |from: usize, to: SocketAddr| {
        let flow = Flow { protocol: Protocol::Udp, from: own[from], to };
        let way = bench.nat.hairpin(bench.now, &flow, &Signal::Datagram);
        way.is_ok_and(|way| way.to == own[1 - from])
    };
    // The first packet opens the filter for the second.
    reaches(0, first);
    let is_hairpinned = reaches(1, seen[0]);
    bench.now = bench.now.after(WARM_UP);
    ask(bench, own[0], server(0, 0));
    bench.now = bench.now.after(IDLE);
    let is_kept = bench.back(server(0, 0), seen[0]) == Inbound::Forward(own[0]);
    let ports = own.map(|own| own.port());
    Observations { ports, seen, hears_other_address, hears_other_port, knocked, is_hairpinned, is_kept }
}

#[test]
fn each_preset_is_named_by_who_looks_from_inside() {
    for preset in Preset::ALL {
        for seed in 0..20 {
            let mut bench = Bench::new(preset);
            bench.nat = Nat::new(preset.policy(), vec![WAN.into()], Stream::new(seed, "nat"));
            let seen = observe(&mut bench, [inside(2, 40_000), inside(2, 40_001)]);
            assert_eq!(seen.preset(), Some(preset), "seed {seed}: {seen:?}");
        }
    }
}

#[test]
fn each_preset_is_named_behind_another_full_cone_by_the_stricter_of_the_two() {
    // What is in front of a full cone decides alone.
    let mut bench = Bench::new(Preset::FullCone);
    let mut outer = Bench::new(Preset::Symmetric);
    let own = inside(2, 40_000);
    let mut seen = |whom| {
        let between = bench.out(own, whom);
        outer.out(between, whom)
    };
    let [first, second, third] = [server(0, 0), server(1, 0), server(1, 1)].map(&mut seen);
    assert!(first != second && second != third);
}

#[test]
fn what_no_preset_does_has_no_name() {
    let policy = Preset::FullCone.policy().with_filtering(Dependence::AddressAndPortDependent);
    let mut bench = Bench::with(Policy { mapping: Dependence::AddressDependent, ..policy });
    let seen = observe(&mut bench, [inside(2, 40_000), inside(2, 40_001)]);
    assert_eq!((seen.mapping(), seen.preset()), (Dependence::AddressDependent, None));
}
