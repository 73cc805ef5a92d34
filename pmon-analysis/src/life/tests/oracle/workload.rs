//! Records of a random machine: few IDs, which processes and threads use again and again, losses,
//! scans, and details that are missing or late.

use std::collections::BTreeMap;

use oorandom::Rand32;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    Blind, Credentials, Details, DetailsSubject, Loss, MissReason, ProcessContext, ProcessState, Record,
    RecordedDatagram, Snapshot, SnapshotReason, Usage,
};
use pmon_core::wire::{Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

/// Number of IDs for processes and threads.
const IDS: u32 = 28;
/// First time, in ns.
const START: u64 = 1_000_000_000;

/// How a recorder sees the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorder {
    /// Whether exits have the usage and the state of their process, as with the ring.
    pub(super) has_usage: bool,
    /// Whether details come right after their exec, as with the ring.
    pub(super) is_prompt: bool,
    /// Out of 100 events, how many are lost.
    pub(super) loss: u32,
}

#[derive(Clone)]
struct Process {
    ppid: u32,
    started: u64,
    /// Threads that run, the first one included.
    tids: Vec<u32>,
    /// Status of the first thread once it has exited.
    status: Option<u32>,
    ids: Credentials,
    session: u32,
    group: u32,
    is_subreaper: bool,
    name: String,
    command: String,
}

/// The machine and its recorder.
pub(super) struct Workload {
    random: Rand32,
    recorder: Recorder,
    now: u64,
    processes: BTreeMap<u32, Process>,
    late: Vec<Record<'static>>,
    /// Number of events to lose.
    losing: u32,
    pub(super) records: Vec<Record<'static>>,
}

impl Workload {
    /// Returns the records of a machine that runs for some steps.
    pub(super) fn records(seed: u64, steps: u32) -> Vec<Record<'static>> {
        let mut random = Rand32::new(seed);
        let recorder = Recorder {
            has_usage: seed.is_multiple_of(2),
            is_prompt: !seed.is_multiple_of(3),
            loss: [0, 1, 5, 20][seed as usize % 4],
        };
        let init = Process {
            ppid: 0,
            started: 0,
            tids: vec![1],
            status: None,
            ids: Credentials { uid: 0, euid: 0, gid: 0, egid: 0 },
            session: 1,
            group: 1,
            is_subreaper: true,
            name: "init".into(),
            command: "/sbin/init\0".into(),
        };
        let shell =
            Process { ppid: 1, tids: vec![2], name: "sh".into(), command: "sh\0-i\0".into(), ..init.clone() };
        let shell = Process { session: 2, group: 2, is_subreaper: random.rand_range(0..2) == 0, ..shell };
        let processes = BTreeMap::from([(1, init), (2, shell)]);
        let mut this = Self {
            random,
            recorder,
            now: START,
            processes,
            late: Vec::new(),
            losing: 0,
            records: Vec::new(),
        };
        this.scan(SnapshotReason::Start);
        (0..steps).for_each(|_| this.step());
        let late = std::mem::take(&mut this.late);
        this.records.extend(late);
        this.records
    }

    fn pick(&mut self, number: usize) -> usize {
        self.random.rand_range(0..number as u32) as usize
    }

    fn emit(&mut self, body: EventBody, usage: Option<Usage>) -> bool {
        let longest = if self.pick(8) == 0 { 40_000_000 } else { 2_000_000 };
        self.now += 500 + u64::from(self.random.rand_range(0..longest));
        if self.losing == 0 && self.random.rand_range(0..200) < self.recorder.loss {
            self.losing = 1 + self.random.rand_range(0..4);
        }
        let time = MonoNs(self.now);
        if self.losing > 0 {
            self.losing -= 1;
            if self.losing == 0 {
                let (cause, after, before) = (LossCause::Socket, time, time);
                let loss = match self.pick(4) {
                    0 => Record::Blind(Blind { from: after, until: before }),
                    _ => {
                        Record::Loss(Loss { cpu: Cpu(0), first: Seq(1), last: Seq(1), after, before, cause })
                    }
                };
                self.records.push(loss);
            }
            return false;
        }
        let event = Event { time, seq: Seq(0), cpu: Cpu(0), body };
        let usage = usage.filter(|_| self.recorder.has_usage).map(Box::new);
        self.records.push(Record::Event(RecordedDatagram::Event(event), usage));
        true
    }

    fn step(&mut self) {
        if !self.late.is_empty() && self.pick(3) == 0 {
            let at = self.pick(self.late.len());
            let record = self.late.remove(at);
            self.records.push(record);
        }
        let pids: Vec<u32> = self.processes.keys().copied().collect();
        let pid = pids[self.pick(pids.len())];
        let has_first = self.processes[&pid].status.is_none();
        let tids = self.processes[&pid].tids.clone();
        let task = Task::new(tids[self.pick(tids.len())], pid);
        match self.pick(40) {
            0..=9 => self.fork(pid, task),
            10..=13 => self.start_thread(pid),
            14..=18 => self.exec(pid, task),
            19..=20 => self.rename(pid, task),
            21 if has_first => {
                let real = self.random.rand_range(0..9);
                let effective = self.processes[&pid].ids.euid;
                self.change(pid).ids.uid = real;
                self.emit(EventBody::Uid { task: Task::new(pid, pid), real, effective }, None);
            }
            22 if has_first => {
                let effective = self.random.rand_range(0..9);
                let real = self.processes[&pid].ids.gid;
                self.change(pid).ids.egid = effective;
                self.emit(EventBody::Gid { task: Task::new(pid, pid), real, effective }, None);
            }
            23 => {
                (self.change(pid).session, self.change(pid).group) = (pid, pid);
                self.emit(EventBody::Sid { task }, None);
            }
            24 => drop(self.emit(EventBody::Ptrace { task, tracer: Task::new(2, 2) }, None)),
            25 if self.pick(4) == 0 => self.scan(SnapshotReason::Loss),
            26..=30 if pid > 2 => self.exit_thread(pid, task.tid.0),
            31..=37 if pid > 2 => self.exit_group(pid),
            _ => {}
        }
    }

    fn change(&mut self, pid: u32) -> &mut Process {
        self.processes.get_mut(&pid).expect("it runs")
    }

    /// Returns an ID that no process and no thread has.
    fn free_id(&mut self) -> Option<u32> {
        let id = 3 + self.random.rand_range(0..IDS);
        let is_used = |id| self.processes.iter().any(|(&pid, of)| pid == id || of.tids.contains(&id));
        (!is_used(id)).then_some(id)
    }

    fn fork(&mut self, pid: u32, task: Task) {
        let Some(child) = self.free_id() else { return };
        let of = self.processes[&pid].clone();
        self.processes.insert(
            child,
            Process { ppid: pid, tids: vec![child], status: None, started: 0, is_subreaper: false, ..of },
        );
        self.emit(EventBody::Fork { parent: task, child: Task::new(child, child) }, None);
        self.change(child).started = self.now;
        self.change(child).is_subreaper = self.pick(8) == 0;
    }

    fn start_thread(&mut self, pid: u32) {
        let Some(tid) = self.free_id() else { return };
        let ppid = self.processes[&pid].ppid;
        self.change(pid).tids.push(tid);
        self.emit(EventBody::Fork { parent: Task::new(ppid, ppid), child: Task::new(tid, pid) }, None);
    }

    /// Any thread executes a program. All others exit, and it becomes the first one.
    fn exec(&mut self, pid: u32, task: Task) {
        let others: Vec<u32> =
            self.processes[&pid].tids.iter().copied().filter(|&tid| tid != task.tid.0).collect();
        for tid in others {
            self.exit(pid, tid, 0);
        }
        let number = self.now % 97;
        let of = self.change(pid);
        (of.tids, of.status, of.name) = (vec![pid], None, format!("p{number}"));
        of.command = format!("p{number}\0-v\0");
        if !self.emit(EventBody::Exec { task: Task::new(pid, pid) }, None) {
            return;
        }
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(self.now) };
        let details = match self.pick(6) {
            0 => Details::missed(subject, MissReason::Gone),
            _ => self.details(pid, subject),
        };
        let record = Record::Details(Box::new(details));
        match self.recorder.is_prompt {
            true => self.records.push(record),
            false => self.late.push(record),
        }
    }

    fn rename(&mut self, pid: u32, task: Task) {
        let name = format!("r{}", self.now % 89);
        let mut comm = Comm::default();
        comm.0[..name.len()].copy_from_slice(name.as_bytes());
        if task.is_leader() {
            self.change(pid).name = name;
        }
        self.emit(EventBody::Comm { task, comm }, None);
    }

    fn exit_group(&mut self, pid: u32) {
        let code = if self.pick(3) == 0 { 9 } else { (self.pick(4) as u32) << 8 };
        for tid in self.processes[&pid].tids.clone() {
            self.exit(pid, tid, code);
        }
    }

    fn exit_thread(&mut self, pid: u32, tid: u32) {
        self.exit(pid, tid, 0);
    }

    fn exit(&mut self, pid: u32, tid: u32, code: u32) {
        let of = self.change(pid);
        of.tids.retain(|&other| other != tid);
        if tid == pid {
            of.status = Some(code);
        }
        let (others, status, ppid) = (of.tids.len() as u32, of.status.unwrap_or(code), of.ppid);
        let state = if others == 0 { ProcessState::Ended { status } } else { ProcessState::Alive };
        let started = of.started;
        let usage = Usage {
            start_ticks: (started + 5_000_000_000) / 10_000_000,
            threads: others,
            process: state,
            ..Usage::default()
        };
        if others == 0 {
            self.processes.remove(&pid);
            let reaper = self.reaper(ppid);
            for child in self.processes.values_mut().filter(|child| child.ppid == pid) {
                child.ppid = reaper;
            }
        }
        let (task, parent) = (Task::new(tid, pid), Some(Task::new(ppid, ppid)));
        self.emit(EventBody::Exit { task, code, signal: 17, parent }, Some(usage));
    }

    /// Returns the process that adopts the children of a child of `ppid`.
    fn reaper(&self, ppid: u32) -> u32 {
        let mut next = ppid;
        while let Some(process) = self.processes.get(&next) {
            if process.is_subreaper {
                return next;
            }
            next = process.ppid;
        }
        1
    }

    fn details(&self, pid: u32, subject: DetailsSubject) -> Details {
        let of = &self.processes[&pid];
        Details {
            miss: None,
            ppid: Some(of.ppid),
            start_ticks: Some((of.started + 5_000_000_000) / 10_000_000),
            ids: Some(of.ids),
            comm: Some(of.name.clone().into()),
            cwd: Some("/".into()),
            args: Some(of.command.clone().into()),
            context: Some(ProcessContext {
                session: of.session,
                group: of.group,
                ..ProcessContext::default()
            }),
            ..Details::missed(subject, MissReason::Gone)
        }
    }

    fn scan(&mut self, reason: SnapshotReason) {
        let pids: Vec<u32> = self.processes.keys().copied().collect();
        for &pid in &pids {
            let of = &self.processes[&pid];
            let threads = Some(of.tids.len().max(1) as u32);
            let details = self.details(pid, DetailsSubject::Snapshot { tgid: Tgid(pid) });
            self.records.push(Record::Details(Box::new(Details { threads, ..details })));
        }
        let (time, processes) = (MonoNs(self.now), pids.len() as u32);
        let snapshot = Snapshot { started: time, ended: time, processes, reason, atomic: false };
        self.records.push(Record::Snapshot(snapshot));
    }
}
