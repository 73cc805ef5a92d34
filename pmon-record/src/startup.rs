//! The signal dispositions and standard files that this program was started with, which it passes
//! on to the programs that it starts.
//!
//! A parent may leave signals blocked or ignored: `nohup(1)`, `trap ''` and `&` of a shell, a
//! supervisor that blocks signals in all its threads. The recorder always handles the signals that
//! control it. The recorded command gets the dispositions and the mask that the recorder got.

#[allow(
    unsafe_code,
    reason = "signal masks, dispositions, and what runs in a new process before its program have no safe wrapper"
)]
mod sys;

mod program;

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Child, Command};
use std::sync::atomic::Ordering::Relaxed;

use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ,
};

pub(crate) use sys::unblock;

/// Signals that control any recorder, in addition to `SIGHUP` unless it was ignored (`nohup(1)`).
pub(crate) const CONTROL_SIGNALS: [i32; 4] = [SIGINT, SIGTERM, SIGCHLD, SIGUSR1];

/// Signals that end a program without a handler. A program that blocks them can only be killed.
const TERMINATING_SIGNALS: [i32; 5] = [SIGHUP, SIGINT, SIGQUIT, SIGALRM, SIGTERM];

/// Signals as this program was started with them. Bit *n* - 1 is signal *n*, as in
/// `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartSignals {
    /// Signals that were ignored.
    pub ignored: u64,
    /// Signals that were blocked.
    pub blocked: u64,
}

/// Returns the signals as this program was started with them, before Rust's runtime and this crate
/// changed any.
pub fn signals() -> StartSignals {
    StartSignals { ignored: sys::IGNORED.load(Relaxed), blocked: sys::BLOCKED.load(Relaxed) }
}

/// Whether standard output was closed (`>&-`). Rust's runtime then opens `/dev/null`, where every
/// write succeeds.
pub fn is_stdout_closed() -> bool {
    sys::CLOSED.load(Relaxed) & 1 << 1 != 0
}

/// Unblocks the signals that end a program, in this thread and those that it starts, and makes a
/// write beyond the limit on file sizes (`ulimit -f`) fail instead of ending the program.
///
/// Call this function before any other thread is started.
///
/// # Errors
/// When `SIGXFSZ` cannot be handled.
pub fn prepare() -> io::Result<()> {
    unblock(&TERMINATING_SIGNALS);
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
    Ok(())
}

/// Starts a program with the dispositions and the mask of signals that this program was started
/// with. A program without a slash in its name is searched in `PATH`.
///
/// # Errors
/// As [`Command::spawn`]. A file that the kernel cannot run is an error (`ENOEXEC`), as for
/// `posix_spawnp(3)`; `execvp(3)` would run it by a shell.
pub fn spawn(program: &OsStr, arguments: &[OsString]) -> io::Result<Child> {
    let command = &mut Command::new(program);
    command.args(arguments);
    let start = signals();
    let handled = [SIGPIPE, SIGXFSZ, SIGUSR2].into_iter().chain(CONTROL_SIGNALS);
    if handled.fold(0, |mask, signal| mask | bit(signal)) & start.ignored == 0 {
        // An exec resets handled signals to their default, and `Command` resets SIGPIPE.
        return sys::with_mask(start.blocked, || command.spawn());
    }
    // A `pre_exec` hook copies this process first, so it is used only where necessary.
    sys::restore_in(command, start, program::Program::new(program, arguments)?);
    // No signal may be delivered to the copy, which still has this program's handlers.
    sys::with_mask(u64::MAX, || command.spawn())
}

/// Runs `body`, which replaces this process's program. The signals that control a recorder are
/// blocked meanwhile: they are delivered to the handlers of the next program, or after `body`.
pub(crate) fn with_control_signals_blocked<T>(body: impl FnOnce() -> T) -> T {
    let control = TERMINATING_SIGNALS.into_iter().chain(CONTROL_SIGNALS).chain([SIGUSR2]);
    sys::with_mask(control.fold(signals().blocked, |mask, signal| mask | bit(signal)), body)
}

/// Whether this program was started with a signal ignored.
pub(crate) fn is_ignored(signal: i32) -> bool {
    signals().ignored & bit(signal) != 0
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}
