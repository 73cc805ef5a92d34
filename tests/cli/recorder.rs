//! Tests recorders of a store: their options, signals and control socket.

mod clips;
mod upgrade;

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
