//! What values can be: text, durations, numbers, words. And how messages say what would be right.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::{Refused, Value};

/// The longest duration that can be written. A year is longer than anything that is meant.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Units of time and their nanoseconds, from the longest.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// Units of bandwidth, in bits per second. They are decimal, as everywhere.
const BANDWIDTHS: [(&str, u64); 4] =
    [("bit/s", 1), ("kbit/s", 1_000), ("Mbit/s", 1_000_000), ("Gbit/s", 1_000_000_000)];
/// Slower than any modem; a smaller number is a mistyped unit.
const BANDWIDTH_MIN: u64 = 100;
/// Faster than any card; a packet of twenty bytes still takes a nanosecond.
const BANDWIDTH_MAX: u64 = 100_000_000_000;

/// Text.
///
/// # Errors
/// When it is something else.
pub fn text(value: Value<'_>) -> Result<String, Refused> {
    value.text().map(str::to_owned)
}

/// Text of 1 to `bytes_max` bytes.
pub fn text_up_to(bytes_max: usize) -> impl Fn(Value<'_>) -> Result<String, Refused> {
    move |value| {
        let length = value.as_str().map_or(1, str::len);
        if length == 0 {
            return Err(
                value.refuse(format!("{} is empty", value.name()), "write something, or leave it out")
            );
        }
        if length > bytes_max {
            let message = format!("{} is {length} bytes long", value.name());
            return Err(value.refuse(message, format!("write {bytes_max} bytes at most")));
        }
        text(value)
    }
}

/// A duration: a number and a unit, in quotes.
///
/// # Errors
/// When it is something else.
pub fn duration(value: Value<'_>) -> Result<Duration, Refused> {
    match value.inner {
        DeValue::String(text) => value.duration_in(text),
        DeValue::Integer(number) => Err(value.refuse_kind("a duration", unit_help(number))),
        DeValue::Float(number) => Err(value.refuse_kind("a duration", unit_help(number))),
        _ => Err(value.refuse_kind("a duration", "write a number and a unit in quotes, for example \"5 s\"")),
    }
}

impl Value<'_> {
    /// The duration that `text`, all or a part of this value, says.
    ///
    /// # Errors
    /// When it does not say one.
    pub fn duration_in(&self, text: &str) -> Result<Duration, Refused> {
        parse_duration(text).map_err(|NotADuration { message, help }| self.refuse(message, help))
    }
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {help}")]
pub struct NotADuration {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// Reads a number and a unit, as files and command lines write durations: `250 ms`, `1.5s`.
///
/// # Errors
/// When it is something else, or longer than a year.
pub fn parse_duration(text: &str) -> Result<Duration, NotADuration> {
    let refuse = |message: String, help: &str| Err(NotADuration { message, help: help.to_owned() });
    let written = text.trim().escape_debug();
    let Some((number, decimals, unit)) = quantity(text) else {
        let help = "write a number and a unit, for example \"250 ms\" or \"1.5 s\"";
        return refuse(format!("`{written}` is not a duration"), help);
    };
    if unit.is_empty() {
        return refuse(format!("the duration `{written}` has no unit"), &unit_help(&written));
    }
    let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let message = format!("`{}` is not a unit of time", unit.escape_debug());
        return refuse(message, "the units are ns, us, ms, s, min, h");
    };
    let scale = 10_u128.pow(decimals);
    let nanos = u128::from(number) * u128::from(*nanos);
    if nanos % scale != 0 {
        return refuse(format!("`{written}` is finer than a nanosecond"), "leave digits out");
    }
    let nanos = u64::try_from(nanos / scale).map(Duration::from_nanos).ok();
    match nanos.filter(|span| *span <= DURATION_MAX) {
        Some(span) => Ok(span),
        None => refuse(format!("`{written}` is longer than a year"), "write a shorter duration"),
    }
}

fn unit_help(number: &impl fmt::Display) -> String {
    format!("write a unit, for example \"{number} s\"")
}

/// A whole number in the given range; `example` is one of them that makes sense.
pub fn integer(range: RangeInclusive<u64>, example: u64) -> impl Fn(Value<'_>) -> Result<u64, Refused> {
    move |value| {
        let number = match value.inner {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let what = format!("a whole number from {} to {}", range.start(), range.end());
            value.refuse_kind(&what, format!("write it without quotes, for example {example}"))
        })
    }
}

/// One of a few words; each stands for something.
pub fn one_of<T: Clone>(words: &[(&str, T)]) -> impl Fn(Value<'_>) -> Result<T, Refused> {
    move |value| {
        let names = words.iter().map(|(name, _)| *name);
        let Some(text) = value.as_str() else {
            let names = listed(names.map(|name| format!("\"{name}\"")));
            return Err(value.refuse_kind("a word in quotes", format!("write one of {names}")));
        };
        let found = words.iter().find(|(name, _)| *name == text).map(|(_, meaning)| meaning.clone());
        found.ok_or_else(|| {
            let message = format!("{} can't be `{}`", value.name(), text.escape_debug());
            value.refuse(message, suggestion(text, "it is one of", names))
        })
    }
}

/// Splits "1.5 s" into 15, 1 decimal, and "s". `None` when it does not start with a number of 18 digits at most.
pub fn quantity(text: &str) -> Option<(u64, u32, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{decimals}");
    if whole.is_empty() || number.ends_with('.') || decimals.contains('.') || digits.len() > 18 {
        return None;
    }
    Some((digits.parse().ok()?, decimals.len() as u32, unit.trim_start()))
}

/// A number and one of these units, in whole ones of the smallest. `what` and `example` are for messages.
///
/// # Errors
/// When it is something else, or no whole number of the smallest unit.
pub fn amount(value: &Value<'_>, what: &str, units: &[(&str, u64)], example: &str) -> Result<u64, Refused> {
    let names = units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let help = format!("write a number and a unit in quotes, for example {example}; the units are {names}");
    let read = value.as_str().and_then(quantity);
    let Some((number, decimals, unit)) = read else { return Err(value.refuse_kind(what, help)) };
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(value.refuse_kind(what, help));
    };
    let (parts, scale) = (u128::from(number) * u128::from(*factor), 10_u128.pow(decimals));
    match u64::try_from(parts / scale) {
        Ok(whole) if parts.is_multiple_of(scale) => Ok(whole),
        Ok(_) => {
            let least = units.first().map_or("", |(name, _)| *name);
            let message = format!("{} is not a whole number of {least}", value.name());
            Err(value.refuse(message, "leave digits out"))
        }
        Err(_) => Err(value.refuse(format!("{} is too large", value.name()), "write a smaller number")),
    }
}

/// A bandwidth in bits per second: `"20 Mbit/s"`.
///
/// # Errors
/// When it is something else, or none that there is.
pub fn bandwidth(value: Value<'_>) -> Result<u64, Refused> {
    let bits = amount(&value, "a bandwidth", &BANDWIDTHS, "\"20 Mbit/s\"")?;
    if !(BANDWIDTH_MIN..=BANDWIDTH_MAX).contains(&bits) {
        let message = format!("{} can't be {bits} bit/s", value.name());
        return Err(value.refuse(message, "write one from \"100 bit/s\" to \"100 Gbit/s\""));
    }
    Ok(bits)
}

/// A duration as files write it, in the longest unit that needs no decimals.
pub fn written(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (name, unit) = match nanos {
        0 => ("s", 1),
        _ => UNITS.into_iter().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit))).unwrap_or(("ns", 1)),
    };
    format!("{} {name}", nanos / u128::from(unit))
}

/// "did you mean `interval`? the keys here are `interval`, `port`"; the question only when a candidate is near.
pub fn suggestion<'n>(name: &str, introduction: &str, candidates: impl Iterator<Item = &'n str>) -> String {
    let candidates: Vec<_> = candidates.collect();
    let nearest = nearest(name, candidates.iter().copied());
    let question = nearest.map(|nearest| format!("did you mean `{nearest}`? ")).unwrap_or_default();
    format!("{question}{introduction} {}", listed(candidates.iter().map(|name| format!("`{name}`"))))
}

/// The candidate that `name` was meant to be, when one is near enough: a third of the letters may be wrong.
pub(super) fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let measured = candidates.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let near = measured.filter(|(distance, _)| *distance <= name.chars().count().max(3) / 3);
    near.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// A list; of a long one the first names, and how many more there are.
fn listed(names: impl Iterator<Item = String>) -> String {
    const SHOWN_MAX: usize = 14;
    let mut names: Vec<_> = names.collect();
    let rest = names.len().saturating_sub(SHOWN_MAX);
    names.truncate(SHOWN_MAX);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::read;
    use super::*;
    use crate::daemon::Diagnostics;

    fn read_duration(text: &str) -> Result<Duration, Diagnostics> {
        let file = format!("d = \"{text}\"");
        read("f", &file, |table| Ok(table.required("d", "", duration)?.value))
    }

    #[test]
    fn durations_are_exact_in_every_unit() {
        for (text, nanos) in [
            ("0 s", 0),
            ("1ns", 1),
            ("0.5 us", 500),
            ("0.5 µs", 500),
            ("0.5 μs", 500),
            ("1.000001 ms", 1_000_001),
            (" 1.5  s ", 1_500_000_000),
            ("0.1 min", 6_000_000_000),
            ("2h", 7_200_000_000_000),
            ("8760 h", DURATION_MAX.as_nanos() as u64),
        ] {
            assert_eq!(read_duration(text).unwrap(), Duration::from_nanos(nanos), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_to_eighteen_digits_and_no_further() {
        assert_eq!(quantity("123456789.012345678 s"), Some((123_456_789_012_345_678, 9, "s")));
        for text in ["1234567890.012345678 s", "", "s", ".5 s", "1. s", "1.2.3 s", "+1 s", "-1 s", "1_000 s"]
        {
            assert_eq!(quantity(text).filter(|(.., unit)| *unit == "s"), None, "{text}");
        }
    }

    #[test]
    fn a_suggestion_is_made_when_a_third_of_the_letters_or_less_is_wrong() {
        let keys = || ["interval", "interface", "port"].into_iter();
        assert_eq!(nearest("intervall", keys()), Some("interval"));
        assert_eq!(nearest("prot", keys()), Some("port"));
        assert_eq!(nearest("part of it", keys()), None);
        let many: Vec<_> = (1..=30).map(|number| format!("n{number:02}")).collect();
        let help = suggestion("robot", "the nodes are", many.iter().map(String::as_str));
        assert!(help.starts_with("the nodes are `n01`, `n02`"), "{help}");
        assert!(help.ends_with("`n14` and 16 more"), "{help}");
    }

    proptest! {
        #[test]
        fn a_duration_that_a_message_writes_is_one_that_a_file_can_have(
            nanos in 0..=DURATION_MAX.as_nanos() as u64, zeros in 0..12_u32,
        ) {
            let scale = 10_u64.pow(zeros);
            let span = Duration::from_nanos(nanos / scale * scale);
            prop_assert_eq!(read_duration(&written(span)).unwrap(), span);
        }
    }
}
