mod lineage;
mod machine;
mod oracle;
mod rows;
mod shown;
mod signals;
mod truth;

use pmon_core::accounting::LossCause;
use pmon_core::capture::Header;
use pmon_core::capture::{
    ClockAnchor, Details, DetailsSubject, Loss, Meta, MissReason, ProcessContext, ProcessState, Record,
    RecordedDatagram, Snapshot, SnapshotReason, Usage,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, Seq, Task, Tgid};

use super::*;

fn header() -> Header {
    let start = ClockAnchor { mono: MonoNs(0), boot_ns: 5_000_000_000, real_ns: 0 };
    let meta =
        Meta { ticks_per_second: 100, start, machine_id: "m".into(), boot_id: "b".into(), ..Meta::default() };
    Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta }
}

fn event(time: u64, body: EventBody) -> Record<'static> {
    RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body }).into()
}

fn task(pid: u32) -> Task {
    Task::new(pid, pid)
}

fn fork(time: u64, parent: u32, child: u32) -> Record<'static> {
    event(time, EventBody::Fork { parent: task(parent), child: task(child) })
}

fn thread(time: u64, parent: u32, pid: u32, tid: u32) -> Record<'static> {
    event(time, EventBody::Fork { parent: task(parent), child: Task::new(tid, pid) })
}

fn exec(time: u64, pid: u32) -> Record<'static> {
    event(time, EventBody::Exec { task: task(pid) })
}

fn exit(time: u64, tid: u32, pid: u32, code: u32) -> Record<'static> {
    event(time, EventBody::Exit { task: Task::new(tid, pid), code, signal: 17, parent: None })
}

fn exit_with(time: u64, tid: u32, pid: u32, code: u32, usage: Usage) -> Record<'static> {
    match exit(time, tid, pid, code) {
        Record::Event(datagram, _) => Record::Event(datagram, Some(Box::new(usage))),
        record => record,
    }
}

fn details(subject: DetailsSubject, args: &str, ppid: u32) -> Details {
    let comm = args.split(' ').next().unwrap();
    Details {
        miss: None,
        ppid: Some(ppid),
        comm: Some(comm.into()),
        args: Some(args.split(' ').flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect()),
        ..Details::missed(subject, MissReason::Gone)
    }
}

fn exec_details(time: u64, pid: u32, args: &str) -> Record<'static> {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(time) };
    Record::Details(Box::new(details(subject, args, 1)))
}

fn scanned(pid: u32, args: &str, ppid: u32, ticks: u64) -> Record<'static> {
    let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
    Record::Details(Box::new(Details {
        start_ticks: Some(ticks),
        threads: Some(1),
        ..details(subject, args, ppid)
    }))
}

fn snapshot(processes: u32) -> Record<'static> {
    let reason = SnapshotReason::Start;
    Record::Snapshot(Snapshot { started: MonoNs(0), ended: MonoNs(0), processes, reason, atomic: false })
}

fn loss(time: u64) -> Record<'static> {
    let cause = LossCause::Socket;
    let (after, before) = (MonoNs(time), MonoNs(time));
    Record::Loss(Loss { cpu: Cpu(0), first: Seq(1), last: Seq(1), after, before, cause })
}

/// Returns all rows.
fn lives(records: &[Record<'static>]) -> Vec<Life> {
    let mut tracker = LifeTracker::new(&header());
    let mut lives = Vec::new();
    for record in records {
        tracker.apply(record);
        lives.extend(std::iter::from_fn(|| tracker.pop()));
    }
    tracker.finish();
    lives.extend(std::iter::from_fn(|| tracker.pop()));
    lives
}

/// Returns the row of the process that has this ID, which is used once.
fn life(lives: &[Life], pid: u32) -> &Life {
    let mut found = lives.iter().filter(|life| life.pid == pid);
    let life = found.next().unwrap();
    assert!(found.next().is_none());
    life
}

fn command(program: &ProcessProgram) -> String {
    let words: Vec<_> = program.get().argv().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
    words.join(" ")
}

fn commands(life: &Life) -> Vec<String> {
    life.execs.iter().map(|exec| command(&exec.program)).collect()
}

#[test]
fn a_row_has_the_programs_the_parent_the_end_and_the_usage_of_its_process() {
    let usage =
        Usage { cpu_us: 7, max_rss_kib: 2, process: ProcessState::Ended { status: 256 }, ..Usage::default() };
    let lives = lives(&[
        scanned(10, "sh -i", 1, 3),
        snapshot(1),
        fork(100, 10, 20),
        exec(110, 20),
        exec_details(110, 20, "make all"),
        exec(120, 20),
        exec_details(120, 20, "cc -c a.c"),
        exit_with(150, 20, 20, 256, usage),
    ]);
    let cc = life(&lives, 20);
    assert_eq!(commands(cc), ["make all", "cc -c a.c"]);
    assert_eq!(command(&cc.program), "cc -c a.c");
    assert_eq!(cc.comm(), Some(&b"cc"[..]));
    assert_eq!(cc.end, LifeEnd::Ended { time: MonoNs(150), status: Some(WaitStatus::Exited(1)) });
    assert_eq!(cc.duration_ns(), Some(50));
    let usage = cc.usage.as_ref().unwrap();
    assert_eq!((usage.cpu_ns, usage.max_rss_bytes, usage.at_least), (7000, Some(2048), false));
    let parent = cc.parent.as_ref().unwrap();
    let sh = life(&lives, 10);
    assert_eq!((parent.pid, parent.id, command(&parent.program)), (10, sh.id, "sh -i".into()));
    assert_eq!((sh.end, sh.origin), (LifeEnd::Running, ProcessStart::Ticks(3)));
}

#[test]
fn a_child_has_its_parents_program_until_it_execs() {
    let lives = lives(&[scanned(10, "sh -i", 1, 3), snapshot(1), fork(100, 10, 20), exit(101, 20, 20, 0)]);
    let child = life(&lives, 20);
    assert_eq!((command(&child.program), child.execs.len()), ("sh -i".into(), 0));
}

#[test]
fn late_details_complete_rows_of_ended_processes_and_their_children() {
    let lives = lives(&[
        fork(100, 10, 20),
        exec(110, 20),
        fork(111, 20, 21),
        exit(112, 21, 21, 0),
        exit(113, 20, 20, 0),
        fork(114, 10, 22),
        exec_details(110, 20, "cc -c a.c"),
        exit(120, 22, 22, 0),
    ]);
    assert_eq!(lives.iter().map(|life| life.pid).collect::<Vec<_>>(), [21, 20, 22, 10]);
    assert_eq!(commands(life(&lives, 20)), ["cc -c a.c"]);
    assert_eq!(command(&life(&lives, 21).program), "cc -c a.c");
    assert_eq!(command(&life(&lives, 21).parent.as_ref().unwrap().program), "cc -c a.c");
}

#[test]
fn a_row_waits_for_details_at_most_one_second() {
    let mut tracker = LifeTracker::new(&header());
    for record in [fork(1, 10, 20), exec(2, 20), exit(3, 20, 20, 0), fork(4, 10, 21)] {
        tracker.apply(&record);
        assert!(tracker.pop().is_none());
    }
    tracker.apply(&exit(1_000_000_002, 21, 21, 0));
    assert!(tracker.pop().is_none());
    tracker.apply(&fork(1_000_000_003, 10, 22));
    assert_eq!(tracker.pop().map(|life| life.pid), Some(20));
}

#[test]
fn a_reused_id_is_another_process_with_its_own_parent() {
    let lives = lives(&[
        fork(100, 10, 20),
        exit(110, 20, 20, 0),
        fork(120, 11, 20),
        fork(130, 20, 30),
        exit(140, 20, 20, 9),
        fork(150, 12, 20),
        exit(160, 20, 20, 0),
    ]);
    let used: Vec<_> = lives.iter().filter(|life| life.pid == 20).collect();
    let parents: Vec<_> = used.iter().map(|life| life.parent.as_ref().unwrap().pid).collect();
    assert_eq!(parents, [10, 11, 12]);
    assert!(used[0].id != used[1].id && used[1].id != used[2].id && used[0].id != used[2].id);
    // The child keeps the identity of the second one, and is adopted by init.
    let child = life(&lives, 30);
    assert_eq!((child.parent.as_ref().unwrap().id, child.ppid), (used[1].id, Some(1)));
}

#[test]
fn a_lost_exit_ends_the_row_when_the_id_is_used_again_or_a_scan_does_not_find_the_process() {
    let ends = |records: &[Record<'static>]| -> Vec<_> {
        lives(records).iter().filter(|life| life.pid == 20).map(|life| life.end).collect()
    };
    let first = [fork(100, 10, 20), loss(150)];
    let reused = [&first[..], &[fork(200, 10, 20), exit(210, 20, 20, 0)]].concat();
    let exited = LifeEnd::Ended { time: MonoNs(210), status: Some(WaitStatus::Exited(0)) };
    assert_eq!(ends(&reused), [LifeEnd::Unobserved { after: MonoNs(100), before: MonoNs(200) }, exited]);
    let reason = SnapshotReason::Loss;
    let scan = Record::Snapshot(Snapshot {
        started: MonoNs(300),
        ended: MonoNs(300),
        processes: 1,
        reason,
        atomic: false,
    });
    let scanned = [&first[..], &[fork(200, 10, 30), scanned(10, "sh", 1, 3), scan]].concat();
    assert_eq!(ends(&scanned), [LifeEnd::Unobserved { after: MonoNs(100), before: MonoNs(200) }]);
}

#[test]
fn the_status_is_that_of_the_process_when_the_first_thread_ends_earlier() {
    let usage = |threads, process| Usage { threads, process, cpu_us: 5, user_us: 4, ..Usage::default() };
    let last = Usage { process_cpu_us: 90, ..usage(0, ProcessState::Ended { status: 7 << 8 }) };
    let lives = lives(&[
        fork(100, 10, 20),
        thread(110, 10, 20, 21),
        exit_with(120, 20, 20, 0, usage(1, ProcessState::Alive)),
        exit_with(130, 21, 20, 7 << 8, last),
    ]);
    let process = life(&lives, 20);
    assert_eq!(process.end, LifeEnd::Ended { time: MonoNs(130), status: Some(WaitStatus::Exited(7)) });
    let usage = process.usage.as_ref().unwrap();
    assert_eq!((usage.cpu_ns, usage.user_ns, usage.at_least, process.threads), (90_000, 4000, true, 1));
}

#[test]
fn a_process_that_a_scan_finds_before_its_fork_event_has_one_row() {
    // The fork is at tick 500 + 10.
    let lives = lives(&[
        scanned(20, "sh", 10, 510),
        scanned(10, "sh", 1, 3),
        snapshot(2),
        fork(100_000_000, 10, 20),
        exit(200_000_000, 20, 20, 0),
    ]);
    assert_eq!(life(&lives, 20).origin, ProcessStart::Forked(MonoNs(100_000_000)));
}

#[test]
fn the_ancestors_are_shown_as_they_were_at_each_fork() {
    let comm = |name: &[u8]| {
        let mut comm = Comm::default();
        comm.0[..name.len()].copy_from_slice(name);
        comm
    };
    let lives = lives(&[
        fork(100, 10, 20),
        exec(101, 20),
        exec_details(101, 20, "first a"),
        fork(110, 20, 30),
        exec(111, 20),
        exec_details(111, 20, "second b"),
        fork(112, 20, 31),
        event(113, EventBody::Comm { task: task(20), comm: comm(b"third") }),
        fork(114, 20, 32),
        fork(115, 20, 33),
        fork(116, 33, 34),
    ]);
    let parent = |pid| {
        let ancestors: Vec<_> = life(&lives, pid)
            .ancestors()
            .map(|of| format!("{} {}", of.pid, String::from_utf8_lossy(of.comm().unwrap_or(b"?"))))
            .collect();
        ancestors.join(" < ")
    };
    assert_eq!(parent(30), "20 first < 10 ?");
    assert_eq!(parent(31), "20 second < 10 ?");
    assert_eq!(parent(32), "20 third < 10 ?");
    assert_eq!(parent(34), "33 third < 20 third < 10 ?");
}

#[test]
fn the_parents_of_scanned_processes_are_linked_to_the_root() {
    let lives = lives(&[
        scanned(30, "sh", 20, 30),
        scanned(20, "sshd", 1, 20),
        scanned(1, "init", 0, 1),
        snapshot(3),
        fork(100, 30, 40),
    ]);
    let pids: Vec<_> = life(&lives, 40).ancestors().map(|of| of.pid).collect();
    assert_eq!(pids, [30, 20, 1]);
    assert_eq!(life(&lives, 40).ancestors().last().unwrap().id, life(&lives, 1).id);
}

#[test]
fn a_process_that_forks_before_the_scan_finds_it_has_its_ancestors() {
    let lives = lives(&[
        fork(100, 30, 40),
        fork(150, 40, 50),
        scanned(20, "sshd", 1, 20),
        scanned(30, "sh -i", 20, 30),
        scanned(1, "init", 0, 1),
        snapshot(3),
        exit(200, 50, 50, 0),
        exit(300, 40, 40, 0),
    ]);
    for (pid, expected) in [(40, &[30, 20, 1][..]), (50, &[40, 30, 20, 1])] {
        let chain: Vec<_> = life(&lives, pid).ancestors().collect();
        assert_eq!(chain.iter().map(|of| of.pid).collect::<Vec<_>>(), expected);
        let shell = chain.iter().find(|of| of.pid == 30).unwrap();
        assert_eq!((command(&shell.program).as_str(), shell.id), ("sh -i", life(&lives, 30).id));
    }
}

#[test]
fn a_process_that_changes_between_its_forks_before_the_scan_has_its_ancestors() {
    let lives = lives(&[
        fork(100, 30, 40),
        exec(110, 30),
        exec_details(110, 30, "sh -i"),
        fork(120, 30, 41),
        scanned(30, "sh -i", 1, 30),
        scanned(1, "init", 0, 1),
        snapshot(2),
    ]);
    for pid in [40, 41] {
        let chain: Vec<_> = life(&lives, pid).ancestors().map(|of| of.pid).collect();
        assert_eq!(chain, [30, 1], "{pid}");
    }
}

#[test]
fn in_a_forged_recording_no_process_becomes_its_own_ancestor() {
    // Process 30 forks 40, which ends up as the parent of 30.
    let lives = lives(&[
        fork(100, 30, 40),
        fork(110, 40, 50),
        event(120, EventBody::Exit { task: task(50), code: 0, signal: 17, parent: Some(task(40)) }),
        thread(130, 1, 40, 41),
        scanned(30, "sh", 50, 30),
        scanned(40, "a", 1, 40),
        scanned(50, "b", 40, 50),
        snapshot(3),
    ]);
    assert!(lives.iter().all(|life| life.ancestors().count() < 10));
}

#[test]
fn a_long_chain_of_forks_takes_bounded_memory_and_ends() {
    let mut tracker = LifeTracker::new(&header());
    let (mut rows, mut longest) = (0, 0);
    for n in 1..100_000_u32 {
        let pid = |n: u32| 2 + n % 30_000;
        tracker.apply(&fork(u64::from(n) * 2000, pid(n), pid(n + 1)));
        tracker.apply(&exit(u64::from(n) * 2000 + 1, pid(n), pid(n), 0));
        while let Some(life) = tracker.pop() {
            rows += 1;
            if n < 1000 || n % 1000 == 0 {
                longest = longest.max(life.ancestors().count());
            }
        }
    }
    assert!(rows >= 99_990 && longest == usize::from(MAX_ANCESTORS), "{rows} {longest}");
}

#[test]
fn the_first_and_the_latest_execs_are_kept() {
    let mut records = vec![fork(100, 10, 20)];
    for n in 0..100 {
        records.extend([exec(1000 + n, 20), exec_details(1000 + n, 20, &format!("p{n}"))]);
    }
    let lives = lives(&records);
    let process = life(&lives, 20);
    let commands = commands(process);
    assert_eq!((commands.len(), process.omitted_execs), (64, 36));
    assert_eq!((&*commands[0], &*commands[1], &*commands[63]), ("p0", "p37", "p99"));
}
