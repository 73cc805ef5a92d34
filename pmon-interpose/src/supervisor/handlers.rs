//! What becomes of each call.

use std::os::fd::{AsFd as _, OwnedFd};

use pmon_core::Tgid;
use rustix::io::Errno;

use crate::error::InterposeError;
use crate::processes::ids::is_about_process;
use crate::seccomp::filter::{NETLINK_CONNECTOR, opens_elsewhere};
use crate::sockets::proxy::Held;
use crate::sockets::{options as sockopt, send};
use crate::supervisor::{Answer, ServeError, Supervisor};
use crate::sys::{self, Notification};
use crate::tracee::{Memory, borrow_fd, file_id};
use crate::world::ReplayWorld;

/// `SOCK_RAW` and `SOCK_DGRAM`; the other bits of a socket's type are flags.
const SOCK_TYPE: u32 = 0xF;
/// `SOCK_MAX`.
const SOCK_MAX: u32 = 11;
/// `fs.nr_open`: no process has more files.
const MOST_FDS: u32 = 1 << 20;
/// Calls of `ioctl` for which `libc` has no names.
const FIOSETOWN: libc::Ioctl = 0x8901;
const SIOCSPGRP: libc::Ioctl = 0x8902;
const FIOGETOWN: libc::Ioctl = 0x8903;
const SIOCGPGRP: libc::Ioctl = 0x8904;

impl Supervisor {
    /// The answer to a call; what it does is done.
    pub(crate) fn respond<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        notification: &Notification,
    ) -> Result<Answer, ServeError<W::Error>> {
        if let Some(is_connector) = opens_elsewhere(notification) {
            self.has_foreign_abi |= is_connector;
            return Ok(if is_connector { Answer::Give(Err(Errno::PROTONOSUPPORT)) } else { Answer::Make });
        }
        let nr = i64::from(notification.data.nr);
        let args = notification.data.args;
        match nr {
            libc::SYS_socket => {
                // As good a place as any to see whether it can be served.
                if let Err(errno @ (Errno::PERM | Errno::ACCESS)) =
                    Memory(notification.pid).bytes::<1>(notification.data.instruction_pointer)
                {
                    return Err(InterposeError::Memory(errno).into());
                }
                return Ok(self.open(world, notification));
            }
            libc::SYS_ppoll | libc::SYS_pselect6 | libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => {
                return self.before_wait(world, notification);
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll | libc::SYS_select | libc::SYS_epoll_wait => {
                return self.before_wait(world, notification);
            }
            libc::SYS_epoll_ctl => {
                self.note_interest(notification);
                return Ok(Answer::Make);
            }
            _ => {}
        }
        if is_about_process(nr) {
            return Ok(self.about_process(world.processes(), notification));
        }
        if let Some(answer) = self.look_up(world.processes(), notification) {
            return Ok(answer);
        }
        let Some(at) = self.find(notification.pid, args[0] as u32) else {
            if nr == libc::SYS_sendmsg {
                self.pass_on(notification)?;
            }
            return Ok(Answer::Make);
        };
        let held = &mut self.held[at];
        Ok(match nr {
            nr if held.is_loose && (receives(nr) || sends(nr) || nr == libc::SYS_splice) => Answer::Make,
            nr if receives(nr) => return self.receive(world, notification, at),
            nr if sends(nr) => {
                let answer = send::send(held, notification).into();
                self.held.iter_mut().filter(|held| held.is_ready()).for_each(Held::announce);
                self.stirred = true;
                answer
            }
            libc::SYS_bind => {
                // Who was closed has no port any more.
                let file = held.file;
                self.close_those_that_were_closed();
                match self.held.iter_mut().find(|held| held.file == file) {
                    Some(held) => send::bind(held, notification).into(),
                    None => Answer::Make,
                }
            }
            libc::SYS_splice => Answer::Give(Err(Errno::INVAL)),
            libc::SYS_connect => send::connect(held, notification).into(),
            libc::SYS_getsockname => send::tell_address(held.socket.name(), notification).into(),
            libc::SYS_getpeername => send::tell_address(held.socket.peer_name(), notification).into(),
            libc::SYS_setsockopt => sockopt::set(held, notification).into(),
            libc::SYS_getsockopt => sockopt::get(held, notification).into(),
            libc::SYS_listen | libc::SYS_accept | libc::SYS_accept4 | libc::SYS_shutdown => {
                Answer::Give(Err(Errno::OPNOTSUPP))
            }
            libc::SYS_ioctl => ioctl(held, notification),
            libc::SYS_fcntl if args[1] == libc::F_SETFL as u64 => {
                held.nonblocking = args[2] & libc::O_NONBLOCK as u64 != 0;
                Answer::Make
            }
            _ => self.duplicate(notification),
        })
    }

    /// The fake kernel's socket behind a task's file descriptor.
    pub(crate) fn find(&mut self, task: u32, fd: u32) -> Option<usize> {
        let file = match self.tasks.stat(task, fd) {
            Ok(stat) => file_id(&stat),
            Err(Errno::NOENT | Errno::SRCH | Errno::NOTDIR) => return None,
            Err(error) => {
                self.trouble = Some(error);
                return None;
            }
        };
        let at = self.held.iter().position(|held| held.file == file)?;
        self.held[at].seen = (task, fd);
        Some(at)
    }

    /// `socket`.
    fn open<W: ReplayWorld>(&mut self, world: &mut W, notification: &Notification) -> Answer {
        let [_, kind, protocol, ..] = notification.data.args.map(|arg| arg as u32);
        debug_assert_eq!(protocol, NETLINK_CONNECTOR);
        let flags = kind & !SOCK_TYPE;
        let known = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
        match (kind & SOCK_TYPE) as i32 {
            _ if flags & !known != 0 || kind & SOCK_TYPE >= SOCK_MAX => {
                return Answer::Give(Err(Errno::INVAL));
            }
            libc::SOCK_RAW | libc::SOCK_DGRAM => {}
            _ => return Answer::Give(Err(Errno::SOCKTNOSUPPORT)),
        }
        self.close_those_that_were_closed();
        let mut open = || -> Result<(), Errno> {
            let who = Who::of(notification.pid)?;
            let kernel = world.kernel();
            let socket = if who.is_admin {
                kernel.socket_of(Tgid(who.tgid))
            } else {
                kernel.unprivileged_socket_of(Tgid(who.tgid))
            };
            let nonblocking = flags & libc::SOCK_NONBLOCK as u32 != 0;
            let (held, theirs) = Held::new(socket, kind & SOCK_TYPE, nonblocking)?;
            self.held.push(held);
            self.has_opened_socket = true;
            let close_on_exec = flags & libc::SOCK_CLOEXEC as u32 != 0;
            self.hand_over(notification, &theirs, 0, close_on_exec)
        };
        match open() {
            // It has it, or was interrupted and has none.
            Ok(()) | Err(Errno::NOENT) => Answer::None,
            Err(error) => Answer::Give(Err(error)),
        }
    }

    /// `dup` and its kin.
    fn duplicate(&mut self, notification: &Notification) -> Answer {
        let [fd, second, third, ..] = notification.data.args.map(|arg| arg as u32);
        let nr = i64::from(notification.data.nr);
        let (from, close_on_exec) = match nr {
            libc::SYS_dup => (0, false),
            libc::SYS_fcntl => (third, second == libc::F_DUPFD_CLOEXEC as u32),
            // To a number that is asked about as well, the kernel does it.
            _ if self.launched.reserved.contains(second) => return Answer::Make,
            _ => return self.let_go(notification),
        };
        let copied = borrow_fd(notification.pid, fd);
        match copied.and_then(|theirs| self.hand_over(notification, &theirs, from, close_on_exec)) {
            Ok(()) | Err(Errno::NOENT) => Answer::None,
            Err(Errno::MFILE) => self.let_go(notification),
            Err(error) => Answer::Give(Err(error)),
        }
    }

    /// The kernel makes the copy, wherever that is to be: the socket goes by its pair from now on.
    fn let_go(&mut self, notification: &Notification) -> Answer {
        let [fd, to, flags, ..] = notification.data.args.map(|arg| arg as u32);
        // What the kernel refuses changes nothing.
        let is_refused = match i64::from(notification.data.nr) {
            libc::SYS_dup3 => to == fd || to > MOST_FDS || flags & !(libc::O_CLOEXEC as u32) != 0,
            libc::SYS_fcntl => flags > MOST_FDS,
            _ => to == fd || to > MOST_FDS,
        };
        let at = if is_refused { None } else { self.find(notification.pid, fd) };
        match at.map_or(Ok(()), |at| self.held[at].loosen()) {
            Ok(()) => Answer::Make,
            Err(error) => Answer::Give(Err(error)),
        }
    }

    /// Sockets that another process gets, by a number of its own, go by their pairs from now on.
    fn pass_on(&mut self, notification: &Notification) -> Result<(), Errno> {
        for fd in send::passed_on(notification) {
            if self.launched.reserved.contains(fd)
                && let Some(at) = self.find(notification.pid, fd)
            {
                self.held[at].loosen()?;
            }
        }
        Ok(())
    }

    /// Gives a task a file, by the first number that is free.
    fn hand_over(
        &mut self,
        notification: &Notification,
        file: &OwnedFd,
        from: u32,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        let Notification { id, pid, .. } = *notification;
        // Those beyond its limit, which may be lower than it was when it began, are refused.
        for number in self.launched.reserved.from(from) {
            if self.tasks.stat(pid, number).is_err() {
                match sys::answer_with_fd(
                    self.listener.as_fd(),
                    id,
                    file.as_fd(),
                    Some(number),
                    close_on_exec,
                ) {
                    Err(Errno::BADF) => {}
                    done => return done,
                }
            }
        }
        Err(Errno::MFILE)
    }
}

fn receives(nr: i64) -> bool {
    let names = [libc::SYS_read, libc::SYS_readv, libc::SYS_preadv2];
    names.contains(&nr) || [libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg].contains(&nr)
}

fn sends(nr: i64) -> bool {
    let names = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwritev2];
    names.contains(&nr) || [libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg].contains(&nr)
}

/// Who makes a call, as the program sees it.
pub(crate) struct Who {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    /// Whether it has `CAP_NET_ADMIN`, in whatever namespace.
    is_admin: bool,
}

impl Who {
    pub(crate) fn of(task: u32) -> Result<Self, Errno> {
        let status = std::fs::read_to_string(format!("/proc/{task}/status")).map_err(|_gone| Errno::SRCH)?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // The last one is its id in its own namespace.
        let id = |name| field(name).and_then(|ids| ids.split_whitespace().last()?.parse().ok());
        let caps = field("CapEff:").and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok());
        Ok(Self {
            tgid: id("NStgid:").unwrap_or(task),
            tid: id("NSpid:").unwrap_or(task),
            is_admin: caps.is_some_and(|caps| caps >> 12 & 1 == 1),
        })
    }
}

/// `ioctl`: a netlink socket has none but those of every file.
fn ioctl(held: &mut Held, notification: &Notification) -> Answer {
    let [_, request, at, ..] = notification.data.args;
    match request as libc::Ioctl {
        libc::FIONBIO => match Memory(notification.pid).u32(at) {
            Ok(on) => {
                held.nonblocking = on != 0;
                Answer::Make
            }
            Err(error) => Answer::Give(Err(error)),
        },
        libc::FIOCLEX | libc::FIONCLEX | libc::FIOASYNC => Answer::Make,
        // Whom a signal tells that there is something.
        FIOSETOWN | FIOGETOWN | SIOCSPGRP | SIOCGPGRP => Answer::Make,
        _ => Answer::Give(Err(Errno::NOTTY)),
    }
}
