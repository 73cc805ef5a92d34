//! The service over stores in memory.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use pmon_analysis::{Verdict, Verifier};
use pmon_core::MonoNs;
use pmon_core::capture::{ClockAnchor, Encoder, Header, Item, Reader};

use super::*;
use crate::cut::tests::recording::{RecordingPlan, SimulatedRecording};
use crate::disk::Filesystem;
use crate::file::partial;
use crate::{MemoryFilesystem, SegmentName};

/// Time by the clock of the tests.
static NOW: AtomicU64 = AtomicU64::new(0);
/// Tests that move the clock run one after the other.
static CLOCK: Mutex<()> = Mutex::new(());

fn clock() -> ClockAnchor {
    let mono = NOW.load(Ordering::Acquire);
    ClockAnchor { mono: MonoNs(mono), boot_ns: mono, real_ns: mono as i64 + 1_700_000_000_000_000_000 }
}

/// A store whose segments end one after the other.
struct Store {
    filesystem: Arc<MemoryFilesystem>,
    next: Mutex<Vec<Vec<u8>>>,
    /// The first rotation waits until the other end is dropped.
    gate: Mutex<Option<Receiver<()>>>,
}

impl ClipStore for Store {
    fn filesystem(&self) -> Arc<dyn Filesystem> {
        self.filesystem.clone()
    }

    fn rotate(&self, _timeout: Duration) {
        let gate = self.gate.lock().unwrap().take();
        gate.into_iter().for_each(|gate| assert!(gate.recv().is_err()));
        for capture in self.next.lock().unwrap().drain(..) {
            add(&*self.filesystem, &capture);
        }
    }
}

fn add(filesystem: &dyn Filesystem, capture: &[u8]) {
    let header = Header::read(&mut &capture[..]).unwrap().unwrap();
    let taken = |name: &SegmentName| {
        filesystem.entry(name.as_str()).is_ok() || filesystem.entry(&partial(name.as_str())).is_ok()
    };
    let name = SegmentName::unused("web", header.meta.start.real_ns, taken);
    write(filesystem, name.as_str(), capture);
}

fn write(filesystem: &dyn Filesystem, name: &str, bytes: &[u8]) {
    let disk = filesystem.create(name).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        at += disk.write_at(&bytes[at..], at as u64).unwrap();
    }
}

fn start(recording: &SimulatedRecording, output: Arc<MemoryFilesystem>) -> ClipService {
    start_gated(recording, output, None)
}

fn start_gated(
    recording: &SimulatedRecording,
    output: Arc<MemoryFilesystem>,
    gate: Option<Receiver<()>>,
) -> ClipService {
    start_on(store(recording, gate), output)
}

fn store(recording: &SimulatedRecording, gate: Option<Receiver<()>>) -> Arc<Store> {
    store_in(Arc::new(MemoryFilesystem::new(1 << 30)), recording, gate)
}

fn store_in(
    filesystem: Arc<MemoryFilesystem>,
    recording: &SimulatedRecording,
    gate: Option<Receiver<()>>,
) -> Arc<Store> {
    NOW.store(recording.end + 1, Ordering::Release);
    let (last, ended) = recording.captures.split_last().unwrap();
    ended.iter().for_each(|capture| add(&*filesystem, capture));
    Arc::new(Store { filesystem, next: Mutex::new(vec![last.clone()]), gate: Mutex::new(gate) })
}

fn start_on(store: Arc<Store>, output: Arc<MemoryFilesystem>) -> ClipService {
    ClipService::start(ClipConfig { store, output, host: "web".into(), tool: "pmon test".into() }, clock)
        .unwrap()
}

fn request(name: &str, at: u64, before: u64, after: u64) -> ClipRequest {
    let (before, after) = (Duration::from_nanos(before), Duration::from_nanos(after));
    ClipRequest { name: ClipName::new(name).unwrap(), at: MonoNs(at), before, after }
}

fn wait(ticket: &ClipTicket) -> Result<Clip, ClipError> {
    ticket.wait(Duration::from_secs(20)).expect("a result within 20 s")
}

fn read(output: &dyn Filesystem, clip: &Clip) -> (u64, Verdict) {
    let mut bytes = Vec::new();
    let name = clip.path.file_name().unwrap().to_str().unwrap();
    output.open(name).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, clip.bytes);
    let mut reader = Reader::open(bytes.as_slice()).unwrap();
    let header = reader.header().unwrap().clone();
    let mut verifier = Verifier::new(reader.byte_order(), header.meta.recorder());
    verifier.begin_at(&header.meta.segment.unwrap().positions, header.meta.start.mono);
    let mut events = 0;
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Block(block) = item else { panic!("damage") };
        for record in block.records() {
            events += u64::from(matches!(record, pmon_core::capture::Record::Event(..)));
            verifier.count(&record);
        }
    }
    (events, verifier.finish(reader.ended_cleanly()).verdict())
}

fn recording() -> SimulatedRecording {
    RecordingPlan { segments: 3, losses: false, ..RecordingPlan::random(11) }.record()
}

#[test]
fn a_clip_has_the_requested_time_and_a_verdict_of_its_own() {
    let _clock = CLOCK.lock();
    let recording = recording();
    let output = Arc::new(MemoryFilesystem::new(1 << 30));
    let service = start(&recording, output.clone());
    let middle = recording.start + (recording.end - recording.start) / 2;
    let quarter = (recording.end - recording.start) / 4;
    let clip = wait(&service.handle().request(request("crash", middle, quarter, quarter))).unwrap();
    assert_eq!((clip.from.0, clip.until.0), (middle - quarter, middle + quarter));
    assert_eq!((clip.verdict, clip.missing.as_str()), (Verdict::Complete, ""));
    assert_eq!(read(&*output, &clip), (clip.events, Verdict::Complete));
    assert!(clip.path.to_str().unwrap().ends_with("-crash.clip.pmon"), "{:?}", clip.path);
    assert!(SegmentName::parse(clip.path.file_name().unwrap().to_str().unwrap()).is_none());
    // Another clip of the same second gets another name.
    let again = wait(&service.handle().request(request("crash", middle, quarter, quarter))).unwrap();
    assert_ne!(again.path, clip.path);
    assert_eq!(read(&*output, &again), (clip.events, Verdict::Complete));
    service.finish();
}

#[test]
fn a_clip_that_cannot_be_complete_says_so() {
    let _clock = CLOCK.lock();
    let recording = recording();
    let output = Arc::new(MemoryFilesystem::new(1 << 30));
    let service = start(&recording, output.clone());
    let length = recording.end - recording.start;
    let early = request("early", recording.start + length / 2, length * 3, 0);
    let clip = wait(&service.handle().request(early)).unwrap();
    assert_eq!(clip.verdict, Verdict::Blind);
    assert!(clip.missing.contains("without events (stopped)"), "{}", clip.missing);
    assert_eq!(read(&*output, &clip), (clip.events, Verdict::Blind));
    service.finish();
}

#[test]
fn a_clip_states_why_it_has_no_events_before_the_first_ended_segment() {
    let _clock = CLOCK.lock();
    let mut recording = recording();
    let first = recording.captures.remove(0);
    let header = Header::read(&mut &first[..]).unwrap().unwrap();
    let name = SegmentName::unused("web", header.meta.start.real_ns, |_| false);
    let mut other_boot = header.clone();
    other_boot.meta.boot_id = "another boot".into();
    let other_boot = Encoder::new(&other_boot).unwrap().header().to_vec();
    let length = recording.end - recording.start;
    for (before, reason) in [
        (None, "(pruned)"),
        (Some((partial(name.as_str()), first)), "(missing)"),
        (Some((name.to_string(), other_boot)), "(stopped)"),
    ] {
        let output = Arc::new(MemoryFilesystem::new(1 << 30));
        let filesystem = Arc::new(MemoryFilesystem::new(1 << 30));
        if let Some((name, bytes)) = before {
            write(&*filesystem, &name, &bytes);
        }
        let service = start_on(store_in(filesystem, &recording, None), output.clone());
        let clip = wait(&service.handle().request(request("early", recording.end, 2 * length, 0))).unwrap();
        assert!(clip.missing.contains(reason), "{reason}: {}", clip.missing);
        assert_eq!(read(&*output, &clip), (clip.events, Verdict::Blind));
        service.finish();
    }
}

#[test]
fn requests_wait_for_their_end_and_merge() {
    let _clock = CLOCK.lock();
    let recording = recording();
    let output = Arc::new(MemoryFilesystem::new(1 << 30));
    let service = start(&recording, output.clone());
    let middle = recording.start + (recording.end - recording.start) / 2;
    NOW.store(middle, Ordering::Release);
    let after = recording.end - middle - 1;
    let [one, two] = ["one", "two"].map(|name| service.handle().request(request(name, middle, 1000, after)));
    assert!(one.wait(Duration::from_millis(50)).is_none());
    NOW.store(recording.end + 1, Ordering::Release);
    let (one, two) = (wait(&one).unwrap(), wait(&two).unwrap());
    assert_eq!(one, two);
    assert!(one.path.to_str().unwrap().ends_with("-one+two.clip.pmon"), "{:?}", one.path);
    let names: Vec<_> = output.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    service.finish();
}

#[test]
fn requests_that_are_over_when_they_are_received_merge() {
    let _clock = CLOCK.lock();
    let recording = recording();
    let output = Arc::new(MemoryFilesystem::new(1 << 30));
    let (close, gate) = mpsc::channel();
    let service = start_gated(&recording, output.clone(), Some(gate));
    let (middle, start) = (recording.start + (recording.end - recording.start) / 2, recording.start);
    let first = service.handle().request(request("first", start + 1, 1, 1));
    // While the service is busy, two triggers fire at the same time.
    let [one, two] = ["one", "two"].map(|name| service.handle().request(request(name, middle, 1000, 1000)));
    drop(close);
    wait(&first).unwrap();
    assert_eq!(wait(&one).unwrap(), wait(&two).unwrap());
    service.finish();
}

#[test]
fn pending_clips_are_made_when_the_recording_ends() {
    let _clock = CLOCK.lock();
    let recording = recording();
    let output = Arc::new(MemoryFilesystem::new(1 << 30));
    let service = start(&recording, output.clone());
    let ticket = service.handle().request(request("late", recording.end, 1_000_000, u64::MAX / 4));
    let handle = service.handle();
    service.finish();
    let clip = wait(&ticket).unwrap();
    assert_eq!(clip.verdict, Verdict::Blind);
    assert!(matches!(wait(&handle.request(request("x", 1, 1, 1))), Err(ClipError::Ended)));
}

#[test]
fn a_clip_without_room_is_refused_and_leaves_no_file() {
    let _clock = CLOCK.lock();
    let recording = recording();
    let output = Arc::new(MemoryFilesystem::new(0));
    output.create("web-20200101T000000Z-old.clip.pmon.partial").unwrap();
    let service = start(&recording, output.clone());
    let length = recording.end - recording.start;
    let ticket = service.handle().request(request("big", recording.end, length, 0));
    let error = wait(&ticket).unwrap_err();
    assert!(matches!(error, ClipError::NoRoom { .. }), "{error}");
    assert!(output.list().unwrap().is_empty());
    service.finish();
}
