//! The structs of `stat`, `statx` and `statfs` for files in the tracee's `/proc`, in their binary
//! form.
//!
//! The content of `/proc/PID/stat` does not come from here; see `pmon_replay`.

use rustix::fs::{major, minor};

/// The type of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcFileType {
    File,
    Directory,
    Link,
}

/// The reported attributes of a file.
pub(crate) struct FileAttributes {
    pub(crate) ino: u64,
    pub(crate) device: u64,
    pub(crate) file_type: ProcFileType,
    /// User and group id.
    pub(crate) owner: (u32, u32),
    /// All time stamps, in seconds since 1970: the current time, as procfs creates inodes on
    /// access.
    pub(crate) time: u64,
}

impl FileAttributes {
    fn mode(&self) -> u32 {
        match self.file_type {
            ProcFileType::File => libc::S_IFREG | 0o444,
            ProcFileType::Directory => libc::S_IFDIR | 0o555,
            ProcFileType::Link => libc::S_IFLNK | 0o777,
        }
    }

    fn links(&self) -> u32 {
        if self.file_type == ProcFileType::Directory { 2 } else { 1 }
    }
}

/// A C struct, initially all zeros.
struct RawStruct<const N: usize>([u8; N]);

impl<const N: usize> RawStruct<N> {
    fn put<const M: usize>(mut self, at: usize, value: [u8; M]) -> Self {
        self.0[at..at + M].copy_from_slice(&value);
        self
    }
}

/// Encodes `struct stat`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn stat(attributes: &FileAttributes) -> Vec<u8> {
    RawStruct([0; 144])
        .put(0, attributes.device.to_ne_bytes())
        .put(8, attributes.ino.to_ne_bytes())
        .put(16, u64::from(attributes.links()).to_ne_bytes())
        .put(24, attributes.mode().to_ne_bytes())
        .put(28, attributes.owner.0.to_ne_bytes())
        .put(32, attributes.owner.1.to_ne_bytes())
        .put(56, 1024_u64.to_ne_bytes())
        .put(72, attributes.time.to_ne_bytes())
        .put(88, attributes.time.to_ne_bytes())
        .put(104, attributes.time.to_ne_bytes())
        .0
        .into()
}

/// Encodes `struct stat`.
#[cfg(target_arch = "aarch64")]
pub(crate) fn stat(attributes: &FileAttributes) -> Vec<u8> {
    RawStruct([0; 128])
        .put(0, attributes.device.to_ne_bytes())
        .put(8, attributes.ino.to_ne_bytes())
        .put(16, attributes.mode().to_ne_bytes())
        .put(20, attributes.links().to_ne_bytes())
        .put(24, attributes.owner.0.to_ne_bytes())
        .put(28, attributes.owner.1.to_ne_bytes())
        .put(56, 1024_u32.to_ne_bytes())
        .put(72, attributes.time.to_ne_bytes())
        .put(88, attributes.time.to_ne_bytes())
        .put(104, attributes.time.to_ne_bytes())
        .0
        .into()
}

/// Encodes `struct statx`.
pub(crate) fn statx(attributes: &FileAttributes) -> Vec<u8> {
    /// `STATX_BASIC_STATS`.
    const BASIC: u32 = 0x7FF;
    RawStruct([0; 256])
        .put(0, BASIC.to_ne_bytes())
        .put(4, 1024_u32.to_ne_bytes())
        .put(16, attributes.links().to_ne_bytes())
        .put(20, attributes.owner.0.to_ne_bytes())
        .put(24, attributes.owner.1.to_ne_bytes())
        .put(28, (attributes.mode() as u16).to_ne_bytes())
        .put(32, attributes.ino.to_ne_bytes())
        .put(64, attributes.time.to_ne_bytes())
        .put(96, attributes.time.to_ne_bytes())
        .put(112, attributes.time.to_ne_bytes())
        .put(136, major(attributes.device).to_ne_bytes())
        .put(140, minor(attributes.device).to_ne_bytes())
        .0
        .into()
}

/// `struct statfs` of `/proc`: `PROC_SUPER_MAGIC`, the two block sizes, and the maximum name
/// length.
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

    const ATTRIBUTES: FileAttributes = FileAttributes {
        ino: 0x1122_3344_5566,
        device: 0x2_0000_0305,
        file_type: ProcFileType::Directory,
        owner: (1000, 100),
        time: 1_767_225_600,
    };

    fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
        let mut number = [0; 8];
        number[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(number)
    }

    /// Each field has the offset and the width of the C library's struct.
    #[test]
    #[cfg(target_endian = "little")]
    fn stat_is_that_of_the_c_library() {
        let bytes = stat(&ATTRIBUTES);
        assert_eq!(bytes.len(), size_of::<libc::stat>());
        macro_rules! check {
            ($($field:ident: $ty:ty = $value:expr;)*) => {
                $({
                    // Compiles only if the field has this type.
                    let _: fn(&libc::stat) -> $ty = |stat| stat.$field;
                    assert_eq!(number(&bytes, offset_of!(libc::stat, $field), size_of::<$ty>()), $value, stringify!($field));
                })*
            };
        }
        check! {
            st_dev: libc::dev_t = ATTRIBUTES.device;
            st_ino: libc::ino_t = ATTRIBUTES.ino;
            st_nlink: libc::nlink_t = 2;
            st_mode: libc::mode_t = u64::from(libc::S_IFDIR | 0o555);
            st_uid: libc::uid_t = 1000;
            st_gid: libc::gid_t = 100;
            st_rdev: libc::dev_t = 0;
            st_size: libc::off_t = 0;
            st_blksize: libc::blksize_t = 1024;
            st_blocks: libc::blkcnt_t = 0;
            st_atime: libc::time_t = ATTRIBUTES.time;
            st_mtime: libc::time_t = ATTRIBUTES.time;
            st_ctime: libc::time_t = ATTRIBUTES.time;
            st_mtime_nsec: libc::c_long = 0;
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn statx_matches_the_struct_of_libc() {
        use libc::statx as Statx;
        let bytes = statx(&ATTRIBUTES);
        assert_eq!(bytes.len(), size_of::<Statx>());
        let at = |offset, len| number(&bytes, offset, len);
        assert_eq!(at(offset_of!(Statx, stx_mask), 4), u64::from(libc::STATX_BASIC_STATS));
        assert_eq!(at(offset_of!(Statx, stx_blksize), 4), 1024);
        assert_eq!(at(offset_of!(Statx, stx_nlink), 4), 2);
        assert_eq!(at(offset_of!(Statx, stx_uid), 4), 1000);
        assert_eq!(at(offset_of!(Statx, stx_gid), 4), 100);
        assert_eq!(at(offset_of!(Statx, stx_mode), 2), u64::from(libc::S_IFDIR | 0o555));
        assert_eq!(at(offset_of!(Statx, stx_ino), 8), ATTRIBUTES.ino);
        assert_eq!(at(offset_of!(Statx, stx_size), 8), 0);
        for field in
            [offset_of!(Statx, stx_atime), offset_of!(Statx, stx_mtime), offset_of!(Statx, stx_ctime)]
        {
            assert_eq!(at(field, 8), ATTRIBUTES.time);
        }
        assert_eq!(at(offset_of!(Statx, stx_btime), 8), 0);
        assert_eq!(at(offset_of!(Statx, stx_dev_major), 4), u64::from(major(ATTRIBUTES.device)));
        assert_eq!(at(offset_of!(Statx, stx_dev_minor), 4), u64::from(minor(ATTRIBUTES.device)));
    }

    /// The remaining fields are counters.
    #[test]
    fn statfs_matches_the_kernels_procfs() {
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
