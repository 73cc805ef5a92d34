//! Replaces this process's program by the file that is now at the path it was started from, with
//! the same process id, arguments and descriptors.

use std::env;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};

use super::{Descriptors, inherit, sys};
use crate::{Signals, startup};

/// The program of this process, as it was started.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Returns this process's program. Call this function at the start: the path of a file that is
    /// renamed later is that of the old program.
    ///
    /// # Errors
    /// When `/proc/self/exe` cannot be read.
    pub fn current() -> io::Result<Self> {
        Ok(Self { path: without_deleted(env::current_exe()?), arguments: env::args_os().collect() })
    }

    /// Returns the path of the program's file.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Replaces this process's program, and passes the descriptors on. Returns `Ok` if a signal has
    /// arrived that ends the recorder: the next program would not receive it.
    ///
    /// All threads end at once, so the recording must have ended. Signals that arrive later are
    /// delivered to the next program.
    ///
    /// # Errors
    /// When the program cannot be run. Nothing has changed then, and the caller can continue with
    /// the same descriptors.
    pub fn exec(&self, descriptors: &Descriptors, signals: &mut Signals) -> io::Result<()> {
        let path = CString::new(self.path.clone().into_os_string().into_vec())?;
        let arguments: Vec<_> = self
            .arguments
            .iter()
            .map(|argument| CString::new(argument.clone().into_vec()))
            .collect::<Result<_, _>>()?;
        let mut variables = env::vars_os().filter(|(name, _)| name != inherit::HANDOVER).collect::<Vec<_>>();
        variables.push((inherit::HANDOVER.into(), handover(descriptors).into()));
        let variable = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec())
        };
        let variables: Vec<_> = variables.into_iter().map(variable).collect::<Result<_, _>>()?;
        let set_flags = |flags| {
            let mut all = descriptors.named();
            all.try_for_each(|(_, fd)| fcntl_setfd(fd, flags))
        };
        let result = match set_flags(FdFlags::empty()) {
            Ok(()) => startup::with_control_signals_blocked(|| match signals.is_ending() {
                true => Ok(()),
                false => sys::execute(&path, &arguments, &variables),
            }),
            Err(error) => Err(error.into()),
        };
        // Programs that this process starts later must not inherit the descriptors.
        let _ = set_flags(FdFlags::CLOEXEC);
        result
    }
}

/// Returns the value of `PMON_HANDOVER` for the next program.
fn handover(descriptors: &Descriptors) -> String {
    use std::os::fd::AsRawFd as _;
    let named = descriptors.named().map(|(name, fd)| format!(" {name}={}", fd.as_raw_fd()));
    std::iter::once(std::process::id().to_string()).chain(named).collect()
}

/// Returns the path of an executable without the mark that the kernel appends once its file has
/// been removed or replaced.
fn without_deleted(path: PathBuf) -> PathBuf {
    let text = path.as_os_str().as_encoded_bytes();
    match text.strip_suffix(b" (deleted)") {
        Some(original) if !path.exists() => OsString::from_vec(original.to_vec()).into(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_replaced_file_is_that_of_its_replacement() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pmon");
        let marked = directory.path().join("pmon (deleted)");
        assert_eq!(without_deleted(marked.clone()), path);
        std::fs::write(&marked, "").unwrap();
        assert_eq!(without_deleted(marked.clone()), marked);
        assert_eq!(without_deleted(path.clone()), path);
    }
}
