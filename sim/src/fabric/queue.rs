//! The future: events in the order in which they happen.

use std::collections::VecDeque;

use hailer::Timestamp;

/// One for each bit of a time.
const BUCKETS: usize = u64::BITS as usize;

/// Events ordered by time; events at the same nanosecond come out in the order in which they were put in.
///
/// A radix heap: as time never runs backwards, events need be sorted only as finely as they are near. Each lies in the bucket
/// of the highest bit in which its time differs from the present one. When nothing is left to happen now, the earliest
/// time of the nearest bucket becomes the present, and that bucket is dealt out to nearer ones. That reads and appends,
/// which caches like; a binary heap with tens of thousands of timers jumps about. As dealing out keeps the order, no
/// event needs a number.
///
/// Buckets hold small keys and the events lie still beside them: dealing out moves 16 bytes, whatever an event weighs.
#[derive(Debug)]
pub struct Queue<E> {
    /// When the last event came out. None comes in for a time before.
    now: Timestamp,
    /// What happens now, oldest first.
    due: VecDeque<u32>,
    /// What happens later; in the first bucket that is not empty what happens next.
    later: [Vec<(Timestamp, u32)>; BUCKETS],
    /// The earliest time in each bucket that is not empty.
    earliest: [Timestamp; BUCKETS],
    /// A bit for each bucket that is not empty.
    filled: u64,
    events: Vec<Option<E>>,
    free: Vec<u32>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            now: Timestamp::ZERO,
            due: VecDeque::new(),
            later: [const { Vec::new() }; BUCKETS],
            earliest: [Timestamp::NEVER; BUCKETS],
            filled: 0,
            events: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<E> Queue<E> {
    /// Puts an event in. One for a time that has passed happens now.
    pub fn push(&mut self, at: Timestamp, event: E) {
        let slot = if let Some(slot) = self.free.pop() {
            self.events[slot as usize] = Some(event);
            slot
        } else {
            self.events.push(Some(event));
            u32::try_from(self.events.len() - 1)
                .expect("four thousand million events would not fit in memory")
        };
        self.put(at.max(self.now), slot);
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Timestamp> {
        if self.due.is_empty() { Some(self.earliest[self.nearest()?]) } else { Some(self.now) }
    }

    /// Takes the next event out.
    pub fn pop(&mut self) -> Option<(Timestamp, E)> {
        if self.due.is_empty() {
            self.deal_out(self.nearest()?);
        }
        let slot = self.due.pop_front()?;
        self.free.push(slot);
        Some((self.now, self.events[slot as usize].take().expect("a key owns its slot")))
    }

    /// The bucket with the next event, when nothing happens now.
    fn nearest(&self) -> Option<usize> {
        (self.filled != 0).then(|| self.filled.trailing_zeros() as usize)
    }

    fn deal_out(&mut self, nearest: usize) {
        self.now = self.earliest[nearest];
        self.filled &= !(1 << nearest);
        let mut bucket = std::mem::take(&mut self.later[nearest]);
        bucket.drain(..).for_each(|(at, slot)| self.put(at, slot));
        // All went to nearer ones; the memory stays for the next.
        self.later[nearest] = bucket;
    }

    fn put(&mut self, at: Timestamp, slot: u32) {
        let Some(bit) = (at.as_nanos() ^ self.now.as_nanos()).checked_ilog2() else {
            return self.due.push_back(slot);
        };
        let number = bit as usize;
        let is_first = self.filled & (1 << number) == 0;
        self.filled |= 1 << number;
        self.earliest[number] = if is_first { at } else { at.min(self.earliest[number]) };
        self.later[number].push((at, slot));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_come_out_by_time_and_then_by_age() {
        let mut queue = Queue::default();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (3, "b"), (5, "e")] {
            queue.push(Timestamp::from_nanos(at), name);
        }
        let order: Vec<&str> = std::iter::from_fn(|| queue.pop().map(|(_, name)| name)).collect();
        assert_eq!(order, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn slots_are_used_again() {
        let mut queue = Queue::default();
        for i in 0..1000 {
            queue.push(Timestamp::from_nanos(i), i);
            queue.pop();
        }
        assert_eq!(queue.events.len(), 1);
    }

    /// How far ahead, in nanoseconds: often now, often at the same moment as others, sometimes beyond all bounds.
    fn ahead() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0_u64..8, Just(200_000), 0_u64..1 << 40, Just(u64::MAX / 2)]
    }

    proptest! {
        /// Whatever goes in and out when, the next is the oldest of the earliest.
        #[test]
        fn the_next_is_the_oldest_of_the_earliest(steps in prop::collection::vec(prop::option::of(ahead()), 0..400)) {
            let mut queue = Queue::default();
            let mut expected: Vec<(Timestamp, usize)> = Vec::new();
            let mut now = 0_u64;
            for (number, step) in steps.iter().enumerate() {
                if let Some(ahead) = step {
                    let at = Timestamp::from_nanos(now.saturating_add(*ahead));
                    queue.push(at, number);
                    expected.push((at, number));
                } else {
                    let next = expected.iter().copied().min();
                    prop_assert_eq!(queue.next_at(), next.map(|(at, _)| at));
                    prop_assert_eq!(queue.pop(), next);
                    expected.retain(|event| Some(*event) != next);
                    now = next.map_or(now, |(at, _)| at.as_nanos());
                }
            }
            expected.sort();
            let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(rest, expected);
        }
    }
}
