//! Checks a capture for completeness: recounts its events, and compares the counts with those of
//! the recorder.

mod chain;
mod division;
mod fork_check;
mod problem;
mod report;

use pmon_core::accounting::{LossCause, MAX_CPUS};
use pmon_core::capture::{
    Blind, CpuCounts, CpuPosition, Damage, DamageKind, End, Excluded, FencePosition, ForkReading, Loss,
    Record, RecordedDatagram, SelfGenerated, Unobserved, UnreachedReason,
};
use pmon_core::wire::{ByteOrder, Event, EventBody, Message, messages};
use pmon_core::{Cpu, MonoNs, Seq, Tgid};

pub use chain::{
    ChainReport, ChainVerifier, Finding, MAX_FINDINGS, MAX_SPANS, SegmentFacts, Span, SpanState,
};
use division::SegmentBase;
use fork_check::ForkComparison;
pub use fork_check::{ForkReport, MAX_SHORTFALLS, Shortfall};
pub use problem::Problem;
pub use report::{MAX_PROBLEMS, Verdict, VerifyReport};

/// Maximum number of blind spans that are compared with the fork counter.
const MAX_BLINDS: usize = 4096;

/// State of one CPU's sequence numbers.
#[derive(Clone, Copy, Debug)]
struct CpuSequence {
    /// Next expected number.
    next: Seq,
    /// Time of the latest event.
    time: MonoNs,
    /// Whether the latest numbers were lost.
    is_lost: bool,
    /// Number of numbers that are missing and not lost.
    absent: u64,
    /// Number of events that the recorder reports as excluded.
    excluded: u64,
}

/// Checks a capture for completeness. Apply every record and every damage in capture order.
///
/// The verifier trusts no total of the recorder: losses must fill the gaps in the sequence numbers
/// exactly, and the totals in the end record must match the records.
#[derive(Clone, Debug)]
pub struct Verifier {
    order: ByteOrder,
    recorder: Option<Tgid>,
    cpus: Vec<Option<CpuSequence>>,
    report: VerifyReport,
    now: Option<MonoNs>,
    /// Number of numbers, over all CPUs, that are missing, not lost, and not yet known to be
    /// excluded.
    absent: u64,
    /// Whether no damage and no contradiction has occurred yet.
    is_accounted: bool,
    forks: ForkComparison,
    /// The first blind spans reported by the recorder, at most [`MAX_BLINDS`].
    blinds: Vec<Blind>,
    /// Time of the positions at which the capture begins; zero without positions.
    began_at: MonoNs,
    /// Whether the segment continues another one, so that its first events are known.
    is_continued: bool,
    /// Whether the next number of every CPU is known: a fence made each one emit an event, or the
    /// recording began at positions.
    has_all_cpus: bool,
    /// Totals of the earlier segments.
    base: SegmentBase,
}

impl Verifier {
    /// Creates a verifier for a capture whose datagrams have the byte order `order`. `recorder` is
    /// the process whose self-generated events are counted separately.
    pub fn new(order: ByteOrder, recorder: Option<Tgid>) -> Self {
        Self {
            order,
            recorder,
            cpus: Vec::new(),
            report: VerifyReport::default(),
            now: None,
            absent: 0,
            is_accounted: true,
            forks: ForkComparison::default(),
            blinds: Vec::new(),
            began_at: MonoNs(0),
            is_continued: false,
            has_all_cpus: false,
            base: SegmentBase::default(),
        }
    }

    /// Applies the next record.
    #[inline]
    pub fn count(&mut self, record: &Record<'_>) {
        if self.report.end.is_some() {
            return self.report.add_problem(Problem::AfterEnd);
        }
        match record {
            Record::Event(datagram, _) => self.count_datagram(datagram),
            Record::Loss(loss) => self.count_loss(loss),
            Record::Blind(blind) => {
                self.report.blinds += 1;
                self.report.blind_ns = self.report.blind_ns.saturating_add(blind.length_ns());
                if self.blinds.len() < MAX_BLINDS {
                    self.blinds.push(*blind);
                }
            }
            Record::Unobserved(span) => {
                self.report.unobserved += 1;
                self.report.unobserved_ns = self.report.unobserved_ns.saturating_add(span.length_ns());
                self.report.unobserved_reason.get_or_insert(span.reason);
                self.interrupt(span);
            }
            Record::Forks(ForkReading::Counted(count)) => {
                let last = self.cpus.iter().map(|cpu| cpu.as_ref().map(|cpu| cpu.time));
                self.forks.add_reading(*count, last);
            }
            Record::Forks(ForkReading::Absent { why }) => self.forks.set_absent(why),
            Record::Fence(fence) => {
                self.has_all_cpus = true;
                let room = (2 * MAX_CPUS as usize).saturating_sub(self.report.unreached.len());
                // The positions show what a silent CPU emitted before.
                let is_known = self.is_continued && fence.position == FencePosition::Start;
                let unreached =
                    fence.unreached.iter().filter(|cpu| !is_known || cpu.why != UnreachedReason::Silent);
                let unreached = unreached.map(|&unreached| (fence.position, unreached));
                self.report.unreached.extend(unreached.take(room));
            }
            Record::Witness(witness) => self.report.witness = Some(*witness),
            Record::Scope(scope) => {
                self.report.scope = Some(scope.text.clone());
                self.forks.set_partial();
            }
            Record::Excluded(excluded) => self.count_excluded(excluded),
            Record::Ring(counts) => self.report.ring = Some(counts.clone()),
            Record::End(end) => self.check_end(end),
            _ => {}
        }
    }

    /// Applies an unreadable part of the capture.
    pub fn damage(&mut self, damage: &Damage) {
        self.is_accounted &= matches!(damage.what, DamageKind::Header);
        self.report.damaged += 1;
        self.report.damaged_bytes = self.report.damaged_bytes.saturating_add(damage.bytes);
        if let DamageKind::Missing { records } = damage.what {
            self.report.missing_records = self.report.missing_records.saturating_add(records);
        }
    }

    /// Finishes the verification. `is_sealed` states whether the recorder ended cleanly, according
    /// to the [`pmon_core::capture::Reader`].
    pub fn finish(mut self, is_sealed: bool) -> VerifyReport {
        self.report.is_sealed = is_sealed && self.report.end.is_some();
        self.base.add_to(&mut self.report);
        // In a damaged capture, missing forks do not prove blindness.
        if self.report.damaged == 0 {
            self.compare_forks();
        }
        self.report
    }

    /// Compares the fork counter with the fork events, beyond the spans that the recorder reports.
    fn compare_forks(&mut self) {
        let excluded =
            self.cpus.iter().flatten().map(|cpu| cpu.absent).fold(self.base.absent, u64::saturating_add);
        self.report.forks = self.forks.finish(excluded);
        let forks = &self.report.forks;
        let is_reported = |shortfall: &&Shortfall| {
            self.blinds.iter().any(|blind| blind.from <= shortfall.until && shortfall.from <= blind.until)
        };
        let unreported: Vec<_> =
            forks.shortfalls.iter().filter(|shortfall| !is_reported(shortfall)).collect();
        self.report.unreported_blinds = unreported.len() as u64;
        let lengths = unreported.iter().map(|shortfall| shortfall.until.0.saturating_sub(shortfall.from.0));
        self.report.unreported_blind_ns = lengths.fold(0, u64::saturating_add);
    }

    fn count_datagram(&mut self, datagram: &RecordedDatagram<'_>) {
        let bytes = match datagram {
            RecordedDatagram::Event(event) => {
                let is_own =
                    self.recorder.is_some_and(|recorder| SelfGenerated::of(event, recorder).is_some());
                *(if is_own { &mut self.report.self_generated } else { &mut self.report.events }) += 1;
                return self.count_event(event);
            }
            RecordedDatagram::Raw(bytes) => bytes,
        };
        self.report.events += 1;
        self.report.malformed += u64::from(datagram.is_malformed(self.order));
        for message in messages(bytes, self.order) {
            if let Ok(Message::Event(event)) = message {
                self.count_event(&event);
            }
        }
    }

    fn count_event(&mut self, event: &Event) {
        self.count_numbers(event.cpu, event.seq, event.seq, Some(event.time));
        if let EventBody::Fork { .. } = event.body {
            self.forks.add_fork(event.time);
        }
        self.forks.add_event(event.cpu, event.time);
        self.now = self.now.max(Some(event.time));
        self.update_accounted_until();
    }

    /// Extends the accounted time to the latest event, if no missing number is unexplained.
    #[inline]
    fn update_accounted_until(&mut self) {
        if self.is_accounted && self.absent == 0 {
            self.report.accounted_until = self.now;
        }
    }

    fn count_excluded(&mut self, excluded: &Excluded) {
        let Some(sequence) = self.sequence(excluded.cpu).and_then(Option::as_mut) else {
            let (cpu, stated) = (excluded.cpu, excluded.count);
            return self.contradiction(Problem::Excluded { cpu, stated, found: 0 });
        };
        // An excerpt can end after the last event that is in its scope.
        let ahead = u64::from(excluded.last.next().0.wrapping_sub(sequence.next.0));
        let is_ahead = ahead <= i32::MAX as u64;
        if is_ahead {
            sequence.next = excluded.last.next();
            sequence.absent += ahead;
        }
        let (absent, known) = (sequence.absent, std::mem::replace(&mut sequence.excluded, excluded.count));
        self.absent += if is_ahead { ahead } else { 0 };
        if absent != excluded.count || known > excluded.count || !is_ahead {
            let (cpu, stated) = (excluded.cpu, excluded.count);
            return self.contradiction(Problem::Excluded { cpu, stated, found: absent });
        }
        self.report.excluded += excluded.count - known;
        self.absent -= excluded.count - known;
        self.update_accounted_until();
    }

    fn contradiction(&mut self, problem: Problem) {
        self.is_accounted = false;
        self.report.add_problem(problem);
    }

    fn count_loss(&mut self, loss: &Loss) {
        let continues = self.sequence(loss.cpu).is_some_and(|sequence| {
            sequence.is_some_and(|sequence| sequence.is_lost && sequence.next == loss.first)
        });
        self.report.intervals += u64::from(!continues);
        self.report.lost.add(loss.cause, loss.count());
        self.forks.add_loss(loss.after, loss.before, loss.count());
        self.count_numbers(loss.cpu, loss.first, loss.last, None);
    }

    /// Accounts for the sequence numbers from `first` to `last` on a CPU: an event if `at` is its
    /// time, a loss otherwise.
    #[inline]
    fn count_numbers(&mut self, cpu: Cpu, first: Seq, last: Seq, at: Option<MonoNs>) {
        let is_lost = at.is_none();
        let is_partial = self.report.scope.is_some();
        let Some(sequence) = self.sequence(cpu) else { return };
        let Some(before) = *sequence else {
            let time = at.unwrap_or_default();
            *sequence = Some(CpuSequence { next: last.next(), time, is_lost, absent: 0, excluded: 0 });
            return;
        };
        let count = first.0.wrapping_sub(before.next.0);
        if count > i32::MAX as u32 {
            return self.contradiction(Problem::Backwards { cpu, seq: first });
        }
        let count = u64::from(count);
        let time = at.map_or(before.time, |at| at.max(before.time));
        let absent = if is_partial { before.absent + count } else { before.absent };
        *sequence = Some(CpuSequence { next: last.next(), time, is_lost, absent, ..before });
        if is_partial {
            self.absent += count;
        } else if count > 0 {
            self.report.missing += count;
            self.contradiction(Problem::Missing { cpu, first: before.next, count });
        }
    }

    #[inline]
    fn sequence(&mut self, cpu: Cpu) -> Option<&mut Option<CpuSequence>> {
        let index = cpu.0 as usize;
        if index >= self.cpus.len() && cpu.0 < MAX_CPUS {
            self.cpus.resize(index + 1, None);
        }
        self.cpus.get_mut(index)
    }

    /// Continues after a time without events: the numbers before and after it are unrelated.
    fn interrupt(&mut self, span: &Unobserved) {
        let has_numbers = self.cpus.iter().any(Option::is_some);
        if self.now.is_none() && !has_numbers && !self.forks.has_readings() {
            // Nothing has been counted yet.
            return;
        }
        // An excerpt of which no source covers the beginning has the positions of the first source,
        // which begins after the span.
        if self.now.is_none() && span.until <= self.began_at {
            return;
        }
        self.check_absent();
        self.cpus.clear();
        self.absent = 0;
        self.forks.interrupt();
    }

    /// Checks that every missing number is lost or excluded.
    fn check_absent(&mut self) {
        let cpus = self.cpus.iter().enumerate().filter_map(|(cpu, sequence)| Some((cpu, sequence.as_ref()?)));
        for (cpu, sequence) in cpus.filter(|(_, sequence)| sequence.absent > sequence.excluded) {
            let (cpu, stated, found) = (Cpu(cpu as u32), sequence.excluded, sequence.absent);
            self.report.missing += found - stated;
            self.report.add_problem(Problem::Excluded { cpu, stated, found });
        }
    }

    /// Compares the totals in the end record with the records.
    fn check_end(&mut self, end: &End) {
        self.check_absent();
        let (report, base) = (&mut self.report, &self.base);
        report.check_total("events", end.events, report.events + report.self_generated - base.events);
        for cause in LossCause::ALL {
            let (stated, found) = (end.lost.of(cause), report.lost.of(cause) - base.lost.of(cause));
            if stated != found {
                report.add_problem(Problem::Lost { cause, stated, found });
            }
        }
        report.check_total("blind ns", end.blind_ns, report.blind_ns.saturating_sub(base.blind_ns));
        // The end record also counts malformed datagrams that the recorder dropped for lack of
        // memory, and no other record does.
        let malformed = report.malformed - base.malformed;
        if malformed > end.malformed {
            report.check_total("malformed datagrams", end.malformed, malformed);
        }
        if let Some(drops) = end.drops {
            let witness = report.witness.unwrap_or_default();
            report.check_total("drops of the source", drops, witness.drops);
            let gaps = report.lost.in_source().saturating_sub(base.lost.in_source());
            report.check_total("gaps for them", witness.gaps, gaps);
        }
        if let Some(ring) = &report.ring {
            let sum = |count: fn(&CpuCounts) -> u64| ring.cpus.iter().map(count).fold(0, u64::saturating_add);
            let (spilled, dropped) = (sum(|cpu| cpu.spilled), sum(|cpu| cpu.dropped));
            let excluded = sum(|cpu| cpu.excluded);
            let lost = |cause| report.lost.of(cause) - base.lost.of(cause);
            let (in_ring, in_socket) = (lost(LossCause::Ring), lost(LossCause::Socket));
            let left_out = report.excluded - base.excluded;
            report.check_maximum("lost because the ring was full", dropped, in_ring);
            report.check_maximum("lost in the socket", spilled, in_socket);
            report.check_maximum("left out", excluded, left_out);
        }
        report.end = Some(*end);
    }
}

#[cfg(test)]
mod tests;
