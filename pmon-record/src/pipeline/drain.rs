//! The drain thread receives datagrams from the source into chunks, and does nothing else.
//!
//! At steady state it allocates nothing, takes no lock, and does no I/O except receiving. It waits
//! for no other thread.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pmon_core::MonoNs;
use pmon_core::capture::{Fence, FencePosition};

use crate::clock::Clock;
use crate::details::exec::{Exec, ExecRequests};
use crate::liveness::fence;
use crate::liveness::heartbeat::{HeartbeatHandle, HeartbeatRequest};
use crate::pipeline::chunk::SETTLE;
use crate::pipeline::receive::{ReceiveStatus, Receiver};
use crate::pipeline::wakeups::{ReceivePace, WakeBudget};
use crate::status::RecordingStatus;
use crate::transport::live_source::LiveSource;

const SOURCE: Token = Token(0);
const WAKER: Token = Token(1);

/// Number of windows of [`crate::RecordOptions::latency`] between two hand-overs to the writer
/// thread with a lazy [`ReceivePace`].
///
/// An event then wakes the drain thread only after a window without events. A full chunk is handed
/// over at once.
const LAZY_HANDOVER_WINDOWS: u32 = 6;
/// Maximum time between two such hand-overs, unless the window is longer. A crash loses these
/// events.
const MAX_HANDOVER_INTERVAL: Duration = Duration::from_millis(60);
/// Maximum time that the end of a recording waits for details that are being read.
const DETAILS_TIMEOUT: Duration = Duration::from_millis(60);
/// Maximum time at the end of a recording to empty the socket and to receive an event of every CPU.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two receptions at the end of a recording.
const END_PAUSE: Duration = Duration::from_millis(1);

/// The state of the drain thread.
pub(crate) struct DrainThread {
    receiver: Receiver<LiveSource>,
    heartbeat: HeartbeatHandle,
    /// The last checkpoint of the heartbeat thread before which all events have been received or
    /// lost.
    checkpoints: u64,
    poll: Poll,
    consumers: DrainConsumers,
    clock: Clock,
    latency: Duration,
    /// Minimum time between two hand-overs of chunks that are not full.
    handover_interval: Duration,
    wake_budget: WakeBudget,
    /// Whether the fence at the start is still to be run.
    is_fence_due: bool,
}

/// The threads for which the drain thread receives: the writer thread and the details thread.
pub(crate) struct DrainConsumers {
    writer: Thread,
    requests: Option<ExecRequests>,
    status: Arc<RecordingStatus>,
    handed_at: Instant,
}

impl DrainConsumers {
    pub(crate) fn new(writer: Thread, requests: Option<ExecRequests>, status: Arc<RecordingStatus>) -> Self {
        Self { writer, requests, status, handed_at: Instant::now() }
    }

    /// Requests the details of new exec events, and hands over a full chunk.
    fn process(&mut self, receiver: &mut Receiver<LiveSource>, received: ReceiveStatus) -> io::Result<()> {
        self.request_details(receiver);
        match received {
            ReceiveStatus::Full | ReceiveStatus::Closed => self.hand_over(receiver),
            _ => Ok(()),
        }
    }

    fn request_details(&mut self, receiver: &mut Receiver<LiveSource>) {
        let Some(requests) = &mut self.requests else { return };
        let mut has_requested = false;
        receiver.scan(|datagram| {
            let Some(exec) = Exec::without_details(datagram) else { return false };
            let is_queued = requests.push(exec);
            has_requested |= is_queued;
            !is_queued
        });
        if has_requested {
            requests.wake();
        }
    }

    fn hand_over(&mut self, receiver: &mut Receiver<LiveSource>) -> io::Result<()> {
        if receiver.hand_over()? {
            self.status.handed_over.fetch_add(1, Ordering::Relaxed);
            self.writer.unpark();
            self.handed_at = Instant::now();
        }
        Ok(())
    }

    /// Whether details are awaited that no reception has confirmed yet.
    fn is_unsettled(&self) -> bool {
        self.requests.as_ref().is_some_and(ExecRequests::is_unsettled)
    }
}

impl DrainThread {
    pub(crate) fn new(
        mut receiver: Receiver<LiveSource>,
        heartbeat: HeartbeatHandle,
        poll: Poll,
        consumers: DrainConsumers,
        pace: ReceivePace,
    ) -> io::Result<Self> {
        for descriptor in receiver.source_mut().descriptors() {
            poll.registry().register(&mut SourceFd(&descriptor.as_raw_fd()), SOURCE, Interest::READABLE)?;
        }
        let latency = pace.latency;
        let lazy = (LAZY_HANDOVER_WINDOWS * latency).min(MAX_HANDOVER_INTERVAL).max(latency);
        Ok(Self {
            receiver,
            heartbeat,
            checkpoints: 0,
            poll,
            consumers,
            clock: Clock::new(),
            latency,
            handover_interval: if pace.is_lazy { lazy } else { latency },
            wake_budget: WakeBudget::new(pace),
            is_fence_due: false,
        })
    }

    /// Sets whether this thread runs the fence at the start of the recording. Otherwise it was run
    /// before.
    pub(crate) fn with_fence_due(self, is_fence_due: bool) -> Self {
        Self { is_fence_due, ..self }
    }

    /// Creates a waker that ends a wait on `poll`.
    pub(crate) fn waker(poll: &Poll) -> io::Result<Waker> {
        Waker::new(poll.registry(), WAKER)
    }

    /// Runs until the recording is stopped or the source fails.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let result = self.record();
        if result.is_err() {
            // Keeps the events received so far. An error here would hide the source's error.
            let _ = self.receiver.hand_over();
            self.consumers.status.failed.store(true, Ordering::Release);
        }
        // The writer thread and the details thread end when their queues are abandoned.
        let Self { consumers, receiver, .. } = self;
        drop(receiver);
        consumers.writer.unpark();
        result
    }

    fn record(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_fence_due) {
            // Events wait since the earlier recorder has ended, maybe more than the chunks can
            // hold. They are received while the writer thread takes them.
            let fence = self.fence(FencePosition::Start)?;
            self.receiver.set_fence(fence);
        }
        let mut events = Events::with_capacity(4);
        while !self.consumers.status.is_stopping() {
            match self.receive()? {
                ReceiveStatus::Closed => return Ok(()),
                ReceiveStatus::Full | ReceiveStatus::Dropped => continue,
                ReceiveStatus::Drained => {}
            }
            if let Some(pause) = self.wake_budget.pause(Instant::now()) {
                thread::park_timeout(pause);
                continue;
            }
            if !self.receiver.source_mut().may_sleep()? {
                continue;
            }
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.wake_budget.wake(Instant::now()),
            }
        }
        self.end()
    }

    /// Returns the maximum time to wait for an event.
    fn timeout(&mut self) -> Option<Duration> {
        let is_waited_for = self.consumers.is_unsettled() || self.receiver.current().is_some();
        // The next heartbeat has been emitted by then, whether or not it is received.
        let after_heartbeat = self.heartbeat.interval.map(|interval| interval + self.latency);
        is_waited_for.then_some(self.latency).or(after_heartbeat)
    }

    /// Ends the recording: empties the source, receives an event of every CPU, and unsubscribes or
    /// leaves the subscription to the next recorder.
    fn end(&mut self) -> io::Result<()> {
        // The socket needs room for the events of the fence, so it is emptied first.
        let began = Instant::now();
        loop {
            match self.receive()? {
                ReceiveStatus::Closed => return Ok(()),
                ReceiveStatus::Drained
                    if self.consumers.is_unsettled() && began.elapsed() < DETAILS_TIMEOUT =>
                {
                    thread::sleep(END_PAUSE);
                }
                ReceiveStatus::Full | ReceiveStatus::Dropped if began.elapsed() < END_TIMEOUT => {}
                _ => break,
            }
        }
        // Three readings: without a fence, with one, and with the last one. Two must agree that
        // forks are missing.
        self.heartbeat.request(HeartbeatRequest::Count);
        self.heartbeat.request(HeartbeatRequest::Recount);
        let fence = self.fence(FencePosition::End)?;
        if self.consumers.status.detach.load(Ordering::Acquire) {
            self.detach()?;
        } else {
            self.unsubscribe()?;
        }
        self.receiver.set_fence(fence);
        // Read after the last event, so the counts include every recorded event.
        let ring = self.receiver.source_mut().ring_counts()?;
        ring.into_iter().for_each(|counts| self.receiver.set_ring_counts(counts));
        self.receiver.finish()?;
        self.consumers.writer.unpark();
        Ok(())
    }

    /// Makes every CPU emit an event, and receives these events.
    fn fence(&mut self, position: FencePosition) -> io::Result<Fence> {
        let Self { receiver, heartbeat, consumers, clock, .. } = self;
        let process = |receiver: &mut _, received| consumers.process(receiver, received);
        fence::run(position, receiver, (&*heartbeat, *clock), END_TIMEOUT, process, |_| Ok(true))
    }

    /// Receives until the source is empty, and leaves later events to the next recorder.
    fn detach(&mut self) -> io::Result<()> {
        let (began, checkpoints) = (Instant::now(), self.heartbeat.checkpoints());
        let mut until = MonoNs(0);
        loop {
            let now = self.clock.mono();
            match self.receive()? {
                ReceiveStatus::Full | ReceiveStatus::Dropped if began.elapsed() < END_TIMEOUT => {}
                ReceiveStatus::Drained if self.receiver.source_mut().is_empty()? => {
                    self.receiver.complete_checkpoints(checkpoints);
                    until = MonoNs(now.0.saturating_sub(SETTLE));
                    break;
                }
                _ => break,
            }
        }
        self.receiver.source_mut().detach();
        // If no recorder continues, later events are not recorded, and the END must not claim them.
        self.consumers.status.set_observed_until(until);
        Ok(())
    }

    /// Unsubscribes, and receives everything that was emitted until then.
    fn unsubscribe(&mut self) -> io::Result<()> {
        self.consumers.status.set_observed_until(self.clock.mono());
        self.receiver.source_mut().socket_mut().ignore()?;
        // Before Linux 6.6, the kernel keeps sending events while there are other listeners. So
        // this receives for a bounded time.
        let (began, checkpoints) = (Instant::now(), self.heartbeat.checkpoints());
        loop {
            match self.receive()? {
                ReceiveStatus::Drained if self.receiver.source_mut().is_empty()? => {
                    self.receiver.complete_checkpoints(checkpoints);
                    break;
                }
                ReceiveStatus::Closed => break,
                _ if began.elapsed() > END_TIMEOUT => break,
                ReceiveStatus::Drained => thread::sleep(END_PAUSE),
                ReceiveStatus::Full | ReceiveStatus::Dropped => {}
            }
        }
        Ok(())
    }

    /// Receives until the source is empty or a chunk is full, and hands over chunks that are due.
    fn receive(&mut self) -> io::Result<ReceiveStatus> {
        // These are read first: everything before them is received below.
        let done = self.consumers.requests.as_ref().map(ExecRequests::done);
        let checkpoints = self.heartbeat.checkpoints();
        let drained_at = MonoNs(self.clock.mono().0.saturating_sub(SETTLE));
        let received = self.receiver.receive()?;
        self.wake_budget.count(std::mem::take(&mut self.receiver.received));
        self.consumers.process(&mut self.receiver, received)?;
        if received != ReceiveStatus::Drained {
            return Ok(received);
        }
        if self.receiver.take_lost()? {
            self.heartbeat.schedule_fence();
        }
        if checkpoints > self.checkpoints
            && self.receiver.source_mut().is_empty()?
            && self.receiver.chunk().is_some()
        {
            self.receiver.complete_checkpoints(checkpoints);
            self.checkpoints = checkpoints;
        }
        // This also limits how often the writer thread wakes up. While it lags, chunks are handed
        // over only when they are full.
        let is_time = self.consumers.handed_at.elapsed() >= self.handover_interval;
        let is_due = is_time && !self.receiver.queue.is_lagging() || self.consumers.status.is_stopping();
        let is_unsettled = self.consumers.is_unsettled();
        let chunk = if is_unsettled { self.receiver.chunk() } else { self.receiver.current() };
        if let Some(chunk) = chunk {
            chunk.drained_at = Some(drained_at);
            if is_due {
                self.consumers.hand_over(&mut self.receiver)?;
                if let (Some(requests), Some(done)) = (&mut self.consumers.requests, done) {
                    requests.settle(done, drained_at);
                }
            }
        }
        Ok(received)
    }
}
