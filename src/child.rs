//! The process of the command that is recorded.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus};

use pmon_record::startup;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;
use crate::output::shell_word;

/// Exit code if the command exists but cannot be run, as in shells.
pub(crate) const CANNOT_RUN: u8 = 126;
/// Exit code if the command does not exist, as in shells.
pub(crate) const NOT_FOUND: u8 = 127;

/// A started command.
pub(crate) struct CommandProcess {
    child: process::Child,
    status: Option<ExitStatus>,
}

impl CommandProcess {
    /// Starts the command with the signal dispositions that pmon itself was started with. Returns
    /// `None` if there is no command.
    pub(crate) fn start(command: &[OsString]) -> Result<Option<Self>, Failure> {
        let [program, arguments @ ..] = command else { return Ok(None) };
        let started = match startup::spawn(program, arguments) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOEXEC) => match script(program) {
                // Like execvp(3): /bin/sh runs a script whose first line names no interpreter.
                Some(path) => {
                    let arguments = [&[path.into_os_string()], arguments].concat();
                    startup::spawn("/bin/sh".as_ref(), &arguments)
                }
                None => Err(error),
            },
            started => started,
        };
        match started {
            Ok(child) => Ok(Some(Self { child, status: None })),
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
                let name = shell_word(program.as_encoded_bytes());
                Err(Failure::new(code, format_args!("cannot run {name}: {error}; nothing was recorded")))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the command has ended.
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_some())
    }

    /// Sends SIGTERM to the command, unless it has ended.
    pub(crate) fn terminate(&self) {
        if self.status.is_none() {
            // The process id cannot be reused before the process has been waited for.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    /// Returns the exit code that passes on the status of the command, if it has ended.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        let status = self.status?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Some(code.unwrap_or_default() as u8)
    }
}

/// Returns the path of a program that the kernel cannot run, if it looks like a script: its first
/// line has no zero byte.
fn script(program: &OsStr) -> Option<PathBuf> {
    const MAX_FIRST_LINE: u64 = 128;
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let path = if program.as_encoded_bytes().contains(&b'/') {
        program.into()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path).map(|folder| Path::new(&folder).join(program)).find(is_program)?
    };
    let mut start = Vec::new();
    File::open(&path).ok()?.take(MAX_FIRST_LINE).read_to_end(&mut start).ok()?;
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    // The shell would parse a path that begins with a minus as an option.
    let path = if path.is_absolute() { path } else { Path::new(".").join(path) };
    (!line.contains(&0)).then_some(path)
}
