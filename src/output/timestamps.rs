//! Formats wall-clock times. The text of the last second is reused, because many events share it.

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// Formats times in one time zone.
pub(super) struct TimestampWriter {
    zone: TimeZone,
    format: &'static str,
    second: Option<i64>,
    text: String,
    /// The offset from UTC, in an hour that occurs twice because clocks are set back; otherwise
    /// empty.
    offset: String,
}

impl TimestampWriter {
    /// Creates a writer with a `strftime` format down to the second.
    pub(super) fn new(zone: TimeZone, format: &'static str) -> Self {
        Self { zone, format, second: None, text: String::new(), offset: String::new() }
    }

    /// Creates a writer of RFC 3339 in UTC, without the `Z` at the end.
    pub(super) fn utc() -> Self {
        Self::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S")
    }

    /// Appends a time with `digits` decimals of the second (at most 9).
    pub(super) fn push(&mut self, out: &mut Vec<u8>, real_ns: i64, digits: usize) {
        let second = real_ns.div_euclid(1_000_000_000);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            self.offset.clear();
            // A timestamp can represent every i64 of nanoseconds.
            if let Ok(at) = Timestamp::from_second(second) {
                let local = at.to_zoned(self.zone.clone());
                self.text = local.strftime(self.format).to_string();
                if let AmbiguousOffset::Fold { .. } =
                    self.zone.to_ambiguous_timestamp(local.datetime()).offset()
                {
                    self.offset = local.strftime(" %:z").to_string();
                }
            }
        }
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'.');
        push_fraction(out, real_ns.rem_euclid(1_000_000_000) as u32, digits);
        out.extend_from_slice(self.offset.as_bytes());
    }
}

/// Appends the first `digits` of the nine digits of `ns`.
pub(super) fn push_fraction(out: &mut Vec<u8>, ns: u32, digits: usize) {
    let mut text = [b'0'; 9];
    let mut rest = ns;
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text[..digits]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_are_formatted() {
        let mut timestamps = TimestampWriter::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S");
        let mut text = |ns, digits| {
            let mut out = Vec::new();
            timestamps.push(&mut out, ns, digits);
            String::from_utf8(out).unwrap_or_default()
        };
        assert_eq!(text(1_767_323_045_678_901_234, 9), "2026-01-02T03:04:05.678901234");
        assert_eq!(text(1_767_323_045_000_000_001, 6), "2026-01-02T03:04:05.000000");
        assert_eq!(text(-1, 9), "1969-12-31T23:59:59.999999999");
        assert!(text(i64::MIN, 0).starts_with("1677-"));
    }

    #[test]
    fn the_offset_is_shown_in_the_hour_that_occurs_twice() {
        let zone = TimeZone::get("Europe/Berlin").expect("the zone is known");
        let mut timestamps = TimestampWriter::new(zone, "%H:%M:%S");
        // 2026-10-25, when 03:00 +02:00 is followed by 02:00 +01:00, at 01:00 UTC.
        let hour = 3_600_000_000_000;
        let change = 1_792_890_000_000_000_000;
        let mut text = |real_ns| {
            let mut out = Vec::new();
            timestamps.push(&mut out, real_ns, 1);
            String::from_utf8(out).unwrap_or_default()
        };
        assert_eq!(text(change - hour - 1_000_000_000), "01:59:59.0");
        assert_eq!(text(change - hour), "02:00:00.0 +02:00");
        assert_eq!(text(change - 1), "02:59:59.9 +02:00");
        assert_eq!(text(change), "02:00:00.0 +01:00");
        assert_eq!(text(change + hour), "03:00:00.0");
    }
}
