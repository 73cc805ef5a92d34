//! Tests the excerpts that `pmon cut` writes, against `pmon print` of the same range.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use pmon_testkit::segments::divide;
use rustix::process::Signal;
use serde_json::Value;

use crate::live::*;
use crate::support::*;

/// A synthetic recording, as one capture and as a store of its segments.
struct Recording {
    dir: Dir,
    whole: String,
    store: String,
}

impl Recording {
    fn new(args: &[&str], divisions: &[usize]) -> Self {
        let dir = Dir::new();
        let (whole, store) = (arg(&dir.path("whole.pmon")), arg(&dir.path("store")));
        pmon(&[&["synth", "-q", "-o", &whole], args].concat()).expect(0);
        fs::create_dir(&store).unwrap();
        for segment in divide(&fs::read(&whole).unwrap(), divisions) {
            fs::write(dir.path("store").join(&segment.name), &segment.bytes).unwrap();
        }
        Self { dir, whole, store }
    }

    /// Cuts a range with these options, and returns the path of the excerpt and the report.
    fn cut(&self, source: &str, options: &[&str]) -> (String, Value) {
        let clip = arg(&self.dir.path("clip.pmon"));
        let report =
            pmon(&[&["cut", source, "-o", &clip, "--force", "--json"], options].concat()).expect(0).json();
        (clip, report)
    }
}

fn print(source: &str, options: &[&str]) -> String {
    pmon(&[&["print", source, "--format", "json"], options].concat()).expect(0).out
}

#[test]
fn a_device_receives_the_excerpt_and_is_not_replaced() {
    let recording = Recording::new(&["-n", "100"], &[]);
    let device = recording.dir.path("null");
    std::os::unix::fs::symlink("/dev/null", &device).unwrap();
    for force in [&[][..], &["--force"]] {
        pmon(&[&["cut", &recording.whole, "-o", &arg(&device)], force].concat()).expect(0);
        assert!(fs::symlink_metadata(&device).unwrap().is_symlink());
    }
}

#[test]
fn a_signal_removes_the_incomplete_excerpt() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        // The excerpt may be complete before the signal arrives.
        let interrupted = ["100k", "500k", "2M"].into_iter().any(|events| {
            let recording = Recording::new(&["-n", events], &[]);
            let clip = recording.dir.path("clip.pmon");
            let mut command = command(&["cut", &recording.whole, "--kind", "exit", "-o", &arg(&clip)]);
            command.stderr(Stdio::piped());
            let child = start(command);
            let partial = recording.dir.path("clip.pmon.partial");
            wait_until(|| partial.exists() || clip.exists());
            send(&child, signal);
            let output = child.wait_with_output().unwrap();
            assert!(!partial.exists(), "{output:?}");
            assert_eq!(clip.exists(), output.status.success(), "{output:?}");
            if output.status.success() {
                return false;
            }
            assert_eq!(output.status.code(), Some(130), "{output:?}");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("interrupted; the incomplete excerpt was removed"), "{error}");
            true
        });
        assert!(interrupted, "no excerpt took long enough");
    }
}

#[test]
fn an_excerpt_prints_the_lines_of_its_range() {
    let recording =
        Recording::new(&["-n", "60000", "--rate", "20k", "--loss", "1%"], &[4000, 21_000, 40_000]);
    let mut verdicts = BTreeSet::new();
    for range in [["--since", "+500ms", "--until", "+2s"], ["--since", "-1s", "--until", "-200ms"]] {
        let expected = print(&recording.whole, &range);
        assert!(expected.lines().count() > 1000);
        for source in [&recording.whole, &recording.store] {
            let (clip, report) = recording.cut(source, &range);
            // The segments of the store do not begin with the processes, which the JSON names.
            if source == &recording.whole {
                assert!(print(&clip, &[]) == expected, "{range:?}");
            }
            let classic = |path: &str, options: &[&str]| {
                pmon(&[&["print", path, "--format", "classic"], options].concat()).expect(0).out
            };
            assert!(classic(&clip, &[]) == classic(&recording.whole, &range), "{range:?} of {source}");
            let (verdict, code) =
                if expected.contains(r#""kind":"loss""#) { ("lossy", 3) } else { ("complete", 0) };
            assert_eq!(report["verdict"], verdict, "{range:?} of {source}");
            // A version 4 UUID (RFC 9562).
            let uuid = report["uuid"].as_str().unwrap();
            assert_eq!((&uuid[12..13], "89ab".contains(&uuid[16..17])), ("4", true), "{uuid}");
            let verified = pmon(&["verify", "--json", &clip]).expect(code).json();
            assert_eq!(verified["lost"]["total"], report["lost"]);
            assert_eq!(
                (&verified["problems"], &verified["verdict"]),
                (&Value::Array(vec![]), &verdict.into())
            );
            verdicts.insert(verdict);
        }
    }
    assert!(verdicts.contains("lossy"));
}

#[test]
fn an_excerpt_is_complete_if_its_range_is() {
    let recording = Recording::new(&["-n", "30000", "--rate", "10k"], &[9000, 20_000]);
    let (clip, report) = recording.cut(&recording.store, &["--since", "+1s", "--until", "+2s"]);
    assert_eq!((&report["verdict"], &report["missing"]), (&"complete".into(), &"".into()));
    assert_eq!(pmon(&["verify", "--json", &clip]).expect(0).json()["verdict"], "complete");
    // An excerpt of an excerpt.
    let (clip, _) = recording.cut(&recording.whole, &["--since", "+1s", "--until", "+2s"]);
    let inner = ["--since", "+200ms", "--until", "+500ms"];
    let expected = print(&clip, &inner);
    let (again, _) = {
        let outer = arg(&recording.dir.path("outer.pmon"));
        fs::rename(&clip, &outer).unwrap();
        recording.cut(&outer, &inner)
    };
    assert!(print(&again, &[]) == expected);
    // Times that the source does not cover.
    let (_, report) = recording.cut(&recording.whole, &["--since", "+2s", "--until", "+20s"]);
    assert_eq!(
        (&report["verdict"], &report["unobserved"][0]["reason"]),
        (&"blind".into(), &"stopped".into())
    );
}

#[test]
fn a_range_outside_of_the_recording_is_refused_with_the_time_of_the_recording() {
    let recording = Recording::new(&["-n", "30000", "--rate", "10k"], &[9000, 20_000]);
    let clip = arg(&recording.dir.path("clip.pmon"));
    for source in [&recording.whole, &recording.store] {
        for range in [
            ["--since", "+100s"],
            ["--until", "-100s"],
            ["--until", "2020-01-01T00:00:00Z"],
            ["--since", "2030-01-01T00:00:00Z"],
        ] {
            let refused = pmon(&[&["cut", source, "-o", &clip], &range[..]].concat()).expect(2);
            let recorded = "the recording is from 2026-01-01T00:00:00.000000000Z to 2026-01-01T00:00:03.";
            assert!(refused.err.contains(recorded), "{range:?} of {source}: {}", refused.err);
            assert!(!recording.dir.path("clip.pmon").exists());
        }
    }
}

#[test]
fn a_selection_prints_the_lines_that_print_selects() {
    let recording = Recording::new(&["-n", "20000", "--rate", "10k"], &[9000]);
    let range = ["--since", "+500ms", "--until", "+1500ms"];
    for selection in [vec!["--kind", "exec,exit"], vec!["--comm", "sed"], vec!["--pid", "1"]] {
        let options = [&range[..], &selection].concat();
        let (clip, report) = recording.cut(&recording.whole, &options);
        // The excerpt lacks the renames before an exit.
        let lines = |path: &str, options: &[&str]| -> Vec<Value> {
            let mut lines = pmon(&[&["print", path, "--format", "json"], options].concat()).json_lines();
            lines
                .iter_mut()
                .filter(|line| line["kind"] == "exit")
                .for_each(|line| line["comm"] = Value::Null);
            lines
        };
        assert!(lines(&clip, &[]) == lines(&recording.whole, &options), "{selection:?}");
        assert!(!report["scope"].as_str().unwrap().is_empty());
        let verified = pmon(&["verify", "--json", &clip]).expect(0).json();
        assert_eq!(verified["verdict"], "complete", "{selection:?}: {verified}");
    }
}

#[test]
fn a_selection_contains_the_events_of_the_recorder_itself() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let (file, clip) = (arg(&dir.path("all.pmon")), arg(&dir.path("clip.pmon")));
    pmon(&["record", "-q", "--for", "300ms", "--heartbeat", "50ms", "-o", &file]).expect(0);
    let recorder =
        pmon(&["print", &file, "--own", "--kind", "comm", "--format", "json"]).expect(0).json_lines();
    let is_heartbeat = |line: &&Value| line["comm"] == "pmon/heartbeat";
    let heartbeat = recorder.iter().find(is_heartbeat).expect("a heartbeat");
    let pid = heartbeat["pid"].to_string();
    // The number of a process that started meanwhile depends on its fork, which may be left out.
    let lines = |path: &str, options: &[&str]| -> Vec<Value> {
        let mut lines =
            pmon(&[&["print", path, "--format", "json"], options].concat()).expect(0).json_lines();
        for line in lines.iter_mut().filter(|line| line["pid"] != heartbeat["pid"]) {
            (line["process_id"], line["parent_process_id"]) = (Value::Null, Value::Null);
        }
        lines
    };
    for selection in [["--tree", &pid], ["--pid", &pid], ["--kind", "comm"]] {
        pmon(&["cut", &file, selection[0], selection[1], "-o", &clip, "--force"]).expect(0);
        let selected = lines(&file, &["--own", selection[0], selection[1]]);
        assert!(selected.iter().any(|line| is_heartbeat(&line)), "{selection:?}: {selected:?}");
        assert_eq!(lines(&clip, &["--own"]), selected, "{selection:?}");
        assert_eq!(lines(&clip, &[]), lines(&file, &selection), "{selection:?}");
    }
}

#[test]
fn a_selection_without_forks_and_execs_describes_its_processes() {
    let recording = Recording::new(&["-n", "8000", "--rate", "10k"], &[4000]);
    for selection in [
        ["--kind", "exit"],
        ["--exit", "failed"],
        ["--longer-than", "1ms"],
        ["--comm", "sed"],
        ["--exe", "sed"],
        ["--args", "."],
    ] {
        let options = [&["--until", "+700ms"][..], &selection].concat();
        let (clip, _) = recording.cut(&recording.store, &options);
        // Only the text has the names of processes, and how long they ran.
        let text = |path: &str, options: &[&str]| pmon(&[&["print", path], options].concat()).expect(0).out;
        let lines = text(&clip, &[]);
        assert!(lines == text(&recording.store, &options), "{selection:?}");
        assert!(lines.lines().count() > 3, "{selection:?}: {lines}");
        pmon(&["verify", &clip]).expect(0);
    }
}

#[test]
fn an_existing_file_and_an_unsuitable_source_are_refused() {
    let recording = Recording::new(&["-n", "1000"], &[]);
    let clip = arg(&recording.dir.path("clip.pmon"));
    pmon(&["cut", &recording.whole, "-o", &clip, "-q"]).expect(0);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&clip).unwrap()) & 0o777, 0o600);
    let before = fs::read(&clip).unwrap();
    let refused = pmon(&["cut", &recording.whole, "-o", &clip]).expect(7);
    assert!(refused.err.contains("exists: choose another name"), "{}", refused.err);
    assert_eq!(fs::read(&clip).unwrap(), before);
    let missing = arg(&recording.dir.path("missing.pmon"));
    pmon(&["cut", &missing, "-o", &clip, "--force"]).expect(6);
    assert_eq!(fs::read(&clip).unwrap(), before);
    pmon(&["cut", "-", "-o", &clip, "--force"]).expect(2);
    let text = recording.dir.file("text", b"no capture");
    pmon(&["cut", &text, "-o", &clip, "--force"]).expect(5);
    assert_eq!(fs::read(&clip).unwrap(), before);
    assert!(!recording.dir.path("clip.pmon.partial").exists());
    // The damaged source is used as far as it is intact.
    let mut damaged = fs::read(&recording.whole).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let damaged = recording.dir.file("damaged.pmon", &damaged);
    pmon(&["cut", &damaged, "-o", &clip, "--force"]).expect(4);
}
