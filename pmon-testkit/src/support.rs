//! Captures to read, and a `pmon` to run.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{
    Blind, ClockAnchor, Credentials, Details, DetailsSubject, Encoder, End, Header, Loss, Meta, MissReason,
    Record, RecordedDatagram, SelfGenerated, Snapshot, SnapshotReason, TransportInfo, Witness,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::programs;

/// The monotonic time at which captures start here.
pub const START: u64 = 1_000_000_000_000;
/// 2026-01-02T03:04:05Z, the wall-clock time of it.
pub const START_REAL: i64 = 1_767_323_045_000_000_000;
/// Both together.
const ANCHOR: ClockAnchor = ClockAnchor { mono: MonoNs(START), boot_ns: START, real_ns: START_REAL };

/// The process that is said to have recorded.
pub const RECORDER: u32 = 4;

/// No `pmon` takes longer than this.
const LIMIT: Duration = Duration::from_secs(30);

/// What a run of `pmon` gave.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Fails unless it ended with that code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}: {self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).expect("JSON")
    }

    /// The lines of standard output as JSON.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// `pmon` in UTC, without colours.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(programs::pmon());
    command.args(args).env("TZ", "UTC").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Copies a program that is to be run. Not by this process: one that another test is just starting
/// would have the copy open for writing as well, until it is that other program, and meanwhile
/// nobody can run it.
#[track_caller]
pub fn copy_program(program: impl AsRef<Path>, to: &Path) {
    let status = Command::new("cp").arg("-p").arg(program.as_ref()).arg(to).status();
    assert!(status.expect("cp runs").success(), "no copy of {}", program.as_ref().display());
}

/// Starts it.
pub fn start(command: Command) -> Child {
    try_start(command).expect("pmon runs")
}

/// Starts it if the system lets us. It is killed when its time is up, so that nobody waits for it
/// in vain.
pub fn try_start(mut command: Command) -> io::Result<Child> {
    let child = command.spawn()?;
    let process =
        pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it has not been waited for");
    thread::spawn(move || {
        let limit = Timespec::try_from(LIMIT).expect("a short time");
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
        if ended == Ok(0) {
            let _ = writeln!(io::stderr(), "{command:?} is killed: it has not ended in {LIMIT:?}");
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
    });
    Ok(child)
}

/// Runs it to its end.
pub fn run(mut command: Command) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ran::new(start(command).wait_with_output().expect("pmon ends"))
}

/// Runs `pmon`.
pub fn pmon(args: &[&str]) -> Ran {
    run(command(args))
}

/// Runs `pmon` with those bytes on standard input.
pub fn pmon_with_input(args: &[&str], input: &[u8]) -> Ran {
    let mut command = command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command);
    child.stdin.take().expect("a pipe").write_all(input).expect("pmon reads");
    Ran::new(child.wait_with_output().expect("pmon ends"))
}

/// A folder with a capture in it.
pub struct Dir(TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.path().read_dir().expect("the folder").next().is_none()
    }

    /// Writes a file, and gives its path for the command line.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("the file is written");
        arg(&self.path(name))
    }
}

pub fn arg(path: &Path) -> String {
    path.to_str().expect("the path is UTF-8").to_owned()
}

pub fn header() -> Header {
    Header {
        uuid: *b"0123456789abcdef",
        byte_order: ByteOrder::Little,
        meta: Meta {
            tool: "pmon test".into(),
            host: "box".into(),
            kernel: "6.18.0".into(),
            machine: "x86_64".into(),
            cpus_online: 2,
            recorder_pid: RECORDER,
            transport: TransportInfo { name: "replay".into(), why: "a test".into() },
            start: ANCHOR,
            ..Meta::default()
        },
    }
}

/// A capture of these records, in blocks of `block` records.
pub fn capture(records: &[Record<'_>], block: usize) -> Vec<u8> {
    parts(records, block).concat()
}

/// Its header, its blocks, and what stands behind them.
pub fn parts(records: &[Record<'_>], block: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(&header()).expect("the header fits");
    let mut parts = vec![encoder.header().to_vec()];
    for records in records.chunks(block) {
        for record in records {
            encoder.push(record).expect("the record fits");
        }
        parts.push(encoder.seal().to_vec());
    }
    parts.push(encoder.finish().to_vec());
    parts
}

/// The event `us` microseconds after the start.
pub fn event(us: u64, cpu: u32, seq: u32, body: EventBody) -> Record<'static> {
    let time = MonoNs(START + us * 1_000);
    Record::Event(RecordedDatagram::Event(Event { time, seq: Seq(seq), cpu: Cpu(cpu), body }), None)
}

pub fn fork(us: u64, seq: u32, parent: u32, child: (u32, u32)) -> Record<'static> {
    event(
        us,
        0,
        seq,
        EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child.0, child.1) },
    )
}

pub fn exec(us: u64, seq: u32, pid: u32) -> Record<'static> {
    event(us, 0, seq, EventBody::Exec { task: Task::new(pid, pid) })
}

pub fn exit(us: u64, seq: u32, task: (u32, u32), code: u32) -> Record<'static> {
    let task = Task::new(task.0, task.1);
    let signal = if task.is_leader() { 17 } else { u32::MAX };
    event(us, 0, seq, EventBody::Exit { task, code, signal, parent: Some(Task::new(10, 10)) })
}

pub fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name);
    comm
}

/// Details of the exec `us` microseconds after the start; `args` end with a zero byte each.
pub fn details(us: u64, pid: u32, comm: &str, args: &[u8]) -> Record<'static> {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(START + us * 1_000) };
    Record::Details(Box::new(Details {
        miss: None,
        ppid: Some(10),
        ids: Some(Credentials { uid: 1000, euid: 1000, gid: 100, egid: 100 }),
        comm: Some(comm.into()),
        exe: Some(format!("/usr/bin/{comm}").into_bytes()),
        args: Some(args.into()),
        ..Details::missed(subject, MissReason::Gone)
    }))
}

pub fn missed(us: u64, pid: u32) -> Record<'static> {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(START + us * 1_000) };
    Record::Details(Box::new(Details::missed(subject, MissReason::Gone)))
}

/// A process that the scan at the start found.
pub fn scanned(pid: u32, ppid: u32, comm: &str) -> Record<'static> {
    let missed = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(pid) }, MissReason::Denied);
    Record::Details(Box::new(Details { miss: None, ppid: Some(ppid), comm: Some(comm.into()), ..missed }))
}

pub fn scan_end() -> Record<'static> {
    let (started, ended) = (MonoNs(START), MonoNs(START));
    Record::Snapshot(Snapshot { started, ended, processes: 2, reason: SnapshotReason::Start, atomic: false })
}

pub fn loss(cpu: u32, first: u32, last: u32) -> Record<'static> {
    let (after, before) = (MonoNs(START), MonoNs(START + 4_000));
    let (first, last) = (Seq(first), Seq(last));
    Record::Loss(Loss { cpu: Cpu(cpu), first, last, after, before, cause: LossCause::Socket })
}

/// The source has dropped so many events, and so many are missing.
pub fn witness(count: u64) -> Record<'static> {
    Record::Witness(Witness { time: MonoNs(START), drops: count, gaps: count })
}

pub fn blind(from_us: u64, until_us: u64) -> Record<'static> {
    let at = |us| MonoNs(START + us * 1_000);
    Record::Blind(Blind { from: at(from_us), until: at(until_us) })
}

/// A heartbeat of the recorder.
pub fn heartbeat(us: u64, seq: u32) -> Record<'static> {
    let comm = comm(SelfGenerated::Heartbeat.comm().as_bytes());
    event(us, 0, seq, EventBody::Comm { task: Task::new(RECORDER + 1, RECORDER), comm })
}

/// What the clocks say at the start.
pub fn clock() -> Record<'static> {
    Record::Clock(ANCHOR)
}

pub fn end(us: u64, events: u64) -> Record<'static> {
    let mut lost = LossByCause::default();
    lost.add(LossCause::Socket, 123);
    Record::End(End { time: MonoNs(START + us * 1_000), events, drops: Some(123), lost, ..End::default() })
}

/// A shell runs `git status`, which fails; a thread comes and goes; some events are lost.
pub fn story() -> Vec<Record<'static>> {
    vec![
        scanned(1, 0, "init"),
        scanned(10, 1, "sh"),
        scan_end(),
        event(0, 0, 1, EventBody::Ack { ack: 8, err: 0 }),
        fork(1, 2, 10, (20, 20)),
        exec(2, 3, 20),
        fork(3, 4, 10, (21, 20)),
        loss(1, 10, 132),
        details(2, 20, "git", b"/usr/bin/git\0status\0it's\0"),
        exit(4, 5, (21, 20), 0),
        exit(5, 6, (20, 20), 3 << 8),
        exec(6, 7, 30),
        missed(6, 30),
        exit(2_000_000, 8, (30, 30), 11 | 0x80),
        witness(123),
        end(3_000_000, 8),
    ]
}
