//! Names of segments: `HOST-YYYYMMDDTHHMMSSZ.pmon`, in UTC.

use std::fmt;

use crate::disk::{LOCK_NAME, RECORDER_NAME};
use crate::file::PARTIAL;

/// Suffix of the name of each segment.
const SUFFIX: &str = ".pmon";
/// Suffix of the name of an unfinished segment whose header is not readable. No segment's name has
/// it.
pub(crate) const DAMAGED_SUFFIX: &str = ".damaged.pmon";
/// Suffix of the name of each clip. No segment's name has it.
pub(crate) const CLIP_SUFFIX: &str = ".clip.pmon";
/// Maximum length of the host in a name, in bytes. A file name has at most 255.
const MAX_HOST: usize = 128;
/// Length of `YYYYMMDDTHHMMSSZ`.
const TIME_LEN: usize = 16;
/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// The final name of a segment.
///
/// A segment that is being written has the same name with `.partial` appended. Names sort by time
/// in most cases, but the order of segments comes from their headers: a clock can step backwards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    text: String,
    host_len: usize,
}

impl SegmentName {
    /// Returns the first name that is not taken, for a segment of `host` that starts at `real_ns`
    /// (ns since 1970-01-01T00:00Z).
    ///
    /// If the name with the second of the start is taken, nanoseconds follow it, and these count up
    /// until the name is free.
    pub fn unused(host: &str, real_ns: i64, mut is_taken: impl FnMut(&Self) -> bool) -> Self {
        let name = Self::at_second(host, real_ns);
        if !is_taken(&name) {
            return name;
        }
        let mut real_ns = real_ns;
        loop {
            let name = Self::at_nanosecond(host, real_ns);
            if !is_taken(&name) {
                return name;
            }
            real_ns = real_ns.wrapping_add(1);
        }
    }

    fn at_second(host: &str, real_ns: i64) -> Self {
        let host = restricted(host);
        Self { text: format!("{host}-{}{SUFFIX}", UtcSecond::of(real_ns)), host_len: host.len() }
    }

    fn at_nanosecond(host: &str, real_ns: i64) -> Self {
        let host = restricted(host);
        let nanos = real_ns.rem_euclid(SECOND);
        Self { text: format!("{host}-{}_{nanos:09}{SUFFIX}", UtcSecond::of(real_ns)), host_len: host.len() }
    }

    /// Parses the final name of a segment; `None` if `name` is none.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(SUFFIX)?;
        let (host_and_time, nanos) = if is_time_last(stem) {
            (stem, None)
        } else {
            let (stem, nanos) = stem.rsplit_once('_')?;
            (stem, Some(nanos))
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if nanos.is_some_and(|nanos| nanos.len() != 9 || !is_digits(nanos)) || !is_time_last(host_and_time) {
            return None;
        }
        let host_len = host_and_time.len() - TIME_LEN - 1;
        is_restricted(&host_and_time[..host_len]).then(|| Self { text: name.into(), host_len })
    }

    /// Parses the name of a segment's file; `None` if `file` is none. Returns the final name, and
    /// whether the file has it not yet.
    pub(crate) fn parse_file(file: &str) -> Option<(Self, bool)> {
        let (stem, is_partial) = match file.strip_suffix(PARTIAL) {
            Some(stem) => (stem, true),
            None => (file, false),
        };
        Some((Self::parse(stem)?, is_partial))
    }

    /// Parses the name of a file that a recovery has set aside:
    /// `HOST-YYYYMMDDTHHMMSSZ.damaged.pmon` or `HOST-YYYYMMDDTHHMMSSZ-N.damaged.pmon`. Returns the
    /// name that the segment would have; `None` if `file` is none.
    pub(crate) fn parse_damaged(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(DAMAGED_SUFFIX)?;
        let segment = |stem: &str| Self::parse(&format!("{stem}{SUFFIX}"));
        segment(stem).or_else(|| {
            let (stem, number) = stem.rsplit_once('-')?;
            segment(stem).filter(|_| number.parse::<u32>().is_ok())
        })
    }

    /// Returns the name as a file name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the host as it stands in the name.
    pub fn host(&self) -> &str {
        &self.text[..self.host_len]
    }

    /// Returns the start as it stands in the name, as `YYYYMMDDTHHMMSSZ` or
    /// `YYYYMMDDTHHMMSSZ_NNNNNNNNN`. Sorts like the start.
    pub(crate) fn time(&self) -> &str {
        &self.text[self.host_len + 1..self.text.len() - SUFFIX.len()]
    }

    /// Returns the second of the start as it stands in the name, as `YYYYMMDDTHHMMSSZ`.
    pub(crate) fn second(&self) -> &str {
        &self.time()[..TIME_LEN]
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a file belongs to a store: a segment, finished or not, a clip, or one of the recorder's
/// own files. All but these begin with `HOST-YYYYMMDDTHHMMSSZ`, have `.pmon` in the rest of their
/// names, and are not hidden.
pub(crate) fn is_store_file(name: &str) -> bool {
    let begins_with_time = || {
        let times = name.match_indices("Z").map(|(at, _)| &name[..=at]);
        times.into_iter().any(|stem| is_time_last(stem) && name[stem.len()..].contains(SUFFIX))
    };
    is_recorder_file(name) || !name.starts_with('.') && begins_with_time()
}

/// Whether a file is a clip, finished or not.
pub(crate) fn is_clip(name: &str) -> bool {
    name.strip_suffix(PARTIAL).unwrap_or(name).ends_with(CLIP_SUFFIX)
}

/// Whether a file is one that the recorder of a store needs for itself.
pub(crate) fn is_recorder_file(name: &str) -> bool {
    name == LOCK_NAME || name == RECORDER_NAME
}

/// Whether a text ends with `-YYYYMMDDTHHMMSSZ` after at least one byte.
fn is_time_last(stem: &str) -> bool {
    let bytes = stem.as_bytes();
    let Some(at) = bytes.len().checked_sub(TIME_LEN + 1).filter(|&at| at > 0) else { return false };
    bytes[at] == b'-'
        && bytes[at + 1..].iter().enumerate().all(|(at, &byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

/// Returns a host name with only the characters that a segment's name may have.
pub(crate) fn restricted(host: &str) -> String {
    let allowed = |c: char| c.is_ascii() && is_allowed(c as u8);
    let mut text: String = host.chars().map(|c| if allowed(c) { c } else { '_' }).take(MAX_HOST).collect();
    // A leading dot would hide the file.
    if text.starts_with('.') {
        text.replace_range(..1, "_");
    }
    if text.is_empty() { "unknown".into() } else { text }
}

/// Whether [`restricted`] returns this host as it is.
fn is_restricted(host: &str) -> bool {
    (1..=MAX_HOST).contains(&host.len()) && !host.starts_with('.') && host.bytes().all(is_allowed)
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// A second of UTC, printed as `YYYYMMDDTHHMMSSZ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UtcSecond(i64);

impl UtcSecond {
    /// Returns the second that contains a time in ns since 1970-01-01T00:00Z. Years outside of 0 to
    /// 9999 become the nearest of these.
    pub(crate) fn of(real_ns: i64) -> Self {
        Self(real_ns.div_euclid(SECOND))
    }
}

impl fmt::Display for UtcSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }
}

/// Returns the date of a day since 1970-01-01, in the Gregorian calendar: year, month, day.
///
/// Years are counted from March, so that the leap day is the last one of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_940_102_123_456_789;

    #[test]
    fn a_name_has_the_utc_second_of_the_start() {
        let name = SegmentName::unused("web-1.example", START, |_| false);
        assert_eq!(name.as_str(), "web-1.example-20261129T081502Z.pmon");
        assert_eq!(name.host(), "web-1.example");
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (-1, "19691231T235959Z"),
        ] {
            assert_eq!(UtcSecond(seconds).to_string(), text);
        }
    }

    #[test]
    fn a_taken_name_is_never_used_again() {
        let mut taken = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let name = SegmentName::unused("h", START, |name| taken.contains(name.as_str()));
            assert_eq!(SegmentName::parse(name.as_str()), Some(name.clone()));
            assert!(taken.insert(name.to_string()));
        }
        assert!(taken.contains("h-20261129T081502Z.pmon"));
        assert!(taken.contains("h-20261129T081502Z_123456789.pmon"));
        assert!(taken.contains("h-20261129T081502Z_123456837.pmon"));
    }

    #[test]
    fn a_host_name_cannot_leave_the_directory_or_hide_the_file() {
        for (host, shown) in
            [("a/../b", "a_.._b"), (".x", "_x"), ("", "unknown"), ("ä b", "__b"), ("a_b", "a_b")]
        {
            let name = SegmentName::unused(host, START, |_| false);
            assert_eq!(name.host(), shown);
            assert_eq!(is_restricted(host), shown == host);
            assert_eq!(SegmentName::parse(name.as_str()), Some(name));
        }
        assert!(SegmentName::unused(&"x".repeat(1000), START, |_| false).as_str().len() < 200);
    }

    #[test]
    fn a_store_has_segments_clips_and_recorder_files_and_leaves_others_alone() {
        for name in [
            "h-20261129T081502Z.pmon",
            "h-20261129T081502Z.pmon.partial",
            "hZ-20261129T081502Z_000000001.pmon",
            "h-20261129T081502Z-crash.clip.pmon",
            ".lock",
            ".recorder",
        ] {
            assert!(is_store_file(name), "{name}");
        }
        for name in ["notes.pmon", "h-20261129T081502Z.txt", ".h-20261129T081502Z.pmon", "a.partial", ""] {
            assert!(!is_store_file(name), "{name}");
        }
    }

    #[test]
    fn a_damaged_file_has_the_host_and_the_time_of_its_segment() {
        for (file, segment) in [
            ("h-20261129T081502Z.damaged.pmon", "h-20261129T081502Z.pmon"),
            ("a-2-20261129T081502Z-2.damaged.pmon", "a-2-20261129T081502Z.pmon"),
            ("h-20261129T081502Z_000000001-3.damaged.pmon", "h-20261129T081502Z_000000001.pmon"),
        ] {
            assert_eq!(SegmentName::parse_damaged(file), SegmentName::parse(segment), "{file}");
        }
        for file in [
            "h-20261129T081502Z.pmon",
            "h-20261129T081502Z-x.damaged.pmon",
            "h.damaged.pmon",
            ".damaged.pmon",
        ] {
            assert_eq!(SegmentName::parse_damaged(file), None, "{file}");
        }
    }

    #[test]
    fn other_names_are_not_those_of_segments() {
        for name in [
            "h-20261129T081502Z.pmon.partial",
            "h-20261129T081502Z",
            "-20261129T081502Z.pmon",
            "h-20261129081502Z.pmon",
            "h-20261129T081502Z_1.pmon",
            "h-20261129T081502Z_12345678x.pmon",
            "h-20261129T081502Z-crash.clip.pmon",
            "notes.pmon",
            "a/b-20261129T081502Z.pmon",
            "ä-20261129T081502Z.pmon",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
        let host = SegmentName::parse("a_b-20261129T081502Z_000000001.pmon").unwrap();
        assert_eq!(host.host(), "a_b");
    }
}
