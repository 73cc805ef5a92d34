//! How the program comes to be: in namespaces of its own, with its system calls asked about.
//!
//! Two processes are made. The first is the `init` of a new PID namespace, as which it ends when the program's processes have, and at whose end
//! the kernel ends them all; it makes the new `/proc`. The second becomes the program.

use std::ffi::{CStr, CString, OsString};
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, mount_remount,
    move_mount, open_tree,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{
    Signal, WaitId, WaitIdOptions, WaitOptions, getegid, geteuid, pidfd_send_signal,
    set_parent_process_death_signal, wait, waitid,
};
use rustix::thread::set_no_new_privs;

use crate::error::{InterposeError, SetupStep};
use crate::launch::options::{LaunchOptions, SignalDispositions};
use crate::launch::pid_layout::places;
use crate::seccomp::filter::filter;
use crate::seccomp::reserved::Reserved;
use crate::sys::{self, Strings};

pub(crate) mod options;
pub(crate) mod pid_layout;

/// Where the kernel's own `/proc` is, below the one that the program sees.
pub(crate) const REAL: &str = ".real";
/// As few file descriptors as will do.
const FEWEST: u32 = 32;
/// How far before these the new processes are heard.
const ASIDE: u32 = 8;

/// What is said between the processes, each with what comes behind it.
const GO: u8 = b'G';
const READY: u8 = b'R';
const LISTENER: u8 = b'L';
const FAILED: u8 = b'F';
const ENDED: u8 = b'E';

/// A program that was started, or is about to be.
pub(crate) struct Launched {
    /// The first process, and its id here.
    pub(crate) init: OwnedFd,
    pub(crate) pid: u32,
    pub(crate) control: OwnedFd,
    /// The root of what becomes its `/proc`, and of the kernel's own.
    pub(crate) proc: Option<(OwnedFd, OwnedFd)>,
    pub(crate) reserved: Reserved,
}

/// What one of the processes says.
pub(crate) enum Said {
    /// The root of what becomes the program's `/proc`, and of the kernel's own, are there.
    Ready(OwnedFd, OwnedFd),
    /// The program is about to run: whom its calls are asked.
    Listener(OwnedFd),
    /// It has ended, with that status as `wait` gives it.
    Ended(i32),
    /// Something failed.
    Failed(InterposeError),
    /// All have ended.
    Nothing,
}

/// Makes the first process. It waits for [`Launched::run`] when its `/proc` is there. Its processes shall have none of the ids that are
/// `taken`, and none from `pid_max` on.
pub(crate) fn launch(
    options: &LaunchOptions,
    taken: &[u32],
    pid_max: u32,
) -> Result<Launched, InterposeError> {
    let failed = |step| move |errno| InterposeError::Forbidden { step, errno };
    let (control, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(failed(SetupStep::Prepare))?;
    let reserved = Reserved::by_limit();
    // For this process's own files, the program's, and those of the fake kernel.
    if reserved.best().end < FEWEST {
        return Err(failed(SetupStep::Prepare)(Errno::MFILE));
    }
    // By a number that the program is not likely to have: what is sent there is not asked about.
    let theirs = fcntl_dupfd_cloexec(&theirs, reserved.best().start.saturating_sub(ASIDE) as i32)
        .map_err(failed(SetupStep::Prepare))?;
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let args = std::iter::once(&options.program).chain(&options.args).cloned();
    let mut child = Child {
        filter: filter(&reserved, theirs.as_raw_fd() as u32, options, geteuid().is_root()),
        control: theirs,
        others: control.as_raw_fd(),
        private_proc: options.private_proc,
        places: places(taken, pid_max).iter().map(u32::to_string).collect(),
        candidates: candidates(options)?,
        args: strings(args)?,
        environment: strings(environment)?,
        user: (geteuid().is_root() && options.uid != 0).then_some(options.uid),
        stdout: options.stdout.as_ref(),
        signals: options.signals,
    };
    let namespaces = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    let (pid, init) = sys::spawn(namespaces, &mut || child.init()).map_err(failed(SetupStep::Namespaces))?;
    drop(child);
    let mut launched = Launched { init, pid, control, proc: None, reserved };
    map_users(pid, options.uid).map_err(failed(SetupStep::Map))?;
    send(launched.control.as_fd(), &[GO], &[]).map_err(failed(SetupStep::Prepare))?;
    if options.private_proc {
        launched.proc = match launched.hear() {
            Said::Ready(root, real) => Some((root, real)),
            Said::Failed(error) => return Err(error),
            _ => return Err(failed(SetupStep::Prepare)(Errno::PIPE)),
        };
    }
    Ok(launched)
}

impl Launched {
    /// Whatever has not ended ends now.
    pub(crate) fn kill(&self) {
        // It fails if it has ended.
        let _ = pidfd_send_signal(&self.init, Signal::KILL);
    }

    /// Lets the program begin.
    pub(crate) fn run(&self) -> Result<(), InterposeError> {
        send(self.control.as_fd(), &[GO], &[])
            .map_err(|errno| InterposeError::Forbidden { step: SetupStep::Prepare, errno })
    }

    /// The next thing that one of the processes says; waits for it.
    pub(crate) fn hear(&self) -> Said {
        let mut fds = Vec::new();
        let mut message = [0; 8];
        let len = receive(self.control.as_fd(), &mut message, &mut fds).unwrap_or(0);
        let last = fds.pop();
        let number = || i32::from_ne_bytes([message[2], message[3], message[4], message[5]]);
        match (&message[..len], last) {
            ([READY, ..], Some(real)) => fds.pop().map_or(Said::Nothing, |root| Said::Ready(root, real)),
            ([LISTENER, ..], Some(listener)) => Said::Listener(listener),
            ([ENDED, ..], _) => Said::Ended(number()),
            ([FAILED, step, ..], _) => {
                let errno = Errno::from_raw_os_error(number());
                Said::Failed(match SetupStep::from_code(*step) {
                    Some(step) => InterposeError::Forbidden { step, errno },
                    None => InterposeError::Exec(errno),
                })
            }
            _ => Said::Nothing,
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        self.kill();
        // By the end of the first process, all others have ended.
        let _ = waitid(WaitId::PidFd(self.init.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Everything that the new processes need, as they cannot allocate any memory.
struct Child<'a> {
    control: OwnedFd,
    /// The other end.
    others: RawFd,
    private_proc: bool,
    /// Behind which ids its processes may have theirs.
    places: Vec<String>,
    /// What may be the program, and the arguments of a shell that reads it.
    candidates: Vec<(CString, Strings)>,
    args: Strings,
    environment: Strings,
    filter: Vec<libc::sock_filter>,
    /// Whom it becomes, if it is not that one already.
    user: Option<u32>,
    stdout: Option<&'a OwnedFd>,
    signals: SignalDispositions,
}

type Failed = (Option<SetupStep>, Errno);

impl Child<'_> {
    /// The first process; its exit code.
    fn init(&mut self) -> u8 {
        // Its own copy of it would keep this process from hearing that nobody is there any more.
        sys::close(self.others);
        sys::hear_of_children();
        if let Err(failed) = self.prepare() {
            self.say_failed(failed);
            return 1;
        }
        // The second process's id, by which it is known when it ends.
        let program = match sys::spawn(0, &mut || self.program()) {
            Ok((pid, _)) => pid,
            Err(errno) => {
                self.say_failed((Some(SetupStep::Prepare), errno));
                return 1;
            }
        };
        // The program's files are its own: who waits for the end of one shall not wait for this process.
        if let Err(errno) = rustix::stdio::dup2_stdin(&self.control) {
            self.say_failed((Some(SetupStep::Prepare), errno));
            return 1;
        }
        sys::close_from(1);
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid.as_raw_pid() as u32 == program => {
                    let status = status.as_raw().to_ne_bytes();
                    let message = [ENDED, 0, status[0], status[1], status[2], status[3]];
                    let _ = send(rustix::stdio::stdin(), &message, &[]);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return 0,
            }
        }
    }

    /// Namespaces, mounts, and leave to go on.
    fn prepare(&mut self) -> Result<(), Failed> {
        let at = |step| move |errno| (Some(step), errno);
        // Whatever happens to pmon, nothing of this stays.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(SetupStep::Prepare))?;
        self.await_go()?;
        let real = if self.private_proc {
            let (root, real) = self.mount()?;
            let message = [READY];
            send(self.control.as_fd(), &message, &[root.as_fd(), real.as_fd()])
                .map_err(at(SetupStep::Prepare))?;
            Some(real)
        } else {
            None
        };
        if let Some(real) = real {
            // Without leave, ids begin at 2, and may be those of processes of the fake kernel, too.
            let path = c"sys/kernel/ns_last_pid";
            if let Ok(last) = openat(&real, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
                let _ = self.places.iter().find(|place| rustix::io::write(&last, place.as_bytes()).is_ok());
            }
        }
        self.await_go()
    }

    fn await_go(&self) -> Result<(), Failed> {
        let mut message = [0; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.control, &mut message)) {
            Ok(1..) => Ok(()),
            Ok(_) => Err((Some(SetupStep::Prepare), Errno::PIPE)),
            Err(errno) => Err((Some(SetupStep::Prepare), errno)),
        }
    }

    /// The new `/proc`, an empty file system, and in it the kernel's own.
    fn mount(&self) -> Result<(OwnedFd, OwnedFd), Failed> {
        let at = |step| move |errno| (Some(step), errno);
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(c"/", private).map_err(at(SetupStep::Mounts))?;
        let flags = FsOpenFlags::FSOPEN_CLOEXEC;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mounted = |name: &CStr, mode: Option<&CStr>| -> Result<OwnedFd, Errno> {
            let context = fsopen(name, flags)?;
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
        let here = c".real";
        mkdirat(&root, here, Mode::from_raw_mode(0o555)).map_err(at(SetupStep::Mounts))?;
        move_mount(&real, c"", &root, here, to).map_err(at(SetupStep::Mounts))?;
        // The program may change nothing there, and whoever serves it does so by another mount.
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let ours = open_tree(cwd, c"/proc", clone).map_err(at(SetupStep::Mounts))?;
        let kept = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_remount(c"/proc", MountFlags::BIND | MountFlags::RDONLY | kept, c"")
            .map_err(at(SetupStep::Mounts))?;
        // What a mount gives is only a path.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let real = openat(&real, c".", flags, Mode::empty()).map_err(at(SetupStep::Mounts))?;
        Ok((ours, real))
    }

    /// The second process; returns only if it cannot become the program.
    fn program(&self) -> u8 {
        let failed = self.become_program();
        self.say_failed(failed);
        1
    }

    fn become_program(&self) -> Failed {
        let at = |step| move |errno| (Some(step), errno);
        let act = || -> Result<(), Failed> {
            if let Some(stdout) = self.stdout {
                rustix::stdio::dup2_stdout(stdout).map_err(at(SetupStep::Prepare))?;
            }
            sys::set_signals(self.signals);
            let listener = sys::install(&self.filter).map_err(at(SetupStep::Seccomp))?;
            if let Some(user) = self.user {
                sys::become_user(user).map_err(at(SetupStep::User))?;
                set_no_new_privs(true).map_err(at(SetupStep::User))?;
            }
            send(self.control.as_fd(), &[LISTENER], &[listener.as_fd()]).map_err(at(SetupStep::Prepare))?;
            Ok(())
        };
        if let Err(failed) = act() {
            return failed;
        }
        let mut error = Errno::NOENT;
        for (path, script) in &self.candidates {
            match sys::exec(path, &self.args, &self.environment) {
                // As the C library has it: a script whose first line does not say who reads it.
                Errno::NOEXEC => return (None, sys::exec(c"/bin/sh", script, &self.environment)),
                // Another folder may have it.
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => error = Errno::ACCESS,
                errno => return (None, errno),
            }
        }
        (None, error)
    }

    fn say_failed(&self, (step, errno): Failed) {
        let errno = errno.raw_os_error().to_ne_bytes();
        let step = step.map_or(0, |step| step as u8);
        let _ = send(self.control.as_fd(), &[FAILED, step, errno[0], errno[1], errno[2], errno[3]], &[]);
    }
}

/// What `execvp` would try, one after the other.
fn candidates(options: &LaunchOptions) -> Result<Vec<(CString, Strings)>, InterposeError> {
    let name = &options.program;
    let paths: Vec<OsString> = if name.as_bytes().contains(&b'/') {
        vec![name.clone()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path).map(|folder| Path::new(&folder).join(name).into()).collect()
    };
    let candidate = |path: OsString| {
        let script =
            [OsString::from("/bin/sh"), path.clone()].into_iter().chain(options.args.iter().cloned());
        Ok((string(path)?, strings(script)?))
    };
    paths.into_iter().map(candidate).collect()
}

fn strings(strings: impl Iterator<Item = OsString>) -> Result<Strings, InterposeError> {
    Ok(Strings::new(strings.map(string).collect::<Result<_, _>>()?))
}

/// As the kernel takes it: without a zero byte in it.
fn string(string: OsString) -> Result<CString, InterposeError> {
    CString::new(string.into_vec()).map_err(|_zero| InterposeError::Exec(Errno::INVAL))
}

/// Who is who in the new user namespace. Root sees all users as they are; everybody else sees only itself, as `uid`.
fn map_users(pid: u32, uid: u32) -> Result<(), Errno> {
    // By that number, the `/proc` of another PID namespace has somebody else.
    if fs::read_link("/proc/self").ok() != Some(std::process::id().to_string().into()) {
        return Err(Errno::NOENT);
    }
    let write = |name: &str, text: &str| {
        fs::write(format!("/proc/{pid}/{name}"), text)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
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
    // Whoever may not change groups may have a mapping of its own.
    write("setgroups", "deny")?;
    write("gid_map", &format!("{gid} {egid} 1\n"))
}

fn send(socket: BorrowedFd<'_>, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, message: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(message)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    Ok(received.bytes)
}
