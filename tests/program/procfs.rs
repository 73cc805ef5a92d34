//! Programs find the recorded processes in `/proc` and by system calls, as of the last event
//! received.

use crate::harness::ProgramReplay;
use crate::support::START_REAL;
use crate::test_capture::{MISSED, SHELL, TestCapture};

/// The output of the client `proc_paths`: what each path into `/proc` leads to.
pub(crate) const PROC_PATHS: &str = "\
    open: sleep\n\
    its files: yes\n\
    slashes and dots: sleep\n\
    task: sleep\n\
    pread: yes\n\
    read again: yes\n\
    stdio: yes\n\
    stat: yes\n\
    lstat: yes\n\
    statfs: yes\n\
    access: yes\n\
    missing process: yes\n\
    tasks: yes\n\
    openat /proc: sleep\n\
    openat: sleep\n\
    openat of a duplicate: sleep\n\
    openat of O_PATH: sleep\n\
    chdir: sleep\n\
    fchdir: sleep\n\
    fchdir back: yes\n\
    readlinkat: yes\n\
    exe: /sleep\n\
    fstat: yes\n\
    fstatat: yes\n\
    fdopendir: yes\n\
    many files: yes\n\
    inodes: yes\n\
    link: yes\n\
    not writable by its link: yes\n\
    fstatfs: yes\n\
    empty path: yes\n\
    no empty path: yes\n\
    dot dot after a link: yes\n\
    not a directory: yes\n\
    no leading zero: yes\n\
    not a link: yes\n\
    short buffer: yes\n\
    uptime: yes\n\
    pid_max: yes\n\
    cpu: yes\n\
    memory: yes\n\
    self: proc_paths\n\
    thread-self: proc_paths\n\
    own files: yes\n\
    no /proc in another root: yes\n";

/// The output of the client `proc_details`, without the time.
pub(crate) const PROC_DETAILS: &[&str] = &[
    "ids are sorted: yes",
    "no hidden entry: yes",
    "directory: yes",
    "relative to the root: yes",
    "through dot dot: yes",
    "a file through a link: yes",
    "openat of the root: yes",
    "no new file: yes",
    "no new directory: yes",
    "no file is removed: yes",
    "no directory is removed: yes",
    "no file is renamed: yes",
    "files are unchanged: yes",
    "oom_score_adj is written: yes",
    "affinity: yes",
    "limits: yes",
    "scheduler: yes",
    "signal with a value: yes",
    "signal by directory: yes",
];

/// Splits the output of the client `proc_details` into its lines and the time.
pub(crate) fn parse_details(printed: &str) -> (Vec<&str>, i64) {
    let (since, lines): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.starts_with("since "));
    (lines, since[0]["since ".len()..].parse().unwrap())
}

#[test]
fn proc_behaves_like_the_kernels_and_is_read_only() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("proc_details", &["infinity"]).expect(0);
    let (lines, since) = parse_details(&ran.out);
    assert_eq!(lines, PROC_DETAILS);
    // The capture is shorter than a second.
    assert_eq!(since, START_REAL / 1_000_000_000);
}

#[test]
fn every_path_into_proc_leads_to_the_process() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    assert_eq!(replay.client("proc_paths", &["infinity"]).expect(0).out, PROC_PATHS);
}

#[test]
fn proc_shows_the_recorded_processes() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("proc_of_execs", &[]).expect(0);
    let mut expected: Vec<_> = capture
        .programs()
        .iter()
        .map(|program| {
            let (pid, comm, args, exe) = (program.pid, program.comm, program.args, program.exe);
            format!(
                "exec {pid} {comm} [{args}] {exe} {} ppid {} uid {}",
                program.cwd, program.ppid, program.uid
            )
        })
        .collect();
    expected.insert(expected.len() - 1, format!("exec {MISSED}  []   ppid -1 uid -1"));
    expected.push(format!("others {}", capture.final_processes()));
    expected.extend(["self: yes", "own entry: yes", "own stat: yes", "own cmdline: yes"].map(str::to_owned));
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), expected, "{}", ran.err);
}

#[test]
fn recorded_processes_exist_until_they_exit() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.client("process_calls", &[]).expect(0);
    let lines: Vec<_> =
        ran.out.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).collect();
    let forked = capture.forked();
    let (at_fork, at_end) = lines.split_at(forked.len().min(lines.len()));
    let expected_at_fork: Vec<_> = forked
        .iter()
        .map(|(pid, _)| format!("{pid} exists group {SHELL} session {SHELL} pidfd exists"))
        .collect();
    let expected_at_end: Vec<_> = forked
        .iter()
        .map(|(pid, lasts)| {
            let [found, pidfd] = if *lasts { ["exists", "running"] } else { ["ESRCH", "ended"] };
            format!("{pid} {found} pidfd {pidfd} {found}")
        })
        .collect();
    assert_eq!(at_fork, expected_at_fork, "{ran:#?}");
    assert_eq!(at_end, expected_at_end, "{ran:#?}");
    assert_eq!(ran.out.lines().last(), Some("self exists"));
}

#[test]
fn with_proc_real_no_recorded_process_is_found() {
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture).map(|replay| replay.with(&["--proc", "real"])) else {
        return;
    };
    let ran = replay.client("proc_of_execs", &[]).expect(0);
    let execs: Vec<_> = ran.out.lines().filter(|line| line.starts_with("exec")).collect();
    assert_eq!(execs.len(), capture.programs().len() + 1);
    assert!(execs.iter().all(|line| line.ends_with("ppid -1 uid -1")), "{execs:#?}");
}
