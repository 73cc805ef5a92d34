//! Fences: at both edges of a recording every CPU says something that must be heard, so that no loss is outside of all gaps.

use std::io;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use pmon_core::capture::{Edge, Fence, Unreached, WhyUnreached};
use pmon_core::source::Source;
use pmon_core::{Cpu, MonoNs};

use crate::clock::Clock;
use crate::intake::{Intake, Look};
use crate::netlink::Socket;
use crate::pulse::{Pulse, Round};

/// A CPU that was not heard in this time is asked again.
const ROUND: Duration = Duration::from_millis(100);
/// Time between looks at an empty source.
const PAUSE: Duration = Duration::from_millis(1);

/// Has every CPU say something and waits, `limit` at the most, until all that could were heard, in a round in which nothing
/// was dropped. `handle` is called after each look at the source, and `again` before another round.
pub(crate) fn raise(
    edge: Edge,
    intake: &mut Intake<Socket>,
    (pulse, clock): (&Pulse, Clock),
    limit: Duration,
    mut handle: impl FnMut(&mut Intake<Socket>, Look) -> io::Result<()>,
    mut again: impl FnMut(&mut Intake<Socket>) -> io::Result<()>,
) -> io::Result<Fence> {
    let deadline = Instant::now() + limit;
    loop {
        let drops = intake.source_mut().drops()?;
        let mut watch = Watch::new(pulse, clock);
        let until = deadline.min(Instant::now() + ROUND);
        while !watch.is_over() && Instant::now() < until {
            let look = intake.look()?;
            watch.see(intake);
            handle(intake, look)?;
            match look {
                Look::Closed => break,
                Look::Drained if !watch.is_over() => intake.source_mut().wait(PAUSE)?,
                _ => {}
            }
        }
        let (is_heard, is_clean) = (watch.is_over(), intake.source_mut().drops()? == drops);
        if is_heard && is_clean || Instant::now() >= deadline {
            return Ok(Fence { time: clock.mono(), edge, unreached: watch.unreached() });
        }
        again(intake)?;
    }
}

/// One round: who was asked, and who has not been heard.
struct Watch {
    since: MonoNs,
    answer: std::sync::mpsc::Receiver<Round>,
    round: Option<Round>,
    heard: Vec<Cpu>,
}

impl Watch {
    fn new(pulse: &Pulse, clock: Clock) -> Self {
        Self { since: clock.mono(), answer: pulse.fence(), round: None, heard: Vec::new() }
    }

    fn see<S: Source>(&mut self, intake: &Intake<S>) {
        if self.round.is_none() {
            self.round = match self.answer.try_recv() {
                Ok(round) => Some(round),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Round::default()),
            };
        }
        for (cpu, time) in intake.heard_of() {
            if time >= self.since && !self.heard.contains(&cpu) {
                self.heard.push(cpu);
            }
        }
    }

    fn silent(&self) -> impl Iterator<Item = Cpu> {
        let reached = self.round.iter().flat_map(|round| &round.reached).copied();
        reached.filter(|cpu| !self.heard.contains(cpu))
    }

    fn is_over(&self) -> bool {
        self.round.is_some() && self.silent().next().is_none()
    }

    fn unreached(&self) -> Vec<Unreached> {
        let mut unreached: Vec<_> = self.round.iter().flat_map(|round| &round.unreached).copied().collect();
        unreached.extend(self.silent().map(|cpu| Unreached { cpu, why: WhyUnreached::Silent }));
        unreached.sort_by_key(|unreached| unreached.cpu);
        unreached
    }
}
