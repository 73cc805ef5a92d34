//! What a folder of processes or threads lists: in the order of their ids, as the kernel does, and programs count on it.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, SeekFrom, seek};
use rustix::io::Errno;

/// Positions below this one are of what is no process; behind it comes each at its id.
const IDS: u64 = 256;
/// `struct linux_dirent64`: what is before the name.
const HEADER: usize = 19;

/// What a folder lists.
pub(crate) struct Listing {
    /// `.` and `..` come before, and need not be named.
    pub(crate) others: Vec<(String, FileType)>,
    /// In their order.
    pub(crate) ids: Vec<u32>,
}

impl Listing {
    /// `getdents64` into so many bytes: goes on where `folder` is, and moves it on.
    pub(crate) fn read(&self, folder: &OwnedFd, room: usize) -> Result<Vec<u8>, Errno> {
        let from = seek(folder, SeekFrom::Current(0))?;
        let dots = [".", ".."].into_iter().map(|name| (name, FileType::Directory));
        let others = dots.chain(self.others.iter().map(|(name, kind)| (&**name, *kind)));
        let others = others.zip(0_u64..).map(|((name, kind), at)| (at, name.to_owned(), kind));
        let ids = self.ids.iter().map(|&id| (IDS + u64::from(id), id.to_string(), FileType::Directory));
        let mut bytes = Vec::new();
        let mut next = from;
        for (at, name, kind) in others.chain(ids).filter(|&(at, ..)| at >= from) {
            let len = (HEADER + name.len() + 1).next_multiple_of(8);
            if bytes.len() + len > room {
                if bytes.is_empty() {
                    return Err(Errno::INVAL);
                }
                break;
            }
            next = at + 1;
            let start = bytes.len();
            // No two are the same file.
            bytes.extend((at + 1).to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
            bytes.extend((len as u16).to_ne_bytes());
            bytes.push(code(kind));
            bytes.extend(name.as_bytes());
            bytes.resize(start + len, 0);
        }
        seek(folder, SeekFrom::Start(next))?;
        Ok(bytes)
    }
}

/// `d_type`.
fn code(kind: FileType) -> u8 {
    match kind {
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::RegularFile => libc::DT_REG,
        _ => libc::DT_UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    fn folder() -> OwnedFd {
        openat(CWD, "/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    fn listing() -> Listing {
        let others =
            vec![("self".to_owned(), FileType::Symlink), ("meminfo".to_owned(), FileType::RegularFile)];
        Listing { others, ids: vec![1, 7, 4_190_000] }
    }

    /// Names, each with where it goes on behind it, and its type.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u64, u8)> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let next = u64::from_ne_bytes(*bytes[8..].first_chunk().unwrap());
            let len = u16::from_ne_bytes(*bytes[16..].first_chunk().unwrap());
            let (entry, rest) = bytes.split_at(len.into());
            assert_eq!(len % 8, 0);
            let name = entry[HEADER..].split(|&byte| byte == 0).next().unwrap();
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
    fn it_goes_on_where_it_was_whatever_the_buffer() {
        for room in [32, 33, 64, 72, 100, 4096] {
            let folder = folder();
            let mut all = Vec::new();
            loop {
                let bytes = listing().read(&folder, room).unwrap();
                assert!(bytes.len() <= room);
                if bytes.is_empty() {
                    break;
                }
                all.extend(entries(&bytes));
            }
            assert_eq!(names(&all), ALL, "{room}");
            assert!(listing().read(&folder, room).unwrap().is_empty(), "the end stays");
        }
    }

    #[test]
    fn too_small_a_buffer_is_invalid_and_takes_nothing() {
        let folder = folder();
        assert_eq!(listing().read(&folder, 23), Err(Errno::INVAL));
        assert_eq!(names(&entries(&listing().read(&folder, 24).unwrap())), ["."]);
    }

    #[test]
    fn each_entry_can_be_gone_back_to() {
        let folder = folder();
        let all = entries(&listing().read(&folder, 4096).unwrap());
        for (at, (_, next, _)) in all.iter().enumerate() {
            seek(&folder, SeekFrom::Start(*next)).unwrap();
            assert_eq!(names(&entries(&listing().read(&folder, 4096).unwrap())), ALL[at + 1..]);
        }
        seek(&folder, SeekFrom::Start(0)).unwrap();
        assert_eq!(names(&entries(&listing().read(&folder, 4096).unwrap())), ALL);
    }

    /// A process that ends or begins meanwhile neither hides another nor shows one twice.
    #[test]
    fn who_comes_and_goes_moves_nobody() {
        let folder = folder();
        // As far as the process 1.
        let first = entries(&listing().read(&folder, 24 * 3 + 32 + 24).unwrap());
        assert_eq!(names(&first).last(), Some(&"1"));
        let later = Listing { ids: vec![5, 4_190_000], ..listing() };
        assert_eq!(names(&entries(&later.read(&folder, 4096).unwrap())), ["5", "4190000"]);
    }

    #[test]
    fn types_are_told() {
        let all = entries(&listing().read(&folder(), 4096).unwrap());
        let types: Vec<u8> = all.iter().map(|&(_, _, kind)| kind).collect();
        let (dir, link, file) = (libc::DT_DIR, libc::DT_LNK, libc::DT_REG);
        assert_eq!(types, [dir, dir, link, file, dir, dir, dir]);
    }
}
