//! Decides for each record of a capture whether it is in the range and shown, and lets it happen.

use std::collections::{BTreeMap, VecDeque};

use pmon_analysis::{Filter, OwnedRecord, ProcessTable, WallClock};
use pmon_core::accounting::{LossCause, MAX_CPUS};
use pmon_core::capture::{Blind, DetailsSubject, Loss, Record, Usage};
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use pmon_fake::{EventFeed, EventProcess};

use super::loader::{LoadedQueue, LoadedRecord, ProcessTracking};

/// Maximum difference in ns between events of different CPUs that arrive out of order.
const INVERSION_NS: u64 = 1_000_000_000;

/// What happened in a step of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// An event happened.
    Event(Event),
    /// A datagram without a readable event was delivered.
    Datagram,
    /// Events were lost.
    Loss(Loss),
    /// A blind span ended.
    Blind(Blind),
    /// Another record was passed on: see [`Replay::pass_records`](crate::Replay::pass_records).
    Other,
}

/// A record other than an event, in its place between the events. See
/// [`Replay::pass_records`](crate::Replay::pass_records).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassedRecord {
    /// An unchanged record: details, a snapshot, clocks, a fence, or the recorded scope.
    Record(Box<Record<'static>>),
    /// A blind span.
    Blind(Blind),
    /// A loss, for a recorder that counts losses itself. The kernel did not drop the events that
    /// the original recorder had no room for ([`LossCause::Backpressure`]), so the fake kernel's
    /// drop counter does not include them.
    Loss(Loss),
}

/// The resource usage at an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitUsage {
    /// Time of the exit event.
    pub time: MonoNs,
    /// Task that exited.
    pub task: Task,
    /// Resource usage of the task or process.
    pub usage: Box<Usage>,
}

/// The range of a replay, and its progress.
#[derive(Default)]
pub(crate) struct Player {
    pub(crate) from: Option<MonoNs>,
    pub(crate) until: Option<MonoNs>,
    pub(crate) now: MonoNs,
    /// CPU and sequence number before the first event.
    pub(crate) before: (Cpu, Seq),
    /// Whether the range has begun.
    has_begun: bool,
    /// Whether an event was shown.
    has_shown: bool,
    pub(crate) has_ended: bool,
    /// Next sequence number of each CPU, if the capture excludes events. Numbers that are missing
    /// and not lost belong to excluded events.
    excluded: Option<BTreeMap<Cpu, u32>>,
    /// Records to pass on, if requested.
    pub(crate) passed: Option<VecDeque<PassedRecord>>,
    pub(crate) usages: Vec<ExitUsage>,
    /// Records about processes, if requested, including those before the range and hidden ones.
    pub(crate) process_records: Option<Vec<OwnedRecord>>,
}

impl Player {
    /// Lets the next loaded record happen, if it is in the range and shown.
    pub(crate) fn play(
        &mut self,
        loaded: &mut LoadedQueue,
        tracking: Option<&mut ProcessTracking>,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        let event = loaded.event();
        let played = match (loaded.first()?, event) {
            (LoadedRecord::Events(_), event) => {
                event.and_then(|event| self.event(&event, None, EventProcess::default(), feed))
            }
            (LoadedRecord::Exit(event, usage), _) => {
                self.event(event, Some(usage), EventProcess::default(), feed)
            }
            (LoadedRecord::Raw(bytes), _) => self.raw(bytes, EventProcess::default(), feed),
            (LoadedRecord::Loss(loss), _) => self.loss(*loss, feed),
            (LoadedRecord::Blind(blind), _) => self.blind(*blind),
            (LoadedRecord::Other(record), _) => {
                self.pass(std::mem::replace(&mut **record, Record::Unknown { kind: 0 }))
            }
            (LoadedRecord::Recorder(recorder), _) => {
                if let Some(tracking) = tracking {
                    tracking.filter.hide_self_generated = *recorder;
                }
                None
            }
            (LoadedRecord::Tracked(record), _) => {
                let record = std::mem::replace(record, OwnedRecord::Unknown { kind: 0 });
                self.play_tracked(record, tracking, feed)
            }
        };
        loaded.advance();
        played
    }

    fn event(
        &mut self,
        event: &Event,
        usage: Option<&mut Box<Usage>>,
        process: EventProcess<'_>,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        if !self.advance_to(event.time) {
            return None;
        }
        self.omit_excluded(event, feed);
        let is_emitted = feed.emit_of(event, process);
        if let (Some(usage), Some(_), Some(task), true) = (usage, &self.passed, event.task(), is_emitted) {
            let usage = std::mem::take(usage);
            self.usages.push(ExitUsage { time: event.time, task, usage });
        }
        Some(StepResult::Event(*event))
    }

    /// Advances to an event. Returns whether the event is in the range; if so, omits the sequence
    /// numbers of excluded events before it.
    #[inline]
    pub(crate) fn advance_to_event(
        &mut self,
        datagram: &[u8; EVENT_DATAGRAM_LEN],
        feed: &mut EventFeed<'_>,
    ) -> bool {
        if self.from.is_none() && self.until.is_none() && self.excluded.is_none() {
            return true;
        }
        let Ok(event) = Event::decode(datagram, ByteOrder::NATIVE) else { return true };
        let is_in_range = self.advance_to(event.time);
        if is_in_range {
            self.omit_excluded(&event, feed);
        }
        is_in_range
    }

    fn raw(
        &mut self,
        bytes: &[u8],
        process: EventProcess<'_>,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        let event = Event::decode(bytes, ByteOrder::NATIVE).ok();
        if !self.advance_to(event.map_or(self.now, |event| event.time)) {
            return None;
        }
        if let Some(event) = &event {
            self.omit_excluded(event, feed);
        }
        feed.emit_datagram_of(bytes, process);
        Some(event.map_or(StepResult::Datagram, StepResult::Event))
    }

    fn loss(&mut self, loss: Loss, feed: &mut EventFeed<'_>) -> Option<StepResult> {
        if self.is_before(loss.before) || self.until.is_some_and(|until| loss.after > until) {
            return None;
        }
        self.has_begun = true;
        if let Some(next) = self.excluded.as_mut().and_then(|next| next.get_mut(&loss.cpu)) {
            *next = next.wrapping_add(loss.count() as u32);
        }
        let is_dropped = match loss.cause {
            LossCause::KernelMemory => false,
            LossCause::Backpressure => self.passed.is_none(),
            _ => true,
        };
        if is_dropped {
            feed.drop_datagrams(loss.count());
        }
        if let Some(passed) = &mut self.passed {
            passed.push_back(PassedRecord::Loss(loss));
        }
        Some(StepResult::Loss(loss))
    }

    fn blind(&mut self, blind: Blind) -> Option<StepResult> {
        if self.is_before(blind.until) {
            return None;
        }
        if let Some(passed) = &mut self.passed {
            passed.push_back(PassedRecord::Blind(blind));
        }
        Some(StepResult::Blind(blind))
    }

    pub(crate) fn pass(&mut self, record: Record<'static>) -> Option<StepResult> {
        if let Record::Scope(_) = record {
            self.excluded.get_or_insert_default();
        }
        if let Record::End(end) = &record
            && self.until.is_none()
        {
            self.now = self.now.max(end.time);
        }
        if !self.is_in_range(&record) {
            return None;
        }
        // The new recorder writes these counts itself.
        let is_recounted = matches!(
            record,
            Record::End(_)
                | Record::Witness(_)
                | Record::Excluded(_)
                | Record::Ring(_)
                | Record::Unknown { .. }
        );
        if let (Some(passed), false) = (&mut self.passed, is_recounted) {
            passed.push_back(PassedRecord::Record(Box::new(record)));
            return Some(StepResult::Other);
        }
        None
    }

    /// Returns whether a record other than an event belongs to the range. Records before the range
    /// are not passed on.
    fn is_in_range(&self, record: &Record<'_>) -> bool {
        let contains = |time: MonoNs| !self.is_before(time) && self.until.is_none_or(|until| time <= until);
        match record {
            Record::Scope(_) => true,
            Record::Details(details) => match details.subject {
                DetailsSubject::Exec { time, .. } => contains(time),
                _ => self.has_begun || self.from.is_none(),
            },
            _ => self.has_begun || self.from.is_none(),
        }
    }

    fn play_tracked(
        &mut self,
        mut record: OwnedRecord,
        tracking: Option<&mut ProcessTracking>,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        let ProcessTracking { processes, follows_processes, filter, wall, .. } = tracking?;
        if *follows_processes {
            processes.apply(&record);
        }
        filter.observe(&record);
        let played = self.play_filtered(&mut record, processes, filter, wall, feed);
        self.keep_process_record(record);
        played
    }

    /// Lets a record happen that is already applied to `processes` and observed by `filter`.
    fn play_filtered(
        &mut self,
        record: &mut OwnedRecord,
        processes: &ProcessTable,
        filter: &Filter,
        wall: &mut WallClock,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        match record {
            OwnedRecord::Event(item) => {
                let is_shown = filter.matches(item.event.as_ref(), processes, wall);
                // The first event that the recorder received is the acknowledgement of its
                // subscription. The consumer that takes its place receives its own one.
                let is_first = is_shown && !std::mem::replace(&mut self.has_shown, true);
                let is_ack = |event: &Event| matches!(event.body, EventBody::Ack { .. });
                let is_own = is_first
                    && filter.hide_self_generated.is_some()
                    && item.event.as_ref().is_some_and(is_ack);
                if !is_shown || is_own {
                    self.hide(item.event.as_ref()?, feed);
                    return None;
                }
                let process = match item.event {
                    Some(event) if feed.needs_processes() => known_process(&event, processes),
                    _ => EventProcess::default(),
                };
                let played = match (&item.event, &item.raw) {
                    (_, Some(bytes)) => self.raw(bytes, process, feed),
                    (Some(event), None) => self.event(event, item.usage.as_mut(), process, feed),
                    (None, None) => None,
                };
                if self.passed.is_some()
                    && played.is_some()
                    && let Some(details) = item.details.take()
                {
                    self.pass(Record::Details(details));
                }
                played
            }
            OwnedRecord::Loss(loss) => self.loss(*loss, feed),
            OwnedRecord::Blind(blind) => self.blind(*blind),
            OwnedRecord::Clock(anchor) => {
                wall.observe(*anchor);
                self.pass(Record::Clock(*anchor))
            }
            OwnedRecord::Snapshot(snapshot) => self.pass(Record::Snapshot(*snapshot)),
            OwnedRecord::Details(details) if self.passed.is_some() => {
                self.pass(Record::Details(details.clone()))
            }
            _ => None,
        }
    }

    /// Keeps a record about processes if requested, unless it happens after the range.
    fn keep_process_record(&mut self, record: OwnedRecord) {
        let Some(records) = &mut self.process_records else { return };
        let time = match &record {
            OwnedRecord::Event(item) => item.event.map(|event| event.time),
            OwnedRecord::Details(_) | OwnedRecord::Snapshot(_) | OwnedRecord::Clock(_) => None,
            _ => return,
        };
        let is_after = time.zip(self.until).is_some_and(|(time, until)| time > until);
        if !is_after {
            records.push(record);
        }
    }

    /// Omits an event that the filter hides, together with its sequence number.
    fn hide(&mut self, event: &Event, feed: &mut EventFeed<'_>) {
        if self.advance_to(event.time) {
            self.omit_excluded(event, feed);
            feed.omit(event.cpu, 1);
        }
    }

    pub(crate) fn is_before(&self, time: MonoNs) -> bool {
        self.from.is_some_and(|from| time < from)
    }

    /// Advances to a time. Returns whether the time is in the range.
    #[inline]
    fn advance_to(&mut self, time: MonoNs) -> bool {
        if let Some(until) = self.until
            && time > until
        {
            self.has_ended |= time.0 - until.0 > INVERSION_NS;
            return false;
        }
        self.now = self.now.max(time);
        self.has_begun |= !self.is_before(time);
        !self.is_before(time)
    }

    /// Omits the sequence numbers of excluded events: those between an event and the one before it
    /// on its CPU, except the lost ones.
    #[inline]
    fn omit_excluded(&mut self, event: &Event, feed: &mut EventFeed<'_>) {
        let Some(next) = &mut self.excluded else { return };
        // A forged capture can name impossible CPUs.
        if event.cpu.0 >= MAX_CPUS {
            return;
        }
        let following = event.seq.0.wrapping_add(1);
        if let Some(expected) = next.insert(event.cpu, following) {
            let missing = event.seq.0.wrapping_sub(expected);
            if missing < 1 << 31 {
                feed.omit(event.cpu, missing);
            }
        }
    }
}

/// Returns name and command line of the process of an event that was already applied to
/// `processes`, as far as they are recorded.
fn known_process<'a>(event: &Event, processes: &'a ProcessTable) -> EventProcess<'a> {
    let Some(task) = event.task() else { return EventProcess::default() };
    let details = processes.live_process(task.tgid).and_then(|process| process.details.as_deref());
    let args = details.and_then(|details| details.args.as_deref());
    EventProcess { comm: processes.name(task.tgid), args }
}
