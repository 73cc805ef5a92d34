//! Checks that native sockets work on this system, and measures what a datagram is charged.

use std::io::IoSliceMut;
use std::os::fd::AsFd;

use pmon_core::wire::EVENT_DATAGRAM_LEN;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recv, recvmsg};

use super::overrun::OverrunInjector;
use super::sender::KernelSender;
use super::sys::memory;
use super::{NativeSocketError, NativeSocketStep};
use crate::netlink::message::PROC_GROUP;

/// Checks that an empty socket receives an event as from the proc connector, and no event for
/// another tag. Returns the bytes of receive buffer that the event occupied.
///
/// # Errors
/// Returns the step that failed; the error is `EPROTO` if the socket has received something else.
pub fn measure_charge(
    receiver: impl AsFd,
    sender: &mut KernelSender,
    tag: u32,
) -> Result<u32, NativeSocketError> {
    let (send, receive) = (NativeSocketStep::Send.failed(), NativeSocketStep::Receive.failed());
    let event: [u8; EVENT_DATAGRAM_LEN] = std::array::from_fn(|index| index as u8);
    sender.queue(!tag, &event).map_err(&send)?;
    sender.send(tag, &event).map_err(&send)?;
    sender.take_error().map_err(&send)?;
    let charge = memory(&receiver).map_err(&receive)?.rmem_alloc;
    let mut bytes = [0; 2 * EVENT_DATAGRAM_LEN];
    let buffers = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(&receiver, buffers, &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT)
        .map_err(&receive)?;
    let from = received.address.and_then(|address| SocketAddrNetlink::try_from(address).ok());
    let is_from_kernel = from.is_some_and(|from| (from.pid(), from.groups()) == (0, PROC_GROUP));
    let is_alone = memory(&receiver).map_err(&receive)?.rmem_alloc == 0;
    if bytes[..received.bytes] == event && is_from_kernel && is_alone {
        Ok(charge)
    } else {
        Err(receive(Errno::PROTO))
    }
}

/// Checks on an empty socket that a forced overrun is reported once, and that the socket receives a
/// later datagram.
///
/// # Errors
/// Returns the error of a system call; `EPROTO` if the socket has received something else.
pub fn test_overrun(
    receiver: impl AsFd,
    sender: &mut KernelSender,
    tag: u32,
    injector: &OverrunInjector,
) -> Result<(), NativeSocketError> {
    let failed = NativeSocketStep::Overrun.failed();
    injector.inject(&receiver, sender, tag, 1, false).map_err(&failed)?;
    let charged = memory(&receiver).map_err(&failed)?.rmem_alloc;
    sender.send(tag, b"test").map_err(&failed)?;
    let receive = || recv(&receiver, &mut [0; 64], RecvFlags::DONTWAIT).map(|(_, len)| len);
    let received = [receive(), receive(), receive()];
    let works = received == [Err(Errno::NOBUFS), Ok(4), Err(Errno::AGAIN)] && charged == injector.charge();
    if works { Ok(()) } else { Err(failed(Errno::PROTO)) }
}

#[cfg(test)]
mod tests {
    use rustix::net::bind;

    use super::*;
    use crate::native_socket::frame::attach_filter;
    use crate::native_socket::net_namespace::NetNamespace;

    #[test]
    fn an_event_is_charged_as_by_the_proc_connector() {
        let mut namespace = match NetNamespace::new() {
            Ok(namespace) => namespace,
            Err(error) => return pmon_testkit::guard::skip(&error.to_string()),
        };
        let (receiver, tag) = (namespace.open_socket().unwrap(), namespace.new_tag());
        let mut sender = KernelSender::new(namespace.open_socket().unwrap());
        attach_filter(&receiver, tag).unwrap();
        bind(&receiver, &SocketAddrNetlink::new(1, PROC_GROUP)).unwrap();
        let charge = measure_charge(&receiver, &mut sender, tag).unwrap();
        let injector = OverrunInjector::new(&receiver, charge).unwrap();
        assert_eq!((charge, injector.charge()), (832, 2496));
        assert_eq!(test_overrun(&receiver, &mut sender, tag, &injector), Ok(()));
    }
}
