//! How many datagrams a buffer holds, and how large it is.

use crate::differential::table::kernel::CallResult;
use crate::differential::table::run::{Scenario, ScenarioRun};

/// Makes a scenario of some sizes. Short scenarios are disturbed less often.
macro_rules! sizes_scenario {
    ($name:expr, $sizes:expr, $no_enobufs:expr) => {
        Scenario { name: $name, without_listeners: false, perform: |run| fill(run, &$sizes, $no_enobufs) }
    };
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    sizes_scenario!("a sleeping reader's small buffer", SMALL, false),
    sizes_scenario!("a sleeping reader's small buffer, NO_ENOBUFS", SMALL, true),
    sizes_scenario!("a sleeping reader's buffer", MIDDLE, false),
    sizes_scenario!("a sleeping reader's buffer, NO_ENOBUFS", MIDDLE, true),
    sizes_scenario!("a sleeping reader's large buffer", LARGE, false),
    sizes_scenario!("a sleeping reader's large buffer, NO_ENOBUFS", LARGE, true),
    Scenario { name: "SO_RCVBUF", without_listeners: false, perform: sizes },
    Scenario { name: "two listeners, two buffers", without_listeners: false, perform: two },
    Scenario { name: "the buffer changes while it is in use", without_listeners: false, perform: changed },
];

/// Bytes that the kernel charges for an event.
const CHARGE: i32 = 832;

/// Sizes that are set. The kernel doubles them, to at least 2304.
const SMALL: [Option<i32>; 7] =
    [Some(1), Some(CHARGE * 3 / 2 - 1), Some(CHARGE * 3 / 2), Some(1663), Some(1664), Some(1665), Some(2048)];
const MIDDLE: [Option<i32>; 4] = [None, Some(4096), Some(5000), Some(65536)];
const LARGE: [Option<i32>; 1] = [Some(1 << 20)];

fn fill(run: &mut ScenarioRun<'_>, sizes: &[Option<i32>], no_enobufs: bool) {
    for &bytes in sizes {
        let label = bytes.map_or("default".into(), |bytes| format!("{bytes}"));
        for over in [-1, 0, 1, 10] {
            let socket = run.listener();
            if let Some(bytes) = bytes {
                run.kernel().force_rcvbuf(socket, bytes).expect("SO_RCVBUFFORCE");
            }
            run.kernel().set_no_enobufs(socket, no_enobufs).expect("NETLINK_NO_ENOBUFS");
            let limit = run.kernel().rcvbuf(socket) / CHARGE;
            run.rename((limit + over) as usize);
            run.note_memory(format!("{label}: {limit}{over:+} events"), socket);
            let received_lengths = run.received_lengths(socket);
            run.note(format!("{label}: {limit}{over:+} events, then read"), received_lengths);
            run.close(socket);
            run.witness();
        }
    }
}

fn sizes(run: &mut ScenarioRun<'_>) {
    let max = run.kernel().rmem_max() as i32;
    let sizes = [i32::MIN, -1, 0, 1, 1151, 1152, 1153, 4096, 65537, max - 1, max, max + 1, 1 << 30, i32::MAX];
    let socket = run.socket();
    let default = run.kernel().rcvbuf(socket);
    run.note("default", default);
    for bytes in sizes {
        let set = run.kernel().set_rcvbuf(socket, bytes).map(|()| run.kernel().rcvbuf(socket));
        run.note(format!("SO_RCVBUF {bytes}"), text(set));
    }
    for bytes in sizes {
        let set = run.kernel().force_rcvbuf(socket, bytes).map(|()| run.kernel().rcvbuf(socket));
        run.note(format!("SO_RCVBUFFORCE {bytes}"), text(set));
    }
}

fn text(outcome: CallResult<i32>) -> String {
    outcome.map_or_else(|errno| errno.to_string(), |value| value.to_string())
}

fn two(run: &mut ScenarioRun<'_>) {
    let small = run.listener_with(1664, false);
    let large = run.listener_with(65536, false);
    run.rename(20);
    run.note_memory("small", small);
    run.note_memory("large", large);
    for (name, socket) in [("small", small), ("large", large)] {
        let received = run.received_lengths(socket);
        run.note(format!("{name} receives"), received);
    }
    run.rename(1);
    for (name, socket) in [("small", small), ("large", large)] {
        let received = run.received(socket);
        run.note(format!("{name} receives then"), received);
    }
}

fn changed(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(65536, false);
    run.rename(10);
    run.kernel().force_rcvbuf(socket, 1).expect("SO_RCVBUFFORCE");
    run.note_memory("lowered below what is used", socket);
    run.rename(1);
    run.note_memory("one more event", socket);
    run.kernel().force_rcvbuf(socket, 65536).expect("SO_RCVBUFFORCE");
    run.rename(1);
    run.note_memory("raised while congested, one more event", socket);
    let received = run.received(socket);
    run.note("read", received);
    run.rename(1);
    let received = run.received(socket);
    run.note("one more event, read", received);
}
