//! The writer thread: passes chunks and details to the assembler, and the time to the sink.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::MonoNs;
use pmon_core::capture::{ClockAnchor, CpuCounts, End, Record, SegmentReason, Snapshot, SnapshotReason};

use crate::clock::{self, Clock};
use crate::details::exec::ExecDetails;
use crate::details::snapshot::Scanned;
use crate::liveness::checkpoint::Checkpoint;
use crate::liveness::heartbeat::{HeartbeatHandle, HeartbeatRequest};
use crate::machine;
use crate::pipeline::assemble::{Assembler, RecoveryRequest};
use crate::pipeline::queue::ChunkOutput;
use crate::sink::{Sink, SinkError};
use crate::status::RecordingStatus;
use crate::transport::ring::RingCounter;

/// Time between two ticks of the sink and two readings of the clocks while records arrive.
const TICK: Duration = Duration::from_millis(20);
/// Time between two ticks while no records arrive, unless the sink requests an earlier one.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Maximum time that the end of a recording waits for details and the snapshot.
///
/// Reading a process whose memory is locked can take any time.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time that the record of a scan's end waits for the events before it, if none arrive.
const MAX_SCAN_WAIT: Duration = Duration::from_secs(1);

/// Maximum time from the request of a fence to the division of the recording. If a CPU's event has
/// not been received by then, the recording is divided without it.
const FENCE_TIMEOUT: Duration = Duration::from_secs(1);

/// The writer thread's ends of its queues.
pub(crate) struct WriterQueues {
    pub(crate) chunks: ChunkOutput,
    /// Checkpoints of the heartbeat thread, by number.
    pub(crate) checkpoints: Receiver<(u64, Checkpoint)>,
    pub(crate) heartbeat: HeartbeatHandle,
    pub(crate) results: Receiver<ExecDetails>,
    pub(crate) snapshot: Receiver<Scanned>,
    /// Requests to the snapshot thread. `None` if there is no such thread, or at the end.
    pub(crate) snapshot_reasons: Option<SyncSender<SnapshotReason>>,
    /// Reads the ring's counts, if there is a ring.
    pub(crate) ring: Option<RingCounter>,
}

/// The state of the writer thread.
pub(crate) struct WriterThread<S> {
    assembler: Assembler<S>,
    queues: WriterQueues,
    status: Arc<RecordingStatus>,
    clock: Clock,
    /// The last recorded anchor.
    anchor: ClockAnchor,
    /// Time of the next reading of the clocks.
    clocks_at: Instant,
    /// Time of the next tick of the sink.
    tick_at: Instant,
    /// Why the next segment will begin, and when the fence was requested.
    division: Option<(SegmentReason, Instant)>,
    /// Whether the recording ends, so that it is no longer divided.
    is_ending: bool,
    ended_scan: EndedScan,
}

/// A scan of `/proc` that has ended.
///
/// Its record follows the exits that happened during the scan. Otherwise, a reader would take a
/// process that the scan did not find for one whose exit was lost.
#[derive(Debug, Default)]
struct EndedScan {
    /// The scan, and the time after which its record waits no longer.
    waiting: Option<(Snapshot, Instant)>,
    /// Time up to which all events have been processed.
    drained_at: MonoNs,
}

impl EndedScan {
    /// Returns the scan once all events up to its end have been processed, or if no event has been
    /// received for [`MAX_SCAN_WAIT`].
    fn take(&mut self, now: Instant) -> Option<Snapshot> {
        let is_due = |&mut (scan, until): &mut (Snapshot, _)| scan.ended <= self.drained_at || now >= until;
        self.waiting.take_if(is_due).map(|(scan, _)| scan)
    }
}

impl<S: Sink> WriterThread<S> {
    pub(crate) fn new(
        assembler: Assembler<S>,
        queues: WriterQueues,
        status: Arc<RecordingStatus>,
        clock: Clock,
    ) -> Self {
        let now = Instant::now();
        let anchor = ClockAnchor::default();
        let (division, is_ending, ended_scan) = (None, false, EndedScan::default());
        let (tick_at, clocks_at) = (now + TICK, now);
        Self { assembler, queues, status, clock, anchor, clocks_at, tick_at, division, is_ending, ended_scan }
    }

    /// Runs until the drain thread has ended. Returns no [`End`] if that thread failed, because the
    /// recording then has no clean end.
    pub(crate) fn run(mut self) -> Result<(S, Option<End>), SinkError> {
        loop {
            // Read before the queue is emptied, so no chunk can follow.
            let is_last = self.queues.chunks.filled.is_abandoned();
            self.process_queues()?;
            self.status.publish(self.assembler.counters());
            if is_last && self.queues.chunks.filled.is_empty() {
                break;
            }
            let now = Instant::now();
            self.tick(now)?;
            if self.queues.chunks.filled.is_empty() && !self.queues.chunks.filled.is_abandoned() {
                thread::park_timeout(self.tick_at.saturating_duration_since(now));
            }
        }
        self.is_ending = true;
        self.record_scan_end(None)?;
        self.queues.snapshot_reasons = None;
        let deadline = Instant::now() + END_TIMEOUT;
        while Instant::now() < deadline && self.process_remaining()? {}
        if self.status.failed.load(Ordering::Acquire) {
            // Makes the records so far safe, and writes no end record, which would be false.
            self.assembler.sink_mut().tick(Instant::now() + IDLE_TICK)?;
            return Ok((self.assembler.into_sink(), None));
        }
        // The threads take some time to end. Events of that time are not recorded.
        let until = self.status.observed_until().unwrap_or_else(|| self.clock.mono());
        let end = self.assembler.finish(until)?;
        self.status.publish(self.assembler.counters());
        Ok((self.assembler.into_sink(), Some(end)))
    }

    /// Processes everything that is queued.
    fn process_queues(&mut self) -> Result<(), SinkError> {
        while let Some(chunk) = self.queues.chunks.pop() {
            self.status.set_current_chunk(Some(chunk.handed_at));
            // The heartbeat thread sends a checkpoint before it counts it, so all checkpoints of
            // the chunk are here.
            while let Ok((number, checkpoint)) = self.queues.checkpoints.try_recv() {
                self.assembler.add_checkpoint(number, checkpoint)?;
            }
            self.assembler.add_chunk(&chunk)?;
            self.ended_scan.drained_at = chunk.drained_at.unwrap_or(self.ended_scan.drained_at);
            if let Some(request) = self.assembler.take_request() {
                self.queues.heartbeat.request(match request {
                    RecoveryRequest::Resubscribe => HeartbeatRequest::Resubscribe(self.status.clone()),
                    RecoveryRequest::Recount => HeartbeatRequest::Recount,
                });
            }
            if self.status.is_blind() && !self.assembler.misses_heartbeats() {
                self.status.set_blind(false);
            }
            let (received_at, handed_at) = (chunk.received_at, chunk.handed_at);
            self.queues.chunks.recycle(chunk);
            self.status.processed.fetch_add(1, Ordering::Relaxed);
            if let (Some(reason), Some(reasons)) =
                (self.assembler.take_snapshot_reason(), &self.queues.snapshot_reasons)
            {
                // If the queue is full, the next snapshot serves this reason as well.
                let _ = reasons.try_send(reason);
            }
            self.process_results()?;
            // A writer thread that lags divides after the fence as well.
            self.divide_if_fenced(handed_at)?;
            self.tick_soon(received_at);
            self.tick(Instant::now())?;
        }
        self.status.set_current_chunk(None);
        self.process_results()?;
        self.divide_if_fenced(Instant::now())?;
        if self.assembler.awaits_late_details() {
            self.assembler.advance(self.clock.mono())?;
        }
        while let Ok(scanned) = self.queues.snapshot.try_recv() {
            match scanned.record {
                Record::Snapshot(scan) => {
                    self.record_scan_end(None)?;
                    self.ended_scan.waiting = Some((scan, Instant::now() + MAX_SCAN_WAIT));
                }
                details => {
                    self.assembler.record(&details)?;
                    self.tick_soon(Instant::now());
                }
            }
        }
        self.record_scan_end(Some(Instant::now()))
    }

    /// Records the end of a scan once it is due, or at once without a time.
    fn record_scan_end(&mut self, now: Option<Instant>) -> Result<(), SinkError> {
        let due = match now {
            Some(now) => self.ended_scan.take(now),
            None => self.ended_scan.waiting.take().map(|(scan, _)| scan),
        };
        let Some(scan) = due else { return Ok(()) };
        self.assembler.record(&Record::Snapshot(scan))?;
        self.tick_soon(Instant::now());
        Ok(())
    }

    fn process_results(&mut self) -> Result<(), SinkError> {
        while let Ok(details) = self.queues.results.try_recv() {
            self.assembler.add_details(details)?;
        }
        Ok(())
    }

    /// Waits for details and the snapshot that are being read. Returns `false` if there are no
    /// more.
    fn process_remaining(&mut self) -> Result<bool, SinkError> {
        let has_more = match self.queues.results.recv_timeout(TICK) {
            Ok(details) => self.assembler.add_details(details).map(|()| true)?,
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => match self.queues.snapshot.recv_timeout(TICK) {
                Ok(scanned) => self.assembler.record(&scanned.record).map(|()| true)?,
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            },
        };
        self.tick(Instant::now())?;
        Ok(has_more)
    }

    /// Records the clocks and ticks the sink, where either is due.
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
            if self.division.is_none()
                && !self.is_ending
                && !self.assembler.awaits_late_details()
                && let Some(reason) = self.assembler.sink_mut().segment_due()
            {
                self.prepare_division(reason, now);
            }
        }
        Ok(())
    }

    /// Requests an event of every CPU, after which the recording is divided.
    fn prepare_division(&mut self, reason: SegmentReason, now: Instant) {
        self.division = Some((reason, now));
        // The counts are read first, so that they include no event from after the request.
        let ring = self.ring_counts();
        self.assembler.prepare_division(self.clock.mono(), machine::online_cpus(), ring);
        self.queues.heartbeat.request(HeartbeatRequest::Divide);
    }

    /// Divides the recording if all events up to the requested fence have been processed, or all
    /// events that were received up to `time`, and that is too late.
    fn divide_if_fenced(&mut self, time: Instant) -> Result<(), SinkError> {
        let Some((reason, requested_at)) = self.division else { return Ok(()) };
        if !self.assembler.is_fenced() && time < requested_at + FENCE_TIMEOUT {
            self.tick_at = self.tick_at.min(requested_at + FENCE_TIMEOUT);
            return Ok(());
        }
        self.division = None;
        self.record_scan_end(None)?;
        let ring = self.ring_counts();
        self.anchor = self.clock.anchor();
        self.assembler.divide(reason, self.anchor, ring)?;
        // The first reading of the segment, with which later ones are compared.
        self.queues.heartbeat.request(HeartbeatRequest::Count);
        self.tick_soon(Instant::now());
        Ok(())
    }

    /// Returns the ring's counts as of now; `None` if there is no ring.
    fn ring_counts(&self) -> Option<Vec<CpuCounts>> {
        self.queues.ring.as_ref().and_then(|ring| ring.counts().ok())
    }

    /// Schedules the next tick for a record that has existed since `since`.
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
    use crate::pipeline::assemble::AssemblerSettings;
    use crate::pipeline::receive;

    /// A sink that records whether it received the end.
    struct EndSink(bool);

    impl Sink for EndSink {
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

    /// Returns the queues of a writer thread whose source is closed, and the other ends of the
    /// details thread and the snapshot thread, which are in the middle of a reading that may take
    /// any time.
    fn closed_queues() -> (WriterQueues, impl Sized) {
        let (_receiver, chunks) = receive::Receiver::new(FakeSource::new(), 1 << 20, 0);
        let (reading, results) = sync_channel(1);
        let (scanning, snapshot) = sync_channel(1);
        let (heartbeat, checkpoints) = HeartbeatHandle::start(Duration::ZERO, 0).unwrap();
        let (snapshot_reasons, ring) = (None, None);
        let queues =
            WriterQueues { chunks, checkpoints, heartbeat, results, snapshot, snapshot_reasons, ring };
        (queues, (reading, scanning))
    }

    fn assembler() -> Assembler<EndSink> {
        Assembler::new(EndSink(false), AssemblerSettings::new(ByteOrder::NATIVE, Tgid(1)))
    }

    #[test]
    fn the_end_of_a_scan_follows_the_events_that_happened_before_it() {
        let now = Instant::now();
        let (started, ended) = (MonoNs(100), MonoNs(200));
        let reason = SnapshotReason::Start;
        let scan = Snapshot { started, ended, processes: 1, reason, atomic: false };
        let take = |drained_at, now| {
            let waiting = Some((scan, now + MAX_SCAN_WAIT));
            let mut scan = EndedScan { waiting, drained_at: MonoNs(drained_at) };
            let early = scan.take(now).is_some();
            (early, scan.take(now + MAX_SCAN_WAIT).is_some(), scan.waiting.is_some())
        };
        assert_eq!(take(199, now), (false, true, false));
        assert_eq!(take(200, now), (true, false, false));
    }

    #[test]
    fn a_recording_ends_although_a_process_cannot_be_read() {
        let (queues, _reading) = closed_queues();
        let status = Arc::new(RecordingStatus::default());
        let began = Instant::now();
        let (sink, end) = WriterThread::new(assembler(), queues, status, Clock::new()).run().unwrap();
        assert!(sink.0 && end.is_some());
        assert!(began.elapsed() < 2 * END_TIMEOUT);
    }

    #[test]
    fn a_recording_ends_when_its_last_event_could_be_received_not_when_its_threads_end() {
        let (queues, reading) = closed_queues();
        drop(reading);
        let status = Arc::new(RecordingStatus::default());
        let until = Clock::new().mono();
        status.set_observed_until(until);
        let (_, end) = WriterThread::new(assembler(), queues, status, Clock::new()).run().unwrap();
        assert_eq!(end.unwrap().time, until);
    }
}
