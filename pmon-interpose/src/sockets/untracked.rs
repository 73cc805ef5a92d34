//! A socket of which the program has a copy by a number that is not asked about, as `dup2` may give one.
//!
//! Calls by that number go to the pair of sockets that stands in for it: from then on, so do all, and what is sent there is moved from here.
//! Datagrams and requests arrive as they should; senders' addresses, options and `ENOBUFS` there are not those of netlink, and a
//! datagram lies ready before it is asked for, so that `/proc` may be of an event later.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::sockets::proxy::Held;
use crate::supervisor::{ServeError, Supervisor};
use crate::sys::is_ready;
use crate::world::ReplayWorld;

/// The longest datagram in either direction.
const LONGEST: usize = 1 << 18;

/// What a socket waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// Something to send on.
    Datagram,
    /// That the program reads.
    Supervisor,
}

impl Held {
    /// From now on, all goes by the pair.
    pub(crate) fn loosen(&mut self) -> Result<(), Errno> {
        self.withdraw();
        self.is_loose = true;
        // Writable is a buffer then in which is one datagram at the most.
        set_socket_send_buffer_size(&self.end, 0)
    }

    /// Where it is looked at, and for what.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let room = if self.is_ready() { PollFlags::OUT } else { PollFlags::empty() };
        self.is_loose.then(|| (self.end.as_fd(), PollFlags::IN | room))
    }

    /// Moves what can be moved.
    fn pump(&mut self) -> Result<Awaits, Errno> {
        let mut bytes = vec![0; LONGEST];
        loop {
            match recv(&self.end, &mut bytes[..], RecvFlags::DONTWAIT) {
                // Who writes to a pair is told of no error.
                Ok((1.., len)) => drop(self.socket.send(&bytes[..len])),
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        while is_ready(self.end.as_fd(), PollFlags::OUT)? {
            match self.socket.recv(&mut bytes, RecvFlags::empty()) {
                Ok(datagram) if datagram.len == 0 => {
                    shutdown(&self.end, Shutdown::Write)?;
                    return Ok(Awaits::Supervisor);
                }
                Ok(datagram) => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    match send(&self.end, &bytes[..datagram.len], flags) {
                        // It was closed, or there is no room for so long a one, which is none of the kernel's.
                        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET | Errno::MSGSIZE) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(Errno::AGAIN) => return Ok(Awaits::Datagram),
                // What was lost shows as a gap.
                Err(_) => {}
            }
        }
        Ok(Awaits::Supervisor)
    }
}

impl Supervisor {
    /// Moves what can be moved of sockets that go by their pairs.
    pub(crate) fn pump<W: ReplayWorld>(&mut self, world: &mut W) -> Result<(), ServeError<W::Error>> {
        for at in 0..self.held.len() {
            while self.held[at].is_loose && self.held[at].pump()? == Awaits::Datagram {
                self.feed(world, &[at], Some(at))?;
                if !self.held[at].is_ready() {
                    break;
                }
                world.mark_received();
            }
        }
        Ok(())
    }
}
