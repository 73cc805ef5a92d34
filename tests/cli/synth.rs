//! Tests that the other verbs read the captures of `pmon synth`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::support::*;

/// Writes a capture to a file in `dir`, and returns the file.
fn synth(dir: &Dir, name: &str, args: &[&str]) -> String {
    let file = arg(&dir.path(name));
    let ran = pmon(&[&["synth", "-q", "-o", &file], args].concat()).expect(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    file
}

#[test]
fn a_synthetic_capture_of_any_size_is_complete() {
    let dir = Dir::new();
    for (events, profile) in
        [("0", "mixed"), ("1", "build"), ("37", "storm"), ("20k", "server"), ("20k", "mixed")]
    {
        let file = synth(&dir, &format!("{events}{profile}"), &["--events", events, "--profile", profile]);
        let verdict = pmon(&["verify", &file, "--json"]).expect(0).json();
        let count: u64 = events.replace('k', "000").parse().expect("a number");
        assert_eq!(
            (&verdict["verdict"], &verdict["events"]),
            (&json!("complete"), &json!({ "total": count, "own": 8 }))
        );
        let metadata = Path::new(&file).metadata().expect("the file");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn the_requested_loss_is_counted() {
    let dir = Dir::new();
    for (loss, lost) in [("0.1%", 4), ("1%", 40), ("50%", 2000)] {
        let file = synth(&dir, loss, &["-n", "4k", "--loss", loss, "--cpus", "3", "--seed", "7"]);
        let verdict = pmon(&["verify", &file, "--json"]).expect(3).json();
        assert_eq!(verdict["verdict"], "lossy", "{verdict:#}");
        assert_eq!(
            (&verdict["lost"]["total"], &verdict["lost"]["by_cause"]["socket"]),
            (&json!(lost), &json!(lost))
        );
        assert_eq!(verdict["witness"], json!({ "drops": lost, "gaps": lost }));
        assert_eq!(verdict["events"]["total"], 4000 - lost);
        let shown = pmon(&["print", &file, "--format", "json"]).expect(0).json_lines();
        let losses = shown.iter().filter(|line| line["kind"] == "loss");
        assert_eq!(losses.map(|line| line["count"].as_u64().expect("a count")).sum::<u64>(), lost);
    }
}

#[test]
fn the_seed_determines_the_file() {
    let dir = Dir::new();
    let args = |seed| ["-n", "5k", "--loss", "2%", "--seed", seed];
    let read = |file: String| std::fs::read(file).expect("the file");
    let one = read(synth(&dir, "one", &args("7")));
    assert_eq!(read(synth(&dir, "again", &args("7"))), one);
    assert_ne!(read(synth(&dir, "other", &args("8"))), one);
    // A pipe gets the same bytes.
    let mut through = command(&[&["synth", "-o", "-"], &args("7")[..]].concat());
    through.stdout(Stdio::piped()).stderr(Stdio::piped());
    let piped = start(through).wait_with_output().expect("pmon ends");
    assert!(piped.status.success() && piped.stdout == one);
}

#[test]
fn a_synthetic_capture_states_its_options() {
    let dir = Dir::new();
    let file = synth(&dir, "x", &["-n", "20k", "--rate", "1k", "--cpus", "2", "--seed", "9"]);
    let info = pmon(&["info", &file, "--json"]).expect(0).json();
    assert_eq!((&info["host"], &info["transport"]), (&json!("synthetic"), &json!("synthetic")));
    let why =
        "pmon synth --events 20000 --rate 1000 --cpus 2 --loss 0% --processes 400 --profile mixed --seed 9";
    assert_eq!((&info["transport_why"], &info["cpus_online"]), (&json!(why), &json!(2)));
    assert_eq!(info["start"], "2026-01-01T00:00:00.000000000Z");
    let seconds = info["duration_ns"].as_u64().expect("a duration") / 1_000_000_000;
    assert!((18..=22).contains(&seconds), "{seconds} s");
    assert_eq!(info["events"]["by_kind"]["exec"], info["details"]["known"]);
    assert_eq!(info["details"]["missed"], 0);
    assert!(info["snapshot_processes"].as_u64() >= Some(100), "{info:#}");
    let text = pmon(&["info", &file]).expect(0).out;
    assert!(text.contains(&format!("synthetic ({why})")), "{text}");

    let other = synth(&dir, "y", &["-n", "10", "--start", "2031-02-03T04:05:06+01:00"]);
    let info = pmon(&["info", &other, "--json"]).expect(0).json();
    assert_eq!(info["start"], "2031-02-03T03:05:06.000000000Z");
}

#[test]
fn synthetic_processes_have_names_arguments_parents_and_trees() {
    let dir = Dir::new();
    let file = synth(&dir, "x", &["-n", "20k", "--profile", "build"]);
    let lines = pmon(&["print", &file, "--format", "json"]).expect(0).json_lines();
    let make = lines.iter().find(|line| line["kind"] == "exec" && line["comm"] == "make").expect("a make");
    assert_eq!((&make["exe"], &make["args"][1]), (&json!("/usr/bin/make"), &json!("-j8")));
    let (pid, at) = (make["pid"].as_u64().expect("a pid").to_string(), &make["mono_ns"]);
    let tree = pmon(&["print", &file, "--format", "json", "--tree", &pid]).expect(0).json_lines();
    assert!(tree.len() > 10 && tree.len() < lines.len(), "{} of {}", tree.len(), lines.len());
    let child = tree.iter().find(|line| line["ppid"] == make["pid"]).expect("a child that runs something");
    assert_eq!((&child["uid"], &child["parent_start_ticks"]), (&make["uid"], &make["start_ticks"]));
    assert!(child["mono_ns"].as_u64() > at.as_u64());
    let exit =
        tree.iter().find(|line| line["kind"] == "exit" && line["tid"] == child["pid"]).expect("its exit");
    assert_eq!((&exit["parent_pid"], &exit["start_ticks"]), (&make["pid"], &child["start_ticks"]));
    assert!(exit["cpu_us"].is_u64() && exit["max_rss_kib"].as_u64() > Some(0));
}

#[test]
fn the_summary_is_text_or_json() {
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let ran = pmon(&["synth", "-o", &file, "-n", "5k", "--loss", "1%"]).expect(0);
    assert!(
        ran.out.is_empty() && ran.err.contains("50 events lost") && ran.err.contains("x.pmon"),
        "{ran:?}"
    );
    let ran = pmon(&["synth", "-o", &file, "-n", "5k", "--loss", "1%", "--json", "--force"]).expect(0);
    let (summary, bytes) = (ran.json(), std::fs::metadata(&file).expect("the file").len());
    assert_eq!((&summary["verdict"], &summary["lost"]["total"]), (&json!("lossy"), &json!(50)));
    assert_eq!((&summary["file"], &summary["bytes"]), (&json!(file), &json!(bytes)));
    let info = pmon(&["info", &file, "--json"]).expect(0).json();
    assert_eq!((&summary["uuid"], &summary["made_by"]), (&info["uuid"], &info["transport_why"]));
    assert_eq!(summary["details"], info["details"]);
    // If the capture uses standard output, the summary is on standard error.
    let mut piped = command(&["synth", "-o", "-", "-n", "100", "--json"]);
    piped.stdout(Stdio::null()).stderr(Stdio::piped());
    let piped = start(piped).wait_with_output().expect("pmon ends");
    let summary: serde_json::Value = serde_json::from_slice(&piped.stderr).expect("JSON");
    assert_eq!((&summary["file"], &summary["events"]["total"]), (&json!(null), &json!(100)));
}

#[test]
fn an_existing_file_is_replaced_only_with_force() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", b"precious");
    let ran = pmon(&["synth", "-o", &file, "-n", "10"]).expect(7);
    assert!(ran.err.contains("exists"), "{}", ran.err);
    assert_eq!(std::fs::read(&file).expect("the file"), b"precious");
    pmon(&["synth", "-o", &file, "-n", "10", "--force"]).expect(0);
    pmon(&["verify", &file]).expect(0);
}

#[test]
fn an_interrupted_synth_leaves_no_file() {
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let mut long = command(&["synth", "-o", &file, "-n", "1G", "--rate", "10M"]);
    long.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = start(long);
    while dir.is_empty() {
        std::thread::yield_now();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).expect("it runs");
    let ran = RunOutput::new(child.wait_with_output().expect("pmon ends")).expect(130);
    assert!(ran.err.contains("interrupted"), "{}", ran.err);
    assert!(dir.is_empty());
}

#[test]
fn senseless_options_are_wrong_usage() {
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    for (args, expected) in [
        (&["--events", "many"][..], "10M"),
        (&["--rate", "0"], "1 to 10,000,000"),
        (&["--rate", "11M"], "1 to 10,000,000"),
        (&["--rate", "5G"], "1 to 10,000,000"),
        (&["--cpus", "0"], "1 to 4096"),
        (&["--loss", "51%"], "50%"),
        (&["--loss", "1"], "0.25%"),
        (&["--processes", "3"], "20 to 100,000"),
        (&["--events", "1G", "--rate", "1"], "ten years"),
        (&["--profile", "quiet"], "storm"),
        (&["--start", "2500-01-01T00:00:00Z"], "1970 and 2200"),
        (&["--start", "yesterday"], "--start"),
    ] {
        let ran = pmon(&[&["synth", "-o", &file], args].concat()).expect(2);
        assert!(ran.err.contains(expected), "{args:?}: {}", ran.err);
    }
    let ran = pmon(&["synth"]).expect(2);
    assert!(ran.err.contains("--output"), "{}", ran.err);
    assert!(dir.is_empty());
}
