//! Runs an unmodified program on the fake kernel of [`pmon_fake`], without root.
//!
//! The program may be written in any language and may be linked statically. [`Supervisor`] supervises it: system calls on proc connector
//! sockets are intercepted with `seccomp_unotify(2)` and answered from the [`Kernel`](pmon_fake::Kernel) of a [`ReplayWorld`]; all other calls run
//! at full speed. The program runs in a mount namespace of its own, whose `/proc` shows the processes of that world.
#![deny(unsafe_code)]

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

pub use error::{InterposeError, SetupStep};
pub use launch::options::{LaunchOptions, SignalDispositions};
pub use rustix::process::Signal;
pub use supervisor::run::{EndPolicy, RunOptions, RunReport};
pub use supervisor::{ServeError, Served, Supervisor};
pub use world::{NextEvent, ProcEntry, ProcessView, ReplayWorld, TaskInfo};
