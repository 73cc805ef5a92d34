//! Tests `print --follow`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pmon_testkit::segments::{StoredSegment, divide};
use rustix::process::Signal;
use serde_json::Value;

use crate::live::*;
use crate::recorder::can_record_to_a_store;
use crate::support::*;

/// A process that follows, whose output goes to files.
struct Follower {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Follower {
    fn start(dir: &Dir, args: &[&str]) -> Self {
        let [out, err] = ["follow.out", "follow.err"].map(|name| dir.path(name));
        let mut command = command(&[&["print", "--follow"], args].concat());
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        Self { child: start(command), out, err }
    }

    fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// Waits for a number of lines.
    fn wait_for_lines(&self, count: usize) {
        wait_until(|| self.out().lines().count() >= count);
    }

    /// Sends a signal, and returns the output.
    fn end(mut self, signal: Signal) -> (String, String) {
        send(&self.child, signal);
        let status = self.child.wait().unwrap();
        let err = fs::read_to_string(&self.err).unwrap();
        assert_eq!(status.code(), Some(0), "{err}");
        (self.out(), err)
    }
}

/// A recording as one capture, and its segments, which are not in the store yet.
fn recording(dir: &Dir, events: &str) -> (String, Vec<StoredSegment>) {
    let whole = arg(&dir.path("whole.pmon"));
    pmon(&["synth", "-q", "-o", &whole, "--events", events]).expect(0);
    let segments = divide(&fs::read(&whole).unwrap(), &[150, 400]);
    fs::create_dir(dir.path("store")).unwrap();
    (whole, segments)
}

fn put(store: &Path, segment: &StoredSegment) {
    let new = store.join("new");
    fs::write(&new, &segment.bytes).unwrap();
    fs::rename(new, store.join(&segment.name)).unwrap();
}

#[test]
fn segments_are_followed_as_they_grow_and_as_they_appear() {
    for format in ["json", "csv", "text"] {
        let dir = Dir::new();
        let (whole, segments) = recording(&dir, "600");
        let store = dir.path("store");
        let options = ["--format", format, "--clock", "mono"];
        let expected = pmon(&[&["print", &whole], &options[..]].concat()).expect(0).out;
        put(&store, &segments[0]);
        let path = arg(&store);
        let args = [&[&path[..], "--since", "+0s"], &options[..]].concat();
        let follower = Follower::start(&dir, &args);
        wait_until(|| !follower.out().is_empty());
        // The next one grows in pieces that are no blocks, and gets its name at the end.
        let partial = store.join(format!("{}.partial", segments[1].name));
        let bytes = &segments[1].bytes;
        for end in [1, 30, bytes.len() / 3, bytes.len() / 2 + 7, bytes.len() - 9, bytes.len()] {
            use std::io::Write as _;
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&partial).unwrap();
            let written = file.metadata().unwrap().len() as usize;
            file.write_all(&bytes[written..end]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
        fs::rename(&partial, store.join(&segments[1].name)).unwrap();
        put(&store, &segments[2]);
        follower.wait_for_lines(expected.lines().count());
        let (out, err) = follower.end(Signal::INT);
        assert!(out == expected, "{format}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.contains("no recorder writes"), "{err}");
    }
}

#[test]
fn following_begins_with_the_last_ten_events_that_match() {
    let dir = Dir::new();
    let (whole, segments) = recording(&dir, "600");
    let store = dir.path("store");
    let options = ["--format", "json", "--kind", "exec,exit"];
    let expected = pmon(&[&["print", &whole], &options[..]].concat()).expect(0).out;
    segments.iter().for_each(|segment| put(&store, segment));
    let follower = Follower::start(&dir, &[&[&arg(&store)[..]], &options[..]].concat());
    follower.wait_for_lines(10);
    let (out, _) = follower.end(Signal::TERM);
    // The segments of this test lack the processes at their start, so only these fields are equal.
    let events = |lines: &str| -> Vec<(Value, Value)> {
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (line["cpu"].clone(), line["seq"].clone())).collect()
    };
    let (all, shown) = (events(&expected), events(&out));
    assert!(all.len() > 30 && all.ends_with(&shown), "{out}");
    // Another event can have the time of the tenth last one.
    assert!((10..13).contains(&shown.len()), "{out}");
}

#[test]
fn one_capture_is_followed_to_its_end() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 50));
    let printed = pmon(&["print", &file, "--format", "json"]).expect(0);
    let followed = pmon(&["print", &file, "--format", "json", "-f", "--since", "+0s"]).expect(0);
    assert_eq!((followed.out, followed.err), (printed.out, printed.err));
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 50));
    for (args, why) in [
        (&["-"][..], "without --follow"),
        (&[&file, &file], "one capture"),
        (&[&file, "--until", "+1s"], "cannot be used with"),
    ] {
        let refused = pmon(&[&["print", "--follow"], args].concat()).expect(2);
        assert!(refused.err.contains(why), "{refused:?}");
    }
    pmon(&["print", "--follow", "/nowhere"]).expect(6);
}

#[test]
fn an_empty_store_is_waited_for_and_a_closed_pipe_ends_the_wait() {
    let dir = Dir::new();
    let (_, segments) = recording(&dir, "600");
    let store = dir.path("store");
    let mut command = command(&["print", "--follow", &arg(&store), "--format", "json", "--since", "+0s"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.contains("no segment yet"), "{line}");
    put(&store, &segments[0]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(first.starts_with('{'), "{first}");
    // No further event happens.
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("panicked"), "{rest}");
}

/// Runs a program that the follower must show.
fn run_marker(marker: &str) {
    let status = Command::new("/bin/sh").args(["-c", "exit 0", marker]).status();
    assert!(status.unwrap().success());
}

fn has(lines: &str, marker: &str) -> bool {
    lines.lines().any(|line| line.contains(marker))
}

#[test]
fn a_running_recorder_is_followed_over_rotations_and_restarts() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let record = || {
        let child = start(command(&["record", "--store", &store, "-q"]));
        let control = ["control", "--store", &store, "status"];
        wait_until(|| pmon(&control).code == Some(0));
        child
    };
    let mut recorder = record();
    // Arguments can be missed without the ring; the process's own name cannot.
    let args = [&store[..], "--format", "json", "--kind", "exec,exit,comm"];
    let follower = Follower::start(&dir, &args);
    let count = || follower.out().lines().filter(|line| line.contains("\"exec\"")).count();
    let see = |marker: &str| {
        let before = count();
        run_marker(marker);
        wait_until(|| has(&follower.out(), marker) || count() > before);
    };
    see("marker-first");
    pmon(&["control", "--store", &store, "rotate"]).expect(0);
    see("marker-rotated");
    send(&recorder, Signal::INT);
    assert!(recorder.wait().unwrap().success());
    recorder = record();
    see("marker-restarted");
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    recorder = record();
    see("marker-recovered");
    send(&recorder, Signal::INT);
    recorder.wait().unwrap();
    let printed = || pmon(&["print", &store, "--format", "json", "--kind", "exec,exit,comm"]).expect(0).out;
    wait_until(|| follower.out().lines().last() == printed().lines().last());
    let (out, err) = follower.end(Signal::INT);
    // It began with the last events before its start.
    let printed = printed();
    assert!(printed.ends_with(&out), "{err}\n{out}");
    let causes: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| line["cause"].as_str().map(str::to_owned))
        .collect();
    assert!(causes.contains(&"stopped".into()) && causes.contains(&"killed".into()), "{causes:?}");
}

#[test]
fn a_capture_that_is_recorded_is_followed_under_either_name() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let mut recorder = start(command(&["record", "-q", "-o", &file]));
    let partial = format!("{file}.partial");
    wait_until(|| fs::metadata(&partial).is_ok_and(|meta| meta.len() > 0));
    let followed = |name: &str| {
        let mut command = command(&["print", "-f", name, "--since", "+0s", "--format", "json", "--own"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        start(command)
    };
    let mut followers = [&file, &partial].map(|name| followed(name));
    let mut outputs = followers.each_mut().map(|child| BufReader::new(child.stdout.take().unwrap()));
    let mut read: [String; 2] = Default::default();
    for (output, read) in outputs.iter_mut().zip(&mut read) {
        output.read_line(read).unwrap();
    }
    run_marker("marker");
    send(&recorder, Signal::INT);
    assert!(recorder.wait().unwrap().success());
    for ((mut child, mut output), mut read) in followers.into_iter().zip(outputs).zip(read) {
        output.read_to_string(&mut read).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(read, pmon(&["print", &file, "--format", "json", "--own"]).expect(0).out);
    }
}
