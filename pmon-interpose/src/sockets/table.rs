//! The table of the tracee's sockets: opening, finding, duplicating and closing them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use pmon_core::Tgid;
use pmon_fake::Kernel;
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::error::InterposeError;
use crate::seccomp::fd_numbers::ReservedFds;
use crate::seccomp::filter::NETLINK_CONNECTOR;
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::sockets::native::flow_control::FlowControl;
use crate::sockets::proxy::SocketProxy;
use crate::sockets::send;
use crate::sockets::usage::{ClosedSockets, SocketSummary};
use crate::tracee::fds::{FileId, file_id, open_files};
use crate::tracee::processes::{Caller, TraceeProcesses};

/// Mask of a socket's type without its flags.
const SOCK_TYPE_MASK: u32 = 0xF;
/// `SOCK_MAX`.
const SOCK_MAX: u32 = 11;
/// Default of `fs.nr_open`, the maximum number of open files of a process.
const NR_OPEN: u32 = 1 << 20;
/// Number of descriptors that this process keeps free to observe the tracee and to emulate calls.
const SPARE_DESCRIPTORS: usize = 6;

/// The tracee's sockets on the fake kernel.
pub(crate) struct SocketTable {
    /// The open sockets. An index is valid until [`SocketTable::remove_closed`].
    pub(crate) proxies: Vec<SocketProxy>,
    pub(crate) reserved: ReservedFds,
    tracee: TraceeProcesses,
    /// Number of sockets that the tracee has opened.
    pub(crate) opened: u64,
    closed: ClosedSockets,
    /// Whether a task with a foreign ABI, such as a 32-bit program, was refused a socket.
    pub(crate) has_refused_foreign_abi: bool,
}

impl SocketTable {
    pub(crate) fn new(reserved: ReservedFds, tracee: TraceeProcesses) -> Self {
        Self {
            proxies: Vec::new(),
            reserved,
            tracee,
            opened: 0,
            closed: ClosedSockets::default(),
            has_refused_foreign_abi: false,
        }
    }

    /// Returns the index of the socket behind a descriptor of the calling task.
    pub(crate) fn find(
        &mut self,
        call: &mut InterceptedCall<'_>,
        fd: u32,
    ) -> Result<Option<usize>, InterposeError> {
        let file = match call.stat(fd) {
            Ok(stat) => file_id(&stat),
            Err(Errno::NOENT | Errno::SRCH | Errno::NOTDIR) => return Ok(None),
            Err(_) if !call.is_pending() => return Ok(None),
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(InterposeError::Memory(errno)),
            Err(errno) => return Err(errno.into()),
        };
        let index = self.index_of(file);
        if let Some(index) = index {
            self.proxies[index].last_user = (call.task(), fd);
        }
        Ok(index)
    }

    pub(crate) fn index_of(&self, file: FileId) -> Option<usize> {
        self.proxies.iter().position(|proxy| proxy.file == file)
    }

    /// Returns whether a process has an open socket of this table.
    pub(crate) fn is_open_in(&self, process: u32) -> bool {
        open_files(process).any(|(_, file)| self.index_of(file).is_some())
    }

    /// Returns whether any socket is ready.
    pub(crate) fn any_ready(&self) -> bool {
        self.proxies.iter().any(SocketProxy::is_ready)
    }

    /// Returns whether a fault script has ended the input of all sockets, and everything before was
    /// received.
    pub(crate) fn are_all_at_end_of_file(&self) -> bool {
        !self.proxies.is_empty() && self.proxies.iter().all(|proxy| proxy.socket.is_at_end())
    }

    /// Returns whether an event would be delivered to any socket.
    pub(crate) fn any_receives_events(&self) -> bool {
        self.proxies.iter().any(|proxy| proxy.socket.receives_events())
    }

    /// Returns whether any socket has subscribed.
    pub(crate) fn any_subscribed(&self) -> bool {
        self.proxies.iter().any(|proxy| proxy.socket.is_subscribed())
    }

    /// Returns the number of sockets to which an event would be delivered.
    pub(crate) fn listeners(&self) -> usize {
        self.proxies.iter().filter(|proxy| proxy.socket.receives_events()).count()
    }

    /// Wakes calls that wait for ready sockets.
    pub(crate) fn notify_ready(&mut self) {
        self.proxies.iter_mut().filter(|proxy| proxy.is_ready()).for_each(SocketProxy::wake);
    }

    /// Removes the sockets that the tracee has closed.
    pub(crate) fn remove_closed(&mut self) {
        self.find_closed();
        for proxy in self.proxies.extract_if(.., |proxy| proxy.is_closed()) {
            self.closed.push(proxy.number, proxy.usage());
        }
    }

    /// Returns what the tracee has done with its sockets.
    pub(crate) fn summary(&self) -> SocketSummary {
        self.closed.summary(self.opened, self.proxies.iter().map(|proxy| (proxy.number, proxy.usage())))
    }

    /// Searches the tracee's descriptors for copies of native sockets: the end of such a socket
    /// does not hang up, because this process has a copy.
    fn find_closed(&mut self) {
        let is_searched =
            |proxy: &SocketProxy| proxy.channel.native().is_some_and(|native| !native.was_passed);
        if !self.proxies.iter().any(is_searched) {
            return;
        }
        let open: Vec<FileId> =
            self.tracee.pids().into_iter().flat_map(open_files).map(|(_, file)| file).collect();
        for proxy in self.proxies.iter_mut().filter(|proxy| is_searched(proxy)) {
            let is_closed = !open.contains(&proxy.file);
            if let Some(native) = proxy.channel.native_mut() {
                native.is_closed = is_closed;
            }
        }
    }

    /// Executes `socket`. The socket is native if `flow` is given.
    pub(crate) fn open(
        &mut self,
        kernel: &mut Kernel,
        call: &mut InterceptedCall<'_>,
        flow: Option<&mut FlowControl>,
    ) -> Reply {
        let [_, type_and_flags, protocol, ..] = call.args().map(|arg| arg as u32);
        debug_assert_eq!(protocol, NETLINK_CONNECTOR);
        let (socket_type, flags) = (type_and_flags & SOCK_TYPE_MASK, type_and_flags & !SOCK_TYPE_MASK);
        let known = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
        match socket_type as i32 {
            _ if flags & !known != 0 || socket_type >= SOCK_MAX => return Errno::INVAL.into(),
            libc::SOCK_RAW | libc::SOCK_DGRAM => {}
            _ => return Errno::SOCKTNOSUPPORT.into(),
        }
        self.remove_closed();
        let open = || -> Result<(), Errno> {
            let caller = Caller::of(call.task())?;
            let socket = if caller.has_net_admin {
                kernel.socket_of(Tgid(caller.tgid))
            } else {
                kernel.unprivileged_socket_of(Tgid(caller.tgid))
            };
            let nonblocking = flags & libc::SOCK_NONBLOCK as u32 != 0;
            let close_on_exec = flags & libc::SOCK_CLOEXEC as u32 != 0;
            let number = self.opened;
            self.opened += 1;
            if let Some(flow) = flow {
                let native = flow.open(nonblocking)?;
                require_spare_descriptors(native.fd.as_fd())?;
                let installed = self.return_reserved_fd(call, &native.fd, 0, close_on_exec);
                // Without a copy in the tracee, nothing would ever close the socket.
                if installed.is_ok() {
                    let mut proxy = SocketProxy::new_native(socket, socket_type, nonblocking, native)?;
                    proxy.number = number;
                    proxy.apply_options()?;
                    self.proxies.push(proxy);
                }
                return installed;
            }
            let (mut proxy, tracee_end) = SocketProxy::new(socket, socket_type, nonblocking)?;
            require_spare_descriptors(tracee_end.as_fd())?;
            proxy.number = number;
            self.proxies.push(proxy);
            self.return_reserved_fd(call, &tracee_end, 0, close_on_exec)
        };
        match open() {
            // With ENOENT, a signal has interrupted the call: the tracee has no descriptor.
            Ok(()) | Err(Errno::NOENT) => Reply::Deferred,
            Err(error) => error.into(),
        }
    }

    /// Executes `dup`, `dup2`, `dup3` and `fcntl(F_DUPFD)`.
    pub(crate) fn duplicate(&mut self, call: &mut InterceptedCall<'_>) -> Result<Reply, InterposeError> {
        let [fd, second, third, ..] = call.args().map(|arg| arg as u32);
        let (minimum, close_on_exec) = match call.nr() {
            libc::SYS_dup => (0, false),
            libc::SYS_fcntl => (third, second == libc::F_DUPFD_CLOEXEC as u32),
            // `dup2` or `dup3` to a reserved number.
            _ if self.reserved.contains(second) => return Ok(Reply::Continue),
            _ => return self.untrack_duplicated(call),
        };
        let copied = call.duplicate_fd(fd);
        match copied.and_then(|tracee_end| self.return_reserved_fd(call, &tracee_end, minimum, close_on_exec))
        {
            Ok(()) | Err(Errno::NOENT) => Ok(Reply::Deferred),
            Err(Errno::MFILE) => self.untrack_duplicated(call),
            Err(error) => Ok(error.into()),
        }
    }

    /// Lets the kernel duplicate a socket to a number that is not reserved.
    fn untrack_duplicated(&mut self, call: &mut InterceptedCall<'_>) -> Result<Reply, InterposeError> {
        let [fd, to, flags, ..] = call.args().map(|arg| arg as u32);
        // If the kernel refuses the call, the socket stays tracked.
        let is_refused = match call.nr() {
            libc::SYS_dup3 => to == fd || to > NR_OPEN || flags & !(libc::O_CLOEXEC as u32) != 0,
            libc::SYS_fcntl => flags > NR_OPEN,
            _ => to == fd || to > NR_OPEN,
        };
        let index = if is_refused { None } else { self.find(call, fd)? };
        Ok(match index.map_or(Ok(()), |index| self.untrack(call, index)) {
            Ok(()) => Reply::Continue,
            Err(error) => error.into(),
        })
    }

    /// Untracks the sockets that `sendmsg` passes to another process, where they get other numbers.
    pub(crate) fn untrack_passed(&mut self, call: &mut InterceptedCall<'_>) -> Result<(), InterposeError> {
        for fd in send::passed_fds(call) {
            if self.reserved.contains(fd)
                && let Some(index) = self.find(call, fd)?
            {
                if let Some(native) = self.proxies[index].channel.native_mut() {
                    native.was_passed = true;
                }
                self.untrack(call, index)?;
            }
        }
        Ok(())
    }

    /// Prepares a socket for a copy whose number is not reserved. A native socket that has
    /// subscribed receives there as well; another one becomes a pair, through which a later request
    /// passes.
    fn untrack(&mut self, call: &mut InterceptedCall<'_>, index: usize) -> Result<(), Errno> {
        let proxy = &mut self.proxies[index];
        let is_subscribed = proxy.socket.is_subscribed();
        let Some(native) = proxy.channel.native_mut() else { return proxy.untrack() };
        if is_subscribed {
            native.has_untracked_copy = true;
            return Ok(());
        }
        let file = proxy.file;
        let tracee_end = proxy.replace_native()?;
        for number in self.reserved.at_least(0) {
            if call.stat(number).is_ok_and(|stat| file_id(&stat) == file) {
                call.replace_fd(&tracee_end, number)?;
            }
        }
        Ok(())
    }

    /// Untracks the sockets that a process of the tracee has by numbers that are not reserved,
    /// because it received them from another process.
    pub(crate) fn untrack_received(&mut self, tracee: TraceeProcesses) {
        for (fd, file) in tracee.pids().into_iter().flat_map(open_files) {
            let is_tracked =
                |proxy: &&mut SocketProxy| !proxy.is_untracked && proxy.channel.native().is_none();
            let found = self.proxies.iter_mut().filter(is_tracked).find(|proxy| proxy.file == file);
            if let (Some(proxy), false) = (found, self.reserved.contains(fd)) {
                // On an error, the next search tries again.
                let _ = proxy.untrack();
            }
        }
    }

    /// Lets a call return `file` as the first free reserved number that is at least `minimum`.
    fn return_reserved_fd(
        &self,
        call: &mut InterceptedCall<'_>,
        file: &OwnedFd,
        minimum: u32,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        for number in self.reserved.at_least(minimum) {
            if call.stat(number).is_err() {
                match call.return_fd(file, Some(number), close_on_exec) {
                    // The number exceeds the task's limit, which the task may have lowered.
                    Err(Errno::BADF) => {}
                    done => return done,
                }
            }
        }
        Err(Errno::MFILE)
    }
}

/// Fails with `EMFILE` if this process can open fewer than [`SPARE_DESCRIPTORS`] more.
fn require_spare_descriptors(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    (0..SPARE_DESCRIPTORS).map(|_| fcntl_dupfd_cloexec(fd, 0)).collect::<Result<Vec<_>, _>>().map(drop)
}
