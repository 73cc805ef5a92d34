//! Connected sockets: where their messages go, and whose messages they receive. Also the calls that
//! need privilege.

use crate::differential::table::request::{IGNORE, LISTEN, RawRequest};
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "connect", without_listeners: false, perform: connect },
    Scenario { name: "connected to the kernel", without_listeners: false, perform: to_kernel },
    Scenario { name: "connected to a port", without_listeners: false, perform: to_port },
    Scenario { name: "connected to the group", without_listeners: false, perform: to_group },
    Scenario { name: "without privilege", without_listeners: false, perform: unprivileged },
];

/// Ports that no other process uses.
const PORTS: [u32; 3] = [0xd1ff_0001, 0xd1ff_0002, 0xd1ff_0003];

fn connect(run: &mut ScenarioRun<'_>) {
    let ports = PORTS.map(|port| (port, 0));
    for to in [(0, 0), (0, 1), (0, 6), (0, 1 << 31), ports[0], (PORTS[0], 3)] {
        let socket = run.socket();
        let value = run.connect(socket, Some(to));
        run.note(format!("to {to:#x?}").replace(['\n', ' '], ""), value);
    }
    let socket = run.socket();
    for to in [None, Some(ports[0]), Some((PORTS[1], 4)), None, None] {
        let value = run.connect(socket, to);
        run.note(format!("the same: {to:x?}"), value);
    }
    let owner = run.socket();
    run.kernel().bind(owner, PORTS[2], 0).expect("bound");
    let refused = run.socket();
    let bound = run.kernel().bind(refused, PORTS[2], 1).is_ok();
    let value = run.connect(refused, Some((0, 0)));
    run.note("with the port of another socket", format!("bound {bound}; {value}"));
}

fn to_kernel(run: &mut ScenarioRun<'_>) {
    let (socket, other) = (run.member(), run.sender());
    let port = run.kernel().name(socket).0;
    for to in [Some((0, 0)), None] {
        let value = run.connect(socket, to);
        run.note(format!("{to:?}"), value);
        let sent = run.send(socket, &RawRequest::new(LISTEN));
        let received = run.received(socket);
        run.note(format!("{to:?}: sends a request with an address"), format!("{sent}: {received}"));
        let sent = run.send_on(socket, &[1; 40]);
        run.note(format!("{to:?}: sends"), sent);
        let sent = run.send_bytes(other, &[1; 40], port, 0);
        let received = run.received(socket);
        run.note(format!("{to:?}: another sends to it"), format!("{sent}: {received}"));
        let sent = run.send_bytes(other, &[1; 40], 0, 1);
        let received = run.received(socket);
        run.note(format!("{to:?}: another sends to the group"), format!("{sent}: {received}"));
    }
    run.send(socket, &RawRequest::new(IGNORE));
}

fn to_port(run: &mut ScenarioRun<'_>) {
    let [socket, friend, other] = PORTS.map(|port| {
        let socket = run.socket();
        run.kernel().bind(socket, port, u32::from(port == PORTS[0])).expect("bound");
        socket
    });
    for to in [(0xd1ff_0009, 0), (PORTS[1], 0), (PORTS[1], 1), (PORTS[0], 0)] {
        let label = format!("{:x}, groups {}", to.0, to.1);
        run.connect(socket, Some(to));
        for len in [0, 5, 212_961] {
            let sent = run.send_on(socket, &vec![1; len]);
            let received = [socket, friend].map(|socket| run.received(socket)).join("; ");
            run.note(format!("{label}: sends {len} B"), format!("{sent}: {received}"));
        }
        for (name, from) in [("its peer", friend), ("another", other)] {
            let sent = run.send_bytes(from, &[1; 3], PORTS[0], 0);
            let received = run.received(socket);
            run.note(format!("{label}: {name} sends to it"), format!("{sent}: {received}"));
        }
        run.rename(1);
        let received = run.received(socket);
        run.note(format!("{label}: an event"), received);
        run.witness();
    }
}

fn to_group(run: &mut ScenarioRun<'_>) {
    let (socket, other) = (run.member(), run.member());
    for groups in [1, 6] {
        let value = run.connect(socket, Some((0, groups)));
        run.note(format!("groups {groups}"), value);
        let sent = run.send_on(socket, &[1; 40]);
        let received = [socket, other].map(|socket| run.received(socket)).join("; ");
        run.note(format!("groups {groups}: sends"), format!("{sent}: {received}"));
    }
    run.witness();
}

fn unprivileged(run: &mut ScenarioRun<'_>) {
    run.kernel().set_privileged(false);
    let socket = run.socket();
    for to in [(PORTS[0], 0), (0, 1), (0, 2), (0, 0)] {
        let value = run.connect(socket, Some(to));
        run.note(format!("connect to {:x}, groups {}", to.0, to.1), value);
    }
    for (len, groups) in [(0, 0), (0, 1), (40, 1), (212_961, 1), (212_961, 0), (40, 0)] {
        let sent = run.send_bytes(socket, &vec![1; len], 0, groups);
        run.note(format!("{len} B to groups {groups}"), sent);
    }
    let silent = run.socket();
    let sent = run.send_bytes(silent, &[], 0, 0);
    let port = run.kernel().name(silent).0;
    run.note("an empty message, without a port", format!("{sent}, port {port}"));
    for (port, groups) in [(PORTS[0], 2), (PORTS[0], 5), (PORTS[1], 2), (PORTS[0], 2), (PORTS[0], 1)] {
        let bound = run.kernel().bind(silent, port, groups);
        let groups_now = run.kernel().name(silent).1;
        run.note(format!("bind {port:x}, groups {groups}"), format!("{bound:?}, groups {groups_now}"));
    }
    for group in [0, 2, 3, 33] {
        let kernel = run.kernel();
        let (joined, left) = (kernel.join(silent, group), kernel.leave(silent, group));
        run.note(format!("join and leave {group}"), format!("{joined:?}, {left:?}"));
    }
    let forced = run.kernel().force_rcvbuf(silent, 4096);
    run.note("SO_RCVBUFFORCE", format!("{forced:?}"));
    run.kernel().set_privileged(true);
}
