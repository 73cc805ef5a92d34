//! A program with its arguments, as the system call needs them.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// The directories that are searched if there is no `PATH`, as in the C library.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program with its arguments.
pub(super) struct Program {
    /// The files that it can be, in the order of `PATH`.
    pub(super) files: Vec<CString>,
    /// The name and the arguments.
    pub(super) arguments: Vec<CString>,
}

impl Program {
    /// Returns the program of this name, which is searched in `PATH` unless it has a slash.
    ///
    /// # Errors
    /// When the name or an argument has a zero byte.
    pub(super) fn new(name: &OsStr, arguments: &[OsString]) -> io::Result<Self> {
        Self::in_path(name, arguments, std::env::var_os("PATH"))
    }

    fn in_path(name: &OsStr, arguments: &[OsString], path: Option<OsString>) -> io::Result<Self> {
        let files = if name.as_bytes().contains(&b'/') {
            vec![c_string(name)?]
        } else {
            let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
            let folders = std::env::split_paths(&path).filter(|_| !name.is_empty());
            // An empty entry is the working directory.
            let file =
                |folder: std::path::PathBuf| c_string(Path::new(".").join(folder).join(name).as_os_str());
            folders.map(file).collect::<io::Result<_>>()?
        };
        let arguments = std::iter::once(name).chain(arguments.iter().map(OsString::as_os_str));
        Ok(Self { files, arguments: arguments.map(c_string).collect::<io::Result<_>>()? })
    }

    /// Calls `exec` with each file until one is executed. Returns the error of the program. This
    /// function allocates nothing.
    pub(super) fn exec(&self, exec: impl Fn(&CStr) -> io::Error) -> io::Error {
        let mut denied = None;
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for file in &self.files {
            let error = exec(file);
            match error.raw_os_error() {
                Some(libc::EACCES) => denied = Some(error),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT) => {
                    last = error;
                }
                _ => return error,
            }
        }
        denied.unwrap_or(last)
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.to_owned().into_vec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str, path: Option<&str>) -> Vec<String> {
        let program = Program::in_path(name.as_ref(), &["x".into()], path.map(Into::into)).unwrap();
        assert_eq!(program.arguments.len(), 2);
        program.files.into_iter().map(|file| file.into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_without_a_slash_is_searched_in_the_path() {
        assert_eq!(files("ls", Some("/a:/b/")), ["/a/ls", "/b/ls"]);
        assert_eq!(files("ls", Some("bin:")), ["./bin/ls", "./ls"]);
        assert_eq!(files("ls", None), ["/bin/ls", "/usr/bin/ls"]);
        assert_eq!(files("./ls", Some("/a")), ["./ls"]);
        assert_eq!(files("", Some("/a")), [""; 0]);
    }

    #[test]
    fn the_search_ends_at_the_first_file_that_exists() {
        let error = |program: &Program, errno: fn(&[u8]) -> i32| {
            program.exec(|file| io::Error::from_raw_os_error(errno(file.to_bytes()))).raw_os_error().unwrap()
        };
        let program = Program::in_path("p".as_ref(), &[], Some("/a:/b:/c".into())).unwrap();
        assert_eq!(error(&program, |_| libc::ENOENT), libc::ENOENT);
        let denied = |file: &[u8]| if file == b"/a/p" { libc::EACCES } else { libc::ENOENT };
        assert_eq!(error(&program, denied), libc::EACCES);
        let broken = |file: &[u8]| if file == b"/b/p" { libc::ENOEXEC } else { libc::EACCES };
        assert_eq!(error(&program, broken), libc::ENOEXEC);
    }
}
