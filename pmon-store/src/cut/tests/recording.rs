//! Recordings whose events, losses and details are known.

use std::collections::VecDeque;

use oorandom::Rand64;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{
    ClockAnchor, CpuPosition, Details, DetailsSubject, Encoder, End, Fence, FencePosition, ForkCount,
    ForkReading, Header, Loss, Meta, MissReason, Positions, Record, RecordedDatagram, SegmentInfo,
    SegmentReason, Snapshot, SnapshotReason, Witness,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

pub(crate) const ORDER: ByteOrder = ByteOrder::Little;

/// Time of the first event.
const START: u64 = 1_000_000_000;
const RECORDER: u32 = 4;

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordingPlan {
    pub(crate) seed: u64,
    pub(crate) steps: usize,
    pub(crate) cpus: u32,
    pub(crate) segments: usize,
    /// Number of records of a block.
    pub(crate) block: usize,
    pub(crate) losses: bool,
    /// Maximum error of a reading of the wall clock, in ns.
    pub(crate) clock_error: u64,
}

impl RecordingPlan {
    pub(crate) fn random(seed: u32) -> Self {
        let mut random = Rand64::new(seed.into());
        Self {
            seed: seed.into(),
            steps: random.rand_range(20..900) as usize,
            cpus: random.rand_range(1..5) as u32,
            segments: random.rand_range(1..4) as usize,
            block: random.rand_range(5..80) as usize,
            losses: !seed.is_multiple_of(3),
            clock_error: 0,
        }
    }

    pub(crate) fn record(self) -> SimulatedRecording {
        let mut recorder = Recorder::new(self);
        for segment in 0..self.segments {
            recorder.begin(segment);
            for _ in 0..self.steps / self.segments {
                recorder.step();
            }
            recorder.end();
        }
        recorder.recording
    }
}

/// The captures of a recording, and what they contain.
#[derive(Default)]
pub(crate) struct SimulatedRecording {
    pub(crate) captures: Vec<Vec<u8>>,
    pub(crate) events: Vec<Event>,
    losses: Vec<Loss>,
    /// Readings of the clocks.
    pub(crate) clocks: Vec<ClockAnchor>,
    /// Start and end of the recording.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl SimulatedRecording {
    /// Returns the smallest and the largest time of an event.
    pub(crate) fn times(&self) -> (u64, u64) {
        let times = || self.events.iter().map(|event| event.time.0);
        (times().min().unwrap_or(0), times().max().unwrap_or(0))
    }

    /// Returns the number of lost events whose span overlaps a range.
    pub(crate) fn lost_within(&self, from: u64, until: u64) -> u64 {
        let overlaps = |loss: &&Loss| loss.after.0 <= until && loss.before.0 >= from;
        self.losses.iter().filter(overlaps).map(Loss::count).sum()
    }
}

#[derive(Clone, Copy)]
struct CpuState {
    next: u32,
    time: u64,
}

struct Recorder {
    plan: RecordingPlan,
    random: Rand64,
    now: u64,
    cpus: Vec<CpuState>,
    next_pid: u32,
    forks: u64,
    /// Details that follow, with the number of steps until then.
    details: VecDeque<(usize, Details)>,
    encoder: Option<Encoder>,
    bytes: Vec<u8>,
    uuid: [u8; 16],
    pending: usize,
    events: u64,
    lost: LossByCause,
    recording: SimulatedRecording,
}

impl Recorder {
    fn new(plan: RecordingPlan) -> Self {
        let cpu = |index: u32| CpuState { next: u32::MAX - 20 + index, time: 0 };
        Self {
            plan,
            random: Rand64::new((plan.seed + 1000).into()),
            now: START,
            cpus: (0..plan.cpus).map(cpu).collect(),
            next_pid: 100,
            forks: 5000,
            details: VecDeque::new(),
            encoder: None,
            bytes: Vec::new(),
            uuid: [0; 16],
            pending: 0,
            events: 0,
            lost: LossByCause::default(),
            recording: SimulatedRecording { start: START, ..SimulatedRecording::default() },
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.rand_range(0..one_in) == 0
    }

    /// Reads the clocks.
    fn clock(&mut self) -> ClockAnchor {
        let error = match self.plan.clock_error {
            0 => 0,
            error => self.random.rand_range(0..error + 1) as i64,
        };
        let real_ns = self.now as i64 + 1_700_000_000_000_000_000 + error;
        let clock = ClockAnchor { mono: MonoNs(self.now), boot_ns: self.now, real_ns };
        self.recording.clocks.push(clock);
        clock
    }

    fn positions(&self) -> Vec<CpuPosition> {
        let known = self.cpus.iter().enumerate().filter(|(_, cpu)| cpu.time > 0);
        let position = |(index, cpu): (usize, &CpuState)| CpuPosition {
            cpu: Cpu(index as u32),
            next: Seq(cpu.next),
            time: MonoNs(cpu.time),
        };
        known.map(position).collect()
    }

    /// Begins a segment.
    fn begin(&mut self, index: usize) {
        let previous = (index > 0).then_some(self.uuid);
        self.uuid = [index as u8 + 1; 16];
        let reason = if index == 0 { SegmentReason::Start } else { SegmentReason::Size };
        let segment = SegmentInfo { reason, positions: self.positions() };
        let meta = Meta {
            boot_id: "boot".into(),
            host: "web".into(),
            cpus_online: self.plan.cpus,
            ticks_per_second: 100,
            recorder_pid: RECORDER,
            start: self.clock(),
            previous,
            segment: Some(segment),
            ..Meta::default()
        };
        let encoder = Encoder::new(&Header { uuid: self.uuid, byte_order: ORDER, meta }).unwrap();
        self.bytes = encoder.header().to_vec();
        self.encoder = Some(encoder);
        (self.events, self.lost) = (0, LossByCause::default());
        let subject = DetailsSubject::Snapshot { tgid: Tgid(1) };
        self.push(&Record::Details(Box::new(Details {
            comm: Some(b"init".to_vec()),
            ..Details::missed(subject, MissReason::Gone)
        })));
        let at = MonoNs(self.now);
        self.push(&Record::Snapshot(Snapshot {
            started: at,
            ended: at,
            processes: 1,
            reason: SnapshotReason::Segment,
            atomic: true,
        }));
        if index == 0 {
            self.fence(FencePosition::Start);
        } else {
            self.push(&Record::Fence(Fence { time: at, position: FencePosition::Start, unreached: vec![] }));
        }
    }

    fn step(&mut self) {
        self.now += self.random.rand_range(1..2_000_000);
        let cpu = self.random.rand_range(0..u64::from(self.plan.cpus)) as usize;
        if self.plan.losses && self.chance(40) {
            self.lose(cpu);
        }
        let pid = self.random.rand_range(100..u64::from(self.next_pid) + 1) as u32;
        let task = Task::new(pid, pid);
        let body = match self.random.rand_range(0..5) {
            0 => {
                self.next_pid += 1;
                self.forks += 1;
                EventBody::Fork { parent: task, child: Task::new(self.next_pid, self.next_pid) }
            }
            1 | 2 => EventBody::Exec { task },
            3 => EventBody::Exit { task, code: 0, signal: 17, parent: Some(Task::new(1, 1)) },
            _ => EventBody::Sid { task },
        };
        self.event(cpu, body);
        if self.chance(25) {
            let clock = self.clock();
            self.push(&Record::Clock(clock));
        }
        if self.chance(15) {
            let at = MonoNs(self.now + 1);
            let count = ForkCount { from: at, until: at, forks: self.forks, running: 1 };
            self.push(&Record::Forks(ForkReading::Counted(count)));
        }
        for _ in 0..self.details.len() {
            let Some((steps, details)) = self.details.pop_front() else { break };
            match steps {
                0 => self.push(&Record::Details(Box::new(details))),
                steps => self.details.push_back((steps - 1, details)),
            }
        }
    }

    /// Loses some events of a CPU; the caller emits the next one.
    fn lose(&mut self, cpu: usize) {
        let CpuState { next, time } = self.cpus[cpu];
        let count = self.random.rand_range(1..5) as u32;
        let first = next;
        self.cpus[cpu].next = next.wrapping_add(count);
        let loss = Loss {
            cpu: Cpu(cpu as u32),
            first: Seq(first),
            last: Seq(self.cpus[cpu].next.wrapping_sub(1)),
            after: MonoNs(time),
            before: MonoNs(self.now),
            cause: LossCause::Socket,
        };
        self.lost.add(loss.cause, loss.count());
        self.recording.losses.push(loss);
        self.push(&Record::Loss(loss));
        let gaps = self.lost.total();
        self.push(&Record::Witness(Witness { time: MonoNs(self.now), drops: gaps, gaps }));
    }

    fn event(&mut self, cpu: usize, body: EventBody) {
        // Events of different CPUs are out of order by microseconds.
        let late = if matches!(body, EventBody::Fork { .. }) { 0 } else { self.random.rand_range(0..80_000) };
        let time = (self.now - late).max(self.cpus[cpu].time + 1);
        self.now = self.now.max(time);
        let event = Event { time: MonoNs(time), seq: Seq(self.cpus[cpu].next), cpu: Cpu(cpu as u32), body };
        self.cpus[cpu] = CpuState { next: event.seq.next().0, time };
        if let Some(loss) = self.recording.losses.last_mut()
            && loss.cpu == event.cpu
            && loss.last.next() == event.seq
        {
            // The record of the loss, which is written already, has the time of the step.
            debug_assert!(loss.before.0 >= time);
        }
        self.events += 1;
        self.recording.events.push(event);
        self.push(&Record::Event(RecordedDatagram::Event(event), None));
        if let EventBody::Exec { task } = body {
            let subject = DetailsSubject::Exec { tgid: task.tgid, time: event.time };
            let details =
                Details { exe: Some(b"/bin/x".to_vec()), ..Details::missed(subject, MissReason::Gone) };
            let steps = if self.chance(2) { 0 } else { self.random.rand_range(0..30) as usize };
            self.details.push_back((steps, details));
        }
    }

    /// Makes each CPU emit an event.
    fn fence(&mut self, position: FencePosition) {
        for cpu in 0..self.cpus.len() {
            self.now += 5_000;
            let mut comm = Comm::default();
            comm.0[..10].copy_from_slice(b"pmon/fence");
            self.event_at_now(cpu, EventBody::Comm { task: Task::new(RECORDER + 1, RECORDER), comm });
        }
        self.push(&Record::Fence(Fence { time: MonoNs(self.now), position, unreached: vec![] }));
    }

    fn event_at_now(&mut self, cpu: usize, body: EventBody) {
        let event =
            Event { time: MonoNs(self.now), seq: Seq(self.cpus[cpu].next), cpu: Cpu(cpu as u32), body };
        self.cpus[cpu] = CpuState { next: event.seq.next().0, time: self.now };
        self.events += 1;
        self.recording.events.push(event);
        self.push(&Record::Event(RecordedDatagram::Event(event), None));
    }

    /// Ends a segment.
    fn end(&mut self) {
        let gaps = self.lost.total();
        self.now += 1;
        self.push(&Record::Witness(Witness { time: MonoNs(self.now), drops: gaps, gaps }));
        self.fence(FencePosition::End);
        self.now += 1;
        let positions = Positions { time: MonoNs(self.now), cpus: self.positions(), source_drops: None };
        self.push(&Record::Positions(positions));
        for (_, details) in std::mem::take(&mut self.details) {
            self.push(&Record::Details(Box::new(details)));
        }
        let (events, lost) = (self.events, self.lost);
        let time = MonoNs(self.now);
        self.push(&Record::End(End { time, events, drops: Some(gaps), lost, ..End::default() }));
        self.recording.end = self.now;
        let mut encoder = self.encoder.take().unwrap();
        self.bytes.extend_from_slice(encoder.seal());
        self.bytes.extend_from_slice(encoder.finish());
        self.recording.captures.push(std::mem::take(&mut self.bytes));
    }

    fn push(&mut self, record: &Record<'_>) {
        let encoder = self.encoder.as_mut().unwrap();
        encoder.push(record).unwrap();
        self.pending += 1;
        if self.pending >= self.plan.block {
            self.pending = 0;
            self.bytes.extend_from_slice(encoder.seal());
        }
    }
}
