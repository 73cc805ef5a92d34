//! A private network namespace, and a process in it that opens sockets.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, netlink, recv, recvmsg, send, sendmsg,
    socket_with, socketpair,
};

use super::sys::{self, HelperProcess};
use super::{NativeSocketError, NativeSocketStep};

/// A network namespace of a user namespace of its own.
///
/// A helper process in the namespaces opens sockets on request; it ends when this value is dropped,
/// or the thread that has created it ends. The helper blocks all signals: Ctrl-C, which is sent to
/// the whole process group, leaves the helper to this process.
///
/// The sockets stay usable, and keep the network namespace. This process needs no id maps and does
/// not enter the namespaces: since it created the user namespace, the kernel grants it all
/// capabilities there as long as its effective user id stays the same.
///
/// The helper has no exit signal: neither `SIGCHLD` nor `wait` without `__WALL` reports it.
#[derive(Debug)]
pub struct NetNamespace {
    connection: OwnedFd,
    _helper: HelperProcess,
    next_tag: u32,
}

impl NetNamespace {
    /// Creates the namespaces and starts the helper.
    ///
    /// # Errors
    /// Returns an error if this system does not let this user create the namespaces.
    pub fn new() -> Result<Self, NativeSocketError> {
        let failed = NativeSocketStep::Namespaces.failed();
        let (connection, end) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(&failed)?;
        let helper = HelperProcess::spawn(end.as_fd(), &|| serve(end.as_fd())).map_err(&failed)?;
        // A datagram of user space whose bytes look like a tag by accident is unlikely to have the
        // right one.
        let next_tag = RandomState::new().build_hasher().finish() as u32 | 1;
        Ok(Self { connection, _helper: helper, next_tag })
    }

    /// Returns a number that identifies a socket of the namespace in frames, another one at each
    /// call. It is never 0.
    pub fn new_tag(&mut self) -> u32 {
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(2);
        tag
    }

    /// Opens a blocking `NETLINK_KOBJECT_UEVENT` socket in the namespace, with `FD_CLOEXEC`.
    ///
    /// # Errors
    /// Returns an error if the helper or this process cannot open another descriptor.
    pub fn open_socket(&self) -> Result<OwnedFd, NativeSocketError> {
        self.request_socket().map_err(NativeSocketStep::Socket.failed())
    }

    fn request_socket(&self) -> Result<OwnedFd, Errno> {
        retry_on_intr(|| send(&self.connection, b"s", SendFlags::NOSIGNAL))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut errno = [0; 4];
        let received = retry_on_intr(|| {
            let buffers = &mut [IoSliceMut::new(&mut errno)];
            recvmsg(&self.connection, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.bytes != errno.len() {
            // The helper has ended.
            return Err(Errno::PIPE);
        }
        let mut sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        // Without a descriptor although the helper sent one, this process has none left.
        sockets.next().ok_or(match i32::from_ne_bytes(errno) {
            0 => Errno::MFILE,
            errno => Errno::from_raw_os_error(errno),
        })
    }
}

/// Opens a socket for each request until the other end is closed. Runs in the forked helper: it
/// must not allocate.
fn serve(end: BorrowedFd<'_>) {
    let mut request = [0; 1];
    while retry_on_intr(|| recv(end, &mut request[..], RecvFlags::empty())).is_ok_and(|(len, _)| len == 1) {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::KOBJECT_UEVENT),
        );
        let errno = socket.as_ref().map_or_else(|error| error.raw_os_error(), |_| 0).to_ne_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets;
        if let Ok(socket) = &socket {
            sockets = [socket.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&sockets));
        }
        let sent = retry_on_intr(|| sendmsg(end, &[IoSlice::new(&errno)], &mut control, SendFlags::NOSIGNAL));
        if sent.is_err() {
            sys::exit_helper();
        }
    }
}
