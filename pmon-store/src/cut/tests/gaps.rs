//! Times without events, between the sources and in them.

use pmon_analysis::Filter;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{ClockAnchor, End, Excluded, Loss, ScopeInfo, Unobserved, UnobservedReason};
use pmon_core::wire::EventKind;
use pmon_core::{Cpu, Seq, Task};

use super::edges::{event_of, segment_of};
use super::*;

/// Returns the end of a capture with this number of events.
fn end_of(time: u64, events: u64) -> Record<'static> {
    Record::End(End { time: MonoNs(time), events, ..End::default() })
}

/// Returns an exit on the first CPU.
fn exit_of(time: u64, seq: u32) -> Record<'static> {
    let body = EventBody::Exit { task: Task::new(5, 5), code: 0, signal: 17, parent: None };
    let event = Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(0), body };
    Record::Event(RecordedDatagram::Event(event), None)
}

/// Returns options that select the exits.
fn exits(options: CutOptions) -> CutOptions {
    let filter = Filter { kinds: vec![EventKind::Exit], ..Filter::default() };
    let selection = Selection { text: "exit events".into(), filter, exits: None };
    CutOptions { selection: Some(selection), ..options }
}

/// Returns the captures of two recorders, with a gap from 3500 to 4000.
fn two_recorders() -> [Vec<u8>; 2] {
    let (after, before, cause) = (MonoNs(2000), MonoNs(3000), LossCause::Socket);
    let loss = Loss { cpu: Cpu(0), first: Seq(2), last: Seq(3), after, before, cause };
    let mut end = End { time: MonoNs(3500), events: 2, ..End::default() };
    end.lost.add(cause, 2);
    let records = [exit_of(2000, 1), Record::Loss(loss), event_of(3000, 4), Record::End(end)];
    let later = [event_of(5000, 50), exit_of(6000, 51), event_of(7000, 52), end_of(8000, 3)];
    [segment_of(1, 1000, None, &[&records]), segment_of(2, 4000, None, &[&later])]
}

/// Checks that the excerpt agrees with what its maker reports of it.
fn check(excerpt: &Excerpt, verdict: Verdict, case: &str) {
    assert_eq!(excerpt.verified.problems, [], "{case}");
    assert_eq!((excerpt.report.verdict(), excerpt.verdict()), (verdict, verdict), "{case}");
}

#[test]
fn the_numbers_of_two_recorders_are_unrelated() {
    for since in [1500, 2500, 3200, 3600, 4000, 4500] {
        let verdict = if since < 4000 { Verdict::Blind } else { Verdict::Complete };
        for options in [range(since, 7500), exits(range(since, 7500))] {
            let case = format!("from {since}, {:?}", options.selection.as_ref().map(|of| &of.text));
            check(&excerpt(&two_recorders(), &options).unwrap(), verdict, &case);
        }
    }
}

#[test]
fn an_excerpt_of_an_excerpt_with_a_gap_agrees_with_its_report() {
    let first = excerpt(&two_recorders(), &range(500, 7500)).unwrap();
    for since in [100, 500, 1500, 2500, 3200, 3500, 3700, 4000, 4500, 6500] {
        let verdict = if since <= 4000 { Verdict::Blind } else { Verdict::Complete };
        for options in [range(since, 7200), exits(range(since, 7200))] {
            let case = format!("from {since}, {:?}", options.selection.as_ref().map(|of| &of.text));
            let second = excerpt(std::slice::from_ref(&first.bytes), &options).unwrap();
            check(&second, verdict, &case);
            let third = excerpt(std::slice::from_ref(&second.bytes), &range(since, 7200)).unwrap();
            check(&third, verdict, &case);
        }
    }
}

#[test]
fn a_selection_accounts_for_the_events_before_the_end_of_its_source() {
    let recording = segment_of(1, 1000, None, &[&[exit_of(2000, 1), event_of(3000, 2), end_of(3500, 2)]]);
    let killed = segment_of(1, 1000, None, &[&[exit_of(2000, 1), event_of(3000, 2)]]);
    for (name, source) in [("stopped", recording), ("killed", killed)] {
        let excerpt = excerpt(&[source], &exits(range(1500, 9000))).unwrap();
        check(&excerpt, Verdict::Blind, name);
        assert_eq!(excerpt.verified.excluded, 1, "{name}");
    }
}

#[test]
fn a_damaged_part_does_not_change_what_a_selection_accounts_for() {
    let recording = RecordingPlan { segments: 1, losses: false, ..RecordingPlan::random(3) }.record();
    let (first, last) = recording.times();
    let len = recording.captures[0].len();
    for at in [len / 8, len / 4, len / 2, len * 3 / 4] {
        let mut damaged = recording.captures.clone();
        damaged[0][at] ^= 0xff;
        for options in [range(first, last), exits(range(first, last))] {
            let case = format!("byte {at} of {len}, {:?}", options.selection.as_ref().map(|of| &of.text));
            let excerpt = excerpt(&damaged, &options).unwrap();
            assert_eq!(excerpt.report.damaged, 1, "{case}");
            check(&excerpt, Verdict::Blind, &case);
        }
    }
}

#[test]
fn the_time_from_the_end_of_the_sources_until_now_is_unobserved() {
    let source = segment_of(1, 1000, None, &[&[event_of(2000, 1), event_of(3000, 2), end_of(3500, 2)]]);
    for (lacks_end, reason) in [(false, UnobservedReason::Stopped), (true, UnobservedReason::Missing)] {
        for (now, expected) in [
            (5000, vec![(3500, 5000, reason), (5000, 9000, UnobservedReason::Future)]),
            (9500, vec![(3500, 9000, reason)]),
            (3500, vec![(3500, 9000, UnobservedReason::Future)]),
        ] {
            let options = CutOptions { now: Some(MonoNs(now)), lacks_end, ..range(1500, 9000) };
            let found = excerpt(std::slice::from_ref(&source), &options).unwrap();
            let spans = found.report.unobserved.iter();
            let spans: Vec<_> = spans.map(|span| (span.from.0, span.until.0, span.reason)).collect();
            assert_eq!(spans, expected, "now {now}");
            check(&found, Verdict::Blind, "");
        }
    }
}

#[test]
fn a_loss_in_the_block_before_the_first_event_of_the_range_belongs_to_the_range() {
    let (after, before, cause) = (MonoNs(2000), MonoNs(5000), LossCause::Socket);
    let loss = Record::Loss(Loss { cpu: Cpu(0), first: Seq(2), last: Seq(9), after, before, cause });
    let clock = Record::Clock(ClockAnchor { mono: MonoNs(3500), boot_ns: 3500, real_ns: 9_003_500 });
    let mut end = End { time: MonoNs(8000), events: 2, ..End::default() };
    end.lost.add(cause, 8);
    let blocks: [&[Record<'_>]; 3] =
        [&[event_of(2000, 1), loss, clock], &[event_of(5000, 10)], &[Record::End(end)]];
    let source = segment_of(1, 1000, None, &blocks);
    for until in [4500, 7000] {
        let excerpt = excerpt(std::slice::from_ref(&source), &range(3000, until)).unwrap();
        check(&excerpt, Verdict::Lossy, &format!("until {until}"));
        assert_eq!(excerpt.report.lost.of(cause), 8, "until {until}");
        let clocks = crate::cut::start::clocks(&Captures(vec![excerpt.bytes]), 0).unwrap();
        let clocks: Vec<_> = clocks.iter().map(|clock| (clock.mono.0, clock.real_ns)).collect();
        assert_eq!(clocks, [(3000, 3000), (3500, 9_003_500)], "until {until}");
    }
}

#[test]
fn the_events_out_of_scope_before_and_after_a_gap_are_counted_apart() {
    let scope = Record::Scope(ScopeInfo { text: "exit events".into() });
    let excluded = |last| Record::Excluded(Excluded { cpu: Cpu(0), last: Seq(last), count: 1 });
    let (from, until, reason) = (MonoNs(3500), MonoNs(4000), UnobservedReason::Stopped);
    let gap = Record::Unobserved(Unobserved { from, until, reason });
    let blocks: [&[Record<'_>]; 3] = [
        &[scope, exit_of(2000, 1)],
        &[exit_of(3000, 3), excluded(3), gap, exit_of(5000, 50), exit_of(6000, 52)],
        &[excluded(52), end_of(8000, 4)],
    ];
    let excerpt = excerpt(&[segment_of(1, 1000, None, &blocks)], &range(1500, 7000)).unwrap();
    check(&excerpt, Verdict::Blind, "");
    assert_eq!((excerpt.events.len(), excerpt.verified.excluded), (4, 2));
}
