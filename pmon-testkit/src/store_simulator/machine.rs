//! A machine whose processes fork, exec, rename themselves and exit, and the events of it.

use std::collections::BTreeMap;

use oorandom::Rand32;
use pmon_core::capture::{ClockAnchor, Credentials, Details, DetailsSubject};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

/// Byte order of all datagrams.
pub(super) const ORDER: ByteOrder = ByteOrder::NATIVE;
/// Clock ticks per second.
pub(super) const TICKS: u32 = 100;
/// Name of the machine.
pub(super) const HOST: &str = "web-1";
/// Process id of the recorder.
pub(super) const RECORDER: u32 = 900;
/// Maximum number of processes.
const MAX_PROCESSES: usize = 24;
/// Real time at the start, in ns: 2026-11-29T08:15:02Z.
const EPOCH_NS: i64 = 1_795_940_102_000_000_000;

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) ppid: u32,
    pub(super) start_ticks: u64,
    pub(super) comm: String,
    pub(super) exe: String,
}

/// An event, and the details of an exec.
#[derive(Clone, Debug)]
pub(super) struct EmittedEvent {
    pub(super) event: Event,
    pub(super) details: Option<Box<Details>>,
}

/// The simulated machine. Its sequence numbers are exact.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    random: Rand32,
    now: MonoNs,
    /// Difference of `CLOCK_REALTIME` and `CLOCK_MONOTONIC`, in ns.
    real_offset: i64,
    /// Number of boots so far.
    boots: u32,
    /// The number of the first event of each CPU since the boot.
    pub(super) first: Vec<Seq>,
    /// The number of events of each CPU since the boot.
    pub(super) emitted: Vec<u64>,
    pub(super) processes: BTreeMap<u32, Process>,
    next_pid: u32,
}

impl Machine {
    /// Creates a machine with this number of CPUs, whose numbers may wrap soon.
    pub(super) fn new(cpus: u32, seed: u64) -> Self {
        let mut machine = Self {
            random: Rand32::new(seed ^ 0x6d61_6368),
            now: MonoNs(100_000_000_000),
            real_offset: EPOCH_NS,
            boots: 0,
            first: vec![Seq(0); cpus as usize],
            emitted: Vec::new(),
            processes: BTreeMap::new(),
            next_pid: 0,
        };
        machine.boot();
        machine
    }

    /// Starts the machine again: with new numbers, new processes, and a low monotonic clock.
    pub(super) fn boot(&mut self) {
        self.boots += 1;
        let passed = self.now.0 as i64;
        self.now = MonoNs(3_000_000_000 + u64::from(self.below(1_000_000_000)));
        self.real_offset += passed - self.now.0 as i64 + 20_000_000_000;
        for cpu in 0..self.first.len() {
            self.first[cpu] = match self.below(3) {
                0 => Seq(u32::MAX - self.below(200)),
                1 => Seq(0),
                _ => Seq(self.below(u32::MAX)),
            };
        }
        self.emitted = vec![0; self.first.len()];
        self.processes.clear();
        for (pid, comm) in [(1, "init"), (RECORDER, "pmon")] {
            let exe = format!("/sbin/{comm}");
            self.processes.insert(pid, Process { ppid: 0, start_ticks: 7, comm: comm.into(), exe });
        }
        self.next_pid = 1000;
    }

    /// Returns the boot id.
    pub(super) fn boot_id(&self) -> String {
        format!("00000000-0000-0000-0000-{:012}", self.boots)
    }

    /// Returns the clocks as of now.
    pub(super) fn clock(&self) -> ClockAnchor {
        let (mono, real_ns) = (self.now, self.real_offset + self.now.0 as i64);
        ClockAnchor { mono, boot_ns: mono.0, real_ns }
    }

    /// Steps the real-time clock.
    pub(super) fn step_clock(&mut self, ns: i64) {
        self.real_offset += ns;
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, ns: u64) {
        self.now.0 += ns;
    }

    /// Returns the time as of now.
    pub(super) fn now(&self) -> MonoNs {
        self.now
    }

    /// Returns what a scan finds of a process.
    pub(super) fn details(&self, pid: u32, subject: DetailsSubject) -> Option<Details> {
        let process = self.processes.get(&pid)?;
        Some(Details {
            subject,
            miss: None,
            ppid: Some(process.ppid),
            start_ticks: Some(process.start_ticks),
            parent_start_ticks: self.processes.get(&process.ppid).map(|parent| parent.start_ticks),
            ids: Some(Credentials::default()),
            comm: Some(process.comm.clone().into()),
            exe: Some(process.exe.clone().into()),
            filename: None,
            cwd: Some(b"/".to_vec()),
            cgroup: Some(b"0::/work".to_vec()),
            args: Some(format!("{}\0--pid\0{pid}\0", process.comm).into()),
            args_len: None,
            context: None,
            container: None,
            threads: None,
            forked: None,
        })
    }

    /// Emits an event of a random process on a random CPU.
    pub(super) fn emit(&mut self) -> EmittedEvent {
        let cpu = Cpu(self.below(self.first.len() as u32));
        let pids: Vec<u32> = self.processes.keys().copied().filter(|&pid| pid != RECORDER).collect();
        let pid = pids[self.below(pids.len() as u32) as usize];
        let task = Task::new(pid, pid);
        let is_full = self.processes.len() >= MAX_PROCESSES;
        let (body, has_details) = match self.below(10) {
            0..4 if !is_full => {
                let child = self.next_pid;
                self.next_pid += 1;
                let copy = Process { ppid: pid, ..self.processes[&pid].clone() };
                self.processes.insert(child, copy);
                (EventBody::Fork { parent: task, child: Task::new(child, child) }, false)
            }
            4..6 if pid != 1 => {
                let name = ["cc", "ld", "sh", "make", "true"][self.below(5) as usize];
                if let Some(process) = self.processes.get_mut(&pid) {
                    (process.comm, process.exe) = (name.into(), format!("/usr/bin/{name}"));
                }
                (EventBody::Exec { task }, true)
            }
            6..9 if pid != 1 => {
                let parent = self.processes.remove(&pid).map_or(1, |process| process.ppid);
                for process in self.processes.values_mut().filter(|process| process.ppid == pid) {
                    process.ppid = 1;
                }
                let parent = Some(Task::new(parent, parent));
                (EventBody::Exit { task, code: self.below(2) << 8, signal: 17, parent }, false)
            }
            _ => {
                let name = format!("worker/{}", self.below(30));
                (self.rename(task, &name), false)
            }
        };
        let event = self.emit_on(cpu, body);
        if let EventBody::Fork { child, .. } = body
            && let Some(process) = self.processes.get_mut(&child.tgid.0)
        {
            process.start_ticks = event.time.0 / (1_000_000_000 / u64::from(TICKS));
        }
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: event.time };
        let details = has_details.then(|| self.details(pid, subject)).flatten().map(Box::new);
        EmittedEvent { event, details }
    }

    /// Emits the event of a fence on a CPU.
    pub(super) fn emit_fence(&mut self, cpu: Cpu) -> EmittedEvent {
        let mut comm = Comm::default();
        comm.0[..10].copy_from_slice(b"pmon/fence");
        // A thread that is not the first one does not name the process.
        let body = EventBody::Comm { task: Task::new(RECORDER + 1, RECORDER), comm };
        EmittedEvent { event: self.emit_on(cpu, body), details: None }
    }

    fn rename(&mut self, task: Task, name: &str) -> EventBody {
        if let Some(process) = self.processes.get_mut(&task.tgid.0) {
            process.comm = name.into();
        }
        let mut comm = Comm::default();
        comm.0[..name.len()].copy_from_slice(name.as_bytes());
        EventBody::Comm { task, comm }
    }

    fn emit_on(&mut self, cpu: Cpu, body: EventBody) -> Event {
        self.now.0 += 1000 + u64::from(self.below(20_000));
        let emitted = &mut self.emitted[cpu.0 as usize];
        let seq = Seq(self.first[cpu.0 as usize].0.wrapping_add(*emitted as u32));
        *emitted += 1;
        Event { time: self.now, seq, cpu, body }
    }

    fn below(&mut self, n: u32) -> u32 {
        self.random.rand_range(0..n)
    }
}
