//! Ports and groups: who gets what is sent to the group.

use crate::differential::table::host::{Outcome, Socket};
use crate::differential::table::request::{IGNORE, LISTEN, Raw};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "bind", from_silence: false, play: bind },
    Scenario { name: "membership", from_silence: false, play: membership },
    Scenario { name: "a member without a port", from_silence: false, play: unbound },
    Scenario { name: "a member with a port that is another's", from_silence: false, play: refused },
    Scenario { name: "leaving and coming back", from_silence: false, play: leaving },
    Scenario { name: "messages to the group", from_silence: false, play: forged },
    Scenario { name: "messages to a port", from_silence: false, play: unicast },
    Scenario { name: "other groups", from_silence: false, play: others },
];

/// Ports that nobody has, but for us.
const PORTS: [u32; 2] = [0xd1ff_0001, 0xd1ff_0002];

fn text(outcome: Outcome<()>) -> String {
    outcome.map_or_else(|errno| errno.to_string(), |()| "done".into())
}

fn name(scene: &mut Scene<'_>, socket: Socket) -> String {
    let own = scene.host().own().0;
    let (port, groups) = scene.host().name(socket);
    let port = match port {
        port if port == own => "own process".into(),
        port if PORTS.contains(&port) || port == u32::MAX => format!("{port:#x}"),
        0 => "0".into(),
        port if port > i32::MAX as u32 => "a negative number".into(),
        port => format!("{port}"),
    };
    format!("{port}, groups {groups:#x}")
}

fn bind(scene: &mut Scene<'_>) {
    let socket = scene.socket();
    let seen = name(scene, socket);
    scene.note("before", seen);
    // The witness has the process's own.
    let tries = [(0, 0), (0, 1), (0, 3), (PORTS[0], 1), (u32::MAX, 1), (0, 0x8000_0000), (0, u32::MAX)];
    for (port, groups) in tries {
        let socket = scene.socket();
        let what = format!("port {port:#x}, groups {groups:#x}");
        let bound = text(scene.host().bind(socket, port, groups));
        let seen = name(scene, socket);
        scene.note(what, format!("{bound}: {seen}"));
    }
    let socket = scene.socket();
    let bound = text(scene.host().bind(socket, PORTS[0], 1));
    let seen = name(scene, socket);
    scene.note("a port that is taken", format!("{bound}: {seen}"));
    let tries = [(PORTS[1], 1), (PORTS[1], 3), (PORTS[1], 0), (PORTS[0], 1), (0, 1)];
    for (port, groups) in tries {
        let bound = text(scene.host().bind(socket, port, groups));
        let seen = name(scene, socket);
        scene.note(format!("then port {port:#x}, groups {groups:#x}"), format!("{bound}: {seen}"));
    }
}

fn membership(scene: &mut Scene<'_>) {
    let socket = scene.speaker();
    for group in [i32::MIN, -1, 0, 1, 1, 2, 31, 32, 33, 64] {
        let joined = text(scene.host().join(socket, group));
        let seen = name(scene, socket);
        scene.note(format!("join {group}"), format!("{joined}: {seen}"));
    }
    for group in [-1, 0, 1, 1, 3, 32, 33] {
        let left = text(scene.host().leave(socket, group));
        let seen = name(scene, socket);
        scene.note(format!("leave {group}"), format!("{left}: {seen}"));
    }
}

fn unbound(scene: &mut Scene<'_>) {
    let socket = scene.socket();
    let joined = text(scene.host().join(socket, 1));
    let seen = name(scene, socket);
    scene.note("join", format!("{joined}: {seen}"));
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("an event", heard);
    let sent = scene.send(socket, &Raw::new(LISTEN));
    let seen = name(scene, socket);
    scene.note("LISTEN", format!("{sent}: {seen}"));
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("read", heard);
}

fn refused(scene: &mut Scene<'_>) {
    let owner = scene.socket();
    scene.host().bind(owner, PORTS[0], 0).expect("bound");
    let socket = scene.socket();
    for (what, port) in [("bind to a port that is taken", PORTS[0]), ("again", PORTS[0])] {
        let bound = text(scene.host().bind(socket, port, 1));
        let seen = name(scene, socket);
        scene.note(what, format!("{bound}: {seen}"));
    }
    let joined = text(scene.host().join(socket, 1));
    let seen = name(scene, socket);
    scene.note("join", format!("{joined}: {seen}"));
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("an event", heard);
    let speaker = scene.speaker();
    let sent = scene.send_bytes(speaker, &[1; 20], PORTS[0], 0);
    for (who, socket) in [("it", socket), ("the owner", owner)] {
        let heard = scene.heard(socket);
        scene.note(format!("a message to that port, {who} hears"), format!("{sent}: {heard}"));
    }
    let bound = text(scene.host().bind(socket, PORTS[1], 1));
    let seen = name(scene, socket);
    scene.note("bind to another port", format!("{bound}: {seen}"));
}

fn leaving(scene: &mut Scene<'_>) {
    let socket = scene.listener();
    scene.rename(1);
    scene.host().leave(socket, 1).expect("left");
    scene.note_memory("left with an event in the queue", socket);
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("an event, read", heard);
    scene.host().join(socket, 1).expect("joined");
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("back, an event", heard);
    scene.send(socket, &Raw::new(IGNORE));
    scene.host().leave(socket, 1).expect("left");
    scene.host().join(socket, 1).expect("joined");
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("back after IGNORE, an event", heard);
}

fn forged(scene: &mut Scene<'_>) {
    let speaker = scene.member();
    let silent = scene.member();
    let ignoring = scene.listener();
    scene.send(ignoring, &Raw::new(IGNORE));
    let masked = scene.member();
    scene.send(masked, &Raw::masked(LISTEN, 0x80));
    let listening = scene.listener();
    let bytes = Raw::new(LISTEN).bytes();
    let members = [
        ("the sender", speaker),
        ("a member that asked for nothing", silent),
        ("one that ignores", ignoring),
        ("a masked one", masked),
        ("a listener", listening),
    ];
    for (_, socket) in members {
        scene.heard(socket);
    }
    for (what, bytes) in [("an event's length", vec![0; 76]), ("LISTEN", bytes)] {
        let sent = scene.send_bytes(speaker, &bytes, 0, 1);
        scene.note(format!("{what}, sent"), sent);
        for (who, socket) in members {
            let heard = scene.heard(socket);
            scene.note(format!("{what}: {who}"), heard);
        }
    }
}

fn unicast(scene: &mut Scene<'_>) {
    let speaker = scene.speaker();
    let socket = scene.member();
    scene.host().force_rcvbuf(socket, 1).expect("SO_RCVBUFFORCE");
    let port = scene.host().name(socket).0;
    for n in 1..=3 {
        let sent = scene.send_bytes(speaker, &[1; 20], port, 0);
        scene.note(format!("message {n}"), sent);
        scene.note_memory(format!("message {n}, memory"), socket);
    }
    let heard = scene.heard(socket);
    scene.note("read", heard);
    let sent = scene.send_bytes(speaker, &[1; 20], port, 1);
    let heard = scene.heard(socket);
    scene.note("to the port and to the group", format!("{sent}: {heard}"));
    let sent = scene.send_bytes(speaker, &[1; 20], PORTS[0], 1);
    let heard = scene.heard(socket);
    scene.note("to nobody's port and to the group", format!("{sent}: {heard}"));
}

fn others(scene: &mut Scene<'_>) {
    let speaker = scene.speaker();
    let socket = scene.socket();
    scene.host().bind(socket, PORTS[0], 2).expect("bound");
    let heard = scene.send(socket, &Raw::new(LISTEN));
    scene.note("LISTEN by a member of group 2 only", heard);
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("it hears", heard);
    for groups in [1, 2, 3, 4, 6] {
        let sent = scene.send_bytes(speaker, &[1; 20], 0, groups);
        let heard = scene.heard(socket);
        scene.note(format!("to groups {groups:#x}"), format!("{sent}: {heard}"));
    }
}
