//! An invented machine that emits records.

use super::*;

/// A random step: its kind, and three choices.
pub(super) type Step = (u8, usize, usize, bool);

/// A machine that emits records.
pub(super) struct Machine {
    pub(super) ms: u64,
    /// Whether exits have the state of their process, as with the ring.
    pub(super) has_states: bool,
    /// Whether other events can come before the details of an exec.
    pub(super) has_late_details: bool,
    pub(super) processes: BTreeMap<u32, Running>,
    pub(super) last_id: u32,
    pub(super) records: Vec<Record<'static>>,
    /// Details of execs that have not been read yet.
    pub(super) pending: Vec<Details>,
    /// Number of events to lose, and whether some have been lost since the last record.
    pub(super) losing: (u32, bool),
    pub(super) has_lost: bool,
    /// Whether threads other than the first rename themselves, fork processes, and stay when the
    /// first one exits.
    pub(super) renames_threads: bool,
}

#[derive(Clone)]
pub(super) struct Running {
    ppid: u32,
    /// Threads, with the first one unless it has exited.
    threads: Vec<u32>,
    ticks: u64,
    ids: Credentials,
    session: u32,
    program: String,
}

impl Machine {
    pub(super) fn new(has_states: bool, has_late_details: bool) -> Self {
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
            container: Some(b"web\0\0\0\0".to_vec()),
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

    pub(super) fn step(&mut self, (kind, one, other, flag): Step) {
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

pub(super) fn machine(steps: &[Step], (has_states, has_late_details): (bool, bool)) -> Machine {
    let mut machine = Machine::new(has_states, has_late_details);
    steps.iter().for_each(|&step| machine.step(step));
    machine.step((15, 0, 0, false));
    machine
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..18, 0_usize..30, 0_usize..30, any::<bool>()), 0..80)
}
