//! A task of the program that has made a call: its memory, and its file descriptors.

use pmon_core::wire::u64_at;
use std::collections::HashMap;
use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use rustix::path::DecInt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::sys;

/// Bytes of one argument that are read at the most.
const LONGEST: usize = 1 << 20;
/// `struct msghdr`, `struct mmsghdr`, which ends with the length of what came or went, and `struct cmsghdr`.
pub(crate) const MSGHDR: usize = 56;
pub(crate) const MMSGHDR: u64 = 64;
pub(crate) const CMSGHDR: usize = 16;
/// Buffers of a message, and messages of a call, at the most.
pub(crate) const UIO_MAXIOV: u64 = 1024;
/// `PATH_MAX`.
pub(crate) const PATH_MAX: usize = 4096;
const PAGE: u64 = 4096;

/// The memory of a task, by its id.
#[derive(Clone, Copy)]
pub(crate) struct Memory(pub(crate) u32);

impl Memory {
    /// Fills all of `buffer`.
    pub(crate) fn read(self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let read = if buffer.is_empty() { 0 } else { sys::read_memory(self.0, address, buffer)? };
        if read < buffer.len() { Err(Errno::FAULT) } else { Ok(()) }
    }

    pub(crate) fn bytes<const N: usize>(self, address: u64) -> Result<[u8; N], Errno> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn u32(self, address: u64) -> Result<u32, Errno> {
        self.bytes(address).map(u32::from_ne_bytes)
    }

    pub(crate) fn vec(self, address: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len.min(LONGEST)];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// A path, without the zero at its end.
    pub(crate) fn path(self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut path = Vec::new();
        let mut at = address;
        while path.len() < PATH_MAX {
            // What lies behind the end may not be there: up to the next page, all is, or nothing.
            let len = (PAGE - at % PAGE).min(256) as usize;
            let part = self.vec(at, len)?;
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                path.extend(&part[..end]);
                return Ok(path);
            }
            path.extend(part);
            at = at.wrapping_add(len as u64);
        }
        Err(Errno::NAMETOOLONG)
    }

    pub(crate) fn write(self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.scatter(bytes, &[(address, bytes.len())])
    }

    /// Puts `bytes` into these places, one after the other.
    pub(crate) fn scatter(self, bytes: &[u8], places: &[(u64, usize)]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = sys::write_memory(self.0, bytes, places)?;
        if written < bytes.len() { Err(Errno::FAULT) } else { Ok(()) }
    }

    /// The buffers of an array of `struct iovec`.
    pub(crate) fn buffers(self, address: u64, count: u64) -> Result<Vec<(u64, usize)>, Errno> {
        if count > UIO_MAXIOV {
            return Err(Errno::INVAL);
        }
        let bytes = self.vec(address, count as usize * 16)?;
        let buffers = bytes.chunks_exact(16).map(|buffer| (u64_at(buffer, 0), u64_at(buffer, 8)));
        buffers
            .map(|(at, len)| if len > i64::MAX as u64 { Err(Errno::INVAL) } else { Ok((at, len as usize)) })
            .collect()
    }

    /// All that is in these buffers, as far as there is any use for it.
    pub(crate) fn gather(self, buffers: &[(u64, usize)]) -> Result<Vec<u8>, Errno> {
        let mut all = Vec::new();
        for &(at, len) in buffers {
            let room = LONGEST.saturating_sub(all.len());
            all.extend(self.vec(at, len.min(room))?);
        }
        Ok(all)
    }
}

/// A file, by its device and its number there.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

/// The tasks that have made calls, each with its folder of file descriptors.
#[derive(Default)]
pub(crate) struct Tasks(HashMap<u32, OwnedFd>);

/// Folders that are kept open.
const MOST: usize = 64;

impl Tasks {
    /// Does something with the task's folder of file descriptors. Its id may be another task's by now: then it is opened anew.
    fn with<R>(&mut self, task: u32, act: impl Fn(&OwnedFd) -> Result<R, Errno>) -> Result<R, Errno> {
        if let Some(folder) = self.0.get(&task) {
            match act(folder) {
                // Of a task that has ended, nothing is found any more.
                Err(Errno::NOENT | Errno::SRCH) => self.0.remove(&task),
                done => return done,
            };
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("/proc/{task}/fd");
        let folder = match openat(CWD, &*path, flags, Mode::empty()) {
            // They are all the files that this process may have.
            Err(Errno::MFILE) if !self.0.is_empty() => {
                self.0.clear();
                openat(CWD, &*path, flags, Mode::empty())
            }
            opened => opened,
        }?;
        let done = act(&folder);
        self.0.insert(task, folder);
        done
    }

    /// What is behind a file descriptor; `ENOENT` if nothing.
    pub(crate) fn stat(&mut self, task: u32, fd: u32) -> Result<Stat, Errno> {
        self.with(task, |folder| statat(folder, DecInt::new(fd), AtFlags::empty()))
    }

    /// Its path.
    pub(crate) fn path(&mut self, task: u32, fd: u32) -> Result<Vec<u8>, Errno> {
        let link = self.with(task, |folder| readlinkat(folder, DecInt::new(fd), Vec::new()))?;
        Ok(link.into_bytes())
    }
}

/// What `/proc/<pid>/stat` says behind the name, which may have anything in it: state, parent, group, and so on.
pub(crate) fn stat_of(process: impl Display) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    String::from_utf8_lossy(&stat).rsplit(") ").next().map(str::to_owned)
}

/// The task's process. `ESRCH` if it has ended.
pub(crate) fn process_of(task: u32) -> Result<u32, Errno> {
    let status = std::fs::read_to_string(format!("/proc/{task}/status")).map_err(|_gone| Errno::SRCH)?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    tgid.and_then(|tgid| tgid.trim().parse().ok()).ok_or(Errno::SRCH)
}

/// `PIDFD_THREAD`.
const PIDFD_THREAD: u32 = libc::O_EXCL as u32;

/// A copy of a task's file descriptor.
pub(crate) fn borrow_fd(task: u32, fd: u32) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(process_of(task)? as i32).ok_or(Errno::SRCH)?;
    let of = |pid, flags| {
        let process = pidfd_open(pid, flags)?;
        pidfd_getfd(process.as_fd(), fd as i32, PidfdGetfdFlags::empty())
    };
    match of(pid, PidfdFlags::empty()) {
        // The first thread has ended, and has no files any more. Since Linux 6.9, another one can be asked.
        Err(Errno::SRCH | Errno::BADF) => {
            of(Pid::from_raw(task as i32).ok_or(Errno::SRCH)?, PidfdFlags::from_bits_retain(PIDFD_THREAD))
        }
        done => done,
    }
}
