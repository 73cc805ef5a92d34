//! Listings of directories (`getdents64`). Processes and threads are sorted by id as in the
//! kernel's procfs. Programs depend on that order.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, SeekFrom, seek};
use rustix::io::Errno;

/// Position of the process with id 0. Lower positions belong to other entries.
const FIRST_ID_POSITION: u64 = 256;
/// Offset of the name in `struct linux_dirent64`.
const NAME_OFFSET: usize = 19;

/// The entries of a directory.
pub(crate) struct DirectoryListing {
    /// The inode numbers of the directory and of its parent.
    pub(crate) inodes: [u64; 2],
    /// Entries other than processes and threads, without `.` and `..`.
    pub(crate) others: Vec<ListedEntry>,
    /// Processes or threads in ascending order, each with its inode number.
    pub(crate) ids: Vec<(u32, u64)>,
}

/// An entry other than a process or thread.
pub(crate) struct ListedEntry {
    pub(crate) name: String,
    pub(crate) kind: FileType,
    pub(crate) inode: u64,
}

impl DirectoryListing {
    /// Shortens the inode numbers for 32-bit programs: a C library with a short `ino_t` refuses
    /// longer ones.
    pub(crate) fn shorten_inodes(&mut self) {
        let others = self.others.iter_mut().map(|entry| &mut entry.inode);
        for inode in self.inodes.iter_mut().chain(others) {
            *inode &= u64::from(u32::MAX);
        }
    }

    /// Returns at most `room` bytes of `struct linux_dirent64`, from the position of `directory`
    /// on, and advances that position.
    pub(crate) fn read(&self, directory: &OwnedFd, room: usize) -> Result<Vec<u8>, Errno> {
        let from = seek(directory, SeekFrom::Current(0))?;
        let dots = [".", ".."].into_iter().zip(self.inodes);
        let dots = dots.map(|(name, inode)| (name, FileType::Directory, inode));
        let others = self.others.iter().map(|entry| (&*entry.name, entry.kind, entry.inode));
        let others = dots.chain(others).zip(0_u64..).skip(usize::try_from(from).unwrap_or(usize::MAX));
        let others = others.map(|((name, kind, inode), at)| (at, Cow::Borrowed(name), kind, inode));
        let position = |id: u32| FIRST_ID_POSITION + u64::from(id);
        let ids = &self.ids[self.ids.partition_point(|&(id, _)| position(id) < from)..];
        let ids = ids
            .iter()
            .map(|&(id, inode)| (position(id), Cow::Owned(id.to_string()), FileType::Directory, inode));
        let mut bytes = Vec::with_capacity(room);
        let mut next = from;
        for (at, name, kind, inode) in others.chain(ids) {
            let len = (NAME_OFFSET + name.len() + 1).next_multiple_of(8);
            if bytes.len() + len > room {
                if bytes.is_empty() {
                    return Err(Errno::INVAL);
                }
                break;
            }
            next = at + 1;
            let start = bytes.len();
            bytes.extend(inode.to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
            bytes.extend((len as u16).to_ne_bytes());
            // `IFTODT` of <dirent.h>.
            bytes.push((kind.as_raw_mode() >> 12) as u8);
            bytes.extend(name.as_bytes());
            bytes.resize(start + len, 0);
        }
        seek(directory, SeekFrom::Start(next))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    fn directory() -> OwnedFd {
        openat(CWD, "/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn listing() -> DirectoryListing {
        let others = [("self", FileType::Symlink, 3), ("meminfo", FileType::RegularFile, 4)];
        let others = others.map(|(name, kind, inode)| ListedEntry { name: name.to_owned(), kind, inode });
        DirectoryListing { inodes: [1, 2], others: others.into(), ids: with_inodes(&[1, 7, 4_190_000]) }
    }

    fn with_inodes(ids: &[u32]) -> Vec<(u32, u64)> {
        ids.iter().map(|&id| (id, 1_000 + u64::from(id))).collect()
    }

    /// Parses entries into name, next position and type.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u64, u8)> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let next = u64::from_ne_bytes(*bytes[8..].first_chunk().unwrap());
            let len = u16::from_ne_bytes(*bytes[16..].first_chunk().unwrap());
            let (entry, rest) = bytes.split_at(len.into());
            assert_eq!(len % 8, 0);
            let name = entry[NAME_OFFSET..].split(|&byte| byte == 0).next().unwrap();
            entries.push((String::from_utf8(name.to_vec()).unwrap(), next, entry[18]));
            bytes = rest;
        }
        entries
    }

    fn names(entries: &[(String, u64, u8)]) -> Vec<&str> {
        entries.iter().map(|(name, ..)| &**name).collect()
    }

    const ALL: [&str; 7] = [".", "..", "self", "meminfo", "1", "7", "4190000"];

    #[test]
    fn reading_continues_at_the_position_for_any_buffer_size() {
        for room in [32, 33, 64, 72, 100, 4096] {
            let directory = directory();
            let mut all = Vec::new();
            loop {
                let bytes = listing().read(&directory, room).unwrap();
                assert!(bytes.len() <= room);
                if bytes.is_empty() {
                    break;
                }
                all.extend(entries(&bytes));
            }
            assert_eq!(names(&all), ALL, "{room}");
            assert!(listing().read(&directory, room).unwrap().is_empty(), "the end stays");
        }
    }

    #[test]
    fn a_too_small_buffer_is_refused_and_does_not_advance() {
        let directory = directory();
        assert_eq!(listing().read(&directory, 23), Err(Errno::INVAL));
        assert_eq!(names(&entries(&listing().read(&directory, 24).unwrap())), ["."]);
    }

    #[test]
    fn the_position_after_each_entry_can_be_restored() {
        let directory = directory();
        let all = entries(&listing().read(&directory, 4096).unwrap());
        for (at, (_, next, _)) in all.iter().enumerate() {
            seek(&directory, SeekFrom::Start(*next)).unwrap();
            assert_eq!(names(&entries(&listing().read(&directory, 4096).unwrap())), ALL[at + 1..]);
        }
        seek(&directory, SeekFrom::Start(0)).unwrap();
        assert_eq!(names(&entries(&listing().read(&directory, 4096).unwrap())), ALL);
    }

    #[test]
    fn starts_and_exits_between_two_reads_neither_hide_nor_repeat_other_entries() {
        let directory = directory();
        // Up to process 1.
        let first = entries(&listing().read(&directory, 24 * 3 + 32 + 24).unwrap());
        assert_eq!(names(&first).last(), Some(&"1"));
        let later = DirectoryListing { ids: with_inodes(&[5, 4_190_000]), ..listing() };
        assert_eq!(names(&entries(&later.read(&directory, 4096).unwrap())), ["5", "4190000"]);
    }

    #[test]
    fn inode_numbers_are_reported() {
        let bytes = listing().read(&directory(), 4096).unwrap();
        let (mut at, mut inodes) = (0, Vec::new());
        while at < bytes.len() {
            inodes.push(u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap()));
            at += usize::from(u16::from_ne_bytes(*bytes[at + 16..].first_chunk().unwrap()));
        }
        assert_eq!(inodes, [1, 2, 3, 4, 1_001, 1_007, 4_191_000]);
    }

    #[test]
    fn types_are_reported() {
        let all = entries(&listing().read(&directory(), 4096).unwrap());
        let types: Vec<u8> = all.iter().map(|&(_, _, kind)| kind).collect();
        let (dir, link, file) = (libc::DT_DIR, libc::DT_LNK, libc::DT_REG);
        assert_eq!(types, [dir, dir, link, file, dir, dir, dir]);
    }
}
