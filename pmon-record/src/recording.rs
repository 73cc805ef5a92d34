//! A recording: its threads, and the handles with which the caller controls it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use mio::{Poll, Waker};
use pmon_core::Tgid;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{End, Positions};
use pmon_core::wire::ByteOrder;
use rtrb::RingBuffer;
use thiserror::Error;

use crate::clock::Clock;
use crate::details::exec::{self, DetailsProgress, ExecRequests};
use crate::details::procfs::ProcfsReader;
use crate::details::snapshot;
use crate::options::RecordOptions;
use crate::pipeline::assemble::{Assembler, AssemblerSettings};
use crate::pipeline::drain::{DrainConsumers, DrainThread};
use crate::pipeline::wakeups::ReceivePace;
use crate::pipeline::write::{WriterQueues, WriterThread};
use crate::signals::WakeHandle;
use crate::sink::{Sink, SinkError};
use crate::status::{Counters, RecordingStatus};
use crate::thread::spawn;
use crate::transport::subscribe::Subscription;

/// Why a recording did not start, or failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The target failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The netlink socket failed.
    #[error("the proc connector socket failed: {0}; the records until then are kept, without an end record")]
    Socket(#[source] io::Error),
    /// A thread, or the descriptor that wakes it, could not be created.
    #[error("cannot start recording: {0}; check the limits on processes and open files (ulimit -u, -n)")]
    Start(#[from] io::Error),
    /// A thread panicked, which is a bug in this program.
    #[error("the {thread} thread panicked; please report this")]
    Panic {
        /// The name of the thread.
        thread: &'static str,
    },
}

impl RecordError {
    /// Whether the target was a pipe that its reader has closed.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Sink(error) if error.is_closed_pipe())
    }
}

/// A running recording.
///
/// It continues if this value is dropped. To end it, use [`Recording::stopper`], then
/// [`Recording::join`].
pub struct Recording<S> {
    stopper: Stopper,
    drain: JoinHandle<io::Result<()>>,
    writer: JoinHandle<Result<(S, Option<End>), SinkError>>,
}

impl<S: Sink + 'static> Recording<S> {
    /// Starts the threads. `sink` receives every event since the subscription.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(subscription: Subscription, sink: S, options: &RecordOptions) -> Result<Self, RecordError> {
        Self::start_at(subscription, sink, options, None)
    }

    /// Starts the threads, and continues the recording of an earlier recorder with the same socket
    /// from the `positions` at which its last segment ends.
    ///
    /// # Errors
    /// As [`Recording::start`].
    pub fn resume(
        subscription: Subscription,
        sink: S,
        options: &RecordOptions,
        positions: &Positions,
    ) -> Result<Self, RecordError> {
        Self::start_at(subscription, sink, options, Some(positions))
    }

    fn start_at(
        subscription: Subscription,
        sink: S,
        options: &RecordOptions,
        positions: Option<&Positions>,
    ) -> Result<Self, RecordError> {
        // On failure, the threads that were started end by themselves, and write no end record.
        let pace = ReceivePace {
            latency: options.latency,
            capacity: subscription.capacity,
            is_lazy: subscription.has_details() || !options.details,
        };
        let Subscription {
            mut receiver,
            output,
            heartbeat,
            checkpoints,
            drops_before,
            since,
            is_fence_due,
            ..
        } = subscription;
        let (clock, nice) = (Clock::new(), options.nice);
        let procfs = || {
            ProcfsReader::new(clock, options.args_max).redacting(options.redact.clone(), options.args_read())
        };
        let status = Arc::new(RecordingStatus::new(output.filled.buffer().capacity() - 1));
        let (results_in, results) = sync_channel(exec::RESULTS);
        let (snapshot_in, snapshot) = sync_channel(snapshot::RECORDS);
        let (reasons_in, reasons) = sync_channel(snapshot::REASONS);

        let settings = AssemblerSettings {
            order: ByteOrder::NATIVE,
            recorder: Tgid(std::process::id()),
            details: options.details,
            drops_before,
            since,
            drop_cause: if options.scope.is_all() { LossCause::Socket } else { LossCause::Ring },
            forks: true,
        };
        let assembler = Assembler::new(sink, settings).with_options(options);
        let assembler = match positions {
            Some(positions) => assembler.resume(positions),
            None => assembler,
        };
        let queues = WriterQueues {
            chunks: output,
            checkpoints,
            heartbeat: heartbeat.clone(),
            results,
            snapshot,
            snapshot_reasons: options.snapshot.then_some(reasons_in),
            ring: receiver.source_mut().ring_counter().cloned(),
        };
        let writer = WriterThread::new(assembler, queues, status.clone(), clock);
        let poll = Poll::new()?;
        let stopper = Stopper { status: status.clone(), waker: Arc::new(DrainThread::waker(&poll)?) };
        // Lower priority than the drain thread, which must not be late, but higher than the
        // workload, because data that waits here is not safe yet.
        let writer = spawn("pmon-writer", nice / 2, {
            let stopper = stopper.clone();
            move || {
                // Ends the recording when this thread ends for any reason, also by a panic.
                let _guard = EndGuard(stopper);
                writer.run()
            }
        })?;

        let requests = if options.details {
            let (queue, requests) = RingBuffer::new(exec::REQUESTS);
            let progress = Arc::new(DetailsProgress::default());
            let thread = spawn("pmon-details", nice, {
                let (progress, procfs) = (progress.clone(), procfs());
                move || exec::run(requests, &results_in, &progress, procfs)
            })?;
            Some(ExecRequests::new(queue, progress, thread.thread().clone()))
        } else {
            drop(results_in);
            None
        };
        if options.snapshot {
            let (status, procfs) = (status.clone(), procfs());
            spawn("pmon-snapshot", 0, move || snapshot::run(&snapshot_in, &reasons, &status, procfs))?;
        } else {
            drop(snapshot_in);
        }
        let consumers = DrainConsumers::new(writer.thread().clone(), requests, status.clone());
        let drain =
            DrainThread::new(receiver, heartbeat, poll, consumers, pace)?.with_fence_due(is_fence_due);
        let drain = spawn("pmon-drain", nice, move || {
            status.set_drain_started(thread::current());
            drain.run()
        })?;
        Ok(Self { stopper, drain, writer })
    }

    /// Returns a handle that ends the recording.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Returns the counters as of now.
    pub fn counters(&self) -> Counters {
        self.stopper.status.counters()
    }

    /// Whether the recording has ended, so that [`Recording::join`] returns at once.
    pub fn is_finished(&self) -> bool {
        self.stopper.status.ended.load(Ordering::Acquire)
    }

    /// Sets the handle that is woken when the recording ends, or now if it has ended.
    ///
    /// The handle is also woken when [`Counters::blind_periods`], [`Counters::blind`] or the number
    /// of blind records changes.
    pub fn wake_on_change(&self, wake: WakeHandle) {
        self.stopper.status.wake_on_change(wake);
    }

    /// Waits until the recording ends. To end it, use [`Recording::stopper`].
    ///
    /// # Errors
    /// When the target or the socket failed, or a thread panicked. Data written so far is kept.
    pub fn join(self) -> Result<(S, End), RecordError> {
        let written = self.writer.join();
        let drained = self.drain.join();
        let (sink, end) = written.map_err(|_panic| RecordError::Panic { thread: "writer" })??;
        drained.map_err(|_panic| RecordError::Panic { thread: "drain" })?.map_err(RecordError::Socket)?;
        end.map(|end| (sink, end)).ok_or(RecordError::Panic { thread: "drain" })
    }
}

/// A handle that ends a recording, and outlives it.
#[derive(Clone)]
pub struct Stopper {
    status: Arc<RecordingStatus>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Returns the counters as of now; the final ones after [`Recording::join`].
    pub fn counters(&self) -> Counters {
        self.status.counters()
    }

    /// Requests the end of the recording, and returns at once. Events that the kernel has emitted
    /// until now are still recorded.
    pub fn stop(&self) {
        self.status.stop();
        // If the waker fails, the drain thread reads the flag at the next event.
        let _ = self.waker.wake();
    }

    /// Requests the end of the recording as [`Stopper::stop`] does, but leaves the subscription to
    /// the next recorder: the kernel continues to emit events, into the descriptors of
    /// [`Subscription::descriptors`].
    pub fn detach(&self) {
        self.status.detach.store(true, Ordering::Release);
        self.stop();
    }
}

/// Ends the recording, and wakes the controlling thread, when it is dropped.
struct EndGuard(Stopper);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let Self(stopper) = self;
        stopper.status.ended.store(true, Ordering::Release);
        stopper.stop();
        stopper.status.wake();
    }
}
