//! What the roles have counted, for `--counters` and `--counters-every`.

use std::io;
use std::time::Duration;

use super::super::Roles;
use super::super::output::Output;
use crate::net::{Alarm, Net, OsNet};
use crate::{repeater, zre};

/// What the roles have counted so far; all of it starts at zero with the program.
#[derive(Debug, Default)]
pub(super) struct Counted {
    zre: Option<zre::Counters>,
    repeater: Option<repeater::Statistics>,
}

impl Counted {
    /// Asks the roles. Those that have ended have nothing to say.
    pub(super) async fn of(roles: &Roles) -> Self {
        let mut counted = Self::default();
        if let Some((node, _)) = &roles.zre {
            counted.zre = node.counters().await.ok();
        }
        if let Some((repeater, _)) = &roles.repeater {
            counted.repeater = Some(repeater.statistics().await);
        }
        counted
    }

    /// Prints it, one event a role.
    pub(super) fn tell(&self, output: &Output) -> io::Result<()> {
        self.zre.iter().try_for_each(|counters| output.event(counters))?;
        self.repeater.iter().try_for_each(|statistics| output.event(statistics))
    }
}

/// Says when counters are to be told, again and again.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    net: &'a OsNet,
    alarm: <OsNet as Net>::Alarm,
    every: Option<Duration>,
}

impl<'a> Meter<'a> {
    /// Without a time they are never told.
    pub(super) fn new(net: &'a OsNet, every: Option<Duration>) -> Self {
        let mut meter = Self { net, alarm: net.alarm(), every };
        meter.wind();
        meter
    }

    fn wind(&mut self) {
        self.alarm.set(self.every.map(|every| self.net.now().after(every)));
    }

    /// Waits for the next time. Cancel safe.
    pub(super) async fn due(&mut self) {
        self.alarm.ring().await;
        self.wind();
    }
}
