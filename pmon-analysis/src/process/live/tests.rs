use std::sync::Arc;

use pmon_core::capture::{Credentials, MissReason, ProcessContext, ProcessState, SnapshotReason};
use pmon_core::wire::Comm;
use pmon_core::{Cpu, Seq};
use proptest::prelude::*;

use super::*;
use crate::process::{MAX_BYTES, MAX_THREADS, ProcessTable, RunState};
use crate::timeline::TimelineItem;

/// 100 ticks a second; the host was suspended for a second before.
fn live(entries: &[OwnedRecord]) -> LiveProcesses {
    let start = ClockAnchor { mono: MonoNs(0), boot_ns: 1_000_000_000, real_ns: 0 };
    let mut live = LiveProcesses::new(&Meta { ticks_per_second: 100, start, ..Meta::default() });
    entries.iter().for_each(|entry| live.take(entry));
    live
}

impl LiveProcesses {
    /// Applies an entry without any knowledge of the process's other threads.
    fn take(&mut self, entry: &OwnedRecord) {
        self.apply(entry, None);
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
    live.iter().map(|life| life.pid.0).collect()
}

fn life(live: &LiveProcesses, pid: u32) -> &LiveProcess {
    live.get(Tgid(pid)).unwrap()
}

fn name(life: &LiveProcess) -> Option<&str> {
    life.name.as_deref().map(|name| str::from_utf8(name).unwrap())
}

#[test]
fn a_child_is_what_its_parent_is() {
    let live = live(&[scanned(10, "sh", 50), exec(4, 10, Some("bash")), fork(5, 10, 20)]);
    let (parent, child) = (life(&live, 10), life(&live, 20));
    assert_eq!((child.uid, child.gid), (Some((7, 8)), Some((9, 10))));
    assert_eq!((child.session, child.group), (Some(3), Some(4)));
    assert_eq!((name(child), child.exec), (Some("bash"), Some(MonoNs(4_000_000))));
    assert!(Arc::ptr_eq(parent.details.as_ref().unwrap(), child.details.as_ref().unwrap()));
    assert_eq!((child.ppid, parent.ppid), (Some(Tgid(10)), Some(Tgid(1))));
    // Its id where it belongs is its own, though.
    assert_eq!((parent.inner_pid, child.inner_pid), (Some(5), None));
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
    assert_eq!(name(life(&live, 20)), Some("other"));
}

#[test]
fn the_dead_are_zombies_until_something_happens() {
    let mut live = live(&[fork(1, 1, 10), fork(2, 10, 20), exit(3, 10, 10)]);
    assert_eq!(pids(&live), [1, 10, 20]);
    assert_eq!((life(&live, 10).state(), life(&live, 10).exit), (RunState::Zombie, Some(256)));
    // Its children are not its own any more.
    assert_eq!(life(&live, 20).ppid, Some(Tgid(1)));
    live.take(&sid(4, 20));
    assert_eq!(pids(&live), [1, 20]);
}

#[test]
fn who_adopts_is_told_by_an_exit() {
    let parent = Some(leader(30));
    let body = EventBody::Exit { task: leader(20), code: 0, signal: 17, parent };
    let live = live(&[fork(1, 1, 10), fork(2, 10, 20), exit(3, 10, 10), event(4, body, None)]);
    assert_eq!(life(&live, 20).ppid, Some(Tgid(30)));
}

#[test]
fn zero_is_no_parent() {
    let parent = Some(leader(0));
    let body = EventBody::Exit { task: leader(20), code: 0, signal: 17, parent };
    let live = live(&[fork(2, 10, 20), event(4, body, None)]);
    assert_eq!(life(&live, 20).ppid, Some(Tgid(10)));
}

#[test]
fn without_its_first_thread_a_process_goes_on() {
    let mut live = live(&[fork(1, 1, 10), thread(2, 11, 10), exit(3, 10, 10), sid(4, 1)]);
    assert_eq!(life(&live, 10).state(), RunState::Leaderless);
    live.take(&exit(5, 11, 10));
    assert_eq!(life(&live, 10).state(), RunState::Zombie);
    assert!(live.owner(Tid(11)).is_none());
    live.take(&sid(6, 1));
    assert_eq!(pids(&live), [1]);
}

#[test]
fn threads_that_end_after_their_process_do_not_bring_it_back() {
    let live = live(&[scanned(10, "java", 50), exit(3, 10, 10), exit(4, 11, 10), exit(5, 12, 10)]);
    assert!(pids(&live).is_empty());
}

#[test]
fn threads_have_names_of_their_own() {
    let live = live(&[
        scanned(10, "java", 50),
        thread(1, 11, 10),
        thread(2, 12, 10),
        comm(3, Task::new(12, 10), "gc"),
        // Nobody told of its begin.
        comm(4, Task::new(13, 10), "old"),
    ]);
    let names = life(&live, 10).threads.iter().map(|(tid, thread)| (tid.0, thread.name.as_deref().unwrap()));
    assert_eq!(names.collect::<Vec<_>>(), [(11, &b"java"[..]), (12, b"gc"), (13, b"old")]);
    assert_eq!(live.owner(Tid(13)).map(|life| life.pid), Some(Tgid(10)));
    assert_eq!(name(life(&live, 10)), Some("java"));
}

#[test]
fn an_exec_ends_the_other_threads_and_replaces_the_program() {
    let mut live = live(&[scanned(10, "java", 50), thread(1, 11, 10), exec(2, 10, Some("ls"))]);
    assert!(life(&live, 10).threads.is_empty() && live.owner(Tid(11)).is_none());
    let exe = |live: &LiveProcesses| life(live, 10).details.as_ref().unwrap().exe.clone();
    assert_eq!(exe(&live).as_deref(), Some(&b"/bin/ls"[..]));
    // Of an exec without details, only what lasts is known.
    live.take(&exec(3, 10, None));
    let process = life(&live, 10);
    let known = process.details.as_ref().unwrap();
    assert_eq!((name(process), &known.exe, &known.args), (None, &None, &None));
    assert_eq!(known.cwd.as_deref(), Some(&b"/tmp"[..]));
    assert_eq!((process.uid, process.session), (Some((7, 8)), Some(3)));
    // They may come late, but not too late.
    let subject = |ms: u64| DetailsSubject::Exec { tgid: Tgid(10), time: MonoNs(ms * 1_000_000) };
    live.take(&OwnedRecord::Details(Box::new(details(subject(2), "ls", None))));
    assert_eq!(exe(&live), None);
    live.take(&OwnedRecord::Details(Box::new(details(subject(3), "cp", None))));
    assert_eq!(exe(&live).as_deref(), Some(&b"/bin/cp"[..]));
    assert_eq!(name(life(&live, 10)), Some("cp"));
}

#[test]
fn a_process_is_named_after_its_file() {
    let mut exec = details(DetailsSubject::Exec { tgid: Tgid(10), time: MonoNs(0) }, "", None);
    (exec.comm, exec.filename) = (None, Some("./a/quite-long-file-name".into()));
    let live = live(&[event(0, EventBody::Exec { task: leader(10) }, Some(exec))]);
    assert_eq!(name(life(&live, 10)), Some("quite-long-file"));
}

#[test]
fn an_exec_by_another_thread_lets_the_process_live_on() {
    // Its threads were there before the capture.
    let live = live(&[scanned(10, "java", 50), exit(3, 10, 10), exec(4, 10, Some("ls")), sid(5, 1)]);
    let process = life(&live, 10);
    assert_eq!((process.state(), process.start_ticks), (RunState::Running, Some(50)));
}

#[test]
fn ids_change_by_events_of_the_first_thread() {
    let uid = |tid| EventBody::Uid { task: Task::new(tid, 10), real: tid, effective: 0 };
    let gid = |tid| EventBody::Gid { task: Task::new(tid, 10), real: tid, effective: 0 };
    let mut live =
        live(&[scanned(10, "su", 50), event(1, uid(10), None), event(2, gid(10), None), sid(3, 10)]);
    live.take(&event(4, uid(11), None));
    let process = life(&live, 10);
    assert_eq!((process.uid, process.gid), (Some((10, 0)), Some((10, 0))));
    assert_eq!((process.session, process.group), (Some(10), Some(10)));
}

#[test]
fn a_thread_makes_a_session_of_its_process() {
    let body = EventBody::Sid { task: Task::new(11, 10) };
    let live = live(&[fork(1, 1, 10), thread(2, 11, 10), exit(3, 10, 10), event(4, body, None)]);
    let process = life(&live, 10);
    assert_eq!((process.session, process.state()), (Some(10), RunState::Leaderless));
}

#[test]
fn a_tracer_comes_and_goes() {
    let ptrace = |tracer| EventBody::Ptrace { task: leader(10), tracer: leader(tracer) };
    let mut live = live(&[event(1, ptrace(20), None)]);
    assert_eq!(life(&live, 10).tracer, Some(Tgid(20)));
    live.take(&event(2, ptrace(0), None));
    assert_eq!(life(&live, 10).tracer, None);
}

#[test]
fn starts_are_in_ticks_since_boot() {
    let mut live = live(&[fork(250, 1, 10)]);
    assert_eq!(life(&live, 10).start_ticks, Some(125));
    // The kernel knows better, and with another start it is another process.
    live.take(&scanned(10, "sh", 124));
    assert_eq!((life(&live, 10).start_ticks, life(&live, 10).start), (Some(124), Some(MonoNs(250_000_000))));
    live.take(&scanned(10, "sh", 125));
    assert_eq!((life(&live, 10).start_ticks, life(&live, 10).start), (Some(125), None));
}

#[test]
fn what_a_scan_saw_is_there_from_its_start() {
    let mut live = live(&[scanned(10, "sh", 100), scanned(20, "ls", 150), snapshot(600, 2)]);
    assert_eq!(pids(&live), [10]);
    live.take(&sid(499, 10));
    assert_eq!(pids(&live), [10]);
    live.take(&sid(500, 10));
    assert_eq!(pids(&live), [10, 20]);
}

#[test]
fn what_a_later_scan_does_not_see_has_ended_unheard() {
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
fn a_scan_that_is_not_whole_ends_nobody() {
    let live = live(&[scanned(10, "sh", 50), snapshot(0, 1), scanned(20, "ls", 50), snapshot(5, 2)]);
    assert_eq!(pids(&live), [10, 20]);
}

#[test]
fn whoever_does_something_after_its_end_is_another() {
    let live = live(&[fork(1, 1, 10), exit(2, 10, 10), comm(3, leader(10), "new")]);
    let process = life(&live, 10);
    assert_eq!((process.start, name(process), process.state()), (None, Some("new"), RunState::Running));
}

#[test]
fn an_id_of_a_thread_is_taken_by_a_process() {
    let live = live(&[fork(1, 1, 10), thread(2, 11, 10), fork(3, 1, 11)]);
    assert!(life(&live, 10).threads.is_empty() && live.owner(Tid(11)).is_none());
    assert_eq!(pids(&live), [1, 10, 11]);
}

#[test]
fn a_change_has_another_version() {
    let mut live = live(&[fork(1, 1, 10), fork(1, 1, 20)]);
    let mut last = life(&live, 10).version;
    let changes = [thread(2, 11, 10), comm(3, Task::new(11, 10), "a"), sid(4, 10), exec(5, 10, None)];
    for entry in changes.iter().chain(&[fork(6, 20, 10), exit(7, 20, 20), fork(8, 1, 10), exit(9, 10, 10)]) {
        live.take(entry);
        let version = life(&live, 10).version;
        assert!(version > last, "{entry:?}");
        last = version;
    }
    live.take(&fork(10, 1, 30));
    let version = life(&live, 1).version;
    live.take(&fork(11, 1, 40));
    assert_eq!(life(&live, 1).version, version, "a child changes nothing of its parent");
}

#[test]
fn kernel_threads_have_no_program() {
    let mut kthread = details(DetailsSubject::Snapshot { tgid: Tgid(30) }, "kworker/0:1", Some(1));
    (kthread.exe, kthread.args, kthread.ppid) = (None, None, Some(2));
    let live =
        live(&[OwnedRecord::Details(Box::new(kthread)), fork(1, 2, 40), fork(2, 2, 50), exec(3, 50, None)]);
    let is = |pid| life(&live, pid).is_kernel_thread();
    assert_eq!((is(30), is(40), is(50)), (true, true, false));
}

#[test]
fn without_room_details_have_no_texts() {
    let mut live = live(&[exec(1, 10, Some("sh"))]);
    live.bytes = MAX_BYTES - index::LIFE;
    live.take(&exec(2, 20, Some("sh")));
    let known = life(&live, 20).details.as_ref().unwrap();
    assert_eq!((known.strings().iter().all(|text| text.is_none()), known.ids.is_some()), (true, true));
    assert_eq!(live.forgotten(), 1);
}

#[test]
fn with_less_room_the_texts_of_details_go() {
    let mut live = live(&[exec(1, 10, Some("sh")), exec(1, 20, Some("sh"))]);
    let bytes = live.bytes;
    live.limit(bytes);
    assert_eq!(live.forgotten(), 0);
    live.limit(bytes - 1);
    assert!(live.bytes < bytes);
    let has_texts = |pid| life(&live, pid).details.as_ref().unwrap().exe.is_some();
    assert_eq!((has_texts(10), has_texts(20), live.forgotten()), (false, true, 1));
}

#[test]
fn without_room_a_new_process_is_not_learned_and_is_counted() {
    let mut live = live(&[fork(1, 1, 10)]);
    live.limit(live.bytes);
    live.take(&fork(2, 1, 20));
    live.take(&thread(3, 30, 10));
    assert!(!live.lives.contains_key(&Tgid(20)) && live.threads.is_empty());
    assert_eq!(live.forgotten(), 2);
}

/// A chain of processes, each the child of the previous one. The first one alternates between two
/// parents.
#[test]
fn the_time_for_an_entry_is_bounded_however_deep_the_tree_is() {
    let depth = 30_000;
    let mut live = live(&[]);
    (10..10 + depth).for_each(|pid| live.take(&fork(1, pid - 1, pid)));
    let before = live.credit;
    let mut walked = 0;
    for n in 0..1000 {
        let credit = live.credit + CREDIT;
        // A thread's fork names the parent of its process: here, two deep processes take turns.
        live.take(&thread(2, 100_000, 20));
        live.take(&exit(2, 100_000, 20));
        live.take(&thread(2, 100_000 + n, 20));
        walked += (credit + 2 * CREDIT).saturating_sub(live.credit);
    }
    assert!(walked <= before + 3000 * CREDIT);
    // Scans that find no process visit all of them, while there is credit.
    for _ in 0..1000 {
        live.take(&snapshot(0, 0));
    }
    assert!(live.forgotten() > 500, "{}", live.forgotten());
}

#[test]
fn threads_are_bounded() {
    let mut live = live(&[fork(1, 1, 1)]);
    live.threads = (0..MAX_THREADS as u32).map(|tid| (Tid(1000 + tid), Tgid(5))).collect();
    live.take(&thread(2, 7, 1));
    assert!(life(&live, 1).threads.is_empty());
    assert_eq!(live.threads.len(), MAX_THREADS);
}

/// Anything that can happen to a few ids.
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
    fn its_tables_agree(entries in prop::collection::vec(anything(), 0..60)) {
        let live = live(&entries);
        let threads: HashMap<Tid, Tgid> = live.lives.values()
            .flat_map(|life| life.threads.keys().map(|&tid| (tid, life.pid)))
            .collect();
        prop_assert_eq!(&threads, &live.threads);
        let mut children: HashMap<Tgid, BTreeSet<Tgid>> = HashMap::new();
        for life in live.lives.values() {
            if let Some(ppid) = life.ppid {
                children.entry(ppid).or_default().insert(life.pid);
            }
        }
        prop_assert_eq!(&children, &live.children);
        let details: HashMap<_, _> = live.lives.values()
            .filter_map(|life| life.details.as_ref())
            .map(|details| (Arc::as_ptr(details), details.memory()))
            .collect();
        let taken = live.lives.len() * index::LIFE + live.threads.len() * index::THREAD;
        prop_assert_eq!(details.values().sum::<usize>() + taken, live.bytes);
        for life in live.lives.values() {
            prop_assert!(life.threads.keys().all(|tid| tid.0 != life.pid.0 && !live.lives.contains_key(&Tgid(tid.0))));
            prop_assert!(life.state() != RunState::Zombie || live.corpse == Some(life.pid));
        }
    }
}

/// An exit with code 0, and the process state that the recorder saw.
fn exit_seen(ms: u64, tid: u32, pid: u32, process: ProcessState) -> OwnedRecord {
    let OwnedRecord::Event(mut occurrence) = exit(ms, tid, pid) else { unreachable!() };
    occurrence.usage = Some(Box::new(Usage { process, ..Usage::default() }));
    OwnedRecord::Event(occurrence)
}

#[test]
fn a_process_whose_threads_are_not_known_ends_when_the_recorder_saw_it_end() {
    let mut known = ProcessTable::detailed(&Meta::default());
    known.apply(&fork(1, 1, 10));
    known.apply(&exit_seen(2, 10, 10, ProcessState::Alive));
    known.apply(&fork(3, 1, 99));
    assert_eq!(known.live_process(Tgid(10)).unwrap().state(), RunState::Leaderless);
    known.apply(&exit_seen(4, 11, 10, ProcessState::Ended { status: 9 }));
    let life = known.live_process(Tgid(10)).unwrap();
    assert_eq!((life.state(), life.exit), (RunState::Zombie, Some(9)));
    // The exit of another process's first thread can arrive later.
    known.apply(&fork(5, 1, 20));
    known.apply(&exit_seen(6, 21, 20, ProcessState::Ended { status: 9 }));
    known.apply(&exit_seen(6, 20, 20, ProcessState::Ended { status: 9 }));
    let life = known.live_process(Tgid(20)).unwrap();
    assert_eq!((life.state(), life.start), (RunState::Zombie, Some(MonoNs(5_000_000))));
    known.apply(&fork(7, 1, 30));
    assert!(known.live_process(Tgid(20)).is_none() && known.live_process(Tgid(10)).is_none());
}
