//! What a capture says about processes, worked out offline: this crate never looks at the live `/proc`.
//!
//! Records go in, in the order of the capture, one at a time; memory stays bounded however long the capture is.
//!
//! * [`timeline`] gives each exec the details that stand further behind;
//! * [`process`] knows the processes as of the record at hand;
//! * [`filter`] says which events somebody wants to see;
//! * [`stats`] counts, and [`verify`] says how complete it all is;
//! * [`diff`] says whether two captures hold the same;
//! * [`wall_clock`] and [`wait_status`] turn numbers into what people read.
#![forbid(unsafe_code)]

pub mod diff;
pub mod filter;
pub mod process;
pub mod stats;
pub mod timeline;
pub mod verify;
pub mod wait_status;
pub mod wall_clock;

pub use diff::Diff;
pub use filter::{Filter, TimeBound};
pub use process::{LiveProcess, Process, ProcessExit, ProcessTable, RunState, Thread};
pub use stats::Statistics;
pub use timeline::{DetailsJoiner, OwnedRecord, TimelineItem, size_of_record};
pub use verify::{Verdict, Verifier, VerifyReport};
pub use wait_status::WaitStatus;
pub use wall_clock::WallClock;
