//! The state that the threads of a recording share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Instant;

use pmon_core::MonoNs;

use crate::pipeline::assemble::AssemblerCounters;
use crate::signals::WakeHandle;

/// Live counters of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Numbers of recorded and missing events.
    pub totals: AssemblerCounters,
    /// Fill level of the queue to the writer thread, from 0 to 1.
    pub queue_fill: f64,
    /// How far the writer thread lags: the age of its current chunk in ns, or 0 if it waits for the
    /// next one.
    pub lag_ns: u64,
    /// Number of periods in which the kernel emitted no events.
    pub blind_periods: u64,
    /// Whether the kernel currently emits no events.
    pub blind: bool,
}

/// State that the controlling thread and the threads of a recording share.
#[derive(Default)]
pub(crate) struct RecordingStatus {
    stop: AtomicBool,
    /// Whether the subscription outlives the recording.
    pub(crate) detach: AtomicBool,
    /// Whether the drain thread has failed, or has not started.
    pub(crate) failed: AtomicBool,
    /// Whether the writer thread has ended.
    pub(crate) ended: AtomicBool,
    /// The time until which the recording has received every event; set once the drain
    /// thread has unsubscribed or detached.
    observed_until: OnceLock<MonoNs>,
    on_change: Mutex<Option<WakeHandle>>,
    /// Number of transitions between emitting events and emitting none. The kernel emits no events
    /// while it is odd.
    blind_changes: AtomicU64,
    drain: OnceLock<Thread>,
    /// Capacity of the queue to the writer thread, in chunks.
    chunks: usize,
    /// Number of chunks that the drain thread has handed over.
    pub(crate) handed_over: AtomicU64,
    /// Number of chunks that the writer thread has processed.
    pub(crate) processed: AtomicU64,
    /// When the writer thread's current chunk was handed over; `None` while it waits for the next
    /// one.
    current_chunk: Mutex<Option<Instant>>,
    totals: Mutex<AssemblerCounters>,
}

impl RecordingStatus {
    /// Creates the state of a recording whose queue to the writer thread has room for `chunks`
    /// chunks.
    pub(crate) fn new(chunks: usize) -> Self {
        Self { chunks, failed: AtomicBool::new(true), ..Self::default() }
    }

    /// Requests the end of the recording.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(drain) = self.drain.get() {
            drain.unpark();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Records that the drain thread has received every event until `time`, and receives no more.
    pub(crate) fn set_observed_until(&self, time: MonoNs) {
        let _first_time = self.observed_until.set(time);
    }

    /// Returns the time until which the recording has received every event; `None` if the source
    /// was closed before.
    pub(crate) fn observed_until(&self) -> Option<MonoNs> {
        self.observed_until.get().copied()
    }

    /// Records that the drain thread, which is `thread`, has started.
    pub(crate) fn set_drain_started(&self, thread: Thread) {
        let _first_time = self.drain.set(thread);
        self.failed.store(false, Ordering::Release);
    }

    /// Sets the handle that is woken when the recording changes; see
    /// [`crate::Recording::wake_on_change`].
    pub(crate) fn wake_on_change(&self, wake: WakeHandle) {
        *lock(&self.on_change) = Some(wake);
        if self.ended.load(Ordering::Acquire) {
            self.wake();
        }
    }

    /// Makes the assembler's counters visible to the controlling thread.
    pub(crate) fn publish(&self, counters: AssemblerCounters) {
        let before = std::mem::replace(&mut *lock(&self.totals), counters);
        if before.blind_records != counters.blind_records {
            self.wake();
        }
    }

    /// Records that the writer thread begins a chunk that was handed over at this time, or that it
    /// waits for the next one.
    pub(crate) fn set_current_chunk(&self, handed_over_at: Option<Instant>) {
        *lock(&self.current_chunk) = handed_over_at;
    }

    /// Sets whether the kernel currently emits no events.
    pub(crate) fn set_blind(&self, blind: bool) {
        if self.is_blind() != blind {
            self.blind_changes.fetch_add(1, Ordering::Relaxed);
            self.wake();
        }
    }

    pub(crate) fn is_blind(&self) -> bool {
        self.blind_changes.load(Ordering::Relaxed) % 2 == 1
    }

    /// Returns the counters as of now.
    pub(crate) fn counters(&self) -> Counters {
        let processed = self.processed.load(Ordering::Relaxed);
        let queued = self.handed_over.load(Ordering::Relaxed).saturating_sub(processed);
        Counters {
            totals: *lock(&self.totals),
            queue_fill: (queued as f64 / self.chunks as f64).min(1.0),
            lag_ns: lock(&self.current_chunk)
                .map_or(0, |handed_over_at| handed_over_at.elapsed().as_nanos() as u64),
            blind_periods: self.blind_changes.load(Ordering::Relaxed).div_ceil(2),
            blind: self.is_blind(),
        }
    }

    /// Wakes the controlling thread.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &*lock(&self.on_change) {
            wake.wake();
        }
    }
}

/// Locks a mutex, also after a panic of another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
