//! Searches a recording for processes that satisfy the conditions.

use pmon_analysis::coverage::{Coverage, GapReason};
use pmon_analysis::filter::{LifeFilter, ProcessView, command_line};
use pmon_analysis::life::{Life, LifeEnd, LifeTracker, ProcessProgram, Program};
use pmon_analysis::{Filter, WallClock};
use pmon_core::capture::{Header, Record};
use pmon_core::wire::EventBody;
use pmon_core::{MonoNs, Tgid};

use super::unknown::{UnknownProcesses, WhyUnknown};
use crate::args::ProcessArgs;
use crate::input::Examined;
use crate::query::miss_reason;
use crate::time_spec::local_time;
use crate::view::Range;

/// Maximum number of processes that are listed.
pub(super) const MAX_FOUND: usize = 10;
/// What a recorder writes in place of a redacted text.
const REDACTED: &[u8] = b"[redacted]";

/// A process that satisfies the conditions.
pub(super) struct FoundProcess {
    pub(super) life: Life,
    /// The program that satisfies them.
    pub(super) program: ProcessProgram,
    /// Wall-clock time of the exec, or of the start of the process.
    pub(super) real_ns: Option<i64>,
    pub(super) wall: WallClock,
}

/// A search for processes.
pub(super) struct Search {
    filter: LifeFilter,
    range: Filter,
    pub(super) tracker: LifeTracker,
    wall: WallClock,
    /// Times of the first and the last record.
    span: (Option<i64>, Option<i64>),
    now: MonoNs,
    /// What is missing within the range of time.
    pub(super) coverage: Coverage,
    /// Number of lost events that the recorder has noted at any time.
    pub(super) noted_losses: u64,
    /// Processes that ran in the range of time, and their execs.
    pub(super) processes: u64,
    pub(super) execs: u64,
    /// The first processes that satisfy the conditions, and the number of all.
    pub(super) found: Vec<FoundProcess>,
    pub(super) found_count: u64,
    /// Processes that may satisfy the conditions.
    pub(super) unknown: UnknownProcesses,
    /// Number of execs that were not examined.
    pub(super) omitted_execs: u64,
}

impl Search {
    /// Creates a search of a recording that begins with this header.
    pub(super) fn new(header: &Header, range: Range, args: &ProcessArgs) -> Self {
        let mut wall = WallClock::new();
        wall.observe(header.meta.start);
        let start = header.meta.start.mono;
        let range = Filter { since: range.since, until: range.until, ..Filter::default() };
        let mut coverage = Coverage::new();
        if let Some(since) = range.since
            && !(Filter { until: Some(since), ..Filter::default() }).matches_time(start, &wall)
        {
            coverage.add_at(GapReason::BeforeStart, (start, start), &wall);
        }
        Self {
            filter: args.life_filter(),
            range,
            tracker: LifeTracker::new(header).without_model_texts(),
            span: (wall.at(start), None),
            wall,
            now: start,
            coverage,
            noted_losses: 0,
            processes: 0,
            execs: 0,
            found: Vec::new(),
            found_count: 0,
            unknown: UnknownProcesses::default(),
            omitted_execs: 0,
        }
    }

    /// Examines the next item of the recording.
    pub(super) fn observe(&mut self, item: &Examined<'_>) {
        match item {
            Examined::Record(record) => self.observe_record(record),
            Examined::Segment(header, junction) => {
                if let Some(span) = junction.unobserved {
                    self.coverage.observe(&Record::Unobserved(span), &self.range, &self.wall);
                }
                self.tracker.begin_segment(*header, *junction);
                self.drain();
                if junction.is_reboot {
                    self.wall = WallClock::new();
                    self.now = MonoNs(0);
                }
                if let Some(header) = header {
                    self.wall.observe(header.meta.start);
                }
            }
        }
    }

    /// Examines the processes that were still running at the end.
    pub(super) fn finish(&mut self) {
        self.tracker.finish();
        self.drain();
        self.span.1 = self.wall.at(self.now);
        if let Some(until) = self.range.until
            && (Filter { until: Some(until), ..Filter::default() })
                .matches_time(MonoNs(self.now.0 + 1), &self.wall)
        {
            self.coverage.add_at(GapReason::AfterEnd, (self.now, self.now), &self.wall);
        }
    }

    /// Whether the range of time lasts to the end of the recording.
    pub(super) fn is_open_ended(&self) -> bool {
        self.range.until.is_none()
    }

    /// Returns the range of time, in words.
    pub(super) fn span(&self) -> String {
        let at = |real_ns: Option<i64>| real_ns.map_or_else(|| "an unknown time".into(), local_time);
        let (from, until) = self.real_span();
        format!("from {} to {}", at(from), at(until))
    }

    /// Returns the first and the last wall-clock time of the range.
    pub(super) fn real_span(&self) -> (Option<i64>, Option<i64>) {
        let bound = |bound, otherwise: Option<i64>| match bound {
            Some(pmon_analysis::TimeBound::Wall(real_ns)) => Some(real_ns),
            Some(pmon_analysis::TimeBound::Mono(mono)) => self.wall.at(mono),
            None => otherwise,
        };
        (bound(self.range.since, self.span.0), bound(self.range.until, self.span.1))
    }

    fn observe_record(&mut self, record: &Record<'_>) {
        match record {
            Record::Clock(anchor) => self.wall.observe(*anchor),
            Record::Loss(loss) => self.noted_losses = self.noted_losses.saturating_add(loss.count()),
            Record::End(end) => self.now = self.now.max(end.time),
            _ => {}
        }
        self.coverage.observe(record, &self.range, &self.wall);
        self.tracker.apply(record);
        self.now = self.now.max(self.tracker.now());
        if let Record::Event(datagram, _) = record
            && let Some(event) = datagram.event(self.tracker.order())
            && self.range.matches_time(event.time, &self.wall)
        {
            // A row has the last name and the last user only.
            match event.body {
                EventBody::Comm { task, comm }
                    if task.is_leader() && self.filter.process.comm.as_deref() == Some(comm.as_bytes()) =>
                {
                    self.check_now(task.tgid, event.time);
                }
                EventBody::Uid { task, .. } if !self.filter.process.uids.is_empty() => {
                    self.check_now(task.tgid, event.time);
                }
                _ => {}
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(life) = self.tracker.pop() {
            self.check(life);
        }
    }

    /// Examines a process as it is now, between its execs.
    fn check_now(&mut self, pid: Tgid, time: MonoNs) {
        let Some(life) = self.tracker.get(pid) else { return };
        if self.filter.has_id(&life) && self.decide(&life, &life.program, life.end) == Some(true) {
            let program = life.program.clone();
            self.add_found(life, program, Some(time));
        }
    }

    /// Examines a process that has ended, and all its programs.
    fn check(&mut self, life: Life) {
        let end = match life.end {
            LifeEnd::Running => MonoNs(u64::MAX),
            LifeEnd::Ended { time, .. } => time,
            LifeEnd::Unobserved { before, .. } => before,
        };
        let start = life.start.unwrap_or_default();
        if !self.range.matches_span(start, end, &self.wall) {
            return;
        }
        self.processes += 1;
        self.execs += life.execs.len() as u64 + u64::from(life.omitted_execs);
        if !self.filter.has_id(&life) {
            return;
        }
        self.omitted_execs += u64::from(life.omitted_execs);
        let runs: Vec<(Option<MonoNs>, ProcessProgram)> = match life.execs.is_empty() {
            true => vec![(life.start, life.program.clone())],
            false => life.execs.iter().map(|exec| (Some(exec.time), exec.program.clone())).collect(),
        };
        let mut unknown = None;
        for (at, (time, program)) in runs.iter().enumerate() {
            let next = runs.get(at + 1).and_then(|(time, _)| *time);
            if !self.range.matches_span(time.unwrap_or(start), next.unwrap_or(end), &self.wall) {
                continue;
            }
            let end = if next.is_some() { LifeEnd::Running } else { life.end };
            match self.decide(&life, program, end) {
                Some(true) => return self.add_found(life, program.clone(), *time),
                Some(false) => {}
                None => unknown = Some(self.why_unknown(&life, program)),
            }
        }
        if let Some(why) = unknown {
            self.unknown.add(why, &life);
        }
    }

    /// Returns why it is unknown whether a process satisfies the conditions with this program.
    fn why_unknown(&self, life: &Life, program: &ProcessProgram) -> WhyUnknown {
        let program = program.get();
        if life.start.is_none() && matches!(life.end, LifeEnd::Ended { .. }) {
            // A scan or the fork would have shown the start.
            return WhyUnknown::Early;
        }
        match (&program.args, program.miss) {
            (Some(args), _) if self.may_hide_match(program, args) => WhyUnknown::Partial,
            (_, Some(miss)) => WhyUnknown::Missed(miss_reason(miss)),
            (_, None) => WhyUnknown::Other,
        }
    }

    /// Returns whether a process satisfies the conditions with this program and end; `None` if that
    /// is unknown.
    fn decide(&self, life: &Life, program: &ProcessProgram, end: LifeEnd) -> Option<bool> {
        let program = program.get();
        let is_last = *program == *life.program.get();
        let comm = if is_last { life.comm() } else { program.comm.as_deref() };
        // The kernel's own threads have no executable and no arguments.
        let none = program.is_kernel_thread().then_some(&b""[..]);
        let args = program.args.as_deref().or(none).filter(|args| !self.may_hide_match(program, args));
        let view = ProcessView {
            comm,
            exe: program.exe.as_deref().or(none),
            args,
            cgroup: program.cgroup.as_deref(),
            container: program.container.as_deref(),
            uid: life.uid,
            age_ns: life.observed_ns(self.now),
            oom_killed: life.oom_killed(),
        };
        self.filter.process.decide(&view, Some(end))
    }

    /// Whether the part of a command line that is missing may satisfy the condition on it.
    fn may_hide_match(&self, program: &Program, args: &[u8]) -> bool {
        let Some(regex) = &self.filter.process.args else { return false };
        let is_partial =
            program.args_len.is_some() || args.windows(REDACTED.len()).any(|part| part == REDACTED);
        is_partial && !regex.is_match(&command_line(args))
    }

    fn add_found(&mut self, life: Life, program: ProcessProgram, time: Option<MonoNs>) {
        let known = self.found.iter().any(|found| found.life.id == life.id);
        if known {
            return;
        }
        self.found_count += 1;
        if self.found.len() < MAX_FOUND {
            let real_ns = time.and_then(|time| self.wall.at(time));
            self.found.push(FoundProcess { life, program, real_ns, wall: self.wall.clone() });
        }
    }
}
