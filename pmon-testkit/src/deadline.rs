//! A bound on the run time of a test.

use std::io::{self, Write as _};
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Maximum run time of a test with a [`Deadline`].
const MAX_TEST_TIME: Duration = Duration::from_secs(600);

/// Bounds the run time of the test that holds it. Afterwards, it prints the name of the test and
/// aborts the test program, because a thread that waits for a process, a pipe or another thread
/// cannot be made to fail.
#[derive(Debug)]
pub struct Deadline {
    /// Dropped at the end of the test.
    _held: Sender<()>,
}

impl Deadline {
    /// Bounds the run time of the calling test to ten minutes from now.
    pub fn start() -> Self {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        Self::call_after(MAX_TEST_TIME, move || {
            // The harness captures the output of `eprintln!`.
            let _ = writeln!(io::stderr(), "{test}: no result after {MAX_TEST_TIME:?}");
            process::abort();
        })
    }

    fn call_after(limit: Duration, end: impl FnOnce() + Send + 'static) -> Self {
        let (held, over) = mpsc::channel::<()>();
        thread::spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                end();
            }
        });
        Self { _held: held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_acts_only_if_it_is_held_for_too_long() {
        let (sender, ended) = mpsc::channel();
        let held = Deadline::call_after(Duration::ZERO, move || sender.send(()).expect("the test runs"));
        ended.recv_timeout(MAX_TEST_TIME).expect("the time is over");
        drop(held);
        let (sender, ended) = mpsc::channel();
        drop(Deadline::call_after(MAX_TEST_TIME, move || sender.send(()).expect("the test runs")));
        assert_eq!(ended.recv_timeout(MAX_TEST_TIME), Err(RecvTimeoutError::Disconnected));
    }
}
