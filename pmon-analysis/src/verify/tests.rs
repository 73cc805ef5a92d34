mod forks;

use pmon_core::Task;
use pmon_core::capture::{
    Blind, CpuCounts, Excluded, Fence, FencePosition, ForkCount, ForkReading, RingCounts, ScopeInfo,
    Unobserved, UnobservedReason, UnreachedCpu, UnreachedReason, Witness,
};
use pmon_core::wire::{Comm, EventBody};
use proptest::prelude::*;

use super::*;

const RECORDER: Tgid = Tgid(7);

fn datagram(cpu: u32, seq: u32, body: EventBody) -> Record<'static> {
    Record::Event(
        RecordedDatagram::Event(Event { time: MonoNs(seq.into()), seq: Seq(seq), cpu: Cpu(cpu), body }),
        None,
    )
}

fn event(cpu: u32, seq: u32) -> Record<'static> {
    datagram(cpu, seq, EventBody::Sid { task: Task::new(1, 1) })
}

fn heartbeat(cpu: u32, seq: u32) -> Record<'static> {
    let mut comm = Comm::default();
    let name = SelfGenerated::Heartbeat.comm().as_bytes();
    comm.0[..name.len()].copy_from_slice(name);
    datagram(cpu, seq, EventBody::Comm { task: Task::new(9, RECORDER.0), comm })
}

fn loss(cpu: u32, first: u32, last: u32, cause: LossCause) -> Record<'static> {
    let (after, before) = (MonoNs(0), MonoNs(0));
    Record::Loss(Loss { cpu: Cpu(cpu), first: Seq(first), last: Seq(last), after, before, cause })
}

/// Creates the end record that matches these records.
fn end(records: &[Record<'_>]) -> Record<'static> {
    let mut end = End::default();
    for record in records {
        match record {
            Record::Event(_, _) => end.events += 1,
            Record::Loss(loss) => end.lost.add(loss.cause, loss.count()),
            Record::Blind(blind) => end.blind_ns += blind.length_ns(),
            Record::Witness(witness) => end.drops = Some(witness.drops),
            _ => {}
        }
    }
    Record::End(end)
}

fn verify(records: &[Record<'_>]) -> VerifyReport {
    let mut verifier = Verifier::new(ByteOrder::NATIVE, Some(RECORDER));
    records.iter().for_each(|record| verifier.count(record));
    verifier.finish(true)
}

/// Verifies the records with a matching end record.
fn verify_sealed(mut records: Vec<Record<'_>>) -> VerifyReport {
    records.push(end(&records));
    verify(&records)
}

/// Creates a fork on a CPU at `time`, which is also its sequence number.
fn fork(cpu: u32, time: u32) -> Record<'static> {
    datagram(cpu, time, EventBody::Fork { parent: Task::new(1, 1), child: Task::new(2, 2) })
}

/// Creates a reading of the fork counter, made between `time` and `time + 2`.
fn forks(time: u32, forks: u64, running: u64) -> Record<'static> {
    let (from, until) = (MonoNs(time.into()), MonoNs(u64::from(time) + 2));
    Record::Forks(ForkReading::Counted(ForkCount { from, until, forks, running }))
}

/// Creates an event with a time that differs from its sequence number.
fn at(cpu: u32, time: u64, seq: u32) -> Record<'static> {
    let body = EventBody::Sid { task: Task::new(1, 1) };
    Record::Event(
        RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body }),
        None,
    )
}

#[test]
fn contiguous_numbers_are_complete_across_the_wrap_and_in_any_order_of_cpus() {
    let report = verify_sealed(vec![
        event(3, u32::MAX),
        event(0, 10),
        event(3, 0),
        heartbeat(3, 1),
        event(0, 11),
        event(3, 2),
    ]);
    assert_eq!(
        (report.verdict(), report.events, report.self_generated),
        (Verdict::Complete, 5, 1),
        "{report:?}"
    );
}

fn excluded(cpu: u32, last: u32, count: u64) -> Record<'static> {
    Record::Excluded(Excluded { cpu: Cpu(cpu), last: Seq(last), count })
}

fn scope() -> Record<'static> {
    Record::Scope(ScopeInfo { text: "exec".into() })
}

#[test]
fn counted_excluded_events_are_not_missing() {
    let mut records = vec![
        scope(),
        event(0, 10),
        event(1, u32::MAX),
        event(0, 15),
        excluded(0, 15, 4),
        loss(1, 0, 1, LossCause::Ring),
        event(1, 4),
        event(0, 17),
        excluded(0, 17, 5),
        excluded(1, 4, 2),
    ];
    let report = verify_sealed(records.clone());
    assert_eq!((report.verdict(), report.excluded, report.missing), (Verdict::Lossy, 7, 0), "{report:?}");
    assert_eq!(report.accounted_until, Some(MonoNs(u32::MAX.into())));
    records.pop();
    let report = verify_sealed(records);
    assert_eq!((report.verdict(), report.excluded, report.missing), (Verdict::Damaged, 5, 2), "{report:?}");
}

#[test]
fn excluded_events_after_the_last_event_of_a_cpu_are_counted() {
    let report = verify_sealed(vec![scope(), event(0, 10), event(0, 15), excluded(0, 20, 9)]);
    assert_eq!((report.verdict(), report.excluded, report.missing), (Verdict::Complete, 9, 0), "{report:?}");
    let report = verify_sealed(vec![scope(), event(0, 10), excluded(0, 20, 9)]);
    assert_eq!(report.verdict(), Verdict::Damaged, "{report:?}");
}

#[test]
fn numbers_before_and_after_a_time_without_events_are_unrelated() {
    let span = Unobserved { from: MonoNs(11), until: MonoNs(40), reason: UnobservedReason::Stopped };
    let gap = || Record::Unobserved(span);
    let report = verify_sealed(vec![event(0, 10), gap(), event(0, 50), event(0, 51)]);
    assert_eq!((report.missing, report.problem_count), (0, 0), "{report:?}");
    let report = verify_sealed(vec![event(0, 10), gap(), event(0, 50), event(0, 52)]);
    assert_eq!(report.missing, 1, "{report:?}");
    // Events that are excluded before the span must be counted before it.
    let report = verify_sealed(vec![scope(), event(0, 10), event(0, 15), gap(), event(0, 50)]);
    assert_eq!(report.missing, 4, "{report:?}");
    // The forks during the span are unknown.
    let records =
        vec![fork(0, 5), forks(10, 1, 1), gap(), at(0, 41, 50), forks(45, 100, 1), forks(46, 100, 1)];
    let report = verify_sealed([records, vec![at(0, 60, 51)]].concat());
    assert_eq!(report.forks.missing, 0, "{report:?}");
}

#[test]
fn positions_do_not_hold_after_a_later_time_without_events() {
    let (from, until, reason) = (MonoNs(11), MonoNs(40), UnobservedReason::Stopped);
    let gap = || Record::Unobserved(Unobserved { from, until, reason });
    let verify_at = |start: u64, mut records: Vec<Record<'static>>| {
        let mut verifier = Verifier::new(ByteOrder::NATIVE, Some(RECORDER));
        verifier.begin_at(&[CpuPosition { cpu: Cpu(0), next: Seq(10), time: MonoNs(9) }], MonoNs(start));
        records.push(end(&records));
        records.iter().for_each(|record| verifier.count(record));
        verifier.finish(true)
    };
    // The positions are those after the span, or before it.
    for (start, missing) in [(40, 40), (50, 40), (39, 0), (10, 0)] {
        let report = verify_at(start, vec![gap(), event(0, 50)]);
        assert_eq!((report.missing, report.unobserved), (missing, 1), "{start}: {report:?}");
    }
    let backwards = verify_at(10, vec![gap(), event(0, 5)]);
    assert_eq!((backwards.verdict(), backwards.problem_count), (Verdict::Blind, 0), "{backwards:?}");
    // A loss without an event shows numbers too.
    let report = verify_sealed(vec![loss(0, 5, 9, LossCause::Storage), gap(), event(0, 50)]);
    assert_eq!(report.problem_count, 0, "{report:?}");
    // The forks during the span are unknown, even if no event precedes it.
    let records = vec![forks(10, 1, 1), gap(), at(0, 41, 50), forks(45, 100, 1), forks(46, 100, 1)];
    let report = verify_sealed([records, vec![at(0, 60, 51)]].concat());
    assert_eq!(report.forks.missing, 0, "{report:?}");
}

#[test]
fn a_wrong_count_of_excluded_events_is_a_contradiction() {
    for wrong in [excluded(0, 15, 3), excluded(0, 15, 5), excluded(0, 14, 4), excluded(9, 15, 4)] {
        let report = verify_sealed(vec![scope(), event(0, 10), event(0, 15), wrong]);
        assert_eq!(report.verdict(), Verdict::Damaged, "{report:?}");
    }
    // Without a scope record, absent numbers are missing.
    let report = verify_sealed(vec![event(0, 10), event(0, 15), excluded(0, 15, 4)]);
    assert_eq!((report.verdict(), report.missing), (Verdict::Damaged, 4));
}

#[test]
fn the_counters_of_the_ring_limit_losses_and_excluded_events() {
    let ring = |spilled, dropped, excluded| {
        let counts = CpuCounts { cpu: Cpu(0), spilled, dropped, excluded };
        Record::Ring(RingCounts { time: MonoNs(1), cpus: vec![CpuCounts::default(), counts] })
    };
    let verdict = |cause, counts| {
        let lost = loss(0, 11, 13, cause);
        verify_sealed(vec![scope(), event(0, 10), lost, event(0, 15), excluded(0, 15, 1), counts]).verdict()
    };
    assert_eq!(verdict(LossCause::Ring, ring(0, 3, 1)), Verdict::Lossy);
    assert_eq!(verdict(LossCause::Ring, ring(3, 2, 1)), Verdict::Damaged);
    assert_eq!(verdict(LossCause::Socket, ring(3, 0, 2)), Verdict::Lossy);
    assert_eq!(verdict(LossCause::Socket, ring(2, 9, 1)), Verdict::Damaged);
    assert_eq!(verdict(LossCause::Ring, ring(0, 3, 0)), Verdict::Damaged);
}

#[test]
fn losses_that_fill_gaps_are_counted_by_cause_and_interval() {
    let report = verify_sealed(vec![
        event(0, 10),
        loss(0, 11, 13, LossCause::Backpressure),
        loss(0, 14, 20, LossCause::Socket),
        event(0, 21),
        event(1, 5),
        loss(0, 22, 22, LossCause::Socket),
        // A loss at the end, of a CPU without events.
        loss(2, 100, 101, LossCause::Backpressure),
        Record::Witness(Witness { time: MonoNs(0), drops: 8, gaps: 8 }),
    ]);
    assert_eq!(
        (report.verdict(), report.lost.total(), report.intervals),
        (Verdict::Lossy, 13, 3),
        "{report:?}"
    );
    assert_eq!((report.lost.of(LossCause::Socket), report.lost.of(LossCause::Backpressure)), (8, 5));
    assert_eq!((report.missing, report.unexplained_drops()), (0, 0));
}

#[test]
fn a_gap_without_a_loss_record_is_damage() {
    let report = verify(&[event(0, 1), event(0, 4)]);
    assert_eq!((report.verdict(), report.missing), (Verdict::Damaged, 2));
    let report = verify(&[event(0, 1), loss(0, 3, 4, LossCause::Socket), event(0, 5)]);
    assert_eq!((report.missing, report.lost.total()), (1, 2));
    assert_eq!(report.problems, [Problem::Missing { cpu: Cpu(0), first: Seq(2), count: 1 }]);
}

#[test]
fn a_repeated_number_is_damage_and_has_no_other_effect() {
    let report = verify_sealed(vec![event(0, 1), event(0, 2), event(0, 1), event(0, 3)]);
    assert_eq!(report.problems, [Problem::Backwards { cpu: Cpu(0), seq: Seq(1) }]);
    assert_eq!(report.verdict(), Verdict::Damaged);
}

#[test]
fn totals_in_the_end_record_must_match_the_records() {
    let records = vec![
        event(0, 1),
        loss(0, 2, 3, LossCause::Socket),
        Record::Blind(Blind { from: MonoNs(1), until: MonoNs(5) }),
        Record::Event(RecordedDatagram::Raw(b"?"), None),
        Record::Witness(Witness { time: MonoNs(0), drops: 2, gaps: 2 }),
    ];
    let Record::End(end) = end(&records) else { unreachable!() };
    let correct = End { malformed: 1, ..end };
    let mut lost = end.lost;
    lost.add(LossCause::Ring, 1);
    let wrong = [
        ("events", End { events: 3, ..correct }),
        ("blind ns", End { blind_ns: 5, ..correct }),
        ("malformed datagrams", End { malformed: 0, ..correct }),
        ("drops of the source", End { drops: Some(3), ..correct }),
    ];
    let with = |end| verify(&[records.clone(), vec![Record::End(end)]].concat());
    assert_eq!(with(correct).verdict(), Verdict::Blind);
    for (name, end) in wrong {
        let report = with(end);
        assert!(
            matches!(report.problems[..], [Problem::Total { what, .. }] if what == name),
            "{name}: {report:?}"
        );
    }
    let report = with(End { lost, ..correct });
    assert_eq!(report.problems, [Problem::Lost { cause: LossCause::Ring, stated: 1, found: 0 }]);
    // The recorder may have dropped malformed datagrams.
    assert_eq!(with(End { malformed: 2, ..correct }).verdict(), Verdict::Blind);
    let report = verify(&[Record::End(End::default()), event(0, 1)]);
    assert_eq!(report.problems, [Problem::AfterEnd]);
}

#[test]
fn the_worst_applicable_verdict_wins() {
    let lossy = vec![event(0, 1), loss(0, 2, 3, LossCause::Unknown), event(0, 4)];
    assert_eq!(verify_sealed(lossy.clone()).verdict(), Verdict::Lossy);
    let blind = [lossy, vec![Record::Blind(Blind { from: MonoNs(4), until: MonoNs(9) })]].concat();
    assert_eq!(verify_sealed(blind.clone()).verdict(), Verdict::Blind);
    let unsealed = verify(&blind);
    assert_eq!((unsealed.verdict(), unsealed.accounted_until), (Verdict::Unsealed, Some(MonoNs(4))));
    let mut verifier = Verifier::new(ByteOrder::NATIVE, None);
    blind.iter().for_each(|record| verifier.count(record));
    verifier.damage(&Damage { offset: 0, bytes: 9, what: DamageKind::Missing { records: 3 } });
    verifier.count(&event(0, 5));
    let report = verifier.finish(true);
    assert_eq!((report.verdict(), report.accounted_until), (Verdict::Damaged, Some(MonoNs(4))));
    assert_eq!((report.damaged_bytes, report.missing_records), (9, 3));
}

#[test]
fn a_capture_cut_after_its_end_record_is_unsealed() {
    let mut verifier = Verifier::new(ByteOrder::NATIVE, None);
    verifier.count(&Record::End(End::default()));
    assert_eq!(verifier.clone().finish(true).verdict(), Verdict::Complete);
    assert_eq!(verifier.finish(false).verdict(), Verdict::Unsealed);
}

#[test]
fn drops_without_a_gap_make_a_capture_lossy() {
    let witness = |drops, gaps| Record::Witness(Witness { time: MonoNs(0), drops, gaps });
    let report = verify_sealed(vec![event(0, 1), witness(3, 0)]);
    assert_eq!((report.verdict(), report.unexplained_drops()), (Verdict::Lossy, 3));
    // If the kernel has no memory, it skips numbers and counts no drop.
    let report =
        verify_sealed(vec![event(0, 1), loss(0, 2, 2, LossCause::KernelMemory), event(0, 3), witness(0, 1)]);
    assert_eq!((report.verdict(), report.unexplained_drops()), (Verdict::Lossy, 0));
}

#[test]
fn only_a_silent_cpu_of_a_fence_makes_a_capture_lossy() {
    let verdict = |why| {
        let unreached = vec![UnreachedCpu { cpu: Cpu(3), why }];
        let fence = Fence { time: MonoNs(0), position: FencePosition::End, unreached: unreached.clone() };
        let report = verify_sealed(vec![event(0, 1), Record::Fence(fence)]);
        assert_eq!(report.unreached, [(FencePosition::End, unreached[0])]);
        report.verdict()
    };
    assert_eq!(verdict(UnreachedReason::Offline), Verdict::Complete);
    assert_eq!(verdict(UnreachedReason::Forbidden), Verdict::Complete);
    assert_eq!(verdict(UnreachedReason::Silent), Verdict::Lossy);
}

#[test]
fn events_are_accounted_up_to_the_first_damage_or_contradiction() {
    let damage = Damage { offset: 0, bytes: 9, what: DamageKind::Corrupt };
    let up_to = |before: &[Record<'_>], what: &dyn Fn(&mut Verifier)| {
        let mut verifier = Verifier::new(ByteOrder::NATIVE, None);
        before.iter().for_each(|record| verifier.count(record));
        what(&mut verifier);
        verifier.count(&event(1, 50));
        verifier.damage(&damage);
        verifier.finish(true).accounted_until
    };
    let damaged = |verifier: &mut Verifier| verifier.damage(&damage);
    assert_eq!(up_to(&[], &damaged), None);
    assert_eq!(up_to(&[event(0, 1)], &damaged), Some(MonoNs(1)));
    assert_eq!(up_to(&[event(0, 1)], &|verifier| verifier.count(&event(0, 9))), Some(MonoNs(1)));
    assert_eq!(up_to(&[event(0, 7)], &|verifier| verifier.count(&event(0, 7))), Some(MonoNs(7)));
    let header = |verifier: &mut Verifier| verifier.damage(&Damage { what: DamageKind::Header, ..damage });
    assert_eq!(up_to(&[event(0, 1)], &header), Some(MonoNs(50)));
}

#[test]
fn problems_are_bounded() {
    let records: Vec<_> = (0..100).map(|n| event(0, 2 * n)).collect();
    let report = verify(&records);
    assert_eq!((report.problems.len(), report.problem_count, report.missing), (MAX_PROBLEMS, 99, 99));
}

/// Generates records of three CPUs in which losses fill every gap.
fn accounted_records() -> impl Strategy<Value = Vec<Record<'static>>> {
    let steps = prop::collection::vec((0..3u32, 0..4u32, 0..3u32), 4..60);
    (prop::array::uniform3(prop_oneof![any::<u32>(), u32::MAX - 9..=u32::MAX]), steps).prop_map(
        |(mut next, steps)| {
            let mut records: Vec<_> = (0..3).map(|cpu| event(cpu, next[cpu as usize])).collect();
            next = next.map(|seq| seq.wrapping_add(1));
            let mut take = |cpu: u32, count: u32| {
                let seq = &mut next[cpu as usize];
                std::mem::replace(seq, seq.wrapping_add(count))
            };
            for (cpu, dropped, overrun) in steps {
                for (cause, count) in [(LossCause::Backpressure, dropped), (LossCause::Socket, overrun)] {
                    if count > 0 {
                        let first = take(cpu, count);
                        records.push(loss(cpu, first, first.wrapping_add(count - 1), cause));
                    }
                }
                records.push(event(cpu, take(cpu, 1)));
            }
            records
        },
    )
}

proptest! {
    #[test]
    fn losses_that_fill_every_gap_are_counted_exactly(records in accounted_records()) {
        let lost: u64 = records.iter().map(|r| if let Record::Loss(loss) = r { loss.count() } else { 0 }).sum();
        let report = verify_sealed(records);
        prop_assert_eq!((report.lost.total(), report.missing, report.problem_count), (lost, 0, 0));
        prop_assert_eq!(report.verdict(), if lost > 0 { Verdict::Lossy } else { Verdict::Complete });
    }

    #[test]
    fn removing_any_record_is_noticed(records in accounted_records(), at: prop::sample::Index) {
        let at = at.index(records.len());
        let mut cut = records.clone();
        let (cpu, count) = cpu_and_count(&cut.remove(at));
        let is_of_cpu = |record: &Record<'_>| cpu_and_count(record).0 == cpu;
        let is_inner = records[..at].iter().any(is_of_cpu) && cut[at..].iter().any(is_of_cpu);
        // Without an end record, the sequence numbers show it, unless the record is the first or
        // last of its CPU.
        prop_assert_eq!(verify(&cut).missing, if is_inner { count } else { 0 });
        prop_assert!(verify(&cut).verdict() >= Verdict::Unsealed);
        // With an end record, the totals show it.
        cut.push(end(&records));
        prop_assert_eq!(verify(&cut).verdict(), Verdict::Damaged);
    }
}

/// Returns the CPU of a record, and the number of events that the record accounts for.
fn cpu_and_count(record: &Record<'_>) -> (Cpu, u64) {
    match record {
        Record::Event(RecordedDatagram::Event(event), _) => (event.cpu, 1),
        Record::Loss(loss) => (loss.cpu, loss.count()),
        other => panic!("{other:?}"),
    }
}
