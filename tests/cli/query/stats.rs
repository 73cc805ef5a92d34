//! Tests `pmon stats` on captures that are built here.

use super::*;

/// Runs `pmon stats` and returns the groups.
#[track_caller]
fn groups(file: &str, args: &[&str]) -> Vec<Value> {
    let mut lines = pmon(&[&["stats", file, "--json"], args].concat()).expect(0).json_lines();
    assert_eq!(lines.pop().expect("a line")["kind"], "coverage");
    lines
}

/// Returns the key and the number of processes of each group.
fn counts(groups: &[Value]) -> Vec<String> {
    let key = |group: &Value| match &group["pid"] {
        Value::Null => group["key"].to_string().replace('"', ""),
        pid => pid.to_string(),
    };
    groups.iter().map(|group| format!("{}:{}", key(group), group["count"])).collect()
}

/// Process 20 has ended before the scan finds the parent of its parent.
#[test]
fn ancestors_are_complete_before_the_scan_at_the_start() {
    let dir = Dir::new();
    let records = [
        fork(1_000, 1, 10, (20, 20)),
        exec(2_000, 2, 20),
        details(2_000, 20, "ls", b"ls\0"),
        exit(3_000, 3, (20, 20), 0),
        fork(3_500, 4, 10, (21, 21)),
        found(1, 0, "/sbin/init", 100),
        found(10, 1, "sh", 50_000),
        scan(4_000, 3, SnapshotReason::Start),
        end(9_000, 4),
    ];
    let file = dir.file("x.pmon", &ticking_capture(&records));
    assert_eq!(counts(&groups(&file, &["--by", "subtree"])), ["1:3", "10:2"]);
    assert_eq!(counts(&groups(&file, &["--tree", "1"])), ["init:1", "ls:1", "sh:1", "null:1"]);
    pmon(&["prove", &file, "--never", "--comm", "ls", "--tree", "1"]).expect(1);
}

#[test]
fn stats_groups_processes_by_each_property() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    for (args, expected) in [
        (&["--by", "comm"][..], "cc:2 init:1 ls:1 make:1 sh:1"),
        (&["--by", "exe"], "/usr/bin/cc:2 null:2 /usr/bin/ls:1 /usr/bin/make:1"),
        (&["--by", "args", "--unit", "*"], "[make,-j2]:1"),
        (&["--by", "user"], "1000:4 null:2"),
        (&["--by", "unit"], "null:5 build.service:1"),
        (&["--by", "container", "--comm", "cc"], &format!("{CONTAINER}:2")),
        (&["--by", "parent"], "10:2 20:2 1:1 null:1"),
        (&["--by", "subtree"], "1:5 10:4 20:2"),
        (&["--by", "subtree", "--comm", "cc"], "1:2 10:2 20:2"),
        (&["--sort", "key"], "cc:2 init:1 ls:1 make:1 sh:1"),
        (&["--sort", "failed", "--limit", "2"], "cc:2 make:1"),
        (&["--sort", "max", "--limit", "3"], "make:1 cc:2 ls:1"),
        (&["--exit", "failed"], "cc:2 make:1"),
        (&["--since", "+4500ms"], "init:1 ls:1 sh:1"),
    ] {
        assert_eq!(counts(&groups(&file, args)).join(" "), expected, "{args:?}");
    }
}

#[test]
fn stats_sums_failures_durations_and_the_rate_of_starts() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let groups = groups(&file, &["--since", "+1s", "--limit", "1"]);
    let cc = &groups[0];
    assert_eq!((&cc["key"], &cc["failures"], &cc["started"]), (&"cc".into(), &2.into(), &2.into()));
    assert_eq!((&cc["cpu_ns"], &cc["max_rss_bytes"]), (&Value::Null, &Value::Null));
    assert_eq!(cc["duration_max_ns"], 2_500_000_000u64);
    let p50 = cc["duration_p50_ns"].as_u64().expect("a duration");
    assert!(p50.abs_diff(300_000_000) < 6_000_000, "{p50}");
    // Two starts in the five seconds from the start of the range to the end of the recording.
    assert!((cc["rate"].as_f64().expect("a rate") - 0.4).abs() < 0.001, "{cc}");
}

#[test]
fn stats_prints_a_table_and_states_what_it_leaves_out() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let ran = pmon(&["stats", &file, "--by", "parent", "--limit", "2"]).expect(0);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines[0], "COUNT FAILED CPU     P50   P95   MAX MEMORY RATE/S PARENT");
    assert_eq!(lines[1], "    2      1   -   1.0ms 3.10s 3.10s      -    0.3 10 sh");
    assert_eq!(lines[2], "    2      2   - 297.7ms 2.50s 2.50s      -    0.3 20 make -j2");
    assert!(ran.err.contains("pmon: 2 more groups; use --limit to show them"), "{}", ran.err);
    let none = pmon(&["stats", &file, "--comm", "no-such"]).expect(0);
    assert!(none.err.contains("pmon: no process matches"), "{}", none.err);
    let wrong = pmon(&["stats", &file, "--by", "colour"]).expect(2);
    assert!(wrong.err.contains("subtree"), "{}", wrong.err);
}
