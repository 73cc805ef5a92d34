//! Waiting calls on sockets with an error, which the pairs of sockets cannot represent: such a call
//! is answered here. The kernel is asked for the other files by copies of their descriptors.

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

use crate::error::InterposeError;
use crate::seccomp::listener::InterceptedCall;
use crate::sockets::poll::{EPOLL_DATA, EPOLL_EVENT, POLLFD, WaitCall, revents};
use crate::sockets::table::SocketTable;
use crate::tracee::scattered_copy::ScatteredCopy;

/// Offset of `revents` in `struct pollfd`.
const POLLFD_REVENTS: usize = 6;
/// Maximum number of events of an epoll set that are reported beside errors.
const MAX_EVENTS: usize = 256;

impl WaitCall {
    /// Writes the result of a call on a socket with an error; `None` if the kernel has to execute
    /// the call.
    pub(super) fn report_error(
        &self,
        sockets: &mut SocketTable,
        call: &mut InterceptedCall<'_>,
    ) -> Result<Option<Result<i64, Errno>>, InterposeError> {
        match self {
            Self::Select { .. } => Ok(None),
            Self::Poll { array, fds } => report_poll(sockets, call, *array, fds).map(Some),
            Self::Epoll { set, output, maximum } => {
                Ok(report_epoll(sockets, call, *set, *output, *maximum as usize))
            }
        }
    }
}

fn report_poll(
    sockets: &mut SocketTable,
    call: &mut InterceptedCall<'_>,
    array: u64,
    fds: &[(u32, u32)],
) -> Result<Result<i64, Errno>, InterposeError> {
    let (mut copy, mut ready) = (ScatteredCopy::default(), 0);
    for (nth, &(fd, events)) in fds.iter().enumerate() {
        let index = if sockets.reserved.contains(fd) { sockets.find(call, fd)? } else { None };
        let revents = match index {
            Some(index) => revents(&sockets.proxies[index], events) as u16,
            None if (fd as i32) < 0 => 0,
            None => poll_other(call, fd, events as u16),
        };
        copy.push_integer(array.wrapping_add((nth * POLLFD + POLLFD_REVENTS) as u64), &revents.to_ne_bytes());
        ready += i64::from(revents != 0);
    }
    Ok(copy.finish(call.memory()).map(|()| ready))
}

/// Polls another file of the task.
fn poll_other(call: &InterceptedCall<'_>, fd: u32, events: u16) -> u16 {
    let Ok(copy) = call.duplicate_fd(fd) else { return PollFlags::NVAL.bits() };
    let mut polled = [PollFd::new(&copy, PollFlags::from_bits_retain(events))];
    match retry_on_intr(|| poll(&mut polled, Some(&Timespec::default()))) {
        Ok(_) => polled[0].revents().bits(),
        Err(_) => 0,
    }
}

/// Reports the sockets in an epoll set that have an error, and other files that are ready. Returns
/// `None` if no socket in the set has an error.
fn report_epoll(
    sockets: &SocketTable,
    call: &InterceptedCall<'_>,
    set: u32,
    output: u64,
    maximum: usize,
) -> Option<Result<i64, Errno>> {
    let failed = sockets.proxies.iter().filter(|proxy| proxy.socket.poll().error).filter_map(|proxy| {
        let interest = proxy.epolls.iter().find(|interest| interest.set == set)?;
        Some((revents(proxy, interest.events), interest.data))
    });
    let failed: Vec<(u32, u64)> = failed.collect();
    if failed.is_empty() {
        return None;
    }
    let mut events = ready_now(call, set, maximum.min(MAX_EVENTS));
    for (flags, data) in failed {
        if let Some((reported, _)) = events.iter_mut().find(|(_, reported)| *reported == data) {
            *reported |= flags;
        } else if events.len() < maximum {
            // Without room, it is the turn of other files, as in the kernel.
            events.push((flags, data));
        }
    }
    let mut copy = ScatteredCopy::default();
    for (at, (flags, data)) in (output..).step_by(EPOLL_EVENT).zip(&events) {
        copy.push_integer(at, &flags.to_ne_bytes());
        copy.push_integer(at.wrapping_add(EPOLL_DATA as u64), &data.to_ne_bytes());
    }
    Some(copy.finish(call.memory()).map(|()| events.len() as i64))
}

/// Returns at most `maximum` events that the kernel reports for an epoll set of the task now.
fn ready_now(call: &InterceptedCall<'_>, set: u32, maximum: usize) -> Vec<(u32, u64)> {
    let event = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
    let mut events = vec![event; maximum];
    let copy = call.duplicate_fd(set);
    let waited = copy
        .and_then(|copy| retry_on_intr(|| epoll::wait(&copy, &mut events[..], Some(&Timespec::default()))));
    events.truncate(waited.unwrap_or(0));
    let decoded = events.into_iter().map(|epoll::Event { flags, data }| (flags.bits(), data.u64()));
    decoded.collect()
}
