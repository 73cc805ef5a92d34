//! Sample records and captures for tests of the command line.

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{
    Blind, ClockAnchor, Credentials, Details, DetailsSubject, Encoder, End, Header, Loss, Meta, MissReason,
    Record, RecordedDatagram, SelfGenerated, Snapshot, SnapshotReason, TransportInfo, Witness,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};

/// Monotonic time in ns at which the captures start.
pub const START: u64 = 1_000_000_000_000;
/// Wall-clock time in ns at which the captures start: 2026-01-02T03:04:05Z.
pub const START_REAL: i64 = 1_767_323_045_000_000_000;
/// Reading of the clocks at the start.
const ANCHOR: ClockAnchor = ClockAnchor { mono: MonoNs(START), boot_ns: START, real_ns: START_REAL };

/// Process ID of the recorder.
pub const RECORDER: u32 = 4;

/// Returns the header of the sample captures.
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

/// Encodes a capture of these records, in blocks of `block` records.
pub fn capture(records: &[Record<'_>], block: usize) -> Vec<u8> {
    parts(records, block).concat()
}

/// Encodes a capture, as [`capture`] does. Returns its parts: the header, each block, and the index
/// with the trailer.
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

/// Returns an event `us` microseconds after the start.
pub fn event(us: u64, cpu: u32, seq: u32, body: EventBody) -> Record<'static> {
    let time = MonoNs(START + us * 1_000);
    Record::Event(RecordedDatagram::Event(Event { time, seq: Seq(seq), cpu: Cpu(cpu), body }), None)
}

/// Returns a fork. `child` is a thread ID and a process ID.
pub fn fork(us: u64, seq: u32, parent: u32, child: (u32, u32)) -> Record<'static> {
    event(
        us,
        0,
        seq,
        EventBody::Fork { parent: Task::new(parent, parent), child: Task::new(child.0, child.1) },
    )
}

/// Returns an exec.
pub fn exec(us: u64, seq: u32, pid: u32) -> Record<'static> {
    event(us, 0, seq, EventBody::Exec { task: Task::new(pid, pid) })
}

/// Returns an exit. `task` is a thread ID and a process ID.
pub fn exit(us: u64, seq: u32, task: (u32, u32), code: u32) -> Record<'static> {
    let task = Task::new(task.0, task.1);
    let signal = if task.is_leader() { 17 } else { u32::MAX };
    event(us, 0, seq, EventBody::Exit { task, code, signal, parent: Some(Task::new(10, 10)) })
}

/// Returns a name of a thread.
pub fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name);
    comm
}

/// Returns the details of the exec `us` microseconds after the start. Each argument ends with a
/// zero byte.
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

/// Returns a record that the details of an exec are missing, because the process had exited.
pub fn missed(us: u64, pid: u32) -> Record<'static> {
    let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(START + us * 1_000) };
    Record::Details(Box::new(Details::missed(subject, MissReason::Gone)))
}

/// Returns a process that the scan at the start found.
pub fn scanned(pid: u32, ppid: u32, comm: &str) -> Record<'static> {
    let missed = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(pid) }, MissReason::Denied);
    Record::Details(Box::new(Details { miss: None, ppid: Some(ppid), comm: Some(comm.into()), ..missed }))
}

/// Returns the end of the scan at the start.
pub fn scan_end() -> Record<'static> {
    let (started, ended) = (MonoNs(START), MonoNs(START));
    Record::Snapshot(Snapshot { started, ended, processes: 2, reason: SnapshotReason::Start, atomic: false })
}

/// Returns a loss of the events `first` to `last` of a CPU.
pub fn loss(cpu: u32, first: u32, last: u32) -> Record<'static> {
    let (after, before) = (MonoNs(START), MonoNs(START + 4_000));
    let (first, last) = (Seq(first), Seq(last));
    Record::Loss(Loss { cpu: Cpu(cpu), first, last, after, before, cause: LossCause::Socket })
}

/// Returns a reading of the socket's count of drops: `count` datagrams were dropped, and as many
/// events are missing.
pub fn witness(count: u64) -> Record<'static> {
    Record::Witness(Witness { time: MonoNs(START), drops: count, gaps: count })
}

/// Returns a blind span.
pub fn blind(from_us: u64, until_us: u64) -> Record<'static> {
    let at = |us| MonoNs(START + us * 1_000);
    Record::Blind(Blind { from: at(from_us), until: at(until_us) })
}

/// Returns a heartbeat of the recorder.
pub fn heartbeat(us: u64, seq: u32) -> Record<'static> {
    let comm = comm(SelfGenerated::Heartbeat.comm().as_bytes());
    event(us, 0, seq, EventBody::Comm { task: Task::new(RECORDER + 1, RECORDER), comm })
}

/// Returns the reading of the clocks at the start.
pub fn clock() -> Record<'static> {
    Record::Clock(ANCHOR)
}

/// Returns the end of a capture with 123 lost events.
pub fn end(us: u64, events: u64) -> Record<'static> {
    let mut lost = LossByCause::default();
    lost.add(LossCause::Socket, 123);
    Record::End(End { time: MonoNs(START + us * 1_000), events, drops: Some(123), lost, ..End::default() })
}

/// Returns the records of a shell that runs `git status`, which fails. One of its threads starts
/// and exits, and some events are lost.
pub fn git_status_records() -> Vec<Record<'static>> {
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
