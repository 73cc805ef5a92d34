//! Measures the cost of receiving process events, by transport.
//!
//! ```text
//! cargo build --profile dist --bins --examples && target/dist/examples/transports
//! ```
//!
//! Needs root. The tool `flood` causes the same load with each of these listeners, and with none
//! (`none`):
//!
//! | listener | |
//! | --- | --- |
//! | `recv` | a plain reader: one `recv` per event, default socket buffer; it only counts |
//! | `bare-ring` | pmon's BPF program and ring, emptied every 10 ms; it only counts |
//! | `recvmmsg`, `ring`, `ring+details` | `pmon record --transport ...` into a file in `$TMPDIR` |
//! | `forkstat` | `forkstat -E -q`: all events, no output |
//! | `perf` | `perf record -a` of the tracepoints for the same events, into a file |
//!
//! They take turns, so that other load on the machine affects each of them. The output has a table
//! per load, with medians over the rounds, and minimum and maximum in brackets:
//!
//! - `kept`: events that the listener has received, including those of other processes.
//! - `lost %`: by pmon's own accounting; by the socket's count of drops; for `perf`, the missing
//!   events of the load.
//! - `overruns`: number of `ENOBUFS` that `recv` returned.
//! - `ns/event`: CPU time of the listener, user and system, all threads, per event of the load,
//!   kept or not, without the cost of start and end.
//! - `start ms`: CPU time until the load began; not included.
//! - `end ms`: CPU time of an end without a load before, measured in the same rounds. Its median is
//!   subtracted.
//! - `slowdown`: the load's time divided by its time without a listener. It includes the work of
//!   the kernel and of the BPF program, which is in no process's CPU time.
//!
//! A lost event costs the listener nothing, so `ns/event` is comparable only where few are lost.
#![deny(unsafe_code)]

use std::env;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use serde_json::Value;

use listener::{ListenerKind, ListenerProcess};
use table::ListenerRow;

mod listener;
mod reader;
#[allow(unsafe_code, reason = "the CPU clock of another process has no safe wrapper")]
mod sys;
mod table;

/// Measure the cost of receiving process events, by transport
#[derive(Debug, Parser)]
#[command(name = "transports", max_term_width = 100)]
struct TransportsArgs {
    /// Number of runs per case
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Multiply the length of the loads
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// Measure only these listeners
    #[arg(long, value_enum, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<ListenerKind>,
    /// Measure only these loads
    #[arg(long, value_enum, value_name = "NAME,..", value_delimiter = ',')]
    load: Vec<LoadKind>,
}

/// The load, caused by two processes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LoadKind {
    /// Rename themselves
    Rename,
    /// Start processes that exit, suspended meanwhile
    Vfork,
    /// Start threads that exit
    Thread,
    /// Execute programs that exit
    Exec,
}

impl LoadKind {
    /// Returns the name on the command lines of this program and of `flood`.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Returns the number of actions per process.
    fn count(self) -> u32 {
        match self {
            Self::Rename => 1_000_000,
            Self::Vfork => 20_000,
            Self::Thread => 40_000,
            Self::Exec => 1_000,
        }
    }

    /// Returns the tracepoints of the load's events.
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
        _ => compare(&TransportsArgs::parse()),
    }
}

fn compare(args: &TransportsArgs) -> anyhow::Result<()> {
    let loads = if args.load.is_empty() { LoadKind::value_variants() } else { &args.load };
    let transports = if args.only.is_empty() { ListenerKind::value_variants() } else { &args.only };
    let mut transports = transports.to_vec();
    for &load in loads {
        let mut rows: Vec<_> = transports.iter().copied().map(ListenerRow::new).collect();
        for _ in 0..args.rounds {
            for row in &mut rows {
                run(row, load, args.scale)?;
            }
        }
        // An older pmon may lack a transport, which cannot be installed separately.
        for row in rows.extract_if(.., |row| row.is_missing && row.transport.is_pmon()) {
            writeln!(io::stderr(), "this pmon does not have {}: skipped", row.transport.name())?;
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

/// Performs one round of one listener: a start and an end, then a start, the load, and an end.
fn run(row: &mut ListenerRow, load: LoadKind, scale: f64) -> anyhow::Result<()> {
    if row.is_missing {
        return Ok(());
    }
    if row.transport == ListenerKind::None {
        if !listener::listeners()?.is_empty() {
            writeln!(io::stderr(), "another process listens, which makes `none` slower")?;
        }
        let (_, seconds) = flood(load, scale)?;
        row.seconds.push(seconds);
        return Ok(());
    }
    let Some(listener) = ListenerProcess::start(row.transport, load.tracepoints())? else {
        row.is_missing = true;
        return Ok(());
    };
    row.ends.push(listener.end(0)?.cpu);
    let listener =
        ListenerProcess::start(row.transport, load.tracepoints())?.context("it was started before")?;
    let (emitted, seconds) = flood(load, scale)?;
    row.accounts.push(listener.end(emitted)?);
    row.emitted = emitted;
    row.seconds.push(seconds);
    Ok(())
}

/// Runs the load. Returns the number of its events, and its time in s.
fn flood(load: LoadKind, scale: f64) -> anyhow::Result<(u64, f64)> {
    let flood = env::current_exe()?.with_file_name("flood");
    let count = scaled(load.count(), scale).to_string();
    let output = Command::new(&flood)
        .args([&load.name(), "--count", &count, "--processes", "2"])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}: build all examples", flood.display()))?;
    ensure!(output.status.success(), "flood exited with {}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout)?;
    report["emitted"].as_u64().zip(report["seconds"].as_f64()).context("flood printed no report")
}
