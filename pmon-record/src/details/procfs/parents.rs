//! Finds the parents and descendants of processes in `/proc`.

use std::collections::HashMap;
use std::fs;
use std::io;

use super::files::{Stat, process_of};

/// A process and its parent, by a scan of `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessParent {
    /// Process id.
    pub(crate) pid: u32,
    /// Process id of the parent.
    pub(crate) ppid: u32,
    /// Start time, in clock ticks since boot. The id and the start together identify a process.
    pub(crate) start_ticks: u64,
}

/// Returns all processes with their parents. A process that ends during the scan may be missing.
///
/// # Errors
/// When `/proc` cannot be listed.
pub(crate) fn processes() -> io::Result<Vec<ProcessParent>> {
    let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = |pid: u32| {
        let Stat { ppid, start_ticks, .. } = Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)?;
        Some(ProcessParent { pid, ppid, start_ticks })
    };
    Ok(pids.filter_map(parent).collect())
}

/// Returns the processes that `is_root` selects, and their descendants.
pub(crate) fn trees(
    processes: &[ProcessParent],
    is_root: impl Fn(&ProcessParent) -> bool,
) -> Vec<ProcessParent> {
    let mut children: HashMap<u32, Vec<ProcessParent>> = HashMap::new();
    for process in processes {
        children.entry(process.ppid).or_default().push(*process);
    }
    let mut members: Vec<_> = processes.iter().filter(|process| is_root(process)).copied().collect();
    let mut next = 0;
    while let Some(parent) = members.get(next).map(|process| process.pid) {
        // Each list of children is taken once, so a cycle of parents in the scan ends as well.
        members.extend(children.remove(&parent).unwrap_or_default().iter().filter(|child| !is_root(child)));
        next += 1;
    }
    members
}

/// What a process id refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A process.
    Process,
    /// A thread of this process, other than its first.
    ThreadOf(u32),
    /// A process that has ended and that its parent has not waited for.
    Zombie,
    /// No process and no thread.
    NoProcess,
}

/// Returns what a process id refers to.
pub(crate) fn identity(pid: u32) -> Identity {
    let status = fs::read(format!("/proc/{pid}/status"));
    let Some((process, is_zombie)) = status.ok().as_deref().and_then(process_of) else {
        return Identity::NoProcess;
    };
    // If the first thread has exited before the others, the process has not ended.
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().count();
    match process {
        process if process != pid => Identity::ThreadOf(process),
        _ if is_zombie && threads() <= 1 => Identity::Zombie,
        _ => Identity::Process,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc::channel;
    use std::thread;

    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use rustix::thread::gettid;

    use super::*;

    fn process(pid: u32, ppid: u32) -> ProcessParent {
        ProcessParent { pid, ppid, start_ticks: 1 }
    }

    fn pids(members: &[ProcessParent]) -> Vec<u32> {
        members.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn a_tree_has_exactly_the_descendants() {
        let processes =
            [process(9, 5), process(1, 0), process(5, 4), process(4, 1), process(6, 1), process(7, 9)];
        assert_eq!(pids(&trees(&processes, |process| process.pid == 4)), [4, 5, 9, 7]);
        // A root that is also a descendant appears once.
        assert_eq!(pids(&trees(&processes, |process| [4, 9].contains(&process.pid))), [9, 4, 7, 5]);
        assert!(trees(&processes, |process| process.pid == 8).is_empty());
        // A scan takes time, and a process id can be reused meanwhile.
        assert_eq!(pids(&trees(&[process(2, 3), process(3, 2)], |process| process.pid == 2)), [2, 3]);
    }

    #[test]
    fn the_children_of_a_child_are_found_in_proc() {
        let mut shell = Command::new("sh")
            // A shell gives a background job no standard input of its own.
            .args(["-c", "exec 3<&0; sh -c 'read line' <&3 & wait"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let tree = || trees(&processes().unwrap(), |process| process.pid == shell.id());
        while tree().len() < 2 {
            thread::yield_now();
        }
        assert!(!pids(&tree()).contains(&std::process::id()));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn a_process_a_thread_and_a_zombie_are_distinguished() {
        assert_eq!(identity(std::process::id()), Identity::Process);
        assert_eq!([identity(0), identity(u32::MAX)], [Identity::NoProcess; 2]);
        let ((tid_in, tid), (end, ended)) = (channel(), channel::<()>());
        let thread = thread::spawn(move || {
            tid_in.send(gettid().as_raw_pid() as u32).unwrap();
            let _disconnected = ended.recv();
        });
        assert_eq!(identity(tid.recv().unwrap()), Identity::ThreadOf(std::process::id()));
        drop(end);
        thread.join().unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert_eq!(identity(child.id()), Identity::Zombie);
        child.wait().unwrap();
        assert_eq!(identity(child.id()), Identity::NoProcess);
    }
}
