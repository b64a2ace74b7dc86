//! Machines that talk to each other over a network that does what it likes.

use proptest::prelude::*;

use super::wire::{self, Wire};
use super::*;

/// What the network, the hosts and the applications may do.
#[derive(Clone, Debug)]
enum Act {
    Deliver(usize),
    Lose(usize),
    Duplicate(usize),
    Cut(usize),
    Pass(u64),
    LoseSync(usize, usize),
    Overflow(usize, usize),
    Whisper(usize, usize),
    Join(usize),
    Leave(usize),
}

fn acts(hosts: usize) -> impl Strategy<Value = Vec<Act>> {
    let host = move || 0..hosts;
    let act = prop_oneof![
        20 => any::<usize>().prop_map(Act::Deliver),
        2 => any::<usize>().prop_map(Act::Lose),
        1 => any::<usize>().prop_map(Act::Duplicate),
        1 => any::<usize>().prop_map(Act::Cut),
        3 => (0..1500_u64).prop_map(Act::Pass),
        1 => (0..20_000_u64).prop_map(Act::Pass),
        1 => (host(), host()).prop_map(|(host, peer)| Act::LoseSync(host, peer)),
        1 => (host(), host()).prop_map(|(host, peer)| Act::Overflow(host, peer)),
        4 => (host(), host()).prop_map(|(host, peer)| Act::Whisper(host, peer)),
        1 => host().prop_map(Act::Join),
        1 => host().prop_map(Act::Leave),
    ];
    proptest::collection::vec(act, 0..300)
}

fn play(wire: &mut Wire, acts: Vec<Act>) {
    for act in acts {
        match act {
            Act::Deliver(step) if wire.steps() > 0 => drop(wire.step(step % wire.steps())),
            Act::Deliver(_) => wire.pass(Duration::from_millis(100)),
            Act::Lose(index) => wire.lose(index),
            Act::Duplicate(index) => wire.duplicate(index),
            Act::Cut(index) => wire.cut(index),
            Act::Pass(ms) => wire.pass(Duration::from_millis(ms)),
            Act::LoseSync(host, peer) => wire.lose_sync(host, peer),
            Act::Overflow(host, peer) => wire.overflow(host, peer),
            Act::Whisper(host, peer) => wire.whisper(host, peer),
            Act::Join(host) => wire.join(host, "MORE"),
            Act::Leave(host) => wire.leave(host, "MORE"),
        }
    }
}

#[test]
fn two_nodes_that_hear_each_other_at_once_enter_once() {
    let mut wire = Wire::new(2);
    wire.run(Duration::from_secs(60));
    wire.check_stories();
    for host in 0..2 {
        assert!(matches!(wire.events(host), [Event::Enter { .. }, Event::Join { .. }, Event::Join { .. }]));
    }
    wire.check_mesh();
}

#[test]
fn a_cut_connection_is_one_exit_and_one_enter_on_each_side() {
    let mut wire = Wire::new(2);
    wire.run(Duration::from_secs(20));
    wire.cut(0);
    wire.run(Duration::from_secs(60));
    wire.check_stories();
    wire.check_mesh();
    for host in 0..2 {
        let enters = wire.events(host).iter().filter(|event| matches!(event, Event::Enter { .. })).count();
        assert_eq!(enters, 2);
    }
}

#[test]
fn a_crash_is_noticed_at_once_by_all() {
    let mut wire = Wire::new(3);
    wire.run(Duration::from_secs(5));
    wire.crash(0);
    wire.settle();
    for host in 1..3 {
        let reason = ExitReason::Refused;
        assert!(matches!(wire.events(host).last(), Some(Event::Exit { reason: r, .. }) if *r == reason));
    }
    wire.run(Duration::from_secs(60));
    wire.check_mesh();
}

#[test]
fn a_node_and_zyre_enter_once_and_stay() {
    let mut wire = Wire::with_zyre(1, 1);
    wire.run(Duration::from_secs(120));
    wire.check_stories();
    assert!(matches!(wire.events(0), [Event::Enter { .. }, Event::Join { .. }, Event::Join { .. }]));
    wire.check_mesh();
}

#[test]
fn zyre_that_lost_us_gets_our_hello_though_it_closes_nothing() {
    for pause in [1, 20] {
        let mut wire = Wire::with_zyre(1, 1);
        wire.run(Duration::from_secs(pause));
        wire.lose_sync(1, 0);
        wire.run(Duration::from_secs(6));
        wire.check_stories();
        wire.check_mesh();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn two_nodes_always_find_each_other_again_and_then_rest(acts in acts(2)) {
        let mut wire = Wire::new(2);
        play(&mut wire, acts);
        wire.run(Duration::from_secs(60));
        let events: Vec<usize> = (0..2).map(|host| wire.events(host).len()).collect();
        wire.check_mesh();
        wire.run(Duration::from_secs(60));
        wire.check_mesh();
        wire.check_stories();
        // One whisper arrived in each check, and nothing else happened.
        let more: Vec<usize> = (0..2).map(|host| wire.events(host).len()).collect();
        prop_assert_eq!(more, events.iter().map(|count| count + 2).collect::<Vec<_>>());
    }

    #[test]
    fn three_nodes_always_find_each_other_again(acts in acts(3)) {
        let mut wire = Wire::new(3);
        play(&mut wire, acts);
        wire.run(Duration::from_secs(60));
        wire.check_mesh();
        wire.check_stories();
    }

    #[test]
    fn a_node_and_zyre_always_find_each_other_again_and_then_rest(acts in acts(2)) {
        let mut wire = Wire::with_zyre(1, 1);
        play(&mut wire, acts);
        wire.run(Duration::from_secs(90));
        let events: Vec<usize> = (0..2).map(|host| wire.events(host).len()).collect();
        wire.check_mesh();
        wire.run(Duration::from_secs(60));
        wire.check_mesh();
        wire.check_stories();
        let more: Vec<usize> = (0..2).map(|host| wire.events(host).len()).collect();
        prop_assert_eq!(more, events.iter().map(|count| count + 2).collect::<Vec<_>>());
    }

    #[test]
    fn two_nodes_and_zyre_always_find_each_other_again(acts in acts(3)) {
        let mut wire = Wire::with_zyre(2, 1);
        play(&mut wire, acts);
        wire.run(Duration::from_secs(90));
        wire.check_mesh();
        wire.check_stories();
    }

    #[test]
    fn the_same_inputs_at_the_same_times_give_the_same_outputs(acts in acts(3)) {
        let mut wire = Wire::new(3);
        play(&mut wire, acts);
        let mut machines: Vec<_> = (0..3).map(|host| wire::machine(host, Timestamp::ZERO)).collect();
        let mut outputs = Vec::new();
        for (host, now, input) in wire.log {
            machines[host].handle(now, input);
            while let Some(output) = machines[host].poll() {
                outputs.push((host, output));
            }
        }
        prop_assert_eq!(outputs, wire.outputs);
    }
}
