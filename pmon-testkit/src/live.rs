//! What tests of live recordings share: a directory, a lock, and waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::guard::{Need, needs};
use crate::recorder;

/// Maximum time that [`wait_until`] waits.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Held by the live test that runs: another one at the same time would disturb it.
static RUNNING: Mutex<()> = Mutex::new(());

/// Returns a directory and a lock on live recordings. Skips the test and returns `None` if the
/// kernel does not permit recording with the current transport.
pub fn live_test() -> Option<(TempDir, MutexGuard<'static, ()>)> {
    live_test_with(&[Need::Recording(recorder::transport_options())])
}

/// Returns a directory and a lock on live recordings, as [`live_test`] does, for a test with other
/// needs.
pub fn live_test_with(all: &[Need<'_>]) -> Option<(TempDir, MutexGuard<'static, ()>)> {
    let guard = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    needs(all).then(|| (TempDir::new().expect("a temporary directory"), guard))
}

/// Waits until `condition` holds; fails the test after 20 seconds.
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < MAX_WAIT, "waited for {MAX_WAIT:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
