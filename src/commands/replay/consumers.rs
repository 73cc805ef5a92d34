//! Programs that connect to a socket, and read process events from it.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pmon_fake::{FdSocket, OverrunSignal, PumpBlockedOn};
use pmon_replay::Replay;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;
use crate::terminal;

use super::Pacer;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// While nothing can be moved, signals are looked at this often.
const TICK: Duration = Duration::from_millis(20);

/// The programs that have connected to a socket.
pub(super) struct Consumers {
    listener: OwnedFd,
    path: PathBuf,
    /// Each with what it waits for.
    wires: Vec<(FdSocket, PumpBlockedOn)>,
    connected: u64,
    dropped: u64,
}

impl Consumers {
    /// Listens at `path`, until somebody has connected. The kernel says everything to whoever is connected, asked for or not.
    pub(super) fn wait_for_first<R: Read>(
        path: &Path,
        replay: &mut Replay<R>,
        pacer: &mut Pacer,
    ) -> Result<Self, Failure> {
        let mut this = Self::listen(path).map_err(|error| {
            let exists = fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
            let hint = if exists { ": it exists; remove it if nobody uses it" } else { "" };
            let error = anyhow::Error::new(error);
            Failure {
                code: exit::STORAGE,
                error: Some(error.context(format!("cannot listen at {}{hint}", shown(path)))),
            }
        })?;
        terminal::eprintln(format_args!("pmon: waiting for a consumer at {} (SOCK_SEQPACKET)", shown(path)));
        replay.kernel().set_listeners(1);
        while this.wires.is_empty() {
            this.attend(replay, TICK)?;
            if !pacer.is_wanted(Duration::ZERO)? {
                return Err(Failure { code: exit::INTERRUPTED, error: None });
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

    /// Takes who connects, and moves what can be moved; waits that long at the most until something can.
    pub(super) fn attend<R: Read>(
        &mut self,
        replay: &mut Replay<R>,
        timeout: Duration,
    ) -> Result<(), Failure> {
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

    /// Moves what can be moved; `true` if nobody has to read before more can happen.
    fn pump<R: Read>(&mut self, replay: &mut Replay<R>) -> Result<bool, Failure> {
        let failed =
            |error: io::Error| Failure::new(exit::ENVIRONMENT, format!("cannot serve a consumer: {error}"));
        while let Some(end) = self.accept().map_err(failed)? {
            let mut wire = replay.kernel().fd_socket_over(end).map_err(failed)?;
            wire.set_overrun_signal(OverrunSignal::Message);
            self.wires.push((wire, PumpBlockedOn::NextPump));
            self.connected += 1;
        }
        let (mut kept, mut all) = (Vec::new(), true);
        for (mut wire, _) in std::mem::take(&mut self.wires) {
            let awaits = wire.pump().map_err(failed)?.blocked_on;
            all &= matches!(
                awaits,
                PumpBlockedOn::Kernel | PumpBlockedOn::Closed | PumpBlockedOn::ConsumerClose
            );
            if awaits == PumpBlockedOn::Closed {
                self.dropped += u64::from(wire.socket().memory().drops);
            } else {
                kept.push((wire, awaits));
            }
        }
        self.wires = kept;
        Ok(all)
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

    /// Waits until everybody has read what there is; `false` if nobody wants more.
    pub(super) fn keep_up<R: Read>(
        &mut self,
        replay: &mut Replay<R>,
        pacer: &mut Pacer,
    ) -> Result<bool, Failure> {
        while !self.pump(replay)? {
            self.attend(replay, TICK)?;
            if !pacer.is_wanted(Duration::ZERO)? {
                return Ok(false);
            }
        }
        Ok(!self.is_gone())
    }

    /// Whether all who had connected have gone.
    pub(super) fn is_gone(&self) -> bool {
        self.wires.is_empty()
    }

    /// The end of file, once everything was read; says who has read.
    pub(super) fn end<R: Read>(
        mut self,
        replay: &mut Replay<R>,
        pacer: &mut Pacer,
    ) -> Result<String, Failure> {
        replay.kernel().end_of_file();
        self.keep_up(replay, pacer)?;
        let dropped: u64 =
            self.wires.iter_mut().map(|(wire, _)| u64::from(wire.socket().memory().drops)).sum();
        let dropped = self.dropped + dropped;
        let who = terminal::counted(self.connected, "consumer");
        Ok(if dropped > 0 {
            format!("{who}; {} were dropped for want of room", terminal::grouped(dropped))
        } else {
            who
        })
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        // If it cannot be removed, it stays.
        let _ = fs::remove_file(&self.path);
    }
}
