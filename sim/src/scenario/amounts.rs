//! Amounts in scenario files that are not durations: percentages, bandwidths, sizes.

use hailer::daemon::reader::{Refused, Value, quantity};

use super::Chance;

/// Units of bandwidth, in bits per second. They are decimal, as everywhere.
const BANDWIDTHS: [(&str, u64); 4] =
    [("bit/s", 1), ("kbit/s", 1_000), ("Mbit/s", 1_000_000), ("Gbit/s", 1_000_000_000)];
/// Slower than any modem; a smaller number is a mistyped unit.
const BANDWIDTH_MIN: u64 = 100;
/// Faster than any card; a packet of twenty bytes still takes a nanosecond.
const BANDWIDTH_MAX: u64 = 100_000_000_000;

/// Units of size, in bytes.
const SIZES: [(&str, u64); 5] =
    [("B", 1), ("kB", 1_000), ("KiB", 1 << 10), ("MB", 1_000_000), ("MiB", 1 << 20)];
/// Far more than any device has for one queue.
const SIZE_MAX: u64 = 256 << 20;

/// A percentage: `"10 %"`.
pub(super) fn chance(value: Value<'_>) -> Result<Chance, Refused> {
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

/// A bandwidth in bits per second: `"20 Mbit/s"`.
pub(super) fn bandwidth(value: Value<'_>) -> Result<u64, Refused> {
    let bits = amount(&value, "a bandwidth", &BANDWIDTHS, "\"20 Mbit/s\"")?;
    if !(BANDWIDTH_MIN..=BANDWIDTH_MAX).contains(&bits) {
        let message = format!("{} can't be {bits} bit/s", value.name());
        return Err(value.refuse(message, "write one from \"100 bit/s\" to \"100 Gbit/s\""));
    }
    Ok(bits)
}

/// A size in bytes: `"64 KiB"`.
pub(super) fn size(value: Value<'_>) -> Result<u64, Refused> {
    let bytes = amount(&value, "a size", &SIZES, "\"64 KiB\"")?;
    if bytes > SIZE_MAX {
        let message = format!("{} can't be {bytes} bytes", value.name());
        return Err(value.refuse(message, "write \"256 MiB\" at most"));
    }
    Ok(bytes)
}

/// A number and one of these units, in whole ones of the smallest.
fn amount(value: &Value<'_>, what: &str, units: &[(&str, u64)], example: &str) -> Result<u64, Refused> {
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
