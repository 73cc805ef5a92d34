//! Moved by hand: everything has its order.

use std::os::fd::AsFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use pmon_core::Task;
use pmon_core::batch::Batch;
use pmon_core::source::{Received, Source};
use pmon_core::wire::SubscribeOp;
use pmon_fake::{
    Errno, Fault, FaultScript, FdSocket, FdSource, Kernel, OverrunSignal, PumpBlockedOn, PumpResult,
    RecvFlags, Trigger,
};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{SendFlags, recvfrom, send};

use super::{drain, event, is_ack, listen, next, numbers, request};

/// Events that can be between.
const BETWEEN: usize = 6;

/// A kernel, a wire whose consumer has subscribed and read the acknowledgement, and a process.
fn subscribed() -> (Kernel, FdSocket, OwnedFd, Task) {
    let mut kernel = Kernel::new(1);
    let mut wire = kernel.fd_socket().unwrap();
    let consumer = wire.consumer().unwrap();
    listen(&consumer);
    assert_eq!(pumped(&mut wire), (1, 1, PumpBlockedOn::Kernel));
    assert!(is_ack(&next(&consumer, RecvFlags::DONTWAIT).unwrap()));
    let task = kernel.add_process("busy");
    (kernel, wire, consumer, task)
}

fn pumped(wire: &mut FdSocket) -> (usize, usize, PumpBlockedOn) {
    let PumpResult { requests, datagrams, blocked_on } = wire.pump().unwrap();
    (requests, datagrams, blocked_on)
}

fn renames(kernel: &mut Kernel, task: Task, times: usize) {
    (0..times).for_each(|_| kernel.rename(task, "name"));
}

/// Pumps and reads until nothing moves.
fn exhaust(wire: &mut FdSocket, consumer: impl AsFd) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while wire.pump().unwrap().datagrams > 0 {
        all.extend(drain(&consumer).0);
    }
    all
}

#[test]
fn each_event_is_a_datagram_of_its_own_and_nobody_sent_it() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    renames(&mut kernel, task, 3);
    assert_eq!(pumped(&mut wire), (0, 3, PumpBlockedOn::Kernel));
    let mut buffer = [0; 4096];
    let (len, _, sender) = recvfrom(&consumer, &mut buffer, RecvFlags::PEEK).unwrap();
    assert_eq!((len, sender), (76, None));
    assert_eq!(numbers(&drain(&consumer).0), [1, 2, 3]);
    assert_eq!(next(&consumer, RecvFlags::DONTWAIT), Err(Errno::AGAIN));
}

#[test]
fn a_consumer_that_does_not_read_has_a_few_on_the_way_and_then_the_sockets_own_buffer() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    renames(&mut kernel, task, 300);
    // Nothing was moved: the buffer's limit is that of the model, exactly.
    assert_eq!(wire.socket().memory().drops, 300 - 256);
    assert_eq!(pumped(&mut wire), (0, BETWEEN, PumpBlockedOn::Consumer));
    assert_eq!(pumped(&mut wire), (0, 0, PumpBlockedOn::Consumer));
    assert_eq!(wire.socket().memory().rmem_alloc, (256 - BETWEEN as u32) * 832);
    // It is congested, as a socket is of which not all was read.
    renames(&mut kernel, task, 1);
    let first = drain(&consumer).0;
    let all = [first, exhaust(&mut wire, &consumer)].concat();
    assert_eq!(numbers(&all), (1..=256).collect::<Vec<_>>());
    renames(&mut kernel, task, 1);
    assert_eq!(numbers(&exhaust(&mut wire, &consumer)), [302]);
}

#[test]
fn a_datagram_of_any_length_goes_through_one_at_a_time() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    let mut forger = kernel.socket();
    renames(&mut kernel, task, 2);
    wire.socket().force_rcvbuf(1 << 24).unwrap();
    let lengths = [4_577, 20_000, 150_000, 212_960];
    for len in lengths {
        forger.send_to(&vec![7; len], 1, 1).unwrap_err();
    }
    // With a long one, no more than one other is on its way.
    let mut all = Vec::new();
    for expected in [2, 1, 1, 1, 1] {
        assert_eq!(wire.pump().unwrap().datagrams, expected);
        assert_eq!(wire.pump().unwrap().datagrams, 0);
        all.extend(drain(&consumer).0);
    }
    assert_eq!(all[2..].iter().map(Vec::len).collect::<Vec<_>>(), lengths);
    assert!(all[2..].iter().flatten().all(|&byte| byte == 7));
    renames(&mut kernel, task, 1);
    forger.send_to(&[7; 4_577], 1, 1).unwrap_err();
    assert_eq!(pumped(&mut wire), (0, 2, PumpBlockedOn::Kernel));
}

#[test]
fn an_overrun_is_a_gap_or_a_message_before_what_was_queued() {
    for overruns in [OverrunSignal::Gap, OverrunSignal::Message] {
        let (mut kernel, mut wire, consumer, task) = subscribed();
        wire.set_overrun_signal(overruns);
        renames(&mut kernel, task, 1);
        kernel.overrun(pmon_core::Cpu(0), 5);
        renames(&mut kernel, task, 1);
        let mut all = exhaust(&mut wire, &consumer);
        if overruns == OverrunSignal::Message {
            assert_eq!(all.remove(0), [&16_u32.to_ne_bytes()[..], &4_u16.to_ne_bytes(), &[0; 10]].concat());
        }
        assert_eq!(numbers(&all), [1, 7]);
    }
}

#[test]
fn an_overrun_that_has_no_room_is_told_when_there_is_some() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    wire.set_overrun_signal(OverrunSignal::Message);
    renames(&mut kernel, task, BETWEEN);
    assert_eq!(pumped(&mut wire), (0, BETWEEN, PumpBlockedOn::Kernel));
    kernel.overrun(pmon_core::Cpu(0), 2);
    renames(&mut kernel, task, 1);
    assert_eq!(pumped(&mut wire), (0, 0, PumpBlockedOn::Consumer));
    assert_eq!(numbers(&drain(&consumer).0), (1..=BETWEEN as u32).collect::<Vec<_>>());
    assert_eq!(pumped(&mut wire), (0, 2, PumpBlockedOn::Kernel));
    let found = drain(&consumer).0;
    assert_eq!((found[0].len(), event(&found[1]).seq.0), (16, 9));
}

#[test]
fn requests_have_their_effect_and_bad_ones_none() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    for bad in [&b""[..], b"short", &[0xff; 40_000]] {
        send(&consumer, bad, SendFlags::empty()).unwrap();
    }
    assert_eq!(pumped(&mut wire), (3, 0, PumpBlockedOn::Kernel));
    request(&consumer, SubscribeOp::Ignore);
    wire.pump().unwrap();
    renames(&mut kernel, task, 2);
    assert_eq!(pumped(&mut wire), (0, 0, PumpBlockedOn::Kernel));
    listen(&consumer);
    // After IGNORE nobody listened, and no number was taken.
    assert_eq!(numbers(&exhaust(&mut wire, &consumer)), [1]);
}

#[test]
fn more_requests_than_one_call_takes_are_for_the_next() {
    let (_kernel, mut wire, consumer, _) = subscribed();
    (0..100).for_each(|_| listen(&consumer));
    assert_eq!(pumped(&mut wire), (64, 0, PumpBlockedOn::NextPump));
    assert_eq!(pumped(&mut wire), (36, BETWEEN, PumpBlockedOn::Consumer));
}

#[test]
fn the_end_comes_behind_everything_and_requests_still_go() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    renames(&mut kernel, task, 10);
    kernel.end_of_file();
    assert_eq!(pumped(&mut wire), (0, BETWEEN, PumpBlockedOn::Consumer));
    assert!(!drain(&consumer).1);
    assert_eq!(pumped(&mut wire), (0, 10 - BETWEEN, PumpBlockedOn::ConsumerClose));
    let (rest, is_at_end) = drain(&consumer);
    assert_eq!((rest.len(), is_at_end), (10 - BETWEEN, true));
    assert_eq!(kernel.listeners(), 1);
    request(&consumer, SubscribeOp::Ignore);
    assert_eq!(pumped(&mut wire), (1, 0, PumpBlockedOn::ConsumerClose));
    assert_eq!(kernel.listeners(), 0);
    drop(consumer);
    assert_eq!(pumped(&mut wire), (0, 0, PumpBlockedOn::Closed));
}

#[test]
fn a_consumer_that_closes_has_closed_the_socket_after_its_last_request() {
    for unread in [0, 1, 300] {
        let (mut kernel, mut wire, consumer, task) = subscribed();
        renames(&mut kernel, task, unread);
        wire.pump().unwrap();
        request(&consumer, SubscribeOp::Ignore);
        drop(consumer);
        assert_eq!(pumped(&mut wire), (1, 0, PumpBlockedOn::Closed), "{unread} unread");
        assert_eq!(kernel.listeners(), 0);
        kernel.set_listeners(1);
        renames(&mut kernel, task, 1);
        assert_eq!(wire.socket().memory().rmem_alloc, 0);
        assert_eq!(pumped(&mut wire), (0, 0, PumpBlockedOn::Closed));
    }
}

#[test]
fn a_consumer_whose_wire_is_dropped_reads_what_was_sent_and_then_the_end() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    renames(&mut kernel, task, 2);
    wire.pump().unwrap();
    drop(wire);
    let (datagrams, is_at_end) = drain(&consumer);
    assert_eq!((numbers(&datagrams), is_at_end), (vec![1, 2], true));
    assert_eq!(send(&consumer, b"request", SendFlags::empty()), Err(Errno::PIPE));
}

#[test]
fn calls_that_a_script_lets_find_nothing_are_pumps() {
    let (mut kernel, mut wire, _consumer, task) = subscribed();
    kernel.inject(
        FaultScript::new().with(Trigger::At(0), Fault::Eagain(2.into()), None).with(
            Trigger::At(0),
            Fault::Eintr(9.into()),
            None,
        ),
        0,
    );
    renames(&mut kernel, task, 1);
    assert_eq!(pumped(&mut wire), (0, 0, PumpBlockedOn::NextPump));
    assert_eq!(pumped(&mut wire), (0, 0, PumpBlockedOn::NextPump));
    assert_eq!(pumped(&mut wire), (0, 1, PumpBlockedOn::Kernel));
}

#[test]
fn epoll_tells_the_truth_at_each_edge() {
    let mut kernel = Kernel::new(1);
    let mut wire = kernel.nonblocking_fd_socket().unwrap();
    let consumer = wire.consumer().unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut SourceFd(&consumer.as_raw_fd()), Token(3), Interest::READABLE).unwrap();
    let mut events = Events::with_capacity(4);
    let mut is_ready = || {
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().map(|event| (event.token(), event.is_readable(), event.is_read_closed())).next()
    };
    assert_eq!(is_ready(), None);
    listen(&consumer);
    let task = kernel.add_process("busy");
    assert_eq!(is_ready(), None);
    for _ in 0..3 {
        wire.pump().unwrap();
        renames(&mut kernel, task, 1);
        wire.pump().unwrap();
        assert_eq!(is_ready(), Some((Token(3), true, false)));
        // Edge-triggered: what was told is not told again,
        assert_eq!(is_ready(), None);
        assert!(!drain(&consumer).0.is_empty());
        assert_eq!(next(&consumer, RecvFlags::empty()), Err(Errno::AGAIN), "it does not block");
        assert_eq!(is_ready(), None);
    }
    kernel.end_of_file();
    wire.pump().unwrap();
    assert_eq!(is_ready(), Some((Token(3), true, true)));
    assert_eq!(drain(&consumer), (Vec::new(), true));
}

#[test]
fn a_source_of_it_tells_overruns_and_the_end_in_their_places() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    wire.set_overrun_signal(OverrunSignal::Message);
    let mut source = FdSource::new(consumer);
    let mut batch = Batch::with_capacity(2);
    let mut receive = || {
        batch.clear();
        let received = source.receive(&mut batch).unwrap();
        (received, batch.datagrams().map(|frame| event(frame.bytes).seq.0).collect::<Vec<_>>())
    };
    assert_eq!(receive(), (Received::Empty, vec![]));
    renames(&mut kernel, task, 1);
    wire.pump().unwrap();
    kernel.overrun(pmon_core::Cpu(0), 1);
    renames(&mut kernel, task, 2);
    kernel.end_of_file();
    wire.pump().unwrap();
    assert_eq!(receive(), (Received::Datagrams(1), vec![1]));
    assert_eq!(receive(), (Received::Overrun, vec![]));
    assert_eq!(receive(), (Received::Datagrams(2), vec![3, 4]));
    assert_eq!(receive(), (Received::Closed, vec![]));
    assert_eq!(receive(), (Received::Closed, vec![]));
}

#[test]
fn a_source_of_it_knows_a_datagram_of_no_bytes_from_the_end() {
    let (mut kernel, mut wire, consumer, task) = subscribed();
    kernel.inject(FaultScript::new().with(Trigger::At(1), Fault::Truncate(0.into()), None), 0);
    renames(&mut kernel, task, 3);
    wire.pump().unwrap();
    let mut source = FdSource::new(consumer);
    let mut batch = Batch::with_capacity(8);
    assert_eq!(source.receive(&mut batch), Ok(Received::Datagrams(3)));
    assert_eq!(batch.datagrams().map(|frame| frame.bytes.len()).collect::<Vec<_>>(), [76, 0, 76]);
}
