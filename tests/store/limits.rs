//! Limits and faults of the system that a store survives.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pmon_testkit::deadline::Deadline;
use pmon_testkit::guard::{Need, needs};
use pmon_testkit::live::{OutputLines, wait_until};
use pmon_testkit::programs;
use tempfile::TempDir;

use crate::load::{last_line, store_load};
use crate::private_tmpfs::PrivateTmpfs;

#[test]
fn a_limit_on_file_sizes_only_makes_segments_smaller() {
    let _deadline = Deadline::start();
    let scratch = TempDir::new().unwrap();
    let store = scratch.path().join("store");
    // In units of 1 KiB.
    let script = r#"ulimit -f 512; trap '' XFSZ; exec "$@""#;
    let output = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(programs::tool("store_load"))
        .arg(&store)
        .args(["--steps", "300", "--events", "300"])
        .output()
        .unwrap();
    let summary = last_line(&output);
    assert!(summary.contains(" 0 lost to storage"), "{summary}");
    let sizes: Vec<u64> =
        fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() > 2 && sizes.iter().all(|size| *size <= 512 << 10), "{sizes:?}");
}

/// Starts a load, and waits until it has begun that step. Returns its further output as well, which
/// must stay open.
fn start(store: &Path, options: &[&str], step: u64) -> (Child, OutputLines) {
    let mut child = store_load(store, options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = OutputLines::new(child.stdout.take().unwrap());
    while lines.next().expect("the load ended early").parse::<u64>().is_ok_and(|number| number < step) {}
    (child, lines)
}

const REAL_TIME: [&str; 6] = ["--real-time", "--failing", "--steps", "200", "--rotate-every", "1"];

#[test]
fn a_read_only_filesystem_is_refused_with_the_reason() {
    let _deadline = Deadline::start();
    if !needs(&[Need::Root, Need::Command("a private tmpfs", &["unshare", "--mount", "true"])]) {
        return;
    }
    let tmpfs = PrivateTmpfs::new("64m");
    let store = tmpfs.path().join("store");
    last_line(&store_load(&store, &["--steps", "20"]).output().unwrap());
    tmpfs.remount("ro");
    let refused = store_load(&store, &["--steps", "20"]).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("Read-only file system"), "{error}");
    assert!(error.contains("store"), "the error names the store: {error}");
}

#[test]
fn a_deleted_store_directory_is_created_again() {
    let _deadline = Deadline::start();
    let scratch = TempDir::new().unwrap();
    let store = scratch.path().join("store");
    let (mut load, _lines) = start(&store, &REAL_TIME, 40);
    fs::remove_dir_all(&store).unwrap();
    let began = Instant::now();
    let has_segment = || {
        let names = fs::read_dir(&store).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| name.to_string_lossy().contains(".pmon"))
    };
    while !has_segment() {
        assert!(load.try_wait().unwrap().is_none(), "the recorder has ended");
        assert!(began.elapsed() < Duration::from_secs(20), "the directory is not created again");
        thread::sleep(Duration::from_millis(20));
    }
    load.kill().unwrap();
    load.wait().unwrap();
}

#[test]
fn the_second_recorder_of_a_store_is_refused() {
    let _deadline = Deadline::start();
    let scratch = TempDir::new().unwrap();
    let store = scratch.path().join("store");
    let (mut first, _lines) = start(&store, &REAL_TIME, 5);
    let second = store_load(&store, &["--steps", "5"]).output().unwrap();
    assert!(!second.status.success());
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    let expected = format!("another recorder (process {}) writes the store", first.id());
    assert!(error.contains(&expected), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock of a killed recorder is gone, and its store is recovered. Both recorders emit the
    // same events, so a check of the store would find each of them twice.
    last_line(&store_load(&store, &["--steps", "5", "--no-check"]).output().unwrap());
}

#[test]
fn of_two_recorders_that_start_at_the_same_time_one_is_refused() {
    let _deadline = Deadline::start();
    let scratch = TempDir::new().unwrap();
    for attempt in 0..20 {
        let store = scratch.path().join(attempt.to_string());
        let options = ["--real-time", "--failing", "--steps", "10000"];
        let start =
            || store_load(&store, &options).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut children = [start(), start()];
        // The other one records until it is killed.
        let mut refused = None;
        wait_until(|| {
            refused = children.iter_mut().position(|child| child.try_wait().unwrap().is_some());
            refused.is_some()
        });
        let refused = refused.unwrap();
        assert!(!children[refused].wait().unwrap().success(), "attempt {attempt}");
        let recorder = &mut children[1 - refused];
        thread::sleep(Duration::from_millis(20));
        assert!(recorder.try_wait().unwrap().is_none(), "attempt {attempt}: both were refused");
        recorder.kill().unwrap();
        recorder.wait().unwrap();
    }
}
