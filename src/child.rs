//! The command that is recorded.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus};

use pmon_record::startup;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;
use crate::output::shell_words;

/// Exit codes of a command that could not be started, as shells have them.
pub(crate) const CANNOT_RUN: u8 = 126;
/// The same if there is none.
pub(crate) const NOT_FOUND: u8 = 127;

/// A command under way.
pub(crate) struct CommandProcess {
    child: process::Child,
    status: Option<ExitStatus>,
}

impl CommandProcess {
    /// Starts the command on pmon's terminal and in its directory, with the signals as pmon was
    /// started with them.
    pub(crate) fn start(command: &[OsString]) -> Result<Option<Self>, Failure> {
        let [program, arguments @ ..] = command else { return Ok(None) };
        let started = match startup::spawn(Command::new(program).args(arguments)) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOEXEC) => match script(program) {
                // As execvp(3): /bin/sh runs a script whose first line names no interpreter.
                Some(path) => startup::spawn(Command::new("/bin/sh").arg(path).args(arguments)),
                None => Err(error),
            },
            started => started,
        };
        match started {
            Ok(child) => Ok(Some(Self { child, status: None })),
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
                let name = shell_words([program.as_encoded_bytes()].into_iter());
                Err(Failure::new(code, format_args!("cannot run {name}: {error}; nothing was recorded")))
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_some())
    }

    /// Asks it to end, unless it has.
    pub(crate) fn terminate(&self) {
        if self.status.is_none() {
            // As long as it has not been waited for, the id is its own.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    /// The exit code that passes its status on, if it has ended.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        let status = self.status?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Some(code.unwrap_or_default() as u8)
    }
}

/// Returns the path of a program that the kernel cannot run, if it looks like a script: its first
/// line has no zero byte.
fn script(program: &OsStr) -> Option<PathBuf> {
    const LOOK: u64 = 128;
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
    File::open(&path).ok()?.take(LOOK).read_to_end(&mut start).ok()?;
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    // The shell would take a path that begins with a minus for an option.
    let path = if path.is_absolute() { path } else { Path::new(".").join(path) };
    (!line.contains(&0)).then_some(path)
}
