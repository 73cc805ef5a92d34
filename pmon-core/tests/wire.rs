//! The codec against what a real kernel sent, and against anything at all.

use pmon_core::wire::{
    ByteOrder, CN_MSG_LEN, Comm, EVENT_DATAGRAM_LEN, Event, EventBody, EventKind, Message, NLMSGHDR_LEN,
    SubscribeOp, SubscribeRequest, WireError, messages,
};
use pmon_core::{Cpu, MonoNs, Seq, Task};
use proptest::prelude::*;

mod shared {
    pub(super) mod events;
}

use shared::events::any_event;

const GOLDEN: &str = include_str!("golden/linux-6.18-x86_64.txt");
const LITTLE: ByteOrder = ByteOrder::Little;

fn golden() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    GOLDEN.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, hex) = line.split_once(' ').unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (name, (0..hex.len()).step_by(2).map(byte).collect())
    })
}

fn same(tid: u32) -> Task {
    Task::new(tid, tid)
}

#[test]
fn frames_of_a_real_kernel_mean_what_happened() {
    let parent = Some(same(10891));
    let exit = |tid, code| EventBody::Exit { task: same(tid), code, signal: 17, parent };
    let child = same(10933);
    let thread = Task::new(10932, 10891);
    let expected = [
        ("ack", 1, 13542, 8138581873799, EventBody::Ack { ack: 0x1235, err: 0 }),
        ("fork-thread", 1, 13543, 8138582042440, EventBody::Fork { parent: same(10800), child: thread }),
        (
            "comm",
            0,
            12089,
            8138582538212,
            EventBody::Comm { task: thread, comm: Comm(*b"golden-name-15c\0") },
        ),
        (
            "exit-thread",
            0,
            12090,
            8138582673133,
            EventBody::Exit { task: thread, code: 0, signal: u32::MAX, parent: Some(Task::new(0, 0)) },
        ),
        ("fork", 1, 13544, 8138583567448, EventBody::Fork { parent: same(10891), child }),
        ("sid", 0, 12091, 8138584907262, EventBody::Sid { task: child }),
        ("gid", 0, 12092, 8138584968573, EventBody::Gid { task: child, real: 1001, effective: 1002 }),
        ("uid", 0, 12093, 8138584990265, EventBody::Uid { task: child, real: 1003, effective: 1004 }),
        ("exit-status-7", 0, 12094, 8138585978555, exit(10933, 7 << 8)),
        ("ptrace-detach", 1, 13546, 8138588409081, EventBody::Ptrace { task: same(10934), tracer: same(0) }),
        ("exit-0", 0, 12095, 8138589261189, exit(10934, 0)),
        ("coredump", 0, 12096, 8138590995629, EventBody::Coredump { task: same(10935), parent }),
        ("exit-sigabrt-core", 1, 13548, 8138594254206, exit(10935, 6 | 0x80)),
        ("exec", 1, 13549, 8138595335084, EventBody::Exec { task: same(10936) }),
        (
            "ptrace-attach",
            1,
            13552,
            8138597028734,
            EventBody::Ptrace { task: same(10937), tracer: same(10891) },
        ),
        ("exit-sigkill", 0, 12098, 8138597555562, exit(10937, 9)),
    ];
    assert_eq!(golden().count(), expected.len());
    for ((name, frame), (expected_name, cpu, seq, time, body)) in golden().zip(expected) {
        assert_eq!(name, expected_name);
        let event = Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body };
        assert_eq!(Event::decode(&frame, LITTLE), Ok(event), "{name}");
        assert_eq!(event.encode(LITTLE).unwrap().as_slice(), frame, "{name}");
        assert_eq!(Event::from_exact(&frame, LITTLE), Some(event), "{name}");
    }
}

#[test]
fn a_short_datagram_names_the_field_and_the_place() {
    let (_, frame) = golden().find(|(name, _)| *name == "exit-status-7").unwrap();
    for cut in 0..NLMSGHDR_LEN {
        assert!(matches!(
            Event::decode(&frame[..cut], LITTLE),
            Err(WireError::Short { field: "nlmsghdr", .. })
        ));
    }
    let error = Event::decode(&frame[..50], LITTLE).unwrap_err();
    assert_eq!(error.to_string(), "nlmsghdr.nlmsg_len at offset 0 is 76, which is more than there is");

    let mut frame = frame;
    frame[32] = 60;
    let error = Event::decode(&frame, LITTLE).unwrap_err();
    assert_eq!(error.to_string(), "cn_msg.len at offset 32 is 60, which is more than the message holds");

    let short = shortened(&golden().find(|(name, _)| *name == "fork").unwrap().1, 28);
    let error = Event::decode(&short, LITTLE).unwrap_err();
    assert_eq!(error.to_string(), "fork.child_tgid at offset 64 needs 4 bytes, 0 are left");
}

/// The same message with a `proc_event` of `len` bytes, as an older kernel would send it.
fn shortened(frame: &[u8], len: usize) -> Vec<u8> {
    let mut frame = frame[..NLMSGHDR_LEN + CN_MSG_LEN + len].to_vec();
    let whole = frame.len() as u32;
    frame[..4].copy_from_slice(&whole.to_le_bytes());
    frame[32..34].copy_from_slice(&(len as u16).to_le_bytes());
    frame
}

#[test]
fn an_old_kernels_shorter_event_needs_only_the_fields_of_its_kind() {
    for (name, frame) in golden() {
        let needed = match name {
            "ack" => 20,
            "exec" | "sid" => 24,
            "comm" => 40,
            "coredump" => 24,
            _ => 32,
        };
        for len in 16..40 {
            let decoded = Event::decode(&shortened(&frame, len), LITTLE);
            let parent_is_cut = name.starts_with("exit") || name == "coredump";
            // A parent is there whole, or not at all.
            let whole = if parent_is_cut { len == needed || len >= needed + 8 } else { len >= needed };
            assert_eq!(decoded.is_ok(), whole, "{name} with {len} bytes");
            if len == needed && parent_is_cut {
                let (EventBody::Exit { parent, .. } | EventBody::Coredump { parent, .. }) =
                    decoded.unwrap().body
                else {
                    panic!("{name}")
                };
                assert_eq!(parent, None);
            }
        }
    }
}

#[test]
fn a_datagram_of_many_messages_is_walked_to_its_trailing_bytes() {
    let mut datagram = Vec::new();
    let mut control = |nlmsg_type: u16, payload: &[u8]| {
        let len = (NLMSGHDR_LEN + payload.len()) as u32;
        datagram.extend_from_slice(&len.to_le_bytes());
        datagram.extend_from_slice(&nlmsg_type.to_le_bytes());
        datagram.extend_from_slice(&[0; 10]);
        datagram.extend_from_slice(payload);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
    };
    control(1, &[]);
    control(2, &(-105_i32).to_le_bytes());
    control(4, &[]);
    control(0x1f, b"odd");
    let events: Vec<_> = golden().map(|(_, frame)| frame).take(2).collect();
    datagram.extend(events.concat());
    datagram.extend([1, 2, 3]);
    let mut walk = messages(&datagram, LITTLE);
    let read: Vec<_> = walk.by_ref().map(Result::unwrap).collect();
    assert_eq!(read[..3], [Message::Noop, Message::Error { errno: 105 }, Message::Overrun]);
    assert_eq!(read[3], Message::Other { nlmsg_type: 0x1f, payload: b"odd" });
    for (message, frame) in read[4..].iter().zip(&events) {
        assert_eq!(*message, Message::Event(Event::decode(frame, LITTLE).unwrap()));
    }
    assert_eq!((read.len(), walk.rest()), (6, [1, 2, 3].as_slice()));
}

#[test]
fn trailing_bytes_do_not_hide_an_event_and_are_not_exact() {
    let (_, mut frame) = golden().next().unwrap();
    let event = Event::decode(&frame, LITTLE).unwrap();
    frame.extend([0; 4]);
    assert_eq!(Event::decode(&frame, LITTLE), Ok(event));
    assert_eq!(Event::from_exact(&frame, LITTLE), None);
}

#[test]
fn an_unknown_kind_is_kept_as_a_number() {
    let (_, mut frame) = golden().next().unwrap();
    frame[36..40].copy_from_slice(&0x0100_0000_u32.to_le_bytes());
    let event = Event::decode(&frame, LITTLE).unwrap();
    assert_eq!((event.kind(), event.body), (EventKind::Unknown, EventBody::Unknown { what: 0x0100_0000 }));
    assert_eq!(event.encode(LITTLE), None);
}

#[test]
fn requests_are_those_that_the_kernel_takes() {
    let listen = SubscribeRequest::new(SubscribeOp::Listen, 0x1234).encode(4711, LITTLE);
    assert_eq!(listen.len(), 40);
    assert_eq!(listen[..16], [40, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0x67, 0x12, 0, 0]);
    assert_eq!(listen[16..], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
    let masked = SubscribeRequest { operation: SubscribeOp::Ignore, ack: 7, mask: Some(0x8000_0002) };
    let frame = masked.encode(0, LITTLE);
    assert_eq!((frame.len(), frame[32], &frame[36..]), (44, 8, [2, 0, 0, 0, 2, 0, 0, 0x80].as_slice()));
    let mut wrong = listen;
    wrong[36] = 9;
    assert!(messages(&wrong, LITTLE).next().unwrap().is_err());
}

fn any_order() -> impl Strategy<Value = ByteOrder> {
    prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)]
}

proptest! {
    #[test]
    fn every_event_comes_back_in_either_byte_order(event in any_event(), order in any_order()) {
        let frame = event.encode(order).unwrap();
        prop_assert_eq!(frame.len(), EVENT_DATAGRAM_LEN);
        prop_assert_eq!(Event::decode(&frame, order), Ok(event));
        prop_assert_eq!(Event::from_exact(&frame, order), Some(event));
        // The walk and the fast path agree.
        prop_assert_eq!(messages(&frame, order).next(), Some(Ok(Message::Event(event))));
    }

    #[test]
    fn every_request_comes_back(listen: bool, ack: u32, mask: Option<u32>, port: u32, order in any_order()) {
        let operation = if listen { SubscribeOp::Listen } else { SubscribeOp::Ignore };
        let request = SubscribeRequest { operation, ack, mask };
        let frame = request.encode(port, order);
        prop_assert_eq!(messages(&frame, order).next(), Some(Ok(Message::Request(request))));
    }

    /// No panic, no reading beyond the end, and no more messages than headers fit.
    #[test]
    fn any_bytes_are_walked_in_bounded_steps(bytes in prop::collection::vec(any::<u8>(), 0..400), order in any_order()) {
        prop_assert!(messages(&bytes, order).count() <= bytes.len() / NLMSGHDR_LEN);
        let _ = Event::decode(&bytes, order);
    }

    /// Bytes that look like events as far as the lengths go.
    #[test]
    fn damaged_frames_are_walked_in_bounded_steps(
        event in any_event(),
        damage in prop::collection::vec((0..EVENT_DATAGRAM_LEN, any::<u8>()), 0..6),
        cut in 0..=EVENT_DATAGRAM_LEN,
        order in any_order(),
    ) {
        let mut frame = event.encode(order).unwrap();
        damage.into_iter().for_each(|(at, byte)| frame[at] = byte);
        let frame = &frame[..cut];
        let decoded = Event::decode(frame, order);
        let walked = messages(frame, order).next();
        if let (Ok(event), Some(Ok(Message::Event(first)))) = (&decoded, &walked) {
            prop_assert_eq!(event, first);
        }
        prop_assert_eq!(decoded.is_ok(), matches!(walked, Some(Ok(Message::Event(_)))));
        if let Some(exact) = Event::from_exact(frame, order) {
            let again = exact.encode(order).unwrap();
            prop_assert_eq!(again.as_slice(), frame);
        }
    }
}
