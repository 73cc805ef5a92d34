//! Recordings into a FIFO that no process reads for a while.

use std::fs::File;
use std::io::Read as _;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use pmon_core::accounting::LossCause;
use rustix::pipe::fcntl_setpipe_size;
use tempfile::TempDir;

use crate::flood::FloodReport;
use crate::{EXIT_DELAY, FloodAccount, account};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::live::live_test;
use pmon_testkit::recorder::RecorderProcess;

/// Floods a recorder whose output is not read until the flood has ended.
fn flood_with_stalled_output(
    dir: &TempDir,
    options: &[&str],
    flood: impl FnOnce(&RecorderProcess) -> FloodReport,
) -> (CaptureContents, FloodReport) {
    let fifo = dir.path().join("fifo");
    if !fifo.exists() {
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    }
    let mut recorder = RecorderProcess::start_into(&fifo, dir, &[&["--buffer", "256K"], options].concat());
    let mut pipe = File::open(&fifo).unwrap();
    fcntl_setpipe_size(&pipe, 4096).unwrap();
    // The recorder has subscribed before it writes the first bytes.
    let mut bytes = vec![0; 8];
    pipe.read_exact(&mut bytes).unwrap();
    let (resume, resumed) = channel();
    let reader = thread::spawn(move || {
        resumed.recv().unwrap();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let flood = flood(&recorder);
    thread::sleep(EXIT_DELAY);
    resume.send(()).unwrap();
    thread::sleep(EXIT_DELAY);
    recorder.interrupt();
    (CaptureContents::from_bytes(&reader.join().unwrap()[..]), flood)
}

pub(super) fn losses_of_a_stalled_output_are_counted_exactly() {
    let Some((dir, _guard)) = live_test() else { return };
    let flood =
        |_: &RecorderProcess| FloodReport::of_run(&["rename", "--count", "40000", "--processes", "2"]);
    let Some(FloodAccount { capture, lost, .. }) = account(|| flood_with_stalled_output(&dir, &[], flood))
    else {
        return;
    };
    assert!(lost > 0, "nothing was lost");
    let end = capture.totals();
    assert_eq!(end.lost.of(LossCause::Backpressure), end.lost.total(), "{:?}", end.lost);
    capture.check_fences();
}

pub(super) fn losses_of_a_stalled_output_and_of_a_stopped_recorder_are_counted_by_cause() {
    let Some((dir, _guard)) = live_test() else { return };
    let flood = |recorder: &RecorderProcess| {
        let stalled = FloodReport::of_run(&["rename", "--count", "20000"]);
        thread::sleep(EXIT_DELAY);
        let stopped = recorder.while_stopped(|| FloodReport::of_run(&["rename", "--count", "20000"]));
        thread::sleep(EXIT_DELAY);
        stalled.and(stopped).and(FloodReport::of_run(&["rename", "--count", "5000"]))
    };
    let options = ["--socket-buffer", "1M", "--heartbeat", "100ms"];
    let Some(FloodAccount { capture, .. }) = account(|| flood_with_stalled_output(&dir, &options, flood))
    else {
        return;
    };
    let end = capture.totals();
    assert!(end.lost.of(LossCause::Backpressure) > 0 && end.lost.of(LossCause::Socket) > 0, "{:?}", end.lost);
    assert_eq!(end.lost.in_source(), end.lost.of(LossCause::Socket), "{:?}", end.lost);
    capture.check_witnesses();
    capture.check_fences();
}
