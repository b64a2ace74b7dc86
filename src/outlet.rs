//! The way of events to an application that may be slow: at once while its channel has room, else by a queue.
//!
//! An [`Outlet`] never waits and never drops an event that somebody may still take. It sets no limit either: whoever owns
//! it takes in nothing new while events wait in it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

/// How many events one call of [`Outlet::poll_drain`] hands over.
const BATCH: usize = 64;

/// The sender's end of a channel of events, and those that it had no room for.
pub(crate) struct Outlet<T> {
    events: mpsc::Sender<T>,
    waiting: VecDeque<T>,
    /// Waits for room, while something waits and the task has asked.
    room: Option<Room<T>>,
}

type Room<T> = Pin<Box<dyn Future<Output = Result<mpsc::OwnedPermit<T>, SendError<()>>> + Send>>;

impl<T: Send + 'static> Outlet<T> {
    pub(crate) fn new(events: mpsc::Sender<T>) -> Self {
        Self { events, waiting: VecDeque::new(), room: None }
    }

    /// Whether everything was handed over.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether something waits for room that nobody has asked for yet, so that [`Outlet::poll_drain`] is to be called.
    pub(crate) fn is_to_be_polled(&self) -> bool {
        self.room.is_none() && !self.waiting.is_empty()
    }

    /// Hands an event over, after those that wait.
    pub(crate) fn tell(&mut self, event: T) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(event);
        }
        match self.events.try_send(event) {
            Err(TrySendError::Full(event)) => self.waiting.push_back(event),
            // An application that dropped its events does not want them.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
        }
    }

    /// Hands over what waits, up to a batch; returns whether there is no more to do until the task is woken.
    pub(crate) fn poll_drain(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..BATCH {
            // Room that nothing waits for would be asked for once, and its answer looked at by nobody.
            if self.waiting.is_empty() {
                return true;
            }
            let events = &self.events;
            let room = self.room.get_or_insert_with(|| Box::pin(events.clone().reserve_owned()));
            let Poll::Ready(permit) = room.as_mut().poll(context) else { return true };
            self.room = None;
            match (permit, self.waiting.pop_front()) {
                (Ok(permit), Some(event)) => drop(permit.send(event)),
                (Ok(_), None) => {}
                (Err(_), _) => self.waiting.clear(),
            }
        }
        false
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.room = None;
    }

    /// Waits until the application has its last event, or wants none.
    pub(crate) async fn end(self) {
        for event in self.waiting {
            if self.events.send(event).await.is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn outlet(room: usize) -> (Outlet<u32>, mpsc::Receiver<u32>) {
        let (sender, receiver) = mpsc::channel(room);
        (Outlet::new(sender), receiver)
    }

    fn drain(outlet: &mut Outlet<u32>) -> bool {
        outlet.poll_drain(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn events_keep_their_order_when_there_is_no_room_for_some() {
        let (mut outlet, mut events) = outlet(2);
        (0..5).for_each(|event| outlet.tell(event));
        assert!(outlet.is_to_be_polled());
        let mut taken = Vec::new();
        while taken.len() < 5 {
            drain(&mut outlet);
            taken.push(events.try_recv().expect("nothing is lost"));
        }
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        assert!(drain(&mut outlet) && outlet.is_empty() && !outlet.is_to_be_polled());
    }

    #[test]
    fn whoever_waits_after_a_time_without_is_served_too() {
        let (mut outlet, mut events) = outlet(2);
        (0..3).for_each(|event| outlet.tell(event));
        events.try_recv().expect("there are two");
        assert!(drain(&mut outlet) && outlet.is_empty(), "the third has the room of the first");
        events.try_recv().expect("there are two");
        assert!(drain(&mut outlet), "nothing waits");
        (3..5).for_each(|event| outlet.tell(event));
        assert!(outlet.is_empty() || outlet.is_to_be_polled());
        let rest = std::iter::from_fn(|| {
            drain(&mut outlet);
            events.try_recv().ok()
        });
        assert_eq!(rest.collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn an_application_that_wants_no_events_is_kept_none() {
        let (mut outlet, events) = outlet(1);
        (0..3).for_each(|event| outlet.tell(event));
        assert!(drain(&mut outlet), "it waits for room");
        assert!(!outlet.is_empty() && !outlet.is_to_be_polled());
        drop(events);
        assert!(drain(&mut outlet) && outlet.is_empty());
        outlet.tell(3);
        assert!(outlet.is_empty());
    }
}
