//! What it costs to take process events, by the way in which they are taken.
//!
//! `cargo build --release --bins --examples && target/release/examples/transports`
//!
//! As root. The same loads, by the `flood` beside this program, while nobody listens (`none`) and while somebody does:
//!
//! | | |
//! | --- | --- |
//! | `recv` | a plain reader: one `recv` for each event, the socket's buffer as the kernel gives it; it only counts |
//! | `bare-ring` | pmon's BPF program and ring, emptied every 10 ms; it only counts |
//! | `recvmmsg`, `ring`, `ring+details` | `pmon record --transport ...`, all in, into a file in `$TMPDIR` |
//! | `forkstat` | `forkstat -E -q`: all events, nothing printed |
//! | `perf` | `perf record -a` of the tracepoints for the same events, into a file |
//!
//! They take turns, so that what else the machine does strikes each of them. One table for each load, of medians over the
//! rounds, with the lowest and the highest in brackets:
//!
//! - `kept`: events that it has seen. Those of other processes are among them.
//! - `lost %`: by pmon's own account; by the socket's count of drops; of `perf`, what is missing of the load's events.
//! - `overruns`: how often `recv` said `ENOBUFS`.
//! - `ns/event`: CPU time of the recorder, user and system, all threads, for each event that the load caused, kept or not,
//!   without what the start and the end cost:
//! - `start ms`: CPU time until the load began; not counted.
//! - `end ms`: CPU time of an end without a load before, measured in the same rounds; its median is subtracted.
//! - `slowdown`: the load's time, as multiple of its time while nobody listens. What the kernel does for the events, and
//!   the BPF program does, is in here, and in nobody's CPU time.
//!
//! Whoever loses events spends nothing on them: `ns/event` compares only where little is lost.
#![deny(unsafe_code)]

use std::env;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use serde_json::Value;

use recorder::{Recorder, Transport};
use table::Row;

mod reader;
mod recorder;
#[allow(unsafe_code, reason = "the CPU clock of another process has no safe wrapper")]
mod sys;
mod table;

/// What it costs to take process events, by the way in which they are taken.
#[derive(Debug, Parser)]
#[command(name = "transports", max_term_width = 100)]
struct Args {
    /// How often each case is run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Loads so many times as long
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// Only these
    #[arg(long, value_enum, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Transport>,
    /// Only these loads
    #[arg(long, value_enum, value_name = "NAME,..", value_delimiter = ',')]
    load: Vec<Load>,
}

/// What happens meanwhile, in two processes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// They rename themselves
    Rename,
    /// They start processes that end, and stand still until then
    Vfork,
    /// They start threads that end
    Thread,
    /// They start programs that end
    Exec,
}

impl Load {
    /// As the command line has it, ours and flood's.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How often each process does it.
    fn count(self) -> u32 {
        match self {
            Self::Rename => 1_000_000,
            Self::Vfork => 20_000,
            Self::Thread => 40_000,
            Self::Exec => 1_000,
        }
    }

    /// Where the kernel passes with each of its events.
    fn tracepoints(self) -> &'static [&'static str] {
        match self {
            Self::Rename => &["task:task_rename"],
            _ => &["sched:sched_process_fork", "sched:sched_process_exec", "sched:sched_process_exit"],
        }
    }
}

fn main() -> anyhow::Result<()> {
    match env::args().nth(1).as_deref() {
        Some(reader::RECV) => reader::read_socket(),
        Some(reader::BARE_RING) => reader::read_ring(),
        _ => compare(&Args::parse()),
    }
}

fn compare(args: &Args) -> anyhow::Result<()> {
    let loads = if args.load.is_empty() { Load::value_variants() } else { &args.load };
    let transports = if args.only.is_empty() { Transport::value_variants() } else { &args.only };
    let mut transports = transports.to_vec();
    for &load in loads {
        let mut rows: Vec<_> = transports.iter().copied().map(Row::new).collect();
        for _ in 0..args.rounds {
            for row in &mut rows {
                run(row, load, args.scale)?;
            }
        }
        // What is a part of pmon cannot be installed.
        for row in rows.extract_if(.., |row| row.is_absent && row.transport.is_pmon()) {
            writeln!(io::stderr(), "this pmon does not know {}: left out", row.transport.name())?;
            transports.retain(|&transport| transport != row.transport);
        }
        let count = scaled(load.count(), args.scale);
        writeln!(io::stdout(), "{}", table::text(&format!("{} --count {count}", load.name()), &rows))?;
    }
    Ok(())
}

fn scaled(count: u32, scale: f64) -> u32 {
    ((f64::from(count) * scale) as u32).max(1)
}

/// One round of one transport: a start and an end, and a start, the load, and an end.
fn run(row: &mut Row, load: Load, scale: f64) -> anyhow::Result<()> {
    if row.is_absent {
        return Ok(());
    }
    if row.transport == Transport::None {
        if !recorder::listeners()?.is_empty() {
            writeln!(io::stderr(), "somebody else listens: `none` is slower for it")?;
        }
        let (_, seconds) = flood(load, scale)?;
        row.seconds.push(seconds);
        return Ok(());
    }
    let Some(recorder) = Recorder::start(row.transport, load.tracepoints())? else {
        row.is_absent = true;
        return Ok(());
    };
    row.ends.push(recorder.end(0)?.cpu);
    let recorder = Recorder::start(row.transport, load.tracepoints())?.context("it was there just now")?;
    let (emitted, seconds) = flood(load, scale)?;
    row.accounts.push(recorder.end(emitted)?);
    row.emitted = emitted;
    row.seconds.push(seconds);
    Ok(())
}

/// Runs the load; gives how many events it caused, and how long it took.
fn flood(load: Load, scale: f64) -> anyhow::Result<(u64, f64)> {
    let flood = env::current_exe()?.with_file_name("flood");
    let count = scaled(load.count(), scale).to_string();
    let output = Command::new(&flood)
        .args([&load.name(), "--count", &count, "--processes", "2"])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}: build all examples", flood.display()))?;
    ensure!(output.status.success(), "flood ended with {}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout)?;
    report["emitted"].as_u64().zip(report["seconds"].as_f64()).context("flood does not say what it did")
}
