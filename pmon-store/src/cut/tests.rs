//! Excerpts of recordings from a simulated recorder.

mod edges;
mod gaps;
pub(crate) mod recording;

use std::io::{self, Cursor};

use pmon_analysis::{TimeBound, Verdict, Verifier, VerifyReport};
use pmon_core::capture::{
    Details, DetailsSubject, Encoder, Header, Item, Reader, Record, RecordedDatagram, SegmentReason,
};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{MonoNs, Tgid};

use super::{CutError, CutOptions, CutReport, CutSource, Selection, cut};
use crate::disk::StoredFile;
use recording::{ORDER, RecordingPlan, SimulatedRecording};

/// Captures in memory.
struct Captures(Vec<Vec<u8>>);

impl StoredFile for Cursor<Vec<u8>> {}

impl CutSource for Captures {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn name(&self, index: usize) -> String {
        format!("capture {index}")
    }

    fn open(&self, index: usize) -> io::Result<Box<dyn StoredFile>> {
        Ok(Box::new(Cursor::new(self.0[index].clone())))
    }
}

/// A decoded excerpt.
struct Excerpt {
    header: Header,
    bytes: Vec<u8>,
    events: Vec<Event>,
    details: Vec<Details>,
    report: CutReport,
    verified: VerifyReport,
}

impl Excerpt {
    fn verdict(&self) -> Verdict {
        self.verified.verdict()
    }
}

fn excerpt(captures: &[Vec<u8>], options: &CutOptions) -> Result<Excerpt, CutError> {
    let mut bytes = Vec::new();
    let report = cut(&Captures(captures.to_vec()), options, &mut bytes, &mut |_| ())?;
    assert_eq!(report.bytes, bytes.len() as u64);
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    let header = reader.header().unwrap().clone();
    let mut verifier = Verifier::new(reader.byte_order(), header.meta.recorder());
    verifier.begin_at(&header.meta.segment.as_ref().unwrap().positions, header.meta.start.mono);
    let (mut events, mut details) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { panic!("the excerpt is damaged") };
        for record in block.records() {
            verifier.count(&record);
            match record {
                Record::Event(RecordedDatagram::Event(event), _) => events.push(event),
                Record::Details(found) => details.push(*found),
                _ => {}
            }
        }
    }
    let verified = verifier.finish(reader.ended_cleanly());
    drop(reader);
    Ok(Excerpt { header, bytes, events, details, report, verified })
}

fn range(from: u64, until: u64) -> CutOptions {
    CutOptions {
        since: Some(TimeBound::Mono(MonoNs(from))),
        until: Some(TimeBound::Mono(MonoNs(until))),
        uuid: [0xC1; 16],
        tool: "pmon test".into(),
        ..CutOptions::default()
    }
}

fn within(recording: &SimulatedRecording, from: u64, until: u64) -> Vec<Event> {
    let is_within = |event: &&Event| from <= event.time.0 && event.time.0 <= until;
    recording.events.iter().filter(is_within).copied().collect()
}

fn execs(details: &[Details]) -> Vec<(Tgid, MonoNs)> {
    let exec = |details: &Details| match details.subject {
        DetailsSubject::Exec { tgid, time } => Some((tgid, time)),
        DetailsSubject::Snapshot { .. } => None,
    };
    let mut all: Vec<_> = details.iter().filter_map(exec).collect();
    all.sort();
    all
}

fn sorted_execs(events: &[Event]) -> Vec<(Tgid, MonoNs)> {
    let exec = |event: &Event| match event.body {
        EventBody::Exec { task } => Some((task.tgid, event.time)),
        _ => None,
    };
    let mut all: Vec<_> = events.iter().filter_map(exec).collect();
    all.sort();
    all
}

#[test]
fn an_excerpt_has_the_events_and_the_losses_of_its_range() {
    for seed in 0..40 {
        let recording = RecordingPlan::random(seed).record();
        let (first, last) = recording.times();
        let mut random = oorandom::Rand64::new(seed.into());
        let margin = (last - first) / 8;
        for _ in 0..6 {
            let mut ends = [
                random.rand_range(first - margin..last + margin),
                random.rand_range(first - margin..last + margin),
            ];
            ends.sort_unstable();
            let [from, until] = ends;
            let case = format!("seed {seed}, {from} to {until} of {first} to {last}");
            let excerpt = excerpt(&recording.captures, &range(from, until)).unwrap();
            assert_eq!(excerpt.events, within(&recording, from, until), "{case}");
            assert_eq!(execs(&excerpt.details), sorted_execs(&excerpt.events), "{case}");
            assert_eq!(excerpt.verified.problems, [], "{case}");
            assert!(excerpt.verified.is_sealed, "{case}");
            assert_eq!(excerpt.verified.lost.total(), recording.lost_within(from, until), "{case}");
            assert_eq!(excerpt.verified.unreported_blinds, 0, "{case}");
            assert_eq!(excerpt.report.events, excerpt.events.len() as u64, "{case}");
            assert_eq!(excerpt.verdict(), excerpt.report.verdict(), "{case}");
            let is_covered = from >= recording.start && until <= recording.end;
            let is_complete = is_covered && excerpt.report.lost.total() == 0;
            assert_eq!(excerpt.report.verdict() == Verdict::Complete, is_complete, "{case}");
            assert_eq!(excerpt.header.meta.start.mono.0, from.max(recording.start), "{case}");
            assert_eq!(excerpt.header.byte_order, ORDER);
        }
    }
}

#[test]
fn an_excerpt_of_an_excerpt_is_the_same_as_of_the_whole() {
    for seed in 0..15 {
        let recording = RecordingPlan::random(seed).record();
        let (first, last) = recording.times();
        let third = (last - first) / 3;
        let outer = excerpt(&recording.captures, &range(first + third / 2, last - third / 2)).unwrap();
        let inner = range(first + third, last - third);
        let twice = excerpt(&[outer.bytes], &inner).unwrap();
        let once = excerpt(&recording.captures, &inner).unwrap();
        assert_eq!(twice.events, once.events, "seed {seed}");
        assert_eq!(execs(&twice.details), execs(&once.details), "seed {seed}");
        assert_eq!(twice.report.verdict(), once.report.verdict(), "seed {seed}");
        assert_eq!(twice.verified.lost, once.verified.lost, "seed {seed}");
        assert_eq!(twice.verified.problems, [], "seed {seed}");
    }
}

#[test]
fn an_excerpt_without_limits_has_all_events() {
    for seed in 0..40 {
        let recording = RecordingPlan::random(seed).record();
        let options = CutOptions { since: None, until: None, ..range(0, 0) };
        let excerpt = excerpt(&recording.captures, &options).unwrap();
        assert_eq!(excerpt.events, recording.events, "seed {seed}");
        assert_eq!(excerpt.verified.problems, [], "seed {seed}");
        assert_eq!(excerpt.verified.lost.total(), recording.lost_within(0, u64::MAX), "seed {seed}");
    }
}

/// Replaces the header of a capture.
fn with_header(capture: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::read(&mut &*capture).unwrap().unwrap();
    let len = Encoder::new(&header).unwrap().header().len();
    change(&mut header);
    [Encoder::new(&header).unwrap().header(), &capture[len..]].concat()
}

#[test]
fn events_that_waited_for_the_next_recorder_belong_to_the_range() {
    for seed in 0..20 {
        let plan = RecordingPlan { segments: 3, losses: false, ..RecordingPlan::random(seed) };
        let mut recording = plan.record();
        // The second recorder starts when all events of its segment have waited for it.
        let starts: Vec<u64> = recording.captures.iter().map(|bytes| start(bytes)).collect();
        recording.captures[1] = with_header(&recording.captures[1], |header| {
            header.meta.segment.as_mut().unwrap().reason = SegmentReason::Restart;
            for time in [&mut header.meta.start.mono.0, &mut header.meta.start.boot_ns] {
                *time = starts[2] - 1;
            }
        });
        let third = (starts[2] - starts[1]) / 3;
        for (from, until) in [(2, 4), (4, 5), (2, 7)]
            .map(|(a, b)| (starts[1] - third + a * third / 2, starts[1] - third + b * third / 2))
        {
            let case = format!("seed {seed}, {from} to {until} of {starts:?}");
            let excerpt = excerpt(&recording.captures, &range(from, until)).unwrap();
            assert_eq!(excerpt.events, within(&recording, from, until), "{case}");
            assert_eq!(excerpt.verified.problems, [], "{case}");
            assert_eq!(excerpt.verified.missing, 0, "{case}");
            assert_eq!(excerpt.verdict(), Verdict::Complete, "{case}: {:?}", excerpt.report);
            assert_eq!(excerpt.report.verdict(), Verdict::Complete, "{case}");
            assert_eq!(excerpt.header.meta.start.mono.0, from, "{case}");
        }
    }
}

#[test]
fn a_range_can_begin_while_events_of_two_segments_are_out_of_order() {
    for seed in 0..80 {
        let plan = RecordingPlan { segments: 3, losses: false, ..RecordingPlan::random(seed) };
        let recording = plan.record();
        let starts: Vec<u64> = recording.captures.iter().map(|bytes| start(bytes)).collect();
        for (division, until) in [(starts[1], starts[2] - 1), (starts[2], recording.end)] {
            for before in [40_000, 1] {
                let case = format!("seed {seed}, {before} ns before {division}");
                let excerpt = excerpt(&recording.captures, &range(division - before, until)).unwrap();
                assert_eq!(excerpt.events, within(&recording, division - before, until), "{case}");
                assert_eq!(excerpt.verified.problems, [], "{case}");
                assert_eq!(excerpt.verdict(), Verdict::Complete, "{case}: {:?}", excerpt.verified);
            }
        }
    }
}

fn start(capture: &[u8]) -> u64 {
    Header::read(&mut &*capture).unwrap().unwrap().meta.start.mono.0
}

#[test]
fn a_source_with_a_damaged_header_hides_no_other_source() {
    for damaged in 0..3 {
        let plan = RecordingPlan { segments: 3, losses: false, ..RecordingPlan::random(5) };
        let recording = plan.record();
        let starts: Vec<u64> = recording.captures.iter().map(|bytes| start(bytes)).collect();
        let mut captures = recording.captures.clone();
        captures[damaged][40] ^= 0xff;
        assert_eq!(Header::read(&mut &*captures[damaged]).ok().flatten(), None);
        // The range is that of the first segment, and then that of the last one.
        for (segment, from, until) in
            [(0, starts[0] + 1000, starts[1] - 1_000_000), (2, starts[2] + 1_000_000, recording.end)]
        {
            let case = format!("{damaged} is damaged, {from} to {until} of {starts:?}");
            let excerpt = excerpt(&captures, &range(from, until)).unwrap();
            assert_eq!(excerpt.events, within(&recording, from, until), "{case}");
            if damaged == 1 {
                assert_eq!(excerpt.verified.problems, [], "{case}");
                assert_eq!(excerpt.verdict(), Verdict::Complete, "{case}: {:?}", excerpt.report);
            } else if damaged == segment {
                assert_ne!(excerpt.verdict(), Verdict::Complete, "{case}");
            }
        }
    }
}

#[test]
fn an_unfinished_source_is_not_complete() {
    let recording = RecordingPlan { segments: 1, losses: false, ..RecordingPlan::random(7) }.record();
    let whole = recording.captures[0].clone();
    let cut_off = vec![whole[..whole.len() * 2 / 3].to_vec()];
    let options = CutOptions { since: None, until: None, ..range(0, 0) };
    let excerpt = excerpt(&cut_off, &options).unwrap();
    assert!(!excerpt.events.is_empty() && recording.events.starts_with(&excerpt.events));
    assert_ne!(excerpt.report.verdict(), Verdict::Complete);
    assert_eq!(excerpt.verified.problems, []);
    assert_eq!(excerpt.verdict(), excerpt.report.verdict());
}

#[test]
fn a_damaged_part_is_a_time_without_events() {
    let recording = RecordingPlan { segments: 1, losses: false, ..RecordingPlan::random(3) }.record();
    let (first, last) = recording.times();
    let mut damaged = recording.captures.clone();
    let middle = damaged[0].len() / 2;
    damaged[0][middle] ^= 0xff;
    let excerpt = excerpt(&damaged, &range(first, last)).unwrap();
    assert_eq!(excerpt.report.damaged, 1);
    assert!(!excerpt.events.is_empty() && excerpt.events.len() < recording.events.len());
    let mut rest = recording.events.iter();
    assert!(excerpt.events.iter().all(|event| rest.any(|recorded| recorded == event)));
    assert_eq!(excerpt.verified.problems, []);
    assert_ne!(excerpt.verdict(), Verdict::Complete);
    assert_eq!(excerpt.verdict(), excerpt.report.verdict());
}

#[test]
fn a_selection_accounts_for_the_events_that_it_omits() {
    use pmon_analysis::Filter;
    use pmon_core::wire::EventKind;
    for seed in 0..40 {
        let recording = RecordingPlan::random(seed).record();
        let (first, last) = recording.times();
        let (from, until) = (first + (last - first) / 4, last - (last - first) / 4);
        let selection = Selection {
            text: "exec events".into(),
            filter: Filter { kinds: vec![EventKind::Exec], ..Filter::default() },
            exits: None,
        };
        let options = CutOptions { selection: Some(selection), ..range(from, until) };
        let excerpt = excerpt(&recording.captures, &options).unwrap();
        let mut expected = within(&recording, from, until);
        let all = expected.len() as u64;
        expected.retain(|event| event.kind() == EventKind::Exec);
        assert_eq!(excerpt.events, expected, "seed {seed}");
        assert_eq!(execs(&excerpt.details), sorted_execs(&excerpt.events), "seed {seed}");
        assert_eq!(excerpt.verified.scope.as_deref(), Some("exec events"));
        assert_eq!(excerpt.verified.problems, [], "seed {seed}");
        assert_eq!(excerpt.verified.excluded, all - expected.len() as u64, "seed {seed}");
        assert_eq!(excerpt.verified.missing, 0, "seed {seed}");
    }
}

#[test]
fn captures_of_earlier_versions_are_cut() {
    let source = include_bytes!("../../../pmon-core/tests/golden/format-1.0.bin").to_vec();
    let mut reader = Reader::open(source.as_slice()).unwrap();
    let mut datagrams = 0;
    while let Some(Item::Block(block)) = reader.next_item().unwrap() {
        datagrams += block.records().filter(|record| matches!(record, Record::Event(..))).count() as u64;
    }
    let options = CutOptions { since: None, until: None, ..range(0, 0) };
    let mut bytes = Vec::new();
    let report = cut(&Captures(vec![source]), &options, &mut bytes, &mut |_| ()).unwrap();
    assert!(datagrams > 0);
    assert_eq!(report.events, datagrams);
}

#[test]
fn most_of_a_long_range_is_copied() {
    let plan = RecordingPlan { steps: 60_000, segments: 1, block: 2000, ..RecordingPlan::random(1) };
    let recording = plan.record();
    let (first, last) = recording.times();
    let quarter = (last - first) / 4;
    let excerpt = excerpt(&recording.captures, &range(first + quarter, last - quarter)).unwrap();
    assert_eq!(excerpt.events, within(&recording, first + quarter, last - quarter));
    let CutReport { copied_blocks, encoded_blocks, .. } = excerpt.report;
    assert!(copied_blocks > 4 * encoded_blocks, "{copied_blocks} copied, {encoded_blocks} encoded");
}

#[test]
fn sources_without_a_capture_are_refused() {
    assert!(matches!(excerpt(&[], &range(1, 2)), Err(CutError::NoCapture)));
    assert!(matches!(excerpt(&[b"text".to_vec()], &range(1, 2)), Err(CutError::Open { .. })));
}
