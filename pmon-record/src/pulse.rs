//! The pulse thread: events of pmon's own, which must come back. On demand, one of each CPU; and one every heartbeat. It also reads the
//! kernel's count of forks, and has the kernel count enough listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use std::{ffi::CString, io};

use pmon_core::Cpu;
use pmon_core::capture::{Forks, Own, Unreached, WhyUnreached};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, set_name};

use crate::clock::Clock;
use crate::cpus;
use crate::recording::{self, named, raise};
use crate::resubscribe::{Budget, Helper};
use crate::sign::{Heartbeat, Sign};
use crate::stat::Stat;

/// The thread's name, until it has something to say.
const NAME: &str = "pmon-pulse";
/// A thread that was on one CPU before and after so short a time, in ns, was on no other in between.
const STEADY: u64 = 200_000;
/// So often a heartbeat is tried until it is known which CPU has emitted it.
const TRIES: u32 = 5;

/// Which CPUs were made to emit an event, and which could not be.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) reached: Vec<Cpu>,
    pub(crate) unreached: Vec<Unreached>,
}

/// The drain thread's end. The thread ends when this and every [`Prompter`] are dropped.
pub(crate) struct Pulse {
    prompter: Prompter,
    /// Time between two beats; `None` if there are none.
    pub(crate) interval: Option<Duration>,
}

/// What the thread is asked for.
enum Request {
    /// Each CPU is to emit an event.
    Fence(SyncSender<Round>),
    /// The count of forks is to be read, at once
    Count,
    /// or after a fence.
    Recount,
    /// The kernel seems to emit no events.
    Resubscribe(Arc<recording::Shared>),
}

/// Somebody else's end.
#[derive(Clone)]
pub(crate) struct Prompter {
    requests: Sender<Request>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Signs until now: what was emitted before each is in the socket, or lost, by the time that it is counted.
    signs: AtomicU64,
    /// Whether the next beat has to come from every CPU.
    doubt: AtomicBool,
    /// Fences that were asked for and not raised yet.
    fences: AtomicU64,
}

impl Pulse {
    /// Starts the thread; it is silent until it is asked, or the first beat is due. Then it tells what it has done.
    pub(crate) fn start(interval: Duration, nice: i32) -> io::Result<(Self, Receiver<(u64, Sign)>)> {
        let interval = (!interval.is_zero()).then_some(interval);
        let (requests, wanted) = channel();
        let (signs, told) = channel();
        let shared = Arc::new(Shared::default());
        named(NAME, {
            let shared = shared.clone();
            move || {
                raise(nice);
                let clock = Clock::new();
                let (stat, absent) = Stat::open(clock);
                let budget = Budget::new(Instant::now());
                let mut thread = Beating { shared, signs, clock, stat, budget, fenced: false };
                absent.into_iter().for_each(|forks| thread.tell(Sign::Forks { forks, fenced: false }));
                thread.run(&wanted, interval);
            }
        })?;
        Ok((Self { prompter: Prompter { requests, shared }, interval }, told))
    }

    /// Has each CPU emit an event. What was done comes when it has been done.
    pub(crate) fn fence(&self) -> Receiver<Round> {
        let (answer, round) = sync_channel(1);
        self.prompter.shared.fences.fetch_add(1, Ordering::Relaxed);
        // Without the thread, the receiver hears of it.
        let _ = self.prompter.requests.send(Request::Fence(answer));
        round
    }

    /// Has the count of forks read.
    pub(crate) fn count_forks(&self) {
        let _ = self.prompter.requests.send(Request::Count);
    }

    /// How many signs there were.
    pub(crate) fn signs(&self) -> u64 {
        self.prompter.shared.signs.load(Ordering::Acquire)
    }

    /// Events were lost: has every CPU say something at the next beat, so that all of the loss shows even in silence.
    pub(crate) fn doubt(&self) {
        self.prompter.shared.doubt.store(true, Ordering::Relaxed);
    }

    /// Something for another thread to ask by.
    pub(crate) fn prompter(&self) -> Prompter {
        self.prompter.clone()
    }
}

impl Prompter {
    /// The kernel seems to emit no events: has that looked into, and told, and put right.
    pub(crate) fn resubscribe(&self, recording: Arc<recording::Shared>) {
        let _ = self.requests.send(Request::Resubscribe(recording));
    }

    /// Forks seem to be missing: has each CPU emit an event, and their count read again.
    pub(crate) fn recount(&self) {
        let _ = self.requests.send(Request::Recount);
    }
}

/// The thread.
struct Beating {
    shared: Arc<Shared>,
    signs: Sender<(u64, Sign)>,
    clock: Clock,
    stat: Stat,
    budget: Budget,
    /// Whether every CPU has emitted an event since the count of forks was read.
    fenced: bool,
}

impl Beating {
    fn run(&mut self, wanted: &Receiver<Request>, interval: Option<Duration>) {
        let mut next = interval.map(|interval| Instant::now() + interval);
        loop {
            let request = match next {
                Some(next) => wanted.recv_timeout(next.saturating_duration_since(Instant::now())),
                None => wanted.recv().map_err(Into::into),
            };
            match request {
                Ok(Request::Fence(answer)) => {
                    let round = self.fence();
                    self.shared.fences.fetch_sub(1, Ordering::Relaxed);
                    self.count_forks(true);
                    // Whoever asked may have given up.
                    let _ = answer.send(round);
                }
                Ok(Request::Count) => self.count_forks(true),
                Ok(Request::Recount) => {
                    self.fence();
                    self.count_forks(true);
                }
                Ok(Request::Resubscribe(recording)) => self.resubscribe(&recording),
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

    /// Tells of what has been done.
    fn tell(&self, sign: Sign) {
        let number = self.shared.signs.load(Ordering::Relaxed) + 1;
        // At the end, nobody may listen any more.
        let _ = self.signs.send((number, sign));
        self.shared.signs.store(number, Ordering::Release);
    }

    /// Emits an event that must come back.
    fn beat(&self) {
        for _ in 0..TRIES {
            let (cpu, began) = (sched_getcpu(), self.clock.mono());
            say(Own::Heartbeat);
            let (ended, is_steady) = (self.clock.mono(), sched_getcpu() == cpu);
            // Where it was interrupted, the CPU may be another. Then this one proves nothing.
            if is_steady && ended.0 - began.0 < STEADY {
                let cpu = Cpu(cpu as u32);
                return self.tell(Sign::Heartbeat(Heartbeat { began, ended, cpu }));
            }
        }
    }

    fn count_forks(&mut self, urgent: bool) {
        let Some(forks) = self.stat.read(urgent) else { return };
        let fenced = std::mem::take(&mut self.fenced) && matches!(forks, Forks::Counted(_));
        self.tell(Sign::Forks { forks, fenced });
    }

    fn fence(&mut self) -> Round {
        self.fenced = true;
        fence()
    }

    /// A heartbeat has not come back. It may have been lost; or the kernel counts no listener, and is made to count one. If it then
    /// emits events, all that was lost shows, and for how long it did not.
    fn resubscribe(&mut self, recording: &recording::Shared) {
        let Some(limit) = self.budget.limit(Instant::now()) else { return };
        // Without descriptors or memory for a socket, the recorder goes on as it is.
        let Ok(mut helper) = Helper::open() else { return };
        let began = Instant::now();
        say(Own::Fence);
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
            // Whether that lasts is known at once. Where it was only lost, another one would be lost as well.
            self.beat();
        }
        self.budget.spend(began.elapsed());
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
    use super::*;

    #[test]
    fn a_round_tells_of_each_cpu_once() {
        let (pulse, signs) = Pulse::start(Duration::ZERO, 0).unwrap();
        let round = pulse.fence().recv().unwrap();
        let mut told = round.reached.to_vec();
        told.extend(round.unreached.iter().map(|unreached| unreached.cpu));
        told.sort();
        let mut cpus: Vec<_> = cpus::online().into_iter().chain(cpus::offline()).map(Cpu).collect();
        cpus.sort();
        assert_eq!(told, cpus);
        assert!(!round.reached.is_empty());
        // With it comes a count of forks.
        let is_count = |sign: &Sign| matches!(sign, Sign::Forks { forks: Forks::Counted(_), fenced: true });
        assert!(signs.try_iter().any(|(_, sign)| is_count(&sign)));
    }

    #[test]
    fn it_beats_by_itself_and_says_when_and_where() {
        let (pulse, signs) = Pulse::start(Duration::from_millis(1), 0).unwrap();
        pulse.doubt();
        let mut beats = Vec::new();
        while beats.len() < 3 {
            let (number, sign) = signs.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(pulse.signs() + 1 >= number);
            if let Sign::Heartbeat(heartbeat) = sign {
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
