//! The capture that the tests replay, and the lines that clients print of it.

use std::time::Duration;

use pmon_core::Task;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{
    Credentials, Details, DetailsSubject, End, MissReason, ProcessContext, Record, RecordedDatagram,
    Snapshot, SnapshotReason,
};
use pmon_core::wire::{ByteOrder, EventBody};
use pmon_core::{MonoNs, Tgid};

use crate::support::{self, START, capture, clock, comm, loss, scan_end};

/// The shell that starts all programs. Few machines have processes with ids that high.
pub(crate) const SHELL: u32 = 4_190_000;
/// A process that ended before the recorder could read its details.
pub(crate) const MISSED: u32 = SHELL + 60;
/// A process that runs until after the last event.
const LASTING: u32 = SHELL + 70;

/// Time between two events, in microseconds.
pub(crate) const EVENT_INTERVAL: u64 = 1_000;

/// A recorded program.
pub(crate) struct RecordedProgram {
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    pub(crate) uid: u32,
    pub(crate) comm: &'static str,
    pub(crate) exe: &'static str,
    pub(crate) args: &'static str,
    pub(crate) cwd: &'static str,
}

/// The processes at the start of the recording. The second is a kernel thread.
const INITIAL: [RecordedProgram; 3] = [
    RecordedProgram {
        pid: 1,
        ppid: 0,
        uid: 0,
        comm: "systemd",
        exe: "/usr/lib/systemd/systemd",
        args: "/sbin/init splash",
        cwd: "/",
    },
    RecordedProgram { pid: 2, ppid: 0, uid: 0, comm: "kthreadd", exe: "", args: "", cwd: "/" },
    RecordedProgram {
        pid: SHELL,
        ppid: 1,
        uid: 1000,
        comm: "bash",
        exe: "/usr/bin/bash",
        args: "-bash",
        cwd: "/home/ada",
    },
];

fn git() -> RecordedProgram {
    let (pid, ppid) = (SHELL + 20, SHELL);
    RecordedProgram {
        pid,
        ppid,
        uid: 1000,
        comm: "git",
        exe: "/usr/bin/git",
        args: "git status --short",
        cwd: "/home/ada/pmon",
    }
}

fn pager() -> RecordedProgram {
    let (pid, ppid) = (SHELL + 22, SHELL + 20);
    RecordedProgram {
        pid,
        ppid,
        uid: 1000,
        comm: "less",
        exe: "/usr/bin/less",
        args: "less -R",
        cwd: "/home/ada/pmon",
    }
}

fn short_lived(number: u32) -> RecordedProgram {
    let (pid, ppid) = (SHELL + 30 + number, SHELL);
    RecordedProgram {
        pid,
        ppid,
        uid: 1000,
        comm: "true",
        exe: "/usr/bin/true",
        args: "true one two",
        cwd: "/tmp",
    }
}

fn lasting() -> RecordedProgram {
    RecordedProgram {
        pid: LASTING,
        ppid: SHELL,
        uid: 1000,
        comm: "sleep",
        exe: "/usr/bin/sleep",
        args: "sleep infinity",
        cwd: "/",
    }
}

/// The records of a capture.
pub(crate) struct TestCapture {
    records: Vec<Record<'static>>,
    /// Time of the last event, in microseconds since the start.
    us: u64,
    /// Sequence number of the last event of each CPU.
    last_seq: [u32; 2],
    lost: LossByCause,
}

impl TestCapture {
    /// Returns a capture with all kinds of events and the details of the programs, without a loss.
    pub(crate) fn new() -> Self {
        let mut this =
            Self { records: vec![clock()], us: 0, last_seq: [1_000, 5_000], lost: LossByCause::default() };
        for program in &INITIAL {
            this.add_details(DetailsSubject::Snapshot { tgid: Tgid(program.pid) }, program);
        }
        this.records.push(match scan_end() {
            Record::Snapshot(scan) => {
                Record::Snapshot(Snapshot { processes: 3, reason: SnapshotReason::Start, ..scan })
            }
            other => other,
        });
        this.add_git();
        for number in 0..5 {
            let program = short_lived(number);
            this.add_program(&program);
            this.add_exit(program.pid, 0);
        }
        this.add_daemon();
        this.add_fork(SHELL, MISSED);
        this.add_event(EventBody::Exec { task: Task::new(MISSED, MISSED) });
        let subject = DetailsSubject::Exec { tgid: Tgid(MISSED), time: this.now() };
        this.records.push(Record::Details(Box::new(Details::missed(subject, MissReason::Gone))));
        this.add_exit(MISSED, 0);
        this.add_program(&lasting());
        this
    }

    /// Returns the same capture with `count` more short-lived processes of three events each.
    pub(crate) fn with_processes(count: u32) -> Self {
        let mut this = Self::new();
        for number in 0..count {
            let pid = SHELL + 100 + number % 1_000;
            this.add_fork(SHELL, pid);
            this.add_event(EventBody::Exec { task: Task::new(pid, pid) });
            this.add_exit(pid, 0);
        }
        this
    }

    /// Adds `git` with a thread, a pager that changes its user, and a failing exit code.
    fn add_git(&mut self) {
        let (git, pager) = (git(), pager());
        let (shell, thread) = (Task::new(SHELL, SHELL), Task::new(git.pid + 1, git.pid));
        self.add_program(&git);
        // The kernel reports the process's parent as the parent of a thread.
        self.add_event(EventBody::Fork { parent: shell, child: thread });
        self.add_event(EventBody::Comm { task: thread, comm: comm(b"worker") });
        self.add_event(EventBody::Exit { task: thread, code: 0, signal: u32::MAX, parent: None });
        self.add_program(&pager);
        let task = Task::new(pager.pid, pager.pid);
        self.add_event(EventBody::Gid { task, real: 100, effective: 0 });
        self.add_event(EventBody::Uid { task, real: 1000, effective: 0 });
        self.add_exit(pager.pid, 0);
        self.add_exit(git.pid, 3 << 8);
    }

    /// Adds a process that creates a session, is traced, and dumps core.
    fn add_daemon(&mut self) {
        let daemon = Task::new(SHELL + 50, SHELL + 50);
        self.add_fork(SHELL, daemon.tid.0);
        self.add_event(EventBody::Sid { task: daemon });
        self.add_event(EventBody::Comm { task: daemon, comm: comm(b"watcher") });
        self.add_event(EventBody::Ptrace { task: daemon, tracer: Task::new(SHELL, SHELL) });
        self.add_event(EventBody::Coredump { task: daemon, parent: Some(Task::new(SHELL, SHELL)) });
        self.add_exit(daemon.tid.0, 11 | 0x80);
    }

    fn now(&self) -> MonoNs {
        MonoNs(START + self.us * 1_000)
    }

    /// Adds an event on the other CPU than the last one.
    fn add_event(&mut self, body: EventBody) {
        self.us += EVENT_INTERVAL;
        let cpu = (self.us / EVENT_INTERVAL % 2) as usize;
        self.last_seq[cpu] += 1;
        self.records.push(support::event(self.us, cpu as u32, self.last_seq[cpu], body));
    }

    fn add_fork(&mut self, parent: u32, child: u32) {
        self.add_event(EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child, child) });
    }

    /// Adds a fork, an exec and its details.
    fn add_program(&mut self, program: &RecordedProgram) {
        self.add_fork(program.ppid, program.pid);
        self.add_event(EventBody::Exec { task: Task::new(program.pid, program.pid) });
        self.add_details(DetailsSubject::Exec { tgid: Tgid(program.pid), time: self.now() }, program);
    }

    fn add_exit(&mut self, pid: u32, code: u32) {
        let (task, parent) = (Task::new(pid, pid), Some(Task::new(SHELL, SHELL)));
        self.add_event(EventBody::Exit { task, code, signal: 17, parent });
    }

    fn add_details(&mut self, subject: DetailsSubject, program: &RecordedProgram) {
        let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        let mut args = program.args.replace(' ', "\0").into_bytes();
        args.push(0);
        let leader = if program.pid < SHELL { 0 } else { SHELL };
        self.records.push(Record::Details(Box::new(Details {
            miss: None,
            ppid: Some(program.ppid),
            start_ticks: Some((START + self.us * 1_000) / 10_000_000),
            ids: Some(Credentials { uid: program.uid, euid: program.uid, gid: 100, egid: 100 }),
            comm: some(program.comm),
            exe: some(program.exe),
            cwd: some(program.cwd),
            args: some(program.args).map(|_| args),
            context: Some(ProcessContext {
                session: leader,
                group: leader,
                login_uid: 1000,
                ..ProcessContext::default()
            }),
            ..Details::missed(subject, MissReason::Gone)
        })));
    }

    /// Returns the datagrams of the events.
    pub(crate) fn datagrams(&self) -> Vec<Vec<u8>> {
        let datagram = |record: &Record<'_>| match record {
            Record::Event(frame, _) => Some(frame.with_bytes(ByteOrder::NATIVE, <[u8]>::to_vec)),
            _ => None,
        };
        self.records.iter().filter_map(datagram).collect()
    }

    /// Adds a loss of `count` events after the tenth event.
    pub(crate) fn add_loss(&mut self, count: u32) {
        let is_event = |record: &Record<'_>| matches!(record, Record::Event(..));
        let events = self.records.iter().enumerate().filter(|(_, record)| is_event(record));
        let (at, next) = events.skip(10).map(|(at, record)| (at, record.clone())).next().expect("events");
        let Record::Event(frame, _) = next else { return };
        let Some(first_after) = frame.event(ByteOrder::NATIVE) else { return };
        for record in &mut self.records[at..] {
            let Record::Event(RecordedDatagram::Event(event), _) = record else { continue };
            if event.cpu == first_after.cpu {
                event.seq.0 += count;
            }
        }
        self.lost.add(LossCause::Socket, count.into());
        self.records.insert(at, loss(first_after.cpu.0, first_after.seq.0, first_after.seq.0 + count - 1));
    }

    /// Returns the time from the first event to the last.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_micros(self.us - EVENT_INTERVAL)
    }

    /// Returns the capture file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let events = self.lines().len() as u64;
        let end = End { time: self.now(), events, lost: self.lost, ..End::default() };
        let mut records = self.records.clone();
        records.push(Record::End(end));
        capture(&records, 7)
    }

    fn bodies(&self) -> impl Iterator<Item = EventBody> {
        self.records.iter().filter_map(|record| match record {
            Record::Event(frame, _) => frame.event(ByteOrder::NATIVE).map(|event| event.body),
            _ => None,
        })
    }

    /// Returns the lines that a client prints of the events, without the acknowledgement.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.bodies().map(line).collect()
    }

    /// Returns the programs with details, in the order of their execs.
    pub(crate) fn programs(&self) -> Vec<RecordedProgram> {
        let mut programs = vec![git(), pager()];
        programs.extend((0..5).map(short_lived));
        programs.push(lasting());
        programs
    }

    /// Returns the number of recorded processes at the end.
    pub(crate) fn final_processes(&self) -> usize {
        INITIAL.len() + 1
    }

    /// Returns the forked processes, and whether each still runs at the end.
    pub(crate) fn forked(&self) -> Vec<(u32, bool)> {
        let forked = |body| match body {
            EventBody::Fork { child, .. } if child.is_leader() => Some((child.tid.0, child.tid.0 == LASTING)),
            _ => None,
        };
        self.bodies().filter_map(forked).collect()
    }
}

/// Formats an event as the clients do.
fn line(body: EventBody) -> String {
    match body {
        EventBody::Fork { parent, child } => format!("fork {} {}", parent.tid, child.tid),
        EventBody::Exec { task } => format!("exec {}", task.tid),
        EventBody::Uid { task, real, effective } => format!("uid {} {real} {effective}", task.tid),
        EventBody::Gid { task, real, effective } => format!("gid {} {real} {effective}", task.tid),
        EventBody::Sid { task } => format!("sid {}", task.tid),
        EventBody::Ptrace { task, tracer } => format!("ptrace {} {}", task.tid, tracer.tid),
        EventBody::Comm { task, comm } => {
            format!("comm {} {}", task.tid, String::from_utf8_lossy(comm.as_bytes()))
        }
        EventBody::Coredump { task, .. } => format!("coredump {}", task.tid),
        EventBody::Exit { task, code, .. } => format!("exit {} {code}", task.tid),
        other => panic!("unexpected {other:?}"),
    }
}
