//! The memory of a task that made a call.

use pmon_core::wire::u64_at;
use rustix::io::Errno;

use crate::sys;

/// Maximum bytes that are read of one argument.
const MAX_ARGUMENT: usize = 1 << 20;
/// Size of `struct msghdr`.
pub(crate) const MSGHDR: usize = 56;
/// Size of `struct mmsghdr`: a `struct msghdr`, then the length that was transferred.
pub(crate) const MMSGHDR: u64 = 64;
/// Size of `struct cmsghdr`.
pub(crate) const CMSGHDR: usize = 16;
/// Maximum number of buffers of a message, and of messages of a call.
pub(crate) const UIO_MAXIOV: u64 = 1024;
/// The offset with which `preadv2` and `pwritev2` are `readv` and `writev`.
pub(crate) const NO_OFFSET: u64 = u64::MAX;
const PATH_MAX: usize = 4096;
const PAGE: u64 = 4096;

/// The memory of the task with this thread id.
#[derive(Clone, Copy)]
pub(crate) struct TraceeMemory(pub(crate) u32);

impl TraceeMemory {
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
        let mut bytes = vec![0; len.min(MAX_ARGUMENT)];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads a path, without the zero byte at its end.
    pub(crate) fn path(self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut path = Vec::new();
        let mut at = address;
        while path.len() < PATH_MAX {
            // The page after the path's end may not be mapped: one read stays within a page.
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

    /// Writes `bytes` into these buffers (address, length), one after the other.
    pub(crate) fn scatter(self, bytes: &[u8], buffers: &[(u64, usize)]) -> Result<(), Errno> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = sys::write_memory(self.0, bytes, buffers)?;
        if written < bytes.len() { Err(Errno::FAULT) } else { Ok(()) }
    }

    /// Reads an array of `struct iovec` as (address, length).
    pub(crate) fn iovecs(self, address: u64, count: u64) -> Result<Vec<(u64, usize)>, Errno> {
        if count > UIO_MAXIOV {
            return Err(Errno::INVAL);
        }
        let bytes = self.vec(address, count as usize * 16)?;
        let buffers = bytes.chunks_exact(16).map(|buffer| (u64_at(buffer, 0), u64_at(buffer, 8)));
        buffers
            .map(|(at, len)| if len > i64::MAX as u64 { Err(Errno::INVAL) } else { Ok((at, len as usize)) })
            .collect()
    }

    /// Reads the content of these buffers, at most [`MAX_ARGUMENT`] bytes.
    pub(crate) fn gather(self, buffers: &[(u64, usize)]) -> Result<Vec<u8>, Errno> {
        let mut all = Vec::new();
        for &(at, len) in buffers {
            let room = MAX_ARGUMENT.saturating_sub(all.len());
            all.extend(self.vec(at, len.min(room))?);
        }
        Ok(all)
    }
}

/// Returns the length of a buffer; `EINVAL` if it is negative.
pub(crate) fn checked_len(len: u32) -> Result<usize, Errno> {
    if len > i32::MAX as u32 { Err(Errno::INVAL) } else { Ok(len as usize) }
}
