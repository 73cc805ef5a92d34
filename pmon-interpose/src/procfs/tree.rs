//! The program's `/proc`: a file system in memory, in which what the program looks at is made when it looks.
//!
//! What is not about processes is a link to the kernel's own `/proc`, which is mounted in it; and so are the program's processes.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::launch::REAL;
use crate::procfs::listing::Listing;
use crate::world::{ProcEntry, ProcessView};

/// Processes that are there at the least before those that have ended are looked for.
const FEW: usize = 256;

/// See the module.
pub(crate) struct Tree {
    root: OwnedFd,
    real: OwnedFd,
    pub(crate) device: u64,
    /// What is in it beside processes.
    others: Vec<(String, FileType)>,
    /// The tasks that have a folder.
    made: HashMap<u32, Made>,
    /// When those that have ended are looked for.
    many: usize,
}

/// A task's folder.
#[derive(Default)]
struct Made {
    /// Of which state of the task it is; none if it is empty yet.
    version: Option<u64>,
    entries: Vec<(String, ProcEntry)>,
    /// Whether that is all that is in it; or only what was asked for.
    is_whole: bool,
    /// A link to the kernel's own.
    is_link: bool,
}

impl Tree {
    pub(crate) fn new(root: OwnedFd, real: OwnedFd, pid_max: u32) -> Result<Self, Errno> {
        let device = fstat(&root)?.st_dev;
        let mut this = Self { root, real, device, others: Vec::new(), made: HashMap::new(), many: FEW };
        this.others = this.list_others()?;
        this.link_all("", &["sys", "stat", "uptime"])?;
        this.make_folder("sys")?;
        this.link_all("sys", &["kernel"])?;
        this.make_folder("sys/kernel")?;
        this.link_all("sys/kernel", &["pid_max"])?;
        this.write("sys/kernel/pid_max", format!("{pid_max}\n").as_bytes())?;
        for file in ["stat", "uptime"] {
            this.write(file, &this.read(file)?)?;
        }
        Ok(this)
    }

    fn list_others(&self) -> Result<Vec<(String, FileType)>, Errno> {
        let mut others = Vec::new();
        for entry in Dir::read_from(open(&self.real, ".")?)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(|first: char| first == '.' || first.is_ascii_digit()) {
                others.push((name, entry.file_type()));
            }
        }
        Ok(others)
    }

    /// Links to all that is in a folder of the kernel's own, but to processes.
    fn link_all(&self, folder: &str, but: &[&str]) -> Result<(), Errno> {
        let up = "../".repeat(folder.split('/').filter(|part| !part.is_empty()).count());
        let place = if folder.is_empty() { "." } else { folder };
        for entry in Dir::read_from(open(&self.real, place)?)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let is_process = folder.is_empty() && name.starts_with(|first: char| first.is_ascii_digit());
            if !is_process && !but.contains(&&*name) && name != "." && name != ".." {
                let inside = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                symlinkat(format!("{up}{REAL}/{inside}"), &self.root, &inside)?;
            }
        }
        Ok(())
    }

    fn make_folder(&self, path: &str) -> Result<(), Errno> {
        mkdirat(&self.root, path, Mode::from_raw_mode(0o755))
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), Errno> {
        put(&self.root, path, content)
    }

    /// A file of the kernel's own.
    fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = openat(&self.real, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut content = Vec::new();
        let mut part = [0; 4096];
        loop {
            match rustix::io::read(&file, &mut part)? {
                0 => return Ok(content),
                len => content.extend(&part[..len]),
            }
        }
    }

    /// The host's own time.
    pub(crate) fn refresh_times(&self, procs: &dyn ProcessView) -> Result<(), Errno> {
        if let Some(uptime) = procs.uptime() {
            let seconds = uptime.as_secs_f64();
            self.write("uptime", format!("{seconds:.2} {seconds:.2}\n").as_bytes())?;
        }
        if let Some(boot_time) = procs.boot_time() {
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

    /// Whether that is one of the program's own tasks. The process above them, with the id 1, is none: that is the `init` of the others.
    pub(crate) fn is_own(&self, id: u32) -> bool {
        id != 1 && statat(&self.real, DecInt::new(id), AtFlags::empty()).is_ok()
    }

    /// Lets what is at that path in a task's folder be as the task is, or not be if there is none; all that is in the folder for no path.
    pub(crate) fn refresh(
        &mut self,
        id: u32,
        path: Option<&str>,
        procs: &dyn ProcessView,
    ) -> Result<(), Errno> {
        if self.is_own(id) {
            return self.link_own(id);
        }
        let Some(facts) = procs.task(id) else { return self.remove(id) };
        if self.made.get(&id).is_some_and(|made| made.version == Some(facts.version) && made.has(path)) {
            return Ok(());
        }
        self.make(id)?;
        let Some(made) = self.made.get_mut(&id) else { return Ok(()) };
        let folder = open(&self.root, DecInt::new(id))?;
        let mut entries = procs.entries(id);
        made.is_whole = path.is_none();
        entries.retain(|(entry, _)| made.has(Some(entry)) || path.is_some_and(|path| is_on(path, entry)));
        made.update(folder.as_fd(), entries)?;
        made.version = Some(facts.version);
        self.forget_the_ended(procs)
    }

    /// What it lists: what is no process, all processes, and the program's own.
    pub(crate) fn listing(&self, procs: &dyn ProcessView) -> Result<Listing, Errno> {
        let own = Dir::read_from(open(&self.real, ".")?)?;
        let own = own.filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok());
        let ids: BTreeSet<u32> = own.filter(|&id| id != 1).chain(procs.pids()).collect();
        Ok(Listing { others: self.others.clone(), ids: ids.into_iter().collect() })
    }

    /// What the folder of a task's threads lists.
    pub(crate) fn threads(&self, id: u32, procs: &dyn ProcessView) -> Listing {
        let entries = procs.entries(id).into_iter();
        let ids: BTreeSet<u32> =
            entries.filter_map(|(path, _)| path.strip_prefix("task/")?.parse().ok()).collect();
        Listing { others: Vec::new(), ids: ids.into_iter().collect() }
    }

    /// An empty folder, if there is none.
    fn make(&mut self, id: u32) -> Result<(), Errno> {
        if self.made.get(&id).is_some_and(|made| made.is_link) {
            self.remove(id)?;
        }
        if !self.made.contains_key(&id) {
            mkdirat(&self.root, DecInt::new(id), Mode::from_raw_mode(0o755))?;
            self.made.insert(id, Made::default());
        }
        Ok(())
    }

    fn link_own(&mut self, id: u32) -> Result<(), Errno> {
        if self.made.get(&id).is_some_and(|made| made.is_link) {
            return Ok(());
        }
        self.remove(id)?;
        symlinkat(format!("{REAL}/{id}"), &self.root, DecInt::new(id))?;
        self.made.insert(id, Made { is_link: true, ..Made::default() });
        Ok(())
    }

    fn remove(&mut self, id: u32) -> Result<(), Errno> {
        let Some(mut made) = self.made.remove(&id) else { return Ok(()) };
        if made.is_link {
            return unlinkat(&self.root, DecInt::new(id), AtFlags::empty());
        }
        made.update(open(&self.root, DecInt::new(id))?.as_fd(), Vec::new())?;
        unlinkat(&self.root, DecInt::new(id), AtFlags::REMOVEDIR)
    }

    fn forget_the_ended(&mut self, procs: &dyn ProcessView) -> Result<(), Errno> {
        if self.made.len() > self.many {
            let ended = self.made.iter().filter(|&(&id, made)| !made.is_link && procs.task(id).is_none());
            let ended: Vec<u32> = ended.map(|(&id, _)| id).collect();
            ended.into_iter().try_for_each(|id| self.remove(id))?;
            self.many = FEW.max(self.made.len() * 2);
        }
        Ok(())
    }

    /// Whether there is something at a path in it.
    pub(crate) fn has(&self, path: &str) -> bool {
        statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// What is at a path in it, without following a link at its end.
    pub(crate) fn link(&self, path: &str) -> Option<Vec<u8>> {
        readlinkat(&self.root, path, Vec::new()).ok().map(|link| link.into_bytes())
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }
}

impl Made {
    /// Whether that is there, if it is anywhere.
    fn has(&self, path: Option<&str>) -> bool {
        let is_there = |path: &str| path.is_empty() || self.entries.iter().any(|(entry, _)| entry == path);
        self.is_whole || path.is_some_and(is_there)
    }

    /// Changes what is not as it shall be.
    fn update(
        &mut self,
        folder: rustix::fd::BorrowedFd<'_>,
        entries: Vec<(String, ProcEntry)>,
    ) -> Result<(), Errno> {
        let before = std::mem::take(&mut self.entries);
        let after: HashMap<&str, &ProcEntry> = entries.iter().map(|(path, node)| (&**path, node)).collect();
        // A file that stays one is written over: who has it open sees it change.
        let stays = |path: &str, node: &ProcEntry| match (node, after.get(path)) {
            (ProcEntry::File(_), Some(ProcEntry::File(_)))
            | (ProcEntry::Directory, Some(ProcEntry::Directory)) => true,
            (before, after) => after.is_some_and(|&after| after == before),
        };
        // What is in a folder stands behind it.
        for (path, node) in before.iter().rev().filter(|(path, node)| !stays(path, node)) {
            let flags = if *node == ProcEntry::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlinkat(folder, &**path, flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        let before: HashMap<&str, &ProcEntry> = before.iter().map(|(path, node)| (&**path, node)).collect();
        for (path, node) in &entries {
            match (node, before.get(&**path)) {
                (node, Some(&before)) if node == before => {}
                (ProcEntry::File(content), _) => put(folder, path, content)?,
                (ProcEntry::Link(target), _) => match symlinkat(&**target, folder, &**path) {
                    // What no link can hold, is not there.
                    Ok(()) | Err(Errno::NAMETOOLONG | Errno::NOENT | Errno::INVAL) => {}
                    Err(error) => return Err(error),
                },
                (ProcEntry::Directory, _) => mkdirat(folder, &**path, Mode::from_raw_mode(0o755))?,
            }
        }
        drop(after);
        self.entries = entries;
        Ok(())
    }
}

/// Whether the way to `path` leads through `entry`, or ends there.
fn is_on(path: &str, entry: &str) -> bool {
    path.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn put(folder: impl AsFd, path: &str, content: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, path, flags, Mode::from_raw_mode(0o644))?;
    let mut left = content;
    while !left.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, left))?;
        left = &left[written..];
    }
    Ok(())
}

fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    // Whatever the program, which is root there, has put in the way.
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_way_is_made() {
        for (path, entry, wanted) in [
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
            assert_eq!(is_on(path, entry), wanted, "{entry} on the way to {path:?}");
        }
    }
}
