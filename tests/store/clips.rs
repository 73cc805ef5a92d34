//! Clips of a real recorder, compared with another recording.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, Seq, Tgid};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::guard::{Need, retry_test};
use pmon_testkit::live::{live_test, live_test_with, wait_until};
use pmon_testkit::programs;
use pmon_testkit::recorder::RecorderProcess;
use rustix::process::{Pid, Signal, kill_process};

use crate::load::seconds;

/// Time between two processes of the load.
const INTERVAL: Duration = Duration::from_millis(1);

/// A recorder of a store, which is killed when the test fails.
pub(crate) struct StoreRecorder {
    store: PathBuf,
    child: Child,
}

impl StoreRecorder {
    /// Starts a recorder, and waits until it replies to requests.
    pub(crate) fn start(store: PathBuf, options: &[&str]) -> Self {
        let mut command = Command::new(programs::pmon());
        command.args(["record", "--quiet", "--store"]).arg(&store).args(options).stdin(Stdio::null());
        let this = Self { store, child: command.spawn().expect("pmon") };
        wait_until(|| this.request(&["control", "status"]).0);
        this
    }

    /// Sends a request. Returns whether it succeeded, and its output and messages. A clip that is
    /// not complete is written as well.
    pub(crate) fn request(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(programs::pmon());
        let output = command.args(arguments).arg("--store").arg(&self.store).output().expect("pmon");
        let is_ok = output.status.success();
        (is_ok, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn clips(&self) -> Vec<PathBuf> {
        files(&self.store).into_iter().filter(|path| is_clip(path)).collect()
    }

    /// Ends the recorder, and waits for it.
    pub(crate) fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for StoreRecorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "pmon")).collect()
}

fn is_clip(path: &Path) -> bool {
    path.to_str().unwrap().ends_with(".clip.pmon")
}

/// Events by their CPU and number.
type Numbered = BTreeMap<(Cpu, Seq), Event>;

fn numbered(files: &[PathBuf]) -> Numbered {
    let captures: Vec<_> = files.iter().map(|file| CaptureContents::read(file)).collect();
    captures.iter().flat_map(CaptureContents::events).map(|event| ((event.cpu, event.seq), *event)).collect()
}

fn between(events: &Numbered, from: u64, until: u64) -> Numbered {
    let events = events.iter().filter(|(_, event)| (from..=until).contains(&event.time.0));
    events.map(|(number, event)| (*number, *event)).collect()
}

/// Starts short processes for a time, one of which crashes. Returns its process id.
fn load(crasher: &Path, length: Duration, crash_at: Duration) -> u32 {
    let (began, mut crashed) = (Instant::now(), None);
    while began.elapsed() < length {
        if crashed.is_none() && began.elapsed() >= crash_at {
            let mut command = Command::new(crasher);
            let mut child = command.args(["-c", "ulimit -c 0; kill -SEGV $$"]).spawn().unwrap();
            crashed = Some(child.id());
            child.wait().unwrap();
        }
        Command::new("/bin/true").status().unwrap();
        thread::sleep(INTERVAL);
    }
    crashed.expect("a crash")
}

/// Records a crash amid short processes, and compares the clip of a trigger and the store with
/// another recording.
fn record_crash(options: &[&str]) -> Result<(), String> {
    // Without the ring, the name of a program that ends at once is unknown.
    let ring = Need::Recording(&["--transport", "ring+details"]);
    let Some((directory, _guard)) = live_test_with(&[ring]) else { return Ok(()) };
    let length = seconds(4);
    let (before, after) = (length / 4, length / 8);
    let configuration = directory.path().join("pmon.toml");
    let text = format!(
        "[[trigger]]\nname = 'crash'\nkind = 'exit'\nsignal = 'SIGSEGV'\ncomm = 'crasher'\nbefore = '{}ms'\n\
         after = '{}ms'\n",
        before.as_millis(),
        after.as_millis()
    );
    fs::write(&configuration, text).unwrap();
    let crasher = directory.path().join("crasher");
    symlink("/bin/sh", &crasher).unwrap();

    let beside = RecorderProcess::start(&directory, &[]);
    beside.wait_until_recording();
    let with_triggers = [options, &["--config", configuration.to_str().unwrap()]].concat();
    let recorder = StoreRecorder::start(directory.path().join("store"), &with_triggers);
    let clock = oorandom::Rand32::new(u64::from(std::process::id())).rand_float();
    let crash_at = before + (length - before - after).mul_f32(0.9 * clock);
    let pid = load(&crasher, length, crash_at);
    wait_until(|| !recorder.clips().is_empty());
    let clips = recorder.clips();
    let store = recorder.store.clone();
    recorder.end();
    let beside = beside.finish();
    if beside.lost().total() > 0 {
        return Err("the machine was too busy: the other recorder lost events".into());
    }

    let all: Numbered = beside.events().map(|event| ((event.cpu, event.seq), *event)).collect();
    let is_crash =
        |event: &&Event| matches!(event.body, EventBody::Exit { task, .. } if task.tgid == Tgid(pid));
    let crash = beside.events().find(is_crash).expect("the exit of the crashed process").time.0;
    let (from, until) = (crash - before.as_nanos() as u64, crash + after.as_nanos() as u64);
    let [clip] = &clips[..] else { panic!("{clips:?}") };
    let verified = Command::new(programs::pmon()).arg("verify").arg(clip).output().unwrap();
    let verdict = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && verdict.contains("verdict      complete\n"), "{verdict}");
    let found = numbered(&clips);
    assert!(found.len() > 100, "only {} events: nothing is tested", found.len());
    assert!(found == between(&all, from, until), "the clip has other events");

    // The store has all events between its first and its last one, as without triggers.
    let segments: Vec<_> = files(&store).into_iter().filter(|path| !is_clip(path)).collect();
    if options.contains(&"--flight") {
        assert!(segments.is_empty(), "{segments:?}");
        return Ok(());
    }
    assert!(segments.len() > 1, "no rotation: nothing is tested");
    let stored = numbered(&segments);
    // The recorders do not start and end at one moment of all CPUs.
    let margin = Duration::from_millis(100).as_nanos() as u64;
    let times = || stored.values().map(|event| event.time.0);
    let (first, last) = (times().min().unwrap() + margin, times().max().unwrap() - margin);
    assert!(between(&stored, first, last) == between(&all, first, last), "the store has other events");
    Ok(())
}

#[test]
fn a_trigger_writes_every_event_around_a_crash() {
    let rotating = || record_crash(&["--rotate-every", "1s"]);
    retry_test("a_trigger_writes_every_event_around_a_crash", rotating).unwrap();
}

#[test]
fn a_flight_recorder_writes_every_event_around_a_crash() {
    let flight = || record_crash(&["--flight", "1h"]);
    retry_test("a_flight_recorder_writes_every_event_around_a_crash", flight).unwrap();
}

#[test]
fn a_recorder_whose_directory_was_moved_away_replies_at_the_new_one() {
    let Some((directory, _guard)) = live_test() else { return };
    let recorder = StoreRecorder::start(directory.path().join("store"), &[]);
    fs::rename(&recorder.store, directory.path().join("moved")).unwrap();
    wait_until(|| recorder.request(&["control", "status"]).0);
    let (_, text) = recorder.request(&["snapshot", "--before", "0s", "--after", "0s"]);
    assert!(text.contains("-snapshot.clip.pmon"), "{text}");
    recorder.end();
}
