//! What `pmon print` writes.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use pmon_core::Task;
use pmon_core::capture::{Frame, Record};
use pmon_core::wire::Body;
use serde_json::{Value, json};

use crate::support::*;

fn print(records: &[Record<'_>], args: &[&str]) -> Ran {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(records, 4));
    pmon(&[&["print", &file], args].concat()).expect(0)
}

#[test]
fn text_tells_the_story() {
    let ran = print(&story(), &[]);
    assert_eq!(ran.err, "");
    assert_eq!(
        ran.out,
        "\
2026-01-02 03:04:05.000000  ack             -  -                a listener subscribed
2026-01-02 03:04:05.000001  fork           20  sh               child of 10 sh
2026-01-02 03:04:05.000002  exec           20  git              /usr/bin/git status 'it'\\''s'
-- 123 events lost on cpu 1 (seq 10..132): socket overrun --
2026-01-02 03:04:05.000005  exit           20  git              exit 3, ran 4us
2026-01-02 03:04:05.000006  exec           30  ?                ? (details missed: gone)
2026-01-02 03:04:07.000000  exit           30  ?                killed by SIGSEGV (core dumped)
"
    );
}

#[test]
fn threads_are_shown_on_wish() {
    let ran = print(&story(), &["--threads", "--pid", "21"]);
    assert_eq!(
        ran.out,
        "\
2026-01-02 03:04:05.000003  fork        20/21  git              new thread
-- 123 events lost on cpu 1 (seq 10..132): socket overrun --
2026-01-02 03:04:05.000004  exit        20/21  git              thread: exit 0
"
    );
}

#[test]
fn each_kind_has_its_line_of_text() {
    let task = Task::new(10, 10);
    let tracer = Task::new(99, 99);
    let records = [
        scanned(10, 1, "sh"),
        scan_end(),
        event(1, 0, 1, Body::Uid { task, real: 5, effective: 0 }),
        event(2, 0, 2, Body::Gid { task, real: 6, effective: 7 }),
        event(3, 0, 3, Body::Sid { task }),
        event(4, 0, 4, Body::Ptrace { task, tracer }),
        event(5, 0, 5, Body::Ptrace { task, tracer: Task::new(0, 0) }),
        event(6, 0, 6, Body::Comm { task: Task::new(11, 10), comm: comm(b"worker") }),
        event(7, 0, 7, Body::Comm { task, comm: comm(b"\x1b[2J\xff") }),
        event(8, 0, 8, Body::Coredump { task, parent: None }),
        mark(9, "here\x07"),
        end(10, 8),
    ];
    let ran = print(&records, &["--clock", "relative"]);
    assert_eq!(
        ran.out,
        "\
+0.000001000  uid            10  sh               uid 5, effective 0
+0.000002000  gid            10  sh               gid 6, effective 7
+0.000003000  sid            10  sh               leads a new session
+0.000004000  ptrace         10  sh               traced by 99 ?
+0.000005000  ptrace         10  sh               no longer traced
+0.000006000  comm        10/11  sh               thread is now worker
+0.000007000  comm           10  \\x1b[2J\\xff      is now \\x1b[2J\\xff
+0.000008000  coredump       10  \\x1b[2J\\xff      dumps core
+0.000009000  -- here\\x07 --
"
    );
}

#[test]
fn clocks() {
    let first_words = |clock| {
        let ran = print(&[exec(1, 1, 5), exec(4, 2, 6), end(5, 2)], &["--clock", clock]);
        ran.out.lines().map(|line| line.split("  ").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(first_words("mono"), ["1000.000001000", "1000.000004000"]);
    assert_eq!(first_words("relative"), ["+0.000001000", "+0.000004000"]);
    assert_eq!(first_words("delta"), ["+0.000000000", "+0.000003000"]);
    assert_eq!(first_words("wall"), ["2026-01-02 03:04:05.000001", "2026-01-02 03:04:05.000004"]);
}

#[test]
fn classic_is_the_c_examples_output_byte_for_byte() {
    let task = Task::new(9, 9);
    let records = [
        event(0, 0, 1, Body::Ack { ack: 1, err: 0 }),
        fork(1, 2, 2202, (17596, 17595)),
        loss(0, 3, 4),
        exec(2, 5, 17595),
        event(3, 0, 6, Body::Uid { task, real: 0, effective: 1000 }),
        event(4, 0, 7, Body::Gid { task, real: u32::MAX, effective: 1000 }),
        exit(5, 8, (17596, 17596), 0),
        event(6, 0, 9, Body::Sid { task }),
        event(7, 0, 10, Body::Comm { task, comm: comm(b"x") }),
        Record::Event(Frame::Raw(b"garbage")),
        mark(8, "note"),
        exit(9, 11, (5, 5), u32::MAX),
        end(10, 10),
    ];
    let ran = print(&records, &["--format", "classic"]);
    assert_eq!(ran.err, "pmon: 2 events lost; the classic format has no line for that\n");
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

#[test]
fn json_has_the_documented_fields() {
    let lines = print(&story(), &["--format", "json"]).json_lines();
    let at = |us: u64| (START + us * 1_000, format!("2026-01-02T03:04:05.{:06}000Z", us));
    let common = |kind: &str, us: u64, seq: u32, pid: u32, tid: u32| {
        let (mono_ns, time) = at(us);
        json!({"kind": kind, "cpu": 0, "seq": seq, "mono_ns": mono_ns, "time": time, "pid": pid, "tid": tid})
    };
    let with = |mut base: Value, more: Value| {
        base.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        base
    };
    let nobody = json!({"pid": null, "tid": null, "ack": 8, "err": 0});
    assert_eq!(lines[0], with(common("ack", 0, 1, 0, 0), nobody));
    assert_eq!(lines[1], with(common("fork", 1, 2, 10, 10), json!({"child_pid": 20, "child_tid": 20})));
    let known = json!({
        "comm": "git", "exe": "/usr/bin/git", "args": ["/usr/bin/git", "status", "it's"], "ppid": 10, "uid": 1000,
    });
    assert_eq!(lines[2], with(common("exec", 2, 3, 20, 20), known));
    assert_eq!(lines[3]["child_tid"], 21);
    assert_eq!(
        lines[4],
        json!({
            "kind": "loss", "cpu": 1, "count": 123, "first_seq": 10, "last_seq": 132,
            "cause": "socket", "after_mono_ns": START, "before_mono_ns": START + 4_000,
        })
    );
    let how = |code: u32, signal: i32, status: &str| json!({"exit_code": code, "exit_signal": signal, "status": status, "parent_pid": 10, "parent_tid": 10});
    assert_eq!(lines[5], with(common("exit", 4, 5, 20, 21), how(0, -1, "exit 0")));
    assert_eq!(lines[6], with(common("exit", 5, 6, 20, 20), how(768, 17, "exit 3")));
    let unknown = json!({"comm": null, "exe": null, "args": null, "ppid": null, "uid": null});
    assert_eq!(lines[7], with(common("exec", 6, 7, 30, 30), unknown));
    assert_eq!(lines[8]["status"], "killed by SIGSEGV (core dumped)");
    assert_eq!(lines.len(), 9);
}

#[test]
fn json_of_what_nobody_can_read_keeps_the_bytes() {
    let records = [Record::Event(Frame::Raw(b"\x01\xffno")), mark(1, "a\"b"), end(2, 1)];
    let lines = print(&records, &["--format", "json"]).json_lines();
    assert_eq!(lines[0]["kind"], "unknown");
    assert_eq!(lines[0]["frame"], "01ff6e6f");
    assert_eq!(lines[0]["pid"], json!(null));
    assert_eq!(lines[1]["kind"], "mark");
    assert_eq!(lines[1]["text"], "a\"b");
}

/// The datagram of an event of a kind that no kernel sends yet, with sequence number 5.
fn unknown_kind() -> Vec<u8> {
    let Record::Event(Frame::Event(known)) = exec(1, 5, 7) else { unreachable!() };
    let mut frame = known.encode(pmon_core::wire::ByteOrder::Little).expect("an exec has a frame");
    frame[36] = 0x20;
    frame.to_vec()
}

#[test]
fn an_unknown_kind_keeps_its_number_and_its_frame() {
    let lines =
        print(&[Record::Event(Frame::Raw(&unknown_kind())), end(2, 1)], &["--format", "json"]).json_lines();
    assert_eq!(lines[0]["kind"], "unknown");
    assert_eq!(lines[0]["what"], 0x20);
    assert_eq!(lines[0]["seq"], 5);
    assert_eq!(lines[0]["frame"].as_str().map(str::len), Some(152));
}

/// The rows of a CSV file, by the names of their columns.
fn csv_rows(out: &str) -> Vec<HashMap<String, String>> {
    let rows = csv::Reader::from_reader(out.as_bytes()).into_deserialize().map(|row| row.expect("a row"));
    rows.collect()
}

#[test]
fn csv_says_what_json_says() {
    let mut records = story();
    let unknown = unknown_kind();
    records.insert(4, Record::Event(Frame::Raw(&unknown)));
    records.insert(5, Record::Event(Frame::Raw(b"\x01\xff")));
    records.insert(6, mark(1, "a \"note\", and more"));
    let rows = csv_rows(&print(&records, &["--format", "csv"]).out);
    let lines = print(&records, &["--format", "json"]).json_lines();
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(&lines) {
        let line = line.as_object().expect("an object");
        for (key, value) in line {
            let expected = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(_) => r"/usr/bin/git status 'it'\''s'".into(),
                other => other.to_string(),
            };
            assert_eq!(row[key], expected, "{key} of {line:?}");
        }
        let others = row.iter().filter(|(key, _)| !line.contains_key(*key));
        assert!(others.into_iter().all(|(_, value)| value.is_empty()), "{row:?}");
    }
}

#[test]
fn csv_columns_stay_where_they_are() {
    let out = print(&[end(0, 0)], &["--format", "csv"]).out;
    assert_eq!(
        out,
        "kind,time,mono_ns,cpu,seq,pid,tid,child_pid,child_tid,comm,exe,args,ppid,uid,exit_code,exit_signal,status,\
         parent_pid,parent_tid,ruid,euid,rgid,egid,tracer_pid,tracer_tid,count,first_seq,last_seq,cause,text,\
         after_mono_ns,before_mono_ns,ack,err,what,frame,blind_ns\n"
    );
}

#[test]
fn csv_strings_are_escaped_as_documented() {
    let args = "plain\0two words\0a\\b\0\0it's\x1b\\\u{202e}\0".as_bytes();
    let args = [args, b"\xff\n\0"].concat();
    let records = [
        exec(1, 1, 5),
        details(1, 5, "x", &args),
        event(2, 0, 2, Body::Comm { task: Task::new(5, 5), comm: comm(b"a\\b\t\x7f\xfe") }),
        mark(3, "one\r\ntwo\u{9b}"),
        end(4, 2),
    ];
    let rows = csv_rows(&print(&records, &["--format", "csv"]).out);
    assert_eq!(rows[0]["args"], r"plain 'two words' 'a\b' '' $'it\'s\x1b\\\u202e' $'\xff\n'");
    assert_eq!(rows[1]["comm"], r"a\\b\t\x7f\xfe");
    assert_eq!(rows[2]["text"], r"one\r\ntwo\u009b");
}

/// The kinds and sequence numbers of what is shown, losses left out.
fn shown(args: &[&str]) -> Vec<(String, u64)> {
    let lines = print(&story(), &[&["--format", "json"], args].concat()).json_lines();
    let name = |line: &Value| line["kind"].as_str().unwrap_or_default().to_owned();
    lines.iter().filter_map(|line| Some((name(line), line["seq"].as_u64()?))).collect()
}

fn seqs(args: &[&str]) -> Vec<u64> {
    shown(args).into_iter().map(|(_, seq)| seq).collect()
}

#[test]
fn filters() {
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
fn losses_are_shown_whatever_the_filters_within_their_time() {
    let has_loss = |args: &[&str]| print(&story(), args).out.contains("events lost");
    assert!(has_loss(&["--kind", "coredump"]));
    assert!(has_loss(&["--pid", "4"]));
    assert!(!has_loss(&["--since", "+1s"]));
}

#[test]
fn standard_input_is_a_capture_too() {
    let bytes = capture(&story(), 3);
    let ran = pmon_with_input(&["print", "-", "--format", "json"], &bytes).expect(0);
    assert_eq!(ran.json_lines().len(), 9);
    pmon_with_input(&["print", "-", "--since", "-1s"], &bytes).expect(2);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
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
fn blindness_stands_where_it_was() {
    let records = [exec(1, 1, 20), blind(1, 2_000_001), exec(2_000_001, 2, 21), end(3_000_000, 2)];
    let line = |args: &[&str]| print(&records, args).out.lines().nth(1).map(str::to_owned);
    assert_eq!(
        line(&[]).as_deref(),
        Some("2026-01-02 03:04:05.000001  -- blind for 2.00s: nothing was heard --")
    );
    let json = line(&["--format", "json"]).expect("a line");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["kind"], &json["blind_ns"]), (&"blind".into(), &2_000_000_000u64.into()));
    let (after, before) = (START + 1_000, START + 2_000_001_000);
    assert_eq!((&json["after_mono_ns"], &json["before_mono_ns"]), (&after.into(), &before.into()));
    let csv = print(&records, &["--format", "csv"]).out;
    let csv = csv.lines().nth(2).expect("a line");
    assert!(csv.starts_with("blind,") && csv.ends_with(",2000000000"), "{csv}");
    let classic = print(&records, &["--format", "classic"]);
    assert_eq!(
        (classic.out.lines().count(), classic.err.as_str()),
        (2, "pmon: nothing heard for 2.00s; the classic format has no line for that\n")
    );
    // Whatever the filters but time.
    assert_eq!(print(&records, &["--kind", "exit"]).out.lines().count(), 1);
    assert_eq!(print(&records, &["--until", "+0.0000001s"]).out.lines().count(), 0);
}
