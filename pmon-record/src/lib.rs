//! Records process events of a live Linux machine into a capture.
//!
//! The modules, in the order of the data flow:
//!
//! * `transport`: [`Subscription`] is the acknowledged netlink socket, with a BPF ring if possible.
//! * `pipeline`: the *drain* thread receives datagrams into preallocated chunks, and does nothing
//!   else. The *writer* thread turns chunks into records with [`assemble`], and passes the records
//!   to a [`Sink`], such as a file of pmon-store.
//! * `liveness`: the *heartbeat* thread emits fences and heartbeats, which reveal losses even if no
//!   other events follow. It also reads the kernel's count of forks, and subscribes again if the
//!   kernel emits no events.
//! * `details`: the *details* thread reads `/proc/<pid>` after each exec without details from the
//!   ring. The *snapshot* thread scans `/proc` at the start and after losses.
//!
//! [`Recording`] owns the threads. The controlling thread waits on [`Signals`] meanwhile.
//!
//! [`handover`] passes the descriptors of a subscription on to the next recorder, which continues
//! without a gap.
//!
//! Unsafe code is in `sys.rs` files. This crate does not print or exit, and leaves parsing to
//! `pmon-core`.
#![deny(unsafe_code)]

mod clock;
#[cfg(test)]
mod conformance;
mod details;
pub mod handover;
mod liveness;
mod machine;
mod options;
mod pipeline;
mod recording;
mod scope;
mod signals;
mod sink;
pub mod startup;
mod status;
#[allow(unsafe_code, reason = "some system calls have no safe wrapper")]
mod sys;
mod thread;
mod transport;

pub use clock::monotonic_now;
pub use details::cgroups::CgroupError;
pub use details::redact::{Redact, RedactError};
pub use machine::random_uuid;
pub use options::{RecordOptions, TransportChoice};
pub use pipeline::chunk::{Chunk, Dropped};
pub use pipeline::{assemble, receive};
pub use recording::{RecordError, Recording, Stopper};
pub use scope::{MAX_UIDS, Scope, ScopeError, TreeScope};
pub use signals::{Signals, WakeHandle, WakeReason};
pub use sink::{Division, KeptRecords, Sink, SinkError};
pub use status::Counters;
pub use transport::ring::MAX_RING_BYTES;
pub use transport::select::RING_DETAILS;
pub use transport::subscribe::Subscription;
pub use transport::subscribe_error::SubscribeError;
