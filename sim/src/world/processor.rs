//! A busy machine: its program gets the processor only some time after it wants it.
//!
//! A program that has nothing to do is asleep. What wakes one of its tasks asks for the processor, and it comes after a
//! delay; all tasks that were woken by then run at that moment, and whatever they wake at that moment runs too. Nothing
//! runs between two such moments. What the kernel does, acknowledging among it, takes no notice.

use std::sync::{Arc, Mutex};

use crate::fabric::link::draw;
use crate::fabric::random::Stream;
use crate::net::SharedFabric;
use crate::scenario::Delay;
use crate::tasks::Turns;
use hailer::Timestamp;

/// The processor of one machine, over all its lives. Cloning gives another handle on the same one.
#[derive(Clone, Debug)]
pub(super) struct Processor {
    fabric: SharedFabric,
    /// The appointment at which the next turn comes.
    token: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    delay: Delay,
    stream: Stream,
    /// When the program gets the processor, or last got it.
    turn: Option<Timestamp>,
}

impl Processor {
    /// A processor that is free. `token` is what the driver appoints its turns with.
    pub(super) fn new(fabric: SharedFabric, token: u64, stream: Stream) -> Self {
        let state = State { delay: Delay::default(), stream, turn: None };
        Self { fabric, token, state: Arc::new(Mutex::new(state)) }
    }

    /// From now on whoever asks waits so long. Who has asked already keeps the turn that he was given.
    pub(super) fn set_delay(&self, delay: Delay) {
        self.state.lock().expect("drawing does not panic").delay = delay;
    }
}

impl Turns for Processor {
    fn is_mine(&self) -> bool {
        let mut fabric = self.fabric.lock();
        let state = &mut *self.state.lock().expect("drawing does not panic");
        let now = fabric.now();
        if state.turn.is_none_or(|turn| turn < now) {
            let turn = now.after(draw(&state.delay, &mut state.stream));
            if turn > now {
                fabric.appoint(turn, self.token);
            }
            state.turn = Some(turn);
        }
        state.turn == Some(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fabric::Fabric;

    fn processor(delay: Delay) -> Processor {
        let fabric = SharedFabric::new(Fabric::new(1, 5670));
        let processor = Processor::new(fabric, 7, Stream::new(1, "n/processor"));
        processor.set_delay(delay);
        processor
    }

    /// Lets time pass to the next appointment.
    fn step(processor: &Processor) -> (Option<u64>, u64) {
        let mut fabric = processor.fabric.lock();
        (fabric.step(), fabric.now().as_millis())
    }

    #[test]
    fn who_asks_waits_and_everybody_who_asked_has_the_same_turn() {
        let processor = processor(Delay::Fixed(Duration::from_millis(20)));
        assert!(!processor.is_mine());
        processor.fabric.lock().appoint(Timestamp::from_millis(5), 1);
        assert_eq!(step(&processor), (Some(1), 5));
        assert!(!processor.is_mine(), "somebody else waits for the same turn");
        assert_eq!(step(&processor), (Some(7), 20));
        assert!(processor.is_mine() && processor.is_mine());
        processor.fabric.lock().appoint(Timestamp::from_millis(21), 2);
        assert_eq!(step(&processor), (Some(2), 21));
        assert!(!processor.is_mine());
        assert_eq!(step(&processor), (Some(7), 41));
        assert!(processor.is_mine());
        assert_eq!(processor.fabric.lock().next_at(), None);
    }

    #[test]
    fn a_free_processor_lets_everybody_run_at_once() {
        let processor = processor(Delay::default());
        assert!(processor.is_mine());
        assert_eq!(processor.fabric.lock().next_at(), None);
    }

    #[test]
    fn a_turn_that_was_given_stays_when_the_machine_is_free_again() {
        let processor = processor(Delay::Fixed(Duration::from_millis(20)));
        assert!(!processor.is_mine());
        processor.set_delay(Delay::default());
        assert!(!processor.is_mine());
        assert_eq!(step(&processor), (Some(7), 20));
        assert!(processor.is_mine());
    }
}
