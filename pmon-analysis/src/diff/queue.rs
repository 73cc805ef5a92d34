//! The records of one stream that only one of the two captures has delivered so far.

use std::collections::VecDeque;

use pmon_core::MonoNs;
use pmon_core::capture::Loss;

use super::record::{ComparedRecord, ComparedRef, EqualityRules, LossInterval, Side};
use super::report::DiffCounts;

/// The waiting records of a stream.
#[derive(Debug, Default)]
pub(super) struct StreamQueue {
    /// Records of one side, oldest first, whose counterparts have not arrived.
    waiting: VecDeque<ComparedRecord>,
    /// Whether `waiting` holds records of side B.
    of_b: bool,
    /// Loss interval of each side that the next record may extend.
    open: [Option<Box<LossInterval>>; 2],
    /// Number of equal records so far.
    pub(super) equal: DiffCounts,
}

/// Result of comparing a record with its counterpart.
pub(super) enum MatchResult {
    /// The counterpart is equal. Its memory can differ from the record's: the same datagram can be
    /// an event in its usual form in one capture, and raw in the other.
    Equal(ComparedRecord),
    /// The counterpart is different.
    Different(ComparedRecord),
    /// The counterpart has not arrived yet.
    NoCounterpart,
}

impl StreamQueue {
    /// Adds a loss. If it does not extend the open interval, returns that interval, which is then
    /// complete.
    pub(super) fn add_loss(&mut self, side: Side, loss: &Loss) -> Option<Box<LossInterval>> {
        let open = &mut self.open[side as usize];
        if open.as_mut().is_some_and(|interval| interval.extend(loss)) {
            return None;
        }
        open.replace(Box::new(LossInterval::new(loss)))
    }

    /// Closes and returns the open loss interval.
    #[inline]
    pub(super) fn close_loss(&mut self, side: Side) -> Option<Box<LossInterval>> {
        self.open[side as usize].take()
    }

    /// Compares a record with its counterpart, and removes the counterpart.
    #[inline]
    pub(super) fn match_next(
        &mut self,
        side: Side,
        record: &ComparedRef<'_>,
        rules: EqualityRules,
    ) -> MatchResult {
        if self.of_b == (side == Side::B) {
            return MatchResult::NoCounterpart;
        }
        match self.waiting.pop_front() {
            Some(theirs) if rules.are_equal(side, record, &theirs.as_compared()) => {
                MatchResult::Equal(theirs)
            }
            Some(theirs) => MatchResult::Different(theirs),
            None => MatchResult::NoCounterpart,
        }
    }

    /// Appends a record while no record of the other side waits. Returns by how many records the
    /// capacity has grown.
    #[inline]
    pub(super) fn push(&mut self, side: Side, record: ComparedRecord) -> usize {
        let before = self.waiting.capacity();
        self.of_b = side == Side::B;
        self.waiting.push_back(record);
        self.waiting.capacity() - before
    }

    /// Releases unused memory.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
    }

    /// Returns the time of the oldest waiting record of a side.
    pub(super) fn oldest(&self, side: Side) -> Option<MonoNs> {
        self.waiting.front().filter(|_| self.waiting_side() == side).map(ComparedRecord::time)
    }

    pub(super) fn pop(&mut self) -> Option<ComparedRecord> {
        self.waiting.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the number of records that fit in the allocated memory.
    pub(super) fn capacity(&self) -> usize {
        self.waiting.capacity()
    }

    /// Returns the side whose records wait.
    pub(super) fn waiting_side(&self) -> Side {
        if self.of_b { Side::B } else { Side::A }
    }

    pub(super) fn clear(&mut self) {
        self.waiting = VecDeque::new();
    }
}
