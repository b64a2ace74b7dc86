//! What a real Linux did, packet by packet: the preset `linux` must have done the same.
//!
//! The recording was made on Linux 6.18 between network namespaces: three machines inside with four sockets each, four
//! sockets outside, a router with one `masquerade` rule and no filter. A line is a datagram at a time in milliseconds:
//! `out` from inside to outside and as which port it was seen, `in` from outside to a port of the router and which inside
//! socket heard it, or the `router` itself. Ports that Linux drew are not those that the machine draws, so they are matched: to
//! each of Linux's belongs one of ours.
//!
//! Before each packet the router's table was listed, which makes Linux forget what has expired. Left alone it goes on
//! preferring the port of an expired mapping until its collector comes by, at some time within minutes; the machine
//! forgets at once.

use std::collections::BTreeMap;

use super::*;

const RECORDING: &str = include_str!("linux_6_18.txt");

/// `3:5000`, as the third machine there.
fn ends(text: &str) -> (u8, u16) {
    let (machine, port) = text.split_once(':').unwrap();
    (machine.parse().unwrap(), port.parse().unwrap())
}

/// Which ports Linux gives when the one that is wanted is taken.
fn class(port: u16) -> std::ops::RangeInclusive<u16> {
    match port {
        0..512 => 1..=511,
        512..1024 => 600..=1023,
        _ => 1024..=u16::MAX,
    }
}

#[test]
fn every_packet_goes_where_linux_let_it_go() {
    let mut bench = Bench::new(Preset::Linux);
    let mut ours: BTreeMap<u16, u16> = BTreeMap::new();
    let (mut drawn, mut refused, mut heard) = (0, 0, 0);
    for line in RECORDING.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [at, way, from, to, outcome] = words[..] else { panic!("{line}") };
        bench.now = Timestamp::from_millis(at.parse().unwrap());
        if way == "out" {
            let ((machine, port), (remote, remote_port)) = (ends(from), ends(to));
            let theirs: u16 = outcome.parse().unwrap();
            let seen = bench.out(inside(machine, port), stranger(remote, remote_port)).port();
            assert_eq!(seen == port, theirs == port, "{line}: we gave {seen}");
            if theirs != port {
                drawn += 1;
                assert!(class(port).contains(&theirs) && class(port).contains(&seen), "{line}: {seen}");
                let before = ours.insert(theirs, seen);
                let is_known = before.is_none_or(|before| before == seen);
                assert!(is_known, "{line}: we gave {seen} after {before:?}");
            }
        } else {
            let (remote, remote_port) = ends(from);
            let to = to.parse().unwrap();
            let to = wan(ours.get(&to).copied().unwrap_or(to));
            let expected = match outcome {
                "router" => Inbound::Local,
                _ => {
                    let (machine, port) = ends(outcome);
                    Inbound::Forward(inside(machine, port))
                }
            };
            assert_eq!(bench.back(stranger(remote, remote_port), to), expected, "{line}");
            *if outcome == "router" { &mut refused } else { &mut heard } += 1;
        }
    }
    assert!(drawn > 50 && refused > 30 && heard > 50, "{drawn} drawn, {refused} refused, {heard} heard");
}
