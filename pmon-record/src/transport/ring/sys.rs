//! Memory that is mapped from files, values of BPF maps, and `bpf(2)`.

use std::ffi::CStr;
use std::fs::{self, File};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU8;
use std::{io, slice};

use aya::Pod;
use aya_obj::Function;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};

/// Bytes of one value of the map `TREE` (`struct slab`).
pub(crate) const SLAB: u32 = 64;

// Bits of the level of the verifier's log (`linux/bpf_verifier.h`).
const LOG_MESSAGES: u32 = 1;
const LOG_STATISTICS: u32 = 4;

/// Numbers of a CPU's events that are not in the ring: `struct counts`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SkippedCounts {
    pub(crate) spilled: u64,
    pub(crate) dropped: u64,
    pub(crate) excluded: u64,
}

// SAFETY: the fields are numbers without padding, so any bytes are a value.
unsafe impl Pod for SkippedCounts {}

/// Memory that is mapped from a file.
pub(crate) struct Mapping {
    first: NonNull<u8>,
    len: usize,
}

// SAFETY: the address of the mapping does not depend on the thread, and `Mapping` itself does not
// access the memory.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file.
    ///
    /// # Errors
    /// As `mmap(2)`.
    fn new(file: BorrowedFd<'_>, len: usize, access: libc::c_int, sharing: libc::c_int) -> io::Result<Self> {
        // SAFETY: the kernel chooses an address that is free; nothing else is changed.
        let address = unsafe { libc::mmap(null_mut(), len, access, sharing, file.as_raw_fd(), 0) };
        match NonNull::new(address.cast()) {
            Some(first) if address != libc::MAP_FAILED => Ok(Self { first, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference to it outlives the value.
        unsafe {
            libc::munmap(self.first.as_ptr().cast(), self.len);
        }
    }
}

/// The memory of the map `TREE`, shared with the BPF program: one byte per process id.
pub(crate) struct Marks(Mapping);

impl Marks {
    /// Maps the first `len` bytes of an array map that was created with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub(crate) fn map(array: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Mapping::new(array, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED).map(Self)
    }

    /// Returns the byte of a process id; `None` if it is beyond the map.
    pub(crate) fn of(&self, pid: u32) -> Option<&AtomicU8> {
        let at = usize::try_from(pid).ok().filter(|at| *at < self.0.len)?;
        // SAFETY: the mapping has `len` bytes from `first` on, lives as long as `self`, and any
        // byte is an `AtomicU8`.
        Some(unsafe { self.0.first.cast::<AtomicU8>().add(at).as_ref() })
    }
}

/// The bytes of a kernel file that never changes.
pub(crate) enum ConstantFile {
    Mapped(Mapping),
    Copied(Vec<u8>),
}

impl ConstantFile {
    /// Maps the file, or reads it where the kernel cannot map it.
    ///
    /// # Errors
    /// If the file cannot be opened or read.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len() as usize;
        let mapping = Mapping::new(file.as_fd(), len, libc::PROT_READ, libc::MAP_PRIVATE);
        mapping.map(Self::Mapped).or_else(|_| Ok(Self::Copied(fs::read(path)?)))
    }
}

impl Deref for ConstantFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            // SAFETY: the mapping has `len` readable bytes from `first` on, lives as long as
            // `self`, and never changes.
            Self::Mapped(mapping) => unsafe { slice::from_raw_parts(mapping.first.as_ptr(), mapping.len) },
            Self::Copied(bytes) => bytes,
        }
    }
}

/// Loads an object's types.
pub(super) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.__bindgen_anon_7.btf = btf.as_ptr() as u64;
    attributes.__bindgen_anon_7.btf_size = btf.len() as u32;
    // SAFETY: `btf` is borrowed until the call returns, which is the descriptor that the command
    // creates.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(bpf_cmd::BPF_BTF_LOAD, attributes)?)) }
}

/// Sets the only value of a map of constants, and makes it read-only.
pub(super) fn set_constants(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let (key, mut attributes) = (0_u32, attributes());
    // SAFETY: all fields of the union are numbers.
    let element = unsafe { &mut attributes.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = &raw const key as u64;
    element.__bindgen_anon_1.value = value.as_ptr() as u64;
    // SAFETY: the kernel reads the key and a value of the size with which the map was created from
    // the same object; both are borrowed until the call returns.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, attributes) }?;
    attributes = self::attributes();
    attributes.__bindgen_anon_2.map_fd = map.as_raw_fd() as u32;
    // SAFETY: the attributes have no pointer.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, attributes) }?;
    Ok(())
}

/// Loads a program, and writes the verifier's messages to `log` unless it is empty.
pub(super) fn load_program(
    kind: bpf_prog_type,
    license: &CStr,
    code: &Function,
    btf: Option<BorrowedFd<'_>>,
    traced_function: u32,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let (functions, lines) = (code.func_info.func_info_bytes(), code.line_info.line_info_bytes());
    let mut attributes = attributes();
    // SAFETY: all fields of the union are numbers.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.insns = code.instructions.as_ptr() as u64;
    load.insn_cnt = code.instructions.len() as u32;
    load.license = license.as_ptr() as u64;
    // The last byte of the name stays zero.
    for (to, byte) in load.prog_name[..15].iter_mut().zip(code.name.bytes()) {
        *to = byte as libc::c_char;
    }
    if let Some(btf) = btf {
        load.prog_btf_fd = btf.as_raw_fd() as u32;
        load.func_info = functions.as_ptr() as u64;
        load.func_info_cnt = code.func_info.len() as u32;
        load.func_info_rec_size = code.func_info_rec_size as u32;
        load.line_info = lines.as_ptr() as u64;
        load.line_info_cnt = code.line_info.len() as u32;
        load.line_info_rec_size = code.line_info_rec_size as u32;
    }
    if traced_function != 0 {
        load.expected_attach_type = bpf_attach_type::BPF_TRACE_FENTRY as u32;
        load.attach_btf_id = traced_function;
    }
    if !log.is_empty() {
        load.log_level = LOG_MESSAGES | LOG_STATISTICS;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
    }
    // SAFETY: the kernel reads the instructions, the license, and the records of functions and
    // lines, and writes to the log; each has the length beside its pointer and outlives the call,
    // which returns the descriptor that it creates.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(bpf_cmd::BPF_PROG_LOAD, attributes)?)) }
}

/// Attaches a program to a raw tracepoint, or to the function with which it was loaded. The program
/// stays attached until the returned descriptor is closed.
pub(super) fn attach_tracer(program: BorrowedFd<'_>, tracepoint: Option<&CStr>) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.raw_tracepoint.name = tracepoint.map_or(0, |name| name.as_ptr() as u64);
    attributes.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    // SAFETY: the name outlives the call, which returns the descriptor that the command creates.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, attributes)?)) }
}

/// Returns attributes of `bpf(2)` that are all zero.
fn attributes() -> bpf_attr {
    // SAFETY: the union consists of numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// Calls `bpf(2)`, and returns what it returns.
///
/// # Safety
///
/// The pointers in the attributes are valid for the command.
unsafe fn bpf(command: bpf_cmd, mut attributes: bpf_attr) -> io::Result<RawFd> {
    // SAFETY: by the caller; the attributes outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut attributes, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
