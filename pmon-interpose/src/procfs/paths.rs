//! Calls that may be about a file in `/proc`: what they look at is made first.

use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, readlink, statat};
use rustix::io::Errno;

use crate::procfs::file_status::{Kind, STATFS, Shown, stat, statx};
use crate::supervisor::handlers::Who;
use crate::supervisor::{Answer, Supervisor};
use crate::sys::{self, Notification};
use crate::tracee::{Memory, borrow_fd};
use crate::world::ProcessView;

/// Bytes of a list that are given at a time.
const LONGEST_LIST: usize = 1 << 16;

/// Where a call finds what it is about.
struct Look {
    /// A file descriptor, unless the path is absolute; `None` is the working directory.
    base: Option<u32>,
    /// Where the path is; none if it is about the file descriptor itself.
    path: Option<u64>,
    what: What,
}

/// What a call does there.
#[derive(Clone, Copy)]
enum What {
    Open {
        flags: u64,
    },
    /// Lists what is in it: into that buffer, of that length.
    List {
        buffer: u64,
        room: u64,
    },
    /// Tells of it: into that buffer, of itself if it is a link.
    Stat {
        buffer: u64,
        of_link: bool,
    },
    Statx {
        buffer: u64,
        of_link: bool,
    },
    /// Tells of the file system.
    StatFs {
        buffer: u64,
    },
    /// Reads a link: into that buffer, of that length.
    ReadLink {
        buffer: u64,
        room: u64,
    },
    Other,
}

/// Where in `/proc` a path leads.
struct Place {
    /// Part by part.
    parts: Vec<String>,
    /// The way there goes back on itself, through folders that are not on the straight one.
    winds: bool,
}

impl Look {
    /// `None` if the call is none of these.
    fn parse(notification: &Notification) -> Option<Self> {
        let [a, b, c, d, e, _] = notification.data.args;
        let at = |what| {
            let base = (a as i32 != libc::AT_FDCWD).then_some(a as u32);
            Some(Self { base, path: Some(b), what })
        };
        let here = |what| Some(Self { base: None, path: Some(a), what });
        let file = |what| Some(Self { base: Some(a as u32), path: None, what });
        let of_link = |flags: u64| flags & libc::AT_SYMLINK_NOFOLLOW as u64 != 0;
        match i64::from(notification.data.nr) {
            libc::SYS_openat => at(What::Open { flags: c }),
            libc::SYS_openat2 => at(What::Open { flags: 0 }),
            libc::SYS_newfstatat => at(What::Stat { buffer: c, of_link: of_link(d) }),
            libc::SYS_statx => at(What::Statx { buffer: e, of_link: of_link(c) }),
            libc::SYS_faccessat | libc::SYS_faccessat2 => at(What::Other),
            libc::SYS_readlinkat => at(What::ReadLink { buffer: c, room: d }),
            libc::SYS_fstat => file(What::Stat { buffer: b, of_link: false }),
            libc::SYS_fstatfs => file(What::StatFs { buffer: b }),
            libc::SYS_getdents64 => file(What::List { buffer: b, room: c }),
            libc::SYS_chdir => here(What::Other),
            libc::SYS_statfs => here(What::StatFs { buffer: b }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => here(What::Open { flags: libc::O_WRONLY as u64 }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => here(What::Open { flags: b }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat => here(What::Stat { buffer: b, of_link: false }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat => here(What::Stat { buffer: b, of_link: true }),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access => here(What::Other),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink => here(What::ReadLink { buffer: b, room: c }),
            _ => None,
        }
    }
}

impl Supervisor {
    /// Answers a call that may be about a file in `/proc`; `None` if it is no such call.
    pub(crate) fn look_up(&mut self, procs: &dyn ProcessView, notification: &Notification) -> Option<Answer> {
        let look = Look::parse(notification)?;
        let answer = match self.components(&look, notification) {
            Some(place) => self.answer_look(procs, notification, look.what, &place),
            None => Ok(Answer::Make),
        };
        Some(match answer {
            Ok(answer) => answer,
            Err(error) => Answer::Give(Err(error)),
        })
    }

    /// Where in `/proc` it is; `None` if it is elsewhere.
    fn components(&mut self, look: &Look, notification: &Notification) -> Option<Place> {
        let device = self.tree.as_ref()?.device;
        let task = notification.pid;
        // A path that cannot be read is the kernel's to refuse.
        let path = look.path.map(|at| Memory(task).path(at)).transpose().ok()?;
        let path = String::from_utf8(path.unwrap_or_default()).ok()?;
        let mut parts = Vec::new();
        if !path.starts_with('/') {
            let (base, stat) = match look.base {
                Some(fd) => (None, self.tasks.stat(task, fd)),
                None => {
                    let cwd = format!("/proc/{task}/cwd");
                    let stat = statat(CWD, &*cwd, AtFlags::empty());
                    (Some(cwd), stat)
                }
            };
            if stat.ok()?.st_dev != device && !path.contains("proc") {
                return None;
            }
            let base = match (base, look.base) {
                (Some(cwd), _) => readlink(&*cwd, Vec::new()).ok()?.into_bytes(),
                (None, fd) => self.tasks.path(task, fd?).ok()?,
            };
            parts.extend(split(&String::from_utf8(base).ok()?));
        } else if !path.contains("proc") {
            return None;
        }
        for part in split(&path) {
            match &*part {
                ".." => drop(parts.pop()),
                _ => parts.push(part),
            }
        }
        let is_proc = parts.first().is_some_and(|first| first == "proc");
        is_proc.then(|| Place { parts: parts.split_off(1), winds: split(&path).any(|part| part == "..") })
    }

    fn answer_look(
        &mut self,
        procs: &dyn ProcessView,
        notification: &Notification,
        what: What,
        place: &Place,
    ) -> Result<Answer, Errno> {
        let Some(tree) = &mut self.tree else { return Ok(Answer::Make) };
        let parts = &*place.parts;
        let memory = Memory(notification.pid);
        let id = parts.first().and_then(|part| part.parse::<u32>().ok());
        match (parts.first().map(|part| &**part), what) {
            (Some("uptime" | "stat"), What::Open { .. }) => tree.refresh_times(procs)?,
            (Some(link @ ("self" | "thread-self")), What::ReadLink { buffer, room }) if parts.len() == 1 => {
                let Who { tgid, tid, .. } = Who::of(notification.pid)?;
                let target = if link == "self" { tgid.to_string() } else { format!("{tgid}/task/{tid}") };
                if room as i32 <= 0 {
                    return Err(Errno::INVAL);
                }
                let len = target.len().min(room as u32 as usize);
                memory.write(buffer, &target.as_bytes()[..len])?;
                return Ok(Answer::Give(Ok(len as i64)));
            }
            _ => {}
        }
        if let Some(id) = id {
            let path = parts[1..].join("/");
            let needs_all = place.winds || matches!(what, What::List { .. });
            tree.refresh(id, (!needs_all).then_some(&*path), procs)?;
        }
        if let What::List { buffer, room } = what {
            let listing = match (id, parts) {
                (None, []) => tree.listing(procs)?,
                (Some(id), [_, task]) if task == "task" && !tree.is_own(id) => tree.threads(id, procs),
                _ => return Ok(Answer::Make),
            };
            let folder = borrow_fd(notification.pid, notification.data.args[0] as u32)?;
            let listed = listing.read(&folder, (room as u32 as usize).min(LONGEST_LIST))?;
            memory.write(buffer, &listed)?;
            return Ok(Answer::Give(Ok(listed.len() as i64)));
        }
        if let What::StatFs { buffer } = what
            && parts.len() <= 1
        {
            memory.write(buffer, &STATFS)?;
            return Ok(Answer::Give(Ok(0)));
        }
        // What is written there changes nothing.
        if let (What::Open { flags }, Some(id), [_, _, ..]) = (what, id, parts)
            && flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64
            && !tree.is_own(id)
            && procs.task(id).is_some_and(|_| tree.has(&parts.join("/")))
        {
            return self.give_sink(notification, flags & libc::O_CLOEXEC as u64 != 0);
        }
        // Whose a file is, and that it has no size, is told as of the real one.
        let (buffer, of_link, is_statx) = match what {
            What::Stat { buffer, of_link } => (buffer, of_link, false),
            What::Statx { buffer, of_link } => (buffer, of_link, true),
            _ => return Ok(Answer::Make),
        };
        let facts = id.filter(|&id| !tree.is_own(id)).and_then(|id| procs.task(id));
        let owner = match facts {
            Some(facts) => facts.owner,
            None if parts.is_empty() => (0, 0),
            None => return Ok(Answer::Make),
        };
        let path = parts.join("/");
        if tree.link(&path).is_some() && !of_link {
            return Ok(Answer::Make);
        }
        let place = if path.is_empty() { "." } else { &path };
        let found = statat(tree.root(), place, AtFlags::SYMLINK_NOFOLLOW)?;
        // Behind a link as `cwd`, it is a file like any other.
        if found.st_dev != tree.device {
            return Ok(Answer::Make);
        }
        let kind = match found.st_mode & libc::S_IFMT {
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => Kind::Link,
            _ => Kind::File,
        };
        let uptime = procs.uptime().unwrap_or_default().as_secs();
        let time = procs.boot_time().unwrap_or(0).saturating_add(uptime);
        let shown = Shown { ino: found.st_ino, device: found.st_dev, kind, owner, time };
        if is_statx {
            memory.write(buffer, &statx(&shown))?;
        } else {
            memory.write(buffer, &stat(&shown))?;
        }
        Ok(Answer::Give(Ok(0)))
    }
}

impl Supervisor {
    /// Opens what takes everything.
    fn give_sink(&self, notification: &Notification, close_on_exec: bool) -> Result<Answer, Errno> {
        let sink = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        sys::answer_with_fd(self.listener.as_fd(), notification.id, sink.as_fd(), None, close_on_exec)?;
        Ok(Answer::None)
    }
}

fn split(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned)
}
