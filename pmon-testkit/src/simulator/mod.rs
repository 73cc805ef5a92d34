//! Runs the recorder's own parts on the fake kernel, in virtual time.
//!
//! A seed determines everything: the kernel's CPUs and sequence numbers, the socket's buffer, a
//! fault script, what the processes do, and how far the recorder's threads get in between. After
//! the run, each sequence number must be recorded or lost, exactly once, and a recording of the
//! replayed capture must be the same.

mod check;
mod recorder;
mod sink;
mod workload;

use std::time::Duration;

use oorandom::Rand32;
use pmon::RerecordError;
use pmon_core::wire::EventKind;
use pmon_core::{Cpu, Seq};
use pmon_fake::{Errno, EventPlace, Fault, FaultScript, Kernel, Socket, Trigger};
use pmon_record::SinkError;

use recorder::{SimulatedRecording, VirtualRecorder};
use workload::Workload;

/// A recording in virtual time, all of it drawn from a seed.
#[derive(Clone, Debug)]
pub struct Simulation {
    cpus: u32,
    /// The number of the first event of each CPU.
    first: Vec<u32>,
    /// The socket's buffer, as for `SO_RCVBUFFORCE`.
    rcvbuf: i32,
    no_enobufs: bool,
    chunks: usize,
    /// Whether the recording consists of segments.
    is_divided: bool,
    /// Number of records per block of the capture.
    block_records: usize,
    /// Time between events, in ns.
    pace: u64,
    script: FaultScript,
    seed: u64,
    actions: Vec<Action>,
}

/// Something that happens in a simulation.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Processes perform that many random actions.
    Work(u32),
    /// One thread renames itself that many times, on one CPU.
    Flood { cpu: u32, events: u32 },
    /// The kernel has no memory for that many events.
    NoMemory { cpu: u32, events: u32 },
    /// Other processes lower the kernel's listener count. While the kernel emits no events,
    /// processes perform `work` actions, and perhaps a heartbeat is emitted.
    Blind { work: u32, heartbeat: Option<u32> },
    /// The heartbeat thread emits a heartbeat.
    Heartbeat(u32),
    /// The heartbeat thread reads the fork counter, with or without a fence before.
    CountForks { fenced: bool },
    /// The drain thread receives one batch.
    Receive,
    /// The drain thread receives until the socket is empty.
    Drain,
    /// The drain thread hands its chunk over.
    HandOver,
    /// The writer thread writes that many chunks. Without this action, the disk stalls.
    Write(u32),
    /// The recording is divided, after a fence or without waiting for it.
    Divide { fenced: bool },
    /// Another recorder continues with the same socket, after the first one ended or was killed.
    Restart { killed: bool },
    /// Time passes, in ms.
    Pass(u32),
}

/// What a simulation recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulationTotals {
    /// Number of recorded events.
    pub events: u64,
    /// Number of lost events.
    pub lost: u64,
}

/// Why a simulation fails.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// A socket of the fake kernel refused a call.
    #[error("a socket of the fake kernel: {0}")]
    Socket(#[from] Errno),
    /// The sink refused a record.
    #[error("the recording ends: {0}")]
    Sink(#[from] SinkError),
    /// The replay could not be recorded.
    #[error("the replay is not recorded: {0}")]
    Rerecord(#[from] RerecordError),
    /// The recording contradicts the simulated events.
    #[error("{0}")]
    Wrong(String),
}

impl From<String> for SimulationError {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl Simulation {
    /// Draws a simulation from a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Rand32::new(seed);
        let mut below = |n: u32| random.rand_range(0..n);
        let cpus = 1 + below(4);
        // A CPU's numbers often wrap during the simulation.
        let first = (0..cpus).map(|_| match below(3) {
            0 => 0,
            1 => u32::MAX - below(300),
            _ => below(u32::MAX),
        });
        let first = first.collect();
        let rcvbuf = [1 << 11, 1 << 14, 1 << 17, 1 << 20, 64 << 20][below(5) as usize];
        let (no_enobufs, chunks, block_records) =
            (below(2) == 0, 2 + below(4) as usize, 1 + below(2000) as usize);
        let pace = [100, 1_000, 50_000, 20_000_000][below(4) as usize];
        let mut script = FaultScript::new();
        for _ in 0..below(6) {
            script = with_random_fault(script, cpus, &mut below);
        }
        let is_divided = below(2) == 0;
        let actions = (0..20 + below(80)).map(|_| match below(if is_divided { 32 } else { 27 }) {
            0..6 => Action::Work(1 + below(60)),
            6..8 => Action::Flood { cpu: below(cpus), events: 1 + below(400) },
            8 => Action::Flood { cpu: below(cpus), events: 1 + below(6000) },
            9 => Action::NoMemory { cpu: below(cpus), events: 1 + below(5) },
            10 => Action::Blind { work: below(20), heartbeat: (below(2) == 0).then(|| below(cpus)) },
            24 => Action::Heartbeat(below(cpus)),
            25 => Action::CountForks { fenced: below(2) == 0 },
            11..15 => Action::Receive,
            15..17 => Action::Drain,
            17..19 => Action::HandOver,
            19..22 => Action::Write(1 + below(4)),
            27..30 => Action::Divide { fenced: below(3) > 0 },
            30..32 => Action::Restart { killed: below(2) == 0 },
            _ => Action::Pass(below(3000)),
        });
        let actions = actions.collect();
        Self {
            cpus,
            first,
            rcvbuf,
            no_enobufs,
            chunks,
            is_divided,
            block_records,
            pace,
            script,
            seed,
            actions,
        }
    }

    /// Performs the simulation, and checks the recording.
    ///
    /// # Errors
    /// If the recording ends early, or contradicts the simulated events.
    pub fn run(&self) -> Result<SimulationTotals, SimulationError> {
        let (mut kernel, mut witness, recording) = self.perform()?;
        check::check(self, &mut kernel, &mut witness, &recording)
    }

    /// Performs the simulation, and returns the capture, or all segments, one after the other.
    ///
    /// # Errors
    /// If the recording ends early.
    pub fn capture(&self) -> Result<Vec<u8>, SimulationError> {
        let (_, _, recording) = self.perform()?;
        Ok(recording.segments.into_iter().flat_map(|segment| segment.capture).collect())
    }

    /// Returns the kernel at the end, a socket that holds every event that was emitted, and the
    /// recording.
    fn perform(&self) -> Result<(Kernel, Socket, SimulatedRecording), SimulationError> {
        let mut kernel = Kernel::new(self.cpus);
        for (cpu, &first) in (0..).zip(&self.first) {
            kernel.set_next_seq(Cpu(cpu), Seq(first));
        }
        kernel.set_time_per_event(Duration::from_nanos(self.pace));
        let mut witness = kernel.socket();
        witness.force_rcvbuf(i32::MAX)?;
        // The faults that lose events must not make the witness congested.
        witness.set_no_enobufs(true);
        witness.listen()?;
        let mut recorder = VirtualRecorder::begin(self, &mut kernel)?;
        let mut workload = Workload::new(&mut kernel, self.seed);
        kernel.inject(self.script.clone(), self.seed);
        for &action in &self.actions {
            match action {
                Action::Work(actions) => workload.perform(&mut kernel, actions),
                Action::Flood { cpu, events } => workload.flood(&mut kernel, Cpu(cpu), events),
                Action::NoMemory { cpu, events } => kernel.no_memory(Cpu(cpu), events.into()),
                Action::Blind { work, heartbeat } => {
                    let meanwhile = |kernel: &mut Kernel| workload.perform(kernel, work);
                    recorder.blind(&mut kernel, heartbeat.map(Cpu), meanwhile)?;
                }
                Action::Heartbeat(cpu) => recorder.heartbeat(&mut kernel, Cpu(cpu))?,
                Action::CountForks { fenced } => recorder.count_forks(&mut kernel, fenced)?,
                Action::Receive => drop(recorder.receive()),
                Action::Drain => recorder.drain(),
                Action::HandOver => recorder.hand_over(&kernel),
                Action::Write(chunks) => recorder.write(chunks as usize)?,
                Action::Divide { fenced } => recorder.divide(&mut kernel, fenced)?,
                Action::Restart { killed } => recorder = recorder.restart(&mut kernel, killed)?,
                Action::Pass(ms) => kernel.advance(Duration::from_millis(ms.into())),
            }
        }
        kernel.inject(FaultScript::new(), 0);
        let recording = recorder.end(&mut kernel)?;
        Ok((kernel, witness, recording))
    }
}

/// Adds a random fault to the script.
fn with_random_fault(script: FaultScript, cpus: u32, below: &mut impl FnMut(u32) -> u32) -> FaultScript {
    let kind = [EventKind::Fork, EventKind::Exec, EventKind::Exit, EventKind::Comm][below(4) as usize];
    let place = match below(4) {
        0 => Trigger::At(below(3000).into()),
        1 => Trigger::Every { events: 1 + u64::from(below(500)), from: below(1000).into() },
        2 => Trigger::Place(EventPlace::kind(kind).nth(1 + u64::from(below(300)))),
        _ => Trigger::chance(f64::from(below(100)) / 5000.0),
    };
    let few = (1..=1 + below(5)).into();
    let some = (1..=1 + below(50)).into();
    let fault = match below(17) {
        0 => Fault::Overrun(some),
        1 => Fault::NoMemory(few),
        2 => Fault::Burst(some),
        3 => Fault::Eintr(few),
        4 => Fault::Eagain(few),
        5 => Fault::Truncate((0..=75).into()),
        6 => Fault::ForeignAck,
        7 => Fault::Forge,
        8 => Fault::Noop,
        9 => Fault::Error(below(200) as i32),
        10 => Fault::Overflow,
        11 => Fault::Unknown(0x10 << below(2)),
        12 => Fault::Hold(few),
        13 => Fault::Step((0..=2_000_000_000).into()),
        14 => Fault::Lose(some),
        15 => Fault::LoseUntil(EventPlace::kind(kind).nth(1 + u64::from(below(20)))),
        _ => Fault::Blind(few),
    };
    let cpu = (below(2) == 0).then(|| below(cpus));
    script.with(place, fault, cpu)
}
