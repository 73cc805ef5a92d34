//! Converts records to output: joins details to events, follows processes, filters, renders.

use std::collections::HashMap;
use std::io::{self, Stdout, Write};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use pmon_analysis::filter::{ExitIndex, ProcessTree};
use pmon_analysis::life::{LifeTracker, ProcessId};
use pmon_analysis::{DetailsJoiner, Filter, OwnedRecord, TimeBound, WallClock};
use pmon_core::capture::{Header, Junction, Meta, Record};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{MonoNs, Tgid};
use pmon_record::{KeptRecords, Sink, SinkError};

use crate::args::{FormatArg, SelectionArgs, ViewArgs};
use crate::exit::Failure;
use crate::input::ReadOutcome;
use crate::output::{
    ClassicRenderer, CsvRenderer, JsonRenderer, Render, RenderContext, TextRenderer, TextStyle, printable,
};
use crate::query::{QueryOutcome, RangeObserver};
use crate::read_ahead::Recycler;
use crate::selection::MatchTracker;
use crate::terminal::{self, counted};
use crate::time_spec::moment;
use crate::users::UserNames;

/// Number of rendered bytes after which they are written.
const CHUNK: usize = 1 << 16;

/// Time after the last record after which records are shown without the details they wait for.
pub(crate) const DETAILS_TIMEOUT: Duration = Duration::from_secs(1);

/// Renders records, in order, to `sink`.
pub(crate) struct View<W> {
    joiner: DetailsJoiner,
    /// The processes, if the renderer or the filter needs them.
    processes: Option<LifeTracker>,
    wall: WallClock,
    start: Option<MonoNs>,
    filter: Filter,
    render: Box<dyn Render>,
    /// The events seen so far, compared with the filter.
    matches: MatchTracker,
    observer: RangeObserver,
    /// Describes what was recorded, if that was not everything.
    scope: Option<String>,
    /// Takes back the memory of records.
    recycler: Option<Recycler>,
    out: Vec<u8>,
    sink: W,
}

impl<W: Write> View<W> {
    /// Creates a view of a capture with this header, if known, and datagrams in byte order `order`.
    pub(crate) fn new(
        args: &ViewArgs,
        style: TextStyle,
        range: Range,
        header: Option<&Header>,
        order: ByteOrder,
        sink: W,
    ) -> Self {
        let render: Box<dyn Render> = match args.format {
            FormatArg::Text => {
                Box::new(TextRenderer::new(style, TimeZone::system()).with_users(UserNames::of(header)))
            }
            FormatArg::Classic => Box::new(ClassicRenderer),
            FormatArg::Json => Box::new(JsonRenderer::new()),
            FormatArg::Csv => Box::new(CsvRenderer::new()),
        };
        Self::with_renderer(render, filter(args, range, header), header, order, sink)
    }

    /// Creates a view with this renderer and filter.
    pub(crate) fn with_renderer(
        mut render: Box<dyn Render>,
        filter: Filter,
        header: Option<&Header>,
        order: ByteOrder,
        sink: W,
    ) -> Self {
        let joins = render.needs_details() || filter.needs_details();
        let needs_processes = render.needs_processes() || filter.needs_processes();
        let tracker = || {
            let unknown = || Header { uuid: [0; 16], byte_order: order, meta: Meta::default() };
            let mut tracker = header.map_or_else(|| LifeTracker::new(&unknown()), LifeTracker::new);
            // Processes that have ended were shown at their exits.
            tracker.omit_rows();
            // Only the filter examines the texts of the model.
            if filter.process.is_empty() { tracker.without_model_texts() } else { tracker }
        };
        let mut wall = WallClock::new();
        if let Some(header) = header {
            wall.observe(header.meta.start);
        }
        let observer = RangeObserver::new(header, order, &filter);
        let mut out = Vec::with_capacity(2 * CHUNK);
        render.begin(&mut out);
        Self {
            joiner: if joins { DetailsJoiner::new(order) } else { DetailsJoiner::passthrough(order) },
            processes: needs_processes.then(tracker),
            wall,
            start: header.map(|header| header.meta.start.mono),
            observer,
            matches: MatchTracker::new(&filter),
            filter,
            render,
            scope: None,
            recycler: None,
            out,
            sink,
        }
    }

    /// Passes the memory of records to `recycler` once they were rendered.
    pub(crate) fn recycle(&mut self, recycler: Recycler) {
        self.recycler = Some(recycler);
    }

    /// Whether the renderer or the filter uses the details of processes.
    pub(crate) fn needs_details(&self) -> bool {
        self.render.needs_details() || self.filter.needs_details()
    }

    /// Sets the start times that the scan at the start of the recording will find, if the view
    /// identifies processes.
    pub(crate) fn expect_scan(
        &mut self,
        starts: impl FnOnce() -> Result<HashMap<Tgid, u64>, Failure>,
    ) -> Result<(), Failure> {
        if let Some(processes) = &mut self.processes {
            processes.expect_scan(starts()?);
        }
        Ok(())
    }

    /// Adds later exits of the capture, which name the parents of processes whose forks it lacks.
    pub(crate) fn add_exits(&mut self, exits: ExitIndex) {
        if let Some(tree) = &mut self.filter.tree {
            tree.expect_missing_forks(exits);
        }
    }

    /// Renders the next record, or holds it back until its details arrive.
    pub(crate) fn record(&mut self, record: Record<'_>) -> io::Result<()> {
        self.observer.record(&record);
        self.apply_record(record)
    }

    /// Notes a damaged part of the capture.
    pub(crate) fn damage(&mut self) {
        self.observer.damage();
    }

    fn apply_record(&mut self, record: Record<'_>) -> io::Result<()> {
        if let Record::Scope(scope) = &record {
            self.scope = Some(scope.text.clone());
            self.add_exits(ExitIndex::default());
        }
        self.joiner.push(record);
        self.advance()
    }

    /// Continues with the next capture of the recording.
    pub(crate) fn begin_segment(&mut self, header: Option<&Header>, junction: Junction) -> io::Result<()> {
        self.observer.begin_segment(header, junction);
        let recorder = header.and_then(|header| header.meta.recorder());
        let hidden = self.filter.hide_self_generated;
        // The details of a recorder's execs are in its own captures.
        if junction.is_reboot || !junction.continues {
            self.release()?;
        }
        if let Some(processes) = &mut self.processes {
            // The unobserved time is a record, which waits for the records before it.
            processes.begin_segment(header, Junction { unobserved: None, ..junction });
        }
        if junction.is_reboot {
            self.wall = WallClock::new();
        }
        if hidden.is_some() && recorder.is_some() && hidden != recorder {
            self.release()?;
            self.filter.hide_self_generated = recorder;
        }
        if let Some(header) = header {
            self.wall.observe(header.meta.start);
        }
        match junction.unobserved {
            Some(span) => self.apply_record(Record::Unobserved(span)),
            None => Ok(()),
        }
    }

    /// Renders the records that are held back, without details.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        self.joiner.release();
        self.advance()
    }

    /// Formats the time of an event.
    pub(crate) fn moment(&self, time: MonoNs) -> String {
        moment(&self.wall, time)
    }

    /// Returns what the range of time lacks, after everything was read. `recorder` is the process
    /// that is still recording.
    pub(crate) fn into_outcome(self, read: ReadOutcome, recorder: Option<u32>) -> QueryOutcome {
        let mut outcome = self.observer.outcome(read, recorder);
        outcome.incomplete = self.processes.as_ref().map_or(0, LifeTracker::incomplete);
        // Each exec states whether its details were missed. They matter here if they decide what is
        // shown.
        if !self.filter.process.needs_properties() {
            outcome.missed_execs = 0;
        }
        outcome
    }

    /// Explains why no event is shown, or none of a requested process.
    pub(crate) fn unmatched(&self) -> Option<String> {
        let scope = self.scope.as_deref().map(|scope| printable(scope.as_bytes()));
        self.matches.explain(&self.filter, &self.wall, scope.as_deref())
    }

    /// Describes what is uncertain about the requested tree, if anything.
    pub(crate) fn uncertainty(&self) -> Option<String> {
        let tree = self.filter.tree.as_ref()?;
        let processes = match tree.uncertain() {
            0 => return None,
            1 => "1 process".into(),
            count => format!("{count} processes"),
        };
        Some(format!("the tree may lack {processes}, because not all forks were recorded"))
    }

    /// Writes the rendered records.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write()?;
        self.sink.flush()
    }

    fn advance(&mut self) -> io::Result<()> {
        while let Some(mut entry) = self.joiner.pop() {
            self.apply(&mut entry);
            self.show(&entry);
            if let Some(recycler) = &mut self.recycler {
                recycler.take_entry(entry);
            }
            if self.out.len() >= CHUNK {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let result = self.sink.write_all(&self.out);
        self.out.clear();
        result
    }

    /// Applies the next record to the processes.
    fn apply(&mut self, entry: &mut OwnedRecord) {
        if let Some(processes) = &mut self.processes {
            entry.visit(|record| processes.apply(record));
        }
    }

    fn show(&mut self, entry: &OwnedRecord) {
        self.filter.observe(entry);
        if let OwnedRecord::Clock(anchor) = entry {
            self.wall.observe(*anchor);
        }
        let wall = &self.wall;
        let context = |start: Option<MonoNs>| RenderContext::of_clock(wall, start.unwrap_or_default());
        match entry {
            OwnedRecord::Event(item) => {
                if self.start.is_none() {
                    self.start = item.event.map(|event| event.time);
                }
                let event = item.event.as_ref();
                event.iter().for_each(|event| self.matches.observe(event));
                if self.filter.matches(event, &self.processes, wall) {
                    self.matches.matched += 1;
                    let (pid, child) =
                        event.map(|event| note(&mut self.processes, event)).unwrap_or_default();
                    let processes = self.processes.as_ref();
                    let life = pid.and_then(|pid| processes?.last_life(pid));
                    let context = RenderContext { processes, life, child, ..context(self.start) };
                    self.render.event(item, context, &mut self.out);
                } else if self.matches.matched == 0 {
                    self.matches.seen.observe(&self.filter, event, &self.processes, wall);
                }
            }
            // `into_outcome` states gaps for which the format has no line.
            OwnedRecord::Loss(loss) if self.filter.matches_span(loss.after, loss.before, wall) => {
                self.render.loss(loss, context(self.start), &mut self.out);
            }
            OwnedRecord::Blind(blind) if self.filter.matches_span(blind.from, blind.until, wall) => {
                self.render.blind(blind, context(self.start), &mut self.out);
            }
            OwnedRecord::Unobserved(span) if self.filter.matches_span(span.from, span.until, wall) => {
                self.render.unobserved(span, context(self.start), &mut self.out);
            }
            _ => {}
        }
    }
}

/// Notes the process of an event. Returns its ID, and the identity of the process that it starts.
fn note(processes: &mut Option<LifeTracker>, event: &Event) -> (Option<Tgid>, Option<ProcessId>) {
    let Some(processes) = processes else { return (None, None) };
    let (pid, child) = match event.body {
        EventBody::Fork { parent, child } => (Some(parent.tgid), Some(child.tgid)),
        _ => (event.task().map(|task| task.tgid), None),
    };
    pid.iter().for_each(|&pid| processes.note(pid));
    (pid, child.and_then(|child| processes.process_id(child)))
}

/// A sink that shows records on standard output as they arrive.
pub(crate) struct ViewSink {
    pub(crate) view: View<Stdout>,
    /// The time of the last record.
    last: Instant,
}

impl ViewSink {
    /// Creates a sink that shows records with `view`.
    pub(crate) fn new(view: View<Stdout>) -> Self {
        Self { view, last: Instant::now() }
    }
}

impl Sink for ViewSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.last = Instant::now();
        self.view.record(record.clone()).map_err(write_error)
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>, SinkError> {
        let release_at = self.last + DETAILS_TIMEOUT;
        if now >= release_at {
            self.view.release().map_err(write_error)?;
        }
        self.view.flush().map_err(write_error)?;
        Ok((now < release_at).then_some(release_at))
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.view.release().and_then(|()| self.view.flush()).map_err(write_error)
    }
}

fn write_error(error: io::Error) -> SinkError {
    SinkError::from_io("write to", "standard output".into(), KeptRecords::PassedOn, error)
}

/// Reports how often a detail of a process did not fit into the process table.
pub(crate) fn report_incomplete(incomplete: u64) {
    if incomplete > 0 {
        let times = counted(incomplete, "time");
        terminal::eprintln(format_args!(
            "pmon: too many processes to keep in memory: {times}, a detail of a process is not shown"
        ));
    }
}

/// A range of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    /// The first time of the range.
    pub(crate) since: Option<TimeBound>,
    /// The last time of the range.
    pub(crate) until: Option<TimeBound>,
}

/// Returns the filter for the events that are shown.
pub(crate) fn filter(args: &ViewArgs, range: Range, header: Option<&Header>) -> Filter {
    Filter {
        since: range.since,
        until: range.until,
        hide_threads: args.format == FormatArg::Text && !args.threads,
        hide_self_generated: header.and_then(|header| header.meta.recorder()).filter(|_| !args.own),
        ..selection_filter(&args.selection)
    }
}

/// Returns a filter for the selected events, at any time.
pub(crate) fn selection_filter(args: &SelectionArgs) -> Filter {
    Filter {
        kinds: args.kind.clone(),
        pids: args.process.pid.clone(),
        tree: args.process.tree.map(|pid| ProcessTree::new(Tgid(pid))),
        process: args.process.condition(),
        ..Filter::default()
    }
}
