//! A thread that pumps an [`FdSocket`] whenever something can be transferred.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;

use super::{FdSocket, PumpBlockedOn};
use crate::netlink::notifier::Notifier;

/// A thread that pumps an [`FdSocket`]; dropping this value stops the thread and closes the
/// kernel's side.
#[derive(Debug)]
pub struct PumpThread {
    thread: Option<JoinHandle<io::Result<FdSocket>>>,
    stop: Arc<AtomicBool>,
    notifier: Arc<Notifier>,
}

impl FdSocket {
    /// Starts a thread that pumps until the consumer closes its end or the returned value is
    /// dropped.
    ///
    /// Call [`FdSocket::consumer`] first. The thread sleeps until the consumer or the fake kernel
    /// has something to transfer. The scheduler decides when it runs: a test that depends on the
    /// moment of an overrun calls [`FdSocket::pump`] itself.
    ///
    /// # Errors
    /// Returns an error if this process has no file descriptor or no thread left.
    pub fn spawn_pump(self) -> io::Result<PumpThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let notifier = Arc::new(Notifier::new()?);
        let thread = {
            let (stop, notifier) = (stop.clone(), notifier.clone());
            Builder::new().name("fake-fd-pump".into()).spawn(move || run(self, &stop, &notifier))?
        };
        Ok(PumpThread { thread: Some(thread), stop, notifier })
    }

    /// Returns whether nothing can be transferred now; then `notifier` is notified as soon as
    /// something can.
    fn may_sleep(&mut self, notifier: &Arc<Notifier>) -> bool {
        self.socket().with(|socket| {
            let is_idle = socket.queue.readiness() == (false, false) && !socket.ended;
            if is_idle {
                socket.queue.waiter = Some(notifier.clone());
            }
            is_idle
        })
    }
}

impl PumpThread {
    /// Waits until the consumer has closed its end, which is not noticed on a netlink socket.
    ///
    /// # Errors
    /// As [`FdSocket::pump`].
    pub fn wait(mut self) -> io::Result<()> {
        self.join().map(|_| ())
    }

    /// Stops the thread and returns the socket; the consumer's end stays open, and queued datagrams
    /// stay queued.
    ///
    /// # Errors
    /// As [`FdSocket::pump`].
    pub fn stop(mut self) -> io::Result<FdSocket> {
        self.request_stop();
        self.join()
    }

    fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.notifier.notify();
    }

    fn join(&mut self) -> io::Result<FdSocket> {
        let thread =
            self.thread.take().ok_or_else(|| io::Error::other("the pump thread was joined before"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for PumpThread {
    fn drop(&mut self) {
        self.request_stop();
        if let Some(thread) = self.thread.take() {
            // If the thread failed, the consumer was at end of file from then on.
            let _ = thread.join();
        }
    }
}

fn run(mut fd_socket: FdSocket, stop: &AtomicBool, notifier: &Arc<Notifier>) -> io::Result<FdSocket> {
    while !stop.load(Ordering::Acquire) {
        let interest = match fd_socket.pump()?.blocked_on {
            PumpBlockedOn::Closed => break,
            PumpBlockedOn::NextPump => continue,
            PumpBlockedOn::Kernel if !fd_socket.may_sleep(notifier) => continue,
            PumpBlockedOn::Kernel | PumpBlockedOn::ConsumerClose => PollFlags::IN,
            PumpBlockedOn::Consumer => PollFlags::IN | PollFlags::OUT,
        };
        let end = PollFd::from_borrowed_fd(fd_socket.as_fd(), interest);
        retry_on_intr(|| poll(&mut [end.clone(), PollFd::new(notifier, PollFlags::IN)], None))?;
        notifier.clear();
    }
    Ok(fd_socket)
}
