//! A socket of the fake kernel as a file descriptor: for programs that take one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
};

use crate::faults::injector::{NLMSG_OVERRUN, message};
use crate::netlink::connector::GROUP;
use crate::netlink::socket::Socket;

mod fd_source;
mod pump_thread;

pub use fd_source::FdSource;
pub use pump_thread::PumpThread;

/// The longest request that the kernel looks at. Of a longer one, no more is needed to see that it is too long.
const REQUEST: usize = pmon_core::wire::NLMSGHDR_LEN + 16_384;
/// Requests taken by one call of [`FdSocket::pump`].
const REQUESTS: usize = 64;

/// A file descriptor that behaves as a netlink socket does, as far as another socket can: datagrams can be read from it, one at a time, and
/// requests can be written to it; `poll`, `select` and `epoll` tell the truth.
///
/// It is one end of a pair of `AF_UNIX` sockets of type `SOCK_SEQPACKET`. The other end is here: what is written to the first goes
/// to a [`Socket`] of the fake kernel, and the socket's datagrams go to the first. This takes somebody to move them:
/// [`FdSocket::pump`] moves what can be moved now, for tests with one thread, in which everything has its order; [`FdSocket::spawn_pump`] is a
/// thread that does it all the time.
///
/// ```
/// use std::fs::File;
/// use std::io::{Read, Write};
///
/// use pmon_core::wire::{Body, ByteOrder, Event, Operation, Request};
/// use pmon_fake::{PumpBlockedOn, Kernel};
///
/// let mut kernel = Kernel::new(1);
/// let mut wire = kernel.fd_socket()?;
/// let mut consumer = File::from(wire.consumer().unwrap());
///
/// // The program under test subscribes,
/// consumer.write_all(&Request::new(Operation::Listen, 7).encode(0, ByteOrder::NATIVE))?;
/// assert_eq!(wire.pump()?.requests, 1);
///
/// // and something happens.
/// let shell = kernel.add_process("sh");
/// kernel.fork(shell);
/// kernel.end_of_file();
/// assert_eq!(wire.pump()?.blocked_on, PumpBlockedOn::ConsumerClose);
///
/// let mut buffer = [0; 1024];
/// let mut next = || consumer.read(&mut buffer).map(|len| Event::decode(&buffer[..len], ByteOrder::NATIVE).ok());
/// assert_eq!(next()?.unwrap().body, Body::Ack { ack: 8, err: 0 });
/// assert!(matches!(next()?.unwrap().body, Body::Fork { parent, .. } if parent == shell));
/// assert_eq!(next()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is between
/// A datagram that is on its way has left the fake socket's buffer, and has not been read yet. There are no more of them than the
/// least buffer of a socket takes: on Linux 6.18, 6 events, or one datagram of more than 4576 bytes and one event before it. So the consumer
/// loses nothing until it is that much further behind than the [`Socket`]'s `SO_RCVBUF` allows; and congestion ends when the fake
/// socket's buffer is empty, at most so many datagrams before the consumer has read everything.
///
/// # What it is not
/// - It never says `ENOBUFS`: no socket of another family does. An overrun shows as [`OverrunSignal`] says.
/// - There is no sender's address: `recvfrom` gives none (a length of 0). What user space sent on the fake kernel cannot be told
///   from what that kernel sent.
/// - `bind`, `getsockname` and the options of netlink are those of a `AF_UNIX` socket: they fail, or do something else. The fake
///   socket is bound to the group from the beginning; [`FdSocket::socket`] has its options.
/// - A request that `sendto` would refuse is not refused, but has no effect. A `send` with an address fails.
/// - Calls are not interrupted: [`Fault::Eintr`](crate::Fault::Eintr) has no effect. [`Fault::Eagain`](crate::Fault::Eagain)
///   makes so many calls of [`FdSocket::pump`] bring nothing.
/// - A datagram of no bytes, as [`Fault::Truncate`](crate::Fault::Truncate) can make one, looks like the end of the file.
///
/// Its end, after [`Fault::End`](crate::Fault::End) or when the wire is dropped, is that of a file: once everything was read, `recv` returns 0.
/// Then `send` fails with `EPIPE` if the wire was dropped; no signal comes.
#[derive(Debug)]
pub struct FdSocket {
    socket: Socket,
    end: OwnedFd,
    consumer: Option<OwnedFd>,
    overruns: OverrunSignal,
    /// An overrun that there was no room to tell of.
    overrun: bool,
    state: State,
    request: Box<[u8]>,
}

/// How a [`FdSocket`] shows that datagrams were lost, which is `ENOBUFS` on a netlink socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverrunSignal {
    /// SequenceNumbers are missing: nothing else comes that does not come from the kernel.
    #[default]
    Gap,
    /// The same, and before the datagrams that were still queued comes a message of type `NLMSG_OVERRUN`, where `ENOBUFS` would have been
    /// returned. [`FdSource`](crate::FdSource) understands it.
    Message,
}

/// What a call of [`FdSocket::pump`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PumpResult {
    /// Requests of the consumer that went to the fake socket.
    pub requests: usize,
    /// Datagrams that went to the consumer.
    pub datagrams: usize,
    /// Why there were no more.
    pub blocked_on: PumpBlockedOn,
}

/// What has to happen before a [`FdSocket`] can move something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpBlockedOn {
    /// Something on the fake kernel, or a request.
    Kernel,
    /// The consumer has to read: see [`FdSocket`] for how much is between.
    Consumer,
    /// Only the next call: a fault script keeps things back, or there were very many requests.
    NextPump,
    /// The consumer has its end of file. Requests are still taken.
    ConsumerClose,
    /// The consumer has closed its end, and with it the fake socket is closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Closed,
}

impl FdSocket {
    pub(crate) fn open(socket: Socket, nonblocking: bool) -> io::Result<Self> {
        let (end, consumer) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        ioctl_fionbio(&consumer, nonblocking)?;
        Ok(Self { consumer: Some(consumer), ..Self::over(socket, end)? })
    }

    pub(crate) fn over(mut socket: Socket, end: OwnedFd) -> io::Result<Self> {
        socket.bind(0, GROUP)?;
        set_socket_send_buffer_size(&end, 0)?;
        Ok(Self {
            socket,
            end,
            consumer: None,
            overruns: OverrunSignal::default(),
            overrun: false,
            state: State::Open,
            request: vec![0; REQUEST].into(),
        })
    }

    /// The consumer's end, the first time.
    pub fn consumer(&mut self) -> Option<OwnedFd> {
        self.consumer.take()
    }

    /// How overruns are shown from now on.
    pub fn set_overrun_signal(&mut self, overruns: OverrunSignal) {
        self.overruns = overruns;
    }

    /// The socket of the fake kernel: its buffer, its options, its counts.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Moves what can be moved now: first the consumer's requests to the fake kernel, then the fake socket's datagrams to the consumer. Waits
    /// for nothing.
    ///
    /// # Errors
    /// When this host has no memory for it.
    pub fn pump(&mut self) -> io::Result<PumpResult> {
        let mut pumped =
            PumpResult { requests: self.take_requests()?, datagrams: 0, blocked_on: PumpBlockedOn::NextPump };
        if self.state == State::Open && pumped.requests < REQUESTS {
            match self.forward(&mut pumped.datagrams) {
                Ok(awaits) => pumped.blocked_on = awaits,
                // It does not read any more. What it asked for before it closed is done.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    pumped.requests += self.take_requests()?;
                    self.close();
                }
                Err(error) => return Err(error.into()),
            }
        }
        match self.state {
            State::Open => {}
            State::Ended if pumped.requests == REQUESTS => {}
            State::Ended => pumped.blocked_on = PumpBlockedOn::ConsumerClose,
            State::Closed => pumped.blocked_on = PumpBlockedOn::Closed,
        }
        Ok(pumped)
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.socket.close();
    }

    fn take_requests(&mut self) -> io::Result<usize> {
        let mut requests = 0;
        while self.state != State::Closed && requests < REQUESTS {
            match recv(&self.end, &mut self.request[..], RecvFlags::DONTWAIT) {
                // A request of no bytes looks the same.
                Ok((0, _)) if is_ready(self.end.as_fd(), PollFlags::RDHUP)? => self.close(),
                Ok((len, _)) => {
                    // What is refused cannot be told.
                    let _ = self.socket.send(&self.request[..len]);
                    requests += 1;
                }
                Err(Errno::AGAIN) => break,
                // It was closed before everything was read; what it had sent comes next.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(requests)
    }

    /// Sends what is queued, as long as there is room.
    fn forward(&mut self, datagrams: &mut usize) -> Result<PumpBlockedOn, Errno> {
        let is_starved = self.socket.with(|member| {
            member.interrupted = 0;
            let is_starved = member.starved > 0;
            member.starved -= u32::from(is_starved);
            is_starved
        });
        if is_starved {
            return Ok(PumpBlockedOn::NextPump);
        }
        let Self { socket, end, overruns, overrun, state, .. } = self;
        loop {
            if *overrun {
                if !put(end.as_fd(), &message(NLMSG_OVERRUN, &[]))? {
                    return Ok(PumpBlockedOn::Consumer);
                }
                *overrun = false;
                *datagrams += 1;
            }
            // What cannot be sent is still queued.
            let mut sent = Ok(true);
            let (drained, is_ended) = socket.with(|member| {
                let drained = member.sock.drain(|skb| {
                    sent = put(end.as_fd(), skb.bytes());
                    sent == Ok(true)
                });
                (drained, member.ended)
            });
            match drained {
                Ok(drained) => *datagrams += drained,
                Err(Errno::NOBUFS) => {
                    *overrun = *overruns == OverrunSignal::Message;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !sent? {
                return Ok(PumpBlockedOn::Consumer);
            }
            if is_ended {
                shutdown(&*end, Shutdown::Write)?;
                *state = State::Ended;
            }
            return Ok(PumpBlockedOn::Kernel);
        }
    }
}

impl AsFd for FdSocket {
    /// The end that is here: readable when there are requests, or the consumer has closed its end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// Sends a datagram; `false` if there is no room.
fn put(end: BorrowedFd<'_>, datagram: &[u8]) -> Result<bool, Errno> {
    let sent = match try_send(end, datagram) {
        Err(Errno::MSGSIZE) => {
            // The buffer is too small for it, even if it is empty. Writable is a buffer of which three quarters are: here, there is no
            // more than one event in it, and no other long datagram.
            if !is_ready(end, PollFlags::OUT)? {
                return Ok(false);
            }
            // The kernel doubles what is asked for, and needs some more.
            set_socket_send_buffer_size(end, datagram.len() / 2 + 32)?;
            let sent = try_send(end, datagram);
            set_socket_send_buffer_size(end, 0)?;
            sent
        }
        sent => sent,
    };
    match sent {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `poll` for one of these, which waits for nothing.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<bool, Errno> {
    let mut fd = [PollFd::from_borrowed_fd(fd, flags)];
    Ok(retry_on_intr(|| poll(&mut fd, Some(&Timespec::default())))? > 0)
}

fn try_send(end: BorrowedFd<'_>, datagram: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| send(end, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}
