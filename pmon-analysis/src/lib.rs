//! Offline analysis of captures: what the records show about processes, and how complete they are.
//! This crate never reads the live `/proc`.
//!
//! Every analysis takes the records one at a time, in capture order, with bounded memory for
//! captures of any length.
//!
//! * [`timeline`] joins the details of each exec to the exec event.
//! * [`process`] tracks the processes as of the current record.
//! * [`filter`] selects the events to show.
//! * [`stats`] counts events, and [`verify`] checks a capture for completeness.
//! * [`diff`] compares two captures.
//! * [`wall_clock`] and [`wait_status`] convert numbers for display.
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
pub use timeline::{DetailsJoiner, OwnedRecord, TimelineItem};
pub use verify::{Verdict, Verifier, VerifyReport};
pub use wait_status::WaitStatus;
pub use wall_clock::WallClock;
