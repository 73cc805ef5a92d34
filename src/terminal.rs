//! Output for people: lines on standard error, colours, progress bars, and numbers as text.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write, stderr, stdout};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pmon_record::startup;
use rustix::io::Errno;
use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar as _;

use crate::exit::{self, Failure};

/// Begins text about a failure.
pub(crate) const RED: &str = "\x1b[31m";
/// Begins less important text.
pub(crate) const DIM: &str = "\x1b[2m";
/// Ends coloured text.
pub(crate) const PLAIN: &str = "\x1b[0m";

/// Minimum size in bytes of a file that gets a progress bar.
const MIN_BAR_BYTES: u64 = 32 << 20;
/// Minimum number of events that get a progress bar.
const MIN_BAR_EVENTS: u64 = 2_000_000;

/// Writes a line to standard error, and ignores a failure.
pub(crate) fn eprintln(line: impl Display) {
    let _ = writeln!(stderr().lock(), "{line}");
}

/// Returns standard output, for text.
///
/// # Errors
/// Fails if standard output was closed before pmon started, because writes to it would be
/// discarded without an error.
pub(crate) fn output() -> Result<Stdout, Failure> {
    if startup::is_stdout_closed() {
        return Err(Failure::output(io::Error::from(Errno::BADF)));
    }
    Ok(stdout())
}

/// Returns an error if standard output is a terminal, to which `verb` would write a capture.
pub(crate) fn refuse_capture(verb: &str) -> Result<(), Failure> {
    if !stdout().is_terminal() {
        return Ok(());
    }
    Err(Failure::new(
        exit::USAGE,
        format_args!(
            "cannot write a capture to a terminal, because it is binary; use a pipe: `pmon {verb} -o - | pmon print -`"
        ),
    ))
}

/// Prints text to standard output. A closed pipe is not an error.
pub(crate) fn print(text: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), Failure> {
    let mut out = output()?.lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).or_else(Failure::unless_closed)
}

/// Whether standard output is a terminal that supports colours, and `NO_COLOR` is not set.
pub(crate) fn colours() -> bool {
    let is_disabled = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stdout().is_terminal() && !is_disabled && !is_dumb
}

/// Returns the number of columns to which lines on standard output are cut, as ps(1) does: the
/// value of the variable `COLUMNS`, or else the width of the terminal. `None` without both.
pub(crate) fn output_width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.filter(|&columns| columns > 0).or_else(screen_width)
}

/// Returns the number of columns of standard output, if it is a terminal.
pub(crate) fn screen_width() -> Option<usize> {
    tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Returns the number of rows of standard output, if it is a terminal.
pub(crate) fn output_height() -> Option<usize> {
    tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_row)).filter(|&rows| rows > 0)
}

/// Returns the number of columns of standard error, if it is a terminal.
pub(crate) fn width() -> Option<usize> {
    tcgetwinsize(stderr()).ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Cuts a line to the width of the terminal in columns, if it is known.
pub(crate) fn cut(line: &str, width: Option<usize>) -> &str {
    // No character has more columns than bytes.
    let Some(width) = width.filter(|&width| width < line.len()) else { return line };
    let mut columns = 0;
    let is_beyond = |&(_, c): &(usize, char)| {
        columns += char_width(c);
        columns > width
    };
    match line.char_indices().find(is_beyond) {
        Some((end, _)) => &line[..end],
        None => line,
    }
}

/// Returns the number of columns of a text.
pub(crate) fn text_width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char_width).sum() }
}

/// Returns the maximum number of columns of a character. Terminals differ in whether they join the
/// characters of a sequence, so each one counts.
fn char_width(c: char) -> usize {
    match c {
        // This selector can make the character before it wide.
        '\u{fe0f}' => 1,
        c => c.width().unwrap_or(0),
    }
}

/// Maximum number of spaces before or after a cell of a table, except on a terminal, whose width is
/// the limit. A cell that is wider is shown in full.
const MAX_PADDING: usize = 250;

/// Returns the width of a column of a table with these cells.
pub(crate) fn cell_width<'a>(cells: impl IntoIterator<Item = &'a str>) -> usize {
    cells.into_iter().map(|cell| text_width(cell).min(MAX_PADDING)).max().unwrap_or(0)
}

/// Appends a cell of a table that has this width.
pub(crate) fn push_cell(line: &mut String, cell: &str, width: usize, is_number: bool) {
    let padding = " ".repeat(width.saturating_sub(text_width(cell)));
    let (before, after) = if is_number { (&*padding, "") } else { ("", &*padding) };
    line.extend([before, cell, after]);
}

/// Creates a progress bar for reading this many bytes. The bar is hidden if they are few or
/// standard error is not a terminal.
pub(crate) fn reading_bar(bytes: u64) -> ProgressBar {
    bar(bytes >= MIN_BAR_BYTES, Some(bytes), "reading {wide_bar} {bytes}/{total_bytes} {eta}")
}

/// Creates a progress bar for generating this many events. The bar is hidden if they are few or
/// standard error is not a terminal.
pub(crate) fn event_bar(events: u64) -> ProgressBar {
    bar(events >= MIN_BAR_EVENTS, Some(events), "making {wide_bar} {human_pos}/{human_len} {eta}")
}

/// Creates a status line, which is cut to the width of the terminal. The line is hidden unless it
/// is enabled and standard error is a terminal.
pub(crate) fn status_bar(is_enabled: bool) -> ProgressBar {
    bar(is_enabled, None, "{wide_msg}")
}

fn bar(is_enabled: bool, length: Option<u64>, template: &str) -> ProgressBar {
    if !is_enabled || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_style(style)
}

/// Formats a number with thousands separators: `12,345,678`.
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Formats a number with its unit: `1 gap`, `2,000 gaps`, `3 processes`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    let plural = if what.ends_with(['s', 'h']) { "es" } else { "s" };
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { plural })
}

/// Appends a number in decimal.
pub(crate) fn push_number(out: &mut String, number: impl itoa::Integer) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// Formats a number of bytes with a binary unit: `8.84 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut text = String::new();
    push_size(&mut text, bytes);
    text
}

/// Appends the text that [`size`] returns. Numbers that are no multiple of the unit have two
/// decimals, rounded half to even.
pub(crate) fn push_size(out: &mut String, bytes: u64) {
    const UNITS: [&str; 7] = [" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];
    let unit = bytes.checked_ilog2().unwrap_or(0) / 10;
    let (whole, rest) = (bytes >> (10 * unit), bytes & ((1 << (10 * unit)) - 1));
    if rest == 0 {
        push_number(out, whole);
    } else {
        let (scaled, divisor) = (u128::from(bytes) * 100, 1_u128 << (10 * unit));
        // The divisor is a power of two; a division of such integers takes much longer.
        let (down, left) = ((scaled >> (10 * unit)) as u64, scaled & (divisor - 1));
        let is_up = 2 * left > divisor || 2 * left == divisor && down % 2 == 1;
        let hundredths = down + u64::from(is_up);
        push_number(out, hundredths / 100);
        out.push_str(if hundredths % 100 < 10 { ".0" } else { "." });
        push_number(out, hundredths % 100);
    }
    out.push_str(UNITS[unit as usize]);
}

/// Returns the bytes per event, rounded to two decimals; `None` without events.
pub(crate) fn per_event(bytes: u64, events: u64) -> Option<f64> {
    (events > 0).then(|| (bytes as f64 / events as f64 * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_thousands_separators() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn sizes_have_two_decimals_unless_they_are_whole() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1025, "1.00 KiB"),
            (1029, "1.00 KiB"),
            (1030, "1.01 KiB"),
            // Exactly 1.125 and 1.375.
            (1152, "1.12 KiB"),
            (1408, "1.38 KiB"),
            (9056, "8.84 KiB"),
            ((1 << 20) - 1, "1024.00 KiB"),
            (5 << 20, "5 MiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn units_are_plural_unless_the_number_is_one() {
        assert_eq!(counted(0, "gap"), "0 gaps");
        assert_eq!(counted(1, "gap"), "1 gap");
        assert_eq!(counted(2000, "gap"), "2,000 gaps");
        assert_eq!([counted(2, "process"), counted(2, "match")], ["2 processes", "2 matches"]);
    }

    #[test]
    fn lines_are_cut_between_characters() {
        assert_eq!(cut("größe", Some(3)), "grö");
        assert_eq!(cut("größe", Some(5)), "größe");
        assert_eq!(cut("größe", None), "größe");
    }

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        assert_eq!(cut("日本語", Some(4)), "日本");
        assert_eq!(cut("日本語", Some(5)), "日本");
        assert_eq!(cut("日本語", Some(6)), "日本語");
        assert_eq!(cut("e\u{301}e\u{301}x", Some(2)), "e\u{301}e\u{301}");
        // A terminal that does not join these shows two persons.
        assert_eq!(cut("👩\u{200d}👩x", Some(4)), "👩\u{200d}👩");
        assert_eq!(cut("❤\u{fe0f}x", Some(2)), "❤\u{fe0f}");
        assert_eq!((text_width("größe"), text_width("日x"), text_width("")), (5, 3, 0));
        let mut line = String::new();
        push_cell(&mut line, "日本", cell_width(["日本", "abcde"]), false);
        assert_eq!(line, "日本 ");
    }

    #[test]
    fn bytes_per_event_are_rounded() {
        assert_eq!(per_event(10, 3), Some(3.33));
        assert_eq!(per_event(10, 0), None);
    }
}
