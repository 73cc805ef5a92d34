//! Generates records of all kinds.

use super::super::events;
use super::*;

fn any_details() -> impl Strategy<Value = Owned> {
    let string = || {
        let likely = prop::sample::select(vec![&b"cc"[..], b"ld", b"/", b""]);
        let other = prop::collection::vec(any::<u8>(), 0..20);
        prop::option::of(prop_oneof![3 => likely.prop_map(<[u8]>::to_vec), 1 => other])
    };
    // The words are few, so that command lines resemble each other.
    let word = prop_oneof![8 => 0..40_u32, 1 => any::<u32>()].prop_map(|n| n.to_string().into_bytes());
    let words = prop::collection::vec(word, 0..8).prop_map(|words| words.join(&0));
    let args = prop::option::of(prop_oneof![
        words.clone(),
        words.prop_map(|args| [args, vec![0]].concat()),
        any::<Vec<u8>>()
    ]);
    let subject = prop_oneof![
        any::<u32>().prop_map(|tgid| DetailsSubject::Snapshot { tgid: Tgid(tgid) }),
        any::<(u32, u64)>()
            .prop_map(|(tgid, time)| DetailsSubject::Exec { tgid: Tgid(tgid), time: MonoNs(time) }),
        (0..4_u32, 0..4_u64)
            .prop_map(|(tgid, time)| DetailsSubject::Exec { tgid: Tgid(tgid), time: MonoNs(time) }),
    ];
    let miss = prop::option::of(prop_oneof![
        Just(MissReason::Gone),
        Just(MissReason::Denied),
        Just(MissReason::Busy),
        Just(MissReason::Superseded),
        Just(MissReason::Unreadable),
        Just(MissReason::TooLong)
    ]);
    let ids = prop::option::of(prop_oneof![Just([0; 4]), any::<[u32; 4]>()]);
    let start = || prop::option::of(any_start());
    let args_len = prop::option::of(1..=u64::MAX);
    let ppid = prop::option::of(prop_oneof![0..6_u32, any::<u32>()]);
    let strings = (string(), string(), string(), string(), string(), string(), args);
    let parent = (ppid, start());
    (subject, miss, start(), parent, ids, strings, args_len, prop::option::of(any_context())).prop_map(
        |(subject, miss, start_ticks, (ppid, parent_start_ticks), ids, strings, args_len, context)| {
            let ids = ids.map(|[uid, euid, gid, egid]| Credentials { uid, euid, gid, egid });
            let (comm, exe, filename, cwd, cgroup, container, args) = strings;
            Owned::Other(Record::Details(Box::new(Details {
                subject,
                miss,
                ppid,
                start_ticks,
                parent_start_ticks,
                ids,
                comm,
                exe,
                filename,
                cwd,
                cgroup,
                container,
                args,
                args_len,
                threads: args_len.map(|len| len as u32 | 1),
                forked: args_len.map(|len| MonoNs(len >> 2)).filter(|_| ppid.is_some()),
                context,
            })))
        },
    )
}

/// Generates start times in ticks. Below 2^62, their code always fits.
fn any_start() -> impl Strategy<Value = u64> {
    prop_oneof![0..1_u64 << 62, 0..4_u64]
}

fn any_context() -> impl Strategy<Value = ProcessContext> {
    let small = || prop_oneof![3 => 0..4_u32, 1 => any::<u32>()];
    let cgroup = prop_oneof![3 => 0..4_u64, 1 => any::<u64>()];
    (small(), small(), small(), cgroup, small(), small()).prop_map(
        |(session, group, login_uid, cgroup, pid_namespace, pid)| ProcessContext {
            session,
            group,
            login_uid,
            cgroup,
            pid_namespace,
            pid,
        },
    )
}

fn any_fatal_signal() -> impl Strategy<Value = FatalSignal> {
    let code = || prop_oneof![3 => -6..3_i32, 1 => any::<i32>()];
    let comm = any::<[u8; 16]>().prop_map(Comm);
    let sender = (any::<u32>(), any::<u64>(), any::<u32>(), comm)
        .prop_map(|(pid, start_ticks, uid, comm)| SignalSender { pid, start_ticks, uid, comm });
    let origin = prop_oneof![
        2 => Just(SignalOrigin::Unknown),
        1 => code().prop_map(|code| SignalOrigin::Kernel { code }),
        1 => (code(), sender).prop_map(|(code, sender)| SignalOrigin::Process { code, sender }),
    ];
    (any::<Option<bool>>(), origin).prop_map(|(oom_victim, origin)| FatalSignal { oom_victim, origin })
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let process = prop_oneof![
        Just(ProcessState::Unknown),
        Just(ProcessState::Alive),
        any::<u32>().prop_map(|status| ProcessState::Ended { status }),
    ];
    let threads = (any::<u32>(), any::<bool>(), process);
    (any_start(), any::<[u64; 9]>(), any::<[bool; 9]>(), threads, any_fatal_signal()).prop_map(
        |(start_ticks, numbers, is_small, (threads, at_least, process), fatal_signal)| {
            let mut numbers = numbers;
            let small = numbers.iter_mut().zip(is_small).filter(|(_, is_small)| *is_small);
            small.for_each(|(number, _)| *number %= 300);
            let [cpu, user, system, rss, minor, major, read, write, process_cpu] = numbers;
            Usage {
                start_ticks,
                cpu_us: cpu,
                user_us: user,
                system_us: system,
                max_rss_kib: rss,
                minor_faults: minor,
                major_faults: major,
                read_bytes: read,
                write_bytes: write,
                threads,
                at_least,
                process,
                process_cpu_us: process_cpu,
                fatal_signal,
            }
        },
    )
}

const UNOBSERVED: [UnobservedReason; 5] = [
    UnobservedReason::Stopped,
    UnobservedReason::Pruned,
    UnobservedReason::Missing,
    UnobservedReason::Killed,
    UnobservedReason::Future,
];

/// Generates notes of the kinds since version 1.1.
fn any_note() -> impl Strategy<Value = Owned> {
    let counts = any::<(u32, u64, u64, u64)>().prop_map(|(cpu, spilled, dropped, excluded)| CpuCounts {
        cpu: Cpu(cpu),
        spilled,
        dropped,
        excluded,
    });
    prop_oneof![
        any::<(u32, u32, u64)>().prop_map(|(cpu, last, count)| Record::Excluded(Excluded {
            cpu: Cpu(cpu),
            last: Seq(last),
            count
        })),
        (any::<u64>(), prop::collection::vec(counts, 0..5))
            .prop_map(|(time, cpus)| Record::Ring(RingCounts { time: MonoNs(time), cpus })),
        any::<String>().prop_map(|text| Record::Scope(ScopeInfo { text })),
        any::<(u64, u64, u64, u64)>().prop_map(|(from, until, forks, running)| {
            let (from, until) = (MonoNs(from), MonoNs(until));
            Record::Forks(ForkReading::Counted(ForkCount { from, until, forks, running }))
        }),
        any::<String>().prop_map(|why| Record::Forks(ForkReading::Absent { why })),
        (any::<u64>(), prop::collection::vec(any::<(u32, u32, u64)>(), 0..5), any::<Option<u64>>()).prop_map(
            |(time, cpus, source_drops)| {
                let position =
                    |(cpu, next, time)| CpuPosition { cpu: Cpu(cpu), next: Seq(next), time: MonoNs(time) };
                let cpus = cpus.into_iter().map(position).collect();
                Record::Positions(Positions { time: MonoNs(time), cpus, source_drops })
            }
        ),
        (any::<(u64, u64)>(), prop::sample::select(UNOBSERVED.to_vec())).prop_map(
            |((from, until), reason)| {
                Record::Unobserved(Unobserved { from: MonoNs(from), until: MonoNs(until), reason })
            }
        ),
    ]
    .prop_map(Owned::Other)
}

pub(crate) fn any_record() -> impl Strategy<Value = Owned> {
    // The ids are mostly small, so that predictions are correct and wrong in all ways.
    let tid = || prop_oneof![6 => 0..4_u32, 2 => 0..40_u32, 1 => (0..3_u32).prop_map(|n| 4096 * n + 1)];
    // The times are within one tick, or span several.
    let time = prop_oneof![0..4_u64, 0..40_000_000_u64];
    let likely = (tid(), tid(), tid(), tid(), 0..3_u32, 0..4_u32, time, prop::option::of(any_usage()));
    let likely = likely.prop_map(move |(a, b, c, d, cpu, seq, time, usage)| {
        let (task, other) = (Task::new(a, b), Task::new(c, d));
        let body = match (a + b + c + d) % 4 {
            0 => EventBody::Fork { parent: task, child: other },
            1 => EventBody::Exec { task },
            2 => EventBody::Exit {
                task,
                code: 0,
                signal: if seq == 0 { u32::MAX } else { 17 },
                parent: Some(other),
            },
            _ => EventBody::Comm { task, comm: Comm::default() },
        };
        owned(Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body }, usage)
    });
    let other = (events::any_event(), prop::option::of(any_usage()));
    prop_oneof![
        4 => likely,
        2 => other.prop_map(|(event, usage)| owned(event, usage)),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Owned::Datagram),
        1 => any_details(),
        1 => any_note(),
        1 => any::<(u64, u32, bool)>().prop_map(|(time, processes, is_opening)| {
            Owned::Other(Record::Snapshot(Snapshot {
                started: MonoNs(time),
                ended: MonoNs(time),
                processes,
                reason: if is_opening { SnapshotReason::Segment } else { SnapshotReason::Start },
                atomic: true,
            }))
        }),
    ]
}
