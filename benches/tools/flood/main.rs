//! Causes process events as fast as it can, and says exactly how many.
//!
//! `cargo run --release --example flood -- fork --count 10000 --processes 2`
//!
//! Each worker is a process that repeats one action. By `KIND`, each time:
//!
//! | kind | action | events |
//! | --- | --- | --- |
//! | `rename` | gives itself another name: `f0`, `f1`, … | COMM |
//! | `fork` | starts a process that ends, and waits for it | FORK, EXIT |
//! | `vfork` | the same, standing still until it has ended | FORK, EXIT |
//! | `thread` | starts a thread that ends, and joins it | FORK, EXIT |
//! | `exec` | starts this program in a process, to no purpose, and waits for it | FORK, EXEC, EXIT |
//!
//! At the end, one line of JSON on standard output says what happened:
//! - `kind`, `count` (actions of each worker), `processes` (workers);
//! - `workers`: of each its `pid`, as we see it in our PID namespace, and its `events`: those of its actions, and the
//!   two of itself, the FORK that started it and its EXIT;
//! - `emitted`: the sum of all `events`. Events of `flood` itself are in no number: its own FORK, EXEC and EXIT are its
//!   caller's;
//! - `seconds`: from the workers' release until all have ended.
//!
//! The kernel emits these events only while somebody listens. It reports an EXIT just *after* it has woken who waits
//! for it: the last ones may follow the line by some microseconds.
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

/// The argument with which this program ends at once.
const NOTHING: &str = "--nothing";

/// Causes process events as fast as it can, and says exactly how many.
#[derive(Debug, Parser)]
#[command(name = "flood", max_term_width = 100)]
struct Args {
    /// What each worker does
    kind: Kind,
    /// How often each worker does it [default: 1000 for exec, 100000 for the others]
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    /// How many workers
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    processes: u32,
    /// Give each worker one CPU, in turn, of those we may run on
    #[arg(long)]
    pin: bool,
    /// Give each worker one CPU, in turn, of these
    #[arg(long, value_name = "C,..", value_delimiter = ',', conflicts_with = "pin",
        value_parser = value_parser!(u16).range(..CpuSet::MAX_CPU as i64))]
    cpu: Vec<u16>,
    /// Cause no event before a line, or the end, of standard input
    #[arg(long)]
    wait: bool,
}

/// See [`Args::kind`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Gives itself another name: COMM
    Rename,
    /// Starts a process that ends: FORK, EXIT
    Fork,
    /// The same, standing still until it has ended: FORK, EXIT
    Vfork,
    /// Starts a thread that ends: FORK, EXIT
    Thread,
    /// Starts a program that ends: FORK, EXEC, EXIT
    Exec,
}

impl Kind {
    /// How often, unless told.
    fn count(self) -> u32 {
        if matches!(self, Self::Exec) { 1_000 } else { 100_000 }
    }

    /// The events of one action.
    fn events(self) -> u64 {
        match self {
            Self::Rename => 1,
            Self::Fork | Self::Vfork | Self::Thread => 2,
            Self::Exec => 3,
        }
    }

    /// The `n`-th action.
    fn act(self, n: u32) -> anyhow::Result<()> {
        match self {
            Self::Rename => {
                let mut name = [0; 16];
                write!(&mut name[..], "f{n}\0")?;
                set_name(CStr::from_bytes_until_nul(&name)?)?;
            }
            Self::Fork => reap(sys::fork(|| 0)?)?,
            Self::Vfork => reap(sys::vfork()?)?,
            Self::Thread => {
                // Without a name: to set it would be another event.
                let ended = thread::Builder::new().spawn(|| ())?.join();
                ensure!(ended.is_ok(), "a thread panicked");
            }
            Self::Exec => {
                let status = Command::new("/proc/self/exe").arg(NOTHING).status()?;
                ensure!(status.success(), "the program ended with {status}");
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|arg| arg == NOTHING) {
        return ExitCode::SUCCESS;
    }
    report(flood(&Args::parse())).into()
}

/// Says what failed. Returns the exit code.
fn report(result: anyhow::Result<()>) -> u8 {
    let Err(error) = result else { return 0 };
    let _ = writeln!(io::stderr(), "flood: {error:#}");
    1
}

/// Runs the workers. Where it fails half-way, they end when we do.
fn flood(args: &Args) -> anyhow::Result<()> {
    let Args { kind, processes, .. } = *args;
    let count = args.count.unwrap_or(kind.count());
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

/// The CPUs to pin workers to, none for no pinning.
fn cpus(args: &Args) -> anyhow::Result<Vec<usize>> {
    if !args.pin {
        return Ok(args.cpu.iter().copied().map(usize::from).collect());
    }
    let allowed = sched_getaffinity(None).context("cannot tell on which CPUs we may run")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// What a worker does, once a byte comes through the gate. It is killed when its parent ends.
fn work(kind: Kind, count: u32, parent: Pid, mut gate: &PipeReader) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // It has ended before that call, which is then in vain. Nobody is left to tell.
        return Ok(());
    }
    gate.read_exact(&mut [0])?;
    (0..count).try_for_each(|n| kind.act(n))
}

/// Waits until a child has ended well.
fn reap(child: Pid) -> anyhow::Result<()> {
    let (_, status) = waitpid(Some(child), WaitOptions::empty())?.context("no child has ended")?;
    let status = ExitStatus::from_raw(status.as_raw());
    ensure!(status.success(), "process {child} failed: {status}");
    Ok(())
}
