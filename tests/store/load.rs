//! The program `store_load`, which records generated events.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pmon_testkit::programs;

/// Returns the command that records generated events into a store.
pub(crate) fn store_load(directory: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(programs::tool("store_load"));
    command.arg(directory).args(options).stdin(Stdio::null());
    command
}

/// Fails the test unless the program succeeded. Returns its last line.
#[track_caller]
pub(crate) fn last_line(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

/// Returns how long an opt-in version of a test runs, or `default`.
pub(crate) fn seconds(default: u64) -> Duration {
    let seconds = std::env::var("PMON_STORE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(default))
}
