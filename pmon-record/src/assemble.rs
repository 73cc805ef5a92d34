//! The heart of the recorder, without threads and clocks: puts datagrams, losses and details in order.
//!
//! A simulator can drive it: every time is an argument.

use pmon_core::MonoNs;
use pmon_core::accounting::{Accountant, Continuity, Ledger, Lost};
use pmon_core::batch;
use pmon_core::capture::{Details, End, Frame, Loss, Miss, Record, Subject};
use pmon_core::wire::{Body, ByteOrder, Event, Message, messages};

use crate::chunk::{Chunk, SETTLE};
use crate::details::{Exec, Outcome};
use crate::pending::Pending;
use crate::sink::{Sink, SinkError};

/// What has been counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams recorded.
    pub events: u64,
    /// Events lost, over all `Loss` records.
    pub lost: Lost,
    /// Datagrams not recorded because user space sent them.
    pub rejected: u64,
    /// Overruns that the source reported: each stands for any number of lost events.
    pub overruns: u64,
    /// Datagrams recorded in part because they were longer than a slot.
    pub truncated: u64,
    /// Details recorded of which something is missing.
    pub details_missed: u64,
}

/// Turns chunks and results into records, in order, and gives them to a sink.
#[derive(Debug)]
pub struct Assembler<S> {
    sink: S,
    order: ByteOrder,
    accountant: Accountant,
    ledger: Ledger,
    counts: Counts,
    overrun: Overrun,
    /// `None` where details are not wanted.
    pending: Option<Pending>,
}

/// Which gaps an overrun explains. The kernel may go on to drop until the socket has been emptied, without a
/// further report.
#[derive(Clone, Copy, Debug)]
enum Overrun {
    Now,
    /// The last one ended before this time.
    Until(MonoNs),
}

impl<S: Sink> Assembler<S> {
    /// An assembler at the start of a recording, with details after each exec or without.
    pub fn new(sink: S, order: ByteOrder, details: bool) -> Self {
        Self {
            sink,
            order,
            accountant: Accountant::new(),
            ledger: Ledger::default(),
            counts: Counts::default(),
            overrun: Overrun::Until(MonoNs(0)),
            pending: details.then(Pending::default),
        }
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
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

    /// Takes the next chunk.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn chunk(&mut self, chunk: &Chunk) -> Result<(), SinkError> {
        if chunk.overruns > 0 {
            self.counts.overruns += chunk.overruns;
            self.overrun = Overrun::Now;
        }
        let mut busy = chunk.busy.iter().peekable();
        for (at, frame) in chunk.batch.frames().enumerate() {
            let busy = busy.next_if(|&&busy| busy as usize == at).is_some();
            self.frame(frame, busy)?;
        }
        if let Some(time) = chunk.drained_at {
            self.drained(time)?;
        }
        Ok(())
    }

    /// Takes a record that is complete as it is.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        if let Record::Details(details) = record {
            self.counts.details_missed += u64::from(details.miss.is_some());
        }
        self.sink.record(record)
    }

    /// Takes what was read after an exec.
    pub(crate) fn details(&mut self, outcome: Outcome) -> Result<(), SinkError> {
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
        self.release()?;
        if let Some(mut pending) = self.pending.take() {
            for details in pending.give_up() {
                self.record(&Record::Details(details))?;
            }
        }
        let Counts { events, lost, rejected, .. } = self.counts;
        let end = End { time, events, lost, rejected, ..End::default() };
        self.sink.record(&Record::End(end))?;
        self.sink.finish()?;
        Ok(end)
    }

    fn frame(&mut self, datagram: batch::Frame<'_>, busy: bool) -> Result<(), SinkError> {
        // Only the kernel has port 0; what else comes is forged, whatever it says.
        if datagram.arrival.sender != 0 {
            self.counts.rejected += 1;
            return Ok(());
        }
        self.counts.truncated += u64::from(datagram.is_truncated());
        let frame = Frame::new(datagram.bytes, self.order);
        match &frame {
            Frame::Event(event) => self.account(event)?,
            Frame::Raw(bytes) => {
                for message in messages(bytes, self.order) {
                    if let Ok(Message::Event(event)) = message {
                        self.account(&event)?;
                    }
                }
            }
        }
        self.counts.events += 1;
        self.sink.record(&Record::Event(frame))?;
        match frame.event(self.order) {
            Some(Event { body: Body::Exec { task }, time, .. }) => {
                self.exec(Exec { tgid: task.tgid, time }, busy)
            }
            _ => Ok(()),
        }
    }

    fn account(&mut self, event: &Event) -> Result<(), SinkError> {
        let Continuity::Gap(gap) = self.accountant.observe(event) else { return Ok(()) };
        self.blind();
        let causes: Vec<_> = self.ledger.split(&gap).collect();
        for loss in Loss::of_gap(gap, causes) {
            self.counts.lost.add(loss.cause, loss.count());
            self.sink.record(&Record::Loss(loss))?;
        }
        Ok(())
    }

    /// Events have been lost: an exec may be among them.
    fn blind(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.blind();
        }
    }

    fn exec(&mut self, exec: Exec, busy: bool) -> Result<(), SinkError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        pending.exec(exec, !busy);
        if !busy {
            return Ok(());
        }
        let subject = Subject::Exec { tgid: exec.tgid, time: exec.time };
        self.record(&Record::Details(Box::new(Details::missed(subject, Miss::Busy))))
    }

    /// All events up to `time` have been taken.
    fn drained(&mut self, time: MonoNs) -> Result<(), SinkError> {
        if matches!(self.overrun, Overrun::Now) {
            // The overrun was reported before what was still queued: that has come by now.
            self.overrun = Overrun::Until(MonoNs(time.0 + SETTLE));
            self.blind();
        }
        if let Some(pending) = &mut self.pending {
            pending.advance(time);
        }
        self.release()
    }

    /// Records the details that have become certain.
    fn release(&mut self) -> Result<(), SinkError> {
        while let Some(details) = self.pending.as_mut().and_then(Pending::next_certain) {
            self.record(&Record::Details(details))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
