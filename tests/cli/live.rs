//! Helpers for tests that record on the running kernel. A test that cannot record is skipped.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::*;

pub(crate) use crate::guard::{Need, needs, skip, skip_part};

/// Returns whether this system permits recording without options; skips the test otherwise.
pub(crate) fn can_record() -> bool {
    needs(&[Need::Recording(&[])])
}

/// Makes a command run without privilege: as user 65534 if the tests run as root, otherwise as the
/// current user. Returns the user ID.
pub(crate) fn unprivileged(command: &mut Command) -> u32 {
    let user = rustix::process::geteuid();
    if !user.is_root() {
        return user.as_raw();
    }
    command.uid(65534).gid(65534);
    65534
}

/// Runs `pmon` without privilege in `dir`. Skips the test and returns `None` if this process cannot
/// change its user.
pub(crate) fn as_nobody(dir: &Dir, args: &[&str]) -> Option<RunOutput> {
    let programs = Dir::new();
    let program = programs.path("pmon");
    copy_program(env!("CARGO_BIN_EXE_pmon"), &program);
    fs::set_permissions(programs.path(""), PermissionsExt::from_mode(0o755)).expect("open to all");
    fs::set_permissions(dir.path(""), PermissionsExt::from_mode(0o777)).expect("open to all");
    let mut command = Command::new(&program);
    command.args(args).current_dir(dir.path("")).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    unprivileged(&mut command);
    match try_start(command) {
        Ok(child) => Some(RunOutput::new(child.wait_with_output().expect("pmon ends"))),
        Err(error) => {
            skip(&format!("cannot become another user: {error}"));
            None
        }
    }
}

/// Whether this process inherited a signal as ignored, which the programs that it starts inherit.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("the signals ignored");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a number in hex");
    ignored >> (signal.as_raw() - 1) & 1 == 1
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn wait_until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for 20 s");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A running `pmon record` that writes to a file.
pub(crate) struct Recorder {
    pub(crate) child: Child,
    pub(crate) file: String,
}

impl Recorder {
    /// Starts `pmon record`, and waits until it records.
    pub(crate) fn start(dir: &Dir) -> Self {
        Self::start_with(dir, &[])
    }

    /// Starts `pmon record` with options, and waits until it records.
    pub(crate) fn start_with(dir: &Dir, options: &[&str]) -> Self {
        let file = arg(&dir.path("live.pmon"));
        let mut command = command(&["record", "-o", &file]);
        command.args(options);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = start(command);
        let partial = format!("{file}.partial");
        wait_until(|| Path::new(&partial).metadata().is_ok_and(|meta| meta.len() > 0));
        Self { child, file }
    }

    /// Sends a signal, and waits for the end.
    pub(crate) fn end(mut self, signal: Signal) -> RunOutput {
        send(&self.child, signal);
        let (mut err, stderr) = (String::new(), self.child.stderr.take());
        stderr.map(|mut stderr| stderr.read_to_string(&mut err).expect("text"));
        RunOutput { code: self.child.wait().expect("pmon ends").code(), out: String::new(), err }
    }
}

impl Drop for Recorder {
    /// Ends a recorder that a failed test leaves.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal.
pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it has not been waited for");
}

/// Runs `/bin/true` and returns its process id.
pub(crate) fn run_true() -> u64 {
    let mut child = Command::new("/bin/true").spawn().expect("/bin/true runs");
    assert!(child.wait().expect("it ends").success());
    child.id().into()
}

/// Returns the kinds of the events of a process, in order.
pub(crate) fn kinds_of(lines: &[Value], pid: u64) -> Vec<String> {
    let is_of = |line: &&Value| {
        let field = if line["kind"] == "fork" { "child_pid" } else { "pid" };
        line[field] == pid
    };
    lines.iter().filter(is_of).map(|line| line["kind"].as_str().expect("a kind").to_owned()).collect()
}

/// Returns the lines of `print --format json`.
pub(crate) fn json_of(file: &str) -> Vec<Value> {
    pmon(&["print", file, "--format", "json"]).expect(0).json_lines()
}
