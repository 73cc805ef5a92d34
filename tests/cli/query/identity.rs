//! Tests that the number of a process is the same in every output.

use std::collections::BTreeSet;

use pmon_core::capture::Record;

use super::*;

/// A shell and its terminal have events before the first scan finds them. A process whose fork was
/// lost is renamed, and then executes a program.
fn found_late() -> Vec<Record<'static>> {
    let task = pmon_core::Task::new(40, 40);
    let renamed = pmon_core::wire::EventBody::Comm { task, comm: comm(b"lost") };
    vec![
        fork(1_000, 1, 10, (20, 20)),
        exec(2_000, 2, 11),
        details(2_000, 11, "term", b"term\0"),
        found(1, 0, "/sbin/init", 100),
        found(10, 11, "sh", 50_000),
        found(11, 1, "term", 40_000),
        found(20, 10, "sh", 100_000),
        scan(3_000, 4, SnapshotReason::Start),
        loss(0, 3, 4),
        event(4_000, 0, 5, renamed),
        exec(5_000, 6, 40),
        details(5_000, 40, "ls", b"ls\0"),
        exit(6_000, 7, (40, 40), 0),
        exit(7_000, 8, (20, 20), 0),
        exit(8_000, 9, (10, 10), 0),
        end(9_000, 9),
    ]
}

/// Returns all values of a field.
fn numbers(lines: &[Value], field: &str) -> BTreeSet<u64> {
    lines.iter().filter_map(|line| line[field].as_u64()).collect()
}

#[test]
fn a_process_has_the_same_number_in_every_output() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&found_late()));
    let sql = |sql: &str| pmon(&["sql", &file, "--format", "json", sql]).expect(0).json_lines();
    let rows = sql("SELECT * FROM processes");
    let all = numbers(&rows, "process_id");
    assert_eq!((rows.len(), all.len()), (5, 5), "{rows:#?}");
    let events = sql("SELECT * FROM events");
    let printed = pmon(&["print", &file, "--format", "json"]).expect(0).json_lines();
    assert_eq!(numbers(&printed, "process_id"), numbers(&events, "process_id"));
    let tree = pmon(&["tree", &file, "--json"]).expect(0).json_lines();
    for (lines, field) in [
        (&events, "process_id"),
        (&events, "child_process_id"),
        (&events, "parent_process_id"),
        (&rows, "creator_process_id"),
        (&rows, "parent_process_id"),
        (&printed, "process_id"),
        (&printed, "parent_process_id"),
        (&tree, "process_id"),
    ] {
        let found = numbers(lines, field);
        assert!(!found.is_empty() && found.is_subset(&all), "{field}: {found:?} {all:?}");
    }
}

/// The first scan finds two processes that were forked while it ran: one before its fork event, and
/// one after. Each changes its session, executes a program, and exits.
fn forked_during_scan() -> Vec<Record<'static>> {
    let of = |pid| pmon_core::Task::new(pid, pid);
    let sid = |us, seq, pid| event(us, 0, seq, pmon_core::wire::EventBody::Sid { task: of(pid) });
    let Record::Snapshot(scan) = scan(3_000, 4, SnapshotReason::Start) else { unreachable!() };
    let scan = Record::Snapshot(Snapshot { started: MonoNs(START + 500_000), ..scan });
    vec![
        fork(1_000, 1, 10, (20, 20)),
        found(1, 0, "/sbin/init", 100),
        found(10, 1, "sh", 50_000),
        found(20, 10, "sh", 100_000),
        found(30, 10, "sh", 100_000),
        fork(2_000, 2, 10, (30, 30)),
        scan,
        sid(4_000, 3, 30),
        exec(5_000, 4, 30),
        details(5_000, 30, "ls", b"ls\0"),
        fork(6_000, 5, 10, (40, 40)),
        sid(7_000, 6, 40),
        exit(8_000, 7, (40, 40), 0),
        exit(9_000, 8, (30, 30), 0),
        exit(10_000, 9, (20, 20), 0),
        end(11_000, 9),
    ]
}

#[test]
fn a_process_has_the_same_number_in_excerpts_of_selected_events() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&forked_during_scan()));
    let numbers = |file: &str, kind: &str| -> Vec<_> {
        let lines = pmon(&["print", file, "--kind", kind, "--format", "json"]).expect(0).json_lines();
        let of =
            |line: &Value| ["seq", "pid", "process_id", "parent_process_id"].map(|name| line[name].clone());
        lines.iter().map(of).collect()
    };
    for kind in ["fork", "exec", "sid", "exit", "exec,exit"] {
        for range in [&[] as &[&str], &["--since", "+5ms"]] {
            let excerpt = arg(&dir.path("excerpt.pmon"));
            let args = [&["cut", &file, "--kind", kind, "--force", "-q", "-o", &excerpt], range].concat();
            pmon(&args).expect(0);
            let mut expected = numbers(&file, kind);
            let found = numbers(&excerpt, kind);
            assert!(!found.is_empty() && found.iter().all(|of| of[2].is_u64()), "{kind}: {found:?}");
            expected.drain(..expected.len() - found.len());
            assert_eq!(found, expected, "{kind} {range:?}");
        }
    }
}

#[test]
fn an_excerpt_without_forks_has_the_ancestors_of_its_processes() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&forked_during_scan()));
    let excerpt = arg(&dir.path("excerpt.pmon"));
    pmon(&["cut", &file, "--kind", "exit", "-q", "-o", &excerpt]).expect(0);
    let why = |file: &str| {
        let mut lines = pmon(&["why", file, "40", "--json"]).expect(0).json_lines();
        lines[0]["ancestors"].take()
    };
    let ancestors = |found: &Value| -> Vec<_> {
        found.as_array().expect("a list").iter().map(|of| of["process_id"].clone()).collect()
    };
    let expected = ancestors(&why(&file));
    assert_eq!(expected.len(), 2);
    assert_eq!(ancestors(&why(&excerpt)), expected);
}
