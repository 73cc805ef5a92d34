//! What this program was started with, and what a program that it starts gets: blocked and ignored signals, standard files.
//!
//! A parent may leave signals blocked or ignored: `nohup(1)`, `trap ''` and `&` of a shell, a supervisor that blocks signals in all its
//! threads. The recorder takes the signals that control it in any case. The command that is recorded is none of its business: it gets the
//! dispositions and the mask that the recorder got.

#[allow(
    unsafe_code,
    reason = "signal masks, dispositions, and what runs in a new process before its program have no safe wrapper"
)]
mod sys;

use std::io;
use std::process::{Child, Command};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGXFSZ};

/// Signals that end a program that has no handler. A program that somebody can only kill serves nobody.
const ENDING: [i32; 5] = [SIGHUP, SIGINT, SIGQUIT, SIGALRM, SIGTERM];

/// Signals as this program was started with them. Bit *n* - 1 is signal *n*, as in `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartSignals {
    /// Signals that were ignored.
    pub ignored: u64,
    /// Signals that were blocked.
    pub blocked: u64,
}

/// The signals as this program was started with them, before Rust's runtime and this crate changed any.
pub fn signals() -> StartSignals {
    StartSignals { ignored: sys::ignored(), blocked: sys::blocked() }
}

/// Whether standard output was closed (`>&-`). Rust's runtime opens `/dev/null` in its place, where every write succeeds.
pub fn is_stdout_closed() -> bool {
    sys::is_closed(1)
}

/// Makes this thread, and those that it starts, receive the signals that end a program, and lets a write beyond the limit on file sizes
/// (`ulimit -f`) fail instead of ending the program. To be called before any other thread is started.
///
/// # Errors
/// When `SIGXFSZ` cannot be taken.
pub fn prepare() -> io::Result<()> {
    sys::unblock(&ENDING);
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
    Ok(())
}

/// Unblocks signals in this thread, and in those that it starts.
pub(crate) fn unblock(signals: &[i32]) {
    sys::unblock(signals);
}

/// Starts a program with the dispositions and the mask of signals that this program was started with.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let StartSignals { ignored, blocked } = signals();
    let taken = [SIGPIPE, SIGXFSZ].into_iter().chain(crate::signals::TAKEN);
    if taken.fold(0, |mask, signal| mask | bit(signal)) & ignored == 0 {
        // What has a handler here gets its default disposition with the new program, and `Command` has SIGPIPE do what it does by default.
        return sys::with_mask(blocked, || command.spawn());
    }
    // This makes a copy of this process first, so it is done only where it must be.
    sys::restore_in(command);
    // Nothing may be delivered to the copy, which still has this program's handlers.
    sys::with_mask(u64::MAX, || command.spawn())
}

/// Whether this program was started with a signal ignored.
pub(crate) fn is_ignored(signal: i32) -> bool {
    sys::ignored() & bit(signal) != 0
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}
