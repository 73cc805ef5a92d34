//! Dispatches each intercepted call to its handler.

use std::sync::Arc;

use pmon_fake::Errno;

use crate::error::{InterposeError, ServeResult};
use crate::processes::id_calls;
use crate::procfs::path_calls::ProcCall;
use crate::seccomp::calls::{is_remounting, is_wait, takes_process_id};
use crate::seccomp::filter::opens_connector_by_foreign_abi;
#[cfg(target_arch = "x86_64")]
use crate::seccomp::i386;
use crate::seccomp::listener::{InterceptedCall, Reply};
use crate::sockets::delivery::EventDelivery;
use crate::sockets::proxy::SocketProxy;
use crate::sockets::receive::is_receive;
use crate::sockets::send::{is_send, send};
use crate::sockets::{address, options, poll};
use crate::supervisor::Supervisor;
use crate::supervisor::observed_view::ObservedView;
use crate::sys::Notification;
use crate::tracee::abi::Abi;
use crate::world::ReplayWorld;

/// Valid flags of `accept4`.
const ACCEPT_FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
const SIOCATMARK: libc::Ioctl = 0x8905;
const SIOCUNIXFILE: libc::Ioctl = 0x89E0;

impl Supervisor {
    /// Executes a call; returns the reply to it.
    pub(super) fn execute<W: ReplayWorld>(
        &mut self,
        world: &mut W,
        notification: Notification,
    ) -> ServeResult<W, Reply> {
        let Self { tracee, tasks, delivery, procfs, pidfds, clock, .. } = self;
        let listener = Arc::clone(&delivery.listener.fd);
        let (notification, abi) = match by_native_abi(notification, delivery) {
            Some(translated) => translated,
            None => return Ok(Reply::Continue),
        };
        let call = &mut InterceptedCall { notification, abi, listener, tasks };
        if let (Abi::Native, Some(opens_connector)) = (abi, opens_connector_by_foreign_abi(&notification)) {
            delivery.sockets.has_refused_foreign_abi |= opens_connector;
            return Ok(if opens_connector { Errno::PROTONOSUPPORT.into() } else { Reply::Continue });
        }
        let (nr, args) = (call.nr(), call.args());
        let event = clock.is_some().then(|| world.processes().clocks()).flatten().unwrap_or_default();
        // 32-bit programs read the real clocks.
        if let (Some(clock), Abi::Native) = (&mut *clock, abi)
            && let Some(reply) = clock.answer(call, event)?
        {
            return Ok(reply);
        }
        match nr {
            libc::SYS_socket => {
                check_memory_access(call)?;
                let flow = delivery.flow.as_mut();
                return Ok(delivery.sockets.open(world.kernel(), call, flow));
            }
            nr if is_wait(nr) && delivery.flow.is_some() => {
                if let Some(clock) = clock {
                    clock.note_wait(call, event);
                }
                return Ok(Reply::Continue);
            }
            nr if is_wait(nr) => {
                let reply = poll::before_wait(delivery, world, call)?;
                if let (Some(clock), false) = (clock, delivery.sockets.any_ready()) {
                    clock.note_wait(call, event);
                }
                return Ok(reply);
            }
            libc::SYS_epoll_ctl => return Ok(poll::note_epoll_ctl(delivery, call)?),
            nr if takes_process_id(nr) => {
                delivery.observe_native(world)?;
                let (procfs, view) = (procfs.as_ref(), ObservedView::new(world.processes()));
                let reply = id_calls::answer(call, &view, *tracee, procfs, pidfds);
                delivery.note_look(view.was_used());
                return Ok(reply);
            }
            _ => {}
        }
        if let Some(tree) = procfs
            && is_remounting(nr)
        {
            tree.is_remounted = true;
            return Ok(Reply::Continue);
        }
        if let Some(tree) = procfs
            && let Some(proc_call) = ProcCall::parse(call, tree)
        {
            delivery.observe_native(world)?;
            let view = ObservedView::new(world.processes());
            let reply = match clock {
                Some(clock) => proc_call.answer(call, &clock.view(&view), tree),
                None => proc_call.answer(call, &view, tree),
            };
            delivery.note_look(view.was_used());
            return Ok(reply);
        }
        let Some(index) = delivery.sockets.find(call, args[0] as u32)? else {
            if nr == libc::SYS_sendmsg {
                delivery.sockets.untrack_passed(call)?;
            }
            return Ok(Reply::Continue);
        };
        let proxy = &mut delivery.sockets.proxies[index];
        Ok(match nr {
            nr if proxy.is_untracked && (is_receive(nr) || is_send(nr) || is_transfer(nr)) => Reply::Continue,
            nr if is_receive(nr) => return delivery.receive(world, call, index),
            nr if is_send(nr) => {
                let reply = send(proxy, call).into();
                delivery.sockets.notify_ready();
                delivery.must_resume = true;
                match delivery.deliver_native(world)? {
                    true if nr != libc::SYS_sendmmsg => Errno::AGAIN.into(),
                    _ => reply,
                }
            }
            libc::SYS_bind => {
                // A socket that was closed must not occupy its port any more.
                let file = proxy.file;
                delivery.sockets.remove_closed();
                match delivery.sockets.index_of(file) {
                    Some(index) => {
                        let reply = address::bind(&mut delivery.sockets.proxies[index], call).into();
                        delivery.deliver_native(world)?;
                        reply
                    }
                    None => Reply::Continue,
                }
            }
            nr if is_transfer(nr) => Errno::INVAL.into(),
            libc::SYS_connect => address::connect(proxy, call).into(),
            libc::SYS_getsockname => address::return_address(proxy.socket.name(), call).into(),
            libc::SYS_getpeername => address::return_address(proxy.socket.peer_name(), call).into(),
            libc::SYS_setsockopt => {
                let result = options::set(proxy, call);
                proxy.apply_options()?;
                delivery.deliver_native(world)?;
                result.into()
            }
            libc::SYS_getsockopt => options::get(proxy, call).into(),
            libc::SYS_accept4 if args[3] as i32 & !ACCEPT_FLAGS != 0 => Errno::INVAL.into(),
            libc::SYS_listen | libc::SYS_accept | libc::SYS_accept4 | libc::SYS_shutdown => {
                Errno::OPNOTSUPP.into()
            }
            libc::SYS_ioctl => ioctl(proxy, call).unwrap_or_else(Reply::from),
            libc::SYS_fcntl if args[1] == libc::F_SETFL as u64 => {
                proxy.nonblocking = args[2] & libc::O_NONBLOCK as u64 != 0;
                proxy.is_async = args[2] & libc::O_ASYNC as u64 != 0;
                Reply::Continue
            }
            _ => delivery.sockets.duplicate(call)?,
        })
    }
}

/// Translates a call of a foreign ABI that is supported. Returns the call and the ABI of its
/// structs; `None` if the kernel has to execute it.
fn by_native_abi(notification: Notification, delivery: &EventDelivery) -> Option<(Notification, Abi)> {
    #[cfg(target_arch = "x86_64")]
    if notification.data.arch == i386::ARCH && delivery.flow.is_some() {
        return Some((i386::translate(&notification, &delivery.sockets.reserved)?, Abi::I386));
    }
    let _ = delivery;
    Some((notification, Abi::Native))
}

/// Returns whether the call with this number transfers data between files.
fn is_transfer(nr: i64) -> bool {
    [libc::SYS_splice, libc::SYS_sendfile].contains(&nr)
}

/// Checks whether the memory of a task is accessible, before it gets a socket.
fn check_memory_access(call: &InterceptedCall<'_>) -> Result<(), InterposeError> {
    let at = call.notification.data.instruction_pointer;
    match call.memory().bytes::<1>(at) {
        Err(errno @ (Errno::PERM | Errno::ACCESS)) if call.is_pending() => Err(InterposeError::Memory(errno)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Executes `ioctl`. The kernel executes the requests that do not depend on the family of the
/// socket.
fn ioctl(proxy: &mut SocketProxy, call: &InterceptedCall<'_>) -> Result<Reply, Errno> {
    /// Size of `struct ifreq`, which the kernel reads before it refuses a network request.
    const IFREQ: usize = 40;
    let [_, request, at, ..] = call.args();
    match request as libc::Ioctl {
        libc::FIONBIO => proxy.nonblocking = call.memory().u32(at)? != 0,
        libc::FIOASYNC => proxy.is_async = call.memory().u32(at)? != 0,
        // The requests of `AF_UNIX` sockets that netlink sockets do not have.
        libc::TIOCOUTQ | libc::FIONREAD => return Err(Errno::NOTTY),
        SIOCATMARK | SIOCUNIXFILE => {
            let _: [u8; IFREQ] = call.memory().bytes(at)?;
            return Err(Errno::NOTTY);
        }
        _ => {}
    }
    Ok(Reply::Continue)
}
