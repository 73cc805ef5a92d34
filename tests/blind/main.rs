//! Tests recordings during which an attacker stops the kernel's events. This is a program of its
//! own, because at times every other listener on the machine receives no events either.

mod attacker;

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use attacker::{Attacker, rename};
use pmon_analysis::Verdict;
use pmon_core::capture::{Blind, SelfGenerated, SnapshotReason};
use pmon_core::wire::{ByteOrder, Event, EventBody};
use pmon_core::{MonoNs, Tgid};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::live::{live_test, wait_until};
use pmon_testkit::recorder::RecorderProcess;
use rustix::net::{RecvFlags, recv};
use rustix::time::{ClockId, clock_gettime};

/// How far below zero the attacker lowers the kernel's count of listeners.
const BELOW: usize = 20;
/// Larger values of [`BELOW`], which need more than a socket per missing listener to restore.
const FAR_BELOW: [usize; 2] = [300, 5_000];

impl Attacker {
    /// Waits for the next heartbeat of `recorder`.
    fn wait_for_heartbeat(&self, recorder: &RecorderProcess) {
        let recorder = Tgid(recorder.pid());
        wait_until(|| {
            let mut bytes = [0; 128];
            let Ok((len, _)) = recv(&self.probe, &mut bytes, RecvFlags::empty()) else { return false };
            let event = Event::decode(&bytes[..len], ByteOrder::NATIVE);
            event.is_ok_and(|event| SelfGenerated::of(&event, recorder) == Some(SelfGenerated::Heartbeat))
        });
    }
}

fn renamed<'a>(capture: &'a CaptureContents, name: &str) -> Option<&'a Event> {
    let has_name = |event: &&Event| matches!(event.body, EventBody::Comm { comm, .. } if comm.as_bytes() == name.as_bytes());
    capture.events().find(has_name)
}

#[test]
fn a_kernel_that_stops_its_events_is_noticed_and_the_capture_reports_the_blind_span() {
    let Some((dir, _guard)) = live_test() else { return };
    let recorder = RecorderProcess::start(&dir, &["--heartbeat", "100ms"]);
    wait_until(|| !recorder.read_partial().snapshots.is_empty());
    rename("before");
    let Some(hidden_name) = Attacker::new().silence(BELOW) else { return };
    wait_until(|| recorder.stderr().contains("the kernel emits events again"));
    assert!(recorder.stderr().contains("the kernel emits no events at the moment"), "{}", recorder.stderr());
    rename("after");
    let is_scanned =
        |capture: &CaptureContents| capture.snapshots.iter().any(|scan| scan.reason == SnapshotReason::Blind);
    wait_until(|| is_scanned(&recorder.read_partial()));
    let capture = recorder.finish();

    capture.check();
    let [blind] = capture.blind[..] else { panic!("not one blind span: {:?}", capture.blind) };
    let (before, after) = (renamed(&capture, "before").unwrap(), renamed(&capture, "after").unwrap());
    assert!(before.time <= blind.from && blind.until <= after.time, "{blind:?}");
    // The recorder notices only after a missed heartbeat.
    assert!((1_000_000..10_000_000_000).contains(&blind.length_ns()), "{blind:?}");
    assert_eq!(capture.report.verdict(), Verdict::Blind);
    assert!(renamed(&capture, &hidden_name).is_none());
    assert!(capture.totals().blind_ns > 0);
    let scan = capture.snapshots.iter().find(|scan| scan.reason == SnapshotReason::Blind).unwrap();
    assert!(scan.started >= blind.from, "{scan:?}");
}

fn now() -> MonoNs {
    let now = clock_gettime(ClockId::Monotonic);
    MonoNs((now.tv_sec * 1_000_000_000 + now.tv_nsec) as u64)
}

/// Returns the kernel's fork counter.
fn forks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let forks = stat.lines().find_map(|line| line.strip_prefix("processes "));
    forks.unwrap().parse().unwrap()
}

/// What happened while the kernel emitted no events.
struct Hidden {
    /// Minimum span without events.
    min: Blind,
    /// Maximum span without events.
    max: Blind,
    /// Number of threads that this test started during the minimum span.
    started: u64,
    /// Number of forks of all processes during the maximum span.
    forks: u64,
}

/// Renames this thread and starts a thread, about 1000 times per second, for `length`. Returns the
/// number of threads started.
fn work(length: Duration) -> u64 {
    let (began, mut started) = (Instant::now(), 0);
    while began.elapsed() < length {
        rename(&format!("work{started}"));
        thread::spawn(|| ()).join().unwrap();
        started += 1;
        let due = Duration::from_millis(started);
        thread::sleep(due.saturating_sub(began.elapsed()).min(Duration::from_millis(1)));
    }
    started
}

/// Works, and stops the kernel's events for `length` in the middle of it, shortly after a
/// heartbeat.
fn hide(attacker: &mut Attacker, recorder: &RecorderProcess, length: Duration) -> Option<Hidden> {
    attacker.wait_for_heartbeat(recorder);
    work(Duration::from_millis(50));
    let (forks_before, began_at_least) = (forks(), now());
    attacker.silence(0)?;
    let began = now();
    let started = work(length);
    let ended = now();
    attacker.restore();
    let (forks_after, ended_at_most) = (forks(), now());
    work(Duration::from_millis(50));
    Some(Hidden {
        min: Blind { from: began, until: ended },
        max: Blind { from: began_at_least, until: ended_at_most },
        started,
        forks: forks_after - forks_before,
    })
}

/// Asserts that the capture reports the span without events, or a part of it, as blind.
#[track_caller]
fn assert_reported(capture: &CaptureContents, hidden: &Hidden) {
    capture.check();
    let Hidden { min, max, started, forks } = hidden;
    let covers = |blind: &Blind| blind.from <= min.from && min.until <= blind.until;
    let is_reported = capture.blind.iter().any(covers);
    // Two heartbeats can be missed in a row.
    let total: u64 = capture.blind.iter().map(Blind::length_ns).sum();
    assert!(is_reported || total >= min.length_ns(), "{:?}, not {min:?}", capture.blind);
    // A blind span extends at most from the reading before it to the reading after it.
    let slack = 2_500_000_000;
    let is_near = |blind: &Blind| blind.from.0 + slack > max.from.0 && blind.until.0 < max.until.0 + slack;
    assert!(capture.blind.iter().all(is_near), "{:?}, {max:?}", capture.blind);
    let report = &capture.report;
    assert_eq!(report.verdict(), Verdict::Blind, "{report:?}");
    // Tasks that were running may not have emitted their events yet.
    let missing = report.forks.missing;
    assert!((started / 2..=*forks).contains(&missing), "{missing} missing, {started} started, {forks} forks");
    assert!(report.unreported_blinds == 0, "the recorder reports the span itself: {report:?}");
    assert!(capture.snapshots.iter().any(|scan| scan.reason == SnapshotReason::Blind));
}

/// Stops the kernel's events for `length`, shortly after a heartbeat, with the default heartbeat
/// interval.
#[track_caller]
fn blind_for(length: Duration) {
    let Some((dir, _guard)) = live_test() else { return };
    let mut attacker = Attacker::new();
    let recorder = RecorderProcess::start(&dir, &[]);
    wait_until(|| !recorder.read_partial().snapshots.is_empty());
    let Some(hidden) = hide(&mut attacker, &recorder, length) else { return };
    let is_scanned =
        |capture: &CaptureContents| capture.snapshots.iter().any(|scan| scan.reason == SnapshotReason::Blind);
    wait_until(|| is_scanned(&recorder.read_partial()));
    assert_reported(&recorder.finish(), &hidden);
}

#[test]
fn a_span_of_300_ms_during_1000_forks_per_second_is_reported() {
    blind_for(Duration::from_millis(300));
}

#[test]
fn a_span_of_850_ms_between_two_heartbeats_is_reported() {
    blind_for(Duration::from_millis(850));
}

#[test]
fn a_span_just_before_the_end_is_reported() {
    let Some((dir, _guard)) = live_test() else { return };
    let mut attacker = Attacker::new();
    let recorder = RecorderProcess::start(&dir, &["--heartbeat", "off"]);
    work(Duration::from_millis(50));
    let Some(_) = attacker.silence(0) else { return };
    let started = work(Duration::from_millis(100));
    attacker.restore();
    let capture = recorder.finish();
    capture.check();
    assert_eq!(capture.blind.len(), 1, "{:?}", capture.blind);
    assert_eq!(capture.report.verdict(), Verdict::Blind);
    assert!(capture.report.forks.missing >= started / 3, "{started}: {:?}", capture.report.forks);
}

#[test]
fn one_missing_heartbeat_is_reported_although_events_arrive_before_and_after() {
    let Some((dir, _guard)) = live_test() else { return };
    let mut attacker = Attacker::new();
    let recorder = RecorderProcess::start(&dir, &[]);
    attacker.wait_for_heartbeat(&recorder);
    let (began, mut silent) = (Instant::now(), Vec::new());
    // For 1.4 s, stop the events again whenever the recorder has restored them.
    while began.elapsed() < Duration::from_millis(1400) {
        let from = now();
        let Some(hidden_name) = attacker.silence(0) else { return };
        silent.push((hidden_name, from));
        thread::sleep(Duration::from_millis(5));
    }
    attacker.restore();
    rename("after");
    wait_until(|| renamed(&recorder.read_partial(), "after").is_some());
    let capture = recorder.finish();
    capture.check();
    assert_eq!(capture.report.verdict(), Verdict::Blind);
    let after = renamed(&capture, "after").unwrap();
    assert!(capture.blind.iter().any(|blind| blind.until <= after.time), "{:?}", capture.blind);
    assert!(silent.iter().all(|(hidden_name, _)| renamed(&capture, hidden_name).is_none()));
}

#[test]
fn the_recorder_restores_any_count_of_listeners() {
    let Some((dir, _guard)) = live_test() else { return };
    let mut attacker = Attacker::new();
    let recorder = RecorderProcess::start(&dir, &["--heartbeat", "100ms"]);
    let is_socket = |entry: io::Result<fs::DirEntry>| {
        fs::read_link(entry.unwrap().path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    let directory = format!("/proc/{}/fd", recorder.pid());
    let sockets =
        || fs::read_dir(&directory).unwrap().filter_map(|entry| is_socket(entry).then_some(())).count();
    let before = sockets();
    for (times, below) in (1..).zip(FAR_BELOW) {
        let Some(_) = attacker.silence(below) else { return };
        wait_until(|| recorder.stderr().matches("the kernel emits events again").count() == times);
        rename(&format!("after{below}"));
    }
    wait_until(|| sockets() == before);
    let capture = recorder.finish();
    capture.check();
    assert!(FAR_BELOW.iter().all(|below| renamed(&capture, &format!("after{below}")).is_some()));
    assert!(capture.blind.len() >= FAR_BELOW.len(), "{:?}", capture.blind);
    assert_eq!(capture.report.verdict(), Verdict::Blind);
}

#[test]
fn a_recorder_starts_with_any_count_of_listeners_and_reports_it() {
    for below in [BELOW, FAR_BELOW[1]] {
        let Some((dir, _guard)) = live_test() else { return };
        let Some(hidden_name) = Attacker::new().silence(below) else { return };
        let recorder = RecorderProcess::start(&dir, &[]);
        wait_until(|| recorder.stderr().contains("had lowered its count of listeners"));
        rename("recorded");
        let capture = recorder.finish();
        capture.check();
        assert_eq!(capture.report.verdict(), Verdict::Complete, "{:?}", capture.report);
        assert!(renamed(&capture, "recorded").is_some() && renamed(&capture, &hidden_name).is_none());
    }
}
