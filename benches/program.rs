//! Measures the cost of an event that an unmodified program receives from `pmon replay`, and prints
//! a table. Needs a C compiler.
//!
//! `cargo bench --profile dist --bench program`
//!
//! `PMON_BENCH_EVENTS` is the number of events (default 200000), `PMON_BENCH_ROUNDS` the number of
//! rounds (default 3). In each round, all cases take turns; the table has the medians.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table, and skipped cases")]

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pmon_core::capture::Encoder;
use pmon_replay::synth::{Synth, SynthOptions};
use tempfile::TempDir;

/// Events of the capture that the client does not receive: it exits before.
const SPARE_EVENTS: u64 = 1_000;
/// Clock ticks per second in `/proc/PID/stat` (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A program that receives events.
struct Case {
    name: String,
    command: Command,
    /// Number of events that the program receives.
    events: u64,
    /// CPU time and duration of each round, in microseconds per event.
    costs: Vec<[f64; 2]>,
}

impl Case {
    fn new(name: impl Into<String>, command: Command, events: u64) -> Self {
        Self { name: name.into(), command, events, costs: Vec::new() }
    }

    /// Runs the program once. Returns whether it succeeded.
    fn run(&mut self) -> bool {
        let before = cpu_of_children();
        let started = Instant::now();
        let status = self.command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        let times = [cpu_of_children() - before, started.elapsed()];
        self.costs.push(times.map(|time| time.as_secs_f64() * 1e6 / self.events as f64));
        status.success()
    }

    /// Returns the median of the CPU times or durations.
    fn median(&self, which: usize) -> f64 {
        let mut all: Vec<f64> = self.costs.iter().map(|costs| costs[which]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
}

/// Returns the CPU time of all descendants that were waited for, in user and kernel mode.
fn cpu_of_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    // `cutime` and `cstime` are fields 16 and 17; the state is field 3.
    let ticks: u64 = fields.skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
}

/// Writes a capture with this number of events.
fn write_capture(path: &Path, events: u64) {
    let synth = Synth::new(SynthOptions { events, ..SynthOptions::default() }).unwrap();
    let mut encoder = Encoder::new(&synth.header()).unwrap();
    let mut out = encoder.header().to_vec();
    synth
        .generate(|record| {
            encoder.push(record).unwrap();
            if encoder.pending() == 16_384 {
                out.extend_from_slice(encoder.seal());
            }
            Ok::<_, Infallible>(())
        })
        .unwrap();
    out.extend_from_slice(encoder.seal());
    out.extend_from_slice(encoder.finish());
    fs::write(path, out).unwrap();
}

/// Compiles the client; returns `None` without a compiler.
fn client(dir: &Path) -> Option<PathBuf> {
    let program = dir.join("receive");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/client/receive.c");
    let mut compiler = Command::new("cc");
    let compiled = compiler.args(["-std=gnu11", "-O2", "-o"]).arg(&program).arg(source).status().ok()?;
    assert!(compiled.success(), "the client does not compile");
    Some(program)
}

/// Returns the kinds of sockets that `pmon replay --sockets` offers, or none if there is no choice.
fn socket_kinds() -> Vec<&'static str> {
    let help = Command::new(env!("CARGO_BIN_EXE_pmon")).args(["replay", "--help"]).output().unwrap();
    let has_choice = String::from_utf8_lossy(&help.stdout).contains("--sockets");
    if has_choice { vec!["native", "seccomp"] } else { Vec::new() }
}

/// Returns the cases under `pmon replay`, with these additional options.
fn replayed(options: &[&str], label: &str, capture: &Path, client: &Path, events: u64) -> Vec<Case> {
    let replay = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmon"));
        command.arg("replay").args(options).args(more).arg(capture).arg("--");
        command
    };
    let modes = [
        ("recv", "recv", &[][..]),
        ("recv, /proc as it is", "recv", &["--proc", "real"]),
        ("poll, recv", "poll", &[]),
        ("epoll_wait, recv", "epoll", &[]),
        ("recv, /proc/<pid>/comm", "comm", &[]),
    ];
    let mut cases: Vec<Case> = modes
        .into_iter()
        .map(|(name, mode, more)| {
            let mut command = replay(more);
            command.arg(client).args([mode, &events.to_string()]);
            Case::new(format!("{name}{label}"), command, events)
        })
        .collect();
    if Command::new("forkstat").arg("-h").stdout(Stdio::null()).status().is_ok() {
        let mut command = replay(&[]);
        command.arg("forkstat");
        cases.push(Case::new(format!("forkstat{label}"), command, events + SPARE_EVENTS));
    } else {
        eprintln!("skipped: forkstat is not installed");
    }
    cases
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

fn main() {
    // `cargo test --benches` only checks that everything runs.
    let is_test = std::env::args().any(|arg| arg == "--test");
    let events = number("PMON_BENCH_EVENTS", if is_test { 1_000 } else { 200_000 });
    let rounds = number("PMON_BENCH_ROUNDS", if is_test { 1 } else { 3 });
    let dir = TempDir::new().unwrap();
    let Some(client) = client(dir.path()) else { return eprintln!("skipped: there is no `cc`") };
    let capture = dir.path().join("bench.pmon");
    write_capture(&capture, events + SPARE_EVENTS);
    let mut cases = Vec::new();
    match &*socket_kinds() {
        [] => cases.extend(replayed(&[], "", &capture, &client, events)),
        paths => {
            for path in paths {
                let label = format!(" ({path})");
                cases.extend(replayed(&["--sockets", path], &label, &capture, &client, events));
            }
        }
    }
    // For comparison without pmon: from a socket that another process fills, at its own pace or on
    // request, and from the kernel.
    for mode in ["plain", "asked", "kernel"] {
        let mut command = Command::new(&client);
        command.args([mode, &events.to_string()]);
        cases.push(Case::new(format!("without pmon: {mode}"), command, events));
    }
    for _ in 0..rounds {
        cases.retain_mut(|case| {
            let has_succeeded = case.run();
            if !has_succeeded {
                eprintln!("skipped: {} does not run on this system: {:?}", case.name, case.command);
            }
            has_succeeded
        });
    }
    println!("| {events} events, us per event | CPU of pmon and program | duration |");
    println!("| --- | --- | --- |");
    for case in &cases {
        println!("| {} | {:.1} | {:.1} |", case.name, case.median(0), case.median(1));
    }
}
