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
