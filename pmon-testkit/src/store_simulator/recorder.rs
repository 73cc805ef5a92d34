//! A recorder from its start to its end: passes the events of the machine to a store, as the
//! assembler and the writer thread do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pmon_analysis::process::ProcessModel;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::Details;
use pmon_core::capture::{
    CpuPosition, DetailsSubject, End, Fence, FencePosition, Header, Loss, Meta, MissReason, Positions,
    Record, RecordedDatagram, SegmentInfo, SegmentReason, Snapshot, SnapshotReason, Witness,
};
use pmon_core::wire::Event;
use pmon_core::{Cpu, MonoNs, Seq, Tgid};
use pmon_record::{Division, Sink};
use pmon_store::{Filesystem, LockedStore, StoreHandle, StoreOptions, StoreWriter};

use super::StoreSimulationError;
use super::clips::RecorderClips;
use super::machine::{EmittedEvent, HOST, ORDER, RECORDER, TICKS};
use super::mistake::Mistake;
use super::truth::Fate;
use super::world::World;

/// Maximum time for which the details of an exec are awaited.
const DETAILS_TIMEOUT: Duration = Duration::from_secs(2);

/// The totals of a segment so far.
#[derive(Clone, Copy, Debug, Default)]
struct SegmentTotals {
    events: u64,
    lost: LossByCause,
    /// The socket's count of drops at the start of the segment.
    drops: u64,
}

/// A recorder that writes a store.
pub(super) struct StoreRecorder {
    writer: StoreWriter,
    pub(super) handle: StoreHandle,
    clips: Option<RecorderClips>,
    positions: BTreeMap<Cpu, CpuPosition>,
    totals: SegmentTotals,
    /// Details that have not been read yet, with the time at which they will have been, and whether
    /// their exec is in the previous segment.
    awaited: Vec<(Details, Duration, bool)>,
    /// The end of the previous segment, while details of its execs are awaited.
    ending: Option<(End, Duration)>,
    /// The last event.
    last: Option<Event>,
    /// Number of divisions so far.
    pub(super) divisions: u32,
}

impl StoreRecorder {
    /// Starts a recorder. It continues with the open socket, if there is one.
    pub(super) fn start(
        world: &mut World,
        filesystem: Arc<dyn Filesystem>,
        options: StoreOptions,
    ) -> Result<Self, StoreSimulationError> {
        let store = LockedStore::open(filesystem, HOST)?;
        let last = store.recovered().last.clone();
        let is_same_boot =
            last.as_ref().is_some_and(|last| last.header.meta.boot_id == world.machine.boot_id());
        // The last segment must be one of the recorder that opened the socket.
        let opened_at = world.opened_at;
        let is_of_socket =
            last.as_ref().is_some_and(|last| last.header.meta.start.mono >= opened_at && last.has_all_cpus);
        let is_continued = world.is_listening && is_same_boot && is_of_socket;
        let mut known = match &last {
            Some(last) if is_continued => last.positions.cpus.clone(),
            _ => Vec::new(),
        };
        match (world.mistake, known.last_mut()) {
            (Some(Mistake::SkipsPosition), Some(last)) => last.next = last.next.next(),
            (Some(Mistake::LacksPosition), Some(_)) => drop(known.pop()),
            _ => {}
        }
        let reason = if is_continued { SegmentReason::Restart } else { SegmentReason::Start };
        if !is_continued {
            world.close_socket();
            world.is_listening = true;
            world.opened_at = world.machine.now();
        }
        world.is_exact = !is_continued;
        let start = world.machine.clock();
        let meta = Meta {
            host: HOST.into(),
            boot_id: world.machine.boot_id(),
            cpus_online: world.machine.first.len() as u32,
            ticks_per_second: TICKS,
            recorder_pid: RECORDER,
            start,
            previous: last.map(|last| last.header.uuid),
            segment: Some(SegmentInfo { reason, positions: known.clone() }),
            ..Meta::default()
        };
        let template = Header { uuid: [0; 16], byte_order: ORDER, meta };
        let mut model = ProcessModel::new(ORDER, TICKS, start);
        let lacking = usize::from(world.mistake == Some(Mistake::LacksProcess));
        for &pid in world.machine.processes.keys().skip(lacking) {
            let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
            if let Some(details) = world.machine.details(pid, subject) {
                model.apply(&Record::Details(Box::new(details)));
            }
        }
        let processes = world.machine.processes.len() as u32;
        let (started, ended, reason) = (start.mono, start.mono, SnapshotReason::Start);
        model.apply(&Record::Snapshot(Snapshot { started, ended, processes, reason, atomic: true }));
        let (mut writer, handle) = StoreWriter::begin(store, template, options, model, world.now())?;
        let clips = world.has_clips.then(|| RecorderClips::start(&mut writer, &handle, world.mistake));
        let clips = clips.transpose()?;
        let positions = known.into_iter().map(|position| (position.cpu, position)).collect();
        let totals = SegmentTotals { drops: world.drops, ..SegmentTotals::default() };
        let (awaited, ending, last, divisions) = (Vec::new(), None, None, 0);
        let mut this = Self { writer, handle, clips, positions, totals, awaited, ending, last, divisions };
        this.note_opening(world);
        this.writer.received_at(world.now());
        if !is_continued {
            world.emit_fences();
            this.receive(world)?;
            this.record_fence(world, FencePosition::Start)?;
        }
        Ok(this)
    }

    /// Takes note of the processes that the opening of the segment must have.
    fn note_opening(&self, world: &mut World) {
        let awaited = self.awaited.iter().map(|(details, ..)| details.subject.tgid().0);
        let processes = world.is_exact.then(|| world.machine.processes.clone());
        world.openings.add(&world.machine, processes, awaited);
    }

    /// Receives what waits in the kernel, and performs the store's timed work.
    pub(super) fn step(&mut self, world: &mut World) -> Result<(), StoreSimulationError> {
        self.receive(world)?;
        self.settle(world, false)?;
        self.writer.tick(world.now())?;
        if self.ending.is_none()
            && let Some(reason) = self.writer.segment_due()
        {
            self.divide(world, reason)?;
        }
        if let Some(clips) = &mut self.clips {
            world.answered.extend(clips.step(world.machine.clock()));
        }
        Ok(())
    }

    fn receive(&mut self, world: &mut World) -> Result<(), StoreSimulationError> {
        self.writer.received_at(world.now());
        while let Some(emitted) = world.queue.pop_front() {
            self.take(world, emitted)?;
        }
        Ok(())
    }

    fn take(&mut self, world: &mut World, emitted: EmittedEvent) -> Result<(), StoreSimulationError> {
        let EmittedEvent { event, details } = emitted;
        let now = world.fs.now();
        if let Some(position) = self.positions.get(&event.cpu).copied()
            && position.next != event.seq
        {
            self.record_gap(world, position, event.seq, event.time)?;
        }
        let next = CpuPosition { cpu: event.cpu, next: event.seq.next(), time: event.time };
        self.positions.insert(event.cpu, next);
        self.totals.events += 1;
        let passed_at = world.clock();
        self.last = Some(event);
        world.expected().truth.set_fate(&event, Fate::Passed(passed_at));
        self.write_event(&event)?;
        if let Some(details) = details {
            if world.random.rand_range(0..3) > 0 {
                self.writer.record(&Record::Details(details))?;
            } else {
                let delay = Duration::from_millis(world.random.rand_range(1..60).into());
                self.awaited.push((*details, now + delay, false));
            }
        }
        Ok(())
    }

    fn write_event(&mut self, event: &Event) -> Result<(), StoreSimulationError> {
        let Some(datagram) = event.encode(ORDER) else { return Ok(()) };
        Ok(self.writer.record(&RecordedDatagram::new(&datagram, ORDER).into())?)
    }

    /// Records the events that are missing before an event: those that the kernel dropped, and
    /// those that an earlier recorder received and did not write.
    fn record_gap(
        &mut self,
        world: &mut World,
        position: CpuPosition,
        until: Seq,
        before: MonoNs,
    ) -> Result<(), StoreSimulationError> {
        let CpuPosition { cpu, next: first, time: after } = position;
        let count = u64::from(until.0.wrapping_sub(first.0));
        let dropped = world.expected().truth.count_dropped(cpu, first, count);
        let causes = [(LossCause::Socket, dropped), (LossCause::Restart, count - dropped)];
        let mut first = first;
        for (cause, count) in causes.into_iter().filter(|(_, count)| *count > 0) {
            let next = Seq(first.0.wrapping_add(count as u32));
            let last = Seq(next.0.wrapping_sub(1));
            self.totals.lost.add(cause, count);
            let loss = Record::Loss(Loss { cpu, first, last, after, before, cause });
            if world.mistake != Some(Mistake::OmitsLoss) {
                self.writer.record(&loss)?;
            }
            if world.mistake == Some(Mistake::CountsLossTwice) {
                self.writer.record(&loss)?;
            }
            first = next;
        }
        Ok(())
    }

    /// Records the details that have been read until now, or all of them as missed.
    fn settle(&mut self, world: &World, is_over: bool) -> Result<(), StoreSimulationError> {
        let now = world.fs.now();
        let is_late = self.ending.as_ref().is_some_and(|(_, since)| now >= *since + DETAILS_TIMEOUT);
        for (details, due, is_previous) in std::mem::take(&mut self.awaited) {
            let is_given_up = is_over || is_previous && is_late;
            if due > now && !is_given_up {
                self.awaited.push((details, due, is_previous));
                continue;
            }
            let details =
                if due > now { Details::missed(details.subject, MissReason::Gone) } else { details };
            let record = Record::Details(Box::new(details));
            if is_previous { self.writer.record_late(&record)? } else { self.writer.record(&record)? }
        }
        if self.awaited.iter().all(|(_, _, is_previous)| !is_previous)
            && let Some((end, _)) = self.ending.take()
        {
            self.writer.end_segment(&end)?;
        }
        Ok(())
    }

    /// Ends the segment, and begins the next one.
    fn divide(&mut self, world: &mut World, reason: SegmentReason) -> Result<(), StoreSimulationError> {
        world.emit_fences();
        self.receive(world)?;
        let end = self.close_segment(world)?;
        for (_, _, is_previous) in &mut self.awaited {
            *is_previous = true;
        }
        let clock = world.machine.clock();
        self.note_opening(world);
        let positions = self.current_positions(world);
        self.writer.record(&Record::Positions(positions.clone()))?;
        self.writer.begin_segment(&Division { reason, clock, positions })?;
        self.divisions += 1;
        let drops = if world.mistake == Some(Mistake::SumsDrops) { 0 } else { world.drops };
        self.totals = SegmentTotals { drops, ..SegmentTotals::default() };
        if let Some(last) = self.last.filter(|_| world.mistake == Some(Mistake::RepeatsEvent)) {
            self.write_event(&last)?;
        }
        self.record_fence(world, FencePosition::Start)?;
        self.ending = Some((end, world.fs.now()));
        self.settle(world, false)
    }

    /// Records the counts and the fence at the end of a segment.
    fn close_segment(&mut self, world: &mut World) -> Result<End, StoreSimulationError> {
        let (time, drops) = (world.machine.now(), world.drops - self.totals.drops);
        let lost = self.totals.lost;
        self.writer.record(&Record::Witness(Witness { time, drops, gaps: lost.in_source() }))?;
        self.record_fence(world, FencePosition::End)?;
        let drops = Some(drops);
        Ok(End { time, events: self.totals.events, drops, lost, ..End::default() })
    }

    fn record_fence(&mut self, world: &World, position: FencePosition) -> Result<(), StoreSimulationError> {
        let (time, unreached) = (world.machine.now(), Vec::new());
        Ok(self.writer.record(&Record::Fence(Fence { time, position, unreached }))?)
    }

    fn current_positions(&self, world: &World) -> Positions {
        let cpus = self.positions.values().copied().collect();
        Positions { time: world.machine.now(), cpus, source_drops: Some(world.drops) }
    }

    /// Records a step of the clock.
    pub(super) fn record_clock(&mut self, world: &World) -> Result<(), StoreSimulationError> {
        Ok(self.writer.record(&Record::Clock(world.machine.clock()))?)
    }

    /// Ends the recording. The socket stays open if the next recorder will continue with it.
    pub(super) fn finish(
        mut self,
        world: &mut World,
        keeps_socket: bool,
    ) -> Result<(), StoreSimulationError> {
        world.emit_fences();
        self.receive(world)?;
        self.settle(world, true)?;
        let end = self.close_segment(world)?;
        self.writer.record(&Record::Positions(self.current_positions(world)))?;
        self.writer.record(&Record::End(end))?;
        let finished = self.writer.finish();
        let clips = self.clips.take().map(|clips| clips.finish(world.machine.clock()));
        world.answered.extend(clips.into_iter().flatten());
        if !keeps_socket {
            world.close_socket();
        }
        Ok(finished?)
    }

    /// Ends the recorder as `kill -9` does: without any further operation on its files.
    pub(super) fn kill(self, world: &mut World) {
        // The files of the killed recorder are those of another filesystem from now on.
        let fs = world.fs.after_kill();
        drop(self);
        world.fs = fs;
    }
}
