//! The files in `/proc/<pid>` and `/proc/<pid>/task/<tid>`.

use std::fmt::Write;

use pmon_interpose::{ProcEntry, ProcEntryKind};

use self::EntryContent::{Directory, File, Link};
use super::pid_stat::stat;
use super::pid_status::status;
use super::task_view::{TaskKind, TaskView};

/// `oom_score` of a process that uses almost no memory.
const OOM_SCORE: u32 = 666;
/// Lines of `limits`: name, soft limit, hard limit and unit. These are the kernel's defaults; those
/// that depend on the amount of memory are unlimited.
const LIMITS: [(&str, &str, &str, &str); 16] = [
    ("Max cpu time", "unlimited", "unlimited", "seconds"),
    ("Max file size", "unlimited", "unlimited", "bytes"),
    ("Max data size", "unlimited", "unlimited", "bytes"),
    ("Max stack size", "8388608", "unlimited", "bytes"),
    ("Max core file size", "0", "unlimited", "bytes"),
    ("Max resident set", "unlimited", "unlimited", "bytes"),
    ("Max processes", "unlimited", "unlimited", "processes"),
    ("Max open files", "1024", "4096", "files"),
    ("Max locked memory", "8388608", "8388608", "bytes"),
    ("Max address space", "unlimited", "unlimited", "bytes"),
    ("Max file locks", "unlimited", "unlimited", "locks"),
    ("Max pending signals", "unlimited", "unlimited", "signals"),
    ("Max msgqueue size", "819200", "819200", "bytes"),
    ("Max nice priority", "0", "0", ""),
    ("Max realtime priority", "0", "0", ""),
    ("Max realtime timeout", "unlimited", "unlimited", "us"),
];

/// An entry of a directory: its name, and how its content is generated.
struct EntryRule(&'static str, EntryContent);

/// The content of an entry, for a task.
#[derive(Clone, Copy)]
enum EntryContent {
    File(fn(&TaskView<'_>) -> Vec<u8>),
    /// A link, which is missing without a target.
    Link(fn(&TaskView<'_>) -> Option<Vec<u8>>),
    Directory,
}

/// The entries that processes and threads have in common.
const TASK_ENTRIES: &[EntryRule] = &[
    EntryRule("stat", File(stat)),
    EntryRule("status", File(status)),
    EntryRule("statm", File(|_| b"0 0 0 0 0 0 0\n".to_vec())),
    EntryRule("comm", File(|task| [task.name(), b"\n"].concat())),
    EntryRule("cmdline", File(command_line)),
    EntryRule("cgroup", File(cgroup)),
    EntryRule("loginuid", File(|task| login_uid(task).to_string().into_bytes())),
    EntryRule("sessionid", File(|_| u32::MAX.to_string().into_bytes())),
    EntryRule("oom_score", File(|task| format!("{}\n", oom_score(task)).into_bytes())),
    EntryRule("oom_score_adj", File(|_| b"0\n".to_vec())),
    EntryRule("wchan", File(|_| b"0".to_vec())),
    EntryRule("schedstat", File(|_| b"0 0 0\n".to_vec())),
    EntryRule("io", File(|task| io(task).into_bytes())),
    EntryRule("cwd", Link(cwd)),
    EntryRule("root", Link(|task| link(task, Some(b"/".to_vec())))),
    EntryRule("exe", Link(|task| link(task, task.details()?.exe.clone()))),
];

/// The entries that only processes have. They follow the common ones.
const PROCESS_ENTRIES: &[EntryRule] = &[
    EntryRule("environ", File(empty)),
    EntryRule("maps", File(empty)),
    EntryRule("smaps", File(empty)),
    EntryRule("smaps_rollup", File(empty)),
    EntryRule("mounts", File(empty)),
    EntryRule("mountinfo", File(empty)),
    EntryRule("limits", File(|_| limits().into_bytes())),
    EntryRule("oom_adj", File(|_| b"0\n".to_vec())),
    EntryRule("fd", Directory),
    EntryRule("fdinfo", Directory),
    EntryRule("ns", Directory),
    EntryRule("task", Directory),
];

/// The entries of the directory `ns`.
const NAMESPACE_ENTRIES: &[EntryRule] =
    &[EntryRule("pid", Link(pid_namespace)), EntryRule("pid_for_children", Link(namespace_for_children))];

impl EntryRule {
    /// Generates the entry; returns `None` if the task does not have it.
    fn entry(&self, task: &TaskView<'_>) -> Option<ProcEntry> {
        match self.1 {
            File(content) => Some(ProcEntry::File(content(task))),
            Link(target) => target(task).map(ProcEntry::Link),
            Directory => Some(ProcEntry::Directory),
        }
    }

    /// Returns the kind of the entry, without generating its content.
    fn kind(&self, task: &TaskView<'_>) -> Option<ProcEntryKind> {
        match self.1 {
            File(_) => Some(ProcEntryKind::File),
            Link(target) => target(task).map(|_| ProcEntryKind::Link),
            Directory => Some(ProcEntryKind::Directory),
        }
    }
}

/// Returns the rules of the entries in a directory of a process; none if there are no such entries.
/// The directory `task` has other entries in addition: the directories of the threads.
fn rules(directory: ProcDirectory) -> impl Iterator<Item = &'static EntryRule> {
    let (first, second): (&[EntryRule], &[EntryRule]) = match directory {
        ProcDirectory::Process => (TASK_ENTRIES, PROCESS_ENTRIES),
        ProcDirectory::Thread => (TASK_ENTRIES, &[]),
        ProcDirectory::Namespaces => (NAMESPACE_ENTRIES, &[]),
    };
    first.iter().chain(second)
}

/// A directory with files of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcDirectory {
    /// `/proc/<pid>`.
    Process,
    /// `/proc/<pid>/task/<tid>`.
    Thread,
    /// `/proc/<pid>/ns`.
    Namespaces,
}

impl ProcDirectory {
    /// Generates an entry of this directory; returns `None` if there is none with this name.
    pub(super) fn entry(self, task: &TaskView<'_>, name: &str) -> Option<ProcEntry> {
        rules(self).find(|rule| rule.0 == name)?.entry(task)
    }

    /// Returns the names and kinds of all entries, without generating them.
    pub(super) fn list(self, task: &TaskView<'_>) -> Vec<(String, ProcEntryKind)> {
        rules(self).filter_map(|rule| Some((rule.0.to_owned(), rule.kind(task)?))).collect()
    }

    /// Generates all entries, and appends them with their paths, which begin with `prefix`.
    pub(super) fn generate(self, task: &TaskView<'_>, prefix: &str, entries: &mut Vec<(String, ProcEntry)>) {
        entries
            .extend(rules(self).filter_map(|rule| Some((format!("{prefix}{}", rule.0), rule.entry(task)?))));
    }
}

fn empty(_: &TaskView<'_>) -> Vec<u8> {
    Vec::new()
}

fn command_line(task: &TaskView<'_>) -> Vec<u8> {
    let args = task.details().filter(|_| task.kind() == TaskKind::User);
    args.and_then(|details| details.args.clone()).unwrap_or_default()
}

fn cgroup(task: &TaskView<'_>) -> Vec<u8> {
    let cgroup = task.details().and_then(|details| details.cgroup.as_deref());
    [cgroup.unwrap_or(b"0::/"), b"\n"].concat()
}

fn login_uid(task: &TaskView<'_>) -> u32 {
    task.process.context().map_or(u32::MAX, |of| of.login_uid)
}

fn oom_score(task: &TaskView<'_>) -> u32 {
    if task.kind() == TaskKind::User { OOM_SCORE } else { 0 }
}

fn cwd(task: &TaskView<'_>) -> Option<Vec<u8>> {
    let recorded = task.details().and_then(|details| details.cwd.clone());
    link(task, recorded.or_else(|| (task.kind() == TaskKind::Kernel).then(|| b"/".to_vec())))
}

/// Returns the target of a link that zombies do not have. A symbolic link cannot have an empty
/// target, or one with a zero byte.
fn link(task: &TaskView<'_>, target: Option<Vec<u8>>) -> Option<Vec<u8>> {
    target
        .filter(|target| !target.is_empty() && !target.contains(&0))
        .filter(|_| task.kind() != TaskKind::Zombie)
}

fn pid_namespace(task: &TaskView<'_>) -> Option<Vec<u8>> {
    let namespace = task.process.context()?.pid_namespace;
    (namespace != 0).then(|| format!("pid:[{namespace}]").into_bytes())
}

fn namespace_for_children(task: &TaskView<'_>) -> Option<Vec<u8>> {
    pid_namespace(task).filter(|_| task.kind() != TaskKind::Zombie)
}

/// Returns the content of `io` (`proc_pid_io(5)`).
fn io(task: &TaskView<'_>) -> String {
    let used = task.usage();
    let (read, written) = (used.read_bytes, used.write_bytes);
    format!(
        "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: {read}\nwrite_bytes: {written}\ncancelled_write_bytes: 0\n"
    )
}

/// Returns the content of `limits` (`proc_pid_limits(5)`).
fn limits() -> String {
    let mut limits = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (name, soft, hard, unit) in LIMITS {
        let _ = write!(limits, "{name:<25} {soft:<20} {hard:<20} ");
        let _ = if unit.is_empty() { writeln!(limits) } else { writeln!(limits, "{unit:<10}") };
    }
    limits
}
