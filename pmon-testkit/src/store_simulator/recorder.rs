//! A recorder from its start to its end: passes the events of the machine to a store, as the
//! assembler and the writer thread do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use oorandom::Rand32;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::Details;
use pmon_core::capture::{
    CpuPosition, DetailsSubject, End, Fence, FencePosition, Header, Loss, Meta, MissReason, Positions,
    Record, RecordedDatagram, SegmentInfo, SegmentReason, Snapshot, SnapshotReason, Witness,
};
use pmon_core::{Cpu, MonoNs, Seq, Tgid};
use pmon_record::{Division, Sink};
use pmon_store::simulated::SimulatedFilesystem;
use pmon_store::{Filesystem, LockedStore, ProcessModel, StoreHandle, StoreOptions, StoreWriter};

use super::StoreSimulationError;
use super::crash::{Expectations, lock};
use super::machine::{EmittedEvent, HOST, Machine, ORDER, Process, RECORDER, TICKS};
use super::segments::read_segments;
use super::truth::Fate;

/// Maximum time for which the details of an exec are awaited.
const DETAILS_TIMEOUT: Duration = Duration::from_secs(2);

/// The machine with its filesystem, and the truth about both.
pub(super) struct World {
    pub(super) fs: SimulatedFilesystem,
    pub(super) machine: Machine,
    pub(super) expected: Arc<Mutex<Expectations>>,
    pub(super) random: Rand32,
    /// The real time at which the virtual time began. Only differences matter.
    pub(super) origin: Instant,
    /// The events that wait in the kernel for a recorder.
    queue: VecDeque<EmittedEvent>,
    /// Whether a socket is open: the kernel queues events.
    pub(super) is_listening: bool,
    /// The socket's count of drops.
    drops: u64,
    /// Time at which the socket was opened.
    opened_at: MonoNs,
    /// The processes at each division, by the time of the division; `None` if the store cannot know
    /// them because events were lost.
    pub(super) openings: BTreeMap<(String, u64), Option<BTreeMap<u32, Process>>>,
    /// Whether the store has received every event since its process table was complete.
    is_exact: bool,
}

impl World {
    pub(super) fn new(cpus: u32, seed: u64) -> Self {
        let machine = Machine::new(cpus, seed);
        let mut expected = Expectations::default();
        expected.truth.begin_boot(machine.boot_id(), &machine.first);
        Self {
            fs: SimulatedFilesystem::default(),
            machine,
            expected: Arc::new(Mutex::new(expected)),
            random: Rand32::new(seed ^ 0x776f_726c),
            origin: Instant::now(),
            queue: VecDeque::new(),
            is_listening: false,
            drops: 0,
            opened_at: MonoNs(0),
            openings: BTreeMap::new(),
            is_exact: true,
        }
    }

    pub(super) fn expected(&self) -> MutexGuard<'_, Expectations> {
        lock(&self.expected)
    }

    /// Returns the time without that in which the writer waited for the disk.
    pub(super) fn clock(&self) -> Duration {
        self.expected().clock
    }

    pub(super) fn now(&self) -> Instant {
        self.origin + self.fs.now()
    }

    pub(super) fn advance(&mut self, time: Duration) {
        self.fs.set_now(self.fs.now() + time);
        self.expected().clock += time;
        self.machine.advance(time.as_nanos() as u64);
    }

    /// Lets the machine emit events. The kernel drops one in `1 / drop_rate`.
    pub(super) fn emit(&mut self, events: u32, drop_rate: u32) {
        for _ in 0..events {
            let emitted = self.machine.emit();
            let is_dropped = self.is_listening && drop_rate > 0 && self.random.rand_range(0..drop_rate) == 0;
            self.drops += u64::from(is_dropped);
            self.is_exact &= !is_dropped;
            self.expected().truth.emit(emitted.event, if is_dropped { Fate::Dropped } else { Fate::Emitted });
            if self.is_listening && !is_dropped {
                self.queue.push_back(emitted);
            }
        }
    }

    fn emit_fences(&mut self) {
        for cpu in 0..self.machine.first.len() {
            let emitted = self.machine.emit_fence(Cpu(cpu as u32));
            self.expected().truth.emit(emitted.event, Fate::Emitted);
            self.queue.push_back(emitted);
        }
    }

    /// Checks that each segment opens with the processes that ran when it began.
    pub(super) fn check_openings(&self) -> Result<(), StoreSimulationError> {
        for segment in read_segments(&self.fs, true)? {
            let meta = &segment.header.meta;
            let key = (meta.boot_id.clone(), meta.start.mono.0);
            let (Some(Some(expected)), Some(opening)) = (self.openings.get(&key), &segment.opening) else {
                continue;
            };
            let found = opening.iter().map(|(&pid, details)| {
                let text = |bytes: &Option<Vec<u8>>| {
                    bytes
                        .as_deref()
                        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                        .unwrap_or_default()
                };
                let (ppid, start_ticks) =
                    (details.ppid.unwrap_or_default(), details.start_ticks.unwrap_or_default());
                (pid, Process { ppid, start_ticks, comm: text(&details.comm), exe: text(&details.exe) })
            });
            let mut found: BTreeMap<u32, Process> = found.collect();
            // The program is unknown while its details, or those of the parent at the fork, are
            // awaited.
            for (pid, process) in &mut found {
                if let Some(expected) = expected.get(pid)
                    && (expected.exe.is_empty() || process.exe.is_empty())
                {
                    (process.comm, process.exe) = (expected.comm.clone(), expected.exe.clone());
                }
            }
            if found != *expected {
                let differs = |(pid, process): &(&u32, &Process)| expected.get(pid) != Some(process);
                let found: Vec<_> = found.iter().filter(differs).collect();
                let missing: Vec<_> = expected
                    .iter()
                    .filter(|(pid, process)| {
                        !opening.contains_key(pid)
                            || found.iter().any(|(other, _)| other == pid && !process.exe.is_empty())
                    })
                    .collect();
                let (found, expected) = (found, missing);
                return Err(format!("{} opens with {found:?}, expected {expected:?}", segment.name).into());
            }
        }
        Ok(())
    }

    /// Closes the socket: events that wait are gone.
    pub(super) fn close_socket(&mut self) {
        self.queue.clear();
        (self.is_listening, self.drops) = (false, 0);
    }

    pub(super) fn reboot(&mut self) {
        self.close_socket();
        self.machine.boot();
        self.expected().truth.begin_boot(self.machine.boot_id(), &self.machine.first);
    }
}

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
    positions: BTreeMap<Cpu, CpuPosition>,
    totals: SegmentTotals,
    /// Details that have not been read yet, with the time at which they will have been, and whether
    /// their exec is in the previous segment.
    awaited: Vec<(Details, Duration, bool)>,
    /// The end of the previous segment, while details of its execs are awaited.
    ending: Option<(End, Duration)>,
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
        let known = match &last {
            Some(last) if is_continued => last.positions.cpus.clone(),
            _ => Vec::new(),
        };
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
        for &pid in world.machine.processes.keys() {
            let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
            if let Some(details) = world.machine.details(pid, subject) {
                model.apply(&Record::Details(Box::new(details)));
            }
        }
        let processes = world.machine.processes.len() as u32;
        let (started, ended, reason) = (start.mono, start.mono, SnapshotReason::Start);
        model.apply(&Record::Snapshot(Snapshot { started, ended, processes, reason, atomic: true }));
        let (writer, handle) = StoreWriter::begin(store, template, options, model, world.now())?;
        let positions = known.into_iter().map(|position| (position.cpu, position)).collect();
        let totals = SegmentTotals { drops: world.drops, ..SegmentTotals::default() };
        let (awaited, ending, divisions) = (Vec::new(), None, 0);
        let mut this = Self { writer, handle, positions, totals, awaited, ending, divisions };
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
        let key = (world.machine.boot_id(), world.machine.now().0);
        let mut processes = world.is_exact.then(|| world.machine.processes.clone());
        for (details, ..) in &self.awaited {
            // The program of this process is not known yet.
            if let Some(process) =
                processes.as_mut().and_then(|known| known.get_mut(&details.subject.tgid().0))
            {
                (process.comm, process.exe) = Default::default();
            }
        }
        world.openings.insert(key, processes);
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
        let Some(datagram) = event.encode(ORDER) else { return Ok(()) };
        world.expected().truth.set_fate(&event, Fate::Passed(passed_at));
        self.writer.record(&RecordedDatagram::new(&datagram, ORDER).into())?;
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
            self.writer.record(&Record::Loss(Loss { cpu, first, last, after, before, cause }))?;
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
        self.totals = SegmentTotals { drops: world.drops, ..SegmentTotals::default() };
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
