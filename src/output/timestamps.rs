//! Formats wall-clock times. The text of the last second is reused, because many events share it.

use super::number::nine_digits;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// Formats times in one time zone.
pub(crate) struct TimestampWriter {
    zone: TimeZone,
    format: &'static str,
    second: Option<i64>,
    /// The date that [`TimestampWriter::new_date`] returned last.
    date: Option<Date>,
    text: String,
    /// The offset from UTC, in an hour that occurs twice because clocks are set back; otherwise
    /// empty.
    offset: String,
}

impl TimestampWriter {
    /// Creates a writer with a `strftime` format down to the second.
    pub(super) fn new(zone: TimeZone, format: &'static str) -> Self {
        Self { zone, format, second: None, date: None, text: String::new(), offset: String::new() }
    }

    /// Creates a writer of RFC 3339 in UTC, without the `Z` at the end.
    pub(crate) fn utc() -> Self {
        Self::new(TimeZone::UTC, "%Y-%m-%dT%H:%M:%S")
    }

    /// Returns the date of a time, and the time zone, if the date differs from that of the time
    /// before.
    pub(super) fn new_date(&mut self, real_ns: i64) -> Option<String> {
        let second = real_ns.div_euclid(1_000_000_000);
        if self.second == Some(second) {
            return None;
        }
        let local = Timestamp::from_second(second).ok()?.to_zoned(self.zone.clone());
        let date = Some(local.date());
        if self.date == date {
            return None;
        }
        self.date = date;
        Some(local.strftime("%A %Y-%m-%d, UTC%:z").to_string())
    }

    /// Appends a time with `digits` decimals of the second (at most 9).
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, real_ns: i64, digits: usize) {
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
    let text = nine_digits(ns);
    match digits {
        // These copies have a known length.
        9 => out.extend_from_slice(&text),
        6 => out.extend_from_slice(&text[..6]),
        _ => out.extend_from_slice(&text[..digits]),
    }
}

#[cfg(test)]
mod tests;
