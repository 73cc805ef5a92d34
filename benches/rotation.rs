//! Measures what a store costs the writer thread, beyond a single capture file.
//!
//! `cargo bench --profile dist --bench rotation`
//!
//! All times are CPU time of the process, so that other work of the machine disturbs them less.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pmon_analysis::process::ProcessModel;
use pmon_core::capture::{
    ClockAnchor, CpuPosition, Credentials, Details, DetailsSubject, End, Header, Meta, MissReason, Positions,
    ProcessContext, ProcessState, Record, RecordedDatagram, SegmentReason, Usage,
};
use pmon_core::wire::{ByteOrder, Comm, Event, EventBody};
use pmon_core::{Cpu, MonoNs, Seq, Task, Tgid};
use pmon_record::{Division, Sink};
use pmon_store::{CaptureFile, CaptureTarget, Directory, StoreOptions, StoreWriter};
use rustix::time::{ClockId, clock_gettime};

const ORDER: ByteOrder = ByteOrder::NATIVE;
const EVENTS: usize = 300_000;
const SECOND: u64 = 1_000_000_000;
/// Length of a segment in event time.
const ROTATE_EVERY: u64 = 10 * SECOND;
/// Number of processes that run all the time.
const RESIDENT: u32 = 300;

/// Measures the CPU time of this process.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Emits records in order.
#[derive(Default)]
struct Recording {
    time: u64,
    seq: u32,
    records: Vec<Record<'static>>,
}

impl Recording {
    /// Emits an event `after` ns after the last one.
    fn event(&mut self, after: u64, body: EventBody, usage: Option<Usage>) {
        self.time += after;
        self.seq += 1;
        let event = Event { time: MonoNs(self.time), seq: Seq(self.seq), cpu: Cpu(0), body };
        self.records.push(Record::Event(RecordedDatagram::Event(event), usage.map(Box::new)));
    }

    fn details(&mut self, subject: DetailsSubject, name: &str) {
        self.records.push(Record::Details(Box::new(Details {
            miss: None,
            ppid: Some(1),
            start_ticks: Some((self.time + SECOND) / 10_000_000),
            parent_start_ticks: Some(1),
            ids: Some(Credentials { uid: 1000, euid: 1000, gid: 1000, egid: 1000 }),
            comm: Some(name.into()),
            exe: Some(format!("/usr/bin/{name}").into()),
            filename: Some(format!("/usr/bin/{name}").into()),
            cwd: Some("/home/user/project".into()),
            cgroup: Some("0::/user.slice/user-1000.slice/session-1.scope".into()),
            args: Some(format!("{name}\0-c\0-O2\0-o\0build/file-{}.o\0", self.seq % 5000).into()),
            context: Some(ProcessContext { session: 1, group: 1, pid: 1, ..ProcessContext::default() }),
            threads: matches!(subject, DetailsSubject::Snapshot { .. }).then_some(1),
            ..Details::missed(subject, MissReason::Gone)
        })));
    }

    /// A machine with processes that run all the time.
    fn with_residents() -> Self {
        let mut recording = Self { time: SECOND, ..Self::default() };
        for pid in 1..RESIDENT {
            recording.event(1_000, EventBody::Fork { parent: leader(1), child: leader(pid) }, None);
            recording.details(DetailsSubject::Snapshot { tgid: Tgid(pid) }, "daemon");
        }
        recording
    }
}

fn leader(pid: u32) -> Task {
    Task::new(pid, pid)
}

/// Processes that fork, exec and exit, 2,700 a second, as a build at full speed does.
fn storm() -> Vec<Record<'static>> {
    let mut recording = Recording::with_residents();
    for n in 0..EVENTS as u32 / 3 {
        let (pid, parent) = (1_000 + n % 30_000, leader(2 + n % 4));
        recording.event(20_000, EventBody::Fork { parent, child: leader(pid) }, None);
        recording.event(40_000, EventBody::Exec { task: leader(pid) }, None);
        let subject = DetailsSubject::Exec { tgid: Tgid(pid), time: MonoNs(recording.time) };
        recording.details(subject, ["cc1", "as", "sh"][n as usize % 3]);
        let usage = Usage {
            start_ticks: recording.time / 10_000_000,
            cpu_us: 900 + u64::from(n % 97),
            max_rss_kib: 3000 + u64::from(n % 311),
            minor_faults: 150 + u64::from(n % 13),
            process: ProcessState::Ended { status: 0 },
            ..Usage::default()
        };
        let exit = EventBody::Exit { task: leader(pid), code: 0, signal: 17, parent: Some(parent) };
        recording.event(310_000, exit, Some(usage));
    }
    recording.records
}

/// Two threads that rename themselves as fast as they can.
fn renames() -> Vec<Record<'static>> {
    let mut recording = Recording::with_residents();
    for n in 0..EVENTS {
        let mut comm = Comm::default();
        comm.0[..5].copy_from_slice(format!("{:05}", n % 100_000).as_bytes());
        let task = leader(10 + n as u32 % 2);
        // The events are further apart than on a real machine, so that there are as many segments.
        recording.event(120_000, EventBody::Comm { task, comm }, None);
    }
    recording.records
}

fn model() -> ProcessModel {
    ProcessModel::new(ORDER, 100, ClockAnchor { boot_ns: SECOND, ..ClockAnchor::default() })
}

fn header() -> Header {
    let meta = Meta { host: "bench".into(), ticks_per_second: 100, ..Meta::default() };
    Header { uuid: [7; 16], byte_order: ORDER, meta }
}

/// Passes all records to a sink, with a tick every 10 ms of event time, and divides the recording
/// if it is a store. Returns the number of segments.
fn write(sink: &mut dyn Sink, records: &[Record<'_>], is_store: bool) -> u32 {
    let start = Instant::now();
    let (mut ticked, mut divided, mut segments) = (0, SECOND, 1);
    for record in records {
        sink.record(record).expect("a record");
        let Record::Event(RecordedDatagram::Event(event), _) = record else { continue };
        if event.time.0 - ticked < 10_000_000 {
            continue;
        }
        ticked = event.time.0;
        sink.tick(start + Duration::from_nanos(ticked)).expect("a tick");
        if is_store && ticked - divided >= ROTATE_EVERY {
            divided = ticked;
            segments += 1;
            let cpus = vec![CpuPosition { cpu: Cpu(0), next: event.seq.next(), time: event.time }];
            let clock = ClockAnchor { mono: event.time, boot_ns: ticked + SECOND, real_ns: ticked as i64 };
            let positions = Positions { time: event.time, cpus, source_drops: None };
            sink.record(&Record::Positions(positions.clone())).expect("positions");
            sink.begin_segment(&Division { reason: SegmentReason::Age, clock, positions })
                .expect("a segment");
            sink.end_segment(&End::default()).expect("the end of a segment");
        }
    }
    sink.record(&Record::End(End::default())).expect("the end");
    sink.finish().expect("the end of the file");
    segments
}

fn store_in(directory: &Path) -> StoreWriter {
    let filesystem = Arc::new(Directory::new(directory));
    let options = StoreOptions::default();
    StoreWriter::open(filesystem, header(), options, model(), Instant::now()).expect("a store").0
}

fn file_in(directory: &Path) -> CaptureFile {
    let target = CaptureTarget::NewFile(directory.join("one.pmon"));
    CaptureFile::create(&target, &header(), true).expect("a file")
}

fn rotation(c: &mut Criterion<CpuTime>) {
    for (name, records) in [("storm", storm()), ("renames", renames())] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(10);
        group.bench_function("model", |b| {
            b.iter_batched_ref(
                model,
                |model| records.iter().for_each(|record| model.apply(black_box(record))),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("one file", |b| {
            b.iter_batched_ref(
                || tempfile::tempdir().expect("a directory"),
                |directory| write(&mut file_in(directory.path()), &records, false),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("store", |b| {
            b.iter_batched_ref(
                || tempfile::tempdir().expect("a directory"),
                |directory| assert!(write(&mut store_in(directory.path()), &records, true) > 3),
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = rotation
}
criterion_main!(benches);
