//! What a replay plays, piece by piece: what of it is in the range, and what becomes of it.

mod pace;
mod pieces;
mod replay;

use std::collections::{BTreeMap, VecDeque};

use pmon_analysis::OwnedRecord;
use pmon_core::accounting::{LossCause, MAX_CPUS};
use pmon_core::capture::{Blind, DetailsSubject, Loss, Record, Usage};
use pmon_core::wire::{ByteOrder, EVENT_DATAGRAM_LEN, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use pmon_fake::EventFeed;

use self::pieces::{Joined, Loaded, Piece};

pub use self::pace::{Pace, Speed};
pub use self::replay::Replay;

/// Events of different CPUs come out of order by less than this.
const INVERSION_NS: u64 = 1_000_000_000;

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// An event happened.
    Event(Event),
    /// A datagram came that holds no event.
    Datagram,
    /// Events were lost.
    Loss(Loss),
    /// Nothing was heard for a time, until now.
    Blind(Blind),
    /// A record that is no event; what [`Replay::pass_records`](crate::Replay::pass_records) asks for.
    Other,
}

/// What is in a capture beside events and losses, where it stands; see [`Replay::pass_records`](crate::Replay::pass_records).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassedRecord {
    /// A record as it is: details, a snapshot, clocks, a note, a fence, what was recorded.
    Record(Box<Record<'static>>),
    /// A time in which nothing was heard.
    Blind(Blind),
    /// A loss, for a recorder that counts itself. What an earlier recorder had no room for ([`LossCause::Backpressure`]), the kernel did not
    /// drop: it says nothing then.
    Loss(Loss),
}

/// What was used until an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitUsage {
    /// When it was,
    pub time: MonoNs,
    /// of which task.
    pub task: Task,
    /// What.
    pub usage: Box<Usage>,
}

/// What is played, and how far it is.
#[derive(Default)]
pub(crate) struct Player {
    pub(crate) from: Option<MonoNs>,
    pub(crate) until: Option<MonoNs>,
    pub(crate) now: MonoNs,
    /// Where the kernel is before the first event.
    pub(crate) before: (Cpu, Seq),
    /// The range has begun.
    reached: bool,
    /// An event was shown.
    shown: bool,
    pub(crate) ended: bool,
    /// Of a capture that leaves events out, the number that comes next of each CPU: what is missing and not lost is left out.
    excluded: Option<BTreeMap<Cpu, u32>>,
    /// What passes beside the events, if anybody wants it.
    pub(crate) passed: Option<VecDeque<PassedRecord>>,
    pub(crate) usages: Vec<ExitUsage>,
    /// What tells of processes, if anybody wants it: also what is before the range, or hidden.
    pub(crate) told: Option<VecDeque<OwnedRecord>>,
}

impl Player {
    /// Lets the next piece happen, if it is in the range and shown.
    pub(crate) fn play(
        &mut self,
        loaded: &mut Loaded,
        joined: Option<&mut Joined>,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        let event = loaded.event();
        let played = match (loaded.first()?, event) {
            (Piece::Frames(_), event) => event.and_then(|event| self.event(&event, None, feed)),
            (Piece::Exit(event, usage), _) => self.event(event, Some(usage), feed),
            (Piece::Raw(bytes), _) => self.raw(bytes, feed),
            (Piece::Loss(loss), _) => self.loss(*loss, feed),
            (Piece::Blind(blind), _) => self.blind(*blind),
            (Piece::Other(record), _) => {
                self.pass(std::mem::replace(&mut **record, Record::Unknown { kind: 0 }))
            }
            (Piece::Record(record), _) => self.entry(record, joined, feed),
        };
        loaded.take();
        played
    }

    fn event(
        &mut self,
        event: &Event,
        usage: Option<&mut Box<Usage>>,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        if !self.goes_on(event.time) {
            return None;
        }
        if let Some(next) = &mut self.excluded {
            close_up(next, event, feed);
        }
        let is_emitted = feed.emit(event);
        if let (Some(usage), Some(_), Some(task), true) = (usage, &self.passed, event.task(), is_emitted) {
            let usage = std::mem::take(usage);
            self.usages.push(ExitUsage { time: event.time, task, usage });
        }
        Some(StepResult::Event(*event))
    }

    /// Whether an event that comes next is in the range; the numbers then close up to it.
    #[inline]
    pub(crate) fn meets(&mut self, frame: &[u8; EVENT_DATAGRAM_LEN], feed: &mut EventFeed<'_>) -> bool {
        if self.from.is_none() && self.until.is_none() && self.excluded.is_none() {
            return true;
        }
        let Ok(event) = Event::decode(frame, ByteOrder::NATIVE) else { return true };
        let goes_on = self.goes_on(event.time);
        if let (Some(next), true) = (&mut self.excluded, goes_on) {
            close_up(next, &event, feed);
        }
        goes_on
    }

    fn raw(&mut self, bytes: &[u8], feed: &mut EventFeed<'_>) -> Option<StepResult> {
        let event = Event::decode(bytes, ByteOrder::NATIVE).ok();
        if !self.goes_on(event.map_or(self.now, |event| event.time)) {
            return None;
        }
        if let (Some(next), Some(event)) = (&mut self.excluded, &event) {
            close_up(next, event, feed);
        }
        feed.emit_datagram(bytes);
        Some(event.map_or(StepResult::Datagram, StepResult::Event))
    }

    fn loss(&mut self, loss: Loss, feed: &mut EventFeed<'_>) -> Option<StepResult> {
        if self.is_before(loss.before) || self.until.is_some_and(|until| loss.after > until) {
            return None;
        }
        self.reached = true;
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
        if !self.is_wanted(&record) {
            return None;
        }
        // What a recorder counts, it counts anew.
        let is_counted = matches!(
            record,
            Record::End(_)
                | Record::Witness(_)
                | Record::Excluded(_)
                | Record::Ring(_)
                | Record::Unknown { .. }
        );
        if let (Some(passed), false) = (&mut self.passed, is_counted) {
            passed.push_back(PassedRecord::Record(Box::new(record)));
            return Some(StepResult::Other);
        }
        None
    }

    /// Whether a record that is no event belongs to the range: what is told of the time before it is not passed.
    fn is_wanted(&self, record: &Record<'_>) -> bool {
        let is_in_range =
            |time: MonoNs| !self.is_before(time) && self.until.is_none_or(|until| time <= until);
        match record {
            Record::Scope(_) => true,
            Record::Details(details) => match details.subject {
                DetailsSubject::Exec { time, .. } => is_in_range(time),
                _ => self.reached || self.from.is_none(),
            },
            _ => self.reached || self.from.is_none(),
        }
    }

    fn entry(
        &mut self,
        record: &mut OwnedRecord,
        joined: Option<&mut Joined>,
        feed: &mut EventFeed<'_>,
    ) -> Option<StepResult> {
        let Joined { processes, filter, wall, .. } = joined?;
        processes.apply(record);
        filter.observe(record);
        if self.told.is_some() {
            self.tell(record);
        }
        match record {
            OwnedRecord::Event(item) => {
                let is_shown = filter.matches(item.event.as_ref(), processes, wall);
                // What the kernel says to the recorder first of all, it says to whoever takes its place, too.
                let is_first = is_shown && !std::mem::replace(&mut self.shown, true);
                let is_ack = |event: &Event| matches!(event.body, EventBody::Ack { .. });
                let is_own = is_first
                    && filter.hide_self_generated.is_some()
                    && item.event.as_ref().is_some_and(is_ack);
                if !is_shown || is_own {
                    self.hide(item.event.as_ref()?, feed);
                    return None;
                }
                let played = match (&item.event, &item.raw) {
                    (_, Some(bytes)) => self.raw(bytes, feed),
                    (Some(event), None) => self.event(event, item.usage.as_mut(), feed),
                    (None, None) => None,
                };
                if let (Some(details), Some(_)) = (item.details.take(), &played) {
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
            OwnedRecord::Details(details) => self.pass(Record::Details(details.clone())),
            _ => None,
        }
    }

    /// Keeps what tells of processes, and does not happen behind the range.
    fn tell(&mut self, record: &OwnedRecord) {
        let time = match record {
            OwnedRecord::Event(item) => item.event.map(|event| event.time),
            OwnedRecord::Details(_) | OwnedRecord::Snapshot(_) | OwnedRecord::Clock(_) => None,
            _ => return,
        };
        let is_behind = time.zip(self.until).is_some_and(|(time, until)| time > until);
        if let (Some(told), false) = (&mut self.told, is_behind) {
            told.push_back(record.clone());
        }
    }

    /// An event that the filter does not show never happened.
    fn hide(&mut self, event: &Event, feed: &mut EventFeed<'_>) {
        if self.goes_on(event.time) {
            if let Some(next) = &mut self.excluded {
                close_up(next, event, feed);
            }
            feed.omit(event.cpu, 1);
        }
    }

    pub(crate) fn is_before(&self, time: MonoNs) -> bool {
        self.from.is_some_and(|from| time < from)
    }

    /// Whether what happens at that time is in the range.
    #[inline]
    fn goes_on(&mut self, time: MonoNs) -> bool {
        if let Some(until) = self.until
            && time > until
        {
            self.ended |= time.0 - until.0 > INVERSION_NS;
            return false;
        }
        self.now = self.now.max(time);
        self.reached |= !self.is_before(time);
        !self.is_before(time)
    }
}

/// The numbers between that event and the one before it on its CPU, but those that were lost, were left out: they close up.
fn close_up(next: &mut BTreeMap<Cpu, u32>, event: &Event, feed: &mut EventFeed<'_>) {
    // A forged capture can name CPUs that no kernel has.
    if event.cpu.0 >= MAX_CPUS {
        return;
    }
    let behind = event.seq.0.wrapping_add(1);
    if let Some(expected) = next.insert(event.cpu, behind) {
        let missing = event.seq.0.wrapping_sub(expected);
        if missing < 1 << 31 {
            feed.omit(event.cpu, missing);
        }
    }
}
