//! Causes of signals as text.

/// Names of the causes of signals that the kernel sends, from number 1 on (`sigaction(2)`).
const CODES: [(u8, &str); 6] = [
    (4, "ILL_ILLOPC ILL_ILLOPN ILL_ILLADR ILL_ILLTRP ILL_PRVOPC ILL_PRVREG ILL_COPROC ILL_BADSTK"),
    (5, "TRAP_BRKPT TRAP_TRACE TRAP_BRANCH TRAP_HWBKPT TRAP_UNK TRAP_PERF"),
    (7, "BUS_ADRALN BUS_ADRERR BUS_OBJERR BUS_MCEERR_AR BUS_MCEERR_AO"),
    (8, "FPE_INTDIV FPE_INTOVF FPE_FLTDIV FPE_FLTOVF FPE_FLTUND FPE_FLTRES FPE_FLTINV FPE_FLTSUB"),
    (11, "SEGV_MAPERR SEGV_ACCERR SEGV_BNDERR SEGV_PKUERR"),
    (31, "SYS_SECCOMP SYS_USER_DISPATCH"),
];

/// `si_code` of a signal that `kill(2)` sends.
pub const SI_USER: i32 = 0;
/// `si_code` of a signal that the kernel sends without another cause.
pub const SI_KERNEL: i32 = 0x80;

/// Returns the name of the cause of a signal (`si_code` in `sigaction(2)`); `None` for other
/// numbers.
pub fn signal_code_name(signal: u8, code: i32) -> Option<&'static str> {
    match code {
        SI_USER => Some("SI_USER"),
        SI_KERNEL => Some("SI_KERNEL"),
        -6..0 => {
            let names = ["SI_QUEUE", "SI_TIMER", "SI_MESGQ", "SI_ASYNCIO", "SI_SIGIO", "SI_TKILL"];
            names.get(code.unsigned_abs() as usize - 1).copied()
        }
        _ => {
            let (_, names) = CODES.iter().find(|(of, _)| *of == signal)?;
            names.split(' ').nth(usize::try_from(code).ok()?.checked_sub(1)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_the_names_of_the_manual() {
        for (signal, code, name) in [
            (15, libc_code::SI_USER, "SI_USER"),
            (15, libc_code::SI_QUEUE, "SI_QUEUE"),
            (14, libc_code::SI_TIMER, "SI_TIMER"),
            (6, libc_code::SI_TKILL, "SI_TKILL"),
            (2, libc_code::SI_KERNEL, "SI_KERNEL"),
            (11, 1, "SEGV_MAPERR"),
            (11, 2, "SEGV_ACCERR"),
            (7, 2, "BUS_ADRERR"),
            (8, 1, "FPE_INTDIV"),
            (4, 2, "ILL_ILLOPN"),
            (5, 1, "TRAP_BRKPT"),
            (31, 1, "SYS_SECCOMP"),
        ] {
            assert_eq!(signal_code_name(signal, code), Some(name));
        }
    }

    /// Values of `asm-generic/siginfo.h`.
    mod libc_code {
        pub(super) const SI_USER: i32 = 0;
        pub(super) const SI_KERNEL: i32 = 128;
        pub(super) const SI_QUEUE: i32 = -1;
        pub(super) const SI_TIMER: i32 = -2;
        pub(super) const SI_TKILL: i32 = -6;
    }

    #[test]
    fn other_numbers_have_no_name() {
        for (signal, code) in [(11, 9), (9, 1), (0, 5), (255, 1), (11, -7), (11, i32::MIN), (11, i32::MAX)] {
            assert_eq!(signal_code_name(signal, code), None, "{signal} {code}");
        }
    }
}
