//! Runs the workload on the simulated machine and records it.

use std::time::Duration;

use pmon_core::capture::{
    ClockAnchor, DetailsSubject, FencePosition, ProcessState, Record, SelfGenerated, Snapshot, SnapshotReason,
};
use pmon_core::source::{Received, Source};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{Cpu, MonoNs};

use super::actors::ActorHandle;
use super::details;
use super::machine::SynthMachine;
use super::recorder::SynthRecorder;

/// A simulated machine and its recorder.
pub(super) struct SynthSimulation<F> {
    pub(super) machine: SynthMachine,
    pub(super) recorder: SynthRecorder<F>,
}

impl<E, F: FnMut(&Record<'static>) -> Result<(), E>> SynthSimulation<F> {
    /// Starts a recording whose records are passed to `visit`.
    pub(super) fn begin(machine: SynthMachine, start: ClockAnchor, visit: F) -> Result<Self, E> {
        Ok(Self { machine, recorder: SynthRecorder::begin(start, visit)? })
    }

    /// Runs the workload and records it.
    pub(super) fn run(mut self) -> Result<(), E> {
        self.machine.listen();
        self.fence(FencePosition::Start)?;
        self.scan(SnapshotReason::Start)?;
        self.machine.start = self.machine.now;
        let mut running = vec![None; self.machine.options.cpus as usize];
        while self.machine.left > 0 {
            let cpu = self.machine.random.rand_range(0..self.machine.options.cpus);
            self.machine.kernel.run_on(Cpu(cpu));
            let actor = running[cpu as usize].take().unwrap_or_else(|| self.machine.next_actor());
            self.machine.set_pace();
            if self.step(actor)? && !self.machine.chance(4) {
                running[cpu as usize] = Some(actor);
            } else {
                self.machine.requeue(actor);
            }
            if self.recorder.is_scan_due(self.machine.now) {
                self.scan(SnapshotReason::Loss)?;
            }
        }
        self.fence(FencePosition::End)?;
        self.recorder.finish(self.machine.now)
    }

    /// Receives and records the events of the last action of `actor`.
    #[inline]
    pub(super) fn receive(&mut self, actor: ActorHandle) -> Result<(), E> {
        let mut others = self.machine.actors.get(actor).map_or(0, |actor| actor.threads.len() as u32);
        // Threads still running, once one has exited.
        let mut left = None;
        // CPU time and peak memory of the exited threads.
        let mut totals = (0, 0);
        while let Ok(Received::Datagrams(1..)) = self.machine.socket.receive(&mut self.machine.batch) {
            for at in 0..self.machine.batch.len() {
                let datagram = self.machine.batch.datagrams_from(at).next();
                let event =
                    datagram.and_then(|datagram| Event::decode(datagram.bytes, ByteOrder::NATIVE).ok());
                let Some(event) = event else { continue };
                self.machine.now = event.time;
                self.machine.left = self.machine.left.saturating_sub(1);
                self.machine.due += 1_000_000_000;
                let is_lost = self.machine.bursts.is_next_lost();
                if is_lost {
                    self.recorder.drop();
                }
                match event.body {
                    EventBody::Exit { task, code, .. } => {
                        let left = left.get_or_insert(others + 1);
                        *left = left.saturating_sub(1);
                        let process = match *left {
                            0 => ProcessState::Ended { status: code },
                            _ => ProcessState::Alive,
                        };
                        let usage = (!is_lost).then(|| {
                            let mut usage = self.machine.usage(actor, task, others, process);
                            // The last thread's exit carries the totals of all threads.
                            totals.0 += usage.cpu_us;
                            totals.1 = totals.1.max(usage.max_rss_kib);
                            if *left == 0 {
                                (usage.process_cpu_us, usage.max_rss_kib) = totals;
                            }
                            usage
                        });
                        others = others.saturating_sub(1);
                        if !is_lost {
                            self.recorder.event(event, usage)?;
                        }
                    }
                    _ if is_lost => {}
                    EventBody::Exec { task } => {
                        self.recorder.event(event, None)?;
                        let subject = DetailsSubject::Exec { tgid: task.tgid, time: event.time };
                        self.describe(actor, subject)?;
                    }
                    _ => self.recorder.event(event, None)?,
                }
            }
            self.machine.batch.clear();
        }
        Ok(())
    }

    fn describe(&mut self, actor: ActorHandle, subject: DetailsSubject) -> Result<(), E> {
        let Some(actor) = self.machine.actors.get(actor) else { return Ok(()) };
        let Some(process) = self.machine.kernel.process(actor.task.tgid) else { return Ok(()) };
        let parent_started = self.machine.actors.get(actor.parent).map_or(MonoNs(0), |parent| parent.started);
        let mut details = self.machine.reused_details.take().unwrap_or_else(details::blank);
        details::describe(&mut details, subject, (actor, process), parent_started);
        self.machine.reused_details = self.recorder.details(details)?;
        Ok(())
    }

    /// Records a scan of all processes.
    fn scan(&mut self, reason: SnapshotReason) -> Result<(), E> {
        let mut reused = self.machine.reused_details.take().unwrap_or_else(details::blank);
        let mut actors: Vec<_> = self.machine.actors.iter().collect();
        actors.sort_unstable_by_key(|actor| actor.task.tgid);
        let mut processes = 0;
        for actor in actors {
            let tgid = actor.task.tgid;
            let Some(process) = self.machine.kernel.process(tgid) else { continue };
            details::describe(&mut reused, DetailsSubject::Snapshot { tgid }, (actor, process), MonoNs(0));
            reused = self.recorder.details(reused)?.unwrap_or_else(details::blank);
            processes += 1;
        }
        self.machine.reused_details = Some(reused);
        let now = self.machine.now;
        let snapshot = Snapshot { started: now, ended: now, processes, reason, atomic: true };
        self.recorder.record(&Record::Snapshot(snapshot))
    }

    /// Lets the recorder emit one event on each CPU, and records the fence.
    fn fence(&mut self, position: FencePosition) -> Result<(), E> {
        self.machine.kernel.set_time_per_event(Duration::from_micros(20));
        for cpu in 0..self.machine.options.cpus {
            self.machine.kernel.run_on(Cpu(cpu));
            self.machine.kernel.rename(self.machine.fence_thread, SelfGenerated::Fence.comm());
            if let Ok(Received::Datagrams(1..)) = self.machine.socket.receive(&mut self.machine.batch) {
                let events = self.machine.batch.datagrams();
                for event in
                    events.filter_map(|datagram| Event::decode(datagram.bytes, ByteOrder::NATIVE).ok())
                {
                    self.machine.now = event.time;
                    self.recorder.event(event, None)?;
                }
                self.machine.batch.clear();
            }
        }
        self.recorder.fence(self.machine.now, position)
    }
}
