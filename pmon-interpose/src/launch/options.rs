//! The options of a launch.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::launch::socket_kind::{FallbackReason, SocketRequest};

/// A program to run on the fake kernel.
#[derive(Debug)]
#[non_exhaustive]
pub struct LaunchOptions {
    /// The program's path, or a name that is searched in `PATH`.
    pub program: OsString,
    /// The program's arguments, without its name.
    pub args: Vec<OsString>,
    /// The user id that the program sees as its own.
    pub uid: u32,
    /// Whether the program's `/proc` shows the fake kernel's processes instead of this system's.
    pub private_proc: bool,
    /// Existing directories, by their absolute paths, that are private and empty for the program: a
    /// tmpfs of at most 64 MiB is mounted on each. Their contents vanish when the program ends.
    pub tmpfs: Vec<PathBuf>,
    /// The clocks that the program reads.
    pub clock: ClockSource,
    /// The program's standard output; by default that of this process.
    pub stdout: Option<OwnedFd>,
    /// The program's initial signal dispositions and mask.
    pub signals: SignalDispositions,
    /// The requested kind of the program's proc connector sockets.
    pub sockets: SocketRequest,
    /// A property of the run that rules out native sockets: a fault script that interrupts calls,
    /// or [`EndPolicy::Eof`](crate::EndPolicy::Eof).
    pub native_obstacle: Option<FallbackReason>,
}

/// The clocks that a program reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockSource {
    /// This system's.
    #[default]
    System,
    /// Those of the world, as of the event that the program received last:
    /// [`ProcessView::clocks`](crate::ProcessView::clocks).
    World,
}

/// The signals that are ignored or blocked at the start of a program.
///
/// Bit *n* - 1 stands for signal *n*, as in `/proc/PID/status`. By default, every signal has its
/// default disposition and is unblocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalDispositions {
    /// Mask of ignored signals.
    pub ignored: u64,
    /// Mask of blocked signals.
    pub blocked: u64,
}

impl LaunchOptions {
    /// Returns options for a program that sees itself as root and has a private `/proc`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            uid: 0,
            private_proc: true,
            tmpfs: Vec::new(),
            clock: ClockSource::default(),
            stdout: None,
            signals: SignalDispositions::default(),
            sockets: SocketRequest::default(),
            native_obstacle: None,
        }
    }
}
