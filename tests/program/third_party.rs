//! Tests with third-party programs: `forkstat` and `extrace`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::guard::{Need, needs};
use crate::harness::{CAPTURE, ProgramReplay, programs, skip};
use crate::real_kernel::receives_events;
use crate::support::pmon;
use crate::test_capture::{MISSED, TestCapture};

/// Returns whether a program is installed; otherwise skips the test.
fn is_installed(program: &str) -> bool {
    let exists = fs::exists(program).unwrap();
    if !exists {
        skip(&format!("{program} is not installed"));
    }
    exists
}

#[test]
fn forkstat_names_the_programs_of_the_capture() {
    let capture = TestCapture::new();
    if !is_installed("/usr/bin/forkstat") {
        return;
    }
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.program("/usr/bin/forkstat", &["-l"], false).expect(0);
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |kind: &str, pid: u32, ends: &str| {
        let ends: Vec<_> = ends.split(' ').collect();
        let found = lines.iter().any(|line| {
            line.len() > 3 && line[1] == kind && line[2] == pid.to_string() && line.ends_with(&ends)
        });
        assert!(found, "no {kind} of {pid}, {ends:?}:\n{}", ran.out);
    };
    let programs = capture.programs();
    for program in &programs {
        has("exec", program.pid, program.args);
    }
    for program in programs.iter().filter(|program| program.comm != "sleep") {
        has("exit", program.pid, program.args);
    }
}

#[test]
fn forkstat_reports_an_overrun_and_continues() {
    if !is_installed("/usr/bin/forkstat") {
        return;
    }
    let capture = TestCapture::new();
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let script = replay.file("faults.toml");
    fs::write(&script, "[[fault]]\nat = 10\noverrun = 7\n").unwrap();
    let ran = replay
        .with(&["--faults", script.to_str().unwrap()])
        .program("/usr/bin/forkstat", &["-l"], false)
        .expect(0);
    assert_eq!(ran.out.matches("nobufs").count(), 1, "{}", ran.out);
    assert!(ran.out.contains("sleep infinity"), "{}", ran.out);
}

/// `extrace` has no signal handler, and indents each line by the depth in the process tree.
#[test]
fn extrace_shows_all_programs_but_those_that_ended_too_early() {
    let capture = TestCapture::new();
    if !is_installed("/usr/bin/extrace") {
        return;
    }
    let Some(replay) = ProgramReplay::of(&capture) else { return };
    let ran = replay.program("/usr/bin/extrace", &["-d"], false).expect(130);
    let programs = capture.programs();
    assert_eq!(ran.out.lines().count(), programs.len(), "{}", ran.out);
    for (line, program) in ran.out.lines().zip(&programs) {
        assert_eq!(
            line.trim_start(),
            format!("{} {} % {}", program.pid, program.cwd, program.args),
            "{}",
            ran.out
        );
    }
    let depth = |line: &str| line.len() - line.trim_start().len();
    let depths: Vec<_> = ran.out.lines().map(depth).collect();
    assert!(depths[1] > depths[0] && depths[0] == depths[2], "{}", ran.out);
    assert_eq!(ran.err.matches("vanished").count(), 1, "{}", ran.err);
    assert!(ran.err.contains(&format!("vanished before notification: pid {MISSED}")), "{}", ran.err);
}

/// A program that receives the events of this machine; it is killed at the end of the test.
struct LiveProgram(Child);

impl Drop for LiveProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the lines that a program prints for some `sleep` processes: live, and from a capture of
/// them.
fn live_and_replayed(program: &str, args: &[&str], replay: &ProgramReplay) -> [Vec<String>; 2] {
    let printed = replay.file("live");
    let out = File::create(&printed).unwrap();
    let mut live =
        LiveProgram(Command::new(program).args(args).stdin(Stdio::null()).stdout(out).spawn().unwrap());
    let began = Instant::now();
    while !fs::read_to_string(&printed).unwrap().contains("sleep") {
        assert!(began.elapsed() < Duration::from_secs(20), "{program} receives no events");
        Command::new("sleep").arg("0.05").status().unwrap();
    }
    let capture = replay.file(CAPTURE);
    // The durations identify the processes of this test.
    let own = format!("0.2{:07}", std::process::id());
    let script = format!("sleep {own}7; (sleep {own}8; exit 3); sh -c 'sleep {own}9; exit 4'");
    let workload = ["sh", "-c", &script];
    pmon(&[&["record", "-o", capture.to_str().unwrap(), "--force", "--"], &workload[..]].concat()).expect(4);
    fs::set_permissions(&capture, Permissions::from_mode(0o644)).unwrap();
    // SIGTERM ends both programs. SIGINT may be inherited as ignored, and extrace does not handle
    // it.
    kill_process(Pid::from_child(&live.0), Signal::TERM).unwrap();
    live.0.wait().unwrap();
    [fs::read_to_string(&printed).unwrap(), replay.program(program, args, false).out].map(|out| {
        // Ignores times, and lines with the name of a new child, which depend on how fast a program
        // reads the live /proc.
        let is_time = |word: &str| {
            word.contains(':') || word.strip_suffix('s').is_some_and(|word| word.parse::<f64>().is_ok())
        };
        let is_relevant =
            |line: &&str| line.contains(&own) && !line.contains("fork") && !line.contains("record");
        let lines = out.lines().filter(is_relevant);
        lines
            .map(|line| line.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" "))
            .collect()
    })
}

#[test]
fn live_and_replayed_output_are_equal() {
    if !is_installed("/usr/bin/forkstat") || !is_installed("/usr/bin/extrace") {
        return;
    }
    let Some(replay) = ProgramReplay::of(&TestCapture::new()) else { return };
    let receives = || programs().is_some_and(|all| receives_events(all, &TempDir::new().unwrap()));
    if !needs(&[Need::Root]) {
        return;
    }
    if !receives() {
        return skip("this user receives no process events");
    }
    // By default, extrace shows descendants of `init`; in a container, this process may not be one.
    let own = std::process::id().to_string();
    for (program, args) in [("/usr/bin/extrace", &["-p", &own][..]), ("/usr/bin/forkstat", &["-l"])] {
        // On a busy machine, the live program may read /proc too late.
        let mut tries = (0..3).map(|_| live_and_replayed(program, args, &replay));
        let [live, replayed] = tries
            .find(|[live, replayed]| live == replayed)
            .unwrap_or_else(|| live_and_replayed(program, args, &replay));
        assert_eq!(live, replayed, "{program}");
        assert!(live.len() >= 4, "{live:#?}");
    }
}
