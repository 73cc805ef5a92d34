//! Copies standard input to a file, for questions that read a recording twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, stdin};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use crate::args::QuerySourceArgs;
use crate::captures::refuse_terminal;
use crate::exit::{self, Failure, OrFail as _};
use crate::input::is_stdio;

/// The recording of a question, which can be read several times.
pub(crate) struct RereadableSource {
    pub(crate) args: QuerySourceArgs,
    /// The copy, which has no name any more.
    _copy: Option<File>,
}

impl RereadableSource {
    /// Returns the recording. Standard input is copied to a temporary file, which is deleted when
    /// the process ends, however it ends.
    pub(crate) fn new(args: &QuerySourceArgs) -> Result<Self, Failure> {
        let mut args = args.clone();
        if !is_stdio(&args.file) {
            return Ok(Self { args, _copy: None });
        }
        refuse_terminal()?;
        let copy =
            copy_stdin().or_fail(exit::ENVIRONMENT, "cannot copy standard input to a temporary file")?;
        args.file = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        Ok(Self { args, _copy: Some(copy) })
    }
}

/// Returns whether a path is that of a copy of standard input.
pub(crate) fn is_stdin_copy(path: &Path) -> bool {
    path.starts_with("/proc/self/fd")
}

fn copy_stdin() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("pmon-{}", process::id()));
    let mut copy = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    io::copy(&mut stdin().lock(), &mut copy)?;
    Ok(copy)
}
