//! The heart of the recorder, without threads and clocks: puts datagrams, losses and details in order.
//!
//! A simulator can drive it: every time is an argument.

mod blind;
mod texts;

use std::collections::VecDeque;

use pmon_core::accounting::{Accountant, Continuity, Gap, LossByCause, LossCause, LossLedger};
use pmon_core::batch::{self, SLOT_LEN};
use pmon_core::capture::{
    Blind, Details, DetailsSubject, End, Excluded, Fence, ForkCount, Loss, MissReason, Record,
    RecordedDatagram, RingCounts, ScopeInfo, SelfGenerated, SnapshotReason, Usage, Witness,
};
use pmon_core::wire::{ByteOrder, Event, EventBody, Message, messages};
use pmon_core::{MonoNs, Tgid};

use crate::details::exec::{Exec, ExecDetails};
use crate::details::redact::Redact;
use crate::details::settle::DetailsSettler;
use crate::liveness::fork_witness::ForkWitness;
use crate::liveness::monitor::LivenessMonitor;
use crate::options::RecordOptions;
use crate::pipeline::chunk::{Chunk, Dropped};
use crate::sink::{Sink, SinkError};
use crate::transport::ring::entry::{self, More, Units};

use blind::Part;
pub(crate) use blind::RecoveryRequest;
use texts::{fit, is_too_long, redacted};

pub use crate::liveness::checkpoint::{Checkpoint, Heartbeat};

/// While the counts of losses change, they are recorded this often, in ns of event time.
const WITNESS_EVERY: u64 = 1_000_000_000;

/// What has been counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AssemblerCounters {
    /// Datagrams recorded.
    pub events: u64,
    /// Those of them that the recorder itself caused: fences and heartbeats.
    pub self_generated: u64,
    /// Events lost, over all `Loss` records.
    pub lost: LossByCause,
    /// Gaps in the numbers, each of one or more events lost in a row.
    pub gaps: u64,
    /// Datagrams not recorded because user space sent them.
    pub rejected: u64,
    /// Datagrams without a readable event, or cut: see [`End::malformed`].
    pub malformed: u64,
    /// Overruns that the source reported: each stands for any number of lost events.
    pub overruns: u64,
    /// Datagrams that the source has dropped, by its own count; `None` if it does not count.
    pub drops: Option<u64>,
    /// Total time in ns of all `Blind` records, in which the kernel did not emit all events.
    pub blind_ns: u64,
    /// `Blind` records.
    pub blind_records: u64,
    /// Details recorded of which something is missing.
    pub details_missed: u64,
}

/// Whose recording it is, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssemblerSettings {
    /// The byte order of the datagrams.
    pub order: ByteOrder,
    /// The recorder's process, whose fences and heartbeats are not counted as the host's.
    pub recorder: Tgid,
    /// Whether details are wanted after each exec.
    pub details: bool,
    /// What the source had dropped before the recording began.
    pub drops_before: u64,
    /// When that was counted, at the latest. The first event of a CPU that is recorded did not happen before: what is missing
    /// behind it was dropped after that count.
    pub since: MonoNs,
    /// Why the source drops what it counts.
    pub drop_cause: LossCause,
    /// Whether the heartbeat thread will read the count of forks.
    pub forks: bool,
}

impl AssemblerSettings {
    /// The recording of the process `recorder`, without details, from a socket that has dropped nothing before.
    pub fn new(order: ByteOrder, recorder: Tgid) -> Self {
        Self {
            order,
            recorder,
            details: false,
            drops_before: 0,
            since: MonoNs(0),
            drop_cause: LossCause::Socket,
            forks: false,
        }
    }
}

/// Turns chunks and results into records, in order, and gives them to a sink.
#[derive(Debug)]
pub struct Assembler<S> {
    sink: S,
    setup: AssemblerSettings,
    accountant: Accountant,
    ledger: LossLedger,
    counts: AssemblerCounters,
    /// The latest time of an event.
    last: MonoNs,
    liveness: LivenessMonitor,
    forks: ForkWitness,
    /// Readings of the count of forks whose earlier events may not all have been received yet.
    readings: VecDeque<(u64, ForkCount, bool)>,
    /// The fork events and readings of a recording of only a part of the events.
    part: Option<Part>,
    /// Every event that was emitted before this checkpoint has been received or lost.
    received: u64,
    /// The most recent `Blind` record.
    last_blind: Option<Blind>,
    request: Option<RecoveryRequest>,
    /// The source has reported an overrun, and not been empty since.
    overrun: bool,
    /// Time of the last check whether counts must be recorded.
    counted_at: MonoNs,
    /// The counts that were recorded last.
    witnessed: Witness,
    rescan: Option<SnapshotReason>,
    /// `None` where details are not wanted.
    pending: Option<DetailsSettler>,
    units: Units,
    /// Memory for the next usage.
    spare: Option<Box<Usage>>,
    args_max: usize,
    /// Maximum number of argument bytes that are read, so that redaction comes before truncation.
    args_read: usize,
    redact: Option<Box<Redact>>,
    /// What is recorded, if that is not everything, until it has been said.
    scope: Option<ScopeInfo>,
    /// How many events of each CPU were left out when that was recorded last.
    excluded: Vec<u64>,
}

impl<S: Sink> Assembler<S> {
    /// An assembler at the start of a recording.
    pub fn new(sink: S, setup: AssemblerSettings) -> Self {
        Self {
            sink,
            setup,
            accountant: Accountant::new(),
            ledger: LossLedger::new(setup.drop_cause),
            counts: AssemblerCounters::default(),
            last: MonoNs(0),
            liveness: LivenessMonitor::default(),
            forks: ForkWitness::default(),
            readings: VecDeque::new(),
            part: None,
            received: 0,
            last_blind: None,
            request: None,
            overrun: false,
            counted_at: MonoNs(0),
            witnessed: Witness::default(),
            rescan: None,
            pending: setup.details.then(DetailsSettler::default),
            units: Units::new(),
            spare: None,
            args_max: usize::MAX,
            args_read: usize::MAX,
            redact: None,
            scope: None,
            excluded: Vec::new(),
        }
    }

    /// Creates an assembler that records according to `options`.
    pub(crate) fn with_options(self, options: &RecordOptions) -> Self {
        let RecordOptions { args_max, redact, scope, .. } = options.clone();
        let args_read = options.args_read();
        let scope = (!scope.is_all()).then(|| ScopeInfo { text: scope.to_string() });
        let redact = redact.map(Box::new);
        let part = scope.is_some().then(Part::default);
        Self { args_max, args_read, redact, scope, part, ..self }
    }

    /// What has been counted so far.
    pub fn counters(&self) -> AssemblerCounters {
        self.counts
    }

    /// The sink.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// The sink, for good.
    pub fn into_sink(self) -> S {
        self.sink
    }

    /// Why `/proc` should be scanned, if something new has happened that is a reason.
    pub fn take_snapshot_reason(&mut self) -> Option<SnapshotReason> {
        self.rescan.take()
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn add_chunk(&mut self, chunk: &Chunk) -> Result<(), SinkError> {
        self.sink.received_at(chunk.received_at);
        if let Some(scope) = self.scope.take() {
            self.record(&Record::Scope(scope))?;
        }
        if !chunk.dropped.is_empty() {
            self.drop(&chunk.dropped);
        }
        self.counts.overruns += chunk.overruns;
        let has_dropped_more = self.witness(chunk.drops);
        self.overrun |= has_dropped_more || chunk.overruns > 0;
        let mut busy = chunk.busy.iter().peekable();
        for (at, frame) in chunk.batch.datagrams().enumerate() {
            let busy = busy.next_if(|&&busy| busy as usize == at).is_some();
            self.frame(frame, busy)?;
        }
        if chunk.checkpoints > self.received {
            self.received = chunk.checkpoints;
            if self.liveness.received(chunk.checkpoints) {
                self.request = Some(RecoveryRequest::Resubscribe);
            }
        }
        self.compare_forks()?;
        if let Some(time) = chunk.drained_at {
            self.drained(time)?;
        }
        if let Some(fence) = &chunk.fence {
            self.fence(fence)?;
        }
        if let Some(cpus) = &chunk.ring {
            let counts = RingCounts { time: self.last, cpus: cpus.clone() };
            self.sink.record(&Record::Ring(counts))?;
        }
        Ok(())
    }

    /// Records a complete record, after redaction.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        match (record, &self.redact) {
            (Record::Details(details), None) if !is_too_long(details) => {
                self.counts.details_missed += u64::from(details.miss.is_some());
                self.sink.record(record)
            }
            (Record::Details(details), _) => self.process(details.clone()),
            (Record::Scope(ScopeInfo { text }), Some(redact)) => {
                let mut text = text.clone();
                redact.string(&mut text);
                self.sink.record(&Record::Scope(ScopeInfo { text }))
            }
            _ => self.sink.record(record),
        }
    }

    /// Redacts, then truncates, the details of a process, so no part of a secret stays at the cut.
    /// Names and arguments that a process sets are never too long for a capture afterwards.
    fn process(&mut self, mut details: Box<Details>) -> Result<(), SinkError> {
        if let Some(redact) = &self.redact {
            redact.details(&mut details, self.args_read);
        }
        if is_too_long(&details) || self.redact.is_some() {
            fit(&mut details, self.args_max);
        }
        self.counts.details_missed += u64::from(details.miss.is_some());
        self.sink.record(&Record::Details(details))
    }

    /// Takes what was read after an exec.
    pub(crate) fn add_details(&mut self, outcome: ExecDetails) -> Result<(), SinkError> {
        if let Some(pending) = &mut self.pending {
            pending.hold(outcome);
        }
        self.release()
    }

    /// Ends the recording at `time`: the totals, and whatever the sink does last.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(&mut self, time: MonoNs) -> Result<End, SinkError> {
        for gap in self.accountant.finish() {
            self.lose(gap)?;
        }
        if let Some(blind) = self.liveness.finish(time) {
            self.find_blind(blind)?;
        }
        self.compare_forks()?;
        self.compare_forks_in_all()?;
        self.release()?;
        if let Some(mut pending) = self.pending.take() {
            for details in pending.give_up() {
                self.process(details)?;
            }
        }
        self.record_left_out()?;
        self.record_witness(time)?;
        let AssemblerCounters { events, lost, rejected, malformed, blind_ns, drops, .. } = self.counts;
        let end = End { time, events, rejected, malformed, blind_ns, drops, lost };
        self.sink.record(&Record::End(end))?;
        self.sink.finish()?;
        Ok(end)
    }

    fn frame(&mut self, datagram: batch::Datagram<'_>, busy: bool) -> Result<(), SinkError> {
        // Only the kernel has port 0; what else comes is forged, whatever it says.
        if datagram.arrival.sender != 0 {
            self.counts.rejected += 1;
            return Ok(());
        }
        let order = self.setup.order;
        let frame = RecordedDatagram::new(datagram.bytes, order);
        let event = frame.event(order);
        if event.is_some_and(|event| event.time < self.setup.since && !self.accountant.knows(event.cpu)) {
            return Ok(());
        }
        let excluded = entry::excluded(&datagram);
        match &frame {
            RecordedDatagram::Event(event) => self.account(event, excluded)?,
            RecordedDatagram::Raw(bytes) => {
                for message in messages(bytes, order) {
                    if let Ok(Message::Event(event)) = message {
                        self.account(&event, excluded)?;
                    }
                }
                let is_malformed = datagram.is_truncated() || frame.is_malformed(order);
                self.counts.malformed += u64::from(is_malformed);
            }
        }
        self.counts.events += 1;
        let exec = match event.map(|event| (event.body, event.time)) {
            Some((EventBody::Exec { task }, time)) => Some(Exec { tgid: task.tgid, time }),
            _ => None,
        };
        let subject = exec.map(|Exec { tgid, time }| DetailsSubject::Exec { tgid, time });
        let (usage, details) = match More::read(datagram.metadata, subject, self.units) {
            Some(More::Usage(usage)) if is_exit(&frame) => {
                let mut place = self.spare.take().unwrap_or_default();
                *place = usage;
                (Some(place), None)
            }
            Some(More::Details(details)) => (None, Some(details)),
            _ => (None, None),
        };
        let mut bytes = [0; SLOT_LEN];
        let frame = match &self.redact {
            Some(redact) => redacted(redact, frame, &mut bytes, &self.setup),
            None => frame,
        };
        let record = Record::Event(frame, usage);
        self.sink.record(&record)?;
        if let Record::Event(_, Some(usage)) = record {
            self.spare = Some(usage);
        }
        if let Some(event) = event {
            self.counts.self_generated += u64::from(SelfGenerated::of(&event, self.setup.recorder).is_some());
        }
        exec.map_or(Ok(()), |exec| self.exec(exec, busy, details))
    }

    fn account(&mut self, event: &Event, excluded: u32) -> Result<(), SinkError> {
        match event.body {
            EventBody::Fork { .. } => match &mut self.part {
                Some(part) => part.forks += 1,
                None if self.setup.forks => self.forks.fork(event.time),
                None => {}
            },
            EventBody::Comm { .. }
                if SelfGenerated::of(event, self.setup.recorder) == Some(SelfGenerated::Heartbeat) =>
            {
                self.liveness.came(event.time);
            }
            _ => {}
        }
        if let Continuity::Gap(gap) = self.accountant.observe(event, excluded) {
            self.lose(gap)?;
        }
        if self.liveness.is_waiting() {
            while let Some(blind) = self.liveness.event(event.cpu, event.time) {
                self.find_blind(blind)?;
            }
        }
        self.last = self.last.max(event.time);
        Ok(())
    }

    fn lose(&mut self, gap: Gap) -> Result<(), SinkError> {
        self.counts.gaps += 1;
        self.doubt_details();
        self.rescan.get_or_insert(SnapshotReason::Loss);
        self.liveness.lose(gap.cpu, gap.before);
        if self.setup.forks {
            self.forks.lose(gap.after, gap.before, gap.count());
        }
        let causes = self.ledger.split(&gap);
        for loss in Loss::of_gap(gap, causes) {
            self.counts.lost.add(loss.cause, loss.count());
            self.sink.record(&Record::Loss(loss))?;
        }
        Ok(())
    }

    /// Events came that were dropped for want of a chunk.
    fn drop(&mut self, dropped: &Dropped) {
        self.counts.rejected += dropped.rejected;
        self.counts.malformed += dropped.malformed;
        dropped.events.iter().for_each(|events| self.accountant.discard(events));
        self.doubt_details();
    }

    /// Events have been lost: an exec may be among them.
    fn doubt_details(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.blind();
        }
    }

    fn fence(&mut self, fence: &Fence) -> Result<(), SinkError> {
        self.sink.record(&Record::Fence(fence.clone()))
    }

    /// Records the source's count of drops. Returns `true` if it has increased.
    fn witness(&mut self, drops: Option<u64>) -> bool {
        let Some(drops) = drops else { return false };
        let drops = drops.saturating_sub(self.setup.drops_before);
        self.ledger.witness(drops);
        self.counts.drops.replace(drops).is_some_and(|before| before < drops)
    }

    /// Records both counts of what was lost, if there is news.
    fn record_witness(&mut self, time: MonoNs) -> Result<(), SinkError> {
        let Some(drops) = self.counts.drops else { return Ok(()) };
        let witness = Witness { time, drops, gaps: self.counts.lost.in_source() };
        if (witness.drops, witness.gaps) == (self.witnessed.drops, self.witnessed.gaps) {
            return Ok(());
        }
        self.witnessed = witness;
        self.sink.record(&Record::Witness(witness))
    }

    /// Records how many events were left out of each CPU, where there is news.
    fn record_left_out(&mut self) -> Result<(), SinkError> {
        for (cpu, last, count) in self.accountant.excluded() {
            let at = cpu.0 as usize;
            if self.excluded.len() <= at {
                self.excluded.resize(at + 1, 0);
            }
            if std::mem::replace(&mut self.excluded[at], count) != count {
                self.sink.record(&Record::Excluded(Excluded { cpu, last, count }))?;
            }
        }
        Ok(())
    }

    /// Takes note of an exec, whose `details` have come with it, or `busy`: will not be read, or else will be.
    fn exec(&mut self, exec: Exec, busy: bool, details: Option<Box<Details>>) -> Result<(), SinkError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        pending.exec(exec, !busy && details.is_none());
        if let Some(mut details) = details {
            if self.args_max == 0 {
                (details.args, details.args_len) = (None, None);
            }
            return self.process(details);
        }
        if !busy {
            return Ok(());
        }
        let subject = DetailsSubject::Exec { tgid: exec.tgid, time: exec.time };
        self.process(Box::new(Details::missed(subject, MissReason::Busy)))
    }

    /// All events up to `time` have been taken.
    fn drained(&mut self, time: MonoNs) -> Result<(), SinkError> {
        if std::mem::take(&mut self.overrun) {
            // It was reported before what was still queued: that has come by now.
            self.doubt_details();
        }
        if let Some(pending) = &mut self.pending {
            pending.advance(time);
        }
        if time.0.saturating_sub(self.counted_at.0) >= WITNESS_EVERY {
            self.counted_at = time;
            self.record_left_out()?;
            self.record_witness(time)?;
        }
        self.release()
    }

    /// Records the details that have become certain.
    fn release(&mut self) -> Result<(), SinkError> {
        while let Some(details) = self.pending.as_mut().and_then(DetailsSettler::next_certain) {
            self.process(details)?;
        }
        Ok(())
    }
}

/// Whether an exit's usage can go with it.
fn is_exit(frame: &RecordedDatagram<'_>) -> bool {
    matches!(frame, RecordedDatagram::Event(Event { body: EventBody::Exit { .. }, .. }))
}

#[cfg(test)]
mod tests;
