//! Requests, and who hears which ack.

use crate::differential::table::host::Socket;
use crate::differential::table::request::{ACK, IGNORE, LISTEN, Raw};
use crate::differential::table::scene::{Scenario, Scene};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "LISTEN and IGNORE", from_silence: false, play: twice },
    Scenario { name: "who is no member", from_silence: false, play: no_member },
    Scenario { name: "who never asked", from_silence: false, play: never },
    Scenario { name: "operations", from_silence: false, play: operations },
    Scenario { name: "lengths of the payload", from_silence: false, play: payloads },
    Scenario { name: "lengths that are claimed", from_silence: false, play: claims },
    Scenario { name: "datagrams that are cut", from_silence: false, play: cuts },
    Scenario { name: "ids, types and flags", from_silence: false, play: headers },
    Scenario { name: "what stands behind a request", from_silence: false, play: behind },
    Scenario { name: "ack and seq of the request", from_silence: false, play: fields },
];

/// Sends a request from a socket, and notes who hears what, and the numbers it took.
fn ask(scene: &mut Scene<'_>, what: &str, socket: Socket, bytes: &[u8]) {
    scene.witness();
    let sent = scene.send_bytes(socket, bytes, 0, 0);
    let to_itself = scene.heard(socket);
    let to_another = scene.witness();
    scene.rename(1);
    let then = scene.heard(socket);
    scene.note(format!("{what}: sent"), sent);
    scene.note(format!("{what}: to itself"), to_itself);
    scene.note(format!("{what}: to another"), to_another);
    scene.note(format!("{what}: an event after it"), then);
}

/// The same from a new member.
fn ask_anew(scene: &mut Scene<'_>, what: &str, bytes: &[u8]) {
    let socket = scene.member();
    ask(scene, what, socket, bytes);
    scene.close(socket);
}

fn twice(scene: &mut Scene<'_>) {
    let socket = scene.member();
    for (what, operation) in [
        ("IGNORE first", IGNORE),
        ("IGNORE again", IGNORE),
        ("LISTEN", LISTEN),
        ("LISTEN again", LISTEN),
        ("IGNORE", IGNORE),
        ("IGNORE again after LISTEN", IGNORE),
        ("LISTEN once more", LISTEN),
    ] {
        ask(scene, what, socket, &Raw::new(operation).bytes());
    }
}

fn no_member(scene: &mut Scene<'_>) {
    let socket = scene.speaker();
    ask(scene, "LISTEN", socket, &Raw::new(LISTEN).bytes());
    ask(scene, "IGNORE", socket, &Raw::new(IGNORE).bytes());
    let socket = scene.socket();
    ask(scene, "LISTEN without a port", socket, &Raw::new(LISTEN).bytes());
}

fn never(scene: &mut Scene<'_>) {
    let never = scene.member();
    let listener = scene.listener();
    scene.rename(1);
    for (what, socket) in [("who never asked", never), ("who listens", listener)] {
        let heard = scene.heard(socket);
        scene.note(what, heard);
    }
}

fn operations(scene: &mut Scene<'_>) {
    for operation in [0, 3, 4, 5, 99, 0x8000_0001, u32::MAX] {
        ask_anew(scene, &format!("{operation:#x}"), &Raw::new(operation).bytes());
    }
}

fn payloads(scene: &mut Scene<'_>) {
    let bytes = [&LISTEN.to_ne_bytes()[..], &[0; 20]].concat();
    for len in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24] {
        ask_anew(scene, &format!("{len} B"), &Raw::of(&bytes[..len]).bytes());
    }
}

fn claims(scene: &mut Scene<'_>) {
    for len in [0, 3, 4, 5, 8, 20, u16::MAX] {
        let request = Raw { len: Some(len), ..Raw::new(LISTEN) };
        ask_anew(scene, &format!("cn_msg.len {len} of 4"), &request.bytes());
    }
    for len in [0, 4, 8, 12] {
        let request = Raw { len: Some(len), ..Raw::masked(LISTEN, 0x80) };
        ask_anew(scene, &format!("cn_msg.len {len} of 8"), &request.bytes());
    }
    for len in [0, 15, 16, 20, 35, 36, 39, 40, 41, 44, 1000, u32::MAX] {
        let request = Raw { nlmsg_len: Some(len), ..Raw::new(LISTEN) };
        ask_anew(scene, &format!("nlmsg_len {len} of 40"), &request.bytes());
    }
}

fn cuts(scene: &mut Scene<'_>) {
    let whole = Raw::new(LISTEN).bytes();
    for len in [0, 1, 4, 15, 16, 19, 20, 35, 36, 37, 39] {
        ask_anew(scene, &format!("cut to {len} B"), &whole[..len]);
        let request = Raw { nlmsg_len: Some(len as u32), ..Raw::new(LISTEN) };
        ask_anew(scene, &format!("cut to {len} B, as it says"), &request.bytes()[..len]);
    }
}

fn headers(scene: &mut Scene<'_>) {
    for id in [(0, 1), (2, 1), (1, 0), (1, 2), (u32::MAX, 1)] {
        ask_anew(scene, &format!("id {:#x} {:#x}", id.0, id.1), &Raw { id, ..Raw::new(LISTEN) }.bytes());
    }
    for (nlmsg_type, nlmsg_flags) in
        [(0, 0), (1, 0), (2, 1), (3, 1), (3, 4), (3, 5), (16, 0x300), (u16::MAX, u16::MAX)]
    {
        let request = Raw { nlmsg_type, nlmsg_flags, ..Raw::new(LISTEN) };
        ask_anew(scene, &format!("nlmsg_type {nlmsg_type} flags {nlmsg_flags:#x}"), &request.bytes());
    }
    ask_anew(scene, "cn_msg.flags 0xffff", &Raw { flags: u16::MAX, ..Raw::new(LISTEN) }.bytes());
}

fn behind(scene: &mut Scene<'_>) {
    let ignore = Raw::new(IGNORE).bytes();
    ask_anew(scene, "IGNORE behind it", &Raw { behind: ignore.clone(), ..Raw::new(LISTEN) }.bytes());
    let one = Raw { behind: ignore, nlmsg_len: Some(80), ..Raw::new(LISTEN) };
    ask_anew(scene, "IGNORE behind it, as one message", &one.bytes());
    for behind in [1, 16_360, 16_361, 20_000] {
        let request = Raw { behind: vec![7; behind], ..Raw::new(LISTEN) };
        ask_anew(scene, &format!("{behind} B behind it"), &request.bytes());
        let request = Raw { nlmsg_len: Some(40 + behind as u32), ..request };
        ask_anew(scene, &format!("{behind} B behind it, as one message"), &request.bytes());
    }
}

fn fields(scene: &mut Scene<'_>) {
    for (seq, ack) in [(0, 0), (u32::MAX, u32::MAX), (7, ACK + 1)] {
        ask_anew(scene, &format!("seq {seq:#x} ack {ack:#x}"), &Raw { seq, ack, ..Raw::new(LISTEN) }.bytes());
    }
}
