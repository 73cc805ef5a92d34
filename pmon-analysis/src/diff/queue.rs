//! One order of records, in both captures: what the one has and the other has not yet.

use std::collections::VecDeque;

use pmon_core::MonoNs;
use pmon_core::capture::Loss;

use super::record::{ComparedRecord, LossInterval, Piece, Rules};
use super::{DiffCounts, Side};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Records of one side, oldest first, whose counterparts have not come.
    waiting: VecDeque<ComparedRecord>,
    /// The side that they are of is B.
    of_b: bool,
    /// The losses of each side that may go on with the next record.
    open: [Option<Box<LossInterval>>; 2],
    /// What was the same so far.
    pub(super) equal: DiffCounts,
}

/// What became of a record.
pub(super) enum Met {
    /// Its counterpart is the same, and gone, with so many bytes beside it. The record may have others: the same datagram
    /// can be an event in its usual form in one capture, and raw in the other.
    Same { bytes: usize },
    /// The same, of losses: the counterpart.
    SameLoss(Box<LossInterval>),
    /// Its counterpart is another one.
    Different(ComparedRecord),
    /// There is no counterpart yet.
    Alone,
}

impl Stream {
    /// Takes a loss. If it does not go on with the one before, that one is whole.
    pub(super) fn join(&mut self, side: Side, loss: &Loss) -> Option<Box<LossInterval>> {
        let open = &mut self.open[side as usize];
        if open.as_mut().is_some_and(|stretch| stretch.extend(loss)) {
            return None;
        }
        open.replace(Box::new(LossInterval::new(loss)))
    }

    /// The loss that nothing can be added to any more.
    #[inline]
    pub(super) fn whole_loss(&mut self, side: Side) -> Option<Box<LossInterval>> {
        self.open[side as usize].take()
    }

    #[inline]
    pub(super) fn meet(&mut self, side: Side, piece: &Piece<'_>, rules: Rules) -> Met {
        if self.of_b == (side == Side::B) {
            return Met::Alone;
        }
        let Some(theirs) = self.waiting.front() else { return Met::Alone };
        let same = rules.same(side, piece, &theirs.piece());
        match (same, self.waiting.pop_front()) {
            (true, Some(ComparedRecord::Loss(theirs))) => Met::SameLoss(theirs),
            (true, Some(theirs)) => Met::Same { bytes: theirs.piece().bytes() },
            (false, Some(theirs)) => Met::Different(theirs),
            (_, None) => Met::Alone,
        }
    }

    /// Lets a record wait, where nothing of the other side does. Gives for how many more there is memory now.
    #[inline]
    pub(super) fn hold(&mut self, side: Side, item: ComparedRecord) -> usize {
        let before = self.waiting.capacity();
        self.of_b = side == Side::B;
        self.waiting.push_back(item);
        self.waiting.capacity() - before
    }

    /// Gives back the memory of those that no longer wait.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
    }

    /// The time of the oldest record of that side that waits.
    pub(super) fn oldest(&self, side: Side) -> Option<MonoNs> {
        self.waiting.front().filter(|_| self.holder() == side).map(ComparedRecord::time)
    }

    pub(super) fn pop(&mut self) -> Option<ComparedRecord> {
        self.waiting.pop_front()
    }

    pub(super) fn held(&self) -> usize {
        self.waiting.len()
    }

    /// For how many records it has memory.
    pub(super) fn room(&self) -> usize {
        self.waiting.capacity()
    }

    pub(super) fn holder(&self) -> Side {
        if self.of_b { Side::B } else { Side::A }
    }

    pub(super) fn forget(&mut self) {
        self.waiting = VecDeque::new();
    }
}
