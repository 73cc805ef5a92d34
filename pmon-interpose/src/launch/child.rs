//! The code of the two new processes: `init` of the PID namespace, and the program before `execve`.
//!
//! It runs in a copy of a possibly multi-threaded process: it must not allocate memory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, mount_remount,
    move_mount, open_tree,
};
use rustix::process::{Signal, WaitOptions, set_parent_process_death_signal, wait};
use rustix::thread::set_no_new_privs;

use crate::error::SetupStep;
use crate::launch::control::{
    ChildFailure, EXITED, LISTENER, PROC_MOUNTED, await_go, send, send_failed, send_number,
};
use crate::launch::options::LaunchOptions;
use crate::launch::tmpfs::TmpfsMount;
use crate::sys::{self, CStringArray};

/// Directory of the kernel's own procfs below the tracee's `/proc`.
pub(crate) const REAL_PROC: &str = ".real";

/// The input of the new processes, prepared in advance: they must not allocate memory.
pub(crate) struct ChildSetup<'a> {
    pub(crate) control: OwnedFd,
    /// The supervisor's end of the control socket.
    pub(crate) supervisor_end: RawFd,
    pub(crate) options: &'a LaunchOptions,
    pub(crate) tmpfs: Vec<TmpfsMount>,
    /// Candidate values of `ns_last_pid`, in order of preference.
    pub(crate) last_pids: Vec<String>,
    /// Candidate paths of the program, each with the arguments of a shell that would run it as a
    /// script.
    pub(crate) candidates: Vec<(CString, CStringArray)>,
    pub(crate) args: CStringArray,
    pub(crate) environment: CStringArray,
    pub(crate) filter: Vec<libc::sock_filter>,
    /// The user to change to, if it differs from the current one.
    pub(crate) user: Option<u32>,
}

/// Returns the conversion of an error in a step.
fn at(step: SetupStep) -> impl Fn(Errno) -> ChildFailure {
    move |errno| (Some(step), errno)
}

impl ChildSetup<'_> {
    /// Runs `init`, the first process; returns its exit code.
    pub(crate) fn run_init(&mut self) -> u8 {
        // With its own copy of this end open, a process would never see the supervisor's end close.
        sys::close(self.supervisor_end);
        sys::unignore_sigchld();
        let program = match self.start_program() {
            Ok(program) => program,
            Err(failure) => {
                send_failed(&self.control, failure);
                return 1;
            }
        };
        sys::close_from(1);
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid.as_raw_pid() as u32 == program => {
                    let _ = send_number(rustix::stdio::stdin(), EXITED, 0, status.as_raw());
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return 0,
            }
        }
    }

    /// Mounts `/proc`, sets the next process id, waits for the supervisor and starts the program;
    /// returns its process id.
    fn start_program(&mut self) -> Result<u32, ChildFailure> {
        // If the supervisor is killed, so is `init`, and with it the whole PID namespace.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(SetupStep::Prepare))?;
        await_go(&self.control).map_err(at(SetupStep::Prepare))?;
        if self.options.private_proc || !self.tmpfs.is_empty() {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change(c"/", private).map_err(at(SetupStep::Mounts))?;
        }
        self.tmpfs.iter().try_for_each(TmpfsMount::mount).map_err(at(SetupStep::Tmpfs))?;
        if self.options.private_proc {
            let (root, real) = self.mount_proc()?;
            send(&self.control, &[PROC_MOUNTED], &[root.as_fd(), real.as_fd()])
                .map_err(at(SetupStep::Prepare))?;
            // Without permission to write it, ids start at 2 and may collide with recorded ones.
            let path = c"sys/kernel/ns_last_pid";
            if let Ok(last) = openat(&real, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
                let _ = self.last_pids.iter().find(|pid| rustix::io::write(&last, pid.as_bytes()).is_ok());
            }
        }
        await_go(&self.control).map_err(at(SetupStep::Prepare))?;
        let (program, _) = sys::spawn(0, &mut || self.run_program()).map_err(at(SetupStep::Prepare))?;
        // A process that waits until the program has closed a file must not wait for `init`: `init`
        // keeps only the control socket.
        rustix::stdio::dup2_stdin(&self.control).map_err(at(SetupStep::Prepare))?;
        Ok(program)
    }

    /// Mounts an empty tmpfs as `/proc`, and the kernel's own procfs in it; returns the roots of
    /// both.
    fn mount_proc(&self) -> Result<(OwnedFd, OwnedFd), ChildFailure> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mounted = |name: &CStr, mode: Option<&CStr>| -> Result<OwnedFd, Errno> {
            let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
            if let Some(mode) = mode {
                fsconfig_set_string(context.as_fd(), c"mode", mode)?;
            }
            fsconfig_create(context.as_fd())?;
            fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        let real = mounted(c"proc", None).map_err(at(SetupStep::Proc))?;
        let root = mounted(c"tmpfs", Some(c"755")).map_err(at(SetupStep::Mounts))?;
        let to = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        let cwd = rustix::fs::CWD;
        move_mount(&root, c"", cwd, c"/proc", to).map_err(at(SetupStep::Mounts))?;
        mkdirat(&root, REAL_PROC, Mode::from_raw_mode(0o555)).map_err(at(SetupStep::Mounts))?;
        move_mount(&real, c"", &root, REAL_PROC, to).map_err(at(SetupStep::Mounts))?;
        // The program's mount is read-only; the supervisor writes through a clone of the mount.
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let ours = open_tree(cwd, c"/proc", clone).map_err(at(SetupStep::Mounts))?;
        let kept = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_remount(c"/proc", MountFlags::BIND | MountFlags::RDONLY | kept, c"")
            .map_err(at(SetupStep::Mounts))?;
        // `fsmount` returns an O_PATH descriptor; reading directories requires an open file.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let real = openat(&real, c".", flags, Mode::empty()).map_err(at(SetupStep::Mounts))?;
        Ok((ours, real))
    }

    /// Runs the second process; returns only if the program cannot be executed.
    fn run_program(&self) -> u8 {
        let failure = self.set_up_program().err().unwrap_or_else(|| (None, self.exec()));
        send_failed(&self.control, failure);
        1
    }

    fn set_up_program(&self) -> Result<(), ChildFailure> {
        let LaunchOptions { stdout, signals, .. } = self.options;
        if let Some(stdout) = stdout {
            rustix::stdio::dup2_stdout(stdout).map_err(at(SetupStep::Prepare))?;
        }
        sys::set_signals(signals.ignored, signals.blocked);
        let listener = sys::install_filter(&self.filter).map_err(at(SetupStep::Seccomp))?;
        if let Some(user) = self.user {
            sys::become_user(user).map_err(at(SetupStep::User))?;
            set_no_new_privs(true).map_err(at(SetupStep::User))?;
        }
        send(&self.control, &[LISTENER], &[listener.as_fd()]).map_err(at(SetupStep::Prepare))
    }

    /// Executes the first candidate that exists; returns the error if none can be executed.
    fn exec(&self) -> Errno {
        let mut error = Errno::NOENT;
        for (path, script) in &self.candidates {
            match sys::exec(path, &self.args, &self.environment) {
                // `execvp` runs a script without an interpreter line with the shell.
                Errno::NOEXEC => return sys::exec(c"/bin/sh", script, &self.environment),
                // The next directory of PATH may have it.
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => error = Errno::ACCESS,
                errno => return errno,
            }
        }
        error
    }
}
