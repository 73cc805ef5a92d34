//! Takes the descriptors that a process receives at its start: from a service manager by
//! `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` (`sd_listen_fds(3)`), and from the previous
//! program of the process by `PMON_HANDOVER`.

use std::env;
use std::os::fd::{OwnedFd, RawFd};

use super::sys;

/// Variable that names the descriptors of the previous program: `PID NAME=NUMBER ...`.
pub(super) const HANDOVER: &str = "PMON_HANDOVER";
/// Number of the first descriptor that a service manager passes.
const FIRST: RawFd = 3;
/// Maximum number of descriptors of a service manager.
const MAX: i32 = 4096;

/// Takes each descriptor with its name, and sets it to be closed by an exec. Another call returns
/// none.
pub(super) fn take() -> Vec<(String, OwnedFd)> {
    let value = |name| env::var(name).unwrap_or_default();
    let numbers = from_previous_program(&value(HANDOVER), std::process::id());
    let from_manager = from_service_manager(
        [&value("LISTEN_PID"), &value("LISTEN_FDS"), &value("LISTEN_FDNAMES")],
        std::process::id(),
    );
    sys::take_descriptors(
        numbers.into_iter().chain(from_manager).collect(),
        &[HANDOVER, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"],
    )
}

/// Returns the names and numbers in `PMON_HANDOVER`, if the variable is meant for the process
/// `pid`.
fn from_previous_program(value: &str, pid: u32) -> Vec<(String, RawFd)> {
    let mut words = value.split(' ');
    if words.next().and_then(|word| word.parse().ok()) != Some(pid) {
        return Vec::new();
    }
    let named = |word: &str| {
        let (name, number) = word.split_once('=')?;
        let number = number.parse().ok().filter(|number| *number >= FIRST)?;
        Some((name.to_owned(), number))
    };
    words.filter_map(named).collect()
}

/// Returns the names and numbers in a service manager's variables, if they are meant for the
/// process `pid`.
fn from_service_manager([listener, count, names]: [&str; 3], pid: u32) -> Vec<(String, RawFd)> {
    if listener.parse() != Ok(pid) {
        return Vec::new();
    }
    let count = count.parse::<i32>().unwrap_or(0).clamp(0, MAX);
    let names = names.split(':').chain(std::iter::repeat("unknown"));
    (FIRST..FIRST + count).zip(names).map(|(number, name)| (name.to_owned(), number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_this_process() {
        let manager = |values| from_service_manager(values, 7);
        let named = |name: &str, number| (name.to_owned(), number);
        assert_eq!(manager(["7", "2", "pmon.ring:x"]), [named("pmon.ring", 3), named("x", 4)]);
        assert_eq!(manager(["7", "2", "pmon.ring"]), [named("pmon.ring", 3), named("unknown", 4)]);
        for other in [["8", "2", "a:b"], ["", "2", "a:b"], ["7", "", "a"], ["7", "-1", "a"], ["7", "x", ""]] {
            assert_eq!(manager(other), []);
        }
        assert_eq!(manager(["7", "2147483647", ""]).len(), MAX as usize);
    }

    #[test]
    fn the_previous_programs_descriptors_are_parsed_or_ignored() {
        let previous = |value| from_previous_program(value, 7);
        assert_eq!(
            previous("7 pmon.ring=12 pmon.state=5"),
            [("pmon.ring".into(), 12), ("pmon.state".into(), 5)]
        );
        assert_eq!(previous("7 pmon.ring=2 a=-1 b c= =x"), []);
        assert_eq!([previous("8 a=5"), previous(""), previous("a=5")], [vec![], vec![], vec![]]);
    }
}
