//! Windows that close and open, connections that end, and segments that have no business here.

use bytes::Bytes;
use hailer::Timestamp;

use super::wire::{End, Wire, losing};
use crate::fabric::tcp::{Config, Connection, PAYLOAD_BYTES_MAX, Segment, State, TcpError, Unreachable};

const ONE_WAY_US: u64 = 10_000;

fn connected() -> Wire {
    let mut wire = Wire::new(losing(ONE_WAY_US, |_, _| false));
    wire.connect();
    wire.run_to(100_000);
    wire
}

fn is_reset(segment: &Segment) -> bool {
    segment.rst
}

#[test]
fn a_closed_window_is_asked_about_and_opens_when_the_application_reads() {
    let config = Config { receive_buffer_bytes: 10_000, ..Config::default() };
    let mut wire = Wire::with(config, 1, 1, losing(ONE_WAY_US, |_, _| false));
    wire.connect();
    wire.reads = [false; 2];
    let data: Vec<u8> = (0..30_000u32).map(|index| (index % 251) as u8).collect();
    assert_eq!(wire.write(End::Client, &data), 30_000);
    wire.run_to(10_000_000);
    assert_eq!(wire.end(End::Server).receive.unread_bytes(), 10_000);
    assert_eq!(wire.end(End::Server).receive.window(), 0);
    // Doubling from a time-out on; each has no bytes and an old number.
    let probes = wire.times(End::Client, |segment| segment.seq == 2 + 10_000 - 1);
    assert!((4..8).contains(&probes.len()), "{probes:?}");
    for pair in probes.windows(3) {
        let (first, second) = (pair[1] - pair[0], pair[2] - pair[1]);
        assert!(second.abs_diff(2 * first) <= 2 * ONE_WAY_US, "{probes:?}");
    }
    wire.reads = [true; 2];
    wire.pump();
    let at = wire.receive(End::Server, 30_000);
    assert!(at < 10_000_000 + 8 * ONE_WAY_US, "{at}");
    assert_eq!(wire.received[1], data);
}

#[test]
fn a_lost_window_update_is_made_up_for_by_a_probe() {
    let config = Config { receive_buffer_bytes: 4000, ..Config::default() };
    let mut wire = Wire::with(config, 1, 1, losing(ONE_WAY_US, |_, _| false));
    wire.connect();
    wire.reads = [false; 2];
    wire.write(End::Client, &[5; 9000]);
    wire.run_to(1_000_000);
    assert_eq!(wire.end(End::Server).receive.window(), 0);
    let mut into = [0; 4000];
    let now = wire.now;
    assert_eq!(wire.end(End::Server).read(now, &mut into), 4000);
    // The announcement goes nowhere.
    let announced = wire.end(End::Server).poll_transmit(now).expect("the window has opened");
    assert_eq!(announced.window, 4000);
    wire.reads = [true; 2];
    assert!(wire.receive(End::Server, 5000) < 4_000_000);
}

#[test]
fn half_a_connection_can_be_closed_and_the_other_still_speaks() {
    let mut wire = connected();
    wire.write(End::Client, b"question");
    wire.client.shutdown(wire.now);
    assert_eq!(wire.client.write(wire.now, b"more"), 0);
    wire.pump();
    wire.run_to(200_000);
    assert_eq!(wire.received[1], b"question");
    assert!(wire.end(End::Server).is_read_closed());
    assert_eq!(wire.end(End::Server).state(), State::CloseWait);
    assert_eq!(wire.client.state(), State::FinWait2);
    // Nobody is in a hurry.
    wire.run_to(3_600_000_000);
    wire.write(End::Server, b"answer");
    wire.run_to(3_601_000_000);
    assert_eq!(wire.received[0], b"answer");
    assert!(!wire.client.is_read_closed());
    wire.end(End::Server).shutdown(Timestamp::from_millis(3_601_000));
    wire.pump();
    wire.run_to(3_602_000_000);
    assert!(wire.client.is_read_closed());
    assert!(wire.client.has_reached_time_wait());
    assert!(wire.end(End::Server).is_finished());
    wire.run_to(3_602_000_000 + 60_000_000);
    assert!(wire.client.is_finished());
    assert_eq!((wire.client.error(), wire.end(End::Server).error()), (None, None));
}

#[test]
fn both_may_finish_at_once() {
    let mut wire = connected();
    let now = wire.now;
    wire.client.close(now);
    wire.end(End::Server).close(now);
    wire.pump();
    wire.run_to(200_000);
    assert!(wire.client.has_reached_time_wait());
    assert!(wire.end(End::Server).has_reached_time_wait());
    wire.run_until(|wire| wire.client.is_finished() && wire.end(End::Server).is_finished());
}

#[test]
fn closing_over_unread_bytes_resets() {
    let mut wire = connected();
    wire.reads = [false; 2];
    wire.write(End::Client, b"nobody reads this");
    wire.run_to(150_000);
    let now = wire.now;
    wire.end(End::Server).close(now);
    wire.pump();
    assert_eq!(wire.times(End::Server, is_reset), [150_000]);
    assert!(wire.end(End::Server).is_finished());
    wire.run_to(160_000);
    assert_eq!(wire.client.error(), Some(TcpError::Reset));
    assert!(wire.client.is_finished() && wire.client.is_readable());
}

#[test]
fn bytes_that_come_after_closing_are_answered_with_a_reset() {
    let mut wire = connected();
    let now = wire.now;
    wire.end(End::Server).close(now);
    wire.pump();
    wire.run_to(110_000);
    assert!(wire.client.is_read_closed() && wire.client.error().is_none());
    wire.write(End::Client, b"too late");
    wire.run_to(130_000);
    assert_eq!(wire.client.error(), Some(TcpError::Reset));
    assert!(wire.end(End::Server).is_finished());
}

#[test]
fn what_was_written_before_closing_still_arrives() {
    let mut wire = connected();
    let data = vec![9; 100_000];
    assert_eq!(wire.write(End::Client, &data), data.len());
    wire.client.close(wire.now);
    wire.pump();
    wire.receive(End::Server, data.len());
    wire.run_to(1_000_000);
    assert!(wire.end(End::Server).is_read_closed());
}

#[test]
fn an_abort_tells_the_peer() {
    let mut wire = connected();
    wire.client.abort(wire.now);
    wire.pump();
    wire.run_to(110_000);
    assert_eq!(wire.end(End::Server).error(), Some(TcpError::Reset));
    assert_eq!((wire.client.error(), wire.client.is_finished()), (None, true));
}

#[test]
fn bytes_that_came_before_a_reset_can_be_read() {
    let mut wire = connected();
    wire.reads = [false; 2];
    wire.write(End::Client, b"last words");
    wire.client.abort(wire.now);
    wire.pump();
    wire.run_to(110_000);
    let now = wire.now;
    let mut into = [0; 20];
    assert!(!wire.end(End::Server).is_read_closed());
    assert_eq!(wire.end(End::Server).read(now, &mut into), 10);
    assert!(wire.end(End::Server).is_read_closed());
}

#[test]
fn a_port_without_a_listener_refuses() {
    let mut wire = Wire::new(losing(ONE_WAY_US, |_, _| false));
    wire.is_listening = false;
    assert_eq!(wire.connect(), (2 * ONE_WAY_US, Some(TcpError::Refused)));
    assert!(wire.client.is_finished());
}

#[test]
fn a_router_can_end_an_attempt_but_not_a_connection() {
    let now = Timestamp::from_millis(5);
    for (what, error) in [
        (Unreachable::Network, TcpError::NetworkUnreachable),
        (Unreachable::Host, TcpError::HostUnreachable),
        (Unreachable::Prohibited, TcpError::HostUnreachable),
        (Unreachable::Port, TcpError::Refused),
    ] {
        let mut attempt = Connection::connect(&Config::default(), 7, Timestamp::ZERO);
        attempt.on_unreachable(now, what);
        assert_eq!(attempt.error(), Some(error));
        let mut open = connected().client;
        open.on_unreachable(now, what);
        assert_eq!(open.error(), None);
    }
}

#[test]
fn sequence_numbers_may_wrap_anywhere() {
    for (client_isn, server_isn) in
        [(u32::MAX, u32::MAX - 1), (u32::MAX - 3000, 0), (u32::MAX - 70_000, 1 << 31)]
    {
        let rule = losing(ONE_WAY_US, |_, nth| nth % 7 == 6);
        let mut wire = Wire::with(Config::default(), client_isn, server_isn, rule);
        wire.connect();
        let data: Vec<u8> = (0..150_000u32).map(|index| (index % 253) as u8).collect();
        wire.write(End::Client, &data);
        wire.receive(End::Server, data.len());
        wire.write(End::Server, &data);
        wire.receive(End::Client, data.len());
        assert_eq!(wire.received, [data.clone(), data]);
        wire.client.close(wire.now);
        let now = wire.now;
        wire.end(End::Server).close(now);
        wire.pump();
        wire.run_until(|wire| wire.client.is_finished() && wire.end(End::Server).is_finished());
        assert_eq!((wire.client.error(), wire.end(End::Server).error()), (None, None));
    }
}

#[test]
fn a_reset_counts_only_at_the_very_next_number() {
    let mut wire = connected();
    let next = wire.client.receive.next;
    let now = wire.now;
    let reset = |seq| Segment { seq, rst: true, ..Segment::default() };
    wire.client.on_segment(now, reset(next.wrapping_sub(1)));
    assert!(wire.client.is_established() && wire.client.poll_transmit(now).is_none());
    // In the window: it might be the peer's, so the peer is asked (RFC 5961).
    wire.client.on_segment(now, reset(next.wrapping_add(5)));
    let challenge = wire.client.poll_transmit(now).expect("the peer is asked");
    assert_eq!(challenge.ack, Some(next));
    wire.client.on_segment(now, reset(next));
    assert_eq!(wire.client.error(), Some(TcpError::Reset));
}

#[test]
fn a_restarted_host_clears_the_old_connection_from_the_same_port_and_connects() {
    let mut wire = connected();
    // The client's host loses power and comes back with the same port; its new attempt meets the old connection.
    wire.client = Connection::connect(&Config::default(), 900_000_000, wire.now);
    wire.pump();
    let at = wire.connect();
    // SYN, the old connection's answer, a reset that ends it, and SYN again two milliseconds later.
    assert_eq!(at, (100_000 + 2 * ONE_WAY_US + 2000 + 2 * ONE_WAY_US, None));
}

#[test]
fn time_wait_makes_way_only_for_a_newer_connection() {
    let mut wire = connected();
    wire.client.close(wire.now);
    wire.pump();
    wire.run_to(150_000);
    let now = wire.now;
    wire.end(End::Server).close(now);
    wire.pump();
    wire.run_to(200_000);
    assert!(wire.client.has_reached_time_wait());
    let next = wire.client.receive.next;
    let syn = |seq| Segment { seq, syn: true, ..Segment::default() };
    assert!(wire.client.makes_way_for(&syn(next.wrapping_add(1))));
    assert!(!wire.client.makes_way_for(&syn(next.wrapping_sub(1))));
    assert!(!wire.end(End::Server).makes_way_for(&syn(next)));
}

#[test]
fn a_closed_connection_to_a_dead_peer_does_not_live_for_ever() {
    let mut wire = connected();
    wire.client.close(wire.now);
    // From here on the client alone: nothing it sends arrives.
    let mut client = wire.client;
    let mut now = wire.now;
    while !client.is_finished() {
        while client.poll_transmit(now).is_some() {}
        now = client.deadline().expect("an orphan has a deadline");
        client.on_timer(now);
    }
    assert_eq!(client.error(), Some(TcpError::TimedOut));
    let seconds = now.as_millis() / 1000;
    assert!((100..250).contains(&seconds), "{seconds}");
}

#[test]
fn a_closed_window_does_not_keep_a_closed_connection_for_ever() {
    let config = Config { receive_buffer_bytes: 1000, ..Config::default() };
    let mut wire = Wire::with(config, 1, 1, losing(ONE_WAY_US, |_, _| false));
    wire.connect();
    wire.reads = [false; 2];
    wire.write(End::Client, &[1; 5000]);
    wire.run_to(1_000_000);
    wire.client.close(wire.now);
    wire.run_until(|wire| wire.client.is_finished());
    assert_eq!(wire.client.error(), Some(TcpError::TimedOut));
    let seconds = wire.now.as_millis() / 1000;
    assert!((100..400).contains(&seconds), "{seconds}");
}

#[test]
fn an_impossibly_long_segment_is_ignored() {
    let mut wire = connected();
    let (seq, ack) = (wire.client.receive.next, Some(wire.client.send.next));
    let segment = |length| Segment {
        seq,
        ack,
        window: 1000,
        payload: Bytes::from(vec![0; length]),
        ..Segment::default()
    };
    let now = wire.now;
    wire.client.on_segment(now, segment(PAYLOAD_BYTES_MAX + 1));
    assert_eq!(wire.client.receive.unread_bytes(), 0);
    wire.client.on_segment(now, segment(PAYLOAD_BYTES_MAX));
    assert_eq!(wire.client.receive.unread_bytes() as usize, PAYLOAD_BYTES_MAX);
}

#[test]
fn an_idle_endpoint_is_small() {
    // A mesh of 100 nodes has 20,000 of them.
    let size = std::mem::size_of::<Connection>();
    assert!(size <= 512, "{size} bytes");
}
