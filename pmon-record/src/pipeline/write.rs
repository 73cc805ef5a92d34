//! The writer thread: chunks and results to the assembler, time to the sink.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::capture::{ClockAnchor, End, Record, SnapshotReason};

use crate::clock::{self, Clock};
use crate::details::exec::Outcome;
use crate::details::snapshot::Scanned;
use crate::liveness::checkpoint::Checkpoint;
use crate::liveness::heartbeat::HeartbeatRequester;
use crate::pipeline::assemble::{Assembler, RecoveryRequest};
use crate::pipeline::receive::ChunkOutput;
use crate::recording::Shared;
use crate::sink::{Sink, SinkError};

/// Time between two ticks of the sink and two readings of the clocks while records arrive.
const TICK: Duration = Duration::from_millis(20);
/// Time between two ticks while no records arrive, unless the sink requests an earlier one.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// The end of a recording waits no longer for details and the snapshot: the reading of a process whose memory is
/// locked can take any time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The ends of the writer thread's queues.
pub(crate) struct Queues {
    pub(crate) chunks: ChunkOutput,
    /// Checkpoints of the heartbeat thread, by number.
    pub(crate) checkpoints: Receiver<(u64, Checkpoint)>,
    pub(crate) requester: HeartbeatRequester,
    pub(crate) results: Receiver<Outcome>,
    pub(crate) snapshot: Receiver<Scanned>,
    /// Reasons for another snapshot; `None` when none will come any more.
    pub(crate) rescans: Option<SyncSender<SnapshotReason>>,
}

/// The state of the writer thread.
pub(crate) struct Writer<S> {
    assembler: Assembler<S>,
    queues: Queues,
    shared: Arc<Shared>,
    clock: Clock,
    anchor: ClockAnchor,
    clocks_at: Instant,
    tick_at: Instant,
}

impl<S: Sink> Writer<S> {
    pub(crate) fn new(assembler: Assembler<S>, queues: Queues, shared: Arc<Shared>, clock: Clock) -> Self {
        let now = Instant::now();
        let anchor = ClockAnchor::default();
        Self { assembler, queues, shared, clock, anchor, clocks_at: now, tick_at: now + TICK }
    }

    /// Runs until the drain thread has ended. `None`: it failed, and the recording has no clean end.
    pub(crate) fn run(mut self) -> Result<(S, Option<End>), SinkError> {
        loop {
            // In this order: what is queued when the queue is seen abandoned is all there will be.
            let is_over = self.queues.chunks.filled.is_abandoned();
            self.take()?;
            self.shared.publish(self.assembler.counters());
            if is_over && self.queues.chunks.filled.is_empty() {
                break;
            }
            let now = Instant::now();
            self.tick(now)?;
            if self.queues.chunks.filled.is_empty() && !self.queues.chunks.filled.is_abandoned() {
                thread::park_timeout(self.tick_at.saturating_duration_since(now));
            }
        }
        self.queues.rescans = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.take_last()? {}
        if self.shared.failed.load(Ordering::Acquire) {
            // What is there must be safe; the end that did not come must not be claimed.
            self.assembler.sink_mut().tick(Instant::now() + IDLE_TICK)?;
            return Ok((self.assembler.into_sink(), None));
        }
        let end = self.assembler.finish(self.clock.mono())?;
        self.shared.publish(self.assembler.counters());
        Ok((self.assembler.into_sink(), Some(end)))
    }

    /// Takes what is queued.
    fn take(&mut self) -> Result<(), SinkError> {
        while let Ok(chunk) = self.queues.chunks.filled.pop() {
            self.shared.begin(chunk.handed_at);
            // The thread sends a checkpoint before it counts it, so all checkpoints of the chunk
            // are here.
            while let Ok((number, checkpoint)) = self.queues.checkpoints.try_recv() {
                self.assembler.add_checkpoint(number, checkpoint)?;
            }
            self.assembler.add_chunk(&chunk)?;
            match self.assembler.take_request() {
                Some(RecoveryRequest::Resubscribe) => self.queues.requester.resubscribe(self.shared.clone()),
                Some(RecoveryRequest::Recount) => self.queues.requester.recount(),
                None => {}
            }
            if self.shared.is_blind() && !self.assembler.misses_heartbeats() {
                self.shared.set_blind(false);
            }
            let received_at = chunk.received_at;
            self.queues.chunks.recycle(chunk);
            self.shared.taken.fetch_add(1, Ordering::Relaxed);
            if let (Some(reason), Some(rescans)) =
                (self.assembler.take_snapshot_reason(), &self.queues.rescans)
            {
                // If one is waited for, it serves this reason, too.
                let _ = rescans.try_send(reason);
            }
            while let Ok(outcome) = self.queues.results.try_recv() {
                self.assembler.details(outcome)?;
            }
            self.tick_soon(received_at);
            self.tick(Instant::now())?;
        }
        self.shared.caught_up();
        while let Ok(outcome) = self.queues.results.try_recv() {
            self.assembler.details(outcome)?;
        }
        while let Ok(scanned) = self.queues.snapshot.try_recv() {
            self.assembler.record(&scanned.record)?;
            self.tick_soon(Instant::now());
        }
        Ok(())
    }

    /// Waits for the details and the snapshot that are being read; `false` when all have come.
    fn take_last(&mut self) -> Result<bool, SinkError> {
        let more = match self.queues.results.recv_timeout(TICK) {
            Ok(outcome) => self.assembler.details(outcome).map(|()| true)?,
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => match self.queues.snapshot.recv_timeout(TICK) {
                Ok(scanned) => self.assembler.record(&scanned.record).map(|()| true)?,
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            },
        };
        self.tick(Instant::now())?;
        Ok(more)
    }

    fn tick(&mut self, now: Instant) -> Result<(), SinkError> {
        if now >= self.clocks_at {
            self.clocks_at = now + TICK;
            let anchor = self.clock.anchor();
            if clock::is_due(&self.anchor, &anchor) {
                self.anchor = anchor;
                self.assembler.record(&Record::Clock(anchor))?;
                self.tick_soon(now);
            }
        }
        if now >= self.tick_at {
            let due = self.assembler.sink_mut().tick(now)?;
            self.tick_at = due.map_or(now + IDLE_TICK, |due| due.clamp(now + TICK, now + IDLE_TICK));
        }
        Ok(())
    }

    /// A record has come that was there from that time on.
    fn tick_soon(&mut self, since: Instant) {
        self.tick_at = self.tick_at.min(since + TICK);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use pmon_core::Tgid;
    use pmon_core::wire::ByteOrder;
    use pmon_fake::FakeSource;

    use super::*;
    use crate::liveness::heartbeat::Pulse;
    use crate::pipeline::assemble::AssemblerSettings;
    use crate::pipeline::receive::Receiver;

    /// A sink that records whether the end was received.
    struct Ending(bool);

    impl Sink for Ending {
        fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
            self.0 |= matches!(record, Record::End(_));
            Ok(())
        }

        fn tick(&mut self, _now: Instant) -> Result<Option<Instant>, SinkError> {
            Ok(None)
        }

        fn finish(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    #[test]
    fn a_process_that_cannot_be_read_keeps_no_recording_from_its_end() {
        let (receiver, chunks) = Receiver::new(FakeSource::new(), 1 << 20, 0);
        // The details thread and the snapshot thread are in the middle of a reading that may take
        // any time.
        let (_reading, results) = sync_channel(1);
        let (_scanning, snapshot) = sync_channel(1);
        let (pulse, checkpoints) = Pulse::start(Duration::ZERO, 0).unwrap();
        let queues =
            Queues { chunks, checkpoints, requester: pulse.requester(), results, snapshot, rescans: None };
        let assembler = Assembler::new(Ending(false), AssemblerSettings::new(ByteOrder::NATIVE, Tgid(1)));
        let shared = Arc::new(Shared::default());
        drop(receiver);
        let began = Instant::now();
        let (sink, end) = Writer::new(assembler, queues, shared, Clock::new()).run().unwrap();
        assert!(sink.0 && end.is_some());
        assert!(began.elapsed() < 2 * PATIENCE);
    }
}
