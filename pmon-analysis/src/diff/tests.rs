use pmon_core::accounting::LossCause;
use pmon_core::capture::{Blind, ClockAnchor, Loss, ScopeInfo};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Seq, Task};
use proptest::prelude::*;

use super::*;

const LITTLE: [ByteOrder; 2] = [ByteOrder::Little; 2];
const PLAIN: DiffOptions = DiffOptions { by_cpu: false, renumbered: false };
const BY_CPU: DiffOptions = DiffOptions { by_cpu: true, renumbered: false };
const RENUMBERED: DiffOptions = DiffOptions { by_cpu: false, renumbered: true };

fn of(cpu: u32, seq: u32, pid: u32) -> Event {
    let body = EventBody::Exec { task: Task::new(pid, pid) };
    Event { time: MonoNs(u64::from(seq) * 10), seq: Seq(seq), cpu: Cpu(cpu), body }
}

fn event(cpu: u32, seq: u32) -> Record<'static> {
    Record::Event(RecordedDatagram::Event(of(cpu, seq, 7)), None)
}

fn lost(cpu: u32, first: u32, last: u32, cause: LossCause) -> Record<'static> {
    let (after, before) = (MonoNs(1), MonoNs(99));
    Record::Loss(Loss { cpu: Cpu(cpu), first: Seq(first), last: Seq(last), after, before, cause })
}

fn loss(cpu: u32, first: u32, last: u32) -> Record<'static> {
    lost(cpu, first, last, LossCause::Socket)
}

fn blind(from: u64) -> Record<'static> {
    Record::Blind(Blind { from: MonoNs(from), until: MonoNs(from + 5) })
}

/// Compares two captures, reading `blocks` records at a time from each.
fn compare_in(options: DiffOptions, sides: [&[Record<'_>]; 2], blocks: [usize; 2]) -> DiffReport {
    let mut diff = Diff::new(options, LITTLE);
    let mut left = [sides[0].chunks(blocks[0]), sides[1].chunks(blocks[1])];
    while let Some(side) = diff.next_side() {
        match left[side as usize].next() {
            Some(block) => block.iter().for_each(|record| diff.push(side, record)),
            None => diff.end(side),
        }
    }
    diff.finish()
}

fn compare(options: DiffOptions, a: &[Record<'_>], b: &[Record<'_>]) -> DiffReport {
    compare_in(options, [a, b], [2, 3])
}

#[track_caller]
fn difference(report: &DiffReport) -> &Difference {
    match &report.outcome {
        DiffOutcome::Different(difference) => difference,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn records_about_events_are_ignored() {
    let a = [event(0, 1), Record::Clock(ClockAnchor::default()), event(0, 2), blind(7)];
    let scope = Record::Scope(ScopeInfo { text: "all".into() });
    let b = [event(0, 1), event(0, 2), scope, blind(7)];
    let report = compare(PLAIN, &a, &b);
    assert_eq!(report.outcome, DiffOutcome::Identical);
    let counts = DiffCounts { events: 2, blind: 1, ..DiffCounts::default() };
    assert_eq!((report.equal, report.totals), (counts, [counts; 2]));
}

#[test]
fn the_first_difference_and_the_equal_records_before_it_are_reported() {
    let a = [event(0, 1), loss(0, 2, 4), event(0, 5), event(0, 6)];
    let b = [event(0, 1), loss(0, 2, 4), event(0, 7), event(0, 8), event(0, 9)];
    let report = compare(PLAIN, &a, &b);
    let before = DiffCounts { events: 1, losses: 1, lost: 3, blind: 0 };
    let (a, b) = (Some(ComparedRecord::Event(of(0, 5, 7))), Some(ComparedRecord::Event(of(0, 7, 7))));
    assert_eq!(*difference(&report), Difference { stream: DiffStream::All, before, a, b });
    assert_eq!(report.equal, before);
    assert_eq!(report.totals.map(|totals| totals.events), [3, 4]);
}

#[test]
fn a_capture_may_end_before_the_other() {
    let records = [event(0, 1), event(0, 2), event(0, 3), loss(0, 4, 5)];
    for (whole, cut) in [(4, 3), (3, 1), (4, 0)] {
        let longer = compare(PLAIN, &records[..whole], &records[..cut]);
        let difference = difference(&longer);
        assert!(difference.a.is_some() && difference.b.is_none(), "{longer:?}");
        assert_eq!(difference.before.events, cut.min(3) as u64);
        let shorter = compare(PLAIN, &records[..cut], &records[..whole]);
        assert_eq!(shorter.totals, [longer.totals[1], longer.totals[0]]);
    }
}

#[test]
fn adjacent_losses_with_any_causes_are_one_interval() {
    let a = [event(0, 1), loss(0, 2, 9), event(0, 10)];
    let b = [event(0, 1), loss(0, 2, 4), lost(0, 5, 9, LossCause::KernelMemory), event(0, 10)];
    let report = compare(PLAIN, &a, &b);
    assert_eq!(report.outcome, DiffOutcome::Identical);
    assert_eq!(report.equal, DiffCounts { events: 2, losses: 1, lost: 8, blind: 0 });
    let CauseDifferences { losses, first: (ours, theirs) } = report.causes.expect("different causes");
    assert_eq!((losses, ours.count, theirs.count), (1, 8, 8));
    assert_eq!((ours.causes.of(LossCause::Socket), theirs.causes.of(LossCause::Socket)), (8, 3));
    assert_eq!(theirs.causes.of(LossCause::KernelMemory), 5);
    // Swapping the captures swaps the result; equal causes are no difference.
    assert_eq!(compare(PLAIN, &b, &a).causes.expect("different causes").first, (theirs, ours));
    assert_eq!(compare(PLAIN, &b, &b).causes, None);
}

#[test]
fn losses_that_are_not_adjacent_stay_separate() {
    let other = |records: &[Record<'_>]| compare(PLAIN, &[event(0, 1), loss(0, 2, 9)], records);
    difference(&other(&[event(0, 1), loss(0, 2, 4), loss(0, 6, 9)]));
    difference(&other(&[event(0, 1), loss(0, 2, 4), loss(1, 5, 9)]));
    difference(&other(&[event(0, 1), loss(0, 2, 4), event(0, 99), loss(0, 5, 9)]));
    // Every field is compared.
    let whole = Loss {
        cpu: Cpu(0),
        first: Seq(2),
        last: Seq(9),
        after: MonoNs(1),
        before: MonoNs(99),
        cause: LossCause::Socket,
    };
    for changed in [
        Loss { cpu: Cpu(1), ..whole },
        Loss { first: Seq(3), ..whole },
        Loss { last: Seq(8), ..whole },
        Loss { after: MonoNs(2), ..whole },
        Loss { before: MonoNs(98), ..whole },
    ] {
        difference(&other(&[event(0, 1), Record::Loss(changed)]));
    }
}

#[test]
fn the_order_of_cpus_matters_unless_they_are_compared_separately() {
    let a = [event(0, 1), event(0, 2), loss(0, 3, 4), event(1, 1), blind(7), event(0, 5)];
    let b = [blind(7), event(1, 1), event(0, 1), event(0, 2), loss(0, 3, 4), event(0, 5)];
    difference(&compare(PLAIN, &a, &b));
    let report = compare(BY_CPU, &a, &b);
    assert_eq!(report.outcome, DiffOutcome::Identical);
    assert_eq!(report.equal, DiffCounts { events: 4, losses: 1, lost: 2, blind: 1 });
    // The order within a CPU matters.
    let c = [event(0, 2), event(0, 1), loss(0, 3, 4), event(1, 1), blind(7), event(0, 5)];
    assert_eq!(difference(&compare(BY_CPU, &a, &c)).stream, DiffStream::Cpu(Cpu(0)));
    let report = compare(BY_CPU, &a, &b[1..]);
    assert_eq!(difference(&report).stream, DiffStream::Blind);
    let unreadable = Record::Event(RecordedDatagram::Raw(b"?"), None);
    let report = compare(BY_CPU, &[event(0, 1), unreadable], &[event(0, 1)]);
    assert_eq!(difference(&report).stream, DiffStream::Unattributed);
}

#[test]
fn the_earliest_record_without_a_counterpart_is_reported() {
    let a = [event(0, 1), event(0, 9), event(1, 5), event(2, 7)];
    let report = compare_in(BY_CPU, [&a, &[event(0, 1)]], [9, 9]);
    let difference = difference(&report);
    assert_eq!(
        (difference.stream, &difference.a),
        (DiffStream::Cpu(Cpu(1)), &Some(ComparedRecord::Event(of(1, 5, 7))))
    );
}

#[test]
fn captures_too_far_apart_end_the_comparison() {
    let mut diff = Diff::new(BY_CPU, LITTLE);
    diff.max_held = 100;
    for seq in 0..100 {
        diff.push(Side::A, &event(0, seq));
        diff.push(Side::B, &event(0, seq));
        diff.push(Side::A, &event(3, seq));
    }
    assert!(!diff.is_decided());
    diff.push(Side::A, &event(0, 100));
    assert!(diff.is_decided());
    let report = diff.finish();
    let apart = TooFarApart { stream: DiffStream::Cpu(Cpu(3)), ahead: Side::A, held: 100, held_in_all: 101 };
    assert_eq!(report.outcome, DiffOutcome::TooFarApart(apart));
    assert_eq!(report.equal.events, 100);
}

#[test]
fn unused_memory_is_released() {
    let mut diff = Diff::new(BY_CPU, LITTLE);
    diff.max_held = 1_000;
    // Each CPU in turn falls 800 records behind, and catches up except for one.
    for cpu in 0..100 {
        for seq in 0..800 {
            diff.push(Side::A, &event(cpu, seq));
        }
        for seq in 0..799 {
            diff.push(Side::B, &event(cpu, seq));
        }
    }
    assert!(!diff.is_decided());
    assert_eq!(diff.held, 100);
    let capacity: usize = diff.streams.iter().map(StreamQueue::capacity).sum();
    assert!(capacity <= 4 * diff.max_held, "capacity for {capacity} records");
}

#[test]
fn only_sequence_numbers_may_differ_in_renumbered_captures() {
    let a = [event(0, 1), loss(0, 2, 4), event(0, 5)];
    let renumber = |seq: u32, time: u64| {
        Record::Event(
            RecordedDatagram::Event(Event { seq: Seq(seq), time: MonoNs(time), ..of(0, 0, 7) }),
            None,
        )
    };
    let b = [renumber(101, 10), loss(0, 102, 104), renumber(105, 50)];
    difference(&compare(PLAIN, &a, &b));
    assert_eq!(compare(RENUMBERED, &a, &b).outcome, DiffOutcome::Identical);
    difference(&compare(RENUMBERED, &a, &[renumber(101, 11)]));
    let c = [renumber(101, 10), loss(0, 102, 105), renumber(105, 50)];
    assert_eq!(difference(&compare(RENUMBERED, &a, &c)).before.events, 1);
}

#[test]
fn unusual_datagrams_are_compared_by_their_bytes() {
    let bytes = |seq: u32, last: u8| {
        let mut bytes = of(0, seq, 7).encode(ByteOrder::Little).expect("can be encoded").to_vec();
        let second = bytes.clone();
        bytes.extend(second);
        bytes.push(last);
        bytes
    };
    let (a, numbered, changed) = (bytes(1, 0), bytes(2, 0), bytes(1, 1));
    let raw = |bytes| [Record::Event(RecordedDatagram::Raw(bytes), None)];
    assert_eq!(compare(PLAIN, &raw(&a), &raw(&a)).outcome, DiffOutcome::Identical);
    for other in [&numbered, &changed] {
        difference(&compare(PLAIN, &raw(&a), &raw(other)));
    }
    // Changes the sequence numbers of both messages.
    let mut renumbered = a.clone();
    for at in [8, 24, 76 + 8, 76 + 24] {
        renumbered[at] = 9;
    }
    assert_eq!(compare(RENUMBERED, &raw(&a), &raw(&renumbered)).outcome, DiffOutcome::Identical);
    difference(&compare(RENUMBERED, &raw(&a), &raw(&changed)));
    for junk in [&b""[..], b"???", b"\0\0\0\0\0", b"\xff\xff\xff\xff12345678901234567890123456789"] {
        assert_eq!(compare(RENUMBERED, &raw(junk), &raw(junk)).outcome, DiffOutcome::Identical);
    }
}

#[test]
fn datagrams_of_different_byte_orders_are_equal_only_if_renumbered() {
    let compare = |options| {
        let mut diff = Diff::new(options, [ByteOrder::Little, ByteOrder::Big]);
        diff.push(Side::A, &event(0, 1));
        diff.push(Side::B, &event(0, 1));
        diff.finish()
    };
    difference(&compare(PLAIN));
    assert_eq!(compare(RENUMBERED).outcome, DiffOutcome::Identical);
}

#[test]
fn a_raw_datagram_can_equal_an_event_of_the_other_byte_order() {
    let bytes = of(0, 1, 7).encode(ByteOrder::Big).expect("can be encoded");
    let (raw, usual) = (Record::Event(RecordedDatagram::Raw(&bytes), None), event(0, 1));
    for first in [Side::A, Side::B] {
        let mut diff = Diff::new(PLAIN, [ByteOrder::Little, ByteOrder::Big]);
        for _ in 0..3 {
            for side in [first, first.other()] {
                diff.push(side, if side == Side::A { &raw } else { &usual });
            }
            assert_eq!((diff.held, diff.held_bytes), (0, 0));
        }
        assert_eq!(diff.finish().outcome, DiffOutcome::Identical);
    }
}

#[test]
fn the_memory_of_waiting_losses_is_counted() {
    let mut diff = Diff::new(BY_CPU, LITTLE);
    // Every second number is lost, so no losses are adjacent.
    let losses = |count: u32| (0..count).map(|n| loss(0, 2 * n + 1, 2 * n + 1));
    losses(1_001).for_each(|loss| diff.push(Side::A, &loss));
    assert_eq!((diff.held, diff.held_bytes), (1_000, 1_000 * size_of::<LossInterval>()));
    losses(1_001).for_each(|loss| diff.push(Side::B, &loss));
    assert_eq!((diff.held, diff.held_bytes), (0, 0));
    assert_eq!(diff.finish().outcome, DiffOutcome::Identical);
}

/// Generates records of three CPUs, each with a different time.
fn record_lists() -> impl Strategy<Value = Vec<Record<'static>>> {
    proptest::collection::vec((0..3u32, 0..8u32), 1..60).prop_map(|drawn| {
        let records = drawn.into_iter().enumerate();
        let record = |(n, (cpu, what)): (usize, (u32, u32))| {
            let at = n as u32 * 100;
            match what {
                0 => loss(cpu, at, at + 3),
                1 => blind(at.into()),
                2 => Record::Event(RecordedDatagram::Raw(b"strange"), None),
                _ => event(cpu, at),
            }
        };
        records.map(record).collect()
    })
}

/// Returns a copy of a record with one change.
fn changed(record: &Record<'static>, how: u32) -> Record<'static> {
    match record {
        Record::Event(RecordedDatagram::Event(event), _) => {
            let mut event = *event;
            match how % 4 {
                0 => event.time.0 += 1,
                1 => event.seq.0 += 1,
                2 => event.cpu.0 += 1,
                _ => event.body = EventBody::Sid { task: Task::new(7, 7) },
            }
            Record::Event(RecordedDatagram::Event(event), None)
        }
        Record::Loss(loss) if how.is_multiple_of(2) => {
            Record::Loss(Loss { last: Seq(loss.last.0 + 1), ..*loss })
        }
        Record::Loss(loss) => Record::Loss(Loss { before: MonoNs(loss.before.0 + 1), ..*loss }),
        Record::Blind(blind) => Record::Blind(Blind { until: MonoNs(blind.until.0 + 1), ..*blind }),
        _ => Record::Event(RecordedDatagram::Raw(b"stranger"), None),
    }
}

proptest! {
    #[test]
    fn equal_captures_are_identical_in_blocks_of_any_size(
        records in record_lists(),
        blocks in (1..70usize, 1..70usize),
        by_cpu: bool,
        renumbered: bool,
    ) {
        let blocks = [blocks.0, blocks.1];
        let report = compare_in(DiffOptions { by_cpu, renumbered }, [&records, &records], blocks);
        prop_assert_eq!(&report.outcome, &DiffOutcome::Identical);
        prop_assert_eq!([report.equal; 2], report.totals);
        prop_assert_eq!(report.causes, None);
    }

    #[test]
    fn any_single_change_is_found_at_its_position(
        records in record_lists(),
        at: prop::sample::Index,
        how in 0..6u32,
        blocks in (1..70usize, 1..70usize),
        by_cpu: bool,
    ) {
        let at = at.index(records.len());
        let mut other = records.clone();
        match how {
            4 => drop(other.remove(at)),
            5 => other.insert(at, event(1, 77_777)),
            how => other[at] = changed(&other[at], how),
        }
        let report = compare_in(DiffOptions { by_cpu, renumbered: false }, [&records, &other], [blocks.0, blocks.1]);
        let DiffOutcome::Different(difference) = &report.outcome else {
            return Err(TestCaseError::fail(format!("{:?}", report.outcome)));
        };
        prop_assert!(difference.a.is_some() || difference.b.is_some());
        let equal = report.equal.events + report.equal.losses + report.equal.blind;
        if !by_cpu && how != 4 {
            prop_assert_eq!(equal, at as u64);
        }
        prop_assert!(equal < records.len().max(other.len()) as u64);
    }

    #[test]
    fn by_cpu_any_interleaving_of_cpus_is_identical(records in record_lists(), blocks in (1..70usize, 1..70usize)) {
        let cpu = |record: &Record<'_>| match record {
            Record::Event(datagram, _) => datagram.event(ByteOrder::Little).map_or(90, |event| event.cpu.0),
            Record::Loss(loss) => loss.cpu.0,
            _ => 91,
        };
        let mut sorted = records.clone();
        sorted.sort_by_key(cpu);
        let report = compare_in(BY_CPU, [&records, &sorted], [blocks.0, blocks.1]);
        prop_assert_eq!(report.outcome, DiffOutcome::Identical);
    }
}
