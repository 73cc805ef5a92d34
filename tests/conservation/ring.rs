//! What the ring is for: it holds what the socket's queue does not, and the queue what the ring does not.

use std::collections::HashMap;
use std::thread;

use pmon_core::MonoNs;
use pmon_core::wire::Event;
use tempfile::TempDir;

use crate::flood::Flood;
use crate::observer::Number;
use crate::{SETTLED, account, stop};
use pmon_testkit::capture::CaptureContents;
use pmon_testkit::guard::Need;
use pmon_testkit::live::{live_test, live_test_with};
use pmon_testkit::recorder::RecorderProcess;
use pmon_testkit::recorder::with_transport;

/// Stops a recorder while 20,000 events happen, and fails if it has lost any of them.
#[track_caller]
fn hold(options: &[&str]) {
    let Some((dir, _guard)) = live_test() else { return };
    let account = account(|| {
        let (recorder, flood) = stop(&dir, options, SETTLED);
        thread::sleep(SETTLED);
        (recorder.finish(), flood)
    });
    let Some(account) = account else { return };
    assert_eq!((account.recorded, account.lost), (account.emitted, 0));
}

#[test]
fn the_ring_holds_what_the_queue_has_no_room_for() {
    with_transport(&["--transport", "ring"], || hold(&["--socket-buffer", "4K"]));
}

#[test]
fn the_queue_holds_what_the_ring_has_no_room_for() {
    with_transport(&["--transport", "ring", "--ring", "4K"], || hold(&["--socket-buffer", "64M"]));
}

/// The events of a capture from one time to another, by number.
fn within(capture: &CaptureContents, (from, to): (MonoNs, MonoNs)) -> HashMap<Number, Event> {
    let events = capture.events().filter(|event| (from..=to).contains(&event.time));
    events.map(|event| ((event.cpu, event.seq), *event)).collect()
}

#[test]
fn recorded_both_ways_at_once_the_events_are_the_same() {
    let transports: [&'static [&'static str]; 2] =
        [&["--transport", "recvmmsg"], &["--transport", "ring+details"]];
    let Some((dir, _guard)) = live_test_with(&transports.map(Need::Recording)) else { return };
    let other = TempDir::new().unwrap();
    let one = with_transport(transports[0], || RecorderProcess::start(&dir, &[]));
    let two = with_transport(transports[1], || RecorderProcess::start(&other, &[]));
    for kind in ["fork", "vfork", "thread", "exec"] {
        Flood::run(&[kind, "--count", "300", "--processes", "2"]);
    }
    Flood::run(&["rename", "--count", "20000", "--processes", "2"]);
    thread::sleep(SETTLED);
    let captures = [one.finish(), two.finish()];
    for capture in &captures {
        capture.check();
        assert_eq!(capture.totals().lost.total(), 0);
    }
    // What both have heard: each is there before or after the other.
    let times = captures.each_ref().map(|capture| {
        let of = |n: usize| capture.fences[n].time;
        (of(0), of(1))
    });
    let both = (times[0].0.max(times[1].0), times[0].1.min(times[1].1));
    let [one, two] = captures.each_ref().map(|capture| within(capture, both));
    assert!(one.len() > 40_000, "{}", one.len());
    assert_eq!(one, two);
}
