//! The ring and the socket's queue: each holds the events for which the other is too small.

use std::collections::HashMap;
use std::thread;

use pmon_core::MonoNs;
use pmon_core::wire::Event;
use tempfile::TempDir;

use crate::flood::FloodReport;
use crate::observer::EventNumber;
use crate::{EXIT_DELAY, account, flood_while_stopped};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::guard::Need;
use pmon_testkit::live::{live_test, live_test_with};
use pmon_testkit::recorder::{RecorderProcess, with_transport};

/// Stops a recorder while 20,000 events are emitted, and fails the test if any of them is lost.
#[track_caller]
fn assert_nothing_lost(options: &[&str]) {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let (recorder, flood) = flood_while_stopped(&dir, options, EXIT_DELAY);
        thread::sleep(EXIT_DELAY);
        (recorder.finish(), flood)
    });
    let Some(account) = account else { return };
    assert_eq!((account.recorded, account.lost), (account.emitted, 0));
}

#[test]
fn the_ring_holds_what_a_small_queue_drops() {
    with_transport(&["--transport", "ring"], || assert_nothing_lost(&["--socket-buffer", "4K"]));
}

#[test]
fn the_queue_holds_what_a_small_ring_drops() {
    with_transport(&["--transport", "ring", "--ring", "4K"], || {
        assert_nothing_lost(&["--socket-buffer", "64M"])
    });
}

/// Returns the events of a capture between two times, by number.
fn within(capture: &CaptureContents, (from, to): (MonoNs, MonoNs)) -> HashMap<EventNumber, Event> {
    let events = capture.events().filter(|event| (from..=to).contains(&event.time));
    events.map(|event| ((event.cpu, event.seq), *event)).collect()
}

#[test]
fn both_transports_record_the_same_events() {
    let transports: [&'static [&'static str]; 2] =
        [&["--transport", "recvmmsg"], &["--transport", "ring+details"]];
    let Some((dir, _guard)) = live_test_with(&transports.map(Need::Recording)) else { return };
    let other = TempDir::new().unwrap();
    let one = with_transport(transports[0], || RecorderProcess::start(&dir, &[]));
    let two = with_transport(transports[1], || RecorderProcess::start(&other, &[]));
    for kind in ["fork", "vfork", "thread", "exec"] {
        FloodReport::of_run(&[kind, "--count", "300", "--processes", "2"]);
    }
    FloodReport::of_run(&["rename", "--count", "20000", "--processes", "2"]);
    thread::sleep(EXIT_DELAY);
    let captures = [one.finish(), two.finish()];
    for capture in &captures {
        capture.check();
        assert_eq!(capture.totals().lost.total(), 0);
    }
    // The span in which both recorders were subscribed.
    let times = captures.each_ref().map(|capture| {
        let of = |n: usize| capture.fences[n].time;
        (of(0), of(1))
    });
    let both = (times[0].0.max(times[1].0), times[0].1.min(times[1].1));
    let [one, two] = captures.each_ref().map(|capture| within(capture, both));
    assert!(one.len() > 40_000, "{}", one.len());
    assert_eq!(one, two);
}
