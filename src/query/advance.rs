//! Reads the next part of a recording, up to the end of the range of time.

use std::collections::BTreeSet;

use pmon_analysis::coverage::{Coverage, Gap, GapReason};
use pmon_analysis::life::{Life, LifeEnd, LifeTracker};
use pmon_analysis::{Filter, TimeBound, WallClock};
use pmon_core::MonoNs;
use pmon_core::capture::{DetailsSubject, Header, Junction, MissReason, Record, Snapshot, SnapshotReason};
use pmon_core::wire::{ByteOrder, EventBody};

use super::{LifeItem, Query, QueryOutcome, mono_of, real_of};
use crate::exit::Failure;
use crate::input::{InputItem, ReadOutcome, report_damage};
use crate::prescan::time_of;

/// Time after the end of the range, in ns, up to which earlier events can follow later ones.
const MAX_INVERSION_NS: u64 = 100_000_000;
/// Time after the end of the range, in ns, up to which details of earlier execs are read.
const MAX_DETAILS_DELAY_NS: u64 = 1_000_000_000;

/// What [`Query::advance`] has read.
pub(crate) struct QueryStep<'a, 'r> {
    /// The record that was applied; `None` at the end of a block or of a part of it, and before a
    /// capture of another boot.
    pub(crate) record: Option<&'a Record<'r>>,
    pub(crate) tracker: &'a mut LifeTracker,
    pub(crate) wall: &'a WallClock,
    /// Number of the boot in the recording.
    pub(crate) boot: usize,
    /// The requested range of time.
    pub(crate) range: &'a Filter,
    /// Byte order of the datagrams.
    pub(crate) order: ByteOrder,
    /// Time of the last record that was read.
    pub(crate) now: MonoNs,
}

impl QueryStep<'_, '_> {
    /// Returns the next process that has ended and that ran in the range of time.
    pub(crate) fn pop(&mut self) -> Option<Life> {
        loop {
            let life = self.tracker.pop()?;
            let until = match life.end {
                LifeEnd::Running => MonoNs(u64::MAX),
                LifeEnd::Ended { time, .. } => time,
                LifeEnd::Unobserved { before, .. } => before,
            };
            // The wall clock has no time for the far future.
            let is_earlier = |since: TimeBound| since.is_after(until, self.wall);
            if life.end == LifeEnd::Running || !self.range.since.is_some_and(is_earlier) {
                return Some(life);
            }
        }
    }

    /// Passes all processes that have ended and that ran in the range of time to `visit`.
    pub(super) fn drain(
        mut self,
        mut visit: impl FnMut(LifeItem<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while let Some(life) = self.pop() {
            visit(LifeItem { life, wall: self.wall, boot: self.boot, now: self.now })?;
        }
        Ok(())
    }
}

/// What was read of a recording.
pub(super) struct QueryState {
    /// The requested range of time.
    pub(super) range: Filter,
    /// Whether the question is about one moment, and not about a range.
    pub(super) is_moment: bool,
    /// Whether `tracker` applies the records.
    pub(super) tracks_processes: bool,
    pub(super) tracker: LifeTracker,
    pub(super) wall: WallClock,
    /// The clocks of earlier boots.
    pub(super) clocks: Vec<WallClock>,
    /// Byte order of the datagrams.
    pub(super) order: ByteOrder,
    pub(super) coverage: Coverage,
    /// Time of the last record up to the end of the range.
    pub(super) now: MonoNs,
    /// Number of execs.
    pub(super) execs: u64,
    /// Number of execs whose details are recorded.
    pub(super) detailed_execs: u64,
    /// Why the details of others are missing.
    missed_why: BTreeSet<&'static str>,
    /// Name of the transport.
    transport: String,
    /// Description of the recorded events, if they are not all.
    pub(super) scope: Option<String>,
    /// Whether a record after the range was read. Earlier ones may still follow.
    pub(super) has_later: bool,
    /// Whether no record of the range can follow.
    pub(super) is_over: bool,
    /// Time of the last record before a damaged part whose end is not known yet.
    damaged_from: Option<MonoNs>,
    /// Latest time of a record, also after the range.
    seen: MonoNs,
}

impl QueryState {
    /// Returns the state at the start of a capture whose header is damaged.
    pub(super) fn of_unknown_start(header: &Header, range: Filter) -> Self {
        let state = Self::new(header, Filter::default());
        Self { range, wall: WallClock::new(), ..state }
    }

    /// Returns the state at the start of a capture.
    pub(super) fn new(header: &Header, range: Filter) -> Self {
        let start = header.meta.start;
        let mut wall = WallClock::new();
        wall.observe(start);
        let mut coverage = Coverage::new();
        if let Some(since) = range.since {
            let is_covered =
                Filter { until: Some(since), ..Filter::default() }.matches_time(start.mono, &wall);
            if !is_covered {
                let from = mono_of(since, start.mono, &wall).unwrap_or_default();
                coverage.add_at(GapReason::BeforeStart, (from, start.mono), &wall);
            }
        }
        Self {
            range,
            is_moment: false,
            tracks_processes: true,
            tracker: LifeTracker::new(header).without_model_texts(),
            wall,
            clocks: Vec::new(),
            order: header.byte_order,
            coverage,
            now: start.mono,
            execs: 0,
            detailed_execs: 0,
            missed_why: BTreeSet::new(),
            transport: header.meta.transport.name.clone(),
            scope: None,
            has_later: false,
            is_over: false,
            damaged_from: None,
            seen: start.mono,
        }
    }

    fn step<'a, 'r>(&'a mut self, record: Option<&'a Record<'r>>) -> QueryStep<'a, 'r> {
        QueryStep {
            record,
            tracker: &mut self.tracker,
            wall: &self.wall,
            boot: self.clocks.len(),
            range: &self.range,
            order: self.order,
            now: self.now,
        }
    }

    /// Returns whether a time is not after the range.
    fn is_in_time(&self, time: MonoNs, wall: &WallClock) -> bool {
        !self.range.until.is_some_and(|until| until.is_before(time, wall))
    }

    /// Applies a record. Returns `false` if it is after the range.
    pub(super) fn apply(&mut self, record: &Record<'_>) -> bool {
        if self.is_over {
            return false;
        }
        if let Some(time) = time_of(record, self.order) {
            self.end_damage(Some(time));
            self.seen = time.max(self.seen);
            if !self.is_in_time(time, &self.wall) {
                self.has_later = true;
                let delay = match self.tracker.awaits_details() {
                    true => MAX_DETAILS_DELAY_NS,
                    false => MAX_INVERSION_NS,
                };
                self.is_over = !self.is_in_time(MonoNs(time.0.saturating_sub(delay)), &self.wall);
                return false;
            }
            self.now = time.max(self.now);
        }
        match record {
            Record::Clock(anchor) => self.wall.observe(*anchor),
            Record::Scope(info) => self.scope = Some(info.text.clone()),
            Record::Snapshot(snapshot) => {
                if !self.is_in_time(snapshot.ended, &self.wall) {
                    return self.apply_later_scan(snapshot);
                }
                let is_scan = snapshot.reason != SnapshotReason::Segment;
                if let (true, true, Some(real_ns)) = (self.is_moment, is_scan, self.wall.at(snapshot.started))
                {
                    self.coverage.remove_until(real_ns);
                }
            }
            _ => {}
        }
        self.count_exec(record);
        self.coverage.observe(record, &self.range, &self.wall);
        if self.tracks_processes {
            self.tracker.apply(record);
        }
        true
    }

    /// Applies a scan that ended after the range: only the links between the processes that it
    /// found. A process that it did not find may have ended after the range as well. Returns
    /// `false` if all processes are known without the scan.
    fn apply_later_scan(&mut self, scan: &Snapshot) -> bool {
        let is_first = scan.reason == SnapshotReason::Start;
        if is_first && self.tracks_processes {
            let removes_none = Snapshot { started: MonoNs(0), ..*scan };
            self.tracker.apply(&Record::Snapshot(removes_none));
        }
        is_first
    }

    /// Counts a record that is an exec in the range, or has the details of one.
    fn count_exec(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(datagram, _) => {
                let is_exec = datagram.with_event(self.order, |event| {
                    matches!(event.body, EventBody::Exec { .. })
                        && self.range.matches_time(event.time, &self.wall)
                });
                self.execs += u64::from(is_exec == Some(true));
            }
            Record::Details(details) => {
                let DetailsSubject::Exec { time, .. } = details.subject else { return };
                match (self.range.matches_time(time, &self.wall), &details.args) {
                    (true, Some(_)) => self.detailed_execs += 1,
                    (true, None) => self.missed_why.extend(details.miss.map(MissReason::name)),
                    (false, _) => {}
                }
            }
            _ => {}
        }
    }

    /// Ends the processes that did not continue in the next capture. Returns `false` if the range
    /// ends before it.
    pub(super) fn begin_segment(&mut self, header: Option<&Header>, junction: Junction) -> bool {
        if let Some(span) = junction.unobserved {
            self.coverage.observe(&Record::Unobserved(span), &self.range, &self.wall);
        }
        let starts_later = header.is_some_and(|header| {
            let mut clock = WallClock::new();
            clock.observe(header.meta.start);
            !self.is_in_time(header.meta.start.mono, &clock)
        });
        // The state at the moment is that before the interruption.
        if starts_later && (junction.unobserved.is_some() || junction.is_reboot) {
            self.is_over = true;
            return false;
        }
        self.tracker.begin_segment(header, junction);
        true
    }

    /// Continues with the clock of the next capture.
    pub(super) fn set_clock(&mut self, header: Option<&Header>, is_reboot: bool) {
        self.end_damage(None);
        if is_reboot {
            self.clocks.push(std::mem::take(&mut self.wall));
            self.now = MonoNs(0);
            self.seen = MonoNs(0);
        }
        if let Some(header) = header {
            self.order = header.byte_order;
            self.wall.observe(header.meta.start);
            self.now = header.meta.start.mono.max(self.now);
            self.seen = self.now.max(self.seen);
        }
    }

    /// Notes a damaged part. Adjacent parts count as one.
    pub(super) fn add_damage(&mut self) {
        if !self.is_over {
            self.damaged_from.get_or_insert(self.seen);
        }
    }

    /// Adds the damaged part before a record with this time, or at the end of a capture, if it can
    /// lack records of the range.
    fn end_damage(&mut self, until: Option<MonoNs>) {
        let Some(from) = self.damaged_from.take() else { return };
        let is_within = match until {
            Some(until) => self.range.matches_span(from, until, &self.wall),
            None => self.is_in_time(from, &self.wall),
        };
        if is_within {
            let real_ns = (self.wall.at(from), until.and_then(|until| self.wall.at(until)));
            self.coverage.add(Gap { reason: GapReason::Damaged, real_ns });
        }
    }

    /// Returns what the range lacks, after everything was read up to its end.
    pub(super) fn into_outcome(mut self, read: ReadOutcome, recorder: Option<u32>) -> QueryOutcome {
        self.end_damage(None);
        let is_within = |until| Filter { until: Some(until), ..Filter::default() };
        // Of a recording without a clean end, the last events may be missing.
        let is_complete = read.clean_end && recorder.is_none();
        let has_reached_end = !(self.is_over || self.has_later && is_complete);
        let recorder = recorder.filter(|_| has_reached_end);
        let until = self.range.until;
        let is_open = !read.clean_end || recorder.is_some();
        let has_all = match until {
            Some(until) => !is_within(until).matches_time(MonoNs(self.now.0 + 1), &self.wall),
            None => !is_open,
        };
        let last_ns = self.wall.at(self.now);
        let lacks_end = has_reached_end && !has_all;
        if lacks_end {
            let end = until.and_then(|until| real_of(until, &self.wall));
            self.coverage.add(Gap { reason: GapReason::AfterEnd, real_ns: (last_ns, end) });
        }
        self.clocks.push(self.wall);
        QueryOutcome {
            clocks: self.clocks,
            incomplete: self.tracker.incomplete(),
            missed_execs: self.execs.saturating_sub(self.detailed_execs),
            missed_why: self.missed_why,
            undecided: 0,
            transport: self.transport,
            scope: self.scope,
            last_ns,
            recorder,
            lacks_end,
            read,
            coverage: self.coverage,
        }
    }
}

impl Query {
    /// Applies the records of the next block, and calls `visit` after each record and at the end.
    /// Returns `false` at the end of the range.
    pub(crate) fn advance(
        &mut self,
        mut visit: impl FnMut(QueryStep<'_, '_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let Self { input, recycler, bar, state } = self;
        let has_more = !state.is_over
            && input.read_some(|item| {
                match item {
                    InputItem::Record(record) => {
                        if state.apply(&record) {
                            visit(state.step(Some(&record)))?;
                        }
                        recycler.take_record(record);
                    }
                    InputItem::BlockEnd => visit(state.step(None))?,
                    InputItem::Segment(header, junction) => {
                        if state.begin_segment(header, junction) {
                            visit(state.step(None))?;
                            state.set_clock(header, junction.is_reboot);
                        }
                    }
                    InputItem::Damage(name, damage) => {
                        state.add_damage();
                        bar.suspend(|| report_damage(name, &damage));
                    }
                }
                Ok(())
            })?;
        let has_more = has_more && !state.is_over;
        bar.set_position(input.offset());
        if !has_more {
            bar.finish_and_clear();
        }
        Ok(has_more)
    }

    /// Applies all records up to the end of the range. Calls `visit` after each block.
    pub(super) fn read(
        &mut self,
        mut visit: impl FnMut(QueryStep<'_, '_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while self.advance(|step| if step.record.is_none() { visit(step) } else { Ok(()) })? {}
        Ok(())
    }

    /// Adds the processes that are still running after everything was read.
    pub(crate) fn finish(&mut self) -> QueryStep<'_, '_> {
        self.state.tracker.finish();
        self.state.step(None)
    }
}
