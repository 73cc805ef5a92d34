//! Tests the recorder's memory under programs with hostile names and arguments.

use std::env;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use pmon_testkit::live::OutputLines;
use pmon_testkit::recorder::RecorderProcess;

/// Maximum anonymous memory in KiB. A recorder takes 64 MiB in addition to its ring, of which 8 MiB
/// are its mapped executable.
const MAX_MEMORY_KIB: u64 = 56 << 10;

/// Returns the recorder's anonymous memory in KiB, without the ring and files.
fn anonymous_memory(recorder: &RecorderProcess) -> u64 {
    recorder.status("RssAnon").trim_end_matches(" kB").parse().unwrap()
}

/// Runs `execs words` and returns the recorder's peak memory meanwhile.
fn peak_under(recorder: &RecorderProcess, count: u32, words: u32) -> u64 {
    let (count, words) = (count.to_string(), words.to_string());
    let mut execs =
        Command::new(execs()).args(["words", &count, &words]).stdout(Stdio::null()).spawn().unwrap();
    let (mut peak, mut ended_at) = (0, None);
    // Continue for a while, until the last block is written.
    while ended_at.is_none_or(|at: Instant| at.elapsed() < Duration::from_millis(300)) {
        peak = peak.max(anonymous_memory(recorder));
        thread::sleep(Duration::from_millis(2));
        if ended_at.is_none() && execs.try_wait().unwrap().is_some() {
            ended_at = Some(Instant::now());
        }
    }
    assert!(execs.wait().unwrap().success());
    peak
}

/// Runs 8,000 programs with `PMON_HOSTILE_EXECS=8000`.
#[test]
fn programs_with_hundreds_of_unique_words_do_not_exceed_the_memory_limit() {
    // The arguments have more words than fit into a block. The details thread misses most of them.
    for (transport, count) in [(RING, 1400), (&["--transport", "recvmmsg"][..], 400)] {
        let count = env::var("PMON_HOSTILE_EXECS").map_or(count, |count| count.parse().unwrap());
        let peak = with_transport(transport, || {
            let (dir, _guard) = live_test()?;
            let recorder = RecorderProcess::start(&dir, &[]);
            let peaks = [peak_under(&recorder, count, 400), peak_under(&recorder, count / 40, 12_000)];
            recorder.finish().check();
            Some(peaks)
        });
        let Some(peaks) = peak else { return };
        assert!(peaks.iter().all(|&peak| peak <= MAX_MEMORY_KIB), "{transport:?}: {peaks:?} KiB");
    }
}

#[test]
fn a_secret_shorter_than_its_replacement_does_not_end_the_recording() {
    let digits = "1234".repeat(30_000);
    let separated = "1234.".repeat(24_000);
    for transport in [RING, &["--transport", "recvmmsg"]] {
        let recorded = with_transport(transport, || {
            let (dir, _guard) = live_test()?;
            let recorder = RecorderProcess::start(&dir, &["--redact", "[0-9]{4}", "--args-max", "128K"]);
            for digits in [&digits, &separated] {
                assert!(Command::new("/bin/true").args(["x", digits]).status().unwrap().success());
                thread::sleep(Duration::from_millis(100));
            }
            Some(recorder.finish())
        });
        let Some(capture) = recorded else { return };
        capture.check();
        let of_true = capture.details.iter().filter(|details| argv(details).get(1) == Some(&&b"x"[..]));
        let mut found = 0;
        for details in of_true {
            let secret = argv(details)[2];
            assert!(secret.starts_with(b"[redacted]") && !secret.contains(&b'1'), "{transport:?}");
            found += 1;
        }
        assert!(found == 2 || transport != RING, "{found}");
    }
}

#[test]
fn a_process_that_declares_its_memory_as_arguments_does_not_block_a_scan() {
    let mut execs = Command::new(execs());
    execs.args(["declare", "64"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut execs = execs.spawn().unwrap();
    let reply = OutputLines::new(execs.stdout.take().unwrap()).next();
    let scans = with_transport(RING, || {
        let (dir, _guard) = live_test()?;
        let recorder = RecorderProcess::start(&dir, &["--for", "1s"]);
        Some(recorder.wait_for_capture().snapshots.len())
    });
    drop(execs.stdin.take());
    execs.wait().unwrap();
    if reply.as_deref() != Some("declared") {
        return skip("a process may not declare its arguments (CONFIG_CHECKPOINT_RESTORE)");
    }
    assert_eq!(scans.unwrap_or(1), 1, "the scan was not finished");
}
