//! The functions of the vDSO that read a clock (`vdso(7)`).
//!
//! They read the clock without a system call, so that the seccomp filter cannot intercept them. In
//! the tracee they are overwritten by code that makes the system call, as a debugger sets
//! breakpoints: the kernel gives the process its own copy of the page.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use crate::sys::errno_of;

/// Maximum bytes that are read of the image. It has two pages.
const MAX_IMAGE: usize = 1 << 16;
/// `AT_SYSINFO_EHDR`: the entry of the auxiliary vector with the address of the image.
const SYSINFO_EHDR: u64 = 33;

// Offsets in the file header, a section header, and a symbol of a 64-bit ELF file.
const SECTIONS_OFFSET: usize = 40;
const SECTION_COUNT: usize = 60;
const SECTION: usize = 64;
const SECTION_TYPE: usize = 4;
const SECTION_START: usize = 24;
const SECTION_SIZE: usize = 32;
const SECTION_LINK: usize = 40;
const SYMBOL: usize = 24;
const SYMBOL_VALUE: usize = 8;
/// Type of the section with the symbols.
const SHT_DYNSYM: u32 = 11;

/// The functions, each with the number of its system call.
#[cfg(target_arch = "x86_64")]
const FUNCTIONS: &[(&str, libc::c_long)] = &[
    ("__vdso_clock_gettime", libc::SYS_clock_gettime),
    ("__vdso_gettimeofday", libc::SYS_gettimeofday),
    ("__vdso_time", libc::SYS_time),
];
#[cfg(target_arch = "aarch64")]
const FUNCTIONS: &[(&str, libc::c_long)] =
    &[("__kernel_clock_gettime", libc::SYS_clock_gettime), ("__kernel_gettimeofday", libc::SYS_gettimeofday)];

/// Bytes to be written at an offset of the image.
type Patch = (u64, Vec<u8>);

/// Returns the machine code of a function that makes a system call with its own arguments. The
/// function repeats the call after `EINTR`, which no caller expects of it.
#[cfg(target_arch = "x86_64")]
fn system_call(nr: libc::c_long) -> Vec<u8> {
    // 0: mov $nr, %eax
    let mut code = vec![0xB8];
    code.extend((nr as u32).to_le_bytes());
    code.extend([0x0F, 0x05]); // syscall
    code.extend([0x48, 0x83, 0xF8, 0xFC]); // cmp $-EINTR, %rax
    code.extend([0x74, 0xF3]); // je 0
    code.push(0xC3); // ret
    code
}

/// Returns the machine code of a function that makes a system call with its own arguments. The
/// function repeats the call after `EINTR`, which no caller expects of it.
#[cfg(target_arch = "aarch64")]
fn system_call(nr: libc::c_long) -> Vec<u8> {
    let words = [
        0xD503_245F,                    // bti c
        0xAA00_03E9,                    // mov x9, x0
        0xAA09_03E0,                    // 0: mov x0, x9
        0xD280_0008 | (nr as u32) << 5, // mov x8, #nr
        0xD400_0001,                    // svc #0
        0xB100_101F,                    // cmn x0, #EINTR
        0x54FF_FF80,                    // b.eq 0
        0xD65F_03C0,                    // ret
    ];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Overwrites the functions in a task's memory, unless that was done before. `is_alive` returns
/// whether the task is still the one that is meant: its id may have been reused.
///
/// Does nothing if the task has no vDSO. `ENOEXEC` if the functions are not found.
pub(crate) fn patch(task: u32, is_alive: impl FnOnce() -> bool) -> Result<(), Errno> {
    let path = format!("/proc/{task}/mem");
    let memory = File::options().read(true).write(true).open(path).map_err(|error| errno_of(&error))?;
    let auxv = fs::read(format!("/proc/{task}/auxv")).map_err(|error| errno_of(&error))?;
    if !is_alive() {
        return Ok(());
    }
    let Some(address) = image_address(&auxv) else { return Ok(()) };
    let mut image = vec![0; MAX_IMAGE];
    let len = memory.read_at(&mut image, address).map_err(|error| errno_of(&error))?;
    for (offset, code) in patches(&image[..len]).ok_or(Errno::NOEXEC)? {
        let at = offset as usize;
        if image.get(at..at + code.len()) != Some(&*code) {
            memory.write_all_at(&code, address + offset).map_err(|error| errno_of(&error))?;
        }
    }
    Ok(())
}

/// Returns the address of the vDSO from an auxiliary vector; `None` if there is no vDSO.
fn image_address(auxv: &[u8]) -> Option<u64> {
    let mut entries = auxv.chunks_exact(16).map(|entry| (u64_at(entry, 0), u64_at(entry, 8)));
    entries.find(|&(kind, _)| kind == Some(SYSINFO_EHDR))?.1.filter(|&address| address != 0)
}

/// Returns a patch for each function that the image has; `None` if the image has no symbols, or no
/// room for a patch.
fn patches(image: &[u8]) -> Option<Vec<Patch>> {
    let section = |index: usize| {
        let at = usize::try_from(u64_at(image, SECTIONS_OFFSET)?).ok()?.checked_add(index * SECTION)?;
        image.get(at..at.checked_add(SECTION)?)
    };
    let content = |section: &[u8]| {
        let start = usize::try_from(u64_at(section, SECTION_START)?).ok()?;
        image.get(start..start.checked_add(usize::try_from(u64_at(section, SECTION_SIZE)?).ok()?)?)
    };
    let count =
        image.get(SECTION_COUNT..SECTION_COUNT + 2)?.first_chunk().copied().map(u16::from_ne_bytes)?;
    let mut sections = (0..count.into()).filter_map(section);
    let symbols = sections.find(|section| u32_at(section, SECTION_TYPE) == Some(SHT_DYNSYM))?;
    let names = content(section(u32_at(symbols, SECTION_LINK)? as usize)?)?;
    let mut found = Vec::new();
    for symbol in content(symbols)?.chunks_exact(SYMBOL) {
        let name = names.get(u32_at(symbol, 0)? as usize..)?.split(|&byte| byte == 0).next()?;
        let Some(&(_, nr)) = FUNCTIONS.iter().find(|(function, _)| function.as_bytes() == name) else {
            continue;
        };
        let (offset, size) = (u64_at(symbol, SYMBOL_VALUE)?, u64_at(symbol, SYMBOL_VALUE + 8)?);
        let code = system_call(nr);
        let end = usize::try_from(offset).ok()?.checked_add(code.len())?;
        if size < code.len() as u64 || end > image.len() {
            return None;
        }
        found.push((offset, code));
    }
    Some(found)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the vDSO of this process; `None` if it has none.
    fn own_image() -> Option<Vec<u8>> {
        let address = image_address(&fs::read("/proc/self/auxv").unwrap())?;
        let mut image = vec![0; MAX_IMAGE];
        let len = File::open("/proc/self/mem").unwrap().read_at(&mut image, address).unwrap();
        image.truncate(len);
        Some(image)
    }

    #[test]
    fn all_functions_of_this_kernel_are_found() {
        let Some(image) = own_image() else { return };
        let patches = patches(&image).expect("symbols");
        assert_eq!(patches.len(), FUNCTIONS.len(), "{patches:x?}");
        let code: Vec<_> = FUNCTIONS.iter().map(|&(_, nr)| system_call(nr)).collect();
        assert!(patches.iter().all(|(_, patch)| code.contains(patch)));
    }

    #[test]
    fn an_incomplete_image_is_refused() {
        let Some(image) = own_image() else { return };
        for len in 0..image.len() {
            let found = patches(&image[..len]).unwrap_or_default();
            assert!(found.iter().all(|(offset, code)| *offset as usize + code.len() <= len), "{len}");
        }
        assert_eq!(patches(&[]), None);
        assert_eq!(patches(&[0xFF; 4096]), None);
    }

    #[test]
    fn the_address_is_that_of_the_auxiliary_vector() {
        let auxv = |entries: &[u64]| entries.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(image_address(&auxv(&[3, 64, SYSINFO_EHDR, 4096, 0, 0])), Some(4096));
        assert_eq!(image_address(&auxv(&[3, 64, SYSINFO_EHDR, 0, 0, 0])), None);
        assert_eq!(image_address(&auxv(&[3, 64])), None);
        assert_eq!(image_address(&[33, 0, 0]), None);
    }
}
