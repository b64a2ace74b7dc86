//! Links in scenario files: delays, chances, and the two directions.
//!
//! A link starts from another one (perfect for a segment, the segment's for an interface), and what its table says
//! replaces parts of it: first the keys for both directions, then those in `up` and `down`.

use std::time::Duration;

use hailer::daemon::reader::{Given, Refused, Table, Value, duration, quantity, written};

use super::{Chance, Delay, Direction, Link};

/// What a table says about a direction.
struct Change {
    delay: Option<Delay>,
    loss: Option<Chance>,
    duplicate: Option<Chance>,
    reorder: Option<Chance>,
    reorder_by: Option<Duration>,
}

/// A link that is `base` where the table says nothing.
pub(super) fn link(base: &Link) -> impl FnOnce(Value<'_>) -> Result<Link, Refused> {
    move |value| {
        value.table(|table| {
            let both = change(table);
            let up = table.optional("up", |value| value.table(change));
            let down = table.optional("down", |value| value.table(change));
            let (both, up, down) = (both?, up?, down?);
            let both = Some(Given { value: both, span: table.span() });
            let link = Link { up: base.up.with(&both).with(&up), down: base.down.with(&both).with(&down) };
            for (key, own, direction) in [("up", up, &link.up), ("down", down, &link.down)] {
                if direction.reorder > Chance::default() && direction.reorder_by.is_zero() {
                    let is_own = own.is_some_and(|own| own.value.reorder.is_some());
                    let path = [key, "reorder"];
                    let span = table.span_of(if is_own { &path } else { &path[1..] });
                    let help = "add how long such a packet is held back, for example `reorder_by = \"5 ms\"`";
                    return Err(table.refuse(span, "`reorder` needs `reorder_by`", help));
                }
            }
            Ok(link)
        })
    }
}

impl Direction {
    /// This direction with a change made to it.
    fn with(&self, change: &Option<Given<Change>>) -> Self {
        let Some(Given { value: change, .. }) = change else { return self.clone() };
        Self {
            delay: change.delay.clone().unwrap_or_else(|| self.delay.clone()),
            loss: change.loss.unwrap_or(self.loss),
            duplicate: change.duplicate.unwrap_or(self.duplicate),
            reorder: change.reorder.unwrap_or(self.reorder),
            reorder_by: change.reorder_by.unwrap_or(self.reorder_by),
        }
    }
}

fn change(table: &mut Table<'_>) -> Result<Change, Refused> {
    let delay = table.optional("delay", delay);
    let loss = table.optional("loss", chance);
    let duplicate = table.optional("duplicate", chance);
    let reorder = table.optional("reorder", chance);
    let reorder_by = table.optional("reorder_by", duration);
    Ok(Change {
        delay: delay?.map(|given| given.value),
        loss: loss?.map(|given| given.value),
        duplicate: duplicate?.map(|given| given.value),
        reorder: reorder?.map(|given| given.value),
        reorder_by: reorder_by?.map(|given| given.value),
    })
}

/// `"2 ms"`, `"1 ms..3 ms"`, `{ mean, deviation }` or `{ quantiles }`.
fn delay(value: Value<'_>) -> Result<Delay, Refused> {
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

/// A percentage: `"10 %"`.
fn chance(value: Value<'_>) -> Result<Chance, Refused> {
    const WHAT: &str = "a percentage";
    let help = "write a number and a percent sign in quotes, for example \"10 %\"";
    let text = value.as_str().ok_or_else(|| value.refuse_kind(WHAT, help))?;
    let (number, decimals, unit) = quantity(text).ok_or_else(|| value.refuse_kind(WHAT, help))?;
    if unit != "%" {
        return Err(value.refuse_kind(WHAT, help));
    }
    let (parts, scale) = (u128::from(number) * 10_000, 10_u128.pow(decimals));
    if parts > 1_000_000 * scale {
        let message = format!("`{}` is more than always", text.escape_debug());
        return Err(value.refuse(message, "a chance is from \"0 %\" to \"100 %\""));
    }
    if parts % scale != 0 {
        let message = format!("`{}` is finer than a millionth", text.escape_debug());
        return Err(value.refuse(message, "a percentage has four decimals at most"));
    }
    Ok(Chance { ppm: (parts / scale) as u32 })
}
