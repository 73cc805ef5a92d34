//! Tests the output of `pmon print`.

mod formats;
mod signals;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use pmon_core::Task;
use pmon_core::capture::{
    Credentials, Details, ProcessContext, ProcessState, Record, RecordedDatagram, Usage,
};
use pmon_core::wire::EventBody;
use serde_json::{Value, json};

use crate::support::*;

fn print(records: &[Record<'_>], args: &[&str]) -> RunOutput {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(records, 4));
    pmon(&[&["print", &file], args].concat()).expect(0)
}

/// Returns the rows of a CSV file as maps from column names to values.
fn csv_rows(out: &str) -> Vec<HashMap<String, String>> {
    let rows = csv::Reader::from_reader(out.as_bytes()).into_deserialize().map(|row| row.expect("a row"));
    rows.collect()
}

#[test]
fn text_shows_each_event() {
    let ran = print(&git_status_records(), &[]);
    assert_eq!(ran.err, "incomplete: 123 events lost on cpu 1 at 03:04:05\n");
    assert_eq!(
        ran.out,
        "\
-- Friday 2026-01-02, UTC+00:00 --
03:04:05.000000  ack            -  -         a listener subscribed
03:04:05.000001  fork          20  sh        child of 10 sh
03:04:05.000002  exec          20  /usr/bin/git status 'it'\\''s'  ← 10 sh  uid 1000
-- 123 events lost on cpu 1 (seq 10..132): socket overrun --
03:04:05.000005  exit          20  git       first thread: exit 3
03:04:05.000006  exec          30  ?         ? (details missed: gone)
03:04:07.000000  exit          30  ?         first thread: killed by SIGSEGV (core)
"
    );
}

/// Returns records of a program with details and resource usage from the ring.
fn ring_records() -> Vec<Record<'static>> {
    let Record::Details(git) = details(2, 20, "git", b"git\0status\0") else { unreachable!() };
    let ids = Some(Credentials { uid: 1000, euid: 0, gid: 100, egid: 100 });
    let context =
        ProcessContext { session: 9, group: 10, login_uid: 1000, cgroup: 77, pid_namespace: 4, pid: 2 };
    let git = Details {
        ids,
        filename: Some(b"/bin/git".to_vec()),
        args_len: Some(2_000_000),
        start_ticks: Some(5),
        parent_start_ticks: Some(4),
        context: Some(context),
        ..*git
    };
    let usage = |cpu_us, threads| Usage {
        start_ticks: 5,
        cpu_us,
        user_us: 4_000,
        max_rss_kib: 11_264,
        minor_faults: 3,
        read_bytes: 4_096,
        threads,
        at_least: threads > 0,
        ..Usage::default()
    };
    let exit = |us, seq, task, usage| {
        let Record::Event(frame, _) = exit(us, seq, task, 0) else { unreachable!() };
        Record::Event(frame, Some(Box::new(usage)))
    };
    vec![
        scanned(10, 1, "sh"),
        scan_end(),
        fork(1, 2, 10, (20, 20)),
        exec(2, 3, 20),
        Record::Details(Box::new(git)),
        fork(3, 4, 10, (21, 20)),
        exit(12_301, 5, (20, 20), Usage { process: ProcessState::Alive, ..usage(8_100, 1) }),
        exit(
            412_302,
            6,
            (21, 20),
            Usage { process: ProcessState::Ended { status: 9 }, process_cpu_us: 8_170, ..usage(70, 0) },
        ),
        end(500_000, 5),
    ]
}

#[test]
fn text_shows_parents_users_and_resource_usage() {
    let ran = print(&ring_records(), &["--threads"]);
    assert_eq!(
        ran.out,
        "\
-- Friday 2026-01-02, UTC+00:00 --
03:04:05.000001  fork          20  sh        child of 10 sh
03:04:05.000002  exec          20  /usr/bin/git status ... (1.91 MiB in all)  ← 10 sh  uid 1000 as root
03:04:05.000003  fork       20/21  git       new thread
03:04:05.012301  exit          20  git       first thread: exit 0  cpu at least 8.1ms, rss 11 MiB
03:04:05.412302  exit       20/21  git       killed by SIGKILL, ran 412.3ms  ← 10 sh  cpu 8.1ms, rss 11 MiB  /usr/bin/git status ... (1.91 MiB in all)
"
    );
    // With threads hidden, the process ends only once.
    let ran = print(&ring_records(), &["--kind", "exit"]);
    assert_eq!(ran.out.matches("exit  ").count(), 1, "{}", ran.out);
    assert!(ran.out.contains("killed by SIGKILL, ran 412.3ms"), "{}", ran.out);
}

#[test]
fn without_the_ring_the_process_ends_with_its_last_thread_in_every_format() {
    let records = [
        scan_end(),
        fork(1, 2, 10, (20, 20)),
        fork(3, 4, 10, (21, 20)),
        exit(5, 5, (20, 20), 0),
        exit(300_000, 6, (21, 20), 7 << 8),
        end(500_000, 4),
    ];
    let text = print(&records, &["--kind", "exit"]).out;
    assert!(text.matches("exit  ").count() == 1 && text.contains("exit 7, ran 299.9ms"), "{text}");
    let lines = print(&records, &["--format", "json", "--kind", "exit"]).json_lines();
    let rows = csv_rows(&print(&records, &["--format", "csv", "--kind", "exit"]).out);
    let of = |at: usize| {
        ["process_ended", "process_exit_code", "process_status"].map(|field| lines[at][field].clone())
    };
    assert_eq!(of(0), [json!(false), json!(null), json!(null)]);
    assert_eq!(of(1), [json!(true), json!(7 << 8), json!("exit 7")]);
    assert_eq!((lines[0]["exit_code"].clone(), lines[1]["exit_code"].clone()), (json!(0), json!(7 << 8)));
    assert_eq!((&*rows[0]["process_ended"], &*rows[0]["process_status"]), ("false", ""));
    assert_eq!((&*rows[1]["process_ended"], &*rows[1]["process_status"]), ("true", "exit 7"));
}

#[test]
fn json_and_csv_have_all_details_of_the_ring() {
    let lines = print(&ring_records(), &["--format", "json"]).json_lines();
    let rows = csv_rows(&print(&ring_records(), &["--format", "csv"]).out);
    let expected = [
        (
            1,
            json!({"filename": "/bin/git", "args_len": 2_000_000, "euid": 0, "login_uid": 1000, "session": 9, "group": 10}),
        ),
        (1, json!({"cgroup_id": 77, "pid_ns": 4, "ns_pid": 2, "start_ticks": 5, "parent_start_ticks": 4})),
        (
            3,
            json!({"cpu_us": 8_100, "user_us": 4_000, "system_us": 0, "max_rss_kib": 11_264, "minor_faults": 3}),
        ),
        (
            3,
            json!({"read_bytes": 4_096, "write_bytes": 0, "other_threads": 1, "usage_at_least": true, "start_ticks": 5}),
        ),
        (3, json!({"process_ended": false})),
        (4, json!({"cpu_us": 70, "usage_at_least": false, "max_rss_kib": 11_264})),
        (
            4,
            json!({"process_ended": true, "process_exit_code": 9, "process_status": "killed by SIGKILL", "process_cpu_us": 8_170}),
        ),
    ];
    for (at, fields) in expected {
        for (field, value) in fields.as_object().expect("an object") {
            assert_eq!(&lines[at][field], value, "{field}");
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(rows[at][field], text, "{field}");
        }
    }
}

#[test]
fn unknown_process_context_is_null() {
    let Record::Details(kworker) = details(2, 20, "kworker", b"") else { unreachable!() };
    let context = ProcessContext { login_uid: u32::MAX, pid: 20, ..ProcessContext::default() };
    let kworker = Details { context: Some(context), ..*kworker };
    let records = vec![exec(2, 3, 20), Record::Details(Box::new(kworker)), end(10, 3)];
    let line = &print(&records, &["--format", "json"]).json_lines()[0];
    for unknown in ["login_uid", "cgroup_id", "pid_ns"] {
        assert_eq!(line[unknown], json!(null), "{unknown}");
    }
    // These values can be 0.
    assert_eq!([&line["session"], &line["group"], &line["ns_pid"]], [&json!(0), &json!(0), &json!(20)]);
}

#[test]
fn threads_are_shown_on_request() {
    let ran = print(&git_status_records(), &["--threads", "--pid", "21"]);
    assert_eq!(
        ran.out,
        "\
-- Friday 2026-01-02, UTC+00:00 --
03:04:05.000003  fork       20/21  git       new thread
-- 123 events lost on cpu 1 (seq 10..132): socket overrun --
03:04:05.000004  exit       20/21  git       thread: exit 0
"
    );
}

#[test]
fn each_kind_has_a_line_of_text() {
    let task = Task::new(10, 10);
    let tracer = Task::new(99, 99);
    let records = [
        scanned(10, 1, "sh"),
        scan_end(),
        event(1, 0, 1, EventBody::Uid { task, real: 5, effective: 0 }),
        event(2, 0, 2, EventBody::Gid { task, real: 6, effective: 7 }),
        event(3, 0, 3, EventBody::Sid { task }),
        event(4, 0, 4, EventBody::Ptrace { task, tracer }),
        event(5, 0, 5, EventBody::Ptrace { task, tracer: Task::new(0, 0) }),
        event(6, 0, 6, EventBody::Comm { task: Task::new(11, 10), comm: comm(b"worker") }),
        event(7, 0, 7, EventBody::Comm { task, comm: comm(b"\x1b[2J\xff") }),
        event(8, 0, 8, EventBody::Coredump { task, parent: None }),
        end(10, 8),
    ];
    let ran = print(&records, &["--clock", "relative"]);
    assert_eq!(
        ran.out,
        "\
+0.000001000  uid           10  sh        uid 5, effective 0
+0.000002000  gid           10  sh        gid 6, effective 7
+0.000003000  sid           10  sh        leads a new session
+0.000004000  ptrace        10  sh        traced by 99 ?
+0.000005000  ptrace        10  sh        no longer traced
+0.000006000  comm       10/11  sh        thread is now worker
+0.000007000  comm          10  \\x1b[2J\\xff  is now \\x1b[2J\\xff
+0.000008000  coredump      10  \\x1b[2J\\xff  dumps core
"
    );
}

#[test]
fn clocks_select_the_time_of_a_line() {
    let first_words = |clock| {
        let ran = print(&[exec(1, 1, 5), exec(4, 2, 6), end(5, 2)], &["--clock", clock]);
        ran.out.lines().map(|line| line.split("  ").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(first_words("mono"), ["1000.000001000", "1000.000004000"]);
    assert_eq!(first_words("relative"), ["+0.000001000", "+0.000004000"]);
    assert_eq!(first_words("delta"), ["+0.000000000", "+0.000003000"]);
    let date = "-- Friday 2026-01-02, UTC+00:00 --";
    assert_eq!(first_words("wall"), [date, "03:04:05.000001", "03:04:05.000004"]);
}

#[test]
fn lines_can_have_colours_and_the_ancestors_of_the_process() {
    let records = [
        scanned(1, 0, "init"),
        scanned(10, 1, "sh"),
        scan_end(),
        fork(1, 2, 10, (20, 20)),
        exit(5, 5, (20, 20), 9),
        end(10, 2),
    ];
    let ran = print(&records, &["--kind", "exit", "--clock", "relative", "--ancestors"]);
    let line = "+0.000005000  exit          20  sh        killed by SIGKILL, ran 4us  ← 10 sh";
    assert_eq!(ran.out, format!("{line}  [init(1) sh(10)]\n"));
    let painted = line.replace("exit  ", "\x1b[31mexit\x1b[0m  ");
    let painted = painted.replace("killed by SIGKILL", "\x1b[1;31mkilled by SIGKILL\x1b[0m");
    let options = ["--kind", "exit", "--clock", "relative", "--color"];
    for (when, expected) in [("always", painted.as_str()), ("never", line), ("auto", line)] {
        assert_eq!(print(&records, &[&options[..], &[when]].concat()).out, format!("{expected}\n"), "{when}");
    }
}

#[test]
fn lines_are_cut_at_the_width_of_a_terminal() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 4));
    let lines = |columns: u32, wrap: &str| {
        let pmon = env!("CARGO_BIN_EXE_pmon");
        let print = format!("stty cols {columns}; '{pmon}' print --color never {wrap} '{file}' 2>/dev/null");
        let output = Command::new("script")
            .args(["-qec", &print, "/dev/null"])
            .env_remove("COLUMNS")
            .stdin(Stdio::null())
            .output();
        let output = output.expect("script(1) runs").stdout;
        String::from_utf8(output).unwrap().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
    };
    let whole = lines(60, "--wrap");
    let longest = |lines: &[String]| lines.iter().map(|line| line.chars().count()).max();
    assert!(longest(&whole) > Some(80), "{whole:?}");
    for columns in [60, 80] {
        let cut = lines(columns, "");
        assert_eq!(longest(&cut), Some(columns as usize), "{cut:?}");
        assert!(cut.iter().zip(&whole).all(|(cut, whole)| whole.starts_with(cut)), "{cut:?}");
    }
}

#[test]
fn the_recorders_names_of_its_threads_are_shown_on_request() {
    let name = |tid| {
        let body = EventBody::Comm { task: Task::new(tid, RECORDER), comm: comm(b"pmon-drain") };
        event(1, 0, tid, body)
    };
    let records = [name(RECORDER + 1), name(RECORDER), end(10, 2)];
    let shown = |args: &[&str]| print(&records, args).out.matches("now pmon-drain").count();
    assert_eq!([shown(&[]), shown(&["--threads"]), shown(&["--own"])], [1, 2, 2]);
}

#[test]
fn classic_equals_the_output_of_the_c_example() {
    let task = Task::new(9, 9);
    let records = [
        event(0, 0, 1, EventBody::Ack { ack: 1, err: 0 }),
        fork(1, 2, 2202, (17596, 17595)),
        loss(0, 3, 4),
        exec(2, 5, 17595),
        event(3, 0, 6, EventBody::Uid { task, real: 0, effective: 1000 }),
        event(4, 0, 7, EventBody::Gid { task, real: u32::MAX, effective: 1000 }),
        exit(5, 8, (17596, 17596), 0),
        event(6, 0, 9, EventBody::Sid { task }),
        event(7, 0, 10, EventBody::Comm { task, comm: comm(b"x") }),
        Record::Event(RecordedDatagram::Raw(b"garbage"), None),
        exit(9, 11, (5, 5), u32::MAX),
        end(10, 10),
    ];
    let ran = print(&records, &["--format", "classic"]);
    assert_eq!(ran.err, "incomplete: 2 events lost on cpu 0 at 03:04:05\n");
    assert_eq!(
        ran.out,
        "\
set mcast listen ok
fork: parent tid=2202 pid=2202 -> child tid=17596 pid=17595
exec: tid=17595 pid=17595
uid change: tid=9 pid=9 from 0 to 1000
gid change: tid=9 pid=9 from -1 to 1000
exit: tid=17596 pid=17596 exit_code=0
unhandled proc event
unhandled proc event
unhandled proc event
exit: tid=5 pid=5 exit_code=-1
"
    );
}

/// Returns the kinds and sequence numbers of the printed events.
fn shown(args: &[&str]) -> Vec<(String, u64)> {
    let lines = print(&git_status_records(), &[&["--format", "json"], args].concat()).json_lines();
    let name = |line: &Value| line["kind"].as_str().unwrap_or_default().to_owned();
    lines.iter().filter_map(|line| Some((name(line), line["seq"].as_u64()?))).collect()
}

fn seqs(args: &[&str]) -> Vec<u64> {
    shown(args).into_iter().map(|(_, seq)| seq).collect()
}

#[test]
fn filters_select_events() {
    assert_eq!(seqs(&["--kind", "exec,exit"]), [3, 5, 6, 7, 8]);
    assert_eq!(seqs(&["--pid", "30"]), [7, 8]);
    assert_eq!(seqs(&["--tree", "10"]), [2, 3, 4, 5, 6]);
    assert_eq!(seqs(&["--tree", "1", "--kind", "exec"]), [3]);
    assert_eq!(seqs(&["--comm", "git"]), [3, 4, 5, 6]);
    assert_eq!(seqs(&["--comm", "gi"]), [0; 0]);
    assert_eq!(seqs(&["--since", "+1s"]), [8]);
    assert_eq!(seqs(&["--since", "-1.5s"]), [8]);
    assert_eq!(seqs(&["--until", "+1us"]), [1, 2]);
    assert_eq!(seqs(&["--since", "2026-01-02T04:04:06+01:00"]), [8]);
    assert_eq!(seqs(&["--since", "03:04:06"]), [8]);
    assert_eq!(seqs(&["--until", "2026-01-02 03:04:04"]), [0; 0]);
}

#[test]
fn only_time_filters_hide_losses() {
    let has_loss = |args: &[&str]| print(&git_status_records(), args).out.contains("events lost");
    assert!(has_loss(&["--kind", "coredump"]));
    assert!(has_loss(&["--pid", "4"]));
    assert!(!has_loss(&["--since", "+1s"]));
}

#[test]
fn a_capture_can_be_read_from_standard_input() {
    let bytes = capture(&git_status_records(), 3);
    let ran = pmon_with_input(&["print", "-", "--format", "json"], &bytes).expect(0);
    assert_eq!(ran.json_lines().len(), 9);
    pmon_with_input(&["print", "-", "--since", "-1s"], &bytes).expect(2);
}

#[test]
fn a_closed_pipe_ends_the_verb_silently() {
    let dir = Dir::new();
    let records: Vec<_> = (0..200_000).map(|n| exec(n.into(), n, 5)).collect();
    let file = dir.file("x.pmon", &capture(&records, 10_000));
    for format in ["text", "classic", "json", "csv"] {
        let mut command = command(&["print", &file, "--format", format]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(command);
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert!(!line.is_empty());
        let output = child.wait_with_output().expect("pmon ends");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{format}");
    }
}

#[test]
fn blind_times_are_shown_where_they_happened() {
    let records = [exec(1, 1, 20), blind(1, 2_000_001), exec(2_000_001, 2, 21), end(3_000_000, 2)];
    let line = |args: &[&str]| print(&records, args).out.lines().nth(1).map(str::to_owned);
    assert_eq!(
        line(&["--clock", "relative"]).as_deref(),
        Some("+0.000001000  -- blind for 2.00s: the kernel emitted no events --")
    );
    let json = line(&["--format", "json"]).expect("a line");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["kind"], &json["blind_ns"]), (&"blind".into(), &2_000_000_000u64.into()));
    let (after, before) = (START + 1_000, START + 2_000_001_000);
    assert_eq!((&json["after_mono_ns"], &json["before_mono_ns"]), (&after.into(), &before.into()));
    let csv = &csv_rows(&print(&records, &["--format", "csv"]).out)[1];
    assert_eq!((csv["kind"].as_str(), csv["blind_ns"].as_str()), ("blind", "2000000000"));
    let classic = print(&records, &["--format", "classic"]);
    assert_eq!(
        (classic.out.lines().count(), classic.err.as_str()),
        (2, "incomplete: no events received 03:04:05-03:04:07\n")
    );
    // Only time filters hide blind times.
    assert_eq!(print(&records, &["--kind", "exit"]).out.matches("blind").count(), 1);
    assert_eq!(print(&records, &["--until", "+0.0000001s"]).out, "");
}
