//! Programs of others, as they are: `forkstat` and `extrace`.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::day::{Day, MISSED};
use crate::guard::{Need, needs};
use crate::live::is_heard;
use crate::stage::{Replay, skip, stage};
use crate::support::pmon;

/// Whether it is installed; if not, that is said.
fn is_there(program: &str) -> bool {
    let there = fs::exists(program).unwrap();
    if !there {
        skip(&format!("there is no {program}"));
    }
    there
}

#[test]
fn forkstat_names_the_programs_of_the_capture() {
    let day = Day::new();
    if !is_there("/usr/bin/forkstat") {
        return;
    }
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.program("/usr/bin/forkstat", &["-l"], false).expect(0);
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |kind: &str, pid: u32, ends: &str| {
        let ends: Vec<_> = ends.split(' ').collect();
        let found = lines.iter().any(|line| {
            line.len() > 3 && line[1] == kind && line[2] == pid.to_string() && line.ends_with(&ends)
        });
        assert!(found, "no {kind} of {pid}, {ends:?}:\n{}", ran.out);
    };
    let programs = day.programs();
    for program in &programs {
        has("exec", program.pid, program.args);
    }
    for program in programs.iter().filter(|program| program.comm != "sleep") {
        has("exit", program.pid, program.args);
    }
}

#[test]
fn forkstat_tells_an_overrun_and_goes_on() {
    if !is_there("/usr/bin/forkstat") {
        return;
    }
    let day = Day::new();
    let Some(replay) = Replay::of(&day) else { return };
    let script = replay.file("faults.toml");
    fs::write(&script, "[[fault]]\nat = 10\noverrun = 7\n").unwrap();
    let ran = replay
        .with(&["--faults", script.to_str().unwrap()])
        .program("/usr/bin/forkstat", &["-l"], false)
        .expect(0);
    assert_eq!(ran.out.matches("nobufs").count(), 1, "{}", ran.out);
    assert!(ran.out.contains("sleep infinity"), "{}", ran.out);
}

/// It has no handler of its own, and indents by the depth in the tree.
#[test]
fn extrace_shows_each_program_and_misses_only_what_was_gone() {
    let day = Day::new();
    if !is_there("/usr/bin/extrace") {
        return;
    }
    let Some(replay) = Replay::of(&day) else { return };
    let ran = replay.program("/usr/bin/extrace", &["-d"], false).expect(130);
    let programs = day.programs();
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

/// A program that listens to the host, and ends with the test.
struct Live(Child);

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program of others prints of these sleeps while they happen, and of their capture, as an ordinary user.
fn live_and_replayed(program: &str, args: &[&str], replay: &Replay) -> [Vec<String>; 2] {
    let printed = replay.file("live");
    let out = File::create(&printed).unwrap();
    let mut live = Live(Command::new(program).args(args).stdin(Stdio::null()).stdout(out).spawn().unwrap());
    let began = Instant::now();
    while !fs::read_to_string(&printed).unwrap().contains("sleep") {
        assert!(began.elapsed() < Duration::from_secs(20), "{program} hears nothing");
        Command::new("sleep").arg("0.05").status().unwrap();
    }
    let capture = replay.file("day.pmon");
    // By these durations they are known, which have to be those of nobody else here.
    let own = format!("0.2{:07}", std::process::id());
    let script = format!("sleep {own}7; (sleep {own}8; exit 3); sh -c 'sleep {own}9; exit 4'");
    let workload = ["sh", "-c", &script];
    pmon(&[&["record", "-o", capture.to_str().unwrap(), "--force", "--"], &workload[..]].concat()).expect(4);
    fs::set_permissions(&capture, Permissions::from_mode(0o644)).unwrap();
    // Both end by it; the other one a shell may have them ignore, and extrace has no handler of its own.
    kill_process(Pid::from_child(&live.0), Signal::TERM).unwrap();
    live.0.wait().unwrap();
    [fs::read_to_string(&printed).unwrap(), replay.program(program, args, false).out].map(|out| {
        // Without times, and without what a reader of the live /proc sees only if it is quick: whose name a child still has.
        let is_time = |word: &str| {
            word.contains(':') || word.strip_suffix('s').is_some_and(|word| word.parse::<f64>().is_ok())
        };
        let is_meant =
            |line: &&str| line.contains(&own) && !line.contains("fork") && !line.contains("record");
        let lines = out.lines().filter(is_meant);
        lines
            .map(|line| line.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" "))
            .collect()
    })
}

#[test]
fn they_print_of_a_capture_what_they_print_live() {
    if !is_there("/usr/bin/forkstat") || !is_there("/usr/bin/extrace") {
        return;
    }
    let Some(replay) = Replay::of(&Day::new()) else { return };
    let is_heard = || stage().is_some_and(|stage| is_heard(stage, &TempDir::new().unwrap()));
    if !needs(&[Need::Root]) {
        return;
    }
    if !is_heard() {
        return skip("there are no process events for this user");
    }
    // Of whose descendants; by itself, of those of `init`, of which this process may be none.
    let own = std::process::id().to_string();
    for (program, args) in [("/usr/bin/extrace", &["-p", &own][..]), ("/usr/bin/forkstat", &["-l"])] {
        // On a busy host, a reader of the live /proc may be late.
        let mut tries = (0..3).map(|_| live_and_replayed(program, args, &replay));
        let [live, replayed] = tries
            .find(|[live, replayed]| live == replayed)
            .unwrap_or_else(|| live_and_replayed(program, args, &replay));
        assert_eq!(live, replayed, "{program}");
        assert!(live.len() >= 4, "{live:#?}");
    }
}
