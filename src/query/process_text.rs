//! Properties of processes as text.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pmon_analysis::life::Program;
use pmon_core::capture::MissReason;

use crate::output::{printable, shell_words};

/// Returns the command line, as a shell would take it. If it is unknown or empty, as that of a
/// thread of the kernel, returns the name in brackets.
pub(crate) fn command_line(program: &Program, comm: Option<&[u8]>) -> String {
    let args = program.args.as_deref().filter(|args| !args.is_empty());
    let Some(args) = args else {
        return comm.map_or_else(|| "?".into(), |comm| format!("[{}]", printable(comm)));
    };
    let is_cut = program.args_len.is_some_and(|len| len > args.len() as u64);
    shell_words(program.argv()) + if is_cut { " ..." } else { "" }
}

/// Returns why texts of a program are unknown.
pub(crate) fn miss_reason(miss: MissReason) -> &'static str {
    match miss {
        MissReason::Gone => "read too late, after the end of the process",
        MissReason::Denied => "the recorder had no permission",
        MissReason::Busy => "too many programs started at once",
        MissReason::Superseded => "read too late, after another exec",
        MissReason::Unreadable => "the memory of the process was not readable",
        MissReason::TooLong => "too long",
        _ => "missed",
    }
}

/// Formats a wall-clock time in the local time zone, to the second.
pub(crate) fn clock_time(real_ns: i64, has_date: bool) -> String {
    let Ok(at) = Timestamp::from_nanosecond(real_ns.into()) else { return "?".into() };
    let format = if has_date { "%Y-%m-%d %H:%M:%S" } else { "%H:%M:%S" };
    at.to_zoned(TimeZone::system()).strftime(format).to_string()
}

/// Formats a wall-clock time in the local time zone, to the millisecond.
pub(crate) fn precise_time(real_ns: i64) -> String {
    format!("{}.{:03}", clock_time(real_ns, true), real_ns.rem_euclid(1_000_000_000) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_command_lines_are_names_in_brackets() {
        let program = |args: &[u8]| Program { args: Some(args.into()), ..Program::default() };
        assert_eq!(command_line(&program(b"a\0b c\0"), Some(b"x")), "a 'b c'");
        assert_eq!(command_line(&program(b""), Some(b"kworker/0:1")), "[kworker/0:1]");
        assert_eq!(command_line(&Program::default(), Some(b"\x1b")), "[\\x1b]");
        assert_eq!(command_line(&Program::default(), None), "?");
        let cut = Program { args_len: Some(5), ..program(b"a\0") };
        assert_eq!(command_line(&cut, None), "a ...");
    }
}
