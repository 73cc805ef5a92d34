//! Tests the output of `pmon info`.

use serde_json::Value;

use crate::support::*;

fn info_json(file: &str, code: i32) -> Value {
    serde_json::from_str(&pmon(&["info", file, "--json"]).expect(code).out).expect("JSON")
}

#[test]
fn json_has_the_documented_fields() {
    let dir = Dir::new();
    let bytes = capture(&git_status_records(), 4);
    let info = info_json(&dir.file("x.pmon", &bytes), 0);
    assert_eq!(info["events"]["total"], 8);
    let by_kind = info["events"]["by_kind"].as_object().expect("an object");
    let kinds = ["ack", "comm", "coredump", "exec", "exit", "fork", "gid", "ptrace", "sid", "uid", "unknown"];
    assert_eq!(by_kind.keys().map(String::as_str).collect::<Vec<_>>(), kinds);
    assert_eq!((&by_kind["fork"], &by_kind["exec"], &by_kind["exit"]), (&2.into(), &2.into(), &3.into()));
    assert_eq!(info["events"]["by_cpu"]["0"], 8);
    assert_eq!((&info["lost"]["total"], &info["lost"]["by_cause"]["socket"]), (&123.into(), &123.into()));
    assert_eq!(info["verdict"], "lossy");
    assert_eq!(info["details"]["known"], 1);
    assert_eq!(info["details"]["missed"], 1);
    assert_eq!(info["bytes"], bytes.len());
    let per_event = info["bytes_per_event"].as_f64().expect("a number");
    assert!((per_event - bytes.len() as f64 / 8.0).abs() < 0.01);
    assert_eq!(info["duration_ns"], 3_000_000_000u64);
    assert_eq!(info["clean_end"], true);
    assert_eq!(info["transport"], "replay");
    assert_eq!((&info["host"], &info["kernel"]), (&"box".into(), &"6.18.0".into()));
    assert_eq!(info["start"], "2026-01-02T03:04:05.000000000Z");
}

#[test]
fn the_count_by_kind_agrees_with_the_lines_of_print() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 4));
    let info = info_json(&file, 0);
    let lines = pmon(&["print", &file, "--format", "json"]).expect(0).json_lines();
    for (kind, count) in info["events"]["by_kind"].as_object().expect("an object") {
        let printed = lines.iter().filter(|line| line["kind"] == kind.as_str()).count();
        assert_eq!(count, printed, "{kind}");
    }
}

#[test]
fn text_has_the_main_facts() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &capture(&git_status_records(), 4));
    let out = pmon(&["info", &file]).expect(0).out;
    for line in [
        "host         box, Linux 6.18.0 x86_64, 2 CPUs",
        "started      2026-01-02 03:04:05 UTC",
        "duration     3.00s",
        "verdict      complete except 123 events lost in 1 interval (socket)",
        "lost         123 events in 1 gap",
        "details      1 exec known, 1 exec missed",
        "                       2  fork",
        "                       8  cpu 0",
        "                       1  git",
    ] {
        assert!(out.lines().any(|found| found == line), "{line:?} not in\n{out}");
    }
}

#[test]
fn an_unfinished_capture_is_read_and_reported() {
    let dir = Dir::new();
    let mut records = git_status_records();
    records.pop();
    let whole = capture(&records, 4);
    let file = dir.file("x.pmon.partial", &whole);
    assert_eq!(info_json(&file, 0)["clean_end"], false);
    let ran = pmon(&["print", &file]).expect(0);
    assert!(ran.err.contains("not ended cleanly; complete up to 2026-01-02 03:04:07"), "{}", ran.err);
}
