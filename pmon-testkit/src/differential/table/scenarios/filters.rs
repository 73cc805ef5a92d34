//! Filters: their effect on messages, and on other members of the group.

use crate::differential::table::kernel::{
    CallResult, ChildAction, ChildEnd, EmitAction, Instruction, SocketId,
};
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a filter that truncates", without_listeners: false, perform: lengths },
    Scenario { name: "a filter by kind", without_listeners: false, perform: by_kind },
    Scenario { name: "filters attached, replaced and detached", without_listeners: false, perform: changes },
    Scenario { name: "a filter that is locked", without_listeners: false, perform: locked },
    Scenario { name: "a filter and an overrun", without_listeners: false, perform: overrun },
    Scenario { name: "a filter and messages to its port", without_listeners: false, perform: unicast },
    Scenario { name: "filters of several sockets", without_listeners: false, perform: several },
    Scenario {
        name: "filters of several sockets, and full buffers",
        without_listeners: false,
        perform: full,
    },
];

/// A port that no other process uses.
const PORT: u32 = 0xd1ff_0001;

pub(crate) const fn op(code: u32, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

pub(crate) const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: code as u16, jt, jf, k }
}

/// Returns a program that truncates to `bytes` bytes.
const fn truncate(bytes: u32) -> [Instruction; 1] {
    [op(libc::BPF_RET, bytes)]
}

/// A program that accepts the whole message.
const LEN: [Instruction; 2] = [op(libc::BPF_LD | libc::BPF_LEN, 0), op(libc::BPF_RET | libc::BPF_A, 0)];

pub(crate) fn text(outcome: CallResult<()>) -> String {
    outcome.map_or_else(|errno| errno.to_string(), |()| "done".into())
}

/// Opens a member, and another one without a filter. The kernel serves the latter first, so that
/// the witness receives whole events.
pub(crate) fn guarded(run: &mut ScenarioRun<'_>) -> SocketId {
    let socket = run.member();
    run.member();
    socket
}

fn lengths(run: &mut ScenarioRun<'_>) {
    let socket = guarded(run);
    let sender = run.sender();
    for bytes in [0, 1, 16, 75, 76, 77, 1 << 31, u32::MAX] {
        run.kernel().attach(socket, &truncate(bytes)).expect("a filter");
        run.rename(1);
        run.note_memory(format!("{bytes} B of an event"), socket);
        let received = run.received(socket);
        run.note(format!("{bytes} B of an event, read"), received);
        run.send_bytes(sender, &[1; 5000], 0, 1);
        run.note_memory(format!("{bytes} B of 5000"), socket);
        let received = run.received(socket);
        run.note(format!("{bytes} B of 5000, read"), received);
    }
    run.kernel().attach(socket, &truncate(10)).expect("a filter");
    run.rename(1);
    let peeked = run.recv_by(socket, 4, libc::MSG_PEEK | libc::MSG_TRUNC);
    run.note("10 B, of which 4 are read", peeked);
    run.witness();
}

fn by_kind(run: &mut ScenarioRun<'_>) {
    let socket = guarded(run);
    // `proc_event.what` is in native byte order.
    let exit = 0x8000_0000_u32.to_be();
    let program = [
        op(libc::BPF_LD | libc::BPF_ABS, 36),
        jump(libc::BPF_JMP | libc::BPF_JEQ, exit, 0, 1),
        op(libc::BPF_RET, u32::MAX),
        op(libc::BPF_RET, 0),
    ];
    run.kernel().attach(socket, &program).expect("a filter");
    run.kernel().emit(0, EmitAction::Child { actions: &[ChildAction::Session], end: ChildEnd::Code(3) });
    run.rename(2);
    run.note_memory("a child, and renames", socket);
    let received = run.received(socket);
    run.note("read", received);
    run.witness();
}

fn changes(run: &mut ScenarioRun<'_>) {
    let socket = run.socket();
    let detached = text(run.kernel().detach(socket));
    run.note("detach without a filter", detached);
    let attached = text(run.kernel().attach(socket, &truncate(0)));
    run.note("attach before bind", attached);
    run.kernel().bind(socket, PORT, 1).expect("bound");
    run.member();
    for (label, program) in
        [("nothing", None), ("20 B", Some(truncate(20))), ("a bad one", Some(leave_bad()))]
    {
        let attached = program.map(|program| text(run.kernel().attach(socket, &program)));
        run.rename(2);
        let received = run.received(socket);
        run.note(format!("attach {label}"), format!("{attached:?}: {received}"));
    }
    let detached = text(run.kernel().detach(socket));
    run.rename(2);
    let received = run.received(socket);
    run.note("detach", format!("{detached}: {received}"));
    let detached = text(run.kernel().detach(socket));
    run.note("detach again", detached);
    run.witness();
}

const fn leave_bad() -> [Instruction; 1] {
    [op(libc::BPF_LD, 0)]
}

fn locked(run: &mut ScenarioRun<'_>) {
    for with in [false, true] {
        let socket = run.socket();
        let kernel = run.kernel();
        if with {
            kernel.attach(socket, &truncate(0)).expect("a filter");
        }
        let value = [
            kernel.lock(socket, false),
            kernel.lock(socket, true),
            kernel.attach(socket, &truncate(9)),
            kernel.attach(socket, &leave_bad()),
            kernel.detach(socket),
            kernel.lock(socket, false),
            kernel.lock(socket, true),
        ];
        run.note(format!("with a filter: {with}"), value.map(text).join(", "));
    }
}

fn overrun(run: &mut ScenarioRun<'_>) {
    let socket = guarded(run);
    run.kernel().force_rcvbuf(socket, 832).expect("SO_RCVBUFFORCE");
    run.kernel().attach(socket, &truncate(0)).expect("a filter");
    run.rename(10);
    run.note_memory("10 events that are rejected", socket);
    run.kernel().detach(socket).expect("no filter");
    run.rename(5);
    run.note_memory("5 events", socket);
    run.kernel().attach(socket, &truncate(0)).expect("a filter");
    run.rename(5);
    run.note_memory("5 that are rejected, congested", socket);
    let received = run.received(socket);
    run.note("read", received);
    run.rename(1);
    run.kernel().detach(socket).expect("no filter");
    run.rename(1);
    let received = run.received(socket);
    run.note("one that is rejected, and one", received);
    run.witness();
}

fn unicast(run: &mut ScenarioRun<'_>) {
    let socket = run.socket();
    run.kernel().bind(socket, PORT, 0).expect("bound");
    let sender = run.sender();
    for (label, program) in
        [("no filter", None), ("10 B", Some(truncate(10))), ("nothing", Some(truncate(0)))]
    {
        if let Some(program) = program {
            run.kernel().attach(socket, &program).expect("a filter");
        }
        for len in [3, 20, 3776, 3777, 5000, 40_000] {
            for groups in [0, 2] {
                let sent = run.send_bytes(sender, &vec![1; len], PORT, groups);
                run.note_memory(format!("{label}, {len} B, groups {groups}: sent {sent}"), socket);
                let received = run.received(socket);
                run.note(format!("{label}, {len} B, groups {groups}: read"), received);
            }
        }
    }
    run.kernel().detach(socket).expect("no filter");
    run.kernel().force_rcvbuf(socket, 832).expect("SO_RCVBUFFORCE");
    run.send_bytes(sender, &[1; 40], PORT, 0);
    run.send_bytes(sender, &[1; 40], PORT, 0);
    run.kernel().attach(socket, &truncate(0)).expect("a filter");
    let sent = run.send_bytes(sender, &[1; 40], PORT, 2);
    run.note_memory(format!("to a full queue, rejected: sent {sent}"), socket);
    let sent = run.send_bytes(socket, &[1; 40], 0, 0);
    run.note("to the kernel, through no filter", sent);
}

/// Notes what each socket receives.
fn each(run: &mut ScenarioRun<'_>, label: &str, sockets: [SocketId; 3]) {
    let received = sockets.map(|socket| run.received_lengths(socket)).join("; ");
    run.note(label, received);
}

/// Length to which a filter truncates an event. The witness receives the truncated event, too, and
/// needs this much to recognize it.
const CUT: u32 = 60;

fn several(run: &mut ScenarioRun<'_>) {
    let trio = [run.member(), run.member(), run.member()];
    let [first, second, last] = trio;
    let sender = run.sender();
    for lens in [
        [None, None, Some(CUT)],
        [None, Some(CUT + 9), Some(0)],
        [None, Some(CUT), None],
        [Some(CUT); 3],
        [Some(CUT), Some(CUT + 5), Some(CUT + 9)],
    ] {
        for (socket, len) in trio.into_iter().zip(lens) {
            let attached = match len {
                Some(len) => run.kernel().attach(socket, &truncate(len)),
                None => run.kernel().attach(socket, &LEN),
            };
            attached.expect("a filter");
        }
        run.rename(1);
        each(run, &format!("an event, cut {lens:?}"), trio);
        run.send_bytes(sender, &[1; 72], 0, 1);
        each(run, &format!("a message, cut {lens:?}"), trio);
    }
    for (socket, len) in [(first, 77), (second, 78), (last, CUT)] {
        run.kernel().attach(socket, &truncate(len)).expect("a filter");
    }
    run.kernel().leave(second, 1).expect("left");
    run.kernel().join(second, 1).expect("joined");
    run.rename(1);
    each(run, "the second left and joined again", trio);
    for socket in [second, last] {
        run.kernel().join(socket, 3).expect("joined");
        run.kernel().leave(socket, 1).expect("left");
        run.kernel().join(socket, 1).expect("joined");
    }
    run.rename(1);
    each(run, "two left and joined again, with another group meanwhile", trio);
    run.witness();
}

fn full(run: &mut ScenarioRun<'_>) {
    let trio = [run.member(), run.member(), run.member()];
    let sender = run.sender();
    for (cuts, small) in [(1, 2), (2, 2), (1, 1), (2, 1)] {
        for (index, &socket) in trio.iter().enumerate() {
            let bytes = if index == small { 832 } else { 65536 };
            run.kernel().force_rcvbuf(socket, bytes).expect("SO_RCVBUFFORCE");
            let program = truncate(if index == cuts { CUT } else { 99 });
            run.kernel().attach(socket, &program).expect("a filter");
        }
        run.rename(4);
        each(run, &format!("events; {cuts} cuts, {small} is full"), trio);
        (0..4).for_each(|_| _ = run.send_bytes(sender, &[1; 72], 0, 1));
        each(run, &format!("messages; {cuts} cuts, {small} is full"), trio);
    }
    run.witness();
}
