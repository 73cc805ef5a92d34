//! A model of the kernel's proc connector, for deterministic tests without root.
//!
//! [`Kernel`] models processes, per-CPU sequence numbers, listeners, and [`Socket`]s with their
//! buffers, congestion and errors, as Linux 6.18 has them; `cargo run -p pmon-testkit --bin
//! differential` compares the model with the running kernel. A [`FaultScript`] injects losses,
//! interrupted calls and malformed datagrams. [`FdSocket`] gives a program under test a file
//! descriptor, which [`FdSource`] reads, or, with the feature `tokio`, `AsyncFdSocket`.
//! [`FakeSource`] delivers the datagrams that a test queues, without a kernel.
//!
//! `docs/fake-kernel.md` lists what is modelled and what differs from Linux. This crate does
//! not depend on capture files.
#![deny(unsafe_code)]

mod fake_source;
mod faults;
mod fd_socket;
mod kernel;
pub mod native_socket;
mod netlink;

pub use fake_source::FakeSource;
pub use faults::amount::Amount;
pub use faults::place::{EventPlace, EventProcess};
pub use faults::script::{Fault, FaultCount, FaultRule, FaultScript, Trigger};
pub use faults::script_error::FaultScriptError;
#[cfg(feature = "tokio")]
pub use fd_socket::AsyncFdSocket;
pub use fd_socket::{
    FdSocket, FdSocketFamily, FdSource, OverrunSignal, PumpBlockedOn, PumpResult, PumpThread,
};
pub use kernel::{EventFeed, FakeProcess, Kernel};
#[doc(hidden)]
pub use netlink::filter::ClassicFilter;
pub use netlink::filter::SockFilter;
pub use netlink::receive_queue::{MemInfo, QueuedDatagram, ReceivedDatagram};
pub use netlink::socket::{Readiness, Socket};
pub use rustix::io::Errno;
pub use rustix::net::RecvFlags;
