//! The heartbeat thread.
//!
//! It makes the kernel emit events that must be received: one per heartbeat, and one on each CPU on
//! request. It also reads the kernel's count of forks, and adds listeners if the kernel counts too
//! few.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use std::{ffi::CString, io};

use pmon_core::Cpu;
use pmon_core::capture::{ForkReading, SelfGenerated, UnreachedCpu, UnreachedReason};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, set_name};

use crate::clock::Clock;
use crate::liveness::checkpoint::{Checkpoint, DivisionFence, Heartbeat};
use crate::liveness::fork_count::ForkCounter;
use crate::liveness::resubscribe::{ListenerSocket, ResubscribeBudget};
use crate::machine;
use crate::status::RecordingStatus;
use crate::thread::spawn;

/// Name of the thread until its first self-generated event renames it.
const THREAD_NAME: &str = "pmon-heartbeat";
/// Maximum duration in ns of a heartbeat during which the thread certainly stayed on one CPU.
const MAX_STEADY_NS: u64 = 200_000;
/// Maximum number of attempts to emit a heartbeat on a known CPU.
const MAX_ATTEMPTS: u32 = 5;

/// The result of a fence.
#[derive(Debug, Default)]
pub(crate) struct FenceResult {
    /// The CPUs that emitted an event.
    pub(crate) reached: Vec<Cpu>,
    /// The CPUs that could not emit an event.
    pub(crate) unreached: Vec<UnreachedCpu>,
}

/// A handle to the heartbeat thread, which ends when every handle is dropped.
#[derive(Clone)]
pub(crate) struct HeartbeatHandle {
    requests: Sender<HeartbeatRequest>,
    shared: Arc<HeartbeatState>,
    /// Time between two heartbeats; `None` if there are none.
    pub(crate) interval: Option<Duration>,
}

/// A request to the heartbeat thread.
pub(crate) enum HeartbeatRequest {
    /// Make each CPU emit an event.
    Fence(SyncSender<FenceResult>),
    /// Read the count of forks immediately.
    Count,
    /// Read the count of forks after a fence, because forks seem to be missing.
    Recount,
    /// Make each CPU emit an event, and report it as a checkpoint.
    Divide,
    /// Check whether the kernel emits events, and add listeners if not.
    Resubscribe(Arc<RecordingStatus>),
}

/// State that the heartbeat thread shares with its handles.
#[derive(Default)]
struct HeartbeatState {
    /// Number of checkpoints. Every event from before a checkpoint is in the socket, or lost, when
    /// the checkpoint is counted.
    checkpoints: AtomicU64,
    /// Whether the next heartbeat must include a fence.
    fence_scheduled: AtomicBool,
    /// Number of requested fences that are not done yet.
    pending_fences: AtomicU64,
}

impl HeartbeatHandle {
    /// Starts the thread, which waits for a request or the first heartbeat. The receiver gets its
    /// numbered checkpoints.
    pub(crate) fn start(interval: Duration, nice: i32) -> io::Result<(Self, Receiver<(u64, Checkpoint)>)> {
        let interval = (!interval.is_zero()).then_some(interval);
        let (requests, pending) = channel();
        let (checkpoints, checkpoints_out) = channel();
        let shared = Arc::new(HeartbeatState::default());
        spawn(THREAD_NAME, nice, {
            let shared = shared.clone();
            move || {
                let clock = Clock::new();
                let (fork_counter, absent) = ForkCounter::open(clock);
                let budget = ResubscribeBudget::new(Instant::now());
                let mut thread =
                    HeartbeatThread { shared, checkpoints, clock, fork_counter, budget, fenced: false };
                absent
                    .into_iter()
                    .for_each(|forks| thread.report(Checkpoint::Forks { forks, fenced: false }));
                thread.run(&pending, interval);
            }
        })?;
        Ok((Self { requests, shared, interval }, checkpoints_out))
    }

    /// Requests an event of each CPU. The receiver gets the result.
    pub(crate) fn request_fence(&self) -> Receiver<FenceResult> {
        let (result_in, result) = sync_channel(1);
        self.shared.pending_fences.fetch_add(1, Ordering::Relaxed);
        // If the thread has ended, the receiver returns an error.
        self.request(HeartbeatRequest::Fence(result_in));
        result
    }

    /// Sends a request, which has no effect if the thread has ended.
    pub(crate) fn request(&self, request: HeartbeatRequest) {
        let _ = self.requests.send(request);
    }

    /// Returns the number of checkpoints.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.shared.checkpoints.load(Ordering::Acquire)
    }

    /// Requests an event of each CPU at the next heartbeat, to reveal all of a loss even if no
    /// other events follow.
    pub(crate) fn schedule_fence(&self) {
        self.shared.fence_scheduled.store(true, Ordering::Relaxed);
    }
}

/// The state of the heartbeat thread.
struct HeartbeatThread {
    shared: Arc<HeartbeatState>,
    checkpoints: Sender<(u64, Checkpoint)>,
    clock: Clock,
    fork_counter: ForkCounter,
    budget: ResubscribeBudget,
    /// Whether every CPU has emitted an event since the last reading of the count of forks.
    fenced: bool,
}

impl HeartbeatThread {
    fn run(&mut self, pending: &Receiver<HeartbeatRequest>, interval: Option<Duration>) {
        let mut next = interval.map(|interval| Instant::now() + interval);
        loop {
            let request = match next {
                Some(next) => pending.recv_timeout(next.saturating_duration_since(Instant::now())),
                None => pending.recv().map_err(Into::into),
            };
            match request {
                Ok(HeartbeatRequest::Fence(result_in)) => {
                    let result = self.fence();
                    self.shared.pending_fences.fetch_sub(1, Ordering::Relaxed);
                    self.count_forks(true);
                    // The requester may have given up.
                    let _ = result_in.send(result);
                }
                Ok(HeartbeatRequest::Count) => self.count_forks(true),
                Ok(HeartbeatRequest::Recount) => {
                    self.fence();
                    self.count_forks(true);
                }
                Ok(HeartbeatRequest::Divide) => self.divide(),
                Ok(HeartbeatRequest::Resubscribe(recording)) => self.resubscribe(&recording),
                Err(RecvTimeoutError::Timeout) => {
                    if self.shared.fence_scheduled.swap(false, Ordering::Relaxed) {
                        self.fence();
                    }
                    self.emit_heartbeat();
                    self.count_forks(false);
                    next = interval.map(|interval| Instant::now() + interval);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Numbers a checkpoint and sends it to the writer thread.
    fn report(&self, checkpoint: Checkpoint) {
        let number = self.shared.checkpoints.load(Ordering::Relaxed) + 1;
        // At the end of a recording there is no receiver.
        let _ = self.checkpoints.send((number, checkpoint));
        self.shared.checkpoints.store(number, Ordering::Release);
    }

    /// Emits a heartbeat.
    fn emit_heartbeat(&self) {
        for _ in 0..MAX_ATTEMPTS {
            let (cpu, began) = (sched_getcpu(), self.clock.mono());
            emit(SelfGenerated::Heartbeat);
            let (ended, is_steady) = (self.clock.mono(), sched_getcpu() == cpu);
            // After an interruption the CPU may be another one, so this heartbeat proves nothing.
            if is_steady && ended.0 - began.0 < MAX_STEADY_NS {
                let cpu = Cpu(cpu as u32);
                return self.report(Checkpoint::Heartbeat(Heartbeat { began, ended, cpu }));
            }
        }
    }

    fn count_forks(&mut self, urgent: bool) {
        let Some(forks) = self.fork_counter.read(urgent) else { return };
        let fenced = std::mem::take(&mut self.fenced) && matches!(forks, ForkReading::Counted(_));
        self.report(Checkpoint::Forks { forks, fenced });
    }

    fn fence(&mut self) -> FenceResult {
        self.fenced = true;
        fence_all_cpus()
    }

    /// Makes each CPU emit an event before a division of the recording. The forks are counted
    /// before and after: two readings must agree that forks are missing.
    fn divide(&mut self) {
        self.count_forks(true);
        let began = self.clock.mono();
        let FenceResult { reached, unreached } = self.fence();
        self.count_forks(true);
        self.report(Checkpoint::Fence(DivisionFence { began, reached, unreached }));
    }

    /// Handles a missing heartbeat.
    ///
    /// Either the heartbeat was lost, or the kernel counts no listener; then this adds listeners.
    /// If the kernel emits events again, a fence reveals all losses and the length of the blind
    /// time.
    fn resubscribe(&mut self, recording: &RecordingStatus) {
        let Some(limit) = self.budget.limit(Instant::now()) else { return };
        // Without descriptors or memory for a socket, the recorder continues unchanged.
        let Ok(mut socket) = ListenerSocket::open() else { return };
        let began = Instant::now();
        emit(SelfGenerated::Fence);
        let emitted = socket.receives_events().unwrap_or(false);
        let mut emits = emitted;
        if !emitted {
            recording.set_blind(true);
            let is_over = || self.shared.pending_fences.load(Ordering::Relaxed) > 0;
            emits = socket.add_listeners(limit, is_over).is_ok_and(|result| result.emits);
        }
        drop(socket);
        if emits {
            self.fence();
            self.count_forks(true);
        }
        if emits && !emitted {
            // Checks at once whether the kernel keeps emitting. If the heartbeat was only lost,
            // another one could be lost as well.
            self.emit_heartbeat();
        }
        self.budget.spend(began.elapsed());
    }
}

/// Emits an event on each CPU that this thread can be moved to.
fn fence_all_cpus() -> FenceResult {
    let mut result = FenceResult::default();
    let unreached = |why| move |cpu| UnreachedCpu { cpu, why };
    result.unreached.extend(machine::offline_cpus().into_iter().map(unreached(UnreachedReason::Offline)));
    let allowed = sched_getaffinity(None);
    for cpu in machine::online_cpus() {
        if move_to(cpu) {
            emit(SelfGenerated::Fence);
            result.reached.push(cpu);
        } else {
            result.unreached.push(unreached(UnreachedReason::Forbidden)(cpu));
        }
    }
    if let Ok(allowed) = allowed {
        let _ = sched_setaffinity(None, &allowed);
    }
    result
}

/// Moves this thread to a CPU, if `cpuset(7)` permits it. A narrower affinity that the thread was
/// started with does not prevent it.
fn move_to(cpu: Cpu) -> bool {
    let cpu = cpu.0 as usize;
    if cpu >= CpuSet::MAX_CPU {
        return false;
    }
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).is_ok()
}

/// Emits a COMM event of this thread.
fn emit(event: SelfGenerated) {
    if let Ok(name) = CString::new(event.comm()) {
        let _ = set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_reports_each_cpu_once() {
        let (heartbeat, checkpoints) = HeartbeatHandle::start(Duration::ZERO, 0).unwrap();
        let result = heartbeat.request_fence().recv().unwrap();
        let mut reported = result.reached.to_vec();
        reported.extend(result.unreached.iter().map(|unreached| unreached.cpu));
        reported.sort();
        let mut cpus: Vec<_> = machine::online_cpus().into_iter().chain(machine::offline_cpus()).collect();
        cpus.sort();
        assert_eq!(reported, cpus);
        assert!(!result.reached.is_empty());
        // A reading of the count of forks comes with the fence.
        let is_count = |checkpoint: &Checkpoint| {
            matches!(checkpoint, Checkpoint::Forks { forks: ForkReading::Counted(_), fenced: true })
        };
        assert!(checkpoints.try_iter().any(|(_, checkpoint)| is_count(&checkpoint)));
    }

    #[test]
    fn heartbeats_are_emitted_at_intervals_with_their_time_and_cpu() {
        let (heartbeat, checkpoints) = HeartbeatHandle::start(Duration::from_millis(1), 0).unwrap();
        heartbeat.schedule_fence();
        let mut heartbeats = Vec::new();
        while heartbeats.len() < 3 {
            let (number, checkpoint) = checkpoints.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(heartbeat.checkpoints() + 1 >= number);
            if let Checkpoint::Heartbeat(heartbeat) = checkpoint {
                heartbeats.push((number, heartbeat));
            }
        }
        let is_in_order = |pair: &[(u64, Heartbeat)]| {
            pair[0].0 < pair[1].0 && pair[0].1.began <= pair[0].1.ended && pair[0].1.ended < pair[1].1.began
        };
        assert!(heartbeats.windows(2).all(is_in_order), "{heartbeats:?}");
        assert!(heartbeats.iter().all(|(_, heartbeat)| machine::online_cpus().contains(&heartbeat.cpu)));
    }
}
