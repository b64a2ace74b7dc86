//! Amounts in scenario files that configuration files do not have: percentages, sizes.

use hailer::daemon::reader::{Refused, Value, amount, quantity};

use super::Chance;

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

/// A size in bytes: `"64 KiB"`.
pub(super) fn size(value: Value<'_>) -> Result<u64, Refused> {
    let bytes = amount(&value, "a size", &SIZES, "\"64 KiB\"")?;
    if bytes > SIZE_MAX {
        let message = format!("{} can't be {bytes} bytes", value.name());
        return Err(value.refuse(message, "write \"256 MiB\" at most"));
    }
    Ok(bytes)
}
