//! Tests `pmon tree` on captures that are built here.

use super::*;

/// A shell runs `make`, which compiles `files` files. The compilation of file 3 fails.
fn build(files: u32) -> Vec<Record<'static>> {
    let mut records = vec![
        found(1, 0, "/sbin/init", 100),
        found(10, 1, "sh", 50_000),
        scan(0, 2, SnapshotReason::Start),
        fork(1_000_000, 1, 10, (20, 20)),
        exec(1_000_000, 1, 20),
        details(1_000_000, 20, "make", b"make\0-j2\0"),
    ];
    for n in 1..=files {
        let (us, pid) = (u64::from(n) * 100_000 + 1_000_000, 100 + 10 * n);
        let code = if n == 3 { 1 << 8 } else { 0 };
        let args = |name: &str| [name.as_bytes(), b"\0", format!("f{n}.c").as_bytes(), b"\0"].concat();
        records.extend([
            fork(us, 1, 20, (pid, pid)),
            exec(us + 1_000, 1, pid),
            details(us + 1_000, pid, "gcc", &args("gcc")),
            fork(us + 2_000, 1, pid, (pid + 1, pid + 1)),
            exec(us + 3_000, 1, pid + 1),
            details(us + 3_000, pid + 1, "cc1", &args("cc1")),
            exit(us + 20_000 + u64::from(n) * 1_000, 1, (pid + 1, pid + 1), code),
            exit(us + 90_000, 1, (pid, pid), code),
        ]);
    }
    records.extend([exit(9_000_000, 1, (20, 20), 2 << 8), end(10_000_000, 9)]);
    records
}

/// Returns the part of each line that shows the tree.
fn trees(out: &str) -> Vec<String> {
    out.lines().skip(1).map(|line| line.chars().skip(39).collect::<String>().trim_end().to_owned()).collect()
}

#[track_caller]
fn tree(records: &[Record<'_>], args: &[&str]) -> RunOutput {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(records));
    pmon(&[&["tree", &file], args].concat()).expect(0)
}

#[test]
fn each_process_is_below_the_one_that_forked_it() {
    let ran = tree(&build(3), &[]);
    assert_eq!(ran.err, "pmon: CPU time and memory of processes were not recorded (transport replay)\n");
    assert_eq!(
        trees(&ran.out),
        [
            "/sbin/init",
            "└─ sh",
            "   └─ [exit 2] make -j2",
            "      ├─ gcc f1.c",
            "      │  └─ cc1 f1.c",
            "      ├─ gcc f2.c",
            "      │  └─ cc1 f2.c",
            "      └─ [exit 1] gcc f3.c",
            "         └─ [exit 1] cc1 f3.c",
        ]
    );
    let columns: Vec<_> = ran.out.lines().map(|line| line.chars().take(39).collect::<String>()).collect();
    assert_eq!(columns[0], "     PID STARTED   DURATION       CPU  ");
    assert_eq!(columns[3], "      20 03:04:06     8.00s         -  ");
    assert_eq!(columns[4], "     110 03:04:06    90.0ms         -  ");
    // The shell was running at the end.
    assert_eq!(columns[2], "      10 02:55:45   8m 30s+         -  ");
}

#[test]
fn many_similar_children_are_one_line() {
    let ran = tree(&build(400), &[]);
    assert_eq!(
        trees(&ran.out)[3..],
        [
            "      └─ × 400 gcc  (1 failed, longest 90.0ms: 110 gcc f1.c)",
            "         └─ × 400 cc1  (1 failed, longest 418.0ms: 4101 cc1 f400.c)",
        ]
    );
    // The CPU time of none of them is known.
    assert!(ran.out.contains(" Σ 36.00s         -  "), "{}", ran.out);
    assert_eq!(tree(&build(400), &["--fold", "400"]).out.lines().count(), 804);
    assert_eq!(tree(&build(400), &["--fold", "0"]).out.lines().count(), 804);
}

#[test]
fn options_select_branches() {
    let shown = |args: &[&str]| trees(&tree(&build(4), args).out);
    assert_eq!(shown(&["--depth", "3"]).len(), 3);
    assert_eq!(
        shown(&["--failed"]),
        [
            "/sbin/init",
            "└─ sh",
            "   └─ [exit 2] make -j2",
            "      └─ [exit 1] gcc f3.c",
            "         └─ [exit 1] cc1 f3.c"
        ]
    );
    assert_eq!(shown(&["make", "--min-duration", "1s"]), ["[exit 2] make -j2"]);
    assert_eq!(shown(&["cc1 f[12]"]), ["cc1 f1.c", "cc1 f2.c"]);
    assert_eq!(shown(&["120"]), ["gcc f2.c", "└─ cc1 f2.c"]);
    // Only the processes that ran then, and their ancestors.
    assert_eq!(shown(&["--since", "+1200ms", "--until", "+1215ms", "gcc"]), ["gcc f2.c", "└─ cc1 f2.c"]);
    assert_eq!(shown(&["--at", "+1350ms", "make"]), ["make -j2", "└─ gcc f3.c"]);
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build(4)));
    let ran = pmon(&["tree", &file, "no such program"]).expect(0);
    assert_eq!(
        (ran.out.as_str(), ran.err.as_str()),
        ("", "pmon: no process matches; 11 processes ran in this time\n")
    );
    let ran = pmon(&["tree", &file, "4711"]).expect(0);
    assert_eq!(ran.err, "pmon: no process had the ID 4711; 11 processes ran in this time\n");
    let ran = pmon(&["tree", &file, "("]).expect(2);
    assert!(ran.err.contains("`(` is no regular expression: unclosed group\n"), "{}", ran.err);
}

#[test]
fn trees_are_json_with_their_depth() {
    let ran = tree(&build(6), &["make", "--json"]);
    let lines = ran.json_lines();
    let short: Vec<_> =
        lines.iter().map(|line| (line["kind"].as_str().unwrap(), line["depth"].as_u64())).collect();
    assert_eq!(short, [("process", Some(0)), ("folded", Some(1)), ("folded", Some(2)), ("coverage", None)]);
    assert_eq!((&lines[0]["exit_code"], &lines[0]["lasted_ns"]), (&2.into(), &8_000_000_000u64.into()));
    let folded = &lines[1];
    assert_eq!((&folded["count"], &folded["failed"], &folded["comm"]), (&6.into(), &1.into(), &"gcc".into()));
    assert_eq!((&folded["lasted_ns"], &folded["cpu_ns"]), (&540_000_000.into(), &Value::Null));
    assert_eq!(coverage(&ran)["complete"], true);
}

#[test]
fn a_process_before_the_recording_begins_is_the_root() {
    let records = [fork(1_000, 1, 77, (78, 78)), exit(5_000, 2, (78, 78), 9), end(9_000, 2)];
    let ran = tree(&records, &[]);
    assert_eq!(trees(&ran.out), ["?", "└─ [killed by SIGKILL] ?"]);
}
