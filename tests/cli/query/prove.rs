//! Tests `pmon prove` on captures that are built here.

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{End, Loss};
use pmon_core::{Cpu, Seq};

use super::*;

/// Returns the end of a recording.
fn clean_end(us: u64, events: u64, lost_by_socket: u64) -> Record<'static> {
    let mut lost = LossByCause::default();
    lost.add(LossCause::Socket, lost_by_socket);
    Record::End(End { time: MonoNs(START + us * 1_000), events, lost, ..End::default() })
}

/// A shell executes two programs in one process, which then renames itself, and is killed.
fn records() -> Vec<Record<'static>> {
    vec![
        found(1, 0, "/sbin/init splash", 100),
        found(10, 1, "sh -i", 50_000),
        scan(0, 2, SnapshotReason::Start),
        fork(1_000_000, 1, 10, (20, 20)),
        exec(1_000_500, 2, 20),
        details(1_000_500, 20, "make", b"make\0-j2\0"),
        exec(2_000_000, 3, 20),
        details(2_000_000, 20, "nc", b"nc\0-l\0"),
        exit(3_000_000, 4, (20, 20), 9),
        clean_end(5_000_000, 4, 0),
    ]
}

#[track_caller]
fn prove(file: &str, args: &[&str], code: i32) -> String {
    pmon(&[&["prove", file, "--never"], args].concat()).expect(code).out
}

#[test]
fn a_program_that_did_not_run_is_proven_and_one_that_ran_is_shown_with_its_ancestors() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&records()));
    let proven = prove(&file, &["--args", "^curl"], 0);
    assert!(proven.starts_with("proven: no process with a command line like ^curl ran on"), "{proven}");
    assert!(proven.contains("checked: 3 processes, 2 execs"), "{proven}");
    // Every exec of a process counts, not only the last.
    for (args, command) in [("^make", "make -j2"), ("^nc", "nc -l")] {
        let ran = prove(&file, &["--args", args], 1);
        assert!(ran.contains(&format!("20  {command}\n  started by 10  sh -i\n  started by 1")), "{ran}");
    }
    prove(&file, &["--exit", "SIGKILL"], 1);
    prove(&file, &["--exit", "SIGSEGV"], 0);
    prove(&file, &["--args", "^make", "--exit", "SIGKILL"], 0);
}

#[test]
fn only_programs_within_the_range_count() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&records()));
    prove(&file, &["--args", "^make", "--since", "+2100ms"], 0);
    prove(&file, &["--args", "^make", "--since", "+1500ms"], 1);
    prove(&file, &["--args", "^nc", "--until", "+1900ms"], 0);
    prove(&file, &["--args", "^nc", "--until", "+2s"], 1);
    let late = prove(&file, &["--args", "^nc", "--until", "+9s", "--since", "+4s"], 3);
    assert!(late.contains("- the recording ends at"), "{late}");
    let early = prove(&file, &["--args", "^curl", "--since", "2025-12-31"], 3);
    assert!(early.contains("- the recording begins at"), "{early}");
}

#[test]
fn all_reasons_are_stated_when_it_cannot_be_told() {
    let dir = Dir::new();
    let at = |us: u64| MonoNs(START + us * 1_000);
    let (first, last, cause) = (Seq(2), Seq(4), LossCause::Socket);
    let (after, before) = (at(1_000_000), at(2_000_000));
    let loss = Record::Loss(Loss { cpu: Cpu(0), first, last, after, before, cause });
    let mut lossy = records();
    lossy.truncate(4);
    lossy.extend([loss, exec(2_000_000, 5, 20), exit(3_000_000, 6, (20, 20), 0), clean_end(5_000_000, 3, 3)]);
    let file = dir.file("x.pmon", &ticking_capture(&lossy));
    let answer = prove(&file, &["--args", "^curl"], 3);
    assert!(answer.contains("- 3 events lost on cpu 0 from"), "{answer}");
    assert!(
        answer.contains("- too little is known of 1 process (pid 20); `pmon why` shows what is unknown"),
        "{answer}"
    );
    // A loss outside of the range does not matter.
    prove(&file, &["--args", "^curl", "--until", "+900ms"], 0);
    // A block that is cut out is not noted in the capture.
    let whole = ticking_capture(&records());
    let file = dir.file("y.pmon", &whole[..whole.len() - 40]);
    let answer = prove(&file, &["--args", "^curl"], 3);
    assert!(answer.contains("- the recording is "), "{answer}");
}

#[test]
fn each_reason_is_a_short_line() {
    let dir = Dir::new();
    // Process 30 ends before a scan can find it, so its program is unknown.
    let early = [
        exit(10, 1, (30, 30), 0),
        found(1, 0, "/sbin/init splash", 100),
        found(10, 1, "sh -i", 50_000),
        scan(20, 2, SnapshotReason::Start),
        clean_end(5_000_000, 1, 0),
    ];
    let file = dir.file("early.pmon", &ticking_capture(&early));
    let answer = prove(&file, &["--args", "^curl"], 3);
    let reasons: Vec<_> = answer.lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(reasons, ["- 1 process ended before the first scan of /proc (pid 30)"]);
    let mut damaged = ticking_capture(&self::records());
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].iter_mut().for_each(|byte| *byte ^= 0x55);
    let file = dir.file("damaged.pmon", &damaged);
    let answer = prove(&file, &["--args", "^curl"], 3);
    let reason = answer.lines().find(|line| line.contains("damaged")).expect("a reason");
    assert!(reason.starts_with("- the recording is damaged: 2 damaged parts of "), "{answer}");
    assert!(!reason.contains('('), "{answer}");
}

#[test]
fn the_proof_in_json_has_the_digests_of_its_files() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&records()));
    let proof = pmon(&["prove", &file, "--never", "--args", "^curl", "--json"]).expect(0).json();
    assert_eq!((&proof["answer"], &proof["found_count"]), (&"proven".into(), &0.into()));
    let sum = std::process::Command::new("sha256sum").arg(&file).output().expect("sha256sum runs");
    let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap().to_owned();
    assert_eq!(proof["files"][0]["sha256"], sum.as_str());
    let proof = pmon(&["prove", &file, "--never", "--args", "^nc", "--json"]).expect(1).json();
    assert_eq!(proof["found"][0]["matched_command"], "nc -l");
    assert_eq!(proof["found"][0]["ancestors"][0]["command"], "sh -i");
}

#[test]
fn a_proof_needs_a_condition() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&records()));
    let ran = pmon(&["prove", &file, "--never"]).expect(2);
    assert!(ran.err.contains("there is no condition"), "{}", ran.err);
}
