//! The heartbeat thread. It makes the kernel emit events that must be received: one per heartbeat,
//! and one on each CPU on request. It also reads the kernel's count of forks, and adds listeners if
//! the kernel counts too few.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use std::{ffi::CString, io};

use pmon_core::Cpu;
use pmon_core::capture::{ForkReading, SelfGenerated, UnreachedCpu, UnreachedReason};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, set_name};

use crate::clock::Clock;
use crate::cpus;
use crate::liveness::checkpoint::{Checkpoint, Heartbeat};
use crate::liveness::fork_count::ForkCounter;
use crate::liveness::resubscribe::{Budget, ListenerSocket};
use crate::status::RecordingStatus;
use crate::thread::{set_nice, spawn};

/// The thread's name, until it has something to say.
const NAME: &str = "pmon-pulse";
/// Maximum duration in ns of a heartbeat during which the thread certainly stayed on one CPU.
const STEADY: u64 = 200_000;
/// Maximum number of attempts to emit a heartbeat on a known CPU.
const TRIES: u32 = 5;

/// The CPUs that emitted an event of a fence, and those that could not.
#[derive(Debug, Default)]
pub(crate) struct FenceResult {
    pub(crate) reached: Vec<Cpu>,
    pub(crate) unreached: Vec<UnreachedCpu>,
}

/// The drain thread's handle to the heartbeat thread, which ends when this and every
/// [`HeartbeatRequester`] are dropped.
pub(crate) struct HeartbeatHandle {
    requester: HeartbeatRequester,
    /// Time between two heartbeats; `None` if there are none.
    pub(crate) interval: Option<Duration>,
}

/// A request to the heartbeat thread.
enum HeartbeatRequest {
    /// Make each CPU emit an event.
    Fence(SyncSender<FenceResult>),
    /// Read the count of forks immediately.
    Count,
    /// Read the count of forks after a fence.
    Recount,
    /// Check whether the kernel emits events, and add listeners if not.
    Resubscribe(Arc<RecordingStatus>),
}

/// Another thread's handle to the heartbeat thread.
#[derive(Clone)]
pub(crate) struct HeartbeatRequester {
    requests: Sender<HeartbeatRequest>,
    shared: Arc<HeartbeatState>,
}

#[derive(Default)]
struct HeartbeatState {
    /// Number of checkpoints. Every event from before a checkpoint is in the socket, or lost, when
    /// the checkpoint is counted.
    checkpoints: AtomicU64,
    /// Whether the next heartbeat must include a fence.
    doubt: AtomicBool,
    /// Number of requested fences that are not done yet.
    fences: AtomicU64,
}

impl HeartbeatHandle {
    /// Starts the thread, which waits for a request or the first heartbeat. The receiver gets its
    /// numbered checkpoints.
    pub(crate) fn start(interval: Duration, nice: i32) -> io::Result<(Self, Receiver<(u64, Checkpoint)>)> {
        let interval = (!interval.is_zero()).then_some(interval);
        let (requests, wanted) = channel();
        let (checkpoints, told) = channel();
        let shared = Arc::new(HeartbeatState::default());
        spawn(NAME, {
            let shared = shared.clone();
            move || {
                set_nice(nice);
                let clock = Clock::new();
                let (stat, absent) = ForkCounter::open(clock);
                let budget = Budget::new(Instant::now());
                let mut thread = HeartbeatThread { shared, checkpoints, clock, stat, budget, fenced: false };
                absent
                    .into_iter()
                    .for_each(|forks| thread.report(Checkpoint::Forks { forks, fenced: false }));
                thread.run(&wanted, interval);
            }
        })?;
        Ok((Self { requester: HeartbeatRequester { requests, shared }, interval }, told))
    }

    /// Requests an event of each CPU. The receiver gets the result.
    pub(crate) fn fence(&self) -> Receiver<FenceResult> {
        let (answer, round) = sync_channel(1);
        self.requester.shared.fences.fetch_add(1, Ordering::Relaxed);
        // If the thread has ended, the receiver returns an error.
        let _ = self.requester.requests.send(HeartbeatRequest::Fence(answer));
        round
    }

    /// Requests a reading of the count of forks.
    pub(crate) fn count_forks(&self) {
        let _ = self.requester.requests.send(HeartbeatRequest::Count);
    }

    /// Returns the number of checkpoints.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.requester.shared.checkpoints.load(Ordering::Acquire)
    }

    /// Requests an event of each CPU at the next heartbeat, to reveal all of a loss even if no
    /// other events follow.
    pub(crate) fn doubt(&self) {
        self.requester.shared.doubt.store(true, Ordering::Relaxed);
    }

    /// Returns a handle for another thread.
    pub(crate) fn requester(&self) -> HeartbeatRequester {
        self.requester.clone()
    }
}

impl HeartbeatRequester {
    /// Requests a check whether the kernel emits events, and a new subscription if it does not.
    pub(crate) fn resubscribe(&self, recording: Arc<RecordingStatus>) {
        let _ = self.requests.send(HeartbeatRequest::Resubscribe(recording));
    }

    /// Requests an event of each CPU and another reading of the count of forks, because forks seem
    /// to be missing.
    pub(crate) fn recount(&self) {
        let _ = self.requests.send(HeartbeatRequest::Recount);
    }
}

/// The state of the heartbeat thread.
struct HeartbeatThread {
    shared: Arc<HeartbeatState>,
    checkpoints: Sender<(u64, Checkpoint)>,
    clock: Clock,
    stat: ForkCounter,
    budget: Budget,
    /// Whether every CPU has emitted an event since the last reading of the count of forks.
    fenced: bool,
}

impl HeartbeatThread {
    fn run(&mut self, wanted: &Receiver<HeartbeatRequest>, interval: Option<Duration>) {
        let mut next = interval.map(|interval| Instant::now() + interval);
        loop {
            let request = match next {
                Some(next) => wanted.recv_timeout(next.saturating_duration_since(Instant::now())),
                None => wanted.recv().map_err(Into::into),
            };
            match request {
                Ok(HeartbeatRequest::Fence(answer)) => {
                    let round = self.fence();
                    self.shared.fences.fetch_sub(1, Ordering::Relaxed);
                    self.count_forks(true);
                    // The requester may have given up.
                    let _ = answer.send(round);
                }
                Ok(HeartbeatRequest::Count) => self.count_forks(true),
                Ok(HeartbeatRequest::Recount) => {
                    self.fence();
                    self.count_forks(true);
                }
                Ok(HeartbeatRequest::Resubscribe(recording)) => self.resubscribe(&recording),
                Err(RecvTimeoutError::Timeout) => {
                    if self.shared.doubt.swap(false, Ordering::Relaxed) {
                        self.fence();
                    }
                    self.beat();
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
    fn beat(&self) {
        for _ in 0..TRIES {
            let (cpu, began) = (sched_getcpu(), self.clock.mono());
            say(SelfGenerated::Heartbeat);
            let (ended, is_steady) = (self.clock.mono(), sched_getcpu() == cpu);
            // After an interruption the CPU may be another one, so this heartbeat proves nothing.
            if is_steady && ended.0 - began.0 < STEADY {
                let cpu = Cpu(cpu as u32);
                return self.report(Checkpoint::Heartbeat(Heartbeat { began, ended, cpu }));
            }
        }
    }

    fn count_forks(&mut self, urgent: bool) {
        let Some(forks) = self.stat.read(urgent) else { return };
        let fenced = std::mem::take(&mut self.fenced) && matches!(forks, ForkReading::Counted(_));
        self.report(Checkpoint::Forks { forks, fenced });
    }

    fn fence(&mut self) -> FenceResult {
        self.fenced = true;
        fence()
    }

    /// Handles a missing heartbeat. It was lost, or the kernel counts no listener; then this adds
    /// listeners. If the kernel emits events again, a fence reveals all losses and the length of
    /// the blind time.
    fn resubscribe(&mut self, recording: &RecordingStatus) {
        let Some(limit) = self.budget.limit(Instant::now()) else { return };
        // Without descriptors or memory for a socket, the recorder continues unchanged.
        let Ok(mut helper) = ListenerSocket::open() else { return };
        let began = Instant::now();
        say(SelfGenerated::Fence);
        let emitted = helper.receives().unwrap_or(false);
        let mut emits = emitted;
        if !emitted {
            recording.set_blind(true);
            let is_over = || self.shared.fences.load(Ordering::Relaxed) > 0;
            emits = helper.round(limit, is_over).is_ok_and(|round| round.emits);
        }
        drop(helper);
        if emits {
            self.fence();
            self.count_forks(true);
        }
        if emits && !emitted {
            // Checks at once whether the kernel keeps emitting. If the heartbeat was only lost,
            // another one could be lost as well.
            self.beat();
        }
        self.budget.spend(began.elapsed());
    }
}

/// Emits an event on each CPU that this thread can be moved to.
fn fence() -> FenceResult {
    let mut round = FenceResult::default();
    let unreached = |why| move |cpu| UnreachedCpu { cpu: Cpu(cpu), why };
    round.unreached.extend(cpus::offline().into_iter().map(unreached(UnreachedReason::Offline)));
    let allowed = sched_getaffinity(None);
    for cpu in cpus::online() {
        let is_there = move_to(cpu);
        if is_there {
            say(SelfGenerated::Fence);
            round.reached.push(Cpu(cpu));
        } else {
            round.unreached.push(unreached(UnreachedReason::Forbidden)(cpu));
        }
    }
    if let Ok(allowed) = allowed {
        let _ = sched_setaffinity(None, &allowed);
    }
    round
}

/// Moves this thread to a CPU, if `cpuset(7)` permits; any narrower affinity that it was started with does not matter.
fn move_to(cpu: u32) -> bool {
    let cpu = cpu as usize;
    if cpu >= CpuSet::MAX_CPU {
        return false;
    }
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).is_ok()
}

/// Emits a COMM event of this thread.
fn say(own: SelfGenerated) {
    if let Ok(name) = CString::new(own.comm()) {
        let _ = set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_tells_of_each_cpu_once() {
        let (heartbeat, checkpoints) = HeartbeatHandle::start(Duration::ZERO, 0).unwrap();
        let round = heartbeat.fence().recv().unwrap();
        let mut told = round.reached.to_vec();
        told.extend(round.unreached.iter().map(|unreached| unreached.cpu));
        told.sort();
        let mut cpus: Vec<_> = cpus::online().into_iter().chain(cpus::offline()).map(Cpu).collect();
        cpus.sort();
        assert_eq!(told, cpus);
        assert!(!round.reached.is_empty());
        // A reading of the count of forks comes with the fence.
        let is_count = |checkpoint: &Checkpoint| {
            matches!(checkpoint, Checkpoint::Forks { forks: ForkReading::Counted(_), fenced: true })
        };
        assert!(checkpoints.try_iter().any(|(_, checkpoint)| is_count(&checkpoint)));
    }

    #[test]
    fn it_beats_by_itself_and_says_when_and_where() {
        let (heartbeat, checkpoints) = HeartbeatHandle::start(Duration::from_millis(1), 0).unwrap();
        heartbeat.doubt();
        let mut beats = Vec::new();
        while beats.len() < 3 {
            let (number, checkpoint) = checkpoints.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(heartbeat.checkpoints() + 1 >= number);
            if let Checkpoint::Heartbeat(heartbeat) = checkpoint {
                beats.push((number, heartbeat));
            }
        }
        let is_in_order = |pair: &[(u64, Heartbeat)]| {
            pair[0].0 < pair[1].0 && pair[0].1.began <= pair[0].1.ended && pair[0].1.ended < pair[1].1.began
        };
        assert!(beats.windows(2).all(is_in_order), "{beats:?}");
        assert!(beats.iter().all(|(_, beat)| cpus::online().contains(&beat.cpu.0)));
    }
}
