//! The pulse thread: events of pmon's own, which must come back. On demand, one of each CPU; and one every heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use std::{ffi::CString, io};

use pmon_core::Cpu;
use pmon_core::capture::{Own, Unreached, WhyUnreached};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_name};

use crate::cpus;
use crate::recording::{named, raise};

/// The thread's name, until it has something to say.
const NAME: &str = "pmon-pulse";

/// Which CPUs were made to emit an event, and which could not be.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) reached: Vec<Cpu>,
    pub(crate) unreached: Vec<Unreached>,
}

/// The drain thread's end. The thread ends when this is dropped.
pub(crate) struct Pulse {
    requests: Sender<SyncSender<Round>>,
    shared: Arc<Shared>,
    /// Time between two beats; `None` if there are none.
    pub(crate) interval: Option<Duration>,
}

#[derive(Default)]
struct Shared {
    /// Heartbeats until now: each event is in the socket, or lost, by the time that it is counted.
    beats: AtomicU64,
    /// Whether the next beat has to come from every CPU.
    doubt: AtomicBool,
}

impl Pulse {
    /// Starts the thread; it is silent until it is asked, or the first beat is due.
    pub(crate) fn start(interval: Duration, nice: i32) -> io::Result<Self> {
        let interval = (!interval.is_zero()).then_some(interval);
        let (requests, wanted) = channel();
        let shared = Arc::new(Shared::default());
        named(NAME, {
            let shared = shared.clone();
            move || {
                raise(nice);
                run(&wanted, interval, &shared);
            }
        })?;
        Ok(Self { requests, shared, interval })
    }

    /// Has each CPU emit an event. What was done comes when it has been done.
    pub(crate) fn fence(&self) -> Receiver<Round> {
        let (answer, round) = sync_channel(1);
        // Without the thread, the receiver hears of it.
        let _ = self.requests.send(answer);
        round
    }

    /// How many heartbeats there were.
    pub(crate) fn beats(&self) -> u64 {
        self.shared.beats.load(Ordering::Acquire)
    }

    /// Events were lost: has every CPU say something at the next beat, so that all of the loss shows even in silence.
    pub(crate) fn doubt(&self) {
        self.shared.doubt.store(true, Ordering::Relaxed);
    }
}

fn run(wanted: &Receiver<SyncSender<Round>>, interval: Option<Duration>, shared: &Shared) {
    let mut next = interval.map(|interval| Instant::now() + interval);
    loop {
        let request = match next {
            Some(next) => wanted.recv_timeout(next.saturating_duration_since(Instant::now())),
            None => wanted.recv().map_err(Into::into),
        };
        match request {
            Ok(answer) => {
                // Whoever asked may have given up.
                let _ = answer.send(fence());
            }
            Err(RecvTimeoutError::Timeout) => {
                if shared.doubt.swap(false, Ordering::Relaxed) {
                    fence();
                }
                say(Own::Heartbeat);
                shared.beats.fetch_add(1, Ordering::Release);
                next = interval.map(|interval| Instant::now() + interval);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Emits an event on each CPU that this thread can be moved to.
fn fence() -> Round {
    let mut round = Round::default();
    let unreached = |why| move |cpu| Unreached { cpu: Cpu(cpu), why };
    round.unreached.extend(cpus::offline().into_iter().map(unreached(WhyUnreached::Offline)));
    let allowed = sched_getaffinity(None);
    for cpu in cpus::online() {
        let is_there = move_to(cpu);
        if is_there {
            say(Own::Fence);
            round.reached.push(Cpu(cpu));
        } else {
            round.unreached.push(unreached(WhyUnreached::Forbidden)(cpu));
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
fn say(own: Own) {
    if let Ok(name) = CString::new(own.comm()) {
        let _ = set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_round_tells_of_each_cpu_once() {
        let pulse = Pulse::start(Duration::ZERO, 0).unwrap();
        let round = pulse.fence().recv().unwrap();
        let mut told = round.reached.to_vec();
        told.extend(round.unreached.iter().map(|unreached| unreached.cpu));
        told.sort();
        let mut cpus: Vec<_> = cpus::online().into_iter().chain(cpus::offline()).map(Cpu).collect();
        cpus.sort();
        assert_eq!(told, cpus);
        assert!(!round.reached.is_empty());
    }

    #[test]
    fn it_beats_by_itself() {
        let pulse = Pulse::start(Duration::from_millis(1), 0).unwrap();
        pulse.doubt();
        let began = Instant::now();
        while pulse.beats() < 3 {
            assert!(began.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(1));
        }
    }
}
