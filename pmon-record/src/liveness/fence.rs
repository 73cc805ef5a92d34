//! Fences: at both edges of a recording every CPU says something that must be heard, so that no loss is outside of all gaps.

use std::io;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use pmon_core::capture::{Fence, FencePosition, UnreachedCpu, UnreachedReason};
use pmon_core::source::Source;
use pmon_core::{Cpu, MonoNs};

use crate::clock::Clock;
use crate::cpus;
use crate::liveness::heartbeat::{FenceResult, HeartbeatHandle};
use crate::pipeline::receive::{ReceiveStatus, Receiver};
use crate::transport::live_source::LiveSource;

/// A CPU that was not heard in this time is asked again.
const ROUND: Duration = Duration::from_millis(100);
/// Time between looks at an empty source.
const PAUSE: Duration = Duration::from_millis(1);

/// Has every CPU say something and waits, `limit` at the most, until all that could were heard, in a round in which nothing
/// was dropped. `handle` is called after each look at the source. `again` is called where something was dropped, and says
/// whether that calls for another round.
pub(crate) fn raise(
    position: FencePosition,
    receiver: &mut Receiver<LiveSource>,
    (heartbeat, clock): (&HeartbeatHandle, Clock),
    limit: Duration,
    mut handle: impl FnMut(&mut Receiver<LiveSource>, ReceiveStatus) -> io::Result<()>,
    mut again: impl FnMut(&mut Receiver<LiveSource>) -> io::Result<bool>,
) -> io::Result<Fence> {
    let deadline = Instant::now() + limit;
    let mut watch = Watch::new(heartbeat, clock);
    let mut drops = receiver.source_mut().drops_now()?;
    if position == FencePosition::Start {
        // What was dropped before the first round is before the first event of a CPU, too.
        drops = drops.map(|_| 0);
    }
    loop {
        let until = deadline.min(Instant::now() + ROUND);
        while !watch.is_over() && Instant::now() < until {
            let look = receiver.receive()?;
            watch.see(receiver);
            handle(receiver, look)?;
            match look {
                ReceiveStatus::Closed => break,
                ReceiveStatus::Drained if !watch.is_over() => receiver.source_mut().wait(PAUSE)?,
                _ => {}
            }
        }
        let now = receiver.source_mut().drops_now()?;
        let is_clean = now == std::mem::replace(&mut drops, now);
        let is_to_repeat = !is_clean && again(receiver)?;
        if Instant::now() >= deadline || watch.is_over() && !is_to_repeat {
            return Ok(Fence { time: clock.mono(), position, unreached: watch.unreached() });
        }
        if watch.round.is_some() {
            watch = Watch::new(heartbeat, clock);
        } else if is_to_repeat {
            // Whoever has not answered yet is not asked twice.
            watch.heard.clear();
        }
    }
}

/// One round: who was asked, and who has not been heard.
struct Watch {
    since: MonoNs,
    answer: std::sync::mpsc::Receiver<FenceResult>,
    round: Option<FenceResult>,
    heard: Vec<Cpu>,
}

impl Watch {
    fn new(heartbeat: &HeartbeatHandle, clock: Clock) -> Self {
        Self { since: clock.mono(), answer: heartbeat.fence(), round: None, heard: Vec::new() }
    }

    fn see<S: Source>(&mut self, receiver: &Receiver<S>) {
        if self.round.is_none() {
            self.round = match self.answer.try_recv() {
                Ok(round) => Some(round),
                Err(TryRecvError::Empty) => None,
                // The thread that should have asked has died.
                Err(TryRecvError::Disconnected) => {
                    Some(FenceResult { reached: online(), unreached: Vec::new() })
                }
            };
        }
        for (cpu, time) in receiver.recent_events() {
            if time >= self.since && !self.heard.contains(&cpu) {
                self.heard.push(cpu);
            }
        }
    }

    /// Those who were, or may have been, asked, and were not heard.
    fn silent(&self) -> impl Iterator<Item = Cpu> {
        let asked = self.round.as_ref().map_or_else(online, |round| round.reached.clone());
        asked.into_iter().filter(|cpu| !self.heard.contains(cpu))
    }

    fn is_over(&self) -> bool {
        self.round.is_some() && self.silent().next().is_none()
    }

    fn unreached(&self) -> Vec<UnreachedCpu> {
        let mut unreached: Vec<_> = self.round.iter().flat_map(|round| &round.unreached).copied().collect();
        unreached.extend(self.silent().map(|cpu| UnreachedCpu { cpu, why: UnreachedReason::Silent }));
        unreached.sort_by_key(|unreached| unreached.cpu);
        unreached
    }
}

fn online() -> Vec<Cpu> {
    cpus::online().into_iter().map(Cpu).collect()
}
