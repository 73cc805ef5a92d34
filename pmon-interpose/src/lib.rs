//! Runs an unmodified program on the fake kernel of [`pmon_fake`], without root.
//!
//! The program, the _tracee_, may be written in any language and may be linked statically. A
//! [`Supervisor`] intercepts its system calls on proc connector sockets with `seccomp_unotify(2)`
//! and answers them from the [`Kernel`](pmon_fake::Kernel) of a [`ReplayWorld`]; all other calls
//! run at full speed. The tracee runs in a mount namespace of its own, whose `/proc` shows the
//! processes of that world.
//!
//! `docs/programs.md` lists the emulated calls and their limits.
#![deny(unsafe_code)]

mod clock;
mod error;
mod launch;
mod processes;
mod procfs;
mod seccomp;
mod sockets;
mod supervisor;
#[allow(unsafe_code, reason = "these system calls have no safe wrapper")]
mod sys;
mod tracee;
mod world;

pub use error::{InterposeError, ServeError, SetupStep};
pub use launch::options::{ClockSource, LaunchOptions, SignalDispositions};
pub use launch::socket_kind::{FallbackReason, SocketKind, SocketRequest};
pub use launch::tmpfs::TmpfsError;
pub use rustix::process::Signal;
pub use sockets::usage::{SocketSummary, SocketUsage};
pub use supervisor::end_sequence::{EndPolicy, RunOptions};
pub use supervisor::run::RunReport;
pub use supervisor::{Served, Supervisor};
pub use world::{ClockTimes, NextEvent, ProcEntry, ProcEntryKind, ProcessView, ReplayWorld, TaskInfo};
