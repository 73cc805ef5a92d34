//! Calls that wait for one of several files: `poll`, `select`, `epoll_wait` and their variants.
//!
//! The kernel executes these calls; it polls the pairs of sockets. Before, events are emitted
//! unless one of the call's sockets is ready. An error cannot be represented by a pair: if a socket
//! has one, the call is answered here.

use pmon_core::wire::{u32_at, u64_at};
use rustix::io::Errno;

use crate::error::{InterposeError, ServeResult};
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::sockets::delivery::EventDelivery;
use crate::sockets::proxy::{EpollInterest, SocketProxy};
use crate::sockets::table::SocketTable;
use crate::sockets::wait_arguments;
use crate::tracee::memory::TraceeMemory;
use crate::world::ReplayWorld;

/// Maximum number of entries of a `poll` array that are examined.
pub(crate) const MAX_POLL_FDS: u64 = 4096;
/// Size of `struct pollfd`.
pub(super) const POLLFD: usize = 8;
/// Offset of `events` in `struct pollfd`.
const POLLFD_EVENTS: usize = 4;
pub(super) const EPOLL_EVENT: usize = size_of::<libc::epoll_event>();
/// Offset of `data` in `struct epoll_event`.
pub(super) const EPOLL_DATA: usize = EPOLL_EVENT - 8;
/// The events of a netlink socket's readiness to send, which it always has.
const WRITABLE: u32 = (libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND) as u32;
const READABLE: u32 = (libc::POLLIN | libc::POLLRDNORM) as u32;
const ERROR: u32 = libc::POLLERR as u32;

/// Events that are allowed beside `EPOLLEXCLUSIVE`.
const EXCLUSIVE_OK: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) as u32
    | (libc::EPOLLWAKEUP | libc::EPOLLET | libc::EPOLLEXCLUSIVE) as u32;

impl EpollInterest {
    /// Returns the interest of a `struct epoll_event`.
    fn of(set: u32, event: &[u8; EPOLL_EVENT]) -> Self {
        Self { set, events: u32_at(event, 0), data: u64_at(event, EPOLL_DATA) }
    }

    fn is_exclusive(&self) -> bool {
        self.events & libc::EPOLLEXCLUSIVE as u32 != 0
    }
}

/// The arguments of a waiting call.
pub(super) enum WaitCall {
    /// `select` and `pselect6`.
    Select { fds: Vec<u32> },
    /// `poll` and `ppoll`: the address of the array, and each descriptor with its events.
    Poll { array: u64, fds: Vec<(u32, u32)> },
    /// `epoll_wait` and its variants: the epoll set, and the address and length of the output.
    Epoll { set: u32, output: u64, maximum: u32 },
}

/// Emits events for a waiting call, and answers it if a socket has an error.
pub(crate) fn before_wait<W: ReplayWorld>(
    delivery: &mut EventDelivery,
    world: &mut W,
    call: &mut InterceptedCall<'_>,
) -> ServeResult<W, Reply> {
    let wait = WaitCall::parse(call);
    let indexes = wait.sockets(&mut delivery.sockets, call)?;
    if indexes.is_empty() {
        return Ok(Reply::Continue);
    }
    delivery.advance(world, &indexes, None)?;
    for &index in &indexes {
        let proxy = &mut delivery.sockets.proxies[index];
        proxy.sync_readiness();
        // After a call that found nothing although the queue was not empty (a fault), an
        // edge-triggered `epoll` needs another edge.
        if std::mem::take(&mut proxy.found_empty) && proxy.is_ready() {
            proxy.notify();
        }
    }
    if indexes.iter().any(|&index| delivery.sockets.proxies[index].socket.poll().error)
        && wait_arguments::are_valid(call)
        && let Some(result) = wait.report_error(&mut delivery.sockets, call)?
    {
        return Ok(Reply::Return(result));
    }
    delivery.pollers.push(call.task());
    Ok(Reply::Continue)
}

/// Registers the socket of an `epoll_ctl` call, which the kernel then executes.
pub(crate) fn note_epoll_ctl(
    delivery: &mut EventDelivery,
    call: &mut InterceptedCall<'_>,
) -> Result<Reply, InterposeError> {
    let [set, operation, fd, address, ..] = call.args();
    let Some(index) = delivery.sockets.find(call, fd as u32)? else { return Ok(Reply::Continue) };
    // The kernel refuses the call if the set is not open. This also bounds the number of
    // registrations.
    if call.stat(set as u32).is_err() {
        return Ok(Reply::Continue);
    }
    let epolls = &mut delivery.sockets.proxies[index].epolls;
    let registered = epolls.iter().position(|interest| interest.set == set as u32);
    // The kernel refuses other calls, which then change nothing.
    match (operation as i32, registered, call.memory().bytes::<EPOLL_EVENT>(address)) {
        (libc::EPOLL_CTL_DEL, Some(at), _) => drop(epolls.swap_remove(at)),
        (libc::EPOLL_CTL_ADD, None, Ok(event)) => {
            let interest = EpollInterest::of(set as u32, &event);
            if !interest.is_exclusive() || interest.events & !EXCLUSIVE_OK == 0 {
                epolls.push(interest);
            }
        }
        (libc::EPOLL_CTL_MOD, Some(at), Ok(event)) => {
            let interest = EpollInterest::of(set as u32, &event);
            if !interest.is_exclusive() && !epolls[at].is_exclusive() {
                epolls[at] = interest;
            }
        }
        _ => {}
    }
    delivery.must_advance |= !delivery.pollers.is_empty();
    Ok(Reply::Continue)
}

impl WaitCall {
    fn parse(call: &InterceptedCall<'_>) -> Self {
        let [first, second, third, ..] = call.args();
        let memory = call.memory();
        let epoll = Self::Epoll { set: first as u32, output: second, maximum: third as u32 };
        // If the memory is unreadable, the kernel refuses the call.
        let select = || Self::Select { fds: read_fd_set(memory, first, second).unwrap_or_default() };
        match call.nr() {
            libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => epoll,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => epoll,
            libc::SYS_pselect6 => select(),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => select(),
            _ => {
                let len = u64::from(second as u32).min(MAX_POLL_FDS) as usize * POLLFD;
                let array = memory.vec(first, len).unwrap_or_default();
                let fds = array.chunks_exact(POLLFD);
                let fds = fds.map(|fd| (u32_at(fd, 0), u32_at(fd, POLLFD_EVENTS) & 0xFFFF)).collect();
                Self::Poll { array: first, fds }
            }
        }
    }

    /// Returns the indexes of the sockets that the call waits for.
    fn sockets(
        &self,
        sockets: &mut SocketTable,
        call: &mut InterceptedCall<'_>,
    ) -> Result<Vec<usize>, InterposeError> {
        let mut indexes = Vec::new();
        let mut find = |fd: u32| -> Result<(), InterposeError> {
            if sockets.reserved.contains(fd) {
                indexes.extend(sockets.find(call, fd)?);
            }
            Ok(())
        };
        match self {
            Self::Select { fds } => fds.iter().try_for_each(|&fd| find(fd))?,
            Self::Poll { fds, .. } => fds.iter().try_for_each(|&(fd, _)| find(fd))?,
            // Epoll sets can be duplicated and nested, so that the set cannot be identified by its
            // number.
            Self::Epoll { .. } => {
                let registered =
                    sockets.proxies.iter().enumerate().filter(|(_, proxy)| !proxy.epolls.is_empty());
                return Ok(registered.map(|(index, _)| index).collect());
            }
        }
        Ok(indexes)
    }
}

/// Returns the events of a socket that are reported for the requested ones.
pub(super) fn revents(proxy: &SocketProxy, events: u32) -> u32 {
    let readiness = proxy.socket.poll();
    let is = |condition, bits| if condition { bits } else { 0 };
    (events | ERROR) & (WRITABLE | is(readiness.readable, READABLE) | is(readiness.error, ERROR))
}

/// Reads the file descriptors of a `fd_set`.
fn read_fd_set(memory: TraceeMemory, count: u64, set: u64) -> Result<Vec<u32>, Errno> {
    if set == 0 || count as i32 <= 0 {
        return Ok(Vec::new());
    }
    let count = (count as u32 as usize).min(libc::FD_SETSIZE);
    let bits = memory.vec(set, count.div_ceil(64) * 8)?;
    Ok((0..count as u32).filter(|&fd| bits[fd as usize / 8] >> (fd % 8) & 1 == 1).collect())
}
