//! A day in fast motion: a segment each second.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::load::{seconds, store_load};

/// Returns the resident memory in KiB and the number of open files of a process.
fn usage(pid: u32) -> Option<(u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss = rss.split_whitespace().next()?.parse().ok()?;
    Some((rss, fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count()))
}

#[test]
fn memory_and_descriptors_stay_flat_over_many_segments() {
    let scratch = TempDir::new().unwrap();
    let store = scratch.path().join("store");
    let duration = seconds(10);
    // Time passes five times as fast as the steps claim, so that more segments are written.
    let steps = (duration.as_millis() / 4).to_string();
    let mut command = store_load(&store, &["--rotate-every", "1", "--max-use", "4000000", "--steps", &steps]);
    let mut load = command.args(["--pause-ms", "4", "--no-check"]).stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let mut samples = Vec::new();
    while load.try_wait().unwrap().is_none() {
        samples.extend(usage(load.id()));
        thread::sleep(Duration::from_millis(50));
        assert!(began.elapsed() < 4 * duration + Duration::from_secs(20), "the load does not end");
    }
    assert!(load.wait().unwrap().success());
    let (first, last) = samples.split_at(samples.len() / 2);
    // The first samples are those of a process that has not begun yet.
    let most = |samples: &[(u64, usize)]| {
        (
            samples.iter().map(|sample| sample.0).max().unwrap(),
            samples.iter().map(|sample| sample.1).max().unwrap(),
        )
    };
    let (before, after) = (most(first), most(last));
    assert!(after.0 <= before.0 + 2048, "memory grows from {} to {} KiB", before.0, after.0);
    // A file is open for a moment while a segment ends. Each half has more segments than this.
    assert!(after.1 <= before.1 + 4, "descriptors grow from {} to {}", before.1, after.1);
    assert!(fs::read_dir(&store).unwrap().count() > 5);
}
