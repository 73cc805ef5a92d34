//! The private network namespace of the native sockets.
//!
//! A helper process enters a new user namespace and a new network namespace, and opens sockets
//! there on request. This process owns that user namespace, and so it may bind and send on these
//! sockets without entering a namespace itself. The helper ends with this process.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with, socketpair,
};
use rustix::process::{
    Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, waitid,
};

use crate::launch::control::{self, send_number};
use crate::sockets::native::frame::{push_kernel_frame, user_frame};
use crate::sockets::native::sys::{self as native_sys, set_option};
use crate::sys;

/// First byte of the helper's message with a socket.
const SOCKET: u8 = b'S';
/// First byte of the helper's message after a failure.
const FAILED: u8 = b'F';
/// The port of the first socket; the program chooses other ports, at most by accident.
const FIRST_PORT: u32 = 0x7F00_0000;
/// All multicast groups. The filter of a socket accepts only what is sent to that socket.
const ALL_GROUPS: u32 = u32::MAX;

/// The helper process, and the sockets that send.
pub(crate) struct NetlinkNamespace {
    /// A pidfd of the helper.
    helper: OwnedFd,
    control: OwnedFd,
    /// Sends to the kernel.
    sender: Option<OwnedFd>,
    /// Sockets of user space that send to native sockets, by their ports.
    user_senders: HashMap<u32, OwnedFd>,
    next_port: u32,
    next_tag: u32,
}

/// A socket that the helper has opened, bound to a port of its own and to all groups.
pub(crate) struct BoundSocket {
    pub(crate) fd: OwnedFd,
    pub(crate) port: u32,
    /// Identifies the socket in frames.
    pub(crate) tag: u32,
}

impl NetlinkNamespace {
    /// Starts the helper.
    pub(crate) fn create() -> Result<Self, Errno> {
        let (control, child_end) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let supervisor_end = control.as_raw_fd();
        let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNET;
        let (_, helper) = sys::spawn(namespaces, &mut || {
            // With its own copy of this end open, the helper would never see it close.
            sys::close(supervisor_end);
            run_helper(&child_end)
        })?;
        // Tags of other namespaces are not visible here; a random one cannot be forged by accident.
        let next_tag = RandomState::new().build_hasher().finish() as u32 | 1;
        let (sender, user_senders) = (None, HashMap::new());
        let mut namespace = Self { helper, control, sender, user_senders, next_port: FIRST_PORT, next_tag };
        namespace.sender = Some(namespace.open()?);
        Ok(namespace)
    }

    /// Opens a socket in the namespace.
    fn open(&self) -> Result<OwnedFd, Errno> {
        retry_on_intr(|| write(&self.control, &[SOCKET]))?;
        let (mut message, mut fds) = ([0; 8], Vec::new());
        let len = control::receive(&self.control, &mut message, &mut fds)?;
        match (&message[..len], fds.pop()) {
            ([SOCKET, ..], Some(socket)) => Ok(socket),
            ([FAILED, _, number @ ..], None) if number.len() == 4 => {
                let number = i32::from_ne_bytes([number[0], number[1], number[2], number[3]]);
                Err(Errno::from_raw_os_error(number))
            }
            // The descriptor exceeds this process's limit.
            ([SOCKET, ..], None) => Err(Errno::MFILE),
            // The helper has ended.
            _ => Err(Errno::PIPE),
        }
    }

    /// Opens a socket that receives the frames with its tag.
    pub(crate) fn open_bound(&mut self) -> Result<BoundSocket, Errno> {
        let fd = self.open()?;
        let (port, tag) = (self.next_port, self.next_tag);
        self.next_port += 1;
        self.next_tag = self.next_tag.wrapping_add(2);
        bind(&fd, &SocketAddrNetlink::new(port, ALL_GROUPS))?;
        Ok(BoundSocket { fd, port, tag })
    }

    /// Sends frames, each of which the kernel repeats; they lie one after the other in `bytes`, and
    /// `ends` are their ends.
    pub(crate) fn send_frames(&self, bytes: &[u8], ends: &[usize]) -> Result<(), Errno> {
        let Some(sender) = &self.sender else { return Err(Errno::BADF) };
        let (mut start, mut at) = (0, 0);
        let mut relative = Vec::with_capacity(ends.len().min(native_sys::BATCH));
        while at < ends.len() {
            let batch = &ends[at..ends.len().min(at + native_sys::BATCH)];
            relative.clear();
            relative.extend(batch.iter().map(|end| end - start));
            match native_sys::send_batch(sender.as_fd(), &bytes[start..], &relative) {
                Ok(sent) => {
                    at += sent;
                    start = ends[at - 1];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        // Errors of the kernel's handler arrive as messages. The frames are valid, so there are
        // none; a full queue would let nothing fail.
        Ok(())
    }

    /// Lets the kernel send a datagram to the socket with this tag.
    pub(crate) fn send(&self, tag: u32, datagram: &[u8]) -> Result<(), Errno> {
        let mut frame = Vec::new();
        push_kernel_frame(&mut frame, tag, datagram);
        self.send_frames(&frame, &[frame.len()])
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
        if !self.user_senders.contains_key(&sender) {
            let socket = self.open()?;
            bind(&socket, &SocketAddrNetlink::new(sender, 0))?;
            // A frame is longer than its datagram.
            set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, &i32::MAX)?;
            self.user_senders.insert(sender, socket);
        }
        let Some(socket) = self.user_senders.get(&sender) else { return Err(Errno::BADF) };
        let to =
            if groups == 0 { SocketAddrNetlink::new(port, 0) } else { SocketAddrNetlink::new(0, groups) };
        let frame = user_frame(tag, datagram);
        match retry_on_intr(|| sendto(socket, &frame, SendFlags::DONTWAIT, &to)) {
            // After a multicast, the kernel sends the datagram to port 0, itself; or no socket of
            // the namespace has accepted it.
            Ok(_) | Err(Errno::CONNREFUSED | Errno::SRCH) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the error that the kernel has reported for a frame.
    pub(crate) fn reported_error(&self) -> Option<Errno> {
        let mut message = [0; 64];
        let sender = self.sender.as_ref()?;
        let (len, _) = recv(sender, &mut message, rustix::net::RecvFlags::DONTWAIT).ok()?;
        // `struct nlmsghdr`, then the negative errno.
        let number = message[..len].get(16..20)?;
        let number = i32::from_ne_bytes([number[0], number[1], number[2], number[3]]);
        (number < 0).then(|| Errno::from_raw_os_error(-number))
    }
}

impl Drop for NetlinkNamespace {
    fn drop(&mut self) {
        // It fails if the helper has ended already.
        let _ = pidfd_send_signal(&self.helper, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.helper.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Opens sockets on request, until the other end closes; returns the exit code.
///
/// It runs in a copy of a possibly multi-threaded process: it must not allocate memory.
fn run_helper(control: &OwnedFd) -> u8 {
    // Ctrl-C is sent to the whole process group, and must end the program only.
    sys::set_signals(0, u64::MAX);
    if set_parent_process_death_signal(Some(Signal::KILL)).is_err()
        || rustix::stdio::dup2_stdin(control).is_err()
    {
        return 1;
    }
    sys::close_from(1);
    let control: BorrowedFd<'_> = rustix::stdio::stdin();
    loop {
        match retry_on_intr(|| read(control, &mut [0; 8])) {
            Ok(1..) => {}
            _ => return 0,
        }
        let opened = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(KOBJECT_UEVENT),
        );
        let replied = match opened {
            Ok(socket) => control::send(control, &[SOCKET], &[socket.as_fd()]),
            Err(errno) => send_number(control, FAILED, 0, errno.raw_os_error()),
        };
        if replied.is_err() {
            return 0;
        }
    }
}
