//! Runs `pmon` and other programs for tests of the command line.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::programs;

/// Maximum run time of a program; then it is killed.
const MAX_RUN_TIME: Duration = Duration::from_secs(30);

/// Exit code and output of a program.
#[derive(Debug)]
pub struct RunOutput {
    /// Exit code; `None` if a signal killed the program.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl RunOutput {
    /// Decodes the output of a program that has exited.
    pub fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Fails the test unless the program exited with that code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}: {self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self
    }

    /// Parses standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).expect("JSON")
    }

    /// Parses each line of standard output as JSON.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// Returns a command that runs `pmon` in UTC, without colours and without a limit on the width.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(programs::pmon());
    command.args(args).env("TZ", "UTC").env("NO_COLOR", "1").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

/// Copies a program that is then run. Another process (`cp`) does it: a child that this process is
/// just starting in another thread would inherit the copy, open for writing, and until its exec the
/// copy could not be executed (ETXTBSY).
#[track_caller]
pub fn copy_program(program: impl AsRef<Path>, to: &Path) {
    let status = Command::new("cp").arg("-p").arg(program.as_ref()).arg(to).status();
    assert!(status.expect("cp runs").success(), "no copy of {}", program.as_ref().display());
}

/// Starts a program, as [`try_start`] does. Fails the test if it cannot be started.
pub fn start(command: Command) -> Child {
    try_start(command).expect("pmon runs")
}

/// Starts a program. It is killed if it has not exited after 30 seconds.
///
/// # Errors
/// If the program cannot be started.
pub fn try_start(mut command: Command) -> io::Result<Child> {
    let child = command.spawn()?;
    let process =
        pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a child not yet waited for");
    thread::spawn(move || {
        let limit = Timespec::try_from(MAX_RUN_TIME).expect("a short time");
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
        if ended == Ok(0) {
            let _ = writeln!(io::stderr(), "{command:?} is killed: it has not exited after {MAX_RUN_TIME:?}");
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    });
    Ok(child)
}

/// Runs a program until it exits.
pub fn run(mut command: Command) -> RunOutput {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    RunOutput::new(start(command).wait_with_output().expect("pmon exits"))
}

/// Runs `pmon` until it exits.
pub fn pmon(args: &[&str]) -> RunOutput {
    run(command(args))
}

/// Runs `pmon` with these bytes on standard input.
pub fn pmon_with_input(args: &[&str], input: &[u8]) -> RunOutput {
    let mut command = command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command);
    child.stdin.take().expect("a pipe").write_all(input).expect("pmon reads");
    RunOutput::new(child.wait_with_output().expect("pmon exits"))
}

/// A temporary directory.
#[derive(Debug)]
pub struct Dir(TempDir);

impl Dir {
    /// Creates a directory.
    #[expect(clippy::new_without_default, reason = "creating it can fail")]
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    /// Returns the path of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.0.path().read_dir().expect("the directory").next().is_none()
    }

    /// Writes a file. Returns its path as a command-line argument.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("the file is written");
        arg(&self.path(name))
    }
}

/// Returns a path as a command-line argument.
pub fn arg(path: &Path) -> String {
    path.to_str().expect("the path is UTF-8").to_owned()
}
