//! A socket of the fake kernel as a file descriptor, for programs that read one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair,
};

use crate::netlink::message::{NLMSG_OVERRUN, PROC_GROUP, message};
use crate::netlink::socket::Socket;

mod fd_source;
mod pump_thread;

pub use fd_source::FdSource;
pub use pump_thread::PumpThread;

/// The length of the longest request that the kernel acts on; the rest of a longer one is not
/// needed to reject it.
const MAX_REQUEST: usize = pmon_core::wire::NLMSGHDR_LEN + 16_384;
/// The maximum number of requests that one [`FdSocket::pump`] transfers.
const MAX_REQUESTS_PER_PUMP: usize = 64;

/// A file descriptor that behaves like a netlink socket of the fake kernel, as far as another kind
/// of socket can.
///
/// The consumer reads one datagram per `recv` from it and writes requests to it; `poll`, `select`
/// and `epoll` work.
///
/// The descriptor is one end of a pair of `AF_UNIX` sockets of type `SOCK_SEQPACKET`. This value
/// has the other end and a [`Socket`] of the fake kernel, and transfers requests and datagrams
/// between the two. [`FdSocket::pump`] transfers what can be transferred now, for deterministic
/// tests with one thread; [`FdSocket::spawn_pump`] starts a thread that transfers all the time.
///
/// ```
/// use std::fs::File;
/// use std::io::{Read, Write};
///
/// use pmon_core::wire::{ByteOrder, Event, EventBody, SubscribeOp, SubscribeRequest};
/// use pmon_fake::{Kernel, PumpBlockedOn};
///
/// let mut kernel = Kernel::new(1);
/// let mut fd_socket = kernel.fd_socket()?;
/// let mut consumer = File::from(fd_socket.consumer().unwrap());
///
/// // The program under test subscribes.
/// let request = SubscribeRequest::new(SubscribeOp::Listen, 7);
/// consumer.write_all(&request.encode(0, ByteOrder::NATIVE))?;
/// assert_eq!(fd_socket.pump()?.requests, 1);
///
/// let shell = kernel.add_process("sh");
/// kernel.fork(shell);
/// kernel.end_of_file();
/// assert_eq!(fd_socket.pump()?.blocked_on, PumpBlockedOn::ConsumerClose);
///
/// let mut buffer = [0; 1024];
/// let mut next = || {
///     let len = consumer.read(&mut buffer).unwrap();
///     Event::decode(&buffer[..len], ByteOrder::NATIVE).ok()
/// };
/// assert_eq!(next().unwrap().body, EventBody::Ack { ack: 8, err: 0 });
/// assert!(matches!(next().unwrap().body, EventBody::Fork { parent, .. } if parent == shell));
/// assert_eq!(next(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Datagrams in transit
/// A transferred datagram has left the fake socket's buffer and waits in the socket pair. The pair
/// holds no more than the smallest buffer of a socket: on Linux 6.18, 6 events, or one datagram of
/// more than 4576 bytes and one event before it. Therefore the consumer can fall behind by this
/// many datagrams more than the `SO_RCVBUF` of the [`Socket`] holds before any is lost. Congestion
/// ends when the fake socket's buffer is empty, even if the consumer has not read the datagrams in
/// transit.
///
/// # Differences from a netlink socket
/// - `ENOBUFS` is never returned; no socket of another family returns it. [`OverrunSignal`] decides
///   how an overrun shows.
/// - `recvfrom` returns no sender address (its length is 0), so that datagrams from user space and
///   from the kernel look alike.
/// - `bind`, `getsockname` and socket options are those of an `AF_UNIX` socket: they fail or do
///   something else. The fake socket is bound to the group from the start; [`FdSocket::socket`]
///   gives access to its options.
/// - A request that `sendto` on a netlink socket would refuse is accepted and has no effect.
///   `sendto` with an address fails.
/// - Calls are never interrupted: [`Fault::Eintr`](crate::Fault::Eintr) has no effect.
///   [`Fault::Eagain`](crate::Fault::Eagain) makes calls of [`FdSocket::pump`] transfer no
///   datagram.
/// - An empty datagram, which [`Fault::Truncate`](crate::Fault::Truncate) can produce, looks like
///   the end of file.
///
/// After [`Fault::End`](crate::Fault::End), or when this value is dropped, the consumer is at end
/// of file: once it has read everything, `recv` returns 0. If this value was dropped, `send` then
/// fails with `EPIPE`, without a signal.
#[derive(Debug)]
pub struct FdSocket {
    socket: Socket,
    end: OwnedFd,
    consumer: Option<OwnedFd>,
    overrun_signal: OverrunSignal,
    /// Whether an `NLMSG_OVERRUN` is still to be sent.
    overrun_pending: bool,
    state: FdSocketState,
    request: Box<[u8]>,
}

/// How an [`FdSocket`] shows an overrun, which is `ENOBUFS` on a netlink socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverrunSignal {
    /// Only by missing sequence numbers: the consumer receives nothing that does not come from the
    /// kernel.
    #[default]
    Gap,
    /// By missing sequence numbers, and by a message of type `NLMSG_OVERRUN` where `ENOBUFS` would
    /// have been returned.
    ///
    /// [`FdSource`] understands this message. It comes before the datagrams still queued.
    Message,
}

/// The result of [`FdSocket::pump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PumpResult {
    /// Number of requests transferred to the fake socket.
    pub requests: usize,
    /// Number of datagrams transferred to the consumer.
    pub datagrams: usize,
    /// Why no more were transferred.
    pub blocked_on: PumpBlockedOn,
}

/// What has to happen before an [`FdSocket`] can transfer something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpBlockedOn {
    /// The fake kernel must emit an event, or the consumer must send a request.
    Kernel,
    /// The consumer must read a datagram.
    Consumer,
    /// The next call may transfer more: a fault script delayed this one, or there were too many
    /// requests.
    NextPump,
    /// The consumer is at end of file; its requests are still transferred until it closes its end.
    ConsumerClose,
    /// The consumer has closed its end, and the fake socket is closed too.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FdSocketState {
    Open,
    AtEnd,
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
        socket.bind(0, PROC_GROUP)?;
        set_socket_send_buffer_size(&end, 0)?;
        Ok(Self {
            socket,
            end,
            consumer: None,
            overrun_signal: OverrunSignal::default(),
            overrun_pending: false,
            state: FdSocketState::Open,
            request: vec![0; MAX_REQUEST].into(),
        })
    }

    /// Returns the consumer's end on the first call, and `None` afterwards.
    pub fn consumer(&mut self) -> Option<OwnedFd> {
        self.consumer.take()
    }

    /// Sets how coming overruns are shown.
    pub fn set_overrun_signal(&mut self, overrun_signal: OverrunSignal) {
        self.overrun_signal = overrun_signal;
    }

    /// Returns the socket of the fake kernel.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Transfers what can be transferred without blocking: first the consumer's requests, then the
    /// fake socket's datagrams.
    ///
    /// # Errors
    /// Returns an error if the machine has no memory for a datagram.
    pub fn pump(&mut self) -> io::Result<PumpResult> {
        let requests = self.transfer_requests()?;
        let mut result = PumpResult { requests, datagrams: 0, blocked_on: PumpBlockedOn::NextPump };
        if self.state == FdSocketState::Open && requests < MAX_REQUESTS_PER_PUMP {
            match self.transfer_datagrams(&mut result.datagrams) {
                Ok(blocked_on) => result.blocked_on = blocked_on,
                // The consumer closed its end. Requests that it sent before take effect.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    result.requests += self.transfer_requests()?;
                    self.close();
                }
                Err(error) => return Err(error.into()),
            }
        }
        match self.state {
            FdSocketState::Open => {}
            FdSocketState::AtEnd if result.requests == MAX_REQUESTS_PER_PUMP => {}
            FdSocketState::AtEnd => result.blocked_on = PumpBlockedOn::ConsumerClose,
            FdSocketState::Closed => result.blocked_on = PumpBlockedOn::Closed,
        }
        Ok(result)
    }

    fn close(&mut self) {
        self.state = FdSocketState::Closed;
        self.socket.close();
    }

    fn transfer_requests(&mut self) -> io::Result<usize> {
        let mut requests = 0;
        while self.state != FdSocketState::Closed && requests < MAX_REQUESTS_PER_PUMP {
            match recv(&self.end, &mut self.request[..], RecvFlags::DONTWAIT) {
                // Without POLLRDHUP it is an empty request, which looks the same.
                Ok((0, _)) if is_ready(self.end.as_fd(), PollFlags::RDHUP)? => self.close(),
                Ok((len, _)) => {
                    // The consumer's `send` has returned; its error cannot be reported any more.
                    let _ = self.socket.send(&self.request[..len]);
                    requests += 1;
                }
                Err(Errno::AGAIN) => break,
                // ECONNRESET: the consumer closed its end with datagrams unread. Its requests
                // follow.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(requests)
    }

    /// Sends queued datagrams to the consumer until the socket pair is full.
    fn transfer_datagrams(&mut self, datagrams: &mut usize) -> Result<PumpBlockedOn, Errno> {
        let returns_eagain = self.socket.with(|socket| {
            socket.eintr_calls = 0;
            let returns_eagain = socket.eagain_calls > 0;
            socket.eagain_calls -= u32::from(returns_eagain);
            returns_eagain
        });
        if returns_eagain {
            return Ok(PumpBlockedOn::NextPump);
        }
        let Self { socket, end, overrun_signal, overrun_pending, state, .. } = self;
        loop {
            if *overrun_pending {
                if !send_datagram(end.as_fd(), &message(NLMSG_OVERRUN, &[]))? {
                    return Ok(PumpBlockedOn::Consumer);
                }
                *overrun_pending = false;
                *datagrams += 1;
            }
            // A datagram that cannot be sent stays in the queue.
            let mut sent = Ok(true);
            let (drained, ended) = socket.with(|socket| {
                let drained = socket.queue.drain(|datagram| {
                    sent = send_datagram(end.as_fd(), datagram.bytes());
                    sent == Ok(true)
                });
                (drained, socket.ended)
            });
            match drained {
                Ok(drained) => *datagrams += drained,
                Err(Errno::NOBUFS) => {
                    *overrun_pending = *overrun_signal == OverrunSignal::Message;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !sent? {
                return Ok(PumpBlockedOn::Consumer);
            }
            if ended {
                shutdown(&*end, Shutdown::Write)?;
                *state = FdSocketState::AtEnd;
            }
            return Ok(PumpBlockedOn::Kernel);
        }
    }
}

impl AsFd for FdSocket {
    /// Returns this side's end: readable when the consumer has sent a request or closed its end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// Sends a datagram, or returns `false` if the socket pair is full.
fn send_datagram(end: BorrowedFd<'_>, datagram: &[u8]) -> Result<bool, Errno> {
    let sent = match try_send(end, datagram) {
        Err(Errno::MSGSIZE) => {
            // The datagram is longer than the whole send buffer. POLLOUT means that at least three
            // quarters of the buffer are free: at most one event is in transit, and no other long
            // datagram.
            if !is_ready(end, PollFlags::OUT)? {
                return Ok(false);
            }
            // The kernel doubles the requested size, and adds its overhead to the datagram's.
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

/// Polls one descriptor without waiting; returns whether any of `flags` is set.
fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<bool, Errno> {
    let mut fd = [PollFd::from_borrowed_fd(fd, flags)];
    Ok(retry_on_intr(|| poll(&mut fd, Some(&Timespec::default())))? > 0)
}

fn try_send(end: BorrowedFd<'_>, datagram: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| send(end, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}
