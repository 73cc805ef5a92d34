//! Tests the verbs that answer questions about processes.

mod completeness;
mod containers;
mod filter;
mod find;
mod identity;
mod json;
mod lineage;
mod live;
mod moment;
mod oom;
mod prove;
mod stats;
mod top;
mod tree;
mod unknown;
mod why;

use pmon_core::MonoNs;
use pmon_core::Tgid;
use pmon_core::capture::{Details, DetailsSubject, Encoder, MissReason, Record, Snapshot, SnapshotReason};
use serde_json::Value;

use crate::support::*;

/// Returns the last line of JSON output, which is about the completeness.
#[track_caller]
fn coverage(ran: &RunOutput) -> Value {
    let last = ran.json_lines().pop().expect("a line");
    assert_eq!(last["kind"], "coverage", "{last}");
    last
}

/// Returns a process that a scan found, which started `ticks` hundredths of a second after boot.
fn found(pid: u32, ppid: u32, args: &str, ticks: u64) -> Record<'static> {
    let missed = Details::missed(DetailsSubject::Snapshot { tgid: Tgid(pid) }, MissReason::Denied);
    let comm = args.split(' ').next().unwrap().rsplit('/').next().unwrap();
    Record::Details(Box::new(Details {
        miss: None,
        ppid: Some(ppid),
        comm: Some(comm.into()),
        args: Some(args.split(' ').flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect()),
        start_ticks: Some(ticks),
        threads: Some(1),
        ..missed
    }))
}

/// Returns the end of a scan that began `us` microseconds after the start.
fn scan(us: u64, processes: u32, reason: SnapshotReason) -> Record<'static> {
    let (started, ended) = (MonoNs(START + us * 1_000), MonoNs(START + us * 1_000));
    Record::Snapshot(Snapshot { started, ended, processes, reason, atomic: false })
}

/// Encodes a capture of a machine whose clock ticks 100 times a second.
fn ticking_capture(records: &[Record<'_>]) -> Vec<u8> {
    let mut header = header();
    header.meta.ticks_per_second = 100;
    let mut encoder = Encoder::new(&header).expect("the header fits");
    let mut bytes = encoder.header().to_vec();
    for records in records.chunks(4) {
        records.iter().for_each(|record| encoder.push(record).expect("the record fits"));
        bytes.extend(encoder.seal());
    }
    bytes.extend(encoder.finish());
    bytes
}

/// Returns details with a cgroup.
fn in_cgroup(record: Record<'static>, cgroup: &str) -> Record<'static> {
    match record {
        Record::Details(details) => {
            Record::Details(Box::new(Details { cgroup: Some(cgroup.into()), ..*details }))
        }
        record => record,
    }
}

/// A container of docker.
const CONTAINER: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";

/// A shell runs `make`, which fails after one compiler has failed and another was killed, and `ls`.
fn build() -> Vec<Record<'static>> {
    let unit = "0::/system.slice/build.service";
    let container = &format!("0::/system.slice/docker-{CONTAINER}.scope");
    vec![
        found(1, 0, "/sbin/init splash", 100),
        found(10, 1, "sh", 50_000),
        scan(0, 2, SnapshotReason::Start),
        fork(1_000_000, 1, 10, (20, 20)),
        exec(1_000_500, 2, 20),
        in_cgroup(details(1_000_500, 20, "make", b"make\0-j2\0"), unit),
        fork(1_100_000, 3, 20, (21, 21)),
        exec(1_100_500, 4, 21),
        in_cgroup(details(1_100_500, 21, "cc", b"cc\0-O2\0a.c\0"), container),
        exit(1_400_000, 5, (21, 21), 1 << 8),
        fork(1_500_000, 6, 20, (22, 22)),
        exec(1_500_500, 7, 22),
        in_cgroup(details(1_500_500, 22, "cc", b"cc\0-O2\0b.c\0"), container),
        exit(4_000_000, 8, (22, 22), 11 | 0x80),
        exit(4_100_000, 9, (20, 20), 2 << 8),
        fork(5_000_000, 10, 10, (23, 23)),
        exec(5_000_500, 11, 23),
        details(5_000_500, 23, "ls", b"ls\0-l\0"),
        exit(5_001_000, 12, (23, 23), 0),
        end(6_000_000, 12),
    ]
}
