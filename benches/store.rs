//! Measures how long it takes to read one minute of a store of 10,000 segments, compared with a
//! store that has only the segments of that minute.
//!
//! `cargo bench --bench store`
#![allow(clippy::print_stdout, reason = "the figures")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pmon_core::capture::{Encoder, Record};
use pmon_replay::synth::{Synth, SynthOptions};
use pmon_testkit::segments::divide;

const SEGMENTS: usize = 10_000;
const EVENTS_PER_SEGMENT: usize = 100;
/// Events per second of recorded time: a segment is 10 s long.
const RATE: u32 = 10;
const RUNS: u32 = 15;

/// Returns a synthetic capture.
fn capture() -> Vec<u8> {
    let events = (SEGMENTS * EVENTS_PER_SEGMENT) as u64;
    let synth = Synth::new(SynthOptions { events, rate: RATE, ..SynthOptions::default() }).unwrap();
    let mut encoder = Encoder::new(&synth.header()).unwrap();
    let mut bytes = encoder.header().to_vec();
    synth
        .generate(|record: &Record<'_>| {
            encoder.push(record)?;
            if encoder.is_full() {
                bytes.extend_from_slice(encoder.seal());
            }
            Ok::<_, pmon_core::capture::EncodeError>(())
        })
        .unwrap();
    bytes.extend_from_slice(encoder.seal());
    bytes.extend_from_slice(encoder.finish());
    bytes
}

/// Prints a minute of a store, and returns the best time and the number of bytes printed.
fn print(store: &Path, since: &str, until: &str) -> (Duration, usize) {
    let mut best = Duration::MAX;
    let mut bytes = 0;
    for _ in 0..RUNS {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmon"));
        command.arg("print").arg(store).args(["--since", since, "--until", until]);
        let start = Instant::now();
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        best = best.min(start.elapsed());
        assert!(output.status.success());
        bytes = output.stdout.len();
    }
    (best, bytes)
}

fn main() {
    let bytes = capture();
    let cuts: Vec<_> = (1..2 * SEGMENTS).map(|number| number * EVENTS_PER_SEGMENT).collect();
    let mut segments = divide(&bytes, &cuts);
    segments.truncate(SEGMENTS);
    let dir = tempfile::tempdir().unwrap();
    let (all, few) = (dir.path().join("all"), dir.path().join("few"));
    [&all, &few].into_iter().for_each(|store| fs::create_dir(store).unwrap());
    segments.iter().for_each(|segment| fs::write(all.join(&segment.name), &segment.bytes).unwrap());
    let start = segments[SEGMENTS / 2].header.meta.start.real_ns;
    let at = |seconds: i64| {
        let at = start / 1_000_000_000 + seconds;
        let (day, time) = (at / 86_400 * 86_400, at % 86_400);
        let date = Command::new("date").args(["-u", "-d", &format!("@{day}"), "+%F"]).output().unwrap();
        let date = String::from_utf8(date.stdout).unwrap();
        format!("{}T{:02}:{:02}:{:02}Z", date.trim(), time / 3600, time / 60 % 60, time % 60)
    };
    let (since, until) = (at(0), at(60));
    let is_needed = |real_ns: i64| (-60..=70).contains(&((real_ns - start) / 1_000_000_000));
    for segment in segments.iter().filter(|segment| is_needed(segment.header.meta.start.real_ns)) {
        fs::write(few.join(&segment.name), &segment.bytes).unwrap();
    }
    let ((few_time, few_bytes), (all_time, all_bytes)) =
        (print(&few, &since, &until), print(&all, &since, &until));
    assert!(few_bytes > 0 && few_bytes == all_bytes, "{few_bytes} and {all_bytes} bytes");
    let first = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_pmon")).arg("verify").arg(&all).output().unwrap();
    let verified = first.elapsed();
    assert!(output.status.success(), "{output:?}");
    println!("one minute of {} segments:  {:6.1} ms", fs::read_dir(&few).unwrap().count(), ms(few_time));
    println!("one minute of {} segments: {:6.1} ms", segments.len(), ms(all_time));
    println!("difference:                {:6.1} ms", ms(all_time.saturating_sub(few_time)));
    println!("verify all segments:       {:6.1} ms", ms(verified));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
