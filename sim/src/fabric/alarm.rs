//! Timers. Setting one costs nothing when it is set to later than before, which is what busy code does all the time.

use std::task::{Context, Poll, Waker};

use hailer::Timestamp;

use super::{Event, Fabric};

slotmap::new_key_type! {
    /// A timer.
    pub struct AlarmKey;
}

#[derive(Debug, Default)]
pub(super) struct Alarm {
    deadline: Option<Timestamp>,
    /// When the earliest event comes that will look at this alarm. An event at any other time is stale.
    armed: Option<Timestamp>,
    waker: Option<Waker>,
}

impl Fabric {
    /// A timer, not set.
    pub fn alarm(&mut self) -> AlarmKey {
        self.alarms.insert(Alarm::default())
    }

    /// Removes a timer.
    pub fn alarm_remove(&mut self, key: AlarmKey) {
        self.alarms.remove(key);
    }

    /// Sets a timer, or unsets it.
    pub fn alarm_set(&mut self, key: AlarmKey, deadline: Option<Timestamp>) {
        let Some(alarm) = self.alarms.get_mut(key) else { return };
        alarm.deadline = deadline;
        if let Some(deadline) = deadline.filter(|deadline| *deadline < Timestamp::NEVER) {
            let at = deadline.max(self.now);
            if alarm.armed.is_none_or(|armed| at < armed) {
                alarm.armed = Some(at);
                self.queue.push(at, Event::Alarm(key));
            }
        }
    }

    /// Ready once when the deadline has come.
    pub fn alarm_poll(&mut self, key: AlarmKey, context: &mut Context<'_>) -> Poll<()> {
        let Some(alarm) = self.alarms.get_mut(key) else { return Poll::Pending };
        if alarm.deadline.is_some_and(|deadline| deadline <= self.now) {
            alarm.deadline = None;
            return Poll::Ready(());
        }
        remember(&mut alarm.waker, context);
        Poll::Pending
    }

    pub(super) fn alarm_due(&mut self, key: AlarmKey) {
        let Some(alarm) = self.alarms.get_mut(key) else { return };
        if alarm.armed != Some(self.now) {
            return;
        }
        alarm.armed = None;
        match alarm.deadline {
            Some(deadline) if deadline <= self.now => {
                let waker = alarm.waker.take();
                self.wake(waker);
            }
            later => self.alarm_set(key, later),
        }
    }
}

/// Keeps the waker of `context`, without a clone when it is the one already kept.
pub(super) fn remember(kept: &mut Option<Waker>, context: &Context<'_>) {
    if kept.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
        *kept = Some(context.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rings_at(fabric: &mut Fabric, key: AlarmKey) -> Vec<u64> {
        let mut rings = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while fabric.next_at().is_some() {
            fabric.step();
            if fabric.alarm_poll(key, &mut context).is_ready() {
                rings.push(fabric.now().as_millis());
            }
        }
        rings
    }

    #[test]
    fn an_alarm_rings_once_at_its_last_deadline() {
        for (deadlines, rings) in [
            (vec![Some(5)], vec![5]),
            (vec![Some(5), Some(9)], vec![9]),
            (vec![Some(9), Some(5)], vec![5]),
            (vec![Some(5), Some(9), Some(2)], vec![2]),
            (vec![Some(5), None], vec![]),
        ] {
            let mut fabric = Fabric::new(1, 5670);
            let key = fabric.alarm();
            for deadline in deadlines {
                fabric.alarm_set(key, deadline.map(Timestamp::from_millis));
            }
            assert_eq!(rings_at(&mut fabric, key), rings);
        }
    }

    #[test]
    fn setting_an_alarm_later_and_later_leaves_one_event_behind() {
        let mut fabric = Fabric::new(1, 5670);
        let key = fabric.alarm();
        for millis in 1..1000 {
            fabric.alarm_set(key, Some(Timestamp::ZERO.after(Duration::from_millis(millis))));
        }
        fabric.step();
        assert_eq!(fabric.next_at(), Some(Timestamp::from_millis(999)));
        fabric.step();
        assert_eq!(fabric.next_at(), None);
    }
}
