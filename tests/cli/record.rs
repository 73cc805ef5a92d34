//! Tests `pmon record` on the running kernel.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::live::*;
use crate::support::*;

/// Records `command` to a file in `dir`, and returns the file.
fn record(dir: &Dir, command: &[&str], code: i32) -> (String, RunOutput) {
    let file = arg(&dir.path("x.pmon"));
    let ran = pmon(&[&["record", "-o", &file, "--"], command].concat()).expect(code);
    (file, ran)
}

#[test]
fn the_status_of_a_recorded_command_is_passed_on() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let (file, ran) = record(&dir, &["sh", "-c", "/bin/sleep 0.5; exit 3"], 3);
    assert!(ran.err.contains("exit 3") && ran.err.contains("pmon tree"), "{}", ran.err);
    let lines = json_of(&file);
    let shell = lines.iter().find(|line| line["args"] == json!(["sh", "-c", "/bin/sleep 0.5; exit 3"]));
    let shell = shell.expect("the shell's exec");
    assert_eq!((&shell["kind"], &shell["comm"]), (&json!("exec"), &json!("sh")));
    let pid = shell["pid"].as_u64().expect("a pid");
    assert_eq!(kinds_of(&lines, pid), ["fork", "exec", "exit"]);
    let exit = lines.iter().find(|line| line["kind"] == "exit" && line["pid"] == pid).expect("its exit");
    assert_eq!((&exit["exit_code"], &exit["status"]), (&json!(3 << 8), &json!("exit 3")));
    assert_eq!(exit["parent_pid"], shell["ppid"]);
    let sleep = lines.iter().find(|line| line["args"] == json!(["/bin/sleep", "0.5"])).expect("its child");
    assert_eq!(sleep["ppid"], pid);
    assert_eq!(Path::new(&file).metadata().expect("the file").permissions().mode() & 0o777, 0o600);
}

#[test]
fn every_short_lived_process_is_recorded_and_counted() {
    const RUNS: u64 = 200;
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let script = format!("i=0; while [ $i -lt {RUNS} ]; do /bin/true; i=$((i+1)); done; echo $$");
    let (file, ran) = record(&dir, &["sh", "-c", &script], 0);
    let shell: u64 = ran.out.trim().parse().expect("the shell's pid");
    let info = pmon(&["info", &file, "--json"]).expect(0).json();
    assert_eq!((&info["lost"]["total"], &info["clean_end"]), (&json!(0), &json!(true)), "{info:#}");
    let lines = json_of(&file);
    let children = lines.iter().filter(|line| line["kind"] == "fork" && line["pid"] == shell);
    let children: Vec<u64> = children.map(|line| line["child_pid"].as_u64().expect("a pid")).collect();
    assert_eq!(children.len() as u64, RUNS);
    for child in children {
        assert_eq!(kinds_of(&lines, child), ["fork", "exec", "exit"]);
    }
    for (kind, count) in info["events"]["by_kind"].as_object().expect("kinds") {
        let printed = lines.iter().filter(|line| line["kind"] == kind.as_str()).count();
        assert_eq!(count, printed, "{kind}");
    }
    let execs = lines.iter().filter(|line| line["kind"] == "exec").count();
    let details = |name: &str| info["details"][name].as_u64().expect("a count");
    assert_eq!(details("known") + details("missed"), execs as u64);
}

#[test]
fn exit_codes_of_killed_and_missing_commands_are_those_of_shells() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    record(&dir, &["sh", "-c", "kill -9 $$"], 128 + 9);
    let dir = Dir::new();
    let (file, ran) = record(&dir, &["/nowhere/program"], 127);
    assert!(ran.err.contains("cannot run /nowhere/program"), "{}", ran.err);
    let _ = record(&dir, &["/"], 126);
    assert!(!Path::new(&file).exists() && !Path::new(&format!("{file}.partial")).exists());
}

#[test]
fn a_failed_start_keeps_the_existing_capture() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let file = dir.file("x.pmon", b"precious");
    pmon(&["record", "-o", &file, "--", "/bin/true"]).expect(7);
    pmon(&["record", "--force", "-o", &file, "--", "/nowhere/program"]).expect(127);
    assert_eq!(std::fs::read(&file).expect("the file"), b"precious");
    // The file of a killed recorder is kept, too.
    let partial = dir.file("y.pmon.partial", b"evidence");
    let y = arg(&dir.path("y.pmon"));
    pmon(&["record", "--force", "-o", &y, "--", "/nowhere/program"]).expect(127);
    assert_eq!(std::fs::read(&partial).expect("the file"), b"evidence");
}

#[test]
fn a_second_recorder_cannot_use_the_same_file() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let first = Recorder::start(&dir);
    let file = first.file.clone();
    let ran = pmon(&["record", "--force", "-o", &file, "--for", "1ms"]).expect(7);
    assert!(ran.err.contains("another recorder"), "{}", ran.err);
    let pid = run_true();
    first.end(Signal::INT).expect(0);
    assert_eq!(kinds_of(&json_of(&file), pid), ["fork", "exec", "exit"]);
}

#[test]
fn two_simultaneous_signals_end_a_recording_cleanly() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let recorder = Recorder::start(&dir);
    let file = recorder.file.clone();
    send(&recorder.child, Signal::INT);
    recorder.end(Signal::TERM).expect(0);
    let info = pmon(&["info", &file, "--json"]).expect(0).json();
    assert_eq!(info["clean_end"], true);
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_the_command_finishes() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let script = format!(
        "ulimit -f 8; exec '{}' record -o '{file}' -- sh -c 'sleep 0.3; echo done'",
        env!("CARGO_BIN_EXE_pmon")
    );
    let ran = RunOutput::new(Command::new("sh").args(["-c", &script]).output().expect("sh runs")).expect(7);
    assert_eq!(ran.out, "done\n");
    assert!(ran.err.contains("the limit on file sizes (ulimit -f), 4096 bytes,"), "{}", ran.err);
    let partial = format!("{file}.partial");
    assert_eq!(pmon(&["verify", "--json", &partial]).expect(3).json()["verdict"], "unsealed");
}

#[test]
fn a_signal_ends_a_recording_cleanly() {
    if !can_record() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        if is_ignored(signal) {
            skip_part(&format!("{signal:?} is ignored, as nohup has it"));
            continue;
        }
        let dir = Dir::new();
        let recorder = Recorder::start(&dir);
        let file = recorder.file.clone();
        let pid = run_true();
        let ran = recorder.end(signal).expect(0);
        assert!(ran.err.contains("pmon print"), "{}", ran.err);
        assert_eq!(kinds_of(&json_of(&file), pid), ["fork", "exec", "exit"]);
        let info = pmon(&["info", &file, "--json"]).expect(0).json();
        assert_eq!(info["clean_end"], true);
        assert!(!Path::new(&format!("{file}.partial")).exists());
    }
}

#[test]
fn sigusr1_prints_the_status_line_even_with_quiet() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let mut recorder = Recorder::start_with(&dir, &["-q"]);
    let mut stderr = BufReader::new(recorder.child.stderr.take().expect("a pipe"));
    for _ in 0..2 {
        send(&recorder.child, Signal::USR1);
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        assert!(line.starts_with("pmon: recording "), "{line}");
        for part in [" events (", " lost, ", " queue ", ", lag "] {
            assert!(line.contains(part), "{line}");
        }
    }
    let file = recorder.file.clone();
    let pid = run_true();
    recorder.end(Signal::INT).expect(0);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "");
    assert_eq!(kinds_of(&json_of(&file), pid), ["fork", "exec", "exit"]);
}

#[test]
fn a_killed_recorder_loses_at_most_a_tenth_of_a_second() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let recorder = Recorder::start(&dir);
    let partial = format!("{}.partial", recorder.file);
    let pids: Vec<u64> = (0..20).map(|_| run_true()).collect();
    // The test allows more than the documented 100 ms, because the machine may be busy.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(recorder.end(Signal::KILL).code, None);
    let ran = pmon(&["print", &partial, "--format", "json"]).expect(0);
    assert!(ran.err.contains("not ended cleanly; complete up to"), "{}", ran.err);
    let lines = ran.json_lines();
    for pid in pids {
        assert_eq!(kinds_of(&lines, pid), ["fork", "exec", "exit"]);
    }
    let info = pmon(&["info", &partial, "--json"]).expect(0).json();
    assert_eq!((&info["clean_end"], &info["damage"]["parts"]), (&json!(false), &json!(0)));
}

#[test]
fn a_full_disk_keeps_the_written_part_and_lets_the_command_finish() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(dir.path("")).stderr(Stdio::null());
    if !mount.status().is_ok_and(|status| status.success()) {
        return skip("this user cannot mount a file system");
    }
    // Events that fit are written first; then incompressible command lines exceed the space.
    let script = "i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i+1)); done; sleep 0.4
        base64 -w 400 /dev/urandom | head -n 1000 | while read line; do /bin/true $line; done; echo done";
    let file = arg(&dir.path("x.pmon"));
    let ran = pmon(&["record", "-o", &file, "--", "sh", "-c", script]);
    let read = pmon(&["print", &format!("{file}.partial"), "--format", "json", "--kind", "exec"]);
    let verified = pmon(&["verify", "--json", &format!("{file}.partial")]);
    assert!(Command::new("umount").arg(dir.path("")).status().expect("umount runs").success());
    let ran = ran.expect(7);
    assert_eq!(ran.out, "done\n");
    assert!(ran.err.contains("no space left"), "{}", ran.err);
    assert!(read.out.lines().count() > 10, "{read:?}");
    // The blocks recorded before are whole, and no partial block remains.
    assert_eq!(verified.expect(3).json()["verdict"], "unsealed");
}

#[test]
fn a_capture_can_be_written_to_a_pipe_and_ends_if_it_is_closed() {
    if !can_record() {
        return;
    }
    let mut recorder = command(&["record", "--for", "10s", "-o", "-"]);
    recorder.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut recorder = start(recorder);
    let mut reader = {
        // The command keeps its end of the pipe open for as long as it lives.
        let mut command = command(&["print", "-", "--format", "json", "--kind", "ack"]);
        command.stdin(recorder.stdout.take().expect("a pipe")).stdout(Stdio::piped());
        start(command)
    };
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(reader.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut lines, &mut line).expect("a line, while it still records");
    assert!(line.contains("\"ack\""), "{line}");
    reader.kill().expect("it runs");
    reader.wait().expect("it ends");
    run_true();
    let began = Instant::now();
    let ran = RunOutput::new(recorder.wait_with_output().expect("pmon ends")).expect(7);
    assert!(ran.err.contains("closed it before the end of the capture"), "{}", ran.err);
    assert!(began.elapsed() < Duration::from_secs(8), "it noticed");
    pmon(&["record", "-o", "-", "--", "true"]).expect(2);
}

#[test]
fn a_capture_on_a_device_is_not_suggested_for_reading() {
    if !can_record() {
        return;
    }
    let ran = pmon(&["record", "--for", "50ms", "-o", "/dev/null"]).expect(0);
    assert!(ran.err.contains("/dev/null") && !ran.err.contains("pmon print"), "{}", ran.err);
}

#[test]
fn an_unprivileged_user_can_record_if_the_kernel_permits() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let program = dir.path("pmon");
    copy_program(env!("CARGO_BIN_EXE_pmon"), &program);
    std::fs::set_permissions(dir.path(""), PermissionsExt::from_mode(0o777)).expect("open to all");
    let mut command = Command::new(&program);
    command.args(["record", "-o", "x.pmon", "--", "/bin/sleep", "0.1"]).current_dir(dir.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let uid = unprivileged(&mut command);
    let ran = match try_start(command) {
        Ok(child) => RunOutput::new(child.wait_with_output().expect("pmon ends")),
        Err(error) => return skip(&format!("cannot become another user: {error}")),
    };
    if ran.code == Some(6) {
        return skip(&ran.err);
    }
    ran.expect(0);
    let lines = json_of(&arg(&dir.path("x.pmon")));
    let exec = lines.iter().find(|line| line["args"] == json!(["/bin/sleep", "0.1"])).expect("its own exec");
    assert_eq!(exec["uid"], uid);
}

#[test]
fn a_recorder_without_events_names_the_cause_in_time() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let causes: [(&[&str], &str); 3] = [
        (&["--net"], "network namespace"),
        (&["--pid", "--fork", "--kill-child"], "PID namespace"),
        (&["--user", "--map-root-user"], "user namespace"),
    ];
    for (options, cause) in causes {
        let works = Command::new("unshare").args(options).arg("true").stderr(Stdio::null()).status();
        if !works.is_ok_and(|status| status.success()) {
            skip_part(&format!("there are no new {cause}s for this user"));
            continue;
        }
        for verb in [&["record", "-o", &file][..], &["watch"]] {
            // The time that a successful recording takes on a machine as busy as this one.
            let began = Instant::now();
            pmon(&["record", "--for", "1ms", "-o", "/dev/null"]).expect(0);
            let otherwise = began.elapsed();
            let began = Instant::now();
            let mut command = Command::new("unshare");
            command.args(options).arg(env!("CARGO_BIN_EXE_pmon")).args(verb);
            let ran = run(command).expect(6);
            let took = began.elapsed();
            assert!(ran.err.contains(cause) && ran.err.lines().count() == 1, "{}", ran.err);
            assert!(took < Duration::from_secs(2) + 2 * otherwise, "{took:?}, otherwise {otherwise:?}");
            assert!(dir.is_empty());
        }
    }
}

#[test]
fn a_strict_recording_ends_with_3_if_it_is_incomplete_unless_the_command_fails() {
    if !can_record() {
        return;
    }
    // The recorder is stopped while more events happen than its buffer can hold.
    let storm = "i=0; while [ $i -lt 1500 ]; do (:); i=$((i+1)); done; kill -CONT $PPID";
    let record = |options: &[&str], script: &str| {
        let dir = Dir::new();
        let file = arg(&dir.path("x.pmon"));
        let script = format!("kill -STOP $PPID; {script}");
        let args = [&["record", "-q", "-o", &file], options, &["--", "sh", "-c", &script]];
        let code = pmon(&args.concat()).code;
        let found = pmon(&["verify", "--json", &file]).json();
        (code, found["verdict"].as_str().map(str::to_owned))
    };
    let small = &["--socket-buffer", "32K", "--ring", "4K"][..];
    let strict = [&["--strict"], small].concat();
    assert_eq!(record(&strict, storm), (Some(3), Some("lossy".into())));
    assert_eq!(record(small, storm), (Some(0), Some("lossy".into())));
    assert_eq!(record(&strict, &format!("{storm}; exit 9")), (Some(9), Some("lossy".into())));
    assert_eq!(record(&["--strict"], "kill -CONT $PPID"), (Some(0), Some("complete".into())));
}

#[test]
fn the_json_summary_equals_that_of_verify() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let file = arg(&dir.path("x.pmon"));
    let ran = pmon(&["record", "--json", "--for", "50ms", "-o", &file]).expect(0);
    assert_eq!(ran.err, "");
    let verified = pmon(&["verify", "--json", &file]).expect(0).json();
    let summary = ran.json();
    for (field, value) in verified.as_object().expect("an object") {
        assert_eq!(&summary[field], value, "{field}");
    }
    assert_eq!((&summary["file"], &summary["command_pid"]), (&json!(file), &json!(null)));
    // The command or the capture uses standard output.
    let ran = pmon(&["record", "--json", "--force", "-o", &file, "--", "echo", "hello"]).expect(0);
    assert_eq!(ran.out, "hello\n");
    let summary: serde_json::Value = serde_json::from_str(&ran.err).expect("JSON");
    assert_eq!(summary["verdict"], "complete");
    assert!(summary["command_pid"].is_u64());
}

#[test]
fn readable_details_are_recorded_if_others_are_denied() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let program = dir.path("sleep");
    copy_program("/bin/sleep", &program);
    // An ordinary user may not read the file or the working directory of a program that is
    // executable but not readable.
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o111)).expect("it is ours");
    let (program, file) = (arg(&program), arg(&dir.path("x.pmon")));
    let args = ["record", "--json", "--transport", "recvmmsg", "-o", &file, "--", &program, "0.2"];
    let Some(ran) = as_nobody(&dir, &args) else { return };
    if ran.code == Some(6) {
        return skip(&ran.err);
    }
    let ran = ran.expect(0);
    let details = serde_json::from_str::<serde_json::Value>(&ran.err).expect("JSON")["details"].take();
    let execs = json_of(&file);
    let exec =
        execs.iter().find(|line| line["args"] == json!([program, "0.2"])).expect("its arguments are known");
    assert_eq!((&exec["exe"], &exec["cwd"], &exec["missed"]), (&json!(null), &json!(null), &json!("denied")));
    assert!(exec["uid"].is_u64() && exec["comm"] == "sleep", "{exec}");
    let missing = details["missing"].as_array().expect("an array");
    for field in ["exe", "cwd"] {
        let is_it = |missing: &&serde_json::Value| missing["field"] == field && missing["why"] == "denied";
        assert!(
            missing.iter().find(is_it).is_some_and(|missing| missing["execs"].as_u64() >= Some(1)),
            "{details}"
        );
    }
    assert!(
        details["known"].as_u64() >= details["partial"].as_u64() && details["partial"].as_u64() >= Some(1)
    );
    let info = pmon(&["info", &file]).expect(0).out;
    let line = info.lines().find(|line| line.starts_with("details ")).expect("a line");
    assert!(line.contains("known (") && line.contains("exe and cwd of "), "{line}");
}
