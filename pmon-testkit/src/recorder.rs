//! Runs `pmon record` as a program.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::capture::CaptureContents;
use crate::live::wait_until;
use crate::programs;

thread_local! {
    /// Options that select the transport of each recorder that this thread starts.
    static TRANSPORT: Cell<&'static [&'static str]> = const { Cell::new(&[]) };
}

/// Runs a test whose recorders use the transport that these options select.
pub fn with_transport<T>(options: &'static [&'static str], test: impl FnOnce() -> T) -> T {
    TRANSPORT.set(options);
    test()
}

/// Returns the options that select the current transport.
pub fn transport_options() -> &'static [&'static str] {
    TRANSPORT.get()
}

/// Returns the command `pmon record -q` with these options.
pub fn record_command(options: &[&str], output: &Path) -> Command {
    let mut command = Command::new(programs::pmon());
    command
        .args(["record", "-q"])
        .args(TRANSPORT.get())
        .args(options)
        .arg("-o")
        .arg(output)
        .stdin(Stdio::null());
    command
}

/// Records `program` by `pmon record -- PROGRAM`. Returns the capture, and the program's standard
/// output.
#[track_caller]
pub fn record_program(dir: &TempDir, options: &[&str], program: &[&str]) -> (CaptureContents, String) {
    let file = dir.path().join("command.pmon");
    let output =
        record_command(options, &file).arg("--force").arg("--").args(program).output().expect("pmon runs");
    assert!(output.status.success(), "{output:?}");
    (CaptureContents::read(&file), String::from_utf8(output.stdout).expect("UTF-8"))
}

/// A running `pmon record`. It is killed on drop.
#[derive(Debug)]
pub struct RecorderProcess {
    child: Child,
    /// Path of the capture.
    pub file: PathBuf,
    stderr: PathBuf,
}

impl RecorderProcess {
    /// Starts a recorder with these options, and waits until it records.
    pub fn start(dir: &TempDir, options: &[&str]) -> Self {
        let file = dir.path().join("live.pmon");
        let this = Self::start_into(&file, dir, options);
        this.wait_until_recording();
        this
    }

    /// Starts a recorder with that output, and does not wait.
    pub fn start_into(file: &Path, dir: &TempDir, options: &[&str]) -> Self {
        let name = file.file_name().expect("the name of a file").to_string_lossy();
        let stderr = dir.path().join(format!("{name}.stderr"));
        let mut command = record_command(options, file);
        command.arg("--force").stdout(Stdio::null()).stderr(File::create(&stderr).expect("a new file"));
        Self { child: command.spawn().expect("pmon starts"), file: file.into(), stderr }
    }

    /// Waits until the recorder has written to its file.
    #[track_caller]
    pub fn wait_until_recording(&self) {
        let partial = self.partial();
        wait_until(|| partial.metadata().is_ok_and(|meta| meta.len() > 0));
    }

    /// Returns the path of the capture before the recorder renames it.
    pub fn partial(&self) -> PathBuf {
        self.file.with_extension("pmon.partial")
    }

    /// Reads what the recorder has written so far.
    #[track_caller]
    pub fn read_partial(&self) -> CaptureContents {
        CaptureContents::read(&self.partial())
    }

    /// Returns the recorder's process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns a field of `/proc/PID/status`.
    pub fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a status");
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.expect(field).trim().to_owned()
    }

    /// Returns what the recorder has written to standard error.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).expect("its standard error")
    }

    /// Sends a signal to the recorder.
    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child that has not been waited for");
    }

    /// Runs `meanwhile` while the recorder is stopped by SIGSTOP.
    pub fn while_stopped<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        self.send(Signal::STOP);
        wait_until(|| self.status("State").starts_with('T'));
        let result = meanwhile();
        self.send(Signal::CONT);
        result
    }

    /// Waits until the recorder has exited with code 0.
    #[track_caller]
    pub fn wait(&mut self) {
        let mut status = None;
        wait_until(|| {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", self.stderr());
    }

    /// Sends SIGINT to the recorder, and waits until it has exited.
    #[track_caller]
    pub fn interrupt(&mut self) {
        self.send(Signal::INT);
        self.wait();
    }

    /// Sends SIGINT to the recorder, and reads its capture.
    #[track_caller]
    pub fn finish(mut self) -> CaptureContents {
        self.interrupt();
        CaptureContents::read(&self.file)
    }

    /// Waits until the recorder exits by itself, and reads its capture.
    #[track_caller]
    pub fn wait_for_capture(mut self) -> CaptureContents {
        self.wait();
        CaptureContents::read(&self.file)
    }
}

impl Drop for RecorderProcess {
    fn drop(&mut self) {
        // A failed test leaves its recorder running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
