//! The consumer's end of an `FdSocket` on a tokio runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pmon_core::wire::{ByteOrder, SubscribeOp, SubscribeRequest};
use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a receive call waits for. An overrun of an empty socket is reported as an error only,
/// without the socket being readable.
const RECEIVE: Interest = Interest::READABLE.add(Interest::ERROR);

/// The consumer's end of an [`FdSocket`](crate::FdSocket) as an asynchronous socket of tokio, or
/// any other datagram socket.
///
/// ```
/// use pmon_fake::{AsyncFdSocket, Errno, Kernel};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
/// # runtime.block_on(async {
/// let mut kernel = Kernel::new(1);
/// # if kernel.netlink_fd_socket().is_err() { return Ok(()) } // This system does not allow it.
/// let mut fd_socket = kernel.netlink_fd_socket()?;
/// let consumer = AsyncFdSocket::new(fd_socket.consumer().unwrap())?;
/// consumer.listen().await?;
/// fd_socket.pump()?;
///
/// let mut buffer = [0; 1024];
/// assert_eq!(consumer.recv(&mut buffer).await?, 76); // The acknowledgement.
///
/// let shell = kernel.add_process("sh");
/// kernel.lose(1);
/// kernel.fork(shell);
/// fd_socket.pump()?;
/// let error = consumer.recv(&mut buffer).await.unwrap_err();
/// assert_eq!(Errno::from_io_error(&error), Some(Errno::NOBUFS));
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct AsyncFdSocket(AsyncFd<OwnedFd>);

impl AsyncFdSocket {
    /// Registers a descriptor with the current runtime, and makes it non-blocking.
    ///
    /// # Errors
    /// Returns an error if the runtime cannot wait for this descriptor.
    ///
    /// # Panics
    /// Panics outside a runtime, or if the runtime has no I/O (`enable_io`).
    #[allow(deprecated, reason = "the replacement is unsafe; this value owns the descriptor")]
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&fd, true)?;
        AsyncFd::with_interest(fd, RECEIVE.add(Interest::WRITABLE)).map(Self)
    }

    /// Receives the next datagram into `buffer`, as far as it fits, and returns its length there.
    ///
    /// At the end of file of a socket pair, the length is 0. The call can be cancelled without the
    /// loss of a datagram.
    ///
    /// # Errors
    /// `ENOBUFS` if datagrams were dropped, before the datagrams still queued; see
    /// [`Errno::from_io_error`].
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.0.ready(RECEIVE).await?;
            if let Ok(received) = guard.try_io(|fd| self::try_recv(fd.as_fd(), buffer)) {
                return received;
            }
        }
    }

    /// Receives the next datagram without waiting.
    ///
    /// # Errors
    /// As [`AsyncFdSocket::recv`], and `EAGAIN` if no datagram is queued.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self::try_recv(self.0.as_fd(), buffer)
    }

    /// Waits until [`AsyncFdSocket::try_recv`] would return a datagram, an error or the end of
    /// file.
    ///
    /// # Errors
    /// Returns an error if the runtime has ended.
    pub async fn readable(&self) -> io::Result<()> {
        loop {
            let mut guard = self.0.ready(RECEIVE).await?;
            // Readiness can be outdated. Peeking at a datagram takes a pending error, so `poll`
            // decides.
            if is_receivable(self.0.as_fd())? {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    /// Subscribes to all events.
    ///
    /// # Errors
    /// As [`AsyncFdSocket::send`].
    pub async fn listen(&self) -> io::Result<()> {
        let request = SubscribeRequest::new(SubscribeOp::Listen, 0).encode(0, ByteOrder::NATIVE);
        self.send(&request).await
    }

    /// Sends a request.
    ///
    /// # Errors
    /// `EPIPE` if the other end of a socket pair is closed.
    pub async fn send(&self, request: &[u8]) -> io::Result<()> {
        let send = |fd: &OwnedFd| Ok(retry_on_intr(|| send(fd, request, SendFlags::NOSIGNAL)).map(|_| ())?);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// Returns the descriptor; the runtime no longer waits for it.
    pub fn into_inner(self) -> OwnedFd {
        self.0.into_inner()
    }
}

impl AsFd for AsyncFdSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn try_recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| recv(fd, &mut *buffer, RecvFlags::DONTWAIT)).map(|(len, _)| len)?)
}

/// Returns whether a receive call would return something now.
fn is_receivable(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fd = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(retry_on_intr(|| poll(&mut fd, Some(&Timespec::default())))? > 0)
}
