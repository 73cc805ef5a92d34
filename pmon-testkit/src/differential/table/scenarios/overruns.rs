//! When `ENOBUFS` is reported, and which events are dropped.

use crate::differential::table::kernel::SocketId;
use crate::differential::table::request::{LISTEN, RawRequest};
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "an overrun, step by step", without_listeners: false, perform: |run| steps(run, false) },
    Scenario {
        name: "an overrun, step by step, NO_ENOBUFS",
        without_listeners: false,
        perform: |run| steps(run, true),
    },
    Scenario {
        name: "an overrun at each event read",
        without_listeners: false,
        perform: |run| each(run, false),
    },
    Scenario {
        name: "an overrun at each event read, NO_ENOBUFS",
        without_listeners: false,
        perform: |run| each(run, true),
    },
    Scenario { name: "NO_ENOBUFS switched on while congested", without_listeners: false, perform: on },
    Scenario {
        name: "NO_ENOBUFS switched on and off while congested",
        without_listeners: false,
        perform: on_and_off,
    },
    Scenario { name: "NO_ENOBUFS switched off while full", without_listeners: false, perform: off },
    Scenario { name: "SO_ERROR takes the overrun", without_listeners: false, perform: error },
    Scenario { name: "requests of a congested listener", without_listeners: false, perform: request },
];

/// A buffer for two events.
const SMALL: i32 = 1;

fn read(run: &mut ScenarioRun<'_>, label: &str, socket: SocketId) {
    let received = run.recv(socket);
    run.note(label, received);
    run.note_memory(format!("{label}, memory"), socket);
}

fn steps(run: &mut ScenarioRun<'_>, no_enobufs: bool) {
    let socket = run.listener_with(SMALL, no_enobufs);
    for n in 1..=4 {
        run.rename(1);
        run.note_memory(format!("event {n}"), socket);
    }
    read(run, "1st recv", socket);
    run.rename(1);
    run.note_memory("an event after it", socket);
    read(run, "2nd recv", socket);
    run.rename(2);
    run.note_memory("two events after it", socket);
    for n in ["3rd", "4th", "5th", "6th"] {
        read(run, &format!("{n} recv"), socket);
    }
    run.rename(3);
    run.note_memory("three events when it was empty", socket);
    for n in ["7th", "8th", "9th", "10th"] {
        read(run, &format!("{n} recv"), socket);
    }
    let numbers = run.numbers(0);
    run.note("numbers used", numbers);
}

fn each(run: &mut ScenarioRun<'_>, no_enobufs: bool) {
    let socket = run.listener_with(SMALL, no_enobufs);
    run.rename(5);
    for n in 1..=8 {
        read(run, &format!("recv {n}"), socket);
        run.rename(1);
        run.note_memory(format!("one more event {n}"), socket);
    }
}

fn on(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(SMALL, false);
    run.rename(5);
    run.kernel().set_no_enobufs(socket, true).expect("NETLINK_NO_ENOBUFS");
    run.note_memory("switched on", socket);
    run.rename(1);
    run.note_memory("an event, buffer full", socket);
    read(run, "1st recv", socket);
    read(run, "2nd recv", socket);
    run.rename(1);
    run.note_memory("an event, buffer not full", socket);
    let received = run.received(socket);
    run.note("the rest", received);
}

fn on_and_off(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(SMALL, false);
    run.rename(5);
    read(run, "1st recv", socket);
    read(run, "2nd recv", socket);
    run.kernel().set_no_enobufs(socket, true).expect("NETLINK_NO_ENOBUFS");
    run.kernel().set_no_enobufs(socket, false).expect("NETLINK_NO_ENOBUFS");
    run.rename(1);
    run.note_memory("an event, buffer not full", socket);
    run.rename(2);
    run.note_memory("two events, buffer full", socket);
    let received = run.received(socket);
    run.note("the rest", received);
}

fn off(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(SMALL, true);
    run.rename(5);
    run.kernel().set_no_enobufs(socket, false).expect("NETLINK_NO_ENOBUFS");
    read(run, "1st recv", socket);
    run.rename(3);
    run.note_memory("three events, one fits", socket);
    let received = run.received(socket);
    run.note("the rest", received);
}

fn error(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(SMALL, false);
    run.rename(5);
    for n in ["1st", "2nd"] {
        let error = run.kernel().take_error(socket);
        run.note(format!("{n} SO_ERROR"), error);
    }
    run.rename(1);
    run.note_memory("an event after it", socket);
    let received = run.received(socket);
    run.note("read", received);
    run.rename(1);
    let received = run.received(socket);
    run.note("an event, read", received);
}

fn request(run: &mut ScenarioRun<'_>) {
    let socket = run.listener_with(SMALL, false);
    run.rename(5);
    let sent = run.send(socket, &RawRequest::new(LISTEN));
    run.note("LISTEN sent", sent);
    run.note_memory("its ack", socket);
    let received = run.received(socket);
    run.note("read", received);
    let sent = run.send(socket, &RawRequest::new(LISTEN));
    run.note("LISTEN sent again", sent);
    let received = run.received(socket);
    run.note("read again", received);
}
