//! Conditions on the end of a process.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::wait_status::{WaitStatus, signal_name, signal_number};

/// A condition on the end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndCondition {
    /// The process returned this exit code.
    Code(u8),
    /// This signal killed the process.
    Signal(u8),
    /// The process returned another exit code than 0, or a signal killed it.
    Failed,
    /// A signal killed the process.
    Killed,
    /// The OOM killer killed the process.
    OomKilled,
}

/// A text is no condition on the end of a process.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("use an exit code from 0 to 255, a signal such as SIGSEGV or SIG34, `failed`, `killed` or `oom`")]
pub struct EndConditionError;

impl EndCondition {
    /// Returns whether a process that ended with this status satisfies the condition; `None` if
    /// that is unknown. `oom_killed` is whether the OOM killer killed the process, if that is
    /// known.
    pub fn decide(self, status: WaitStatus, oom_killed: Option<bool>) -> Option<bool> {
        Some(match (self, status) {
            (Self::Code(code), WaitStatus::Exited(own)) => code == own,
            (Self::Signal(signal), WaitStatus::Killed { signal: own, .. }) => signal == own,
            (Self::Failed, status) => !status.is_success(),
            (Self::Killed, WaitStatus::Killed { .. }) => true,
            (Self::OomKilled, WaitStatus::Killed { .. }) => return oom_killed,
            (Self::Code(_), WaitStatus::Killed { .. })
            | (Self::Signal(_) | Self::Killed | Self::OomKilled, WaitStatus::Exited(_)) => false,
        })
    }
}

impl FromStr for EndCondition {
    type Err = EndConditionError;

    fn from_str(text: &str) -> Result<Self, EndConditionError> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return text.parse().map(Self::Code).or(Err(EndConditionError));
        }
        match text {
            "failed" => Ok(Self::Failed),
            "killed" => Ok(Self::Killed),
            "oom" => Ok(Self::OomKilled),
            // A real-time signal has a number instead of a name.
            name => name
                .strip_prefix("SIG")
                .and_then(|number| number.parse().ok())
                .filter(|number| (1..=64).contains(number))
                .or_else(|| signal_number(name))
                .map(Self::Signal)
                .ok_or(EndConditionError),
        }
    }
}

impl fmt::Display for EndCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => f.write_str(name),
                None => write!(f, "SIG{signal}"),
            },
            Self::Failed => f.write_str("failed"),
            Self::Killed => f.write_str("killed"),
            Self::OomKilled => f.write_str("oom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_written() {
        for (text, condition) in [
            ("0", EndCondition::Code(0)),
            ("255", EndCondition::Code(255)),
            ("SIGSEGV", EndCondition::Signal(11)),
            ("SIG34", EndCondition::Signal(34)),
            ("failed", EndCondition::Failed),
            ("killed", EndCondition::Killed),
            ("oom", EndCondition::OomKilled),
        ] {
            assert_eq!(text.parse(), Ok(condition));
            assert_eq!(condition.to_string(), text);
        }
        assert_eq!("segv".parse(), Ok(EndCondition::Signal(11)));
        for wrong in ["", "256", "-1", "1x", "SIG0", "SIG65", "SIGFOO", "ok"] {
            assert_eq!(wrong.parse::<EndCondition>(), Err(EndConditionError), "{wrong}");
        }
    }

    #[test]
    fn each_condition_selects_its_statuses() {
        let statuses = [0, 1 << 8, 2 << 8, 9, 11 | 0x80].map(WaitStatus::from_raw);
        for (condition, expected) in [
            (EndCondition::Code(0), [true, false, false, false, false]),
            (EndCondition::Code(2), [false, false, true, false, false]),
            (EndCondition::Code(9), [false; 5]),
            (EndCondition::Signal(11), [false, false, false, false, true]),
            (EndCondition::Signal(2), [false; 5]),
            (EndCondition::Failed, [false, true, true, true, true]),
            (EndCondition::Killed, [false, false, false, true, true]),
        ] {
            for oom_killed in [None, Some(true), Some(false)] {
                let decisions = statuses.map(|status| condition.decide(status, oom_killed));
                assert_eq!(decisions, expected.map(Some), "{condition}");
            }
        }
    }

    #[test]
    fn an_oom_kill_is_unknown_unless_it_was_observed() {
        let decide = |raw, oom| EndCondition::OomKilled.decide(WaitStatus::from_raw(raw), oom);
        for oom in [None, Some(true), Some(false)] {
            assert_eq!(decide(9, oom), oom);
            assert_eq!((decide(0, oom), decide(9 << 8, oom)), (Some(false), Some(false)));
        }
    }
}
