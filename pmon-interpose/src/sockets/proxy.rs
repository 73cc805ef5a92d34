//! A socket of the fake kernel, and what the program has in its place.
//!
//! The program's file descriptor is one end of a pair of sockets, of which the other end is here. No call but `poll`, `select`, `epoll` and `close`
//! gets as far as that. It is readable while a byte, a token, lies in it; its other end hangs up when the last copy of it is closed.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::sockets::options::Kept;
use crate::sockets::poll::Interest;
use crate::tracee::{FileId, borrow_fd, file_id};
use pmon_fake::{Readiness, Socket};

/// Tokens that may lie there, for each of which an edge-triggered `epoll` wakes.
const TOKENS: u32 = 64;

/// See the module.
pub(crate) struct Held {
    pub(crate) socket: Socket,
    /// `SOCK_RAW` or `SOCK_DGRAM`.
    pub(crate) kind: u32,
    pub(crate) nonblocking: bool,
    /// What a call of `recvmsg` also tells.
    pub(crate) pktinfo: bool,
    pub(crate) passcred: bool,
    /// Options that were set and do nothing here.
    pub(crate) kept: Kept,
    /// How long a call waits at the most.
    pub(crate) rcvtimeo: Option<Duration>,
    /// In which sets of `epoll` it is.
    pub(crate) epolls: Vec<Interest>,
    /// A call that does not wait has found nothing, and no other has been made since.
    pub(crate) asked_in_vain: bool,
    /// It was half full while the program slept: nobody reads it.
    pub(crate) is_idle: bool,
    /// Which file it is.
    pub(crate) file: FileId,
    /// It goes by the pair.
    pub(crate) is_loose: bool,
    pub(crate) end: OwnedFd,
    tokens: u32,
    /// Who had it last, and by which number.
    pub(crate) seen: (u32, u32),
}

impl Held {
    /// Also gives the program's end.
    pub(crate) fn new(socket: Socket, kind: u32, nonblocking: bool) -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC;
        let (end, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        if nonblocking {
            rustix::io::ioctl_fionbio(&theirs, true)?;
        }
        let held = Self {
            socket,
            kind,
            nonblocking,
            pktinfo: false,
            passcred: false,
            kept: Kept::new(),
            rcvtimeo: None,
            epolls: Vec::new(),
            asked_in_vain: false,
            is_idle: false,
            file: file_id(&fstat(&theirs)?),
            is_loose: false,
            end,
            tokens: 0,
            seen: (0, 0),
        };
        Ok((held, theirs))
    }

    pub(crate) fn is_ready(&self) -> bool {
        let Readiness { readable, error } = self.socket.poll();
        readable || error
    }

    /// Whether it is half full: whoever reads it is behind.
    pub(crate) fn is_behind(&self) -> bool {
        let memory = self.socket.memory();
        !self.is_idle && self.socket.receives_events() && memory.rmem_alloc > memory.rcvbuf / 2
    }

    /// Whether the program has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        let mut fd = [PollFd::new(&self.end, PollFlags::empty())];
        let polled = retry_on_intr(|| poll(&mut fd, Some(&Timespec::default())));
        polled == Ok(1) && fd[0].revents().contains(PollFlags::HUP)
    }

    /// Something has come: wakes who waits for it.
    pub(crate) fn announce(&mut self) {
        if self.is_loose {
            return;
        }
        if self.tokens >= TOKENS {
            self.withdraw();
        }
        if send(&self.end, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok() {
            self.tokens += 1;
        }
    }

    /// Lets the program's end be readable if a call would bring something, and only then.
    pub(crate) fn tell(&mut self) {
        match (self.is_ready(), self.tokens) {
            _ if self.is_loose => {}
            (true, 0) => self.announce(),
            (false, 1..) => self.withdraw(),
            _ => {}
        }
    }

    pub(crate) fn withdraw(&mut self) {
        let (task, fd) = self.seen;
        // If its task has ended, or has closed it, somebody else may have it: then it is readable once without a reason.
        let Ok(theirs) = borrow_fd(task, fd) else { return };
        if fstat(theirs.as_fd()).is_ok_and(|stat| file_id(&stat) == self.file) {
            while recv(&theirs, &mut [0], RecvFlags::DONTWAIT).is_ok_and(|(len, _)| len > 0) {}
            self.tokens = 0;
        }
    }
}
