//! When `ENOBUFS` comes, and what is dropped.

use crate::differential::table::host::Socket;
use crate::differential::table::request::{LISTEN, Raw};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "an overrun, step by step", from_silence: false, play: |scene| steps(scene, false) },
    Scenario {
        name: "an overrun, step by step, NO_ENOBUFS",
        from_silence: false,
        play: |scene| steps(scene, true),
    },
    Scenario { name: "an overrun at each event read", from_silence: false, play: |scene| each(scene, false) },
    Scenario {
        name: "an overrun at each event read, NO_ENOBUFS",
        from_silence: false,
        play: |scene| each(scene, true),
    },
    Scenario { name: "NO_ENOBUFS switched on while congested", from_silence: false, play: on },
    Scenario {
        name: "NO_ENOBUFS switched on and off while congested",
        from_silence: false,
        play: on_and_off,
    },
    Scenario { name: "NO_ENOBUFS switched off while full", from_silence: false, play: off },
    Scenario { name: "SO_ERROR takes the overrun", from_silence: false, play: error },
    Scenario { name: "requests of a congested listener", from_silence: false, play: request },
];

/// Two events fit.
const SMALL: i32 = 1;

fn read(scene: &mut Scene<'_>, what: &str, socket: Socket) {
    let heard = scene.recv(socket);
    scene.note(what, heard);
    scene.note_memory(format!("{what}, memory"), socket);
}

fn steps(scene: &mut Scene<'_>, no_enobufs: bool) {
    let socket = scene.listener_with(SMALL, no_enobufs);
    for n in 1..=4 {
        scene.rename(1);
        scene.note_memory(format!("event {n}"), socket);
    }
    read(scene, "1st recv", socket);
    scene.rename(1);
    scene.note_memory("an event after it", socket);
    read(scene, "2nd recv", socket);
    scene.rename(2);
    scene.note_memory("two events after it", socket);
    for n in ["3rd", "4th", "5th", "6th"] {
        read(scene, &format!("{n} recv"), socket);
    }
    scene.rename(3);
    scene.note_memory("three events when it was empty", socket);
    for n in ["7th", "8th", "9th", "10th"] {
        read(scene, &format!("{n} recv"), socket);
    }
    let numbers = scene.numbers(0);
    scene.note("numbers taken", numbers);
}

fn each(scene: &mut Scene<'_>, no_enobufs: bool) {
    let socket = scene.listener_with(SMALL, no_enobufs);
    scene.rename(5);
    for n in 1..=8 {
        read(scene, &format!("recv {n}"), socket);
        scene.rename(1);
        scene.note_memory(format!("one more event {n}"), socket);
    }
}

fn on(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(SMALL, false);
    scene.rename(5);
    scene.host().set_no_enobufs(socket, true).expect("NETLINK_NO_ENOBUFS");
    scene.note_memory("switched on", socket);
    scene.rename(1);
    scene.note_memory("an event, no room", socket);
    read(scene, "1st recv", socket);
    read(scene, "2nd recv", socket);
    scene.rename(1);
    scene.note_memory("an event, room", socket);
    let heard = scene.heard(socket);
    scene.note("the rest", heard);
}

fn on_and_off(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(SMALL, false);
    scene.rename(5);
    read(scene, "1st recv", socket);
    read(scene, "2nd recv", socket);
    scene.host().set_no_enobufs(socket, true).expect("NETLINK_NO_ENOBUFS");
    scene.host().set_no_enobufs(socket, false).expect("NETLINK_NO_ENOBUFS");
    scene.rename(1);
    scene.note_memory("an event, room", socket);
    scene.rename(2);
    scene.note_memory("two events, no room", socket);
    let heard = scene.heard(socket);
    scene.note("the rest", heard);
}

fn off(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(SMALL, true);
    scene.rename(5);
    scene.host().set_no_enobufs(socket, false).expect("NETLINK_NO_ENOBUFS");
    read(scene, "1st recv", socket);
    scene.rename(3);
    scene.note_memory("three events, room for one", socket);
    let heard = scene.heard(socket);
    scene.note("the rest", heard);
}

fn error(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(SMALL, false);
    scene.rename(5);
    for n in ["1st", "2nd"] {
        let error = scene.host().take_error(socket);
        scene.note(format!("{n} SO_ERROR"), error);
    }
    scene.rename(1);
    scene.note_memory("an event after it", socket);
    let heard = scene.heard(socket);
    scene.note("read", heard);
    scene.rename(1);
    let heard = scene.heard(socket);
    scene.note("an event, read", heard);
}

fn request(scene: &mut Scene<'_>) {
    let socket = scene.listener_with(SMALL, false);
    scene.rename(5);
    let sent = scene.send(socket, &Raw::new(LISTEN));
    scene.note("LISTEN sent", sent);
    scene.note_memory("its ack", socket);
    let heard = scene.heard(socket);
    scene.note("read", heard);
    let sent = scene.send(socket, &Raw::new(LISTEN));
    scene.note("LISTEN sent again", sent);
    let heard = scene.heard(socket);
    scene.note("read again", heard);
}
