//! A native socket of the tracee: what has been sent to it, and what the tracee has received.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use pmon_fake::native_socket::memory;
use pmon_fake::native_socket::transport::{KernelSender, OverrunInjector, end_congestion, set_rcvbuf};
use pmon_fake::{MemInfo, QueuedDatagram, Socket};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;

use crate::sockets::native::namespace::{BoundSocket, NetlinkNamespace};
use crate::sockets::native::sys::set_option;
use crate::sockets::proxy::ProxyOptions;
use crate::sockets::usage::{ReceivedKind, SocketUsage};
use crate::sys::is_ready;

/// Maximum bytes of a datagram whose charge is that of an event.
pub(crate) const SHORT: usize = 200;

/// This process's copy of a native socket.
pub(crate) struct NativeChannel {
    pub(crate) fd: OwnedFd,
    /// The port in the private namespace, not that of the model.
    pub(crate) port: u32,
    /// Identifies the socket in frames.
    pub(crate) tag: u32,
    /// The charge of a short datagram to the receive buffer.
    charge: u32,
    /// What was sent and the tracee has not received.
    in_flight: VecDeque<InFlight>,
    /// Number of drops that the kernel had counted at the last [`NativeChannel::note_drops`].
    drops: u32,
    /// Whether an overrun of the kernel's own is pending.
    has_overrun: bool,
    /// Forces overruns; `None` before the first.
    injector: Option<OverrunInjector>,
    /// Number of overruns that were forced: the kernel counts a drop for each.
    forced_overruns: u32,
    /// The options that the native socket has.
    options: RealOptions,
    /// Size of the receive buffer before the charge of notifications.
    rcvbuf: u32,
    /// Whether a copy was passed to another process: the tracee may have it in a queue.
    pub(crate) was_passed: bool,
    /// Whether the tracee may have a copy whose number is not reserved.
    pub(crate) has_untracked_copy: bool,
    /// Whether a search has found no copy in the tracee.
    pub(crate) is_closed: bool,
}

/// A datagram or a forced overrun that the tracee has not received.
struct InFlight {
    /// The position of the world.
    position: u64,
    kind: ReceivedKind,
    /// The charge to the receive buffer; 0 for an overrun.
    charge: u32,
}

/// Options of the model that are also set on the native socket.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct RealOptions {
    pktinfo: bool,
    passcred: bool,
    no_enobufs: bool,
    rcvtimeo: Option<Duration>,
}

impl NativeChannel {
    pub(crate) fn open(
        namespace: &mut NetlinkNamespace,
        charge: u32,
        nonblocking: bool,
    ) -> Result<Self, Errno> {
        let BoundSocket { fd, port, tag } = namespace.open_bound()?;
        rustix::io::ioctl_fionbio(&fd, nonblocking)?;
        let rcvbuf = memory(&fd)?.rcvbuf;
        Ok(Self {
            fd,
            port,
            tag,
            charge,
            in_flight: VecDeque::new(),
            drops: 0,
            has_overrun: false,
            injector: None,
            forced_overruns: 0,
            options: RealOptions::default(),
            rcvbuf,
            was_passed: false,
            has_untracked_copy: false,
            is_closed: false,
        })
    }

    /// Notes that a datagram was sent.
    pub(crate) fn note_sent(&mut self, position: u64, datagram: &QueuedDatagram) {
        let kind = ReceivedKind::of(datagram.bytes(), datagram.sender());
        self.in_flight.push_back(InFlight { position, kind, charge: self.charge });
    }

    /// Notes the charge of the datagram that was sent last, if it is long.
    pub(crate) fn note_charge(&mut self, before: u32) -> Result<(), Errno> {
        let charge = self.unread_bytes()?.saturating_sub(before);
        if let Some(last) = self.in_flight.back_mut() {
            // If the tracee has received something meanwhile, the charge is unknown.
            last.charge = charge.max(self.charge);
        }
        Ok(())
    }

    /// Notes what the kernel has dropped since the last call.
    pub(crate) fn note_drops(&mut self) -> Result<(), Errno> {
        let drops = memory(&self.fd)?.drops;
        let dropped = drops.wrapping_sub(std::mem::replace(&mut self.drops, drops)) as usize;
        // The last datagrams are dropped. A forced overrun has dropped one of its own.
        self.in_flight.truncate(self.in_flight.len().saturating_sub(dropped));
        self.has_overrun |= dropped > 0 && self.has_error()?;
        Ok(())
    }

    /// Returns the number of datagrams and errors that the tracee had not received at the last
    /// [`NativeChannel::observe`].
    pub(crate) fn unread(&self) -> usize {
        self.in_flight.len()
    }

    /// Finds out what the tracee has received. Returns the position of the last datagram or error
    /// that it has received since the last call. Counts in `usage` what it has received.
    pub(crate) fn observe(&mut self, usage: &mut SocketUsage) -> Result<Option<u64>, Errno> {
        if self.has_overrun && !self.has_error()? {
            self.has_overrun = false;
            usage.count_kind(ReceivedKind::Overrun);
        }
        if self.in_flight.is_empty() {
            return Ok(None);
        }
        let mut bytes = self.unread_bytes()?;
        let has_error = self.in_flight.iter().any(|sent| sent.charge == 0) && self.has_error()?;
        // The last datagrams are those that the tracee has not received.
        let is_unread = |sent: &&InFlight| {
            let is_unread = if sent.charge == 0 { has_error } else { bytes > 0 };
            bytes = bytes.saturating_sub(sent.charge);
            is_unread
        };
        let unread = self.in_flight.iter().rev().take_while(is_unread).count();
        let received = self.in_flight.len() - unread;
        let received = self.in_flight.drain(..received).inspect(|sent| usage.count_kind(sent.kind));
        Ok(received.last().map(|sent| sent.position))
    }

    fn has_error(&self) -> Result<bool, Errno> {
        is_ready(self.fd.as_fd(), PollFlags::empty())
    }

    pub(crate) fn unread_bytes(&self) -> Result<u32, Errno> {
        Ok(memory(&self.fd)?.rmem_alloc.saturating_sub(self.injector_charge()))
    }

    /// Returns the bytes of receive buffer that forced overruns occupy.
    fn injector_charge(&self) -> u32 {
        self.injector.as_ref().map_or(0, OverrunInjector::charge)
    }

    /// Lets the tracee's next call fail with `ENOBUFS`.
    pub(crate) fn overrun(&mut self, sender: &mut KernelSender, position: u64) -> Result<(), Errno> {
        let injector = match &mut self.injector {
            Some(injector) => injector,
            none => {
                end_congestion(&self.fd)?;
                none.insert(OverrunInjector::new(&self.fd, self.charge)?)
            }
        };
        injector.inject(&self.fd, sender, self.tag, 1, false)?;
        self.forced_overruns = self.forced_overruns.wrapping_add(1);
        self.drops = self.drops.wrapping_add(1);
        self.in_flight.push_back(InFlight { position, kind: ReceivedKind::Overrun, charge: 0 });
        Ok(())
    }

    /// Sets the size of the receive buffer, as the tracee sees it.
    pub(crate) fn set_rcvbuf(&mut self, bytes: u32) -> Result<(), Errno> {
        if self.rcvbuf == bytes {
            return Ok(());
        }
        self.rcvbuf = bytes;
        self.apply_rcvbuf()
    }

    fn apply_rcvbuf(&self) -> Result<(), Errno> {
        set_rcvbuf(&self.fd, self.rcvbuf.saturating_add(self.injector_charge()) as usize)
    }

    /// Returns the number of short datagrams that the receive buffer holds.
    pub(crate) fn capacity(&self) -> usize {
        (self.rcvbuf / self.charge) as usize
    }

    /// Sets the options that the tracee has changed.
    pub(crate) fn apply_options(&mut self, model: &Socket, options: &ProxyOptions) -> Result<(), Errno> {
        let wanted = RealOptions {
            pktinfo: options.pktinfo,
            passcred: options.passcred,
            no_enobufs: model.no_enobufs(),
            rcvtimeo: options.rcvtimeo,
        };
        let before = std::mem::replace(&mut self.options, wanted);
        let set = |level, option, on: bool| set_option(self.fd.as_fd(), level, option, &i32::from(on));
        if wanted.pktinfo != before.pktinfo {
            set(libc::SOL_NETLINK, libc::NETLINK_PKTINFO, wanted.pktinfo)?;
        }
        if wanted.no_enobufs != before.no_enobufs {
            set(libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, wanted.no_enobufs)?;
        }
        if wanted.passcred != before.passcred {
            set(libc::SOL_SOCKET, libc::SO_PASSCRED, wanted.passcred)?;
        }
        if wanted.rcvtimeo != before.rcvtimeo {
            let timeout = match wanted.rcvtimeo {
                None => libc::timeval { tv_sec: 0, tv_usec: 0 },
                // A negative time-out expires at once.
                Some(Duration::ZERO) => libc::timeval { tv_sec: -1, tv_usec: 0 },
                Some(time) => libc::timeval {
                    tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
                    tv_usec: time.subsec_micros().into(),
                },
            };
            set_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
        }
        Ok(())
    }

    /// Returns `SO_MEMINFO`: what the model counts, and what the native socket holds and has
    /// dropped.
    pub(crate) fn memory(&self, model: MemInfo) -> MemInfo {
        let Ok(real) = memory(&self.fd) else { return model };
        MemInfo {
            rmem_alloc: model.rmem_alloc + real.rmem_alloc.saturating_sub(self.injector_charge()),
            drops: model.drops.wrapping_add(real.drops.wrapping_sub(self.forced_overruns)),
            ..model
        }
    }

    /// Returns and clears the native socket's error.
    pub(crate) fn take_error(&self) -> Option<Errno> {
        socket_error(&self.fd).ok().and_then(Result::err)
    }
}
