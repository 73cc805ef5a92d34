//! Joins the details of each exec to the exec event.
//!
//! The recorder reads the details of a process after its exec, so other records can lie between the
//! exec event and its details. A [`DetailsJoiner`] delays records until the details of all execs
//! before them have arrived.

use std::collections::{HashMap, VecDeque};

use pmon_core::capture::{Details, DetailsSubject, Record, RecordedDatagram, Usage};
use pmon_core::wire::{ByteOrder, EventBody};
use pmon_core::{MonoNs, Tgid};

use super::record::{OwnedRecord, TimelineItem, memory_of};
use crate::process::IdHash;

/// Maximum number of delayed records.
pub const MAX_HELD: usize = 1 << 16;
/// Maximum memory of the delayed datagrams, details and usages, in bytes.
pub const MAX_HELD_BYTES: usize = 16 << 20;
/// Maximum delay of an exec whose details are missing, in ns of event time.
pub const MAX_WAIT_NS: u64 = 1_000_000_000;

/// Delays records until the details of the execs among them have arrived, and keeps their order.
///
/// The number, memory and event time of the delayed records are limited. Beyond a limit, the oldest
/// records are released without details. At the start of a capture, all events wait for the first
/// scan of `/proc`, and the details of the scan are released first: they describe processes that
/// existed before any event.
#[derive(Debug)]
pub struct DetailsJoiner {
    order: ByteOrder,
    /// Whether execs wait for their details.
    is_joining: bool,
    /// Whether the first scan of `/proc` has not ended yet.
    awaits_scan: bool,
    /// Time of the first event.
    first_time: Option<MonoNs>,
    /// Whether all delayed records are due.
    is_released: bool,
    /// Records of the first scan, which are due at once.
    scanned: VecDeque<OwnedRecord>,
    delayed: VecDeque<DelayedRecord>,
    delayed_bytes: usize,
    /// Number of the first record in `delayed`, in the order of arrival.
    first: u64,
    /// Numbers of the execs whose details have not arrived.
    awaited: HashMap<(Tgid, MonoNs), u64, IdHash>,
    now: MonoNs,
}

#[derive(Debug)]
struct DelayedRecord {
    record: OwnedRecord,
    bytes: usize,
    /// Key in `awaited` until the details arrive.
    awaits: Option<(Tgid, MonoNs)>,
}

impl DetailsJoiner {
    /// Creates a joiner for a capture whose datagrams have the byte order `order`.
    pub fn new(order: ByteOrder) -> Self {
        Self {
            order,
            is_joining: true,
            awaits_scan: true,
            first_time: None,
            is_released: false,
            scanned: VecDeque::new(),
            delayed: VecDeque::new(),
            delayed_bytes: 0,
            first: 0,
            awaited: HashMap::default(),
            now: MonoNs(0),
        }
    }

    /// Creates a joiner that delays and joins no records, for callers that need no details.
    pub fn passthrough(order: ByteOrder) -> Self {
        Self { is_joining: false, awaits_scan: false, ..Self::new(order) }
    }

    /// Adds the next record. Afterwards, call [`DetailsJoiner::pop`] until it returns `None`.
    pub fn push(&mut self, record: Record<'_>) {
        self.is_released = false;
        let record = match record {
            Record::Event(datagram, usage) => return self.push_event(datagram, usage),
            Record::Details(details) => return self.push_details(details),
            Record::Snapshot(snapshot) => {
                if self.awaits_scan {
                    self.awaits_scan = false;
                    self.scanned.push_back(OwnedRecord::Snapshot(snapshot));
                    return;
                }
                OwnedRecord::Snapshot(snapshot)
            }
            Record::Loss(loss) => OwnedRecord::Loss(loss),
            Record::Blind(blind) => OwnedRecord::Blind(blind),
            Record::Unobserved(span) => OwnedRecord::Unobserved(span),
            Record::Clock(anchor) => OwnedRecord::Clock(anchor),
            Record::End(end) => {
                self.is_released = true;
                OwnedRecord::End(end)
            }
            Record::Unknown { kind } => OwnedRecord::Unknown { kind },
            _ => return,
        };
        self.delay(record, None);
    }

    /// Returns the next record that is due.
    pub fn pop(&mut self) -> Option<OwnedRecord> {
        if let Some(record) = self.scanned.pop_front() {
            return Some(record);
        }
        let is_full =
            self.is_released || self.delayed.len() > MAX_HELD || self.delayed_bytes > MAX_HELD_BYTES;
        if self.awaits_scan {
            let waited = self.first_time.map_or(0, |first| self.now.0.saturating_sub(first.0));
            if !is_full && waited <= MAX_WAIT_NS {
                return None;
            }
            self.awaits_scan = false;
        }
        if let Some((_, time)) = self.delayed.front()?.awaits
            && !is_full
            && self.now.0.saturating_sub(time.0) <= MAX_WAIT_NS
        {
            return None;
        }
        let delayed = self.delayed.pop_front()?;
        self.delayed_bytes -= delayed.bytes;
        if let Some(key) = delayed.awaits
            && self.awaited.get(&key) == Some(&self.first)
        {
            self.awaited.remove(&key);
        }
        self.first += 1;
        Some(delayed.record)
    }

    /// Makes all delayed records due: the input has ended, or the caller waits no longer.
    pub fn release(&mut self) {
        self.is_released = true;
    }

    fn push_event(&mut self, datagram: RecordedDatagram<'_>, usage: Option<Box<Usage>>) {
        let event = datagram.event(self.order);
        let raw: Option<Box<[u8]>> = match datagram {
            RecordedDatagram::Event(_) => None,
            RecordedDatagram::Raw(bytes) => Some(bytes.into()),
        };
        let mut awaits = None;
        if let Some(event) = event {
            self.now = event.time;
            self.first_time.get_or_insert(event.time);
            if let (EventBody::Exec { task }, true) = (event.body, self.is_joining) {
                awaits = Some((task.tgid, event.time));
            }
        }
        self.delay(OwnedRecord::Event(TimelineItem { event, raw, details: None, usage }), awaits);
    }

    fn push_details(&mut self, details: Box<Details>) {
        match details.subject {
            DetailsSubject::Snapshot { .. } if self.awaits_scan => {
                self.scanned.push_back(OwnedRecord::Details(details))
            }
            DetailsSubject::Snapshot { .. } => self.delay(OwnedRecord::Details(details), None),
            DetailsSubject::Exec { tgid, time } => {
                let at = self.awaited.remove(&(tgid, time)).map(|at| (at - self.first) as usize);
                let Some(delayed) = at.and_then(|at| self.delayed.get_mut(at)) else {
                    return self.delay(OwnedRecord::Details(details), None);
                };
                let bytes = memory_of(&details);
                delayed.awaits = None;
                delayed.bytes += bytes;
                self.delayed_bytes += bytes;
                if let OwnedRecord::Event(item) = &mut delayed.record {
                    item.details = Some(details);
                }
            }
        }
    }

    fn delay(&mut self, record: OwnedRecord, awaits: Option<(Tgid, MonoNs)>) {
        let bytes = record.heap_memory();
        if let Some(key) = awaits {
            self.awaited.insert(key, self.first + self.delayed.len() as u64);
        }
        self.delayed_bytes += bytes;
        self.delayed.push_back(DelayedRecord { record, bytes, awaits });
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

    /// Creates a joiner after the first scan.
    fn after_scan() -> DetailsJoiner {
        let mut joiner = DetailsJoiner::new(ByteOrder::Little);
        joiner.push(snapshot());
        assert!(matches!(joiner.pop(), Some(OwnedRecord::Snapshot(_))));
        joiner
    }

    /// Returns the times of the due events, with a `d` after those that have details.
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
    fn records_wait_for_earlier_execs_and_keep_their_order() {
        let mut joiner = after_scan();
        joiner.push(sid(1, 1));
        joiner.push(exec(2, 7));
        joiner.push(exec(3, 8));
        joiner.push(sid(4, 1));
        assert_eq!(drain(&mut joiner), ["1"]);
        joiner.push(details(3, 8));
        assert!(drain(&mut joiner).is_empty());
        joiner.push(details(2, 7));
        assert_eq!(drain(&mut joiner), ["2d", "3d", "4"]);
        assert!(joiner.delayed.is_empty() && joiner.awaited.is_empty());
    }

    #[test]
    fn after_one_second_of_event_time_an_exec_is_released_and_late_details_stay_separate() {
        let mut joiner = after_scan();
        joiner.push(exec(5, 7));
        joiner.push(sid(5 + MAX_WAIT_NS, 1));
        assert!(drain(&mut joiner).is_empty());
        joiner.push(sid(6 + MAX_WAIT_NS, 1));
        assert_eq!(drain(&mut joiner), ["5", "1000000005", "1000000006"]);
        joiner.push(details(5, 7));
        assert_eq!(drain(&mut joiner), ["details 7"]);
    }

    #[test]
    fn the_number_of_delayed_records_is_limited() {
        let mut joiner = after_scan();
        joiner.push(exec(1, 7));
        for _ in 0..MAX_HELD {
            joiner.push(sid(1, 1));
        }
        assert_eq!(drain(&mut joiner).len(), MAX_HELD + 1);
    }

    #[test]
    fn the_memory_of_delayed_records_is_limited() {
        let mut joiner = after_scan();
        joiner.push(exec(1, 7));
        let big = vec![0; 1 << 20];
        for _ in 0..17 {
            joiner.push(Record::Event(RecordedDatagram::Raw(&big), None));
        }
        assert!(joiner.pop().is_some());
    }

    #[test]
    fn the_end_releases_all_records() {
        let mut joiner = after_scan();
        joiner.push(exec(1, 7));
        joiner.push(Record::End(End::default()));
        assert_eq!(drain(&mut joiner).len(), 2);
    }

    #[test]
    fn the_first_scan_is_released_before_earlier_events() {
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
    fn without_a_scan_the_start_waits_at_most_one_second() {
        let mut joiner = DetailsJoiner::new(ByteOrder::Little);
        joiner.push(sid(1, 1));
        joiner.push(sid(2 + MAX_WAIT_NS, 1));
        assert_eq!(drain(&mut joiner).len(), 2);
    }

    #[test]
    fn a_passthrough_joiner_delays_no_records() {
        let mut joiner = DetailsJoiner::passthrough(ByteOrder::Little);
        joiner.push(exec(1, 7));
        assert_eq!(drain(&mut joiner), ["1"]);
        joiner.push(details(1, 7));
        assert_eq!(drain(&mut joiner), ["details 7"]);
    }
}
