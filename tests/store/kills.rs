//! A recorder that is killed right before each system call of a rotation.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pmon_store::StoreOptions;
use pmon_testkit::guard::{Need, needs};
use pmon_testkit::programs;
use pmon_testkit::store_simulator::{GeneratedLoad, check_killed};
use tempfile::TempDir;

const STEPS: u64 = 24;
const LOAD: GeneratedLoad =
    GeneratedLoad { seed: 1, events: 20, step: Duration::from_millis(20), rotate_steps: Some(8) };
/// The system calls that change a store.
const CALLS: [&str; 6] = ["pwrite64", "ftruncate", "renameat2", "fdatasync", "fsync", "openat"];
/// Maximum number of kills per system call, spread evenly.
const KILLS: usize = 8;

/// Runs the load under `strace`, which writes its calls to `log`, or kills the load right before a
/// call. Returns the number of the last step that began, and whether the load ended by itself.
fn run(directory: &Path, call: &str, kill: Option<usize>, log: &Path) -> (u64, bool) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(log).args(["-e", &format!("trace={call}")]);
    if let Some(number) = kill {
        command.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    }
    let (steps, events, rotate) = (STEPS.to_string(), LOAD.events.to_string(), "8");
    let output = command
        .arg(programs::tool("store_load"))
        .arg(directory)
        .args(["--steps", &steps, "--events", &events, "--rotate-steps", rotate])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rev().find_map(|line| line.parse().ok()).unwrap_or_default();
    assert!(kill.is_some() || output.status.success(), "{output:?}");
    (last, output.status.success())
}

#[test]
fn a_kill_before_any_system_call_costs_at_most_100_ms() {
    if !needs(&[Need::Command("strace(1) that may trace", &["strace", "-qq", "-o", "/dev/null", "true"])]) {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let log = scratch.path().join("log");
    let mut kills = 0;
    for call in CALLS {
        let whole = scratch.path().join(format!("{call}-whole"));
        run(&whole, call, None, &log);
        // Threads and libraries make other calls of the same name, which do no harm.
        let calls = fs::read_to_string(&log).unwrap().lines().count();
        for number in (1..=calls).step_by(calls.div_ceil(KILLS).max(1)) {
            let directory = scratch.path().join(format!("{call}-{number}"));
            let (last, has_ended) = run(&directory, call, Some(number), &log);
            if has_ended || !directory.exists() {
                continue;
            }
            kills += 1;
            check_killed(&directory, LOAD, StoreOptions::default(), STEPS, last)
                .unwrap_or_else(|why| panic!("killed at {call} {number} in step {last}: {why}"));
        }
    }
    assert!(kills > 10, "only {kills} kills: nothing is tested");
}
