//! Intervals of a recording.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pmon_analysis::groups::GroupBy;
use pmon_analysis::life::LifeEnd;
use pmon_core::Tgid;
use pmon_core::capture::{Record, SelfGenerated};
use pmon_record::{Signals, WakeReason};

use super::display::{Display, Request};
use super::interval::{Interval, IntervalFacts, IntervalSums};
use super::plain;
use super::screen::Screen;
use crate::args::{QuerySourceArgs, QueryTimeArgs, TopArgs};
use crate::captures::Captures;
use crate::control;
use crate::exit::{self, Failure};
use crate::prescan;
use crate::query::{ProcessSelector, Query, QueryOutcome, QueryStep, RereadableSource, clock_time};
use crate::time_spec::Moment;
use crate::users::UserNames;

/// Time between two checks of the size of the screen.
const SIZE_CHECK: Duration = Duration::from_millis(250);

/// Shows a recording.
pub(super) fn run(args: &TopArgs, file: &Path) -> Result<u8, Failure> {
    let source = QuerySourceArgs { file: file.to_owned(), host: args.host.clone() };
    let source = RereadableSource::new(&source)?;
    let files = std::slice::from_ref(&source.args.file);
    let captures = Captures::find(files, source.args.host.as_deref())?;
    let input = captures.open()?;
    args.process.check_users(input.header())?;
    let users = Arc::new(UserNames::of(input.header()));
    drop(input);
    let Some([start, end]) = prescan::extent(&captures)? else {
        let why = format!("{}: the header is damaged, so its times are unknown", captures.name());
        return Err(Failure::new(exit::REFUSED, why));
    };
    // The end is before the start if there is no event.
    let end = end.max(start);
    let is_screen = !args.json && args.count.is_none() && Screen::is_possible();
    let interval_ns = i64::try_from(args.interval.as_nanos()).unwrap_or(i64::MAX);
    let recording = IntervalReader {
        source,
        start,
        end,
        interval_ns,
        selector: ProcessSelector::new(&args.process),
        users,
        is_screen,
    };
    let at = recording.resolve(args.at)?;
    if is_screen { browse(args, &recording, at) } else { print(args, &recording, at) }
}

/// Prints the interval that ends at this time, and those before it that are requested.
fn print(args: &TopArgs, recording: &IntervalReader, at: i64) -> Result<u8, Failure> {
    let mut code = exit::DONE;
    // Before the start, there is no interval.
    let last = (at - recording.start) / recording.interval_ns;
    for before in (0..i64::from(args.count.unwrap_or(1)).min(last.saturating_add(1))).rev() {
        let at = at - before * recording.interval_ns;
        if let Some((interval, outcome)) = recording.read(at, args.by, &mut || false)? {
            plain::print(&interval, args)?;
            if args.json {
                plain::write(&outcome.json())?;
            }
            code = code.max(outcome.exit_code());
        }
    }
    Ok(code)
}

/// Shows the interval that ends at this time on the screen, until the user ends pmon.
fn browse(args: &TopArgs, recording: &IntervalReader, at: i64) -> Result<u8, Failure> {
    let mut signals = control::signals()?;
    let screen = Screen::open(signals.wake())?;
    let mut view = RecordedView {
        screen,
        display: Display::new(args, false),
        recording,
        at,
        shown: None,
        is_due: true,
        code: exit::DONE,
    };
    loop {
        while view.is_due {
            if view.handle_keys()? || signals.is_ending() {
                return Ok(view.code);
            }
            view.read(&mut signals)?;
        }
        let reason = control::wait(&mut signals, Some(SIZE_CHECK))?;
        if matches!(reason, WakeReason::Interrupt | WakeReason::Terminate) || view.handle_keys()? {
            return Ok(view.code);
        }
    }
}

/// Reads intervals of a recording.
struct IntervalReader {
    source: RereadableSource,
    /// Wall-clock times in ns of the start and the end of the recording.
    start: i64,
    end: i64,
    interval_ns: i64,
    selector: ProcessSelector,
    users: Arc<UserNames>,
    is_screen: bool,
}

impl IntervalReader {
    /// Returns the wall-clock time in ns that a moment means; the end if it is `None`.
    fn resolve(&self, at: Option<Moment>) -> Result<i64, Failure> {
        let Some(at) = at else { return Ok(self.end) };
        // This fails if the moment is before the recording.
        let query = Query::at(&self.source.args, Some(at))?;
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        Ok(match at {
            Moment::AfterStart(ns) => self.start.saturating_add(signed(ns)),
            Moment::BeforeEnd(ns) => self.end.saturating_sub(signed(ns)),
            _ => query.until_ns().unwrap_or(self.end),
        })
    }

    /// Reads the interval that ends at this time, with groups by this property. Returns `None` as
    /// soon as `is_stopped` returns `true`.
    fn read(
        &self,
        at: i64,
        by: GroupBy,
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Result<Option<(Interval, QueryOutcome)>, Failure> {
        let from = at.saturating_sub(self.interval_ns);
        // Two intervals have no moment in common, and the first one includes the start.
        let first = if from < self.start { self.start } else { from.saturating_add(1) };
        let bound = |ns: i64| Timestamp::from_nanosecond(ns.into()).ok().map(Moment::At);
        // The end of the recording is no bound, so that the answer states if it may lack events
        // there.
        let until = if at == self.end { None } else { bound(at) };
        let time = QueryTimeArgs { since: bound(first), until };
        let mut query = Query::over(&self.source.args, &time)?;
        if self.is_screen {
            query = query.without_progress();
        }
        let host = query.host();
        let mut sums = IntervalSums::new(by);
        let mut selector = self.selector.clone();
        let mut has_more = true;
        while has_more {
            if is_stopped() {
                return Ok(None);
            }
            let recorder = query.header().and_then(|header| header.meta.recorder());
            has_more = query.advance(|step| {
                apply(step, recorder, first, (&mut selector, &mut sums));
                Ok(())
            })?;
        }
        apply(query.finish(), None, first, (&mut selector, &mut sums));
        let mut outcome = query.outcome();
        selector.note(&mut outcome);
        // A recorder may have added events since the end was read.
        let at = outcome.last_ns.filter(|_| at == self.end).map_or(at, |last| last.max(at));
        let facts = IntervalFacts {
            users: Arc::clone(&self.users),
            host,
            until_ns: Some(at),
            length_ns: at.saturating_sub(from.max(self.start)).unsigned_abs(),
            has_running_cpu: false,
            missing: outcome.sentence(),
        };
        Ok(Some((sums.into_interval(facts), outcome)))
    }
}

/// Adds what was read to the sums of the processes that `selector` selects.
fn apply(
    mut step: QueryStep<'_, '_>,
    recorder: Option<Tgid>,
    first: i64,
    (selector, sums): (&mut ProcessSelector, &mut IntervalSums),
) {
    if let Some(Record::Event(datagram, _)) = step.record
        && let Some(event) = datagram.event(step.order)
        && step.range.matches_time(event.time, step.wall)
        && recorder.and_then(|recorder| SelfGenerated::of(&event, recorder)).is_none()
    {
        sums.totals.events += 1;
    }
    let now = step.now;
    while let Some(mut life) = step.pop() {
        if life.end == LifeEnd::Running {
            // What the first thread used until its exit is not all of the process.
            life.usage = None;
        }
        if selector.selects(&life, now) {
            let start_ns = life.start.and_then(|start| step.wall.at(start));
            sums.add(&life, start_ns.is_some_and(|start_ns| start_ns >= first));
        }
    }
}

/// The screen of a recording.
struct RecordedView<'a> {
    screen: Screen,
    display: Display,
    recording: &'a IntervalReader,
    /// End of the interval.
    at: i64,
    shown: Option<Interval>,
    /// Whether another interval than the one on the screen is requested.
    is_due: bool,
    /// Exit code for the intervals that were read.
    code: u8,
}

impl RecordedView<'_> {
    /// Reads the requested interval and shows it, unless a key or a signal arrives before.
    fn read(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        self.draw()?;
        let screen = &mut self.screen;
        let mut is_stopped = || screen.has_key() || signals.is_ending();
        let read = self.recording.read(self.at, self.display.by, &mut is_stopped)?;
        if let Some((interval, outcome)) = read {
            self.code = self.code.max(outcome.exit_code());
            self.shown = Some(interval);
            self.is_due = false;
            self.draw()?;
        }
        Ok(())
    }

    /// Applies the keys that were pressed. Returns whether pmon shall end.
    fn handle_keys(&mut self) -> Result<bool, Failure> {
        let mut has_changed = self.screen.has_resized();
        while let Some(key) = self.screen.key() {
            has_changed = true;
            match self.display.key(key) {
                Request::Quit => return Ok(true),
                Request::Suspend => self.screen.suspend()?,
                Request::Regroup => self.is_due = true,
                Request::Move(intervals) => {
                    let at = self.at.saturating_add(intervals.saturating_mul(self.recording.interval_ns));
                    let at = at.clamp(self.recording.start, self.recording.end);
                    self.is_due |= at != self.at;
                    self.at = at;
                }
                Request::Draw => {}
            }
        }
        if has_changed && !self.is_due {
            self.draw()?;
        }
        Ok(false)
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let status = self.is_due.then(|| format!("reading {}", clock_time(self.at, false)));
        let lines = self.display.lines(self.shown.as_ref(), self.screen.size(), status.as_deref());
        self.screen.draw(&lines)
    }
}
