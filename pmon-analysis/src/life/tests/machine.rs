//! A machine that runs random processes, and knows what its rows must be.

use std::collections::BTreeMap;

use oorandom::Rand32;

use super::*;

/// Number of process IDs, few enough that they are reused all the time.
const PIDS: u32 = 24;
/// Process ID of the first process, which never ends.
const INIT: u32 = 1;

/// What the row of a process must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrueLife {
    pub(super) pid: u32,
    pub(super) start: u64,
    /// Process ID and start of the process that forked it.
    pub(super) parent: (u32, u64),
    /// Times and command lines.
    pub(super) execs: Vec<(u64, String)>,
    pub(super) comm: String,
    pub(super) threads: u32,
    /// Time and raw wait status.
    pub(super) end: Option<(u64, u32)>,
}

struct Running {
    life: TrueLife,
    /// IDs of the threads that run, the first one included.
    tids: Vec<u32>,
    /// Status of the first thread, once it has exited.
    first_status: Option<u32>,
}

/// A machine with a recorder.
pub(super) struct Machine {
    random: Rand32,
    now: u64,
    last_tid: u32,
    running: BTreeMap<u32, Running>,
    /// Details of execs that have not been recorded yet.
    late: Vec<Record<'static>>,
    /// Out of 100 events, how many are lost.
    loss: u32,
    pub(super) records: Vec<Record<'static>>,
    /// Processes in the order of their ends, without the first.
    pub(super) ended: Vec<TrueLife>,
    /// Starts of the processes whose fork was recorded.
    pub(super) recorded_starts: Vec<u64>,
}

impl Machine {
    /// Runs a machine for some steps. Of 100 events, `loss` are lost.
    pub(super) fn run(seed: u64, steps: u32, loss: u32) -> Self {
        let mut this = Self {
            random: Rand32::new(seed),
            now: 1_000_000_000,
            last_tid: 1000,
            running: BTreeMap::new(),
            late: Vec::new(),
            loss,
            records: vec![scanned(INIT, "init", 0, 1), snapshot(1)],
            ended: Vec::new(),
            recorded_starts: Vec::new(),
        };
        let life = TrueLife {
            pid: INIT,
            start: 0,
            parent: (0, 0),
            execs: Vec::new(),
            comm: "init".into(),
            threads: 0,
            end: None,
        };
        this.running.insert(INIT, Running { life, tids: vec![INIT], first_status: None });
        for _ in 0..steps {
            this.step();
        }
        let late = std::mem::take(&mut this.late);
        this.records.extend(late);
        this
    }

    /// Returns what must be known of the processes that are still running, in the order of their
    /// IDs, without the first.
    pub(super) fn running(&self) -> Vec<TrueLife> {
        self.running
            .values()
            .filter(|running| running.life.pid != INIT)
            .map(|running| running.life.clone())
            .collect()
    }

    fn pick(&mut self, number: usize) -> usize {
        self.random.rand_range(0..number as u32) as usize
    }

    fn emit(&mut self, record: Record<'static>) -> bool {
        if self.random.rand_range(0..100) < self.loss {
            self.records.push(loss(self.now));
            return false;
        }
        self.records.push(record);
        true
    }

    fn step(&mut self) {
        self.now += 1000 + u64::from(self.random.rand_range(0..100_000));
        if !self.late.is_empty() && self.pick(2) == 0 {
            let at = self.pick(self.late.len());
            let record = self.late.remove(at);
            self.records.push(record);
        }
        let pids: Vec<u32> = self.running.keys().copied().collect();
        let pid = pids[self.pick(pids.len())];
        match self.pick(10) {
            0..=3 => self.fork(pid),
            4 => self.exec(pid),
            5 => self.start_thread(pid),
            6 => self.rename(pid),
            _ if pid != INIT => self.exit_thread(pid),
            _ => {}
        }
    }

    fn fork(&mut self, parent: u32) {
        let child = 2 + self.pick(PIDS as usize) as u32;
        let of = &self.running[&parent];
        if self.running.contains_key(&child) || of.first_status.is_some() {
            return;
        }
        let life = TrueLife {
            pid: child,
            start: self.now,
            parent: (parent, of.life.start),
            execs: Vec::new(),
            comm: of.life.comm.clone(),
            threads: 0,
            end: None,
        };
        self.running.insert(child, Running { life, tids: vec![child], first_status: None });
        if self.emit(fork(self.now, parent, child)) {
            self.recorded_starts.push(self.now);
        }
    }

    fn start_thread(&mut self, pid: u32) {
        self.last_tid += 1;
        let (now, tid) = (self.now, self.last_tid);
        let of = self.running.get_mut(&pid).unwrap();
        of.tids.push(tid);
        of.life.threads += 1;
        let parent = of.life.parent.0.max(1);
        self.emit(thread(now, parent, pid, tid));
    }

    /// All other threads exit, and then the process executes a program.
    fn exec(&mut self, pid: u32) {
        let of = self.running.get_mut(&pid).unwrap();
        if of.first_status.is_some() {
            return;
        }
        let others: Vec<u32> = of.tids.iter().copied().filter(|&tid| tid != pid).collect();
        of.tids = vec![pid];
        for tid in others {
            let usage = Usage { process: ProcessState::Alive, ..Usage::default() };
            self.emit(exit_with(self.now, tid, pid, 0, usage));
            self.now += 1000;
        }
        let (now, name) = (self.now, format!("p{}", self.now % 97));
        let command = format!("{name} {now}");
        let of = self.running.get_mut(&pid).unwrap();
        of.life.comm = name;
        of.life.execs.push((now, command.clone()));
        if self.emit(exec(now, pid)) {
            self.late.push(exec_details(now, pid, &command));
        }
    }

    fn rename(&mut self, pid: u32) {
        let now = self.now;
        let of = self.running.get_mut(&pid).unwrap();
        if of.first_status.is_some() {
            return;
        }
        let name = format!("r{}", now % 89);
        of.life.comm = name.clone();
        let mut comm = Comm::default();
        comm.0[..name.len()].copy_from_slice(name.as_bytes());
        self.emit(event(now, EventBody::Comm { task: task(pid), comm }));
    }

    /// One thread exits. The process ends with its last one, and has the status of the first.
    fn exit_thread(&mut self, pid: u32) {
        let (now, random) = (self.now, self.pick(64));
        let code = if random % 3 == 0 { 9 } else { (random as u32) << 8 };
        let of = self.running.get_mut(&pid).unwrap();
        let tid = of.tids.remove(random % of.tids.len());
        if tid == pid {
            of.first_status = Some(code);
        }
        let is_last = of.tids.is_empty();
        let status = of.first_status.unwrap_or(code);
        let process = if is_last { ProcessState::Ended { status } } else { ProcessState::Alive };
        let others = of.tids.len() as u32;
        if is_last {
            let mut life = self.running.remove(&pid).unwrap().life;
            life.end = Some((now, status));
            self.ended.push(life);
        }
        self.emit(exit_with(now, tid, pid, code, Usage { process, threads: others, ..Usage::default() }));
    }
}
