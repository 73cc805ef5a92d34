//! Tests the codec with datagrams of a real kernel and with arbitrary bytes.

use pmon_core::wire::{
    ByteOrder, CN_MSG_LEN, Comm, EVENT_DATAGRAM_LEN, Event, EventBody, EventKind, Message, NLMSGHDR_LEN,
    SubscribeOp, SubscribeRequest, WireError, layout, messages,
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

fn leader(tid: u32) -> Task {
    Task::new(tid, tid)
}

#[test]
fn datagrams_of_a_real_kernel_decode_to_the_events_that_caused_them() {
    let parent = Some(leader(10891));
    let exit = |tid, code| EventBody::Exit { task: leader(tid), code, signal: 17, parent };
    let child = leader(10933);
    let thread = Task::new(10932, 10891);
    let expected = [
        ("ack", 1, 13542, 8138581873799, EventBody::Ack { ack: 0x1235, err: 0 }),
        ("fork-thread", 1, 13543, 8138582042440, EventBody::Fork { parent: leader(10800), child: thread }),
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
        ("fork", 1, 13544, 8138583567448, EventBody::Fork { parent: leader(10891), child }),
        ("sid", 0, 12091, 8138584907262, EventBody::Sid { task: child }),
        ("gid", 0, 12092, 8138584968573, EventBody::Gid { task: child, real: 1001, effective: 1002 }),
        ("uid", 0, 12093, 8138584990265, EventBody::Uid { task: child, real: 1003, effective: 1004 }),
        ("exit-status-7", 0, 12094, 8138585978555, exit(10933, 7 << 8)),
        (
            "ptrace-detach",
            1,
            13546,
            8138588409081,
            EventBody::Ptrace { task: leader(10934), tracer: leader(0) },
        ),
        ("exit-0", 0, 12095, 8138589261189, exit(10934, 0)),
        ("coredump", 0, 12096, 8138590995629, EventBody::Coredump { task: leader(10935), parent }),
        ("exit-sigabrt-core", 1, 13548, 8138594254206, exit(10935, 6 | 0x80)),
        ("exec", 1, 13549, 8138595335084, EventBody::Exec { task: leader(10936) }),
        (
            "ptrace-attach",
            1,
            13552,
            8138597028734,
            EventBody::Ptrace { task: leader(10937), tracer: leader(10891) },
        ),
        ("exit-sigkill", 0, 12098, 8138597555562, exit(10937, 9)),
    ];
    assert_eq!(golden().count(), expected.len());
    for ((name, datagram), (expected_name, cpu, seq, time, body)) in golden().zip(expected) {
        assert_eq!(name, expected_name);
        let event = Event { time: MonoNs(time), seq: Seq(seq), cpu: Cpu(cpu), body };
        assert_eq!(Event::decode(&datagram, LITTLE), Ok(event), "{name}");
        assert_eq!(event.encode(LITTLE).unwrap().as_slice(), datagram, "{name}");
        assert_eq!(Event::from_exact(&datagram, LITTLE), Some(event), "{name}");
    }
}

#[test]
fn the_error_for_a_short_datagram_names_the_field_and_its_offset() {
    let (_, datagram) = golden().find(|(name, _)| *name == "exit-status-7").unwrap();
    for cut in 0..NLMSGHDR_LEN {
        assert!(matches!(
            Event::decode(&datagram[..cut], LITTLE),
            Err(WireError::Short { field: "nlmsghdr", .. })
        ));
    }
    let error = Event::decode(&datagram[..50], LITTLE).unwrap_err();
    assert_eq!(error.to_string(), "nlmsghdr.nlmsg_len at offset 0 is 76, which is more than there is");

    let mut datagram = datagram;
    datagram[layout::CN_LEN.start] = 60;
    let error = Event::decode(&datagram, LITTLE).unwrap_err();
    assert_eq!(error.to_string(), "cn_msg.len at offset 32 is 60, which is more than the message holds");

    let short = shortened(&golden().find(|(name, _)| *name == "fork").unwrap().1, 28);
    let error = Event::decode(&short, LITTLE).unwrap_err();
    assert_eq!(error.to_string(), "fork.child_tgid at offset 64 needs 4 bytes, 0 are left");
}

/// Returns the message with a `proc_event` of `len` bytes, as an older kernel sends it.
fn shortened(datagram: &[u8], len: usize) -> Vec<u8> {
    let mut datagram = datagram[..NLMSGHDR_LEN + CN_MSG_LEN + len].to_vec();
    let whole = datagram.len() as u32;
    datagram[layout::NLMSG_LEN].copy_from_slice(&whole.to_le_bytes());
    datagram[layout::CN_LEN].copy_from_slice(&(len as u16).to_le_bytes());
    datagram
}

#[test]
fn a_shorter_event_of_an_old_kernel_needs_only_the_fields_of_its_kind() {
    for (name, datagram) in golden() {
        let needed = match name {
            "ack" => 20,
            "exec" | "sid" => 24,
            "comm" => 40,
            "coredump" => 24,
            _ => 32,
        };
        for len in 16..40 {
            let decoded = Event::decode(&shortened(&datagram, len), LITTLE);
            let parent_is_cut = name.starts_with("exit") || name == "coredump";
            // The parent is either complete or absent.
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
fn all_messages_of_a_datagram_are_returned_and_the_trailing_bytes_are_left() {
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
    let events: Vec<_> = golden().map(|(_, datagram)| datagram).take(2).collect();
    datagram.extend(events.concat());
    datagram.extend([1, 2, 3]);
    let mut walk = messages(&datagram, LITTLE);
    let read: Vec<_> = walk.by_ref().map(Result::unwrap).collect();
    assert_eq!(read[..3], [Message::Noop, Message::Error { errno: 105 }, Message::Overrun]);
    assert_eq!(read[3], Message::Other { nlmsg_type: 0x1f, payload: b"odd" });
    for (message, datagram) in read[4..].iter().zip(&events) {
        assert_eq!(*message, Message::Event(Event::decode(datagram, LITTLE).unwrap()));
    }
    assert_eq!((read.len(), walk.rest()), (6, [1, 2, 3].as_slice()));
}

#[test]
fn an_event_with_trailing_bytes_decodes_and_is_not_exact() {
    let (_, mut datagram) = golden().next().unwrap();
    let event = Event::decode(&datagram, LITTLE).unwrap();
    datagram.extend([0; 4]);
    assert_eq!(Event::decode(&datagram, LITTLE), Ok(event));
    assert_eq!(Event::from_exact(&datagram, LITTLE), None);
}

#[test]
fn an_unknown_kind_is_kept_as_a_number() {
    let (_, mut datagram) = golden().next().unwrap();
    datagram[layout::WHAT].copy_from_slice(&0x0100_0000_u32.to_le_bytes());
    let event = Event::decode(&datagram, LITTLE).unwrap();
    assert_eq!((event.kind(), event.body), (EventKind::Unknown, EventBody::Unknown { what: 0x0100_0000 }));
    assert_eq!(event.encode(LITTLE), None);
}

#[test]
fn requests_have_the_bytes_that_the_kernel_accepts() {
    let listen = SubscribeRequest::new(SubscribeOp::Listen, 0x1234).encode(4711, LITTLE);
    assert_eq!(listen.len(), 40);
    assert_eq!(listen[..16], [40, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0x67, 0x12, 0, 0]);
    assert_eq!(listen[16..], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
    let masked = SubscribeRequest { operation: SubscribeOp::Ignore, ack: 7, mask: Some(0x8000_0002) };
    let datagram = masked.encode(0, LITTLE);
    assert_eq!(
        (datagram.len(), datagram[layout::CN_LEN.start], &datagram[layout::PAYLOAD..]),
        (44, 8, [2, 0, 0, 0, 2, 0, 0, 0x80].as_slice())
    );
    let mut wrong = listen;
    wrong[36] = 9;
    assert!(messages(&wrong, LITTLE).next().unwrap().is_err());
}

fn any_order() -> impl Strategy<Value = ByteOrder> {
    prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)]
}

proptest! {
    #[test]
    fn every_event_survives_encoding_in_either_byte_order(event in any_event(), order in any_order()) {
        let datagram = event.encode(order).unwrap();
        prop_assert_eq!(datagram.len(), EVENT_DATAGRAM_LEN);
        prop_assert_eq!(Event::decode(&datagram, order), Ok(event));
        prop_assert_eq!(Event::from_exact(&datagram, order), Some(event));
        // `messages` and the fast path agree.
        prop_assert_eq!(messages(&datagram, order).next(), Some(Ok(Message::Event(event))));
    }

    #[test]
    fn every_request_survives_encoding(listen: bool, ack: u32, mask: Option<u32>, port: u32, order in any_order()) {
        let operation = if listen { SubscribeOp::Listen } else { SubscribeOp::Ignore };
        let request = SubscribeRequest { operation, ack, mask };
        let datagram = request.encode(port, order);
        prop_assert_eq!(messages(&datagram, order).next(), Some(Ok(Message::Request(request))));
    }

    /// Arbitrary bytes cause no panic, and yield no more messages than headers fit.
    #[test]
    fn iteration_over_any_bytes_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..400), order in any_order()) {
        prop_assert!(messages(&bytes, order).count() <= bytes.len() / NLMSGHDR_LEN);
        let _ = Event::decode(&bytes, order);
    }

    /// The bytes have the lengths of events, and random damage.
    #[test]
    fn iteration_over_damaged_events_is_bounded(
        event in any_event(),
        damage in prop::collection::vec((0..EVENT_DATAGRAM_LEN, any::<u8>()), 0..6),
        cut in 0..=EVENT_DATAGRAM_LEN,
        order in any_order(),
    ) {
        let mut datagram = event.encode(order).unwrap();
        damage.into_iter().for_each(|(at, byte)| datagram[at] = byte);
        let datagram = &datagram[..cut];
        let decoded = Event::decode(datagram, order);
        let first = messages(datagram, order).next();
        if let (Ok(event), Some(Ok(Message::Event(first)))) = (&decoded, &first) {
            prop_assert_eq!(event, first);
        }
        prop_assert_eq!(decoded.is_ok(), matches!(first, Some(Ok(Message::Event(_)))));
        if let Some(exact) = Event::from_exact(datagram, order) {
            let encoded = exact.encode(order).unwrap();
            prop_assert_eq!(encoded.as_slice(), datagram);
        }
    }
}
