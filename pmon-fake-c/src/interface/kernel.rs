//! Kernels, their sockets, their clock and their CPUs.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::os::fd::IntoRawFd as _;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fake::{Errno, FdSocket, FdSocketFamily};
use rustix::io::ioctl_fionbio;

use super::{call, guard};
use crate::call_error::{CallError, last_error};
use crate::pump_thread;
use crate::state::{Shared, State};
use crate::sys;

/// The maximum number of CPUs, as of Linux on x86-64.
const MAX_CPUS: u32 = 8192;

/// The socket is non-blocking (`O_NONBLOCK`).
pub const PMON_SOCK_NONBLOCK: c_uint = 1;
/// The socket has subscribed to all events already, and has read the acknowledgement.
pub const PMON_SOCK_LISTEN: c_uint = 2;
/// The socket is one end of a `SOCK_SEQPACKET` pair of `AF_UNIX` sockets, which every system
/// allows. It never returns `ENOBUFS`: an overrun shows only by missing sequence numbers. After
/// `pmon_kernel_end_of_file()`, `recv` returns 0.
pub const PMON_SOCK_PAIR: c_uint = 4;
/// The socket is a netlink socket if this system allows it, or else one end of a pair. `SO_DOMAIN`
/// distinguishes the two.
pub const PMON_SOCK_ANY: c_uint = 8;

/// A fake kernel.
#[derive(Debug)]
pub struct Kernel {
    pub(super) shared: Arc<Shared>,
    /// The pump thread, once there is a socket.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Returns the version of the library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn pmon_fake_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    CStr::from_bytes_with_nul(VERSION.as_bytes()).unwrap_or(c"").as_ptr()
}

/// Returns the reason of the last call of this thread that failed, or an empty text. It stays valid
/// until another call of this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn pmon_last_error() -> *const c_char {
    last_error()
}

/// Creates a kernel with 1 to 8192 CPUs, on which only process 1, `init`, runs.
///
/// Returns NULL if there is no such number of CPUs (`EINVAL`), or no descriptor left.
#[unsafe(no_mangle)]
pub extern "C" fn pmon_kernel_new(cpus: u32) -> *mut Kernel {
    let mut kernel = ptr::null_mut();
    guard(|| {
        if !(1..=MAX_CPUS).contains(&cpus) {
            return Err(CallError::invalid(format_args!("a kernel has 1 to {MAX_CPUS} CPUs, not {cpus}")));
        }
        let shared = Arc::new(Shared::new(cpus)?);
        kernel = Box::into_raw(Box::new(Kernel { shared, thread: Mutex::default() }));
        Ok(0)
    });
    kernel
}

/// Frees a kernel; NULL has no effect.
///
/// The descriptors of its sockets stay open, and can still be closed by `close`. What they have in
/// their receive buffers can still be read. After that, one end of a pair is at the end of file,
/// and a netlink socket receives three messages of type `NLMSG_NOOP` and then no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_free(kernel: *mut Kernel) {
    guard(|| {
        if kernel.is_null() {
            return Ok(0);
        }
        // SAFETY: the caller got the pointer from `pmon_kernel_new`, and does not use it
        // afterwards.
        let kernel = unsafe { Box::from_raw(kernel) };
        kernel.shared.lock().stop = true;
        kernel.shared.notify();
        let thread = kernel.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A thread that has panicked has reported it.
        thread.map(JoinHandle::join).transpose().ok();
        Ok(0)
    });
}

/// Opens a socket of a privileged process, bound to the group of process events, and returns its
/// descriptor, with `FD_CLOEXEC`. The caller closes it.
///
/// `flags` is 0, or a sum of `PMON_SOCK_*`. Without `PMON_SOCK_LISTEN`, the program subscribes by
/// sending a request (`PROC_CN_MCAST_LISTEN`) without an address; a request to an explicit address
/// has no effect. The kernel then sends an acknowledgement.
///
/// By default the socket is a netlink socket in a network namespace of its own. Its overruns return
/// `ENOBUFS`, `SO_RCVBUF` and `NETLINK_NO_ENOBUFS` have their usual effects, and events come from
/// port 0. That needs unprivileged user namespaces: where they are missing, the call fails with the
/// error of `clone3`, such as `-EPERM`, unless `flags` has `PMON_SOCK_PAIR` or `PMON_SOCK_ANY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_socket(kernel: *const Kernel, flags: c_uint) -> c_int {
    guard(|| {
        // SAFETY: as the header requires.
        let kernel = unsafe { sys::reference(kernel, "kernel") }?;
        let (fd, is_first) = kernel.shared.call(|state| open_socket(state, flags))?;
        if is_first {
            let thread = pump_thread::spawn(kernel.shared.clone())?;
            kernel.thread.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(thread);
        }
        Ok(fd.into_raw_fd())
    })
}

fn open_socket(state: &mut State, flags: c_uint) -> Result<(std::os::fd::OwnedFd, bool), CallError> {
    let known = PMON_SOCK_NONBLOCK | PMON_SOCK_LISTEN | PMON_SOCK_PAIR | PMON_SOCK_ANY;
    if flags & !known != 0 {
        return Err(CallError::invalid(format_args!("there are no flags {:#x}", flags & !known)));
    }
    let mut fd_socket = if flags & PMON_SOCK_PAIR != 0 {
        pair(state)?
    } else {
        match state.kernel.netlink_fd_socket() {
            Ok(fd_socket) => fd_socket,
            Err(_) if flags & PMON_SOCK_ANY != 0 => pair(state)?,
            Err(error) => {
                return Err(CallError::new(error.errno, format!("{error}, or PMON_SOCK_PAIR")));
            }
        }
    };
    if flags & PMON_SOCK_LISTEN != 0 {
        fd_socket.socket().listen().map_err(|errno| CallError::new(errno, "cannot subscribe"))?;
        // The acknowledgement.
        fd_socket.socket().unqueue();
    }
    let fd = fd_socket.consumer().ok_or_else(|| CallError::new(Errno::IO, "the socket has no descriptor"))?;
    ioctl_fionbio(&fd, flags & PMON_SOCK_NONBLOCK != 0)
        .map_err(|errno| CallError::new(errno, "cannot set O_NONBLOCK"))?;
    Ok((fd, state.add(fd_socket)?))
}

fn pair(state: &State) -> Result<FdSocket, CallError> {
    let fd_socket = state.kernel.fd_socket();
    let fd_socket = fd_socket.map_err(|error| CallError::io("cannot open a pair of sockets", &error))?;
    debug_assert_eq!(fd_socket.family(), FdSocketFamily::Unix);
    Ok(fd_socket)
}

/// Handles the requests that programs have sent until now. All other functions do so too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_sync(kernel: *const Kernel) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call(kernel, |_| Ok(0)) }
}

/// Stores the kernel's count of listeners in `*count`. While it is below 1, no event is emitted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_listeners(kernel: *const Kernel, count: *mut i32) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call(kernel, |state| sys::write(count, state.kernel.listeners(), "count").map(|()| 0)) }
}

/// Stores the number of events that have happened in `*count`, including those that were not
/// emitted. The next event has this number in a fault script.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_events(kernel: *const Kernel, count: *mut u64) -> c_int {
    // SAFETY: as the header requires.
    unsafe { call(kernel, |state| sys::write(count, state.kernel.events_happened(), "count").map(|()| 0)) }
}

/// Sets the CPU on which the next events happen; at first, it is CPU 0.
///
/// Returns `-EINVAL` if there is no such CPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_run_on(kernel: *const Kernel, cpu: u32) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            let cpu = state.cpu(cpu)?;
            state.kernel.run_on(cpu);
            Ok(0)
        })
    }
}

/// Advances the clock by `ns` nanoseconds. With each event, it advances by 1,000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_advance(kernel: *const Kernel, ns: u64) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            state.kernel.advance(Duration::from_nanos(ns));
            Ok(0)
        })
    }
}

/// Ends the input: a pair is at the end of file, for good, once its receive buffer is empty.
///
/// Returns `-EOPNOTSUPP` if the kernel has a netlink socket, which has no end of file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmon_kernel_end_of_file(kernel: *const Kernel) -> c_int {
    // SAFETY: as the header requires.
    unsafe {
        call(kernel, |state| {
            if state.has_netlink_sockets() {
                let text = "a netlink socket has no end of file; open it with PMON_SOCK_PAIR";
                return Err(CallError::new(Errno::OPNOTSUPP, text));
            }
            state.kernel.end_of_file();
            Ok(0)
        })
    }
}
