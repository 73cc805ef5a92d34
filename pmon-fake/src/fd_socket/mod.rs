//! A socket of the fake kernel as a file descriptor, for programs that read one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::native_socket::{NativeSocket, NativeSocketError, NativeSocketStep};
use crate::netlink::message::PROC_GROUP;
use crate::netlink::socket::Socket;

#[cfg(feature = "tokio")]
mod async_fd_socket;
mod fd_source;
mod netlink_end;
mod pair_end;
mod pump_thread;

#[cfg(feature = "tokio")]
pub use async_fd_socket::AsyncFdSocket;
pub use fd_source::FdSource;
use netlink_end::NetlinkEnd;
use pair_end::PairEnd;
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
/// There are two kinds, see [`FdSocketFamily`]. [`Kernel::fd_socket`](crate::Kernel::fd_socket)
/// gives the consumer one end of a pair of `AF_UNIX` sockets of type `SOCK_SEQPACKET`, which works
/// everywhere. [`Kernel::netlink_fd_socket`](crate::Kernel::netlink_fd_socket) gives it a native
/// netlink socket, whose overruns return `ENOBUFS`, where the system allows unprivileged user
/// namespaces.
///
/// This value has the other end and a [`Socket`] of the fake kernel, and transfers requests and
/// datagrams between the two. [`FdSocket::pump`] transfers what can be transferred now, for
/// deterministic tests with one thread; [`FdSocket::spawn_pump`] starts a thread that transfers all
/// the time.
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
/// # Overruns on a netlink socket
/// ```
/// # use pmon_core::wire::{ByteOrder, Event};
/// # use pmon_fake::{Errno, Kernel};
/// # use rustix::net::{RecvFlags, recv};
/// let mut kernel = Kernel::new(1);
/// # if kernel.netlink_fd_socket().is_err() { return Ok(()) } // This system does not allow it.
/// let mut fd_socket = kernel.netlink_fd_socket()?;
/// fd_socket.socket().listen()?;
/// let consumer = fd_socket.consumer().unwrap();
/// let shell = kernel.add_process("sh");
///
/// kernel.overrun(pmon_core::Cpu(0), 1);
/// kernel.fork(shell);
/// fd_socket.pump()?;
///
/// let mut buffer = [0; 1024];
/// let mut next = || recv(&consumer, &mut buffer[..], RecvFlags::empty()).map(|(_, len)| len);
/// assert_eq!(next(), Err(Errno::NOBUFS));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All events are sent at once, and the kernel drops those that do not fit into the buffer: the
/// consumer sets `SO_RCVBUF` and `NETLINK_NO_ENOBUFS` itself. What differs from a socket of
/// `NETLINK_CONNECTOR`:
///
/// - The consumer sends requests without an address. What it sends to an explicit address has no
///   effect, port 0 included.
/// - There is no end of file: [`Fault::End`](crate::Fault::End), and dropping this value, leave the
///   consumer waiting. That the consumer has closed its end is not noticed.
/// - `SO_RCVBUF` and `SK_MEMINFO_RMEM_ALLOC` are 2,496 bytes higher (3 datagrams), after a change
///   by the consumer from the next pump on. Notifications of message queues make it possible to
///   drop a datagram while the buffer is empty; dropping this value queues them, as `NLMSG_NOOP`
///   messages. They take three POSIX message queues per socket, of 256 per system.
/// - `SO_ATTACH_FILTER` fails with `EPERM`: a filter cuts off what the kernel appends. `bind` fails
///   with `EINVAL` for another port than the process's id or the one in `getsockname`.
/// - `getpeername` returns a port, and `SO_PROTOCOL` is `NETLINK_KOBJECT_UEVENT`.
/// - A datagram of more than 2,004 bytes makes [`FdSocket::pump`] fail with `EMSGSIZE`. All
///   datagrams of user space come from the port of the first one.
/// - [`FdSocket::pump`] fails with `EPERM` after this process has changed its effective user id.
///
/// # Datagrams in transit through a pair
/// A transferred datagram has left the fake socket's buffer and waits in the socket pair. The pair
/// holds no more than the smallest buffer of a socket: on Linux 6.18, 6 events, or one datagram of
/// more than 4576 bytes and one event before it. Therefore the consumer can fall behind by this
/// many datagrams more than the `SO_RCVBUF` of the [`Socket`] holds before any is lost. Congestion
/// ends when the fake socket's buffer is empty, even if the consumer has not read the datagrams in
/// transit.
///
/// # Differences of a pair from a netlink socket
/// - `ENOBUFS` is never returned; no socket of another family returns it. [`OverrunSignal`] decides
///   how an overrun shows.
/// - `recvfrom` returns no sender address (its length is 0), so that datagrams from user space and
///   from the kernel look alike.
/// - `bind`, `getsockname` and socket options are those of an `AF_UNIX` socket: they fail or do
///   something else. The fake socket is bound to the group from the start; [`FdSocket::socket`]
///   gives access to its options.
/// - A request that `sendto` on a netlink socket would refuse is accepted and has no effect.
///   `sendto` with an address fails.
/// - Calls are never interrupted, on a netlink socket neither:
///   [`Fault::Eintr`](crate::Fault::Eintr) has no effect. [`Fault::Eagain`](crate::Fault::Eagain)
///   makes calls of [`FdSocket::pump`] transfer no datagram.
/// - An empty datagram, which [`Fault::Truncate`](crate::Fault::Truncate) can produce, looks like
///   the end of file.
///
/// After [`Fault::End`](crate::Fault::End), or when this value is dropped, the consumer of a pair
/// is at end of file: once it has read everything, `recv` returns 0. If this value was dropped,
/// `send` then fails with `EPIPE`, without a signal.
#[derive(Debug)]
pub struct FdSocket {
    socket: Socket,
    end: FdSocketEnd,
    consumer: Option<OwnedFd>,
    state: FdSocketState,
    request: Box<[u8]>,
}

/// The kernel's side of the consumer's descriptor.
#[derive(Debug)]
enum FdSocketEnd {
    Pair(PairEnd),
    Netlink(NetlinkEnd),
}

/// The kind of socket behind the consumer's descriptor of an [`FdSocket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdSocketFamily {
    /// A native netlink socket: overruns return `ENOBUFS`.
    Netlink,
    /// A `SOCK_SEQPACKET` pair of `AF_UNIX` sockets, which every system allows.
    Unix,
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

    pub(crate) fn open_netlink(mut socket: Socket) -> Result<Self, NativeSocketError> {
        let failed = NativeSocketStep::Setup.failed();
        let native = NativeSocket::new()?;
        let consumer =
            native.receiver().map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        socket.bind(0, PROC_GROUP).map_err(&failed)?;
        // The buffer of the native socket is the limit.
        socket.force_rcvbuf(i32::MAX).map_err(&failed)?;
        Ok(Self {
            consumer: Some(consumer),
            ..Self::with_end(socket, FdSocketEnd::Netlink(NetlinkEnd::new(native)))
        })
    }

    pub(crate) fn over(mut socket: Socket, end: OwnedFd) -> io::Result<Self> {
        socket.bind(0, PROC_GROUP)?;
        Ok(Self::with_end(socket, FdSocketEnd::Pair(PairEnd::new(end)?)))
    }

    fn with_end(socket: Socket, end: FdSocketEnd) -> Self {
        let request = vec![0; MAX_REQUEST].into();
        Self { socket, end, consumer: None, state: FdSocketState::Open, request }
    }

    /// Returns the kind of socket that the consumer has.
    pub fn family(&self) -> FdSocketFamily {
        match self.end {
            FdSocketEnd::Netlink(_) => FdSocketFamily::Netlink,
            FdSocketEnd::Pair(_) => FdSocketFamily::Unix,
        }
    }

    /// Returns the consumer's end on the first call, and `None` afterwards.
    pub fn consumer(&mut self) -> Option<OwnedFd> {
        self.consumer.take()
    }

    /// Sets how coming overruns are shown. A netlink socket always returns `ENOBUFS`.
    pub fn set_overrun_signal(&mut self, overrun_signal: OverrunSignal) {
        if let FdSocketEnd::Pair(end) = &mut self.end {
            end.overrun_signal = overrun_signal;
        }
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
            let received = match &self.end {
                FdSocketEnd::Pair(end) => end.receive(&mut self.request),
                FdSocketEnd::Netlink(end) => end.receive(&mut self.request),
            };
            match received {
                Ok(Some(len)) => {
                    // The consumer's `send` has returned; its error cannot be reported any more.
                    let _ = self.socket.send(&self.request[..len]);
                    requests += 1;
                }
                Ok(None) => self.close(),
                Err(Errno::AGAIN) => break,
                // ECONNRESET: the consumer closed its end with datagrams unread. Its requests
                // follow.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(requests)
    }

    /// Sends queued datagrams to the consumer, as far as there is space.
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
        let blocked_on = match &mut self.end {
            FdSocketEnd::Pair(end) => end.transfer(&self.socket, datagrams)?,
            FdSocketEnd::Netlink(end) => return end.transfer(&self.socket, datagrams),
        };
        if blocked_on == PumpBlockedOn::ConsumerClose {
            self.state = FdSocketState::AtEnd;
        }
        Ok(blocked_on)
    }
}

impl AsFd for FdSocket {
    /// Returns this side's end: readable when the consumer has sent a request or closed its end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.end {
            FdSocketEnd::Pair(end) => end.as_fd(),
            FdSocketEnd::Netlink(end) => end.as_fd(),
        }
    }
}
