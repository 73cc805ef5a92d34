//! Memory use of a recorder under hostile names and arguments of processes.
//!
//! This test is a program of its own, because it measures its own peak.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use pmon_core::capture::{
    Credentials, Details, DetailsSubject, Header, Meta, MissReason, ProcessContext, Record,
};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_record::assemble::{Assembler, AssemblerSettings};
use pmon_record::{Chunk, Sink as _};
use pmon_store::{CaptureFile, CaptureTarget};

/// Maximum growth in KiB. Of the 64 MiB that a recorder uses in addition to its ring, waiting
/// events take 32 MiB, and the program takes 8 MiB.
const MAX_GROWTH: u64 = 20 << 10;

/// Returns the peak memory in KiB since the start or the last reset.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Resets the peak (`proc_pid_clear_refs(5)`).
fn reset_peak() {
    File::create("/proc/self/clear_refs").unwrap().write_all(b"5").unwrap();
}

fn details(tgid: u32, args: Vec<u8>, path: Vec<u8>) -> Box<Details> {
    let subject = DetailsSubject::Exec { tgid: Tgid(tgid), time: MonoNs(tgid.into()) };
    Box::new(Details {
        miss: None,
        ppid: Some(tgid / 2),
        start_ticks: Some(tgid.into()),
        parent_start_ticks: Some(1),
        ids: Some(Credentials::default()),
        comm: Some(format!("name-{tgid}").into_bytes()),
        exe: Some(path.clone()),
        filename: Some(path.clone()),
        cwd: Some(path.clone()),
        cgroup: Some(path),
        args_len: Some(args.len() as u64 + 1),
        args: Some(args),
        context: Some(ProcessContext { session: tgid, ..ProcessContext::default() }),
        ..Details::missed(subject, MissReason::Gone)
    })
}

/// Returns bytes that do not compress.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8 | 1
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Returns words that are unique among processes with the same number of words.
fn words(first: u32, count: u32) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{:07x}\0", first * count + n).into_bytes()).collect()
}

/// A description of processes, their number, and the details of each.
type HostileProcesses<'a> = (&'a str, u32, &'a dyn Fn(u32) -> Box<Details>);

#[test]
fn names_and_arguments_of_processes_take_bounded_memory() {
    let short = || b"/bin/true".to_vec();
    let path = |n| [b"/", &noise(n, 4095)[..]].concat();
    let hostile: [HostileProcesses<'_>; 6] = [
        ("400 words each", 1500, &|n| details(n, words(n, 400), short())),
        ("120,000 bytes of words", 30, &|n| details(n, words(n, 15_000), short())),
        ("128 KiB of empty words", 20, &|n| details(n, vec![0; 128 << 10], short())),
        ("128 KiB of noise", 100, &|n| details(n, noise(n, 128 << 10), short())),
        ("paths of 4096 bytes", 1500, &|n| details(n, b"x\0".to_vec(), path(n))),
        ("many processes", 20_000, &|n| details(n, words(n, 2), short())),
    ];
    for (name, count, of) in hostile {
        let dir = tempfile::tempdir().unwrap();
        let header = Header { uuid: [7; 16], byte_order: ByteOrder::NATIVE, meta: Meta::default() };
        reset_peak();
        let before = peak();
        let file = CaptureFile::create(&CaptureTarget::File(dir.path().join("memory.pmon")), &header, false)
            .unwrap();
        let mut assembler = Assembler::new(file, AssemblerSettings::new(ByteOrder::NATIVE, Tgid(1)));
        let mut chunk = Chunk::with_capacity(1);
        for n in 0..count {
            let body = EventBody::Exec { task: Task::new(n, n) };
            let event = Event { time: MonoNs(n.into()), seq: Seq(n), cpu: Cpu(0), body };
            chunk.clear();
            chunk.batch.push(&event.encode(ByteOrder::NATIVE).unwrap(), 0);
            assembler.add_chunk(&chunk).unwrap();
            assembler.record(&Record::Details(of(n))).unwrap();
            if n % 64 == 0 {
                // Writes the journal.
                let soon = Instant::now() + Duration::from_millis(100);
                assembler.sink_mut().tick(soon).unwrap();
            }
        }
        assembler.finish(MonoNs(count.into())).unwrap();
        let taken = peak().saturating_sub(before);
        assert!(taken <= MAX_GROWTH, "{name}: {taken} KiB");
        let _ = writeln!(std::io::stderr(), "{name}: {taken} KiB");
    }
}
