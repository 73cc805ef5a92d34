use std::sync::Arc;

use pmon_core::capture::{Credentials, MissReason, ProcessContext, ProcessState, SnapshotReason};
use pmon_core::wire::Comm;
use pmon_core::{Cpu, Seq};
use proptest::prelude::*;

use super::*;
use crate::process::{MAX_BYTES, MAX_THREADS, Processes, State};
use crate::timeline::{Occurrence, size_of_details};

/// 100 ticks a second; the host was suspended for a second before.
fn census(entries: &[Entry]) -> Census {
    let start = ClockAnchor { mono: MonoNs(0), boot_ns: 1_000_000_000, real_ns: 0 };
    let mut census = Census::new(&Meta { ticks_per_second: 100, start, ..Meta::default() });
    entries.iter().for_each(|entry| census.take(entry));
    census
}

impl Census {
    /// Applies an entry without any knowledge of the process's other threads.
    fn take(&mut self, entry: &Entry) {
        self.apply(entry, None);
    }
}

fn event(ms: u64, body: EventBody, details: Option<Details>) -> Entry {
    let event = Event { time: MonoNs(ms * 1_000_000), seq: Seq(0), cpu: Cpu(0), body };
    Entry::Event(Occurrence { event: Some(event), raw: None, details: details.map(Box::new), usage: None })
}

fn leader(pid: u32) -> Task {
    Task::new(pid, pid)
}

fn fork(ms: u64, parent: u32, child: u32) -> Entry {
    event(ms, EventBody::Fork { parent: leader(parent), child: leader(child) }, None)
}

fn thread(ms: u64, tid: u32, pid: u32) -> Entry {
    event(ms, EventBody::Fork { parent: leader(1), child: Task::new(tid, pid) }, None)
}

fn exit(ms: u64, tid: u32, pid: u32) -> Entry {
    event(ms, EventBody::Exit { task: Task::new(tid, pid), code: 256, signal: 17, parent: None }, None)
}

fn comm(ms: u64, task: Task, name: &str) -> Entry {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    event(ms, EventBody::Comm { task, comm }, None)
}

fn sid(ms: u64, pid: u32) -> Entry {
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

fn exec(ms: u64, pid: u32, comm: Option<&str>) -> Entry {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(ms * 1_000_000) };
    let details = comm.map(|comm| details(subject, comm, None));
    event(ms, EventBody::Exec { task: leader(pid) }, details)
}

fn scanned(pid: u32, comm: &str, start_ticks: u64) -> Entry {
    Entry::Details(Box::new(details(DetailsSubject::Snapshot { tgid: Tgid(pid) }, comm, Some(start_ticks))))
}

fn snapshot(started_ms: u64, processes: u32) -> Entry {
    let started = MonoNs(started_ms * 1_000_000);
    Entry::Snapshot(Snapshot {
        started,
        ended: started,
        processes,
        reason: SnapshotReason::Start,
        atomic: false,
    })
}

fn pids(census: &Census) -> Vec<u32> {
    census.lives().map(|life| life.pid.0).collect()
}

fn life(census: &Census, pid: u32) -> &Life {
    census.life(Tgid(pid)).unwrap()
}

fn name(life: &Life) -> Option<&str> {
    life.name.as_deref().map(|name| str::from_utf8(name).unwrap())
}

#[test]
fn a_child_is_what_its_parent_is() {
    let census = census(&[scanned(10, "sh", 50), exec(4, 10, Some("bash")), fork(5, 10, 20)]);
    let (parent, child) = (life(&census, 10), life(&census, 20));
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
    let census = census(&[
        fork(1, 1, 10),
        comm(2, leader(10), "first"),
        thread(3, 11, 10),
        comm(4, Task::new(11, 10), "other"),
        event(5, by_thread, None),
    ]);
    assert_eq!(name(life(&census, 20)), Some("other"));
}

#[test]
fn the_dead_are_zombies_until_something_happens() {
    let mut census = census(&[fork(1, 1, 10), fork(2, 10, 20), exit(3, 10, 10)]);
    assert_eq!(pids(&census), [1, 10, 20]);
    assert_eq!((life(&census, 10).state(), life(&census, 10).exit), (State::Zombie, Some(256)));
    // Its children are not its own any more.
    assert_eq!(life(&census, 20).ppid, Some(Tgid(1)));
    census.take(&sid(4, 20));
    assert_eq!(pids(&census), [1, 20]);
}

#[test]
fn who_adopts_is_told_by_an_exit() {
    let parent = Some(leader(30));
    let body = EventBody::Exit { task: leader(20), code: 0, signal: 17, parent };
    let census = census(&[fork(1, 1, 10), fork(2, 10, 20), exit(3, 10, 10), event(4, body, None)]);
    assert_eq!(life(&census, 20).ppid, Some(Tgid(30)));
}

#[test]
fn zero_is_no_parent() {
    let parent = Some(leader(0));
    let body = EventBody::Exit { task: leader(20), code: 0, signal: 17, parent };
    let census = census(&[fork(2, 10, 20), event(4, body, None)]);
    assert_eq!(life(&census, 20).ppid, Some(Tgid(10)));
}

#[test]
fn without_its_first_thread_a_process_goes_on() {
    let mut census = census(&[fork(1, 1, 10), thread(2, 11, 10), exit(3, 10, 10), sid(4, 1)]);
    assert_eq!(life(&census, 10).state(), State::Leaderless);
    census.take(&exit(5, 11, 10));
    assert_eq!(life(&census, 10).state(), State::Zombie);
    assert!(census.owner(Tid(11)).is_none());
    census.take(&sid(6, 1));
    assert_eq!(pids(&census), [1]);
}

#[test]
fn threads_that_end_after_their_process_do_not_bring_it_back() {
    let census = census(&[scanned(10, "java", 50), exit(3, 10, 10), exit(4, 11, 10), exit(5, 12, 10)]);
    assert!(pids(&census).is_empty());
}

#[test]
fn threads_have_names_of_their_own() {
    let census = census(&[
        scanned(10, "java", 50),
        thread(1, 11, 10),
        thread(2, 12, 10),
        comm(3, Task::new(12, 10), "gc"),
        // Nobody told of its begin.
        comm(4, Task::new(13, 10), "old"),
    ]);
    let names =
        life(&census, 10).threads.iter().map(|(tid, thread)| (tid.0, thread.name.as_deref().unwrap()));
    assert_eq!(names.collect::<Vec<_>>(), [(11, &b"java"[..]), (12, b"gc"), (13, b"old")]);
    assert_eq!(census.owner(Tid(13)).map(|life| life.pid), Some(Tgid(10)));
    assert_eq!(name(life(&census, 10)), Some("java"));
}

#[test]
fn an_exec_ends_the_other_threads_and_replaces_the_program() {
    let mut census = census(&[scanned(10, "java", 50), thread(1, 11, 10), exec(2, 10, Some("ls"))]);
    assert!(life(&census, 10).threads.is_empty() && census.owner(Tid(11)).is_none());
    let exe = |census: &Census| life(census, 10).details.as_ref().unwrap().exe.clone();
    assert_eq!(exe(&census).as_deref(), Some(&b"/bin/ls"[..]));
    // Of an exec without details, only what lasts is known.
    census.take(&exec(3, 10, None));
    let process = life(&census, 10);
    let known = process.details.as_ref().unwrap();
    assert_eq!((name(process), &known.exe, &known.args), (None, &None, &None));
    assert_eq!(known.cwd.as_deref(), Some(&b"/tmp"[..]));
    assert_eq!((process.uid, process.session), (Some((7, 8)), Some(3)));
    // They may come late, but not too late.
    let subject = |ms: u64| DetailsSubject::Exec { tgid: Tgid(10), time: MonoNs(ms * 1_000_000) };
    census.take(&Entry::Details(Box::new(details(subject(2), "ls", None))));
    assert_eq!(exe(&census), None);
    census.take(&Entry::Details(Box::new(details(subject(3), "cp", None))));
    assert_eq!(exe(&census).as_deref(), Some(&b"/bin/cp"[..]));
    assert_eq!(name(life(&census, 10)), Some("cp"));
}

#[test]
fn a_process_is_named_after_its_file() {
    let mut exec = details(DetailsSubject::Exec { tgid: Tgid(10), time: MonoNs(0) }, "", None);
    (exec.comm, exec.filename) = (None, Some("./a/quite-long-file-name".into()));
    let census = census(&[event(0, EventBody::Exec { task: leader(10) }, Some(exec))]);
    assert_eq!(name(life(&census, 10)), Some("quite-long-file"));
}

#[test]
fn an_exec_by_another_thread_lets_the_process_live_on() {
    // Its threads were there before the capture.
    let census = census(&[scanned(10, "java", 50), exit(3, 10, 10), exec(4, 10, Some("ls")), sid(5, 1)]);
    let process = life(&census, 10);
    assert_eq!((process.state(), process.start_ticks), (State::Running, Some(50)));
}

#[test]
fn ids_change_by_events_of_the_first_thread() {
    let uid = |tid| EventBody::Uid { task: Task::new(tid, 10), real: tid, effective: 0 };
    let gid = |tid| EventBody::Gid { task: Task::new(tid, 10), real: tid, effective: 0 };
    let mut census =
        census(&[scanned(10, "su", 50), event(1, uid(10), None), event(2, gid(10), None), sid(3, 10)]);
    census.take(&event(4, uid(11), None));
    let process = life(&census, 10);
    assert_eq!((process.uid, process.gid), (Some((10, 0)), Some((10, 0))));
    assert_eq!((process.session, process.group), (Some(10), Some(10)));
}

#[test]
fn a_thread_makes_a_session_of_its_process() {
    let body = EventBody::Sid { task: Task::new(11, 10) };
    let census = census(&[fork(1, 1, 10), thread(2, 11, 10), exit(3, 10, 10), event(4, body, None)]);
    let process = life(&census, 10);
    assert_eq!((process.session, process.state()), (Some(10), State::Leaderless));
}

#[test]
fn a_tracer_comes_and_goes() {
    let ptrace = |tracer| EventBody::Ptrace { task: leader(10), tracer: leader(tracer) };
    let mut census = census(&[event(1, ptrace(20), None)]);
    assert_eq!(life(&census, 10).tracer, Some(Tgid(20)));
    census.take(&event(2, ptrace(0), None));
    assert_eq!(life(&census, 10).tracer, None);
}

#[test]
fn starts_are_in_ticks_since_boot() {
    let mut census = census(&[fork(250, 1, 10)]);
    assert_eq!(life(&census, 10).start_ticks, Some(125));
    // The kernel knows better, and with another start it is another process.
    census.take(&scanned(10, "sh", 124));
    assert_eq!(
        (life(&census, 10).start_ticks, life(&census, 10).start),
        (Some(124), Some(MonoNs(250_000_000)))
    );
    census.take(&scanned(10, "sh", 125));
    assert_eq!((life(&census, 10).start_ticks, life(&census, 10).start), (Some(125), None));
}

#[test]
fn what_a_scan_saw_is_there_from_its_start() {
    let mut census = census(&[scanned(10, "sh", 100), scanned(20, "ls", 150), snapshot(600, 2)]);
    assert_eq!(pids(&census), [10]);
    census.take(&sid(499, 10));
    assert_eq!(pids(&census), [10]);
    census.take(&sid(500, 10));
    assert_eq!(pids(&census), [10, 20]);
}

#[test]
fn what_a_later_scan_does_not_see_has_ended_unheard() {
    let census = census(&[
        scanned(10, "sh", 50),
        scanned(20, "ls", 50),
        snapshot(0, 2),
        fork(1, 20, 30),
        fork(8, 10, 40),
        scanned(10, "sh", 50),
        snapshot(5, 1),
    ]);
    assert_eq!(pids(&census), [10, 40]);
}

#[test]
fn a_scan_that_is_not_whole_ends_nobody() {
    let census = census(&[scanned(10, "sh", 50), snapshot(0, 1), scanned(20, "ls", 50), snapshot(5, 2)]);
    assert_eq!(pids(&census), [10, 20]);
}

#[test]
fn whoever_does_something_after_its_end_is_another() {
    let census = census(&[fork(1, 1, 10), exit(2, 10, 10), comm(3, leader(10), "new")]);
    let process = life(&census, 10);
    assert_eq!((process.start, name(process), process.state()), (None, Some("new"), State::Running));
}

#[test]
fn an_id_of_a_thread_is_taken_by_a_process() {
    let census = census(&[fork(1, 1, 10), thread(2, 11, 10), fork(3, 1, 11)]);
    assert!(life(&census, 10).threads.is_empty() && census.owner(Tid(11)).is_none());
    assert_eq!(pids(&census), [1, 10, 11]);
}

#[test]
fn a_change_has_another_version() {
    let mut census = census(&[fork(1, 1, 10), fork(1, 1, 20)]);
    let mut last = life(&census, 10).version;
    let changes = [thread(2, 11, 10), comm(3, Task::new(11, 10), "a"), sid(4, 10), exec(5, 10, None)];
    for entry in changes.iter().chain(&[fork(6, 20, 10), exit(7, 20, 20), fork(8, 1, 10), exit(9, 10, 10)]) {
        census.take(entry);
        let version = life(&census, 10).version;
        assert!(version > last, "{entry:?}");
        last = version;
    }
    census.take(&fork(10, 1, 30));
    let version = life(&census, 1).version;
    census.take(&fork(11, 1, 40));
    assert_eq!(life(&census, 1).version, version, "a child changes nothing of its parent");
}

#[test]
fn kernel_threads_have_no_program() {
    let mut kthread = details(DetailsSubject::Snapshot { tgid: Tgid(30) }, "kworker/0:1", Some(1));
    (kthread.exe, kthread.args, kthread.ppid) = (None, None, Some(2));
    let census =
        census(&[Entry::Details(Box::new(kthread)), fork(1, 2, 40), fork(2, 2, 50), exec(3, 50, None)]);
    let is = |pid| life(&census, pid).is_kernel_thread();
    assert_eq!((is(30), is(40), is(50)), (true, true, false));
}

#[test]
fn without_room_details_have_no_texts() {
    let mut census = census(&[exec(1, 10, Some("sh"))]);
    census.bytes = MAX_BYTES - index::LIFE;
    census.take(&exec(2, 20, Some("sh")));
    let known = life(&census, 20).details.as_ref().unwrap();
    assert_eq!((known.strings().iter().all(|text| text.is_none()), known.ids.is_some()), (true, true));
    assert_eq!(census.forgotten(), 1);
}

#[test]
fn with_less_room_the_texts_of_details_go() {
    let mut census = census(&[exec(1, 10, Some("sh")), exec(1, 20, Some("sh"))]);
    let bytes = census.bytes;
    census.limit(bytes);
    assert_eq!(census.forgotten(), 0);
    census.limit(bytes - 1);
    assert!(census.bytes < bytes);
    let has_texts = |pid| life(&census, pid).details.as_ref().unwrap().exe.is_some();
    assert_eq!((has_texts(10), has_texts(20), census.forgotten()), (false, true, 1));
}

#[test]
fn without_room_a_new_process_is_not_learned_and_is_counted() {
    let mut census = census(&[fork(1, 1, 10)]);
    census.limit(census.bytes);
    census.take(&fork(2, 1, 20));
    census.take(&thread(3, 30, 10));
    assert!(!census.lives.contains_key(&Tgid(20)) && census.threads.is_empty());
    assert_eq!(census.forgotten(), 2);
}

/// A chain of processes, each the child of the previous one. The first one alternates between two
/// parents.
#[test]
fn the_time_for_an_entry_is_bounded_however_deep_the_tree_is() {
    let depth = 30_000;
    let mut census = census(&[]);
    (10..10 + depth).for_each(|pid| census.take(&fork(1, pid - 1, pid)));
    let before = census.credit;
    let mut walked = 0;
    for n in 0..1000 {
        let credit = census.credit + CREDIT;
        // A thread's fork names the parent of its process: here, two deep processes take turns.
        census.take(&thread(2, 100_000, 20));
        census.take(&exit(2, 100_000, 20));
        census.take(&thread(2, 100_000 + n, 20));
        walked += (credit + 2 * CREDIT).saturating_sub(census.credit);
    }
    assert!(walked <= before + 3000 * CREDIT);
    // Scans that find no process visit all of them, while there is credit.
    for _ in 0..1000 {
        census.take(&snapshot(0, 0));
    }
    assert!(census.forgotten() > 500, "{}", census.forgotten());
}

#[test]
fn threads_are_bounded() {
    let mut census = census(&[fork(1, 1, 1)]);
    census.threads = (0..MAX_THREADS as u32).map(|tid| (Tid(1000 + tid), Tgid(5))).collect();
    census.take(&thread(2, 7, 1));
    assert!(life(&census, 1).threads.is_empty());
    assert_eq!(census.threads.len(), MAX_THREADS);
}

/// Anything that can happen to a few ids.
fn anything() -> impl Strategy<Value = Entry> {
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
        let census = census(&entries);
        let threads: HashMap<Tid, Tgid> = census.lives.values()
            .flat_map(|life| life.threads.keys().map(|&tid| (tid, life.pid)))
            .collect();
        prop_assert_eq!(&threads, &census.threads);
        let mut children: HashMap<Tgid, BTreeSet<Tgid>> = HashMap::new();
        for life in census.lives.values() {
            if let Some(ppid) = life.ppid {
                children.entry(ppid).or_default().insert(life.pid);
            }
        }
        prop_assert_eq!(&children, &census.children);
        let details: HashMap<_, _> = census.lives.values()
            .filter_map(|life| life.details.as_ref())
            .map(|details| (Arc::as_ptr(details), size_of_details(details)))
            .collect();
        let taken = census.lives.len() * index::LIFE + census.threads.len() * index::THREAD;
        prop_assert_eq!(details.values().sum::<usize>() + taken, census.bytes);
        for life in census.lives.values() {
            prop_assert!(life.threads.keys().all(|tid| tid.0 != life.pid.0 && !census.lives.contains_key(&Tgid(tid.0))));
            prop_assert!(life.state() != State::Zombie || census.corpse == Some(life.pid));
        }
    }
}

/// An exit with code 0, and the process state that the recorder saw.
fn exit_seen(ms: u64, tid: u32, pid: u32, process: ProcessState) -> Entry {
    let Entry::Event(mut occurrence) = exit(ms, tid, pid) else { unreachable!() };
    occurrence.usage = Some(Box::new(Usage { process, ..Usage::default() }));
    Entry::Event(occurrence)
}

#[test]
fn a_process_whose_threads_are_not_known_ends_when_the_recorder_saw_it_end() {
    let mut known = Processes::detailed(&Meta::default());
    known.apply(&fork(1, 1, 10));
    known.apply(&exit_seen(2, 10, 10, ProcessState::Alive));
    known.apply(&fork(3, 1, 99));
    assert_eq!(known.life(Tgid(10)).unwrap().state(), State::Leaderless);
    known.apply(&exit_seen(4, 11, 10, ProcessState::Ended { status: 9 }));
    let life = known.life(Tgid(10)).unwrap();
    assert_eq!((life.state(), life.exit), (State::Zombie, Some(9)));
    // The exit of another process's first thread can arrive later.
    known.apply(&fork(5, 1, 20));
    known.apply(&exit_seen(6, 21, 20, ProcessState::Ended { status: 9 }));
    known.apply(&exit_seen(6, 20, 20, ProcessState::Ended { status: 9 }));
    let life = known.life(Tgid(20)).unwrap();
    assert_eq!((life.state(), life.start), (State::Zombie, Some(MonoNs(5_000_000))));
    known.apply(&fork(7, 1, 30));
    assert!(known.life(Tgid(20)).is_none() && known.life(Tgid(10)).is_none());
}
