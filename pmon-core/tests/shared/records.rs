//! Records of all kinds, and captures of them.

use pmon_core::accounting::{LossCause, Lost};
use pmon_core::capture::{
    Blind, ClockAnchor, Credentials, Details, Edge, Encoder, End, Fence, Frame, Header, Loss, Mark, Meta,
    Miss, Reason, Record, Snapshot, Subject, Unreached, WhyUnreached, Witness,
};
use pmon_core::wire::{Body, ByteOrder, Comm, Event};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use proptest::prelude::*;

use super::events;

pub(crate) const ORDER: ByteOrder = ByteOrder::Little;

pub(crate) fn header() -> Header {
    let meta = Meta { tool: "pmon test".into(), host: "host".into(), ..Meta::default() };
    Header { uuid: *b"0123456789abcdef", frame_order: ORDER, meta }
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owned {
    Frame(Vec<u8>),
    Other(Record<'static>),
}

impl Owned {
    pub(crate) fn record(&self) -> Record<'_> {
        match self {
            Self::Frame(bytes) => Record::Event(Frame::new(bytes, ORDER)),
            Self::Other(record) => record.clone(),
        }
    }

    pub(crate) fn from(record: Record<'_>) -> Self {
        match record {
            Record::Event(frame) => Self::Frame(frame.with_bytes(ORDER, <[u8]>::to_vec)),
            Record::Loss(loss) => Self::Other(Record::Loss(loss)),
            Record::Clock(clock) => Self::Other(Record::Clock(clock)),
            Record::Snapshot(snapshot) => Self::Other(Record::Snapshot(snapshot)),
            Record::Details(details) => Self::Other(Record::Details(details)),
            Record::Blind(blind) => Self::Other(Record::Blind(blind)),
            Record::Fence(fence) => Self::Other(Record::Fence(fence)),
            Record::Witness(witness) => Self::Other(Record::Witness(witness)),
            Record::Mark(mark) => Self::Other(Record::Mark(mark)),
            Record::End(end) => Self::Other(Record::End(end)),
            record => panic!("{record:?}"),
        }
    }
}

/// A finished capture of these records, with a seal after every `every` of them.
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

pub(crate) fn event(cpu: u32, seq: u32, body: Body) -> Owned {
    let event = Event { time: MonoNs(1_000_000 + u64::from(seq) * 1000), seq: Seq(seq), cpu: Cpu(cpu), body };
    Owned::Frame(event.encode(ORDER).unwrap().to_vec())
}

/// A small recording with a record of each kind.
pub(crate) fn story() -> Vec<Owned> {
    let (shell, child) = (Task::new(100, 100), Task::new(101, 101));
    let exec = Subject::Exec { tgid: Tgid(101), time: MonoNs(1_003_000) };
    let details = Details {
        ppid: Some(100),
        start_ticks: Some(12345),
        ids: Some(Credentials { uid: 1, euid: 2, gid: 3, egid: 4 }),
        comm: Some(b"true".to_vec()),
        exe: Some(b"/bin/true".to_vec()),
        cwd: Some(b"/".to_vec()),
        cgroup: Some(b"0::/".to_vec()),
        args: Some(b"true\0\0\xff\0".to_vec()),
        miss: None,
        ..Details::missed(exec, Miss::Gone)
    };
    let old = Subject::Exec { tgid: Tgid(7), time: MonoNs(5) };
    let comm = Comm(*b"name\0odd\0\0\0\0\0\0\0\0");
    let mut lost = Lost::default();
    lost.add(LossCause::Socket, 6);
    let unreached = vec![
        Unreached { cpu: Cpu(3), why: WhyUnreached::Offline },
        Unreached { cpu: Cpu(4), why: WhyUnreached::Forbidden },
        Unreached { cpu: Cpu(5), why: WhyUnreached::Silent },
    ];
    vec![
        Owned::Other(Record::Clock(ClockAnchor { mono: MonoNs(1), boot_ns: 2, real_ns: -3 })),
        event(0, 1, Body::Ack { ack: 2, err: 0 }),
        Owned::Other(Record::Details(Box::new(Details {
            subject: Subject::Snapshot { tgid: Tgid(100) },
            ..details.clone()
        }))),
        Owned::Other(Record::Snapshot(Snapshot {
            started: MonoNs(1),
            ended: MonoNs(2),
            processes: 1,
            reason: Reason::Loss,
            atomic: false,
        })),
        Owned::Other(Record::Fence(Fence { time: MonoNs(3), edge: Edge::Start, unreached })),
        event(0, 2, Body::Fork { parent: shell, child }),
        event(1, 3, Body::Exec { task: child }),
        Owned::Frame(b"not an event at all".to_vec()),
        Owned::Other(Record::Loss(Loss {
            cpu: Cpu(1),
            first: Seq(4),
            last: Seq(9),
            after: MonoNs(1_003_000),
            before: MonoNs(1_010_000),
            cause: LossCause::Socket,
        })),
        event(1, 10, Body::Comm { task: Task::new(102, 101), comm }),
        Owned::Other(Record::Details(Box::new(details))),
        Owned::Other(Record::Details(Box::new(Details::missed(old, Miss::Superseded)))),
        event(1, 11, Body::Exit { task: child, code: 0x300, signal: 17, parent: Some(shell) }),
        Owned::Frame(Vec::new()),
        Owned::Other(Record::Mark(Mark { time: MonoNs(9), text: "a note".into() })),
        Owned::Other(Record::Witness(Witness { time: MonoNs(9), drops: 5, gaps: 6 })),
        Owned::Other(Record::Blind(Blind { from: MonoNs(1_011_000), until: MonoNs(1_011_500) })),
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

pub(crate) fn any_details() -> impl Strategy<Value = Owned> {
    let string = || {
        let likely = prop::sample::select(vec![&b"cc"[..], b"ld", b"/", b""]);
        let other = prop::collection::vec(any::<u8>(), 0..20);
        prop::option::of(prop_oneof![3 => likely.prop_map(<[u8]>::to_vec), 1 => other])
    };
    // Few words, so that command lines resemble each other.
    let word = prop_oneof![8 => 0..40_u32, 1 => any::<u32>()].prop_map(|n| n.to_string().into_bytes());
    let words = prop::collection::vec(word, 0..8).prop_map(|words| words.join(&0));
    let args = prop::option::of(prop_oneof![
        words.clone(),
        words.prop_map(|args| [args, vec![0]].concat()),
        any::<Vec<u8>>()
    ]);
    let subject = prop_oneof![
        any::<u32>().prop_map(|tgid| Subject::Snapshot { tgid: Tgid(tgid) }),
        any::<(u32, u64)>().prop_map(|(tgid, time)| Subject::Exec { tgid: Tgid(tgid), time: MonoNs(time) }),
        (0..4_u32, 0..4_u64).prop_map(|(tgid, time)| Subject::Exec { tgid: Tgid(tgid), time: MonoNs(time) }),
    ];
    let miss = prop::option::of(prop_oneof![
        Just(Miss::Gone),
        Just(Miss::Denied),
        Just(Miss::Busy),
        Just(Miss::Superseded)
    ]);
    let ids = prop::option::of(prop_oneof![Just([0; 4]), any::<[u32; 4]>()]);
    // Start times are ticks: below 2^62 the code always fits.
    let start = prop::option::of(prop_oneof![0..1_u64 << 62, 0..4_u64]);
    let ppid = prop::option::of(prop_oneof![0..6_u32, any::<u32>()]);
    let strings = (string(), string(), string(), string(), args);
    (subject, miss, ppid, start, ids, strings).prop_map(
        |(subject, miss, ppid, start_ticks, ids, (comm, exe, cwd, cgroup, args))| {
            let ids = ids.map(|[uid, euid, gid, egid]| Credentials { uid, euid, gid, egid });
            let details = Details { subject, miss, ppid, start_ticks, ids, comm, exe, cwd, cgroup, args };
            Owned::Other(Record::Details(Box::new(details)))
        },
    )
}

pub(crate) fn any_record() -> impl Strategy<Value = Owned> {
    let frame = |event: Event| Owned::Frame(event.encode(ORDER).unwrap().to_vec());
    // Small numbers too, so that predictions hit and fail in all ways.
    let tid = || prop_oneof![6 => 0..4_u32, 2 => 0..40_u32, 1 => (0..3_u32).prop_map(|n| 4096 * n + 1)];
    let likely = (tid(), tid(), tid(), tid(), 0..3_u32, 0..4_u32, 0..4_u64);
    let likely = likely.prop_map(move |(a, b, c, d, cpu, seq, time)| {
        let (task, other) = (Task::new(a, b), Task::new(c, d));
        let body = match (a + b + c + d) % 4 {
            0 => Body::Fork { parent: task, child: other },
            1 => Body::Exec { task },
            2 => Body::Exit {
                task,
                code: 0,
                signal: if seq == 0 { u32::MAX } else { 17 },
                parent: Some(other),
            },
            _ => Body::Comm { task, comm: Comm::default() },
        };
        frame(Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body })
    });
    prop_oneof![
        4 => likely,
        2 => events::any_event().prop_map(frame),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Owned::Frame),
        1 => any_details(),
        1 => any::<(u64, u32)>().prop_map(|(time, processes)| Owned::Other(Record::Snapshot(Snapshot {
            started: MonoNs(time),
            ended: MonoNs(time),
            processes,
            reason: Reason::Start,
            atomic: true,
        }))),
    ]
}
