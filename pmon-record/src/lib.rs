//! Takes process events from the live kernel of a Linux host into a capture.
//!
//! In the order in which data flows:
//!
//! * [`Subscription`]: the socket, with a ring in front of it where that can be, bound and acknowledged, or a
//!   [`SubscribeError`] that names the cause;
//! * the *drain* thread: datagrams from the socket into preallocated chunks; it does nothing else;
//! * the *pulse* thread: causes events of its own, so that what is lost shows even in silence: fences and heartbeats; reads the kernel's
//!   count of forks; subscribes again when the kernel emits no events any more;
//! * the *details* thread: `/proc/<pid>` after each exec of which the ring did not tell; the *snapshot* thread: all of `/proc`, at the start and after
//!   losses;
//! * the *writer* thread: [`assemble`] puts all of it in order and into a [`Sink`];
//! * [`CaptureFile`]: the sink that is a file.
//!
//! [`Recording`] holds the threads; [`Signals`] is what the controlling thread waits on meanwhile.
//!
//! What is `unsafe` is in `sys.rs`. Nothing here prints, exits, or parses what `pmon-core` can.
#![deny(unsafe_code)]

pub mod assemble;
mod cgroups;
mod chunk;
mod clock;
#[cfg(test)]
mod conformance;
mod cpus;
mod details;
mod drain;
mod feed;
mod fence;
mod forks;
mod host;
pub mod intake;
mod liveness;
mod merge;
mod namespaces;
mod netlink;
mod options;
mod pending;
mod procfs;
mod pulse;
mod recording;
mod redact;
mod resubscribe;
mod ring;
mod scope;
mod sign;
mod signals;
mod sink;
mod snapshot;
pub mod startup;
mod stat;
mod store;
mod subscribe;
mod symbols;
#[allow(unsafe_code, reason = "some system calls have no safe wrapper")]
mod sys;
mod writer;

pub use cgroups::CgroupError;
pub use chunk::{Chunk, Dropped};
pub use options::{Options, Transport};
pub use recording::{Counters, RecordError, Recording, Stopper};
pub use redact::{Redact, RedactError};
pub use ring::MOST_RING;
pub use scope::{MAX_UIDS, Scope, ScopeError, Tree};
pub use signals::{Signals, Wake, Wakeup};
pub use sink::{Sink, SinkError};
pub use store::{CaptureFile, StoreError, Target};
pub use subscribe::{SubscribeError, Subscription};
