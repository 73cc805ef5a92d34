//! Ranges at the edges of a recording.

use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    ClockAnchor, CpuPosition, End, Loss, Meta, SegmentInfo, SegmentReason, UnobservedReason,
};
use pmon_core::{Cpu, Seq};

use super::*;

/// A range with one bound.
fn open_range(since: Option<u64>, until: Option<u64>) -> CutOptions {
    let bound = |time: Option<u64>| time.map(|time| TimeBound::Mono(MonoNs(time)));
    CutOptions { since: bound(since), until: bound(until), ..range(0, 0) }
}

#[test]
fn a_range_of_which_no_part_is_recorded_is_refused() {
    for seed in 0..20 {
        let recording = RecordingPlan::random(seed).record();
        let (start, end) = (recording.start, recording.end);
        for (since, until) in
            [(Some(end + 1), None), (Some(end * 2), None), (None, Some(start - 1)), (None, Some(0))]
        {
            let refused = excerpt(&recording.captures, &open_range(since, until)).err();
            assert!(matches!(refused, Some(CutError::NotRecorded)), "seed {seed}, {since:?} to {until:?}");
        }
        for (since, until) in [(Some(end), None), (None, Some(start))] {
            let excerpt = excerpt(&recording.captures, &open_range(since, until)).unwrap();
            assert!(excerpt.report.from <= excerpt.report.until, "seed {seed}, {since:?} to {until:?}");
        }
    }
}

#[test]
fn an_excerpt_can_be_cut_again_at_the_same_wall_clock_time() {
    for seed in 0..6 {
        let plan = RecordingPlan { clock_error: 400, losses: false, ..RecordingPlan::random(seed) };
        let recording = plan.record();
        let last = recording.clocks.len() - 1;
        let stride = (last / 4).max(1);
        for (index, clock) in recording.clocks.iter().enumerate().skip(1).step_by(stride) {
            for distance in [-1_000_000, -200, -1, 0, 1, 200, 1_000_000] {
                let wall = TimeBound::Wall(clock.real_ns + distance);
                let case = format!("seed {seed}, {distance} ns from clock {index} of {last}: {clock:?}");
                for options in [
                    CutOptions { since: Some(wall), until: None, ..range(0, 0) },
                    CutOptions { since: None, until: Some(wall), ..range(0, 0) },
                ] {
                    let Ok(once) = excerpt(&recording.captures, &options) else { continue };
                    let twice = excerpt(std::slice::from_ref(&once.bytes), &options).unwrap();
                    assert_eq!(once.report.verdict(), Verdict::Complete, "{case}");
                    assert_eq!(twice.report.verdict(), Verdict::Complete, "{case}: {:?}", twice.report);
                    assert_eq!(twice.verdict(), Verdict::Complete, "{case}");
                    // Two readings of the clocks can disagree on the outermost events.
                    let (from, until) = (once.report.from.0 + 1000, once.report.until.0 - 1000);
                    let inner = |event: &&Event| from < event.time.0 && event.time.0 < until;
                    assert!(once.events.iter().filter(inner).eq(twice.events.iter().filter(inner)), "{case}");
                }
            }
        }
    }
}

#[test]
fn a_clock_that_was_set_just_before_the_first_event_of_the_range_holds_at_its_start() {
    let event = |time, seq| {
        let body = EventBody::Sid { task: pmon_core::Task::new(5, 5) };
        Event { time: MonoNs(time), seq: pmon_core::Seq(seq), cpu: pmon_core::Cpu(0), body }
    };
    let clock = |mono, real_ns| ClockAnchor { mono: MonoNs(mono), boot_ns: mono, real_ns };
    let meta = Meta { start: clock(1000, 1000), ..Meta::default() };
    let mut encoder = Encoder::new(&Header { uuid: [1; 16], byte_order: ORDER, meta }).unwrap();
    let mut bytes = encoder.header().to_vec();
    encoder.push(&Record::Event(RecordedDatagram::Event(event(2000, 1)), None)).unwrap();
    bytes.extend_from_slice(encoder.seal());
    // The clock is set forward in the block of the next event.
    encoder.push(&Record::Clock(clock(3000, 903_000))).unwrap();
    encoder.push(&Record::Event(RecordedDatagram::Event(event(5000, 2)), None)).unwrap();
    encoder.push(&Record::End(End { time: MonoNs(6000), events: 2, ..End::default() })).unwrap();
    bytes.extend_from_slice(encoder.seal());
    bytes.extend_from_slice(encoder.finish());
    let excerpt = excerpt(&[bytes], &open_range(Some(4000), None)).unwrap();
    assert_eq!(excerpt.header.meta.start, clock(4000, 904_000));
    assert_eq!(excerpt.events, [event(5000, 2)]);
}

#[test]
fn a_capture_that_cannot_be_read_is_left_out_and_its_time_is_unobserved() {
    let plan = RecordingPlan { segments: 3, losses: false, ..RecordingPlan::random(3) };
    let recording = plan.record();
    let whole = CutOptions { since: None, until: None, ..range(0, 0) };
    for unreadable in 0..3 {
        let mut captures = recording.captures.clone();
        captures[unreadable] = if unreadable == 1 { Vec::new() } else { b"no capture\n".to_vec() };
        for options in [whole.clone(), range(recording.start, recording.end)] {
            let found = excerpt(&captures, &options).unwrap();
            let names: Vec<_> = found.report.skipped.iter().map(|skipped| &*skipped.name).collect();
            assert_eq!(names, [format!("capture {unreadable}")]);
            assert!(!found.report.skipped[0].is_removed);
            let reasons: Vec<_> = found.report.unobserved.iter().map(|span| span.reason).collect();
            assert_eq!(reasons, [UnobservedReason::Missing], "{unreadable}: {:?}", found.report);
            assert_eq!((found.report.verdict(), found.verdict()), (Verdict::Blind, Verdict::Blind));
            let mut others = captures.clone();
            others.remove(unreadable);
            let parts = others.iter().map(|capture| excerpt(std::slice::from_ref(capture), &whole).unwrap());
            assert_eq!(found.events, parts.flat_map(|part| part.events).collect::<Vec<_>>());
        }
    }
    let refused = excerpt(&[b"no capture\n".to_vec(), Vec::new()], &whole).err();
    assert!(matches!(refused, Some(CutError::Open { .. })));
}

#[test]
fn events_of_a_segment_before_its_own_reading_of_the_clocks_keep_that_of_the_segment_before() {
    let clock = |mono, real_ns| ClockAnchor { mono: MonoNs(mono), boot_ns: mono, real_ns };
    let event = |time, seq| {
        let body = EventBody::Sid { task: pmon_core::Task::new(5, 5) };
        Event { time: MonoNs(time), seq: pmon_core::Seq(seq), cpu: pmon_core::Cpu(0), body }
    };
    let capture = |uuid: u8, meta, events: &[Event]| {
        let mut encoder = Encoder::new(&Header { uuid: [uuid; 16], byte_order: ORDER, meta }).unwrap();
        let mut bytes = encoder.header().to_vec();
        for &event in events {
            encoder.push(&Record::Event(RecordedDatagram::Event(event), None)).unwrap();
        }
        let last = events.last().unwrap().time;
        let events = events.len() as u64;
        encoder.push(&Record::End(End { time: last, events, ..End::default() })).unwrap();
        bytes.extend_from_slice(encoder.seal());
        bytes.extend_from_slice(encoder.finish());
        bytes
    };
    let next = CpuPosition { cpu: pmon_core::Cpu(0), next: pmon_core::Seq(2), time: MonoNs(2000) };
    let segment = |reason, positions| Some(SegmentInfo { reason, positions });
    let first =
        Meta { start: clock(1000, 1000), segment: segment(SegmentReason::Start, vec![]), ..Meta::default() };
    // The clock was set forward between the events of the second segment and its start.
    let second = Meta {
        start: clock(5000, 905_000),
        segment: segment(SegmentReason::Size, vec![next]),
        previous: Some([1; 16]),
        ..Meta::default()
    };
    let captures =
        [capture(1, first, &[event(2000, 1)]), capture(2, second, &[event(4000, 2), event(6000, 3)])];
    let found = excerpt(&captures, &open_range(Some(3000), None)).unwrap();
    assert_eq!(found.events, [event(4000, 2), event(6000, 3)]);
    assert_eq!(found.header.meta.start, clock(3000, 3000));
    let clocks = crate::cut::start::clocks(&Captures(vec![found.bytes]), 0).unwrap();
    assert_eq!(clocks, [clock(3000, 3000), clock(5000, 905_000)]);
}

/// Returns an event of the first CPU.
pub(super) fn event_of(time: u64, seq: u32) -> Record<'static> {
    let body = EventBody::Sid { task: pmon_core::Task::new(5, 5) };
    let event = Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(0), body };
    Record::Event(RecordedDatagram::Event(event), None)
}

/// Returns a segment that continues the one before it at a number, or the first one without one.
/// Each list of records becomes a block.
pub(super) fn segment_of(number: u8, start: u64, next: Option<u32>, blocks: &[&[Record<'_>]]) -> Vec<u8> {
    let position = |next| CpuPosition { cpu: Cpu(0), next: Seq(next), time: MonoNs(start - 500) };
    let info = SegmentInfo {
        reason: if next.is_some() { SegmentReason::Storage } else { SegmentReason::Start },
        positions: next.into_iter().map(position).collect(),
    };
    let start = ClockAnchor { mono: MonoNs(start), boot_ns: start, real_ns: start as i64 };
    let previous = (number > 1).then_some([number - 1; 16]);
    let meta = Meta { start, previous, segment: Some(info), ..Meta::default() };
    let mut encoder = Encoder::new(&Header { uuid: [number; 16], byte_order: ORDER, meta }).unwrap();
    let mut bytes = encoder.header().to_vec();
    for block in blocks {
        block.iter().for_each(|record| encoder.push(record).unwrap());
        bytes.extend_from_slice(encoder.seal());
    }
    bytes.extend_from_slice(encoder.finish());
    bytes
}

#[test]
fn events_that_the_disk_has_lost_between_two_segments_are_lost_to_the_storage() {
    let first = segment_of(1, 1000, None, &[&[event_of(2000, 1), event_of(3000, 2)]]);
    for (next, verdict) in [(3, Verdict::Complete), (5, Verdict::Lossy)] {
        let end = Record::End(End { time: MonoNs(7000), events: 2, ..End::default() });
        let records = [event_of(5000, next), event_of(6000, next + 1), end];
        let captures = [first.clone(), segment_of(2, 4000, Some(next), &[&records])];
        for since in [1500, 2500, 3500] {
            let excerpt = excerpt(&captures, &range(since, 6500)).unwrap();
            assert_eq!((excerpt.report.verdict(), excerpt.verdict()), (verdict, verdict), "{since}, {next}");
            assert_eq!(excerpt.report.lost.of(LossCause::Storage), u64::from(next) - 3, "{since}");
        }
    }
}

#[test]
fn the_losses_in_the_opening_of_the_first_segment_belong_to_the_range() {
    let cause = LossCause::Storage;
    let [after, before] = [MonoNs(3500), MonoNs(4000)];
    let loss = Loss { cpu: Cpu(0), first: Seq(3), last: Seq(9), after, before, cause };
    let mut end = End { time: MonoNs(7000), events: 2, ..End::default() };
    end.lost.add(cause, 7);
    let records = [event_of(5000, 10), event_of(6000, 11), Record::End(end)];
    let segment = segment_of(2, 4000, Some(3), &[&[Record::Loss(loss)], &records]);
    for (since, lost) in [(2000, 7), (3700, 7), (4000, 7), (4500, 0)] {
        let excerpt = excerpt(std::slice::from_ref(&segment), &range(since, 6500)).unwrap();
        assert_eq!(excerpt.report.lost.total(), lost, "{since}");
    }
}
