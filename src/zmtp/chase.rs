//! Questions behind something that matters, so that its loss is noticed soon.
//!
//! TCP notices that a segment was lost when something that was sent later arrives; where nothing was, it waits for its
//! time-out, 0.2 s and a round trip at the earliest, and twice as long each next time. So a lone message on a network that
//! loses packets is followed by PINGs until something comes back. It is sent once all the same: TCP repeats what is lost.

use std::time::Duration;

use crate::Timestamp;

/// When to ask for signs of life behind a message. It only counts; whoever has the connection asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chase {
    next: Option<Timestamp>,
    left: u32,
    received_bytes: u64,
}

impl Chase {
    /// Between two questions: longer than most round trips, so that where nothing is lost there is one question, and shorter
    /// than any time-out of TCP.
    const GAP: Duration = Duration::from_millis(100);
    /// The most questions behind one message: within 1.2 s, when TCP's own time-outs have come as well.
    const TIMES: u32 = 12;

    /// A message that matters was queued; so many bytes had come from the peer by then.
    pub fn begin(&mut self, now: Timestamp, received_bytes: u64) {
        *self = Self { next: Some(now.after(Self::GAP)), left: Self::TIMES, received_bytes };
    }

    /// When [`Chase::ask`] has to be called; `None` while nothing is chased.
    pub const fn due(&self) -> Option<Timestamp> {
        self.next
    }

    /// Whether a question is due. Any bytes that come from the peer after the first one end the chase.
    pub fn ask(&mut self, now: Timestamp, received_bytes: u64) -> bool {
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        let is_first = self.left == Self::TIMES;
        if self.left == 0 || (!is_first && received_bytes != self.received_bytes) {
            self.next = None;
            return false;
        }
        if is_first {
            // What came before it was asked is no answer.
            self.received_bytes = received_bytes;
        }
        self.left -= 1;
        self.next = Some(now.after(Self::GAP));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn it_asks_until_something_comes_and_not_without_end() {
        let mut chase = Chase::default();
        assert!(chase.due().is_none() && !chase.ask(at(0), 0));
        chase.begin(at(0), 7);
        assert_eq!(chase.due(), Some(at(100)));
        assert!(!chase.ask(at(99), 7));
        // What came before the first question was on its way.
        assert!(chase.ask(at(100), 9) && chase.ask(at(200), 9));
        assert!(!chase.ask(at(300), 10));
        assert_eq!(chase.due(), None);
        chase.begin(at(400), 10);
        let asked = (400..10_000).filter(|ms| chase.ask(at(*ms), 10)).count();
        assert_eq!((asked, chase.due()), (12, None));
    }
}
