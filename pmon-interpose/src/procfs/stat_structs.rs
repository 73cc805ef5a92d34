//! The structs of `stat`, `statx` and `statfs` for files in the tracee's `/proc`, in their binary
//! form.
//!
//! The content of `/proc/PID/stat` does not come from here; see `pmon_replay`.

use std::mem::{offset_of, size_of};

use libc::{blksize_t, nlink_t, statx as Statx};
use rustix::fs::{major, minor};

/// Preferred size of reads in the kernel's procfs.
const BLOCK_SIZE: u32 = 1024;

/// The reported attributes of a file.
pub(crate) struct FileAttributes {
    pub(crate) ino: u64,
    pub(crate) device: u64,
    /// Type and permissions.
    pub(crate) mode: u32,
    /// User and group id.
    pub(crate) owner: (u32, u32),
    /// All time stamps, in seconds since 1970: the current time, as procfs creates inodes on
    /// access.
    pub(crate) time: u64,
}

impl FileAttributes {
    fn links(&self) -> u32 {
        if self.mode & libc::S_IFMT == libc::S_IFDIR { 2 } else { 1 }
    }
}

/// A C struct, initially all zeros.
struct RawStruct(Vec<u8>);

impl RawStruct {
    fn new<T>() -> Self {
        Self(vec![0; size_of::<T>()])
    }

    fn put<const N: usize>(mut self, at: usize, value: [u8; N]) -> Self {
        self.0[at..at + N].copy_from_slice(&value);
        self
    }
}

/// Encodes `struct stat`.
pub(crate) fn stat(attributes: &FileAttributes) -> Vec<u8> {
    RawStruct::new::<libc::stat>()
        .put(offset_of!(libc::stat, st_dev), attributes.device.to_ne_bytes())
        .put(offset_of!(libc::stat, st_ino), attributes.ino.to_ne_bytes())
        .put(offset_of!(libc::stat, st_nlink), nlink_t::from(attributes.links()).to_ne_bytes())
        .put(offset_of!(libc::stat, st_mode), attributes.mode.to_ne_bytes())
        .put(offset_of!(libc::stat, st_uid), attributes.owner.0.to_ne_bytes())
        .put(offset_of!(libc::stat, st_gid), attributes.owner.1.to_ne_bytes())
        .put(offset_of!(libc::stat, st_blksize), (BLOCK_SIZE as blksize_t).to_ne_bytes())
        .put(offset_of!(libc::stat, st_atime), attributes.time.to_ne_bytes())
        .put(offset_of!(libc::stat, st_mtime), attributes.time.to_ne_bytes())
        .put(offset_of!(libc::stat, st_ctime), attributes.time.to_ne_bytes())
        .0
}

/// Encodes the `struct stat64` of 32-bit programs on x86-64 (`arch/x86/include/asm/sys_ia32.h`).
/// The inode number fits into a short `ino_t`, as in the kernel's procfs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn stat_i386(attributes: &FileAttributes) -> Vec<u8> {
    let FileAttributes { ino, device, mode, owner, time } = *attributes;
    let (ino, time) = ((ino as u32).to_ne_bytes(), (time as u32).to_ne_bytes());
    RawStruct(vec![0; 96])
        .put(0, device.to_ne_bytes())
        .put(12, ino)
        .put(16, mode.to_ne_bytes())
        .put(20, attributes.links().to_ne_bytes())
        .put(24, owner.0.to_ne_bytes())
        .put(28, owner.1.to_ne_bytes())
        .put(52, BLOCK_SIZE.to_ne_bytes())
        .put(64, time)
        .put(72, time)
        .put(80, time)
        .put(88, ino)
        .0
}

/// Encodes `struct statx`.
pub(crate) fn statx(attributes: &FileAttributes) -> Vec<u8> {
    RawStruct::new::<Statx>()
        .put(offset_of!(Statx, stx_mask), libc::STATX_BASIC_STATS.to_ne_bytes())
        .put(offset_of!(Statx, stx_blksize), BLOCK_SIZE.to_ne_bytes())
        .put(offset_of!(Statx, stx_nlink), attributes.links().to_ne_bytes())
        .put(offset_of!(Statx, stx_uid), attributes.owner.0.to_ne_bytes())
        .put(offset_of!(Statx, stx_gid), attributes.owner.1.to_ne_bytes())
        .put(offset_of!(Statx, stx_mode), (attributes.mode as u16).to_ne_bytes())
        .put(offset_of!(Statx, stx_ino), attributes.ino.to_ne_bytes())
        .put(offset_of!(Statx, stx_atime), attributes.time.to_ne_bytes())
        .put(offset_of!(Statx, stx_ctime), attributes.time.to_ne_bytes())
        .put(offset_of!(Statx, stx_mtime), attributes.time.to_ne_bytes())
        .put(offset_of!(Statx, stx_dev_major), major(attributes.device).to_ne_bytes())
        .put(offset_of!(Statx, stx_dev_minor), minor(attributes.device).to_ne_bytes())
        .0
}

/// Encodes `struct statfs` of `/proc`.
pub(crate) fn statfs() -> Vec<u8> {
    RawStruct::new::<libc::statfs>()
        .put(offset_of!(libc::statfs, f_type), libc::PROC_SUPER_MAGIC.to_ne_bytes())
        .put(offset_of!(libc::statfs, f_bsize), 4096_u64.to_ne_bytes())
        .put(offset_of!(libc::statfs, f_namelen), 255_u64.to_ne_bytes())
        .put(offset_of!(libc::statfs, f_frsize), 4096_u64.to_ne_bytes())
        .0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTES: FileAttributes = FileAttributes {
        ino: 0x1122_3344_5566,
        device: 0x2_0000_0305,
        mode: libc::S_IFDIR | 0o555,
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

    /// The offsets are those of `struct stat64` in `arch/x86/include/asm/sys_ia32.h`.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn stat_of_32_bit_programs_is_that_of_the_kernel() {
        let bytes = stat_i386(&ATTRIBUTES);
        assert_eq!(bytes.len(), 96);
        let fields =
            [(0, 8), (12, 4), (16, 4), (20, 4), (24, 4), (28, 4), (32, 8), (44, 8), (52, 4), (56, 8)];
        assert_eq!(
            fields.map(|(at, len)| number(&bytes, at, len)),
            [0x2_0000_0305, 0x3344_5566, u64::from(libc::S_IFDIR | 0o555), 2, 1000, 100, 0, 0, 1024, 0]
        );
        let times = [(64, 4), (68, 4), (72, 4), (76, 4), (80, 4), (84, 4), (88, 8)];
        let time = ATTRIBUTES.time;
        assert_eq!(times.map(|(at, len)| number(&bytes, at, len)), [time, 0, time, 0, time, 0, 0x3344_5566]);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn statx_matches_the_struct_of_libc() {
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
        let bytes = statfs();
        assert_eq!(bytes.len(), size_of::<libc::statfs>());
        let real = rustix::fs::statfs("/proc").unwrap();
        let at = |offset: usize| u64::from_ne_bytes(*bytes[offset..].first_chunk().unwrap());
        assert_eq!(at(offset_of!(libc::statfs, f_type)), real.f_type as u64);
        assert_eq!(at(offset_of!(libc::statfs, f_bsize)), real.f_bsize as u64);
        assert_eq!(at(offset_of!(libc::statfs, f_namelen)), real.f_namelen as u64);
        assert_eq!(at(offset_of!(libc::statfs, f_frsize)), real.f_frsize as u64);
    }
}
