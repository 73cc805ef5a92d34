//! Whether the kernel emitted every event: what the heartbeat thread has done and read, held against what came.

use pmon_core::capture::{Blind, ForkCount, Forks, Reason, Record};

use super::Assembler;
use crate::forks::ForkWitness;
use crate::sign::Sign;
use crate::sink::{Sink, SinkError};

/// What the heartbeat thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The kernel seems to emit nothing: is to look whether it does, and to make it count enough listeners.
    Resubscribe,
    /// Forks seem to be missing: is to read their count again, after a fence.
    Recount,
}

/// What is known of forks where only a part of the events is recorded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Fork events.
    pub(super) forks: u64,
    first: Option<ForkCount>,
    /// The last two.
    last: [Option<ForkCount>; 2],
}

impl Part {
    fn read(&mut self, count: ForkCount) {
        self.first.get_or_insert(count);
        self.last = [self.last[1], Some(count)];
    }
}

impl<S: Sink> Assembler<S> {
    /// What the heartbeat thread is to do, if something new has happened that calls for it.
    pub(crate) fn take_request(&mut self) -> Option<Ask> {
        self.request.take()
    }

    /// Whether a heartbeat is missing, though all that was emitted before it has been received.
    pub(crate) fn misses_heartbeats(&self) -> bool {
        self.liveness.misses()
    }

    /// Takes what the heartbeat thread has done: the sign of that number, counted from 1. It comes before the chunk that says that all
    /// that was emitted before it has been received.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn sign(&mut self, number: u64, sign: Sign) -> Result<(), SinkError> {
        match sign {
            // What came before the recording began does not count.
            Sign::Heartbeat(heartbeat) if heartbeat.began >= self.setup.since => {
                self.liveness.announce(number, heartbeat, self.last.max(self.setup.since));
            }
            Sign::Forks { forks: Forks::Counted(count), fenced } if count.from >= self.setup.since => {
                self.readings.push_back((number, count, fenced));
            }
            Sign::Forks { forks: forks @ Forks::Absent { .. }, .. } => {
                self.sink.record(&Record::Forks(forks))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares the readings of the count of forks before which all events have come with these.
    pub(super) fn compare_forks(&mut self) -> Result<(), SinkError> {
        while let Some(&(number, count, fenced)) = self.readings.front()
            // A heartbeat that is missing before it will tell more.
            && number <= self.received && !self.liveness.awaits(number)
        {
            self.readings.pop_front();
            self.sink.record(&Record::Forks(Forks::Counted(count)))?;
            if let Some(part) = &mut self.part {
                part.read(count);
                continue;
            }
            let shown = self.forks.read(count, fenced);
            if shown.is_suspicious {
                self.request.get_or_insert(Ask::Recount);
            }
            if let Some(blind) = shown.blind {
                self.find_blind(blind)?;
            }
        }
        Ok(())
    }

    /// The same at the end of a recording of a part of the events: which of those that are left out are forks is not known.
    pub(super) fn compare_forks_in_all(&mut self) -> Result<(), SinkError> {
        let Some(Part { forks, first: Some(first), last: [Some(one), Some(other)] }) = self.part else {
            return Ok(());
        };
        let left_out: u64 = self.accountant.left_out().map(|(_, _, count)| count).sum();
        let events = forks + self.counts.lost.total() + left_out;
        let blind = |reading| ForkWitness::in_all(&first, reading, events);
        match (blind(&one), blind(&other)) {
            (Some(_), Some(blind)) => self.find_blind(blind),
            _ => Ok(()),
        }
    }

    /// Records a time in which the kernel emitted no events, or not all of them, but for what is recorded of it already.
    pub(super) fn find_blind(&mut self, blind: Blind) -> Result<(), SinkError> {
        let told = self.last_blind.filter(|last| blind.from < last.until && last.from < blind.until);
        let from = told.map_or(blind.from, |last| blind.from.max(last.until));
        if blind.until <= from {
            return Ok(());
        }
        let blind = Blind { from, ..blind };
        self.last_blind = Some(blind);
        self.blind(blind)
    }

    /// Takes a time in which the kernel emitted no events, or not all of them, that somebody else has found.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn blind(&mut self, blind: Blind) -> Result<(), SinkError> {
        self.counts.blinds += 1;
        self.counts.blind_ns += blind.length_ns();
        self.rescan = Some(Reason::Blind);
        self.doubt_details();
        self.sink.record(&Record::Blind(blind))
    }
}
