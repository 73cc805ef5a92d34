//! How much a buffer holds, and how large it is.

use crate::differential::table::host::Outcome;
use crate::differential::table::scene::{Scenario, Scene};

/// One of several, so that others have little time to disturb each.
macro_rules! kept_scenario {
    ($name:expr, $sizes:expr, $no_enobufs:expr) => {
        Scenario { name: $name, from_silence: false, play: |scene| kept(scene, &$sizes, $no_enobufs) }
    };
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    kept_scenario!("a sleeping reader's small buffer", SMALL, false),
    kept_scenario!("a sleeping reader's small buffer, NO_ENOBUFS", SMALL, true),
    kept_scenario!("a sleeping reader's buffer", MIDDLE, false),
    kept_scenario!("a sleeping reader's buffer, NO_ENOBUFS", MIDDLE, true),
    kept_scenario!("a sleeping reader's large buffer", LARGE, false),
    kept_scenario!("a sleeping reader's large buffer, NO_ENOBUFS", LARGE, true),
    Scenario { name: "SO_RCVBUF", from_silence: false, play: sizes },
    Scenario { name: "two listeners, two buffers", from_silence: false, play: two },
    Scenario { name: "the buffer changes while it is in use", from_silence: false, play: changed },
];

/// What an event is charged for.
const CHARGE: i32 = 832;

/// What is asked for. Twice as much is had; below 2304, 2304.
const SMALL: [Option<i32>; 7] =
    [Some(1), Some(CHARGE * 3 / 2 - 1), Some(CHARGE * 3 / 2), Some(1663), Some(1664), Some(1665), Some(2048)];
const MIDDLE: [Option<i32>; 4] = [None, Some(4096), Some(5000), Some(65536)];
const LARGE: [Option<i32>; 1] = [Some(1 << 20)];

fn kept(scene: &mut Scene<'_>, sizes: &[Option<i32>], no_enobufs: bool) {
    for &bytes in sizes {
        let label = bytes.map_or("default".into(), |bytes| format!("{bytes}"));
        for over in [-1, 0, 1, 10] {
            let socket = scene.listener();
            if let Some(bytes) = bytes {
                scene.host().force_rcvbuf(socket, bytes).expect("SO_RCVBUFFORCE");
            }
            scene.host().set_no_enobufs(socket, no_enobufs).expect("NETLINK_NO_ENOBUFS");
            let limit = scene.host().rcvbuf(socket) / CHARGE;
            scene.rename((limit + over) as usize);
            scene.note_memory(format!("{label}: {limit}{over:+} events"), socket);
            let tally = scene.tally(socket);
            scene.note(format!("{label}: {limit}{over:+} events, then read"), tally);
            scene.close(socket);
            scene.witness();
        }
    }
}

fn sizes(scene: &mut Scene<'_>) {
    let max = scene.host().rmem_max() as i32;
    let sizes = [i32::MIN, -1, 0, 1, 1151, 1152, 1153, 4096, 65537, max - 1, max, max + 1, 1 << 30, i32::MAX];
    let socket = scene.socket();
    let default = scene.host().rcvbuf(socket);
    scene.note("as it is", default);
    for bytes in sizes {
        let set = scene.host().set_rcvbuf(socket, bytes).map(|()| scene.host().rcvbuf(socket));
        scene.note(format!("SO_RCVBUF {bytes}"), text(set));
    }
    for bytes in sizes {
        let set = scene.host().force_rcvbuf(socket, bytes).map(|()| scene.host().rcvbuf(socket));
        scene.note(format!("SO_RCVBUFFORCE {bytes}"), text(set));
    }
}

fn text(outcome: Outcome<i32>) -> String {
    outcome.map_or_else(|errno| errno.to_string(), |value| value.to_string())
}

fn two(scene: &mut Scene<'_>) {
    let small = scene.listener_with(1664, false);
    let large = scene.listener_with(65536, false);
    scene.rename(20);
    scene.note_memory("small", small);
    scene.note_memory("large", large);
    for (name, socket) in [("small", small), ("large", large)] {
        let heard = scene.tally(socket);
        scene.note(format!("{name} hears"), heard);
    }
    scene.rename(1);
    for (name, socket) in [("small", small), ("large", large)] {
        let heard = scene.heard(socket);
        scene.note(format!("{name} hears then"), heard);
    }
}

fn changed(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(65536, false);
    scene.rename(10);
    scene.host().force_rcvbuf(socket, 1).expect("SO_RCVBUFFORCE");
    scene.note_memory("lowered below what is used", socket);
    scene.rename(1);
    scene.note_memory("one more event", socket);
    scene.host().force_rcvbuf(socket, 65536).expect("SO_RCVBUFFORCE");
    scene.rename(1);
    scene.note_memory("raised while congested, one more event", socket);
    let heard = scene.heard(socket);
    scene.note("read", heard);
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("one more event, read", heard);
}
