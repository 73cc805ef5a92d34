//! What details, clocks and usages say of processes.

use super::*;

/// Creates an exec whose details have all fields, and that of `comm` as name.
fn complete(subject: DetailsSubject, comm: &str, cgroup: Option<&str>, container: Option<&str>) -> Details {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Details {
        filename: Some(bytes(comm)),
        args_len: Some(9000),
        cgroup: cgroup.map(bytes),
        container: container.map(bytes),
        ..details(subject, comm, None)
    }
}

fn of_exec(ms: u64) -> DetailsSubject {
    DetailsSubject::Exec { tgid: Tgid(10), time: MonoNs(ms * 1_000_000) }
}

fn exec_with(ms: u64, details: Details) -> OwnedRecord {
    event(ms, EventBody::Exec { task: leader(10) }, Some(details))
}

#[test]
fn an_exec_without_details_leaves_what_an_exec_preserves() {
    let before = complete(of_exec(1), "sh", Some("0::/a"), Some("pod"));
    let live = live(&[exec_with(1, before.clone()), exec(2, 10, None)]);
    let known = live_process(&live, 10).details.as_deref().unwrap();
    let expected = Details {
        cwd: before.cwd,
        cgroup: before.cgroup,
        container: before.container,
        context: before.context,
        ppid: before.ppid,
        miss: None,
        ..Details::missed(before.subject, MissReason::Gone)
    };
    assert_eq!(*known, expected);
    assert_eq!(live_process(&live, 10).context(), before.context);
}

#[test]
fn the_names_of_a_container_belong_to_its_cgroup() {
    let container = |cgroup| {
        let before = complete(of_exec(1), "sh", Some("0::/a"), Some("pod"));
        let after = complete(of_exec(2), "ls", cgroup, None);
        let live = live(&[exec_with(1, before), exec_with(2, after)]);
        live_process(&live, 10).details.as_ref().unwrap().container.clone()
    };
    assert_eq!(container(Some("0::/a")).as_deref(), Some(&b"pod"[..]));
    assert_eq!(container(None).as_deref(), Some(&b"pod"[..]));
    assert_eq!(container(Some("0::/b")), None);
}

#[test]
fn a_process_that_had_exited_before_its_details_were_read_is_gone_at_exec() {
    let missed = |ms, miss| exec_with(ms, Details::missed(of_exec(ms), miss));
    let gone = |records: &[OwnedRecord]| live_process(&live(records), 10).gone_at_exec;
    assert!(!gone(&[missed(1, MissReason::Busy)]));
    assert!(gone(&[missed(1, MissReason::Gone)]));
    assert!(gone(&[missed(1, MissReason::Gone), scanned(10, "sh", 1)]));
    assert!(!gone(&[missed(1, MissReason::Gone), missed(2, MissReason::Busy)]));
}

#[test]
fn start_times_that_differ_by_a_tick_are_of_the_same_process() {
    let is_same = |first: OwnedRecord, ticks| {
        let live = live(&[first, sid(251, 10), scanned(10, "sh", ticks), sid(5000, 1)]);
        live_process(&live, 10).session == Some(10)
    };
    // The fork is at tick 125, and later than the start that the kernel records.
    let forked = |ticks| is_same(fork(250, 1, 10), ticks);
    assert_eq!([50, 124, 125, 126, 127, 128].map(forked), [true, true, true, true, false, false]);
    let known = |ticks| is_same(scanned(10, "sh", 100), ticks);
    assert_eq!([50, 98, 99, 100, 101, 102].map(known), [false, false, true, true, true, false]);
}

#[test]
fn a_reading_of_the_clocks_changes_start_times() {
    let start = ClockAnchor { mono: MonoNs(0), boot_ns: 1_000_000_000, real_ns: 0 };
    let mut known = ProcessTable::detailed(&Meta { ticks_per_second: 100, start, ..Meta::default() });
    // The machine was suspended for 60 s.
    let clock = ClockAnchor { mono: MonoNs(2_000_000_000), boot_ns: 63_000_000_000, real_ns: 0 };
    for record in [fork(1_000, 1, 10), OwnedRecord::Clock(clock), fork(3_000, 1, 20), scanned(30, "sh", 6350)]
    {
        known.apply(&record);
    }
    let process = |pid| known.live_process(Tgid(pid)).unwrap();
    assert_eq!([10, 20].map(|pid| process(pid).start_ticks), [Some(200), Some(6400)]);
    let age = |pid| known.age_ns(process(pid), MonoNs(4_000_000_000));
    assert_eq!(
        [10, 20, 30, 1].map(age),
        [Some(3_000_000_000), Some(1_000_000_000), Some(1_500_000_000), None]
    );
}

#[test]
fn a_process_has_the_usage_of_its_first_thread() {
    let exit = |ms, tid, cpu_us| {
        let OwnedRecord::Event(mut item) = exit(ms, tid, 10) else { unreachable!() };
        item.usage = Some(Box::new(Usage { cpu_us, ..Usage::default() }));
        OwnedRecord::Event(item)
    };
    let live = live(&[
        fork(1, 1, 10),
        thread(2, 11, 10),
        thread(2, 12, 10),
        exit(3, 11, 5),
        exit(4, 10, 6),
        exit(5, 12, 7),
    ]);
    assert_eq!(live_process(&live, 10).usage.as_ref().map(|usage| usage.cpu_us), Some(6));
}

#[test]
fn a_detailed_table_finds_processes_by_their_threads_within_its_limit() {
    let mut known = ProcessTable::detailed(&Meta::default());
    known.apply(&fork(1, 1, 10));
    known.apply(&thread(2, 11, 10));
    let found = |known: &ProcessTable, tid| known.process_of_thread(Tid(tid)).map(|process| process.pid);
    assert_eq!((found(&known, 11), found(&known, 10)), (Some(Tgid(10)), None));
    known.set_memory_limit(0);
    known.apply(&thread(3, 12, 10));
    assert_eq!((found(&known, 12), known.incomplete()), (None, 1));
}
