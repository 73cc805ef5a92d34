//! A capture, piece by piece: what happens next, and when.

use std::io::{Read, Seek};

use pmon_analysis::{DetailsJoiner, Filter, OwnedRecord, ProcessTable, WallClock};
use pmon_core::MonoNs;
use pmon_core::capture::{Blind, Item, Loss, Meta, Reader, Record, RecordedDatagram, ScopeInfo, Usage};
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event};

use crate::ReplayError;

/// Maximum memory of the loaded records, in bytes. A block of a real capture takes less.
const MAX_LOADED: usize = 8 << 20;

/// The next thing in a capture.
#[derive(Debug)]
pub(crate) enum Piece {
    /// So many events, in [`Loaded::frames`].
    Frames(usize),
    /// An exit of which more is known.
    Exit(Event, Box<Usage>),
    Raw(Box<[u8]>),
    Loss(Loss),
    Blind(Blind),
    Other(Box<Record<'static>>),
    /// Any of them, where processes are followed.
    Record(Box<OwnedRecord>),
}

/// What is loaded, and was not taken.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pieces: Vec<Piece>,
    at: usize,
    /// Events that need no more than their datagrams, in this machine's byte order, one behind the other.
    frames: Vec<[u8; EVENT_DATAGRAM_LEN]>,
    frame_at: usize,
}

impl Loaded {
    /// The next piece.
    #[inline]
    pub(crate) fn first(&mut self) -> Option<&mut Piece> {
        self.pieces.get_mut(self.at)
    }

    /// The next events, if that is what comes next.
    #[inline]
    pub(crate) fn datagrams(&self) -> &[[u8; EVENT_DATAGRAM_LEN]] {
        match self.pieces.get(self.at) {
            Some(Piece::Frames(number)) => &self.frames[self.frame_at..][..*number],
            _ => &[],
        }
    }

    /// The next event, if that is what comes next.
    pub(crate) fn event(&self) -> Option<Event> {
        match self.pieces.get(self.at)? {
            Piece::Frames(_) => Event::decode(self.datagrams().first()?, ByteOrder::NATIVE).ok(),
            Piece::Exit(event, _) => Some(*event),
            Piece::Raw(bytes) => Event::decode(bytes, ByteOrder::NATIVE).ok(),
            Piece::Record(record) => match &**record {
                OwnedRecord::Event(item) => item.event,
                _ => None,
            },
            _ => None,
        }
    }

    /// The loss that comes next, if that is what does.
    pub(crate) fn loss(&self) -> Option<&Loss> {
        match self.pieces.get(self.at)? {
            Piece::Loss(loss) => Some(loss),
            Piece::Record(record) => match &**record {
                OwnedRecord::Loss(loss) => Some(loss),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a datagram comes next.
    #[inline]
    pub(crate) fn is_datagram(&self) -> bool {
        match self.pieces.get(self.at) {
            Some(Piece::Frames(_) | Piece::Exit(..) | Piece::Raw(_)) => true,
            Some(Piece::Record(record)) => matches!(**record, OwnedRecord::Event(_)),
            _ => false,
        }
    }

    /// When the next thing happens, if that is not at once.
    pub(crate) fn time(&self) -> Option<MonoNs> {
        match self.pieces.get(self.at)? {
            Piece::Loss(loss) => Some(loss.after),
            Piece::Blind(blind) => Some(blind.until),
            Piece::Record(record) => match &**record {
                OwnedRecord::Loss(loss) => Some(loss.after),
                OwnedRecord::Blind(blind) => Some(blind.until),
                _ => self.event().map(|event| event.time),
            },
            _ => self.event().map(|event| event.time),
        }
    }

    /// The next piece was taken.
    pub(crate) fn take(&mut self) {
        if let Some(Piece::Frames(number)) = self.pieces.get(self.at) {
            return self.take_frames(1.min(*number));
        }
        self.at += 1;
    }

    /// The first so many of the next events were taken.
    pub(crate) fn take_frames(&mut self, taken: usize) {
        self.frame_at += taken;
        if let Some(Piece::Frames(number)) = self.pieces.get_mut(self.at) {
            *number -= taken;
            self.at += usize::from(*number == 0);
        }
    }

    fn is_empty(&self) -> bool {
        self.at == self.pieces.len()
    }

    /// Forgets what was taken.
    fn clear_taken(&mut self) {
        self.pieces.drain(..self.at);
        self.frames.drain(..self.frame_at);
        (self.at, self.frame_at) = (0, 0);
    }

    fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// Appends a record and returns the bytes of memory that it takes.
    #[inline]
    fn push_record(&mut self, record: Record<'_>, order: ByteOrder, keeps_usage: bool) -> usize {
        match &record {
            Record::Event(RecordedDatagram::Event(event), Some(usage)) if keeps_usage => {
                self.push(Piece::Exit(*event, usage.clone()));
                size_of::<Piece>() + size_of::<Usage>()
            }
            Record::Event(RecordedDatagram::Event(event), _) => {
                // Written where it stays.
                self.frames.push([0; EVENT_DATAGRAM_LEN]);
                if let Some(frame) = self.frames.last_mut() {
                    event.encode_into(ByteOrder::NATIVE, frame);
                }
                match self.pieces.last_mut() {
                    Some(Piece::Frames(number)) => *number += 1,
                    _ => self.push(Piece::Frames(1)),
                }
                EVENT_DATAGRAM_LEN
            }
            _ => {
                let piece = piece(record, order);
                let bytes = size_of_piece(&piece);
                self.push(piece);
                bytes
            }
        }
    }
}

/// Reads ahead by a block, or with processes by as much as it takes to have the details of an exec with it.
pub(crate) struct Pieces<R> {
    reader: Reader<R>,
    loaded: Loaded,
    joined: Option<Joined>,
    keeps_usage: bool,
    /// Number of records loaded from the reader's block, if others remain.
    rest: Option<u64>,
    at_end: bool,
}

/// Those who follow the processes.
pub(crate) struct Joined {
    joiner: DetailsJoiner,
    pub(crate) processes: ProcessTable,
    pub(crate) filter: Filter,
    pub(crate) wall: WallClock,
}

impl<R: Read> Pieces<R> {
    pub(crate) fn new(reader: Reader<R>) -> Self {
        let loaded = Loaded::default();
        Self { reader, loaded, joined: None, keeps_usage: false, rest: None, at_end: false }
    }

    /// Brings details to their execs, follows the processes, and shows what the filter lets through.
    pub(crate) fn join(&mut self, filter: Filter) {
        let mut wall = WallClock::new();
        if let Some(header) = self.reader.header() {
            wall.observe(header.meta.start);
        }
        let joiner = DetailsJoiner::new(self.reader.byte_order());
        self.joined = Some(Joined { joiner, processes: ProcessTable::new(), filter, wall });
    }

    pub(crate) fn joined(&self) -> Option<&Joined> {
        self.joined.as_ref()
    }

    pub(crate) fn meta(&self) -> Option<&Meta> {
        self.reader.header().map(|header| &header.meta)
    }

    /// Returns the bytes of memory that the reader holds.
    pub(crate) fn reader_memory(&self) -> usize {
        self.reader.memory()
    }

    /// Bytes read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// Keeps with exits what is known of them.
    pub(crate) fn keep_usage(&mut self) {
        self.keeps_usage = true;
    }

    /// What is loaded, and those who follow the processes.
    pub(crate) fn loaded(&mut self) -> (&mut Loaded, Option<&mut Joined>) {
        (&mut self.loaded, self.joined.as_mut())
    }

    /// Loads until there is a piece; `false` at the end.
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
        self.loaded.clear_taken();
        let Self { reader, loaded: queue, joined, keeps_usage, rest, at_end } = self;
        let order = reader.byte_order();
        let taken = rest.take();
        let item = match taken {
            Some(taken) => reader.rest_of_block(taken).map(Item::Block),
            None => reader.next_item()?,
        };
        match item {
            Some(Item::Block(block)) => {
                let (mut bytes, mut taken) = (0, taken.unwrap_or(0));
                let mut records = block.records();
                while let Some(record) = records.next() {
                    taken += 1;
                    match joined {
                        Some(Joined { joiner, .. }) => {
                            // The joiner drops records of these kinds, so queue them directly.
                            match keep(record) {
                                Ok(other) => {
                                    bytes += size_of_piece(&other);
                                    queue.push(other);
                                }
                                Err(record) => joiner.push(record),
                            }
                            while let Some(record) = joiner.pop() {
                                bytes += record.memory();
                                queue.push(Piece::Record(Box::new(record)));
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
            Some(Item::Damage(damage)) => return Err(ReplayError::Damaged(damage)),
            None => {
                *at_end = true;
                if let Some(Joined { joiner, .. }) = joined {
                    joiner.release();
                    while let Some(record) = joiner.pop() {
                        queue.push(Piece::Record(Box::new(record)));
                    }
                }
            }
        }
        Ok(!*at_end)
    }
}

impl<R: Read> Pieces<R> {
    /// What is recorded at all, if what is loaded says so.
    pub(crate) fn scope(&self) -> Option<ScopeInfo> {
        self.loaded.pieces.iter().find_map(|piece| match piece {
            Piece::Other(record) => match &**record {
                Record::Scope(scope) => Some(scope.clone()),
                _ => None,
            },
            _ => None,
        })
    }
}

impl<R: Read + Seek> Pieces<R> {
    /// Goes on from near that time, and forgets what is loaded; `false`, and all as it was, without an index.
    pub(crate) fn seek(&mut self, time: MonoNs) -> Result<bool, ReplayError> {
        let there = self.reader.seek(time)?;
        if there {
            self.loaded = Loaded::default();
            self.rest = None;
        }
        Ok(there)
    }
}

/// Returns the approximate memory of a piece, in bytes.
fn size_of_piece(piece: &Piece) -> usize {
    let more = match piece {
        Piece::Raw(bytes) => bytes.len(),
        Piece::Other(record) => {
            size_of::<Record<'_>>()
                + match &**record {
                    Record::Details(details) => details.memory(),
                    Record::Scope(scope) => scope.text.len(),
                    Record::Fence(fence) => size_of_val(&*fence.unreached),
                    Record::Ring(counts) => size_of_val(&*counts.cpus),
                    _ => 0,
                }
        }
        Piece::Record(record) => record.memory(),
        _ => 0,
    };
    size_of::<Piece>() + more
}

/// Any record but an event in its usual form.
fn piece(record: Record<'_>, order: ByteOrder) -> Piece {
    match record {
        Record::Event(RecordedDatagram::Raw(bytes), _) => Piece::Raw(native(bytes, order)),
        Record::Loss(loss) => Piece::Loss(loss),
        Record::Blind(blind) => Piece::Blind(blind),
        record => match keep(record) {
            Ok(piece) => piece,
            Err(Record::Details(details)) => Piece::Other(Box::new(Record::Details(details))),
            Err(Record::Clock(anchor)) => Piece::Other(Box::new(Record::Clock(anchor))),
            Err(Record::Snapshot(snapshot)) => Piece::Other(Box::new(Record::Snapshot(snapshot))),
            Err(Record::End(end)) => Piece::Other(Box::new(Record::End(end))),
            Err(_) => Piece::Other(Box::new(Record::Unknown { kind: u8::MAX })),
        },
    }
}

/// What a joiner would not give back.
fn keep(record: Record<'_>) -> Result<Piece, Record<'_>> {
    let other = match record {
        Record::Fence(fence) => Record::Fence(fence),
        Record::Witness(witness) => Record::Witness(witness),
        Record::Scope(scope) => Record::Scope(scope),
        Record::Excluded(excluded) => Record::Excluded(excluded),
        Record::Ring(counts) => Record::Ring(counts),
        record => return Err(record),
    };
    Ok(Piece::Other(Box::new(other)))
}

/// A datagram as it is; of a host with the other byte order, what can be read of it is written in this one's.
fn native(bytes: &[u8], order: ByteOrder) -> Box<[u8]> {
    let swapped =
        (order != ByteOrder::NATIVE).then(|| Event::decode(bytes, order).ok()?.encode(ByteOrder::NATIVE));
    swapped.flatten().map_or_else(|| bytes.into(), |frame| frame.as_slice().into())
}
