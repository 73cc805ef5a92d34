//! Why there is no ring.

use std::error::Error;
use std::fs;
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

/// Bits of `CapEff` (`capabilities(7)`).
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Why there is no ring, or none with details. The socket then has its own queue only, or the ring has only events.
#[derive(Debug, Error)]
pub(crate) enum RingError {
    #[error("no permission to load a BPF program: it takes CAP_BPF and CAP_PERFMON{}", unprivileged())]
    Privilege,
    #[error("BPF maps take locked memory, of which there may be too little (ulimit -l)")]
    LockedMemory,
    #[error("the kernel does not describe its types (no /sys/kernel/btf/vmlinux)")]
    NoBtf,
    #[error("the kernel is locked down (confidentiality): a BPF program may not read its memory")]
    LockedDown,
    #[error("the kernel does not take the BPF program: {0}")]
    Refused(String),
    #[error("no such cgroup of version 2: {0}")]
    Cgroup(#[source] io::Error),
    #[error("{}", chain(.0))]
    Load(#[from] EbpfError),
    #[error("{}", chain(.0))]
    Program(#[from] ProgramError),
    #[error("{}", chain(.0))]
    Map(#[from] MapError),
    #[error("the compiled program lacks {0}")]
    Incomplete(&'static str),
}

impl RingError {
    /// Why the maps, or the program's places in the kernel's structures, could not be had.
    pub(super) fn of_object(error: EbpfError) -> Self {
        match is_permission(&error) {
            // Until 5.11.
            true if may_read_kernel() => Self::LockedMemory,
            true => Self::Privilege,
            false => Self::Load(error),
        }
    }

    /// Why the kernel took the maps and not the program. It does not say which permission a helper takes: to somebody without, it
    /// is as unknown as to an old kernel.
    pub(super) fn of_program(error: ProgramError) -> Self {
        if is_locked_down() {
            return Self::LockedDown;
        }
        if !may_read_kernel() || !is_verdict(&error) && is_permission(&error) {
            return Self::Privilege;
        }
        match &error {
            ProgramError::LoadError { verifier_log, .. } => {
                Self::Refused(last_words(&verifier_log.to_string()))
            }
            _ => Self::Program(error),
        }
    }
}

/// Whether the verifier has looked at the program: its refusal is EACCES, too.
fn is_verdict(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { verifier_log, .. } if verifier_log.to_string().contains("processed "))
}

/// Whether at the bottom of it there is a lack of permission.
fn is_permission(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::PermissionDenied;
        }
        next = error.source();
    }
    false
}

/// Whether this process has what the helpers take that read memory; also `true` where that cannot be told.
fn may_read_kernel() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_none_or(may)
}

fn may(set: u64) -> bool {
    set & CAP_SYS_ADMIN != 0 || set & (CAP_BPF | CAP_PERFMON) == CAP_BPF | CAP_PERFMON
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

/// What the verifier says at last, but for its figures.
fn last_words(log: &str) -> String {
    let is_figure = |line: &str| {
        ["processed ", "verification time ", "stack depth "].iter().any(|figure| line.starts_with(figure))
    };
    let words = log.lines().map(str::trim).rfind(|line| !line.is_empty() && !is_figure(line));
    words.unwrap_or("it does not say why").to_owned()
}

/// An error with all that is below it, in a line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_words_are_what_it_objects_to() {
        let log = "0: R1=ctx()\n7: (85) call unknown#4\ninvalid func unknown#4\nverification time 5 usec\n\
                   stack depth 0\nprocessed 8 insns (limit 1000000) max_states_per_insn 0\n\n";
        assert_eq!(last_words(log), "invalid func unknown#4");
        assert_eq!(last_words(""), "it does not say why");
    }

    #[test]
    fn either_capability_alone_is_not_enough() {
        assert!(may(CAP_SYS_ADMIN) && may(CAP_BPF | CAP_PERFMON));
        assert!(!may(CAP_BPF) && !may(CAP_PERFMON) && !may(0));
    }

    #[test]
    fn an_error_is_one_line() {
        let error = io::Error::other("one\n  two\n");
        assert_eq!(chain(&error), "one two");
    }
}
