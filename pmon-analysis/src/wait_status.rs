//! Wait statuses as text.

use std::fmt;

/// How a task ended, decoded from its raw wait status (`wait(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitStatus {
    /// The task exited with this code.
    Exited(u8),
    /// A signal killed the task.
    Killed {
        /// Signal number.
        signal: u8,
        /// Whether the process dumped core.
        core: bool,
    },
}

impl WaitStatus {
    /// Decodes a raw wait status, the field `exit_code` of an exit event.
    pub fn from_raw(raw: u32) -> Self {
        match (raw & 0x7f) as u8 {
            0 => Self::Exited((raw >> 8) as u8),
            signal => Self::Killed { signal, core: raw & 0x80 != 0 },
        }
    }

    /// Returns whether the task exited with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Killed { signal, core } => {
                match signal_name(signal) {
                    Some(name) => write!(f, "killed by {name}")?,
                    None => write!(f, "killed by signal {signal}")?,
                }
                f.write_str(if core { " (core dumped)" } else { "" })
            }
        }
    }
}

/// Returns the name of a signal (`signal(7)`, with the numbers of x86, Arm and RISC-V). Returns
/// `None` for invalid numbers, and for real-time signals, whose names differ between C libraries.
pub fn signal_name(signal: u8) -> Option<&'static str> {
    const NAMES: &str = "SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV \
        SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN \
        SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS";
    NAMES.split(' ').nth(usize::from(signal).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_as_text() {
        let text = |raw| WaitStatus::from_raw(raw).to_string();
        assert_eq!(text(0), "exit 0");
        assert_eq!(text(3 << 8), "exit 3");
        assert_eq!(text(255 << 8), "exit 255");
        assert_eq!(text(9), "killed by SIGKILL");
        assert_eq!(text(11 | 0x80), "killed by SIGSEGV (core dumped)");
        assert_eq!(text(31), "killed by SIGSYS");
        assert_eq!(text(34), "killed by signal 34");
        assert_eq!(text(u32::MAX), "killed by signal 127 (core dumped)");
    }

    #[test]
    fn only_exit_code_0_is_success() {
        assert!(WaitStatus::from_raw(0).is_success());
        assert!(!WaitStatus::from_raw(1 << 8).is_success());
        assert!(!WaitStatus::from_raw(15).is_success());
    }
}
