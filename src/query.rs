//! Reads a recording for a question about its processes.

mod advance;
mod explanation;
mod group_key;
mod incomplete;
mod no_match;
mod observer;
mod process_json;
mod process_lines;
mod process_text;
mod selector;
mod spool;
mod target;

use std::collections::BTreeSet;

use indicatif::ProgressBar;
use pmon_analysis::coverage::{Coverage, GapReason};
use pmon_analysis::life::Life;
use pmon_analysis::{Filter, TimeBound, WallClock};
use pmon_core::MonoNs;
use pmon_core::capture::{Header, MissReason};

use self::advance::QueryState;
pub(crate) use self::advance::QueryStep;
pub(crate) use self::explanation::{Cause, Causes, FollowedLife, TargetMatches};
pub(crate) use self::group_key::{group_json, group_order, group_text};
pub(crate) use self::no_match::report_no_match;
pub(crate) use self::observer::RangeObserver;
pub(crate) use self::process_json::{process_json, program_json, time};
pub(crate) use self::process_lines::ProcessLines;
pub(crate) use self::process_text::{clock_time, command_line, miss_reason, precise_time};
pub(crate) use self::selector::ProcessSelector;
pub(crate) use self::spool::{RereadableSource, is_stdin_copy};
pub(crate) use self::target::QueryTarget;
use crate::args::{ProcessArgs, QuerySourceArgs, QueryTimeArgs, RangeOrMomentArgs};
use crate::captures::Captures;
use crate::exit::{self, Failure};
use crate::input::ReadOutcome;
use crate::output::printable;
use crate::prescan::{open_range, scanned_starts};
use crate::read_ahead::{ReadAhead, Recycler};
use crate::terminal;
use crate::time_spec::{Moment, moment};
use crate::view::Range;

/// A recording that is read for a question about its processes.
pub(crate) struct Query {
    input: ReadAhead,
    recycler: Recycler,
    bar: ProgressBar,
    state: QueryState,
}

/// What a recording lacks, and how it was read.
pub(crate) struct QueryOutcome {
    /// What the recording lacks within the range of time.
    pub(crate) coverage: Coverage,
    /// Processes and texts that were dropped for lack of memory.
    pub(crate) incomplete: u64,
    /// Number of execs whose details are missing.
    pub(crate) missed_execs: u64,
    /// Why they are missing.
    missed_why: BTreeSet<&'static str>,
    /// Number of processes that may satisfy the conditions, but too little is known of them.
    pub(crate) undecided: u64,
    /// The clock of each boot.
    pub(crate) clocks: Vec<WallClock>,
    /// Description of the recorded events, if that was not all.
    scope: Option<String>,
    /// Name of the transport of the first capture.
    transport: String,
    /// Wall-clock time of the last record that was read.
    pub(crate) last_ns: Option<i64>,
    /// The recorder that is still writing.
    recorder: Option<u32>,
    /// Whether the range ends after the recording, or may end after it.
    pub(crate) lacks_end: bool,
    read: ReadOutcome,
}

impl QueryOutcome {
    /// States on standard error why no CPU time and no memory is known of any process that ended.
    pub(crate) fn report_without_usage(&self) {
        terminal::eprintln(format_args!(
            "pmon: CPU time and memory of processes were not recorded (transport {})",
            printable(self.transport.as_bytes())
        ));
    }

    /// Omits that the range may end after the recording, which the verb states itself.
    pub(crate) fn omit_end(&mut self) {
        self.coverage.remove_reason(GapReason::AfterEnd);
    }

    /// Returns the exit code of the verb.
    pub(crate) fn exit_code(&self) -> u8 {
        self.read.exit_code()
    }
}

/// A process and the clock of its boot.
pub(crate) struct LifeItem<'a> {
    pub(crate) life: Life,
    pub(crate) wall: &'a WallClock,
    /// Number of the boot in the recording.
    pub(crate) boot: usize,
    /// Time of the last record that was read.
    pub(crate) now: MonoNs,
}

/// The processes that were running at a moment.
pub(crate) struct RunningProcesses {
    /// The processes, in the order of their IDs.
    pub(crate) lives: Vec<Life>,
    pub(crate) wall: WallClock,
    /// The moment.
    pub(crate) at: MonoNs,
    /// Name of the machine.
    pub(crate) host: String,
    pub(crate) outcome: QueryOutcome,
}

impl Query {
    /// Opens a recording for a question about a range of time.
    pub(crate) fn over(source: &QuerySourceArgs, time: &QueryTimeArgs) -> Result<Self, Failure> {
        Self::open(source, ["--since", "--until"], [time.since, time.until])
    }

    /// Opens a recording for a question about a moment; the end if `at` is `None`.
    ///
    /// # Errors
    /// Fails if the moment is before the recording.
    pub(crate) fn at(source: &QuerySourceArgs, at: Option<Moment>) -> Result<Self, Failure> {
        let mut query = Self::open(source, ["--at", "--at"], [at, at])?;
        if !query.state.coverage.is_complete() {
            let begin = query.header().map(|header| moment(&query.state.wall, header.meta.start.mono));
            let begin = begin.unwrap_or_default();
            return Err(Failure::new(
                exit::USAGE,
                format_args!("--at is before the recording, which begins at {begin}; give a later time"),
            ));
        }
        // Events that were lost before the moment can hide processes that were running then.
        query.state.is_moment = true;
        query.state.range.since = None;
        Ok(query)
    }

    /// Reads all processes that ran in a range of time, or at a moment, and passes each to `visit`.
    /// Also returns the machine.
    pub(crate) fn visit(
        source: &QuerySourceArgs,
        time: &RangeOrMomentArgs,
        process: &ProcessArgs,
        mut visit: impl FnMut(FollowedLife),
    ) -> Result<(QueryOutcome, String), Failure> {
        let query = match time.at {
            Some(_) => Self::at(source, time.at)?,
            None => Self::over(source, &time.range)?,
        };
        process.check_users(query.header())?;
        if time.at.is_some() {
            let RunningProcesses { lives, wall, at: now, host, mut outcome } = query.running()?;
            outcome.clocks = vec![wall];
            lives.into_iter().for_each(|life| visit(FollowedLife { life, boot: 0, now }));
            return Ok((outcome, host));
        }
        let host = query.host();
        let outcome = query.lives_at_once(|item| {
            visit(FollowedLife { life: item.life, boot: item.boot, now: item.now });
            Ok(())
        })?;
        Ok((outcome, host))
    }

    /// Opens a recording from the segment that contains a moment on, for a question about all
    /// processes since then or before it.
    pub(crate) fn around(source: &QuerySourceArgs, at: Option<Moment>) -> Result<Self, Failure> {
        let mut query = Self::open(source, ["--at", "--at"], [at, None])?;
        query.state.range.since = None;
        Ok(query)
    }

    fn open(
        source: &QuerySourceArgs,
        names: [&str; 2],
        moments: [Option<Moment>; 2],
    ) -> Result<Self, Failure> {
        let mut captures = Captures::find(std::slice::from_ref(&source.file), source.host.as_deref())?;
        let (input, Range { since, until }) = open_range(&mut captures, names, moments)?;
        let Some(header) = input.header() else {
            let why = format!("{}: the header is damaged, so its processes are unknown", input.name());
            return Err(Failure::new(exit::REFUSED, why));
        };
        let mut state = QueryState::new(header, Filter { since, until, ..Filter::default() });
        state.tracker.expect_scan(scanned_starts(&captures)?);
        let bar = match input.file_bytes() {
            Some(bytes) => terminal::reading_bar(bytes),
            None => ProgressBar::hidden(),
        };
        let input = ReadAhead::new(input);
        Ok(Self { recycler: input.recycler(), input, bar, state })
    }

    /// Does not track the processes, which saves time.
    pub(crate) fn without_processes(mut self) -> Self {
        self.state.tracks_processes = false;
        self
    }

    /// Shows no progress.
    pub(crate) fn without_progress(mut self) -> Self {
        self.bar = ProgressBar::hidden();
        self
    }

    /// Returns the header of the current capture.
    pub(crate) fn header(&self) -> Option<&Header> {
        self.input.header()
    }

    /// Returns the wall-clock time at which the range begins, within the recording.
    pub(crate) fn begin_ns(&self) -> Option<i64> {
        let start = self.state.wall.at(self.header()?.meta.start.mono)?;
        let since = self.state.range.since.and_then(|since| real_of(since, &self.state.wall));
        Some(since.map_or(start, |since| since.max(start)))
    }

    /// Returns the wall-clock time at which the range ends, if it has an end.
    pub(crate) fn until_ns(&self) -> Option<i64> {
        self.state.range.until.and_then(|until| real_of(until, &self.state.wall))
    }

    /// Returns the clock of the current boot.
    pub(crate) fn wall(&self) -> &WallClock {
        &self.state.wall
    }

    /// Returns the name of the machine.
    pub(crate) fn host(&self) -> String {
        self.header().map(|header| header.meta.host.clone()).unwrap_or_default()
    }

    /// Reads all processes that ran in the range of time, and passes each to `visit`: first those
    /// that ended, in the order of their ends, and then those that were still running.
    pub(crate) fn lives(
        mut self,
        mut visit: impl FnMut(LifeItem<'_>) -> Result<(), Failure>,
    ) -> Result<QueryOutcome, Failure> {
        let mut drain = |step: QueryStep<'_, '_>| step.drain(&mut visit);
        self.read(&mut drain)?;
        drain(self.finish())?;
        Ok(self.outcome())
    }

    /// As [`Query::lives`], but passes each process right after its end, so that its memory is
    /// reused. The clock may change later, by the drift since its last reading.
    pub(crate) fn lives_at_once(
        mut self,
        mut visit: impl FnMut(LifeItem<'_>) -> Result<(), Failure>,
    ) -> Result<QueryOutcome, Failure> {
        let mut drain = |step: QueryStep<'_, '_>| step.drain(&mut visit);
        while self.advance(&mut drain)? {}
        drain(self.finish())?;
        Ok(self.outcome())
    }

    /// Reads up to the moment, and returns the processes that were running then.
    pub(crate) fn running(mut self) -> Result<RunningProcesses, Failure> {
        self.state.tracker.omit_rows();
        self.read(|_| Ok(()))?;
        let at = self.state.range.until.and_then(|at| mono_of(at, self.state.now, &self.state.wall));
        // The end of the recording is the last moment that it shows.
        let at = at.filter(|_| self.state.has_later).unwrap_or(self.state.now);
        self.state.tracker.advance_to(at);
        let lives = self.state.tracker.running();
        let wall = self.state.wall.clone();
        let host = self.host();
        let mut outcome = self.outcome();
        // Only the programs of the processes that were running then matter.
        let is_missed = |life: &&Life| !life.execs.is_empty() && life.program.get().args.is_none();
        let missed = || lives.iter().filter(is_missed);
        outcome.missed_execs = missed().count() as u64;
        outcome.missed_why =
            missed().filter_map(|life| life.program.get().miss).map(MissReason::name).collect();
        Ok(RunningProcesses { lives, wall, at, host, outcome })
    }

    /// Returns what the recording lacks, after it was read.
    pub(crate) fn outcome(self) -> QueryOutcome {
        let Self { input, state, .. } = self;
        state.into_outcome(input.outcome(), input.is_recorded_by)
    }
}

/// Converts a time to the monotonic clock, which showed `near` at a time that `wall` knows.
fn mono_of(bound: TimeBound, near: MonoNs, wall: &WallClock) -> Option<MonoNs> {
    match bound {
        TimeBound::Mono(mono) => Some(mono),
        TimeBound::Wall(real_ns) => {
            let since = i128::from(real_ns) - i128::from(wall.at(near)?);
            Some(MonoNs(u64::try_from((i128::from(near.0) + since).max(0)).unwrap_or(u64::MAX)))
        }
    }
}

fn real_of(bound: TimeBound, wall: &WallClock) -> Option<i64> {
    match bound {
        TimeBound::Mono(mono) => wall.at(mono),
        TimeBound::Wall(real_ns) => Some(real_ns),
    }
}
