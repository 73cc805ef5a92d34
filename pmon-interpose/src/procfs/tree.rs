//! The tracee's `/proc`: a tmpfs in which files are created just before the tracee accesses them.
//!
//! The directories of recorded processes are written here. The directories of the tracee's own
//! processes, and files that do not belong to a process, are links to the kernel's own procfs,
//! mounted at `.real`.

use std::collections::BTreeSet;
use std::collections::hash_map::{Entry, HashMap};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::launch::child::REAL_PROC;
use crate::procfs::directory_listing::DirectoryListing;
use crate::sys::errno_of;
use crate::world::{ProcEntry, ProcessView};

/// Minimum number of directories before those of ended processes are removed.
const MIN_CLEANUP: usize = 256;

/// The tracee's `/proc`.
pub(crate) struct ProcfsTree {
    root: OwnedFd,
    /// The root of the kernel's own procfs.
    real: OwnedFd,
    pub(crate) device: u64,
    /// The entries of the root directory other than processes.
    others: Vec<(String, FileType)>,
    /// The created entries of processes and threads, by id.
    directories: HashMap<u32, TaskDirectory>,
    /// Number of `directories` above which those of ended processes are removed.
    cleanup_threshold: usize,
}

/// The entry of a process or thread in the root directory.
#[derive(Default)]
struct TaskDirectory {
    /// [`TaskInfo::version`](crate::TaskInfo::version) of the content; `None` while it is empty.
    version: Option<u64>,
    entries: Vec<(String, ProcEntry)>,
    /// Whether `entries` is complete, rather than only what was accessed.
    is_complete: bool,
    /// Whether the entry is a link to the kernel's own directory of the process.
    is_link: bool,
}

impl ProcfsTree {
    pub(crate) fn new(root: OwnedFd, real: OwnedFd, pid_max: u32) -> Result<Self, Errno> {
        let device = fstat(&root)?.st_dev;
        let (directories, cleanup_threshold) = (HashMap::new(), MIN_CLEANUP);
        let mut tree = Self { root, real, device, others: Vec::new(), directories, cleanup_threshold };
        tree.others = tree.link_all("", &["sys", "stat", "uptime"])?;
        tree.create_directory("sys")?;
        tree.link_all("sys", &["kernel"])?;
        tree.create_directory("sys/kernel")?;
        tree.link_all("sys/kernel", &["pid_max"])?;
        tree.write("sys/kernel/pid_max", format!("{pid_max}\n").as_bytes())?;
        for file in ["stat", "uptime"] {
            tree.write(file, &tree.read(file)?)?;
        }
        Ok(tree)
    }

    /// Creates links to all entries of a directory of the kernel's procfs, except processes and
    /// `except`. Returns all entries but processes.
    fn link_all(&self, directory: &str, except: &[&str]) -> Result<Vec<(String, FileType)>, Errno> {
        let (prefix, up) = match directory {
            "" => (String::new(), String::new()),
            _ => (format!("{directory}/"), "../".repeat(directory.split('/').count())),
        };
        let mut entries = Vec::new();
        for entry in Dir::read_from(open(&self.real, format!("./{directory}"))?)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(|first: char| first == '.' || first.is_ascii_digit()) {
                continue;
            }
            if !except.contains(&&*name) {
                let path = format!("{prefix}{name}");
                symlinkat(format!("{up}{REAL_PROC}/{path}"), &self.root, &path)?;
            }
            entries.push((name, entry.file_type()));
        }
        Ok(entries)
    }

    fn create_directory(&self, path: &str) -> Result<(), Errno> {
        mkdirat(&self.root, path, Mode::from_raw_mode(0o755))
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), Errno> {
        write_file(&self.root, path, content)
    }

    /// Reads a file of the kernel's own procfs.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = openat(&self.real, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut content = Vec::new();
        File::from(file).read_to_end(&mut content).map_err(|error| errno_of(&error))?;
        Ok(content)
    }

    /// Writes `uptime`, and `btime` in `stat`, of the recorded machine.
    pub(crate) fn refresh_times(&self, view: &dyn ProcessView) -> Result<(), Errno> {
        if let Some(uptime) = view.uptime() {
            let seconds = uptime.as_secs_f64();
            self.write("uptime", format!("{seconds:.2} {seconds:.2}\n").as_bytes())?;
        }
        if let Some(boot_time) = view.boot_time() {
            let stat = self.read("stat")?;
            let stat = String::from_utf8_lossy(&stat);
            let lines = stat.lines().map(|line| match line.strip_prefix("btime ") {
                Some(_) => format!("btime {boot_time}\n"),
                None => format!("{line}\n"),
            });
            self.write("stat", lines.collect::<String>().as_bytes())?;
        }
        Ok(())
    }

    /// Returns whether `id` is one of the tracee's own tasks. Id 1 is not: it is the `init` of the
    /// recorded machine.
    pub(crate) fn is_own(&self, id: u32) -> bool {
        id != 1 && statat(&self.real, DecInt::new(id), AtFlags::empty()).is_ok()
    }

    /// Brings `path` in a task's directory up to date, or the whole directory if `path` is `None`.
    /// Removes the directory if there is no such task.
    pub(crate) fn refresh(
        &mut self,
        id: u32,
        path: Option<&str>,
        view: &dyn ProcessView,
    ) -> Result<(), Errno> {
        if self.is_own(id) {
            return self.link_own(id);
        }
        let Some(info) = view.task(id) else { return self.remove(id) };
        let is_current = |of: &TaskDirectory| of.version == Some(info.version) && of.has(path);
        if self.directories.get(&id).is_some_and(is_current) {
            return Ok(());
        }
        if self.directories.get(&id).is_some_and(|directory| directory.is_link) {
            self.remove(id)?;
        }
        let directory = match self.directories.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                mkdirat(&self.root, DecInt::new(id), Mode::from_raw_mode(0o755))?;
                entry.insert(TaskDirectory::default())
            }
        };
        let fd = open(&self.root, DecInt::new(id))?;
        let mut entries = view.entries(id);
        directory.is_complete = path.is_none();
        entries.retain(|(entry, _)| {
            directory.has(Some(entry)) || path.is_some_and(|path| is_on_path(path, entry))
        });
        directory.update(&fd, entries)?;
        directory.version = Some(info.version);
        self.remove_ended(view)
    }

    /// Lists the root directory: entries other than processes, recorded processes, and the tracee's
    /// own.
    pub(crate) fn listing(&self, view: &dyn ProcessView) -> Result<DirectoryListing, Errno> {
        let own = Dir::read_from(open(&self.real, ".")?)?;
        let own = own.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok());
        let ids: BTreeSet<u32> = own.filter(|&id| id != 1).chain(view.pids()).collect();
        Ok(DirectoryListing { others: self.others.clone(), ids: ids.into_iter().collect() })
    }

    /// Lists the `task` directory of a recorded process.
    pub(crate) fn threads(&self, id: u32, view: &dyn ProcessView) -> DirectoryListing {
        let entries = view.entries(id).into_iter();
        let ids: BTreeSet<u32> =
            entries.filter_map(|(path, _)| path.strip_prefix("task/")?.parse().ok()).collect();
        DirectoryListing { others: Vec::new(), ids: ids.into_iter().collect() }
    }

    fn link_own(&mut self, id: u32) -> Result<(), Errno> {
        if self.directories.get(&id).is_some_and(|directory| directory.is_link) {
            return Ok(());
        }
        self.remove(id)?;
        symlinkat(format!("{REAL_PROC}/{id}"), &self.root, DecInt::new(id))?;
        self.directories.insert(id, TaskDirectory { is_link: true, ..TaskDirectory::default() });
        Ok(())
    }

    fn remove(&mut self, id: u32) -> Result<(), Errno> {
        let Some(mut directory) = self.directories.remove(&id) else { return Ok(()) };
        if directory.is_link {
            return unlinkat(&self.root, DecInt::new(id), AtFlags::empty());
        }
        directory.update(&open(&self.root, DecInt::new(id))?, Vec::new())?;
        unlinkat(&self.root, DecInt::new(id), AtFlags::REMOVEDIR)
    }

    fn remove_ended(&mut self, view: &dyn ProcessView) -> Result<(), Errno> {
        if self.directories.len() > self.cleanup_threshold {
            let is_ended = |id: &u32| !self.directories[id].is_link && view.task(*id).is_none();
            let ended: Vec<u32> = self.directories.keys().copied().filter(is_ended).collect();
            ended.into_iter().try_for_each(|id| self.remove(id))?;
            self.cleanup_threshold = MIN_CLEANUP.max(self.directories.len() * 2);
        }
        Ok(())
    }

    /// Returns the status of the file `path`, or of the symbolic link.
    pub(crate) fn stat(&self, path: &str) -> Result<Stat, Errno> {
        statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW)
    }
}

impl TaskDirectory {
    /// Returns whether `path` (`None`: the whole directory) needs no new entries.
    fn has(&self, path: Option<&str>) -> bool {
        let is_created = |path: &str| path.is_empty() || self.entries.iter().any(|(entry, _)| entry == path);
        self.is_complete || path.is_some_and(is_created)
    }

    /// Replaces the content of the directory `fd` by `entries`; keeps files that are in both.
    fn update(&mut self, fd: &OwnedFd, entries: Vec<(String, ProcEntry)>) -> Result<(), Errno> {
        let before = std::mem::take(&mut self.entries);
        let after: HashMap<&str, &ProcEntry> = entries.iter().map(|(path, entry)| (&**path, entry)).collect();
        // A file is overwritten, so that a process that has it open sees the change.
        let is_kept = |path: &str, entry: &ProcEntry| match (entry, after.get(path)) {
            (ProcEntry::File(_), Some(ProcEntry::File(_)))
            | (ProcEntry::Directory, Some(ProcEntry::Directory)) => true,
            (before, after) => after.is_some_and(|&after| after == before),
        };
        // The entries of a directory follow it: remove in reverse order.
        for (path, entry) in before.iter().rev().filter(|(path, entry)| !is_kept(path, entry)) {
            let flags = if *entry == ProcEntry::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlinkat(fd, &**path, flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        let before: HashMap<&str, &ProcEntry> = before.iter().map(|(path, entry)| (&**path, entry)).collect();
        for (path, entry) in &entries {
            match (entry, before.get(&**path)) {
                (entry, Some(&before)) if entry == before => {}
                (ProcEntry::File(content), _) => write_file(fd, path, content)?,
                (ProcEntry::Link(target), _) => match symlinkat(&**target, fd, &**path) {
                    // A target that no link can hold is omitted.
                    Ok(()) | Err(Errno::NAMETOOLONG | Errno::NOENT | Errno::INVAL) => {}
                    Err(error) => return Err(error),
                },
                (ProcEntry::Directory, _) => mkdirat(fd, &**path, Mode::from_raw_mode(0o755))?,
            }
        }
        drop(after);
        self.entries = entries;
        Ok(())
    }
}

/// Returns whether `entry` is `path` or a parent directory of it.
fn is_on_path(path: &str, entry: &str) -> bool {
    path.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn write_file(directory: impl AsFd, path: &str, content: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, path, flags, Mode::from_raw_mode(0o644))?;
    File::from(file).write_all(content).map_err(|error| errno_of(&error))
}

fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    // The tracee is root in its `/proc`: never follow a link of its making.
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_on_the_path_are_created() {
        for (path, entry, expected) in [
            ("comm", "comm", true),
            ("task/7/comm", "task", true),
            ("task/7/comm", "task/7", true),
            ("task/7/comm", "task/7/comm", true),
            ("task/7/comm", "task/7/stat", false),
            ("task/70", "task/7", false),
            ("cwd/below", "cwd", true),
            ("stat", "status", false),
            ("status", "stat", false),
            ("", "comm", false),
        ] {
            assert_eq!(is_on_path(path, entry), expected, "{entry} on the path {path:?}");
        }
    }
}
