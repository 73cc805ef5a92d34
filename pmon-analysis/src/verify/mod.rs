//! How complete a capture is: counted anew from its events, and held against what the recorder says.

mod fork_check;

use std::fmt;

use pmon_core::accounting::{LossByCause, LossCause, MAX_CPUS};
use pmon_core::capture::{
    Blind, CpuCounts, Damage, DamageKind, End, Excluded, FencePosition, ForkReading, Loss, Record,
    RecordedDatagram, RingCounts, SelfGenerated, UnreachedCpu, UnreachedReason, Witness,
};
use pmon_core::wire::{ByteOrder, Event, EventBody, Message, messages};
use pmon_core::{Cpu, MonoNs, Seq, Tgid};

pub use fork_check::{ForkReport, MAX_SHORTFALLS, Shortfall};

/// Problems that are described; further ones are only counted.
pub const MAX_PROBLEMS: usize = 16;
/// Maximum number of blind spans that are compared with the fork counter.
const MAX_BLINDS: usize = 4096;

/// What a capture is worth, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Every event from its start to its end is in it.
    Complete,
    /// All but the events that it says were lost, or but what a CPU emitted that should have been heard and was not.
    Lossy,
    /// Some events are missing from times in which the kernel emitted none, or not all; everything
    /// else is as in [`Verdict::Lossy`].
    Blind,
    /// The recorder did not end cleanly: so it is up to some moment.
    Unsealed,
    /// Parts cannot be read, or contradict each other.
    Damaged,
}

impl Verdict {
    /// Its name in every interface of pmon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Lossy => "lossy",
            Self::Blind => "blind",
            Self::Unsealed => "unsealed",
            Self::Damaged => "damaged",
        }
    }
}

/// Two things in a capture that cannot both be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Numbers are missing, and no loss says so.
    Missing {
        /// The CPU that emitted them.
        cpu: Cpu,
        /// The first that is missing.
        first: Seq,
        /// How many.
        count: u64,
    },
    /// A number was passed before.
    Backwards {
        /// The CPU that it is of.
        cpu: Cpu,
        /// The number.
        seq: Seq,
    },
    /// The end counts otherwise.
    Total {
        /// What is counted.
        what: &'static str,
        /// What the end says.
        stated: u64,
        /// What is there.
        found: u64,
    },
    /// More is there than was counted elsewhere.
    Exceeds {
        /// What is counted.
        what: &'static str,
        /// What was counted.
        stated: u64,
        /// What is there.
        found: u64,
    },
    /// Of a CPU's numbers, others are missing than were left out.
    Excluded {
        /// The CPU that emitted them.
        cpu: Cpu,
        /// How many the recorder says that it left out.
        stated: u64,
        /// How many are missing, and not lost.
        found: u64,
    },
    /// The end counts the losses for a cause otherwise.
    Lost {
        /// The cause.
        cause: LossCause,
        /// What the end says.
        stated: u64,
        /// What is there.
        found: u64,
    },
    /// There are records behind the end.
    AfterEnd,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Missing { cpu, first, count } => {
                write!(f, "{count} missing on cpu {cpu} from seq {first} on, and no loss says so")
            }
            Self::Backwards { cpu, seq } => write!(f, "seq {seq} on cpu {cpu} comes after a later one"),
            Self::Total { what, stated, found } => {
                write!(f, "{what}: the end says {stated}, and there are {found}")
            }
            Self::Exceeds { what, stated, found } => {
                write!(f, "{what}: {found}, which is more than the {stated} that the ring counted")
            }
            Self::Excluded { cpu, stated, found } => {
                write!(f, "cpu {cpu}: {stated} are said to be left out, and {found} are missing and not lost")
            }
            Self::Lost { cause, stated, found } => {
                write!(f, "lost ({}): the end says {stated}, and there are {found}", cause.name())
            }
            Self::AfterEnd => f.write_str("records follow the end"),
        }
    }
}

/// What a [`Verifier`] found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Datagrams, without `self_generated`.
    pub events: u64,
    /// Datagrams that the recorder itself caused.
    pub self_generated: u64,
    /// Events lost, over all losses.
    pub lost: LossByCause,
    /// Stretches of consecutive events lost.
    pub intervals: u64,
    /// Events that are missing in the numbers, and of which no loss tells.
    pub missing: u64,
    /// What was recorded, if that was not everything.
    pub scope: Option<String>,
    /// Events that the recorder excluded by its filter.
    pub excluded: u64,
    /// What did not come by the ring, if there was one.
    pub ring: Option<RingCounts>,
    /// Total time in ns in which the kernel did not emit all events, as reported by the recorder.
    pub blind_ns: u64,
    /// Number of blind spans reported by the recorder.
    pub blinds: u64,
    /// Result of comparing the fork counter with the fork events.
    pub forks: ForkReport,
    /// Number of further blind spans, which the fork counter shows and the recorder does not
    /// report.
    pub unreported_blinds: u64,
    /// Total length in ns of the further blind spans.
    pub unreported_blind_ns: u64,
    /// CPUs that fences did not reach.
    pub unreached: Vec<(FencePosition, UnreachedCpu)>,
    /// The last counts of the two witnesses; `None` if the source did not count, or nothing was lost.
    pub witness: Option<Witness>,
    /// Datagrams in the capture from which not all could be read.
    pub malformed: u64,
    /// What the end says; `None` if there is none.
    pub end: Option<End>,
    /// Whether the recorder ended cleanly: the capture has its end, and is whole behind it.
    pub is_sealed: bool,
    /// The latest event before the first damage or contradiction: up to it, all that is missing is told. `None` if there is no
    /// event before.
    pub accounted_until: Option<MonoNs>,
    /// Parts that could not be used.
    pub damaged: u64,
    /// Bytes of them.
    pub damaged_bytes: u64,
    /// Records that are known to be missing with them.
    pub missing_records: u64,
    /// The first contradictions,
    pub problems: Vec<Problem>,
    /// and how many there are in all.
    pub problem_count: u64,
}

impl VerifyReport {
    /// The worst that applies.
    pub fn verdict(&self) -> Verdict {
        if self.damaged > 0 || self.problem_count > 0 {
            Verdict::Damaged
        } else if !self.is_sealed {
            Verdict::Unsealed
        } else if self.all_blinds() > 0 {
            Verdict::Blind
        } else if self.lost.total() > 0 || self.unexplained_drops() > 0 || self.silent_cpus().next().is_some()
        {
            Verdict::Lossy
        } else {
            Verdict::Complete
        }
    }

    /// Returns the number of all blind spans.
    pub fn all_blinds(&self) -> u64 {
        self.blinds.saturating_add(self.unreported_blinds)
    }

    /// Returns the total length in ns of all blind spans.
    pub fn all_blind_ns(&self) -> u64 {
        self.blind_ns.saturating_add(self.unreported_blind_ns)
    }

    /// CPUs that were asked to emit an event, of which none came: what else they emitted then is not known.
    pub fn silent_cpus(&self) -> impl Iterator<Item = (FencePosition, Cpu)> {
        let silent = self.unreached.iter().filter(|(_, unreached)| unreached.why == UnreachedReason::Silent);
        silent.map(|&(position, unreached)| (position, unreached.cpu))
    }

    /// Datagrams that the source dropped, of which the numbers tell nothing.
    pub fn unexplained_drops(&self) -> u64 {
        self.witness.map_or(0, |witness| witness.drops.saturating_sub(witness.gaps))
    }

    fn problem(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// The ring has counted `stated` of what `found` of are in the capture, which begins a little later.
    fn at_most(&mut self, what: &'static str, stated: u64, found: u64) {
        if found > stated {
            self.problem(Problem::Exceeds { what, stated, found });
        }
    }

    fn total(&mut self, what: &'static str, stated: u64, found: u64) {
        if stated != found {
            self.problem(Problem::Total { what, stated, found });
        }
    }
}

/// The numbers of one CPU.
#[derive(Clone, Copy, Debug)]
struct Chain {
    next: Seq,
    /// Time of the latest event.
    time: MonoNs,
    /// Whether the last of it was a loss.
    is_lost: bool,
    /// Numbers that are missing and not lost,
    absent: u64,
    /// and how many of them are known to be left out.
    excluded: u64,
}

/// Counts a capture anew. Feed it every record and every damage, in order.
///
/// It trusts no total: losses have to fill the gaps in the numbers exactly, and what the end says is compared.
#[derive(Clone, Debug)]
pub struct Verifier {
    order: ByteOrder,
    recorder: Option<Tgid>,
    cpus: Vec<Option<Chain>>,
    report: VerifyReport,
    now: Option<MonoNs>,
    /// Numbers that are missing and not lost, of which it is not known yet whether they were left out.
    absent: u64,
    /// Whether there was neither damage nor a contradiction yet.
    is_told: bool,
    forks: fork_check::ForkComparison,
    /// Blind spans reported by the recorder; only the first ones are kept.
    blinds: Vec<Blind>,
}

impl Verifier {
    /// A verifier of a capture whose datagrams are in `order`; events of the process `recorder` may be its own.
    pub fn new(order: ByteOrder, recorder: Option<Tgid>) -> Self {
        Self {
            order,
            recorder,
            cpus: Vec::new(),
            report: VerifyReport::default(),
            now: None,
            absent: 0,
            is_told: true,
            forks: fork_check::ForkComparison::default(),
            blinds: Vec::new(),
        }
    }

    /// Takes the next record.
    #[inline]
    pub fn count(&mut self, record: &Record<'_>) {
        if self.report.end.is_some() {
            return self.report.problem(Problem::AfterEnd);
        }
        match record {
            Record::Event(frame, _) => self.count_frame(frame),
            Record::Loss(loss) => self.count_loss(loss),
            Record::Blind(blind) => {
                self.report.blinds += 1;
                self.report.blind_ns = self.report.blind_ns.saturating_add(blind.length_ns());
                if self.blinds.len() < MAX_BLINDS {
                    self.blinds.push(*blind);
                }
            }
            Record::Forks(ForkReading::Counted(count)) => {
                let last = self.cpus.iter().map(|chain| chain.as_ref().map(|chain| chain.time));
                self.forks.read(*count, last);
            }
            Record::Forks(ForkReading::Absent { why }) => self.forks.absent(why),
            Record::Fence(fence) => {
                let room = (2 * MAX_CPUS as usize).saturating_sub(self.report.unreached.len());
                let unreached = fence.unreached.iter().map(|&unreached| (fence.position, unreached));
                self.report.unreached.extend(unreached.take(room));
            }
            Record::Witness(witness) => self.report.witness = Some(*witness),
            Record::Scope(scope) => {
                self.report.scope = Some(scope.text.clone());
                self.forks.partial();
            }
            Record::Excluded(excluded) => self.count_left_out(excluded),
            Record::Ring(counts) => self.report.ring = Some(counts.clone()),
            Record::End(end) => self.end(end),
            _ => {}
        }
    }

    /// Takes a part that could not be used.
    pub fn damage(&mut self, damage: &Damage) {
        self.is_told &= matches!(damage.what, DamageKind::Header);
        self.report.damaged += 1;
        self.report.damaged_bytes = self.report.damaged_bytes.saturating_add(damage.bytes);
        if let DamageKind::Missing { records } = damage.what {
            self.report.missing_records = self.report.missing_records.saturating_add(records);
        }
    }

    /// What was found, in a capture whose recorder ended cleanly or did not: a [`pmon_core::capture::Reader`] knows.
    pub fn finish(mut self, is_sealed: bool) -> VerifyReport {
        self.report.is_sealed = is_sealed && self.report.end.is_some();
        // In a damaged capture, missing forks do not prove blindness.
        if self.report.damaged == 0 {
            self.compare_forks();
        }
        self.report
    }

    /// Compares the fork counter with the fork events, beyond the spans that the recorder reports.
    fn compare_forks(&mut self) {
        let excluded = self.cpus.iter().flatten().map(|chain| chain.absent).fold(0, u64::saturating_add);
        self.report.forks = self.forks.finish(excluded);
        let forks = &self.report.forks;
        let is_told = |shortfall: &&Shortfall| {
            self.blinds.iter().any(|blind| blind.from <= shortfall.until && shortfall.from <= blind.until)
        };
        let untold: Vec<_> = forks.shortfalls.iter().filter(|shortfall| !is_told(shortfall)).collect();
        self.report.unreported_blinds = untold.len() as u64;
        let lengths = untold.iter().map(|shortfall| shortfall.until.0.saturating_sub(shortfall.from.0));
        self.report.unreported_blind_ns = lengths.fold(0, u64::saturating_add);
    }

    fn count_frame(&mut self, frame: &RecordedDatagram<'_>) {
        let bytes = match frame {
            RecordedDatagram::Event(event) => {
                let is_own =
                    self.recorder.is_some_and(|recorder| SelfGenerated::of(event, recorder).is_some());
                *(if is_own { &mut self.report.self_generated } else { &mut self.report.events }) += 1;
                return self.count_event(event);
            }
            RecordedDatagram::Raw(bytes) => bytes,
        };
        self.report.events += 1;
        self.report.malformed += u64::from(frame.is_malformed(self.order));
        for message in messages(bytes, self.order) {
            if let Ok(Message::Event(event)) = message {
                self.count_event(&event);
            }
        }
    }

    fn count_event(&mut self, event: &Event) {
        self.take(event.cpu, event.seq, event.seq, Some(event.time));
        if let EventBody::Fork { .. } = event.body {
            self.forks.fork(event.time);
        }
        self.forks.event(event.cpu, event.time);
        self.now = self.now.max(Some(event.time));
        self.tell();
    }

    /// All that is missing until now is told of, if it is.
    #[inline]
    fn tell(&mut self) {
        if self.is_told && self.absent == 0 {
            self.report.accounted_until = self.now;
        }
    }

    fn count_left_out(&mut self, excluded: &Excluded) {
        let Some(chain) = self.slot(excluded.cpu).and_then(Option::as_mut) else {
            return self.contradicted(Problem::Excluded {
                cpu: excluded.cpu,
                stated: excluded.count,
                found: 0,
            });
        };
        let (absent, known) = (chain.absent, std::mem::replace(&mut chain.excluded, excluded.count));
        let is_last = chain.next == excluded.last.next();
        if absent != excluded.count || known > excluded.count || !is_last {
            let (cpu, stated) = (excluded.cpu, excluded.count);
            return self.contradicted(Problem::Excluded { cpu, stated, found: absent });
        }
        self.report.excluded += excluded.count - known;
        self.absent -= excluded.count - known;
        self.tell();
    }

    fn contradicted(&mut self, problem: Problem) {
        self.is_told = false;
        self.report.problem(problem);
    }

    fn count_loss(&mut self, loss: &Loss) {
        let continues = self
            .slot(loss.cpu)
            .is_some_and(|slot| slot.is_some_and(|chain| chain.is_lost && chain.next == loss.first));
        self.report.intervals += u64::from(!continues);
        self.report.lost.add(loss.cause, loss.count());
        self.forks.lose(loss.after, loss.before, loss.count());
        self.take(loss.cpu, loss.first, loss.last, None);
    }

    /// Accounts for the sequence numbers from `first` to `last` on a CPU: an event if `at` is its
    /// time, a loss otherwise.
    #[inline]
    fn take(&mut self, cpu: Cpu, first: Seq, last: Seq, at: Option<MonoNs>) {
        let is_lost = at.is_none();
        let is_partial = self.report.scope.is_some();
        let Some(slot) = self.slot(cpu) else { return };
        let Some(before) = *slot else {
            let time = at.unwrap_or_default();
            *slot = Some(Chain { next: last.next(), time, is_lost, absent: 0, excluded: 0 });
            return;
        };
        let count = first.0.wrapping_sub(before.next.0);
        let time = at.map_or(before.time, |at| at.max(before.time));
        *slot = Some(Chain { next: last.next(), time, is_lost, ..before });
        if count == 0 {
            return;
        }
        if count > i32::MAX as u32 {
            *slot = Some(before);
            self.is_told = false;
            return self.report.problem(Problem::Backwards { cpu, seq: first });
        }
        let count = u64::from(count);
        if is_partial {
            *slot = Some(Chain { next: last.next(), time, is_lost, absent: before.absent + count, ..before });
            self.absent += count;
            return;
        }
        self.is_told = false;
        self.report.missing += count;
        self.report.problem(Problem::Missing { cpu, first: before.next, count });
    }

    #[inline]
    fn slot(&mut self, cpu: Cpu) -> Option<&mut Option<Chain>> {
        let index = cpu.0 as usize;
        if index >= self.cpus.len() && cpu.0 < MAX_CPUS {
            self.cpus.resize(index + 1, None);
        }
        self.cpus.get_mut(index)
    }

    /// At the end, what is missing is left out or lost.
    fn end_chains(&mut self) {
        let chains = self.cpus.iter().enumerate().filter_map(|(cpu, chain)| Some((cpu, chain.as_ref()?)));
        for (cpu, chain) in chains.filter(|(_, chain)| chain.absent > chain.excluded) {
            let (cpu, stated, found) = (Cpu(cpu as u32), chain.excluded, chain.absent);
            self.report.missing += found - stated;
            self.report.problem(Problem::Excluded { cpu, stated, found });
        }
    }

    fn end(&mut self, end: &End) {
        self.end_chains();
        let report = &mut self.report;
        report.total("events", end.events, report.events + report.self_generated);
        for cause in LossCause::ALL {
            let (stated, found) = (end.lost.of(cause), report.lost.of(cause));
            if stated != found {
                report.problem(Problem::Lost { cause, stated, found });
            }
        }
        report.total("blind ns", end.blind_ns, report.blind_ns);
        // Of those that were dropped for want of room, nothing else tells.
        if report.malformed > end.malformed {
            report.total("malformed datagrams", end.malformed, report.malformed);
        }
        if let Some(drops) = end.drops {
            let witness = report.witness.unwrap_or_default();
            report.total("drops of the source", drops, witness.drops);
            report.total("gaps for them", witness.gaps, report.lost.in_source());
        }
        if let Some(ring) = &report.ring {
            let sum = |count: fn(&CpuCounts) -> u64| ring.cpus.iter().map(count).fold(0, u64::saturating_add);
            let (spilled, dropped) = (sum(|cpu| cpu.spilled), sum(|cpu| cpu.dropped));
            let excluded = sum(|cpu| cpu.excluded);
            report.at_most("lost because the ring was full", dropped, report.lost.of(LossCause::Ring));
            report.at_most("lost in the socket", spilled, report.lost.of(LossCause::Socket));
            report.at_most("left out", excluded, report.excluded);
        }
        report.end = Some(*end);
    }
}

#[cfg(test)]
mod tests;
