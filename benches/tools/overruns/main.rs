//! Measures the losses while the socket's buffer is full, by its size and the mode of overruns.
//!
//! ```text
//! cargo build --profile dist --examples && target/dist/examples/overruns
//! ```
//!
//! The complete recorder writes a file while the tool `flood` runs. By default, the kernel delivers
//! nothing after an overrun until the reader has emptied the socket. With `NETLINK_NO_ENOBUFS`, it
//! delivers an event whenever the buffer is not full. All cases take turns, so that other load on
//! the machine affects each of them.

use std::env;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use pmon_record::assemble::AssemblerCounters;
use pmon_record::{RecordOptions, Recording, Subscription, TransportChoice};
use pmon_store::{CaptureFile, CaptureTarget};
use rustix::time::{ClockId, clock_gettime};

/// Measure the losses while the socket's buffer is full
#[derive(Debug, Parser)]
#[command(name = "overruns", max_term_width = 100)]
struct OverrunsArgs {
    /// Number of runs per case
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Sizes of the socket buffer in KiB
    #[arg(long, value_name = "KIB,..", value_delimiter = ',', default_value = "256,1024,8192,65536")]
    buffers: Vec<usize>,
    /// Record with the ring
    #[arg(long)]
    ring: bool,
}

impl OverrunsArgs {
    fn transport(&self) -> TransportChoice {
        if self.ring { TransportChoice::Ring } else { TransportChoice::Recvmmsg }
    }
}

/// A flood that is repeated `times` times, with pauses.
struct FloodLoad {
    name: &'static str,
    flood: &'static [&'static str],
    times: u32,
}

const LOADS: [FloodLoad; 3] = [
    FloodLoad {
        name: "flood: 2 renaming, 1,000,000 each",
        flood: &["rename", "--count", "1000000", "--processes", "2"],
        times: 1,
    },
    FloodLoad {
        name: "flood: 2 starting threads, 100,000 each",
        flood: &["thread", "--count", "100000", "--processes", "2"],
        times: 1,
    },
    FloodLoad { name: "20 bursts of 10,000 renames", flood: &["rename", "--count", "10000"], times: 20 },
];

const PAUSE: Duration = Duration::from_millis(50);

/// Totals of one case.
#[derive(Default)]
struct CaseTotals {
    recorded: u64,
    lost: u64,
    gaps: u64,
    cpu_ns: u64,
}

fn main() -> anyhow::Result<()> {
    let args = OverrunsArgs::parse();
    let mut out = io::stdout();
    for load in &LOADS {
        writeln!(out, "{}", load.name)?;
        writeln!(
            out,
            "{:>12}  {:10} {:>10} {:>8} {:>8} {:>10}",
            "buffer KiB", "overruns", "recorded", "lost %", "gaps", "ns/event"
        )?;
        let cases: Vec<_> = args.buffers.iter().flat_map(|&kib| [(kib, false), (kib, true)]).collect();
        let mut sums: Vec<CaseTotals> = cases.iter().map(|_| CaseTotals::default()).collect();
        for _ in 0..args.rounds {
            for (&(kib, no_enobufs), sum) in cases.iter().zip(&mut sums) {
                let options = RecordOptions {
                    transport: args.transport(),
                    socket_buffer: kib << 10,
                    no_enobufs,
                    ..RecordOptions::default()
                };
                sum.add(load, options)?;
            }
        }
        for (&(kib, no_enobufs), sum) in cases.iter().zip(&sums) {
            let all = (sum.recorded + sum.lost).max(1);
            writeln!(
                out,
                "{kib:>12}  {:10} {:>10} {:>8.2} {:>8} {:>10}",
                if no_enobufs { "no ENOBUFS" } else { "reported" },
                sum.recorded / u64::from(args.rounds),
                sum.lost as f64 * 100.0 / all as f64,
                sum.gaps / u64::from(args.rounds),
                sum.cpu_ns / sum.recorded.max(1),
            )?;
        }
    }
    Ok(())
}

impl CaseTotals {
    fn add(&mut self, load: &FloodLoad, options: RecordOptions) -> anyhow::Result<()> {
        let before = cpu_ns();
        let AssemblerCounters { events, lost, gaps, .. } = record(load, &options)?;
        self.recorded += events;
        self.lost += lost.total();
        self.gaps += gaps;
        self.cpu_ns += cpu_ns() - before;
        Ok(())
    }
}

/// Records the load. Returns the last counters.
fn record(load: &FloodLoad, options: &RecordOptions) -> anyhow::Result<AssemblerCounters> {
    let directory = tempfile::tempdir()?;
    let subscription = Subscription::open(options)?;
    let target = CaptureTarget::File(directory.path().join("x.pmon"));
    let file = CaptureFile::create(&target, &subscription.header(&[]), false)?;
    let recording = Recording::start(subscription, file, options)?;
    let flood = env::current_exe()?.with_file_name("flood");
    for _ in 0..load.times {
        run(&flood, load.flood)?;
        thread::sleep(PAUSE);
    }
    let stopper = recording.stopper();
    stopper.stop();
    while !recording.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
    let counts = recording.counters().totals;
    recording.join()?;
    Ok(counts)
}

fn run(flood: &Path, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(flood).args(args).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {}: build all examples", flood.display()))?;
    ensure!(status.success(), "flood exited with {status}");
    Ok(())
}

/// Returns the CPU time of this process.
fn cpu_ns() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}
