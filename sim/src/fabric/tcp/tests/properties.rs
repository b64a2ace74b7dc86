//! What holds whatever the wire does, and whatever arrives.

use bytes::Bytes;
use hailer::Timestamp;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::wire::{End, Fate, Wire};
use crate::fabric::tcp::{Config, Connection, Segment, State, Timestamps};

/// A wire that loses, delays, reorders and doubles by a seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) seed: u64,
    pub(super) loss_percent: u32,
    pub(super) double_percent: u32,
    pub(super) delay_us: u64,
    pub(super) jitter_us: u64,
}

impl Weather {
    pub(super) fn rule(self) -> impl FnMut(End, &Segment) -> Fate {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        move |_, _| {
            let copies = if random.next_u32() % 100 < self.double_percent { 2 } else { 1 };
            let mut fate = Fate::new();
            for _ in 0..copies {
                let is_lost = random.next_u32() % 100 < self.loss_percent;
                let delay_us = self.delay_us + u64::from(random.next_u32()) % (self.jitter_us + 1);
                if !is_lost {
                    fate.push(delay_us);
                }
            }
            fate
        }
    }
}

fn weather() -> impl Strategy<Value = Weather> {
    (any::<u64>(), 0..60u32, 0..20u32, 0..200_000u64, prop_oneof![Just(0), 0..100_000u64]).prop_map(
        |(seed, loss_percent, double_percent, delay_us, jitter_us)| Weather {
            seed,
            loss_percent,
            double_percent,
            delay_us,
            jitter_us,
        },
    )
}

fn config() -> impl Strategy<Value = Config> {
    let bytes = || prop_oneof![1..2000u32, Just(5000), Just(256 * 1024)];
    (bytes(), bytes(), prop_oneof![Just(1460u16), 0..9000u16], 1..20u16).prop_map(
        |(send_buffer_bytes, receive_buffer_bytes, mss, initial_cwnd)| Config {
            send_buffer_bytes,
            receive_buffer_bytes,
            mss,
            initial_cwnd,
            ..Config::default()
        },
    )
}

fn pattern(length: usize, salt: u8) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8 ^ salt).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Both sides write in pieces, close when they have written all, and read everything. Either all bytes arrive whole
    /// and in order and both ends finish, or an end reports an error; and there is always something that will happen.
    #[test]
    fn bytes_arrive_whole_and_in_order_or_the_connection_fails(
        weather in weather(),
        config in config(),
        isns in any::<(u32, u32)>(),
        lengths in (0..40_000usize, 0..5000usize),
        piece in 1..5000usize,
    ) {
        let mut wire = Wire::with(config, isns.0, isns.1, weather.rule());
        let data = [pattern(lengths.0, 0), pattern(lengths.1, 7)];
        let mut written = [0; 2];
        let mut is_finished = false;
        for _ in 0..500_000 {
            for end in [End::Client, End::Server] {
                let side = end as usize;
                if end == End::Server && wire.server.is_none() {
                    continue;
                }
                while wire.end(end).is_writable() && written[side] < data[side].len() {
                    let next = &data[side][written[side]..data[side].len().min(written[side] + piece)];
                    let length = wire.write(end, next);
                    prop_assert!(length > 0, "a writable connection takes bytes");
                    written[side] += length;
                }
                if written[side] == data[side].len() && wire.end(end).is_established() {
                    let now = wire.now;
                    wire.end(end).shutdown(now);
                    wire.pump();
                }
                prop_assert!(data[side].starts_with(&wire.received[1 - side]));
                prop_assert!(wire.end(end).receive.unread_bytes() <= config.receive_buffer_bytes.max(1));
            }
            let is_over = |connection: &Connection| connection.is_finished();
            is_finished = is_over(&wire.client) && wire.server.as_ref().is_none_or(is_over);
            // Who has given up no longer speaks, and the other, once it has finished, may wait for ever.
            let has_failed = wire.client.error().is_some()
                || wire.server.as_ref().is_some_and(|server| server.error().is_some());
            if is_finished || has_failed {
                is_finished = true;
                break;
            }
            prop_assert!(wire.step(), "stalled: {:?} {:?}", wire.client, wire.server);
        }
        prop_assert!(is_finished, "no end in sight at {}", wire.now);
        let server_error = wire.server.as_ref().and_then(Connection::error);
        if wire.client.error().is_none() && server_error.is_none() {
            prop_assert_eq!(&wire.received[1], &data[0]);
            prop_assert_eq!(&wire.received[0], &data[1]);
        }
        if weather.loss_percent < 10 {
            prop_assert_eq!((wire.client.error(), server_error), (None, None));
        }
    }

    /// Whenever an end drops its socket, and whatever is under way, both come to an end.
    #[test]
    fn both_ends_finish_after_closing(
        weather in weather(),
        config in config(),
        length in 0..20_000usize,
        close_at_us in 0..3_000_000u64,
        server_closes_at_us in 0..3_000_000u64,
        reads in any::<[bool; 2]>(),
        is_abort in any::<bool>(),
    ) {
        let mut wire = Wire::with(config, 1, 2, weather.rule());
        wire.reads = reads;
        let data = pattern(length, 3);
        for at_us in [close_at_us.min(server_closes_at_us), close_at_us.max(server_closes_at_us)] {
            wire.run_to(at_us);
            let now = wire.now;
            if at_us == close_at_us {
                wire.write(End::Client, &data);
                if is_abort { wire.client.abort(now) } else { wire.client.close(now) }
            }
            if wire.server.is_some() && at_us == server_closes_at_us {
                wire.write(End::Server, &data);
                wire.end(End::Server).close(now);
            }
            wire.pump();
        }
        let mut steps = 0;
        while !wire.client.is_finished() || wire.server.as_ref().is_some_and(|server| !server.is_finished()) {
            // A SYN that was late may have made a server after all.
            if let Some(server) = &mut wire.server {
                server.close(wire.now);
            }
            wire.pump();
            steps += 1;
            let is_over = wire.client.is_finished() && wire.server.as_ref().is_none_or(Connection::is_finished);
            prop_assert!(steps < 200_000 && (is_over || wire.step()), "{:?} {:?}", wire.client, wire.server);
        }
    }

    /// Segments made up by anyone, interleaved with timers and reads: no panic, and no memory beyond the buffer.
    #[test]
    fn arbitrary_segments_do_no_harm(
        config in config(),
        is_server in any::<bool>(),
        is_near in prop::collection::vec(hostile(), 1..60),
    ) {
        let mut now = Timestamp::from_millis(1000);
        let syn = Segment { seq: 4999, syn: true, mss: Some(1000), window: 3000, ..Segment::default() };
        let mut connection = if is_server {
            Connection::accept(&config, 999, &syn, now)
        } else {
            Connection::connect(&config, 999, now)
        };
        if !is_server {
            connection.on_segment(now, Segment { ack: Some(1000), ..syn });
        }
        for hostile in is_near {
            let (next, una) = (connection.receive.next, connection.send.una);
            now = Timestamp::from_nanos(now.as_nanos() + hostile.pause_us * 1000);
            connection.on_timer(now);
            match hostile.what {
                0 => { connection.read(now, &mut [0; 100]); }
                1 => { connection.write(now, &[1; 700]); }
                2 => connection.shutdown(now),
                _ => {}
            }
            let mut segment = hostile.segment;
            segment.seq = segment.seq.wrapping_add(if hostile.is_near { next } else { 0 });
            segment.ack = segment.ack.map(|ack| ack.wrapping_add(if hostile.is_near { una } else { 0 }));
            connection.on_segment(now, segment);
            let mut sent = 0;
            while let Some(segment) = connection.poll_transmit(now) {
                prop_assert!(segment.payload.len() <= usize::from(config.mss.max(88)));
                sent += 1;
                prop_assert!(sent < 2000, "it never stops sending");
            }
            prop_assert!(connection.send.is_consistent());
            let held = connection.receive.unread_bytes() as usize + connection.receive.early_bytes();
            prop_assert!(held <= config.receive_buffer_bytes as usize);
            prop_assert!(connection.send.held_bytes() <= config.send_buffer_bytes + 1);
            let is_waiting = connection.send.held_bytes() > 0 || connection.send.has_unsent();
            prop_assert!(!is_waiting || connection.state() == State::Closed || connection.deadline().is_some());
        }
    }
}

#[derive(Clone, Debug)]
struct Hostile {
    segment: Segment,
    is_near: bool,
    pause_us: u64,
    what: u8,
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let number = || prop_oneof![0..3000u32, any::<u32>(), (0..100u32).prop_map(u32::wrapping_neg)];
    let flag = || prop::bool::weighted(0.1);
    let sack = prop::collection::vec((1000..4000u32, 1000..4000u32), 0..4);
    let fields =
        (number(), prop::option::weighted(0.9, number()), number(), 0..2000usize, sack, number(), number());
    let flags =
        (flag(), flag(), prop::bool::weighted(0.03), flag(), prop::option::weighted(0.1, any::<u16>()));
    let drive = (prop::bool::weighted(0.9), prop_oneof![Just(0), 0..5_000_000u64], 0..10u8);
    (fields, flags, drive).prop_map(
        |(
            (seq, ack, window, length, sack, value, echo),
            (syn, fin, rst, psh, mss),
            (is_near, pause_us, what),
        )| {
            let segment = Segment {
                seq,
                ack,
                syn,
                fin,
                rst,
                psh,
                window,
                mss,
                sack: sack.into_iter().collect(),
                timestamps: Some(Timestamps { value, echo }),
                payload: Bytes::from(vec![7; length]),
                is_retransmission: false,
            };
            Hostile { segment, is_near, pause_us, what }
        },
    )
}
