//! Starts the tracee in new namespaces, with its system calls intercepted.
//!
//! Two processes are created. The first is `init` of a new PID namespace: it mounts the new
//! `/proc`, reaps the tracee's processes, and ends when all of them have ended. If it is killed,
//! the kernel kills all of them. The second executes the program.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, getegid, geteuid, pidfd_send_signal, waitid};

use crate::error::{InterposeError, SetupStep};
use crate::launch::child::ChildSetup;
use crate::launch::control::{ChildMessage, GO, receive_message, send};
use crate::launch::options::{ClockSource, LaunchOptions};
use crate::launch::pid_layout::last_pid_candidates;
use crate::launch::socket_kind::SocketKind;
use crate::seccomp::fd_numbers::ReservedFds;
use crate::seccomp::filter::{FilterOptions, build_filter};
use crate::sys::{self, CStringArray};

pub(crate) mod child;
pub(crate) mod control;
pub(crate) mod options;
pub(crate) mod pid_layout;
pub(crate) mod socket_kind;
pub(crate) mod tmpfs;

/// Minimum limit on open files: for this process's own files, the tracee's, and the fake kernel's.
const MIN_OPEN_FILES: u32 = 32;
/// Distance of the control socket's number below the reserved numbers.
const CONTROL_DISTANCE: u32 = 8;

/// The started processes. Dropping it kills them.
pub(crate) struct Launched {
    /// A pidfd of `init`.
    pub(crate) init: OwnedFd,
    /// The id of `init` in this process's PID namespace.
    pub(crate) pid: u32,
    pub(crate) control: OwnedFd,
    /// The roots of the tracee's `/proc` and of the kernel's own procfs in it.
    pub(crate) proc: Option<(OwnedFd, OwnedFd)>,
    pub(crate) reserved: ReservedFds,
}

/// Starts `init`, which mounts the tracee's `/proc` and then waits for [`Launched::run`].
///
/// The tracee's processes get ids below `pid_max` and, if possible, none that are in `taken`.
pub(crate) fn launch(
    options: &LaunchOptions,
    taken: &[u32],
    pid_max: u32,
    socket_kind: SocketKind,
) -> Result<Launched, InterposeError> {
    let failed = |step| move |errno| InterposeError::Forbidden { step, errno };
    let (control, child_end) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(failed(SetupStep::Prepare))?;
    let reserved = ReservedFds::by_limit();
    if reserved.preferred().end < MIN_OPEN_FILES {
        return Err(failed(SetupStep::Prepare)(Errno::MFILE));
    }
    // The filter does not intercept `sendmsg` on this number, which the program is unlikely to use.
    let number = reserved.preferred().start.saturating_sub(CONTROL_DISTANCE);
    let child_end = fcntl_dupfd_cloexec(&child_end, number as i32).map_err(failed(SetupStep::Prepare))?;
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let args = std::iter::once(&options.program).chain(&options.args).cloned();
    let filter = FilterOptions {
        control: child_end.as_raw_fd() as u32,
        private_proc: options.private_proc,
        emulates_clocks: options.clock == ClockSource::World,
        has_native_sockets: socket_kind == SocketKind::Native,
        is_root: options.uid == 0,
        maps_all_users: geteuid().is_root(),
    };
    let mut child = ChildSetup {
        filter: build_filter(&reserved, filter),
        control: child_end,
        supervisor_end: control.as_raw_fd(),
        options,
        tmpfs: tmpfs::prepare(options)?,
        last_pids: last_pid_candidates(taken, pid_max).iter().map(u32::to_string).collect(),
        candidates: candidates(options)?,
        args: c_strings(args)?,
        environment: c_strings(environment)?,
        user: (geteuid().is_root() && options.uid != 0).then_some(options.uid),
    };
    let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    let (pid, init) =
        sys::spawn(namespaces, &mut || child.run_init()).map_err(failed(SetupStep::Namespaces))?;
    drop(child);
    let mut launched = Launched { init, pid, control, proc: None, reserved };
    map_users(pid, options.uid).map_err(failed(SetupStep::Map))?;
    launched.run()?;
    if options.private_proc {
        launched.proc = match receive_message(&launched.control) {
            ChildMessage::ProcMounted(root, real) => Some((root, real)),
            ChildMessage::Failed(error) => return Err(error),
            _ => return Err(failed(SetupStep::Prepare)(Errno::PIPE)),
        };
    }
    Ok(launched)
}

impl Launched {
    /// Kills all processes.
    pub(crate) fn kill(&self) {
        // It fails if they have ended already.
        let _ = pidfd_send_signal(&self.init, Signal::KILL);
    }

    /// Lets `init` continue: first to mount `/proc`, then to start the program.
    pub(crate) fn run(&self) -> Result<(), InterposeError> {
        send(&self.control, &[GO], &[])
            .map_err(|errno| InterposeError::Forbidden { step: SetupStep::Prepare, errno })
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.kill();
        // When `init` has ended, the kernel has ended all other processes of its namespace.
        let _ = waitid(WaitId::PidFd(self.init.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Returns the paths that `execvp` would try, in order.
fn candidates(options: &LaunchOptions) -> Result<Vec<(CString, CStringArray)>, InterposeError> {
    let name = &options.program;
    let paths: Vec<OsString> = if name.as_bytes().contains(&b'/') {
        vec![name.clone()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path).map(|directory| Path::new(&directory).join(name).into()).collect()
    };
    let candidate = |path: OsString| {
        let script =
            [OsString::from("/bin/sh"), path.clone()].into_iter().chain(options.args.iter().cloned());
        Ok((c_string(path)?, c_strings(script)?))
    };
    paths.into_iter().map(candidate).collect()
}

fn c_strings(strings: impl Iterator<Item = OsString>) -> Result<CStringArray, InterposeError> {
    Ok(CStringArray::new(strings.map(c_string).collect::<Result<_, _>>()?))
}

/// Converts a string for the kernel; fails if it contains a zero byte.
fn c_string(string: OsString) -> Result<CString, InterposeError> {
    CString::new(string.into_vec()).map_err(|_zero| InterposeError::Exec(Errno::INVAL))
}

/// Maps users and groups into the user namespace of `pid`. For root, all ids map to themselves. For
/// an ordinary user, only the own id is mapped, as `uid`.
fn map_users(pid: u32, uid: u32) -> Result<(), Errno> {
    // In the `/proc` of another PID namespace, `pid` would be a foreign process.
    if fs::read_link("/proc/self").ok() != Some(std::process::id().to_string().into()) {
        return Err(Errno::NOENT);
    }
    let write = |name: &str, text: &str| {
        fs::write(format!("/proc/{pid}/{name}"), text).map_err(|error| sys::errno_of(&error))
    };
    if geteuid().is_root() {
        for name in ["uid_map", "gid_map"] {
            let own = fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
            let same = own.lines().filter_map(|line| {
                let mut words = line.split_whitespace();
                let (first, count) = (words.next()?, words.nth(1)?);
                Some(format!("{first} {first} {count}\n"))
            });
            write(name, &same.collect::<String>())?;
        }
        return Ok(());
    }
    let (euid, egid) = (geteuid().as_raw(), getegid().as_raw());
    let gid = if uid == 0 { 0 } else { egid };
    write("uid_map", &format!("{uid} {euid} 1\n"))?;
    // The kernel lets an unprivileged process map its group only after setgroups is denied.
    write("setgroups", "deny")?;
    write("gid_map", &format!("{gid} {egid} 1\n"))
}
