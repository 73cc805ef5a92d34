//! The model against the process table of `process`, on the events of an invented machine.

mod machine;
mod memory;
mod programs;
mod reference;

use std::collections::{BTreeMap, BTreeSet};

use crate::{DetailsJoiner, LiveProcess, ProcessTable, RunState};
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    Credentials, Loss, Meta, MissReason, ProcessContext, RecordedDatagram, Snapshot, SnapshotReason,
};
use pmon_core::wire::{Comm, Event, EventBody};
use pmon_core::{Cpu, Seq};
use proptest::prelude::*;

use super::table::{MAX_BYTES, MAX_PROCESSES};
use super::*;
use machine::{Machine, Step, machine, steps};
use reference::{Reference, check_links, compare, difference};

const TICKS: u32 = 100;
const ORDER: ByteOrder = ByteOrder::Little;
const START: ClockAnchor = ClockAnchor { mono: MonoNs(0), boot_ns: 3_000_000_000, real_ns: 0 };

fn model() -> ProcessModel {
    ProcessModel::new(ORDER, TICKS, START)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_model_equals_the_process_table_after_each_record(steps in steps(), modes: (bool, bool)) {
        compare(&machine(&steps, modes).records)?;
    }
}

fn model_of(records: &[Record<'static>]) -> ProcessModel {
    let mut model = model();
    records.iter().for_each(|record| model.apply(record));
    model
}

/// The opening of a segment that begins now.
fn opening(model: &ProcessModel) -> Vec<Record<'static>> {
    let mut records: Vec<_> = model.processes().map(|details| Record::Details(Box::new(details))).collect();
    let (time, processes) = (model.now(), records.len() as u32);
    let reason = SnapshotReason::Segment;
    let snapshot = Snapshot { started: time, ended: time, processes, reason, atomic: true };
    records.push(Record::Snapshot(snapshot));
    records
}

/// Returns the indexes of records before which a segment can begin: no details are awaited, and no
/// scan has begun.
fn divisions(records: &[Record<'static>]) -> Vec<usize> {
    let (mut awaited, mut divisions) = (0, Vec::new());
    for (index, record) in records.iter().enumerate() {
        match record {
            Record::Event(RecordedDatagram::Event(event), _) => {
                let is_exec = matches!(event.body, EventBody::Exec { .. });
                if awaited == 0 {
                    divisions.push(index);
                }
                awaited += usize::from(is_exec);
            }
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                awaited -= 1
            }
            _ => {}
        }
    }
    divisions
}

fn without_losses(mut steps: Vec<Step>) -> Vec<Step> {
    steps.retain(|&(kind, ..)| kind != 16);
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_model_that_was_rebuilt_from_an_opening_continues_equally(steps in steps(), at: prop::sample::Index) {
        // Details have neither the names of threads, nor some of the ids of a process.
        let mut machine = Machine { renames_threads: false, ..Machine::new(true, true) };
        without_losses(steps).into_iter().for_each(|step| machine.step(step));
        let records = machine.records;
        let divisions = divisions(&records);
        prop_assume!(!divisions.is_empty());
        let mut original = model();
        let (before, after) = records.split_at(*at.get(&divisions));
        before.iter().for_each(|record| original.apply(record));
        let start = ClockAnchor { mono: original.now(), boot_ns: original.now().0 + START.boot_ns, real_ns: 0 };
        let mut rebuilt = ProcessModel::new(ORDER, TICKS, start);
        opening(&original).iter().for_each(|record| rebuilt.apply(record));
        let known = |model: &ProcessModel| -> BTreeMap<u32, String> {
            let details = model.processes().map(|details| Details {
                threads: None,
                context: details.context.map(|context| ProcessContext { pid: 0, ..context }),
                ..details
            });
            details.map(|details| (details.subject.tgid().0, format!("{details:?}"))).collect()
        };
        for record in std::iter::once(&Record::Clock(START)).chain(after) {
            original.apply(record);
            rebuilt.apply(record);
            let difference = difference(&known(&rebuilt), &known(&original));
            prop_assert!(difference.is_empty(), "after {:?}: {}", record, difference);
        }
    }

    #[test]
    fn openings_in_mid_stream_change_nothing(steps in steps(), modes: (bool, bool)) {
        let records = machine(&steps, modes).records;
        let divisions = divisions(&records);
        let (mut model, mut with, mut without) = (model(), Reference::new(), Reference::new());
        for (index, record) in records.iter().enumerate() {
            if divisions.contains(&index) {
                let pids: Vec<_> = with.table.live_processes().map(|process| process.pid).collect();
                let names = |of: &Reference| -> Vec<_> {
                    pids.iter().map(|&pid| of.table.name(pid).map(<[u8]>::to_vec)).collect()
                };
                let before = names(&with);
                opening(&model).iter().for_each(|record| with.apply(record));
                let after = names(&with);
                prop_assert!(before.iter().zip(&after).all(|(before, after)| before.is_none() || before == after));
            }
            model.apply(record);
            with.apply(record);
            without.apply(record);
            let difference = difference(&with.processes(), &without.processes());
            prop_assert!(difference.is_empty(), "after {:?}: {}", record, difference);
            for process in without.table.live_processes() {
                let same = with.table.live_process(process.pid).unwrap();
                prop_assert_eq!(format!("{:?}", &same.threads), format!("{:?}", &process.threads));
                prop_assert_eq!((same.start, same.state()), (process.start, process.state()));
                let describe = |of: &crate::Process| (of.start, of.parent, of.end.map(|(time, _)| time));
                if let Some(without) = without.table.process(process.pid) {
                    let with = with.table.process(process.pid).unwrap();
                    prop_assert_eq!(describe(with), describe(without));
                    // The model can know that a process has no other thread.
                    let status = |of: &crate::Process| of.end.and_then(|(_, status)| status);
                    prop_assert!(status(without).is_none() || status(with) == status(without));
                }
            }
            if with.awaited == 0 {
                let exits = (with.table.last_exit(), without.table.last_exit());
                prop_assert!(exits.0 == exits.1 || exits.1 == Some(ProcessExit::Unknown), "{:?}", exits);
            }
        }
    }
}

fn exec_details(ms: u64, pid: u32, args: &[u8]) -> Record<'static> {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(ms * 1_000_000) };
    Record::Details(Box::new(Details {
        miss: None,
        comm: Some(b"worker".to_vec()),
        args: Some(args.to_vec()),
        ..Details::missed(subject, MissReason::Gone)
    }))
}

fn event(ms: u64, body: EventBody) -> Record<'static> {
    let event = Event { time: MonoNs(ms * 1_000_000), seq: Seq(0), cpu: Cpu(0), body };
    Record::Event(RecordedDatagram::Event(event), None)
}

fn fork(ms: u64, parent: u32, child: u32) -> Record<'static> {
    event(ms, EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child, child) })
}

fn exec(ms: u64, pid: u32) -> Record<'static> {
    event(ms, EventBody::Exec { task: Task::new(pid, pid) })
}

fn exit(ms: u64, pid: u32) -> Record<'static> {
    event(ms, EventBody::Exit { task: Task::new(pid, pid), code: 0, signal: 17, parent: None })
}

#[test]
fn children_get_details_that_arrive_after_the_end_of_their_parent() {
    let mut model = model();
    for record in [fork(1, 1, 10), exec(2, 10), fork(3, 10, 20), exit(4, 10), fork(5, 20, 30)] {
        model.apply(&record);
    }
    model.apply(&exec_details(2, 10, b"daemon\0"));
    for pid in [20, 30] {
        let process = model.get(Tgid(pid)).unwrap();
        assert_eq!((process.args(), process.comm()), (Some(&b"daemon\0"[..]), Some(&b"worker"[..])));
    }
}

#[test]
fn beyond_the_memory_limit_texts_are_dropped_and_counted() {
    let mut model = model();
    let args = vec![b'x'; 64 << 10];
    for pid in 2..1002 {
        model.apply(&fork(u64::from(pid), 1, pid));
        model.apply(&exec(u64::from(pid), pid));
        model.apply(&exec_details(u64::from(pid), pid, &args));
        assert!(model.bytes() <= MAX_BYTES);
    }
    assert!(model.incomplete() > 500);
    assert_eq!(model.get(Tgid(1001)).unwrap().args(), Some(&args[..]));
    let details = model.get(Tgid(2)).unwrap().details();
    assert_eq!((details.args, details.miss, model.len()), (None, Some(MissReason::TooLong), 1001));
}

#[test]
fn beyond_the_limits_processes_and_threads_are_dropped_and_counted() {
    let mut model = model();
    for pid in 1..100_000 {
        model.apply(&fork(1, pid / 2, pid));
        let thread = EventBody::Fork { parent: Task::new(1, 1), child: Task::new(200_000 + pid, 1) };
        model.apply(&event(1, thread));
        model.apply(&exec(1, pid));
    }
    assert_eq!(model.len(), MAX_PROCESSES);
    // The fork and the exec of each further process are dropped, and each further thread. The exec
    // of process 1 has ended the first thread.
    assert_eq!(model.incomplete(), 3 * (99_999 - MAX_PROCESSES as u64) - 1);
    assert!(model.bytes() <= MAX_BYTES);
    // An event of a thread that was dropped does not change the process.
    let mut comm = Comm::default();
    comm.0[0] = b'x';
    model.apply(&event(1, EventBody::Comm { task: Task::new(299_999, 1), comm }));
    assert_eq!(model.get(Tgid(1)).unwrap().comm(), None);
    (1..100_000).for_each(|pid| model.apply(&exit(2, pid)));
    model.apply(&fork(3, 0, 7));
    let pids: Vec<_> = model.processes().map(|details| details.subject.tgid().0).collect();
    assert_eq!(pids, [1, 7], "process 1 still has threads");
}

#[test]
fn start_times_at_the_end_of_their_range_are_compared() {
    let start = ClockAnchor { mono: MonoNs(0), boot_ns: u64::MAX, real_ns: 0 };
    let meta = Meta { ticks_per_second: 1_000_000_000, start, ..Meta::default() };
    let (mut model, mut table) =
        (ProcessModel::new(ORDER, meta.ticks_per_second, start), ProcessTable::detailed(&meta));
    let subject = DetailsSubject::Snapshot { tgid: Tgid(10) };
    let scanned = Details { start_ticks: Some(5), ..Details::missed(subject, MissReason::Busy) };
    for record in [fork(0, 1, 10), Record::Details(Box::new(scanned))] {
        model.apply(&record);
        let mut joiner = DetailsJoiner::new(ORDER);
        joiner.push(record);
        joiner.release();
        while let Some(record) = joiner.pop() {
            table.apply(&record);
        }
    }
    assert_eq!(model.get(Tgid(10)).unwrap().forked_at(), Some(MonoNs(0)));
    assert!(table.live_processes().any(|process| process.pid == Tgid(10)));
}

#[test]
fn hostile_records_leave_consistent_links() {
    let mut random = oorandom::Rand32::new(4711);
    let mut model = model();
    for _ in 0..20_000 {
        let mut id = || random.rand_range(0..24);
        let (kind, task, other) = (id() % 11, Task::new(id(), id()), Task::new(id(), id()));
        let ms = u64::from(id());
        model.apply(&match kind {
            0 | 1 => event(ms, EventBody::Fork { parent: other, child: task }),
            2 => event(ms, EventBody::Exit { task, code: 0, signal: 17, parent: Some(other) }),
            3 => exec(ms, task.tgid.0),
            4 => exec_details(ms, task.tgid.0, b"a\0b\0"),
            5 => event(ms, EventBody::Sid { task }),
            6 => {
                let subject = DetailsSubject::Snapshot { tgid: task.tgid };
                let ppid = Some(other.tgid.0);
                Record::Details(Box::new(Details { ppid, ..Details::missed(subject, MissReason::Busy) }))
            }
            7 => {
                let (started, reason) = (MonoNs(ms * 1_000_000), SnapshotReason::Loss);
                let snapshot =
                    Snapshot { started, ended: started, processes: other.tid.0 % 3, reason, atomic: false };
                Record::Snapshot(snapshot)
            }
            8 => event(ms, EventBody::Comm { task, comm: Comm::default() }),
            9 => event(ms, EventBody::Uid { task, real: 1, effective: 1 }),
            _ => exit(ms, task.tgid.0),
        });
        check_links(&model).unwrap();
    }
}

#[test]
fn details_of_a_scan_that_follow_the_exit_of_their_process_add_no_process() {
    let single = |pid, ticks| {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
        let details = Details {
            start_ticks: Some(ticks),
            threads: Some(1),
            ..Details::missed(subject, MissReason::Gone)
        };
        Record::Details(Box::new(details))
    };
    let exit = |ms: u64, pid| {
        let body = EventBody::Exit { task: Task::new(pid, pid), code: 0, signal: 17, parent: None };
        let time = MonoNs(ms * 1_000_000);
        Record::from(RecordedDatagram::Event(Event { time, seq: Seq(0), cpu: Cpu(0), body }))
    };
    let mut model = model();
    // The exits are at tick 310 and 320 since boot.
    for record in [exit(100, 20), exit(200, 30), exit(300, 9), single(20, 310), single(30, 321)] {
        model.apply(&record);
    }
    assert!(model.table.find(30).is_some() && model.table.find(20).is_none());
}

#[test]
fn the_effect_of_an_exit_is_known_before_it_is_applied() {
    let thread = |ms, tid| event(ms, EventBody::Fork { parent: Task::new(1, 1), child: Task::new(tid, 10) });
    let mut model = model();
    for record in [fork(1, 1, 10), thread(2, 11), thread(3, 12)] {
        model.apply(&record);
    }
    let unknown = Usage { process: ProcessState::Unknown, threads: 1, ..Usage::default() };
    for (ms, tid, expected) in [
        (4, 11, ProcessExit::GoesOn),
        (5, 10, ProcessExit::GoesOn),
        (6, 12, ProcessExit::Ended { status: 3 << 8 }),
    ] {
        let task = Task::new(tid, 10);
        let effect = model.exit_effect(task, 3 << 8, MonoNs(ms * 1_000_000), Some(&unknown));
        assert_eq!(effect, expected, "{tid}");
        let body = EventBody::Exit { task, code: 3 << 8, signal: 17, parent: None };
        model.apply(&event(ms, body));
        assert_eq!(model.last_exit(), Some(expected));
    }
    // The exit of a process with another start is not that of the known one.
    model.apply(&fork(10, 1, 20));
    model.apply(&fork(10, 1, 30));
    model.apply(&event(11, EventBody::Fork { parent: Task::new(1, 1), child: Task::new(31, 30) }));
    let later = Usage { start_ticks: 900, ..unknown };
    let effect = |usage| model.exit_effect(Task::new(20, 20), 0, MonoNs(20_000_000), Some(usage));
    assert_eq!((effect(&unknown), effect(&later)), (ProcessExit::Ended { status: 0 }, ProcessExit::Unknown));
    // A thread of another process is none of its own.
    let effect = |tid, tgid| model.exit_effect(Task::new(tid, tgid), 0, MonoNs(20_000_000), Some(&unknown));
    assert_eq!((effect(31, 20), effect(31, 30)), (ProcessExit::GoesOn, ProcessExit::GoesOn));
}

#[test]
fn in_a_forged_recording_no_process_descends_from_itself() {
    let mut model = model();
    let thread = EventBody::Fork { parent: Task::new(30, 30), child: Task::new(11, 10) };
    for record in [fork(1, 1, 10), fork(2, 10, 20), fork(3, 20, 30), event(4, thread)] {
        model.apply(&record);
    }
    let parent = |pid| model.get(Tgid(pid)).unwrap().ppid();
    assert_eq!([10, 20, 30].map(parent), [1, 10, 20].map(|pid| Some(Tgid(pid))));
    // The same without any ancestor, and with a parent that is unknown until its own fork.
    let thread = EventBody::Fork { parent: Task::new(20, 20), child: Task::new(11, 10) };
    let mut model = model_of(&[exec(1, 10), fork(2, 10, 20), event(3, thread)]);
    check_links(&model).unwrap();
    assert_eq!(model.get(Tgid(10)).unwrap().ppid(), None);
    let subject = DetailsSubject::Snapshot { tgid: Tgid(30) };
    let orphan = Details { ppid: Some(40), ..Details::missed(subject, MissReason::Busy) };
    for record in [Record::Details(Box::new(orphan)), fork(4, 30, 40), fork(5, 50, 50)] {
        model.apply(&record);
        check_links(&model).unwrap();
    }
    let parent = |pid| model.get(Tgid(pid)).unwrap().ppid();
    assert_eq!([30, 40, 50].map(parent), [Some(Tgid(40)), None, None]);
}

#[test]
fn a_parent_with_1024_ancestors_is_not_accepted_for_a_process_with_children() {
    // Process 5 has a child; 100 begins a chain.
    for (ancestors, is_accepted) in [(1023, true), (1024, false)] {
        let mut model = model_of(&[fork(1, 5, 6), exec(1, 100)]);
        (0..ancestors).for_each(|n| model.apply(&fork(2, 100 + n, 101 + n)));
        let last = Task::new(100 + ancestors, 100 + ancestors);
        model.apply(&event(3, EventBody::Fork { parent: last, child: Task::new(9, 5) }));
        assert_eq!(model.get(Tgid(5)).unwrap().ppid().is_some(), is_accepted, "{ancestors}");
    }
}

#[test]
fn the_exit_of_the_first_thread_can_follow_the_end_that_another_thread_reported() {
    let ended = Usage { process: ProcessState::Ended { status: 9 }, ..Usage::default() };
    let exit = |ms: u64, tid| {
        let body = EventBody::Exit { task: Task::new(tid, 10), code: 9, signal: 17, parent: None };
        let Record::Event(datagram, _) = event(ms, body) else { unreachable!() };
        Record::Event(datagram, Some(Box::new(ended)))
    };
    let mut model = model_of(&[fork(1, 1, 10), exit(2, 11)]);
    assert_eq!(model.last_exit(), Some(ProcessExit::Ended { status: 9 }));
    model.apply(&exit(2, 10));
    assert_eq!(model.last_exit(), Some(ProcessExit::GoesOn));
    assert!(model.get(Tgid(10)).is_none());
}

#[test]
fn a_process_whose_threads_have_all_exited_ends_although_events_were_lost() {
    let thread = EventBody::Fork { parent: Task::new(1, 1), child: Task::new(11, 10) };
    let end = EventBody::Exit { task: Task::new(11, 10), code: 0, signal: 17, parent: None };
    let lost = Record::Blind(pmon_core::capture::Blind { from: MonoNs(3), until: MonoNs(4) });
    let model = model_of(&[fork(1, 1, 10), event(2, thread), event(3, end), lost, exit(4, 10)]);
    assert_eq!((model.last_exit(), model.get(Tgid(10)).is_some()), (Some(ProcessExit::Unknown), false));
}

#[test]
fn late_details_replace_the_parent_unless_an_event_has_named_one_since() {
    let ppid = |named| {
        let parent = Task::new(named, named);
        let body = EventBody::Fork { parent, child: Task::new(11, 10) };
        let mut model = model_of(&[fork(1, 5, 10), exec(2, 10), event(3, body)]);
        let Record::Details(mut details) = exec_details(2, 10, b"a\0") else { unreachable!() };
        details.ppid = Some(6);
        model.apply(&Record::Details(details));
        model.get(Tgid(10)).unwrap().ppid()
    };
    assert_eq!((ppid(7), ppid(0)), (Some(Tgid(7)), Some(Tgid(6))));
}

#[test]
fn scans_of_too_many_processes_are_counted_and_remove_none() {
    let scan = |ms: u64| {
        let (started, reason) = (MonoNs(ms * 1_000_000), SnapshotReason::Loss);
        Record::Snapshot(Snapshot { started, ended: started, processes: 0, reason, atomic: false })
    };
    let mut model = model();
    (2..10_000).for_each(|pid| model.apply(&fork(1, 1, pid)));
    assert_eq!((model.len(), model.incomplete()), (9_999, 0));
    (0..200).for_each(|_| model.apply(&scan(0)));
    assert!(model.incomplete() > 0);
    model.apply(&scan(2));
    assert_eq!(model.len(), 9_999);
}

#[test]
fn a_reading_of_the_clocks_changes_start_times_in_ticks() {
    let mut model = model();
    model.apply(&fork(1_000, 1, 10));
    // The machine was suspended for 60 s.
    let clock = ClockAnchor { mono: MonoNs(2_000_000_000), boot_ns: 65_000_000_000, real_ns: 0 };
    model.apply(&Record::Clock(clock));
    model.apply(&fork(3_000, 1, 20));
    let ticks = |pid| model.get(Tgid(pid)).unwrap().start_ticks();
    assert_eq!((ticks(10), ticks(20)), (Some(400), Some(6600)));
    assert_eq!(model.mono_of_ticks(6600), Some(MonoNs(3_000_000_000)));
    assert_eq!(model.mono_of_ticks(6400), Some(MonoNs(1_000_000_000)));
}

#[test]
fn zombies_do_not_count_as_processes() {
    let mut model = model();
    assert_eq!((model.is_empty(), model.len()), (true, 0));
    model.apply(&fork(1, 1, 10));
    assert!(!model.is_empty() && model.len() == 2);
    model.apply(&exit(2, 10));
    assert_eq!((model.len(), model.incomplete()), (1, 0));
    model.apply(&exit(3, 1));
    assert!(model.is_empty());
}

#[test]
fn a_scan_removes_only_processes_without_events_since_it_began() {
    let scan = |ms: u64, processes| {
        let (started, reason) = (MonoNs(ms * 1_000_000), SnapshotReason::Loss);
        Record::Snapshot(Snapshot { started, ended: started, processes, reason, atomic: false })
    };
    let known = |records: &[Record<'static>]| {
        let mut model = model();
        records.iter().for_each(|record| model.apply(record));
        model.processes().map(|details| details.subject.tgid().0).collect::<Vec<_>>()
    };
    let found = |pid| {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(pid) };
        Record::Details(Box::new(Details { ppid: Some(1), ..Details::missed(subject, MissReason::Busy) }))
    };
    let forks = [fork(1, 1, 10), fork(2, 1, 20)];
    // The events of 1 and 20 are as new as the scan.
    assert_eq!(known(&[&forks[..], &[scan(2, 0)]].concat()), [1, 20]);
    assert_eq!(known(&[&forks[..], &[scan(3, 0)]].concat()), [0_u32; 0]);
    assert_eq!(known(&[&forks[..], &[found(10), scan(3, 1)]].concat()), [10]);
    // A scan whose records are not all there removes nothing, nor does the next one find too few.
    assert_eq!(known(&[&forks[..], &[found(10), scan(3, 2)]].concat()), [1, 10, 20]);
    assert_eq!(known(&[&forks[..], &[found(10), scan(3, 2), found(20), scan(4, 1)]].concat()), [20]);
    // A process that a scan has found counts from the latest event on.
    assert_eq!(known(&[fork(2, 1, 10), found(30), scan(1, 1), scan(2, 0)]), [1, 10, 30]);
    // A scan can find a process before its fork event arrives.
    assert_eq!(known(&[&[found(20)], &forks[..], &[scan(3, 1)]].concat()), [20]);
}
