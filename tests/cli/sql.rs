//! Tests `pmon sql` on captures that are built here.

mod osquery;

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use pmon_core::Task;
use pmon_core::capture::{Details, Record};
use pmon_core::wire::EventBody;
use serde_json::Value;

use crate::support::*;

/// A shell starts a program with a hostile name and arguments, and another one that is killed.
fn hostile_records() -> Vec<Record<'static>> {
    let Record::Details(first) =
        details(1_000, 20, "it's", b"it's\0\"; DROP TABLE processes; --\0\xff\x1b[2J\0\0")
    else {
        unreachable!("details")
    };
    let hostile = Details { exe: Some(b"/tmp/\x1b[31m\xfe'\"\n".to_vec()), ..*first };
    let task = Task::new(20, 20);
    vec![
        scanned(10, 1, "sh"),
        scan_end(),
        fork(500, 1, 10, (20, 20)),
        exec(1_000, 2, 20),
        Record::Details(Box::new(hostile)),
        event(1_500, 0, 3, EventBody::Uid { task, real: 1000, effective: 0 }),
        event(1_600, 0, 4, EventBody::Comm { task, comm: comm(b"a\"b'\x07\xff") }),
        fork(1_700, 5, 20, (21, 20)),
        exit(1_800, 6, (21, 20), 0),
        exit(2_000, 7, (20, 20), 3 << 8),
        fork(2_500, 8, 10, (30, 30)),
        exit(3_000, 9, (30, 30), 9),
        loss(0, 10, 11),
        end(4_000, 9),
    ]
}

struct Fixture {
    _dir: Dir,
    file: String,
}

fn fixture(records: &[Record<'_>]) -> Fixture {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(records, 4));
    Fixture { _dir: dir, file }
}

impl Fixture {
    /// Runs a query and returns its rows.
    #[track_caller]
    fn rows(&self, sql: &str) -> Vec<Value> {
        pmon(&["sql", &self.file, "--format", "json", sql]).expect(0).json_lines()
    }

    /// Runs a query and returns its only value.
    #[track_caller]
    fn value(&self, sql: &str) -> String {
        let ran = pmon(&["sql", &self.file, "--format", "line", sql]).expect(0);
        ran.out.trim_end_matches('\n').to_owned()
    }
}

/// Returns a larger capture.
fn synthetic(dir: &Dir, args: &[&str]) -> String {
    let file = arg(&dir.path("synth.pmon"));
    pmon(&[&["synth", "-o", &file, "--seed", "5"], args].concat()).expect(0);
    file
}

#[test]
fn each_table_has_the_rows_that_print_shows() {
    let dir = Dir::new();
    let file = synthetic(&dir, &["-n", "5000", "--loss", "1%"]);
    let printed = pmon(&["print", &file, "--format", "json", "--own"]).expect(0).json_lines();
    let sums: &[(&str, &[&str])] = &[
        ("execs", &["exec"]),
        ("exits", &["exit"]),
        ("forks", &["fork"]),
        ("ids", &["uid", "gid", "sid"]),
        ("comms", &["comm"]),
        ("losses", &["loss"]),
    ];
    for (table, kinds) in sums {
        let expected = printed.iter().filter(|line| kinds.iter().any(|kind| line["kind"] == *kind)).count();
        let ran =
            pmon(&["sql", &file, "--format", "line", &format!("SELECT count(*) FROM {table}")]).expect(0);
        assert_eq!(ran.out.trim(), expected.to_string(), "{table}");
        assert!(
            ran.err.starts_with("incomplete: ") && ran.err.contains("events lost on 4 cpus"),
            "{}",
            ran.err
        );
    }
    // Each event has the same time, process and number.
    let events = printed.iter().filter(|line| line["kind"] != "loss");
    let expected: Vec<_> = events
        .map(|e| {
            [&e["kind"], &e["cpu"], &e["seq"], &e["mono_ns"], &e["pid"], &e["tid"]].map(Value::to_string)
        })
        .collect();
    let sql = "SELECT kind, cpu, seq, mono_ns, pid, tid FROM events";
    let rows = pmon(&["sql", &file, "--format", "json", sql]).expect(0).json_lines();
    let found: Vec<_> = rows
        .iter()
        .map(|e| {
            [&e["kind"], &e["cpu"], &e["seq"], &e["mono_ns"], &e["pid"], &e["tid"]].map(Value::to_string)
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_processes_at_the_end_are_those_of_ps() {
    let dir = Dir::new();
    let file = synthetic(&dir, &["-n", "20000"]);
    let listed = pmon(&["ps", &file, "--json"]).expect(0).json_lines();
    let ids: Vec<_> = listed
        .iter()
        .filter(|line| line["kind"] == "process")
        .map(|line| line["process_id"].to_string())
        .collect();
    let sql = "SELECT process_id FROM processes WHERE NOT ended ORDER BY pid";
    let ran = pmon(&["sql", &file, "--format", "line", sql]).expect(0);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), ids);
    assert!(ids.len() > 50, "{}", ids.len());
    // The sum over the parents is the sum over the children.
    let join = "SELECT count(*) FROM processes c JOIN processes p ON p.process_id = c.parent_process_id";
    let semi = "SELECT count(*) FROM processes WHERE parent_process_id IN (SELECT process_id FROM processes)";
    let count = |sql| pmon(&["sql", &file, "--format", "line", sql]).expect(0).out;
    assert_eq!(count(join), count(semi));
    assert_ne!(count(join), "0\n");
}

#[test]
fn rows_describe_the_process_as_it_was_then() {
    let fixture = fixture(&hostile_records());
    assert_eq!(fixture.value("SELECT euid || ' ' || uid FROM ids"), "0 1000");
    assert_eq!(fixture.value("SELECT hex(thread_comm) FROM comms"), "61226227".to_owned() + "07FF");
    assert_eq!(
        fixture.rows(
            "SELECT pid, tid, process_ended, exit_code, term_signal, thread_wait_status AS status FROM exits"
        ),
        [
            serde_json::json!({"pid": 20, "tid": 21, "process_ended": 0, "exit_code": null, "term_signal": null, "status": 0}),
            serde_json::json!({"pid": 20, "tid": 20, "process_ended": 1, "exit_code": 3, "term_signal": null, "status": 768}),
            serde_json::json!({"pid": 30, "tid": 30, "process_ended": 1, "exit_code": null, "term_signal": 9, "status": 9}),
        ]
    );
    assert_eq!(
        fixture.value(
            "SELECT count(*) FROM forks JOIN processes USING (process_id) WHERE child_tid != child_pid"
        ),
        "1"
    );
    assert_eq!(fixture.value("SELECT p.pid FROM forks f JOIN processes p ON p.process_id = f.child_process_id WHERE child_pid = child_tid AND f.pid = 10 AND child_pid < 30"), "20");
    assert_eq!(fixture.value("SELECT signal_name(term_signal) FROM processes WHERE pid = 30"), "SIGKILL");
    assert_eq!(fixture.value("SELECT iso(timestamp_ns) = timestamp FROM execs"), "1");
    assert_eq!(fixture.value("SELECT events || cause || cpu FROM losses"), "2socket0");
    assert_eq!(fixture.value("SELECT reason || events FROM coverage"), "lost2");
    assert_eq!(fixture.value("SELECT events FROM hosts"), "9");
}

#[test]
fn types_and_nulls_are_those_of_the_columns() {
    let fixture = fixture(&hostile_records());
    let types = "SELECT typeof(process_id), typeof(start_time), typeof(start_time_ns), typeof(ended), typeof(args), \
                 typeof(exit_code), typeof(term_signal), typeof(unit) FROM processes WHERE pid = 20";
    let row = &fixture.rows(types)[0];
    let types: Vec<_> =
        row.as_object().expect("an object").values().map(|value| value.as_str().expect("text")).collect();
    let mut types = types;
    types.sort_unstable();
    assert_eq!(types, ["integer", "integer", "integer", "integer", "null", "null", "text", "text"]);
    assert_eq!(fixture.value("SELECT count(*) FROM processes WHERE exit_code IS NULL"), "2");
    let table =
        pmon(&["sql", &fixture.file, "SELECT pid, exit_code FROM processes WHERE pid = 30"]).expect(0);
    assert_eq!(table.out, "pid  exit_code\n---  ---------\n 30  NULL\n");
}

#[test]
fn hostile_texts_are_kept_and_escaped() {
    let fixture = fixture(&hostile_records());
    assert_eq!(fixture.value("SELECT hex(exe) FROM execs"), "2F746D702F1B5B33316DFE27220A");
    assert_eq!(fixture.value("SELECT exe FROM execs"), "/tmp/\\x1b[31m\\xfe'\"\\n");
    assert_eq!(fixture.value("SELECT args ->> 1 FROM execs"), "\"; DROP TABLE processes; --");
    assert_eq!(fixture.value("SELECT json_array_length(args) FROM execs"), "4");
    assert_eq!(fixture.value("SELECT count(*) FROM processes WHERE exe REGEXP '(?-u)\\xfe'"), "1");
    for format in ["table", "csv", "json", "line"] {
        let ran = pmon(&[
            "sql",
            &fixture.file,
            "--format",
            format,
            "SELECT * FROM events; SELECT * FROM processes",
        ])
        .expect(0);
        assert!(!ran.out.bytes().any(|byte| byte != b'\n' && byte.is_ascii_control()), "{format}");
    }
    let ran = pmon(&["sql", &fixture.file, "SELECT 1 AS '\u{1b}[2J'"]).expect(0);
    assert!(!ran.out.contains('\u{1b}'));
    let ran = pmon(&["sql", &fixture.file, "SELECT '\u{1b}[2J' x y"]).expect(2);
    assert!(!ran.err.contains('\u{1b}'), "{:?}", ran.err);
}

#[test]
fn a_mistake_is_reported_with_its_place() {
    let fixture = fixture(&hostile_records());
    let ran = pmon(&["sql", &fixture.file, "SELECT pid\nFROM processes WHERE nme = 1"]).expect(2);
    assert_eq!(ran.err, "pmon: SQL, line 2, column 22: no such column: nme, at: nme = 1\n");
    let ran = pmon(&["sql", &fixture.file, "DELETE FROM processes"]).expect(2);
    assert!(ran.err.contains("may not be modified") || ran.err.contains("not permitted"), "{}", ran.err);
    let ran = pmon(&["sql", &fixture.file, "ATTACH '/tmp/x' AS x"]).expect(2);
    assert_eq!(ran.err, "pmon: SQL: not permitted: a query can only read the tables\n");
    pmon(&["sql", "/nonexistent.pmon", "SELECT * FROM execs"]).expect(6);
    let garbage = Dir::new();
    let file = garbage.file("garbage.pmon", b"this is no capture at all");
    pmon(&["sql", &file, "SELECT * FROM execs"]).expect(5);
    pmon(&["sql"]).expect(2);
}

#[test]
fn a_query_without_an_end_is_ended() {
    let fixture = fixture(&hostile_records());
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let ran = pmon(&["sql", &fixture.file, "--timeout", "100ms", endless]).expect(10);
    assert_eq!(ran.err, "pmon: the statement was ended after --timeout, 100ms\n");
    let mut child = command(&["sql", &fixture.file, "--format", "line", &format!("SELECT 1; {endless}")]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pmon starts");
    // The first result shows that the handler is installed.
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 2]).expect("a row");
    std::thread::sleep(Duration::from_millis(20));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .expect("a signal is sent");
    let output = child.wait_with_output().expect("pmon ends");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "pmon: interrupted\n");
}

#[test]
fn statements_come_from_standard_input() {
    let fixture = fixture(&hostile_records());
    let ran = pmon_with_input(
        &["sql", &fixture.file, "--format", "csv"],
        b"SELECT 1 AS a, NULL AS b;\nSELECT 'x,y';",
    )
    .expect(0);
    assert_eq!(ran.out, "a,b\n1,\n\"'x,y'\"\n\"x,y\"\n");
    let ran = pmon_with_input(&["sql", "-"], b"SELECT 1").expect(2);
    assert!(ran.err.contains("pass the SQL as an argument"), "{}", ran.err);
    // The capture itself can be standard input, which is read once.
    let bytes = capture(&hostile_records(), 4);
    let ran = pmon_with_input(&["sql", "-", "--format", "line", "SELECT count(*) FROM processes"], &bytes)
        .expect(0);
    assert_eq!(ran.out, "3\n");
    let join = "SELECT count(*) FROM execs e JOIN processes p USING (process_id)";
    let ran = pmon_with_input(&["sql", "-", join], &bytes).expect(2);
    assert!(ran.err.contains("standard input can be read only once"), "{}", ran.err);
}

#[test]
fn a_closed_pipe_ends_a_query_silently() {
    let dir = Dir::new();
    let file = synthetic(&dir, &["-n", "100000"]);
    for format in ["table", "csv", "json", "line"] {
        let mut child = command(&["sql", &file, "--format", format, "SELECT * FROM events"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pmon starts");
        let mut pipe = child.stdout.take().expect("a pipe");
        pipe.read_exact(&mut [0; 100]).expect("some output");
        drop(pipe);
        let output = child.wait_with_output().expect("pmon ends");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{format}");
    }
}

#[test]
fn a_range_of_time_limits_the_rows() {
    let dir = Dir::new();
    let file = synthetic(&dir, &["-n", "4000", "--rate", "2000"]);
    let count = |args: &[&str], sql: &str| -> u64 {
        let ran = pmon(&[&["sql", &file, "--format", "line"], args, &[sql]].concat()).expect(0);
        ran.out.trim().parse().expect("a number")
    };
    let all = count(&[], "SELECT count(*) FROM events");
    let middle = "SELECT min(timestamp_ns) + 1000000000 FROM events";
    let early = count(&[], &format!("SELECT count(*) FROM events WHERE timestamp_ns <= ({middle})"));
    let late = count(&[], &format!("SELECT count(*) FROM events WHERE timestamp_ns > ({middle})"));
    assert_eq!(early + late, all);
    assert!(early > 1_000 && late > 1_000, "{early} {late}");
    let until = count(&["--until", "+1s"], "SELECT count(*) FROM events");
    let since = count(&["--since", "+1s"], "SELECT count(*) FROM events");
    assert!(until + since >= all && until + since <= all + 100, "{until} {since} {all}");
    // A condition that limits what is read finds the same rows as one that does not.
    for column in ["end_time_ns", "start_time_ns"] {
        for op in ["<", "<=", ">", ">="] {
            let limited =
                count(&[], &format!("SELECT count(*) FROM processes WHERE {column} {op} ({middle})"));
            let unlimited =
                count(&[], &format!("SELECT count(*) FROM processes WHERE +{column} {op} ({middle})"));
            assert_eq!(limited, unlimited, "{column} {op}");
        }
    }
    for sql in ["pid = 1000", "pid > 500", "process_id = (SELECT max(process_id) FROM processes)"] {
        let limited = count(&[], &format!("SELECT count(*) FROM processes WHERE {sql}"));
        assert_eq!(limited, count(&[], &format!("SELECT count(*) FROM processes WHERE +{sql}")), "{sql}");
    }
}

/// A scan keeps the rows of one block, and not the processes that have ended.
#[test]
fn a_scan_needs_little_memory() {
    let dir = Dir::new();
    let file = synthetic(&dir, &["-n", "100000"]);
    for table in ["processes", "execs", "exits"] {
        let mut child = command(&["sql", &file, &format!("SELECT count(comm) + count(args) FROM {table}")]);
        let mut child = child.stdout(Stdio::null()).spawn().expect("pmon starts");
        let peak = pmon_testkit::peak::measure(&mut child, Duration::from_secs(60)).expect("pmon runs");
        assert!(peak.status.success() && peak.bytes < 48 << 20, "{table}: {} MiB", peak.bytes >> 20);
    }
}

#[test]
fn the_reference_is_generated() {
    let schema = pmon(&["sql", "--schema"]).expect(0).out;
    let docs = include_str!("../../docs/sql.md");
    let (_, reference) = docs.split_once("## Reference\n\n").expect("a section");
    // `pmon sql --schema` prints what is to be pasted after the heading.
    assert_eq!(reference, schema);
}
