//! The tracee's `/proc`: a tmpfs in which files are created just before the tracee opens them.
//!
//! The directories of recorded processes are written here, one file at a time. The directories of
//! the tracee's own processes, and files that do not belong to a process, are links to the kernel's
//! own procfs, mounted at `.real`.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::launch::child::REAL_PROC;
use crate::procfs::directory_listing::{DirectoryListing, ListedEntry};
use crate::procfs::file_pool::{FilePool, PooledEntry};
use crate::procfs::path_walk::{open_below, open_directory, write_file};
use crate::sys::errno_of;
use crate::world::{ProcEntry, ProcEntryKind, ProcessView, TaskInfo};

/// Minimum number of directories before those of ended processes are removed.
const MIN_CLEANUP: usize = 256;
/// Inode number of the directory of the process with id 0.
const FIRST_PROCESS_INODE: u64 = 257;
/// The lowest inode number of a file in the directory of a process.
const FIRST_FILE_INODE: u64 = 1 << 40;

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
    pub(crate) pool: FilePool,
    /// Whether a task may have changed its root directory or its mounts, so that a path may lead
    /// elsewhere.
    pub(crate) is_remounted: bool,
}

/// The entry of a process or thread in the root directory.
#[derive(Default)]
struct TaskDirectory {
    /// The created entries by their paths. The entries of a directory follow the directory.
    entries: BTreeMap<String, CreatedEntry>,
    /// Whether the entry is a link to the kernel's own directory of the process.
    is_link: bool,
}

/// A created entry of a process's directory.
struct CreatedEntry {
    /// [`TaskInfo::version`](crate::TaskInfo::version) as of the last check of the entry.
    version: u64,
    entry: ProcEntry,
}

impl ProcfsTree {
    pub(crate) fn new(root: OwnedFd, real: OwnedFd, pid_max: u32) -> Result<Self, Errno> {
        let device = fstat(&root)?.st_dev;
        let mut tree = Self {
            pool: FilePool::new(&root)?,
            root,
            real,
            device,
            others: Vec::new(),
            directories: HashMap::new(),
            cleanup_threshold: MIN_CLEANUP,
            is_remounted: false,
        };
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
        for entry in Dir::read_from(open_directory(&self.real, format!("./{directory}"))?)? {
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
            // The kernel does not round up, so that the file is never ahead of the clock.
            let seconds = format!("{}.{:02}", uptime.as_secs(), uptime.subsec_millis() / 10);
            self.write("uptime", format!("{seconds} {seconds}\n").as_bytes())?;
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

    /// Brings `path` in the directory of a recorded task up to date, with the directories on the
    /// way to it. Removes the task's directory if there is no such task.
    pub(crate) fn refresh(&mut self, id: u32, path: &str, view: &dyn ProcessView) -> Result<(), Errno> {
        let Some(info) = view.task(id) else { return self.remove(id) };
        if self.directories.get(&id).is_some_and(|directory| directory.is_link) {
            self.remove(id)?;
        }
        if let Entry::Vacant(entry) = self.directories.entry(id) {
            mkdirat(&self.root, DecInt::new(id), Mode::from_raw_mode(0o755))?;
            entry.insert(TaskDirectory::default());
            self.remove_ended(view)?;
        }
        let Self { root, directories, .. } = self;
        let Some(directory) = directories.get_mut(&id) else { return Ok(()) };
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).filter(|&end| end > 0);
        for end in ends {
            let kind = directory.refresh(root, (id, info.version), &path[..end], view)?;
            // A path through a link leads to an ordinary file.
            if kind != Some(ProcEntryKind::Directory) {
                break;
            }
        }
        Ok(())
    }

    /// Opens a file of a recorded task for the tracee's task `task`; returns `None` if it is no
    /// regular file, or if the kernel has to open it by its path.
    pub(crate) fn open_file(
        &mut self,
        task: u32,
        (id, path, info): (u32, &str, &TaskInfo),
        flags: OFlags,
        view: &dyn ProcessView,
    ) -> Option<OwnedFd> {
        if self.is_remounted {
            return None;
        }
        let TaskInfo { version, owner, .. } = *info;
        let entry = PooledEntry { id, path: path.to_owned(), version, owner };
        self.pool.open(task, entry, flags, || match view.entry(id, path)? {
            ProcEntry::File(content) => Some(content),
            _ => None,
        })
    }

    /// Lists the root directory: entries other than processes, recorded processes, and the tracee's
    /// own.
    pub(crate) fn listing(&self, view: &dyn ProcessView) -> Result<DirectoryListing, Errno> {
        let own = Dir::read_from(open_directory(&self.real, ".")?)?;
        let own = own.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok());
        let mut ids: Vec<u32> = own.filter(|&id| id != 1).chain(view.pids()).collect();
        ids.sort_unstable();
        ids.dedup();
        let others = self.others.iter().zip(3..);
        let others =
            others.map(|((name, kind), inode)| ListedEntry { name: name.clone(), kind: *kind, inode });
        Ok(DirectoryListing {
            inodes: [1, 2],
            others: others.collect(),
            ids: ids.into_iter().map(|id| (id, inode(id, ""))).collect(),
        })
    }

    /// Lists a directory of a recorded task.
    pub(crate) fn list(&self, id: u32, directory: &str, view: &dyn ProcessView) -> DirectoryListing {
        let below = |name: &str| match directory {
            "" => inode(id, name),
            _ => inode(id, &format!("{directory}/{name}")),
        };
        let parent = match directory.rsplit_once('/') {
            Some((parent, _)) => inode(id, parent),
            None if directory.is_empty() => 1,
            None => inode(id, ""),
        };
        let mut listing =
            DirectoryListing { inodes: [inode(id, directory), parent], others: Vec::new(), ids: Vec::new() };
        for (name, kind) in view.list(id, directory) {
            let inode = below(&name);
            match name.parse().ok().filter(|_| directory == "task") {
                Some(tid) => listing.ids.push((tid, inode)),
                None => listing.others.push(ListedEntry { name, kind: kind.file_type(), inode }),
            }
        }
        listing.ids.sort_unstable();
        listing
    }

    /// Creates the link to the kernel's own directory of one of the tracee's tasks.
    pub(crate) fn link_own(&mut self, id: u32) -> Result<(), Errno> {
        if self.directories.get(&id).is_some_and(|directory| directory.is_link) {
            return Ok(());
        }
        self.remove(id)?;
        symlinkat(format!("{REAL_PROC}/{id}"), &self.root, DecInt::new(id))?;
        self.directories.insert(id, TaskDirectory { is_link: true, ..TaskDirectory::default() });
        Ok(())
    }

    fn remove(&mut self, id: u32) -> Result<(), Errno> {
        let Some(directory) = self.directories.remove(&id) else { return Ok(()) };
        if directory.is_link {
            return unlinkat(&self.root, DecInt::new(id), AtFlags::empty());
        }
        if !directory.entries.is_empty() {
            let fd = open_directory(&self.root, DecInt::new(id))?;
            for (path, created) in directory.entries.iter().rev() {
                remove_entry(&fd, path, created.entry.kind())?;
            }
        }
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

    /// Returns the status of the root directory.
    pub(crate) fn stat_root(&self) -> Result<Stat, Errno> {
        fstat(&self.root)
    }
}

impl TaskDirectory {
    /// Brings one entry of the directory of the task `id` up to date; returns its kind, or `None`
    /// if there is no such entry.
    fn refresh(
        &mut self,
        root: &OwnedFd,
        (id, version): (u32, u64),
        path: &str,
        view: &dyn ProcessView,
    ) -> Result<Option<ProcEntryKind>, Errno> {
        if let Some(created) = self.entries.get(path)
            && created.version == version
        {
            return Ok(Some(created.entry.kind()));
        }
        let Some(entry) = view.entry(id, path) else {
            self.remove_below(root, id, path)?;
            return Ok(None);
        };
        let kind = entry.kind();
        match self.entries.get_mut(path) {
            Some(created) if created.entry == entry => created.version = version,
            // A file is overwritten, so that a process that has it open sees the change.
            Some(CreatedEntry { entry: ProcEntry::File(before), version: checked })
                if kind == ProcEntryKind::File =>
            {
                if let ProcEntry::File(content) = entry {
                    write_file(root, &format!("{id}/{path}"), &content)?;
                    (*before, *checked) = (content, version);
                }
            }
            before => {
                if before.is_some() {
                    self.remove_below(root, id, path)?;
                }
                if create_entry(root, &format!("{id}/{path}"), &entry)? {
                    self.entries.insert(path.to_owned(), CreatedEntry { version, entry });
                }
            }
        }
        Ok(Some(kind))
    }

    /// Removes an entry with all entries below it.
    fn remove_below(&mut self, root: &OwnedFd, id: u32, path: &str) -> Result<(), Errno> {
        let is_below = |other: &str| {
            other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let removed: Vec<(String, CreatedEntry)> =
            self.entries.extract_if(path.to_owned().., |other, _| is_below(other)).collect();
        if removed.is_empty() {
            return Ok(());
        }
        let fd = open_directory(root, DecInt::new(id))?;
        removed.iter().rev().try_for_each(|(path, created)| remove_entry(&fd, path, created.entry.kind()))
    }
}

/// Returns the inode number of an entry of a task's directory, whose own path is empty.
pub(crate) fn inode(id: u32, path: &str) -> u64 {
    if path.is_empty() {
        return FIRST_PROCESS_INODE + u64::from(id);
    }
    // FNV-1a: with few entries of each process, numbers hardly ever coincide.
    let bytes = id.to_ne_bytes().into_iter().chain(path.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    FIRST_FILE_INODE | hash >> 16
}

impl ProcEntryKind {
    fn file_type(self) -> FileType {
        match self {
            Self::File => FileType::RegularFile,
            Self::Link => FileType::Symlink,
            Self::Directory => FileType::Directory,
        }
    }
}

/// Creates an entry. Returns `false` for a link whose target no link can hold: it is omitted.
fn create_entry(root: &OwnedFd, path: &str, entry: &ProcEntry) -> Result<bool, Errno> {
    if let ProcEntry::File(content) = entry {
        return write_file(root, path, content).map(|()| true);
    }
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    let parent = open_below(root, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let created = match entry {
        ProcEntry::Link(target) => symlinkat(&**target, &parent, name),
        _ => mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
    };
    match created {
        Err(Errno::NAMETOOLONG | Errno::NOENT | Errno::INVAL) if entry.kind() == ProcEntryKind::Link => {
            Ok(false)
        }
        created => created.map(|()| true),
    }
}

fn remove_entry(directory: &OwnedFd, path: &str, kind: ProcEntryKind) -> Result<(), Errno> {
    let flags = if kind == ProcEntryKind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match unlinkat(directory, path, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        error => error,
    }
}
