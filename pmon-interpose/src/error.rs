//! Why a program cannot be run on the fake kernel.

use rustix::io::Errno;
use thiserror::Error;

/// Why a program cannot be run on the fake kernel.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InterposeError {
    /// This system does not allow it.
    #[error("{step}: {errno}{}", step.hint(*errno))]
    Forbidden {
        /// What it does not.
        step: SetupStep,
        /// What it says.
        errno: Errno,
    },
    /// The program cannot be run: `ENOENT` if there is none of that name.
    #[error("{0}")]
    Exec(Errno),
    /// Its memory cannot be read, nor written.
    #[error(
        "cannot reach the program: {0}; whoever runs one here must be allowed to read its file, too (chmod +r), and it must not make itself undumpable"
    )]
    Memory(Errno),
    /// What the program asks for cannot be answered: this system fails.
    #[error("cannot answer the program: {0}")]
    Serve(#[from] Errno),
}

/// What it takes to run a program on the fake kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[repr(u8)]
#[non_exhaustive]
pub enum SetupStep {
    /// Memory, processes, file descriptors.
    #[error("cannot prepare the program's process")]
    Prepare = 1,
    /// New namespaces for it.
    #[error("cannot make a user namespace")]
    Namespaces,
    /// Users in it.
    #[error("cannot map a user into the new user namespace")]
    Map,
    /// Its own mounts.
    #[error("cannot mount a /proc for the program")]
    Mounts,
    /// The kernel's own `/proc` in them.
    #[error("cannot mount a new procfs")]
    Proc,
    /// Its system calls are asked about.
    #[error("cannot intercept system calls (seccomp user notification)")]
    Seccomp,
    /// Who it is.
    #[error("cannot become that user")]
    User,
}

impl SetupStep {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        let all =
            [Self::Prepare, Self::Namespaces, Self::Map, Self::Mounts, Self::Proc, Self::Seccomp, Self::User];
        all.into_iter().find(|&step| step as u8 == code)
    }

    /// What is missing, and what to do.
    fn hint(self, errno: Errno) -> &'static str {
        match (self, errno) {
            (_, Errno::MFILE) => "; the limit on open files (ulimit -n) is too low",
            (Self::Namespaces, Errno::NOSPC | Errno::USERS) => {
                "; no more of them are allowed: see the sysctls user.max_user_namespaces, user.max_pid_namespaces and \
                 user.max_mnt_namespaces"
            }
            (Self::Namespaces, _) => {
                "; user namespaces are switched off, or not for this user: see the sysctls kernel.unprivileged_userns_clone and \
                 kernel.apparmor_restrict_unprivileged_userns, and in a container its seccomp profile"
            }
            (Self::Map, Errno::NOENT | Errno::ACCESS) => {
                "; /proc is not mounted, or is that of another PID namespace: mount -t proc proc /proc"
            }
            (Self::Map, _) => {
                "; the sysctl kernel.apparmor_restrict_unprivileged_userns may forbid it, or root is without CAP_SETFCAP, as in a container"
            }
            (Self::Mounts | Self::Proc, _) => {
                "; parts of /proc are hidden, as in a container: with --proc real the program runs, and sees this system's processes"
            }
            (Self::Seccomp, Errno::BUSY) => {
                "; pmon is under one already, another pmon replay for instance, and a program's calls can be intercepted only once"
            }
            (Self::Seccomp, _) => {
                "; it takes Linux 5.9 with CONFIG_SECCOMP_FILTER, and in a container a seccomp profile that allows it"
            }
            (Self::Prepare | Self::User, _) => "",
        }
    }
}
