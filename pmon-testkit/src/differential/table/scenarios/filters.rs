//! Filters: what they do with what is sent, and to others.

use crate::differential::table::host::{Act, Deed, End, Instruction, Outcome, Socket};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a filter and what it leaves", from_silence: false, play: lengths },
    Scenario { name: "a filter by kind", from_silence: false, play: by_kind },
    Scenario { name: "filters come, change and go", from_silence: false, play: changes },
    Scenario { name: "a filter that is locked", from_silence: false, play: locked },
    Scenario { name: "a filter and an overrun", from_silence: false, play: overrun },
    Scenario { name: "a filter and messages to its port", from_silence: false, play: unicast },
    Scenario { name: "filters of several", from_silence: false, play: several },
    Scenario { name: "filters of several, and no room", from_silence: false, play: full },
];

/// A port that nobody has, but for us.
const PORT: u32 = 0xd1ff_0001;

pub(crate) const fn op(code: u32, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

pub(crate) const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: code as u16, jt, jf, k }
}

/// A program that leaves so many bytes.
const fn leave(bytes: u32) -> [Instruction; 1] {
    [op(libc::BPF_RET, bytes)]
}

/// A program that leaves what there is.
const LEN: [Instruction; 2] = [op(libc::BPF_LD | libc::BPF_LEN, 0), op(libc::BPF_RET | libc::BPF_A, 0)];

pub(crate) fn text(outcome: Outcome<()>) -> String {
    outcome.map_or_else(|errno| errno.to_string(), |()| "done".into())
}

/// A member, and behind it one who has no filter, and hears first. So the witness hears what is not cut.
pub(crate) fn guarded(scene: &mut Scene<'_>) -> Socket {
    let socket = scene.member();
    scene.member();
    socket
}

fn lengths(scene: &mut Scene<'_>) {
    let socket = guarded(scene);
    let speaker = scene.speaker();
    for bytes in [0, 1, 16, 75, 76, 77, 1 << 31, u32::MAX] {
        scene.host().attach(socket, &leave(bytes)).expect("a filter");
        scene.rename(1);
        scene.note_memory(format!("{bytes} B of an event"), socket);
        let heard = scene.heard(socket);
        scene.note(format!("{bytes} B of an event, read"), heard);
        scene.send_bytes(speaker, &[1; 5000], 0, 1);
        scene.note_memory(format!("{bytes} B of 5000"), socket);
        let heard = scene.heard(socket);
        scene.note(format!("{bytes} B of 5000, read"), heard);
    }
    scene.host().attach(socket, &leave(10)).expect("a filter");
    scene.rename(1);
    let peeked = scene.recv_by(socket, 4, libc::MSG_PEEK | libc::MSG_TRUNC);
    scene.note("10 B, of which 4 are read", peeked);
    scene.witness();
}

fn by_kind(scene: &mut Scene<'_>) {
    let socket = guarded(scene);
    // `proc_event.what` is in the host's byte order.
    let exit = 0x8000_0000_u32.to_be();
    let program = [
        op(libc::BPF_LD | libc::BPF_ABS, 36),
        jump(libc::BPF_JMP | libc::BPF_JEQ, exit, 0, 1),
        op(libc::BPF_RET, u32::MAX),
        op(libc::BPF_RET, 0),
    ];
    scene.host().attach(socket, &program).expect("a filter");
    scene.host().act(0, Deed::Child { does: &[Act::Session], ends: End::Code(3) });
    scene.rename(2);
    scene.note_memory("a child, and renames", socket);
    let heard = scene.heard(socket);
    scene.note("read", heard);
    scene.witness();
}

fn changes(scene: &mut Scene<'_>) {
    let socket = scene.socket();
    let detached = text(scene.host().detach(socket));
    scene.note("detach what is not", detached);
    let attached = text(scene.host().attach(socket, &leave(0)));
    scene.note("attach before bind", attached);
    scene.host().bind(socket, PORT, 1).expect("bound");
    scene.member();
    for (what, program) in [("nothing", None), ("20 B", Some(leave(20))), ("a bad one", Some(leave_bad()))] {
        let attached = program.map(|program| text(scene.host().attach(socket, &program)));
        scene.rename(2);
        let heard = scene.heard(socket);
        scene.note(format!("attach {what}"), format!("{attached:?}: {heard}"));
    }
    let detached = text(scene.host().detach(socket));
    scene.rename(2);
    let heard = scene.heard(socket);
    scene.note("detach", format!("{detached}: {heard}"));
    let detached = text(scene.host().detach(socket));
    scene.note("detach again", detached);
    scene.witness();
}

const fn leave_bad() -> [Instruction; 1] {
    [op(libc::BPF_LD, 0)]
}

fn locked(scene: &mut Scene<'_>) {
    for with in [false, true] {
        let socket = scene.socket();
        let host = scene.host();
        if with {
            host.attach(socket, &leave(0)).expect("a filter");
        }
        let seen = [
            host.lock(socket, false),
            host.lock(socket, true),
            host.attach(socket, &leave(9)),
            host.attach(socket, &leave_bad()),
            host.detach(socket),
            host.lock(socket, false),
            host.lock(socket, true),
        ];
        scene.note(format!("with a filter: {with}"), seen.map(text).join(", "));
    }
}

fn overrun(scene: &mut Scene<'_>) {
    let socket = guarded(scene);
    scene.host().force_rcvbuf(socket, 832).expect("SO_RCVBUFFORCE");
    scene.host().attach(socket, &leave(0)).expect("a filter");
    scene.rename(10);
    scene.note_memory("10 events that nobody wants", socket);
    scene.host().detach(socket).expect("no filter");
    scene.rename(5);
    scene.note_memory("5 events", socket);
    scene.host().attach(socket, &leave(0)).expect("a filter");
    scene.rename(5);
    scene.note_memory("5 that nobody wants, congested", socket);
    let heard = scene.heard(socket);
    scene.note("read", heard);
    scene.rename(1);
    scene.host().detach(socket).expect("no filter");
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("one that nobody wants, and one", heard);
    scene.witness();
}

fn unicast(scene: &mut Scene<'_>) {
    let socket = scene.socket();
    scene.host().bind(socket, PORT, 0).expect("bound");
    let speaker = scene.speaker();
    for (what, program) in [("no filter", None), ("10 B", Some(leave(10))), ("nothing", Some(leave(0)))] {
        if let Some(program) = program {
            scene.host().attach(socket, &program).expect("a filter");
        }
        for len in [3, 20, 3776, 3777, 5000, 40_000] {
            for groups in [0, 2] {
                let sent = scene.send_bytes(speaker, &vec![1; len], PORT, groups);
                scene.note_memory(format!("{what}, {len} B, groups {groups}: sent {sent}"), socket);
                let heard = scene.heard(socket);
                scene.note(format!("{what}, {len} B, groups {groups}: read"), heard);
            }
        }
    }
    scene.host().detach(socket).expect("no filter");
    scene.host().force_rcvbuf(socket, 832).expect("SO_RCVBUFFORCE");
    scene.send_bytes(speaker, &[1; 40], PORT, 0);
    scene.send_bytes(speaker, &[1; 40], PORT, 0);
    scene.host().attach(socket, &leave(0)).expect("a filter");
    let sent = scene.send_bytes(speaker, &[1; 40], PORT, 2);
    scene.note_memory(format!("to a full queue, unwanted: sent {sent}"), socket);
    let sent = scene.send_bytes(socket, &[1; 40], 0, 0);
    scene.note("to the kernel, through no filter", sent);
}

/// What each of some sockets has.
fn each(scene: &mut Scene<'_>, what: &str, sockets: [Socket; 3]) {
    let heard = sockets.map(|socket| scene.tally(socket)).join("; ");
    scene.note(what, heard);
}

/// How much a filter leaves of an event: so much that it still says whose it is, for the witness hears it so, too.
const CUT: u32 = 60;

fn several(scene: &mut Scene<'_>) {
    let trio = [scene.member(), scene.member(), scene.member()];
    let [first, second, last] = trio;
    let speaker = scene.speaker();
    for lens in [
        [None, None, Some(CUT)],
        [None, Some(CUT + 9), Some(0)],
        [None, Some(CUT), None],
        [Some(CUT); 3],
        [Some(CUT), Some(CUT + 5), Some(CUT + 9)],
    ] {
        for (socket, len) in trio.into_iter().zip(lens) {
            let attached = match len {
                Some(len) => scene.host().attach(socket, &leave(len)),
                None => scene.host().attach(socket, &LEN),
            };
            attached.expect("a filter");
        }
        scene.rename(1);
        each(scene, &format!("an event, cut {lens:?}"), trio);
        scene.send_bytes(speaker, &[1; 72], 0, 1);
        each(scene, &format!("a message, cut {lens:?}"), trio);
    }
    for (socket, len) in [(first, 77), (second, 78), (last, CUT)] {
        scene.host().attach(socket, &leave(len)).expect("a filter");
    }
    scene.host().leave(second, 1).expect("left");
    scene.host().join(second, 1).expect("joined");
    scene.rename(1);
    each(scene, "the second left and came back", trio);
    for socket in [second, last] {
        scene.host().join(socket, 3).expect("joined");
        scene.host().leave(socket, 1).expect("left");
        scene.host().join(socket, 1).expect("joined");
    }
    scene.rename(1);
    each(scene, "two left and came back, with another group meanwhile", trio);
    scene.witness();
}

fn full(scene: &mut Scene<'_>) {
    let trio = [scene.member(), scene.member(), scene.member()];
    let speaker = scene.speaker();
    for (cuts, small) in [(1, 2), (2, 2), (1, 1), (2, 1)] {
        for (place, &socket) in trio.iter().enumerate() {
            let bytes = if place == small { 832 } else { 65536 };
            scene.host().force_rcvbuf(socket, bytes).expect("SO_RCVBUFFORCE");
            let program = leave(if place == cuts { CUT } else { 99 });
            scene.host().attach(socket, &program).expect("a filter");
        }
        scene.rename(4);
        each(scene, &format!("events; {cuts} cuts, {small} is full"), trio);
        (0..4).for_each(|_| _ = scene.send_bytes(speaker, &[1; 72], 0, 1));
        each(scene, &format!("messages; {cuts} cuts, {small} is full"), trio);
    }
    scene.witness();
}
