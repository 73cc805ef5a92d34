//! What tests of live recordings share: a recorder under way, and what its capture holds.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

pub(crate) mod capture;
pub(crate) mod guard;
pub(crate) mod recorder;
pub(crate) mod skipped;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use capture::Capture;
pub(crate) use guard::{Need, needs, skip, skip_part};
pub(crate) use recorder::Recorder;

/// Held by the scene that is being played: another one would disturb it.
static STAGE: Mutex<()> = Mutex::new(());

/// A folder, and nobody else recording; `None` where the kernel does not let us record by the transport in use, which is said.
pub(crate) fn scene() -> Option<(TempDir, MutexGuard<'static, ()>)> {
    scene_for(&[Need::Recording(recorder::transport())])
}

/// The same for a test with other needs than that.
pub(crate) fn scene_for(all: &[Need<'_>]) -> Option<(TempDir, MutexGuard<'static, ()>)> {
    let guard = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    needs(all).then(|| (TempDir::new().unwrap(), guard))
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
