//! `pmon record`, as its users run it.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::live::{Capture, wait_until};
use crate::programs;

thread_local! {
    /// Options of each recorder that this thread starts.
    static TRANSPORT: Cell<&'static [&'static str]> = const { Cell::new(&[]) };
}

/// Plays a scene with recorders of that transport.
pub fn on<T>(transport: &'static [&'static str], scene: impl FnOnce() -> T) -> T {
    TRANSPORT.set(transport);
    scene()
}

/// Returns the options that select the current transport.
pub fn transport() -> &'static [&'static str] {
    TRANSPORT.get()
}

/// `pmon record -q` with these options.
pub fn command(options: &[&str], output: &Path) -> Command {
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

/// Records a command from before its start to its end; gives what it wrote.
#[track_caller]
pub fn record(dir: &TempDir, options: &[&str], program: &[&str]) -> (Capture, String) {
    let file = dir.path().join("command.pmon");
    let output = command(options, &file).arg("--force").arg("--").args(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (Capture::read(&file), String::from_utf8(output.stdout).unwrap())
}

/// A recording under way.
pub struct Recorder {
    child: Child,
    pub file: PathBuf,
    said: PathBuf,
}

impl Recorder {
    /// Starts it with these options, and waits until it records.
    pub fn start(dir: &TempDir, options: &[&str]) -> Self {
        let file = dir.path().join("live.pmon");
        let this = Self::start_into(&file, dir, options);
        let partial = this.partial();
        wait_until(|| partial.metadata().is_ok_and(|meta| meta.len() > 0));
        this
    }

    /// Starts it with that output.
    pub fn start_into(file: &Path, dir: &TempDir, options: &[&str]) -> Self {
        let said = dir.path().join("said");
        let mut command = command(options, file);
        command.arg("--force").stdout(Stdio::null()).stderr(File::create(&said).unwrap());
        Self { child: command.spawn().unwrap(), file: file.into(), said }
    }

    /// Its file, until it ends.
    pub fn partial(&self) -> PathBuf {
        self.file.with_extension("pmon.partial")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A field of its status in `/proc`.
    pub fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap().trim().to_owned()
    }

    /// What it has written to standard error.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    pub fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, while `meanwhile` happens.
    pub fn stopped<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        self.send(Signal::STOP);
        wait_until(|| self.status("State").starts_with('T'));
        let result = meanwhile();
        self.send(Signal::CONT);
        result
    }

    /// Waits for its end.
    #[track_caller]
    fn wait(&mut self) {
        let mut status = None;
        wait_until(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0), "{}", self.said());
    }

    /// Has it end, and waits for that.
    #[track_caller]
    pub fn finish(&mut self) {
        self.send(Signal::INT);
        self.wait();
    }

    /// Has it end, and reads its capture.
    #[track_caller]
    pub fn end(mut self) -> Capture {
        self.finish();
        Capture::read(&self.file)
    }

    /// Reads its capture when it has ended.
    #[track_caller]
    pub fn ended(mut self) -> Capture {
        self.wait();
        Capture::read(&self.file)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // One that a failed test leaves behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
