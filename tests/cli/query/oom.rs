//! Tests `--exit oom`.

use pmon_core::capture::{End, FatalSignal, ProcessState, SignalOrigin, SignalSender, Usage};

use super::*;

/// Returns the exit of a process, with what the recorder observed of the signal.
fn ended(
    us: u64,
    seq: u32,
    pid: u32,
    status: u32,
    oom_victim: Option<bool>,
    origin: SignalOrigin,
) -> Record<'static> {
    let fatal_signal = FatalSignal { oom_victim, origin };
    let usage = Usage { process: ProcessState::Ended { status }, fatal_signal, ..Usage::default() };
    let Record::Event(frame, _) = exit(us, seq, (pid, pid), status) else { unreachable!() };
    Record::Event(frame, Some(Box::new(usage)))
}

/// Processes 20 to 25: killed by the OOM killer, by a process after the OOM killer had selected it,
/// by a process, by a fault, by an unknown sender, and one that exits.
fn kills() -> Vec<Record<'static>> {
    let mut records = vec![found(10, 1, "sh", 50_000), scan(0, 1, SnapshotReason::Start)];
    records.extend((20..26).map(|pid| fork(u64::from(pid), pid - 19, 10, (pid, pid))));
    let process = SignalOrigin::Process { code: 0, sender: SignalSender::default() };
    let kernel = SignalOrigin::Kernel { code: 128 };
    records.extend([
        ended(100, 7, 20, 9, Some(true), kernel),
        ended(110, 8, 21, 9, Some(true), process),
        ended(120, 9, 22, 9, Some(false), process),
        ended(130, 10, 23, 11, Some(false), kernel),
        ended(140, 11, 24, 9, None, SignalOrigin::Unknown),
        ended(150, 12, 25, 1 << 8, None, SignalOrigin::Unknown),
        Record::End(End { time: MonoNs(START + 1_000_000), events: 12, ..End::default() }),
    ]);
    records
}

#[test]
fn every_verb_selects_the_processes_that_the_oom_killer_killed() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&kills()));
    let pids = |lines: Vec<Value>, kind: &str| -> Vec<_> {
        lines.iter().filter(|line| line["kind"] == kind).filter_map(|line| line["pid"].as_u64()).collect()
    };
    for (ends, expected) in [
        ("oom", &[20][..]),
        ("oom,SIGSEGV", &[20, 23]),
        ("killed", &[20, 21, 22, 23, 24]),
        ("failed", &[20, 21, 22, 23, 24, 25]),
    ] {
        let printed = pmon(&["print", &file, "--format", "json", "--exit", ends]).expect(0);
        assert_eq!(pids(printed.json_lines(), "exit"), expected, "{ends}");
        let excerpt = arg(&dir.path(&format!("{ends}.pmon")));
        pmon(&["cut", &file, "-q", "-o", &excerpt, "--exit", ends]).expect(0);
        let cut = pmon(&["print", &excerpt, "--format", "json"]).expect(0);
        assert_eq!(pids(cut.json_lines(), "exit"), expected, "{ends}");
        let found = pmon(&["find", &file, "", "--exit", ends, "--json"]).expect(0);
        assert_eq!(pids(found.json_lines(), "process"), expected, "{ends}");
    }
    let query = "SELECT group_concat(pid) FROM processes WHERE oom_killed";
    assert_eq!(pmon(&["sql", &file, query, "--format", "line"]).expect(0).out, "20\n");
}

#[test]
fn a_process_that_an_unknown_sender_killed_is_undecided() {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&kills()));
    let found = pmon(&["find", &file, "", "--exit", "oom", "--json"]).expect(0);
    assert_eq!(coverage(&found)["undecided"], 1);
    let found = pmon(&["find", &file, "", "--exit", "oom", "--pid", "21,22,23,25", "--json"]).expect(0);
    assert_eq!(coverage(&found)["undecided"], 0);
    let prove = |pid, code| pmon(&["prove", &file, "--never", "--exit", "oom", "--pid", pid]).expect(code);
    prove("20", 1);
    prove("21,22,23,25", 0);
    let unknown = prove("24", 3);
    assert!(unknown.out.contains("- too little is known of 1 process (pid 24 sh)"), "{}", unknown.out);
}
