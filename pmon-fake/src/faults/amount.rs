//! Numbers and ranges in fault scripts, and how they are written.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use oorandom::Rand32;

/// The units of a duration and their length in ns, from the longest to the shortest.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A number, or a range from which a number is drawn each time.
///
/// The amount of [`Fault::Step`](crate::Fault::Step) is a time in ns, and can be created from a
/// [`Duration`]. All other amounts have at most 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    from: u64,
    to: u64,
}

impl From<u32> for Amount {
    fn from(number: u32) -> Self {
        Self::new(number, number)
    }
}

impl From<RangeInclusive<u32>> for Amount {
    fn from(range: RangeInclusive<u32>) -> Self {
        Self::new(*range.start(), *range.end())
    }
}

impl From<Duration> for Amount {
    fn from(time: Duration) -> Self {
        (time..=time).into()
    }
}

impl From<RangeInclusive<Duration>> for Amount {
    fn from(range: RangeInclusive<Duration>) -> Self {
        let ns = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self::range(ns(range.start()), ns(range.end()))
    }
}

impl Amount {
    /// Creates a range from `from` to `to`, both included; if `from` is greater, the range contains
    /// `to` only.
    pub const fn new(from: u32, to: u32) -> Self {
        Self::range(from as u64, to as u64)
    }

    pub(super) const fn range(from: u64, to: u64) -> Self {
        Self { from: if from < to { from } else { to }, to }
    }

    /// Returns the greatest number.
    pub(super) fn max(self) -> u64 {
        self.to
    }

    pub(super) fn draw(self, random: &mut Rand32) -> u64 {
        const U32_MAX: u64 = u32::MAX as u64;
        match self.to - self.from {
            0 => self.from,
            width @ 1..U32_MAX => self.from + u64::from(random.rand_range(0..width as u32 + 1)),
            U32_MAX => self.from + u64::from(random.rand_u32()),
            width => {
                let drawn = u64::from(random.rand_u32()) << 32 | u64::from(random.rand_u32());
                self.from + width.checked_add(1).map_or(drawn, |width| drawn % width)
            }
        }
    }

    /// Returns the amount as it is written in a script, with `unit` after each number.
    pub(super) fn written(self, unit: &str) -> String {
        let Self { from, to } = self;
        match (from == to, unit) {
            (true, "") => to.to_string(),
            (true, unit) => format!("\"{to}{unit}\""),
            (false, unit) => format!("\"{from}{unit}..{to}{unit}\""),
        }
    }
}

/// Writes the amount as in a fault script: a number, or a range in quotation marks.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.written(""))
    }
}

/// Parses a range such as `1..50`.
pub(super) fn parse_range(text: &str) -> Option<Amount> {
    let (from, to) = text.split_once("..")?;
    let (from, to) = (from.trim().parse::<u32>().ok()?, to.trim().parse::<u32>().ok()?);
    (from <= to).then(|| Amount::new(from, to))
}

/// Parses a duration such as `10ms` or `1m30s`, or a range of durations such as `1ms..5ms`. In a
/// range of plain numbers, these are ns.
pub(super) fn parse_time(text: &str) -> Option<Amount> {
    let Some((from, to)) = text.split_once("..") else {
        let time = parse_duration(text.trim())?;
        return Some(Amount::range(time, time));
    };
    let (from, to) = (from.trim(), to.trim());
    let (from, to) = match (from.parse::<u32>(), to.parse::<u32>()) {
        (Ok(from), Ok(to)) => (from.into(), to.into()),
        _ => (parse_duration(from)?, parse_duration(to)?),
    };
    (from <= to).then(|| Amount::range(from, to))
}

/// Parses a duration, each number of which has a unit, and returns it in ns.
fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, unit_ns) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(times(number, unit_ns)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Returns a decimal number times `unit_ns`, without the fraction of a ns.
fn times(number: &str, unit_ns: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let part =
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_ns) / 10_u128.pow(fraction.len() as u32);
    whole.parse::<u64>().ok()?.checked_mul(unit_ns)?.checked_add(part as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_for_each_number() {
        let ns = |text| parse_time(text).map(|time| (time.from, time.to));
        assert_eq!(ns("10ms"), Some((10_000_000, 10_000_000)));
        assert_eq!(ns("7ns"), Some((7, 7)));
        assert_eq!(ns("1.5s"), Some((1_500_000_000, 1_500_000_000)));
        assert_eq!(ns("1m30s"), Some((90_000_000_000, 90_000_000_000)));
        assert_eq!(ns("1us .. 2h"), Some((1_000, 7_200_000_000_000)));
        assert_eq!(ns("5..10"), Some((5, 10)));
        for wrong in ["", "10", "ms", "1.5", "1..2ms", "2ms..1ms", "1 ms", "-1s", "1d", "1.s", "9999999999h"]
        {
            assert_eq!(ns(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn draws_stay_within_the_range_at_every_width() {
        let mut random = Rand32::new(3);
        for (from, to) in [(0, 0), (3, 9), (0, u32::MAX.into()), (1, u64::MAX), (0, u64::MAX), (7, 1 << 40)] {
            for _ in 0..100 {
                assert!((from..=to).contains(&Amount::range(from, to).draw(&mut random)));
            }
        }
    }
}
