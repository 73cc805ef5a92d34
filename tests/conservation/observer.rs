//! A second listener with a buffer for all events, with which captures are compared.

use std::collections::HashMap;

use pmon_core::wire::{ByteOrder, CN_IDX_PROC, Event};
use pmon_core::{Cpu, Seq};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrAny, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt,
};

use pmon_testkit::guard::skip_part;

/// Size of the observer's socket buffer, in bytes. The kernel charges about 832 per event.
const BUFFER_BYTES: usize = 1 << 30;

/// Returns whether the kernel has sent a datagram.
fn is_kernel(sender: Option<&SocketAddrAny>) -> bool {
    let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender.clone()).ok());
    sender.is_some_and(|sender| sender.pid() == 0)
}

/// A CPU and a sequence number, which identify an event.
pub(crate) type EventNumber = (Cpu, Seq);

/// A socket that queues all events that the kernel emits for other listeners. It uses nothing of
/// `pmon-record`.
pub(crate) struct Observer(OwnedFd);

impl Observer {
    /// Joins the group. The kernel emits events while any process has subscribed. Skips a part of
    /// the test and returns `None` without the privilege for a large buffer.
    pub(crate) fn new() -> Option<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR)).unwrap();
        if let Err(error) = sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES / 2) {
            skip_part(&format!(
                "exact only with an observer that loses nothing, for which CAP_NET_ADMIN is missing: {error}"
            ));
            return None;
        }
        bind(&socket, &SocketAddrNetlink::new(0, CN_IDX_PROC)).unwrap();
        Some(Self(socket))
    }

    /// Returns all events that the kernel has emitted, by number.
    #[track_caller]
    pub(crate) fn received(self) -> HashMap<EventNumber, Event> {
        let mut events = HashMap::new();
        let mut bytes = [0; 256];
        loop {
            match recvfrom(&self.0, &mut bytes, RecvFlags::empty()) {
                // Another process has sent to the group.
                Ok((_, _, sender)) if !is_kernel(sender.as_ref()) => {}
                Ok((length, _, _)) => {
                    let event = Event::decode(&bytes[..length], ByteOrder::NATIVE).unwrap();
                    events.insert((event.cpu, event.seq), event);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return events,
                Err(error) => panic!("the observer lost events: {error}"),
            }
        }
    }
}
