//! Tests `pmon find` on captures that are built here.

use super::*;

/// Runs `pmon find` and returns the process IDs.
#[track_caller]
fn found_pids(file: &str, args: &[&str]) -> Vec<u64> {
    let ran = pmon(&[&["find", file, "--json"], args].concat()).expect(0);
    let mut lines = ran.json_lines();
    assert_eq!(lines.pop().expect("a line")["kind"], "coverage");
    lines.iter().map(|life| life["pid"].as_u64().expect("a process id")).collect()
}

#[test]
fn find_selects_by_pattern_and_conditions() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    for (args, expected) in [
        (&[][..], &[21, 22, 20, 23, 1, 10][..]),
        (&[""], &[21, 22, 20, 23, 1, 10]),
        (&["^cc -O2 [ab].c$"], &[21, 22]),
        (&["^/usr/bin/make$"], &[20]),
        (&["^splash"], &[]),
        (&["splash"], &[1]),
        (&["--exit", "failed"], &[21, 22, 20]),
        (&["", "--exit", "killed,1"], &[21, 22]),
        (&["", "--tree", "20"], &[21, 22, 20]),
        (&["", "--pid", "10,23"], &[23, 10]),
        (&["", "--longer-than", "3s"], &[20, 1, 10]),
        (&["", "--unit", "build"], &[20]),
        (&["", "--container", "4f"], &[21, 22]),
        (&["cc", "--exit", "SIGSEGV", "--uid", "1000"], &[22]),
        (&["", "--since", "+4500ms"], &[23, 1, 10]),
        (&["", "--until", "+1200ms"], &[1, 10, 20, 21]),
    ] {
        assert_eq!(found_pids(&file, args), expected, "{args:?}");
    }
}

#[test]
fn find_searches_every_program_of_a_process() {
    let dir = Dir::new();
    let records = [
        found(10, 1, "sh", 50_000),
        scan(0, 1, SnapshotReason::Start),
        fork(1_000, 1, 10, (20, 20)),
        exec(2_000, 2, 20),
        details(2_000, 20, "sudo", b"sudo\0ls\0"),
        exec(3_000, 3, 20),
        details(3_000, 20, "ls", b"ls\0"),
        exit(4_000, 4, (20, 20), 0),
        end(5_000, 4),
    ];
    let file = dir.file("x.pmon", &ticking_capture(&records));
    assert_eq!(found_pids(&file, &["sudo"]), [20]);
    // The conditions are on the last program.
    assert_eq!(found_pids(&file, &["", "--comm", "sudo"]), [0u64; 0]);
    assert_eq!(found_pids(&file, &["", "--comm", "ls"]), [20]);
}

#[test]
fn find_prints_when_how_long_and_how_each_process_ended() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let mut command = command(&["find", &file, "make|cc|splash"]);
    command.env("TZ", "UTC");
    let ran = run(command).expect(0);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines[0], "STARTED                 PID  DURATION END          COMMAND");
    assert_eq!(lines[1], "2026-01-02 03:04:06      21   300.0ms exit 1       cc -O2 a.c");
    assert_eq!(lines[2], "2026-01-02 03:04:06      22     2.50s SIGSEGV core cc -O2 b.c");
    assert!(lines[4].ends_with(" 1         - running      /sbin/init splash"), "{}", lines[4]);
    assert_eq!(lines.len(), 5);

    let none = pmon(&["find", &file, "no-such"]).expect(0);
    assert_eq!((none.out.as_str(), none.err.contains("pmon: no process matches")), ("", true));
    let wrong = pmon(&["find", &file, "("]).expect(2);
    assert!(wrong.err.contains("unclosed group"), "{}", wrong.err);
}

#[test]
fn find_prints_all_columns_as_json() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let lines = pmon(&["find", &file, "b.c", "--json"]).expect(0).json_lines();
    let life = lines[0].as_object().expect("an object");
    for column in pmon_analysis::life::LIFE_COLUMNS {
        assert!(life.contains_key(column.name), "{}", column.name);
    }
    assert_eq!((&life["term_signal"], &life["exit_code"]), (&11.into(), &Value::Null));
    assert_eq!((&life["duration_ns"], &life["host"]), (&2_500_000_000u64.into(), &"box".into()));
    assert_eq!(life["args"], serde_json::json!(["cc", "-O2", "b.c"]));
    assert_eq!(life["container_id"], CONTAINER);
}
