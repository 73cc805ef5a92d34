//! Runs the clients on the real kernel, to check that their expectations are correct.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::gettid;
use tempfile::TempDir;

use crate::guard::{Need, needs};
use crate::harness::{Programs, programs, skip};
use crate::procfs::{PROC_DETAILS, PROC_PATHS, parse_details};
use crate::receive_methods::{CLIENT_CASES, CONTROL, ClientCase, OPTIONS};

/// A client that receives the events of this machine.
struct LiveClient {
    case: &'static ClientCase,
    child: Child,
    out: PathBuf,
}

impl LiveClient {
    fn start(case: &'static ClientCase, programs: &Programs, out: PathBuf) -> Self {
        let mut command = Command::new(programs.path(case.client));
        command.args(case.args).stdin(Stdio::null()).stdout(File::create(&out).unwrap());
        Self { case, child: command.spawn().unwrap(), out }
    }

    /// Returns whether the client has printed exactly the expected lines for one of these
    /// processes.
    fn has_printed(&self, samples: &[u32]) -> bool {
        let printed = fs::read_to_string(&self.out).unwrap();
        samples.iter().any(|sample| {
            let pid = sample.to_string();
            let actual: Vec<_> =
                printed.lines().filter(|line| line.split(' ').any(|word| word == pid)).collect();
            let mut expected = (self.case.expected)(&expected_events(*sample));
            expected.retain(|line| !line.ends_with("ack"));
            actual == expected
        })
    }

    fn name(&self) -> String {
        format!("{} {:?}", self.case.client, self.case.args)
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}", self.name());
    }
}

impl Drop for LiveClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the lines of the events of a process that this thread has started.
fn expected_events(pid: u32) -> Vec<String> {
    vec![format!("fork {} {pid}", gettid().as_raw_nonzero()), format!("exec {pid}"), format!("exit {pid} 0")]
}

/// Returns whether the simplest client receives events of this process's children. In a PID
/// namespace it receives only acknowledgements of others' requests, and events with the ids of the
/// initial namespace.
pub(crate) fn receives_events(programs: &Programs, dir: &TempDir) -> bool {
    let plain = LiveClient::start(&CLIENT_CASES[0], programs, dir.path().join("plain"));
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(2) {
        samples.push(run_true());
        thread::sleep(Duration::from_millis(5));
        if plain.has_printed(&samples) {
            return true;
        }
    }
    false
}

/// Runs `true`; returns its process id.
fn run_true() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

#[test]
fn the_clients_work_on_the_real_kernel() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new().unwrap();
    if !receives_events(programs, &dir) {
        return skip("this user receives no process events");
    }
    let start = |(number, case)| LiveClient::start(case, programs, dir.path().join(format!("{number}")));
    let mut waiting: Vec<_> = CLIENT_CASES.iter().enumerate().map(start).collect();
    let (began, mut samples) = (Instant::now(), Vec::new());
    while !waiting.is_empty() {
        samples.push(run_true());
        thread::sleep(Duration::from_millis(20));
        let (done, not_yet): (Vec<_>, _) =
            waiting.into_iter().partition(|client| client.has_printed(&samples));
        waiting = not_yet;
        done.into_iter().for_each(LiveClient::stop);
        let left: Vec<_> = waiting.iter().map(LiveClient::name).collect();
        assert!(began.elapsed() < Duration::from_secs(20), "unexpected output for {samples:?}: {left:?}");
    }
}

#[test]
fn the_clients_of_options_and_proc_work_on_the_real_kernel() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new().unwrap();
    if !needs(&[Need::Root]) {
        return;
    }
    if !receives_events(programs, &dir) {
        return skip("this user receives no process events");
    }
    let options = Command::new(programs.path("options")).output().unwrap();
    // Other processes may cause events at any time.
    let printed = String::from_utf8_lossy(&options.stdout).into_owned();
    let without_recv = |printed: &str| {
        printed.lines().filter(|line| !line.starts_with("recv ")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_recv(&printed), without_recv(OPTIONS));

    assert_eq!(run_with_sleep(programs, "control_messages", "0.1"), CONTROL);
    let seconds = format!("0.5{:07}", process::id());
    assert_eq!(run_with_sleep(programs, "proc_paths", &seconds), PROC_PATHS);
    let printed = run_with_sleep(programs, "proc_details", &seconds);
    let (lines, since) = parse_details(&printed);
    assert_eq!(lines, PROC_DETAILS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(since as u64) < 60, "{since}, and it is {now}");
}

/// Runs a client that waits for a `sleep` of this duration, which no other process must use;
/// returns its output.
fn run_with_sleep(programs: &Programs, client: &str, seconds: &str) -> String {
    let mut child = Command::new(programs.path(client)).arg(seconds).stdout(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "{client} has found no `sleep {seconds}`");
        assert!(Command::new("sleep").arg(seconds).current_dir("/").status().unwrap().success());
    }
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}
