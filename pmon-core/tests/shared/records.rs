//! Records of all kinds, and captures that contain them.

mod generators;

use pmon_core::accounting::{LossByCause, LossCause};
use pmon_core::capture::{
    Blind, ClockAnchor, CpuCounts, CpuPosition, Credentials, Details, DetailsSubject, Encoder, End, Excluded,
    FatalSignal, Fence, FencePosition, ForkCount, ForkReading, Header, Loss, Meta, MissReason, Positions,
    ProcessContext, ProcessState, Record, RecordedDatagram, RingCounts, ScopeInfo, SignalOrigin,
    SignalSender, Snapshot, SnapshotReason, Unobserved, UnobservedReason, UnreachedCpu, UnreachedReason,
    Usage, Witness,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use proptest::prelude::*;

pub(crate) use self::generators::any_record;

pub(crate) const ORDER: ByteOrder = ByteOrder::Little;

pub(crate) fn header() -> Header {
    let meta = Meta { tool: "pmon test".into(), host: "host".into(), ..Meta::default() };
    Header { uuid: *b"0123456789abcdef", byte_order: ORDER, meta }
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owned {
    Datagram(Vec<u8>),
    /// An exit in the usual form, with its resource usage.
    Exit(Vec<u8>, Usage),
    Other(Record<'static>),
}

impl Owned {
    pub(crate) fn record(&self) -> Record<'_> {
        match self {
            Self::Datagram(bytes) => Record::Event(RecordedDatagram::new(bytes, ORDER), None),
            Self::Exit(bytes, usage) => {
                Record::Event(RecordedDatagram::new(bytes, ORDER), Some(Box::new(*usage)))
            }
            Self::Other(record) => record.clone(),
        }
    }

    pub(crate) fn from(record: Record<'_>) -> Self {
        match record {
            Record::Event(datagram, usage) => {
                let bytes = datagram.with_bytes(ORDER, <[u8]>::to_vec);
                match usage {
                    Some(usage) => Self::Exit(bytes, *usage),
                    None => Self::Datagram(bytes),
                }
            }
            Record::Loss(loss) => Self::Other(Record::Loss(loss)),
            Record::Clock(clock) => Self::Other(Record::Clock(clock)),
            Record::Snapshot(snapshot) => Self::Other(Record::Snapshot(snapshot)),
            Record::Details(details) => Self::Other(Record::Details(details)),
            Record::Blind(blind) => Self::Other(Record::Blind(blind)),
            Record::Fence(fence) => Self::Other(Record::Fence(fence)),
            Record::Witness(witness) => Self::Other(Record::Witness(witness)),
            Record::Excluded(excluded) => Self::Other(Record::Excluded(excluded)),
            Record::Ring(ring) => Self::Other(Record::Ring(ring)),
            Record::Scope(scope) => Self::Other(Record::Scope(scope)),
            Record::Forks(forks) => Self::Other(Record::Forks(forks)),
            Record::Positions(positions) => Self::Other(Record::Positions(positions)),
            Record::Unobserved(span) => Self::Other(Record::Unobserved(span)),
            Record::End(end) => Self::Other(Record::End(end)),
            Record::Unknown { kind } => Self::Other(Record::Unknown { kind }),
            record => panic!("{record:?}"),
        }
    }
}

/// Returns a finished capture of these records, in blocks of `every` records.
pub(crate) fn capture(records: &[Owned], every: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(&header()).unwrap();
    let mut out = encoder.header().to_vec();
    for chunk in records.chunks(every) {
        chunk.iter().for_each(|owned| encoder.push(&owned.record()).unwrap());
        out.extend_from_slice(encoder.seal());
    }
    out.extend_from_slice(encoder.finish());
    out
}

pub(crate) fn event(cpu: u32, seq: u32, body: EventBody) -> Owned {
    let event = Event { time: MonoNs(1_000_000 + u64::from(seq) * 1000), seq: Seq(seq), cpu: Cpu(cpu), body };
    owned(event, None)
}

/// Creates the record of an event; an exit gets the usage.
fn owned(event: Event, usage: Option<Usage>) -> Owned {
    let bytes = event.encode(ORDER).unwrap().to_vec();
    match (event.body, usage) {
        (EventBody::Exit { .. }, Some(usage)) => Owned::Exit(bytes, usage),
        _ => Owned::Datagram(bytes),
    }
}

/// Returns a small recording with records of every kind.
pub(crate) fn sample_records() -> Vec<Owned> {
    let (shell, child) = (Task::new(100, 100), Task::new(101, 101));
    let exec = DetailsSubject::Exec { tgid: Tgid(101), time: MonoNs(1_003_000) };
    let details = Details {
        ppid: Some(100),
        start_ticks: Some(12345),
        ids: Some(Credentials { uid: 1, euid: 2, gid: 3, egid: 4 }),
        comm: Some(b"true".to_vec()),
        exe: Some(b"/bin/true".to_vec()),
        cwd: Some(b"/".to_vec()),
        cgroup: Some(b"0::/".to_vec()),
        container: Some(b"web\0web-0\0shop\0nginx:1\0".to_vec()),
        args: Some(b"true\0\0\xff\0".to_vec()),
        miss: None,
        parent_start_ticks: Some(12344),
        filename: Some(b"./true".to_vec()),
        args_len: Some(1 << 33),
        threads: Some(u32::MAX),
        forked: Some(MonoNs(1_002_345)),
        context: Some(ProcessContext {
            session: 100,
            group: 101,
            login_uid: u32::MAX,
            cgroup: 1 << 40,
            pid_namespace: 0xf000_0000,
            pid: 7,
        }),
        ..Details::missed(exec, MissReason::Gone)
    };
    let usage = Usage {
        start_ticks: 12346,
        cpu_us: 1,
        user_us: 2,
        system_us: 3,
        max_rss_kib: 4,
        minor_faults: 5,
        major_faults: 6,
        read_bytes: 7,
        write_bytes: 1 << 50,
        threads: u32::MAX,
        at_least: true,
        process: ProcessState::Ended { status: u32::MAX },
        process_cpu_us: 1 << 40,
        fatal_signal: FatalSignal {
            oom_victim: Some(false),
            origin: SignalOrigin::Process {
                code: i32::MIN,
                sender: SignalSender {
                    pid: u32::MAX,
                    start_ticks: 1,
                    uid: u32::MAX,
                    comm: Comm(*b"oomd\0\xff\0\0\0\0\0\0\0\0\0x"),
                },
            },
        },
    };
    let time = MonoNs(1_010_500);
    let thread =
        EventBody::Exit { task: Task::new(102, 101), code: 0, signal: u32::MAX, parent: Some(shell) };
    let ring = vec![
        CpuCounts { cpu: Cpu(0), spilled: 1, dropped: 2, excluded: 3 },
        CpuCounts { cpu: Cpu(300), spilled: 0, dropped: u64::MAX, excluded: 251 },
    ];
    let old = DetailsSubject::Exec { tgid: Tgid(7), time: MonoNs(5) };
    let comm = Comm(*b"name\0odd\0\0\0\0\0\0\0\0");
    let mut lost = LossByCause::default();
    lost.add(LossCause::Socket, 6);
    let unreached = vec![
        UnreachedCpu { cpu: Cpu(3), why: UnreachedReason::Offline },
        UnreachedCpu { cpu: Cpu(4), why: UnreachedReason::Forbidden },
        UnreachedCpu { cpu: Cpu(5), why: UnreachedReason::Silent },
    ];
    vec![
        Owned::Other(Record::Clock(ClockAnchor { mono: MonoNs(1), boot_ns: 2, real_ns: -3 })),
        Owned::Other(Record::Scope(ScopeInfo { text: "its processes".into() })),
        event(0, 1, EventBody::Ack { ack: 2, err: 0 }),
        Owned::Other(Record::Details(Box::new(Details {
            subject: DetailsSubject::Snapshot { tgid: Tgid(100) },
            ..details.clone()
        }))),
        Owned::Other(Record::Snapshot(Snapshot {
            started: MonoNs(1),
            ended: MonoNs(2),
            processes: 1,
            reason: SnapshotReason::Loss,
            atomic: false,
        })),
        Owned::Other(Record::Fence(Fence { time: MonoNs(3), position: FencePosition::Start, unreached })),
        Owned::Other(Record::Forks(ForkReading::Counted(ForkCount {
            from: MonoNs(1_000),
            until: MonoNs(1 << 40),
            forks: 1 << 33,
            running: 300,
        }))),
        Owned::Other(Record::Forks(ForkReading::Absent { why: "not of the kernel".into() })),
        event(0, 2, EventBody::Fork { parent: shell, child }),
        event(1, 3, EventBody::Exec { task: child }),
        Owned::Datagram(b"not an event at all".to_vec()),
        Owned::Other(Record::Loss(Loss {
            cpu: Cpu(1),
            first: Seq(4),
            last: Seq(9),
            after: MonoNs(1_003_000),
            before: MonoNs(1_010_000),
            cause: LossCause::Socket,
        })),
        event(1, 10, EventBody::Comm { task: Task::new(102, 101), comm }),
        Owned::Other(Record::Details(Box::new(details))),
        Owned::Other(Record::Details(Box::new(Details::missed(old, MissReason::Superseded)))),
        event(1, 11, EventBody::Exit { task: child, code: 0x300, signal: 17, parent: Some(shell) }),
        owned(Event { time, seq: Seq(12), cpu: Cpu(1), body: thread }, Some(usage)),
        Owned::Datagram(Vec::new()),
        Owned::Other(Record::Witness(Witness { time: MonoNs(9), drops: 5, gaps: 6 })),
        Owned::Other(Record::Blind(Blind { from: MonoNs(1_011_000), until: MonoNs(1_011_500) })),
        Owned::Other(Record::Excluded(Excluded { cpu: Cpu(1), last: Seq(12), count: 1 << 40 })),
        Owned::Other(Record::Ring(RingCounts { time: MonoNs(10), cpus: ring })),
        Owned::Other(Record::Snapshot(Snapshot {
            started: MonoNs(3),
            ended: MonoNs(3),
            processes: 0,
            reason: SnapshotReason::Segment,
            atomic: true,
        })),
        Owned::Other(Record::Loss(Loss {
            cpu: Cpu(1),
            first: Seq(13),
            last: Seq(13),
            after: MonoNs(1_010_500),
            before: MonoNs(1_012_000),
            cause: LossCause::Storage,
        })),
        Owned::Other(Record::Loss(Loss {
            cpu: Cpu(1),
            first: Seq(14),
            last: Seq(14),
            after: MonoNs(1_010_500),
            before: MonoNs(1_012_000),
            cause: LossCause::Restart,
        })),
        Owned::Other(Record::Unobserved(Unobserved {
            from: MonoNs(1_012_000),
            until: MonoNs(1_013_000),
            reason: UnobservedReason::Future,
        })),
        Owned::Other(Record::Positions(Positions {
            time: MonoNs(1_999_999),
            cpus: vec![CpuPosition { cpu: Cpu(1), next: Seq(15), time: MonoNs(1_010_500) }],
            source_drops: Some(5),
        })),
        Owned::Other(Record::End(End {
            time: MonoNs(2_000_000),
            events: 8,
            rejected: 1,
            malformed: 2,
            blind_ns: 500,
            drops: Some(5),
            lost,
        })),
    ]
}

/// A capture of [`sample_records_1_0`] that version 1.0 wrote.
pub(crate) const CAPTURE_1_0: &[u8] = include_bytes!("../golden/format-1.0.bin");

/// Kind of a note that version 1.0 defined and the golden file contains. It is reserved now.
pub(crate) const RESERVED_NOTE: u8 = 4;

/// The records of [`sample_records`] that version 1.0 could hold, and a note of the reserved kind.
pub(crate) fn sample_records_1_0() -> Vec<Owned> {
    let in_version_1_0 = |owned| match owned {
        Owned::Exit(..)
        | Owned::Other(Record::Scope(_) | Record::Excluded(_) | Record::Ring(_) | Record::Forks(_))
        | Owned::Other(Record::Positions(_) | Record::Unobserved(_))
        | Owned::Other(Record::Snapshot(Snapshot { reason: SnapshotReason::Segment, .. }))
        | Owned::Other(Record::Loss(Loss { cause: LossCause::Storage | LossCause::Restart, .. })) => None,
        Owned::Other(Record::Details(details)) => {
            let new = Details::missed(details.subject, MissReason::Gone);
            let Details {
                parent_start_ticks, filename, args_len, context, container, threads, forked, ..
            } = new;
            let old = Details { parent_start_ticks, filename, args_len, context, ..*details };
            let details = Details { container, threads, forked, ..old };
            Some(Owned::Other(Record::Details(Box::new(details))))
        }
        owned => Some(owned),
    };
    let mut records: Vec<_> = sample_records().into_iter().filter_map(in_version_1_0).collect();
    let witness = records.iter().position(|owned| matches!(owned, Owned::Other(Record::Witness(_))));
    records.insert(witness.unwrap(), Owned::Other(Record::Unknown { kind: RESERVED_NOTE }));
    records
}
