//! Consumers of a native netlink socket.

use std::os::fd::OwnedFd;

use pmon_core::Task;
use pmon_core::wire::SubscribeOp;
use pmon_fake::native_socket::{memory, set_no_enobufs};
use pmon_fake::{Errno, Fault, FaultScript, FdSocket, FdSocketFamily, Kernel, PumpBlockedOn, Trigger};
use pmon_testkit::guard::skip;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{RecvFlags, recvfrom};

use crate::{drain, is_ack, listen, next, request, seqs};

/// A kernel with one subscribed consumer, which has read its acknowledgement, with number 0.
struct Setup {
    kernel: Kernel,
    fd_socket: FdSocket,
    consumer: OwnedFd,
    task: Task,
}

impl Setup {
    /// Skips the test and returns `None` where this system does not allow netlink sockets.
    fn new() -> Option<Self> {
        let mut kernel = Kernel::new(1);
        let mut fd_socket = match kernel.netlink_fd_socket() {
            Ok(fd_socket) => fd_socket,
            Err(error) => {
                skip(&error.to_string());
                return None;
            }
        };
        assert_eq!(fd_socket.family(), FdSocketFamily::Netlink);
        let consumer = fd_socket.consumer().unwrap();
        listen(&consumer);
        let result = fd_socket.pump().unwrap();
        assert_eq!((result.requests, result.datagrams), (1, 1));
        assert_eq!(result.blocked_on, PumpBlockedOn::Kernel);
        assert!(is_ack(&next(&consumer, RecvFlags::empty()).unwrap()));
        let task = kernel.add_process("busy");
        Some(Self { kernel, fd_socket, consumer, task })
    }

    fn emit(&mut self, events: u32) {
        (0..events).for_each(|_| self.kernel.rename(self.task, "name"));
        self.fd_socket.pump().unwrap();
    }

    fn lose(&mut self, events: u64) {
        self.kernel.overrun(pmon_core::Cpu(0), events);
        self.fd_socket.pump().unwrap();
    }

    fn recv(&self) -> Result<u32, Errno> {
        next(&self.consumer, RecvFlags::DONTWAIT).map(|datagram| seqs(&[datagram])[0])
    }

    /// Returns the conditions that `poll` reports.
    fn conditions(&self) -> PollFlags {
        let mut fds = [PollFd::new(&self.consumer, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap();
        fds[0].revents()
    }

    fn drops(&self) -> u32 {
        memory(&self.consumer).unwrap().drops
    }
}

#[test]
fn events_come_from_the_kernel_and_have_their_exact_bytes() {
    let Some(mut setup) = Setup::new() else { return };
    setup.emit(2);
    let mut buffer = [0; 256];
    let (len, _, sender) = recvfrom(&setup.consumer, &mut buffer[..], RecvFlags::TRUNC).unwrap();
    let sender = SocketAddrNetlink::try_from(sender.unwrap()).unwrap();
    assert_eq!((sender.pid(), sender.groups()), (0, 1));
    assert_eq!(seqs(&[buffer[..len].to_vec()]), [1]);
    assert_eq!(setup.recv(), Ok(2));
    assert_eq!(setup.recv(), Err(Errno::AGAIN));
}

#[test]
fn a_full_buffer_drops_events_until_the_consumer_has_read_all() {
    let Some(mut setup) = Setup::new() else { return };
    let mut room = 0;
    while setup.conditions() != PollFlags::IN | PollFlags::ERR {
        assert_eq!(setup.drops(), 0);
        setup.emit(1);
        room += 1;
    }
    room -= 1;
    assert!(room > 3, "the buffer holds {room} events");
    setup.emit(4);
    assert_eq!((setup.conditions(), setup.drops()), (PollFlags::IN | PollFlags::ERR, 5));
    assert_eq!(setup.recv(), Err(Errno::NOBUFS));
    assert_eq!(setup.recv(), Ok(1));
    // There is space, but the socket is congested.
    setup.emit(1);
    let (datagrams, _) = drain(&setup.consumer);
    assert_eq!(seqs(&datagrams), (2..=room).collect::<Vec<_>>());
    assert_eq!(setup.drops(), 6);
    setup.emit(1);
    assert_eq!(setup.recv(), Ok(room + 7));
}

#[test]
fn a_forced_overrun_is_reported_once_and_before_what_is_queued() {
    let Some(mut setup) = Setup::new() else { return };
    setup.emit(1);
    setup.lose(3);
    setup.emit(1);
    assert_eq!(setup.conditions(), PollFlags::IN | PollFlags::ERR);
    assert_eq!(setup.recv(), Err(Errno::NOBUFS));
    assert_eq!([setup.recv(), setup.recv()], [Ok(1), Ok(5)]);
    assert_eq!((setup.recv(), setup.drops()), (Err(Errno::AGAIN), 3));
}

#[test]
fn a_lost_event_congests_the_socket_until_the_consumer_has_read_all() {
    let Some(mut setup) = Setup::new() else { return };
    // The events of one pump, and those of several, arrive alike.
    for pumps_each in [true, false] {
        let first = setup.kernel.next_seq(pmon_core::Cpu(0)).0;
        let drops = setup.drops();
        setup.kernel.rename(setup.task, "kept");
        setup.kernel.lose(1);
        for name in ["lost", "dropped"] {
            if pumps_each {
                setup.fd_socket.pump().unwrap();
            }
            setup.kernel.rename(setup.task, name);
        }
        setup.fd_socket.pump().unwrap();
        assert_eq!(setup.drops() - drops, 2);
        assert_eq!([setup.recv(), setup.recv()], [Err(Errno::NOBUFS), Ok(first)]);
        assert_eq!(setup.recv(), Err(Errno::AGAIN));
        setup.emit(1);
        assert_eq!(setup.recv(), Ok(first + 3));
    }
}

#[test]
fn after_a_lost_event_alone_the_next_receive_call_ends_the_congestion() {
    let Some(mut setup) = Setup::new() else { return };
    setup.kernel.lose(1);
    setup.emit(1);
    assert_eq!(setup.recv(), Err(Errno::NOBUFS));
    setup.emit(1);
    assert_eq!((setup.recv(), setup.drops()), (Ok(2), 1));
}

#[test]
fn a_forced_overrun_wakes_a_consumer_that_waits_with_an_empty_queue() {
    let Some(mut setup) = Setup::new() else { return };
    for _ in 0..20 {
        let consumer = setup.consumer.try_clone().unwrap();
        let reader = std::thread::spawn(move || next(consumer, RecvFlags::empty()));
        setup.lose(1);
        assert_eq!(reader.join().unwrap(), Err(Errno::NOBUFS));
        assert_eq!(setup.recv(), Err(Errno::AGAIN));
    }
    setup.emit(1);
    assert_eq!(setup.recv(), Ok(21));
}

#[test]
fn without_enobufs_a_forced_overrun_is_only_counted() {
    let Some(mut setup) = Setup::new() else { return };
    set_no_enobufs(&setup.consumer, true).unwrap();
    setup.lose(4);
    setup.emit(1);
    assert_eq!((setup.conditions(), setup.drops()), (PollFlags::IN, 4));
    assert_eq!(setup.recv(), Ok(5));
}

#[test]
fn a_forced_overrun_of_a_congested_socket_leaves_it_congested() {
    let Some(mut setup) = Setup::new() else { return };
    setup.emit(1000);
    assert_eq!((setup.recv(), setup.recv()), (Err(Errno::NOBUFS), Ok(1)));
    let drops = setup.drops();
    setup.lose(2);
    setup.emit(1);
    assert_eq!(setup.drops(), drops + 3);
    drain(&setup.consumer);
    setup.emit(1);
    assert_eq!(setup.recv(), Ok(1004));
}

#[test]
fn a_buffer_that_the_consumer_makes_small_holds_few_events() {
    let Some(mut setup) = Setup::new() else { return };
    set_socket_recv_buffer_size(&setup.consumer, 0).unwrap();
    setup.emit(5);
    assert_eq!(setup.recv(), Err(Errno::NOBUFS));
    // Before Linux 6.16, it holds 3.
    let received = drain(&setup.consumer).0.len() as u32;
    assert!((2..=3).contains(&received), "{received} events");
    assert_eq!(setup.drops(), 5 - received);
    setup.lose(1);
    assert_eq!(setup.recv(), Err(Errno::NOBUFS));
    setup.emit(2);
    assert_eq!(seqs(&drain(&setup.consumer).0), [7, 8]);
}

#[test]
fn requests_change_the_subscription() {
    let Some(mut setup) = Setup::new() else { return };
    request(&setup.consumer, SubscribeOp::Ignore);
    setup.fd_socket.pump().unwrap();
    setup.emit(1);
    assert_eq!((setup.kernel.listeners(), setup.recv()), (0, Err(Errno::AGAIN)));
    listen(&setup.consumer);
    setup.fd_socket.pump().unwrap();
    assert_eq!(setup.kernel.listeners(), 1);
    assert!(is_ack(&next(&setup.consumer, RecvFlags::DONTWAIT).unwrap()));
}

#[test]
fn a_forged_event_comes_from_a_port_of_user_space() {
    let Some(mut setup) = Setup::new() else { return };
    setup.kernel.inject(FaultScript::new().with(Trigger::At(0), Fault::Forge, None), 0);
    setup.emit(1);
    let mut buffer = [0; 256];
    let (len, _, sender) = recvfrom(&setup.consumer, &mut buffer[..], RecvFlags::empty()).unwrap();
    assert_eq!((len, SocketAddrNetlink::try_from(sender.unwrap()).unwrap().pid()), (76, 4711));
    assert_eq!(setup.recv(), Ok(1));
}

#[test]
fn a_datagram_that_is_too_long_is_an_error_and_blocks_no_other() {
    let Some(mut setup) = Setup::new() else { return };
    setup.kernel.feed().emit_datagram(&[0; 3000]);
    let error = setup.fd_socket.pump().unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::MSGSIZE));
    setup.emit(1);
    assert_eq!(setup.recv(), Ok(1));
}

#[test]
fn several_sockets_are_independent() {
    let Some(mut first) = Setup::new() else { return };
    let Some(mut second) = Setup::new() else { return };
    first.emit(1);
    second.lose(1);
    assert_eq!((first.recv(), first.recv()), (Ok(1), Err(Errno::AGAIN)));
    assert_eq!((second.recv(), second.recv()), (Err(Errno::NOBUFS), Err(Errno::AGAIN)));
}

#[test]
fn a_pump_thread_serves_the_consumer_until_it_is_dropped() {
    let Some(Setup { mut kernel, fd_socket, consumer, task }) = Setup::new() else { return };
    let pump_thread = fd_socket.spawn_pump().unwrap();
    kernel.rename(task, "name");
    assert_eq!(seqs(&[next(&consumer, RecvFlags::empty()).unwrap()]), [1]);
    listen(&consumer);
    assert!(is_ack(&next(&consumer, RecvFlags::empty()).unwrap()));
    kernel.end_of_file();
    drop(pump_thread);
}

#[test]
fn after_a_drop_the_consumer_receives_only_messages_to_ignore() {
    let Some(mut setup) = Setup::new() else { return };
    setup.emit(1);
    drop(setup.fd_socket);
    let (datagrams, is_at_end) = drain(&setup.consumer);
    assert_eq!((datagrams.len(), is_at_end), (4, false));
    assert_eq!(seqs(&datagrams[..1]), [1]);
    for datagram in &datagrams[1..] {
        let header = (u32::from_ne_bytes(datagram[..4].try_into().unwrap()), datagram[4..6].to_vec());
        assert_eq!(header, (datagram.len() as u32, 1_u16.to_ne_bytes().to_vec()));
    }
}
