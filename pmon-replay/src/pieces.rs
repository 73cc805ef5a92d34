//! A capture, piece by piece: what happens next, and when.

use std::collections::VecDeque;
use std::io::Read;

use pmon_analysis::{Entry, Filter, Joiner, Processes, WallClock};
use pmon_core::capture::{Blind, Frame, Item, Loss, Reader, Record, Usage};
use pmon_core::wire::{ByteOrder, Event};
use pmon_core::{MonoNs, Task};

use crate::ReplayError;

/// The next thing in a capture.
#[derive(Debug)]
pub(crate) enum Piece {
    Event(Event, Option<Box<Usage>>),
    Raw(Box<[u8]>),
    Loss(Loss),
    Blind(Blind),
    Other(Box<Record<'static>>),
    /// Any of them, where processes are followed.
    Entry(Box<Entry>),
}

/// What belongs to an exit.
pub(crate) type ExitUsage = (MonoNs, Task, Box<Usage>);

/// Reads ahead by a block, or with processes by as much as it takes to have the details of an exec with it.
pub(crate) struct Pieces<R> {
    reader: Reader<R>,
    queue: VecDeque<Piece>,
    joined: Option<Joined>,
    at_end: bool,
}

/// Those who follow the processes.
pub(crate) struct Joined {
    joiner: Joiner,
    pub(crate) processes: Processes,
    pub(crate) filter: Filter,
    pub(crate) wall: WallClock,
}

impl<R: Read> Pieces<R> {
    pub(crate) fn new(reader: Reader<R>) -> Self {
        Self { reader, queue: VecDeque::new(), joined: None, at_end: false }
    }

    /// Brings details to their execs, follows the processes, and shows what the filter lets through.
    pub(crate) fn join(&mut self, filter: Filter) {
        let mut wall = WallClock::new();
        if let Some(header) = self.reader.header() {
            wall.observe(header.meta.start);
        }
        let joiner = Joiner::new(self.reader.frame_order());
        self.joined = Some(Joined { joiner, processes: Processes::new(), filter, wall });
    }

    pub(crate) fn joined(&self) -> Option<&Joined> {
        self.joined.as_ref()
    }

    /// What is loaded, and those who follow the processes.
    pub(crate) fn loaded(&mut self) -> (&mut VecDeque<Piece>, Option<&mut Joined>) {
        (&mut self.queue, self.joined.as_mut())
    }

    /// Loads until there is a piece; `false` at the end.
    pub(crate) fn load(&mut self) -> Result<bool, ReplayError> {
        while self.queue.is_empty() {
            if self.at_end {
                return Ok(false);
            }
            self.load_more()?;
        }
        Ok(true)
    }

    /// Loads the next block behind what is loaded; `false` at the end.
    pub(crate) fn load_more(&mut self) -> Result<bool, ReplayError> {
        let Self { reader, queue, joined, at_end } = self;
        let order = reader.frame_order();
        match reader.next_item()? {
            Some(Item::Block(block)) => match joined {
                Some(Joined { joiner, .. }) => {
                    for record in block.records() {
                        // The joiner knows what shows; the rest passes at once.
                        match keep(record) {
                            Ok(other) => queue.push_back(other),
                            Err(record) => joiner.push(record),
                        }
                        while let Some(entry) = joiner.pop() {
                            queue.push_back(Piece::Entry(Box::new(entry)));
                        }
                    }
                }
                None => queue.extend(block.records().map(|record| piece(record, order))),
            },
            Some(Item::Damage(damage)) => return Err(ReplayError::Damaged(damage)),
            None => {
                *at_end = true;
                if let Some(Joined { joiner, .. }) = joined {
                    joiner.release();
                    while let Some(entry) = joiner.pop() {
                        queue.push_back(Piece::Entry(Box::new(entry)));
                    }
                }
            }
        }
        Ok(!*at_end)
    }
}

#[inline]
fn piece(record: Record<'_>, order: ByteOrder) -> Piece {
    match record {
        Record::Event(Frame::Event(event), usage) => Piece::Event(event, usage),
        Record::Event(Frame::Raw(bytes), _) => Piece::Raw(native(bytes, order)),
        Record::Loss(loss) => Piece::Loss(loss),
        Record::Blind(blind) => Piece::Blind(blind),
        record => match keep(record) {
            Ok(piece) => piece,
            Err(Record::Details(details)) => Piece::Other(Box::new(Record::Details(details))),
            Err(Record::Clock(anchor)) => Piece::Other(Box::new(Record::Clock(anchor))),
            Err(Record::Snapshot(snapshot)) => Piece::Other(Box::new(Record::Snapshot(snapshot))),
            Err(Record::Mark(mark)) => Piece::Other(Box::new(Record::Mark(mark))),
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
        Record::LeftOut(left_out) => Record::LeftOut(left_out),
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
