//! Reasons why there is no ring. `docs/transport.md` lists them; `tests/cli/refusals.rs` provokes
//! each.

use std::error::Error;
use std::{fs, io, iter};

use aya::BtfError;
use aya::maps::MapError;
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use thiserror::Error;

use super::MAX_RING_BYTES;
use crate::machine;

/// Kernels before this one charge BPF memory to the limit on locked memory; later ones charge it to
/// the memory cgroup.
const MEMORY_CGROUP: (u32, u32) = (5, 11);
/// The first kernel with BPF ring buffers.
const RING_BUFFERS: (u32, u32) = (5, 8);

/// Why there is no ring, or no ring with details. The recorder then uses the socket's queue, or a
/// ring without details.
#[derive(Debug, Error)]
pub(crate) enum RingError {
    #[error("no permission to load a BPF program: {} missing{}", all(.missing), unprivileged())]
    Privilege { missing: Vec<&'static str> },
    #[error(
        "no permission to load a BPF program from this user namespace: only capabilities of the initial one count"
    )]
    Namespace,
    #[error("{call} is refused ({source}) despite CAP_BPF and CAP_PERFMON: {} forbids it", guard())]
    Forbidden { call: &'static str, source: io::Error },
    #[error("the kernel has no bpf(2) (built without CONFIG_BPF_SYSCALL){}", hidden())]
    NoSyscall,
    #[error(
        "before Linux 5.11, BPF maps take locked memory, and its limit is {0} bytes; raise it (ulimit -l)"
    )]
    LockedMemory(u64),
    #[error(
        "the kernel does not describe its types (no /sys/kernel/btf/vmlinux): it was built without CONFIG_DEBUG_INFO_BTF, or /sys is hidden"
    )]
    NoBtf,
    #[error("cannot read the kernel's types: {0}")]
    Types(String),
    #[error("the kernel is locked down (confidentiality): a BPF program may not read its memory")]
    LockedDown,
    #[error("the kernel rejects the BPF program: {0}")]
    Refused(String),
    #[error("a ring of {0} bytes is too large; the maximum is {MAX_RING_BYTES}; use a smaller --ring")]
    TooLarge(usize),
    #[error(
        "the kernel has no memory for a ring of {size} bytes; use a smaller --ring, or raise the limit of the memory cgroup"
    )]
    NoMemory { size: u32 },
    #[error("the kernel has no BPF ring buffers: they need Linux 5.8")]
    NoRingBuffers,
    #[error("too many open files; raise the limit (ulimit -n)")]
    Files,
    #[error(
        "cannot map a ring of {size} bytes: {why}; use a smaller --ring, or raise the limit on address space (ulimit -v)"
    )]
    RingMapping { size: u32, why: String },
    #[error("cannot map the marks of the tree: {0}; raise the limit on address space (ulimit -v)")]
    Mapping(#[source] io::Error),
    #[error(
        "cannot attach the BPF program: the kernel's limit on socket options is too low; raise net.core.optmem_max (sysctl)"
    )]
    OptionMemory,
    #[error("cannot attach the BPF program: {0}")]
    Attachment(String),
    #[error("cannot use the compiled program: {0}")]
    Object(String),
    #[error("{call}: {source}{}", filtered())]
    Call { call: &'static str, source: io::Error },
    #[error("{}{}", chain(.0), filtered())]
    Map(#[from] MapError),
    #[error("the compiled program lacks {0}")]
    Incomplete(&'static str),
}

impl RingError {
    /// Explains why the kernel's types cannot be read.
    pub(super) fn of_types(error: BtfError) -> Self {
        match cause(&error).map(io::Error::kind) {
            Some(io::ErrorKind::NotFound) => Self::NoBtf,
            _ => Self::Types(chain(&error)),
        }
    }

    /// Explains why the compiled object cannot be used.
    pub(super) fn of_object(error: impl Error + 'static) -> Self {
        Self::Object(chain(&error))
    }

    /// Explains why the maps, with a ring of `size` bytes, cannot be created.
    pub(super) fn of_map(error: MapError, size: u32) -> Self {
        let is_ring = matches!(&error, MapError::CreateError { name, .. } if name == "RING");
        match cause(&error).and_then(io::Error::raw_os_error) {
            Some(libc::ENOMEM) => Self::NoMemory { size },
            Some(libc::EINVAL) if is_ring && release().is_some_and(|at| at < RING_BUFFERS) => {
                Self::NoRingBuffers
            }
            Some(errno) => Self::of_errno("bpf(2)", errno).unwrap_or(Self::Map(error)),
            None => Self::Map(error),
        }
    }

    /// Explains why a call that prepares the program failed.
    pub(super) fn of_call(call: &'static str, source: io::Error) -> Self {
        let known = source.raw_os_error().and_then(|errno| Self::of_errno("bpf(2)", errno));
        known.unwrap_or(Self::Call { call, source })
    }

    /// Explains why the kernel accepts the maps and rejects the program; `log` has the messages of
    /// the verifier. The kernel does not name the permission that a helper requires: without it,
    /// the helper is reported as unknown.
    pub(super) fn of_program(source: io::Error, log: &str) -> Self {
        let missing = missing();
        // The verifier checked the program; its refusal can be `EACCES`, too.
        let is_verdict = log.contains("processed ");
        let errno = source.raw_os_error();
        let is_denied = matches!(errno, Some(libc::EPERM | libc::EACCES));
        if !missing.is_empty() {
            Self::Privilege { missing }
        } else if (is_verdict || is_denied) && is_locked_down() {
            Self::LockedDown
        } else if is_verdict {
            Self::Refused(last_message(log))
        } else {
            let call = "BPF_PROG_LOAD";
            errno.and_then(|errno| Self::of_errno(call, errno)).unwrap_or(Self::Call { call, source })
        }
    }

    /// Explains an error that any command of `bpf(2)` can return.
    fn of_errno(call: &'static str, errno: i32) -> Option<Self> {
        match errno {
            libc::EPERM | libc::EACCES => Some(Self::denied(call, errno)),
            libc::ENOSYS => Some(Self::NoSyscall),
            libc::EMFILE | libc::ENFILE => Some(Self::Files),
            _ => None,
        }
    }

    /// Explains why a ring of `size` bytes cannot be mapped.
    pub(super) fn of_mapping(error: MapError, size: u32) -> Self {
        Self::RingMapping { size, why: chain(&error) }
    }

    /// Explains why the socket rejects the program.
    pub(super) fn of_attachment(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno @ (libc::EPERM | libc::EACCES)) => Self::denied("SO_ATTACH_BPF", errno),
            Some(libc::ENOMEM) => Self::OptionMemory,
            _ => Self::Attachment(format!("{error}{}", filtered())),
        }
    }

    /// Explains a lack of permission.
    fn denied(call: &'static str, errno: i32) -> Self {
        let missing = missing();
        if !missing.is_empty() {
            return Self::Privilege { missing };
        }
        if !machine::is_initial_namespace("user") {
            return Self::Namespace;
        }
        if let Some(limit) = getrlimit(Resource::Memlock).current
            && release().is_some_and(|at| at < MEMORY_CGROUP)
        {
            return Self::LockedMemory(limit);
        }
        Self::Forbidden { call, source: io::Error::from_raw_os_error(errno) }
    }
}

/// Returns an error and its sources.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

/// Returns the system call error that caused `error`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    causes(error).find_map(<dyn Error>::downcast_ref)
}

/// Returns a line of this process's status in `/proc`.
fn status(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

/// Returns the capabilities required by memory-reading helpers that this process lacks; none if
/// that is unknown.
fn missing() -> Vec<&'static str> {
    capabilities(None).map_or_else(|_| Vec::new(), |sets| missing_in(sets.effective))
}

fn missing_in(set: CapabilitySet) -> Vec<&'static str> {
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    let is_missing = |(bit, _): &(CapabilitySet, _)| !set.intersects(*bit | CapabilitySet::SYS_ADMIN);
    needed.into_iter().filter(is_missing).map(|(_, name)| name).collect()
}

fn all(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

/// Whether a seccomp filter checks this process's system calls.
fn has_seccomp_filter() -> bool {
    status("Seccomp:").as_deref() == Some("2")
}

/// Names the mechanism that can refuse a system call to a process with every capability.
fn guard() -> &'static str {
    if has_seccomp_filter() { "a seccomp filter, such as a container's," } else { "a security module" }
}

fn hidden() -> &'static str {
    if has_seccomp_filter() { ", or a seccomp filter, such as a container's, hides it" } else { "" }
}

fn filtered() -> &'static str {
    if has_seccomp_filter() { " (a seccomp filter is in force, and may be the cause)" } else { "" }
}

/// Returns the kernel's version.
fn release() -> Option<(u32, u32)> {
    version(rustix::system::uname().release().to_str().ok()?)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// `kernel_lockdown(7)`: the mode in force is in brackets.
fn is_locked_down() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown").is_ok_and(|modes| modes.contains("[confidentiality]"))
}

fn unprivileged() -> String {
    let setting = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or_default();
    match setting.trim() {
        "" => String::new(),
        setting => format!(" (kernel.unprivileged_bpf_disabled is {setting})"),
    }
}

/// Returns the verifier's last message that is not a statistic.
fn last_message(log: &str) -> String {
    let is_figure = |line: &str| {
        ["processed ", "verification time ", "stack depth "].iter().any(|figure| line.starts_with(figure))
    };
    let message = log.lines().map(str::trim).rfind(|line| !line.is_empty() && !is_figure(line));
    message.unwrap_or("no message").to_owned()
}

/// Returns an error and its sources as one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let text = causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
