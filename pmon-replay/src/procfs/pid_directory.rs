//! The files in `/proc/<pid>` and `/proc/<pid>/task/<tid>`.

use std::fmt::Write;

use pmon_interpose::ProcEntry;

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

/// Adds the files of a process, without its threads.
pub(super) fn process(task: &TaskView<'_>, entries: &mut Vec<(String, ProcEntry)>) {
    let mut put = |name: &str, node| entries.push((name.to_owned(), node));
    task_files(task, &mut put);
    for name in ["environ", "maps", "smaps", "smaps_rollup", "mounts", "mountinfo"] {
        put(name, ProcEntry::File(Vec::new()));
    }
    put("limits", ProcEntry::File(limits().into_bytes()));
    put("oom_adj", ProcEntry::File(b"0\n".to_vec()));
    put("fd", ProcEntry::Directory);
    put("fdinfo", ProcEntry::Directory);
    put("ns", ProcEntry::Directory);
    if let Some(namespace) = task.process.context().map(|of| of.pid_namespace)
        && namespace != 0
    {
        let link = || ProcEntry::Link(format!("pid:[{namespace}]").into_bytes());
        put("ns/pid", link());
        if task.kind() != TaskKind::Zombie {
            put("ns/pid_for_children", link());
        }
    }
}

/// Adds the directory of a thread and its files.
pub(super) fn thread(task: &TaskView<'_>, entries: &mut Vec<(String, ProcEntry)>) {
    let directory = format!("task/{}", task.tid);
    entries.push((directory.clone(), ProcEntry::Directory));
    task_files(task, &mut |name, node| entries.push((format!("{directory}/{name}"), node)));
}

/// Adds the files that processes and threads have in common.
fn task_files(task: &TaskView<'_>, put: &mut dyn FnMut(&str, ProcEntry)) {
    let details = task.details();
    let kind = task.kind();
    let mut file = |name: &str, content: Vec<u8>| put(name, ProcEntry::File(content));
    file("stat", stat(task));
    file("status", status(task));
    file("statm", b"0 0 0 0 0 0 0\n".to_vec());
    file("comm", [task.name(), b"\n"].concat());
    let args = details.and_then(|details| details.args.clone());
    file("cmdline", args.filter(|_| kind == TaskKind::User).unwrap_or_default());
    let cgroup = details.and_then(|details| details.cgroup.as_deref()).unwrap_or(b"0::/");
    file("cgroup", [cgroup, b"\n"].concat());
    let login_uid = task.process.context().map_or(u32::MAX, |of| of.login_uid);
    file("loginuid", login_uid.to_string().into_bytes());
    file("sessionid", u32::MAX.to_string().into_bytes());
    let score = if kind == TaskKind::User { OOM_SCORE } else { 0 };
    file("oom_score", format!("{score}\n").into_bytes());
    file("oom_score_adj", b"0\n".to_vec());
    file("wchan", b"0".to_vec());
    file("schedstat", b"0 0 0\n".to_vec());
    file("io", io(task).into_bytes());
    if kind == TaskKind::Zombie {
        return;
    }
    let cwd = details.and_then(|details| details.cwd.clone());
    let kernel_cwd = (kind == TaskKind::Kernel).then(|| b"/".to_vec());
    let exe = details.and_then(|details| details.exe.clone());
    for (name, target) in [("cwd", cwd.or(kernel_cwd)), ("root", Some(b"/".to_vec())), ("exe", exe)] {
        // A symbolic link cannot have an empty target, or one with a zero byte.
        if let Some(target) = target.filter(|target| !target.is_empty() && !target.contains(&0)) {
            put(name, ProcEntry::Link(target));
        }
    }
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
