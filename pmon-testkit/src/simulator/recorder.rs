//! The recorder's receiver and assembler, called as its threads call them.

use std::time::Duration;

use pmon_core::capture::{Encoder, ForkCount, ForkReading, Header, Meta, Record};
use pmon_core::wire::ByteOrder;
use pmon_core::{Cpu, MonoNs, Task};
use pmon_fake::{Kernel, Socket};
use pmon_record::assemble::{Assembler, AssemblerSettings, Checkpoint, Heartbeat};
use pmon_record::receive::{ChunkOutput, ReceiveStatus, Receiver};
use pmon_record::{Sink, SinkError};

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
    own: Task,
    first: Vec<u32>,
    /// Number of heartbeats and readings so far.
    checkpoints: u64,
    /// First and last reading of the fork counter.
    readings: Option<(ForkCount, ForkCount)>,
    /// Heartbeats that the kernel did not emit.
    silent: Vec<Heartbeat>,
}

/// A finished recording, with the facts about it that the simulator observed.
pub(super) struct SimulatedRecording {
    /// The number of the first event of each CPU after the recorder has subscribed.
    pub(super) first: Vec<u32>,
    pub(super) capture: Vec<u8>,
    pub(super) header: Header,
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
        let (receiver, output) = Receiver::new(socket, simulation.chunks * CHUNK_BYTES, 0);
        let settings =
            AssemblerSettings { forks: true, ..AssemblerSettings::new(ByteOrder::NATIVE, own.tgid) };
        let meta = Meta { recorder_pid: own.tgid.0, cpus_online: simulation.cpus, ..Meta::default() };
        let header = Header { uuid: [7; 16], byte_order: ByteOrder::NATIVE, meta };
        let assembler = Assembler::new(MemorySink::new(header, simulation.block_records)?, settings);
        let (checkpoints, readings, silent) = (0, None, Vec::new());
        let mut this = Self { receiver, output, assembler, own, first, checkpoints, readings, silent };
        this.fence(kernel);
        this.count_forks(kernel, true)?;
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

    /// Ends the recording: emits a last fence on each CPU, and writes all chunks.
    pub(super) fn end(mut self, kernel: &mut Kernel) -> Result<SimulatedRecording, SimulationError> {
        kernel.release_delayed();
        self.count_forks(kernel, false)?;
        self.count_forks(kernel, true)?;
        self.count_forks(kernel, true)?;
        self.receiver.finish()?;
        let drops = u64::from(self.receiver.source_mut().memory().drops);
        self.write(usize::MAX)?;
        self.assembler.finish(kernel.now())?;
        let MemorySink { capture, header, .. } = self.assembler.into_sink();
        let (readings, silent) = (self.readings.unwrap_or_default(), self.silent);
        Ok(SimulatedRecording { first: self.first, capture, header, drops, readings, silent })
    }
}

/// A sink that encodes a capture into memory.
pub(super) struct MemorySink {
    encoder: Encoder,
    header: Header,
    /// Number of records per block.
    block_records: usize,
    capture: Vec<u8>,
}

impl MemorySink {
    pub(super) fn new(header: Header, block_records: usize) -> Result<Self, SimulationError> {
        let encoder = Encoder::new(&header).map_err(SinkError::from)?;
        let capture = encoder.header().to_vec();
        Ok(Self { encoder, header, block_records, capture })
    }

    pub(super) fn into_capture(self) -> Vec<u8> {
        self.capture
    }
}

impl Sink for MemorySink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.encoder.push(record)?;
        if self.encoder.pending() >= self.block_records {
            self.capture.extend_from_slice(self.encoder.seal());
        }
        Ok(())
    }

    fn tick(&mut self, _now: std::time::Instant) -> Result<Option<std::time::Instant>, SinkError> {
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.capture.extend_from_slice(self.encoder.seal());
        self.capture.extend_from_slice(self.encoder.finish());
        Ok(())
    }
}
