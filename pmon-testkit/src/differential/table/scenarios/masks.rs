//! Event masks: which events are received, which sockets receive the acknowledgement, and which
//! numbers are used.

use crate::differential::table::kernel::{ChildAction, ChildEnd, EmitAction};
use crate::differential::table::request::{IGNORE, LISTEN, RawRequest};
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "masks", without_listeners: false, perform: masks },
    Scenario { name: "a mask set and cleared", without_listeners: false, perform: on_and_off },
    Scenario { name: "masked events use no buffer", without_listeners: false, perform: buffer },
];

const MASKS: [u32; 24] = [
    0,
    0x1,
    0x2,
    0x4,
    0x8,
    0x10,
    0x40,
    0x80,
    0x100,
    0x200,
    0x3c7,
    0x3ff,
    0x1_0000,
    0x2000_0000,
    0x2000_0001,
    0x2000_0200,
    0x4000_0000,
    0x8000_0000,
    0x8000_0001,
    0xa000_0000,
    0xe000_03c6,
    0xe000_03c7,
    0x7fff_ffff,
    0xffff_ffff,
];

const ACTIONS: [EmitAction; 5] = [
    EmitAction::Rename,
    EmitAction::Child {
        actions: &[ChildAction::Session, ChildAction::Group, ChildAction::User],
        end: ChildEnd::Code(0),
    },
    EmitAction::Child { actions: &[], end: ChildEnd::Code(3) },
    EmitAction::Child { actions: &[], end: ChildEnd::Killed },
    EmitAction::Child { actions: &[], end: ChildEnd::Aborted },
];

fn masks(run: &mut ScenarioRun<'_>) {
    for mask in MASKS {
        let before = run.numbers(0);
        run.witness();
        let socket = run.member();
        run.send(socket, &RawRequest::masked(LISTEN, mask));
        let received = run.received(socket);
        run.note(format!("{mask:#x}: the ack, to itself"), received);
        let received = run.witness();
        run.note(format!("{mask:#x}: the ack, to another"), received);
        for action in ACTIONS {
            run.kernel().emit(0, action);
        }
        let received = run.received(socket);
        run.note(format!("{mask:#x}: events"), received);
        run.note_memory(format!("{mask:#x}: memory"), socket);
        run.close(socket);
        let numbers = run.numbers(0) - before;
        run.note(format!("{mask:#x}: numbers used"), numbers);
    }
}

fn on_and_off(run: &mut ScenarioRun<'_>) {
    let socket = run.listener();
    let requests = [
        ("a mask of SID", RawRequest::masked(LISTEN, 0x80)),
        ("a mask of COMM", RawRequest::masked(LISTEN, 0x200)),
        ("IGNORE with a mask of COMM", RawRequest::masked(IGNORE, 0x200)),
        ("a mask of COMM again", RawRequest::masked(LISTEN, 0x200)),
        ("LISTEN", RawRequest::new(LISTEN)),
        ("an invalid operation with a mask of SID", RawRequest::masked(5, 0x80)),
        ("an invalid operation with a mask of COMM", RawRequest::masked(5, 0x200)),
    ];
    for (label, request) in requests {
        run.send(socket, &request);
        run.rename(1);
        let received = run.received(socket);
        run.note(label, received);
        let received = run.witness();
        run.note(format!("{label}, to another"), received);
    }
}

fn buffer(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(1, false);
    run.send(socket, &RawRequest::masked(LISTEN, 0x80));
    run.rename(10);
    run.note_memory("ten events that are masked", socket);
    run.kernel().emit(0, EmitAction::Child { actions: &[ChildAction::Session], end: ChildEnd::Code(0) });
    let received = run.received(socket);
    run.note("an event that is not masked", received);
}
