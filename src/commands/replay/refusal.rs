//! Explains why a program cannot be run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use pmon_fake::Errno;
use pmon_interpose::InterposeError;

use crate::child::{CANNOT_RUN, NOT_FOUND};
use crate::exit::{self, Failure};
use crate::output::shell_word;

/// Returns the failure of a program that could not be started or supervised.
pub(super) fn refused(program: &OsStr, error: InterposeError) -> Failure {
    match error {
        InterposeError::Exec(errno) => {
            let code = if errno == Errno::NOENT { NOT_FOUND } else { CANNOT_RUN };
            let name = shell_word(program.as_encoded_bytes());
            Failure::new(code, format_args!("cannot run {name}: {}", why_not_run(program, errno)))
        }
        error @ (InterposeError::Tmpfs { .. } | InterposeError::NoClocks) => Failure::new(exit::USAGE, error),
        // Another option makes these runs possible, which the error names.
        error @ (InterposeError::NativeSockets(_)
        | InterposeError::LongDatagram { .. }
        | InterposeError::Clock(_)) => Failure::new(exit::ENVIRONMENT, error),
        error => Failure::new(
            exit::ENVIRONMENT,
            format_args!(
                "{error}. A program that reads from a given socket does not need this: use pmon replay --socket PATH"
            ),
        ),
    }
}

/// Explains why a program could not be executed.
fn why_not_run(program: &OsStr, errno: Errno) -> String {
    let path = Path::new(program);
    // Otherwise the program was searched in PATH.
    let is_path = program.as_encoded_bytes().contains(&b'/');
    let file = fs::metadata(path).ok();
    let is_file = file.as_ref().is_some_and(fs::Metadata::is_file);
    let is_executable = file.as_ref().is_some_and(|file| file.permissions().mode() & 0o111 != 0);
    match errno {
        Errno::NOENT if is_path && is_file => "its interpreter or dynamic loader was not found".into(),
        // A directory of PATH may be inaccessible.
        Errno::NOENT | Errno::ACCESS if is_file && !is_path => {
            "not found in PATH; write ./ before a file of this directory".into()
        }
        Errno::NOENT => "not found".into(),
        _ if is_path && path.is_dir() => "it is a directory".into(),
        Errno::ACCESS if is_file && !is_executable => {
            "it is not executable; use chmod +x, or name its interpreter".into()
        }
        errno => errno.to_string(),
    }
}
