//! Wait statuses as text.

use std::fmt;

use pmon_core::capture::FatalSignal;

/// Number of the signal `SIGKILL`.
const SIGKILL: u8 = 9;

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

    /// Returns the raw wait status.
    pub fn raw(self) -> u32 {
        match self {
            Self::Exited(code) => u32::from(code) << 8,
            Self::Killed { signal, core } => u32::from(signal) | if core { 0x80 } else { 0 },
        }
    }

    /// Returns the status in at most 15 characters: `exit 3`, `SIGSEGV core`.
    pub fn short(self) -> String {
        match self {
            Self::Exited(code) => format!("exit {code}"),
            Self::Killed { signal, core } => {
                let name = signal_name(signal).map_or_else(|| format!("SIG{signal}"), str::to_owned);
                format!("{name}{}", if core { " core" } else { "" })
            }
        }
    }

    /// Returns whether the OOM killer killed the process; `None` if that is unknown. `signal` is
    /// what was recorded of the signal.
    pub fn is_oom_kill(self, signal: Option<&FatalSignal>) -> Option<bool> {
        match self {
            // The OOM killer sends no other signal.
            Self::Killed { signal: SIGKILL, .. } => signal?.is_oom_kill(),
            Self::Exited(_) | Self::Killed { .. } => Some(false),
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

/// Returns the number of a signal with this name, in any case and with or without `SIG`. Returns
/// `None` for real-time signals.
pub fn signal_number(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    (1..=64).find(|&number| signal_name(number).and_then(|of| of.strip_prefix("SIG")) == Some(short))
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
    fn short_statuses_fit_a_column() {
        let texts =
            (0..=255).flat_map(|low| [low, low | 3 << 8]).map(|raw| WaitStatus::from_raw(raw).short());
        assert!(texts.clone().all(|text| text.len() <= 15));
        let shown = [0, 9, 11 | 0x80, 34].map(|raw| WaitStatus::from_raw(raw).short());
        assert_eq!(shown, ["exit 0", "SIGKILL", "SIGSEGV core", "SIG34"]);
    }

    #[test]
    fn the_raw_status_is_the_original() {
        for raw in [0, 3 << 8, 255 << 8, 9, 11 | 0x80, 0x7e] {
            assert_eq!(WaitStatus::from_raw(raw).raw(), raw);
        }
    }

    #[test]
    fn names_of_signals_have_numbers() {
        for signal in 1..=31 {
            assert_eq!(signal_number(signal_name(signal).unwrap()), Some(signal));
        }
        assert_eq!(
            (signal_number("segv"), signal_number("SIGRTMIN"), signal_number("")),
            (Some(11), None, None)
        );
    }

    #[test]
    fn the_oom_killer_kills_with_one_signal() {
        let of = |raw, oom_victim| {
            let signal = FatalSignal { oom_victim, ..FatalSignal::default() };
            WaitStatus::from_raw(raw).is_oom_kill(Some(&signal))
        };
        for oom_victim in [None, Some(true), Some(false)] {
            assert_eq!(of(9, oom_victim), oom_victim);
            for raw in [0, 9 << 8, 11, 15] {
                assert_eq!(of(raw, oom_victim), Some(false));
            }
        }
        assert_eq!(WaitStatus::from_raw(9).is_oom_kill(None), None);
    }

    #[test]
    fn only_exit_code_0_is_success() {
        assert!(WaitStatus::from_raw(0).is_success());
        assert!(!WaitStatus::from_raw(1 << 8).is_success());
        assert!(!WaitStatus::from_raw(15).is_success());
    }
}
