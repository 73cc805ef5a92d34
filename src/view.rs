//! Converts records to output: joins details to events, follows processes, filters, renders.

use std::io::{self, Stdout, Write};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use pmon_analysis::filter::{ExitIndex, ProcessTree};
use pmon_analysis::{DetailsJoiner, Filter, OwnedRecord, ProcessTable, TimeBound, WallClock};
use pmon_core::capture::{Header, Junction, Record};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Tgid};
use pmon_record::{Sink, SinkError};

use crate::args::{ClockArg, FormatArg, SelectionArgs, ViewArgs};
use crate::output::{
    ClassicRenderer, CsvRenderer, JsonRenderer, Render, RenderContext, TextRenderer, printable,
};
use crate::selection::MatchTracker;
use crate::terminal::{self, counted};
use crate::time_spec::{brief, moment};

/// Number of rendered bytes after which they are written.
const CHUNK: usize = 1 << 16;

/// Time after the last record after which records are shown without the details they wait for.
const DETAILS_TIMEOUT: Duration = Duration::from_secs(1);

/// Renders records, in order, to `sink`.
pub(crate) struct View<W> {
    joiner: DetailsJoiner,
    processes: ProcessTable,
    /// Whether the renderer or the filter uses `processes`.
    follows: bool,
    wall: WallClock,
    start: Option<MonoNs>,
    filter: Filter,
    render: Box<dyn Render>,
    /// The events seen so far, compared with the filter.
    matches: MatchTracker,
    /// Describes what was recorded, if that was not everything.
    scope: Option<String>,
    /// Number of lost events, and blind and unobserved time in ns, for which the format has no
    /// line.
    unshown: (u64, u64, u64),
    out: Vec<u8>,
    sink: W,
}

impl<W: Write> View<W> {
    /// Creates a view of a capture with this header, if known, and datagrams in byte order `order`.
    pub(crate) fn new(
        args: &ViewArgs,
        clock: ClockArg,
        range: Range,
        header: Option<&Header>,
        order: ByteOrder,
        colours: bool,
        sink: W,
    ) -> Self {
        let render: Box<dyn Render> = match args.format {
            FormatArg::Text => Box::new(TextRenderer::new(clock, TimeZone::system(), colours)),
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
        // If the recorder observed which exits end a process, they need not be derived.
        let has_ends = header.is_some_and(|header| header.meta.transport.name == "ring+details");
        let follows =
            render.needs_processes() || filter.needs_processes() || render.shows_process_ends() && !has_ends;
        let mut wall = WallClock::new();
        if let Some(header) = header {
            wall.observe(header.meta.start);
        }
        let mut out = Vec::with_capacity(2 * CHUNK);
        render.begin(&mut out);
        Self {
            joiner: if joins { DetailsJoiner::new(order) } else { DetailsJoiner::passthrough(order) },
            processes: ProcessTable::new(),
            follows,
            wall,
            start: header.map(|header| header.meta.start.mono),
            matches: MatchTracker::new(&filter),
            filter,
            render,
            scope: None,
            unshown: (0, 0, 0),
            out,
            sink,
        }
    }

    /// Whether the renderer or the filter uses the details of processes.
    pub(crate) fn needs_details(&self) -> bool {
        self.render.needs_details() || self.filter.needs_details()
    }

    /// Adds later exits of the capture, which name the parents of processes whose forks it lacks.
    pub(crate) fn add_exits(&mut self, exits: ExitIndex) {
        if let Some(tree) = &mut self.filter.tree {
            tree.expect_missing_forks(exits);
        }
    }

    /// Renders the next record, or holds it back until its details arrive.
    pub(crate) fn record(&mut self, record: Record<'_>) -> io::Result<()> {
        if let Record::Scope(scope) = &record {
            self.scope = Some(scope.text.clone());
            self.add_exits(ExitIndex::default());
        }
        self.joiner.push(record);
        self.advance()
    }

    /// Continues with the next capture of the recording.
    pub(crate) fn begin_segment(&mut self, header: Option<&Header>, junction: Junction) -> io::Result<()> {
        let recorder = header.and_then(|header| header.meta.recorder());
        let hidden = self.filter.hide_self_generated;
        // The details of a recorder's execs are in its own captures.
        if junction.is_reboot || !junction.continues {
            self.release()?;
        }
        if junction.is_reboot {
            self.processes = ProcessTable::new();
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
            Some(span) => self.record(Record::Unobserved(span)),
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

    /// Reports losses and blind times on standard error at the end, if the format has no line for
    /// them.
    pub(crate) fn report_unshown(&self) {
        let (lost, blind_ns, unobserved_ns) = self.unshown;
        let lost = (lost > 0).then(|| format!("{} lost", counted(lost, "event")));
        let blind = (blind_ns > 0).then(|| format!("no events emitted for {}", brief(blind_ns)));
        let unobserved = (unobserved_ns > 0).then(|| format!("unobserved for {}", brief(unobserved_ns)));
        let unshown: Vec<_> = lost.into_iter().chain(blind).chain(unobserved).collect();
        if !unshown.is_empty() {
            let unshown = unshown.join(", and ");
            terminal::eprintln(format_args!("pmon: {unshown}; the classic format has no line for that"));
        }
        report_incomplete(self.processes.incomplete());
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
        while let Some(entry) = self.joiner.pop() {
            self.show(&entry);
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

    fn show(&mut self, entry: &OwnedRecord) {
        if self.follows {
            self.processes.apply(entry);
        }
        self.filter.observe(entry);
        if let OwnedRecord::Clock(anchor) = entry {
            self.wall.observe(*anchor);
        }
        let (processes, wall) = (&self.processes, &self.wall);
        let context =
            |start: Option<MonoNs>| RenderContext { processes, wall, start: start.unwrap_or_default() };
        match entry {
            OwnedRecord::Event(item) => {
                if self.start.is_none() {
                    self.start = item.event.map(|event| event.time);
                }
                let event = item.event.as_ref();
                event.iter().for_each(|event| self.matches.observe(event));
                if self.filter.matches(event, processes, wall) {
                    self.matches.matched += 1;
                    self.render.event(item, context(self.start), &mut self.out);
                } else if self.matches.matched == 0 {
                    self.matches.seen.observe(&self.filter, event, processes, wall);
                }
            }
            OwnedRecord::Loss(loss) if self.filter.matches_span(loss.after, loss.before, wall) => {
                let is_rendered = self.render.loss(loss, context(self.start), &mut self.out);
                let unshown = if is_rendered { 0 } else { loss.count() };
                self.unshown.0 = self.unshown.0.saturating_add(unshown);
            }
            OwnedRecord::Blind(blind) if self.filter.matches_span(blind.from, blind.until, wall) => {
                let is_rendered = self.render.blind(blind, context(self.start), &mut self.out);
                let unshown = if is_rendered { 0 } else { blind.length_ns() };
                self.unshown.1 = self.unshown.1.saturating_add(unshown);
            }
            OwnedRecord::Unobserved(span) if self.filter.matches_span(span.from, span.until, wall) => {
                let is_rendered = self.render.unobserved(span, context(self.start), &mut self.out);
                let unshown = if is_rendered { 0 } else { span.length_ns() };
                self.unshown.2 = self.unshown.2.saturating_add(unshown);
            }
            _ => {}
        }
    }
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
    SinkError::from_io("write to", "standard output".into(), None, error)
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
    use std::os::unix::ffi::OsStrExt as _;
    Filter {
        kinds: args.kind.clone(),
        pids: args.pid.clone(),
        tree: args.tree.map(|pid| ProcessTree::new(Tgid(pid))),
        name: args.comm.as_ref().map(|name| name.as_bytes().to_vec()),
        ..Filter::default()
    }
}
