//! Execs and their details, brought together.
//!
//! The recorder reads the details of a process after its exec, so that they stand behind the exec event, with
//! other records between. A [`DetailsJoiner`] holds records back until the details of the execs among them have come.

use std::collections::{HashMap, VecDeque};

use pmon_core::capture::{Details, DetailsSubject, Record, RecordedDatagram, Usage};
use pmon_core::wire::{ByteOrder, EventBody};
use pmon_core::{MonoNs, Tgid};

use super::record::{ALLOCATION, OwnedRecord, TimelineItem};

/// Records held back at the most.
pub const MAX_HELD: usize = 1 << 16;
/// Maximum bytes of datagrams, details, usages and notes held back.
pub const MAX_HELD_BYTES: usize = 16 << 20;
/// For how long, in event time, details are waited for.
pub const MAX_WAIT_NS: u64 = 1_000_000_000;

/// Holds records back until the details of the execs among them have come; yields them in their order.
///
/// What is held is bounded, by number, bytes and event time; then the oldest go on without details. At the start
/// of a capture, everything waits until the first scan of `/proc` is complete, whose details come out first: they
/// tell of processes that were there before any event.
#[derive(Debug)]
pub struct DetailsJoiner {
    order: ByteOrder,
    /// Whether to hold anything at all.
    joining: bool,
    /// Whether the first scan of `/proc` is still to come, and when the first event was.
    opening: bool,
    opened: Option<MonoNs>,
    released: bool,
    ahead: VecDeque<OwnedRecord>,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// The number, in the order of arrival, of the first in `held`.
    first: u64,
    waiting: HashMap<(Tgid, MonoNs), u64>,
    now: MonoNs,
}

#[derive(Debug)]
struct Held {
    record: OwnedRecord,
    bytes: usize,
    /// The key in `waiting`, while its details have not come.
    awaits: Option<(Tgid, MonoNs)>,
}

impl DetailsJoiner {
    /// A joiner for a capture whose datagrams are in `order`.
    pub fn new(order: ByteOrder) -> Self {
        Self {
            order,
            joining: true,
            opening: true,
            opened: None,
            released: false,
            ahead: VecDeque::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            first: 0,
            waiting: HashMap::new(),
            now: MonoNs(0),
        }
    }

    /// One that holds nothing back and joins nothing, for whoever needs no details.
    pub fn passthrough(order: ByteOrder) -> Self {
        Self { joining: false, opening: false, ..Self::new(order) }
    }

    /// Takes the next record; then [`DetailsJoiner::pop`] until it gives no more.
    pub fn push(&mut self, record: Record<'_>) {
        self.released = false;
        let record = match record {
            Record::Event(frame, usage) => return self.push_event(frame, usage),
            Record::Details(details) => return self.push_details(details),
            Record::Snapshot(snapshot) => {
                if self.opening {
                    self.opening = false;
                    self.ahead.push_back(OwnedRecord::Snapshot(snapshot));
                    return;
                }
                OwnedRecord::Snapshot(snapshot)
            }
            Record::Loss(loss) => OwnedRecord::Loss(loss),
            Record::Blind(blind) => OwnedRecord::Blind(blind),
            Record::Clock(anchor) => OwnedRecord::Clock(anchor),
            Record::End(end) => {
                self.released = true;
                OwnedRecord::End(end)
            }
            Record::Unknown { kind } => OwnedRecord::Unknown { kind },
            _ => return,
        };
        self.hold(record, 0, None);
    }

    /// The next entry whose turn has come.
    pub fn pop(&mut self) -> Option<OwnedRecord> {
        if let Some(record) = self.ahead.pop_front() {
            return Some(record);
        }
        let full = self.released || self.held.len() > MAX_HELD || self.held_bytes > MAX_HELD_BYTES;
        if self.opening {
            let waited = self.opened.map_or(0, |opened| self.now.0.saturating_sub(opened.0));
            if !full && waited <= MAX_WAIT_NS {
                return None;
            }
            self.opening = false;
        }
        if let Some((_, time)) = self.held.front()?.awaits
            && !full
            && self.now.0.saturating_sub(time.0) <= MAX_WAIT_NS
        {
            return None;
        }
        let held = self.held.pop_front()?;
        self.held_bytes -= held.bytes;
        if let Some(key) = held.awaits
            && self.waiting.get(&key) == Some(&self.first)
        {
            self.waiting.remove(&key);
        }
        self.first += 1;
        Some(held.record)
    }

    /// Lets everything go that is held now: the input has ended, or somebody has waited for long enough.
    pub fn release(&mut self) {
        self.released = true;
    }

    fn push_event(&mut self, frame: RecordedDatagram<'_>, usage: Option<Box<Usage>>) {
        let event = frame.event(self.order);
        let raw: Option<Box<[u8]>> = match frame {
            RecordedDatagram::Event(_) => None,
            RecordedDatagram::Raw(bytes) => Some(bytes.into()),
        };
        let mut awaits = None;
        if let Some(event) = event {
            self.now = event.time;
            self.opened.get_or_insert(event.time);
            if let (EventBody::Exec { task }, true) = (event.body, self.joining) {
                awaits = Some((task.tgid, event.time));
            }
        }
        let bytes = raw.as_ref().map_or(0, |raw| raw.len() + ALLOCATION)
            + usage.as_ref().map_or(0, |_| size_of::<Usage>() + ALLOCATION);
        self.hold(OwnedRecord::Event(TimelineItem { event, raw, details: None, usage }), bytes, awaits);
    }

    fn push_details(&mut self, details: Box<Details>) {
        let bytes = details.memory();
        match details.subject {
            DetailsSubject::Snapshot { .. } if self.opening => {
                self.ahead.push_back(OwnedRecord::Details(details))
            }
            DetailsSubject::Snapshot { .. } => self.hold(OwnedRecord::Details(details), bytes, None),
            DetailsSubject::Exec { tgid, time } => {
                let at = self.waiting.remove(&(tgid, time)).map(|at| (at - self.first) as usize);
                let Some(held) = at.and_then(|at| self.held.get_mut(at)) else {
                    return self.hold(OwnedRecord::Details(details), bytes, None);
                };
                held.awaits = None;
                held.bytes += bytes;
                self.held_bytes += bytes;
                if let OwnedRecord::Event(item) = &mut held.record {
                    item.details = Some(details);
                }
            }
        }
    }

    fn hold(&mut self, record: OwnedRecord, bytes: usize, awaits: Option<(Tgid, MonoNs)>) {
        if let Some(key) = awaits {
            self.waiting.insert(key, self.first + self.held.len() as u64);
        }
        self.held_bytes += bytes;
        self.held.push_back(Held { record, bytes, awaits });
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::{End, MissReason, Snapshot, SnapshotReason};
    use pmon_core::wire::Event;
    use pmon_core::{Cpu, Seq, Task};

    use super::*;

    fn event(time: u64, body: EventBody) -> Record<'static> {
        Record::Event(
            RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(0), body }),
            None,
        )
    }

    fn exec(time: u64, pid: u32) -> Record<'static> {
        event(time, EventBody::Exec { task: Task::new(pid, pid) })
    }

    fn sid(time: u64, pid: u32) -> Record<'static> {
        event(time, EventBody::Sid { task: Task::new(pid, pid) })
    }

    fn details(time: u64, pid: u32) -> Record<'static> {
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(time) };
        Record::Details(Box::new(Details::missed(subject, MissReason::Gone)))
    }

    fn scanned(pid: u32) -> Record<'static> {
        Record::Details(Box::new(Details::missed(
            DetailsSubject::Snapshot { tgid: Tgid(pid) },
            MissReason::Gone,
        )))
    }

    fn snapshot() -> Record<'static> {
        Record::Snapshot(Snapshot {
            started: MonoNs(0),
            ended: MonoNs(0),
            processes: 1,
            reason: SnapshotReason::Start,
            atomic: false,
        })
    }

    /// A joiner past the first scan.
    fn open() -> DetailsJoiner {
        let mut joiner = DetailsJoiner::new(ByteOrder::Little);
        joiner.push(snapshot());
        assert!(matches!(joiner.pop(), Some(OwnedRecord::Snapshot(_))));
        joiner
    }

    /// The times of events, with a `d` for those that have details.
    fn drain(joiner: &mut DetailsJoiner) -> Vec<String> {
        std::iter::from_fn(|| joiner.pop())
            .map(|record| match record {
                OwnedRecord::Event(o) => {
                    let mark = if o.details.is_some() { "d" } else { "" };
                    format!("{}{mark}", o.event.map_or(0, |event| event.time.0))
                }
                OwnedRecord::Details(details) => format!("details {}", details.subject.tgid()),
                OwnedRecord::Snapshot(_) => "snapshot".into(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn records_wait_for_the_exec_before_them_and_keep_their_order() {
        let mut joiner = open();
        joiner.push(sid(1, 1));
        joiner.push(exec(2, 7));
        joiner.push(exec(3, 8));
        joiner.push(sid(4, 1));
        assert_eq!(drain(&mut joiner), ["1"]);
        joiner.push(details(3, 8));
        assert!(drain(&mut joiner).is_empty());
        joiner.push(details(2, 7));
        assert_eq!(drain(&mut joiner), ["2d", "3d", "4"]);
        assert!(joiner.held.is_empty() && joiner.waiting.is_empty());
    }

    #[test]
    fn after_a_second_of_event_time_it_goes_on_without_and_late_details_stand_alone() {
        let mut joiner = open();
        joiner.push(exec(5, 7));
        joiner.push(sid(5 + MAX_WAIT_NS, 1));
        assert!(drain(&mut joiner).is_empty());
        joiner.push(sid(6 + MAX_WAIT_NS, 1));
        assert_eq!(drain(&mut joiner), ["5", "1000000005", "1000000006"]);
        joiner.push(details(5, 7));
        assert_eq!(drain(&mut joiner), ["details 7"]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut joiner = open();
        joiner.push(exec(1, 7));
        for _ in 0..MAX_HELD {
            joiner.push(sid(1, 1));
        }
        assert_eq!(drain(&mut joiner).len(), MAX_HELD + 1);
    }

    #[test]
    fn bytes_held_are_bounded() {
        let mut joiner = open();
        joiner.push(exec(1, 7));
        let big = vec![0; 1 << 20];
        for _ in 0..17 {
            joiner.push(Record::Event(RecordedDatagram::Raw(&big), None));
        }
        assert!(joiner.pop().is_some());
    }

    #[test]
    fn the_end_releases_everything() {
        let mut joiner = open();
        joiner.push(exec(1, 7));
        joiner.push(Record::End(End::default()));
        assert_eq!(drain(&mut joiner).len(), 2);
    }

    #[test]
    fn the_first_scan_comes_out_before_the_events_that_arrived_meanwhile() {
        let mut joiner = DetailsJoiner::new(ByteOrder::Little);
        joiner.push(sid(1, 1));
        joiner.push(scanned(9));
        joiner.push(sid(2, 1));
        assert_eq!(drain(&mut joiner), ["details 9"]);
        joiner.push(snapshot());
        assert_eq!(drain(&mut joiner), ["snapshot", "1", "2"]);
        joiner.push(scanned(10));
        assert_eq!(drain(&mut joiner), ["details 10"]);
    }

    #[test]
    fn without_a_scan_the_start_waits_a_second_at_the_most() {
        let mut joiner = DetailsJoiner::new(ByteOrder::Little);
        joiner.push(sid(1, 1));
        joiner.push(sid(2 + MAX_WAIT_NS, 1));
        assert_eq!(drain(&mut joiner).len(), 2);
    }

    #[test]
    fn a_passing_one_holds_nothing() {
        let mut joiner = DetailsJoiner::passthrough(ByteOrder::Little);
        joiner.push(exec(1, 7));
        assert_eq!(drain(&mut joiner), ["1"]);
        joiner.push(details(1, 7));
        assert_eq!(drain(&mut joiner), ["details 7"]);
    }
}
