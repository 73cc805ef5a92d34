//! A stand-in for the kernel's proc connector, for tests without root, without a kernel and without luck.
//!
//! [`Kernel`] is a model of it: processes that do things, numbers, listeners, and [`Socket`]s with their buffers, congestion and errors,
//! as Linux 6.18 has them; `cargo run --example differential` shows the two side by side. [`Script`] makes things go wrong.
//! For a program that wants a file descriptor, a [`Wire`] has one, and [`FdSource`] reads it.
//! [`FakeSource`] only delivers the datagrams and the overruns that it was given, in their order.
//!
//! It knows nothing of capture files.
#![deny(unsafe_code)]

mod bell;
mod connector;
mod faults;
mod fd_source;
mod filter;
pub mod host;
mod kernel;
mod member;
mod multicast;
mod numbers;
mod pids;
mod process;
mod request;
mod script;
mod serve;
mod sock;
mod socket;
mod source;
mod trouble;
mod wire;

pub use fd_source::FdSource;
pub use filter::SockFilter;
pub use kernel::{Feed, Kernel};
pub use process::Process;
pub use rustix::io::Errno;
pub use rustix::net::RecvFlags;
pub use script::{Amount, Fault, Place, Rule, Script, ScriptError};
pub use serve::Serving;
pub use sock::{Datagram, MemInfo};
pub use socket::{Readiness, Socket};
pub use source::FakeSource;
pub use wire::{Awaits, Overruns, Pumped, Wire};
