//! What is to be run, and as whom.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

/// A program that is to be run on the fake kernel.
#[derive(Debug)]
#[non_exhaustive]
pub struct LaunchOptions {
    /// Its path, or its name, which is looked for in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// As which user it sees itself.
    pub uid: u32,
    /// Whether its `/proc` is that of the fake kernel's processes, and not this system's.
    pub private_proc: bool,
    /// Where its standard output goes, if not to this process's.
    pub stdout: Option<OwnedFd>,
    /// Signal dispositions and mask at the start of the program.
    pub signals: SignalDispositions,
}

/// Signals that are ignored or blocked at the start of a program.
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
    /// That program, as root, with a `/proc` of the fake kernel's.
    pub fn new(program: impl Into<OsString>) -> Self {
        let signals = SignalDispositions::default();
        Self { program: program.into(), args: Vec::new(), uid: 0, private_proc: true, stdout: None, signals }
    }
}
