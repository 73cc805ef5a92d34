//! Tests `pmon watch` on the running kernel.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::live::*;
use crate::support::*;

/// Starts `pmon watch`, and waits for a line with `ack`, which shows that it is subscribed.
fn watch(args: &[&str], ack: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = command(&[&["watch"], args].concat());
    command.stdout(Stdio::piped());
    let mut child = start(command);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains(ack) {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a line") > 0, "it has ended");
    }
    (child, lines)
}

#[test]
fn events_are_shown_with_details_while_they_happen() {
    if !can_record() {
        return;
    }
    let (mut child, mut lines) = watch(&["--format", "json", "--kind", "ack,exec"], "\"ack\"");
    // The program runs long enough for its details to be read.
    let mut sleep = std::process::Command::new("/bin/sleep").arg("0.123").spawn().expect("it runs");
    let exec = loop {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        if line["pid"] == sleep.id() {
            break line;
        }
    };
    assert_eq!((&exec["args"], &exec["comm"]), (&json!(["/bin/sleep", "0.123"]), &json!("sleep")));
    assert_eq!(exec["ppid"], std::process::id());
    sleep.wait().expect("it ends");
    // A closed pipe ends pmon without an error.
    drop(lines);
    run_true();
    assert_eq!(child.wait().expect("pmon ends").code(), Some(0));
}

#[test]
fn watch_and_print_show_the_same_classic_lines() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let (mut child, mut lines) = watch(&["--format", "classic"], "set mcast listen ok\n");
    let recorder = Recorder::start(&dir);
    let file = recorder.file.clone();
    let pids: Vec<u64> = (0..5).map(|_| run_true()).collect();
    recorder.end(Signal::INT).expect(0);
    send(&child, Signal::INT);
    let mut live = String::new();
    lines.read_to_string(&mut live).expect("text");
    assert_eq!(child.wait().expect("pmon ends").code(), Some(0));
    let printed = pmon(&["print", &file, "--format", "classic"]).expect(0).out;
    for pid in pids {
        let of = |text: &str| {
            let is_of = |line: &&str| line.split(' ').any(|word| word == format!("pid={pid}"));
            text.lines().filter(is_of).map(str::to_owned).collect::<Vec<_>>()
        };
        let task = format!("tid={pid} pid={pid}");
        let me = std::process::id();
        let (live, printed) = (of(&live), of(&printed));
        assert_eq!(live, printed);
        assert_eq!(live.len(), 3, "{live:?}");
        assert!(
            live[0].starts_with("fork: parent ") && live[0].contains(&format!(" pid={me} -> child {task}"))
        );
        assert_eq!(live[1..], [format!("exec: {task}"), format!("exit: {task} exit_code=0")]);
    }
}
