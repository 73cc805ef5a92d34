//! Every emitted event is recorded or lost, exactly: `pmon record` on the running kernel, under
//! loads that report how many events they cause.
//!
//! `cargo test --test conservation`. One test runs at a time: each is a load, and most make the
//! recorder lose events. An observer with a buffer for everything knows each event by its CPU and
//! number, so the accounting is exact whatever other processes do.

mod flood;
mod forged;
mod observer;
mod ring;
mod scope;
mod stalled_output;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::Child;
use std::thread;
use std::time::Duration;

use flood::FloodReport;
use forged::datagrams_from_user_space_are_rejected_and_counted;
use observer::{EventNumber, Observer};
use pmon_core::accounting::LossCause;
use pmon_core::capture::{Loss, SnapshotReason};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, Seq, Tgid};
use pmon_testkit::capture::{AccountedRecord, CaptureContents};
use pmon_testkit::live::{live_test, wait_until};
use pmon_testkit::recorder::{RecorderProcess, record_program, with_transport};
use pmon_testkit::{guard, programs};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use stalled_output::{
    losses_of_a_stalled_output_and_of_a_stopped_recorder_are_counted_by_cause,
    losses_of_a_stalled_output_are_counted_exactly,
};
use tempfile::TempDir;

/// Makes each function a test of each transport.
macro_rules! on_each_transport {
    ($($test:ident,)*) => {
        mod queue {
            use super::*;
            $(#[test] fn $test() { with_transport(&["--transport", "recvmmsg"], super::$test); })*
        }
        /// A ring that is almost always full, so that events use both the ring and the queue.
        mod spilling {
            use super::*;
            $(#[test] fn $test() { with_transport(&["--transport", "ring", "--ring", "4K"], super::$test); })*
        }
        /// A small ring with details: execs and exits need more of it than other events.
        mod spilling_details {
            use super::*;
            $(#[test] fn $test() { with_transport(&["--transport", "ring+details", "--ring", "8K"], super::$test); })*
        }
    };
}

on_each_transport! {
    losses_by_one_loop_are_counted_exactly,
    losses_by_two_loops_on_two_cpus_are_counted_exactly,
    losses_of_a_stopped_recorder_are_counted_exactly,
    losses_of_an_interrupted_recorder_are_counted_exactly_with_every_buffer_size,
    the_last_fence_reveals_a_loss_at_the_end,
    losses_before_the_signal_that_ends_the_recording_are_counted_exactly,
    the_next_heartbeat_reveals_a_loss_after_which_no_event_follows,
    events_missing_by_name_during_a_flood_are_missing_by_number,
    every_gap_during_a_flood_has_a_drop,
    without_losses_each_kind_of_flood_is_recorded_completely,
    memory_stays_within_its_limit_during_losses,
    a_loss_causes_one_scan_of_the_processes_soon,
    datagrams_from_user_space_are_rejected_and_counted,
    losses_of_a_stalled_output_are_counted_exactly,
    losses_of_a_stalled_output_and_of_a_stopped_recorder_are_counted_by_cause,
}

/// Maximum time by which the EXIT event of a process may follow the return of `wait(2)`.
const EXIT_DELAY: Duration = Duration::from_millis(50);

/// How many events of a flood were recorded and lost.
struct FloodAccount {
    capture: CaptureContents,
    emitted: u64,
    recorded: u64,
    lost: u64,
}

/// Records a flood in the presence of an observer. Fails the test unless each event of the flood
/// was recorded unchanged, or is part of a loss. Without the privilege for an observer, returns
/// `None` and checks only that at least as many events were recorded or lost as the flood emitted.
#[track_caller]
fn account(record: impl FnOnce() -> (CaptureContents, FloodReport)) -> Option<FloodAccount> {
    let observer = Observer::new();
    let (capture, flood) = record();
    capture.check();
    // Losses and stops of the recorder are no blind spans: the kernel emitted every event.
    assert!(capture.blind.is_empty() && capture.report.all_blinds() == 0, "{:?}", capture.report);
    let Some(observer) = observer else {
        let recorded = flood.events_of(capture.events()).len() as u64;
        assert!(recorded + capture.totals().lost.total() >= flood.emitted, "{recorded} of {}", flood.emitted);
        return None;
    };
    let observed = observer.received();
    let emitted: HashSet<_> =
        flood.events_of(observed.values()).iter().map(|event| (event.cpu, event.seq)).collect();
    assert_eq!(emitted.len() as u64, flood.emitted, "observed and reported events of the flood");
    let mut recorded = 0;
    for event in capture.events() {
        let number = (event.cpu, event.seq);
        assert_eq!(observed.get(&number), Some(event));
        recorded += u64::from(emitted.contains(&number));
    }
    let mut lost = 0;
    for number in capture.losses().flat_map(numbers) {
        assert!(observed.contains_key(&number), "{number:?} was never emitted");
        lost += u64::from(emitted.contains(&number));
    }
    let emitted = flood.emitted;
    assert_eq!(recorded + lost, emitted, "{recorded} recorded, {lost} lost");
    Some(FloodAccount { capture, emitted, recorded, lost })
}

/// Returns the numbers of the events of a loss.
fn numbers(loss: &Loss) -> impl Iterator<Item = EventNumber> + use<> {
    let Loss { cpu, first, .. } = *loss;
    (0..loss.count()).map(move |n| (cpu, Seq(first.0.wrapping_add(n as u32))))
}

/// Floods a recorder whose socket has a small buffer.
fn overrun(dir: &TempDir, args: &[&str]) -> (CaptureContents, FloodReport) {
    let recorder = RecorderProcess::start(dir, &["--socket-buffer", "64K"]);
    let flood = FloodReport::of_run(args);
    thread::sleep(EXIT_DELAY);
    (recorder.finish(), flood)
}

/// Fails the test unless the flood had losses, all of them by the socket, and the socket's own
/// count agrees.
#[track_caller]
fn assert_lost_by_socket(account: &FloodAccount) {
    let FloodAccount { capture, lost, .. } = account;
    assert!(*lost > 0, "nothing was lost");
    let end = capture.totals();
    assert_eq!(end.lost.of(LossCause::Socket), end.lost.total(), "{:?}", end.lost);
    capture.check_witnesses();
    capture.check_fences();
}

fn losses_by_one_loop_are_counted_exactly() {
    let Some((dir, _guard)) = live_test() else { return };
    let args = ["rename", "--count", "30000"];
    let Some(account) = account(|| overrun(&dir, &args)) else { return };
    assert_lost_by_socket(&account);
}

fn losses_by_two_loops_on_two_cpus_are_counted_exactly() {
    let Some((dir, _guard)) = live_test() else { return };
    let args = ["rename", "--count", "20000", "--processes", "2", "--pin"];
    let Some(account) = account(|| overrun(&dir, &args)) else { return };
    assert_lost_by_socket(&account);
}

/// Floods a recorder that is stopped until `length` after the flood.
fn flood_while_stopped(dir: &TempDir, options: &[&str], length: Duration) -> (RecorderProcess, FloodReport) {
    let recorder = RecorderProcess::start(dir, options);
    let flood = recorder.while_stopped(|| {
        let flood = FloodReport::of_run(&["rename", "--count", "20000", "--pin"]);
        thread::sleep(length);
        flood
    });
    thread::sleep(EXIT_DELAY);
    (recorder, flood)
}

fn losses_of_a_stopped_recorder_are_counted_exactly() {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let (recorder, flood) = flood_while_stopped(&dir, &["--socket-buffer", "1M"], Duration::from_secs(1));
        let flood = flood.and(FloodReport::of_run(&["rename", "--count", "100"]));
        thread::sleep(EXIT_DELAY);
        (recorder.finish(), flood)
    });
    let Some(account) = account else { return };
    assert_lost_by_socket(&account);
}

/// Stops a recorder several times while it is flooded.
fn flood_and_interrupt(dir: &TempDir, options: &[&str]) -> (CaptureContents, FloodReport) {
    let recorder = RecorderProcess::start(dir, options);
    let flood = flood::start(&["rename", "--count", "16000", "--processes", "3"]);
    for n in 0..6 {
        recorder.while_stopped(|| thread::sleep(Duration::from_millis(3 * n)));
        thread::sleep(Duration::from_millis(1));
    }
    let flood = FloodReport::of_process(flood);
    thread::sleep(EXIT_DELAY);
    (recorder.finish(), flood)
}

fn losses_of_an_interrupted_recorder_are_counted_exactly_with_every_buffer_size() {
    let Some((dir, _guard)) = live_test() else { return };
    let sizes = [("2K", "10ms", "64K"), ("4K", "off", "32M"), ("16K", "20ms", "128K"), ("1M", "10ms", "64K")];
    for (socket_buffer, heartbeat, buffer) in sizes {
        let options = ["--socket-buffer", socket_buffer, "--heartbeat", heartbeat, "--buffer", buffer];
        let Some(account) = account(|| flood_and_interrupt(&dir, &options)) else { return };
        assert!(account.lost > 0, "nothing was lost");
        account.capture.check_witnesses();
    }
}

fn the_last_fence_reveals_a_loss_at_the_end() {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let options = ["--socket-buffer", "1M", "--heartbeat", "off"];
        let (recorder, flood) = flood_while_stopped(&dir, &options, EXIT_DELAY);
        thread::sleep(Duration::from_millis(300));
        (recorder.finish(), flood)
    });
    let Some(account) = account else { return };
    assert_lost_by_socket(&account);
    assert!(account.lost > account.emitted / 2, "{} of {}", account.lost, account.emitted);
}

fn losses_before_the_signal_that_ends_the_recording_are_counted_exactly() {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "1M", "--heartbeat", "off"]);
        let flood = recorder.while_stopped(|| {
            let flood = FloodReport::of_run(&["rename", "--count", "20000", "--pin"]);
            thread::sleep(EXIT_DELAY);
            recorder.send(Signal::INT);
            flood
        });
        (recorder.wait_for_capture(), flood)
    });
    let Some(account) = account else { return };
    assert_lost_by_socket(&account);
}

fn the_next_heartbeat_reveals_a_loss_after_which_no_event_follows() {
    let Some((dir, _guard)) = live_test() else { return };
    // The heartbeat thread runs on one CPU. The loss is on another, if there is one.
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let mut last = CpuSet::new();
    last.set(cpus[cpus.len() - 1]);
    sched_setaffinity(None, &last).unwrap();
    let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "1M", "--heartbeat", "100ms"]);
    sched_setaffinity(None, &allowed).unwrap();
    let flood = recorder.while_stopped(|| {
        let flood = FloodReport::of_run(&["rename", "--count", "20000", "--cpu", &cpus[0].to_string()]);
        thread::sleep(EXIT_DELAY);
        flood
    });
    wait_until(|| {
        let capture = recorder.read_partial();
        flood.events_of(capture.events()).len() as u64 + capture.lost().total() >= flood.emitted
    });
    recorder.finish().check();
}

/// Returns the worker of a flood that has renamed itself to `fN`, and `N`.
fn rename(event: &Event) -> Option<(Tgid, u64)> {
    let EventBody::Comm { task, comm } = event.body else { return None };
    let number = str::from_utf8(comm.as_bytes()).ok()?.strip_prefix('f')?;
    Some((task.tgid, number.parse().ok()?))
}

/// The renames of pinned workers in a capture.
#[derive(Clone, Copy, Debug)]
struct Renames {
    recorded: u64,
    /// Number of renames that are missing by their names.
    missing: u64,
    /// Number of workers with a recorded rename.
    workers: usize,
}

impl Renames {
    fn are_enough(self) -> bool {
        self.recorded > 1000 && self.missing > 1000 && self.workers == 2
    }
}

/// Fails the test unless the renames of each pinned worker that are missing by their names are lost
/// by number on its CPU.
#[track_caller]
fn check_renames(capture: &CaptureContents, workers: &[u32]) -> Renames {
    let (mut recorded, mut missing) = (0, 0);
    let mut lost: HashMap<Cpu, u64> = HashMap::new();
    let mut last: HashMap<Tgid, (Cpu, u64, u64)> = HashMap::new();
    for record in &capture.accounted {
        let event = match record {
            AccountedRecord::Event(event) => event,
            AccountedRecord::Loss(loss) => {
                *lost.entry(loss.cpu).or_default() += loss.count();
                continue;
            }
        };
        let Some((worker, number)) = rename(event).filter(|(worker, _)| workers.contains(&worker.0)) else {
            continue;
        };
        recorded += 1;
        let lost = lost.get(&event.cpu).copied().unwrap_or(0);
        let Some((cpu, before, lost_before)) = last.insert(worker, (event.cpu, number, lost)) else {
            continue;
        };
        assert_eq!(cpu, event.cpu, "the worker is pinned");
        assert!(number > before, "f{number} after f{before}");
        let lost = lost - lost_before;
        assert!(number - before - 1 <= lost, "f{before}, f{number}, {lost} lost");
        missing += number - before - 1;
    }
    Renames { recorded, missing, workers: last.len() }
}

/// A flood by two pinned workers that runs until it is dropped.
struct EndlessFlood {
    flood: Child,
    workers: Vec<u32>,
}

impl EndlessFlood {
    fn start() -> Self {
        let flood = flood::start(&["rename", "--count", "100000000", "--processes", "2", "--pin"]);
        let children = format!("/proc/{0}/task/{0}/children", flood.id());
        let workers = || -> Vec<u32> {
            let children = fs::read_to_string(&children).unwrap();
            children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
        };
        wait_until(|| workers().len() == 2);
        Self { workers: workers(), flood }
    }
}

impl Drop for EndlessFlood {
    fn drop(&mut self) {
        let _ = self.flood.kill();
        let _ = self.flood.wait();
    }
}

fn events_missing_by_name_during_a_flood_are_missing_by_number() {
    let Some((dir, _guard)) = live_test() else { return };
    let attempt = || {
        let flood = EndlessFlood::start();
        let mut recorder = RecorderProcess::start(&dir, &["--socket-buffer", "256K"]);
        thread::sleep(Duration::from_millis(200));
        recorder.interrupt();
        let workers = flood.workers.clone();
        // The capture is read after the flood, which uses every CPU.
        drop(flood);
        let capture = CaptureContents::read(&recorder.file);
        capture.check();
        let renames = check_renames(&capture, &workers);
        assert!(renames.missing <= capture.totals().lost.total());
        if renames.are_enough() { Ok(()) } else { Err("too few renames were recorded or lost".to_owned()) }
    };
    guard::retry(attempt).unwrap_or_else(|why| panic!("{why}"));
}

fn every_gap_during_a_flood_has_a_drop() {
    let Some((dir, _guard)) = live_test() else { return };
    let flood = EndlessFlood::start();
    // Three recorders at a time: the flood uses every CPU, so that each start takes a while.
    let sizes = [["8K", "256K", "2M"], ["64K", "1M", "4M"]];
    let recordings = sizes.map(|sizes| {
        let recorders = sizes.map(|size| {
            let file = dir.path().join(format!("{size}.pmon"));
            (size, RecorderProcess::start_into(&file, &dir, &["--socket-buffer", size]))
        });
        recorders.iter().for_each(|(_, recorder)| recorder.wait_until_recording());
        thread::sleep(Duration::from_millis(50));
        recorders.iter().for_each(|(_, recorder)| recorder.send(Signal::INT));
        recorders.map(|(size, mut recorder)| {
            recorder.wait();
            (size, recorder.file.clone())
        })
    });
    drop(flood);
    let captures = recordings.into_iter().flatten().map(|(size, file)| (size, CaptureContents::read(&file)));
    let captures: Vec<_> = captures.collect();
    assert!(captures.iter().any(|(_, capture)| capture.totals().lost.total() > 0), "nothing was lost");
    for (size, capture) in captures {
        capture.check();
        let last = capture.witnesses.last().copied().unwrap_or_default();
        assert!(last.drops >= last.gaps, "{size}: {last:?}");
        assert_eq!(capture.totals().lost.of(LossCause::KernelMemory), 0, "{size}");
    }
}

/// Records a flood by `pmon record -- PROGRAM`.
fn record_flood(dir: &TempDir, args: &[&str]) -> (CaptureContents, FloodReport) {
    let program = programs::tool("flood");
    let script = format!("\"$@\"; sleep {}", EXIT_DELAY.as_secs_f64());
    let shell = ["sh", "-c", &script, "sh", program.to_str().unwrap()];
    let (capture, report) = record_program(dir, &[], &[&shell, args].concat());
    (capture, FloodReport::parse(&report))
}

fn without_losses_each_kind_of_flood_is_recorded_completely() {
    let Some((dir, _guard)) = live_test() else { return };
    for (kind, count) in [("fork", "800"), ("vfork", "800"), ("thread", "1500"), ("exec", "150")] {
        let args = [kind, "--count", count, "--processes", "2"];
        let Some(account) = account(|| record_flood(&dir, &args)) else { return };
        assert_eq!(account.capture.totals().lost.total(), 0, "{kind}");
        assert_eq!(account.recorded, account.emitted, "{kind}");
    }
}

fn memory_stays_within_its_limit_during_losses() {
    let Some((dir, _guard)) = live_test() else { return };
    let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "256K", "--buffer", "8M"]);
    let flood = FloodReport::of_run(&["rename", "--count", "100000", "--processes", "2", "--pin"]);
    thread::sleep(EXIT_DELAY);
    let peak = recorder.status("VmHWM");
    let capture = recorder.finish();
    capture.check();
    assert!((flood.events_of(capture.events()).len() as u64) < flood.emitted, "nothing was lost");
    let peak: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak <= (64 + 8) << 10, "{peak} KiB");
}

fn a_loss_causes_one_scan_of_the_processes_soon() {
    let Some((dir, _guard)) = live_test() else { return };
    let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "64K"]);
    let reasons = |capture: &CaptureContents| -> Vec<_> {
        capture.snapshots.iter().map(|snapshot| snapshot.reason).collect()
    };
    wait_until(|| reasons(&recorder.read_partial()) == [SnapshotReason::Start]);
    for _ in 0..5 {
        FloodReport::of_run(&["rename", "--count", "20000"]);
        thread::sleep(Duration::from_millis(200));
    }
    let capture = recorder.finish();
    capture.check();
    assert_eq!(reasons(&capture), [SnapshotReason::Start, SnapshotReason::Loss]);
    let (loss, scan) = (capture.losses().next().unwrap(), capture.snapshots[1]);
    let delay = scan.started.0.saturating_sub(loss.before.0);
    assert!(scan.started >= loss.after && delay < 500_000_000, "{delay} ns after the loss");
    let last = capture.losses().last().unwrap();
    assert!(last.before.0 - loss.before.0 > 500_000_000, "losses went on for more than half a second");
}
