//! Timers. Setting one costs nothing when it is set to later than before, which is what busy code does all the time.
//!
//! A deadline is a time of the machine's own clock; the events that look at it are of the fabric's.

use std::task::{Context, Poll};

use hailer::Timestamp;

use super::waiting::Waiting;
use super::{Event, Fabric, HostId};

slotmap::new_key_type! {
    /// A timer.
    pub struct AlarmKey;
}

#[derive(Debug)]
pub(super) struct Alarm {
    host: HostId,
    deadline: Option<Timestamp>,
    /// When the earliest event comes that will look at this alarm. An event at any other time is stale.
    armed: Option<Timestamp>,
    waiting: Waiting,
}

impl Fabric {
    /// A timer of a machine, not set.
    pub fn alarm(&mut self, host: HostId) -> AlarmKey {
        self.alarms.insert(Alarm { host, deadline: None, armed: None, waiting: Waiting::default() })
    }

    /// Removes a timer.
    pub fn alarm_remove(&mut self, key: AlarmKey) {
        self.alarms.remove(key);
    }

    /// Sets a timer to a time of its machine's clock, or unsets it.
    pub fn alarm_set(&mut self, key: AlarmKey, deadline: Option<Timestamp>) {
        let Some(alarm) = self.alarms.get_mut(key) else { return };
        alarm.deadline = deadline;
        if let Some(deadline) = deadline.filter(|deadline| *deadline < Timestamp::NEVER) {
            let at = self.hosts[alarm.host.index()].clock.when(deadline).max(self.now);
            if alarm.armed.is_none_or(|armed| at < armed) {
                alarm.armed = Some(at);
                self.queue.push(at, Event::Alarm(key));
            }
        }
    }

    /// Ready once when the deadline has come.
    pub fn alarm_poll(&mut self, key: AlarmKey, context: &mut Context<'_>) -> Poll<()> {
        let Some(alarm) = self.alarms.get_mut(key) else { return Poll::Pending };
        let clock = self.hosts[alarm.host.index()].clock;
        if alarm.deadline.is_some_and(|deadline| deadline <= clock.read(self.now)) {
            alarm.deadline = None;
            return Poll::Ready(());
        }
        alarm.waiting.wait(context);
        Poll::Pending
    }

    pub(super) fn alarm_due(&mut self, key: AlarmKey) {
        let Some(alarm) = self.alarms.get_mut(key) else { return };
        if alarm.armed != Some(self.now) {
            return;
        }
        alarm.armed = None;
        let shown = self.hosts[alarm.host.index()].clock.read(self.now);
        match alarm.deadline {
            Some(deadline) if deadline <= shown => alarm.waiting.wake(),
            later => self.alarm_set(key, later),
        }
    }

    /// After a change of a machine's clock.
    pub(super) fn alarms_again(&mut self, host: HostId) {
        let own = self.alarms.iter().filter(|(_, alarm)| alarm.host == host);
        let own: Vec<_> = own.map(|(key, alarm)| (key, alarm.deadline)).collect();
        own.into_iter().for_each(|(key, deadline)| self.alarm_set(key, deadline));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;
    use crate::scenario::PARTS;

    fn machine() -> (Fabric, AlarmKey) {
        let mut fabric = Fabric::new(1, 5670);
        let host = fabric.add_host("n");
        let key = fabric.alarm(host);
        (fabric, key)
    }

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
            let (mut fabric, key) = machine();
            for deadline in deadlines {
                fabric.alarm_set(key, deadline.map(Timestamp::from_millis));
            }
            assert_eq!(rings_at(&mut fabric, key), rings);
        }
    }

    #[test]
    fn setting_an_alarm_later_and_later_leaves_one_event_behind() {
        let (mut fabric, key) = machine();
        for millis in 1..1000 {
            fabric.alarm_set(key, Some(Timestamp::ZERO.after(Duration::from_millis(millis))));
        }
        fabric.step();
        assert_eq!(fabric.next_at(), Some(Timestamp::from_millis(999)));
        fabric.step();
        assert_eq!(fabric.next_at(), None);
    }

    #[test]
    fn an_alarm_rings_when_its_own_clock_shows_the_time_however_that_runs() {
        // Twice as slow from the start; and from 4 s on, when the clock shows 2 s, a quarter fast.
        for (second, rings) in [(None, vec![20_000]), (Some(PARTS / 4), vec![4_000 + 6_400])] {
            let (mut fabric, key) = machine();
            let host = HostId(0);
            fabric.set_drift(host, -PARTS / 2);
            fabric.alarm_set(key, Some(Timestamp::from_millis(10_000)));
            if let Some(second) = second {
                fabric.appoint(Timestamp::from_millis(4_000), 1);
                assert_eq!(fabric.step(), Some(1));
                fabric.set_drift(host, second);
            }
            assert_eq!(rings_at(&mut fabric, key), rings);
            assert_eq!(
                fabric.clock(host),
                Timestamp::from_millis(if second.is_some() { 22_000 } else { 10_000 })
            );
        }
    }

    #[test]
    fn an_alarm_whose_clock_slows_down_rings_later() {
        let (mut fabric, key) = machine();
        fabric.alarm_set(key, Some(Timestamp::from_millis(10_000)));
        fabric.set_drift(HostId(0), -PARTS / 5);
        assert_eq!(rings_at(&mut fabric, key), [12_500]);
    }
}
