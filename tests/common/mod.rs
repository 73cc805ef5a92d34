//! What tests of live recordings share: a recorder under way, and what its capture holds.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

pub(crate) mod capture;
pub(crate) mod recorder;

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use capture::Capture;
pub(crate) use recorder::Recorder;

/// Held by the scene that is being played: another one would disturb it.
static STAGE: Mutex<()> = Mutex::new(());

/// A folder, and nobody else recording; `None` where the kernel does not let us record this way, which is said.
pub(crate) fn scene() -> Option<(TempDir, MutexGuard<'static, ()>)> {
    let guard = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = TempDir::new().unwrap();
    let probe = recorder::command(&["--for", "1ms"], &dir.path().join("probe.pmon")).output().unwrap();
    match probe.status.code() {
        Some(0) => Some((dir, guard)),
        Some(6) => {
            skip(&String::from_utf8_lossy(&probe.stderr));
            None
        }
        _ => panic!("{probe:?}"),
    }
}

/// Says that a test was skipped. Not by a macro, whose output the harness keeps to itself.
pub(crate) fn skip(why: &str) {
    let name = thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped {name}: {}", why.trim());
}

/// Waits until `what` holds.
#[track_caller]
pub(crate) fn wait_until(mut what: impl FnMut() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for 20 s");
        thread::sleep(Duration::from_millis(2));
    }
}
