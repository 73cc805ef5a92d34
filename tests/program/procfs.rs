//! Programs that ask about the processes of which they hear: they find those of the capture, as of that event.

use crate::day::{Day, MISSED, SHELL};
use crate::stage::Replay;
use crate::support::START_REAL;

/// What is at the end of each way into `/proc`.
pub(crate) const PATHS: &str = "\
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
    nobody: yes\n\
    tasks: yes\n\
    openat /proc: sleep\n\
    openat: sleep\n\
    openat of a copy: sleep\n\
    openat of a path: sleep\n\
    chdir: sleep\n\
    fchdir: sleep\n\
    and back: yes\n\
    readlinkat: yes\n\
    exe: /sleep\n\
    fstat: yes\n\
    fstatat: yes\n\
    fdopendir: yes\n\
    uptime: yes\n\
    pid_max: yes\n\
    cpu: yes\n\
    memory: yes\n\
    self: paths\n\
    thread-self: paths\n\
    own files: yes\n";

/// What is around a process, and what can be done to it, behind its name and the time since when it is there.
pub(crate) const AROUND: &[&str] = &[
    "numbers rise: yes",
    "nothing is hidden: yes",
    "its folder: yes",
    "from the root: yes",
    "by the parent: yes",
    "a file behind a link: yes",
    "from a folder: yes",
    "no new file: yes",
    "no new folder: yes",
    "no file is removed: yes",
    "no folder is removed: yes",
    "no file is renamed: yes",
    "it is all there: yes",
    "its score is written: yes",
    "affinity: yes",
    "limits: yes",
    "scheduler: yes",
    "signal with a value: yes",
    "signal to its folder: yes",
];

/// The lines of a client that says that, but for the time, which comes with them.
pub(crate) fn around(printed: &str) -> (Vec<&str>, i64) {
    let (since, lines): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.starts_with("since "));
    (lines, since[0]["since ".len()..].parse().unwrap())
}

#[test]
fn proc_is_as_the_kernel_has_it_and_stays_so() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("around", &["infinity"]).expect(0);
    let (lines, since) = around(&ran.out);
    assert_eq!(lines, AROUND);
    // The day is shorter than a second.
    assert_eq!(since, START_REAL / 1_000_000_000);
}

#[test]
fn every_way_into_proc_leads_there() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    assert_eq!(replay.client("paths", &["infinity"]).expect(0).out, PATHS);
}

#[test]
fn proc_is_that_of_the_capture() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("procfs", &[]).expect(0);
    let mut wanted: Vec<_> = day
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
    wanted.insert(wanted.len() - 1, format!("exec {MISSED}  []   ppid -1 uid -1"));
    wanted.push(format!("others {}", day.survivors()));
    wanted.extend(
        ["self is the link", "own entry is listed", "own stat is there", "own command is there"]
            .map(str::to_owned),
    );
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), wanted, "{}", ran.err);
}

#[test]
fn processes_of_the_capture_are_there_until_they_end() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.client("ask", &[]).expect(0);
    let answers: Vec<_> =
        ran.out.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).collect();
    let forked = day.forked();
    let (asked, left) = answers.split_at(forked.len().min(answers.len()));
    let at_fork: Vec<_> = forked
        .iter()
        .map(|(pid, _)| format!("{pid} is there group {SHELL} session {SHELL} open is there"))
        .collect();
    let at_end: Vec<_> = forked
        .iter()
        .map(|(pid, lasts)| {
            let [there, open] = if *lasts { ["is there", "lives"] } else { ["ESRCH", "ended"] };
            format!("{pid} {there} open {open} {there}")
        })
        .collect();
    assert_eq!(asked, at_fork, "{ran:#?}");
    assert_eq!(left, at_end, "{ran:#?}");
    assert_eq!(ran.out.lines().last(), Some("self is there"));
}

#[test]
fn with_the_real_proc_the_capture_is_nowhere() {
    let day = Day::new();
    let Some(replay) = Replay::of(&day).map(|replay| replay.with(&["--proc", "real"])) else { return };
    let ran = replay.client("procfs", &[]).expect(0);
    let execs: Vec<_> = ran.out.lines().filter(|line| line.starts_with("exec")).collect();
    assert_eq!(execs.len(), day.programs().len() + 1);
    assert!(execs.iter().all(|line| line.ends_with("ppid -1 uid -1")), "{execs:#?}");
}
