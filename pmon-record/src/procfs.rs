//! What `/proc/<pid>` says of a process (`proc_pid(5)`), read into memory that is used again.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use pmon_core::Tgid;
use pmon_core::capture::{Credentials, Details, Miss, Subject};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat_raw};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::process::{Pid, test_kill_process};

use crate::clock::Clock;

/// Most bytes kept of a file, thus of a command line.
const MAX_ARGS: usize = 128 << 10;
/// Longest link: `PATH_MAX` and ` (deleted)`.
const MAX_LINK: usize = 4096 + 16;
/// A pid is not used again so soon: that would take as many forks as there are pids. In ns.
const REUSE: u64 = 10_000_000;

/// A process with a debugger is looked at so often, at this distance.
const TRIES: u32 = 5;
const TRY: Duration = Duration::from_millis(1);

/// `PF_KTHREAD` in a task's flags (`include/linux/sched.h`).
const KTHREAD: u64 = 0x0020_0000;

/// Reads processes, one after the other.
pub(crate) struct Procfs {
    clock: Clock,
    ticks_per_second: u64,
    args_max: usize,
    buffer: Box<[u8]>,
}

impl Procfs {
    /// A reader that keeps `args_max` bytes of each command line.
    pub(crate) fn new(clock: Clock, args_max: usize) -> Self {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        Self { clock, ticks_per_second, args_max, buffer: vec![0; MAX_ARGS].into() }
    }

    /// Its clock.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Reads the process of `subject`. What an exec left is certain to be this process's, though not that no
    /// other exec of it came before the reading.
    pub(crate) fn read(&mut self, subject: Subject) -> Details {
        let began = self.clock.mono();
        // Everything is opened relative to this directory, which stays that of one process whatever becomes of its pid.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| openat(CWD, format!("/proc/{}", subject.tgid()), flags, Mode::empty()));
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) => return Details::missed(subject, unseen(subject.tgid(), error)),
        };
        let mut process = Process { directory, buffer: &mut self.buffer, miss: None, len: 0 };
        let mut details = Details { miss: None, ..Details::missed(subject, Miss::Gone) };
        // What is lost first comes first: the address space at the beginning of an exit, then the working directory;
        // the rest stays until the parent has waited.
        let args = process.file("cmdline");
        let args_len = process.len;
        let exe = process.link("exe");
        let cwd = process.link("cwd");
        let stat = process.file("stat").as_deref().and_then(Stat::parse);
        let status = process.file("status");
        let is_traced = status.as_deref().is_some_and(is_traced);
        details.ids = status.as_deref().and_then(credentials);
        details.cgroup = process.file("cgroup").map(without_newline);

        // Another program since the beginning has another executable or other arguments. Without an executable by now,
        // the process is ending, and what was read before is its own.
        let miss = process.miss;
        let again = (process.file("cmdline"), process.link("exe"));
        if let (Subject::Exec { .. }, Ok(old), (new_args, Ok(new))) = (subject, &exe, &again)
            && (old, &args) != (new, new_args)
        {
            return Details::missed(subject, Miss::Superseded);
        }
        process.miss = miss;
        let is_exec = matches!(subject, Subject::Exec { .. });
        let is_half_begun = exe.is_ok() && args.as_ref().is_some_and(Vec::is_empty);
        if is_exec && (is_half_begun || is_traced && process.may_be_held_in_exec()) {
            // It has the next program's image, and not yet its arguments, or its exec event is still to come.
            return Details::missed(subject, Miss::Superseded);
        }

        let is_kthread = stat.as_ref().is_some_and(|stat| stat.flags & KTHREAD != 0);
        details.exe = match exe {
            Err(Errno::NOENT) if is_kthread => None,
            exe => exe.map_err(|error| process.missed(error)).ok(),
        };
        details.cwd = cwd.map_err(|error| process.missed(error)).ok();
        // Without an address space there is no command line: the file is empty, as it is for a process without
        // arguments.
        let has_memory = details.exe.is_some() || matches!(process.miss, None | Some(Miss::Denied));
        details.args = args.filter(|args| !args.is_empty() || has_memory && !is_kthread);
        keep_args(&mut details, args_len, self.args_max);
        details.miss = process.miss;
        match stat {
            Some(stat) => {
                if let Subject::Exec { time, .. } = subject
                    && self.is_later(stat.start_ticks, time.0)
                {
                    return Details::missed(subject, Miss::Gone);
                }
                (details.ppid, details.start_ticks) = (Some(stat.ppid), Some(stat.start_ticks));
                details.comm = Some(stat.comm);
            }
            None => {
                if let Subject::Exec { time, .. } = subject
                    && began.0.saturating_sub(time.0) > REUSE
                {
                    return Details::missed(subject, Miss::Gone);
                }
            }
        }
        details
    }

    /// Whether a process with this start is younger than an event at monotonic time `time`.
    fn is_later(&self, start_ticks: u64, time: u64) -> bool {
        let event = time + self.clock.offset_to_boot();
        let ticks = u128::from(event) * u128::from(self.ticks_per_second) / 1_000_000_000;
        // A tick of tolerance: the offset between the clocks is itself measured.
        u128::from(start_ticks) > ticks + 1
    }
}

/// The largest process id (`proc_sys_kernel(5)`), as the kernel was built for the most where that cannot be read.
pub(crate) fn pid_max() -> u32 {
    let setting = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    setting.and_then(|text| text.trim().parse().ok()).unwrap_or(1 << 22)
}

/// Processes that are not among `known`, and that have a parent there, or a parent that has.
pub(crate) fn descendants(known: &[u32]) -> Vec<u32> {
    let parent = |pid: u32| Some(Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)?.ppid);
    let pids = fs::read_dir("/proc").into_iter().flatten();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut others: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    others.retain(|(pid, _)| !known.contains(pid));
    let mut found = Vec::new();
    let mut parents: HashSet<u32> = known.iter().copied().collect();
    loop {
        let before = found.len();
        others.retain(|&(pid, parent)| {
            let is_one = parents.contains(&parent);
            if is_one {
                parents.insert(pid);
                found.push(pid);
            }
            !is_one
        });
        if found.len() == before {
            return found;
        }
    }
}

/// One process's directory, and the worst that happened in it.
struct Process<'a> {
    directory: OwnedFd,
    buffer: &'a mut [u8],
    miss: Option<Miss>,
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
            if filled == self.buffer.len() {
                // What is too much is only counted.
                let mut rest = [0; 4096];
                while let count @ 1.. = read(&file, &mut rest)? {
                    self.len += count;
                }
            }
            Ok(filled)
        });
        match filled {
            Ok(filled) => Some(self.buffer[..filled].to_vec()),
            Err(error) => {
                self.missed(error);
                None
            }
        }
    }

    /// Whether a process with a debugger may be in the middle of an `execve`, where `PTRACE_EVENT_EXEC` (`ptrace(2)`) can
    /// hold it for any time, while it shows the next program. Only one that waits in another system call is not: a
    /// running one does not tell.
    fn may_be_held_in_exec(&mut self) -> bool {
        let miss = self.miss;
        let call = (0..TRIES).find_map(|_| {
            thread::sleep(TRY);
            let call = self.file("syscall")?;
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
        if self.miss != Some(Miss::Gone) {
            self.miss = Some(miss(error));
        }
    }
}

/// Cuts the arguments, of which there were `len` bytes, to `most`; without any, nothing is said of them.
fn keep_args(details: &mut Details, len: usize, most: usize) {
    details.args = details.args.take().filter(|_| most > 0);
    if let Some(args) = &mut details.args {
        args.truncate(most);
        details.args_len = (args.len() < len).then_some(len as u64);
    }
}

/// Why a process's directory is not there. With `hidepid=` (`proc(5)`) it is not there for others' processes.
fn unseen(tgid: Tgid, error: Errno) -> Miss {
    let pid = i32::try_from(tgid.0).ok().and_then(Pid::from_raw);
    if error == Errno::NOENT && pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM)) {
        return Miss::Denied;
    }
    miss(error)
}

fn miss(error: Errno) -> Miss {
    match error {
        Errno::ACCESS | Errno::PERM => Miss::Denied,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Miss::Busy,
        _ => Miss::Gone,
    }
}

/// What is wanted of `/proc/<pid>/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    comm: Vec<u8>,
    ppid: u32,
    flags: u64,
    start_ticks: u64,
}

impl Stat {
    /// `pid (comm) state ppid ...`, where `comm` may hold anything, also spaces, parentheses and newlines.
    fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|&byte| byte == b'(')?;
        let close = line.iter().rposition(|&byte| byte == b')')?;
        let comm = line.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        // Fields as `proc_pid_stat(5)` numbers them; `rest` begins with the third.
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
        Some(Self {
            comm,
            ppid: field(4)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
        })
    }
}

/// The lines `Uid:` and `Gid:` of `/proc/<pid>/status`: real, effective, saved, filesystem.
fn credentials(status: &[u8]) -> Option<Credentials> {
    let ids = |name: &[u8]| {
        let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        let mut ids = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    };
    let ((uid, euid), (gid, egid)) = (ids(b"Uid:")?, ids(b"Gid:")?);
    Some(Credentials { uid, euid, gid, egid })
}

/// Whether a debugger is attached: the line `TracerPid:`.
fn is_traced(status: &[u8]) -> bool {
    let tracer = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim_ascii() != b"0")
}

fn without_newline(mut text: Vec<u8>) -> Vec<u8> {
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use pmon_core::MonoNs;

    use super::*;

    #[test]
    fn a_name_may_hold_spaces_parentheses_and_newlines() {
        let line = b"42 (a) b (c\n) R 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.comm, b"a) b (c\n");
        assert_eq!((stat.ppid, stat.flags, stat.start_ticks), (7, 4_194_560, 123_456));
        assert_eq!(Stat::parse(b"42 (a) R 7"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn credentials_are_the_real_and_the_effective() {
        let status = b"Name:\tUid: x\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        let expected = Credentials { uid: 1, euid: 2, gid: 5, egid: 6 };
        assert_eq!(credentials(status), Some(expected));
        assert_eq!(credentials(b"Uid:\t1\n"), None);
        assert!(is_traced(b"Name:\tx\nTracerPid:\t42\nUid:\t1\n"));
        assert!(!is_traced(b"Name:\tx\nTracerPid:\t0\nUid:\t1\n"));
    }

    #[test]
    fn descendants_are_those_of_descendants_too() {
        // The shell's child has a child of its own.
        let mut shell = Command::new("sh").args(["-c", "sh -c 'sleep 60; :' & wait"]).spawn().unwrap();
        let me = std::process::id();
        while descendants(&[me]).len() < 3 {
            thread::sleep(TRY);
        }
        let found = descendants(&[shell.id()]);
        assert!(found.len() >= 2 && !found.contains(&shell.id()) && !found.contains(&me), "{found:?}");
        assert!(descendants(&[&found[..], &[shell.id()]].concat()).is_empty());
        for pid in found {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        shell.wait().unwrap();
        assert!(pid_max() > me);
    }

    #[test]
    fn this_process_misses_nothing() {
        let clock = Clock::new();
        let subject = Subject::Exec { tgid: Tgid(std::process::id()), time: clock.mono() };
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
    fn arguments_are_cut_where_told_and_counted() {
        let subject = Subject::Snapshot { tgid: Tgid(std::process::id()) };
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
        let details = Procfs::new(Clock::new(), MAX_ARGS).read(Subject::Snapshot { tgid: Tgid(child.id()) });
        assert_eq!((details.miss, &details.exe, &details.args), (Some(Miss::Gone), &None, &None));
        assert_eq!((details.comm.as_deref(), details.ppid), (Some(&b"true"[..]), Some(std::process::id())));
        child.wait().unwrap();
        let details = Procfs::new(Clock::new(), MAX_ARGS).read(Subject::Snapshot { tgid: Tgid(child.id()) });
        assert_eq!(details, Details::missed(details.subject, Miss::Gone));
    }

    #[test]
    fn a_kernel_thread_has_no_program_and_misses_nothing() {
        let details = Procfs::new(Clock::new(), MAX_ARGS).read(Subject::Snapshot { tgid: Tgid(2) });
        if details.comm.as_deref() != Some(b"kthreadd") {
            // No kernel threads to be seen in this PID namespace.
            return;
        }
        assert_eq!((details.miss, details.exe, details.args), (None, None, None));
    }

    #[test]
    fn a_process_that_started_after_the_exec_is_another() {
        let subject = Subject::Exec { tgid: Tgid(std::process::id()), time: MonoNs(1) };
        let details = Procfs::new(Clock::new(), MAX_ARGS).read(subject);
        assert_eq!(details, Details::missed(subject, Miss::Gone));
    }
}
