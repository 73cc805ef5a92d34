//! Programs that connect to the socket of `replay --socket` and read process events from it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pmon_fake::{FdSocket, OverrunSignal, PumpBlockedOn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use crate::exit::{self, Failure, OrFail as _};
use crate::input::{CaptureReplay, shown};
use crate::terminal;

use super::pacer::Pacer;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// Interval between two checks for signals while no datagram can be moved.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(20);

/// The programs that are connected.
pub(super) struct Consumers {
    listener: OwnedFd,
    path: PathBuf,
    /// The sockets of the programs, each with the reason why its pump stopped.
    wires: Vec<(FdSocket, PumpBlockedOn)>,
    connected: u64,
    dropped: u64,
}

impl Consumers {
    /// Listens at `path` until the first program has connected. The fake kernel sends events to
    /// every connected program, subscribed or not.
    pub(super) fn wait_for_first(
        path: &Path,
        replay: &mut CaptureReplay,
        pacer: &mut Pacer,
    ) -> Result<Self, Failure> {
        let mut this = Self::listen(path).map_err(|error| {
            let exists = fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
            let hint = if exists { ": the socket exists; remove it if no process uses it" } else { "" };
            let error = anyhow::Error::new(error);
            Failure {
                code: exit::STORAGE,
                error: Some(error.context(format!("cannot listen at {}{hint}", shown(path)))),
            }
        })?;
        terminal::eprintln(format_args!("pmon: waiting for a consumer at {} (SOCK_SEQPACKET)", shown(path)));
        while this.wires.is_empty() {
            this.serve(replay, SIGNAL_INTERVAL)?;
            if !pacer.continues(Duration::ZERO)? {
                return Err(if pacer.is_late() {
                    Failure::new(
                        exit::LIMIT,
                        format_args!("no program has connected to {} within --limit", shown(path)),
                    )
                } else {
                    Failure { code: exit::INTERRUPTED, error: None }
                });
            }
        }
        Ok(this)
    }

    fn listen(path: &Path) -> Result<Self, io::Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(path)?)?;
        listen(&listener, BACKLOG)?;
        Ok(Self { listener, path: path.into(), wires: Vec::new(), connected: 0, dropped: 0 })
    }

    /// Accepts connections and moves datagrams; waits at most `timeout` until that is possible.
    pub(super) fn serve(&mut self, replay: &mut CaptureReplay, timeout: Duration) -> Result<(), Failure> {
        self.pump(replay)?;
        let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(self.wires.iter().map(|(wire, awaits)| {
            let room = if *awaits == PumpBlockedOn::Consumer { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::from_borrowed_fd(wire.as_fd(), PollFlags::IN | room)
        }));
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            polled => polled.or_fail(exit::INTERNAL, "cannot wait")?,
        };
        self.pump(replay).map(|_| ())
    }

    /// Accepts connections and moves datagrams. Returns `true` if no program has to read before the
    /// next event can happen.
    fn pump(&mut self, replay: &mut CaptureReplay) -> Result<bool, Failure> {
        let failed = |error: io::Error| {
            Failure::new(exit::ENVIRONMENT, format!("cannot send events to a program: {error}"))
        };
        while let Some(end) = self.accept().map_err(failed)? {
            let mut wire = replay.kernel().fd_socket_over(end).map_err(failed)?;
            wire.set_overrun_signal(OverrunSignal::Message);
            self.wires.push((wire, PumpBlockedOn::NextPump));
            self.connected += 1;
        }
        let (mut connected, mut is_idle) = (Vec::new(), true);
        for (mut wire, _) in std::mem::take(&mut self.wires) {
            let awaits = wire.pump().map_err(failed)?.blocked_on;
            is_idle &= matches!(
                awaits,
                PumpBlockedOn::Kernel | PumpBlockedOn::Closed | PumpBlockedOn::ConsumerClose
            );
            if awaits == PumpBlockedOn::Closed {
                self.dropped += u64::from(wire.socket().memory().drops);
            } else {
                connected.push((wire, awaits));
            }
        }
        self.wires = connected;
        Ok(is_idle)
    }

    fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match accept_with(&self.listener, SocketFlags::CLOEXEC) {
            Ok(end) => {
                ioctl_fionbio(&end, true)?;
                Ok(Some(end))
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until all programs have read all events. Returns `false` if no program is left.
    pub(super) fn wait_until_read(
        &mut self,
        replay: &mut CaptureReplay,
        pacer: &mut Pacer,
    ) -> Result<bool, Failure> {
        while !self.pump(replay)? {
            self.serve(replay, SIGNAL_INTERVAL)?;
            if !pacer.continues(Duration::ZERO)? {
                return Ok(false);
            }
        }
        Ok(!self.is_empty())
    }

    /// Whether all programs have disconnected.
    pub(super) fn is_empty(&self) -> bool {
        self.wires.is_empty()
    }

    /// Sends the end of file after all events, and returns the programs that have read.
    pub(super) fn end(mut self, replay: &mut CaptureReplay, pacer: &mut Pacer) -> Result<Readers, Failure> {
        replay.kernel().end_of_file();
        self.wait_until_read(replay, pacer)?;
        let dropped: u64 =
            self.wires.iter_mut().map(|(wire, _)| u64::from(wire.socket().memory().drops)).sum();
        Ok(Readers { connected: self.connected, dropped: self.dropped + dropped })
    }
}

/// The programs that have read from the socket.
pub(super) struct Readers {
    pub(super) connected: u64,
    /// Number of datagrams that were dropped because a socket was full.
    pub(super) dropped: u64,
}

impl fmt::Display for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&terminal::counted(self.connected, "consumer"))?;
        match self.dropped {
            0 => Ok(()),
            dropped => write!(f, "; {} were dropped because a socket was full", terminal::grouped(dropped)),
        }
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        // A failure only leaves the socket in the file system.
        let _ = fs::remove_file(&self.path);
    }
}
