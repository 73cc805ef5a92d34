//! Compares the verdict of `pmon verify DIR` with the truth.

use pmon_analysis::verify::{ChainReport, ChainVerifier, MAX_SPANS, SegmentFacts, Span, SpanState};
use pmon_analysis::{Verdict, VerifyReport};
use pmon_core::MonoNs;

use super::machine::ORDER;
use super::oracle::StoreContents;
use super::segments::ReadSegment;

/// Events of one CPU that the store neither has nor has recorded as lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct AbsentEvents {
    pub(super) count: u64,
    /// Time of the event or the start of a segment before them, or of the first one of them.
    pub(super) after: MonoNs,
    /// Time of the event or the start of a segment after them.
    pub(super) before: MonoNs,
}

/// Verifies a store as `pmon verify` does.
fn verify(segments: &[&ReadSegment]) -> Option<(VerifyReport, ChainReport)> {
    let mut verifier: Option<ChainVerifier> = None;
    let mut was_sealed = false;
    for segment in segments {
        let contents = &segment.contents;
        let next = SegmentFacts {
            name: &segment.name,
            header: Some(&contents.header),
            order: ORDER,
            is_misnamed: false,
        };
        match &mut verifier {
            Some(verifier) => verifier.begin(was_sealed, next),
            None => verifier = Some(ChainVerifier::new(next)),
        }
        let verifier = verifier.as_mut()?;
        contents.damage.iter().for_each(|damage| verifier.damage(damage));
        contents.records.iter().for_each(|record| verifier.count(record));
        was_sealed = contents.ended_cleanly;
    }
    let (report, chain, _) = verifier?.finish(was_sealed);
    Some((report, chain))
}

/// Checks the verdict on the whole store: its totals, and that it claims no damage without a cause.
///
/// # Errors
/// The first contradiction.
pub(super) fn check_store(
    segments: &[ReadSegment],
    contents: &StoreContents,
    absent: u64,
    may_be_damaged: bool,
) -> Result<(), String> {
    let Some((report, _)) = verify(&segments.iter().collect::<Vec<_>>()) else { return Ok(()) };
    let (verdict, events) = (report.verdict(), report.events + report.self_generated);
    if verdict == Verdict::Damaged && !may_be_damaged {
        let problem = report.problems.first().map(ToString::to_string);
        return Err(format!("the verdict on an intact store is damaged: {problem:?}"));
    }
    if verdict == Verdict::Complete && (absent > 0 || contents.lost > 0) {
        return Err(format!(
            "the verdict is complete, with {absent} events absent, and {} lost",
            contents.lost
        ));
    }
    if (events, report.lost.total()) != (contents.events, contents.lost) {
        return Err(format!(
            "the verdict has {events} events and {} lost, expected {} and {}",
            report.lost.total(),
            contents.events,
            contents.lost
        ));
    }
    Ok(())
}

/// Checks that the verdict explains every drop of the socket by a loss.
///
/// # Errors
/// If it does not.
pub(super) fn check_drops(segments: &[ReadSegment]) -> Result<(), String> {
    let Some((report, _)) = verify(&segments.iter().collect::<Vec<_>>()) else { return Ok(()) };
    match report.unexplained_drops() {
        0 => Ok(()),
        drops => Err(format!("the verdict has {drops} drops without a loss: {:?}", report.witness)),
    }
}

/// Checks the verdict on the segments of a boot: it claims to have observed no time in which events
/// are absent, unless it counts them.
///
/// # Errors
/// The first contradiction.
pub(super) fn check_boot(segments: &[&ReadSegment], absent: &[AbsentEvents]) -> Result<(), String> {
    let Some((report, chain)) = verify(segments) else { return Ok(()) };
    if report.verdict() == Verdict::Damaged || chain.span_count > MAX_SPANS as u64 {
        return Ok(());
    }
    let is_unobserved = |events: &&AbsentEvents| {
        chain.spans.iter().any(|&Span { mono: (from, until), state, .. }| {
            matches!(state, SpanState::Unobserved { .. }) && from <= events.before && events.after < until
        })
    };
    let observed: Vec<_> = absent.iter().filter(|events| !is_unobserved(events)).collect();
    let count: u64 = observed.iter().map(|events| events.count).sum();
    if count != report.absent {
        let spans = &chain.spans;
        return Err(format!(
            "the verdict counts {} absent events, expected {count}: {observed:?}; spans: {spans:?}",
            report.absent
        ));
    }
    Ok(())
}
