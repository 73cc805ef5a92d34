//! Turns received datagrams and details into records, in order, with a record for each loss.
//!
//! The assembler uses no thread and no clock: every time is an argument, so a simulator can drive
//! it.

mod details;
mod divide;
mod loss;
mod settings;

use std::collections::VecDeque;

use pmon_core::MonoNs;
use pmon_core::accounting::{Accountant, Continuity, LossLedger};
use pmon_core::batch::{Datagram, SLOT_LEN};
use pmon_core::capture::{
    Blind, Details, End, ForkCount, Record, RecordedDatagram, ScopeInfo, SelfGenerated, SignalOrigin,
    SnapshotReason, Usage, Witness,
};
use pmon_core::wire::{Event, EventBody, Message, messages};

use crate::details::containers::ContainerLookup;
use crate::details::exec::Exec;
use crate::details::redact::Redact;
use crate::details::settle::DetailsSettler;
use crate::liveness::fork_witness::ForkWitness;
use crate::liveness::monitor::LivenessMonitor;
use crate::options::RecordOptions;
use crate::pipeline::chunk::Chunk;
use crate::sink::{Sink, SinkError};
use crate::transport::ring::entry::{self, EventMetadata, Units};

use details::{is_too_long, redacted};
use divide::{EndingSegment, PendingDivision, SegmentStart};
use loss::PartialForks;
pub(crate) use loss::RecoveryRequest;
pub use settings::{AssemblerCounters, AssemblerSettings};

pub use crate::liveness::checkpoint::{Checkpoint, DivisionFence, Heartbeat};

/// Minimum time between two records of the loss counts, in ns of event time.
const WITNESS_INTERVAL: u64 = 1_000_000_000;

/// Turns chunks and details into records, in order, and passes them to a sink.
#[derive(Debug)]
pub struct Assembler<S> {
    sink: S,
    settings: AssemblerSettings,
    accountant: Accountant,
    ledger: LossLedger,
    counters: AssemblerCounters,
    /// The latest time of an event.
    last_time: MonoNs,
    liveness: LivenessMonitor,
    forks: ForkWitness,
    /// Readings of the count of forks whose earlier events may not all have been received yet, with
    /// their checkpoint and whether they followed a fence.
    readings: VecDeque<(u64, ForkCount, bool)>,
    /// The fork events and readings if only a part of the events is recorded.
    partial_forks: Option<PartialForks>,
    /// Every event that was emitted before this checkpoint has been received or lost.
    completed_checkpoints: u64,
    /// The most recent `Blind` records.
    blinds: VecDeque<Blind>,
    request: Option<RecoveryRequest>,
    /// Whether the source reported an overrun and has not been empty since.
    has_overrun: bool,
    /// Time of the last check whether loss counts must be recorded.
    witness_checked_at: MonoNs,
    /// The loss counts that were recorded last.
    witness: Witness,
    snapshot_reason: Option<SnapshotReason>,
    /// Holds details until they are certain. `None` if no details are recorded.
    settler: Option<DetailsSettler>,
    units: Units,
    /// Memory for the next usage.
    spare_usage: Option<Box<Usage>>,
    args_max: usize,
    /// Maximum number of argument bytes that are read, so that redaction comes before truncation.
    args_read: usize,
    redact: Option<Box<Redact>>,
    /// Finds the names of containers.
    containers: Option<ContainerLookup>,
    /// The scope, if only a part of the events is recorded.
    scope: Option<ScopeInfo>,
    /// Whether the scope has been recorded in this segment, if there is one.
    has_recorded_scope: bool,
    /// The number of excluded events of each CPU that was recorded last.
    excluded: Vec<u64>,
    /// Number of datagrams that the source dropped before the recording began; `None` until the
    /// first count if it is unknown.
    drops_before: Option<u64>,
    /// Whether the source is known to count its drops.
    counts_drops: bool,
    /// Whether the recording continues an earlier one that ended with an unknown count of drops.
    is_resumed_without_drops: bool,
    segment: SegmentStart,
    /// The division that is being prepared.
    division: Option<PendingDivision>,
    /// The previous segment, while it awaits details.
    ending: Option<EndingSegment>,
}

impl<S: Sink> Assembler<S> {
    /// Creates an assembler at the start of a recording.
    pub fn new(sink: S, settings: AssemblerSettings) -> Self {
        Self {
            sink,
            settings,
            accountant: Accountant::new(),
            ledger: LossLedger::new(settings.drop_cause),
            counters: AssemblerCounters::default(),
            last_time: MonoNs(0),
            liveness: LivenessMonitor::default(),
            forks: ForkWitness::default(),
            readings: VecDeque::new(),
            partial_forks: None,
            completed_checkpoints: 0,
            blinds: VecDeque::new(),
            request: None,
            has_overrun: false,
            witness_checked_at: MonoNs(0),
            witness: Witness::default(),
            snapshot_reason: None,
            settler: settings.details.then(DetailsSettler::default),
            units: Units::new(),
            spare_usage: None,
            args_max: usize::MAX,
            args_read: usize::MAX,
            redact: None,
            containers: None,
            scope: None,
            has_recorded_scope: false,
            excluded: Vec::new(),
            drops_before: Some(settings.drops_before),
            counts_drops: false,
            is_resumed_without_drops: false,
            segment: SegmentStart::default(),
            division: None,
            ending: None,
        }
    }

    /// Applies the limits, the redaction and the scope of `options`.
    pub(crate) fn with_options(self, options: &RecordOptions) -> Self {
        let RecordOptions { args_max, redact, scope, containers, .. } = options.clone();
        let args_read = options.args_read();
        let scope = (!scope.is_all()).then(|| ScopeInfo { text: scope.to_string() });
        let redact = redact.map(Box::new);
        let partial_forks = scope.is_some().then(PartialForks::default);
        let containers = containers.filter(|_| options.details).map(ContainerLookup::new);
        Self { args_max, args_read, redact, containers, scope, partial_forks, ..self }
    }

    /// Returns the counters as of now.
    pub fn counters(&self) -> AssemblerCounters {
        self.counters
    }

    /// Returns the sink.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Consumes the assembler and returns the sink.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// Returns why `/proc` should be scanned, if there is a new reason.
    pub fn take_snapshot_reason(&mut self) -> Option<SnapshotReason> {
        self.snapshot_reason.take()
    }

    /// Records the events of the next chunk, and the losses that it reveals.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn add_chunk(&mut self, chunk: &Chunk) -> Result<(), SinkError> {
        self.sink.received_at(chunk.received_at);
        if !self.has_recorded_scope {
            self.record_scope()?;
        }
        if !chunk.dropped.is_empty() {
            self.add_dropped(&chunk.dropped);
        }
        self.counters.overruns += chunk.overruns;
        let has_dropped_more = self.set_drops(chunk.drops);
        self.has_overrun |= has_dropped_more || chunk.overruns > 0;
        let mut busy = chunk.busy.iter().peekable();
        for (index, datagram) in chunk.batch.datagrams().enumerate() {
            let busy = busy.next_if(|&&busy| busy as usize == index).is_some();
            self.add_datagram(datagram, busy)?;
        }
        if chunk.checkpoints > self.completed_checkpoints {
            self.completed_checkpoints = chunk.checkpoints;
            if self.liveness.complete(chunk.checkpoints) {
                self.request = Some(RecoveryRequest::Resubscribe);
            }
        }
        self.compare_forks()?;
        if let Some(time) = chunk.drained_at {
            self.set_drained(time)?;
        }
        if let Some(fence) = &chunk.fence {
            self.sink.record(&Record::Fence(fence.clone()))?;
        }
        if let Some(counts) = &chunk.ring {
            self.record_ring(counts)?;
        }
        self.advance(self.last_time)
    }

    /// Records a complete record, after redaction.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        if let Record::Details(details) = record
            && let Some(container) = self.container_of(details)
        {
            let details = Details { container: Some(container), ..(**details).clone() };
            return self.record_details(Box::new(details), false);
        }
        match (record, &self.redact) {
            (Record::Details(details), None) if !is_too_long(details) => {
                self.counters.details_missed += u64::from(details.miss.is_some());
                self.sink.record(record)
            }
            (Record::Details(details), _) => self.record_details(details.clone(), false),
            (Record::Scope(ScopeInfo { text }), Some(redact)) => {
                let mut text = text.clone();
                redact.string(&mut text);
                self.sink.record(&Record::Scope(ScopeInfo { text }))
            }
            _ => self.sink.record(record),
        }
    }

    /// Ends the recording at `time`, or at its last event if that is later: records what is still
    /// pending and the totals, and finishes the sink. Returns the totals of the last segment.
    ///
    /// The recording is observed until then, so every event before `time` must have been added.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(&mut self, time: MonoNs) -> Result<End, SinkError> {
        let time = time.max(self.last_time);
        for gap in self.accountant.finish() {
            self.add_gap(gap)?;
        }
        if let Some(blind) = self.liveness.finish(time) {
            self.add_silence(blind)?;
        }
        self.compare_forks()?;
        self.compare_partial_forks()?;
        self.record_settled()?;
        self.end_previous_segment()?;
        self.record_unsettled()?;
        self.record_excluded()?;
        self.record_witness(time)?;
        if self.sink.has_segments() {
            self.sink.record(&Record::Positions(self.positions(time)))?;
        }
        let end = self.segment_end(time, self.counters.drops);
        self.sink.record(&Record::End(end))?;
        self.sink.finish()?;
        Ok(end)
    }

    fn add_datagram(&mut self, datagram: Datagram<'_>, busy: bool) -> Result<(), SinkError> {
        // Only the kernel sends from port 0. Datagrams from other ports are forged.
        if datagram.arrival.sender != 0 {
            self.counters.rejected += 1;
            return Ok(());
        }
        let order = self.settings.order;
        let recorded = RecordedDatagram::new(datagram.bytes, order);
        let event = recorded.event(order);
        if event.is_some_and(|event| event.time < self.settings.since && !self.accountant.has_seen(event.cpu))
        {
            return Ok(());
        }
        let excluded = entry::excluded(&datagram);
        match &recorded {
            RecordedDatagram::Event(event) => self.account(event, excluded)?,
            RecordedDatagram::Raw(bytes) => {
                for message in messages(bytes, order) {
                    if let Ok(Message::Event(event)) = message {
                        self.account(&event, excluded)?;
                    }
                }
                let is_malformed = datagram.is_truncated() || recorded.is_malformed(order);
                self.counters.malformed += u64::from(is_malformed);
            }
        }
        self.counters.events += 1;
        let exec = match event {
            Some(Event { body: EventBody::Exec { task }, time, .. }) => Some(Exec { tgid: task.tgid, time }),
            _ => None,
        };
        let (usage, details) =
            match EventMetadata::read(datagram.metadata, exec.map(Exec::subject), self.units) {
                Some(EventMetadata::Usage(usage)) if is_exit(&recorded) => {
                    let mut memory = self.spare_usage.take().unwrap_or_default();
                    *memory = usage;
                    if let (Some(redact), SignalOrigin::Process { sender, .. }) =
                        (&self.redact, &mut memory.fatal_signal.origin)
                    {
                        redact.comm(&mut sender.comm);
                    }
                    (Some(memory), None)
                }
                Some(EventMetadata::Details(details)) => (None, Some(details)),
                _ => (None, None),
            };
        let mut bytes = [0; SLOT_LEN];
        let recorded = match &self.redact {
            Some(redact) => redacted(redact, recorded, &mut bytes, &self.settings),
            None => recorded,
        };
        let record = Record::Event(recorded, usage);
        self.sink.record(&record)?;
        if let Record::Event(_, Some(usage)) = record {
            self.spare_usage = Some(usage);
        }
        if let Some(event) = event {
            let self_generated = SelfGenerated::of(&event, self.settings.recorder);
            self.counters.self_generated += u64::from(self_generated.is_some());
        }
        exec.map_or(Ok(()), |exec| self.add_exec(exec, busy, details))
    }

    /// Accounts for an event's sequence number, and records the losses and blind times that it
    /// reveals.
    fn account(&mut self, event: &Event, excluded: u32) -> Result<(), SinkError> {
        match event.body {
            EventBody::Fork { .. } => match &mut self.partial_forks {
                Some(partial) => partial.events += 1,
                None if self.settings.forks => self.forks.add_fork(event.time),
                None => {}
            },
            EventBody::Comm { .. }
                if SelfGenerated::of(event, self.settings.recorder) == Some(SelfGenerated::Heartbeat) =>
            {
                self.liveness.add_received(event.time);
            }
            _ => {}
        }
        if let Continuity::Gap(gap) = self.accountant.observe(event, excluded) {
            self.add_gap(gap)?;
        }
        if self.liveness.is_waiting() {
            while let Some(blind) = self.liveness.add_event(event.cpu, event.time) {
                self.add_silence(blind)?;
            }
        }
        self.last_time = self.last_time.max(event.time);
        Ok(())
    }

    /// Records the scope, if only a part of the events is recorded.
    fn record_scope(&mut self) -> Result<(), SinkError> {
        self.has_recorded_scope = true;
        let scope = self.scope.clone();
        scope.map_or(Ok(()), |scope| self.record(&Record::Scope(scope)))
    }

    /// Handles that all events up to `time` have been received.
    fn set_drained(&mut self, time: MonoNs) -> Result<(), SinkError> {
        if std::mem::take(&mut self.has_overrun) {
            // The source reports an overrun before it delivers the events that were queued then.
            // These have been received now.
            self.invalidate_details();
        }
        if let Some(settler) = &mut self.settler {
            settler.advance(time);
        }
        if time.0.saturating_sub(self.witness_checked_at.0) >= WITNESS_INTERVAL {
            self.witness_checked_at = time;
            self.record_excluded()?;
            self.record_witness(time)?;
        }
        self.record_settled()?;
        self.advance(time)
    }
}

/// Whether a usage can be recorded with this datagram.
fn is_exit(datagram: &RecordedDatagram<'_>) -> bool {
    matches!(datagram, RecordedDatagram::Event(Event { body: EventBody::Exit { .. }, .. }))
}

#[cfg(test)]
mod tests;
