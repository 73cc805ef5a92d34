//! Tests upgrades of the recorder of a store.

use super::*;

/// Fails the test unless a store is complete and has all events of programs that have ended.
#[track_caller]
fn check_complete(store: &str, pids: &[u64]) {
    for &pid in pids {
        let out = pmon(&["print", store, "--pid", &pid.to_string(), "--format", "json"]).expect(0);
        assert_eq!(kinds_of(&out.json_lines(), pid), ["fork", "exec", "exit"]);
    }
    let verdict = pmon(&["verify", store]).expect(0);
    assert!(verdict.out.contains("complete"), "{verdict:?}");
}

#[test]
fn an_upgrade_continues_in_the_same_process() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let mut recorder = StoreRecorder::start(&store, &[]);
    let before = recorder.control("status");
    let pid = run_true();
    let ran = pmon(&["control", "upgrade", "--store", &store]).expect(0);
    assert!(ran.out.contains(&format!("process {} runs pmon", recorder.child.id())), "{ran:?}");
    recorder.wait_for("continuing the recording to");
    let after = recorder.control("status");
    assert!(after["started_ns"].as_u64() > before["started_ns"].as_u64(), "{after:#}");
    let later = run_true();
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
    check_complete(&store, &[pid, later]);
}

#[test]
fn a_program_that_cannot_be_replaced_goes_on() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let (store, program) = (arg(&dir.path("store")), dir.path("pmon"));
    copy_program(env!("CARGO_BIN_EXE_pmon"), &program);
    let mut command = Command::new(&program);
    command.args(["record", "--store", &store]);
    let mut recorder = StoreRecorder::start_command(command, &store);
    fs::remove_file(&program).expect("the program's file");
    let ran = pmon(&["control", "upgrade", "--store", &store]).expect(1);
    assert!(
        ran.err.contains("could not be replaced, and goes on") && ran.err.contains("No such file"),
        "{ran:?}"
    );
    recorder.wait_for("this program goes on");
    let pid = run_true();
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
    check_complete(&store, &[pid]);
}

/// Replaces a program by a script.
fn replace_by_script(program: &std::path::Path, script: &str) {
    let new = program.with_extension("new");
    fs::write(&new, format!("#!/bin/sh\n{script}\n")).expect("a file");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("an executable file");
    fs::rename(&new, program).expect("the program's file");
}

#[test]
fn an_upgrade_to_a_program_that_does_not_start_is_refused() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let (store, program) = (arg(&dir.path("store")), dir.path("pmon"));
    let real = env!("CARGO_BIN_EXE_pmon");
    copy_program(real, &program);
    let config = dir.file("pmon.toml", b"quiet = false\n");
    let mut command = Command::new(&program);
    command.args(["record", "--store", &store, "--config", &config]);
    let recorder = StoreRecorder::start_command(command, &store);
    let mut pids = Vec::new();
    for (script, reason) in [
        ("exit 1", "is no pmon that runs here: `--version` ended with exit status: 1"),
        ("echo other 1.0", "is no pmon that runs here"),
        ("echo no such library >&2; exit 127", "exit status: 127: no such library"),
        (
            "case $1 in --version) echo pmon 0;; record) echo bad option >&2; exit 2;; esac",
            "refuses the command line: bad option",
        ),
        (
            "case $1 in config) echo bad key >&2; exit 2;; esac; echo pmon 0",
            "refuses the configuration: bad key",
        ),
    ] {
        replace_by_script(&program, script);
        let ran = pmon(&["control", "upgrade", "--store", &store]).expect(1);
        assert!(ran.err.contains("and this one goes on") && ran.err.contains(reason), "{script}: {ran:?}");
        pids.push(run_true());
    }
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
    check_complete(&store, &pids);
}

#[test]
fn an_upgrade_to_a_program_that_ends_is_reported_and_the_store_ends_where_the_recorder_did() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let (store, program, beside) = (arg(&dir.path("store")), dir.path("pmon"), arg(&dir.path("beside.pmon")));
    let real = env!("CARGO_BIN_EXE_pmon");
    copy_program(real, &program);
    let mut command = Command::new(&program);
    command.args(["record", "--store", &store]);
    let mut recorder = StoreRecorder::start_command(command, &store);
    let script = format!("case \"$*\" in *--version|*--help) exec {real} \"$@\";; esac; exit 3");
    replace_by_script(&program, &script);
    // Another recorder sees the forks of a storm that continues after the first one has ended.
    let storm = "import os, time\nend = time.time() + 3\nwhile time.time() < end:\n    \
                 pid = os.fork()\n    if pid == 0: os._exit(0)\n    os.waitpid(pid, 0)";
    let other = start(self::command(&["record", "-q", "-o", &beside, "--", "python3", "-c", storm]));
    std::thread::sleep(std::time::Duration::from_millis(700));
    let ran = pmon(&["control", "upgrade", "--store", &store]).expect(1);
    assert!(
        ran.err.contains("the new program has replaced the recorder") && ran.err.contains("and ended"),
        "{ran:?}"
    );
    assert_eq!(recorder.child.wait().expect("it has ended").code(), Some(3));
    assert_eq!(other.wait_with_output().expect("pmon").status.code(), Some(0));

    let verified = pmon(&["verify", &store, "--json"]).expect(0).json();
    let forks = |source: &str| -> std::collections::BTreeMap<(u64, u64), u64> {
        let lines = pmon(&["print", source, "--kind", "fork", "--format", "json"]).expect(0).json_lines();
        let number = |line: &Value, key: &str| line[key].as_u64();
        let forks = lines.iter().filter_map(|line| {
            Some(((number(line, "cpu")?, number(line, "seq")?), number(line, "mono_ns")?))
        });
        forks.collect()
    };
    let (stored, all) = (forks(&store), forks(&beside));
    let (first, last) = (*stored.values().min().expect("forks"), *all.values().max().expect("forks"));
    let until = verified["spans"][0]["until_mono_ns"].as_u64().unwrap_or_else(|| panic!("{verified:#}"));
    assert!(last > until, "the storm ended before the recorder: nothing is tested");
    // An event whose time precedes the end can be emitted after it, by the time of a preemption.
    let missing: Vec<_> = all
        .iter()
        .filter(|(number, time)| (first..until - 500_000).contains(*time) && !stored.contains_key(*number))
        .collect();
    assert!(missing.is_empty(), "the store is complete until {until}, without {missing:?}");
}

#[test]
fn a_recorder_with_an_end_refuses_an_upgrade() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let recorder = StoreRecorder::start(&store, &["--for", "10m"]);
    let reply = recorder.raw(b"{\"request\":\"upgrade\"}\n");
    assert_eq!((&reply["reply"], &reply["code"]), (&json!("error"), &json!("failed")), "{reply}");
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
}
