//! Ports and groups: which sockets receive messages to the group.

use crate::differential::table::kernel::{CallResult, SocketId};
use crate::differential::table::request::{IGNORE, LISTEN, RawRequest};
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "bind", without_listeners: false, perform: bind },
    Scenario { name: "membership", without_listeners: false, perform: membership },
    Scenario { name: "a member without a port", without_listeners: false, perform: unbound },
    Scenario { name: "a member with the port of another socket", without_listeners: false, perform: refused },
    Scenario { name: "leaving and joining again", without_listeners: false, perform: leaving },
    Scenario { name: "messages to the group", without_listeners: false, perform: forged },
    Scenario { name: "messages to a port", without_listeners: false, perform: unicast },
    Scenario { name: "other groups", without_listeners: false, perform: others },
];

/// Ports that no other process uses.
const PORTS: [u32; 2] = [0xd1ff_0001, 0xd1ff_0002];

fn text(outcome: CallResult<()>) -> String {
    outcome.map_or_else(|errno| errno.to_string(), |()| "done".into())
}

fn name(run: &mut ScenarioRun<'_>, socket: SocketId) -> String {
    let own = run.kernel().own().0;
    let (port, groups) = run.kernel().name(socket);
    let port = match port {
        port if port == own => "own process".into(),
        port if PORTS.contains(&port) || port == u32::MAX => format!("{port:#x}"),
        0 => "0".into(),
        port if port > i32::MAX as u32 => "a negative number".into(),
        port => format!("{port}"),
    };
    format!("{port}, groups {groups:#x}")
}

fn bind(run: &mut ScenarioRun<'_>) {
    let socket = run.socket();
    let value = name(run, socket);
    run.note("before", value);
    // The witness has the process ID as its port.
    let tries = [(0, 0), (0, 1), (0, 3), (PORTS[0], 1), (u32::MAX, 1), (0, 0x8000_0000), (0, u32::MAX)];
    for (port, groups) in tries {
        let socket = run.socket();
        let label = format!("port {port:#x}, groups {groups:#x}");
        let bound = text(run.kernel().bind(socket, port, groups));
        let value = name(run, socket);
        run.note(label, format!("{bound}: {value}"));
    }
    let socket = run.socket();
    let bound = text(run.kernel().bind(socket, PORTS[0], 1));
    let value = name(run, socket);
    run.note("a port that is in use", format!("{bound}: {value}"));
    let tries = [(PORTS[1], 1), (PORTS[1], 3), (PORTS[1], 0), (PORTS[0], 1), (0, 1)];
    for (port, groups) in tries {
        let bound = text(run.kernel().bind(socket, port, groups));
        let value = name(run, socket);
        run.note(format!("then port {port:#x}, groups {groups:#x}"), format!("{bound}: {value}"));
    }
}

fn membership(run: &mut ScenarioRun<'_>) {
    let socket = run.sender();
    for group in [i32::MIN, -1, 0, 1, 1, 2, 31, 32, 33, 64] {
        let joined = text(run.kernel().join(socket, group));
        let value = name(run, socket);
        run.note(format!("join {group}"), format!("{joined}: {value}"));
    }
    for group in [-1, 0, 1, 1, 3, 32, 33] {
        let left = text(run.kernel().leave(socket, group));
        let value = name(run, socket);
        run.note(format!("leave {group}"), format!("{left}: {value}"));
    }
}

fn unbound(run: &mut ScenarioRun<'_>) {
    let socket = run.socket();
    let joined = text(run.kernel().join(socket, 1));
    let value = name(run, socket);
    run.note("join", format!("{joined}: {value}"));
    run.rename(1);
    let received = run.received(socket);
    run.note("an event", received);
    let sent = run.send(socket, &RawRequest::new(LISTEN));
    let value = name(run, socket);
    run.note("LISTEN", format!("{sent}: {value}"));
    run.rename(1);
    let received = run.received(socket);
    run.note("read", received);
}

fn refused(run: &mut ScenarioRun<'_>) {
    let owner = run.socket();
    run.kernel().bind(owner, PORTS[0], 0).expect("bound");
    let socket = run.socket();
    for (label, port) in [("bind to a port that is in use", PORTS[0]), ("again", PORTS[0])] {
        let bound = text(run.kernel().bind(socket, port, 1));
        let value = name(run, socket);
        run.note(label, format!("{bound}: {value}"));
    }
    let joined = text(run.kernel().join(socket, 1));
    let value = name(run, socket);
    run.note("join", format!("{joined}: {value}"));
    run.rename(1);
    let received = run.received(socket);
    run.note("an event", received);
    let sender = run.sender();
    let sent = run.send_bytes(sender, &[1; 20], PORTS[0], 0);
    for (who, socket) in [("it", socket), ("the owner", owner)] {
        let received = run.received(socket);
        run.note(format!("a message to that port, {who} receives"), format!("{sent}: {received}"));
    }
    let bound = text(run.kernel().bind(socket, PORTS[1], 1));
    let value = name(run, socket);
    run.note("bind to another port", format!("{bound}: {value}"));
}

fn leaving(run: &mut ScenarioRun<'_>) {
    let socket = run.listener();
    run.rename(1);
    run.kernel().leave(socket, 1).expect("left");
    run.note_memory("left with an event in the queue", socket);
    run.rename(1);
    let received = run.received(socket);
    run.note("an event, read", received);
    run.kernel().join(socket, 1).expect("joined");
    run.rename(1);
    let received = run.received(socket);
    run.note("joined again, an event", received);
    run.send(socket, &RawRequest::new(IGNORE));
    run.kernel().leave(socket, 1).expect("left");
    run.kernel().join(socket, 1).expect("joined");
    run.rename(1);
    let received = run.received(socket);
    run.note("joined again after IGNORE, an event", received);
}

fn forged(run: &mut ScenarioRun<'_>) {
    let sender = run.member();
    let silent = run.member();
    let ignoring = run.listener();
    run.send(ignoring, &RawRequest::new(IGNORE));
    let masked = run.member();
    run.send(masked, &RawRequest::masked(LISTEN, 0x80));
    let listening = run.listener();
    let bytes = RawRequest::new(LISTEN).bytes();
    let members = [
        ("the sender", sender),
        ("a member that sent no request", silent),
        ("one that ignores", ignoring),
        ("a masked one", masked),
        ("a listener", listening),
    ];
    for (_, socket) in members {
        run.received(socket);
    }
    for (label, bytes) in [("an event's length", vec![0; 76]), ("LISTEN", bytes)] {
        let sent = run.send_bytes(sender, &bytes, 0, 1);
        run.note(format!("{label}, sent"), sent);
        for (who, socket) in members {
            let received = run.received(socket);
            run.note(format!("{label}: {who}"), received);
        }
    }
}

fn unicast(run: &mut ScenarioRun<'_>) {
    let sender = run.sender();
    let socket = run.member();
    run.kernel().force_rcvbuf(socket, 1).expect("SO_RCVBUFFORCE");
    let port = run.kernel().name(socket).0;
    for n in 1..=3 {
        let sent = run.send_bytes(sender, &[1; 20], port, 0);
        run.note(format!("message {n}"), sent);
        run.note_memory(format!("message {n}, memory"), socket);
    }
    let received = run.received(socket);
    run.note("read", received);
    let sent = run.send_bytes(sender, &[1; 20], port, 1);
    let received = run.received(socket);
    run.note("to the port and to the group", format!("{sent}: {received}"));
    let sent = run.send_bytes(sender, &[1; 20], PORTS[0], 1);
    let received = run.received(socket);
    run.note("to an unused port and to the group", format!("{sent}: {received}"));
}

fn others(run: &mut ScenarioRun<'_>) {
    let sender = run.sender();
    let socket = run.socket();
    run.kernel().bind(socket, PORTS[0], 2).expect("bound");
    let received = run.send(socket, &RawRequest::new(LISTEN));
    run.note("LISTEN by a member of group 2 only", received);
    run.rename(1);
    let received = run.received(socket);
    run.note("it receives", received);
    for groups in [1, 2, 3, 4, 6] {
        let sent = run.send_bytes(sender, &[1; 20], 0, groups);
        let received = run.received(socket);
        run.note(format!("to groups {groups:#x}"), format!("{sent}: {received}"));
    }
}
