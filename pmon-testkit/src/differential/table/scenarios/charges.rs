//! Bytes that the kernel charges for datagrams of each length, sent by user space to the group.

use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "charge by length", without_listeners: false, perform: charges },
    Scenario { name: "a message larger than the buffer", without_listeners: false, perform: larger },
    Scenario {
        name: "a small message fits where a large one does not",
        without_listeners: false,
        perform: mixed,
    },
];

/// Lengths on both sides of each step of the kernel's allocation sizes, and the maximum length.
const LENGTHS: [usize; 29] = [
    1, 2, 16, 36, 75, 76, 77, 128, 255, 256, 257, 512, 703, 704, 705, 1024, 1727, 1728, 1729, 3775, 3776,
    3777, 4096, 7872, 7873, 16064, 16065, 65536, 212_960,
];

fn charges(run: &mut ScenarioRun<'_>) {
    let socket = run.member();
    let sender = run.sender();
    for len in LENGTHS {
        let sent = run.send_bytes(sender, &vec![1; len], 0, 1);
        run.note_memory(format!("{len} B, sent {sent}"), socket);
        let received = run.received(socket);
        run.note(format!("{len} B, read"), received);
        run.witness();
    }
    for len in [0, 212_961] {
        let sent = run.send_bytes(sender, &vec![1; len], 0, 1);
        run.note(format!("{len} B, sent"), sent);
        run.note_memory(format!("{len} B"), socket);
    }
}

fn larger(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(1, false);
    let sender = run.sender();
    run.send_bytes(sender, &[1; 4096], 0, 1);
    run.note_memory("into an empty buffer", socket);
    run.rename(1);
    run.note_memory("an event after it", socket);
    let received = run.received(socket);
    run.note("read", received);
    run.rename(1);
    run.send_bytes(sender, &[1; 4096], 0, 1);
    run.note_memory("after an event", socket);
    let received = run.received(socket);
    run.note("read", received);
}

fn mixed(run: &mut ScenarioRun<'_>) {
    for no_enobufs in [false, true] {
        let when = if no_enobufs { "NO_ENOBUFS, " } else { "" };
        let socket = run.listener_with(2048, no_enobufs);
        let sender = run.sender();
        run.rename(3);
        run.send_bytes(sender, &[1; 2000], 0, 1);
        run.note_memory(format!("{when}3 events and 2000 B"), socket);
        run.rename(1);
        run.note_memory(format!("{when}one more event"), socket);
        let received = run.received(socket);
        run.note(format!("{when}read"), received);
        run.close(socket);
    }
}
