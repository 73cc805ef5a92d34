//! The recorder's receiver and assembler, called as its threads call them.

use std::time::Duration;

use pmon_core::capture::{ClockAnchor, ForkCount, ForkReading, Header, Meta, SegmentInfo, SegmentReason};
use pmon_core::wire::ByteOrder;
use pmon_core::{Cpu, MonoNs, Task};
use pmon_fake::{Kernel, Socket};
use pmon_record::SinkError;
use pmon_record::assemble::{Assembler, AssemblerSettings, Checkpoint, DivisionFence, Heartbeat};
use pmon_record::receive::{ChunkOutput, ReceiveStatus, Receiver};

use super::sink::{MemorySink, SimulatedSegment};
use super::{Simulation, SimulationError};

/// Time between an action and the reading of a clock.
const CLOCK_STEP: Duration = Duration::from_nanos(1);

/// Bytes of datagrams per chunk; the receiver gets a multiple of it as its buffer.
const CHUNK_BYTES: usize = 2048 * pmon_core::batch::SLOT_LEN;
/// Events are received at most this long after they were emitted, in ns.
const DELIVERY_NS: u64 = 1_000_000;

/// The parts of a recorder that listens on the fake kernel.
pub(super) struct VirtualRecorder {
    receiver: Receiver<Socket>,
    output: ChunkOutput,
    assembler: Assembler<MemorySink>,
    chunks: usize,
    own: Task,
    first: Vec<u32>,
    /// Number of heartbeats and readings so far.
    checkpoints: u64,
    /// First and last reading of the fork counter.
    readings: Option<(ForkCount, ForkCount)>,
    /// Heartbeats that the kernel did not emit.
    silent: Vec<Heartbeat>,
    restarts: u32,
    is_killed: bool,
}

/// A finished recording, with the facts about it that the simulator observed.
pub(super) struct SimulatedRecording {
    /// The number of the first event of each CPU after the recorder has subscribed.
    pub(super) first: Vec<u32>,
    /// The segments, or the one capture.
    pub(super) segments: Vec<SimulatedSegment>,
    pub(super) header: Header,
    /// Number of times that a recorder continued after another one.
    pub(super) restarts: u32,
    /// Whether a recorder was killed.
    pub(super) is_killed: bool,
    /// Number of datagrams that the recorder's socket dropped.
    pub(super) drops: u64,
    /// First and last reading of the fork counter.
    pub(super) readings: (ForkCount, ForkCount),
    /// Heartbeats that the kernel did not emit.
    pub(super) silent: Vec<Heartbeat>,
}

impl VirtualRecorder {
    /// Subscribes, and emits a fence on each CPU.
    pub(super) fn begin(simulation: &Simulation, kernel: &mut Kernel) -> Result<Self, SimulationError> {
        let mut socket = kernel.socket();
        socket.force_rcvbuf(simulation.rcvbuf)?;
        socket.set_no_enobufs(simulation.no_enobufs);
        let first = (0..kernel.cpus()).map(|cpu| kernel.next_seq(Cpu(cpu)).0).collect();
        socket.listen()?;
        let own = kernel.add_process("pmon");
        let chunks = simulation.chunks;
        let (receiver, output) = Receiver::new(socket, chunks * CHUNK_BYTES, 0);
        let mut meta = Meta { recorder_pid: own.tgid.0, cpus_online: simulation.cpus, ..Meta::default() };
        if simulation.is_divided {
            meta.segment = Some(SegmentInfo { reason: SegmentReason::Start, positions: Vec::new() });
        }
        let header = Header { uuid: [7; 16], byte_order: ByteOrder::NATIVE, meta };
        let assembler = Assembler::new(MemorySink::new(header, simulation.block_records)?, settings(own));
        let (checkpoints, readings, silent, restarts, is_killed) = (0, None, Vec::new(), 0, false);
        let mut this = Self {
            receiver,
            output,
            assembler,
            chunks,
            own,
            first,
            checkpoints,
            readings,
            silent,
            restarts,
            is_killed,
        };
        this.fence(kernel);
        this.count_forks(kernel, true)?;
        if simulation.is_divided {
            // If a recorder is killed before that, nothing is known of the first events.
            this.hand_over(kernel);
            this.write(usize::MAX)?;
        }
        Ok(this)
    }

    /// Passes a checkpoint of the heartbeat thread to the assembler, after its events were
    /// received.
    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), SinkError> {
        self.checkpoints += 1;
        self.assembler.add_checkpoint(self.checkpoints, checkpoint)?;
        self.drain();
        self.receiver.complete_checkpoints(self.checkpoints);
        Ok(())
    }

    /// Emits a heartbeat: an event that the recorder must receive.
    pub(super) fn heartbeat(&mut self, kernel: &mut Kernel, cpu: Cpu) -> Result<(), SinkError> {
        let is_silent = kernel.listeners() < 1;
        kernel.run_on(cpu);
        kernel.advance(CLOCK_STEP);
        let began = kernel.now();
        kernel.rename(self.own, "pmon/heartbeat");
        kernel.advance(CLOCK_STEP);
        let heartbeat = Heartbeat { began, ended: kernel.now(), cpu };
        self.silent.extend(is_silent.then_some(heartbeat));
        kernel.advance(CLOCK_STEP);
        self.checkpoint(Checkpoint::Heartbeat(heartbeat))
    }

    /// Reads the fork counter, with or without a fence before.
    pub(super) fn count_forks(&mut self, kernel: &mut Kernel, fenced: bool) -> Result<(), SinkError> {
        if fenced {
            self.fence(kernel);
        }
        kernel.advance(CLOCK_STEP);
        let now = kernel.now();
        let count = ForkCount { from: now, until: now, forks: kernel.forks(), running: 1 };
        kernel.advance(CLOCK_STEP);
        self.readings = Some((self.readings.map_or(count, |(first, _)| first), count));
        self.checkpoint(Checkpoint::Forks { forks: ForkReading::Counted(count), fenced })
    }

    /// Divides the recording. The writer thread waits for the fence, or gives up.
    pub(super) fn divide(&mut self, kernel: &mut Kernel, is_fenced: bool) -> Result<(), SinkError> {
        let online: Vec<_> = (0..kernel.cpus()).map(Cpu).collect();
        self.assembler.prepare_division(kernel.now(), online.clone(), None);
        self.count_forks(kernel, false)?;
        kernel.advance(CLOCK_STEP);
        let began = kernel.now();
        self.count_forks(kernel, true)?;
        self.checkpoint(Checkpoint::Fence(DivisionFence { began, reached: online, unreached: Vec::new() }))?;
        if is_fenced {
            self.hand_over(kernel);
            self.write(usize::MAX)?;
        }
        let clock = ClockAnchor { mono: kernel.now(), ..ClockAnchor::default() };
        self.assembler.divide(SegmentReason::Request, clock, None)?;
        self.count_forks(kernel, false)
    }

    /// Replaces the recorder by another one with the same socket. The first one ends cleanly, or is
    /// killed.
    pub(super) fn restart(mut self, kernel: &mut Kernel, is_killed: bool) -> Result<Self, SimulationError> {
        match is_killed {
            false => drop(self.finish(kernel)?),
            // A new recorder does not know which heartbeats were not received.
            true => self.silent.clear(),
        }
        let (sink, positions) = self.assembler.into_sink().restart(is_killed, kernel.cpus())?;
        let socket = std::mem::replace(self.receiver.source_mut(), kernel.socket());
        let (receiver, output) = Receiver::new(socket, self.chunks * CHUNK_BYTES, 0);
        let assembler = Assembler::new(sink, settings(self.own)).resume(&positions);
        let is_killed = self.is_killed || is_killed;
        let restarts = self.restarts + 1;
        let mut this = Self { receiver, output, assembler, checkpoints: 0, restarts, is_killed, ..self };
        this.fence(kernel);
        this.count_forks(kernel, true)?;
        Ok(this)
    }

    /// Emits an event on each CPU, and receives it.
    fn fence(&mut self, kernel: &mut Kernel) {
        for cpu in 0..kernel.cpus() {
            self.drain();
            kernel.run_on(Cpu(cpu));
            kernel.rename(self.own, "pmon/fence");
        }
        self.drain();
    }

    /// Receives one batch.
    pub(super) fn receive(&mut self) -> ReceiveStatus {
        let Ok(status) = self.receiver.receive() else { return ReceiveStatus::Closed };
        if status == ReceiveStatus::Full {
            let _handed_over = self.receiver.hand_over();
        }
        status
    }

    /// Receives until the socket is empty. A fault can make a single call fail, so the socket is
    /// polled as well.
    pub(super) fn drain(&mut self) {
        loop {
            let is_drained = self.receive() == ReceiveStatus::Drained;
            if is_drained && !self.receiver.source_mut().poll().readable {
                return;
            }
        }
    }

    /// Hands the current chunk over to the writer thread.
    pub(super) fn hand_over(&mut self, kernel: &Kernel) {
        self.drain();
        if let Some(chunk) = self.receiver.current() {
            chunk.drained_at = Some(MonoNs(kernel.now().0.saturating_sub(DELIVERY_NS)));
        }
        let _handed_over = self.receiver.hand_over();
    }

    /// Runs `meanwhile` and perhaps a heartbeat while the kernel counts no listener.
    pub(super) fn blind(
        &mut self,
        kernel: &mut Kernel,
        heartbeat: Option<Cpu>,
        meanwhile: impl FnOnce(&mut Kernel),
    ) -> Result<(), SinkError> {
        let listeners = kernel.listeners();
        kernel.set_listeners(0);
        meanwhile(kernel);
        if let Some(cpu) = heartbeat {
            self.heartbeat(kernel, cpu)?;
        }
        kernel.set_listeners(listeners);
        Ok(())
    }

    /// Writes at most `chunks` chunks, as the writer thread does.
    pub(super) fn write(&mut self, chunks: usize) -> Result<(), SinkError> {
        for _ in 0..chunks {
            let Some(chunk) = self.output.pop() else { return Ok(()) };
            self.assembler.add_chunk(&chunk)?;
            self.output.recycle(chunk);
        }
        Ok(())
    }

    /// Ends the recording: emits a last fence on each CPU, and writes all chunks. Returns the
    /// number of datagrams that the socket has dropped.
    fn finish(&mut self, kernel: &mut Kernel) -> Result<u64, SimulationError> {
        self.count_forks(kernel, false)?;
        self.count_forks(kernel, true)?;
        self.count_forks(kernel, true)?;
        self.receiver.finish()?;
        let drops = u64::from(self.receiver.source_mut().memory().drops);
        self.write(usize::MAX)?;
        self.assembler.finish(kernel.now())?;
        Ok(drops)
    }

    /// Ends the recording, and returns it.
    pub(super) fn end(mut self, kernel: &mut Kernel) -> Result<SimulatedRecording, SimulationError> {
        kernel.release_delayed();
        let drops = self.finish(kernel)?;
        let (header, segments) = self.assembler.into_sink().into_segments();
        let (readings, silent) = (self.readings.unwrap_or_default(), self.silent);
        let (first, restarts, is_killed) = (self.first, self.restarts, self.is_killed);
        Ok(SimulatedRecording { first, segments, header, restarts, is_killed, drops, readings, silent })
    }
}

fn settings(own: Task) -> AssemblerSettings {
    AssemblerSettings { forks: true, ..AssemblerSettings::new(ByteOrder::NATIVE, own.tgid) }
}
