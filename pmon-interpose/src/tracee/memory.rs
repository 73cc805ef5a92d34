//! The memory of a task that made a call.

use rustix::io::Errno;

use crate::sys;
use crate::tracee::abi::Abi;

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
pub(crate) const PAGE: u64 = 4096;
/// Maximum bytes that a call transfers (`MAX_RW_COUNT`).
const MAX_RW_COUNT: usize = 0x7FFF_F000;
/// End of the address space of a program (`TASK_SIZE_MAX`).
const USER_END: u64 = if cfg!(target_arch = "x86_64") { 0x7FFF_FFFF_F000 } else { 1 << 48 };
/// Size of the native `struct iovec`.
const IOVEC: usize = 16;
/// Number of buffers that are read without an allocation.
const FEW_BUFFERS: usize = 8;

/// The buffers of a call (address, length), in an address space.
pub(crate) enum Buffers {
    One([(u64, usize); 1]),
    Many(Vec<(u64, usize)>),
}

impl Buffers {
    /// One buffer of `read` or `write`, whose length is not limited before its address is checked.
    pub(crate) fn of_file_call(address: u64, len: u64) -> Result<Self, Errno> {
        check_range(address, len)?;
        Ok(Self::One([(address, (len as usize).min(MAX_RW_COUNT))]))
    }

    /// One buffer of `recvfrom` or `sendto`, or of a vector of one buffer (`import_ubuf`).
    pub(crate) fn one(address: u64, len: u64) -> Result<Self, Errno> {
        let len = len.min(MAX_RW_COUNT as u64);
        check_range(address, len)?;
        Ok(Self::One([(address, len as usize)]))
    }

    /// Checks the addresses of several buffers and limits the sum of their lengths
    /// (`__import_iovec`).
    fn many(mut buffers: Vec<(u64, usize)>) -> Result<Self, Errno> {
        let mut room = MAX_RW_COUNT;
        for (address, len) in &mut buffers {
            check_range(*address, *len as u64)?;
            *len = (*len).min(room);
            room -= *len;
        }
        Ok(Self::Many(buffers))
    }

    pub(crate) fn as_slice(&self) -> &[(u64, usize)] {
        match self {
            Self::One(buffer) => buffer,
            Self::Many(buffers) => buffers,
        }
    }

    /// Returns the sum of the lengths.
    pub(crate) fn len(&self) -> usize {
        self.as_slice().iter().map(|&(_, len)| len).sum()
    }
}

/// Checks that a range of addresses is within the address space of a program (`access_ok`). The
/// kernel checks that before it receives or sends; whether the memory is mapped, only when it
/// copies.
pub(crate) fn check_range(address: u64, len: u64) -> Result<(), Errno> {
    match address.checked_add(len) {
        Some(..=USER_END) => Ok(()),
        _ => Err(Errno::FAULT),
    }
}

/// The memory of a task.
#[derive(Clone, Copy)]
pub(crate) struct TraceeMemory {
    /// Thread id of the task.
    task: u32,
    /// The ABI of its call, on which the layout of structs depends.
    pub(crate) abi: Abi,
}

impl TraceeMemory {
    /// Returns the memory of a task that has made a native call.
    pub(crate) fn of(task: u32) -> Self {
        Self::with_abi(task, Abi::Native)
    }

    pub(crate) fn with_abi(task: u32, abi: Abi) -> Self {
        Self { task, abi }
    }

    /// Fills all of `buffer`.
    pub(crate) fn read(self, address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let read = if buffer.is_empty() { 0 } else { sys::read_memory(self.task, address, buffer)? };
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
        let written = sys::write_memory(self.task, bytes, buffers)?;
        if written < bytes.len() { Err(Errno::FAULT) } else { Ok(()) }
    }

    /// Reads an array of `struct iovec` (`import_iovec`).
    pub(crate) fn buffers(self, address: u64, count: u64) -> Result<Buffers, Errno> {
        if count > UIO_MAXIOV {
            return Err(Errno::INVAL);
        }
        let (mut few, mut many) = ([0; FEW_BUFFERS * IOVEC], Vec::new());
        let len = self.abi.iovec_len();
        let size = count as usize * len;
        let bytes = few.get_mut(..size).unwrap_or_else(|| {
            many.resize(size, 0);
            &mut many
        });
        let read = if size == 0 { 0 } else { sys::read_memory(self.task, address, bytes)? };
        // The kernel reads one buffer after the other: a wrong length comes before a fault.
        let buffers = bytes.chunks_exact(len).zip((len..).step_by(len)).map(|(buffer, end)| {
            let (address, len) = self.abi.iovec(buffer);
            match usize::try_from(len) {
                _ if end > read => Err(Errno::FAULT),
                Ok(len) => Ok((address, len)),
                Err(_negative) => Err(Errno::INVAL),
            }
        });
        match count {
            1 => buffers.map(|buffer| buffer.and_then(|(at, len)| Buffers::one(at, len as u64))).last(),
            _ => Some(buffers.collect::<Result<_, _>>().and_then(Buffers::many)),
        }
        .unwrap_or(Err(Errno::INVAL))
    }

    /// Reads the content of these buffers.
    pub(crate) fn gather(self, buffers: &Buffers) -> Result<Vec<u8>, Errno> {
        let mut all = vec![0; buffers.len()];
        let mut rest = &mut *all;
        for &(at, len) in buffers.as_slice() {
            let (part, others) = rest.split_at_mut(len);
            self.read(at, part)?;
            rest = others;
        }
        Ok(all)
    }
}
