//! The model against the process table of `pmon_analysis`, on the events of an invented machine.

use std::collections::{BTreeMap, BTreeSet};

use pmon_analysis::{DetailsJoiner, LiveProcess, ProcessTable, RunState};
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    Credentials, Loss, Meta, MissReason, ProcessContext, RecordedDatagram, Snapshot, SnapshotReason,
};
use pmon_core::wire::{Comm, Event, EventBody};
use pmon_core::{Cpu, Seq};
use proptest::prelude::*;

use super::table::{MAX_BYTES, MAX_PROCESSES};
use super::*;

const TICKS: u32 = 100;
const ORDER: ByteOrder = ByteOrder::Little;
const START: ClockAnchor = ClockAnchor { mono: MonoNs(0), boot_ns: 3_000_000_000, real_ns: 0 };

/// A random step: its kind, and three choices.
type Step = (u8, usize, usize, bool);

/// A machine that emits records.
struct Machine {
    ms: u64,
    /// Whether exits have the state of their process, as with the ring.
    has_states: bool,
    /// Whether other events can come before the details of an exec.
    has_late_details: bool,
    processes: BTreeMap<u32, Running>,
    last_id: u32,
    records: Vec<Record<'static>>,
    /// Details of execs that have not been read yet.
    pending: Vec<Details>,
    /// Number of events to lose, and whether some have been lost since the last record.
    losing: (u32, bool),
    has_lost: bool,
    /// Whether threads other than the first rename themselves, fork processes, and stay when the
    /// first one exits.
    renames_threads: bool,
}

#[derive(Clone)]
struct Running {
    ppid: u32,
    /// Threads, with the first one unless it has exited.
    threads: Vec<u32>,
    ticks: u64,
    ids: Credentials,
    session: u32,
    program: String,
}

impl Machine {
    fn new(has_states: bool, has_late_details: bool) -> Self {
        let mut machine = Self {
            ms: 100,
            has_states,
            has_late_details,
            processes: BTreeMap::new(),
            last_id: 9,
            records: Vec::new(),
            pending: Vec::new(),
            losing: (0, false),
            has_lost: false,
            // A child of a thread without a name gets that of its process.
            renames_threads: !has_late_details,
        };
        // A process with unknown threads can end for a table that has not seen its last thread
        // exit, and come back without ids. A child that is forked before the details gets none.
        let threads = if has_states || !has_late_details { vec![3, 4, 5] } else { vec![3] };
        for (pid, ppid, threads) in [(1, 0, vec![1]), (2, 1, vec![2]), (3, 2, threads), (6, 2, vec![6])] {
            let ids = Credentials { uid: pid, euid: 0, gid: 7, egid: 8 };
            let program = format!("p{pid}");
            machine.processes.insert(pid, Running { ppid, threads, ticks: 1, ids, session: 1, program });
        }
        machine.scan();
        machine
    }

    /// Records an event, and returns whether it was recorded and not lost.
    fn emit(&mut self, body: EventBody, usage: Option<Usage>) -> bool {
        self.ms += 3;
        if self.losing.0 > 0 {
            self.losing = (self.losing.0 - 1, true);
            self.has_lost = true;
            return false;
        }
        if std::mem::take(&mut self.losing.1) {
            let time = MonoNs(self.ms * 1_000_000);
            self.records.push(Record::Loss(Loss {
                cpu: Cpu(0),
                first: Seq(0),
                last: Seq(0),
                after: time,
                before: time,
                cause: LossCause::Socket,
            }));
        }
        let event = Event { time: MonoNs(self.ms * 1_000_000), seq: Seq(0), cpu: Cpu(0), body };
        self.records.push(Record::Event(RecordedDatagram::Event(event), usage.map(Box::new)));
        true
    }

    /// Returns an id that no process or thread has. Ids are used again soon.
    fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = if self.last_id >= 40 { 10 } else { self.last_id + 1 };
            let id = self.last_id;
            if !self.processes.contains_key(&id)
                && !self.processes.values().any(|process| process.threads.contains(&id))
            {
                return id;
            }
        }
    }

    fn details(&self, pid: u32, subject: DetailsSubject) -> Details {
        let process = &self.processes[&pid];
        let program = &process.program;
        Details {
            miss: None,
            ppid: Some(process.ppid),
            start_ticks: Some(process.ticks),
            ids: Some(process.ids),
            comm: Some(program.clone().into()),
            exe: Some(format!("/bin/{program}").into()),
            cwd: Some("/".into()),
            cgroup: Some("0::/a".into()),
            args: Some(format!("{program}\0-v\0").into()),
            context: Some(ProcessContext {
                session: process.session,
                group: process.session,
                pid: pid + 1000,
                ..ProcessContext::default()
            }),
            ..Details::missed(subject, MissReason::Gone)
        }
    }

    fn scan(&mut self) {
        let started = MonoNs(self.ms * 1_000_000);
        for &pid in self.processes.keys() {
            let threads = self.processes[&pid].threads.len() as u32;
            let details = self.details(pid, DetailsSubject::Snapshot { tgid: Tgid(pid) });
            self.records.push(Record::Details(Box::new(Details { threads: Some(threads), ..details })));
        }
        let processes = self.processes.len() as u32;
        let reason = SnapshotReason::Start;
        let snapshot = Snapshot { started, ended: started, processes, reason, atomic: false };
        self.records.push(Record::Snapshot(snapshot));
    }

    fn exit(&mut self, pid: u32, tid: u32, code: u32) {
        let process = self.processes.get_mut(&pid).unwrap();
        process.threads.retain(|&thread| thread != tid);
        let (is_over, ppid) = (process.threads.is_empty(), process.ppid);
        let state = if is_over { ProcessState::Ended { status: code } } else { ProcessState::Alive };
        let usage = self.has_states.then(|| Usage { process: state, ..Usage::default() });
        if is_over {
            self.processes.remove(&pid);
            for process in self.processes.values_mut().filter(|process| process.ppid == pid) {
                process.ppid = 1;
            }
        }
        let (task, parent) = (Task::new(tid, pid), Some(Task::new(ppid, ppid)));
        self.emit(EventBody::Exit { task, code, signal: 17, parent }, usage);
    }

    fn step(&mut self, (kind, one, other, flag): Step) {
        let pids: Vec<u32> = self.processes.keys().copied().collect();
        let pid = pids[one % pids.len()];
        let process = self.processes[&pid].clone();
        let tid = process.threads[other % process.threads.len()];
        let task = Task::new(tid, pid);
        match kind {
            0..=3 if self.renames_threads || process.threads.contains(&pid) => {
                let task = if self.renames_threads { task } else { Task::new(pid, pid) };
                let child = self.free_id();
                let ticks = (self.ms + 3 + 3000) / 10;
                let new = Running { ppid: pid, threads: vec![child], ticks, ..process };
                self.processes.insert(child, new);
                self.emit(EventBody::Fork { parent: task, child: Task::new(child, child) }, None);
            }
            4 => {
                let thread = self.free_id();
                self.processes.get_mut(&pid).unwrap().threads.push(thread);
                let parent = Task::new(process.ppid, process.ppid);
                self.emit(EventBody::Fork { parent, child: Task::new(thread, pid) }, None);
            }
            5..=7 => {
                let others = process.threads.iter().filter(|&&thread| thread != tid);
                others.for_each(|&thread| self.exit(pid, thread, 0));
                // A child that is forked before the details arrive gets only the program from them.
                let is_late = other % 3 == 0 && self.has_late_details && !self.has_lost;
                let process = self.processes.get_mut(&pid).unwrap();
                (process.threads, process.program) = (vec![pid], format!("x{other}"));
                if flag && !is_late && other % 4 != 0 {
                    process.ids.euid = other as u32;
                }
                let is_recorded = self.emit(EventBody::Exec { task: Task::new(pid, pid) }, None);
                let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(self.ms * 1_000_000) };
                let details = match other % 4 {
                    0 => Details::missed(subject, MissReason::Busy),
                    _ => self.details(pid, subject),
                };
                match is_late {
                    _ if !is_recorded => {}
                    true => self.pending.push(details),
                    false => self.records.push(Record::Details(Box::new(details))),
                }
            }
            8 if tid == pid || self.renames_threads => {
                let mut comm = Comm::default();
                comm.0[0] = b'a' + other as u8 % 26;
                self.emit(EventBody::Comm { task, comm }, None);
            }
            9 if tid == pid => {
                self.processes.get_mut(&pid).unwrap().ids.uid = other as u32;
                self.emit(EventBody::Uid { task, real: other as u32, effective: process.ids.euid }, None);
            }
            10 if tid == pid => {
                self.processes.get_mut(&pid).unwrap().ids.gid = other as u32;
                self.emit(EventBody::Gid { task, real: other as u32, effective: process.ids.egid }, None);
            }
            11 => {
                self.processes.get_mut(&pid).unwrap().session = pid;
                self.emit(EventBody::Sid { task }, None);
            }
            12 | 13 if pid != 1 => {
                process.threads.iter().for_each(|&thread| self.exit(pid, thread, 9));
            }
            14 if process.threads.len() > 1 && (tid != pid || self.renames_threads) => self.exit(pid, tid, 0),
            15 => {
                let pending: Vec<_> = self.pending.drain(..).collect();
                self.records.extend(pending.into_iter().map(|details| Record::Details(Box::new(details))));
            }
            16 if flag => self.losing.0 = other as u32 % 5,
            17 if flag => {
                self.step((15, 0, 0, false));
                self.scan();
            }
            _ => {}
        }
    }
}

fn machine(steps: &[Step], (has_states, has_late_details): (bool, bool)) -> Machine {
    let mut machine = Machine::new(has_states, has_late_details);
    steps.iter().for_each(|&step| machine.step(step));
    machine.step((15, 0, 0, false));
    machine
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..18, 0_usize..30, 0_usize..30, any::<bool>()), 0..80)
}

fn model() -> ProcessModel {
    ProcessModel::new(ORDER, TICKS, START)
}

/// The table of `pmon_analysis`, which gets the details of an exec together with its event.
struct Reference {
    joiner: DetailsJoiner,
    table: ProcessTable,
    /// Number of execs whose details have not been pushed.
    awaited: usize,
}

impl Reference {
    fn new() -> Self {
        let meta = Meta { ticks_per_second: TICKS, start: START, ..Meta::default() };
        Self { joiner: DetailsJoiner::new(ORDER), table: ProcessTable::detailed(&meta), awaited: 0 }
    }

    fn apply(&mut self, record: &Record<'static>) {
        match record {
            Record::Event(RecordedDatagram::Event(event), _)
                if matches!(event.body, EventBody::Exec { .. }) =>
            {
                self.awaited += 1;
            }
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                self.awaited -= 1
            }
            _ => {}
        }
        self.joiner.push(record.clone());
        while let Some(record) = self.joiner.pop() {
            self.table.apply(&record);
        }
    }

    fn processes(&self) -> BTreeMap<u32, String> {
        let running = self.table.live_processes().filter(|process| process.state() != RunState::Zombie);
        running.map(|process| (process.pid.0, describe(process))).collect()
    }
}

fn describe(process: &LiveProcess) -> String {
    let details = process.details.as_deref();
    format!(
        "{:?}",
        (
            process.ppid,
            process.start_ticks,
            process.exec,
            process.name.as_deref(),
            (details.and_then(|of| of.exe.as_deref()), details.and_then(|of| of.args.as_deref())),
            (details.and_then(|of| of.cwd.as_deref()), details.and_then(|of| of.cgroup.as_deref())),
            (process.uid, process.gid, process.session, process.group),
        )
    )
}

fn of_model(model: &ProcessModel) -> BTreeMap<u32, String> {
    let describe = |process: ProcessRef<'_>| {
        let found = model.table.get(process.slot);
        format!(
            "{:?}",
            (
                process.ppid(),
                process.start_ticks(),
                process.exec_at(),
                process.comm(),
                (process.exe(), process.args()),
                (process.cwd(), process.cgroup()),
                (process.uid(), process.gid(), found.session, found.group),
            )
        )
    };
    let pids = model.processes().map(|details| details.subject.tgid());
    pids.map(|pid| (pid.0, describe(model.get(pid).unwrap()))).collect()
}

/// Describes the processes that differ.
fn difference(model: &BTreeMap<u32, String>, reference: &BTreeMap<u32, String>) -> String {
    let pids: BTreeSet<_> = model.keys().chain(reference.keys()).collect();
    let differing = pids.into_iter().filter(|pid| model.get(pid) != reference.get(pid));
    differing
        .map(|pid| {
            format!("\n{pid}: model     {:?}\n{pid}: reference {:?}", model.get(pid), reference.get(pid))
        })
        .collect()
}

/// Applies records to a model and compares it with the reference after each.
fn compare(records: &[Record<'static>]) -> Result<(), TestCaseError> {
    let (mut model, mut reference) = (model(), Reference::new());
    let mut began = false;
    for (index, record) in records.iter().enumerate() {
        model.apply(record);
        reference.apply(record);
        began |= matches!(record, Record::Snapshot(_));
        if began && reference.awaited == 0 {
            let difference = difference(&of_model(&model), &reference.processes());
            prop_assert!(difference.is_empty(), "after {}: {:?}: {}", index, record, difference);
        }
        if index.is_multiple_of(16) || index + 1 == records.len() {
            check_links(&model)?;
        }
    }
    Ok(())
}

/// Checks that the links between the processes of a model are consistent.
fn check_links(model: &ProcessModel) -> Result<(), TestCaseError> {
    let table = &model.table;
    let all = 0..table.slots() as Slot;
    let mut users: BTreeMap<_, u32> = BTreeMap::new();
    table.images.awaited().for_each(|id| *users.entry(id).or_default() += 1);
    let (mut children, mut parents) = (0, 0);
    for slot in all {
        let process = table.get(slot);
        children += usize::from(process.parent != NONE);
        let mut child = process.first_child;
        while child != NONE {
            prop_assert_eq!(table.get(child).parent, slot);
            (parents, child) = (parents + 1, table.get(child).siblings.1);
        }
    }
    prop_assert_eq!(children, parents);
    for (slot, process) in table.iter() {
        prop_assert_eq!(table.find(process.pid), Some(slot));
        prop_assert!(!process.is_zombie() || model.zombie == slot, "{} is a zombie", process.pid);
        *users.entry(process.image).or_default() += 1;
        let mut thread = process.first_thread;
        let mut forked = 0;
        while thread != NONE {
            let found = table.thread(thread);
            prop_assert!(matches!(table.id(found.tid), Some(Id::Thread(slot)) if slot == thread));
            prop_assert_eq!(found.process, slot);
            forked += u32::from(found.is_forked);
            thread = found.links.1;
        }
        prop_assert_eq!(forked, process.forked_threads);
    }
    users.remove(&image::NO_IMAGE);
    prop_assert_eq!(users, table.images.users());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_model_equals_the_process_table_after_each_record(steps in steps(), modes: (bool, bool)) {
        compare(&machine(&steps, modes).records)?;
    }
}

/// The opening of a segment that begins now.
fn opening(model: &ProcessModel) -> Vec<Record<'static>> {
    let mut records: Vec<_> = model.processes().map(|details| Record::Details(Box::new(details))).collect();
    let (time, processes) = (model.now(), records.len() as u32);
    let reason = SnapshotReason::Segment;
    let snapshot = Snapshot { started: time, ended: time, processes, reason, atomic: true };
    records.push(Record::Snapshot(snapshot));
    records
}

/// Returns the indexes of records before which a segment can begin: no details are awaited, and no
/// scan has begun.
fn divisions(records: &[Record<'static>]) -> Vec<usize> {
    let (mut awaited, mut divisions) = (0, Vec::new());
    for (index, record) in records.iter().enumerate() {
        match record {
            Record::Event(RecordedDatagram::Event(event), _) => {
                let is_exec = matches!(event.body, EventBody::Exec { .. });
                if awaited == 0 {
                    divisions.push(index);
                }
                awaited += usize::from(is_exec);
            }
            Record::Details(details) if matches!(details.subject, DetailsSubject::Exec { .. }) => {
                awaited -= 1
            }
            _ => {}
        }
    }
    divisions
}

fn without_losses(mut steps: Vec<Step>) -> Vec<Step> {
    steps.retain(|&(kind, ..)| kind != 16);
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_model_that_was_rebuilt_from_an_opening_continues_equally(steps in steps(), at: prop::sample::Index) {
        // Details have neither the names of threads, nor some of the ids of a process.
        let mut machine = Machine { renames_threads: false, ..Machine::new(true, true) };
        without_losses(steps).into_iter().for_each(|step| machine.step(step));
        let records = machine.records;
        let divisions = divisions(&records);
        prop_assume!(!divisions.is_empty());
        let mut original = model();
        let (before, after) = records.split_at(*at.get(&divisions));
        before.iter().for_each(|record| original.apply(record));
        let start = ClockAnchor { mono: original.now(), boot_ns: original.now().0 + START.boot_ns, real_ns: 0 };
        let mut rebuilt = ProcessModel::new(ORDER, TICKS, start);
        opening(&original).iter().for_each(|record| rebuilt.apply(record));
        let known = |model: &ProcessModel| -> BTreeMap<u32, String> {
            let details = model.processes().map(|details| Details {
                threads: None,
                context: details.context.map(|context| ProcessContext { pid: 0, ..context }),
                ..details
            });
            details.map(|details| (details.subject.tgid().0, format!("{details:?}"))).collect()
        };
        for record in std::iter::once(&Record::Clock(START)).chain(after) {
            original.apply(record);
            rebuilt.apply(record);
            let difference = difference(&known(&rebuilt), &known(&original));
            prop_assert!(difference.is_empty(), "after {:?}: {}", record, difference);
        }
    }

    #[test]
    fn openings_in_mid_stream_change_nothing(steps in steps(), modes: (bool, bool)) {
        let records = machine(&steps, modes).records;
        let divisions = divisions(&records);
        let (mut model, mut with, mut without) = (model(), Reference::new(), Reference::new());
        for (index, record) in records.iter().enumerate() {
            if divisions.contains(&index) {
                let pids: Vec<_> = with.table.live_processes().map(|process| process.pid).collect();
                let names = |of: &Reference| -> Vec<_> {
                    pids.iter().map(|&pid| of.table.name(pid).map(<[u8]>::to_vec)).collect()
                };
                let before = names(&with);
                opening(&model).iter().for_each(|record| with.apply(record));
                let after = names(&with);
                prop_assert!(before.iter().zip(&after).all(|(before, after)| before.is_none() || before == after));
            }
            model.apply(record);
            with.apply(record);
            without.apply(record);
            let difference = difference(&with.processes(), &without.processes());
            prop_assert!(difference.is_empty(), "after {:?}: {}", record, difference);
            for process in without.table.live_processes() {
                let same = with.table.live_process(process.pid).unwrap();
                prop_assert_eq!(format!("{:?}", &same.threads), format!("{:?}", &process.threads));
                prop_assert_eq!((same.start, same.state()), (process.start, process.state()));
                let describe = |of: &pmon_analysis::Process| (of.start, of.parent, of.end.map(|(time, _)| time));
                if let Some(without) = without.table.process(process.pid) {
                    let with = with.table.process(process.pid).unwrap();
                    prop_assert_eq!(describe(with), describe(without));
                    // The model can know that a process has no other thread.
                    let status = |of: &pmon_analysis::Process| of.end.and_then(|(_, status)| status);
                    prop_assert!(status(without).is_none() || status(with) == status(without));
                }
            }
            if with.awaited == 0 {
                let exits = (with.table.last_exit(), without.table.last_exit());
                prop_assert!(exits.0 == exits.1 || exits.1 == Some(ProcessExit::Unknown), "{:?}", exits);
            }
        }
    }
}

fn exec_details(ms: u64, pid: u32, args: &[u8]) -> Record<'static> {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(ms * 1_000_000) };
    Record::Details(Box::new(Details {
        miss: None,
        comm: Some(b"worker".to_vec()),
        args: Some(args.to_vec()),
        ..Details::missed(subject, MissReason::Gone)
    }))
}

fn event(ms: u64, body: EventBody) -> Record<'static> {
    let event = Event { time: MonoNs(ms * 1_000_000), seq: Seq(0), cpu: Cpu(0), body };
    Record::Event(RecordedDatagram::Event(event), None)
}

fn fork(ms: u64, parent: u32, child: u32) -> Record<'static> {
    event(ms, EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child, child) })
}

fn exec(ms: u64, pid: u32) -> Record<'static> {
    event(ms, EventBody::Exec { task: Task::new(pid, pid) })
}

fn exit(ms: u64, pid: u32) -> Record<'static> {
    event(ms, EventBody::Exit { task: Task::new(pid, pid), code: 0, signal: 17, parent: None })
}

#[test]
fn children_get_details_that_arrive_after_the_end_of_their_parent() {
    let mut model = model();
    for record in [fork(1, 1, 10), exec(2, 10), fork(3, 10, 20), exit(4, 10), fork(5, 20, 30)] {
        model.apply(&record);
    }
    model.apply(&exec_details(2, 10, b"daemon\0"));
    for pid in [20, 30] {
        let process = model.get(Tgid(pid)).unwrap();
        assert_eq!((process.args(), process.comm()), (Some(&b"daemon\0"[..]), Some(&b"worker"[..])));
    }
}

#[test]
fn beyond_the_memory_limit_texts_are_dropped_and_counted() {
    let mut model = model();
    let args = vec![b'x'; 64 << 10];
    for pid in 2..1002 {
        model.apply(&fork(u64::from(pid), 1, pid));
        model.apply(&exec(u64::from(pid), pid));
        model.apply(&exec_details(u64::from(pid), pid, &args));
        assert!(model.bytes() <= MAX_BYTES);
    }
    assert!(model.incomplete() > 500);
    assert_eq!(model.get(Tgid(1001)).unwrap().args(), Some(&args[..]));
    let details = model.get(Tgid(2)).unwrap().details();
    assert_eq!((details.args, details.miss, model.len()), (None, Some(MissReason::TooLong), 1001));
}

#[test]
fn beyond_the_limits_processes_and_threads_are_dropped_and_counted() {
    let mut model = model();
    for pid in 1..100_000 {
        model.apply(&fork(1, pid / 2, pid));
        let thread = EventBody::Fork { parent: Task::new(1, 1), child: Task::new(200_000 + pid, 1) };
        model.apply(&event(1, thread));
        model.apply(&exec(1, pid));
    }
    assert_eq!(model.len(), MAX_PROCESSES);
    assert!(model.incomplete() >= 2 * (100_000 - MAX_PROCESSES as u64));
    assert!(model.bytes() <= MAX_BYTES);
    (1..100_000).for_each(|pid| model.apply(&exit(2, pid)));
    model.apply(&fork(3, 0, 7));
    let pids: Vec<_> = model.processes().map(|details| details.subject.tgid().0).collect();
    assert_eq!(pids, [1, 7], "process 1 still has threads");
}

#[test]
fn hostile_records_leave_consistent_links() {
    let mut random = oorandom::Rand32::new(4711);
    let mut model = model();
    for _ in 0..20_000 {
        let mut id = || random.rand_range(0..24);
        let (kind, task, other) = (id() % 9, Task::new(id(), id()), Task::new(id(), id()));
        let ms = u64::from(id());
        model.apply(&match kind {
            0 | 1 => event(ms, EventBody::Fork { parent: other, child: task }),
            2 => event(ms, EventBody::Exit { task, code: 0, signal: 17, parent: Some(other) }),
            3 => exec(ms, task.tgid.0),
            4 => exec_details(ms, task.tgid.0, b"a\0b\0"),
            5 => event(ms, EventBody::Sid { task }),
            6 => {
                let subject = DetailsSubject::Snapshot { tgid: task.tgid };
                let ppid = Some(other.tgid.0);
                Record::Details(Box::new(Details { ppid, ..Details::missed(subject, MissReason::Busy) }))
            }
            7 => {
                let (started, reason) = (MonoNs(ms * 1_000_000), SnapshotReason::Loss);
                let snapshot =
                    Snapshot { started, ended: started, processes: other.tid.0 % 3, reason, atomic: false };
                Record::Snapshot(snapshot)
            }
            _ => exit(ms, task.tgid.0),
        });
        check_links(&model).unwrap();
    }
}
