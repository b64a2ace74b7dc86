//! What loss costs, in exact times. One way takes 10 ms, a round trip 20 ms.

use super::wire::{End, Wire, losing};
use crate::fabric::tcp::{Config, Connection, Segment, TcpError};

const ONE_WAY_US: u64 = 10_000;
const ROUND_TRIP_US: u64 = 2 * ONE_WAY_US;

fn lossless() -> Wire {
    Wire::new(losing(ONE_WAY_US, |_, _| false))
}

/// A wire that loses what `is_lost` names by its number, over which the client has connected and the server knows it.
fn connected(is_lost: impl FnMut(End, usize) -> bool + 'static) -> Wire {
    let mut wire = Wire::new(losing(ONE_WAY_US, is_lost));
    assert_eq!(wire.connect(), (ROUND_TRIP_US, None));
    wire.run_to(100_000);
    assert!(wire.end(End::Server).is_established());
    wire
}

#[test]
fn a_handshake_takes_a_round_trip_and_a_request_another() {
    let mut wire = lossless();
    assert_eq!(wire.connect(), (ROUND_TRIP_US, None));
    wire.write(End::Client, &[1; 150]);
    assert_eq!(wire.receive(End::Server, 150), ROUND_TRIP_US + ONE_WAY_US);
    wire.write(End::Server, &[2; 122]);
    assert_eq!(wire.receive(End::Client, 122), 2 * ROUND_TRIP_US);
}

#[test]
fn a_lost_syn_costs_a_second() {
    let mut wire = Wire::new(losing(ONE_WAY_US, |from, nth| (from, nth) == (End::Client, 1)));
    assert_eq!(wire.connect(), (1_000_000 + ROUND_TRIP_US, None));
}

#[test]
fn a_lost_syn_ack_costs_a_second() {
    let mut wire = Wire::new(losing(ONE_WAY_US, |from, nth| (from, nth) == (End::Server, 1)));
    assert_eq!(wire.connect(), (1_000_000 + ROUND_TRIP_US, None));
}

#[test]
fn a_second_lost_syn_costs_two_seconds_since_linux_6_5_and_three_before() {
    for (syn_linear_timeouts, cost_us) in [(4, 2_000_000), (0, 3_000_000)] {
        let config = Config { syn_linear_timeouts, ..Config::default() };
        let mut wire =
            Wire::with(config, 1, 1, losing(ONE_WAY_US, |from, nth| from == End::Client && nth <= 2));
        assert_eq!(wire.connect(), (cost_us + ROUND_TRIP_US, None));
    }
}

#[test]
fn a_syn_to_nowhere_is_repeated_and_times_out() {
    let seconds = |times: Vec<u64>| times.into_iter().map(|us| us / 1_000_000).collect::<Vec<_>>();
    for (syn_linear_timeouts, sent_s, over_s) in
        [(4, &[0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67][..], 131), (0, &[0, 1, 3, 7, 15, 31, 63][..], 127)]
    {
        let config = Config { syn_linear_timeouts, ..Config::default() };
        let mut wire = Wire::with(config, 1, 1, |_, _| Vec::new());
        assert_eq!(wire.connect(), (over_s * 1_000_000, Some(TcpError::TimedOut)));
        assert_eq!(seconds(wire.times(End::Client, |segment| segment.syn)), sent_s);
        assert!(wire.client.is_finished());
    }
}

#[test]
fn a_syn_ack_without_an_answer_is_repeated_and_given_up() {
    let mut wire = Wire::new(losing(0, |from, nth| from == End::Server || nth > 1));
    wire.run_until(|wire| wire.server.as_ref().is_some_and(Connection::is_finished));
    assert_eq!(wire.now.as_millis(), 63_000);
    let sent = wire.times(End::Server, |segment| segment.syn);
    assert_eq!(sent, [0, 1, 3, 7, 15, 31].map(|s| s * 1_000_000));
}

#[test]
fn after_a_lost_syn_ack_two_come_the_repeated_one_and_the_answer_to_the_repeated_syn() {
    let mut wire = Wire::new(losing(ONE_WAY_US, |from, nth| from == End::Server && nth <= 2));
    assert_eq!(wire.connect(), (1_000_000 + ROUND_TRIP_US, None));
    let sent = wire.times(End::Server, |segment| segment.syn);
    assert_eq!(sent, [0, 1_000_000, 1_000_000].map(|us| us + ONE_WAY_US));
}

#[test]
fn a_lost_last_acknowledgement_of_the_handshake_costs_nothing_when_data_follows() {
    let mut wire = Wire::new(losing(ONE_WAY_US, |from, nth| (from, nth) == (End::Client, 2)));
    wire.connect();
    wire.write(End::Client, &[1; 150]);
    assert_eq!(wire.receive(End::Server, 150), ROUND_TRIP_US + ONE_WAY_US);
}

#[test]
fn a_lost_last_acknowledgement_of_the_handshake_costs_a_second_when_the_server_speaks_first() {
    let mut wire = Wire::new(losing(ONE_WAY_US, |from, nth| (from, nth) == (End::Client, 2)));
    wire.connect();
    let known = wire.run_until(|wire| wire.end(End::Server).is_established());
    // SYN-ACK again after a second, and the client's answer to it.
    assert_eq!(known, ONE_WAY_US + 1_000_000 + ROUND_TRIP_US);
}

#[test]
fn a_lost_small_request_costs_its_round_trip_and_200_ms() {
    // The client has sent SYN and ACK.
    let mut wire = connected(|from, nth| (from, nth) == (End::Client, 3));
    wire.write(End::Client, &[1; 150]);
    // The probe may not be later than the time-out, and the time-out is a round trip and 200 ms.
    assert_eq!(wire.receive(End::Server, 150), 100_000 + ROUND_TRIP_US + 200_000 + ONE_WAY_US);
}

#[test]
fn a_request_lost_again_and_again_costs_the_probe_and_then_doubling_time_outs() {
    let mut wire = connected(|from, nth| from == End::Client && (3..7).contains(&nth));
    wire.write(End::Client, &[1; 150]);
    wire.receive(End::Server, 150);
    let sent = wire.times(End::Client, |segment| !segment.payload.is_empty());
    let timeout = ROUND_TRIP_US + 200_000;
    let expected = [0, timeout, 2 * timeout, 4 * timeout, 8 * timeout].map(|us| 100_000 + us);
    assert_eq!(sent, expected);
}

#[test]
fn the_last_of_two_small_writes_is_probed_for_within_two_round_trips() {
    let mut wire = connected(|from, nth| (from, nth) == (End::Client, 4));
    wire.write(End::Client, &[1; 100]);
    wire.write(End::Client, &[2; 100]);
    // The first is acknowledged after a round trip; then one segment is in flight, and the time-out is the nearest.
    let at = wire.receive(End::Server, 200);
    assert_eq!(at, 100_000 + ROUND_TRIP_US + (ROUND_TRIP_US + 200_000) + ONE_WAY_US);

    // Where nothing tells of the first either, both are in flight, and the probe comes after two round trips.
    let mut wire = connected(|from, nth| from == End::Client && (3..5).contains(&nth));
    wire.write(End::Client, &[1; 100]);
    wire.write(End::Client, &[2; 100]);
    let probed = wire.run_until(|wire| wire.log.iter().any(|logged| logged.segment.is_retransmission));
    assert_eq!(probed, 100_000 + 2 * ROUND_TRIP_US + 2000);
    // The report of the probe shows that the first, sent long before, is lost.
    let at = wire.receive(End::Server, 200);
    assert_eq!(at, probed + ROUND_TRIP_US + ONE_WAY_US);
}

#[test]
fn one_of_many_small_writes_is_repaired_in_a_round_trip() {
    let mut wire = connected(|from, nth| (from, nth) == (End::Client, 5));
    for number in 0..8 {
        assert_eq!(wire.write(End::Client, &[number; 60]), 60);
    }
    // Three segments arrive past the gap, their acknowledgements return, and the repetition arrives.
    assert_eq!(wire.receive(End::Server, 480), 100_000 + ROUND_TRIP_US + ONE_WAY_US);
    let expected: Vec<u8> = (0..8).flat_map(|number| [number; 60]).collect();
    assert_eq!(wire.received[1], expected);
    let repeated = wire.log.iter().filter(|logged| logged.segment.is_retransmission).count();
    assert_eq!(repeated, 1);
}

#[test]
fn several_lost_in_a_row_are_repeated_as_one_segment() {
    let mut wire = connected(|from, nth| from == End::Client && (4..8).contains(&nth));
    for number in 0..8 {
        wire.write(End::Client, &[number; 60]);
    }
    assert_eq!(wire.receive(End::Server, 480), 100_000 + ROUND_TRIP_US + ONE_WAY_US);
    let repeated: Vec<_> = wire.log.iter().filter(|logged| logged.segment.is_retransmission).collect();
    assert_eq!(repeated.len(), 1);
    assert_eq!(repeated[0].segment.payload.len(), 240);
}

#[test]
fn a_lost_repetition_is_found_out_without_a_time_out() {
    // Segment 3 and its first repetition (11: eight writes from 3 to 10) are lost; later data reveals it.
    let mut wire = connected(|from, nth| from == End::Client && (nth == 3 || nth == 11));
    for number in 0..8 {
        wire.write(End::Client, &[number; 60]);
    }
    wire.run_to(100_000 + ROUND_TRIP_US);
    wire.write(End::Client, &[8; 60]);
    let at = wire.receive(End::Server, 540);
    assert_eq!(at, 100_000 + 2 * ROUND_TRIP_US + ONE_WAY_US);
}

#[test]
fn a_lost_acknowledgement_alone_costs_the_data_nothing() {
    let mut wire = connected(|from, nth| (from, nth) == (End::Server, 2));
    wire.write(End::Client, &[1; 150]);
    assert_eq!(wire.receive(End::Server, 150), 100_000 + ONE_WAY_US);
    wire.run_to(150_000);
    wire.write(End::Server, &[1; 122]);
    assert_eq!(wire.receive(End::Client, 122), 150_000 + ONE_WAY_US);
    wire.run_to(1_000_000);
    assert_eq!(wire.client.send.held_bytes(), 0);
    assert!(!wire.log.iter().any(|logged| logged.segment.is_retransmission));
}

#[test]
fn a_dialogue_acknowledges_after_40_ms_and_a_monologue_at_once() {
    let mut wire = connected(|_, _| false);
    wire.write(End::Client, &[1; 100]);
    wire.run_to(200_000);
    let pure = |segment: &Segment| segment.payload.is_empty() && !segment.syn;
    assert_eq!(wire.times(End::Server, pure), [110_000]);
    // An answer makes it a dialogue.
    wire.write(End::Client, &[1; 100]);
    wire.run_to(210_000);
    wire.write(End::Server, &[2; 100]);
    wire.run_to(400_000);
    wire.log.clear();
    wire.write(End::Client, &[1; 100]);
    wire.run_to(600_000);
    assert_eq!(wire.times(End::Server, pure), [450_000]);
}

#[test]
fn a_long_transfer_fills_the_path_and_survives_one_loss() {
    let mut wire = connected(|from, nth| (from, nth) == (End::Client, 100));
    let data: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
    let mut written = 0;
    let at = wire.run_until(|wire| {
        written += wire.write(End::Client, &data[written..]);
        wire.received[1].len() >= data.len()
    });
    assert_eq!(wire.received[1], data);
    // 691 segments: 10, 20, 40, 80, 160 in the first five round trips, then windows of 180 (the buffer).
    assert!((100_000 + 7 * ROUND_TRIP_US..100_000 + 14 * ROUND_TRIP_US).contains(&at), "{at}");
    let repeated = wire.log.iter().filter(|logged| logged.segment.is_retransmission).count();
    assert_eq!(repeated, 1);
}

#[test]
fn an_unanswered_connection_is_given_up_after_fifteen_minutes() {
    let mut wire = connected(|from, nth| from == End::Client && nth >= 3);
    wire.write(End::Client, &[1; 100]);
    wire.run_until(|wire| wire.client.error().is_some());
    assert_eq!(wire.client.error(), Some(TcpError::TimedOut));
    // Time-outs of 220, 440, .. ms up to 120 s: the first one that rings 924.6 s after the first repetition.
    let seconds = wire.now.as_millis() / 1000;
    assert!((925..1060).contains(&seconds), "{seconds}");
    assert!(wire.client.is_finished());
}
