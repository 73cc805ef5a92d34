//! Fences: every CPU emits an event that must be received, at the start and at the end of a
//! recording, so that every loss is between two received events of its CPU.

use std::io;
use std::sync::mpsc::{Receiver as ResultReceiver, TryRecvError};
use std::time::{Duration, Instant};

use pmon_core::capture::{Fence, FencePosition, UnreachedCpu, UnreachedReason};
use pmon_core::source::Source;
use pmon_core::{Cpu, MonoNs};

use crate::clock::Clock;
use crate::liveness::heartbeat::{FenceResult, HeartbeatHandle};
use crate::machine;
use crate::pipeline::receive::{ReceiveStatus, Receiver};
use crate::transport::live_source::LiveSource;

/// Time after which a CPU from which no event was received emits another one.
const ROUND_TIMEOUT: Duration = Duration::from_millis(100);
/// Time between two receptions from an empty source.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes every CPU emit an event, and waits for these events, at most for `limit`. If the source
/// drops datagrams meanwhile, the fence may be repeated.
///
/// `handle` is called after each reception. `on_loss` is called after a round in which the source
/// dropped datagrams, and returns whether to repeat the round.
pub(crate) fn run(
    position: FencePosition,
    receiver: &mut Receiver<LiveSource>,
    (heartbeat, clock): (&HeartbeatHandle, Clock),
    limit: Duration,
    mut handle: impl FnMut(&mut Receiver<LiveSource>, ReceiveStatus) -> io::Result<()>,
    mut on_loss: impl FnMut(&mut Receiver<LiveSource>) -> io::Result<bool>,
) -> io::Result<Fence> {
    let deadline = Instant::now() + limit;
    let mut round = FenceRound::new(heartbeat, clock);
    let mut drops = receiver.source_mut().drops_now()?;
    if position == FencePosition::Start {
        // Drops from before the first round precede the first event of a CPU as well.
        drops = drops.map(|_| 0);
    }
    loop {
        let until = deadline.min(Instant::now() + ROUND_TIMEOUT);
        while !round.is_complete() && Instant::now() < until {
            let status = receiver.receive()?;
            round.update(receiver);
            handle(receiver, status)?;
            match status {
                ReceiveStatus::Closed => break,
                ReceiveStatus::Drained if !round.is_complete() => receiver.source_mut().wait(PAUSE)?,
                _ => {}
            }
        }
        let now = receiver.source_mut().drops_now()?;
        let has_loss = now != std::mem::replace(&mut drops, now);
        let must_repeat = has_loss && on_loss(receiver)?;
        if Instant::now() >= deadline || round.is_complete() && !must_repeat {
            return Ok(Fence { time: clock.mono(), position, unreached: round.unreached() });
        }
        if round.result.is_some() {
            round = FenceRound::new(heartbeat, clock);
        } else if must_repeat {
            // The heartbeat thread has not finished this round, so no second one is requested.
            round.received.clear();
        }
    }
}

/// One round of a fence.
struct FenceRound {
    since: MonoNs,
    results: ResultReceiver<FenceResult>,
    /// The CPUs that emitted an event, once the heartbeat thread has finished.
    result: Option<FenceResult>,
    /// The CPUs from which an event was received.
    received: Vec<Cpu>,
}

impl FenceRound {
    fn new(heartbeat: &HeartbeatHandle, clock: Clock) -> Self {
        let since = clock.mono();
        Self { since, results: heartbeat.request_fence(), result: None, received: Vec::new() }
    }

    fn update<S: Source>(&mut self, receiver: &Receiver<S>) {
        if self.result.is_none() {
            self.result = match self.results.try_recv() {
                Ok(result) => Some(result),
                Err(TryRecvError::Empty) => None,
                // The heartbeat thread has ended.
                Err(TryRecvError::Disconnected) => {
                    Some(FenceResult { reached: machine::online_cpus(), unreached: Vec::new() })
                }
            };
        }
        for (cpu, time) in receiver.recent_events() {
            if time >= self.since && !self.received.contains(&cpu) {
                self.received.push(cpu);
            }
        }
    }

    /// Returns the CPUs that emitted, or may have emitted, an event that was not received.
    fn missing(&self) -> impl Iterator<Item = Cpu> {
        let reached = self.result.as_ref().map_or_else(machine::online_cpus, |result| result.reached.clone());
        reached.into_iter().filter(|cpu| !self.received.contains(cpu))
    }

    fn is_complete(&self) -> bool {
        self.result.is_some() && self.missing().next().is_none()
    }

    fn unreached(&self) -> Vec<UnreachedCpu> {
        let mut unreached: Vec<_> =
            self.result.iter().flat_map(|result| &result.unreached).copied().collect();
        unreached.extend(self.missing().map(|cpu| UnreachedCpu { cpu, why: UnreachedReason::Silent }));
        unreached.sort_by_key(|unreached| unreached.cpu);
        unreached
    }
}
