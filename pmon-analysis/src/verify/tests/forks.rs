//! Tests the comparison of fork events with the kernel's count of forks.

use super::*;

/// Creates a recording in which `emitted` of the 100 forks counted between two readings have an
/// event, followed by `after`.
fn forked(emitted: u32, running: u64, after: Vec<Record<'static>>) -> Vec<Record<'static>> {
    let mut records = vec![fork(0, 8), event(1, 900), forks(9, 5000, 3)];
    records.extend((12..12 + emitted).map(|time| fork(0, time)));
    records.push(event(1, 901));
    records.extend([forks(1000, 5100, running)]);
    records.extend(after);
    let mut next = 8;
    for record in &mut records {
        // Makes the sequence numbers contiguous and keeps the times.
        if let Record::Event(RecordedDatagram::Event(event), _) = record
            && event.cpu == Cpu(0)
        {
            event.seq = Seq(next);
            next += 1;
        }
    }
    records
}

fn later(forked: u64, running: u64) -> Vec<Record<'static>> {
    vec![fork(0, 1005), event(1, 902), at(1, 1006, 903), forks(1010, forked, running)]
}

#[test]
fn equal_numbers_of_forks_and_fork_events_are_complete() {
    let report = verify_sealed(forked(100, 1, later(5101, 1)));
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Complete, 0), "{report:?}");
    assert_eq!((report.forks.readings, report.forks.counted), (3, 101));
}

#[test]
fn forks_without_an_event_are_an_unreported_blind_span() {
    let report = verify_sealed(forked(70, 1, later(5101, 1)));
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Blind, 30), "{report:?}");
    assert_eq!(report.forks.shortfalls, [Shortfall { from: MonoNs(9), until: MonoNs(1002), missing: 30 }]);
    assert_eq!((report.blinds, report.unreported_blinds, report.all_blind_ns()), (0, 1, 993));
    assert!(report.problems.is_empty());
}

#[test]
fn a_reported_blind_span_is_not_counted_twice() {
    let mut after = later(5101, 1);
    after.push(Record::Blind(Blind { from: MonoNs(500), until: MonoNs(600) }));
    let report = verify_sealed(forked(70, 1, after));
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Blind, 30), "{report:?}");
    assert_eq!((report.all_blinds(), report.all_blind_ns()), (1, 100));
}

#[test]
fn running_tasks_late_events_and_a_single_reading_prove_no_missing_fork() {
    // That many tasks may not have emitted their event yet, at both readings.
    let report = verify_sealed(forked(70, 31, later(5101, 31)));
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Complete, 0), "{report:?}");
    // The later reading proves some of them missing.
    let report = verify_sealed(forked(70, 21, later(5101, 21)));
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Blind, 10), "{report:?}");
    // These events arrive after the reading, with times from before it.
    let mut after: Vec<_> = (0..30).map(|_| fork(0, 999)).collect();
    after.extend(later(5101, 1));
    assert_eq!(verify_sealed(forked(70, 1, after)).verdict(), Verdict::Complete);
    assert_eq!(verify_sealed(forked(70, 1, Vec::new())).verdict(), Verdict::Complete);
}

#[test]
fn lost_events_may_be_forks_even_if_the_loss_is_reported_later() {
    let lost = |count: u32| {
        let (after, before) = (MonoNs(901), MonoNs(1006));
        let (first, last) = (Seq(903), Seq(902 + count));
        let loss = Loss { cpu: Cpu(1), first, last, after, before, cause: LossCause::Socket };
        let reading = forks(1010, 5101, 1);
        vec![fork(0, 1005), event(1, 902), Record::Loss(loss), at(1, 1006, 903 + count), reading]
    };
    let report = verify_sealed(forked(70, 1, lost(30)));
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Lossy, 0), "{report:?}");
    let report = verify_sealed(forked(70, 1, lost(20)));
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Blind, 10), "{report:?}");
}

#[test]
fn excluded_events_may_be_forks() {
    let with = |excluded: u32| {
        let mut records = vec![scope()];
        records.extend(forked(70, 1, later(5101, 1)));
        records.extend([at(1, 1020, 904 + excluded), forks(1030, 5101, 1)]);
        records.push(self::excluded(1, 904 + excluded, excluded.into()));
        verify_sealed(records)
    };
    // Fork events from before the first reading may be among those counted.
    let report = with(29);
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Complete, 0), "{report:?}");
    let report = with(19);
    assert_eq!((report.verdict(), report.forks.missing), (Verdict::Blind, 10), "{report:?}");
}

#[test]
fn a_reset_wrapped_or_absent_counter_proves_no_missing_fork() {
    let before = |start| vec![fork(0, 8), forks(9, start, 1), fork(0, 9), forks(20, start + 1, 1)];
    let numbered = |records: Vec<Record<'static>>| {
        let mut records = records;
        let mut seq = 0;
        for record in &mut records {
            if let Record::Event(RecordedDatagram::Event(event), _) = record {
                (event.time, event.seq) = (MonoNs(10 * u64::from(seq) + 5), Seq(seq));
                seq += 1;
            }
        }
        verify_sealed(records)
    };
    for start in [(1 << 32) - 1, u64::MAX - 1] {
        let mut records = before(start);
        records.extend([forks(40, 0, 1), event(0, 0), forks(60, 0, 1)]);
        let report = numbered(records);
        assert_eq!((report.verdict(), report.forks.missing), (Verdict::Complete, 0), "{report:?}");
    }
    let absent = Record::Forks(ForkReading::Absent { why: "no".into() });
    let report = verify_sealed(vec![event(0, 1), absent]);
    assert_eq!((report.verdict(), report.forks.absent.as_deref()), (Verdict::Complete, Some("no")));
}

proptest! {
    /// Impossible numbers cause no panic.
    #[test]
    fn any_readings_and_losses_are_accepted(
        readings in prop::collection::vec(any::<[u64; 4]>(), 0..20),
        losses in prop::collection::vec(any::<(u32, u32, u64, u64)>(), 0..20),
        scoped in any::<bool>(),
    ) {
        let mut records: Vec<_> = if scoped { vec![scope()] } else { Vec::new() };
        records.extend(losses.into_iter().map(|(first, last, after, before)| {
            let (first, last, cause) = (Seq(first), Seq(last), LossCause::Socket);
            let (after, before) = (MonoNs(after), MonoNs(before));
            Record::Loss(Loss { cpu: Cpu(first.0 % 3), first, last, after, before, cause })
        }));
        for (at, [from, until, forks, running]) in readings.into_iter().enumerate() {
            let (from, until) = (MonoNs(from), MonoNs(until));
            let reading = ForkCount { from, until, forks, running };
            records.insert(at % (records.len() + 1), Record::Forks(ForkReading::Counted(reading)));
        }
        verify(&records);
    }
}
