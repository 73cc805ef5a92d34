//! The recorder's own parts, called as its threads call them.

use std::time::Duration;

use pmon_core::capture::{Encoder, End, ForkCount, ForkReading, Header, Meta, Record};
use pmon_core::wire::ByteOrder;
use pmon_core::{Cpu, MonoNs, Task};
use pmon_fake::{Kernel, Socket};
use pmon_record::assemble::{Assembler, AssemblerSettings, Checkpoint, Heartbeat};
use pmon_record::receive::{ChunkOutput, ReceiveStatus, Receiver};
use pmon_record::{Sink, SinkError};

use super::{Scenario, Wrong};

/// Time between an action and the reading of a clock.
const NEXT: Duration = Duration::from_nanos(1);

/// Bytes of a chunk's datagrams, so that there are as many chunks as are wanted.
const CHUNK: usize = 2048 * pmon_core::batch::SLOT_LEN;
/// So long before a look are the events that have surely come.
const SETTLE: u64 = 1_000_000;

/// See the module.
pub(crate) struct Recorder {
    receiver: Receiver<Socket>,
    output: ChunkOutput,
    assembler: Assembler<Tape>,
    own: Task,
    first: Vec<u32>,
    /// Number of heartbeats and readings so far.
    checkpoints: u64,
    /// First and last reading of the fork counter.
    readings: Option<(ForkCount, ForkCount)>,
    /// Heartbeats that the kernel did not emit.
    silent: Vec<Heartbeat>,
}

/// What was recorded.
pub(crate) struct Recorded {
    /// The number of the first event of each CPU that the recorder could hear.
    pub(crate) first: Vec<u32>,
    pub(crate) capture: Vec<u8>,
    pub(crate) header: Header,
    pub(crate) end: End,
    /// What the recorder's socket dropped.
    pub(crate) drops: u64,
    /// First and last reading of the fork counter.
    pub(crate) readings: (ForkCount, ForkCount),
    /// Heartbeats that the kernel did not emit.
    pub(crate) silent: Vec<Heartbeat>,
}

impl Recorder {
    /// Subscribes, and has each CPU say something: what happens from then on is accounted for.
    pub(crate) fn begin(scenario: &Scenario, kernel: &mut Kernel) -> Result<Self, Wrong> {
        let mut socket = kernel.socket();
        socket.force_rcvbuf(scenario.rcvbuf)?;
        socket.set_no_enobufs(scenario.no_enobufs);
        let first = (0..kernel.cpus()).map(|cpu| kernel.next_seq(Cpu(cpu)).0).collect();
        socket.listen()?;
        let own = kernel.add_process("pmon");
        let (receiver, output) = Receiver::new(socket, scenario.chunks * CHUNK, 0);
        let setup = AssemblerSettings { forks: true, ..AssemblerSettings::new(ByteOrder::NATIVE, own.tgid) };
        let assembler = Assembler::new(Tape::new(scenario, own)?, setup);
        let (checkpoints, readings, silent) = (0, None, Vec::new());
        let mut this = Self { receiver, output, assembler, own, first, checkpoints, readings, silent };
        this.fence(kernel);
        this.count_forks(kernel, true)?;
        Ok(this)
    }

    /// Passes on an action of the heartbeat thread whose events have been received.
    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), SinkError> {
        self.checkpoints += 1;
        self.assembler.add_checkpoint(self.checkpoints, checkpoint)?;
        self.drain();
        self.receiver.complete_checkpoints(self.checkpoints);
        Ok(())
    }

    /// Emits a heartbeat: an event that the recorder must receive.
    pub(crate) fn beat(&mut self, kernel: &mut Kernel, cpu: Cpu) -> Result<(), SinkError> {
        let is_silent = kernel.listeners() < 1;
        kernel.run_on(cpu);
        kernel.advance(NEXT);
        let began = kernel.now();
        kernel.rename(self.own, "pmon/heartbeat");
        kernel.advance(NEXT);
        let heartbeat = Heartbeat { began, ended: kernel.now(), cpu };
        self.silent.extend(is_silent.then_some(heartbeat));
        kernel.advance(NEXT);
        self.checkpoint(Checkpoint::Heartbeat(heartbeat))
    }

    /// Reads the fork counter, with or without a fence before.
    pub(crate) fn count_forks(&mut self, kernel: &mut Kernel, fenced: bool) -> Result<(), SinkError> {
        if fenced {
            self.fence(kernel);
        }
        kernel.advance(NEXT);
        let now = kernel.now();
        let count = ForkCount { from: now, until: now, forks: kernel.forks(), running: 1 };
        kernel.advance(NEXT);
        self.readings = Some((self.readings.map_or(count, |(first, _)| first), count));
        self.checkpoint(Checkpoint::Forks { forks: ForkReading::Counted(count), fenced })
    }

    /// Each CPU says something, and it is heard.
    fn fence(&mut self, kernel: &mut Kernel) {
        for cpu in 0..kernel.cpus() {
            self.drain();
            kernel.run_on(Cpu(cpu));
            kernel.rename(self.own, "pmon/fence");
        }
        self.drain();
    }

    pub(crate) fn look(&mut self) -> ReceiveStatus {
        let Ok(look) = self.receiver.receive() else { return ReceiveStatus::Closed };
        if look == ReceiveStatus::Full {
            let _handed = self.receiver.hand_over();
        }
        look
    }

    /// Looks until nothing waits; a call that a script lets find nothing is made anew.
    pub(crate) fn drain(&mut self) {
        loop {
            let is_drained = self.look() == ReceiveStatus::Drained;
            if is_drained && !self.receiver.source_mut().poll().readable {
                return;
            }
        }
    }

    pub(crate) fn hand_over(&mut self, kernel: &Kernel) {
        self.drain();
        if let Some(chunk) = self.receiver.current() {
            chunk.drained_at = Some(MonoNs(kernel.now().0.saturating_sub(SETTLE)));
        }
        let _handed = self.receiver.hand_over();
    }

    /// For a time the kernel counts no listener.
    pub(crate) fn blind(
        &mut self,
        kernel: &mut Kernel,
        beat: Option<Cpu>,
        meanwhile: impl FnOnce(&mut Kernel),
    ) -> Result<(), SinkError> {
        let listeners = kernel.listeners();
        kernel.set_listeners(0);
        meanwhile(kernel);
        if let Some(cpu) = beat {
            self.beat(kernel, cpu)?;
        }
        kernel.set_listeners(listeners);
        Ok(())
    }

    pub(crate) fn write(&mut self, chunks: usize) -> Result<(), SinkError> {
        for _ in 0..chunks {
            let Some(chunk) = self.output.pop() else { return Ok(()) };
            self.assembler.add_chunk(&chunk)?;
            self.output.recycle(chunk);
        }
        Ok(())
    }

    /// The end: a last word of every CPU, with the writer as far behind as it is.
    pub(crate) fn end(mut self, kernel: &mut Kernel) -> Result<Recorded, Wrong> {
        kernel.release_delayed();
        self.count_forks(kernel, false)?;
        self.count_forks(kernel, true)?;
        self.count_forks(kernel, true)?;
        self.receiver.finish()?;
        let drops = u64::from(self.receiver.source_mut().memory().drops);
        self.write(usize::MAX)?;
        let end = self.assembler.finish(kernel.now())?;
        let Tape { capture, header, .. } = self.assembler.into_sink();
        let (readings, silent) = (self.readings.unwrap_or_default(), self.silent);
        Ok(Recorded { first: self.first, capture, header, end, drops, readings, silent })
    }
}

/// A capture in memory.
pub(crate) struct Tape {
    encoder: Encoder,
    header: Header,
    /// Records of a block.
    block: usize,
    capture: Vec<u8>,
}

impl Tape {
    fn new(scenario: &Scenario, own: Task) -> Result<Self, Wrong> {
        let meta = Meta { recorder_pid: own.tgid.0, cpus_online: scenario.cpus, ..Meta::default() };
        let header = Header { uuid: [7; 16], byte_order: ByteOrder::NATIVE, meta };
        Self::with_header(header, scenario.block)
    }

    pub(crate) fn with_header(header: Header, block: usize) -> Result<Self, Wrong> {
        let encoder = Encoder::new(&header).map_err(SinkError::from)?;
        let capture = encoder.header().to_vec();
        Ok(Self { encoder, header, block, capture })
    }

    pub(crate) fn into_capture(self) -> Vec<u8> {
        self.capture
    }
}

impl Sink for Tape {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.encoder.push(record)?;
        if self.encoder.fresh() >= self.block {
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
