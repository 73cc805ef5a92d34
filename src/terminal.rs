//! What is said to people: lines on standard error, colours, bars.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write, stderr, stdout};

use indicatif::{ProgressBar, ProgressStyle};
use pmon_record::startup;
use rustix::io::Errno;

use crate::exit::Failure;

/// Minimum size in bytes of a file that gets a bar.
const WORTH_A_BAR: u64 = 32 << 20;
/// Minimum number of events that gets a bar.
const WORTH_A_BAR_OF_EVENTS: u64 = 2_000_000;

/// Writes a line to standard error. A failure is ignored.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(stderr().lock(), "{line}");
}

/// Returns standard output, for text.
///
/// # Errors
/// When it was closed before pmon was started. Writes to it would be discarded without an error.
pub(crate) fn output() -> Result<Stdout, Failure> {
    if startup::is_stdout_closed() {
        return Err(Failure::output(io::Error::from(Errno::BADF)));
    }
    Ok(stdout())
}

/// Prints text to standard output. A closed pipe is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = output()?.lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).or_else(Failure::unless_closed)
}

/// Whether standard output takes colours: a terminal, and no `NO_COLOR`.
pub(crate) fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stdout().is_terminal() && !refused && !dumb
}

/// Creates a bar for reading this many bytes; hidden if they are few or standard error is no
/// terminal.
pub(crate) fn reading_bar(bytes: u64) -> ProgressBar {
    if bytes < WORTH_A_BAR || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("reading {wide_bar} {bytes}/{total_bytes} {eta}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Creates a bar for making this many events; hidden if they are few or standard error is no
/// terminal.
pub(crate) fn event_bar(events: u64) -> ProgressBar {
    if events < WORTH_A_BAR_OF_EVENTS || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("making {wide_bar} {human_pos}/{human_len} {eta}");
    ProgressBar::new(events).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Creates a status line; hidden unless it is `wanted` and standard error is a terminal.
pub(crate) fn status_bar(wanted: bool) -> ProgressBar {
    if !wanted || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

/// `12,345,678`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 gap`, `2,000 gaps`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Bytes at a glance.
pub(crate) fn size(bytes: u64) -> String {
    humansize::format_size(bytes, humansize::BINARY)
}

/// Bytes per event, to two digits.
pub(crate) fn per_event(bytes: u64, events: u64) -> Option<f64> {
    (events > 0).then(|| (bytes as f64 / events as f64 * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_groups() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn one_and_more() {
        assert_eq!(counted(0, "gap"), "0 gaps");
        assert_eq!(counted(1, "gap"), "1 gap");
        assert_eq!(counted(2000, "gap"), "2,000 gaps");
    }

    #[test]
    fn bytes_per_event() {
        assert_eq!(per_event(10, 3), Some(3.33));
        assert_eq!(per_event(10, 0), None);
    }
}
