//! A thread that moves what a wire can move, as soon as it can.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;

use crate::fd_socket::{FdSocket, PumpBlockedOn};
use crate::netlink::notifier::Notifier;

/// A [`FdSocket`] that is being served, by a thread. Dropping it ends that, and with it the consumer's file.
#[derive(Debug)]
pub struct PumpThread {
    thread: Option<JoinHandle<io::Result<FdSocket>>>,
    stop: Arc<AtomicBool>,
    bell: Arc<Notifier>,
}

impl FdSocket {
    /// Serves it until the consumer closes its end, or the returned value is dropped. Take the [consumer's end](FdSocket::consumer) before.
    ///
    /// The thread sleeps until the consumer's end or the fake kernel has something for it. When it gets to move what is queued is the
    /// scheduler's choice: a test that depends on when the fake socket overruns calls [`FdSocket::pump`] itself.
    ///
    /// # Errors
    /// When this host has no file descriptor or no thread left.
    pub fn spawn_pump(self) -> io::Result<PumpThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let bell = Arc::new(Notifier::new()?);
        let thread = {
            let (stop, bell) = (stop.clone(), bell.clone());
            Builder::new().name("fake-wire".into()).spawn(move || serve(self, &stop, &bell))?
        };
        Ok(PumpThread { thread: Some(thread), stop, bell })
    }

    /// Whether there is nothing to move; then, `bell` is rung as soon as there is.
    fn may_sleep(&mut self, bell: &Arc<Notifier>) -> bool {
        self.socket().with(|member| {
            let is_idle = member.sock.readiness() == (false, false) && !member.ended;
            if is_idle {
                member.sock.sleep(bell);
            }
            is_idle
        })
    }
}

impl PumpThread {
    /// Waits until the consumer has closed its end.
    ///
    /// # Errors
    /// As [`FdSocket::pump`].
    pub fn wait(mut self) -> io::Result<()> {
        self.join().map(|_| ())
    }

    /// Stops, and gives the wire back: the consumer's end stays open, and what is queued stays queued.
    ///
    /// # Errors
    /// As [`FdSocket::pump`].
    pub fn stop(mut self) -> io::Result<FdSocket> {
        self.halt();
        self.join()
    }

    fn halt(&self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }

    fn join(&mut self) -> io::Result<FdSocket> {
        let thread = self.thread.take().ok_or_else(|| io::Error::other("it has been waited for before"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for PumpThread {
    fn drop(&mut self) {
        self.halt();
        if let Some(thread) = self.thread.take() {
            // If it failed, the consumer had its end of file then.
            let _ = thread.join();
        }
    }
}

fn serve(mut wire: FdSocket, stop: &AtomicBool, bell: &Arc<Notifier>) -> io::Result<FdSocket> {
    while !stop.load(Ordering::Acquire) {
        let interest = match wire.pump()?.blocked_on {
            PumpBlockedOn::Closed => break,
            PumpBlockedOn::NextPump => continue,
            PumpBlockedOn::Kernel if !wire.may_sleep(bell) => continue,
            PumpBlockedOn::Kernel | PumpBlockedOn::ConsumerClose => PollFlags::IN,
            PumpBlockedOn::Consumer => PollFlags::IN | PollFlags::OUT,
        };
        let end = PollFd::from_borrowed_fd(wire.as_fd(), interest);
        retry_on_intr(|| poll(&mut [end.clone(), PollFd::new(bell, PollFlags::IN)], None))?;
        bell.silence();
    }
    Ok(wire)
}
