//! What tests of live recordings share: a recorder under way, and what its capture holds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use crate::capture::Capture;
pub use crate::guard::{Need, needs, skip, skip_part};
use crate::recorder;
pub use crate::recorder::Recorder;

/// Held by the scene that is being played: another one would disturb it.
static STAGE: Mutex<()> = Mutex::new(());

/// Returns a folder and a lock on recording. Skips the test and returns `None` if the kernel does
/// not permit recording with the current transport.
pub fn scene() -> Option<(TempDir, MutexGuard<'static, ()>)> {
    scene_for(&[Need::Recording(recorder::transport())])
}

/// Returns a folder and a lock on recording, as [`scene`] does, for a test with other needs.
pub fn scene_for(all: &[Need<'_>]) -> Option<(TempDir, MutexGuard<'static, ()>)> {
    let guard = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    needs(all).then(|| (TempDir::new().unwrap(), guard))
}

/// Waits until `what` holds.
#[track_caller]
pub fn wait_until(mut what: impl FnMut() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for 20 s");
        thread::sleep(Duration::from_millis(2));
    }
}
