mod details;
mod limits;

use std::sync::Arc;

use pmon_core::capture::{Credentials, MissReason, ProcessContext, ProcessState, SnapshotReason};
use pmon_core::wire::Comm;
use pmon_core::{Cpu, Seq};
use proptest::prelude::*;

use super::*;
use crate::process::{MAX_BYTES, MAX_THREADS, ProcessTable, RunState};
use crate::timeline::TimelineItem;

/// Creates a table of a machine with 100 clock ticks per second, which was suspended for one second
/// before the capture.
fn live(records: &[OwnedRecord]) -> LiveProcesses {
    let start = ClockAnchor { mono: MonoNs(0), boot_ns: 1_000_000_000, real_ns: 0 };
    let mut live = LiveProcesses::new(&Meta { ticks_per_second: 100, start, ..Meta::default() });
    records.iter().for_each(|record| live.apply_alone(record));
    live
}

impl LiveProcesses {
    /// Applies a record without any knowledge of the process's other threads.
    fn apply_alone(&mut self, record: &OwnedRecord) {
        self.apply(record, None);
    }
}

fn event(ms: u64, body: EventBody, details: Option<Details>) -> OwnedRecord {
    let event = Event { time: MonoNs(ms * 1_000_000), seq: Seq(0), cpu: Cpu(0), body };
    OwnedRecord::Event(TimelineItem {
        event: Some(event),
        raw: None,
        details: details.map(Box::new),
        usage: None,
    })
}

fn leader(pid: u32) -> Task {
    Task::new(pid, pid)
}

fn fork(ms: u64, parent: u32, child: u32) -> OwnedRecord {
    event(ms, EventBody::Fork { parent: leader(parent), child: leader(child) }, None)
}

fn thread(ms: u64, tid: u32, pid: u32) -> OwnedRecord {
    event(ms, EventBody::Fork { parent: leader(1), child: Task::new(tid, pid) }, None)
}

fn exit(ms: u64, tid: u32, pid: u32) -> OwnedRecord {
    event(ms, EventBody::Exit { task: Task::new(tid, pid), code: 256, signal: 17, parent: None }, None)
}

fn comm(ms: u64, task: Task, name: &str) -> OwnedRecord {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    event(ms, EventBody::Comm { task, comm }, None)
}

fn sid(ms: u64, pid: u32) -> OwnedRecord {
    event(ms, EventBody::Sid { task: leader(pid) }, None)
}

fn details(subject: DetailsSubject, comm: &str, start_ticks: Option<u64>) -> Details {
    Details {
        miss: None,
        ppid: Some(1),
        start_ticks,
        ids: Some(Credentials { uid: 7, euid: 8, gid: 9, egid: 10 }),
        comm: Some(comm.into()),
        exe: Some(format!("/bin/{comm}").into()),
        cwd: Some("/tmp".into()),
        args: Some(format!("{comm}\0-x\0").into()),
        context: Some(ProcessContext { session: 3, group: 4, pid: 5, ..ProcessContext::default() }),
        ..Details::missed(subject, MissReason::Gone)
    }
}

fn exec(ms: u64, pid: u32, comm: Option<&str>) -> OwnedRecord {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(ms * 1_000_000) };
    let details = comm.map(|comm| details(subject, comm, None));
    event(ms, EventBody::Exec { task: leader(pid) }, details)
}

fn scanned(pid: u32, comm: &str, start_ticks: u64) -> OwnedRecord {
    OwnedRecord::Details(Box::new(details(
        DetailsSubject::Snapshot { tgid: Tgid(pid) },
        comm,
        Some(start_ticks),
    )))
}

fn snapshot(started_ms: u64, processes: u32) -> OwnedRecord {
    let started = MonoNs(started_ms * 1_000_000);
    OwnedRecord::Snapshot(Snapshot {
        started,
        ended: started,
        processes,
        reason: SnapshotReason::Start,
        atomic: false,
    })
}

fn pids(live: &LiveProcesses) -> Vec<u32> {
    live.iter().map(|process| process.pid.0).collect()
}

fn live_process(live: &LiveProcesses, pid: u32) -> &LiveProcess {
    live.get(Tgid(pid)).unwrap()
}

fn name(process: &LiveProcess) -> Option<&str> {
    process.name.as_deref().map(|name| str::from_utf8(name).unwrap())
}

#[test]
fn a_child_inherits_from_its_parent() {
    let live = live(&[scanned(10, "sh", 50), exec(4, 10, Some("bash")), fork(5, 10, 20)]);
    let (parent, child) = (live_process(&live, 10), live_process(&live, 20));
    assert_eq!((child.uid, child.gid), (Some((7, 8)), Some((9, 10))));
    assert_eq!((child.session, child.group), (Some(3), Some(4)));
    assert_eq!((name(child), child.exec), (Some("bash"), Some(MonoNs(4_000_000))));
    assert!(Arc::ptr_eq(parent.details.as_ref().unwrap(), child.details.as_ref().unwrap()));
    assert_eq!((child.ppid, parent.ppid), (Some(Tgid(10)), Some(Tgid(1))));
    // The child has its own process ID in its namespace.
    assert_eq!((parent.namespace_pid, child.namespace_pid), (Some(5), None));
}

#[test]
fn a_child_has_the_name_of_the_thread_that_forked_it() {
    let by_thread = EventBody::Fork { parent: Task::new(11, 10), child: leader(20) };
    let live = live(&[
        fork(1, 1, 10),
        comm(2, leader(10), "first"),
        thread(3, 11, 10),
        comm(4, Task::new(11, 10), "other"),
        event(5, by_thread, None),
    ]);
    assert_eq!(name(live_process(&live, 20)), Some("other"));
}

#[test]
fn an_exited_process_is_a_zombie_until_the_next_event() {
    let mut live = live(&[fork(1, 1, 10), fork(2, 10, 20), exit(3, 10, 10)]);
    assert_eq!(pids(&live), [1, 10, 20]);
    assert_eq!(
        (live_process(&live, 10).state(), live_process(&live, 10).exit),
        (RunState::Zombie, Some(256))
    );
    // Init has adopted the child.
    assert_eq!(live_process(&live, 20).ppid, Some(Tgid(1)));
    live.apply_alone(&sid(4, 20));
    assert_eq!(pids(&live), [1, 20]);
}

#[test]
fn an_exit_names_the_adopting_parent() {
    let parent = Some(leader(30));
    let body = EventBody::Exit { task: leader(20), code: 0, signal: 17, parent };
    let live = live(&[fork(1, 1, 10), fork(2, 10, 20), exit(3, 10, 10), event(4, body, None)]);
    assert_eq!(live_process(&live, 20).ppid, Some(Tgid(30)));
}

#[test]
fn parent_zero_is_ignored() {
    let parent = Some(leader(0));
    let body = EventBody::Exit { task: leader(20), code: 0, signal: 17, parent };
    let live = live(&[fork(2, 10, 20), event(4, body, None)]);
    assert_eq!(live_process(&live, 20).ppid, Some(Tgid(10)));
}

#[test]
fn a_process_continues_without_its_first_thread() {
    let mut live = live(&[fork(1, 1, 10), thread(2, 11, 10), exit(3, 10, 10), sid(4, 1)]);
    assert_eq!(live_process(&live, 10).state(), RunState::Leaderless);
    live.apply_alone(&exit(5, 11, 10));
    assert_eq!(live_process(&live, 10).state(), RunState::Zombie);
    assert!(live.process_of_thread(Tid(11)).is_none());
    live.apply_alone(&sid(6, 1));
    assert_eq!(pids(&live), [1]);
}

#[test]
fn thread_exits_after_the_end_of_a_process_do_not_add_it_again() {
    let live = live(&[scanned(10, "java", 50), exit(3, 10, 10), exit(4, 11, 10), exit(5, 12, 10)]);
    assert!(pids(&live).is_empty());
}

#[test]
fn threads_have_their_own_names() {
    let live = live(&[
        scanned(10, "java", 50),
        thread(1, 11, 10),
        thread(2, 12, 10),
        comm(3, Task::new(12, 10), "gc"),
        // The capture has no fork event of this thread.
        comm(4, Task::new(13, 10), "old"),
    ]);
    let names =
        live_process(&live, 10).threads.iter().map(|(tid, thread)| (tid.0, thread.name.as_deref().unwrap()));
    assert_eq!(names.collect::<Vec<_>>(), [(11, &b"java"[..]), (12, b"gc"), (13, b"old")]);
    assert_eq!(live.process_of_thread(Tid(13)).map(|process| process.pid), Some(Tgid(10)));
    assert_eq!(name(live_process(&live, 10)), Some("java"));
}

#[test]
fn an_exec_ends_the_other_threads_and_replaces_the_program() {
    let mut live = live(&[scanned(10, "java", 50), thread(1, 11, 10), exec(2, 10, Some("ls"))]);
    assert!(live_process(&live, 10).threads.is_empty() && live.process_of_thread(Tid(11)).is_none());
    let exe = |live: &LiveProcesses| live_process(live, 10).details.as_ref().unwrap().exe.clone();
    assert_eq!(exe(&live).as_deref(), Some(&b"/bin/ls"[..]));
    // After an exec without details, the details that an exec preserves remain.
    live.apply_alone(&exec(3, 10, None));
    let process = live_process(&live, 10);
    let known = process.details.as_ref().unwrap();
    assert_eq!((name(process), &known.exe, &known.args), (None, &None, &None));
    assert_eq!(known.cwd.as_deref(), Some(&b"/tmp"[..]));
    assert_eq!((process.uid, process.session), (Some((7, 8)), Some(3)));
    // Late details of the latest exec are applied; those of an earlier one are not.
    let subject = |ms: u64| DetailsSubject::Exec { tgid: Tgid(10), time: MonoNs(ms * 1_000_000) };
    live.apply_alone(&OwnedRecord::Details(Box::new(details(subject(2), "ls", None))));
    assert_eq!(exe(&live), None);
    live.apply_alone(&OwnedRecord::Details(Box::new(details(subject(3), "cp", None))));
    assert_eq!(exe(&live).as_deref(), Some(&b"/bin/cp"[..]));
    assert_eq!(name(live_process(&live, 10)), Some("cp"));
}

#[test]
fn a_process_is_named_after_the_executed_file() {
    let mut exec = details(DetailsSubject::Exec { tgid: Tgid(10), time: MonoNs(0) }, "", None);
    (exec.comm, exec.filename) = (None, Some("./a/quite-long-file-name".into()));
    let live = live(&[event(0, EventBody::Exec { task: leader(10) }, Some(exec))]);
    assert_eq!(name(live_process(&live, 10)), Some("quite-long-file"));
}

#[test]
fn a_process_survives_an_exec_by_another_thread() {
    // The threads are older than the capture.
    let live = live(&[scanned(10, "java", 50), exit(3, 10, 10), exec(4, 10, Some("ls")), sid(5, 1)]);
    let process = live_process(&live, 10);
    assert_eq!((process.state(), process.start_ticks), (RunState::Running, Some(50)));
}

#[test]
fn only_the_first_thread_changes_user_and_group_ids() {
    let uid = |tid| EventBody::Uid { task: Task::new(tid, 10), real: tid, effective: 0 };
    let gid = |tid| EventBody::Gid { task: Task::new(tid, 10), real: tid, effective: 0 };
    let mut live =
        live(&[scanned(10, "su", 50), event(1, uid(10), None), event(2, gid(10), None), sid(3, 10)]);
    live.apply_alone(&event(4, uid(11), None));
    let process = live_process(&live, 10);
    assert_eq!((process.uid, process.gid), (Some((10, 0)), Some((10, 0))));
    assert_eq!((process.session, process.group), (Some(10), Some(10)));
}

#[test]
fn any_thread_creates_a_session_for_its_process() {
    let body = EventBody::Sid { task: Task::new(11, 10) };
    let live = live(&[fork(1, 1, 10), thread(2, 11, 10), exit(3, 10, 10), event(4, body, None)]);
    let process = live_process(&live, 10);
    assert_eq!((process.session, process.state()), (Some(10), RunState::Leaderless));
}

#[test]
fn a_tracer_attaches_and_detaches() {
    let ptrace = |tracer| EventBody::Ptrace { task: leader(10), tracer: leader(tracer) };
    let mut live = live(&[event(1, ptrace(20), None)]);
    assert_eq!(live_process(&live, 10).tracer, Some(Tgid(20)));
    live.apply_alone(&event(2, ptrace(0), None));
    assert_eq!(live_process(&live, 10).tracer, None);
}

#[test]
fn start_times_are_in_ticks_since_boot() {
    let mut live = live(&[fork(250, 1, 10)]);
    assert_eq!(live_process(&live, 10).start_ticks, Some(125));
    // The kernel's start time overrides the estimate; a different one means a different process.
    live.apply_alone(&scanned(10, "sh", 124));
    assert_eq!(
        (live_process(&live, 10).start_ticks, live_process(&live, 10).start),
        (Some(124), Some(MonoNs(250_000_000)))
    );
    live.apply_alone(&scanned(10, "sh", 122));
    assert_eq!((live_process(&live, 10).start_ticks, live_process(&live, 10).start), (Some(122), None));
}

#[test]
fn a_scanned_process_exists_from_its_start_time_on() {
    let mut live = live(&[scanned(10, "sh", 100), scanned(20, "ls", 150), snapshot(600, 2)]);
    assert_eq!(pids(&live), [10]);
    live.apply_alone(&sid(499, 10));
    assert_eq!(pids(&live), [10]);
    live.apply_alone(&sid(500, 10));
    assert_eq!(pids(&live), [10, 20]);
}

#[test]
fn details_of_a_scan_that_follow_the_exit_of_their_process_add_no_process() {
    let single = |pid, ticks| {
        let OwnedRecord::Details(mut details) = scanned(pid, "sh", ticks) else { unreachable!() };
        details.threads = Some(1);
        OwnedRecord::Details(details)
    };
    // The exits are at tick 110 and 120 since boot.
    let exits = [exit(100, 20, 20), exit(200, 30, 30), exit(300, 9, 9)];
    let live = live(&[&exits[..], &[single(20, 110), single(30, 121)]].concat());
    assert!(!live.processes.contains_key(&Tgid(20)));
    assert!(live.processes.get(&Tgid(30)).is_some_and(|process| process.exit.is_none()));
}

#[test]
fn a_later_scan_removes_processes_that_it_does_not_find() {
    let live = live(&[
        scanned(10, "sh", 50),
        scanned(20, "ls", 50),
        snapshot(0, 2),
        fork(1, 20, 30),
        fork(8, 10, 40),
        scanned(10, "sh", 50),
        snapshot(5, 1),
    ]);
    assert_eq!(pids(&live), [10, 40]);
}

#[test]
fn a_scan_that_finds_a_process_before_its_fork_event_does_not_remove_it() {
    assert_eq!(pids(&live(&[scanned(20, "sh", 50), fork(1, 10, 20), snapshot(5, 1)])), [20]);
}

#[test]
fn a_scan_removes_no_process_with_an_event_as_new_as_its_start() {
    assert_eq!(pids(&live(&[fork(1, 1, 10), fork(2, 1, 20), snapshot(2, 0)])), [1, 20]);
    // A process that a scan has found counts from the latest event on.
    let found = [fork(2, 1, 10), scanned(30, "sh", 50), snapshot(1, 1), snapshot(2, 0)];
    assert_eq!(pids(&live(&found)), [1, 10, 30]);
}

#[test]
fn an_incomplete_scan_removes_no_process() {
    let live = live(&[scanned(10, "sh", 50), snapshot(0, 1), scanned(20, "ls", 50), snapshot(5, 2)]);
    assert_eq!(pids(&live), [10, 20]);
}

#[test]
fn an_event_after_the_end_is_of_another_process() {
    let live = live(&[fork(1, 1, 10), exit(2, 10, 10), comm(3, leader(10), "new")]);
    let process = live_process(&live, 10);
    assert_eq!((process.start, name(process), process.state()), (None, Some("new"), RunState::Running));
}

#[test]
fn a_process_can_reuse_the_id_of_a_thread() {
    let live = live(&[fork(1, 1, 10), thread(2, 11, 10), fork(3, 1, 11)]);
    assert!(live_process(&live, 10).threads.is_empty() && live.process_of_thread(Tid(11)).is_none());
    assert_eq!(pids(&live), [1, 10, 11]);
}

#[test]
fn each_change_of_a_process_changes_its_version() {
    let mut live = live(&[fork(1, 1, 10), fork(1, 1, 20)]);
    let mut last = live_process(&live, 10).version;
    let changes = [thread(2, 11, 10), comm(3, Task::new(11, 10), "a"), sid(4, 10), exec(5, 10, None)];
    for record in changes.iter().chain(&[fork(6, 20, 10), exit(7, 20, 20), fork(8, 1, 10), exit(9, 10, 10)]) {
        live.apply_alone(record);
        let version = live_process(&live, 10).version;
        assert!(version > last, "{record:?}");
        last = version;
    }
    live.apply_alone(&fork(10, 1, 30));
    let version = live_process(&live, 1).version;
    live.apply_alone(&fork(11, 1, 40));
    assert_eq!(live_process(&live, 1).version, version, "a child changes nothing of its parent");
}

#[test]
fn kernel_threads_have_no_program() {
    let mut kthread = details(DetailsSubject::Snapshot { tgid: Tgid(30) }, "kworker/0:1", Some(1));
    (kthread.exe, kthread.args, kthread.ppid) = (None, Some(Vec::new()), Some(2));
    // A process of another user has arguments, but no path.
    let mut other = details(DetailsSubject::Snapshot { tgid: Tgid(60) }, "helper", Some(1));
    (other.exe, other.ppid) = (None, Some(2));
    let [kthread, other] = [kthread, other].map(|details| OwnedRecord::Details(Box::new(details)));
    let live = live(&[kthread, other, fork(1, 2, 40), fork(2, 2, 50), exec(3, 50, None), fork(4, 1, 70)]);
    let is = |pid| live_process(&live, pid).is_kernel_thread();
    assert_eq!((is(30), is(40), is(50)), (true, true, false));
    assert_eq!((is(2), is(60), is(70)), (true, false, false));
}

/// Generates any record about a few process and thread IDs.
fn anything() -> impl Strategy<Value = OwnedRecord> {
    (0_u8..9, 1_u32..6, 1_u32..6, 0_u64..20).prop_map(|(kind, one, other, ms)| match kind {
        0 => fork(ms, one, other),
        1 => thread(ms, one, other),
        2 => exec(ms, one, Some("sh")),
        3 => exec(ms, one, None),
        4 => exit(ms, one, one),
        5 => exit(ms, one, other),
        6 => comm(ms, Task::new(one, other), "x"),
        7 => scanned(one, "y", 100 + u64::from(other)),
        _ => snapshot(ms, other),
    })
}

proptest! {
    #[test]
    fn the_tables_are_consistent(records in prop::collection::vec(anything(), 0..60)) {
        let live = live(&records);
        let threads: HashMap<Tid, Tgid> = live.processes.values()
            .flat_map(|process| process.threads.keys().map(|&tid| (tid, process.pid)))
            .collect();
        prop_assert_eq!(&threads, &live.threads);
        let mut children: HashMap<Tgid, BTreeSet<Tgid>> = HashMap::new();
        for process in live.processes.values() {
            if let Some(ppid) = process.ppid {
                children.entry(ppid).or_default().insert(process.pid);
            }
        }
        prop_assert_eq!(&children, &live.children);
        let details: HashMap<_, _> = live.processes.values()
            .filter_map(|process| process.details.as_ref())
            .map(|details| (Arc::as_ptr(details), details.memory()))
            .collect();
        let taken = live.processes.len() * index::PROCESS_BYTES + live.threads.len() * index::THREAD_BYTES;
        prop_assert_eq!(details.values().sum::<usize>() + taken, live.bytes);
        for process in live.processes.values() {
            prop_assert!(process.threads.keys().all(|tid| tid.0 != process.pid.0 && !live.processes.contains_key(&Tgid(tid.0))));
            prop_assert!(process.state() != RunState::Zombie || live.zombie == Some(process.pid));
        }
    }
}

/// Creates an exit with the process state that the recorder saw.
fn exit_with_state(ms: u64, tid: u32, pid: u32, process: ProcessState) -> OwnedRecord {
    let OwnedRecord::Event(mut item) = exit(ms, tid, pid) else { unreachable!() };
    item.usage = Some(Box::new(Usage { process, ..Usage::default() }));
    OwnedRecord::Event(item)
}

#[test]
fn the_recorded_process_state_ends_a_process_with_unknown_threads() {
    let mut known = ProcessTable::detailed(&Meta::default());
    known.apply(&fork(1, 1, 10));
    known.apply(&exit_with_state(2, 10, 10, ProcessState::Alive));
    known.apply(&fork(3, 1, 99));
    assert_eq!(known.live_process(Tgid(10)).unwrap().state(), RunState::Leaderless);
    known.apply(&exit_with_state(4, 11, 10, ProcessState::Ended { status: 9 }));
    let process = known.live_process(Tgid(10)).unwrap();
    assert_eq!((process.state(), process.exit), (RunState::Zombie, Some(9)));
    // The exit of another process's first thread can arrive later.
    known.apply(&fork(5, 1, 20));
    known.apply(&exit_with_state(6, 21, 20, ProcessState::Ended { status: 9 }));
    known.apply(&exit_with_state(6, 20, 20, ProcessState::Ended { status: 9 }));
    let process = known.live_process(Tgid(20)).unwrap();
    assert_eq!((process.state(), process.start), (RunState::Zombie, Some(MonoNs(5_000_000))));
    known.apply(&fork(7, 1, 30));
    assert!(known.live_process(Tgid(20)).is_none() && known.live_process(Tgid(10)).is_none());
}
