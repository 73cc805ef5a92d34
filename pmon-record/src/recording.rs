//! A recording: its threads, and what the controlling thread sees of them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use mio::{Poll, Waker};
use pmon_core::Tgid;
use pmon_core::accounting::LossCause;
use pmon_core::capture::End;
use pmon_core::wire::ByteOrder;
use rtrb::RingBuffer;
use rustix::process::setpriority_process;
use thiserror::Error;

use crate::clock::Clock;
use crate::details::exec::{self, Progress, Requests};
use crate::details::procfs::Procfs;
use crate::details::snapshot;
use crate::options::RecordOptions;
use crate::pipeline::assemble::{Assembler, AssemblerCounters, AssemblerSettings};
use crate::pipeline::drain::{DRAIN, Drain, Ends, Pace};
use crate::pipeline::write::{self, Writer};
use crate::signals::WakeHandle;
use crate::sink::{Sink, SinkError};
use crate::transport::subscribe::Subscription;

/// Why a recording did not start, or ended by itself.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The target failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The kernel's socket failed.
    #[error("the proc connector socket failed: {0}; what was recorded until then is kept, without an end")]
    Socket(#[source] io::Error),
    /// No thread, or nothing to wake it with.
    #[error("cannot start recording: {0}; look at the limits on processes and open files (ulimit -u, -n)")]
    Start(#[source] io::Error),
    /// A fault of this program.
    #[error("the {thread} thread panicked; please report this")]
    Panic {
        /// Which.
        thread: &'static str,
    },
}

impl RecordError {
    /// Whether the target was a pipe that its reader has closed.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Sink(error) if error.is_closed_pipe())
    }
}

/// A recording until now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Numbers of recorded and missing events.
    pub totals: AssemblerCounters,
    /// How full the queue to the writer thread is, 0 to 1.
    pub queue_fill: f64,
    /// How far the writer thread lags: the age of its current chunk, in ns; 0 if it waits for the
    /// next one.
    pub lag_ns: u64,
    /// Number of times in which the kernel emitted no events.
    pub blind_periods: u64,
    /// Whether the kernel currently emits no events.
    pub blind: bool,
}

/// A running recording. Dropping it leaves it running: stop and join it.
pub struct Recording<S> {
    shared: Arc<Shared>,
    stopper: Stopper,
    drain: JoinHandle<io::Result<()>>,
    writer: JoinHandle<Result<(S, Option<End>), SinkError>>,
}

impl<S: Sink + 'static> Recording<S> {
    /// Starts the threads. `sink` gets every event since the subscription.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(subscription: Subscription, sink: S, options: &RecordOptions) -> Result<Self, RecordError> {
        // If it fails, the threads that have started end by themselves, and claim nothing to be complete.
        Self::spawn(subscription, sink, options).map_err(RecordError::Start)
    }

    fn spawn(subscription: Subscription, sink: S, options: &RecordOptions) -> io::Result<Self> {
        let pace = Pace {
            latency: options.latency,
            room: subscription.room,
            is_lazy: subscription.tells_details() || !options.details,
        };
        let Subscription { receiver, output, pulse, checkpoints, drops_before, start, .. } = subscription;
        let (clock, nice) = (Clock::new(), options.nice);
        let procfs =
            || Procfs::new(clock, options.args_max).redacting(options.redact.clone(), options.args_read());
        let shared = Arc::new(Shared::new(output.filled.buffer().capacity() - 1));
        let (results_in, results) = sync_channel(exec::RESULTS);
        let (snapshot_in, snapshot) = sync_channel(snapshot::RECORDS);

        let (rescans, reasons) = sync_channel(snapshot::REASONS);

        let recorder = Tgid(std::process::id());
        let setup = AssemblerSettings {
            order: ByteOrder::NATIVE,
            recorder,
            details: options.details,
            drops_before,
            since: start.mono,
            drop_cause: if options.scope.is_all() { LossCause::Socket } else { LossCause::Ring },
            forks: true,
        };
        let assembler = Assembler::new(sink, setup).with_options(options);
        let rescans = options.snapshot.then_some(rescans);
        let requester = pulse.requester();
        let queues = write::Queues { chunks: output, checkpoints, requester, results, snapshot, rescans };
        let writer = Writer::new(assembler, queues, shared.clone(), clock);
        let poll = Poll::new()?;
        let stopper = Stopper { shared: shared.clone(), waker: Arc::new(Drain::waker(&poll)?) };
        let writer = named("pmon-writer", {
            let (shared, stopper) = (shared.clone(), stopper.clone());
            move || {
                // Whatever ends this thread ends the recording, also a panic.
                let _ended = Ended { shared, stopper };
                // Behind the thread that must not be late, and before the workload: what waits here is not safe yet.
                raise(nice / 2);
                writer.run()
            }
        })?;

        let requests = if options.details {
            let (queue, requests) = RingBuffer::new(exec::REQUESTS);
            let progress = Arc::new(Progress::default());
            let thread = named("pmon-details", {
                let (progress, procfs) = (progress.clone(), procfs());
                move || {
                    raise(nice);
                    exec::run(requests, &results_in, &progress, procfs)
                }
            })?;
            Some(Requests::new(queue, progress, thread.thread().clone()))
        } else {
            drop(results_in);
            None
        };
        if options.snapshot {
            let (shared, procfs) = (shared.clone(), procfs());
            named("pmon-snapshot", move || snapshot::run(&snapshot_in, &reasons, &shared, procfs))?;
        } else {
            drop(snapshot_in);
        }
        let ends = Ends::new(writer.thread().clone(), requests, shared.clone());
        let drain = Drain::new(receiver, pulse, poll, ends, pace)?;
        let drain = named(DRAIN, {
            let shared = shared.clone();
            move || {
                let _first_time = shared.drain.set(thread::current());
                shared.failed.store(false, Ordering::Release);
                raise(nice);
                drain.run()
            }
        })?;
        Ok(Self { shared, stopper, drain, writer })
    }

    /// A handle that ends the recording.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Totals until now.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Whether the recording has ended, by itself or stopped: [`Recording::join`] then returns at once.
    pub fn is_finished(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Sets the function that is called when the recording ends, or now if it has ended, and when
    /// [`Counters::blind_periods`], [`Counters::blind`] or the number of blind times change.
    pub fn wake_on_change(&self, wake: WakeHandle) {
        *self.shared.on_change.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
        if self.is_finished() {
            self.shared.wake();
        }
    }

    /// Waits for the recording's end. It does not end it: see [`Recording::stopper`].
    ///
    /// # Errors
    /// When the target or the socket failed, or this program has a fault. What was written so far stays.
    pub fn join(self) -> Result<(S, End), RecordError> {
        let written = self.writer.join();
        let drained = self.drain.join();
        let (sink, end) = written.map_err(|_panic| RecordError::Panic { thread: "writer" })??;
        drained.map_err(|_panic| RecordError::Panic { thread: "drain" })?.map_err(RecordError::Socket)?;
        end.map(|end| (sink, end)).ok_or(RecordError::Panic { thread: "drain" })
    }
}

/// Ends a recording.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Lets the recording end: what the kernel has emitted until now is still recorded. Returns at once.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        // If the waker fails, the drain thread sees the flag at the next event.
        let _ = self.waker.wake();
        if let Some(drain) = self.shared.drain.get() {
            drain.unpark();
        }
    }
}

/// What the threads of a recording share.
#[derive(Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    /// The drain thread has failed, or has not begun.
    pub(crate) failed: AtomicBool,
    /// The writer thread has ended.
    ended: AtomicBool,
    on_change: Mutex<Option<WakeHandle>>,
    /// Number of changes between emitting events and not; the kernel emits no events if odd.
    blind_periods: AtomicU64,
    drain: OnceLock<Thread>,
    chunks: usize,
    /// Chunks that the drain thread has handed over, and that the writer thread has taken.
    pub(crate) handed: AtomicU64,
    pub(crate) taken: AtomicU64,
    /// When the chunk that the writer thread is at was handed over, in ns since `began`, plus 1; 0 if it is at none.
    at_chunk: AtomicU64,
    began: OnceLock<Instant>,
    totals: Mutex<AssemblerCounters>,
}

impl Shared {
    fn new(chunks: usize) -> Self {
        Self { chunks, failed: AtomicBool::new(true), ..Self::default() }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Makes the writer's counts visible.
    pub(crate) fn publish(&self, counts: AssemblerCounters) {
        let before = {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *totals, counts)
        };
        if before.blind_records != counts.blind_records {
            self.wake();
        }
    }

    /// The writer thread begins with a chunk that was handed over then.
    pub(crate) fn begin(&self, handed_at: Instant) {
        let began = self.began.get_or_init(|| handed_at);
        let at = handed_at.saturating_duration_since(*began).as_nanos() as u64;
        self.at_chunk.store(at + 1, Ordering::Relaxed);
    }

    /// The writer thread waits for the next chunk.
    pub(crate) fn caught_up(&self) {
        self.at_chunk.store(0, Ordering::Relaxed);
    }

    fn lag_ns(&self) -> u64 {
        match (self.at_chunk.load(Ordering::Relaxed), self.began.get()) {
            (0, _) | (_, None) => 0,
            (at, Some(began)) => (began.elapsed().as_nanos() as u64).saturating_sub(at - 1),
        }
    }

    /// Sets whether the kernel currently emits no events.
    pub(crate) fn set_blind(&self, blind: bool) {
        if self.is_blind() != blind {
            self.blind_periods.fetch_add(1, Ordering::Relaxed);
            self.wake();
        }
    }

    pub(crate) fn is_blind(&self) -> bool {
        self.blind_periods.load(Ordering::Relaxed) % 2 == 1
    }

    fn counters(&self) -> Counters {
        let taken = self.taken.load(Ordering::Relaxed);
        let queued = self.handed.load(Ordering::Relaxed).saturating_sub(taken);
        Counters {
            totals: *self.totals.lock().unwrap_or_else(PoisonError::into_inner),
            queue_fill: (queued as f64 / self.chunks as f64).min(1.0),
            lag_ns: self.lag_ns(),
            blind_periods: self.blind_periods.load(Ordering::Relaxed).div_ceil(2),
            blind: self.is_blind(),
        }
    }

    fn wake(&self) {
        if let Some(wake) = &*self.on_change.lock().unwrap_or_else(PoisonError::into_inner) {
            wake.wake();
        }
    }
}

/// On drop, tells everybody that the writer thread has ended.
struct Ended {
    shared: Arc<Shared>,
    stopper: Stopper,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.stopper.stop();
        self.shared.wake();
    }
}

/// Gives this thread its nice value, if that is permitted.
pub(crate) fn raise(nice: i32) {
    if nice != 0 {
        let _ = setpriority_process(None, nice);
    }
}

pub(crate) fn named<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(body)
}
