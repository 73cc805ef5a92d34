//! What datagrams are charged for, by their length: messages from one member of user space to the group.

use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "charge by length", from_silence: false, play: charges },
    Scenario { name: "one that is larger than the buffer", from_silence: false, play: larger },
    Scenario { name: "a small one finds room where a large one does not", from_silence: false, play: mixed },
];

/// Lengths on both sides of each step of what memory is given out in, and the longest that can be sent.
const LENGTHS: [usize; 29] = [
    1, 2, 16, 36, 75, 76, 77, 128, 255, 256, 257, 512, 703, 704, 705, 1024, 1727, 1728, 1729, 3775, 3776,
    3777, 4096, 7872, 7873, 16064, 16065, 65536, 212_960,
];

fn charges(scene: &mut Scene<'_>) {
    let socket = scene.member();
    let speaker = scene.speaker();
    for len in LENGTHS {
        let sent = scene.send_bytes(speaker, &vec![1; len], 0, 1);
        scene.note_memory(format!("{len} B, sent {sent}"), socket);
        let heard = scene.heard(socket);
        scene.note(format!("{len} B, read"), heard);
        scene.witness();
    }
    for len in [0, 212_961] {
        let sent = scene.send_bytes(speaker, &vec![1; len], 0, 1);
        scene.note(format!("{len} B, sent"), sent);
        scene.note_memory(format!("{len} B"), socket);
    }
}

fn larger(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(1, false);
    let speaker = scene.speaker();
    scene.send_bytes(speaker, &[1; 4096], 0, 1);
    scene.note_memory("into an empty buffer", socket);
    scene.rename(1);
    scene.note_memory("an event behind it", socket);
    let heard = scene.heard(socket);
    scene.note("read", heard);
    scene.rename(1);
    scene.send_bytes(speaker, &[1; 4096], 0, 1);
    scene.note_memory("behind an event", socket);
    let heard = scene.heard(socket);
    scene.note("read", heard);
}

fn mixed(scene: &mut Scene<'_>) {
    for no_enobufs in [false, true] {
        let when = if no_enobufs { "NO_ENOBUFS, " } else { "" };
        let socket = scene.listener_with(2048, no_enobufs);
        let speaker = scene.speaker();
        scene.rename(3);
        scene.send_bytes(speaker, &[1; 2000], 0, 1);
        scene.note_memory(format!("{when}3 events and 2000 B"), socket);
        scene.rename(1);
        scene.note_memory(format!("{when}one more event"), socket);
        let heard = scene.heard(socket);
        scene.note(format!("{when}read"), heard);
        scene.close(socket);
    }
}
