//! Runs that test nothing, or less than requested: warnings, and exit code 9 with `--expect`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::ProgramReplay;
use crate::support::RunOutput;
use crate::test_capture::TestCapture;

/// A fault script whose only fault comes after the last event.
const LATE_FAULT: &str = "[[fault]]\nat = 100000\noverrun = 7\n";

/// A directory with the capture and a fault script, and options.
struct Run {
    replay: ProgramReplay,
}

impl Run {
    /// Prepares a run with these options; `faults.toml` contains `script`. `--json` and `--report`
    /// write summaries.
    fn new(options: &[&str], script: &str) -> Option<Self> {
        let replay = ProgramReplay::of(&TestCapture::new())?.with(&["--json", "--report", "report"]);
        fs::write(replay.file("faults.toml"), script).unwrap();
        Some(Self { replay: replay.with(options) })
    }

    /// Compares the output with this one.
    fn expecting(self, output: &str) -> Self {
        fs::write(self.replay.file("golden.txt"), output).unwrap();
        Self { replay: self.replay.with(&["--expect", "golden.txt"]) }
    }

    /// Runs a client, or a program by its path; returns the output and the summary.
    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> (RunOutput, Value) {
        let path = if program.starts_with('/') { program.to_owned() } else { self.replay.path(program) };
        let ran = self.replay.program(&path, args, false);
        let json: Value = serde_json::from_str(ran.err.lines().last().unwrap()).expect(&ran.err);
        let report = fs::read_to_string(self.replay.file("report")).unwrap();
        assert_eq!(json, serde_json::from_str::<Value>(&report).unwrap());
        assert_eq!(json["pmon_exit_code"], json!(ran.code));
        for warning in json["warnings"].as_array().unwrap() {
            assert!(ran.err.contains(warning["message"].as_str().unwrap()), "{ran:#?}");
        }
        (ran, json)
    }
}

fn codes(json: &Value) -> Vec<&str> {
    json["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}

/// Checks the warnings of a run. Without `--expect`, the exit code is `code`. With it, the code is
/// 9 although the output is as expected, and `--update` does not write the output.
#[track_caller]
fn warned(options: &[&str], script: &str, command: (&str, &[&str]), code: i32, expected: &[&str]) {
    let Some(run) = Run::new(options, script) else { return };
    let (program, args) = command;
    let (ran, json) = run.run(program, args);
    assert_eq!((ran.code, &*codes(&json)), (Some(code), expected), "{ran:#?}");
    assert_eq!(json["expect"], Value::Null);

    let (expecting, json) = run.expecting(&ran.out).run(program, args);
    assert_eq!((expecting.code, &*codes(&json)), (Some(9), expected), "{expecting:#?}");
    assert_eq!(json["expect"], json!({ "file": "golden.txt", "result": "matched" }));

    let options = [options, &["--expect", "new.txt", "--update"]].concat();
    let Some(run) = Run::new(&options, script) else { return };
    let (updating, json) = run.run(program, args);
    assert_eq!((updating.code, &json["expect"]["result"]), (Some(9), &json!("not_written")));
    assert!(!run.replay.file("new.txt").exists());
}

#[test]
fn a_program_without_a_socket_is_reported() {
    warned(&[], "", ("/bin/true", &[]), 0, &["no_socket"]);
    warned(&[], "", ("/bin/sh", &["-c", "exit 5"]), 5, &["no_socket"]);
}

#[test]
fn a_program_that_does_not_subscribe_is_reported() {
    warned(&[], "", ("idle", &["open"]), 0, &["never_subscribed", "received_nothing"]);
    warned(&[], "", ("idle", &["bind"]), 0, &["never_subscribed", "received_nothing"]);
}

/// The recorder has subscribed, so the program receives all events nevertheless.
#[test]
fn a_program_that_is_bound_and_does_not_subscribe_receives_events_and_is_reported() {
    warned(&[], "", ("idle", &["unsubscribed"]), 0, &["never_subscribed"]);
    let Some(run) = Run::new(&[], "") else { return };
    let (_, json) = run.run("idle", &["unsubscribed"]);
    assert_eq!(json["events_received"], TestCapture::new().lines().len());
}

#[test]
fn the_summary_states_how_the_program_received_events() {
    let script = "[[fault]]\nat = 1\neintr = 1\n";
    let faults = &["--faults", "faults.toml"][..];
    for (options, code) in [(faults, "fault_script"), (&["--at-end", "eof"], "end_of_file")] {
        let Some(run) = Run::new(options, script) else { return };
        let run = Run { replay: run.replay.on_sockets("auto") };
        let (_, json) = run.run("receive", &["recv"]);
        assert_eq!((&json["socket_kind"], &json["fallback"]["code"]), (&json!("seccomp"), &json!(code)));
    }
}

#[test]
fn a_program_that_receives_no_event_is_reported() {
    warned(&[], "", ("idle", &["subscribe"]), 0, &["received_nothing"]);
    warned(&[], "", ("idle", &["ack"]), 0, &["received_nothing"]);
}

#[test]
fn an_empty_selection_is_reported() {
    let command = ("receive", &["recv"][..]);
    warned(&["--pid", "4100000"], "", command, 2, &["selection_empty", "received_nothing"]);
    warned(&["--from", "+300d"], "", command, 2, &["selection_empty", "received_nothing"]);
}

#[test]
fn a_fault_that_never_fired_is_reported() {
    let options = &["--faults", "faults.toml"];
    warned(options, LATE_FAULT, ("receive", &["recv"]), 2, &["fault_never_fired"]);
    // The program exits before the fault is due.
    let script = "[[fault]]\nat = 1\noverrun = 1\n[[fault]]\nat = 12\noverrun = 1\n";
    warned(options, script, ("ending", &["exit", "5"]), 4, &["fault_never_fired"]);
}

/// Otherwise the author would look for the reason in the program.
#[test]
fn a_warning_has_precedence_over_a_difference() {
    let Some(run) = Run::new(&["--faults", "faults.toml"], LATE_FAULT) else { return };
    let (ran, json) = run.expecting("other\n").run("receive", &["recv"]);
    assert_eq!((ran.code, &json["expect"]["result"]), (Some(9), &json!("differs")), "{ran:#?}");
}

#[test]
fn a_run_without_warnings_succeeds() {
    let script = "[[fault]]\nat = 2\noverrun = 3\n";
    let Some(run) = Run::new(&["--faults", "faults.toml", "--kind", "fork,exec,exit"], script) else {
        return;
    };
    let (ran, json) = run.run("receive", &["recv"]);
    let received = ran.out.lines().filter(|line| !["ack", "nobufs"].contains(line)).count();
    let (ran, json) = (run.expecting(&ran.out).run("receive", &["recv"]), json);
    assert_eq!(ran.0.code, Some(0), "{:#?}", ran.0);
    let socket = json!({
        "bound": true, "subscribed": true, "events_received": received, "acknowledgements_received": 1,
        "others_received": 0, "overruns": 1, "drops": 3,
    });
    for (name, value) in socket.as_object().unwrap() {
        assert_eq!(&json[name], value, "{name}");
    }
    assert_eq!(json["sockets"], json!([socket]));
    let expected = json!({
        "args": ["recv"], "exit_code": 0, "signal": null, "ended": "at_end", "sent_signal": 2,
        "sockets_opened": 1, "events_happened": received, "is_complete": true, "damaged": false,
        "warnings": [], "expect": null,
        "selection": {
            "from_mono_ns": null, "to_mono_ns": null, "kind": ["fork", "exec", "exit"], "pid": [],
            "tree": null, "comm": null, "conditions": [],
        },
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&json[name], value, "{name}");
    }
    assert_eq!(json["faults"][0]["fired"], 1);
}

#[test]
fn the_summary_states_how_the_program_ended() {
    for (args, code, signal, ended, sent) in [
        (&["exit", "5"][..], Some(4), None, "exited", None),
        (&["crash", "5"], None, Some(11), "killed", None),
        (&["default"], None, Some(2), "at_end", Some(2)),
    ] {
        let Some(run) = Run::new(&[], "") else { return };
        let (_, json) = run.run("ending", args);
        let found = [&json["exit_code"], &json["signal"], &json["ended"], &json["sent_signal"]];
        assert_eq!(found, [&json!(code), &json!(signal), &json!(ended), &json!(sent)], "{args:?}");
    }
}

/// `docs/json.md` shows the summary of this run.
#[test]
fn the_documented_summary_is_that_of_a_run() {
    let documentation = include_str!("../../docs/json.md");
    let (_, example) = documentation.split_once("--json -- ./monitor -v`:\n\n```json\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let documented: Value = serde_json::from_str(example).unwrap();

    let script = "[[fault]]\nat = { kind = \"exec\" }\nlose = 1\n[[fault]]\nat = 1000\nlose = 1\n";
    let Some(run) = Run::new(&["--faults", "faults.toml"], script) else { return };
    fs::copy(run.replay.path("receive"), run.replay.file("monitor")).unwrap();
    let command = ("/bin/sh", &["-c", "exec ./monitor recv"]);
    let (ran, _) = run.run(command.0, command.1);
    let (_, mut json) = run.expecting(&ran.out).run(command.0, command.1);
    json["program"] = json!("./monitor");
    json["args"] = json!(["-v"]);
    for name in ["elapsed_ns", "socket_kind", "fallback"] {
        json[name] = documented[name].clone();
    }
    assert_eq!(documented, json, "{json:#}");
}
