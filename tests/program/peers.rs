//! Programs of others, as they are: `forkstat` and `extrace`.

use std::fs;

use crate::day::{Day, MISSED};
use crate::stage::{Replay, skip};

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
