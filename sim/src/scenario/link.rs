//! Links in scenario files: delays, chances, and the two directions.
//!
//! A link starts from another one (a profile, or else perfect for a segment and the segment's for an interface), and what
//! its table says replaces parts of it: first the keys for both directions, then those in `up` and `down`.

use std::time::Duration;

use hailer::daemon::reader::{
    Given, Refused, Table, Value, bandwidth, duration, integer, suggestion, written,
};

use super::amounts::{chance, size};
use super::profiles::{PROFILES, Profile};
use super::{Burst, Chance, Delay, Direction, Link, MTU_MIN, Replan};

/// The longest packet that Ethernet with jumbo frames takes.
const MTU_MAX: u64 = 9216;
/// The shortest mean of good and bad times, and the shortest plan: what is shorter is jitter, and would cost a step each.
const TIMES_MIN: Duration = Duration::from_millis(1);

/// What a table says about a direction.
#[derive(Default)]
struct Change {
    delay: Option<Delay>,
    replan: Option<Replan>,
    loss: Option<Chance>,
    burst: Option<Burst>,
    corruption: Option<Chance>,
    duplicate: Option<Chance>,
    reorder: Option<Chance>,
    reorder_by: Option<Duration>,
    bandwidth: Option<u64>,
    queue: Option<u64>,
}

/// A link that is `base` where the value says nothing: the name of a profile, or a table.
pub(super) fn link(base: &Link) -> impl FnOnce(Value<'_>) -> Result<Link, Refused> {
    move |value| link_beside(value, base, |_| Ok(None::<()>)).map(|(link, _)| link)
}

/// As [`link`], for a table that may have another key, which `other` reads.
pub(super) fn link_beside<T>(
    value: Value<'_>,
    base: &Link,
    other: impl FnOnce(&mut Table<'_>) -> Result<Option<T>, Refused>,
) -> Result<(Link, Option<T>), Refused> {
    if value.as_str().is_some() {
        return Ok((profile(value)?.link(), None));
    }
    if !value.is_table() && !value.is_list() {
        let help = "write for example \"lte\", or { delay = \"2 ms\" }";
        return Err(value.refuse_kind("the name of a profile, or a table", help));
    }
    value.table(|table| {
        let other = other(table);
        Ok((link_table(table, base)?, other?))
    })
}

fn profile(value: Value<'_>) -> Result<&'static Profile, Refused> {
    let names = PROFILES.iter().map(|profile| profile.name);
    let name = value.text()?;
    PROFILES.iter().find(|profile| profile.name == name).ok_or_else(|| {
        let message = format!("there is no profile `{}`", name.escape_debug());
        value.refuse(message, suggestion(name, "the profiles are", names))
    })
}

fn link_table(table: &mut Table<'_>, base: &Link) -> Result<Link, Refused> {
    let profile = table.optional("profile", profile);
    let mtu = table.optional("mtu", integer(u64::from(MTU_MIN)..=MTU_MAX, 1400));
    let both = change(table);
    let up = table.optional("up", |value| value.table(change));
    let down = table.optional("down", |value| value.table(change));
    let (profile, mtu, both, up, down) = (profile?, mtu?, both?, up?, down?);
    let base = profile.map_or_else(|| base.clone(), |profile| profile.value.link());
    let own = |change: Option<Given<Change>>| change.map(|given| given.value).unwrap_or_default();
    let (up, down) = (own(up), own(down));
    let link = Link {
        up: base.up.with(&both).with(&up),
        down: base.down.with(&both).with(&down),
        mtu: mtu.map_or(base.mtu, |mtu| mtu.value as u16),
    };
    for (way, own, direction) in [("up", up, &link.up), ("down", down, &link.down)] {
        let place = |key, is_own| if is_own { table.span_of(&[way, key]) } else { table.span_of(&[key]) };
        if direction.reorder > Chance::default() && direction.reorder_by.is_zero() {
            let help = "add how long such a packet is held back, for example `reorder_by = \"5 ms\"`";
            let span = place("reorder", own.reorder.is_some());
            return Err(table.refuse(span, "`reorder` needs `reorder_by`", help));
        }
        let Some(queue) = direction.queue else { continue };
        if direction.bandwidth.is_none() {
            let help =
                "nothing waits on a link without a limit; add one, for example `bandwidth = \"20 Mbit/s\"`";
            let span = place("queue", own.queue.is_some());
            return Err(table.refuse(span, "`queue` needs `bandwidth`", help));
        }
        if queue < u64::from(link.mtu) {
            let message = format!("a queue of {queue} bytes has no room for a packet of {}", link.mtu);
            let span = place("queue", own.queue.is_some());
            return Err(table.refuse(span, message, "write some packets' worth, for example \"64 KiB\""));
        }
    }
    Ok(link)
}

impl Direction {
    /// This direction with a change made to it.
    fn with(&self, change: &Change) -> Self {
        Self {
            delay: change.delay.clone().unwrap_or_else(|| self.delay.clone()),
            replan: change.replan.or(self.replan),
            loss: change.loss.unwrap_or(self.loss),
            burst: change.burst.or(self.burst),
            corruption: change.corruption.unwrap_or(self.corruption),
            duplicate: change.duplicate.unwrap_or(self.duplicate),
            reorder: change.reorder.unwrap_or(self.reorder),
            reorder_by: change.reorder_by.unwrap_or(self.reorder_by),
            bandwidth: change.bandwidth.or(self.bandwidth),
            queue: change.queue.or(self.queue),
        }
    }
}

fn change(table: &mut Table<'_>) -> Result<Change, Refused> {
    let delay = table.optional("delay", delay);
    let replan = table.optional("replan", |value| value.table(replan));
    let loss = table.optional("loss", chance);
    let burst = table.optional("burst", |value| value.table(burst));
    let corruption = table.optional("corruption", chance);
    let duplicate = table.optional("duplicate", chance);
    let reorder = table.optional("reorder", chance);
    let reorder_by = table.optional("reorder_by", duration);
    let bandwidth = table.optional("bandwidth", bandwidth);
    let queue = table.optional("queue", size);
    Ok(Change {
        delay: delay?.map(|given| given.value),
        replan: replan?.map(|given| given.value),
        loss: loss?.map(|given| given.value),
        burst: burst?.map(|given| given.value),
        corruption: corruption?.map(|given| given.value),
        duplicate: duplicate?.map(|given| given.value),
        reorder: reorder?.map(|given| given.value),
        reorder_by: reorder_by?.map(|given| given.value),
        bandwidth: bandwidth?.map(|given| given.value),
        queue: queue?.map(|given| given.value),
    })
}

/// `{ loss, good, bad }`.
fn burst(table: &mut Table<'_>) -> Result<Burst, Refused> {
    let loss = table.required("loss", "loss = \"100 %\"", chance);
    let good = table.required("good", "good = \"9 s\"", stretch);
    let bad = table.required("bad", "bad = \"200 ms\"", stretch);
    Ok(Burst { loss: loss?.value, good: good?.value, bad: bad?.value })
}

/// `{ every, spread }`.
fn replan(table: &mut Table<'_>) -> Result<Replan, Refused> {
    let every = table.required("every", "every = \"15 s\"", stretch);
    let spread = table.required("spread", "spread = \"9 ms\"", duration);
    Ok(Replan { every: every?.value, spread: spread?.value })
}

/// A duration that is not too short to be a time of its own.
fn stretch(value: Value<'_>) -> Result<Duration, Refused> {
    let given = duration(value.clone())?;
    if given < TIMES_MIN {
        let message = format!("{} can't be {}", value.name(), written(given));
        return Err(value.refuse(message, format!("write \"{}\" or more", written(TIMES_MIN))));
    }
    Ok(given)
}

/// `"2 ms"`, `"1 ms..3 ms"`, `{ mean, deviation }` or `{ quantiles }`.
pub(super) fn delay(value: Value<'_>) -> Result<Delay, Refused> {
    if value.is_table() {
        return value.table(delay_table);
    }
    let (from, to) = moments(value)?;
    Ok(if from == to { Delay::Fixed(from) } else { Delay::Uniform(from, to) })
}

fn delay_table(table: &mut Table<'_>) -> Result<Delay, Refused> {
    let present = table.present(&["mean", "deviation", "quantiles"]);
    let is_measured = present.iter().any(|key| key.value == "quantiles");
    if let (true, Some(other)) = (is_measured, present.iter().find(|key| key.value != "quantiles")) {
        let message = format!("`{}` and `quantiles` do not go together", other.value);
        return Err(table.refuse(other.span.clone(), message, "keep `mean` and `deviation`, or `quantiles`"));
    }
    if !is_measured {
        let mean = table.required("mean", "mean = \"2 ms\"", duration);
        let deviation = table.required("deviation", "deviation = \"500 us\"", duration);
        return Ok(Delay::Normal { mean: mean?.value, deviation: deviation?.value });
    }
    let quantiles = table.required("quantiles", "quantiles = [\"1 ms\", \"2 ms\", \"9 ms\"]", |value| {
        value.list("a list of durations", "[\"1 ms\", \"2 ms\", \"9 ms\"]", duration)
    })?;
    if quantiles.value.len() < 2 {
        let help = "write at least the minimum and the maximum";
        return Err(table.refuse(quantiles.span, "`quantiles` needs two values or more", help));
    }
    for pair in quantiles.value.windows(2) {
        if let [before, after] = pair
            && after.value < before.value
        {
            let message = format!("the quantile {} is below the one before it", written(after.value));
            return Err(table.refuse(
                after.span.clone(),
                message,
                "write them from the minimum to the maximum",
            ));
        }
    }
    Ok(Delay::Empirical(quantiles.value.into_iter().map(|quantile| quantile.value).collect()))
}

/// One moment, or a range `"1 s..3 s"`; one moment is a range of no length.
pub(super) fn moments(value: Value<'_>) -> Result<(Duration, Duration), Refused> {
    let Some((from, to)) = value.as_str().and_then(|text| text.split_once("..")) else {
        let moment = duration(value)?;
        return Ok((moment, moment));
    };
    let (from, to) = (value.duration_in(from), value.duration_in(to));
    let (from, to) = (from?, to?);
    if to < from {
        let (from, to) = (written(from), written(to));
        let message = format!("{} ends before it starts", value.name());
        return Err(value.refuse(message, format!("write \"{to}..{from}\"")));
    }
    Ok((from, to))
}
