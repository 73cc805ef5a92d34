//! Tests outputs that are full, closed, or without a reader.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::live::*;
use crate::support::*;

/// Runs `pmon` with a reader that takes `bytes` bytes of its standard output and closes the pipe.
fn read_some(args: &[&str], bytes: usize) -> RunOutput {
    let mut command = command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command);
    child.stdout.take().expect("a pipe").read_exact(&mut vec![0; bytes]).expect("the bytes");
    RunOutput::new(child.wait_with_output().expect("pmon ends"))
}

/// Writes a synthetic capture that is larger than the buffer of a pipe.
fn long_capture(dir: &Dir) -> String {
    let file = arg(&dir.path("long.pmon"));
    pmon(&["synth", "-q", "-n", "60K", "-o", &file]).expect(0);
    file
}

#[test]
fn a_closed_pipe_is_an_error_for_captures_but_not_for_text() {
    let dir = Dir::new();
    let file = long_capture(&dir);
    for args in [&["synth", "-n", "60K", "-o", "-"][..], &["replay", &file, "--record", "-"]] {
        let ran = read_some(args, 100).expect(7);
        assert!(ran.err.contains("closed it before the end of the capture"), "{}", ran.err);
    }
    for args in [&["print", &file][..], &["replay", &file], &["replay", &file, "--speed", "100000x"]] {
        assert_eq!(read_some(args, 100).expect(0).err, "");
    }
    // The exit code has the verdict even if no process reads the output.
    let torn = dir.file("torn.pmon", &capture(&git_status_records()[..5], 5));
    for args in [&["verify", &torn][..], &["verify", "--json", &torn], &["diff", &file, &torn]] {
        let code = pmon(args).code.expect("an exit code");
        assert_ne!(code, 0);
        read_some(args, 0).expect(code);
    }
}

#[test]
fn a_closed_pipe_is_an_error_for_record_but_not_for_watch() {
    if !can_record() {
        return;
    }
    for args in
        [&["record", "--for", "25s", "-o", "-"][..], &["record", "-q", "--strict", "--for", "25s", "-o", "-"]]
    {
        let began = Instant::now();
        let ran = read_some(args, 100).expect(7);
        assert!(ran.err.contains("the reader of standard output closed it"), "{}", ran.err);
        assert!(began.elapsed() < Duration::from_secs(20), "it noticed");
    }
    assert_eq!(read_some(&["watch", "--own", "--for", "25s"], 10).expect(0).err, "");
}

#[test]
fn a_full_or_closed_output_is_an_error_of_each_verb() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 5));
    let made = arg(&dir.path("made.pmon"));
    let again = arg(&dir.path("again.pmon"));
    let verbs: [&[&str]; 17] = [
        &[],
        &["--help"],
        &["--version"],
        &["record", "--help"],
        &["print", &file],
        &["ps", &file],
        &["tree", "--json", &file],
        &["why", &file, "10"],
        &["info", &file],
        &["info", "--json", &file],
        &["verify", "--json", &file],
        &["diff", &file, &file],
        &["replay", &file],
        &["replay", &file, "--force", "--json", "--record", &again],
        &["synth", "-n", "100", "--force", "--json", "-o", &made],
        &["synth", "-n", "100", "-o", "-"],
        &["replay", &file, "--record", "-"],
    ];
    for args in verbs {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut to_full = command(args);
        to_full.stdout(full).stderr(Stdio::piped());
        let mut to_nothing = Command::new("sh");
        to_nothing.args(["-c", "exec \"$0\" \"$@\" >&-", env!("CARGO_BIN_EXE_pmon")]).args(args);
        to_nothing.stderr(Stdio::piped());
        for (command, why) in [(to_full, "o space left"), (to_nothing, "Bad file descriptor")] {
            let ran = RunOutput::new(start(command).wait_with_output().expect("pmon ends")).expect(7);
            assert!(ran.err.contains(why) && ran.err.lines().count() == 1, "{args:?}: {}", ran.err);
        }
    }
}

#[test]
fn a_limit_on_file_sizes_is_named_if_the_file_exceeds_it() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 5));
    let limited = |blocks: u32, args: &str| {
        let script = format!("ulimit -f {blocks}; exec '{}' {args}", env!("CARGO_BIN_EXE_pmon"));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(dir.path(""));
        run(command)
    };
    limited(64, "synth -q -n 500 -o fits.pmon").expect(0);
    assert_eq!(
        pmon(&["verify", "--json", &arg(&dir.path("fits.pmon"))]).expect(0).json()["verdict"],
        "complete"
    );
    for verb in ["synth -q -n 60K -o not.pmon", "replay fits.pmon --record not.pmon"] {
        let ran = limited(1, verb).expect(7);
        assert!(ran.err.contains("the limit on file sizes (ulimit -f), "), "{}", ran.err);
        assert!(ran.err.contains("no record was kept"), "{}", ran.err);
        assert!(!dir.path("not.pmon").exists());
        let _ = fs::remove_file(dir.path("not.pmon.partial"));
    }
    let ran = limited(0, &format!("print {file} > printed")).expect(7);
    assert!(ran.err.contains("File too large"), "{}", ran.err);
}

#[test]
fn a_recording_needs_no_journal_under_a_limit_on_file_sizes() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    let script = format!(
        "ulimit -f 8192; exec '{}' record -q -o x.pmon -- sh -c 'sleep 0.3'",
        env!("CARGO_BIN_EXE_pmon")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(dir.path(""));
    run(command).expect(0);
    assert_eq!(
        pmon(&["verify", "--json", &arg(&dir.path("x.pmon"))]).expect(0).json()["verdict"],
        "complete"
    );
}

#[test]
fn waiting_for_the_reader_of_a_fifo_ends_in_time_or_by_a_signal() {
    let dir = Dir::new();
    let fifo = arg(&dir.path("fifo"));
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let began = Instant::now();
    let ran = pmon(&["record", "--for", "100ms", "-o", &fifo]).expect(7);
    assert!(ran.err.contains("no process reads the FIFO"), "{}", ran.err);
    assert!(began.elapsed() < Duration::from_secs(20));
    let file = dir.file("x.pmon", &capture(&git_status_records(), 5));
    for args in [&["record", "-o", &fifo][..], &["synth", "-o", &fifo], &["replay", &file, "--record", &fifo]]
    {
        for signal in [Signal::INT, Signal::TERM] {
            let mut command = command(args);
            command.stderr(Stdio::piped());
            let child = start(command);
            // The open of the FIFO is not observable from outside, so give pmon some time to get
            // there.
            thread::sleep(Duration::from_millis(200));
            send(&child, signal);
            // `start` kills a program that still waits, with SIGKILL.
            let status = child.wait_with_output().expect("pmon ends").status;
            use std::os::unix::process::ExitStatusExt as _;
            assert_ne!(status.signal(), Some(9), "{args:?}");
            assert!(!status.success(), "{args:?}");
        }
    }
    assert!(fs::metadata(&fifo).expect("the FIFO").file_type().is_fifo());
}

#[test]
fn a_default_name_is_always_a_new_file() {
    if !can_record() {
        return;
    }
    let dir = Dir::new();
    fs::set_permissions(dir.path(""), PermissionsExt::from_mode(0o777)).expect("open to all");
    let victim = dir.file("victim", b"precious");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    let host: String = host
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    // Occupy all default names of the next seconds, with each type of file that a user can create.
    let script = "now=$(date +%s); n=0; while [ $n -lt 30 ]; do
        base=$1/pmon-$2-$(TZ=UTC date -d @$((now + n)) +%Y%m%d-%H%M%S)
        mkfifo $base.pmon $base-3.pmon.partial; mkdir $base-2.pmon; ln -s $1/victim $base-4.pmon.partial
        ln $1/victim $base-5.pmon; ln -s /dev/null $base-6.pmon; mkdir $base-7.pmon.partial
        mkfifo $base-8.pmon.partial $base-9.pmon; n=$((n + 1)); done";
    let made = Command::new("sh").args(["-c", script, "sh", &arg(&dir.path("")), &host]).status();
    assert!(made.expect("sh runs").success());
    let ran = {
        let mut command = command(&["record", "--json", "--for", "50ms"]);
        command.current_dir(dir.path(""));
        run(command).expect(0)
    };
    let file = ran.json()["file"].as_str().expect("a name").to_owned();
    let made = fs::symlink_metadata(dir.path(&file)).expect("the capture");
    assert!(made.is_file() && made.permissions().mode() & 0o777 == 0o600, "{made:?}");
    pmon(&["verify", &arg(&dir.path(&file))]).expect(0);
    assert_eq!(fs::read(victim).expect("the file"), b"precious");
}

#[test]
fn a_block_device_is_not_overwritten_without_force() {
    let devices = fs::read_dir("/dev").expect("/dev").flatten().map(|entry| entry.path());
    let is_block =
        |path: &std::path::PathBuf| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
    // A device without a medium: nothing is overwritten even if the check fails.
    let is_empty = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let size = std::path::Path::new("/sys/class/block").join(OsStr::from_bytes(name)).join("size");
        fs::read_to_string(size).is_ok_and(|size| size.trim() == "0")
    };
    let Some(device) = devices.into_iter().find(|path| is_block(path) && is_empty(path)) else {
        return skip("there is no block device without a medium");
    };
    let ran = pmon(&["synth", "-n", "100", "-o", &arg(&device)]).expect(7);
    assert!(ran.err.contains("is a block device") && ran.err.contains("--force"), "{}", ran.err);
}

/// A capture redirected into a file of limited size must be readable to its end.
#[test]
fn a_capture_redirected_into_a_full_file_ends_with_a_whole_block() {
    let dir = Dir::new();
    let out = dir.path("out.pmon");
    let script = format!("ulimit -f 400; exec '{}' synth -n 60K -o -", env!("CARGO_BIN_EXE_pmon"));
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdout(File::create(&out).expect("a file")).stderr(Stdio::piped());
    let ran = RunOutput::new(start(command).wait_with_output().expect("pmon ends")).expect(7);
    assert!(ran.err.contains("limit on file sizes"), "{}", ran.err);
    let info = pmon(&["info", "--json", &arg(&out)]).expect(0).json();
    assert_eq!((&info["clean_end"], &info["damage"]["parts"]), (&false.into(), &0.into()));
    assert!(Path::new(&out).metadata().expect("the file").len() > 1000);
}
