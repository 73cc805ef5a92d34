//! Counts the records of a capture.

use std::collections::{BTreeMap, HashMap};

use pmon_core::accounting::MAX_CPUS;
use pmon_core::capture::{Details, DetailsSubject, MissReason, Record, RecordedDatagram, SelfGenerated};
use pmon_core::wire::{ByteOrder, EventKind};
use pmon_core::{Cpu, MonoNs, Tgid};

/// Maximum number of program names counted separately. Execs of further programs are counted only
/// in [`Statistics::details_known`].
const MAX_PROGRAMS: usize = 1 << 14;

/// Counts of the records in a capture, updated by [`Statistics::count`].
#[derive(Clone, Debug)]
pub struct Statistics {
    order: ByteOrder,
    recorder: Option<Tgid>,
    /// Number of datagrams, without self-generated events of the recorder.
    pub events: u64,
    /// Number of execs whose details are known, at least in part.
    pub details_known: u64,
    /// Number of execs whose details are missing entirely.
    pub details_missed: u64,
    /// Number of [`Statistics::details_known`] execs with missing fields: see
    /// [`Statistics::missing`].
    pub details_partial: u64,
    /// Number of processes in the latest scan of `/proc`.
    pub scanned: u64,
    /// Number of records of unknown kinds.
    pub unknown_records: u64,
    /// Earliest and latest time of an event.
    pub span: Option<(MonoNs, MonoNs)>,
    kinds: [u64; EventKind::ALL.len()],
    cpus: BTreeMap<Cpu, u64>,
    /// CPU of the latest events, and their number, which `cpus` does not include yet. Consecutive
    /// events are often from the same CPU.
    run: (Cpu, u64),
    programs: HashMap<Box<[u8]>, u64>,
    /// Number of execs for each reason and missing field; there are only a few pairs.
    missing: Vec<(MissReason, &'static str, u64)>,
}

impl Statistics {
    /// Creates empty statistics for a capture whose datagrams have the byte order `order`. Events
    /// that the process `recorder` generated to check the reception are not counted.
    pub fn new(order: ByteOrder, recorder: Option<Tgid>) -> Self {
        Self {
            order,
            recorder,
            events: 0,
            details_known: 0,
            details_missed: 0,
            details_partial: 0,
            scanned: 0,
            unknown_records: 0,
            span: None,
            kinds: [0; EventKind::ALL.len()],
            cpus: BTreeMap::new(),
            run: (Cpu(0), 0),
            programs: HashMap::new(),
            missing: Vec::new(),
        }
    }

    /// Continues with records of another recorder, whose self-generated events are not counted.
    pub fn set_recorder(&mut self, recorder: Option<Tgid>) {
        self.recorder = recorder;
    }

    /// Counts the next record.
    pub fn count(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(datagram, _) => self.count_datagram(datagram),
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                self.count_details(details);
                if let Some(comm) = &details.comm {
                    self.count_program(comm);
                }
            }
            Record::Snapshot(snapshot) => self.scanned = snapshot.processes.into(),
            Record::Unknown { .. } => self.unknown_records += 1,
            _ => {}
        }
    }

    /// Returns the number of datagrams of each event kind, in the order of [`EventKind::ALL`]. A
    /// datagram without a readable event has the kind [`EventKind::Unknown`].
    pub fn by_kind(&self) -> impl Iterator<Item = (EventKind, u64)> {
        EventKind::ALL.into_iter().zip(self.kinds)
    }

    /// Returns the number of events of each CPU that emitted any.
    pub fn by_cpu(&self) -> BTreeMap<Cpu, u64> {
        let mut cpus = self.cpus.clone();
        if self.run.1 > 0 {
            *cpus.entry(self.run.0).or_default() += self.run.1;
        }
        cpus
    }

    /// Returns the `n` most frequently executed program names, most frequent first, with their
    /// counts.
    pub fn most_executed(&self, n: usize) -> Vec<(&[u8], u64)> {
        let mut programs: Vec<(&[u8], u64)> =
            self.programs.iter().map(|(name, &count)| (&**name, count)).collect();
        programs.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        programs.truncate(n);
        programs
    }

    /// Returns the missing fields of partially known details: the reason, the field's JSON name
    /// (`ids` for the user and group IDs), and the number of execs. The order is that of first
    /// occurrence.
    pub fn missing(&self) -> impl Iterator<Item = (MissReason, &'static str, u64)> {
        self.missing.iter().copied()
    }

    /// Returns the time between the earliest and the latest event in ns, or 0 without events.
    pub fn span_ns(&self) -> u64 {
        self.span.map_or(0, |(first, last)| last.0 - first.0)
    }

    fn count_details(&mut self, details: &Details) {
        let fields = [
            ("comm", details.comm.is_none()),
            ("ppid", details.ppid.is_none()),
            ("ids", details.ids.is_none()),
            ("exe", details.exe.is_none()),
            ("cwd", details.cwd.is_none()),
            ("cgroup", details.cgroup.is_none()),
            ("args", details.args.is_none()),
        ];
        let Some(why) = details.miss else {
            self.details_known += 1;
            return;
        };
        if fields.iter().all(|&(_, is_missing)| is_missing) {
            self.details_missed += 1;
            return;
        }
        self.details_known += 1;
        self.details_partial += 1;
        // A process that can read the IDs can read the arguments (`proc_pid_cmdline(5)`), so the
        // arguments were not requested, or there are none.
        let is_readable = why == MissReason::Denied && details.ids.is_some();
        for (field, is_missing) in fields {
            if !is_missing || is_readable && field == "args" {
                continue;
            }
            match self.missing.iter_mut().find(|known| (known.0, known.1) == (why, field)) {
                Some((_, _, execs)) => *execs += 1,
                None => self.missing.push((why, field, 1)),
            }
        }
    }

    fn count_datagram(&mut self, datagram: &RecordedDatagram<'_>) {
        let event = datagram.event(self.order);
        if let (Some(event), Some(recorder)) = (&event, self.recorder)
            && SelfGenerated::of(event, recorder).is_some()
        {
            return;
        }
        self.events += 1;
        let Some(event) = event else {
            self.kinds[EventKind::Unknown as usize] += 1;
            return;
        };
        self.kinds[event.kind() as usize] += 1;
        let (first, last) = self.span.get_or_insert((event.time, event.time));
        *first = event.time.min(*first);
        *last = event.time.max(*last);
        if self.run.0 != event.cpu {
            self.end_run();
            self.run = (event.cpu, 0);
        }
        self.run.1 += 1;
    }

    fn end_run(&mut self) {
        let (cpu, count) = self.run;
        if count > 0 && (self.cpus.len() < MAX_CPUS as usize || self.cpus.contains_key(&cpu)) {
            *self.cpus.entry(cpu).or_default() += count;
        }
    }

    fn count_program(&mut self, name: &[u8]) {
        let name = &name[..name.len().min(crate::process::MAX_NAME)];
        if let Some(count) = self.programs.get_mut(name) {
            *count += 1;
        } else if self.programs.len() < MAX_PROGRAMS {
            self.programs.insert(name.into(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::capture::{Snapshot, SnapshotReason};
    use pmon_core::wire::{Comm, Event, EventBody};
    use pmon_core::{Seq, Task};

    use super::*;

    fn event(cpu: u32, time: u64, body: EventBody) -> Record<'static> {
        Record::Event(
            RecordedDatagram::Event(Event { time: MonoNs(time), seq: Seq(0), cpu: Cpu(cpu), body }),
            None,
        )
    }

    fn exec(cpu: u32, time: u64) -> Record<'static> {
        event(cpu, time, EventBody::Exec { task: Task::new(1, 1) })
    }

    /// Creates a self-generated event of the recorder with this process ID.
    fn fence(recorder: u32) -> Record<'static> {
        let mut comm = Comm::default();
        let name = SelfGenerated::Fence.comm().as_bytes();
        comm.0[..name.len()].copy_from_slice(name);
        event(0, 1, EventBody::Comm { task: Task::new(8, recorder), comm })
    }

    fn details(comm: Option<&str>) -> Record<'static> {
        let subject = DetailsSubject::Exec { tgid: Tgid(1), time: MonoNs(1) };
        let missed = Details::missed(subject, MissReason::Gone);
        Record::Details(Box::new(match comm {
            Some(comm) => Details { miss: None, comm: Some(comm.into()), ..missed },
            None => missed,
        }))
    }

    #[test]
    fn partially_known_details_are_known() {
        let mut stats = Statistics::new(ByteOrder::Little, None);
        let Record::Details(details) = details(Some("x")) else { panic!("details") };
        let denied = Details { miss: Some(MissReason::Denied), ids: Some(Default::default()), ..*details };
        let gone = Details { miss: Some(MissReason::Gone), ..denied.clone() };
        for details in [denied.clone(), denied, gone] {
            stats.count(&Record::Details(Box::new(details)));
        }
        assert_eq!((stats.details_known, stats.details_missed, stats.details_partial), (3, 0, 3));
        // Readable arguments were not denied.
        let of =
            |why| stats.missing().filter(move |missing| missing.0 == why).map(|(_, field, n)| (field, n));
        assert_eq!(
            of(MissReason::Denied).collect::<Vec<_>>(),
            [("ppid", 2), ("exe", 2), ("cwd", 2), ("cgroup", 2)]
        );
        assert_eq!(of(MissReason::Gone).last(), Some(("args", 1)));
    }

    #[test]
    fn records_are_counted() {
        let mut stats = Statistics::new(ByteOrder::Little, Some(Tgid(7)));
        for record in
            [exec(0, 9), fence(7), exec(1, 5), exec(0, 12), Record::Event(RecordedDatagram::Raw(b"?"), None)]
        {
            stats.count(&record);
        }
        for comm in [Some("b"), Some("a"), None, Some("b")] {
            stats.count(&details(comm));
        }
        let (started, ended) = (MonoNs(0), MonoNs(0));
        stats.count(&Record::Snapshot(Snapshot {
            started,
            ended,
            processes: 7,
            reason: SnapshotReason::Loss,
            atomic: false,
        }));

        assert_eq!((stats.events, stats.scanned), (4, 7));
        assert_eq!((stats.details_known, stats.details_missed, stats.details_partial), (3, 1, 0));
        assert_eq!(
            stats.by_kind().filter(|&(_, n)| n > 0).collect::<Vec<_>>(),
            [(EventKind::Exec, 3), (EventKind::Unknown, 1)]
        );
        assert_eq!(stats.by_kind().count(), EventKind::ALL.len());
        assert_eq!(stats.by_cpu().into_iter().collect::<Vec<_>>(), [(Cpu(0), 2), (Cpu(1), 1)]);
        assert_eq!(stats.most_executed(1), [(&b"b"[..], 2)]);
        assert_eq!(stats.span_ns(), 7);
    }

    #[test]
    fn events_of_another_recorder_are_not_counted_once_it_is_known() {
        let mut stats = Statistics::new(ByteOrder::Little, Some(Tgid(7)));
        [fence(7), fence(9)].iter().for_each(|record| stats.count(record));
        assert_eq!(stats.events, 1);
        stats.set_recorder(Some(Tgid(9)));
        [fence(7), fence(9), fence(9)].iter().for_each(|record| stats.count(record));
        assert_eq!(stats.events, 2);
    }

    #[test]
    fn records_of_a_later_format_are_counted() {
        let mut stats = Statistics::new(ByteOrder::Little, None);
        (0..3).for_each(|_| stats.count(&Record::Unknown { kind: 99 }));
        assert_eq!((stats.unknown_records, stats.events), (3, 0));
    }

    #[test]
    fn details_of_scans_are_not_those_of_execs() {
        let mut stats = Statistics::new(ByteOrder::Little, None);
        let Record::Details(scanned) = details(Some("x")) else { panic!("details") };
        let subject = DetailsSubject::Snapshot { tgid: Tgid(1) };
        stats.count(&Record::Details(Box::new(Details { subject, ..*scanned })));
        assert_eq!((stats.details_known, stats.most_executed(1)), (0, vec![]));
    }

    #[test]
    fn cpus_without_events_and_cpus_beyond_the_limit_are_not_listed() {
        let mut stats = Statistics::new(ByteOrder::Little, None);
        assert!(stats.by_cpu().is_empty());
        stats.count(&exec(3, 1));
        assert_eq!(stats.by_cpu().into_iter().collect::<Vec<_>>(), [(Cpu(3), 1)]);
        (0..MAX_CPUS + 2).chain([3, 0]).for_each(|cpu| stats.count(&exec(cpu, 1)));
        let cpus = stats.by_cpu();
        assert_eq!((cpus.len(), cpus[&Cpu(3)], cpus[&Cpu(0)]), (MAX_CPUS as usize, 3, 2));
    }

    #[test]
    fn the_number_of_programs_is_limited() {
        let mut stats = Statistics::new(ByteOrder::Little, None);
        for name in (0..=MAX_PROGRAMS).chain([0, MAX_PROGRAMS]) {
            stats.count(&details(Some(&name.to_string())));
        }
        assert_eq!(stats.most_executed(usize::MAX).len(), MAX_PROGRAMS);
        assert_eq!(stats.most_executed(1), [(&b"0"[..], 2)]);
    }
}
