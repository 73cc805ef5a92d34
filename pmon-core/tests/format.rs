//! Tests `docs/capture-format.md` with a second reader, which was written from that page alone.
//!
//! The second reader shares no code with the crate's own reader. It is simple and slow, and it
//! panics if a capture differs from the specification.

#[allow(dead_code, reason = "each test uses a part of them")]
mod shared {
    pub(super) mod events;
    pub(super) mod records;
}
mod second {
    pub(super) mod bytes;
    pub(super) mod details;
    pub(super) mod events;
    pub(super) mod file;

    /// Content of the file header, grouped by type.
    #[derive(Debug, Default, PartialEq)]
    pub(super) struct ReadHeader {
        pub(super) uuid: Vec<u8>,
        pub(super) big_endian: bool,
        pub(super) texts: Vec<String>,
        pub(super) numbers: Vec<u64>,
        pub(super) command: Vec<Vec<u8>>,
        pub(super) start: (u64, u64, i64),
        pub(super) previous: Option<Vec<u8>>,
        /// Reason and positions.
        pub(super) segment: Option<(u64, Vec<[u64; 3]>)>,
        /// Whether senders of signals were observed, and why not.
        pub(super) signals: (u64, String),
    }

    #[derive(Debug, PartialEq)]
    pub(super) enum ReadRecord {
        Event(Vec<u8>, Option<ReadUsage>),
        Loss {
            cpu_first_last: [u64; 3],
            after_before: [u64; 2],
            cause: u64,
        },
        Clock(u64, u64, i64),
        Snapshot {
            started_ended: [u64; 2],
            processes: u64,
            reason: u64,
            atomic: bool,
        },
        Details(ReadProcess),
        /// A note of a kind that the page does not define.
        Unknown(u64),
        End {
            numbers: [u64; 5],
            drops: Option<u64>,
            lost: [u64; 7],
        },
        Blind(u64, u64),
        Fence {
            time: u64,
            position: u64,
            unreached: Vec<[u64; 2]>,
        },
        Witness([u64; 3]),
        Excluded {
            cpu_last: [u64; 2],
            count: u64,
        },
        Ring {
            time: u64,
            cpus: Vec<[u64; 4]>,
        },
        Scope(String),
        Forks([u64; 4]),
        NoForks(String),
        Positions {
            time: u64,
            cpus: Vec<[u64; 3]>,
            drops: Option<u64>,
        },
        Unobserved([u64; 3]),
    }

    /// Resource usage of an exit.
    #[derive(Debug, PartialEq)]
    pub(super) struct ReadUsage {
        pub(super) start: u64,
        /// Values of the columns CPU, USER, SYSTEM, RSS, MINOR, MAJOR, READ, WRITE.
        pub(super) numbers: [u64; 8],
        pub(super) threads: u64,
        pub(super) at_least: bool,
        /// Code of the process state after an exit, and CPU time of all threads of the process.
        pub(super) process: [u64; 2],
        pub(super) signal: ReadSignal,
    }

    /// Origin of the signal that killed a process.
    #[derive(Debug, PartialEq)]
    pub(super) struct ReadSignal {
        /// Code of whether the OOM killer selected the process.
        pub(super) victim: u64,
        pub(super) code: Option<i32>,
        /// Process ID, start time, user ID and name.
        pub(super) sender: Option<(u32, u64, u64, Vec<u8>)>,
    }

    #[derive(Debug, PartialEq)]
    pub(super) struct ReadProcess {
        pub(super) tgid: u32,
        /// Time of the exec; `None` in a snapshot.
        pub(super) exec: Option<u64>,
        pub(super) miss: u64,
        pub(super) ppid: Option<u32>,
        pub(super) start: Option<u64>,
        pub(super) ids: Option<[u32; 4]>,
        /// Values of the columns COMM, EXE, CWD, CGROUP, ARGS, FILENAME.
        pub(super) texts: Vec<Option<Vec<u8>>>,
        pub(super) args_len: Option<u64>,
        pub(super) threads: Option<u64>,
        pub(super) forked: Option<u64>,
        pub(super) parent_start: Option<u64>,
        pub(super) context: Option<Context>,
    }

    #[derive(Debug, PartialEq)]
    pub(super) struct Context {
        pub(super) login_uid: u64,
        pub(super) session: u64,
        pub(super) cgroup: u64,
        pub(super) pid_namespace: u64,
        pub(super) group: u64,
        pub(super) ns_pid: u64,
    }
}

use pmon_core::MonoNs;
use pmon_core::accounting::LossCause;
use pmon_core::capture::{
    self, ClockAnchor, CpuPosition, DetailsSubject, Encoder, FencePosition, ForkReading, Meta, MissReason,
    Namespaces, SegmentInfo, SegmentReason, SignalOrigin, SignalTracing, SnapshotReason, TransportInfo,
    UnobservedReason, UnreachedReason,
};
use pmon_core::wire::ByteOrder;
use proptest::prelude::*;
use second::{Context, ReadHeader, ReadProcess, ReadRecord, ReadSignal, ReadUsage, bytes, file};
use shared::records::{CAPTURE_1_0, Owned, any_record, capture, sample_records, sample_records_1_0};

/// Returns a record as the second reader should return it.
fn expected(owned: &Owned) -> ReadRecord {
    let record = match owned {
        Owned::Datagram(bytes) => return ReadRecord::Event(bytes.clone(), None),
        Owned::Exit(bytes, used) => return ReadRecord::Event(bytes.clone(), Some(usage(used))),
        Owned::Other(record) => record.clone(),
    };
    match record {
        capture::Record::Loss(loss) => ReadRecord::Loss {
            cpu_first_last: [loss.cpu.0.into(), loss.first.0.into(), loss.last.0.into()],
            after_before: [loss.after.0, loss.before.0],
            cause: cause(loss.cause),
        },
        capture::Record::Clock(clock) => ReadRecord::Clock(clock.mono.0, clock.boot_ns, clock.real_ns),
        capture::Record::Snapshot(scan) => ReadRecord::Snapshot {
            started_ended: [scan.started.0, scan.ended.0],
            processes: scan.processes.into(),
            reason: match scan.reason {
                SnapshotReason::Start => 0,
                SnapshotReason::Loss => 1,
                SnapshotReason::Blind => 2,
                SnapshotReason::Segment => 3,
                reason => panic!("{reason:?}"),
            },
            atomic: scan.atomic,
        },
        capture::Record::Blind(blind) => ReadRecord::Blind(blind.from.0, blind.until.0),
        capture::Record::Witness(witness) => {
            ReadRecord::Witness([witness.time.0, witness.drops, witness.gaps])
        }
        capture::Record::Excluded(left) => {
            ReadRecord::Excluded { cpu_last: [left.cpu.0.into(), left.last.0.into()], count: left.count }
        }
        capture::Record::Ring(ring) => ReadRecord::Ring {
            time: ring.time.0,
            cpus: ring
                .cpus
                .iter()
                .map(|cpu| [cpu.cpu.0.into(), cpu.spilled, cpu.dropped, cpu.excluded])
                .collect(),
        },
        capture::Record::Scope(scope) => ReadRecord::Scope(scope.text),
        capture::Record::Forks(ForkReading::Counted(count)) => {
            ReadRecord::Forks([count.from.0, count.until.0, count.forks, count.running])
        }
        capture::Record::Forks(ForkReading::Absent { why }) => ReadRecord::NoForks(why),
        capture::Record::Fence(fence) => ReadRecord::Fence {
            time: fence.time.0,
            position: u64::from(fence.position == FencePosition::End),
            unreached: fence.unreached.iter().map(|cpu| [cpu.cpu.0.into(), why(cpu.why)]).collect(),
        },
        capture::Record::Positions(positions) => ReadRecord::Positions {
            time: positions.time.0,
            cpus: positions.cpus.iter().map(position).collect(),
            drops: positions.source_drops,
        },
        capture::Record::Unobserved(span) => {
            ReadRecord::Unobserved([span.from.0, span.until.0, unobserved(span.reason)])
        }
        capture::Record::Unknown { kind } => ReadRecord::Unknown(kind.into()),
        capture::Record::End(end) => {
            let mut lost = [0; 7];
            end.lost.by_cause().for_each(|(of, count)| lost[cause(of) as usize] = count);
            let numbers = [end.time.0, end.events, end.rejected, end.malformed, end.blind_ns];
            ReadRecord::End { numbers, drops: end.drops, lost }
        }
        capture::Record::Details(details) => ReadRecord::Details(ReadProcess {
            tgid: details.subject.tgid().0,
            exec: match details.subject {
                DetailsSubject::Exec { time, .. } => Some(time.0),
                DetailsSubject::Snapshot { .. } => None,
            },
            miss: match details.miss {
                None => 0,
                Some(MissReason::Gone) => 1,
                Some(MissReason::Denied) => 2,
                Some(MissReason::Busy) => 3,
                Some(MissReason::Superseded) => 4,
                Some(MissReason::Unreadable) => 5,
                Some(MissReason::TooLong) => 6,
                Some(miss) => panic!("{miss:?}"),
            },
            ppid: details.ppid,
            start: details.start_ticks,
            ids: details.ids.map(|ids| [ids.uid, ids.euid, ids.gid, ids.egid]),
            texts: vec![
                details.comm,
                details.exe,
                details.cwd,
                details.cgroup,
                details.args,
                details.filename,
                details.container,
            ],
            args_len: details.args_len,
            threads: details.threads.map(u64::from),
            forked: details.forked.map(|forked| forked.0),
            parent_start: details.parent_start_ticks,
            context: details.context.map(|of| Context {
                login_uid: of.login_uid.into(),
                session: of.session.into(),
                cgroup: of.cgroup,
                pid_namespace: of.pid_namespace.into(),
                group: of.group.into(),
                ns_pid: of.pid.into(),
            }),
        }),
        record => panic!("{record:?}"),
    }
}

fn usage(used: &capture::Usage) -> ReadUsage {
    ReadUsage {
        start: used.start_ticks,
        numbers: [
            used.cpu_us,
            used.user_us,
            used.system_us,
            used.max_rss_kib,
            used.minor_faults,
            used.major_faults,
            used.read_bytes,
            used.write_bytes,
        ],
        threads: used.threads.into(),
        at_least: used.at_least,
        process: [
            match used.process {
                capture::ProcessState::Unknown => 0,
                capture::ProcessState::Alive => 1,
                capture::ProcessState::Ended { status } => 2 + u64::from(status),
            },
            used.process_cpu_us,
        ],
        signal: signal(&used.fatal_signal),
    }
}

fn signal(signal: &capture::FatalSignal) -> ReadSignal {
    let (code, sender) = match signal.origin {
        SignalOrigin::Unknown => (None, None),
        SignalOrigin::Kernel { code } => (Some(code), None),
        SignalOrigin::Process { code, sender } => (Some(code), Some(sender)),
    };
    ReadSignal {
        victim: signal.oom_victim.map_or(0, |is_victim| if is_victim { 2 } else { 1 }),
        code,
        sender: sender.map(|of| (of.pid, of.start_ticks, of.uid.into(), of.comm.0.to_vec())),
    }
}

fn cause(cause: LossCause) -> u64 {
    match cause {
        LossCause::Unknown => 0,
        LossCause::Socket => 1,
        LossCause::Backpressure => 2,
        LossCause::KernelMemory => 3,
        LossCause::Ring => 4,
        LossCause::Storage => 5,
        LossCause::Restart => 6,
        cause => panic!("{cause:?}"),
    }
}

fn why(why: UnreachedReason) -> u64 {
    match why {
        UnreachedReason::Offline => 0,
        UnreachedReason::Forbidden => 1,
        UnreachedReason::Silent => 2,
        why => panic!("{why:?}"),
    }
}

fn position(position: &CpuPosition) -> [u64; 3] {
    [position.cpu.0.into(), position.next.0.into(), position.time.0]
}

fn unobserved(reason: UnobservedReason) -> u64 {
    match reason {
        UnobservedReason::Stopped => 0,
        UnobservedReason::Pruned => 1,
        UnobservedReason::Missing => 2,
        UnobservedReason::Killed => 3,
        UnobservedReason::Future => 4,
        reason => panic!("{reason:?}"),
    }
}

fn segment_reason(reason: SegmentReason) -> u64 {
    match reason {
        SegmentReason::Start => 0,
        SegmentReason::Size => 1,
        SegmentReason::Age => 2,
        SegmentReason::Request => 3,
        SegmentReason::Storage => 4,
        SegmentReason::Restart => 5,
        SegmentReason::Cut => 6,
        reason => panic!("{reason:?}"),
    }
}

fn check(records: &[Owned], every: usize) {
    let (_, read, blocks) = file::read(&capture(records, every));
    assert_eq!(blocks, records.chunks(every).len());
    assert_eq!(read.len(), records.len());
    for (at, (read, record)) in read.iter().zip(records).enumerate() {
        assert_eq!(*read, expected(record), "record {at}");
    }
}

#[test]
fn the_checksum_is_the_specified_one() {
    assert_eq!(bytes::crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn records_of_every_kind_follow_the_specification_for_any_block_size() {
    let sample_records = sample_records();
    (1..=sample_records.len()).for_each(|every| check(&sample_records, every));
}

#[test]
fn a_capture_of_version_1_0_follows_the_specification() {
    let (_, read, _) = file::read(CAPTURE_1_0);
    assert_eq!(read, sample_records_1_0().iter().map(expected).collect::<Vec<_>>());
}

/// All columns of these records are zero, so the writer adds padding to their block.
#[test]
fn a_block_with_padding_follows_the_specification() {
    let mut encoder = Encoder::new(&shared::records::header()).unwrap();
    let mut bytes = encoder.header().to_vec();
    let ack = |n| pmon_core::wire::Event {
        time: MonoNs(0),
        seq: pmon_core::Seq(n),
        cpu: pmon_core::Cpu(0),
        body: pmon_core::wire::EventBody::Ack { ack: 0, err: 0 },
    };
    let datagrams: Vec<_> =
        (1..=8000).map(|n| ack(n).encode(shared::records::ORDER).unwrap().to_vec()).collect();
    datagrams.iter().for_each(|datagram| encoder.push_datagram(datagram).unwrap());
    bytes.extend_from_slice(encoder.seal());
    bytes.extend_from_slice(encoder.finish());
    let (_, read, _) = file::read(&bytes);
    assert!(
        read == datagrams.into_iter().map(|datagram| ReadRecord::Event(datagram, None)).collect::<Vec<_>>()
    );
}

#[test]
fn the_header_follows_the_specification() {
    let position = |cpu, next, time| CpuPosition {
        cpu: pmon_core::Cpu(cpu),
        next: pmon_core::Seq(next),
        time: MonoNs(time),
    };
    let some = SegmentInfo {
        reason: SegmentReason::Start,
        positions: vec![position(0, u32::MAX, 1 << 40), position(300, 0, 250)],
    };
    let reasons = [
        SegmentReason::Start,
        SegmentReason::Size,
        SegmentReason::Age,
        SegmentReason::Request,
        SegmentReason::Storage,
        SegmentReason::Restart,
        SegmentReason::Cut,
    ];
    let on = SignalTracing::On;
    check_header(None, SignalTracing::Unknown);
    check_header(None, SignalTracing::Off { why: "no permission".into() });
    for reason in reasons {
        check_header(Some(SegmentInfo { reason, ..some.clone() }), on.clone());
    }
    check_header(Some(SegmentInfo { reason: SegmentReason::Start, positions: vec![] }), on);
}

fn check_header(segment: Option<SegmentInfo>, signals: SignalTracing) {
    let text = |text: &str| text.to_owned();
    let meta = Meta {
        tool: text("pmon 1"),
        host: text("höst"),
        kernel: text("6.18"),
        machine: text("riscv64"),
        boot_id: text("an id"),
        cpus_online: 250,
        ticks_per_second: 251,
        namespaces: Namespaces { pid: 0xffff, user: 0x1_0000, net: 1 << 32 },
        recorder_pid: u32::MAX,
        command: vec![b"a".to_vec(), vec![], vec![0xff; 300]],
        transport: TransportInfo { name: text("ring"), why: text("it is there") },
        socket_buffer: u64::MAX,
        start: ClockAnchor { mono: MonoNs(1), boot_ns: 2, real_ns: i64::MIN },
        previous: Some([9; 16]),
        machine_id: text("a machine"),
        segment: segment.clone(),
        signals: signals.clone(),
    };
    let header = capture::Header { uuid: [0xab; 16], byte_order: ByteOrder::Big, meta };
    let mut encoder = Encoder::new(&header).unwrap();
    let bytes = [encoder.header().to_vec(), encoder.finish().to_vec()].concat();
    let (read, records, _) = file::read(&bytes);
    assert_eq!(records, []);
    let expected = ReadHeader {
        uuid: vec![0xab; 16],
        big_endian: true,
        texts: ["pmon 1", "höst", "6.18", "riscv64", "an id", "ring", "it is there", "a machine"]
            .map(text)
            .into(),
        numbers: vec![250, 251, 0xffff, 0x1_0000, 1 << 32, u64::from(u32::MAX), u64::MAX],
        command: vec![b"a".to_vec(), vec![], vec![0xff; 300]],
        start: (1, 2, i64::MIN),
        previous: Some(vec![9; 16]),
        segment: segment.map(|segment| {
            (segment_reason(segment.reason), segment.positions.iter().map(position).collect())
        }),
        signals: match signals {
            SignalTracing::Unknown => (0, String::new()),
            SignalTracing::On => (1, String::new()),
            SignalTracing::Off { why } => (2, why),
            signals => panic!("{signals:?}"),
        },
    };
    assert_eq!(read, expected);
}

proptest! {
    #[test]
    fn any_records_follow_the_specification(
        records in prop::collection::vec(any_record(), 0..300),
        every in 1..200_usize,
    ) {
        check(&records, every);
    }

    /// Tests datagrams of a big-endian machine.
    #[test]
    fn any_big_endian_events_follow_the_specification(events in prop::collection::vec(shared::events::any_event(), 1..50)) {
        let header = capture::Header { byte_order: ByteOrder::Big, ..shared::records::header() };
        let mut encoder = Encoder::new(&header).unwrap();
        let mut bytes = encoder.header().to_vec();
        let datagrams: Vec<_> = events.iter().map(|event| event.encode(ByteOrder::Big).unwrap().to_vec()).collect();
        datagrams.iter().for_each(|datagram| encoder.push_datagram(datagram).unwrap());
        bytes.extend_from_slice(encoder.seal());
        bytes.extend_from_slice(encoder.finish());
        let (_, read, _) = file::read(&bytes);
        prop_assert_eq!(read, datagrams.into_iter().map(|datagram| ReadRecord::Event(datagram, None)).collect::<Vec<_>>());
    }
}
