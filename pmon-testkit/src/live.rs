//! What tests of live recordings share: a directory, a lock, and waiting.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::deadline::Deadline;
use crate::guard::{Need, needs};
use crate::recorder;

/// Maximum time that [`wait_until`] and [`OutputLines`] wait.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Held by the live test that runs: another one at the same time would disturb it.
static RUNNING: Mutex<()> = Mutex::new(());

/// A lock on live recordings, held by one test at a time. The test has a [`Deadline`].
#[derive(Debug)]
pub struct LiveLock {
    _deadline: Deadline,
    _running: MutexGuard<'static, ()>,
}

impl LiveLock {
    /// Waits until no other test of this program holds the lock.
    pub fn acquire() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        Self { _deadline: Deadline::start(), _running: running }
    }
}

/// Returns a directory and a lock on live recordings. Skips the test and returns `None` if the
/// kernel does not permit recording with the current transport.
pub fn live_test() -> Option<(TempDir, LiveLock)> {
    live_test_with(&[Need::Recording(recorder::transport_options())])
}

/// Returns a directory and a lock on live recordings, as [`live_test`] does, for a test with other
/// needs.
pub fn live_test_with(all: &[Need<'_>]) -> Option<(TempDir, LiveLock)> {
    let lock = LiveLock::acquire();
    needs(all).then(|| (TempDir::new().expect("a temporary directory"), lock))
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

/// The lines that a program prints. The wait for each is bounded, also if processes that the
/// program started hold its output open.
#[derive(Debug)]
pub struct OutputLines(Receiver<String>);

impl OutputLines {
    /// Starts to read an output.
    pub fn new(output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output).lines().map_while(Result::ok);
            output.try_for_each(|line| sender.send(line))
        });
        Self(lines)
    }

    /// Waits for the next line. Returns `None` at the end of the output; fails the test after 20
    /// seconds.
    #[track_caller]
    pub fn next(&self) -> Option<String> {
        match self.0.recv_timeout(MAX_WAIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line for {MAX_WAIT:?}, and no end of the output"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_ends_with_the_last_line() {
        let lines = OutputLines::new(&b"a\nb\nc"[..]);
        assert_eq!(std::iter::from_fn(|| lines.next()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
