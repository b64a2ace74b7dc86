//! What repeaters tell: whom they listen to. What they carry shows in whom nodes meet.

use hailer::repeater::Event;

use super::Author;
use crate::trace::{RepeaterWhat, What};

impl Author {
    /// The node begins a life with a repeater, ours or the original.
    pub(in crate::world) fn begins_as_repeater(&self) {
        self.record(What::Repeater(RepeaterWhat::Up));
    }

    /// Writes down what a repeater told.
    pub(super) fn repeater_event(&self, event: &Event) {
        match event {
            Event::RepeaterFound(place) => self.record(What::Repeater(RepeaterWhat::Found(*place))),
            Event::RepeaterGone(place) => self.record(What::Repeater(RepeaterWhat::Gone(*place))),
            _ => {}
        }
    }
}
