//! Moved by a thread.

use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use pmon_core::wire::SubscribeOp;
use pmon_fake::{Fault, FaultScript, Kernel, RecvFlags, Trigger};

use super::{drain, event, is_ack, listen, next, numbers, request};

/// Nothing here takes so long, unless something is broken.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_hundred_thousand_events_come_to_a_loop_of_mio() {
    const EVENTS: u32 = 100_000;
    let mut kernel = Kernel::new(1);
    let mut wire = kernel.nonblocking_fd_socket().unwrap();
    // Room for all: none is lost, however late the other threads are.
    wire.socket().force_rcvbuf(EVENTS as i32 * 832).unwrap();
    let consumer = wire.consumer().unwrap();
    let serving = wire.spawn_pump().unwrap();
    listen(&consumer);
    let emitter = thread::spawn(move || {
        while kernel.listeners() == 0 {
            thread::yield_now();
        }
        let task = kernel.add_process("busy");
        for i in 0..EVENTS {
            kernel.rename(task, if i % 2 == 0 { "even" } else { "odd" });
        }
        kernel.end_of_file();
    });
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut SourceFd(&consumer.as_raw_fd()), Token(0), Interest::READABLE).unwrap();
    let mut ready = Events::with_capacity(4);
    let mut expected = 0;
    loop {
        poll.poll(&mut ready, Some(LONG)).unwrap();
        assert!(!ready.is_empty(), "nothing comes after {expected}");
        let mut buffer = [0; 128];
        let is_at_end = loop {
            match rustix::net::recv(&consumer, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => break true,
                Ok((len, _)) => {
                    assert_eq!(event(&buffer[..len]).seq.0, expected);
                    expected += 1;
                }
                Err(rustix::io::Errno::AGAIN) => break false,
                Err(error) => panic!("{error}"),
            }
        };
        if is_at_end {
            break;
        }
    }
    assert_eq!(expected, EVENTS + 1);
    emitter.join().unwrap();
    drop(consumer);
    serving.wait().unwrap();
}

#[test]
fn a_blocking_read_waits_for_the_next_event_and_for_the_end() {
    let mut kernel = Kernel::new(1);
    let mut wire = kernel.fd_socket().unwrap();
    let consumer = wire.consumer().unwrap();
    let serving = wire.spawn_pump().unwrap();
    let (tell, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        listen(&consumer);
        loop {
            let datagram = next(&consumer, RecvFlags::empty()).unwrap();
            let is_end = datagram.is_empty();
            tell.send(datagram).unwrap();
            if is_end {
                return;
            }
        }
    });
    assert!(is_ack(&told.recv_timeout(LONG).unwrap()));
    let task = kernel.add_process("busy");
    for number in 1..=100 {
        kernel.rename(task, "name");
        assert_eq!(event(&told.recv_timeout(LONG).unwrap()).seq.0, number);
    }
    kernel.end_of_file();
    assert_eq!(told.recv_timeout(LONG).unwrap(), []);
    reader.join().unwrap();
    serving.wait().unwrap();
}

#[test]
fn a_consumer_that_closes_ends_the_serving_asleep_or_with_much_to_move() {
    for events in [0, 200] {
        let mut kernel = Kernel::new(1);
        let mut wire = kernel.fd_socket().unwrap();
        let consumer = wire.consumer().unwrap();
        let serving = wire.spawn_pump().unwrap();
        listen(&consumer);
        assert!(is_ack(&next(&consumer, RecvFlags::empty()).unwrap()));
        let task = kernel.add_process("busy");
        (0..events).for_each(|_| kernel.rename(task, "name"));
        request(&consumer, SubscribeOp::Ignore);
        drop(consumer);
        serving.wait().unwrap();
        assert_eq!(kernel.listeners(), 0);
    }
}

#[test]
fn what_stops_it_leaves_the_rest_to_be_moved_by_hand() {
    let mut kernel = Kernel::new(1);
    let mut wire = kernel.fd_socket().unwrap();
    let consumer = wire.consumer().unwrap();
    let serving = wire.spawn_pump().unwrap();
    listen(&consumer);
    assert!(is_ack(&next(&consumer, RecvFlags::empty()).unwrap()));
    let mut wire = serving.stop().unwrap();
    let task = kernel.add_process("busy");
    kernel.rename(task, "name");
    assert_eq!(drain(&consumer), (Vec::new(), false));
    wire.pump().unwrap();
    assert_eq!(numbers(&drain(&consumer).0), [1]);
}

#[test]
fn dropping_it_is_the_end_of_the_consumers_file_also_while_it_is_full() {
    for events in [0, 200] {
        let mut kernel = Kernel::new(1);
        let mut wire = kernel.fd_socket().unwrap();
        let consumer = wire.consumer().unwrap();
        wire.socket().listen().unwrap();
        let task = kernel.add_process("busy");
        (0..events).for_each(|_| kernel.rename(task, "name"));
        let serving = wire.spawn_pump().unwrap();
        // Until the first is there, the thread may not have begun.
        assert_eq!(next(&consumer, RecvFlags::PEEK).unwrap().len(), 76);
        drop(serving);
        let (datagrams, is_at_end) = drain(&consumer);
        assert!(is_at_end && datagrams.len() <= 7, "{} datagrams", datagrams.len());
    }
}

#[test]
fn faults_that_let_calls_find_nothing_delay_nothing() {
    let mut kernel = Kernel::new(1);
    let mut wire = kernel.fd_socket().unwrap();
    let consumer = wire.consumer().unwrap();
    wire.socket().listen().unwrap();
    let _serving = wire.spawn_pump().unwrap();
    kernel.inject(FaultScript::new().with(Trigger::At(0), Fault::Eagain(1000.into()), None), 0);
    let task = kernel.add_process("busy");
    kernel.rename(task, "name");
    let since = Instant::now();
    assert_eq!(event(&next(&consumer, RecvFlags::empty()).unwrap()).seq.0, 0);
    assert_eq!(event(&next(&consumer, RecvFlags::empty()).unwrap()).seq.0, 1);
    assert!(since.elapsed() < LONG);
}
