//! The clients on the real kernel: they are right about it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::gettid;
use tempfile::TempDir;

use crate::guard::{Need, needs};
use crate::procfs::{AROUND, PATHS, around};
use crate::rows::{CONTROL, OPTIONS, ROWS, Row};
use crate::stage::{Stage, skip, stage};

/// A client that listens to the host.
struct Listener {
    row: &'static Row,
    child: Child,
    out: PathBuf,
}

impl Listener {
    fn start(row: &'static Row, stage: &Stage, out: PathBuf) -> Self {
        let mut command = Command::new(stage.path(row.client));
        command.args(row.args).stdin(Stdio::null()).stdout(File::create(&out).unwrap());
        Self { row, child: command.spawn().unwrap(), out }
    }

    /// Whether it has printed of one of these processes what it is to print.
    fn has_heard(&self, samples: &[u32]) -> bool {
        let printed = fs::read_to_string(&self.out).unwrap();
        samples.iter().any(|sample| {
            let pid = sample.to_string();
            let of_it: Vec<_> =
                printed.lines().filter(|line| line.split(' ').any(|word| word == pid)).collect();
            let mut wanted = (self.row.prints)(&story(*sample));
            wanted.retain(|line| !line.ends_with("ack"));
            of_it == wanted
        })
    }

    fn name(&self) -> String {
        format!("{} {:?}", self.row.client, self.row.args)
    }

    fn ends(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}", self.name());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The life of a process that this thread has started.
fn story(pid: u32) -> Vec<String> {
    vec![format!("fork {} {pid}", gettid().as_raw_nonzero()), format!("exec {pid}"), format!("exit {pid} 0")]
}

/// Whether events of this process's children are to be had here, as the plainest client has it. In a PID namespace, others' requests are
/// acknowledged to all, and what happens has the host's numbers.
pub(crate) fn is_heard(stage: &Stage, dir: &TempDir) -> bool {
    let plain = Listener::start(&ROWS[0], stage, dir.path().join("plain"));
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_secs(2) {
        samples.push(sample());
        thread::sleep(Duration::from_millis(5));
        if plain.has_heard(&samples) {
            return true;
        }
    }
    false
}

/// A process that has ended.
fn sample() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

#[test]
fn the_clients_are_right_about_the_real_kernel() {
    let Some(stage) = stage() else { return };
    let dir = TempDir::new().unwrap();
    if !is_heard(stage, &dir) {
        return skip("there are no process events for this user");
    }
    let start = |(number, row)| Listener::start(row, stage, dir.path().join(format!("{number}")));
    let mut waiting: Vec<_> = ROWS.iter().enumerate().map(start).collect();
    let (began, mut samples) = (Instant::now(), Vec::new());
    while !waiting.is_empty() {
        samples.push(sample());
        thread::sleep(Duration::from_millis(20));
        let (done, not_yet): (Vec<_>, _) = waiting.into_iter().partition(|client| client.has_heard(&samples));
        waiting = not_yet;
        done.into_iter().for_each(Listener::ends);
        let left: Vec<_> = waiting.iter().map(Listener::name).collect();
        assert!(began.elapsed() < Duration::from_secs(20), "not right about {samples:?}: {left:?}");
    }
}

#[test]
fn so_are_those_that_ask_about_sockets_and_paths() {
    let Some(stage) = stage() else { return };
    let dir = TempDir::new().unwrap();
    if !needs(&[Need::Root]) {
        return;
    }
    if !is_heard(stage, &dir) {
        return skip("there are no process events for this user");
    }
    let options = Command::new(stage.path("options")).output().unwrap();
    // Others here may cause events at any time.
    let told = String::from_utf8_lossy(&options.stdout).into_owned();
    let but_events =
        |told: &str| told.lines().filter(|line| !line.starts_with("recv ")).collect::<Vec<_>>().join("\n");
    assert_eq!(but_events(&told), but_events(OPTIONS));

    assert_eq!(of_a_sleep(stage, "control", "0.1"), CONTROL);
    let seconds = format!("0.5{:07}", process::id());
    assert_eq!(of_a_sleep(stage, "paths", &seconds), PATHS);
    let printed = of_a_sleep(stage, "around", &seconds);
    let (lines, since) = around(&printed);
    assert_eq!(lines, AROUND);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(since as u64) < 60, "{since}, and it is {now}");
}

/// What a client prints that waits for a `sleep` of this duration, which has to be that of no other one here.
fn of_a_sleep(stage: &Stage, client: &str, seconds: &str) -> String {
    let mut child = Command::new(stage.path(client)).arg(seconds).stdout(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "{client} has found no `sleep {seconds}`");
        assert!(Command::new("sleep").arg(seconds).current_dir("/").status().unwrap().success());
    }
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}
