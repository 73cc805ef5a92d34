//! `FdSocket::spawn_pump`.

use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use pmon_core::wire::SubscribeOp;
use pmon_fake::{Fault, FaultScript, Kernel, RecvFlags, Trigger};

use super::{drain, event, is_ack, listen, next, request, seqs};

/// A time that no step takes unless something is broken.
const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn a_mio_loop_receives_a_hundred_thousand_events() {
    const EVENTS: u32 = 100_000;
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.nonblocking_fd_socket().unwrap();
    // The buffer holds all events: none is lost, whatever the scheduling.
    fd_socket.socket().force_rcvbuf(EVENTS as i32 * 832).unwrap();
    let consumer = fd_socket.consumer().unwrap();
    let pump_thread = fd_socket.spawn_pump().unwrap();
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
        poll.poll(&mut ready, Some(TIMEOUT)).unwrap();
        assert!(!ready.is_empty(), "no event after {expected}");
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
    pump_thread.wait().unwrap();
}

#[test]
fn a_blocking_read_waits_for_the_next_event_and_for_the_end_of_file() {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.fd_socket().unwrap();
    let consumer = fd_socket.consumer().unwrap();
    let pump_thread = fd_socket.spawn_pump().unwrap();
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        listen(&consumer);
        loop {
            let datagram = next(&consumer, RecvFlags::empty()).unwrap();
            let is_end = datagram.is_empty();
            sender.send(datagram).unwrap();
            if is_end {
                return;
            }
        }
    });
    assert!(is_ack(&receiver.recv_timeout(TIMEOUT).unwrap()));
    let task = kernel.add_process("busy");
    for number in 1..=100 {
        kernel.rename(task, "name");
        assert_eq!(event(&receiver.recv_timeout(TIMEOUT).unwrap()).seq.0, number);
    }
    kernel.end_of_file();
    assert_eq!(receiver.recv_timeout(TIMEOUT).unwrap(), b"");
    reader.join().unwrap();
    pump_thread.wait().unwrap();
}

#[test]
fn closing_the_consumer_ends_the_thread_asleep_or_busy() {
    for events in [0, 200] {
        let mut kernel = Kernel::new(1);
        let mut fd_socket = kernel.fd_socket().unwrap();
        let consumer = fd_socket.consumer().unwrap();
        let pump_thread = fd_socket.spawn_pump().unwrap();
        listen(&consumer);
        assert!(is_ack(&next(&consumer, RecvFlags::empty()).unwrap()));
        let task = kernel.add_process("busy");
        (0..events).for_each(|_| kernel.rename(task, "name"));
        request(&consumer, SubscribeOp::Ignore);
        drop(consumer);
        pump_thread.wait().unwrap();
        assert_eq!(kernel.listeners(), 0);
    }
}

#[test]
fn after_stop_the_rest_can_be_pumped_by_the_caller() {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.fd_socket().unwrap();
    let consumer = fd_socket.consumer().unwrap();
    let pump_thread = fd_socket.spawn_pump().unwrap();
    listen(&consumer);
    assert!(is_ack(&next(&consumer, RecvFlags::empty()).unwrap()));
    let mut fd_socket = pump_thread.stop().unwrap();
    let task = kernel.add_process("busy");
    kernel.rename(task, "name");
    assert_eq!(drain(&consumer), (Vec::new(), false));
    fd_socket.pump().unwrap();
    assert_eq!(seqs(&drain(&consumer).0), [1]);
}

#[test]
fn dropping_the_thread_is_the_end_of_file_also_while_the_socket_is_full() {
    for events in [0, 200] {
        let mut kernel = Kernel::new(1);
        let mut fd_socket = kernel.fd_socket().unwrap();
        let consumer = fd_socket.consumer().unwrap();
        fd_socket.socket().listen().unwrap();
        let task = kernel.add_process("busy");
        (0..events).for_each(|_| kernel.rename(task, "name"));
        let pump_thread = fd_socket.spawn_pump().unwrap();
        // The first datagram proves that the thread runs.
        assert_eq!(next(&consumer, RecvFlags::PEEK).unwrap().len(), 76);
        drop(pump_thread);
        let (datagrams, is_at_end) = drain(&consumer);
        assert!(is_at_end && datagrams.len() <= 7, "{} datagrams", datagrams.len());
    }
}

#[test]
fn the_fault_eagain_does_not_delay_the_thread() {
    let mut kernel = Kernel::new(1);
    let mut fd_socket = kernel.fd_socket().unwrap();
    let consumer = fd_socket.consumer().unwrap();
    fd_socket.socket().listen().unwrap();
    let _serving = fd_socket.spawn_pump().unwrap();
    kernel.inject(FaultScript::new().with(Trigger::At(0), Fault::Eagain(1000.into()), None), 0);
    let task = kernel.add_process("busy");
    kernel.rename(task, "name");
    let start = Instant::now();
    assert_eq!(event(&next(&consumer, RecvFlags::empty()).unwrap()).seq.0, 0);
    assert_eq!(event(&next(&consumer, RecvFlags::empty()).unwrap()).seq.0, 1);
    assert!(start.elapsed() < TIMEOUT);
}
