//! Divisions of a recording, and recordings that continue earlier ones.

use pmon_core::capture::{ClockAnchor, CpuCounts, CpuPosition, Positions, SegmentReason, UnreachedReason};

use super::*;
use crate::pipeline::segmented_sink::{RecordedSegment, SegmentedSink};

const SECOND: u32 = 1_000;

fn segmented() -> Assembler<SegmentedSink> {
    Assembler::new(SegmentedSink::default(), settings())
}

fn clock(time: u32) -> ClockAnchor {
    ClockAnchor { mono: ms(time), ..ClockAnchor::default() }
}

fn divide(assembler: &mut Assembler<SegmentedSink>, time: u32) {
    assembler.divide(SegmentReason::Size, clock(time), None).unwrap();
}

/// Ends the recording, and checks every segment.
fn finish(mut assembler: Assembler<SegmentedSink>, time: u32) -> Vec<RecordedSegment> {
    assembler.finish(ms(time)).unwrap();
    let sink = assembler.into_sink();
    sink.check().unwrap_or_else(|why| panic!("{why}"));
    sink.segments
}

fn counted(drops: u64, events: &[Event]) -> Chunk {
    Chunk { drops: Some(100 + drops), ..chunk(events) }
}

fn ends(segments: &[RecordedSegment]) -> Vec<(u64, u64, Option<u64>)> {
    let end = |segment: &RecordedSegment| segment.end.unwrap();
    segments.iter().map(end).map(|end| (end.events, end.lost.total(), end.drops)).collect()
}

fn losses(segment: &RecordedSegment) -> Vec<(u32, u32, &'static str)> {
    let loss = |record: &Record<'_>| match record {
        Record::Loss(loss) => Some((loss.first.0, loss.last.0, loss.cause.name())),
        _ => None,
    };
    segment.records.iter().filter_map(loss).collect()
}

#[test]
fn each_segment_has_totals_of_its_own_and_begins_at_the_positions_where_the_last_one_ends() {
    let mut assembler = segmented();
    let mut first = counted(3, &[sid(1), sid(5), sid(6)]);
    first.batch.push(b"nonsense", 0);
    first.batch.push(&sid(7).encode(ByteOrder::NATIVE).unwrap(), 4711);
    assembler.add_chunk(&first).unwrap();
    divide(&mut assembler, 7);
    assembler.add_chunk(&counted(4, &[sid(8)])).unwrap();
    divide(&mut assembler, 9);
    let counters = assembler.counters();
    assert_eq!((counters.events, counters.lost.total(), counters.drops), (5, 4, Some(4)));
    let segments = finish(assembler, 10);
    assert_eq!(ends(&segments), [(4, 3, Some(3)), (1, 1, Some(1)), (0, 0, Some(0))]);
    let rejected: Vec<_> = segments.iter().map(|segment| segment.end.unwrap().rejected).collect();
    assert_eq!(rejected, [1, 0, 0]);
    let position = CpuPosition { cpu: Cpu(0), next: Seq(7), time: ms(6) };
    assert_eq!((segments[1].reason, &segments[1].start[..]), (Some(SegmentReason::Size), &[position][..]));
}

#[test]
fn a_loss_over_a_division_begins_at_the_position_and_is_in_the_later_segment() {
    let mut assembler = segmented();
    assembler.add_chunk(&counted(0, &[sid(1), sid(2)])).unwrap();
    divide(&mut assembler, 3);
    assembler.add_chunk(&counted(2, &[sid(5)])).unwrap();
    let segments = finish(assembler, 6);
    assert_eq!((losses(&segments[0]), losses(&segments[1])), (vec![], vec![(3, 4, "socket")]));
    let after = segments[1].records.iter().find_map(|record| match record {
        Record::Loss(loss) => Some(loss.after),
        _ => None,
    });
    assert_eq!((after, segments[1].start[0].time), (Some(ms(2)), ms(2)));
}

#[test]
fn drops_whose_gap_shows_after_the_division_belong_to_the_later_segment() {
    let mut assembler = segmented();
    // The source counts its drops after the last event was received.
    assembler.add_chunk(&counted(5, &[sid(1), sid(4)])).unwrap();
    divide(&mut assembler, 5);
    assembler.add_chunk(&counted(5, &[sid(8)])).unwrap();
    let segments = finish(assembler, 9);
    assert_eq!(ends(&segments), [(2, 2, Some(2)), (1, 3, Some(3))]);
    let drops: Vec<_> = segments
        .iter()
        .flat_map(|segment| &segment.records)
        .filter_map(|record| match record {
            Record::Positions(positions) => Some(positions.source_drops),
            _ => None,
        })
        .collect();
    assert_eq!(drops, [Some(102), Some(105)]);
}

/// Prepares a division at `since` ms, whose fence is the checkpoint `number`.
fn prepare(assembler: &mut Assembler<SegmentedSink>, number: u64, since: u32) {
    assembler.prepare_division(ms(since), vec![Cpu(0)], None);
    assembler.add_checkpoint(number, fence(since)).unwrap();
}

fn fence(began: u32) -> Checkpoint {
    Checkpoint::Fence(DivisionFence { began: ms(began), reached: vec![Cpu(0)], unreached: vec![] })
}

#[test]
fn drops_that_no_gap_shows_after_a_fence_belong_to_the_segment_before() {
    let mut assembler = segmented();
    // The source drops forged messages, which have no number, and later an event.
    assembler.add_chunk(&counted(2, &[sid(1)])).unwrap();
    prepare(&mut assembler, 1, 2);
    assert!(!assembler.is_fenced());
    assembler.add_chunk(&Chunk { checkpoints: 1, ..counted(3, &[sid(3)]) }).unwrap();
    assert!(assembler.is_fenced());
    divide(&mut assembler, 4);
    assembler.add_chunk(&counted(3, &[sid(4)])).unwrap();
    let segments = finish(assembler, 6);
    assert_eq!(ends(&segments), [(2, 1, Some(2)), (1, 0, Some(1))]);
}

#[test]
fn a_cpu_without_an_event_since_the_request_is_silent_in_both_segments() {
    for (time, is_silent) in [(3, true), (5, false)] {
        let mut assembler = segmented();
        assembler.add_chunk(&chunk(&[sid(1)])).unwrap();
        prepare(&mut assembler, 1, 4);
        assembler.add_chunk(&chunk(&[event_at(time, 2)])).unwrap();
        assert!(!assembler.is_fenced());
        divide(&mut assembler, 6);
        let segments = finish(assembler, 7);
        let fences = segments.iter().flat_map(|segment| &segment.records).filter_map(|record| match record {
            Record::Fence(fence) => Some((fence.position, fence.unreached.first().map(|cpu| cpu.why))),
            _ => None,
        });
        let silent = is_silent.then_some(UnreachedReason::Silent);
        let expected = [(FencePosition::End, silent), (FencePosition::Start, silent)];
        assert_eq!(fences.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_fence_of_an_earlier_division_does_not_count() {
    let mut assembler = segmented();
    assembler.prepare_division(ms(4), vec![Cpu(0)], None);
    assembler.add_checkpoint(1, fence(3)).unwrap();
    assembler.add_chunk(&completing(1, &[sid(5)])).unwrap();
    assert!(!assembler.is_fenced());
    assembler.add_checkpoint(2, fence(6)).unwrap();
    assembler.add_chunk(&completing(2, &[sid(7)])).unwrap();
    assert!(assembler.is_fenced());
}

#[test]
fn details_are_in_the_segment_of_their_exec_which_ends_with_the_last_of_them() {
    let mut assembler = segmented();
    assembler.add_chunk(&chunk(&[exec(1, 5), exec(2, 6)])).unwrap();
    divide(&mut assembler, 3);
    assembler.add_chunk(&chunk(&[exec(3, 7)])).unwrap();
    assembler.add_details(found(1, 5, 5)).unwrap();
    assembler.add_details(found(2, 6, 6)).unwrap();
    assembler.add_details(found(3, 7, 7)).unwrap();
    let drained = |time| Chunk { drained_at: Some(ms(time)), ..chunk(&[]) };
    assembler.add_chunk(&drained(5)).unwrap();
    assert!(assembler.awaits_late_details() && assembler.sink_mut().segments[0].end.is_none());
    assembler.add_chunk(&drained(6)).unwrap();
    assert!(!assembler.awaits_late_details() && assembler.sink_mut().segments[0].end.is_some());
    assembler.add_chunk(&drained(7)).unwrap();
    let segments = finish(assembler, 8);
    segments.iter().for_each(|segment| segment.check_details().unwrap());
    let is_missed =
        |record: &Record<'_>| matches!(record, Record::Details(details) if details.miss.is_some());
    assert!(!segments.iter().flat_map(|segment| &segment.records).any(is_missed));
}

#[test]
fn a_segment_waits_two_seconds_for_details_and_a_later_result_is_discarded() {
    for by_events in [false, true] {
        let mut assembler = segmented();
        assembler.add_chunk(&chunk(&[exec(1, 5), exec(2, 6)])).unwrap();
        divide(&mut assembler, 3);
        // One result is not certain yet, and one is not there.
        assembler.add_details(found(1, 5, 60 * SECOND)).unwrap();
        let mut pass = |time: u32| match by_events {
            true => assembler.add_chunk(&chunk(&[event_at(time, time)])).unwrap(),
            false => assembler.advance(ms(time)).unwrap(),
        };
        pass(2 * SECOND);
        pass(2 * SECOND + 3);
        assert!(!assembler.awaits_late_details());
        assembler.add_chunk(&chunk(&[event_at(3 * SECOND, 3 * SECOND)])).unwrap();
        assembler.add_chunk(&chunk(&[exec(4 * SECOND, 6)])).unwrap();
        assembler.add_details(found(2, 6, 5 * SECOND)).unwrap();
        assembler.add_details(found(4 * SECOND, 6, 6 * SECOND)).unwrap();
        let drained = Chunk { drained_at: Some(ms(7 * SECOND)), ..chunk(&[]) };
        assembler.add_chunk(&drained).unwrap();
        let segments = finish(assembler, 8 * SECOND);
        segments.iter().for_each(|segment| segment.check_details().unwrap());
    }
}

#[test]
fn a_division_or_the_end_does_not_wait_for_details_of_the_segment_before() {
    let mut assembler = segmented();
    assembler.add_chunk(&chunk(&[exec(1, 5)])).unwrap();
    divide(&mut assembler, 2);
    assembler.add_chunk(&chunk(&[exec(3, 6)])).unwrap();
    divide(&mut assembler, 4);
    assembler.add_chunk(&chunk(&[exec(5, 7)])).unwrap();
    let segments = finish(assembler, 6);
    segments.iter().for_each(|segment| segment.check_details().unwrap());
}

#[test]
fn a_missing_heartbeat_at_a_division_means_blind_in_both_segments() {
    let mut assembler = segmented();
    assembler.add_chunk(&counted(0, &[sid(1)])).unwrap();
    assembler.add_checkpoint(1, heartbeat_at(2)).unwrap();
    assembler.add_chunk(&Chunk { checkpoints: 1, ..counted(0, &[]) }).unwrap();
    divide(&mut assembler, 4);
    assembler.add_chunk(&counted(0, &[event_at(9, 2)])).unwrap();
    let segments = finish(assembler, 10);
    let blind = |segment: &RecordedSegment| segment.end.unwrap().blind_ns / 1_000_000;
    assert_eq!(segments.iter().map(blind).collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn a_heartbeat_that_may_be_among_dropped_events_does_not_mean_blind_at_a_division() {
    let mut assembler = segmented();
    assembler.add_chunk(&counted(0, &[sid(1)])).unwrap();
    assembler.add_checkpoint(1, heartbeat_at(2)).unwrap();
    assembler.add_chunk(&Chunk { checkpoints: 1, ..counted(1, &[]) }).unwrap();
    divide(&mut assembler, 4);
    assembler.add_chunk(&counted(1, &[event_at(5, 3)])).unwrap();
    let segments = finish(assembler, 10);
    assert_eq!(segments.iter().map(|segment| segment.end.unwrap().blind_ns).sum::<u64>(), 0);
}

#[test]
fn a_reading_that_is_older_than_the_last_event_of_the_segment_before_is_compared_but_not_recorded() {
    let settings = AssemblerSettings { forks: true, ..settings() };
    let mut assembler = Assembler::new(SegmentedSink::default(), settings);
    assembler.add_checkpoint(1, forks(1, 100)).unwrap();
    assembler.add_chunk(&completing(1, &[sid(2)])).unwrap();
    assembler.add_checkpoint(2, forks(3, 100)).unwrap();
    assembler.add_chunk(&chunk(&[fork(4, 3)])).unwrap();
    divide(&mut assembler, 5);
    assembler.add_checkpoint(3, forks(6, 101)).unwrap();
    assembler.add_chunk(&completing(3, &[fork(7, 4)])).unwrap();
    assert_eq!(assembler.take_request(), None);
    let segments = finish(assembler, 8);
    let readings = |segment: &RecordedSegment| {
        let is_reading = |record: &&Record<'_>| matches!(record, Record::Forks(_));
        segment.records.iter().filter(is_reading).count()
    };
    assert_eq!(segments.iter().map(readings).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_rings_counts_of_a_segment_include_every_event_that_its_losses_may_be() {
    let counts = |spilled| Some(vec![CpuCounts { cpu: Cpu(0), spilled, ..CpuCounts::default() }]);
    // The CPU emits an event after the request, so earlier losses are in the first segment, or not.
    for (time, expected) in [(5, [9, 3]), (3, [9, 10])] {
        let mut assembler = segmented();
        assembler.add_chunk(&chunk(&[sid(1)])).unwrap();
        assembler.prepare_division(ms(4), vec![Cpu(0)], counts(7));
        assembler.add_chunk(&chunk(&[event_at(time, 2)])).unwrap();
        assembler.divide(SegmentReason::Age, clock(6), counts(9)).unwrap();
        assembler.add_chunk(&Chunk { ring: counts(10), ..chunk(&[]) }).unwrap();
        let segments = finish(assembler, 7);
        let spilled =
            segments.iter().flat_map(|segment| &segment.records).filter_map(|record| match record {
                Record::Ring(counts) => Some(counts.cpus[0].spilled),
                _ => None,
            });
        assert_eq!(spilled.collect::<Vec<_>>(), expected);
    }
}

fn positions(next: u32, source_drops: Option<u64>) -> Positions {
    let cpus = vec![CpuPosition { cpu: Cpu(0), next: Seq(next), time: ms(next - 1) }];
    Positions { time: ms(next), cpus, source_drops }
}

/// Returns an assembler that continues from a position of CPU 0.
fn resumed(next: u32, source_drops: Option<u64>) -> Assembler<SegmentedSink> {
    let settings = AssemblerSettings { since: ms(1_000), ..settings() };
    let mut assembler =
        Assembler::new(SegmentedSink::default(), settings).resume(&positions(next, source_drops));
    assembler.sink_mut().segments[0].start = positions(next, None).cpus;
    assembler
}

#[test]
fn a_resumed_recording_begins_at_the_position_and_discards_nothing() {
    let mut assembler = resumed(10, Some(100));
    let mut first = counted(0, &[sid(10), sid(11)]);
    // This CPU has no position.
    let other = Event { cpu: Cpu(1), ..event_at(3, 77) };
    first.batch.push(&other.encode(ByteOrder::NATIVE).unwrap(), 0);
    assembler.add_chunk(&first).unwrap();
    assert_eq!(ends(&finish(assembler, 12)), [(3, 0, Some(0))]);
}

#[test]
fn the_first_gap_of_a_cpu_is_lost_by_the_restart_except_what_the_source_dropped_since() {
    let lost = |source_drops, drops| {
        let mut assembler = resumed(10, source_drops);
        assembler.add_chunk(&counted(drops, &[sid(15), sid(16), sid(18)])).unwrap();
        losses(&finish(assembler, 20)[0])
    };
    assert_eq!(lost(Some(100), 0), [(10, 14, "restart"), (17, 17, "kernel_memory")]);
    assert_eq!(lost(Some(90), 0), [(10, 14, "socket"), (17, 17, "socket")]);
    assert_eq!(lost(Some(100), 2), [(10, 11, "socket"), (12, 14, "restart"), (17, 17, "kernel_memory")]);
    // How many the source dropped since is unknown.
    assert_eq!(lost(None, 0), [(10, 14, "unknown"), (17, 17, "kernel_memory")]);
}

#[test]
fn only_a_sink_of_segments_gets_the_positions_at_the_end() {
    let mut undivided = assembler();
    undivided.add_chunk(&chunk(&[sid(1)])).unwrap();
    undivided.finish(ms(2)).unwrap();
    assert_eq!(undivided.into_sink().0, ["sid 1", "end: 1 0 0", "finished"]);
    let mut assembler = segmented();
    assembler.add_chunk(&chunk(&[sid(1)])).unwrap();
    let segments = finish(assembler, 2);
    assert_eq!(segments[0].positions(), positions(2, None).cpus);
}
