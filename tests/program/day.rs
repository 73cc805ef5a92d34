//! A capture to replay, and what clients print of it.

use std::time::Duration;

use pmon_core::Task;
use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{
    Credentials, Details, DetailsSubject, End, MissReason, ProcessContext, Record, RecordedDatagram,
    Snapshot, SnapshotReason,
};
use pmon_core::wire::{ByteOrder, EventBody};
use pmon_core::{MonoNs, Tgid};

use crate::support::{START, capture, clock, comm, event, loss, scan_end};

/// The shell from which everything is started. Hardly any host has processes of such numbers of its own.
pub(crate) const SHELL: u32 = 4_190_000;
/// A process that was gone before the recorder came to look at it.
pub(crate) const MISSED: u32 = SHELL + 60;
/// A process that does not end.
const LASTING: u32 = SHELL + 70;

/// From one event to the next, in us.
const STEP: u64 = 1_000;

/// A program, as the capture has it.
pub(crate) struct Ran {
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    pub(crate) uid: u32,
    pub(crate) comm: &'static str,
    pub(crate) exe: &'static str,
    pub(crate) args: &'static str,
    pub(crate) cwd: &'static str,
}

/// Who is there when the recording begins. The second is a kernel thread.
const THERE: [Ran; 3] = [
    Ran {
        pid: 1,
        ppid: 0,
        uid: 0,
        comm: "systemd",
        exe: "/usr/lib/systemd/systemd",
        args: "/sbin/init splash",
        cwd: "/",
    },
    Ran { pid: 2, ppid: 0, uid: 0, comm: "kthreadd", exe: "", args: "", cwd: "/" },
    Ran {
        pid: SHELL,
        ppid: 1,
        uid: 1000,
        comm: "bash",
        exe: "/usr/bin/bash",
        args: "-bash",
        cwd: "/home/ada",
    },
];

fn git() -> Ran {
    let (pid, ppid) = (SHELL + 20, SHELL);
    Ran {
        pid,
        ppid,
        uid: 1000,
        comm: "git",
        exe: "/usr/bin/git",
        args: "git status --short",
        cwd: "/home/ada/pmon",
    }
}

fn pager() -> Ran {
    let (pid, ppid) = (SHELL + 22, SHELL + 20);
    Ran { pid, ppid, uid: 1000, comm: "less", exe: "/usr/bin/less", args: "less -R", cwd: "/home/ada/pmon" }
}

fn short_lived(number: u32) -> Ran {
    let (pid, ppid) = (SHELL + 30 + number, SHELL);
    Ran { pid, ppid, uid: 1000, comm: "true", exe: "/usr/bin/true", args: "true one two", cwd: "/tmp" }
}

fn lasting() -> Ran {
    Ran {
        pid: LASTING,
        ppid: SHELL,
        uid: 1000,
        comm: "sleep",
        exe: "/usr/bin/sleep",
        args: "sleep infinity",
        cwd: "/",
    }
}

/// The day: its records, in the order in which they are recorded.
pub(crate) struct Day {
    records: Vec<Record<'static>>,
    us: u64,
    next: [u32; 2],
    lost: LossByCause,
}

impl Day {
    /// Forks, threads, programs, all kinds of events, and what is known of the programs; nothing is lost.
    pub(crate) fn new() -> Self {
        let mut day =
            Self { records: vec![clock()], us: 0, next: [1_000, 5_000], lost: LossByCause::default() };
        for ran in &THERE {
            day.details(DetailsSubject::Snapshot { tgid: Tgid(ran.pid) }, ran);
        }
        day.records.push(match scan_end() {
            Record::Snapshot(scan) => {
                Record::Snapshot(Snapshot { processes: 3, reason: SnapshotReason::Start, ..scan })
            }
            other => other,
        });
        day.shell_runs_git();
        for number in 0..5 {
            let ran = short_lived(number);
            day.starts(&ran);
            day.exits(ran.pid, 0);
        }
        day.session_of_a_daemon();
        day.fork(SHELL, MISSED);
        day.happens(EventBody::Exec { task: Task::new(MISSED, MISSED) });
        let subject = DetailsSubject::Exec { tgid: Tgid(MISSED), time: day.now() };
        day.records.push(Record::Details(Box::new(Details::missed(subject, MissReason::Gone))));
        day.exits(MISSED, 0);
        day.starts(&lasting());
        day
    }

    /// And so many more that come and go, three events each.
    pub(crate) fn of_many(count: u32) -> Self {
        let mut day = Self::new();
        for number in 0..count {
            let pid = SHELL + 100 + number % 1_000;
            day.fork(SHELL, pid);
            day.happens(EventBody::Exec { task: Task::new(pid, pid) });
            day.exits(pid, 0);
        }
        day
    }

    /// It has a thread, a child of other ids, and fails.
    fn shell_runs_git(&mut self) {
        let (git, pager) = (git(), pager());
        let (shell, thread) = (Task::new(SHELL, SHELL), Task::new(git.pid + 1, git.pid));
        self.starts(&git);
        // As the kernel has it: a thread's parent is its process's.
        self.happens(EventBody::Fork { parent: shell, child: thread });
        self.happens(EventBody::Comm { task: thread, comm: comm(b"worker") });
        self.happens(EventBody::Exit { task: thread, code: 0, signal: u32::MAX, parent: None });
        self.starts(&pager);
        let task = Task::new(pager.pid, pager.pid);
        self.happens(EventBody::Gid { task, real: 100, effective: 0 });
        self.happens(EventBody::Uid { task, real: 1000, effective: 0 });
        self.exits(pager.pid, 0);
        self.exits(git.pid, 3 << 8);
    }

    /// It is traced, and crashes.
    fn session_of_a_daemon(&mut self) {
        let daemon = Task::new(SHELL + 50, SHELL + 50);
        self.fork(SHELL, daemon.tid.0);
        self.happens(EventBody::Sid { task: daemon });
        self.happens(EventBody::Comm { task: daemon, comm: comm(b"watcher") });
        self.happens(EventBody::Ptrace { task: daemon, tracer: Task::new(SHELL, SHELL) });
        self.happens(EventBody::Coredump { task: daemon, parent: Some(Task::new(SHELL, SHELL)) });
        self.exits(daemon.tid.0, 11 | 0x80);
    }

    fn now(&self) -> MonoNs {
        MonoNs(START + self.us * 1_000)
    }

    /// The next event, a step later, on the other CPU.
    fn happens(&mut self, body: EventBody) {
        self.us += STEP;
        let cpu = (self.us / STEP % 2) as usize;
        self.next[cpu] += 1;
        self.records.push(event(self.us, cpu as u32, self.next[cpu], body));
    }

    fn fork(&mut self, parent: u32, child: u32) {
        self.happens(EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child, child) });
    }

    /// A fork, an exec, and what is known of it.
    fn starts(&mut self, ran: &Ran) {
        self.fork(ran.ppid, ran.pid);
        self.happens(EventBody::Exec { task: Task::new(ran.pid, ran.pid) });
        self.details(DetailsSubject::Exec { tgid: Tgid(ran.pid), time: self.now() }, ran);
    }

    fn exits(&mut self, pid: u32, code: u32) {
        let (task, parent) = (Task::new(pid, pid), Some(Task::new(SHELL, SHELL)));
        self.happens(EventBody::Exit { task, code, signal: 17, parent });
    }

    fn details(&mut self, subject: DetailsSubject, ran: &Ran) {
        let some = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        let mut args = ran.args.replace(' ', "\0").into_bytes();
        args.push(0);
        let leader = if ran.pid < SHELL { 0 } else { SHELL };
        self.records.push(Record::Details(Box::new(Details {
            miss: None,
            ppid: Some(ran.ppid),
            start_ticks: Some((START + self.us * 1_000) / 10_000_000),
            ids: Some(Credentials { uid: ran.uid, euid: ran.uid, gid: 100, egid: 100 }),
            comm: some(ran.comm),
            exe: some(ran.exe),
            cwd: some(ran.cwd),
            args: some(ran.args).map(|_| args),
            context: Some(ProcessContext {
                session: leader,
                group: leader,
                login_uid: 1000,
                ..ProcessContext::default()
            }),
            ..Details::missed(subject, MissReason::Gone)
        })));
    }

    /// Its datagrams.
    pub(crate) fn datagrams(&self) -> Vec<Vec<u8>> {
        let of_event = |record: &Record<'_>| match record {
            Record::Event(frame, _) => Some(frame.with_bytes(ByteOrder::NATIVE, <[u8]>::to_vec)),
            _ => None,
        };
        self.records.iter().filter_map(of_event).collect()
    }

    /// In the middle of the day, so many events more are lost.
    pub(crate) fn loses(&mut self, count: u32) {
        let is_event = |record: &Record<'_>| matches!(record, Record::Event(..));
        let events = self.records.iter().enumerate().filter(|(_, record)| is_event(record));
        let (at, next) = events.skip(10).map(|(at, record)| (at, record.clone())).next().expect("events");
        let Record::Event(frame, _) = next else { return };
        let Some(shows) = frame.event(ByteOrder::NATIVE) else { return };
        for record in &mut self.records[at..] {
            let Record::Event(RecordedDatagram::Event(event), _) = record else { continue };
            if event.cpu == shows.cpu {
                event.seq.0 += count;
            }
        }
        self.lost.add(LossCause::Socket, count.into());
        self.records.insert(at, loss(shows.cpu.0, shows.seq.0, shows.seq.0 + count - 1));
    }

    /// From its first event to the last.
    pub(crate) fn length(&self) -> Duration {
        Duration::from_micros(self.us - STEP)
    }

    /// As a file.
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

    /// What a client prints of it, but for the acknowledgement.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.bodies().map(line).collect()
    }

    /// The programs, in the order of their execs, but for the one that nothing is known of.
    pub(crate) fn programs(&self) -> Vec<Ran> {
        let mut programs = vec![git(), pager()];
        programs.extend((0..5).map(short_lived));
        programs.push(lasting());
        programs
    }

    /// Who is there at the end besides the client.
    pub(crate) fn survivors(&self) -> usize {
        THERE.len() + 1
    }

    /// The processes that were forked, and whether they are there at the end.
    pub(crate) fn forked(&self) -> Vec<(u32, bool)> {
        let of_fork = |body| match body {
            EventBody::Fork { child, .. } if child.is_leader() => Some((child.tid.0, child.tid.0 == LASTING)),
            _ => None,
        };
        self.bodies().filter_map(of_fork).collect()
    }
}

/// As the clients print an event.
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
        other => panic!("there is no {other:?} in it"),
    }
}
