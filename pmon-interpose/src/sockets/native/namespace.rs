//! The private network namespace of the native sockets, and what sends to them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::OwnedFd;

use pmon_fake::native_socket::transport::{KernelSender, NetNamespace, UserSender, attach_filter};
use pmon_fake::native_socket::{NativeSocketError, NativeSocketStep};
use rustix::io::Errno;
use rustix::net::bind;
use rustix::net::netlink::SocketAddrNetlink;

/// The port of the first socket; the program chooses other ports, at most by accident.
const FIRST_PORT: u32 = 0x7F00_0000;
/// All multicast groups. The filter of a socket accepts only datagrams with the tag of that socket.
const ALL_GROUPS: u32 = u32::MAX;

/// The network namespace, and the sockets that send.
pub(crate) struct NetlinkNamespace {
    namespace: NetNamespace,
    /// Sends what comes from the kernel.
    pub(crate) kernel: KernelSender,
    /// Sockets of user space that send to native sockets, by their ports.
    user_senders: HashMap<u32, UserSender>,
    next_port: u32,
}

/// A socket of the namespace, bound to a port of its own and to all groups, with its filter.
pub(crate) struct BoundSocket {
    pub(crate) fd: OwnedFd,
    pub(crate) port: u32,
    /// Identifies the socket in frames.
    pub(crate) tag: u32,
}

impl NetlinkNamespace {
    /// Creates the namespace.
    pub(crate) fn create() -> Result<Self, NativeSocketError> {
        let namespace = NetNamespace::new()?;
        let kernel = KernelSender::new(namespace.open_socket()?);
        Ok(Self { namespace, kernel, user_senders: HashMap::new(), next_port: FIRST_PORT })
    }

    /// Opens a socket that receives the datagrams with its tag.
    pub(crate) fn open_bound(&mut self) -> Result<BoundSocket, NativeSocketError> {
        let fd = self.namespace.open_socket()?;
        let (port, tag) = (self.next_port, self.namespace.new_tag());
        self.next_port += 1;
        attach_filter(&fd, tag)
            .and_then(|()| bind(&fd, &SocketAddrNetlink::new(port, ALL_GROUPS)))
            .map_err(|errno| NativeSocketError { step: NativeSocketStep::Setup, errno })?;
        Ok(BoundSocket { fd, port, tag })
    }

    /// Sends a datagram from the port `sender` of user space to a socket: to its port, or to
    /// `groups`.
    pub(crate) fn send_from(
        &mut self,
        sender: u32,
        to: (u32, u32),
        groups: u32,
        datagram: &[u8],
    ) -> Result<(), Errno> {
        let (port, tag) = to;
        let sender = match self.user_senders.entry(sender) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let socket = UserSender::new(self.namespace.open_socket()?)?;
                socket.bind(sender)?;
                entry.insert(socket)
            }
        };
        // After a multicast, the datagram is sent to port 0, the kernel, as well.
        let port = if groups == 0 { port } else { 0 };
        sender.send(SocketAddrNetlink::new(port, groups), tag, datagram)
    }
}
