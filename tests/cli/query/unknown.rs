//! Tests that unknown properties are stated with the reason, and never shown as empty or as zero.

use super::*;

/// Returns the details of an exec that could be read only in part.
fn partly(record: Record<'static>, miss: MissReason) -> Record<'static> {
    let Record::Details(details) = record else { unreachable!("details") };
    Record::Details(Box::new(Details { exe: None, args: None, miss: Some(miss), ..*details }))
}

/// What an ordinary user without the ring records: a process that ended too early, one of another
/// user, and a thread of the kernel.
fn recorded_by_a_user() -> Vec<Record<'static>> {
    let Record::Details(kernel) = in_cgroup(found(2, 0, "kthreadd", 1), "0::/") else {
        unreachable!("details")
    };
    let kernel = Record::Details(Box::new(Details { args: None, ..*kernel }));
    vec![
        partly(found(1, 0, "init", 100), MissReason::Denied),
        kernel,
        found(10, 1, "/bin/sh", 50_000),
        scan(0, 3, SnapshotReason::Start),
        fork(1_000, 1, 10, (20, 20)),
        exec(2_000, 2, 20),
        details(2_000, 20, "ls", b"ls\0-l\0"),
        exit(3_000, 3, (20, 20), 0),
        fork(4_000, 4, 10, (21, 21)),
        exec(5_000, 5, 21),
        partly(details(5_000, 21, "true", b""), MissReason::Gone),
        exit(6_000, 6, (21, 21), 0),
        end(9_000, 6),
    ]
}

#[test]
fn why_states_what_is_unknown_and_why() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&recorded_by_a_user()));
    let why = |target| pmon(&["why", &file, target]).expect(0).out;
    let line = "unknown   command line, executable, cgroup: read too late, after the end of the process\n";
    assert!(why("21").contains(line), "{}", why("21"));
    assert!(why("21").contains("exit 0, CPU time not recorded\n") && why("21").contains("login unknown\n"));
    let line = "unknown   command line, executable, cgroup: the recorder had no permission\n";
    assert!(why("1").contains(line), "{}", why("1"));
    // A thread of the kernel has none of them.
    assert!(!why("2").contains("command line"), "{}", why("2"));
}

#[test]
fn processes_that_may_match_are_counted() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&recorded_by_a_user()));
    for verb in [&["find", ""][..], &["tree"], &["why"], &["stats"], &["top"], &["ps", "--at", "+1us"]] {
        let line = [&[verb[0], &file], &verb[1..], &["--exe", "nc", "--json"]].concat();
        let ran = pmon(&line).expect(0);
        let coverage = coverage(&ran);
        // The shell was found by a scan without its executable.
        let expected = if verb[0] == "ps" { 2 } else { 3 };
        assert_eq!(
            (&coverage["undecided"], &coverage["complete"]),
            (&expected.into(), &false.into()),
            "{line:?}"
        );
        let statement = if verb[0] == "top" { &ran.out } else { &ran.err };
        assert!(statement.contains(&format!("{expected} processes left out, because")), "{ran:?}");
        let line = [&[verb[0], &file], &verb[1..], &["--comm", "nc", "--json"]].concat();
        assert_eq!(super::coverage(&pmon(&line).expect(0))["undecided"], 0, "{line:?}");
    }
}

#[test]
fn missed_arguments_and_resources_are_stated_with_the_reason() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&recorded_by_a_user()));
    for verb in [&["find", ""][..], &["tree", "--fold", "1"], &["stats"]] {
        let ran = pmon(&[&[verb[0], &file], &verb[1..]].concat()).expect(0);
        assert!(ran.err.contains("incomplete: arguments of 1 exec missed (gone)\n"), "{}", ran.err);
        assert!(!ran.out.contains("0us"), "{}", ran.out);
        let has_cpu = verb[0] != "find";
        assert_eq!(
            ran.err.contains("CPU time and memory of processes were not recorded"),
            has_cpu,
            "{}",
            ran.err
        );
    }
    assert!(pmon(&["print", &file]).expect(0).out.contains("? (details missed: gone)"));
}

#[test]
fn a_proof_states_of_which_processes_too_little_is_known_and_why() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&recorded_by_a_user()));
    let reasons = |file: &str, condition: &[&str]| {
        let answer = pmon(&[&["prove", file, "--never"], condition].concat()).expect(3);
        let reasons = answer.out.lines().filter_map(|line| line.strip_prefix("- "));
        // The totals at the end of this capture are wrong.
        reasons.filter(|reason| reason.contains("process")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        reasons(&file, &["--exe", "nc"]),
        [
            "too little is known of 1 process (pid 21 true): read too late, after the end of the process",
            "too little is known of 1 process (pid 1 init): the recorder had no permission",
            "too little is known of 1 process (pid 10 sh); `pmon why` shows what is unknown",
        ]
    );
    let truncated = recorded_by_a_user().into_iter().map(|record| match record {
        Record::Details(details) if details.args.as_deref() == Some(b"ls\0-l\0") => {
            Record::Details(Box::new(Details { args_len: Some(9_000), miss: None, ..*details }))
        }
        record => record,
    });
    let file = dir.file("y.pmon", &ticking_capture(&truncated.collect::<Vec<_>>()));
    assert_eq!(
        reasons(&file, &["--args", "nc", "--pid", "20"]),
        ["the command line of 1 process is truncated or redacted (pid 20 ls)"]
    );
}
