//! What `/proc/<pid>` says of a process (`proc_pid(5)`), read into memory that is used again.

mod files;
pub(crate) mod kinship;

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use pmon_core::Tgid;
use pmon_core::capture::{Details, DetailsSubject, MissReason, ProcessContext};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat_raw};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::process::{Pid, test_kill_process};

use self::files::{Stat, credentials, inner_pid, is_traced, number};
use crate::clock::Clock;
use crate::details::cgroups::{Hierarchy, unified};
use crate::details::redact::Redact;
use crate::namespaces;

/// Most bytes kept of a file, thus of a command line.
const MAX_ARGS: usize = 128 << 10;
/// Maximum bytes of a command line that are counted. `execve(2)` accepts 6 MiB, but a process may
/// declare any of its memory as its arguments (`PR_SET_MM_ARG_END`), and reading it would take
/// minutes.
const MAX_COUNTED: usize = 8 << 20;
/// Longest link: `PATH_MAX` and ` (deleted)`.
const MAX_LINK: usize = 4096 + 16;
/// A pid is not used again so soon: that would take as many forks as there are pids. In ns.
const REUSE: u64 = 10_000_000;

/// A process with a debugger is looked at so often, at this distance.
const TRIES: u32 = 5;
const TRY: Duration = Duration::from_millis(1);

/// Reads processes, one after the other.
pub(crate) struct Procfs {
    clock: Clock,
    ticks_per_second: u64,
    args_max: usize,
    /// Pattern to redact, and the number of bytes of a command line to search.
    redact: Option<(Redact, usize)>,
    buffer: Box<[u8]>,
    host: Host,
}

/// What processes are counted from.
struct Host {
    /// The PID namespace that `/proc` is of, by its inode number; 0 if that is not known.
    pid_namespace: u32,
    cgroups: Option<Hierarchy>,
    /// Whether cgroup paths begin at the root of the hierarchy, not at that of a cgroup namespace.
    sees_cgroup_root: bool,
}

impl Procfs {
    /// A reader that keeps `args_max` bytes of each command line.
    pub(crate) fn new(clock: Clock, args_max: usize) -> Self {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let pid_namespace = u32::try_from(namespaces::current().pid).unwrap_or(0);
        let sees_cgroup_root = namespaces::is_initial("cgroup");
        let host = Host { pid_namespace, cgroups: Hierarchy::here(), sees_cgroup_root };
        Self { clock, ticks_per_second, args_max, redact: None, buffer: vec![0; MAX_ARGS].into(), host }
    }

    /// Redacts the first `read` bytes of command lines before they are truncated.
    pub(crate) fn redacting(self, redact: Option<Redact>, read: usize) -> Self {
        Self { redact: redact.map(|redact| (redact, read)), ..self }
    }

    /// Its clock.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Reads the process of `subject`. What an exec left is certain to be this process's, though not that no
    /// other exec of it came before the reading.
    pub(crate) fn read(&mut self, subject: DetailsSubject) -> Details {
        let began = self.clock.mono();
        // Everything is opened relative to this directory, which stays that of one process whatever becomes of its pid.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| openat(CWD, format!("/proc/{}", subject.tgid()), flags, Mode::empty()));
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) => return Details::missed(subject, unseen(subject.tgid(), error)),
        };
        let mut process = Process { directory, buffer: &mut self.buffer, miss: None, len: 0 };
        let mut details = Details { miss: None, ..Details::missed(subject, MissReason::Gone) };
        // What is lost first comes first: the address space at the beginning of an exit, then the working directory;
        // the rest stays until the parent has waited.
        let args = process.file("cmdline");
        let args_len = process.len;
        let exe = process.link("exe");
        let cwd = process.link("cwd");
        let stat = process.page("stat").as_deref().and_then(Stat::parse);
        let status = process.page("status");
        let is_traced = status.as_deref().is_some_and(is_traced);
        details.ids = status.as_deref().and_then(credentials);
        let cgroups = process.page("cgroup");
        details.cgroup = cgroups.as_deref().map(unified).filter(|_| self.host.sees_cgroup_root);
        if cgroups.is_some() && details.cgroup.is_none() {
            process.missed(Errno::PERM);
        }

        // Another program since the beginning has another executable or other arguments. Without an executable by now,
        // the process is ending, and what was read before is its own.
        let miss = process.miss;
        let again = (process.file("cmdline"), process.link("exe"));
        let (new_args, new_exe) = &again;
        let is_image = |exe: &Result<Vec<u8>, Errno>| matches!(exe, Ok(_) | Err(Errno::NAMETOOLONG));
        let is_running = is_image(&exe) && is_image(new_exe);
        if matches!(subject, DetailsSubject::Exec { .. })
            && is_running
            && (&exe, &args) != (new_exe, new_args)
        {
            return Details::missed(subject, MissReason::Superseded);
        }
        process.miss = miss;
        let is_exec = matches!(subject, DetailsSubject::Exec { .. });
        let is_half_begun = exe.is_ok() && args.as_ref().is_some_and(Vec::is_empty);
        if is_exec && (is_half_begun || is_traced && process.may_be_held_in_exec()) {
            // It has the next program's image, and not yet its arguments, or its exec event is still to come.
            return Details::missed(subject, MissReason::Superseded);
        }

        let is_kthread = stat.as_ref().is_some_and(Stat::is_kthread);
        details.exe = match exe {
            Err(Errno::NOENT) if is_kthread => None,
            exe => exe.map_err(|error| process.missed(error)).ok(),
        };
        details.cwd = cwd.map_err(|error| process.missed(error)).ok();
        // Without an address space there is no command line: the file is empty, as it is for a process without
        // arguments.
        let has_memory = details.exe.is_some()
            || matches!(process.miss, None | Some(MissReason::Denied | MissReason::TooLong));
        details.args = args.filter(|args| !args.is_empty() || has_memory && !is_kthread);
        if let (Some((redact, read)), Some(args)) = (&self.redact, &mut details.args)
            && args_len > self.args_max
        {
            args.truncate(*read);
            details.args_len = (args.len() < args_len).then_some(args_len as u64);
            redact.args(&mut details, *read);
        }
        keep_args(&mut details, args_len, self.args_max);
        details.miss = process.miss;
        details.context = stat.as_ref().zip(status.as_deref()).and_then(|(stat, status)| {
            process.context(subject.tgid(), stat, status, cgroups.as_deref(), &self.host)
        });
        match stat {
            Some(stat) => {
                let start_ticks = self.clock.initial_ticks(stat.start_ticks, self.ticks_per_second);
                if let DetailsSubject::Exec { time, .. } = subject
                    && self.is_later(start_ticks, time.0)
                {
                    return Details::missed(subject, MissReason::Gone);
                }
                (details.ppid, details.start_ticks) = (Some(stat.ppid), Some(start_ticks));
                if let DetailsSubject::Snapshot { .. } = subject {
                    details.threads = stat.threads();
                }
                details.comm = Some(stat.comm);
            }
            None => {
                if let DetailsSubject::Exec { time, .. } = subject
                    && began.0.saturating_sub(time.0) > REUSE
                {
                    return Details::missed(subject, MissReason::Gone);
                }
            }
        }
        details
    }

    /// Whether a process with this start is younger than an event at monotonic time `time`.
    fn is_later(&self, start_ticks: u64, time: u64) -> bool {
        let event = time.saturating_add(self.clock.suspended());
        let ticks = u128::from(event) * u128::from(self.ticks_per_second) / 1_000_000_000;
        // A tick of tolerance: the offset between the clocks is itself measured.
        u128::from(start_ticks) > ticks + 1
    }
}

/// One process's directory, and the worst that happened in it.
struct Process<'a> {
    directory: OwnedFd,
    buffer: &'a mut [u8],
    miss: Option<MissReason>,
    /// Bytes that the file read last has.
    len: usize,
}

impl Process<'_> {
    /// A file's content, up to [`MAX_ARGS`] bytes.
    fn file(&mut self, name: &str) -> Option<Vec<u8>> {
        let filled = retry_on_intr(|| {
            let file = openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let mut filled = 0;
            while filled < self.buffer.len() {
                match read(&file, &mut self.buffer[filled..])? {
                    0 => break,
                    count => filled += count,
                }
            }
            self.len = filled;
            let kept = (filled == self.buffer.len()).then(|| self.buffer.to_vec());
            if kept.is_some() {
                // What is too much is only counted.
                while self.len < MAX_COUNTED
                    && let count @ 1.. = read(&file, &mut self.buffer[..])?
                {
                    self.len += count;
                }
            }
            Ok(kept.unwrap_or_else(|| self.buffer[..filled].to_vec()))
        });
        match filled {
            Ok(kept) => Some(kept),
            Err(error) => {
                self.missed(error);
                None
            }
        }
    }

    /// The content of a file that the kernel writes as a whole: one reading has all of it, where there is room.
    fn page(&mut self, name: &str) -> Option<Vec<u8>> {
        let filled = retry_on_intr(|| {
            let file = openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            read(&file, &mut self.buffer[..])
        });
        let filled = filled.map_err(|error| self.missed(error)).ok()?;
        Some(self.buffer[..filled].to_vec())
    }

    /// Where it belongs, by what was read anyway, and by two files more. It can do without these, so this comes last,
    /// when nothing that is missing counts any more. Cgroup and namespace are 0 where they are not known.
    fn context(
        mut self,
        tgid: Tgid,
        stat: &Stat,
        status: &[u8],
        cgroup: Option<&[u8]>,
        host: &Host,
    ) -> Option<ProcessContext> {
        let (group, session) = stat.leaders?;
        if status.len() == MAX_ARGS && inner_pid(status).is_none() {
            // The list of supplementary groups was so long that the line with the ids, which
            // follows it, was not read.
            return None;
        }
        // A task that has been waited for meanwhile has no id anywhere.
        let (pid, depth) = inner_pid(status).unwrap_or((tgid.0, 0));
        let pid = Some(pid).filter(|&pid| pid != 0)?;
        let pid_namespace = match depth {
            0 => host.pid_namespace,
            _ => self.link("ns/pid").ok().as_deref().and_then(number).unwrap_or(0),
        };
        let login_uid = self.page("loginuid").as_deref().and_then(number).unwrap_or(u32::MAX);
        let cgroup = host.cgroups.as_ref().zip(cgroup).and_then(|(cgroups, lines)| cgroups.id(lines));
        Some(ProcessContext { session, group, login_uid, cgroup: cgroup.unwrap_or(0), pid_namespace, pid })
    }

    /// Whether a process with a debugger may be in the middle of an `execve`, where `PTRACE_EVENT_EXEC` (`ptrace(2)`) can
    /// hold it for any time, while it shows the next program. Only one that waits in another system call is not: a
    /// running one does not tell.
    fn may_be_held_in_exec(&mut self) -> bool {
        let miss = self.miss;
        let call = (0..TRIES).find_map(|_| {
            thread::sleep(TRY);
            let call = self.page("syscall")?;
            let number = call.split(|byte| byte.is_ascii_whitespace()).next()?;
            std::str::from_utf8(number).ok()?.parse::<i64>().ok()
        });
        self.miss = miss;
        call.is_none_or(|number| [libc::SYS_execve, libc::SYS_execveat].contains(&number))
    }

    fn link(&mut self, name: &str) -> Result<Vec<u8>, Errno> {
        let buffer = &mut self.buffer[..MAX_LINK];
        let len = readlinkat_raw(&self.directory, name, &mut *buffer)?;
        Ok(buffer[..len].to_vec())
    }

    /// Notes why something is missing. That the process is gone explains more than that it may not be read.
    fn missed(&mut self, error: Errno) {
        if self.miss != Some(MissReason::Gone) {
            self.miss = Some(miss(error));
        }
    }
}

/// Cuts the arguments, of which there were `len` bytes, to `most`; without any, nothing is said of them.
fn keep_args(details: &mut Details, len: usize, most: usize) {
    details.args = details.args.take().filter(|_| most > 0);
    let was_cut = details.args_len.take().is_some();
    if let Some(args) = &mut details.args {
        let whole = args.len();
        args.truncate(most);
        args.shrink_to_fit();
        // Redaction may shorten or lengthen the text; it then truncates it and marks it.
        let is_cut = args.len() < whole || was_cut || len > MAX_ARGS;
        details.args_len = is_cut.then_some(len.max(whole) as u64);
    }
}

/// Why a process's directory is not there. With `hidepid=` (`proc(5)`) it is not there for others' processes.
fn unseen(tgid: Tgid, error: Errno) -> MissReason {
    let pid = i32::try_from(tgid.0).ok().and_then(Pid::from_raw);
    if error == Errno::NOENT && pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM)) {
        return MissReason::Denied;
    }
    miss(error)
}

fn miss(error: Errno) -> MissReason {
    match error {
        Errno::ACCESS | Errno::PERM => MissReason::Denied,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => MissReason::Busy,
        // The kernel cannot show a cgroup path longer than `PATH_MAX` bytes.
        Errno::NAMETOOLONG => MissReason::TooLong,
        _ => MissReason::Gone,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    use pmon_core::MonoNs;

    use super::*;

    fn scanned(pid: u32) -> Details {
        Procfs::new(Clock::new(), MAX_ARGS).read(DetailsSubject::Snapshot { tgid: Tgid(pid) })
    }

    #[test]
    fn this_process_misses_nothing() {
        let clock = Clock::new();
        let subject = DetailsSubject::Exec { tgid: Tgid(std::process::id()), time: clock.mono() };
        let details = Procfs::new(clock, MAX_ARGS).read(subject);
        assert_eq!(details.miss, None);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(details.exe.as_deref(), Some(exe.as_os_str().as_encoded_bytes()));
        assert_eq!(details.argv().count(), std::env::args_os().count());
        assert_eq!(details.ppid, Some(std::os::unix::process::parent_id()));
        assert!(details.comm.is_some() && details.cwd.is_some() && details.cgroup.is_some());
        assert_eq!(details.ids.map(|ids| ids.euid), Some(rustix::process::geteuid().as_raw()));
    }

    #[test]
    fn a_scan_tells_where_this_process_belongs() {
        let me = std::process::id();
        let belongs = scanned(me).context.unwrap();
        // `getsid(2)` gives 0 where no one since the kernel's start has made a session, and not everybody takes that.
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!([belongs.group, belongs.session].map(|id| id.to_string()), [fields[2], fields[3]]);
        let login_uid = fs::read_to_string("/proc/self/loginuid").ok();
        assert_eq!(belongs.login_uid, login_uid.map_or(u32::MAX, |uid| uid.trim().parse().unwrap()));
        let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino());
        assert_eq!((u64::from(belongs.pid_namespace), belongs.pid), (namespace, me));
    }

    #[test]
    fn a_process_in_another_pid_namespace_has_its_id_there() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "sleep", "60"]).stderr(Stdio::null());
        let mut unshare = unshare.spawn().unwrap();
        let inner = loop {
            if unshare.try_wait().unwrap().is_some() {
                // No PID namespace is available.
                return;
            }
            let scan = kinship::processes().unwrap();
            if let Some(inner) = scan.iter().find(|kin| kin.ppid == unshare.id()) {
                break inner.pid;
            }
            thread::sleep(TRY);
        };
        let (belongs, outer) = (scanned(inner).context.unwrap(), scanned(unshare.id()).context.unwrap());
        assert_eq!((belongs.pid, outer.pid), (1, unshare.id()));
        let namespace = fs::metadata(format!("/proc/{inner}/ns/pid")).unwrap().ino();
        assert_eq!(u64::from(belongs.pid_namespace), namespace);
        assert_ne!(belongs.pid_namespace, outer.pid_namespace);
        assert_eq!((belongs.session, belongs.group), (outer.session, outer.group));
        let pid = i32::try_from(inner).ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        unshare.wait().unwrap();
    }

    #[test]
    fn arguments_are_cut_where_told_and_counted() {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(std::process::id()) };
        let read = |args_max| Procfs::new(Clock::new(), args_max).read(subject);
        let whole = read(MAX_ARGS);
        let args = whole.args.unwrap();
        assert_eq!(whole.args_len, None);
        let cut = read(2);
        assert_eq!(cut.args.as_deref(), Some(&args[..2]));
        assert_eq!((cut.args_len, cut.miss), (Some(args.len() as u64), None));
        let none = read(0);
        assert_eq!((none.args, none.args_len, none.miss), (None, None, None));
    }

    #[test]
    fn a_zombie_is_gone_but_for_its_name_and_origin() {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        let details = scanned(child.id());
        assert_eq!((details.miss, &details.exe, &details.args), (Some(MissReason::Gone), &None, &None));
        assert_eq!((details.comm.as_deref(), details.ppid), (Some(&b"true"[..]), Some(std::process::id())));
        let group = |details: Details| details.context.map(|belongs| belongs.group);
        assert_eq!(group(details), group(scanned(std::process::id())));
        child.wait().unwrap();
        let details = scanned(child.id());
        assert_eq!(details, Details::missed(details.subject, MissReason::Gone));
    }

    #[test]
    fn a_kernel_thread_has_no_program_and_misses_nothing() {
        let details = scanned(2);
        if details.comm.as_deref() != Some(b"kthreadd") {
            // No kernel threads to be seen in this PID namespace.
            return;
        }
        // Who is not root is not even told that it has no program.
        let is_denied =
            fs::read_link("/proc/2/exe").is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        let miss = is_denied.then_some(MissReason::Denied);
        assert_eq!((details.miss, details.exe, details.args), (miss, None, None));
        let belongs = details.context.unwrap();
        assert_eq!((belongs.session, belongs.group, belongs.pid), (0, 0, 2));
    }

    #[test]
    fn a_process_that_started_after_the_exec_is_another() {
        let subject = DetailsSubject::Exec { tgid: Tgid(std::process::id()), time: MonoNs(1) };
        let details = Procfs::new(Clock::new(), MAX_ARGS).read(subject);
        assert_eq!(details, Details::missed(subject, MissReason::Gone));
    }
}
