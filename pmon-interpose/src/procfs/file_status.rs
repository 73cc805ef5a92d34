//! What `stat` tells of a file in `/proc`, as the program's machine has it in memory.

use rustix::fs::{major, minor};

/// Of what kind a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
}

/// A file, as far as anything of it is told.
pub(crate) struct Shown {
    pub(crate) ino: u64,
    pub(crate) device: u64,
    pub(crate) kind: Kind,
    /// User and group.
    pub(crate) owner: (u32, u32),
    /// When it was last changed, in seconds since 1970: now, as for any file that is made when somebody looks.
    pub(crate) time: u64,
}

impl Shown {
    fn mode(&self) -> u32 {
        match self.kind {
            Kind::File => libc::S_IFREG | 0o444,
            Kind::Directory => libc::S_IFDIR | 0o555,
            Kind::Link => libc::S_IFLNK | 0o777,
        }
    }

    fn links(&self) -> u32 {
        if self.kind == Kind::Directory { 2 } else { 1 }
    }
}

/// Bytes of a C struct, of which all others are zero.
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Bytes<N> {
    fn put<const M: usize>(mut self, at: usize, value: [u8; M]) -> Self {
        self.0[at..at + M].copy_from_slice(&value);
        self
    }
}

/// `struct stat`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn stat(shown: &Shown) -> [u8; 144] {
    Bytes([0; 144])
        .put(0, shown.device.to_ne_bytes())
        .put(8, shown.ino.to_ne_bytes())
        .put(16, u64::from(shown.links()).to_ne_bytes())
        .put(24, shown.mode().to_ne_bytes())
        .put(28, shown.owner.0.to_ne_bytes())
        .put(32, shown.owner.1.to_ne_bytes())
        .put(56, 1024_u64.to_ne_bytes())
        .put(72, shown.time.to_ne_bytes())
        .put(88, shown.time.to_ne_bytes())
        .put(104, shown.time.to_ne_bytes())
        .0
}

/// `struct stat`.
#[cfg(target_arch = "aarch64")]
pub(crate) fn stat(shown: &Shown) -> [u8; 128] {
    Bytes([0; 128])
        .put(0, shown.device.to_ne_bytes())
        .put(8, shown.ino.to_ne_bytes())
        .put(16, shown.mode().to_ne_bytes())
        .put(20, shown.links().to_ne_bytes())
        .put(24, shown.owner.0.to_ne_bytes())
        .put(28, shown.owner.1.to_ne_bytes())
        .put(56, 1024_u32.to_ne_bytes())
        .put(72, shown.time.to_ne_bytes())
        .put(88, shown.time.to_ne_bytes())
        .put(104, shown.time.to_ne_bytes())
        .0
}

/// `struct statx`.
pub(crate) fn statx(shown: &Shown) -> [u8; 256] {
    /// `STATX_BASIC_STATS`.
    const BASIC: u32 = 0x7FF;
    Bytes([0; 256])
        .put(0, BASIC.to_ne_bytes())
        .put(4, 1024_u32.to_ne_bytes())
        .put(16, shown.links().to_ne_bytes())
        .put(20, shown.owner.0.to_ne_bytes())
        .put(24, shown.owner.1.to_ne_bytes())
        .put(28, (shown.mode() as u16).to_ne_bytes())
        .put(32, shown.ino.to_ne_bytes())
        .put(64, shown.time.to_ne_bytes())
        .put(96, shown.time.to_ne_bytes())
        .put(112, shown.time.to_ne_bytes())
        .put(136, major(shown.device).to_ne_bytes())
        .put(140, minor(shown.device).to_ne_bytes())
        .0
}

/// `struct statfs` of `/proc`: `PROC_SUPER_MAGIC`, two sizes of blocks, and the longest name.
pub(crate) const STATFS: [u8; 120] = {
    let mut bytes = [0; 120];
    let words: [(usize, u64); 4] = [(0, 0x9FA0), (8, 4096), (64, 255), (72, 4096)];
    let mut at = 0;
    while at < words.len() {
        let value = words[at].1.to_ne_bytes();
        let mut byte = 0;
        while byte < 8 {
            bytes[words[at].0 + byte] = value[byte];
            byte += 1;
        }
        at += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    const SHOWN: Shown = Shown {
        ino: 0x1122_3344_5566,
        device: 0x2_0000_0305,
        kind: Kind::Directory,
        owner: (1000, 100),
        time: 1_767_225_600,
    };

    fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
        let mut number = [0; 8];
        number[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(number)
    }

    /// Each number is where the C library looks for it, and as wide.
    #[test]
    #[cfg(target_endian = "little")]
    fn stat_is_that_of_the_c_library() {
        let bytes = stat(&SHOWN);
        assert_eq!(bytes.len(), size_of::<libc::stat>());
        macro_rules! check {
            ($($field:ident: $ty:ty = $value:expr;)*) => {
                $({
                    // Of another width, this does not compile.
                    let _: fn(&libc::stat) -> $ty = |stat| stat.$field;
                    assert_eq!(number(&bytes, offset_of!(libc::stat, $field), size_of::<$ty>()), $value, stringify!($field));
                })*
            };
        }
        check! {
            st_dev: libc::dev_t = SHOWN.device;
            st_ino: libc::ino_t = SHOWN.ino;
            st_nlink: libc::nlink_t = 2;
            st_mode: libc::mode_t = u64::from(libc::S_IFDIR | 0o555);
            st_uid: libc::uid_t = 1000;
            st_gid: libc::gid_t = 100;
            st_rdev: libc::dev_t = 0;
            st_size: libc::off_t = 0;
            st_blksize: libc::blksize_t = 1024;
            st_blocks: libc::blkcnt_t = 0;
            st_atime: libc::time_t = SHOWN.time;
            st_mtime: libc::time_t = SHOWN.time;
            st_ctime: libc::time_t = SHOWN.time;
            st_mtime_nsec: libc::c_long = 0;
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn statx_is_that_of_the_c_library() {
        use libc::statx as Statx;
        let bytes = statx(&SHOWN);
        assert_eq!(bytes.len(), size_of::<Statx>());
        let at = |offset, len| number(&bytes, offset, len);
        assert_eq!(at(offset_of!(Statx, stx_mask), 4), u64::from(libc::STATX_BASIC_STATS));
        assert_eq!(at(offset_of!(Statx, stx_blksize), 4), 1024);
        assert_eq!(at(offset_of!(Statx, stx_nlink), 4), 2);
        assert_eq!(at(offset_of!(Statx, stx_uid), 4), 1000);
        assert_eq!(at(offset_of!(Statx, stx_gid), 4), 100);
        assert_eq!(at(offset_of!(Statx, stx_mode), 2), u64::from(libc::S_IFDIR | 0o555));
        assert_eq!(at(offset_of!(Statx, stx_ino), 8), SHOWN.ino);
        assert_eq!(at(offset_of!(Statx, stx_size), 8), 0);
        for field in
            [offset_of!(Statx, stx_atime), offset_of!(Statx, stx_mtime), offset_of!(Statx, stx_ctime)]
        {
            assert_eq!(at(field, 8), SHOWN.time);
        }
        assert_eq!(at(offset_of!(Statx, stx_btime), 8), 0);
        assert_eq!(at(offset_of!(Statx, stx_dev_major), 4), u64::from(major(SHOWN.device)));
        assert_eq!(at(offset_of!(Statx, stx_dev_minor), 4), u64::from(minor(SHOWN.device)));
    }

    /// As of the kernel's own, but for what it has counted.
    #[test]
    fn statfs_is_that_of_proc() {
        let bytes = STATFS;
        assert_eq!(bytes.len(), size_of::<libc::statfs>());
        let real = rustix::fs::statfs("/proc").unwrap();
        let at = |offset: usize| u64::from_ne_bytes(*bytes[offset..].first_chunk().unwrap());
        assert_eq!(at(offset_of!(libc::statfs, f_type)), real.f_type as u64);
        assert_eq!(at(offset_of!(libc::statfs, f_bsize)), real.f_bsize as u64);
        assert_eq!(at(offset_of!(libc::statfs, f_namelen)), real.f_namelen as u64);
        assert_eq!(at(offset_of!(libc::statfs, f_frsize)), real.f_frsize as u64);
    }
}
