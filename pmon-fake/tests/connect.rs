//! Connected sockets. The `differential` tool of `pmon-testkit` compares them with the kernel's.

use pmon_core::Tgid;
use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use pmon_fake::{Errno, Kernel, RecvFlags, Socket};

fn ports() -> (Kernel, [Socket; 3]) {
    let kernel = Kernel::new(1);
    let sockets = [1, 2, 3].map(|port| {
        let mut socket = kernel.socket();
        socket.bind(port, 0).unwrap();
        socket
    });
    (kernel, sockets)
}

fn sender(socket: &mut Socket) -> Result<u32, Errno> {
    socket.recv(&mut [0; 128], RecvFlags::empty()).map(|datagram| datagram.sender)
}

#[test]
fn send_goes_to_the_peer_and_sendto_to_its_address() {
    let (_kernel, [mut socket, mut peer, mut other]) = ports();
    socket.connect(2, 0).unwrap();
    assert_eq!(socket.peer_name(), (2, 0));
    assert_eq!(
        (socket.send(&[0; 9]), sender(&mut peer), sender(&mut other)),
        (Ok(9), Ok(1), Err(Errno::AGAIN))
    );
    assert_eq!((socket.send_to(&[0; 9], 3, 0), sender(&mut other)), (Ok(9), Ok(1)));
    socket.connect(4, 6).unwrap();
    assert_eq!((socket.peer_name(), socket.send(&[0; 9])), ((4, 2), Err(Errno::CONNREFUSED)));
}

#[test]
fn a_connected_socket_receives_unicasts_of_its_peer_only() {
    let (_kernel, [mut socket, mut peer, mut other]) = ports();
    socket.connect(2, 0).unwrap();
    assert_eq!((other.send_to(&[0; 9], 1, 0), peer.send_to(&[0; 9], 1, 0)), (Err(Errno::CONNREFUSED), Ok(9)));
    assert_eq!(sender(&mut socket), Ok(2));
    socket.connect(0, 0).unwrap();
    assert_eq!(peer.send_to(&[0; 9], 1, 0), Err(Errno::CONNREFUSED));
    socket.disconnect();
    assert_eq!((other.send_to(&[0; 9], 1, 0), sender(&mut socket)), (Ok(9), Ok(3)));
}

#[test]
fn a_connected_socket_receives_events() {
    let (mut kernel, [mut socket, ..]) = ports();
    socket.listen().unwrap();
    sender(&mut socket).unwrap();
    socket.connect(2, 0).unwrap();
    let task = kernel.add_process("test");
    kernel.rename(task, "other");
    assert_eq!(sender(&mut socket), Ok(0));
}

#[test]
fn a_socket_connected_to_another_can_subscribe() {
    let (kernel, [mut socket, ..]) = ports();
    socket.connect(2, 0).unwrap();
    socket.listen().unwrap();
    assert_eq!((kernel.listeners(), sender(&mut socket)), (1, Ok(0)));
}

#[test]
fn an_unprivileged_socket_connects_to_the_kernel_only() {
    let kernel = Kernel::new(1);
    let mut socket = kernel.unprivileged_socket_of(Tgid(42));
    assert_eq!([socket.connect(7, 0), socket.connect(0, 1)], [Err(Errno::PERM); 2]);
    assert!(!socket.is_bound());
    socket.connect(0, 0).unwrap();
    assert_eq!((socket.is_bound(), socket.name()), (true, (42, 0)));
    let request = SubscribeRequest::new(SubscribeOp::Listen, 0).encode(42, ByteOrder::NATIVE);
    assert_eq!((socket.send(&request), kernel.listeners()), (Ok(request.len()), 1));
}

#[test]
fn an_unprivileged_socket_can_leave_a_group_that_it_cannot_join() {
    let kernel = Kernel::new(1);
    let mut socket = kernel.unprivileged_socket();
    assert_eq!((socket.add_membership(2), socket.drop_membership(2)), (Err(Errno::PERM), Ok(())));
}

#[test]
fn an_empty_datagram_is_refused_before_privileges_are_checked() {
    let kernel = Kernel::new(1);
    let mut socket = kernel.unprivileged_socket();
    assert_eq!(socket.send_to(&[], 0, 1), Err(Errno::NODATA));
    assert!(!socket.is_bound());
}
