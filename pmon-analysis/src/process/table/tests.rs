use pmon_core::capture::MissReason;
use pmon_core::wire::Comm;
use pmon_core::{Cpu, Seq};

use super::*;
use crate::timeline::TimelineItem;

fn event(time: u64, body: EventBody, details: Option<Details>) -> OwnedRecord {
    let event = Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body };
    OwnedRecord::Event(TimelineItem {
        event: Some(event),
        raw: None,
        details: details.map(Box::new),
        usage: None,
    })
}

fn fork(time: u64, parent: u32, child: (u32, u32)) -> OwnedRecord {
    event(
        time,
        EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child.0, child.1) },
        None,
    )
}

fn exit(time: u64, tid: u32, pid: u32, code: u32) -> OwnedRecord {
    event(time, EventBody::Exit { task: Task::new(tid, pid), code, signal: 17, parent: None }, None)
}

fn details(subject: DetailsSubject, comm: &str, ppid: u32) -> Details {
    Details {
        miss: None,
        ppid: Some(ppid),
        comm: Some(comm.into()),
        args: Some(format!("{comm}\0-x\0").into_bytes()),
        ..Details::missed(subject, MissReason::Gone)
    }
}

fn exec(time: u64, pid: u32, comm: Option<&str>) -> OwnedRecord {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(time) };
    event(time, EventBody::Exec { task: Task::new(pid, pid) }, comm.map(|comm| details(subject, comm, 1)))
}

fn scanned(pid: u32, comm: &str, ppid: u32) -> OwnedRecord {
    OwnedRecord::Details(Box::new(details(DetailsSubject::Snapshot { tgid: Tgid(pid) }, comm, ppid)))
}

fn processes(records: &[OwnedRecord]) -> ProcessTable {
    let mut processes = ProcessTable::new();
    records.iter().for_each(|record| processes.apply(record));
    processes
}

fn parent(known: &ProcessTable, pid: u32) -> Option<Tgid> {
    known.process(Tgid(pid))?.parent
}

#[test]
fn a_child_inherits_the_name_and_an_exec_replaces_it() {
    let mut known = processes(&[scanned(10, "sh", 1), fork(5, 10, (20, 20))]);
    assert_eq!(known.name(Tgid(20)), Some(&b"sh"[..]));
    assert_eq!(parent(&known, 20), Some(Tgid(10)));
    assert_eq!(known.process(Tgid(20)).and_then(|p| p.start), Some(MonoNs(5)));
    known.apply(&exec(6, 20, Some("git")));
    assert_eq!(known.name(Tgid(20)), Some(&b"git"[..]));
    assert_eq!(known.name(Tgid(10)), Some(&b"sh"[..]));
}

#[test]
fn an_exec_without_details_clears_the_name() {
    let known = processes(&[scanned(10, "sh", 1), exec(6, 10, None)]);
    assert_eq!(known.name(Tgid(10)), None);
    assert_eq!(parent(&known, 10), Some(Tgid(1)));
}

#[test]
fn the_fork_of_a_thread_adds_no_process_and_names_the_parent() {
    let known = processes(&[fork(1, 10, (21, 20)), exit(2, 21, 20, 0)]);
    assert!(known.process(Tgid(21)).is_none());
    assert_eq!(parent(&known, 20), Some(Tgid(10)));
    assert!(known.process(Tgid(20)).is_some_and(|process| process.end.is_none()));
}

#[test]
fn a_process_survives_an_exec_by_another_thread() {
    let mut known = processes(&[fork(1, 10, (20, 20)), fork(2, 10, (21, 20)), exit(3, 20, 20, 0)]);
    assert_eq!(known.last_exit(), Some(ProcessExit::GoesOn));
    assert!(known.process(Tgid(20)).is_some_and(|process| process.end.is_none()));
    known.apply(&exec(4, 20, Some("next")));
    assert!(known.process(Tgid(20)).is_some_and(|process| process.end.is_none()));
    known.apply(&exit(5, 20, 20, 512));
    assert_eq!(known.last_exit(), Some(ProcessExit::Ended { status: 512 }));
    assert_eq!(known.threads, 0);
}

#[test]
fn a_process_ends_with_its_last_thread_and_has_its_status() {
    let begun = [fork(1, 10, (20, 20)), fork(2, 10, (21, 20))];
    let mut known = processes(&begun);
    known.apply(&exit(3, 20, 20, 0));
    known.apply(&exit(900_000_000, 21, 20, 7 << 8));
    assert_eq!(known.last_exit(), Some(ProcessExit::Ended { status: 7 << 8 }));
    let end = known.process(Tgid(20)).and_then(|process| process.end);
    assert_eq!(end, Some((MonoNs(900_000_000), Some(WaitStatus::Exited(7)))));
    assert_eq!(known.threads, 0);
    // A scan can show that the process has no other threads.
    let OwnedRecord::Details(mut alone) = scanned(10, "sh", 1) else { unreachable!() };
    alone.threads = Some(1);
    let known = processes(&[OwnedRecord::Details(alone), exit(3, 10, 10, 512)]);
    assert_eq!(known.last_exit(), Some(ProcessExit::Ended { status: 512 }));
    // A process older than the capture can have unknown threads.
    let mut known = processes(&[scanned(10, "sh", 1), exit(3, 10, 10, 0)]);
    assert_eq!(known.last_exit(), Some(ProcessExit::Unknown));
    assert_eq!(known.process(Tgid(10)).and_then(|process| process.end), Some((MonoNs(3), None)));
    known.apply(&fork(4, 1, (11, 11)));
    assert_eq!(known.last_exit(), None);
}

#[test]
fn a_loss_makes_earlier_knowledge_of_threads_unreliable() {
    use pmon_core::capture::Blind;
    let mut known = processes(&[fork(1, 10, (20, 20))]);
    known.apply(&OwnedRecord::Blind(Blind { from: MonoNs(2), until: MonoNs(3) }));
    known.apply(&exit(4, 20, 20, 0));
    assert_eq!(known.last_exit(), Some(ProcessExit::Unknown));
    known.apply(&fork(5, 10, (22, 22)));
    known.apply(&exit(6, 22, 22, 0));
    assert_eq!(known.last_exit(), Some(ProcessExit::Ended { status: 0 }));
}

#[test]
fn only_the_first_thread_names_the_process() {
    let mut comm = Comm::default();
    comm.0[..3].copy_from_slice(b"new");
    let named = |tid| event(2, EventBody::Comm { task: Task::new(tid, 10), comm }, None);
    let mut known = processes(&[scanned(10, "old", 1), named(11)]);
    assert_eq!(known.name(Tgid(10)), Some(&b"old"[..]));
    known.apply(&named(10));
    assert_eq!(known.name(Tgid(10)), Some(&b"new"[..]));
}

#[test]
fn a_reused_id_is_another_process() {
    let known = processes(&[fork(1, 10, (20, 20)), exit(2, 20, 20, 256), fork(3, 11, (20, 20))]);
    let process = known.process(Tgid(20));
    assert_eq!(process.and_then(|p| p.start), Some(MonoNs(3)));
    assert_eq!(parent(&known, 20), Some(Tgid(11)));
    assert!(process.is_some_and(|p| p.end.is_none()));
}

#[test]
fn a_full_table_removes_ended_processes_first_and_counts_dropped_ones() {
    let mut known = ProcessTable::new();
    let all = MAX_PROCESSES as u32;
    (1..=all).for_each(|pid| known.apply(&fork(1, all + 9, (pid, pid))));
    assert_eq!((known.processes.len(), known.incomplete()), (MAX_PROCESSES, 0));
    known.apply(&exit(2, 7, 7, 0));
    known.apply(&fork(3, 1, (all + 1, all + 1)));
    assert!(known.process(Tgid(7)).is_none() && known.process(Tgid(all + 1)).is_some());
    known.apply(&fork(3, 1, (all + 2, all + 2)));
    assert!(known.process(Tgid(all + 2)).is_none());
    assert_eq!((known.processes.len(), known.incomplete()), (MAX_PROCESSES, 1));
    // A known ID is reused all the same.
    known.apply(&fork(5, 1, (8, 8)));
    assert_eq!(known.process(Tgid(8)).and_then(|process| process.start), Some(MonoNs(5)));
}

#[test]
fn ended_processes_are_removed_in_the_order_of_their_ends() {
    let mut known = ProcessTable::new();
    for pid in 1..=(MAX_DEAD as u32 + 5) {
        known.apply(&fork(1, 1_000_000, (pid, pid)));
        known.apply(&exit(2, pid, pid, 0));
    }
    assert!(known.process(Tgid(5)).is_none());
    assert!(known.process(Tgid(6)).is_some());
    assert_eq!(known.processes.len(), MAX_DEAD);
}

#[test]
fn before_format_1_2_a_process_ends_with_its_first_thread_if_no_other_thread_is_counted() {
    let end = |threads| {
        let usage = Usage { threads, ..Usage::default() };
        let mut record = exit(2, 20, 20, 256);
        if let OwnedRecord::Event(item) = &mut record {
            item.usage = Some(Box::new(usage));
        }
        processes(&[record]).process(Tgid(20)).and_then(|process| process.end)
    };
    assert_eq!(end(0), Some((MonoNs(2), Some(WaitStatus::from_raw(256)))));
    assert_eq!(end(1), Some((MonoNs(2), None)));
}

#[test]
fn the_opening_of_a_segment_states_when_processes_were_forked() {
    let opening = |pid, forked| {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
        OwnedRecord::Details(Box::new(Details { forked, ..details(subject, "sh", 1) }))
    };
    let known =
        processes(&[fork(5, 1, (10, 10)), opening(10, Some(MonoNs(7))), opening(20, Some(MonoNs(3)))]);
    let start = |pid| known.process(Tgid(pid)).unwrap().start;
    assert_eq!((start(10), start(20)), (Some(MonoNs(5)), Some(MonoNs(3))));
}

#[test]
fn a_child_of_a_process_whose_first_thread_has_exited_is_running() {
    let by_thread = EventBody::Fork { parent: Task::new(11, 10), child: Task::new(20, 20) };
    let known = processes(&[scanned(10, "sh", 1), exit(2, 10, 10, 0), event(3, by_thread, None)]);
    assert!(known.process(Tgid(10)).unwrap().end.is_some());
    assert_eq!(known.process(Tgid(20)).unwrap().end, None);
}

#[test]
fn a_scan_tells_nothing_of_a_process_that_was_forked_and_has_ended() {
    let late = OwnedRecord::Details(Box::new(details(
        DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(2) },
        "late",
        1,
    )));
    let name = |records: &[OwnedRecord]| processes(records).name(Tgid(20)).map(<[u8]>::to_vec);
    let (fork, exec, exit) = (fork(1, 10, (20, 20)), exec(2, 20, None), exit(3, 20, 20, 0));
    // The scan may have found a later process with the same ID.
    assert_eq!(name(&[fork.clone(), exit.clone(), scanned(20, "scan", 1)]), None);
    assert_eq!(name(&[fork.clone(), scanned(20, "scan", 1)]).as_deref(), Some(&b"scan"[..]));
    assert_eq!(name(&[exit.clone(), scanned(20, "scan", 1)]).as_deref(), Some(&b"scan"[..]));
    // Details of its own exec are never those of another process.
    assert_eq!(name(&[fork, exec, exit, late]).as_deref(), Some(&b"late"[..]));
}

#[test]
fn the_exit_of_an_unknown_process_names_its_parent() {
    let exit = |parent| {
        let parent = Some(Task::new(parent, parent));
        event(1, EventBody::Exit { task: Task::new(20, 20), code: 0, signal: 17, parent }, None)
    };
    assert_eq!(parent(&processes(&[exit(30)]), 20), Some(Tgid(30)));
    assert_eq!(parent(&processes(&[exit(0)]), 20), None);
}

#[test]
fn the_threads_of_a_process_whose_id_is_reused_do_not_count() {
    let known = processes(&[fork(1, 10, (20, 20)), fork(2, 10, (21, 20)), fork(3, 10, (20, 20))]);
    assert_eq!(known.threads, 0);
}

/// Lets other processes end until only the ones that ended last are in the table.
fn end_others(known: &mut ProcessTable, others: usize) {
    for pid in 100_000..100_000 + others as u32 {
        known.apply(&fork(1, 1_000_000, (pid, pid)));
        known.apply(&exit(2, pid, pid, 0));
    }
}

#[test]
fn a_process_counts_as_ended_from_its_last_thread_on() {
    let mut known = processes(&[fork(1, 10, (20, 20)), fork(1, 10, (21, 20)), exit(2, 20, 20, 0)]);
    end_others(&mut known, MAX_DEAD - 1);
    known.apply(&exit(3, 21, 20, 0));
    assert!(known.process(Tgid(20)).is_some() && known.process(Tgid(100_000)).is_some());
    known.apply(&exit(4, 9, 9, 0));
    assert!(known.process(Tgid(20)).is_some() && known.process(Tgid(100_000)).is_none());
}

#[test]
fn a_process_that_runs_again_or_has_a_reused_id_is_not_removed_as_ended() {
    // An exec shows that other threads were running after the exit of the first one.
    let mut known = processes(&[exit(1, 20, 20, 0), exec(2, 20, None)]);
    known.apply(&exit(1, 30, 30, 0));
    end_others(&mut known, MAX_DEAD - 2);
    known.apply(&fork(3, 1, (30, 30)));
    known.apply(&exit(4, 30, 30, 0));
    known.apply(&exit(5, 9, 9, 0));
    assert!(known.process(Tgid(20)).is_some_and(|process| process.end.is_none()));
    assert!(known.process(Tgid(30)).is_some_and(|process| process.start == Some(MonoNs(3))));
}

#[test]
fn the_oom_killer_is_known_from_the_exit_that_ends_a_process() {
    use pmon_core::capture::FatalSignal;
    let oom_kill = |pid, code, oom_victim| {
        let mut record = exit(2, pid, 20, code);
        let fatal_signal = FatalSignal { oom_victim, ..FatalSignal::default() };
        let process = if pid == 20 { ProcessState::Ended { status: code } } else { ProcessState::Alive };
        if let OwnedRecord::Event(item) = &mut record {
            item.usage = Some(Box::new(Usage { fatal_signal, process, ..Usage::default() }));
        }
        processes(&[record]).last_oom_kill()
    };
    for victim in [Some(true), Some(false), None] {
        assert_eq!((oom_kill(20, 9, victim), oom_kill(21, 9, victim)), (victim, None));
    }
    assert_eq!(oom_kill(20, 0, None), Some(false));
    assert_eq!(processes(&[exit(2, 20, 20, 9), fork(3, 1, (4, 4))]).last_oom_kill(), None);
}

#[test]
fn a_table_counts_what_its_details_lack_as_well() {
    let mut known = ProcessTable::detailed(&Meta::default());
    known.set_memory_limit(0);
    known.apply(&fork(1, 1, (20, 20)));
    assert!(known.process(Tgid(20)).is_some() && known.live_process(Tgid(20)).is_none());
    assert_eq!(known.incomplete(), 2);
}
