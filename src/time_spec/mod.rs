//! Parses and formats durations and points in time.

mod moment;

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pmon_analysis::WallClock;
use pmon_core::MonoNs;

pub(crate) use moment::{Extent, Moment, resolve};

use crate::terminal::push_number;

/// Parses a duration such as `500ms`, `10s`, `1.5h` or `1h30m`, and returns it in ns.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{text}` is no duration; expected a number and a unit (us, ms, s, m, h, d), for example `10s`"
        )
    };
    let too_long = || format!("`{text}` is too long");
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit_ns: u64 = match unit {
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || !(1..=9).contains(&fraction.len()) || fraction.contains('.') {
            return Err(wrong());
        }
        let ns = times(whole, fraction, unit_ns).ok_or_else(too_long)?;
        total = total.checked_add(ns).ok_or_else(too_long)?;
        rest = tail;
    }
    match text {
        "" => Err("expected a number and a unit (us, ms, s, m, h, d), for example `10s`".into()),
        _ => Ok(total),
    }
}

/// Returns `whole.fraction` times `unit_ns`; `None` on overflow. Both parts are digits, at most
/// nine in `fraction`.
fn times(whole: &str, fraction: &str, unit_ns: u64) -> Option<u64> {
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit_ns)?;
    let part =
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_ns) / 10u128.pow(fraction.len() as u32);
    whole.checked_add(u64::try_from(part).ok()?)
}

/// Formats a duration with three digits or so: `850us`, `12.3ms`, `4.25s`, `5m 03s`, `2h 05m`.
pub(crate) fn brief(ns: u64) -> String {
    let mut text = String::new();
    push_brief(&mut text, ns);
    text
}

/// Appends the text that [`brief`] returns.
pub(crate) fn push_brief(out: &mut String, ns: u64) {
    let (us, ms, s) = (ns / 1_000, ns / 1_000_000, ns / 1_000_000_000);
    let _ = match s {
        // Most processes are that short. These two cases avoid the cost of the formatting macros.
        0 if us < 1_000 => {
            push_number(out, us);
            out.write_str("us")
        }
        0 => {
            push_number(out, ms);
            out.push('.');
            push_number(out, us / 100 % 10);
            out.write_str("ms")
        }
        1..60 => write!(out, "{s}.{:02}s", ms / 10 % 100),
        60..3600 => write!(out, "{}m {:02}s", s / 60, s % 60),
        _ => write!(out, "{}h {:02}m", s / 3600, s / 60 % 60),
    };
}

/// Parses a duration that must not be zero.
pub(crate) fn parse_std_duration(text: &str) -> Result<std::time::Duration, String> {
    let ns = parse_duration(text)?;
    if ns == 0 { Err("must be longer than 0".into()) } else { Ok(std::time::Duration::from_nanos(ns)) }
}

/// Formats the time of an event in the local time zone, or as monotonic time if the wall-clock time
/// is unknown.
pub(crate) fn moment(wall: &WallClock, time: MonoNs) -> String {
    let mono =
        || format!("{}.{:09} s of the monotonic clock", time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    wall.at(time).map_or_else(mono, local_time)
}

/// Formats a wall-clock time in UTC, for programs.
pub(crate) fn rfc3339(real_ns: i64) -> Option<String> {
    Timestamp::from_nanosecond(real_ns.into()).ok().map(|at| format!("{at:.9}"))
}

/// Formats a wall-clock time in the local time zone, to the second; `?` if it is out of range.
pub(crate) fn local_time(real_ns: i64) -> String {
    let Ok(at) = Timestamp::from_nanosecond(real_ns.into()) else { return "?".into() };
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        assert_eq!(parse_duration("500ms"), Ok(500_000_000));
        assert_eq!(parse_duration("10s"), Ok(10_000_000_000));
        assert_eq!(parse_duration("1.5m"), Ok(90_000_000_000));
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000_000_000));
        let error = |text| parse_duration(text).expect_err(text);
        assert!(error("").starts_with("expected a number and a unit"));
        for wrong in ["5", "s", ".5s", "1x", "1.s", "1..5s", "1.5.5s", "1.0000000001s", "-1s", "1 s"] {
            assert!(error(wrong).contains("is no duration"), "{wrong}");
        }
        for long in ["300000d", "99999999999999999999s", "213503d24h"] {
            assert!(error(long).contains("is too long"), "{long}");
        }
    }

    #[test]
    fn durations_are_formatted_briefly() {
        assert_eq!(brief(850_999), "850us");
        assert_eq!(brief(12_345_678), "12.3ms");
        assert_eq!(brief(4_256_000_000), "4.25s");
        assert_eq!(brief(303_000_000_000), "5m 03s");
        assert_eq!(brief(7_500_000_000_000), "2h 05m");
    }
}
