//! A stand-in for the kernel's proc connector, for tests without root, without a kernel and without luck.
//!
//! [`Kernel`] is a model of it: processes that do things, numbers, listeners, and [`Socket`]s with their buffers, congestion and errors,
//! as Linux 6.18 has them; `cargo run --example differential` shows the two side by side. [`Script`] makes things go wrong.
//! [`FakeSource`] only delivers the datagrams and the overruns that it was given, in their order.
//!
//! It knows nothing of capture files.
#![forbid(unsafe_code)]

mod connector;
mod faults;
mod kernel;
mod pids;
mod process;
mod request;
mod script;
mod sock;
mod socket;
mod source;

pub use kernel::{Feed, Kernel};
pub use process::Process;
pub use rustix::io::Errno;
pub use rustix::net::RecvFlags;
pub use script::{Amount, Fault, Place, Rule, Script, ScriptError};
pub use sock::{Datagram, MemInfo};
pub use socket::{Readiness, Socket};
pub use source::FakeSource;
