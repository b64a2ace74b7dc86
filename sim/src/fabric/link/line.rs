//! Limited bandwidth: packets leave one after the other, those that wait stand in a queue, and a queue has an end.
//!
//! First in, first out, with the tail dropped when there is no room: what a network card, a modem and a cheap router do.
//! Nothing waits here: when the last bit of a packet leaves is known the moment it comes.

use std::time::Duration;

use hailer::Timestamp;

use crate::trace::Drop;

/// Eight bits to a byte, a thousand million nanoseconds to a second.
const NANOS_TIMES_BITS: u64 = 8_000_000_000;

/// The sending end of a direction.
#[derive(Debug)]
pub(super) struct Line {
    bits_per_second: u64,
    /// How many bytes may be there that have not left yet, the packet that is leaving included.
    queue_bytes: u64,
    /// When everything that is there has left.
    free_at: Timestamp,
}

impl Line {
    /// A line with nothing on it. The queue is at most a gibibyte, beyond which the arithmetic does not reach.
    pub(super) fn new(bits_per_second: u64, queue_bytes: u64) -> Self {
        Self {
            bits_per_second: bits_per_second.max(1),
            queue_bytes: queue_bytes.min(1 << 30),
            free_at: Timestamp::ZERO,
        }
    }

    /// When the last bit of a packet of `len` bytes has left that comes at `now`. An idle line takes any packet.
    ///
    /// # Errors
    /// `LinkQueueFull` when there is no room for it.
    pub(super) fn send(&mut self, now: Timestamp, len: u32) -> Result<Timestamp, Drop> {
        let start = now.max(self.free_at);
        if start > now {
            let ahead = start.as_nanos() - now.as_nanos();
            let ahead_bytes = ahead.saturating_mul(self.bits_per_second) / NANOS_TIMES_BITS;
            if ahead_bytes + u64::from(len) > self.queue_bytes {
                return Err(Drop::LinkQueueFull);
            }
        }
        let takes = (u64::from(len) * NANOS_TIMES_BITS).div_ceil(self.bits_per_second);
        self.free_at = start.after(Duration::from_nanos(takes));
        Ok(self.free_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_takes_its_length_and_waits_for_those_before_it() {
        let mut line = Line::new(8_000_000, 10_000);
        let at = Timestamp::from_nanos;
        assert_eq!(line.send(at(0), 1500), Ok(at(1_500_000)));
        assert_eq!(line.send(at(0), 500), Ok(at(2_000_000)));
        assert_eq!(line.send(at(1_000_000), 500), Ok(at(2_500_000)));
        assert_eq!(line.send(at(9_000_000), 40), Ok(at(9_040_000)));
        // A third of a nanosecond is a whole one.
        assert_eq!(Line::new(3_000_000_000, 10_000).send(at(0), 1), Ok(at(3)));
    }

    #[test]
    fn the_tail_is_dropped_when_the_queue_is_full_and_room_comes_with_time() {
        let mut line = Line::new(8_000_000, 3000);
        let at = Timestamp::from_nanos;
        assert!(line.send(at(0), 1500).is_ok());
        assert!(line.send(at(0), 1500).is_ok());
        assert_eq!(line.send(at(0), 1), Err(Drop::LinkQueueFull));
        assert_eq!(line.send(at(100_000), 101), Err(Drop::LinkQueueFull));
        assert_eq!(line.send(at(100_000), 100), Ok(at(3_100_000)));
    }

    #[test]
    fn an_idle_line_takes_what_is_longer_than_its_queue() {
        let mut line = Line::new(8_000_000, 100);
        assert_eq!(line.send(Timestamp::ZERO, 1500), Ok(Timestamp::from_nanos(1_500_000)));
        assert_eq!(line.send(Timestamp::ZERO, 1500), Err(Drop::LinkQueueFull));
    }

    proptest! {
        #[test]
        fn a_line_is_never_faster_than_its_bandwidth_and_never_holds_more_than_its_queue(
            bits_per_second in 1_000..100_000_000_000_u64,
            queue_bytes in 1_500..(1_u64 << 30),
            packets in prop::collection::vec((0..20_000_000_u64, 20..9_216_u32), 1..200),
        ) {
            let mut line = Line::new(bits_per_second, queue_bytes);
            let (mut now, mut free_at) = (0, 0);
            for (pause, len) in packets {
                now += pause;
                if let Ok(left) = line.send(Timestamp::from_nanos(now), len) {
                    let sent_bits = u128::from(left.as_nanos() - now.max(free_at)) * u128::from(bits_per_second);
                    prop_assert!(sent_bits >= u128::from(len) * 8_000_000_000);
                    free_at = left.as_nanos();
                    let held = u128::from(free_at - now) * u128::from(bits_per_second) / 8_000_000_000;
                    // Each packet may round up by one nanosecond's worth of bytes.
                    let rounding = 200 * (bits_per_second / 8_000_000_000 + 1);
                    prop_assert!(held <= u128::from(queue_bytes.max(u64::from(len)) + rounding));
                }
            }
        }
    }
}
