//! Calls that wait for any of several files.
//!
//! They are the kernel's: it looks at the pairs of sockets. But first, the next thing happens if there is nothing on the fake kernel's
//! sockets among those files; and an error there, which a pair cannot have, is told from here.

use pmon_core::wire::{u32_at, u64_at};
use rustix::io::Errno;

use crate::supervisor::{Answer, ServeError, Supervisor};
use crate::sys::Notification;
use crate::tracee::Memory;
use crate::world::ReplayWorld;

/// `FD_SETSIZE`, and the longest array that `poll` is looked through.
const SELECTED: u64 = 1024;
const POLLED: u64 = 4096;
/// `struct pollfd`, and where its parts are.
const POLLFD: usize = 8;
const EVENTS: usize = 4;
/// `struct epoll_event`, and where in it is what the program wants to be told.
const EPOLL_EVENT: usize = size_of::<libc::epoll_event>();
const DATA: usize = EPOLL_EVENT - 8;
/// What a netlink socket always is.
const WRITABLE: u32 = (libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND) as u32;
const READABLE: u32 = (libc::POLLIN | libc::POLLRDNORM) as u32;
const ERROR: u32 = libc::POLLERR as u32;

/// A socket in a set of `epoll`.
pub(crate) struct Interest {
    /// By which number the set is known,
    set: u32,
    /// what is wanted of it,
    events: u32,
    /// and what is then told.
    data: u64,
}

/// A call's sets of files.
enum Sets {
    /// `select`.
    Select(Vec<u32>),
    /// `poll`: at that address.
    Poll(u64, Vec<(u32, u32)>),
    /// `epoll`: of that number, into that address.
    Epoll(u32, u64),
}

impl Supervisor {
    /// See the module.
    pub(crate) fn before_wait<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        notification: &Notification,
    ) -> Result<Answer, ServeError<W::Error>> {
        let sets = self.sets(notification);
        let sockets = self.awaited(notification, &sets);
        if sockets.is_empty() {
            return Ok(Answer::Make);
        }
        self.feed(world, &sockets, None)?;
        for &at in &sockets {
            let held = &mut self.held[at];
            held.tell();
            // Who has found nothing, though there was something, waits for an edge.
            if std::mem::take(&mut held.asked_in_vain) && held.is_ready() {
                held.announce();
            }
        }
        if sockets.iter().any(|&at| self.held[at].socket.poll().error) {
            let told = match &sets {
                Sets::Select(_) => None,
                Sets::Poll(address, fds) => Some(self.tell_poll(notification, *address, fds)),
                Sets::Epoll(set, address) => self.tell_epoll(notification, *set, *address),
            };
            if let Some(told) = told {
                return Ok(Answer::Give(told));
            }
        }
        self.pollers.push(notification.pid);
        Ok(Answer::Make)
    }

    fn sets(&self, notification: &Notification) -> Sets {
        let [first, second, ..] = notification.data.args;
        let memory = Memory(notification.pid);
        // What cannot be read is the kernel's to refuse.
        match i64::from(notification.data.nr) {
            libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => Sets::Epoll(first as u32, second),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait => Sets::Epoll(first as u32, second),
            libc::SYS_pselect6 => Sets::Select(selected(memory, first, second).unwrap_or_default()),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_select => Sets::Select(selected(memory, first, second).unwrap_or_default()),
            _ => {
                let fds = memory
                    .vec(first, u64::from(second as u32).min(POLLED) as usize * POLLFD)
                    .unwrap_or_default();
                let fds = fds.chunks_exact(POLLFD);
                Sets::Poll(first, fds.map(|fd| (u32_at(fd, 0), u32_at(fd, EVENTS) & 0xFFFF)).collect())
            }
        }
    }

    /// The sockets that such a call waits for.
    fn awaited(&mut self, notification: &Notification, sets: &Sets) -> Vec<usize> {
        let reserved = self.launched.reserved.clone();
        let fds: Vec<u32> = match sets {
            Sets::Select(fds) => fds.clone(),
            Sets::Poll(_, fds) => fds.iter().map(|&(fd, _)| fd).collect(),
            // Sets can be copied, and have sets in them: which one it is cannot be told for sure.
            Sets::Epoll(..) => {
                let polled = self.held.iter().enumerate().filter(|(_, held)| !held.epolls.is_empty());
                return polled.map(|(at, _)| at).collect();
            }
        };
        let fds = fds.into_iter().filter(|&fd| reserved.contains(fd));
        fds.filter_map(|fd| self.find(notification.pid, fd)).collect()
    }

    /// `epoll_ctl` for a socket.
    pub(crate) fn note_interest(&mut self, notification: &Notification) {
        let [set, operation, fd, address, ..] = notification.data.args;
        let Some(at) = self.find(notification.pid, fd as u32) else { return };
        // No more than there may be.
        if self.tasks.stat(notification.pid, set as u32).is_err() {
            return;
        }
        let epolls = &mut self.held[at].epolls;
        epolls.retain(|interest| interest.set != set as u32);
        if operation != libc::EPOLL_CTL_DEL as u64
            && let Ok(event) = Memory(notification.pid).bytes::<EPOLL_EVENT>(address)
        {
            let (events, data) = (u32_at(&event, 0), u64_at(&event, DATA));
            epolls.push(Interest { set: set as u32, events, data });
        }
        self.owes |= !self.pollers.is_empty();
    }

    /// `poll`, of the fake kernel's sockets only: of the others nothing is told this time.
    fn tell_poll(
        &mut self,
        notification: &Notification,
        address: u64,
        fds: &[(u32, u32)],
    ) -> Result<i64, Errno> {
        let memory = Memory(notification.pid);
        let mut ready = 0;
        for (place, &(fd, events)) in fds.iter().enumerate() {
            let found =
                if self.launched.reserved.contains(fd) { self.find(notification.pid, fd) } else { None };
            let revents = found.map_or(0, |at| self.revents(at, events));
            let at = address.wrapping_add((place * POLLFD + EVENTS + 2) as u64);
            memory.write(at, &(revents as u16).to_ne_bytes())?;
            ready += i64::from(revents != 0);
        }
        Ok(ready)
    }

    /// `epoll_wait`, of the first socket in that set that has an error; `None` if there is none.
    fn tell_epoll(&self, notification: &Notification, set: u32, address: u64) -> Option<Result<i64, Errno>> {
        let in_set =
            |at: usize| Some((at, self.held[at].epolls.iter().find(|interest| interest.set == set)?));
        let mut failed =
            (0..self.held.len()).filter(|&at| self.held[at].socket.poll().error).filter_map(in_set);
        let (at, interest) = failed.next()?;
        let mut event = [0; EPOLL_EVENT];
        event[..4].copy_from_slice(&self.revents(at, interest.events).to_ne_bytes());
        event[DATA..].copy_from_slice(&interest.data.to_ne_bytes());
        Some(Memory(notification.pid).write(address, &event).map(|()| 1))
    }

    /// What is told of a socket to whom these events matter.
    fn revents(&self, at: usize, events: u32) -> u32 {
        let readiness = self.held[at].socket.poll();
        let is = |condition, bits| if condition { bits } else { 0 };
        (events | ERROR) & (WRITABLE | is(readiness.readable, READABLE) | is(readiness.error, ERROR))
    }
}

/// The file descriptors of a `fd_set`.
fn selected(memory: Memory, count: u64, set: u64) -> Result<Vec<u32>, Errno> {
    if set == 0 || count as i32 <= 0 {
        return Ok(Vec::new());
    }
    let count = u64::from(count as u32).min(SELECTED) as usize;
    let bits = memory.vec(set, count.div_ceil(64) * 8)?;
    Ok((0..count as u32).filter(|&fd| bits[fd as usize / 8] >> (fd % 8) & 1 == 1).collect())
}
