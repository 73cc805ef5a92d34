//! Errors of interposition.

use std::path::PathBuf;

use pmon_fake::native_socket::transport::MAX_DATAGRAM;
use rustix::io::Errno;
use thiserror::Error;

use crate::launch::socket_kind::FallbackReason;
use crate::launch::tmpfs::TmpfsError;
use crate::world::ReplayWorld;

/// The reason why a program cannot be run on the fake kernel.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InterposeError {
    /// This system does not allow a step of the setup.
    #[error("{step}: {errno}{}", step.hint(*errno))]
    Forbidden {
        /// The step that failed.
        step: SetupStep,
        /// The error of the system call.
        errno: Errno,
    },
    /// Native sockets were requested, and are not possible.
    #[error("cannot use native sockets: {0}; use --sockets auto or --sockets seccomp")]
    NativeSockets(FallbackReason),
    /// A datagram exceeds what a native socket can receive.
    #[error(
        "cannot deliver a datagram of {len} bytes: native sockets receive at most {MAX_DATAGRAM}; use --sockets seccomp"
    )]
    LongDatagram {
        /// Length of the datagram in bytes.
        len: usize,
    },
    /// `execve` failed; `ENOENT` if there is no program of that name.
    #[error("{0}")]
    Exec(Errno),
    /// The program's memory or file descriptors are not accessible.
    #[error(
        "cannot access the program's memory: {0}; its file must be readable by this user (chmod +r), and it must not make itself undumpable"
    )]
    Memory(Errno),
    /// The program's clocks cannot be those of the world: its vDSO cannot be changed.
    #[error(
        "cannot give the program the clocks of the capture: its vDSO cannot be changed: {0}; use --clock real"
    )]
    Clock(Errno),
    /// The clocks of the world are unknown.
    #[error("the capture has no readings of the recorded machine's clocks; use --clock real")]
    NoClocks,
    /// A directory cannot be replaced by a tmpfs.
    #[error("cannot mount a tmpfs on {}: {why}", path.display())]
    Tmpfs {
        /// The directory.
        path: PathBuf,
        /// The reason.
        why: TmpfsError,
    },
    /// A call of the program cannot be answered because this system fails.
    #[error("cannot answer the program's system call: {0}")]
    Serve(#[from] Errno),
}

/// The reason why a program cannot be served any longer.
#[derive(Debug, Error)]
pub enum ServeError<E> {
    /// The world failed. The program's call is kept and retried by the next call of
    /// [`Supervisor::serve`](crate::Supervisor::serve).
    #[error("{0}")]
    World(E),
    /// This system failed.
    #[error(transparent)]
    Interpose(#[from] InterposeError),
}

/// The result of serving a program in the world `W`.
pub(crate) type ServeResult<W, T = ()> = Result<T, ServeError<<W as ReplayWorld>::Error>>;

impl<E> From<Errno> for ServeError<E> {
    fn from(errno: Errno) -> Self {
        Self::Interpose(errno.into())
    }
}

/// A step of the setup of a program's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[repr(u8)]
#[non_exhaustive]
pub enum SetupStep {
    /// Allocates file descriptors and starts the processes.
    #[error("cannot prepare the program's process")]
    Prepare = 1,
    /// Creates the user, mount and PID namespaces.
    #[error("cannot create a user namespace")]
    Namespaces,
    /// Maps users and groups into the user namespace.
    #[error("cannot map a user into the new user namespace")]
    Map,
    /// Mounts the program's `/proc`.
    #[error("cannot mount a /proc for the program")]
    Mounts,
    /// Mounts the kernel's own procfs below the program's `/proc`.
    #[error("cannot mount a new procfs")]
    Proc,
    /// Installs the seccomp filter that intercepts system calls.
    #[error("cannot intercept system calls (seccomp user notification)")]
    Seccomp,
    /// Changes the user.
    #[error("cannot change to the requested user")]
    User,
    /// Mounts the program's private tmpfs on directories.
    #[error("cannot mount a tmpfs for the program")]
    Tmpfs,
}

impl SetupStep {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::Prepare,
            Self::Namespaces,
            Self::Map,
            Self::Mounts,
            Self::Proc,
            Self::Seccomp,
            Self::User,
            Self::Tmpfs,
        ];
        all.into_iter().find(|&step| step as u8 == code)
    }

    /// Returns the likely cause and its remedy.
    fn hint(self, errno: Errno) -> &'static str {
        match (self, errno) {
            (_, Errno::MFILE) => "; the limit on open files (ulimit -n) is too low",
            (Self::Namespaces, Errno::NOSPC | Errno::USERS) => {
                "; the limit on namespaces is reached: see the sysctls user.max_user_namespaces, user.max_pid_namespaces and \
                 user.max_mnt_namespaces"
            }
            (Self::Namespaces, _) => {
                "; user namespaces are disabled, or not allowed for this user: see the sysctls kernel.unprivileged_userns_clone and \
                 kernel.apparmor_restrict_unprivileged_userns, and in a container its seccomp profile"
            }
            (Self::Map, Errno::NOENT | Errno::ACCESS) => {
                "; /proc is not mounted, or belongs to another PID namespace: mount -t proc proc /proc"
            }
            (Self::Map, _) => {
                "; the sysctl kernel.apparmor_restrict_unprivileged_userns may forbid it, or root lacks CAP_SETFCAP, as in a container"
            }
            (Self::Mounts | Self::Proc, _) => {
                "; parts of /proc are hidden, as in a container: with --proc real the program runs, and sees this system's processes"
            }
            (Self::Seccomp, Errno::BUSY) => {
                "; another seccomp listener intercepts pmon's calls already, for instance that of another pmon replay, and only one can"
            }
            (Self::Seccomp, _) => {
                "; it requires Linux 5.9 with CONFIG_SECCOMP_FILTER, and in a container a seccomp profile that allows it"
            }
            (Self::Tmpfs, _) => "; try without --tmpfs",
            (Self::Prepare | Self::User, _) => "",
        }
    }
}
