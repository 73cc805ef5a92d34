//! Tests `pmon why` on captures that are built here.

use super::*;

/// The process ID 30 is used three times: by children of 20, of 21, and of 1.
fn three_lives() -> Vec<Record<'static>> {
    let mut records = vec![
        found(1, 0, "/sbin/init", 100),
        found(20, 1, "first --run", 50_000),
        found(21, 1, "second", 50_001),
        scan(0, 3, SnapshotReason::Start),
    ];
    for (s, parent, args) in [(1, 20, "a x"), (3, 21, "b y"), (5, 1, "c z")] {
        let us = s * 1_000_000;
        let (comm, bytes) = (&args[..1], [args.replace(' ', "\0").as_bytes(), b"\0"].concat());
        records.extend([
            fork(us, 1, parent, (30, 30)),
            exec(us + 1_000, 1, 30),
            details(us + 1_000, 30, comm, &bytes),
            fork(us + 2_000, 1, 30, (31, 31)),
            exit(us + 3_000, 1, (31, 31), 0),
            exit(us + 500_000, 1, (30, 30), if s == 3 { 9 } else { 0 }),
        ]);
    }
    // `second` executes another program after its child has ended.
    records.extend([exec(7_000_000, 1, 21), details(7_000_000, 21, "other", b"other\0"), end(9_000_000, 9)]);
    records
}

#[track_caller]
fn why(args: &[&str]) -> RunOutput {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&three_lives()));
    pmon(&[&["why", &file], args].concat()).expect(0)
}

/// Returns the command line of the explained process and of each ancestor.
fn chain(explained: &Value) -> Vec<String> {
    let command = |of: &Value| {
        let args = of["args"].as_array().expect("arguments").iter();
        args.map(|arg| arg.as_str().expect("text")).collect::<Vec<_>>().join(" ")
    };
    let ancestors = explained["ancestors"].as_array().expect("a list");
    std::iter::once(explained).chain(ancestors).map(command).collect()
}

#[test]
fn a_reused_process_id_has_the_ancestors_of_each_process() {
    let lines = why(&["30", "--all", "--json"]).json_lines();
    assert_eq!(chain(&lines[0]), ["c z", "/sbin/init"]);
    assert_eq!(chain(&lines[1]), ["b y", "second", "/sbin/init"]);
    assert_eq!(chain(&lines[2]), ["a x", "first --run", "/sbin/init"]);
    assert_eq!(lines[3]["kind"], "coverage");
    for (at, expected) in [("+1200ms", "a x"), ("+3200ms", "b y"), ("+5200ms", "c z")] {
        let lines = why(&["30", "--at", at, "--json"]).json_lines();
        assert_eq!((lines.len(), chain(&lines[0])[0].as_str()), (2, expected));
        // What happened after the moment is known, too.
        assert_eq!(lines[0]["ended"], true);
    }
    let lines = why(&["30", "--since", "+2s", "--until", "+4s", "--json"]).json_lines();
    assert_eq!((lines.len(), chain(&lines[0])[0].as_str()), (2, "b y"));
}

#[test]
fn the_newest_match_is_explained_and_all_are_listed() {
    let ran = why(&["30"]);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(
        lines[..5],
        [
            "3 matches, the newest first:",
            "  2026-01-02 03:04:10.000       30  c z",
            "  2026-01-02 03:04:08.000       30  b y",
            "  2026-01-02 03:04:06.000       30  a x",
            "",
        ]
    );
    assert_eq!(
        lines[5..],
        [
            "      30  c z",
            "          unknown   cgroup: not recorded",
            "          started   2026-01-02 03:04:10.000",
            "          user      uid 1000, login unknown",
            "          executed  2026-01-02 03:04:10.001  c z",
            "          ended     2026-01-02 03:04:10.500 after 500.0ms: exit 0, CPU time not recorded",
            "          parent    pid 10, not the process that forked it",
            "          forked    1 process",
            "                    2026-01-02 03:04:10.002  31 c z",
            "started by",
            "       1  /sbin/init",
            "          unknown   executable, cgroup: not recorded",
            "          started   2026-01-02 02:47:26.000",
            "          user      uid unknown, login unknown",
            "          running   at the end of the recording after 16m 48s",
            "          forked    3 processes",
            "                    2026-01-02 02:55:45.000  20 first --run",
            "                    2026-01-02 02:55:45.010  21 other",
            "                    2026-01-02 03:04:10.000  30 c z",
        ]
    );
    let lines = why(&["30", "--json"]).json_lines();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["why", "match", "match", "coverage"]);
    assert_eq!(lines[0]["matches"], 3);
}

#[test]
fn patterns_search_all_programs_of_a_process() {
    let ran = why(&["^second$", "--json"]);
    assert_eq!(ran.err, "pmon: no process matches; 9 processes ran in this time\n", "{}", ran.out);
    let other = &why(&["^other$", "--json"]).json_lines()[0];
    assert_eq!((&other["pid"], &other["child_count"]), (&21.into(), &1.into()));
    let killed = &why(&["b y", "--at", "+3200ms", "--json"]).json_lines()[0];
    assert_eq!((&killed["term_signal"], &killed["exit_code"]), (&9.into(), &Value::Null));
    // The parent is shown with the program that it had then, and with its execs since.
    assert_eq!(killed["ancestors"][0]["args"], serde_json::json!(["second"]));
    assert_eq!(killed["ancestors"][0]["execs"][0]["args"], serde_json::json!(["other"]));
}

#[test]
fn standard_input_is_read_twice() {
    let ran = pmon_with_input(&["why", "-", "30", "--json"], &ticking_capture(&three_lives())).expect(0);
    assert_eq!(chain(&ran.json_lines()[0]), ["c z", "/sbin/init"]);
}

#[test]
fn an_unknown_parent_is_named() {
    let dir = Dir::new();
    let records = [scanned(5, 3, "lost"), scan(0, 1, SnapshotReason::Start), end(9_000, 0)];
    let file = dir.file("x.pmon", &ticking_capture(&records));
    let ran = pmon(&["why", &file, "5"]).expect(0);
    assert!(ran.out.ends_with("started by\n       3  an unknown process\n"), "{}", ran.out);
}
