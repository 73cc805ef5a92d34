//! Reads the details of processes from `/proc/<pid>` (`proc_pid(5)`).

mod files;
pub(crate) mod parents;

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use pmon_core::capture::{Details, DetailsSubject, MissReason, ProcessContext};
use pmon_core::{MonoNs, Tgid};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat_raw};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::process::{Pid, test_kill_process};

use self::files::{Stat, credentials, inner_pid, is_traced, number};
use crate::clock::Clock;
use crate::details::cgroups::{self, Hierarchy, version2_line};
use crate::details::redact::Redact;
use crate::machine;

/// Maximum bytes kept of a file, and so of a command line.
const MAX_ARGS: usize = 128 << 10;
/// Maximum bytes of a command line that are counted. `execve(2)` accepts 6 MiB, but a process may
/// declare any of its memory as its arguments (`PR_SET_MM_ARG_END`), and reading it would take
/// minutes.
const MAX_COUNTED: usize = 8 << 20;
/// Maximum bytes of a link: `PATH_MAX` and ` (deleted)`.
const MAX_LINK: usize = 4096 + 16;
/// Minimum time in ns until a process id is reused, because that takes as many forks as there are
/// ids.
const MIN_PID_REUSE: u64 = 10_000_000;

/// Maximum number of readings of the system call of a process with a debugger.
const SYSCALL_ATTEMPTS: u32 = 5;
/// Time before each of these readings.
const SYSCALL_PAUSE: Duration = Duration::from_millis(1);

/// Reads processes, one after the other, into reused memory.
pub(crate) struct ProcfsReader {
    /// The clock that dates the readings.
    pub(crate) clock: Clock,
    ticks_per_second: u64,
    args_max: usize,
    /// Pattern to redact, and the number of bytes of a command line to search.
    redact: Option<(Redact, usize)>,
    buffer: Box<[u8]>,
    environment: ProcfsEnvironment,
}

/// The namespaces and cgroups to which the contents of `/proc` refer.
struct ProcfsEnvironment {
    /// Inode number of the PID namespace of `/proc`; 0 if unknown.
    pid_namespace: u32,
    cgroups: Option<Hierarchy>,
    /// Whether cgroup paths begin at the root of the hierarchy, not at the root of a cgroup
    /// namespace.
    sees_cgroup_root: bool,
}

impl ProcfsReader {
    /// Creates a reader that keeps at most `args_max` bytes of each command line.
    pub(crate) fn new(clock: Clock, args_max: usize) -> Self {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let pid_namespace = u32::try_from(machine::namespaces().pid).unwrap_or(0);
        let sees_cgroup_root = machine::is_initial_namespace("cgroup");
        let cgroups = cgroups::mount().and_then(|mount| Hierarchy::open_at(&mount));
        let environment = ProcfsEnvironment { pid_namespace, cgroups, sees_cgroup_root };
        Self {
            clock,
            ticks_per_second,
            args_max,
            redact: None,
            buffer: vec![0; MAX_ARGS].into(),
            environment,
        }
    }

    /// Redacts the first `read` bytes of command lines before they are truncated.
    pub(crate) fn redacting(self, redact: Option<Redact>, read: usize) -> Self {
        Self { redact: redact.map(|redact| (redact, read)), ..self }
    }

    /// Reads the process of `subject`.
    ///
    /// The result is certain to describe this process, and not another one with the same id. After
    /// an exec, it may describe the program of a later exec of the process. For a snapshot, a
    /// process that has ended is [`MissReason::Gone`], even while its parent has not waited for it:
    /// no event of it follows, so it would run forever.
    pub(crate) fn read(&mut self, subject: DetailsSubject) -> Details {
        let began = self.clock.mono();
        // All files are opened relative to this directory, which refers to one process even if its
        // id is reused.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| openat(CWD, format!("/proc/{}", subject.tgid()), flags, Mode::empty()));
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) => return Details::missed(subject, missing_directory_reason(subject.tgid(), error)),
        };
        let mut process = ProcessDir { directory, buffer: &mut self.buffer, miss: None, len: 0 };
        let mut details = Details { miss: None, ..Details::missed(subject, MissReason::Gone) };
        // An exiting process loses its address space first, then its working directory, so these
        // are read in this order. The rest remains until the parent has waited.
        let args = process.read_file("cmdline");
        let args_len = process.len;
        let exe = process.read_link("exe");
        let cwd = process.read_link("cwd");
        let stat = process.read_page("stat").as_deref().and_then(Stat::parse);
        let status = process.read_page("status");
        let is_traced = status.as_deref().is_some_and(is_traced);
        details.ids = status.as_deref().and_then(credentials);
        let cgroups = process.read_page("cgroup");
        details.cgroup = cgroups.as_deref().map(version2_line).filter(|_| self.environment.sees_cgroup_root);
        if cgroups.is_some() && details.cgroup.is_none() {
            process.add_miss(Errno::PERM);
        }

        // If the process has executed another program meanwhile, its executable or its arguments
        // differ. If it has no executable any more, it is exiting, and the first reading is its
        // own.
        let miss = process.miss;
        let reread = (process.read_file("cmdline"), process.read_link("exe"));
        let (new_args, new_exe) = &reread;
        let is_image = |exe: &Result<Vec<u8>, Errno>| matches!(exe, Ok(_) | Err(Errno::NAMETOOLONG));
        let is_running = is_image(&exe) && is_image(new_exe);
        let exec_time = match subject {
            DetailsSubject::Exec { time, .. } => Some(time),
            DetailsSubject::Snapshot { .. } => None,
        };
        let is_exec = exec_time.is_some();
        if !is_exec && stat.as_ref().is_some_and(Stat::has_ended) {
            return Details::missed(subject, MissReason::Gone);
        }
        if is_exec && is_running && (&exe, &args) != (new_exe, new_args) {
            return Details::missed(subject, MissReason::Superseded);
        }
        process.miss = miss;
        let is_half_begun = exe.is_ok() && args.as_ref().is_some_and(Vec::is_empty);
        if is_exec && (is_half_begun || is_traced && process.may_be_held_in_exec()) {
            // The process already has the next program's image, but not its arguments, or has not
            // emitted that program's exec event.
            return Details::missed(subject, MissReason::Superseded);
        }

        let is_kthread = stat.as_ref().is_some_and(Stat::is_kthread);
        // A kernel thread has no executable. Without privilege, its links cannot be read.
        let mut known = |link: Result<Vec<u8>, Errno>| match link {
            Err(Errno::NOENT | Errno::ACCESS) if is_kthread => None,
            link => link.map_err(|error| process.add_miss(error)).ok(),
        };
        (details.exe, details.cwd) = (known(exe), known(cwd));
        // A process without an address space has an empty command line, as has a process without
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
            process.context(subject.tgid(), stat, status, cgroups.as_deref(), &self.environment)
        });
        let initial_ticks = |stat: &Stat| self.clock.initial_ticks(stat.start_ticks, self.ticks_per_second);
        details.start_ticks = stat.as_ref().map(initial_ticks);
        let is_another_process = |exec: MonoNs| match details.start_ticks {
            Some(start_ticks) => self.is_later(start_ticks, exec.0),
            None => began.0.saturating_sub(exec.0) > MIN_PID_REUSE,
        };
        if exec_time.is_some_and(is_another_process) {
            return Details::missed(subject, MissReason::Gone);
        }
        if let Some(stat) = stat {
            details.ppid = Some(stat.ppid);
            details.threads = stat.threads().filter(|_| !is_exec);
            details.comm = Some(stat.comm);
        }
        details
    }

    /// Whether a process with this start time is younger than an event at monotonic time `time`.
    fn is_later(&self, start_ticks: u64, time: u64) -> bool {
        let event = time.saturating_add(self.clock.suspended());
        let ticks = u128::from(event) * u128::from(self.ticks_per_second) / 1_000_000_000;
        // A tick of tolerance: the offset between the clocks is itself measured.
        u128::from(start_ticks) > ticks + 1
    }
}

/// The directory of a process in `/proc`, and why something in it could not be read.
struct ProcessDir<'a> {
    directory: OwnedFd,
    buffer: &'a mut [u8],
    miss: Option<MissReason>,
    /// Length in bytes of the file that was read last.
    len: usize,
}

impl ProcessDir<'_> {
    /// Reads at most [`MAX_ARGS`] bytes of a file, and counts the rest.
    fn read_file(&mut self, name: &str) -> Option<Vec<u8>> {
        let kept = retry_on_intr(|| {
            let file = self.open(name)?;
            let mut filled = 0;
            while filled < self.buffer.len() {
                match read(&file, &mut self.buffer[filled..])? {
                    0 => break,
                    count => filled += count,
                }
            }
            self.len = filled;
            let kept = self.buffer[..filled].to_vec();
            // The rest of a long file is only counted.
            while (self.buffer.len()..MAX_COUNTED).contains(&self.len)
                && let count @ 1.. = read(&file, &mut self.buffer[..])?
            {
                self.len += count;
            }
            Ok(kept)
        });
        kept.map_err(|error| self.add_miss(error)).ok()
    }

    /// Reads a file that the kernel generates as a whole, so that one call of `read` returns it
    /// all.
    fn read_page(&mut self, name: &str) -> Option<Vec<u8>> {
        let filled = retry_on_intr(|| {
            let file = self.open(name)?;
            read(&file, &mut self.buffer[..])
        });
        let filled = filled.map_err(|error| self.add_miss(error)).ok()?;
        Some(self.buffer[..filled].to_vec())
    }

    /// Returns the session, group, cgroup and namespace of the process, from files that were read
    /// before and two more. The cgroup and the namespace are 0 if unknown.
    ///
    /// The two files are optional, so they are read last, when reasons for missing details no
    /// longer count.
    fn context(
        mut self,
        tgid: Tgid,
        stat: &Stat,
        status: &[u8],
        cgroup: Option<&[u8]>,
        environment: &ProcfsEnvironment,
    ) -> Option<ProcessContext> {
        let (group, session) = stat.leaders?;
        if status.len() == MAX_ARGS && inner_pid(status).is_none() {
            // The list of supplementary groups was so long that the line with the ids, which
            // follows it, was not read.
            return None;
        }
        // A task whose parent has waited meanwhile has no id in any namespace.
        let (pid, depth) = inner_pid(status).unwrap_or((tgid.0, 0));
        let pid = Some(pid).filter(|&pid| pid != 0)?;
        let pid_namespace = match depth {
            0 => environment.pid_namespace,
            _ => self.read_link("ns/pid").ok().as_deref().and_then(number).unwrap_or(0),
        };
        let login_uid = self.read_page("loginuid").as_deref().and_then(number).unwrap_or(u32::MAX);
        let cgroup = environment.cgroups.as_ref().zip(cgroup).and_then(|(cgroups, lines)| cgroups.id(lines));
        Some(ProcessContext { session, group, login_uid, cgroup: cgroup.unwrap_or(0), pid_namespace, pid })
    }

    /// Whether a process with a debugger may be in the middle of an `execve`.
    ///
    /// `PTRACE_EVENT_EXEC` (`ptrace(2)`) can stop it there for any time, while `/proc` shows the
    /// next program. A process that waits in another system call is not in an `execve`. The system
    /// call of a running process is unknown.
    fn may_be_held_in_exec(&mut self) -> bool {
        let miss = self.miss;
        let call = (0..SYSCALL_ATTEMPTS).find_map(|_| {
            thread::sleep(SYSCALL_PAUSE);
            let call = self.read_page("syscall")?;
            let number = call.split(|byte| byte.is_ascii_whitespace()).next()?;
            std::str::from_utf8(number).ok()?.parse::<i64>().ok()
        });
        self.miss = miss;
        call.is_none_or(|number| [libc::SYS_execve, libc::SYS_execveat].contains(&number))
    }

    fn open(&self, name: &str) -> Result<OwnedFd, Errno> {
        openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    fn read_link(&mut self, name: &str) -> Result<Vec<u8>, Errno> {
        let buffer = &mut self.buffer[..MAX_LINK];
        let len = readlinkat_raw(&self.directory, name, &mut *buffer)?;
        Ok(buffer[..len].to_vec())
    }

    /// Records why something is missing. [`MissReason::Gone`] takes precedence over other reasons.
    fn add_miss(&mut self, error: Errno) {
        if self.miss != Some(MissReason::Gone) {
            self.miss = Some(miss_reason(error));
        }
    }
}

/// Truncates the arguments, whose full length is `len` bytes, to `max` bytes. If `max` is 0,
/// removes them and their length.
fn keep_args(details: &mut Details, len: usize, max: usize) {
    details.args = details.args.take().filter(|_| max > 0);
    let was_cut = details.args_len.take().is_some();
    if let Some(args) = &mut details.args {
        let whole = args.len();
        args.truncate(max);
        args.shrink_to_fit();
        // Redaction may change the length, so a text that was truncated before is marked already.
        let is_cut = args.len() < whole || was_cut || len > MAX_ARGS;
        details.args_len = is_cut.then_some(len.max(whole) as u64);
    }
}

/// Returns why a process's directory cannot be opened. With the mount option `hidepid=`
/// (`proc(5)`), `/proc` hides the processes of other users.
fn missing_directory_reason(tgid: Tgid, error: Errno) -> MissReason {
    let pid = i32::try_from(tgid.0).ok().and_then(Pid::from_raw);
    if error == Errno::NOENT && pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM)) {
        return MissReason::Denied;
    }
    miss_reason(error)
}

fn miss_reason(error: Errno) -> MissReason {
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
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Reads a process as a snapshot does.
    fn scanned(pid: u32) -> Details {
        ProcfsReader::new(Clock::new(), MAX_ARGS).read(DetailsSubject::Snapshot { tgid: Tgid(pid) })
    }

    #[test]
    fn the_details_of_this_process_are_complete() {
        let clock = Clock::new();
        let subject = DetailsSubject::Exec { tgid: Tgid(std::process::id()), time: clock.mono() };
        let details = ProcfsReader::new(clock, MAX_ARGS).read(subject);
        assert_eq!(details.miss, None);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(details.exe.as_deref(), Some(exe.as_os_str().as_encoded_bytes()));
        assert_eq!(details.argv().count(), std::env::args_os().count());
        assert_eq!(details.ppid, Some(std::os::unix::process::parent_id()));
        assert!(details.comm.is_some() && details.cwd.is_some() && details.cgroup.is_some());
        assert_eq!(details.ids.map(|ids| ids.euid), Some(rustix::process::geteuid().as_raw()));
    }

    #[test]
    fn a_scan_has_the_session_group_and_namespace_of_this_process() {
        let me = std::process::id();
        let context = scanned(me).context.unwrap();
        // Not by `getsid(2)`, which returns 0 if no process has created a session since boot: not
        // every caller accepts that.
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!([context.group, context.session].map(|id| id.to_string()), [fields[2], fields[3]]);
        let login_uid = fs::read_to_string("/proc/self/loginuid").ok();
        assert_eq!(context.login_uid, login_uid.map_or(u32::MAX, |uid| uid.trim().parse().unwrap()));
        let namespace = fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino());
        assert_eq!((u64::from(context.pid_namespace), context.pid), (namespace, me));
    }

    #[test]
    fn a_process_in_another_pid_namespace_has_its_inner_id() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "sleep", "60"]).stderr(Stdio::null());
        let mut unshare = unshare.spawn().unwrap();
        let inner = loop {
            if unshare.try_wait().unwrap().is_some() {
                // No PID namespace is available.
                return;
            }
            let scan = parents::processes().unwrap();
            if let Some(inner) = scan.iter().find(|process| process.ppid == unshare.id()) {
                break inner.pid;
            }
            thread::sleep(SYSCALL_PAUSE);
        };
        let (context, outer) = (scanned(inner).context.unwrap(), scanned(unshare.id()).context.unwrap());
        assert_eq!((context.pid, outer.pid), (1, unshare.id()));
        let namespace = fs::metadata(format!("/proc/{inner}/ns/pid")).unwrap().ino();
        assert_eq!(u64::from(context.pid_namespace), namespace);
        assert_ne!(context.pid_namespace, outer.pid_namespace);
        assert_eq!((context.session, context.group), (outer.session, outer.group));
        let pid = i32::try_from(inner).ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        unshare.wait().unwrap();
    }

    #[test]
    fn arguments_are_truncated_and_their_length_is_kept() {
        let subject = DetailsSubject::Snapshot { tgid: Tgid(std::process::id()) };
        let read = |args_max| ProcfsReader::new(Clock::new(), args_max).read(subject);
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
    fn a_zombie_has_a_name_after_its_exec_and_is_gone_for_a_snapshot() {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        let clock = Clock::new();
        let subject = DetailsSubject::Exec { tgid: Tgid(child.id()), time: clock.mono() };
        let details = ProcfsReader::new(clock, MAX_ARGS).read(subject);
        assert_eq!((details.miss, &details.exe, &details.args), (Some(MissReason::Gone), &None, &None));
        assert_eq!((details.comm.as_deref(), details.ppid), (Some(&b"true"[..]), Some(std::process::id())));
        let group = |details: Details| details.context.map(|context| context.group);
        assert_eq!(group(details), group(scanned(std::process::id())));
        for _ in 0..2 {
            let details = scanned(child.id());
            assert_eq!(details, Details::missed(details.subject, MissReason::Gone));
            child.wait().unwrap();
        }
    }

    #[test]
    fn the_details_of_a_kernel_thread_are_complete_without_a_program() {
        let details = scanned(2);
        if details.comm.as_deref() != Some(b"kthreadd") {
            // This PID namespace has no kernel threads.
            return;
        }
        // Without privilege, even the lack of a program is hidden, but the flags in `stat` are not.
        assert_eq!((details.miss, details.exe, details.args), (None, None, None));
        let context = details.context.unwrap();
        assert_eq!((context.session, context.group, context.pid), (0, 0, 2));
    }

    #[test]
    fn a_process_that_started_after_the_exec_is_a_different_one() {
        let subject = DetailsSubject::Exec { tgid: Tgid(std::process::id()), time: MonoNs(1) };
        let details = ProcfsReader::new(Clock::new(), MAX_ARGS).read(subject);
        assert_eq!(details, Details::missed(subject, MissReason::Gone));
    }
}
