//! Who is there, as far as a handle has to know it to send without asking the node.
//!
//! A whisper that waits for the node's answer costs two changes of task, far more than the message itself. So the node
//! keeps here who entered and who is in which group, and whether any queue is half full. While none is, a message of
//! moderate size is handed over and that is all; when one is, or anything is unusual, the handle asks and waits for the
//! answer, which the node holds back until there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use super::message::{CONTENT_FRAMES_MAX, MESSAGE_BYTES_MAX};
use super::{Content, Event, Limits, PeerId, Text};

/// What the node tells its handles.
#[derive(Debug)]
pub(super) struct Roster {
    state: Mutex<State>,
    /// The most bytes of a message that is sent without asking.
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Those who entered, each with its groups.
    peers: BTreeMap<PeerId, BTreeSet<Text>>,
    /// How many peers are in each group.
    members: BTreeMap<Text, usize>,
    /// A queue is half full.
    is_crowded: bool,
}

impl Roster {
    /// With nobody in it. So many messages as `waiting` may be on their way to the node when a queue turns out to be half
    /// full, and all of them still have to fit into half of the other half.
    pub(super) fn new(limits: &Limits, waiting: usize) -> Self {
        let has_room = limits.queue_messages / 4 >= waiting;
        let bytes = if has_room { limits.queue_bytes / 4 / waiting } else { 0 };
        Self { state: Mutex::default(), bytes_max: bytes.min(MESSAGE_BYTES_MAX / 2) }
    }

    /// Whether this may be whispered without asking.
    pub(super) fn is_open_to(&self, peer: PeerId, content: &Content) -> bool {
        let state = self.lock();
        self.is_brief(content) && !state.is_crowded && state.peers.contains_key(&peer)
    }

    /// How many get it when this is shouted; `None` when the node has to be asked.
    pub(super) fn audience(&self, group: &Text, content: &Content) -> Option<usize> {
        let state = self.lock();
        let is_open = self.is_brief(content) && !state.is_crowded;
        state.members.get(group).copied().filter(|_| is_open)
    }

    fn is_brief(&self, content: &Content) -> bool {
        content.frames().len() <= CONTENT_FRAMES_MAX.min(64) && content.bytes() <= self.bytes_max
    }

    /// Notes what the application is about to hear.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Enter { peer, .. } => drop(self.lock().peers.insert(*peer, BTreeSet::new())),
            Event::Exit { peer, .. } => {
                let mut state = self.lock();
                for group in state.peers.remove(peer).unwrap_or_default() {
                    state.count_out(&group);
                }
            }
            Event::Join { peer, group, .. } => {
                let mut state = self.lock();
                if state.peers.get_mut(peer).is_some_and(|groups| groups.insert(group.clone())) {
                    *state.members.entry(group.clone()).or_default() += 1;
                }
            }
            Event::Leave { peer, group, .. } => {
                let mut state = self.lock();
                if state.peers.get_mut(peer).is_some_and(|groups| groups.remove(group)) {
                    state.count_out(group);
                }
            }
            _ => {}
        }
    }

    /// Says whether a queue is half full.
    pub(super) fn set_crowded(&self, is_crowded: bool) {
        self.lock().is_crowded = is_crowded;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl State {
    fn count_out(&mut self, group: &Text) {
        if let Some(count) = self.members.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                self.members.remove(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zre::ExitReason;

    const ALICE: PeerId = PeerId::from_bytes([1; 16]);
    const BOB: PeerId = PeerId::from_bytes([2; 16]);

    fn text(text: &str) -> Text {
        Text::from(text)
    }

    fn enter(peer: PeerId) -> Event {
        Event::Enter { peer, name: text("x"), headers: BTreeMap::new(), endpoint: text("tcp://10.0.0.1:1") }
    }

    fn join(peer: PeerId, group: &str) -> Event {
        Event::Join { peer, name: text("x"), group: text(group) }
    }

    fn exit(peer: PeerId) -> Event {
        Event::Exit { peer, name: text("x"), reason: ExitReason::Left }
    }

    #[test]
    fn who_entered_is_sent_to_without_asking_until_it_exits() {
        let roster = Roster::new(&Limits::default(), 64);
        let content = Content::from("hello");
        assert!(!roster.is_open_to(ALICE, &content));
        roster.note(&enter(ALICE));
        roster.note(&enter(BOB));
        assert!(roster.is_open_to(ALICE, &content));
        assert_eq!(roster.audience(&text("g"), &content), None);
        roster.note(&join(ALICE, "g"));
        roster.note(&join(ALICE, "g"));
        roster.note(&join(BOB, "g"));
        assert_eq!(roster.audience(&text("g"), &content), Some(2));
        roster.note(&Event::Leave { peer: BOB, name: text("x"), group: text("g") });
        assert_eq!(roster.audience(&text("g"), &content), Some(1));
        roster.note(&exit(ALICE));
        assert_eq!(roster.audience(&text("g"), &content), None);
        assert!(!roster.is_open_to(ALICE, &content) && roster.is_open_to(BOB, &content));
    }

    #[test]
    fn what_is_large_or_meets_a_crowd_is_asked_for() {
        let roster = Roster::new(&Limits { queue_bytes: 64 << 10, ..Limits::default() }, 64);
        roster.note(&enter(ALICE));
        let [brief, large] = [256, 257].map(|len| Content::from(vec![0; len]));
        assert!(roster.is_open_to(ALICE, &brief) && !roster.is_open_to(ALICE, &large));
        roster.set_crowded(true);
        assert!(!roster.is_open_to(ALICE, &brief));
        roster.set_crowded(false);
        assert!(roster.is_open_to(ALICE, &brief));
        let short = Roster::new(&Limits { queue_messages: 255, ..Limits::default() }, 64);
        short.note(&enter(ALICE));
        assert!(!short.is_open_to(ALICE, &brief), "sixty-four might not fit");
    }
}
