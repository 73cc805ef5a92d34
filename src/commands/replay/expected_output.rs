//! Compares the output of a program with the expected output (`replay --expect`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use similar::TextDiff;

use crate::exit::{self, Failure, OrFail as _};
use crate::input::shown;
use crate::output::harmless;
use crate::terminal;

/// Number of equal lines printed around each difference.
const CONTEXT_LINES: usize = 3;
/// Maximum number of lines of a difference that are printed.
const MAX_LINES: usize = 500;
/// Maximum number of characters of each line.
const MAX_COLUMNS: usize = 500;

/// The file with the expected output of a program.
pub(super) struct ExpectedOutput {
    path: PathBuf,
    /// The expected output; `None` if the file is to be written.
    expected: Option<Vec<u8>>,
}

/// The result of `--expect`. Its name is part of the JSON interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectResult {
    Matched,
    Differs,
    /// The output was written to the file (`--update`).
    Written,
    /// The output was not written to the file, because the run is no test.
    NotWritten,
}

impl ExpectResult {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Differs => "differs",
            Self::Written => "written",
            Self::NotWritten => "not_written",
        }
    }
}

impl ExpectedOutput {
    /// Reads the file, unless it is to be written.
    pub(super) fn new(path: &Path, update: bool) -> Result<Self, Failure> {
        if update {
            return Ok(Self { path: path.into(), expected: None });
        }
        let expected = match fs::read(path) {
            Ok(expected) => Some(expected),
            Err(error) => {
                let is_missing = error.kind() == io::ErrorKind::NotFound;
                let hint = if is_missing { " (--update writes the output of the program)" } else { "" };
                let what = format!("cannot read the expected output {}{hint}", shown(path));
                return Err(error).or_fail(exit::ENVIRONMENT, what);
            }
        };
        Ok(Self { path: path.into(), expected })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Compares the output with the expected one and prints the difference, or writes the output to
    /// the file. With `is_void`, the run is no test, and the file is not written.
    pub(super) fn check(&self, output: &[u8], is_void: bool) -> Result<ExpectResult, Failure> {
        let name = shown(&self.path);
        let Some(expected) = &self.expected else {
            if is_void {
                terminal::eprintln(format_args!("pmon: did not write {name}, because of the problems above"));
                return Ok(ExpectResult::NotWritten);
            }
            write(&self.path, output).or_fail(exit::STORAGE, format_args!("cannot write {name}"))?;
            terminal::eprintln(format_args!("pmon: wrote {name}"));
            return Ok(ExpectResult::Written);
        };
        if output == expected {
            return Ok(ExpectResult::Matched);
        }
        let (expected, output) = (String::from_utf8_lossy(expected), String::from_utf8_lossy(output));
        let diff = TextDiff::from_lines(&*expected, &*output);
        let difference =
            diff.unified_diff().context_radius(CONTEXT_LINES).header(&name, "the output").to_string();
        for line in difference.lines().take(MAX_LINES) {
            let cut: String = line.chars().take(MAX_COLUMNS).collect();
            let dots = if cut.len() < line.len() { "..." } else { "" };
            terminal::eprintln(format_args!("{}{dots}", harmless(&cut)));
        }
        if difference.lines().nth(MAX_LINES).is_some() {
            terminal::eprintln("... and more");
        }
        terminal::eprintln(format_args!("pmon: the output differs from {name}; --update accepts it"));
        Ok(ExpectResult::Differs)
    }
}

/// Replaces the contents of a regular file, or creates it. A FIFO is opened without waiting.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_data()
}
