use pmon_analysis::groups::GroupKey;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    Blind, Details, Loss, Meta, MissReason, RecordedDatagram, Snapshot, SnapshotReason, Usage,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, Seq, Task};

use super::super::interval::{IntervalFacts, Totals};
use super::*;
use crate::args::TopSortArg;

const MS: u64 = 1_000_000;

fn event(ms: u64, body: EventBody, usage: Option<Usage>) -> Record<'static> {
    let event = Event { time: MonoNs(ms * MS), seq: Seq(0), cpu: Cpu(0), body };
    Record::Event(RecordedDatagram::Event(event), usage.map(Box::new))
}

fn fork(ms: u64, parent: u32, child: u32) -> Record<'static> {
    let (parent, child) = (Task::new(parent, parent), Task::new(child, child));
    event(ms, EventBody::Fork { parent, child }, None)
}

fn exit(ms: u64, pid: u32, code: u32, cpu_us: u64) -> Record<'static> {
    let usage = Usage { cpu_us, max_rss_kib: 4, ..Usage::default() };
    let EventBody::Exit { task, signal, parent, .. } = exit_body(pid) else { unreachable!() };
    event(ms, EventBody::Exit { task, code, signal, parent }, Some(usage))
}

fn exit_body(pid: u32) -> EventBody {
    EventBody::Exit { task: Task::new(pid, pid), code: 0, signal: 17, parent: None }
}

fn rename(ms: u64, pid: u32, name: &str) -> Record<'static> {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name.as_bytes());
    event(ms, EventBody::Comm { task: Task::new(pid, pid), comm }, None)
}

/// Returns the scan that finds a process `sh`, which is as old as the machine.
fn scan(pid: u32) -> [Record<'static>; 2] {
    let details = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(pid) }, MissReason::Denied);
    let details =
        Details { miss: None, comm: Some("sh".into()), start_ticks: Some(1), threads: Some(1), ..details };
    let at = MonoNs(1_000 * MS);
    let reason = SnapshotReason::Start;
    let snapshot = Snapshot { started: at, ended: at, processes: 1, reason, atomic: false };
    [Record::Details(Box::new(details)), Record::Snapshot(snapshot)]
}

/// Returns the model of a recording that began one second after the machine.
fn model(filter: LifeFilter) -> LiveModel {
    let start = pmon_core::capture::ClockAnchor {
        mono: MonoNs(1_000 * MS),
        boot_ns: 1_000 * MS,
        real_ns: 1_000_000_000_000,
    };
    let meta = Meta { start, ticks_per_second: 100, recorder_pid: 4, ..Meta::default() };
    let header = Header { uuid: [1; 16], byte_order: ByteOrder::Little, meta };
    LiveModel::new(&header, filter, GroupBy::Comm)
}

fn apply(model: &mut LiveModel, records: impl IntoIterator<Item = Record<'static>>) {
    records.into_iter().for_each(|record| model.apply(&record));
}

/// Returns the totals, and per group the name, starts, ends, running processes and CPU time in us.
type Summary = (Totals, Vec<(String, u64, u64, u64, Option<u64>)>);

/// Ends the interval with these readings of the CPU times of processes.
fn close(model: &mut LiveModel, readings: &[(u32, u64)]) -> Summary {
    let closed = model.close(GroupBy::Comm);
    let mut used = HashMap::new();
    for process in &closed.running {
        let reading = readings.iter().find(|(pid, _)| *pid == process.life.pid);
        let reading = reading.map(|&(_, us)| CpuReading { cpu_ns: us * 1_000, start_ticks: 1 });
        let cpu = reading.and_then(|reading| model.read_cpu(process.life.id, process.life.start, reading));
        used.extend(cpu.map(|cpu| (process.life.id, cpu)));
    }
    let facts = IntervalFacts {
        users: Default::default(),
        host: "box".into(),
        until_ns: None,
        length_ns: 1_000 * MS,
        has_running_cpu: true,
        missing: None,
    };
    let interval = closed.into_sums(|life| used.get(&life.id).copied()).into_interval(facts);
    let rows = interval.rows(TopSortArg::Key, true).into_iter().map(|row| {
        let name = match &row.key {
            GroupKey::Text(text) => String::from_utf8_lossy(text).into_owned(),
            _ => "?".into(),
        };
        (name, row.sums.started, row.ended(), row.sums.running, row.sums.cpu_ns.map(|ns| ns / 1_000))
    });
    (interval.totals, rows.collect())
}

fn row(
    name: &str,
    started: u64,
    ended: u64,
    running: u64,
    cpu_us: Option<u64>,
) -> (String, u64, u64, u64, Option<u64>) {
    (name.into(), started, ended, running, cpu_us)
}

#[test]
fn each_process_starts_in_one_interval_and_ends_in_one() {
    let mut model = model(LifeFilter::default());
    assert!(!model.has_scanned());
    apply(&mut model, scan(10));
    assert!(model.has_scanned());
    // 20 starts and ends in the first interval, 21 starts in it and fails in the second one.
    apply(&mut model, [fork(1_100, 10, 20), rename(1_101, 20, "true"), exit(1_105, 20, 0, 700)]);
    apply(&mut model, [fork(1_200, 10, 21), rename(1_201, 21, "make")]);
    let (totals, rows) = close(&mut model, &[]);
    assert_eq!(rows, [row("make", 1, 0, 1, None), row("sh", 0, 0, 1, None), row("true", 1, 1, 0, Some(700))]);
    assert_eq!((totals.events, totals.started, totals.ended, totals.running), (5, 2, 1, 2));
    apply(&mut model, [exit(2_000, 21, 1 << 8, 900), fork(2_100, 10, 22)]);
    let (totals, rows) = close(&mut model, &[]);
    assert_eq!(rows, [row("make", 0, 1, 0, Some(900)), row("sh", 1, 0, 2, None)]);
    assert_eq!((totals.started, totals.ended, totals.failures, totals.running), (1, 1, 1, 2));
    let (totals, _) = close(&mut model, &[]);
    assert_eq!((totals.events, totals.started, totals.ended, totals.running), (0, 0, 0, 2));
}

#[test]
fn starts_and_ends_of_all_intervals_add_up() {
    let mut model = model(LifeFilter::default());
    apply(&mut model, scan(10));
    let (mut started, mut ended) = (0, 0);
    let mut running = Vec::new();
    // Processes live for 0 to 6 ticks of 10 ms; an interval ends after a prime number of ticks.
    for tick in 0..500u32 {
        let ms = 1_010 + u64::from(tick) * 10;
        let pid = 100 + tick;
        apply(&mut model, [fork(ms, 10, pid), rename(ms, pid, "x")]);
        running.push((tick + tick * tick % 7, pid));
        running.retain(|&(until, pid)| {
            if until <= tick {
                apply(&mut model, [exit(ms + 1, pid, 0, 1)]);
            }
            until > tick
        });
        if tick % 13 == 0 {
            let (totals, _) = close(&mut model, &[]);
            (started, ended) = (started + totals.started, ended + totals.ended);
            assert_eq!(started - ended, totals.running - 1, "{tick}");
        }
    }
    // The next event shows that the last process has ended.
    apply(&mut model, [rename(7_000, 10, "sh")]);
    let (totals, _) = close(&mut model, &[]);
    assert_eq!(started + totals.started, 500);
    assert!(model.known.len() < 20, "{}", model.known.len());
}

#[test]
fn cpu_time_counts_once_in_the_interval_in_which_it_was_used() {
    let mut model = model(LifeFilter::default());
    apply(&mut model, scan(10));
    // The process that is older than the recording has used 5 s before.
    let older = model.older();
    assert_eq!(older.len(), 1);
    let reading = CpuReading { cpu_ns: 5_000 * MS, start_ticks: 1 };
    assert_eq!(model.read_cpu(older[0].0, None, reading), None);
    apply(&mut model, [fork(1_100, 10, 20), rename(1_101, 20, "make")]);
    let (totals, rows) = close(&mut model, &[(10, 5_000_100), (20, 30)]);
    assert_eq!(rows, [row("make", 1, 0, 1, Some(30)), row("sh", 0, 0, 1, Some(100))]);
    assert_eq!(totals.cpu_ns, Some(130_000));
    // The exact CPU time at the exit is that of all intervals.
    apply(&mut model, [exit(1_500, 20, 0, 75), exit(1_600, 10, 0, 5_000_110), fork(1_700, 1, 30)]);
    let (totals, rows) = close(&mut model, &[]);
    assert_eq!(rows[..2], [row("make", 0, 1, 0, Some(45)), row("sh", 0, 1, 0, Some(10))]);
    assert_eq!(totals.cpu_ns, Some(55_000));
}

#[test]
fn cpu_time_before_the_recording_does_not_count() {
    let mut model = model(LifeFilter::default());
    apply(&mut model, scan(10));
    // No reading was possible, so the CPU time in the interval is unknown.
    apply(&mut model, [exit(1_100, 10, 0, 5_000_000), fork(1_200, 1, 30)]);
    let (totals, rows) = close(&mut model, &[]);
    assert_eq!(rows[0], row("sh", 0, 1, 0, Some(0)));
    assert_eq!((totals.started, totals.cpu_ns), (1, Some(0)));
}

#[test]
fn a_reading_of_another_process_with_the_same_id_does_not_count() {
    let mut model = model(LifeFilter::default());
    apply(&mut model, [fork(1_100, 1, 20)]);
    let closed = model.close(GroupBy::Comm);
    let life = &closed.running.iter().find(|process| process.life.pid == 20).unwrap().life;
    let mut read =
        |cpu_ns, start_ticks| model.read_cpu(life.id, life.start, CpuReading { cpu_ns, start_ticks });
    assert_eq!((read(7, 110), read(9, 110), read(90, 250), read(10, 110)), (Some(7), Some(2), None, Some(1)));
    assert_eq!([model.miss_cpu(life.id), model.miss_cpu(life.id)], [false, true]);
    // A process that has ended since counts in the next interval, with its exact CPU time.
    let (id, start) = (life.id, life.start);
    apply(&mut model, [exit(1_200, 20, 0, 50), fork(1_300, 1, 21)]);
    assert!(!model.miss_cpu(id));
    assert_eq!(model.read_cpu(id, start, CpuReading { cpu_ns: 11, start_ticks: 110 }), None);
    let (totals, _) = close(&mut model, &[]);
    assert_eq!((totals.cpu_ns, totals.ended_without_cpu), (Some(50_000 - 10), 0));
    apply(&mut model, [event(1_400, exit_body(21), None), fork(1_500, 1, 22)]);
    assert_eq!(close(&mut model, &[]).0.ended_without_cpu, 1);
}

#[test]
fn a_filter_selects_processes_and_losses_are_reported_once() {
    let mut model = model(LifeFilter { pids: vec![20], ..LifeFilter::default() });
    let (after, before) = (MonoNs(1_000 * MS), MonoNs(1_100 * MS));
    let (first, last, cause) = (Seq(1), Seq(3), LossCause::Socket);
    let loss = Record::Loss(Loss { cpu: Cpu(0), first, last, after, before, cause });
    let blind = Record::Blind(Blind { from: MonoNs(0), until: MonoNs(5) });
    apply(&mut model, [fork(1_100, 1, 20), fork(1_100, 1, 21), loss, blind]);
    let closed = model.close(GroupBy::Comm);
    assert_eq!(closed.running.len(), 1);
    assert_eq!(closed.losses, Losses { events: 3, blind_ns: 5, ..Losses::default() });
    assert_eq!(model.close(GroupBy::Comm).losses, Losses::default());
}

#[test]
fn processes_of_which_too_little_is_known_are_counted_once_per_interval() {
    let process = pmon_analysis::filter::ProcessCondition { uids: vec![7], ..Default::default() };
    let mut model = model(LifeFilter { process, ..LifeFilter::default() });
    let undecided = |model: &mut LiveModel| {
        let closed = model.close(GroupBy::Comm);
        assert_eq!(closed.running.len(), 0);
        closed.losses.undecided
    };
    // The user of both is unknown.
    apply(&mut model, [fork(1_100, 1, 20), fork(1_100, 1, 21)]);
    let older = undecided(&mut model);
    apply(&mut model, [exit(1_200, 20, 0, 1), rename(1_300, 1, "init")]);
    assert_eq!(undecided(&mut model), older, "one has ended in the interval");
    assert_eq!(undecided(&mut model), older - 1);
    assert!(older >= 2);
}
