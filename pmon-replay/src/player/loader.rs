//! Reads a capture ahead, and queues its records for the player.

use pmon_analysis::{DetailsJoiner, Filter, OwnedRecord, ProcessTable, WallClock};
use pmon_core::capture::{
    Blind, Loss, Meta, Part, Record, RecordedDatagram, RecordingReader, ScopeInfo, SeekRecording, Splicer,
    Usage,
};
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event};
use pmon_core::{MonoNs, Tgid};

use crate::ReplayError;

/// Maximum memory of the loaded records, in bytes. A block of a real capture takes less.
const MAX_LOADED: usize = 8 << 20;
/// Maximum memory of the details of processes whose command lines a fault script needs, in bytes.
const MAX_COMMAND_LINES: usize = 16 << 20;

/// A queued record.
#[derive(Debug)]
pub(crate) enum LoadedRecord {
    /// This many events, in [`LoadedQueue::datagrams`].
    Events(usize),
    /// An exit with its resource usage.
    Exit(Event, Box<Usage>),
    Raw(Box<[u8]>),
    Loss(Loss),
    Blind(Blind),
    Other(Box<Record<'static>>),
    /// The process of the recorder that recorded the following events.
    Recorder(Option<Tgid>),
    /// Any record, while records are tracked.
    Tracked(OwnedRecord),
}

/// The records that are loaded and not yet played.
#[derive(Debug, Default)]
pub(crate) struct LoadedQueue {
    records: Vec<LoadedRecord>,
    /// Index of the next record.
    at: usize,
    /// Datagrams of events without further data, in native byte order.
    datagrams: Vec<[u8; EVENT_DATAGRAM_LEN]>,
    /// Index of the next datagram.
    datagram_at: usize,
}

impl LoadedQueue {
    /// Returns the next record.
    #[inline]
    pub(crate) fn first(&mut self) -> Option<&mut LoadedRecord> {
        self.records.get_mut(self.at)
    }

    /// Returns the datagrams of the next events, or none if the next record is of another kind.
    #[inline]
    pub(crate) fn datagrams(&self) -> &[[u8; EVENT_DATAGRAM_LEN]] {
        match self.records.get(self.at) {
            Some(LoadedRecord::Events(number)) => &self.datagrams[self.datagram_at..][..*number],
            _ => &[],
        }
    }

    /// Returns the next record if it is an event.
    pub(crate) fn event(&self) -> Option<Event> {
        match self.records.get(self.at)? {
            LoadedRecord::Events(_) => Event::decode(self.datagrams().first()?, ByteOrder::NATIVE).ok(),
            LoadedRecord::Exit(event, _) => Some(*event),
            LoadedRecord::Raw(bytes) => Event::decode(bytes, ByteOrder::NATIVE).ok(),
            LoadedRecord::Tracked(OwnedRecord::Event(item)) => item.event,
            _ => None,
        }
    }

    /// Returns the next record if it is a loss.
    pub(crate) fn loss(&self) -> Option<&Loss> {
        match self.records.get(self.at)? {
            LoadedRecord::Loss(loss) => Some(loss),
            LoadedRecord::Tracked(OwnedRecord::Loss(loss)) => Some(loss),
            _ => None,
        }
    }

    /// Returns whether the next record is a datagram.
    #[inline]
    pub(crate) fn is_datagram(&self) -> bool {
        match self.records.get(self.at) {
            Some(LoadedRecord::Events(_) | LoadedRecord::Exit(..) | LoadedRecord::Raw(_)) => true,
            Some(LoadedRecord::Tracked(record)) => matches!(record, OwnedRecord::Event(_)),
            _ => false,
        }
    }

    /// Returns the time of the next record, if it has one.
    pub(crate) fn time(&self) -> Option<MonoNs> {
        match self.records.get(self.at)? {
            LoadedRecord::Loss(loss) => Some(loss.after),
            LoadedRecord::Blind(blind) => Some(blind.until),
            LoadedRecord::Tracked(OwnedRecord::Loss(loss)) => Some(loss.after),
            LoadedRecord::Tracked(OwnedRecord::Blind(blind)) => Some(blind.until),
            _ => self.event().map(|event| event.time),
        }
    }

    /// Removes the next record or event.
    pub(crate) fn advance(&mut self) {
        if let Some(LoadedRecord::Events(number)) = self.records.get(self.at) {
            return self.advance_datagrams(1.min(*number));
        }
        self.at += 1;
    }

    /// Removes this many of the next events.
    pub(crate) fn advance_datagrams(&mut self, taken: usize) {
        self.datagram_at += taken;
        if let Some(LoadedRecord::Events(number)) = self.records.get_mut(self.at) {
            *number -= taken;
            self.at += usize::from(*number == 0);
        }
    }

    fn is_empty(&self) -> bool {
        self.at == self.records.len()
    }

    /// Releases the removed records.
    fn clear_removed(&mut self) {
        self.records.drain(..self.at);
        self.datagrams.drain(..self.datagram_at);
        (self.at, self.datagram_at) = (0, 0);
    }

    fn push(&mut self, record: LoadedRecord) {
        self.records.push(record);
    }

    /// Appends a record and returns the bytes of memory that it takes.
    #[inline]
    fn push_record(&mut self, record: Record<'_>, order: ByteOrder, keeps_usage: bool) -> usize {
        match &record {
            Record::Event(RecordedDatagram::Event(event), Some(usage)) if keeps_usage => {
                self.push(LoadedRecord::Exit(*event, usage.clone()));
                size_of::<LoadedRecord>() + size_of::<Usage>()
            }
            Record::Event(RecordedDatagram::Event(event), _) => {
                // Encode the datagram in place, without a copy.
                self.datagrams.push([0; EVENT_DATAGRAM_LEN]);
                if let Some(datagram) = self.datagrams.last_mut() {
                    event.encode_into(ByteOrder::NATIVE, datagram);
                }
                match self.records.last_mut() {
                    Some(LoadedRecord::Events(number)) => *number += 1,
                    _ => self.push(LoadedRecord::Events(1)),
                }
                EVENT_DATAGRAM_LEN
            }
            _ => {
                let record = loaded_record(record, order);
                let bytes = memory(&record);
                self.push(record);
                bytes
            }
        }
    }
}

/// Reads a capture ahead by one block, or while processes are tracked, until the details of each
/// exec have arrived.
pub(crate) struct CaptureLoader<C> {
    reader: C,
    /// Omits the openings and ends of segments within the recording.
    splicer: Splicer,
    loaded: LoadedQueue,
    tracking: Option<ProcessTracking>,
    keeps_usage: bool,
    /// Number of records loaded from the reader's block, if others remain.
    rest: Option<u64>,
    at_end: bool,
}

/// State that is only needed to track processes and filter events.
pub(crate) struct ProcessTracking {
    joiner: DetailsJoiner,
    /// The processes as of the latest record, if they are followed; otherwise empty.
    pub(crate) processes: ProcessTable,
    /// Whether records are applied to `processes`.
    pub(crate) follows_processes: bool,
    pub(crate) filter: Filter,
    pub(crate) wall: WallClock,
}

impl ProcessTracking {
    /// Continues with the next segment of the recording.
    fn begin_segment(&mut self, meta: &Meta, queue: &mut LoadedQueue) {
        self.joiner.push(Record::Clock(meta.start));
        // Another recorder may have written the segment.
        let hidden = self.filter.hide_self_generated;
        if hidden.is_some() && hidden != meta.recorder() {
            self.joiner.release();
            while let Some(record) = self.joiner.pop() {
                queue.push(LoadedRecord::Tracked(record));
            }
            queue.push(LoadedRecord::Recorder(meta.recorder()));
        }
    }
}

impl<C: RecordingReader> CaptureLoader<C> {
    pub(crate) fn new(reader: C) -> Self {
        let loaded = LoadedQueue::default();
        let splicer = Splicer::new(reader.junction());
        Self { reader, splicer, loaded, tracking: None, keeps_usage: false, rest: None, at_end: false }
    }

    /// Joins details to execs, and filters events. Follows the processes if the filter needs them.
    pub(crate) fn track_records(&mut self, filter: Filter) {
        let mut wall = WallClock::new();
        if let Some(header) = self.reader.header() {
            wall.observe(header.meta.start);
        }
        let joiner = DetailsJoiner::new(self.reader.byte_order());
        let before = self.tracking.take().map(|tracking| (tracking.follows_processes, tracking.processes));
        let (is_followed, mut processes) = before.unwrap_or_default();
        if filter.needs_live_processes() && !processes.is_detailed() {
            processes = filter.process_table(self.meta());
        }
        let follows_processes = is_followed || filter.needs_processes();
        self.tracking = Some(ProcessTracking { joiner, processes, follows_processes, filter, wall });
    }

    /// Joins details to execs, if the filter does not do so already, and follows the processes.
    pub(crate) fn follow_processes(&mut self) {
        if self.tracking.is_none() {
            self.track_records(Filter::default());
        }
        if let Some(tracking) = &mut self.tracking {
            tracking.follows_processes = true;
        }
    }

    /// Follows the processes with their command lines. To be called before the first record.
    pub(crate) fn follow_command_lines(&mut self) {
        self.follow_processes();
        let meta = self.meta().cloned().unwrap_or_default();
        if let Some(tracking) = &mut self.tracking {
            tracking.processes = ProcessTable::detailed(&meta);
            tracking.processes.set_memory_limit(MAX_COMMAND_LINES);
        }
    }

    pub(crate) fn tracking(&self) -> Option<&ProcessTracking> {
        self.tracking.as_ref()
    }

    pub(crate) fn meta(&self) -> Option<&Meta> {
        self.reader.header().map(|header| &header.meta)
    }

    /// Returns the bytes of memory that the reader holds.
    pub(crate) fn reader_memory(&self) -> usize {
        self.reader.memory()
    }

    /// Returns the number of bytes read.
    pub(crate) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Keeps the resource usage of exits.
    pub(crate) fn keep_usage(&mut self) {
        self.keeps_usage = true;
    }

    /// Returns the loaded records, and the state for tracking processes.
    pub(crate) fn loaded(&mut self) -> (&mut LoadedQueue, Option<&mut ProcessTracking>) {
        (&mut self.loaded, self.tracking.as_mut())
    }

    /// Loads until a record is queued. Returns `false` at the end of the capture.
    pub(crate) fn load(&mut self) -> Result<bool, ReplayError> {
        while self.loaded.is_empty() {
            if self.at_end {
                return Ok(false);
            }
            self.load_more()?;
        }
        Ok(true)
    }

    /// Loads the next block after the loaded records, or as much of it as fits. Returns `false` at
    /// the end.
    pub(crate) fn load_more(&mut self) -> Result<bool, ReplayError> {
        self.loaded.clear_removed();
        let Self { reader, splicer, loaded: queue, tracking, keeps_usage, rest, at_end } = self;
        let order = reader.byte_order();
        let taken = rest.take();
        let item = match taken {
            Some(taken) => reader.rest_of_block(taken).map(Part::Block),
            None => reader.next_part()?,
        };
        match item {
            Some(Part::Block(block)) => {
                let (mut bytes, mut taken) = (0, taken.unwrap_or(0));
                let mut records = block.records();
                while let Some(record) = records.next() {
                    taken += 1;
                    if !splicer.keeps(&record) {
                        continue;
                    }
                    match tracking {
                        Some(ProcessTracking { joiner, .. }) => {
                            // The joiner drops records of these kinds, so queue them directly.
                            match bypass(record) {
                                Ok(other) => {
                                    bytes += memory(&other);
                                    queue.push(other);
                                }
                                Err(record) => joiner.push(record),
                            }
                            while let Some(record) = joiner.pop() {
                                bytes += record.memory();
                                queue.push(LoadedRecord::Tracked(record));
                            }
                        }
                        None => bytes += queue.push_record(record, order, *keeps_usage),
                    }
                    if bytes > MAX_LOADED && records.size_hint().0 > 0 {
                        *rest = Some(taken);
                        break;
                    }
                }
            }
            Some(Part::Segment) => {
                *splicer = Splicer::new(reader.junction());
                if let (Some(header), Some(tracking)) = (reader.header(), tracking) {
                    tracking.begin_segment(&header.meta, queue);
                }
            }
            Some(Part::Damage(damage)) => return Err(ReplayError::Damaged(damage)),
            None => {
                *at_end = true;
                if let Some(ProcessTracking { joiner, .. }) = tracking {
                    joiner.release();
                    while let Some(record) = joiner.pop() {
                        queue.push(LoadedRecord::Tracked(record));
                    }
                }
            }
        }
        Ok(!*at_end)
    }

    /// Returns the scope of the recording, if it is among the loaded records.
    pub(crate) fn scope(&self) -> Option<ScopeInfo> {
        self.loaded.records.iter().find_map(|record| match record {
            LoadedRecord::Other(record) => match &**record {
                Record::Scope(scope) => Some(scope.clone()),
                _ => None,
            },
            _ => None,
        })
    }
}

impl<C: SeekRecording> CaptureLoader<C> {
    /// Continues from near this time, and drops the loaded records. Returns `false`, and changes
    /// nothing, if the capture has no usable index.
    pub(crate) fn seek(&mut self, time: MonoNs) -> Result<bool, ReplayError> {
        let has_moved = self.reader.seek(time)?;
        if has_moved {
            self.splicer = Splicer::new(self.reader.junction());
            self.loaded = LoadedQueue::default();
            self.rest = None;
        }
        Ok(has_moved)
    }
}

/// Returns the approximate memory of a queued record, in bytes.
fn memory(record: &LoadedRecord) -> usize {
    let heap = match record {
        LoadedRecord::Raw(bytes) => bytes.len(),
        LoadedRecord::Other(record) => {
            size_of::<Record<'_>>()
                + match &**record {
                    Record::Details(details) => details.memory(),
                    Record::Scope(scope) => scope.text.len(),
                    Record::Fence(fence) => size_of_val(&*fence.unreached),
                    Record::Ring(counts) => size_of_val(&*counts.cpus),
                    _ => 0,
                }
        }
        LoadedRecord::Tracked(record) => return record.memory(),
        _ => 0,
    };
    size_of::<LoadedRecord>() + heap
}

/// Converts any record except an event in its usual form.
fn loaded_record(record: Record<'_>, order: ByteOrder) -> LoadedRecord {
    match record {
        Record::Event(RecordedDatagram::Raw(bytes), _) => LoadedRecord::Raw(in_native_order(bytes, order)),
        Record::Loss(loss) => LoadedRecord::Loss(loss),
        Record::Blind(blind) => LoadedRecord::Blind(blind),
        record => match bypass(record) {
            Ok(record) => record,
            Err(Record::Details(details)) => LoadedRecord::Other(Box::new(Record::Details(details))),
            Err(Record::Clock(anchor)) => LoadedRecord::Other(Box::new(Record::Clock(anchor))),
            Err(Record::Snapshot(snapshot)) => LoadedRecord::Other(Box::new(Record::Snapshot(snapshot))),
            Err(Record::End(end)) => LoadedRecord::Other(Box::new(Record::End(end))),
            Err(_) => LoadedRecord::Other(Box::new(Record::Unknown { kind: u8::MAX })),
        },
    }
}

/// Converts a record that the joiner would drop. Other records are returned unchanged as an error.
fn bypass(record: Record<'_>) -> Result<LoadedRecord, Record<'_>> {
    let other = match record {
        Record::Fence(fence) => Record::Fence(fence),
        Record::Witness(witness) => Record::Witness(witness),
        Record::Scope(scope) => Record::Scope(scope),
        Record::Excluded(excluded) => Record::Excluded(excluded),
        Record::Ring(counts) => Record::Ring(counts),
        record => return Err(record),
    };
    Ok(LoadedRecord::Other(Box::new(other)))
}

/// Copies a datagram. If its byte order is not the native one, the readable event is encoded again
/// in native byte order.
fn in_native_order(bytes: &[u8], order: ByteOrder) -> Box<[u8]> {
    let swapped =
        (order != ByteOrder::NATIVE).then(|| Event::decode(bytes, order).ok()?.encode(ByteOrder::NATIVE));
    swapped.flatten().map_or_else(|| bytes.into(), |datagram| datagram.as_slice().into())
}
