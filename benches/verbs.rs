//! Measures the verbs that read a capture, each as a process of its own.
//!
//! `cargo bench --profile dist --bench verbs`
//!
//! `info` is the reference: it reads and counts all events. Times are wall-clock times, because
//! most verbs read on a second thread.

use std::process::{Command, Stdio};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const EVENTS: u64 = 300_000;

const BY_NAME: &str = "SELECT comm, count(*), sum(cpu_ns) FROM processes GROUP BY 1";
const PARENTS: &str = "SELECT p.comm, c.comm, count(*) FROM processes c \
    JOIN processes p ON p.process_id = c.parent_process_id GROUP BY 1, 2";

/// Runs pmon, and requires success.
fn run(args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmon"));
    let status = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "pmon {args:?}: {status}");
}

fn verbs(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.pmon");
    let file = path.to_str().unwrap();
    run(&["synth", "-q", "-o", file, "--events", &EVENTS.to_string(), "--seed", "7"]);
    let mut group = c.benchmark_group("verbs");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);
    let cases: [(&str, &[&str]); 11] = [
        ("info", &["info", file]),
        ("print", &["print", file]),
        ("print JSON", &["print", file, "--format", "json"]),
        ("stats by comm", &["stats", file, "--by", "comm"]),
        ("stats by subtree", &["stats", file, "--by", "subtree"]),
        ("tree", &["tree", file]),
        ("ps at the end", &["ps", file]),
        ("why", &["why", file, "1"]),
        ("prove", &["prove", file, "--never", "--comm", "no-such-name"]),
        ("sql by comm", &["sql", file, BY_NAME]),
        ("sql parents", &["sql", file, PARENTS]),
    ];
    for (name, args) in cases {
        group.bench_function(name, |b| b.iter(|| run(args)));
    }
    group.finish();
}

criterion_group!(benches, verbs);
criterion_main!(benches);
