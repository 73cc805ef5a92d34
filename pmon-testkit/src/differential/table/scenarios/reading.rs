//! `recv`: peeking, short buffers, and the bytes of datagrams.

use crate::differential::table::kernel::{ChildAction, ChildEnd, EmitAction};
use crate::differential::table::request::{INVALID, LISTEN, RawRequest};
use crate::differential::table::run::{Scenario, ScenarioRun};
use pmon_core::wire::layout;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "recv on an empty queue", without_listeners: false, perform: empty },
    Scenario { name: "MSG_PEEK, MSG_TRUNC and short buffers", without_listeners: false, perform: short },
    Scenario { name: "MSG_PEEK and short buffers at an overrun", without_listeners: false, perform: overrun },
    Scenario {
        name: "peeking at the last datagram while congested",
        without_listeners: false,
        perform: peek_last,
    },
    Scenario { name: "the bytes", without_listeners: false, perform: words },
    Scenario { name: "numbers of two CPUs", without_listeners: false, perform: two_cpus },
];

const FLAGS: [(&str, i32); 4] = [
    ("", 0),
    (" TRUNC", libc::MSG_TRUNC),
    (" PEEK", libc::MSG_PEEK),
    (" PEEK|TRUNC", libc::MSG_PEEK | libc::MSG_TRUNC),
];

fn empty(run: &mut ScenarioRun<'_>) {
    let socket = run.listener();
    for (name, flags) in FLAGS {
        for len in [0, 76] {
            let received = run.recv_by(socket, len, flags);
            run.note(format!("{len} B{name}"), received);
        }
    }
    let received = run.recv_by(socket, 76, libc::MSG_OOB);
    run.note("76 B OOB", received);
}

fn short(run: &mut ScenarioRun<'_>) {
    for len in [0, 1, 16, 75, 76, 77, 4096] {
        for (name, flags) in FLAGS {
            let socket = run.listener();
            run.rename(2);
            let received = run.recv_by(socket, len, flags);
            run.note(format!("{len} B{name}"), lengths(&received));
            run.note_memory(format!("{len} B{name}, memory"), socket);
            run.close(socket);
        }
    }
}

/// Removes the number, which depends on earlier iterations.
fn lengths(received: &str) -> String {
    received.split(' ').filter(|word| !word.starts_with('#')).collect::<Vec<_>>().join(" ")
}

fn overrun(run: &mut ScenarioRun<'_>) {
    for (name, flags) in FLAGS {
        let socket = run.listener_with(1, false);
        run.rename(5);
        for n in ["1st", "2nd", "3rd", "4th"] {
            let received = run.recv_by(socket, 10, flags);
            run.note(format!("{n} recv, 10 B{name}"), received);
            run.note_memory(format!("{n} recv, 10 B{name}, memory"), socket);
        }
        run.rename(1);
        run.note_memory(format!("then an event{name}"), socket);
        run.close(socket);
    }
}

fn peek_last(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(1, false);
    run.rename(3);
    for n in ["1st", "2nd"] {
        let received = run.recv(socket);
        run.note(format!("{n} recv"), received);
    }
    let received = run.recv_by(socket, 76, libc::MSG_PEEK);
    run.note("peek", received);
    run.rename(1);
    run.note_memory("an event", socket);
    let received = run.received(socket);
    run.note("the rest", received);
}

fn words(run: &mut ScenarioRun<'_>) {
    let socket = run.member();
    run.send(socket, &RawRequest::new(LISTEN));
    run.rename(1);
    run.send(socket, &RawRequest::new(INVALID));
    let mut times = Vec::new();
    for label in ["an ack", "COMM", "an ack of an invalid request"] {
        match run.receive(socket, 128, 0) {
            Ok(received) => {
                let words = run.names().words(&received.bytes);
                run.note(label, words);
                times.extend(received.bytes[layout::TIMESTAMP_NS].try_into().map(u64::from_ne_bytes));
            }
            Err(errno) => run.note(label, errno),
        }
    }
    run.note("their times ascend", times.len() == 3 && times[0] > 0 && times.is_sorted());
    run.kernel().emit(
        0,
        EmitAction::Child {
            actions: &[ChildAction::Session, ChildAction::Group, ChildAction::User],
            end: ChildEnd::Code(3),
        },
    );
    let received = run.received(socket);
    run.note("a child that exits", received);
    run.kernel().emit(0, EmitAction::Child { actions: &[], end: ChildEnd::Killed });
    let received = run.received(socket);
    run.note("a child that is killed", received);
    run.kernel().emit(0, EmitAction::Child { actions: &[], end: ChildEnd::Aborted });
    let received = run.received(socket);
    run.note("a child that aborts", received);
}

fn two_cpus(run: &mut ScenarioRun<'_>) {
    if run.kernel().cpus() < 2 {
        return;
    }
    let socket = run.listener();
    for cpu in [0, 1, 1, 0, 1] {
        run.kernel().emit(cpu, EmitAction::Rename);
    }
    let received = run.received(socket);
    run.note("read", received);
}
