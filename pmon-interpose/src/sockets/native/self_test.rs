//! Checks that native sockets work on this system, and measures what a datagram is charged.

use std::io::IoSliceMut;
use std::os::fd::AsFd as _;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recv, recvmsg};

use crate::error::InterposeError;
use crate::launch::options::LaunchOptions;
use crate::launch::socket_path::{FallbackReason, NativeStep, SocketPath, SocketRequest};
use crate::sockets::native::frame::unwrapping_filter;
use crate::sockets::native::namespace::NetlinkNamespace;
use crate::sockets::native::overrun::{NOTIFICATIONS, force_overrun, set_rcvbuf};
use crate::sockets::native::sys::{attach_filter, receive_memory};

/// Length of an event's datagram.
const EVENT: usize = pmon_core::wire::EVENT_DATAGRAM_LEN;
/// Group of process events.
const PROC_GROUP: u32 = 1;

/// What the kernel charges to a receive buffer, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Charges {
    /// A short datagram.
    pub(crate) datagram: u32,
    /// All notifications of a socket with forced overruns.
    pub(crate) notifications: u32,
}

/// Chooses the way by which sockets are provided. Returns the namespace of native ones.
pub(crate) fn choose_sockets(
    options: &LaunchOptions,
) -> Result<(SocketPath, Option<(NetlinkNamespace, Charges)>), InterposeError> {
    let seccomp = |why| Ok((SocketPath::Seccomp { why }, None));
    if options.sockets == SocketRequest::Seccomp {
        return seccomp(FallbackReason::Requested);
    }
    let checked = match options.native_obstacle {
        Some(why) => Err(why),
        None => checked_namespace().map_err(|(step, errno)| FallbackReason::Unsupported { step, errno }),
    };
    match checked {
        Ok(native) => Ok((SocketPath::Native, Some(native))),
        Err(why) if options.sockets == SocketRequest::Native => Err(InterposeError::NativeSockets(why)),
        Err(why) => seccomp(why),
    }
}

/// Creates the namespace and sends an event and an overrun to a socket in it.
pub(crate) fn checked_namespace() -> Result<(NetlinkNamespace, Charges), (NativeStep, Errno)> {
    let at = |step| move |errno| (step, errno);
    let mut namespace = NetlinkNamespace::create().map_err(at(NativeStep::Namespace))?;
    let datagram = receives_events(&mut namespace).map_err(at(NativeStep::Broadcast))?;
    let notifications = receives_overruns(&mut namespace, datagram).map_err(at(NativeStep::Overrun))?;
    Ok((namespace, Charges { datagram, notifications }))
}

/// Checks that a socket receives an event as from the proc connector. Returns what it is charged.
fn receives_events(namespace: &mut NetlinkNamespace) -> Result<u32, Errno> {
    let socket = namespace.open_bound()?;
    attach_filter(socket.fd.as_fd(), &unwrapping_filter(socket.tag))?;
    let event: [u8; EVENT] = std::array::from_fn(|at| at as u8);
    namespace.send(socket.tag.wrapping_add(1), &event)?;
    namespace.send(socket.tag, &event)?;
    if let Some(error) = namespace.reported_error() {
        return Err(error);
    }
    let charge = receive_memory(socket.fd.as_fd())?.rmem_alloc;
    let mut bytes = [0; 2 * EVENT];
    let received = recvmsg(
        &socket.fd,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut RecvAncillaryBuffer::default(),
        RecvFlags::DONTWAIT,
    )?;
    let sender = received.address.and_then(|address| SocketAddrNetlink::try_from(address).ok());
    let is_from_kernel = sender.is_some_and(|sender| (sender.pid(), sender.groups()) == (0, PROC_GROUP));
    let is_alone = receive_memory(socket.fd.as_fd())?.rmem_alloc == 0;
    if bytes[..received.bytes] == event && is_from_kernel && is_alone {
        Ok(charge)
    } else {
        Err(Errno::PROTO)
    }
}

/// Checks that an overrun can be forced, and that the socket receives afterwards. Returns what the
/// notifications are charged.
fn receives_overruns(namespace: &mut NetlinkNamespace, charge: u32) -> Result<u32, Errno> {
    let socket = namespace.open_bound()?;
    attach_filter(socket.fd.as_fd(), &unwrapping_filter(socket.tag))?;
    let rcvbuf = receive_memory(socket.fd.as_fd())?.rcvbuf;
    let mut notifications = None;
    force_overrun(namespace, socket.fd.as_fd(), socket.tag, &mut notifications)?;
    let charged = receive_memory(socket.fd.as_fd())?.rmem_alloc;
    set_rcvbuf(socket.fd.as_fd(), rcvbuf)?;
    namespace.send(socket.tag, &[1; EVENT])?;
    let receive = || recv(&socket.fd, &mut [0; EVENT], RecvFlags::DONTWAIT).map(|(_, len)| len);
    let received = [receive(), receive(), receive()];
    let works =
        received == [Err(Errno::NOBUFS), Ok(EVENT), Err(Errno::AGAIN)] && charged == NOTIFICATIONS * charge;
    if works { Ok(charged) } else { Err(Errno::PROTO) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it cannot be created, `pmon replay` reports the reason.
    #[test]
    fn an_event_is_charged_as_by_the_proc_connector() {
        match checked_namespace() {
            Ok((_, charges)) => assert_eq!((charges.datagram, charges.notifications), (832, 2496)),
            Err((NativeStep::Namespace, _)) => {}
            Err((step, errno)) => panic!("{step}: {errno}"),
        }
    }
}
