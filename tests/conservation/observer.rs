//! A second listener, with room for everything: what the recorder is measured against.

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

/// Bytes of its socket's buffer, of which the kernel charges about 832 for an event.
const ROOM: usize = 1 << 30;

/// Whether that is the kernel's address.
fn is_kernel(sender: Option<&SocketAddrAny>) -> bool {
    let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender.clone()).ok());
    sender.is_some_and(|sender| sender.pid() == 0)
}

/// What identifies an event.
pub(crate) type Number = (Cpu, Seq);

/// A socket that hears what the kernel sends to others, and keeps it until it is asked. It has nothing of `pmon-record`.
pub(crate) struct Observer(OwnedFd);

impl Observer {
    /// It hears from now on, while anybody is subscribed. `None` without the privilege to take so much room.
    pub(crate) fn new() -> Option<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR)).unwrap();
        if let Err(error) = sockopt::set_socket_recv_buffer_size_force(&socket, ROOM / 2) {
            skip_part(&format!(
                "exact only with an observer that loses nothing, for which CAP_NET_ADMIN is missing: {error}"
            ));
            return None;
        }
        bind(&socket, &SocketAddrNetlink::new(0, CN_IDX_PROC)).unwrap();
        Some(Self(socket))
    }

    /// All it has heard, by number.
    #[track_caller]
    pub(crate) fn heard(self) -> HashMap<Number, Event> {
        let mut heard = HashMap::new();
        let mut bytes = [0; 256];
        loop {
            match recvfrom(&self.0, &mut bytes, RecvFlags::empty()) {
                // What somebody else has sent to the group.
                Ok((_, _, sender)) if !is_kernel(sender.as_ref()) => {}
                Ok((length, _, _)) => {
                    let event = Event::decode(&bytes[..length], ByteOrder::NATIVE).unwrap();
                    heard.insert((event.cpu, event.seq), event);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return heard,
                Err(error) => panic!("the observer has lost events: {error}"),
            }
        }
    }
}
