//! Tests recorders of a store: their options, signals and control socket.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::live::*;
use crate::support::*;

/// A running recorder of a store, whose messages the test reads.
struct StoreRecorder {
    child: Child,
    store: String,
    messages: Lines<BufReader<ChildStderr>>,
}

impl StoreRecorder {
    /// Starts a recorder, and waits until it records and states its transport.
    fn start(store: &str, options: &[&str]) -> Self {
        let mut command = command(&["record", "--store", store]);
        command.args(options);
        Self::start_command(command, store)
    }

    fn start_command(mut command: Command, store: &str) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = start(command);
        let messages = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut this = Self { child, store: store.to_owned(), messages };
        this.wait_for(" by r");
        this
    }

    /// Waits for a message that contains `text`.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let mut before = Vec::new();
        for message in self.messages.by_ref() {
            let message = message.expect("UTF-8");
            if message.contains(text) {
                return message;
            }
            before.push(message);
        }
        panic!("no message contains {text:?}: {before:#?}");
    }

    fn control(&self, request: &str) -> Value {
        pmon(&["control", request, "--store", &self.store, "--json"]).expect(0).json()
    }

    /// Sends a line to the control socket, and returns the first reply.
    fn raw(&self, line: &[u8]) -> Value {
        let mut stream = UnixStream::connect(format!("{}/.control", self.store)).expect("a socket");
        stream.write_all(line).expect("the recorder reads");
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).expect("a reply");
        serde_json::from_str(&reply).expect("JSON")
    }

    /// Sends a signal, and returns the exit code and the remaining messages.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        send(&self.child, signal);
        let messages: Vec<_> = self.messages.by_ref().map(|line| line.expect("UTF-8")).collect();
        (self.child.wait().expect("pmon ends").code(), messages.join("\n"))
    }
}

impl Drop for StoreRecorder {
    /// Ends the recorder of a test that has failed: it would record for ever.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether recorders of a store run here; skips the test otherwise.
pub(crate) fn can_record_to_a_store() -> bool {
    can_record()
}

#[test]
fn the_options_of_a_store_need_one_and_exclude_a_file() {
    for option in [
        &["--rotate-size", "1M"][..],
        &["--rotate-every", "1m"],
        &["--max-use", "1G"],
        &["--max-age", "1d"],
        &["--keep-free", "1G"],
        &["--flight", "5m"],
        &["--flight-memory", "16M"],
    ] {
        let err = pmon(&[&["record", "--for", "1ms"], option].concat()).expect(2).err;
        assert!(err.contains(&format!("{} needs --store DIR", option[0])), "{err}");
        let wrong = pmon(&["record", "--store", "/s", option[0], "x"]).expect(2).err;
        assert!(wrong.contains(option[0]), "{wrong}");
    }
    let err = pmon(&["record", "--store", "/s", "-o", "x.pmon"]).expect(2).err;
    assert!(err.contains("--store <DIR>") && err.contains("cannot be used with"), "{err}");
    pmon(&["record", "--store", "/s", "--force"]).expect(2);
    pmon(&["record", "--store", "/s", "--flight", "5m", "--max-age", "1h"]).expect(2);
    for (option, small) in [("--rotate-size", "64K"), ("--rotate-every", "10ms"), ("--max-use", "1K")] {
        assert!(pmon(&["record", "--store", "/s", option, small]).expect(2).err.contains("at least"));
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_with_the_reason() {
    let dir = Dir::new();
    let file = dir.file("file", b"precious");
    let record = |store: &str| pmon(&["record", "--store", store, "--for", "1ms"]).expect(7).err;
    let err = record(&file);
    assert!(err.contains("it is not a directory; name another one"), "{err}");
    assert_eq!(fs::read(&file).expect("the file"), b"precious");
    let err = record(&arg(&dir.path("a/b")));
    assert!(err.contains("create its parent directory first"), "{err}");
    let err = record("/proc/pmon");
    assert!(err.contains("cannot create the store /proc/pmon"), "{err}");
    if rustix::process::geteuid().is_root() {
        return;
    }
    fs::create_dir(dir.path("closed")).expect("a directory");
    fs::set_permissions(dir.path("closed"), fs::Permissions::from_mode(0o500)).expect("closed");
    let err = record(&arg(&dir.path("closed")));
    assert!(err.contains("run as its owner"), "{err}");
}

#[test]
fn a_recorder_creates_its_store_and_summarises_what_it_has_added() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let mut recorder = StoreRecorder::start(&store, &[]);
    assert_eq!(fs::metadata(&store).expect("the store").permissions().mode() & 0o777, 0o700);
    let pid = run_true();
    send(&recorder.child, Signal::USR1);
    let report = recorder.wait_for(" queue ");
    assert!(report.contains("recording") && report.contains(" segment"), "{report}");
    let status = recorder.control("status");
    assert_eq!((&status["reply"], &status["version"]), (&json!("status"), &json!(1)));
    assert_eq!((&status["pid"], &status["mode"]), (&json!(recorder.child.id()), &json!("store")));
    assert_eq!(status["limits"]["rotate_size_bytes"], 64 << 20);
    let text = pmon(&["control", "status", "--store", &store]).expect(0).out;
    assert!(text.contains("ring") || text.contains("recvmmsg"), "{text}");
    let (code, messages) = recorder.end(Signal::INT);
    assert_eq!(code, Some(0), "{messages}");
    for expected in ["events in", "lost ", "segment", "pmon print", "pmon verify"] {
        assert!(messages.contains(expected), "{expected}: {messages}");
    }
    assert!(!dir.path("store/.control").exists());
    let forks = pmon(&["print", &store, "--pid", &pid.to_string(), "--format", "json"]).expect(0);
    assert_eq!(kinds_of(&forks.json_lines(), pid), ["fork", "exec", "exit"]);
}

#[test]
fn a_recorder_of_a_store_ends_with_its_command_and_its_time() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    pmon(&["record", "--store", &store, "-q", "--", "sh", "-c", "exit 5"]).expect(5);
    pmon(&["record", "--store", &store, "-q", "--", "/nowhere/program"]).expect(127);
    let ran = pmon(&["record", "--store", &store, "--json", "--for", "100ms"]).expect(0);
    let summary = ran.json();
    assert!(summary["segments"].as_u64() >= Some(1) && summary["lost"]["total"] == 0, "{summary:#}");
    assert!(summary["used_bytes"].as_u64() > Some(0), "{summary:#}");
}

#[test]
fn a_second_recorder_is_refused_and_does_not_disturb_the_first() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let recorder = StoreRecorder::start(&store, &[]);
    let err = pmon(&["record", "--store", &store, "--for", "1s"]).expect(7).err;
    assert!(err.contains("another recorder") && err.contains(&recorder.child.id().to_string()), "{err}");
    assert_eq!(recorder.control("status")["pid"], recorder.child.id());
    assert_eq!(recorder.end(Signal::TERM).0, Some(0));
}

#[test]
fn a_recorder_waits_a_moment_for_the_lock_of_one_that_is_ending() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path(""));
    let lock = fs::File::create(dir.path(".lock")).expect("a lock");
    lock.lock().expect("the lock");
    let ending = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(150));
        drop(lock);
    });
    pmon(&["record", "--store", &store, "-q", "--for", "10ms"]).expect(0);
    ending.join().expect("no panic");
}

#[test]
fn sighup_and_reload_apply_limits_and_name_what_needs_a_restart() {
    if !can_record_to_a_store() || is_ignored(Signal::HUP) {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let config = dir.file("pmon.toml", b"max-use = \"1G\"\n");
    let mut recorder = StoreRecorder::start(&store, &["--config", &config, "--keep-free", "1M"]);
    let limits = |recorder: &StoreRecorder| recorder.control("status")["limits"].clone();
    assert_eq!(limits(&recorder)["max_use_bytes"], 1 << 30);

    dir.file("pmon.toml", b"max-use = \"2G\"\nkeep-free = \"5M\"\nring = \"1M\"\n");
    send(&recorder.child, Signal::HUP);
    let message = recorder.wait_for("reloaded");
    assert!(message.contains("changed max-use") && message.contains("ring need a restart"), "{message}");
    assert_eq!(limits(&recorder)["max_use_bytes"], 2_u64 << 30);
    assert_eq!(limits(&recorder)["keep_free_bytes"], 1 << 20, "a flag beats the file");

    // A broken file changes nothing.
    dir.file("pmon.toml", b"max-use = \"3G\"\nnonsense = 1\n");
    send(&recorder.child, Signal::HUP);
    let message = recorder.wait_for("not reloaded");
    assert!(message.contains("pmon.toml:2: there is no option `nonsense`"), "{message}");
    let ran = pmon(&["control", "reload", "--store", &store]).expect(1);
    assert!(ran.err.contains("stays in force") && ran.err.contains("nonsense"), "{ran:?}");
    assert_eq!(limits(&recorder)["max_use_bytes"], 2_u64 << 30);

    dir.file("pmon.toml", b"max-use = \"4G\"\n");
    let reply = recorder.control("reload");
    assert_eq!(reply["changed"], json!(["max-use"]), "{reply:#}");
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
}

#[test]
fn a_sighup_that_was_ignored_at_the_start_stays_ignored() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let mut command = Command::new("env");
    command.args(["--ignore-signal=HUP", env!("CARGO_BIN_EXE_pmon"), "record", "--store", &store]);
    let recorder = StoreRecorder::start_command(command, &store);
    send(&recorder.child, Signal::HUP);
    assert_eq!(recorder.control("status")["pid"], recorder.child.id());
    let (code, messages) = recorder.end(Signal::INT);
    assert!(code == Some(0) && !messages.contains("reloaded"), "{messages}");
}

#[test]
fn clients_that_break_the_protocol_are_answered_and_do_not_disturb() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let recorder = StoreRecorder::start(&store, &[]);
    for line in [&b"\xff\xff\n"[..], b"{}\n", b"{\"request\":\"status\",\"x\":1}\n", b"\n"] {
        let reply = recorder.raw(line);
        assert_eq!((&reply["reply"], &reply["code"]), (&json!("error"), &json!("bad_request")), "{reply}");
    }
    let reply = recorder.raw(b"{\"request\":\"snapshot\",\"name\":\"../x\"}\n");
    assert_eq!(reply["code"], "bad_request", "{reply}");
    let mut silent = UnixStream::connect(format!("{store}/.control")).expect("a socket");
    silent.write_all(b"{\"request\"").expect("the recorder reads");
    assert_eq!(recorder.control("status")["lost"]["total"], 0);
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

#[test]
fn without_a_recorder_clients_state_what_is_missing() {
    let dir = Dir::new();
    let store = arg(&dir.path(""));
    for verb in [&["snapshot"][..], &["control", "status"], &["control", "upgrade"]] {
        let ran = pmon(&[verb, &["--store", &store]].concat()).expect(6);
        assert!(ran.err.contains("no recorder of") && ran.err.contains("pmon record --store"), "{ran:?}");
        let ran = pmon(&[verb, &["--store", "/nowhere"]].concat()).expect(6);
        assert!(ran.err.contains("cannot find the store /nowhere"), "{ran:?}");
    }
    pmon(&["control", "explode"]).expect(2);
    pmon(&["snapshot", "--before", "soon"]).expect(2);
}

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

#[test]
fn clips_are_written_on_request_and_by_a_signal() {
    if !can_record_to_a_store() {
        return;
    }
    for options in [&[][..], &["--flight", "5m"]] {
        let dir = Dir::new();
        let store = arg(&dir.path("store"));
        let mut recorder = StoreRecorder::start(&store, options);
        let pid = run_true();
        let snapshot = ["snapshot", "--store", &store, "--before", "1s", "--after", "0s", "--name", "crash"];
        let ran = pmon(&[&snapshot[..], &["--json"]].concat());
        let clip = ran.json();
        assert!(matches!(ran.code, Some(0 | 3)), "{ran:?}");
        let path = clip["path"].as_str().expect("a path");
        assert!(path.starts_with(&store) && path.contains("crash"), "{clip:#}");
        let out = pmon(&["print", path, "--pid", &pid.to_string(), "--format", "json"]).expect(0);
        assert_eq!(kinds_of(&out.json_lines(), pid), ["fork", "exec", "exit"]);
        let text = pmon(&snapshot).out;
        assert!(text.lines().count() == 2 && text.contains("event"), "{text}");

        send(&recorder.child, Signal::USR2);
        // The request of the signal is still pending at the end; its clip is written then.
        let reply = recorder.raw(b"{\"request\":\"status\"}\n");
        assert_eq!(reply["reply"], "status", "{reply}");
        let (code, messages) = recorder.end(Signal::INT);
        assert_eq!(code, Some(0), "{messages}");
        assert!(messages.contains("clip ") && messages.contains("snapshot"), "{messages}");
        recorder = StoreRecorder::start(&store, options);
        assert_eq!(recorder.end(Signal::INT).0, Some(0));
    }
}

#[test]
fn a_trigger_writes_a_clip_and_a_reload_replaces_it() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let trigger = |name: &str, signal: &str| {
        let text = format!(
            "[[trigger]]\nname = \"{name}\"\nkind = \"exit\"\nsignal = \"{signal}\"\ncomm = \"sh\"\nbefore = \"5s\"\nafter = \"100ms\"\n"
        );
        dir.file("pmon.toml", text.as_bytes())
    };
    let config = trigger("crash", "SIGSEGV");
    let mut recorder = StoreRecorder::start(&store, &["--config", &config]);
    let crash = |signal: &str| {
        let mut child =
            // Without the ring, the name of a program that ends at once is unknown.
            Command::new("sh").args(["-c", &format!("sleep 0.2; kill -{signal} $$")]).spawn().expect("sh runs");
        child.wait().expect("it ends");
        u64::from(child.id())
    };
    let pid = crash("SEGV");
    let fired = recorder.wait_for("trigger crash fired");
    assert!(fired.contains(&format!("process {pid} (sh)")), "{fired}");
    let clip = recorder.wait_for("clip ");
    let path = clip.split(&[' ', ':'][..]).find(|word| word.starts_with(&store)).expect("a path");
    let out = pmon(&["print", path, "--pid", &pid.to_string(), "--format", "json"]).expect(0);
    let mut kinds = kinds_of(&out.json_lines(), pid);
    // The system may write a core dump.
    kinds.retain(|kind| kind != "coredump");
    assert_eq!(kinds, ["fork", "exec", "exit"]);

    trigger("abort", "SIGABRT");
    let reply = recorder.control("reload");
    assert_eq!((&reply["triggers"], &reply["changed"]), (&json!(1), &json!([])), "{reply:#}");
    let pid = crash("ABRT");
    let fired = recorder.wait_for("trigger abort fired");
    assert!(fired.contains(&pid.to_string()), "{fired}");
    let triggers = recorder.control("status")["triggers"].clone();
    assert_eq!((&triggers[0]["name"], &triggers[0]["fired"]), (&json!("abort"), &json!(1)), "{triggers:#}");
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
}

#[test]
fn firings_within_a_clip_are_counted_and_printed_as_one() {
    if !can_record_to_a_store() {
        return;
    }
    let dir = Dir::new();
    let store = arg(&dir.path("store"));
    let text =
        "[[trigger]]\nname = 'often'\nexit_code = 113\nbefore = '1s'\nafter = '400ms'\nlimit = '2/h'\n";
    let config = dir.file("pmon.toml", text.as_bytes());
    let mut recorder = StoreRecorder::start(&store, &["--config", &config]);
    let run = || assert_eq!(Command::new("sh").args(["-c", "exit 113"]).status().unwrap().code(), Some(113));
    (0..300).for_each(|_| run());
    let mut messages = Vec::new();
    let clip = loop {
        let message = recorder.messages.next().expect("a message").expect("UTF-8");
        if message.contains("clip ") {
            break message;
        }
        messages.push(message);
    };
    assert!(clip.ends_with("; 299 more firings of trigger often"), "{clip}");
    assert!(matches!(&messages[..], [fired] if fired.contains("trigger often fired")), "{messages:?}");
    let counts = |recorder: &StoreRecorder| trigger_counts(&recorder.control("status"));
    assert_eq!(counts(&recorder), [1, 299, 0, 0]);
    run();
    wait_until(|| counts(&recorder) == [2, 299, 0, 0]);
    recorder.wait_for("clip ");
    run();
    wait_until(|| counts(&recorder) == [2, 299, 1, 0]);
    let text = pmon(&["control", "status", "--store", &store]).expect(0).out;
    assert!(text.contains("often: 2 clips, 299 more within them, 1 suppressed by the limit"), "{text}");
    assert_eq!(recorder.end(Signal::INT).0, Some(0));
    let clips = fs::read_dir(&store).expect("a store").map(|entry| arg(&entry.expect("a file").path()));
    let clips: Vec<_> = clips.filter(|path| path.ends_with("-often.clip.pmon")).collect();
    assert_eq!(clips.len(), 2, "{clips:?}");
}

/// Returns the counts of the only trigger: clips, merged, suppressed and dropped firings.
fn trigger_counts(status: &Value) -> [u64; 4] {
    ["fired", "merged", "suppressed", "dropped"]
        .map(|key| status["triggers"][0][key].as_u64().expect("a number"))
}
