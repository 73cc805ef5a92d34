//! What was emitted is recorded or lost, to the event: `pmon record` against the running kernel, under loads that say how
//! many events they cause.
//!
//! `cargo test --test conservation`, after `cargo build --example flood`. One scene at a time: each is a load, and most
//! make the recorder lose events. An observer with room for everything knows each event by its CPU and number, so that
//! the account is exact whatever else the host does.

mod flood;
mod forged;
mod observer;
mod ring;
mod scope;
mod stall;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::Child;
use std::thread;
use std::time::Duration;

use flood::Flood;
use forged::what_user_space_sends_is_rejected_and_counted;
use observer::{Number, Observer};
use pmon_core::accounting::LossCause;
use pmon_core::capture::{Loss, SnapshotReason};
use pmon_core::wire::{Event, EventBody};
use pmon_core::{Cpu, Seq, Tgid};
use pmon_testkit::capture::AccountedRecord;
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::live::{live_test, wait_until};
use pmon_testkit::recorder::RecorderProcess;
use pmon_testkit::recorder::{record_program, with_transport};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use stall::{
    what_a_stalled_output_and_a_stopped_recorder_cost_is_counted_by_cause,
    what_a_stalled_output_costs_is_counted_to_the_event,
};
use tempfile::TempDir;

/// Makes each scene a test of each transport.
macro_rules! scenes {
    ($($scene:ident,)*) => {
        mod queue {
            use super::*;
            $(#[test] fn $scene() { with_transport(&["--transport", "recvmmsg"], super::$scene); })*
        }
        /// A ring that has room for next to nothing, so that events go both ways all the time.
        mod spilling {
            use super::*;
            $(#[test] fn $scene() { with_transport(&["--transport", "ring", "--ring", "4K"], super::$scene); })*
        }
        /// A small one, and execs and exits need more of it.
        mod spilling_details {
            use super::*;
            $(#[test] fn $scene() { with_transport(&["--transport", "ring+details", "--ring", "8K"], super::$scene); })*
        }
    };
}

scenes! {
    what_one_loop_overruns_is_counted_to_the_event,
    what_two_loops_on_two_cpus_overrun_is_counted_to_the_event,
    what_a_stopped_recorder_misses_is_counted_to_the_event,
    whatever_the_buffers_and_the_interruptions_what_is_lost_is_counted_to_the_event,
    a_loss_at_the_tail_is_found_by_the_last_fence,
    what_is_lost_before_the_signal_that_ends_it_is_counted_to_the_event,
    a_loss_shows_in_silence_at_the_next_heartbeat,
    in_the_midst_of_a_flood_what_is_missing_by_name_is_missing_by_number,
    in_the_midst_of_a_flood_no_gap_is_without_a_drop,
    with_room_for_all_of_it_each_kind_of_flood_is_recorded_whole,
    memory_stays_within_its_limit_whatever_is_lost,
    after_a_loss_the_processes_are_looked_at_once_and_soon,
    what_user_space_sends_is_rejected_and_counted,
    what_a_stalled_output_costs_is_counted_to_the_event,
    what_a_stalled_output_and_a_stopped_recorder_cost_is_counted_by_cause,
}

/// The EXIT of a process may follow the news of its end: this much later it has come.
const SETTLED: Duration = Duration::from_millis(50);

/// What became of a flood.
struct Account {
    capture: CaptureContents,
    emitted: u64,
    recorded: u64,
    lost: u64,
}

/// Plays a scene in the presence of an observer. Fails unless each event of the flood was recorded as it was, or is within
/// a loss. `None` if there is no observer to be had: then only that there are no fewer than were emitted is known.
#[track_caller]
fn account(play: impl FnOnce() -> (CaptureContents, Flood)) -> Option<Account> {
    let observer = Observer::new();
    let (capture, flood) = play();
    capture.check();
    // Losses and stops of the recorder are no blind spans: the kernel emitted every event.
    assert!(capture.blind.is_empty() && capture.report.all_blinds() == 0, "{:?}", capture.report);
    let Some(observer) = observer else {
        let recorded = flood.among(capture.events()).len() as u64;
        assert!(recorded + capture.totals().lost.total() >= flood.emitted, "{recorded} of {}", flood.emitted);
        return None;
    };
    let heard = observer.heard();
    let emitted: HashSet<_> =
        flood.among(heard.values()).iter().map(|event| (event.cpu, event.seq)).collect();
    assert_eq!(emitted.len() as u64, flood.emitted, "the observer and the flood agree");
    let mut recorded = 0;
    for event in capture.events() {
        let number = (event.cpu, event.seq);
        assert_eq!(heard.get(&number), Some(event));
        recorded += u64::from(emitted.contains(&number));
    }
    let mut lost = 0;
    for number in capture.losses().flat_map(numbers) {
        assert!(heard.contains_key(&number), "{number:?} was never emitted");
        lost += u64::from(emitted.contains(&number));
    }
    let emitted = flood.emitted;
    assert_eq!(recorded + lost, emitted, "{recorded} recorded, {lost} lost");
    Some(Account { capture, emitted, recorded, lost })
}

/// The events of a loss.
fn numbers(loss: &Loss) -> impl Iterator<Item = Number> + use<> {
    let Loss { cpu, first, .. } = *loss;
    (0..loss.count()).map(move |n| (cpu, Seq(first.0.wrapping_add(n as u32))))
}

/// Floods a recorder with next to no room.
fn overrun(dir: &TempDir, args: &[&str]) -> (CaptureContents, Flood) {
    let recorder = RecorderProcess::start(dir, &["--socket-buffer", "64K"]);
    let flood = Flood::run(args);
    thread::sleep(SETTLED);
    (recorder.finish(), flood)
}

/// Fails unless the socket, and nothing else, has lost some of a flood, and its own count of that agrees.
#[track_caller]
fn assert_overrun(account: &Account) {
    let Account { capture, lost, .. } = account;
    assert!(*lost > 0, "nothing was lost");
    let end = capture.totals();
    assert_eq!(end.lost.of(LossCause::Socket), end.lost.total(), "{:?}", end.lost);
    capture.check_witnesses();
    capture.check_fences();
}

fn what_one_loop_overruns_is_counted_to_the_event() {
    let Some((dir, _guard)) = live_test() else { return };
    let args = ["rename", "--count", "50000"];
    let Some(account) = account(|| overrun(&dir, &args)) else { return };
    assert_overrun(&account);
}

fn what_two_loops_on_two_cpus_overrun_is_counted_to_the_event() {
    let Some((dir, _guard)) = live_test() else { return };
    let args = ["rename", "--count", "50000", "--processes", "2", "--pin"];
    let Some(account) = account(|| overrun(&dir, &args)) else { return };
    assert_overrun(&account);
}

/// Floods a recorder that is stopped for so long.
fn stop(dir: &TempDir, options: &[&str], length: Duration) -> (RecorderProcess, Flood) {
    let recorder = RecorderProcess::start(dir, options);
    let flood = recorder.while_stopped(|| {
        let flood = Flood::run(&["rename", "--count", "20000", "--pin"]);
        thread::sleep(length);
        flood
    });
    thread::sleep(SETTLED);
    (recorder, flood)
}

fn what_a_stopped_recorder_misses_is_counted_to_the_event() {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let (recorder, flood) = stop(&dir, &["--socket-buffer", "1M"], Duration::from_secs(1));
        let flood = flood.and(Flood::run(&["rename", "--count", "100"]));
        thread::sleep(SETTLED);
        (recorder.finish(), flood)
    });
    let Some(account) = account else { return };
    assert_overrun(&account);
}

/// Stops a recorder again and again while it is flooded.
fn interrupt(dir: &TempDir, options: &[&str]) -> (CaptureContents, Flood) {
    let recorder = RecorderProcess::start(dir, options);
    let flood = flood::start(&["rename", "--count", "40000", "--processes", "3"]);
    for n in 0..6 {
        recorder.while_stopped(|| thread::sleep(Duration::from_millis(7 * n)));
        thread::sleep(Duration::from_millis(3));
    }
    let flood = Flood::ended(flood);
    thread::sleep(SETTLED);
    (recorder.finish(), flood)
}

fn whatever_the_buffers_and_the_interruptions_what_is_lost_is_counted_to_the_event() {
    let Some((dir, _guard)) = live_test() else { return };
    let sizes = [("2K", "10ms", "64K"), ("4K", "off", "32M"), ("16K", "20ms", "128K"), ("1M", "10ms", "64K")];
    for (socket_buffer, heartbeat, buffer) in sizes {
        let options = ["--socket-buffer", socket_buffer, "--heartbeat", heartbeat, "--buffer", buffer];
        let Some(account) = account(|| interrupt(&dir, &options)) else { return };
        assert!(account.lost > 0, "nothing was lost");
        account.capture.check_witnesses();
    }
}

fn a_loss_at_the_tail_is_found_by_the_last_fence() {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let (recorder, flood) = stop(&dir, &["--socket-buffer", "1M", "--heartbeat", "off"], SETTLED);
        thread::sleep(Duration::from_millis(300));
        (recorder.finish(), flood)
    });
    let Some(account) = account else { return };
    assert_overrun(&account);
    assert!(account.lost > account.emitted / 2, "{} of {}", account.lost, account.emitted);
}

fn what_is_lost_before_the_signal_that_ends_it_is_counted_to_the_event() {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "1M", "--heartbeat", "off"]);
        let flood = recorder.while_stopped(|| {
            let flood = Flood::run(&["rename", "--count", "20000", "--pin"]);
            thread::sleep(SETTLED);
            recorder.send(Signal::INT);
            flood
        });
        (recorder.wait_for_capture(), flood)
    });
    let Some(account) = account else { return };
    assert_overrun(&account);
}

fn a_loss_shows_in_silence_at_the_next_heartbeat() {
    let Some((dir, _guard)) = live_test() else { return };
    // Heartbeats come from one CPU, and the loss is of another, if there is one.
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let mut last = CpuSet::new();
    last.set(cpus[cpus.len() - 1]);
    sched_setaffinity(None, &last).unwrap();
    let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "1M", "--heartbeat", "100ms"]);
    sched_setaffinity(None, &allowed).unwrap();
    let flood = recorder.while_stopped(|| {
        let flood = Flood::run(&["rename", "--count", "20000", "--cpu", &cpus[0].to_string()]);
        thread::sleep(SETTLED);
        flood
    });
    wait_until(|| {
        let capture = recorder.read_partial();
        let lost: u64 = capture.losses().map(Loss::count).sum();
        flood.among(capture.events()).len() as u64 + lost >= flood.emitted
    });
    recorder.finish().check();
}

/// The `N` of a rename of a flood's worker to `fN`, and the worker.
fn rename(event: &Event) -> Option<(Tgid, u64)> {
    let EventBody::Comm { task, comm } = event.body else { return None };
    let number = str::from_utf8(comm.as_bytes()).ok()?.strip_prefix('f')?;
    Some((task.tgid, number.parse().ok()?))
}

/// Of each pinned worker, between each two renames recorded: the renames missing by their names are lost by number on
/// its CPU. Gives how many are recorded, and how many missing, of how many workers.
#[track_caller]
fn check_renames(capture: &CaptureContents, workers: &[u32]) -> (u64, u64, usize) {
    let (mut recorded, mut missing) = (0, 0);
    let mut lost: HashMap<Cpu, u64> = HashMap::new();
    let mut last: HashMap<Tgid, (Cpu, u64, u64)> = HashMap::new();
    for step in &capture.accounted {
        let event = match step {
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
        assert_eq!(cpu, event.cpu, "it is pinned");
        assert!(number > before, "f{number} after f{before}");
        assert!(
            number - before - 1 <= lost - lost_before,
            "f{before}, f{number}, {} lost",
            lost - lost_before
        );
        missing += number - before - 1;
    }
    (recorded, missing, last.len())
}

/// A flood of two pinned workers that does not end by itself, and their process ids.
fn endless_flood() -> (Child, Vec<u32>) {
    let flood = flood::start(&["rename", "--count", "100000000", "--processes", "2", "--pin"]);
    let children = format!("/proc/{0}/task/{0}/children", flood.id());
    let workers = || -> Vec<u32> {
        let children = fs::read_to_string(&children).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    wait_until(|| workers().len() == 2);
    let workers = workers();
    (flood, workers)
}

fn in_the_midst_of_a_flood_what_is_missing_by_name_is_missing_by_number() {
    let Some((dir, _guard)) = live_test() else { return };
    let (mut flood, workers) = endless_flood();
    let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "256K"]);
    thread::sleep(Duration::from_millis(300));
    let is_enough =
        |(recorded, missing, seen): (u64, u64, usize)| recorded > 1000 && missing > 1000 && seen == 2;
    // On a busy host it takes longer.
    wait_until(|| is_enough(check_renames(&recorder.read_partial(), &workers)));
    let capture = recorder.finish();
    flood.kill().unwrap();
    flood.wait().unwrap();

    capture.check();
    let (recorded, missing, seen) = check_renames(&capture, &workers);
    assert!(is_enough((recorded, missing, seen)), "{recorded} recorded, {missing} missing of {seen}");
    assert!(missing <= capture.totals().lost.total());
}

fn in_the_midst_of_a_flood_no_gap_is_without_a_drop() {
    let Some((dir, _guard)) = live_test() else { return };
    let (mut flood, _) = endless_flood();
    let captures = ["8K", "64K", "256K", "1M", "2M", "4M"].map(|size| {
        let recorder = RecorderProcess::start(&dir, &["--socket-buffer", size]);
        thread::sleep(Duration::from_millis(50));
        (size, recorder.finish())
    });
    flood.kill().unwrap();
    flood.wait().unwrap();
    assert!(captures.iter().any(|(_, capture)| capture.totals().lost.total() > 0), "nothing was lost");
    for (size, capture) in captures {
        capture.check();
        let last = capture.witnesses.last().copied().unwrap_or_default();
        assert!(last.drops >= last.gaps, "{size}: {last:?}");
        assert_eq!(capture.totals().lost.of(LossCause::KernelMemory), 0, "{size}");
    }
}

/// Records a flood as the command that it is recorded for.
fn record_flood(dir: &TempDir, args: &[&str]) -> (CaptureContents, Flood) {
    let program = pmon_testkit::programs::tool("flood");
    let script = format!("\"$@\"; sleep {}", SETTLED.as_secs_f64());
    let shell = ["sh", "-c", &script, "sh", program.to_str().unwrap()];
    let (capture, report) = record_program(dir, &[], &[&shell, args].concat());
    (capture, Flood::read(&report))
}

fn with_room_for_all_of_it_each_kind_of_flood_is_recorded_whole() {
    let Some((dir, _guard)) = live_test() else { return };
    for (kind, count) in [("fork", "2000"), ("vfork", "2000"), ("thread", "5000"), ("exec", "300")] {
        let args = [kind, "--count", count, "--processes", "2"];
        let Some(account) = account(|| record_flood(&dir, &args)) else { return };
        assert_eq!(account.capture.totals().lost.total(), 0, "{kind}");
        assert_eq!(account.recorded, account.emitted, "{kind}");
    }
}

fn memory_stays_within_its_limit_whatever_is_lost() {
    let Some((dir, _guard)) = live_test() else { return };
    let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "256K", "--buffer", "8M"]);
    let flood = Flood::run(&["rename", "--count", "200000", "--processes", "2", "--pin"]);
    thread::sleep(SETTLED);
    let peak = recorder.status("VmHWM");
    let capture = recorder.finish();
    capture.check();
    assert!((flood.among(capture.events()).len() as u64) < flood.emitted, "nothing was lost");
    let peak: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak <= (64 + 8) << 10, "{peak} KiB");
}

fn after_a_loss_the_processes_are_looked_at_once_and_soon() {
    let Some((dir, _guard)) = live_test() else { return };
    let recorder = RecorderProcess::start(&dir, &["--socket-buffer", "64K"]);
    let reasons = |capture: &CaptureContents| -> Vec<_> {
        capture.snapshots.iter().map(|snapshot| snapshot.reason).collect()
    };
    wait_until(|| reasons(&recorder.read_partial()) == [SnapshotReason::Start]);
    for _ in 0..5 {
        Flood::run(&["rename", "--count", "20000"]);
        thread::sleep(Duration::from_millis(200));
    }
    let capture = recorder.finish();
    capture.check();
    let reasons: Vec<_> = capture.snapshots.iter().map(|snapshot| snapshot.reason).collect();
    assert_eq!(reasons, [SnapshotReason::Start, SnapshotReason::Loss]);
    let (loss, scan) = (capture.losses().next().unwrap(), capture.snapshots[1]);
    let later = scan.started.0.saturating_sub(loss.before.0);
    assert!(scan.started >= loss.after && later < 500_000_000, "{later} ns later");
    let last = capture.losses().last().unwrap();
    assert!(last.before.0 - loss.before.0 > 500_000_000, "it went on");
}
