//! A stand-in for the kernel's proc connector, for tests without root, without a kernel and without luck.
//!
//! [`Kernel`] is a model of it: processes that do things, numbers, listeners, and [`Socket`]s with their buffers, congestion and errors,
//! as Linux 6.18 has them; `cargo run -p pmon-testkit --bin differential` shows the two side by side. [`FaultScript`] makes things go wrong.
//! For a program that wants a file descriptor, a [`FdSocket`] has one, and [`FdSource`] reads it.
//! [`FakeSource`] only delivers the datagrams and the overruns that it was given, in their order.
//!
//! It knows nothing of capture files.
#![forbid(unsafe_code)]

mod fake_source;
mod faults;
mod fd_socket;
mod kernel;
mod netlink;

pub use fake_source::FakeSource;
pub use faults::script::{Amount, Fault, FaultRule, FaultScript, FaultScriptError, Trigger};
pub use fd_socket::{FdSocket, FdSource, OverrunSignal, PumpBlockedOn, PumpResult, PumpThread};
pub use kernel::{EventFeed, FakeProcess, Kernel};
#[doc(hidden)]
pub use netlink::filter::ClassicFilter;
pub use netlink::filter::SockFilter;
pub use netlink::receive_queue::{MemInfo, QueuedDatagram, ReceivedDatagram};
pub use netlink::socket::{Readiness, Socket};
pub use rustix::io::Errno;
pub use rustix::net::RecvFlags;
