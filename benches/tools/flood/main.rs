//! Causes process events as fast as possible, and reports exactly how many.
//!
//! ```text
//! cargo run --release --example flood -- fork --count 10000 --processes 2
//! ```
//!
//! Each worker is a process that repeats one action, by `KIND`:
//!
//! | kind | action | events |
//! | --- | --- | --- |
//! | `rename` | renames itself: `f0`, `f1`, … | COMM |
//! | `fork` | starts a process that exits, and waits for it | FORK, EXIT |
//! | `vfork` | starts a process that exits, and is suspended meanwhile | FORK, EXIT |
//! | `thread` | starts a thread that exits, and joins it | FORK, EXIT |
//! | `exec` | executes this program, which exits at once, in a process, and waits for it | FORK, EXEC, EXIT |
//!
//! At the end, one line of JSON on standard output reports what happened:
//!
//! - `kind`, `count` (actions per worker), `processes` (number of workers);
//! - `workers`: for each worker its `pid`, in this PID namespace, and its `events`: those of its
//!   actions, the FORK that started it, and its EXIT;
//! - `emitted`: the sum of all `events`. It does not include the FORK, EXEC and EXIT of `flood`
//!   itself;
//! - `seconds`: the time from the release of the workers until all have exited.
//!
//! The kernel emits these events only while a process listens. It emits an EXIT just *after* it has
//! woken the parent, so the last ones may follow the line by some microseconds.
//!
//! Exit codes: 0 done, 1 failed, 2 usage.
#![deny(unsafe_code)]

use std::ffi::CStr;
use std::io::{self, BufRead as _, PipeReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Instant;
use std::{env, thread};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum, value_parser};
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, set_parent_process_death_signal, waitpid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_name};
use serde_json::json;

#[allow(unsafe_code, reason = "fork(2) and clone(2) have no safe wrapper")]
mod sys;

/// The argument with which this program exits at once.
const EXIT_AT_ONCE: &str = "--nothing";

/// Cause process events as fast as possible, and report exactly how many
#[derive(Debug, Parser)]
#[command(name = "flood", max_term_width = 100)]
struct FloodArgs {
    /// Action of each worker
    kind: FloodKind,
    /// Number of actions per worker [default: 1000 for exec, 100000 for the others]
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    /// Number of workers
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    processes: u32,
    /// Pin each worker to one of the allowed CPUs, in turn
    #[arg(long)]
    pin: bool,
    /// Pin each worker to one of these CPUs, in turn
    #[arg(long, value_name = "C,..", value_delimiter = ',', conflicts_with = "pin",
        value_parser = value_parser!(u16).range(..CpuSet::MAX_CPU as i64))]
    cpu: Vec<u16>,
    /// Wait for a line, or the end, of standard input before the first event
    #[arg(long)]
    wait: bool,
}

/// The action of a worker.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FloodKind {
    /// Rename itself: COMM
    Rename,
    /// Start a process that exits: FORK, EXIT
    Fork,
    /// Start a process that exits, suspended meanwhile: FORK, EXIT
    Vfork,
    /// Start a thread that exits: FORK, EXIT
    Thread,
    /// Execute a program that exits: FORK, EXEC, EXIT
    Exec,
}

impl FloodKind {
    /// Returns the default number of actions.
    fn default_count(self) -> u32 {
        if matches!(self, Self::Exec) { 1_000 } else { 100_000 }
    }

    /// Returns the number of events of one action.
    fn events(self) -> u64 {
        match self {
            Self::Rename => 1,
            Self::Fork | Self::Vfork | Self::Thread => 2,
            Self::Exec => 3,
        }
    }

    /// Performs the `n`-th action.
    fn perform(self, n: u32) -> anyhow::Result<()> {
        match self {
            Self::Rename => {
                let mut name = [0; 16];
                write!(&mut name[..], "f{n}\0")?;
                set_name(CStr::from_bytes_until_nul(&name)?)?;
            }
            Self::Fork => reap(sys::fork(|| 0)?)?,
            Self::Vfork => reap(sys::vfork()?)?,
            Self::Thread => {
                // The thread has no name: setting it would emit another event.
                let ended = thread::Builder::new().spawn(|| ())?.join();
                ensure!(ended.is_ok(), "a thread panicked");
            }
            Self::Exec => {
                let status = Command::new("/proc/self/exe").arg(EXIT_AT_ONCE).status()?;
                ensure!(status.success(), "the program ended with {status}");
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|arg| arg == EXIT_AT_ONCE) {
        return ExitCode::SUCCESS;
    }
    report(flood(&FloodArgs::parse())).into()
}

/// Prints what failed. Returns the exit code.
fn report(result: anyhow::Result<()>) -> u8 {
    let Err(error) = result else { return 0 };
    let _ = writeln!(io::stderr(), "flood: {error:#}");
    1
}

/// Runs the workers. If this process exits early, the kernel kills them.
fn flood(args: &FloodArgs) -> anyhow::Result<()> {
    let FloodArgs { kind, processes, .. } = *args;
    let count = args.count.unwrap_or(kind.default_count());
    let cpus = cpus(args)?;
    if args.wait {
        io::stdin().lock().read_until(b'\n', &mut Vec::new()).context("cannot read standard input")?;
    }

    let parent = getpid();
    let (gate, mut opener) = io::pipe().context("cannot make a pipe")?;
    let mut workers = Vec::new();
    let mut cpus = cpus.iter().cycle();
    for _ in 0..processes {
        let worker = sys::fork(|| report(work(kind, count, parent, &gate).context("a worker failed")))
            .context("cannot start a worker")?;
        if let Some(&cpu) = cpus.next() {
            let mut only = CpuSet::new();
            only.set(cpu);
            sched_setaffinity(Some(worker), &only)
                .with_context(|| format!("cannot pin a worker to CPU {cpu}"))?;
        }
        workers.push(worker);
    }
    let released = Instant::now();
    opener.write_all(&vec![0; workers.len()]).context("cannot release the workers")?;
    workers.iter().try_for_each(|&worker| reap(worker))?;
    let seconds = released.elapsed().as_secs_f64();

    let events = 2 + kind.events() * u64::from(count);
    let line = json!({
        "kind": kind.to_possible_value().map(|value| value.get_name().to_owned()),
        "count": count,
        "processes": processes,
        "workers": workers.iter().map(|pid| json!({ "pid": pid.as_raw_pid(), "events": events })).collect::<Vec<_>>(),
        "emitted": events * u64::from(processes),
        "seconds": seconds,
    });
    writeln!(io::stdout(), "{line}").context("cannot write to standard output")
}

/// Returns the CPUs to which workers are pinned; none for no pinning.
fn cpus(args: &FloodArgs) -> anyhow::Result<Vec<usize>> {
    if !args.pin {
        return Ok(args.cpu.iter().copied().map(usize::from).collect());
    }
    let allowed = sched_getaffinity(None).context("cannot read the allowed CPUs")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// Performs the actions of a worker, after it has read a byte from the gate. The kernel kills the
/// worker when its parent exits.
fn work(kind: FloodKind, count: u32, parent: Pid, mut gate: &PipeReader) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // The parent exited before the call above, which then has no effect.
        return Ok(());
    }
    gate.read_exact(&mut [0])?;
    (0..count).try_for_each(|n| kind.perform(n))
}

/// Waits until a child has exited with code 0.
fn reap(child: Pid) -> anyhow::Result<()> {
    let (_, status) = waitpid(Some(child), WaitOptions::empty())?.context("no child has exited")?;
    let status = ExitStatus::from_raw(status.as_raw());
    ensure!(status.success(), "process {child} failed: {status}");
    Ok(())
}
