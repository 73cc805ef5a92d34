//! Sockets that are connected: where what they send goes, and whom they hear. And what is asked of those without privilege.

use crate::differential::table::request::{IGNORE, LISTEN, Raw};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "connect", from_silence: false, play: connect },
    Scenario { name: "connected to the kernel", from_silence: false, play: to_kernel },
    Scenario { name: "connected to a port", from_silence: false, play: to_port },
    Scenario { name: "connected to the group", from_silence: false, play: to_group },
    Scenario { name: "without privilege", from_silence: false, play: unprivileged },
];

/// Ports that nobody has, but for us.
const PORTS: [u32; 3] = [0xd1ff_0001, 0xd1ff_0002, 0xd1ff_0003];

fn connect(scene: &mut Scene<'_>) {
    let ports = PORTS.map(|port| (port, 0));
    for to in [(0, 0), (0, 1), (0, 6), (0, 1 << 31), ports[0], (PORTS[0], 3)] {
        let socket = scene.socket();
        let seen = scene.connect(socket, Some(to));
        scene.note(format!("to {to:#x?}").replace(['\n', ' '], ""), seen);
    }
    let socket = scene.socket();
    for to in [None, Some(ports[0]), Some((PORTS[1], 4)), None, None] {
        let seen = scene.connect(socket, to);
        scene.note(format!("the same: {to:x?}"), seen);
    }
    let owner = scene.socket();
    scene.host().bind(owner, PORTS[2], 0).expect("bound");
    let refused = scene.socket();
    let bound = scene.host().bind(refused, PORTS[2], 1).is_ok();
    let seen = scene.connect(refused, Some((0, 0)));
    scene.note("with a port that is another's", format!("bound {bound}; {seen}"));
}

fn to_kernel(scene: &mut Scene<'_>) {
    let (socket, other) = (scene.member(), scene.speaker());
    let port = scene.host().name(socket).0;
    for to in [Some((0, 0)), None] {
        let seen = scene.connect(socket, to);
        scene.note(format!("{to:?}"), seen);
        let sent = scene.send(socket, &Raw::new(LISTEN));
        let heard = scene.heard(socket);
        scene.note(format!("{to:?}: asks with an address"), format!("{sent}: {heard}"));
        let sent = scene.send_on(socket, &[1; 40]);
        scene.note(format!("{to:?}: sends"), sent);
        let sent = scene.send_bytes(other, &[1; 40], port, 0);
        let heard = scene.heard(socket);
        scene.note(format!("{to:?}: another sends to it"), format!("{sent}: {heard}"));
        let sent = scene.send_bytes(other, &[1; 40], 0, 1);
        let heard = scene.heard(socket);
        scene.note(format!("{to:?}: another sends to the group"), format!("{sent}: {heard}"));
    }
    scene.send(socket, &Raw::new(IGNORE));
}

fn to_port(scene: &mut Scene<'_>) {
    let [socket, friend, other] = PORTS.map(|port| {
        let socket = scene.socket();
        scene.host().bind(socket, port, u32::from(port == PORTS[0])).expect("bound");
        socket
    });
    for to in [(0xd1ff_0009, 0), (PORTS[1], 0), (PORTS[1], 1), (PORTS[0], 0)] {
        let what = format!("{:x}, groups {}", to.0, to.1);
        scene.connect(socket, Some(to));
        for len in [0, 5, 212_961] {
            let sent = scene.send_on(socket, &vec![1; len]);
            let heard = [socket, friend].map(|socket| scene.heard(socket)).join("; ");
            scene.note(format!("{what}: sends {len} B"), format!("{sent}: {heard}"));
        }
        for (name, from) in [("its peer", friend), ("another", other)] {
            let sent = scene.send_bytes(from, &[1; 3], PORTS[0], 0);
            let heard = scene.heard(socket);
            scene.note(format!("{what}: {name} sends to it"), format!("{sent}: {heard}"));
        }
        scene.rename(1);
        let heard = scene.heard(socket);
        scene.note(format!("{what}: an event"), heard);
        scene.witness();
    }
}

fn to_group(scene: &mut Scene<'_>) {
    let (socket, other) = (scene.member(), scene.member());
    for groups in [1, 6] {
        let seen = scene.connect(socket, Some((0, groups)));
        scene.note(format!("groups {groups}"), seen);
        let sent = scene.send_on(socket, &[1; 40]);
        let heard = [socket, other].map(|socket| scene.heard(socket)).join("; ");
        scene.note(format!("groups {groups}: sends"), format!("{sent}: {heard}"));
    }
    scene.witness();
}

fn unprivileged(scene: &mut Scene<'_>) {
    scene.host().be_privileged(false);
    let socket = scene.socket();
    for to in [(PORTS[0], 0), (0, 1), (0, 2), (0, 0)] {
        let seen = scene.connect(socket, Some(to));
        scene.note(format!("connect to {:x}, groups {}", to.0, to.1), seen);
    }
    for (len, groups) in [(0, 0), (0, 1), (40, 1), (212_961, 1), (212_961, 0), (40, 0)] {
        let sent = scene.send_bytes(socket, &vec![1; len], 0, groups);
        scene.note(format!("{len} B to groups {groups}"), sent);
    }
    let silent = scene.socket();
    let sent = scene.send_bytes(silent, &[], 0, 0);
    let port = scene.host().name(silent).0;
    scene.note("nothing, without a port", format!("{sent}, port {port}"));
    for (port, groups) in [(PORTS[0], 2), (PORTS[0], 5), (PORTS[1], 2), (PORTS[0], 2), (PORTS[0], 1)] {
        let bound = scene.host().bind(silent, port, groups);
        let groups_now = scene.host().name(silent).1;
        scene.note(format!("bind {port:x}, groups {groups}"), format!("{bound:?}, groups {groups_now}"));
    }
    for group in [0, 2, 3, 33] {
        let host = scene.host();
        let (joined, left) = (host.join(silent, group), host.leave(silent, group));
        scene.note(format!("join and leave {group}"), format!("{joined:?}, {left:?}"));
    }
    let forced = scene.host().force_rcvbuf(silent, 4096);
    scene.note("SO_RCVBUFFORCE", format!("{forced:?}"));
    scene.host().be_privileged(true);
}
