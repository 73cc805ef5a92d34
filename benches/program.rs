//! Measures the cost of an event that an unmodified program receives. Needs a C compiler.
//!
//! `cargo bench --profile dist --bench program`

#![allow(clippy::print_stderr, reason = "skipped measurements are reported")]

use std::convert::Infallible;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pmon_core::capture::{Encoder, Reader};
use pmon_interpose::{LaunchOptions, ReplayWorld as _, RunOptions, Supervisor};
use pmon_replay::synth::{Synth, SynthOptions};
use pmon_replay::{CaptureWorld, Replay, Speed};
use tempfile::TempDir;

const EVENTS: u64 = 20_000;

/// Returns a capture with more events than the client receives.
fn capture() -> Vec<u8> {
    let synth = Synth::new(SynthOptions { events: EVENTS + 1_000, ..SynthOptions::default() }).unwrap();
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
    out
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

/// Runs the client until it exits.
fn run(client: &Path, mode: &str, capture: &[u8], private_proc: bool) {
    let mut world = CaptureWorld::new(Replay::new(Reader::open(capture).unwrap()), Speed::Instant);
    let mut launch = LaunchOptions::new(client);
    launch.args = [mode.to_owned(), EVENTS.to_string()].map(Into::into).to_vec();
    launch.private_proc = private_proc;
    let mut program = Supervisor::start(&launch, world.processes()).unwrap();
    let ending = program.run(&mut world, &RunOptions::default(), |_| Ok(()), Err);
    assert_eq!(ending.unwrap().exit_code(), 0);
}

fn program(c: &mut Criterion) {
    let dir = TempDir::new().unwrap();
    let Some(client) = client(dir.path()) else { return eprintln!("skipped: there is no `cc`") };
    let capture = capture();
    let mut group = c.benchmark_group("program");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);
    for (name, mode, private_proc) in [
        ("recv", "recv", true),
        ("recv, /proc as it is", "recv", false),
        ("poll, recv", "poll", true),
        ("recv, /proc/<pid>/comm", "comm", true),
    ] {
        group.bench_function(name, |b| b.iter(|| run(&client, mode, black_box(&capture), private_proc)));
    }
    // For comparison without pmon: from a socket that another process fills, at its own pace or on
    // request, and from the kernel.
    for mode in ["plain", "asked", "kernel"] {
        let alone = || Command::new(&client).args([mode, &EVENTS.to_string()]).status().unwrap();
        if mode == "kernel" && !alone().success() {
            eprintln!("skipped: this system's process events are not for this user");
            continue;
        }
        group.bench_function(format!("without pmon, {mode}"), |b| b.iter(|| assert!(alone().success())));
    }
    group.finish();
}

criterion_group!(benches, program);
criterion_main!(benches);
