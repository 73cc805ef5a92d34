//! Tests the lines of `pmon print` on terminals of 80 and 140 columns.

use std::process::{Command, Stdio};

use pmon_core::Task;
use pmon_core::capture::{Details, ProcessState, Record, Usage};
use pmon_core::wire::EventBody;

use crate::support::*;

/// A process of each kind of line: a compiler with a long command line that fails, one that is
/// killed, and a program whose details were missed.
fn records() -> Vec<Record<'static>> {
    let task = Task::new(4_194_300, 4_194_300);
    let cc1 = details(
        2_000,
        task.tgid.0,
        "cc1",
        b"cc1\0-quiet\0-O2\0-std=gnu11\0src/parser/expression.c\0-o\0/tmp/ccQZ.s\0",
    );
    let Record::Details(cc1) = cc1 else { unreachable!("details") };
    let cc1 = Details { exe: Some(b"/usr/libexec/gcc/cc1".to_vec()), ppid: Some(10), ..*cc1 };
    let usage = Usage {
        cpu_us: 41_000,
        max_rss_kib: 52_224,
        process: ProcessState::Ended { status: 1 << 8 },
        process_cpu_us: 41_000,
        ..Usage::default()
    };
    let Record::Event(failure, _) = exit(412_302, 9, (task.tid.0, task.tgid.0), 1 << 8) else {
        unreachable!("an exit")
    };
    vec![
        scanned(1, 0, "init"),
        scanned(10, 1, "sh"),
        scan_end(),
        event(0, 0, 1, EventBody::Ack { ack: 8, err: 0 }),
        fork(1_000, 2, 10, (task.tid.0, task.tgid.0)),
        exec(2_000, 3, task.tgid.0),
        Record::Details(Box::new(cc1)),
        event(3_000, 0, 4, EventBody::Uid { task, real: 1000, effective: 0 }),
        event(4_000, 0, 5, EventBody::Ptrace { task, tracer: Task::new(10, 10) }),
        event(5_000, 0, 6, EventBody::Comm { task, comm: comm(b"a-long-name-15b") }),
        exec(6_000, 7, 30),
        missed(6_000, 30),
        event(7_000, 0, 8, EventBody::Coredump { task: Task::new(30, 30), parent: None }),
        Record::Event(failure, Some(Box::new(usage))),
        loss(1, 10, 132),
        fork(500_000, 10, 10, (31, 31)),
        exit(2_000_000, 11, (31, 31), 11 | 0x80),
        witness(123),
        end(3_000_000, 11),
    ]
}

/// Returns the lines of `print` on a terminal.
fn printed(columns: u32, options: &str) -> Vec<String> {
    shown(columns, &format!("print {options} FILE"))
}

/// Returns the lines on a terminal of a verb. `FILE` stands for the capture.
fn shown(columns: u32, words: &str) -> Vec<String> {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&records(), 4));
    let pmon = env!("CARGO_BIN_EXE_pmon");
    let line = format!("stty cols {columns}; '{pmon}' {} 2>/dev/null", words.replace("FILE", &file));
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("COLUMNS")
        .stdin(Stdio::null());
    let output = script.output().expect("script(1) runs").stdout;
    String::from_utf8(output).expect("UTF-8").lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn in_80_columns_commands_and_ends_come_before_parents_and_users() {
    assert_eq!(
        printed(80, "--color never"),
        [
            "-- Friday 2026-01-02, UTC+00:00 --",
            "03:04:05.000000  ack            -  -         a listener subscribed",
            "03:04:05.001000  fork     4194300  sh        child of 10 sh",
            "03:04:05.002000  exec     4194300  /usr/libexec/gcc/cc1 -quiet -O2 -std=gnu11 sr",
            "03:04:05.003000  uid      4194300  cc1       uid 1000, effective 0",
            "03:04:05.004000  ptrace   4194300  cc1       traced by 10 sh",
            "03:04:05.005000  comm     4194300  a-long-name-15b  is now a-long-name-15b",
            "03:04:05.006000  exec          30  ?         ? (details missed: gone)",
            "03:04:05.007000  coredump      30  ?         dumps core",
            "03:04:05.412302  exit     4194300  a-long-name-15b  exit 1, ran 411.3ms  ← 10 sh",
            "-- 123 events lost on cpu 1 (seq 10..132): socket overrun --",
            "03:04:05.500000  fork          31  sh        child of 10 sh",
            "03:04:07.000000  exit          31  sh        killed by SIGSEGV (core), ran 1.50s",
        ]
    );
}

#[test]
fn in_140_columns_parents_users_and_resources_are_visible() {
    assert_eq!(
        printed(140, "--color never"),
        [
            "-- Friday 2026-01-02, UTC+00:00 --",
            "03:04:05.000000  ack            -  -         a listener subscribed",
            "03:04:05.001000  fork     4194300  sh        child of 10 sh",
            "03:04:05.002000  exec     4194300  /usr/libexec/gcc/cc1 -quiet -O2 -std=gnu11 src/parser/expression.c -o /tmp/ccQZ.s  ← 10 sh  uid 1000",
            "03:04:05.003000  uid      4194300  cc1       uid 1000, effective 0",
            "03:04:05.004000  ptrace   4194300  cc1       traced by 10 sh",
            "03:04:05.005000  comm     4194300  a-long-name-15b  is now a-long-name-15b",
            "03:04:05.006000  exec          30  ?         ? (details missed: gone)",
            "03:04:05.007000  coredump      30  ?         dumps core",
            "03:04:05.412302  exit     4194300  a-long-name-15b  exit 1, ran 411.3ms  ← 10 sh  cpu 41.0ms, rss 51 MiB  /usr/libexec/gcc/cc1 -quiet -O2 -s",
            "-- 123 events lost on cpu 1 (seq 10..132): socket overrun --",
            "03:04:05.500000  fork          31  sh        child of 10 sh",
            "03:04:07.000000  exit          31  sh        killed by SIGSEGV (core), ran 1.50s  ← 10 sh",
        ]
    );
}

#[test]
fn failures_and_kills_stand_out() {
    let lines = printed(140, "--kind exit,coredump");
    let exits: Vec<_> = lines.iter().filter(|line| line.contains("\x1b[1;31m")).collect();
    assert!(
        exits[0].contains("\x1b[31mexit\x1b[0m") && exits[0].contains("\x1b[1;31mexit 1\x1b[0m, ran"),
        "{exits:?}"
    );
    assert!(exits[1].contains("\x1b[1;31mkilled by SIGSEGV (core)\x1b[0m"), "{exits:?}");
    assert!(lines.iter().any(|line| line.contains("\x1b[31mcoredump\x1b[0m")), "{lines:?}");
    let lines = shown(140, "find FILE --exit failed");
    assert!(lines[1].starts_with("\x1b[31m") && lines[1].contains(" exit 1 "), "{lines:?}");
}

#[test]
fn half_of_a_line_of_stats_is_the_command() {
    for (by, min) in [("args", 40), ("parent", 40), ("comm", 0)] {
        let lines = shown(80, &format!("stats FILE --by {by}"));
        let column = lines[0].find(&by.to_uppercase()).expect("a header");
        assert!(lines[0].contains("COUNT") && 80 - column >= min, "{by}: {lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    }
    let wide = shown(140, "stats FILE --by args");
    assert!(["P50", "P95", "RATE/S", "MEMORY"].iter().all(|column| wide[0].contains(column)), "{wide:#?}");
}
