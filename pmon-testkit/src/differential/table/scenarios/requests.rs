//! Requests, and which sockets receive which acknowledgement.

use crate::differential::table::kernel::SocketId;
use crate::differential::table::request::{ACK, IGNORE, LISTEN, RawRequest};
use crate::differential::table::run::{Scenario, ScenarioRun};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "LISTEN and IGNORE", without_listeners: false, perform: twice },
    Scenario { name: "a socket that is no member", without_listeners: false, perform: no_member },
    Scenario { name: "a member without a request", without_listeners: false, perform: never },
    Scenario { name: "operations", without_listeners: false, perform: operations },
    Scenario { name: "lengths of the payload", without_listeners: false, perform: payloads },
    Scenario { name: "lengths in the headers", without_listeners: false, perform: claims },
    Scenario { name: "truncated datagrams", without_listeners: false, perform: cuts },
    Scenario { name: "ids, types and flags", without_listeners: false, perform: headers },
    Scenario { name: "bytes after a request", without_listeners: false, perform: trailing_bytes },
    Scenario { name: "ack and seq of the request", without_listeners: false, perform: fields },
];

/// Sends a request from a socket, and notes which sockets receive what.
fn request(run: &mut ScenarioRun<'_>, label: &str, socket: SocketId, bytes: &[u8]) {
    run.witness();
    let sent = run.send_bytes(socket, bytes, 0, 0);
    let to_itself = run.received(socket);
    let to_another = run.witness();
    run.rename(1);
    let then = run.received(socket);
    run.note(format!("{label}: sent"), sent);
    run.note(format!("{label}: to itself"), to_itself);
    run.note(format!("{label}: to another"), to_another);
    run.note(format!("{label}: an event after it"), then);
}

/// Sends a request from a new member, as [`request`] does.
fn request_from_new_member(run: &mut ScenarioRun<'_>, label: &str, bytes: &[u8]) {
    let socket = run.member();
    request(run, label, socket, bytes);
    run.close(socket);
}

fn twice(run: &mut ScenarioRun<'_>) {
    let socket = run.member();
    for (label, operation) in [
        ("IGNORE first", IGNORE),
        ("IGNORE again", IGNORE),
        ("LISTEN", LISTEN),
        ("LISTEN again", LISTEN),
        ("IGNORE", IGNORE),
        ("IGNORE again after LISTEN", IGNORE),
        ("LISTEN once more", LISTEN),
    ] {
        request(run, label, socket, &RawRequest::new(operation).bytes());
    }
}

fn no_member(run: &mut ScenarioRun<'_>) {
    let socket = run.sender();
    request(run, "LISTEN", socket, &RawRequest::new(LISTEN).bytes());
    request(run, "IGNORE", socket, &RawRequest::new(IGNORE).bytes());
    let socket = run.socket();
    request(run, "LISTEN without a port", socket, &RawRequest::new(LISTEN).bytes());
}

fn never(run: &mut ScenarioRun<'_>) {
    let never = run.member();
    let listener = run.listener();
    run.rename(1);
    for (label, socket) in [("a member without a request", never), ("a listener", listener)] {
        let received = run.received(socket);
        run.note(label, received);
    }
}

fn operations(run: &mut ScenarioRun<'_>) {
    for operation in [0, 3, 4, 5, 99, 0x8000_0001, u32::MAX] {
        request_from_new_member(run, &format!("{operation:#x}"), &RawRequest::new(operation).bytes());
    }
}

fn payloads(run: &mut ScenarioRun<'_>) {
    let bytes = [&LISTEN.to_ne_bytes()[..], &[0; 20]].concat();
    for len in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24] {
        request_from_new_member(run, &format!("{len} B"), &RawRequest::with_payload(&bytes[..len]).bytes());
    }
}

fn claims(run: &mut ScenarioRun<'_>) {
    for len in [0, 3, 4, 5, 8, 20, u16::MAX] {
        let request = RawRequest { len: Some(len), ..RawRequest::new(LISTEN) };
        request_from_new_member(run, &format!("cn_msg.len {len} of 4"), &request.bytes());
    }
    for len in [0, 4, 8, 12] {
        let request = RawRequest { len: Some(len), ..RawRequest::masked(LISTEN, 0x80) };
        request_from_new_member(run, &format!("cn_msg.len {len} of 8"), &request.bytes());
    }
    for len in [0, 15, 16, 20, 35, 36, 39, 40, 41, 44, 1000, u32::MAX] {
        let request = RawRequest { nlmsg_len: Some(len), ..RawRequest::new(LISTEN) };
        request_from_new_member(run, &format!("nlmsg_len {len} of 40"), &request.bytes());
    }
}

fn cuts(run: &mut ScenarioRun<'_>) {
    let whole = RawRequest::new(LISTEN).bytes();
    for len in [0, 1, 4, 15, 16, 19, 20, 35, 36, 37, 39] {
        request_from_new_member(run, &format!("cut to {len} B"), &whole[..len]);
        let request = RawRequest { nlmsg_len: Some(len as u32), ..RawRequest::new(LISTEN) };
        request_from_new_member(
            run,
            &format!("cut to {len} B, also its length field"),
            &request.bytes()[..len],
        );
    }
}

fn headers(run: &mut ScenarioRun<'_>) {
    for id in [(0, 1), (2, 1), (1, 0), (1, 2), (u32::MAX, 1)] {
        request_from_new_member(
            run,
            &format!("id {:#x} {:#x}", id.0, id.1),
            &RawRequest { id, ..RawRequest::new(LISTEN) }.bytes(),
        );
    }
    for (nlmsg_type, nlmsg_flags) in
        [(0, 0), (1, 0), (2, 1), (3, 1), (3, 4), (3, 5), (16, 0x300), (u16::MAX, u16::MAX)]
    {
        let request = RawRequest { nlmsg_type, nlmsg_flags, ..RawRequest::new(LISTEN) };
        request_from_new_member(
            run,
            &format!("nlmsg_type {nlmsg_type} flags {nlmsg_flags:#x}"),
            &request.bytes(),
        );
    }
    request_from_new_member(
        run,
        "cn_msg.flags 0xffff",
        &RawRequest { flags: u16::MAX, ..RawRequest::new(LISTEN) }.bytes(),
    );
}

fn trailing_bytes(run: &mut ScenarioRun<'_>) {
    let ignore = RawRequest::new(IGNORE).bytes();
    request_from_new_member(
        run,
        "IGNORE after it",
        &RawRequest { trailing: ignore.clone(), ..RawRequest::new(LISTEN) }.bytes(),
    );
    let one = RawRequest { trailing: ignore, nlmsg_len: Some(80), ..RawRequest::new(LISTEN) };
    request_from_new_member(run, "IGNORE after it, as one message", &one.bytes());
    for len in [1, 16_360, 16_361, 20_000] {
        let request = RawRequest { trailing: vec![7; len], ..RawRequest::new(LISTEN) };
        request_from_new_member(run, &format!("{len} B after it"), &request.bytes());
        let request = RawRequest { nlmsg_len: Some(40 + len as u32), ..request };
        request_from_new_member(run, &format!("{len} B after it, as one message"), &request.bytes());
    }
}

fn fields(run: &mut ScenarioRun<'_>) {
    for (seq, ack) in [(0, 0), (u32::MAX, u32::MAX), (7, ACK + 1)] {
        request_from_new_member(
            run,
            &format!("seq {seq:#x} ack {ack:#x}"),
            &RawRequest { seq, ack, ..RawRequest::new(LISTEN) }.bytes(),
        );
    }
}
