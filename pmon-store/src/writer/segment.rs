//! A segment that is being written.

use std::borrow::Cow;
use std::time::Instant;

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{ClockAnchor, End, Excluded, Record, Witness};
use pmon_record::{Sink as _, SinkError};

use crate::file::CaptureFile;
use crate::tally::{CpuLoss, Tally};

/// A segment that is being written.
pub(super) struct OpenSegment {
    pub(super) file: CaptureFile,
    /// The final name.
    pub(super) name: String,
    pub(super) uuid: [u8; 16],
    pub(super) previous: Option<[u8; 16]>,
    pub(super) start: ClockAnchor,
    /// Time at which the segment began.
    pub(super) since: Instant,
    /// Whether the segment has records.
    pub(super) has_records: bool,
    /// Size of the file with the opening, in bytes.
    pub(super) opening_bytes: u64,
    /// Whether a reader finds records in the file, including the opening.
    pub(super) is_written: bool,
    /// The positions at which the segment starts.
    pub(super) at_start: Tally,
    /// All records so far when the segment began, written or not.
    pub(super) at_begin: Tally,
    /// Losses of earlier events that could not be written. The segment begins with their records.
    pub(super) carried: Vec<CpuLoss>,
    /// All records when the segment ended; `None` before.
    pub(super) at_end: Option<Tally>,
    /// Whether the segment does not begin where the recorder began to count, so its totals differ
    /// from the recorder's.
    pub(super) is_adjusted: bool,
    /// Spans without events in this segment, which must not be lost.
    pub(super) spans: Spans,
}

impl OpenSegment {
    /// Appends a record; `tally` holds all records so far, including this one.
    #[inline]
    pub(super) fn record(&mut self, record: &Record<'_>, tally: &Tally) -> Result<(), SinkError> {
        self.has_records = true;
        match record {
            Record::Event(..) => self.file.record(record),
            Record::End(end) => self.record_end(end, tally),
            record => self.record_note(record, tally),
        }
    }

    /// Appends a record that is neither an event nor the end.
    fn record_note(&mut self, record: &Record<'_>, tally: &Tally) -> Result<(), SinkError> {
        self.spans.add(record);
        let record = if self.is_adjusted { self.adjusted(record, tally) } else { Cow::Borrowed(record) };
        self.file.record(&record)
    }

    /// Appends the end, with the totals of this segment.
    pub(super) fn record_end(&mut self, end: &End, tally: &Tally) -> Result<(), SinkError> {
        let end = self.end(end, tally);
        if let (true, Some(drops)) = (self.is_adjusted, end.drops) {
            // The recorder compared the counts of carried losses when nothing could be written.
            let witness = Witness { time: end.time, drops, gaps: end.lost.in_source() };
            self.file.record(&Record::Witness(witness))?;
        }
        self.file.record(&Record::End(end))
    }

    /// Returns the number of events that could not be written before this segment.
    pub(super) fn carried_events(&self) -> u64 {
        self.carried.iter().map(|loss| loss.by_cause().of(LossCause::Storage)).sum()
    }

    /// Returns a record with the totals of this segment.
    fn adjusted<'a>(&self, record: &'a Record<'a>, tally: &Tally) -> Cow<'a, Record<'a>> {
        Cow::Owned(match record {
            Record::Excluded(excluded) => {
                let Excluded { cpu, last, .. } = *excluded;
                let count = tally.unaccounted(&self.at_start, &self.at_begin, &self.carried, cpu, last);
                Record::Excluded(Excluded { cpu, last, count })
            }
            Record::Witness(witness) => {
                let gaps = self.lost(tally).in_source();
                let drops = shifted(witness.drops, witness.gaps, gaps);
                Record::Witness(Witness { time: witness.time, drops, gaps })
            }
            record => return Cow::Borrowed(record),
        })
    }

    /// Returns the totals of this segment, given those of the recorder since its last division.
    fn end(&self, end: &End, tally: &Tally) -> End {
        if !self.is_adjusted {
            return *end;
        }
        let lost = self.lost(tally);
        let drops = end.drops.map(|drops| shifted(drops, end.lost.in_source(), lost.in_source()));
        End {
            events: tally.events - self.at_begin.events,
            malformed: tally.malformed - self.at_begin.malformed,
            blind_ns: self.spans.blind_ns,
            drops,
            lost,
            ..*end
        }
    }

    /// Returns the lost events of all losses in this segment.
    fn lost(&self, tally: &Tally) -> LossByCause {
        let mut lost = LossByCause::default();
        for (cause, count) in tally.lost.by_cause() {
            lost.add(cause, count - self.at_begin.lost.of(cause));
        }
        for carried in self.carried.iter().map(CpuLoss::by_cause) {
            carried.by_cause().for_each(|(cause, count)| lost.add(cause, count));
        }
        lost
    }
}

/// Returns a count of drops that differs from the gaps as much as `drops` does from `gaps`.
fn shifted(drops: u64, gaps: u64, own_gaps: u64) -> u64 {
    (drops + own_gaps).saturating_sub(gaps)
}

/// Maximum number of spans that are kept one by one.
const MAX_SPANS: usize = 256;

/// Time spans without events, as records.
#[derive(Clone, Default)]
pub(super) struct Spans {
    pub(super) records: Vec<Record<'static>>,
    blind_ns: u64,
}

impl Spans {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.blind_ns = 0;
    }

    /// Adds a record if it describes a span. If there are too many, the last span is extended: it
    /// then covers time in which events were recorded, and no time without events is left out.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        match record {
            Record::Blind(blind) => {
                self.blind_ns += blind.length_ns();
                let is_full = self.records.len() >= MAX_SPANS;
                match self.records.last_mut() {
                    Some(Record::Blind(last)) if is_full => last.until = blind.until,
                    _ => self.records.push(Record::Blind(*blind)),
                }
            }
            Record::Unobserved(span) if self.records.len() < 2 * MAX_SPANS => {
                self.records.push(Record::Unobserved(*span));
            }
            _ => {}
        }
    }
}
