use pmon_core::Task;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    ClockAnchor, CpuCounts, CpuPosition, End, Excluded, Fence, FencePosition, ForkCount, ForkReading, Loss,
    Meta, RecordedDatagram, RingCounts, ScopeInfo, SegmentInfo, Witness,
};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, Seq};
use proptest::prelude::*;

use super::*;
use crate::Verdict;

/// What happens on a CPU.
#[derive(Clone, Copy, Debug)]
enum Step {
    Event,
    Loss(u32),
    /// Events that are out of scope, before an event.
    Excluded(u32),
}

fn any_steps() -> impl Strategy<Value = Vec<(u32, Step)>> {
    let step = prop_oneof![
        4 => Just(Step::Event),
        1 => (1..5_u32).prop_map(Step::Loss),
        1 => (1..5_u32).prop_map(Step::Excluded),
    ];
    prop::collection::vec((0..3_u32, step), 1..60)
}

/// Writes the records of segments: counts in each begin at zero.
#[derive(Default)]
struct Writer {
    records: Vec<Record<'static>>,
    positions: Vec<Option<CpuPosition>>,
    seen: Vec<bool>,
    excluded: Vec<u64>,
    end: End,
    time: u64,
}

impl Writer {
    fn new() -> Self {
        Self {
            positions: vec![None; 3],
            seen: vec![false; 3],
            excluded: vec![0; 3],
            records: vec![Record::Scope(ScopeInfo { text: "some".into() })],
            ..Self::default()
        }
    }

    fn step(&mut self, cpu: u32, step: Step) {
        let at = cpu as usize;
        self.time += 1;
        let time = MonoNs(self.time);
        let next = self.positions[at].map_or(u32::MAX - 5, |position| position.next.0);
        let first = match step {
            Step::Excluded(count) if self.positions[at].is_some() => {
                self.excluded[at] += u64::from(count);
                next.wrapping_add(count)
            }
            _ => next,
        };
        let last = match step {
            Step::Loss(count) => {
                let (first, last) = (Seq(first), Seq(first.wrapping_add(count - 1)));
                let cause = LossCause::Ring;
                let loss = Loss { cpu: Cpu(cpu), first, last, after: time, before: time, cause };
                self.end.lost.add(cause, loss.count());
                self.records.push(Record::Loss(loss));
                last
            }
            _ => {
                let body = EventBody::Sid { task: Task::new(1, 1) };
                let event = Event { time, seq: Seq(first), cpu: Cpu(cpu), body };
                self.records.push(Record::Event(RecordedDatagram::Event(event), None));
                self.end.events += 1;
                Seq(first)
            }
        };
        self.seen[at] = true;
        self.positions[at] = Some(CpuPosition { cpu: Cpu(cpu), next: last.next(), time });
    }

    fn positions(&self) -> Vec<CpuPosition> {
        self.positions.iter().flatten().copied().collect()
    }

    /// Ends the segment and returns its records.
    fn finish(&mut self) -> Vec<Record<'static>> {
        let mut cpus = Vec::new();
        for position in self.positions() {
            let count = std::mem::take(&mut self.excluded[position.cpu.0 as usize]);
            let last = Seq(position.next.0.wrapping_sub(1));
            if count > 0 {
                self.records.push(Record::Excluded(Excluded { cpu: position.cpu, last, count }));
            }
            cpus.push(CpuCounts {
                cpu: position.cpu,
                excluded: count,
                dropped: 1 << 20,
                ..CpuCounts::default()
            });
        }
        self.records.push(Record::Ring(RingCounts { time: MonoNs(self.time), cpus }));
        let gaps = self.end.lost.in_source();
        self.records.push(Record::Witness(Witness { time: MonoNs(self.time), drops: 0, gaps }));
        let end = std::mem::take(&mut self.end);
        self.records.push(Record::End(End { time: MonoNs(self.time), drops: Some(0), ..end }));
        let scope = Record::Scope(ScopeInfo { text: "some".into() });
        std::mem::replace(&mut self.records, vec![scope])
    }
}

fn header(number: u8, reason: SegmentReason, positions: Vec<CpuPosition>, time: u64) -> Header {
    let meta = Meta {
        previous: number.checked_sub(1).map(|before| [before; 16]),
        segment: Some(SegmentInfo { reason, positions }),
        start: ClockAnchor { mono: MonoNs(time), boot_ns: time, real_ns: time as i64 },
        ..Meta::default()
    };
    Header { uuid: [number; 16], byte_order: ByteOrder::NATIVE, meta }
}

fn facts(header: &Header) -> SegmentFacts<'_> {
    SegmentFacts { name: "a segment", header: Some(header), order: ByteOrder::NATIVE, is_misnamed: false }
}

type Segment = (Header, Vec<Record<'static>>);

fn written(steps: &[(u32, Step)], cuts: &[usize]) -> Vec<Segment> {
    let mut writer = Writer::new();
    let mut current = header(0, SegmentReason::Start, vec![], 1);
    let mut segments = Vec::new();
    for (at, &(cpu, step)) in steps.iter().enumerate() {
        if at > 0 && cuts.contains(&at) {
            segments.push((current, writer.finish()));
            current = header(segments.len() as u8, SegmentReason::Age, writer.positions(), writer.time);
        }
        writer.step(cpu, step);
    }
    segments.push((current, writer.finish()));
    segments
}

fn verify(segments: &[Segment]) -> (VerifyReport, ChainReport) {
    let mut verifier = ChainVerifier::new(facts(&segments[0].0));
    for (at, (header, records)) in segments.iter().enumerate() {
        if at > 0 {
            verifier.begin(true, facts(header));
        }
        records.iter().for_each(|record| verifier.count(record));
    }
    let (report, chain, _) = verifier.finish(true);
    (report, chain)
}

proptest! {
    #[test]
    fn a_divided_recording_has_the_report_of_the_whole(
        steps in any_steps(),
        cuts in prop::collection::vec(1..60_usize, 0..6),
    ) {
        let (whole, _) = verify(&written(&steps, &[]));
        let segments = written(&steps, &cuts);
        let (report, chain) = verify(&segments);
        prop_assert_eq!(&report.problems, &[]);
        prop_assert!(chain.findings.is_empty(), "{:?}", chain.findings);
        let counts = |report: &VerifyReport| {
            let lost = (report.lost, report.intervals, report.missing, report.absent);
            (report.verdict(), report.events, lost, report.excluded, report.accounted_until, report.end.is_some())
        };
        prop_assert_eq!(counts(&report), counts(&whole));
        let excluded = |report: &VerifyReport| {
            report.ring.iter().flat_map(|ring| &ring.cpus).map(|cpu| cpu.excluded).sum::<u64>()
        };
        prop_assert_eq!(excluded(&report), excluded(&whole));
        prop_assert_eq!(report.witness.map(|witness| witness.gaps), whole.witness.map(|witness| witness.gaps));
        // Each segment is consistent alone.
        for segment in &segments {
            let (report, _) = verify(std::slice::from_ref(segment));
            prop_assert_eq!((report.problem_count, report.missing), (0, 0));
        }
    }

    #[test]
    fn any_removed_segment_is_found(
        steps in prop::collection::vec((0..3_u32, Just(Step::Event)), 30..60),
        removed in 1..5_usize,
    ) {
        let mut segments = written(&steps, &[5, 10, 15, 20, 25]);
        let events = segments[removed].1.iter().filter(|record| matches!(record, Record::Event(..))).count();
        segments.remove(removed);
        let (report, chain) = verify(&segments);
        prop_assert_eq!(report.verdict(), Verdict::Blind);
        let found = match &chain.findings[..] {
            [Finding::Missing { events, .. }] => *events,
            findings => panic!("{findings:?}"),
        };
        // A CPU without events before the gap has no number to compare.
        prop_assert!(found.is_none_or(|found| found <= events as u64));
    }
}

#[test]
fn recordings_that_overlap_are_a_contradiction() {
    let steps: Vec<_> = (0..40).map(|at| (at % 3, Step::Event)).collect();
    let one = written(&steps, &[20]);
    let mut other = one.clone();
    for (number, (header, _)) in other.iter_mut().enumerate() {
        header.uuid = [100 + number as u8; 16];
        header.meta.previous = (number > 0).then_some([100; 16]);
        header.meta.recorder_pid = 4711;
    }
    let is_overlap = |finding: &Finding| matches!(finding, Finding::Overlap { is_repeated: false, .. });
    let (report, chain) = verify(&[one[0].clone(), other[0].clone(), one[1].clone(), other[1].clone()]);
    assert!(chain.findings.iter().any(is_overlap), "{:?}", chain.findings);
    assert_eq!(report.verdict(), Verdict::Damaged);
    // Two clips of one recording have the same recorder.
    let mut clips = [one[0].clone(), other[0].clone()];
    clips.iter_mut().for_each(|(header, _)| header.meta.recorder_pid = 42);
    let (report, chain) = verify(&clips);
    assert!(
        matches!(chain.findings[..], [Finding::Overlap { is_repeated: true, .. }]),
        "{:?}",
        chain.findings
    );
    assert!(report.problems.contains(&Problem::Repeated), "{:?}", report.problems);
    assert_eq!(report.verdict(), Verdict::Damaged);
    // One recorder after the other, with a time in between, is no overlap.
    other[0].0.meta.start.mono.0 += 1000;
    let (report, chain) = verify(&[one[0].clone(), other[0].clone()]);
    assert!(!chain.findings.iter().any(is_overlap), "{:?}", chain.findings);
    assert_eq!(report.verdict(), Verdict::Blind);
}

#[test]
fn later_segments_do_not_extend_what_a_damaged_one_accounts_for() {
    let steps: Vec<_> = (0..40).map(|at| (at % 3, Step::Event)).collect();
    let segments = written(&steps, &[10, 20, 30]);
    let mut verifier = ChainVerifier::new(facts(&segments[0].0));
    for (at, (header, records)) in segments.iter().enumerate() {
        match at {
            0 => {}
            // What lies around a segment without a header is unknown.
            1 => verifier.begin(true, SegmentFacts { header: None, ..facts(header) }),
            _ => verifier.begin(true, facts(header)),
        }
        records.iter().for_each(|record| verifier.count(record));
    }
    let (report, chain, _) = verifier.finish(true);
    assert_eq!(report.accounted_until, Some(MonoNs(10)));
    let spans: Vec<_> = chain.spans.iter().map(|span| (span.mono.0.0, span.mono.1.0)).collect();
    assert_eq!(spans, [(1, 10), (11, 20), (20, 40)]);
}

#[test]
fn events_that_an_unfinished_segment_lacks_are_unobserved_if_their_number_is_unknown() {
    let steps: Vec<_> = (0..40).map(|at| (at % 3, Step::Event)).collect();
    let is_of_cpu = |record: &Record<'_>, cpus: std::ops::Range<u32>| match record {
        Record::Event(RecordedDatagram::Event(event), _) => cpus.contains(&event.cpu.0),
        _ => false,
    };
    // The first segment has lost all of its records, or those of a CPU.
    for lost in [0..3, 2..3] {
        let mut segments = written(&steps, &[20]);
        segments[0].1.retain(|record| !is_of_cpu(record, lost.clone()) && !matches!(record, Record::End(_)));
        let (report, chain) = verify(&segments);
        assert_eq!(report.verdict(), Verdict::Blind, "{lost:?}: {chain:?}");
        let unclean = Finding::Unclean { name: "a segment".into(), unwritten: None };
        assert_eq!(chain.findings, [unclean], "{lost:?}");
    }
    // Its last records are missing: the positions show how many.
    let mut segments = written(&steps, &[20]);
    let events = segments[0].1.iter().rposition(|record| is_of_cpu(record, 0..3)).unwrap();
    segments[0].1.truncate(events);
    let (report, _) = verify(&segments);
    assert_eq!((report.verdict(), report.absent), (Verdict::Lossy, 1));
}

#[test]
fn many_spans_and_findings_are_counted_and_few_are_kept() {
    let mut verifier = ChainVerifier::new(facts(&header(0, SegmentReason::Start, vec![], 1)));
    for number in 1..=1000_u64 {
        let mut next = header(1, SegmentReason::Start, vec![], 10 * number);
        next.uuid = [7; 16];
        next.meta.previous = Some([9; 16]);
        verifier.begin(true, facts(&next));
    }
    let (report, chain, _) = verifier.finish(true);
    assert_eq!((chain.segments, chain.span_count, report.unobserved), (1001, 2001, 1000));
    assert_eq!(chain.spans.len(), MAX_SPANS + 1);
    assert_eq!(chain.spans.last().map(|span| span.mono.0), Some(MonoNs(10_000)));
    assert!(chain.findings.len() == MAX_FINDINGS && chain.finding_count >= 1000);
}

#[test]
fn forks_without_events_between_two_recorders_show_although_all_numbers_continue() {
    let reading = |time: u64, forks: u64| {
        Record::Forks(ForkReading::Counted(ForkCount {
            from: MonoNs(time),
            until: MonoNs(time + 1),
            forks,
            running: 1,
        }))
    };
    let event = |seq: u32, time: u64| event(0, seq, time);
    let end = |time: u64, events: u64| Record::End(End { time: MonoNs(time), events, ..End::default() });
    let report = |forks: u64| {
        let positions = vec![CpuPosition { cpu: Cpu(0), next: Seq(2), time: MonoNs(20) }];
        let segments = [
            (
                header(0, SegmentReason::Start, vec![], 1),
                vec![fence(10), event(1, 20), reading(30, 100), end(40, 1)],
            ),
            (
                header(1, SegmentReason::Restart, positions, 50),
                vec![
                    event(2, 60),
                    reading(70, 100 + forks),
                    event(3, 80),
                    reading(90, 100 + forks),
                    end(95, 2),
                ],
            ),
        ];
        verify(&segments).0
    };
    let complete = report(0);
    assert_eq!((complete.verdict(), complete.forks.missing), (Verdict::Complete, 0));
    let hidden = report(10);
    assert_eq!((hidden.verdict(), hidden.forks.missing), (Verdict::Blind, 10), "{:?}", hidden.forks);
}

fn event(cpu: u32, seq: u32, time: u64) -> Record<'static> {
    let body = EventBody::Sid { task: Task::new(1, 1) };
    RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body }).into()
}

fn fence(time: u64) -> Record<'static> {
    Record::Fence(Fence { time: MonoNs(time), position: FencePosition::Start, unreached: Vec::new() })
}

#[test]
fn a_restart_without_the_position_of_a_cpu_is_unobserved() {
    let position = |cpu: u32, next: u32| CpuPosition { cpu: Cpu(cpu), next: Seq(next), time: MonoNs(20) };
    let end = |time: u64, events: u64| Record::End(End { time: MonoNs(time), events, ..End::default() });
    let verdict = |has_fence: bool, positions: Vec<CpuPosition>| {
        let mut first = vec![event(0, 1, 20), event(1, 1, 20)];
        first.extend(has_fence.then(|| fence(25)));
        let segments = [
            (header(0, SegmentReason::Start, vec![], 1), first),
            (
                header(1, SegmentReason::Restart, positions, 50),
                vec![event(0, 2, 60), event(1, 9, 60), end(95, 2)],
            ),
        ];
        let mut verifier = ChainVerifier::new(facts(&segments[0].0));
        segments[0].1.iter().for_each(|record| verifier.count(record));
        verifier.begin(false, facts(&segments[1].0));
        segments[1].1.iter().for_each(|record| verifier.count(record));
        verifier.finish(true).0
    };
    let complete = verdict(true, vec![position(0, 2), position(1, 9)]);
    assert_eq!((complete.unobserved, complete.absent), (0, 7));
    // The number of the second CPU's first event after the restart is not known.
    assert_eq!(verdict(true, vec![position(0, 2)]).verdict(), Verdict::Blind);
    // A CPU without an event before the kill may have had some that were not written.
    assert_eq!(verdict(false, vec![position(0, 2), position(1, 9)]).verdict(), Verdict::Blind);
}
