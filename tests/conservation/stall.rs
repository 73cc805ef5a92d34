//! An output that stands still for a while.

use std::fs::File;
use std::io::Read as _;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use pmon_core::accounting::LossCause;
use rustix::pipe::fcntl_setpipe_size;
use tempfile::TempDir;

use crate::flood::Flood;
use crate::{Account, SETTLED, account};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::live::live_test;
use pmon_testkit::recorder::RecorderProcess;

/// Floods a recorder of which nobody reads what it writes, until the flood is over.
fn stall(
    dir: &TempDir,
    options: &[&str],
    flood: impl FnOnce(&RecorderProcess) -> Flood,
) -> (CaptureContents, Flood) {
    let fifo = dir.path().join("fifo");
    if !fifo.exists() {
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    }
    let mut recorder = RecorderProcess::start_into(&fifo, dir, &[&["--buffer", "256K"], options].concat());
    let mut pipe = File::open(&fifo).unwrap();
    fcntl_setpipe_size(&pipe, 4096).unwrap();
    // It has subscribed when the first bytes come.
    let mut bytes = vec![0; 8];
    pipe.read_exact(&mut bytes).unwrap();
    let (go_on, wait) = channel();
    let reader = thread::spawn(move || {
        wait.recv().unwrap();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let flood = flood(&recorder);
    thread::sleep(SETTLED);
    go_on.send(()).unwrap();
    thread::sleep(SETTLED);
    recorder.interrupt();
    (CaptureContents::from_bytes(&reader.join().unwrap()[..]), flood)
}

pub(super) fn what_a_stalled_output_costs_is_counted_to_the_event() {
    let Some((dir, _guard)) = live_test() else { return };
    let flood = |_: &RecorderProcess| Flood::run(&["rename", "--count", "100000", "--processes", "2"]);
    let Some(Account { capture, lost, .. }) = account(|| stall(&dir, &[], flood)) else { return };
    assert!(lost > 0, "nothing was lost");
    let end = capture.totals();
    assert_eq!(end.lost.of(LossCause::Backpressure), end.lost.total(), "{:?}", end.lost);
    capture.check_fences();
}

pub(super) fn what_a_stalled_output_and_a_stopped_recorder_cost_is_counted_by_cause() {
    let Some((dir, _guard)) = live_test() else { return };
    let flood = |recorder: &RecorderProcess| {
        let stalled = Flood::run(&["rename", "--count", "20000"]);
        thread::sleep(SETTLED);
        let stopped = recorder.while_stopped(|| Flood::run(&["rename", "--count", "20000"]));
        thread::sleep(SETTLED);
        stalled.and(stopped).and(Flood::run(&["rename", "--count", "5000"]))
    };
    let options = ["--socket-buffer", "1M", "--heartbeat", "100ms"];
    let Some(Account { capture, .. }) = account(|| stall(&dir, &options, flood)) else { return };
    let end = capture.totals();
    assert!(end.lost.of(LossCause::Backpressure) > 0 && end.lost.of(LossCause::Socket) > 0, "{:?}", end.lost);
    assert_eq!(end.lost.in_source(), end.lost.of(LossCause::Socket), "{:?}", end.lost);
    capture.check_witnesses();
    capture.check_fences();
}
