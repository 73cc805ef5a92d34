//! A program that is none of ours, on the fake kernel: C, Go, Python, whatever it was written in, linked statically or not, without root.
//!
//! Its system calls on proc connector sockets are handed to this process (`seccomp_unotify(2)`), which answers them from the [`Kernel`](crate::Kernel)
//! of a [`World`]; all others run at full speed. In a mount namespace of its own, its `/proc` shows the processes of that world.

mod calls;
mod error;
mod guest;
mod held;
mod ids;
mod launch;
mod listing;
mod loose;
mod options;
mod paths;
mod pidfds;
mod places;
mod poll;
mod program;
mod receive;
mod reserved;
mod respond;
mod run;
mod send;
mod sockopt;
mod stat;
#[allow(unsafe_code, reason = "these system calls have no safe wrapper")]
mod sys;
mod tree;
mod wait;
mod world;

pub use error::{HostError, Step};
pub use options::{Launch, StartSignals};
pub use program::{Program, ServeError, Served};
pub use run::{AtEnd, Conduct, Ending};
pub use rustix::process::Signal;
pub use world::{Next, Node, Procs, TaskFacts, World};
