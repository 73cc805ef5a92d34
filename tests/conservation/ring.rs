//! What the ring is for: it holds what the socket's queue does not, and the queue what the ring does not.

use std::thread;

use crate::common::recorder::on;
use crate::common::scene;
use crate::{SETTLED, account, stop};

/// Stops a recorder while 20,000 events happen, and fails if it has lost any of them.
#[track_caller]
fn hold(options: &[&str]) {
    let Some((dir, _guard)) = scene() else { return };
    let account = account(|| {
        let (recorder, flood) = stop(&dir, options, SETTLED);
        thread::sleep(SETTLED);
        (recorder.end(), flood)
    });
    let Some(account) = account else { return };
    assert_eq!((account.recorded, account.lost), (account.emitted, 0));
}

#[test]
fn the_ring_holds_what_the_queue_has_no_room_for() {
    on(&["--transport", "ring"], || hold(&["--socket-buffer", "4K"]));
}

#[test]
fn the_queue_holds_what_the_ring_has_no_room_for() {
    on(&["--transport", "ring", "--ring", "4K"], || hold(&["--socket-buffer", "64M"]));
}
