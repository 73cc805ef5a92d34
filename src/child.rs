//! The command that is recorded.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{self, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;
use crate::render::shell_words;

/// Exit codes of a command that could not be started, as shells have them.
pub(crate) const CANNOT_RUN: u8 = 126;
/// The same if there is none.
pub(crate) const NOT_FOUND: u8 = 127;

/// A command under way.
pub(crate) struct Child {
    child: process::Child,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts it, on the terminal and in the place of pmon itself.
    pub(crate) fn start(command: &[OsString]) -> Result<Option<Self>, Failure> {
        let [program, arguments @ ..] = command else { return Ok(None) };
        match Command::new(program).args(arguments).spawn() {
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
