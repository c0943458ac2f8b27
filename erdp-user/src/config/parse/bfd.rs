//! The table `bfd` of a peering or of a customer's router.
//!
//! `bfd = {}` is what the MSEEs use: 300 ms x 3 (requirement B5).

use toml::Spanned;

use super::super::Bfd;
use super::super::cross::Ledger;
use super::super::error::Fault;
use super::super::raw::RawBfd;
use super::super::values::Why;
use super::optional;
use crate::bfd::record::MULTIPLIER_MIN;

/// Requirement B5.
const DEFAULT_INTERVAL_US: u32 = 300_000;
const DEFAULT_MULTIPLIER: u8 = 3;
/// As long as routes are kept for a peer that restarts (RFC 4724).
const DEFAULT_ABSENCE_S: u32 = 120;

pub(super) fn bfd(
    raw: Option<&Spanned<RawBfd>>,
    key: &dyn Fn(&str) -> String,
    ledger: &mut Ledger,
) -> Result<Option<Bfd>, Fault> {
    let Some(raw) = raw else { return Ok(None) };
    let (at, raw) = (raw.span(), raw.get_ref());
    let key = |name: &str| key(&format!("bfd.{name}"));
    let interval_us = optional(raw.interval.as_ref(), &key("interval"), |text| interval(text))?;
    let multiplier = optional(raw.multiplier.as_ref(), &key("multiplier"), |number| multiplier(*number))?;
    let absence_s = optional(raw.absence.as_ref(), &key("absence"), |text| absence(text))?;
    let bfd = Bfd {
        interval_us: interval_us.unwrap_or(DEFAULT_INTERVAL_US),
        multiplier: multiplier.unwrap_or(DEFAULT_MULTIPLIER),
        strict: raw.strict,
        absence_s: absence_s.unwrap_or(DEFAULT_ABSENCE_S),
    };
    if bfd.multiplier < MULTIPLIER_MIN && bfd.absence_s > 0 {
        let reason = format!(
            "with multiplier {} the packet path cannot answer for an absent controller",
            bfd.multiplier
        );
        ledger.warn(at, key("multiplier"), reason, "use 3 or more, or write absence = \"0s\"");
    }
    Ok(Some(bfd))
}

/// Microseconds of `300ms` or `1s`.
fn time_us(text: &str) -> Result<u64, Why> {
    let refused = || {
        (format!("`{text}` is not a time"), "write a whole number and ms or s, such as \"300ms\"".to_owned())
    };
    let (number, scale) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1_000),
        (None, Some(number)) => (number, 1_000_000),
        (None, None) => return Err(refused()),
    };
    let number: u64 = number.trim().parse().map_err(|_| refused())?;
    number.checked_mul(scale).ok_or_else(refused)
}

fn interval(text: &str) -> Result<u32, Why> {
    let us = time_us(text)?;
    u32::try_from(us).ok().filter(|us| (10_000..=10_000_000).contains(us)).ok_or_else(|| {
        let reason = if us < 10_000 {
            format!("an interval of {text} is below 10 ms, where a scheduler's delay already looks like a dead link")
        } else {
            format!("an interval of {text} is above 10 s: BGP's hold time would notice as soon")
        };
        (reason, "use \"300ms\" (what MSEEs use), or down to \"50ms\" where both ends are yours".to_owned())
    })
}

fn multiplier(number: i64) -> Result<u8, Why> {
    u8::try_from(number).ok().filter(|number| *number != 0).ok_or_else(|| {
        (format!("{number} is not between 1 and 255 (RFC 5880 section 4.1)"), "use 3, the default".to_owned())
    })
}

fn absence(text: &str) -> Result<u32, Why> {
    let us = time_us(text)?;
    u32::try_from(us / 1_000_000).ok().filter(|seconds| *seconds <= 3_600).ok_or_else(|| {
        let reason = format!("for {text} a peer would believe in a router that nobody controls");
        (reason, "use at most \"3600s\"; \"120s\" is the default, \"0s\" switches it off".to_owned())
    })
}
