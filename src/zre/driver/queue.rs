//! What waits between a node and the task of one of its links to a peer: attempts to connect, and messages.
//!
//! A node has one for each of its peers, and most are empty most of the time. So it is one small piece of memory behind one
//! lock that is held for a few instructions; a channel would have room for dozens of messages from the beginning.
//!
//! It counts, and leaves it to the node what to do about a queue that is full.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::zmtp::Multipart;
use crate::zre::{Endpoint, Limits};

/// An attempt to connect that a link is told to make.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) attempt: u32,
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Duration,
}

/// How much room is left in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Half of it or more.
    Plenty,
    /// Less than half, and so the application better waits.
    Little,
    /// None for the message.
    None,
}

/// The queue of one link.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    bytes_max: usize,
    messages_max: usize,
}

#[derive(Debug, Default)]
struct State {
    /// As many as the machine asks for; it asks for one at a time.
    dials: Vec<Dial>,
    messages: VecDeque<Multipart>,
    /// Bytes in `messages`.
    bytes: usize,
    /// How many messages were ever taken out.
    taken: usize,
    /// Whether the node wants to be told when there is room again.
    is_room_awaited: bool,
    /// Nothing more will be put in.
    is_ended: bool,
    /// The link's task, when it waits.
    task: Option<Waker>,
}

impl Queue {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { state: Mutex::default(), bytes_max: limits.queue_bytes, messages_max: limits.queue_messages }
    }

    /// Puts an attempt in.
    pub(super) fn dial(&self, dial: Dial) {
        self.change(|state| state.dials.push(dial));
    }

    /// Puts a message in, unless it does not fit. After [`Queue::end`] nothing is put in any more, and all fits.
    pub(super) fn put(&self, message: Multipart) -> Room {
        let len = bytes_in(&message);
        let mut state = self.lock();
        if state.is_ended {
            return Room::Plenty;
        }
        let fits = state.messages.len() < self.messages_max
            && (state.bytes == 0 || state.bytes + len <= self.bytes_max);
        if !fits {
            return Room::None;
        }
        state.bytes += len;
        state.messages.push_back(message);
        let room = if self.is_more_than_half(&state) { Room::Little } else { Room::Plenty };
        wake(state);
        room
    }

    /// Nothing more will be put in.
    pub(super) fn end(&self) {
        self.change(|state| state.is_ended = true);
    }

    /// Takes all attempts, or waits for one.
    pub(super) fn poll_dials(&self, context: &Context<'_>) -> Poll<Vec<Dial>> {
        let mut state = self.lock();
        if state.dials.is_empty() {
            return state.wait(context);
        }
        Poll::Ready(std::mem::take(&mut state.dials))
    }

    /// Takes the next message, or waits for one; `None` when none will come.
    pub(super) fn poll_take(&self, context: &Context<'_>) -> Poll<Option<Multipart>> {
        let mut state = self.lock();
        match state.messages.pop_front() {
            Some(message) => {
                state.bytes -= bytes_in(&message);
                state.taken += 1;
                Poll::Ready(Some(message))
            }
            None if state.is_ended => Poll::Ready(None),
            None => state.wait(context),
        }
    }

    /// How many messages were ever taken out.
    pub(super) fn taken(&self) -> usize {
        self.lock().taken
    }

    /// Asks to be told when there is room; `false` when there is room already.
    pub(super) fn await_room(&self) -> bool {
        let mut state = self.lock();
        state.is_room_awaited = self.is_more_than_half(&state);
        state.is_room_awaited
    }

    /// Whether there is room again that was asked for; says so once.
    pub(super) fn has_awaited_room(&self) -> bool {
        let mut state = self.lock();
        let is_there = state.is_room_awaited && !self.is_more_than_half(&state);
        state.is_room_awaited &= !is_there;
        is_there
    }

    fn is_more_than_half(&self, state: &State) -> bool {
        state.bytes > self.bytes_max / 2 || state.messages.len() > self.messages_max / 2
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl State {
    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        match &mut self.task {
            Some(task) => task.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// Wakes the link's task, which finds the lock open.
fn wake(mut state: MutexGuard<'_, State>) {
    let task = state.task.take();
    drop(state);
    if let Some(task) = task {
        task.wake();
    }
}

/// The bytes of a message, without what frames add.
pub(super) fn bytes_in(message: &Multipart) -> usize {
    message.iter().map(Bytes::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queue_messages: usize, queue_bytes: usize) -> Queue {
        Queue::new(&Limits { queue_messages, queue_bytes, ..Limits::default() })
    }

    fn message(len: usize) -> Multipart {
        vec![Bytes::from(vec![0; len])]
    }

    fn take(queue: &Queue) -> Poll<Option<usize>> {
        let context = Context::from_waker(Waker::noop());
        queue.poll_take(&context).map(|message| message.map(|message| bytes_in(&message)))
    }

    #[test]
    fn a_queue_is_full_by_messages_or_by_bytes_and_takes_one_message_of_any_length() {
        let by_messages = queue(2, 100);
        assert_eq!(
            [1, 1, 1].map(|len| by_messages.put(message(len))),
            [Room::Plenty, Room::Little, Room::None]
        );
        let by_bytes = queue(10, 100);
        assert_eq!(
            [50, 50, 1].map(|len| by_bytes.put(message(len))),
            [Room::Plenty, Room::Little, Room::None]
        );
        let by_one = queue(10, 100);
        assert_eq!([1000, 1].map(|len| by_one.put(message(len))), [Room::Little, Room::None]);
        assert_eq!(take(&by_one), Poll::Ready(Some(1000)));
        assert_eq!(by_one.put(message(1)), Room::Plenty);
    }

    #[test]
    fn room_is_told_of_once_and_only_to_who_asked() {
        let queue = queue(4, 100);
        assert!(!queue.await_room());
        assert_eq!([1; 3].map(|len| queue.put(message(len))), [Room::Plenty, Room::Plenty, Room::Little]);
        assert_eq!(take(&queue), Poll::Ready(Some(1)));
        assert!(!queue.has_awaited_room());
        assert_eq!(queue.put(message(1)), Room::Little);
        assert!(queue.await_room());
        assert!(!queue.has_awaited_room());
        assert_eq!(take(&queue), Poll::Ready(Some(1)));
        assert!(queue.has_awaited_room() && !queue.has_awaited_room());
        assert_eq!(queue.taken(), 2);
    }

    #[test]
    fn an_ended_queue_gives_what_it_has_and_then_says_so() {
        let queue = queue(4, 100);
        assert_eq!(queue.put(message(1)), Room::Plenty);
        queue.end();
        assert_eq!(queue.put(message(2)), Room::Plenty);
        assert_eq!(take(&queue), Poll::Ready(Some(1)));
        assert_eq!(take(&queue), Poll::Ready(None));
    }
}
