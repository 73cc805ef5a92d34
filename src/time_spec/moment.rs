//! Points in time given on the command line, and their meaning in a capture.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, Zoned};
use pmon_analysis::TimeBound;
use pmon_core::MonoNs;

use super::parse_duration;

/// A point in a capture's time, as given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `+2s`: nanoseconds after the start.
    AfterStart(u64),
    /// `-30s`: nanoseconds before the end.
    BeforeEnd(u64),
    /// RFC 3339, with an offset from UTC.
    At(Timestamp),
    /// A date and a time in the local time zone.
    Local(DateTime),
    /// A time of day in the local time zone, on any day of the capture.
    OfDay(Time),
}

/// The times that a capture covers, by both clocks, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    /// The start of the recording.
    pub(crate) start: Option<(MonoNs, i64)>,
    /// The end of the recording, or its last event.
    pub(crate) end: Option<(MonoNs, i64)>,
}

/// The meaning of two moments in a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The first and the last time of the range.
    pub(crate) bounds: [Option<TimeBound>; 2],
    /// A sentence for users about each ambiguous moment.
    pub(crate) notes: Vec<String>,
}

impl Moment {
    /// Parses the argument of `--since` and `--until`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix('+') {
            return parse_duration(rest).map(Self::AfterStart);
        }
        if let Some(rest) = text.strip_prefix('-') {
            return parse_duration(rest).map(Self::BeforeEnd);
        }
        if let Some(moment) = Self::parse_relative(text, &Zoned::now()) {
            return Ok(moment);
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        // `2026-01-02T03:04:05[Europe/Berlin]`: the named zone counts, not the local one.
        if text.contains('[')
            && let Ok(at) = text.parse::<Zoned>()
        {
            return Ok(Self::At(at.timestamp()));
        }
        // A date and a time without an offset would silently drop the zone.
        let zoned = text.contains(['[', '+', 'Z', 'z']);
        if let (Ok(local), false) = (text.parse::<DateTime>(), zoned) {
            return Ok(Self::Local(local));
        }
        if let (Ok(time), false) = (text.parse::<Time>(), zoned) {
            return Ok(Self::OfDay(time));
        }
        Err("expected `+2s`, `-30s`, `03:04:05`, `2026-01-02 03:04:05`, `2026-01-02T03:04:05+01:00`, `now`, \
             `yesterday` or `10 min ago`"
            .into())
    }

    /// Parses a time in words.
    fn parse_relative(text: &str, now: &Zoned) -> Option<Self> {
        let midnight = |days_ago: i64| {
            let date = now.date().checked_sub(Span::new().try_days(days_ago).ok()?).ok()?;
            Some(Self::Local(date.to_datetime(Time::midnight())))
        };
        match text {
            "now" => Some(Self::At(now.timestamp())),
            "today" => midnight(0),
            "yesterday" => midnight(1),
            _ if text.ends_with("ago") => {
                let at = now.checked_add(text.parse::<Span>().ok()?).ok()?;
                Some(Self::At(at.timestamp()))
            }
            _ => None,
        }
    }

    /// Whether the meaning depends on the end of the capture.
    pub(crate) fn depends_on_the_end(self) -> bool {
        !matches!(self, Self::AfterStart(_) | Self::At(_))
    }
}

/// Resolves the two moments of a range in a capture of this extent. `names` are their options. An
/// error names the unknown part, or states that the range is empty in every capture.
pub(crate) fn resolve(
    names: [&str; 2],
    moments: [Option<Moment>; 2],
    extent: &Extent,
    zone: &TimeZone,
) -> Result<Resolved, String> {
    let mut resolver = Resolver { extent, zone, notes: Vec::new() };
    let since = moments[0].map(|moment| resolver.bound(names, 0, moment, None)).transpose()?;
    let until = moments[1].map(|moment| resolver.bound(names, 1, moment, since)).transpose()?;
    if since.zip(until).is_some_and(|(since, until)| is_after(since, until, extent)) {
        let [since, until] = names;
        let notes = resolver.notes.iter().map(|note| format!("; {note}")).collect::<String>();
        return Err(format!("{since} is after {until}, so that no event can match{notes}"));
    }
    Ok(Resolved { bounds: [since, until], notes: resolver.notes })
}

/// Whether one bound is later than another one. If they are of different clocks, it is so both with
/// the clocks as they were at the start and as they were at the end of the capture.
fn is_after(one: TimeBound, other: TimeBound, extent: &Extent) -> bool {
    match (one, other) {
        (TimeBound::Mono(one), TimeBound::Mono(other)) => one > other,
        (TimeBound::Wall(one), TimeBound::Wall(other)) => one > other,
        _ => {
            let clocks: Vec<_> = extent.start.into_iter().chain(extent.end).collect();
            let is_after = |&(mono, real_ns): &(MonoNs, i64)| {
                let wall = |bound| match bound {
                    TimeBound::Wall(at) => i128::from(at),
                    TimeBound::Mono(at) => i128::from(real_ns) + i128::from(at.0) - i128::from(mono.0),
                };
                wall(one) > wall(other)
            };
            !clocks.is_empty() && clocks.iter().all(is_after)
        }
    }
}

struct Resolver<'a> {
    extent: &'a Extent,
    zone: &'a TimeZone,
    notes: Vec<String>,
}

/// An instant that a local time may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    real_ns: i64,
    local: DateTime,
    kind: LocalTimeKind,
}

/// How often the local clock shows a time on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LocalTimeKind {
    Once,
    /// The clock is set back, so the same time also occurs at the instant `other`.
    Twice {
        other: i64,
    },
    /// The clock is set forward past this time; the candidate is the instant of the change.
    Never,
}

impl Resolver<'_> {
    /// Returns the bound for a moment. The end of a range is after `since`, if possible.
    fn bound(
        &mut self,
        names: [&str; 2],
        which: usize,
        moment: Moment,
        since: Option<TimeBound>,
    ) -> Result<TimeBound, String> {
        let start = || self.extent.start.ok_or_else(|| NO_START.to_owned());
        let (candidates, is_dated) = match moment {
            Moment::AfterStart(ns) => return Ok(TimeBound::Mono(MonoNs(start()?.0.0.saturating_add(ns)))),
            Moment::BeforeEnd(ns) => {
                let (end, _) = self.extent.end.ok_or("the capture's end is not known")?;
                return Ok(TimeBound::Mono(MonoNs(end.0.saturating_sub(ns))));
            }
            Moment::At(at) => return Ok(TimeBound::Wall(real_ns(at))),
            Moment::Local(local) => (self.candidates(local), true),
            Moment::OfDay(time) => {
                start()?;
                let from = self.local(self.floor(since)).date();
                let dates = (-1..=2).filter_map(|days| from.checked_add(Span::new().days(days)).ok());
                (dates.flat_map(|date: Date| self.candidates(date.to_datetime(time))).collect(), false)
            }
        };
        let chosen = self.choose(&candidates, since).ok_or("there is no such time")?;
        if !is_dated && since.is_some_and(|since| self.is_reversed(chosen, since)) {
            let [since, until] = names;
            return Err(format!(
                "{since} is after {until}, and the capture is of one day: give times with their dates"
            ));
        }
        self.note(names[which], chosen, is_dated);
        Ok(TimeBound::Wall(chosen.real_ns))
    }

    /// Returns the instants at which the local clock shows a time.
    fn candidates(&self, local: DateTime) -> Vec<Candidate> {
        let at = |offset: jiff::tz::Offset| offset.to_timestamp(local).ok().map(real_ns);
        let one = |real_ns, kind| Candidate { real_ns, local, kind };
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                at(offset).map(|at| one(at, LocalTimeKind::Once)).into_iter().collect()
            }
            AmbiguousOffset::Fold { before, after } => match at(before).zip(at(after)) {
                Some((first, second)) => {
                    let kind = |other| LocalTimeKind::Twice { other };
                    vec![one(first, kind(second)), one(second, kind(first))]
                }
                None => Vec::new(),
            },
            AmbiguousOffset::Gap { after, .. } => {
                let Ok(earlier) = after.to_timestamp(local) else { return Vec::new() };
                let change = self.zone.following(earlier).next().map(|change| real_ns(change.timestamp()));
                change.map(|at| one(at, LocalTimeKind::Never)).into_iter().collect()
            }
        }
    }

    /// Chooses the first candidate that is in the capture and not before `since`. If there is none,
    /// chooses the first after `since`, or else the one nearest to the capture.
    fn choose(&self, candidates: &[Candidate], since: Option<TimeBound>) -> Option<Candidate> {
        let Some((_, start)) = self.extent.start else { return candidates.first().copied() };
        let floor = self.floor(since);
        let end = self.extent.end.map_or(i64::MAX, |(_, end)| end);
        let next = candidates.iter().find(|candidate| candidate.real_ns >= floor).copied();
        let last = candidates.iter().rfind(|candidate| candidate.real_ns < floor).copied();
        match (last, next) {
            // If the capture's end is unknown, the minute in which it starts is meant, not the next
            // day's.
            (Some(last), _)
                if self.extent.end.is_none() && since.is_none() && start.abs_diff(last.real_ns) < MINUTE =>
            {
                Some(last)
            }
            (_, Some(next)) if next.real_ns <= end || since.is_some() => Some(next),
            (Some(last), Some(next)) => {
                let (before, after) = (start.abs_diff(last.real_ns), end.abs_diff(next.real_ns));
                Some(if before <= after { last } else { next })
            }
            (last, next) => next.or(last),
        }
    }

    /// Whether a time of day that was taken from the day after `since` is more likely the end of a
    /// reversed range: both times are in a capture of one day.
    fn is_reversed(&self, chosen: Candidate, since: TimeBound) -> bool {
        let Some(((_, start), (_, end))) = self.extent.start.zip(self.extent.end) else { return false };
        let since = self.floor(Some(since));
        let day_before = chosen.local.checked_sub(Span::new().days(1));
        let before = day_before.map(|local| self.candidates(local)).unwrap_or_default();
        self.is_one_day()
            && (start..=end).contains(&since)
            && before.iter().any(|candidate| (start..since).contains(&candidate.real_ns))
    }

    /// Whether the capture starts and ends on the same day.
    fn is_one_day(&self) -> bool {
        let day = |(_, at): (MonoNs, i64)| self.local(at).date();
        self.extent.start.zip(self.extent.end).is_some_and(|(start, end)| day(start) == day(end))
    }

    /// Returns the earliest wall-clock time of a bound: the start of the range, or of the capture.
    fn floor(&self, since: Option<TimeBound>) -> i64 {
        let (mono, real_ns) = self.extent.start.unwrap_or_default();
        match since {
            None => real_ns,
            Some(TimeBound::Wall(at)) => at,
            Some(TimeBound::Mono(at)) => {
                let at = i128::from(real_ns) + i128::from(at.0) - i128::from(mono.0);
                i64::try_from(at).unwrap_or(i64::MAX)
            }
        }
    }

    fn local(&self, real_ns: i64) -> DateTime {
        self.zone.to_datetime(timestamp(real_ns))
    }

    /// Adds a note on which time was taken, if the moment is ambiguous.
    fn note(&mut self, name: &str, chosen: Candidate, is_dated: bool) {
        let Candidate { real_ns, local, kind } = chosen;
        let taken = self.shown(real_ns);
        let time = local.time();
        match kind {
            LocalTimeKind::Never => self.notes.push(format!(
                "{name}: there is no {time} on {}, when clocks are set forward; {taken} is taken, the time of the change",
                local.date()
            )),
            LocalTimeKind::Twice { other } => self.notes.push(format!(
                "{name}: {time} occurs twice on {}, when clocks are set back; {taken} is taken, not {}: give the \
                 intended one with its offset",
                local.date(),
                self.shown(other)
            )),
            LocalTimeKind::Once if !(is_dated || self.is_one_day() && self.is_on_that_day(local)) => {
                let where_to = match (self.extent.start, self.extent.end) {
                    (Some((_, start)), _) if real_ns < start => "before the capture starts",
                    (_, Some((_, end))) if real_ns > end => "after the capture ends",
                    _ => "the first such time; give another one with its date",
                };
                self.notes.push(format!("{name}: {taken} is taken, {where_to}"));
            }
            LocalTimeKind::Once => {}
        }
    }

    fn is_on_that_day(&self, local: DateTime) -> bool {
        self.extent.start.is_some_and(|(_, start)| self.local(start).date() == local.date())
    }

    /// Formats a time with its offset, as [`Moment::parse`] accepts it.
    fn shown(&self, real_ns: i64) -> String {
        timestamp(real_ns).to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

fn real_ns(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

fn timestamp(real_ns: i64) -> Timestamp {
    // A timestamp can represent every i64 of nanoseconds.
    Timestamp::from_nanosecond(real_ns.into()).unwrap_or_default()
}

/// One minute in ns.
const MINUTE: u64 = 60_000_000_000;

/// The error if the start is unknown, which happens only with a damaged header.
const NO_START: &str = "the capture's header is damaged, so that its start is not known; give the time with its date, \
    as in `2026-01-02 03:04:05`";

#[cfg(test)]
mod tests;
