//! Compares the events and losses of two captures, and finds the first difference.
//!
//! A comparison looks at the EVENT, LOSS and BLIND records, in capture order, or separately for
//! each CPU. It ignores all other records (details, usage, scans, clocks, fences, totals), because
//! they describe what a recorder knew about the events.
//!
//! The caller reads blocks of any size from whichever capture [`Diff::next_side`] names. Records
//! wait in memory until their counterparts arrive, up to [`MAX_HELD`] records.

mod queue;
mod record;
mod report;

use pmon_core::Cpu;
use pmon_core::accounting::MAX_CPUS;
use pmon_core::capture::{Record, RecordedDatagram};
use pmon_core::wire::ByteOrder;

use queue::{MatchResult, StreamQueue};
pub use record::{ComparedRecord, LossInterval, Side};
use record::{ComparedRef, EqualityRules};
pub use report::{
    CauseDifferences, DiffCounts, DiffOptions, DiffOutcome, DiffReport, DiffStream, Difference, TooFarApart,
};

/// Maximum number of records that one capture may be ahead of the other, over all streams.
///
/// No block holds this many records, so captures with the same order that are read alternately
/// never reach the limit.
pub const MAX_HELD: usize = 1 << 18;
/// Maximum heap memory of the waiting records, in bytes: unusual datagrams and losses.
pub const MAX_HELD_BYTES: usize = 16 << 20;
/// Maximum total capacity of the queues, as a multiple of the maximum number of waiting records.
///
/// Queues double their capacity when they grow. With a factor of 3, releasing the excess costs
/// less, on average, than adding the records that made the queues grow.
const MAX_CAPACITY_FACTOR: usize = 3;

/// A comparison of two captures.
///
/// Read records from the capture that [`Diff::next_side`] names until it returns `None`, end each
/// capture with [`Diff::end`], and then call [`Diff::finish`].
#[derive(Debug)]
pub struct Diff {
    options: DiffOptions,
    rules: EqualityRules,
    streams: Vec<StreamQueue>,
    ended: [bool; 2],
    totals: [DiffCounts; 2],
    equal: DiffCounts,
    causes: Option<CauseDifferences>,
    /// Number of compared records of each side. Adjacent losses count as one record.
    taken: [u64; 2],
    /// Number of waiting records.
    held: usize,
    /// Heap memory of the waiting records.
    held_bytes: usize,
    /// Maximum of `held`.
    max_held: usize,
    /// Total capacity of the queues, in records.
    capacity: usize,
    outcome: Option<DiffOutcome>,
}

/// Index of the stream of unattributed datagrams, or of all records if CPUs are not compared
/// separately.
const UNATTRIBUTED: usize = 0;
/// Index of the stream of blind spans.
const BLIND: usize = 1;
/// Index of the stream of CPU 0.
const FIRST_CPU: usize = 2;

impl Diff {
    /// Creates a comparison of two captures whose datagrams have the byte orders `orders`.
    pub fn new(options: DiffOptions, orders: [ByteOrder; 2]) -> Self {
        Self {
            options,
            rules: EqualityRules { renumbered: options.renumbered, orders },
            streams: (0..FIRST_CPU).map(|_| StreamQueue::default()).collect(),
            ended: [false; 2],
            totals: [DiffCounts::default(); 2],
            equal: DiffCounts::default(),
            causes: None,
            taken: [0; 2],
            held: 0,
            held_bytes: 0,
            max_held: MAX_HELD,
            capacity: 0,
            outcome: None,
        }
    }

    /// Returns the capture to read next, the one with fewer records so far. Returns `None` once
    /// both have ended.
    pub fn next_side(&self) -> Option<Side> {
        match self.ended {
            [true, true] => None,
            [true, false] => Some(Side::B),
            [false, true] => Some(Side::A),
            [false, false] if self.taken[0] <= self.taken[1] => Some(Side::A),
            [false, false] => Some(Side::B),
        }
    }

    /// Returns whether the outcome is known. Further records are only counted.
    pub fn is_decided(&self) -> bool {
        self.outcome.is_some()
    }

    /// Applies the next record of a capture.
    #[inline]
    pub fn push(&mut self, side: Side, record: &Record<'_>) {
        match record {
            Record::Event(datagram, _) => {
                let stream = self.stream_of(datagram, side);
                self.push_after_loss(stream, side, ComparedRef::Datagram(*datagram));
            }
            Record::Loss(loss) => {
                let stream = self.stream_of_cpu(loss.cpu);
                if let Some(interval) = self.streams[stream].add_loss(side, loss) {
                    self.compare(stream, side, ComparedRef::Loss(&interval));
                }
            }
            Record::Blind(blind) => {
                let stream = if self.options.by_cpu { BLIND } else { UNATTRIBUTED };
                self.push_after_loss(stream, side, ComparedRef::Blind(*blind));
            }
            _ => {}
        }
    }

    /// Ends a capture.
    pub fn end(&mut self, side: Side) {
        for stream in 0..self.streams.len() {
            if let Some(interval) = self.streams[stream].close_loss(side) {
                self.compare(stream, side, ComparedRef::Loss(&interval));
            }
        }
        self.ended[side as usize] = true;
        if self.outcome.is_none() {
            // The earliest waiting record of the other side has no counterpart.
            let waiting = self.streams.iter().enumerate();
            let waiting = waiting.filter_map(|(stream, queue)| Some((queue.oldest(side.other())?, stream)));
            if let Some((_, stream)) = waiting.min() {
                let record = self.streams[stream].pop();
                self.decide_different(stream, side.other(), record, None);
            }
        }
    }

    /// Finishes the comparison.
    pub fn finish(mut self) -> DiffReport {
        for side in [Side::A, Side::B] {
            if !self.ended[side as usize] {
                self.end(side);
            }
        }
        let outcome = self.outcome.unwrap_or(DiffOutcome::Identical);
        DiffReport { outcome, totals: self.totals, equal: self.equal, causes: self.causes }
    }

    /// Compares the open loss interval, which is now complete, and then a record.
    #[inline]
    fn push_after_loss(&mut self, stream: usize, side: Side, record: ComparedRef<'_>) {
        if let Some(interval) = self.streams[stream].close_loss(side) {
            self.compare(stream, side, ComparedRef::Loss(&interval));
        }
        self.compare(stream, side, record);
    }

    /// Compares a record with its counterpart, or appends it to the waiting records.
    #[inline]
    fn compare(&mut self, stream: usize, side: Side, record: ComparedRef<'_>) {
        self.totals[side as usize].add(&record);
        self.taken[side as usize] += 1;
        if self.outcome.is_some() {
            return;
        }
        let queue = &mut self.streams[stream];
        match queue.match_next(side, &record, self.rules) {
            MatchResult::Equal(theirs) => {
                self.held -= 1;
                self.held_bytes -= theirs.as_compared().heap_bytes();
                queue.equal.add(&record);
                self.equal.add(&record);
                if let (ComparedRef::Loss(ours), ComparedRecord::Loss(theirs)) = (record, theirs) {
                    self.compare_causes(side, ours, &theirs);
                }
            }
            MatchResult::Different(theirs) => {
                self.decide_different(stream, side, Some(record.to_record()), Some(theirs));
            }
            MatchResult::NoCounterpart if self.ended[side.other() as usize] => {
                self.decide_different(stream, side, Some(record.to_record()), None);
            }
            MatchResult::NoCounterpart => {
                self.capacity += queue.push(side, record.to_record());
                self.held += 1;
                self.held_bytes += record.heap_bytes();
                if self.held > self.max_held || self.held_bytes > MAX_HELD_BYTES {
                    self.decide_too_far_apart();
                } else if self.capacity > MAX_CAPACITY_FACTOR * self.max_held {
                    self.shrink_queues();
                }
            }
        }
    }

    #[cold]
    fn compare_causes(&mut self, side: Side, ours: &LossInterval, theirs: &LossInterval) {
        if ours.causes == theirs.causes {
            return;
        }
        let first = if side == Side::A { (*ours, *theirs) } else { (*theirs, *ours) };
        self.causes.get_or_insert(CauseDifferences { losses: 0, first }).losses += 1;
    }

    #[cold]
    fn decide_different(
        &mut self,
        stream: usize,
        side: Side,
        ours: Option<ComparedRecord>,
        theirs: Option<ComparedRecord>,
    ) {
        let before = self.streams[stream].equal;
        let (a, b) = if side == Side::A { (ours, theirs) } else { (theirs, ours) };
        let stream = self.diff_stream(stream);
        self.decide(DiffOutcome::Different(Box::new(Difference { stream, before, a, b })));
    }

    #[cold]
    fn decide_too_far_apart(&mut self) {
        let longest = self.streams.iter().enumerate().max_by_key(|(_, queue)| queue.len());
        if let Some((stream, queue)) = longest {
            let (ahead, held) = (queue.waiting_side(), queue.len() as u64);
            let (stream, held_in_all) = (self.diff_stream(stream), self.held as u64);
            self.decide(DiffOutcome::TooFarApart(TooFarApart { stream, ahead, held, held_in_all }));
        }
    }

    /// Releases unused memory, which every CPU that once had many waiting records would keep
    /// otherwise.
    #[cold]
    fn shrink_queues(&mut self) {
        self.streams.iter_mut().for_each(StreamQueue::shrink);
        self.capacity = self.streams.iter().map(StreamQueue::capacity).sum();
    }

    /// Stores the outcome and drops all waiting records.
    fn decide(&mut self, outcome: DiffOutcome) {
        self.outcome = Some(outcome);
        self.streams.iter_mut().for_each(StreamQueue::clear);
        (self.held, self.held_bytes, self.capacity) = (0, 0, 0);
    }

    #[inline]
    fn stream_of(&mut self, datagram: &RecordedDatagram<'_>, side: Side) -> usize {
        match datagram {
            RecordedDatagram::Event(event) => self.stream_of_cpu(event.cpu),
            datagram => match datagram.event(self.rules.orders[side as usize]) {
                Some(event) => self.stream_of_cpu(event.cpu),
                None => UNATTRIBUTED,
            },
        }
    }

    #[inline]
    fn stream_of_cpu(&mut self, cpu: Cpu) -> usize {
        if !self.options.by_cpu || cpu.0 >= MAX_CPUS {
            return UNATTRIBUTED;
        }
        let stream = FIRST_CPU + cpu.0 as usize;
        if stream >= self.streams.len() {
            self.streams.resize_with(stream + 1, StreamQueue::default);
        }
        stream
    }

    fn diff_stream(&self, stream: usize) -> DiffStream {
        match stream {
            _ if !self.options.by_cpu => DiffStream::All,
            UNATTRIBUTED => DiffStream::Unattributed,
            BLIND => DiffStream::Blind,
            stream => DiffStream::Cpu(Cpu((stream - FIRST_CPU) as u32)),
        }
    }
}

#[cfg(test)]
mod tests;
