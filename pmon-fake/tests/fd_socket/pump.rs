//! `FdSocket::pump`, called by the test itself.

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

use super::{drain, event, is_ack, listen, next, request, seqs};

/// Maximum number of events in transit between the fake socket and the consumer.
const IN_TRANSIT: usize = 6;

/// Returns a kernel, a socket whose consumer has received its acknowledgement, the consumer, and a
/// process.
fn subscribed() -> (Kernel, FdSocket, OwnedFd, Task) {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.fd_socket().unwrap();
    let consumer = fd_socket.consumer().unwrap();
    listen(&consumer);
    assert_eq!(pump(&mut fd_socket), (1, 1, PumpBlockedOn::Kernel));
    assert!(is_ack(&next(&consumer, RecvFlags::DONTWAIT).unwrap()));
    let task = kernel.add_process("busy");
    (kernel, fd_socket, consumer, task)
}

fn pump(fd_socket: &mut FdSocket) -> (usize, usize, PumpBlockedOn) {
    let PumpResult { requests, datagrams, blocked_on } = fd_socket.pump().unwrap();
    (requests, datagrams, blocked_on)
}

fn renames(kernel: &mut Kernel, task: Task, times: usize) {
    (0..times).for_each(|_| kernel.rename(task, "name"));
}

/// Pumps and receives until nothing is left.
fn pump_and_drain(fd_socket: &mut FdSocket, consumer: impl AsFd) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while fd_socket.pump().unwrap().datagrams > 0 {
        all.extend(drain(&consumer).0);
    }
    all
}

#[test]
fn each_event_is_one_datagram_without_a_sender_address() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    renames(&mut kernel, task, 3);
    assert_eq!(pump(&mut fd_socket), (0, 3, PumpBlockedOn::Kernel));
    let mut buffer = [0; 4096];
    let (len, _, sender) = recvfrom(&consumer, &mut buffer, RecvFlags::PEEK).unwrap();
    assert_eq!((len, sender), (76, None));
    assert_eq!(seqs(&drain(&consumer).0), [1, 2, 3]);
    assert_eq!(next(&consumer, RecvFlags::DONTWAIT), Err(Errno::AGAIN));
}

#[test]
fn a_slow_consumer_has_the_datagrams_in_transit_and_the_sockets_own_buffer() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    renames(&mut kernel, task, 300);
    // Nothing is in transit yet, so that exactly the model's buffer limits the queue.
    assert_eq!(fd_socket.socket().memory().drops, 300 - 256);
    assert_eq!(pump(&mut fd_socket), (0, IN_TRANSIT, PumpBlockedOn::Consumer));
    assert_eq!(pump(&mut fd_socket), (0, 0, PumpBlockedOn::Consumer));
    assert_eq!(fd_socket.socket().memory().rmem_alloc, (256 - IN_TRANSIT as u32) * 832);
    // The socket is still congested, because its queue is not empty.
    renames(&mut kernel, task, 1);
    let first = drain(&consumer).0;
    let all = [first, pump_and_drain(&mut fd_socket, &consumer)].concat();
    assert_eq!(seqs(&all), (1..=256).collect::<Vec<_>>());
    renames(&mut kernel, task, 1);
    assert_eq!(seqs(&pump_and_drain(&mut fd_socket, &consumer)), [302]);
}

#[test]
fn long_datagrams_are_transferred_one_at_a_time() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    let mut forger = kernel.socket();
    renames(&mut kernel, task, 2);
    fd_socket.socket().force_rcvbuf(1 << 24).unwrap();
    let lengths = [4_577, 20_000, 150_000, 212_960];
    for len in lengths {
        forger.send_to(&vec![7; len], 1, 1).unwrap_err();
    }
    // While a long datagram is in transit, at most one event before it is.
    let mut all = Vec::new();
    for expected in [2, 1, 1, 1, 1] {
        assert_eq!(fd_socket.pump().unwrap().datagrams, expected);
        assert_eq!(fd_socket.pump().unwrap().datagrams, 0);
        all.extend(drain(&consumer).0);
    }
    assert_eq!(all[2..].iter().map(Vec::len).collect::<Vec<_>>(), lengths);
    assert!(all[2..].iter().flatten().all(|&byte| byte == 7));
    renames(&mut kernel, task, 1);
    forger.send_to(&[7; 4_577], 1, 1).unwrap_err();
    assert_eq!(pump(&mut fd_socket), (0, 2, PumpBlockedOn::Kernel));
}

#[test]
fn an_overrun_is_a_gap_or_a_message_before_queued_datagrams() {
    for signal in [OverrunSignal::Gap, OverrunSignal::Message] {
        let (mut kernel, mut fd_socket, consumer, task) = subscribed();
        fd_socket.set_overrun_signal(signal);
        renames(&mut kernel, task, 1);
        kernel.overrun(pmon_core::Cpu(0), 5);
        renames(&mut kernel, task, 1);
        let mut all = pump_and_drain(&mut fd_socket, &consumer);
        if signal == OverrunSignal::Message {
            assert_eq!(all.remove(0), [&16_u32.to_ne_bytes()[..], &4_u16.to_ne_bytes(), &[0; 10]].concat());
        }
        assert_eq!(seqs(&all), [1, 7]);
    }
}

#[test]
fn an_overrun_message_without_room_is_sent_later() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    fd_socket.set_overrun_signal(OverrunSignal::Message);
    renames(&mut kernel, task, IN_TRANSIT);
    assert_eq!(pump(&mut fd_socket), (0, IN_TRANSIT, PumpBlockedOn::Kernel));
    kernel.overrun(pmon_core::Cpu(0), 2);
    renames(&mut kernel, task, 1);
    assert_eq!(pump(&mut fd_socket), (0, 0, PumpBlockedOn::Consumer));
    assert_eq!(seqs(&drain(&consumer).0), (1..=IN_TRANSIT as u32).collect::<Vec<_>>());
    assert_eq!(pump(&mut fd_socket), (0, 2, PumpBlockedOn::Kernel));
    let datagrams = drain(&consumer).0;
    assert_eq!((datagrams[0].len(), event(&datagrams[1]).seq.0), (16, 9));
}

#[test]
fn requests_take_effect_and_invalid_ones_do_not() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    for invalid in [&b""[..], b"short", &[0xff; 40_000]] {
        send(&consumer, invalid, SendFlags::empty()).unwrap();
    }
    assert_eq!(pump(&mut fd_socket), (3, 0, PumpBlockedOn::Kernel));
    request(&consumer, SubscribeOp::Ignore);
    fd_socket.pump().unwrap();
    renames(&mut kernel, task, 2);
    assert_eq!(pump(&mut fd_socket), (0, 0, PumpBlockedOn::Kernel));
    listen(&consumer);
    // After IGNORE no listener was left, and no sequence number was used.
    assert_eq!(seqs(&pump_and_drain(&mut fd_socket, &consumer)), [1]);
}

#[test]
fn requests_above_the_limit_are_transferred_by_the_next_pump() {
    let (_kernel, mut fd_socket, consumer, _) = subscribed();
    (0..100).for_each(|_| listen(&consumer));
    assert_eq!(pump(&mut fd_socket), (64, 0, PumpBlockedOn::NextPump));
    assert_eq!(pump(&mut fd_socket), (36, IN_TRANSIT, PumpBlockedOn::Consumer));
}

#[test]
fn the_end_of_file_comes_last_and_requests_are_still_transferred() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    renames(&mut kernel, task, 10);
    kernel.end_of_file();
    assert_eq!(pump(&mut fd_socket), (0, IN_TRANSIT, PumpBlockedOn::Consumer));
    assert!(!drain(&consumer).1);
    assert_eq!(pump(&mut fd_socket), (0, 10 - IN_TRANSIT, PumpBlockedOn::ConsumerClose));
    let (rest, is_at_end) = drain(&consumer);
    assert_eq!((rest.len(), is_at_end), (10 - IN_TRANSIT, true));
    assert_eq!(kernel.listeners(), 1);
    request(&consumer, SubscribeOp::Ignore);
    assert_eq!(pump(&mut fd_socket), (1, 0, PumpBlockedOn::ConsumerClose));
    assert_eq!(kernel.listeners(), 0);
    drop(consumer);
    assert_eq!(pump(&mut fd_socket), (0, 0, PumpBlockedOn::Closed));
}

#[test]
fn closing_the_consumer_closes_the_socket_after_its_last_request() {
    for unread in [0, 1, 300] {
        let (mut kernel, mut fd_socket, consumer, task) = subscribed();
        renames(&mut kernel, task, unread);
        fd_socket.pump().unwrap();
        request(&consumer, SubscribeOp::Ignore);
        drop(consumer);
        assert_eq!(pump(&mut fd_socket), (1, 0, PumpBlockedOn::Closed), "{unread} unread");
        assert_eq!(kernel.listeners(), 0);
        kernel.set_listeners(1);
        renames(&mut kernel, task, 1);
        assert_eq!(fd_socket.socket().memory().rmem_alloc, 0);
        assert_eq!(pump(&mut fd_socket), (0, 0, PumpBlockedOn::Closed));
    }
}

#[test]
fn after_the_fd_socket_is_dropped_the_consumer_reads_what_was_sent_and_the_end_of_file() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    renames(&mut kernel, task, 2);
    fd_socket.pump().unwrap();
    drop(fd_socket);
    let (datagrams, is_at_end) = drain(&consumer);
    assert_eq!((seqs(&datagrams), is_at_end), (vec![1, 2], true));
    assert_eq!(send(&consumer, b"request", SendFlags::empty()), Err(Errno::PIPE));
}

#[test]
fn the_fault_eagain_applies_to_pumps_and_eintr_does_not() {
    let (mut kernel, mut fd_socket, _consumer, task) = subscribed();
    kernel.inject(
        FaultScript::new().with(Trigger::At(0), Fault::Eagain(2.into()), None).with(
            Trigger::At(0),
            Fault::Eintr(9.into()),
            None,
        ),
        0,
    );
    renames(&mut kernel, task, 1);
    assert_eq!(pump(&mut fd_socket), (0, 0, PumpBlockedOn::NextPump));
    assert_eq!(pump(&mut fd_socket), (0, 0, PumpBlockedOn::NextPump));
    assert_eq!(pump(&mut fd_socket), (0, 1, PumpBlockedOn::Kernel));
}

#[test]
fn edge_triggered_epoll_reports_each_new_datagram_once() {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.nonblocking_fd_socket().unwrap();
    let consumer = fd_socket.consumer().unwrap();
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
        fd_socket.pump().unwrap();
        renames(&mut kernel, task, 1);
        fd_socket.pump().unwrap();
        assert_eq!(is_ready(), Some((Token(3), true, false)));
        // Edge-triggered readiness is reported once.
        assert_eq!(is_ready(), None);
        assert!(!drain(&consumer).0.is_empty());
        assert_eq!(next(&consumer, RecvFlags::empty()), Err(Errno::AGAIN), "it does not block");
        assert_eq!(is_ready(), None);
    }
    kernel.end_of_file();
    fd_socket.pump().unwrap();
    assert_eq!(is_ready(), Some((Token(3), true, true)));
    assert_eq!(drain(&consumer), (Vec::new(), true));
}

#[test]
fn fd_source_reports_overruns_and_the_end_in_order() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    fd_socket.set_overrun_signal(OverrunSignal::Message);
    let mut source = FdSource::new(consumer);
    let mut batch = Batch::with_capacity(2);
    let mut receive = || {
        batch.clear();
        let received = source.receive(&mut batch).unwrap();
        (received, batch.datagrams().map(|datagram| event(datagram.bytes).seq.0).collect::<Vec<_>>())
    };
    assert_eq!(receive(), (Received::Empty, vec![]));
    renames(&mut kernel, task, 1);
    fd_socket.pump().unwrap();
    kernel.overrun(pmon_core::Cpu(0), 1);
    renames(&mut kernel, task, 2);
    kernel.end_of_file();
    fd_socket.pump().unwrap();
    assert_eq!(receive(), (Received::Datagrams(1), vec![1]));
    assert_eq!(receive(), (Received::Overrun, vec![]));
    assert_eq!(receive(), (Received::Datagrams(2), vec![3, 4]));
    assert_eq!(receive(), (Received::Closed, vec![]));
    assert_eq!(receive(), (Received::Closed, vec![]));
}

#[test]
fn fd_source_distinguishes_an_empty_datagram_from_the_end() {
    let (mut kernel, mut fd_socket, consumer, task) = subscribed();
    kernel.inject(FaultScript::new().with(Trigger::At(1), Fault::Truncate(0.into()), None), 0);
    renames(&mut kernel, task, 3);
    fd_socket.pump().unwrap();
    let mut source = FdSource::new(consumer);
    let mut batch = Batch::with_capacity(8);
    assert_eq!(source.receive(&mut batch), Ok(Received::Datagrams(3)));
    assert_eq!(batch.datagrams().map(|datagram| datagram.bytes.len()).collect::<Vec<_>>(), [76, 0, 76]);
}
