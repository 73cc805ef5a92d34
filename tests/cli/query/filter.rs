//! Tests the options that select processes.

use pmon_core::capture::Credentials;

use super::*;
use crate::guard::skip;

/// Options, and the events that they select: the first letter of each kind and the process.
const SELECTIONS: &[(&[&str], &str)] = &[
    (&["--exe", "cc"], "e21 x21 e22 x22"),
    (&["--exe", "/usr/**/ma*"], "e20 f21 f22 x20"),
    (&["--args", "O2 [ab].c$"], "e21 x21 e22 x22"),
    (&["--args", "^make"], "e20 f21 f22 x20"),
    (&["--uid", "1000,7", "--kind", "exit"], "x21 x22 x20 x23"),
    (&["--uid", "7"], ""),
    (&["--unit", "build"], "e20 f21 f22 x20"),
    (&["--unit", "build.service", "--kind", "exec"], "e20"),
    (&["--unit", "docker*"], ""),
    (&["--container", "4f79"], "e21 x21 e22 x22"),
    (&["--container", "f79"], ""),
    (&["--cgroup", "/system.slice"], "e20 f21 e21 x21 f22 e22 x22 x20"),
    (&["--exit", "1"], "x21"),
    (&["--exit", "1,SIGSEGV"], "x21 x22"),
    (&["--exit", "failed"], "x21 x22 x20"),
    (&["--exit", "killed"], "x22"),
    (&["--exit", "0"], "x23"),
    (&["--longer-than", "2500ms"], "x22 x20"),
    (&["--longer-than", "3s"], "x20"),
    (&["--exit", "failed", "--comm", "cc", "--longer-than", "1s"], "x22"),
];

/// Returns the events that `print` shows.
#[track_caller]
fn printed(file: &str, options: &[&str]) -> String {
    let ran = pmon(&[&["print", file, "--format", "json"], options].concat()).expect(0);
    let events = ran.json_lines().into_iter().map(|event| match event["kind"].as_str() {
        Some("fork") => format!("f{}", event["child_pid"]),
        Some("exec") => format!("e{}", event["pid"]),
        Some("exit") => format!("x{}", event["pid"]),
        kind => panic!("{kind:?}"),
    });
    events.collect::<Vec<_>>().join(" ")
}

#[test]
fn print_selects_events_by_their_processes() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    for (options, expected) in SELECTIONS {
        assert_eq!(printed(&file, options), *expected, "{options:?}");
    }
}

#[test]
fn cut_and_replay_select_the_events_that_print_shows() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    for (at, (options, expected)) in SELECTIONS.iter().enumerate() {
        let [excerpt, replayed] = ["cut", "replay"].map(|verb| arg(&dir.path(&format!("{verb}{at}.pmon"))));
        pmon(&[&["cut", &file, "-q", "-o", &excerpt], *options].concat()).expect(0);
        assert_eq!(printed(&excerpt, &[]), *expected, "{options:?}");
        if !expected.is_empty() {
            // In replay, `--uid` is the user of the program under test.
            let select = |&option: &&'static str| if option == "--uid" { "--select-uid" } else { option };
            let options: Vec<_> = options.iter().map(select).collect();
            pmon(&[&["replay", &file, "--record", &replayed][..], &options].concat()).expect(0);
            assert_eq!(printed(&replayed, &[]), *expected, "{options:?}");
        }
    }
    let part = arg(&dir.path("part.pmon"));
    // The properties are known from before the range.
    let options = ["--since", "+3s", "--exe", "cc", "--exit", "failed"];
    pmon(&[&["cut", &file, "-o", &part][..], &options].concat()).expect(0);
    assert_eq!(printed(&part, &[]), "x22");
    let info = pmon(&["info", &part]).expect(0).out;
    assert!(info.contains("events of processes with the executable cc, with the end failed"), "{info}");
}

/// Options, and the processes that they select at the end of the recording.
const PROCESSES: &[(&[&str], &[u64])] = &[
    (&["--exe", "cc"], &[21, 22]),
    (&["--args", "O2 [ab].c$"], &[21, 22]),
    (&["--comm", "make"], &[20]),
    (&["--user", "1000"], &[20, 21, 22, 23]),
    (&["--uid", "1000", "--comm", "ls"], &[23]),
    (&["--unit", "build"], &[20]),
    (&["--container", "4f79"], &[21, 22]),
    (&["--cgroup", "/system.slice"], &[20, 21, 22]),
    (&["--exit", "SIGSEGV"], &[22]),
    (&["--exit", "failed"], &[20, 21, 22]),
    (&["--longer-than", "3s", "--exit", "failed"], &[20]),
    (&["--pid", "22,23"], &[22, 23]),
    (&["--tree", "20"], &[20, 21, 22]),
];

#[test]
fn verbs_about_processes_select_the_same_ones() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    for (options, expected) in PROCESSES {
        for verb in [&["find", &file, ""][..], &["tree", &file, "--fold", "0"], &["why", &file, "--all"]] {
            let ran = pmon(&[verb, options, &["--json"]].concat()).expect(0);
            let lines = ran.json_lines();
            // A tree has the ancestors of the selected processes, too.
            let is_selected = |line: &&Value| match line["kind"].as_str() {
                Some("process") => verb[0] != "tree" || expected.contains(&line["pid"].as_u64().unwrap()),
                kind => kind == Some("why"),
            };
            let mut pids: Vec<_> =
                lines.iter().filter(is_selected).filter_map(|line| line["pid"].as_u64()).collect();
            pids.sort_unstable();
            assert_eq!(pids, *expected, "{} {options:?}", verb[0]);
            let others = lines.iter().filter(|line| line["kind"] == "process" && !is_selected(line));
            assert!(others.map(|line| &line["pid"]).all(|pid| [1, 10, 20].contains(&pid.as_u64().unwrap())));
        }
        let stats = pmon(&[&["stats", &file, "--json"], *options].concat()).expect(0).json_lines();
        let count: u64 = stats.iter().filter_map(|line| line["count"].as_u64()).sum();
        assert_eq!(count, expected.len() as u64, "{options:?}");
        let proof = pmon(&[&["prove", &file, "--never", "--json"], *options].concat()).expect(1);
        assert_eq!(proof.json_lines()[0]["found_count"], expected.len(), "{options:?}");
    }
}

#[test]
fn ps_selects_processes_as_they_were_then() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let pids = |options: &[&str]| {
        let ran =
            pmon(&[&["ps", &file, "--at", "+2s", "-o", "pid", "--no-headers"], options].concat()).expect(0);
        (ran.out.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" "), ran.err)
    };
    assert_eq!(pids(&["--user", "1000"]).0, "20 22");
    assert_eq!(pids(&["--tree", "20", "--exe", "cc"]).0, "22");
    assert_eq!(pids(&["--longer-than", "900ms", "--user", "1000"]).0, "20");
    let none = (String::new(), "pmon: none of 4 processes at that moment matches\n".to_owned());
    assert_eq!(pids(&["--comm", "ls"]), none);
    for verb in [&["ps"][..], &["tree", "--at", "+2s"], &["why", "20", "--at", "+2s"]] {
        let line = [&[verb[0], &file], &verb[1..], &["--exit", "failed"]].concat();
        let ran = pmon(&line).expect(2);
        assert!(ran.err.contains("--exit selects processes that have ended"), "{}", ran.err);
    }
    let ran = pmon(&["why", &file]).expect(2);
    assert!(ran.err.contains("no process is named; give its ID"), "{}", ran.err);
}

#[test]
fn names_of_users_are_those_of_the_recorded_machine() {
    let dir = Dir::new();
    let foreign = dir.file("x.pmon", &ticking_capture(&build()));
    for verb in [
        &["find", ""][..],
        &["tree"],
        &["why"],
        &["ps"],
        &["stats"],
        &["top"],
        &["print"],
        &["prove", "--never"],
    ] {
        let line = [&[verb[0], &foreign], &verb[1..], &["--user", "root"]].concat();
        let ran = pmon(&line).expect(2);
        assert!(ran.err.contains("root is a user of this machine"), "{}", ran.err);
        assert!(ran.err.contains("recorded on box") && ran.err.contains("give the number"), "{}", ran.err);
        let line = [&[verb[0], &foreign], &verb[1..], &["--user", "no-such-user"]].concat();
        let ran = pmon(&line).expect(2);
        assert!(ran.err.contains("no such user in /etc/passwd; give a number"), "{}", ran.err);
    }
}

#[test]
fn a_recording_of_this_machine_has_names_of_users() {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if id.trim().is_empty() {
        return skip("this machine has no machine id");
    }
    let mut header = header();
    header.meta.machine_id = id.trim().into();
    let Record::Details(run) = details(500, 20, "make", b"make\0") else { unreachable!("details") };
    let ids = Some(Credentials { uid: 0, euid: 0, gid: 0, egid: 0 });
    let run = Record::Details(Box::new(Details { ids, ..*run }));
    let records = [found(10, 1, "sh", 100), scan(0, 1, SnapshotReason::Start), fork(100, 1, 10, (20, 20))];
    let records = records.into_iter().chain([exec(500, 2, 20), run, end(9_000, 2)]);
    let mut encoder = Encoder::new(&header).expect("the header fits");
    let mut bytes = encoder.header().to_vec();
    records.for_each(|record| encoder.push(&record).expect("the record fits"));
    bytes.extend(encoder.seal());
    bytes.extend(encoder.finish());
    let dir = Dir::new();
    let file = dir.file("x.pmon", &bytes);
    let out = |line: &[&str]| pmon(&[&[line[0], &file], &line[1..]].concat()).expect(0).out;
    assert_eq!(out(&["ps", "-o", "user,uid,pid", "--user", "root", "--no-headers"]).trim(), "root 0 20");
    assert!(out(&["why", "20"]).contains("user      uid 0 (root)"));
    assert!(out(&["stats", "--by", "user", "--comm", "make"]).ends_with(" root\n"));
    assert!(out(&["print", "--user", "root"]).ends_with("  /usr/bin/make  ← 10 sh  root\n"));
    assert_eq!(out(&["find", "make", "--user", "root", "--json"]).matches("\"uid\":0,").count(), 1);
}

#[test]
fn print_states_which_condition_matches_nothing() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    let ran = pmon(&["print", &file, "--args", "\u{1b}x", "--exit", "killed,3"]).expect(0);
    let expected = "none is of a process with a command line like \\x1bx, with the end killed or 3";
    assert!(ran.err.contains(expected), "{}", ran.err);
}

#[test]
fn impossible_selections_are_refused() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&build()));
    for (options, why) in [
        (&["--kind", "exec", "--exit", "1"][..], "add `exit` to --kind"),
        (&["--kind", "fork,exec", "--longer-than", "1s"], "add `exit` to --kind"),
        (&["--exit", "256"], "use an exit code from 0 to 255"),
        (&["--args", "("], "unclosed group"),
        (&["--exe", "[a"], "a [ without a ]"),
        (&["--cgroup", "system.slice"], "begins with /"),
        (&["--longer-than", "2"], "no duration"),
    ] {
        let ran = pmon(&[&["print", &file], options].concat()).expect(2);
        assert!(ran.err.contains(why), "{}", ran.err);
    }
}
