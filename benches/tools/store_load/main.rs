//! Records generated events into a store in a real directory: the load of the tests in
//! `tests/store`.
//!
//! Prints the number of each step before it begins, and checks the store at the end. With
//! `--real-time`, each step takes the time that it claims.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use pmon_store::{RetentionLimits, StoreOptions};
use pmon_testkit::store_simulator::{GeneratedLoad, GeneratedRecording};

/// Record generated events into a store, and check it
#[derive(Debug, Parser)]
struct StoreLoadArgs {
    /// The store
    directory: PathBuf,
    /// Seed of the events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of steps of 20 ms
    #[arg(long, default_value_t = 50)]
    steps: u64,
    /// Number of events per step
    #[arg(long, default_value_t = 20)]
    events: u32,
    /// Number of steps between rotations; by default, size and age decide
    #[arg(long)]
    rotate_steps: Option<u64>,
    /// Size in bytes at which a segment ends
    #[arg(long, default_value_t = 64 << 20)]
    rotate_size: u64,
    /// Age in seconds at which a segment ends
    #[arg(long, default_value_t = 600)]
    rotate_every: u64,
    /// Maximum bytes of the store
    #[arg(long)]
    max_use: Option<u64>,
    /// Bytes that the store leaves free
    #[arg(long)]
    keep_free: Option<u64>,
    /// Let each step take 20 ms
    #[arg(long)]
    real_time: bool,
    /// Pause in ms after each step
    #[arg(long, default_value_t = 0, conflicts_with = "real_time")]
    pause_ms: u64,
    /// Do not check the store at the end, and keep no events for that
    #[arg(long)]
    no_check: bool,
    /// Accept losses because the filesystem refuses operations
    #[arg(long)]
    failing: bool,
}

fn main() -> ExitCode {
    match run(&StoreLoadArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &StoreLoadArgs) -> Result<(), Box<dyn std::error::Error>> {
    let step = Duration::from_millis(20);
    let load = GeneratedLoad { seed: args.seed, events: args.events, step, rotate_steps: args.rotate_steps };
    let options = StoreOptions {
        rotate_size: args.rotate_size,
        rotate_every: Duration::from_secs(args.rotate_every),
        limits: RetentionLimits { max_use: args.max_use, keep_free: args.keep_free, max_age: None },
        ..StoreOptions::default()
    };
    let began = Instant::now();
    let mut out = std::io::stdout().lock();
    let mut recording = GeneratedRecording::start(&args.directory, load, options)?;
    if args.no_check {
        recording.discard_truth();
    }
    for number in 0..args.steps {
        writeln!(out, "{number}")?;
        recording.step(load)?;
        if args.real_time {
            thread::sleep(recording.elapsed().saturating_sub(began.elapsed()));
        }
        thread::sleep(Duration::from_millis(args.pause_ms));
    }
    let status = recording.handle().status();
    if args.no_check {
        return Ok(recording.end()?);
    }
    let found = recording.check(&args.directory, args.failing)?;
    writeln!(out, "{found:?}; {} pruned, {} lost to storage", status.pruned, status.lost_to_storage)?;
    Ok(())
}
