//! Verification across the segments of a recording: what lies between them, and when there are no
//! events.

use pmon_core::capture::{
    Damage, Header, Record, RecordedDatagram, SegmentReason, Unobserved, UnobservedReason,
};
use pmon_core::wire::ByteOrder;
use pmon_core::{MonoNs, Tgid};

use super::{Problem, Verifier, VerifyReport};
use crate::WallClock;

/// Maximum number of spans described; further ones are only counted.
pub const MAX_SPANS: usize = 64;
/// Maximum number of findings described; further ones are only counted.
pub const MAX_FINDINGS: usize = 32;

/// A part of a recording, in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Start and end by the monotonic clock of the boot.
    pub mono: (MonoNs, MonoNs),
    /// Start and end by the wall clock, in ns since 1970-01-01T00:00Z, if known.
    pub real_ns: (Option<i64>, Option<i64>),
    /// What the recording has of this time.
    pub state: SpanState,
}

/// What a recording has of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanState {
    /// Its events: all of them, except those that are counted as lost.
    Observed {
        /// Number of lost events.
        lost: u64,
    },
    /// No events.
    Unobserved {
        /// Why there are none.
        reason: UnobservedReason,
        /// Number of missing events, if the numbers before and after the time are comparable.
        events: Option<u64>,
    },
}

/// Something that a user should know about the segments of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Segments between two others are missing.
    Missing {
        /// Name of the segment before them.
        after: String,
        /// Name of the segment after them.
        before: String,
        /// Number of their events, if the numbers are comparable.
        events: Option<u64>,
    },
    /// Two files are the same capture, which is read once.
    Duplicate {
        /// Name of the file that is left out.
        name: String,
        /// Name of the other file.
        same_as: String,
    },
    /// The time in a file's name is not that of its header.
    Misnamed {
        /// Name of the file.
        name: String,
    },
    /// A capture is of another machine than the one before it.
    OtherMachine {
        /// Name of the file.
        name: String,
    },
    /// The recorder of a segment was killed.
    Unclean {
        /// Name of the segment.
        name: String,
        /// Number of its last events that were not written, if the next segment shows it.
        unwritten: Option<u64>,
    },
    /// Events between two segments are missing, although one continues the other, or those of a
    /// damaged part after the last event of the first one.
    Absent {
        /// Name of the segment before them.
        after: String,
        /// Name of the segment after them.
        before: String,
        /// Number of the events.
        events: u64,
        /// Whether the segment before them is damaged.
        is_damaged: bool,
    },
    /// A capture begins before the one before it ends, and does not continue it.
    Overlap {
        /// Name of the earlier capture.
        after: String,
        /// Name of the later capture.
        before: String,
        /// Whether both hold the same part of one recording, as two clips can. Otherwise they are
        /// of two recorders that ran at the same time.
        is_repeated: bool,
    },
    /// A capture could not be read.
    Unreadable {
        /// Name of the file.
        name: String,
        /// The reason, for people.
        why: String,
    },
}

/// What is known of the order and the gaps of the segments of a recording.
#[derive(Clone, Debug, Default)]
pub struct ChainReport {
    /// Number of segments.
    pub segments: u64,
    /// The first spans, at most [`MAX_SPANS`], and the last one.
    pub spans: Vec<Span>,
    /// Total number of spans.
    pub span_count: u64,
    /// The first findings, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Total number of findings.
    pub finding_count: u64,
    /// Whether the first segment continues one that is not there any more.
    pub is_pruned: bool,
    /// Why the only segment began, and whether it continues another one.
    pub single: Option<(SegmentReason, bool)>,
}

impl ChainReport {
    /// Adds a finding.
    pub fn add_finding(&mut self, finding: Finding) {
        self.finding_count += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    fn add_span(&mut self, span: Span) {
        self.span_count += 1;
        // The last span has the end of the recording.
        self.spans.truncate(MAX_SPANS);
        self.spans.push(span);
    }
}

/// A capture as the chain needs it.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFacts<'a> {
    /// Name of the file, for findings.
    pub name: &'a str,
    /// The header, if it is intact.
    pub header: Option<&'a Header>,
    /// Byte order of the datagrams.
    pub order: ByteOrder,
    /// Whether the time in the file's name is not that of the header.
    pub is_misnamed: bool,
}

/// The capture before the current position.
#[derive(Clone, Debug)]
struct KnownSegment {
    name: String,
    uuid: [u8; 16],
    boot_id: String,
    machine_id: String,
    recorder: Option<Tgid>,
}

/// Verifies the captures of a recording. Apply every record and every damage in order, and call
/// [`ChainVerifier::begin`] before the next capture and [`ChainVerifier::finish`] at the end.
#[derive(Clone, Debug)]
pub struct ChainVerifier {
    /// Verifies the segments since the last gap.
    verifier: Verifier,
    /// The report up to the last gap.
    closed: Option<VerifyReport>,
    chain: ChainReport,
    wall: WallClock,
    before: Option<KnownSegment>,
    /// Start of the segments since the last gap.
    since: MonoNs,
    is_sealed: bool,
    /// Whether every number up to the last gap is accounted for.
    is_accounted: bool,
    /// Whether the current capture has an unreadable part.
    is_damaged: bool,
}

impl ChainVerifier {
    /// Creates a verifier for a recording that begins with this capture.
    pub fn new(first: SegmentFacts<'_>) -> Self {
        let recorder = first.header.and_then(|header| header.meta.recorder());
        let mut this = Self {
            verifier: Verifier::new(first.order, recorder),
            closed: None,
            chain: ChainReport::default(),
            wall: WallClock::new(),
            before: None,
            since: MonoNs(0),
            is_sealed: false,
            is_accounted: true,
            is_damaged: false,
        };
        if let Some(meta) = first.header.map(|header| &header.meta)
            && let Some(segment) = &meta.segment
        {
            this.verifier.begin_at(&segment.positions, meta.start.mono);
            let continues = meta.previous.is_some();
            this.chain.is_pruned = continues;
            this.chain.single = Some((segment.reason, continues));
        }
        this.enter(first);
        this
    }

    /// Applies the next record.
    #[inline]
    pub fn count(&mut self, record: &Record<'_>) {
        match record {
            Record::Clock(anchor) => self.wall.observe(*anchor),
            // The start is unknown if the header is damaged.
            Record::Event(RecordedDatagram::Event(event), _) if self.since == MonoNs(0) => {
                self.since = event.time;
            }
            _ => {}
        }
        self.verifier.count(record);
    }

    /// Applies an unreadable part of the current capture.
    pub fn damage(&mut self, damage: &Damage) {
        self.is_damaged = true;
        self.verifier.damage(damage);
    }

    /// Notes a finding of the caller.
    pub fn add_finding(&mut self, finding: Finding) {
        if let Finding::Unreadable { .. } = finding {
            self.verifier.add_contradiction(Problem::Unreadable);
        }
        self.chain.add_finding(finding);
    }

    /// Continues with the next capture. `was_sealed` states whether the recorder ended the current
    /// one cleanly.
    pub fn begin(&mut self, was_sealed: bool, next: SegmentFacts<'_>) {
        let (_, has_end) = self.verifier.progress();
        let is_clean = was_sealed && has_end;
        match (self.before.clone(), next.header) {
            (Some(before), Some(header)) => self.connect(&before, is_clean, next.name, header),
            // Without a header, what lies between the captures is unknown.
            _ => {
                self.break_off(is_clean, None, next.order, None);
                self.is_accounted = false;
            }
        }
        self.chain.single = None;
        self.enter(next);
    }

    /// Finishes the verification. `is_sealed` states whether the recorder ended the last capture
    /// cleanly.
    pub fn finish(mut self, is_sealed: bool) -> (VerifyReport, ChainReport, WallClock) {
        self.is_sealed = is_sealed;
        let fresh = Verifier::new(ByteOrder::NATIVE, None);
        self.close_run(fresh);
        (self.closed.unwrap_or_default(), self.chain, self.wall)
    }

    /// Notes the capture that begins.
    fn enter(&mut self, segment: SegmentFacts<'_>) {
        self.chain.segments += 1;
        self.is_damaged = false;
        if segment.is_misnamed {
            self.chain.add_finding(Finding::Misnamed { name: segment.name.to_owned() });
        }
        let Some(header) = segment.header else {
            self.before = None;
            return;
        };
        let meta = &header.meta;
        self.wall.observe(meta.start);
        if self.since == MonoNs(0) {
            self.since = meta.start.mono;
        }
        self.before = Some(KnownSegment {
            name: segment.name.to_owned(),
            uuid: header.uuid,
            boot_id: meta.boot_id.clone(),
            machine_id: meta.machine_id.clone(),
            recorder: meta.recorder(),
        });
    }

    /// Compares the next header with the segment before it.
    fn connect(&mut self, before: &KnownSegment, is_clean: bool, name: &str, header: &Header) {
        let meta = &header.meta;
        let is_same_boot = meta.boot_id == before.boot_id;
        let is_next = meta.previous == Some(before.uuid);
        let segment = meta.segment.as_ref();
        if meta.machine_id != before.machine_id {
            self.chain.add_finding(Finding::OtherMachine { name: name.to_owned() });
            self.verifier.add_contradiction(Problem::OtherMachine);
        }
        if is_next
            && is_same_boot
            && let Some(segment) = segment.filter(|segment| segment.reason.is_continuous())
            && self.verifier.is_continued_at(segment)
            // Otherwise, events that were not written are absent, and their number is unknown.
            && (is_clean || self.verifier.has_numbers_before(&segment.positions))
        {
            let absent = self.verifier.divide(&segment.positions, meta.recorder());
            self.verifier.add_absent(absent);
            let finding = if !is_clean {
                Finding::Unclean { name: before.name.clone(), unwritten: Some(absent) }
            } else if absent > 0 {
                let (after, before) = (before.name.clone(), name.to_owned());
                Finding::Absent { after, before, events: absent, is_damaged: self.is_damaged }
            } else {
                return;
            };
            return self.chain.add_finding(finding);
        }
        let positions = segment.filter(|segment| segment.reason.is_continuous() && is_same_boot);
        let events = positions.and_then(|segment| self.verifier.events_until(&segment.positions));
        let is_missing = meta.previous.is_some() && !is_next;
        let is_overlap = is_same_boot && self.verifier.progress().0 > Some(meta.start.mono);
        if is_overlap {
            // Two processes that run at the same time have different ids.
            let is_repeated = before.recorder.is_some() && before.recorder == meta.recorder();
            let (after, before) = (before.name.clone(), name.to_owned());
            self.chain.add_finding(Finding::Overlap { after, before, is_repeated });
            let problem = if is_repeated { Problem::Repeated } else { Problem::Overlap };
            self.verifier.add_contradiction(problem);
        } else if is_missing {
            let (after, before) = (before.name.clone(), name.to_owned());
            self.chain.add_finding(Finding::Missing { after, before, events });
        }
        if !is_clean {
            self.chain.add_finding(Finding::Unclean { name: before.name.clone(), unwritten: None });
        }
        let reason = match (is_missing, is_clean) {
            (true, _) => UnobservedReason::Missing,
            (false, true) => UnobservedReason::Stopped,
            (false, false) => UnobservedReason::Killed,
        };
        let gap = Some((header, reason, events)).filter(|_| !is_overlap);
        self.break_off(is_clean, gap, header.byte_order, Some(is_same_boot));
        self.verifier.recorder = meta.recorder();
        if let Some(segment) = segment {
            self.verifier.begin_at(&segment.positions, meta.start.mono);
        }
    }

    /// Ends the segments that continue each other, and notes the gap before the next one.
    fn break_off(
        &mut self,
        is_clean: bool,
        gap: Option<(&Header, UnobservedReason, Option<u64>)>,
        order: ByteOrder,
        is_same_boot: Option<bool>,
    ) {
        self.is_sealed = is_clean;
        let (from, from_real) = self.close_run(Verifier::new(order, None));
        let Some((header, reason, events)) = gap else { return };
        let start = header.meta.start;
        let length_ns = match (is_same_boot, from_real) {
            (Some(true), _) => start.mono.0.saturating_sub(from.0),
            (_, Some(from)) => u64::try_from(start.real_ns.saturating_sub(from)).unwrap_or(0),
            _ => 0,
        };
        if is_same_boot == Some(false) {
            self.wall = WallClock::new();
        }
        self.since = start.mono;
        // The clocks of one capture after the other: nothing is known to lie between them.
        let span = Unobserved { from, until: MonoNs(from.0.saturating_add(length_ns)), reason };
        self.verifier.count(&Record::Unobserved(span));
        self.chain.add_span(Span {
            mono: (from, start.mono),
            real_ns: (from_real, Some(start.real_ns)),
            state: SpanState::Unobserved { reason, events },
        });
    }

    /// Adds the segments since the last gap to the report. Returns their end by both clocks.
    fn close_run(&mut self, next: Verifier) -> (MonoNs, Option<i64>) {
        let verifier = std::mem::replace(&mut self.verifier, next);
        let (now, _) = verifier.progress();
        let is_accounted = verifier.is_accounted;
        let mut report = verifier.finish(self.is_sealed);
        // Later captures do not make up for what an earlier one lacks.
        report.accounted_until = report.accounted_until.filter(|_| self.is_accounted);
        self.is_accounted &= is_accounted;
        let end = report.end.map(|end| end.time).max(now).unwrap_or(self.since).max(self.since);
        let lost = report.lost.total().saturating_add(report.absent);
        let ends = (self.since, end);
        let real_ns = (self.wall.at(ends.0), self.wall.at(ends.1));
        self.chain.add_span(Span { mono: ends, real_ns, state: SpanState::Observed { lost } });
        match &mut self.closed {
            Some(closed) => closed.merge(report),
            None => self.closed = Some(report),
        }
        self.since = MonoNs(0);
        (end, real_ns.1)
    }
}

#[cfg(test)]
mod tests;
