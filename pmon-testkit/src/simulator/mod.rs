//! One scenario: a kernel on which things happen, a recorder that listens, a disk that stalls.

mod check;
mod recorder;
mod work;

use std::time::Duration;

use oorandom::Rand32;
use pmon_core::{Cpu, Seq};
use pmon_fake::{Fault, FaultScript, Kernel, Socket, Trigger};

pub use check::{Counts, Wrong};
use recorder::{Recorded, Recorder};
use work::Work;

/// What is to happen, all of it drawn from a seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    cpus: u32,
    /// The number of the first event of each CPU.
    first: Vec<u32>,
    /// The socket's buffer, as for `SO_RCVBUFFORCE`.
    rcvbuf: i32,
    no_enobufs: bool,
    chunks: usize,
    /// Records of a block of the capture.
    block: usize,
    /// Time between events, in ns.
    pace: u64,
    script: FaultScript,
    seed: u64,
    steps: Vec<Step>,
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Processes do something: so many things.
    Work(u32),
    /// One thread renames itself so many times, on one CPU.
    Flood { cpu: u32, events: u32 },
    /// The kernel has no memory for so many events.
    NoMemory { cpu: u32, events: u32 },
    /// Other processes lower the kernel's listener count. While the kernel emits no events,
    /// `things` things happen, and perhaps a heartbeat.
    Blind { things: u32, beat: Option<u32> },
    /// Emits a heartbeat.
    Beat(u32),
    /// Reads the fork counter, with or without a fence before.
    CountForks { fenced: bool },
    /// The drain thread looks,
    Look,
    /// and looks until there is nothing left,
    Drain,
    /// and hands over.
    HandOver,
    /// The writer thread takes so many chunks; while it does not, the disk stalls.
    Write(u32),
    /// Time passes, in ms.
    Pass(u32),
}

impl Scenario {
    /// The scenario of that seed.
    pub fn of(seed: u64) -> Self {
        let mut random = Rand32::new(seed);
        let mut below = |n: u32| random.rand_range(0..n);
        let cpus = 1 + below(4);
        // Often, a CPU's numbers are about to begin anew.
        let first = (0..cpus).map(|_| match below(3) {
            0 => 0,
            1 => u32::MAX - below(300),
            _ => below(u32::MAX),
        });
        let first = first.collect();
        let rcvbuf = [1 << 11, 1 << 14, 1 << 17, 1 << 20, 64 << 20][below(5) as usize];
        let (no_enobufs, chunks, block) = (below(2) == 0, 2 + below(4) as usize, 1 + below(2000) as usize);
        let pace = [100, 1_000, 50_000, 20_000_000][below(4) as usize];
        let mut script = FaultScript::new();
        for _ in 0..below(6) {
            script = fault(script, cpus, &mut below);
        }
        let steps = (0..20 + below(80)).map(|_| match below(27) {
            0..6 => Step::Work(1 + below(60)),
            6..8 => Step::Flood { cpu: below(cpus), events: 1 + below(400) },
            8 => Step::Flood { cpu: below(cpus), events: 1 + below(6000) },
            9 => Step::NoMemory { cpu: below(cpus), events: 1 + below(5) },
            10 => Step::Blind { things: below(20), beat: (below(2) == 0).then(|| below(cpus)) },
            24 => Step::Beat(below(cpus)),
            25 => Step::CountForks { fenced: below(2) == 0 },
            11..15 => Step::Look,
            15..17 => Step::Drain,
            17..19 => Step::HandOver,
            19..22 => Step::Write(1 + below(4)),
            _ => Step::Pass(below(3000)),
        });
        let steps = steps.collect();
        Self { cpus, first, rcvbuf, no_enobufs, chunks, block, pace, script, seed, steps }
    }

    /// Records of a block of the capture.
    fn block(&self) -> usize {
        self.block
    }

    /// Lets it happen, and counts.
    pub fn run(&self) -> Result<Counts, Wrong> {
        let (mut kernel, mut witness, recorded) = self.play()?;
        check::all(self, &mut kernel, &mut witness, &recorded)
    }

    /// The capture of it.
    #[allow(dead_code, reason = "for the test")]
    pub fn capture(&self) -> Result<Vec<u8>, Wrong> {
        self.play().map(|(_, _, recorded)| recorded.capture)
    }

    /// The kernel at the end, who has heard all that was sent, and what was recorded.
    fn play(&self) -> Result<(Kernel, Socket, Recorded), Wrong> {
        let mut kernel = Kernel::new(self.cpus);
        for (cpu, &first) in (0..).zip(&self.first) {
            kernel.set_next_seq(Cpu(cpu), Seq(first));
        }
        kernel.set_time_per_event(Duration::from_nanos(self.pace));
        let mut witness = kernel.socket();
        witness.force_rcvbuf(i32::MAX)?;
        witness.listen()?;
        let mut recorder = Recorder::begin(self, &mut kernel)?;
        let mut work = Work::new(&mut kernel, self.seed);
        kernel.inject(self.script.clone(), self.seed);
        for &step in &self.steps {
            match step {
                Step::Work(things) => work.some(&mut kernel, things),
                Step::Flood { cpu, events } => work.flood(&mut kernel, Cpu(cpu), events),
                Step::NoMemory { cpu, events } => kernel.no_memory(Cpu(cpu), events.into()),
                Step::Blind { things, beat } => {
                    recorder.blind(&mut kernel, beat.map(Cpu), |kernel| work.some(kernel, things))?;
                }
                Step::Beat(cpu) => recorder.beat(&mut kernel, Cpu(cpu))?,
                Step::CountForks { fenced } => recorder.count_forks(&mut kernel, fenced)?,
                Step::Look => drop(recorder.look()),
                Step::Drain => recorder.drain(),
                Step::HandOver => recorder.hand_over(&kernel),
                Step::Write(chunks) => recorder.write(chunks as usize)?,
                Step::Pass(ms) => kernel.advance(Duration::from_millis(ms.into())),
            }
        }
        kernel.inject(FaultScript::new(), 0);
        let recorded = recorder.end(&mut kernel)?;
        Ok((kernel, witness, recorded))
    }
}

/// The script with one more fault.
fn fault(script: FaultScript, cpus: u32, below: &mut impl FnMut(u32) -> u32) -> FaultScript {
    let place = match below(3) {
        0 => Trigger::At(below(3000).into()),
        1 => Trigger::Every { events: 1 + u64::from(below(500)), from: below(1000).into() },
        _ => Trigger::chance(f64::from(below(100)) / 5000.0),
    };
    let few = (1..=1 + below(5)).into();
    let some = (1..=1 + below(50)).into();
    let fault = match below(15) {
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
        _ => Fault::Blind(few),
    };
    let cpu = (below(2) == 0).then(|| below(cpus));
    script.with(place, fault, cpu)
}
