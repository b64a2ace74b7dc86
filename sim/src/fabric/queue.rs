//! The future: events in the order in which they happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hailer::Timestamp;

/// Events ordered by time; events at the same nanosecond come out in the order in which they were put in.
///
/// The heap holds small keys and the events lie still beside it: sifting moves 24 bytes, whatever an event weighs.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<(Timestamp, u64, u32)>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<E> Queue<E> {
    /// Puts an event in.
    pub fn push(&mut self, at: Timestamp, event: E) {
        let slot = if let Some(slot) = self.free.pop() {
            self.events[slot as usize] = Some(event);
            slot
        } else {
            self.events.push(Some(event));
            u32::try_from(self.events.len() - 1)
                .expect("four thousand million events would not fit in memory")
        };
        self.heap.push(Reverse((at, self.sequence, slot)));
        self.sequence += 1;
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the next event out.
    pub fn pop(&mut self) -> Option<(Timestamp, E)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.events[slot as usize].take().expect("a key in the heap owns its slot")))
    }
}

#[cfg(test)]
mod tests {
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
}
