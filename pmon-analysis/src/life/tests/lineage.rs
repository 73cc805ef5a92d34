//! Tests of identities and parents where records are missing, late, or of another process.

use super::*;

/// Number of ns per clock tick.
const TICK: u64 = 10_000_000;

fn with_parent(record: Record<'static>, parent: u32) -> Record<'static> {
    let Record::Event(RecordedDatagram::Event(event), usage) = record else { return record };
    let EventBody::Exit { task: of, code, signal, .. } = event.body else { unreachable!("an exit") };
    let body = EventBody::Exit { task: of, code, signal, parent: Some(task(parent)) };
    Record::Event(RecordedDatagram::Event(Event { body, ..event }), usage)
}

fn started_at(ticks: u64) -> Usage {
    Usage { start_ticks: ticks, process: ProcessState::Ended { status: 0 }, ..Usage::default() }
}

#[test]
fn the_parent_of_an_orphan_is_assumed_until_an_event_names_it() {
    let mut tracker = LifeTracker::new(&header());
    let mut parent = |record: Record<'static>| {
        tracker.apply(&record);
        tracker.last_known(Tgid(30)).map(|life| (life.ppid.unwrap(), life.is_parent_assumed))
    };
    parent(scanned(1, "init", 0, 1));
    parent(scanned(10, "sh", 1, 3));
    parent(snapshot(2));
    parent(fork(100, 10, 20));
    assert_eq!(parent(fork(110, 20, 30)), Some((20, false)));
    assert_eq!(parent(exit(120, 20, 20, 0)), Some((1, true)));
    // A process that forks a thread is named with its parent.
    assert_eq!(parent(thread(130, 10, 30, 31)), Some((10, false)));
    assert_eq!(parent(exit(140, 10, 10, 0)), Some((1, true)));
    assert_eq!(parent(exec(150, 30)), Some((1, true)));
    assert_eq!(parent(with_parent(exit(160, 30, 30, 0), 1)), Some((1, false)));
}

#[test]
fn the_details_of_an_exec_name_the_parent_of_an_orphan() {
    let subject = DetailsSubject::Exec { tgid: Tgid(30), time: MonoNs(130) };
    let lives = lives(&[
        fork(100, 10, 20),
        fork(110, 20, 30),
        exit(120, 20, 20, 0),
        exec(130, 30),
        Record::Details(Box::new(details(subject, "daemon", 10))),
    ]);
    let orphan = life(&lives, 30);
    // The parent was adopted before the exec, so its details are newer.
    assert_eq!((orphan.ppid, orphan.is_parent_assumed), (Some(10), false));
    assert_eq!(orphan.parent_id, Some(life(&lives, 10).id));
}

#[test]
fn an_opening_states_that_a_parent_is_assumed() {
    let mut model = crate::process::ProcessModel::new(ByteOrder::Little, 100, header().meta.start);
    for record in [
        scanned(1, "init", 0, 1),
        snapshot(1),
        fork(100 * TICK, 1, 20),
        fork(110 * TICK, 20, 30),
        fork(115 * TICK, 1, 31),
        exit(120 * TICK, 20, 20, 0),
        fork(130 * TICK, 1, 40),
    ] {
        model.apply(&record);
    }
    let opening: Vec<_> = model.processes().map(|details| Record::Details(Box::new(details))).collect();
    let count = opening.len() as u32;
    let rows = lives(&[opening, vec![snapshot(count), fork(140 * TICK, 1, 50)]].concat());
    let assumed = |pid| (life(&rows, pid).ppid, life(&rows, pid).is_parent_assumed);
    assert_eq!(
        (assumed(30), assumed(31), assumed(40)),
        ((Some(1), true), (Some(1), false), (Some(1), false))
    );
}

#[test]
fn an_exit_with_another_start_time_is_of_another_process() {
    // Process 20 starts at tick 500 + 10. Its exit and the next fork are lost.
    let lives = lives(&[
        fork(10 * TICK, 10, 20),
        loss(15 * TICK),
        exit_with(60 * TICK, 20, 20, 0, started_at(540)),
        fork(70 * TICK, 10, 20),
        exit_with(75 * TICK, 20, 20, 0, started_at(570)),
    ]);
    let rows: Vec<_> = lives.iter().filter(|life| life.pid == 20).collect();
    let origins: Vec<_> = rows.iter().map(|life| life.origin).collect();
    let forked = |ticks| ProcessStart::Forked(MonoNs(ticks * TICK));
    assert_eq!(origins, [forked(10), ProcessStart::Ticks(540), forked(70)]);
    assert_eq!(rows[0].end, LifeEnd::Unobserved { after: MonoNs(10 * TICK), before: MonoNs(60 * TICK) });
    assert_eq!(rows[0].parent.as_ref().map(|parent| parent.pid), Some(10));
    let end = LifeEnd::Ended { time: MonoNs(60 * TICK), status: Some(WaitStatus::Exited(0)) };
    assert_eq!((rows[1].end, rows[1].duration_ns()), (end, Some(20 * TICK)));
    // The one that was not seen to start has no known parent.
    assert!(rows[1].parent.is_none());
}

#[test]
fn late_details_are_not_those_of_a_descendant_with_the_same_id() {
    let subject = DetailsSubject::Exec { tgid: Tgid(20), time: MonoNs(11 * TICK) };
    let late = Details { start_ticks: Some(510), ..details(subject, "make all", 7) };
    let lives = lives(&[
        fork(10 * TICK, 10, 20),
        exec(11 * TICK, 20),
        fork(12 * TICK, 20, 30),
        exit(13 * TICK, 20, 20, 0),
        fork(20 * TICK, 30, 20),
        Record::Details(Box::new(late)),
        exit(21 * TICK, 20, 20, 0),
    ]);
    let rows: Vec<_> = lives.iter().filter(|life| life.pid == 20).collect();
    assert_eq!(rows.len(), 2);
    // Both run the program, and the parent of the second one is a child of the first.
    assert!(rows.iter().all(|life| command(&life.program) == "make all"));
    assert_eq!((rows[0].execs.len(), rows[1].execs.len()), (1, 0));
    assert_eq!(rows[1].ppid, Some(30));
}

#[test]
fn a_process_that_the_first_scan_will_find_is_identified_by_its_start() {
    let records = [
        fork(100, 10, 20),
        fork(110, 11, 21),
        scanned(10, "sh", 1, 3),
        scanned(11, "other", 1, 900),
        snapshot(2),
        fork(200, 10, 22),
    ];
    let ids = |expected: &[(u32, u64)]| {
        let mut tracker = LifeTracker::new(&header());
        tracker.expect_scan(expected.iter().map(|&(pid, ticks)| (Tgid(pid), ticks)).collect());
        records.iter().for_each(|record| tracker.apply(record));
        [10, 11].map(|pid| tracker.last_known(Tgid(pid)).unwrap().origin)
    };
    let [seen, later] = ids(&[]);
    assert_eq!((seen, later), (ProcessStart::Seen(MonoNs(100)), ProcessStart::Seen(MonoNs(110))));
    // A process that started after the event is another one.
    let [found, other] = ids(&[(10, 3), (11, 900)]);
    assert_eq!((found, other), (ProcessStart::Ticks(3), later));
}

#[test]
fn a_parent_that_the_first_scan_will_find_is_known_to_a_process_that_ends_before() {
    let parent_of = |expected: &[(u32, u64)]| {
        let mut tracker = LifeTracker::new(&header());
        tracker.expect_scan(expected.iter().map(|&(pid, ticks)| (Tgid(pid), ticks)).collect());
        for record in [fork(100, 10, 20), fork(110, 20, 30), exit(120, 20, 20, 0)] {
            tracker.apply(&record);
        }
        tracker.apply(&with_parent(exit(130, 30, 30, 0), 1));
        let orphan = tracker.last_known(Tgid(30)).unwrap();
        (orphan.ppid, orphan.parent_id)
    };
    let scope = super::super::id::IdentityScope::new(&header().meta);
    let init = scope.id(1, ProcessStart::Ticks(3));
    assert_eq!(parent_of(&[(1, 3)]), (Some(1), Some(init)));
    // The scan finds a process that started later, or none.
    assert_eq!(parent_of(&[(1, 900)]), (Some(1), None));
    assert_eq!(parent_of(&[]), (Some(1), None));
}
